//! What is counted of one endpoint, on the path of each of its requests.
//!
//! No lock: a request costs one clone of an `Arc` and nine relaxed additions, and each piece of a
//! body one more. All but two gauges only ever rise, so that whoever reads them twice knows what
//! came in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;

use super::access::Ended;

/// Upper bounds of the classes of durations. A download of hours is in the last one, which has
/// none.
const DURATIONS: [Duration; 14] = [
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2500),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_mins(1),
    Duration::from_mins(5),
];

/// How a request of an endpoint has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    /// The site's answer, below 400, went to the client whole.
    Answered,
    /// The site's answer was 4xx, and went to the client whole.
    ClientError,
    /// The site's answer was 5xx, and went to the client whole.
    SiteError,
    /// The gateway or the connection point answered by itself.
    Refused,
    /// The client went away.
    ClientGone,
    /// The client sent or took next to nothing.
    ClientTooSlow,
    /// The site gave no answer that makes sense, or not all of one.
    SiteBrokeOff,
    /// The link was lost.
    LinkLost,
}

impl Outcome {
    /// One of each, in the order of their counts.
    const ALL: [Self; 8] = [
        Self::Answered,
        Self::ClientError,
        Self::SiteError,
        Self::Refused,
        Self::ClientGone,
        Self::ClientTooSlow,
        Self::SiteBrokeOff,
        Self::LinkLost,
    ];

    /// Of a request that has `ended`, with what its client was told, and by whom.
    pub(super) fn of(ended: Ended, status: Option<StatusCode>, by: Answerer) -> Self {
        match ended {
            Ended::RefusedHere => Self::Refused,
            Ended::ClientGone => Self::ClientGone,
            Ended::ClientTooSlow => Self::ClientTooSlow,
            // The store stands in for the site.
            Ended::SiteBrokeOff | Ended::StoreBrokeOff => Self::SiteBrokeOff,
            Ended::LinkLost => Self::LinkLost,
            Ended::Complete if by == Answerer::Relay => Self::Refused,
            Ended::Complete => match status.map_or(0, |status| status.as_u16()) {
                0..400 => Self::Answered,
                400..500 => Self::ClientError,
                _ => Self::SiteError,
            },
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::ClientError => "client_error",
            Self::SiteError => "site_error",
            Self::Refused => "refused",
            Self::ClientGone => "client_gone",
            Self::ClientTooSlow => "client_too_slow",
            Self::SiteBrokeOff => "site_broke_off",
            Self::LinkLost => "link_lost",
        }
    }

    /// Our choice: what the site has answered whole, and does not call its own fault, is no
    /// failure; clients ask for much that is not there.
    fn is_failure(self) -> bool {
        !matches!(self, Self::Answered | Self::ClientError)
    }
}

/// Who has answered a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Answerer {
    /// A site role.
    Site,
    /// The gateway, or the connection point.
    Relay,
}

/// Whether a request shows a bearer token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Bearer {
    Shown,
    Absent,
}

/// What is counted of one endpoint, since the start.
#[derive(Debug)]
pub(super) struct Meter {
    pub(super) site: Arc<str>,
    pub(super) endpoint: Arc<str>,
    requests: AtomicU64,
    with_bearer: AtomicU64,
    up: AtomicU64,
    down: AtomicU64,
    in_flight: AtomicU64,
    /// The most in flight at once, since that was last taken.
    most: AtomicU64,
    outcomes: [AtomicU64; Outcome::ALL.len()],
    /// By class; the last is for what is above all bounds.
    durations: [AtomicU64; DURATIONS.len() + 1],
    micros: AtomicU64,
}

/// What a meter has counted, at one moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Totals {
    pub(super) requests: u64,
    pub(super) with_bearer: u64,
    pub(super) up: u64,
    pub(super) down: u64,
    pub(super) failed: u64,
}

/// How long the requests of an endpoint took, from their head to the end of their answer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Durations {
    /// All of them together.
    pub sum: Duration,
    /// How many took so long at most, and longer than the bound before; the last has no bound.
    pub counts: Vec<(Option<Duration>, u64)>,
}

impl Meter {
    pub(super) fn new(site: &str, endpoint: &str) -> Self {
        Self {
            site: site.into(),
            endpoint: endpoint.into(),
            requests: AtomicU64::default(),
            with_bearer: AtomicU64::default(),
            up: AtomicU64::default(),
            down: AtomicU64::default(),
            in_flight: AtomicU64::default(),
            most: AtomicU64::default(),
            outcomes: Default::default(),
            durations: Default::default(),
            micros: AtomicU64::default(),
        }
    }

    pub(super) fn totals(&self) -> Totals {
        let failed = Outcome::ALL.iter().zip(&self.outcomes).filter(|(it, _)| it.is_failure());
        Totals {
            requests: self.requests.load(Ordering::Relaxed),
            with_bearer: self.with_bearer.load(Ordering::Relaxed),
            up: self.up.load(Ordering::Relaxed),
            down: self.down.load(Ordering::Relaxed),
            failed: failed.map(|(_, count)| count.load(Ordering::Relaxed)).sum(),
        }
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(super) fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }

    /// The most in flight at once since the last call.
    pub(super) fn take_most(&self) -> u64 {
        let most = self.most.swap(0, Ordering::Relaxed);
        // Afterwards: who came before the swap is still in flight, who comes after it counts
        // itself.
        self.most.fetch_max(self.in_flight(), Ordering::Relaxed);
        most
    }

