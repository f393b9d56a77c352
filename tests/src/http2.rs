//! A client over HTTP/2 that sends the very frames it is given, and knows no state: what a
//! well-behaved client never sends is what it is for.
//!
//! Numbers of frames, flags, settings and codes are those of RFC 9113, sections 6 and 7. Field
//! blocks have neither Huffman coding nor the dynamic table (RFC 7541, section 6.2.2).

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a failed step of a test's set-up is a failed test"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;

use relay_core::gateway::Gateway;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::client::{pipe_to, tls};
use crate::pki::SiteCa;
use crate::roles::SERVICE;

/// What a client says before its first frame.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames.
pub mod kind {
    #![allow(missing_docs, reason = "they have the names of RFC 9113, section 6")]
    pub const DATA: u8 = 0x0;
    pub const HEADERS: u8 = 0x1;
    pub const PRIORITY: u8 = 0x2;
    pub const RST_STREAM: u8 = 0x3;
    pub const SETTINGS: u8 = 0x4;
    pub const PUSH_PROMISE: u8 = 0x5;
    pub const PING: u8 = 0x6;
    pub const GOAWAY: u8 = 0x7;
    pub const WINDOW_UPDATE: u8 = 0x8;
    pub const CONTINUATION: u8 = 0x9;
}

/// The flag of PING and SETTINGS that answer one.
pub const ACK: u8 = 0x1;
/// The flag of the last frame of a message.
pub const END_STREAM: u8 = 0x1;
/// The flag of the last frame of a field block.
pub const END_HEADERS: u8 = 0x4;
/// The flag of a frame with padding.
pub const PADDED: u8 = 0x8;
/// The flag of HEADERS with a priority.
pub const PRIORITY: u8 = 0x20;
/// HEADERS that are a whole request.
pub const WHOLE: u8 = END_STREAM | END_HEADERS;

/// Codes of errors.
pub mod code {
    #![allow(missing_docs, reason = "they have the names of RFC 9113, section 7")]
    pub const NO_ERROR: u32 = 0x0;
    pub const PROTOCOL_ERROR: u32 = 0x1;
    pub const FLOW_CONTROL_ERROR: u32 = 0x3;
    pub const STREAM_CLOSED: u32 = 0x5;
    pub const FRAME_SIZE_ERROR: u32 = 0x6;
    pub const REFUSED_STREAM: u32 = 0x7;
    pub const CANCEL: u32 = 0x8;
    pub const COMPRESSION_ERROR: u32 = 0x9;
    pub const ENHANCE_YOUR_CALM: u32 = 0xb;
}

/// A frame.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, l0, l1, l2] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut octets = vec![l0, l1, l2, kind, flags];
    octets.extend_from_slice(&stream.to_be_bytes());
    octets.extend_from_slice(payload);
    octets
}

/// One setting of a SETTINGS frame.
#[must_use]
pub fn setting(id: u16, value: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

/// An integer with a prefix of `bits` bits, in whose first octet `high` is set: RFC 7541,
/// section 5.1.
#[must_use]
pub fn integer(bits: u8, high: u8, mut value: usize) -> Vec<u8> {
    let most = (1_usize << bits) - 1;
    if value < most {
        return vec![high | u8::try_from(value).unwrap()];
    }
    let mut octets = vec![high | u8::try_from(most).unwrap()];
    value -= most;
    while value >= 128 {
        octets.push(u8::try_from(value % 128).unwrap() | 128);
        value /= 128;
    }
    octets.push(u8::try_from(value).unwrap());
    octets
}

/// A string without Huffman coding.
#[must_use]
pub fn string(text: &[u8]) -> Vec<u8> {
    [integer(7, 0, text.len()), text.to_vec()].concat()
}

/// A field that nobody is to keep in a table.
#[must_use]
pub fn field(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    [vec![0], string(name.as_ref()), string(value.as_ref())].concat()
}

/// A field block.
#[must_use]
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| field(name, value)).collect()
}

/// The pseudo-header fields of a request.
#[must_use]
pub fn asks<'a>(method: &'a str, path: &'a str) -> [(&'a str, &'a str); 4] {
    [(":method", method), (":scheme", "https"), (":authority", SERVICE), (":path", path)]
}

/// What a client begins with. It keeps no table of fields, so that each answer says its status.
#[must_use]
pub fn hello() -> Vec<u8> {
    const HEADER_TABLE_SIZE: u16 = 1;
    let settings = frame(kind::SETTINGS, 0, 0, &setting(HEADER_TABLE_SIZE, 0));
    [PREFACE, &settings].concat()
}

