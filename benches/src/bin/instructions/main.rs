//! Counts instructions and holds the counts against the committed baseline.
//!
//! Runs the benchmark of the same name under callgrind, through gungraun, which needs `valgrind`
//! and `gungraun-runner`. gungraun could compare with profiles that it keeps, but those are large
//! and belong to one machine; so only the counts are committed, in `benches/baselines`, and
//! [`gate`] says what may differ. `--update` writes them anew.
//!
//! Read [`gate`] first. Where the counts come from is in [`count`].

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Parser;
use serde::Serialize;

mod count;
mod gate;

use gate::{Baseline, Row, Verdict};

/// What is asked of the program.
#[derive(Debug, Parser)]
#[command(about = "Counts instructions and holds them against the committed baseline")]
struct Options {
    /// Makes the counts of this run the baseline
    #[arg(long)]
    update: bool,
    /// Also writes every figure to this file, for tracking over time
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("baselines/instructions.json");
    let now = count::count()?;
    if options.update {
        write(&path, &now)?;
    }
    let text = std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
    let baseline: Baseline = serde_json::from_str(&text).context("the baseline is not one")?;
    let rows = gate::compare(&baseline, &now);
    print(&rows);
    if let Some(path) = &options.json {
        write(path, &gate::figures(&now, &rows))?;
    }
    judge(&rows, &baseline, &now)
}

fn write(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let json = serde_json::to_string_pretty(value)? + "\n";
    std::fs::write(path, json).with_context(|| format!("could not write {}", path.display()))
}

fn print(rows: &[Row]) {
    println!("{:<34}{:>13}{:>13}{:>9}", "instructions", "baseline", "now", "change");
    for row in rows {
        let figure = |count: Option<u64>| count.map_or_else(|| "-".into(), |it| it.to_string());
        let (id, before, now) = (&row.id, figure(row.baseline), figure(row.now));
        let change = row.permille().map_or_else(|| "-".into(), percent);
        print!("{id:<34}{before:>13}{now:>13}{change:>9}");
        if let Some((per_unit, unit)) = row.per_unit() {
            print!("  {per_unit:>6} per {unit}");
        }
        println!("{}", row.verdict().remark());
    }
}

fn percent(permille: i64) -> String {
    let sign = if permille < 0 { '-' } else { '+' };
    let size = permille.unsigned_abs();
    format!("{sign}{}.{} %", size / 10, size % 10)
}

fn judge(rows: &[Row], baseline: &Baseline, now: &Baseline) -> anyhow::Result<()> {
    let of = |verdict: Verdict| rows.iter().filter(|row| row.verdict() == verdict).count();
    if of(Verdict::Cheaper) > 0 {
        println!("Cheaper by more than 5 %: keep it so, update the baseline.");
    }
    let failed = rows.iter().filter(|row| row.verdict().fails()).count();
    if failed == 0 {
        return Ok(());
    }
    if baseline.made_with != now.made_with {
        println!("The baseline was made with {}", baseline.made_with);
        println!("This run was made with     {}", now.made_with);
        println!("Counts of other tools differ: update the baseline on the commit before yours.");
    }
    bail!("{failed} of {} counts do not hold; if they are meant: --update", rows.len());
}
