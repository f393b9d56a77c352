//! Whatever the gateway takes over HTTP/1.1, a site sees as the same single requests; whatever it
//! refuses, nobody sees.
//!
//! Streams of sound and flawed requests go to a gateway as raw octets over TLS, and over a link to
//! a connection point. Behind it stands an origin that keeps what it is sent and reads it by the
//! letter (`relay_tests::reading`), or one of three servers that are in use everywhere, each of
//! which may have understood it otherwise. What each request should come to is known from how it
//! was made; that its octets have that reading alone, from the same reader.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

#[path = "differential/cases.rs"]
mod cases;
#[path = "differential/drive.rs"]
mod drive;
#[path = "differential/expected.rs"]
mod expected;
#[path = "differential/logs.rs"]
mod logs;
#[path = "differential/servers.rs"]
mod servers;
#[path = "differential/shapes.rs"]
mod shapes;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use relay_core::policy::EndpointKind;
use relay_tests::origin::Origin;
use relay_tests::reading::{Framing, Reading, Rest, read};
use relay_tests::roles::{House, until, within};

use cases::Case;
use drive::{Tally, hear};
use expected::Expected;
use logs::compare_log;
use servers::Program;

/// What is wrong with a run.
type Faults = Vec<String>;

/// Has every case sent to a gateway in front of `site`.
async fn send_all(cases: &[(Case, Reading)], site: SocketAddr) -> (Tally, Faults) {
    let mut house = House::before(site);
    // Of all verbs there are, POST too.
    house.endpoint.0.kind = EndpointKind::SoftwareUpdatePoint;
    house.endpoint.0.paths = Some(vec!["SMS_MP".to_owned()]);
    // A client that waits for nothing is told so soon, which is a failure.
    house.gateway_limits.request_head = Duration::from_secs(10);
    house.gateway_limits.idle = Duration::from_secs(10);
    house.gateway_limits.body_stall = Duration::from_secs(10);
    let (gateway, link) = house.joined().await;
    let (mut tally, mut faults) = (Tally::default(), Vec::new());
    for (case, sent) in cases {
        let heard = within(hear(&gateway, &house.ca, case, sent)).await;
        if let Err(why) = tally.judge(case, sent, &heard) {
            let octets = case.octets.escape_ascii();
            faults
                .push(format!("{}: {why}\n  {heard:?}\n  {:?}\n  {octets}", case.name, sent.rest));
        }
    }
    within(until(|| gateway.in_flight() == 0)).await;
    link.lose();
    (tally, faults)
}

/// Compares what an origin was sent with what it should have been sent.
fn compare(origin: &Origin, tally: &Tally) -> Faults {
    let mut faults = Vec::new();
    let seen: Vec<_> = origin.take().iter().map(Expected::seen).collect();
    for (place, expected) in tally.forwarded.iter().enumerate() {
        match seen.get(place) {
            Some(seen) if is_same(seen, expected) => {}
            seen => {
                faults.push(format!("request {place} is {seen:?}\n  and should be {expected:?}"));
                break;
            }
        }
    }
    for more in seen.iter().skip(tally.forwarded.len()) {
        faults.push(format!("nobody has sent {more:?}"));
    }
    let mut cut: Vec<&Expected> = tally.cut.iter().collect();
    for (rest, octets) in origin.take_rests() {
        let half = match &rest {
            Rest::Half(Some(half)) => Some(Expected::seen(half)),
            _ => None,
        };
        let place = half.and_then(|half| cut.iter().position(|sent| is_half(&half, sent)));
        match place {
            // Each may be seen once.
            Some(place) => drop(cut.remove(place)),
            None => faults
                .push(format!("{rest:?} is no part of what was sent: {}", octets.escape_ascii())),
        }
    }
    faults
}

/// Whether they are the same. A body that is empty may be framed in another way, and is for verbs
/// by which servers expect one.
fn is_same(seen: &Expected, expected: &Expected) -> bool {
    let is_unframed = seen.method.ends_with("POST") && seen.framing == Framing::Bare;
    let framing = if seen.body.is_empty() { expected.framing } else { seen.framing };
    !is_unframed && Expected { framing, ..seen.clone() } == *expected
}

