//! Whatever the gateway takes over HTTP/2, a site sees as the same single request of HTTP/1.1;
//! whatever it refuses, nobody sees.
//!
//! `differential.rs` asks that of HTTP/1.1. Over HTTP/2 a request has its length by itself, so that
//! fields, pseudo-header fields and bodies can say things that HTTP/1.1 would read as framing, as
//! another line or as another request (RFC 9113, section 10.3). Each of them goes by itself on a
//! connection of its own, whose frames are written by hand; the origin keeps what it is sent and
//! reads it by the letter.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::collections::BTreeMap;

use relay_core::gateway::Gateway;
use relay_tests::http2::{END_HEADERS, END_STREAM, Http2Client, field, frame, kind};
use relay_tests::origin::Origin;
use relay_tests::pki::SiteCa;
use relay_tests::reading::Rest;
use relay_tests::roles::{House, SERVICE, target, until, within};

/// What would be the end of a chunked body, and one more request.
const BODY: &[u8] = b"0\r\n\r\nGET /stolen HTTP/1.1\r\nHost: x\r\n\r\n";

/// Verbs, each with its body.
const REQUESTS: [(&str, Option<&[u8]>); 3] =
    [("GET", None), ("GET", Some(BODY)), ("CCM_POST", Some(BODY))];

/// What becomes of a request with one odd thing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    /// The site has it, and the client its answer.
    Served,
    /// Nobody has it.
    Refused,
    /// Served if it has a body, else refused.
    NeedsBody,
    /// Served if it has none. With one it is cut: of what was said before its body began, the site
    /// may have a request with a body that is shorter.
    NeedsNoBody,
}

/// One odd thing about a request.
struct Odd {
    what: &'static str,
    /// Instead of the pseudo-header field of this name.
    instead: Option<&'static str>,
    fields: &'static [(&'static str, &'static str)],
    fate: Fate,
}

const fn more(
    what: &'static str,
    fields: &'static [(&'static str, &'static str)],
    fate: Fate,
) -> Odd {
    Odd { what, instead: None, fields, fate }
}

const fn instead(
    what: &'static str,
    fields: &'static [(&'static str, &'static str); 1],
    fate: Fate,
) -> Odd {
    Odd { what, instead: Some(fields[0].0), fields, fate }
}

const ODDITIES: [Odd; 36] = [
    more("nothing", &[], Fate::Served),
    more("chunks", &[("transfer-encoding", "chunked")], Fate::Refused),
    more("identity", &[("transfer-encoding", "identity")], Fate::Refused),
    more("a length of 0", &[("content-length", "0")], Fate::NeedsNoBody),
    more("its length", &[("content-length", "38")], Fate::NeedsBody),
    more("a length too long", &[("content-length", "39")], Fate::Refused),
    more("a length with a sign", &[("content-length", "+38")], Fate::Refused),
    more("a length in hexadecimal", &[("content-length", "0x26")], Fate::Refused),
    more("a list of lengths", &[("content-length", "38, 38")], Fate::Refused),
    more("two lengths", &[("content-length", "38"), ("content-length", "0")], Fate::Refused),
    more("nearly a length", &[("content_length", "0")], Fate::Served),
    more("nearly chunks", &[("transfer_encoding", "chunked")], Fate::Served),
    more("a line end in a value", &[("x-odd", "1\r\nTransfer-Encoding: chunked")], Fate::Refused),
    more("LF in a value", &[("x-odd", "1\ncontent-length: 0")], Fate::Refused),
    more("NUL in a value", &[("x-odd", "1\0")], Fate::Refused),
    more(
        "a request in a value",
        &[("x-odd", "1\r\n\r\nGET /stolen HTTP/1.1\r\nHost: x\r\n\r\n")],
        Fate::Refused,
    ),
    more("a line end in a name", &[("x-odd\r\ntransfer-encoding", "chunked")], Fate::Refused),
    more("a colon in a name", &[("transfer-encoding: chunked\r\nx", "1")], Fate::Refused),
    more("a space behind a name", &[("transfer-encoding ", "chunked")], Fate::Refused),
    more("a name of no octet", &[("", "chunked")], Fate::Refused),
    more("connection", &[("connection", "content-length")], Fate::Refused),
    more("keep-alive", &[("keep-alive", "timeout=5")], Fate::Refused),
    more("upgrade", &[("upgrade", "websocket")], Fate::Refused),
    more("te", &[("te", "chunked")], Fate::Refused),
    more("another expectation", &[("expect", "200-ok")], Fate::Refused),
    more("a wait for 100", &[("expect", "100-continue")], Fate::Served),
    more("another host", &[("host", "other.test")], Fate::Refused),
    more("trailers to come", &[("trailer", "content-length")], Fate::Served),
    instead("a line end in the path", &[(":path", "/x HTTP/1.1\r\nX: y")], Fate::Refused),
    instead("a space in the path", &[(":path", "/stolen HTTP/1.1")], Fate::Refused),
    instead("no path", &[(":path", "*")], Fate::Refused),
    instead("a URL for a path", &[(":path", "http://x/stolen")], Fate::Refused),
    instead(
        "a line end in the method",
        &[(":method", "GET /stolen HTTP/1.1\r\nX: y\r\n\r\nGET")],
        Fate::Refused,
    ),
    instead(
        "a line end in the authority",
        &[(":authority", "relay.test\r\nTransfer-Encoding: chunked")],
        Fate::Refused,
    ),
    instead("two authorities", &[(":authority", "relay.test x")], Fate::Refused),
    instead("a line end in the scheme", &[(":scheme", "https\r\nx")], Fate::Refused),
];

