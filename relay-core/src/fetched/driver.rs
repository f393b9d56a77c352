//! Fetches what is due, for ever.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::Shared;
use super::held::{Brought, Job, Moment};

/// Sources that are fetched at a time, at most. Each may take 32 MiB meanwhile.
const FLIGHTS_MAX: usize = 4;

/// How often the clock is looked at: whether a list is over, or the clock was set.
const LOOK_EVERY: Duration = Duration::from_mins(1);

/// Does the fetching for a [`Fetched`](super::Fetched).
#[derive(Debug)]
#[must_use = "nothing is fetched unless it runs"]
pub struct FetchDriver {
    shared: Arc<Shared>,
    flights: JoinSet<(u64, Brought)>,
    /// Of which source each flight is.
    sources: HashMap<Id, (u64, AbortHandle)>,
}

impl FetchDriver {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, flights: JoinSet::new(), sources: HashMap::new() }
    }

    /// Fetches whatever is due, for ever.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends every exchange that is under way. What is held stays.
    pub async fn run(mut self) -> Infallible {
        loop {
            self.end_unwanted();
            self.look();
            let next = self.start_due();
            let shared = Arc::clone(&self.shared);
            tokio::select! {
                biased;
                Some(ended) = self.flights.join_next_with_id() => self.settle(ended),
                () = shared.wake.notified() => {}
                () = sleep_until(next) => {}
            }
        }
    }

    fn moment(&self) -> Moment {
        let (now, wall) = (self.shared.began.elapsed(), self.shared.clock.now());
        Moment { now, wall, random: fastrand::f64() }
    }

    /// Nobody waits for what is wanted no more.
    fn end_unwanted(&mut self) {
        let held = self.shared.held();
        for (id, flight) in self.sources.values() {
            if !held.is_wanted(*id) {
                flight.abort();
            }
        }
    }

    fn look(&self) {
        let has_changed = self.shared.held().judge_lists(self.moment());
        if has_changed {
            self.shared.has_changed();
        }
    }

    /// Starts what is due, as far as there is room. Returns when to look again.
    fn start_due(&mut self) -> Instant {
        let moment = self.moment();
        while self.flights.len() < FLIGHTS_MAX {
            let Some((id, job)) = self.shared.held().poll_fetch(moment) else { break };
            let getter = self.shared.getter.clone();
            let flight = self.flights.spawn(async move {
                let brought = match job {
                    Job::Keys(source, known) => {
                        Brought::Keys(source.fetch(&getter, known.as_ref()).await)
                    }
                    Job::Lists(source, held, known) => {
                        Brought::Lists(source.fetch(getter, held, known).await)
                    }
                };
                (id, brought)
            });
            self.sources.insert(flight.id(), (id, flight));
        }
        let look = moment.now + LOOK_EVERY;
        let due = self.shared.held().poll_timeout();
        // Without room, the end of a flight wakes this.
        let due = due.filter(|_| self.flights.len() < FLIGHTS_MAX);
        self.shared.began + due.unwrap_or(look).min(look)
    }

    fn settle(&mut self, ended: Result<(Id, (u64, Brought)), JoinError>) {
        let moment = self.moment();
        let has_changed = match ended {
            Ok((flight, (id, brought))) => {
                self.sources.remove(&flight);
                self.shared.held().settle(id, brought, moment)
            }
            // It was ended, or has panicked.
            Err(error) => {
                let Some((id, _)) = self.sources.remove(&error.id()) else { return };
                self.shared.held().settle_lost(id, moment)
            }
        };
        if has_changed {
            self.shared.has_changed();
        }
    }
}
