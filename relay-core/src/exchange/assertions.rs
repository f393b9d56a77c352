//! What the gateway says about a request, apart from what the client says.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;

use super::block::{DecodeError, EncodeError, Reader, Sink, put_len16};
use super::{FieldNames, ProvenCertificate};

/// Assertion types with this bit must be understood; others are skipped when unknown.
const CRITICAL: u8 = 0x80;
const ANSWER_WITHIN: u8 = 0x02;
const NAMES: u8 = 0x03;
const CERTIFICATE: u8 = 0x04;
const MESSAGE_ID: u8 = CRITICAL | 0x01;

/// The id of one message, the same on every hop, in every log line and in the answer.
///
/// Its text form is a lower-case GUID, `8-4-4-4-12`, octets in order (RFC 9562, section 4).
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MessageId(
    /// The 16 octets in the order of the text form.
    pub [u8; 16],
);

impl MessageId {
    /// The id made of these random bits, all but the six that say it is random.
    // RFC 9562, section 5.4.
    pub fn from_random(bits: u128) -> Self {
        let marked = bits & !(0xf << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62;
        Self(marked.to_be_bytes())
    }
}

/// A text that is not a GUID in the form of [`MessageId`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a message id is a GUID of 8-4-4-4-12 hexadecimal digits")]
pub struct ParseMessageIdError;

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, octet) in self.0.iter().enumerate() {
            if matches!(place, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{octet:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MessageId {
    type Err = ParseMessageIdError;

    /// Reads the text form; digits in either case, no braces.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut groups = text.split('-');
        let mut id = 0_u128;
        for digits in [8, 4, 4, 4, 12] {
            let group = groups.next().ok_or(ParseMessageIdError)?;
            if group.len() != digits || !group.bytes().all(|octet| octet.is_ascii_hexdigit()) {
                return Err(ParseMessageIdError);
            }
            let value = u128::from_str_radix(group, 16).map_err(|_| ParseMessageIdError)?;
            id = id << (4 * digits) | value;
        }
        match groups.next() {
            None => Ok(Self(id.to_be_bytes())),
            Some(_) => Err(ParseMessageIdError),
        }
    }
}

/// What the gateway asserts about a request. The site trusts these, never a client's header.
///
/// More will follow (who the client is, a trace); hence the constructor.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Assertions {
    /// The id of this message on every hop.
    pub message_id: MessageId,
    /// How long from now the gateway waits for the head of the answer; `None` when it waits without
    /// end, as for a notification exchange.
    ///
    /// Travels in whole milliseconds: a part of one counts as one, and more than `u32::MAX` (49.7
    /// days) is sent as that.
    pub answer_within: Option<Duration>,
    /// In which case the client wrote the names of fields; `None` if there is nothing special about
    /// any. A peer that does not know of it loses the case.
    pub names: Option<FieldNames>,
    /// The certificate whose key the client has proven to have, where the site's token service is
    /// to know of one. A peer that does not know of it tells the service of none.
    pub certificate: Option<ProvenCertificate>,
}

impl Assertions {
    /// Creates assertions that say nothing but the message id.
    pub fn new(message_id: MessageId) -> Self {
        Self { message_id, answer_within: None, names: None, certificate: None }
    }

    /// Writes the section, in ascending order of type.
    pub(super) fn write(&self, sink: &mut impl Sink) -> Result<(), EncodeError> {
        let names = self.names.as_ref().map(FieldNames::as_bytes);
        let certificate = self.certificate.as_ref().map(ProvenCertificate::as_bytes);
        let value_octets = self.answer_within.map_or(0, |_| 3 + 4)
            + names.map_or(0, |names| 3 + names.len())
            + certificate.map_or(0, |der| 3 + der.len())
            + 3
            + self.message_id.0.len();
        put_len16(sink, value_octets)?;
        if let Some(answer_within) = self.answer_within {
            put_assertion(sink, ANSWER_WITHIN, &whole_millis(answer_within).to_be_bytes())?;
        }
        if let Some(names) = names {
            put_assertion(sink, NAMES, names)?;
        }
        if let Some(der) = certificate {
            put_assertion(sink, CERTIFICATE, der)?;
        }
        put_assertion(sink, MESSAGE_ID, &self.message_id.0)
    }

    /// Reads the section of a request head.
    pub(super) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let mut message_id = None;
        let mut answer_within = None;
        let (mut names, mut certificate) = (None, None);
        read_section(reader, |kind, value| {
            match kind {
                MESSAGE_ID => message_id = Some(MessageId(fixed(kind, value)?)),
                ANSWER_WITHIN => {
                    let millis = u32::from_be_bytes(fixed(kind, value)?);
                    answer_within = Some(Duration::from_millis(millis.into()));
                }
                NAMES => {
                    let list = FieldNames::new(Bytes::copy_from_slice(value));
                    names = Some(list.ok_or(DecodeError::BadAssertion { kind })?);
                }
                CERTIFICATE => {
                    let der = ProvenCertificate::new(Bytes::copy_from_slice(value));
                    certificate = Some(der.ok_or(DecodeError::BadAssertion { kind })?);
                }
                _ => return refuse_critical(kind),
            }
            Ok(())
        })?;
        let message_id = message_id.ok_or(DecodeError::NoMessageId)?;
        Ok(Self { message_id, answer_within, names, certificate })
    }
}

