//! What is sent first.

use super::*;

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
