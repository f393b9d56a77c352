use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use relay_core::config::{SiteStore, site_tokens};
use tempfile::TempDir;

use super::super::store::suite::{self, Bench, NOW, token};
use super::*;
use crate::pki;

#[path = "../../../tests/program/support/postgres.rs"]
#[allow(unreachable_pub, clippy::unwrap_used, reason = "a helper of tests")]
mod server;

use server::Postgres;

/// A database of its own.
struct Home<'a> {
    postgres: &'a Postgres,
    name: String,
    server: Server,
}

impl<'a> Home<'a> {
    fn new(postgres: &'a Postgres, name: &str) -> Self {
        postgres.make(name);
        let server = configured(&format!("store = \"{}\"", postgres.url(name))).unwrap();
        Self { postgres, name: name.to_owned(), server }
    }

    fn store(&self) -> PostgresStore {
        PostgresStore::create(&self.server).unwrap()
    }

    fn sql(&self, statement: &str) -> String {
        self.postgres.sql(&self.name, statement)
    }

    fn refusal(&self) -> StoreError {
        PostgresStore::open(&self.server).err().unwrap()
    }
}

impl Bench for Home<'_> {
    fn open(&self) -> Box<dyn Store> {
        Box::new(self.store())
    }

    fn put_blocked(&self, count: usize) {
        drop(self.store());
        let expires = NOW + 1000;
        self.sql(&format!(
            "INSERT INTO relay_bulk_tokens
             SELECT decode(lpad(to_hex(i), 32, '0'), 'hex'), 1, 1, {expires}, 1
             FROM generate_series(1, {count}) i"
        ));
    }

    fn put_clients(&self, count: usize, expires: u64) {
        drop(self.store());
        self.sql(&format!(
            "INSERT INTO relay_clients
             (id, certificate, registered, renewed, token_expires)
             SELECT decode(lpad(to_hex(i), 32, '0'), 'hex'),
             decode(lpad(to_hex(i), 32, '0') || repeat('01', 16), 'hex'), 1, 1, {expires}
             FROM generate_series(1, {count}) i"
        ));
    }
}

/// What a configuration file with these keys says of the store.
fn configured(keys: &str) -> Option<Server> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("connection-point.toml");
    let tenant = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
    fs::write(&file, format!("[tokens]\nfolder = \"t\"\ntenant = \"{tenant}\"\n{keys}\n")).unwrap();
    match site_tokens(&file).unwrap().store {
        SiteStore::Postgres(server) => Some(server),
        _ => None,
    }
}

#[test]
fn a_database_does_all_that_a_store_must() {
    let Some(postgres) = Postgres::start() else { return };
    for (number, (name, run)) in suite::ALL.into_iter().enumerate() {
        println!("{name}");
        run(&Home::new(&postgres, &format!("site_{number}")));
    }
    several_writers_at_once_disagree_about_nothing(&Home::new(&postgres, "writers"));
}

#[test]
fn a_server_that_dies_amid_blocks_has_all_that_were_acknowledged() {
    let Some(mut postgres) = Postgres::start() else { return };
    let server = Home::new(&postgres, "dying").server.clone();
    drop(PostgresStore::create(&server).unwrap());
    let mut last = 0;
    for wanted in [1, 2, 3, 5, 8, 40, 90] {
        let (told, heard) = std::sync::mpsc::channel();
        let (of, first) = (server.clone(), last + 1);
        let writer = std::thread::spawn(move || {
            let mut store = PostgresStore::open(&of).unwrap();
            for id in first.. {
                let added = store.add_bulk_token(&token(id));
                let is_there = matches!(added, Ok(()) | Err(ChangeError::Known(_)));
                if !is_there || store.block(Guid(id), NOW).is_err() {
                    return;
                }
                told.send(id).unwrap();
            }
        });
        last = heard.iter().take(wanted).last().unwrap();
        postgres.crash();
        writer.join().unwrap();
        last = heard.try_iter().last().unwrap_or(last);
        postgres.start_again();
        let blocked = PostgresStore::open(&server).unwrap().blocked(NOW).unwrap();
        let made = u128::try_from(blocked.len()).unwrap();
        assert_eq!(blocked, (1..=made).map(Guid).collect::<Vec<_>>());
        assert!(last <= made, "{last} were acknowledged, {made} are there");
        // One may have been made that nobody was told of.
        last = made;
    }
}

