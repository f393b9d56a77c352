//! What clients cost that wait for a notification, all the way: each has a TLS connection to a
//! gateway instance and one request on it, which the backend answers when it is told to: some one
//! by one while the others wait, then all that are left. Fails where that costs too much.
//!
//! `cargo run --release -p relay-benches --bin held -- --clients 10000`
//!
//! Clients, gateway, connection point and backend are processes of their own: memory is the
//! gateway's alone, and each needs no more descriptors than there are clients. For more than
//! `ulimit -n` has, less a hundred, raise that.

mod parts;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Parser, value_parser};
use relay_benches::pki::SiteCa;
use relay_benches::processes::{GatewayPorts, GatewayTask, Process, SiteTask, at, now};
use relay_benches::relay::Client;
use relay_core::transport::backend_client_config;
use rustls::ClientConfig;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use parts::{Part, Wake};

/// Octets of the pages that Linux counts a process's memory in.
const PAGE: u64 = 4096;

/// Links: as many as a connection point has to an instance by default.
const LINKS: usize = 2;

/// Handshakes at once: the gateway's processors are the limit.
const DIALS: usize = 64;

/// Time for what is done once to be over, before memory is read.
const SETTLE: Duration = Duration::from_secs(2);

/// Clients that are woken one by one, while all others wait.
const SINGLES: usize = 100;

/// What it may cost: octets of the gateway's for each client, the time until half of those that are
/// woken one by one know, and until the last of all does.
const EACH_OCTETS_MAX: u64 = 64 << 10;
const ONE_WITHIN: Duration = Duration::from_millis(50);
const ALL_WITHIN: Duration = Duration::from_secs(5);

/// Holds exchanges of clients open, wakes some and then all, and says what it cost. Fails if that
/// is too much.
#[derive(Parser)]
struct Args {
    /// Clients, each with a connection and an exchange, 1 to 16,000.
    #[arg(long, default_value_t = 10_000, value_parser = value_parser!(u32).range(1..=16_000))]
    clients: u32,
    /// How often all of them wait and are woken.
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u32).range(1..))]
    rounds: u32,
    /// Runs one part in this process; its task comes on standard input.
    #[arg(long, hide = true)]
    part: Option<Part>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match args.part {
        Some(part) => runtime.block_on(parts::run(part)),
        None => runtime.block_on(run(args.clients as usize, args.rounds)),
    }
}

async fn run(count: usize, rounds: u32) -> anyhow::Result<()> {
    let ca = SiteCa::new();
    let mut backend = Process::start(Part::Backend)?;
    let backend_port: u16 = backend.hear().await?;
    let mut gateway = Process::start(Part::Gateway)?;
    let links = LINKS;
    gateway.tell(&GatewayTask { papers: ca.server_papers(), links, link_credit: None }).await?;
    let ports: GatewayPorts = gateway.hear().await?;
    let mut site = Process::start(Part::Site)?;
    let papers = ca.link_client_papers();
    let (links_port, link_memory) = (ports.links, None);
    site.tell(&SiteTask { papers, links_port, backend_port, links, link_memory }).await?;
    let up: usize = gateway.hear().await?;
    ensure!(up == links, "{up} links instead of {links}");

    let tls = backend_client_config(&ca.anchors())?;
    // What the first requests leave behind is no client's.
    drop(hold(connect(ports.clients, &tls, 32).await, &mut backend).await?);
    tokio::time::sleep(SETTLE).await;
    let empty = resident(&gateway)?;
    println!("{links} links, no client: {} KiB", empty / 1024);
    let begun = now();
    let mut clients = connect(ports.clients, &tls, count).await;
    println!("{count} clients connected in {:?}", now().saturating_sub(begun));
    tokio::time::sleep(SETTLE).await;
    report(&gateway, "connected", empty, count)?;
    for _ in 0..rounds {
        let begun = now();
        clients = hold_reporting(clients, &mut backend, &gateway, (empty, begun)).await?;
        tokio::time::sleep(SETTLE).await;
        report(&gateway, "answered", empty, count)?;
    }
    Ok(())
}

/// Connects clients.
async fn connect(port: u16, tls: &Arc<ClientConfig>, count: usize) -> Vec<Client> {
    let places = Arc::new(Semaphore::new(DIALS));
    let mut dials = JoinSet::new();
    for _ in 0..count {
        let (places, tls) = (Arc::clone(&places), Arc::clone(tls));
        dials.spawn(async move {
            let _place = places.acquire_owned().await;
            Client::dial(at(port), tls).await
        });
    }
    dials.join_all().await
}

