//! The gateway on an in-memory network: which connection point is asked, and what is learnt of it.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use relay_core::balance::{LinkView, LoadBalancer, Notice, Outcome};
use relay_core::exchange::{AbortCode, AnswerHead, HeadLimits, Origin};
use relay_core::gateway::{AnswerBody, Balance, Gateway};
use relay_core::link::Incoming;
use relay_core::mux::{Config, HeadKind, StreamCode};
use relay_tests::logs::Logs;
use relay_tests::roles::{House, Rogue, target, until, within};
use tokio::task::JoinHandle;

/// What a connection point does with a request.
#[derive(Clone, Copy, Debug)]
enum Manner {
    /// Relays an answer of the site, whole.
    Answers,
    /// Relays an answer that does not end.
    Begins,
    /// Answers itself, with this status and reason.
    Says(StatusCode, &'static str),
    /// Gives the stream up, with this code.
    Resets(AbortCode),
    /// Holds it.
    Holds,
    /// Loses the link.
    Loses,
}

const BACKEND_DOWN: Manner =
    Manner::Says(StatusCode::BAD_GATEWAY, "CMGConnector_Backend_Unreachable");

/// A connection point of one link that minds its manner.
struct Member {
    asked: Arc<AtomicUsize>,
    manner: Arc<Mutex<Manner>>,
}

impl Member {
    async fn join(house: &House, gateway: &Gateway, name: &str, manner: Manner) -> Self {
        let config = Config { name: name.to_owned(), ..Config::default() };
        let rogue = house.rogue_connection_point(gateway, config).await;
        let member = Self { asked: Arc::default(), manner: Arc::new(Mutex::new(manner)) };
        let (asked, manner) = (Arc::clone(&member.asked), Arc::clone(&member.manner));
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok(incoming) = rogue.link.accept().await {
                asked.fetch_add(1, Ordering::Relaxed);
                let manner = *manner.lock().unwrap();
                held.extend(serve(&rogue, incoming, manner));
            }
        });
        member
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    fn behaves(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }
}

/// Deals with a request; returns what is left open.
fn serve(rogue: &Rogue, mut incoming: Incoming, manner: Manner) -> Option<Incoming> {
    let mut answer = |status, reason: Option<&'static str>, kind| {
        let origin = if reason.is_some() { Origin::ConnectionPoint } else { Origin::Site };
        let reason = reason.map(Bytes::from);
        let head = AnswerHead { status, reason, headers: HeaderMap::new(), origin };
        let block = head.encode(&HeadLimits::default()).unwrap();
        incoming.send.send_head(block, kind).unwrap();
    };
    match manner {
        Manner::Answers => answer(StatusCode::OK, None, HeadKind::FinalAndEnd),
        Manner::Begins => answer(StatusCode::OK, None, HeadKind::Final),
        Manner::Says(status, reason) => answer(status, Some(reason), HeadKind::FinalAndEnd),
        Manner::Resets(code) => incoming.send.reset(StreamCode(code.to_wire())),
        Manner::Loses => rogue.lose(),
        Manner::Holds => {}
    }
    matches!(manner, Manner::Begins | Manner::Holds).then_some(incoming)
}

fn house(balance: Balance) -> House {
    let mut house = House::before(([127, 0, 0, 1], 9).into());
    house.balance = balance;
    house
}

async fn ask(gateway: &Gateway) -> Response<AnswerBody<Empty<Bytes>>> {
    let request = Request::get(target("/SMS_MP/x")).body(Empty::new()).unwrap();
    gateway.handle(request).await
}

/// Asks once, while the test goes on.
fn asking(gateway: &Gateway) -> JoinHandle<StatusCode> {
    let gateway = gateway.clone();
    tokio::spawn(async move { ask(&gateway).await.status() })
}

/// Asks `times`, one after the other, and reads each answer to its end.
async fn ask_on(gateway: &Gateway, times: usize) {
    for _ in 0..times {
        let answer = ask(gateway).await;
        assert_eq!(answer.status(), StatusCode::OK);
        answer.into_body().collect().await.unwrap();
    }
}

/// How often each was asked since the last time.
fn asked<const N: usize>(members: [&Member; N]) -> [usize; N] {
    members.map(|member| member.asked.swap(0, Ordering::Relaxed))
}

