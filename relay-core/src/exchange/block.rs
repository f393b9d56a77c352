//! Reading and writing what all kinds of block are made of.

use bytes::{Buf, Bytes};
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method};

use super::names;

/// The longest block any peer may agree to, in octets: the largest payload of a frame.
const HEAD_OCTETS_CEILING: usize = 65_528;

/// A name's place that says a literal follows.
const LITERAL: u8 = 0;

/// Octets of the shortest field: a code and an empty value's length.
const FIELD_OCTETS_MIN: usize = 3;

/// What a head may take up; the same on both ends of a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HeadLimits {
    head_octets_max: usize,
    fields_max: usize,
}

impl HeadLimits {
    /// Creates limits: octets of a whole block, at most 65,528 (more is taken as that), and fields
    /// in it, at most 1,024 (likewise).
    pub fn new(head_octets_max: usize, fields_max: usize) -> Self {
        Self {
            head_octets_max: head_octets_max.min(HEAD_OCTETS_CEILING),
            fields_max: fields_max.min(1024),
        }
    }

    /// Returns the most octets of a block. Default 16,376, which with its frame header is one TLS
    /// record.
    pub fn head_octets_max(&self) -> usize {
        self.head_octets_max
    }

    /// Returns the most fields of a block, each value of a repeated name counted. Default 64.
    pub fn fields_max(&self) -> usize {
        self.fields_max
    }
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self::new(16_376, 64)
    }
}

/// Why a head cannot be sent. It is the fault of whoever made the head: towards a client 431, from
/// a backend 502.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The block, or one part of it, is too long.
    #[error("the head takes {octets} octets, the limit is {limit}")]
    HeadTooLong {
        /// What it takes, in octets.
        octets: usize,
        /// The limit, in octets.
        limit: usize,
    },
    /// The head has too many fields.
    #[error("the head has {fields} fields, the limit is {limit}")]
    TooManyFields {
        /// How many it has.
        fields: usize,
        /// How many it may have.
        limit: usize,
    },
    /// A method or a field name is longer than 255 octets.
    #[error("a name takes {octets} octets, the limit is 255")]
    NameTooLong {
        /// What it takes, in octets.
        octets: usize,
    },
    /// The target does not begin with `/`.
    #[error("the target is not a path")]
    BadTarget,
    /// The reason phrase is longer than 128 octets or has a control character.
    #[error("the reason phrase is too long or has a control character")]
    BadReason,
}

/// Why a block is not a head. The peer's fault, always: the link's other end breaks the protocol.
/// The exchange is answered by [`AbortCode::BadHead`](super::AbortCode::BadHead).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The block is longer than the limit.
    #[error("the block takes {octets} octets, the limit is {limit}")]
    TooLong {
        /// What it takes, in octets.
        octets: usize,
        /// The limit, in octets.
        limit: usize,
    },
    /// The block ends inside an item.
    #[error("the block ends too early")]
    Truncated,
    /// Octets follow the last item.
    #[error("{octets} octets follow the last item")]
    TrailingOctets {
        /// How many.
        octets: usize,
    },
    /// The first octet is not the version and kind expected here.
    #[error("the block begins with {found:#04x}, not {expected:#04x}")]
    WrongKind {
        /// The version and kind expected.
        expected: u8,
        /// The octet found.
        found: u8,
    },
    /// No method or field name has this code.
    #[error("no name has code {code}")]
    UnknownCode {
        /// The code.
        code: u8,
    },
    /// A name that has a code was sent as a literal.
    #[error("a name that has a code was sent as a literal")]
    NeedlessLiteral,
    /// The method is not a token.
    #[error("the method is not a token")]
    BadMethod,
    /// The target is not a path with an optional query.
    #[error("the target is not a path and query")]
    BadTarget,
    /// The head has too many fields.
    #[error("the head has {fields} fields, the limit is {limit}")]
    TooManyFields {
        /// How many it has.
        fields: usize,
        /// How many it may have.
        limit: usize,
    },
    /// A field name is not a lower-case token.
    #[error("a field name is not a lower-case token")]
    BadFieldName,
    /// A field value has a control character.
    #[error("a field value has a control character")]
    BadFieldValue,
    /// The values of one name do not follow each other.
    #[error("the values of one field name do not follow each other")]
    ScatteredField,
    /// The status is not in 100 to 999.
    #[error("{status} is not a status")]
    BadStatus {
        /// The number found.
        status: u16,
    },
    /// No origin has this code.
    #[error("no origin has code {code}")]
    UnknownOrigin {
        /// The code.
        code: u8,
    },
    /// The reason phrase is longer than 128 octets or has a control character.
    #[error("the reason phrase is too long or has a control character")]
    BadReason,
    /// An assertion is not of its type's length.
    #[error("assertion {kind:#04x} is malformed")]
    BadAssertion {
        /// Its type.
        kind: u8,
    },
    /// Assertions are not in ascending order of type, or one is repeated.
    #[error("assertion {kind:#04x} is out of order or repeated")]
    AssertionOrder {
        /// The type of the later one.
        kind: u8,
    },
    /// An assertion that must be understood is not known.
    #[error("assertion {kind:#04x} is critical and unknown")]
    UnknownCriticalAssertion {
        /// Its type.
        kind: u8,
    },
    /// A request has no message id.
    #[error("the request has no message id")]
    NoMessageId,
}

