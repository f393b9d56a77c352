//! What a link costs through its handles, counted: write calls, copies, wakes and memory. Nothing
//! here looks at a clock, and one thread runs everything, so the counts repeat.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::future::Future;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use allocation_counter::measure;
use bytes::Bytes;
use relay_core::link::{self, End, Incoming, Link};
use relay_core::mux::{COPY_OUT_MAX, Config, HeadKind, Side, StreamId};
use relay_core::transport::{accept_link, link_client_config, link_server_config, secure_link};
use relay_tests::mux::{Pair, events};
use relay_tests::pki::SiteCa;
use relay_tests::roles::SERVICE;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::task::JoinSet;

const MIB: usize = 1 << 20;

/// Octets in one chunk of bulk: four full frames, as many as one batch takes.
const CHUNK: usize = CHUNK_OCTETS as usize;

/// The same, as settings count octets.
const CHUNK_OCTETS: u32 = 4 * 16_376;

/// What passed one end of a pipe.
#[derive(Debug, Default)]
struct Traffic {
    write_calls: usize,
    written: usize,
    /// Where octets were written from, that is, the slices of each call as far as they were taken.
    sources: Vec<Range<usize>>,
    /// Where octets were read to.
    targets: Vec<Range<usize>>,
    /// Whether nothing is noted.
    is_off: bool,
}

/// One end of an in-memory pipe, and what passed it.
#[derive(Debug)]
struct CountedPipe {
    pipe: DuplexStream,
    traffic: Arc<Mutex<Traffic>>,
}

impl CountedPipe {
    fn pair() -> (Self, Self) {
        // Wider than a batch: a write is never partial because of the pipe.
        let (near, far) = tokio::io::duplex(4 * MIB);
        let counted = |pipe| Self { pipe, traffic: Arc::default() };
        (counted(near), counted(far))
    }
}

fn addresses(octets: &[u8]) -> Range<usize> {
    let start = octets.as_ptr().addr();
    start..start + octets.len()
}

impl AsyncRead for CountedPipe {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let outcome = Pin::new(&mut this.pipe).poll_read(cx, buf);
        let arrived = &buf.filled()[before..];
        let mut traffic = this.traffic.lock().unwrap();
        if !arrived.is_empty() && !traffic.is_off {
            traffic.targets.push(addresses(arrived));
        }
        drop(traffic);
        outcome
    }
}

impl AsyncWrite for CountedPipe {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(octets)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.pipe).poll_write_vectored(cx, slices);
        let mut traffic = this.traffic.lock().unwrap();
        traffic.write_calls += 1;
        if let Poll::Ready(Ok(written)) = outcome
            && !traffic.is_off
        {
            traffic.written += written;
            let mut left = written;
            for slice in slices {
                let taken = left.min(slice.len());
                traffic.sources.push(addresses(&slice[..taken]));
                left -= taken;
            }
        }
        outcome
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().pipe).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().pipe).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

/// A future whose polls are counted: each but the first is a wake.
struct Counted<F> {
    inner: Pin<Box<F>>,
    polls: Arc<AtomicUsize>,
}

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.polls.fetch_add(1, Ordering::Relaxed);
        self.inner.as_mut().poll(cx)
    }
}

fn counted<F: Future>(inner: F, polls: &Arc<AtomicUsize>) -> Counted<F> {
    Counted { inner: Box::pin(inner), polls: Arc::clone(polls) }
}

/// Gateway and site on a counted pipe, with what was counted of each.
struct Counts {
    gateway: Link,
    site: Link,
    traffic: [Arc<Mutex<Traffic>>; 2],
    polls: [Arc<AtomicUsize>; 2],
    _drivers: JoinSet<()>,
}

impl Counts {
    async fn new(gateway: Config, site: Config) -> Self {
        let (near, far) = CountedPipe::pair();
        let traffic = [Arc::clone(&near.traffic), Arc::clone(&far.traffic)];
        Self::over(near, far, traffic, [gateway, site]).await
    }

    /// What is counted is below TLS.
    async fn in_tls(gateway: Config, site: Config) -> Self {
        const LIMIT: Duration = Duration::from_secs(10);
        let (near, far) = CountedPipe::pair();
        let traffic = [Arc::clone(&near.traffic), Arc::clone(&far.traffic)];
        let ca = SiteCa::new();
        let server = link_server_config(&ca.server(SERVICE), &ca.anchors()).unwrap();
        let client = link_client_config(&ca.connection_point("cp-1"), &ca.anchors()).unwrap();
        let accepted = accept_link(near, server, LIMIT);
        let (near, far) = tokio::join!(accepted, secure_link(far, SERVICE, client));
        Self::over(near.unwrap(), far.unwrap(), traffic, [gateway, site]).await
    }

