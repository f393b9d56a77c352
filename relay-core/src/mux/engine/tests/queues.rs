//! How much may wait to be sent.

use super::*;

const STREAMS: u32 = 64;

/// A link whose peer takes a MiB of each of so many streams.
fn eager() -> Pair {
    let site = Config {
        stream_window: 1 << 20,
        receive_memory_max: u64::from(STREAMS) << 20,
        accept_streams_max: STREAMS,
        open_streams_max: 0,
        ..Config::default()
    };
    Pair::with(Config { open_streams_max: STREAMS, ..Config::default() }, site)
}

/// Writes a MiB, of which as much is queued as there is room for. Returns how much that was.
fn fill(pair: &mut Pair, id: StreamId) -> usize {
    let mut payload = Bytes::from(vec![7; 1 << 20]);
    let all = payload.len();
    pair.gateway.write(id, &mut payload).unwrap();
    all - payload.len()
}

#[test]
fn a_stream_alone_may_queue_all_that_streams_share_also_before_its_opening_has_left() {
    let mut pair = eager();
    let shared = Config::default().send_queue_shared as usize;
    let id = pair.gateway.open(head(), false).unwrap();
    assert_eq!((pair.gateway.room(id), fill(&mut pair, id)), (shared, shared));
}

#[test]
fn streams_whose_openings_wait_for_the_pipe_share_what_may_be_queued() {
    let mut pair = eager();
    let each = Config::default().send_queue_max as usize;
    let ids: Vec<_> = (0..STREAMS).map(|_| pair.gateway.open(head(), false).unwrap()).collect();
    for id in ids {
        assert_eq!(fill(&mut pair, id), each, "stream {id}");
    }
    assert_eq!(pair.gateway.stats().payload_queued, u64::from(STREAMS) * each as u64);
}

#[test]
fn streams_in_line_and_streams_whose_openings_wait_count_alike() {
    let mut pair = eager();
    let shared = Config::default().send_queue_shared as usize;
    let [in_line, unsent] = [(); 2].map(|()| pair.gateway.open(head(), false).unwrap());
    // The pipe takes the openings and nothing else: a queue forms behind it.
    sent(&mut pair.gateway, pair.now);
    pair.gateway.write(in_line, &mut Bytes::from_static(b"waits")).unwrap();
    assert_eq!(pair.gateway.room(unsent), shared, "one is in line");
    let opened = pair.gateway.open(head(), false).unwrap();
    assert_eq!(pair.gateway.room(opened), shared / 2, "and the opening of another waits");
}
