//! Two engines joined by a carrier, and what a model of them predicts.
//!
//! The carrier delivers as many octets as it is told to, time is an argument, and everything is
//! decided by the operations, so a failure is replayed by the same operations over the same
//! carrier.

use std::time::{Duration, Instant};

use super::carrier::Carrier;
use super::end::End;
use super::op::{Injected, Op};
use crate::mux::{Config, LinkError, Side};

/// More batches than any run can fill: a settling pair that goes beyond never comes to rest.
const ROUNDS_MAX: usize = 20_000;

/// Two sides, what is between them, and the time.
#[derive(Debug)]
pub struct Pair<C> {
    ends: [End; 2],
    carrier: C,
    now: Instant,
}

/// What the first PING measures.
const ROUND_TRIP: Duration = Duration::from_millis(50);

const BOTH: [Side; 2] = [Side::Listener, Side::Dialer];

const fn index(side: Side) -> usize {
    match side {
        Side::Listener => 0,
        Side::Dialer => 1,
    }
}

impl<C: Carrier> Pair<C> {
    /// Listener and dialer with these settings, established over `carrier`, with a measured round
    /// trip of 50 ms.
    ///
    /// # Panics
    ///
    /// If the settings are not valid, or they cannot establish a link.
    pub fn new(configs: [Config; 2], carrier: C) -> Self {
        let now = Instant::now();
        let [listener, dialer] = configs;
        let ends = [
            End::new(Side::Listener, listener.clone(), &dialer, now),
            End::new(Side::Dialer, dialer, &listener, now),
        ];
        let mut pair = Self { ends, carrier, now };
        for _ in 0..2 {
            // Hellos, and then the PINGs that measure the round trip: they are underway when time
            // goes on, so that windows have something to grow by.
            for side in BOTH {
                pair.transmit(side, usize::MAX);
            }
            pair.now += ROUND_TRIP;
            for side in BOTH {
                pair.both(side).0.now = pair.now;
                pair.deliver(side, usize::MAX);
            }
        }
        pair.settle();
        for side in BOTH {
            assert!(pair.end(side).mux.peer().is_some(), "the handshake is over");
            assert_eq!(pair.end(side).mux.round_trip(), Some(ROUND_TRIP));
        }
        pair
    }

    /// One side.
    pub fn end(&self, side: Side) -> &End {
        &self.ends[index(side)]
    }

    fn both(&mut self, side: Side) -> (&mut End, &mut End) {
        let [listener, dialer] = &mut self.ends;
        match side {
            Side::Listener => (listener, dialer),
            Side::Dialer => (dialer, listener),
        }
    }

    /// Does `op` and checks what came of it.
    ///
    /// # Panics
    ///
    /// If an engine did not do what the model predicts.
    pub fn apply(&mut self, op: Op) {
        match op {
            Op::Settle => self.settle(),
            Op::Transmit(side, octets) => {
                self.transmit(side, octets);
            }
            Op::Deliver(side, octets) => {
                self.deliver(side, octets);
            }
            Op::Advance(millis) => self.advance(Duration::from_millis(millis.into())),
            Op::Drain(side) => self.drain(side),
            Op::Close(side) => self.both(side).0.close(),
            Op::Lose(side) => self.lose(side),
            Op::Inject(side, frame) => self.inject(side, frame),
            Op::Open(side, ..)
            | Op::SendHead(side, ..)
            | Op::Write(side, ..)
            | Op::WantRoom(side, _)
            | Op::Finish(side, _)
            | Op::Trailers(side, ..)
            | Op::Reset(side, _)
            | Op::Stop(side, _)
            | Op::Take(side, ..)
            | Op::TakeAll(side)
            | Op::Release(side, _) => {
                let (end, peer) = self.both(side);
                end.command(peer, op);
            }
        }
        self.after();
    }

    /// Events are told, and what holds after every operation.
    fn after(&mut self) {
        if self.ends.iter().any(|end| end.mux.closed().is_some()) {
            self.predict_no_more();
        }
        for side in BOTH {
            let (end, peer) = self.both(side);
            end.tell_events(peer);
            end.check_memory();
            end.check_answers(peer);
            if end.predicted {
                end.check_consumers(peer);
            }
        }
        self.check_budget();
    }

