//! What travels on an exchange's QUIC stream: records, and the order in which they may come.
//!
//! Pure: octets in, items out. The normative text is `QUIC.md`, section 3.

use bytes::{Buf as _, Bytes, BytesMut};

use crate::mux::{FrameError, Kind as MuxKind, LinkError, StreamId};

/// Octets before each record's body.
pub(super) const HEADER_LEN: usize = 4;

/// Longest record: its length has 24 bits.
pub(super) const RECORD_MAX: usize = (1 << 24) - 1;

/// Interim heads that one half may have. The same as in the mux.
pub(super) const INTERIM_HEADS_MAX: u8 = 8;

/// What a record holds, with its number on the wire.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// Payload octets.
    Data = 0x00,
    /// The final head; payload may follow.
    Head = 0x01,
    /// An interim head.
    Interim = 0x02,
    /// A field block behind the payload; the end must follow.
    Trailers = 0x03,
    /// The final head of a half without payload; the end must follow.
    HeadAndEnd = 0x81,
}

impl Kind {
    fn from_wire(octet: u8) -> Option<Self> {
        let kinds = [Self::Data, Self::Head, Self::Interim, Self::Trailers, Self::HeadAndEnd];
        kinds.into_iter().find(|kind| *kind as u8 == octet)
    }

    /// What the same is called on a pipe, for errors.
    fn on_a_pipe(self) -> MuxKind {
        match self {
            Self::Data => MuxKind::Data,
            Self::Head | Self::Interim | Self::HeadAndEnd => MuxKind::Head,
            Self::Trailers => MuxKind::Trailers,
        }
    }
}

/// The header of a record of `len` octets, at most [`RECORD_MAX`].
pub(super) fn header(kind: Kind, len: usize) -> [u8; HEADER_LEN] {
    debug_assert!(len <= RECORD_MAX, "a record of {len} octets");
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    let [_, high, middle, low] = len.to_be_bytes();
    [kind as u8, high, middle, low]
}

/// One thing that has arrived.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Item {
    /// A whole head block.
    Head { block: Bytes, interim: bool, end: bool },
    /// Some payload: the part of a record that is there.
    Data(BytesMut),
    /// A whole block of trailers.
    Trailers(Bytes),
}

/// What may come next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Due {
    /// The only head of a request.
    Request,
    /// The heads of an answer, of which so many were interim.
    Answer { interim: u8 },
    /// Payload, trailers or the end.
    Payload,
    /// The end.
    End,
}

/// How much of the record at hand has arrived.
#[derive(Debug)]
enum At {
    /// So many octets of a header.
    Header { octets: [u8; HEADER_LEN], filled: usize },
    /// So many octets of payload are still to come.
    Data { left: usize },
    /// A block of so many octets.
    Block { kind: Kind, len: usize, octets: BytesMut },
}

const BOUNDARY: At = At::Header { octets: [0; HEADER_LEN], filled: 0 };

/// Takes the octets of one half apart, whatever the portions in which they come.
#[derive(Debug)]
pub(super) struct Reader {
    id: StreamId,
    due: Due,
    at: At,
    head_max: u32,
}

impl Reader {
    /// For the half of a stream that the peer opened.
    pub(super) fn of_request(id: StreamId, head_max: u32) -> Self {
        Self { id, due: Due::Request, at: BOUNDARY, head_max }
    }

    /// For the answer to a stream that this side opened.
    pub(super) fn of_answer(id: StreamId, head_max: u32) -> Self {
        Self { id, due: Due::Answer { interim: 0 }, at: BOUNDARY, head_max }
    }

    /// Whether any head has arrived: the peer has certainly looked at the stream.
    pub(super) fn has_begun(&self) -> bool {
        !matches!(self.due, Due::Request | Due::Answer { interim: 0 })
    }

