//! A peer that breaks the protocol: each named error by raw octets, the code that leaves in GOAWAY,
//! and a link that stays as it is from then on. And what looks wrong and is not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use relay_core::mux::reference::decoder::Frame;
use relay_core::mux::{
    Config, Event, Flags, FrameError, HELLO_MAX, Hello, HelloError, Kind, LinkError, OpenError,
    PREFACE_LEN, Side, StreamCode, StreamId,
};
use relay_tests::mux::{Victim, drain_output, events, frame, frames, hello, hello_of, raw_frame};

fn config() -> Config {
    Config {
        stream_window: 4096,
        receive_memory_max: 1 << 20,
        accept_streams_max: 2,
        open_streams_max: 4,
        payload_max: 1024,
        head_max: 512,
        ..Config::default()
    }
}

fn victim() -> Victim {
    Victim::new(config())
}

const fn id(number: u32) -> StreamId {
    StreamId::from_wire(number)
}

fn number(value: u64) -> [u8; 8] {
    value.to_be_bytes()
}

fn one_tick_before(due: Instant) -> Instant {
    due.checked_sub(Duration::from_nanos(1)).unwrap()
}

fn open(stream: u32) -> Vec<u8> {
    frame(Kind::Head, Flags::OPEN, stream, b"head")
}

fn data(stream: u32, octets: usize) -> Vec<u8> {
    let whole = octets / 1024;
    let mut frames = frame(Kind::Data, Flags::NONE, stream, &[7; 1024]).repeat(whole);
    if !octets.is_multiple_of(1024) {
        frames.extend(frame(Kind::Data, Flags::NONE, stream, &vec![7; octets % 1024]));
    }
    frames
}

fn end(stream: u32) -> Vec<u8> {
    frame(Kind::Data, Flags::END, stream, b"")
}

/// The octets end the link with `error`; its code leaves in one GOAWAY; nothing changes any more.
#[track_caller]
fn assert_ends(victim: &mut Victim, octets: &[u8], error: impl Into<LinkError>) {
    let error = error.into();
    assert_eq!(victim.hear(octets), Err(error.clone()));
    assert_ended(victim, &error);
}

#[track_caller]
fn assert_ended(victim: &mut Victim, error: &LinkError) {
    let said = victim.sends();
    let [Frame { kind: 8, flags: 0, stream: 0, payload, .. }] = &said[..] else {
        panic!("one GOAWAY was expected: {said:?}");
    };
    assert_eq!(payload[4..8], error.code().to_be_bytes(), "its code");
    assert!(payload.len() <= 136, "its text is cut");

    assert_eq!(victim.mux.closed(), Some(error));
    assert_eq!(victim.mux.poll_timeout(), None);
    events(&mut victim.mux);
    let before = victim.mux.stats();
    for late in [open(2), data(2, 3000), frame(Kind::Ping, Flags::NONE, 0, &[0; 8])] {
        assert_eq!(victim.hear(&late).as_ref(), Err(error));
    }
    victim.now += Duration::from_hours(1);
    assert_eq!(victim.mux.handle_timeout(victim.now), Ok(()));
    assert_eq!(victim.mux.open(Bytes::new(), true), Err(OpenError::NotUp));
    for stream in 0..6 {
        victim.mux.take(id(stream), 100);
        victim.mux.reset(id(stream), StreamCode::DROPPED);
        victim.mux.release(id(stream));
    }
    assert_eq!(events(&mut victim.mux), []);
    assert_eq!(victim.sends(), [], "a link that has ended says nothing more");
    let after = victim.mux.stats();
    assert_eq!(after.payload_received, before.payload_received);
    assert_eq!(after.streams_accepted, before.streams_accepted);
}

