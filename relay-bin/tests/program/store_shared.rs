//! Two connection points of one site, each its own process, that share a database.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use http::Response;
use serde_json::Value;

use crate::support::origin::{Origin, Said};
use crate::support::postgres::Postgres;
use crate::support::role::Role;
use crate::support::site::{HTTPS_ROLE, SERVICE, Site};

/// Folders of the two.
const POINTS: [&str; 2] = ["connection-point", "connection-point-2"];

/// Within which a block must hold everywhere.
const WITHIN: Duration = Duration::from_secs(5);

/// Everything that runs.
struct Bed {
    points: [Option<Role>; 2],
    _gateway: Role,
    clients: SocketAddr,
    _origin: Origin,
    site: Site,
    home: tempfile::TempDir,
    postgres: Postgres,
}

impl Bed {
    fn start() -> Option<Self> {
        let postgres = Postgres::start()?;
        postgres.make("site");
        let home = tempfile::tempdir().unwrap();
        let origin = Origin::start(|_| Response::new(Said::whole("the site")));
        let site = Site::init_with(home.path(), &["--backend", &format!("http://{}", origin.at)]);
        let mut gateway = site.start_gateway(1);
        let [clients, links] = gateway.addresses();
        site.dial(&[links]);
        let store = format!("folder = \"tokens\"\nstore = \"{}\"\n", postgres.url("site"));
        site.edit("connection-point/connection-point.toml", |text| {
            text.replace("unsafe_allow_anonymous = true\n", "")
                .replace("folder = \"tokens\"\n", &store)
                .replace("# version = 1\n", "version = 1\n")
        });
        site.add_connection_point();
        let points = POINTS.map(|folder| Some(site.start_connection_point_in(folder)));
        gateway.wait_for_log("\"message\":\"link up\"", 2);
        Some(Self { points, _gateway: gateway, clients, _origin: origin, site, home, postgres })
    }

    fn relay(&self, args: &[&str]) -> Output {
        let mut relay = Command::new(env!("CARGO_BIN_EXE_relay"));
        relay.args(args).current_dir(self.home.path()).stdin(Stdio::null()).output().unwrap()
    }

    /// `relay token` at one of the two.
    fn token(&self, point: usize, args: &[&str]) -> Value {
        let config = format!("site/{}/connection-point.toml", POINTS[point]);
        let done = self.relay(&[&["token"], args, &["--json", "--config", &config]].concat());
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
        serde_json::from_slice(&done.stdout).unwrap()
    }

