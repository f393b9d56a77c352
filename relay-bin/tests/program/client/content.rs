//! Content: put into an instance's folder, granted on the site, downloaded by a registered client.

use sha2::{Digest as _, Sha256};

use super::*;
use crate::support::{missing, octets, tools_are_required};

const TABLE: &str = "\n[content]\nfolder = \"files\"\n";
pub(super) const POINT: &str = "connection-point/connection-point.toml";

/// `relay content` in the site's folder, which must end with `status`.
pub(super) fn content(relay: &Relay, args: &[&str], status: i32) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relay"));
    let command = command.arg("content").args(args).current_dir(relay.path("site"));
    let done = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(status), "{args:?}: {said}");
    assert!(!said.contains("PRIVATE KEY") && !said.contains("panicked"), "{said}");
    done
}

/// As [`content`], which must succeed; what it says as JSON.
pub(super) fn told(relay: &Relay, args: &[&str]) -> Value {
    let done = content(relay, &[args, &["--json"]].concat(), 0);
    serde_json::from_slice(&done.stdout).unwrap()
}

/// A site whose first instance has content, and a client that has registered, by its id.
pub(super) fn site_with_client() -> (Relay, String) {
    site_with(TABLE, &[])
}

/// As [`site_with_client`], with this `table` of content, and files beside it.
pub(super) fn site_with(table: &str, beside: &[(&str, &str)]) -> (Relay, String) {
    let mut relay = Relay::start(|_| answer(200, "from the site"));
    let bulk = relay.token(&["new"]);
    relay.secret("bulk", bulk["token"].as_str().unwrap());
    for (name, text) in beside {
        relay.secret(&format!("site/gateway-1/{name}"), text);
    }
    relay.site.edit("gateway-1/gateway.toml", |text| format!("{text}\n{table}"));
    relay.start_anew();
    relay.gateway.wait_for_log("settings applied", 1);
    let service = format!(
        "https://{SERVICE}:{}/CCM_Proxy_ServerAuth/{}",
        relay.clients.port(),
        HTTPS_ROLE + 1
    );
    let register = ["register", &service, "--folder", "me", "--token-file", "bulk"];
    let (status, report) = relay.report(&register);
    assert_eq!(status, 0, "{report:#}");
    let id = report["client_id"].as_str().unwrap().to_owned();
    (relay, id)
}

/// The files of a package, below the folder of the test.
fn package(relay: &Relay) -> Vec<u8> {
    let large = octets(700_000);
    fs::create_dir_all(relay.path("office/Data")).unwrap();
    fs::write(relay.path("office/Data/large.cab"), &large).unwrap();
    fs::write(relay.path("office/setup.exe"), "0123456789").unwrap();
    large
}

#[test]
fn a_package_is_put_granted_and_downloaded_and_no_connection_point_is_needed_for_that() {
    let (mut relay, id) = site_with_client();
    let large = package(&relay);
    let gateway = ["--config", "gateway-1/gateway.toml"];
    let put = ["put", "../office", "--package", "ps100012"];
    let report = told(&relay, &[&put[..], &gateway].concat());
    assert_eq!((&report["package"], &report["files"]), (&"PS100012".into(), &2.into()));
    assert_eq!(report["octets_copied"], 700_010);
    let again = told(&relay, &[&put[..], &gateway].concat());
    assert_eq!(again["octets_copied"], 0);
    let listed = told(&relay, &[&["list"][..], &gateway].concat());
    assert_eq!(listed["packages"][0]["octets"], 700_010);
    relay.point.take().unwrap().kill();

    let grant = ["grant", "--package", "PS100012", "--client", &id, "--config", POINT];
    let granted = told(&relay, &grant);
    let at = |location: &str| format!("https://{SERVICE}:{}{location}", relay.clients.port());
    let url = at(granted["location"].as_str().unwrap());
    let list = ["download", &url, "list", "--folder", "me"];
    let (status, report) = relay.report(&list);
    assert_eq!(status, 0, "{report:#}");
    let list: Value = serde_json::from_slice(&fs::read(relay.path("list")).unwrap()).unwrap();
    assert_eq!(list["expires"], granted["expires"]);
    let file = &list["files"][0];
    assert_eq!(file["name"], "Data/large.cab");
    let sha256 = file["sha256"].as_str().unwrap();
    assert_eq!(sha256, format!("{:x}", Sha256::digest(&large)));
    let url = at(file["location"].as_str().unwrap());
    let fetch = ["download", &url, "large.cab", "--sha256", sha256, "--folder", "me"];
    // What a run before has left is gone on with.
    fs::write(relay.path("large.cab.part"), &large[..300_000]).unwrap();
    let known = serde_json::json!({
        "url": url, "validator": format!("\"{sha256}\""), "total": large.len()
    });
    fs::write(relay.path("large.cab.part.json"), known.to_string()).unwrap();
    let (status, report) = relay.report(&fetch);
    assert_eq!((status, &report["resumed"]), (0, &1.into()), "{report:#}");
    assert!(fs::read(relay.path("large.cab")).unwrap() == large);

    // Another client has nothing of it: it has no token of the one that is named.
    let stranger = ["download", &url, "other", "--token-file", "bulk"];
    let (status, report) = relay.report(&stranger);
    assert_eq!((status, &report["reason"]), (1, &"CMGService_Registration_Only".into()));
    told(&relay, &[&["remove", "--package", "PS100012"][..], &gateway].concat());
    let (status, report) = relay.report(&["download", &url, "gone", "--folder", "me"]);
    assert_eq!((status, &report["reason"]), (1, &"CMGService_No_Content".into()), "{report:#}");
}

