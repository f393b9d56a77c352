//! The client message of a management point: two parts in one `multipart/mixed` body.
//!
//! The first part is UTF-16LE XML with a byte order mark, the second zlib-deflated octets. Both
//! break a relay that takes a body for text, which is why the demonstration sends them. The site
//! and the session use this one codec, so what is proven is that the relay left the octets alone,
//! not that the format is exactly Microsoft's.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

/// The line between the parts. Source: the boundary that open-source clients of the protocol send.
const BOUNDARY: &str = "aAbBcCdDv1234567890VxXyYzZ";

/// The `Content-Type` of an encoded [`Message`].
pub(crate) const CONTENT_TYPE: &str = "multipart/mixed; boundary=\"aAbBcCdDv1234567890VxXyYzZ\"";

/// Largest encoded message that is taken, in octets: 1 MiB, far above the usual 6 kB.
pub(crate) const ENCODED_BYTES_MAX: usize = 1024 * 1024;

/// Largest payload after inflation, in octets: 4 MiB, so that a small body cannot grow without end.
const PAYLOAD_BYTES_MAX: u64 = 4 * 1024 * 1024;

const BYTE_ORDER_MARK: [u8; 2] = [0xff, 0xfe];

/// A client message, decoded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Message {
    /// The XML of the first part.
    pub xml: String,
    /// The inflated second part.
    pub payload: Vec<u8>,
}

/// Why a body is not a client message. Always the sender's fault.
#[derive(Debug, thiserror::Error, Eq, PartialEq)]
#[non_exhaustive]
pub(crate) enum MessageError {
    /// The body is not two parts between boundary lines.
    #[error("the body is not two parts between lines of `--{BOUNDARY}`")]
    Parts,
    /// The first part is not UTF-16LE with a byte order mark.
    #[error("the first part is not UTF-16LE text with a byte order mark")]
    NotUtf16,
    /// The second part is not a complete zlib stream, or inflates to more than 4 MiB.
    #[error("the second part is not a zlib stream of at most {PAYLOAD_BYTES_MAX} octets")]
    NotZlib,
}

impl Message {
    /// The body that carries this message, deflated at `effort`.
    ///
    /// Different efforts give different octets for one message; the site answers with another
    /// effort than it was asked with, so that an answer is never the request sent back.
    pub(crate) fn encode(&self, effort: Compression) -> Vec<u8> {
        let mut body = format!("--{BOUNDARY}\r\ncontent-type: text/plain; charset=UTF-16\r\n\r\n")
            .into_bytes();
        body.extend(BYTE_ORDER_MARK);
        body.extend(self.xml.encode_utf16().flat_map(u16::to_le_bytes));
        body.extend(
            format!("\r\n--{BOUNDARY}\r\ncontent-type: application/octet-stream\r\n\r\n").bytes(),
        );
        let mut deflated = ZlibEncoder::new(body, effort);
        deflated.write_all(&self.payload).expect("writing to a Vec cannot fail");
        let mut body = deflated.finish().expect("writing to a Vec cannot fail");
        body.extend(format!("\r\n--{BOUNDARY}--\r\n").bytes());
        body
    }

    /// Reads a message from a whole body.
    ///
    /// # Errors
    ///
    /// [`MessageError`], naming the part at fault.
    pub(crate) fn decode(body: &[u8]) -> Result<Self, MessageError> {
        let [text, deflated] = parts(body).ok_or(MessageError::Parts)?;
        let xml =
            text.strip_prefix(&BYTE_ORDER_MARK).and_then(utf16).ok_or(MessageError::NotUtf16)?;
        let mut payload = Vec::new();
        let mut inflated = ZlibDecoder::new(deflated);
        let len = inflated
            .by_ref()
            .take(PAYLOAD_BYTES_MAX + 1)
            .read_to_end(&mut payload)
            .map_err(|_| MessageError::NotZlib)?;
        if PAYLOAD_BYTES_MAX < len as u64 || inflated.total_in() != deflated.len() as u64 {
            return Err(MessageError::NotZlib);
        }
        Ok(Self { xml, payload })
    }
}

