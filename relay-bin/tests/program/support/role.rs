//! `relay` as running processes.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// No line takes this long; only a hang does.
const HANG: Duration = Duration::from_secs(90);

/// A role that is running; killed when dropped.
pub(crate) struct Role {
    child: Child,
    out: Lines,
    log: Lines,
}

/// Lines of an output as they come, and those that came already.
struct Lines {
    coming: Receiver<String>,
    seen: Vec<String>,
}

impl Lines {
    fn of(output: impl Read + Send + 'static) -> Self {
        let (sender, coming) = channel();
        // Ends with the process: its output closes then.
        std::thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            lines.for_each(|line| drop(sender.send(line)));
        });
        Self { coming, seen: Vec::new() }
    }

    /// The `count`-th line with `part`; waits for it.
    fn wait_for(&mut self, part: &str, count: usize) -> String {
        loop {
            let mut found = self.seen.iter().filter(|line| line.contains(part));
            if let Some(line) = found.nth(count - 1) {
                return line.clone();
            }
            match self.coming.recv_timeout(HANG) {
                Ok(line) => self.seen.push(line),
                Err(why) => panic!("no line {count} with `{part}` ({why}):\n{:#?}", self.seen),
            }
        }
    }

    fn rest(mut self) -> Vec<String> {
        self.seen.extend(self.coming.iter());
        self.seen
    }
}

impl Role {
    /// Starts `relay` with `args` in `home` and waits until it says that it is ready.
    pub(crate) fn start(home: &Path, args: &[&str]) -> Self {
        Self::start_with(Command::new(env!("CARGO_BIN_EXE_relay")), home, args)
    }

    /// As [`Role::start`], with a log of everything, by everybody.
    pub(crate) fn start_traced(home: &Path, args: &[&str]) -> Self {
        Self::start_at(Command::new(env!("CARGO_BIN_EXE_relay")), home, args, "trace")
    }

    /// As [`Role::start`], from a shell that has done `before`.
    pub(crate) fn start_after(before: &str, home: &Path, args: &[&str]) -> Self {
        let mut shell = Command::new("sh");
        let relay = env!("CARGO_BIN_EXE_relay");
        shell.args(["-c", &format!("{before}; exec \"$@\""), "sh", relay]);
        Self::start_with(shell, home, args)
    }

    /// As [`Role::start`], by a command of the caller's.
    pub(crate) fn start_with(command: Command, home: &Path, args: &[&str]) -> Self {
        Self::start_at(command, home, args, "info")
    }

    fn start_at(mut command: Command, home: &Path, args: &[&str], log: &str) -> Self {
        let mut child = command
            .args(args)
            .args(["--log", log, "--log-format", "json"])
            .current_dir(home)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = Lines::of(child.stdout.take().unwrap());
        let log = Lines::of(child.stderr.take().unwrap());
        let mut role = Self { child, out, log };
        role.out.wait_for("ready: ", 1);
        role
    }

    /// Where a gateway serves clients and links, as it says itself.
    pub(crate) fn addresses(&mut self) -> [SocketAddr; 2] {
        let ready = self.out.wait_for("ready: ", 1);
        let after = |mark: &str| {
            let rest = ready.split_once(mark).unwrap_or_else(|| panic!("{ready}")).1;
            rest.split(',').next().unwrap_or(rest).parse().unwrap()
        };
        [after("clients on https://"), after("links on ")]
    }

    /// Where a gateway takes links over QUIC, as it says itself.
    pub(crate) fn quic(&mut self) -> SocketAddr {
        let ready = self.out.wait_for("ready: ", 1);
        let (_, rest) = ready.split_once("quic on ").unwrap();
        rest.split(',').next().unwrap().parse().unwrap()
    }

    /// Where it is administered, as it says itself.
    pub(crate) fn admin(&mut self) -> SocketAddr {
        let ready = self.out.wait_for("ready: ", 1);
        ready.split_once("admin on http://").unwrap().1.parse().unwrap()
    }

    /// Where its token service listens, as it says itself.
    pub(crate) fn token_service(&mut self) -> SocketAddr {
        let ready = self.out.wait_for("ready: ", 1);
        let (_, rest) = ready.split_once("token service on http").unwrap();
        let (_, address) = rest.split_once("://").unwrap();
        address.split(',').next().unwrap().parse().unwrap()
    }

    /// What whoever lists processes sees of it.
    pub(crate) fn command_line(&self) -> String {
        let octets = std::fs::read(format!("/proc/{}/cmdline", self.child.id())).unwrap();
        String::from_utf8_lossy(&octets).replace('\0', " ")
    }

    /// Sends SIGTERM.
    pub(crate) fn ask_to_stop(&self) {
        self.signal("TERM");
    }

    /// Waits for the end, which must be a clean one.
    pub(crate) fn wait_for_end(&mut self) {
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(0));
    }

    /// Waits for the end, and returns the exit status.
    pub(crate) fn exit_status(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// Sends SIGKILL: it ends without a word to anybody.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for the end that somebody else has asked for; returns the exit status.
    pub(crate) fn ended(mut self) -> Option<i32> {
        self.out.wait_for("stopped: ", 1);
        self.child.wait().unwrap().code()
    }

    /// Waits until the log has `count` lines with `part`, and returns the last.
    pub(crate) fn wait_for_log(&mut self, part: &str, count: usize) -> String {
        self.log.wait_for(part, count)
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) {
        super::signal::send(&self.child, name);
    }

    /// Sends SIGTERM and waits for the end; returns the exit status and all that was printed.
    pub(crate) fn stop(mut self) -> (Option<i32>, Vec<String>) {
        self.signal("TERM");
        self.out.wait_for("stopped: ", 1);
        let status = self.child.wait().unwrap().code();
        let empty = || Lines { coming: channel().1, seen: Vec::new() };
        let mut printed = std::mem::replace(&mut self.out, empty()).rest();
        printed.extend(std::mem::replace(&mut self.log, empty()).rest());
        (status, printed)
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        // Fails if it has ended, which is the usual case.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
