//! What an administrator is shown of running roles, and has them do.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::role::Role;
use crate::support::site::{HTTPS_ROLE, Site};

fn relay(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_relay")).args(args).output().unwrap()
}

/// Asks a running role; the program must succeed.
pub(crate) fn ask(args: &[&str], admin: SocketAddr) -> String {
    let admin = admin.to_string();
    let asked = relay(&[args, &["--admin", &admin]].concat());
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    String::from_utf8(asked.stdout).unwrap()
}

/// As [`ask`], and reads the JSON.
pub(crate) fn json(args: &[&str], admin: SocketAddr) -> Value {
    serde_json::from_str(&ask(&[args, &["--json"]].concat(), admin)).unwrap()
}

/// What the admin listener answers, head and body.
pub(crate) fn get(admin: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(admin).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Sends a request as a browser of this machine might, and returns the first line of the answer.
fn send(admin: SocketAddr, head: &str) -> String {
    send_with(admin, head, "")
}

/// As [`send`], with a body.
fn send_with(admin: SocketAddr, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(admin).unwrap();
    write!(stream, "{head}\r\nConnection: close\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

/// A gateway instance, a connection point with both links up, and where they are administered.
fn start(site: &Site) -> (Role, SocketAddr, Role, SocketAddr) {
    let mut gateway = site.start_gateway(1);
    let [_, links] = gateway.addresses();
    let mut point = site.start_connection_point(&[links]);
    gateway.wait_for_log("\"message\":\"link up\"", 2);
    point.wait_for_log("\"message\":\"link up\"", 2);
    let (at_gateway, at_point) = (gateway.admin(), point.admin());
    (gateway, at_gateway, point, at_point)
}

/// Which links of a running instance a request would take is asked of it.
fn explain_names_its_links(home: &Path, at_gateway: SocketAddr) {
    let file = home.join("site/gateway-1/gateway.toml");
    let text = fs::read_to_string(&file).unwrap();
    let free = "[admin]\nlisten = \"127.0.0.1:0\"";
    assert_eq!(text.matches(free).count(), 1);
    let asked = file.with_file_name("asked.toml");
    fs::write(&asked, text.replace(free, &format!("[admin]\nlisten = \"{at_gateway}\""))).unwrap();
    let point = home.join("site/connection-point/connection-point.toml");
    let url = format!("https://relay.example/CCM_Proxy_ServerAuth/{HTTPS_ROLE}/SMS_MP/x");
    let files = ["--config", point.to_str().unwrap(), "--config", asked.to_str().unwrap()];
    let told = relay(&[&["explain", "GET", &url][..], &files].concat());
    let told = String::from_utf8(told.stdout).unwrap();
    let links = "1 to connection-point-1, 2 to connection-point-1";
    assert!(
        told.contains(&format!("of those of site default up at {at_gateway}: {links}")),
        "{told}"
    );
}

#[test]
fn both_roles_show_their_links_and_drain_when_they_are_asked() {
    let home = tempfile::tempdir().unwrap();
    let site = Site::init_with(home.path(), &["--backend", "http://127.0.0.1:9"]);
    let (mut gateway, at_gateway, mut point, at_point) = start(&site);

    let here = json(&["status"], at_gateway);
    assert_eq!((&here["role"], &here["instance"]), (&"gateway".into(), &1.into()), "{here:#}");
    let links = here["links"].as_array().unwrap();
    assert_eq!(links.len(), 2, "{here:#}");
    for (number, link) in (1..).zip(links) {
        assert_eq!(link["number"], number, "{here:#}");
        assert_eq!(link["connection_point"], "connection-point-1");
        assert_eq!((&link["transport"], &link["state"]), (&"tcp-tls".into(), &"up".into()));
    }
    let there = json(&["status"], at_point);
    assert_eq!((&there["links_up"], &there["links_wanted"]), (&2.into(), &2.into()), "{there:#}");
    gateway.wait_for_log("settings applied", 1);
    let settings = &json(&["status"], at_gateway)["settings"][0];
    assert_eq!((&settings["site"], &settings["endpoints"]), (&"default".into(), &2.into()));
    let text = ask(&["status"], at_point);
    assert!(text.starts_with("connection point connection-point-1: 2 of 2 links up\n"), "{text}");
    let text = ask(&["status"], at_gateway);
    let first = "gateway instance 1 of relay.example: 2 links, 0 requests in flight\n";
    assert!(text.starts_with(first), "{text}");

    explain_names_its_links(home.path(), at_gateway);

    // Each side has a link replaced.
    assert_eq!(ask(&["drain", "--link", "1"], at_gateway), "drained: 0 requests finished, 0 cut\n");
    gateway.wait_for_log("\"message\":\"link up\"", 3);
    assert_eq!(json(&["drain", "--link", "1.1"], at_point)["cut"], 0);
    gateway.wait_for_log("\"message\":\"link up\"", 4);
    point.wait_for_log("\"message\":\"link up\"", 4);
    let here = json(&["status"], at_gateway);
    let links = here["links"].as_array().unwrap();
    let up = links.iter().filter(|link| link["state"] == "up").count();
    assert_eq!(up, 2, "{here:#}");

    assert_eq!(ask(&["drain"], at_point), "drained: 0 requests finished, 0 cut\n");
    assert_eq!(point.ended(), Some(0));
    assert_eq!(json(&["drain"], at_gateway)["cut"], 0);
    assert_eq!(gateway.ended(), Some(0));
}

/// Speaks no TLS to the clients' port, and waits until it is closed: worth a line at level debug.
fn knock(clients: SocketAddr) {
    let mut stream = TcpStream::connect(clients).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    // A reset says as much as an end.
    let _ = stream.read_to_end(&mut Vec::new());
}

#[test]
fn what_is_logged_changes_while_a_role_runs() {
    let home = tempfile::tempdir().unwrap();
    let site = Site::init_with(home.path(), &["--backend", "http://127.0.0.1:9"]);
    let mut gateway = site.start_gateway(1);
    let (admin, [clients, _]) = (gateway.admin(), gateway.addresses());
    assert_eq!(ask(&["log"], admin), "logs info, as at the start\n");
    knock(clients);

    let told = json(&["log", "info,relay_core=debug", "--minutes", "15"], admin);
    let filter = "info,relay_core=debug";
    assert_eq!((&told["filter"], &told["started_with"]), (&filter.into(), &"info".into()));
    assert!((890..=900).contains(&told["seconds_left"].as_u64().unwrap()), "{told}");
    knock(clients);
    gateway.wait_for_log("client handshake failed", 1);
    assert_eq!(ask(&["log", "error"], admin), "logs error; info at the start\n");
    assert_eq!(ask(&["log", "--reset"], admin), "logs info, as at the start\n");
    assert!(json(&["log"], admin)["seconds_left"].is_null());
    knock(clients);

    for wrong in [&["log", "a=b=c"][..], &["log", "--minutes", "5"], &["log", "info", "--reset"]] {
        let refused = relay(&[wrong, &["--admin", &admin.to_string()]].concat());
        assert_eq!(refused.status.code(), Some(2), "{wrong:?}");
    }
    let put = |body: &str| {
        let (head, len) = (format!("PUT /log HTTP/1.1\r\nHost: {admin}"), body.len());
        let with = "Relay-Admin: 1\r\nContent-Type: application/json\r\nContent-Length";
        send_with(admin, &format!("{head}\r\n{with}: {len}"), body)
    };
    assert_eq!(put("{\"filter\":\"info\"}"), "HTTP/1.1 200 OK");
    for wrong in ["{\"filter\":\"a=b=c\"}", "info", ""] {
        assert_eq!(put(wrong), "HTTP/1.1 400 Bad Request", "{wrong}");
    }
    assert_eq!(put("{\"level\":\"info\"}"), "HTTP/1.1 400 Bad Request", "unknown");

    let (status, lines) = gateway.stop();
    assert_eq!(status, Some(0));
    let count = |part: &str| lines.iter().filter(|line| line.contains(part)).count();
    assert_eq!(count("client handshake failed"), 1, "of three, one while it was asked for");
    assert_eq!(count("\"to\":\"error\""), 1, "the log says that it changes: {lines:#?}");
}

#[test]
fn what_a_page_in_a_browser_could_send_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let site = Site::init_with(home.path(), &["--backend", "http://127.0.0.1:9"]);
    let mut gateway = site.start_gateway(1);
    let admin = gateway.admin();
    let forbidden = "HTTP/1.1 403 Forbidden";
    let rebound = "GET /status.json HTTP/1.1\r\nHost: rebound.example";
    assert_eq!(send(admin, rebound), forbidden);
    let form = format!("POST /drain HTTP/1.1\r\nHost: {admin}\r\nContent-Length: 0");
    assert_eq!(send(admin, &form), forbidden);
    let log = format!("PUT /log HTTP/1.1\r\nHost: {admin}\r\nContent-Length: 0");
    assert_eq!(send(admin, &log), forbidden);
    let asked = format!("GET /status.json HTTP/1.1\r\nHost: {admin}");
    assert_eq!(send(admin, &asked), "HTTP/1.1 200 OK", "it still runs");
    let other = format!("{asked}\r\nSec-Fetch-Site: same-site\r\nOrigin: http://127.0.0.1:80");
    assert_eq!(send(admin, &other), forbidden, "a page of another port");
    let none = format!("GET /none HTTP/1.1\r\nHost: {admin}");
    assert_eq!(send(admin, &none), "HTTP/1.1 404 Not Found");
    let (status, _) = gateway.stop();
    assert_eq!(status, Some(0));
}

#[test]
fn a_role_that_does_not_answer_is_an_error_that_says_what_to_do() {
    // The port is held and refuses: nobody listens on it.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let admin = held.local_addr().unwrap().to_string();
    let failed = relay(&["status", "--admin", &admin]);
    assert_eq!(failed.status.code(), Some(1));
    let text = String::from_utf8(failed.stderr).unwrap();
    let expected = format!("error: no role answers at {admin}; does it run, with this address in");
    assert!(text.starts_with(&expected), "{text}");

    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("gateway.toml");
    fs::write(&file, "service = \"relay.example\"\n").unwrap();
    let failed = relay(&["status", "--config", file.to_str().unwrap()]);
    assert_eq!(failed.status.code(), Some(78));
    let text = String::from_utf8(failed.stderr).unwrap();
    assert!(text.starts_with("error: the role with this file has no admin listener\n"), "{text}");

    for wrong in [&["status"][..], &["drain", "--admin", &admin, "--link", "../drain"]] {
        assert_eq!(relay(wrong).status.code(), Some(2), "{wrong:?}");
    }
}
