//! Why an exchange ended early, and what the client is told.

use http::StatusCode;

/// The mux's own code for a stream that its acceptor never looked at.
const MUX_REFUSED: u32 = 0x01;

/// The code in a RESET or STOP frame of an exchange.
///
/// | wire | code | said by, when | answer |
/// |---|---|---|---|
/// | 0x100 | `Cancelled` | the asking side: its client went away | 502 `Cancelled` |
/// | 0x101 | `Refused` | the answering side: never processed | 503 `Refused` |
/// | 0x102 | `BackendFailed` | connection point: unreachable, cut or garbled | 502 `Bad_Gateway` |
/// | 0x103 | `BackendTimeout` | connection point: no answer in time | 504 `Timeout` |
/// | 0x104 | `BodyTooLarge` | either: a streamed body passed its limit | 413 `Body_Too_Large` |
/// | 0x105 | `TooSlow` | either: the client sends or takes too slowly | 408 `Too_Slow` |
/// | 0x106 | `BadHead` | either: a head block could not be decoded | 502 `Bad_Head` |
/// | 0x107 | `Draining` | either: unfinished at the drain's deadline | 503 `Draining` |
/// | 0x108 | `Internal` | either: a fault of the relay itself | 500 `InternalServerError` |
/// | other | `Unknown` | a newer peer | 502 `Aborted` |
///
/// Codes below 0x100 belong to the mux; its 0x01, a stream never looked at, reads as `Refused`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum AbortCode {
    /// The client went away; nobody waits for an answer.
    Cancelled,
    /// The exchange was never processed. Safe to send again.
    Refused,
    /// The backend could not be reached, or broke off.
    BackendFailed,
    /// The backend did not answer in time.
    BackendTimeout,
    /// The body grew beyond its limit.
    BodyTooLarge,
    /// The client sends its body, or takes its answer, too slowly.
    TooSlow,
    /// A head block could not be decoded. A fault of the relay's other hop.
    BadHead,
    /// The hop is stopping and the exchange did not end before the deadline.
    Draining,
    /// The hop itself failed.
    Internal,
    /// A code this version does not know; never one of the above.
    Unknown(u32),
}

impl AbortCode {
    /// Every known code.
    pub const KNOWN: [Self; 9] = [
        Self::Cancelled,
        Self::Refused,
        Self::BackendFailed,
        Self::BackendTimeout,
        Self::BodyTooLarge,
        Self::TooSlow,
        Self::BadHead,
        Self::Draining,
        Self::Internal,
    ];

    /// Reads a code off the wire.
    pub fn from_wire(code: u32) -> Self {
        if code == MUX_REFUSED {
            return Self::Refused;
        }
        Self::KNOWN.into_iter().find(|known| known.to_wire() == code).unwrap_or(Self::Unknown(code))
    }

    /// Returns the code as it goes on the wire.
    pub fn to_wire(self) -> u32 {
        match self {
            Self::Cancelled => 0x100,
            Self::Refused => 0x101,
            Self::BackendFailed => 0x102,
            Self::BackendTimeout => 0x103,
            Self::BodyTooLarge => 0x104,
            Self::TooSlow => 0x105,
            Self::BadHead => 0x106,
            Self::Draining => 0x107,
            Self::Internal => 0x108,
            Self::Unknown(code) => code,
        }
    }

    /// Returns the status for a client that has not seen an answer's head yet, and the reason
    /// without the hop's prefix (`CMGService_` or `CMGConnector_`).
    pub fn answer(self) -> (StatusCode, &'static str) {
        match self {
            Self::Cancelled => (StatusCode::BAD_GATEWAY, "Cancelled"),
            Self::Refused => (StatusCode::SERVICE_UNAVAILABLE, "Refused"),
            Self::BackendFailed => (StatusCode::BAD_GATEWAY, "Bad_Gateway"),
            Self::BackendTimeout => (StatusCode::GATEWAY_TIMEOUT, "Timeout"),
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "Body_Too_Large"),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "Too_Slow"),
            Self::BadHead => (StatusCode::BAD_GATEWAY, "Bad_Head"),
            Self::Draining => (StatusCode::SERVICE_UNAVAILABLE, "Draining"),
            // Source: the spelling that administrators know from Configuration Manager's logs.
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError"),
            Self::Unknown(_) => (StatusCode::BAD_GATEWAY, "Aborted"),
        }
    }

    /// Whether the request reached no backend, so that any verb may be sent again.
    pub fn is_never_processed(self) -> bool {
        self == Self::Refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_frozen_and_survive_the_wire() {
        for (place, code) in (0x100..).zip(AbortCode::KNOWN) {
            assert_eq!(code.to_wire(), place);
            assert_eq!(AbortCode::from_wire(place), code);
        }
        for code in [0, 2, 0xff, 0x109, u32::MAX] {
            assert_eq!(AbortCode::from_wire(code), AbortCode::Unknown(code));
            assert_eq!(AbortCode::from_wire(code).to_wire(), code);
        }
    }

    #[test]
    fn only_a_refused_exchange_may_be_sent_again() {
        assert_eq!(AbortCode::from_wire(0x01), AbortCode::Refused);
        for code in AbortCode::KNOWN.into_iter().chain([AbortCode::Unknown(0x1ff)]) {
            assert_eq!(code.is_never_processed(), code == AbortCode::Refused);
        }
    }

    #[test]
    fn answers_are_the_documented_ones() {
        let answers = AbortCode::KNOWN.map(|code| {
            let (status, reason) = code.answer();
            (status.as_u16(), reason)
        });
        assert_eq!(
            answers,
            [
                (502, "Cancelled"),
                (503, "Refused"),
                (502, "Bad_Gateway"),
                (504, "Timeout"),
                (413, "Body_Too_Large"),
                (408, "Too_Slow"),
                (502, "Bad_Head"),
                (503, "Draining"),
                (500, "InternalServerError"),
            ]
        );
        assert_eq!(AbortCode::Unknown(0).answer(), (StatusCode::BAD_GATEWAY, "Aborted"));
    }
}
