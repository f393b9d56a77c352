//! What a hostile peer and a careless owner can do to one link.
//!
//! Each test was written for a fault that this engine or another had.

use std::io::IoSlice;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::{HeadKind, Mux};
use crate::mux::batch::{BATCH_SLICES, Batch};
use crate::mux::config::Config;
use crate::mux::decode::{Decoder, Item};
use crate::mux::error::{LinkError, StreamCode};
use crate::mux::event::Event;
use crate::mux::frame::{Flags, Header, Kind, Side, StreamId};

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

fn head() -> Bytes {
    Bytes::from_static(b"head")
}

#[test]
fn a_peer_cannot_answer_a_stream_whose_opening_it_has_not_been_sent() {
    let code = CODE.0.to_be_bytes();
    let offset = (1u64 << 20).to_be_bytes();
    let forgeries: [(Kind, Flags, &[u8]); 6] = [
        (Kind::Head, Flags::END, b"answer"),
        (Kind::Data, Flags::END, b"payload"),
        (Kind::Trailers, Flags::NONE, b"fields"),
        (Kind::Reset, Flags::NONE, &code),
        (Kind::Stop, Flags::NONE, &code),
        (Kind::Window, Flags::NONE, &offset),
    ];
    for (kind, flags, payload) in forgeries {
        let mut pair = Pair::new(8);
        let stream = pair.gateway.open(head(), true).unwrap();
        let verdict = pair.forge_to_gateway(&forged(kind, flags, stream, payload));
        assert_eq!(verdict, Err(LinkError::NotOpen { kind, stream }));
    }
}

#[test]
fn closing_after_a_refused_opening_does_not_raise_the_last_stream_of_goaway() {
    let mut pair = Pair::new(8);
    let first = pair.gateway.open(head(), true).unwrap();
    pair.settle();
    pair.site.drain(pair.now);
    // The barrier is answered before the gateway has read GOAWAY: a hostile peer, or a late frame.
    let announced = sent(&mut pair.site, pair.now);
    receive(&mut pair.gateway, pair.now, &announced).unwrap();
    pair.carry_to_site();
    let late = StreamId::nth(Side::Listener, 1).unwrap();
    let opening = forged(Kind::Head, Flags::OPEN.with(Flags::END), late, b"late");
    receive(&mut pair.site, pair.now, &opening).unwrap();
    pair.site.close();

    let octets = sent(&mut pair.site, pair.now);
    assert_eq!(kinds(&octets), [Kind::GoAway]);
    let last = u32::from_be_bytes(*octets[8..].first_chunk().unwrap());
    assert_eq!(last, first.number());
}

#[test]
fn nothing_is_sent_behind_the_goaway_that_closes() {
    let mut pair = Pair::new(1);
    let id = pair.gateway.open(head(), true).unwrap();
    pair.settle();
    pair.site.send_head(id, head(), HeadKind::FinalAndEnd).unwrap();
    pair.settle();
    events(&mut pair.site);
    pair.site.close();
    pair.site.release(id);
    assert_eq!(kinds(&sent(&mut pair.site, pair.now)), [Kind::GoAway]);
    assert_eq!(events(&mut pair.site), []);
}

#[test]
fn a_lost_or_closed_link_tells_which_openings_never_left() {
    for end in [Mux::close, Mux::handle_lost] {
        let mut pair = Pair::new(8);
        let left = pair.gateway.open(head(), false).unwrap();
        pair.settle();
        let unsent = pair.gateway.open(head(), false).unwrap();
        end(&mut pair.gateway);
        let told = events(&mut pair.gateway);
        assert_eq!(told, [Event::Reset { id: unsent, code: StreamCode::REFUSED }]);
        assert_ne!(left, unsent);
    }
}

#[test]
fn a_peer_that_closes_with_an_error_refuses_the_streams_above_its_last() {
    let mut pair = Pair::new(8);
    let served = pair.gateway.open(head(), true).unwrap();
    let above = pair.gateway.open(head(), true).unwrap();
    sent(&mut pair.gateway, pair.now);
    let verdict = pair.forge_to_gateway(&goaway(served.number(), 0x42));
    assert!(matches!(verdict, Err(LinkError::ClosedByPeer { code: 0x42, .. })));
    let told = events(&mut pair.gateway);
    assert_eq!(told, [Event::Reset { id: above, code: StreamCode::REFUSED }]);
}

#[test]
fn goaway_cannot_disown_a_stream_that_was_answered() {
    let mut pair = Pair::new(8);
    let id = pair.gateway.open(head(), true).unwrap();
    pair.settle();
    pair.site.send_head(id, head(), HeadKind::Final).unwrap();
    pair.settle();
    let verdict = pair.forge_to_gateway(&goaway(0, LinkError::CODE_DONE));
    assert_eq!(verdict, Err(LinkError::StreamState { kind: Kind::GoAway, stream: id }));
    let refused = |event: &Event| matches!(event, Event::Reset { .. });
    assert!(!events(&mut pair.gateway).iter().any(refused), "it may not be sent again");
}

#[test]
fn goaway_is_taken_eight_times_and_not_nine() {
    let mut pair = Pair::new(8);
    for last in (1..=8).rev() {
        assert_eq!(pair.forge_to_gateway(&goaway(last, LinkError::CODE_DONE)), Ok(()));
    }
    let verdict = pair.forge_to_gateway(&goaway(0, LinkError::CODE_DONE));
    assert_eq!(verdict, Err(LinkError::Abuse { what: "GOAWAY frames" }));
}