// [MUX-10] - [MUX-11] - [MUX-12] - [MUX-13] - [MUX-14] -
#[test]
fn each_bad_header_ends_the_link_by_its_name() {
    let too_long = |payload_len, limit| FrameError::TooLong { payload_len, limit };
    let bad_id = |kind, stream| FrameError::BadStreamId { kind, stream: id(stream) };
    let cases = [
        (raw_frame(0xa0, 1, 4, b"????"), FrameError::UnknownKind { kind: 10 }),
        (raw_frame(0xa8, 1, 1025, b""), too_long(1025, 1024)),
        (raw_frame(0x00, 2, 1025, b""), too_long(1025, 1024)),
        (raw_frame(0x12, 2, 513, b""), too_long(513, 512)),
        (raw_frame(0x90, 2, 513, b""), too_long(513, 512)),
        (raw_frame(0x20, 2, 5, b""), too_long(5, 4)),
        (raw_frame(0x60, 0, 9, b""), too_long(9, 8)),
        (raw_frame(0x80, 0, 137, b""), too_long(137, 136)),
        (raw_frame(0xf0, 0, 0xff_ffff, b""), too_long(0xff_ffff, 1024)),
        (raw_frame(0x30, 2, 3, b""), FrameError::TooShort { kind: Kind::Stop, payload_len: 3 }),
        (raw_frame(0x40, 2, 7, b""), FrameError::TooShort { kind: Kind::Window, payload_len: 7 }),
        (raw_frame(0x80, 0, 7, b""), FrameError::TooShort { kind: Kind::GoAway, payload_len: 7 }),
        (raw_frame(0x02, 2, 1, b""), FrameError::BadFlags { kind: Kind::Data, flags: 2 }),
        (raw_frame(0x15, 2, 1, b""), FrameError::BadFlags { kind: Kind::Head, flags: 5 }),
        (raw_frame(0x91, 2, 1, b""), FrameError::BadFlags { kind: Kind::Trailers, flags: 1 }),
        (raw_frame(0x01, 0, 0, b""), bad_id(Kind::Data, 0)),
        (raw_frame(0x50, 2, 8, b""), bad_id(Kind::Streams, 2)),
        (raw_frame(0x00, 2, 0, b""), FrameError::EmptyData { stream: id(2) }),
    ];
    for (octets, error) in cases {
        // What came whole before it counts.
        let mut victim = victim();
        let octets = [open(2), octets].concat();
        assert_eq!(victim.hear(&octets), Err(error.into()), "{octets:02x?}");
        assert!(matches!(events(&mut victim.mux)[..], [Event::Opened { .. }]));
        assert_ended(&mut victim, &error.into());
    }
}

// [MUX-10] + [MUX-18] +
#[test]
fn frames_exactly_at_their_limits_are_taken() {
    let mut victim = victim();
    let octets = [
        frame(Kind::Head, Flags::OPEN, 2, &[1; 512]),
        frame(Kind::Data, Flags::NONE, 2, &[2; 1024]),
        frame(Kind::Trailers, Flags::NONE, 2, &[3; 512]),
        frame(Kind::Pad, Flags::NONE, 0, &[4; 1024]),
        raw_frame(0xe8, 9, 1024, &[5; 1024]),
        frame(Kind::GoAway, Flags::NONE, 0, &[vec![0xff; 4], vec![0; 132]].concat()),
    ];
    assert_eq!(victim.hear(&octets.concat()), Ok(()));
    assert_eq!(events(&mut victim.mux).len(), 4);
}

/// A hello with `edit` done to its fields.
fn hello_with(edit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let octets = hello(&config());
    let mut fields = octets[PREFACE_LEN..].to_vec();
    edit(&mut fields);
    let len = u32::try_from(fields.len()).unwrap().to_be_bytes();
    [&octets[..12], &len, &fields].concat()
}

fn field(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(value.len()).unwrap();
    [&kind.to_be_bytes()[..], &len.to_be_bytes(), value].concat()
}

// [MUX-01] - [MUX-02] - [MUX-03] - [MUX-04] - [MUX-05] - [MUX-06] - [MUX-07] -
#[test]
fn each_bad_preface_or_hello_ends_the_link_by_its_name() {
    let preface_with = |index: usize, octet: u8| {
        let mut octets = hello(&config());
        octets[index] = octet;
        octets
    };
    let cases = [
        (b"GET / HTTP/1.1\r\n".to_vec(), HelloError::BadMagic),
        (b"\xf2RLNK\r\n\n".to_vec(), HelloError::BadMagic),
        (b"\x16".to_vec(), HelloError::BadMagic),
        (preface_with(8, 2), HelloError::Version { min: 2, max: 1 }),
        (preface_with(9, 0), HelloError::Version { min: 1, max: 0 }),
        (preface_with(10, 1), HelloError::Role { role: 1 }),
        (preface_with(10, 9), HelloError::Role { role: 9 }),
        (preface_with(11, 7), HelloError::Reserved { octet: 7 }),
        (
            hello_with(|f| f.resize(HELLO_MAX as usize + 1, 0)),
            HelloError::TooLong { len: HELLO_MAX + 1, limit: HELLO_MAX },
        ),
        (hello_with(|f| f.extend([0, 5, 0])), HelloError::Truncated { field: 0 }),
        (hello_with(|f| f.extend([1, 5, 0, 9])), HelloError::Truncated { field: 0x0105 }),
        (
            hello_with(|f| f.extend(field(0x8fff, b""))),
            HelloError::UnknownCritical { field: 0x8fff },
        ),
        (hello_with(|f| f.extend(field(0x0007, &[0, 1]))), HelloError::Duplicate { field: 0x0007 }),
        (hello_with(|f| f[3] = 0), HelloError::BadValue { field: 0x8001 }),
        (hello_with(|f| f.truncate(8)), HelloError::Missing { field: 0x8002 }),
        (hello_with(Vec::clear), HelloError::Missing { field: 0x8001 }),
    ];
    for (octets, error) in cases {
        let mut victim = Victim::before_hello(config());
        assert_ends(&mut victim, &octets, error);
        assert_eq!(LinkError::from(error).code(), 0x02);
    }
}

