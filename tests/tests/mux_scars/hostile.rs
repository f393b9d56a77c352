//! Peers that cost more than they pay.

use super::*;
use allocation_counter::measure;
use relay_core::mux::{Event, Flags, HeadKind, StreamId};
use relay_core::mux::{FrameError, HelloError, Kind, MAGIC, SendError, StreamCode};
use relay_tests::mux::{Victim, events, frame, raw_frame};

fn open(stream: u32) -> Vec<u8> {
    frame(Kind::Head, Flags::OPEN, stream, b"head")
}

fn code(stream: u32, kind: Kind) -> Vec<u8> {
    frame(kind, Flags::NONE, stream, &[0, 0, 1, 0])
}

fn number(value: u64) -> [u8; 8] {
    value.to_be_bytes()
}

/// How many of `heard` are of `kind`.
fn count(heard: &[Frame], kind: Kind) -> usize {
    heard.iter().filter(|frame| frame.kind == kind as u8).count()
}

/// Takes what waits on `incoming`, a piece at a time. Returns its octets.
async fn take_piece(incoming: &mut Incoming) -> usize {
    at_once(incoming.recv.read_chunk()).await.unwrap().unwrap().len()
}

/// h2, nghttp2, yamux: queues of resets, pongs and acks that a peer grows by asking and not
/// reading.
///
/// Our rule: all control output lives in coalescing slots. For an hour the peer asks for everything
/// that its budgets allow, and reads nothing; then it finds one frame of each slot, and what was on
/// its way when the pipe ran full.
#[tokio::test(start_paused = true)]
async fn what_is_asked_for_an_hour_is_answered_once() {
    let ids = [2, 4, 6, 8];
    let mut raw = Raw::new(tight(1024, 8), NARROW).await;
    let mut streams = Vec::new();
    for stream in ids {
        raw.say(&open(stream)).await;
        raw.say(&frame(Kind::Data, Flags::NONE, stream, &[7; 1024])).await;
        streams.push((raw.accept().await, 1024));
    }
    for round in 0..3600 {
        tokio::time::advance(Duration::from_secs(1)).await;
        raw.say(&frame(Kind::Ping, Flags::NONE, 0, &number(round))).await;
        for stream in ids {
            raw.say(&code(stream, Kind::Stop)).await;
            raw.say(&frame(Kind::Window, Flags::NONE, stream, &number(1 << 40 | round))).await;
        }
        // Credit for what is taken is due again and again.
        for (incoming, left) in streams.iter_mut().filter(|(_, left)| *left > 0) {
            *left -= take_piece(incoming).await;
        }
    }
    streams[3].0.send.reset(StreamCode(0x100));
    // The END that its STOP waits for leaves once the work has ended.
    drop(streams.remove(0));

    raw.skip_hello().await;
    let heard = raw.hear_all().await;
    assert_eq!(raw.link.close_reason(), None, "the peer stayed within its budgets");
    let newest = |kind: Kind| heard.iter().rfind(|frame| frame.kind == kind as u8).unwrap();
    assert_eq!(newest(Kind::Pong).payload, number(3599), "the newest PING is answered");
    assert_eq!(newest(Kind::Window).payload, number(2048), "all that was taken, at once");
    assert_eq!(newest(Kind::Reset).stream, 8);
    // Twice: once on its way when the pipe ran full, and once in its slot.
    let bounds =
        [(Kind::Pong, 2), (Kind::Ping, 2), (Kind::Window, 8), (Kind::Data, 1), (Kind::Stop, 1)];
    for (kind, most) in bounds.into_iter().chain([(Kind::Reset, 1)]) {
        let found = count(&heard, kind);
        assert!((1..=most).contains(&found), "{found} of {kind:?}");
    }
    let known = bounds.map(|(kind, _)| count(&heard, kind)).iter().sum::<usize>() + 1;
    assert_eq!(heard.len(), known, "and nothing else: {heard:?}");
}

/// Streams that the peer may have open.
const SLOTS: u32 = 4;

