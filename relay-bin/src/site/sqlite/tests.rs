use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::super::store::suite::{self, Bench, NOW, token};
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

impl Bench for Home {
    fn open(&self) -> Box<dyn Store> {
        Box::new(self.store())
    }

    fn put_blocked(&self, count: usize) {
        drop(self.store());
        let mut sqlite = self.sqlite();
        let transaction = sqlite.transaction().unwrap();
        for id in 1..=count as u128 {
            let insert = "INSERT INTO bulk_tokens VALUES (?1, 1, 1, ?2, 1)";
            transaction.execute(insert, params![octets(Guid(id)), seconds(NOW + 1000)]).unwrap();
        }
        transaction.commit().unwrap();
    }

    fn put_clients(&self, count: usize, expires: u64) {
        drop(self.store());
        let mut sqlite = self.sqlite();
        let transaction = sqlite.transaction().unwrap();
        {
            let insert = "INSERT INTO clients VALUES (?1, ?2, 1, 1, ?3, NULL, NULL)";
            let mut insert = transaction.prepare(insert).unwrap();
            for id in 1..=count as u128 {
                let mut certificate = [1; 32];
                certificate[..16].copy_from_slice(&octets(Guid(id)));
                insert.execute(params![octets(Guid(id)), certificate, seconds(expires)]).unwrap();
            }
        }
        transaction.commit().unwrap();
    }
}

#[test]
fn a_file_of_sqlite_does_all_that_a_store_must() {
    for (name, run) in suite::ALL {
        println!("{name}");
        run(&Home::new());
    }
}

#[test]
fn what_is_acknowledged_is_on_the_disk_and_what_is_blocked_in_the_journal() {
    let home = Home::new();
    let mut store = home.store();
    let synchronous = store.connection.pragma_query_value(None, "synchronous", count);
    let foreign_keys = store.connection.pragma_query_value(None, "foreign_keys", count);
    assert_eq!((synchronous.unwrap(), foreign_keys.unwrap()), (2, 1), "FULL, and on");
    store.add_bulk_token(&token(1)).unwrap();
    store.block(Guid(1), NOW).unwrap();
    store.block(Guid(1), NOW + 1).unwrap();
    store.unblock(Guid(1), NOW + 2).unwrap();
    let journal = "SELECT change || ' ' || at FROM journal ORDER BY number";
    let journal: Vec<String> = rows(&store.connection, journal, [], |row| row.get(0)).unwrap();
    assert_eq!(journal, [format!("blocked {NOW}"), format!("unblocked {}", NOW + 2)]);
    home.sqlite().execute("DELETE FROM journal", []).unwrap();
    assert_eq!(store.generation().unwrap(), 2, "it never falls");
}

#[test]
fn another_file_in_its_place_is_noticed_and_so_is_none() {
    let home = Home::new();
    let mut store = home.store();
    store.mark().unwrap();
    let copy = home.folder.path().join("copy.db");
    fs::copy(home.file(), &copy).unwrap();
    fs::rename(&copy, home.file()).unwrap();
    assert!(matches!(store.mark(), Err(StoreError::Replaced { .. })));
    fs::remove_file(home.file()).unwrap();
    assert!(matches!(store.mark(), Err(StoreError::Missing { .. })));
    let mut anew = Home::new().store();
    assert!(matches!(anew.mark(), Err(StoreError::Missing { .. })), "its folder is gone");
}

#[test]
fn what_is_only_read_is_opened_to_be_read_alone_and_migrated_if_it_must_be() {
    let home = Home::new();
    home.store().add_bulk_token(&token(1)).unwrap();
    let mut reader = SqliteStore::open_to_read(&home.file()).unwrap();
    assert_eq!(reader.bulk_tokens().unwrap(), [token(1)]);
    let refused = reader.block(Guid(1), NOW).unwrap_err();
    assert!(matches!(refused, ChangeError::Store(StoreError::ReadOnly { .. })), "{refused}");
    drop(reader);
    let sqlite = home.sqlite();
    sqlite.execute_batch("DROP TABLE signers; DROP INDEX clients_by_certificate").unwrap();
    sqlite.execute_batch("DROP INDEX blocked_bulk_tokens; DROP INDEX blocked_clients").unwrap();
    sqlite.pragma_update(None, "user_version", 2).unwrap();
    drop(sqlite);
    assert_eq!(SqliteStore::open_to_read(&home.file()).unwrap().signers().unwrap(), []);
    home.sqlite().pragma_update(None, "user_version", 99).unwrap();
    let newer = SqliteStore::open_to_read(&home.file()).err();
    assert!(matches!(newer, Some(StoreError::Newer { found: 99, .. })), "{newer:?}");
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
    assert_eq!(store.blocked(NOW).unwrap(), []);
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
        assert!(
            std::env::var_os("RELAY_REQUIRE_TOOLS").is_none(),
            "no mount namespace can be made"
        );
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
    store.block(Guid(u128::MAX), NOW).unwrap();
    let (kept, refused) = fill(&mut store);
    assert!(matches!(refused, ChangeError::Store(StoreError::Full { .. })), "{refused:?}");
    let acknowledged = |store: &SqliteStore| {
        assert_eq!(store.blocked(NOW).unwrap(), [Guid(u128::MAX)]);
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
        let blocked = store.blocked(NOW).unwrap();
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
        store.block(Guid(id), NOW).unwrap();
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