    /// Takes the next item off the front of `input`; `None` once that is used up.
    ///
    /// # Errors
    ///
    /// [`LinkError`]; the link must be closed.
    pub(super) fn next(&mut self, input: &mut BytesMut) -> Result<Option<Item>, LinkError> {
        loop {
            match &mut self.at {
                At::Header { octets, filled } => {
                    let part = (HEADER_LEN - *filled).min(input.len());
                    octets[*filled..*filled + part].copy_from_slice(&input[..part]);
                    input.advance(part);
                    *filled += part;
                    if *filled < HEADER_LEN {
                        return Ok(None);
                    }
                    let header = *octets;
                    self.begin(header)?;
                }
                At::Data { left: 0 } => self.at = BOUNDARY,
                At::Data { .. } if input.is_empty() => return Ok(None),
                At::Data { left } => {
                    let part = input.split_to(input.len().min(*left));
                    *left -= part.len();
                    return Ok(Some(Item::Data(part)));
                }
                At::Block { kind, len, octets } => {
                    let part = input.split_to(input.len().min(*len - octets.len()));
                    octets.extend_from_slice(&part);
                    if octets.len() < *len {
                        return Ok(None);
                    }
                    let (kind, block) = (*kind, std::mem::take(octets).freeze());
                    self.at = BOUNDARY;
                    return Ok(Some(item(kind, block)));
                }
            }
        }
    }

    /// Judges a header, and has what is behind it come next.
    fn begin(&mut self, header: [u8; HEADER_LEN]) -> Result<(), LinkError> {
        let [number, high, middle, low] = header;
        let kind = Kind::from_wire(number).ok_or(FrameError::UnknownKind { kind: number })?;
        let payload_len = u32::from_be_bytes([0, high, middle, low]);
        self.due = match (self.due, kind) {
            (Due::Request | Due::Answer { .. }, Kind::Head) | (Due::Payload, Kind::Data) => {
                Due::Payload
            }
            (Due::Request | Due::Answer { .. }, Kind::HeadAndEnd)
            | (Due::Payload, Kind::Trailers) => Due::End,
            (Due::Answer { interim }, Kind::Interim) if interim < INTERIM_HEADS_MAX => {
                Due::Answer { interim: interim + 1 }
            }
            _ => return Err(self.out_of_order(kind)),
        };
        let len = usize::try_from(payload_len).unwrap_or(usize::MAX);
        if kind == Kind::Data {
            if len == 0 {
                return Err(FrameError::EmptyData { stream: self.id }.into());
            }
            self.at = At::Data { left: len };
            return Ok(());
        }
        if payload_len > self.head_max {
            return Err(FrameError::TooLong { payload_len, limit: self.head_max }.into());
        }
        // What has not come is not paid for.
        self.at = At::Block { kind, len, octets: BytesMut::new() };
        Ok(())
    }

    fn out_of_order(&self, kind: Kind) -> LinkError {
        LinkError::StreamState { kind: kind.on_a_pipe(), stream: self.id }
    }

    /// Judges the end of the half.
    ///
    /// # Errors
    ///
    /// [`FrameError::CutShort`]; the link must be closed.
    pub(super) fn finish(&self) -> Result<(), LinkError> {
        let at_boundary = matches!(self.at, At::Header { filled: 0, .. } | At::Data { left: 0 });
        if at_boundary && matches!(self.due, Due::Payload | Due::End) {
            return Ok(());
        }
        Err(FrameError::CutShort { stream: self.id }.into())
    }
}

