//! A path between two engines in virtual time: a rate, a delay each way, a socket's buffer.
//!
//! No thread, no sleep and no clock: time goes from one event to the next. The path is ideal apart
//! from what it is given: it loses nothing, and no congestion window opens slowly, so that what
//! falls short of the line is the mux's own doing. Read [`World`] first.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use relay_core::mux::{BATCH_SLICES, Batch, Config, Event, Mux, Side, StreamId};

/// Octets that wait unsent in a socket before it takes no more, as the `TCP_NOTSENT_LOWAT` of a
/// link's sockets has it.
pub const UNSENT_MAX: u64 = 128 << 10;

/// The longest segment, in octets: what an Ethernet frame carries of a TCP connection.
pub const FRAME: u64 = 1460;

/// What a network card joins of segments that follow each other, in octets.
pub const JOINED: u64 = 64 << 10;

/// Segments that the path carries in a round trip at least, or a rate over one would be a matter of
/// luck.
const SEGMENTS_PER_ROUND_TRIP: u64 = 20;

const NANOS: u64 = 1_000_000_000;

/// What joins the two ends, the same both ways.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// Bits a second at its narrowest point.
    pub bits_per_second: u64,
    /// Time there and back for an octet that waits nowhere.
    pub round_trip: Duration,
    /// Octets that arrive together at most: [`FRAME`] or [`JOINED`].
    pub together: u64,
}

impl Path {
    /// Octets that are on their way when the line is full, for one round trip.
    ///
    /// # Panics
    ///
    /// If there are more than 2^64.
    pub fn octets_per_round_trip(self) -> u64 {
        let octets = u128::from(self.bits_per_second) * self.round_trip.as_nanos() / 8;
        u64::try_from(octets / u128::from(NANOS)).expect("no path is that long")
    }

    /// The time that `octets` take to pass the narrowest point.
    pub fn time_for(self, octets: u64) -> Duration {
        Duration::from_nanos((octets * 8 * NANOS).div_ceil(self.bits_per_second))
    }

    fn segment(self) -> usize {
        let octets = (self.octets_per_round_trip() / SEGMENTS_PER_ROUND_TRIP).min(self.together);
        usize::try_from(octets.max(1)).expect("at most 64 KiB")
    }
}

/// One way: octets wait for the narrowest point, pass it one after the other, and travel.
#[derive(Debug)]
struct Way {
    path: Path,
    /// When all that was sent has passed the narrowest point.
    idle_at: Instant,
    flight: VecDeque<(Instant, Bytes)>,
}

impl Way {
    /// When the sending socket takes more.
    fn writable_at(&self) -> Instant {
        self.idle_at.checked_sub(self.path.time_for(UNSENT_MAX)).expect("the world began before")
    }

    fn send(&mut self, now: Instant, mut octets: Bytes) {
        self.idle_at = self.idle_at.max(now);
        while !octets.is_empty() {
            let segment = octets.split_to(self.path.segment().min(octets.len()));
            self.idle_at += self.path.time_for(segment.len() as u64);
            self.flight.push_back((self.idle_at + self.path.round_trip / 2, segment));
        }
    }

    fn arrived(&mut self, now: Instant) -> Option<Bytes> {
        let (at, _) = self.flight.front()?;
        if *at > now { None } else { self.flight.pop_front().map(|(_, octets)| octets) }
    }
}

/// An engine and the way that it sends into.
#[derive(Debug)]
struct Host {
    mux: Mux,
    input: BytesMut,
    batch: Batch,
    way: Way,
}

impl Host {
    fn new(side: Side, config: Config, path: Path, now: Instant) -> Self {
        Self {
            mux: Mux::new(side, config, now).expect("the settings are valid"),
            input: BytesMut::new(),
            batch: Batch::new(),
            way: Way { path, idle_at: now, flight: VecDeque::new() },
        }
    }

    /// Fills the socket. Returns whether anything was sent.
    fn pump(&mut self, now: Instant) -> bool {
        let mut progress = false;
        while self.way.writable_at() <= now {
            self.mux.poll_transmit(now, &mut self.batch);
            if self.batch.is_empty() {
                break;
            }
            let mut slices = [IoSlice::new(&[]); BATCH_SLICES];
            let used = self.batch.io_slices(&mut slices);
            let mut octets = BytesMut::with_capacity(self.batch.len());
            slices[..used].iter().for_each(|slice| octets.extend_from_slice(slice));
            self.way.send(now, octets.freeze());
            self.batch.advance(self.batch.len());
            progress = true;
        }
        progress
    }

    /// Takes what has arrived by `from`, and does what is due.
    fn hear(&mut self, from: &mut Way, now: Instant) {
        while let Some(octets) = from.arrived(now) {
            self.input.extend_from_slice(&octets);
        }
        self.mux.handle_input(now, &mut self.input).expect("engines understand each other");
        self.mux.handle_timeout(now).expect("nobody is silent");
    }

    /// When this host has something to do by itself.
    fn due(&self, now: Instant) -> Option<Instant> {
        let writable = Some(self.way.writable_at()).filter(|at| *at > now);
        let arrival = self.way.flight.front().map(|(at, _)| *at);
        [writable, arrival, self.mux.poll_timeout()].into_iter().flatten().min()
    }
}

