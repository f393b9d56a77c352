//! Runs the benchmark and reads its counts.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use crate::gate::{Baseline, Tools};

/// Without these the benchmark cannot run.
const NEEDS: &str = "counting needs valgrind (apt-get install valgrind) and gungraun-runner \
                     (cargo install --locked gungraun-runner --version 0.20.0)";

/// What gungraun says of one benchmark, as far as it is of interest here.
#[derive(Debug, Deserialize)]
struct Summary {
    module_path: String,
    id: String,
    profiles: Vec<serde_json::Value>,
}

/// Where the instructions are in a profile.
const INSTRUCTIONS: &str = "/data/total/metrics/Ir/values/new";

/// Counts every case.
pub(crate) fn count() -> anyhow::Result<Baseline> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let benchmark = Command::new(cargo)
        .args(["bench", "--quiet", "--locked", "--package", "relay-benches"])
        .args(["--features", "instructions", "--bench", "instructions"])
        // In one unit: where code is divided among several, a change anywhere moves what is inlined
        // elsewhere, by up to 6 % of a count.
        .env("CARGO_PROFILE_BENCH_CODEGEN_UNITS", "1")
        .env("CARGO_PROFILE_BENCH_LTO", "fat")
        .args(["--", "--output-format=json"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .context("could not run cargo")?;
    ensure!(benchmark.status.success(), NEEDS);
    let instructions = read(&String::from_utf8(benchmark.stdout)?)?;
    Ok(Baseline { made_with: tools()?, instructions })
}

/// Instructions by id, of one summary a line.
fn read(summaries: &str) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut counts = BTreeMap::new();
    for line in summaries.lines().filter(|line| !line.trim().is_empty()) {
        let summary: Summary = serde_json::from_str(line).context("not a summary of gungraun")?;
        let id = id(&summary);
        let profile = summary.profiles.iter().find(|profile| profile["tool"] == "Callgrind");
        let count = profile.and_then(|profile| profile.pointer(INSTRUCTIONS)?.as_u64());
        let count = count.with_context(|| format!("{id} was not counted"))?;
        ensure!(counts.insert(id.clone(), count).is_none(), "{id} was counted twice");
    }
    Ok(counts)
}

/// `instructions::mux::encode_data` with `full` is `mux/encode_data/full`.
fn id(summary: &Summary) -> String {
    let path = summary.module_path.split("::").skip(1);
    path.chain([&*summary.id]).collect::<Vec<_>>().join("/")
}

fn tools() -> anyhow::Result<Tools> {
    Ok(Tools {
        rustc: first_line("rustc", "--version")?,
        libc: first_line("getconf", "GNU_LIBC_VERSION")?,
        valgrind: first_line("valgrind", "--version")?,
        machine: std::env::consts::ARCH.to_owned(),
    })
}

fn first_line(program: &str, argument: &str) -> anyhow::Result<String> {
    let output = Command::new(program).arg(argument).output();
    let output = output.with_context(|| format!("could not run {program}"))?;
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(id: &str, tool: &str, count: u64) -> String {
        serde_json::json!({
            "module_path": "instructions::mux::encode_data", "id": id, "version": "7",
            "profiles": [{
                "tool": tool,
                "data": { "total": { "metrics": { "Ir": { "values": { "new": count } } } } },
            }],
        })
        .to_string()
    }

    #[test]
    fn counts_are_read_by_room_operation_and_parameter() {
        let two = [summary("full", "Callgrind", 7), summary("small", "Callgrind", 8)].join("\n");
        let counts = read(&two).expect("summaries");
        let expected = [("mux/encode_data/full", 7), ("mux/encode_data/small", 8)];
        assert!(counts.iter().map(|(id, count)| (&**id, *count)).eq(expected));
    }

    #[test]
    fn what_was_not_counted_or_counted_twice_is_an_error() {
        assert!(read(&summary("full", "DHAT", 7)).is_err());
        let twice = [summary("full", "Callgrind", 7), summary("full", "Callgrind", 7)].join("\n");
        assert!(read(&twice).is_err());
        assert!(read("no summary").is_err());
    }
}
