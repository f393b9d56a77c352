//! A status as text for people. Pure: values in, text out.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use relay_core::gateway::SourceState;

use super::ready::Readiness;
use super::status::{
    Backend, ConnectionPoint, Counts, Gateway, Link, Log, SiteTokens, Source, Status,
};
use super::{configuration, egress, expiry, traffic};

/// Headings of the columns that either side has for a link.
const LINK_HEADINGS: [&str; 9] =
    ["transport", "state", "up", "RTT", "streams", "in", "out", "queued", "stalls"];

/// A status, a line for each link and for each thing that is wrong.
pub(super) fn status(status: &Status) -> String {
    match status {
        Status::Gateway(gateway) => gateway_text(gateway),
        Status::ConnectionPoint(point) => connection_point_text(point),
    }
}

/// What a role logs, on one line.
pub(super) fn log(log: &Log) -> String {
    let Log { filter, started_with, seconds_left } = log;
    match seconds_left {
        Some(left) => format!("logs {filter}; in {} again {started_with}", duration(*left)),
        None if filter == started_with => format!("logs {filter}, as at the start"),
        None => format!("logs {filter}; {started_with} at the start"),
    }
}

fn gateway_text(gateway: &Gateway) -> String {
    let mut text = format!(
        "gateway instance {} of {}{}: {} links, {} requests in flight\n",
        gateway.instance,
        gateway.service,
        draining(gateway.draining),
        gateway.links.len(),
        gateway.requests_in_flight,
    );
    for by in &gateway.halted_by {
        push_line(&mut text, &format!("STOPPED, new requests are answered 503; by: {by}"));
    }
    push_unready(&mut text, gateway.readiness.as_ref());
    configuration::push(&mut text, &gateway.configuration);
    if let Some(certificate) = &gateway.certificate {
        let (days, until) = (certificate.days_left, &certificate.not_after);
        push_line(&mut text, &format!("link certificate: {days} days left, until {until}"));
    }
    if let Some(memory) = &gateway.memory {
        let (used, max) = (octets(memory.octets_used), octets(memory.octets_max));
        let (name, pressure) = (&memory.name, &memory.pressure);
        push_line(&mut text, &format!("memory ({name}): {used} of {max}, {pressure}"));
    }
    if !gateway.links.is_empty() {
        let mut rows = vec![headings(&["link", "connection point"])];
        for link in &gateway.links {
            let mut row = vec![link.number.to_string(), link.connection_point.clone()];
            row.extend(link_cells(&link.link));
            rows.push(row);
        }
        push_table(&mut text, &rows);
    }
    for settings in &gateway.settings {
        let version = settings.version.map_or_else(|| "none".to_owned(), |it| it.to_string());
        let (site, count) = (&settings.site, settings.endpoints);
        push_line(&mut text, &format!("settings of {site}: version {version}, {count} endpoints"));
        if let Some(why) = &settings.refused {
            push_line(&mut text, &format!("  refused last: {why}"));
        }
    }
    traffic::push_day(&mut text, &gateway.traffic);
    push_sources(&mut text, &gateway.sources);
    egress::push(&mut text, &gateway.egress);
    expiry::push(&mut text, &gateway.expiry);
    push_counts(&mut text, &gateway.counts);
    push_authentications(&mut text, &gateway.authentications);
    for ended in gateway.ended.iter().rev().take(8) {
        let who = match (&ended.connection_point, &ended.refused_from) {
            (Some(name), _) => format!("link {} of {name} down", ended.number.unwrap_or_default()),
            (None, Some(from)) => format!("refused {from}"),
            (None, None) => "a link ended".to_owned(),
        };
        push_line(&mut text, &format!("{} {who}: {}", ended.at, ended.why));
    }
    text
}

