//! Content in stores elsewhere: put there, granted, and fetched from there directly.

mod over;
mod refused;
mod shown;
mod tls;

use std::net::TcpListener;

use sha2::{Digest as _, Sha256};

use super::content::{POINT, content, site_with, told};
use super::*;
use crate::support::octets;
use crate::support::stores::{Store, ask, way_that_ends};

const GATEWAY: [&str; 2] = ["--config", "gateway-1/gateway.toml"];
const PUT: [&str; 4] = ["put", "../office", "--package", "PS100012"];

/// A site whose instance has its content in `store`, and a client that has registered.
struct Scene {
    relay: Relay,
    id: String,
    large: Vec<u8>,
}

impl Scene {
    fn new(store: &Store) -> Self {
        Self::with(&store.table, &[("store.key", store.key)])
    }

    /// With this `table` of content, and files beside it.
    fn with(table: &str, beside: &[(&str, &str)]) -> Self {
        let (relay, id) = site_with(table, beside);
        // More than goes in one part.
        let large = octets(9_000_000);
        let scene = Self { relay, id, large };
        scene.source("Data/large.cab", &scene.large);
        scene.source("Data/empty", b"");
        scene.source("setup.exe", b"0123456789");
        scene
    }

    fn source(&self, name: &str, octets: &[u8]) {
        let path = self.relay.path("office").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, octets).unwrap();
    }

    fn content(&self, args: &[&str]) -> Value {
        told(&self.relay, &[args, &GATEWAY].concat())
    }

    /// The URL of a grant.
    fn grant(&self, more: &[&str]) -> String {
        let grant = ["grant", "--package", "PS100012", "--client", &self.id, "--config", POINT];
        let granted = told(&self.relay, &[&grant[..], more].concat());
        self.at(granted["location"].as_str().unwrap())
    }

    fn at(&self, location: &str) -> String {
        format!("https://{SERVICE}:{}{location}", self.relay.clients.port())
    }

    fn fetch(&self, url: &str, to: &str, more: &[&str]) -> (i32, Value) {
        let fetch = ["download", url, to, "--folder", "me", "--tries", "1"];
        self.relay.report(&[&fetch[..], more].concat())
    }

    /// What the list of the package says, where all files are.
    fn list(&self) -> Value {
        let (status, report) = self.fetch(&self.grant(&[]), "list", &[]);
        assert_eq!(status, 0, "{report:#}");
        serde_json::from_slice(&fs::read(self.relay.path("list")).unwrap()).unwrap()
    }
}

#[test]
fn a_package_in_a_store_elsewhere_is_put_once_listed_and_fetched_directly() {
    for store in Store::all() {
        let scene = Scene::new(&store);
        assert_eq!(scene.content(&PUT)["octets_copied"], 9_000_010);
        assert_eq!(scene.content(&PUT)["octets_copied"], 0, "what is there is not sent again");
        scene.source("more", b"more");
        assert_eq!(scene.content(&PUT)["octets_copied"], 4);
        fs::remove_file(scene.relay.path("office/more")).unwrap();
        assert_eq!(scene.content(&PUT)["octets_copied"], 0);
        let listed = scene.content(&["list"]);
        assert_eq!(listed["packages"][0]["octets"], 9_000_010, "{listed}");

        let url = scene.grant(&[]);
        let (status, report) = scene.fetch(&url, "out", &["--package"]);
        assert_eq!(status, 0, "{report:#}");
        assert_eq!((&report["files_fetched"], &report["bytes"]), (&3.into(), &9_000_010.into()));
        assert_eq!(report["store"], store.at.to_string());
        assert!(fs::read(scene.relay.path("out/Data/large.cab")).unwrap() == scene.large);
        assert_eq!(fs::read(scene.relay.path("out/setup.exe")).unwrap(), b"0123456789");
        assert_eq!(fs::read(scene.relay.path("out/Data/empty")).unwrap(), b"");

        scene.content(&["remove", "--package", "PS100012"]);
        assert_eq!(scene.content(&["list"])["packages"], serde_json::json!([]));
        let (status, report) = scene.fetch(&url, "gone", &["--package"]);
        assert_eq!((status, &report["reason"]), (1, &"CMGService_No_Content".into()));
    }
}

