//! `relay pki` as an administrator meets it: files, messages, exit statuses.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, date_time_ymd};
use serde_json::Value;
use tempfile::TempDir;

/// A temporary folder with the site that `relay init` writes, in `site`.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        home.done("init site --service relay.example --backend http://127.0.0.1:9");
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Runs a command line without blanks in its words. Returns its status, output and errors.
    fn relay(&self, line: &str) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_relay"));
        let ran = command.args(line.split(' ')).current_dir(self.0.path()).output().unwrap();
        let text = |octets| String::from_utf8(octets).unwrap();
        (ran.status.code(), text(ran.stdout), text(ran.stderr))
    }

    /// The output of a command that must succeed.
    fn done(&self, line: &str) -> String {
        let (status, out, err) = self.relay(line);
        assert_eq!(status, Some(0), "{line}: {err}");
        out
    }

    /// The message of a command that must end with `status`.
    fn refused(&self, line: &str, status: i32) -> String {
        let (ended, out, err) = self.relay(line);
        assert_eq!(ended, Some(status), "{line}: {err}");
        assert_eq!(out, "", "{line}");
        err
    }

    /// What `relay pki show` says of the first certificate or list of a file.
    fn shown(&self, file: &str) -> Value {
        let all: Value =
            serde_json::from_str(&self.done(&format!("pki show --json {file}"))).unwrap();
        all[0].clone()
    }

    /// Whether both roles' configurations can be used.
    fn check(&self) {
        self.done("gateway --check --config site/gateway-1/gateway.toml");
        self.done("connection-point --check --config site/connection-point/connection-point.toml");
    }
}

const CA: &str = "--ca site/site-ca";

#[test]
fn an_issued_certificate_says_what_was_asked_for_and_can_be_used() {
    let home = Home::new();
    home.done(&format!("pki issue {CA} --connection-point north --out north"));
    let shown = home.shown("north/link.pem");
    assert_eq!((&shown["subject"], &shown["names"][0]), (&"CN=north".into(), &"north".into()));
    assert_eq!(shown["uses"], serde_json::json!(["client"]));
    assert_eq!(shown["issuer"], home.shown("site/site-ca/site-ca.pem")["subject"]);
    assert_eq!((&shown["life_left_percent"], &shown["days_left"]), (&99.into(), &824.into()));

    let names = "--server-name gateway-{instance}.relay.example --server-name 192.0.2.1";
    home.done(&format!("pki issue {CA} --instance 1 {names} --days 30 --out site/new"));
    let shown = home.shown("site/new/links.pem");
    assert_eq!(shown["names"], serde_json::json!(["gateway-1.relay.example", "192.0.2.1"]));
    assert_eq!(shown["uses"], serde_json::json!(["server"]));
    assert_eq!(shown["days_left"], 29);
    for file in ["links.pem", "links-key.pem"] {
        fs::copy(home.path("site/new").join(file), home.path("site/gateway-1").join(file)).unwrap();
    }
    for file in ["link.pem", "link-key.pem"] {
        let to = home.path("site/connection-point").join(file);
        fs::copy(home.path("north").join(file), to).unwrap();
    }
    home.check();
    let text = home.done("pki show site/new/links.pem");
    assert!(text.contains("\n  names        gateway-1.relay.example, 192.0.2.1\n"), "{text}");
}

#[test]
fn issuing_writes_over_nothing_unless_it_is_forced() {
    let home = Home::new();
    let line = format!("pki issue {CA} --connection-point north --out site/connection-point");
    let before = home.text("site/connection-point/link.pem");
    let told = home.refused(&line, 2);
    assert!(told.contains("link.pem exists; nothing was written. Give --force"), "{told}");
    fs::remove_file(home.path("site/connection-point/link.pem")).unwrap();
    let told = home.refused(&line, 2);
    assert!(told.contains("link-key.pem exists; nothing was written."), "{told}");
    assert!(!home.path("site/connection-point/link.pem").exists());
    home.done(&format!("{line} --force"));
    assert_ne!(home.text("site/connection-point/link.pem"), before);
    home.check();
}

