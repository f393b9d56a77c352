//! Spans of requests, as a collector gets them from both roles.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use http::{Response, StatusCode};
use serde_json::Value;

use crate::admin;
use crate::support::origin::{Asked, Origin, Said};
use crate::support::role::Role;
use crate::support::site::{HTTPS_ROLE, SERVICE, Site};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CLIENT: &str = "00f067aa0ba902b7";

/// What both roles of a site are, with this `[telemetry]`.
fn start(home: &Path, backend: &Origin, telemetry: &str) -> (Site, Role, Role) {
    let site = Site::init_with(home, &["--backend", &format!("http://{}", backend.at)]);
    for file in ["gateway-1/gateway.toml", "connection-point/connection-point.toml"] {
        site.edit(file, |text| format!("{text}\n[telemetry]\n{telemetry}"));
        let headers = home.join("site").join(file).with_file_name("headers");
        fs::write(headers, "x-key: hidden-key\n").unwrap();
    }
    let mut gateway = site.start_gateway(1);
    let [_, links] = gateway.addresses();
    let mut point = site.start_connection_point(&[links]);
    for role in [&mut gateway, &mut point] {
        role.wait_for_log("\"message\":\"link up\"", 2);
    }
    gateway.wait_for_log("settings applied", 1);
    point.wait_for_log("settings published", 1);
    (site, gateway, point)
}

/// Asks for a list, as part of a trace with these flags; waits for the line of it.
fn ask((site, gateway): (&Site, &mut Role), home: &Path, flags: &str, count: usize) -> Value {
    let asked = request((site, gateway), home, "list?secret=hidden-query", flags);
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    serde_json::from_str(&gateway.wait_for_log("\"target\":\"relay::access\"", count)).unwrap()
}

/// Asks for what is at this path of the management point, as part of a trace with these flags.
fn request((site, gateway): (&Site, &mut Role), home: &Path, path: &str, flags: &str) -> Output {
    let [clients, _] = gateway.addresses();
    let path = format!("/CCM_Proxy_ServerAuth/{HTTPS_ROLE}/SMS_MP/{path}");
    let ca = site.ca();
    Command::new(env!("CARGO_BIN_EXE_relay"))
        .args(["client", "request", "GET"])
        .arg(format!("https://{SERVICE}:{}{path}", clients.port()))
        .args(["--resolve", &format!("{SERVICE}:127.0.0.1"), "--ca", ca.to_str().unwrap()])
        .args(["--header", &format!("traceparent: 00-{TRACE}-{CLIENT}-{flags}")])
        .args(["--header", "x-own: hidden-header"])
        .current_dir(home)
        .output()
        .unwrap()
}

/// Every span in what a collector was asked to take, and whose it is.
fn spans(asked: &[Asked]) -> Vec<(String, Value)> {
    let text = |it: &Value| it.as_str().unwrap().to_owned();
    let documents = asked.iter().map(|it| serde_json::from_slice::<Value>(&it.body).unwrap());
    let all = documents.flat_map(|document| {
        let of = &document["resourceSpans"][0];
        let service = text(&of["resource"]["attributes"][0]["value"]["stringValue"]);
        let spans = of["scopeSpans"][0]["spans"].as_array().unwrap().clone();
        spans.into_iter().map(move |span| (service.clone(), span))
    });
    all.collect()
}

