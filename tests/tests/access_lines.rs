//! The lines of the access log by the letter: one of each kind of end, as text and as JSON, with
//! the same fields; and nothing that a client sends can forge one.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use relay_core::exchange::{
    AbortCode, AnswerHead, Assertions, HeadLimits, MessageId, Origin, RequestHead,
};
use relay_core::gateway::Gateway;
use relay_core::link::{self, Incoming};
use relay_core::mux::{Config, HeadKind, StreamCode};
use relay_tests::client::{Client, Http, bare, with_body};
use relay_tests::logs::{Format, Logs};
use relay_tests::roles::{House, Rogue, target, until, within};
use relay_tests::site::{Body, full};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// How an exchange ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Served,
    Refused,
    CutByClient,
    CutBySite,
    Timeout,
    NoConnector,
}

/// Names and values, as text has them. What is drawn or counted is `*`.
type Line = &'static [(&'static str, &'static str)];

const BEGINNING: [(&str, &str); 4] = [
    ("message_id", "*"),
    ("client", "192.0.2.1:50000"),
    ("version", "HTTP/1.1"),
    ("method", "\"CCM_POST\""),
];
const PUBLISHED: [(&str, &str); 4] = [
    ("path", "\"/CCM_Proxy_MutualAuth/7/SMS_MP/x\""),
    ("endpoint", "\"mp\""),
    ("site", "\"default\""),
    ("auth", "\"none\""),
];

/// What stands behind the beginning; durations are those of a network without delay.
const LINES: [(End, Line); 6] = [
    (
        End::Served,
        &[
            ("status", "200"),
            ("link", "*"),
            ("connection_point", "\"rogue\""),
            ("octets_up", "6"),
            ("octets_down", "4"),
            ("opened_ms", "0.0"),
            ("answered_ms", "0.0"),
            ("total_ms", "0.0"),
            ("sent_again", "0"),
            ("ended", "complete"),
        ],
    ),
    (
        End::Refused,
        &[
            ("path", "\"/CCM_Proxy_MutualAuth/7/elsewhere\""),
            ("auth", "\"none\""),
            ("status", "404"),
            ("reason", "\"CMGService_Not_Published\""),
            ("why", "\"refused: no endpoint publishes this path\""),
            ("octets_up", "0"),
            ("octets_down", "0"),
            ("total_ms", "0.0"),
            ("sent_again", "0"),
            ("ended", "refused here"),
        ],
    ),
    (
        End::CutByClient,
        &[
            ("link", "*"),
            ("connection_point", "\"rogue\""),
            ("octets_up", "6"),
            ("octets_down", "0"),
            ("opened_ms", "0.0"),
            ("total_ms", "0.0"),
            ("sent_again", "0"),
            ("ended", "client gone"),
        ],
    ),
    (
        End::CutBySite,
        &[
            ("status", "200"),
            ("why", "\"the stream was reset (0x102)\""),
            ("link", "*"),
            ("connection_point", "\"rogue\""),
            ("octets_up", "6"),
            ("octets_down", "4"),
            ("opened_ms", "0.0"),
            ("answered_ms", "0.0"),
            ("total_ms", "0.0"),
            ("sent_again", "0"),
            ("ended", "site broke off"),
        ],
    ),
    (
        End::Timeout,
        &[
            ("status", "504"),
            ("reason", "\"CMGService_Timeout\""),
            ("why", "\"no answer within 65 s\""),
            ("link", "*"),
            ("connection_point", "\"rogue\""),
            ("octets_up", "6"),
            ("octets_down", "0"),
            ("opened_ms", "0.0"),
            ("total_ms", "65000.0"),
            ("sent_again", "0"),
            ("ended", "site broke off"),
        ],
    ),
    (
        End::NoConnector,
        &[
            ("status", "503"),
            ("reason", "\"CMGService_No_Connector\""),
            ("why", "\"no connection point is connected to this instance\""),
            ("octets_up", "0"),
            ("octets_down", "0"),
            ("total_ms", "5000.0"),
            ("sent_again", "0"),
            ("ended", "refused here"),
        ],
    ),
];

