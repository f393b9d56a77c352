//! Codes: those of streams and links, and QUIC's.

use quinn::{ConnectionError, VarInt};

use crate::mux::{GOAWAY_TEXT_MAX, LinkError, StreamCode};

/// In the code of a `STOP_SENDING`: the stream is reset, not only this half of it unwanted.
const WHOLE: u64 = 1 << 32;

/// Longest reason in octets, as in the mux.
const TEXT_MAX: usize = GOAWAY_TEXT_MAX as usize;

/// The code of a link that nobody ended: its driver was dropped.
const LOST: u64 = 0x0b;

/// The stream's code in a code of QUIC's.
pub(super) fn stream_code(raw: VarInt) -> StreamCode {
    let low = raw.into_inner() & u64::from(u32::MAX);
    StreamCode(u32::try_from(low).unwrap_or(u32::MAX))
}

/// Whether the stream is reset by a `STOP_SENDING` with this code.
pub(super) fn is_whole_reset(raw: VarInt) -> bool {
    raw.into_inner() & WHOLE != 0
}

/// The code of a `STOP_SENDING` that stops one half.
pub(super) fn of_stop(code: StreamCode) -> VarInt {
    code.0.into()
}

/// The code of a `STOP_SENDING` that is half of a reset.
pub(super) fn of_reset(code: StreamCode) -> VarInt {
    VarInt::from_u64(WHOLE | u64::from(code.0)).unwrap_or(VarInt::MAX)
}

/// What `CONNECTION_CLOSE` says of a link that ends for this reason.
pub(super) fn goodbye(why: &LinkError) -> (VarInt, String) {
    let mut text = match why {
        LinkError::ClosedHere => String::new(),
        why => why.goodbye(),
    };
    let mut end = TEXT_MAX.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    (why.code().into(), text)
}

/// Why a link has ended whose connection has.
pub(super) fn ended_by(why: &ConnectionError) -> LinkError {
    let lost = |cause: String| LinkError::Lost { cause: cause.into() };
    match why {
        ConnectionError::ApplicationClosed(close) if close.error_code.into_inner() == LOST => {
            lost("the peer let go of it without goodbye".into())
        }
        ConnectionError::ApplicationClosed(close) => {
            LinkError::ended_by_peer(stream_code(close.error_code).0, shown(&close.reason))
        }
        ConnectionError::ConnectionClosed(close) => {
            lost(format!("the peer's QUIC ended it: {}", shown(close.to_string().as_bytes())))
        }
        ConnectionError::TransportError(error) => {
            lost(format!("the peer broke QUIC's rules: {error}"))
        }
        ConnectionError::Reset => lost("the peer does not know it (was it started anew?)".into()),
        ConnectionError::TimedOut => LinkError::Silent,
        ConnectionError::VersionMismatch => lost("the peer speaks no version of QUIC known".into()),
        ConnectionError::CidsExhausted => lost("no connection id is left".into()),
        ConnectionError::LocallyClosed => LinkError::ClosedHere,
    }
}

/// Text of a peer's, for logs: no control characters, at most 128 characters.
fn shown(octets: &[u8]) -> Box<str> {
    let text = String::from_utf8_lossy(octets);
    let printable = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().take(TEXT_MAX).map(printable).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    // [QUIC-16] +-
    #[test]
    fn a_stop_and_half_of_a_reset_are_told_apart_whatever_their_code() {
        for code in [0, 1, 0x123, u32::MAX].map(StreamCode) {
            assert_eq!(stream_code(of_stop(code)), code);
            assert_eq!(stream_code(of_reset(code)), code);
            assert!(!is_whole_reset(of_stop(code)) && is_whole_reset(of_reset(code)));
        }
    }

    // [QUIC-03] -
    #[test]
    fn silence_and_a_peer_that_let_go_are_told_from_a_goodbye() {
        assert_eq!(ended_by(&ConnectionError::TimedOut), LinkError::Silent);
        let close = |code: LinkError| {
            let (error_code, reason) = goodbye(&code);
            let reason = reason.into_bytes().into();
            ended_by(&ConnectionError::ApplicationClosed(quinn::ApplicationClose {
                error_code,
                reason,
            }))
        };
        let dropped = LinkError::Lost { cause: "its driver was dropped".into() };
        assert!(matches!(close(dropped), LinkError::Lost { .. }));
        let done = LinkError::ClosedByPeer { code: LinkError::CODE_DONE, text: "".into() };
        assert_eq!(close(LinkError::ClosedHere), done);
        let long = LinkError::Control { what: "x".repeat(500).leak() };
        let LinkError::ClosedByPeer { code: 0x0c, text } = close(long) else { panic!("control") };
        assert_eq!(text.len(), TEXT_MAX);
    }

    #[test]
    fn what_a_peer_says_cannot_break_a_line_of_the_log() {
        let close = quinn::ApplicationClose {
            error_code: 0x0au32.into(),
            reason: b"one\ntwo\xff".as_slice().into(),
        };
        let why = ended_by(&ConnectionError::ApplicationClosed(close));
        let text = "one\u{fffd}two\u{fffd}".into();
        assert_eq!(why, LinkError::ClosedByPeer { code: 0x0a, text });
    }
}
