//! Reads frames from whole octets, straight from the specification and with nothing in common
//! with the engine's decoder but the types of its errors.

use bytes::BytesMut;

use crate::mux::{Decoder, FrameError, FrameLimits, Item, Kind, StreamId};

/// What the receiver announced it takes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest DATA or PAD payload, in octets.
    pub payload_max: usize,
    /// Longest HEAD or TRAILERS payload, in octets.
    pub head_max: usize,
}

impl From<FrameLimits> for Limits {
    fn from(limits: FrameLimits) -> Self {
        Self { payload_max: limits.payload_max as usize, head_max: limits.head_max as usize }
    }
}

/// A frame as its numbers on the wire.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frame {
    /// The four kind bits.
    pub kind: u8,
    /// The four flag bits.
    pub flags: u8,
    /// The stream it names.
    pub stream: u32,
    /// Its payload, or what has arrived of it.
    pub payload: Vec<u8>,
    /// Whether all of the payload has arrived.
    pub whole: bool,
}

/// What can be said of the front of some octets.
#[derive(Debug, Eq, PartialEq)]
pub enum Front {
    /// The header has not arrived.
    NoHeader,
    /// A frame, perhaps not yet whole.
    Frame(Frame),
    /// Not a frame.
    Refused(FrameError),
}

/// One row per kind: number, kind, flags allowed, whether it names a stream, shortest and longest
/// payload.
type Row = (u8, Kind, u8, bool, usize, usize);

fn rows(limits: Limits) -> [Row; 11] {
    let Limits { payload_max, head_max } = limits;
    [
        (0, Kind::Data, 0b0001, true, 0, payload_max),
        (1, Kind::Head, 0b0111, true, 0, head_max),
        (2, Kind::Reset, 0, true, 4, 4),
        (3, Kind::Stop, 0, true, 4, 4),
        (4, Kind::Window, 0, true, 8, 8),
        (5, Kind::Streams, 0, false, 8, 8),
        (6, Kind::Ping, 0, false, 8, 8),
        (7, Kind::Pong, 0, false, 8, 8),
        (8, Kind::GoAway, 0, false, 8, 136),
        (9, Kind::Trailers, 0, true, 0, head_max),
        (15, Kind::Pad, 0b1000, false, 0, payload_max),
    ]
}

/// Judges the frame at the front of `octets`.
pub fn front(octets: &[u8], limits: Limits) -> Front {
    if octets.len() < 8 {
        return Front::NoHeader;
    }
    let number = |from: usize, to: usize| {
        octets[from..to].iter().fold(0u32, |number, octet| number * 256 + u32::from(*octet))
    };
    let len = number(0, 3);
    let (kind, flags) = (octets[3] / 16, octets[3] % 16);
    let stream = number(4, 8);
    if let Some(error) = refusal(kind, flags, stream, len, limits) {
        return Front::Refused(error);
    }
    let payload: Vec<u8> = octets[8..].iter().copied().take(len as usize).collect();
    let whole = payload.len() == len as usize;
    Front::Frame(Frame { kind, flags, stream, payload, whole })
}

fn refusal(kind: u8, flags: u8, stream: u32, len: u32, limits: Limits) -> Option<FrameError> {
    let rows = rows(limits);
    let too_long = |limit: usize| {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        (len > limit).then_some(FrameError::TooLong { payload_len: len, limit })
    };
    let Some(&(_, kind, allowed, of_stream, shortest, longest)) = rows.iter().find(|r| r.0 == kind)
    else {
        let skippable = flags & 8 != 0;
        return if skippable {
            too_long(limits.payload_max)
        } else {
            Some(FrameError::UnknownKind { kind })
        };
    };
    let bad_flags = FrameError::BadFlags { kind, flags };
    if flags & !allowed != 0 {
        return Some(bad_flags);
    }
    if of_stream != (stream != 0) {
        return Some(FrameError::BadStreamId { kind, stream: StreamId::from_wire(stream) });
    }
    if let Some(error) = too_long(longest) {
        return Some(error);
    }
    if (len as usize) < shortest {
        return Some(FrameError::TooShort { kind, payload_len: len });
    }
    if kind == Kind::Data && len == 0 && flags == 0 {
        return Some(FrameError::EmptyData { stream: StreamId::from_wire(stream) });
    }
    // An interim head neither opens nor ends.
    (kind == Kind::Head && flags & 4 != 0 && flags != 4).then_some(bad_flags)
}