/// A stream, as the one that receives it sees it.
#[derive(Clone, Copy, Debug)]
struct Flow {
    id: StreamId,
    /// Octets of payload that arrived.
    received: u64,
    /// Octets of them that the engine has not been told to be taken.
    held: u64,
    /// It is told once they are so many, as the handles of a link do.
    report: u64,
}

/// A sender that always has payload, a receiver, and the path between them.
#[derive(Debug)]
pub struct World {
    /// The time.
    pub now: Instant,
    /// Whether the receiving application takes what arrives, at once.
    pub takes: bool,
    flows: Vec<Flow>,
    sender: Host,
    receiver: Host,
    payload: Bytes,
}

impl World {
    /// Two hosts that have just been connected.
    ///
    /// # Panics
    ///
    /// If the settings are not valid.
    pub fn new(path: Path, config: &Config) -> Self {
        // Far enough from the clock's own beginning to look back from.
        let now = Instant::now() + Duration::from_hours(1);
        let queue_max = config.send_queue_max.max(config.send_queue_shared) as usize;
        let payload = Bytes::from(vec![7; 2 * queue_max]);
        let accepts = Config { open_streams_max: 0, ..config.clone() };
        let streams = config.accept_streams_max;
        let opens = Config { open_streams_max: streams, accept_streams_max: 0, ..config.clone() };
        Self {
            now,
            takes: true,
            flows: Vec::new(),
            sender: Host::new(Side::Listener, opens, path, now),
            receiver: Host::new(Side::Dialer, accepts, path, now),
            payload,
        }
    }

    /// Opens `count` streams, now, that always have payload to send.
    ///
    /// # Panics
    ///
    /// If so many cannot be opened.
    pub fn open(&mut self, count: usize) {
        for _ in 0..count {
            let id = self.sender.mux.open(Bytes::new(), false).expect("a stream is free");
            self.write(id);
        }
        self.work();
    }

    /// Lets time go on until the sender can open streams.
    ///
    /// # Panics
    ///
    /// If it never can.
    pub fn connect(&mut self) {
        while self.sender.mux.peer().is_none() {
            self.work();
            self.now = self.next().expect("the hello is on its way");
            self.arrive();
        }
    }

    /// Lets time go on by `time`.
    pub fn run(&mut self, time: Duration) {
        let until = self.now + time;
        self.work();
        while let Some(next) = self.next().filter(|next| *next <= until) {
            self.now = next;
            self.arrive();
            self.work();
        }
        self.now = until;
    }

    /// The receiving application takes up to `octets` of what waits on each stream.
    pub fn take(&mut self, octets: u64) {
        for flow in &mut self.flows {
            let taken = octets.min(flow.held);
            flow.held -= taken;
            self.receiver.mux.take(flow.id, usize::try_from(taken).unwrap_or(usize::MAX));
        }
        self.work();
    }

    /// Octets received on each stream.
    pub fn received(&self) -> Vec<u64> {
        self.flows.iter().map(|flow| flow.received).collect()
    }

    /// Octets that wait to be taken.
    pub fn held(&self) -> u64 {
        self.flows.iter().map(|flow| flow.held).sum()
    }

    /// What the receiver's windows have grown by together, in octets.
    pub fn growth(&self) -> u64 {
        self.receiver.mux.stats().window_growth
    }

    /// The round trip that the receiver has measured.
    pub fn measured(&self) -> Option<Duration> {
        self.receiver.mux.round_trip()
    }

    fn next(&self) -> Option<Instant> {
        [self.sender.due(self.now), self.receiver.due(self.now)].into_iter().flatten().min()
    }

    /// What is due by now happens.
    fn arrive(&mut self) {
        let Self { now, sender, receiver, .. } = self;
        receiver.hear(&mut sender.way, *now);
        sender.hear(&mut receiver.way, *now);
    }

    /// Applications and sockets do all that they can do now.
    fn work(&mut self) {
        loop {
            while let Some(event) = self.receiver.mux.poll_event() {
                self.on_received(event);
            }
            while let Some(event) = self.sender.mux.poll_event() {
                let Event::Writable { id } = event else { continue };
                self.write(id);
            }
            let sent = self.sender.pump(self.now);
            let answered = self.receiver.pump(self.now);
            if !sent && !answered {
                return;
            }
        }
    }

    fn on_received(&mut self, event: Event) {
        match event {
            Event::Opened { id, .. } => {
                let report = self.receiver.mux.grant_step(id) as u64;
                self.flows.push(Flow { id, received: 0, held: 0, report });
            }
            Event::Data { id, payload, .. } => {
                let index = id.number() as usize / 2;
                let flow = &mut self.flows[index];
                flow.received += payload.len() as u64;
                flow.held += payload.len() as u64;
                if self.takes && flow.held >= flow.report {
                    let held = std::mem::take(&mut flow.held);
                    self.receiver.mux.take(id, usize::try_from(held).unwrap_or(usize::MAX));
                    flow.report = self.receiver.mux.grant_step(id) as u64;
                }
            }
            _ => {}
        }
    }

    /// More than there ever is room for is written, so that the engine always tells of more room.
    fn write(&mut self, id: StreamId) {
        self.sender.mux.write(id, &mut self.payload.clone()).expect("the stream is open");
    }
}
