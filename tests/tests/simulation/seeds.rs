//! Which seeds are run, and what is said of one that fails.

use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::life::{Report, run};
use super::plan::Plan;

/// Seeds that every test run takes. Measured to stay below a minute of one core in a debug build.
const SEEDS: Range<u64> = 0..1000;

/// See [`sample`].
const SAMPLE: Range<u64> = 0..40;

/// Names other seeds: `a..b`.
const VARIABLE: &str = "RELAY_SIM_SEEDS";

/// Seeds that once failed, one a line, with what they found.
const KEPT: &str = include_str!("kept_seeds.txt");

/// The seeds to run: those that are kept, and then a range.
pub(crate) fn all() -> Vec<u64> {
    match named() {
        Some(named) => named.collect(),
        None => kept().into_iter().chain(SEEDS).collect(),
    }
}

/// The seeds of the test that runs each twice.
pub(crate) fn sample() -> Range<u64> {
    named().unwrap_or(SAMPLE)
}

fn kept() -> Vec<u64> {
    let lines = KEPT.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter(|line| !line.is_empty()).map(|line| line.parse().unwrap()).collect()
}

/// Has `work` done for each seed of [`all`], by as many threads as there are processors. The world
/// of each seed is of one thread.
///
/// # Panics
///
/// With what `work` panics with.
pub(crate) fn each<T: Send>(work: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let (seeds, next) = (all(), AtomicUsize::new(0));
    let share = || {
        let mut done = Vec::new();
        while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push(work(*seed));
        }
        done
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(share)).collect();
        let done = workers.into_iter().map(|worker| match worker.join() {
            Ok(done) => done,
            Err(panic) => resume_unwind(panic),
        });
        done.flatten().collect()
    })
}

/// Whether it was said which seeds to run.
pub(crate) fn are_named() -> bool {
    named().is_some()
}

fn named() -> Option<Range<u64>> {
    let text = std::env::var(VARIABLE).ok()?;
    Some(range(&text).unwrap_or_else(|| panic!("{VARIABLE}={text} is not `a..b`")))
}

fn range(text: &str) -> Option<Range<u64>> {
    let (from, to) = text.split_once("..")?;
    Some(from.parse().ok()?..to.parse().ok()?)
}

/// Runs what `seed` stands for. Says how to run it again if it breaks a rule.
pub(crate) fn check(seed: u64) -> Report {
    let report = run(Plan::of(seed), None);
    let Report { findings, tail, .. } = &report;
    assert!(
        findings.is_empty(),
        "{}\n\n{:#?}\n\n{}\n\nreplay: {VARIABLE}={seed}..{} cargo test -p relay-tests --test \
         simulation every_seed\nand keep it: add {seed} to tests/tests/simulation/kept_seeds.txt",
        tail.join("\n"),
        Plan::of(seed),
        findings.join("\n"),
        seed + 1,
    );
    report
}
