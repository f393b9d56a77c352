//! One side of a pair: what it is told to do, and what the model predicts that it answers.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::ops::RangeInclusive;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::carrier::Carrier;
use super::op::Op;
use super::referee::Referee;
use super::view::{Block, Receiving, Sending, View, block, payload};
use crate::mux::{
    Batch, Config, HeadKind, LinkError, Mux, OpenError, SendError, Side, StreamCode, StreamId,
};

/// Slices of a batch, with room to spare.
const SLICES: usize = 80;

/// Interim heads that a peer takes on one stream.
const INTERIM_HEADS_MAX: usize = 8;

/// One side: its engine, what it has left to write, and what the model knows of it.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "four things that each happen once, in any order"
)]
pub struct End {
    pub(super) side: Side,
    /// The engine.
    pub mux: Mux,
    pub(super) config: Config,
    pub(super) batch: Batch,
    /// Octets that arrived and that the engine has left for later.
    pub(super) input: BytesMut,
    /// What this side has sent.
    pub(super) sent: Referee,
    /// What of it the other side has got.
    pub(super) heard: Referee,
    pub(super) views: BTreeMap<StreamId, View>,
    pub(super) opened: u32,
    pub(super) draining: bool,
    pub(super) drained: bool,
    pub(super) told_to_go: bool,
    pub(super) openable_told: u64,
    pub(super) heard_at: Instant,
    pub(super) now: Instant,
    /// Whether the model still predicts: no frame was injected and no link has ended.
    pub(super) predicted: bool,
}

impl End {
    pub(super) fn new(side: Side, config: Config, peer: &Config, now: Instant) -> Self {
        Self {
            side,
            mux: Mux::new(side, config.clone(), now).expect("the settings of a pair are valid"),
            batch: Batch::new(),
            input: BytesMut::new(),
            sent: Referee::new(side, &config, peer),
            heard: Referee::new(side, &config, peer),
            views: BTreeMap::new(),
            opened: 0,
            draining: false,
            drained: false,
            told_to_go: false,
            openable_told: 0,
            heard_at: now,
            now,
            predicted: true,
            config,
        }
    }

    /// What is ready is added to the batch, and judged.
    pub(super) fn fill_batch(&mut self, peer: &Self, now: Instant) {
        let before = self.batch.len();
        self.mux.poll_transmit(now, &mut self.batch);
        if self.batch.len() > before {
            let added = self.unwritten().split_off(before);
            self.sent.see(&added, self.predicted.then_some(&peer.heard));
        }
        if self.batch.is_empty() {
            // Here a driver goes to sleep.
            self.mux.poll_transmit(now, &mut self.batch);
            assert!(
                self.batch.is_empty(),
                "{:?} had something ready and did not say so",
                self.side
            );
        }
    }

    /// One write: `carrier` takes at most `octets_max` of the batch. Returns how many it took.
    pub(super) fn write_to(&mut self, carrier: &mut impl Carrier, octets_max: usize) -> usize {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let used = self.batch.io_slices(&mut slices);
        let taken = carrier.write(self.side, &slices[..used], octets_max);
        self.batch.advance(taken);
        taken
    }

