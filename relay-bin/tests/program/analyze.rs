//! `relay analyze` against a site of two instances: nothing is broken, or one layer is.

mod bed;
mod broken;
mod ends;
mod shown;

use std::process::Command;

use serde_json::Value;

use bed::Bed;

/// Runs `relay analyze` in a folder, for JSON. Returns the exit status and the analysis.
fn analyze(home: &std::path::Path, args: &[&str]) -> (i32, Value) {
    let done = Command::new(env!("CARGO_BIN_EXE_relay"))
        .arg("analyze")
        .args(args)
        .arg("--json")
        .current_dir(home)
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr));
    let err = err.unwrap();
    for secret in [bed::SECRET, "PRIVATE KEY", "eyJ"] {
        assert!(!out.contains(secret) && !err.contains(secret), "{out}{err}");
    }
    let analysis = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{args:?}: {out}{err}"));
    (done.status.code().unwrap(), analysis)
}

/// Verdicts of the six checks in a row: `p`, `f` or `s`.
fn verdicts(analysis: &Value) -> String {
    let checks = analysis["checks"].as_array().unwrap();
    checks.iter().map(|check| &check["verdict"].as_str().unwrap()[..1]).collect()
}

/// Holds an analysis against what it should be: the verdicts, and the causes by name. Also that it
/// is whole: each check says what was seen, or why not; each cause says what to do.
#[track_caller]
fn expect((status, analysis): &(i32, Value), expected: &str, causes: &[&str]) {
    assert_eq!(verdicts(analysis), expected, "{analysis:#}");
    let (ends, verdict) = if expected.contains('f') { (1, "fail") } else { (0, "pass") };
    assert_eq!((*status, analysis["verdict"].as_str().unwrap()), (ends, verdict));
    let mut found: Vec<&str> = Vec::new();
    for (number, check) in (1..).zip(analysis["checks"].as_array().unwrap()) {
        assert_eq!(check["number"], number);
        let is_skipped = check["verdict"] == "skipped";
        assert_eq!(is_skipped, check["skipped"]["because"].is_string(), "{check:#}");
        assert!(is_skipped || !check["evidence"].as_array().unwrap().is_empty(), "{check:#}");
        for cause in check["causes"].as_array().unwrap() {
            for member in ["means", "next"] {
                assert!(cause[member].as_str().is_some_and(|text| text.len() > 10), "{cause:#}");
            }
            let id = cause["id"].as_str().unwrap();
            if !found.contains(&id) {
                found.push(id);
            }
        }
    }
    assert_eq!(found, causes, "{analysis:#}");
}

/// Which check each skipped one waits for; 0 if it was skipped by choice.
fn waits(analysis: &Value) -> Vec<(u64, u64)> {
    let checks = analysis["checks"].as_array().unwrap().iter();
    let skipped = checks.filter(|check| check["verdict"] == "skipped");
    skipped
        .map(|it| {
            let on = it["skipped"]["depends_on"].as_u64().unwrap_or_default();
            (it["number"].as_u64().unwrap(), on)
        })
        .collect()
}
