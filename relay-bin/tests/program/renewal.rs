//! A gateway's link certificate, renewed by a connection point that has the authority's key.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rcgen::ExtendedKeyUsagePurpose;
use relay_core::transport::{Certificate, Identity, TrustAnchors, link_client_config};
use rustls::ClientConnection;
use serde_json::Value;

use crate::material::{
    READ_AGAIN, fingerprint, give_authority, let_grow_old, links, relay, replace_link,
};
use crate::support::role::Role;
use crate::support::site::Site;

const CERTIFICATE: &str = "site/gateway-1/links.pem";
const KEY: &str = "site/gateway-1/links-key.pem";
const NAME: &str = "gateway-1.relay.example";
const RENEWED: &str = "\"message\":\"link certificate renewed";

/// Puts a certificate in place of the gateway's that is due, and returns its fingerprint.
fn let_it_grow_old(home: &Path) -> Value {
    let_grow_old(home, [CERTIFICATE, KEY], NAME, ExtendedKeyUsagePurpose::ServerAuth);
    fingerprint(home, CERTIFICATE)
}

/// The certificate that the gateway shows to whoever dials its link port now.
fn shown(home: &Path, at: SocketAddr) -> Value {
    let below = |file: &str| home.join("site/connection-point").join(file);
    let identity = Identity::from_pem_files(&below("link.pem"), &below("link-key.pem")).unwrap();
    let anchors = TrustAnchors::from_pem_file(&below("site-ca.pem")).unwrap();
    let tls = link_client_config(&identity, &anchors).unwrap();
    let mut connection = ClientConnection::new(tls, NAME.try_into().unwrap()).unwrap();
    let mut socket = TcpStream::connect(at).unwrap();
    while connection.is_handshaking() {
        connection.complete_io(&mut socket).unwrap();
    }
    let chain = connection.peer_certificates().unwrap();
    Certificate::of_chain(chain).unwrap().fingerprint.to_string().into()
}

/// What `relay status` says of the gateway's own certificate.
fn status(home: &Path, gateway: &mut Role) -> Value {
    let status = relay(home, &format!("status --json --admin {}", gateway.admin()));
    serde_json::from_str::<Value>(&status).unwrap()["certificate"].clone()
}

/// The numbers of the links that take requests.
fn numbers(home: &Path, gateway: &mut Role) -> Vec<u64> {
    links(home, gateway.admin()).into_iter().map(|(number, _)| number).collect()
}

fn key_mode(home: &Path) -> u32 {
    fs::metadata(home.join(KEY)).unwrap().permissions().mode() & 0o777
}

fn stop(roles: [(Role, &str); 2]) {
    for (role, which) in roles {
        let (status, printed) = role.stop();
        assert_eq!(status, Some(0), "{which}: {printed:#?}");
    }
}

#[test]
fn a_gateways_certificate_that_is_due_is_renewed_over_its_links_and_drops_none() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let site = Site::init_with(home, &["--backend", "http://127.0.0.1:9"]);
    give_authority(&site);
    let old = let_it_grow_old(home);
    let old_key = fs::read_to_string(home.join(KEY)).unwrap();
    let mut gateway = site.start_gateway(1);
    let [_, at] = gateway.addresses();
    assert_eq!(shown(home, at), old);

    let mut point = site.start_connection_point(&[at]);
    let told = gateway.wait_for_log(RENEWED, 1);
    point.wait_for_log("the instance's link certificate renewed", 1);
    let new = fingerprint(home, CERTIFICATE);
    assert_ne!(new, old);
    assert!(told.contains(new.as_str().unwrap()), "{told}");

    // The same names and uses; a new key, for its owner alone; the two belong together.
    let all: Value =
        serde_json::from_str(&relay(home, &format!("pki show --json {CERTIFICATE}"))).unwrap();
    assert_eq!((&all[0]["names"], &all[0]["uses"]), (&[NAME].into(), &["server"].into()));
    let key = fs::read_to_string(home.join(KEY)).unwrap();
    assert_ne!(key, old_key);
    assert_eq!((key.matches("BEGIN").count(), key_mode(home)), (1, 0o600));
    relay(home, "gateway --check --config site/gateway-1/gateway.toml");

    // New links meet it; those that were up are.
    assert_eq!(shown(home, at), new);
    gateway.wait_for_log("\"message\":\"link up\"", 2);
    assert_eq!(numbers(home, &mut gateway), [1, 2]);
    replace_link(home, &mut gateway, 1, 3);
    assert_eq!(numbers(home, &mut gateway), [2, 3]);
    let own = status(home, &mut gateway);
    assert_eq!(own["sha256"], new);
    assert!(own["days_left"].as_u64().unwrap() > 800, "{own}");
    stop([(point, "connection point"), (gateway, "gateway")]);
}

#[test]
fn an_authority_without_its_key_is_told_and_the_certificate_stays_until_it_is_back() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let site = Site::init_with(home, &["--backend", "http://127.0.0.1:9"]);
    give_authority(&site);
    site.edit("connection-point/connection-point.toml", |text| {
        text.replace("# links_per_instance = 2", "links_per_instance = 1")
    });
    let mut gateway = site.start_gateway(1);
    let [_, at] = gateway.addresses();
    let mut point = site.start_connection_point(&[at]);
    gateway.wait_for_log("\"message\":\"link up\"", 1);

    // The next link meets one that is due, and the key has gone meanwhile.
    let old = let_it_grow_old(home);
    let old_key = fs::read(home.join(KEY)).unwrap();
    gateway.signal("HUP");
    gateway.wait_for_log(READ_AGAIN, 1);
    let ca_key = home.join("site/site-ca/site-ca-key.pem");
    fs::rename(&ca_key, home.join("aside.pem")).unwrap();
    replace_link(home, &mut gateway, 1, 2);
    let told = point.wait_for_log("site-ca-key.pem", 1);
    assert!(told.contains("the instance's link certificate not renewed"), "{told}");
    assert_eq!((fingerprint(home, CERTIFICATE), shown(home, at)), (old.clone(), old.clone()));
    assert_eq!(fs::read(home.join(KEY)).unwrap(), old_key);
    assert_eq!(numbers(home, &mut gateway), [2]);

    // It is tried again.
    fs::rename(home.join("aside.pem"), &ca_key).unwrap();
    gateway.wait_for_log(RENEWED, 1);
    assert_ne!(fingerprint(home, CERTIFICATE), old);
    assert_eq!(shown(home, at), fingerprint(home, CERTIFICATE));
    assert_eq!(numbers(home, &mut gateway), [2]);
    stop([(point, "connection point"), (gateway, "gateway")]);
}
