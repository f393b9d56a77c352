//! `relay token` as an administrator or a script meets it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::support::{missing, tools_are_required};

const CONFIG: &str = "site/connection-point/connection-point.toml";
const TOKENS: &str = "site/connection-point/tokens";
const NOBODY: &str = "5d2f7a90-0c4e-4b7e-9a53-2f1c66a0b1d4";

/// A folder with a site in it.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        home.run(&["init", "site", "--backend", "http://127.0.0.1:8080"], 0);
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What the program says to `args`, which must end it with `status`.
    fn run(&self, args: &[&str], status: i32) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_relay"));
        let output = command.args(args).current_dir(self.0.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{args:?}: {said}");
        output
    }

    /// What `relay token` says on standard output; it must succeed and complain of nothing.
    fn token(&self, args: &[&str]) -> String {
        let output = self.run(&[&["token"], args, &["--config", CONFIG]].concat(), 0);
        let said = String::from_utf8(output.stderr).unwrap();
        let complaint = said.lines().find(|line| !line.starts_with("note: "));
        assert_eq!(complaint, None, "{args:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.token(&[args, &["--json"]].concat())).unwrap()
    }

    /// What `relay token` complains of; it must end with `status` and say nothing else.
    fn refusal(&self, args: &[&str], status: i32) -> String {
        let output = self.run(&[&["token"], args, &["--config", CONFIG]].concat(), status);
        assert_eq!(output.stdout, b"", "{args:?}");
        let refusal = String::from_utf8(output.stderr).unwrap();
        assert!(!refusal.contains("PRIVATE") && !refusal.contains("eyJ"), "{refusal}");
        refusal
    }

    /// What `openssl` says on standard output.
    fn openssl(&self, args: &[&str]) -> String {
        let mut command = Command::new("openssl");
        let output = command.args(args).current_dir(self.path(TOKENS)).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {args:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What `relay token new` says beside a token.
    fn note_of_new(&self) -> String {
        let output = self.run(&["token", "new", "--config", CONFIG], 0);
        String::from_utf8(output.stderr).unwrap()
    }

    fn has_openssl() -> bool {
        let missing = missing(&[("openssl", "version")]);
        assert!(missing.is_empty() || !tools_are_required(), "not installed: {missing:?}");
        if !missing.is_empty() {
            println!("skipped: openssl cannot be started; install it to run this test");
        }
        missing.is_empty()
    }

    /// All files below the folder of the site.
    fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        read_all(&self.path("site"), &mut files);
        files
    }
}

fn read_all(folder: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_all(&path, files);
        } else {
            files.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap()
}

/// Octets of base64url without padding. RFC 4648, section 5.
fn octets(segment: &str) -> Vec<u8> {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = segment.bytes().flat_map(|digit| {
        let value = digits.iter().position(|it| *it == digit).unwrap();
        (0..6).rev().map(move |bit| u8::from(value >> bit & 1 == 1))
    });
    let bits: Vec<u8> = bits.collect();
    bits.chunks_exact(8).map(|bits| bits.iter().fold(0, |octet, bit| octet << 1 | bit)).collect()
}

/// The thumbprint that openssl tells, as hexadecimal digits.
fn thumbprint(home: &Home, digest: &str) -> String {
    let told = home.openssl(&["x509", "-in", "signing-1.pem", "-noout", "-fingerprint", digest]);
    told.trim().rsplit('=').next().unwrap().replace(':', "").to_ascii_lowercase()
}

fn hex(octets: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap();
    octets.iter().flat_map(|octet| [digit(octet >> 4), digit(octet & 15)]).collect()
}

#[test]
fn the_first_token_says_that_its_key_has_to_be_published_and_the_next_one_does_not() {
    let home = Home::new();
    let note = home.note_of_new();
    assert!(note.starts_with("note: ") && note.contains("within 5 seconds"), "{note}");
    assert_eq!(home.note_of_new(), "");
}

#[test]
fn a_token_that_is_to_be_in_a_file_is_shown_nowhere_else_and_takes_no_other_files_place() {
    let home = Home::new();
    let issued = home.json(&["new", "--out", "bulk.token"]);
    assert_eq!((&issued["token"], text(&issued, "file")), (&Value::Null, "bulk.token"));
    let token = fs::read_to_string(home.path("bulk.token")).unwrap();
    assert_eq!(token.trim_end().split('.').count(), 3, "{token}");
    let mode = fs::metadata(home.path("bulk.token")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    for (file, why) in [("bulk.token", "is there already"), ("absent/token", "cannot write")] {
        let refusal = home.refusal(&["new", "--out", file], 1);
        assert!(refusal.contains(why) && refusal.contains("nothing was issued"), "{refusal}");
    }
    assert_eq!(fs::read_to_string(home.path("bulk.token")).unwrap(), token);
    let listed = home.json(&["list"]);
    let guids: Vec<_> = listed["tokens"].as_array().unwrap().iter().map(|it| &it["guid"]).collect();
    assert_eq!(guids, [&issued["guid"]], "and nothing was issued besides");
}

#[test]
fn a_new_token_is_signed_with_the_certificate_it_names_and_claims_what_it_must() {
    if !Home::has_openssl() {
        return;
    }
    let home = Home::new();
    let issued = home.json(&["new", "--lifetime", "10080"]);
    let segments: Vec<&str> = text(&issued, "token").split('.').collect();
    let [header, payload, signature] = segments[..] else { panic!("{segments:?}") };

    fs::write(home.path(TOKENS).join("signed"), format!("{header}.{payload}")).unwrap();
    fs::write(home.path(TOKENS).join("signature"), octets(signature)).unwrap();
    home.openssl(&["x509", "-in", "signing-1.pem", "-noout", "-pubkey", "-out", "public.pem"]);
    let verify = ["dgst", "-sha256", "-verify", "public.pem", "-signature", "signature", "signed"];
    assert_eq!(home.openssl(&verify), "Verified OK\n");
    let key = home.openssl(&["x509", "-in", "signing-1.pem", "-noout", "-text"]);
    assert!(key.contains("Public-Key: (3072 bit)"), "{key}");

    let header: Value = serde_json::from_slice(&octets(header)).unwrap();
    assert_eq!((text(&header, "typ"), text(&header, "alg")), ("JWT", "RS256"));
    assert_eq!(header.as_object().unwrap().len(), 4);
    assert_eq!(hex(&octets(text(&header, "x5t"))), thumbprint(&home, "-sha1"));
    assert_eq!(hex(&octets(text(&header, "x5t#S256"))), thumbprint(&home, "-sha256"));

    let claims: Value = serde_json::from_slice(&octets(payload)).unwrap();
    let config = fs::read_to_string(home.path(CONFIG)).unwrap();
    let tenant = config.lines().find_map(|line| line.strip_prefix("tenant = \"")).unwrap();
    let tenant = tenant.trim_end_matches('"');
    let from = claims["nbf"].as_u64().unwrap();
    let expected = json!({
        "SCCMTokenCategory": "SCCMPreAuthToken",
        "Authority": "SCCM",
        "License": "SCCM",
        "Type": "BulkRegistration",
        "TenantId": tenant.to_ascii_uppercase(),
        "UniqueId": text(&issued, "guid"),
        "iss": format!("urn:sccm:oauth2:{tenant}"),
        "aud": "urn:sccm:service",
        "nbf": from,
        "exp": from + 604_800,
    });
    assert_eq!(claims, expected);
}

#[test]
fn the_end_of_the_signing_certificate_is_warned_of_until_another_key_signs() {
    if !Home::has_openssl() {
        return;
    }
    let home = Home::new();
    home.token(&["new"]);
    let made = "req -x509 -newkey rsa:2048 -nodes -keyout key -out certificate -subj /CN=site";
    for (days, is_warned) in [("61", false), ("59", true)] {
        home.openssl(&made.split(' ').chain(["-days", days]).collect::<Vec<_>>());
        let read = |name: &str| fs::read_to_string(home.path(TOKENS).join(name)).unwrap();
        let both = read("key") + &read("certificate");
        fs::write(home.path(TOKENS).join("signing-1.pem"), both).unwrap();
        for args in [["token", "new"], ["token", "list"]] {
            let output = home.run(&[&args[..], &["--config", CONFIG]].concat(), 0);
            let said = String::from_utf8(output.stderr).unwrap();
            let warning = "warning: the certificate that tokens are signed with ends in 5";
            assert_eq!(said.starts_with(warning), is_warned, "{args:?}: {said}");
            assert!(is_warned || said.is_empty(), "{said}");
        }
    }
    home.token(&["rotate"]);
    home.token(&["new"]);
}

#[test]
fn a_token_is_printed_once_and_kept_in_no_file() {
    let home = Home::new();
    let printed = home.token(&["new"]);
    let field = |name: &str| {
        let line = printed.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim().to_owned()
    };
    let (guid, token) = (field("GUID"), field("token"));
    let signature = token.rsplit('.').next().unwrap();
    let others = [home.token(&["list"]), home.token(&["list", "--json"])];
    assert!(others.iter().all(|other| other.contains(&guid) && !other.contains(signature)));
    let files = home.files();
    assert!(files.iter().any(|(path, _)| path.ends_with("site.db")));
    for (path, found) in files {
        for secret in token.split('.').map(str::as_bytes).chain([&octets(signature)[..]]) {
            let is_there = found.windows(secret.len()).any(|window| window == secret);
            assert!(!is_there, "{} holds a part of it", path.display());
        }
    }
}

#[test]
fn a_new_token_says_when_it_is_valid_which_is_three_days_unless_asked_otherwise() {
    let home = Home::new();
    for (args, seconds) in [(&["new"][..], 259_200), (&["new", "--lifetime", "1"], 60)] {
        let issued = home.json(args);
        let claims = octets(text(&issued, "token").split('.').nth(1).unwrap());
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        let [from, until] = ["nbf", "exp"].map(|name| claims[name].as_i64().unwrap());
        assert_eq!(until - from, seconds, "{args:?}");
        let date = |at| OffsetDateTime::from_unix_timestamp(at).unwrap().format(&Rfc3339).unwrap();
        let told = ["not_before", "expires"].map(|name| text(&issued, name));
        assert_eq!(told, [&*date(from), &*date(until)]);
    }
    let printed = home.token(&["new"]);
    let names: Vec<_> = printed.lines().map(|it| it.split_once("  ").unwrap().0).collect();
    assert_eq!(names, ["GUID", "valid from", "valid until", "token"]);
}

#[test]
fn a_lifetime_that_no_token_may_have_is_a_usage_error_and_nothing_is_issued() {
    let home = Home::new();
    for lifetime in ["0", "-1", "10081", "text", "", "1.5", "99999999999999999999"] {
        let refusal = home.refusal(&["new", "--lifetime", lifetime], 2);
        assert!(refusal.contains("--lifetime <MINUTES>"), "{refusal}");
        assert!(!home.path(TOKENS).exists());
    }
    for lifetime in ["1", "10080"] {
        home.token(&["new", "--lifetime", lifetime]);
    }
    home.refusal(&["new", "--lifetime", "0"], 2);
    assert_eq!(home.json(&["list"])["tokens"].as_array().unwrap().len(), 2);
}

#[test]
fn tokens_are_blocked_and_unblocked_by_their_guid_and_listed_so() {
    let home = Home::new();
    let older = home.json(&["new"]);
    let (older, rotated) = (text(&older, "guid"), home.json(&["rotate"]));
    let newer = home.json(&["new", "--lifetime", "5"]);
    let states = || -> Vec<(String, String)> {
        let listed = home.json(&["list"]);
        let listed = listed["tokens"].as_array().unwrap().iter();
        listed.map(|it| (text(it, "guid").to_owned(), text(it, "state").to_owned())).collect()
    };
    let state = |guid: &str| states().into_iter().find(|it| it.0 == guid).unwrap().1;
    assert_eq!(states().len(), 2);
    assert_eq!(home.token(&["block", &older.to_ascii_uppercase()]), format!("blocked {older}\n"));
    let again = json!({ "guid": older, "blocked": true, "changed": false });
    assert_eq!(home.json(&["block", older]), again);
    assert_eq!((&*state(older), &*state(text(&newer, "guid"))), ("blocked", "valid"));
    assert!(home.token(&["list"]).contains("blocked since 20"));
    assert_eq!(home.token(&["unblock", older]), format!("unblocked {older}\n"));
    assert_eq!(home.token(&["unblock", older]), format!("{older} was not blocked\n"));
    assert_eq!(state(older), "valid");
    assert_eq!(rotated["accepted"].as_array().unwrap().len(), 2);
    assert_eq!(rotated["signs"], rotated["accepted"][1]);
    let header = text(&newer, "token").split('.').next().unwrap();
    let header: Value = serde_json::from_slice(&octets(header)).unwrap();
    let named = hex(&octets(text(&header, "x5t#S256")));
    assert_eq!(named, text(&rotated["signs"], "sha256"), "it is signed with the new key");
}

#[test]
fn whatever_is_wrong_with_the_store_or_a_key_is_said_and_changes_nothing() {
    let home = Home::new();
    let all: [&[&str]; 4] = [&["new"], &["list"], &["block", NOBODY], &["unblock", NOBODY]];
    for args in &all[1..] {
        let refusal = home.refusal(args, 1);
        assert!(refusal.starts_with("error: there is no site store at "), "{refusal}");
    }
    assert!(!home.path(TOKENS).exists());
    home.token(&["new"]);
    for args in &all[2..] {
        let told = format!("error: no token or client of this site has the GUID {NOBODY}; ");
        assert!(home.refusal(args, 1).starts_with(&told));
    }
    let (store, key) = (home.path(TOKENS).join("site.db"), home.path(TOKENS).join("signing-1.pem"));
    let (whole, whole_key) = (fs::read(&store).unwrap(), fs::read(&key).unwrap());
    let private = |file: &Path, mode| {
        fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
    };
    let says = |args: &[&[&str]], told: &str| {
        for args in args {
            let refusal = home.refusal(args, 1);
            assert!(refusal.contains(told), "{args:?}: {refusal}");
        }
    };

    private(&store, 0o644);
    says(&all, "so other accounts reach it; run `chmod 600 ");
    private(&store, 0o600);
    fs::write(&store, [&whole[..4096], &[0xff; 4096]].concat()).unwrap();
    says(&all, "is corrupt; restore it from a backup");
    fs::write(&store, "").unwrap();
    says(&all, "is corrupt; restore it from a backup");
    fs::remove_file(&store).unwrap();
    // A key without a store: there was one, with its blocks.
    says(&all, "there is no site store at ");
    says(&[&["rotate"]], "there is no site store at ");
    let moved = home.path("moved.db");
    fs::write(&moved, &whole).unwrap();
    private(&moved, 0o600);
    symlink(&moved, &store).unwrap();
    says(&all, "is not a regular file");
    fs::remove_file(&store).unwrap();
    fs::rename(&moved, &store).unwrap();

    private(&key, 0o640);
    says(&all[..1], "so other accounts reach it; run `chmod 600 ");
    private(&key, 0o600);
    fs::write(&key, &whole_key[..100]).unwrap();
    says(&all[..1], "holds no certificate of RSA");
    fs::write(&key, &whole_key).unwrap();
    assert_eq!(fs::read(&store).unwrap(), whole, "no refusal has changed it");
    home.token(&["new"]);
    assert_eq!(home.json(&["list"])["tokens"].as_array().unwrap().len(), 2);
}

#[test]
fn what_the_command_line_or_configuration_cannot_mean_has_a_status_of_its_own() {
    let home = Home::new();
    for args in [
        &["block", "not-a-guid"][..],
        &["block", "{5d2f7a90-0c4e-4b7e-9a53-2f1c66a0b1d4}"],
        &["block"],
        &["unblock", ""],
        &["new", "--life", "1"],
        &["extend"],
    ] {
        home.refusal(args, 2);
    }
    home.run(&["token", "list"], 2);
    home.run(&["token", "list", "--config", "absent.toml"], 78);
    let config = fs::read_to_string(home.path(CONFIG)).unwrap();
    fs::write(home.path(CONFIG), config.replace("[tokens]", "[token]")).unwrap();
    let refusal = home.refusal(&["new"], 78);
    assert!(refusal.starts_with("error: the site of this file makes no tokens"), "{refusal}");
    fs::write(home.path(CONFIG), config.replace("tenant = \"", "tenant = \"x")).unwrap();
    let refusal = home.refusal(&["new"], 78);
    assert!(refusal.starts_with("error: this is not a GUID"), "{refusal}");
    assert!(!home.path(TOKENS).exists());
}
