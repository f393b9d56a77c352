//! How many streams the peer may open, and how much memory stands behind all of them.
//!
//! QUIC gives a place back to the peer as soon as both halves of a stream have ended on the wire.
//! That is too soon: a peer that opens and resets streams as fast as it can would have any number
//! of handlers at work. So a stream whose handles are still held when its send half ends keeps its
//! place here, by one stream less that QUIC may allow. So does one whose place is to go for good,
//! because its memory is given back: what QUIC has allowed once it does not take back.
//!
//! Source: CVE-2023-44487, "HTTP/2 Rapid Reset".

use quinn::{Connection, VarInt};

use crate::mux::{Config, Floors, Side};

/// Octets that the control stream may have on its way.
const CONTROL_WINDOW: u64 = 16 << 10;

/// The account of one link.
#[derive(Debug)]
pub(super) struct Admission {
    connection: Connection,
    /// The control stream takes a place where it is the peer that opens it.
    control_places: u32,
    /// What streams that the peer opens may keep unread.
    accepted: Floors,
    /// What streams that this side opens may.
    opened: Floors,
    /// Streams that have ended for QUIC, or may end any time, and that keep their places.
    withheld: u32,
    /// Streams of the peer whose work has not ended.
    accepted_open: u64,
}

impl Admission {
    pub(super) fn new(connection: Connection, side: Side, config: &Config) -> Self {
        let floors = |streams| Floors::new(config.stream_window, streams, config.memory.clone());
        let admission = Self {
            connection,
            control_places: u32::from(side == Side::Listener),
            accepted: floors(config.accept_streams_max),
            opened: floors(config.open_streams_max),
            withheld: 0,
            accepted_open: 0,
        };
        admission.announce_memory();
        admission.announce_streams();
        admission
    }

    /// Streams that this side may have open, as far as its memory goes.
    pub(super) fn openable(&self) -> usize {
        usize::try_from(self.opened.streams()).unwrap_or(usize::MAX)
    }

    /// Octets of receive memory that are reserved.
    pub(super) fn reserved(&self) -> u64 {
        self.accepted.held() + self.opened.held()
    }

    /// This side has `open` streams open. Returns whether more may be opened than before.
    pub(super) fn note_open(&mut self, open: usize) -> bool {
        let has_grown = self.opened.grow(open as u64);
        if has_grown {
            self.announce_memory();
        }
        has_grown
    }

    /// A stream that this side opened has ended, `open` others have not, and its place is not
    /// taken again: what stands behind it may go.
    pub(super) fn note_ended(&mut self, open: usize) {
        if self.opened.shrink(open as u64) {
            self.announce_memory();
        }
    }

    /// The peer has opened a stream.
    pub(super) fn accept(&mut self) {
        self.accepted_open += 1;
        self.ask_again();
    }

    /// Leases more for streams of the peer if it comes to need it. Tried as it opens one, and now
    /// and then: what other links give back is not announced.
    pub(super) fn ask_again(&mut self) {
        if self.accepted.grow(self.accepted_open) {
            self.announce_memory();
            self.announce_streams();
        }
    }

    /// Whether the place of a stream of the peer that ends now is to go, and not to come back.
    pub(super) fn is_shrinking(&self) -> bool {
        self.accepted.is_shrinking(self.accepted_open)
    }

    /// A stream that the peer opened is over, and nobody holds it.
    pub(super) fn end(&mut self) {
        self.accepted_open -= 1;
    }

    /// A stream of the peer is about to end for QUIC and is not to give its place back: not yet, or
    /// not at all.
    pub(super) fn withhold(&mut self) {
        self.withheld += 1;
        self.announce_streams();
    }

    /// Nobody holds that stream any more. Its place comes back, unless what stands behind it is
    /// given back instead: then the peer has been allowed one less already.
    pub(super) fn give_back(&mut self) {
        self.withheld -= 1;
        if self.accepted.shrink(self.accepted_open) {
            self.announce_memory();
        } else {
            self.announce_streams();
        }
    }

    fn announce_streams(&self) {
        let places = self.accepted.streams().saturating_sub(self.withheld) + self.control_places;
        self.connection.set_max_concurrent_bi_streams(places.into());
    }

    /// The connection's window has room for the windows of all streams, so it never keeps one
    /// waiting for the consumer of another.
    fn announce_memory(&self) {
        let window = VarInt::from_u64(self.reserved() + CONTROL_WINDOW).unwrap_or(VarInt::MAX);
        self.connection.set_receive_window(window);
    }
}
