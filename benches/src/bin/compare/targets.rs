//! What the link must reach against its peers, and aims for.

use relay_benches::cases::Case;
use relay_benches::peers::Contender;
use relay_benches::pipes::Carrier;

/// What is compared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Measure {
    /// Work per time, as a multiple of a peer's.
    Rate(Contender),
    /// Work per processor time of both ends, as a multiple of a peer's.
    PerCpu(Contender),
    /// Writes to both sockets per exchange.
    Writes,
    /// The run against the undisturbed one, see
    /// [`Run::quotient`](relay_benches::cases::Run::quotient).
    Quotient,
}

/// On which side of a number a figure must stand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    pub(crate) fn is_met_by(self, figure: f64) -> bool {
        match self {
            Self::AtLeast(bound) => bound <= figure,
            Self::AtMost(bound) => figure <= bound,
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, ">= {bound:.2}"),
            Self::AtMost(bound) => write!(f, "<= {bound:.2}"),
        }
    }
}

/// One target.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) case: Case,
    pub(crate) carrier: Carrier,
    pub(crate) measure: Measure,
    pub(crate) least: Bound,
    pub(crate) aim: Option<Bound>,
}

const fn target(case: Case, carrier: Carrier, measure: Measure, least: Bound) -> Target {
    Target { case, carrier, measure, least, aim: None }
}

impl Target {
    const fn aim(self, aim: Bound) -> Self {
        Self { aim: Some(aim), ..self }
    }
}

/// Every target. Our choice: what the multiplexed channel is to be known for; figures of others
/// were measured before on two processors over loopback.
pub(crate) const TARGETS: &[Target] = {
    use Bound::{AtLeast, AtMost};
    use Carrier::{Plain, Tls};
    use Case::{Bulk, Loaded, Small, Stalled};
    use Contender::{H2Tuned, Raw, Yamux};
    use Measure::{PerCpu, Quotient, Rate, Writes};
    &[
        target(Bulk(1), Plain, Rate(H2Tuned), AtLeast(1.0)).aim(AtLeast(1.2)),
        target(Bulk(1), Plain, Rate(Raw), AtLeast(0.9)),
        target(Bulk(1), Tls, Rate(H2Tuned), AtLeast(1.5)),
        target(Bulk(1), Tls, Rate(Raw), AtLeast(0.95)).aim(AtLeast(1.0)),
        target(Bulk(64), Plain, Rate(H2Tuned), AtLeast(1.15)).aim(AtLeast(1.3)),
        target(Bulk(64), Plain, Rate(Yamux), AtLeast(2.0)),
        target(Bulk(64), Tls, Rate(H2Tuned), AtLeast(1.2)),
        target(Small(1), Plain, Rate(H2Tuned), AtLeast(1.0)).aim(AtLeast(1.3)),
        target(Small(64), Plain, Rate(H2Tuned), AtLeast(1.5)).aim(AtLeast(2.5)),
        target(Small(64), Plain, PerCpu(H2Tuned), AtLeast(1.5)).aim(AtLeast(2.5)),
        target(Small(64), Plain, Rate(Yamux), AtLeast(3.0)),
        target(Small(64), Plain, PerCpu(Yamux), AtLeast(3.0)),
        target(Small(64), Plain, Writes, AtMost(0.5)),
        target(Small(512), Plain, Rate(H2Tuned), AtLeast(1.5)).aim(AtLeast(2.5)),
        target(Small(512), Plain, PerCpu(H2Tuned), AtLeast(1.5)).aim(AtLeast(2.5)),
        target(Small(512), Plain, Rate(Yamux), AtLeast(3.0)),
        target(Small(512), Plain, PerCpu(Yamux), AtLeast(3.0)),
        target(Small(512), Plain, Writes, AtMost(0.5)),
        target(Loaded, Plain, Quotient, AtMost(3.0)).aim(AtMost(2.0)),
        target(Loaded, Tls, Quotient, AtMost(3.0)).aim(AtMost(2.0)),
        target(Stalled, Plain, Quotient, AtLeast(0.95)).aim(AtLeast(1.0)),
        target(Stalled, Tls, Quotient, AtLeast(0.95)).aim(AtLeast(1.0)),
    ]
};