    /// A copy of what the batch has left to write.
    fn unwritten(&self) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let used = self.batch.io_slices(&mut slices);
        let octets: Vec<u8> = slices[..used].iter().flat_map(|s| s.iter().copied()).collect();
        assert_eq!(octets.len(), self.batch.len(), "the slices are all of the batch");
        octets
    }

    pub(super) fn hear(&mut self, octets: &[u8], now: Instant) {
        self.input.extend_from_slice(octets);
        let ended = self.mux.closed().cloned();
        let outcome = self.mux.handle_input(now, &mut self.input);
        if let Some(error) = ended {
            assert_eq!(outcome, Err(error), "a link that has ended stays as it is");
        } else if self.predicted {
            assert_eq!(outcome, Ok(()), "{:?} refuses what an engine sent", self.side);
        }
    }

    /// The engine's memory for payload stays within what it was given, and covers what it holds
    /// and what it has promised to take.
    pub(super) fn check_memory(&self) {
        let floors = self.config.floors();
        let stats = self.mux.stats();
        let growth = stats.window_growth;
        assert_eq!(stats.memory_reserved, floors + growth, "{:?} reserves floors", self.side);
        assert!(stats.memory_reserved <= self.config.receive_memory_max, "windows outgrew memory");
        let floor = u64::from(self.config.stream_window);
        let above: u64 = self.views.values().map(|v| v.held().saturating_sub(floor)).sum();
        assert!(above <= growth, "{:?} holds more than was reserved", self.side);
        if self.predicted {
            let credit = |view| self.credit_out(view).saturating_sub(floor);
            let above: u64 = self.views.values().map(credit).sum();
            assert!(above <= growth, "{:?} has promised more than was reserved", self.side);
        }
    }

    /// Octets that this side has promised to hold of a half-stream: what was granted and not passed
    /// on.
    fn credit_out(&self, view: &View) -> u64 {
        let is_taken = matches!(view.recv, Receiving::AwaitHead | Receiving::Open);
        let granted = self.sent.window(view.id.number());
        if is_taken { granted - view.taken } else { view.held() }
    }

    /// What the engine says of itself when asked.
    pub(super) fn check_answers(&self, peer: &Self) {
        let room = peer.config.stream_window.min(self.config.send_queue_max);
        assert!(self.mux.peer().is_none() || self.mux.initial_room() == room as usize);
        let open = self.views.values().filter(|view| !view.released);
        let step = open.map(|view| self.mux.grant_step(view.id)).min();
        let least = self.config.stream_window as usize / 4;
        assert!(step.is_none_or(|step| step >= least), "grants of {step:?}, {least} at least");
        assert!(!self.predicted || self.mux.is_draining() == self.draining);
    }

    /// Ends the link: for this reason, unless it has ended before.
    pub(super) fn close(&mut self) {
        let reason = self.mux.closed().cloned().unwrap_or(LinkError::ClosedHere);
        self.mux.close();
        assert_eq!(self.mux.closed(), Some(&reason), "the first reason stays");
    }

    /// Takes the pipe away: the link has ended, and there is nothing more to write.
    pub(super) fn lose(&mut self, peer: &Self, now: Instant) {
        let before = self.mux.closed().cloned();
        self.mux.handle_lost("cut");
        assert!(self.mux.is_lost());
        let is_goodbye = peer.heard.serves().is_some();
        match (before, self.mux.closed()) {
            (Some(before), after) => assert_eq!(after, Some(&before), "the first reason stays"),
            (None, Some(LinkError::ClosedByPeer { code: 0, .. })) => {
                assert!(is_goodbye || !self.predicted, "the peer has not said goodbye");
            }
            (None, after) => {
                assert!(matches!(after, Some(LinkError::Lost { .. })), "{after:?}");
                assert!(!is_goodbye || !self.predicted, "the peer has said goodbye");
            }
        }
        let written = self.batch.len();
        self.mux.poll_transmit(now, &mut self.batch);
        assert_eq!(self.batch.len(), written, "there is no pipe to write to");
    }

    /// Every stream this side knows, over or not.
    pub(super) fn ids(&self) -> Vec<StreamId> {
        self.views.keys().copied().collect()
    }

    /// The stream that `pick` means, if any is known.
    fn picked(&self, pick: u8) -> Option<StreamId> {
        let among = self.views.len().min(8);
        let back = usize::from(pick).checked_rem(among)?;
        self.views.keys().rev().nth(back).copied()
    }

    pub(super) fn command(&mut self, peer: &Self, op: Op) {
        match op {
            Op::Open(_, len, end) => self.open(peer, len, end),
            Op::TakeAll(_) => {
                for id in self.ids() {
                    self.take(id, usize::MAX);
                }
            }
            Op::SendHead(_, pick, len, kind) => {
                let Some(id) = self.picked(pick) else { return };
                self.send_head(peer, id, len, kind);
            }
            Op::Write(_, pick, len) => {
                let Some(id) = self.picked(pick) else { return };
                self.write(peer, id, len);
            }
            Op::WantRoom(_, pick) => {
                let Some(id) = self.picked(pick) else { return };
                self.want_room(id);
            }
            Op::Finish(_, pick) => {
                let Some(id) = self.picked(pick) else { return };
                let answer = self.mux.finish(id);
                self.ended_with(id, answer, None);
            }
            Op::Trailers(_, pick, len) => {
                let Some(id) = self.picked(pick) else { return };
                self.trailers(peer, id, len);
            }
            Op::Reset(_, pick) => {
                let Some(id) = self.picked(pick) else { return };
                let code = StreamCode(0x100 + u32::from(pick));
                self.mux.reset(id, code);
                self.was_reset_here(peer, id, code);
            }
            Op::Stop(_, pick) => {
                let Some(id) = self.picked(pick) else { return };
                let code = StreamCode(0x200 + u32::from(pick));
                self.mux.stop(id, code);
                self.was_stopped_here(id, code);
            }
            Op::Take(_, pick, octets) => {
                let Some(id) = self.picked(pick) else { return };
                self.take(id, octets);
            }
            Op::Release(_, pick) => {
                let Some(id) = self.picked(pick) else { return };
                self.release(peer, id);
            }
            _ => {}
        }
    }

    fn open(&mut self, peer: &Self, len: usize, end: bool) {
        let Some(next) = StreamId::nth(self.side, self.opened) else { return };
        let head = block(next, self.side, 0, len);
        let limit = peer.config.head_max;
        let openable = self.mux.openable_total();
        let answer = self.mux.open(Bytes::from(head.clone()), end);
        if self.predicted {
            assert!(openable <= peer.heard.streams(), "more can be opened than was granted");
            let expected = if self.draining || peer.heard.serves().is_some() {
                Err(OpenError::GoingAway)
            } else if len > limit as usize {
                Err(OpenError::HeadTooLong { len, limit })
            } else if u64::from(self.opened) >= openable {
                Err(OpenError::NoStreamFree)
            } else {
                Ok(next)
            };
            assert_eq!(answer, expected, "{:?} opens", self.side);
        }
        let Ok(id) = answer else { return };
        self.opened += 1;
        let mut view = View::new(id, true);
        view.heads.push(Block { octets: head, interim: false });
        if end {
            view.send = Sending::Finishing;
        }
        self.views.insert(id, view);
    }

    /// Whether `answer` is what the view predicts for a command that needs the sending half to be
    /// `needs`. Nothing is taken on a stream that was let go of.
    fn is_taken(&self, id: StreamId, needs: Sending, answer: Result<(), SendError>) -> bool {
        let Some(view) = self.views.get(&id) else { return false };
        let silent = answer.is_err_and(|error| error.to_string().is_empty());
        assert!(!silent, "a refusal says why");
        if !self.predicted {
            return answer.is_ok();
        }
        if view.released {
            assert!(answer.is_err(), "stream {} was let go of", view.id);
            return false;
        }
        assert_eq!(answer.err(), view.refusal(needs), "stream {} in {:?}", view.id, view.send);
        answer.is_ok()
    }

    fn send_head(&mut self, peer: &Self, id: StreamId, len: usize, kind: HeadKind) {
        let limit = peer.config.head_max;
        let Some(heads) = self.views.get(&id).map(|view| view.heads.len()) else { return };
        let interim = kind == HeadKind::Interim;
        let octets = block(id, self.side, heads, len);
        let answer = self.mux.send_head(id, Bytes::from(octets.clone()), kind);
        if len > limit as usize {
            assert_eq!(answer, Err(SendError::HeadTooLong { len, limit }));
            return;
        }
        if interim && heads == INTERIM_HEADS_MAX && answer == Err(SendError::TooManyInterimHeads) {
            return;
        }
        if !self.is_taken(id, Sending::AwaitHead, answer) {
            return;
        }
        let Some(view) = self.views.get_mut(&id) else { return };
        view.heads.push(Block { octets, interim });
        view.send = match kind {
            HeadKind::Interim => Sending::AwaitHead,
            HeadKind::Final => Sending::Open,
            HeadKind::FinalAndEnd => Sending::Finishing,
        };
    }

    /// Octets that the engine must take now on a stream whose sending half is open: from, to. A
    /// stream that was given up with something queued may keep its place among those that share the
    /// queue until its turn comes; but for these the two are the same.
    pub(super) fn room(&self, peer: &Self, view: &View) -> RangeInclusive<u64> {
        let [waits, given_up] = [Some(true), None].map(|waits| {
            let alike = |other: &&View| self.waits(peer, other) == waits;
            self.views.values().filter(alike).count() as u64
        });
        let number = view.id.number();
        let unsent = view.written - self.sent.half(number).map_or(0, |half| half.payload);
        let credit = peer.heard.window(number) - view.written;
        let shared = u64::from(self.config.send_queue_shared);
        let room = |busy: u64| {
            let queue_max = (shared / busy.max(1)).max(self.config.send_queue_max.into());
            queue_max.saturating_sub(unsent).min(credit)
        };
        room(waits + given_up)..=room(waits)
    }

    /// Whether the stream has its opening or anything behind it to send; `None` if it had to be
    /// given up, by either side, and only the engine knows.
    fn waits(&self, peer: &Self, view: &View) -> Option<bool> {
        let number = view.id.number();
        let unserved = peer.heard.serves().is_some_and(|last| number > last);
        let sent = self.sent.half(number);
        if view.id.opener() == self.side && sent.is_none_or(|half| half.heads == 0) {
            return (!unserved).then_some(true);
        }
        let unheard = peer.heard.half(number).filter(|_| view.released);
        let is_given_up = match view.send {
            Sending::AwaitHead | Sending::Open | Sending::Finishing => {
                unserved || unheard.is_some_and(|half| half.reset || half.stopped)
            }
            Sending::Stopped(_) | Sending::Reset(_) => true,
        };
        let (heads, payload, ended) =
            sent.map_or((0, 0, false), |half| (half.heads, half.payload, half.ended));
        let is_unsent = view.heads.len() > heads
            || view.written > payload
            || (view.send == Sending::Finishing && !ended);
        (!is_given_up).then_some(is_unsent)
    }

    fn write(&mut self, peer: &Self, id: StreamId, len: usize) {
        let Some(view) = self.views.get(&id) else { return };
        let octets = payload(id, self.side, view.written, len);
        let room = self.predicted.then(|| self.room(peer, view));
        let mut left = Bytes::from(octets);
        let answer = self.mux.write(id, &mut left);
        if !self.is_taken(id, Sending::Open, answer) {
            assert_eq!(left.len(), len, "what is refused is not taken");
            return;
        }
        let Some(view) = self.views.get_mut(&id) else { return };
        let taken = (len - left.len()) as u64;
        if let Some(room) = room {
            let [least, most] = [room.start(), room.end()].map(|room| (*room).min(len as u64));
            assert!((least..=most).contains(&taken), "{id} took {taken}, had room for {room:?}");
        }
        view.written += taken;
        view.wants_room = !left.is_empty();
    }

    fn want_room(&mut self, id: StreamId) {
        self.mux.want_room(id);
        let Some(view) = self.views.get_mut(&id) else { return };
        view.wants_room = matches!(view.send, Sending::AwaitHead | Sending::Open);
    }

    fn trailers(&mut self, peer: &Self, id: StreamId, len: usize) {
        let limit = peer.config.head_max;
        let octets = block(id, self.side, usize::from(u16::MAX), len);
        let answer = self.mux.send_trailers(id, Bytes::from(octets.clone()));
        if len > limit as usize {
            assert_eq!(answer, Err(SendError::HeadTooLong { len, limit }));
            return;
        }
        self.ended_with(id, answer, Some(octets));
    }

    fn ended_with(
        &mut self,
        id: StreamId,
        answer: Result<(), SendError>,
        trailers: Option<Vec<u8>>,
    ) {
        if self.is_taken(id, Sending::Open, answer)
            && let Some(view) = self.views.get_mut(&id)
        {
            view.send = Sending::Finishing;
            view.wants_room = false;
            view.trailers = trailers;
        }
    }

    fn take(&mut self, id: StreamId, octets: usize) {
        self.mux.take(id, octets);
        let Some(view) = self.views.get_mut(&id) else { return };
        view.taken = view.taken.saturating_add(octets as u64).min(view.read);
        view.payload_moved(octets > 0, self.now);
    }

    pub(super) fn release(&mut self, peer: &Self, id: StreamId) {
        self.mux.release(id);
        let Some(view) = self.views.get_mut(&id) else { return };
        view.released = true;
        view.wants_room = false;
        view.taken = view.read;
        view.waits_since = None;
        if matches!(view.send, Sending::AwaitHead | Sending::Open) {
            self.was_reset_here(peer, id, StreamCode::DROPPED);
        } else {
            self.was_stopped_here(id, StreamCode::DROPPED);
        }
    }

    /// Whether `peer` was heard to reset a stream whose owner here hears nothing of it any more.
    fn is_reset_unheard(peer: &Self, view: &View) -> bool {
        view.released && peer.heard.half(view.id.number()).is_some_and(|half| half.reset)
    }

    /// Whether nothing more will be sent on the half this side sends.
    pub(super) fn send_is_over(&self, peer: &Self, view: &View) -> bool {
        match view.send {
            Sending::AwaitHead | Sending::Open => false,
            Sending::Finishing => {
                let ended = self.sent.half(view.id.number()).is_some_and(|half| half.ended);
                ended || Self::is_reset_unheard(peer, view)
            }
            Sending::Stopped(_) | Sending::Reset(_) => true,
        }
    }

    /// Whether nothing more will arrive on the half that the peer sends.
    pub(super) fn recv_is_over(peer: &Self, view: &View) -> bool {
        match view.recv {
            Receiving::AwaitHead | Receiving::Open => false,
            Receiving::Stopping => {
                let ended = peer.heard.half(view.id.number()).is_some_and(|half| half.ended);
                ended || Self::is_reset_unheard(peer, view)
            }
            Receiving::Ended | Receiving::Reset => true,
        }
    }

    /// Whether this side has reset a stream that it opened, and has not heard that the acceptor has
    /// let go of it.
    pub(super) fn is_awaited(peer: &Self, view: &View) -> bool {
        let number = view.id.number();
        let said = peer.heard.half(number).is_some_and(|half| half.ended || half.reset);
        let unserved = peer.heard.serves().is_some_and(|last| number > last);
        view.abandoned && !said && !unserved
    }

    /// Both halves end where they have not ended. Returns whether any had not.
    pub(super) fn abort(&mut self, peer: &Self, id: StreamId, code: StreamCode) -> bool {
        let Some(view) = self.views.get(&id) else { return false };
        let (send, recv) = (self.send_is_over(peer, view), Self::recv_is_over(peer, view));
        let Some(view) = self.views.get_mut(&id) else { return false };
        if !send {
            view.send = Sending::Reset(code);
        }
        if !recv {
            view.recv = Receiving::Reset;
            view.waits_since = None;
        }
        view.wants_room = false;
        !send || !recv
    }

    fn was_reset_here(&mut self, peer: &Self, id: StreamId, code: StreamCode) {
        if self.abort(peer, id, code)
            && let Some(view) = self.views.get_mut(&id)
        {
            view.was_reset_here(self.side, code);
        }
    }

    fn was_stopped_here(&mut self, id: StreamId, code: StreamCode) {
        let Some(view) = self.views.get_mut(&id) else { return };
        // What waited is thrown away, also of a half that has ended.
        view.taken = view.read;
        view.waits_since = None;
        if matches!(view.recv, Receiving::AwaitHead | Receiving::Open) {
            view.recv = Receiving::Stopping;
            view.own_stop = Some(code);
        }
    }
}
