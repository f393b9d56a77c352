//! The frame header: eight octets, read as one big-endian `u64`.
//!
//! ```text
//!  63                    40 39  36 35  32 31                           0
//! +------------------------+------+------+------------------------------+
//! |      length : 24       |kind:4|flag:4|         stream : 32          |
//! +------------------------+------+------+------------------------------+
//! ```
//!
//! This file judges a header by itself: kind, flags, length and stream id against the limits this
//! side announced. Whether the frame is allowed *now* is for the stream's state to say.

use std::fmt;

use super::error::FrameError;

/// Octets in every frame header.
pub const HEADER_LEN: usize = 8;

/// Octets of GOAWAY before its text: last stream id and code.
pub(super) const GOAWAY_FIXED_LEN: u32 = 8;

/// Longest text in a GOAWAY, in octets.
pub const GOAWAY_TEXT_MAX: u32 = 128;

/// A stream's number on its link.
///
/// The listener (the gateway) opens odd streams, the dialer (the connection point) even ones. Each
/// side's numbers are consecutive and never reused. 0 is the link itself.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct StreamId(u32);

impl StreamId {
    /// The link itself.
    pub const LINK: Self = Self(0);

    /// The id with this number on the wire.
    pub const fn from_wire(number: u32) -> Self {
        Self(number)
    }

    /// The number on the wire.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The `index`-th stream (from 0) that `opener` opens; `None` when its numbers are used up.
    pub fn nth(opener: Side, index: u32) -> Option<Self> {
        let first: u32 = match opener {
            Side::Listener => 1,
            Side::Dialer => 2,
        };
        index.checked_mul(2)?.checked_add(first).map(Self)
    }

    /// Which side opens streams with this number.
    pub const fn opener(self) -> Side {
        if self.0 % 2 == 1 { Side::Listener } else { Side::Dialer }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which end of the link this is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Side {
    /// The end that dialled: a connection point.
    Dialer,
    /// The end that accepted: a gateway instance.
    Listener,
}

impl Side {
    /// The other end.
    #[must_use]
    pub const fn peer(self) -> Self {
        match self {
            Self::Dialer => Self::Listener,
            Self::Listener => Self::Dialer,
        }
    }
}

/// What a frame is for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum Kind {
    /// Payload of a stream.
    Data = 0,
    /// One whole head block; with [`Flags::OPEN`] it creates the stream.
    Head = 1,
    /// Aborts both halves of a stream.
    Reset = 2,
    /// The receiver wants no more of this half.
    Stop = 3,
    /// Absolute offset up to which the receiver takes payload.
    Window = 4,
    /// Cumulative count of streams that the receiver lets its peer open.
    Streams = 5,
    /// Asks for a PONG with the same eight octets.
    Ping = 6,
    /// Answers a PING.
    Pong = 7,
    /// The sender takes no streams above the given id, and says why.
    GoAway = 8,
    /// A field block after the last payload; implies the end of the half.
    Trailers = 9,
    /// Skipped by the receiver.
    Pad = 15,
}

impl Kind {
    /// Every kind of version 1.
    pub const ALL: [Self; 11] = [
        Self::Data,
        Self::Head,
        Self::Reset,
        Self::Stop,
        Self::Window,
        Self::Streams,
        Self::Ping,
        Self::Pong,
        Self::GoAway,
        Self::Trailers,
        Self::Pad,
    ];

    fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Data,
            1 => Self::Head,
            2 => Self::Reset,
            3 => Self::Stop,
            4 => Self::Window,
            5 => Self::Streams,
            6 => Self::Ping,
            7 => Self::Pong,
            8 => Self::GoAway,
            9 => Self::Trailers,
            15 => Self::Pad,
            _ => return None,
        })
    }

    /// Flags that may be set on this kind.
    const fn flags_allowed(self) -> u8 {
        match self {
            Self::Data => Flags::END.0,
            Self::Head => Flags::END.0 | Flags::OPEN.0 | Flags::INFORMATIONAL.0,
            Self::Pad => Flags::IGNORABLE.0,
            _ => 0,
        }
    }

    /// Whether frames of this kind name a stream (`true`) or the link (`false`).
    const fn names_a_stream(self) -> bool {
        matches!(
            self,
            Self::Data | Self::Head | Self::Reset | Self::Stop | Self::Window | Self::Trailers
        )
    }

    /// Shortest and longest payload under `limits`.
    const fn payload_range(self, limits: FrameLimits) -> (u32, u32) {
        match self {
            Self::Data | Self::Pad => (0, limits.payload_max),
            Self::Head | Self::Trailers => (0, limits.head_max),
            Self::Reset | Self::Stop => (4, 4),
            Self::Window | Self::Streams | Self::Ping | Self::Pong => (8, 8),
            Self::GoAway => (GOAWAY_FIXED_LEN, GOAWAY_FIXED_LEN + GOAWAY_TEXT_MAX),
        }
    }
}

