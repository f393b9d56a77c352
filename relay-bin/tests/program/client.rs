//! `relay client` against a gateway and a connection point that run, with a small site role.

mod authentication;
mod content;
mod package;
mod registration;
mod request;
#[cfg(feature = "cloud")]
mod stores;
mod token_service;
mod transfer;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use http::Response;
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::origin::{Asked, Origin, Said};
use crate::support::role::Role;
use crate::support::site::{HTTPS_ROLE, SERVICE, Site};

/// What stands in every secret that a test makes, and may stand nowhere else.
const SECRET: &str = "hiddenhiddenhidden";

/// A relay with a site role behind it, and a folder for a client's files.
struct Relay {
    home: TempDir,
    site: Site,
    origin: Origin,
    clients: SocketAddr,
    gateway: Role,
    point: Option<Role>,
}

impl Relay {
    fn start(answer: impl Fn(&Asked) -> Response<Said> + Clone + Send + Sync + 'static) -> Self {
        Self::start_with(|text| text, answer)
    }

    /// As [`Relay::start`], with another file of the connection point.
    fn start_with(
        change: impl FnOnce(String) -> String,
        answer: impl Fn(&Asked) -> Response<Said> + Clone + Send + Sync + 'static,
    ) -> Self {
        let home = tempfile::tempdir().unwrap();
        let origin = Origin::start(answer);
        let site = Site::init_with(home.path(), &["--backend", &format!("http://{}", origin.at)]);
        site.edit("connection-point/connection-point.toml", change);
        let mut gateway = site.start_gateway(1);
        let [clients, links] = gateway.addresses();
        let point = site.start_connection_point(&[links]);
        gateway.wait_for_log("settings applied", 1);
        Self { home, site, origin, clients, gateway, point: Some(point) }
    }

    /// Ends both roles and starts others.
    fn start_anew(&mut self) {
        self.start_anew_by(|site| site.start_gateway(1));
    }

    /// As [`Relay::start_anew`]; `start` says how the gateway is started.
    fn start_anew_by(&mut self, start: impl FnOnce(&Site) -> Role) {
        if let Some(mut point) = self.point.take() {
            point.kill();
        }
        self.gateway.kill();
        let [_, before] = self.gateway.addresses();
        self.gateway = start(&self.site);
        let [clients, links] = self.gateway.addresses();
        self.clients = clients;
        self.site.edit("connection-point/connection-point.toml", |text| {
            text.replace(&format!("port = {}", before.port()), &format!("port = {}", links.port()))
        });
        self.point = Some(self.site.start_connection_point_in("connection-point"));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// A URL of the site role's.
    fn url(&self, path: &str) -> String {
        format!("https://{SERVICE}:{}/CCM_Proxy_ServerAuth/{HTTPS_ROLE}{path}", self.clients.port())
    }

    /// `relay client` with what reaches this gateway.
    fn client(&self, args: &[&str]) -> Output {
        let ca = self.site.ca();
        let resolve = format!("{SERVICE}:127.0.0.1");
        let way = ["--ca", ca.to_str().unwrap(), "--resolve", &resolve];
        run(self.home.path(), &[args, &way].concat())
    }

    /// As [`Relay::client`]; returns the exit status and the report.
    fn report(&self, args: &[&str]) -> (i32, Value) {
        let done = self.client(&[args, &["--json"]].concat());
        let shown = String::from_utf8_lossy(&done.stdout);
        let report = serde_json::from_str(&shown);
        let report = report.unwrap_or_else(|_| {
            panic!("{args:?}: {shown}{}", String::from_utf8_lossy(&done.stderr))
        });
        (done.status.code().unwrap(), report)
    }

    /// What `relay token` says, in the site's folder.
    fn token(&self, args: &[&str]) -> Value {
        let done = Command::new(env!("CARGO_BIN_EXE_relay"))
            .arg("token")
            .args(args)
            .args(["--config", "connection-point/connection-point.toml", "--json"])
            .current_dir(self.path("site"))
            .output()
            .unwrap();
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
        serde_json::from_slice(&done.stdout).unwrap()
    }

    /// Writes a file that only its owner may read.
    fn secret(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// A client certificate of nobody's in particular with its key: `NAME.pem`, `NAME-key.pem`.
    fn certificate(&self, name: &str) -> [String; 2] {
        let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        let files = [format!("{name}.pem"), format!("{name}-key.pem")];
        self.secret(&files[0], &certificate.pem());
        self.secret(&files[1], &key.serialize_pem());
        files
    }
}

/// `relay client` in a folder. It says no secret, whatever it does.
fn run(home: &Path, args: &[&str]) -> Output {
    let done = Command::new(env!("CARGO_BIN_EXE_relay"))
        .arg("client")
        .args(args)
        .current_dir(home)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    for printed in [&done.stdout, &done.stderr] {
        let printed = String::from_utf8_lossy(printed);
        assert!(!printed.contains(SECRET), "{args:?}: {printed}");
        assert!(!printed.contains("PRIVATE KEY"), "{args:?}: {printed}");
        assert!(!printed.contains("panicked"), "{args:?}: {printed}");
    }
    done
}

fn answer(status: u16, said: &'static str) -> Response<Said> {
    Response::builder().status(status).body(Said::whole(said)).unwrap()
}
