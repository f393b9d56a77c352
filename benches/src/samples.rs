//! Frames and heads like those of a relay at work.

use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use relay_core::exchange::{AnswerHead, Assertions, MessageId, Origin, RequestHead};
use relay_core::mux::{Flags, HEADER_LEN, Header, Kind, StreamId};

use crate::payload;

/// `frames` DATA frames of `len` octets each, on the first stream.
///
/// # Panics
///
/// If `len` does not fit a frame.
pub fn data_frames(len: usize, frames: usize) -> Vec<u8> {
    let wire_len = u32::try_from(len).expect("a frame's payload is at most 65,528 octets");
    let stream = StreamId::from_wire(1);
    let header = Header::encode(Kind::Data, Flags::NONE, stream, wire_len);
    let mut wire = Vec::with_capacity(frames * (HEADER_LEN + len));
    for _ in 0..frames {
        wire.extend_from_slice(&header);
        wire.extend_from_slice(&payload(len));
    }
    wire
}

/// The headers of a client that posts a message.
///
/// # Panics
///
/// Never: it is made of constants.
pub fn request() -> RequestHead {
    let target = "/CCM_Proxy_MutualAuth/72057594037927939/ccm_system/request";
    let mut assertions = Assertions::new(MessageId([7; 16]));
    assertions.answer_within = Some(Duration::from_secs(65));
    RequestHead {
        method: Method::from_bytes(b"CCM_POST").expect("the verb is a token"),
        target: PathAndQuery::from_static(target),
        headers: headers(&[
            ("host", "gateway.example.org"),
            ("user-agent", "ConfigMgr Messaging HTTP Sender"),
            ("content-type", "multipart/mixed; boundary=\"aAbBcCdDv1234567890VxXyYzZ\""),
            ("content-length", "1984"),
            ("accept", "*/*"),
            ("date", "Sat, 21 Nov 2026 10:00:00 GMT"),
        ]),
        assertions,
    }
}

/// The headers of an answer from the web server behind a site role.
pub fn answer() -> AnswerHead {
    AnswerHead {
        status: StatusCode::OK,
        reason: None,
        headers: headers(&[
            ("content-type", "multipart/mixed; boundary=\"aAbBcCdDv1234567890VxXyYzZ\""),
            ("content-length", "1024"),
            ("server", "Microsoft-IIS/10.0"),
            ("date", "Sat, 21 Nov 2026 10:00:00 GMT"),
            ("x-powered-by", "ASP.NET"),
        ]),
        origin: Origin::Site,
    }
}

fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let field = |&(name, value): &(&'static str, &'static str)| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    fields.iter().map(field).collect()
}
