//! Debian's slowhttptest against both roles, while a client that means well asks all along.
//!
//! The short test tells by the access log why the gateway let go of each attacker. The long one has
//! the defaults and prints what the client saw, with and without each attack:
//! `cargo test -p relay-tests --test slow_clients -- --ignored --nocapture`
//!
//! Elsewhere no test looks at the clock on the wall. Here both do, for what they are about is that
//! nobody waits behind the slow: a slow client is held for 2 s at least, so a request that had to
//! wait for even one of them to be let go of would take as long, however fast the machine.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use relay_tests::client::{Http, bare};
use relay_tests::logs::Logs;
use relay_tests::roles::{House, target, until, within};
use relay_tests::running::{Instance, Running, connection_point, is_installed};
use relay_tests::site::{Backend, full, octets};
use tokio::process::Command;

/// Octets of the answer that is read slowly: more than all buffers on its way hold.
const LARGE: usize = 16 << 20;

/// One of slowhttptest's modes.
struct Attack {
    name: &'static str,
    /// Behind `/SMS_MP/`.
    path: &'static str,
    arguments: &'static [&'static str],
    /// What the access log has of each attacker.
    logged: &'static [&'static str],
}

const ATTACKS: [Attack; 4] = [
    Attack {
        name: "slow headers",
        path: "small",
        arguments: &["-H", "-i", "1"],
        logged: &["\"status\":408", "CMGService_Too_Slow", "client too slow"],
    },
    Attack {
        name: "slow body",
        path: "small",
        arguments: &["-B", "-i", "1", "-x", "10", "-t", "CCM_POST"],
        logged: &["\"status\":408", "CMGService_Too_Slow", "client too slow"],
    },
    Attack {
        name: "slow read",
        path: "large",
        arguments: &["-X", "-w", "256", "-y", "512", "-n", "60", "-z", "16"],
        logged: &["\"status\":200", "client too slow"],
    },
    Attack {
        name: "ranges",
        path: "small",
        arguments: &["-R", "-t", "GET", "-a", "5", "-b", "3000"],
        logged: &["\"status\":431", "CMGService_Field_Too_Large", "refused here"],
    },
];

/// Both roles on loopback, before a backend.
struct Relay {
    house: House,
    instance: Instance,
    backend: Backend,
    _point: Running,
}

impl Relay {
    async fn start(change: impl FnOnce(&mut House)) -> Self {
        let large = octets(1, LARGE);
        let backend = Backend::start(move |request: Request<Incoming>| {
            let is_large = request.uri().path().ends_with("large");
            let octets = if is_large { large.clone() } else { large.slice(..1024) };
            async move {
                // A body that is cut has no answer that anybody waits for.
                let _ = request.into_body().collect().await;
                Response::new(full(octets))
            }
        })
        .await;
        let mut house = House::before(backend.address);
        // All of them have one address, and it is not by that that they are told apart here.
        house.gateway_limits.connections_per_address_max = 20_000;
        change(&mut house);
        let links = house.connection_point_limits.links_per_instance;
        let instance = Instance::start(&house, 1).await;
        let point = connection_point(&house, &[instance.links]);
        instance.until_links(links).await;
        Self { house, instance, backend, _point: point }
    }

