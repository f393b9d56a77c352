//! The program as a person or a script meets it: exit statuses, messages, files.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use tempfile::TempDir;

const BACKEND: [&str; 2] = ["--backend", "http://127.0.0.1:8080"];

/// A temporary folder with a site in `site`.
struct Home(TempDir);

impl Home {
    fn empty() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn with_site(rest: &[&str]) -> Self {
        let home = Self::empty();
        home.init(rest).assert().success();
        home
    }

    /// `relay` in this folder.
    fn relay(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_relay"));
        command.current_dir(self.0.path()).env_remove("RUST_LOG");
        command
    }

    fn init(&self, rest: &[&str]) -> Command {
        let mut command = self.relay();
        command.args(["init", "site"]).args(rest);
        if !rest.contains(&"--backend") {
            command.args(BACKEND);
        }
        command
    }

    fn gateway(&self) -> Command {
        let mut command = self.relay();
        command.args(["gateway", "--config", "site/gateway-1/gateway.toml"]);
        command
    }

    fn connection_point(&self) -> Command {
        let mut command = self.relay();
        let file = "site/connection-point/connection-point.toml";
        command.args(["connection-point", "--config", file]);
        command
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Replaces `old`, which must occur, in a file of the site.
    fn edit(&self, file: &str, old: &str, new: &str) {
        let text = fs::read_to_string(self.path(file)).unwrap();
        assert!(text.contains(old), "{file} has no `{old}`:\n{text}");
        fs::write(self.path(file), text.replace(old, new)).unwrap();
    }

    /// The 1-based number of the first line of a file that contains `part`.
    fn line_of(&self, file: &str, part: &str) -> usize {
        let text = fs::read_to_string(self.path(file)).unwrap();
        text.lines().position(|line| line.contains(part)).unwrap() + 1
    }
}

/// Runs `command`, which must end with `status`, and returns standard output and error.
fn run(mut command: Command, status: i32) -> (String, String) {
    let output = command.assert().code(status).get_output().clone();
    (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

const GATEWAY_FILE: &str = "site/gateway-1/gateway.toml";
const CONNECTION_POINT_FILE: &str = "site/connection-point/connection-point.toml";

#[test]
fn a_fresh_site_passes_the_check_of_both_roles() {
    let home = Home::with_site(&["--instances", "2"]);
    let mut gateway = home.gateway();
    gateway.arg("--check");
    let (out, err) = run(gateway, 0);
    assert_eq!(
        out,
        "site/gateway-1/gateway.toml can be used
  service   localhost, instance 1
  clients   https://127.0.0.1:8443
  links     127.0.0.1:10140
  fetches   nothing: [fetch] is not there
  content   none: [content] is not there
  admin     http://127.0.0.1:10181
"
    );
    assert_eq!(err, "");

    let mut connection_point = home.connection_point();
    connection_point.arg("--check");
    let (out, err) = run(connection_point, 0);
    assert_eq!(err, "");
    assert_eq!(
        out,
        "site/connection-point/connection-point.toml can be used
  name      connection-point-1
  site      default
  gateway   instance 1 at 127.0.0.1 port 10140, then https 8443 as gateway-1.localhost
  gateway   instance 2 at 127.0.0.1 port 10141, then https 8444 as gateway-2.localhost
  admin     http://127.0.0.1:10180
  endpoint  mp: management point, role id 72057594037927937, to http://127.0.0.1:8080/
  endpoint  token-service: token service, role id 72057594037927938, in this program
"
    );
}

#[test]
fn a_site_for_trials_is_warned_of_in_a_check() {
    let home = Home::with_site(&["--unsafe-allow-anonymous"]);
    let mut connection_point = home.connection_point();
    connection_point.arg("--check");
    let (_, err) = run(connection_point, 0);
    assert!(err.starts_with("warning: endpoint `mp` lets anybody on the internet in"), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
}

#[test]
fn every_option_of_init_yields_a_site_that_passes() {
    let home = Home::empty();
    home.init(&[]).assert().success();
    fs::rename(home.path("site/site-ca/site-ca.pem"), home.path("corp ca.pem")).unwrap();
    fs::remove_dir_all(home.path("site")).unwrap();
    let id = "18446744073709551615";
    let command = home.init(&[
        "--service",
        "relay.example",
        "--instances",
        "16",
        "--kind",
        "software-update-point",
        "--role-id",
        id,
        "--backend",
        "https://sup.corp.example:8531",
        "--backend-ca",
        "corp ca.pem",
        "--client-port",
        "443",
        "--link-port-base",
        "20000",
    ]);
    let (out, _) = run(command, 0);
    assert!(
        out.contains(&format!("https://relay.example:443/CCM_Proxy_MutualAuth/{id}/")),
        "{out}"
    );

    let mut gateway = home.relay();
    gateway.args(["gateway", "--check", "-c", "site/gateway-16/gateway.toml"]);
    let (out, _) = run(gateway, 0);
    assert!(out.contains("links     0.0.0.0:20015\n"), "{out}");
    let mut connection_point = home.connection_point();
    connection_point.arg("--check");
    let (out, _) = run(connection_point, 0);
    let ways = "port 20015, then https 10139";
    let line = format!("instance 16 at relay.example {ways} as gateway-16.relay.example\n");
    assert!(out.contains(&line), "{out}");
    let endpoint = format!("sup: software update point, role id {id}, to");
    assert!(out.contains(&format!("{endpoint} https://sup.corp.example:8531/\n")), "{out}");
}

#[test]
fn init_prints_commands_that_name_the_files_it_wrote() {
    let home = Home::empty();
    let (out, err) = run(home.init(&[]), 0);
    assert_eq!(err, "");
    let named = |word: &&str| word.starts_with("site/");
    let files: Vec<&str> = out.split([' ', '\n']).filter(named).collect();
    let ca = "site/site-ca/site-ca.pem";
    let [gateway, point] = [GATEWAY_FILE, CONNECTION_POINT_FILE];
    assert_eq!(files, [point, gateway, point, ca, ca]);
    assert!(files.iter().all(|file| home.path(file).is_file()), "{out}");
    let url =
        "'https://localhost:8443/CCM_Proxy_MutualAuth/72057594037927937/SMS_MP/.sms_aut?MPLIST'";
    assert!(out.contains(url), "{out}");
    for step in [
        "token new --config site/connection-point/connection-point.toml --out bulk.token\n",
        "client register https://localhost:8443/CCM_Proxy_ServerAuth/72057594037927938 \\\n",
        &format!("client request GET {url} \\\n"),
    ] {
        assert!(out.contains(step), "{step} is not in {out}");
    }
    let home = Home::empty();
    let (out, _) = run(home.init(&["--unsafe-allow-anonymous"]), 0);
    assert!(out.contains(&format!("curl --cacert {ca} {url}\n")), "{out}");
}

#[test]
fn each_commented_line_of_a_fresh_site_is_right_when_the_comment_sign_goes() {
    let home = Home::with_site(&[]);
    for file in [GATEWAY_FILE, CONNECTION_POINT_FILE] {
        let text = fs::read_to_string(home.path(file)).unwrap();
        // A table that is a comment as a whole is an alternative; up to the next empty line.
        let mut is_alternative = false;
        let live = text
            .lines()
            .map(|line| {
                is_alternative = line.starts_with("# [") || is_alternative && !line.is_empty();
                // What a backend of this site, which is an http one, can have no use for.
                let of_https =
                    line.starts_with("# client_certificate") || line.starts_with("# client_key");
                match line.strip_prefix("# ") {
                    Some(rest) if is_setting(rest) && !is_alternative && !of_https => rest,
                    _ => line,
                }
            })
            .collect::<Vec<_>>()
            .join("\n");
        assert!(live.contains("\ndrain_seconds = "), "{live}");
        let publishes = file == CONNECTION_POINT_FILE;
        for line in ["\npaths = [", "\nsite = \"", "\nversion = "] {
            assert_eq!(live.contains(line), publishes, "{line}: {live}");
        }
        fs::write(home.path(file), live).unwrap();
    }
    home.gateway().arg("--check").assert().success();
    home.connection_point().arg("--check").assert().success();
}

#[test]
fn no_line_of_a_fresh_site_falls_into_a_table_whose_comment_sign_goes() {
    let home = Home::with_site(&[]);
    let mut tables = 0;
    for file in [GATEWAY_FILE, CONNECTION_POINT_FILE] {
        let mut below = None;
        for line in fs::read_to_string(home.path(file)).unwrap().lines() {
            if line.starts_with("# [") && line.ends_with(']') {
                tables += 1;
                below = Some(line.to_owned());
            } else if line.starts_with('[') {
                below = None;
            } else if is_setting(line) {
                assert_eq!(below, None, "{file}: `{line}` would be of that table");
            }
        }
    }
    // Of a gateway what it fetches, its content, what it may send, and its collector; of a
    // connection point what it may have besides.
    assert_eq!(tables, 4 + 7);
}

fn is_setting(line: &str) -> bool {
    line.split_once(" = ")
        .is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
}

#[cfg(unix)]
#[test]
fn keys_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;

    let home = Home::with_site(&[]);
    let mut keys = 0;
    for folder in ["site-ca", "gateway-1", "connection-point"] {
        for entry in fs::read_dir(home.path("site").join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.to_str().unwrap().ends_with("-key.pem") {
                keys += 1;
                let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
                assert_eq!(mode, 0o600, "{}", path.display());
            }
        }
    }
    assert_eq!(keys, 4);
}

#[test]
fn the_authoritys_key_is_in_no_folder_that_is_copied() {
    let home = Home::with_site(&[]);
    let secret = fs::read_to_string(home.path("site/site-ca/site-ca-key.pem")).unwrap();
    for folder in ["gateway-1", "connection-point"] {
        for entry in fs::read_dir(home.path("site").join(folder)).unwrap() {
            let path = entry.unwrap().path();
            assert!(fs::read_to_string(&path).unwrap() != secret, "{}", path.display());
        }
    }
}

#[test]
fn init_refuses_a_folder_with_something_in_it_and_leaves_it_alone() {
    let home = Home::with_site(&[]);
    let before = fs::read_to_string(home.path(GATEWAY_FILE)).unwrap();
    let (out, err) = run(home.init(&[]), 2);
    assert_eq!(out, "");
    assert!(err.starts_with("error: site is not empty; nothing was written."), "{err}");
    assert_eq!(fs::read_to_string(home.path(GATEWAY_FILE)).unwrap(), before);
    assert_eq!(fs::read_dir(home.0.path()).unwrap().count(), 1);
}

#[test]
fn init_refuses_arguments_that_cannot_be_followed_and_writes_nothing() {
    let home = Home::empty();
    for (rest, part) in [
        (&["--backend", "127.0.0.1:8080"][..], "its scheme is not `http` or `https`"),
        (&["--backend", "http://a/b"], "end the URL after the port"),
        (&["--backend", "https://a"], "an https backend needs --backend-ca FILE"),
        (&["--backend-ca", "a.pem"], "--backend-ca is for https backends"),
        (&["--backend", "https://a", "--backend-ca", "absent.pem"], "absent.pem"),
        (&["--instances", "0"], "0 is not in 1..=16"),
        (&["--instances", "17"], "17 is not in 1..=16"),
        (&["--service", "https://a"], "give a host name as in `relay.example`"),
        (&["--role-id", "18446744073709551616"], "--role-id"),
        (&["--kind", "distribution-point"], "possible values"),
        (&["--client-port", "10140"], "--client-port and --link-port-base overlap"),
    ] {
        let (_, err) = run(home.init(rest), 2);
        assert!(err.contains(part), "{rest:?}: {err}");
    }
    let mut here = home.relay();
    here.args(["init", "."]).args(BACKEND);
    let (_, err) = run(here, 2);
    assert!(err.contains("the current folder cannot be replaced"), "{err}");
    assert_eq!(fs::read_dir(home.0.path()).unwrap().count(), 0);
}

#[test]
fn an_unknown_key_ends_with_78_and_a_caret() {
    let home = Home::with_site(&[]);
    home.edit(GATEWAY_FILE, "certificate = \"clients.pem\"", "certficate = \"clients.pem\"");
    let line = home.line_of(GATEWAY_FILE, "certficate");
    let (out, err) = run(home.gateway(), 78);
    assert_eq!(out, "");
    assert_eq!(
        err,
        format!(
            "error: unknown key `certficate`
  --> {GATEWAY_FILE}:{line}:1
   |
{line} | certficate = \"clients.pem\"
   | ^^^^^^^^^^
  = help: did you mean `certificate`? keys allowed here: `listen`, `certificate`, `key`
"
        )
    );
}

#[test]
fn a_wrong_type_ends_with_78_and_what_was_expected() {
    let home = Home::with_site(&[]);
    home.edit(CONNECTION_POINT_FILE, "instances = 1", "instances = \"one\"");
    let line = home.line_of(CONNECTION_POINT_FILE, "\"one\"");
    let (_, err) = run(home.connection_point(), 78);
    assert_eq!(
        err,
        format!(
            "error: wrong type: found string \"one\"
  --> {CONNECTION_POINT_FILE}:{line}:13
   |
{line} | instances = \"one\"
   |             ^^^^^
  = help: this must be a whole number
"
        )
    );
}

#[test]
fn a_certificate_that_is_not_there_ends_with_78_and_its_path() {
    let home = Home::with_site(&[]);
    fs::remove_file(home.path("site/gateway-1/links.pem")).unwrap();
    let (_, err) = run(home.gateway(), 78);
    let path = Path::new("site/gateway-1/links.pem");
    let problem = format!("error: cannot read the certificate `{}`: ", path.display());
    assert!(err.starts_with(&problem), "{err}");
    let line = home.line_of(GATEWAY_FILE, "links.pem");
    assert!(err.contains(&format!("--> {GATEWAY_FILE}:{line}:15\n")), "{err}");
    assert!(err.contains(" | certificate = \"links.pem\"\n"), "{err}");
    assert!(err.contains("a relative path starts at the folder of this file\n"), "{err}");
}

#[test]
fn a_key_of_another_certificate_ends_with_78_in_a_check() {
    let home = Home::with_site(&[]);
    home.edit(GATEWAY_FILE, "key = \"links-key.pem\"", "key = \"clients-key.pem\"");
    let mut gateway = home.gateway();
    gateway.arg("--check");
    let (_, err) = run(gateway, 78);
    let problem = "error: private key `clients-key.pem` does not belong to certificate `links.pem`";
    assert!(err.starts_with(problem), "{err}");
    assert!(err.contains("^^^^^^^^^^^^^^^^^\n"), "{err}");
}

#[test]
fn a_configuration_that_is_not_there_ends_with_78() {
    let home = Home::empty();
    for command in [home.gateway(), home.connection_point()] {
        let (_, err) = run(command, 78);
        assert!(err.starts_with("error: cannot read the configuration `site/"), "{err}");
        assert!(err.contains("= help: check the path"), "{err}");
    }
}

#[test]
fn a_port_in_use_ends_with_78_at_the_line_that_asks_for_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let listeners = [
        ("127.0.0.1:8443", "clients"),
        ("127.0.0.1:10140", "links"),
        ("127.0.0.1:10181", "an administrator"),
    ];
    for (old, whom) in listeners {
        let home = Home::with_site(&[]);
        home.edit(GATEWAY_FILE, old, &address.to_string());
        // The other listener takes any port, so that only this one can fail.
        let other = if whom == "clients" { "127.0.0.1:10140" } else { "127.0.0.1:8443" };
        home.edit(GATEWAY_FILE, other, "127.0.0.1:0");
        let line = home.line_of(GATEWAY_FILE, &address.to_string());
        let (out, err) = run(home.gateway(), 78);
        assert_eq!(out, "");
        assert!(err.contains(&format!("error: cannot listen for {whom} on {address}: ")), "{err}");
        assert!(err.contains(&format!("--> {GATEWAY_FILE}:{line}:10\n")), "{err}");
        assert!(err.contains("help: another program listens there: stop it, or choose"), "{err}");
    }
}

#[test]
fn usage_errors_end_with_2_and_help_and_version_with_0() {
    let home = Home::empty();
    for line in [
        &[][..],
        &["serve"],
        &["gateway"],
        &["gateway", "--config"],
        &["gateway", "--config", "f", "--log-format", "xml"],
        &["gateway", "--config", "f", "--log", "relay=loud"],
        &["init", "site"],
    ] {
        let mut relay = home.relay();
        relay.args(line);
        let (out, err) = run(relay, 2);
        assert_eq!(out, "", "{line:?}");
        assert!(err.contains("--help"), "{line:?}: {err}");
    }
    for line in [&["--help"][..], &["init", "--help"], &["gateway", "--help"]] {
        let mut relay = home.relay();
        relay.args(line);
        assert!(run(relay, 0).0.contains("Examples:\n"), "{line:?}");
    }
    let mut relay = home.relay();
    relay.arg("--version");
    assert_eq!(run(relay, 0).0, format!("relay {}\n", env!("CARGO_PKG_VERSION")));
}

/// Real processes stopped by real signals.
#[cfg(unix)]
mod stopping {
    use std::io::{BufRead as _, BufReader, Read as _};
    use std::process::{Child, ChildStdout, Stdio};

    use super::{GATEWAY_FILE, Home};

    /// A role that is running; killed when dropped.
    struct Running {
        child: Child,
        out: BufReader<ChildStdout>,
    }

    impl Running {
        /// Starts `relay` with `args` and returns it with its first line.
        fn start(home: &Home, args: &[&str]) -> (Self, String) {
            let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_relay"))
                .args(args)
                .current_dir(home.0.path())
                .env_remove("RUST_LOG")
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let out = BufReader::new(child.stdout.take().unwrap());
            let mut running = Self { child, out };
            let mut line = String::new();
            running.out.read_line(&mut line).unwrap();
            (running, line)
        }

        fn signal(&self, name: &str) {
            let command = format!("kill -{name} {}", self.child.id());
            let sent = std::process::Command::new("sh").args(["-c", &command]).status().unwrap();
            assert!(sent.success());
        }

        /// The rest of what it writes until it ends, and its exit status.
        fn end(mut self) -> (String, String, Option<i32>) {
            let (mut out, mut err) = (String::new(), String::new());
            self.out.read_to_string(&mut out).unwrap();
            self.child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
            let status = self.child.wait().unwrap().code();
            (out, err, status)
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            // Fails if it has ended, which is the usual case.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    #[test]
    fn a_gateway_stops_cleanly_on_sigterm_and_on_ctrl_c() {
        for signal in ["TERM", "INT"] {
            let home = Home::with_site(&[]);
            home.edit(GATEWAY_FILE, "127.0.0.1:8443", "127.0.0.1:0");
            home.edit(GATEWAY_FILE, "127.0.0.1:10140", "127.0.0.1:0");
            home.edit(GATEWAY_FILE, "127.0.0.1:10181", "127.0.0.1:0");
            let (gateway, ready) = Running::start(&home, &["gateway", "--config", GATEWAY_FILE]);
            let prefix = "ready: instance 1 of localhost, clients on https://127.0.0.1:";
            assert!(ready.starts_with(prefix), "{ready}");
            gateway.signal(signal);
            let (out, err, status) = gateway.end();
            assert!(out.starts_with("stopped: "), "{out}\n{err}");
            assert_eq!(status, Some(0), "{err}");
        }
    }

    #[test]
    fn a_connection_point_without_a_gateway_stops_cleanly() {
        let home = Home::with_site(&["--unsafe-allow-anonymous"]);
        let file = super::CONNECTION_POINT_FILE;
        home.edit(file, "127.0.0.1:10180", "127.0.0.1:0");
        let line = ["connection-point", "--config", file, "--log-format", "json"];
        let (connection_point, ready) = Running::start(&home, &line);
        let expected = "ready: connection point `connection-point-1`, dialling 1 gateway \
                        instance(s), admin on http://127.0.0.1:";
        assert!(ready.starts_with(expected), "{ready}");
        connection_point.signal("TERM");
        let (out, err, status) = connection_point.end();
        assert!(out.starts_with("stopped: "), "{out}\n{err}");
        assert!(err.lines().all(|line| line.starts_with('{') && line.ends_with('}')), "{err}");
        assert!(err.contains("endpoint `mp` lets anybody on the internet in"), "{err}");
        assert_eq!(status, Some(0), "{err}");
    }
}
