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
        let published = format!(
            "\n[[endpoint]]\nname = \"plain\"\nkind = \"management-point\"\n\
             role_id = {HTTP_ROLE}\nunsafe_allow_anonymous = true\n"
        );
        for instance in 1..=2 {
            site.edit(&format!("gateway-{instance}/gateway.toml"), |text| text + &published);
        }
        let backend = format!("backend = \"http://{}\"\n", nginx.http);
        site.edit("connection-point/connection-point.toml", |text| text + &published + &backend);
        site
    }

    /// Has `relay init` write a site below `home`. Its listeners have ports of the system's
    /// choosing.
    pub(crate) fn init_with(home: &Path, rest: &[&str]) -> Self {
        let init = Command::new(env!("CARGO_BIN_EXE_relay"))
            .args(["init", "site", "--service", SERVICE, "--instances", "2"])
            .args(rest)
            .current_dir(home)
            .output()
            .unwrap();
        assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
        let site = Self { home: home.join("site") };
        for instance in 1..=2_u8 {
            site.edit(&format!("gateway-{instance}/gateway.toml"), |text| {
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
        site.edit("connection-point/connection-point.toml", |text| {
            text.replace("127.0.0.1:10180", "127.0.0.1:0")
        });
        site
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

    /// Starts the connection point, which dials the instances at `links`.
    pub(crate) fn start_connection_point(&self, links: &[SocketAddr]) -> Role {
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
        let file = "connection-point/connection-point.toml";
        Role::start(&self.home, &["connection-point", "--config", file])
    }
}
