//! What `PROTOCOL.md` demands and no other test shows, number by number: by octets in and out of
//! one engine. `protocol.rs` holds that every number has its tests.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

#[path = "mux_protocol/goodbye.rs"]
mod goodbye;
#[path = "mux_protocol/last_word.rs"]
mod last_word;

use std::time::{Duration, Instant};

use allocation_counter::measure;
use bytes::{Bytes, BytesMut};
use relay_core::mux::reference::decoder::Frame;
use relay_core::mux::{
    Batch, Config, Event, Flags, FrameError, HeadKind, Kind, LinkError, OpenError, PREFACE_LEN,
    SendError, StreamCode, StreamId,
};
use relay_tests::mux::{Victim, drain_output, events, frame, frames, hello, raw_frame};

const CODE: StreamCode = StreamCode(0x142);

const ALL: u32 = u32::MAX;

fn config() -> Config {
    Config {
        stream_window: 4096,
        receive_memory_max: 1 << 20,
        accept_streams_max: 16,
        open_streams_max: 8,
        ..Config::default()
    }
}

fn victim() -> Victim {
    Victim::new(config())
}

const fn id(number: u32) -> StreamId {
    StreamId::from_wire(number)
}

fn head(flags: Flags, stream: u32) -> Vec<u8> {
    frame(Kind::Head, flags, stream, b"head")
}

fn data(flags: Flags, stream: u32, octets: usize) -> Vec<u8> {
    frame(Kind::Data, flags, stream, &vec![7; octets])
}

fn reset(stream: u32) -> Vec<u8> {
    frame(Kind::Reset, Flags::NONE, stream, &CODE.0.to_be_bytes())
}

fn stop(stream: u32) -> Vec<u8> {
    frame(Kind::Stop, Flags::NONE, stream, &CODE.0.to_be_bytes())
}

fn pong(number: u64) -> Vec<u8> {
    frame(Kind::Pong, Flags::NONE, 0, &number.to_be_bytes())
}

fn ping() -> Vec<u8> {
    frame(Kind::Ping, Flags::NONE, 0, b"octets!!")
}

fn goaway(last: u32, code: u32) -> Vec<u8> {
    let payload = [last.to_be_bytes(), code.to_be_bytes()].concat();
    frame(Kind::GoAway, Flags::NONE, 0, &payload)
}

/// The kinds and flags of the frames that leave now.
fn kinds(victim: &mut Victim) -> Vec<(Kind, Flags)> {
    let kind = |frame: &Frame| Kind::ALL.into_iter().find(|kind| *kind as u8 == frame.kind);
    victim.sends().iter().map(|f| (kind(f).unwrap(), Flags::from_bits(f.flags))).collect()
}

const OPENING: (Kind, Flags) = (Kind::Head, Flags::OPEN);
const END: (Kind, Flags) = (Kind::Data, Flags::END);
const DATA: (Kind, Flags) = (Kind::Data, Flags::NONE);
const RESET: (Kind, Flags) = (Kind::Reset, Flags::NONE);
const STOP: (Kind, Flags) = (Kind::Stop, Flags::NONE);
const WINDOW: (Kind, Flags) = (Kind::Window, Flags::NONE);
const STREAMS: (Kind, Flags) = (Kind::Streams, Flags::NONE);
const PING: (Kind, Flags) = (Kind::Ping, Flags::NONE);
const PONG: (Kind, Flags) = (Kind::Pong, Flags::NONE);
const GOAWAY: (Kind, Flags) = (Kind::GoAway, Flags::NONE);

/// A stream of the peer, opened with `flags`, whose opening the owner has been told of.
fn accepted(flags: Flags) -> Victim {
    let mut victim = victim();
    victim.hear(&head(Flags::OPEN.with(flags), 2)).unwrap();
    assert!(matches!(events(&mut victim.mux)[..], [Event::Opened { .. }]));
    victim
}

