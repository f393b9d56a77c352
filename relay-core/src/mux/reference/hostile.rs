//! One engine against a peer that sends any octets once it has sent a valid hello.
//!
//! Nothing is predicted but what holds whatever the peer does: the engine says only what it may
//! say, does no more work than the octets are worth, holds no more memory than it was given, and
//! ends, if it ends, by one named error.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::decoder::{Limits, decode_all};
use super::referee::Referee;
use super::{configs, splits};
use crate::mux::{
    Batch, Config, Event, GOAWAY_TEXT_MAX, HEADER_LEN, HeadKind, Hello, Kind, LinkError, Mux, Side,
    StreamCode, StreamId,
};

/// Octets of one run at most, so that one input takes milliseconds.
pub const HOSTILE_OCTETS_MAX: usize = 16 << 10;

/// Payload that the owner sends on each stream, in octets: more than the narrowest window, so that
/// writers wait for credit.
const ANSWER: &[u8] = &[0x5a; 1200];

/// Batches that an engine may have ready before it must run dry.
const BATCHES_MAX: usize = 10_000;

/// Octets of the control frames that one stream may have waiting: RESET, STOP, END and WINDOW.
const STREAM_SLOTS: usize = 12 + 12 + 8 + 16;

/// The same of the link: PING, PONG, STREAMS and GOAWAY.
const LINK_SLOTS: usize = 3 * 16 + HEADER_LEN + 8 + GOAWAY_TEXT_MAX as usize;

/// Octets of preface and hello at most, which wait too if the pipe is stuck.
const PREFACE_MAX: usize = 512;

/// What the owner of the engine does, chosen by one octet; every combination is sensible.
#[derive(Clone, Copy, Debug)]
struct Owner(u8);

impl Owner {
    /// Payload is passed on as it arrives, not kept for ever.
    const TAKES: u8 = 0x01;
    /// Streams of the peer are answered.
    const ANSWERS: u8 = 0x02;
    /// Streams that have ended are let go of.
    const RELEASES: u8 = 0x04;
    /// Nothing is wanted of what the peer sends.
    const STOPS: u8 = 0x08;
    /// Streams are opened whenever one is free.
    const OPENS: u8 = 0x10;
    /// The pipe takes nothing until the peer has said all.
    const STUCK: u8 = 0x20;
    /// The link is drained from the beginning.
    const DRAINS: u8 = 0x40;
    /// Time passes while the peer speaks.
    const WAITS: u8 = 0x80;

    fn does(self, what: u8) -> bool {
        self.0 & what != 0
    }
}

/// What the owner knows of a stream.
#[derive(Debug, Default)]
struct Known {
    /// Payload octets told and not passed on.
    held: u64,
    /// Interim heads told.
    interim_heads: usize,
    /// What is left to write.
    unsent: Bytes,
}

/// What was done for the peer's octets. Each count must be linear in them.
#[derive(Clone, Copy, Debug, Default)]
struct Work {
    /// Parts in which octets arrived, and ticks of the clock.
    parts: usize,
    /// Events told.
    events: usize,
    /// Streams opened by the owner.
    opened: usize,
    /// Commands of the owner.
    commands: usize,
}

/// The engine, its owner, and everything they are judged by.
#[derive(Debug)]
struct Victim {
    mux: Mux,
    config: Config,
    owner: Owner,
    now: Instant,
    input: BytesMut,
    sent: Referee,
    streams: BTreeMap<StreamId, Known>,
    work: Work,
    ended: Option<LinkError>,
}

/// The body of the fuzz target `mux_hostile_peer`.
///
/// The first octet of `data` chooses the settings and the side, the second what the owner does, the
/// next two how the pipe divides the rest, which is what the peer sends after its hello.
///
/// # Panics
///
/// If the engine does what no peer may bring it to.
pub fn mux_hostile_peer(data: &[u8]) {
    let Some((&[settings, owner, seed1, seed0], octets)) = data.split_first_chunk::<4>() else {
        return;
    };
    let octets = &octets[..octets.len().min(HOSTILE_OCTETS_MAX)];
    let mut victim = Victim::new(settings, Owner(owner));
    let mut left = octets;
    for part in splits(octets.len(), u16::from_be_bytes([seed1, seed0])) {
        let (arrived, rest) = left.split_at(part.min(left.len()));
        victim.hear(arrived);
        left = rest;
    }
    victim.end(octets);
}

