//! Requests through a gateway whose links lead to scripted peers in memory.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr};
use std::task::{Context, Poll};

use http::{HeaderMap, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::*;
use crate::exchange::{AbortCode, AnswerHead, Origin};
use crate::gateway::access::Slowness;
use crate::gateway::registry::{Arrival, Registration, Start};
use crate::gateway::replay::KEPT_MAX;
use crate::gateway::{Balance, GatewayLimits, GatewayUpdate, header};
use crate::link;
use crate::link::{End, Incoming as LinkIncoming, Link};
use crate::mux::HeadKind;
use crate::mux::{Config, Side, StreamCode};
use crate::policy::{Access, Endpoint, EndpointKind, RequestHeaders};
use crate::settings::SettingsDocument;
use crate::transport::{
    Certificate, Identity, Instance, TrustAnchors, client_edge_config, link_server_config,
};

pub(in crate::gateway) const TARGET: &str = "/CCM_Proxy_MutualAuth/7/SMS_MP/.sms_aut";
const LONG: Duration = Duration::from_mins(10);
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// The settings of the site of which the links are.
fn document(version: u64) -> SettingsDocument {
    let endpoint = Endpoint {
        name: "mp".to_owned(),
        kind: EndpointKind::ManagementPoint,
        role_id: 7,
        paths: None,
        request_body_bytes_max: None,
        request_headers: RequestHeaders::Open,
        access: Access::Anonymous,
    };
    let site = "site".to_owned();
    let (tenants, deadlines) = (Vec::new(), Vec::new());
    SettingsDocument { site, version, endpoints: vec![endpoint], tenants, deadlines, clients: None }
}

pub(in crate::gateway) fn gateway(limits: GatewayLimits) -> Gateway {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["relay.example".to_owned()]).unwrap();
    let key = signing_key.serialize_der().try_into().unwrap();
    let identity = Identity::new(vec![cert.der().clone()], key);
    let anchors = TrustAnchors::new([cert.der().clone()]).unwrap();
    Gateway::new(GatewayConfig {
        service: "relay.example".to_owned(),
        instance: Instance::FIRST,
        initial: vec![document(1)],
        client_tls: client_edge_config(&identity).unwrap(),
        link_tls: link_server_config(&identity, &anchors).unwrap(),
        certificate_keeper: None,
        fetch: None,
        content: None,
        balance: Balance::default(),
        limits,
    })
}

fn register(gateway: &Gateway, number: u64, link: &Link) -> Registration {
    let arrival = Arrival {
        number,
        name: "cp".into(),
        site: "site".into(),
        start: Start::default(),
        link: link.clone(),
        rung: Rung::TcpTls,
        certificate: Arc::new(Certificate::nobodys()),
        superseded: Arc::default(),
    };
    gateway.inner.relay.registry.register(arrival).unwrap()
}

/// Registers a link and returns its far end.
pub(in crate::gateway) async fn add_link(gateway: &Gateway, number: u64) -> Link {
    add_link_of(gateway, number, 16).await
}

/// As [`add_link`], whose far end takes `streams`.
pub(in crate::gateway) async fn add_link_of(gateway: &Gateway, number: u64, streams: u32) -> Link {
    let open_streams_max = streams.max(64);
    let config = Config { accept_streams_max: streams, open_streams_max, ..Config::default() };
    let (near, far) = tokio::io::duplex(64 << 10);
    let (link, driver) = link::new(near, Side::Listener, config.clone()).unwrap();
    let (peer, peer_driver) = link::new(far, Side::Dialer, config).unwrap();
    tokio::spawn(peer_driver);
    let task = tokio::spawn(driver);
    link.established().await.unwrap();
    let registered = register(gateway, number, &link);
    tokio::spawn(async move {
        task.await.unwrap();
        drop(registered);
    });
    peer
}

pub(in crate::gateway) fn head(status: u16) -> Bytes {
    let status = StatusCode::from_u16(status).unwrap();
    let headers = HeaderMap::new();
    let head = AnswerHead { status, reason: None, headers, origin: Origin::Site };
    head.encode(&HeadLimits::default()).unwrap()
}