/// The contents of the two parts.
fn parts(body: &[u8]) -> Option<[&[u8]; 2]> {
    let opening = format!("--{BOUNDARY}");
    let delimiter = format!("\r\n--{BOUNDARY}");
    let rest = body.strip_prefix(opening.as_bytes())?;
    let (first, rest) = part(rest, delimiter.as_bytes())?;
    let (second, rest) = part(rest, delimiter.as_bytes())?;
    matches!(rest, b"--" | b"--\r\n").then_some([first, second])
}

/// One part's content and what follows its delimiter; `input` starts behind a boundary.
fn part<'a>(input: &'a [u8], delimiter: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let input = input.strip_prefix(b"\r\n")?;
    let (_head, content) = split_at(input, b"\r\n\r\n")?;
    split_at(content, delimiter)
}

/// What is before and after the first `mark`.
fn split_at<'a>(input: &'a [u8], mark: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = input.windows(mark.len()).position(|window| window == mark)?;
    Some((&input[..at], &input[at + mark.len()..]))
}

fn utf16(octets: &[u8]) -> Option<String> {
    let (pairs, []) = octets.as_chunks::<2>() else {
        return None;
    };
    char::decode_utf16(pairs.iter().map(|pair| u16::from_le_bytes(*pair)))
        .collect::<Result<_, _>>()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Message {
        Message {
            xml: "<Msg>\r\n\u{e4}\u{20ac}\u{1d11e}\u{d0a}</Msg>".into(),
            payload: (0..=255).cycle().take(3_000).collect(),
        }
    }

    #[test]
    fn a_message_survives_encoding_at_any_effort() {
        for effort in [Compression::none(), Compression::fast(), Compression::best()] {
            assert_eq!(Message::decode(&sample().encode(effort)), Ok(sample()));
        }
    }

    #[test]
    fn a_body_cut_anywhere_is_refused() {
        let body = sample().encode(Compression::fast());
        // The last two octets, the line end behind the closing boundary, are optional.
        for len in 0..body.len() - 2 {
            assert!(Message::decode(&body[..len]).is_err(), "cut to {len}");
        }
    }

    #[test]
    fn each_part_is_refused_by_its_own_error() {
        let body = |text: &[u8], deflated: &[u8]| {
            let line = format!("--{BOUNDARY}").into_bytes();
            [
                &line,
                b"\r\n\r\n\r\n".as_slice(),
                text,
                b"\r\n",
                &line,
                b"\r\n\r\n\r\n",
                deflated,
                b"\r\n",
                &line,
                b"--",
            ]
            .concat()
        };
        assert_eq!(Message::decode(b"hello"), Err(MessageError::Parts));
        assert_eq!(Message::decode(&body(b"<Msg/>", b"")), Err(MessageError::NotUtf16));
        assert_eq!(Message::decode(&body(b"\xff\xfea", b"")), Err(MessageError::NotUtf16));
        assert_eq!(Message::decode(&body(b"\xff\xfe\0\xd8", b"")), Err(MessageError::NotUtf16));
        assert_eq!(Message::decode(&body(b"\xff\xfea\0", b"plain")), Err(MessageError::NotZlib));
    }

    #[test]
    fn a_payload_that_inflates_past_the_limit_is_refused() {
        let at = |len: u64| Message {
            xml: String::new(),
            payload: vec![0; usize::try_from(len).unwrap()],
        };
        let encoded = |message: Message| message.encode(Compression::fast());
        assert!(Message::decode(&encoded(at(PAYLOAD_BYTES_MAX))).is_ok());
        let over = encoded(at(PAYLOAD_BYTES_MAX + 1));
        assert_eq!(Message::decode(&over), Err(MessageError::NotZlib));
    }
}
