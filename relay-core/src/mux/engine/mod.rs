//! The engine: one side of a link as a value, with no socket, clock or task.
//!
//! Octets from the peer go in by [`Mux::handle_input`], octets for the peer come out by
//! [`Mux::poll_transmit`], what happened comes out by [`Mux::poll_event`], and time goes in as an
//! argument. `receive` judges what the peer sent, `transmit` decides what is sent next, `commands`
//! is what the owner may do, `liveness` is time.

mod admission;
mod commands;
mod liveness;
mod receive;
#[cfg(test)]
mod tests;
mod transmit;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::budget::Budgets;
use super::config::{Config, ConfigError};
use super::decode::Decoder;
use super::error::{LinkError, StreamCode};
use super::event::Event;
use super::frame::{GOAWAY_TEXT_MAX, Side, StreamId};
use super::half::{RecvEvent, SendEvent};
use super::hello::{Hello, cut_to};
use super::memory::{Floors, Lease};
use super::schedule::Schedule;
use super::stall::Stalls;
use super::table::Table;
use super::window::GrowthPool;
use liveness::Liveness;

pub use commands::HeadKind;

/// Counters of one link since it began.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Payload octets received.
    pub payload_received: u64,
    /// Payload octets handed to the pipe.
    pub payload_sent: u64,
    /// Streams this side opened.
    pub streams_opened: u64,
    /// Streams the peer opened.
    pub streams_accepted: u64,
    /// Streams open now.
    pub streams_open: usize,
    /// Of them, those that the listener opened.
    pub listener_streams_open: usize,
    /// Frames that arrived for streams that had ended.
    pub late_frames: u64,
    /// Octets of receive memory that windows have grown by, of the shared pool.
    pub window_growth: u64,
    /// Octets of receive memory reserved now: the floors of streams that may be open, and
    /// `window_growth`.
    pub memory_reserved: u64,
    /// Streams that were reset because their consumer took nothing for too long.
    pub consumers_stalled: u64,
    /// Octets of payload that are queued and not yet handed to the pipe.
    pub payload_queued: u64,
    /// How often a stream began to stand still for want of credit: all that the peer has granted
    /// was sent, and its half had not ended.
    pub credit_stalls: u64,
    /// Streams that stand still for want of credit now.
    pub streams_stalled: usize,
    /// For how long at least one stream stood still for want of credit, as of when something was
    /// sent or received last.
    pub credit_stalled_for: Duration,
}

/// Where the link is in its life.
#[derive(Debug)]
enum Phase {
    /// The peer's preface has not arrived.
    Preface,
    /// The peer's preface arrived, its hello not yet.
    Hello {
        /// Octets of hello.
        len: usize,
    },
    /// Both hellos are there.
    Open,
    /// It ended, and why.
    Closed(LinkError),
}

/// How far a drain has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Drain {
    /// Not draining.
    No,
    /// Asked for before the peer's hello arrived: it begins with it. Or the stream numbers are used
    /// up: it begins with what is sent next.
    Wanted,
    /// GOAWAY(all) is sent; the PONG to this PING proves that the peer has seen it.
    Announced {
        /// The PING's number.
        barrier: u64,
    },
    /// GOAWAY(last) is sent: streams of the peer above `last` are refused.
    Final {
        /// Highest stream of the peer that is served.
        last: StreamId,
        /// Whether [`Event::Drained`] was told.
        told: bool,
    },
}

/// A GOAWAY to send.
#[derive(Debug)]
struct GoAway {
    last: StreamId,
    code: u32,
    text: String,
}

/// Control output of the link itself. Each slot holds at most one frame.
#[derive(Debug, Default)]
struct LinkSlots {
    preface: Option<Vec<u8>>,
    goaway: Option<GoAway>,
    pong: Option<[u8; 8]>,
    ping: Option<u64>,
    streams: bool,
}

/// One side of a link. See the [module](super) for how its parts work together.
#[derive(Debug)]
pub struct Mux {
    side: Side,
    config: Config,
    phase: Phase,
    decoder: Decoder,
    peer: Option<Box<Hello>>,
    streams: Table,
    pool: GrowthPool,
    /// For streams this side opens.
    own_floors: Floors,
    /// For streams the peer opens.
    peer_floors: Floors,
    events: VecDeque<Event>,
    /// Streams this side opened whose opening is not yet sent, in the order of their ids.
    openings: VecDeque<StreamId>,
    /// Whether openings have filled the last batch, so that in the next whatever else is ready goes
    /// before them.
    is_turn_of_others: bool,
    /// Streams with a control slot to write.
    control: VecDeque<StreamId>,
    /// Streams with a queue to write, in turn.
    ready: Schedule,
    budgets: Budgets,
    slots: LinkSlots,
    /// Streams this side has opened.
    opened: u32,
    /// Of those, how many are over.
    opened_over: u64,
    /// Streams the peer lets this side open, since the beginning.
    openable_by_peer: u64,
    /// Streams the peer has opened.
    accepted: u32,
    /// Of those, how many are over, with the work behind them.
    accepted_over: u64,
    /// Streams this side has let the peer open, since the beginning, as announced.
    granted: u64,
    /// The peer's last GOAWAY: it serves streams of this side up to here.
    peer_serves: Option<StreamId>,
    /// GOAWAYs that the peer has sent.
    goaways: u8,
    liveness: Liveness,
    drain: Drain,
    is_lost: bool,
    /// The pipe takes nothing more, and may still have something to give.
    is_mute: bool,
    stalls: Stalls,
    stats: Stats,
}