#[test]
fn a_renewed_certificate_has_the_same_names_and_uses_and_another_key() {
    let home = Home::new();
    for stem in ["site/gateway-1/links", "site/gateway-1/clients", "site/connection-point/link"] {
        let (certificate, key) = (format!("{stem}.pem"), format!("{stem}-key.pem"));
        let (before, key_before) = (home.shown(&certificate), home.text(&key));
        home.done(&format!("pki renew {CA} {certificate} {key} --days 400"));
        let after = home.shown(&certificate);
        for same in ["subject", "names", "uses", "issuer"] {
            assert_eq!(before[same], after[same], "{stem}");
        }
        for other in ["serial", "sha256"] {
            assert_ne!(before[other], after[other], "{stem}");
        }
        assert_eq!(after["days_left"], 399);
        assert_ne!(home.text(&key), key_before);
        // Without a number of days the next one lives as long as this one.
        home.done(&format!("pki renew {CA} {certificate} {key}"));
        assert_eq!(home.shown(&certificate)["days_left"], 399);
    }
    home.check();
}

#[cfg(unix)]
#[test]
fn keys_that_are_written_are_for_their_owner_only_and_nothing_is_left_beside_them() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::new();
    home.done(&format!("pki issue {CA} --connection-point north --out north"));
    home.done(&format!("pki renew {CA} north/link.pem north/link-key.pem"));
    let mode = |file| fs::metadata(home.path(file)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("north/link-key.pem"), mode("north/link.pem")), (0o600, 0o644));
    assert_eq!(fs::read_dir(home.path("north")).unwrap().count(), 2);
}

#[test]
fn a_certificate_that_is_taken_back_stands_on_the_list_with_those_before_it() {
    let home = Home::new();
    for name in ["north", "south"] {
        home.done(&format!("pki issue {CA} --connection-point {name} --out {name}"));
    }
    let told = home.done(&format!("pki revoke {CA} north/link.pem"));
    assert!(told.contains("site-ca.crl with 1 certificate(s), 1 of them new"), "{told}");
    let told = home.done(&format!("pki revoke {CA} south/link.pem north/link.pem --days 9"));
    assert!(told.contains("site-ca.crl with 2 certificate(s), 1 of them new"), "{told}");
    let list = home.shown("site/site-ca/site-ca.crl");
    let serials =
        ["north", "south"].map(|it| home.shown(&format!("{it}/link.pem"))["serial"].clone());
    assert_eq!(list["revoked"], Value::from(serials.to_vec()));
    assert_eq!(list["is_over"], false);
    let told = home.done(&format!("pki revoke {CA}"));
    assert!(told.contains("site-ca.crl with 2 certificate(s), 0 of them new"), "{told}");
    // Without a number of days it holds as long as the authority.
    let end = home.shown("site/site-ca/site-ca.pem")["not_after"].clone();
    assert_eq!(home.shown("site/site-ca/site-ca.crl")["next_update"], end);

    for (role, file) in [
        ("gateway", "site/gateway-1/gateway.toml"),
        ("connection-point", "site/connection-point/connection-point.toml"),
    ] {
        let elsewhere = home.text(file).replace("site-ca.crl", "../site-ca/site-ca.crl");
        fs::write(home.path(file), elsewhere).unwrap();
        home.done(&format!("{role} --check --config {file}"));
    }
}

