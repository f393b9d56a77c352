use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::*;

/// Names the folder that the body of a test works in, in the process that the test has started.
const CHILD: &str = "RELAY_TEST_STORE_FOLDER";

struct Home {
    folder: TempDir,
}

impl Home {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("site.db")
    }

    fn store(&self) -> SqliteStore {
        SqliteStore::create(&self.file()).unwrap()
    }

    /// What is told about the file as it is.
    fn refusal(&self) -> StoreError {
        match SqliteStore::open_waiting(&self.file(), Duration::from_millis(20)) {
            Ok(_) => panic!("it was opened"),
            Err(error) => error,
        }
    }

    fn sqlite(&self) -> Connection {
        Connection::open(self.file()).unwrap()
    }

    fn files(&self) -> Vec<OsString> {
        fs::read_dir(self.folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect()
    }
}

fn token(id: u128) -> BulkToken {
    BulkToken { id: Guid(id), issued: 1000, not_before: 1000, expires: 2000, blocked_since: None }
}

fn client(id: u128, registration: Registration) -> Client {
    let mut certificate = [7; 32];
    certificate[16..].copy_from_slice(&id.to_be_bytes());
    Client {
        id: Guid(id),
        certificate,
        registered: 1500,
        renewed: 1500,
        token_expires: 9000,
        registration,
        blocked_since: None,
    }
}

#[test]
fn what_was_remembered_is_there_when_the_store_is_opened_again() {
    let home = Home::new();
    let newer = BulkToken { issued: 1001, ..token(1) };
    let of_token = client(10, Registration::BulkToken(Guid(1)));
    let of_site = client(11, Registration::Intranet);
    {
        let mut store = home.store();
        store.add_bulk_token(&newer).unwrap();
        store.add_bulk_token(&token(u128::MAX)).unwrap();
        store.register(&of_token).unwrap();
        store.register(&of_site).unwrap();
        store.renew(Guid(11), 3000, 12_000).unwrap();
        store.block(Guid(1), 1800).unwrap();
    }
    let store = SqliteStore::open(&home.file()).unwrap();
    let blocked = BulkToken { blocked_since: Some(1800), ..newer };
    assert_eq!(store.bulk_tokens().unwrap(), [blocked, token(u128::MAX)]);
    assert_eq!(store.client(Guid(10)).unwrap(), Some(of_token));
    let renewed = Client { renewed: 3000, token_expires: 12_000, ..of_site };
    assert_eq!(store.client(Guid(11)).unwrap(), Some(renewed));
    assert_eq!(store.client(Guid(1)).unwrap(), None, "a token is no client");
    let synchronous = store.connection.pragma_query_value(None, "synchronous", count);
    let foreign_keys = store.connection.pragma_query_value(None, "foreign_keys", count);
    assert_eq!((synchronous.unwrap(), foreign_keys.unwrap()), (2, 1), "FULL, and on");
}

#[test]
fn a_client_is_found_by_its_certificate_which_no_other_client_is_given() {
    let home = Home::new();
    let mut store = home.store();
    let (first, second) = (client(10, Registration::Intranet), client(11, Registration::Intranet));
    assert_eq!(store.client_of(first.certificate).unwrap(), None);
    store.register(&first).unwrap();
    store.register(&Client { registered: 1600, ..second }).unwrap();
    assert_eq!(store.client_of(first.certificate).unwrap(), Some(first));
    let all: Vec<_> = store.clients().unwrap().into_iter().map(|it| it.id.0).collect();
    assert_eq!(all, [11, 10], "the last one registered comes first");

    store.block(Guid(10), 1700).unwrap();
    let taken = Client { certificate: first.certificate, ..second };
    let refused = store.register(&taken);
    assert!(matches!(refused, Err(ChangeError::Registered(Guid(10)))), "{refused:?}");
    let kept = store.client_of(first.certificate).unwrap().unwrap();
    assert_eq!((kept.id, kept.blocked_since), (Guid(10), Some(1700)), "its block is still there");

    // Another certificate of the same client takes the place of the one before.
    let renewed = Client { certificate: [9; 32], ..second };
    store.register(&renewed).unwrap();
    assert_eq!(store.client_of([9; 32]).unwrap(), Some(renewed));
    assert_eq!(store.client_of(second.certificate).unwrap(), None);
}

