//! Which interim answers of a site role are a client's business, and what they may carry.

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, StatusCode};

use super::strip_answer_headers;

/// Whether an interim answer passes: 103 (Early Hints), 102 and what may come to be, but not 100
/// nor 101. Whoever takes a body says so to its sender, hop by hop; and nobody asked to switch
/// protocols.
// RFC 9110, sections 10.1.1 and 15.2.
pub fn passes_interim(status: StatusCode) -> bool {
    let is_of_one_hop = matches!(status, StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS);
    status.is_informational() && !is_of_one_hop
}

/// Removes from an interim answer what may not cross a hop: all that [`strip_answer_headers`]
/// removes, and `Content-Length`, for it has no body.
///
/// Doing it twice changes nothing more.
// RFC 9110, section 8.6.
pub fn strip_interim_headers(headers: &mut HeaderMap) {
    strip_answer_headers(headers);
    headers.remove(CONTENT_LENGTH);
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn interim_statuses_pass_but_those_of_one_hop() {
        let passes = |status| passes_interim(StatusCode::from_u16(status).unwrap());
        let all: Vec<u16> = (100..=999).filter(|status| passes(*status)).collect();
        assert_eq!(all, (102..200).collect::<Vec<_>>());
    }

    #[test]
    fn an_interim_answer_has_hints_and_neither_a_length_nor_what_is_of_one_hop() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("link", "</style.css>; rel=preload"),
            ("content-length", "3"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("transfer-encoding", "chunked"),
            ("relay-reason", "CMGService_Forged"),
            ("bits-host-id", "mp01.corp.example"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        strip_interim_headers(&mut headers);
        let left: Vec<_> = headers.keys().map(http::HeaderName::as_str).collect();
        assert_eq!(left, ["link"]);
    }
}