#[test]
fn an_authority_that_cannot_sign_is_named_with_what_is_wrong() {
    let home = Home::new();
    let write = |folder: &str, params: CertificateParams| {
        let key = KeyPair::generate().unwrap();
        fs::create_dir(home.path(folder)).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        fs::write(home.path(folder).join("site-ca.pem"), certificate.pem()).unwrap();
        fs::write(home.path(folder).join("site-ca-key.pem"), key.serialize_pem()).unwrap();
    };
    let authority = || {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "other");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    };
    write("leaf", CertificateParams::new(vec!["leaf.example".to_owned()]).unwrap());
    let mut old = authority();
    old.not_before = date_time_ymd(2000, 1, 1);
    old.not_after = date_time_ymd(2001, 1, 1);
    write("expired", old);
    let mut future = authority();
    future.not_before = date_time_ymd(3000, 1, 1);
    write("future", future);
    write("swapped", authority());
    fs::copy(home.path("leaf/site-ca-key.pem"), home.path("swapped/site-ca-key.pem")).unwrap();
    write("keyless", authority());
    fs::write(home.path("keyless/site-ca-key.pem"), "no key\n").unwrap();
    fs::create_dir(home.path("empty")).unwrap();

    for (folder, told) in [
        ("leaf", "site-ca.pem is no certificate authority"),
        ("expired", "site-ca.pem expired on 2001-01-01"),
        ("future", "does not hold before 3000-01-01"),
        ("swapped", "does not belong to swapped/site-ca.pem"),
        ("keyless", "site-ca-key.pem holds no private key"),
        ("empty", "cannot read empty/site-ca.pem"),
    ] {
        let line = format!("pki issue --ca {folder} --connection-point north --out north");
        let shown = home.refused(&line, 2);
        assert!(shown.contains(told), "{folder}: {shown}");
        assert!(!home.path("north").exists(), "{folder}");
    }
}

#[test]
fn what_does_not_belong_together_is_refused_and_left_alone() {
    let home = Home::new();
    home.done(&format!("pki issue {CA} --connection-point north --out north"));
    home.done("init other --service other.example --backend http://127.0.0.1:9");
    let before = [home.text("north/link.pem"), home.text("north/link-key.pem")];
    for (line, told) in [
        (format!("pki renew {CA} north/link.pem site/site-ca/site-ca-key.pem"), "does not belong"),
        (
            "pki renew --ca other/site-ca north/link.pem north/link-key.pem".to_owned(),
            "give the authority that has signed it",
        ),
        (
            "pki revoke --ca other/site-ca north/link.pem".to_owned(),
            "give the authority that has signed it",
        ),
        (
            format!("pki renew {CA} site/site-ca/site-ca.pem site/site-ca/site-ca-key.pem"),
            "is an authority, which cannot be renewed",
        ),
        ("pki show north/link-key.pem".to_owned(), "neither a certificate nor a revocation list"),
        ("pki show absent.pem".to_owned(), "cannot read absent.pem"),
    ] {
        let shown = home.refused(&line, 2);
        assert!(shown.contains(told), "{line}: {shown}");
    }
    let list = home.done("pki revoke --ca other/site-ca");
    assert!(list.contains("with 0 certificate(s)"), "{list}");
    fs::copy(home.path("other/site-ca/site-ca.crl"), home.path("site/site-ca/site-ca.crl"))
        .unwrap();
    let shown = home.refused(&format!("pki revoke {CA} north/link.pem"), 2);
    assert!(shown.contains("the list is of"), "{shown}");
    assert_eq!([home.text("north/link.pem"), home.text("north/link-key.pem")], before);
}

#[test]
fn a_command_line_that_cannot_be_followed_ends_with_2() {
    let home = Home::new();
    let long = "n".repeat(65);
    for line in [
        format!("pki issue {CA} --out x"),
        format!("pki issue {CA} --instance 1 --out x"),
        format!("pki issue {CA} --instance 17 --server-name a.example --out x"),
        format!("pki issue {CA} --connection-point a --server-name a.example --out x"),
        format!("pki issue {CA} --connection-point a --instance 1 --server-name b --out x"),
        format!("pki issue {CA} --connection-point {long} --out x"),
        format!("pki issue {CA} --connection-point a --days 826 --out x"),
        format!("pki issue {CA} --connection-point a --days 0 --out x"),
        "pki show".to_owned(),
    ] {
        home.refused(&line, 2);
        assert!(!home.path("x").exists(), "{line}");
    }
    assert!(home.done("pki --help").contains("Examples:\n"));
}
