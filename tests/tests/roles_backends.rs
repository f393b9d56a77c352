//! Several backends of one endpoint, and the limits towards each: on a network in memory, in paused
//! time.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use relay_core::connection_point::{
    BackendCheck, BackendConfig, BackendState, BackendStatus, ConnectionPoint,
};
use relay_core::gateway::Gateway;
use relay_core::transport::Network;
use relay_core::transport::memory::{Dials, MemoryNetwork, MemoryStream};
use relay_tests::client::{Answer, Client, Http, bare, with_body};
use relay_tests::logs::Logs;
use relay_tests::roles::{House, Joined, join, target, within};
use relay_tests::site::full;
use tokio::io::AsyncReadExt as _;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};

const PORT: u16 = 80;
const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

/// A site role in memory; it is gone when dropped.
struct Role {
    /// Requests that came whole.
    requests: Arc<AtomicUsize>,
    /// Connections that came.
    connections: Arc<AtomicUsize>,
    /// The status of answers.
    status: Arc<AtomicU16>,
    task: JoinHandle<()>,
}

impl Drop for Role {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Role {
    /// One that reads requests whole and answers with its name, each after `think`.
    fn start(network: &MemoryNetwork, name: &'static str, think: Duration) -> Self {
        let (requests, status) = (Arc::<AtomicUsize>::default(), Arc::new(AtomicU16::new(200)));
        let (count, answer) = (Arc::clone(&requests), Arc::clone(&status));
        let serve = move |stream: MemoryStream| {
            let (count, answer) = (Arc::clone(&count), Arc::clone(&answer));
            let service = service_fn(move |request: Request<Incoming>| {
                let (count, answer) = (Arc::clone(&count), Arc::clone(&answer));
                async move {
                    // An error is a client that has gone.
                    let is_whole = request.into_body().collect().await.is_ok();
                    count.fetch_add(is_whole.into(), Ordering::Relaxed);
                    sleep(think).await;
                    let status = answer.load(Ordering::Relaxed);
                    let answer = Response::builder().status(status).body(full(name));
                    Ok::<_, Infallible>(answer.unwrap())
                }
            });
            async move {
                let server = hyper::server::conn::http1::Builder::new();
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            }
        };
        Self::serving(network, name, (requests, status), serve)
    }

    /// One that reads what there is of a request, and breaks off.
    fn breaking_off(network: &MemoryNetwork, name: &'static str) -> Self {
        let counters = (Arc::<AtomicUsize>::default(), Arc::default());
        Self::serving(network, name, counters, |mut stream: MemoryStream| async move {
            let _ = stream.read(&mut [0; 4096]).await;
        })
    }

    fn serving<S, F>(
        network: &MemoryNetwork,
        name: &str,
        (requests, status): (Arc<AtomicUsize>, Arc<AtomicU16>),
        serve: S,
    ) -> Self
    where
        S: Fn(MemoryStream) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = network.host(name).bind(PORT).unwrap();
        let connections = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            let mut tasks = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await;
                count.fetch_add(1, Ordering::Relaxed);
                tasks.spawn(serve(stream));
            }
        });
        Self { requests, connections, status, task }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// A relay before backends in memory.
struct Bed {
    house: House,
    gateway: Gateway,
    point: ConnectionPoint,
    _link: Joined,
}

impl Bed {
    /// With backends called `names`, after `change`.
    async fn new(
        network: &MemoryNetwork,
        names: &[&str],
        change: impl FnOnce(&mut BackendConfig),
    ) -> Self {
        let mut urls = names.iter().map(|name| format!("http://{name}").parse().unwrap());
        let mut backend = BackendConfig::new(urls.next().unwrap(), None);
        backend.urls.extend(urls);
        change(&mut backend);
        let mut house = House::before(([127, 0, 0, 1], 0).into());
        house.backend = Some(backend);
        house.network = Network::Memory(network.host("site"));
        let gateway = house.gateway(1);
        let point = house.connection_point(Vec::new());
        let link = join(&gateway, &point).await;
        Self { house, gateway, point, _link: link }
    }

    async fn client(&self) -> Client {
        Client::join(&self.gateway, &self.house.ca, Http::One).await
    }

