//! A role that is asked to stop, by signals.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;

use http::Response;

use crate::support::origin::{Origin, Said};
use crate::support::role::Role;
use crate::support::site::{HTTPS_ROLE, SERVICE, Site};

/// Both roles with a request between them that never ends, and its client.
struct Held {
    gateway: Role,
    point: Role,
    client: Child,
    /// Answers for as long as it is there.
    origin: Origin,
}

fn held(home: &Path) -> Held {
    let (came, coming) = channel();
    let origin = Origin::start(move |_| {
        came.send(()).unwrap();
        Response::new(Said::endless())
    });
    let site = Site::init_with(home, &["--backend", &format!("http://{}", origin.at)]);
    let mut gateway = site.start_gateway(1);
    let [clients, links] = gateway.addresses();
    let point = site.start_connection_point(&[links]);
    gateway.wait_for_log("settings applied", 1);
    let at = clients.port();
    let url = format!("https://{SERVICE}:{at}/CCM_Proxy_ServerAuth/{HTTPS_ROLE}/SMS_MP/held");
    let client = Command::new(env!("CARGO_BIN_EXE_relay"))
        .args(["client", "request", "GET", &url])
        .args(["--resolve", &format!("{SERVICE}:127.0.0.1"), "--ca", site.ca().to_str().unwrap()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    coming.recv().unwrap();
    Held { gateway, point, client, origin }
}

#[test]
fn a_first_sigterm_drains_either_role_and_a_second_one_ends_it_at_once() {
    for is_gateway in [true, false] {
        let home = tempfile::tempdir().unwrap();
        let Held { gateway, point, mut client, origin } = held(home.path());
        let (mut asked, _other) = if is_gateway { (gateway, point) } else { (point, gateway) };
        asked.signal("TERM");
        asked.wait_for_log("SIGTERM: draining; a second signal stops at once", 1);
        assert!(client.try_wait().unwrap().is_none(), "its request is let end");
        asked.signal("TERM");
        asked.wait_for_log("SIGTERM while draining: stopped at once, requests in flight", 1);
        assert_eq!(asked.exit_status(), Some(1));
        assert!(!client.wait().unwrap().success(), "it was cut");
        assert_eq!(origin.seen().len(), 1);
    }
}
