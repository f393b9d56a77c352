//! Certificates that change while the roles run.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair,
    date_time_ymd,
};
use serde_json::Value;
use time::{Duration, OffsetDateTime};

use crate::support::role::Role;
use crate::support::site::Site;

/// Runs `relay` below `home` with a command line without blanks in its words.
pub(crate) fn relay(home: &Path, line: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relay"));
    let ran = command.args(line.split(' ')).current_dir(home).output().unwrap();
    assert!(ran.status.success(), "{line}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}

/// SHA-256 of a certificate.
pub(crate) fn fingerprint(home: &Path, file: &str) -> Value {
    let shown: Value =
        serde_json::from_str(&relay(home, &format!("pki show --json {file}"))).unwrap();
    shown[0]["sha256"].clone()
}

/// Number and certificate of each link that takes requests at a gateway.
pub(crate) fn links(home: &Path, admin: SocketAddr) -> Vec<(u64, Value)> {
    let status = relay(home, &format!("status --json --admin {admin}"));
    let status: Value = serde_json::from_str(&status).unwrap();
    let links = status["links"].as_array().unwrap().iter().filter(|link| link["state"] == "up");
    links
        .map(|link| (link["number"].as_u64().unwrap(), link["certificate_sha256"].clone()))
        .collect()
}

const LINK: &str = "site/connection-point/link.pem";
const KEY: &str = "site/connection-point/link-key.pem";
pub(crate) const READ_AGAIN: &str = "certificates read again";

/// Has a gateway drain a link, and waits until its connection point has dialled the `count`-th.
pub(crate) fn replace_link(home: &Path, gateway: &mut Role, number: u64, count: usize) {
    let admin = gateway.admin();
    relay(home, &format!("drain --link {number} --admin {admin}"));
    gateway.wait_for_log("\"message\":\"link up\"", count);
}

#[test]
fn a_certificate_that_is_replaced_is_used_by_new_links_and_drops_none() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let site = Site::init_with(home, &["--backend", "http://127.0.0.1:9"]);
    site.edit("gateway-1/gateway.toml", |text| {
        text.replace("\"site-ca.crl\"", "\"../site-ca/site-ca.crl\"")
    });
    let mut gateway = site.start_gateway(1);
    let [_, at] = gateway.addresses();
    let mut point = site.start_connection_point(&[at]);
    gateway.wait_for_log("\"message\":\"link up\"", 2);
    let admin = gateway.admin();
    let old = fingerprint(home, LINK);
    assert_eq!(links(home, admin), [(1, old.clone()), (2, old.clone())]);

    // Renewed: links that are up go on with the old one, the next one shows the new one.
    relay(home, &format!("pki renew --ca site/site-ca {LINK} {KEY}"));
    let new = fingerprint(home, LINK);
    assert_ne!(new, old);
    point.signal("HUP");
    let told = point.wait_for_log(READ_AGAIN, 1);
    assert!(told.contains(new.as_str().unwrap()), "{told}");
    assert_eq!(links(home, admin), [(1, old.clone()), (2, old.clone())]);
    replace_link(home, &mut gateway, 1, 3);
    assert_eq!(links(home, admin), [(2, old.clone()), (3, new.clone())]);

    // Broken: the reason is told and what was before stays in force.
    let good = fs::read_to_string(home.join(LINK)).unwrap();
    fs::write(home.join(LINK), "broken").unwrap();
    point.signal("HUP");
    let told = point.wait_for_log("what was before stays in force", 1);
    assert!(told.contains("link.pem"), "{told}");
    replace_link(home, &mut gateway, 3, 4);
    assert_eq!(links(home, admin), [(2, old.clone()), (4, new.clone())]);
    fs::write(home.join(LINK), good).unwrap();
    point.signal("HUP");
    point.wait_for_log(READ_AGAIN, 2);

    // Taken back: the gateway reads the list, closes the link that showed it and no other, and lets
    // it in no more. Both say why.
    relay(home, &format!("pki revoke --ca site/site-ca {LINK}"));
    gateway.signal("HUP");
    gateway.wait_for_log(READ_AGAIN, 1);
    let told = gateway.wait_for_log("was revoked", 1);
    assert!(told.contains("\"link\":4,\"certified\":\"connection-point-1\""), "{told}");
    point.wait_for_log("refused the link: the certificate of the connection point was revoked", 1);
    let told = gateway.wait_for_log("\"message\":\"link refused\"", 1);
    assert!(told.contains("Revoked"), "{told}");
    assert_eq!(links(home, admin), [(2, old)]);

    for (role, which) in [(point, "connection point"), (gateway, "gateway")] {
        let (status, printed) = role.stop();
        assert_eq!(status, Some(0), "{which}: {printed:#?}");
    }
}

/// Puts a certificate in place of one that has an hour left of many years.
pub(crate) fn let_grow_old(
    home: &Path,
    files: [&str; 2],
    name: &str,
    purpose: ExtendedKeyUsagePurpose,
) {
    let_end_in(home, files, name, (purpose, Duration::hours(1)));
}

/// Puts a certificate in place of one that has so much left of many years.
pub(crate) fn let_end_in(
    home: &Path,
    [certificate, key]: [&str; 2],
    name: &str,
    (purpose, left): (ExtendedKeyUsagePurpose, Duration),
) {
    let read = |file: &str| fs::read_to_string(home.join("site/site-ca").join(file)).unwrap();
    let ca_key = KeyPair::from_pem(&read("site-ca-key.pem")).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&read("site-ca.pem"), ca_key).unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![purpose];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = OffsetDateTime::now_utc() + left;
    let new_key = KeyPair::generate().unwrap();
    let signed = params.signed_by(&new_key, &issuer).unwrap();
    fs::write(home.join(certificate), signed.pem()).unwrap();
    fs::write(home.join(key), new_key.serialize_pem()).unwrap();
}