fn connection_point_text(point: &ConnectionPoint) -> String {
    let mut text = format!(
        "connection point {}{}: {} of {} links up\n",
        point.name,
        draining(point.draining),
        point.links_up,
        point.links_wanted,
    );
    push_unready(&mut text, point.readiness.as_ref());
    let mut rows = vec![headings(&["link", "host"])];
    for place in &point.places {
        let name = format!("{}.{}", place.instance, place.place);
        for link in &place.links {
            let mut row = vec![name.clone(), place.host.clone()];
            row.extend(link_cells(link));
            rows.push(row);
        }
        if place.phase != "up" {
            let mut row = vec![name, place.host.clone(), "-".to_owned()];
            row.push(place.phase.clone());
            rows.push(row);
        }
    }
    push_table(&mut text, &rows);
    for place in &point.places {
        if let (Some(why), Some(next)) = (&place.why, place.next_dial_ms) {
            let name = format!("{}.{}", place.instance, place.place);
            push_line(&mut text, &format!("{name} waits, dials in {next} ms: {why}"));
        }
    }
    for published in &point.published {
        let version = published.version.map_or_else(|| "none".to_owned(), |it| it.to_string());
        let why = published.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let (instance, outcome) = (published.instance, &published.outcome);
        let line = format!("settings at instance {instance}: version {version} {outcome}{why}");
        push_line(&mut text, &line);
    }
    push_tokens(&mut text, point.site_tokens.as_ref());
    // All places of an instance share what is known of its ways.
    for place in point.places.iter().filter(|place| place.place == 0) {
        for failed in &place.failed {
            let (instance, way) = (place.instance, &failed.transport);
            let line = format!("{} instance {instance} {way} failed: {}", failed.at, failed.why);
            push_line(&mut text, &line);
        }
    }
    push_backends(&mut text, &point.backends);
    expiry::push(&mut text, &point.expiry);
    push_counts(&mut text, &point.counts);
    text
}

/// A line for each reason not to send it requests.
fn push_unready(text: &mut String, readiness: Option<&Readiness>) {
    for why in readiness.iter().flat_map(|it| &it.reasons) {
        push_line(text, &format!("not ready: {why}"));
    }
}

/// What holds of the site's tokens, and that something newer does not, if that is so.
fn push_tokens(text: &mut String, tokens: Option<&SiteTokens>) {
    let Some(tokens) = tokens else { return };
    let SiteTokens { signers, blocked, .. } = tokens;
    let revision = tokens.revision.map_or_else(|| "none".to_owned(), |it| it.to_string());
    let line = format!(
        "site tokens: revision {revision}, {signers} signing certificates, {blocked} blocked"
    );
    push_line(text, &line);
    if let (Some(since), Some(why)) = (&tokens.stale_since, &tokens.why) {
        push_line(text, &format!("BLOCKS SINCE {since} ARE NOT PUBLISHED: {why}"));
    }
    if let Some(ends) = &tokens.signing_ends {
        push_line(text, &format!("tokens can be signed until {ends}"));
    }
    if let Some(why) = &tokens.key_fault {
        push_line(text, &format!("signing keys cannot be used: {why}"));
    }
}

/// A line for whatever has happened.
fn push_counts(text: &mut String, counts: &Counts) {
    let happened = counts.iter().filter(|(_, count)| **count > 0);
    let rows = happened.map(|(name, count)| vec![name.clone(), count.to_string()]);
    let rows: Vec<_> = rows.collect();
    if !rows.is_empty() {
        push_line(text, "counted since the start:");
        push_table(text, &rows);
    }
}

/// A line for each method and outcome that there was.
fn push_authentications(text: &mut String, counted: &BTreeMap<String, Counts>) {
    let all = counted.iter().flat_map(|(method, counts)| {
        let happened = counts.iter().filter(|(_, count)| **count > 0);
        happened.map(|(outcome, count)| vec![method.clone(), outcome.clone(), count.to_string()])
    });
    let rows: Vec<_> = all.collect();
    if !rows.is_empty() {
        push_line(text, "clients by method, and what it found, since the start:");
        push_table(text, &rows);
    }
}

/// A line for each place that is fetched from, and for each that fails why.
fn push_sources(text: &mut String, sources: &[Source]) {
    if sources.is_empty() {
        return;
    }
    let mut rows = vec![["fetched", "state", "age", "next try"].map(str::to_owned).to_vec()];
    let time = |seconds: Option<u64>| seconds.map_or_else(|| "-".to_owned(), duration);
    for it in sources {
        let (age, next) = (time(it.age_seconds), time(it.next_try_seconds));
        rows.push(vec![it.address.clone(), it.state.clone(), age, next]);
    }
    push_table(text, &rows);
    for it in sources {
        let (source, count) = (&it.address, it.failures_in_a_row);
        if let Some(why) = &it.why {
            let since = it.failing_since.as_deref().unwrap_or("-");
            let line = format!("{source} failed {count} times since {since}, last: {why}");
            push_line(text, &line);
        }
        if it.state == SourceState::NotFetched.name() {
            let line = format!("{source}: this instance has no [fetch], and refuses by it");
            push_line(text, &line);
        }
    }
}