#[test]
fn blocks_of_tokens_and_clients_are_listed_and_each_change_of_one_is_seen() {
    let home = Home::new();
    let (mut store, watcher) = (home.store(), home.store());
    store.add_bulk_token(&token(1)).unwrap();
    store.register(&client(2, Registration::Intranet)).unwrap();
    assert_eq!((watcher.generation().unwrap(), watcher.blocked().unwrap()), (0, vec![]));
    for (number, (id, change, blocked)) in
        [(2, Change::Made, vec![2]), (1, Change::Made, vec![1, 2]), (1, Change::None, vec![1, 2])]
            .into_iter()
            .enumerate()
    {
        assert_eq!(store.block(Guid(id), 1100).unwrap(), change);
        assert_eq!(watcher.generation().unwrap(), (number as u64 + 1).min(2));
        let blocked: Vec<Guid> = blocked.into_iter().map(Guid).collect();
        assert_eq!(watcher.blocked().unwrap(), blocked);
    }
    // The time of a block is when it began, whoever asks for it once more.
    store.block(Guid(2), 1200).unwrap();
    assert_eq!(store.client(Guid(2)).unwrap().unwrap().blocked_since, Some(1100));
    assert_eq!(store.unblock(Guid(2), 1300).unwrap(), Change::Made);
    assert_eq!(store.unblock(Guid(2), 1300).unwrap(), Change::None);
    assert_eq!((watcher.generation().unwrap(), watcher.blocked().unwrap()), (3, vec![Guid(1)]));
    let journal = "SELECT change || ' ' || at FROM journal ORDER BY number";
    let journal: Vec<String> = store.rows(journal, |row| row.get(0)).unwrap();
    assert_eq!(journal, ["blocked 1100", "blocked 1100", "unblocked 1300"]);
    home.sqlite().execute("DELETE FROM journal", []).unwrap();
    assert_eq!(watcher.generation().unwrap(), 3, "it never falls");
}

#[test]
fn a_guid_that_nobody_has_is_refused_and_so_is_one_that_is_taken() {
    let mut store = Home::new().store();
    let by_token = Registration::BulkToken(Guid(1));
    for refused in [
        store.block(Guid(1), 1).unwrap_err(),
        store.unblock(Guid(1), 1).unwrap_err(),
        store.renew(Guid(1), 1, 2).unwrap_err(),
        store.register(&client(2, by_token)).unwrap_err(),
    ] {
        assert!(matches!(refused, ChangeError::Unknown(Guid(1))), "{refused}");
    }
    store.add_bulk_token(&token(1)).unwrap();
    store.register(&client(2, by_token)).unwrap();
    for (id, refused) in [
        (1, store.add_bulk_token(&token(1)).unwrap_err()),
        (2, store.add_bulk_token(&token(2)).unwrap_err()),
        (1, store.register(&client(1, by_token)).unwrap_err()),
    ] {
        assert!(matches!(refused, ChangeError::Known(Guid(it)) if it == id), "{refused}");
    }
    assert_eq!((store.generation().unwrap(), store.bulk_tokens().unwrap()), (0, vec![token(1)]));
}

#[test]
fn who_is_blocked_is_neither_registered_nor_renewed() {
    let mut store = Home::new().store();
    let by_token = Registration::BulkToken(Guid(1));
    store.add_bulk_token(&token(1)).unwrap();
    store.register(&client(2, by_token)).unwrap();
    store.block(Guid(1), 1100).unwrap();
    store.block(Guid(2), 1100).unwrap();
    for (id, refused) in [
        (1, store.register(&client(3, by_token)).unwrap_err()),
        (2, store.register(&client(2, Registration::Intranet)).unwrap_err()),
        (2, store.renew(Guid(2), 1200, 9000).unwrap_err()),
    ] {
        assert!(matches!(refused, ChangeError::Blocked(Guid(it)) if it == id), "{refused}");
    }
    assert_eq!(store.client(Guid(3)).unwrap(), None);
    store.unblock(Guid(2), 1300).unwrap();
    let anew = Client { certificate: [8; 32], ..client(2, Registration::Intranet) };
    store.register(&anew).unwrap();
    assert_eq!(store.client(Guid(2)).unwrap(), Some(anew));
}

