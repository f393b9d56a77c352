//! A connection point before Debian's nginx that lets nobody in without a client certificate.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use relay_core::connection_point::BackendConfig;
use relay_core::transport::{ClientCertificates, Identity, backend_client_config_showing};
use relay_tests::client::{Answer, Client, Http, bare};
use relay_tests::pki::SiteCa;
use relay_tests::roles::{House, target, within};
use tempfile::TempDir;

/// A running nginx; ended when dropped.
struct Nginx {
    child: Child,
    address: SocketAddr,
    home: TempDir,
}

impl Nginx {
    /// Starts it as `localhost`. It tells who the client is, by the name in its certificate.
    ///
    /// Its socket is made here and inherited, as in an upgrade of the program. `user` counts only
    /// when the test runs as root: the worker must reach the folder of its owner.
    fn start(ca: &SiteCa, client_ca: &SiteCa, protocol: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| fs::write(home.path().join(name), text).unwrap();
        fs::create_dir(home.path().join("temp")).unwrap();
        write("server.pem", ca.server_pem("localhost"));
        write("clients.pem", client_ca.pem());
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let folder = home.path().display();
        write(
            "nginx.conf",
            format!(
                "daemon off;
worker_processes 1;
user root;
pid {folder}/pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/temp;
    proxy_temp_path {folder}/temp;
    fastcgi_temp_path {folder}/temp;
    uwsgi_temp_path {folder}/temp;
    scgi_temp_path {folder}/temp;
    server {{
        listen {address} ssl;
        ssl_protocols {protocol};
        ssl_certificate {folder}/server.pem;
        ssl_certificate_key {folder}/server.pem;
        ssl_client_certificate {folder}/clients.pem;
        ssl_verify_client on;
        location / {{ return 200 \"$ssl_client_s_dn\"; }}
    }}
}}
"
            ),
        );
        let child = Command::new(program())
            .arg("-p")
            .arg(home.path())
            .args(["-c", "nginx.conf", "-e", "stderr"])
            .env("NGINX", "0;")
            .stdin(Stdio::from(OwnedFd::from(socket)))
            .stdout(Stdio::null())
            .stderr(File::create(home.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        Self { child, address, home }
    }

    /// What it has printed, for a failure's message.
    fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // To its master, which ends the worker too; SIGKILL would leave that behind.
        let end = format!("kill -TERM {}", self.child.id());
        let _ = Command::new("sh").args(["-c", &end]).status();
        let _ = self.child.wait();
    }
}

/// Debian installs it where only root's `PATH` leads.
fn program() -> &'static str {
    if Path::new("/usr/sbin/nginx").exists() { "/usr/sbin/nginx" } else { "nginx" }
}

/// Whether it is installed. A machine that must have it fails.
fn is_installed() -> bool {
    let asked = Command::new(program()).arg("-v").stderr(Stdio::null()).status();
    let is_installed = asked.is_ok_and(|status| status.success());
    let is_required = std::env::var_os("RELAY_REQUIRE_TOOLS").is_some_and(|value| value == "1");
    assert!(is_installed || !is_required, "nginx is not installed");
    if !is_installed {
        println!("skipped: nginx cannot be started; install it to run this test");
    }
    is_installed
}

/// Asks once through a relay that may show these certificates.
async fn ask(nginx: &Nginx, ca: &SiteCa, candidates: &[(&str, &Identity)]) -> Answer {
    let set = candidates.iter().fold(ClientCertificates::new("mp"), |set, (name, identity)| {
        set.with(*name, Ok((*identity).clone()))
    });
    let set = Arc::new(set);
    let tls = backend_client_config_showing(&ca.anchors(), Arc::clone(&set)).unwrap();
    let url = format!("https://localhost:{}", nginx.address.port()).parse().unwrap();
    let mut backend = BackendConfig::new(url, Some(tls));
    backend.certificates = Some(set);
    let mut house = House::before(nginx.address);
    house.backend = Some(backend);
    let (gateway, _link) = house.joined().await;
    let mut client = Client::join(&gateway, &house.ca, Http::One).await;
    client.ask(bare("GET", &target("/SMS_MP/x"))).await
}

#[tokio::test]
async fn nginx_that_verifies_clients_is_shown_the_certificate_of_the_issuer_it_names() {
    if !is_installed() {
        return;
    }
    within(async {
        let (ca, client_ca) = (SiteCa::new(), SiteCa::new());
        let (good, foreign) = (client_ca.connection_point("north"), ca.connection_point("south"));
        for protocol in ["TLSv1.2", "TLSv1.3"] {
            let nginx = Nginx::start(&ca, &client_ca, protocol);
            let answer = ask(&nginx, &ca, &[("foreign", &foreign), ("good", &good)]).await;
            let told = (answer.status(), answer.reason());
            assert_eq!(told, (200, None), "{protocol}: {}", nginx.log());
            assert_eq!(answer.body, "CN=north", "{protocol}");
            // Its own answer, which passes as it is.
            let answer = ask(&nginx, &ca, &[("foreign", &foreign)]).await;
            assert_eq!((answer.status(), answer.reason()), (400, None), "{protocol}");
            let told = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(told.contains("No required SSL certificate was sent"), "{told}");
        }
    })
    .await;
}
