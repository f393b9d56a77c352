//! What carries a link's octets, for the tests that run the same operations over all of it.
//!
//! The pipes of memory are in [`relay_core::mux::reference::carrier`]; here is what needs more than
//! the mux may know of.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a failed step of a test's set-up is a failed test"
)]

use std::collections::VecDeque;
use std::io::{IoSlice, Read, Write};
use std::sync::{Arc, LazyLock};

use relay_core::mux::Side;
use relay_core::mux::reference::carrier::Carrier;
use relay_core::transport::{LINK_ALPN, link_client_config, link_server_config};
use rustls::pki_types::ServerName;
use rustls::{
    ClientConfig, ClientConnection, Connection, ProtocolVersion, ServerConfig, ServerConnection,
};

use crate::pki::SiteCa;

/// Octets of records that reach the other end at once: no record ends there but by chance.
const PIECE_OCTETS: usize = 1000;

/// Octets that one end encrypts before its records are on their way: a longer write is taken in
/// part. Not a multiple of what the mux counts in.
const WRITE_OCTETS_MAX: usize = 5001;

/// The gateway's name in its certificate.
const NAME: &str = "gateway.test";

/// TLS as links have it, both ends authenticated, without sockets: records go through memory.
#[derive(Debug)]
pub struct Tls {
    listener: End,
    dialer: End,
}

/// One end, and the records on their way to it.
#[derive(Debug)]
struct End {
    tls: Connection,
    records: VecDeque<u8>,
}

/// Made once: what is tested is a link, not the making of certificates.
static CONFIGS: LazyLock<(Arc<ServerConfig>, Arc<ClientConfig>)> = LazyLock::new(|| {
    let ca = SiteCa::new();
    let listener = link_server_config(&ca.server(NAME), &ca.anchors()).unwrap();
    let dialer = link_client_config(&ca.connection_point("cp-1"), &ca.anchors()).unwrap();
    (listener, dialer)
});

impl Default for Tls {
    fn default() -> Self {
        Self::new()
    }
}

impl Tls {
    /// Two ends whose handshake is over.
    pub fn new() -> Self {
        let (listener, dialer) = &*CONFIGS;
        let name = ServerName::try_from(NAME).unwrap();
        let listener = ServerConnection::new(Arc::clone(listener)).unwrap();
        let dialer = ClientConnection::new(Arc::clone(dialer), name).unwrap();
        let mut ends = Self { listener: End::new(listener), dialer: End::new(dialer) };
        // The dialer has the last word of the handshake, and then the listener has tickets to give.
        while ends.step(Side::Listener) || ends.step(Side::Dialer) {}
        for end in [&ends.listener.tls, &ends.dialer.tls] {
            assert!(!end.is_handshaking(), "the handshake is over");
            assert!(end.peer_certificates().is_some(), "both ends have shown a certificate");
            assert_eq!(end.protocol_version(), Some(ProtocolVersion::TLSv1_3));
            assert_eq!(end.alpn_protocol(), Some(LINK_ALPN));
        }
        ends
    }

    fn both(&mut self, side: Side) -> (&mut End, &mut End) {
        match side {
            Side::Listener => (&mut self.listener, &mut self.dialer),
            Side::Dialer => (&mut self.dialer, &mut self.listener),
        }
    }

    /// One piece of records reaches `to`, and what it answers by itself is sent. Returns whether
    /// there was one.
    fn step(&mut self, to: Side) -> bool {
        let (end, other) = self.both(to);
        other.send(end);
        let is_something = end.receive_piece();
        end.send(other);
        is_something
    }
}

impl End {
    fn new(tls: impl Into<Connection>) -> Self {
        let mut tls = tls.into();
        tls.set_buffer_limit(Some(WRITE_OCTETS_MAX));
        Self { tls, records: VecDeque::new() }
    }

    /// Records that are ready are put on their way.
    fn send(&mut self, other: &mut Self) {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut other.records).unwrap();
        }
    }

    fn receive_piece(&mut self) -> bool {
        let len = self.records.len().min(PIECE_OCTETS);
        let piece: Vec<u8> = self.records.drain(..len).collect();
        let mut left = &piece[..];
        while !left.is_empty() {
            self.tls.read_tls(&mut left).unwrap();
            self.tls.process_new_packets().unwrap();
        }
        len > 0
    }

    /// Payload that has been decrypted, at most so many octets of it.
    fn read(&mut self, octets_max: usize) -> Vec<u8> {
        let waiting = self.tls.process_new_packets().unwrap().plaintext_bytes_to_read();
        let mut octets = vec![0; waiting.min(octets_max)];
        self.tls.reader().read_exact(&mut octets).unwrap();
        octets
    }
}

impl Carrier for Tls {
    fn write(&mut self, from: Side, slices: &[IoSlice<'_>], octets_max: usize) -> usize {
        let (end, other) = self.both(from);
        let mut taken = 0;
        for slice in slices {
            let part = &slice[..slice.len().min(octets_max - taken)];
            let written = end.tls.writer().write(part).unwrap();
            taken += written;
            if written < part.len() {
                break;
            }
        }
        end.send(other);
        taken
    }

    fn read(&mut self, to: Side, octets_max: usize) -> Vec<u8> {
        if octets_max == 0 {
            return Vec::new();
        }
        loop {
            let octets = self.both(to).0.read(octets_max);
            if !octets.is_empty() || !self.step(to) {
                return octets;
            }
        }
    }
}
