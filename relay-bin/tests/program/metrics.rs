//! `/metrics`, read by the parser of Prometheus's own client for Python, and traffic reports.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use http::Response;
use serde::Deserialize;
use serde_json::json;

use crate::admin;
use crate::support::origin::{Asked, Origin, Said};
use crate::support::role::Role;
use crate::support::site::{HTTPS_ROLE, SERVICE, Site};
use crate::support::tools_are_required;

/// Where Debian's Python is, which has the parser: `python3-prometheus-client`.
const PYTHON: &str = "/usr/bin/python3";

/// Reads a text strictly and prints what it says; a text that is none is an error.
const PARSE: &str = "
import json, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
print(json.dumps([
    {'name': it.name, 'kind': it.type, 'unit': it.unit, 'help': it.documentation,
     'samples': [[s.name, s.labels, '%.15g' % s.value] for s in it.samples]}
    for it in parse(sys.stdin.read())
]))
";

#[derive(Debug, Deserialize)]
struct Family {
    name: String,
    kind: String,
    unit: String,
    help: String,
    /// Name, labels, and value as it is written.
    samples: Vec<(String, BTreeMap<String, String>, String)>,
}

struct Scrape(Vec<Family>);

impl Scrape {
    /// The value with these labels; there must be one.
    fn value(&self, sample: &str, labels: &[(&str, &str)]) -> &str {
        let wanted: BTreeMap<_, _> = labels.iter().copied().collect();
        let all = self.0.iter().flat_map(|it| &it.samples);
        let found = all.filter(|(name, labels, _)| {
            name == sample && labels.iter().map(|(k, v)| (&**k, &**v)).eq(wanted.clone())
        });
        let found: Vec<_> = found.collect();
        let [(_, _, value)] = found[..] else { panic!("{sample} {labels:?}: {found:?}") };
        value
    }

    /// As in the documentation.
    fn names(&self) -> BTreeSet<String> {
        let name = |it: &Family| match it.kind.as_str() {
            "counter" => format!("{}_total", it.name),
            "info" => format!("{}_info", it.name),
            _ => it.name.clone(),
        };
        self.0.iter().map(name).collect()
    }

    /// What holds of every text.
    fn check(&self) {
        for family in &self.0 {
            assert!(!family.help.is_empty(), "{family:?}");
            let is_of_unit = match family.unit.as_str() {
                "" => !["_seconds", "_bytes"].iter().any(|it| family.name.ends_with(it)),
                unit => family.name.ends_with(&format!("_{unit}")),
            };
            assert!(is_of_unit, "{family:?}");
            let series: BTreeSet<_> = family.samples.iter().map(|it| (&it.0, &it.1)).collect();
            assert_eq!(series.len(), family.samples.len(), "{family:?}");
        }
    }
}

fn can_parse() -> bool {
    let mut parser = Command::new(PYTHON);
    parser.args(["-c", "import prometheus_client"]).stdout(Stdio::null()).stderr(Stdio::null());
    let can = parser.status().is_ok_and(|status| status.success());
    assert!(can || !tools_are_required(), "python3-prometheus-client is not installed");
    can
}