/// One request.
struct Case {
    odd: &'static Odd,
    verb: &'static str,
    body: Option<&'static [u8]>,
    /// Behind `/SMS_MP/`: no other request has it.
    name: String,
}

impl Case {
    fn all() -> Vec<Self> {
        let of = |(number, odd): (usize, &'static Odd)| {
            let case = move |(place, (verb, body)): (usize, _)| Self {
                odd,
                verb,
                body,
                name: format!("case-{number}-{place}"),
            };
            REQUESTS.into_iter().enumerate().map(case)
        };
        ODDITIES.iter().enumerate().flat_map(of).collect()
    }

    fn is_served(&self) -> bool {
        match self.odd.fate {
            Fate::Served => true,
            Fate::Refused => false,
            Fate::NeedsBody => self.body.is_some(),
            Fate::NeedsNoBody => self.body.is_none(),
        }
    }

    /// Whether a site may have seen it begin, though it was refused in the end.
    fn may_begin(&self) -> bool {
        // A length that the body does not have shows behind the head alone.
        let is_length = self.odd.fields.first().is_some_and(|field| field.0 == "content-length");
        is_length && self.body.is_some()
    }

    fn octets(&self) -> Vec<u8> {
        let path = target(&format!("/SMS_MP/{}", self.name));
        let usual = [
            (":method", self.verb),
            (":scheme", "https"),
            (":authority", SERVICE),
            (":path", path.as_str()),
        ];
        let usual = usual.into_iter().filter(|(name, _)| self.odd.instead != Some(*name));
        // In front of other fields pseudo-header fields may stand in any order.
        let (pseudo, rest): (Vec<_>, Vec<_>) =
            self.odd.fields.iter().copied().partition(|(name, _)| name.starts_with(':'));
        let block: Vec<u8> = pseudo
            .into_iter()
            .chain(usual)
            .chain(rest)
            .flat_map(|(name, value)| field(name, value))
            .collect();
        let end = if self.body.is_none() { END_STREAM } else { 0 };
        let head = frame(kind::HEADERS, END_HEADERS | end, 1, &block);
        let body = self.body.map(|body| frame(kind::DATA, END_STREAM, 1, body));
        [head, body.unwrap_or_default()].concat()
    }

    /// The status that the client is told; `None` if none.
    async fn told(&self, gateway: &Gateway, ca: &SiteCa) -> Option<u16> {
        let mut client = Http2Client::join(gateway, ca).await;
        client.send(&self.octets()).await;
        let is_end = |frame: &relay_tests::http2::Frame| {
            frame.kind == kind::GOAWAY || (frame.stream == 1 && frame.ends_stream())
        };
        client.until(is_end).await;
        client.status_of(1)
    }
}

#[tokio::test]
async fn an_origin_sees_each_request_of_http2_that_is_forwarded_once_and_as_it_was_sent() {
    let origin = Origin::start().await;
    let house = House::before(origin.address);
    let (gateway, link) = house.joined().await;
    let cases = Case::all();
    let mut told = Vec::new();
    for case in &cases {
        told.push(within(case.told(&gateway, &house.ca)).await);
    }
    within(until(|| gateway.in_flight() == 0)).await;
    link.lose();
    within(until(|| origin.open() == 0)).await;
    let mut seen: BTreeMap<Vec<u8>, Vec<_>> = BTreeMap::new();
    for request in origin.take() {
        seen.entry(request.line.clone()).or_default().push(request);
    }
    let mut faults = Vec::new();
    for (case, status) in cases.iter().zip(told) {
        let asked = format!("{} /SMS_MP/{} HTTP/1.1", case.verb, case.name);
        let seen = seen.remove(asked.as_bytes()).unwrap_or_default();
        let is_right = match (status, &seen[..]) {
            (Some(200), [one]) => case.is_served() && one.body == case.body.unwrap_or_default(),
            (Some(200), _) => false,
            (_, []) => !case.is_served(),
            (_, [one]) => case.may_begin() && !case.is_served() && BODY.starts_with(&one.body),
            _ => false,
        };
        if !is_right {
            faults.push(format!("{} {:?}: {status:?}, seen {seen:?}", case.verb, case.odd.what));
        }
    }
    faults.extend(seen.into_keys().map(|line| format!("nobody sent {}", line.escape_ascii())));
    for (rest, octets) in origin.take_rests() {
        let begun = |case: &&Case| {
            octets.starts_with(format!("{} ", case.verb).as_bytes())
                && octets
                    .windows(case.name.len() + 1)
                    .any(|it| it == format!("{} ", case.name).as_bytes())
        };
        let is_begun = matches!(rest, Rest::Half(_))
            && cases.iter().filter(begun).any(|case| case.may_begin() && !case.is_served());
        if !is_begun {
            faults.push(format!("{rest:?} is no part of a request: {}", octets.escape_ascii()));
        }
    }
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), cases.len(), faults.join("\n"));
    let served = cases.iter().filter(|case| case.is_served()).count();
    println!("{} requests over HTTP/2: {served} served, the others refused", cases.len());
}
