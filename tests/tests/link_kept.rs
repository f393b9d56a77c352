//! What is kept on a stream is kept until the peer has let go of it: over a pipe and over QUIC.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use relay_core::link::{self, End, Incoming, Link, RecvStream, SendStream};
use relay_core::mux::{Config, HeadKind, LinkError, Side, StreamCode};
use relay_tests::quic::{Pair, config};
use relay_tests::roles::{until, within};
use tokio::task::JoinHandle;

const HEAD: Bytes = Bytes::from_static(b"head");

/// Both ends of a link on which the gateway opens streams.
struct Ends {
    gateway: Link,
    site: Link,
    _drivers: [JoinHandle<LinkError>; 2],
}

impl Ends {
    async fn on_a_pipe() -> Self {
        let (near, far) = tokio::io::duplex(1 << 16);
        let (gateway, one) = link::new(near, Side::Listener, Config::default()).unwrap();
        let (site, other) = link::new(far, Side::Dialer, Config::default()).unwrap();
        let drivers = [tokio::spawn(one), tokio::spawn(other)];
        gateway.established().await.unwrap();
        Self { gateway, site, _drivers: drivers }
    }

    /// The gateway may have so many streams open, and one more as far as the site goes.
    async fn over_quic(streams: u32) -> Self {
        let gateway = Config { open_streams_max: streams, ..config(0) };
        let Pair { gateway, site, drivers } = Pair::with(gateway, config(streams + 1)).await;
        Self { gateway, site, _drivers: drivers }
    }

    async fn both() -> [Self; 2] {
        [Self::on_a_pipe().await, Self::over_quic(8).await]
    }

    /// A stream of the gateway's, at both ends, and what tells whether it is kept.
    async fn open(&self, end: End) -> (SendStream, RecvStream, Incoming, Weak<()>) {
        let (send, recv) = self.gateway.open(HEAD, end).await.unwrap();
        let kept = Arc::new(());
        let is_kept = Arc::downgrade(&kept);
        send.keep(kept);
        let incoming = self.site.accept().await.unwrap();
        (send, recv, incoming, is_kept)
    }

    /// An exchange there and back: what was said before it was heard.
    async fn exchange(&self) {
        for _ in 0..2 {
            let (_send, mut recv) = self.gateway.open(HEAD, End::NoPayload).await.unwrap();
            let mut incoming = self.site.accept().await.unwrap();
            incoming.send.send_head(HEAD, HeadKind::FinalAndEnd).unwrap();
            drop(incoming);
            recv.head().await.unwrap();
        }
    }
}

/// Lets every task do what it can without time passing.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

fn is_kept(kept: &Weak<()>) -> bool {
    kept.strong_count() > 0
}

