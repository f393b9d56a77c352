//! Links over loopback sockets on one thread, beside the bare connection they travel in.

use std::time::Instant;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use relay_benches::BULK_OCTETS;
use relay_benches::load::{download, small_exchanges};
use relay_benches::peers::{Connection, Contender};
use relay_benches::pipes::Carrier;
use tokio::runtime::{Builder, Runtime};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    bulk(&mut criterion);
    raw_bulk(&mut criterion);
    small_exchange(&mut criterion);
    raw_ping_pong(&mut criterion);
    criterion.final_summary();
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("the system has a poller to spare")
}

fn connect(contender: Contender, carrier: Carrier) -> (Runtime, Connection) {
    let runtime = runtime();
    let connection = runtime.block_on(Connection::new(contender, carrier));
    (runtime, connection)
}

fn bulk(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("link/bulk");
    group.throughput(Throughput::Bytes(BULK_OCTETS as u64));
    for carrier in Carrier::ALL {
        for streams in [1, 64] {
            let mut fixture = None;
            group.bench_function(BenchmarkId::new(carrier.name(), streams), |bencher| {
                let (runtime, links) =
                    fixture.get_or_insert_with(|| connect(Contender::Link, carrier));
                let handle = links.handle();
                bencher.iter(|| runtime.block_on(download(&handle, streams, BULK_OCTETS)));
            });
        }
    }
    group.finish();
}

/// The same octets without a link: what `link/bulk` is to be compared with.
fn raw_bulk(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("raw/bulk");
    group.throughput(Throughput::Bytes(BULK_OCTETS as u64));
    for carrier in Carrier::ALL {
        let mut fixture = None;
        group.bench_function(BenchmarkId::from_parameter(carrier.name()), |bencher| {
            let (runtime, raw) = fixture.get_or_insert_with(|| connect(Contender::Raw, carrier));
            let handle = raw.handle();
            bencher.iter(|| runtime.block_on(download(&handle, 1, BULK_OCTETS)));
        });
    }
    group.finish();
}

/// Time is per exchange: criterion's iterations are exchanges, shared by those in flight. Few, long
/// samples, so that the begin and end of each, with fewer in flight, do not count.
fn small_exchange(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("link/small_exchange");
    group.throughput(Throughput::Elements(1)).sample_size(30).sampling_mode(SamplingMode::Flat);
    for carrier in Carrier::ALL {
        for in_flight in [1, 64, 512] {
            let mut fixture = None;
            group.bench_function(BenchmarkId::new(carrier.name(), in_flight), |bencher| {
                let (runtime, links) =
                    fixture.get_or_insert_with(|| connect(Contender::Link, carrier));
                let handle = links.handle();
                bencher.iter_custom(|count| {
                    let begun = Instant::now();
                    runtime.block_on(small_exchanges(&handle, in_flight, count));
                    begun.elapsed()
                });
            });
        }
    }
    group.finish();
}

/// The same payloads without a link, one exchange at a time.
fn raw_ping_pong(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("raw/small_exchange");
    group.throughput(Throughput::Elements(1));
    for carrier in Carrier::ALL {
        let mut fixture = None;
        group.bench_function(BenchmarkId::new(carrier.name(), 1), |bencher| {
            let (runtime, raw) = fixture.get_or_insert_with(|| connect(Contender::Raw, carrier));
            let handle = raw.handle();
            bencher.iter_custom(|count| {
                let begun = Instant::now();
                runtime.block_on(small_exchanges(&handle, 1, count));
                begun.elapsed()
            });
        });
    }
    group.finish();
}