#[test]
fn spans_of_both_roles_join_the_clients_trace_with_the_ids_of_the_log() {
    let home = tempfile::tempdir().unwrap();
    let backend = Origin::start(|_| Response::new(Said::whole("the list")));
    let collector = Origin::start(|_| Response::new(Said::whole("{}")));
    let telemetry = format!("endpoint = \"http://{}\"\nheaders_file = \"headers\"\n", collector.at);
    let (site, mut gateway, point) = start(home.path(), &backend, &telemetry);
    let line = ask((&site, &mut gateway), home.path(), "01", 1);
    ask((&site, &mut gateway), home.path(), "00", 2);
    let told = backend.seen().iter().map(|it| it.header("traceparent").to_owned()).next().unwrap();
    // What is there is sent when they stop.
    for role in [point, gateway] {
        assert_eq!(role.stop().0, Some(0));
    }

    let asked = collector.seen();
    for it in &asked {
        assert_eq!(it.line, "POST /v1/traces");
        assert_eq!(it.header("content-type"), "application/json");
        assert_eq!(it.header("x-key"), "hidden-key");
        assert!(!String::from_utf8_lossy(&it.body).contains("hidden"), "{it:?}");
    }
    let mut spans = spans(&asked);
    spans.sort_by(|a, b| b.0.cmp(&a.0));
    let [(first, gateway), (second, point)] = &spans[..] else { panic!("{spans:#?}") };
    assert_eq!([&**first, &**second], ["relay-gateway", "relay-connection-point"]);
    for span in [gateway, point] {
        assert_eq!((&span["traceId"], &span["kind"]), (&TRACE.into(), &2.into()), "{span:#}");
        let [began, ended] = ["startTimeUnixNano", "endTimeUnixNano"]
            .map(|it| span[it].as_str().unwrap().parse::<u64>().unwrap());
        assert!(began <= ended && span["status"]["code"] == 0, "{span:#}");
    }
    assert_eq!(gateway["parentSpanId"], CLIENT);
    assert_eq!((&gateway["spanId"], &line["trace_id"]), (&line["span_id"], &TRACE.into()));
    assert_eq!(point["parentSpanId"], gateway["spanId"]);
    assert_eq!(told, format!("00-{TRACE}-{}-01", point["spanId"].as_str().unwrap()));
    let has = |span: &Value, name: &str, value: &str| {
        let all = span["attributes"].as_array().unwrap();
        all.iter().any(|it| it["key"] == name && it["value"].to_string().contains(value))
    };
    assert!(has(gateway, "http.response.status_code", "\"200\""), "{gateway:#}");
    assert!(has(gateway, "relay.ended", "complete"), "{gateway:#}");
    assert!(has(point, "relay.endpoint", "mp"), "{point:#}");
    let id = line["message_id"].as_str().unwrap();
    assert!([gateway, point].iter().all(|it| has(it, "relay.message_id", id)), "{spans:#?}");
}

#[test]
fn a_request_that_fails_is_told_as_failed_by_both_roles_and_a_long_path_is_cut() {
    let home = tempfile::tempdir().unwrap();
    let backend = Origin::start(|_| {
        let mut response = Response::new(Said::whole("broken"));
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    });
    let collector = Origin::start(|_| Response::new(Said::whole("{}")));
    let telemetry = format!("endpoint = \"http://{}\"\n", collector.at);
    let (site, mut gateway, point) = start(home.path(), &backend, &telemetry);
    let long = "x".repeat(4096);
    let asked = request((&site, &mut gateway), home.path(), &long, "01");
    assert!(!asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    gateway.wait_for_log("\"target\":\"relay::access\"", 1);
    for role in [point, gateway] {
        assert_eq!(role.stop().0, Some(0));
    }

    let spans = spans(&collector.seen());
    assert_eq!(spans.len(), 2, "{spans:#?}");
    for (_, span) in &spans {
        assert_eq!(span["status"]["code"], 2, "{span:#}");
    }
    let (_, gateway) = spans.iter().find(|(role, _)| role == "relay-gateway").unwrap();
    let attributes = gateway["attributes"].as_array().unwrap();
    let path = attributes.iter().find(|it| it["key"] == "url.path").unwrap();
    let path = path["value"]["stringValue"].as_str().unwrap();
    assert!(path.starts_with("/CCM_Proxy_ServerAuth/"), "{path}");
    assert_eq!(path.chars().count(), 512);
}

#[test]
fn a_collector_that_is_down_costs_one_line_and_a_count() {
    let home = tempfile::tempdir().unwrap();
    let backend = Origin::start(|_| Response::new(Said::whole("the list")));
    // Whoever connects is refused: the port is taken, and nobody listens there.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let nobody = held.local_addr().unwrap();
    let telemetry = format!("endpoint = \"http://{nobody}\"\n");
    let (site, mut gateway, point) = start(home.path(), &backend, &telemetry);
    ask((&site, &mut gateway), home.path(), "01", 1);
    let failed = "the collector does not take spans";
    let line: Value = serde_json::from_str(&gateway.wait_for_log(failed, 1)).unwrap();
    assert_eq!(line["level"], "WARN", "{line}");
    let why = line["why"].as_str().unwrap();
    assert!(why.starts_with("cannot connect: "), "{line}");
    let counts = &admin::json(&["status"], gateway.admin())["counts"];
    assert_eq!(
        (&counts["trace_spans_dropped"], &counts["trace_spans_exported"]),
        (&1.into(), &0.into())
    );
    ask((&site, &mut gateway), home.path(), "01", 2);
    let (status, lines) = gateway.stop();
    assert_eq!(status, Some(0));
    assert_eq!(lines.iter().filter(|line| line.contains(failed)).count(), 1, "{lines:#?}");
    assert_eq!(point.stop().0, Some(0));
}
