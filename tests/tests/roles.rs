//! The roles on an in-memory network: what a client is answered, and what reaches the site.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use relay_core::exchange::{AnswerHead, Assertions, HeadLimits, MessageId, Origin, RequestHead};
use relay_core::link::{End, Link};
use relay_core::mux::{Config, HeadKind, StreamCode};
use relay_core::policy::NAMED_HEADERS;
use relay_tests::client::{Answer, Client, Http, bare, with_body};
use relay_tests::logs::Logs;
use relay_tests::roles::{House, target, until, within};
use relay_tests::site::{Backend, Body, RawBackend, empty, fed, full, nobody, octets};

/// Asks on a connection of its own.
async fn ask(
    house: &House,
    gateway: &relay_core::gateway::Gateway,
    http: Http,
    request: Request<Body>,
) -> Answer {
    Client::join(gateway, &house.ca, http).await.ask(request).await
}

#[tokio::test]
async fn an_answer_of_the_site_arrives_as_it_was_sent() {
    within(async {
        let backend = Backend::start(|request: Request<Incoming>| async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            Response::builder()
                .status(StatusCode::MULTI_STATUS)
                .header("x-of-the-site", "yes")
                .body(full(body))
                .unwrap()
        })
        .await;
        let house = House::before(backend.address);
        let (gateway, _link) = house.joined().await;
        for (n, http) in (0..).zip(Http::BOTH) {
            let message = octets(n, 300_000);
            let request =
                with_body("CCM_POST", &target("/ccm_system/request?a=%20b"), full(message.clone()));
            let answer = ask(&house, &gateway, http, request).await;
            assert_eq!(answer.status(), 207);
            assert_eq!(answer.parts.headers["x-of-the-site"], "yes");
            assert_eq!(answer.reason(), None);
            assert!(answer.body == message, "{http:?}");
            assert_eq!(backend.seen().last().unwrap().uri, "/ccm_system/request?a=%20b");
        }
        backend.until_in_flight(0).await;
        assert_eq!(gateway.in_flight(), 0);
    })
    .await;
}

#[tokio::test]
async fn what_policy_refuses_is_named_and_never_reaches_the_site() {
    within(async {
        let backend = Backend::echo_path().await;
        let house = House::before(backend.address);
        let (gateway, _link) = house.joined().await;
        let cases = [
            ("GET", target("/elsewhere"), 404, "CMGService_Not_Published"),
            ("GET", target("/ccm_system_windowsauth/request"), 404, "CMGService_Not_Published"),
            ("GET", "/CCM_Proxy_MutualAuth/8/SMS_MP/x".to_owned(), 404, "CMGService_Not_Published"),
            ("GET", "/".to_owned(), 404, "CMGService_Not_Published"),
            ("DELETE", target("/elsewhere"), 404, "CMGService_Not_Published"),
            ("DELETE", target("/SMS_MP/x"), 405, "CMGService_Method_Not_Allowed"),
            ("get", target("/SMS_MP/x"), 405, "CMGService_Method_Not_Allowed"),
            ("GET", target("/SMS_MP/../x"), 400, "CMGService_Unsafe_Path"),
        ];
        for http in Http::BOTH {
            for (verb, path, status, reason) in &cases {
                let answer = ask(&house, &gateway, http, bare(verb, path)).await;
                assert_eq!((answer.status(), answer.reason()), (*status, Some(*reason)), "{path}");
                assert_eq!(answer.message_id().len(), 36);
                assert_eq!(answer.parts.headers.contains_key("allow"), *status == 405, "{path}");
            }
        }
        assert_eq!(backend.seen().len(), 0);
    })
    .await;
}

