//! The world of a model: its threads, its clock, and the peer at the other end of the pipe.
//!
//! Two things of tokio's must not happen in a model. A task must not wait in a `watch`: it chooses
//! one of its lists by chance, and loom repeats what it has seen. And none must wait for a permit
//! of a semaphore that is closed, which wakes under a lock of std's: loom may give the next turn to
//! a thread that wants that lock, and both are the same thread to std.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::BytesMut;
use loom::sync::{Condvar, Mutex};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::driver::now;
use super::super::{Driver, Link, new};
use crate::mux::{Batch, Config, Event, Mux, Side};

/// Octets that either side may send on a stream before the other has taken some.
pub(super) const WINDOW: usize = 4096;

/// Octets of one frame of payload: so many that chunks which wait to be read are not joined.
pub(super) const FRAME: usize = WINDOW / 2;

/// Runs `model` once for every order in which its threads can meet, with at most three preemptions
/// in each unless `LOOM_MAX_PREEMPTIONS` says otherwise.
pub(super) fn check(model: impl Fn() + Send + Sync + 'static) {
    // The clock stands still, and nobody drives the runtime: a wake-up that is lost is not made up
    // for by a timer.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    // Never dropped: after a model that has failed its timers would still wake threads of it.
    let _entered = Box::leak(Box::new(runtime)).enter();
    let mut loom = loom::model::Builder::new();
    loom.preemption_bound.get_or_insert(3);
    loom.max_branches = 100_000;
    let runs = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&runs);
    loom.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    println!("{} interleavings", runs.load(Ordering::Relaxed));
}

/// Wakes a thread of the model.
struct Alarm {
    rung: Mutex<bool>,
    bell: Condvar,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        *self.rung.lock().unwrap() = true;
        self.bell.notify_one();
    }
}

/// Polls `future` until it is ready, and sleeps in between: should nobody wake it, loom sees that
/// all threads sleep, and fails the model.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let alarm = Arc::new(Alarm { rung: Mutex::new(false), bell: Condvar::new() });
    let waker = Waker::from(Arc::clone(&alarm));
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        let mut rung = alarm.rung.lock().unwrap();
        while !std::mem::take(&mut *rung) {
            rung = alarm.bell.wait(rung).unwrap();
        }
    }
}

/// Gives the driver one turn.
pub(super) fn turn(driver: &mut Driver<Peer>) {
    let turn = Pin::new(driver).poll(&mut Context::from_waker(Waker::noop()));
    assert!(turn.is_pending(), "{turn:?}");
}

/// A link that is up, over a pipe at whose other end `script` answers. Nothing is shared yet.
pub(super) fn linked(script: impl FnMut(&mut Mux, Event) + Send + 'static) -> (Link, Driver<Peer>) {
    linked_with(4, script)
}

/// As [`linked`], with a peer that serves so many streams at once.
pub(super) fn linked_with(
    streams: u32,
    script: impl FnMut(&mut Mux, Event) + Send + 'static,
) -> (Link, Driver<Peer>) {
    let (link, mut driver) = new(Peer::new(streams, script), Side::Listener, config(4)).unwrap();
    while !link.is_open() {
        turn(&mut driver);
    }
    (link, driver)
}

fn config(streams: u32) -> Config {
    Config {
        accept_streams_max: streams,
        open_streams_max: 4,
        stream_window: u32::try_from(WINDOW).unwrap(),
        payload_max: u32::try_from(FRAME).unwrap(),
        ..Config::default()
    }
}

/// What a peer does about each event of its engine.
type Script = dyn FnMut(&mut Mux, Event) + Send;

/// Both the pipe and the other end of it: an engine that answers within the driver's own turn, so
/// that the only threads of a model are those of the link.
pub(super) struct Peer {
    mux: Mux,
    input: BytesMut,
    batch: Batch,
    script: Box<Script>,
}

impl Peer {
    fn new(streams: u32, script: impl FnMut(&mut Mux, Event) + Send + 'static) -> Self {
        let mux = Mux::new(Side::Dialer, config(streams), now()).unwrap();
        let script = Box::new(script);
        Self { mux, input: BytesMut::new(), batch: Batch::new(), script }
    }
}

impl AsyncRead for Peer {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { mux, batch, .. } = self.get_mut();
        if batch.is_empty() {
            mux.poll_transmit(now(), batch);
        }
        if batch.is_empty() {
            // More comes only of what the driver writes, and it reads again after each write.
            return Poll::Pending;
        }
        let mut slices = [io::IoSlice::new(&[]); 1];
        batch.io_slices(&mut slices);
        let len = slices[0].len().min(buffer.remaining());
        buffer.put_slice(&slices[0][..len]);
        batch.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Peer {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self { mux, input, script, .. } = self.get_mut();
        input.extend_from_slice(octets);
        // The link's end is an error too, and no model is about what follows it here.
        let _ = mux.handle_input(now(), input);
        while let Some(event) = mux.poll_event() {
            script(mux, event);
        }
        Poll::Ready(Ok(octets.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