    /// What both engines have reserved is what is leased of a budget they share, and not more than
    /// that has.
    fn check_budget(&self) {
        let reserved: u64 = self.ends.iter().map(|end| end.mux.stats().memory_reserved).sum();
        for budget in self.ends.iter().filter_map(|end| end.config.memory.as_ref()) {
            assert_eq!(budget.leased(), reserved, "reserved and leased");
            assert!(reserved <= budget.limit(), "{reserved} octets exceed {budget:?}");
        }
    }

    fn predict_no_more(&mut self) {
        self.ends.iter_mut().for_each(|end| end.predicted = false);
    }

    /// `side` writes until the carrier has taken `octets`, or all there is: a batch, to which is
    /// added what fits whenever only a part of it was taken. Returns how many were taken.
    fn transmit(&mut self, side: Side, octets: usize) -> usize {
        let mut written = 0;
        loop {
            let now = self.now;
            let (end, peer) = self.both(side);
            end.fill_batch(peer, now);
            let taken = self.ends[index(side)].write_to(&mut self.carrier, octets - written);
            written += taken;
            if taken == 0 || written == octets || self.end(side).batch.is_empty() {
                return written;
            }
        }
    }

    /// At most `octets` reach `side`, in the portions they arrive in. Returns how many did.
    fn deliver(&mut self, side: Side, octets: usize) -> usize {
        let now = self.now;
        let mut delivered = 0;
        loop {
            let portion = self.carrier.read(side, octets - delivered);
            if portion.is_empty() {
                return delivered;
            }
            delivered += portion.len();
            let (end, peer) = self.both(side);
            if peer.predicted {
                peer.heard.see(&portion, None);
            }
            end.heard_at = now;
            end.hear(&portion, now);
            self.after();
        }
    }

    /// Sends and delivers everything, until nothing is left.
    fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let mut moved = 0;
            for side in BOTH {
                moved += self.transmit(side, usize::MAX);
                moved += self.deliver(side, usize::MAX);
            }
            self.after();
            if moved == 0 {
                self.check_at_rest();
                return;
            }
        }
        panic!("the link never comes to rest");
    }

    fn advance(&mut self, by: Duration) {
        self.now += by;
        let now = self.now;
        for end in &mut self.ends {
            end.now = now;
            let alive = end.mux.closed().is_none();
            let Err(error) = end.mux.handle_timeout(now) else { continue };
            assert!(alive, "a link that has ended ends again");
            assert_eq!(error, LinkError::Silent);
            let silence = now.duration_since(end.heard_at);
            assert!(silence >= end.config.ping_timeout, "given up after {silence:?}");
        }
    }

    fn drain(&mut self, side: Side) {
        let now = self.now;
        let (end, _) = self.both(side);
        end.mux.drain(now);
        end.draining = true;
    }

    fn lose(&mut self, side: Side) {
        let now = self.now;
        let (end, peer) = self.both(side);
        end.lose(peer, now);
    }

    fn inject(&mut self, side: Side, frame: Injected) {
        self.predict_no_more();
        let now = self.now;
        let (end, _) = self.both(side);
        end.hear(&frame.encode(), now);
    }

    /// Lets go of everything and checks that nothing is left.
    ///
    /// # Panics
    ///
    /// If something is.
    pub fn finish(mut self) {
        // Twice: a stream whose opening was on its way is known to its acceptor only afterwards.
        for _ in 0..2 {
            self.settle();
            self.release_all();
        }
        self.settle();
        if self.ends.iter().all(|end| end.predicted) {
            for side in BOTH {
                let (end, peer) = self.both(side);
                end.check_nothing_left(peer);
            }
        }
        let budgets = self.ends.each_ref().map(|end| end.config.memory.clone());
        drop(self);
        for budget in budgets.into_iter().flatten() {
            assert_eq!(budget.leased(), 0, "links that are gone keep memory");
        }
    }

    fn release_all(&mut self) {
        for side in BOTH {
            let (end, peer) = self.both(side);
            for id in end.ids() {
                end.release(peer, id);
            }
            self.after();
        }
    }

    fn check_at_rest(&mut self) {
        if !self.ends.iter().all(|end| end.predicted) {
            return;
        }
        for side in BOTH {
            let (end, peer) = self.both(side);
            assert!(end.batch.is_empty(), "{side:?} has something to send at rest");
            assert!(end.sent.at_boundary() && end.heard.at_boundary(), "half a frame at rest");
            assert_eq!(end.sent.frames(), end.heard.frames(), "every frame has arrived at rest");
            end.check_at_rest(peer);
        }
    }
}