// [MUX-05] + [MUX-07] +
#[test]
fn a_hello_at_its_limit_of_fields_nobody_knows_is_taken() {
    let mut victim = Victim::before_hello(config());
    let octets = hello_with(|fields| {
        let left = HELLO_MAX as usize - fields.len() - 4;
        fields.extend(field(0x0fff, &vec![0; left]));
    });
    assert_eq!(victim.hear(&octets), Ok(()));
    assert!(matches!(&events(&mut victim.mux)[..], [Event::Established(_)]));
}

// [MUX-08] +-
#[test]
fn a_peer_without_hello_is_given_up_exactly_at_the_timeout() {
    let mut victim = Victim::before_hello(config());
    let whole = hello(&config());
    assert_eq!(victim.hear(&whole[..whole.len() - 1]), Ok(()));
    let due = victim.now + config().hello_timeout;
    assert_eq!(victim.mux.handle_timeout(one_tick_before(due)), Ok(()));
    victim.now = due;
    assert_eq!(victim.mux.handle_timeout(victim.now), Err(LinkError::HelloTimeout));
    assert_ended(&mut victim, &LinkError::HelloTimeout);
}

// [MUX-59] + [MUX-60] +-
#[test]
fn a_peer_that_falls_silent_is_asked_and_then_given_up_exactly_at_the_timeout() {
    let mut victim = victim();
    // The PING of the handshake is answered.
    victim.hear(&frame(Kind::Pong, Flags::NONE, 0, &number(1))).unwrap();
    victim.hear(&open(2)).unwrap();
    victim.now += config().keep_alive_busy;
    assert_eq!(victim.mux.handle_timeout(victim.now), Ok(()));
    assert!(matches!(victim.sends()[..], [Frame { kind: 6, .. }]), "it is asked");
    let due = victim.now + config().ping_timeout;
    assert_eq!(victim.mux.handle_timeout(one_tick_before(due)), Ok(()));
    victim.now = due;
    assert_eq!(victim.mux.handle_timeout(victim.now), Err(LinkError::Silent));
    assert_ended(&mut victim, &LinkError::Silent);
}

// [MUX-38] +-
#[test]
fn payload_is_taken_up_to_the_grant_and_one_octet_more_ends_the_link() {
    let mut victim = victim();
    victim.hear(&open(2)).unwrap();
    assert_eq!(victim.hear(&data(2, 4096)), Ok(()));
    let one = frame(Kind::Data, Flags::NONE, 2, b"x");
    assert_ends(&mut victim, &one, LinkError::FlowControl { stream: id(2) });
}

// [MUX-29] - [MUX-30] - [MUX-38] -
#[test]
fn payload_beyond_the_grant_ends_the_link_on_a_stopped_or_reset_stream_too() {
    for reset in [false, true] {
        let mut victim = victim();
        victim.hear(&open(2)).unwrap();
        if reset {
            victim.mux.reset(id(2), StreamCode(0x100));
        } else {
            victim.mux.stop(id(2), StreamCode(0x100));
        }
        victim.sends();
        assert_eq!(victim.hear(&data(2, 4096)), Ok(()));
        let one = frame(Kind::Data, Flags::NONE, 2, b"x");
        assert_ends(&mut victim, &one, LinkError::FlowControl { stream: id(2) });
    }
}

