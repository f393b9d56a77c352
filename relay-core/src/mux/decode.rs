//! From octets to frames, at any split.
//!
//! DATA is cut through: whatever part of a payload has arrived is handed on at once, as a slice of
//! the read buffer. Every other frame is short and handed on whole.

use bytes::{Buf as _, Bytes, BytesMut};

use super::error::FrameError;
use super::frame::{Flags, FrameLimits, HEADER_LEN, Header, Kind, StreamId};

/// Payloads up to this many octets are copied out of the read buffer, so that a few octets that a
/// consumer holds on to cannot pin a whole read buffer. Longer ones are never copied.
pub const COPY_OUT_MAX: usize = 1024;

/// One step of the decoder's output.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Item {
    /// A whole frame of any kind but DATA.
    Frame {
        /// Its kind.
        kind: Kind,
        /// Its flags.
        flags: Flags,
        /// The stream it names, or the link.
        stream: StreamId,
        /// Its payload, whole.
        payload: Bytes,
    },
    /// Part of a DATA frame's payload, or all of it.
    Data {
        /// The stream it belongs to.
        stream: StreamId,
        /// The octets. Empty only in an END without payload.
        payload: Bytes,
        /// Whether this is the last of the half-stream.
        end: bool,
        /// What the frame's header said; with the first part of the frame only.
        header: Option<DataHeader>,
    },
    /// Octets of a PAD or of an unknown frame that may be skipped.
    Skipped {
        /// How many.
        octets: usize,
        /// Whether this is the first part of its frame.
        first: bool,
    },
}

/// What the header of a DATA frame said.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DataHeader {
    /// Octets of the whole frame's payload.
    pub payload_len: u32,
    /// Whether the frame ends its half-stream.
    pub end: bool,
}

/// What of the current frame is still to come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Expect {
    /// The next header.
    Header,
    /// The rest of a DATA payload.
    Data { stream: StreamId, remaining: usize, end: bool, header: Option<DataHeader> },
    /// The rest of a frame to skip.
    Skip { remaining: usize, first: bool },
}

/// Cuts an ordered stream of octets into [`Item`]s.
///
/// The same octets give the same frames whatever the split; only where DATA payload is divided into
/// items depends on it.
#[derive(Debug)]
pub struct Decoder {
    limits: FrameLimits,
    expect: Expect,
}

impl Decoder {
    /// A decoder that accepts what `limits` allow, standing before a header.
    pub fn new(limits: FrameLimits) -> Self {
        Self { limits, expect: Expect::Header }
    }

    /// Whether the last octet taken was the last of a frame.
    pub fn at_boundary(&self) -> bool {
        self.expect == Expect::Header
    }

    /// Takes the next item from the front of `input`; `None` means that more octets are needed.
    ///
    /// A frame that is not yet whole stays in `input`, except DATA and skipped frames, whose parts
    /// are taken as they come. `input` must therefore be able to hold a header and the longest
    /// head.
    ///
    /// # Errors
    ///
    /// [`FrameError`]; the decoder must not be used again.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Item>, FrameError> {
        if self.expect == Expect::Header {
            let Some(raw) = input.first_chunk::<HEADER_LEN>() else { return Ok(None) };
            let header = Header::decode(*raw, &self.limits)?;
            let payload_len = header.payload_len as usize;
            match header.kind {
                Some(Kind::Data) => {
                    input.advance(HEADER_LEN);
                    let end = header.flags.contains(Flags::END);
                    let (stream, remaining) = (header.stream, payload_len);
                    let header = Some(DataHeader { payload_len: header.payload_len, end });
                    self.expect = Expect::Data { stream, remaining, end, header };
                }
                None | Some(Kind::Pad) => {
                    input.advance(HEADER_LEN);
                    self.expect = Expect::Skip { remaining: payload_len, first: true };
                }
                Some(kind) => return Ok(whole_frame(kind, header, input)),
            }
        }
        Ok(self.partial(input))
    }

    /// Takes what is there of a DATA payload or of a frame to skip.
    fn partial(&mut self, input: &mut BytesMut) -> Option<Item> {
        match self.expect {
            Expect::Header => None,
            Expect::Data { stream, remaining, end, header } => {
                let len = remaining.min(input.len());
                if len == 0 && remaining > 0 {
                    return None;
                }
                let left = remaining - len;
                self.expect = match left {
                    0 => Expect::Header,
                    _ => Expect::Data { stream, remaining: left, end, header: None },
                };
                let payload = take(input, len);
                Some(Item::Data { stream, payload, end: end && left == 0, header })
            }
            Expect::Skip { remaining, first } => {
                let octets = remaining.min(input.len());
                if octets == 0 && remaining > 0 {
                    return None;
                }
                let left = remaining - octets;
                self.expect = match left {
                    0 => Expect::Header,
                    _ => Expect::Skip { remaining: left, first: false },
                };
                input.advance(octets);
                Some(Item::Skipped { octets, first })
            }
        }
    }
}

