//! Two engines joined in memory: what the protocol itself costs, without runtime and sockets.
//!
//! Octets are copied once on the way, as a kernel would: out of the sender's batch into the
//! receiver's read buffer. The clock is an argument, so every run does exactly the same work.

use std::io::IoSlice;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use relay_core::mux::{BATCH_SLICES, Batch, Config, Event, HeadKind, IdMap, Mux, Side, StreamId};

use crate::{CHUNK_OCTETS, HEAD_OCTETS, SMALL_DOWN, SMALL_UP, payload};

/// Time that one way takes on the engines' clock.
const ONE_WAY: Duration = Duration::from_micros(50);

/// Octets of a read buffer, as the driver of a link has them.
const READ_BUFFER: usize = 64 << 10;

/// One engine and what stands between it and the pipe.
#[derive(Debug)]
struct End {
    mux: Mux,
    batch: Batch,
    input: BytesMut,
}

impl End {
    fn new(side: Side, config: Config, now: Instant) -> Self {
        let mux = Mux::new(side, config, now).expect("the settings are constants within range");
        Self { mux, batch: Batch::new(), input: BytesMut::new() }
    }
}

/// An established pair: the gateway's engine opens streams, the site's engine answers them.
#[derive(Debug)]
pub struct Engines {
    gateway: End,
    site: End,
    now: Instant,
    /// Octets that the site has still to write, by stream.
    owed: IdMap<usize>,
}

impl Engines {
    /// A pair that has exchanged hellos, with `stream_window` octets of credit for each stream and
    /// up to `streams` of them.
    ///
    /// # Panics
    ///
    /// If the floors of so many streams do not fit a link's default memory of 64 MiB.
    pub fn new(streams: u32, stream_window: u32) -> Self {
        let now = Instant::now();
        let gateway = Config {
            accept_streams_max: 0,
            open_streams_max: streams,
            stream_window,
            ..Config::default()
        };
        let site = Config { accept_streams_max: streams, open_streams_max: 0, ..Config::default() };
        let mut pair = Self {
            gateway: End::new(Side::Listener, gateway, now),
            site: End::new(Side::Dialer, site, now),
            now,
            owed: IdMap::default(),
        };
        for _ in 0..2 {
            pair.round_trip();
        }
        while pair.gateway.mux.poll_event().is_some() || pair.site.mux.poll_event().is_some() {}
        pair
    }

    /// Carries what is ready there and back.
    fn round_trip(&mut self) {
        self.now += ONE_WAY;
        carry(&mut self.gateway, &mut self.site, self.now);
        self.now += ONE_WAY;
        carry(&mut self.site, &mut self.gateway, self.now);
    }

    /// Has the site send `octets` in equal parts on `streams` streams at once, and waits for the
    /// last of them.
    ///
    /// # Panics
    ///
    /// If the engines refuse what the protocol allows.
    pub fn download(&mut self, streams: usize, octets: usize) {
        for _ in 0..streams {
            self.gateway.mux.open(payload(HEAD_OCTETS), true).expect("a stream is free");
        }
        let mut open = streams;
        while open > 0 {
            self.now += ONE_WAY;
            carry(&mut self.gateway, &mut self.site, self.now);
            self.answer_in_bulk(octets / streams);
            self.now += ONE_WAY;
            carry(&mut self.site, &mut self.gateway, self.now);
            open -= self.take_answers();
        }
    }

    /// The site's part of a download: as much as credit and queues have room for.
    fn answer_in_bulk(&mut self, octets: usize) {
        loop {
            while let Some(event) = self.site.mux.poll_event() {
                match event {
                    Event::Opened { id, .. } => {
                        let head = payload(HEAD_OCTETS);
                        let sent = self.site.mux.send_head(id, head, HeadKind::Final);
                        sent.expect("a stream just opened awaits its head");
                        self.owed.insert(id, octets);
                        self.write_owed(id);
                    }
                    Event::Writable { id } => self.write_owed(id),
                    _ => {}
                }
            }
            // What the queues hold makes room for more once it is on its way.
            if !carry(&mut self.site, &mut self.gateway, self.now) {
                return;
            }
        }
    }