    /// Asks once, and tells how long that took.
    async fn ask(&self, verb: &str) -> (Answer, Duration) {
        let request = match verb {
            "GET" => bare(verb, &target("/SMS_MP/x")),
            _ => with_body(verb, &target("/SMS_MP/x"), full("what is to be sent once")),
        };
        let mut client = self.client().await;
        let before = Instant::now();
        (client.ask(request).await, before.elapsed())
    }

    /// Asks `count` times at once; statuses and reasons, in order of status.
    async fn ask_at_once(&self, count: usize) -> Vec<(u16, Option<String>)> {
        let mut asking = JoinSet::new();
        for _ in 0..count {
            let mut client = self.client().await;
            asking.spawn(async move { client.ask(bare("GET", &target("/SMS_MP/x"))).await });
        }
        let answers = asking.join_all().await;
        let told = |answer: Answer| (answer.status(), answer.reason().map(str::to_owned));
        let mut all: Vec<_> = answers.into_iter().map(told).collect();
        all.sort();
        all
    }

    /// What is known of the backend at `name`.
    fn status(&self, name: &str) -> BackendStatus {
        let all = self.point.status().backends;
        all.into_iter().find(|it| it.url.host() == Some(name)).unwrap()
    }
}

fn network() -> MemoryNetwork {
    MemoryNetwork::new(1)
}