fn is_half(seen: &Expected, sent: &Expected) -> bool {
    let begins = sent.body.starts_with(&seen.body);
    begins && Expected { body: sent.body.clone(), ..seen.clone() } == *sent
}

#[tokio::test]
async fn an_origin_sees_each_request_that_is_forwarded_once_and_as_it_was_sent() {
    let cases = all_cases();
    let origin = Origin::start().await;
    let (tally, mut faults) = send_all(&cases, origin.address).await;
    within(until(|| origin.open() == 0)).await;
    faults.extend(compare(&origin, &tally));
    report("recording origin", cases.len(), &tally);
    fail_on(&faults);
    check_floors(&tally);
}

fn all_cases() -> Vec<(Case, Reading)> {
    let read = |case: Case| {
        let reading = read(&case.octets);
        (case, reading)
    };
    cases::all().into_iter().map(read).collect()
}

/// Prints a line that is shown of a test that passes, too.
fn tell(line: &str) {
    // A closed standard error is no reason to fail.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{line}\n").as_bytes());
}

fn report(site: &str, cases: usize, tally: &Tally) {
    let refused: usize = tally.refused.values().sum();
    let (forwarded, cut) = (tally.forwarded.len(), tally.cut.len());
    tell(&format!(
        "{site}: {cases} cases: {forwarded} requests forwarded, {refused} refused, {cut} cut"
    ));
    for (reason, count) in &tally.refused {
        println!("{count:>6} {reason}");
    }
}

fn fail_on(faults: &Faults) {
    let mut text = String::new();
    for fault in faults.iter().take(20) {
        let _ = writeln!(text, "{fault}\n");
    }
    assert!(faults.is_empty(), "{} faults, of which the first are\n{text}", faults.len());
}

/// Below these the test would show little.
const FORWARDED_MIN: usize = 1_000;
const REFUSED_MIN: usize = 500;
const REASONS_MIN: usize = 15;
const CUT_MIN: usize = 80;
const ACCEPTED_MIN: usize = 1_000;

fn check_floors(tally: &Tally) {
    if std::env::var_os(cases::VARIABLE).is_some() {
        return;
    }
    let refused: usize = tally.refused.values().sum();
    let found = [tally.forwarded.len(), refused, tally.refused.len(), tally.cut.len()];
    let least = [FORWARDED_MIN, REFUSED_MIN, REASONS_MIN, CUT_MIN];
    let is_enough = found.iter().zip(least).all(|(found, least)| *found >= least);
    assert!(is_enough, "{found:?} is not at least {least:?}: little is shown");
}

/// Has every case sent to a site where a real server stands in front of an origin.
async fn through(program: Program) {
    let Some(path) = program.find() else { return };
    let cases = all_cases();
    let behind = Origin::start().await;
    let server = program.start(&path, behind.address).await;
    let (tally, mut faults) = send_all(&cases, server.address).await;
    let said = server.said();
    let logged = server.stop();
    within(until(|| behind.open() == 0)).await;
    let seen: Vec<_> = behind.take().iter().map(Expected::seen).collect();
    report(program.name(), cases.len(), &tally);
    let compared = compare_log(program, &logged, &tally, &seen);
    tell(&format!(
        "{}: {} requests logged, {} handed on",
        program.name(),
        logged.len(),
        seen.len()
    ));
    for (status, count) in &compared.statuses {
        println!("{count:>6} {status}");
    }
    faults.extend(compared.faults);
    if !faults.is_empty() {
        println!("{said}");
    }
    fail_on(&faults);
    check_floors(&tally);
    let accepted = compared.statuses.get("200").copied().unwrap_or_default();
    assert!(accepted > ACCEPTED_MIN, "{accepted} requests were accepted there");
}

#[tokio::test]
async fn nginx_sees_what_is_forwarded_as_the_same_single_requests() {
    through(Program::Nginx).await;
}

#[tokio::test]
async fn apache_sees_what_is_forwarded_as_the_same_single_requests() {
    through(Program::Apache).await;
}

#[tokio::test]
async fn lighttpd_sees_what_is_forwarded_as_the_same_single_requests() {
    through(Program::Lighttpd).await;
}