#[test]
fn a_file_that_is_redirected_to_its_store_is_resumed_there() {
    for store in Store::all() {
        let scene = Scene::new(&store);
        scene.content(&PUT);
        let list = scene.list();
        let file = &list["files"][1];
        assert_eq!(file["name"], "Data/large.cab");
        let location = file["location"].as_str().unwrap();
        let some = ask("GET", location, &[("range", "bytes=5-9")]);
        assert_eq!((some.status, &some.body[..]), (206, &scene.large[5..10]), "{}", some.head);
        let tag = some.field("etag").unwrap();

        let url = scene.grant(&["--file", "Data/large.cab"]);
        let sha256 = format!("{:x}", Sha256::digest(&scene.large));
        // What a run before has left is gone on with.
        fs::write(scene.relay.path("large.cab.part"), &scene.large[..3_000_000]).unwrap();
        let known = serde_json::json!({
            "url": url, "validator": tag, "total": scene.large.len()
        });
        fs::write(scene.relay.path("large.cab.part.json"), known.to_string()).unwrap();
        let (status, report) = scene.fetch(&url, "large.cab", &["--sha256", &sha256]);
        assert_eq!((status, &report["resumed"]), (0, &1.into()), "{report:#}");
        assert_eq!((&report["hop"], &report["store"]), (&"store".into(), &json(store.at)));
        assert!(fs::read(scene.relay.path("large.cab")).unwrap() == scene.large);
    }
}

fn json(at: SocketAddr) -> Value {
    at.to_string().into()
}

#[test]
fn a_location_is_good_for_one_file_until_the_grant_ends_and_for_nothing_else() {
    let Some(store) = Store::azurite() else { return };
    let scene = Scene::new(&store);
    scene.content(&PUT);
    let list = scene.list();
    let location = list["files"][2]["location"].as_str().unwrap();
    assert_eq!(ask("GET", location, &[]).body, b"0123456789");
    let hash = |it: usize| list["files"][it]["sha256"].as_str().unwrap();
    let end = location.split(['?', '&']).find(|it| it.starts_with("se=")).unwrap();
    for (other, what) in [
        (location.replace(hash(2), hash(1)), "another file"),
        (location.replace(hash(2), "manifest.json"), "the manifest"),
        (location.replace("/content/", "/other/"), "another container"),
        (location.replace("/site-1/", "/site-1/../site-2/"), "another folder"),
        (location.replace(end, "se=2099-01-01T00%3A00%3A00Z"), "a later end"),
        (location.replace(end, "se=2020-01-01T00%3A00%3A00Z"), "an end that has passed"),
        (location.split('?').next().unwrap().to_owned(), "no signature"),
    ] {
        let answer = ask("GET", &other, &[]);
        assert!(matches!(answer.status, 403 | 404), "{what}: {}", answer.head);
    }
    assert_eq!(ask("DELETE", location, &[]).status, 403);
    assert!(matches!(ask("PUT", location, &[("x-ms-blob-type", "BlockBlob")]).status, 403));
}

#[test]
fn a_store_that_is_down_or_refuses_the_key_is_told_as_what_it_is() {
    let Some(mut store) = Store::azurite() else { return };
    let scene = Scene::new(&store);
    scene.content(&PUT);
    scene.relay.secret("site/gateway-1/store.key", "YmFk\n");
    for args in [&["list"][..], &PUT, &["remove", "--package", "PS100012"]] {
        let done = content(&scene.relay, &[args, &GATEWAY].concat(), 1);
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(said.contains("the store refuses the key"), "{args:?}: {said}");
    }
    store.end();
    let url = scene.grant(&["--file", "setup.exe"]);
    for _ in 0..2 {
        let (status, report) = scene.fetch(&url, "setup.exe", &[]);
        let reason = &report["reason"];
        assert_eq!((status, reason), (1, &"CMGService_Content_Unavailable".into()), "{report:#}");
    }
}

