//! What ends soon is told by the log, by the status and to Prometheus.

use std::process::Command;

use rcgen::ExtendedKeyUsagePurpose;
use serde_json::Value;

use crate::admin;
use crate::material::let_grow_old;
use crate::support::site::Site;

const FILES: [&str; 2] = ["site/gateway-1/links.pem", "site/gateway-1/links-key.pem"];
const NAME: &str = "gateway-1.relay.example";
const TOLD: &str = "it ends within so many days";

#[test]
fn a_certificate_that_ends_within_the_hour_is_told_once_with_its_name_and_file() {
    let home = tempfile::tempdir().unwrap();
    let site = Site::init_with(home.path(), &["--backend", "http://127.0.0.1:9"]);
    let_grow_old(home.path(), FILES, NAME, ExtendedKeyUsagePurpose::ServerAuth);
    let mut gateway = site.start_gateway(1);
    let line: Value = serde_json::from_str(&gateway.wait_for_log(TOLD, 1)).unwrap();
    assert_eq!((&line["what"], &line["days"]), (&"link certificate".into(), &1.into()), "{line}");
    assert_eq!((&line["name"], &line["level"]), (&format!("CN={NAME}").into(), &"WARN".into()));
    let place = line["place"].as_str().unwrap();
    assert!(place.ends_with("gateway-1/links.pem"), "{line}");

    let admin = gateway.admin();
    let status = admin::json(&["status"], admin);
    let first = &status["expiry"][0];
    assert_eq!((&first["what"], &first["days_left"]), (&line["what"], &0.into()), "{status:#}");
    assert_eq!((&first["place"], &first["ends_at"]), (&line["place"], &line["ends_at"]));
    let whats = status["expiry"].as_array().unwrap().iter().map(|it| it["what"].as_str().unwrap());
    let whats: Vec<_> = whats.collect();
    for what in ["server certificate", "site authority"] {
        assert!(whats.contains(&what), "{whats:?}");
    }
    let labels = format!("what=\"link certificate\",name=\"CN={NAME}\",place=\"{place}\"");
    let text = admin::get(admin, "/metrics");
    assert!(text.contains(&format!("relay_expiry_timestamp_seconds{{{labels}}} ")), "{text}");

    let (status, lines) = gateway.stop();
    assert_eq!(status, Some(0));
    assert_eq!(lines.iter().filter(|line| line.contains(TOLD)).count(), 1, "{lines:#?}");
}

#[test]
fn a_connection_point_lists_what_its_site_signs_and_shows_and_trusts() {
    let home = tempfile::tempdir().unwrap();
    let site = Site::init_with(home.path(), &["--backend", "http://127.0.0.1:9"]);
    let file = "site/connection-point/connection-point.toml";
    let made = Command::new(env!("CARGO_BIN_EXE_relay"))
        .args(["token", "new", "--config", file, "--out", "token"])
        .current_dir(home.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let folder = home.path().join("site/connection-point");
    for (from, to) in [("site-ca.pem", "clients-ca.pem"), ("site-ca.crl", "clients-ca.crl")] {
        std::fs::copy(folder.join(from), folder.join(to)).unwrap();
    }
    site.edit("connection-point/connection-point.toml", |text| {
        let clients = "\n[clients]\nroots = \"clients-ca.pem\"\n\
                       revocation_lists = [\"clients-ca.crl\"]\n";
        let text = text.replace("unsafe_allow_anonymous = true\n", "") + clients;
        let listens =
            "listen = \"127.0.0.1:0\"\ncertificate = \"link.pem\"\nkey = \"link-key.pem\"\n";
        let backend = "backend = \"https://mp.site\"\nbackend_ca = \"site-ca.pem\"\n\
                       client_certificate = \"link.pem\"\nclient_key = \"link-key.pem\"";
        assert_eq!(text.matches("backend = \"http://127.0.0.1:9\"").count(), 1);
        let text = text.replace("backend = \"http://127.0.0.1:9\"", backend);
        let pki = "[pki]\nca = \"../site-ca/site-ca.pem\"\n\
                   ca_key = \"../site-ca/site-ca-key.pem\"\n\n";
        text.replace("[token_service]\n", &format!("{pki}[token_service]\n{listens}"))
    });
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let mut point = site.start_connection_point(&[held.local_addr().unwrap()]);
    // It is listed for the first time beside the start.
    let begun = std::time::Instant::now();
    let listed = loop {
        assert!(begun.elapsed().as_secs() < 60, "nothing was listed");
        let status = admin::json(&["status"], point.admin());
        let all = status["expiry"].as_array().unwrap().clone();
        if !all.is_empty() {
            break all;
        }
    };
    let place = |what: &str| {
        let found = listed.iter().find(|it| it["what"] == what);
        found.unwrap_or_else(|| panic!("{what}: {listed:#?}"))["place"].as_str().unwrap()
    };
    assert!(place("signing certificate").ends_with("/signing-1.pem"), "{listed:#?}");
    assert!(place("token service certificate").ends_with("/link.pem"), "{listed:#?}");
    assert!(place("backend authority").ends_with("/site-ca.pem"), "{listed:#?}");
    assert!(place("backend client certificate").ends_with("/link.pem"), "{listed:#?}");
    assert!(place("link authority").ends_with("/site-ca/site-ca.pem"), "{listed:#?}");
    assert!(place("link certificate").ends_with("connection-point/link.pem"), "{listed:#?}");
    assert!(place("client root").ends_with("/clients-ca.pem"), "{listed:#?}");
    assert!(place("revocation list of clients").ends_with("/clients-ca.crl"), "{listed:#?}");
    assert!(place("revocation list of links").ends_with("/site-ca.crl"), "{listed:#?}");
    assert_eq!(point.stop().0, Some(0));
}
