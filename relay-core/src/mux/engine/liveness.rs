//! Time: hello deadline, keep-alive, dead-peer detection, round trips.

use std::time::{Duration, Instant};

use super::{Drain, GoAway, Mux, Phase};
use crate::mux::error::{LinkError, StreamCode};
use crate::mux::event::Event;
use crate::mux::schedule::URGENT_OCTETS;
use crate::mux::stream::Stream;
use crate::mux::window::Path;

/// How old a round-trip sample may be before a busy link measures anew. Below the one PING per
/// second that a peer allows.
const SAMPLE_AGE_MAX: Duration = Duration::from_secs(2);

/// For how long a short exchange that has ended tells of others to come.
const SHORT_EXCHANGE_AGE_MAX: Duration = Duration::from_millis(100);

/// Looks at a consumer within
/// [`Config::consumer_timeout`](crate::mux::Config::consumer_timeout): a count of looks needs no
/// clock in each stream.
const LOOKS_PER_TIMEOUT: u32 = 4;

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
    /// When to look for consumers that take nothing; `None` while no payload waits.
    look_due: Option<Instant>,
    round_trip: Option<Duration>,
    shortest: Shortest,
    /// When a short exchange has ended last.
    short_exchange_at: Option<Instant>,
}

/// The shortest round trip of late: what the path takes when nothing queues on it.
///
/// The shortest of this span and the one before: a path that has become longer is believed after
/// two spans at most.
#[derive(Debug)]
struct Shortest {
    this_span: Option<Duration>,
    last_span: Option<Duration>,
    span_began: Instant,
}

/// As long as BBR believes in a shortest round trip.
const SPAN: Duration = Duration::from_secs(10);

impl Shortest {
    fn note(&mut self, sample: Duration, now: Instant) {
        if now.saturating_duration_since(self.span_began) >= SPAN {
            self.last_span = self.this_span.take();
            self.span_began = now;
        }
        self.this_span = Some(self.this_span.map_or(sample, |shortest| shortest.min(sample)));
    }

    fn get(&self) -> Option<Duration> {
        self.this_span.into_iter().chain(self.last_span).min()
    }
}

impl Liveness {
    pub(super) fn new(now: Instant, hello_due: Instant) -> Self {
        Self {
            heard_at: now,
            hello_due,
            outstanding: None,
            pings: 0,
            sampled_at: None,
            look_due: None,
            round_trip: None,
            shortest: Shortest { this_span: None, last_span: None, span_began: now },
            short_exchange_at: None,
        }
    }

    /// Smoothed round trip, once one was measured.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// What windows are judged by. The round trip is the shortest of late: by one that holds the
    /// queues they cause themselves, they would grow for ever.
    pub(super) fn path(&self, now: Instant) -> Path {
        let is_recent = |at: Instant| now.saturating_duration_since(at) < SHORT_EXCHANGE_AGE_MAX;
        Path {
            round_trip: self.shortest.get(),
            is_mixed: self.short_exchange_at.is_some_and(is_recent),
        }
    }

    /// A stream is over, whose longer half had so many octets.
    pub(super) fn stream_ended(&mut self, octets: u64) {
        if octets <= URGENT_OCTETS {
            self.short_exchange_at = Some(self.heard_at);
        }
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
        self.shortest.note(sample, now);
        Some(smoothed)
    }

