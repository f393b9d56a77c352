//! Heads of requests and answers, to and from the blocks that travel.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use relay_benches::samples::{answer, request};
use relay_core::exchange::{AnswerHead, HeadLimits, RequestHead};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    head(&mut criterion);
    criterion.final_summary();
}

fn head(criterion: &mut Criterion) {
    let limits = HeadLimits::default();
    let (request, answer) = (request(), answer());
    let request_block = request.encode(&limits).expect("the head is within the limits");
    let answer_block = answer.encode(&limits).expect("the head is within the limits");

    let mut group = criterion.benchmark_group("exchange/head");
    group.throughput(Throughput::Elements(1));
    group.bench_function("encode_request", |bencher| {
        bencher.iter(|| black_box(&request).encode(&limits));
    });
    group.bench_function("decode_request", |bencher| {
        bencher.iter(|| RequestHead::decode(black_box(request_block.clone()), &limits));
    });
    group.bench_function("encode_answer", |bencher| {
        bencher.iter(|| black_box(&answer).encode(&limits));
    });
    group.bench_function("decode_answer", |bencher| {
        bencher.iter(|| AnswerHead::decode(black_box(answer_block.clone()), &limits));
    });
    group.finish();
}
