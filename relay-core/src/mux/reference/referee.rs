//! Watches the frames that one side sends at one point of the pipe, and knows what may come when.
//!
//! A pair has two for each direction: one where frames enter the pipe, which judges them by what
//! the sender had heard when it sent them, and one where they leave it, which is what "had heard"
//! means for the other side.

use std::collections::BTreeMap;

use super::decoder::{Front, Limits, front};
use crate::mux::{Config, PREFACE_LEN, Side};

/// What has been seen of one half-stream.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "what has passed, each independent of the others"
)]
pub struct Half {
    /// Whether the final head has passed; the opening counts.
    pub headed: bool,
    /// Heads that have passed, interim ones and the opening among them.
    pub heads: usize,
    /// Octets of payload.
    pub payload: u64,
    /// Whether its end has passed.
    pub ended: bool,
    /// Whether the stream was reset by the side that sends this half.
    pub reset: bool,
    /// Whether that side has asked for no more of the other half.
    pub stopped: bool,
    /// How far that side lets the other half go; `None` before its first WINDOW.
    pub window: Option<u64>,
}

/// What one side has sent, as seen at one point.
#[derive(Debug)]
pub struct Referee {
    side: Side,
    limits: Limits,
    /// Octets that are not a whole frame yet.
    buffer: Vec<u8>,
    /// Octets of `buffer` with which the frame at its front is whole: not looked at before.
    whole_at: usize,
    preface_over: bool,
    halves: BTreeMap<u32, Half>,
    opened: u32,
    /// Streams the other side may open.
    streams: u64,
    /// Where the half-streams of the other side may go before a WINDOW.
    first_window: u64,
    pings: Vec<Vec<u8>>,
    pongs: usize,
    serves: Option<u32>,
    frames: usize,
    last_code: Option<u32>,
}

const DATA: u8 = 0;
const HEAD: u8 = 1;
const RESET: u8 = 2;
const STOP: u8 = 3;
const WINDOW: u8 = 4;
const STREAMS: u8 = 5;
const PING: u8 = 6;
const PONG: u8 = 7;
const GOAWAY: u8 = 8;
const TRAILERS: u8 = 9;

const END: u8 = 1;
const OPEN: u8 = 2;
const INTERIM: u8 = 4;

impl Referee {
    /// A referee of what `side`, set up with `own`, sends to a peer set up with `peer`.
    pub fn new(side: Side, own: &Config, peer: &Config) -> Self {
        let (payload_max, head_max) = (peer.payload_max as usize, peer.head_max as usize);
        Self {
            side,
            limits: Limits { payload_max, head_max },
            buffer: Vec::new(),
            whole_at: 0,
            preface_over: false,
            halves: BTreeMap::new(),
            opened: 0,
            streams: own.accept_streams_max.into(),
            first_window: own.stream_window.into(),
            pings: Vec::new(),
            pongs: 0,
            serves: None,
            frames: 0,
            last_code: None,
        }
    }

    /// What has been seen of the half of `stream` that this side sends.
    pub fn half(&self, stream: u32) -> Option<&Half> {
        self.halves.get(&stream)
    }

    /// How far this side lets the other half of `stream` go, as seen here.
    pub fn window(&self, stream: u32) -> u64 {
        self.half(stream).and_then(|half| half.window).unwrap_or(self.first_window)
    }

    /// Streams this side lets the other open, from the beginning, as seen here.
    pub fn streams(&self) -> u64 {
        self.streams
    }

    /// Streams this side was seen to open.
    pub fn opened(&self) -> u32 {
        self.opened
    }

    /// The highest stream that the last GOAWAY of this side names.
    pub fn serves(&self) -> Option<u32> {
        self.serves
    }

    /// Frames seen.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// The code of the last frame seen, if that was a GOAWAY.
    pub fn last_code(&self) -> Option<u32> {
        self.last_code
    }

    /// Takes `octets` that pass. `heard` is what the sender has heard from its peer; without it
    /// only what this side says by itself is judged.
    ///
    /// # Panics
    ///
    /// At the first thing that must not be.
    pub fn see(&mut self, octets: &[u8], heard: Option<&Self>) {
        self.buffer.extend_from_slice(octets);
        if !self.preface_over {
            let Some(preface) = self.buffer.first_chunk::<PREFACE_LEN>() else { return };
            let [.., l3, l2, l1, l0] = *preface;
            let whole = PREFACE_LEN + u32::from_be_bytes([l3, l2, l1, l0]) as usize;
            if self.buffer.len() < whole {
                return;
            }
            self.buffer.drain(..whole);
            self.preface_over = true;
        }
        while self.buffer.len() >= self.whole_at {
            let frame = match front(&self.buffer, self.limits) {
                Front::Refused(error) => panic!("{:?} sent a malformed frame: {error}", self.side),
                Front::Frame(frame) if frame.whole => frame,
                Front::Frame(_) => {
                    let len = &self.buffer[..3];
                    self.whole_at = len.iter().fold(0, |n, octet| n << 8 | usize::from(*octet)) + 8;
                    return;
                }
                Front::NoHeader => return,
            };
            self.whole_at = 0;
            self.buffer.drain(..8 + frame.payload.len());
            self.judge(frame.kind, frame.flags, frame.stream, &frame.payload);
            if let Some(heard) = heard {
                self.judge_by(heard, frame.kind, frame.stream);
            }
        }
    }

