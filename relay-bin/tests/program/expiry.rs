//! What ends soon is told by the log, by the status and to Prometheus.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use rcgen::ExtendedKeyUsagePurpose;
use serde_json::Value;

use crate::admin;
use crate::material::let_grow_old;
use crate::support::site::Site;

const FILES: [&str; 2] = ["site/gateway-1/links.pem", "site/gateway-1/links-key.pem"];
const NAME: &str = "gateway-1.relay.example";
const TOLD: &str = "it ends within so many days";

fn metrics(admin: SocketAddr) -> String {
    let mut stream = TcpStream::connect(admin).unwrap();
    let head = format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

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
    let text = metrics(admin);
    assert!(text.contains(&format!("relay_expiry_timestamp_seconds{{{labels}}} ")), "{text}");

    let (status, lines) = gateway.stop();
    assert_eq!(status, Some(0));
    assert_eq!(lines.iter().filter(|line| line.contains(TOLD)).count(), 1, "{lines:#?}");
}
