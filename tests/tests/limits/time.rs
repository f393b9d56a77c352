//! Limits of time and pace at their three points: the last second before, the last moment, and just
//! beyond. The clock is the test's, the octets are those of TLS, and a site role answers as told.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use relay_core::exchange::{AnswerHead, HeadLimits, Origin};
use relay_core::gateway::Gateway;
use relay_core::link::{Incoming, Link, SendStream};
use relay_core::mux::{Config, HeadKind};
use relay_tests::client::{Client, Http, bare, pipe_to, tls};
use relay_tests::http2::{
    ACK, END_STREAM, Frame, Http2Client, PREFACE, asks, block, code, frame, kind, setting,
};
use relay_tests::raw::RawClient;
use relay_tests::roles::{House, Rogue, counted, target};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{LIMITS, points_of};

const TICK: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// No test takes this long by its own clock.
const HANG: Duration = Duration::from_hours(2);

/// The limit of this name, in seconds.
fn seconds(of: &str) -> Duration {
    let row = LIMITS.iter().find(|row| row.of == of).unwrap();
    Duration::from_secs(row.value.try_into().unwrap())
}

/// The three times, and what is answered at each.
fn times(of: &str) -> impl Iterator<Item = (Duration, &'static str)> {
    let limit = seconds(of);
    let before = |time| limit.checked_sub(time).unwrap();
    [before(SECOND), before(TICK), limit + TICK].into_iter().zip(points_of(of))
}

struct Site {
    house: House,
    gateway: Gateway,
    rogue: Rogue,
}

impl Site {
    async fn with(config: Config) -> Self {
        let house = House::before(([127, 0, 0, 1], 9).into());
        let gateway = house.gateway(1);
        let rogue = house.rogue_connection_point(&gateway, config).await;
        Self { house, gateway, rogue }
    }

    async fn new() -> Self {
        Self::with(Config::default()).await
    }

    async fn raw(&self) -> RawClient {
        RawClient::join(&self.gateway, &self.house.ca).await
    }
}

fn head() -> Bytes {
    let (status, headers) = (StatusCode::OK, HeaderMap::new());
    AnswerHead { status, reason: None, headers, origin: Origin::Site }
        .encode(&HeadLimits::default())
        .unwrap()
}

fn says_ok(mut incoming: Incoming) {
    // An error: nobody waits for it any more.
    let _ = incoming.send.send_head(head(), HeadKind::FinalAndEnd);
}

/// Answers each request once all of it has come.
fn answer_all(link: Link) {
    tokio::spawn(async move {
        while let Ok(mut incoming) = link.accept().await {
            tokio::spawn(async move {
                while let Ok(Some(_)) = incoming.recv.read_chunk().await {}
                says_ok(incoming);
            });
        }
    });
}

/// A request as it is written in HTTP/1.1.
fn written(verb: &str, fields: &str) -> String {
    format!("{verb} {} HTTP/1.1\r\nHost: relay.test\r\n{fields}\r\n", target("/SMS_MP/x"))
}

/// The status that a client is told.
async fn told(client: &mut RawClient) -> String {
    client.status().await.map_or_else(|| "closed".to_owned(), |status| status.to_string())
}

fn within<'a>(test: impl Future<Output = ()> + 'a) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
    Box::pin(async { timeout(HANG, test).await.expect("the test hangs") })
}

