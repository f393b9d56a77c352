//! What the mux costs, counted: copies by the identity of pointers, allocations by a counting
//! allocator. Nothing here looks at a clock.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::io::IoSlice;
use std::time::Duration;

use allocation_counter::measure;
use bytes::{Bytes, BytesMut};
use relay_core::mux::{
    BATCH_SLICES, Batch, COPY_IN_MAX, COPY_OUT_MAX, Config, Event, Flags, HeadKind, Kind, StreamId,
};
use relay_tests::mux::{Pair, Victim, events, frame};

/// Puts what `batch` holds into `pipe`, as a driver would.
fn write_out(batch: &mut Batch, pipe: &mut BytesMut) {
    let mut slices = [IoSlice::new(&[]); BATCH_SLICES];
    let used = batch.io_slices(&mut slices);
    slices[..used].iter().for_each(|slice| pipe.extend_from_slice(slice));
    let len = batch.len();
    batch.advance(len);
}

/// How often `work` allocates.
fn allocations(work: impl FnOnce()) -> u64 {
    measure(work).count_total
}

fn wide() -> Config {
    Config { stream_window: 1 << 20, receive_memory_max: 1 << 26, send_queue_max: 1 << 20, ..few() }
}

fn few() -> Config {
    Config { accept_streams_max: 16, open_streams_max: 16, ..Config::default() }
}

#[test]
fn a_large_payload_is_written_from_the_memory_it_came_in() {
    let mut pair = Pair::new(wide(), wide());
    let id = pair.listener.open(Bytes::new(), false).unwrap();
    pair.settle();
    let payload = Bytes::from(vec![7; 200_000]);
    let memory = payload.as_ptr_range();
    pair.listener.write(id, &mut payload.clone()).unwrap();

    let (mut from_memory, mut copied) = (0, 0);
    let mut batch = Batch::new();
    loop {
        pair.listener.poll_transmit(pair.now, &mut batch);
        if batch.is_empty() {
            break;
        }
        let mut slices = [IoSlice::new(&[]); BATCH_SLICES];
        let used = batch.io_slices(&mut slices);
        for slice in &slices[..used] {
            let shared = memory.contains(&slice.as_ptr());
            *(if shared { &mut from_memory } else { &mut copied }) += slice.len();
        }
        let len = batch.len();
        batch.advance(len);
    }
    assert_eq!(from_memory, payload.len());
    let frames = payload.len().div_ceil(Config::default().payload_max as usize);
    assert_eq!(copied, frames * 8, "only headers are copied");
}

#[test]
fn a_payload_is_copied_beside_its_header_up_to_the_limit_and_not_one_octet_above() {
    for (len, slices_expected) in [(COPY_IN_MAX, 1), (COPY_IN_MAX + 1, 2)] {
        let mut pair = Pair::new(wide(), wide());
        let id = pair.listener.open(Bytes::new(), false).unwrap();
        pair.settle();
        pair.listener.write(id, &mut Bytes::from(vec![7; len])).unwrap();
        let mut batch = Batch::new();
        pair.listener.poll_transmit(pair.now, &mut batch);
        let mut slices = [IoSlice::new(&[]); BATCH_SLICES];
        assert_eq!(batch.io_slices(&mut slices), slices_expected, "{len} octets");
    }
}

#[test]
fn a_received_payload_is_a_slice_of_the_read_buffer_unless_it_is_small() {
    for (len, shared) in [(COPY_OUT_MAX, false), (COPY_OUT_MAX + 1, true), (16_376, true)] {
        let mut victim = Victim::new(few());
        let mut octets = frame(Kind::Head, Flags::OPEN, 2, b"");
        octets.extend(frame(Kind::Data, Flags::NONE, 2, &vec![7; len]));
        let mut buffer = BytesMut::from(&octets[..]);
        let memory = buffer.as_ptr_range();
        victim.mux.handle_input(victim.now, &mut buffer).unwrap();
        let payload = events(&mut victim.mux).into_iter().find_map(|event| match event {
            Event::Data { payload, .. } => Some(payload),
            _ => None,
        });
        assert_eq!(memory.contains(&payload.unwrap().as_ptr()), shared, "{len} octets");
    }
}

/// Rounds before counting starts: queues and buffers reach their size.
const WARM_UP: u64 = 8;

/// Rounds counted.
const COUNTED: u64 = 32;

/// What each engine allocates.
#[derive(Debug, Default)]
struct Counted {
    gateway: u64,
    site: u64,
}