    /// Has `attack` go on for `seconds` with so many connections, and returns how it ended.
    async fn suffer(&self, attack: &Attack, connections: u32, seconds: u32) -> ExitStatus {
        let path = target(&format!("/SMS_MP/{}", attack.path));
        Command::new("slowhttptest")
            .args(["-c", &connections.to_string(), "-r", &connections.to_string()])
            .args(["-l", &seconds.to_string(), "-v", "0"])
            .args(["-u", &format!("https://{}{path}", self.instance.clients)])
            .args(attack.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .status()
            .await
            .unwrap()
    }

    /// Connects and asks, again and again, for as long as `meanwhile` takes. Every request must be
    /// answered. Returns how long each took, the shortest first.
    async fn ask_during<T>(&self, meanwhile: impl Future<Output = T>) -> (Vec<Duration>, T) {
        let mut took = Vec::new();
        let mut meanwhile = std::pin::pin!(meanwhile);
        let outcome = loop {
            let one = async {
                let begun = Instant::now();
                let mut client = self.instance.client(&self.house, Http::One).await;
                let answer = client.ask(bare("GET", &target("/SMS_MP/small"))).await;
                assert_eq!((answer.status(), answer.body.len()), (200, 1024));
                begun.elapsed()
            };
            tokio::select! {
                biased;
                outcome = meanwhile.as_mut() => break outcome,
                one = one => took.push(one),
            }
        };
        took.sort_unstable();
        (took, outcome)
    }
}

#[tokio::test]
async fn slow_clients_are_let_go_of_for_their_slowness_and_no_other_request_fails() {
    if !is_installed("slowhttptest", "slowhttptest") {
        return;
    }
    let logs = Logs::capture();
    for attack in &ATTACKS {
        within(is_let_go_of(attack, &logs)).await;
    }
}

async fn is_let_go_of(attack: &Attack, logs: &Logs) {
    const ATTACKERS: u32 = 100;
    // It ends before that once all of its connections are closed.
    const SECONDS: u32 = 20;
    // As long as the slow are held at least.
    const SLOW: Duration = Duration::from_secs(2);
    // Its program asks by itself, too, to see whether anybody answers: one may be slow.
    const GONE: std::ops::RangeInclusive<usize> = 95..=ATTACKERS as usize + 1;
    let relay = Relay::start(|house| {
        // Who is slow in a handshake is no request, and not what is looked at here.
        house.gateway_limits.client_hello = Duration::from_mins(1);
        house.gateway_limits.tls_handshake = Duration::from_mins(1);
        house.gateway_limits.request_head = Duration::from_secs(3);
        house.gateway_limits.body_grace = Duration::from_secs(2);
        house.gateway_limits.answer_stall = Duration::from_secs(3);
    })
    .await;
    let before = logs.with(attack.logged).len();
    let (asked, ended) = relay.ask_during(relay.suffer(attack, ATTACKERS, SECONDS)).await;
    assert!(ended.success(), "{}: {ended}", attack.name);
    print(attack.name, &asked);
    let slowest = asked.last().unwrap();
    assert!(*slowest < SLOW, "{}: a client waited for {slowest:?}", attack.name);
    let gone = logs.with(attack.logged).len() - before;
    assert!(GONE.contains(&gone), "{}: {gone} of {ATTACKERS}", attack.name);
    until(|| relay.instance.gateway.in_flight() == 0).await;
    relay.backend.until_in_flight(0).await;
}

fn median(took: &[Duration]) -> Duration {
    took[took.len() / 2]
}

fn print(what: &str, took: &[Duration]) {
    let (count, median) = (took.len(), median(took));
    let (p99, slowest) = (took[(count * 99).div_ceil(100) - 1], took[count - 1]);
    println!("{what}: {count} requests, median {median:?}, p99 {p99:?}, slowest {slowest:?}");
}

#[ignore = "takes minutes: prints what a client sees of 1,000 attackers"]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_sees_of_1000_slow_ones() {
    const SECONDS: u32 = 45;
    let relay = Relay::start(|house| house.connection_point_limits.links_per_instance = 2).await;
    let pause = tokio::time::sleep(Duration::from_secs(10));
    let alone = relay.ask_during(pause).await.0;
    print("alone", &alone);
    for attack in &ATTACKS {
        let (took, ended) = relay.ask_during(relay.suffer(attack, 1000, SECONDS)).await;
        assert!(ended.success(), "{}: {ended}", attack.name);
        print(attack.name, &took);
        assert!(median(&took) < 2 * median(&alone), "{}", attack.name);
    }
}
