//! Exchanges of client notification, which the site holds open until it has something to say: for
//! hours, through both roles, until one of the ends has enough.
//!
//! Everything is in memory and in virtual time.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use relay_core::connection_point::{BackendConfig, ConnectionPoint};
use relay_core::gateway::Gateway;
use relay_core::transport::Network;
use relay_core::transport::memory::MemoryNetwork;
use relay_tests::client::{Client, Http, with_body};
use relay_tests::logs::Logs;
use relay_tests::roles::{House, Joined, join, target, until};
use relay_tests::site::{Body, full};
use serde_json::Value;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const HOUR: Duration = Duration::from_hours(1);

/// Longer than any test holds an exchange.
const HANG: Duration = Duration::from_hours(24);

/// What the site says when it has something to say.
const TOLD: &str = "<BgbPush/>";

/// A site role that answers each request when it is told to.
struct Site {
    words: Arc<Semaphore>,
    held: watch::Receiver<usize>,
    tasks: JoinSet<()>,
}

/// A request that waits for its answer, until it is dropped.
struct Held(watch::Sender<usize>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.send_modify(|held| *held -= 1);
    }
}

impl Site {
    fn start(network: &MemoryNetwork) -> Self {
        let listener = network.host("mp").bind(80).unwrap();
        let (words, (count, held)) = (Arc::new(Semaphore::new(0)), watch::channel(0));
        let (speaks, mut tasks) = (Arc::clone(&words), JoinSet::new());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await;
                let (speaks, count) = (Arc::clone(&speaks), count.clone());
                let service = service_fn(move |request| {
                    count.send_modify(|held| *held += 1);
                    hold(request, Held(count.clone()), Arc::clone(&speaks))
                });
                let server = hyper::server::conn::http1::Builder::new();
                connections.spawn(async move {
                    // An error is a connection that the connection point cut.
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { words, held, tasks }
    }

    async fn until_held(&self, count: usize) {
        self.held.clone().wait_for(|held| *held == count).await.unwrap();
    }
}

async fn hold(
    request: Request<Incoming>,
    held: Held,
    words: Arc<Semaphore>,
) -> io::Result<Response<Body>> {
    let body = request.into_body().collect().await;
    assert_eq!(body.unwrap().to_bytes(), "<BgbPoll/>");
    words.acquire().await.unwrap().forget();
    drop(held);
    Ok(Response::new(full(TOLD)))
}

/// Both roles before a site.
struct Relay {
    house: House,
    site: Site,
    gateway: Gateway,
    point: ConnectionPoint,
    _link: Joined,
}

impl Relay {
    async fn start() -> Self {
        let network = MemoryNetwork::new(1);
        let site = Site::start(&network);
        let mut house = House::before(([127, 0, 0, 1], 9).into());
        house.backend = Some(BackendConfig::new("http://mp:80".parse().unwrap(), None));
        house.network = Network::Memory(network.host("cp"));
        let gateway = house.gateway(1);
        let point = house.connection_point(Vec::new());
        let link = join(&gateway, &point).await;
        Self { house, site, gateway, point, _link: link }
    }

    async fn client(&self, http: Http) -> Client {
        Client::join(&self.gateway, &self.house.ca, http).await
    }

    /// Waits until neither role has anything to do with a request any more.
    async fn until_idle(&self) {
        let at_site = || self.point.status().backends.iter().map(|it| it.in_flight).sum::<usize>();
        until(|| self.gateway.in_flight() == 0 && at_site() == 0).await;
        let links = self.gateway.status().links;
        assert_eq!(links.iter().map(|link| link.in_flight).collect::<Vec<_>>(), [0]);
    }
}

fn poll() -> Request<Body> {
    with_body("CCM_POST", &target("/BGB/handler.ashx?RequestType=LogIn"), full("<BgbPoll/>"))
}

/// The one line of the access log.
fn line(logs: &Logs) -> Value {
    let lines = logs.with(&[r#""target":"relay::access""#]);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    serde_json::from_str::<Value>(&lines[0]).unwrap()["fields"].clone()
}

#[tokio::test(start_paused = true)]
async fn what_a_site_holds_for_three_hours_is_answered() {
    for http in Http::BOTH {
        let test = async {
            let logs = Logs::capture();
            let relay = Relay::start().await;
            let mut client = relay.client(http).await;
            let (answer, ()) = tokio::join!(client.ask(poll()), async {
                relay.site.until_held(1).await;
                sleep(3 * HOUR).await;
                assert_eq!(*relay.site.held.borrow(), 1, "once, and still there");
                relay.site.words.add_permits(1);
            });
            assert_eq!((answer.status(), answer.reason()), (200, None), "{http:?}");
            assert_eq!(answer.body, TOLD);
            relay.until_idle().await;
            let line = line(&logs);
            assert_eq!(line["ended"], "complete", "{line}");
            let held = 3.0 * 3_600_000.0;
            assert!(line["opened_ms"].as_f64().unwrap() < 1000.0, "{line}");
            assert!(line["answered_ms"].as_f64().unwrap() >= held, "{line}");

            // The client's connection and the link are as good as before.
            relay.site.words.add_permits(1);
            assert_eq!(client.ask(poll()).await.status(), 200);
            assert_eq!(relay.gateway.links(), 1);
            assert_eq!(logs.with(&["\"link up\""]).len(), 1, "it is the same one");
        };
        timeout(HANG, test).await.expect("the test hangs");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_after_two_hours_is_forgotten_as_far_as_the_site() {
    for http in Http::BOTH {
        let test = async {
            let logs = Logs::capture();
            let relay = Relay::start().await;
            let mut client = relay.client(http).await;
            let asking = tokio::spawn(async move { client.ask(poll()).await.status() });
            relay.site.until_held(1).await;
            sleep(2 * HOUR).await;
            assert_eq!(*relay.site.held.borrow(), 1);
            asking.abort();
            relay.site.until_held(0).await;
            relay.until_idle().await;
            let line = line(&logs);
            assert_eq!((&line["ended"], &line["status"]), (&"client gone".into(), &Value::Null));
            assert_eq!(relay.gateway.links(), 1);
        };
        timeout(HANG, test).await.expect("the test hangs");
    }
}

#[tokio::test(start_paused = true)]
async fn a_site_that_goes_after_two_hours_is_502_at_once_and_asked_once() {
    for http in Http::BOTH {
        let test = async {
            let logs = Logs::capture();
            let mut relay = Relay::start().await;
            let mut client = relay.client(http).await;
            let asking = tokio::spawn(async move { client.ask(poll()).await });
            relay.site.until_held(1).await;
            sleep(2 * HOUR).await;
            relay.site.tasks.abort_all();
            let answer = asking.await.unwrap();
            let came = (answer.status(), answer.reason());
            assert_eq!(came, (502, Some("CMGConnector_Bad_Gateway")), "{http:?}");
            relay.until_idle().await;
            let line = line(&logs);
            assert_eq!((&line["status"], &line["sent_again"]), (&502.into(), &0.into()), "{line}");
            let total = line["total_ms"].as_f64().unwrap();
            assert!((2.0 * 3_600_000.0..2.0 * 3_600_000.0 + 1000.0).contains(&total), "{line}");
        };
        timeout(HANG, test).await.expect("the test hangs");
    }
}
