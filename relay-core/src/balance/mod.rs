//! Which of several links takes the next request.
//!
//! A [`LoadBalancer`] sees every link that may be picked as a [`LinkView`], puts them into the
//! order in which they are to be tried, and is told what became of each attempt. Four come with the
//! house: [`RoundRobin`], [`LeastInFlight`], [`PeakEwma`], and [`Outliers`], which wraps any other.
//! Products may bring their own.
//!
//! Nothing here looks at a clock, draws a number or touches a link: time and randomness are
//! arguments, and what a link can do is for the caller to say. The caller leaves out links that
//! drain, are dead, or lead to a site that does not serve the request. Re-sending is the caller's
//! too; so is the log, for which it is handed a [`Notice`]. Read [`LoadBalancer`] first, then
//! [`Outliers`].

mod least_in_flight;
mod outliers;
mod peak_ewma;
mod round_robin;
#[cfg(test)]
mod testing;

use std::fmt::Debug;
use std::time::{Duration, Instant};

pub use least_in_flight::LeastInFlight;
pub use outliers::Outliers;
pub use peak_ewma::PeakEwma;
pub use round_robin::RoundRobin;

/// What a balancer sees of a link.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct LinkView {
    /// The link's number; no other link of the process ever has it.
    pub id: u64,
    /// Stands for the connection point at the far end: equal for all links of one, also for those
    /// that it dials after others were lost.
    pub connection_point: u64,
    /// Requests on this link that this gateway instance has not seen the end of.
    pub in_flight: u32,
}

impl LinkView {
    /// The view of link `id` of `connection_point`, with `in_flight` requests on it.
    pub fn new(id: u64, connection_point: u64, in_flight: u32) -> Self {
        Self { id, connection_point, in_flight }
    }

    /// Whether both lead to the same connection point.
    fn is_beside(&self, other: &Self) -> bool {
        self.connection_point == other.connection_point
    }
}

/// What became of one attempt to have a request answered over a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// The head of an answer came from the site, whatever its status.
    Answered {
        /// Time from the request's last move to the answer's head. `None` if it tells nothing about
        /// the link, because the site holds such requests open on purpose.
        latency: Option<Duration>,
    },
    /// No answer of the site came, for a reason that another connection point may not have.
    Failed,
    /// The link ended under the request. Said for one of the requests that a link takes with it, so
    /// that one loss counts once; [`Outcome::Inconclusive`] for the others.
    Lost,
    /// The connection point refused the request unseen although its link takes requests.
    Refused,
    /// Nothing was learnt about the link: the client went away, the link drains, or what failed is
    /// the same for every connection point.
    Inconclusive,
}

/// What a balancer has to tell whoever runs the gateway instance.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Notice {
    /// The connection point of the attempt was ejected: it sits out wherever the site has enough
    /// others.
    Ejected {
        /// Failures in a row that had it ejected; at least 1.
        failures: u32,
        /// How long it sits out from now on; it comes back by itself.
        time: Duration,
    },
    /// The connection point of the attempt has answered for the first time since it was ejected.
    Recovered {
        /// How often it was ejected without an answer between; at least 1.
        ejections: u32,
    },
}

/// A rule by which links are picked.
///
/// It is shared by every request of a gateway instance and called in the midst of each: methods
/// must be short and must not block.
pub trait LoadBalancer: Debug + Send + Sync {
    /// Puts `links` into the order in which they are to be tried, best first, and returns how many
    /// of them may be tried, from the front. Allocates nothing where it can help it.
    ///
    /// All of `links` take requests, and those of one connection point stand together, in an order
    /// that is the same at every call. The first one may turn out to be full, so the caller tries
    /// the next; when all are full it waits at all of them, or at the first 16. Of a count beyond
    /// `links`, or of views that were not among them, the caller takes no notice.
    ///
    /// 0 is allowed: no link is to have the request now. It waits, as where there is no link; the
    /// balancer is asked again every 50 ms and when a link comes, until the request has waited for
    /// as long as any may wait for a stream, 5 s by default. Then it is refused.
    ///
    /// `now` never goes back by more than threads differ; `draw` is a new random number, uniform
    /// over all of `u64`.
    fn order(&self, links: &mut [LinkView], now: Instant, draw: u64) -> usize;

    /// Takes note of what became of an attempt over `link`, once for each attempt. The link may be
    /// gone by then; [`LoadBalancer::forget`] comes after the last of its attempts.
    ///
    /// Returns what is worth a line in the log. Nothing is, by default.
    fn observe(&self, link: &LinkView, outcome: Outcome, now: Instant) -> Option<Notice> {
        let _ = (link, outcome, now);
        None
    }

    /// Drops what is known about `link`, which is gone and will never be offered again.
    fn forget(&self, link: u64) {
        let _ = link;
    }
}