fn one_tick_before(due: Instant) -> Instant {
    due.checked_sub(Duration::from_nanos(1)).unwrap()
}

// [MUX-09] +-
#[test]
fn before_the_peers_hello_only_the_preface_and_a_goodbye_leave() {
    let mut victim = Victim::before_hello(config());
    assert_eq!(victim.mux.open(Bytes::new(), true), Err(OpenError::NotUp));
    let octets = drain_output(&mut victim.mux, victim.now);
    let len = usize::from(octets[PREFACE_LEN - 1]);
    assert_eq!(octets.len(), PREFACE_LEN + len, "preface and hello");
    victim.now += config().hello_timeout / 2;
    assert_eq!(victim.mux.handle_timeout(victim.now), Ok(()));
    assert_eq!(kinds(&mut victim), []);
    victim.mux.close();
    assert_eq!(kinds(&mut victim), [GOAWAY]);
}

// [MUX-16] +-
#[test]
fn a_length_allocates_nothing_before_it_is_within_its_limit_and_the_octets_are_there() {
    let cases = [
        (raw_frame(0x00, 2, 0xff_ffff, b""), false),
        (raw_frame(0x10, 2, 0xff_ffff, b""), false),
        (raw_frame(0x90, 2, 65_529, b""), false),
        (raw_frame(0x00, 2, 65_528, b"first"), true),
        (raw_frame(0x90, 2, 65_528, b"first"), true),
    ];
    let wide = Config { payload_max: 65_528, head_max: 65_528, stream_window: 1 << 20, ..config() };
    for (octets, is_taken) in cases {
        let config = Config { receive_memory_max: 1 << 25, ..wide.clone() };
        let mut victim = Victim::new(config);
        victim.hear(&head(Flags::OPEN, 2)).unwrap();
        let mut input = BytesMut::from(&octets[..]);
        let mut outcome = Ok(());
        let cost = measure(|| outcome = victim.mux.handle_input(victim.now, &mut input));
        assert_eq!(outcome.is_ok(), is_taken, "{octets:02x?}");
        assert!(cost.bytes_max < 2048, "{octets:02x?} allocates {}", cost.bytes_max);
        let too_long = matches!(outcome, Err(LinkError::Frame(FrameError::TooLong { .. })));
        assert_eq!(too_long, !is_taken);
    }
}

// [MUX-19] +
#[test]
fn any_frame_is_taken_for_a_stream_whose_opening_has_left() {
    let cases = [
        frame(Kind::Head, Flags::NONE, 1, b"200"),
        reset(1),
        stop(1),
        frame(Kind::Window, Flags::NONE, 1, &u64::MAX.to_be_bytes()),
    ];
    for octets in cases {
        let mut victim = victim();
        assert_eq!(victim.open(), id(1));
        assert_eq!(victim.hear(&octets), Ok(()), "{octets:02x?}");
    }
}

// [MUX-21] +
#[test]
fn a_stream_that_is_aborted_before_its_opening_left_is_opened_all_the_same() {
    let mut reset = victim();
    let stream = reset.mux.open(Bytes::from_static(b"GET"), false).unwrap();
    reset.mux.write(stream, &mut Bytes::from_static(b"never sent")).unwrap();
    reset.mux.reset(stream, CODE);
    assert_eq!(kinds(&mut reset), [OPENING, RESET]);

    let mut stopped = victim();
    let stream = stopped.mux.open(Bytes::from_static(b"GET"), false).unwrap();
    stopped.mux.stop(stream, CODE);
    assert_eq!(kinds(&mut stopped), [OPENING, STOP]);
}

// [MUX-21] -
#[test]
fn a_stream_that_a_goaway_refuses_before_its_opening_left_is_never_sent() {
    let mut victim = victim();
    let aborted = victim.mux.open(Bytes::from_static(b"GET"), false).unwrap();
    victim.mux.open(Bytes::from_static(b"GET"), false).unwrap();
    victim.mux.reset(aborted, CODE);
    victim.hear(&goaway(0, 0)).unwrap();
    assert_eq!(kinds(&mut victim), []);
}

