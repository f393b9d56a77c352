//! Something that can be done to a pair of engines, in four octets.

use crate::mux::{HeadKind, Side};

/// One operation. `pick` chooses among the newest eight streams that the side knows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Op {
    /// Everything ready is sent and delivered, both ways, until nothing is left.
    Settle,
    /// The side puts one batch together, of which the pipe takes at most so many octets.
    Transmit(Side, usize),
    /// The side gets at most so many octets of what the other has sent.
    Deliver(Side, usize),
    /// The clock goes on by so many milliseconds.
    Advance(u16),
    /// The side opens a stream with a head of so many octets; `true`: no payload follows.
    Open(Side, usize, bool),
    /// The side queues a head of so many octets.
    SendHead(Side, u8, usize, HeadKind),
    /// The side writes so many octets.
    Write(Side, u8, usize),
    /// The side waits for room on a stream.
    WantRoom(Side, u8),
    /// The side finishes its half.
    Finish(Side, u8),
    /// The side finishes its half with a block of so many octets.
    Trailers(Side, u8, usize),
    /// The side resets a stream.
    Reset(Side, u8),
    /// The side wants no more of a stream.
    Stop(Side, u8),
    /// The side has passed on so many octets of a stream.
    Take(Side, u8, usize),
    /// The side has passed on all it got.
    TakeAll(Side),
    /// The side lets go of a stream.
    Release(Side, u8),
    /// The side takes no more streams.
    Drain(Side),
    /// The side ends the link. Nothing is predicted from here on, but that it stays ended.
    Close(Side),
    /// The side loses its pipe. Nothing is predicted from here on, but that it stays lost.
    Lose(Side),
    /// The peer of the side turns hostile: the side gets a frame of any form. Nothing is predicted
    /// from here on, but no engine may panic or exceed its memory.
    Inject(Side, Injected),
}

/// A frame of any form.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Injected {
    /// The fourth octet of the header: kind and flags.
    pub kind_and_flags: u8,
    /// The stream, at most 255.
    pub stream: u8,
    /// Low five bits: how far the payload's length is from what the kind has. High three: the octet
    /// the payload is filled with.
    pub shape: u8,
}

impl Op {
    /// The operation that four octets mean; every value means one. All zero is [`Op::Settle`], so
    /// that shrinking tends to a quiet link.
    pub fn from_octets([what, pick, long, short]: [u8; 4]) -> Self {
        let side = if what & 0x80 == 0 { Side::Listener } else { Side::Dialer };
        let len = usize::from(u16::from_be_bytes([long, short]));
        // Longer than every head limit now and then, mostly not.
        let block = if long >= 0xf0 { 200 + usize::from(short) } else { usize::from(short % 64) };
        match what & 0x1f {
            0 => Self::Settle,
            1..=3 => Self::Transmit(side, if long == 0 { usize::MAX } else { len % 2048 }),
            4..=7 => Self::Deliver(side, if long == 0 { usize::MAX } else { len % 700 }),
            8 => Self::Advance(u16::from_be_bytes([long, short]) % 6000),
            9 => Self::Advance(u16::from(short % 32)),
            10..=12 => Self::Open(side, block, long & 7 == 7),
            13..=14 => Self::SendHead(side, pick, block, head_kind(long)),
            15..=18 => Self::Write(side, pick, len % 3000),
            19..=20 => Self::Finish(side, pick),
            21 => Self::Trailers(side, pick, block),
            22 => Self::Reset(side, pick),
            23 => Self::Stop(side, pick),
            24..=25 => Self::Take(side, pick, len % 1500),
            26 => Self::TakeAll(side),
            27 => Self::WantRoom(side, pick),
            28..=29 => Self::Release(side, pick),
            30 if long == 0xff => Self::Drain(side),
            30 if long == 0xfe => Self::Close(side),
            30 if long == 0xfd => Self::Lose(side),
            // So that a few operations fill what has room for tens of KiB.
            30 if long == 0xfc => Self::Write(side, pick, usize::from(short) << 8),
            30 if long == 0xfb => Self::Transmit(side, usize::from(short) << 8),
            30 => Self::Take(side, pick, usize::MAX),
            // Rare: it ends the predictions.
            _ if what & 0x60 == 0x60 => {
                Self::Inject(side, Injected { kind_and_flags: pick, stream: long, shape: short })
            }
            _ => Self::Deliver(side, usize::from(short % 16)),
        }
    }
}

fn head_kind(octet: u8) -> HeadKind {
    match octet % 4 {
        0 => HeadKind::Interim,
        1 => HeadKind::FinalAndEnd,
        _ => HeadKind::Final,
    }
}

impl Injected {
    /// The frame's octets.
    pub fn encode(self) -> Vec<u8> {
        let natural: u32 = match self.kind_and_flags >> 4 {
            2 | 3 => 4,
            4..=8 => 8,
            _ => 24,
        };
        let len = match self.shape & 0x1f {
            off @ 0..=7 => natural + u32::from(off),
            off @ 8..=11 => natural - u32::from(off - 8),
            12 => 0,
            13 => 256,
            14 => 257,
            15 => 0x00ff_ffff,
            _ => natural,
        };
        let fill = [0x00, 0x01, 0x04, 0x7f, 0x80, 0xfe, 0xff, 0x20][usize::from(self.shape >> 5)];
        let mut octets = len.to_be_bytes()[1..].to_vec();
        octets.extend_from_slice(&[self.kind_and_flags, 0, 0, 0, self.stream]);
        // A payload that is announced as longer than every limit is never sent.
        octets.resize(8 + if len > 1024 { 0 } else { len as usize }, fill);
        octets
    }
}