    /// A token of one of the two, and its GUID.
    fn issue(&self, point: usize) -> (String, String) {
        let issued = self.token(point, &["new"]);
        let guid = issued["guid"].as_str().unwrap().to_owned();
        let file = self.home.path().join(&guid);
        fs::write(&file, issued["token"].as_str().unwrap()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        (guid, file.to_str().unwrap().to_owned())
    }

    /// Whether the gateway takes a bulk token to be one that is not blocked.
    fn counts(&self, token: &str) -> bool {
        let port = self.clients.port();
        let url = format!("https://{SERVICE}:{port}/CCM_Proxy_ServerAuth/{HTTPS_ROLE}/SMS_MP/x");
        let (ca, resolve) = (self.site.ca(), format!("{SERVICE}:127.0.0.1"));
        let way = ["--ca", ca.to_str().unwrap(), "--resolve", &resolve, "--token-file", token];
        let done = self.relay(&[&["client", "request", "GET", &url], &way[..]].concat());
        let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
        // It is good for registration, and not for this.
        let is_good = said.contains("CMGService_Registration_Only");
        assert!(is_good || said.contains("CMGService_Invalid_Token"), "{said}");
        is_good
    }

    /// Asks again and again, within the time that is promised.
    #[track_caller]
    fn wait_until(&self, token: &str, counts: bool) {
        let start = Instant::now();
        while self.counts(token) != counts {
            assert!(start.elapsed() < WITHIN, "it should be {counts} by now");
        }
    }

    fn restart(&mut self, point: usize) {
        drop(self.points[point].take());
        self.points[point] = Some(self.site.start_connection_point_in(POINTS[point]));
    }

    /// What one of the two says of itself.
    fn status(&mut self, point: usize) -> String {
        let admin = self.points[point].as_mut().unwrap().admin().to_string();
        let done = self.relay(&["status", "--admin", &admin]);
        String::from_utf8_lossy(&done.stdout).into_owned()
    }
}

fn own_keys(home: &Path, point: usize) -> Vec<u8> {
    fs::read(home.join("site").join(POINTS[point]).join("tokens/signing-1.pem")).unwrap()
}

#[test]
fn a_block_holds_while_the_connection_point_with_the_newest_file_is_gone() {
    let Some(mut bed) = Bed::start() else { return };
    let (first, first_token) = bed.issue(0);
    let (_, second_token) = bed.issue(0);
    bed.wait_until(&second_token, true);
    bed.site.edit("connection-point/connection-point.toml", |text| {
        text.replace("version = 1\n", "version = 2\n")
    });
    bed.restart(0);
    bed.points[0].as_mut().unwrap().wait_for_log("settings published", 1);
    drop(bed.points[0].take());
    bed.token(1, &["block", &first]);
    bed.wait_until(&first_token, false);
    assert!(bed.counts(&second_token));
}

#[test]
fn a_token_made_at_one_connection_point_and_blocked_at_the_other_is_refused_at_the_gateway() {
    let Some(mut bed) = Bed::start() else { return };
    let (first, first_token) = bed.issue(0);
    let (second, second_token) = bed.issue(1);
    let (_, third_token) = bed.issue(1);
    assert_ne!(own_keys(bed.home.path(), 0), own_keys(bed.home.path(), 1), "each has its own key");
    for token in [&first_token, &second_token, &third_token] {
        bed.wait_until(token, true);
    }
    bed.token(1, &["block", &first]);
    bed.wait_until(&first_token, false);
    bed.token(0, &["block", &second]);
    bed.wait_until(&second_token, false);
    assert!(bed.counts(&third_token));

    // Neither a connection point that starts nor a gateway that is told by either changes that.
    for point in [0, 1, 0, 1] {
        bed.restart(point);
        bed.points[point].as_mut().unwrap().wait_for_log("settings published", 1);
        let states = [&first_token, &second_token, &third_token].map(|it| bed.counts(it));
        assert_eq!(states, [false, false, true], "after a restart of {}", POINTS[point]);
    }
    bed.token(1, &["unblock", &first]);
    bed.wait_until(&first_token, true);

    // One key was stolen: nothing counts of it, wherever that is said.
    let signers = bed.token(0, &["signers"]);
    let others = signers["signers"].as_array().unwrap().iter().find(|it| it["own"] == false);
    bed.token(0, &["distrust", others.unwrap()["sha256"].as_str().unwrap()]);
    let start = Instant::now();
    for point in [0, 1] {
        // What a bulk token is for is judged before its signature, so the gateway shows nothing.
        while !bed.status(point).contains(", 1 signing certificates, ") {
            assert!(start.elapsed() < WITHIN, "{}", bed.status(point));
        }
    }

    // Without the database what was published holds, and everybody is told that nothing newer does.
    bed.postgres.crash();
    for point in [0, 1] {
        let role = bed.points[point].as_mut().unwrap();
        role.wait_for_log("blocks cannot be read or published", 1);
        let status = bed.status(point);
        assert!(status.contains("ARE NOT PUBLISHED: the site store postgres://"), "{status}");
    }
    assert!(bed.counts(&first_token) && !bed.counts(&second_token));
    bed.postgres.start_again();
    for point in &mut bed.points {
        point.as_mut().unwrap().wait_for_log("blocks can be read and published again", 1);
    }
    bed.token(1, &["block", &first]);
    bed.wait_until(&first_token, false);
    assert!(!bed.status(0).contains("ARE NOT PUBLISHED"));
}
