//! The roles on an in-memory network: what breaks on the way, and who hears of it.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use relay_core::exchange::{AnswerHead, HeadLimits, Origin};
use relay_core::gateway::header;
use relay_core::mux::{Config, HeadKind};
use relay_tests::client::{Client, Http, bare, pipe_to, tls, with_body};
use relay_tests::roles::{House, Rogue, join, target, until, within};
use relay_tests::site::{Backend, Body, RawBackend, empty, endless, fed, full, octets};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Octets that an answer declares, of which less comes.
const DECLARED: usize = 1000;

/// How an answer ends before its time.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// The connection point's connection is lost.
    LinkLost,
    /// The connection point closes the link in good order.
    LinkClosed,
    /// The stream is dropped.
    Dropped,
    /// The half ends in good order, before the declared length.
    EndedShort,
}

fn answer_head(declared: Option<usize>) -> Bytes {
    let mut headers = HeaderMap::new();
    if let Some(declared) = declared {
        headers.insert(CONTENT_LENGTH, declared.into());
    }
    let head = AnswerHead { status: StatusCode::OK, reason: None, headers, origin: Origin::Site };
    head.encode(&HeadLimits::default()).unwrap()
}

/// Answers the next request with a head and ten octets, and cuts it once told to.
async fn answer_and_cut(
    rogue: &Rogue,
    declared: Option<usize>,
    cut: Cut,
    go: tokio::sync::oneshot::Receiver<()>,
) {
    let mut incoming = rogue.link.accept().await.unwrap();
    incoming.send.send_head(answer_head(declared), HeadKind::Final).unwrap();
    incoming.send.write_chunk(octets(0, 10)).await.unwrap();
    go.await.unwrap();
    match cut {
        Cut::LinkLost => rogue.lose(),
        Cut::LinkClosed => rogue.link.close(),
        Cut::Dropped => drop(incoming),
        Cut::EndedShort => incoming.send.finish().unwrap(),
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_never_looks_complete() {
    let lengths = [Some(DECLARED), None];
    let cuts =
        [Cut::LinkLost, Cut::LinkClosed, Cut::Dropped].map(|cut| lengths.map(|it| (cut, it)));
    // Without a declared length an end in good order is the end.
    let short = (Cut::EndedShort, Some(DECLARED));
    for (cut, declared) in cuts.into_iter().flatten().chain([short]) {
        for http in Http::BOTH {
            within(cut_answer(http, cut, declared)).await;
        }
    }
}

async fn cut_answer(http: Http, cut: Cut, declared: Option<usize>) {
    let house = House::before(([127, 0, 0, 1], 9).into());
    let gateway = house.gateway(1);
    let rogue = house.rogue_connection_point(&gateway, Config::default()).await;
    let (go, told) = tokio::sync::oneshot::channel();
    let site = tokio::spawn(async move { answer_and_cut(&rogue, declared, cut, told).await });

    let mut client = Client::join(&gateway, &house.ca, http).await;
    let answer = client.send(bare("GET", &target("/SMS_MP/x"))).await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut body = answer.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, octets(0, 10));
    go.send(()).unwrap();
    let end = body.frame().await;
    assert!(matches!(end, Some(Err(_))), "{http:?}, {cut:?}, {declared:?}: {end:?}");
    site.await.unwrap();
    until(|| gateway.in_flight() == 0).await;
}

#[tokio::test]
async fn a_cut_chunked_answer_has_no_last_chunk_on_the_wire() {
    within(async {
        let house = House::before(([127, 0, 0, 1], 9).into());
        let gateway = house.gateway(1);
        let rogue = house.rogue_connection_point(&gateway, Config::default()).await;
        let (go, told) = tokio::sync::oneshot::channel();
        let site = answer_and_cut(&rogue, None, Cut::LinkLost, told);

        let ask = async {
            let mut stream = tls(pipe_to(&gateway), &house.ca, b"http/1.1").await;
            let request = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", target("/SMS_MP/x"));
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut came = Vec::new();
            while !came.windows(4).any(|end| end == b"\r\n\r\n") {
                stream.read_buf(&mut came).await.unwrap();
            }
            go.send(()).unwrap();
            // The end of the connection may be an error: TLS was not closed in good order.
            while stream.read_buf(&mut came).await.is_ok_and(|count| count > 0) {}
            came
        };
        let ((), came) = tokio::join!(site, ask);
        let text = String::from_utf8_lossy(&came);
        assert!(text.contains("transfer-encoding: chunked"), "{text}");
        assert!(!came.ends_with(b"0\r\n\r\n"), "{text}");
    })
    .await;
}

/// A backend that takes every request whole and answers none.
async fn silent_backend() -> Backend {
    Backend::start(|request: Request<Incoming>| async move {
        let _ = request.into_body().collect().await;
        std::future::pending().await
    })
    .await
}

#[tokio::test]
async fn a_link_lost_before_the_answer_is_502_and_the_site_was_asked_once() {
    within(async {
        let backend = silent_backend().await;
        let house = House::before(backend.address);
        for http in Http::BOTH {
            lose_all_links(&house, &backend, http, with_body("CCM_POST", &path(), full("1"))).await;
            lose_all_links(&house, &backend, http, with_body("BITS_POST", &path(), full("1")))
                .await;
            lose_all_links(&house, &backend, http, bare("GET", &path())).await;
        }
    })
    .await;
}

fn path() -> String {
    target("/SMS_MP/x")
}

async fn lose_all_links(house: &House, backend: &Backend, http: Http, request: Request<Body>) {
    let (gateway, first) = house.joined().await;
    let second = join(&gateway, &house.connection_point(Vec::new())).await;
    let seen = backend.seen().len();
    let mut client = Client::join(&gateway, &house.ca, http).await;
    let asked = tokio::spawn(async move { client.ask(request).await });
    backend.until_in_flight(1).await;
    // Whichever carries it: the other must not be asked.
    first.lose();
    second.lose();
    let answer = asked.await.unwrap();
    let came = (answer.status(), answer.reason());
    assert_eq!(came, (502, Some("CMGService_Connector_Lost")), "{http:?}");
    backend.until_in_flight(0).await;
    assert_eq!(backend.seen().len(), seen + 1, "{http:?}");
}

#[tokio::test]
async fn a_post_is_not_sent_again_over_the_link_that_is_left() {
    within(async {
        let backend = silent_backend().await;
        let house = House::before(backend.address);
        let gateway = house.gateway(1);
        let carrying = join(&gateway, &house.connection_point(Vec::new())).await;
        let mut client = Client::join(&gateway, &house.ca, Http::Two).await;
        let request = with_body("CCM_POST", &target("/SMS_MP/x"), full("once"));
        let asked = tokio::spawn(async move { client.ask(request).await });
        backend.until_in_flight(1).await;
        let _left = join(&gateway, &house.connection_point(Vec::new())).await;
        carrying.lose();
        assert_eq!(asked.await.unwrap().status(), 502);
        backend.until_in_flight(0).await;
        assert_eq!(backend.seen().len(), 1);
    })
    .await;
}

/// The answer to a request whose link is lost while the site works on it and another is there, and
/// how often the site saw it. The site answers whoever asks again.
async fn asked_over_a_lost_link(http: Http, request: Request<Body>) -> (u16, usize) {
    let asked_before = AtomicBool::new(false);
    let backend = Backend::start(move |request: Request<Incoming>| {
        let answers = asked_before.swap(true, Ordering::Relaxed);
        async move {
            let _ = request.into_body().collect().await;
            if answers { Response::new(empty()) } else { std::future::pending().await }
        }
    })
    .await;
    let house = House::before(backend.address);
    let gateway = house.gateway(1);
    let carrying = join(&gateway, &house.connection_point(Vec::new())).await;
    let mut client = Client::join(&gateway, &house.ca, http).await;
    let asked = tokio::spawn(async move { client.ask(request).await.status() });
    backend.until_in_flight(1).await;
    let _left = join(&gateway, &house.connection_point(Vec::new())).await;
    carrying.lose();
    let status = asked.await.unwrap();
    backend.until_in_flight(0).await;
    until(|| gateway.in_flight() == 0).await;
    (status, backend.seen().len())
}

#[tokio::test]
async fn only_a_request_that_changes_nothing_is_sent_again_after_a_loss() {
    within(async {
        for http in Http::BOTH {
            for verb in ["GET", "HEAD", "PROPFIND"] {
                let came = asked_over_a_lost_link(http, bare(verb, &path())).await;
                assert_eq!(came, (200, 2), "{verb} over {http:?}");
                let request = with_body(verb, &path(), full("body"));
                let came = asked_over_a_lost_link(http, request).await;
                assert_eq!(came, (502, 1), "{verb} with a body over {http:?}");
            }
            for verb in ["CCM_POST", "BITS_POST"] {
                let came = asked_over_a_lost_link(http, bare(verb, &path())).await;
                assert_eq!(came, (502, 1), "{verb} over {http:?}");
            }
        }
    })
    .await;
}

/// Whether a break was noticed before anything was passed on, and is answered for: what has no
/// reading may come together with the head before it.
fn is_told(answer: &Response<Incoming>, text: &str) -> bool {
    let reason = answer.headers().get(header::REASON);
    let told = ["CMGConnector_Bad_Answer", "CMGConnector_Bad_Gateway"];
    answer.status() == 502
        && text.ends_with("zz\r\n")
        && reason.is_some_and(|reason| told.iter().any(|known| reason == known))
}

#[tokio::test]
async fn a_backend_that_breaks_off_within_its_answer_cuts_the_clients() {
    let breaks = [
        "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n0123456789",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\nzz\r\n",
    ];
    for text in breaks {
        for http in Http::BOTH {
            within(async {
                let backend = RawBackend::saying(text).await;
                let house = House::before(backend.address);
                let (gateway, _link) = house.joined().await;
                let mut client = Client::join(&gateway, &house.ca, http).await;
                // The head may be overtaken by the end over HTTP/2, and fail with it.
                let request = bare("GET", &target("/SMS_MP/x"));
                let whole = match client.send(request).await {
                    Ok(answer) if is_told(&answer, text) => return,
                    Ok(answer) => answer.into_body().collect().await,
                    Err(why) => Err(why),
                };
                assert!(whole.is_err(), "{text:?} over {http:?}");
            })
            .await;
        }
    }
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_request_back_from_the_site() {
    within(async {
        let backend = Backend::start(|request: Request<Incoming>| async move {
            if request.uri().path() == "/SMS_MP/endless" {
                return Response::new(endless());
            }
            match request.into_body().collect().await {
                Ok(_) => std::future::pending().await,
                // A cut body; the server waits for an answer that it cannot send.
                Err(_) => Response::new(empty()),
            }
        })
        .await;
        let house = House::before(backend.address);
        let (gateway, _link) = house.joined().await;
        for http in Http::BOTH {
            // Before the answer.
            let mut client = Client::join(&gateway, &house.ca, http).await;
            let request = bare("GET", &target("/SMS_MP/hangs"));
            let asked = tokio::spawn(async move { client.ask(request).await });
            backend.until_in_flight(1).await;
            asked.abort();
            backend.until_in_flight(0).await;
            until(|| gateway.in_flight() == 0).await;

            // Within the answer.
            let mut client = Client::join(&gateway, &house.ca, http).await;
            let answer = client.send(bare("GET", &target("/SMS_MP/endless"))).await.unwrap();
            let mut body = answer.into_body();
            body.frame().await.unwrap().unwrap();
            drop((body, client));
            backend.until_in_flight(0).await;
            until(|| gateway.in_flight() == 0).await;

            // Within the request's body.
            let mut client = Client::join(&gateway, &house.ca, http).await;
            let (sender, body) = fed();
            let request = with_body("CCM_POST", &target("/SMS_MP/hangs"), body);
            let asked = tokio::spawn(async move { client.send(request).await.is_ok() });
            sender.send(octets(0, 100)).await.unwrap();
            backend.until_in_flight(1).await;
            drop(sender);
            backend.until_in_flight(0).await;
            until(|| gateway.in_flight() == 0).await;
            assert!(!asked.await.unwrap());
        }
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_comes_before_the_bodys_end_does_not_wait_for_it() {
    within(async {
        let backend = Backend::start(|request: Request<Incoming>| async move {
            // Answers at once and goes on reading behind it, as a server does that refuses early.
            tokio::spawn(request.into_body().collect());
            Response::builder().status(403).body(full("no")).unwrap()
        })
        .await;
        let house = House::before(backend.address);
        let (gateway, _link) = house.joined().await;
        let mut client = Client::join(&gateway, &house.ca, Http::Two).await;
        let (sender, body) = fed();
        let request = with_body("CCM_POST", &target("/SMS_MP/x"), body);
        sender.send(octets(0, 100)).await.unwrap();
        let answer = client.send(request).await.unwrap();
        assert_eq!(answer.status(), 403);
        drop(sender);
    })
    .await;
}