/// The four flag bits.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Flags(u8);

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// This frame ends its half-stream.
    pub const END: Self = Self(1);
    /// This HEAD creates the stream.
    pub const OPEN: Self = Self(2);
    /// This HEAD is an interim (1xx) head; another follows.
    pub const INFORMATIONAL: Self = Self(4);
    /// A receiver that does not know the kind skips the frame.
    pub const IGNORABLE: Self = Self(8);

    /// The flags with these bits; bits above the fourth are dropped.
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & 0x0f)
    }

    /// The bits on the wire.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether all flags of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These flags and those of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// [`Flags::END`] or nothing.
    pub const fn end_if(end: bool) -> Self {
        if end { Self::END } else { Self::NONE }
    }
}

/// What this side accepts in one frame; announced in its hello.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FrameLimits {
    /// Longest DATA or PAD payload, in octets.
    pub payload_max: u32,
    /// Longest HEAD or TRAILERS payload, in octets.
    pub head_max: u32,
}

/// A judged frame header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// What the frame is for; `None` is an unknown kind that may be skipped.
    pub kind: Option<Kind>,
    /// Its flags.
    pub flags: Flags,
    /// The stream it names, or [`StreamId::LINK`].
    pub stream: StreamId,
    /// Octets of payload that follow.
    pub payload_len: u32,
}

impl Header {
    /// Writes a header for a frame of this side's own making.
    ///
    /// `payload_len` must fit 24 bits; the engine's limits keep it far below.
    pub fn encode(
        kind: Kind,
        flags: Flags,
        stream: StreamId,
        payload_len: u32,
    ) -> [u8; HEADER_LEN] {
        debug_assert!(payload_len < 1 << 24);
        let word = u64::from(payload_len) << 40
            | u64::from(kind as u8) << 36
            | u64::from(flags.0) << 32
            | u64::from(stream.0);
        word.to_be_bytes()
    }

