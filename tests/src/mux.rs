//! Engines, and frames of any form, for the tests of the mux.

use std::io::IoSlice;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use relay_core::mux::reference::decoder::{Front, Limits, front};
use relay_core::mux::{
    Batch, Config, Event, Flags, Header, Hello, Kind, LinkError, Mux, PREFACE_LEN, Side, StreamId,
};

/// The frame as a reference decoder sees it.
pub use relay_core::mux::reference::decoder::Frame;

/// The octets of one frame.
///
/// # Panics
///
/// If `payload` is longer than a header can say.
pub fn frame(kind: Kind, flags: Flags, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("test payloads are short");
    let mut octets = Header::encode(kind, flags, StreamId::from_wire(stream), len).to_vec();
    octets.extend_from_slice(payload);
    octets
}

/// The octets of one frame whose header says what `header` says, right or wrong.
pub fn raw_frame(kind_and_flags: u8, stream: u32, len: u32, payload: &[u8]) -> Vec<u8> {
    let mut octets = len.to_be_bytes()[1..].to_vec();
    octets.push(kind_and_flags);
    octets.extend_from_slice(&stream.to_be_bytes());
    octets.extend_from_slice(payload);
    octets
}

/// Everything `mux` has ready, as one run of octets.
///
/// # Panics
///
/// If it never comes to an end.
pub fn drain_output(mux: &mut Mux, now: Instant) -> Vec<u8> {
    let mut octets = Vec::new();
    for _ in 0..100_000 {
        let mut batch = Batch::new();
        mux.poll_transmit(now, &mut batch);
        if batch.is_empty() {
            return octets;
        }
        let mut slices = [IoSlice::new(&[]); 80];
        let used = batch.io_slices(&mut slices);
        slices[..used].iter().for_each(|slice| octets.extend_from_slice(slice));
    }
    panic!("the engine always has more to send");
}

/// Every event there is.
pub fn events(mux: &mut Mux) -> Vec<Event> {
    std::iter::from_fn(|| mux.poll_event()).collect()
}

/// The frames that `octets` are, preface and hello left out.
///
/// # Panics
///
/// If they are not whole frames within the protocol's widest limits.
pub fn frames(mut octets: &[u8]) -> Vec<Frame> {
    if let Some(preface) = octets.first_chunk::<PREFACE_LEN>()
        && preface.starts_with(&relay_core::mux::MAGIC)
    {
        let [.., l3, l2, l1, l0] = *preface;
        octets = &octets[PREFACE_LEN + u32::from_be_bytes([l3, l2, l1, l0]) as usize..];
    }
    let mut frames = Vec::new();
    while !octets.is_empty() {
        let limits = Limits { payload_max: 65_528, head_max: 65_528 };
        let Front::Frame(frame) = front(octets, limits) else { panic!("not a frame: {octets:?}") };
        assert!(frame.whole, "half a frame was sent");
        octets = &octets[8 + frame.payload.len()..];
        frames.push(frame);
    }
    frames
}

/// Two engines joined by a pipe that delivers at once and whole.
#[derive(Debug)]
pub struct Pair {
    /// Opens odd streams.
    pub listener: Mux,
    /// Opens even streams.
    pub dialer: Mux,
    /// The time, which only the test moves.
    pub now: Instant,
}

impl Pair {
    /// Two established engines without events.
    ///
    /// # Panics
    ///
    /// If the settings are not valid.
    pub fn new(listener: Config, dialer: Config) -> Self {
        let now = Instant::now();
        let listener = Mux::new(Side::Listener, listener, now).expect("the settings are valid");
        let dialer = Mux::new(Side::Dialer, dialer, now).expect("the settings are valid");
        let mut pair = Self { listener, dialer, now };
        pair.settle();
        events(&mut pair.listener);
        events(&mut pair.dialer);
        pair
    }

    /// Carries everything both ways until nothing is left.
    ///
    /// # Panics
    ///
    /// If either refuses what the other sent.
    pub fn settle(&mut self) {
        loop {
            let to_dialer = drain_output(&mut self.listener, self.now);
            let to_listener = drain_output(&mut self.dialer, self.now);
            if to_dialer.is_empty() && to_listener.is_empty() {
                return;
            }
            for (mux, octets) in [(&mut self.dialer, to_dialer), (&mut self.listener, to_listener)]
            {
                let mut input = BytesMut::from(&octets[..]);
                mux.handle_input(self.now, &mut input).expect("engines understand each other");
                assert!(input.is_empty(), "whole frames leave nothing over");
            }
        }
    }
}

/// A listener's engine whose peer is the test itself, octet by octet.
#[derive(Debug)]
pub struct Victim {
    /// The engine.
    pub mux: Mux,
    /// The time, which only the test moves.
    pub now: Instant,
}

impl Victim {
    /// An engine that has heard the hello of a peer with default settings, and sent its own.
    ///
    /// # Panics
    ///
    /// If the settings are not valid.
    pub fn new(config: Config) -> Self {
        let mut victim = Self::before_hello(config);
        victim.hear(&hello(&Config::default())).expect("the hello is valid");
        events(&mut victim.mux);
        drain_output(&mut victim.mux, victim.now);
        victim
    }

    /// An engine that has heard nothing yet.
    ///
    /// # Panics
    ///
    /// If the settings are not valid.
    pub fn before_hello(config: Config) -> Self {
        let now = Instant::now();
        let mux = Mux::new(Side::Listener, config, now).expect("the settings are valid");
        Self { mux, now }
    }

    /// Gives `octets` to the engine.
    ///
    /// # Errors
    ///
    /// What the engine makes of them.
    pub fn hear(&mut self, octets: &[u8]) -> Result<(), LinkError> {
        self.mux.handle_input(self.now, &mut BytesMut::from(octets))
    }

    /// Opens a stream with an empty head and has it sent.
    ///
    /// # Panics
    ///
    /// If the engine opens none.
    pub fn open(&mut self) -> StreamId {
        let id = self.mux.open(Bytes::new(), false).expect("a stream is free");
        drain_output(&mut self.mux, self.now);
        id
    }

    /// The frames that the engine sends now.
    pub fn sends(&mut self) -> Vec<Frame> {
        frames(&drain_output(&mut self.mux, self.now))
    }
}

/// Preface and hello of a dialer with `config`.
pub fn hello(config: &Config) -> Vec<u8> {
    hello_of(config).encode(Side::Dialer)
}

/// What a dialer with `config` says of itself.
pub fn hello_of(config: &Config) -> Hello {
    Hello { link: 7, name: "hostile".to_owned(), epoch: 1, ..Hello::of(config) }
}
