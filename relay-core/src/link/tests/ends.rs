//! How streams and links end when both sides, or neither, take part.

use std::future::poll_fn;
use std::pin::{Pin, pin};

use super::*;
use tokio::time::{Instant, timeout};

const LONG: Duration = Duration::from_mins(1);

/// Polls `future` once.
async fn turn<F: Future>(future: &mut Pin<&mut F>) {
    poll_fn(|cx| {
        assert!(future.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_drains_after_this_side_has_drained_does_not_delay_it() {
    let (near, far) = tokio::io::duplex(1024);
    let (link, driver) = new(near, Side::Listener, config(8)).unwrap();
    let (peer, peer_driver) = new(far, Side::Dialer, config(8)).unwrap();
    let (mut driver, mut peer_driver) = (pin!(driver), pin!(peer_driver));
    for _ in 0..4 {
        turn(&mut driver).await;
        turn(&mut peer_driver).await;
    }
    assert!(link.is_open() && peer.is_open());

    let (mut drain, mut peer_drain) = (pin!(link.drain(LONG)), pin!(peer.drain(LONG)));
    turn(&mut drain).await;
    turn(&mut driver).await;
    turn(&mut peer_driver).await;
    turn(&mut peer_drain).await;
    turn(&mut peer_driver).await;
    // Finds the end of its own drain, and the peer's GOAWAY behind it.
    turn(&mut driver).await;
    let before = Instant::now();
    tokio::join!(drain, driver, peer_drain, peer_driver);
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_drain_ordered_before_the_hello_begins_with_it() {
    let (near, far) = tokio::io::duplex(1024);
    let (link, driver) = new(near, Side::Listener, config(8)).unwrap();
    let driver = tokio::spawn(driver);
    let before = Instant::now();
    let draining = tokio::spawn({
        let link = link.clone();
        async move { link.drain(LONG).await }
    });
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    let (_peer, peer_driver) = new(far, Side::Dialer, config(8)).unwrap();
    let _peer_driver = tokio::spawn(peer_driver);
    draining.await.unwrap();
    assert_eq!(driver.await.unwrap(), LinkError::ClosedHere);
    assert!(before.elapsed() < LONG);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_the_peer_does_not_take_costs_no_stream() {
    let site = Config { head_max: 256, ..config(1) };
    let pair = pair_with(config(0), site).await;
    for _ in 0..3 {
        let long = Bytes::from(vec![b'x'; 300]);
        let (_send, mut recv) = timeout(LONG, pair.gateway.open(long, End::More))
            .await
            .expect("a stream is free")
            .unwrap();
        assert_eq!(recv.head().await, Err(RecvError::Reset(StreamCode::DROPPED)));
    }
    let (_send, _recv) = timeout(LONG, pair.gateway.open(HEAD, End::NoPayload))
        .await
        .expect("a stream is free")
        .unwrap();
    assert_eq!(pair.site.accept().await.unwrap().head, HEAD);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_hears_that_its_answer_is_not_wanted() {
    let pair = pair().await;
    let (mut send, recv) = pair.gateway.open(HEAD, End::More).await.unwrap();
    let mut incoming = pair.site.accept().await.unwrap();
    // More than the peer has granted, so that the end waits in the outbox for ever.
    send.write_chunk(Bytes::from(vec![0; 1 << 20])).await.unwrap();
    send.finish().unwrap();
    drop((send, recv));
    let stopped = timeout(LONG, incoming.send.stopped()).await;
    assert_eq!(stopped, Ok(SendError::Stopped(StreamCode::DROPPED)));
}

#[tokio::test(start_paused = true)]
async fn a_link_whose_pipe_is_gone_ends_at_once_although_octets_wait() {
    let (near, far) = tokio::io::duplex(64);
    let (link, driver) = new(near, Side::Listener, config(8)).unwrap();
    let driver = tokio::spawn(driver);
    // The hello does not fit in the pipe, and nobody reads it.
    tokio::task::yield_now().await;
    let before = Instant::now();
    drop(far);
    assert!(matches!(driver.await.unwrap(), LinkError::Lost { .. }));
    assert_eq!(before.elapsed(), Duration::ZERO);
    drop(link);
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_told_to_drain_or_close_is_not_open_from_that_moment() {
    let pair = pair().await;
    pair.site.close();
    assert!(!pair.site.is_open());
    let mut drain = pin!(pair.gateway.drain(LONG));
    turn(&mut drain).await;
    assert!(!pair.gateway.is_open());
}

/// A link that has told its peer why it may not have it, and the pipe that the peer has.
async fn refusing() -> (JoinHandle<LinkError>, DuplexStream) {
    let (near, far) = tokio::io::duplex(1 << 10);
    let (link, driver) = new(near, Side::Listener, config(8)).unwrap();
    link.refuse("no");
    let driver = tokio::spawn(driver);
    tokio::task::yield_now().await;
    (driver, far)
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_refused_takes_what_still_comes_until_its_peer_goes() {
    let (driver, mut peer) = refusing().await;
    let mut heard = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut peer, &mut heard).await.unwrap();
    assert!(heard.ends_with(b"no"), "the last words, and the end of the pipe behind them");
    let before = Instant::now();
    // More than the pipe holds: it is taken, or this would wait for ever.
    let unread = vec![0xa5; 1 << 20];
    tokio::io::AsyncWriteExt::write_all(&mut peer, &unread).await.unwrap();
    assert!(!driver.is_finished());
    drop(peer);
    assert_eq!(driver.await.unwrap(), LinkError::RefusedHere { why: "no".into() });
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_refused_and_does_not_go_holds_the_link_no_longer_than_any_goodbye() {
    let (driver, _peer) = refusing().await;
    let before = Instant::now();
    assert_eq!(driver.await.unwrap(), LinkError::RefusedHere { why: "no".into() });
    assert_eq!(before.elapsed(), Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn whoever_is_turned_away_and_does_not_go_is_cut_after_a_second() {
    let (near, _far) = tokio::io::duplex(16);
    let (link, driver) = new(near, Side::Listener, config(8)).unwrap();
    let before = Instant::now();
    turn_away(&link, driver, "no").await;
    assert_eq!(before.elapsed(), Duration::from_secs(1));
}

/// Opens, has the acceptor do its work, and opens again where there is one place only.
async fn place_returns_after(end: impl AsyncFn(SendStream, RecvStream, Incoming)) {
    let pair = pair_with(config(0), config(1)).await;
    for _ in 0..2 {
        let opening = timeout(LONG, pair.gateway.open(HEAD, End::More)).await;
        let (send, recv) = opening.expect("the place has come back").unwrap();
        end(send, recv, pair.site.accept().await.unwrap()).await;
    }
    let [gateway, site] = pair.drivers;
    drop((pair.gateway, pair.site));
    let ended = timeout(LONG, async { (gateway.await.unwrap(), site.await.unwrap()) }).await;
    assert!(ended.is_ok(), "no stream holds the link");
}

/// An answer that is longer than the peer has granted, so that its end waits in the outbox.
fn answer_at_length(send: &mut SendStream) {
    send.send_head(Bytes::from_static(b"200"), HeadKind::Final).unwrap();
    send.write_now(Bytes::from(vec![0; 1 << 20])).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_opener_stops_or_resets_it_while_its_end_waits_is_let_go() {
    place_returns_after(async |mut send, mut recv, mut incoming| {
        send.finish().unwrap();
        answer_at_length(&mut incoming.send);
        incoming.send.finish().unwrap();
        drop(incoming);
        recv.head().await.unwrap();
        drop((send, recv));
    })
    .await;
    place_returns_after(async |mut send, mut recv, mut incoming| {
        answer_at_length(&mut incoming.send);
        incoming.send.finish().unwrap();
        drop(incoming);
        recv.head().await.unwrap();
        send.reset(StreamCode(0x200));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_let_go_half_written_is_let_go_at_once() {
    place_returns_after(async |_send, mut recv, mut incoming| {
        drop(incoming.recv);
        answer_at_length(&mut incoming.send);
        drop(incoming.send);
        while recv.read_chunk().await.is_ok() {}
    })
    .await;
}
