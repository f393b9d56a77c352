//! A pipe that takes no more octets, and still has some to give.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::*;
use crate::mux::{Batch, Event, Mux};

/// A pipe whose writes fail once it is told so.
struct Fragile {
    pipe: DuplexStream,
    is_broken: Arc<AtomicBool>,
}

impl Fragile {
    fn new(pipe: DuplexStream) -> (Self, Arc<AtomicBool>) {
        let is_broken = Arc::<AtomicBool>::default();
        (Self { pipe, is_broken: Arc::clone(&is_broken) }, is_broken)
    }
}

impl AsyncRead for Fragile {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(cx, into)
    }
}

impl AsyncWrite for Fragile {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_broken.load(Ordering::Relaxed) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.pipe).poll_write(cx, octets)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

/// A link over a pipe that can break, and its peer.
struct Broken {
    pair: Pair,
    is_broken: Arc<AtomicBool>,
}

/// Both ends open streams.
async fn breakable() -> Broken {
    let (near, far) = tokio::io::duplex(16 * 1024);
    let (near, is_broken) = Fragile::new(near);
    let (gateway, one) = new(near, Side::Listener, config(8)).unwrap();
    let (site, other) = new(far, Side::Dialer, config(8)).unwrap();
    let drivers = [tokio::spawn(one), tokio::spawn(other)];
    gateway.established().await.unwrap();
    site.established().await.unwrap();
    // What the hellos are followed by has left.
    turns_until(|| gateway.stats().round_trip.is_some() && site.stats().round_trip.is_some()).await;
    Broken { pair: Pair { gateway, site, drivers }, is_broken }
}

impl Broken {
    /// Breaks the gateway's pipe, and has it notice.
    async fn fall_mute(&self, send: &mut SendStream) {
        self.is_broken.store(true, Ordering::Relaxed);
        send.write_now(HEAD).unwrap();
        turns_until(|| !self.pair.gateway.is_open()).await;
        assert!(self.pair.gateway.close_reason().is_none(), "it is still read");
    }
}