fn get() -> Request<Empty<Bytes>> {
    Request::get(TARGET).body(Empty::new()).unwrap()
}

/// A body that yields one chunk and then nothing, neither more nor its end.
struct Stalled(Option<Bytes>);

impl Body for Stalled {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.0.take() {
            Some(chunk) => Poll::Ready(Some(Ok(Frame::data(chunk)))),
            None => Poll::Pending,
        }
    }
}

/// A body of which a piece comes at the end of each second.
struct Trickle {
    octets: usize,
    pieces: u32,
    timer: Pin<Box<tokio::time::Sleep>>,
}

impl Trickle {
    fn of(pieces: u32, octets: usize) -> Self {
        Self { octets, pieces, timer: Box::pin(tokio::time::sleep(Duration::from_secs(1))) }
    }
}

impl Body for Trickle {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.pieces == 0 {
            return Poll::Ready(None);
        }
        std::task::ready!(self.timer.as_mut().poll(cx));
        let next = self.timer.deadline() + Duration::from_secs(1);
        self.timer.as_mut().reset(next);
        self.pieces -= 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![7; self.octets])))))
    }
}

/// Where bodies go, to be answered soon and when there is something to say.
const UPLOADS: [&str; 2] = [TARGET, "/CCM_Proxy_MutualAuth/7/BGB"];

/// Takes a request to its end. Tells whether that came.
async fn take(mut incoming: LinkIncoming) -> bool {
    loop {
        match incoming.recv.read_chunk().await {
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(_) => return false,
        }
    }
    // An error: the gateway has gone on without it.
    incoming.send.send_head(head(200), HeadKind::FinalAndEnd).is_ok()
}

#[tokio::test(start_paused = true)]
async fn a_body_at_240_octets_a_second_is_taken_and_one_below_is_answered_408_when_5_s_behind() {
    for target in UPLOADS {
        for (octets, is_borne_for) in [(240, None), (120, Some(9..=10)), (1, Some(5..=5))] {
            let gateway = gateway(GatewayLimits::default());
            let peer = add_link(&gateway, 1).await;
            let site = peer.clone();
            let taking = tokio::spawn(async move { take(site.accept().await.unwrap()).await });
            let before = Instant::now();
            let request = Request::builder().method("CCM_POST").uri(target);
            let request = request.body(Trickle::of(100, octets)).unwrap();
            let response = timeout(LONG, gateway.handle(request)).await.expect("an answer");
            let is_too_slow = reason(&response) == "CMGService_Too_Slow";
            assert_eq!(is_too_slow, is_borne_for.is_some(), "{octets} to {target}");
            assert_eq!(response.status().as_u16(), if is_too_slow { 408 } else { 200 });
            if let Some(times) = is_borne_for {
                assert!(times.contains(&before.elapsed().as_secs()), "{:?}", before.elapsed());
            }
            assert_eq!(taking.await.unwrap(), !is_too_slow);
        }
    }
}

/// Answers the beginning at once, and the end when the request is through.
async fn answer_early(mut incoming: LinkIncoming) -> bool {
    incoming.send.send_head(head(200), HeadKind::Final).unwrap();
    incoming.send.write_chunk(Bytes::from_static(b"half.")).await.unwrap();
    while let Ok(Some(_)) = incoming.recv.read_chunk().await {}
    incoming.send.write_chunk(Bytes::from_static(b"rest.")).await.is_ok()
        && incoming.send.finish().is_ok()
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_too_slow_behind_the_answers_head_cuts_the_answer() {
    for target in UPLOADS {
        for (octets, is_borne_for) in [(240, None), (120, Some(9..=10)), (1, Some(5..=5))] {
            let gateway = gateway(GatewayLimits::default());
            let peer = add_link(&gateway, 1).await;
            let site = peer.clone();
            tokio::spawn(async move { answer_early(site.accept().await.unwrap()).await });
            let before = Instant::now();
            let request = Request::builder().method("CCM_POST").uri(target);
            let request = request.body(Trickle::of(50, octets)).unwrap();
            let response = timeout(LONG, gateway.handle(request)).await.expect("an answer");
            assert_eq!(response.status(), StatusCode::OK);
            let body = timeout(LONG, response.into_body().collect()).await.expect("an end");
            match is_borne_for {
                None => assert_eq!(body.unwrap().to_bytes(), "half.rest.", "{target}"),
                Some(times) => {
                    let why = body.unwrap_err();
                    assert!(matches!(why, crate::body::ReceiveError::TooSlow(240)), "{why}");
                    assert!(times.contains(&before.elapsed().as_secs()), "{:?}", before.elapsed());
                }
            }
            assert_eq!(gateway.in_flight(), 0);
        }
    }
}

/// A body that always has more.
struct Endless;

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; 16_000])))))
    }
}

