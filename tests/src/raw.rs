//! A client of the gateway that sends the very octets it is given.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a failed step of a test's set-up is a failed test"
)]

use relay_core::gateway::Gateway;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_rustls::client::TlsStream;

use crate::client::{pipe_to, tls};
use crate::pki::SiteCa;

/// A connection of HTTP/1.1.
#[derive(Debug)]
pub struct RawClient {
    stream: TlsStream<DuplexStream>,
    kept: Vec<u8>,
}

impl RawClient {
    /// Connects to `gateway` in memory.
    pub async fn join(gateway: &Gateway, ca: &SiteCa) -> Self {
        Self { stream: tls(pipe_to(gateway), ca, b"http/1.1").await, kept: Vec::new() }
    }

    /// Sends octets. What the gateway no longer takes is lost.
    pub async fn send(&mut self, octets: &[u8]) {
        if self.stream.write_all(octets).await.is_ok() {
            let _ = self.stream.flush().await;
        }
    }

    /// Says that nothing more is sent. Answers can still be read.
    pub async fn finish(&mut self) {
        // What fails with it, fails a read as well.
        let _ = self.stream.shutdown().await;
    }

    /// Reads an answer with a declared length. Returns its status; `None` at the connection's end.
    pub async fn status(&mut self) -> Option<u16> {
        self.answer("GET").await.map(|answer| answer.status)
    }

    /// Reads an answer to a request with this method, whose length is declared, or which has no
    /// body. `None` at the connection's end.
    pub async fn answer(&mut self, method: &str) -> Option<Said> {
        let head = loop {
            let head = self.head().await?;
            // What is meant for the sender of a body.
            if !head.starts_with("http/1.1 100 ") {
                break head;
            }
        };
        let value = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
        let length = value("content-length: ").filter(|_| method != "HEAD");
        let length = length.map_or(0, |length| length.parse().unwrap());
        while self.kept.len() < length {
            self.more().await?;
        }
        self.kept.drain(..length);
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Some(Said { status, reason: value("relay-reason: ").map(str::to_owned) })
    }

    /// A head in lower case.
    async fn head(&mut self) -> Option<String> {
        let head = self.until(b"\r\n\r\n").await?;
        Some(String::from_utf8(head).unwrap().to_lowercase())
    }

    /// Reads up to and with `end`, octet for octet. `None` at the connection's end.
    pub async fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(place) = self.kept.windows(end.len()).position(|window| window == end) {
                return Some(self.kept.drain(..place + end.len()).collect());
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Option<()> {
        let count = self.stream.read_buf(&mut self.kept).await.ok()?;
        (count > 0).then_some(())
    }
}

/// What a client is told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Said {
    /// The status.
    pub status: u16,
    /// Which hop of the relay says so and why, in lower case; `None` if the site does.
    pub reason: Option<String>,
}
