//! The access log of a gateway: one line for each request, how it ended, and no secret.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use relay_core::exchange::{AbortCode, AnswerHead, HeadLimits, Origin};
use relay_core::gateway::{AnswerBody, Gateway};
use relay_core::link;
use relay_core::mux::{Config, HeadKind, StreamCode};
use relay_tests::client::{Client, Http, bare, with_body};
use relay_tests::http2::{Frame, Http2Client, WHOLE, asks, block, code, frame, kind};
use relay_tests::logs::Logs;
use relay_tests::roles::{House, Rogue, SERVICE, counted, target, until, within};
use relay_tests::site::{Backend, fed, full};
use serde_json::Value;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// The one line of the access log that there is.
fn line(logs: &Logs) -> Value {
    let lines = logs.with(&[r#""target":"relay::access""#]);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    let line: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(line["level"], "INFO");
    line["fields"].clone()
}

/// Whether the trace that began with `begun` goes from hop to hop, to what the backend was `told`.
fn follow(logs: &Logs, gateway: &Value, told: &str, begun: &str) {
    let forwarded = logs.with(&["\"forwarded\""]);
    let [forwarded] = &forwarded[..] else { panic!("one hop more: {forwarded:#?}") };
    let line: Value = serde_json::from_str(forwarded).unwrap();
    let (site, span) = (&line["fields"], &line["span"]);
    for hop in [gateway, site] {
        assert_eq!(hop["trace_id"], TRACE, "{hop}");
    }
    assert_eq!(span["parent_id"], gateway["span_id"], "the gateway has told its own: {line}");
    assert_eq!(span["message_id"], gateway["message_id"], "{line}");
    let own = site["span_id"].as_str().unwrap();
    assert_eq!(told, format!("00-{TRACE}-{own}-01"), "the backend hears of the last hop");
    assert!(![gateway["span_id"].as_str().unwrap(), begun].iter().any(|it| told.contains(it)));
}

/// A backend that answers with what it was sent, and a house before it.
async fn echo() -> (Backend, House) {
    let backend = Backend::start(|request: Request<Incoming>| async move {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(full([body, Bytes::from_static(b" and more")].concat()))
    })
    .await;
    let house = House::before(backend.address);
    (backend, house)
}

#[tokio::test]
async fn a_request_that_is_relayed_is_told_whole_when_it_has_ended() {
    within(async {
        for (http, version) in [(Http::One, "HTTP/1.1"), (Http::Two, "HTTP/2.0")] {
            let logs = Logs::capture_debug();
            let (backend, house) = echo().await;
            let (gateway, _link) = house.joined().await;
            let mut request = with_body("CCM_POST", &target("/SMS_MP/x?a=b"), full("a body"));
            let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
            request.headers_mut().insert("traceparent", parent.parse().unwrap());
            let mut client = Client::join(&gateway, &house.ca, http).await;
            let answer = client.ask(request).await;
            assert_eq!(answer.body, "a body and more");
            let line = line(&logs);
            let told = backend.seen()[0].headers["traceparent"].to_str().unwrap().to_owned();
            follow(&logs, &line, &told, &parent);
            for (field, value) in [
                ("message_id", answer.message_id()),
                ("client", "192.0.2.1:50000"),
                ("version", version),
                ("method", "CCM_POST"),
                ("path", &target("/SMS_MP/x")),
                ("trace_id", TRACE),
                ("endpoint", "mp"),
                ("site", "default"),
                ("ended", "complete"),
            ] {
                assert_eq!(line[field], value, "{field} of {line}");
            }
            for (field, value) in
                [("status", 200), ("octets_up", 6), ("octets_down", 15), ("sent_again", 0)]
            {
                assert_eq!(line[field], value, "{field} of {line}");
            }
            assert!(line["connection_point"].is_string() && line["link"].is_u64(), "{line}");
            assert!(line["reason"].is_null(), "the site's own phrase is not shown: {line}");
            let times = ["opened_ms", "answered_ms", "total_ms"].map(|it| line[it].as_f64());
            assert!(times.is_sorted() && times[0].is_some(), "{line}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_request_of_no_trace_begins_none_and_what_is_no_trace_travels_on_as_it_is() {
    within(async {
        for told in [None, Some("00-not-a-trace"), Some("00-0-0-01")] {
            let logs = Logs::capture();
            let (backend, house) = echo().await;
            let (gateway, _link) = house.joined().await;
            let mut request = bare("GET", &target("/SMS_MP/x"));
            if let Some(told) = told {
                request.headers_mut().insert("traceparent", told.parse().unwrap());
            }
            let mut client = Client::join(&gateway, &house.ca, Http::One).await;
            client.ask(request).await;
            let seen = backend.seen();
            let seen = seen[0].headers.get("traceparent").map(|value| value.to_str().unwrap());
            assert_eq!(seen, told);
            let line = line(&logs);
            assert!(line["trace_id"].is_null() && line["span_id"].is_null(), "{line}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_the_gateway_answers_by_itself_is_told_with_its_reason() {
    within(async {
        let (_backend, house) = echo().await;
        let (gateway, _link) = house.joined().await;
        for (verb, path, status, reason) in [
            ("GET", "/elsewhere?secret", 404, "CMGService_Not_Published"),
            ("DELETE", "/SMS_MP/x", 405, "CMGService_Method_Not_Allowed"),
            ("HEAD", "/elsewhere", 404, "CMGService_Not_Published"),
        ] {
            let logs = Logs::capture();
            let mut client = Client::join(&gateway, &house.ca, Http::One).await;
            let answer = client.ask(bare(verb, &target(path))).await;
            let line = line(&logs);
            assert_eq!(
                (line["message_id"].as_str(), &line["status"]),
                (Some(answer.message_id()), &Value::from(status),)
            );
            assert_eq!((&line["reason"], &line["ended"]), (&reason.into(), &"refused here".into()));
            assert!(line["link"].is_null() && line["opened_ms"].is_null(), "{line}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_no_request_is_told_with_its_client() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    within(async {
        let logs = Logs::capture();
        let (_backend, house) = echo().await;
        let gateway = house.gateway(1);
        let pipe = relay_tests::client::pipe_to(&gateway);
        let mut client = relay_tests::client::tls(pipe, &house.ca, Http::One.alpn()).await;
        client.write_all(b"GET / HTTP/1.1\nHost: a\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        // It may be cut without a goodbye.
        let _ = client.read_to_end(&mut answer).await;
        let line = line(&logs);
        assert_eq!((&line["client"], &line["status"]), (&"192.0.2.1:50000".into(), &400.into()));
        assert_eq!(line["ended"], "refused here");
    })
    .await;
}

/// Sends the head of an answer.
fn begin_answer(incoming: &mut link::Incoming) {
    let (status, headers) = (StatusCode::OK, HeaderMap::new());
    let head = AnswerHead { status, reason: None, headers, origin: Origin::Site };
    let block = head.encode(&HeadLimits::default()).unwrap();
    incoming.send.send_head(block, HeadKind::Final).unwrap();
}

/// Sends an answer for as long as anybody takes it.
async fn answer_without_end(rogue: Rogue) {
    let mut incoming = rogue.link.accept().await.unwrap();
    begin_answer(&mut incoming);
    while incoming.send.write_chunk(Bytes::from_static(&[7; 16 << 10])).await.is_ok() {}
}

/// A gateway with a link to a peer that sends the head of an answer and one chunk.
async fn half_answered(house: &House) -> (Gateway, Rogue, link::Incoming, Response<Answer>) {
    let gateway = house.gateway(1);
    let rogue = house.rogue_connection_point(&gateway, Config::default()).await;
    let asked = gateway.clone();
    let request = Request::get(target("/SMS_MP/x")).body(Empty::new()).unwrap();
    let asking = tokio::spawn(async move { asked.handle(request).await });
    let mut incoming = rogue.link.accept().await.unwrap();
    begin_answer(&mut incoming);
    incoming.send.write_chunk(Bytes::from_static(b"half")).await.unwrap();
    (gateway, rogue, incoming, asking.await.unwrap())
}

type Answer = AnswerBody<Empty<Bytes>>;

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_is_told_with_what_broke_it() {
    within(async {
        for (how, ended, counts) in [
            ("reset", "site broke off", Some("answer_cut_site")),
            ("lose", "link lost", Some("answer_cut_link_lost")),
            ("drop", "client gone", Some("answer_cut_client_gone")),
            ("stall", "site broke off", Some("answer_cut_site")),
            ("finish", "complete", None),
        ] {
            let logs = Logs::capture();
            let house = House::before(([127, 0, 0, 1], 9).into());
            let (gateway, rogue, mut incoming, answer) = half_answered(&house).await;
            let mut body = answer.into_body();
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
            assert_eq!(logs.with(&["relay::access"]), Vec::<String>::new(), "not before its end");
            match how {
                "reset" => incoming.send.reset(StreamCode(AbortCode::BackendTimeout.to_wire())),
                "lose" => rogue.lose(),
                "finish" => incoming.send.finish().unwrap(),
                _ => {}
            }
            if how == "drop" {
                drop(body);
            } else {
                let rest = body.collect().await;
                assert_eq!(rest.is_ok(), how == "finish", "{how}");
            }
            until(|| gateway.in_flight() == 0).await;
            let line = line(&logs);
            assert_eq!((&line["ended"], &line["octets_down"]), (&ended.into(), &4.into()), "{how}");
            assert_eq!(line["status"], 200, "what the client was told");
            let expected = counts.into_iter().map(|name| (name, 1)).collect();
            assert_eq!(counted(gateway.status().counts), expected, "{how}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_lost_before_the_answer_is_told_with_the_resends() {
    within(async {
        let logs = Logs::capture();
        let house = House::before(([127, 0, 0, 1], 9).into());
        let gateway = house.gateway(1);
        let first = house.rogue_connection_point(&gateway, Config::default()).await;
        let asked = gateway.clone();
        let request = Request::get(target("/SMS_MP/x")).body(Empty::<Bytes>::new()).unwrap();
        let asking = tokio::spawn(async move { asked.handle(request).await.status() });
        let _taken = first.link.accept().await.unwrap();
        first.lose();
        until(|| gateway.links() == 0).await;
        let second = house.rogue_connection_point(&gateway, Config::default()).await;
        let _taken = second.link.accept().await.unwrap();
        second.lose();
        assert_eq!(asking.await.unwrap(), StatusCode::BAD_GATEWAY);
        let line = line(&logs);
        assert_eq!((&line["ended"], &line["sent_again"]), (&"link lost".into(), &1.into()));
        assert_eq!(line["reason"], "CMGService_Connector_Lost");
    })
    .await;
}

#[tokio::test]
async fn a_client_that_goes_away_before_the_answer_is_told_with_what_it_sent() {
    within(async {
        for http in Http::BOTH {
            let logs = Logs::capture();
            let (backend, house) = echo().await;
            let (gateway, _link) = house.joined().await;
            let (feed, body) = fed();
            let mut client = Client::join(&gateway, &house.ca, http).await;
            feed.send(Bytes::from_static(b"some")).await.unwrap();
            let request = with_body("CCM_POST", &target("/SMS_MP/x"), body);
            let sending = tokio::spawn(async move { client.send(request).await.is_ok() });
            backend.until_in_flight(1).await;
            sending.abort();
            until(|| gateway.in_flight() == 0).await;
            let line = line(&logs);
            assert_eq!(line["ended"], "client gone", "{line}");
            assert_eq!((&line["octets_up"], &line["octets_down"]), (&4.into(), &0.into()));
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_told_as_too_slow() {
    within(async {
        for http in Http::BOTH {
            let logs = Logs::capture();
            let mut house = House::before(([127, 0, 0, 1], 9).into());
            house.gateway_limits.answer_stall = Duration::from_secs(2);
            let gateway = house.gateway(1);
            let rogue = house.rogue_connection_point(&gateway, Config::default()).await;
            tokio::spawn(answer_without_end(rogue));
            let mut client = Client::join(&gateway, &house.ca, http).await;
            // Its head is taken, and nothing more.
            let answer = client.send(bare("GET", &target("/SMS_MP/x"))).await.unwrap();
            while gateway.in_flight() > 0 {
                tokio::time::advance(Duration::from_millis(100)).await;
            }
            let line = line(&logs);
            assert_eq!(line["ended"], "client too slow", "{http:?}: {line}");
            assert!(line["octets_down"].as_u64().unwrap() > 0, "{line}");
            let counts = counted(gateway.status().counts);
            assert_eq!(counts.get("answer_cut_client_too_slow"), Some(&1), "{http:?}: {counts:?}");
            drop(answer);
        }
    })
    .await;
}

#[tokio::test]
async fn no_secret_of_a_request_is_in_the_log_at_any_level() {
    within(async {
        let logs = Logs::capture_all();
        let (backend, house) = echo().await;
        let (gateway, link) = house.joined().await;
        let secrets = [
            ("authorization", "Bearer hush-1"),
            ("cookie", "session=hush-2"),
            ("ccmclientidsignature", "hush-3"),
            ("clienttoken", "hush-4"),
            ("proxy-authorization", "Basic hush-5"),
        ];
        let ask = async |http, path: &str| {
            let mut request = with_body("CCM_POST", &target(path), full("hush-6"));
            for (name, value) in secrets {
                request.headers_mut().insert(name, value.parse().unwrap());
            }
            let mut client = Client::join(&gateway, &house.ca, http).await;
            client.ask(request).await.status()
        };
        for http in Http::BOTH {
            assert_eq!(ask(http, "/SMS_MP/x?token=hush-7").await, 200);
            assert_eq!(ask(http, "/elsewhere?token=hush-7").await, 404);
            assert_eq!(ask(http, "/SMS_MP/../x?token=hush-7").await, 400);
        }
        assert_eq!(backend.seen()[0].headers["clienttoken"], "hush-4", "the site has them");
        drop(backend);
        assert_eq!(ask(Http::Two, "/SMS_MP/x?token=hush-7").await, 502);
        link.lose();
        until(|| gateway.links() == 0).await;
        assert!(logs.with(&[r#""level":"DEBUG""#]).len() + logs.with(&["relay::access"]).len() > 6);
        assert_eq!(logs.with(&["hush"]), Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn a_request_that_is_reset_for_the_user_in_its_authority_has_a_line_and_no_user_in_it() {
    within(async {
        let logs = Logs::capture();
        let (_backend, house) = echo().await;
        let (gateway, _link) = house.joined().await;
        let mut client = Http2Client::join(&gateway, &house.ca).await;
        let authority = format!("me:secret@{SERVICE}");
        let path = target("/SMS_MP/x");
        let mut asked = asks("GET", &path);
        asked[2] = (":authority", &authority);
        client.send(&frame(kind::HEADERS, WHOLE, 1, &block(&asked))).await;
        let reset = client.until(Frame::ends_stream).await.unwrap();
        assert_eq!((reset.kind, reset.number(0)), (kind::RST_STREAM, code::PROTOCOL_ERROR));
        let line = line(&logs);
        assert_eq!(line["path"], path);
        assert_eq!(line["client"], "192.0.2.1:50000");
        assert_eq!(line["why"], "the request's authority has a user");
        assert_eq!(line["ended"], "refused here");
        assert!(line.get("status").is_none(), "it has no answer: {line}");
        assert!(logs.with(&["secret"]).is_empty());
    })
    .await;
}
