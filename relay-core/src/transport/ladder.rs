//! Which way to reach a gateway instance is tried next: the order of attempts, and what is known of
//! each.
//!
//! Pure: whoever dials says what came of it. Read [`Rung`] and [`Ladder`].

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// A way to reach a gateway instance. The best comes first.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Rung {
    /// QUIC, with the link's mutual TLS, on the UDP port of the same number. Only where it is
    /// enabled.
    ///
    /// Our choice, the original has none: where UDP gets through, a lost packet holds up one
    /// exchange and not all of them. Where it does not, that shows within seconds.
    Quic,
    /// Mutual TLS on the instance's own TCP-TLS port.
    ///
    /// Source: Microsoft Learn, "CMG data flow": long-lived TCP-TLS is tried first.
    TcpTls,
    /// Mutual TLS on the HTTPS port, told from clients by its ALPN name.
    Https,
    /// HTTPS as any browser speaks it, an HTTP/1.1 upgrade, and the link's own mutual TLS inside:
    /// it survives a web proxy or balancer that ends TLS on the way.
    HttpsUpgrade,
    /// As the upgrade, but in one stream of an HTTP/2 connection by extended CONNECT (RFC 8441):
    /// whoever ends TLS on the way may speak nothing else. Last, for two more layers of framing.
    HttpsHttp2,
}

impl Rung {
    /// One of each, the best first.
    pub const ALL: [Self; 5] =
        [Self::Quic, Self::TcpTls, Self::Https, Self::HttpsUpgrade, Self::HttpsHttp2];

    /// As it is shown to an administrator.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::TcpTls => "tcp-tls",
            Self::Https => "https",
            Self::HttpsUpgrade => "https-upgrade",
            Self::HttpsHttp2 => "https-h2",
        }
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a rung did not carry a link when it was tried last.
#[derive(Clone, Debug)]
pub struct Misstep {
    /// The rung.
    pub rung: Rung,
    /// What happened, for an administrator.
    pub why: Arc<str>,
    /// When.
    pub at: Instant,
}

/// What is known of a rung.
#[derive(Clone, Debug)]
enum Outcome {
    /// It was never tried.
    Untried,
    /// It carried a link when it was tried last.
    Worked,
    /// It did not.
    Failed(Misstep),
}

/// The rungs to one gateway instance: their order, which ones worked, and why others did not.
#[derive(Clone, Debug)]
pub struct Ladder {
    /// The best first; each once.
    steps: Vec<(Rung, Outcome)>,
    /// Which one worked last, even if it has failed since.
    worked: Option<Rung>,
}

impl Ladder {
    /// A ladder of `rungs`, in any order. Nothing is known of any yet.
    pub fn new(rungs: impl IntoIterator<Item = Rung>) -> Self {
        let mut rungs: Vec<Rung> = rungs.into_iter().collect();
        rungs.sort_unstable();
        rungs.dedup();
        let steps = rungs.into_iter().map(|rung| (rung, Outcome::Untried)).collect();
        Self { steps, worked: None }
    }

    /// The rungs in the order in which they are to be tried now: the best that worked when it was
    /// tried last, or else the one that worked last of all; then the others from the best down. A
    /// link that is lost comes back on the way that is known to be open, without waiting once more
    /// for those that are not.
    pub fn order(&self) -> Vec<Rung> {
        let proven = self.rungs().find(|rung| self.is_proven(*rung));
        let first = proven.or(self.worked);
        let others = self.rungs().filter(|rung| Some(*rung) != first);
        first.into_iter().chain(others).collect()
    }

    /// Whether `rung` carried a link when it was tried last.
    pub fn is_proven(&self, rung: Rung) -> bool {
        self.steps.iter().any(|(step, known)| *step == rung && matches!(known, Outcome::Worked))
    }

    /// The rungs that are better than `rung`, the best first: to be tried beside a link that is up.
    pub fn better_than(&self, rung: Rung) -> Vec<Rung> {
        self.rungs().filter(|other| *other < rung).collect()
    }

    /// A link came up on `rung`.
    pub fn worked(&mut self, rung: Rung) {
        self.worked = Some(rung);
        self.note(rung, Outcome::Worked);
    }