impl Mux {
    /// A link that begins at `now`. Its preface is ready to be sent at once.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] as [`Config::validate`].
    pub fn new(side: Side, config: Config, now: Instant) -> Result<Self, ConfigError> {
        config.validate()?;
        let memory = &config.memory;
        let pool_octets = config.receive_memory_max - config.floors();
        let pool = GrowthPool::new(pool_octets, config.stream_window, Lease::new(memory.clone()));
        let floors = |streams| Floors::new(config.stream_window, streams, memory.clone());
        let own_floors = floors(config.open_streams_max);
        let peer_floors = floors(config.accept_streams_max);
        let hello = Hello { streams: peer_floors.streams(), ..Hello::of(&config) };
        let slots = LinkSlots { preface: Some(hello.encode(side)), ..LinkSlots::default() };
        Ok(Self {
            side,
            phase: Phase::Preface,
            decoder: Decoder::new(config.frame_limits()),
            peer: None,
            streams: Table::default(),
            granted: peer_floors.streams().into(),
            pool,
            own_floors,
            peer_floors,
            events: VecDeque::new(),
            openings: VecDeque::new(),
            is_turn_of_others: false,
            control: VecDeque::new(),
            ready: Schedule::default(),
            budgets: Budgets::new(now),
            slots,
            opened: 0,
            opened_over: 0,
            openable_by_peer: 0,
            accepted: 0,
            accepted_over: 0,
            peer_serves: None,
            goaways: 0,
            liveness: Liveness::new(now, now + config.hello_timeout),
            drain: Drain::No,
            is_lost: false,
            is_mute: false,
            stalls: Stalls::default(),
            stats: Stats::default(),
            config,
        })
    }

    /// How many octets taken from the stream are worth a grant: a quarter of its window, and at
    /// most 512 KiB.
    pub fn grant_step(&self, id: StreamId) -> usize {
        let step = self.streams.get(id).map_or(0, |stream| stream.window.step());
        usize::try_from(step).unwrap_or(usize::MAX)
    }

    /// Octets that a stream has room for when it is opened.
    pub fn initial_room(&self) -> usize {
        let credit = self.peer.as_ref().map_or(0, |peer| peer.stream_window);
        credit.min(self.config.send_queue_max) as usize
    }

    /// Which side this is.
    pub fn side(&self) -> Side {
        self.side
    }

    /// What the peer said about itself, once it has.
    pub fn peer(&self) -> Option<&Hello> {
        self.peer.as_deref()
    }

    /// Why the link ended, once it has.
    pub fn closed(&self) -> Option<&LinkError> {
        match &self.phase {
            Phase::Closed(error) => Some(error),
            _ => None,
        }
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        Stats {
            streams_opened: u64::from(self.opened),
            streams_accepted: u64::from(self.accepted),
            streams_open: self.streams.len(),
            listener_streams_open: self.streams.of_listener(),
            window_growth: self.pool.lent(),
            memory_reserved: self.pool.lent() + self.own_floors.held() + self.peer_floors.held(),
            credit_stalls: self.stalls.begun(),
            streams_stalled: self.stalls.streams(),
            credit_stalled_for: self.stalls.lasted(),
            ..self.stats
        }
    }

    /// The next thing that happened, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Ends the link because of `error`, telling the peer. Nothing else is sent or received.
    fn fail(&mut self, error: LinkError) {
        if matches!(self.phase, Phase::Closed(_)) {
            return;
        }
        let text = cut_to(&error.goodbye(), GOAWAY_TEXT_MAX as usize).to_owned();
        let last = self.last_served();
        self.slots.goaway = Some(GoAway { last, code: error.code(), text });
        self.phase = Phase::Closed(error);
        for id in std::mem::take(&mut self.openings) {
            self.refuse(id);
        }
        self.control.clear();
        self.ready.clear();
        self.slots.ping = None;
        self.slots.pong = None;
        self.slots.streams = false;
    }

    /// The highest stream the peer has opened, or [`StreamId::LINK`].
    fn last_accepted(&self) -> StreamId {
        let newest = self.accepted.checked_sub(1);
        newest.and_then(|index| StreamId::nth(self.side.peer(), index)).unwrap_or(StreamId::LINK)
    }

