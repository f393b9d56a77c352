//! An administrator has a gateway instance serve nobody, and serve again.

use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::channel;

use http::Response;

use crate::admin;
use crate::support::origin::{Origin, Said};
use crate::support::site::{HTTPS_ROLE, SERVICE, Site};

/// A client that asks for a path of the management point.
fn client(site: &Site, clients: SocketAddr, path: &str) -> Command {
    let at = clients.port();
    let url = format!("https://{SERVICE}:{at}/CCM_Proxy_ServerAuth/{HTTPS_ROLE}{path}");
    let mut client = Command::new(env!("CARGO_BIN_EXE_relay"));
    client.args(["client", "request", "GET", &url, "--resolve", &format!("{SERVICE}:127.0.0.1")]);
    client.args(["--ca", site.ca().to_str().unwrap()]);
    client.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    client
}

fn service(what: &str, admin: SocketAddr) -> Output {
    let admin = admin.to_string();
    let mut service = Command::new(env!("CARGO_BIN_EXE_relay"));
    service.args(["service", what, "--admin", &admin]).output().unwrap()
}

fn told(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn while_it_is_stopped_new_requests_are_refused_and_those_in_flight_and_links_stay() {
    let home = tempfile::tempdir().unwrap();
    let (came, coming) = channel();
    let origin = Origin::start(move |asked| {
        if asked.line.contains("/held") {
            came.send(()).unwrap();
            return Response::new(Said::endless());
        }
        Response::new(Said::whole("the list"))
    });
    let site = Site::init_with(home.path(), &["--backend", &format!("http://{}", origin.at)]);
    let mut gateway = site.start_gateway(1);
    let (at, [clients, links]) = (gateway.admin(), gateway.addresses());
    let mut point = site.start_connection_point(&[links]);
    gateway.wait_for_log("\"message\":\"link up\"", 2);
    gateway.wait_for_log("settings applied", 1);
    let mut held = client(&site, clients, "/SMS_MP/held").spawn().unwrap();
    coming.recv().unwrap();

    let stopped = "stopped: new requests are answered 503, links stay; by: administrator\n";
    assert_eq!(told(service("stop", at)), stopped);
    assert_eq!(told(service("stop", at)), stopped, "again");
    let refused = client(&site, clients, "/SMS_MP/list").output().unwrap();
    assert!(!refused.status.success());
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(text.contains("CMGService_Stopped"), "{text}");
    let status = admin::json(&["status"], at);
    assert_eq!(status["requests_in_flight"], 1, "{status:#}");
    assert_eq!(status["halted_by"][0], "administrator");
    assert_eq!(status["counts"]["CMGService_Stopped"], 1);
    let up = |link: &serde_json::Value| link["state"] == "up";
    assert_eq!(status["links"].as_array().unwrap().iter().filter(|it| up(it)).count(), 2);
    assert!(held.try_wait().unwrap().is_none(), "its client still waits for the rest");

    assert_eq!(told(service("start", at)), "serves clients\n");
    let served = client(&site, clients, "/SMS_MP/list").output().unwrap();
    assert!(served.status.success(), "{}", String::from_utf8_lossy(&served.stderr));
    assert_eq!(admin::json(&["status"], at)["halted_by"], serde_json::json!([]));

    let refused = service("stop", point.admin());
    assert_eq!(refused.status.code(), Some(1));
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(text.contains("no client comes to a connection point"), "{text}");

    held.kill().unwrap();
    held.wait().unwrap();
    assert_eq!(told(service("stop", at)), stopped);
    assert_eq!(point.stop().0, Some(0));
    assert_eq!(gateway.stop().0, Some(0));
    let mut gateway = site.start_gateway(1);
    let status = admin::json(&["status"], gateway.admin());
    assert_eq!(status["halted_by"], serde_json::json!([]), "nothing of it outlives the role");
    assert_eq!(gateway.stop().0, Some(0));
}