#[test]
fn a_grant_that_is_bound_to_a_certificate_needs_no_token() {
    let (relay, id) = site_with_client();
    package(&relay);
    let gateway = ["--config", "gateway-1/gateway.toml"];
    content(&relay, &[&["put", "../office", "--package", "A"][..], &gateway].concat(), 0);
    let [certificate, key] = relay.certificate("mine");
    let bound = format!("../{certificate}");
    let grant = ["grant", "--package", "A", "--file", "setup.exe", "--hours", "1"];
    let rest = ["--client", &id, "--certificate", &bound, "--config", POINT];
    let location = content(&relay, &[&grant[..], &rest].concat(), 0).stdout;
    let location = String::from_utf8(location).unwrap();
    let url = format!("https://{SERVICE}:{}{}", relay.clients.port(), location.trim());
    let fetch = ["download", &url, "setup.exe"];
    let shown = ["--certificate", &certificate, "--key", &key];
    let (status, report) = relay.report(&[&fetch[..], &shown].concat());
    assert_eq!(status, 0, "{report:#}");
    assert_eq!(fs::read(relay.path("setup.exe")).unwrap(), b"0123456789");
    let (status, report) = relay.report(&[&fetch[..], &["--folder", "me"]].concat());
    assert_eq!((status, &report["reason"]), (1, &"CMGService_Other_Client".into()));
}

#[test]
fn what_cannot_be_put_listed_or_granted_is_told_by_the_command() {
    let relay = Relay::start(|_| answer(200, ""));
    relay.site.edit("gateway-1/gateway.toml", |text| text + TABLE);
    let gateway = ["--config", "gateway-1/gateway.toml"];
    let client = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
    for (args, status, says) in [
        (&["put", "../absent", "--package", "A"][..], 1, "cannot read ../absent"),
        (&["put", "../absent", "--package", "../A"], 2, "a package's id has letters"),
        (&["remove", "--package", "A"], 1, "cannot write to the store"),
        (&["list"], 1, "cannot read the store"),
        (&["grant", "--package", "A", "--client", "x"], 2, "a GUID is"),
        (&["grant", "--package", "A", "--client", client, "--hours", "25"], 2, "1..=24"),
        (&["grant", "--package", "A", "--client", client, "--file", "../x"], 2, "rename it"),
    ] {
        let done = content(&relay, &[args, &gateway].concat(), status);
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(said.contains(says), "{args:?}: {said}");
    }
    let other = ["list", "--config", "gateway-2/gateway.toml"];
    let said = String::from_utf8(content(&relay, &other, 78).stderr).unwrap();
    assert!(said.contains("the instance with this file has no content"), "{said}");
}

/// `relay content` beside a file that has the folder `store`.
fn beside_store(home: &Path, args: &[&str]) -> Command {
    fs::write(home.join("gateway.toml"), "[content]\nfolder = \"store\"\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_relay"));
    command.arg("content").args(args).args(["--config", "gateway.toml", "--json"]);
    command.current_dir(home).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

