//! All files of a package, fetched by a registered client: interrupted, tampered with, changed,
//! missing; and lists that nobody ought to follow.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::content::{POINT, content, site_with_client, told};
use super::*;
use crate::support::octets;

/// No test takes this long; only a hang does.
const HANG: Duration = Duration::from_secs(90);

const GATEWAY: [&str; 2] = ["--config", "gateway-1/gateway.toml"];

/// A site with a package, and the URL of a grant for a client that has registered in `me`.
struct Scene {
    relay: Relay,
    url: String,
    files: BTreeMap<&'static str, Vec<u8>>,
}

impl Scene {
    fn new() -> Self {
        let (relay, id) = site_with_client();
        let large = octets(3_000_000);
        let files = BTreeMap::from([
            ("Data/large.cab", large),
            ("Data/empty", Vec::new()),
            ("Data/sub/one more.txt", b"of two words".to_vec()),
            ("Data/twin-1", b"the same".to_vec()),
            ("Data/twin-2", b"the same".to_vec()),
            ("setup.exe", b"0123456789".to_vec()),
        ]);
        let scene = Self { relay, url: String::new(), files };
        for (name, octets) in &scene.files {
            scene.source(name, octets);
        }
        scene.put();
        let grant = ["grant", "--package", "A", "--client", &id, "--config", POINT];
        let granted = told(&scene.relay, &grant);
        let location = granted["location"].as_str().unwrap();
        let url = format!("https://{SERVICE}:{}{location}", scene.relay.clients.port());
        Self { url, ..scene }
    }

    fn source(&self, name: &str, octets: &[u8]) {
        let path = self.relay.path("office").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, octets).unwrap();
    }

    fn put(&self) {
        content(&self.relay, &[&["put", "../office", "--package", "A"][..], &GATEWAY].concat(), 0);
    }

    /// Where the instance keeps a file.
    fn kept(&self, name: &str) -> PathBuf {
        let sha256 = format!("{:x}", Sha256::digest(&self.files[name]));
        self.relay.path("site/gateway-1/files/A").join(sha256)
    }

    /// Fetches all files into `out`.
    fn fetch(&self, more: &[&str]) -> (i32, Value) {
        let args = ["download", &self.url, "out", "--package", "--folder", "me"];
        self.relay.report(&[&args[..], more].concat())
    }

    /// Whether a file is there; it must be what it is to be.
    fn is_there(&self, name: &str) -> bool {
        let Ok(octets) = fs::read(self.relay.path("out").join(name)) else { return false };
        assert!(octets == self.files[name], "{name} looks finished and is not");
        true
    }

    fn all_are_there(&self) -> bool {
        assert!(!self.relay.path("out/.relay-parts").exists(), "nothing is left of parts");
        self.files.keys().all(|name| self.is_there(name))
    }
}

#[test]
fn a_package_is_fetched_whole_and_what_is_there_is_not_fetched_again() {
    let scene = Scene::new();
    let octets: usize = scene.files.values().map(Vec::len).sum();
    let (status, report) = scene.fetch(&[]);
    assert_eq!((status, &report["files_fetched"]), (0, &6.into()), "{report:#}");
    assert_eq!((&report["bytes"], &report["bytes_fetched"]), (&octets.into(), &octets.into()));
    assert_eq!((&report["package"], &report["resumed"]), (&"A".into(), &0.into()));
    assert!(report["bytes_per_second"].as_u64().unwrap() > 0, "{report:#}");
    assert!(scene.all_are_there());

    // What was changed here is put right, one at a time and over HTTP/1.1.
    fs::write(scene.relay.path("out/setup.exe"), "012345678x").unwrap();
    let (status, report) = scene.fetch(&["--parallel", "1", "--http1"]);
    assert_eq!((status, &report["files_there"]), (0, &5.into()), "{report:#}");
    assert_eq!(report["bytes_fetched"], 10);
    assert!(scene.all_are_there());

    // For people, in one line.
    let args = ["download", &scene.url, "out", "--package", "--folder", "me"];
    let done = scene.relay.client(&args);
    let text = String::from_utf8(done.stdout).unwrap();
    assert!(text.contains("0 of 6 files fetched, 6 were there, 0 failed; 0 of 3"), "{text}");
    assert!(done.stderr.is_empty(), "progress is for terminals");
}