// [MUX-24] +
#[test]
fn a_half_ends_by_its_last_payload_by_its_head_by_trailers_or_by_reset() {
    let mut victim = victim();
    let with_payload = victim.open();
    victim.mux.write(with_payload, &mut Bytes::from_static(b"payload")).unwrap();
    victim.mux.finish(with_payload).unwrap();
    assert_eq!(kinds(&mut victim), [END], "END is folded into the last DATA");

    victim.mux.open(Bytes::from_static(b"GET"), true).unwrap();
    assert_eq!(kinds(&mut victim), [(Kind::Head, Flags::OPEN.with(Flags::END))]);

    let with_trailers = victim.open();
    victim.mux.send_trailers(with_trailers, Bytes::from_static(b"sum")).unwrap();
    assert_eq!(kinds(&mut victim), [(Kind::Trailers, Flags::NONE)]);

    let cut = victim.open();
    victim.mux.reset(cut, CODE);
    assert_eq!(kinds(&mut victim), [RESET]);
}

// [MUX-24] -
#[test]
fn nothing_is_queued_or_sent_on_a_half_that_has_ended() {
    type End = fn(&mut Victim, StreamId);
    let ends: [(End, SendError); 3] = [
        (|v, id| v.mux.finish(id).unwrap(), SendError::Finished),
        (|v, id| v.mux.send_trailers(id, Bytes::new()).unwrap(), SendError::Finished),
        (|v, id| v.mux.reset(id, CODE), SendError::Reset(CODE)),
    ];
    for (end, error) in ends {
        let mut victim = victim();
        let stream = victim.open();
        end(&mut victim, stream);
        assert_eq!(kinds(&mut victim).len(), 1, "the end");
        assert_eq!(victim.mux.write(stream, &mut Bytes::from_static(b"more")), Err(error));
        assert_eq!(victim.mux.finish(stream), Err(error));
        assert_eq!(victim.mux.send_trailers(stream, Bytes::new()), Err(error));
        assert_eq!(kinds(&mut victim), []);
    }
}

// [MUX-25] +
#[test]
fn a_stop_is_answered_by_a_bare_end_and_what_was_queued_is_dropped() {
    let mut awaiting = accepted(Flags::END);
    awaiting.hear(&stop(2)).unwrap();
    assert_eq!(kinds(&mut awaiting), [], "its owner may be at work");
    awaiting.mux.release(id(2));
    assert_eq!(kinds(&mut awaiting), [END], "also where a head was due");

    for finishes in [false, true] {
        let mut sending = victim();
        let stream = sending.open();
        sending.mux.write(stream, &mut Bytes::from(vec![7; 3000])).unwrap();
        if finishes {
            sending.mux.finish(stream).unwrap();
        }
        sending.hear(&stop(1)).unwrap();
        assert_eq!(events(&mut sending.mux), [Event::Stopped { id: stream, code: CODE }]);
        let said = sending.sends();
        assert!(
            matches!(&said[..], [Frame { kind: 0, flags: 1, payload, .. }] if payload.is_empty())
        );
    }
}

// [MUX-25] -
#[test]
fn a_stop_that_finds_its_half_ended_is_ignored() {
    for ends_by_reset in [false, true] {
        let mut victim = victim();
        let stream = victim.open();
        if ends_by_reset {
            victim.mux.reset(stream, CODE);
        } else {
            victim.mux.finish(stream).unwrap();
        }
        victim.sends();
        assert_eq!(victim.hear(&stop(1)), Ok(()));
        assert_eq!((events(&mut victim.mux), kinds(&mut victim)), (vec![], vec![]));
    }
}

