//! One small exchange, struck at every octet of its link.
//!
//! One connection point, one instance, one link; a GET and a `CCM_POST` beside it. What is varied
//! is the octet of the link's connection at which it is cut, or falls silent, from the first of
//! its handshake to the last of the answers.

use std::time::Duration;

use relay_core::transport::memory::{Direction, PathFault, PlannedFault, Travel};

use super::client::Seen;
use super::life::{Report, run};
use super::plan::{Ask, Fault, Kind, OTHER_ROLE, Plan, ROLES, Timed, Weather, giving_up};

/// Octets from one strike to the next: a prime, so that no frame or record is struck at one place
/// only. 1 strikes each.
const STRIDE: u64 = 37;

/// Says how far strikes are apart, and at which octet the first is: `37+0`.
const VARIABLE: &str = "RELAY_SIM_STRIDE";

/// The request by which the link must be there again: nothing else mends it.
const RECOVERED: u64 = 3;

/// 30 s after the last strike, and some for the exchange before it.
const RECOVERED_AT_MS: u64 = 30_500;

fn ask(id: u64, kind: Kind, at_ms: u64) -> Ask {
    Ask {
        id,
        kind,
        client: usize::try_from(id).unwrap(),
        body: (kind == Kind::CcmPost).then_some(150),
        think: Duration::from_millis(3),
        answer: 200,
        answer_declares: kind == Kind::CcmPost,
        ..Ask::probe(0, ROLES[0], Duration::from_millis(at_ms))
    }
}

/// The world that is struck.
fn small() -> Plan {
    let mut outside = giving_up(Travel::default());
    outside.keeps_octets = true;
    Plan {
        seed: 1,
        weather: Weather::Faults,
        connection_points: 1,
        instances: 1,
        links_per_instance: 1,
        takes_https_links: false,
        is_split: false,
        clients: Vec::new(),
        outside,
        inside: Travel::default(),
        asks: vec![
            ask(1, Kind::Get, 0),
            ask(2, Kind::CcmPost, 1),
            ask(RECOVERED, Kind::Get, RECOVERED_AT_MS),
        ],
        faults: Vec::new(),
        heals: false,
    }
}

/// Stops a connection point so many milliseconds after its links came up at the gateway, as a
/// request comes. Another one takes what was not looked at.
pub(crate) fn stop_after(delay_ms: u64) -> Report {
    let mut plan = small();
    plan.weather = Weather::Drains;
    plan.connection_points = 2;
    plan.outside.latency_min = Duration::from_millis(40);
    plan.outside.latency_max = plan.outside.latency_min;
    plan.asks = (1..=4).map(|id| ask(id, Kind::BitsPost, 0)).collect();
    plan.faults.push(Timed {
        at: Duration::from_millis(delay_ms),
        lasts: Duration::from_secs(2),
        fault: Fault::DrainConnectionPoint { connection_point: 0 },
    });
    run(plan, None)
}

/// Restarts an instance in a moment, and asks it so many milliseconds later for what each of two
/// sites has, whose connection points come back one after the other.
pub(crate) fn restart_with_two_sites(delay_ms: u64) -> Report {
    let mut plan = small();
    plan.weather = Weather::Drains;
    plan.connection_points = 2;
    plan.is_split = true;
    let returns_after = 100;
    let of = |id, role| Ask { role, ..ask(id, Kind::BitsPost, returns_after + delay_ms) };
    plan.asks = vec![of(1, ROLES[0]), of(2, OTHER_ROLE)];
    plan.faults.push(Timed {
        at: Duration::ZERO,
        lasts: Duration::from_millis(returns_after),
        fault: Fault::DrainInstance { instance: 0 },
    });
    run(plan, None)
}

/// Nothing of the only link is heard at the instance any more, and its connection point starts
/// anew; it is asked for something a second later.
pub(crate) fn restart_beside_a_half_open_link() -> Report {
    let mut plan = small();
    plan.asks = vec![ask(1, Kind::CcmPost, 2000)];
    let (connection_point, instance) = (0, 0);
    let hold = Fault::HoldLink { connection_point, instance, direction: Direction::FromDialer };
    let drain = Fault::DrainConnectionPoint { connection_point };
    for (at, lasts, fault) in [(500, 60_000, hold), (600, 400, drain)] {
        let [at, lasts] = [at, lasts].map(Duration::from_millis);
        plan.faults.push(Timed { at, lasts, fault });
    }
    run(plan, None)
}