#[test]
fn a_store_that_is_missing_or_empty_is_not_made_anew_by_opening_it() {
    let home = Home::new();
    assert!(matches!(home.refusal(), StoreError::Missing { .. }));
    assert_eq!(home.files(), [""; 0], "nothing was made");
    drop(home.store());
    fs::File::options().write(true).truncate(true).open(home.file()).unwrap();
    assert!(matches!(home.refusal(), StoreError::Corrupt { .. }));
    assert!(matches!(SqliteStore::create(&home.file()), Err(StoreError::Corrupt { .. })));
    assert_eq!(fs::metadata(home.file()).unwrap().len(), 0);
    let nowhere = SqliteStore::create(&home.folder.path().join("gone/site.db"));
    assert!(matches!(nowhere, Err(StoreError::Unreadable { .. })));
}

#[test]
fn making_a_store_that_is_there_opens_it() {
    let home = Home::new();
    home.store().add_bulk_token(&token(1)).unwrap();
    assert_eq!(home.store().bulk_tokens().unwrap(), [token(1)]);
    assert_eq!(home.files(), ["site.db"], "nothing is left behind");
}

#[cfg(unix)]
#[test]
fn a_store_that_others_reach_or_that_is_a_link_is_refused() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let home = Home::new();
    let mut store = home.store();
    store.add_bulk_token(&token(1)).unwrap();
    for file in home.files() {
        let mode = fs::metadata(home.folder.path().join(&file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file:?}");
    }
    drop(store);
    for mode in [0o640, 0o604, 0o620, 0o601] {
        fs::set_permissions(home.file(), fs::Permissions::from_mode(mode)).unwrap();
        let refusal = home.refusal();
        assert!(matches!(refusal, StoreError::Exposed { mode: it, .. } if it == mode), "{refusal}");
    }
    fs::set_permissions(home.file(), fs::Permissions::from_mode(0o600)).unwrap();
    let moved = home.folder.path().join("moved.db");
    fs::rename(home.file(), &moved).unwrap();
    symlink(&moved, home.file()).unwrap();
    assert!(matches!(home.refusal(), StoreError::NotAFile { .. }));
    fs::remove_file(home.file()).unwrap();
    fs::create_dir(home.file()).unwrap();
    assert!(matches!(home.refusal(), StoreError::NotAFile { .. }));
}

#[test]
fn a_store_that_another_process_writes_to_is_locked_for_writers_and_not_for_readers() {
    let home = Home::new();
    home.store().add_bulk_token(&token(1)).unwrap();
    let mut store = SqliteStore::open_waiting(&home.file(), Duration::from_millis(20)).unwrap();
    let other = home.sqlite();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = store.block(Guid(1), 1).unwrap_err();
    assert!(matches!(refused, ChangeError::Store(StoreError::Locked { .. })), "{refused}");
    assert_eq!(store.blocked().unwrap(), []);
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(store.block(Guid(1), 1).unwrap(), Change::Made);
}

#[test]
fn a_file_that_does_not_hold_together_is_corrupt_wherever_it_was_damaged() {
    let whole = {
        let home = Home::new();
        let mut store = home.store();
        (1..=200).for_each(|id| store.add_bulk_token(&token(id)).unwrap());
        drop(store);
        fs::read(home.file()).unwrap()
    };
    let damaged = |damage: &dyn Fn(&mut Vec<u8>)| {
        let home = Home::new();
        drop(home.store());
        let mut octets = whole.clone();
        damage(&mut octets);
        fs::write(home.file(), octets).unwrap();
        home.refusal()
    };
    for refusal in [
        damaged(&|octets| octets[..16].fill(b'x')),
        damaged(&|octets| octets[4096..4104].fill(0xff)),
        damaged(&|octets| octets.truncate(4096)),
        damaged(&|octets| octets.truncate(100)),
    ] {
        assert!(matches!(refusal, StoreError::Corrupt { .. }), "{refusal:?}");
    }
}

