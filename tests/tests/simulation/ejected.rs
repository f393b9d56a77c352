//! A connection point that does not reach its site beside one that does.

use std::collections::BTreeSet;
use std::time::Duration;

use relay_core::transport::memory::Travel;

use super::client::Seen;
use super::life::{Report, run};
use super::plan::{Ask, Fault, Plan, ROLES, Timed, Weather};

/// Requests while one of the connection points is cut off, one a second.
const MEANWHILE: u64 = 24;

/// Requests once it reaches its site again, and has sat out.
const AFTERWARDS: u64 = 8;

/// When those begin: the first ejection lasts 30 s from the fifth failure at most.
const AFTERWARDS_AT_S: u64 = MEANWHILE + 31;

/// What two connection points make of it.
pub(crate) struct Shares {
    pub(crate) findings: Vec<String>,
    /// Requests that the one which was cut off has failed.
    pub(crate) failed: usize,
    /// Connection points that reached the site afterwards.
    pub(crate) back: usize,
}

/// Cuts one of two connection points off its site for a while.
pub(crate) fn cut_off() -> Shares {
    let second = |id: u64| if id <= MEANWHILE { id } else { AFTERWARDS_AT_S + id - MEANWHILE };
    let ask = |id| Ask { id, ..Ask::probe(0, ROLES[0], Duration::from_secs(second(id))) };
    let plan = Plan {
        seed: 1,
        weather: Weather::Faults,
        connection_points: 2,
        instances: 1,
        links_per_instance: 1,
        takes_https_links: false,
        is_split: false,
        clients: Vec::new(),
        outside: Travel::default(),
        inside: Travel::default(),
        asks: (1..=MEANWHILE + AFTERWARDS).map(ask).collect(),
        faults: vec![Timed {
            at: Duration::ZERO,
            lasts: Duration::from_millis(MEANWHILE * 1000 + 500),
            fault: Fault::CutOff { connection_point: 0 },
        }],
        heals: true,
    };
    let Report { findings, outcomes, deliveries, .. } = run(plan, None);
    let is_failed = |seen: &Seen| matches!(seen, Seen::Answer { status: 502, .. });
    let failed = outcomes.iter().filter(|outcome| is_failed(&outcome.seen)).count();
    let late =
        deliveries.iter().filter(|(id, _)| (MEANWHILE + 1..=MEANWHILE + AFTERWARDS).contains(*id));
    let back: BTreeSet<_> = late.flat_map(|(_, all)| all.iter().map(|it| it.from)).collect();
    Shares { findings, failed, back: back.len() }
}
