//! The link over an in-memory pipe.

use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::task::JoinHandle;

use super::*;
use crate::mux::{Config, HeadKind, HelloError, LinkError, SendError, Side, StreamCode};

mod ends;
mod mute;

const HEAD: Bytes = Bytes::from_static(b"head");

/// Two linked ends and their drivers.
struct Pair {
    gateway: Link,
    site: Link,
    drivers: [JoinHandle<LinkError>; 2],
}

fn config(accept_streams_max: u32) -> Config {
    Config { accept_streams_max, open_streams_max: 1024, ..Config::default() }
}

async fn pair_with(gateway: Config, site: Config) -> Pair {
    let (near, far) = tokio::io::duplex(16 * 1024);
    let (gateway, one) = new(near, Side::Listener, gateway).unwrap();
    let (site, other) = new(far, Side::Dialer, site).unwrap();
    let drivers = [tokio::spawn(one), tokio::spawn(other)];
    gateway.established().await.unwrap();
    site.established().await.unwrap();
    Pair { gateway, site, drivers }
}

async fn pair() -> Pair {
    pair_with(config(0), config(1024)).await
}

impl Pair {
    async fn end(self) -> [LinkError; 2] {
        self.gateway.close();
        let [one, other] = self.drivers;
        [one.await.unwrap(), other.await.unwrap()]
    }
}

