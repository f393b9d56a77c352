//! A site that `relay init` wrote, with a second endpoint and ports of the system's choosing.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::nginx::Nginx;
use super::role::Role;

/// The service's name, which exists only in the site's certificates.
pub(crate) const SERVICE: &str = "relay.example";

/// Role id of the endpoint that `relay init` writes; its backend speaks HTTPS.
pub(crate) const HTTPS_ROLE: u64 = 72_057_594_037_927_937;

/// Role id of the endpoint added to it; its backend speaks HTTP.
pub(crate) const HTTP_ROLE: u64 = 7;

/// Where clients reach an instance of a site with customary ports.
pub(crate) fn clients_port(instance: u8) -> u16 {
    8442 + u16::from(instance)
}

/// A site of two instances.
pub(crate) struct Site {
    home: PathBuf,
}

impl Site {
    /// Has `relay init` write a site below `home` in front of `nginx`.
    pub(crate) fn init(home: &Path, nginx: &Nginx) -> Self {
        let backend = format!("https://{}", nginx.https);
        let ca = nginx.ca();
        let ca = ca.to_str().unwrap();
        let site = Self::init_with(home, &["--backend", &backend, "--backend-ca", ca]);
        site.publish(nginx);
        site
    }

    /// As [`Site::init`], with the customary ports on loopback, for a test that has them all to
    /// itself. The connection point dials both instances.
    pub(crate) fn init_with_customary_ports(home: &Path, nginx: &Nginx) -> Self {
        let site = Self::write(home, &["--backend", &format!("http://{}", nginx.http)]);
        for instance in 1..=2_u8 {
            site.edit(&format!("gateway-{instance}/gateway.toml"), |text| {
                let clients = format!("127.0.0.1:{}", clients_port(instance));
                text.replace("0.0.0.0:8443", &clients).replace("0.0.0.0:", "127.0.0.1:")
            });
        }
        site.edit("connection-point/connection-point.toml", |text| {
            text.replace(&format!("host = \"{SERVICE}\""), "host = \"127.0.0.1\"")
        });
        site.publish(nginx);
        site
    }

    /// Publishes the second endpoint.
    fn publish(&self, nginx: &Nginx) {
        let published = format!(
            "\n[[endpoint]]\nname = \"plain\"\nkind = \"management-point\"\n\
             role_id = {HTTP_ROLE}\nunsafe_allow_anonymous = true\n"
        );
        let backend = format!("backend = \"http://{}\"\n", nginx.http);
        self.edit("connection-point/connection-point.toml", |text| text + &published + &backend);
    }

    /// Has `relay init` write a site below `home`. Its listeners have ports of the system's
    /// choosing.
    pub(crate) fn init_with(home: &Path, rest: &[&str]) -> Self {
        let site = Self::write(home, rest);
        site.take_any_port();
        site
    }

    fn write(home: &Path, rest: &[&str]) -> Self {
        let init = Command::new(env!("CARGO_BIN_EXE_relay"))
            .args(["init", "site", "--service", SERVICE, "--instances", "2"])
            .arg("--unsafe-allow-anonymous")
            .args(rest)
            .current_dir(home)
            .output()
            .unwrap();
        assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
        Self { home: home.join("site") }
    }

    fn take_any_port(&self) {
        for instance in 1..=2_u8 {
            self.edit(&format!("gateway-{instance}/gateway.toml"), |text| {
                let number = usize::from(instance);
                let taken = [
                    "0.0.0.0:8443".to_owned(),
                    format!("0.0.0.0:{}", 10_139 + number),
                    format!("0.0.0.0:{}", 10_123 + number),
                    format!("127.0.0.1:{}", 10_180 + number),
                ];
                taken.iter().fold(text, |text, address| text.replace(address, "127.0.0.1:0"))
            });
        }
        self.edit("connection-point/connection-point.toml", |text| {
            text.replace("127.0.0.1:10180", "127.0.0.1:0")
        });
    }

    /// Has the connection point try better ways each second, not each five minutes.
    pub(crate) fn have_links_climb_each_second(&self) {
        self.edit("connection-point/connection-point.toml", |text| {
            text.replace("# better_rung_seconds = 300", "better_rung_seconds = 1")
        });
    }