fn reason<B>(response: &Response<B>) -> &str {
    response.headers().get(header::REASON).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_connection_point_that_refuses_everything_is_not_asked_for_ever() {
    let gateway = gateway(GatewayLimits::default());
    let peer = add_link(&gateway, 1).await;
    let refusing = tokio::spawn(async move {
        let mut asked = 0;
        while let Ok(mut incoming) = peer.accept().await {
            asked += 1;
            incoming.send.reset(StreamCode(AbortCode::Refused.to_wire()));
            if asked > 100 {
                break;
            }
        }
        asked
    });
    let response = timeout(LONG, gateway.handle(get())).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.headers().contains_key(http::header::RETRY_AFTER));
    for entry in gateway.inner.relay.registry.all().iter() {
        entry.link.close();
    }
    let asked = refusing.await.unwrap();
    assert!((2..10).contains(&asked), "asked {asked} times");
}

/// Takes the next request, says `interim` heads, waits, and loses the link under it. Tells whether
/// it was asked.
async fn lose_one(peer: Link, interim: usize, after: Duration) -> bool {
    let Ok(mut incoming) = peer.accept().await else { return false };
    for _ in 0..interim {
        incoming.send.send_head(head(103), HeadKind::Interim).unwrap();
    }
    let held = timeout(after, incoming.send.stopped()).await;
    assert!(held.is_err(), "the gateway gave up");
    peer.close();
    true
}

