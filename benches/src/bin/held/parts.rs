//! What runs in processes of its own: gateway, connection point and backend. Each hears its task on
//! standard input, says what it has to say on standard output, and ends with its input.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use clap::ValueEnum;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use relay_benches::pki::Papers;
use relay_benches::relay;
use relay_core::connection_point::ConnectionPointLimits;
use relay_core::gateway::Listeners;
use relay_core::transport::{Listener, Rung, link_server_config};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines, Stdin};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// How often the gateway's part looks whether links are up.
const LOOK: Duration = Duration::from_millis(5);

/// Which part a process is.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Part {
    Gateway,
    Site,
    Backend,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Gateway => "gateway",
            Self::Site => "site",
            Self::Backend => "backend",
        })
    }
}

/// What a gateway is told. It answers with its ports, and then with how many links are up.
#[derive(Serialize, Deserialize)]
pub(crate) struct GatewayTask {
    pub(crate) papers: Papers,
    pub(crate) links: usize,
}

/// Where a gateway listens.
#[derive(Serialize, Deserialize)]
pub(crate) struct GatewayPorts {
    pub(crate) clients: u16,
    pub(crate) links: u16,
}

/// What a connection point is told.
#[derive(Serialize, Deserialize)]
pub(crate) struct SiteTask {
    pub(crate) papers: Papers,
    pub(crate) links_port: u16,
    pub(crate) backend_port: u16,
    pub(crate) links: usize,
}

/// What this process is told, line by line.
struct Told(Lines<BufReader<Stdin>>);

impl Told {
    /// The next of it; `None` at the end.
    async fn next<T: DeserializeOwned>(&mut self) -> anyhow::Result<Option<T>> {
        let line = self.0.next_line().await?;
        line.map(|line| Ok(serde_json::from_str(&line)?)).transpose()
    }
}

fn say(what: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(what)?);
    Ok(())
}

/// A port of loopback.
pub(crate) fn at(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Runs one part until nobody speaks to it any more.
pub(crate) async fn run(part: Part) -> anyhow::Result<()> {
    let told = Told(BufReader::new(tokio::io::stdin()).lines());
    match part {
        Part::Gateway => gateway(told).await,
        Part::Site => site(told).await,
        Part::Backend => backend(told).await,
    }
}

async fn gateway(mut told: Told) -> anyhow::Result<()> {
    let task: GatewayTask = told.next().await?.context("no task")?;
    let identity = task.papers.identity();
    let link_tls = link_server_config(&identity, &task.papers.anchors())?;
    let (clients, links) = (Listener::bind(at(0)).await?, Listener::bind(at(0)).await?);
    let ports =
        GatewayPorts { clients: clients.local_addr().port(), links: links.local_addr().port() };
    let gateway = relay::gateway(&identity, link_tls);
    let listeners = Listeners { clients, links: Some(links), https_links: None, quic: None };
    let serving = tokio::spawn(gateway.clone().serve(listeners, std::future::pending()));
    say(&ports)?;
    while gateway.links() < task.links || gateway.settings().sites.is_empty() {
        tokio::time::sleep(LOOK).await;
    }
    say(&gateway.links())?;
    let _: Option<()> = told.next().await?;
    serving.abort();
    Ok(())
}

async fn site(mut told: Told) -> anyhow::Result<()> {
    let task: SiteTask = told.next().await?.context("no task")?;
    let mut limits = ConnectionPointLimits::default();
    limits.links_per_instance = task.links;
    let links = (Rung::TcpTls, at(task.links_port));
    let point = relay::connection_point(&task.papers, links, at(task.backend_port), limits);
    let running = tokio::spawn(async move { point.run(std::future::pending()).await });
    let _: Option<()> = told.next().await?;
    running.abort();
    Ok(())
}

/// What every request to the backend waits for.
#[derive(Clone)]
struct Round {
    arrived: Arc<watch::Sender<usize>>,
    /// How often all were woken.
    woken: watch::Receiver<u64>,
}

/// Holds what it is asked. It says its port; then for each round it is told a number, says when it
/// holds so many, is told to answer, and says when it did.
async fn backend(mut told: Told) -> anyhow::Result<()> {
    let listener = TcpListener::bind(at(0)).await?;
    let (wake, woken) = watch::channel(0);
    let (arrived, mut arrivals) = watch::channel(0);
    let round = Round { arrived: Arc::new(arrived), woken };
    say(&listener.local_addr()?.port())?;
    let accepting = tokio::spawn({
        let round = round.clone();
        async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (round, _) = (round.clone(), tcp.set_nodelay(true));
                let serve = service_fn(move |request| answer(request, round.clone()));
                let io = TokioIo::new(tcp);
                tokio::spawn(http1::Builder::new().serve_connection(io, serve));
            }
        }
    });
    while let Some(count) = told.next::<usize>().await? {
        arrivals.wait_for(|now| *now >= count).await?;
        say(&count)?;
        let _: Option<()> = told.next().await?;
        round.arrived.send_replace(0);
        let released = super::now();
        wake.send_modify(|rounds| *rounds += 1);
        say(&released)?;
    }
    accepting.abort();
    Ok(())
}

async fn answer(
    _: Request<Incoming>,
    mut round: Round,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let before = *round.woken.borrow_and_update();
    round.arrived.send_modify(|count| *count += 1);
    // It ends with the process.
    let _ = round.woken.wait_for(|now| *now > before).await;
    Ok(Response::new(Full::from("woken")))
}
