//! A real server of PostgreSQL in a folder of its own, which answers on a socket there.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// Who owns the database where the tests are run by root, whom the server refuses: `nobody`.
const NOBODY: u32 = 65_534;

/// Who logs in.
const USER: &str = "relay";

/// A server; ended when dropped.
pub(crate) struct Postgres {
    folder: TempDir,
    programs: PathBuf,
    settings: Vec<String>,
    child: Option<Child>,
}

impl Postgres {
    /// Starts a server, if one is installed.
    ///
    /// # Panics
    ///
    /// If it does not start, or is not installed where it must be.
    pub(crate) fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            let must = std::env::var_os("RELAY_REQUIRE_TOOLS").is_some_and(|value| value == "1");
            assert!(!must, "PostgreSQL is not installed");
            println!("skipped: no PostgreSQL is installed; install it to run this test");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut server = Self { folder, programs, settings: Vec::new(), child: None };
        fs::create_dir(server.sockets()).unwrap();
        server.give(&server.sockets(), 0o755);
        fs::create_dir(server.data()).unwrap();
        server.give(&server.data(), 0o700);
        let made = server
            .program("initdb")
            .arg("--pgdata")
            .arg(server.data())
            .args(["--username", USER, "--auth", "trust", "--no-locale", "--encoding", "UTF8"])
            .arg("--no-sync")
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        server.start_again();
        Some(server)
    }

    /// Has the next start set this, as `name=value`.
    pub(crate) fn set(&mut self, setting: &str) {
        self.settings.extend(["-c".to_owned(), setting.to_owned()]);
    }

    /// Starts it once it has ended.
    pub(crate) fn start_again(&mut self) {
        let mut child = self
            .program("postgres")
            .arg("-D")
            .arg(self.data())
            .arg("-k")
            .arg(self.sockets())
            .args(["-c", "listen_addresses=", "-c", "log_destination=stderr"])
            .args(&self.settings)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut said = Vec::new();
        loop {
            let line = log.next().unwrap_or_else(|| panic!("it has ended: {said:#?}"));
            if line.contains("database system is ready to accept connections") {
                break;
            }
            said.push(line);
        }
        // It must be read on, or the server waits; it ends with the server.
        std::thread::spawn(move || log.for_each(drop));
        self.child = Some(child);
    }

    /// Ends it as a crash does: nothing is put in order.
    pub(crate) fn crash(&mut self) {
        self.end("QUIT");
    }

    fn end(&mut self, signal: &str) {
        if let Some(mut child) = self.child.take() {
            let process = child.id().to_string();
            let sent = Command::new("kill").args([&format!("-{signal}"), &process]).status();
            assert!(sent.is_ok_and(|status| status.success()));
            child.wait().unwrap();
        }
    }

    /// Makes an empty database.
    pub(crate) fn make(&self, database: &str) {
        self.sql("postgres", &format!("CREATE DATABASE \"{database}\""));
    }

    /// Has a database do something, by a client that is not ours.
    pub(crate) fn sql(&self, database: &str, statement: &str) -> String {
        let done = Command::new(self.programs.join("psql"))
            .arg("--host")
            .arg(self.sockets())
            .args(["--username", USER, "--dbname", database, "--no-psqlrc", "--tuples-only"])
            .args(["--no-align", "--set", "ON_ERROR_STOP=1", "--command", statement])
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    /// A database, as `store` in a configuration names it.
    pub(crate) fn url(&self, database: &str) -> String {
        let folder = self.sockets().to_str().unwrap().replace('/', "%2F");
        format!("postgres://{USER}@{folder}/{database}")
    }

    /// A file of the server's own, beside its data.
    pub(crate) fn put(&self, name: &str, text: &str) -> PathBuf {
        let file = self.data().join(name);
        fs::write(&file, text).unwrap();
        self.give(&file, 0o600);
        file
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn sockets(&self) -> PathBuf {
        self.folder.path().join("sockets")
    }

    fn give(&self, path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        if is_root(self.folder.path()) {
            chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }

    fn program(&self, name: &str) -> Command {
        let program = self.programs.join(name);
        let mut command = Command::new("setpriv");
        if is_root(self.folder.path()) {
            let nobody = NOBODY.to_string();
            command.args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups"]).arg(program);
        } else {
            command = Command::new(program);
        }
        // What the account that runs the tests has set is no matter.
        command.current_dir(self.data()).env_remove("PGDATA").env_remove("PGPORT");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.end("QUIT");
    }
}

/// Whether it is root who has made this.
fn is_root(made: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(made).is_ok_and(|about| about.uid() == 0)
}

/// Where the server's programs are: Debian has them beside the search path, by version.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let debian = versions.map(|version| version.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path: Vec<_> = std::env::split_paths(&path).collect();
    debian.chain(path).find(|folder| folder.join("initdb").exists())
}