    async fn over<N, F>(
        near: N,
        far: F,
        traffic: [Arc<Mutex<Traffic>>; 2],
        [gateway, site]: [Config; 2],
    ) -> Self
    where
        N: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        F: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (gateway, gateway_driver) = link::new(near, Side::Listener, gateway).unwrap();
        let (site, site_driver) = link::new(far, Side::Dialer, site).unwrap();
        let polls: [Arc<AtomicUsize>; 2] = Default::default();
        let mut drivers = JoinSet::new();
        let gateway_driver = counted(gateway_driver, &polls[0]);
        drivers.spawn(async move { drop(gateway_driver.await) });
        let site_driver = counted(site_driver, &polls[1]);
        drivers.spawn(async move { drop(site_driver.await) });
        gateway.established().await.unwrap();
        site.established().await.unwrap();
        Self { gateway, site, traffic, polls, _drivers: drivers }
    }

    fn polls(&self) -> [usize; 2] {
        [0, 1].map(|side: usize| self.polls[side].load(Ordering::Relaxed))
    }
}

/// One stream has a window and a queue that never stall it. Both hold whole chunks: a piece of up
/// to 1 KiB at the edge of either is copied beside its header, as every short payload is.
fn wide() -> Config {
    Config {
        stream_window: 16 * CHUNK_OCTETS,
        accept_streams_max: 16,
        open_streams_max: 16,
        send_queue_max: 4 * CHUNK_OCTETS,
        ..Config::default()
    }
}

/// Sends `total` octets in chunks that share one memory, and reads them. Returns where the sender's
/// memory is, and the chunks as they were read.
async fn bulk(counts: &Counts, chunk: usize, total: usize) -> (Range<usize>, Vec<Bytes>) {
    let memory = Bytes::from(vec![7; chunk]);
    let range = addresses(&memory);
    let (mut send, _answer) = counts.gateway.open(Bytes::new(), End::More).await.unwrap();
    let Incoming { send: _reply, mut recv, .. } = counts.site.accept().await.unwrap();
    let write = async {
        for _ in 0..total / chunk {
            send.write_chunk(memory.clone()).await.unwrap();
        }
        send.finish().unwrap();
    };
    let read = async {
        let mut chunks = Vec::new();
        while let Some(chunk) = recv.read_chunk().await.unwrap() {
            chunks.push(chunk);
        }
        chunks
    };
    let ((), chunks) = tokio::join!(write, read);
    assert_eq!(chunks.iter().map(Bytes::len).sum::<usize>(), total);
    (range, chunks)
}

/// Write calls of the sender for each MiB of bulk, at most: one for each 64 KiB, and one to spare.
const WRITE_CALLS_PER_MIB: usize = 17;

/// Write calls of the sender for `total` octets in chunks of `chunk`.
async fn write_calls(counts: &Counts, chunk: usize, total: usize) -> usize {
    let before = counts.traffic[0].lock().unwrap().write_calls;
    bulk(counts, chunk, total).await;
    counts.traffic[0].lock().unwrap().write_calls - before
}

#[tokio::test(start_paused = true)]
async fn bulk_takes_at_most_seventeen_write_calls_per_mib() {
    let total = 500 * CHUNK;
    let calls = write_calls(&Counts::new(wide(), wide()).await, CHUNK, total).await;
    let bound = WRITE_CALLS_PER_MIB * total / MIB;
    assert!(calls <= bound, "{calls} write calls for {total} octets, {bound} at most");
}

#[tokio::test(start_paused = true)]
async fn chunks_that_do_not_fill_frames_cost_no_write_calls_more() {
    let total = 32 * MIB;
    let calls = write_calls(&Counts::new(wide(), wide()).await, 64 << 10, total).await;
    let bound = WRITE_CALLS_PER_MIB * total / MIB;
    assert!(calls <= bound, "{calls} write calls for {total} octets, {bound} at most");
}

#[tokio::test(start_paused = true)]
async fn bulk_in_tls_takes_at_most_ten_write_calls_per_mib() {
    let total = 32 * MIB;
    let calls = write_calls(&Counts::in_tls(wide(), wide()).await, 64 << 10, total).await;
    let bound = 10 * total / MIB;
    assert!(calls <= bound, "{calls} write calls for {total} octets, {bound} at most");
}