// [MUX-34] +- [MUX-39] +-
#[test]
fn credit_may_be_repeated_and_never_taken_back() {
    let mut windowed = victim();
    let stream = windowed.open();
    let floor = u64::from(Config::default().stream_window);
    let window = |limit| frame(Kind::Window, Flags::NONE, stream.number(), &number(limit));
    assert_eq!(windowed.hear(&window(floor)), Ok(()));
    assert_eq!(windowed.hear(&window(u64::MAX)), Ok(()));
    let error = LinkError::CreditDecreased { kind: Kind::Window, stream };
    assert_ends(&mut windowed, &window(u64::MAX - 1), error);

    let mut counted = victim();
    let streams = |total| frame(Kind::Streams, Flags::NONE, 0, &number(total));
    assert_eq!(counted.hear(&streams(1024)), Ok(()));
    assert_eq!(counted.hear(&streams(u64::MAX)), Ok(()));
    assert_eq!(counted.mux.openable_total(), 4, "the own limit holds all the same");
    let error = LinkError::CreditDecreased { kind: Kind::Streams, stream: StreamId::LINK };
    assert_ends(&mut counted, &streams(5), error);
}

// [MUX-18] +- [MUX-33] +-
#[test]
fn the_streams_that_were_granted_are_taken_and_one_more_ends_the_link() {
    let mut victim = victim();
    assert_eq!(victim.hear(&[open(2), open(4)].concat()), Ok(()));
    let error = LinkError::TooManyStreams { stream: id(6), granted: 2 };
    assert_ends(&mut victim, &open(6), error);
}

// [MUX-33] - [MUX-35] -
#[test]
fn a_reset_returns_no_stream_credit_until_the_work_behind_it_has_ended() {
    let mut victim = victim();
    let reset = |stream| frame(Kind::Reset, Flags::NONE, stream, &[0, 0, 1, 0]);
    assert_eq!(victim.hear(&[open(2), reset(2), open(4), reset(4)].concat()), Ok(()));
    assert_eq!(victim.sends(), [], "no credit for streams whose work goes on");
    let error = LinkError::TooManyStreams { stream: id(6), granted: 2 };
    assert_ends(&mut victim, &open(6), error);
}

// [MUX-17] - [MUX-18] -
#[test]
fn streams_open_in_the_order_of_their_numbers_or_not_at_all() {
    for wrong in [1, 3, 4, 6, u32::MAX, u32::MAX - 1] {
        let mut victim = victim();
        let error = LinkError::NotOpen { kind: Kind::Head, stream: id(wrong) };
        assert_ends(&mut victim, &open(wrong), error);
    }
    let mut twice = victim();
    twice.hear(&open(2)).unwrap();
    let error = LinkError::NotOpen { kind: Kind::Head, stream: id(2) };
    assert_ends(&mut twice, &open(2), error);
}

// [MUX-19] -
#[test]
fn frames_for_streams_that_were_never_opened_end_the_link() {
    for stream in [1, 2] {
        let cases = [
            (Kind::Data, Flags::END, vec![]),
            (Kind::Head, Flags::NONE, vec![]),
            (Kind::Trailers, Flags::NONE, vec![]),
            (Kind::Reset, Flags::NONE, vec![0; 4]),
            (Kind::Stop, Flags::NONE, vec![0; 4]),
            (Kind::Window, Flags::NONE, vec![0xff; 8]),
        ];
        for (kind, flags, payload) in cases {
            let octets = frame(kind, flags, stream, &payload);
            let error = LinkError::NotOpen { kind, stream: id(stream) };
            assert_ends(&mut victim(), &octets, error);
        }
    }
}

// [MUX-19] -
#[test]
fn a_stream_whose_opening_has_not_left_is_not_open_to_the_peer() {
    let mut victim = victim();
    victim.mux.open(Bytes::new(), false).unwrap();
    let reset = frame(Kind::Reset, Flags::NONE, 1, &[0; 4]);
    let error = LinkError::NotOpen { kind: Kind::Reset, stream: id(1) };
    assert_ends(&mut victim, &reset, error);
}