fn whole_frame(kind: Kind, header: Header, input: &mut BytesMut) -> Option<Item> {
    let payload_len = header.payload_len as usize;
    if input.len() < HEADER_LEN + payload_len {
        return None;
    }
    input.advance(HEADER_LEN);
    // Heads live as long as their exchange, hours for a notification: always a copy of their own.
    let payload = Bytes::copy_from_slice(&input[..payload_len]);
    input.advance(payload_len);
    Some(Item::Frame { kind, flags: header.flags, stream: header.stream, payload })
}

fn take(input: &mut BytesMut, len: usize) -> Bytes {
    if len > COPY_OUT_MAX {
        return input.split_to(len).freeze();
    }
    let copy = Bytes::copy_from_slice(&input[..len]);
    input.advance(len);
    copy
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: FrameLimits = FrameLimits { payload_max: 16_376, head_max: 16_376 };

    fn frame(kind: Kind, flags: Flags, stream: u32, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(payload.len()).unwrap();
        let mut out = Header::encode(kind, flags, StreamId::from_wire(stream), len).to_vec();
        out.extend_from_slice(payload);
        out
    }

    #[test]
    fn a_long_payload_is_a_slice_of_the_read_buffer_and_a_short_one_is_not() {
        for (len, shared) in [(COPY_OUT_MAX, false), (COPY_OUT_MAX + 1, true)] {
            let octets = frame(Kind::Data, Flags::NONE, 1, &vec![7; len]);
            let mut input = BytesMut::from(&octets[..]);
            let from = input.as_ptr().addr() + HEADER_LEN;
            let Some(Item::Data { payload, .. }) = Decoder::new(LIMITS).next(&mut input).unwrap()
            else {
                panic!("a DATA item was expected");
            };
            assert_eq!(payload.as_ptr().addr() == from, shared, "{len} octets");
        }
    }

    #[test]
    fn part_of_a_payload_is_handed_on_before_the_rest_arrives() {
        let octets = frame(Kind::Data, Flags::END, 5, b"hello, world");
        let mut decoder = Decoder::new(LIMITS);
        let mut input = BytesMut::from(&octets[..HEADER_LEN + 5]);
        let stream = StreamId::from_wire(5);
        let first = decoder.next(&mut input).unwrap().unwrap();
        let payload = Bytes::from_static(b"hello");
        let header = Some(DataHeader { payload_len: 12, end: true });
        assert_eq!(first, Item::Data { stream, payload, end: false, header });
        assert_eq!(decoder.next(&mut input), Ok(None));
        assert!(!decoder.at_boundary());
        input.extend_from_slice(&octets[HEADER_LEN + 5..]);
        let second = decoder.next(&mut input).unwrap().unwrap();
        let payload = Bytes::from_static(b", world");
        assert_eq!(second, Item::Data { stream, payload, end: true, header: None });
        assert!(decoder.at_boundary());
    }

    #[test]
    fn a_head_is_handed_on_only_when_whole() {
        let octets = frame(Kind::Head, Flags::OPEN, 1, b"block");
        let mut decoder = Decoder::new(LIMITS);
        let mut input = BytesMut::new();
        for &octet in &octets[..octets.len() - 1] {
            input.extend_from_slice(&[octet]);
            assert_eq!(decoder.next(&mut input), Ok(None));
        }
        input.extend_from_slice(&octets[octets.len() - 1..]);
        assert!(matches!(decoder.next(&mut input), Ok(Some(Item::Frame { kind: Kind::Head, .. }))));
        assert!(input.is_empty());
    }
}