#[test]
fn a_database_of_something_else_is_refused() {
    for (version, table) in [(0, "CREATE TABLE a (b)"), (1, "CREATE TABLE a (b)"), (1, "")] {
        let home = Home::new();
        drop(home.store());
        fs::remove_file(home.file()).unwrap();
        let other = home.sqlite();
        other.execute_batch(table).unwrap();
        other.pragma_update(None, "user_version", version).unwrap();
        drop(other);
        restrict(&home.file());
        let refusal = home.refusal();
        assert!(matches!(refusal, StoreError::Foreign { .. }), "{refusal:?}");
    }
}

#[cfg(unix)]
fn restrict(file: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

#[cfg(not(unix))]
fn restrict(_file: &Path) {}

#[test]
fn a_newer_store_is_left_alone_and_an_older_one_migrated_step_by_step() {
    let home = Home::new();
    let mut store = home.store();
    let known = i64::try_from(MIGRATIONS.len()).unwrap();
    let mut migrations = MIGRATIONS.to_vec();
    migrations.push("CREATE TABLE second (a)");
    migrations.push("CREATE TABLE third (a); CREATE TABLE second (a)");
    // The step that fails takes nothing of the one before it back, and leaves nothing of its own.
    store.migrate(&migrations).unwrap_err();
    assert_eq!(store.version().unwrap(), known + 1);
    let tables = "SELECT count(*) FROM sqlite_schema WHERE name IN ('second', 'third')";
    assert_eq!(store.connection.query_row(tables, [], count).unwrap(), 1);
    migrations[MIGRATIONS.len() + 1] = "CREATE TABLE third (a)";
    store.migrate(&migrations).unwrap();
    assert_eq!(store.version().unwrap(), known + 2);
    assert_eq!(store.connection.query_row(tables, [], count).unwrap(), 2);
    drop(store);
    let refusal = home.refusal();
    let is_newer = |found, newest| (found, newest) == (known + 2, known);
    assert!(
        matches!(refusal, StoreError::Newer { found, known, .. } if is_newer(found, known)),
        "{refusal:?}"
    );
}

#[test]
fn a_full_store_says_so_and_keeps_what_it_has() {
    let home = Home::new();
    let mut store = home.store();
    store.connection.execute_batch("PRAGMA max_page_count = 12").unwrap();
    let (kept, refused) = fill(&mut store);
    assert!(matches!(refused, ChangeError::Store(StoreError::Full { .. })), "{refused:?}");
    drop(store);
    assert_eq!(SqliteStore::open(&home.file()).unwrap().bulk_tokens().unwrap().len(), kept);
}

/// Adds tokens until one is refused: how many were not, and why that one was.
fn fill(store: &mut SqliteStore) -> (usize, ChangeError) {
    for id in 0..1_000_000 {
        if let Err(refused) = store.add_bulk_token(&token(id)) {
            return (usize::try_from(id).unwrap(), refused);
        }
    }
    panic!("there was always room");
}

/// The test `name` once more, in a process of its own that works in `folder`.
fn child(mut command: Command, name: &str, folder: &Path) -> Command {
    let name = format!("site::sqlite::tests::{name}");
    command.args([&name, "--exact", "--nocapture"]).env(CHILD, folder);
    command
}

/// The folder to work in, in the process that [`child`] has started.
fn given_folder() -> Option<PathBuf> {
    std::env::var_os(CHILD).map(PathBuf::from)
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_and_a_read_only_one_lose_no_block_and_say_what_they_are() {
    const NAME: &str = "a_full_disk_and_a_read_only_one_lose_no_block_and_say_what_they_are";
    if let Some(folder) = given_folder() {
        return on_a_small_disk(&folder.join("site.db"));
    }
    let home = Home::new();
    let mounted = |command: &str| {
        let mut unshare = Command::new("unshare");
        let mount = "mount -t tmpfs -o size=256k none \"$RELAY_TEST_STORE_FOLDER\" && exec \"$@\"";
        unshare.args(["--mount", "--user", "--map-root-user", "sh", "-c", mount, "sh", command]);
        unshare
    };
    let mut permitted = mounted("true");
    permitted.env(CHILD, home.folder.path()).stderr(Stdio::null());
    if !permitted.status().is_ok_and(|status| status.success()) {
        println!("skipped: this account may not make mount namespaces");
        return;
    }
    let itself = std::env::current_exe().unwrap();
    let mut body = child(mounted(itself.to_str().unwrap()), NAME, home.folder.path());
    assert!(body.status().unwrap().success(), "it failed in its namespace");
}

#[cfg(target_os = "linux")]
fn on_a_small_disk(file: &Path) {
    let folder = file.parent().unwrap();
    let mut store = SqliteStore::create(file).unwrap();
    store.add_bulk_token(&token(u128::MAX)).unwrap();
    store.block(Guid(u128::MAX), 1).unwrap();
    let (kept, refused) = fill(&mut store);
    assert!(matches!(refused, ChangeError::Store(StoreError::Full { .. })), "{refused:?}");
    let acknowledged = |store: &SqliteStore| {
        assert_eq!(store.blocked().unwrap(), [Guid(u128::MAX)]);
        assert_eq!(store.bulk_tokens().unwrap().len(), kept + 1);
    };
    acknowledged(&store);
    // As a crash leaves them: the log beside the file, nothing moved into it.
    let copies = tempfile::tempdir_in("/tmp").unwrap();
    for name in ["site.db", "site.db-wal"] {
        fs::copy(folder.join(name), copies.path().join(name)).unwrap();
    }
    acknowledged(&SqliteStore::open(&copies.path().join("site.db")).unwrap());
    let another = SqliteStore::create(&folder.join("another.db"));
    assert!(matches!(another, Err(StoreError::Full { .. })), "{:?}", another.err());
    drop(store);
    let names: Vec<_> = fs::read_dir(folder).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name == "another.db"), "{names:?}");

    let remount = ["-o", "remount,ro", folder.to_str().unwrap()];
    assert!(Command::new("mount").args(remount).status().unwrap().success());
    let opened = SqliteStore::open(file);
    assert!(matches!(opened, Err(StoreError::ReadOnly { .. })), "{:?}", opened.err());
    let another = SqliteStore::create(&folder.join("another.db"));
    assert!(matches!(another, Err(StoreError::ReadOnly { .. })), "{:?}", another.err());
}