// [MUX-20] - [MUX-23] - [MUX-27] -
#[test]
fn frames_that_the_stream_does_not_allow_now_end_the_link() {
    let head = |stream, flags| frame(Kind::Head, flags, stream, b"200");
    let trailers = |stream| frame(Kind::Trailers, Flags::NONE, stream, b"");
    let interim = Flags::INFORMATIONAL;
    // On stream 2 the peer is the opener, on stream 1 it answers.
    let cases = [
        (vec![open(2), head(2, Flags::NONE)], Kind::Head, 2),
        (vec![open(2), head(2, interim)], Kind::Head, 2),
        (vec![open(2), end(2), end(2)], Kind::Data, 2),
        (vec![open(2), end(2), data(2, 1)], Kind::Data, 2),
        (vec![open(2), trailers(2), trailers(2)], Kind::Trailers, 2),
        (vec![open(2), end(2), trailers(2)], Kind::Trailers, 2),
        (vec![data(1, 1)], Kind::Data, 1),
        (vec![end(1)], Kind::Data, 1),
        (vec![trailers(1)], Kind::Trailers, 1),
        (vec![head(1, Flags::NONE), head(1, Flags::NONE)], Kind::Head, 1),
        (vec![head(1, Flags::NONE), head(1, interim)], Kind::Head, 1),
        (vec![head(1, Flags::END), data(1, 1)], Kind::Data, 1),
    ];
    for (frames, kind, stream) in cases {
        let mut victim = victim();
        victim.open();
        let (last, before) = frames.split_last().unwrap();
        assert_eq!(victim.hear(&before.concat()), Ok(()), "{before:02x?}");
        let error = LinkError::StreamState { kind, stream: id(stream) };
        assert_ends(&mut victim, last, error);
    }
}

// [MUX-28] +-
#[test]
fn eight_interim_heads_are_taken_and_one_more_ends_the_link() {
    let mut victim = victim();
    let stream = victim.open();
    let interim = frame(Kind::Head, Flags::INFORMATIONAL, stream.number(), b"103");
    assert_eq!(victim.hear(&interim.repeat(8)), Ok(()));
    assert_ends(&mut victim, &interim, LinkError::Abuse { what: "interim heads" });
}

fn goaway(last: u32, code: u32, text: &[u8]) -> Vec<u8> {
    let payload = [&last.to_be_bytes()[..], &code.to_be_bytes(), text].concat();
    frame(Kind::GoAway, Flags::NONE, 0, &payload)
}

// [MUX-49] +-
#[test]
fn a_goaway_may_serve_fewer_streams_than_the_one_before_and_never_more() {
    let mut victim = victim();
    assert_eq!(victim.hear(&[goaway(9, 0, b""), goaway(9, 0, b"")].concat()), Ok(()));
    assert_eq!(victim.hear(&goaway(1, 0, b"")), Ok(()));
    let error = LinkError::StreamState { kind: Kind::GoAway, stream: StreamId::LINK };
    assert_ends(&mut victim, &goaway(3, 0, b""), error);
}

// [MUX-55] +-
#[test]
fn eight_goaways_are_taken_and_one_more_ends_the_link() {
    let mut victim = victim();
    assert_eq!(victim.hear(&goaway(9, 0, b"").repeat(8)), Ok(()));
    assert_ends(&mut victim, &goaway(9, 0, b""), LinkError::Abuse { what: "GOAWAY frames" });
}

// [MUX-53] + [MUX-62] + [MUX-63] +-
#[test]
fn a_goaway_with_a_code_ends_the_link_with_what_the_peer_said() {
    let mut victim = victim();
    let text = Box::from("bad\u{fffd}text?");
    let error = LinkError::ClosedByPeer { code: 0x77, text };
    assert_ends(&mut victim, &goaway(0, 0x77, b"bad\xfftext\n"), error);
}

#[test]
fn a_lost_pipe_and_a_closed_link_say_who_ended_them() {
    let mut lost = victim();
    lost.mux.handle_lost("reset");
    assert_eq!(lost.mux.closed(), Some(&LinkError::Lost { cause: "reset".into() }));
    assert_eq!(lost.sends(), [], "there is nobody to say it to");

    let mut left = victim();
    left.hear(&goaway(0, 0, b"bye")).unwrap();
    left.mux.handle_lost("end of stream");
    let goodbye = LinkError::ClosedByPeer { code: LinkError::CODE_DONE, text: "".into() };
    assert_eq!(left.mux.closed(), Some(&goodbye), "a peer that said goodbye is not lost");

    let mut closed = victim();
    closed.mux.close();
    assert_ended(&mut closed, &LinkError::ClosedHere);
}

