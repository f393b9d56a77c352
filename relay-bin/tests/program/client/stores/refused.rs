//! Stores that take nothing, or give it too slowly.

use super::*;
use crate::support::recorder::{Package, table};

/// A package is put into a store that answers each PUT so.
fn put_into(status: u16, code: &'static str) -> (Output, Vec<Asked>) {
    let package = Package::of(&[("a", b"before")]);
    let origin = Origin::start(move |asked| match asked.line.split(' ').next().unwrap() {
        "PUT" | "POST" => {
            let text = format!("<Error><Code>{code}</Code></Error>");
            Response::builder().status(status).body(Said::whole(text)).unwrap()
        }
        _ => package.answer(asked),
    });
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("gateway.toml"), table("http", origin.at)).unwrap();
    fs::write(home.path().join("store.key"), SECRET).unwrap();
    let key = fs::Permissions::from_mode(0o600);
    fs::set_permissions(home.path().join("store.key"), key).unwrap();
    fs::create_dir(home.path().join("office")).unwrap();
    fs::write(home.path().join("office/a"), "after").unwrap();
    // Such a one is sent in parts.
    fs::write(home.path().join("office/large"), octets(9_000_000)).unwrap();
    let mut put = Command::new(env!("CARGO_BIN_EXE_relay"));
    put.args(["content", "put", "office", "--package", "PS100012", "--config", "gateway.toml"]);
    let done = put.current_dir(home.path()).stdin(Stdio::null()).output().unwrap();
    (done, origin.seen())
}

#[test]
fn a_store_that_may_only_be_read_or_is_full_is_told_as_what_it_is_and_keeps_what_was_published() {
    for (status, code, says) in [
        (403, "AccessDenied", "the store knows the key, and does not let it do that"),
        (403, "AuthorizationPermissionMismatch", "whoever puts or removes needs one that may"),
        (403, "SignatureDoesNotMatch", "the store refuses the key"),
        (507, "InsufficientStorage", "make room there"),
        (413, "EntityTooLarge", "the store takes no more, or nothing that large"),
    ] {
        let (done, asked) = put_into(status, code);
        let said = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(1), "{code}: {said}");
        assert!(said.contains(says) && said.contains("PS100012 was not published"), "{said}");
        assert!(!said.contains(SECRET), "{said}");
        let lines: Vec<_> = asked.iter().map(|it| it.line.as_str()).collect();
        let has_written = |it: &&str| it.starts_with("PUT ") || it.starts_with("POST ");
        assert!(lines.iter().any(has_written), "it was asked: {lines:?}");
        // Neither the manifest, nor what it speaks of.
        let harms = |it: &&str| it.contains("manifest.json") && has_written(it);
        assert!(!lines.iter().any(harms), "{lines:?}");
        assert!(lines.iter().all(|it| !it.starts_with("DELETE ") || it.contains("uploadId")));
    }
}

#[test]
fn nobody_who_puts_into_a_store_that_nobody_answers_for_waits_for_ever() {
    // Held, and nobody listens on it.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let home = tempfile::tempdir().unwrap();
    let table = table("http", held.local_addr().unwrap());
    fs::write(home.path().join("gateway.toml"), table).unwrap();
    fs::write(home.path().join("store.key"), SECRET).unwrap();
    let key = fs::Permissions::from_mode(0o600);
    fs::set_permissions(home.path().join("store.key"), key).unwrap();
    fs::create_dir(home.path().join("office")).unwrap();
    fs::write(home.path().join("office/a"), "a").unwrap();
    let mut put = Command::new(env!("CARGO_BIN_EXE_relay"));
    put.args(["content", "put", "office", "--package", "PS100012", "--config", "gateway.toml"]);
    let done = put.current_dir(home.path()).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("nobody takes a connection at the store"), "{said}");
    assert!(said.contains("check `endpoint` of [content]"), "{said}");
}

#[test]
fn a_store_that_gives_an_octet_a_second_is_given_up_by_the_gateway_and_its_client_is_told() {
    let slow = Origin::start(|_| Response::new(Said::drip(60)));
    let mut scene = Scene::with(&table("http", slow.at), &[("store.key", SECRET)]);
    let (status, report) = scene.fetch(&scene.grant(&[]), "out", &["--package"]);
    let reason = &report["reason"];
    assert_eq!((status, reason), (1, &"CMGService_Content_Unavailable".into()), "{report:#}");
    scene.relay.gateway.wait_for_log("the store of content cannot be read", 1);
}

#[test]
fn a_file_that_comes_to_a_standstill_at_its_store_keeps_no_other_and_is_given_up_in_its_time() {
    let package = Package::of(&[("a", b"0123456789"), ("b", b"another")]);
    let slow = format!("{:x}", Sha256::digest(b"0123456789"));
    let store = Origin::start(move |asked| {
        let mut answer = package.answer(asked);
        if asked.line.contains(&slow) {
            *answer.body_mut() = Said::endless();
        }
        answer
    });
    let scene = Scene::with(&table("http", store.at), &[("store.key", SECRET)]);
    let more = ["--package", "--parallel", "2", "--timeout", "2"];
    let (status, report) = scene.fetch(&scene.grant(&[]), "out", &more);
    assert_eq!((status, &report["files_fetched"]), (1, &1.into()), "{report:#}");
    assert_eq!((&report["hop"], &report["file"]), (&"network".into(), &"a".into()));
    assert!(report["means"].as_str().unwrap().contains("for 2 s"), "{report:#}");
    assert!(report["next"].as_str().unwrap().contains("the store"), "{report:#}");
    assert!(scene.relay.path("out/b").exists() && !scene.relay.path("out/a").exists());
}