fn item(kind: Kind, block: Bytes) -> Item {
    match kind {
        Kind::Trailers => Item::Trailers(block),
        kind => {
            let (interim, end) = (kind == Kind::Interim, kind == Kind::HeadAndEnd);
            Item::Head { block, interim, end }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: StreamId = StreamId::from_wire(1);
    const HEAD_MAX: u32 = 300;

    fn record(kind: Kind, body: &[u8]) -> Vec<u8> {
        [&header(kind, body.len())[..], body].concat()
    }

    /// What comes of `octets` in portions of `portion`: items with payload joined, and the end.
    fn read(mut reader: Reader, octets: &[u8], portion: usize) -> Result<Vec<Item>, LinkError> {
        let mut items: Vec<Item> = Vec::new();
        for part in octets.chunks(portion.max(1)) {
            let mut input = BytesMut::from(part);
            while let Some(item) = reader.next(&mut input)? {
                match (items.last_mut(), item) {
                    (Some(Item::Data(all)), Item::Data(more)) => all.extend_from_slice(&more),
                    (_, item) => items.push(item),
                }
            }
            assert!(input.is_empty(), "what is not an item is kept");
        }
        reader.finish()?;
        Ok(items)
    }

    fn answer(octets: &[u8]) -> Result<Vec<Item>, LinkError> {
        let whole = read(Reader::of_answer(ID, HEAD_MAX), octets, octets.len());
        for portion in [1, 2, 3, 5, 7] {
            let split = read(Reader::of_answer(ID, HEAD_MAX), octets, portion);
            assert_eq!(split, whole, "in portions of {portion}");
        }
        whole
    }

    // [QUIC-08] + [QUIC-09] +
    #[test]
    fn a_whole_answer_is_the_same_in_whatever_portions_it_comes() {
        let octets = [
            record(Kind::Interim, b"103"),
            record(Kind::Head, b"200"),
            record(Kind::Data, b"hello"),
            record(Kind::Data, &[7; 1000]),
            record(Kind::Trailers, b""),
        ]
        .concat();
        let payload = [&b"hello"[..], &[7; 1000]].concat();
        let head = |block, interim| Item::Head { block, interim, end: false };
        let expected = vec![
            head(Bytes::from_static(b"103"), true),
            head(Bytes::from_static(b"200"), false),
            Item::Data(payload[..].into()),
            Item::Trailers(Bytes::new()),
        ];
        assert_eq!(answer(&octets), Ok(expected));
    }

    // [QUIC-10] -
    #[test]
    fn what_is_out_of_order_ends_the_link() {
        let (data, head) = (record(Kind::Data, b"x"), record(Kind::Head, b"h"));
        let last = record(Kind::HeadAndEnd, b"h");
        let (interim, trailers) = (record(Kind::Interim, b"i"), record(Kind::Trailers, b"t"));
        let wrong = [
            [&data[..]].concat(),
            [&trailers[..]].concat(),
            [&head[..], &head].concat(),
            [&head[..], &interim].concat(),
            [&head[..], &trailers, &data].concat(),
            [&head[..], &trailers, &trailers].concat(),
            [&last[..], &data].concat(),
            [&last[..], &trailers].concat(),
        ];
        for octets in wrong {
            let why = answer(&octets).unwrap_err();
            assert!(matches!(why, LinkError::StreamState { stream: ID, .. }), "{why:?}");
        }
        let interim_request = read(Reader::of_request(ID, HEAD_MAX), &interim, 9);
        assert!(interim_request.is_err(), "a request has one head");
    }

    // [QUIC-11] +-
    #[test]
    fn eight_interim_heads_pass_and_a_ninth_does_not() {
        let interim = record(Kind::Interim, b"103");
        let head = record(Kind::Head, b"200");
        assert!(answer(&[interim.repeat(8), head.clone()].concat()).is_ok());
        assert!(answer(&[interim.repeat(9), head].concat()).is_err());
    }

    // [QUIC-12] +-
    #[test]
    fn a_block_may_be_as_long_as_was_said_and_no_longer() {
        for kind in [Kind::Head, Kind::HeadAndEnd, Kind::Interim] {
            let block = |len| [record(kind, &vec![0; len]), vec![]].concat();
            let fits = answer(&block(300));
            assert_eq!(fits.is_ok(), kind != Kind::Interim, "an interim head is no end");
            let why = answer(&block(301)[..HEADER_LEN]).unwrap_err();
            let too_long = FrameError::TooLong { payload_len: 301, limit: 300 };
            assert_eq!(why, LinkError::Frame(too_long), "judged by its header");
        }
    }

    // [QUIC-10] - [QUIC-13] -
    #[test]
    fn unknown_kinds_and_empty_data_end_the_link() {
        let known = [0x00, 0x01, 0x02, 0x03, 0x81];
        for number in (0..=u8::MAX).filter(|number| !known.contains(number)) {
            let why = answer(&[number, 0, 0, 1, 0]).unwrap_err();
            assert_eq!(why, LinkError::Frame(FrameError::UnknownKind { kind: number }));
        }
        let empty = [record(Kind::Head, b"h"), record(Kind::Data, b"")].concat();
        assert_eq!(
            answer(&empty).unwrap_err(),
            LinkError::Frame(FrameError::EmptyData { stream: ID })
        );
    }

    // [QUIC-14] +-
    #[test]
    fn a_half_that_is_cut_anywhere_but_between_records_never_looks_complete() {
        let octets = [record(Kind::Head, b"200"), record(Kind::Data, b"hello")].concat();
        for end in 0..=octets.len() {
            let is_whole = end == 7 || end == octets.len();
            let outcome = answer(&octets[..end]);
            assert_eq!(outcome.is_ok(), is_whole, "cut at {end}");
        }
    }
}