/// The server says that it has no room, at the very end of a block: at its commit.
fn one_without_room_is_told(postgres: &Postgres) {
    let home = Home::new(postgres, "full");
    let mut store = home.store();
    store.add_bulk_token(&token(1)).unwrap();
    // Source: PostgreSQL 15, appendix A: 53100 is disk_full.
    home.sql(
        "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS
         'BEGIN RAISE EXCEPTION ''no room'' USING ERRCODE = ''53100''; END';
         CREATE CONSTRAINT TRIGGER no_room AFTER INSERT ON relay_journal
         DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION no_room()",
    );
    let refused = store.block(Guid(1), NOW).unwrap_err();
    assert!(matches!(refused, ChangeError::Store(StoreError::Full { .. })), "{refused}");
    assert_eq!(store.blocked(NOW).unwrap(), []);
    home.sql("DROP TRIGGER no_room ON relay_journal");
    assert_eq!(store.block(Guid(1), NOW).unwrap(), Change::Made);
}

fn several_writers_at_once_disagree_about_nothing(home: &Home<'_>) {
    const EACH: u128 = 25;
    // All make the tables at once, too.
    let published = Mutex::new(Vec::new());
    let digest = |content: &Content| {
        let mut digest = [0; 32];
        for id in &content.blocked {
            digest[usize::try_from(id.0 % 32).unwrap()] ^= 1 << (id.0 / 32 % 8);
        }
        digest
    };
    std::thread::scope(|threads| {
        for first in [0, EACH, 2 * EACH] {
            let published = &published;
            threads.spawn(move || {
                let mut store = home.store();
                for id in first..first + EACH {
                    store.add_bulk_token(&token(id)).unwrap();
                    store.block(Guid(id), NOW).unwrap();
                    let (content, number) = store.publish(NOW, &digest).unwrap();
                    assert!(content.blocked.contains(&Guid(id)), "what is made is published");
                    published.lock().unwrap().push((number, content.blocked));
                }
            });
        }
    });
    let mut published = published.into_inner().unwrap();
    published.sort_by_key(|(number, _)| *number);
    for pair in published.windows(2) {
        let [(before, less), (after, more)] = pair else { unreachable!() };
        assert!(less.iter().all(|id| more.contains(id)), "a higher number takes no block back");
        assert!(before < after || less == more, "one number stands for one content");
    }
    let store = home.store();
    assert_eq!(store.generation().unwrap(), u64::try_from(3 * EACH).unwrap());
    assert_eq!(store.blocked(NOW).unwrap().len(), usize::try_from(3 * EACH).unwrap());
}

#[test]
fn whatever_is_wrong_with_a_database_is_told_and_loses_no_block() {
    let Some(mut postgres) = Postgres::start() else { return };
    what_is_no_store_is_told(&postgres);
    one_that_is_locked_or_read_only_is_told(&postgres);
    versions_are_kept_apart(&postgres);
    one_without_room_is_told(&postgres);
    let server = {
        let home = Home::new(&postgres, "crashes");
        home.server.clone()
    };
    let mut store = PostgresStore::create(&server).unwrap();
    let (mut idle, mut expected) = (PostgresStore::open(&server).unwrap(), Vec::new());
    for id in 1..=3 {
        store.add_bulk_token(&token(id)).unwrap();
        store.block(Guid(id), NOW).unwrap();
        expected.push(Guid(id));
        postgres.crash();
        let refused = store.unblock(Guid(id), NOW).unwrap_err();
        let is_told = matches!(refused, ChangeError::Store(StoreError::Unreachable { .. }));
        assert!(is_told, "{refused}");
        assert!(matches!(PostgresStore::open(&server), Err(StoreError::Unreachable { .. })));
        postgres.start_again();
        assert_eq!(store.blocked(NOW).unwrap(), expected, "it is connected to again");
        assert_eq!(
            idle.mark().unwrap(),
            store.mark().unwrap(),
            "one that has noticed nothing, too"
        );
    }
}

