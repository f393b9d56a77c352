//! What supervisors ask a running role: whether it lives, and whether it is to be sent requests.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;

use http::Response;
use serde_json::{Value, json};

use crate::support::origin::{Origin, Said};
use crate::support::site::{HTTPS_ROLE, SERVICE, Site};

/// Sends a request as it stands; returns the status, and the body.
fn send(admin: SocketAddr, head: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(admin).unwrap();
    write!(stream, "{head}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Asks as a supervisor on another network would name it.
fn probe(admin: SocketAddr, path: &str) -> (u16, String) {
    send(admin, &format!("GET {path} HTTP/1.1\r\nHost: 10.1.2.3:10180\r\nUser-Agent: kube-probe"))
}

fn asked_for_json(admin: SocketAddr) -> (u16, Value) {
    let head = format!("GET /readyz HTTP/1.1\r\nHost: {admin}\r\nAccept: application/json");
    let (status, body) = send(admin, &head);
    (status, serde_json::from_str(&body).unwrap())
}

const ALIVE: (u16, &str) = (200, "alive\n");
const NO_LINK: &str = "no link is up: look at the log of the connection points";
const NO_SETTINGS: &str = "no settings were told: requests are refused until a link tells";
const NO_INSTANCE: &str = "no gateway instance is reached: `relay status` says why";
const DRAINS: &str = "it drains, and takes no new requests";

#[test]
fn a_gateway_is_ready_with_its_first_link_and_until_it_drains() {
    let home = tempfile::tempdir().unwrap();
    let (came, coming) = channel();
    let origin = Origin::start(move |_| {
        came.send(()).unwrap();
        Response::new(Said::endless())
    });
    let site = Site::init_with(home.path(), &["--backend", &format!("http://{}", origin.at)]);
    let mut gateway = site.start_gateway(1);
    let (admin, [clients, links]) = (gateway.admin(), gateway.addresses());
    assert_eq!(probe(admin, "/livez"), (ALIVE.0, ALIVE.1.to_owned()));
    assert_eq!(probe(admin, "/readyz"), (503, format!("{NO_LINK}\n{NO_SETTINGS}\n")));
    let reasons = json!({"ready": false, "reasons": [NO_LINK, NO_SETTINGS]});
    assert_eq!(asked_for_json(admin), (503, reasons));
    // HTTP/1.0, as balancers ask that name no host.
    assert_eq!(send(admin, "GET /readyz HTTP/1.0").0, 503);

    let point = site.start_connection_point(&[links]);
    gateway.wait_for_log("settings applied", 1);
    assert_eq!(probe(admin, "/readyz"), (200, "ready\n".to_owned()));
    assert_eq!(asked_for_json(admin), (200, json!({"ready": true, "reasons": []})));
    let head = format!("HEAD /readyz HTTP/1.1\r\nHost: {admin}");
    assert_eq!(send(admin, &head), (200, String::new()));
    let post = format!("POST /readyz HTTP/1.1\r\nHost: {admin}\r\nContent-Length: 0");
    assert_eq!(send(admin, &post).0, 405);

    let at = clients.port();
    let url = format!("https://{SERVICE}:{at}/CCM_Proxy_ServerAuth/{HTTPS_ROLE}/SMS_MP/list");
    let mut client = Command::new(env!("CARGO_BIN_EXE_relay"))
        .args(["client", "request", "GET", &url, "--resolve", &format!("{SERVICE}:127.0.0.1")])
        .args(["--ca", site.ca().to_str().unwrap()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    coming.recv().unwrap();
    // It says nothing, and is closed once the instance has begun to stop.
    let mut silent = TcpStream::connect(clients).unwrap();
    gateway.ask_to_stop();
    // A reset says as much as an end.
    let _ = silent.read_to_end(&mut Vec::new());
    let (status, body) = probe(admin, "/readyz");
    assert_eq!((status, body.lines().next()), (503, Some(DRAINS)), "{body}");
    assert_eq!(probe(admin, "/livez"), (ALIVE.0, ALIVE.1.to_owned()), "it still serves one");
    client.kill().unwrap();
    client.wait().unwrap();
    assert_eq!(gateway.ended(), Some(0));
    assert_eq!(point.stop().0, Some(0));
}

#[test]
fn a_connection_point_is_ready_while_it_reaches_an_instance() {
    let home = tempfile::tempdir().unwrap();
    let site = Site::init_with(home.path(), &["--backend", "http://127.0.0.1:9"]);
    // Held, and nobody listens: whoever dials is refused.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let mut alone = site.start_connection_point(&[held.local_addr().unwrap()]);
    let admin = alone.admin();
    assert_eq!(probe(admin, "/livez"), (ALIVE.0, ALIVE.1.to_owned()));
    assert_eq!(probe(admin, "/readyz"), (503, format!("{NO_INSTANCE}\n")));
    assert_eq!(asked_for_json(admin).1, json!({"ready": false, "reasons": [NO_INSTANCE]}));
    assert_eq!(alone.stop().0, Some(0));

    let home = tempfile::tempdir().unwrap();
    let site = Site::init_with(home.path(), &["--backend", "http://127.0.0.1:9"]);
    let mut gateway = site.start_gateway(1);
    let [_, links] = gateway.addresses();
    let mut point = site.start_connection_point(&[links]);
    // A link is shown before anything is told over it.
    point.wait_for_log("settings published", 1);
    assert_eq!(probe(point.admin(), "/readyz"), (200, "ready\n".to_owned()));
    assert_eq!(asked_for_json(point.admin()).0, 200);
    for role in [point, gateway] {
        assert_eq!(role.stop().0, Some(0));
    }
}
