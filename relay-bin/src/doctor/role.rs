//! The role itself: what it says over its admin listener, and the process that it is.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use http::StatusCode;
use serde_json::Value;

use super::PROOF;
use super::bundle::Bundle;
use super::finding::{Finding, Findings};
use super::machine;
use super::veil::Veil;
use crate::admin::told_at;

/// What is asked, and what it is called in the bundle.
const ASKED: [(&str, &str, &str); 3] = [
    ("/status.json", "status.json", "links, settings, traffic, counts of the running role"),
    ("/metrics", "metrics.txt", "what Prometheus reads of it"),
    ("/readyz", "readyz.txt", "whether it should be sent requests, and why not"),
];

/// Adds what the role at `admin` says, or why it says nothing.
pub(super) async fn ask(
    admin: Result<SocketAddr, String>,
    veil: &Veil,
    bundle: &mut Bundle,
    findings: &mut Findings,
) {
    let at = match admin {
        Ok(at) => at,
        Err(why) => {
            findings.add(Finding::new(
                "the running role was not asked: where it is administered is not known",
                "give the address that it said at its start as --admin; [admin] in the file says \
                 where it listens",
            ));
            bundle.add(veil, "status.json", ASKED[0].2, &not_asked(&why));
            return;
        }
    };
    for (path, name, what) in ASKED {
        match told_at(at, path).await {
            Ok((status, body)) => {
                judge(path, status, &body, findings);
                let text = String::from_utf8_lossy(&body);
                let text = match serde_json::from_slice::<Value>(&body) {
                    // A line for each member, so that a cut leaves what can be read.
                    Ok(json) if path == "/status.json" => format!("{json:#}\n"),
                    _ => text.into_owned(),
                };
                bundle.add(veil, name, what, &text);
            }
            Err(why) => {
                findings.add(Finding::new(
                    format!("the role does not answer: {why:#}"),
                    "start it, or see why it ended: `journalctl -u relay-gateway` or `journalctl \
                     -u relay-connection-point`; give its log as --log",
                ));
                bundle.add(veil, name, what, &not_asked(&format!("{why:#}")));
                // Whoever does not answer once is not waited for again.
                return;
            }
        }
    }
}

fn not_asked(why: &str) -> String {
    format!("not there: {why}\n")
}

fn judge(path: &str, status: StatusCode, body: &[u8], findings: &mut Findings) {
    if !status.is_success() && path != "/readyz" {
        findings.add(Finding::new(
            format!("what is asked for {path} answers {status}"),
            "is it the admin listener of a relay? see [admin] in the file",
        ));
    }
    if path == "/readyz" && status == StatusCode::SERVICE_UNAVAILABLE {
        let reasons = String::from_utf8_lossy(body).trim().replace('\n', "; ");
        findings.add(Finding::new(
            format!("the role is not ready: {reasons}"),
            "`relay status` says which link is not up and why; `relay analyze` looks at the way",
        ));
    }
    let Ok(told) = serde_json::from_slice::<Value>(body) else { return };
    if let Some(fault) = told["configuration"]["fault"].as_str() {
        let first = fault.lines().next().unwrap_or_default();
        findings.add(Finding::new(
            format!("the running role holds to what it read before: {first}"),
            "`relay check` the file; the role reads it again by itself",
        ));
    }
    if told["version"].as_str().is_some_and(|it| it != env!("CARGO_PKG_VERSION")) {
        findings.add(Finding::new(
            format!("the role that runs is version {}, this program another", told["version"]),
            "start the role again, so that it runs what is installed",
        ));
    }
}

/// Adds limits, memory and state of each process that runs with this file.
// Source: proc(5). Elsewhere than on Linux there are none to be found.
pub(super) fn processes(file: &Path, veil: &Veil, bundle: &mut Bundle) {
    let mut text = String::new();
    for process in find(file) {
        writeln!(text, "== {} ==", process.display()).expect(PROOF);
        for part in ["status", "limits", "cgroup", "net/sockstat"] {
            machine::push_file(&mut text, &process.join(part));
        }
        let open = fs::read_dir(process.join("fd")).map(Iterator::count);
        let open = open.map_or_else(|error| error.to_string(), |count| count.to_string());
        writeln!(text, "descriptors open: {open}").expect(PROOF);
        machine::push_groups(&mut text, &process.join("cgroup"));
    }
    if text.is_empty() {
        text.push_str("no process of this machine that can be seen runs with this file\n");
    }
    bundle.add(veil, "process.txt", "limits and memory of the role's process", &text);
}

/// Processes whose command line names this file.
fn find(file: &Path) -> Vec<PathBuf> {
    let Ok(file) = fs::canonicalize(file) else { return Vec::new() };
    let Ok(all) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = all.filter_map(Result::ok).filter(|it| {
        it.file_name().to_str().is_some_and(|name| name.bytes().all(|it| it.is_ascii_digit()))
    });
    let mut found: Vec<_> =
        numbers.map(|it| it.path()).filter(|process| runs_with(process, &file)).collect();
    found.sort();
    found
}

fn runs_with(process: &Path, file: &Path) -> bool {
    let Ok(line) = fs::read(process.join("cmdline")) else { return false };
    let line = String::from_utf8_lossy(&line);
    let words: Vec<_> = line.split('\0').collect();
    let is_role = words.iter().any(|it| matches!(*it, "gateway" | "connection-point"));
    let cwd = process.join("cwd");
    let is_it = |word: &&str| {
        let path = word.strip_prefix("--config=").unwrap_or(word);
        !path.is_empty() && fs::canonicalize(cwd.join(path)).is_ok_and(|it| it == file)
    };
    is_role && words.iter().any(is_it)
}
