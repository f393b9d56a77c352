//! The three kinds of block: request head, answer head, trailers.

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, StatusCode};

use super::assertions::{self, Assertions};
use super::block::{
    self, Block, DecodeError, EncodeError, HeadLimits, Reader, Sink, put_fields, put_len16,
    put_method,
};

// First octets: the version in the high half, the kind in the low.
const REQUEST: u8 = 0x11;
const ANSWER: u8 = 0x12;
const TRAILERS: u8 = 0x13;

/// The length octet of an absent reason phrase.
const NO_REASON: u8 = 0xff;

/// The longest reason phrase, in octets. Our choice: long enough for every phrase in use.
const REASON_OCTETS_MAX: u8 = 128;

/// The head of a request, from the gateway to the connection point.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RequestHead {
    /// The verb, exact and case-sensitive.
    pub method: Method,
    /// The target as the client sent it, virtual root and role id included.
    pub target: PathAndQuery,
    /// The client's headers after `strip_request_headers`. Names travel in lower case.
    pub headers: HeaderMap,
    /// What the gateway says about the request.
    pub assertions: Assertions,
}

impl RequestHead {
    /// Writes the head as one block, in one allocation of its exact length.
    ///
    /// # Errors
    ///
    /// [`EncodeError`]; the block would break a limit or the target does not begin with `/`.
    pub fn encode(&self, limits: &HeadLimits) -> Result<Bytes, EncodeError> {
        block::encode(self, limits)
    }

    /// Reads a block. Target and header values are slices of it.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]; the peer breaks the protocol.
    pub fn decode(block: Bytes, limits: &HeadLimits) -> Result<Self, DecodeError> {
        let mut reader = Reader::open(block, REQUEST, limits)?;
        let method = reader.method()?;
        let target = read_target(&mut reader)?;
        let assertions = Assertions::read(&mut reader)?;
        let headers = reader.fields(limits)?;
        reader.finish()?;
        Ok(Self { method, target, headers, assertions })
    }
}

impl Block for RequestHead {
    fn write(&self, sink: &mut impl Sink) -> Result<(), EncodeError> {
        let target = self.target.as_str();
        if !target.starts_with('/') {
            return Err(EncodeError::BadTarget);
        }
        sink.put(&[REQUEST]);
        put_method(sink, &self.method)?;
        put_len16(sink, target.len())?;
        sink.put(target.as_bytes());
        self.assertions.write(sink)?;
        put_fields(sink, &self.headers)
    }

    fn fields(&self) -> &HeaderMap {
        &self.headers
    }
}

/// Who decided an answer.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Origin {
    /// A backend in the site; the answer is relayed.
    Site,
    /// The connection point itself, which refused or failed; or the gateway, of which a connection
    /// point has asked something.
    ConnectionPoint,
}

/// The head of an answer, from the connection point to the gateway.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AnswerHead {
    /// The status.
    pub status: StatusCode,
    /// The reason phrase to show where HTTP has one; `None` lets HTTP's own stand. At most 128
    /// octets of visible text, spaces and tabs: see [`with_reason`](Self::with_reason).
    pub reason: Option<Bytes>,
    /// The headers after `strip_answer_headers`. Names travel in lower case.
    pub headers: HeaderMap,
    /// Who decided.
    pub origin: Origin,
}

impl AnswerHead {
    /// Sets the reason phrase if it may be shown, and clears it otherwise.
    ///
    /// A backend's odd phrase is no reason to fail its answer.
    #[must_use]
    pub fn with_reason(mut self, phrase: Bytes) -> Self {
        self.reason = is_reason(&phrase).then_some(phrase);
        self
    }

    /// Writes the head as one block, in one allocation of its exact length.
    ///
    /// # Errors
    ///
    /// [`EncodeError`]; the block would break a limit or the reason phrase is not one.
    pub fn encode(&self, limits: &HeadLimits) -> Result<Bytes, EncodeError> {
        block::encode(self, limits)
    }