#[tokio::test(start_paused = true)]
async fn bulk_is_written_from_the_senders_memory_and_read_from_the_read_buffer() {
    const TOTAL: usize = 64 * CHUNK;
    let counts = Counts::new(wide(), wide()).await;
    let (memory, chunks) = bulk(&counts, CHUNK, TOTAL).await;

    let sent = counts.traffic[0].lock().unwrap();
    let from_memory = |source: &&Range<usize>| memory.contains(&source.start);
    let shared: usize = sent.sources.iter().filter(from_memory).map(Range::len).sum();
    assert_eq!(shared, TOTAL, "every payload octet leaves from where the caller put it");

    let read = counts.traffic[1].lock().unwrap();
    let is_shared = |chunk: &Bytes| {
        let start = chunk.as_ptr().addr();
        read.targets.iter().any(|target| target.contains(&start))
    };
    let large = chunks.iter().filter(|chunk| chunk.len() > COPY_OUT_MAX);
    let copied: usize = large.filter(|chunk| !is_shared(chunk)).map(Bytes::len).sum();
    assert_eq!(copied, 0, "octets in long chunks that are not where the pipe put them");
    let small: usize = chunks.iter().map(Bytes::len).filter(|len| *len <= COPY_OUT_MAX).sum();
    assert!(small * 20 <= TOTAL, "{small} octets arrived in chunks short enough to be copied");
}

/// Exchanges in flight.
const IN_FLIGHT: usize = 64;

/// Exchanges that each of them makes.
const ROUNDS: usize = 50;

/// Polls for each exchange, of a side's driver and of the tasks that use it, at most.
const WAKES_PER_EXCHANGE: usize = 2;

/// 300 octets up and 1 KiB down.
async fn small_exchange(link: &Link) {
    let (mut send, mut recv) = link.open(Bytes::from_static(b"POST"), End::More).await.unwrap();
    send.write_chunk(Bytes::from_static(&[1; 300])).await.unwrap();
    send.finish().unwrap();
    recv.head().await.unwrap();
    let mut read = 0;
    while let Some(chunk) = recv.read_chunk().await.unwrap() {
        read += chunk.len();
    }
    assert_eq!(read, 1024);
}

async fn answer(incoming: Incoming) {
    let Incoming { mut send, mut recv, .. } = incoming;
    while recv.read_chunk().await.unwrap().is_some() {}
    send.send_head(Bytes::from_static(b"200"), HeadKind::Final).unwrap();
    send.write_chunk(Bytes::from_static(&[2; 1024])).await.unwrap();
    send.finish().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_side_wakes_at_most_twice_for_an_exchange_at_sixty_four_in_flight() {
    let many = Config { open_streams_max: 1024, ..Config::default() };
    let counts = Counts::new(many, Config::default()).await;
    let site = counts.site.clone();
    let tasks: [Arc<AtomicUsize>; 2] = Default::default();
    let answers = Arc::clone(&tasks[1]);
    let server = tokio::spawn(async move {
        while let Ok(incoming) = site.accept().await {
            tokio::spawn(counted(answer(incoming), &answers));
        }
    });
    let before = counts.polls();
    let mut workers = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let link = counts.gateway.clone();
        workers.spawn(counted(
            async move {
                for _ in 0..ROUNDS {
                    small_exchange(&link).await;
                }
            },
            &tasks[0],
        ));
    }
    while let Some(worker) = workers.join_next().await {
        worker.unwrap();
    }
    server.abort();
    let exchanges = IN_FLIGHT * ROUNDS;
    let after = counts.polls();
    for (side, name) in [(0, "gateway"), (1, "site")] {
        let polls = after[side] - before[side];
        let all = polls + tasks[side].load(Ordering::Relaxed);
        let bound = WAKES_PER_EXCHANGE * exchanges;
        assert!(all <= bound, "{name}: {all} polls of driver and tasks, {bound} at most");
        // Batching across streams is what makes it so: one wake serves all that are in flight.
        assert!(polls * 8 <= exchanges, "{name}: {polls} polls of the driver for {exchanges}");
    }
}

const IDLE: u32 = 10_000;

/// Streams as narrow as they may be, and so many of them.
fn crowded() -> Config {
    Config {
        stream_window: 1 << 10,
        accept_streams_max: IDLE,
        open_streams_max: IDLE,
        ..Config::default()
    }
}

/// Octets of engine memory for each idle stream, at most.
const IDLE_STREAM_BYTES: u64 = 512;

/// Engine memory, in octets, that `work` leaves behind.
fn left_behind(work: impl FnOnce()) -> u64 {
    u64::try_from(measure(work).bytes_current).unwrap_or(0)
}

/// Streams opened in one go.
const BURST: u32 = 100;

