//! What becomes of a relay that is asked for more than it can bear: requests come by a schedule,
//! whether those before are answered or not, at a half of what the links bear, at three and ten
//! times as much, and at a half again.
//!
//! `cargo run --release -p relay-benches --bin overload`
//!
//! What the links bear is set: so many streams, and a backend that takes so long. Clients, gateway,
//! connection point and backend are processes of their own. A latency runs from the moment that
//! the schedule has for its request, so that no delay of the clients hides one of the relay.
//!
//! What is printed are times of the machine it runs on. What fails are counts alone: a request that
//! is answered otherwise than 200 or 503, or an overload that refuses nobody.

mod backend;
mod load;
mod report;

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use clap::{Parser, ValueEnum, value_parser};
use relay_benches::pki::SiteCa;
use relay_benches::processes::{self, GatewayPorts, GatewayTask, Process, SiteTask, Told, at};
use relay_core::transport::backend_client_config;

use load::{Clients, Sample};
use report::Round;

/// Load of each round, in tenths of what the links bear.
const ROUNDS: [u32; 4] = [5, 30, 100, 5];

/// Memory that a link reserves for each of its streams: the default of `mux::Config`.
const STREAM_OCTETS: u64 = 2 * 16_376;

/// Streams that the connection point may open itself, by which it publishes.
const STREAMS_OF_SITE: u64 = 16;

/// Asks for more than a relay can bear.
#[derive(Parser)]
struct Args {
    /// Streams of the only link, 1 to 128.
    #[arg(long, default_value_t = 16, value_parser = value_parser!(u32).range(1..=128))]
    streams: u32,
    /// Time that the backend takes for each request, in milliseconds.
    #[arg(long, default_value_t = 40, value_parser = value_parser!(u32).range(1..=1000))]
    service_milliseconds: u32,
    /// Time of each round.
    #[arg(long, default_value_t = 15, value_parser = value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// `link_credit` of the gateway, in milliseconds.
    #[arg(long, default_value_t = 5000, value_parser = value_parser!(u32).range(100..=300_000))]
    burst_milliseconds: u32,
    /// Connections of the clients; each has up to 100 requests at once.
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u32).range(1..=1000))]
    connections: u32,
    /// Runs one part in this process; its task comes on standard input.
    #[arg(long, hide = true)]
    part: Option<Part>,
}

/// Which part a process is.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Part {
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

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match args.part {
        Some(Part::Gateway) => runtime.block_on(processes::gateway(Told::new())),
        Some(Part::Site) => runtime.block_on(processes::site(Told::new())),
        Some(Part::Backend) => runtime.block_on(backend::run(Told::new())),
        None => runtime.block_on(run(&args)),
    }
}

async fn run(args: &Args) -> anyhow::Result<()> {
    let service = Duration::from_millis(args.service_milliseconds.into());
    let burst = Duration::from_millis(args.burst_milliseconds.into());
    let ca = SiteCa::new();
    let mut backend = Process::start(Part::Backend)?;
    backend.tell(&service).await?;
    let backend_port: u16 = backend.hear().await?;
    let mut gateway = Process::start(Part::Gateway)?;
    let (papers, links) = (ca.server_papers(), 1);
    gateway.tell(&GatewayTask { papers, links, link_credit: Some(burst) }).await?;
    let ports: GatewayPorts = gateway.hear().await?;
    let mut site = Process::start(Part::Site)?;
    let (papers, links_port) = (ca.link_client_papers(), ports.links);
    let link_memory = Some((u64::from(args.streams) + STREAMS_OF_SITE) * STREAM_OCTETS);
    site.tell(&SiteTask { papers, links_port, backend_port, links, link_memory }).await?;
    let _: usize = gateway.hear().await?;

    let mut tls = backend_client_config(&ca.anchors())?;
    Arc::make_mut(&mut tls).alpn_protocols = vec![b"h2".to_vec()];
    let mut clients = Clients::connect(at(ports.clients), &tls, args.connections).await?;
    let capacity = f64::from(args.streams) / service.as_secs_f64();
    println!("{} streams of {service:?}: {capacity:.0} requests a second", args.streams);
    // What is done once is over then.
    clients.offer(capacity / 2.0, Duration::from_secs(1)).await;
    clients.rest().await;

    let time = Duration::from_secs(args.seconds.into());
    let mut rounds = Vec::new();
    for tenths in ROUNDS {
        let load = f64::from(tenths) / 10.0;
        let begun = clients.offer(capacity * load, time).await;
        rounds.push(Round { load, begun, time });
    }
    let samples = clients.rest().await;
    backend.tell(&()).await?;
    let busy: u32 = backend.hear().await?;
    println!("{busy} requests were at the backend at most");
    report::print(&rounds, &samples, burst);
    check(&rounds, &samples)
}

/// Judges what does not depend on how fast the machine is.
fn check(rounds: &[Round], samples: &[Sample]) -> anyhow::Result<()> {
    let others = samples.iter().filter(|it| ![200, 503].contains(&it.status)).count();
    ensure!(others == 0, "{others} were answered neither 200 nor 503");
    for round in rounds.iter().filter(|round| round.load > 1.0) {
        let of = |status| round.of(samples).any(|it| it.status == status);
        ensure!(of(200), "nobody was accepted at {} times the capacity", round.load);
        ensure!(of(503), "nobody was refused at {} times the capacity", round.load);
    }
    Ok(())
}