/// Where a block is written to. Blocks are written twice: once to learn their length, once into an
/// allocation of exactly that.
pub(super) trait Sink {
    fn put(&mut self, octets: &[u8]);
}

/// Counts the octets put in.
#[derive(Default)]
struct Length(usize);

impl Sink for Length {
    fn put(&mut self, octets: &[u8]) {
        self.0 = self.0.saturating_add(octets.len());
    }
}

impl Sink for Vec<u8> {
    fn put(&mut self, octets: &[u8]) {
        self.extend_from_slice(octets);
    }
}

/// What can be written as a block.
pub(super) trait Block {
    fn write(&self, sink: &mut impl Sink) -> Result<(), EncodeError>;
    fn fields(&self) -> &HeaderMap;
}

/// Writes a block in one allocation of its exact length.
pub(super) fn encode(block: &impl Block, limits: &HeadLimits) -> Result<Bytes, EncodeError> {
    let fields = block.fields().len();
    if limits.fields_max < fields {
        return Err(EncodeError::TooManyFields { fields, limit: limits.fields_max });
    }
    let mut length = Length::default();
    block.write(&mut length)?;
    if limits.head_octets_max < length.0 {
        return Err(EncodeError::HeadTooLong { octets: length.0, limit: limits.head_octets_max });
    }
    let mut octets = Vec::with_capacity(length.0);
    block.write(&mut octets)?;
    debug_assert_eq!(octets.len(), length.0, "both passes write the same");
    Ok(octets.into())
}

pub(super) fn put_len8(sink: &mut impl Sink, octets: usize) -> Result<(), EncodeError> {
    let len = u8::try_from(octets).map_err(|_| EncodeError::NameTooLong { octets })?;
    sink.put(&[len]);
    Ok(())
}

pub(super) fn put_len16(sink: &mut impl Sink, octets: usize) -> Result<(), EncodeError> {
    let len = u16::try_from(octets)
        .map_err(|_| EncodeError::HeadTooLong { octets, limit: HEAD_OCTETS_CEILING })?;
    sink.put(&len.to_be_bytes());
    Ok(())
}

/// Writes a name by its code, or as a literal if it has none.
fn put_name(sink: &mut impl Sink, code: Option<u8>, name: &str) -> Result<(), EncodeError> {
    if let Some(code) = code {
        sink.put(&[code]);
        return Ok(());
    }
    sink.put(&[LITERAL]);
    put_len8(sink, name.len())?;
    sink.put(name.as_bytes());
    Ok(())
}

pub(super) fn put_method(sink: &mut impl Sink, method: &Method) -> Result<(), EncodeError> {
    put_name(sink, names::method_code(method.as_str()), method.as_str())
}

pub(super) fn put_fields(sink: &mut impl Sink, fields: &HeaderMap) -> Result<(), EncodeError> {
    put_len16(sink, fields.len())?;
    // A HeaderMap yields the values of one name one after the other, as the format demands.
    for (name, value) in fields {
        put_name(sink, names::field_code(name.as_str()), name.as_str())?;
        put_len16(sink, value.len())?;
        sink.put(value.as_bytes());
    }
    Ok(())
}

/// A field name as it stands in a block. Names have one encoding each, so equal means same name.
#[derive(Eq, PartialEq)]
struct RawName {
    code: u8,
    literal: Bytes,
}

/// Takes items off the front of a block, or of a section of it.
pub(super) struct Reader {
    rest: Bytes,
}