#[test]
fn a_store_that_says_nothing_is_given_up_in_its_time() {
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let table = format!(
        "[content.s3]\nbucket = \"relay-files\"\nregion = \"us-east-1\"\naccess_key_id = \"id\"\n\
         secret_key_file = \"store.key\"\nendpoint = \"http://{}\"\n",
        mute.local_addr().unwrap()
    );
    let mut scene = Scene::with(&table, &[("store.key", SECRET)]);
    let (status, report) = scene.fetch(&scene.grant(&[]), "out", &["--package"]);
    let reason = &report["reason"];
    assert_eq!((status, reason), (1, &"CMGService_Content_Unavailable".into()), "{report:#}");
    scene.relay.gateway.wait_for_log("the store of content cannot be read", 1);
}

#[test]
fn a_put_that_is_interrupted_publishes_nothing_and_the_next_one_goes_on() {
    for store in Store::all() {
        let scene = Scene::new(&store);
        for number in 0..12 {
            let text: Vec<_> = octets(1_000_000).into_iter().map(|it| it ^ number).collect();
            scene.source(&format!("part-{number}"), &text);
        }
        fs::remove_file(scene.relay.path("office/Data/large.cab")).unwrap();
        // Eight files are under way at once: by then one of them is there.
        let (at, end) = way_that_ends(store.at, 9_500_000);
        let table = store.table.replace(&store.at.to_string(), &at.to_string());
        let other = scene.relay.path("site/gateway-1/other.toml");
        fs::write(other, table).unwrap();
        let mut putting = Command::new(env!("CARGO_BIN_EXE_relay"))
            .arg("content")
            .args(PUT)
            .args(["--config", "gateway-1/other.toml"])
            .current_dir(scene.relay.path("site"))
            .spawn()
            .unwrap();
        end.recv().unwrap();
        putting.kill().unwrap();
        putting.wait().unwrap();
        assert_eq!(scene.content(&["list"])["packages"], serde_json::json!([]));
        let put = scene.content(&PUT);
        let copied = put["octets_copied"].as_u64().unwrap();
        assert_eq!((&put["files"], &put["octets"]), (&14.into(), &12_000_010.into()));
        assert!((1..12_000_010).contains(&copied), "{copied} were sent by the second");
        let (status, report) = scene.fetch(&scene.grant(&[]), "out", &["--package"]);
        assert_eq!((status, &report["files_fetched"]), (0, &14.into()), "{report:#}");
    }
}

#[test]
fn of_puts_of_one_package_at_once_what_is_published_is_one_of_them_whole() {
    for store in Store::all() {
        let scene = Scene::new(&store);
        let put = |number: usize| {
            let folder = format!("office-{number}");
            let path = scene.relay.path(&folder);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("same"), octets(100_000)).unwrap();
            fs::write(path.join("own"), format!("of {number}")).unwrap();
            let mut command = Command::new(env!("CARGO_BIN_EXE_relay"));
            command.args(["content", "put", &format!("../{folder}"), "--package", "PS100012"]);
            command.args(GATEWAY).current_dir(scene.relay.path("site")).stderr(Stdio::piped());
            command.stdout(Stdio::null()).spawn().unwrap()
        };
        let running: Vec<_> = (0..6).map(put).collect();
        let mut published = Vec::new();
        for (number, child) in running.into_iter().enumerate() {
            let done = child.wait_with_output().unwrap();
            let said = String::from_utf8(done.stderr).unwrap();
            match done.status.code() {
                Some(0) => published.push(format!("of {number}")),
                // Neither, or another has cleared away what it was about to use.
                Some(1) => assert!(
                    said.contains("PS100012 was not published")
                        || said.contains("was removed meanwhile"),
                    "{said}"
                ),
                other => panic!("{other:?}: {said}"),
            }
        }
        assert!(!published.is_empty(), "one of them counts");
        let (status, report) = scene.fetch(&scene.grant(&[]), "out", &["--package"]);
        assert_eq!((status, &report["files_fetched"]), (0, &2.into()), "{report:#}");
        let own = fs::read_to_string(scene.relay.path("out/own")).unwrap();
        assert!(published.contains(&own), "{own} of {published:?}");
    }
}