    /// Has the token service listen on loopback.
    pub(crate) fn have_clients_register_here(&self) {
        self.edit("connection-point/connection-point.toml", |text| {
            text.replace("[token_service]\n", "[token_service]\nlisten = \"127.0.0.1:0\"\n")
        });
    }

    /// Has links go over QUIC where that gets through.
    pub(crate) fn enable_quic(&self) {
        let files = ["gateway-1/gateway.toml", "gateway-2/gateway.toml"];
        for file in files.into_iter().chain(["connection-point/connection-point.toml"]) {
            self.edit(file, |text| text.replace("# quic = true", "quic = true"));
        }
    }

    /// A second connection point, which is as the first but for its name and certificate.
    pub(crate) fn add_connection_point(&self) {
        let (first, second) =
            (self.home.join("connection-point"), self.home.join("connection-point-2"));
        fs::create_dir(&second).unwrap();
        for file in fs::read_dir(&first).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), second.join(file.file_name())).unwrap();
        }
        let issued = Command::new(env!("CARGO_BIN_EXE_relay"))
            .args(["pki", "issue", "--ca", "site-ca", "--out", "connection-point-2", "--force"])
            .args(["--connection-point", "connection-point-2"])
            .current_dir(&self.home)
            .output()
            .unwrap();
        assert!(issued.status.success(), "{}", String::from_utf8_lossy(&issued.stderr));
        self.edit("connection-point-2/connection-point.toml", |text| {
            let text = text.replace("\"connection-point-1\"", "\"connection-point-2\"");
            text.replace("127.0.0.1:10180", "127.0.0.1:10190")
        });
    }

    /// Starts the connection point in `folder` as its file says.
    pub(crate) fn start_connection_point_in(&self, folder: &str) -> Role {
        let file = format!("{folder}/connection-point.toml");
        Role::start(&self.home, &["connection-point", "--config", &file])
    }

    pub(crate) fn edit(&self, file: &str, change: impl FnOnce(String) -> String) {
        let file = self.home.join(file);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(file, change(text)).unwrap();
    }

    /// The authority that a client trusts.
    pub(crate) fn ca(&self) -> PathBuf {
        self.home.join("site-ca/site-ca.pem")
    }

    /// Starts instance `number`.
    pub(crate) fn start_gateway(&self, number: usize) -> Role {
        let file = format!("gateway-{number}/gateway.toml");
        Role::start(&self.home, &["gateway", "--config", &file])
    }

    /// Starts instance 1 from a shell that has done `before`.
    pub(crate) fn start_gateway_after(&self, before: &str) -> Role {
        Role::start_after(before, &self.home, &["gateway", "--config", "gateway-1/gateway.toml"])
    }

    /// Starts both roles with a log of everything: instance 1, and a connection point that dials
    /// it.
    pub(crate) fn start_traced(&self) -> [Role; 2] {
        let mut gateway =
            Role::start_traced(&self.home, &["gateway", "--config", "gateway-1/gateway.toml"]);
        let [_, links] = gateway.addresses();
        self.dial(&[links]);
        let file = "connection-point/connection-point.toml";
        let point = Role::start_traced(&self.home, &["connection-point", "--config", file]);
        [gateway, point]
    }

    /// Starts the connection point, which dials the instances at `links`.
    pub(crate) fn start_connection_point(&self, links: &[SocketAddr]) -> Role {
        self.dial(links);
        self.start_connection_point_in("connection-point")
    }

    /// Has the connection point dial the instances at `links`.
    pub(crate) fn dial(&self, links: &[SocketAddr]) {
        let mut tables = String::new();
        for (instance, at) in (1..).zip(links) {
            write!(
                tables,
                "[[gateway]]\ninstance = {instance}\nhost = \"{}\"\nport = {}\n\
                 server_name = \"gateway-{instance}.{SERVICE}\"\n",
                at.ip(),
                at.port()
            )
            .expect("writing to a String does not fail");
        }
        self.edit("connection-point/connection-point.toml", |text| {
            let (before, rest) = text.split_once("[gateway]\n").unwrap();
            let (_, after) = rest.split_once("[link]\n").unwrap();
            format!("{before}{tables}[link]\n{after}")
        });
    }
}
