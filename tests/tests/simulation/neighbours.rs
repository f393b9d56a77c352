//! A slow client or site role beside others on one link, and the others without it.
//!
//! Both worlds are the same but for the slow exchanges, and their paths have one latency each: what
//! others take in the one they take in the other, unless the slow ones are in their way.

use std::collections::BTreeMap;
use std::time::Duration;

use relay_core::transport::memory::Travel;
use relay_tests::client::Http;

use super::client::Seen;
use super::life::run;
use super::manner::Manner;
use super::plan::{Ask, Kind, Plan, ROLES, Weather};

/// How long a slow end stands still: longer than all others ask, and less than the 30 s for which
/// it may.
const PAUSE: Duration = Duration::from_secs(25);

/// The slow exchanges begin at once; by then they stand still.
const STALLED_AT_MS: u64 = 1000;

/// Others, one after another.
const OTHERS: u64 = 60;

const APART_MS: u64 = 300;

/// Octets of a slow exchange's bodies: more than the windows of every hop.
const BULK: usize = 1 << 20;

/// How long others may take with a slow one beside them, by what they take without, in percent.
const PERCENT_MAX: u32 = 110;

/// What is slow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Slow {
    Manner(Manner),
    /// The site role takes its time before it answers.
    Thinks,
}

impl Slow {
    pub(crate) const ALL: [Self; 6] = [
        Self::Manner(Manner::ReadsLate(PAUSE)),
        Self::Manner(Manner::SendsLate(PAUSE)),
        Self::Manner(Manner::TakesLate(PAUSE)),
        Self::Manner(Manner::AnswersLate(PAUSE)),
        Self::Manner(Manner::Silent),
        Self::Thinks,
    ];
}

/// A request of one of the others: a quick one.
fn other(number: u64) -> Ask {
    let kinds = [Kind::Get, Kind::CcmPost, Kind::Head, Kind::BitsPost];
    let kind = kinds[usize::try_from(number % 4).unwrap()];
    let at = Duration::from_millis(STALLED_AT_MS + number * APART_MS);
    Ask {
        id: number,
        kind,
        // Over HTTP/1.1, and over HTTP/2 on a connection that one of the slow shares.
        client: usize::from(number.is_multiple_of(3)),
        body: matches!(kind, Kind::CcmPost | Kind::BitsPost).then_some(2000),
        declares: number % 8 < 4,
        think: Duration::from_millis(5),
        answer: 3000,
        answer_declares: number % 16 < 8,
        ..Ask::probe(0, ROLES[0], at)
    }
}

fn slow(number: u64, slow: Slow) -> Ask {
    let (manner, think) = match slow {
        Slow::Manner(manner) => (manner, Duration::ZERO),
        Slow::Thinks => (Manner::Plain, PAUSE),
    };
    Ask {
        id: OTHERS + 1 + number,
        kind: Kind::BitsPost,
        client: if number == 0 { 1 } else { 2 },
        at: Duration::ZERO,
        body: Some(BULK),
        declares: true,
        think,
        answer: BULK,
        manner,
        ..other(0)
    }
}

fn plan(asks: Vec<Ask>) -> Plan {
    let mut travel = Travel::default();
    travel.latency_min = Duration::from_millis(5);
    travel.latency_max = travel.latency_min;
    Plan {
        seed: 1,
        weather: Weather::Site,
        connection_points: 1,
        instances: 1,
        links_per_instance: 1,
        takes_https_links: false,
        is_split: false,
        clients: vec![Http::One, Http::Two, Http::Two],
        outside: travel,
        inside: travel,
        asks,
        faults: Vec::new(),
        heals: false,
    }
}

/// How long each of the others took, beside what is slow.
fn taken(beside: impl Iterator<Item = Ask>) -> BTreeMap<u64, Duration> {
    let report = run(plan((1..=OTHERS).map(other).chain(beside).collect()), None);
    assert!(report.findings.is_empty(), "{}", report.findings.join("\n"));
    let others = report.outcomes.iter().filter(|outcome| outcome.ask.id <= OTHERS);
    let whole = |seen: &Seen| matches!(seen, Seen::Answer { status: 200, is_whole: true, .. });
    others
        .inspect(|outcome| assert!(whole(&outcome.seen), "{}", outcome.seen))
        .map(|outcome| (outcome.ask.id, outcome.took))
        .collect()
}

/// Which of the others are slower beside slow exchanges, and by how much.
pub(crate) fn slowed_by(what: Slow) -> Vec<String> {
    let (alone, beside) = (taken(std::iter::empty()), taken((0..4).map(|it| slow(it, what))));
    assert_eq!(alone.len(), beside.len());
    let both = alone.iter().map(|(id, alone)| (id, alone, beside[id]));
    both.filter(|(_, alone, beside)| *beside * 100 > **alone * PERCENT_MAX)
        .map(|(id, alone, beside)| format!("N13: {id} takes {beside:?}, and {alone:?} alone"))
        .collect()
}
