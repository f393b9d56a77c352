//! The protocol engine without runtime and sockets: framing, bulk and small exchanges.

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use relay_benches::engines::{Engines, Sender};
use relay_benches::samples::data_frames;
use relay_benches::{BULK_OCTETS, payload};
use relay_core::mux::{Decoder, FrameLimits, HEADER_LEN};

/// The longest DATA payload by default: header and payload are 16 KiB together.
const FULL_PAYLOAD: usize = 16_376;

/// The payload of the small frames.
const SMALL_PAYLOAD: usize = 64;

/// Octets on the wire that the decoder is given at once, at least.
const WIRE_OCTETS: usize = 1 << 20;

/// Credit of each stream in bulk: so wide that the engines, not the window, are measured.
const BULK_WINDOW: u32 = 1 << 20;

/// Streams that write a small frame each, so that the frames cannot be gathered into one.
const SMALL_STREAMS: u32 = 64;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    encode(&mut criterion);
    decode(&mut criterion);
    bulk(&mut criterion);
    small_exchange(&mut criterion);
    criterion.final_summary();
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mux/codec");
    let frames = 4;
    group.throughput(Throughput::Bytes((frames * FULL_PAYLOAD) as u64));
    let mut sender = None;
    group.bench_function("encode_16k", |bencher| {
        let sender = sender.get_or_insert_with(|| Sender::new(1, BULK_WINDOW));
        let payload = payload(frames * FULL_PAYLOAD);
        bencher.iter(|| {
            sender.grant(BULK_WINDOW.into());
            sender.send(black_box(&payload))
        });
    });
    group.throughput(Throughput::Bytes((SMALL_STREAMS as usize * SMALL_PAYLOAD) as u64));
    let mut sender = None;
    group.bench_function("encode_64", |bencher| {
        let sender = sender.get_or_insert_with(|| Sender::new(SMALL_STREAMS, BULK_WINDOW));
        // What the sample before has left of its credit is unknown here.
        sender.grant(BULK_WINDOW.into());
        let payload = payload(SMALL_PAYLOAD);
        let mut uncredited = 0;
        bencher.iter(|| {
            uncredited += SMALL_PAYLOAD;
            if uncredited > BULK_WINDOW as usize / 2 {
                sender.grant(BULK_WINDOW.into());
                uncredited = 0;
            }
            sender.send(black_box(&payload))
        });
    });
    group.finish();
}

fn decode(criterion: &mut Criterion) {
    let limits = FrameLimits { payload_max: 16_376, head_max: 16_376 };
    let mut group = criterion.benchmark_group("mux/codec");
    for (name, len) in [("decode_16k", FULL_PAYLOAD), ("decode_64", SMALL_PAYLOAD)] {
        let wire = data_frames(len, WIRE_OCTETS.div_ceil(len + HEADER_LEN));
        group.throughput(Throughput::Bytes(wire.len() as u64));
        group.bench_function(name, |bencher| {
            let input = || BytesMut::from(&wire[..]);
            let cut = |mut input: BytesMut| {
                let mut decoder = Decoder::new(limits);
                while let Some(item) = decoder.next(&mut input).expect("the frames are valid") {
                    black_box(item);
                }
            };
            bencher.iter_batched(input, cut, BatchSize::LargeInput);
        });
    }
    group.finish();
}

fn bulk(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mux/bulk");
    group.throughput(Throughput::Bytes(BULK_OCTETS as u64));
    for streams in [1, 64] {
        let mut pair = None;
        group.bench_function(BenchmarkId::from_parameter(streams), |bencher| {
            let pair = pair.get_or_insert_with(|| Engines::new(streams, BULK_WINDOW));
            bencher.iter(|| pair.download(streams as usize, BULK_OCTETS));
        });
    }
    group.finish();
}

fn small_exchange(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mux/small_exchange");
    for in_flight in [1, 64] {
        group.throughput(Throughput::Elements(in_flight as u64));
        let mut pair = None;
        group.bench_function(BenchmarkId::from_parameter(in_flight), |bencher| {
            let pair = pair.get_or_insert_with(|| Engines::new(1024, 32 << 10));
            bencher.iter(|| pair.small_exchanges(in_flight));
        });
    }
    group.finish();
}