// [MUX-26] +-
#[test]
fn an_end_owed_to_a_stop_leaves_unless_a_reset_takes_its_place() {
    let mut over = accepted(Flags::END);
    over.hear(&stop(2)).unwrap();
    over.mux.reset(id(2), CODE);
    assert_eq!(kinds(&mut over), []);
    over.mux.release(id(2));
    assert_eq!(kinds(&mut over), [END], "nothing was left to abort");

    let mut open = accepted(Flags::NONE);
    open.hear(&stop(2)).unwrap();
    open.mux.reset(id(2), CODE);
    assert_eq!(kinds(&mut open), [RESET], "the RESET says it for both halves");
    open.mux.release(id(2));
    assert_eq!(kinds(&mut open), [], "once is enough");
}

// [MUX-28] -
#[test]
fn a_ninth_interim_head_is_refused_to_its_owner() {
    let mut victim = accepted(Flags::END);
    for _ in 0..8 {
        victim.mux.send_head(id(2), Bytes::new(), HeadKind::Interim).unwrap();
    }
    let ninth = victim.mux.send_head(id(2), Bytes::new(), HeadKind::Interim);
    assert_eq!(ninth, Err(SendError::TooManyInterimHeads));
    assert_eq!(kinds(&mut victim), [(Kind::Head, Flags::INFORMATIONAL); 8]);
}

// [MUX-29] +
#[test]
fn what_arrives_on_a_stopped_half_is_thrown_away_and_a_stop_that_comes_too_late_is_not_sent() {
    let mut victim = accepted(Flags::NONE);
    victim.mux.stop(id(2), CODE);
    assert_eq!(kinds(&mut victim), [STOP]);
    let rest = [data(Flags::NONE, 2, 4096), frame(Kind::Trailers, Flags::NONE, 2, b"sum")];
    assert_eq!(victim.hear(&rest.concat()), Ok(()));
    assert_eq!((events(&mut victim.mux), kinds(&mut victim)), (vec![], vec![]));

    let mut late = accepted(Flags::NONE);
    late.mux.stop(id(2), CODE);
    late.hear(&data(Flags::END, 2, 0)).unwrap();
    assert_eq!(kinds(&mut late), []);
}

// [MUX-30] +-
#[test]
fn a_reset_aborts_both_halves_and_is_answered_once_the_acceptors_owner_has_let_go() {
    let mut victim = accepted(Flags::NONE);
    victim.mux.send_head(id(2), Bytes::new(), HeadKind::Final).unwrap();
    victim.mux.write(id(2), &mut Bytes::from_static(b"never sent")).unwrap();
    victim.hear(&reset(2)).unwrap();
    assert_eq!(events(&mut victim.mux), [Event::Reset { id: id(2), code: CODE }]);
    let refused = victim.mux.write(id(2), &mut Bytes::from_static(b"more"));
    assert_eq!(refused, Err(SendError::Reset(CODE)));
    assert_eq!(victim.hear(&data(Flags::END, 2, 4096)), Ok(()), "what crossed it is ignored");
    assert_eq!((events(&mut victim.mux), kinds(&mut victim)), (vec![], vec![]));
    assert!(!victim.mux.release(id(2)));
    let said = victim.sends();
    assert!(matches!(&said[..], [Frame { kind: 2, payload, .. }] if payload[..] == [0, 0, 0, 4]));
    assert_eq!(victim.mux.stats().streams_open, 0);
}

// [MUX-31] +-
#[test]
fn a_reset_takes_back_what_its_receiver_was_about_to_send_on_that_stream_alone() {
    let mut victim = victim();
    let openings = [2, 4, 6, 8, 10].map(|stream| head(Flags::OPEN, stream)).concat();
    victim.hear(&openings).unwrap();
    victim.mux.reset(id(2), CODE);
    victim.mux.stop(id(4), CODE);
    victim.hear(&stop(6)).unwrap();
    victim.mux.reset(id(8), CODE);
    victim.mux.stop(id(10), CODE);
    victim.hear(&[reset(2), reset(4), reset(6)].concat()).unwrap();
    let said: Vec<(u8, u32)> = victim.sends().iter().map(|f| (f.kind, f.stream)).collect();
    assert_eq!(said, [(Kind::Reset as u8, 8), (Kind::Stop as u8, 10)]);
}

