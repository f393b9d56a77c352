//! `relay demo` as whoever tries the relay runs it, from its start to its verdict.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

/// Steps without which it proves little of whose requests are relayed.
const STEPS: [&str; 14] = [
    "connected",
    "register",
    "renew",
    "no credential",
    "bulk token",
    "stolen token",
    "forged token",
    "policy",
    "message",
    "update",
    "upload",
    "download",
    "held",
    "block",
];

#[test]
fn the_demonstration_passes_every_step_as_a_client_that_registered_by_a_bulk_token() {
    let home = tempfile::tempdir().unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_relay"))
        .args(["demo", "--json"])
        .current_dir(home.path())
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&done.stdout).unwrap_or_default();
    let steps = report["steps"].as_array();
    let steps = steps.unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&done.stderr)));
    let failed: Vec<_> = steps.iter().filter(|it| it["passed"] != true).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!((done.status.code(), &report["passed"]), (Some(0), &true.into()));
    let of = |name: &str| steps.iter().find(|it| it["step"] == name);
    for name in STEPS {
        assert!(of(name).is_some(), "no step is called `{name}`: {report:#}");
    }
    let text = |name: &str, field: &str| of(name).unwrap()[field].as_str().unwrap().to_owned();
    assert_eq!(text("register", "asked"), "CCM_POST CCM_STS/register, by a bulk token");
    assert_eq!(text("register", "answer"), "200 OK");
    // Nobody is let in who has not: the demonstration's site has no endpoint for anybody.
    assert_eq!(text("connected", "answer"), "401 CMGService_No_Credential");
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0, "it leaves nothing behind");
}
