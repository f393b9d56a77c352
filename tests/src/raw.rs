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

    /// Reads an answer with a declared length. Returns its status; `None` at the connection's end.
    pub async fn status(&mut self) -> Option<u16> {
        let head = loop {
            let end = self.kept.windows(4).position(|window| window == b"\r\n\r\n");
            match end {
                Some(end) => break self.kept.drain(..end + 4).collect::<Vec<u8>>(),
                None => self.more().await?,
            }
        };
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |length| length.parse().unwrap());
        while self.kept.len() < length {
            self.more().await?;
        }
        self.kept.drain(..length);
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        // What is meant for the sender of a body.
        if status == 100 { Box::pin(self.status()).await } else { Some(status) }
    }

    async fn more(&mut self) -> Option<()> {
        let count = self.stream.read_buf(&mut self.kept).await.ok()?;
        (count > 0).then_some(())
    }
}