/// A line for each backend, and for each that fails why.
fn push_backends(text: &mut String, backends: &[Backend]) {
    if backends.is_empty() {
        return;
    }
    let headings = ["endpoint", "backend", "state", "requests", "waiting", "connections"];
    let mut rows = vec![headings.map(str::to_owned).to_vec()];
    for backend in backends {
        let counts = [backend.requests_in_flight, backend.requests_waiting, backend.connections];
        let mut row = vec![backend.endpoint.clone(), backend.url.clone(), backend.state.clone()];
        row.extend(counts.map(|count| count.to_string()));
        rows.push(row);
    }
    push_table(text, &rows);
    for backend in backends {
        let Some(why) = &backend.why else { continue };
        let next = backend.next_try_ms.map(|next| format!(", tried again in {next} ms"));
        let (url, state, next) = (&backend.url, &backend.state, next.unwrap_or_default());
        push_line(text, &format!("{url} {state}{next}; failed last: {why}"));
    }
}

fn draining(is_draining: bool) -> &'static str {
    if is_draining { ", draining" } else { "" }
}

fn headings(first: &[&str]) -> Vec<String> {
    first.iter().chain(&LINK_HEADINGS).map(|&heading| heading.to_owned()).collect()
}

fn link_cells(link: &Link) -> [String; LINK_HEADINGS.len()] {
    [
        link.transport.clone(),
        link.state.clone(),
        duration(link.up_seconds),
        link.round_trip_us.map_or_else(|| "-".to_owned(), round_trip),
        format!("{} of {}", link.streams_open, link.streams_total),
        octets(link.octets_received),
        octets(link.octets_sent),
        octets(link.octets_queued),
        stalls(link.credit_stalls, link.credit_stalled_ms),
    ]
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// How often there was no credit, and for how long in all.
fn stalls(count: u64, milliseconds: u64) -> String {
    match (count, milliseconds) {
        (0, _) => "0".to_owned(),
        (_, 0..10_000) => format!("{count} ({milliseconds} ms)"),
        _ => format!("{count} ({})", duration(milliseconds / 1000)),
    }
}

fn round_trip(micros: u64) -> String {
    match micros {
        0..1000 => format!("{micros} µs"),
        _ => format!("{}.{} ms", micros / 1000, micros / 100 % 10),
    }
}

pub(super) fn octets(octets: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut whole = octets;
    while whole >= 10_240 && unit + 1 < UNITS.len() {
        whole /= 1024;
        unit += 1;
    }
    format!("{whole} {}", UNITS[unit])
}

/// Columns as wide as their widest cell.
pub(super) fn push_table(text: &mut String, rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            write!(line, "{cell:<width$}  ").expect("writing to a String does not fail");
        }
        push_line(text, &line);
    }
}