    pub(super) fn outcomes(&self) -> Vec<(&'static str, u64)> {
        let all = Outcome::ALL.iter().zip(&self.outcomes);
        all.map(|(it, count)| (it.name(), count.load(Ordering::Relaxed))).collect()
    }

    pub(super) fn durations(&self) -> Durations {
        let bounds = DURATIONS.iter().copied().map(Some).chain([None]);
        let counts = self.durations.iter().map(|count| count.load(Ordering::Relaxed));
        let sum = Duration::from_micros(self.micros.load(Ordering::Relaxed));
        Durations { sum, counts: bounds.zip(counts).collect() }
    }
}

/// One request of an endpoint, counted as in flight until it is told its end.
#[derive(Debug)]
pub(super) struct Metered {
    meter: Arc<Meter>,
    /// Octets that are counted.
    up: u64,
    down: u64,
}

impl Metered {
    pub(super) fn begin(meter: Arc<Meter>, bearer: Bearer) -> Self {
        meter.requests.fetch_add(1, Ordering::Relaxed);
        meter.with_bearer.fetch_add(u64::from(bearer == Bearer::Shown), Ordering::Relaxed);
        let before = meter.in_flight.fetch_add(1, Ordering::Relaxed);
        meter.most.fetch_max(before + 1, Ordering::Relaxed);
        Self { meter, up: 0, down: 0 }
    }

    /// So many octets of the request's body have gone on. What is sent again counts once.
    pub(super) fn note_up(&mut self, octets: u64) {
        self.meter.up.fetch_add(octets.saturating_sub(self.up), Ordering::Relaxed);
        self.up = self.up.max(octets);
    }

    /// So many octets of the answer's body have gone on.
    pub(super) fn note_down(&mut self, octets: u64) {
        self.meter.down.fetch_add(octets.saturating_sub(self.down), Ordering::Relaxed);
        self.down = self.down.max(octets);
    }

    /// It has ended.
    pub(super) fn end(self, outcome: Outcome, took: Duration) {
        let meter = &*self.meter;
        meter.in_flight.fetch_sub(1, Ordering::Relaxed);
        let mut all = Outcome::ALL.iter().zip(&meter.outcomes);
        if let Some((_, count)) = all.find(|(it, _)| **it == outcome) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let class = DURATIONS.iter().position(|bound| took <= *bound);
        if let Some(count) = meter.durations.get(class.unwrap_or(DURATIONS.len())) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        meter.micros.fetch_add(micros, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter() -> Arc<Meter> {
        Arc::new(Meter::new("site", "mp"))
    }

    #[test]
    fn each_end_has_an_outcome_and_what_the_site_answers_whole_below_500_is_no_failure() {
        let of = |ended, status: u16, by| {
            let outcome = Outcome::of(ended, StatusCode::from_u16(status).ok(), by);
            (outcome.name(), outcome.is_failure())
        };
        let site = |status| of(Ended::Complete, status, Answerer::Site);
        assert_eq!([site(200), site(399)], [("answered", false); 2]);
        assert_eq!([site(400), site(499)], [("client_error", false); 2]);
        assert_eq!([site(500), site(999)], [("site_error", true); 2]);
        assert_eq!(of(Ended::Complete, 200, Answerer::Relay), ("refused", true));
        let ends = [
            (Ended::RefusedHere, "refused"),
            (Ended::ClientGone, "client_gone"),
            (Ended::ClientTooSlow, "client_too_slow"),
            (Ended::SiteBrokeOff, "site_broke_off"),
            (Ended::LinkLost, "link_lost"),
        ];
        for (ended, name) in ends {
            assert_eq!(of(ended, 200, Answerer::Site), (name, true));
        }
    }

    #[test]
    fn a_duration_is_in_the_class_of_its_bound_and_beyond_all_of_them_in_the_last() {
        let meter = meter();
        let tick = Duration::from_micros(1);
        for bound in DURATIONS {
            for took in [bound, bound + tick] {
                let request = Metered::begin(Arc::clone(&meter), Bearer::Absent);
                request.end(Outcome::Answered, took);
            }
        }
        let counts: Vec<_> = meter.durations().counts.into_iter().map(|it| it.1).collect();
        let inner = [2; DURATIONS.len() - 1];
        assert_eq!(counts, [&[1][..], &inner, &[1]].concat());
        let sum: Duration = DURATIONS.into_iter().map(|bound| bound * 2 + tick).sum();
        assert_eq!(meter.durations().sum, sum);
        assert_eq!(meter.outcomes()[0], ("answered", 28));
    }

    #[test]
    fn what_is_sent_again_counts_once() {
        let meter = meter();
        let mut request = Metered::begin(Arc::clone(&meter), Bearer::Shown);
        for octets in [10, 30, 0, 20, 40] {
            request.note_up(octets);
        }
        request.note_down(7);
        request.end(Outcome::LinkLost, Duration::ZERO);
        let told = Totals { requests: 1, with_bearer: 1, up: 40, down: 7, failed: 1 };
        assert_eq!(meter.totals(), told);
    }

    #[test]
    fn the_most_at_once_begins_anew_with_those_that_are_in_flight() {
        let meter = meter();
        let begin = || Metered::begin(Arc::clone(&meter), Bearer::Absent);
        let end = |it: Metered| it.end(Outcome::Answered, Duration::ZERO);
        let (one, two, three) = (begin(), begin(), begin());
        end(one);
        end(two);
        assert_eq!([meter.take_most(), meter.take_most()], [3, 1]);
        end(three);
        assert_eq!([meter.take_most(), meter.take_most()], [1, 0]);
    }
}