// [MUX-32] +-
#[test]
fn a_stream_is_forgotten_once_its_halves_its_output_and_its_owner_are_through() {
    let open = |victim: &Victim| victim.mux.stats().streams_open;
    let mut victim = accepted(Flags::NONE);
    victim.mux.send_head(id(2), Bytes::new(), HeadKind::FinalAndEnd).unwrap();
    victim.sends();
    assert_eq!(open(&victim), 1, "the peer's half has not ended");
    victim.hear(&data(Flags::END, 2, 0)).unwrap();
    assert_eq!(open(&victim), 1, "its owner has not let go");
    victim.mux.release(id(2));
    assert_eq!(open(&victim), 0);

    let mut unwritten = accepted(Flags::END);
    unwritten.mux.send_head(id(2), Bytes::new(), HeadKind::FinalAndEnd).unwrap();
    unwritten.mux.release(id(2));
    assert_eq!(open(&unwritten), 1, "its answer has not left");
    unwritten.sends();
    assert_eq!(open(&unwritten), 0);
}

/// The peer opens so many streams, and the first `over` of them end.
fn streams_over(opened: u32, over: u32) -> Vec<(Kind, Flags)> {
    let mut victim = victim();
    for nth in 0..opened {
        victim.hear(&head(Flags::OPEN.with(Flags::END), 2 + 2 * nth)).unwrap();
    }
    for nth in 0..over {
        let stream = id(2 + 2 * nth);
        victim.mux.send_head(stream, Bytes::new(), HeadKind::FinalAndEnd).unwrap();
        victim.mux.release(stream);
    }
    let mut said = kinds(&mut victim);
    said.retain(|kind| *kind != (Kind::Head, Flags::END));
    said
}

// [MUX-35] + [MUX-36] +-
#[test]
fn stream_credit_returns_with_the_work_and_is_announced_once_it_is_a_quarter_of_what_is_left() {
    assert_eq!(streams_over(4, 2), [], "2 of 12 left");
    assert_eq!(streams_over(4, 3), [STREAMS], "3 of 12 left");
    assert_eq!(streams_over(16, 1), [STREAMS], "at once: none is left");
}

/// The peer sends as much as it may on one stream, `rounds` times, and all of it is taken at once.
fn consume(victim: &mut Victim, rounds: usize) {
    victim.hear(&head(Flags::OPEN, 2)).unwrap();
    let (mut sent, mut granted) = (0, 4096);
    for _ in 0..rounds {
        while sent < granted {
            let len = (granted - sent).min(16_376);
            sent += len;
            victim.hear(&data(Flags::NONE, 2, usize::try_from(len).unwrap())).unwrap();
        }
        victim.mux.take(id(2), usize::MAX);
        let said = victim.sends();
        let window = said.iter().rev().find(|frame| frame.kind == Kind::Window as u8);
        granted = u64::from_be_bytes(*window.unwrap().payload.first_chunk().unwrap());
        events(&mut victim.mux);
    }
}

// [MUX-40] - [MUX-42] +
#[test]
fn a_window_grows_with_what_is_consumed_and_never_beyond_the_links_memory() {
    let floors = (16 + 8) * 4096;
    let mut victim = Victim::new(Config { receive_memory_max: floors + 10_000, ..config() });
    victim.now += Duration::from_millis(50);
    victim.hear(&pong(1)).unwrap();
    consume(&mut victim, 12);
    let growth = victim.mux.stats().window_growth;
    assert!((1..=10_000).contains(&growth), "{growth} octets of 10,000 there are");
}

