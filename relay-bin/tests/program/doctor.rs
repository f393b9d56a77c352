//! `relay doctor`: the bundle about a role that runs, one that is down, and one whose file is
//! broken. That no secret is in it is held where all secrets are: see `secrets`.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::site::{SERVICE, Site};

/// Members of every bundle.
const MEMBERS: [&str; 9] = [
    "version.txt",
    "configuration.toml",
    "check.txt",
    "expiry.txt",
    "status.json",
    "process.txt",
    "hosts.txt",
    "machine.txt",
    "files.txt",
];

/// Name and text of each member of a bundle.
pub(crate) fn members(bundle: &Path) -> Vec<(String, String)> {
    let octets = fs::read(bundle).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&octets[..]));
    let members = archive.entries().unwrap().map(|member| {
        let mut member = member.unwrap();
        assert_eq!(member.header().mode().unwrap(), 0o600);
        let path = member.path().unwrap();
        let name = path.strip_prefix("relay-doctor").unwrap().to_str().unwrap().to_owned();
        let mut text = String::new();
        member.read_to_string(&mut text).unwrap();
        (name, text)
    });
    members.collect()
}

fn text<'a>(members: &'a [(String, String)], name: &str) -> &'a str {
    let found = members.iter().find(|it| it.0 == name);
    &found.unwrap_or_else(|| panic!("no {name}: {members:#?}")).1
}

fn doctor(home: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relay"));
    command.arg("doctor").args(args).current_dir(home).stdin(Stdio::null()).output().unwrap()
}

/// Has a bundle made; what is in it, and what is said.
#[track_caller]
fn bundle(home: &Path, args: &[&str], name: &str) -> (Vec<(String, String)>, String) {
    let done = doctor(home, &[args, &["--output", name]].concat());
    let said = String::from_utf8(done.stdout).unwrap();
    let complaint = String::from_utf8(done.stderr).unwrap();
    assert_eq!((done.status.code(), complaint.as_str()), (Some(0), ""), "{said}");
    let file = home.join(name);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let members = members(&file);
    for name in MEMBERS {
        assert!(!text(&members, name).is_empty(), "{name}");
    }
    let summary = text(&members, "summary.txt");
    let (_, looks) = summary.split_once("\n\n").unwrap();
    assert!(said.trim_end().ends_with(looks.trim_end()), "{said}");
    (members, said)
}

fn site(home: &Path) -> Site {
    Site::init_with(home, &["--backend", "http://127.0.0.1:9"])
}

const GATEWAY: &str = "site/gateway-1/gateway.toml";

#[test]
fn a_bundle_tells_of_a_role_that_runs_and_of_one_that_is_down_what_can_be_told() {
    let home = tempfile::tempdir().unwrap();
    let (site, home) = (site(home.path()), home.path());
    let mut gateway = site.start_gateway(1);
    let admin = gateway.admin().to_string();
    let log = "{\"level\":\"INFO\"}\n{\"level\":\"ERROR\",\"message\":\"it broke\"}\n";
    fs::write(home.join("gateway.log"), log).unwrap();
    let args = ["--config", GATEWAY, "--admin", &admin, "--log", "gateway.log"];

    let (members, said) = bundle(home, &args, "up.tar.gz");
    let status: Value = serde_json::from_str(text(&members, "status.json")).unwrap();
    assert_eq!((&status["role"], &status["instance"]), (&"gateway".into(), &1.into()));
    assert!(text(&members, "metrics.txt").contains("\nrelay_"), "{members:#?}");
    assert!(text(&members, "readyz.txt").contains("no link"), "{members:#?}");
    assert!(text(&members, "process.txt").contains("Max open files"), "{members:#?}");
    assert!(text(&members, "machine.txt").contains("/proc/sys/net/core/somaxconn"));
    assert!(text(&members, "configuration.toml").contains("\nservice = \"relay.example\"\n"));
    assert!(text(&members, "check.txt").contains("gateway.toml can be used"));
    assert!(text(&members, "expiry.txt").contains("server certificate"), "{members:#?}");
    assert!(text(&members, "files.txt").contains("clients-key.pem"), "{members:#?}");
    assert_eq!(text(&members, "log.txt"), log);
    for looks_wrong in ["the role is not ready: ", "has 1 errors; the last: ", "  next: "] {
        assert!(said.contains(looks_wrong), "{looks_wrong}: {said}");
    }

    assert_eq!(gateway.stop().0, Some(0));
    let (members, said) = bundle(home, &args, "down.tar.gz");
    assert!(text(&members, "status.json").starts_with("not there: no role answers at "));
    assert!(text(&members, "process.txt").starts_with("no process of this machine"));
    assert!(text(&members, "check.txt").contains("gateway.toml can be used"));
    assert!(said.contains("the role does not answer: "), "{said}");
}

