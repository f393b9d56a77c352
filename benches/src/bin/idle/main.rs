//! What exchanges cost that are open and say nothing, as those of clients that wait for a
//! notification: memory and processor time of both ends of their links, in one process.
//!
//! `cargo run --release -p relay-benches --bin idle -- --links 2 --streams 12000`

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use clap::{Parser, value_parser};
use relay_core::link::{self, End, Incoming, Link, RecvStream, SendStream};
use relay_core::mux::{Config, HeadKind, Side};
use rustix::time::{ClockId, clock_gettime};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Octets of each head: about what a request of the model has.
const HEAD_OCTETS: usize = 300;

/// Octets of the pages that Linux counts a process's memory in.
const PAGE: u64 = 4096;

/// Holds exchanges open and says what they cost.
#[derive(Parser)]
struct Args {
    /// Links between the two ends.
    #[arg(long, default_value_t = 1)]
    links: usize,
    /// Streams open on each link, 1 to 16,384.
    #[arg(long, default_value_t = 10_000, value_parser = value_parser!(u32).range(1..=16_384))]
    streams: u32,
    /// How long they say nothing.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

/// Both ends of a stream.
type Held = ((SendStream, RecvStream), Incoming);

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(&args))
}

async fn run(args: &Args) -> anyhow::Result<()> {
    let mut drivers = JoinSet::new();
    let mut ends = Vec::new();
    for _ in 0..args.links {
        ends.push(connect(args.streams, &mut drivers).await?);
    }
    let before = resident()?;
    let mut held: Vec<Held> = Vec::with_capacity(args.links * args.streams as usize);
    for (gateway, site) in &ends {
        for _ in 0..args.streams {
            held.push(hold(gateway, site).await?);
        }
    }
    let open = held.len() as u64;
    let after = resident()?;
    println!(
        "{open} exchanges on {} link(s), both ends: {} KiB, {} octets each",
        args.links,
        (after - before) / 1024,
        (after - before) / open
    );
    let (used, idle) = (processor_time(), Duration::from_secs(args.seconds));
    tokio::time::sleep(idle).await;
    let used = processor_time().saturating_sub(used);
    let share = used.as_secs_f64() / idle.as_secs_f64() * 100.0;
    println!("idle for {idle:?}: {used:?} of processor time, {share:.3} % of one processor");
    Ok(())
}

/// A link over TCP on loopback, on which the gateway's end may open `streams`.
async fn connect(streams: u32, drivers: &mut JoinSet<()>) -> anyhow::Result<(Link, Link)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (dialled, accepted) =
        tokio::join!(TcpStream::connect(listener.local_addr()?), listener.accept());
    let defaults = Config::default();
    // Reserved, not allocated: what all of them may send before they are listened to.
    let floors = u64::from(defaults.stream_window) * u64::from(streams + 16);
    let receive_memory_max = defaults.receive_memory_max.max(2 * floors);
    let at_gateway = Config {
        accept_streams_max: 16,
        open_streams_max: streams,
        receive_memory_max,
        ..defaults.clone()
    };
    let at_site = Config {
        accept_streams_max: streams,
        open_streams_max: 16,
        receive_memory_max,
        ..defaults
    };
    let (gateway, one) = link::new(accepted?.0, Side::Listener, at_gateway)?;
    let (site, other) = link::new(dialled?, Side::Dialer, at_site)?;
    drivers.spawn(async { drop(one.await) });
    drivers.spawn(async { drop(other.await) });
    gateway.established().await?;
    site.established().await?;
    Ok((gateway, site))
}

/// An exchange whose answer has begun and does not go on.
async fn hold(gateway: &Link, site: &Link) -> anyhow::Result<Held> {
    let head = || Bytes::from(vec![b'h'; HEAD_OCTETS]);
    let (send, mut answer) = gateway.open(head(), End::NoPayload).await?;
    let mut incoming = site.accept().await?;
    incoming.send.send_head(head(), HeadKind::Final)?;
    answer.head().await?;
    Ok(((send, answer), incoming))
}

/// Octets of this process that are in memory.
fn resident() -> anyhow::Result<u64> {
    // proc(5): the second number is pages in memory.
    let told = std::fs::read_to_string("/proc/self/statm").context("only Linux tells")?;
    let pages = told.split(' ').nth(1).context("no second number")?;
    Ok(pages.parse::<u64>()? * PAGE)
}

fn processor_time() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap_or_default()
}