// [MUX-42] -
#[test]
fn without_a_measured_round_trip_no_window_grows() {
    let mut victim = victim();
    consume(&mut victim, 12);
    assert_eq!(victim.mux.round_trip(), None);
    assert_eq!(victim.mux.stats().window_growth, 0);
}

// [MUX-41] +
#[test]
fn a_window_is_due_with_a_quarter_and_not_one_octet_sooner() {
    let mut victim = accepted(Flags::NONE);
    victim.hear(&data(Flags::NONE, 2, 2048)).unwrap();
    victim.mux.take(id(2), 1023);
    assert_eq!(victim.sends(), []);
    victim.mux.take(id(2), 1);
    let said = victim.sends();
    assert_eq!(said.len(), 1);
    assert_eq!((said[0].kind, &said[0].payload[..]), (4, &(4096u64 + 1024).to_be_bytes()[..]));
}

// [MUX-41] -
#[test]
fn no_window_is_sent_for_a_half_that_has_ended_or_was_stopped() {
    let mut ended = accepted(Flags::NONE);
    ended.hear(&data(Flags::END, 2, 4096)).unwrap();
    ended.mux.take(id(2), 4096);
    assert_eq!(kinds(&mut ended), []);

    let mut stopped = accepted(Flags::NONE);
    stopped.hear(&data(Flags::NONE, 2, 4096)).unwrap();
    stopped.mux.take(id(2), 4096);
    stopped.mux.stop(id(2), CODE);
    assert_eq!(kinds(&mut stopped), [STOP]);
}

// [MUX-45] +
#[test]
fn link_slots_leave_before_openings_those_before_stream_slots_and_payload_last() {
    let mut victim = accepted(Flags::NONE);
    let stream = victim.open();
    victim.hear(&data(Flags::NONE, 2, 4096)).unwrap();
    victim.mux.write(stream, &mut Bytes::from_static(b"payload")).unwrap();
    victim.mux.take(id(2), 4096);
    victim.mux.open(Bytes::from_static(b"GET"), false).unwrap();
    victim.hear(&ping()).unwrap();
    assert_eq!(kinds(&mut victim), [PONG, OPENING, WINDOW, DATA]);
}

// [MUX-45] -
#[test]
fn a_batch_that_is_full_is_not_added_to() {
    let many = Config { accept_streams_max: 20, open_streams_max: 20, ..config() };
    let mut victim = Victim::new(many);
    for _ in 0..20 {
        victim.mux.open(Bytes::from(vec![7; 16_000]), true).unwrap();
    }
    let mut batch = Batch::new();
    victim.mux.poll_transmit(victim.now, &mut batch);
    let full = batch.len();
    for _ in 0..8 {
        victim.hear(&ping()).unwrap();
        victim.mux.poll_transmit(victim.now, &mut batch);
    }
    assert_eq!(batch.len(), full);
    assert_eq!(kinds(&mut victim).iter().filter(|kind| **kind == PONG).count(), 1);
}

// [MUX-46] +-
#[test]
fn what_is_ready_leaves_at_once_and_a_timer_brings_no_more_of_it() {
    let mut victim = accepted(Flags::NONE);
    let stream = victim.mux.open(Bytes::from_static(b"GET"), false).unwrap();
    assert_eq!(kinds(&mut victim), [OPENING]);
    victim.mux.write(stream, &mut Bytes::from_static(b"x")).unwrap();
    assert_eq!(kinds(&mut victim), [DATA], "one octet is not kept back for more");
    victim.mux.finish(stream).unwrap();
    assert_eq!(kinds(&mut victim), [END]);
    victim.hear(&[ping(), pong(1), data(Flags::NONE, 2, 4096)].concat()).unwrap();
    victim.mux.take(id(2), 4096);
    assert_eq!(kinds(&mut victim), [PONG, WINDOW]);
    victim.now = victim.mux.poll_timeout().unwrap();
    assert_eq!(victim.mux.handle_timeout(victim.now), Ok(()));
    assert_eq!(kinds(&mut victim), [PING], "the only thing a timer makes ready");
}

