//! The rule behind the rest: a consumer that takes nothing stalls its own stream and no other, and
//! the reader of a link never waits.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use bytes::Bytes;
use relay_core::mux::{Config, Event, HeadKind, IdMap, Mux, StreamCode, StreamId};
use relay_tests::mux::{Pair, drain_output, events};

const WINDOW: u32 = 4096;
const STREAMS: u32 = 100;

fn config() -> Config {
    Config {
        stream_window: WINDOW,
        accept_streams_max: STREAMS,
        open_streams_max: STREAMS,
        receive_memory_max: u64::from(2 * STREAMS * WINDOW),
        ..Config::default()
    }
}

/// Writes as much of `left` octets as there is room for; finishes when nothing is left.
fn write_some(mux: &mut Mux, id: StreamId, left: &mut usize) {
    if *left == 0 {
        return;
    }
    let mut payload = Bytes::from(vec![id.number().to_be_bytes()[3]; (*left).min(3000)]);
    let before = payload.len();
    mux.write(id, &mut payload).unwrap();
    *left -= before - payload.len();
    if *left == 0 {
        mux.finish(id).unwrap();
    }
}

// [MUX-40] +
#[test]
fn ninety_nine_streams_go_on_while_one_is_never_taken() {
    const EACH: usize = 20 * WINDOW as usize;
    let mut pair = Pair::new(config(), config());
    let ids: Vec<StreamId> =
        (0..STREAMS).map(|_| pair.listener.open(Bytes::new(), false).unwrap()).collect();
    let stalled = ids[37];
    let mut left: IdMap<usize> = ids.iter().map(|id| (*id, EACH)).collect();
    let mut got: IdMap<usize> = ids.iter().map(|id| (*id, 0)).collect();
    let mut ended = 0;
    let mut rounds = 0;
    while ended < STREAMS - 1 {
        rounds += 1;
        assert!(rounds < 1000, "the others wait for the stalled stream");
        for (id, left) in &mut left {
            write_some(&mut pair.listener, *id, left);
        }
        pair.settle();
        for event in events(&mut pair.dialer) {
            let Event::Data { id, payload, end } = event else { continue };
            *got.get_mut(&id).unwrap() += payload.len();
            ended += u32::from(end);
            if id != stalled {
                pair.dialer.take(id, payload.len());
            }
        }
        events(&mut pair.listener);
    }
    assert!(ids.iter().all(|id| *id == stalled || got[id] == EACH), "all but one are complete");
    assert_eq!(got[&stalled], WINDOW as usize, "what it holds is what was reserved for it");
    assert_eq!(pair.dialer.stats().window_growth, 0);

    // It was slow, not dead: once it is taken from, the rest arrives.
    for _ in 0..100 {
        pair.dialer.take(stalled, usize::MAX);
        pair.settle();
        write_some(&mut pair.listener, stalled, left.get_mut(&stalled).unwrap());
        pair.settle();
    }
    let rest: usize = events(&mut pair.dialer)
        .iter()
        .map(|event| if let Event::Data { payload, .. } = event { payload.len() } else { 0 })
        .sum();
    assert_eq!(got[&stalled] + rest, EACH);
}

// [MUX-40] + [MUX-43] +-
#[test]
fn all_streams_stalled_hold_what_was_reserved_and_not_one_octet_more() {
    let mut pair = Pair::new(config(), config());
    for _ in 0..STREAMS {
        let id = pair.listener.open(Bytes::new(), false).unwrap();
        let mut payload = Bytes::from(vec![1; 3 * WINDOW as usize]);
        pair.listener.write(id, &mut payload).unwrap();
        assert_eq!(payload.len(), 2 * WINDOW as usize, "the floor and nothing more");
    }
    pair.settle();
    let held: usize = events(&mut pair.dialer)
        .iter()
        .map(|event| if let Event::Data { payload, .. } = event { payload.len() } else { 0 })
        .sum();
    assert_eq!(held, (STREAMS * WINDOW) as usize);
    assert!(pair.listener.poll_timeout().is_some(), "the link lives");
}

