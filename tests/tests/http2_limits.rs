//! What one connection of HTTP/2 may cost the gateway, at each limit from the wire.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

#[path = "http2_limits/places.rs"]
mod places;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Request, Response};
use hyper::body::Incoming;
use relay_tests::http2::{
    ACK, END_HEADERS, END_STREAM, Http2Client, WHOLE, asks, block, code, field, frame, kind,
};
use relay_tests::roles::{House, counted, target, until, within};
use relay_tests::running::{Instance, connection_point};
use relay_tests::site::{Backend, Body, full};

/// Streams of one connection at once.
const STREAMS_MAX: u32 = 100;

/// Octets of a field list, as RFC 9113, section 6.5.2 counts them.
const LIST_OCTETS_MAX: usize = 32_768;

/// Requests that one connection may reset before they are answered.
const EARLY_RESETS_MAX: u32 = 50;

/// A site role that never answers `/held`, and counts how much of that it has at most.
struct Holding {
    backend: Backend,
    most: Arc<AtomicUsize>,
}

/// One request that is held.
struct Held(Arc<AtomicUsize>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Holding {
    async fn start() -> Self {
        let (held, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let seen = Arc::clone(&most);
        let answer = move |request: Request<Incoming>| {
            let is_held = request.uri().path().ends_with("/held");
            let place = is_held.then(|| {
                seen.fetch_max(held.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                Held(Arc::clone(&held))
            });
            async move {
                if let Some(_place) = place {
                    std::future::pending::<()>().await;
                }
                Response::<Body>::new(full("answered"))
            }
        };
        Self { backend: Backend::start(answer).await, most }
    }
}

fn held(stream: u32) -> Vec<u8> {
    let block = block(&asks("GET", &target("/SMS_MP/held")));
    frame(kind::HEADERS, WHOLE, stream, &block)
}

fn reset(stream: u32) -> Vec<u8> {
    frame(kind::RST_STREAM, 0, stream, &code::CANCEL.to_be_bytes())
}

/// The streams of the requests from `first` on.
fn streams(first: u32, count: u32) -> impl Iterator<Item = u32> {
    (first..first + count).map(|number| 2 * number + 1)
}

#[tokio::test]
async fn a_stream_beyond_the_hundredth_is_refused_and_may_be_asked_again() {
    within(async {
        let site = Holding::start().await;
        let house = House::before(site.backend.address);
        let (gateway, _link) = house.joined().await;
        for open in [STREAMS_MAX - 2, STREAMS_MAX - 1, STREAMS_MAX] {
            let mut client = Http2Client::join(&gateway, &house.ca).await;
            // What is beyond the limit is refused only to those who know it.
            client.until(|frame| frame.kind == kind::SETTINGS).await.unwrap();
            let asked: Vec<u8> = streams(0, open).flat_map(held).collect();
            client.send(&asked).await;
            site.backend.until_in_flight(open as usize).await;
            let last = 2 * open + 1;
            client.get(last, &target("/SMS_MP/x")).await;
            let end = client.until(|frame| frame.stream == last && frame.ends_stream()).await;
            let refused = open == STREAMS_MAX;
            let end = end.unwrap();
            assert_eq!(end.kind == kind::RST_STREAM, refused, "{open} open");
            if refused {
                assert_eq!(end.number(0), code::REFUSED_STREAM);
            } else {
                assert_eq!(client.status_of(last), Some(200), "{open} open");
            }
            drop(client);
            until(|| gateway.in_flight() == 0).await;
            site.backend.until_in_flight(0).await;
            let told = counted(gateway.status().counts).remove("http2_resets_told");
            assert_eq!(told, refused.then_some(1), "{open} open");
        }
    })
    .await;
}

#[tokio::test]
async fn a_field_list_above_32_kib_is_431_and_from_64_kib_on_before_anybody_looks_at_it() {
    within(async {
        let site = Holding::start().await;
        let house = House::before(site.backend.address);
        let (gateway, _link) = house.joined().await;
        let path = target("/SMS_MP/x");
        let fields = asks("GET", &path);
        let octets = |name: &str, value: &str| name.len() + value.len() + 32;
        let before: usize = fields.iter().map(|(name, value)| octets(name, value)).sum();
        for (size, is_looked_at) in [
            (LIST_OCTETS_MAX - 1, true),
            (LIST_OCTETS_MAX, true),
            (LIST_OCTETS_MAX + 1, true),
            (2 * LIST_OCTETS_MAX - 1, true),
            (2 * LIST_OCTETS_MAX, false),
            (2 * LIST_OCTETS_MAX + 1, false),
        ] {
            let value = "x".repeat(size - before - octets("x-long", ""));
            let all = [block(&fields), field("x-long", &value)].concat();
            let (begin, rest) = all.split_at(16_000);
            let mut client = Http2Client::join(&gateway, &house.ca).await;
            client.send(&frame(kind::HEADERS, END_STREAM, 1, begin)).await;
            let last = rest.len().div_ceil(16_000) - 1;
            for (number, piece) in rest.chunks(16_000).enumerate() {
                let flags = END_HEADERS * u8::from(number == last);
                client.send(&frame(kind::CONTINUATION, flags, 1, piece)).await;
            }
            let head = client.until(|frame| frame.kind == kind::HEADERS).await.unwrap();
            assert_eq!(client.status_of(1), Some(431), "{size}");
            // An answer of ours says why: a link's head is shorter than the list may be, and the
            // list has a limit of its own.
            assert_eq!(head.payload.len() > 20, is_looked_at, "{size}");
            client.get(3, &path).await;
            assert_eq!(client.status(3).await, Some(200), "{size}");
        }
        assert_eq!(site.backend.seen().len(), 6);
        let told = counted(gateway.status().counts);
        assert_eq!(told, [("CMGService_Head_Too_Large", 4), ("http2_head", 2)].into());
    })
    .await;
}

/// PRIORITY by which `stream` depends on itself: RFC 9113, section 5.3.1 has it reset.
fn depends_on_itself(stream: u32) -> Vec<u8> {
    frame(kind::PRIORITY, 0, stream, &[&stream.to_be_bytes()[..], &[0]].concat())
}

#[tokio::test]
async fn the_51st_request_that_a_client_has_the_gateway_reset_ends_the_connection() {
    within(async {
        let site = Holding::start().await;
        let house = House::before(site.backend.address);
        let (gateway, _link) = house.joined().await;
        let mut client = Http2Client::join(&gateway, &house.ca).await;
        client.until(|frame| frame.kind == kind::SETTINGS).await.unwrap();
        for stream in streams(0, EARLY_RESETS_MAX) {
            client.send(&held(stream)).await;
            site.backend.until_in_flight(1).await;
            client.send(&depends_on_itself(stream)).await;
            let end = client.until(|frame| frame.stream == stream).await.unwrap();
            assert_eq!((end.kind, end.number(0)), (kind::RST_STREAM, code::PROTOCOL_ERROR));
            // Its work at the site has ended with it.
            site.backend.until_in_flight(0).await;
        }
        let [served, held_last, last] = [50, 51, 52].map(|number| 2 * number + 1);
        client.get(served, &target("/SMS_MP/x")).await;
        assert_eq!(client.status(served).await, Some(200));
        client.send(&held(held_last)).await;
        client.send(&held(last)).await;
        site.backend.until_in_flight(2).await;
        client.send(&depends_on_itself(last)).await;
        let goodbye = client.until(|frame| frame.kind == kind::GOAWAY).await.unwrap();
        assert_eq!(goodbye.number(4), code::ENHANCE_YOUR_CALM);
        until(|| gateway.in_flight() == 0).await;
        site.backend.until_in_flight(0).await;
        let told = counted(gateway.status().counts);
        assert_eq!(told, [("http2_early_resets", 1), ("http2_resets_told", 51)].into());
    })
    .await;
}

#[tokio::test]
async fn a_field_block_in_more_pieces_than_it_can_need_ends_the_connection() {
    within(async {
        let site = Holding::start().await;
        let house = House::before(site.backend.address);
        let (gateway, _link) = house.joined().await;
        let head = block(&asks("GET", &target("/SMS_MP/x")));
        for (pieces, is_served) in [(4, true), (5, true), (6, false)] {
            let mut client = Http2Client::join(&gateway, &house.ca).await;
            client.send(&frame(kind::HEADERS, END_STREAM, 1, b"")).await;
            client.send(&frame(kind::CONTINUATION, 0, 1, b"").repeat(pieces)).await;
            client.send(&frame(kind::CONTINUATION, END_HEADERS, 1, &head)).await;
            let goodbye = |frame: &relay_tests::http2::Frame| frame.kind == kind::GOAWAY;
            let end = client.until(|it| goodbye(it) || it.ends_stream()).await.unwrap();
            assert_eq!(!goodbye(&end), is_served, "{pieces}");
            if !is_served {
                assert_eq!(end.number(4), code::ENHANCE_YOUR_CALM);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_resets_and_asks_anew_never_has_more_than_its_streams_at_the_site() {
    within(async {
        let site = Holding::start().await;
        let house = House::before(site.backend.address);
        let (gateway, _link) = house.joined().await;
        let mut client = Http2Client::join(&gateway, &house.ca).await;
        client.until(|frame| frame.kind == kind::SETTINGS).await.unwrap();
        let asked: Vec<u8> = streams(0, STREAMS_MAX).flat_map(held).collect();
        client.send(&asked).await;
        site.backend.until_in_flight(STREAMS_MAX as usize).await;
        // In one go, so that the gateway sees each request with the reset before it.
        let old = streams(0, EARLY_RESETS_MAX);
        let new = streams(STREAMS_MAX, EARLY_RESETS_MAX);
        let again: Vec<u8> =
            old.zip(new).flat_map(|(old, new)| [reset(old), held(new)].concat()).collect();
        client.send(&again).await;
        until(|| site.backend.seen().len() == (STREAMS_MAX + EARLY_RESETS_MAX) as usize).await;
        site.backend.until_in_flight(STREAMS_MAX as usize).await;
        // The link keeps the order: what is reset ends at the site before what comes behind it. To
        // the backend each goes by a connection of its own, and some may overtake.
        let most = site.most.load(Ordering::Relaxed);
        assert!(most < (STREAMS_MAX + EARLY_RESETS_MAX / 2) as usize, "{most} at once");
        // One more reset is one too many: all that is open ends with the connection.
        client.send(&reset(2 * STREAMS_MAX - 1)).await;
        let goodbye = client.until(|frame| frame.kind == kind::GOAWAY).await.unwrap();
        assert_eq!(goodbye.number(4), code::ENHANCE_YOUR_CALM);
        until(|| gateway.in_flight() == 0).await;
        site.backend.until_in_flight(0).await;
    })
    .await;
}

#[tokio::test]
async fn an_instance_that_stops_says_so_twice_and_serves_what_comes_in_between() {
    within(async {
        let site = Holding::start().await;
        let house = House::before(site.backend.address);
        let instance = Instance::start(&house, 1).await;
        let point = connection_point(&house, &[instance.links]);
        instance.until_links(1).await;
        let mut client = Http2Client::dial(instance.clients, &house.ca).await;
        client.get(1, &target("/SMS_MP/x")).await;
        assert_eq!(client.status(1).await, Some(200));
        let stopping = tokio::spawn(instance.running.stop());
        // RFC 9113, section 6.8: first with the highest number there is.
        let first = client.until(|frame| frame.kind == kind::GOAWAY).await.unwrap();
        assert_eq!((first.number(0), first.number(4)), ((1 << 31) - 1, code::NO_ERROR));
        let ping = client.until(|frame| frame.kind == kind::PING && frame.flags & ACK == 0);
        let ping = ping.await.unwrap();
        client.get(3, &target("/SMS_MP/x")).await;
        assert_eq!(client.status(3).await, Some(200));
        client.send(&frame(kind::PING, ACK, 0, &ping.payload)).await;
        let last = client.until(|frame| frame.kind == kind::GOAWAY).await.unwrap();
        assert_eq!((last.number(0), last.number(4)), (3, code::NO_ERROR));
        assert_eq!(client.next().await, None);
        assert_eq!(stopping.await.unwrap().reset, 0);
        point.stop().await;
    })
    .await;
}