#[tokio::test]
async fn the_same_message_id_is_in_both_logs_and_in_the_answer() {
    let logs = Logs::capture();
    within(async {
        let backend = Backend::echo_path().await;
        let house = House::before(backend.address);
        let (gateway, _link) = house.joined().await;
        let answer = ask(&house, &gateway, Http::Two, bare("GET", &target("/SMS_MP/x"))).await;
        let id = answer.message_id();
        assert_eq!(
            logs.with(&[id, r#""target":"relay::access""#, r#""ended":"complete""#]).len(),
            1
        );
        assert_eq!(logs.with(&[id, "forwarded", "relay_core::connection_point"]).len(), 1);
        assert_eq!(logs.with(&[id]).len(), 2, "each side logs a request once");

        drop(backend);
        let answer = ask(&house, &gateway, Http::One, bare("GET", &target("/SMS_MP/x"))).await;
        assert_eq!(answer.status(), 502);
        assert_eq!(logs.with(&[answer.message_id(), "not forwarded"]).len(), 1);
        assert_eq!(logs.with(&[answer.message_id()]).len(), 2);
    })
    .await;
}

#[tokio::test]
async fn without_a_link_the_client_is_told_when_to_come_back() {
    within(async {
        let house = House::before(nobody().await);
        let gateway = house.gateway(1);
        for http in Http::BOTH {
            let answer = ask(&house, &gateway, http, bare("GET", &target("/SMS_MP/x"))).await;
            assert_eq!(answer.status(), 503);
            assert_eq!(answer.reason(), Some("CMGService_No_Connector"));
            assert!(answer.parts.headers.contains_key("retry-after"));
        }
    })
    .await;
}

#[tokio::test]
async fn a_backend_that_is_down_is_502_at_the_connection_point() {
    within(async {
        let house = House::before(nobody().await);
        let (gateway, _link) = house.joined().await;
        let answer = ask(&house, &gateway, Http::One, bare("GET", &target("/SMS_MP/x"))).await;
        assert_eq!(answer.status(), 502);
        assert_eq!(answer.reason(), Some("CMGConnector_Backend_Unreachable"));
        assert!(!answer.parts.headers.contains_key("retry-after"));
    })
    .await;
}

#[tokio::test]
async fn an_answer_to_head_has_no_body_whoever_answers() {
    within(async {
        let backend = Backend::echo_path().await;
        let up = House::before(backend.address);
        let down = House::before(nobody().await);
        let asked = [
            (&up, target("/SMS_MP/x"), 200),
            (&up, target("/elsewhere"), 404),
            (&down, target("/SMS_MP/x"), 502),
        ];
        for (house, path, status) in asked {
            let (gateway, _link) = house.joined().await;
            for http in Http::BOTH {
                let mut client = Client::join(&gateway, &house.ca, http).await;
                // A client takes octets behind such a head for a broken answer.
                let answer = client.ask(bare("HEAD", &path)).await;
                assert_eq!((answer.status(), answer.body.len()), (status, 0), "{http:?}");
            }
            until(|| gateway.in_flight() == 0).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn octets_behind_an_answer_that_has_no_body_reach_no_client() {
    within(async {
        let house = House::before(([127, 0, 0, 1], 9).into());
        let gateway = house.gateway(1);
        let rogue = house.rogue_connection_point(&gateway, Config::default()).await;
        let statuses = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED];
        let turn = AtomicUsize::new(0);
        let _count = answer_all(rogue.link.clone(), move |send| {
            let status = statuses[turn.fetch_add(1, Ordering::Relaxed) % 2];
            send.send_head(bare_head(status), HeadKind::Final).unwrap();
            send.write_now(Bytes::from_static(b"HTTP/1.1 200 OK\r\n\r\n")).unwrap();
            send.finish().unwrap();
        });
        for http in Http::BOTH {
            let mut client = Client::join(&gateway, &house.ca, http).await;
            for status in statuses {
                let answer = client.ask(bare("GET", &target("/SMS_MP/x"))).await;
                let came = (answer.parts.status, answer.body.len());
                assert_eq!(came, (status, 0), "{http:?}");
            }
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_of_an_answer_gives_its_stream_back() {
    for http in Http::BOTH {
        within(leave_unread(http)).await;
    }
}

async fn leave_unread(http: Http) {
    let house = House::before(([127, 0, 0, 1], 9).into());
    let gateway = house.gateway(1);
    let rogue = house.rogue_connection_point(&gateway, Config::default()).await;
    let site = tokio::spawn(async move {
        let mut incoming = rogue.link.accept().await.unwrap();
        incoming.send.send_head(bare_head(StatusCode::OK), HeadKind::Final).unwrap();
        while incoming.send.write_chunk(octets(0, 4096)).await.is_ok() {}
    });
    let mut client = Client::join(&gateway, &house.ca, http).await;
    let unread = client.send(bare("GET", &target("/SMS_MP/x"))).await.unwrap();
    site.await.unwrap();
    until(|| gateway.in_flight() == 0).await;
    assert!(unread.into_body().collect().await.is_err(), "cut, over {http:?}");
}

#[tokio::test]
async fn a_backend_that_hangs_is_504_and_given_up() {
    within(async {
        let backend = Backend::start(|_| std::future::pending()).await;
        let mut house = House::before(backend.address);
        house.connection_point_limits.backend_answer = Duration::from_millis(50);
        let (gateway, _link) = house.joined().await;
        let answer = ask(&house, &gateway, Http::Two, bare("GET", &target("/SMS_MP/x"))).await;
        assert_eq!((answer.status(), answer.reason()), (504, Some("CMGConnector_Timeout")));
        backend.until_in_flight(0).await;
    })
    .await;
}

#[tokio::test]
async fn a_backend_that_answers_garbage_is_502() {
    for (garbage, reason) in [
        ("", "CMGConnector_Bad_Gateway"),
        ("SSH-2.0-x\r\n\r\n", "CMGConnector_Bad_Answer"),
        ("HTTP/1.1 2000 what\r\n\r\n", "CMGConnector_Bad_Answer"),
        ("HTTP/1.1 200 OK\r\nconte", "CMGConnector_Bad_Gateway"),
    ] {
        within(async {
            let backend = RawBackend::saying(garbage).await;
            let house = House::before(backend.address);
            let (gateway, _link) = house.joined().await;
            let answer =
                ask(&house, &gateway, Http::One, bare("CCM_POST", &target("/SMS_MP/x"))).await;
            let came = (answer.status(), answer.reason());
            assert_eq!(came, (502, Some(reason)), "{garbage:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn a_redirect_is_reported_and_not_followed() {
    within(async {
        let elsewhere = Backend::echo_path().await;
        let to = format!("http://{}/SMS_MP/x", elsewhere.address);
        let backend = Backend::start(move |_| {
            let answer = Response::builder().status(302).header("location", &to).body(empty());
            async move { answer.unwrap() }
        })
        .await;
        let house = House::before(backend.address);
        let (gateway, _link) = house.joined().await;
        let answer = ask(&house, &gateway, Http::One, bare("GET", &target("/SMS_MP/x"))).await;
        assert_eq!((answer.status(), answer.reason()), (302, None));
        assert_eq!(elsewhere.seen().len(), 0);
        assert_eq!(backend.seen().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn named_headers_cross_and_those_of_one_hop_or_of_the_relay_do_not() {
    within(async {
        let backend = Backend::start(|_| async {
            let answer = Response::builder()
                .header("keep-alive", "timeout=5")
                .header("relay-reason", "forged")
                .header("x-of-the-site", "yes")
                .body(empty());
            answer.unwrap()
        })
        .await;
        let house = House::before(backend.address);
        let (gateway, _link) = house.joined().await;
        for http in Http::BOTH {
            let mut request = bare("GET", &target("/SMS_MP/x"));
            let sent = [
                ("ccmclientid", "GUID:1 "),
                ("ccmclientidsignature", "0aFF=="),
                ("range", "bytes=0-1"),
                ("x-forwarded-for", "192.0.2.9"),
                ("x-ssl-client-verify", "SUCCESS"),
                ("x_forwarded_host", "evil"),
                ("relay-message-id", "forged"),
                ("proxy-authorization", "Basic eDp5"),
            ];
            for (name, value) in sent {
                request.headers_mut().insert(name, value.parse().unwrap());
            }
            let answer = ask(&house, &gateway, http, request).await;
            assert_eq!((answer.status(), answer.reason()), (200, None));
            assert!(answer.parts.headers.contains_key("x-of-the-site"));
            assert!(!answer.parts.headers.contains_key("keep-alive"));
            assert_ne!(answer.message_id(), "forged");

            let seen = backend.seen().pop().unwrap().headers;
            assert_eq!(seen["ccmclientid"], "GUID:1");
            assert_eq!(seen["ccmclientidsignature"], "0aFF==");
            assert_eq!(seen["range"], "bytes=0-1");
            assert_eq!(seen["host"], backend.address.to_string());
            for (name, _) in &sent[3..] {
                assert!(!seen.contains_key(*name), "{name} reached the site over {http:?}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_body_beyond_its_limit_is_413_declared_or_not() {
    within(async {
        let backend = Backend::start(|request: Request<Incoming>| async move {
            // A cut body; the server waits for an answer that it cannot send.
            match request.into_body().collect().await {
                Ok(body) => Response::new(full(body.to_bytes())),
                Err(_) => Response::new(empty()),
            }
        })
        .await;
        let mut house = House::before(backend.address);
        house.endpoint.0.request_body_bytes_max = Some(1000);
        let (gateway, _link) = house.joined().await;
        for http in Http::BOTH {
            let post = |body| with_body("CCM_POST", &target("/ccm_system/request"), body);
            for len in [999, 1000] {
                let answer = ask(&house, &gateway, http, post(full(octets(0, len)))).await;
                assert_eq!((answer.status(), answer.body.len()), (200, len));
                let answer = ask(&house, &gateway, http, post(in_two(len))).await;
                assert_eq!((answer.status(), answer.body.len()), (200, len));
            }
            let seen = backend.seen().len();
            let answer = ask(&house, &gateway, http, post(full(octets(0, 1001)))).await;
            let refused = (413, Some("CMGService_Body_Too_Large"));
            assert_eq!((answer.status(), answer.reason()), refused, "declared, {http:?}");
            assert_eq!(backend.seen().len(), seen, "nothing reaches the site");

            let answer = ask(&house, &gateway, http, post(in_two(1001))).await;
            assert_eq!((answer.status(), answer.reason()), refused, "not declared, {http:?}");
            backend.until_in_flight(0).await;
        }
    })
    .await;
}

/// `len` octets in two chunks, of no declared length.
fn in_two(len: usize) -> Body {
    let (sender, body) = fed();
    let all = octets(0, len);
    tokio::spawn(async move {
        let (first, second) = (all.slice(..len / 2), all.slice(len / 2..));
        for chunk in [first, second, Bytes::new()] {
            // An error means that nobody reads any more.
            let _ = sender.send(chunk).await;
        }
    });
    body
}

#[tokio::test]
async fn a_client_that_reads_nothing_slows_no_other() {
    within(async {
        const LEN: usize = 4 << 20;
        let backend = Backend::start(|request: Request<Incoming>| async move {
            let seed = request.uri().path().len() as u64;
            Response::new(full(octets(seed, LEN)))
        })
        .await;
        let house = House::before(backend.address);
        let (gateway, _link) = house.joined().await;
        let mut stalled = Vec::new();
        for http in [Http::One, Http::Two, Http::Two] {
            let mut client = Client::join(&gateway, &house.ca, http).await;
            let answer = client.send(bare("GET", &target("/SMS_MP/stalled"))).await.unwrap();
            stalled.push((client, answer));
        }
        for http in Http::BOTH {
            let path = target("/SMS_MP/read");
            let answer = ask(&house, &gateway, http, bare("GET", &path)).await;
            assert!(answer.body == octets("/SMS_MP/read".len() as u64, LEN));
        }
        assert_eq!(gateway.in_flight(), 3, "they are still there");
        let stalled_body = octets("/SMS_MP/stalled".len() as u64, LEN);
        for (_client, answer) in stalled {
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            assert!(body == stalled_body, "and lose nothing by it");
        }
    })
    .await;
}

/// A head as a gateway would send it.
fn request_head(verb: &str, path: &str, headers: HeaderMap) -> Bytes {
    let head = RequestHead {
        method: Method::from_bytes(verb.as_bytes()).unwrap(),
        target: path.parse().unwrap(),
        headers,
        assertions: Assertions::new(MessageId([7; 16])),
    };
    head.encode(&HeadLimits::default()).unwrap()
}

#[test]
fn every_named_header_travels_as_a_code() {
    let octets_with = |name: &str| {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        let headers = HeaderMap::from_iter([(name, "x".parse().unwrap())]);
        request_head("GET", "/", headers).len()
    };
    for name in NAMED_HEADERS {
        let unknown = "x".repeat(name.len());
        // The length octet and the name itself are saved.
        assert_eq!(octets_with(name) + 1 + name.len(), octets_with(&unknown), "{name}");
    }
}

async fn answer_head(recv: &mut relay_core::link::RecvStream) -> AnswerHead {
    let head = recv.head().await.unwrap();
    AnswerHead::decode(head.block, &HeadLimits::default()).unwrap()
}

#[tokio::test]
async fn a_gateway_that_skips_judgement_reaches_nothing_that_is_not_published() {
    within(async {
        let backend = Backend::echo_path().await;
        let mut house = House::before(backend.address);
        house.endpoint.0.request_body_bytes_max = Some(10);
        let connection_point = house.connection_point(Vec::new());
        let rogue = house.rogue_gateway(&connection_point).await;
        let long = HeaderMap::from_iter([(http::header::CONTENT_LENGTH, 11.into())]);
        let cases = [
            ("GET", target("/elsewhere"), HeaderMap::new(), 404, "CMGConnector_Not_Published"),
            ("GET", "/SMS_MP/x".to_owned(), HeaderMap::new(), 404, "CMGConnector_Not_Published"),
            ("PUT", target("/SMS_MP/x"), HeaderMap::new(), 405, "CMGConnector_Method_Not_Allowed"),
            ("GET", target("/SMS_MP/.."), HeaderMap::new(), 400, "CMGConnector_Unsafe_Path"),
            ("CCM_POST", target("/SMS_MP/x"), long, 413, "CMGConnector_Body_Too_Large"),
        ];
        for (verb, path, headers, status, reason) in cases {
            let head = request_head(verb, &path, headers);
            let (_send, mut recv) = rogue.link.open(head, End::NoPayload).await.unwrap();
            let answer = answer_head(&mut recv).await;
            assert_eq!(answer.status.as_u16(), status, "{verb} {path}");
            assert_eq!(answer.reason.unwrap(), reason);
            assert_eq!(answer.origin, Origin::ConnectionPoint);
        }
        let garbage = Bytes::from_static(b"\xffnot a head");
        let (_send, mut recv) = rogue.link.open(garbage, End::NoPayload).await.unwrap();
        assert!(recv.head().await.is_err(), "reset");
        assert_eq!(backend.seen().len(), 0);

        let published = request_head("GET", &target("/SMS_MP/x"), HeaderMap::new());
        let (_send, mut recv) = rogue.link.open(published, End::NoPayload).await.unwrap();
        assert_eq!(answer_head(&mut recv).await.origin, Origin::Site, "the link goes on");
    })
    .await;
}

#[tokio::test]
async fn a_gateway_that_lets_a_body_grow_is_cut_at_the_sites_own_limit() {
    within(async {
        let backend = Backend::start(|request: Request<Incoming>| async move {
            // A cut body is answered too: the server waits for an answer that it cannot send.
            let _ = request.into_body().collect().await;
            Response::new(empty())
        })
        .await;
        let mut house = House::before(backend.address);
        house.endpoint.0.request_body_bytes_max = Some(10);
        let connection_point = house.connection_point(Vec::new());
        let rogue = house.rogue_gateway(&connection_point).await;
        let head = request_head("CCM_POST", &target("/SMS_MP/x"), HeaderMap::new());
        let (mut send, mut recv) = rogue.link.open(head, End::More).await.unwrap();
        send.write_chunk(octets(0, 11)).await.unwrap();
        // The site may have stopped this half before its end.
        let _ = send.finish();
        match recv.head().await {
            Ok(head) => {
                let answer = AnswerHead::decode(head.block, &HeadLimits::default()).unwrap();
                assert_ne!(answer.origin, Origin::Site, "the backend took it all");
                assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
            }
            Err(why) => panic!("no answer: {why}"),
        }
    })
    .await;
}

/// Answers every stream of `link` by `answer`, in the background, and counts them.
fn answer_all(
    link: Link,
    answer: impl Fn(&mut relay_core::link::SendStream) + Send + 'static,
) -> tokio::sync::watch::Receiver<usize> {
    let (count, counted) = tokio::sync::watch::channel(0);
    tokio::spawn(async move {
        while let Ok(mut incoming) = link.accept().await {
            count.send_modify(|count| *count += 1);
            answer(&mut incoming.send);
        }
    });
    counted
}

fn bare_head(status: StatusCode) -> Bytes {
    let headers = HeaderMap::new();
    let head = AnswerHead { status, reason: None, headers, origin: Origin::Site };
    head.encode(&HeadLimits::default()).unwrap()
}

fn says_ok(send: &mut relay_core::link::SendStream) {
    send.send_head(bare_head(StatusCode::OK), HeadKind::FinalAndEnd).unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_never_looked_at_is_sent_again_whatever_its_verb() {
    within(async {
        let house = House::before(([127, 0, 0, 1], 9).into());
        let gateway = house.gateway(1);
        let unwilling = house.rogue_connection_point(&gateway, Config::default()).await;
        let refused = answer_all(unwilling.link.clone(), |send| send.reset(StreamCode::REFUSED));
        let willing = house.rogue_connection_point(&gateway, Config::default()).await;
        let taken = answer_all(willing.link.clone(), says_ok);

        for _ in 0..4 {
            let request = bare("GET", &target("/SMS_MP/x"));
            assert_eq!(ask(&house, &gateway, Http::One, request).await.status(), 200);
        }
        assert_eq!(*taken.borrow(), 4);
        assert!(*refused.borrow() >= 2, "it had its turns");

        for _ in 0..4 {
            let post = with_body("CCM_POST", &target("/SMS_MP/x"), full("once"));
            assert_eq!(ask(&house, &gateway, Http::One, post).await.status(), 200);
        }
        assert_eq!(*taken.borrow(), 8, "each once");
        assert!(*refused.borrow() >= 4, "it had its turns");

        for _ in 0..4 {
            let before = *refused.borrow() + *taken.borrow();
            let (sender, body) = fed();
            let post = with_body("CCM_POST", &target("/SMS_MP/x"), body);
            let answer = async { ask(&house, &gateway, Http::Two, post).await.status() };
            let feed = async {
                until(|| *refused.borrow() + *taken.borrow() > before).await;
                // An error means that the answer did not wait for it.
                let _ = sender.send(octets(0, 10)).await;
            };
            assert_eq!(tokio::join!(answer, feed).0, 200, "nothing of the body was taken");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_point_that_refuses_everything_is_not_asked_for_ever() {
    within(async {
        let house = House::before(([127, 0, 0, 1], 9).into());
        let gateway = house.gateway(1);
        let rogue = house.rogue_connection_point(&gateway, Config::default()).await;
        let tries = AtomicUsize::new(0);
        let refused = answer_all(rogue.link.clone(), move |send| {
            // Gives in one day, so that a gateway without a bound fails the test and does not hang.
            match tries.fetch_add(1, Ordering::Relaxed) {
                0..100 => send.reset(StreamCode::REFUSED),
                _ => says_ok(send),
            }
        });
        let answer = ask(&house, &gateway, Http::Two, bare("GET", &target("/SMS_MP/x"))).await;
        assert_eq!((answer.status(), answer.reason()), (503, Some("CMGConnector_Refused")));
        assert!(answer.parts.headers.contains_key("retry-after"));
        let tries = *refused.borrow();
        assert!((2..=16).contains(&tries), "{tries} tries");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_point_that_never_answers_is_504_and_hears_of_it() {
    within(async {
        let house = House::before(([127, 0, 0, 1], 9).into());
        let gateway = house.gateway(1);
        let rogue = house.rogue_connection_point(&gateway, Config::default()).await;
        let silent = tokio::spawn(async move {
            let mut incoming = rogue.link.accept().await.unwrap();
            incoming.send.stopped().await
        });
        let answer = ask(&house, &gateway, Http::One, bare("GET", &target("/SMS_MP/x"))).await;
        assert_eq!((answer.status(), answer.reason()), (504, Some("CMGService_Timeout")));
        silent.await.unwrap();
        until(|| gateway.in_flight() == 0).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_point_that_answers_nonsense_is_502() {
    within(async {
        let house = House::before(([127, 0, 0, 1], 9).into());
        let gateway = house.gateway(1);
        let rogue = house.rogue_connection_point(&gateway, Config::default()).await;
        let _count = answer_all(rogue.link.clone(), |send| {
            send.send_head(Bytes::from_static(b"\xffnonsense"), HeadKind::FinalAndEnd).unwrap();
        });
        let answer = ask(&house, &gateway, Http::One, bare("GET", &target("/SMS_MP/x"))).await;
        assert_eq!((answer.status(), answer.reason()), (502, Some("CMGService_Bad_Answer")));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_finds_every_stream_taken_waits_and_is_then_503() {
    within(async {
        let house = House::before(([127, 0, 0, 1], 9).into());
        let gateway = house.gateway(1);
        let config = Config { accept_streams_max: 1, ..Config::default() };
        let rogue = house.rogue_connection_point(&gateway, config).await;
        let mut first = Client::join(&gateway, &house.ca, Http::Two).await;
        let request = bare("GET", &target("/BGB/held"));
        let first = tokio::spawn(async move { first.ask(request).await });
        let mut held = rogue.link.accept().await.unwrap();

        let answer = ask(&house, &gateway, Http::One, bare("GET", &target("/SMS_MP/x"))).await;
        assert_eq!((answer.status(), answer.reason()), (503, Some("CMGService_Overloaded")));
        assert!(answer.parts.headers.contains_key("retry-after"));

        says_ok(&mut held.send);
        drop(held);
        assert_eq!(first.await.unwrap().status(), 200);
        let _count = answer_all(rogue.link.clone(), says_ok);
        let answer = ask(&house, &gateway, Http::One, bare("GET", &target("/SMS_MP/x"))).await;
        assert_eq!(answer.status(), 200, "the stream is free again");
    })
    .await;
}
