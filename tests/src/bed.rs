//! A relay before backends on a network in memory.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a failed step of a test's set-up is a failed test"
)]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use relay_core::connection_point::{BackendConfig, BackendStatus, ConnectionPoint};
use relay_core::gateway::Gateway;
use relay_core::policy::EndpointKind;
use relay_core::transport::Network;
use relay_core::transport::memory::{MemoryNetwork, MemoryStream};
use tokio::io::AsyncReadExt as _;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};

use crate::client::{Answer, Client, Http, bare, with_body};
use crate::roles::{House, Joined, join, target};
use crate::site::full;

/// Where site roles listen.
pub const PORT: u16 = 80;

/// A site role in memory; it is gone when dropped.
#[derive(Debug)]
pub struct Role {
    /// Requests that came whole.
    requests: Arc<AtomicUsize>,
    /// Connections that came.
    connections: Arc<AtomicUsize>,
    /// The status of answers.
    pub status: Arc<AtomicU16>,
    task: JoinHandle<()>,
}

impl Drop for Role {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Role {
    /// One that reads requests whole and answers with its name, each after `think`.
    pub fn start(network: &MemoryNetwork, name: &'static str, think: Duration) -> Self {
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
    pub fn breaking_off(network: &MemoryNetwork, name: &'static str) -> Self {
        let counters = (Arc::<AtomicUsize>::default(), Arc::default());
        Self::serving(network, name, counters, |mut stream: MemoryStream| async move {
            let _ = stream.read(&mut [0; 4096]).await;
        })
    }

    /// One whose connections are served by `serve`, with its counters.
    pub fn serving<S, F>(
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

    /// Requests that came whole.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// Connections that came.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// A relay before backends in memory.
#[derive(Debug)]
pub struct Bed {
    /// What it is made from.
    pub house: House,
    /// The instance.
    pub gateway: Gateway,
    /// The connection point.
    pub point: ConnectionPoint,
    _link: Joined,
}

impl Bed {
    /// With backends called `names`, after `change`.
    pub async fn new(
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
        Self::of(house).await
    }

    /// The same with a site role of this kind.
    pub async fn of_kind(mut self, kind: EndpointKind) -> Self {
        self.house.endpoint.0.kind = kind;
        Self::of(self.house).await
    }

    async fn of(house: House) -> Self {
        let gateway = house.gateway(1);
        let point = house.connection_point(Vec::new());
        let link = join(&gateway, &point).await;
        Self { house, gateway, point, _link: link }
    }

    /// A new client.
    pub async fn client(&self) -> Client {
        Client::join(&self.gateway, &self.house.ca, Http::One).await
    }

    /// Asks once, and tells how long that took.
    pub async fn ask(&self, verb: &str) -> (Answer, Duration) {
        let request = match verb {
            "GET" => bare(verb, &target("/SMS_MP/x")),
            _ => with_body(verb, &target("/SMS_MP/x"), full("what is to be sent once")),
        };
        let mut client = self.client().await;
        let before = Instant::now();
        (client.ask(request).await, before.elapsed())
    }

    /// Asks `count` times at once; statuses and reasons, in order of status.
    pub async fn ask_at_once(&self, count: usize) -> Vec<(u16, Option<String>)> {
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
    pub fn status(&self, name: &str) -> BackendStatus {
        let all = self.point.status().backends;
        all.into_iter().find(|it| it.url.host() == Some(name)).unwrap()
    }
}
