//! Configurations judged without anything that runs: `relay check`, what it has in common with the
//! roles, of a whole site, `relay explain`, and schemas of the files.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

mod check;
mod explain;
mod schema;
mod site;

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// A folder with a site in `site`.
pub(crate) struct Home(TempDir);

/// What a command has printed, and how it ended.
pub(crate) struct Ended {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Home {
    pub(crate) fn with_site() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        let made = home.run(&["init", "site", "--backend", "http://127.0.0.1:8080"]);
        assert_eq!(made.status, 0, "{}", made.err);
        home
    }

    /// Runs `relay` in this folder to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        let mut relay = Command::new(env!("CARGO_BIN_EXE_relay"));
        let done = relay.args(args).current_dir(self.0.path()).env_remove("RUST_LOG").output();
        let done = done.unwrap();
        Ended {
            status: done.status.code().unwrap(),
            out: String::from_utf8(done.stdout).unwrap(),
            err: String::from_utf8(done.stderr).unwrap(),
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        fs::write(self.0.path().join(file), text).unwrap();
    }

    pub(crate) fn read(&self, file: &str) -> String {
        fs::read_to_string(self.0.path().join(file)).unwrap()
    }
}
