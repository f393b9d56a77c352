//! The file of a gateway instance that runs changes, and is read again.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Response;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::admin;
use crate::support::origin::{Origin, Said};
use crate::support::role::Role;
use crate::support::site::{HTTPS_ROLE, SERVICE, Site};

const FILE: &str = "gateway-1/gateway.toml";
const APPLIED: &str = "configuration applied, but for what takes effect at the next start";
const KEPT: &str = "nothing applied; what was before still holds";

/// A client that asks for a path of the management point.
fn client(site: &Site, clients: SocketAddr, path: &str) -> Command {
    let at = clients.port();
    let url = format!("https://{SERVICE}:{at}/CCM_Proxy_ServerAuth/{HTTPS_ROLE}/SMS_MP/{path}");
    let mut client = Command::new(env!("CARGO_BIN_EXE_relay"));
    client.args(["client", "request", "GET", &url, "--resolve", &format!("{SERVICE}:127.0.0.1")]);
    client.args(["--ca", site.ca().to_str().unwrap()]);
    client.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    client
}

/// Has an instance believe that it has sent so many octets in this hour.
fn have_sent(home: &Path, octets: u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let hour = now.as_secs() / Duration::from_hours(1).as_secs();
    let text = format!("{{\"version\":1,\"hours\":[[{hour},{octets}]]}}\n");
    fs::write(home.join("site/gateway-1/egress.json"), text).unwrap();
}

fn told(line: &str, field: &str) -> String {
    let line: Value = serde_json::from_str(line).unwrap();
    line[field].as_str().unwrap_or_else(|| panic!("no {field}: {line:#}")).to_owned()
}

/// Puts another file in its place at once, as most editors do.
fn put(home: &Path, text: &str) {
    let file = home.join("site").join(FILE);
    let beside = file.with_extension("swp");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, file).unwrap();
}

/// An instance of a fresh site, with a client whose answer never ends.
struct Bed {
    home: TempDir,
    site: Site,
    gateway: Role,
    point: Role,
    held: Child,
    /// The file as it is at the start.
    good: String,
    _origin: Origin,
}

impl Bed {
    fn start() -> Self {
        let (came, coming) = channel();
        let origin = Origin::start(move |asked| {
            if asked.line.contains("/held") {
                came.send(()).unwrap();
                return Response::new(Said::endless());
            }
            Response::new(Said::whole("the list"))
        });
        let home = tempfile::tempdir().unwrap();
        let site = Site::init_with(home.path(), &["--backend", &format!("http://{}", origin.at)]);
        site.edit(FILE, |text| format!("{text}\n[egress]\nthreshold_gibibytes = 1\n"));
        have_sent(home.path(), 1 << 30);
        let mut gateway = site.start_gateway(1);
        let [clients, links] = gateway.addresses();
        let mut point = site.start_connection_point(&[links]);
        gateway.wait_for_log("settings applied", 1);
        point.wait_for_log("settings published", 1);
        let held = client(&site, clients, "held").spawn().unwrap();
        coming.recv().unwrap();
        let good = fs::read_to_string(home.path().join("site").join(FILE)).unwrap();
        let mut bed = Self { home, site, gateway, point, held, good, _origin: origin };
        assert_eq!(bed.ask(), "");
        assert_eq!(bed.status(), json!({ "at_next_start": [], "fault": null }));
        bed
    }

    /// Has a client ask; returns what it printed of how that went.
    fn ask(&mut self) -> String {
        let [clients, _] = self.gateway.addresses();
        let asked = client(&self.site, clients, "list").output().unwrap();
        String::from_utf8_lossy(&asked.stderr).into_owned()
    }

    fn status(&mut self) -> Value {
        admin::json(&["status"], self.gateway.admin())["configuration"].clone()
    }

    fn put(&self, text: &str) {
        put(self.home.path(), text);
    }

    /// Puts another file in place, and asks for it to be read.
    fn put_and_ask(&self, text: &str) {
        self.put(text);
        self.gateway.signal("HUP");
    }

    /// The client still waits for the rest of its answer; ends all.
    fn end(mut self) {
        assert!(self.held.try_wait().unwrap().is_none(), "what is in flight lives on");
        self.held.kill().unwrap();
        self.held.wait().unwrap();
        for role in [self.point, self.gateway] {
            assert_eq!(role.stop().0, Some(0));
        }
    }
}