/// All that a line has, in order.
fn expected(line: Line) -> Vec<(&'static str, &'static str)> {
    let published = if line[0].0 == "path" { &[][..] } else { &PUBLISHED };
    [&BEGINNING, published, line].concat()
}

fn answer_head() -> Bytes {
    let (status, headers) = (StatusCode::OK, HeaderMap::new());
    let head = AnswerHead { status, reason: None, headers, origin: Origin::Site };
    head.encode(&HeadLimits::default()).unwrap()
}

/// Takes the next request off a link whole.
async fn take(rogue: &Rogue) -> Incoming {
    let mut incoming = rogue.link.accept().await.unwrap();
    while incoming.recv.read_chunk().await.unwrap().is_some() {}
    incoming
}

fn request(end: End) -> Request<Body> {
    let path = if matches!(end, End::Refused) { "/elsewhere?sig=x" } else { "/SMS_MP/x?sig=x" };
    let mut request = with_body("CCM_POST", &target(path), full("a body"));
    request.headers_mut().insert("user-agent", "ccm\u{9b}31m".parse().unwrap());
    request
}

/// Has a request end so.
async fn drive(house: &House, gateway: &Gateway, end: End) {
    let rogue = house.rogue_connection_point(gateway, Config::default()).await;
    if matches!(end, End::NoConnector) {
        rogue.lose();
        until(|| gateway.links() == 0).await;
    }
    let mut client = Client::join(gateway, &house.ca, Http::One).await;
    let (read, is_read) = tokio::sync::oneshot::channel();
    let asking = tokio::spawn(async move {
        let mut body = client.send(request(end)).await.unwrap().into_body();
        let first = body.frame().await;
        let _ = read.send(());
        // The rest may be cut.
        (first, body.collect().await.is_ok())
    });
    match end {
        End::Served | End::CutBySite => {
            let mut incoming = take(&rogue).await;
            incoming.send.send_head(answer_head(), HeadKind::Final).unwrap();
            incoming.send.write_chunk(Bytes::from_static(b"half")).await.unwrap();
            is_read.await.unwrap();
            if matches!(end, End::Served) {
                incoming.send.finish().unwrap();
            } else {
                incoming.send.reset(StreamCode(AbortCode::BackendFailed.to_wire()));
            }
            asking.await.unwrap();
        }
        End::CutByClient => {
            let _incoming = take(&rogue).await;
            asking.abort();
        }
        End::Timeout => {
            let _incoming = take(&rogue).await;
            asking.await.unwrap();
        }
        End::Refused | End::NoConnector => drop(asking.await.unwrap()),
    }
    until(|| gateway.in_flight() == 0).await;
}

/// A value of JSON as text has it.
fn as_text(value: &Value, expected: &str) -> String {
    match value.as_str() {
        // Text has names and paths in quotes, and what is no text as it is.
        Some(text) if expected.starts_with('"') => format!("{text:?}"),
        Some(text) => text.to_owned(),
        None => value.to_string(),
    }
}

/// Whether a line of text has these fields, and no other.
fn check_text(line: &str, expected: &[(&str, &str)]) {
    let (_, mut rest) = line.split_once(" INFO relay::access: request").unwrap();
    for (name, value) in expected {
        rest = rest.strip_prefix(&format!(" {name}=")).unwrap_or_else(|| panic!("{name}: {line}"));
        let end = if *value == "*" { rest.find(' ').unwrap() } else { value.len() };
        assert!(*value == "*" || rest.starts_with(value), "{name} is not {value}: {line}");
        rest = &rest[end..];
    }
    assert_eq!(rest, "", "{line}");
}

