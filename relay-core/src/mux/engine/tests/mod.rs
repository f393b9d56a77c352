//! What a hostile peer and a careless owner can do to one link.
//!
//! Each test was written for a fault that this engine or another had.

use std::io::IoSlice;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::{HeadKind, Mux};
use crate::mux::batch::{BATCH_SLICES, Batch};
use crate::mux::config::Config;
use crate::mux::decode::{Decoder, Item};
use crate::mux::error::{LinkError, OpenError, StreamCode};
use crate::mux::event::Event;
use crate::mux::frame::{Flags, Header, Kind, Side, StreamId};

mod budgets;
mod ends;
mod memory;
mod order;
mod queues;
mod stalls;
mod streams;

const CODE: StreamCode = StreamCode(0x142);

/// Two engines and a clock that stands still unless it is moved.
struct Pair {
    gateway: Mux,
    site: Mux,
    now: Instant,
}

impl Pair {
    /// An established, quiet link on which the gateway opens up to `streams`.
    fn new(streams: u32) -> Self {
        let gateway = Config { open_streams_max: streams, ..Config::default() };
        Self::with(gateway, Config { accept_streams_max: streams, ..Config::default() })
    }

    fn with(gateway: Config, site: Config) -> Self {
        let mut pair = Self::before_hello(gateway, site);
        pair.settle();
        while pair.gateway.poll_event().is_some() || pair.site.poll_event().is_some() {}
        pair
    }

    fn before_hello(gateway: Config, site: Config) -> Self {
        let now = Instant::now();
        Self {
            gateway: Mux::new(Side::Listener, gateway, now).unwrap(),
            site: Mux::new(Side::Dialer, site, now).unwrap(),
            now,
        }
    }

    /// Carries octets both ways until neither side has any.
    fn settle(&mut self) {
        loop {
            let out = sent(&mut self.gateway, self.now);
            let back = sent(&mut self.site, self.now);
            if out.is_empty() && back.is_empty() {
                return;
            }
            receive(&mut self.site, self.now, &out).unwrap();
            receive(&mut self.gateway, self.now, &back).unwrap();
        }
    }

    fn carry_to_site(&mut self) {
        let octets = sent(&mut self.gateway, self.now);
        receive(&mut self.site, self.now, &octets).unwrap();
    }

    /// Octets from the site that no site would send.
    fn forge_to_gateway(&mut self, octets: &[u8]) -> Result<(), LinkError> {
        receive(&mut self.gateway, self.now, octets)
    }
}

/// All that `mux` has to send, as the driver would take it: until a batch stays empty.
fn sent(mux: &mut Mux, now: Instant) -> Vec<u8> {
    let mut octets = Vec::new();
    loop {
        let mut batch = Batch::new();
        mux.poll_transmit(now, &mut batch);
        if batch.is_empty() {
            return octets;
        }
        let mut slices = [IoSlice::new(&[]); BATCH_SLICES];
        let used = batch.io_slices(&mut slices);
        slices[..used].iter().for_each(|slice| octets.extend_from_slice(slice));
    }
}

fn receive(mux: &mut Mux, now: Instant, octets: &[u8]) -> Result<(), LinkError> {
    mux.handle_input(now, &mut BytesMut::from(octets))
}

fn forged(kind: Kind, flags: Flags, stream: StreamId, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap();
    let mut octets = Header::encode(kind, flags, stream, len).to_vec();
    octets.extend_from_slice(payload);
    octets
}

fn goaway(last: u32, code: u32) -> Vec<u8> {
    let payload = [last.to_be_bytes(), code.to_be_bytes()].concat();
    forged(Kind::GoAway, Flags::NONE, StreamId::LINK, &payload)
}

/// The kinds of the whole frames in `octets`, which hold no preface.
fn kinds(octets: &[u8]) -> Vec<Kind> {
    let mut decoder = Decoder::new(Config::default().frame_limits());
    let mut input = BytesMut::from(octets);
    let mut kinds = Vec::new();
    while let Some(item) = decoder.next(&mut input).unwrap() {
        kinds.push(match item {
            Item::Frame { kind, .. } => kind,
            Item::Data { .. } => Kind::Data,
            Item::Skipped { .. } => Kind::Pad,
        });
    }
    kinds
}

fn events(mux: &mut Mux) -> Vec<Event> {
    std::iter::from_fn(|| mux.poll_event()).collect()
}

fn tick_before(at: Instant) -> Instant {
    at.checked_sub(Duration::from_nanos(1)).unwrap()
}

fn head() -> Bytes {
    Bytes::from_static(b"head")
}

/// An established link whose site plays the peer by hand: one stream of the gateway, open.
fn with_one_stream() -> (Pair, StreamId) {
    let mut pair = Pair::new(2);
    let id = pair.gateway.open(head(), false).unwrap();
    pair.settle();
    (pair, id)
}
