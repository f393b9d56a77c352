//! Debian's nghttp2 against both roles: a client of HTTP/2 that nobody here has written.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use relay_tests::roles::{House, counted, target, until, within};
use relay_tests::running::{Instance, Running, connection_point, is_installed};
use relay_tests::site::{Backend, full, octets};
use tokio::process::Command;

/// Debian's package of both programs.
const PACKAGE: &str = "nghttp2-client";

/// Octets of an upload.
const UPLOAD: usize = 100_000;

/// How long a request may wait for a stream.
const PATIENCE: Duration = Duration::from_mins(1);

/// Both roles on loopback, before a backend that answers with how many octets it got.
struct Relay {
    instance: Instance,
    backend: Backend,
    _point: Running,
}

impl Relay {
    async fn start() -> Self {
        let backend = Backend::start(|request: Request<Incoming>| async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            Response::new(full(body.len().to_string()))
        })
        .await;
        let mut house = House::before(backend.address);
        // On a machine with much else to do a thousand requests at once are an overload.
        house.gateway_limits.link_credit = PATIENCE;
        house.gateway_limits.overload_wait = PATIENCE;
        let links = house.connection_point_limits.links_per_instance;
        let instance = Instance::start(&house, 1).await;
        let point = connection_point(&house, &[instance.links]);
        instance.until_links(links).await;
        Self { instance, backend, _point: point }
    }

    async fn run(&self, program: &str, arguments: &[&str]) -> String {
        run(self.instance.clients, program, arguments).await
    }
}

/// Runs a program of nghttp2 against a path, and returns what it printed.
async fn run(clients: SocketAddr, program: &str, arguments: &[&str]) -> String {
    let url = format!("https://{clients}{}", target("/SMS_MP/x"));
    let ran = Command::new(program)
        .args(arguments)
        .arg(url)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let printed = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success(), "{printed}{}", String::from_utf8_lossy(&ran.stderr));
    printed
}

/// The figures of the line that begins with `name`: each stands before its word.
fn figures(printed: &str, name: &str) -> BTreeMap<String, u64> {
    let line = printed.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let figures = line.split(',').filter_map(|part| {
        let (figure, word) = part.trim().split_once(' ')?;
        Some((word.to_owned(), figure.parse().ok()?))
    });
    figures.collect()
}

#[tokio::test]
async fn every_request_of_h2load_is_answered_once() {
    const REQUESTS: u64 = 3000;
    if !is_installed("h2load", PACKAGE) {
        return;
    }
    within(async {
        let relay = Relay::start().await;
        let count = REQUESTS.to_string();
        // As many streams as a connection has, and more than it has: it waits for the others.
        for streams in ["1", "100", "150"] {
            let before = relay.backend.seen().len();
            let printed = relay.run("h2load", &["-n", &count, "-c", "10", "-m", streams]).await;
            let requests = figures(&printed, "requests: ");
            let counts = counted(relay.instance.gateway.status().counts);
            let answered = requests.get("succeeded");
            assert_eq!(answered, Some(&REQUESTS), "{streams}: {printed}\n{counts:?}");
            assert_eq!(figures(&printed, "status codes: ").get("2xx"), Some(&REQUESTS));
            assert_eq!(relay.backend.seen().len() - before, 3000, "each once");
        }
        until(|| relay.instance.gateway.in_flight() == 0).await;
    })
    .await;
}

#[tokio::test]
async fn an_instance_that_stops_under_h2load_fails_no_request() {
    /// Requests after which the instance is told to stop.
    const BEFORE: usize = 300;
    if !is_installed("h2load", PACKAGE) {
        return;
    }
    within(async {
        let Relay { instance, backend, _point } = Relay::start().await;
        // By time: of a count, h2load takes what its connections are refused for failed. It does
        // not come back once it was told to go away.
        let arguments = ["-D", "5", "-c", "4", "-m", "20"];
        let stopping = async {
            until(|| backend.seen().len() >= BEFORE).await;
            instance.running.stop().await
        };
        let asking = run(instance.clients, "h2load", &arguments);
        let (printed, report) = tokio::join!(asking, stopping);
        assert_eq!(report.reset, 0, "{report}");
        let requests = figures(&printed, "requests: ");
        let count = |word: &str| requests.get(word).copied();
        assert_eq!((count("failed"), count("errored")), (Some(0), Some(0)), "{printed}");
        let served = backend.seen().len() as u64;
        assert_eq!(count("succeeded"), Some(served), "each once: {printed}");
        assert_eq!(figures(&printed, "status codes: ").get("2xx"), Some(&served), "{printed}");
        assert_eq!(instance.gateway.in_flight(), 0);
    })
    .await;
}

#[tokio::test]
async fn every_upload_of_h2load_arrives_whole() {
    const UPLOADS: u64 = 200;
    if !is_installed("h2load", PACKAGE) {
        return;
    }
    within(async {
        let relay = Relay::start().await;
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("upload");
        std::fs::write(&file, octets(7, UPLOAD)).unwrap();
        let count = UPLOADS.to_string();
        let arguments = ["-n", &count, "-c", "4", "-m", "20", "-H", ":method: CCM_POST", "-d"];
        let arguments = [&arguments[..], &[file.to_str().unwrap()]].concat();
        let printed = relay.run("h2load", &arguments).await;
        assert_eq!(figures(&printed, "requests: ").get("succeeded"), Some(&UPLOADS), "{printed}");
        // "100000" is each answer: what the backend got.
        let data = UPLOADS * UPLOAD.to_string().len() as u64;
        assert!(printed.contains(&format!("({data}) data")), "{data}: {printed}");
        assert_eq!(relay.backend.seen().len() as u64, UPLOADS);
    })
    .await;
}

#[tokio::test]
async fn nghttp_sees_what_a_client_of_http_2_may_do() {
    if !is_installed("nghttp", PACKAGE) {
        return;
    }
    within(async {
        let relay = Relay::start().await;
        let printed = relay.run("nghttp", &["-v", "--no-dep", "-n"]).await;
        for said in [
            "The negotiated protocol: h2",
            "SETTINGS_MAX_CONCURRENT_STREAMS(0x03):100]",
            "SETTINGS_ENABLE_CONNECT_PROTOCOL(0x08):1]",
            ":status: 200",
            "relay-message-id: ",
        ] {
            assert!(printed.contains(said), "{said}: {printed}");
        }
    })
    .await;
}
