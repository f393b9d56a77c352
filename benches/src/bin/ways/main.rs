//! What a request costs by each way that a link can take: a whole relay on loopback in one process
//! for each of them, asked in turns.
//!
//! `cargo run --release -p relay-benches --bin ways`
//!
//! Processor time is that of everything: clients, gateway, connection point and backend.

use std::time::{Duration, Instant};

use clap::Parser;
use relay_benches::relay::{Ask, Client, Relay, Way, ask_all};
use relay_core::transport::Rung;
use rustix::time::{ClockId, clock_gettime};

/// Compares the ways of links.
#[derive(Parser)]
struct Args {
    /// Rounds; the median of each figure is shown.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// What is asked for in a round.
struct Load {
    name: &'static str,
    ask: Ask,
    clients: usize,
    count: u32,
}

const LOADS: [Load; 2] = [
    Load { name: "300 B -> 1 KiB", ask: Ask { up: 300, down: 1024 }, clients: 64, count: 4000 },
    Load { name: "GET -> 4 MiB", ask: Ask { up: 0, down: 4 << 20 }, clients: 8, count: 64 },
];

const RUNGS: [Rung; 5] =
    [Rung::TcpTls, Rung::Https, Rung::HttpsUpgrade, Rung::HttpsHttp2, Rung::Quic];

/// A relay whose link has taken one way, and its figures so far.
struct Contender {
    rung: Rung,
    relay: Relay,
    /// For each load: time and processor time of each round, in seconds for one request.
    figures: [Vec<(f64, f64)>; LOADS.len()],
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(args.rounds));
    Ok(())
}

async fn run(rounds: u32) {
    let mut contenders = Vec::new();
    for rung in RUNGS {
        let relay = Relay::start_over(rung).await;
        contenders.push(Contender { rung, relay, figures: Default::default() });
    }
    for _ in 0..rounds {
        for contender in &mut contenders {
            for (load, figures) in LOADS.iter().zip(&mut contender.figures) {
                let clients = contender.relay.clients(Way::Relayed, load.clients).await;
                figures.push(measure(clients, load).await);
            }
        }
    }
    println!("{:<16} {:<10} {:>12} {:>14}", "load", "way", "requests/s", "CPU us/request");
    for (number, load) in LOADS.iter().enumerate() {
        for contender in &mut contenders {
            let figures = &mut contender.figures[number];
            let (time, cpu) = (median(figures, |it| it.0), median(figures, |it| it.1));
            let (rung, rate, cpu) = (contender.rung, 1.0 / time, cpu * 1e6);
            println!("{:<16} {:<10} {rate:>12.0} {cpu:>14.1}", load.name, rung.name());
        }
    }
}

/// Time and processor time of one request, in seconds.
async fn measure(clients: Vec<Client>, load: &Load) -> (f64, f64) {
    // What connections and windows need to be warm.
    let clients = ask_all(clients, load.ask, (load.count / 8).into()).await;
    let (begun, used) = (Instant::now(), processor_time());
    drop(ask_all(clients, load.ask, load.count.into()).await);
    let (took, used) = (begun.elapsed(), processor_time().saturating_sub(used));
    let each = |all: Duration| (all / load.count).as_secs_f64();
    (each(took), each(used))
}

fn median(figures: &mut [(f64, f64)], of: impl Fn(&(f64, f64)) -> f64) -> f64 {
    figures.sort_by(|a, b| of(a).total_cmp(&of(b)));
    figures.get(figures.len() / 2).map_or(0.0, of)
}

fn processor_time() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap_or_default()
}
