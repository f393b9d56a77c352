//! Runs the link and its peers in turns and prints how they stand to one another.
//!
//! In every round each contender runs each case once, one straight after the other, and begins in
//! another place of the order each time: what the machine does besides hits all alike. Each run has
//! a connection of its own, warmed up by a shorter run of the same, because a connection's luck
//! with buffers and windows lasts as long as it does. Figures are medians over the rounds, ratios
//! medians of the rounds' own ratios.
//!
//! Read [`Options`] and [`report`] first.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use relay_benches::cases::{Case, Run, Size, run};
use relay_benches::peers::{Connection, Contender};
use relay_benches::pipes::Carrier;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

mod report;
mod targets;

/// A run that takes longer than this stands still.
const STANDSTILL: Duration = Duration::from_secs(10);

/// What is asked of the program.
#[derive(Debug, Parser)]
#[command(about = "Compares the link with its peers, in turns, in one process")]
struct Options {
    /// How many rounds
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Worker threads of the runtime
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Mebibytes of one bulk transfer
    #[arg(long, default_value_t = 64)]
    bulk_mib: usize,
    /// Small exchanges of one run
    #[arg(long, default_value_t = 3000)]
    exchanges: u64,
    /// Only cases whose name holds this
    #[arg(long, default_value = "")]
    case: String,
    /// Only carriers whose name holds this: plain or tls
    #[arg(long, default_value = "")]
    carrier: String,
    /// Only contenders whose name holds this, and the link
    #[arg(long, default_value = "")]
    contender: String,
    /// Also writes every figure to this file, for tracking over time
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A case of one contender over one carrier.
type Place = (Case, Carrier, Contender);

/// What was measured.
#[derive(Debug, Default)]
struct Results {
    /// One run for each round.
    runs: HashMap<Place, Vec<Run>>,
    /// Where a contender stood still.
    stalled: Vec<Place>,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let runtime = runtime(options.threads).context("could not start the runtime")?;
    let results = runtime.block_on(rounds(&options));
    report::print(&results);
    if let Some(path) = &options.json {
        let json = serde_json::to_string_pretty(&report::figures(&results, options.threads))?;
        std::fs::write(path, json + "\n")
            .with_context(|| format!("could not write {}", path.display()))?;
    }
    Ok(())
}

/// One worker is the thread that blocks on the load, as in the tracked benchmarks.
fn runtime(threads: usize) -> std::io::Result<Runtime> {
    match threads {
        0 | 1 => Builder::new_current_thread().enable_all().build(),
        more => Builder::new_multi_thread().worker_threads(more).enable_all().build(),
    }
}

async fn rounds(options: &Options) -> Results {
    let places = places(options);
    let mut results = Results::default();
    for round in 0..options.rounds {
        eprint!("\rround {} of {}", round + 1, options.rounds);
        for group in &places {
            for place in 0..group.len() {
                let place = group[(place + round) % group.len()];
                one(options, place, &mut results).await;
            }
        }
    }
    eprintln!();
    results
}

/// Everyone who takes part, by case and carrier.
fn places(options: &Options) -> Vec<Vec<Place>> {
    let cases = Case::ALL.into_iter().filter(|case| case.name().contains(&options.case));
    let carriers = Carrier::ALL.into_iter().filter(|it| it.name().contains(&options.carrier));
    let groups = cases.flat_map(|case| carriers.clone().map(move |carrier| (case, carrier)));
    let group = |(case, carrier): (Case, Carrier)| -> Vec<Place> {
        let wanted = |contender: &Contender| {
            *contender == Contender::Link || contender.name().contains(&options.contender)
        };
        let all = Contender::ALL.into_iter().filter(|it| case.suits(*it, carrier));
        all.filter(wanted).map(|contender| (case, carrier, contender)).collect()
    };
    groups.map(group).collect()
}

/// Runs one contender once and notes what came of it.
async fn one(options: &Options, place: Place, results: &mut Results) {
    if results.stalled.contains(&place) {
        return;
    }
    let (case, carrier, contender) = place;
    let size = Size { octets: options.bulk_mib << 20, exchanges: options.exchanges };
    let connection = Connection::new(contender, carrier).await;
    let measured = async {
        // This case warms up by itself, and leaves a stream behind.
        if case != Case::Stalled {
            run(&connection, case, size.quarter()).await;
        }
        run(&connection, case, size).await
    };
    match timeout(STANDSTILL, measured).await {
        Ok(run) => results.runs.entry(place).or_default().push(run),
        Err(_) => results.stalled.push(place),
    }
}
