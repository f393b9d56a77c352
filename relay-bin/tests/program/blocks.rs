//! `relay token block` at a site with a store in SQLite and two gateway instances, each its own
//! process: clients ask both, and each says when it takes a block to be in force.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use http::Response;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::origin::{Origin, Said};
use crate::support::role::Role;
use crate::support::site::{HTTPS_ROLE, SERVICE, Site};

/// Within which a block, or its end, must hold everywhere once it is acknowledged.
const WITHIN: Duration = Duration::from_secs(5);

/// What a good bulk token is told that is shown for traffic, and what a blocked one is told.
const GOOD_BULK: &str = "CMGService_Registration_Only";
const INVALID: &str = "CMGService_Invalid_Token";

/// A site with two instances.
struct Bed {
    home: TempDir,
    site: Site,
    origin: Origin,
    _point: Role,
    _gateways: [Role; 2],
    clients: [SocketAddr; 2],
}

impl Bed {
    fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let origin = Origin::start(|_| Response::new(Said::whole("from the site")));
        let site = Site::init_with(home.path(), &["--backend", &format!("http://{}", origin.at)]);
        site.edit("connection-point/connection-point.toml", |text| {
            text.replace("unsafe_allow_anonymous = true\n", "")
        });
        let mut gateways = [1, 2].map(|number| site.start_gateway(number));
        let addresses = gateways.each_mut().map(Role::addresses);
        let point = site.start_connection_point(&addresses.map(|[_, links]| links));
        for gateway in &mut gateways {
            gateway.wait_for_log("settings applied", 1);
        }
        let clients = addresses.map(|[clients, _]| clients);
        Self { home, site, origin, _point: point, _gateways: gateways, clients }
    }

    fn relay(&self, args: &[&str]) -> Output {
        let mut relay = Command::new(env!("CARGO_BIN_EXE_relay"));
        relay.args(args).current_dir(self.home.path()).stdin(Stdio::null()).output().unwrap()
    }

    fn token(&self, args: &[&str]) -> Value {
        let config = ["--json", "--config", "site/connection-point/connection-point.toml"];
        let done = self.relay(&[&["token"], args, &config].concat());
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
        serde_json::from_slice(&done.stdout).unwrap()
    }

    /// `relay client` at an instance; its report.
    fn client(&self, instance: usize, what: &str, role: u64, rest: &[&str]) -> Value {
        let port = self.clients[instance].port();
        let path = if what == "request" { "/SMS_MP/x" } else { "" };
        let url = format!("https://{SERVICE}:{port}/CCM_Proxy_ServerAuth/{role}{path}");
        let (ca, resolve) = (self.site.ca(), format!("{SERVICE}:127.0.0.1"));
        let way = ["--ca", ca.to_str().unwrap(), "--resolve", &resolve, "--json"];
        let verb = if what == "request" { &["request", "GET", &url][..] } else { &[what, &url] };
        let done = self.relay(&[&["client"], verb, rest, &way].concat());
        serde_json::from_slice(&done.stdout).unwrap()
    }

    /// The reason for which an instance refuses who shows this; empty if it does not.
    fn told(&self, instance: usize, shows: &[&str]) -> String {
        let report = self.client(instance, "request", HTTPS_ROLE, shows);
        report["reason"].as_str().unwrap_or_default().to_owned()
    }

    /// Asks both instances again and again until each says `reason`. What is asked after the time
    /// that is promised, must be told that.
    #[track_caller]
    fn wait_until(&self, since: Instant, shows: &[&str], reason: &str) {
        for instance in [0, 1] {
            loop {
                let asked_after = since.elapsed();
                let told = self.told(instance, shows);
                if told == reason {
                    break;
                }
                let instance = instance + 1;
                assert!(asked_after < WITHIN, "instance {instance} still says `{told}`");
            }
        }
    }
}

#[test]
fn a_block_is_in_force_on_every_instance_within_five_seconds_and_so_is_its_end() {
    let bed = Bed::start();
    assert!(!bed.home.path().join("site/connection-point/tokens").exists());
    let issued = bed.token(&["new"]);
    let first_signer = Instant::now();
    let bulk = bed.home.path().join("bulk.token");
    fs::write(&bulk, issued["token"].as_str().unwrap()).unwrap();
    fs::set_permissions(&bulk, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(bed.home.path().join("site/connection-point/tokens/site.db").exists());
    let (by_bulk, own) = (["--token-file", "bulk.token"], ["--folder", "me"]);
    bed.wait_until(first_signer, &by_bulk, GOOD_BULK);
    let registered = bed.client(0, "register", HTTPS_ROLE + 1, &[&own[..], &by_bulk[..]].concat());
    assert_eq!(registered["outcome"], "answered", "{registered:#}");
    for instance in [0, 1] {
        assert_eq!(bed.told(instance, &own), "", "registered at one, and known at both");
    }
    let served = bed.origin.seen().len();

    // The token of many, and the client of one: each has its own GUID.
    let guid = |value: &Value, name: &str| value[name].as_str().unwrap().to_owned();
    let (bulk, client) = (guid(&issued, "guid"), guid(&registered, "client_id"));
    for (blocked, shows, good) in [(&bulk, &by_bulk, GOOD_BULK), (&client, &own, "")] {
        bed.token(&["block", blocked]);
        bed.wait_until(Instant::now(), shows, INVALID);
        for instance in [0, 1] {
            assert_eq!(bed.told(instance, shows), INVALID, "and it stays so");
        }
        bed.token(&["unblock", blocked]);
        bed.wait_until(Instant::now(), shows, good);
    }
    // By the client: before its block was in force, and once it was over.
    let more = bed.origin.seen().len() - served;
    assert!(more >= 2, "{more}");
}
