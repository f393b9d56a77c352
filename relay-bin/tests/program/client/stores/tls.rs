//! Stores over TLS: trusted by whoever is named for that, and by nobody else.

use std::sync::Arc;

use rustls::ServerConfig;

use super::*;
use crate::support::authority::Authority;
use crate::support::recorder::{Package, table};

const STORE_CA: [&str; 2] = ["--store-ca", "site/gateway-1/store-ca.pem"];
const HERE: &str = "127.0.0.1";

/// A table of a store over TLS at `at`.
fn table_over_tls(at: SocketAddr) -> String {
    format!("{}trust = \"store-ca.pem\"\n", table("https", at))
}

/// Whoever answers where a store ought to, and is not to be believed; and what is said of that to
/// a client and to who puts, each with what to do next.
struct Impostor {
    origin: Origin,
    to_client: [&'static str; 2],
    to_who_puts: [&'static str; 2],
}

/// Somebody else, by each of the ways to know that.
fn impostors(authority: &Authority, nobody: &str) -> [Impostor; 4] {
    let start = |tls: Option<Arc<ServerConfig>>| match tls {
        Some(tls) => Origin::start_tls(tls, |_| answer(200, "believed")),
        None => Origin::start(|_| answer(200, "believed")),
    };
    let other = Authority::new();
    let of = |tls, to_client, to_who_puts| Impostor { origin: start(tls), to_client, to_who_puts };
    [
        of(
            Some(other.shows(HERE).tls(nobody)),
            ["is of no authority that is trusted here", "give --store-ca the authority"],
            ["is of no authority that is trusted", "have `trust` of [content] name"],
        ),
        of(
            Some(authority.shows("other.example").tls(nobody)),
            ["is not one of 127.0.0.1", "have `endpoint` of [content] name the store"],
            ["is of another name", "have `endpoint` of [content] name the store"],
        ),
        of(
            Some(authority.shows_over(HERE).tls(nobody)),
            ["is not valid now", "this machine's clock; then have the store's certificate renewed"],
            ["is not valid now", "this machine's clock; then have the store's certificate renewed"],
        ),
        of(
            None,
            ["no TLS handshake with 127.0.0.1", "it may be none of TLS"],
            ["no TLS with the store", "check scheme and port of `endpoint`"],
        ),
    ]
}

#[test]
fn a_package_in_a_store_over_tls_is_put_and_fetched_by_whom_its_authority_is_named_to() {
    let authority = Authority::new();
    for store in Store::all_over_tls(&authority.shows(HERE)) {
        let beside = [("store.key", store.key), ("store-ca.pem", &authority.pem())];
        let scene = Scene::with(&store.table, &beside);
        assert_eq!(scene.content(&PUT)["octets_copied"], 9_000_010);
        assert_eq!(scene.content(&["list"])["packages"][0]["octets"], 9_000_010);
        let whole = scene.grant(&[]);
        let (status, report) =
            scene.fetch(&whole, "out", &[&["--package"][..], &STORE_CA].concat());
        assert_eq!((status, &report["files_fetched"]), (0, &3.into()), "{report:#}");
        assert!(fs::read(scene.relay.path("out/Data/large.cab")).unwrap() == scene.large);
        let url = scene.grant(&["--file", "setup.exe"]);
        let (status, report) = scene.fetch(&url, "setup.exe", &STORE_CA);
        assert_eq!((status, &report["hop"]), (0, &"store".into()), "{report:#}");
        assert_eq!(report["store"], store.at.to_string());

        // Whoever is trusted for the service is for nobody else.
        let (status, report) = scene.fetch(&whole, "none", &["--package"]);
        assert_eq!((status, &report["hop"]), (1, &"store".into()), "{report:#}");
        assert!(report["next"].as_str().unwrap().contains("--store-ca"), "{report:#}");
        scene.content(&["remove", "--package", "PS100012"]);
    }
}

#[test]
fn a_client_that_finds_somebody_else_where_the_store_ought_to_be_asks_nothing_and_writes_nothing() {
    let authority = Authority::new();
    let package = Package::of(&[("a", b"one"), ("b", b"another")]);
    let tls = authority.shows(HERE).tls(&authority.pem());
    let store = Origin::start_tls(tls, move |asked| package.answer(asked));
    let beside = [("store.key", SECRET), ("store-ca.pem", &authority.pem())];
    let scene = Scene::with(&table_over_tls(store.at), &beside);
    let (whole, one) = (scene.grant(&[]), scene.grant(&["--file", "a"]));
    for Impostor { origin, to_client: [means, next], .. } in impostors(&authority, &authority.pem())
    {
        let there = format!("{HERE}:{}", origin.at);
        let way = [&STORE_CA[..], &["--resolve", &there]].concat();
        for (url, to, more) in [(&whole, "none", &["--package"][..]), (&one, "file", &[])] {
            let (status, report) = scene.fetch(url, to, &[&way, more].concat());
            assert_eq!((status, &report["hop"]), (1, &"store".into()), "{report:#}");
            assert!(report["means"].as_str().unwrap().contains(means), "{report:#}");
            assert!(report["next"].as_str().unwrap().contains(next), "{report:#}");
            assert!(report["status"].is_null(), "{report:#}");
        }
        assert!(origin.seen().is_empty(), "nothing was asked for");
        let left = fs::read_dir(scene.relay.path("none")).unwrap();
        let left: Vec<_> = left.map(|it| it.unwrap().file_name()).collect();
        assert!(left.iter().all(|it| it == ".relay-parts"), "{left:?}");
        let parts = fs::read_dir(scene.relay.path("none/.relay-parts")).unwrap();
        let parts: Vec<_> = parts.map(|it| it.unwrap().file_name()).collect();
        assert_eq!(parts, ["lock"], "no part of any file");
        for name in ["file", "file.part", "file.part.json"] {
            assert!(!scene.relay.path(name).exists(), "{name}");
        }
    }
    let (status, report) = scene.fetch(&whole, "out", &[&["--package"][..], &STORE_CA].concat());
    assert_eq!((status, &report["files_fetched"]), (0, &2.into()), "{report:#}");
}

#[test]
fn who_puts_and_the_gateway_tell_of_somebody_else_where_the_store_ought_to_be() {
    let authority = Authority::new();
    let all = impostors(&authority, &authority.pem());
    let beside = [("store.key", SECRET), ("store-ca.pem", &authority.pem())];
    let mut scene = Scene::with(&table_over_tls(all[0].origin.at), &beside);
    let (status, report) = scene.fetch(&scene.grant(&[]), "out", &["--package"]);
    let reason = &report["reason"];
    assert_eq!((status, reason), (1, &"CMGService_Content_Unavailable".into()), "{report:#}");
    scene.relay.gateway.wait_for_log(all[0].to_who_puts[0], 1);
    for Impostor { origin, to_who_puts: says, .. } in all {
        let other = scene.relay.path("site/gateway-1/other.toml");
        fs::write(other, table_over_tls(origin.at)).unwrap();
        for args in [&["list"][..], &PUT, &["remove", "--package", "PS100012"]] {
            let file = ["--config", "gateway-1/other.toml"];
            let done = content(&scene.relay, &[args, &file].concat(), 1);
            let said = String::from_utf8(done.stderr).unwrap();
            assert!(says.iter().all(|it| said.contains(it)), "{args:?}: {said}");
        }
        assert!(origin.seen().is_empty(), "no key was shown, and no octet");
    }
}