impl Victim {
    /// An engine that has heard a valid hello.
    fn new(settings: u8, owner: Owner) -> Self {
        let [listener, dialer] = configs(settings);
        let (side, own, peer) = match settings / 5 % 2 {
            0 => (Side::Listener, listener, dialer),
            _ => (Side::Dialer, dialer, listener),
        };
        let now = Instant::now();
        let mut victim = Self {
            mux: Mux::new(side, own.clone(), now).expect("the settings of a pair are valid"),
            sent: Referee::new(side, &own, &peer),
            config: own,
            owner,
            now,
            input: BytesMut::new(),
            streams: BTreeMap::new(),
            work: Work::default(),
            ended: None,
        };
        if owner.does(Owner::DRAINS) {
            victim.mux.drain(now);
        }
        let hello = Hello { name: "hostile".to_owned(), ..Hello::of(&peer) };
        victim.hear(&hello.encode(side.peer()));
        assert!(victim.mux.peer().is_some(), "the hello is valid");
        victim
    }

    /// Octets arrive; the owner does what it does.
    fn hear(&mut self, octets: &[u8]) {
        self.work.parts += 1;
        self.input.extend_from_slice(octets);
        let outcome = self.mux.handle_input(self.now, &mut self.input);
        self.note_end(outcome);
        self.wait();
        while let Some(event) = self.mux.poll_event() {
            self.work.events += 1;
            self.on_event(event);
        }
        if !self.owner.does(Owner::STUCK) {
            self.send_all();
        }
        self.check_memory();
    }

    /// A link ends once, by one error, and stays as it is.
    fn note_end(&mut self, outcome: Result<(), LinkError>) {
        if let Some(error) = &self.ended {
            assert_eq!(outcome.as_ref(), Err(error), "a link that has ended stays as it is");
            return;
        }
        self.ended = outcome.err();
        assert_eq!(self.mux.closed(), self.ended.as_ref(), "the error is the end of the link");
        assert!(self.ended.is_none() || self.input.is_empty(), "nothing of a bad peer is kept");
    }