#[test]
fn a_package_that_is_interrupted_leaves_nothing_that_looks_finished_and_goes_on() {
    let scene = Scene::new();
    let narrow = Narrow::before(scene.relay.clients, 2_000_000);
    let ca = scene.relay.site.ca();
    let resolve = format!("{SERVICE}:127.0.0.1:{}", narrow.port);
    let way = ["--ca", ca.to_str().unwrap(), "--resolve", &resolve];
    let mut client = Command::new(env!("CARGO_BIN_EXE_relay"))
        .args(["client", "download", &scene.url, "out", "--package", "--folder", "me"])
        .args(way)
        .current_dir(scene.relay.home.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Killed once some of the large file is there; the rest cannot come.
    let began = Instant::now();
    while parts(&scene.relay.path("out/.relay-parts")) < 500_000 {
        assert!(began.elapsed() < HANG, "nothing was fetched");
        std::thread::yield_now();
    }
    client.kill().unwrap();
    client.wait().unwrap();
    assert!(!scene.is_there("Data/large.cab"));
    let there = scene.files.keys().filter(|name| scene.is_there(name)).count();
    let left = parts(&scene.relay.path("out/.relay-parts"));
    let (status, report) = scene.fetch(&[]);
    assert_eq!((status, &report["files_there"]), (0, &there.into()), "{report:#}");
    assert!(report["resumed"].as_u64().unwrap() >= 1, "{report:#}");
    let came = report["bytes_fetched"].as_u64().unwrap();
    assert!(came + left <= 3_000_100, "{came} octets came, and {left} were there");
    assert!(scene.all_are_there());
}

/// Octets of parts of files.
fn parts(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let files = entries.filter_map(Result::ok);
    let parts = files.filter(|it| it.path().extension().is_some_and(|it| it == "part"));
    parts.filter_map(|it| it.metadata().ok()).map(|it| it.len()).sum()
}

/// A way to a gateway by which only so many octets ever get back.
struct Narrow {
    port: u16,
}

impl Narrow {
    fn before(gateway: SocketAddr, octets: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let left = Arc::new(AtomicU64::new(octets));
        // Ends with the process of the test.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = TcpStream::connect(gateway).unwrap();
                let (up, down) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut &up, &mut &server));
                let left = Arc::clone(&left);
                std::thread::spawn(move || narrow(down, client, &left));
            }
        });
        Self { port }
    }
}

/// Passes octets on until there are none left to pass; then holds the connection open.
fn narrow(mut from: TcpStream, mut to: TcpStream, left: &AtomicU64) {
    let mut piece = [0; 16 << 10];
    loop {
        let Ok(count @ 1..) = from.read(&mut piece) else { return };
        let size = count as u64;
        let taken =
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |it| it.checked_sub(size));
        if taken.is_err() {
            // Until the client is gone.
            let _ = to.read(&mut piece);
            return;
        }
        if to.write_all(&piece[..count]).is_err() {
            return;
        }
    }
}

#[test]
fn a_file_that_was_tampered_with_or_is_gone_keeps_no_other_from_being_fetched() {
    let scene = Scene::new();
    fs::write(scene.kept("setup.exe"), "01234x6789").unwrap();
    let (status, report) = scene.fetch(&[]);
    assert_eq!((status, &report["files_failed"]), (1, &1.into()), "{report:#}");
    assert_eq!((&report["file"], &report["files_fetched"]), (&"setup.exe".into(), &5.into()));
    assert!(report["means"].as_str().unwrap().contains("its SHA-256 is another"), "{report:#}");
    assert!(!scene.is_there("setup.exe") && scene.is_there("Data/large.cab"));
    assert_eq!(parts(&scene.relay.path("out/.relay-parts")), 0);

    fs::remove_file(scene.kept("setup.exe")).unwrap();
    let (status, report) = scene.fetch(&[]);
    assert_eq!((status, &report["reason"]), (1, &"CMGService_No_Content".into()), "{report:#}");
    assert!(report["means"].as_str().unwrap().contains("Microsoft Update"), "{report:#}");
    assert_eq!(report["failed"][0]["status"], 404);
    assert!(!scene.is_there("setup.exe"));

    fs::remove_file(scene.relay.path("site/gateway-1/files/A/manifest.json")).unwrap();
    let (status, report) = scene.fetch(&[]);
    assert_eq!((status, &report["reason"]), (1, &"CMGService_No_Content".into()), "{report:#}");
    scene.put();
    let (status, report) = scene.fetch(&[]);
    assert_eq!((status, &report["files_fetched"]), (0, &1.into()), "{report:#}");
    assert!(scene.all_are_there());
}