    /// Reads a block. Reason phrase and header values are slices of it.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]; the peer breaks the protocol.
    pub fn decode(block: Bytes, limits: &HeadLimits) -> Result<Self, DecodeError> {
        let mut reader = Reader::open(block, ANSWER, limits)?;
        let status = reader.u16()?;
        let status = StatusCode::from_u16(status).map_err(|_| DecodeError::BadStatus { status })?;
        let origin = match reader.u8()? {
            0 => Origin::Site,
            1 => Origin::ConnectionPoint,
            code => return Err(DecodeError::UnknownOrigin { code }),
        };
        let reason = read_reason(&mut reader)?;
        assertions::skip_section(&mut reader)?;
        let headers = reader.fields(limits)?;
        reader.finish()?;
        Ok(Self { status, reason, headers, origin })
    }
}

impl Block for AnswerHead {
    fn write(&self, sink: &mut impl Sink) -> Result<(), EncodeError> {
        sink.put(&[ANSWER]);
        sink.put(&self.status.as_u16().to_be_bytes());
        sink.put(&[match self.origin {
            Origin::Site => 0,
            Origin::ConnectionPoint => 1,
        }]);
        put_reason(sink, self.reason.as_deref())?;
        // No assertions about answers yet; the empty section lets a later one be ignored.
        put_len16(sink, 0)?;
        put_fields(sink, &self.headers)
    }

    fn fields(&self) -> &HeaderMap {
        &self.headers
    }
}

/// The fields after a body, in either direction.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Trailers(
    /// The fields. Names travel in lower case.
    pub HeaderMap,
);

impl Trailers {
    /// Writes the trailers as one block, in one allocation of its exact length.
    ///
    /// # Errors
    ///
    /// [`EncodeError`]; the block would break a limit.
    pub fn encode(&self, limits: &HeadLimits) -> Result<Bytes, EncodeError> {
        block::encode(self, limits)
    }

    /// Reads a block. Values are slices of it.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]; the peer breaks the protocol.
    pub fn decode(block: Bytes, limits: &HeadLimits) -> Result<Self, DecodeError> {
        let mut reader = Reader::open(block, TRAILERS, limits)?;
        let fields = reader.fields(limits)?;
        reader.finish()?;
        Ok(Self(fields))
    }
}

impl Block for Trailers {
    fn write(&self, sink: &mut impl Sink) -> Result<(), EncodeError> {
        sink.put(&[TRAILERS]);
        put_fields(sink, &self.0)
    }

    fn fields(&self) -> &HeaderMap {
        &self.0
    }
}

fn read_target(reader: &mut Reader) -> Result<PathAndQuery, DecodeError> {
    let raw = reader.octets16()?;
    let octets = raw.len();
    if !raw.starts_with(b"/") {
        return Err(DecodeError::BadTarget);
    }
    let target = PathAndQuery::from_maybe_shared(raw).map_err(|_| DecodeError::BadTarget)?;
    // The parser cuts a fragment off; a peer that sends one means something else than we would.
    if target.as_str().len() == octets { Ok(target) } else { Err(DecodeError::BadTarget) }
}

fn put_reason(sink: &mut impl Sink, reason: Option<&[u8]>) -> Result<(), EncodeError> {
    let Some(phrase) = reason else {
        sink.put(&[NO_REASON]);
        return Ok(());
    };
    if !is_reason(phrase) {
        return Err(EncodeError::BadReason);
    }
    block::put_len8(sink, phrase.len())?;
    sink.put(phrase);
    Ok(())
}

fn read_reason(reader: &mut Reader) -> Result<Option<Bytes>, DecodeError> {
    let len = reader.u8()?;
    if len == NO_REASON {
        return Ok(None);
    }
    let phrase = reader.octets(len.into())?;
    if is_reason(&phrase) { Ok(Some(phrase)) } else { Err(DecodeError::BadReason) }
}

// RFC 9112, section 4: reason-phrase = 1*( HTAB / SP / VCHAR / obs-text ), or nothing.
fn is_reason(phrase: &[u8]) -> bool {
    phrase.len() <= usize::from(REASON_OCTETS_MAX)
        && phrase.iter().all(|octet| matches!(octet, b'\t' | 0x20..=0x7e | 0x80..=0xff))
}
