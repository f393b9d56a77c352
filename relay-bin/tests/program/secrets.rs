//! Nothing that the program is told in confidence is in what it says: not in the logs of its roles
//! at level trace, whoever writes them, nor in anything that an administrator or client is shown.

mod asked;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use http::Response;

use crate::support::origin::{Asked, Origin, Said};
use crate::support::role::Role;
use crate::support::site::{HTTPS_ROLE, SERVICE, Site};

const CONFIG: &str = "site/connection-point/connection-point.toml";

/// What stands in every secret that the test makes.
const MARK: &str = "hush4hush4hush";

/// What anybody at the admin listener may read.
const SHOWN: [&str; 4] = ["/", "/metrics", "/readyz", "/status.json"];

/// Octets of a secret that may stand somewhere by chance. Of base64, so many say little.
const SHORT: usize = 24;

/// What a program has said.
struct Heard(Vec<String>);

impl Heard {
    fn relay(&mut self, home: &Path, args: &[&str], status: i32) -> Output {
        let done = Command::new(env!("CARGO_BIN_EXE_relay"))
            .args(args)
            .current_dir(home)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let texts = [&done.stdout, &done.stderr].map(|it| String::from_utf8_lossy(it).into_owned());
        assert_eq!(done.status.code(), Some(status), "{args:?}: {texts:?}");
        self.0.extend(texts);
        done
    }
}

/// Whatever in a file of a key is not the same in every such file.
fn lines_of_keys(folder: &Path, secrets: &mut BTreeSet<String>) -> usize {
    let mut keys = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            keys += lines_of_keys(&path, secrets);
            continue;
        }
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for block in text.split("-----BEGIN ").skip(1) {
            let (label, rest) = block.split_once("-----\n").unwrap();
            if !label.ends_with("PRIVATE KEY") {
                continue;
            }
            let (key, _) = rest.split_once("-----END").unwrap();
            secrets.extend(key.lines().filter(|it| SHORT < it.len()).map(str::to_owned));
            keys += 1;
        }
    }
    keys
}

/// A file that only its owner may read.
fn secret(home: &Path, name: &str, content: &str) -> PathBuf {
    let path = home.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn answer(_: &Asked) -> Response<Said> {
    Response::builder()
        .header("set-cookie", format!("session={MARK}; Secure"))
        .body(Said::whole(format!("the site says {MARK}")))
        .unwrap()
}

/// Has a client register on the site's own network; what is secret of the token that it is given.
fn registered(heard: &mut Heard, home: &Path, point: &mut Role) -> Vec<String> {
    let service = format!("http://{}", point.token_service());
    for (door, status) in [("register", 0), ("renew", 1)] {
        heard.relay(home, &["client", door, &service, "--folder", "me"], status);
    }
    let own = fs::read_to_string(home.join("me/client.token")).unwrap();
    own.trim().split('.').skip(1).map(str::to_owned).collect()
}

#[test]
fn no_secret_is_in_what_the_program_says_at_level_trace_or_shows() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let origin = Origin::start(answer);
    let site = Site::init_with(home, &["--backend", &format!("http://{}", origin.at)]);
    site.have_clients_register_here();
    let mut heard = Heard(Vec::new());
    let token = ["token", "new", "--config", CONFIG, "--json"];
    // Whoever asks for a token is shown it, once: that is not looked through.
    let issued = heard.relay(home, &token, 0).stdout;
    heard.0.clear();
    let issued: serde_json::Value = serde_json::from_slice(&issued).unwrap();
    let bulk = issued["token"].as_str().unwrap();
    secret(home, "bulk.token", bulk);
    secret(home, "body", &format!("the client says {MARK}"));
    let mut secrets = BTreeSet::from([MARK.to_owned()]);
    secrets.extend(bulk.split('.').skip(1).map(str::to_owned));

    let [mut gateway, mut point] = site.start_traced();
    gateway.wait_for_log("settings applied", 1);
    let [clients, _] = gateway.addresses();
    let (at_gateway, at_point) = (gateway.admin().to_string(), point.admin().to_string());
    let ca = site.ca();
    let (ca, resolve) = (ca.to_str().unwrap(), format!("{SERVICE}:127.0.0.1"));
    let url = |path: &str| {
        let role =
            format!("https://{SERVICE}:{}/CCM_Proxy_ServerAuth/{HTTPS_ROLE}", clients.port());
        format!("{role}{path}?sig={MARK}")
    };
    let shown = home.join("answer");
    let shown = shown.to_str().unwrap();
    for (verb, path, status) in
        [("CCM_POST", "/SMS_MP/x", 0), ("DELETE", "/SMS_MP/x", 1), ("CCM_POST", "/elsewhere", 1)]
    {
        let url = url(path);
        let args = ["client", "request", verb, &url, "--ca", ca, "--resolve", &resolve];
        let more = ["--token-file", "bulk.token", "--data-file", "body", "--output", shown];
        heard.relay(home, &[&args[..], &more].concat(), status);
        heard.relay(home, &[&args[..], &more, &["--http1"]].concat(), status);
    }
    secrets.extend(registered(&mut heard, home, &mut point));
    for admin in [&at_gateway, &at_point] {
        for path in SHOWN {
            heard.0.push(crate::admin::get(admin.parse().unwrap(), path));
        }
        for asked in [&["status"][..], &["status", "--json"], &["log"], &["log", "--json"]] {
            heard.relay(home, &[asked, &["--admin", admin]].concat(), 0);
        }
    }
    for asked in
        [&["list"][..], &["clients", "--json"], &["block", issued["guid"].as_str().unwrap()]]
    {
        heard.relay(home, &[&["token"], asked, &["--config", CONFIG]].concat(), 0);
    }
    gateway.wait_for_log("settings applied", 2);
    for (role, file) in [("gateway", "site/gateway-1/gateway.toml"), ("connection-point", CONFIG)] {
        heard.relay(home, &[role, "--config", file, "--check"], 0);
    }
    assert_eq!(origin.seen().len(), 2, "the site has them");
    for role in [point, gateway] {
        let (status, lines) = role.stop();
        assert_eq!(status, Some(0));
        assert!(lines.iter().any(|line| line.contains("\"TRACE\"")), "all was logged");
        heard.0.extend(lines);
    }
    let keys = lines_of_keys(home, &mut secrets);
    assert!(keys >= 5, "of the authority, the roles and the signer: {keys}");
    for text in &heard.0 {
        let told = secrets.iter().find(|it| text.contains(it.as_str()));
        assert_eq!(told, None, "{text:.2000}");
    }
}