/// Opens as many streams as it may, ends each by `end` on either side, and holds that none is free
/// before its work has ended, and that all are then; again and again. At last opens one too many.
async fn hold_the_slots(end: impl AsyncFn(&mut Raw, u32, &mut Incoming)) {
    let config = Config { accept_streams_max: SLOTS, ..Config::default() };
    let mut raw = Raw::new(config, 1 << 16).await;
    raw.skip_hello().await;
    let mut opened = 0;
    for round in 1..=20 {
        let mut works = Vec::new();
        for _ in 0..SLOTS {
            opened += 1;
            raw.say(&open(2 * opened)).await;
            let mut incoming = raw.accept().await;
            end(&mut raw, 2 * opened, &mut incoming).await;
            works.push(incoming);
        }
        let heard = raw.hear_all().await;
        assert_eq!(count(&heard, Kind::Streams), 0, "round {round}: work goes on, {heard:?}");
        assert_eq!(raw.link.stats().mux.streams_open, SLOTS as usize);
        drop(works);
        let heard = raw.hear_all().await;
        let granted = heard.iter().rfind(|frame| frame.kind == Kind::Streams as u8).unwrap();
        assert_eq!(granted.payload, number(u64::from(opened + SLOTS)), "round {round}");
    }
    let one_too_many: Vec<u8> = (1..=SLOTS + 1)
        .flat_map(|nth| {
            let stream = 2 * (opened + nth);
            [open(stream), code(stream, Kind::Reset)].concat()
        })
        .collect();
    raw.say(&one_too_many).await;
    let stream = StreamId::from_wire(2 * (opened + SLOTS + 1));
    let error = LinkError::TooManyStreams { stream, granted: u64::from(opened + SLOTS) };
    assert_eq!(at_once(raw.driver).await.unwrap(), error);
}

/// HTTP/2 servers, CVE-2023-44487, rapid reset: open and reset, and the slot is free while the work
/// goes on; a peer starts work without bound.
///
/// Our rule: stream credit returns only when the acceptor's own work has ended, not when a RESET
/// arrives.
#[tokio::test(start_paused = true)]
async fn a_reset_frees_no_slot_before_the_work_ends() {
    hold_the_slots(async |raw, stream, incoming| {
        raw.say(&code(stream, Kind::Reset)).await;
        let told = at_once(incoming.send.stopped()).await;
        assert_eq!(told, SendError::Reset(StreamCode(0x100)));
    })
    .await;
}

/// HTTP/2 servers, CVE-2025-8671, `MadeYouReset`: the peer has the victim reset the stream itself,
/// and its slot is free while the work goes on.
///
/// Our rule: the same as for a RESET of the peer's. The peer has this side end the stream in each
/// way there is: a reset by its owner, a STOP and an end, and payload that nobody takes for a
/// minute.
#[tokio::test(start_paused = true)]
async fn our_own_reset_frees_no_slot_before_the_work_ends() {
    hold_the_slots(async |_, _, incoming| incoming.send.reset(StreamCode(0x101))).await;
    hold_the_slots(async |raw, stream, incoming| {
        raw.say(&code(stream, Kind::Stop)).await;
        raw.say(&frame(Kind::Data, Flags::END, stream, b"")).await;
        let told = at_once(incoming.send.stopped()).await;
        assert_eq!(told, SendError::Stopped(StreamCode(0x100)));
    })
    .await;
    hold_the_slots(async |raw, stream, incoming| {
        raw.say(&frame(Kind::Data, Flags::NONE, stream, &[7; 500])).await;
        let mut told = None;
        for _ in 0..50 {
            // A peer that is heard: it is its stream that stalls, not its link.
            raw.say(&frame(Kind::Ping, Flags::NONE, 0, &[0; 8])).await;
            tokio::time::advance(Duration::from_secs(2)).await;
            let stopped = tokio::time::timeout(Duration::from_millis(1), incoming.send.stopped());
            told = told.or(stopped.await.ok());
        }
        assert_eq!(told, Some(SendError::Reset(StreamCode::STALLED)));
    })
    .await;
}

/// What a frame's `header` costs in memory, while its payload comes in `payload` octets of which
/// each is read on its own; and what the engine makes of it.
fn cost(header: &[u8], payload: usize) -> (u64, Result<(), LinkError>) {
    let mut victim = Victim::new(Config { head_max: 4096, ..tight(4096, 4) });
    let mut outcome = Ok(());
    let used = measure(|| {
        let mut input = bytes::BytesMut::with_capacity(header.len() + 4096);
        input.extend_from_slice(header);
        outcome = victim.mux.handle_input(victim.now, &mut input);
        for _ in 0..payload {
            if outcome.is_ok() {
                input.extend_from_slice(b"x");
                outcome = victim.mux.handle_input(victim.now, &mut input);
            }
        }
    });
    (used.bytes_max, outcome)
}

