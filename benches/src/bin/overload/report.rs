//! What came of each round.

use std::time::Duration;

use tokio::time::Instant;

use crate::load::Sample;

/// How much slower than in the first round accepted requests may be.
const RATIO_MAX: u32 = 3;

/// What recovery is looked for in.
const WINDOW: Duration = Duration::from_millis(250);

/// Some time of one load.
pub(crate) struct Round {
    /// Multiple of the capacity.
    pub(crate) load: f64,
    pub(crate) begun: Instant,
    pub(crate) time: Duration,
}

impl Round {
    /// The requests that were to be made in it.
    pub(crate) fn of<'a>(&self, samples: &'a [Sample]) -> impl Iterator<Item = &'a Sample> {
        let (from, to) = (self.begun, self.begun + self.time);
        samples.iter().filter(move |it| (from..to).contains(&it.at))
    }
}

/// Latencies of those that were answered `status`, in order.
fn latencies<'a>(samples: impl Iterator<Item = &'a Sample>, status: u16) -> Vec<Duration> {
    let mut all: Vec<_> = samples.filter(|it| it.status == status).map(|it| it.took).collect();
    all.sort_unstable();
    all
}

/// The latency that `share` of 100 do not exceed.
fn percentile(sorted: &[Duration], share: usize) -> Option<Duration> {
    sorted.get((sorted.len() * share).div_ceil(100).saturating_sub(1)).copied()
}

fn shown(latency: Option<Duration>) -> String {
    latency.map_or("-".to_owned(), |it| format!("{:.1}", it.as_secs_f64() * 1e3))
}

/// Prints a line for each round, and how soon the last one was as the first.
///
/// A line stands from `burst` after the first overload began; who is refused before had that time.
pub(crate) fn print(rounds: &[Round], samples: &[Sample], burst: Duration) {
    let Some((first, last)) = rounds.first().zip(rounds.last()) else { return };
    let base = percentile(&latencies(first.of(samples), 200), 99).unwrap_or_default();
    let overload = rounds.iter().find(|round| round.load > 1.0);
    let stands = overload.map(|round| round.begun + burst);
    println!("times in ms; `burst` are those refused that came before the line could stand");
    println!(
        "load  offered  accepted     p50     p99  ratio  burst     p99    503     p99     max"
    );
    for round in rounds {
        let accepted = latencies(round.of(samples), 200);
        let p99 = percentile(&accepted, 99);
        let ratio = p99.map_or(0.0, |p99| p99.as_secs_f64() / base.as_secs_f64());
        let is_early = |it: &&Sample| stands.is_some_and(|at| it.at < at);
        let early = latencies(round.of(samples).filter(is_early), 503);
        let refused = latencies(round.of(samples).filter(|it| !is_early(it)), 503);
        println!(
            "{:>4}  {:>7}  {:>8}  {:>6}  {:>6}  {ratio:>5.2}  {:>5}  {:>6}  {:>5}  {:>6}  {:>6}",
            round.load,
            round.of(samples).count(),
            accepted.len(),
            shown(percentile(&accepted, 50)),
            shown(p99),
            early.len(),
            shown(percentile(&early, 99)),
            refused.len(),
            shown(percentile(&refused, 99)),
            shown(refused.last().copied()),
        );
    }
    match recovery(last, samples, base) {
        Some(after) => println!("recovered {after:?} after the end of the overload"),
        None => println!("not recovered in {:?}", last.time),
    }
}

/// The time from the begin of `round` until each window has its p99 within the bound and nobody
/// refused.
fn recovery(round: &Round, samples: &[Sample], base: Duration) -> Option<Duration> {
    let windows = u32::try_from(round.time.as_millis() / WINDOW.as_millis()).unwrap_or(u32::MAX);
    let is_bad = |window: &u32| {
        let part = Round { load: round.load, begun: round.begun + WINDOW * *window, time: WINDOW };
        let p99 = percentile(&latencies(part.of(samples), 200), 99).unwrap_or_default();
        p99 > base * RATIO_MAX || part.of(samples).any(|it| it.status != 200)
    };
    let healthy_from = (0..windows).rev().find(is_bad).map_or(0, |last| last + 1);
    (healthy_from < windows).then(|| WINDOW * healthy_from)
}
