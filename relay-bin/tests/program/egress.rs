//! What is sent to clients is summed over crashes, and held against a threshold.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Response;
use serde_json::Value;

use crate::admin;
use crate::support::origin::{Origin, Said};
use crate::support::role::Role;
use crate::support::site::{HTTPS_ROLE, SERVICE, Site};

const GATEWAY: &str = "gateway-1/gateway.toml";

/// Octets of each answer.
const ANSWER: u64 = 3 << 20;

/// A site whose first instance has an `[egress]` with these keys.
fn site(home: &Path, origin: &Origin, keys: &str) -> Site {
    let site = Site::init_with(home, &["--backend", &format!("http://{}", origin.at)]);
    site.edit(GATEWAY, |text| format!("{text}\n[egress]\nthreshold_gibibytes = 1\n{keys}"));
    site
}

fn origin() -> Origin {
    Origin::start(|_| Response::new(Said::whole(vec![b'x'; usize::try_from(ANSWER).unwrap()])))
}

/// Has a client ask for an answer; returns what it printed in the end.
fn ask(site: &Site, clients: SocketAddr) -> String {
    let at = clients.port();
    let url = format!("https://{SERVICE}:{at}/CCM_Proxy_ServerAuth/{HTTPS_ROLE}/SMS_MP/list");
    let asked = Command::new(env!("CARGO_BIN_EXE_relay"))
        .args(["client", "request", "GET", &url, "--resolve", &format!("{SERVICE}:127.0.0.1")])
        .args(["--ca", site.ca().to_str().unwrap()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8_lossy(&asked.stderr).into_owned()
}

fn fortnight(gateway: &mut Role) -> Value {
    admin::json(&["status"], gateway.admin())["egress"]["fortnight"].clone()
}

/// Writes the sums of an instance that has sent so many octets in this hour.
pub(crate) fn have_sent(home: &Path, octets: u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let hour = now.as_secs() / Duration::from_hours(1).as_secs();
    let text = format!("{{\"version\":1,\"hours\":[[{hour},{octets}]]}}\n");
    fs::write(home.join("site/gateway-1/egress.json"), text).unwrap();
}

#[test]
fn sums_outlive_a_crash_and_go_on_from_what_was_kept() {
    let (home, origin) = (tempfile::tempdir().unwrap(), origin());
    let site = site(home.path(), &origin, "");
    let mut gateway = site.start_gateway(1);
    let [clients, links] = gateway.addresses();
    let mut point = site.start_connection_point(&[links]);
    gateway.wait_for_log("settings applied", 1);
    point.wait_for_log("settings published", 1);
    admin::json(&["log", "info,relay::egress=debug"], gateway.admin());
    ask(&site, clients);
    ask(&site, clients);

    // In the file, which the log tells.
    let kept = |line: String| -> u64 {
        serde_json::from_str::<Value>(&line).unwrap()["octets"].as_u64().unwrap()
    };
    let mut counts = 1..;
    let before = loop {
        let count = counts.next().unwrap();
        let octets = kept(gateway.wait_for_log("egress kept", count));
        if octets >= 2 * ANSWER {
            break octets;
        }
    };
    assert!(before < 2 * ANSWER + (64 << 10), "bodies and heads, and nothing twice: {before}");
    gateway.kill();
    let mut gateway = site.start_gateway(1);
    let after = fortnight(&mut gateway);
    println!("octets in 14 days: {before} before kill -9, {} after it", after["octets"]);
    assert_eq!((&after["octets"], &after["octets_kept"]), (&before.into(), &before.into()));
    assert_eq!((&after["level"], &after["percent"]), (&"calm".into(), &0.into()), "{after:#}");
    let since = &admin::json(&["status"], gateway.admin())["egress"]["octets_sent"];
    assert_eq!(since, &Value::from(0), "since its start it has sent nothing");
    let metrics = admin::get(gateway.admin(), "/metrics");
    for line in ["relay_egress_fortnight_bytes{} ", "relay_egress_threshold_bytes{} "] {
        assert!(metrics.contains(&format!("\n{line}")), "{metrics}");
    }
    for role in [point, gateway] {
        assert_eq!(role.stop().0, Some(0));
    }
}

#[test]
fn an_instance_that_has_sent_too_much_serves_nobody_if_that_is_wanted_and_says_so() {
    let (home, origin) = (tempfile::tempdir().unwrap(), origin());
    let site = site(home.path(), &origin, "stop_when_critical = true\n");
    // 90 % of 1 GiB, from the first octet on.
    have_sent(home.path(), (1_u64 << 30) / 10 * 9 + 10);
    let mut gateway = site.start_gateway(1);
    let [clients, links] = gateway.addresses();
    gateway.wait_for_log("egress of 14 days is critical", 1);
    let point = site.start_connection_point(&[links]);
    gateway.wait_for_log("\"message\":\"link up\"", 2);
    gateway.wait_for_log("settings applied", 1);
    let told = ask(&site, clients);
    assert!(told.contains("CMGService_Egress_Stopped"), "{told}");
    assert!(origin.seen().is_empty(), "nothing came to the site");
    let status = admin::json(&["status"], gateway.admin());
    assert_eq!(status["halted_by"][0], "egress", "{status:#}");
    assert_eq!(status["egress"]["fortnight"]["level"], "critical");
    assert_eq!(status["links"].as_array().unwrap().len(), 2, "links stay");
    let ready = admin::get(gateway.admin(), "/readyz");
    assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
    assert!(ready.ends_with("\r\n\r\nit has sent as much as it may in 14 days: see [egress]\n"));
    let metrics = admin::get(gateway.admin(), "/metrics");
    assert!(metrics.contains("\nrelay_halted{by=\"egress\"} 1"), "{metrics}");
    for role in [point, gateway] {
        assert_eq!(role.stop().0, Some(0));
    }
}

#[test]
fn an_instance_that_has_sent_too_much_serves_on_if_nobody_wants_it_to_stop() {
    let (home, origin) = (tempfile::tempdir().unwrap(), origin());
    let site = site(home.path(), &origin, "");
    have_sent(home.path(), 1 << 30);
    let mut gateway = site.start_gateway(1);
    let [clients, links] = gateway.addresses();
    let line = gateway.wait_for_log("egress of 14 days is critical", 1);
    assert!(line.contains("\"level\":\"ERROR\"") && line.contains("\"percent\":100"), "{line}");
    let point = site.start_connection_point(&[links]);
    gateway.wait_for_log("settings applied", 1);
    let told = ask(&site, clients);
    assert_eq!(origin.seen().len(), 1, "{told}");
    assert!(admin::get(gateway.admin(), "/readyz").starts_with("HTTP/1.1 200"));
    assert_eq!(point.stop().0, Some(0));
    assert_eq!(gateway.stop().0, Some(0));
    let text = fs::read_to_string(home.path().join("site/gateway-1/egress.json")).unwrap();
    let kept: Value = serde_json::from_str(&text).unwrap();
    let hours = kept["hours"].as_array().unwrap();
    let sum: u64 = hours.iter().map(|hour| hour[1].as_u64().unwrap()).sum();
    assert!(sum >= (1 << 30) + ANSWER, "what was sent last is kept at the end: {text}");
}

#[test]
fn a_file_that_holds_no_sums_keeps_an_instance_from_starting() {
    let (home, origin) = (tempfile::tempdir().unwrap(), origin());
    let _site = site(home.path(), &origin, "file = \"gateway.toml\"\n");
    let folder = home.path().join("site/gateway-1");
    let mut gateway = Command::new(env!("CARGO_BIN_EXE_relay"));
    gateway.args(["gateway", "--config", "gateway.toml"]).current_dir(folder);
    let failed = gateway.stdin(Stdio::null()).output().unwrap();
    assert_eq!(failed.status.code(), Some(1));
    let text = String::from_utf8_lossy(&failed.stderr);
    assert!(
        text.contains("which keeps the sums of [egress]; move it away to begin at 0"),
        "{text}"
    );
}
