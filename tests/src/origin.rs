//! A site role that keeps the very octets it was sent.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a failed step of a test's set-up is a failed test"
)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub use crate::reading::Recorded;
use crate::reading::{Rest, read};
use crate::site::RawBackend;

/// Answers every request with 200 and no body. What it is asked is read by the letter.
#[derive(Debug)]
pub struct Origin {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    _backend: RawBackend,
}

#[derive(Debug, Default)]
struct Seen {
    requests: Vec<Recorded>,
    rests: Vec<(Rest, Vec<u8>)>,
    /// Connections that are open.
    open: usize,
}

impl Origin {
    /// Starts it.
    pub async fn start() -> Self {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let log = Arc::clone(&seen);
        let backend = RawBackend::start(move |stream| {
            log.lock().unwrap().open += 1;
            serve(stream, Arc::clone(&log))
        })
        .await;
        Self { address: backend.address, seen, _backend: backend }
    }

    /// The requests that came since it was last asked, in order.
    pub fn take(&self) -> Vec<Recorded> {
        std::mem::take(&mut self.seen.lock().unwrap().requests)
    }

    /// What stood behind the last request of connections that have ended, unless it was nothing,
    /// with its octets. A connection ends with what is no request.
    pub fn take_rests(&self) -> Vec<(Rest, Vec<u8>)> {
        std::mem::take(&mut self.seen.lock().unwrap().rests)
    }

    /// Connections that are open.
    pub fn open(&self) -> usize {
        self.seen.lock().unwrap().open
    }
}

async fn serve(mut stream: TcpStream, seen: Arc<Mutex<Seen>>) {
    let mut octets = Vec::new();
    let mut answered = 0;
    loop {
        let reading = read(&octets);
        for request in reading.requests.iter().skip(answered) {
            seen.lock().unwrap().requests.push(request.clone());
            answered += 1;
            // Whoever is gone is found out by the next read.
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        }
        if reading.rest == Rest::Nothing {
            (octets, answered) = (Vec::new(), 0);
        }
        let is_wrong = matches!(reading.rest, Rest::Wrong { .. });
        if is_wrong || !matches!(stream.read_buf(&mut octets).await, Ok(1..)) {
            let mut seen = seen.lock().unwrap();
            seen.open -= 1;
            if reading.rest != Rest::Nothing {
                seen.rests.push((reading.rest, octets));
            }
            return;
        }
    }
}