#[test]
fn what_can_change_changes_for_new_requests_and_what_waits_for_a_start_is_named() {
    let mut bed = Bed::start();
    // Unasked.
    bed.put(&(bed.good.clone() + "stop_when_critical = true\n"));
    let line = bed.gateway.wait_for_log(APPLIED, 1);
    assert_eq!(told(&line, "changed"), "egress.stop_when_critical: not there -> true");
    assert_eq!(told(&line, "at_next_start"), "");
    bed.gateway.wait_for_log("halted: new requests are answered 503", 1);
    let refused = bed.ask();
    assert!(refused.contains("CMGService_Egress_Stopped"), "{refused}");
    assert!(bed.held.try_wait().unwrap().is_none(), "what is in flight lives on");

    // Asked for.
    let elsewhere = bed.good.replacen("listen = \"127.0.0.1:0\"", "listen = \"127.0.0.1:1\"", 1);
    let elsewhere = elsewhere.replace("# idle_seconds = 60", "idle_seconds = 61");
    let memory = ("# memory_mebibytes_max = 4096", "memory_mebibytes_max = 4321");
    bed.put_and_ask(&elsewhere.replace(memory.0, memory.1));
    let line = bed.gateway.wait_for_log("limits.idle_seconds: not there -> 61", 1);
    let changed = told(&line, "changed");
    for change in [
        "clients.listen: \"127.0.0.1:0\" -> \"127.0.0.1:1\"",
        "egress.stop_when_critical: true -> not there",
        "limits.memory_mebibytes_max: not there -> 4321",
    ] {
        assert!(changed.contains(change), "{changed}");
    }
    assert_eq!(told(&line, "at_next_start"), "clients.listen");
    bed.gateway.wait_for_log(&format!("\"max\":{}", 4321_u64 << 20), 1);
    bed.gateway.wait_for_log("no longer halted by this", 1);
    assert_eq!(bed.ask(), "", "where it was before");
    assert_eq!(bed.status()["at_next_start"], json!(["clients.listen"]));
    bed.end();
}

#[test]
fn a_file_that_cannot_be_used_changes_nothing_and_every_fault_of_it_is_shown_until_it_can() {
    let mut bed = Bed::start();
    let quic = bed.good.replace("# quic = true", "quic = true");
    let quic = quic.replace("# idle_seconds = 60", "idle_seconds = 61");
    bed.put_and_ask(&quic);
    bed.gateway.wait_for_log(APPLIED, 1);
    bed.put_and_ask(&quic.replace("= 61", "= 0").replace("instance = 1", "instance = 17"));
    let why = told(&bed.gateway.wait_for_log(KEPT, 1), "why");
    let shown = bed.status();
    for fault in ["`idle_seconds` is 0, which is not 1 to 3600", "instance 17 does not exist"] {
        assert!(why.contains(fault), "{why}");
        assert!(shown["fault"].as_str().unwrap().contains(fault), "{shown:#}");
    }
    assert_eq!(shown["at_next_start"], json!(["links.quic"]), "as before");
    let text = admin::ask(&["status"], bed.gateway.admin());
    for line in [
        "changed on disk, takes effect at the next start: links.quic\n",
        "THE FILE ON DISK CANNOT BE USED, what was before holds:\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
    assert_eq!(bed.ask(), "");

    bed.put_and_ask(&bed.good);
    bed.gateway.wait_for_log("limits.idle_seconds: 61 -> not there", 1);
    assert_eq!(bed.status(), json!({ "at_next_start": [], "fault": null }));
    bed.end();
}

#[test]
fn of_a_burst_of_changes_the_last_one_holds_and_none_is_told_twice() {
    let home = tempfile::tempdir().unwrap();
    let site = Site::init_with(home.path(), &["--backend", "http://127.0.0.1:9"]);
    let mut gateway = site.start_gateway(1);
    let good = fs::read_to_string(home.path().join("site").join(FILE)).unwrap();
    let last = 160;
    for idle in 101..=last {
        put(home.path(), &good.replace("# idle_seconds = 60", &format!("idle_seconds = {idle}")));
        gateway.signal("HUP");
    }
    gateway.wait_for_log(&format!("-> {last}\""), 1);
    let (status, printed) = gateway.stop();
    assert_eq!(status, Some(0));
    let mut holds = "not there".to_owned();
    for line in printed.iter().filter(|line| line.contains(APPLIED)) {
        let changed = told(line, "changed");
        let Some(change) = changed.strip_prefix("limits.idle_seconds: ") else {
            assert_eq!(changed, "", "a signal that came when all was read");
            continue;
        };
        let (before, now) = change.split_once(" -> ").unwrap();
        assert_eq!(before, holds, "each change begins where the last one ended");
        now.clone_into(&mut holds);
    }
    assert_eq!(holds, last.to_string());
    assert!(!printed.iter().any(|line| line.contains(KEPT)), "no half of a file was read");
}
