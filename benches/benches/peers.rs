//! The link beside other multiplexers and the bare pipe: the same payload, pipes and runtime.
//!
//! Ids are `peer/<case>/<carrier>/<contender>`; all contenders of a case follow one another. For
//! ratios within one run, in turns, see the program `compare`.

use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput};
use relay_benches::cases::{BACKGROUND_STREAMS, Case, STALLED_STREAMS};
use relay_benches::load::{Background, download, latencies, small_exchanges};
use relay_benches::peers::{Connection, Contender, Handle, Held};
use relay_benches::pipes::Carrier;
use relay_benches::{BULK_OCTETS, HEAD_OCTETS};
use tokio::runtime::{Builder, Runtime};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for case in Case::ALL {
        for carrier in Carrier::ALL {
            measure(&mut criterion, case, carrier);
        }
    }
    criterion.final_summary();
}

/// A connection for every sample of one benchmark.
struct Fixture {
    // First to go: what is held is let go while its connection is up.
    _held: Option<Held>,
    connection: Connection,
    runtime: Runtime,
}

impl Fixture {
    fn new(case: Case, contender: Contender, carrier: Carrier) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("the system has a poller to spare");
        let (connection, held) = runtime.block_on(async {
            let connection = Connection::new(contender, carrier).await;
            let held = match case {
                Case::Stalled => Some(connection.handle().hold(BULK_OCTETS).await),
                _ => None,
            };
            (connection, held)
        });
        Self { _held: held, connection, runtime }
    }

    /// Runs `count` rounds of `case`: transfers or exchanges.
    fn run(&self, case: Case, count: u64) -> Duration {
        let handle = self.connection.handle();
        self.runtime.block_on(async {
            let begun = Instant::now();
            match case {
                Case::Bulk(streams) => bulk(&handle, streams, count).await,
                Case::Stalled => bulk(&handle, STALLED_STREAMS - 1, count).await,
                Case::Small(in_flight) => small_exchanges(&handle, in_flight, count).await,
                Case::Loaded => return loaded(&handle, count).await,
            }
            begun.elapsed()
        })
    }
}

async fn bulk(handle: &Handle, streams: usize, count: u64) {
    for _ in 0..count {
        download(handle, streams, BULK_OCTETS).await;
    }
}

async fn loaded(handle: &Handle, count: u64) -> Duration {
    // The link is asked for something first, so that it is warm before the downloads begin.
    handle.exchange(Bytes::new(), HEAD_OCTETS).await;
    let background = Background::start(handle, BACKGROUND_STREAMS);
    let latencies = latencies(handle, count).await;
    background.stop().await;
    latencies.iter().sum()
}

fn measure(criterion: &mut Criterion, case: Case, carrier: Carrier) {
    let group = format!("peer/{}/{}", case.name(), carrier.name());
    let mut group = criterion.benchmark_group(group);
    match case {
        Case::Bulk(_) | Case::Stalled => group.throughput(Throughput::Bytes(BULK_OCTETS as u64)),
        Case::Small(_) | Case::Loaded => group.throughput(Throughput::Elements(1)),
    };
    // Few, long samples, so that the begin and end of each do not count.
    group.sample_size(20).sampling_mode(SamplingMode::Flat);
    for contender in Contender::ALL {
        if case.suits(contender, carrier) && !case.stalls(contender) {
            add(&mut group, case, contender, carrier);
        }
    }
    group.finish();
}

fn add(
    group: &mut BenchmarkGroup<'_, WallTime>,
    case: Case,
    contender: Contender,
    carrier: Carrier,
) {
    let mut fixture = None;
    group.bench_function(BenchmarkId::from_parameter(contender.name()), |bencher| {
        let fixture = fixture.get_or_insert_with(|| Fixture::new(case, contender, carrier));
        bencher.iter_custom(|count| fixture.run(case, count));
    });
}