/// The status of an answer that the site begins so long after its request.
async fn answered_after(time: Duration, http: Http) -> String {
    let site = Site::new().await;
    let link = site.rogue.link.clone();
    tokio::spawn(async move {
        let incoming = link.accept().await.unwrap();
        sleep(time).await;
        says_ok(incoming);
    });
    let mut client = Client::join(&site.gateway, &site.house.ca, http).await;
    client.ask(bare("GET", &target("/SMS_MP/x"))).await.status().to_string()
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_come_until_65_s_after_its_request_and_is_504_then() {
    within(async {
        for (after, expected) in times("seconds to an answer") {
            for http in Http::BOTH {
                assert_eq!(answered_after(after, http).await, expected, "{http:?} {after:?}");
            }
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_a_stream_until_5_s_and_is_503_then() {
    within(async {
        for (after, expected) in times("seconds for a stream of a link") {
            let config = Config { accept_streams_max: 1, ..Config::default() };
            let site = Site::with(config).await;
            let mut first = site.raw().await;
            first.send(written("GET", "").as_bytes()).await;
            let link = site.rogue.link.clone();
            let held = link.accept().await.unwrap();
            let began = Instant::now();
            tokio::spawn(async move {
                sleep_until(began + after).await;
                says_ok(held);
                says_ok(link.accept().await.unwrap());
            });
            let mut second = site.raw().await;
            second.send(written("GET", "").as_bytes()).await;
            assert_eq!(told(&mut second).await, expected, "{after:?}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_may_stand_still_until_30_s_and_is_408_then() {
    within(async {
        for (after, expected) in times("seconds without any of a body") {
            let site = Site::new().await;
            answer_all(site.rogue.link.clone());
            let mut client = site.raw().await;
            // So much before that it is not too slow by its rate.
            let ahead = vec![b'a'; 16 << 10];
            let length = format!("Content-Length: {}\r\n", ahead.len() + 1);
            client.send(written("CCM_POST", &length).as_bytes()).await;
            client.send(&ahead).await;
            sleep(after).await;
            client.send(b"a").await;
            assert_eq!(told(&mut client).await, expected, "{after:?}");
        }
    })
    .await;
}

/// Sends a body octets of which come each second, for longer than one octet a second too few is
/// borne: five seconds' worth of them.
async fn sends(octets: usize) -> String {
    let rate = LIMITS.iter().find(|row| row.of == "octets of a body in a second").unwrap().value;
    let pieces = 5 * rate + 100;
    let site = Site::new().await;
    answer_all(site.rogue.link.clone());
    let mut client = site.raw().await;
    let length = format!("Content-Length: {}\r\n", pieces * octets);
    client.send(written("CCM_POST", &length).as_bytes()).await;
    for _ in 0..pieces {
        client.send(&vec![b'a'; octets]).await;
        sleep(SECOND).await;
    }
    told(&mut client).await
}

#[tokio::test(start_paused = true)]
async fn a_body_of_240_octets_a_second_is_taken_for_ever_and_one_of_239_is_not() {
    within(async {
        let points = points_of("octets of a body in a second");
        for (octets, expected) in [239, 240, 241].into_iter().zip(points) {
            assert_eq!(sends(octets).await, expected, "{octets}");
        }
    })
    .await;
}

/// More than all that is between the site and its client holds.
const LARGE: usize = 2 << 20;

/// Answers with [`LARGE`] octets, as fast as they are taken.
async fn pour(mut send: SendStream) {
    send.send_head(head(), HeadKind::Final).unwrap();
    for _ in 0..LARGE >> 12 {
        if send.write_chunk(Bytes::from_static(&[b'a'; 4096])).await.is_err() {
            return;
        }
    }
    let _ = send.finish();
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_be_left_lying_until_30_s_and_is_cut_then() {
    within(async {
        for (after, expected) in times("seconds without any of an answer taken") {
            let site = Site::new().await;
            let link = site.rogue.link.clone();
            tokio::spawn(async move { pour(link.accept().await.unwrap().send).await });
            let mut stream = tls(pipe_to(&site.gateway), &site.house.ca, b"http/1.1").await;
            let request = written("GET", "Connection: close\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            sleep(after).await;
            let mut answer = Vec::new();
            // A connection that is cut says no goodbye.
            let _ = stream.read_to_end(&mut answer).await;
            let is_whole = answer.ends_with(b"\r\n0\r\n\r\n");
            assert_eq!(if is_whole { "open" } else { "cut" }, expected, "{after:?}");
        }
    })
    .await;
}

/// Reads until a frame is as `wanted`, and says meanwhile that somebody is there.
async fn until(client: &mut Http2Client, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
    loop {
        let came = client.next().await?;
        if wanted(&came) {
            return Some(came);
        }
        if came.kind == kind::PING && came.flags & ACK == 0 {
            client.send(&frame(kind::PING, ACK, 0, &came.payload)).await;
        }
    }
}

/// Takes so many octets of an answer over HTTP/2 in 20 s, and no more within 45. Returns whether
/// the answer still stands then.
async fn takes(octets: u32) -> bool {
    const INITIAL_WINDOW_SIZE: u16 = 4;
    let site = Site::new().await;
    let link = site.rogue.link.clone();
    tokio::spawn(async move { pour(link.accept().await.unwrap().send).await });
    let mut client = Http2Client::connect(&site.gateway, &site.house.ca).await;
    let settings = [setting(1, 0), setting(INITIAL_WINDOW_SIZE, 0)].concat();
    client.send(&[PREFACE, &frame(kind::SETTINGS, 0, 0, &settings)].concat()).await;
    client.get(1, &target("/SMS_MP/x")).await;
    client.until(|it| it.stream == 1 && it.kind == kind::HEADERS).await.unwrap();
    sleep(Duration::from_secs(20)).await;
    client.send(&frame(kind::WINDOW_UPDATE, 0, 1, &octets.to_be_bytes())).await;
    let over = until(&mut client, Frame::ends_stream);
    match timeout(Duration::from_secs(25), over).await {
        Err(_) => true,
        Ok(over) => {
            let over = over.expect("the connection goes on");
            assert_eq!((over.kind, over.number(0)), (kind::RST_STREAM, code::CANCEL));
            assert_eq!(over.flags & END_STREAM, 0);
            false
        }
    }
}

#[tokio::test(start_paused = true)]
async fn of_an_answer_16_kib_must_be_taken_in_30_s_and_one_octet_less_is_not_enough() {
    within(async {
        const LEAST: u32 = 16 << 10;
        let points = points_of("KiB of an answer taken in 30 s");
        for (octets, expected) in [LEAST - 1, LEAST, LEAST + 1].into_iter().zip(points) {
            let stands = takes(octets).await;
            assert_eq!(if stands { "open" } else { "cut" }, expected, "{octets}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_may_be_idle_until_60_s_and_is_closed_then() {
    within(async {
        for (after, expected) in times("seconds without a request") {
            let site = Site::new().await;
            answer_all(site.rogue.link.clone());
            let mut one = site.raw().await;
            one.send(written("GET", "").as_bytes()).await;
            assert_eq!(told(&mut one).await, "200");
            sleep(after).await;
            one.send(written("GET", "").as_bytes()).await;
            let is_served = told(&mut one).await == "200";
            assert_eq!(if is_served { "served" } else { "closed" }, expected, "{after:?}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_of_http2_may_be_without_a_stream_until_60_s_and_is_ended_well_then() {
    within(async {
        for (after, expected) in times("seconds without a stream") {
            let site = Site::new().await;
            answer_all(site.rogue.link.clone());
            let mut two = Http2Client::join(&site.gateway, &site.house.ca).await;
            two.get(1, &target("/SMS_MP/x")).await;
            assert_eq!(two.status(1).await, Some(200));
            let goodbye = until(&mut two, |it| it.kind == kind::GOAWAY);
            let goodbye = match timeout(after, goodbye).await {
                Err(_) => "open",
                Ok(told) => {
                    assert_eq!(told.expect("a goodbye").number(4), code::NO_ERROR);
                    "NO_ERROR"
                }
            };
            assert_eq!(goodbye, expected, "{after:?}");
        }
    })
    .await;
}

/// Has so many answers begin, and resets each, all in one second. Returns whether the connection
/// goes on.
async fn resets(count: u32) -> bool {
    let site = Site::new().await;
    let link = site.rogue.link.clone();
    tokio::spawn(async move {
        while let Ok(mut incoming) = link.accept().await {
            incoming.send.send_head(head(), HeadKind::Final).unwrap();
            tokio::spawn(async move { incoming.send.stopped().await });
        }
    });
    let mut client = Http2Client::join(&site.gateway, &site.house.ca).await;
    let began = Instant::now();
    for number in 0..count {
        let stream = 2 * number + 1;
        client.get(stream, &target("/SMS_MP/x")).await;
        client.until(|it| it.stream == stream && it.kind == kind::HEADERS).await.unwrap();
        client.send(&frame(kind::RST_STREAM, 0, stream, &code::CANCEL.to_be_bytes())).await;
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
    client.send(&frame(kind::PING, 0, 0, &[0; 8])).await;
    let told = client.until(|it| matches!(it.kind, kind::PING | kind::GOAWAY)).await.unwrap();
    if told.kind == kind::GOAWAY {
        assert_eq!(told.number(4), code::ENHANCE_YOUR_CALM);
    }
    told.kind == kind::PING
}

#[tokio::test(start_paused = true)]
async fn a_connection_may_reset_100_requests_in_a_second_and_not_101() {
    within(async {
        let points = points_of("resets in a second");
        for (count, expected) in [99, 100, 101].into_iter().zip(points) {
            let goes_on = resets(count).await;
            assert_eq!(if goes_on { "open" } else { "ENHANCE_YOUR_CALM" }, expected, "{count}");
        }
    })
    .await;
}

/// Has a client stop in the head of its request, and answer what it is asked or not. Returns after
/// how long the connection has ended, with which code, and what was counted of it.
async fn stops_in_its_head(answers_pings: bool) -> (u64, Option<u32>, Vec<&'static str>) {
    let site = Site::new().await;
    let mut client = Http2Client::join(&site.gateway, &site.house.ca).await;
    let begun = Instant::now();
    let block = block(&asks("GET", &target("/SMS_MP/x")));
    client.send(&frame(kind::HEADERS, END_STREAM, 1, &block)).await;
    let mut code = None;
    while let Some(frame) = client.next().await {
        let is_ping = frame.kind == kind::PING && frame.flags & ACK == 0;
        if is_ping && answers_pings {
            client.send(&relay_tests::http2::frame(kind::PING, ACK, 0, &frame.payload)).await;
        }
        code = code.or((frame.kind == kind::GOAWAY).then(|| frame.number(4)));
    }
    assert_eq!(site.rogue.link.stats().mux.streams_accepted, 0);
    let counts = counted(site.gateway.status().counts).into_keys().collect();
    (begun.elapsed().as_secs(), code, counts)
}

#[tokio::test(start_paused = true)]
async fn half_a_head_over_http2_is_borne_until_the_ping_that_it_has_no_room_for() {
    within(async {
        assert_eq!(stops_in_its_head(false).await, (45, None, vec!["http2_pong"]));
        // RFC 9113, section 6.10: nothing but CONTINUATION may come before the head's end.
        let broken = (30, Some(code::PROTOCOL_ERROR), vec!["http2_broken"]);
        assert_eq!(stops_in_its_head(true).await, broken);
    })
    .await;
}
