//! `relay client request`.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use relay_core::auth::{ClientKey, Replay, SignedDigests, SignedHead};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;

use super::{Asked, Origin, Relay, SECRET, SERVICE, Said, answer, run};

const CLIENT: &str = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";

/// Says who was asked for what, or refuses as the path says.
fn site_role(asked: &Asked) -> http::Response<Said> {
    match asked.line.split(['/', ' ', '?']).next_back() {
        Some("refuse") => answer(403, "no \u{1b}[31mred\u{1b}[0m clients here"),
        Some("fail") => answer(500, ""),
        Some("elsewhere") => {
            let mut moved = answer(302, "");
            moved.headers_mut().insert("location", "https://other.example/".parse().unwrap());
            moved
        }
        _ => answer(200, "the list"),
    }
}

fn told<'a>(report: &'a Value, names: &[&str]) -> Vec<&'a Value> {
    names.iter().map(|name| &report[*name]).collect()
}

#[test]
fn a_request_shows_its_credentials_and_says_who_answered() {
    let relay = Relay::start(site_role);
    relay.secret("token", &format!("{SECRET}.payload.signature\n"));
    let [pem, key] = relay.certificate("me");
    let url = relay.url("/SMS_MP/.sms_aut?MPLIST");
    let with = ["--token-file", "token", "--certificate", &pem, "--key", &key];
    let signing = ["--sign", "--client-id", CLIENT];
    for (version, http) in [(&[][..], "HTTP/2 with "), (&["--http1"], "HTTP/1.1 with ")] {
        let output = ["--output", "list", "--header", "X-Of: mine"];
        let args = [&["request", "GET", &url][..], &with, &signing, &output, version].concat();
        let (status, report) = relay.report(&args);
        assert_eq!((status, &report["outcome"]), (0, &"answered".into()), "{report}");
        assert_eq!(told(&report, &["hop", "status"]), [&Value::from("site"), &200.into()]);
        assert!(report["over"].as_str().unwrap().starts_with(http), "{report}");
        assert_eq!(report["message_id"].as_str().unwrap().len(), 36);
        assert_eq!(fs::read_to_string(relay.path("list")).unwrap(), "the list");
        fs::remove_file(relay.path("list")).unwrap();
    }
    // What reached the site role is what the gateway is going to judge.
    let der = CertificateDer::from_pem_file(relay.path("me.pem")).unwrap();
    let key = ClientKey::of_certificate(&der).unwrap();
    for asked in relay.origin.seen() {
        assert_eq!(asked.line, "GET /SMS_MP/.sms_aut?MPLIST");
        assert_eq!(asked.header("authorization"), format!("Bearer {SECRET}.payload.signature"));
        assert_eq!(asked.header("x-of"), "mine");
        let signed = SignedHead::read(&asked.headers).unwrap().unwrap();
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let judged = signed.verify(&key, SignedDigests::Sha256, now, &mut Replay::new(1));
        assert_eq!(judged.unwrap().to_string(), CLIENT);
    }
    assert_eq!(relay.origin.seen().len(), 2);
}

#[test]
fn a_body_goes_from_a_file_and_comes_to_standard_output() {
    let relay = Relay::start(|asked: &Asked| http::Response::new(Said::whole(asked.body.clone())));
    let body = crate::support::octets(300_000);
    fs::write(relay.path("body"), &body).unwrap();
    let url = relay.url("/ccm_system/request");
    for version in [&[][..], &["--http1"]] {
        let args = ["request", "CCM_POST", &url, "--data-file", "body", "--output", "-"];
        let done = relay.client(&[&args[..], version].concat());
        let report = String::from_utf8(done.stderr).unwrap();
        assert!(report.starts_with("answered: 200 by the site role"), "{report}");
        assert!(done.stdout == body, "{} octets", done.stdout.len());
    }
}

#[test]
fn an_answer_that_breaks_off_is_a_failure_and_keeps_nothing() {
    // Without a gateway in between: there the end may overtake the head.
    let origin = Origin::start(|_: &Asked| {
        let answer = http::Response::builder().header("content-length", "100");
        answer.body(Said::cut("half of it")).unwrap()
    });
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("kept"), "before").unwrap();
    let url = format!("http://{}/x", origin.at);
    let done = run(home.path(), &["request", "GET", &url, "--output", "kept", "--json"]);
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((done.status.code(), &report["outcome"]), (Some(1), &"failed".into()), "{report}");
    assert_eq!(told(&report, &["hop", "status"]), [&Value::from("unknown"), &200.into()]);
    assert_eq!(fs::read_to_string(home.path().join("kept")).unwrap(), "before");
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
}

