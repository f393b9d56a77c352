//! The gateway on an in-memory network while every stream into a site is taken: who waits, for how
//! long, who is refused, and that the site sees nobody else.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use relay_core::exchange::{AnswerHead, HeadLimits, Origin};
use relay_core::gateway::{AnswerBody, Gateway, GatewayLimits, header};
use relay_core::link::{Incoming, Link};
use relay_core::mux::{Config, HeadKind};
use relay_tests::roles::{House, Rogue, target, within};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// Streams that the site's only link has.
const STREAMS: u32 = 4;

const MILLISECOND: Duration = Duration::from_millis(1);

type Answer = Response<AnswerBody<Empty<Bytes>>>;

/// A gateway with a link of a few streams.
struct Full {
    house: House,
    gateway: Gateway,
    rogue: Rogue,
}

impl Full {
    async fn new() -> Self {
        let house = House::before(([127, 0, 0, 1], 9).into());
        let gateway = house.gateway(1);
        let config = Config { accept_streams_max: STREAMS, ..Config::default() };
        let rogue = house.rogue_connection_point(&gateway, config).await;
        Self { house, gateway, rogue }
    }

    /// Takes so many streams with requests that are held: clients that wait for a notification.
    async fn hold(&self, count: u32) -> Vec<Incoming> {
        let mut held = Vec::new();
        for _ in 0..count {
            let _held = ask_for(&self.gateway, target("/BGB/held"));
            held.push(self.rogue.link.accept().await.unwrap());
        }
        held
    }

    /// Requests that the site was sent.
    fn accepted(&self) -> u64 {
        self.rogue.link.stats().mux.streams_accepted
    }

    /// Has a line stand: a request was refused just now.
    async fn overload(&self) {
        let refused = ask(&self.gateway).await.unwrap();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}

fn ask_for(gateway: &Gateway, target: String) -> JoinHandle<Answer> {
    let gateway = gateway.clone();
    let request = Request::get(target).body(Empty::new()).unwrap();
    tokio::spawn(async move { gateway.handle(request).await })
}

fn ask(gateway: &Gateway) -> JoinHandle<Answer> {
    ask_for(gateway, target("/SMS_MP/x"))
}

fn answer(mut incoming: Incoming) {
    let (reason, headers) = (None, HeaderMap::new());
    let head = AnswerHead { status: StatusCode::OK, reason, headers, origin: Origin::Site };
    let head = head.encode(&HeadLimits::default()).unwrap();
    incoming.send.send_head(head, HeadKind::FinalAndEnd).unwrap();
}

/// Answers whatever comes at once.
fn answer_all(rogue: Rogue) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Ok(incoming) = rogue.link.accept().await {
            answer(incoming);
        }
    })
}

