//! Heads of requests and answers, to and from the blocks that travel.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use relay_core::exchange::{AnswerHead, Assertions, HeadLimits, MessageId, Origin, RequestHead};

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

/// The headers of a client that posts a message.
fn request() -> RequestHead {
    let target = "/CCM_Proxy_MutualAuth/72057594037927939/ccm_system/request";
    let mut assertions = Assertions::new(MessageId([7; 16]));
    assertions.answer_within = Some(Duration::from_secs(65));
    RequestHead {
        method: Method::from_bytes(b"CCM_POST").expect("the verb is a token"),
        target: PathAndQuery::from_static(target),
        headers: headers(&[
            ("host", "gateway.example.org"),
            ("user-agent", "ConfigMgr Messaging HTTP Sender"),
            ("content-type", "multipart/mixed; boundary=\"aAbBcCdDv1234567890VxXyYzZ\""),
            ("content-length", "1984"),
            ("accept", "*/*"),
            ("date", "Sat, 21 Nov 2026 10:00:00 GMT"),
        ]),
        assertions,
    }
}

/// The headers of an answer from the web server behind a site role.
fn answer() -> AnswerHead {
    AnswerHead {
        status: StatusCode::OK,
        reason: None,
        headers: headers(&[
            ("content-type", "multipart/mixed; boundary=\"aAbBcCdDv1234567890VxXyYzZ\""),
            ("content-length", "1024"),
            ("server", "Microsoft-IIS/10.0"),
            ("date", "Sat, 21 Nov 2026 10:00:00 GMT"),
            ("x-powered-by", "ASP.NET"),
        ]),
        origin: Origin::Site,
    }
}

fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let field = |&(name, value): &(&'static str, &'static str)| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    fields.iter().map(field).collect()
}
