//! Shared parts of the benchmarks: what is measured, at three heights.
//!
//! [`engines`] joins two protocol engines in memory, [`peers`] two links, or two ends of another
//! multiplexer, over a loopback socket, and [`relay`] a whole relay with a client in front and a
//! backend behind it, for which [`processes`] has parts that run apart. The benchmarks in
//! `benches/` only name, size and time them; the program `compare` runs [`cases`] on the link and
//! its peers in turns and prints how they stand.
//!
//! A benchmark's id is `<room>/<operation>/<parameter>` and is never renamed silently: figures are
//! compared over time by it. Set-up is cheap, because `cargo bench -- --test` runs each once.
//!
//! criterion calls a benchmark once per sample, so fixtures are made outside, on the first call:
//! they are warm, and a filter that leaves a benchmark out costs nothing.
//!
//! A broken fixture panics: there is nobody a benchmark could hand an error to.

use bytes::Bytes;

pub mod cases;
pub mod clients;
pub mod engines;
pub mod instructions;
pub mod load;
pub mod peers;
pub mod pipes;
pub mod pki;
pub mod processes;
pub mod relay;
pub mod samples;

/// Octets of one bulk transfer.
pub const BULK_OCTETS: usize = 16 << 20;

/// Octets of a small exchange's request payload: a policy request without its attachments.
pub const SMALL_UP: usize = 300;

/// Octets of a small exchange's answer payload.
pub const SMALL_DOWN: usize = 1 << 10;

/// Octets of a head block where its content does not matter. Our choice: what a request head of
/// this site comes to.
pub const HEAD_OCTETS: usize = 128;

/// Octets of the chunks that a bulk payload is written in.
pub const CHUNK_OCTETS: usize = 64 << 10;

static OCTETS: [u8; CHUNK_OCTETS] = [0x5a; CHUNK_OCTETS];

/// Payload of `len` octets that costs nothing to make; at most [`CHUNK_OCTETS`] of them.
pub fn payload(len: usize) -> Bytes {
    Bytes::from_static(&OCTETS[..len.min(CHUNK_OCTETS)])
}