    /// `rung` did not carry a link.
    pub fn failed(&mut self, rung: Rung, why: &str, at: Instant) {
        self.note(rung, Outcome::Failed(Misstep { rung, why: why.into(), at }));
    }

    /// Why each rung that failed when it was tried last did, from the best down.
    pub fn missteps(&self) -> Vec<Misstep> {
        let misstep = |known: &Outcome| match known {
            Outcome::Failed(misstep) => Some(misstep.clone()),
            Outcome::Untried | Outcome::Worked => None,
        };
        self.steps.iter().filter_map(|(_, known)| misstep(known)).collect()
    }

    fn note(&mut self, rung: Rung, outcome: Outcome) {
        if let Some(step) = self.steps.iter_mut().find(|(step, _)| *step == rung) {
            step.1 = outcome;
        }
    }

    fn rungs(&self) -> impl Iterator<Item = Rung> {
        self.steps.iter().map(|(rung, _)| *rung)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use Rung::{Https, HttpsUpgrade, Quic, TcpTls};

    #[test]
    fn the_best_is_tried_first_and_each_rung_once() {
        let ladder = Ladder::new([HttpsUpgrade, TcpTls, Https, TcpTls]);
        assert_eq!(ladder.order(), [TcpTls, Https, HttpsUpgrade]);
        assert_eq!(Ladder::new([Https]).order(), [Https]);
        assert_eq!(Ladder::new([TcpTls, Quic]).order(), [Quic, TcpTls]);
    }

    #[test]
    fn what_worked_last_is_tried_first_and_the_others_from_the_best_down() {
        let mut ladder = Ladder::new([TcpTls, Https, HttpsUpgrade]);
        ladder.worked(HttpsUpgrade);
        assert_eq!(ladder.order(), [HttpsUpgrade, TcpTls, Https]);
        ladder.worked(TcpTls);
        assert_eq!(ladder.order(), [TcpTls, Https, HttpsUpgrade]);
    }

    #[test]
    fn the_best_that_is_known_to_work_is_tried_first_whichever_worked_last() {
        let mut ladder = Ladder::new([TcpTls, Https, HttpsUpgrade]);
        ladder.worked(TcpTls);
        ladder.worked(Https);
        assert_eq!(ladder.order(), [TcpTls, Https, HttpsUpgrade]);
        ladder.failed(TcpTls, "refused", Instant::now());
        assert_eq!(ladder.order(), [Https, TcpTls, HttpsUpgrade]);
        assert!(ladder.is_proven(Https) && !ladder.is_proven(TcpTls));
        // Nothing works now: what worked last is as good a guess as ever.
        ladder.failed(Https, "refused", Instant::now());
        assert_eq!(ladder.order(), [Https, TcpTls, HttpsUpgrade]);
    }

    #[test]
    fn only_better_rungs_are_tried_beside_a_link() {
        let ladder = Ladder::new([TcpTls, Https, HttpsUpgrade]);
        assert_eq!(ladder.better_than(HttpsUpgrade), [TcpTls, Https]);
        assert_eq!(ladder.better_than(Https), [TcpTls]);
        assert!(ladder.better_than(TcpTls).is_empty());
        assert_eq!(Ladder::new([Quic, TcpTls]).better_than(TcpTls), [Quic]);
    }

    #[test]
    fn the_reason_of_a_failure_is_kept_until_the_rung_works() {
        let now = Instant::now();
        let mut ladder = Ladder::new([TcpTls, Https]);
        assert!(ladder.missteps().is_empty());
        ladder.failed(Https, "silence", now);
        ladder.failed(TcpTls, "refused", now);
        ladder.failed(TcpTls, "filtered", now);
        // A rung that the ladder does not have is nobody's.
        ladder.failed(HttpsUpgrade, "nobody asked", now);
        let told = |ladder: &Ladder| -> Vec<(Rung, String)> {
            ladder.missteps().iter().map(|it| (it.rung, it.why.to_string())).collect()
        };
        assert_eq!(told(&ladder), [(TcpTls, "filtered".into()), (Https, "silence".into())]);
        ladder.worked(TcpTls);
        assert_eq!(told(&ladder), [(Https, "silence".into())]);
    }
}
