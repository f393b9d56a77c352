//! A network namespace of the test's own, with a packet filter.

use std::process::{Command, Stdio};

/// Says in a test that it runs in a namespace of its own.
const INSIDE: &str = "RELAY_TEST_IN_NAMESPACE";

/// Runs the body of the test `name` in a network namespace of its own, which has loopback and
/// nothing else: the test's program is started once more there. Prints why if it cannot be.
pub(crate) fn inside(name: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    if let Some(why) = cannot() {
        println!("skipped: {why}");
        return;
    }
    let itself = std::env::current_exe().unwrap();
    let status = Command::new("unshare")
        .args(["--net", "--", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"])
        .arg(itself)
        .args([name, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{name} failed in its namespace");
}

/// Why a namespace cannot be had here.
fn cannot() -> Option<String> {
    let missing = super::missing(&[("nginx", "-v"), ("ip", "-V"), ("nft", "-v")]);
    if !missing.is_empty() {
        assert!(!super::tools_are_required(), "not installed: {missing:?}");
        return Some(format!("{missing:?} cannot be started; install them to run this test"));
    }
    let permitted = Command::new("unshare")
        .args(["--net", "--", "sh", "-c", "ip link set lo up && nft list ruleset"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let permitted = permitted.is_ok_and(|status| status.success());
    assert!(permitted || !super::tools_are_required(), "no network namespace can be made");
    (!permitted).then(|| "this account may not make network namespaces".to_owned())
}

/// Has the packet filter do what `rules` say of packets that arrive on loopback, and nothing else
/// of what it was told before.
pub(crate) fn filter(rules: &[String]) {
    let head = "flush ruleset\ntable inet test {\n  chain input {";
    let hook = "type filter hook input priority 0;";
    let table = format!("{head}\n    {hook}\n    {}\n  }}\n}}\n", rules.join("\n    "));
    let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(nft.stdin.as_mut().unwrap(), table.as_bytes()).unwrap();
    drop(nft.stdin.take());
    assert!(nft.wait().unwrap().success(), "nft does not take:\n{table}");
}