// [MUX-56] +-
#[test]
fn an_opening_that_never_left_is_refused_when_the_link_ends_and_one_that_left_is_not() {
    for is_lost in [false, true] {
        let mut victim = victim();
        victim.open();
        let unsent = victim.mux.open(Bytes::new(), false).unwrap();
        if is_lost {
            victim.mux.handle_lost("cut");
        } else {
            victim.mux.close();
        }
        let code = StreamCode::REFUSED;
        assert_eq!(events(&mut victim.mux), [Event::Reset { id: unsent, code }]);
    }
}

// [MUX-57] +-
#[test]
fn part_of_a_frame_is_a_sign_of_life_and_nothing_else_is() {
    let mut victim = victim();
    // The PING of the handshake is outstanding.
    let due = victim.now + config().ping_timeout;
    victim.now = one_tick_before(due);
    let mut input = BytesMut::from(&b"\0"[..]);
    victim.mux.handle_input(victim.now, &mut input).unwrap();
    assert_eq!(victim.mux.handle_timeout(due), Ok(()));
    let due = victim.now + config().ping_timeout;
    victim.mux.handle_input(one_tick_before(due), &mut BytesMut::new()).unwrap();
    assert_eq!(victim.mux.handle_timeout(due), Err(LinkError::Silent));
}

// [MUX-58] +-
#[test]
fn a_ping_is_answered_with_its_octets_and_a_pong_that_answers_none_is_ignored() {
    let mut victim = victim();
    victim.hear(&ping()).unwrap();
    let said = victim.sends();
    assert_eq!(frames(&frame(Kind::Pong, Flags::NONE, 0, b"octets!!")), said);

    assert_eq!(victim.hear(&pong(9)), Ok(()));
    assert_eq!((events(&mut victim.mux), victim.mux.round_trip()), (vec![], None));
    victim.hear(&pong(1)).unwrap();
    events(&mut victim.mux);
    assert_eq!(victim.hear(&pong(1)), Ok(()), "an answer that comes twice");
    assert_eq!(events(&mut victim.mux), []);
}

// [MUX-59] -
#[test]
fn the_round_trip_is_not_measured_again_within_two_seconds() {
    let mut victim = accepted(Flags::NONE);
    victim.hear(&pong(1)).unwrap();
    let mut window = |wait: Duration| {
        victim.now += wait;
        victim.hear(&data(Flags::NONE, 2, 1024)).unwrap();
        victim.mux.take(id(2), 1024);
        kinds(&mut victim)
    };
    assert_eq!(window(Duration::from_nanos(1_999_999_999)), [WINDOW]);
    assert_eq!(window(Duration::from_nanos(1)), [WINDOW, PING]);
    assert_eq!(window(Duration::from_millis(1)), [WINDOW], "one question at a time");
}

// [MUX-62] +-
#[test]
fn codes_that_nobody_knows_are_taken_and_a_stream_code_does_not_end_the_link() {
    let code = StreamCode(0xffff_fffe);
    let with_code = |kind| frame(kind, Flags::NONE, 2, &code.0.to_be_bytes());
    let mut reset = accepted(Flags::NONE);
    assert_eq!(reset.hear(&with_code(Kind::Reset)), Ok(()));
    assert_eq!(events(&mut reset.mux), [Event::Reset { id: id(2), code }]);
    let mut stopped = accepted(Flags::NONE);
    assert_eq!(stopped.hear(&with_code(Kind::Stop)), Ok(()));
    assert_eq!(events(&mut stopped.mux), [Event::Stopped { id: id(2), code }]);

    let ended = stopped.hear(&goaway(0, 0xffff_fffe));
    assert!(matches!(ended, Err(LinkError::ClosedByPeer { code: 0xffff_fffe, .. })));
}