#[tokio::test(start_paused = true)]
async fn requests_are_spread_over_the_backends_and_go_on_where_one_takes_no_connection() {
    let logs = Logs::capture();
    within(async {
        let network = network();
        let b = Role::start(&network, "b", Duration::ZERO);
        let bed = Bed::new(&network, &["a", "b"], |_| ()).await;
        for verb in ["GET", "CCM_POST"].into_iter().cycle().take(12) {
            let (answer, _) = bed.ask(verb).await;
            assert_eq!((answer.status(), &*answer.body), (200, &b"b"[..]), "{verb}");
        }
        assert_eq!(b.requests(), 12, "each once");
        let a = bed.status("a");
        assert_eq!((a.state, a.endpoint.as_str()), (BackendState::Resting, "mp"));
        assert!(a.why.as_ref().unwrap().contains("refused") && a.until.is_some(), "{a:?}");
        let left_alone = "fails again and again and is left alone for a while";
        assert_eq!(logs.with(&[left_alone, "http://a/"]).len(), 1);
        assert_eq!(bed.status("b").state, BackendState::Up);

        let a = Role::start(&network, "a", Duration::ZERO);
        bed.ask("GET").await;
        assert_eq!(a.connections(), 0, "it rests still");
        sleep(5 * S).await;
        for _ in 0..8 {
            assert_eq!(bed.ask("GET").await.0.status(), 200);
        }
        assert_eq!((a.requests(), b.requests()), (4, 17));
        assert_eq!(logs.with(&["the backend answers again", "http://a/"]).len(), 1);
        assert_eq!(bed.status("a").why, None);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn where_no_backend_takes_a_connection_one_is_tried_all_the_same() {
    within(async {
        let network = network();
        let bed = Bed::new(&network, &["a", "b"], |_| ()).await;
        for _ in 0..8 {
            let (answer, _) = bed.ask("GET").await;
            let told = (answer.status(), answer.reason());
            assert_eq!(told, (502, Some("CMGConnector_Backend_Unreachable")));
        }
        for name in ["a", "b"] {
            assert_eq!(bed.status(name).state, BackendState::Resting);
        }
        let _b = Role::start(&network, "b", Duration::ZERO);
        let _a = Role::start(&network, "a", Duration::ZERO);
        assert_eq!(bed.ask("GET").await.0.status(), 200, "before any rest is over");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_is_back_is_asked_whatever_is_known_of_it_once_all_others_fail() {
    for back in ["a", "b"] {
        within(async {
            let network = network();
            let bed = Bed::new(&network, &["a", "b"], |_| ()).await;
            for _ in 0..8 {
                assert_eq!(bed.ask("GET").await.0.status(), 502);
            }
            let role = Role::start(&network, back, Duration::ZERO);
            for _ in 0..8 {
                assert_eq!(bed.ask("GET").await.0.status(), 200, "{back}");
            }
            assert_eq!(role.requests(), 8);
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_of_which_something_was_sent_goes_to_no_other_backend() {
    within(async {
        let network = network();
        let a = Role::breaking_off(&network, "a");
        let b = Role::start(&network, "b", Duration::ZERO);
        let bed = Bed::new(&network, &["a", "b"], |_| ()).await;
        for (verb, each) in [("CCM_POST", 5), ("GET", 10)] {
            let mut statuses = Vec::new();
            for _ in 0..10 {
                statuses.push(bed.ask(verb).await.0.status());
            }
            let count = |status| statuses.iter().filter(|it| **it == status).count();
            assert_eq!((count(200), count(502)), (5, 5), "{verb}: {statuses:?}");
            assert_eq!((a.connections(), b.requests()), (each, each), "{verb}: each once");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_does_not_answer_in_the_endpoints_own_time_is_504_and_rests() {
    within(async {
        for (think, status) in [(1980 * MS, 200), (3 * S, 504)] {
            let network = network();
            let _a = Role::start(&network, "a", think);
            let _b = Role::start(&network, "b", Duration::ZERO);
            let bed =
                Bed::new(&network, &["a", "b"], |backend| backend.limits.answer = Some(2 * S))
                    .await;
            let mut answers = Vec::new();
            for _ in 0..12 {
                answers.push(bed.ask("GET").await);
            }
            let slow = answers.iter().filter(|(_, took)| *took > S);
            let slow: Vec<_> =
                slow.map(|(answer, took)| (answer.status(), *took < 2020 * MS)).collect();
            // One that times out rests after the third.
            let count = if status == 504 { 3 } else { 6 };
            assert_eq!(slow, vec![(status, true); count]);
            let state = if status == 504 { BackendState::Resting } else { BackendState::Up };
            assert_eq!(bed.status("a").state, state);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_is_not_connected_to_in_the_endpoints_own_time_is_given_up() {
    within(async {
        let network = network();
        let b = Role::start(&network, "b", Duration::ZERO);
        network.partition("site", "a", Dials::Silent);
        let alone =
            Bed::new(&network, &["a"], |backend| backend.limits.connect = Some(2 * S)).await;
        let (answer, took) = alone.ask("GET").await;
        let told = (answer.status(), answer.reason());
        assert_eq!(told, (502, Some("CMGConnector_Backend_Unreachable")));
        assert!((2 * S..2 * S + 20 * MS).contains(&took), "{took:?}");

        let names = ["a", "b"];
        let bed = Bed::new(&network, &names, |backend| backend.limits.connect = Some(2 * S)).await;
        let (mut late, mut at_once) = (0, 0);
        for _ in 0..8 {
            let (answer, took) = bed.ask("CCM_POST").await;
            assert_eq!(answer.status(), 200);
            *if took < 2 * S { &mut at_once } else { &mut late } += 1;
        }
        assert_eq!((late, at_once, b.requests()), (3, 5, 8), "until the backend rests");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn no_more_connections_are_open_than_may_and_who_waits_too_long_is_told_to_come_again() {
    within(async {
        let busy = || (503, Some("CMGConnector_Backend_Busy".to_owned()));
        // Each takes a second; the limit of waiting lies on either side of one, or two.
        for (wait, refused) in [(980 * MS, 3), (1050 * MS, 1), (2090 * MS, 0)] {
            let network = network();
            let a = Role::start(&network, "a", S);
            let bed = Bed::new(&network, &["a"], |backend| {
                backend.limits.connections_max = Some(2);
                backend.limits.wait = Some(wait);
            })
            .await;
            let told = bed.ask_at_once(5).await;
            assert_eq!(told[5 - refused..], vec![busy(); refused], "waiting for {wait:?}");
            assert!(told[..5 - refused].iter().all(|it| *it == (200, None)), "{told:?}");
            assert_eq!((a.requests(), a.connections()), (5 - refused, 2), "{wait:?}");
            let status = bed.status("a");
            assert_eq!((status.in_flight, status.waiting, status.connections), (0, 0, 2));
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_comes_when_the_line_is_full_is_told_so_at_once() {
    within(async {
        for (wait_max, refused) in [(0, 3), (2, 1), (3, 0)] {
            let network = network();
            let _a = Role::start(&network, "a", S);
            let bed = Bed::new(&network, &["a"], |backend| {
                backend.limits.connections_max = Some(1);
                backend.limits.wait_max = Some(wait_max);
            })
            .await;
            let told = bed.ask_at_once(4).await;
            assert_eq!(told.iter().filter(|it| it.0 == 503).count(), refused, "{wait_max}");
        }
        let network = network();
        let _a = Role::start(&network, "a", 30 * S);
        let bed = Bed::new(&network, &["a"], |backend| {
            backend.limits.connections_max = Some(1);
            backend.limits.wait_max = Some(0);
        })
        .await;
        let mut first = bed.client().await;
        let request = bare("GET", &target("/SMS_MP/x"));
        let _held = tokio::spawn(async move { first.ask(request).await });
        sleep(S).await;
        let (answer, took) = bed.ask("GET").await;
        assert_eq!(answer.parts.headers["retry-after"], "1");
        assert!(took < 50 * MS, "{took:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn idle_connections_are_kept_as_many_and_as_long_as_the_endpoint_says() {
    within(async {
        let network = network();
        let a = Role::start(&network, "a", 100 * MS);
        let bed = Bed::new(&network, &["a"], |backend| {
            backend.limits.idle_max = Some(2);
            backend.limits.idle = Some(10 * S);
        })
        .await;
        bed.ask_at_once(4).await;
        sleep(S).await;
        assert_eq!((a.connections(), bed.status("a").connections), (4, 2));
        for (pause, connections) in [(9 * S, 4), (9 * S, 4), (11 * S, 5)] {
            sleep(pause).await;
            bed.ask("GET").await;
            assert_eq!(a.connections(), connections, "after {pause:?}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_backend_whose_checks_fail_is_left_alone_until_one_passes() {
    let logs = Logs::capture();
    within(async {
        let network = network();
        let a = Role::start(&network, "a", Duration::ZERO);
        let b = Role::start(&network, "b", Duration::ZERO);
        let bed = Bed::new(&network, &["a", "b"], |backend| {
            backend.check = Some(BackendCheck::new("/SMS_MP/.sms_aut?MPLIST".parse().unwrap()));
        })
        .await;
        let running = tokio::spawn(bed.point.clone().run(std::future::pending()));
        sleep(5 * S).await;
        assert_eq!((a.requests(), b.requests()), (1, 1), "at once, and then each ten seconds");
        a.status.store(500, Ordering::Relaxed);
        sleep(10 * S).await;
        assert_eq!(bed.status("a").state, BackendState::Up, "one is no news");
        sleep(10 * S).await;
        assert_eq!(bed.status("a").state, BackendState::CheckFails);
        let why = "GET /SMS_MP/.sms_aut?MPLIST: status 500, not 200";
        assert_eq!(bed.status("a").why.as_deref(), Some(why));
        assert_eq!(logs.with(&["checks of the backend fail", "http://a/", why]).len(), 1);
        for _ in 0..6 {
            assert_eq!(bed.ask("GET").await.0.body, "b");
        }
        a.status.store(200, Ordering::Relaxed);
        sleep(10 * S).await;
        assert_eq!(bed.status("a").state, BackendState::Up);
        assert_eq!(logs.with(&["a check of the backend passes again", "http://a/"]).len(), 1);
        let mut who = Vec::new();
        for _ in 0..6 {
            who.push(bed.ask("GET").await.0.body);
        }
        assert_eq!(who.iter().filter(|name| **name == "a").count(), 3, "{who:?}");
        running.abort();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_backend_is_not_asked_anything_unless_that_is_configured() {
    within(async {
        let network = network();
        let a = Role::start(&network, "a", Duration::ZERO);
        let bed = Bed::new(&network, &["a"], |_| ()).await;
        let running = tokio::spawn(bed.point.clone().run(std::future::pending()));
        sleep(60 * S).await;
        assert_eq!(a.connections(), 0);
        running.abort();
    })
    .await;
}
