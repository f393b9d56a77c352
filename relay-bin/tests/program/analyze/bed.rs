//! What is analyzed: a site with two instances, and servers that are broken on purpose.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use http::Response;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::origin::{Origin, Said};
use crate::support::role::Role;
use crate::support::site::{SERVICE, Site};

use super::analyze;

/// What stands in every secret that a test makes, and may stand nowhere else.
pub(super) const SECRET: &str = "hiddenhiddenhidden";

/// The version of the settings, unless a test has another.
pub(super) const VERSION: u64 = 7;

/// A site with two instances, whose clients have to show a certificate or a token.
pub(super) struct Bed {
    pub(super) home: TempDir,
    pub(super) site: Site,
    pub(super) gateways: Vec<Role>,
    pub(super) points: Vec<Role>,
    pub(super) clients: Vec<SocketAddr>,
    pub(super) links: Vec<SocketAddr>,
    _origin: Origin,
}

impl Bed {
    /// Two instances, and nobody who is connected to them. `change` is for the connection point's
    /// file.
    pub(super) fn deserted(change: impl FnOnce(String) -> String) -> Self {
        Self::before(None, change)
    }

    /// As [`Bed::deserted`], in front of another site role.
    pub(super) fn before(backend: Option<&[&str]>, change: impl FnOnce(String) -> String) -> Self {
        let home = tempfile::tempdir().unwrap();
        let origin = Origin::start(|_| Response::builder().body(Said::whole("the list")).unwrap());
        let here = format!("http://{}", origin.at);
        let site = Site::init_with(home.path(), backend.unwrap_or(&["--backend", &here]));
        site.edit("connection-point/connection-point.toml", |text| {
            let text = text.replace("unsafe_allow_anonymous = true\n", "");
            let text = text.replace("# version = 1\n", &format!("version = {VERSION}\n"));
            change(text + "\n[clients]\nroots = \"clients-ca.pem\"\nrevocation = \"off\"\n")
        });
        for number in 1..=2 {
            site.edit(&format!("gateway-{number}/gateway.toml"), |text| {
                text + "\n[fetch]\ntrust = \"site-ca.pem\"\n"
            });
        }
        let bed = Self {
            home,
            site,
            gateways: vec![],
            points: vec![],
            clients: vec![],
            links: vec![],
            _origin: origin,
        };
        bed.write_client();
        bed.with_gateways()
    }

    fn with_gateways(mut self) -> Self {
        for number in 1..=2 {
            let mut gateway = self.site.start_gateway(number);
            let [clients, links] = gateway.addresses();
            self.clients.push(clients);
            self.links.push(links);
            self.gateways.push(gateway);
        }
        self.site.dial(&self.links);
        // The customary HTTPS ports may be anybody's here.
        self.site.edit("connection-point/connection-point.toml", |text| {
            text.replace(
                "server_name = \"gateway-",
                "transport = \"tcp-tls\"\nserver_name = \"gateway-",
            )
        });
        self
    }

    /// With a connection point at both instances.
    pub(super) fn connected(change: impl FnOnce(String) -> String) -> Self {
        Self::deserted(change).with_connection_point()
    }

    /// Starts a connection point, and waits until all of its links are up and both instances have
    /// its settings.
    pub(super) fn with_connection_point(mut self) -> Self {
        let mut point = self.site.start_connection_point_in("connection-point");
        point.wait_for_log("\"message\":\"link up\"", 4);
        for gateway in &mut self.gateways {
            gateway.wait_for_log("settings applied", 1);
            gateway.wait_for_log("\"message\":\"link up\"", 2);
        }
        self.points.push(point);
        self
    }

    /// Has the connection point in `folder` dial one instance alone.
    pub(super) fn dial_only(&self, folder: &str, instance: usize) {
        self.site.edit(&format!("{folder}/connection-point.toml"), |text| {
            let mut parts = text.splitn(3, "[[gateway]]\n");
            let [before, first, second] = std::array::from_fn(|_| parts.next().unwrap());
            let (second, after) = second.split_once("[link]\n").unwrap();
            let kept = if instance == 1 { first } else { second };
            format!("{before}[[gateway]]\n{kept}[link]\n{after}")
        });
    }

    /// A client's certificate with its key, of an authority that is published.
    fn write_client(&self) {
        let authority = authority();
        fs::write(self.path("site/connection-point/clients-ca.pem"), authority.pem()).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "a client");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        fs::write(self.path("me.pem"), certificate.pem()).unwrap();
        self.secret("me-key.pem", &key.serialize_pem());
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Writes a file that only its owner may read.
    pub(super) fn secret(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// What `relay token` says, in the connection point's folder.
    pub(super) fn token(&self, args: &[&str]) -> Value {
        let done = Command::new(env!("CARGO_BIN_EXE_relay"))
            .arg("token")
            .args(args)
            .args(["--config", "connection-point.toml", "--json"])
            .current_dir(self.path("site/connection-point"))
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        serde_json::from_slice(&done.stdout).unwrap()
    }

    /// The command line that reaches both instances, as the client with a certificate.
    pub(super) fn usual(&self) -> Vec<String> {
        let mut args = reaching(&self.clients);
        args.extend(["--certificate", "me.pem", "--key", "me-key.pem"].map(str::to_owned));
        args.extend(["--config", "site/connection-point/connection-point.toml"].map(str::to_owned));
        args
    }

    pub(super) fn analyze(&self, args: &[String], more: &[&str]) -> (i32, Value) {
        let args: Vec<&str> = args.iter().map(String::as_str).chain(more.iter().copied()).collect();
        analyze(self.home.path(), &args)
    }
}

/// The command line that reaches instances at these addresses, as nobody in particular.
pub(super) fn reaching(addresses: &[SocketAddr]) -> Vec<String> {
    let mut args = vec![format!("https://{SERVICE}")];
    args.extend(["--ca", "site/site-ca/site-ca.pem", "--timeout", "20"].map(str::to_owned));
    for address in addresses {
        args.extend(["--resolve".to_owned(), format!("{SERVICE}:{address}")]);
    }
    args
}

/// An authority of the tests' own.
pub(super) fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "an authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// What a server of the tests' own has wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wrong {
    /// Its certificate is over.
    Expired,
    /// It wants a client certificate, and nobody has one that it takes.
    WantsCertificate,
}

/// Starts a server that only shakes hands, for `name`; returns where, and whom to trust.
///
/// Its thread ends with the tests.
pub(super) fn tls_server(name: &str, wrong: Wrong) -> (SocketAddr, String) {
    let authority = authority();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    if wrong == Wrong::Expired {
        (params.not_before, params.not_after) =
            (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    }
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let root = CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = if wrong == Wrong::WantsCertificate {
        let mut roots = RootCertStore::empty();
        roots.add(root).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        builder.with_client_cert_verifier(verifier.build().unwrap())
    } else {
        builder.with_no_client_auth()
    };
    let config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let config = Arc::clone(&config);
            std::thread::spawn(move || shake(&config, stream));
        }
    });
    (at, authority.pem())
}

fn shake(config: &Arc<ServerConfig>, mut stream: TcpStream) {
    let mut session = ServerConnection::new(Arc::clone(config)).unwrap();
    while session.is_handshaking() && session.complete_io(&mut stream).is_ok() {}
    // The peer reads the alert before it learns of the end.
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let _ = std::io::copy(&mut stream, &mut std::io::sink());
}
