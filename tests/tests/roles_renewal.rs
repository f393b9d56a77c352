//! A gateway's link certificate that is renewed over its links: both roles, and peers that do
//! otherwise than they should.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use relay_core::exchange::{AbortCode, AnswerHead, HeadLimits, Origin, RequestHead};
use relay_core::gateway::Gateway;
use relay_core::link::Incoming;
use relay_core::mux::{Config, HeadKind, StreamCode};
use relay_core::transport::{Certificate, link_client_config, secure_link, shown_chain};
use relay_tests::logs::Logs;
use relay_tests::renewal::{Chain, DAY, Prepared, pem};
use relay_tests::roles::{
    House, PIPE, Rogue, SERVICE, begin_telling, join, tell, told, until, within,
};
use relay_tests::site::Backend;
use rustls::pki_types::CertificateDer;
use tokio::time::{Instant, timeout};

const ASK: &str = "/relay/certificate-request";
const BRING: &str = "/relay/certificate";

async fn house() -> (Backend, House) {
    let backend = Backend::echo_path().await;
    let house = House::before(backend.address);
    (backend, house)
}

/// What `gateway` shows to whoever dials it now.
async fn shown(house: &House, gateway: &Gateway) -> Chain {
    let (near, far) = tokio::io::duplex(PIPE);
    let gateway = gateway.clone();
    tokio::spawn(async move { gateway.serve_link(near).await });
    let identity = house.ca.connection_point("looker");
    let tls = link_client_config(&identity, &house.ca.anchors()).unwrap();
    shown_chain(&secure_link(far, SERVICE, tls).await.unwrap())
}

fn shown_in_status(gateway: &Gateway) -> Option<Vec<u8>> {
    gateway.status().link_certificate.map(|certificate| certificate.public_key)
}

fn public_key(chain: &[CertificateDer<'static>]) -> Vec<u8> {
    Certificate::of_chain(chain).unwrap().public_key
}

#[tokio::test(start_paused = true)]
async fn what_is_due_is_renewed_at_once_and_what_is_due_later_within_the_hour() {
    let (_backend, mut house) = house().await;
    let prepared = Prepared::new(&house, 2);
    let first = prepared.next().chain().to_vec();
    house.keeper = Some(Arc::clone(&prepared) as _);
    house.issuer = Some(Arc::clone(&prepared) as _);
    let gateway = house.gateway(1);
    let before = shown(&house, &gateway).await;
    let joined = join(&gateway, &house.connection_point(Vec::new())).await;
    until(|| shown_in_status(&gateway).is_some()).await;
    assert_eq!(shown_in_status(&gateway), Some(public_key(&first)));
    assert_eq!(prepared.peers(), [before], "names come from what the link has met");
    assert_eq!(shown(&house, &gateway).await, first);
    assert!(!joined.at_gateway.is_finished() && !joined.at_site.is_finished());

    // Not due, it is asked for and nothing comes of it.
    tokio::time::sleep(Duration::from_hours(5)).await;
    assert_eq!(prepared.peers().len(), 1);

    // Due again, the same link has met the one before, though its handshake has not.
    let old = house.ca.server_around_now(SERVICE, 100 * DAY, DAY);
    prepared.hold(old.chain());
    let began = Instant::now();
    while prepared.peers().len() < 2 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(began.elapsed() <= Duration::from_mins(67), "each hour, give or take a tenth");
    }
    assert_eq!(prepared.peers()[1], first);
    assert!(!joined.at_gateway.is_finished() && !joined.at_site.is_finished());
}