/// Both sides have all their credit in the pipe, and neither owner takes anything.
fn clogged() -> (Pair, Vec<StreamId>) {
    let mut pair = Pair::new(config(), config());
    let mut ids = Vec::new();
    for _ in 0..8 {
        ids.push(pair.listener.open(Bytes::new(), false).unwrap());
    }
    pair.settle();
    for id in &ids {
        pair.dialer.send_head(*id, Bytes::new(), HeadKind::Final).unwrap();
        pair.listener.write(*id, &mut Bytes::from(vec![1; 2 * WINDOW as usize])).unwrap();
        pair.dialer.write(*id, &mut Bytes::from(vec![2; 2 * WINDOW as usize])).unwrap();
    }
    pair.settle();
    (pair, ids)
}

#[test]
fn two_sides_full_of_writes_still_read_control() {
    let (mut pair, ids) = clogged();
    events(&mut pair.listener);
    events(&mut pair.dialer);
    assert!(ids.iter().all(|id| pair.listener.room(*id) == 0 && pair.dialer.room(*id) == 0));

    pair.listener.reset(ids[0], StreamCode(0x100));
    pair.dialer.stop(ids[1], StreamCode(0x101));
    pair.settle();
    let reset = Event::Reset { id: ids[0], code: StreamCode(0x100) };
    assert_eq!(events(&mut pair.dialer), [reset]);
    let stopped = Event::Stopped { id: ids[1], code: StreamCode(0x101) };
    assert_eq!(events(&mut pair.listener), [stopped]);
    let opened = pair.dialer.open(Bytes::from_static(b"new"), true).unwrap();
    pair.settle();
    let head = Bytes::from_static(b"new");
    assert_eq!(events(&mut pair.listener), [Event::Opened { id: opened, head, end: true }]);
}

#[test]
fn two_sides_full_of_writes_move_on_as_soon_as_one_takes() {
    let (mut pair, ids) = clogged();
    events(&mut pair.listener);
    events(&mut pair.dialer);
    pair.dialer.take(ids[3], WINDOW as usize);
    pair.settle();
    let writable = Event::Writable { id: ids[3] };
    assert_eq!(events(&mut pair.listener), [writable]);
    assert_eq!(pair.listener.room(ids[3]), WINDOW as usize);
    assert_eq!(pair.dialer.room(ids[3]), 0, "its own half waits for the other side");
}

// [MUX-44] +
#[test]
fn a_side_that_cannot_write_still_reads_everything_the_peer_may_send() {
    let (mut pair, ids) = clogged();
    events(&mut pair.listener);
    // From here on the listener's pipe is stuck: nothing it makes ready leaves.
    for round in 0..100 {
        pair.dialer.drain(pair.now);
        let id = pair.dialer.open(Bytes::new(), false);
        assert!(id.is_err(), "a draining side opens nothing");
        let octets = drain_output(&mut pair.dialer, pair.now);
        let mut input = bytes::BytesMut::from(&octets[..]);
        assert_eq!(pair.listener.handle_input(pair.now, &mut input), Ok(()), "round {round}");
        assert!(input.is_empty(), "nothing is left unread");
        pair.listener.take(ids[2], 1);
    }
    assert!(events(&mut pair.listener).contains(&Event::GoingAway { code: 0 }));
    let answered = relay_tests::mux::frames(&drain_output(&mut pair.listener, pair.now));
    assert_eq!(answered.len(), 1, "one PONG for the newest PING: {answered:?}");
}

#[test]
fn a_reader_that_lets_go_returns_its_credit_to_nobody_else_and_blocks_nobody() {
    let (mut pair, ids) = clogged();
    for id in &ids {
        pair.dialer.release(*id);
    }
    pair.settle();
    for id in &ids {
        pair.listener.release(*id);
    }
    pair.settle();
    for (mux, name) in [(&pair.listener, "listener"), (&pair.dialer, "dialer")] {
        assert_eq!(mux.stats().streams_open, 0, "{name}");
        assert_eq!(mux.stats().window_growth, 0, "{name}");
    }
    // Credit that few streams return is announced when it is needed, so each open is delivered.
    for nth in 0..STREAMS {
        assert!(pair.listener.open(Bytes::new(), true).is_ok(), "stream {nth} can be opened again");
        pair.settle();
    }
}