// [MUX-25] + [MUX-30] +
// [QUIC-24] +
#[tokio::test]
async fn what_is_kept_on_a_stream_that_was_given_up_is_dropped_when_the_acceptor_lets_go() {
    within(async {
        for ends in Ends::both().await {
            for end in [End::NoPayload, End::More] {
                let (send, recv, mut incoming, kept) = ends.open(end).await;
                drop((send, recv));
                incoming.send.stopped().await;
                ends.exchange().await;
                assert!(is_kept(&kept), "its acceptor is at work: {end:?}");
                drop(incoming);
                until(|| !is_kept(&kept)).await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_kept_on_a_stream_that_was_answered_goes_with_the_handles() {
    within(async {
        for ends in Ends::both().await {
            let (send, mut recv, mut incoming, kept) = ends.open(End::NoPayload).await;
            incoming.send.send_head(HEAD, HeadKind::FinalAndEnd).unwrap();
            recv.head().await.unwrap();
            ends.exchange().await;
            drop(send);
            assert!(is_kept(&kept), "one handle is held");
            assert_eq!(recv.read_chunk().await, Ok(None));
            until(|| recv.is_finished()).await;
            drop(recv);
            until(|| !is_kept(&kept)).await;
            drop(incoming);
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_kept_on_a_stream_that_its_acceptor_has_reset_goes_with_the_handles() {
    within(async {
        for ends in Ends::both().await {
            let (send, mut recv, mut incoming, kept) = ends.open(End::More).await;
            incoming.send.reset(StreamCode(0x142));
            assert!(recv.head().await.is_err());
            assert!(is_kept(&kept));
            drop((send, recv));
            until(|| !is_kept(&kept)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_kept_goes_with_the_link() {
    within(async {
        for ends in Ends::both().await {
            let (send, recv, mut incoming, kept) = ends.open(End::More).await;
            drop((send, recv));
            incoming.send.stopped().await;
            ends.exchange().await;
            assert!(is_kept(&kept));
            ends.gateway.close();
            until(|| !is_kept(&kept)).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_for_an_acceptor_that_never_lets_go_is_dropped_after_60_s() {
    let ends = Ends::on_a_pipe().await;
    let (send, recv, mut incoming, kept) = ends.open(End::NoPayload).await;
    drop((send, recv));
    incoming.send.stopped().await;
    tokio::time::sleep(Duration::from_millis(59_999)).await;
    assert!(is_kept(&kept));
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert!(!is_kept(&kept));
    drop(incoming);
    ends.exchange().await;
}

#[tokio::test]
async fn what_is_kept_over_quic_for_an_acceptor_that_never_lets_go_is_dropped_too() {
    // The handshake is no matter of a clock that jumps.
    let ends = Ends::over_quic(8).await;
    let (send, recv, mut incoming, kept) = ends.open(End::NoPayload).await;
    drop((send, recv));
    incoming.send.stopped().await;
    ends.exchange().await;
    tokio::time::pause();
    // It was asked about at some time during the exchange.
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert!(is_kept(&kept));
    tokio::time::sleep(Duration::from_secs(21)).await;
    assert!(!is_kept(&kept));
    drop(incoming);
    ends.exchange().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_goes_with_handles_that_are_dropped_while_the_goodbye_waits_to_leave() {
    // Octets that the pipe takes: both hellos fit, and not what the gateway writes then.
    let (near, far) = tokio::io::duplex(1 << 12);
    let (gateway, driver) = link::new(near, Side::Listener, Config::default()).unwrap();
    let (_site, mut other) = link::new(far, Side::Dialer, Config::default()).unwrap();
    let driver = tokio::spawn(driver);
    tokio::select! {
        up = gateway.established() => { up.unwrap(); }
        why = &mut other => panic!("{why}"),
    }
    let (mut send, recv) = gateway.open(HEAD, End::More).await.unwrap();
    send.write_chunk(Bytes::from(vec![7; 1 << 14])).await.unwrap();
    let kept = Arc::new(());
    let is_dropped = Arc::downgrade(&kept);
    send.keep(kept);
    settle().await;
    gateway.close();
    settle().await;
    drop((send, recv));
    settle().await;
    assert!(!driver.is_finished(), "nobody reads the goodbye");
    assert!(!is_kept(&is_dropped));
}

#[tokio::test(start_paused = true)]
async fn what_an_acceptor_keeps_goes_with_its_handles() {
    for end in [End::NoPayload, End::More] {
        let ends = Ends::on_a_pipe().await;
        let (_send, _recv, incoming, _kept) = ends.open(end).await;
        let kept = Arc::new(());
        let is_dropped = Arc::downgrade(&kept);
        incoming.send.keep(kept);
        drop(incoming);
        settle().await;
        assert!(!is_kept(&is_dropped), "{end:?}");
    }
}

// [QUIC-24] +-
#[tokio::test]
async fn what_is_awaited_takes_the_place_of_a_stream() {
    within(async {
        let ends = Ends::over_quic(8).await;
        let mut held = Vec::new();
        for _ in 0..8 {
            let (send, recv, incoming, kept) = ends.open(End::NoPayload).await;
            drop((send, recv));
            held.push((incoming, kept));
        }
        for (incoming, _) in &mut held {
            incoming.send.stopped().await;
        }
        assert!(ends.gateway.try_open(HEAD, End::NoPayload).unwrap().is_none());
        let (incoming, kept) = held.pop().unwrap();
        drop(incoming);
        until(|| !is_kept(&kept)).await;
        ends.gateway.open(HEAD, End::NoPayload).await.unwrap();
    })
    .await;
}