    /// The highest stream of the peer that this side serves. Never rises once it was announced.
    fn last_served(&self) -> StreamId {
        match self.drain {
            Drain::Final { last, .. } => last,
            Drain::No | Drain::Wanted | Drain::Announced { .. } => self.last_accepted(),
        }
    }

    /// Ends a stream of this side that the peer never looked at, so that it may be sent again.
    fn refuse(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        let is_heard = stream.is_heard();
        stream.opening = None;
        stream.slots.reset = None;
        if self.abort(id, StreamCode::REFUSED, RecvEvent::Reset) && is_heard {
            self.events.push_back(Event::Reset { id, code: StreamCode::REFUSED });
        }
        self.remove_if_over(id);
    }

    /// Puts the stream in line to have its slots written.
    fn mark_control(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        if !stream.in_control && stream.opening.is_none() && !stream.slots.is_empty() {
            stream.in_control = true;
            self.control.push_back(id);
        }
    }

    /// Puts the stream in line to have its queue written.
    fn mark_ready(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        if !stream.in_ready && stream.opening.is_none() && !stream.queue.is_empty() {
            stream.in_ready = true;
            self.ready.push(stream.class(), id);
        }
    }

    /// Aborts both halves, the receiving one by `event`. Returns whether either had not ended.
    fn abort(&mut self, id: StreamId, code: StreamCode, event: RecvEvent) -> bool {
        let Some(stream) = self.streams.get_mut(id) else { return false };
        let send = stream.send.on(SendEvent::Reset(code));
        let recv = stream.recv.on(event);
        if send.is_err() && recv.is_err() {
            // No RESET will be sent, so the END that a STOP waits for must still leave.
            return false;
        }
        stream.send = send.unwrap_or(stream.send);
        stream.recv = recv.unwrap_or(stream.recv);
        stream.slots.window = false;
        stream.slots.stop = None;
        stream.slots.end = false;
        stream.slots.owed = None;
        self.clear_queue(id);
        true
    }

    /// Forgets what a stream has queued.
    fn clear_queue(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        self.stats.payload_queued -= stream.clear_queue(&mut self.stalls);
    }

    /// Drops the stream if nothing can happen on it any more, and returns what it held to the link.
    /// Returns whether it was dropped.
    fn remove_if_over(&mut self, id: StreamId) -> bool {
        if !self.streams.get(id).is_some_and(super::stream::Stream::is_over) {
            return false;
        }
        let Some(mut stream) = self.streams.remove(id) else { return false };
        self.budgets.stream_ended(stream.window.unused());
        self.liveness.stream_ended(stream.window.received().max(stream.credit.sent()));
        stream.window.retire(&mut self.pool);
        self.return_stream_credit(stream.is_ours(self.side));
        if stream.slots.forgotten {
            self.events.push_back(Event::Forgotten { id });
        }
        if matches!(self.phase, Phase::Open) {
            self.note_drained();
        }
        true
    }

    fn note_drained(&mut self) {
        if let Drain::Final { told: told @ false, .. } = &mut self.drain
            && self.streams.is_empty()
        {
            *told = true;
            self.events.push_back(Event::Drained);
        }
    }

    /// Holds in debug builds at the end of every public method that changes something.
    fn check_invariants(&self) {
        if !cfg!(debug_assertions) || matches!(self.phase, Phase::Closed(_)) {
            return;
        }
        debug_assert!(u64::from(self.accepted) <= self.granted);
        debug_assert!(u64::from(self.opened) <= self.openable_total() || self.opened == 0);
        let open = u64::from(self.opened) - self.opened_over + u64::from(self.accepted)
            - self.accepted_over;
        debug_assert_eq!(open, self.streams.len() as u64, "every stream is counted once");
        // Linear in the streams: a link with thousands of them would make tests quadratic.
        if self.streams.len() > 64 {
            return;
        }
        let (mut growth, mut queued, mut stalled) = (0, 0, 0);
        for stream in self.streams.iter() {
            stream.check();
            queued += stream.credit.queued();
            stalled += usize::from(stream.is_stalled());
            growth += stream.window.size() - u64::from(self.config.stream_window);
        }
        debug_assert_eq!(queued, self.stats.payload_queued, "what is queued is counted once");
        debug_assert_eq!(stalled, self.stalls.streams(), "a stream that stands still counts once");
        debug_assert_eq!(growth, self.pool.lent(), "what windows grew by was taken from the pool");
    }
}

/// The payload of a frame that carries one number.
fn number(payload: &Bytes) -> u64 {
    payload.first_chunk::<8>().map_or(0, |raw| u64::from_be_bytes(*raw))
}

/// The payload of a RESET or STOP.
fn code(payload: &Bytes) -> StreamCode {
    StreamCode(payload.first_chunk::<4>().map_or(0, |raw| u32::from_be_bytes(*raw)))
}