#[tokio::test(start_paused = true)]
async fn connection_points_are_asked_equally_however_many_links_each_has() {
    within(async {
        let house = house(Balance::default());
        let gateway = house.gateway(1);
        let join = |name| Member::join(&house, &gateway, name, Manner::Answers);
        let [a, b, c] = [join("a").await, join("b").await, join("c").await];
        ask_on(&gateway, 30).await;
        assert_eq!(asked([&a, &b, &c]), [10, 10, 10]);
        let second = join("a").await;
        ask_on(&gateway, 60).await;
        assert_eq!(asked([&a, &second, &b, &c]), [10, 10, 20, 20]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn one_that_refuses_everything_sits_out_after_five_and_comes_back() {
    within(async {
        for balance in [Balance::RoundRobin, Balance::LeastInFlight] {
            let house = house(balance);
            let gateway = house.gateway(1);
            let bad = Manner::Resets(AbortCode::Refused);
            let bad = Member::join(&house, &gateway, "bad", bad).await;
            let one = Member::join(&house, &gateway, "one", Manner::Answers).await;
            let two = Member::join(&house, &gateway, "two", Manner::Answers).await;
            // Each refusal is sent again, so that no client notices.
            ask_on(&gateway, 60).await;
            let [refused, others @ ..] = asked([&bad, &one, &two]);
            assert_eq!((refused, others.iter().sum()), (5, 60));
            bad.behaves(Manner::Answers);
            tokio::time::advance(Duration::from_secs(29)).await;
            ask_on(&gateway, 30).await;
            assert_eq!(asked([&bad, &one, &two]), [0, 15, 15]);
            tokio::time::advance(Duration::from_secs(1)).await;
            ask_on(&gateway, 30).await;
            assert_eq!(asked([&bad, &one, &two]), [10, 10, 10]);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn that_one_sits_out_and_that_it_is_back_is_logged_once_with_its_name() {
    within(async {
        let logs = Logs::capture();
        let house = house(Balance::RoundRobin);
        let gateway = house.gateway(1);
        let bad = Manner::Resets(AbortCode::Refused);
        let bad = Member::join(&house, &gateway, "bad", bad).await;
        let _one = Member::join(&house, &gateway, "one", Manner::Answers).await;
        ask_on(&gateway, 30).await;
        let out = [r#""level":"WARN""#, "connection point sits out", r#""connection_point":"bad""#];
        assert_eq!(logs.with(&out).len(), 1);
        assert_eq!(logs.with(&["sits out", r#""failures":5"#, r#""time":"30s""#]).len(), 1);
        assert_eq!(logs.with(&["connection point is back"]), Vec::<String>::new());
        bad.behaves(Manner::Answers);
        tokio::time::advance(Duration::from_secs(30)).await;
        ask_on(&gateway, 30).await;
        let back = [r#""level":"INFO""#, "connection point is back", r#""connection_point":"bad""#];
        assert_eq!(logs.with(&back).len(), 1);
        assert_eq!(logs.with(&["connection point is back", r#""ejections":1"#]).len(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn one_that_loses_every_link_sits_out_after_five_although_each_is_new() {
    within(async {
        let house = house(Balance::RoundRobin);
        let gateway = house.gateway(1);
        let one = Member::join(&house, &gateway, "one", Manner::Answers).await;
        let two = Member::join(&house, &gateway, "two", Manner::Answers).await;
        for _ in 0..5 {
            let bad = Member::join(&house, &gateway, "bad", Manner::Loses).await;
            while bad.asked() == 0 {
                ask_on(&gateway, 1).await;
            }
            until(|| gateway.links() == 2).await;
        }
        asked([&one, &two]);
        let bad = Member::join(&house, &gateway, "bad", Manner::Loses).await;
        ask_on(&gateway, 30).await;
        assert_eq!(asked([&bad, &one, &two]), [0, 15, 15]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_is_down_for_all_leaves_at_least_half_to_ask() {
    within(async {
        let house = house(Balance::RoundRobin);
        let gateway = house.gateway(1);
        let join = |name| Member::join(&house, &gateway, name, BACKEND_DOWN);
        let [a, b, c] = [join("a").await, join("b").await, join("c").await];
        for _ in 0..60 {
            assert_eq!(ask(&gateway).await.status(), StatusCode::BAD_GATEWAY);
        }
        let mut shares = asked([&a, &b, &c]);
        shares.sort_unstable();
        assert_eq!(shares[0], 5, "one sits out: {shares:?}");
        assert!(shares[1] >= 20, "two do not: {shares:?}");
        for member in [&a, &b, &c] {
            member.behaves(Manner::Answers);
        }
        ask_on(&gateway, 30).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_least_busy_is_asked_until_the_last_octet_of_an_answer() {
    within(async {
        let house = house(Balance::LeastInFlight);
        let gateway = house.gateway(1);
        let busy = Member::join(&house, &gateway, "busy", Manner::Begins).await;
        // Idle, so that the first request is its own.
        let answer = ask(&gateway).await;
        assert_eq!((answer.status(), busy.asked()), (StatusCode::OK, 1));
        let one = Member::join(&house, &gateway, "one", Manner::Answers).await;
        let two = Member::join(&house, &gateway, "two", Manner::Answers).await;
        busy.behaves(Manner::Answers);
        asked([&busy]);
        ask_on(&gateway, 30).await;
        assert_eq!(busy.asked(), 0, "its answer is still under way");
        drop(answer);
        asked([&one, &two]);
        ask_on(&gateway, 30).await;
        assert_eq!(asked([&busy, &one, &two]), [10, 10, 10]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_least_busy_is_asked_while_another_holds_requests() {
    within(async {
        let house = house(Balance::LeastInFlight);
        let gateway = house.gateway(1);
        let busy = Member::join(&house, &gateway, "busy", Manner::Holds).await;
        let waiting = asking(&gateway);
        until(|| busy.asked() == 1).await;
        let _one = Member::join(&house, &gateway, "one", Manner::Answers).await;
        ask_on(&gateway, 30).await;
        assert_eq!(busy.asked(), 1);
        waiting.abort();
        until(|| gateway.in_flight() == 0).await;
        busy.behaves(Manner::Answers);
        ask_on(&gateway, 30).await;
        assert_eq!(busy.asked(), 16, "the client went away, and with it the load");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_at_once_does_not_draw_requests_by_its_speed() {
    within(async {
        let house = house(Balance::PeakEwma);
        let gateway = house.gateway(1);
        let failing = Member::join(&house, &gateway, "failing", BACKEND_DOWN).await;
        let sound = Member::join(&house, &gateway, "sound", Manner::Answers).await;
        for _ in 0..30 {
            let _ = ask(&gateway).await;
        }
        assert_eq!(asked([&failing, &sound]), [1, 29], "its first chance and no more");
    })
    .await;
}

/// A balancer that takes links in the order in which they came up, and writes down what it is told.
#[derive(Debug, Default)]
struct Recorder {
    outcomes: Mutex<Vec<Outcome>>,
    forgot: AtomicBool,
}

impl LoadBalancer for Recorder {
    fn order(&self, links: &mut [LinkView], _now: Instant, _draw: u64) -> usize {
        links.sort_by_key(|link| link.id);
        links.len()
    }

    fn observe(&self, _link: &LinkView, outcome: Outcome, _now: Instant) -> Option<Notice> {
        self.outcomes.lock().unwrap().push(outcome);
        None
    }

    fn forget(&self, _link: u64) {
        self.forgot.store(true, Ordering::Relaxed);
    }
}

/// A balancer that offers links from the so-manieth call on, and before that none, or what is not
/// there.
#[derive(Debug)]
struct Reluctant {
    calls: AtomicUsize,
    offers_from: usize,
    makes_up: bool,
}

impl LoadBalancer for Reluctant {
    fn order(&self, links: &mut [LinkView], _now: Instant, _draw: u64) -> usize {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        if call >= self.offers_from {
            return links.len();
        }
        links.fill(LinkView::new(u64::MAX, u64::MAX, 0));
        if self.makes_up { links.len() } else { 0 }
    }
}

#[tokio::test(start_paused = true)]
async fn a_balancer_that_offers_none_of_the_links_has_requests_wait_and_is_asked_again() {
    const EACH: Duration = Duration::from_millis(50);
    let credit = House::before(([127, 0, 0, 1], 1).into()).gateway_limits.link_credit;
    let no_link = StatusCode::SERVICE_UNAVAILABLE;
    for makes_up in [false, true] {
        for (offers_from, expected) in [
            (1, (StatusCode::OK, EACH)),
            (20, (StatusCode::OK, 20 * EACH)),
            (usize::MAX, (no_link, credit)),
        ] {
            within(async {
                let calls = AtomicUsize::new(0);
                let balancer = Arc::new(Reluctant { calls, offers_from, makes_up });
                let house = house(Balance::Custom(Arc::clone(&balancer) as _));
                let gateway = house.gateway(1);
                let _member = Member::join(&house, &gateway, "a", Manner::Answers).await;
                let before = tokio::time::Instant::now();
                let status = ask(&gateway).await.status();
                let waited = before.elapsed().as_millis() / EACH.as_millis() * EACH.as_millis();
                assert_eq!((status, waited), (expected.0, expected.1.as_millis()));
                let calls = balancer.calls.load(Ordering::Relaxed);
                assert!(calls <= 102, "asked {calls} times");
            })
            .await;
        }
    }
}

/// What a balancer is told of a request to a connection point of such a manner.
async fn told(manner: Manner) -> Vec<Outcome> {
    let recorder = Arc::new(Recorder::default());
    let house = house(Balance::Custom(Arc::clone(&recorder) as _));
    let gateway = house.gateway(1);
    let _member = Member::join(&house, &gateway, "a", manner).await;
    drop(ask(&gateway).await);
    until(|| gateway.in_flight() == 0).await;
    let told = std::mem::take(&mut *recorder.outcomes.lock().unwrap());
    assert!(matches!(manner, Manner::Loses) || !recorder.forgot.load(Ordering::Relaxed));
    told
}

#[tokio::test(start_paused = true)]
async fn each_attempt_is_told_once_and_only_what_another_could_do_better_is_a_failure() {
    let answered = Outcome::Answered { latency: Some(Duration::ZERO) };
    let says = |status: StatusCode, reason| Manner::Says(status, reason);
    let cases = [
        (Manner::Answers, answered),
        (Manner::Begins, answered),
        (Manner::Holds, Outcome::Failed),
        (Manner::Loses, Outcome::Lost),
        (BACKEND_DOWN, Outcome::Failed),
        (
            says(StatusCode::INTERNAL_SERVER_ERROR, "CMGConnector_InternalServerError"),
            Outcome::Failed,
        ),
        (says(StatusCode::BAD_GATEWAY, "CMGConnector_Bad_Gateway"), Outcome::Inconclusive),
        (says(StatusCode::GATEWAY_TIMEOUT, "CMGConnector_Timeout"), Outcome::Inconclusive),
        (says(StatusCode::NOT_FOUND, "CMGConnector_Not_Published"), Outcome::Inconclusive),
        (Manner::Resets(AbortCode::Internal), Outcome::Failed),
        (Manner::Resets(AbortCode::BadHead), Outcome::Failed),
        (Manner::Resets(AbortCode::BackendFailed), Outcome::Inconclusive),
        (Manner::Resets(AbortCode::BackendTimeout), Outcome::Inconclusive),
        (Manner::Resets(AbortCode::Draining), Outcome::Inconclusive),
    ];
    for (manner, expected) in cases {
        assert_eq!(within(told(manner)).await, [expected], "{manner:?}");
    }
    // Sent again four times: five attempts.
    let refused = within(told(Manner::Resets(AbortCode::Refused))).await;
    assert_eq!(refused, [Outcome::Refused; 5]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_tells_nothing_of_the_link() {
    within(async {
        let recorder = Arc::new(Recorder::default());
        let house = house(Balance::Custom(Arc::clone(&recorder) as _));
        let gateway = house.gateway(1);
        let member = Member::join(&house, &gateway, "a", Manner::Holds).await;
        let asking = asking(&gateway);
        until(|| member.asked() == 1).await;
        assert_eq!(*recorder.outcomes.lock().unwrap(), []);
        asking.abort();
        until(|| gateway.in_flight() == 0).await;
        assert!(asking.await.is_err());
        assert_eq!(*recorder.outcomes.lock().unwrap(), [Outcome::Inconclusive]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_time_another_link_used_up_is_not_held_against_the_next() {
    within(async {
        let recorder = Arc::new(Recorder::default());
        let house = house(Balance::Custom(Arc::clone(&recorder) as _));
        let gateway = house.gateway(1);
        let _lost = Member::join(&house, &gateway, "a", Manner::Loses).await;
        let _next = Member::join(&house, &gateway, "b", Manner::Holds).await;
        assert_eq!(ask(&gateway).await.status(), StatusCode::GATEWAY_TIMEOUT);
        let told = recorder.outcomes.lock().unwrap();
        assert_eq!(*told, [Outcome::Lost, Outcome::Inconclusive]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_a_link_refuses_because_it_drains_is_not_held_against_it() {
    within(async {
        let recorder = Arc::new(Recorder::default());
        let house = house(Balance::Custom(Arc::clone(&recorder) as _));
        let gateway = house.gateway(1);
        let rogue = house.rogue_connection_point(&gateway, Config::default()).await;
        let asking = asking(&gateway);
        let mut incoming = rogue.link.accept().await.unwrap();
        let link = rogue.link.clone();
        tokio::spawn(async move { link.drain(Duration::from_secs(10)).await });
        // The first PING of this link is the one behind the GOAWAY: the gateway has heard of it.
        until(|| rogue.link.stats().round_trip.is_some()).await;
        incoming.send.reset(StreamCode::REFUSED);
        assert_eq!(asking.await.unwrap(), StatusCode::SERVICE_UNAVAILABLE);
        let told = recorder.outcomes.lock().unwrap();
        assert_eq!(*told, [Outcome::Inconclusive]);
    })
    .await;
}
