//! Links and clients through Debian's haproxy, which ends TLS and speaks to either side in
//! whichever HTTP it is told.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use http::Response;
use http_body_util::BodyExt as _;
use relay_core::connection_point::GatewayAddress;
use relay_core::gateway::Listeners;
use relay_core::transport::{Listener, Rung};
use relay_tests::client::{Client, Http, bare, with_body};
use relay_tests::roles::{House, SERVICE, address, has_settings, target, until, within};
use relay_tests::site::{Backend, full, octets};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Octets of a body, each way: many windows of HTTP/2.
const LARGE: usize = 2 << 20;

/// A running haproxy; killed when dropped.
struct Haproxy {
    child: Child,
    address: SocketAddr,
    home: TempDir,
}

impl Haproxy {
    /// Starts it in front of the HTTPS port at `gateway`. It offers `front` to whoever comes, and
    /// `back` to the gateway.
    ///
    /// Its socket is made here and inherited: the port is the system's choice, and nobody has to
    /// ask when it is open.
    fn start(house: &House, gateway: SocketAddr, (front, back): (&str, &str)) -> Self {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().display().to_string();
        fs::write(home.path().join("edge.pem"), house.ca.server_pem(SERVICE)).unwrap();
        fs::write(home.path().join("ca.pem"), house.ca.pem()).unwrap();
        let configuration = format!(
            "global
    maxconn 200
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout tunnel 1h
frontend edge
    bind fd@0 ssl crt {folder}/edge.pem alpn {front}
    default_backend relay
backend relay
    http-reuse always
    server gateway {gateway} ssl verify required ca-file {folder}/ca.pem \
             sni str({SERVICE}) verifyhost {SERVICE} alpn {back}
"
        );
        let file = home.path().join("haproxy.cfg");
        fs::write(&file, configuration).unwrap();
        let socket = std::net::TcpListener::bind(ANY).unwrap();
        let address = socket.local_addr().unwrap();
        let log = File::create(home.path().join("log")).unwrap();
        let child = Command::new("haproxy")
            .arg("-db")
            .arg("-f")
            .arg(&file)
            .stdin(Stdio::from(OwnedFd::from(socket)))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, address, home }
    }

    /// What it has printed, for a failure's message.
    fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether it is installed. A machine that must have it fails.
fn is_installed() -> bool {
    let asked = Command::new("haproxy").arg("-v").stdout(Stdio::null()).status();
    let is_installed = asked.is_ok_and(|status| status.success());
    let is_required = std::env::var_os("RELAY_REQUIRE_TOOLS").is_some_and(|value| value == "1");
    assert!(is_installed || !is_required, "haproxy is not installed");
    if !is_installed {
        println!("skipped: haproxy cannot be started; install it to run this test");
    }
    is_installed
}

/// A backend that answers a body with the same.
async fn echo() -> Backend {
    Backend::start(async |request: http::Request<hyper::body::Incoming>| {
        Response::new(full(request.into_body().collect().await.unwrap().to_bytes()))
    })
    .await
}

/// Requests through haproxy itself, each of which is a neighbour of the link.
async fn works_through(at: SocketAddr, house: &House, front: &str) {
    let http = if front == "h2" { Http::Two } else { Http::One };
    let mut client = Client::dial(at, &house.ca, http).await;
    let large = octets(7, LARGE);
    for _ in 0..2 {
        let request = with_body("CCM_POST", &target("/SMS_MP/x"), full(large.clone()));
        let answer = client.ask(request).await;
        assert_eq!((answer.status(), answer.reason()), (200, None));
        assert!(answer.body == large, "{} octets came back", answer.body.len());
        let refused = client.ask(bare("DELETE", &target("/SMS_MP/x"))).await;
        assert_eq!(refused.status(), 405);
    }
}

#[tokio::test]
async fn links_and_clients_go_through_haproxy_by_whichever_http_it_speaks_to_either_side() {
    if !is_installed() {
        return;
    }
    // What is offered to either side, and the way that each side's role is to see.
    let (two, one) = (("h2", Rung::HttpsHttp2), ("http/1.1", Rung::HttpsUpgrade));
    for ((front, dialled), (back, served)) in [(two, two), (two, one), (one, two), (one, one)] {
        let backend = echo().await;
        let house = House::before(backend.address);
        let gateway = house.gateway(1);
        let clients = Listener::bind(ANY).await.unwrap();
        let haproxy = Haproxy::start(&house, clients.local_addr(), (front, back));
        let (stop, stopped) = watch::channel(false);
        let until_stopped = |mut stopped: watch::Receiver<bool>| async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        let mut tasks = JoinSet::new();
        let listeners = Listeners { clients, links: None, https_links: None, quic: None };
        let serving = gateway.clone().serve(listeners, until_stopped(stopped.clone()));
        tasks.spawn(async move { _ = serving.await });
        let port = Some(haproxy.address.port());
        // It speaks HTTP/1.1 to whoever does not ask for HTTP/2, whatever it offers.
        let only = Some(dialled);
        let at = GatewayAddress { tcp_tls_port: None, https_port: port, only, ..address(1, 0) };
        let connection_point = house.connection_point(vec![at]);
        let (running, stopped) = (connection_point.clone(), until_stopped(stopped));
        tasks.spawn(async move { _ = running.run(stopped).await });

        within(async {
            until(|| gateway.links() == 1 && has_settings(&gateway)).await;
            assert_eq!(gateway.status().links[0].rung, served, "{front} {back}");
            // Each side knows its own way: haproxy makes one of the other.
            let places = connection_point.status().places;
            assert_eq!(places[0].links[0].rung, dialled, "{front} {back}");
            works_through(haproxy.address, &house, front).await;
            assert_eq!(gateway.links(), 1, "the same link: {}", haproxy.log());
            stop.send_replace(true);
            while tasks.join_next().await.is_some() {}
        })
        .await;
    }
}