impl Reader {
    /// Opens a block that must begin with `expected`.
    pub(super) fn open(
        block: Bytes,
        expected: u8,
        limits: &HeadLimits,
    ) -> Result<Self, DecodeError> {
        if limits.head_octets_max < block.len() {
            let (octets, limit) = (block.len(), limits.head_octets_max);
            return Err(DecodeError::TooLong { octets, limit });
        }
        let mut reader = Self { rest: block };
        match reader.u8()? {
            found if found == expected => Ok(reader),
            found => Err(DecodeError::WrongKind { expected, found }),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Ends the reading of a block, of which nothing may be left.
    pub(super) fn finish(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            octets => Err(DecodeError::TrailingOctets { octets }),
        }
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.rest.try_get_u8().map_err(|_| DecodeError::Truncated)
    }

    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.rest.try_get_u16().map_err(|_| DecodeError::Truncated)
    }

    pub(super) fn octets(&mut self, len: usize) -> Result<Bytes, DecodeError> {
        if self.rest.len() < len {
            return Err(DecodeError::Truncated);
        }
        Ok(self.rest.split_to(len))
    }

    pub(super) fn octets16(&mut self) -> Result<Bytes, DecodeError> {
        let len = self.u16()?;
        self.octets(len.into())
    }

    /// Takes a part that has its own items.
    pub(super) fn section16(&mut self) -> Result<Self, DecodeError> {
        Ok(Self { rest: self.octets16()? })
    }

    fn raw_name(&mut self) -> Result<RawName, DecodeError> {
        let code = self.u8()?;
        if code != LITERAL {
            return Ok(RawName { code, literal: Bytes::new() });
        }
        let len = self.u8()?;
        Ok(RawName { code, literal: self.octets(len.into())? })
    }

    pub(super) fn method(&mut self) -> Result<Method, DecodeError> {
        let RawName { code, literal } = self.raw_name()?;
        if code != LITERAL {
            let name = names::method(code).ok_or(DecodeError::UnknownCode { code })?;
            return Method::from_bytes(name.as_bytes()).map_err(|_| DecodeError::BadMethod);
        }
        let method = Method::from_bytes(&literal).map_err(|_| DecodeError::BadMethod)?;
        match names::method_code(method.as_str()) {
            None => Ok(method),
            Some(_) => Err(DecodeError::NeedlessLiteral),
        }
    }

    pub(super) fn fields(&mut self, limits: &HeadLimits) -> Result<HeaderMap, DecodeError> {
        let fields = usize::from(self.u16()?);
        let too_many = DecodeError::TooManyFields { fields, limit: limits.fields_max };
        if limits.fields_max < fields {
            return Err(too_many);
        }
        // Before the map is allocated: the count is the peer's, and may promise what is not there.
        if self.rest.len() / FIELD_OCTETS_MIN < fields {
            return Err(DecodeError::Truncated);
        }

        let mut map = HeaderMap::try_with_capacity(fields).map_err(|_| too_many)?;
        let mut last = None;
        for _ in 0..fields {
            let raw = self.raw_name()?;
            let name = field_name(&raw)?;
            let value = self.field_value(&name)?;
            let is_new = !map.contains_key(&name);
            if !is_new && last.as_ref() != Some(&raw) {
                return Err(DecodeError::ScatteredField);
            }
            map.try_append(name, value).map_err(|_| too_many)?;
            last = Some(raw);
        }
        Ok(map)
    }

    /// Takes a value, which stays a slice of the block.
    fn field_value(&mut self, name: &HeaderName) -> Result<HeaderValue, DecodeError> {
        let mut value = HeaderValue::from_maybe_shared(self.octets16()?)
            .map_err(|_| DecodeError::BadFieldValue)?;
        value.set_sensitive(names::is_secret(name.as_str()));
        Ok(value)
    }
}

fn field_name(raw: &RawName) -> Result<HeaderName, DecodeError> {
    if raw.code != LITERAL {
        let name = names::field(raw.code).ok_or(DecodeError::UnknownCode { code: raw.code })?;
        return Ok(HeaderName::from_static(name));
    }
    let name = HeaderName::from_lowercase(&raw.literal).map_err(|_| DecodeError::BadFieldName)?;
    match names::field_code(name.as_str()) {
        None => Ok(name),
        Some(_) => Err(DecodeError::NeedlessLiteral),
    }
}
