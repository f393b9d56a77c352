//! Time: hello deadline, keep-alive, dead-peer detection, round trips.

use std::time::{Duration, Instant};

use super::{Drain, GoAway, Mux, Phase};
use crate::mux::error::LinkError;
use crate::mux::event::Event;

/// How old a round-trip sample may be before a busy link measures anew. Below the one PING per
/// second that a peer allows.
const SAMPLE_AGE_MAX: Duration = Duration::from_secs(2);

/// A PING that was not answered yet.
#[derive(Clone, Copy, Debug)]
struct Outstanding {
    number: u64,
    sent_at: Instant,
    /// When the first PING was sent of those without an answer: one that replaces another gives a
    /// silent peer no more time.
    asked_at: Instant,
}

/// When something was last heard, and how long a round trip takes.
#[derive(Debug)]
pub(super) struct Liveness {
    heard_at: Instant,
    hello_due: Instant,
    outstanding: Option<Outstanding>,
    pings: u64,
    sampled_at: Option<Instant>,
    round_trip: Option<Duration>,
}

impl Liveness {
    pub(super) fn new(now: Instant, hello_due: Instant) -> Self {
        Self {
            heard_at: now,
            hello_due,
            outstanding: None,
            pings: 0,
            sampled_at: None,
            round_trip: None,
        }
    }

    /// Smoothed round trip, once one was measured.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// When the peer was last heard: the time of the input that is being judged.
    pub(super) fn heard_at(&self) -> Instant {
        self.heard_at
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.heard_at = self.heard_at.max(now);
    }

    /// Numbers a new PING, which replaces the outstanding one.
    pub(super) fn new_ping(&mut self, now: Instant) -> u64 {
        self.pings += 1;
        let asked_at = self.outstanding.map_or(now, |earlier| earlier.asked_at);
        self.outstanding = Some(Outstanding { number: self.pings, sent_at: now, asked_at });
        self.pings
    }

    /// Takes a PONG. Returns the round trip if it answers the newest PING.
    fn pong(&mut self, number: u64, now: Instant) -> Option<Duration> {
        let outstanding = self.outstanding.take_if(|ping| ping.number == number)?;
        let sample = now.saturating_duration_since(outstanding.sent_at);
        // RFC 9002, section 5.3: an exponentially weighted average with weight 1/8.
        let smoothed = self.round_trip.map_or(sample, |old| (old * 7 + sample) / 8);
        self.round_trip = Some(smoothed);
        self.sampled_at = Some(now);
        Some(smoothed)
    }

    fn sample_is_old(&self, now: Instant) -> bool {
        let fresh = |at: Instant| now.saturating_duration_since(at) < SAMPLE_AGE_MAX;
        self.outstanding.is_none() && !self.sampled_at.is_some_and(fresh)
    }
}

impl Mux {
    /// When [`Mux::handle_timeout`] wants to be called; `None` once the link has ended.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Closed(_) => None,
            Phase::Preface | Phase::Hello { .. } => Some(self.liveness.hello_due),
            Phase::Open => Some(match self.liveness.outstanding {
                Some(ping) => ping.asked_at.max(self.liveness.heard_at) + self.config.ping_timeout,
                None => self.liveness.heard_at + self.keep_alive(),
            }),
        }
    }

    fn keep_alive(&self) -> Duration {
        if self.streams.is_empty() {
            self.config.keep_alive_idle
        } else {
            self.config.keep_alive_busy
        }
    }

    /// Does what is due at `now`: asks a silent peer for a sign of life, or gives it up.
    ///
    /// # Errors
    ///
    /// [`LinkError::HelloTimeout`] and [`LinkError::Silent`]; the link has ended.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), LinkError> {
        if self.poll_timeout().is_none_or(|due| now < due) {
            return Ok(());
        }
        let error = match (&self.phase, self.liveness.outstanding) {
            (Phase::Open, None) => {
                self.slots.ping = Some(self.liveness.new_ping(now));
                return Ok(());
            }
            (Phase::Open, Some(_)) => LinkError::Silent,
            _ => LinkError::HelloTimeout,
        };
        self.fail(error.clone());
        Err(error)
    }

    /// The smoothed round trip to the peer, once one was measured.
    pub fn round_trip(&self) -> Option<Duration> {
        self.liveness.round_trip()
    }

    /// Measures a round trip if the last sample is old; called when credit flows, where it matters.
    pub(super) fn refresh_round_trip(&mut self, now: Instant) {
        if self.liveness.sample_is_old(now) {
            self.slots.ping = Some(self.liveness.new_ping(now));
        }
    }

    pub(super) fn on_pong(&mut self, number: u64, now: Instant) {
        let Some(round_trip) = self.liveness.pong(number, now) else { return };
        self.events.push_back(Event::RoundTrip(round_trip));
        if self.drain == (Drain::Announced { barrier: number }) {
            let last = self.last_accepted();
            let text = "draining".to_owned();
            self.slots.goaway = Some(GoAway { last, code: LinkError::CODE_DONE, text });
            self.drain = Drain::Final { last, told: false };
            self.note_drained();
        }
    }
}