#[test]
fn a_put_into_a_folder_that_is_killed_publishes_nothing_and_the_next_one_goes_on() {
    let home = tempfile::tempdir().unwrap();
    let (source, shelf) = (home.path().join("office"), home.path().join("store/PS100012"));
    fs::create_dir(&source).unwrap();
    let small: Vec<_> = (0..4u8).map(|number| vec![number; 10_000]).collect();
    for (number, octets) in small.iter().enumerate() {
        fs::write(source.join(format!("part-{number}")), octets).unwrap();
    }
    // Of nothing but holes, and longer than is copied by the time that the others are there.
    let large = fs::File::create(source.join("large")).unwrap();
    large.set_len(64 << 30).unwrap();
    let put = ["put", "office", "--package", "PS100012"];
    let mut putting = beside_store(home.path(), &put).spawn().unwrap();
    let place = |octets: &Vec<u8>| shelf.join(format!("{:x}", Sha256::digest(octets)));
    while !small.iter().all(|octets| place(octets).exists()) {
        assert!(putting.try_wait().unwrap().is_none(), "it has ended before its time");
        std::thread::yield_now();
    }
    putting.kill().unwrap();
    putting.wait().unwrap();
    let said = |args: &[&str]| -> Value {
        let done = beside_store(home.path(), args).output().unwrap();
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
        serde_json::from_slice(&done.stdout).unwrap()
    };
    assert_eq!(said(&["list"])["packages"], serde_json::json!([]));
    assert!(!shelf.join("manifest.json").exists());
    large.set_len(1_000).unwrap();
    let report = said(&put);
    assert_eq!((&report["octets"], &report["octets_copied"]), (&41_000.into(), &1_000.into()));
    assert_eq!(fs::read_dir(&shelf).unwrap().count(), 6, "five files, and the manifest");
}

#[test]
fn a_put_into_a_folder_shows_on_a_terminal_how_far_it_is() {
    if !missing(&[("script", "--version")]).is_empty() {
        assert!(!tools_are_required(), "script is not installed");
        println!("skipped: script is not installed");
        return;
    }
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("office")).unwrap();
    fs::write(home.path().join("office/large"), octets(700_000)).unwrap();
    fs::write(home.path().join("gateway.toml"), "[content]\nfolder = \"store\"\n").unwrap();
    let relay = env!("CARGO_BIN_EXE_relay");
    let put = format!("'{relay}' content put office --package A --config gateway.toml");
    for (copied, shown) in [("700000", "262144 of 700000 octets, 37 %"), ("0", "700000 of 700000")]
    {
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &put, "/dev/null"]);
        let done = script.current_dir(home.path()).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8(done.stdout).unwrap();
        assert!(done.status.success() && text.contains(shown), "{text:?}");
        // It is gone before the outcome is told.
        let (_, outcome) = text.rsplit_once("\r\u{1b}[K").unwrap();
        assert!(outcome.contains(&format!("of which {copied} were copied")), "{text:?}");
    }
}

/// What a shell does with a store on a disk of 1 MiB.
#[cfg(target_os = "linux")]
const ON_A_SMALL_DISK: &str = r#"
mkdir store && mount -t tmpfs -o size=1m,mode=700 none store || exit 9
content() { echo "== $*"; "$RELAY" content "$@" --config gateway.toml 2>&1; echo "-- $?"; }
content put small --package A
content put large --package A
content list
content put large --package B
content put small --package A
mount -o remount,ro store || exit 9
content put large --package A
content remove --package A
content list
"#;

#[cfg(target_os = "linux")]
#[test]
fn a_store_that_is_full_or_read_only_keeps_what_was_published_and_says_why_no_more_is() {
    let home = tempfile::tempdir().unwrap();
    for (folder, octets) in [("small", octets(100_000)), ("large", octets(2_000_000))] {
        fs::create_dir(home.path().join(folder)).unwrap();
        fs::write(home.path().join(folder).join("file"), octets).unwrap();
    }
    fs::write(home.path().join("gateway.toml"), "[content]\nfolder = \"store\"\n").unwrap();
    let inside = |script: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--user", "--map-root-user", "sh", "-c", script]);
        unshare.env("RELAY", env!("CARGO_BIN_EXE_relay")).current_dir(home.path());
        unshare.output().unwrap()
    };
    if !inside("mkdir probe && mount -t tmpfs none probe").status.success() {
        assert!(!tools_are_required(), "this account may not make mount namespaces");
        println!("skipped: this account may not make mount namespaces");
        return;
    }
    let done = inside(ON_A_SMALL_DISK);
    let shown = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{shown}{}", String::from_utf8_lossy(&done.stderr));
    let steps: Vec<&str> = shown.split("== ").skip(1).collect();
    for (number, (status, says)) in [
        (0, "A is published: 1 files, 100000 octets, of which 100000 were copied"),
        (1, "No space left on device"),
        (0, "1 files, 100000 octets"),
        (1, "package B was not published"),
        (0, "of which 0 were copied"),
        (1, "Read-only file system"),
        (1, "Read-only file system"),
        (0, "1 files, 100000 octets"),
    ]
    .into_iter()
    .enumerate()
    {
        let step = steps[number];
        assert!(step.ends_with(&format!("-- {status}\n")) && step.contains(says), "{step}");
    }
}