fn scrape(admin: SocketAddr) -> Scrape {
    let answer = admin::get(admin, "/metrics");
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    let kind = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert!(head.contains(kind), "{head}");
    let mut parser = Command::new(PYTHON)
        .args(["-c", PARSE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    parser.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let parsed = parser.wait_with_output().unwrap();
    assert!(parsed.status.success(), "{text}");
    let scrape = Scrape(serde_json::from_slice(&parsed.stdout).unwrap());
    scrape.check();
    scrape
}

fn site_role(asked: &Asked) -> Response<Said> {
    let status = match asked.line.rsplit('/').next() {
        Some("fail") => 500,
        Some("absent") => 404,
        _ => 200,
    };
    Response::builder().status(status).body(Said::whole("the list")).unwrap()
}

/// A site, its roles, and where its clients are served.
struct Bed {
    site: Site,
    gateway: Role,
    point: Role,
    clients: SocketAddr,
    home: tempfile::TempDir,
    _origin: Origin,
}

impl Bed {
    /// A site whose endpoint has a name that a format might stumble over.
    fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let origin = Origin::start(site_role);
        let site = Site::init_with(home.path(), &["--backend", &format!("http://{}", origin.at)]);
        site.edit("connection-point/connection-point.toml", |text| {
            assert_eq!(text.matches("name = \"mp\"").count(), 1);
            text.replace("name = \"mp\"", "name = 'm\"p\\'")
        });
        let mut gateway = site.start_gateway(1);
        let [clients, links] = gateway.addresses();
        let mut point = site.start_connection_point(&[links]);
        for role in [&mut gateway, &mut point] {
            role.wait_for_log("\"message\":\"link up\"", 2);
        }
        gateway.wait_for_log("settings applied", 1);
        point.wait_for_log("settings published", 1);
        Self { site, gateway, point, clients, home, _origin: origin }
    }

    /// Has one more connection from this address than may be.
    fn meet_the_limit_of_an_address(&self) {
        let _held: Vec<_> = (0..100).map(|_| TcpStream::connect(self.clients).unwrap()).collect();
        let mut beyond = TcpStream::connect(self.clients).unwrap();
        // It is closed before anything was said, and by a reset at worst.
        let _ = beyond.read_to_end(&mut Vec::new());
    }

    /// Has the site role asked, and waits until that has ended at the gateway: the `count`-th.
    fn ask(&mut self, args: &[&str], path: &str, count: usize) {
        let port = self.clients.port();
        let url = format!("https://{SERVICE}:{port}/CCM_Proxy_ServerAuth/{HTTPS_ROLE}{path}");
        let ca = self.site.ca();
        let mut client = Command::new(env!("CARGO_BIN_EXE_relay"));
        client.args(["client", "request"]).args(args).arg(url);
        client.args(["--resolve", &format!("{SERVICE}:127.0.0.1"), "--ca", ca.to_str().unwrap()]);
        client.current_dir(self.home.path()).stdin(Stdio::null());
        client.output().unwrap();
        self.gateway.wait_for_log("\"target\":\"relay::access\"", count);
    }
}

/// What both ends have counted of their links, once nothing is on its way.
fn check_links(gateway: &Scrape, point: &Scrape) {
    let sum = |scrape: &Scrape, sample: &str| -> u64 {
        let all = scrape.0.iter().flat_map(|it| &it.samples);
        all.filter(|it| it.0 == sample).map(|it| it.2.parse::<u64>().unwrap()).sum()
    };
    assert!(sum(gateway, "relay_link_sent_bytes_total") >= 100, "the body at least");
    assert!(sum(gateway, "relay_link_received_bytes_total") >= 40, "the answers at least");
    for scrape in [gateway, point] {
        assert_eq!(sum(scrape, "relay_link_queue_bytes"), 0, "nothing waits any more");
        assert_eq!(sum(scrape, "relay_link_streams_stalled"), 0);
        assert_eq!(sum(scrape, "relay_link_credit_stalls_total"), 0);
    }
}

const SITE: (&str, &str) = ("site", "default");
const ENDPOINT: (&str, &str) = ("endpoint", "m\"p\\");

#[test]
fn metrics_can_be_parsed_and_rise_by_what_was_done_and_traffic_is_reported() {
    if !can_parse() {
        return eprintln!("skipped: python3-prometheus-client is not installed");
    }
    let mut bed = Bed::start();
    let (admin, at_point) = (bed.gateway.admin(), bed.point.admin());
    let before = scrape(admin);
    assert_eq!(before.value("relay_requests_total", &[SITE, ENDPOINT]), "0");
    assert_eq!(before.value("relay_ready", &[]), "1");
    let up = [("transport", "tcp-tls"), ("state", "up")];
    assert_eq!(before.value("relay_links", &up), "2");

    std::fs::write(bed.home.path().join("body"), [b'x'; 100]).unwrap();
    std::fs::write(bed.home.path().join("token"), "hidden.payload.signature\n").unwrap();
    let token = ["GET", "--token-file", "token"];
    bed.ask(&["GET"], "/SMS_MP/list", 1);
    bed.ask(&token, "/SMS_MP/list", 2);
    bed.ask(&["GET"], "/SMS_MP/absent", 3);
    bed.ask(&["GET"], "/SMS_MP/fail", 4);
    bed.ask(&["CCM_POST", "--data-file", "body"], "/ccm_system/request", 5);
    bed.ask(&["GET"], "/elsewhere/list", 6);
    bed.meet_the_limit_of_an_address();
    let after = scrape(admin);
    let of = |sample: &str| after.value(sample, &[SITE, ENDPOINT]);
    assert_eq!(of("relay_requests_total"), "5");
    assert_eq!(of("relay_requests_with_bearer_token_total"), "1");
    assert_eq!(of("relay_requests_in_flight"), "0");
    assert_eq!(of("relay_request_body_bytes_total"), "100");
    assert_eq!(of("relay_response_body_bytes_total"), "40");
    assert_eq!(of("relay_request_duration_seconds_count"), "5");
    let ended = |outcome| {
        after.value("relay_requests_ended_total", &[SITE, ENDPOINT, ("outcome", outcome)])
    };
    assert_eq!(
        ["answered", "client_error", "site_error", "refused"].map(ended),
        ["3", "1", "1", "0"]
    );
    let refused = [("reason", "CMGService_Not_Published")];
    let answers = [&before, &after].map(|it| it.value("relay_answers_total", &refused));
    assert_eq!(answers, ["0", "1"]);

    let limit = [("event", "connections_per_address_max")];
    let met = [&before, &after].map(|it| it.value("relay_events_total", &limit));
    assert_eq!(met, ["0", "1"]);

    let there = scrape(at_point);
    check_links(&after, &there);
    assert_eq!(there.value("relay_links_wanted", &[("gateway_instance", "1")]), "2");
    assert_eq!(there.value("relay_settings_applied", &[("gateway_instance", "1")]), "1");
    let info = [("role", "connection-point"), ("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(there.value("relay_build_info", &info), "1");

    let status = admin::json(&["status"], admin);
    // The clock may have come to a new window meanwhile.
    let windows = status["traffic"].as_array().unwrap();
    assert_eq!(windows.last().unwrap()["open"], true);
    let sum = |figure: &str| -> u64 {
        let rows = windows.iter().flat_map(|it| it["endpoints"].as_array().unwrap());
        rows.map(|row| row[figure].as_u64().unwrap()).sum()
    };
    let figures = ["TotalRequests", "TotalRequestsWithBearerToken", "TotalRequestBytes"];
    assert_eq!(figures.map(sum), [5, 1, 100]);
    assert_eq!(["TotalResponseBytes", "FailedRequests"].map(sum), [40, 1]);
    assert!((1..=windows.len() as u64).contains(&sum("MaxConcurrentRequests")), "{windows:#?}");

    assert_eq!(bed.point.stop().0, Some(0));
    let (status, lines) = bed.gateway.stop();
    assert_eq!(status, Some(0));
    let told = lines.iter().filter(|line| line.contains("\"target\":\"relay::traffic\""));
    let logged: u64 = told
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|line| line["TotalRequests"].as_u64().unwrap())
        .sum();
    assert_eq!(logged, 5, "the window that was open is logged at the end: {lines:#?}");
}

#[test]
fn every_metric_has_its_row_in_the_documentation_and_every_row_its_metric() {
    if !can_parse() {
        return eprintln!("skipped: python3-prometheus-client is not installed");
    }
    let mut bed = Bed::start();
    let told = [scrape(bed.gateway.admin()), scrape(bed.point.admin())];
    let told: BTreeSet<_> = told.iter().flat_map(Scrape::names).collect();
    let rows = include_str!("../../METRICS.md").lines().filter_map(|line| {
        let (name, _) = line.strip_prefix("| `")?.split_once('`')?;
        Some(name.to_owned())
    });
    assert_eq!(rows.collect::<BTreeSet<_>>(), told);
    assert_eq!(admin::json(&["status"], bed.gateway.admin())["traffic"][0]["endpoints"], json!([]));
    for role in [bed.point, bed.gateway] {
        assert_eq!(role.stop().0, Some(0));
    }
}