/// A frame that came.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream; 0 for the connection.
    pub stream: u32,
    /// Its payload.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Whether it is the last of its stream.
    pub fn ends_stream(&self) -> bool {
        let may = matches!(self.kind, kind::DATA | kind::HEADERS);
        self.kind == kind::RST_STREAM || (may && self.flags & END_STREAM != 0)
    }

    /// The number at `at` of the payload.
    pub fn number(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

/// A connection of HTTP/2.
#[derive(Debug)]
pub struct Http2Client<P = DuplexStream> {
    stream: TlsStream<P>,
    kept: Vec<u8>,
    heads: Heads,
}

impl Http2Client {
    /// Connects to `gateway` in memory and says nothing yet.
    pub async fn connect(gateway: &Gateway, ca: &SiteCa) -> Self {
        Self::over(pipe_to(gateway), ca).await
    }

    /// Connects to `gateway` in memory and begins.
    pub async fn join(gateway: &Gateway, ca: &SiteCa) -> Self {
        let mut client = Self::connect(gateway, ca).await;
        client.send(&hello()).await;
        client
    }
}

impl Http2Client<TcpStream> {
    /// Connects to a gateway's client port and begins.
    pub async fn dial(address: SocketAddr, ca: &SiteCa) -> Self {
        let mut client = Self::over(TcpStream::connect(address).await.unwrap(), ca).await;
        client.send(&hello()).await;
        client
    }
}

impl<P: AsyncRead + AsyncWrite + Unpin> Http2Client<P> {
    async fn over(pipe: P, ca: &SiteCa) -> Self {
        let stream = tls(pipe, ca, b"h2").await;
        Self { stream, kept: Vec::new(), heads: Heads::default() }
    }

    /// Sends octets. What the gateway no longer takes is lost.
    pub async fn send(&mut self, octets: &[u8]) {
        if self.stream.write_all(octets).await.is_ok() {
            let _ = self.stream.flush().await;
        }
    }

    /// Asks for something that has no body.
    pub async fn get(&mut self, stream: u32, path: &str) {
        let block = block(&asks("GET", path));
        self.send(&frame(kind::HEADERS, WHOLE, stream, &block)).await;
    }

    /// The next frame; `None` at the connection's end.
    pub async fn next(&mut self) -> Option<Frame> {
        let length = |head: &[u8]| u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        while self.kept.len() < 9 || self.kept.len() < 9 + length(&self.kept) {
            let count = self.stream.read_buf(&mut self.kept).await.ok()?;
            if count == 0 {
                return None;
            }
        }
        let rest = self.kept.split_off(9 + length(&self.kept));
        let octets = std::mem::replace(&mut self.kept, rest);
        let stream = u32::from_be_bytes(octets[5..9].try_into().unwrap());
        let (kind, flags) = (octets[3], octets[4]);
        let frame = Frame { kind, flags, stream, payload: octets[9..].to_vec() };
        self.heads.note(&frame);
        Some(frame)
    }

    /// Reads until a frame is as `wanted`; `None` at the connection's end.
    pub async fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if wanted(&frame) {
                return Some(frame);
            }
        }
    }

    /// Reads until `stream` has ended, and returns the status of its answer.
    pub async fn status(&mut self, stream: u32) -> Option<u16> {
        self.until(|frame| frame.stream == stream && frame.ends_stream()).await?;
        self.status_of(stream)
    }

    /// The status of the answer that came on `stream`.
    pub fn status_of(&self, stream: u32) -> Option<u16> {
        self.heads.statuses.get(&stream).and_then(|all| all.last().copied())
    }

    /// All statuses that came on `stream`, interim ones too.
    pub fn statuses_of(&self, stream: u32) -> &[u16] {
        self.heads.statuses.get(&stream).map_or(&[], |all| all)
    }
}

/// The statuses of answers, out of the first field of their heads.
#[derive(Debug, Default)]
struct Heads {
    statuses: BTreeMap<u32, Vec<u16>>,
}

impl Heads {
    fn note(&mut self, frame: &Frame) {
        if frame.kind != kind::HEADERS {
            return;
        }
        let Some(status) = status(&frame.payload) else { return };
        self.statuses.entry(frame.stream).or_default().push(status);
    }
}

/// The status that a field block begins with; `None` if it is one of trailers.
fn status(block: &[u8]) -> Option<u16> {
    // RFC 7541, appendix A: 8 to 14, and the index of the name.
    const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    match *block {
        // The table is no larger than the client has set.
        [0x20, ref rest @ ..] => status(rest),
        [first @ 0x88..=0x8e, ..] => Some(INDEXED[usize::from(first - 0x88)]),
        [0x48 | 0x08 | 0x18, length, ref rest @ ..] => {
            let text = &rest[..usize::from(length & 0x7f)];
            let digits = if length & 0x80 == 0 { text.to_vec() } else { unpacked(text) };
            String::from_utf8(digits).ok()?.parse().ok()
        }
        _ => None,
    }
}

/// Three digits out of their Huffman code: RFC 7541, appendix B.
fn unpacked(octets: &[u8]) -> Vec<u8> {
    let bits: Vec<u8> =
        octets.iter().flat_map(|it| (0..8).rev().map(move |at| it >> at & 1)).collect();
    let (mut at, mut digits) = (0, Vec::new());
    let number = |bits: &[u8]| bits.iter().fold(0, |sum, bit| sum * 2 + bit);
    while digits.len() < 3 {
        let short = number(&bits[at..at + 5]);
        if short < 3 {
            digits.push(b'0' + short);
            at += 5;
        } else {
            digits.push(b'0' + number(&bits[at..at + 6]) - 0b01_1001 + 3);
            at += 6;
        }
    }
    digits
}