#[tokio::test]
async fn each_exchange_is_answered_by_what_is_asked_and_brought() {
    let logs = Logs::capture();
    within(async {
        let (_backend, mut house) = house().await;
        let plain = house.gateway(1);
        let rogue = house.silent_connection_point(&plain, Config::default()).await;
        for (method, target) in [(Method::GET, ASK), (Method::PUT, BRING)] {
            let status = tell(&rogue.link, method, target, "").await.status;
            assert_eq!(status, StatusCode::NOT_FOUND, "nobody keeps anything there");
        }

        let prepared = Prepared::new(&house, 1);
        house.keeper = Some(Arc::clone(&prepared) as _);
        let gateway = house.gateway(1);
        let rogue = house.silent_connection_point(&gateway, Config::default()).await;
        let good = pem(prepared.next().chain());
        for (method, target, body, status) in [
            (Method::PUT, ASK, "", 405),
            (Method::GET, BRING, "", 405),
            (Method::PUT, BRING, "text", 400),
            (Method::PUT, BRING, "text", 400),
            (Method::PUT, BRING, &*good, 409),
            (Method::PUT, BRING, &*"x".repeat((16 << 10) + 1), 413),
        ] {
            let answer = tell(&rogue.link, method, target, body.to_owned()).await;
            assert_eq!(answer.status.as_u16(), status, "{answer:?}");
        }

        let refused = |why| logs.with(&["WARN", "link certificate not renewed", why]).len();
        let told = ["no chain of certificates", "no request is pending", "at most 16384 octets"];
        assert_eq!(told.map(refused), [1, 1, 1], "each once");

        assert_eq!(asked(&rogue).await, Ok(Bytes::from_static(b"a request")));
        let other = house.silent_connection_point(&gateway, named("other")).await;
        assert_eq!(asked(&other).await, Err(409), "one at a time");
        rogue.lose();
        until(|| gateway.links() == 1).await;
        assert_eq!(asked(&other).await, Ok(Bytes::from_static(b"a request")), "at once");
        let (mut send, recv) = begin_telling(&other.link, Method::PUT, BRING).await;
        send.write_chunk(Bytes::from_static(b"-----BEGIN")).await.unwrap();
        send.reset(StreamCode(AbortCode::Cancelled.to_wire()));
        drop(recv);
        let answer = tell(&other.link, Method::PUT, BRING, good.clone()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(asked(&other).await, Err(204));
        assert_eq!(tell(&other.link, Method::PUT, BRING, good).await.status, 409);
    })
    .await;
}

fn named(name: &str) -> Config {
    Config { name: name.to_owned(), ..Config::default() }
}

/// The request that a gateway gives, or the status with which it gives none.
async fn asked(rogue: &Rogue) -> Result<Bytes, u16> {
    let (mut send, mut recv) = begin_telling(&rogue.link, Method::GET, ASK).await;
    send.finish().unwrap();
    let head = recv.head().await.unwrap();
    let head = AnswerHead::decode(head.block, &HeadLimits::default()).unwrap();
    if head.status != StatusCode::OK {
        return Err(head.status.as_u16());
    }
    assert_eq!(head.headers["content-type"], "application/pkcs10");
    let request = recv.read_chunk().await.unwrap().unwrap();
    assert_eq!(recv.read_chunk().await.unwrap(), None);
    Ok(request)
}

#[tokio::test(start_paused = true)]
async fn a_chain_that_never_ends_is_answered_after_ten_seconds() {
    within(async {
        let (_backend, mut house) = house().await;
        house.keeper = Some(Prepared::new(&house, 1));
        let gateway = house.gateway(1);
        let rogue = house.silent_connection_point(&gateway, Config::default()).await;
        let began = Instant::now();
        let (_send, recv) = begin_telling(&rogue.link, Method::PUT, BRING).await;
        assert_eq!((told(recv).await.status.as_u16(), began.elapsed().as_secs()), (408, 10));
    })
    .await;
}

/// What a gateway in a test's hands was asked, and when.
type Heard = (Method, String, Instant);

/// Answers what a connection point tells and asks, for `span` of time: settings are fine, and the
/// rest is up to `answer`.
async fn hear(
    rogue: &Rogue,
    span: Duration,
    answer: impl Fn(&Method) -> (u16, Vec<u8>),
) -> Vec<Heard> {
    let until = Instant::now() + span;
    let mut asked = Vec::new();
    while let Ok(incoming) = tokio::time::timeout_at(until, rogue.link.accept()).await {
        let Incoming { head, mut send, mut recv, .. } = incoming.unwrap();
        let head = RequestHead::decode(head, &HeadLimits::default()).unwrap();
        while let Ok(Some(_)) = recv.read_chunk().await {}
        let is_settings = head.target.path() == "/relay/settings";
        let (status, body) = if is_settings { (200, Vec::new()) } else { answer(&head.method) };
        let answer = AnswerHead {
            status: StatusCode::from_u16(status).unwrap(),
            reason: None,
            headers: HeaderMap::new(),
            origin: Origin::ConnectionPoint,
        };
        let block = answer.encode(&HeadLimits::default()).unwrap();
        send.send_head(block, HeadKind::Final).unwrap();
        // Whoever has heard enough wants no more of it.
        if send.write_chunk(body.into()).await.is_ok() {
            let _ = send.finish();
        }
        if !is_settings {
            asked.push((head.method, head.target.path().to_owned(), Instant::now()));
        }
    }
    asked
}

#[tokio::test(start_paused = true)]
async fn who_cannot_sign_asks_nobody_and_who_can_asks_each_hour() {
    let (_backend, mut house) = house().await;
    let rogue = house.rogue_gateway(&house.connection_point(Vec::new())).await;
    let heard = hear(&rogue, Duration::from_hours(3), |_| (204, Vec::new())).await;
    assert_eq!(heard, []);

    let prepared = Prepared::new(&house, 1);
    house.issuer = Some(Arc::clone(&prepared) as _);
    let rogue = house.rogue_gateway(&house.connection_point(Vec::new())).await;
    let began = Instant::now();
    let heard = hear(&rogue, Duration::from_hours(3), |_| (204, Vec::new())).await;
    assert!((3..=4).contains(&heard.len()), "{heard:?}");
    let mut before = began;
    for (nth, (method, path, at)) in heard.into_iter().enumerate() {
        assert_eq!((&method, &*path), (&Method::GET, ASK));
        let minutes = (at - before).as_secs() / 60;
        assert!(if nth == 0 { minutes == 0 } else { (54..=66).contains(&minutes) }, "{minutes}");
        before = at;
    }
    // One that knows of no such thing is left alone.
    let rogue = house.rogue_gateway(&house.connection_point(Vec::new())).await;
    let heard = hear(&rogue, Duration::from_hours(3), |_| (404, Vec::new())).await;
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert!(prepared.peers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_once_and_what_failed_is_tried_again_with_growing_delays() {
    let logs = Logs::capture();
    let (_backend, mut house) = house().await;
    let prepared = Prepared::new(&house, 1);
    house.issuer = Some(Arc::clone(&prepared) as _);
    let rogue = house.rogue_gateway(&house.connection_point(Vec::new())).await;
    let answer = |method: &Method| match *method {
        Method::GET => (200, b"a request".to_vec()),
        _ => (403, Vec::new()),
    };
    let heard = hear(&rogue, Duration::from_mins(2), answer).await;
    let brought = heard.iter().filter(|(method, ..)| method == Method::PUT).count();
    // Seven delays are drawn below 1 + 2 + ... + 64 s.
    assert!((7..100).contains(&brought), "{heard:?}");
    assert_eq!(prepared.peers().len(), brought);
    let warned = logs.with(&["WARN", "link certificate not renewed", "it answered 403"]);
    assert_eq!(warned.len(), 1, "{warned:?}");

    prepared.lock_up();
    let heard = hear(&rogue, Duration::from_mins(20), answer).await;
    assert!(heard.iter().all(|(method, ..)| method == Method::GET), "{heard:?}");
    let warned = logs.with(&["WARN", "not signed: the key is in the safe"]);
    assert_eq!(warned.len(), 1, "{warned:?}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_too_long_is_not_signed_and_one_that_another_has_no_failure() {
    let logs = Logs::capture();
    let (_backend, mut house) = house().await;
    let prepared = Prepared::new(&house, 1);
    house.issuer = Some(Arc::clone(&prepared) as _);
    let rogue = house.rogue_gateway(&house.connection_point(Vec::new())).await;
    let minute = Duration::from_mins(1);
    let heard = hear(&rogue, minute, |_| (409, Vec::new())).await;
    assert!(heard.len() > 3, "it asks again soon: {heard:?}");
    assert_eq!(logs.with(&["WARN"]), [] as [String; 0]);
    let ten = Duration::from_mins(10);
    let long = hear(&rogue, ten, |_| (200, vec![7; (16 << 10) + 1]));
    assert!(!timeout(2 * ten, long).await.unwrap().is_empty());
    assert!(prepared.peers().is_empty());
    assert_eq!(logs.with(&["WARN", "more than 16384 octets"]).len(), 1);
}