    fn wait(&mut self) {
        if !self.owner.does(Owner::WAITS) || self.ended.is_some() {
            return;
        }
        self.work.parts += 1;
        self.now += Duration::from_millis(40);
        self.ended = self.mux.handle_timeout(self.now).err();
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Opened { id, end, .. } => {
                assert_eq!(id.opener(), self.mux.side().peer(), "{id} is the peer's");
                let known = Known { unsent: Bytes::from_static(ANSWER), ..Known::default() };
                assert!(self.streams.insert(id, known).is_none(), "{id} opens twice");
                self.on_opened(id, end);
            }
            Event::Head { id, interim, end, .. } => {
                if let Some(known) = self.streams.get_mut(&id) {
                    known.interim_heads += usize::from(interim);
                    assert!(known.interim_heads <= 8, "interim heads of {id}");
                }
                self.on_end_of(id, end);
            }
            Event::Data { id, payload, end } => {
                self.on_data(id, payload.len());
                self.on_end_of(id, end);
            }
            Event::Trailers { id, .. } | Event::Reset { id, .. } | Event::Stopped { id, .. } => {
                self.on_end_of(id, true);
            }
            Event::Writable { id } => self.write(id),
            Event::Established(_) | Event::Openable => self.open(),
            _ => {}
        }
    }

    fn on_data(&mut self, id: StreamId, octets: usize) {
        // An event that waited when the stream was let go of says nothing any more.
        let Some(known) = self.streams.get_mut(&id) else { return };
        if self.owner.does(Owner::TAKES) {
            self.work.commands += 1;
            self.mux.take(id, octets);
        } else {
            known.held += octets as u64;
        }
    }

    fn on_opened(&mut self, id: StreamId, end: bool) {
        if self.owner.does(Owner::STOPS) {
            self.work.commands += 1;
            self.mux.stop(id, StreamCode(0x100));
        }
        if self.owner.does(Owner::ANSWERS) {
            self.work.commands += 1;
            // Refused if the peer has reset the stream meanwhile.
            let _ = self.mux.send_head(id, Bytes::from_static(b"200"), HeadKind::Final);
            self.write(id);
        }
        self.on_end_of(id, end);
    }

    fn on_end_of(&mut self, id: StreamId, end: bool) {
        if end && self.owner.does(Owner::RELEASES) {
            self.work.commands += 1;
            self.mux.release(id);
            self.streams.remove(&id);
        }
    }

    /// Writes what there is room for, and the end behind it.
    fn write(&mut self, id: StreamId) {
        self.work.commands += 1;
        let Some(known) = self.streams.get_mut(&id) else { return };
        if self.mux.write(id, &mut known.unsent).is_ok() && known.unsent.is_empty() {
            let _ = self.mux.finish(id);
        }
    }

    fn open(&mut self) {
        if !self.owner.does(Owner::OPENS) {
            return;
        }
        self.work.commands += 1;
        while let Ok(id) = self.mux.open(Bytes::from_static(b"GET"), false) {
            self.work.opened += 1;
            let known = Known { unsent: Bytes::from_static(ANSWER), ..Known::default() };
            self.streams.insert(id, known);
            self.write(id);
        }
    }

    /// Writes everything that is ready. Returns how many octets that were.
    fn send_all(&mut self) -> usize {
        let mut octets = 0;
        for _ in 0..BATCHES_MAX {
            let mut batch = Batch::new();
            self.mux.poll_transmit(self.now, &mut batch);
            if batch.is_empty() {
                return octets;
            }
            let mut slices = [IoSlice::new(&[]); 80];
            let used = batch.io_slices(&mut slices);
            slices[..used].iter().for_each(|slice| self.sent.see(slice, None));
            octets += batch.len();
        }
        panic!("the engine never runs dry");
    }

    /// What is held at the peer's word is no more than was granted.
    fn check_memory(&self) {
        let stats = self.mux.stats();
        let config = &self.config;
        let streams = u64::from(config.accept_streams_max) + u64::from(config.open_streams_max);
        let floors = streams * u64::from(config.stream_window);
        assert!(stats.window_growth <= config.receive_memory_max - floors, "windows outgrew it");
        let open = stats.streams_open as u64;
        assert!(open <= streams, "more streams than there is memory for");
        let held: u64 = self.streams.values().map(|known| known.held).sum();
        let granted = open * u64::from(config.stream_window) + stats.window_growth;
        assert!(held <= granted || self.ended.is_some(), "{held} octets held, {granted} granted");
        assert!(held <= config.receive_memory_max, "{held} octets held by the owner");
        let theirs = self.streams.keys().filter(|id| id.opener() != self.mux.side()).count();
        assert!(theirs <= config.accept_streams_max as usize, "heads of {theirs} streams held");
        let frame_max = HEADER_LEN + (config.head_max as usize).max(GOAWAY_TEXT_MAX as usize + 8);
        assert!(self.input.len() < frame_max, "{} octets left unread", self.input.len());
    }

    /// The peer has said all: what waits is bounded, and so is what was done.
    fn end(mut self, octets: &[u8]) {
        let streams = self.mux.stats().streams_open;
        let queues = self.config.send_queue_max as usize;
        // A queue may be sent in frames of one octet at worst, but each was queued by the owner.
        let of_stream = STREAM_SLOTS + 3 * HEADER_LEN + 16 + 2 * queues.min(ANSWER.len());
        let waiting = self.send_all();
        let bound = PREFACE_MAX + LINK_SLOTS + streams * of_stream;
        assert!(waiting <= bound, "{waiting} octets wait for the pipe, {bound} at most");

        let sent = self.sent.frames();
        let heard = decode_all(octets, Limits::from(self.config.frame_limits())).frames;
        let goaways = heard.iter().filter(|frame| frame.kind == Kind::GoAway as u8).count();
        // Each has the engine look at every stream.
        assert!(goaways <= 8 || self.ended.is_some(), "{goaways} GOAWAYs are taken");
        let heard = heard.len();
        let Work { parts, events, opened, commands } = self.work;
        let worth = heard + parts + opened;
        assert!(events <= 8 + 3 * worth, "{events} events for {heard} frames in {parts} parts");
        assert!(sent <= 16 + 8 * worth, "{sent} frames sent for {heard} in {parts} parts");
        assert!(commands <= 8 + 8 * worth, "{commands} commands for {heard} frames");
        self.check_end();
    }

    /// A link that has ended has said why, last, and says nothing more.
    fn check_end(&mut self) {
        let Some(error) = self.ended.clone() else { return };
        assert_eq!(self.sent.last_code(), Some(error.code()), "GOAWAY says why, and is the last");
        let before = self.sent.frames();
        let late = self.mux.handle_input(self.now, &mut BytesMut::from(&[0xff; 64][..]));
        assert_eq!(late, Err(error), "the first error stays");
        assert_eq!(self.mux.poll_event(), None, "nothing happens on a link that has ended");
        assert_eq!(self.send_all(), 0, "nothing follows the GOAWAY that ends a link");
        assert_eq!(self.sent.frames(), before);
    }
}
