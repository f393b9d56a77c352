//! The cases that the link and its peers are compared in, and one measured run of each.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::BULK_OCTETS;
use crate::load::{Background, download, latencies, quantile, small_exchanges};
use crate::peers::{Connection, Contender};
use crate::pipes::Carrier;

/// Streams that a stalled reader is one of.
pub const STALLED_STREAMS: usize = 100;

/// Downloads beside which small exchanges are timed.
pub const BACKGROUND_STREAMS: usize = 4;

/// A case.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Case {
    /// One answer on each of this many streams.
    Bulk(usize),
    /// Small exchanges, this many at a time.
    Small(usize),
    /// Small exchanges one after the other beside [`BACKGROUND_STREAMS`] downloads.
    Loaded,
    /// All but one of [`STALLED_STREAMS`] streams download, and one is not read.
    Stalled,
}

impl Case {
    /// Every case.
    pub const ALL: [Self; 7] = [
        Self::Bulk(1),
        Self::Bulk(64),
        Self::Small(1),
        Self::Small(64),
        Self::Small(512),
        Self::Loaded,
        Self::Stalled,
    ];

    /// Its name in a benchmark's id.
    pub fn name(self) -> String {
        match self {
            Self::Bulk(streams) => format!("bulk_{streams}"),
            Self::Small(in_flight) => format!("small_{in_flight}"),
            Self::Loaded => "small_beside_bulk".into(),
            Self::Stalled => "bulk_beside_stalled".into(),
        }
    }

    /// Whether `contender` takes part over `carrier`.
    pub fn suits(self, contender: Contender, carrier: Carrier) -> bool {
        let needs_mux = !matches!(self, Self::Bulk(1) | Self::Small(1));
        contender.travels_in(carrier) && (contender.is_mux() || !needs_mux)
    }

    /// Whether `contender` is known to stand still in this case: with default windows the stalled
    /// stream of `h2` takes the whole window of the connection.
    pub fn stalls(self, contender: Contender) -> bool {
        self == Self::Stalled && contender == Contender::H2Default
    }
}

/// How much one run does.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Octets of one bulk transfer.
    pub octets: usize,
    /// Small exchanges.
    pub exchanges: u64,
}

impl Size {
    /// A quarter of it.
    #[must_use]
    pub fn quarter(self) -> Self {
        Self { octets: self.octets / 4, exchanges: self.exchanges.div_ceil(4) }
    }
}

/// What one run did.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Octets or exchanges.
    pub work: u64,
    /// Time on the clock.
    pub elapsed: Duration,
    /// Time of the process on all processors: both ends together.
    pub cpu: Duration,
    /// Writes to both sockets.
    pub writes: u64,
    /// The run against the same without disturbance: the rate of [`Case::Stalled`], where 1 is
    /// undisturbed and less is slower; the 99th percentile of [`Case::Loaded`], where more is
    /// slower.
    pub quotient: Option<f64>,
    /// The 99th percentile without and with load, of [`Case::Loaded`].
    pub p99: Option<[Duration; 2]>,
}

/// Runs `case` once on `connection`.
///
/// After [`Case::Stalled`] the connection has a stream that was abandoned: use a fresh one.
///
/// # Panics
///
/// If an exchange fails or is short.
pub async fn run(connection: &Connection, case: Case, size: Size) -> Run {
    let handle = connection.handle();
    match case {
        Case::Bulk(streams) => {
            let work = download(&handle, streams, size.octets);
            measure(connection, size.octets as u64, work).await.0
        }
        Case::Small(in_flight) => {
            let work = small_exchanges(&handle, in_flight, size.exchanges);
            measure(connection, size.exchanges, work).await.0
        }
        Case::Loaded => {
            // Far fewer, for each takes as long as what queues before it.
            let exchanges = size.exchanges.div_ceil(4);
            let mut unloaded = latencies(&handle, exchanges).await;
            let background = Background::start(&handle, BACKGROUND_STREAMS);
            let work = latencies(&handle, exchanges);
            let (run, mut loaded) = measure(connection, exchanges, work).await;
            background.stop().await;
            let p99 = [quantile(&mut unloaded, 990), quantile(&mut loaded, 990)];
            let quotient = Some(p99[1].as_secs_f64() / p99[0].as_secs_f64());
            Run { quotient, p99: Some(p99), ..run }
        }
        Case::Stalled => {
            let streams = STALLED_STREAMS - 1;
            // Windows grow first.
            download(&handle, streams, size.octets).await;
            let work = download(&handle, streams, size.octets);
            let (unstalled, ()) = measure(connection, size.octets as u64, work).await;
            let held = handle.hold(BULK_OCTETS).await;
            download(&handle, streams, size.octets).await;
            let work = download(&handle, streams, size.octets);
            let (run, ()) = measure(connection, size.octets as u64, work).await;
            drop(held);
            let quotient = Some(unstalled.elapsed.as_secs_f64() / run.elapsed.as_secs_f64());
            Run { quotient, ..run }
        }
    }
}

async fn measure<T>(connection: &Connection, work: u64, load: impl Future<Output = T>) -> (Run, T) {
    let (writes, cpu, begun) = (connection.writes(), cpu_time(), Instant::now());
    let done = load.await;
    let run = Run {
        work,
        elapsed: begun.elapsed(),
        cpu: cpu_time().saturating_sub(cpu),
        writes: connection.writes() - writes,
        quotient: None,
        p99: None,
    };
    (run, done)
}

/// Processor time of this process so far.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap_or_default()
}