#[test]
fn a_process_that_is_killed_loses_no_block_that_it_has_acknowledged() {
    const NAME: &str = "a_process_that_is_killed_loses_no_block_that_it_has_acknowledged";
    if let Some(folder) = given_folder() {
        return block_for_ever(&folder.join("site.db"));
    }
    let home = Home::new();
    drop(home.store());
    let mut acknowledged = 0;
    for acknowledgements in [1, 2, 3, 5, 8, 13, 40, 90, 150, 4] {
        let itself = Command::new(std::env::current_exe().unwrap());
        let mut process = child(itself, NAME, home.folder.path());
        let mut process = process.stdout(Stdio::piped()).spawn().unwrap();
        acknowledged = acknowledged.max(read_and_kill(&mut process, acknowledgements));
        let store = SqliteStore::open(&home.file()).unwrap();
        let blocked = store.blocked().unwrap();
        let expected: Vec<Guid> = (1..=blocked.len() as u128).map(Guid).collect();
        assert_eq!(blocked, expected, "in the order they were made, each whole");
        let generation = store.generation().unwrap();
        assert_eq!(generation, blocked.len() as u64, "with its line in the journal");
        assert!(acknowledged <= generation, "{acknowledged} were acknowledged");
    }
}

/// Blocks one token after the other where the last process has ended, and says so of each.
fn block_for_ever(file: &Path) {
    let mut store = SqliteStore::open(file).unwrap();
    for id in u128::from(store.generation().unwrap()) + 1.. {
        match store.add_bulk_token(&token(id)) {
            Ok(()) | Err(ChangeError::Known(_)) => {}
            Err(error) => panic!("{error}"),
        }
        store.block(Guid(id), 1).unwrap();
        let mut out = io::stdout().lock();
        if writeln!(out, "\nblocked {id}").and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

/// Kills a process after that many acknowledgements. The last one that it has made.
fn read_and_kill(process: &mut Child, acknowledgements: usize) -> u64 {
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut next = || {
        let line = lines.find_map(|line| Some(line.ok()?.strip_prefix("blocked ")?.parse().ok()));
        line.flatten()
    };
    let mut last = (0..acknowledgements).map(|_| next().expect("it goes on")).last().unwrap();
    process.kill().unwrap();
    process.wait().unwrap();
    while let Some(later) = next() {
        last = later;
    }
    last
}