    fn write_owed(&mut self, id: StreamId) {
        let Some(owed) = self.owed.get_mut(&id) else { return };
        while *owed > 0 {
            let mut chunk = payload(CHUNK_OCTETS.min(*owed));
            *owed -= chunk.len();
            self.site.mux.write(id, &mut chunk).expect("the half is open");
            if !chunk.is_empty() {
                *owed += chunk.len();
                return;
            }
        }
        self.owed.remove(&id);
        self.site.mux.finish(id).expect("the half is open");
        self.site.mux.release(id);
    }

    /// The gateway's part: takes what came, and returns how many streams ended.
    fn take_answers(&mut self) -> usize {
        let mut ended = 0;
        while let Some(event) = self.gateway.mux.poll_event() {
            let Event::Data { id, payload, end } = event else { continue };
            self.gateway.mux.take(id, payload.len());
            if end {
                self.gateway.mux.release(id);
                ended += 1;
            }
        }
        ended
    }

    /// Makes `in_flight` small exchanges at once, [`SMALL_UP`] octets up and [`SMALL_DOWN`] down.
    ///
    /// # Panics
    ///
    /// If the engines refuse what the protocol allows, or lose an answer.
    pub fn small_exchanges(&mut self, in_flight: usize) {
        for _ in 0..in_flight {
            let gateway = &mut self.gateway.mux;
            let id = gateway.open(payload(HEAD_OCTETS), false).expect("a stream is free");
            gateway.write(id, &mut payload(SMALL_UP)).expect("the half is open");
            gateway.finish(id).expect("the half is open");
        }
        let mut open = in_flight;
        while open > 0 {
            self.now += ONE_WAY;
            carry(&mut self.gateway, &mut self.site, self.now);
            self.answer_small();
            self.now += ONE_WAY;
            carry(&mut self.site, &mut self.gateway, self.now);
            open -= self.take_answers();
        }
    }

    fn answer_small(&mut self) {
        while let Some(event) = self.site.mux.poll_event() {
            let Event::Data { id, payload: request, end } = event else { continue };
            let site = &mut self.site.mux;
            site.take(id, request.len());
            if end {
                let sent = site.send_head(id, payload(HEAD_OCTETS), HeadKind::Final);
                sent.expect("a stream just opened awaits its head");
                site.write(id, &mut payload(SMALL_DOWN)).expect("the half is open");
                site.finish(id).expect("the half is open");
                site.release(id);
            }
        }
    }
}

/// Carries everything that `from` has ready to `to`. Returns whether there was anything.
fn carry(from: &mut End, to: &mut End, now: Instant) -> bool {
    let mut any = false;
    loop {
        from.mux.poll_transmit(now, &mut from.batch);
        if from.batch.is_empty() {
            return any;
        }
        any = true;
        if to.input.capacity() - to.input.len() < READ_BUFFER / 4 {
            to.input.reserve(READ_BUFFER);
        }
        let mut slices = [IoSlice::new(&[]); BATCH_SLICES];
        let used = from.batch.io_slices(&mut slices);
        slices[..used].iter().for_each(|slice| to.input.extend_from_slice(slice));
        let len = from.batch.len();
        from.batch.advance(len);
        to.mux.handle_input(now, &mut to.input).expect("an engine sends what an engine takes");
    }
}

/// Sends one frame after the other to a peer that grants credit at once: the sender's half alone.
#[derive(Debug)]
pub struct Sender {
    site: End,
    now: Instant,
    streams: Vec<StreamId>,
    sent: u64,
}

