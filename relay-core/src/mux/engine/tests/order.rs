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

/// Openings that never end, and what wants to leave beside them.
struct Crowd {
    pair: Pair,
    uploads: Vec<StreamId>,
    batch: Batch,
    /// What the pipe has taken.
    wire: Vec<u8>,
}

/// Longer than what is copied: each costs two slices of a batch.
const LONG_HEAD: usize = 2000;

impl Crowd {
    fn new() -> Self {
        let site = Config {
            stream_window: 256 << 10,
            receive_memory_max: 1 << 30,
            accept_streams_max: 2048,
            ..Config::default()
        };
        let mut pair = Pair::with(Config::for_streams(16, 2048), site);
        let open = |pair: &mut Pair| pair.gateway.open(head(), false).unwrap();
        let uploads = (0..8).map(|_| open(&mut pair)).collect();
        pair.settle();
        let mut crowd = Self { pair, uploads, batch: Batch::new(), wire: Vec::new() };
        crowd.refill();
        crowd
    }

    /// Openings come as fast as the pipe takes them, and so does what the uploads carry.
    fn refill(&mut self) {
        let Self { pair, uploads, .. } = self;
        while pair.gateway.openings.len() < 64 {
            pair.gateway.open(Bytes::from(vec![7; LONG_HEAD]), false).unwrap();
        }
        for id in uploads {
            pair.gateway.write(*id, &mut Bytes::from(vec![7; 2 * LONG_HEAD])).unwrap();
        }
    }

    /// The pipe takes at most so many octets.
    fn pass(&mut self, octets_max: usize) {
        self.pair.gateway.poll_transmit(self.pair.now, &mut self.batch);
        let mut slices = [IoSlice::new(&[]); BATCH_SLICES];
        let used = self.batch.io_slices(&mut slices);
        let ready = slices[..used].iter().flat_map(|slice| slice.iter().copied());
        let before = self.wire.len();
        self.wire.extend(ready.take(octets_max));
        self.batch.advance(self.wire.len() - before);
    }

    /// How many openings the pipe has taken, RESETs, and frames of the uploads.
    fn taken(&self) -> [usize; 3] {
        let kinds = kinds(&self.wire);
        [Kind::Head, Kind::Reset, Kind::Data]
            .map(|kind| kinds.iter().filter(|k| **k == kind).count())
    }
}

// [MUX-45] +-
#[test]
fn openings_that_never_end_leave_half_of_a_batch_to_what_else_is_ready() {
    let mut crowd = Crowd::new();
    let reset = crowd.uploads.pop().unwrap();
    crowd.pair.gateway.reset(reset, CODE);
    crowd.pass(usize::MAX);
    let [heads, resets, data] = crowd.taken();
    assert_eq!(resets, 1, "{heads} openings first");
    assert!(heads >= BATCH_SLICES / 4 - 1, "{heads} openings");
    assert!(data >= 7, "{data} frames of seven uploads");
}

// [MUX-45] +-
#[test]
fn a_pipe_that_takes_a_little_at_a_time_gets_openings_and_what_else_is_ready_in_turn() {
    let mut crowd = Crowd::new();
    for _ in 0..600 {
        crowd.pass(LONG_HEAD);
        crowd.refill();
    }
    let before = crowd.taken();
    for _ in 0..300 {
        crowd.pass(LONG_HEAD);
        crowd.refill();
    }
    let after = crowd.taken();
    let [heads, _, data] = [0, 1, 2].map(|kind| after[kind] - before[kind]);
    assert!(heads > 10 && data > 10, "{heads} openings and {data} frames of uploads");
}

#[test]
fn no_opening_stays_behind_when_a_batch_is_left_empty() {
    let mut crowd = Crowd::new();
    let waiting = crowd.pair.gateway.openings.len();
    let octets = sent(&mut crowd.pair.gateway, crowd.pair.now);
    let heads = kinds(&octets).into_iter().filter(|kind| *kind == Kind::Head).count();
    assert_eq!(heads, waiting);
}