    /// Whether what was seen ends with a whole frame.
    pub fn at_boundary(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Judges a frame by what this side has sent before.
    fn judge(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let side = self.side;
        self.frames += 1;
        self.last_code = None;
        match kind {
            STREAMS => {
                let total = number(payload);
                assert!(total > self.streams, "{side:?}: STREAMS {total} says nothing new");
                self.streams = total;
            }
            PING => self.pings.push(payload.to_vec()),
            PONG => self.pongs += 1,
            GOAWAY => {
                let last = u32::from_be_bytes([payload[0], payload[1], payload[2], payload[3]]);
                assert!(self.serves.is_none_or(|before| last <= before), "GOAWAY went up");
                self.serves = Some(last);
                let [.., c3, c2, c1, c0] = *payload.first_chunk::<8>().expect("GOAWAY has eight");
                self.last_code = Some(u32::from_be_bytes([c3, c2, c1, c0]));
            }
            _ => self.judge_stream(kind, flags, stream, payload),
        }
    }

    fn judge_stream(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let side = self.side;
        let whose = if stream % 2 == 1 { Side::Listener } else { Side::Dialer };
        let context = format!("{side:?} stream {stream} kind {kind} flags {flags}");
        if kind == HEAD && flags & OPEN != 0 {
            let first = if side == Side::Listener { 1 } else { 2 };
            assert_eq!(stream, first + 2 * self.opened, "{context}: streams open in order");
            self.opened += 1;
        } else if whose == side {
            assert!(self.halves.contains_key(&stream), "{context}: its opening comes first");
        }
        let half = self.halves.entry(stream).or_default();
        assert!(!half.reset, "{context}: nothing follows a RESET");
        if matches!(kind, DATA | HEAD | TRAILERS) {
            assert!(!half.ended, "{context}: nothing follows the end");
            half.ended = flags & END != 0 || kind == TRAILERS;
        }
        match kind {
            HEAD => {
                assert!(!half.headed, "{context}: one final head only");
                half.heads += 1;
                half.headed = flags & INTERIM == 0;
            }
            DATA | TRAILERS => {
                let bare_end = half.ended && payload.is_empty();
                assert!(half.headed || bare_end, "{context}: a head comes first");
                half.payload += if kind == DATA { payload.len() as u64 } else { 0 };
            }
            RESET => half.reset = true,
            STOP => {
                assert!(!half.stopped, "{context}: one STOP is enough");
                half.stopped = true;
            }
            WINDOW => {
                let limit = number(payload);
                let before = half.window.unwrap_or(self.first_window);
                assert!(limit > before, "{context}: a grant of {limit} after {before}");
                assert!(!half.stopped, "{context}: no grant after STOP");
                half.window = Some(limit);
            }
            _ => panic!("{context}: not a frame that an engine sends"),
        }
    }

    /// Judges the frame just seen by what its sender has heard.
    fn judge_by(&self, heard: &Self, kind: u8, stream: u32) {
        let side = self.side;
        assert!(u64::from(self.opened) <= heard.streams, "{side:?} opened more than was granted");
        assert!(self.pongs <= heard.pings.len(), "{side:?} answered a PING that was not sent");
        let Some(own) = self.half(stream) else { return };
        let context = format!("{side:?} stream {stream} kind {kind}");
        assert!(own.payload <= heard.window(stream), "{context}: more than was granted");
        let Some(other) = heard.half(stream) else {
            let ours = stream_is_of(side, stream);
            assert!(ours, "{context}: it was not opened");
            return;
        };
        // The one frame that may follow: the acceptor's answer, where it has not ended its half.
        let answers = kind == RESET && stream_is_of(side.peer(), stream) && !own.ended;
        assert!(!other.reset || answers, "{context}: sent after the peer's RESET was heard");
        assert!(kind != WINDOW || !other.ended, "{context}: a grant for a half that has ended");
        let unwanted = other.stopped && matches!(kind, HEAD | TRAILERS);
        assert!(!unwanted, "{context}: sent after the peer's STOP was heard");
    }
}

/// Whether `side` opens streams of this number.
fn stream_is_of(side: Side, stream: u32) -> bool {
    (stream % 2 == 1) == (side == Side::Listener)
}

fn number(payload: &[u8]) -> u64 {
    payload.iter().fold(0, |number, octet| number << 8 | u64::from(*octet))
}