fn what_is_no_store_is_told(postgres: &Postgres) {
    let home = Home::new(postgres, "foreign");
    assert!(matches!(home.refusal(), StoreError::Missing { .. }));
    assert_eq!(home.sql("SELECT count(*) FROM pg_tables WHERE tablename ~ 'relay'"), "0");
    home.sql("CREATE TABLE relay_site (other text)");
    let refusal = home.refusal();
    assert!(matches!(refusal, StoreError::Foreign { .. }), "{refusal:?}");
    let mut nowhere = home.server.clone();
    "nowhere".clone_into(&mut nowhere.database);
    assert!(matches!(PostgresStore::create(&nowhere), Err(StoreError::Missing { .. })));
    let mut stranger = home.server.clone();
    "stranger".clone_into(&mut stranger.user);
    let refusal = PostgresStore::create(&stranger).err().unwrap();
    assert!(matches!(refusal, StoreError::Denied { .. }), "{refusal:?}");
}

fn one_that_is_locked_or_read_only_is_told(postgres: &Postgres) {
    let home = Home::new(postgres, "locked");
    let (mut store, other) = (home.store(), home.store());
    store.add_bulk_token(&token(1)).unwrap();
    let lock = "BEGIN; SELECT version FROM relay_site FOR UPDATE";
    let locked = other.read(async |client| Ok(client.batch_execute(lock).await?));
    locked.unwrap();
    let refused = store.block(Guid(1), NOW).unwrap_err();
    assert!(matches!(refused, ChangeError::Store(StoreError::Locked { .. })), "{refused}");
    assert_eq!(store.blocked(NOW).unwrap(), [], "whoever reads waits for nobody");
    drop(other);
    assert_eq!(store.block(Guid(1), NOW).unwrap(), Change::Made);
    home.sql("ALTER DATABASE locked SET default_transaction_read_only = on");
    let mut store = PostgresStore::open(&home.server).unwrap();
    let refused = store.unblock(Guid(1), NOW).unwrap_err();
    assert!(matches!(refused, ChangeError::Store(StoreError::ReadOnly { .. })), "{refused}");
    assert_eq!(store.blocked(NOW).unwrap(), [Guid(1)]);
}

fn versions_are_kept_apart(postgres: &Postgres) {
    let home = Home::new(postgres, "versions");
    let mut running = home.store();
    running.add_bulk_token(&token(1)).unwrap();
    home.sql("UPDATE relay_site SET version = 99");
    let is_newer = |error: &StoreError| matches!(error, StoreError::Newer { found: 99, .. });
    assert!(is_newer(&home.refusal()));
    // One that was open before has to be left alone as well.
    let refused = running.block(Guid(1), NOW).unwrap_err();
    assert!(matches!(&refused, ChangeError::Store(error) if is_newer(error)), "{refused}");
    // An older one is one without what the migrations make.
    let tables = "relay_bulk_tokens, relay_clients, relay_journal, relay_signers";
    home.sql(&format!("DROP TABLE {tables}; UPDATE relay_site SET version = 0"));
    assert_eq!(PostgresStore::open(&home.server).unwrap().bulk_tokens().unwrap(), []);
    assert_eq!(home.sql("SELECT version FROM relay_site"), known().to_string());
}

/// A server that speaks TLS on loopback and asks for a password, and what clients need.
struct Guarded {
    _postgres: Postgres,
    folder: TempDir,
    port: u16,
}