/// Gives the other tasks turns until `reached`, which takes a handful.
async fn turns_until(reached: impl Fn() -> bool) {
    for _ in 0..1000 {
        if reached() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("not reached");
}

async fn read_all(recv: &mut RecvStream) -> Result<Vec<u8>, RecvError> {
    let mut all = Vec::new();
    while let Some(chunk) = recv.read_chunk().await? {
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

#[tokio::test(start_paused = true)]
async fn an_exchange_carries_heads_payload_and_trailers_both_ways() {
    let pair = pair().await;
    let body = Bytes::from(vec![7; 300_000]);
    let (mut send, mut recv) = pair.gateway.open(HEAD, End::More).await.unwrap();
    let site = pair.site.clone();
    let served = tokio::spawn(async move {
        let mut incoming = site.accept().await.unwrap();
        assert_eq!(incoming.head, HEAD);
        let request = read_all(&mut incoming.recv).await.unwrap();
        incoming.send.send_head(Bytes::from_static(b"103"), HeadKind::Interim).unwrap();
        incoming.send.send_head(Bytes::from_static(b"200"), HeadKind::Final).unwrap();
        incoming.send.write_chunk(Bytes::from(request)).await.unwrap();
        incoming.send.finish_with_trailers(Bytes::from_static(b"sum")).unwrap();
    });
    for chunk in 0..30 {
        send.write_chunk(body.slice(chunk * 10_000..(chunk + 1) * 10_000)).await.unwrap();
    }
    send.finish().unwrap();
    let interim = recv.head().await.unwrap();
    assert!(interim.interim && interim.block == "103");
    let head = recv.head().await.unwrap();
    assert!(!head.interim && !head.end && head.block == "200");
    assert_eq!(read_all(&mut recv).await.unwrap(), body);
    assert_eq!(recv.take_trailers(), Some(Bytes::from_static(b"sum")));
    served.await.unwrap();
    drop((send, recv));
    let [here, there] = pair.end().await;
    assert_eq!(here, LinkError::ClosedHere);
    assert!(matches!(there, LinkError::ClosedByPeer { code: 0, .. }), "{there:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_write_has_queued_nothing() {
    let pair = pair().await;
    let (mut send, _recv) = pair.gateway.open(HEAD, End::More).await.unwrap();
    let mut incoming = pair.site.accept().await.unwrap();
    let mut queued = 0;
    // Until the stream has no room, because nobody reads. The clock is paused: it reaches the
    // deadline only when nothing else can be done.
    let deadline = Duration::from_secs(1);
    loop {
        let write = send.write_chunk(Bytes::from(vec![1; 5000]));
        let Ok(written) = tokio::time::timeout(deadline, write).await else { break };
        written.unwrap();
        queued += 5000;
    }
    send.finish().unwrap();
    assert!(queued > 0);
    let read = read_all(&mut incoming.recv).await.unwrap().len();
    assert_eq!(read, queued, "octets that arrived, and that were queued");
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_takes_nothing_stalls_only_its_own_stream() {
    let pair = pair().await;
    let (mut stalled, _stalled_answer) = pair.gateway.open(HEAD, End::More).await.unwrap();
    let _unread = pair.site.accept().await.unwrap();
    let filling = tokio::spawn(async move {
        loop {
            if stalled.write_chunk(Bytes::from(vec![0; 16_000])).await.is_err() {
                return;
            }
        }
    });
    let site = pair.site.clone();
    let reading = tokio::spawn(async move {
        let mut incoming = site.accept().await.unwrap();
        read_all(&mut incoming.recv).await.unwrap().len()
    });
    let (mut send, _answer) = pair.gateway.open(HEAD, End::More).await.unwrap();
    for _ in 0..200 {
        send.write_chunk(Bytes::from(vec![1; 16_000])).await.unwrap();
    }
    send.finish().unwrap();
    assert_eq!(reading.await.unwrap(), 200 * 16_000);
    assert!(!filling.is_finished());
    pair.gateway.close();
    filling.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_unfinished_half_that_is_dropped_never_looks_complete() {
    let pair = pair().await;
    let (mut send, recv) = pair.gateway.open(HEAD, End::More).await.unwrap();
    send.write_chunk(Bytes::from_static(b"half of it")).await.unwrap();
    let mut incoming = pair.site.accept().await.unwrap();
    drop(send);
    let outcome = read_all(&mut incoming.recv).await;
    assert_eq!(outcome, Err(RecvError::Reset(StreamCode::DROPPED)));
    drop((recv, incoming));
    pair.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_goes_away_stops_the_writer_and_can_still_answer() {
    let pair = pair().await;
    let (mut send, mut answer) = pair.gateway.open(HEAD, End::More).await.unwrap();
    let mut incoming = pair.site.accept().await.unwrap();
    incoming.recv.stop(StreamCode(0x123));
    assert_eq!(send.stopped().await, SendError::Stopped(StreamCode(0x123)));
    assert_eq!(
        send.write_chunk(HEAD).await,
        Err(SendError::Stopped(StreamCode(0x123))),
        "nothing more is taken"
    );
    incoming.send.send_head(Bytes::from_static(b"413"), HeadKind::FinalAndEnd).unwrap();
    assert!(answer.head().await.unwrap().end);
    drop((send, answer, incoming.send));
    pair.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_goes_away_from_unread_payload_may_answer_for_hours() {
    let pair = pair().await;
    let (mut send, mut answer) = pair.gateway.open(HEAD, End::More).await.unwrap();
    send.write_chunk(Bytes::from_static(b"nobody reads this")).await.unwrap();
    send.finish().unwrap();
    let mut incoming = pair.site.accept().await.unwrap();
    incoming.send.send_head(Bytes::from_static(b"200"), HeadKind::Final).unwrap();
    assert!(!answer.head().await.unwrap().end, "and by now the payload has arrived too");
    drop(incoming.recv);
    tokio::time::sleep(Duration::from_hours(3)).await;
    incoming.send.write_chunk(Bytes::from_static(b"late")).await.unwrap();
    incoming.send.finish().unwrap();
    assert_eq!(read_all(&mut answer).await.unwrap(), b"late");
    drop((send, answer, incoming.send));
    pair.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_pipe_fails_every_stream_and_every_opener() {
    let (near, far) = tokio::io::duplex(1024);
    let (link, driver) = new(near, Side::Listener, config(8)).unwrap();
    let (site, site_driver) = new(far, Side::Dialer, config(1)).unwrap();
    let driver = tokio::spawn(driver);
    let site_driver = tokio::spawn(site_driver);
    link.established().await.unwrap();
    site.established().await.unwrap();
    let (_send, mut recv) = link.open(HEAD, End::More).await.unwrap();
    let waiting = tokio::spawn({
        let link = link.clone();
        async move { link.open(HEAD, End::More).await.map(|_| ()) }
    });
    tokio::task::yield_now().await;
    site_driver.abort();
    assert_eq!(recv.head().await, Err(RecvError::LinkLost));
    let lost = LinkError::Lost { cause: "closed without goodbye".into() };
    assert_eq!(waiting.await.unwrap(), Err(OpenFailed::Closed(lost.clone())));
    assert_eq!(driver.await.unwrap(), lost);
    let refused = link.try_open(HEAD, End::More).map(|_| ());
    assert_eq!(refused, Err(OpenFailed::Closed(lost.clone())));
    assert_eq!(link.accept().await.map(|_| ()), Err(lost));
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_free_again_only_when_the_acceptor_has_let_go() {
    let pair = pair_with(config(0), config(1)).await;
    let (mut send, recv) = pair.gateway.open(HEAD, End::More).await.unwrap();
    let incoming = pair.site.accept().await.unwrap();
    send.reset(StreamCode(0x200));
    drop((send, recv));
    let mut next = std::pin::pin!(pair.gateway.open(HEAD, End::More));
    let free = tokio::time::timeout(Duration::from_mins(1), next.as_mut()).await;
    assert!(free.is_err(), "the acceptor's work goes on, whatever the opener did");
    drop(incoming);
    next.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_drain_lets_open_streams_finish_and_refuses_new_ones() {
    let pair = pair().await;
    let (mut send, mut recv) = pair.gateway.open(HEAD, End::More).await.unwrap();
    let mut incoming = pair.site.accept().await.unwrap();
    let draining = tokio::spawn({
        let site = pair.site.clone();
        async move { site.drain(Duration::from_secs(30)).await }
    });
    while pair.gateway.is_open() {
        tokio::task::yield_now().await;
    }
    assert_eq!(pair.gateway.open(HEAD, End::More).await.map(|_| ()), Err(OpenFailed::GoingAway));
    send.write_chunk(Bytes::from_static(b"late")).await.unwrap();
    send.finish().unwrap();
    assert_eq!(read_all(&mut incoming.recv).await.unwrap(), b"late");
    incoming.send.send_head(Bytes::from_static(b"200"), HeadKind::FinalAndEnd).unwrap();
    drop(incoming);
    recv.head().await.unwrap();
    drop((send, recv));
    assert_eq!(draining.await.unwrap(), DrainReport { finished: 1, reset: 0 });
    let [gateway, _] = pair.drivers;
    let reason = gateway.await.unwrap();
    assert!(matches!(reason, LinkError::ClosedByPeer { code: 0, .. }), "{reason:?}");
}

#[tokio::test(start_paused = true)]
async fn a_drain_cuts_what_is_open_at_its_deadline() {
    let pair = pair_with(config(1), config(1024)).await;
    let (_send, mut recv) = pair.gateway.open(HEAD, End::More).await.unwrap();
    let _incoming = pair.site.accept().await.unwrap();
    // What the dialer tells is no request.
    let (_telling, _) = pair.site.open(HEAD, End::More).await.unwrap();
    let _told = pair.gateway.accept().await.unwrap();
    let report = pair.site.drain(Duration::from_secs(30)).await;
    assert_eq!(report, DrainReport { finished: 0, reset: 1 });
    assert_eq!(recv.head().await, Err(RecvError::LinkLost));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_speaks_something_else_is_refused_at_its_first_octet() {
    let (near, mut far): (_, DuplexStream) = tokio::io::duplex(1024);
    let (link, driver) = new(near, Side::Listener, config(8)).unwrap();
    let driver = tokio::spawn(driver);
    far.write_all(b"G").await.unwrap();
    assert_eq!(driver.await.unwrap(), LinkError::Hello(HelloError::BadMagic));
    assert_eq!(link.established().await, Err(LinkError::Hello(HelloError::BadMagic)));
    let mut sent = Vec::new();
    far.read_to_end(&mut sent).await.unwrap();
    assert!(sent.windows(17).any(|w| w == b"wrong first octet"), "the GOAWAY says why");
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_given_up_at_the_hello_deadline() {
    let (near, _far) = tokio::io::duplex(1024);
    let (_link, driver) = new(near, Side::Listener, config(8)).unwrap();
    let before = tokio::time::Instant::now();
    assert_eq!(driver.await, LinkError::HelloTimeout);
    assert!(before.elapsed() >= Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_link_without_handles_closes_once_its_streams_have_ended() {
    let Pair { gateway, site, drivers: [one, other] } = pair().await;
    let (mut send, recv) = gateway.open(HEAD, End::More).await.unwrap();
    drop(gateway);
    let incoming = site.accept().await.unwrap();
    assert!(!one.is_finished());
    send.write_chunk(HEAD).await.unwrap();
    drop((send, recv, incoming));
    assert_eq!(one.await.unwrap(), LinkError::ClosedHere);
    assert!(matches!(other.await.unwrap(), LinkError::ClosedByPeer { .. }));
}

/// Answers a stream with its own head and payload.
async fn echo(incoming: &mut Incoming) {
    incoming.send.send_head(incoming.head.clone(), HeadKind::Final).unwrap();
    while let Some(chunk) = incoming.recv.read_chunk().await.unwrap() {
        incoming.send.write_chunk(chunk).await.unwrap();
    }
    incoming.send.finish().unwrap();
}

#[tokio::test(start_paused = true)]
async fn many_streams_at_once_all_end_and_leave_nothing_behind() {
    let pair = pair_with(config(0), config(50)).await;
    let site = pair.site.clone();
    let served = tokio::spawn(async move {
        while let Ok(mut incoming) = site.accept().await {
            tokio::spawn(async move { echo(&mut incoming).await });
        }
    });
    let exchanges: Vec<_> = (0..300u32)
        .map(|number| {
            let link = pair.gateway.clone();
            tokio::spawn(async move {
                let body = Bytes::from(number.to_be_bytes().repeat(3000));
                let (mut send, mut recv) = link.open(HEAD, End::More).await.unwrap();
                send.write_chunk(body.clone()).await.unwrap();
                send.finish().unwrap();
                recv.head().await.unwrap();
                assert_eq!(read_all(&mut recv).await.unwrap(), body);
            })
        })
        .collect();
    for exchange in exchanges {
        exchange.await.unwrap();
    }
    // The last handles were dropped, which the drivers notice in their next turns.
    turns_until(|| pair.gateway.stats().mux.streams_open == 0).await;
    turns_until(|| pair.site.stats().mux.streams_open == 0).await;
    assert_eq!(pair.gateway.stats().mux.streams_opened, 300);
    pair.end().await;
    served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn try_open_says_when_no_stream_is_free() {
    let pair = pair_with(config(0), config(1)).await;
    let first = pair.gateway.try_open(HEAD, End::More).unwrap();
    assert!(first.is_some());
    assert!(pair.gateway.try_open(HEAD, End::More).unwrap().is_none());
    let waiting = std::future::poll_fn(|cx| {
        let open = std::pin::pin!(pair.gateway.open(HEAD, End::More));
        Poll::Ready(open.poll(cx).is_pending())
    });
    assert!(waiting.await, "an opener that is cancelled holds no place");
}

#[tokio::test(start_paused = true)]
async fn as_many_openers_wait_as_may_and_one_more_is_told_at_once() {
    let pair = pair_with(config(0), config(1)).await;
    let (send, recv) = pair.gateway.open(HEAD, End::More).await.unwrap();
    let mut waiting = Vec::new();
    for _ in 0..OPENERS_WAITING_MAX {
        let mut opening = Box::pin(pair.gateway.open(HEAD, End::More));
        assert!(poll_once(opening.as_mut()).await.is_pending());
        waiting.push(opening);
    }
    let one_more = pair.gateway.open(HEAD, End::More).await.map(|_| ());
    assert_eq!(one_more, Err(OpenFailed::Busy));
    waiting.pop();
    let mut next = Box::pin(pair.gateway.open(HEAD, End::More));
    assert!(poll_once(next.as_mut()).await.is_pending(), "a cancelled opener frees its place");

    let first = waiting.swap_remove(0);
    drop((send, recv, pair.site.accept().await.unwrap()));
    first.await.unwrap();
}

/// Polls once.
async fn poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}