    /// Judges the header `raw` against `limits`.
    ///
    /// # Errors
    ///
    /// [`FrameError`]. Each ends the link: what follows cannot be trusted to be a frame.
    pub fn decode(raw: [u8; HEADER_LEN], limits: &FrameLimits) -> Result<Self, FrameError> {
        let [l2, l1, l0, kind_flags, s3, s2, s1, s0] = raw;
        let payload_len = u32::from_be_bytes([0, l2, l1, l0]);
        let flags = Flags::from_bits(kind_flags);
        let stream = StreamId(u32::from_be_bytes([s3, s2, s1, s0]));
        let kind_bits = kind_flags >> 4;

        let Some(kind) = Kind::from_bits(kind_bits) else {
            if !flags.contains(Flags::IGNORABLE) {
                return Err(FrameError::UnknownKind { kind: kind_bits });
            }
            if payload_len > limits.payload_max {
                return Err(FrameError::TooLong { payload_len, limit: limits.payload_max });
            }
            return Ok(Self { kind: None, flags, stream, payload_len });
        };
        if flags.0 & !kind.flags_allowed() != 0 {
            return Err(FrameError::BadFlags { kind, flags: flags.0 });
        }
        if kind.names_a_stream() == (stream == StreamId::LINK) {
            return Err(FrameError::BadStreamId { kind, stream });
        }
        let (shortest, longest) = kind.payload_range(*limits);
        if payload_len > longest {
            return Err(FrameError::TooLong { payload_len, limit: longest });
        }
        if payload_len < shortest {
            return Err(FrameError::TooShort { kind, payload_len });
        }
        if kind == Kind::Data && payload_len == 0 && !flags.contains(Flags::END) {
            return Err(FrameError::EmptyData { stream });
        }
        if kind == Kind::Head
            && flags.contains(Flags::INFORMATIONAL)
            && flags.0 != Flags::INFORMATIONAL.0
        {
            return Err(FrameError::BadFlags { kind, flags: flags.0 });
        }
        Ok(Self { kind: Some(kind), flags, stream, payload_len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: FrameLimits = FrameLimits { payload_max: 16_376, head_max: 8_192 };

    fn decode(kind: u8, flags: u8, stream: u32, len: u32) -> Result<Header, FrameError> {
        let word = u64::from(len) << 40
            | u64::from(kind) << 36
            | u64::from(flags) << 32
            | u64::from(stream);
        Header::decode(word.to_be_bytes(), &LIMITS)
    }

    #[test]
    fn the_frozen_header_bytes_of_version_1() {
        let bytes = Header::encode(Kind::Data, Flags::END, StreamId(7), 0x01_0203);
        assert_eq!(bytes, [0x01, 0x02, 0x03, 0x01, 0, 0, 0, 7]);
        let bytes =
            Header::encode(Kind::Head, Flags::OPEN.with(Flags::END), StreamId(0x0a0b_0c0d), 5);
        assert_eq!(bytes, [0, 0, 5, 0x13, 0x0a, 0x0b, 0x0c, 0x0d]);
        let bytes = Header::encode(Kind::GoAway, Flags::NONE, StreamId::LINK, 8);
        assert_eq!(bytes, [0, 0, 8, 0x80, 0, 0, 0, 0]);
    }

    // [MUX-10] +-
    #[test]
    fn every_kind_survives_a_round_trip_at_both_ends_of_its_length() {
        for kind in Kind::ALL {
            let stream = if kind.names_a_stream() { StreamId(9) } else { StreamId::LINK };
            let (shortest, longest) = kind.payload_range(LIMITS);
            for len in [shortest, longest] {
                let flags = Flags::end_if(kind == Kind::Data);
                let raw = Header::encode(kind, flags, stream, len);
                let header = Header::decode(raw, &LIMITS).unwrap();
                assert_eq!(header, Header { kind: Some(kind), flags, stream, payload_len: len });
            }
            assert!(decode(kind as u8, 0, stream.0, longest + 1).is_err(), "{kind:?}");
            if shortest > 0 {
                assert!(decode(kind as u8, 0, stream.0, shortest - 1).is_err(), "{kind:?}");
            }
        }
    }

    // [MUX-12] -
    #[test]
    fn a_frame_for_a_stream_must_name_one_and_a_link_frame_must_not() {
        for kind in Kind::ALL {
            let (wrong, len) = if kind.names_a_stream() {
                (0, kind.payload_range(LIMITS).0)
            } else {
                (3, kind.payload_range(LIMITS).0)
            };
            let flags = u8::from(kind == Kind::Data);
            assert_eq!(
                decode(kind as u8, flags, wrong, len),
                Err(FrameError::BadStreamId { kind, stream: StreamId(wrong) })
            );
        }
    }

    // [MUX-14] +-
    #[test]
    fn unknown_kinds_are_skipped_only_when_marked_ignorable() {
        for kind in 10..15 {
            assert_eq!(decode(kind, 0, 1, 4), Err(FrameError::UnknownKind { kind }));
            assert_eq!(decode(kind, 8, 1, 4).unwrap().kind, None);
            assert!(matches!(decode(kind, 8, 1, 16_377), Err(FrameError::TooLong { .. })));
        }
    }

    // [MUX-11] +- [MUX-12] +
    #[test]
    fn flags_outside_the_kind_are_refused() {
        for kind in Kind::ALL {
            for bits in 0..16u8 {
                let stream = u32::from(kind.names_a_stream());
                let len = kind.payload_range(LIMITS).0.max(1);
                let allowed = bits & !kind.flags_allowed() == 0
                    && !(kind == Kind::Head && bits & 4 != 0 && bits != 4);
                let verdict = decode(kind as u8, bits, stream, len);
                assert_eq!(verdict.is_ok(), allowed, "{kind:?} {bits:04b}");
            }
        }
    }

    // [MUX-13] +-
    #[test]
    fn empty_data_is_legal_only_with_end() {
        assert_eq!(decode(0, 0, 1, 0), Err(FrameError::EmptyData { stream: StreamId(1) }));
        assert!(decode(0, 1, 1, 0).is_ok());
    }

    // [MUX-17] + [MUX-22] +-
    #[test]
    fn stream_numbers_belong_to_their_opener_and_run_out() {
        assert_eq!(StreamId::nth(Side::Listener, 0), Some(StreamId(1)));
        assert_eq!(StreamId::nth(Side::Dialer, 0), Some(StreamId(2)));
        assert_eq!(StreamId::nth(Side::Listener, 1).unwrap().opener(), Side::Listener);
        assert_eq!(StreamId::nth(Side::Listener, u32::MAX / 2), Some(StreamId(u32::MAX)));
        assert_eq!(StreamId::nth(Side::Dialer, u32::MAX / 2), None);
    }
}
