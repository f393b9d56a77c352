//! The whole relay over loopback sockets and TLS, beside the same requests without it.

use std::time::Instant;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use relay_benches::relay::{Ask, Client, Relay, Way, ask_all};
use relay_benches::{BULK_OCTETS, SMALL_DOWN, SMALL_UP};
use tokio::runtime::{Builder, Runtime};

const GET_1K: Ask = Ask { up: 0, down: SMALL_DOWN };
const POST_SMALL: Ask = Ask { up: SMALL_UP, down: SMALL_DOWN };
const DOWNLOAD: Ask = Ask { up: 0, down: BULK_OCTETS };
const UPLOAD: Ask = Ask { up: BULK_OCTETS, down: SMALL_DOWN };

/// What is measured, by name and by how many are in flight; the small ones first.
const ALL: [(&str, Ask, usize); 5] = [
    ("get_1k_1_in_flight", GET_1K, 1),
    ("get_1k_64_in_flight", GET_1K, 64),
    ("post_300_64_in_flight", POST_SMALL, 64),
    ("download_16m", DOWNLOAD, 1),
    ("upload_16m", UPLOAD, 1),
];

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for (group, way) in [("relay/loopback", Way::Relayed), ("raw/http", Way::Direct)] {
        measure(&mut criterion, group, way, &ALL);
    }
    // What it costs beside the first group that each client shows who it is.
    let ways =
        [("relay/token", Way::RelayedByToken), ("relay/certificate", Way::RelayedByCertificate)];
    for (group, way) in ways {
        measure(&mut criterion, group, way, &ALL[..3]);
    }
    criterion.final_summary();
}

/// As many worker threads as the smallest machine has that the figures are compared on.
fn runtime() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().expect("the system has a poller to spare")
}

/// A running relay and its clients, for every sample of one benchmark.
struct Fixture {
    runtime: Runtime,
    clients: Vec<Client>,
    _relay: Relay,
}

impl Fixture {
    fn new(way: Way, in_flight: usize) -> Self {
        let runtime = runtime();
        let relay = runtime.block_on(Relay::start());
        let clients = runtime.block_on(relay.clients(way, in_flight));
        Self { runtime, clients, _relay: relay }
    }
}

fn measure(criterion: &mut Criterion, group: &str, way: Way, all: &[(&str, Ask, usize)]) {
    let mut group = criterion.benchmark_group(group);
    // Few, long samples: the begin and end of each, with fewer in flight, must not count.
    group.sample_size(20).sampling_mode(SamplingMode::Flat);
    for &(name, ask, in_flight) in all {
        group.throughput(throughput(ask));
        let mut fixture = None;
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            let Fixture { runtime, clients, .. } =
                fixture.get_or_insert_with(|| Fixture::new(way, in_flight));
            bencher.iter_custom(|count| {
                let begun = Instant::now();
                let busy = std::mem::take(clients);
                *clients = runtime.block_on(ask_all(busy, ask, count));
                begun.elapsed()
            });
        });
    }
    group.finish();
}

/// Exchanges where they are small, else the octets of their bodies.
fn throughput(ask: Ask) -> Throughput {
    let octets = (ask.up + ask.down) as u64;
    if octets < BULK_OCTETS as u64 { Throughput::Elements(1) } else { Throughput::Bytes(octets) }
}