fn broken_pipe() -> LinkError {
    LinkError::Lost { cause: io::Error::from(io::ErrorKind::BrokenPipe).to_string().into() }
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_read_from_a_pipe_that_takes_no_more_octets() {
    let broken = breakable().await;
    let (mut send, mut recv) = broken.pair.gateway.open(HEAD, End::More).await.unwrap();
    let mut incoming = broken.pair.site.accept().await.unwrap();
    broken.fall_mute(&mut send).await;

    let body = vec![7; 20_000];
    incoming.send.send_head(Bytes::from_static(b"200"), HeadKind::Final).unwrap();
    incoming.send.write_now(Bytes::from(body.clone())).unwrap();
    incoming.send.finish().unwrap();
    assert_eq!(recv.head().await.unwrap().block, "200");
    assert_eq!(read_all(&mut recv).await.unwrap(), body);

    let [gateway, site] = broken.pair.drivers;
    site.abort();
    assert_eq!(gateway.await.unwrap(), broken_pipe(), "what broke first is the reason");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_cut_behind_a_write_error_never_looks_complete() {
    let broken = breakable().await;
    let (mut send, mut recv) = broken.pair.gateway.open(HEAD, End::More).await.unwrap();
    let mut incoming = broken.pair.site.accept().await.unwrap();
    broken.fall_mute(&mut send).await;
    incoming.send.send_head(Bytes::from_static(b"200"), HeadKind::Final).unwrap();
    incoming.send.write_now(Bytes::from_static(b"half of it")).unwrap();
    recv.head().await.unwrap();
    broken.pair.drivers[1].abort();
    assert_eq!(read_all(&mut recv).await, Err(RecvError::LinkLost));
}

#[tokio::test(start_paused = true)]
async fn a_link_ends_a_second_after_its_pipe_took_no_more_octets() {
    let broken = breakable().await;
    let (mut send, mut recv) = broken.pair.gateway.open(HEAD, End::More).await.unwrap();
    let before = Instant::now();
    broken.fall_mute(&mut send).await;
    assert_eq!(recv.head().await, Err(RecvError::LinkLost));
    assert_eq!(before.elapsed(), Duration::from_secs(1));
    let [gateway, _] = broken.pair.drivers;
    assert_eq!(gateway.await.unwrap(), broken_pipe());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_closes_behind_a_write_error_has_closed_and_is_not_lost() {
    let broken = breakable().await;
    let (mut send, _recv) = broken.pair.gateway.open(HEAD, End::More).await.unwrap();
    broken.fall_mute(&mut send).await;
    broken.pair.site.close();
    let [gateway, _] = broken.pair.drivers;
    let reason = gateway.await.unwrap();
    assert!(matches!(reason, LinkError::ClosedByPeer { code: 0, .. }), "{reason:?}");
}

#[tokio::test(start_paused = true)]
async fn why_a_peer_ends_the_link_is_read_behind_a_write_error() {
    let (near, mut far) = tokio::io::duplex(16 * 1024);
    let (near, is_broken) = Fragile::new(near);
    let (link, driver) = new(near, Side::Listener, config(8)).unwrap();
    let driver = tokio::spawn(driver);
    let now = Instant::now().into_std();
    let mut peer = Mux::new(Side::Dialer, config(8), now).unwrap();
    let mut batch = Batch::new();
    peer.poll_transmit(now, &mut batch);
    far.write_all(&octets(&batch)).await.unwrap();
    let mut input = BytesMut::new();
    while peer.peer().is_none() {
        far.read_buf(&mut input).await.unwrap();
        peer.handle_input(now, &mut input).unwrap();
    }
    link.established().await.unwrap();

    is_broken.store(true, Ordering::Relaxed);
    let _stream = link.open(HEAD, End::NoPayload).await.unwrap();
    turns_until(|| !link.is_open()).await;
    // No kind of frame.
    peer.handle_input(now, &mut BytesMut::from(&[0, 0, 0, 0xc0, 0, 0, 0, 0][..])).unwrap_err();
    let mut goodbye = Batch::new();
    peer.poll_transmit(now, &mut goodbye);
    far.write_all(&octets(&goodbye)).await.unwrap();
    let reason = driver.await.unwrap();
    assert!(matches!(reason, LinkError::ClosedByPeer { code: 1, .. }), "{reason:?}");
}

fn octets(batch: &Batch) -> Vec<u8> {
    let mut slices = [io::IoSlice::new(&[]); crate::mux::BATCH_SLICES];
    let used = batch.io_slices(&mut slices);
    slices[..used].iter().flat_map(|slice| slice.iter().copied()).collect()
}

#[tokio::test(start_paused = true)]
async fn what_was_never_handed_to_a_broken_pipe_is_refused_at_once() {
    let mut engine = Mux::new(Side::Listener, config(8), Instant::now().into_std()).unwrap();
    let mut peer = Mux::new(Side::Dialer, config(8), Instant::now().into_std()).unwrap();
    let now = Instant::now().into_std();
    let mut batch = Batch::new();
    peer.poll_transmit(now, &mut batch);
    engine.handle_input(now, &mut BytesMut::from(&octets(&batch)[..])).unwrap();
    let waiting = engine.open(HEAD, true).unwrap();
    while engine.poll_event().is_some() {}

    engine.handle_write_lost();
    let refused = Event::Reset { id: waiting, code: StreamCode::REFUSED };
    let events: Vec<_> = std::iter::from_fn(|| engine.poll_event()).collect();
    assert!(events.contains(&refused), "{events:?}");
    assert!(engine.open(HEAD, true).is_err());
    let mut nothing = Batch::new();
    engine.poll_transmit(now, &mut nothing);
    assert!(nothing.is_empty());
}

#[tokio::test(start_paused = true)]
async fn work_whose_answer_nobody_can_hear_is_cut_and_none_is_begun() {
    let broken = breakable().await;
    let (mut ours, _answer) = broken.pair.gateway.open(HEAD, End::More).await.unwrap();
    let (_send, _recv) = broken.pair.site.open(HEAD, End::More).await.unwrap();
    let mut incoming = broken.pair.gateway.accept().await.unwrap();
    let before = Instant::now();
    broken.fall_mute(&mut ours).await;
    assert_eq!(incoming.recv.read_chunk().await, Err(RecvError::LinkLost));
    assert_eq!(before.elapsed(), Duration::ZERO);
    let _late = broken.pair.site.open(HEAD, End::More).await.unwrap();
    assert_eq!(broken.pair.gateway.accept().await.map(|_| ()), Err(broken_pipe()));
}