/// HTTP/2 servers: CONTINUATION and header bombs, a head that never ends or that grows as it is
/// decoded.
///
/// Our rule: one head is one frame of at most `head_max` octets, without a dynamic table. So a head
/// is refused by its first eight octets, before any of it is kept; there is no second frame that
/// goes on with it; and what arrives is as long as what was sent.
#[test]
fn a_head_is_judged_by_its_first_eight_octets() {
    for len in [4097, 0xff_ffff] {
        let (memory, outcome) = cost(&raw_frame(0x12, 2, len, b""), 0);
        let error = FrameError::TooLong { payload_len: len, limit: 4096 };
        assert_eq!(outcome, Err(LinkError::Frame(error)));
        assert!(memory <= 8192, "{memory} octets for a head of {len} that is refused");
    }
    // The longest there is costs no more than twice its length, however slowly it arrives.
    let (memory, outcome) = cost(&raw_frame(0x12, 2, 4096, b""), 4096);
    assert_eq!(outcome, Ok(()));
    assert!(memory <= 3 * 4096, "{memory} octets for the longest head");

    let mut victim = Victim::new(Config { head_max: 4096, ..tight(4096, 4) });
    let block = [0xff; 4096];
    victim.hear(&frame(Kind::Head, Flags::OPEN, 2, &block)).unwrap();
    let [Event::Opened { head, .. }] = &events(&mut victim.mux)[..] else { panic!("one stream") };
    assert_eq!(head[..], block, "it is what was sent, not what that might stand for");
    let more = victim.hear(&frame(Kind::Head, Flags::NONE, 2, b"x"));
    let stream = StreamId::from_wire(2);
    assert_eq!(more, Err(LinkError::StreamState { kind: Kind::Head, stream }));
}

/// How a link ends whose peer says `octets` in place of a hello, or behind it.
async fn ends_with(octets: &[u8], behind: &[u8]) -> LinkError {
    let (near, mut pipe) = tokio::io::duplex(1 << 16);
    let (_link, driver) = link::new(near, Side::Listener, Config::default()).unwrap();
    let driver = tokio::spawn(driver);
    at_once(pipe.write_all(&[behind, octets].concat())).await.unwrap();
    at_once(driver).await.expect("the driver did not panic")
}

/// CVE-2026-32314: one oversized first frame panics the process.
///
/// Our rule: octets from a peer reach a limit, then an error; never an assertion, an index, an
/// unchecked add, or an allocation they size. Each kind and all flags with the longest length there
/// is, and with no payload behind it, some, or more than is said.
#[tokio::test(start_paused = true)]
async fn no_first_frame_is_long_enough_to_panic_a_link() {
    let said = hello(&Config::default());
    for kind_and_flags in 0..=u8::MAX {
        for stream in [0, 1, 2, u32::MAX] {
            for payload in [0, 64, 40_000] {
                let octets = raw_frame(kind_and_flags, stream, 0xff_ffff, &vec![0xff; payload]);
                let error = ends_with(&octets, &said).await;
                assert!(matches!(error, LinkError::Frame(_)), "{:02x?}: {error}", &octets[..8]);
            }
        }
    }
    let longest = [&MAGIC[..], &[1, 1, 0, 0], &[0xff; 4], &[0xff; 64]].concat();
    let error = HelloError::TooLong { len: u32::MAX, limit: relay_core::mux::HELLO_MAX };
    assert_eq!(ends_with(&longest, b"").await, LinkError::Hello(error));
    no_first_number_is_too_large().await;
}

/// The largest numbers that short frames can carry are no error, and the link works on.
async fn no_first_number_is_too_large() {
    let mut raw = Raw::new(Config::default(), 1 << 16).await;
    raw.say(&frame(Kind::Streams, Flags::NONE, 0, &[0xff; 8])).await;
    raw.say(&frame(Kind::Pong, Flags::NONE, 0, &[0xff; 8])).await;
    raw.say(&open(2)).await;
    raw.say(&frame(Kind::Window, Flags::NONE, 2, &[0xff; 8])).await;
    let mut incoming = raw.accept().await;
    incoming.send.send_head(HEAD, HeadKind::Final).unwrap();
    at_once(write_whole(&mut incoming.send, 20_000)).await;
    raw.skip_hello().await;
    let heard = raw.hear_all().await;
    let data = heard.iter().filter(|frame| frame.kind == Kind::Data as u8);
    assert_eq!(data.map(|frame| frame.payload.len()).sum::<usize>(), 20_000);
}