#[test]
fn each_hops_refusal_is_told_with_its_reason_and_what_to_do() {
    let mut relay = Relay::start(site_role);
    let refused = |relay: &Relay, args: &[&str]| {
        let (status, report) = relay.report(&[&["request"], args].concat());
        assert_eq!(status, 1, "{report}");
        for name in ["means", "next", "message_id"] {
            assert!(report[name].as_str().is_some_and(|it| !it.is_empty()), "{name}: {report}");
        }
        report
    };
    let expect = |report: &Value, outcome: &str, hop: &str, reason: Value| {
        let found = told(report, &["outcome", "hop", "reason"]);
        assert_eq!(found, [&outcome.into(), &hop.into(), &reason], "{report}");
    };
    for version in [&[][..], &["--http1"]] {
        let ask = |relay: &Relay, verb: &str, path: &str| {
            refused(relay, &[&[verb, relay.url(path).as_str()][..], version].concat())
        };
        let gateway = ask(&relay, "GET", "/AdminService");
        expect(&gateway, "refused", "gateway", "CMGService_Not_Published".into());
        let gateway = ask(&relay, "DELETE", "/SMS_MP/.sms_aut");
        expect(&gateway, "refused", "gateway", "CMGService_Method_Not_Allowed".into());
        let site = ask(&relay, "GET", "/SMS_MP/refuse");
        expect(&site, "refused", "site", Value::Null);
        assert_eq!(site["said"], "no ?[31mred?[0m clients here");
        let site = ask(&relay, "GET", "/SMS_MP/fail");
        expect(&site, "failed", "site", Value::Null);
    }
    // Nobody is followed.
    let (status, moved) = relay.report(&["request", "GET", &relay.url("/SMS_MP/elsewhere")]);
    assert_eq!((status, &moved["location"]), (0, &"https://other.example/".into()));

    // For people: the same, and one line on standard error.
    let done = relay.client(&["request", "GET", &relay.url("/AdminService")]);
    let (out, err) =
        (String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap());
    assert!(
        out.starts_with("refused: 404 by the gateway\n  reason       CMGService_Not_Published\n"),
        "{out}"
    );
    assert_eq!(err, "error: the gateway refused the request: 404 CMGService_Not_Published\n");

    // The site role is gone: the connection point says so.
    relay.origin = Origin::start(site_role);
    let gone = refused(&relay, &["GET", &relay.url("/SMS_MP/x")]);
    expect(&gone, "failed", "connection_point", "CMGConnector_Backend_Unreachable".into());

    // The connection point is gone.
    relay.point.take().unwrap().stop();
    relay.gateway.wait_for_log("link down", 2);
    let alone = refused(&relay, &["GET", &relay.url("/SMS_MP/x")]);
    assert_eq!(alone["hop"], "gateway");
}

#[test]
fn what_keeps_a_request_from_being_answered_is_told() {
    let relay = Relay::start(site_role);
    let [pem, _] = relay.certificate("other-ca");
    let port = relay.clients.port();
    let fails = |args: &[&str], hop: &str, part: &str| {
        let done = run(relay.home.path(), &[&["request", "GET"], args, &["--json"]].concat());
        let report: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!((done.status.code(), &report["hop"]), (Some(1), &hop.into()), "{report}");
        assert!(report["means"].as_str().unwrap().contains(part), "{report}");
        assert!(report["status"].is_null() && report["next"].is_string(), "{report}");
    };
    let ca = relay.site.ca();
    let ca = ["--ca", ca.to_str().unwrap()];
    let resolve = ["--resolve", "relay.example:127.0.0.1"];
    let url = relay.url("/SMS_MP/x");
    fails(
        &[&[url.as_str(), "--ca", &pem], &resolve[..]].concat(),
        "unknown",
        "of no authority that is trusted",
    );
    let wrong_name = format!("https://127.0.0.1:{port}/");
    fails(&[&[wrong_name.as_str()], &ca[..]].concat(), "unknown", "is not one of 127.0.0.1");
    // Held, and nobody listens on it.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let nobody = format!("https://{SERVICE}:{}/", held.local_addr().unwrap().port());
    fails(
        &[&[nobody.as_str()], &ca[..], &resolve].concat(),
        "network",
        "nobody takes a connection",
    );
    fails(&[&["https://no.such.name.invalid/"], &ca[..]].concat(), "network", "has no address");
    let plain = format!("https://{SERVICE}:{}/", relay.origin.at.port());
    fails(&[&[plain.as_str()], &ca[..], &resolve].concat(), "unknown", "no TLS handshake");
    // It takes connections, and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    fails(&[&url, "--timeout", "1"], "network", "nothing came from");
    assert!(relay.origin.seen().is_empty());
}