/// The only link is drained while a notification is awaited on it; it is asked for something else
/// meanwhile.
pub(crate) fn drain_beside_a_held_exchange() -> Report {
    let mut plan = small();
    plan.weather = Weather::Drains;
    let held = Ask { think: Duration::from_secs(15), ..ask(1, Kind::Held, 0) };
    plan.asks = vec![held, ask(2, Kind::CcmPost, 3000)];
    plan.faults.push(Timed {
        at: Duration::from_secs(1),
        lasts: Duration::ZERO,
        fault: Fault::DrainLinks { instance: 0 },
    });
    run(plan, None)
}

/// What is written on the link in `direction` where nothing strikes.
fn written(direction: Direction) -> Vec<u8> {
    let Report { findings, mut first_link, .. } = run(small(), None);
    assert!(findings.is_empty(), "{findings:?}");
    std::mem::take(&mut first_link[direction as usize])
}

/// Strikes at each octet of `direction` that is due by the stride. Returns how many those are.
pub(crate) fn strike_each(direction: Direction, fault: PlannedFault) -> usize {
    let (stride, first) = steps();
    let octets = written(direction).len() as u64;
    let due: Vec<u64> = (first..octets).step_by(usize::try_from(stride).unwrap()).collect();
    for octet in &due {
        strike(PathFault { direction, octet: *octet, fault });
    }
    due.len()
}

/// Strikes before each record of `direction`, behind the last, and within each. Returns how many
/// records there are.
///
/// Over TLS a record arrives whole or not at all. So between two of these strikes there is no octet
/// whose loss the other end could tell from that of the next: every cut before or behind a frame,
/// and within one, is among them.
pub(crate) fn strike_records(direction: Direction, fault: PlannedFault) -> usize {
    let lengths = records(&written(direction));
    let mut at = 0;
    for length in &lengths {
        strike(PathFault { direction, octet: at, fault });
        strike(PathFault { direction, octet: at + length / 2, fault });
        at += length;
    }
    strike(PathFault { direction, octet: at, fault });
    lengths.len()
}

/// The lengths of the TLS records that `octets` are.
// RFC 8446, section 5.1.
fn records(mut octets: &[u8]) -> Vec<u64> {
    let mut lengths = Vec::new();
    while let Some((head, rest)) = octets.split_first_chunk::<5>() {
        let body = usize::from(u16::from_be_bytes([head[3], head[4]]));
        assert!(matches!(head[0], 20..=23) && body <= rest.len(), "whole records: {head:?}");
        lengths.push((head.len() + body) as u64);
        octets = &rest[body..];
    }
    assert!(octets.is_empty(), "whole records");
    lengths
}

/// Strikes at one octet, and holds that the link is back in time.
fn strike(planned: PathFault) {
    let Report { mut findings, tail, outcomes, strikes, .. } = run(small(), Some(planned));
    if strikes == 0 {
        findings.push("it has not struck".to_owned());
    }
    let last = outcomes.iter().find(|outcome| outcome.ask.id == RECOVERED);
    let is_recovered = last.is_some_and(|outcome| {
        matches!(outcome.seen, Seen::Answer { status: 200, is_whole: true, .. })
    });
    if !is_recovered {
        findings.push(format!("no recovery within 30 s: {last:?}"));
    }
    assert!(
        findings.is_empty(),
        "{}\n\n{planned:?}\n{}\n\nreplay: {VARIABLE}=1000000+{} cargo test -p relay-tests --test \
         simulation octet",
        tail.join("\n"),
        findings.join("\n"),
        planned.octet,
    );
}

fn steps() -> (u64, u64) {
    let Ok(text) = std::env::var(VARIABLE) else { return (STRIDE, 0) };
    let parsed = text
        .split_once('+')
        .and_then(|(stride, first)| Some((stride.parse().ok()?, first.parse().ok()?)));
    parsed.unwrap_or_else(|| panic!("{VARIABLE}={text} is not `stride+first`"))
}