#[test]
fn of_a_package_that_was_put_anew_no_part_of_the_former_is_gone_on_with() {
    let mut scene = Scene::new();
    // As one that was killed leaves it, of what the package had before.
    let name = format!("{:x}", Sha256::digest("Data/large.cab"));
    let place = scene.relay.path("out/.relay-parts");
    fs::create_dir_all(&place).unwrap();
    let before = &scene.files["Data/large.cab"];
    fs::write(place.join(format!("{name}.part")), &before[..1_000_000]).unwrap();
    let sha256 = format!("{:x}", Sha256::digest(before));
    let known = json!({
        "url": format!("sha256:{sha256}"), "validator": format!("\"{sha256}\""),
        "total": before.len()
    });
    fs::write(place.join(format!("{name}.part.json")), known.to_string()).unwrap();
    let after = octets(3_000_001)[1..].to_vec();
    scene.source("Data/large.cab", &after);
    scene.files.insert("Data/large.cab", after);
    scene.put();
    let (status, report) = scene.fetch(&[]);
    assert_eq!((status, &report["resumed"]), (0, &0.into()), "{report:#}");
    assert!(scene.all_are_there());

    // A part that is not what it says costs a second try, and no more.
    fs::remove_file(scene.relay.path("out/Data/large.cab")).unwrap();
    fs::create_dir_all(&place).unwrap();
    let now = &scene.files["Data/large.cab"];
    let sha256 = format!("{:x}", Sha256::digest(now));
    fs::write(place.join(format!("{name}.part")), vec![0; 1_000_000]).unwrap();
    let known = json!({
        "url": format!("sha256:{sha256}"), "validator": format!("\"{sha256}\""),
        "total": now.len()
    });
    fs::write(place.join(format!("{name}.part.json")), known.to_string()).unwrap();
    let (status, report) = scene.fetch(&[]);
    assert_eq!((status, &report["resumed"]), (0, &1.into()), "{report:#}");
    assert_eq!(report["bytes_fetched"], 5_000_000);
    assert!(scene.all_are_there());
}

/// A list of files as an instance gives it.
pub(super) fn list(files: &[(&str, &str, &str)]) -> String {
    let files = files.iter().map(|(name, octets, location)| {
        let sha256 = format!("{:x}", Sha256::digest(octets));
        json!({ "name": name, "octets": octets.len(), "sha256": sha256, "location": location })
    });
    json!({ "package": "A", "expires": 1, "files": files.collect::<Value>() }).to_string()
}

/// Where somebody on this machine is asked for a package; nobody has signed that.
pub(super) fn url_at(at: SocketAddr) -> String {
    let (guid, hash) = ("0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9", "A".repeat(43));
    format!(
        "http://{at}/downloadrestservice.svc/getcontentxmlsecure?pid=A&cid=*&tid={guid}\
         &iss=urn:sccm:oauth2:{guid}&alg=RS256&st=1&et=2&kid={hash}&sig=AAAA"
    )
}

/// Fetches what `answer` gives; returns the report and what was asked for.
fn fetch_from(
    home: &Path,
    answer: impl Fn(&Asked) -> Response<Said> + Clone + Send + Sync + 'static,
) -> (i32, Value, Vec<String>) {
    let origin = Origin::start(answer);
    let args = ["download", &url_at(origin.at), "out", "--package", "--json", "--parallel", "1"];
    let done = run(home, &args);
    let report = serde_json::from_slice(&done.stdout).unwrap();
    let seen = origin.seen().into_iter().map(|it| it.line).collect();
    (done.status.code().unwrap(), report, seen)
}

fn is_list(asked: &Asked) -> bool {
    asked.line.contains("getcontentxmlsecure")
}

fn whole(text: impl Into<bytes::Bytes>) -> Response<Said> {
    Response::new(Said::whole(text))
}

#[test]
fn a_list_that_leads_out_of_the_folder_or_to_another_host_is_not_followed() {
    for (name, location, why) in [
        ("../out-of-it", "/a", "a name in it is none"),
        ("/etc/x", "/a", "a name in it is none"),
        (".relay-parts/x.part", "/a", "where parts of files are kept"),
        ("a", "https://other.example/a", "in more than one place"),
        ("a", "http://other.example/a", "leads to a store that is not asked"),
        ("a", "//other.example/a", "no path on the service that was asked"),
        ("FINE", "/a", "is there twice"),
    ] {
        let home = tempfile::tempdir().unwrap();
        let text = list(&[("fine", "1", "/fine"), (name, "22", location)]);
        let (status, report, seen) = fetch_from(home.path(), move |_: &Asked| whole(text.clone()));
        assert_eq!((status, seen.len()), (1, 1), "{name} {location}: {report:#} {seen:?}");
        let means = report["means"].as_str().unwrap();
        assert!(means.contains(why) && means.contains("nothing was fetched"), "{means}");
        let left: Vec<_> = fs::read_dir(home.path().join("out")).unwrap().collect();
        assert_eq!(left.len(), 1, "the folder of parts alone: {left:?}");
    }
}