impl Sender {
    /// A site's engine with an answer under way on each of `streams` streams, with `window` octets
    /// of credit each.
    ///
    /// # Panics
    ///
    /// If the floors of so many streams do not fit a link's default memory of 64 MiB.
    pub fn new(streams: u32, window: u32) -> Self {
        let mut pair = Engines::new(streams, window);
        for _ in 0..streams {
            pair.gateway.mux.open(payload(HEAD_OCTETS), true).expect("a stream is free");
        }
        carry(&mut pair.gateway, &mut pair.site, pair.now);
        let mut streams = Vec::new();
        while let Some(event) = pair.site.mux.poll_event() {
            let Event::Opened { id, .. } = event else { continue };
            let sent = pair.site.mux.send_head(id, payload(HEAD_OCTETS), HeadKind::Final);
            sent.expect("a stream just opened awaits its head");
            streams.push(id);
        }
        let mut sender = Self { site: pair.site, now: pair.now, streams, sent: 0 };
        sender.flush();
        sender
    }

    /// Sends `payload` on every stream, in as many frames and batches as it takes, and returns the
    /// octets that a pipe would have been given. It must fit a stream's queue and window.
    ///
    /// # Panics
    ///
    /// If `payload` is larger than that.
    pub fn send(&mut self, payload: &Bytes) -> usize {
        for &id in &self.streams {
            let mut payload = payload.clone();
            self.site.mux.write(id, &mut payload).expect("the half is open");
            assert!(payload.is_empty(), "the payload exceeds what a stream has room for");
        }
        let octets = self.flush();
        self.sent += payload.len() as u64;
        octets
    }

    /// Has the peer grant anew what was sent so far.
    ///
    /// # Panics
    ///
    /// If the engine refuses the grant.
    pub fn grant(&mut self, window: u64) {
        use relay_core::mux::{Flags, Header, Kind};
        for &id in &self.streams {
            let header = Header::encode(Kind::Window, Flags::NONE, id, 8);
            self.site.input.extend_from_slice(&header);
            self.site.input.extend_from_slice(&(self.sent + window).to_be_bytes());
        }
        let granted = self.site.mux.handle_input(self.now, &mut self.site.input);
        granted.expect("a grant that rises is taken");
    }

    fn flush(&mut self) -> usize {
        let mut octets = 0;
        loop {
            self.site.mux.poll_transmit(self.now, &mut self.site.batch);
            let len = self.site.batch.len();
            if len == 0 {
                return octets;
            }
            let mut slices = [IoSlice::new(&[]); BATCH_SLICES];
            let used = self.site.batch.io_slices(&mut slices);
            std::hint::black_box(&slices[..used]);
            self.site.batch.advance(len);
            octets += len;
        }
    }
}

/// Takes one frame after the other from a peer that has credit enough: the receiver's half alone.
#[derive(Debug)]
pub struct Receiver {
    gateway: End,
    now: Instant,
}

impl Receiver {
    /// A gateway's engine with an answer under way on its first stream, for which it has granted
    /// `window` octets.
    ///
    /// # Panics
    ///
    /// If the engines refuse what the protocol allows.
    pub fn new(window: u32) -> Self {
        let mut pair = Engines::new(1, window);
        let opened = pair.gateway.mux.open(payload(HEAD_OCTETS), true);
        let stream = opened.expect("a stream is free");
        carry(&mut pair.gateway, &mut pair.site, pair.now);
        let sent = pair.site.mux.send_head(stream, payload(HEAD_OCTETS), HeadKind::Final);
        sent.expect("a stream just opened awaits its head");
        carry(&mut pair.site, &mut pair.gateway, pair.now);
        while pair.gateway.mux.poll_event().is_some() {}
        Self { gateway: pair.gateway, now: pair.now }
    }

    /// Takes all of `input`, as much as a pipe gives at once, and returns the payload octets.
    ///
    /// # Panics
    ///
    /// If the engine refuses what its peer sends.
    pub fn receive(&mut self, input: &mut BytesMut) -> usize {
        let mux = &mut self.gateway.mux;
        mux.handle_input(self.now, input).expect("the frames are valid and have credit");
        let mut octets = 0;
        while let Some(event) = mux.poll_event() {
            let Event::Data { id, payload, .. } = event else { continue };
            octets += std::hint::black_box(&payload).len();
            mux.take(id, payload.len());
        }
        octets
    }
}
