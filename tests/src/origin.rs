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

use crate::site::RawBackend;

/// A request, octet for octet as it came, but for the body's framing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Recorded {
    /// The request line, without its end.
    pub line: Vec<u8>,
    /// Names and values, in order; of the space between them one is taken away.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Recorded {
    /// The values of a field, in order, whatever the case of its name.
    pub fn values(&self, name: &str) -> Vec<&[u8]> {
        let fits = |field: &&(Vec<u8>, Vec<u8>)| field.0.eq_ignore_ascii_case(name.as_bytes());
        self.fields.iter().filter(fits).map(|field| &field.1[..]).collect()
    }

    /// The names of all fields, in order, in their case.
    pub fn names(&self) -> Vec<String> {
        let text = |name: &Vec<u8>| String::from_utf8(name.clone()).unwrap();
        self.fields.iter().map(|field| text(&field.0)).collect()
    }

    /// Reads a head that is whole, without its empty line.
    fn read(head: &[u8]) -> Self {
        let text: Vec<&[u8]> = split(head, b"\r\n");
        let field = |line: &&[u8]| {
            let colon = line.iter().position(|octet| *octet == b':').expect("a field has a colon");
            let value = line[colon + 1..].strip_prefix(b" ").unwrap_or(&line[colon + 1..]);
            (line[..colon].to_vec(), value.to_vec())
        };
        let fields = text[1..].iter().map(field).collect();
        Self { line: text[0].to_vec(), fields, body: Vec::new() }
    }
}

fn split<'a>(octets: &'a [u8], end: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    let mut rest = octets;
    while let Some(at) = find(rest, end) {
        parts.push(&rest[..at]);
        rest = &rest[at + end.len()..];
    }
    parts.push(rest);
    parts
}

fn find(octets: &[u8], what: &[u8]) -> Option<usize> {
    octets.windows(what.len()).position(|window| window == what)
}

/// Answers every request with 200 and no body. It reads HTTP/1.1 by code of its own.
#[derive(Debug)]
pub struct Origin {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Recorded>>>,
    _backend: RawBackend,
}

impl Origin {
    /// Starts it.
    pub async fn start() -> Self {
        let seen: Arc<Mutex<Vec<Recorded>>> = Arc::default();
        let log = Arc::clone(&seen);
        let backend = RawBackend::start(move |stream| serve(stream, Arc::clone(&log))).await;
        Self { address: backend.address, seen, _backend: backend }
    }

    /// What came since it was last asked, in order.
    pub fn take(&self) -> Vec<Recorded> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

/// A connection, and what was read of it and is not understood yet.
struct Reader {
    stream: TcpStream,
    kept: Vec<u8>,
}

impl Reader {
    /// Everything up to `end`, which is taken too; `None` if the connection ends first.
    async fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = find(&self.kept, end) {
                let rest = self.kept.split_off(at + end.len());
                let mut part = std::mem::replace(&mut self.kept, rest);
                part.truncate(at);
                return Some(part);
            }
            self.more().await?;
        }
    }

    async fn octets(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.kept.len() < count {
            self.more().await?;
        }
        let rest = self.kept.split_off(count);
        Some(std::mem::replace(&mut self.kept, rest))
    }

    async fn more(&mut self) -> Option<()> {
        let count = self.stream.read_buf(&mut self.kept).await.ok()?;
        (count > 0).then_some(())
    }

    /// A request; `None` at the connection's end, whatever there is of one.
    async fn request(&mut self) -> Option<Recorded> {
        let mut request = Recorded::read(&self.until(b"\r\n\r\n").await?);
        let (length, coding) =
            (request.values("content-length"), request.values("transfer-encoding"));
        request.body = match (&length[..], &coding[..]) {
            ([], []) => Vec::new(),
            ([length], []) => {
                let length = std::str::from_utf8(length).unwrap().parse().unwrap();
                self.octets(length).await?
            }
            ([], [b"chunked"]) => self.chunks().await?,
            other => panic!("no one reading: {other:?}"),
        };
        Some(request)
    }

    /// A chunked body without trailers, which nobody sends here.
    async fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let size = self.until(b"\r\n").await?;
            let size = usize::from_str_radix(std::str::from_utf8(&size).unwrap(), 16).unwrap();
            body.extend(self.octets(size).await?);
            assert_eq!(self.octets(2).await?, b"\r\n");
            if size == 0 {
                return Some(body);
            }
        }
    }
}

async fn serve(stream: TcpStream, seen: Arc<Mutex<Vec<Recorded>>>) {
    let mut reader = Reader { stream, kept: Vec::new() };
    while let Some(request) = reader.request().await {
        seen.lock().unwrap().push(request);
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        if reader.stream.write_all(answer).await.is_err() {
            return;
        }
    }
}