#[test]
fn a_store_is_shown_no_credential_and_sends_nobody_on() {
    let home = tempfile::tempdir().unwrap();
    let secret = home.path().join("token");
    fs::write(&secret, SECRET).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let store = Origin::start(|asked| match asked.line.as_str() {
        "GET /fine?sig=x" => whole("1"),
        _ => Response::builder()
            .status(307)
            .header("location", "/fine")
            .body(Said::whole(""))
            .unwrap(),
    });
    let at = |path: &str| format!("http://{}{path}", store.at);
    let text = list(&[("a", "1", &at("/fine?sig=x")), ("b", "22", &at("/on"))]);
    let gateway = Origin::start(move |_| whole(text.clone()));
    let args = ["download", &url_at(gateway.at), "out", "--package", "--json", "--tries", "1"];
    let done = run(home.path(), &[&args[..], &["--token-file", "token"]].concat());
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((done.status.code(), &report["status"]), (Some(1), &307.into()), "{report:#}");
    assert_eq!((&report["hop"], &report["files_fetched"]), (&"store".into(), &1.into()));
    assert_eq!(gateway.seen()[0].header("authorization"), format!("Bearer {SECRET}"));
    let seen = store.seen();
    let mut lines: Vec<_> = seen.iter().map(|it| it.line.as_str()).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["GET /fine?sig=x", "GET /on"]);
    assert!(seen.iter().all(|it| it.header("authorization").is_empty()));
}

#[test]
fn a_location_that_is_refused_ends_the_package_and_one_that_is_not_there_does_not() {
    for (refused, asked_for) in [(403, 2), (404, 3)] {
        let home = tempfile::tempdir().unwrap();
        let text = list(&[("a", "1", "/a"), ("b", "22", "/b")]);
        let (status, report, seen) = fetch_from(home.path(), move |asked: &Asked| match asked {
            asked if is_list(asked) => whole(text.clone()),
            asked if asked.line == "GET /a" => answer(refused, "no"),
            _ => whole("22"),
        });
        assert_eq!((status, &report["status"]), (1, &refused.into()), "{report:#}");
        assert_eq!((&report["file"], seen.len()), (&"a".into(), asked_for), "{seen:?}");
        assert!(!home.path().join("out/a").exists());
        assert_eq!(home.path().join("out/b").exists(), refused == 404);
    }
}

#[test]
fn a_file_that_is_longer_or_another_than_was_listed_is_not_taken() {
    let tag = format!("\"{}\"", "0".repeat(64));
    for (said, tag) in [("333", ""), ("4", tag.as_str())] {
        let home = tempfile::tempdir().unwrap();
        let (text, tag) = (list(&[("a", "1", "/a")]), tag.to_owned());
        let (status, report, _) = fetch_from(home.path(), move |asked: &Asked| {
            if is_list(asked) {
                return whole(text.clone());
            }
            let answer = Response::builder().header("etag", &tag);
            answer.body(Said::whole(said)).unwrap()
        });
        assert_eq!((status, &report["outcome"]), (1, &"failed".into()), "{report:#}");
        assert!(report["means"].as_str().unwrap().contains("has become another"), "{report:#}");
        assert!(!home.path().join("out/a").exists());
    }
}

#[test]
fn what_is_no_grant_for_a_package_is_told_at_once() {
    let home = tempfile::tempdir().unwrap();
    let good = url_at("127.0.0.1:9".parse().unwrap());
    for (url, args, says) in [
        ("http://127.0.0.1:9/x", &[][..], "no query"),
        ("http://127.0.0.1:9/x?y", &[], "no grant for a package"),
        (&good.replace("cid=*", "cid=a"), &[], "for one file"),
        (&good, &["--parallel", "0"], "0 is not in 1..=32"),
        (&good, &["--parallel", "33"], "33 is not in 1..=32"),
        (&good, &["--sha256", "00"], "64 hexadecimal digits"),
    ] {
        let done = run(home.path(), &[&["download", url, "out", "--package"], args].concat());
        let said = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(2), "{url} {args:?}: {said}");
        assert!(said.contains(says), "{url} {args:?}: {said}");
    }
    fs::write(home.path().join("file"), "").unwrap();
    let done = run(home.path(), &["download", &good, "file", "--package"]);
    assert_eq!(done.status.code(), Some(2));
}