#[tokio::test(start_paused = true)]
async fn a_request_is_sent_over_each_link_once_however_many_are_lost() {
    let gateway = gateway(GatewayLimits::default());
    let mut links = JoinSet::new();
    for number in 0..3 {
        let peer = add_link(&gateway, number).await;
        links.spawn(lose_one(peer, 0, Duration::from_secs(1)));
    }
    let response = timeout(LONG, gateway.handle(get())).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(reason(&response), "CMGService_Connector_Lost");
    let asked = timeout(LONG, links.join_all()).await.expect("every link is asked");
    assert_eq!(asked, [true; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_request_of_whose_answer_anything_was_seen_is_not_sent_again() {
    let gateway = gateway(GatewayLimits::default());
    let lost = tokio::spawn(lose_one(add_link(&gateway, 1).await, 1, Duration::from_secs(1)));
    let left = add_link(&gateway, 2).await;
    let response = timeout(LONG, gateway.handle(get())).await.expect("an answer");
    assert_eq!(reason(&response), "CMGService_Connector_Lost");
    assert!(lost.await.unwrap());
    assert_eq!(left.stats().mux.streams_accepted, 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_link_was_lost_waits_little_for_a_full_one() {
    let gateway = gateway(GatewayLimits::default());
    let _full = add_link(&gateway, 1).await;
    let full = gateway.inner.relay.registry.all();
    let held = std::iter::from_fn(|| full[0].link.try_open(head(200), End::NoPayload).unwrap());
    let _held: Vec<_> = held.collect();
    let after = Duration::from_secs(1);
    let lost = tokio::spawn(lose_one(add_link(&gateway, 2).await, 0, after));
    let before = Instant::now();
    let response = timeout(LONG, gateway.handle(get())).await.expect("an answer");
    assert_eq!(reason(&response), "CMGService_Connector_Lost");
    assert_eq!(before.elapsed(), after + Duration::from_secs(1));
    assert!(lost.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn sending_again_gives_a_request_no_more_time() {
    let gateway = gateway(GatewayLimits::default());
    let after = Duration::from_secs(40);
    let lost = tokio::spawn(lose_one(add_link(&gateway, 1).await, 0, after));
    let silent = add_link(&gateway, 2).await;
    let before = Instant::now();
    let response = timeout(LONG, gateway.handle(get())).await.expect("an answer");
    assert_eq!(reason(&response), "CMGService_Timeout");
    assert_eq!(before.elapsed(), GatewayLimits::default().answer_head);
    assert!(lost.await.unwrap());
    assert_eq!(silent.stats().mux.streams_accepted, 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_is_sent_again_with_its_body_unless_too_much_of_that_was_taken() {
    for (octets, is_sent_again) in [(KEPT_MAX, true), (KEPT_MAX + 1, false)] {
        let gateway = gateway(GatewayLimits::default());
        let peer = add_link(&gateway, 1).await;
        let refusing = tokio::spawn(async move {
            let mut incoming = peer.accept().await.unwrap();
            incoming.recv.read_chunk().await.unwrap().unwrap();
            incoming.send.reset(StreamCode::REFUSED);
            let Ok(mut again) = timeout(Duration::from_secs(1), peer.accept()).await else {
                return (0, peer);
            };
            let again = again.as_mut().unwrap();
            let mut came = 0;
            while came < octets {
                came += again.recv.read_chunk().await.unwrap().unwrap().len();
            }
            again.send.send_head(head(200), HeadKind::FinalAndEnd).unwrap();
            (came, peer)
        });
        let request = Request::builder().method("CCM_POST").uri(TARGET);
        let request = request.body(Stalled(Some(Bytes::from(vec![7; octets])))).unwrap();
        let response = timeout(LONG, gateway.handle(request)).await.expect("an answer");
        if is_sent_again {
            assert_eq!(response.status(), StatusCode::OK);
        } else {
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(reason(&response), "CMGConnector_Refused");
        }
        let (came, _peer) = refusing.await.unwrap();
        assert_eq!(came, if is_sent_again { octets } else { 0 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stops_sending_is_answered_408_and_its_stream_is_freed() {
    let gateway = gateway(GatewayLimits::default());
    let peer = add_link(&gateway, 1).await;
    let before = Instant::now();
    let request = Request::builder().method("CCM_POST").uri(TARGET);
    // Enough that it is not too slow by its rate before.
    let request = request.body(Stalled(Some(Bytes::from(vec![7; 16 << 10])))).unwrap();
    let response = timeout(LONG, gateway.handle(request)).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
    assert_eq!(reason(&response), "CMGService_Too_Slow");
    assert_eq!(before.elapsed(), GatewayLimits::default().body_stall);
    let mut incoming = peer.accept().await.unwrap();
    incoming.send.stopped().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_keeps_the_deadline_it_began_with_when_another_is_set() {
    let limits = GatewayLimits::default();
    let long = limits.body_stall;
    let gateway = gateway(limits.clone());
    let peer = add_link(&gateway, 1).await;
    let post = || {
        let gateway = gateway.clone();
        tokio::spawn(async move {
            let begun = Instant::now();
            let request = Request::builder().method("CCM_POST").uri(TARGET);
            let request = request.body(Stalled(Some(Bytes::from(vec![7; 16 << 10])))).unwrap();
            let response = timeout(LONG, gateway.handle(request)).await.expect("an answer");
            assert_eq!(reason(&response), "CMGService_Too_Slow");
            begun.elapsed()
        })
    };
    let before = post();
    let _before = peer.accept().await.unwrap();
    let short = long / 3;
    let limits = GatewayLimits { body_stall: short, ..limits };
    gateway.update(GatewayUpdate { content: None, limits });
    let after = post();
    let _after = peer.accept().await.unwrap();
    assert_eq!((before.await.unwrap(), after.await.unwrap()), (long, short));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_the_site_does_not_take_is_no_fault_of_the_client() {
    let gateway = gateway(GatewayLimits::default());
    let _peer = add_link(&gateway, 1).await;
    let request = Request::builder().method("CCM_POST").uri(TARGET).body(Endless).unwrap();
    let response = timeout(LONG, gateway.handle(request)).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(reason(&response), "CMGService_Timeout");
}

#[tokio::test(start_paused = true)]
async fn a_final_answer_with_an_interim_status_is_a_bad_answer() {
    let gateway = gateway(GatewayLimits::default());
    let peer = add_link(&gateway, 1).await;
    for status in [100, 101, 103, 199] {
        let answering = tokio::spawn({
            let peer = peer.clone();
            async move {
                let mut incoming = peer.accept().await.unwrap();
                incoming.send.send_head(head(status), HeadKind::FinalAndEnd).unwrap();
            }
        });
        let response = gateway.handle(get()).await;
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY, "{status}");
        assert_eq!(reason(&response), "CMGService_Bad_Answer");
        answering.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn strangers_on_the_link_port_take_no_connection_points_place() {
    let limits = GatewayLimits { links_max: 1, ..GatewayLimits::default() };
    let gateway = gateway(limits);
    let (_silent, pipe) = tokio::io::duplex(64);
    let mut stranger = pin!(gateway.serve_link(pipe));
    poll_fn(|cx| {
        assert!(stranger.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
    let (mut garbage, pipe) = tokio::io::duplex(64);
    garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let refused = gateway.serve_link(pipe).await;
    assert!(
        matches!(refused, Err(LinkRefused::Connect(ConnectError::Tls(_)))),
        "judged by what it says, not by who is there: {refused:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn deaf_links_do_not_add_up_when_the_instance_stops() {
    let gateway = gateway(GatewayLimits::default());
    let mut held = Vec::new();
    for number in 0..5 {
        let config = Config { open_streams_max: 8, ..Config::default() };
        let (near, far) = tokio::io::duplex(64 << 10);
        let (link, driver) = link::new(near, Side::Listener, config.clone()).unwrap();
        let (peer, peer_driver) = link::new(far, Side::Dialer, config).unwrap();
        tokio::spawn(driver);
        let mut peer_driver = Box::pin(peer_driver);
        tokio::select! {
            ended = peer_driver.as_mut() => panic!("{ended}"),
            hello = link.established() => hello.unwrap(),
        };
        let registered = register(&gateway, number, &link);
        // From now on nothing answers, although the pipe is open.
        held.push((registered, peer, peer_driver));
    }
    let before = Instant::now();
    gateway.drain(JoinSet::new(), JoinSet::new()).await;
    assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
}

/// How the site's end cuts an answer short.
#[derive(Clone, Copy, Debug)]
enum CutBy {
    /// RESET.
    Reset,
    /// The link ends.
    Close,
    /// END before the declared length; only a rogue sends that.
    EarlyEnd,
}

/// Answers one request with half of what it says, then cuts it once the client has `seen` that.
async fn answer_half(peer: Link, declared: Option<u64>, by: CutBy, seen: oneshot::Receiver<()>) {
    let mut incoming = peer.accept().await.unwrap();
    let mut headers = HeaderMap::new();
    if let Some(declared) = declared {
        headers.insert(http::header::CONTENT_LENGTH, declared.into());
    }
    let status = StatusCode::OK;
    let head = AnswerHead { status, reason: None, headers, origin: Origin::Site };
    let block = head.encode(&HeadLimits::default()).unwrap();
    incoming.send.send_head(block, HeadKind::Final).unwrap();
    incoming.send.write_chunk(Bytes::from_static(b"half.")).await.unwrap();
    // An error: the gateway has cut the answer before, because it declares less.
    let _ = seen.await;
    match by {
        CutBy::Reset => incoming.send.reset(StreamCode(AbortCode::BackendFailed.to_wire())),
        CutBy::Close => peer.close(),
        // A gateway that has counted too many octets wants no more.
        CutBy::EarlyEnd => drop(incoming.send.finish()),
    }
}

fn cuts() -> Vec<(Option<u64>, CutBy)> {
    vec![
        (Some(10), CutBy::Reset),
        (Some(10), CutBy::Close),
        (Some(10), CutBy::EarlyEnd),
        (Some(4), CutBy::EarlyEnd),
        (None, CutBy::Reset),
        (None, CutBy::Close),
    ]
}

/// Sends raw octets to the HTTP/1.1 edge and returns all that comes until it closes.
async fn http1(gateway: &Gateway, request: &str) -> String {
    http1_seeing(gateway, request, oneshot::channel().0).await
}

/// As [`http1`]; tells `seen` when the half has come that [`answer_half`] sends.
async fn http1_seeing(gateway: &Gateway, request: &str, seen: oneshot::Sender<()>) -> String {
    let (mut client, server) = tokio::io::duplex(64 << 10);
    let gateway = gateway.clone();
    let connection = tokio::spawn(async move {
        let pipe = Patient::new(server, LONG);
        let client = Client::new(NOBODY, pipe.slowness());
        let _ = gateway.serve_http1(pipe, client, Port::Shared).await;
    });
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let mut seen = Some(seen);
    let read = async {
        while client.read_buf(&mut answer).await.unwrap() > 0 {
            if answer.windows(5).any(|octets| octets == b"half.")
                && let Some(seen) = seen.take()
            {
                // An error means that nobody waits for it.
                let _ = seen.send(());
            }
        }
        drop(seen);
    };
    timeout(LONG, read).await.expect("an end");
    connection.await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_cut_answer_never_looks_complete_over_http1() {
    for (declared, by) in cuts() {
        let gateway = gateway(GatewayLimits::default());
        let peer = add_link(&gateway, 1).await;
        let (seen, told) = oneshot::channel();
        let site = tokio::spawn(answer_half(peer, declared, by, told));
        let request = format!("GET {TARGET} HTTP/1.1\r\nhost: relay.example\r\n\r\n");
        let answer = http1_seeing(&gateway, &request, seen).await;
        site.await.unwrap();
        assert_eq!(gateway.in_flight(), 0);
        if answer.is_empty() && declared == Some(4) {
            // Closed before the head had left.
            continue;
        }
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        assert!(head.starts_with("HTTP/1.1 200"), "{declared:?} {by:?}: {answer}");
        if let Some(declared) = declared {
            assert!(head.contains(&format!("content-length: {declared}")), "{answer}");
            assert!((body.len() as u64) < declared, "{declared:?} {by:?}: {answer}");
        } else {
            assert!(head.contains("transfer-encoding: chunked"), "{answer}");
            assert_eq!(body, "5\r\nhalf.\r\n", "no last chunk: {by:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_cut_answer_never_looks_complete_over_http2() {
    for (declared, by) in cuts() {
        let gateway = gateway(GatewayLimits::default());
        let peer = add_link(&gateway, 1).await;
        let (seen, told) = oneshot::channel();
        let site = tokio::spawn(answer_half(peer, declared, by, told));
        let (client, server) = tokio::io::duplex(64 << 10);
        let edge = gateway.clone();
        let whom = Client::new(NOBODY, Slowness::default());
        tokio::spawn(async move { edge.serve_http2(server, whom, Port::Shared).await });
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client))
                .await
                .unwrap();
        tokio::spawn(connection);
        let uri = format!("https://relay.example{TARGET}");
        let request = Request::get(uri).body(Empty::<Bytes>::new()).unwrap();
        let whole = async {
            let mut body = sender.send_request(request).await?.into_body();
            body.frame().await.transpose()?;
            // An error: the site has noticed the cut before.
            let _ = seen.send(());
            body.collect().await
        };
        let whole = timeout(LONG, whole).await.expect("an end");
        assert!(whole.is_err(), "{declared:?} {by:?}");
        site.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_two_parsers_could_read_differently_reach_no_link() {
    let gateway = gateway(GatewayLimits::default());
    let peer = add_link(&gateway, 1).await;
    let post = format!("CCM_POST {TARGET} HTTP/1.1\r\nhost: relay.example\r\n");
    for request in [
        format!("{post}content-length: 5\r\ncontent-length: 6\r\n\r\nhello!"),
        format!("{post}content-length: +5\r\n\r\nhello"),
        format!("{post}transfer-encoding: gzip\r\n\r\n"),
        format!("{post}transfer-encoding: chunked, gzip\r\n\r\n"),
        format!("{post}x : y\r\n\r\n"),
        format!("{post}x: y\r\n folded\r\n\r\n"),
        "CONNECT relay.example:443 HTTP/1.1\r\nhost: relay.example\r\n\r\n".to_owned(),
        format!("{post}host: relay.example\r\n\r\n"),
        format!("GET http://other.example{TARGET} HTTP/1.1\r\nhost: relay.example\r\n\r\n"),
    ] {
        let close = request.replacen("host:", "connection: close\r\nhost:", 1);
        let answer = http1(&gateway, &close).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{request}\n{answer}");
    }
    assert_eq!(peer.stats().mux.streams_accepted, 0, "nothing reached the site");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_stands_still_is_cut_and_its_stream_freed() {
    let gateway = gateway(GatewayLimits::default());
    let peer = add_link(&gateway, 1).await;
    let site = tokio::spawn(async move {
        let mut incoming = peer.accept().await.unwrap();
        incoming.send.send_head(head(200), HeadKind::Final).unwrap();
        incoming.send.write_chunk(Bytes::from_static(b"half.")).await.unwrap();
        timeout(LONG, incoming.send.stopped()).await.expect("nobody waits any more")
    });
    let request = format!("GET {TARGET} HTTP/1.1\r\nhost: relay.example\r\n\r\n");
    let answer = http1(&gateway, &request).await;
    assert!(answer.ends_with("\r\n\r\n5\r\nhalf.\r\n"), "{answer}");
    site.await.unwrap();
    assert_eq!(gateway.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_whose_length_two_parsers_could_read_differently_is_a_bad_answer() {
    let gateway = gateway(GatewayLimits::default());
    let peer = add_link(&gateway, 1).await;
    for lengths in [&["5", "6"][..], &["5, 5"], &["+5"], &[""]] {
        let mut headers = HeaderMap::new();
        for length in lengths {
            headers.append(http::header::CONTENT_LENGTH, length.parse().unwrap());
        }
        let status = StatusCode::OK;
        let head = AnswerHead { status, reason: None, headers, origin: Origin::Site };
        let block = head.encode(&HeadLimits::default()).unwrap();
        let peer = peer.clone();
        let answering = tokio::spawn(async move {
            let mut incoming = peer.accept().await.unwrap();
            incoming.send.send_head(block, HeadKind::FinalAndEnd).unwrap();
        });
        let response = gateway.handle(get()).await;
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY, "{lengths:?}");
        answering.await.unwrap();
    }
}

/// An instance whose only link has just gone.
async fn deserted() -> Gateway {
    let gateway = gateway(GatewayLimits::default());
    let peer = add_link(&gateway, 1).await;
    peer.close();
    while gateway.links() > 0 {
        tokio::task::yield_now().await;
    }
    gateway
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_the_link_that_takes_the_place_of_the_last_one() {
    let gateway = deserted().await;
    let limit = gateway.terms().limits.link_credit;
    let relay = gateway.clone();
    let asked = tokio::spawn(async move { relay.handle(get()).await.status() });
    tokio::time::sleep(limit.checked_sub(Duration::from_millis(1)).unwrap()).await;
    let peer = add_link(&gateway, 2).await;
    let mut incoming = peer.accept().await.unwrap();
    incoming.send.send_head(head(200), HeadKind::FinalAndEnd).unwrap();
    assert_eq!(asked.await.unwrap(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn requests_wait_for_a_link_until_the_limit_after_the_start_or_the_last_one_and_no_longer() {
    for is_new in [false, true] {
        let gateway = if is_new { gateway(GatewayLimits::default()) } else { deserted().await };
        // Whoever asks after the first request finds that the time is over.
        for wait in [gateway.terms().limits.link_credit, Duration::ZERO] {
            let before = Instant::now();
            let response = gateway.handle(get()).await;
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(reason(&response), "CMGService_No_Connector");
            // A timer of the runtime is exact to the millisecond.
            assert_eq!(before.elapsed().as_millis(), wait.as_millis());
        }
    }
}