/// Opens streams on which a head and a few octets have gone each way.
fn open_idle(pair: &mut Pair) {
    let ids: Vec<StreamId> = (0..BURST)
        .map(|_| pair.listener.open(Bytes::from_static(b"GET"), false).unwrap())
        .collect();
    for id in &ids {
        pair.listener.write(*id, &mut Bytes::from_static(b"payload")).unwrap();
    }
    pair.settle();
    for id in ids {
        pair.dialer.take(id, 7);
        pair.dialer.send_head(id, Bytes::from_static(b"200"), HeadKind::Final).unwrap();
        pair.dialer.write(id, &mut Bytes::from_static(b"payload")).unwrap();
    }
    pair.settle();
    drop((events(&mut pair.listener), events(&mut pair.dialer)));
}

#[test]
fn an_idle_stream_takes_at_most_512_octets_of_engine_memory() {
    let mut pair = Pair::new(crowded(), crowded());
    // In bursts, so that queues which hold a burst stay short beside ten thousand streams.
    let both = left_behind(|| (0..IDLE / BURST).for_each(|_| open_idle(&mut pair)));
    assert_eq!(pair.listener.stats().streams_open, IDLE as usize);
    let each = both / u64::from(2 * IDLE);
    assert!(each <= IDLE_STREAM_BYTES, "{each} octets for each stream and side");
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_idle_streams_live_on_one_link_beside_working_ones() {
    let more = Config { open_streams_max: IDLE + 1, accept_streams_max: IDLE + 1, ..crowded() };
    let counts = Counts::new(more.clone(), more).await;
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        let ours = counts.gateway.open(Bytes::from_static(b"GET"), End::More).await.unwrap();
        idle.push((ours, counts.site.accept().await.unwrap()));
    }
    exchange_beside(&counts).await;
    // And each of them still works after its rest.
    for (ours, theirs) in idle.iter_mut().step_by(997) {
        ours.0.write_chunk(Bytes::from_static(b"awake")).await.unwrap();
        assert_eq!(theirs.recv.read_chunk().await.unwrap().unwrap(), "awake");
    }
    assert_eq!(counts.gateway.stats().mux.streams_open, IDLE as usize);
    drop(idle);
    exchange_beside(&counts).await;
    while counts.gateway.stats().mux.streams_open > 0 {
        tokio::task::yield_now().await;
    }
}

async fn exchange_beside(counts: &Counts) {
    let served = async { answer(counts.site.accept().await.unwrap()).await };
    tokio::join!(small_exchange(&counts.gateway), served);
}

/// Streams whose consumer reads nothing.
const UNREAD_STREAMS: usize = 16;

/// Payload that each of them is sent at a time: too long to be copied out, far shorter than a read
/// buffer.
const UNREAD_OCTETS: usize = 1100;

/// A little payload for a consumer that does not read, in every read buffer of a busy link. Returns
/// the streams.
async fn leave_unread_in_every_buffer(counts: &Counts) -> Vec<impl Sized + use<>> {
    let (mut busy, _answer) = counts.gateway.open(Bytes::new(), End::More).await.unwrap();
    let mut reader = counts.site.accept().await.unwrap();
    let mut unread = Vec::new();
    for _ in 0..UNREAD_STREAMS {
        let ours = counts.gateway.open(Bytes::new(), End::More).await.unwrap();
        unread.push((ours, counts.site.accept().await.unwrap()));
    }
    let bulk = Bytes::from(vec![7; 256 << 10]);
    for _ in 0..25 {
        for (ours, _) in &mut unread {
            ours.0.write_chunk(Bytes::from(vec![1; UNREAD_OCTETS])).await.unwrap();
            busy.write_chunk(bulk.clone()).await.unwrap();
            let mut left = bulk.len();
            while left > 0 {
                left -= reader.recv.read_chunk().await.unwrap().unwrap().len();
            }
        }
    }
    unread
}

#[test]
fn unread_payload_pins_no_more_than_eight_mib_of_read_buffers() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut kept = None;
    let left = left_behind(|| {
        kept = Some(runtime.block_on(async {
            let counts = Counts::new(wide_of_many(), wide_of_many()).await;
            for traffic in &counts.traffic {
                // What is counted is no memory of the link.
                traffic.lock().unwrap().is_off = true;
            }
            (leave_unread_in_every_buffer(&counts).await, counts)
        }));
    });
    drop(runtime);
    let unread = (25 * UNREAD_STREAMS * UNREAD_OCTETS) as u64;
    let bound = (8 << 20) + unread + (2 << 20);
    assert!(left <= bound, "{left} octets in use for {unread} that are unread, {bound} at most");
}

fn wide_of_many() -> Config {
    Config { accept_streams_max: 32, open_streams_max: 32, ..wide() }
}