    /// For tests in which no time passes.
    #[cfg(test)]
    pub(super) fn assume_round_trip(&mut self, round_trip: Duration) {
        self.shortest.this_span = Some(round_trip);
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
            Phase::Open => {
                let sign_due = self.sign_of_life_due();
                Some(self.liveness.look_due.map_or(sign_due, |look| look.min(sign_due)))
            }
        }
    }

    /// When a silent peer is asked for a sign of life, or given up.
    fn sign_of_life_due(&self) -> Instant {
        match self.liveness.outstanding {
            Some(ping) => ping.asked_at.max(self.liveness.heard_at) + self.config.ping_timeout,
            None => self.liveness.heard_at + self.keep_alive(),
        }
    }

    fn keep_alive(&self) -> Duration {
        if self.streams.is_empty() {
            self.config.keep_alive_idle
        } else {
            self.config.keep_alive_busy
        }
    }

    /// Does what is due at `now`: asks a silent peer for a sign of life, or gives it up; resets
    /// streams whose consumer takes nothing.
    ///
    /// # Errors
    ///
    /// [`LinkError::HelloTimeout`] and [`LinkError::Silent`]; the link has ended.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), LinkError> {
        if self.poll_timeout().is_none_or(|due| now < due) {
            return Ok(());
        }
        if matches!(self.phase, Phase::Open) {
            self.look_at_consumers(now);
            if now < self.sign_of_life_due() {
                return Ok(());
            }
        }
        let error = match (&self.phase, self.liveness.outstanding) {
            (Phase::Open, None) => {
                self.slots.ping = Some(self.liveness.new_ping(now));
                self.lease_floors();
                return Ok(());
            }
            (Phase::Open, Some(_)) => LinkError::Silent,
            _ => LinkError::HelloTimeout,
        };
        self.fail(error.clone());
        Err(error)
    }

    /// Payload has arrived and waits for its consumer.
    pub(super) fn expect_consumer(&mut self) {
        let due = self.liveness.heard_at + self.config.consumer_timeout / LOOKS_PER_TIMEOUT;
        self.liveness.look_due.get_or_insert(due);
    }

    /// Looks for consumers that have taken nothing since the last look.
    fn look_at_consumers(&mut self, now: Instant) {
        if self.liveness.look_due.is_none_or(|due| now < due) {
            return;
        }
        let mut stalled = Vec::new();
        let mut is_any_waiting = false;
        let waits = |stream: &&mut Stream| stream.window.held() > 0 && !stream.recv.is_reset();
        for stream in self.streams.iter_mut().filter(waits) {
            is_any_waiting = true;
            if u32::from(stream.stalled_looks) >= LOOKS_PER_TIMEOUT {
                stalled.push(stream.id);
            } else {
                stream.stalled_looks += 1;
                self.events.push_back(Event::Unread { id: stream.id });
            }
        }
        for id in stalled {
            let code = StreamCode::STALLED;
            if self.reset_if_open(id, code) {
                self.stats.consumers_stalled += 1;
                self.events.push_back(Event::Reset { id, code });
            }
        }
        let next = now + self.config.consumer_timeout / LOOKS_PER_TIMEOUT;
        self.liveness.look_due = is_any_waiting.then_some(next);
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
        self.lease_floors();
        if self.drain == (Drain::Announced { barrier: number }) {
            let last = self.last_accepted();
            let text = "draining".to_owned();
            self.slots.goaway = Some(GoAway { last, code: LinkError::CODE_DONE, text });
            self.drain = Drain::Final { last, told: false };
            self.note_drained();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_round_trip_is_that_of_this_span_and_the_last() {
        let start = Instant::now();
        let mut shortest = Shortest { this_span: None, last_span: None, span_began: start };
        assert_eq!(shortest.get(), None);
        let millis = Duration::from_millis;
        // Seconds, sample, and what is believed then.
        for (seconds, sample, believed) in
            [(0, 9, 9), (1, 5, 5), (9, 7, 5), (10, 8, 5), (19, 9, 5), (20, 9, 8), (31, 20, 9)]
        {
            shortest.note(millis(sample), start + Duration::from_secs(seconds));
            assert_eq!(shortest.get(), Some(millis(believed)), "after {seconds} s");
        }
    }

    #[test]
    fn a_path_is_mixed_for_a_tenth_of_a_second_after_an_exchange_of_32_kib_at_most() {
        let start = Instant::now();
        for (octets, is_mixed) in [(0, true), (URGENT_OCTETS, true), (URGENT_OCTETS + 1, false)] {
            let mut liveness = Liveness::new(start, start);
            assert!(!liveness.path(start).is_mixed);
            liveness.stream_ended(octets);
            let later = |after| liveness.path(start + after).is_mixed;
            assert_eq!(later(Duration::from_nanos(99_999_999)), is_mixed);
            assert!(!later(SHORT_EXCHANGE_AGE_MAX));
        }
    }
}