#[test]
fn a_site_role_that_repeats_the_token_does_not_have_it_shown() {
    let origin = Origin::start(|asked: &Asked| {
        let said = format!("no {} here", asked.header("authorization"));
        http::Response::builder().status(403).body(Said::whole(said)).unwrap()
    });
    let home = tempfile::tempdir().unwrap();
    let url = format!("http://{}/", origin.at);
    // By standard input, which `run` leaves empty.
    let mut asked = Command::new(env!("CARGO_BIN_EXE_relay"))
        .args(["client", "request", "GET", &url, "--token-file", "-", "--json"])
        .current_dir(home.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    asked.stdin.take().unwrap().write_all(SECRET.as_bytes()).unwrap();
    let done = asked.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(report["said"], "no Bearer [redacted] here", "{report}");
    assert_eq!(origin.seen()[0].header("authorization"), format!("Bearer {SECRET}"));
}

#[test]
fn a_command_line_that_cannot_be_followed_sends_nothing() {
    let home = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| fs::write(home.path().join(name), content).unwrap();
    write("empty", "");
    write("words", &format!("{SECRET} {SECRET}"));
    write("long", &SECRET.repeat(1000));
    write("pem", &format!("-----BEGIN CERTIFICATE-----\n{SECRET}\n-----END CERTIFICATE-----\n"));
    write("token", SECRET);
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let here = format!("http://{}/", held.local_addr().unwrap());
    let secure = here.replace("http:", "https:");
    let user = format!("https://me:{SECRET}@relay.example/");
    let bearer = format!("Authorization: Bearer {SECRET}");
    for wrong in [
        &["GET"][..],
        &["G ET", &here],
        &["GET", "relay.example"],
        &["GET", "http://relay.example/"],
        &["GET", &user],
        &["GET", &secure],
        &["GET", &secure, "--ca", "nowhere"],
        &["GET", &secure, "--ca", "empty"],
        &["GET", &secure, "--ca", "pem"],
        &["GET", &here, "--timeout", "0"],
        &["GET", &here, "--timeout", "-1"],
        &["GET", &here, "--timeout", "soon"],
        &["GET", &here, "--resolve", "relay.example"],
        &["GET", &here, "--header", "nothing"],
        &["GET", &here, "--header", &bearer],
        &["GET", &here, "--token-file", "nowhere"],
        &["GET", &here, "--token-file", "empty"],
        &["GET", &here, "--token-file", "words"],
        &["GET", &here, "--token-file", "long"],
        &["GET", &here, "--token-file", "."],
        // Nothing comes by standard input.
        &["GET", &here, "--token-file", "-"],
        &["GET", &here, "--certificate", "pem"],
        &["GET", &here, "--key", "pem"],
        &["GET", &here, "--certificate", "pem", "--key", "pem"],
        &["GET", &here, "--sign"],
        &["GET", &here, "--sign", "--token-file", "token"],
        &["GET", &here, "--client-id", "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"],
        &["GET", &here, "--folder", "nowhere"],
        &["GET", &here, "--folder", ".", "--token-file", "token"],
        &["GET", &here, "--data-file", "nowhere"],
        &["GET", &here, "--data-file", "."],
        &["GET", &here, "--output", "."],
        &["GET", &here, "--output", "nowhere/file"],
    ] {
        let done = run(home.path(), &[&["request"], wrong].concat());
        assert_eq!(done.status.code(), Some(2), "{wrong:?}");
        assert!(done.stdout.is_empty() && !done.stderr.is_empty(), "{wrong:?}");
    }
    // The last of them would have gone: nobody listens there.
    let done = run(home.path(), &["request", "GET", &here]);
    assert_eq!(done.status.code(), Some(1));
}

#[test]
fn a_token_that_others_may_read_is_warned_of() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("token");
    for (mode, is_warned) in [(0o600, false), (0o640, false), (0o604, true)] {
        fs::write(&file, SECRET).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let url = "https://127.0.0.1:1/";
        let done = run(home.path(), &["request", "GET", url, "--token-file", "token"]);
        let told = String::from_utf8(done.stderr).unwrap();
        assert_eq!(told.contains("every account of this machine"), is_warned, "{mode:o}: {told}");
    }
}
