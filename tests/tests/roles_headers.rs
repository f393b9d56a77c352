//! A closed list of header fields, which either end of a link holds by itself; and what content
//! lets pass.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use relay_core::exchange::{
    AnswerHead, Assertions, HeadLimits, MessageId, Origin, RequestHead, Trailers,
};
use relay_core::link::{End, Link};
use relay_core::mux::{Config, HeadKind};
use relay_core::policy::{EndpointKind, RequestHeaders};
use relay_tests::client::{Client, Http, bare, with_body};
use relay_tests::roles::{House, target, within};
use relay_tests::site::{Backend, fed, full};

const LISTED: [&str; 3] = ["x-site", "ccmclientid", "content-type"];
const UNLISTED: [&str; 3] = ["cookie", "x-else", "origin"];

fn fields<'a>(names: impl IntoIterator<Item = &'a str>) -> HeaderMap {
    let name = |name: &str| HeaderName::from_bytes(name.as_bytes()).unwrap();
    names.into_iter().map(|it| (name(it), HeaderValue::from_static("v"))).collect()
}

/// Those of the names that `headers` has, of the ones that this test sends.
fn kept(headers: &HeaderMap) -> Vec<&'static str> {
    let sent = LISTED.into_iter().chain(UNLISTED);
    sent.filter(|name| headers.contains_key(*name)).collect()
}

/// A house whose endpoint closes its list, but for one field.
fn strict(backend: &Backend) -> House {
    let mut house = House::before(backend.address);
    let more = [HeaderName::from_static("x-site")];
    house.endpoint.0.request_headers = RequestHeaders::Listed(more.into());
    house
}

/// A backend that answers with the names of the trailers that it got.
async fn names_trailers() -> Backend {
    Backend::start(|request: Request<Incoming>| async move {
        let body = request.into_body().collect().await.unwrap();
        let trailers = body.trailers().map(kept).unwrap_or_default();
        Response::new(full(trailers.join(",")))
    })
    .await
}

/// Takes one request off a link whole, and answers it.
async fn take(link: &Link) -> (HeaderMap, HeaderMap) {
    let mut incoming = link.accept().await.unwrap();
    let limits = HeadLimits::default();
    let head = RequestHead::decode(incoming.head, &limits).unwrap();
    while incoming.recv.read_chunk().await.unwrap().is_some() {}
    let (status, origin) = (StatusCode::NO_CONTENT, Origin::Site);
    let answer = AnswerHead { status, reason: None, headers: HeaderMap::new(), origin };
    let block = answer.encode(&limits).unwrap();
    incoming.send.send_head(block, HeadKind::FinalAndEnd).unwrap();
    let trailers = incoming.recv.take_trailers().unwrap();
    (head.headers, Trailers::decode(trailers, &limits).unwrap().0)
}