/// Has all of `clients` wait and be woken.
async fn hold(clients: Vec<Client>, backend: &mut Process) -> anyhow::Result<Vec<Client>> {
    let (waiting, _) = wait(clients, backend).await?;
    backend.tell(&Wake::All).await?;
    let _: Duration = backend.hear().await?;
    Ok(waiting.join_all().await.into_iter().map(|(client, _)| client).collect())
}

/// As [`hold`], and says what it cost since the gateway had `empty` octets and since `begun`.
async fn hold_reporting(
    clients: Vec<Client>,
    backend: &mut Process,
    gateway: &Process,
    (empty, begun): (u64, Duration),
) -> anyhow::Result<Vec<Client>> {
    let (mut waiting, count) = wait(clients, backend).await?;
    println!("{count} exchanges held at the backend after {:?}", now().saturating_sub(begun));
    tokio::time::sleep(SETTLE).await;
    let each = report(gateway, "held", empty, count)?;
    ensure!(each < EACH_OCTETS_MAX, "a client that waits costs {each} octets");
    let mut clients = wake_singly(&mut waiting, backend).await?;
    backend.tell(&Wake::All).await?;
    let released: Duration = backend.hear().await?;
    let (others, mut woken): (Vec<_>, Vec<_>) = waiting.join_all().await.into_iter().unzip();
    clients.extend(others);
    if woken.is_empty() {
        return Ok(clients);
    }
    woken.sort_unstable();
    let after = |share: usize| woken[(woken.len() - 1) * share / 100].saturating_sub(released);
    println!("woken: first {:?}, half {:?}, last {:?}", after(0), after(50), after(100));
    ensure!(after(100) < ALL_WITHIN, "the last of all is woken after {:?}", after(100));
    Ok(clients)
}

/// Wakes some of those that are `waiting`, each when the one before knows. Returns them.
async fn wake_singly(waiting: &mut Waiting, backend: &mut Process) -> anyhow::Result<Vec<Client>> {
    let (mut clients, mut took) = (Vec::new(), Vec::new());
    for _ in 0..SINGLES.min(waiting.len()) {
        backend.tell(&Wake::One).await?;
        let released: Duration = backend.hear().await?;
        let (client, woken) = waiting.join_next().await.context("nobody waits")??;
        took.push(woken.saturating_sub(released));
        clients.push(client);
    }
    took.sort_unstable();
    let (half, slowest) = (took[took.len() / 2], took[took.len() - 1]);
    println!("woken one by one: {}, half {half:?}, slowest {slowest:?}", took.len());
    ensure!(half < ONE_WITHIN, "one of those that wait is woken after {half:?}");
    ensure!(slowest < ALL_WITHIN, "the slowest is woken after {slowest:?}");
    Ok(clients)
}

/// Clients that wait, and when each was woken.
type Waiting = JoinSet<(Client, Duration)>;

/// Has all of `clients` ask, until the backend has every request.
async fn wait(clients: Vec<Client>, backend: &mut Process) -> anyhow::Result<(Waiting, usize)> {
    let count = clients.len();
    backend.tell(&count).await?;
    let mut waiting = JoinSet::new();
    for mut client in clients {
        waiting.spawn(async move {
            client.await_notification().await;
            (client, now())
        });
    }
    let held: usize = backend.hear().await?;
    ensure!(held == count, "{held} are held");
    Ok((waiting, count))
}

/// Octets of a part that are in memory.
fn resident(part: &Process) -> anyhow::Result<u64> {
    let id = part.id().context("a part has ended")?;
    // proc(5): the second number is pages in memory.
    let told = std::fs::read_to_string(format!("/proc/{id}/statm"));
    let told = told.context("only Linux tells")?;
    let pages = told.split(' ').nth(1).context("no second number")?;
    Ok(pages.parse::<u64>()? * PAGE)
}

/// Says what a part has in memory beyond `empty`. Returns what that is for each client.
fn report(part: &Process, what: &str, empty: u64, clients: usize) -> anyhow::Result<u64> {
    let more = resident(part)?.saturating_sub(empty);
    let each = more / clients as u64;
    println!("{clients} {what}: {} KiB more, {each} octets each", more / 1024);
    Ok(each)
}
