//! Instructions of the protocol engine and of its codecs, counted by callgrind.
//!
//! An id here is one of [`relay_benches::instructions::CASES`]: the group is the room, the function
//! the operation, the benchmark the parameter. What is counted is the function's body; what its
//! `setup` makes has done the same work before, so that nothing grows while it is counted.
//!
//! The program `instructions` runs this and compares: see there.

#![allow(missing_docs, unused_qualifications, reason = "in what the macros write")]

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use gungraun::prelude::*;
use relay_benches::engines::{Engines, Receiver, Sender};
use relay_benches::instructions::{EXCHANGES, FRAMES, HEADS};
use relay_benches::payload;
use relay_benches::samples::{answer, data_frames, request};
use relay_core::exchange::{AnswerHead, HeadLimits, RequestHead};
use relay_core::mux::{Decoder, FrameLimits};

/// The longest DATA payload by default: header and payload are 16 KiB together.
const FULL_PAYLOAD: usize = 16_376;

/// The payload of the small frames.
const SMALL_PAYLOAD: usize = 64;

/// Full frames that a pipe gives or takes at once.
const FRAMES_AT_ONCE: usize = 4;

/// Credit for twice [`FRAMES`] full frames: warming up and counting need no grant.
const WINDOW: u32 = 4 << 20;

/// A sender and what it sends, so often.
type Sending = (Sender, Bytes, usize);

fn send((mut sender, payload, times): Sending) -> Sending {
    for _ in 0..times {
        black_box(sender.send(black_box(&payload)));
    }
    (sender, payload, times)
}

fn full_frames() -> Sending {
    let payload = payload(FRAMES_AT_ONCE * FULL_PAYLOAD);
    (Sender::new(1, WINDOW), payload, FRAMES / FRAMES_AT_ONCE)
}

/// One frame on each stream, so that they cannot be gathered into one.
fn small_frames() -> Sending {
    let streams = u32::try_from(FRAMES).expect("it is a few dozen");
    (Sender::new(streams, 32 << 10), payload(SMALL_PAYLOAD), 1)
}

#[library_benchmark]
#[bench::full(send(full_frames()))]
#[bench::small(send(small_frames()))]
fn encode_data(sending: Sending) -> Sending {
    send(sending)
}

/// A receiver, and what arrives part by part.
fn arriving() -> (Receiver, Vec<BytesMut>) {
    let wire = data_frames(FULL_PAYLOAD, FRAMES);
    let parts = wire.chunks(wire.len() / (FRAMES / FRAMES_AT_ONCE));
    let parts: Vec<BytesMut> = parts.map(BytesMut::from).collect();
    let mut receiver = Receiver::new(WINDOW);
    receive(&mut receiver, &mut parts.clone());
    (receiver, parts)
}

fn receive(receiver: &mut Receiver, parts: &mut [BytesMut]) {
    for part in parts {
        black_box(receiver.receive(part));
    }
}

#[library_benchmark]
#[bench::full(arriving())]
fn decode_data((mut receiver, mut parts): (Receiver, Vec<BytesMut>)) -> (Receiver, Vec<BytesMut>) {
    receive(&mut receiver, &mut parts);
    (receiver, parts)
}

fn download(mut engines: Engines) -> Engines {
    engines.download(1, FRAMES * FULL_PAYLOAD);
    engines
}

#[library_benchmark]
#[bench::full(download(Engines::new(1, WINDOW)))]
fn carry_data(engines: Engines) -> Engines {
    download(engines)
}

fn exchanges(mut engines: Engines, in_flight: usize) -> Engines {
    for _ in 0..EXCHANGES / in_flight {
        engines.small_exchanges(black_box(in_flight));
    }
    engines
}

fn warm_engines(in_flight: usize) -> (Engines, usize) {
    (exchanges(Engines::new(1024, 32 << 10), in_flight), in_flight)
}

#[library_benchmark]
#[bench::in_flight_1(warm_engines(1))]
#[bench::in_flight_64(warm_engines(64))]
fn small_exchange((engines, in_flight): (Engines, usize)) -> Engines {
    exchanges(engines, in_flight)
}

#[library_benchmark]
#[bench::small(BytesMut::from(&data_frames(SMALL_PAYLOAD, FRAMES)[..]))]
fn decode_frames(mut input: BytesMut) -> BytesMut {
    let limits = FrameLimits { payload_max: 16_376, head_max: 16_376 };
    let mut decoder = Decoder::new(limits);
    while let Some(item) = decoder.next(&mut input).expect("the frames are valid") {
        black_box(item);
    }
    input
}

/// A codec at work on a head of its own.
type HeadWork = Box<dyn Fn()>;

fn repeated<T>(what: impl Fn() -> T + 'static) -> HeadWork {
    Box::new(move || {
        for _ in 0..HEADS {
            black_box(what());
        }
    })
}

fn encode_request() -> HeadWork {
    let (head, limits) = (request(), HeadLimits::default());
    repeated(move || black_box(&head).encode(&limits))
}

fn encode_answer() -> HeadWork {
    let (head, limits) = (answer(), HeadLimits::default());
    repeated(move || black_box(&head).encode(&limits))
}

fn decode_request() -> HeadWork {
    let limits = HeadLimits::default();
    let block = request().encode(&limits).expect("the head is within the limits");
    repeated(move || RequestHead::decode(black_box(block.clone()), &limits))
}

fn decode_answer() -> HeadWork {
    let limits = HeadLimits::default();
    let block = answer().encode(&limits).expect("the head is within the limits");
    repeated(move || AnswerHead::decode(black_box(block.clone()), &limits))
}

fn warm(work: HeadWork) -> HeadWork {
    work();
    work
}

#[library_benchmark]
#[bench::encode_request(warm(encode_request()))]
#[bench::encode_answer(warm(encode_answer()))]
#[bench::decode_request(warm(decode_request()))]
#[bench::decode_answer(warm(decode_answer()))]
fn head(work: HeadWork) -> HeadWork {
    work();
    work
}

library_benchmark_group!(
    name = mux,
    benchmarks = [encode_data, decode_data, carry_data, small_exchange, decode_frames]
);

library_benchmark_group!(name = exchange, benchmarks = [head]);

/// Keeps the C library from choosing how to copy and compare memory by the processor, which would
/// change counts several times over: what every x86-64 has is left.
const NO_DISPATCH: &str = "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX2,-AVX,-AVX_Fast_Unaligned_Load,\
                           -ERMS,-FSRM,-SSSE3,-SSE4_1,-SSE4_2";

main!(
    config = LibraryBenchmarkConfig::default().env("GLIBC_TUNABLES", NO_DISPATCH),
    library_benchmark_groups = [mux, exchange]
);