#[tokio::test]
async fn a_gateway_lets_only_listed_headers_and_trailers_onto_a_link() {
    within(async {
        let backend = names_trailers().await;
        let house = strict(&backend);
        let gateway = house.gateway(1);
        let rogue = house.rogue_connection_point(&gateway, Config::default()).await;
        for http in Http::BOTH {
            let mut client = Client::join(&gateway, &house.ca, http).await;
            let sent = fields(LISTED.into_iter().chain(UNLISTED));
            let (feed, body) = fed();
            let trailers = sent.clone();
            let body = body.with_trailers(async move { Some(Ok(trailers)) }).boxed();
            let mut request = with_body("CCM_POST", &target("/SMS_MP/x"), body);
            request.headers_mut().extend(sent);
            let names = LISTED.into_iter().chain(UNLISTED).collect::<Vec<_>>().join(", ");
            request.headers_mut().insert("trailer", names.parse().unwrap());
            let feeding = async {
                feed.send(Bytes::from_static(b"a body")).await.unwrap();
                feed.send(Bytes::new()).await.unwrap();
            };
            let (answer, (headers, trailers), ()) =
                tokio::join!(client.ask(request), take(&rogue.link), feeding);
            assert_eq!(answer.status(), 204, "{http:?}");
            assert_eq!(kept(&headers), LISTED, "{http:?}");
            // What identifies or describes a message is none of a trailer's.
            assert_eq!(kept(&trailers), ["x-site"], "{http:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_connection_point_holds_the_list_against_a_gateway_that_does_not() {
    within(async {
        let backend = names_trailers().await;
        let house = strict(&backend);
        let connection_point = house.connection_point(Vec::new());
        let rogue = house.rogue_gateway(&connection_point).await;
        let limits = HeadLimits::default();
        let mut headers = fields(LISTED.into_iter().chain(UNLISTED));
        headers.insert("trailer", HeaderValue::from_static("x-site, x-else, cookie"));
        let head = RequestHead {
            method: Method::from_bytes(b"CCM_POST").unwrap(),
            target: target("/SMS_MP/x").parse().unwrap(),
            headers,
            assertions: Assertions::new(MessageId([7; 16])),
        };
        let head = head.encode(&limits).unwrap();
        let (mut send, mut recv) = rogue.link.open(head, End::More).await.unwrap();
        send.write_chunk(Bytes::from_static(b"a body")).await.unwrap();
        let trailers = Trailers(fields(["x-site", "x-else", "cookie"]));
        send.finish_with_trailers(trailers.encode(&limits).unwrap()).unwrap();
        let answer = AnswerHead::decode(recv.head().await.unwrap().block, &limits).unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(recv.read_chunk().await.unwrap().unwrap(), "x-site", "of the trailers");
        assert_eq!(kept(&backend.seen()[0].headers), LISTED);
    })
    .await;
}

#[tokio::test]
async fn an_open_list_lets_all_pass() {
    within(async {
        let backend = names_trailers().await;
        let house = House::before(backend.address);
        let (gateway, _link) = house.joined().await;
        let mut request = bare("GET", &target("/SMS_MP/x"));
        request.headers_mut().extend(fields(LISTED.into_iter().chain(UNLISTED)));
        let mut client = Client::join(&gateway, &house.ca, Http::One).await;
        assert_eq!(client.ask(request).await.status(), 200);
        assert_eq!(kept(&backend.seen()[0].headers).len(), LISTED.len() + UNLISTED.len());
    })
    .await;
}

#[tokio::test]
async fn content_is_read_and_never_written() {
    within(async {
        let backend = Backend::echo_path().await;
        let mut house = House::before(backend.address);
        house.endpoint.0.kind = EndpointKind::Content;
        let (gateway, _link) = house.joined().await;
        for (verb, path, status) in [
            ("GET", "/SMS_DP_SMSPKG$/P0100001.1/setup.cab", 200),
            ("HEAD", "/SMS_DP_SMSPKG$/P0100001.1/setup.cab", 200),
            ("PROPFIND", "/sms_dp_smssig$/P0100001.1.tar", 200),
            ("GET", "/SMS_DP_SMSPKG%24/P0100001.1/setup.cab", 200),
            ("CCM_POST", "/SMS_DP_SMSPKG$/P0100001.1", 405),
            ("BITS_POST", "/SMS_DP_SMSPKG$/P0100001.1", 405),
            ("POST", "/SMS_DP_SMSPKG$/P0100001.1", 405),
            ("get", "/SMS_DP_SMSPKG$/P0100001.1", 405),
            ("GET", "/SMS_MP/.sms_aut", 404),
            ("GET", "/NOCERT_SMS_DP_SMSPKG$/P0100001.1", 404),
        ] {
            let mut client = Client::join(&gateway, &house.ca, Http::One).await;
            let answer = client.ask(bare(verb, &target(path))).await;
            assert_eq!(answer.status(), status, "{verb} {path}");
            let allowed = answer.parts.headers.get("allow").map(|it| it.to_str().unwrap());
            assert_eq!(allowed, (status == 405).then_some("HEAD, GET, PROPFIND"), "{verb} {path}");
        }
        assert_eq!(backend.seen().len(), 4);
    })
    .await;
}