/// What others said may hold anything: a line stays a line, and a terminal is not driven.
pub(super) fn push_line(text: &mut String, line: &str) {
    text.extend(line.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }));
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::super::status::{
        Ended, Failed, GatewayLink, Memory, OwnCertificate, Place, Published, Settings,
    };
    use super::*;

    fn link() -> Link {
        Link {
            transport: "tcp-tls".to_owned(),
            state: "up".to_owned(),
            since: "2026-11-22T07:00:00Z".to_owned(),
            up_seconds: 3725,
            round_trip_us: Some(12_345),
            streams_open: 3,
            streams_total: 1000,
            octets_received: 10_239,
            octets_sent: 5 << 30,
            octets_queued: 4096,
            credit_stalls: 7,
            credit_stalled_ms: 9999,
            software: "relay/0.1.0".to_owned(),
        }
    }

    fn source(state: &str, why: Option<&str>) -> Source {
        Source {
            kind: "lists".to_owned(),
            tenant: None,
            address: "http://ca.example/a.crl".to_owned(),
            state: state.to_owned(),
            age_seconds: why.map(|_| 3600),
            next_update: None,
            why: why.map(str::to_owned),
            failures_in_a_row: 3,
            failing_since: Some("2026-11-22T07:00:00Z".to_owned()),
            next_try_seconds: why.map(|_| 299),
        }
    }

    fn counts(counted: &[(&str, u64)]) -> Counts {
        counted.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn a_gateways_links_and_ends_have_a_line_each() {
        let gateway = Gateway {
            version: "0.1.0".to_owned(),
            service: "relay.example".to_owned(),
            instance: 2,
            readiness: Some(Readiness { ready: true, reasons: Vec::new() }),
            draining: false,
            requests_in_flight: 3,
            halted_by: vec!["administrator".to_owned()],
            egress: egress::Egress::default(),
            certificate: Some(OwnCertificate {
                sha256: "00:FF".to_owned(),
                not_after: "2028-01-01T00:00:00Z".to_owned(),
                days_left: 405,
            }),
            memory: Some(Memory {
                name: "resident".to_owned(),
                octets_used: 100 << 20,
                octets_max: 1 << 30,
                pressure: "calm".to_owned(),
            }),
            counts: counts(&[
                ("CMGService_Overloaded", 12),
                ("http2_pings", 0),
                ("idle_seconds", 3),
            ]),
            authentications: [("entra".to_owned(), counts(&[("proven", 4), ("expired", 0)]))]
                .into(),
            sources: vec![
                source("held", Some("503 Service Unavailable")),
                source("not fetched", None),
            ],
            links: vec![GatewayLink {
                number: 7,
                connection_point: "cp\x1b[31m".to_owned(),
                site: Some("default".to_owned()),
                place: 0,
                certificate_sha256: "00:FF".to_owned(),
                certificate_not_after: "2028-01-01T00:00:00Z".to_owned(),
                requests_in_flight: 3,
                link: link(),
            }],
            settings: vec![Settings {
                site: "default".to_owned(),
                version: Some(3),
                digest: Some("00".to_owned()),
                endpoints: 2,
                from: Some("cp-1".to_owned()),
                since: Some("2026-11-22T07:00:00Z".to_owned()),
                refused: Some("409 version 2 is older".to_owned()),
            }],
            ended: vec![Ended {
                number: Some(6),
                connection_point: Some("cp-1".to_owned()),
                refused_from: None,
                why: "closed".to_owned(),
                at: "2026-11-22T07:00:00Z".to_owned(),
            }],
            traffic: Vec::new(),
            expiry: Vec::new(),
            configuration: configuration::Configuration::default(),
        };
        let expected = "\
gateway instance 2 of relay.example: 1 links, 3 requests in flight
STOPPED, new requests are answered 503; by: administrator
link certificate: 405 days left, until 2028-01-01T00:00:00Z
memory (resident): 100 MiB of 1024 MiB, calm
link  connection point  transport  state  up         RTT      streams    \
in       out       queued  stalls
7     cp [31m           tcp-tls    up     1 h 2 min  12.3 ms  3 of 1000  \
10239 B  5120 MiB  4096 B  7 (9999 ms)
settings of default: version 3, 2 endpoints
  refused last: 409 version 2 is older
fetched                  state        age        next try
http://ca.example/a.crl  held         1 h 0 min  4 min
http://ca.example/a.crl  not fetched  -          -
http://ca.example/a.crl failed 3 times since 2026-11-22T07:00:00Z, last: 503 Service Unavailable
http://ca.example/a.crl: this instance has no [fetch], and refuses by it
counted since the start:
CMGService_Overloaded  12
idle_seconds           3
clients by method, and what it found, since the start:
entra  proven  4
2026-11-22T07:00:00Z link 6 of cp-1 down: closed
";
        assert_eq!(status(&Status::Gateway(Box::new(gateway))), expected);
    }

    #[test]
    fn a_connection_points_places_say_why_they_are_not_up() {
        let place = |place, links, why: Option<&str>| Place {
            instance: 1,
            host: "gw.example".to_owned(),
            place,
            phase: if why.is_some() { "waiting" } else { "up" }.to_owned(),
            since: "2026-11-22T07:00:00Z".to_owned(),
            why: why.map(str::to_owned),
            next_dial_ms: why.map(|_| 250),
            links,
            failed: vec![Failed {
                transport: "tcp-tls".to_owned(),
                why: "refused".to_owned(),
                at: "2026-11-22T07:00:00Z".to_owned(),
            }],
        };
        let backend = |name: &str, why: Option<&str>| Backend {
            endpoint: "mp".to_owned(),
            url: format!("http://{name}/"),
            state: if why.is_some() { "resting" } else { "up" }.to_owned(),
            since: "2026-11-22T07:00:00Z".to_owned(),
            why: why.map(str::to_owned),
            failures_in_a_row: 0,
            next_try_ms: why.map(|_| 5000),
            requests_in_flight: 3,
            requests_waiting: 0,
            connections: 5,
        };
        let point = ConnectionPoint {
            version: "0.1.0".to_owned(),
            name: "site-1".to_owned(),
            readiness: Some(Readiness { ready: false, reasons: vec!["it drains".to_owned()] }),
            draining: true,
            links_up: 1,
            links_wanted: 2,
            places: vec![place(0, vec![link()], None), place(1, Vec::new(), Some("lost"))],
            published: vec![Published {
                instance: 1,
                version: Some(3),
                outcome: "failed".to_owned(),
                why: Some("no answer".to_owned()),
                at: "2026-11-22T07:00:00Z".to_owned(),
            }],
            site_tokens: Some(SiteTokens {
                revision: Some(9),
                signers: 2,
                blocked: 1,
                stale_since: Some("2026-11-22T07:00:00Z".to_owned()),
                why: Some("no store".to_owned()),
                key_fault: Some("no key".to_owned()),
                signing_ends: Some("2028-11-21T07:00:00Z".to_owned()),
            }),
            expiry: Vec::new(),
            backends: vec![backend("a", None), backend("b", Some("refused"))],
            counts: counts(&[("CMGConnector_Timeout", 1), ("abandoned", 0)]),
        };
        let expected = "\
connection point site-1, draining: 1 of 2 links up
not ready: it drains
link  host        transport  state    up         RTT      streams    \
in       out       queued  stalls
1.0   gw.example  tcp-tls    up       1 h 2 min  12.3 ms  3 of 1000  \
10239 B  5120 MiB  4096 B  7 (9999 ms)
1.1   gw.example  -          waiting
1.1 waits, dials in 250 ms: lost
settings at instance 1: version 3 failed: no answer
site tokens: revision 9, 2 signing certificates, 1 blocked
BLOCKS SINCE 2026-11-22T07:00:00Z ARE NOT PUBLISHED: no store
tokens can be signed until 2028-11-21T07:00:00Z
signing keys cannot be used: no key
2026-11-22T07:00:00Z instance 1 tcp-tls failed: refused
endpoint  backend    state    requests  waiting  connections
mp        http://a/  up       3         0        5
mp        http://b/  resting  3         0        5
http://b/ resting, tried again in 5000 ms; failed last: refused
counted since the start:
CMGConnector_Timeout  1
";
        assert_eq!(status(&Status::ConnectionPoint(Box::new(point))), expected);
    }

    #[test]
    fn what_is_logged_is_told_with_what_it_goes_back_to() {
        let told = |filter: &str, seconds_left| {
            let (filter, started_with) = (filter.to_owned(), "info".to_owned());
            log(&Log { filter, started_with, seconds_left })
        };
        assert_eq!(told("info", None), "logs info, as at the start");
        assert_eq!(told("debug", None), "logs debug; info at the start");
        assert_eq!(told("debug", Some(899)), "logs debug; in 14 min again info");
    }

    #[test]
    fn figures_are_short_whatever_their_size() {
        assert_eq!([0, 59, 60, 86_399].map(duration), ["0 s", "59 s", "1 min", "23 h 59 min"]);
        assert_eq!(duration(86_400 * 3), "3 d 0 h");
        assert_eq!([0, 999, 1000].map(round_trip), ["0 µs", "999 µs", "1.0 ms"]);
        let stalled = [(0, 0), (1, 9999), (2, 10_000), (3, 61_000)];
        let stalled = stalled.map(|(count, milliseconds)| stalls(count, milliseconds));
        assert_eq!(stalled, ["0", "1 (9999 ms)", "2 (10 s)", "3 (1 min)"]);
        assert_eq!([0, 10_239, 10_240, u64::MAX].map(octets)[2..], ["10 KiB", "16777215 TiB"]);
    }
}
