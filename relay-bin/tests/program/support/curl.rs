//! Real curl as the client.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::site::SERVICE;

/// Which HTTP curl speaks.
#[derive(Clone, Copy)]
pub(crate) enum Http {
    One,
    Two,
}

impl Http {
    pub(crate) const BOTH: [Self; 2] = [Self::One, Self::Two];

    /// What curl is told, and what the first line of its answer begins with.
    pub(crate) fn flag_and_name(self) -> (&'static str, &'static str) {
        match self {
            Self::One => ("--http1.1", "HTTP/1.1"),
            Self::Two => ("--http2", "HTTP/2"),
        }
    }
}

/// Starts curls that keep what they get in `home`.
pub(crate) struct Curl {
    home: PathBuf,
    ca: PathBuf,
    count: AtomicUsize,
}

/// A curl on its way.
pub(crate) struct Asked {
    child: Child,
    head: PathBuf,
    body: PathBuf,
}

/// What a curl got.
pub(crate) struct Answer {
    /// The answer's first line, as `HTTP/1.1 404 CMGService_Not_Published`.
    pub(crate) line: String,
    /// The head's other lines.
    head: Vec<String>,
    pub(crate) body: Vec<u8>,
}

impl Curl {
    /// Curls that trust `ca` alone and write below `home`.
    pub(crate) fn new(home: &Path, ca: PathBuf) -> Self {
        fs::create_dir(home).unwrap();
        Self { home: home.to_owned(), ca, count: AtomicUsize::new(0) }
    }

    /// Asks `gateway` for `path`, with further arguments.
    pub(crate) fn start(
        &self,
        gateway: SocketAddr,
        http: Http,
        path: &str,
        rest: &[&str],
    ) -> Asked {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let head = self.home.join(format!("{number}.head"));
        let body = self.home.join(format!("{number}.body"));
        let port = gateway.port();
        let child = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "120", "--disable"])
            .arg("--cacert")
            .arg(&self.ca)
            .args(["--resolve", &format!("{SERVICE}:{port}:{}", gateway.ip())])
            .arg(http.flag_and_name().0)
            .arg("--dump-header")
            .arg(&head)
            .arg("--output")
            .arg(&body)
            .args(rest)
            .arg(format!("https://{SERVICE}:{port}{path}"))
            .env_remove("https_proxy")
            .env_remove("HTTPS_PROXY")
            .env_remove("all_proxy")
            .env_remove("ALL_PROXY")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Asked { child, head, body }
    }
}

impl Asked {
    /// Waits for the end; curl must be content with what it got.
    pub(crate) fn answer(self) -> Answer {
        let output = self.child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "curl ended with {}: {stderr}", output.status);
        let head = fs::read_to_string(&self.head).unwrap();
        // An interim answer has a head of its own; the last one counts.
        let last = head.trim_end().rsplit("\r\n\r\n").next().unwrap_or_default();
        let mut lines = last.lines().map(|line| line.trim_end().to_owned());
        let line = lines.next().unwrap_or_default();
        // No file is written for an answer without a body.
        let body = fs::read(&self.body).unwrap_or_default();
        Answer { line, head: lines.collect(), body }
    }
}

impl Answer {
    /// The value of a header, if it is there.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let value = |line: &'_ str| -> Option<usize> {
            let (found, _) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(found.len() + 2)
        };
        self.head.iter().find_map(|line| line.get(value(line)?..))
    }

    /// The status.
    pub(crate) fn status(&self) -> u16 {
        self.line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }
}