/// Puts a certificate in place of the connection point's that is due.
fn let_it_grow_old(home: &Path) {
    let name = "connection-point-1";
    let_grow_old(home, [LINK, KEY], name, ExtendedKeyUsagePurpose::ClientAuth);
}

/// Gives the connection point the authority and its key.
pub(crate) fn give_authority(site: &Site) {
    site.edit("connection-point/connection-point.toml", |text| {
        let table = "[pki]\nca = \"../site-ca/site-ca.pem\"\n\
                     ca_key = \"../site-ca/site-ca-key.pem\"\n\n[admin]\n";
        text.replace("[admin]\n", table)
    });
}

#[test]
fn a_connection_point_with_the_authority_renews_its_certificate_by_itself() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let site = Site::init_with(home, &["--backend", "http://127.0.0.1:9"]);
    give_authority(&site);
    let fresh = fingerprint(home, LINK);
    let mut gateway = site.start_gateway(1);
    let [_, at] = gateway.addresses();
    let admin = gateway.admin();
    let mut point = site.start_connection_point(&[at]);
    gateway.wait_for_log("\"message\":\"link up\"", 2);

    // Replaced from outside by one that is due: the program renews it before it takes it.
    let_it_grow_old(home);
    let old = fingerprint(home, LINK);
    point.signal("HUP");
    point.wait_for_log("link certificate renewed", 1);
    point.wait_for_log(READ_AGAIN, 1);
    let new = fingerprint(home, LINK);
    assert!(new != old && new != fresh);
    assert_eq!(links(home, admin), [(1, fresh.clone()), (2, fresh.clone())]);
    replace_link(home, &mut gateway, 1, 3);
    assert_eq!(links(home, admin), [(2, fresh.clone()), (3, new.clone())]);

    // One that is not due is left alone.
    fs::write(home.join("site/connection-point/site-ca.pem"), {
        let file = home.join("site/site-ca/site-ca.pem");
        fs::read_to_string(file).unwrap() + "# changed\n"
    })
    .unwrap();
    point.signal("HUP");
    point.wait_for_log(READ_AGAIN, 2);
    assert_eq!(fingerprint(home, LINK), new);

    // Without the authority's key it says why, and the one that is there goes on.
    let_it_grow_old(home);
    let old = fingerprint(home, LINK);
    fs::remove_file(home.join("site/site-ca/site-ca-key.pem")).unwrap();
    point.signal("HUP");
    let told = point.wait_for_log("link certificate not renewed", 1);
    assert!(told.contains("site-ca-key.pem"), "{told}");
    point.wait_for_log(READ_AGAIN, 3);
    assert_eq!(fingerprint(home, LINK), old);
    for (role, which) in [(point, "connection point"), (gateway, "gateway")] {
        let (status, printed) = role.stop();
        assert_eq!(status, Some(0), "{which}: {printed:#?}");
    }
}