// [MUX-20] +
#[test]
fn frames_that_crossed_the_end_of_their_stream_are_no_error() {
    let mut victim = victim();
    victim.hear(&open(2)).unwrap();
    victim.mux.reset(id(2), StreamCode(0x100));
    victim.mux.release(id(2));
    victim.sends();
    events(&mut victim.mux);
    assert_eq!(victim.mux.stats().streams_open, 0);
    let late = [
        data(2, 1000),
        frame(Kind::Window, Flags::NONE, 2, &number(u64::MAX)),
        frame(Kind::Stop, Flags::NONE, 2, &[0; 4]),
        frame(Kind::Trailers, Flags::NONE, 2, b"late"),
        frame(Kind::Reset, Flags::NONE, 2, &[0; 4]),
    ];
    assert_eq!(victim.hear(&late.concat()), Ok(()));
    assert_eq!(events(&mut victim.mux), []);
    assert_eq!(victim.sends(), [], "late frames are not answered");
    assert_eq!(victim.mux.stats().late_frames, 5);
}

#[test]
fn a_late_frame_counts_once_however_the_pipe_splits_it() {
    let mut victim = victim();
    victim.hear(&open(2)).unwrap();
    victim.mux.reset(id(2), StreamCode(0x100));
    victim.mux.release(id(2));
    victim.sends();
    let mut input = BytesMut::new();
    for octet in data(2, 500) {
        input.extend_from_slice(&[octet]);
        assert_eq!(victim.mux.handle_input(victim.now, &mut input), Ok(()));
    }
    assert_eq!(victim.mux.stats().late_frames, 1);
}

// [MUX-44] +-
#[test]
fn what_a_peer_asks_for_again_and_again_waits_in_one_place() {
    let mut victim = victim();
    victim.hear(&open(2)).unwrap();
    events(&mut victim.mux);
    for round in 0..10_000u64 {
        // The budget for PING allows one a second.
        victim.now += Duration::from_secs(1);
        let mut octets = frame(Kind::Ping, Flags::NONE, 0, &number(round));
        octets.extend(frame(Kind::Stop, Flags::NONE, 2, &[0, 0, 1, 0]));
        octets.extend(frame(Kind::Window, Flags::NONE, 2, &number(1 << 40 | round)));
        assert_eq!(victim.hear(&octets), Ok(()));
    }
    assert_eq!(events(&mut victim.mux).len(), 1, "one STOP is told");
    victim.mux.release(id(2));
    let said = victim.sends();
    let kinds: Vec<u8> = said.iter().map(|frame| frame.kind).collect();
    assert_eq!(kinds, [Kind::Pong as u8, Kind::Stop as u8, Kind::Data as u8], "{said:?}");
    assert_eq!(said[0].payload, number(9_999), "the newest PING is answered");
}

// [MUX-14] + [MUX-15] +
#[test]
fn padding_and_kinds_of_the_future_are_skipped_at_any_split() {
    let mut victim = victim();
    let octets =
        [frame(Kind::Pad, Flags::NONE, 0, &[1; 300]), raw_frame(0xc8, 77, 300, &[2; 300]), open(2)];
    let mut input = BytesMut::new();
    for octet in octets.concat() {
        input.extend_from_slice(&[octet]);
        assert_eq!(victim.mux.handle_input(victim.now, &mut input), Ok(()));
    }
    assert!(matches!(events(&mut victim.mux)[..], [Event::Opened { .. }]));
    assert_eq!(victim.sends(), []);
}

// [MUX-03] -
#[test]
fn a_hello_that_says_the_same_side_is_refused_by_both() {
    for side in [Side::Dialer, Side::Listener] {
        let octets = hello_of(&config()).encode(side);
        let mut mux = relay_core::mux::Mux::new(side, config(), Instant::now()).unwrap();
        let mut input = BytesMut::from(&octets[..]);
        let role = u8::from(side == Side::Listener);
        let error = LinkError::Hello(HelloError::Role { role });
        assert_eq!(mux.handle_input(Instant::now(), &mut input), Err(error));
        assert!(input.is_empty(), "nothing is kept of what a refused peer sent");
    }
}

// [MUX-09] +
#[test]
fn a_peer_that_is_refused_hears_this_sides_hello_before_the_reason() {
    let mut victim = Victim::before_hello(config());
    assert!(victim.hear(b"GET /").is_err());
    let octets = drain_output(&mut victim.mux, victim.now);
    let (preface, rest) = octets.split_first_chunk::<PREFACE_LEN>().unwrap();
    let fields = usize::from(preface[15]);
    assert_eq!(Hello::decode(&rest[..fields]).map(|hello| hello.payload_max), Ok(1024));
    assert!(matches!(frames(&octets)[..], [Frame { kind: 8, .. }]));
}