/// Everything that a receiver learns from octets.
#[derive(Debug, Eq, PartialEq)]
pub struct Outcome {
    /// The frames. Of a frame that is not whole only DATA and skipped octets are there. A kind that
    /// is skipped is reported as PAD without flags and stream.
    pub frames: Vec<Frame>,
    /// Why the octets after the frames were refused.
    pub error: Option<FrameError>,
}

const DATA: u8 = 0;
const PAD: u8 = 15;

/// Decodes all of `octets`.
pub fn decode_all(mut octets: &[u8], limits: Limits) -> Outcome {
    let mut frames = Vec::new();
    loop {
        let frame = match front(octets, limits) {
            Front::NoHeader => return Outcome { frames, error: None },
            Front::Refused(error) => return Outcome { frames, error: Some(error) },
            Front::Frame(frame) => frame,
        };
        let known = rows(limits).iter().any(|row| row.0 == frame.kind);
        let skipped = frame.kind == PAD || !known;
        if !frame.whole {
            if (skipped || frame.kind == DATA) && !frame.payload.is_empty() {
                frames.push(as_learned(frame, skipped));
            }
            return Outcome { frames, error: None };
        }
        octets = &octets[8 + frame.payload.len()..];
        frames.push(as_learned(frame, skipped));
    }
}

/// What the receiver learns of a frame: nothing of what it skips but the length, and the end of a
/// half only from its last octet.
fn as_learned(mut frame: Frame, skipped: bool) -> Frame {
    if skipped {
        frame.payload.fill(0);
        (frame.kind, frame.flags, frame.stream) = (PAD, 0, 0);
    } else if !frame.whole {
        frame.flags = 0;
    }
    frame
}

/// What the engine's decoder makes of `octets` when they arrive in parts of the lengths `parts` and
/// the rest at once, with the parts of a payload put together again.
///
/// # Panics
///
/// If the decoder contradicts itself: parts of a payload that do not belong together, or a boundary
/// where there is none.
pub fn merged(octets: &[u8], limits: FrameLimits, parts: &[usize]) -> Outcome {
    let mut decoder = Decoder::new(limits);
    let mut input = BytesMut::new();
    let mut frames: Vec<Frame> = Vec::new();
    let mut left = octets;
    let mut parts = parts.iter();
    while !left.is_empty() {
        let len = parts.next().map_or(left.len(), |part| (*part).min(left.len()));
        input.extend_from_slice(&left[..len]);
        left = &left[len..];
        loop {
            match decoder.next(&mut input) {
                Err(error) => return Outcome { frames, error: Some(error) },
                Ok(None) => break,
                Ok(Some(item)) => merge(&mut frames, item, decoder.at_boundary()),
            }
        }
    }
    Outcome { frames, error: None }
}

fn merge(frames: &mut Vec<Frame>, item: Item, whole: bool) {
    let (first, frame) = match item {
        Item::Frame { kind, flags, stream, payload } => {
            assert!(whole, "a whole frame ends at a boundary");
            let (kind, flags) = (kind as u8, flags.bits());
            (true, Frame { kind, flags, stream: stream.number(), payload: payload.into(), whole })
        }
        Item::Data { stream, payload, end, header } => {
            let (stream, flags) = (stream.number(), u8::from(end));
            (header.is_some(), Frame { kind: DATA, flags, stream, payload: payload.into(), whole })
        }
        Item::Skipped { octets, first } => {
            (first, Frame { kind: PAD, flags: 0, stream: 0, payload: vec![0; octets], whole })
        }
    };
    if first {
        assert!(frames.last().is_none_or(|last| last.whole), "a frame began inside another");
        frames.push(frame);
        return;
    }
    let last = frames.last_mut().expect("a part that is not the first follows one");
    assert!(!last.whole && (last.kind, last.stream) == (frame.kind, frame.stream), "a stray part");
    last.payload.extend_from_slice(&frame.payload);
    (last.whole, last.flags) = (frame.whole, frame.flags);
}