/// Skips the section of an answer head, in which version 1 knows no assertion.
pub(super) fn skip_section(reader: &mut Reader) -> Result<(), DecodeError> {
    read_section(reader, |kind, _value| refuse_critical(kind))
}

/// Gives each assertion of a section to `take`, once its order is checked.
fn read_section(
    reader: &mut Reader,
    mut take: impl FnMut(u8, &[u8]) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let mut section = reader.section16()?;
    let mut last = None;
    while !section.is_empty() {
        let kind = section.u8()?;
        let value = section.octets16()?;
        // Strict order makes the encoding unique and rules out a second assertion of one type.
        if last.is_some_and(|last| kind <= last) {
            return Err(DecodeError::AssertionOrder { kind });
        }
        take(kind, &value)?;
        last = Some(kind);
    }
    Ok(())
}

fn refuse_critical(kind: u8) -> Result<(), DecodeError> {
    match kind & CRITICAL {
        0 => Ok(()),
        _ => Err(DecodeError::UnknownCriticalAssertion { kind }),
    }
}

fn fixed<const N: usize>(kind: u8, value: &[u8]) -> Result<[u8; N], DecodeError> {
    value.try_into().map_err(|_| DecodeError::BadAssertion { kind })
}

fn put_assertion(sink: &mut impl Sink, kind: u8, value: &[u8]) -> Result<(), EncodeError> {
    sink.put(&[kind]);
    put_len16(sink, value.len())?;
    sink.put(value);
    Ok(())
}

/// Rounds up, so that a short wait does not become none.
fn whole_millis(wait: Duration) -> u32 {
    u32::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00112233-4455-6677-8899-aabbccddeeff";

    #[test]
    fn a_message_id_prints_and_parses_as_a_lower_case_guid() {
        let id: MessageId = TEXT.parse().unwrap();
        assert_eq!(id.0.first_chunk(), Some(&[0x00, 0x11, 0x22, 0x33]));
        assert_eq!(id.to_string(), TEXT);
        assert_eq!(TEXT.to_uppercase().parse(), Ok(id));
    }

    #[test]
    fn other_texts_are_no_message_id() {
        for text in [
            "",
            "{00112233-4455-6677-8899-aabbccddeeff}",
            "00112233445566778899aabbccddeeff",
            "00112233-4455-6677-8899-aabbccddeef",
            "00112233-4455-6677-8899-aabbccddeeff-",
            "00112233-4455-6677-8899-aabbccddeeff-00",
            "+0112233-4455-6677-8899-aabbccddeeff",
            "0011223-34455-6677-8899-aabbccddeeff",
            "00112233-4455-6677-8899-aabbccddeefg",
        ] {
            assert_eq!(text.parse::<MessageId>(), Err(ParseMessageIdError), "{text}");
        }
    }

    #[test]
    fn a_wait_is_rounded_up_to_whole_milliseconds_and_capped() {
        assert_eq!(whole_millis(Duration::ZERO), 0);
        assert_eq!(whole_millis(Duration::from_nanos(1)), 1);
        assert_eq!(whole_millis(Duration::from_micros(1_001)), 2);
        assert_eq!(whole_millis(Duration::from_millis(u32::MAX.into())), u32::MAX);
        assert_eq!(whole_millis(Duration::MAX), u32::MAX);
    }
}
