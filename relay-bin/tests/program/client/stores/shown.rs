//! What a store is shown of a client, and what is said of a store's locations: nothing.

use relay_core::content::CONTENT_PATH;

use super::super::package::{list, url_at};
use super::*;
use crate::support::authority::Authority;
use crate::support::recorder::{Package, table};

const HERE: &str = "127.0.0.1";

/// Files that are fetched.
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

fn locations(at: SocketAddr) -> Vec<(&'static str, &'static str, String)> {
    let files = NAMES.iter().map(|name| {
        let sha256 = format!("{:x}", Sha256::digest(name));
        (*name, *name, format!("https://{at}/relay-files/PS100012/{sha256}?sig={SECRET}"))
    });
    files.collect()
}

fn list_of(files: &[(&str, &str, String)]) -> String {
    let files: Vec<_> = files.iter().map(|(name, text, at)| (*name, *text, at.as_str())).collect();
    list(&files)
}

fn redirect(to: &str) -> Response<Said> {
    let answer = Response::builder().status(307).header("location", to);
    answer.body(Said::whole("")).unwrap()
}

#[test]
fn a_store_is_never_shown_a_token_or_certificate_also_over_connections_that_are_kept() {
    let home = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    let own = CertificateParams::default().self_signed(&key).unwrap().pem();
    let write = |name: &str, text: &str| {
        let path = home.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    };
    write("ca.pem", &authority.pem());
    write("own.pem", &own);
    write("own-key.pem", &key.serialize_pem());
    write("token", SECRET);
    let files: Vec<_> = NAMES.iter().map(|name| (*name, name.as_bytes())).collect();
    for (is_listed_there, at_once) in [(true, 1), (false, 1), (true, 4), (false, 4)] {
        let package = Package::of(&files);
        let tls = || authority.shows(HERE).tls(&own);
        let store = Origin::start_tls(tls(), move |asked| package.answer(asked));
        let there = locations(store.at);
        // Each file at the store, or on the service, which sends the client there.
        let listed: Vec<_> = if is_listed_there {
            there.clone()
        } else {
            NAMES.iter().map(|name| (*name, *name, format!("{CONTENT_PATH}?file={name}"))).collect()
        };
        let text = list_of(&listed);
        let gateway = Origin::start_tls(tls(), move |asked| {
            let file =
                |it: &&(&str, &str, String)| asked.line.ends_with(&format!("?file={}", it.0));
            match there.iter().find(file) {
                Some((_, _, to)) => redirect(to),
                None => Response::new(Said::whole(text.clone())),
            }
        });
        let url = url_at(gateway.at).replace("http://", "https://");
        let (out, at_once) = (format!("out-{is_listed_there}-{at_once}"), at_once.to_string());
        let fetch = ["download", &url, &out, "--package", "--parallel", &at_once, "--ca", "ca.pem"];
        let shown = ["--token-file", "token", "--certificate", "own.pem", "--key", "own-key.pem"];
        let done = run(home.path(), &[&fetch[..], &shown, &["--json"]].concat());
        let report: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(
            (done.status.code(), &report["files_fetched"]),
            (Some(0), &6.into()),
            "{report}"
        );

        let (asked, stored) = (gateway.seen(), store.seen());
        assert_eq!(asked.len(), if is_listed_there { 1 } else { 7 });
        let bearer = format!("Bearer {SECRET}");
        let has_both = |it: &Asked| it.header("authorization") == bearer && it.has_certificate;
        assert!(asked.iter().all(has_both), "the gateway is shown both, each time");
        assert_eq!(stored.len(), 6);
        for it in &stored {
            assert!(!it.has_certificate, "{it:?}");
            let names: Vec<_> = it.headers.keys().map(http::HeaderName::as_str).collect();
            assert_eq!(names, ["host"], "nothing but where it is asked: {it:?}");
        }
        if at_once == "1" {
            assert!(stored.iter().all(|it| it.connection == 0), "it is kept: {stored:?}");
            let files = asked.iter().filter(|it| it.line.contains("?file="));
            let first = files.clone().next().map(|it| it.connection);
            assert!(files.clone().all(|it| Some(it.connection) == first), "{asked:?}");
        }
    }
}

/// Whether a text has what a location in a store is signed by.
fn has_signature(text: &str) -> bool {
    ["X-Amz-Signature", "X-Amz-Credential", "x-amz-signature", "Signature=", "&sig="]
        .iter()
        .any(|it| text.contains(it))
}

#[test]
fn no_signature_of_a_location_is_in_what_client_and_gateway_say_whatever_goes_wrong() {
    let package = Package::of(&[("a", b"one"), ("b", b"another")]);
    let store = Origin::start(move |asked| {
        if asked.line.contains("manifest.json") {
            return package.answer(asked);
        }
        // It repeats what it was asked, as stores do.
        let line = &asked.line;
        let error = format!("<Error><Code>AccessDenied</Code><Asked>{line}</Asked></Error>");
        Response::builder().status(403).body(Said::whole(error)).unwrap()
    });
    let beside = [("store.key", SECRET)];
    let mut scene = Scene::with(&table("http", store.at), &beside);
    // With a log of everything.
    let site = scene.relay.path("site");
    let gateway = ["gateway", "--config", "gateway-1/gateway.toml"];
    scene.relay.start_anew_by(|_| Role::start_traced(&site, &gateway));
    scene.relay.gateway.wait_for_log("settings applied", 1);
    let mut said = Vec::new();
    let urls = [scene.grant(&[]), scene.grant(&["--file", "a"])];
    for (url, more) in urls.iter().zip([&["--package"][..], &[]]) {
        for json in [&["--json"][..], &[]] {
            let fetch = ["download", url, "out", "--folder", "me", "--tries", "1"];
            let done = scene.relay.client(&[&fetch[..], more, json].concat());
            assert_eq!(done.status.code(), Some(1));
            for text in [&done.stdout, &done.stderr] {
                said.push(String::from_utf8_lossy(text).into_owned());
            }
            let _ = fs::remove_dir_all(scene.relay.path("out"));
        }
    }
    assert!(said.iter().any(|it| it.contains("AccessDenied")), "{said:?}");
    let asked = store.seen();
    assert!(asked.iter().any(|it| it.line.contains("X-Amz-Signature")), "it was shown some");
    assert!(asked.iter().all(|it| it.header("range").is_empty()));
    let point = scene.relay.point.take().unwrap();
    for role in [scene.relay.gateway, point] {
        said.extend(role.stop().1);
    }
    for part in ["redirected_to", "\"TRACE\""] {
        assert!(said.iter().any(|it| it.contains(part)), "all was logged");
    }
    // A grant's own signature is no store's; the client shows neither.
    let told = said.iter().find(|it| has_signature(it) || it.contains(SECRET));
    assert_eq!(told, None);
}