/// Four full frames on one stream in each round, from gateway to site.
fn bulk() -> Counted {
    let mut pair = Pair::new(wide(), wide());
    let id = pair.listener.open(Bytes::new(), false).unwrap();
    pair.settle();
    // Shared already, as the parts of a body are.
    let chunk = Bytes::from(vec![7; 4 * 16_376]);
    let shared = chunk.clone();
    let mut batch = Batch::new();
    let mut counted = Counted::default();
    for round in 0..WARM_UP + COUNTED {
        let mut payload = shared.clone();
        let mut there = BytesMut::with_capacity(96 << 10);
        let mut back = BytesMut::with_capacity(1 << 10);
        let mut gateway = allocations(|| {
            pair.listener.write(id, &mut payload).unwrap();
            pair.listener.poll_transmit(pair.now, &mut batch);
        });
        assert!(payload.is_empty(), "the window never runs out");
        write_out(&mut batch, &mut there);
        let site = allocations(|| {
            pair.dialer.handle_input(pair.now, &mut there).unwrap();
            while let Some(event) = pair.dialer.poll_event() {
                let Event::Data { payload, .. } = event else { continue };
                pair.dialer.take(id, payload.len());
            }
            pair.dialer.poll_transmit(pair.now, &mut batch);
        });
        write_out(&mut batch, &mut back);
        gateway += allocations(|| {
            pair.listener.handle_input(pair.now, &mut back).unwrap();
            while pair.listener.poll_event().is_some() {}
        });
        pair.settle();
        drop_all(&mut pair, id);
        if round >= WARM_UP {
            counted.gateway += gateway;
            counted.site += site;
        }
    }
    counted
}

/// Takes what a settling pair has left over.
fn drop_all(pair: &mut Pair, id: StreamId) {
    for event in events(&mut pair.dialer) {
        let Event::Data { payload, .. } = event else { continue };
        pair.dialer.take(id, payload.len());
    }
    pair.settle();
    events(&mut pair.listener);
}

#[test]
fn sending_bulk_allocates_nothing_for_a_data_frame() {
    let counted = bulk();
    // Four DATA frames a round, and WINDOWs now and then, of which each is copied.
    assert!(counted.gateway <= COUNTED / 4, "{counted:?} in {COUNTED} rounds");
}

#[test]
fn receiving_bulk_allocates_less_than_once_for_a_frame() {
    let counted = bulk();
    // Four frames a round share one read buffer, which allocates once when it is first shared.
    assert!(counted.site <= COUNTED, "{counted:?} in {COUNTED} rounds");
}

/// A request with a small body and its answer, from opening to release.
fn small_exchanges() -> Counted {
    let mut pair = Pair::new(few(), few());
    let (head, body) = (Bytes::from_static(&[1; 200]), Bytes::from_static(&[2; 300]));
    let answer = Bytes::from_static(&[3; 1000]);
    let mut batch = Batch::new();
    let mut counted = Counted::default();
    for round in 0..WARM_UP + COUNTED {
        let mut there = BytesMut::with_capacity(4 << 10);
        let mut back = BytesMut::with_capacity(4 << 10);
        let mut id = StreamId::LINK;
        let mut gateway = allocations(|| {
            id = pair.listener.open(head.clone(), false).unwrap();
            pair.listener.write(id, &mut body.clone()).unwrap();
            pair.listener.finish(id).unwrap();
            pair.listener.poll_transmit(pair.now, &mut batch);
        });
        write_out(&mut batch, &mut there);
        let site = allocations(|| {
            pair.dialer.handle_input(pair.now, &mut there).unwrap();
            while pair.dialer.poll_event().is_some() {}
            pair.dialer.take(id, body.len());
            pair.dialer.send_head(id, head.clone(), HeadKind::Final).unwrap();
            pair.dialer.write(id, &mut answer.clone()).unwrap();
            pair.dialer.finish(id).unwrap();
            pair.dialer.release(id);
            pair.dialer.poll_transmit(pair.now, &mut batch);
        });
        write_out(&mut batch, &mut back);
        gateway += allocations(|| {
            pair.listener.handle_input(pair.now, &mut back).unwrap();
            while pair.listener.poll_event().is_some() {}
            pair.listener.take(id, answer.len());
            pair.listener.release(id);
        });
        pair.settle();
        assert_eq!(pair.listener.stats().streams_open, 0, "the exchange is over");
        if round >= WARM_UP {
            counted.gateway += gateway;
            counted.site += site;
        }
    }
    counted
}

/// Allocations of one engine for one small exchange, at most.
const SMALL_EXCHANGE_MAX: u64 = 3;

#[test]
fn a_small_exchange_allocates_at_most_three_times_in_each_engine() {
    let counted = small_exchanges();
    assert!(counted.gateway <= SMALL_EXCHANGE_MAX * COUNTED, "{counted:?} in {COUNTED} rounds");
    assert!(counted.site <= SMALL_EXCHANGE_MAX * COUNTED, "{counted:?} in {COUNTED} rounds");
}

#[test]
fn control_frames_are_answered_without_allocating_more_than_their_copy() {
    let mut victim = Victim::new(few());
    let ping = frame(Kind::Ping, Flags::NONE, 0, b"pingpong");
    let mut batch = Batch::new();
    let mut total = 0;
    for round in 0..WARM_UP + COUNTED {
        // The budget for PING allows one a second.
        victim.now += Duration::from_secs(1);
        let mut input = BytesMut::from(&ping[..]);
        let count = allocations(|| {
            victim.mux.handle_input(victim.now, &mut input).unwrap();
            victim.mux.poll_transmit(victim.now, &mut batch);
        });
        assert_eq!(batch.len(), 16, "one PONG");
        batch.advance(16);
        total += if round >= WARM_UP { count } else { 0 };
    }
    assert!(total <= COUNTED, "{total} allocations for {COUNTED} PINGs");
}