#[tokio::test(start_paused = true)]
async fn with_every_stream_held_the_next_request_is_503_at_the_bound_and_the_site_hears_of_none() {
    within(async {
        let limits = GatewayLimits::default();
        let full = Full::new().await;
        let mut held = full.hold(STREAMS - 1).await;
        // The last stream there is.
        held.extend(full.hold(1).await);
        assert_eq!(full.accepted(), u64::from(STREAMS));
        // First in the time that a burst has, then in that of an overload, again and again.
        for bound in [limits.link_credit, limits.overload_wait, limits.overload_wait] {
            let before = Instant::now();
            let refused = ask(&full.gateway).await.unwrap();
            assert_eq!(before.elapsed(), bound);
            assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(refused.headers()["retry-after"], "1");
            assert_eq!(refused.headers()[header::REASON], "CMGService_Overloaded");
            let text = refused.into_body().collect().await.unwrap().to_bytes();
            let text = String::from_utf8(text.to_vec()).unwrap();
            assert!(text.contains(&format!("waited for {} ms\n", bound.as_millis())), "{text}");
        }
        assert_eq!(full.gateway.in_flight(), u64::from(STREAMS));
        assert_eq!(full.accepted(), u64::from(STREAMS), "the site hears of those it has alone");

        held.into_iter().for_each(answer);
        let before = Instant::now();
        let next = ask(&full.gateway);
        answer(full.rogue.link.accept().await.unwrap());
        assert_eq!(next.await.unwrap().status(), StatusCode::OK);
        assert_eq!(before.elapsed(), Duration::ZERO, "at once");
        assert_eq!(full.accepted(), u64::from(STREAMS) + 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn under_overload_a_stream_that_is_free_before_the_bound_is_taken_and_none_after_it() {
    within(async {
        let bound = GatewayLimits::default().overload_wait;
        // A timer of the runtime is exact to the millisecond: at the bound itself it is over.
        for (free, status) in
            [(bound.saturating_sub(MILLISECOND), 200), (bound, 503), (bound + MILLISECOND, 503)]
        {
            let full = Full::new().await;
            let mut held = full.hold(STREAMS).await;
            full.overload().await;
            let asked = ask(&full.gateway);
            sleep(free).await;
            answer(held.remove(0));
            let served = answer_all(full.rogue);
            assert_eq!(asked.await.unwrap().status(), status, "free after {free:?}");
            served.abort();
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_burst_that_is_over_in_its_time_loses_nobody() {
    within(async {
        let credit = GatewayLimits::default().link_credit;
        let full = Full::new().await;
        let held = full.hold(STREAMS).await;
        let (mut burst, pause) = (Vec::new(), Duration::from_millis(80));
        for _ in 0..50 {
            burst.extend((0..4).map(|_| ask(&full.gateway)));
            sleep(pause).await;
        }
        sleep(credit.saturating_sub(50 * pause + MILLISECOND)).await;
        assert_eq!(full.accepted(), u64::from(STREAMS), "all of them wait");
        held.into_iter().for_each(answer);
        let link = full.rogue.link.clone();
        answer_all(full.rogue);
        for served in burst {
            assert_eq!(served.await.unwrap().status(), StatusCode::OK);
        }
        assert_eq!(link.stats().mux.streams_accepted, u64::from(STREAMS) + 200);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn exchanges_that_hold_all_streams_into_one_site_take_no_time_from_requests_for_another() {
    within(async {
        let mut full = Full::new().await;
        full.house.settings.0 = "other".to_owned();
        full.house.endpoint.0.role_id = 8;
        full.house.endpoint.0.name = "other-mp".to_owned();
        let config = Config { accept_streams_max: 1, ..Config::default() };
        let other = full.house.rogue_connection_point(&full.gateway, config).await;
        let there = || ask_for(&full.gateway, "/CCM_Proxy_MutualAuth/8/SMS_MP/x".to_owned());

        let _held = full.hold(STREAMS).await;
        full.overload().await;
        let first = there();
        let held = other.link.accept().await.unwrap();
        let second = there();
        sleep(GatewayLimits::default().link_credit.saturating_sub(MILLISECOND)).await;
        assert!(!second.is_finished(), "it has the time of a burst");
        answer(held);
        answer(other.link.accept().await.unwrap());
        for served in [first, second] {
            assert_eq!(served.await.unwrap().status(), StatusCode::OK);
        }
    })
    .await;
}

/// Answers whatever comes, so long after it came.
async fn answer_each_after(time: Duration, link: Link) {
    while let Ok(incoming) = link.accept().await {
        tokio::spawn(async move {
            sleep(time).await;
            answer(incoming);
        });
    }
}

/// What became of one request of many.
struct Told {
    /// After the first of them.
    came: Duration,
    took: Duration,
    status: u16,
}

/// Has a request come every so often for `time`, however the others fare. Returns what became of
/// each, once it is known.
async fn open_loop(gateway: &Gateway, every: Duration, time: Duration) -> Vec<Told> {
    let begun = Instant::now();
    let mut asked = Vec::new();
    while begun.elapsed() < time {
        let gateway = gateway.clone();
        asked.push(tokio::spawn(async move {
            let came = Instant::now();
            let answer = ask(&gateway).await.unwrap();
            let status = answer.status().as_u16();
            Told { came: came - begun, took: came.elapsed(), status }
        }));
        sleep(every).await;
    }
    let mut told = Vec::new();
    for asked in asked {
        told.push(asked.await.unwrap());
    }
    told
}

/// The longest but one in a hundred.
fn p99(mut took: Vec<Duration>) -> Duration {
    took.sort_unstable();
    took[(took.len() * 99).div_ceil(100) - 1]
}

#[tokio::test(start_paused = true)]
async fn at_3_and_10_times_what_a_site_bears_those_served_are_served_soon_and_the_rest_told_soon() {
    /// Of each request at the site: so it bears one every 30 ms.
    const SERVICE: Duration = Duration::from_millis(120);
    const LOAD: Duration = Duration::from_secs(10);
    let limits = GatewayLimits::default();
    for (times, every) in [(3, 10 * MILLISECOND), (10, 3 * MILLISECOND)] {
        within(async {
            let full = Full::new().await;
            let site = tokio::spawn(answer_each_after(SERVICE, full.rogue.link.clone()));
            let told = open_loop(&full.gateway, every, LOAD).await;
            let (served, refused): (Vec<_>, Vec<_>) = told.iter().partition(|it| it.status == 200);
            assert!(refused.iter().all(|it| it.status == 503), "{times} times");
            // The site is never idle: one in 30 ms, in 10 s and while the last are served.
            let bears = usize::try_from(LOAD.as_millis() / 30).unwrap();
            assert!((bears * 9 / 10..=bears + 8).contains(&served.len()), "{}", served.len());
            let slowest = p99(served.iter().map(|it| it.took).collect());
            assert!(slowest <= 3 * SERVICE, "{times} times: 99 of 100 served in {slowest:?}");
            // Until then it may be a burst that everybody can wait for.
            let late = refused.iter().filter(|it| it.came >= limits.link_credit);
            let late = late.map(|it| it.took).max().unwrap();
            assert!(late <= limits.overload_wait + MILLISECOND, "{times} times: told in {late:?}");

            // Calm again, at half of what the site bears.
            sleep(limits.link_credit).await;
            let calm = open_loop(&full.gateway, 60 * MILLISECOND, LOAD).await;
            assert!(calm.iter().all(|it| (it.status, it.took) == (200, SERVICE)), "{times} times");
            site.abort();
        })
        .await;
    }
}