#[test]
fn a_file_that_is_broken_is_told_with_its_fault_and_certificates_are_found_by_their_names() {
    let home = tempfile::tempdir().unwrap();
    let (site, home) = (site(home.path()), home.path());
    site.edit("gateway-1/gateway.toml", |text| {
        let text = text.replace("127.0.0.1:0\"\n# What", "127.0.0.1:1\"\n# What");
        text.replace("instance = 1\n", "instance = = 1\nadmin_password = \"hunter2hunter2\"\n")
    });
    let (members, said) = bundle(home, &["--config", GATEWAY], "broken.tar.gz");
    let shown = text(&members, "configuration.toml");
    assert!(shown.contains("\ninstance = = 1\nadmin_password = \"[veiled]\"\n"), "{shown}");
    let written = fs::read_to_string(home.join(GATEWAY)).unwrap();
    let line = |text: &str| text.lines().position(|line| line == "instance = = 1");
    assert_eq!(line(shown), line(&written), "a fault's line is the file's");
    assert!(text(&members, "check.txt").contains("gateway.toml:"), "{members:#?}");
    assert!(text(&members, "expiry.txt").contains("CN=gateway-1.relay.example"), "{members:#?}");
    assert!(said.contains("the configuration cannot be used: "), "{said}");
    assert!(members.iter().all(|it| !it.1.contains("hunter2")), "{members:#?}");
}

#[test]
fn a_connection_point_tells_the_clock_of_each_instance_that_answers() {
    let home = tempfile::tempdir().unwrap();
    let (site, home) = (site(home.path()), home.path());
    let mut gateway = site.start_gateway(1);
    let [clients, links] = gateway.addresses();
    site.dial(&[links]);
    site.edit("connection-point/connection-point.toml", |text| {
        let https = format!("https_port = {}\nhttps_name = \"{SERVICE}\"\n", clients.port());
        text.replace("[[gateway]]\n", &format!("[[gateway]]\n{https}"))
    });
    let config = ["--config", "site/connection-point/connection-point.toml"];
    let (members, said) = bundle(home, &config, "up.tar.gz");
    let clock = text(&members, "clock.txt");
    assert!(clock.starts_with("the clock of instance 1: "), "{clock}");
    assert!(clock.ends_with(" s ahead of this one\n"), "{clock}");
    assert!(!said.contains("the clock of instance"), "it is the same clock: {said}");
    assert!(text(&members, "expiry.txt").contains("link certificate"), "{members:#?}");
    assert_eq!(gateway.stop().0, Some(0));
    let (members, _) = bundle(home, &config, "down.tar.gz");
    let clock = text(&members, "clock.txt");
    assert!(clock.starts_with("the clock of instance 1: not known: "), "{clock}");
}

#[test]
fn a_bundle_replaces_nothing_and_leaves_nothing_half_written_on_a_full_disk() {
    let home = tempfile::tempdir().unwrap();
    let (_site, home) = (site(home.path()), home.path());
    fs::create_dir(home.join("out")).unwrap();
    let args = ["--config", GATEWAY, "--output", "out/b.tar.gz"];
    // A file that may have no more than so many octets ends as a disk does that is full.
    let done = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_relay")])
        .arg("doctor")
        .args(args)
        .current_dir(home)
        .output()
        .unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!((done.status.code(), done.stdout.len()), (Some(1), 0), "{said}");
    assert!(said.starts_with("error: cannot write out/b.tar.gz: "), "{said}");
    assert_eq!(fs::read_dir(home.join("out")).unwrap().count(), 0);

    fs::write(home.join("out/b.tar.gz"), "mine").unwrap();
    let done = doctor(home, &args);
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.starts_with("error: out/b.tar.gz exists; nothing was written"), "{said}");
    assert_eq!(fs::read_to_string(home.join("out/b.tar.gz")).unwrap(), "mine");
}

#[test]
fn a_command_line_that_cannot_be_followed_writes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let (_site, home) = (site(home.path()), home.path());
    let before = fs::read_dir(home).unwrap().count();
    for wrong in [
        &["--config", "absent.toml"][..],
        &["--config", GATEWAY, "--log", "absent.log"],
        &["--config", GATEWAY, "--log", "site"],
        &["--config", GATEWAY, "--output", "-"],
        &["--config", GATEWAY, "--admin", "here"],
        &[],
    ] {
        let done = doctor(home, wrong);
        assert_eq!((done.status.code(), done.stdout.len()), (Some(2), 0), "{wrong:?}: {done:?}");
    }
    assert_eq!(fs::read_dir(home).unwrap().count(), before);
}
