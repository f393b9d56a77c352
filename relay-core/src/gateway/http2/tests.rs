//! Connections over HTTP/2 with a bare client: what hyper's would hide.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use h2::client::{ResponseFuture, SendRequest};
use h2::ext::Protocol;
use h2::{FlowControl, Reason, RecvStream, SendStream};
use http::{Method, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::{Instant, advance};

use super::*;
use crate::gateway::GatewayLimits;
use crate::gateway::access::Slowness;
use crate::gateway::serve::tests::{TARGET, add_link, add_link_of, gateway, head};
use crate::link::{Incoming, Link};
use crate::mux::HeadKind;
use crate::transport::UPGRADE_PATH;

const FROM: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
const STALL: Duration = Duration::from_secs(30);

/// Has `gateway` serve a port, and returns the client's end.
fn port(gateway: &Gateway, port: Port) -> DuplexStream {
    let (client, server) = tokio::io::duplex(64 << 10);
    let gateway = gateway.clone();
    tokio::spawn(async move {
        let client = Client::new(FROM, Slowness::default());
        let http2 = Http2::begin(gateway, server, client, port).await.unwrap();
        if let Ok(Some((http2, first))) = http2.serve().await {
            http2.serve_with(first).await;
        }
    });
    client
}

/// A client that grants each answer `window` octets.
async fn client(gateway: &Gateway, at: Port, window: u32) -> SendRequest<Bytes> {
    let pipe = port(gateway, at);
    let mut builder = h2::client::Builder::new();
    let begun = builder.initial_window_size(window).handshake(pipe).await;
    let (sender, connection) = begun.unwrap();
    tokio::spawn(connection);
    sender
}

fn get() -> Request<()> {
    Request::get(format!("https://relay.example{TARGET}")).body(()).unwrap()
}

fn post() -> Request<()> {
    let mut request = get();
    *request.method_mut() = Method::from_bytes(b"CCM_POST").unwrap();
    request
}

fn connect(path: &str, protocol: &'static str) -> Request<()> {
    let uri = format!("https://relay.example{path}");
    let mut request = Request::builder().method(Method::CONNECT).uri(uri).body(()).unwrap();
    request.extensions_mut().insert(Protocol::from_static(protocol));
    request
}

async fn ask(
    sender: &mut SendRequest<Bytes>,
    request: Request<()>,
    is_whole: bool,
) -> (ResponseFuture, SendStream<Bytes>) {
    poll_fn(|cx| sender.poll_ready(cx)).await.unwrap();
    sender.send_request(request, is_whole).unwrap()
}

/// Asks for `TARGET` and has the site answer 200 without a body.
async fn works(sender: &mut SendRequest<Bytes>, site: &Link) {
    let (answer, _) = ask(sender, get(), true).await;
    let mut incoming = site.accept().await.unwrap();
    incoming.send.send_head(head(200), HeadKind::FinalAndEnd).unwrap();
    assert_eq!(answer.await.unwrap().status(), StatusCode::OK);
}

async fn answer(mut incoming: Incoming, octets: &'static [u8]) {
    incoming.send.send_head(head(200), HeadKind::Final).unwrap();
    incoming.send.write_chunk(Bytes::from_static(octets)).await.unwrap();
    incoming.send.finish().unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_which_nothing_is_taken_is_reset_at_the_limit_and_its_neighbours_go_on() {
    let limits = GatewayLimits { answer_stall: STALL, ..GatewayLimits::default() };
    let gateway = gateway(limits);
    let site = add_link(&gateway, 1).await;
    let mut sender = client(&gateway, Port::Shared, 0).await;
    let (asked, _) = ask(&mut sender, get(), true).await;
    answer(site.accept().await.unwrap(), b"more than no window takes").await;
    let mut body = asked.await.unwrap().into_body();
    let before = Instant::now();
    let error = body.data().await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(Reason::CANCEL));
    assert_eq!(before.elapsed().as_secs(), STALL.as_secs());
    assert_eq!(gateway.in_flight(), 0);
    assert_counted(&gateway, &["answer_cut_client_too_slow", "answer_stall_seconds"]);
    works(&mut sender, &site).await;
}

/// Asserts that each of `names` was counted once, and nothing else.
fn assert_counted(gateway: &Gateway, names: &[&str]) {
    let counts = gateway.status().counts.into_iter().filter(|it| it.count > 0);
    let mut counts: Vec<_> = counts.map(|it| (it.name, it.count)).collect();
    counts.sort_unstable();
    assert_eq!(counts, names.iter().map(|name| (*name, 1)).collect::<Vec<_>>());
}

/// Sends as much as it may, for ever.
async fn pour(mut send: SendStream<Bytes>) {
    loop {
        send.reserve_capacity(STREAM_WINDOW as usize);
        let granted = poll_fn(|cx| send.poll_capacity(cx)).await;
        let Some(Ok(octets)) = granted else { return };
        if octets > 0 {
            send.send_data(vec![0; octets].into(), false).unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn as_many_uploads_as_may_be_that_the_site_does_not_take_hold_up_no_other_request() {
    let gateway = gateway(GatewayLimits::default());
    let site = add_link_of(&gateway, 1, STREAMS_MAX).await;
    let mut sender = client(&gateway, Port::Shared, 65_535).await;
    let mut stalled = Vec::new();
    let mut pouring = JoinSet::new();
    for _ in 1..STREAMS_MAX {
        let (answer, send) = ask(&mut sender, post(), false).await;
        pouring.spawn(pour(send));
        stalled.push((answer, site.accept().await.unwrap()));
    }
    // Passes when nothing moves any more.
    sleep(Duration::from_secs(1)).await;
    works(&mut sender, &site).await;
    // One that has a body too: there is a window for it.
    let (answer, mut send) = ask(&mut sender, post(), false).await;
    send.send_data(Bytes::from_static(b"body"), true).unwrap();
    let mut incoming = site.accept().await.unwrap();
    let chunk = timeout(Duration::from_secs(1), incoming.recv.read_chunk()).await;
    assert_eq!(chunk.expect("a window").unwrap().unwrap(), "body");
    incoming.send.send_head(head(200), HeadKind::FinalAndEnd).unwrap();
    assert_eq!(answer.await.unwrap().status(), StatusCode::OK);
    assert_eq!(gateway.in_flight(), u64::from(STREAMS_MAX) - 1);
    drop((pouring, stalled, sender));
    while gateway.in_flight() > 0 {
        sleep(Duration::from_millis(1)).await;
    }
}

/// Takes an answer window by window, with a pause before each. `None`: it was cut.
async fn sip(mut body: RecvStream, pause: Duration) -> Option<usize> {
    let mut taken = 0;
    while let Some(octets) = body.data().await {
        taken += octets.ok()?.len();
        advance(pause).await;
        let flow: &mut FlowControl = body.flow_control();
        let used = flow.used_capacity();
        flow.release_capacity(used).unwrap();
    }
    Some(taken)
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_cut_unless_16_kib_are_taken_or_all_there_is_while_the_client_is_waited_for() {
    const SHORT: &[u8] = b"two at a time";
    const LONG: &[u8] = &[7; 100 << 10];
    for (window, octets, pause, taken) in [
        (2, SHORT, STALL / 2, None),
        (13, SHORT, STALL / 2, Some(SHORT.len())),
        (16 << 10, LONG, STALL * 3 / 4, Some(LONG.len())),
        ((8 << 10) - 1, LONG, STALL * 3 / 4, None),
    ] {
        let limits = GatewayLimits { answer_stall: STALL, ..GatewayLimits::default() };
        let gateway = gateway(limits);
        let site = add_link(&gateway, 1).await;
        let mut sender = client(&gateway, Port::Shared, window).await;
        let (asked, _) = ask(&mut sender, get(), true).await;
        let peer = site.clone();
        let serving =
            tokio::spawn(async move { answer(peer.accept().await.unwrap(), octets).await });
        let asked = asked.await.unwrap();
        assert_eq!(asked.status(), 200, "{:?}", asked.headers());
        assert_eq!(sip(asked.into_body(), pause).await, taken, "by {window}");
        serving.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_without_a_word_is_let_go_of_after_a_ping() {
    let gateway = gateway(GatewayLimits::default());
    let mut pipe = port(&gateway, Port::Shared);
    let before = Instant::now();
    pipe.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut said = Vec::new();
    pipe.read_to_end(&mut said).await.unwrap();
    assert_eq!(before.elapsed().as_secs(), (PING_EVERY + PONG_WITHIN).as_secs());
}

#[tokio::test(start_paused = true)]
async fn clients_are_served_beside_a_link_and_behind_one_that_is_refused() {
    let gateway = gateway(GatewayLimits::default());
    let site = add_link(&gateway, 1).await;
    let mut sender = client(&gateway, Port::Shared, 65_535).await;
    works(&mut sender, &site).await;
    assert!(sender.is_extended_connect_protocol_enabled());
    let mut links = Vec::new();
    for _ in 0..2 {
        let (granted, send) = ask(&mut sender, connect(UPGRADE_PATH, "relay-link/1"), false).await;
        let granted = granted.await.unwrap();
        assert_eq!(granted.status(), StatusCode::OK);
        works(&mut sender, &site).await;
        links.push((granted.into_body(), send));
    }
    for (mut recv, mut send) in links {
        send.send_data(Bytes::from_static(b"no handshake at all"), false).unwrap();
        // The alert of TLS, then the end of the stream.
        while let Some(Ok(_)) = recv.data().await {}
        works(&mut sender, &site).await;
    }
    assert_eq!(gateway.links(), 1);
    // Neither link was up: what it was told is no refusal of HTTP/2.
    let counts = gateway.status().counts.into_iter().filter(|it| it.count > 0);
    let counted: Vec<_> = counts.map(|it| it.name).filter(|it| it.starts_with("http2")).collect();
    assert_eq!(counted, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_asks_for_anything_but_a_link_by_connect_is_judged_as_any_request() {
    let gateway = gateway(GatewayLimits::default());
    let site = add_link(&gateway, 1).await;
    let mut sender = client(&gateway, Port::Shared, 65_535).await;
    works(&mut sender, &site).await;
    for (path, protocol) in [(UPGRADE_PATH, "websocket"), (TARGET, "relay-link/1")] {
        let (answer, _send) = ask(&mut sender, connect(path, protocol), false).await;
        let status = answer.await.unwrap().status();
        assert!(status.is_client_error(), "{path} {protocol}: {status}");
    }
    works(&mut sender, &site).await;
}

#[tokio::test(start_paused = true)]
async fn a_port_for_links_alone_serves_no_client_over_http2() {
    let gateway = gateway(GatewayLimits::default());
    let _site = add_link(&gateway, 1).await;
    let mut sender = client(&gateway, Port::Links, 65_535).await;
    let (answer, _) = ask(&mut sender, get(), true).await;
    assert_eq!(answer.await.unwrap().status(), StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn what_concerns_a_connection_of_http1_is_left_out_and_a_date_is_there() {
    let gateway = gateway(GatewayLimits::default());
    let mut sender = client(&gateway, Port::Shared, 65_535).await;
    let request = Request::delete(format!("https://relay.example{TARGET}")).body(()).unwrap();
    let (answer, _) = ask(&mut sender, request, true).await;
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    let fields = answer.headers().clone();
    assert!(!fields.contains_key("connection"));
    assert!(fields.contains_key("date"));
    let mut body = answer.into_body();
    let text = body.data().await.unwrap().unwrap();
    assert_eq!(fields["content-length"].to_str().unwrap(), text.len().to_string());
}

/// Reads frames until the connection ends, and returns the code of the GOAWAY that ends it.
async fn goodbye(pipe: &mut DuplexStream) -> Option<u32> {
    let mut said = Vec::new();
    pipe.read_to_end(&mut said).await.unwrap();
    let mut rest = &said[..];
    let mut code = None;
    while let [l0, l1, l2, kind, _, _, _, _, _, behind @ ..] = rest {
        let length = u32::from_be_bytes([0, *l0, *l1, *l2]) as usize;
        if *kind == 0x7 {
            code = Some(u32::from_be_bytes(behind[4..8].try_into().unwrap()));
        }
        rest = &behind[length..];
    }
    code
}

/// What a client says first.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const ENHANCE_YOUR_CALM: u32 = 0xb;

/// A PING, and SETTINGS without a setting.
const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0pingpong";
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

#[tokio::test(start_paused = true)]
async fn a_client_that_pings_or_sets_too_often_is_told_to_calm_down() {
    // The hello has the first SETTINGS.
    for (frame, at_once) in [(PING, 30), (SETTINGS, 19)] {
        for beyond in [false, true] {
            let gateway = gateway(GatewayLimits::default());
            let mut pipe = port(&gateway, Port::Shared);
            pipe.write_all(HELLO).await.unwrap();
            let count = at_once + usize::from(beyond);
            pipe.write_all(&frame.repeat(count)).await.unwrap();
            let before = Instant::now();
            // A client of which nothing is heard any more is given up later.
            let code = goodbye(&mut pipe).await;
            let ended_at_once = before.elapsed() < Duration::from_secs(1);
            assert_eq!(ended_at_once, beyond, "{count} of {frame:?}");
            assert_eq!(code == Some(ENHANCE_YOUR_CALM), beyond, "{count} of {frame:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_51st_request_that_is_reset_before_its_answer_ends_the_connection() {
    let gateway = gateway(GatewayLimits::default());
    let site = add_link(&gateway, 1).await;
    let mut sender = client(&gateway, Port::Shared, 65_535).await;
    for _ in 0..51 {
        works(&mut sender, &site).await;
        let (answer, mut send) = ask(&mut sender, get(), false).await;
        let mut incoming = site.accept().await.unwrap();
        send.send_reset(Reason::CANCEL);
        incoming.send.stopped().await;
        drop(answer);
        // Not more than some a second: that is another limit.
        advance(Duration::from_millis(100)).await;
    }
    let ended = poll_fn(|cx| sender.poll_ready(cx)).await;
    let ended = match ended {
        Ok(()) => sender.send_request(get(), true).unwrap().0.await.map(drop),
        Err(error) => Err(error),
    };
    assert_eq!(ended.unwrap_err().reason(), Some(Reason::ENHANCE_YOUR_CALM));
    assert_eq!(gateway.in_flight(), 0);
    assert_counted(&gateway, &["http2_early_resets"]);
}

#[tokio::test(start_paused = true)]
async fn of_what_a_balancer_brings_h2_resets_150_requests_and_not_one_more() {
    // HEADERS that are a whole request: GET, and `te: b`, which may only say `trailers`.
    const MALFORMED: &[u8] = b"\0\0\x07\x01\x05\0\0\0\x01\x82\0\x02te\x01b";
    for (count, is_ended) in [(RESETS_CAUSED_MAX, false), (RESETS_CAUSED_MAX + 1, true)] {
        let gateway = gateway(GatewayLimits::default());
        let (mut pipe, server) = tokio::io::duplex(64 << 10);
        let serving = gateway.clone();
        tokio::spawn(async move {
            let client = Client::new(FROM, Slowness::default());
            let http2 = Http2::begin(serving, server, client, Port::Shared).await.unwrap();
            // As where a link stands: no client's own limit acts.
            http2.exceeded.share();
            drop(http2.serve().await);
        });
        pipe.write_all(HELLO).await.unwrap();
        for number in 0..u8::try_from(count).unwrap() {
            let mut frame = MALFORMED.to_vec();
            let stream = 2 * u16::from(number) + 1;
            frame[7..9].copy_from_slice(&stream.to_be_bytes());
            pipe.write_all(&frame).await.unwrap();
        }
        let code = goodbye(&mut pipe).await;
        assert_eq!(code == Some(ENHANCE_YOUR_CALM), is_ended, "{count}: {code:?}");
        let counts = gateway.status().counts;
        let of = |name: &str| counts.iter().find(|it| it.name == name).unwrap().count;
        // Of those in the last moment not all are written before the GOAWAY.
        let told = of("http2_resets_told");
        assert!(if is_ended { told > 0 } else { told == RESETS_CAUSED_MAX as u64 }, "{told}");
        assert_eq!(of("http2_broken"), u64::from(is_ended));
        assert_eq!(of("http2_early_resets"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_stream_is_ended_well_at_the_limit_and_not_before() {
    let limits = GatewayLimits { idle: Duration::from_secs(20), ..GatewayLimits::default() };
    let gateway = gateway(limits);
    let site = add_link(&gateway, 1).await;
    let (client, server) = tokio::io::duplex(64 << 10);
    let ended = {
        let gateway = gateway.clone();
        tokio::spawn(async move {
            let whom = Client::new(FROM, Slowness::default());
            let http2 = Http2::begin(gateway, server, whom, Port::Shared).await.unwrap();
            // A client that has heard that it is the end may hang up first.
            drop(http2.serve().await);
            Instant::now()
        })
    };
    let (mut sender, connection) = h2::client::handshake(client).await.unwrap();
    let connection = tokio::spawn(connection);
    // One that is served is not idle, however long it takes.
    let (answer, _) = ask(&mut sender, get(), true).await;
    let mut incoming = site.accept().await.unwrap();
    advance(Duration::from_mins(1)).await;
    incoming.send.send_head(head(200), HeadKind::FinalAndEnd).unwrap();
    assert_eq!(answer.await.unwrap().status(), StatusCode::OK);
    sleep(Duration::from_millis(19_900)).await;
    works(&mut sender, &site).await;
    let idle_since = Instant::now();
    connection.await.unwrap().expect("a good end");
    assert_eq!((ended.await.unwrap() - idle_since).as_secs(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_connection_with_a_link_is_never_idle_and_is_when_the_link_has_gone() {
    let limits = GatewayLimits { idle: Duration::from_secs(20), ..GatewayLimits::default() };
    let tls_handshake = limits.tls_handshake;
    let gateway = gateway(limits);
    let mut sender = client(&gateway, Port::Shared, 65_535).await;
    let (granted, _send) = ask(&mut sender, connect(UPGRADE_PATH, "relay-link/1"), false).await;
    let granted = granted.await.unwrap();
    let before = Instant::now();
    // It is refused when its peer has not shown in time who it is.
    let mut recv = granted.into_body();
    while let Some(Ok(_)) = recv.data().await {}
    assert_eq!(before.elapsed().as_secs(), tls_handshake.as_secs());
    while poll_fn(|cx| sender.poll_ready(cx)).await.is_ok() {
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(before.elapsed().as_secs(), tls_handshake.as_secs() + 20);
}