/// As [`check_text`], of a line of JSON.
fn check_json(line: &str, expected: &[(&str, &str)]) {
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!((&line["level"], &line["target"]), (&"INFO".into(), &"relay::access".into()));
    let mut fields = line["fields"].as_object().unwrap().clone();
    assert_eq!(fields.remove("message"), Some("request".into()));
    for (name, value) in expected {
        let found = fields.remove(*name).unwrap_or_else(|| panic!("{name}: {line}"));
        let is_it = *value == "*" || as_text(&found, value) == *value;
        assert!(is_it, "{name} is not {value}: {line}");
    }
    assert!(fields.is_empty(), "{fields:?}");
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_end_has_its_line_as_text_and_as_json() {
    for (end, line) in LINES {
        for format in Format::BOTH {
            let logs = Logs::capture_as(format);
            let mut house = House::before(([127, 0, 0, 1], 9).into());
            // Else what nobody has published waits for somebody who might.
            house.initial = vec![house.document()];
            let gateway = house.gateway(1);
            within(drive(&house, &gateway, end)).await;
            let lines = logs.with(&["relay::access"]);
            assert_eq!(lines.len(), 1, "{end:?}: {lines:#?}");
            match format {
                Format::Text => check_text(&lines[0], &expected(line)),
                Format::Json => check_json(&lines[0], &expected(line)),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_that_a_client_sends_begins_a_line_or_steers_a_terminal() {
    within(async {
        for format in Format::BOTH {
            let logs = Logs::capture_as(format);
            let house = House::before(([127, 0, 0, 1], 9).into());
            let gateway = house.gateway(1);
            let _rogue = house.rogue_connection_point(&gateway, Config::default()).await;
            // Ends of lines and controls of C1, which terminals obey, and what turns text around.
            let paths = ["%0d%0a%1b[31m", "\u{9b}31m", "a\u{85}b\u{2028}c", "\u{202e}x", "\"\\\\n"];
            let uris = paths.map(|path| target(&format!("/else/{path}")).parse::<http::Uri>());
            for uri in uris.into_iter().flatten() {
                let mut client = Client::join(&gateway, &house.ca, Http::Two).await;
                let mut request = bare("GET", "/");
                *request.uri_mut() = uri;
                let agent = http::HeaderValue::from_bytes(b"\xff\xc2\x9b31m evil").unwrap();
                request.headers_mut().insert("user-agent", agent);
                client.ask(request).await;
            }
            // What no URL can be is refused before it is one.
            let pipe = relay_tests::client::pipe_to(&gateway);
            let mut raw = relay_tests::client::tls(pipe, &house.ca, b"http/1.1").await;
            let evil = b"GET /\x1b[31m\xff HTTP/1.1\r\nHost: a\r\nUser-Agent: \x1bevil\r\n\r\n";
            raw.write_all(evil).await.unwrap();
            let _ = raw.read_to_end(&mut Vec::new()).await;
            until(|| gateway.in_flight() == 0).await;
            // Nor what a gateway lets pass that judges nothing.
            let point = house.connection_point(Vec::new());
            let rogue = house.rogue_gateway(&point).await;
            let head = RequestHead {
                method: Method::GET,
                target: target("/SMS_MP/\u{9b}31m\u{85}").parse().unwrap(),
                headers: HeaderMap::new(),
                assertions: Assertions::new(MessageId([7; 16])),
            };
            let head = head.encode(&HeadLimits::default()).unwrap();
            let (_send, mut recv) = rogue.link.open(head, link::End::NoPayload).await.unwrap();
            recv.head().await.unwrap();
            assert_eq!(logs.with(&["not forwarded", "%C2%9B31m%C2%85"]).len(), 1, "{format:?}");
            let lines = logs.with(&[""]);
            let is_plain = |line: &String| line.bytes().all(|octet| (b' '..=b'~').contains(&octet));
            let odd: Vec<_> = lines.iter().filter(|line| !is_plain(line)).collect();
            assert!(odd.is_empty(), "{format:?}: {odd:#?}");
            assert_eq!(logs.with(&["evil"]), Vec::<String>::new(), "{format:?}");
            assert!(logs.with(&["relay::access"]).len() > 3);
        }
    })
    .await;
}
