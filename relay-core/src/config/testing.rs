//! A folder with a small site in it, for the tests of this room.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, Issuer,
    KeyIdMethod, KeyPair, SerialNumber, date_time_ymd,
};
use tempfile::TempDir;

use super::{
    ConfigError, LoadedConnectionPoint, LoadedGateway, load_connection_point, load_gateway,
};

const GATEWAY: &str = "\
service = \"relay.example\"
instance = 1

[clients]
listen = \"0.0.0.0:8443\"
certificate = \"clients.pem\"
key = \"clients-key.pem\"

[links]
listen = \"0.0.0.0:10140\"
certificate = \"links.pem\"
key = \"links-key.pem\"
site_ca = \"site-ca.pem\"
";

const CONNECTION_POINT: &str = "\
name = \"site-1\"

[gateway]
host = \"relay.example\"
instances = 2
link_port_base = 10140

[link]
certificate = \"link.pem\"
key = \"link-key.pem\"
site_ca = \"site-ca.pem\"
";

/// The connection point's endpoint.
const ENDPOINT: &str = "
[[endpoint]]
name = \"mp\"
# The kind decides verbs and paths.
kind = \"management-point\"
role_id = 72057594037927937
unsafe_allow_anonymous = true
# The site role's own address.
backend = \"http://127.0.0.1:8080\"
";

/// A folder that holds certificates and keys; removed when dropped.
pub(super) struct Site {
    folder: TempDir,
}

impl Site {
    pub(super) fn new() -> Self {
        let site = Self { folder: tempfile::tempdir().unwrap() };
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = KeyPair::generate().unwrap();
        site.write("site-ca.pem", &authority.self_signed(&key).unwrap().pem());
        let issuer = Issuer::new(authority, key);
        for (name, until) in [("site-ca.crl", 3000), ("over.crl", 2001)] {
            let list = CertificateRevocationListParams {
                this_update: date_time_ymd(2000, 1, 1),
                next_update: date_time_ymd(until, 1, 1),
                crl_number: SerialNumber::from(1),
                issuing_distribution_point: None,
                revoked_certs: Vec::new(),
                key_identifier_method: KeyIdMethod::Sha256,
            };
            site.write(name, &list.signed_by(&issuer).unwrap().pem().unwrap());
        }
        for name in ["clients", "links", "link"] {
            let key = KeyPair::generate().unwrap();
            let leaf = CertificateParams::new(vec!["relay.example".to_owned()]).unwrap();
            site.write(&format!("{name}.pem"), &leaf.signed_by(&key, &issuer).unwrap().pem());
            site.write_key(&format!("{name}-key.pem"), &key.serialize_pem());
        }
        site
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn gateway_file(&self) -> PathBuf {
        self.path("gateway.toml")
    }

    /// Loads the gateway's file after `change`.
    pub(super) fn gateway_with(
        &self,
        change: impl FnOnce(&str) -> String,
    ) -> Result<LoadedGateway, ConfigError> {
        self.write("gateway.toml", &change(GATEWAY));
        load_gateway(&self.gateway_file())
    }

    /// Loads the connection point's file after `change`.
    pub(super) fn connection_point_with(
        &self,
        change: impl FnOnce(&str) -> String,
    ) -> Result<LoadedConnectionPoint, ConfigError> {
        let text = format!("{CONNECTION_POINT}{ENDPOINT}");
        self.write("connection-point.toml", &change(&text));
        load_connection_point(&self.path("connection-point.toml"), &|_| None)
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn write_key(&self, name: &str, text: &str) {
        self.write(name, text);
        restrict(&self.path(name));
    }
}

#[cfg(unix)]
fn restrict(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[cfg(not(unix))]
fn restrict(_path: &Path) {}

/// The message of a load that must fail.
pub(super) fn message<T>(loaded: Result<T, ConfigError>) -> String {
    match loaded {
        Ok(_) => panic!("the file was accepted"),
        Err(error) => error.to_string(),
    }
}
