//! What one side knows of one stream, by its own commands and by the events it was told.

use std::time::Instant;

use crate::mux::{SendError, Side, StreamCode, StreamId};

/// The sending half, as its owner sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sending {
    /// No final head yet.
    AwaitHead,
    /// Payload may be written.
    Open,
    /// The end was queued.
    Finishing,
    /// The peer wants no more.
    Stopped(StreamCode),
    /// The stream was reset, by either side.
    Reset(StreamCode),
}

/// The receiving half, as its owner sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Receiving {
    /// No final head yet.
    AwaitHead,
    /// Payload may arrive.
    Open,
    /// This side wants no more, and is told no more.
    Stopping,
    /// Its end was told.
    Ended,
    /// The stream was reset, by either side.
    Reset,
}

/// A head or block that was queued.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Block {
    /// Its octets.
    pub octets: Vec<u8>,
    /// Whether another head follows.
    pub interim: bool,
}

/// One stream, as one side knows it.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "what has happened, each independent of the others"
)]
pub struct View {
    /// Its number.
    pub id: StreamId,
    /// The half this side sends.
    pub send: Sending,
    /// The half this side receives.
    pub recv: Receiving,
    /// Whether this side has let go of it.
    pub released: bool,
    /// Whether this side was told after that that the stream is forgotten.
    pub forgotten: bool,
    /// Whether a write left something over and no event has said since that there is room.
    pub wants_room: bool,
    /// The heads this side has queued.
    pub heads: Vec<Block>,
    /// Octets of payload this side has queued.
    pub written: u64,
    /// The trailers this side has queued.
    pub trailers: Option<Vec<u8>>,
    /// Heads this side was told of.
    pub heads_told: usize,
    /// Octets of payload this side was told of.
    pub read: u64,
    /// Octets of payload this side has passed on.
    pub taken: u64,
    /// Events that told this side the end of the half it receives.
    pub ends_told: u32,
    /// Events that told this side that the stream was reset.
    pub resets_told: u32,
    /// The code this side has reset the stream with.
    pub own_reset: Option<StreamCode>,
    /// Whether this side, which opened it, has reset it before the other half had ended.
    pub abandoned: bool,
    /// The code this side has stopped the other half with.
    pub own_stop: Option<StreamCode>,
    /// Since when payload waits of which this side has passed on nothing.
    pub waits_since: Option<Instant>,
    /// Whether this side's engine has reset the stream because payload waited for too long.
    pub stalled: bool,
}

impl View {
    /// A stream that this side has opened, or (`false`) that the peer has.
    pub fn new(id: StreamId, opened_here: bool) -> Self {
        let (send, recv) = if opened_here {
            (Sending::Open, Receiving::AwaitHead)
        } else {
            (Sending::AwaitHead, Receiving::Open)
        };
        Self {
            id,
            send,
            recv,
            released: false,
            forgotten: false,
            wants_room: false,
            heads: Vec::new(),
            written: 0,
            trailers: None,
            heads_told: 0,
            read: 0,
            taken: 0,
            ends_told: 0,
            resets_told: 0,
            own_reset: None,
            abandoned: false,
            own_stop: None,
            waits_since: None,
            stalled: false,
        }
    }

    /// What a command that needs an open sending half is answered now; `None`: it is taken.
    pub fn refusal(&self, needs: Sending) -> Option<SendError> {
        match self.send {
            state if state == needs => None,
            Sending::AwaitHead | Sending::Open => Some(SendError::OutOfOrder),
            Sending::Finishing => Some(SendError::Finished),
            Sending::Stopped(code) => Some(SendError::Stopped(code)),
            Sending::Reset(code) => Some(SendError::Reset(code)),
        }
    }

    /// Whether its acceptor may do nothing more for it: it has let go of it, or has ended or reset
    /// its own half.
    pub fn has_let_go(&self) -> bool {
        self.released || self.send == Sending::Finishing || self.own_reset.is_some()
    }

    /// Takes that `side`, whose view this is, has reset the stream.
    pub fn was_reset_here(&mut self, side: Side, code: StreamCode) {
        self.own_reset = Some(code);
        self.abandoned = self.id.opener() == side && self.recv == Receiving::Reset;
    }

    /// Takes the end of the receiving half, as an event tells it.
    pub fn end_is_told(&mut self) {
        self.recv = Receiving::Ended;
        self.ends_told += 1;
    }

    /// Whether the receiving half ended as often as it should: once or, while it is open, not yet.
    /// Exactly one of an end, a reset by the peer, and what this side did itself has ended it.
    pub fn ended_once(&self) -> bool {
        let (ends, resets) = (self.ends_told, self.resets_told);
        match self.recv {
            Receiving::AwaitHead | Receiving::Open => ends == 0 && resets == 0,
            // What the peer sends on is told no more; that it gives up our half is.
            Receiving::Stopping => ends == 0 && resets <= 1 && self.own_stop.is_some(),
            // The half this side sends may be reset later.
            Receiving::Ended => ends == 1 && resets <= 1,
            // An engine tells what it did itself, an owner is not told what it did.
            Receiving::Reset => {
                ends == 0 && u32::from(self.stalled || self.own_reset.is_none()) == resets
            }
        }
    }

    /// Takes that payload arrived or, `passed_on`, that this side has passed on some.
    pub fn payload_moved(&mut self, passed_on: bool, now: Instant) {
        if self.held() == 0 {
            self.waits_since = None;
        } else if passed_on || self.waits_since.is_none() {
            self.waits_since = Some(now);
        }
    }

    /// Octets received and not passed on.
    pub fn held(&self) -> u64 {
        if self.recv == Receiving::Open || self.recv == Receiving::Ended {
            self.read.saturating_sub(self.taken)
        } else {
            0
        }
    }
}

/// The octet at `offset` of the half of stream `id` that `from` sends. Neighbouring streams, both
/// directions, and offsets shifted by any likely amount differ.
pub fn octet(id: StreamId, from: Side, offset: u64) -> u8 {
    let salt = u64::from(id.number()) * 2 + u64::from(from == Side::Dialer);
    let mixed =
        (offset + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt.wrapping_mul(0xd1b5_4a32_d192_ed03);
    (mixed ^ mixed >> 29).to_be_bytes()[2]
}

/// `len` octets of that half from `offset` on.
pub fn payload(id: StreamId, from: Side, offset: u64, len: usize) -> Vec<u8> {
    (offset..).take(len).map(|offset| octet(id, from, offset)).collect()
}

/// The `index`-th block of that half, of `len` octets.
pub fn block(id: StreamId, from: Side, index: usize, len: usize) -> Vec<u8> {
    payload(id, from, (index as u64 + 1) << 32, len)
}
