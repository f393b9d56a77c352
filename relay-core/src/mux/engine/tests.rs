//! What a hostile peer and a careless owner can do to one link.
//!
//! Each test was written for a fault that this engine or another had.

use std::io::IoSlice;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::{HeadKind, Mux};
use crate::mux::batch::{BATCH_OCTETS, BATCH_SLICES, Batch};
use crate::mux::config::Config;
use crate::mux::decode::{Decoder, Item};
use crate::mux::error::{LinkError, OpenError, SendError, StreamCode};
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

fn tick_before(at: Instant) -> Instant {
    at.checked_sub(Duration::from_nanos(1)).unwrap()
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
    for end in [Mux::close, |mux: &mut Mux| mux.handle_lost("cut")] {
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

#[test]
fn a_drain_refuses_nothing_that_was_opened_before_it_was_heard() {
    let mut pair = Pair::new(8);
    let opened: Vec<_> =
        (0..8).map(|_| pair.gateway.open(Bytes::from(vec![7; 16_000]), true).unwrap()).collect();
    // GOAWAY and its barrier arrive while the openings wait for the pipe.
    pair.site.drain(pair.now);
    let announced = sent(&mut pair.site, pair.now);
    receive(&mut pair.gateway, pair.now, &announced).unwrap();
    pair.settle();
    let accepted = events(&mut pair.site);
    let served = accepted.iter().filter(|event| matches!(event, Event::Opened { .. })).count();
    assert_eq!(served, opened.len());
    let refused = |event: &Event| matches!(event, Event::Reset { .. });
    assert!(!events(&mut pair.gateway).iter().any(refused));
}

#[test]
fn a_drain_asked_for_before_the_hellos_begins_with_them() {
    let mut pair = Pair::before_hello(Config::default(), Config::default());
    pair.site.drain(pair.now);
    assert!(pair.site.is_draining());
    pair.settle();
    assert!(events(&mut pair.site).contains(&Event::Drained));
    assert!(events(&mut pair.gateway).contains(&Event::GoingAway { code: LinkError::CODE_DONE }));
    assert_eq!(pair.gateway.open(head(), true), Err(OpenError::GoingAway));
}

#[test]
fn a_drain_does_not_give_a_silent_peer_more_time() {
    let mut pair = Pair::new(8);
    let config = Config::default();
    pair.now += config.keep_alive_idle;
    assert_eq!(pair.gateway.handle_timeout(pair.now), Ok(()));
    let due = pair.gateway.poll_timeout();
    assert_eq!(due, Some(pair.now + config.ping_timeout));
    pair.now += config.ping_timeout / 2;
    pair.gateway.drain(pair.now);
    assert_eq!(pair.gateway.poll_timeout(), due);
}

#[test]
fn a_silent_peer_is_given_up_on_the_tick_and_not_before() {
    let mut pair = Pair::new(8);
    let config = Config::default();
    pair.gateway.open(head(), true).unwrap();
    let ping_due = pair.now + config.keep_alive_busy;
    pair.gateway.handle_timeout(tick_before(ping_due)).unwrap();
    assert_eq!(kinds(&sent(&mut pair.gateway, pair.now)), [Kind::Head]);
    pair.gateway.handle_timeout(ping_due).unwrap();
    assert_eq!(kinds(&sent(&mut pair.gateway, ping_due)), [Kind::Ping]);
    let lost_at = ping_due + config.ping_timeout;
    assert_eq!(pair.gateway.handle_timeout(tick_before(lost_at)), Ok(()));
    assert_eq!(pair.gateway.handle_timeout(lost_at), Err(LinkError::Silent));
    assert_eq!(pair.gateway.poll_timeout(), None);
}

#[test]
fn a_peer_without_hello_is_given_up_on_the_tick_whatever_it_sends() {
    let now = Instant::now();
    let config = Config::default();
    let due = now + config.hello_timeout;
    let mut site = Mux::new(Side::Dialer, config.clone(), now).unwrap();
    let mut gateway = Mux::new(Side::Listener, config, now).unwrap();
    let preface = sent(&mut gateway, now);
    let almost = tick_before(due);
    receive(&mut site, almost, &preface[..preface.len() - 1]).unwrap();
    assert_eq!(site.handle_timeout(almost), Ok(()));
    assert_eq!(site.handle_timeout(due), Err(LinkError::HelloTimeout));
}

#[test]
fn a_reset_after_both_halves_have_ended_does_not_swallow_the_end_a_stop_waits_for() {
    let mut pair = Pair::new(1);
    let id = pair.gateway.open(head(), true).unwrap();
    pair.settle();
    pair.gateway.stop(id, CODE);
    pair.carry_to_site();
    pair.site.reset(id, CODE);
    pair.site.release(id);
    pair.gateway.release(id);
    pair.settle();
    assert_eq!(pair.site.stats().streams_open, 0);
    assert_eq!(pair.gateway.stats().streams_open, 0);
    assert!(pair.gateway.open(head(), true).is_ok(), "the stream's credit has returned");
}

#[test]
fn a_reset_that_crosses_an_end_owed_leaves_nothing_to_send() {
    let mut pair = Pair::new(1);
    let id = pair.gateway.open(head(), true).unwrap();
    pair.settle();
    pair.gateway.stop(id, CODE);
    pair.gateway.reset(id, CODE);
    let mut octets = forged(Kind::Stop, Flags::NONE, id, &CODE.0.to_be_bytes());
    octets.extend_from_slice(&sent(&mut pair.gateway, pair.now));
    receive(&mut pair.site, pair.now, &octets).unwrap();
    assert_eq!(kinds(&sent(&mut pair.site, pair.now)), []);
}

#[test]
fn stream_credit_that_returns_without_another_frame_is_announced_at_once() {
    let mut pair = Pair::new(1);
    let id = pair.gateway.open(head(), false).unwrap();
    let floor = Config::default().stream_window as usize;
    pair.gateway.write(id, &mut Bytes::from(vec![7; floor])).unwrap();
    pair.settle();
    pair.site.send_head(id, head(), HeadKind::FinalAndEnd).unwrap();
    pair.settle();
    // A WINDOW becomes due, and then pointless: the half ends before it is written.
    pair.site.take(id, floor);
    pair.gateway.finish(id).unwrap();
    pair.carry_to_site();
    pair.site.release(id);
    assert_eq!(kinds(&sent(&mut pair.site, pair.now)), [Kind::Streams]);
    assert_eq!(pair.site.stats().streams_open, 0);
}

#[test]
fn held_back_stream_credit_is_announced_when_the_peer_runs_low() {
    let mut pair = Pair::new(16);
    let first = pair.gateway.open(head(), true).unwrap();
    pair.settle();
    pair.site.send_head(first, head(), HeadKind::FinalAndEnd).unwrap();
    pair.site.release(first);
    pair.gateway.release(first);
    pair.settle();
    pair.gateway.release(first);
    // One stream is over, 15 are left: too little to announce. The others are open for hours.
    for _ in 0..15 {
        pair.gateway.open(head(), true).unwrap();
    }
    pair.settle();
    assert!(pair.gateway.open(head(), true).is_ok(), "the sixteenth place is free");
}

#[test]
fn an_owner_hears_nothing_more_of_a_stream_it_has_released() {
    let mut pair = Pair::new(8);
    let id = pair.gateway.open(head(), false).unwrap();
    pair.settle();
    pair.site.send_head(id, head(), HeadKind::Final).unwrap();
    let room = pair.gateway.room(id);
    pair.gateway.write(id, &mut Bytes::from(vec![7; room + 1])).unwrap();
    pair.gateway.finish(id).unwrap();
    pair.settle();
    events(&mut pair.gateway);
    pair.gateway.release(id);
    let stop = forged(Kind::Stop, Flags::NONE, id, &CODE.0.to_be_bytes());
    pair.forge_to_gateway(&stop).unwrap();
    let data = forged(Kind::Data, Flags::NONE, id, b"late");
    pair.forge_to_gateway(&data).unwrap();
    let reset = forged(Kind::Reset, Flags::NONE, id, &CODE.0.to_be_bytes());
    pair.forge_to_gateway(&reset).unwrap();
    let about_it = |event: &Event| !matches!(event, Event::Openable | Event::RoundTrip(_));
    assert!(!events(&mut pair.gateway).iter().any(about_it));
}

#[test]
fn a_full_batch_is_not_added_to_however_often_the_peer_asks() {
    let mut pair = Pair::new(8);
    for _ in 0..8 {
        pair.gateway.open(Bytes::from(vec![7; 16_000]), true).unwrap();
    }
    let mut batch = Batch::new();
    pair.gateway.poll_transmit(pair.now, &mut batch);
    assert!(batch.len() >= BATCH_OCTETS);
    let full = batch.len();
    let ping = forged(Kind::Ping, Flags::NONE, StreamId::LINK, &[7; 8]);
    for _ in 0..9 {
        pair.forge_to_gateway(&ping).unwrap();
        pair.gateway.poll_transmit(pair.now, &mut batch);
    }
    assert_eq!(batch.len(), full);
    let kinds = kinds(&sent(&mut pair.gateway, pair.now));
    assert_eq!(kinds.iter().filter(|kind| **kind == Kind::Pong).count(), 1);
}

#[test]
fn a_writer_of_single_octets_costs_no_more_than_it_writes() {
    let mut pair = Pair::new(1);
    let id = pair.gateway.open(head(), false).unwrap();
    let chunk = Bytes::from(vec![7; 4096]);
    while pair.gateway.room(id) > 0 {
        pair.gateway.write(id, &mut chunk.slice(..1)).unwrap();
    }
    let stream = pair.gateway.streams.get(id).unwrap();
    let entries = stream.queue.len();
    assert!(entries <= 32, "32 KiB of credit in entries of 1 KiB, not {entries}");
    let octets = sent(&mut pair.gateway, pair.now);
    assert_eq!(kinds(&octets), [Kind::Head, Kind::Data, Kind::Data]);
}

#[test]
fn small_writes_arrive_in_order_whatever_they_are_merged_with() {
    let mut pair = Pair::new(1);
    let id = pair.gateway.open(head(), false).unwrap();
    let mut expected = Vec::new();
    for (len, octet) in [3, 1100, 1, 1000, 20, 1, 1, 2000, 24].into_iter().zip(1u8..) {
        let payload = vec![octet; len];
        expected.extend_from_slice(&payload);
        pair.gateway.write(id, &mut Bytes::from(payload)).unwrap();
    }
    pair.settle();
    let arrived = events(&mut pair.site).into_iter().filter_map(|event| match event {
        Event::Data { payload, .. } => Some(payload),
        _ => None,
    });
    assert_eq!(arrived.collect::<Vec<_>>().concat(), expected);
}

#[test]
fn an_owner_that_asks_for_room_there_is_is_told_at_once() {
    let mut pair = Pair::new(1);
    let id = pair.gateway.open(head(), false).unwrap();
    pair.gateway.want_room(id);
    assert_eq!(events(&mut pair.gateway), [Event::Writable { id }]);
    // Not twice, and not for a half that takes no more.
    pair.settle();
    pair.gateway.finish(id).unwrap();
    pair.gateway.want_room(id);
    pair.settle();
    let writable = |event: &Event| matches!(event, Event::Writable { .. });
    assert!(!events(&mut pair.gateway).iter().any(writable));
}

#[test]
fn the_ninth_interim_head_is_refused_here_before_it_costs_the_link() {
    let mut pair = Pair::new(1);
    let id = pair.gateway.open(head(), true).unwrap();
    pair.settle();
    for _ in 0..8 {
        pair.site.send_head(id, head(), HeadKind::Interim).unwrap();
    }
    let ninth = pair.site.send_head(id, head(), HeadKind::Interim);
    assert_eq!(ninth, Err(SendError::TooManyInterimHeads));
    pair.site.send_head(id, head(), HeadKind::FinalAndEnd).unwrap();
    pair.settle();
    assert_eq!(pair.gateway.closed(), None);
}

#[test]
fn a_link_whose_stream_numbers_are_used_up_says_so() {
    let mut pair = Pair::new(8);
    let before_last = u32::MAX / 2;
    for mux in [&mut pair.gateway, &mut pair.site] {
        (mux.opened_over, mux.accepted_over) = (before_last.into(), 0);
        mux.openable_by_peer = u64::MAX;
    }
    pair.gateway.opened = before_last;
    (pair.site.accepted, pair.site.accepted_over) = (before_last, before_last.into());
    (pair.site.granted, pair.site.opened_over) = (u64::from(before_last) + 8, 0);

    let last = pair.gateway.open(head(), true).unwrap();
    assert_eq!(last.number(), u32::MAX);
    assert_eq!(events(&mut pair.gateway), [Event::GoingAway { code: LinkError::CODE_DONE }]);
    assert_eq!(pair.gateway.open(head(), true), Err(OpenError::GoingAway));
    pair.settle();
    assert!(matches!(events(&mut pair.site)[..], [Event::Opened { .. }]));
    let again = forged(Kind::Head, Flags::OPEN, last, b"again");
    let verdict = receive(&mut pair.site, pair.now, &again);
    assert_eq!(verdict, Err(LinkError::NotOpen { kind: Kind::Head, stream: last }));
}

#[test]
fn a_stop_that_the_end_has_overtaken_is_not_sent() {
    for last in [Kind::Data, Kind::Reset] {
        let mut pair = Pair::new(1);
        let id = pair.gateway.open(head(), false).unwrap();
        pair.settle();
        pair.site.send_head(id, head(), HeadKind::FinalAndEnd).unwrap();
        pair.settle();
        pair.gateway.finish(id).unwrap();
        pair.site.stop(id, CODE);
        pair.carry_to_site();
        if last == Kind::Reset {
            let reset = forged(Kind::Reset, Flags::NONE, id, &CODE.0.to_be_bytes());
            receive(&mut pair.site, pair.now, &reset).unwrap();
        }
        assert_eq!(kinds(&sent(&mut pair.site, pair.now)), []);
    }
}

/// An established link whose site plays the peer by hand: one stream of the gateway, open.
fn with_one_stream() -> (Pair, StreamId) {
    let mut pair = Pair::new(2);
    let id = pair.gateway.open(head(), false).unwrap();
    pair.settle();
    (pair, id)
}

// [MUX-64] +-
#[test]
fn each_kind_of_busy_work_has_a_budget_and_one_more_ends_the_link_by_its_name() {
    let link = StreamId::LINK;
    let (_, id) = with_one_stream();
    let reset = forged(Kind::Reset, Flags::NONE, id, &CODE.0.to_be_bytes());
    let window = 2 * u64::from(Config::default().payload_max);
    let answered = forged(Kind::Head, Flags::NONE, id, b"h");
    let cases: [(&str, usize, Vec<u8>, Vec<u8>); 6] = [
        // The handshake's own PING has taken one of ten.
        ("PING", 9, vec![], forged(Kind::Ping, Flags::NONE, link, &[0; 8])),
        // Its end excuses what its window could have held, and eight more.
        ("frames for ended streams", 1000 + 127 + 8, reset.clone(), reset),
        ("small DATA", 200_000, answered, forged(Kind::Data, Flags::NONE, id, b"x")),
        ("skipped frames", 1000, vec![], forged(Kind::Pad, Flags::NONE, link, b"")),
        (
            "grants of nothing",
            1000,
            vec![],
            forged(Kind::Window, Flags::NONE, id, &window.to_be_bytes()),
        ),
        (
            "grants of nothing",
            1000,
            vec![],
            forged(Kind::Streams, Flags::NONE, link, &1024_u64.to_be_bytes()),
        ),
    ];
    for (name, burst, before, frame) in cases {
        let config = Config { open_streams_max: 2, ..Config::default() };
        let mut pair = Pair::with(config, Config::default());
        let id = pair.gateway.open(head(), false).unwrap();
        pair.settle();
        pair.forge_to_gateway(&before).unwrap();
        if name == "frames for ended streams" {
            pair.gateway.release(id);
        }
        for count in 0..burst {
            let verdict = pair.forge_to_gateway(&frame);
            assert_eq!(verdict, Ok(()), "{name}: number {count}");
            while pair.gateway.poll_event().is_some() {
                pair.gateway.take(id, 1);
            }
            sent(&mut pair.gateway, pair.now);
        }
        let verdict = pair.forge_to_gateway(&frame);
        assert_eq!(verdict, Err(LinkError::Abuse { what: name }));
        let said = sent(&mut pair.gateway, pair.now);
        assert_eq!(kinds(&said), [Kind::GoAway]);
        assert_eq!(said[12..16], 0x09_u32.to_be_bytes());
    }
}

#[test]
fn a_budget_fills_again_with_time() {
    let mut pair = Pair::new(1);
    let ping = forged(Kind::Ping, Flags::NONE, StreamId::LINK, &[0; 8]);
    for _ in 0..9 {
        pair.forge_to_gateway(&ping).unwrap();
    }
    pair.now += Duration::from_millis(1001);
    assert_eq!(pair.forge_to_gateway(&ping), Ok(()));
    assert_eq!(pair.forge_to_gateway(&ping), Err(LinkError::Abuse { what: "PING" }));
}

/// A link with windows wide enough that credit plays no part.
fn wide() -> Pair {
    let config = Config {
        stream_window: 1 << 20,
        send_queue_max: 1 << 20,
        open_streams_max: 16,
        accept_streams_max: 16,
        ..Config::default()
    };
    Pair::with(config.clone(), config)
}

/// The streams of the frames in `octets`, in order, with their payload's length.
fn order(octets: &[u8]) -> Vec<(u32, usize)> {
    let mut decoder = Decoder::new(Config::default().frame_limits());
    let mut input = BytesMut::from(octets);
    let mut order = Vec::new();
    while let Some(item) = decoder.next(&mut input).unwrap() {
        match item {
            Item::Frame { stream, payload, .. } | Item::Data { stream, payload, .. } => {
                order.push((stream.number(), payload.len()));
            }
            Item::Skipped { .. } => {}
        }
    }
    order
}

/// Opens a stream that has `octets` of payload queued.
fn open_with(pair: &mut Pair, octets: usize) -> StreamId {
    let id = pair.gateway.open(head(), false).unwrap();
    pair.gateway.write(id, &mut Bytes::from(vec![7; octets])).unwrap();
    id
}

#[test]
fn a_short_exchange_overtakes_bulk_that_was_there_before_it() {
    let mut pair = wide();
    let bulk = open_with(&mut pair, 1 << 20);
    let mut batch = Batch::new();
    pair.gateway.poll_transmit(pair.now, &mut batch);
    batch.advance(batch.len());
    let short = open_with(&mut pair, 1000);
    let order = order(&sent(&mut pair.gateway, pair.now));
    let of = |id: StreamId| order.iter().position(|(stream, _)| *stream == id.number());
    assert!(of(short) < of(bulk), "{order:?}");
}

#[test]
fn waiting_bulk_gets_an_octet_for_every_eight_of_short_exchanges() {
    let mut pair = wide();
    let bulk = open_with(&mut pair, 500_000);
    let mut batch = Batch::new();
    pair.gateway.poll_transmit(pair.now, &mut batch);
    batch.advance(batch.len());
    let mut octets_of_bulk = 0;
    let mut octets_of_short = 0;
    for _ in 0..14 {
        open_with(&mut pair, 30_000);
    }
    for (stream, octets) in order(&sent(&mut pair.gateway, pair.now)) {
        if stream == bulk.number() {
            octets_of_bulk += octets;
        } else {
            octets_of_short += octets;
        }
        if octets_of_short == 14 * 30_000 + 14 * 4 {
            break;
        }
    }
    let fair = octets_of_short / 8;
    assert!(octets_of_bulk.abs_diff(fair) <= 16_376, "{octets_of_bulk} of about {fair}");
}

#[test]
fn bulk_streams_get_equal_octets_whatever_their_frames() {
    let mut pair = wide();
    let large = open_with(&mut pair, 600_000);
    let small = pair.gateway.open(head(), false).unwrap();
    // Chunks above what is joined, so that each stays a slice of its own.
    for _ in 0..300 {
        pair.gateway.write(small, &mut Bytes::from(vec![7; 2000])).unwrap();
    }
    let mut sums = [0_usize; 2];
    for (stream, octets) in order(&sent(&mut pair.gateway, pair.now)) {
        sums[usize::from(stream == small.number())] += octets;
        if sums.iter().sum::<usize>() > 900_000 {
            break;
        }
        let apart = sums[0].abs_diff(sums[1]);
        assert!(apart <= 3 * 16_376, "{apart} octets apart after {sums:?}");
    }
    assert!(large != small);
}