impl Guarded {
    fn start() -> Option<Self> {
        let mut postgres = Postgres::start()?;
        let folder = tempfile::tempdir().unwrap();
        let authority = pki::SiteCa::new("site").unwrap();
        let issued = authority.issue_server(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = postgres.put("server.pem", &issued.certificate_pem());
        let key = postgres.put("server-key.pem", &issued.key_pem());
        let other = pki::SiteCa::new("site").unwrap();
        fs::write(folder.path().join("ca.pem"), authority.certificate_pem()).unwrap();
        fs::write(folder.path().join("other.pem"), other.certificate_pem()).unwrap();
        postgres.make("site");
        postgres.sql("site", "ALTER USER relay PASSWORD 'hunter2 of the site'");
        postgres.put("pg_hba.conf", "hostssl all all 127.0.0.1/32 scram-sha-256\n");
        postgres.crash();
        // Nobody else takes it so soon: the system hands ports out one after the other.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        for setting in [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={port}"),
            "ssl=on".to_owned(),
            format!("ssl_cert_file={}", certificate.display()),
            format!("ssl_key_file={}", key.display()),
        ] {
            postgres.set(&setting);
        }
        postgres.start_again();
        Some(Self { _postgres: postgres, folder, port })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn open(&self, ca: Option<&str>, password: Option<&Path>) -> Result<PostgresStore, StoreError> {
        let mut keys = format!("store = \"postgres://relay@127.0.0.1:{}/site\"\n", self.port);
        if let Some(ca) = ca {
            writeln!(keys, "store_ca = \"{}\"", self.path(ca).display()).unwrap();
        }
        if let Some(file) = password {
            writeln!(keys, "store_password_file = \"{}\"", file.display()).unwrap();
        }
        PostgresStore::create(&configured(&keys).unwrap())
    }

    fn password(&self, text: &str, mode: u32) -> PathBuf {
        let file = self.path("password");
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        file
    }
}

#[test]
fn a_server_on_a_network_must_be_vouched_for_and_is_shown_the_password_alone() {
    let Some(guarded) = Guarded::start() else { return };
    let right = guarded.password("hunter2 of the site\n", 0o600);
    let mut store = guarded.open(Some("ca.pem"), Some(&right)).unwrap();
    store.add_bulk_token(&token(1)).unwrap();
    drop(store);
    let told = |ca, password: Option<&Path>| {
        let refusal = guarded.open(ca, password).err().unwrap();
        assert!(!format!("{refusal} {refusal:?}").contains("hunter2"), "{refusal:?}");
        refusal
    };
    let refusal = told(Some("other.pem"), Some(&right));
    assert!(matches!(refusal, StoreError::Unreachable { .. }), "{refusal:?}");
    let refusal = told(None, Some(&right));
    assert!(matches!(refusal, StoreError::Denied { .. }), "in the clear: {refusal:?}");
    let refusal = told(Some("absent.pem"), Some(&right));
    assert!(matches!(refusal, StoreError::Material { .. }), "{refusal:?}");
    told(Some("ca.pem"), None);
    let wrong = guarded.password("hunter2 of another", 0o600);
    let refusal = told(Some("ca.pem"), Some(&wrong));
    assert!(matches!(refusal, StoreError::Denied { .. }), "{refusal:?}");
    for (text, mode) in [("hunter2 of the site", 0o640), ("\nhunter2", 0o600), ("", 0o600)] {
        let refusal = told(Some("ca.pem"), Some(&guarded.password(text, mode)));
        assert!(matches!(refusal, StoreError::Material { .. }), "{refusal:?}");
    }
    let again = guarded.password("hunter2 of the site", 0o600);
    let store = guarded.open(Some("ca.pem"), Some(&again)).unwrap();
    assert_eq!(store.bulk_tokens().unwrap(), [token(1)]);
}
