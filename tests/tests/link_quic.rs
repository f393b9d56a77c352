//! The link over QUIC: what the handles of a link over a pipe do, these do too.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::time::Duration;

use bytes::Bytes;
use relay_core::link::{DrainReport, End, Incoming, Link, OpenFailed, RecvError, RecvStream};
use relay_core::mux::{Config, HeadKind, LinkError, MemoryBudget, SendError, StreamCode};
use relay_core::transport::{QUIC_LINK_MEMORY, QUIC_STREAM_WINDOW};
use relay_tests::quic::{Pair, config};
use relay_tests::roles::{until, within};

const HEAD: Bytes = Bytes::from_static(b"head");

async fn read_all(recv: &mut RecvStream) -> Result<Vec<u8>, RecvError> {
    let mut all = Vec::new();
    while let Some(chunk) = recv.read_chunk().await? {
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

/// Answers a stream with its own head and payload.
async fn echo(incoming: &mut Incoming) {
    incoming.send.send_head(incoming.head.clone(), HeadKind::Final).unwrap();
    while let Some(chunk) = incoming.recv.read_chunk().await.unwrap() {
        incoming.send.write_chunk(chunk).await.unwrap();
    }
    incoming.send.finish().unwrap();
}

/// Answers every stream, all at once, until the link has ended.
async fn echo_all(link: Link) {
    while let Ok(mut incoming) = link.accept().await {
        tokio::spawn(async move { echo(&mut incoming).await });
    }
}

// [QUIC-01] + [QUIC-02] + [QUIC-06] + [QUIC-08] +
#[tokio::test]
async fn an_exchange_carries_heads_payload_and_trailers_both_ways() {
    within(async {
        let pair = Pair::up().await;
        let body = Bytes::from((0..300_000u32).flat_map(u32::to_be_bytes).collect::<Vec<_>>());
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
        for chunk in 0..120 {
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
        assert_eq!(pair.gateway.stats().mux.payload_received, 1_200_000);
        drop((send, recv));
        let [here, there] = pair.end().await;
        assert_eq!(here, LinkError::ClosedHere);
        assert!(matches!(there, LinkError::ClosedByPeer { code: 0, .. }), "{there:?}");
    })
    .await;
}

#[tokio::test]
async fn heads_without_payload_say_so() {
    within(async {
        let pair = Pair::up().await;
        let (send, mut recv) = pair.gateway.open(HEAD, End::NoPayload).await.unwrap();
        let mut incoming = pair.site.accept().await.unwrap();
        assert_eq!(incoming.recv.read_chunk().await, Ok(None));
        incoming.send.send_head(Bytes::from_static(b"204"), HeadKind::FinalAndEnd).unwrap();
        assert!(recv.head().await.unwrap().end);
        assert_eq!(recv.read_chunk().await, Ok(None));
        assert!(recv.is_finished());
        drop((send, recv, incoming));
        pair.end().await;
    })
    .await;
}

#[tokio::test]
async fn streams_of_both_sides_have_the_numbers_that_they_have_on_a_pipe() {
    within(async {
        let pair = Pair::with(config(4), config(4)).await;
        for number in [1, 3] {
            let _stream = pair.gateway.open(HEAD, End::More).await.unwrap();
            assert_eq!(pair.site.accept().await.unwrap().id.number(), number);
        }
        for number in [2, 4] {
            let _stream = pair.site.open(HEAD, End::More).await.unwrap();
            assert_eq!(pair.gateway.accept().await.unwrap().id.number(), number);
        }
        pair.end().await;
    })
    .await;
}

#[tokio::test]
async fn a_consumer_that_takes_nothing_stalls_only_its_own_stream() {
    within(async {
        let pair = Pair::up().await;
        let (mut stalled, _stalled_answer) = pair.gateway.open(HEAD, End::More).await.unwrap();
        let _unread = pair.site.accept().await.unwrap();
        let filling = tokio::spawn(async move {
            let mut octets = 0;
            while stalled.write_chunk(Bytes::from(vec![0; 16_000])).await.is_ok() {
                octets += 16_000;
            }
            octets
        });
        let site = pair.site.clone();
        let reading = tokio::spawn(async move {
            let mut incoming = site.accept().await.unwrap();
            read_all(&mut incoming.recv).await.unwrap().len()
        });
        let (mut send, _answer) = pair.gateway.open(HEAD, End::More).await.unwrap();
        for _ in 0..600 {
            send.write_chunk(Bytes::from(vec![1; 16_000])).await.unwrap();
        }
        send.finish().unwrap();
        assert_eq!(reading.await.unwrap(), 600 * 16_000);
        assert!(!filling.is_finished());
        pair.gateway.close();
        // The window, what is read ahead, the queue and one chunk.
        let stalled = filling.await.unwrap();
        assert!(stalled <= (256 + 64 + 64) * 1024 + 16_000, "{stalled} octets were taken");
    })
    .await;
}

#[tokio::test]
async fn an_unfinished_half_that_is_dropped_never_looks_complete() {
    within(async {
        let pair = Pair::up().await;
        let (mut send, _recv) = pair.gateway.open(HEAD, End::More).await.unwrap();
        send.write_chunk(Bytes::from_static(b"half of it")).await.unwrap();
        let mut incoming = pair.site.accept().await.unwrap();
        drop(send);
        let outcome = read_all(&mut incoming.recv).await;
        assert_eq!(outcome, Err(RecvError::Reset(StreamCode::DROPPED)));
        pair.end().await;
    })
    .await;
}

// [QUIC-16] +
#[tokio::test]
async fn a_reset_by_either_side_aborts_both_halves_with_its_code() {
    within(async {
        let pair = Pair::up().await;
        for (by_opener, code) in [(true, StreamCode(0x777)), (false, StreamCode(u32::MAX))] {
            let (mut send, mut recv) = pair.gateway.open(HEAD, End::More).await.unwrap();
            let mut incoming = pair.site.accept().await.unwrap();
            if by_opener {
                send.reset(code);
                assert_eq!(read_all(&mut incoming.recv).await, Err(RecvError::Reset(code)));
                assert_eq!(incoming.send.stopped().await, SendError::Reset(code));
            } else {
                incoming.send.reset(code);
                assert_eq!(recv.head().await, Err(RecvError::Reset(code)));
                assert_eq!(send.stopped().await, SendError::Reset(code));
            }
        }
        pair.end().await;
    })
    .await;
}

// [QUIC-16] +
#[tokio::test]
async fn a_reset_behind_a_finished_half_is_heard_by_the_half_that_goes_on() {
    within(async {
        let pair = Pair::up().await;
        let (mut send, recv) = pair.gateway.open(HEAD, End::NoPayload).await.unwrap();
        let mut incoming = pair.site.accept().await.unwrap();
        assert_eq!(incoming.recv.read_chunk().await, Ok(None));
        send.reset(StreamCode(0x202));
        assert_eq!(incoming.send.stopped().await, SendError::Reset(StreamCode(0x202)));
        drop((send, recv, incoming));
        pair.end().await;
    })
    .await;
}

// [QUIC-17] +
#[tokio::test]
async fn a_reader_that_goes_away_stops_the_writer_and_can_still_answer() {
    within(async {
        let pair = Pair::up().await;
        let (mut send, mut answer) = pair.gateway.open(HEAD, End::More).await.unwrap();
        let mut incoming = pair.site.accept().await.unwrap();
        incoming.recv.stop(StreamCode(0x123));
        assert_eq!(send.stopped().await, SendError::Stopped(StreamCode(0x123)));
        let more = send.write_chunk(HEAD).await;
        assert_eq!(more, Err(SendError::Stopped(StreamCode(0x123))), "nothing more is taken");
        incoming.send.send_head(Bytes::from_static(b"413"), HeadKind::FinalAndEnd).unwrap();
        assert!(answer.head().await.unwrap().end);
        drop((send, answer, incoming.send));
        pair.end().await;
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_was_refused_may_be_sent_again_and_one_that_was_answered_may_not() {
    within(async {
        let pair = Pair::up().await;
        let (_send, mut recv) = pair.gateway.open(HEAD, End::More).await.unwrap();
        pair.site.accept().await.unwrap().send.reset(StreamCode::REFUSED);
        assert_eq!(recv.head().await, Err(RecvError::Reset(StreamCode::REFUSED)));

        let (_send, mut recv) = pair.gateway.open(HEAD, End::More).await.unwrap();
        let mut incoming = pair.site.accept().await.unwrap();
        incoming.send.send_head(HEAD, HeadKind::Interim).unwrap();
        recv.head().await.unwrap();
        incoming.send.reset(StreamCode::REFUSED);
        assert_eq!(recv.head().await, Err(RecvError::Reset(StreamCode::DROPPED)));
        pair.end().await;
    })
    .await;
}

#[tokio::test]
async fn a_mistake_of_the_caller_resets_its_stream_and_leaves_the_link() {
    within(async {
        let pair = Pair::up().await;
        let too_long = Bytes::from(vec![0; 16_377]);
        let (_send, mut recv) = pair.gateway.open(too_long.clone(), End::More).await.unwrap();
        assert_eq!(recv.head().await, Err(RecvError::Reset(StreamCode::DROPPED)));

        for heads in [vec![HEAD, HEAD], vec![too_long]] {
            let (_send, mut recv) = pair.gateway.open(HEAD, End::More).await.unwrap();
            let mut incoming = pair.site.accept().await.unwrap();
            for head in heads {
                let _ = incoming.send.send_head(head, HeadKind::Final);
            }
            let lost = recv.head().await.and(recv.head().await);
            assert_eq!(lost, Err(RecvError::Reset(StreamCode::DROPPED)));
            assert!(matches!(
                incoming.send.stopped().await,
                SendError::OutOfOrder | SendError::HeadTooLong { .. }
            ));
        }
        assert!(pair.gateway.is_open() && pair.site.is_open());
        pair.end().await;
    })
    .await;
}

// [QUIC-23] +
#[tokio::test]
async fn a_link_that_is_refused_says_why_to_its_peer_and_cuts_its_streams() {
    within(async {
        let pair = Pair::up().await;
        let (_send, mut recv) = pair.gateway.open(HEAD, End::More).await.unwrap();
        pair.site.accept().await.unwrap();
        pair.site.refuse("not\nyou");
        assert_eq!(recv.head().await, Err(RecvError::LinkLost));
        let [gateway, site] = pair.drivers;
        let why = "not\u{fffd}you".into();
        assert_eq!(gateway.await.unwrap(), LinkError::RefusedByPeer { why });
        let why = "not\nyou".into();
        assert_eq!(site.await.unwrap(), LinkError::RefusedHere { why });
    })
    .await;
}

// [QUIC-23] -
#[tokio::test]
async fn a_connection_that_is_let_go_of_fails_every_stream_and_every_opener() {
    within(async {
        let pair = Pair::with(config(8), config(1)).await;
        let (_send, mut recv) = pair.gateway.open(HEAD, End::More).await.unwrap();
        let mut incoming = pair.site.accept().await.unwrap();
        let waiting = tokio::spawn({
            let link = pair.gateway.clone();
            async move { link.open(HEAD, End::More).await.map(|_| ()) }
        });
        let [driver, site_driver] = pair.drivers;
        site_driver.abort();
        assert_eq!(recv.head().await, Err(RecvError::LinkLost));
        assert_eq!(incoming.recv.read_chunk().await, Err(RecvError::LinkLost));
        let why = driver.await.unwrap();
        assert!(matches!(why, LinkError::Lost { .. }), "{why:?}");
        assert_eq!(waiting.await.unwrap(), Err(OpenFailed::Closed(why.clone())));
        let refused = pair.gateway.try_open(HEAD, End::More).map(|_| ());
        assert_eq!(refused, Err(OpenFailed::Closed(why.clone())));
        assert_eq!(pair.gateway.accept().await.map(|_| ()), Err(why));
    })
    .await;
}

/// How an exchange comes to its end on the wire while the acceptor still works at it.
#[derive(Clone, Copy, Debug)]
enum Early {
    OpenerResets,
    AcceptorResets,
    BothFinish,
    /// And of the acceptor's handles only the send half is left.
    OpenerResetsAndRecvIsDropped,
    OpenerStopsAndFinishes,
}

/// Goes through exchanges the other way, until all that QUIC has to say of earlier streams has been
/// said, and its acknowledgements too.
async fn other_way(pair: &Pair) {
    for _ in 0..20 {
        let (mut send, mut recv) = pair.site.open(HEAD, End::More).await.unwrap();
        let mut incoming = pair.gateway.accept().await.unwrap();
        send.finish().unwrap();
        echo(&mut incoming).await;
        recv.head().await.unwrap();
        assert_eq!(recv.read_chunk().await, Ok(None));
    }
}

// [QUIC-21] +-
#[tokio::test]
async fn a_stream_is_free_again_only_when_the_acceptor_has_let_go() {
    use Early::{
        AcceptorResets, BothFinish, OpenerResets, OpenerResetsAndRecvIsDropped,
        OpenerStopsAndFinishes,
    };
    within(async {
        let pair = Pair::with(config(64), config(1)).await;
        for early in [
            OpenerResets,
            AcceptorResets,
            BothFinish,
            OpenerResetsAndRecvIsDropped,
            OpenerStopsAndFinishes,
        ] {
            let (mut send, recv) = pair.gateway.open(HEAD, End::More).await.unwrap();
            let mut recv = Some(recv);
            let Incoming { send: mut answer, recv: mut asked, .. } =
                pair.site.accept().await.unwrap();
            let mut held = None;
            match early {
                OpenerResets => {
                    send.reset(StreamCode(0x200));
                    assert!(asked.read_chunk().await.is_err());
                    held = Some(asked);
                }
                AcceptorResets => {
                    answer.reset(StreamCode(0x200));
                    assert!(recv.as_mut().unwrap().head().await.is_err());
                    held = Some(asked);
                }
                BothFinish => {
                    send.finish().unwrap();
                    assert_eq!(asked.read_chunk().await, Ok(None));
                    answer.send_head(HEAD, HeadKind::FinalAndEnd).unwrap();
                    recv.as_mut().unwrap().head().await.unwrap();
                    held = Some(asked);
                }
                OpenerResetsAndRecvIsDropped => {
                    send.reset(StreamCode(0x200));
                    assert!(asked.read_chunk().await.is_err());
                }
                OpenerStopsAndFinishes => {
                    recv.take().unwrap().stop(StreamCode(0x200));
                    answer.stopped().await;
                    send.finish().unwrap();
                    assert_eq!(asked.read_chunk().await, Ok(None));
                    held = Some(asked);
                }
            }
            drop((send, recv));
            other_way(&pair).await;
            let more = pair.gateway.try_open(HEAD, End::More).unwrap();
            assert!(more.is_none(), "{early:?}: the acceptor's work goes on");
            drop((answer, held));
            // And then it is: the next turn of this loop opens a stream.
        }
        let _free = pair.gateway.open(HEAD, End::More).await.unwrap();
        pair.end().await;
    })
    .await;
}

// [QUIC-18] + [QUIC-19] +
#[tokio::test]
async fn a_drain_lets_open_streams_finish_and_refuses_new_ones() {
    within(async {
        let pair = Pair::up().await;
        let (mut send, mut recv) = pair.gateway.open(HEAD, End::More).await.unwrap();
        let mut incoming = pair.site.accept().await.unwrap();
        let draining = tokio::spawn({
            let site = pair.site.clone();
            async move { site.drain(Duration::from_secs(30)).await }
        });
        until(|| !pair.gateway.is_open()).await;
        let refused = pair.gateway.open(HEAD, End::More).await.map(|_| ());
        assert_eq!(refused, Err(OpenFailed::GoingAway));
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
    })
    .await;
}

// [QUIC-22] + [QUIC-23] +
#[tokio::test]
async fn a_drained_link_loses_nothing_of_an_answer_that_nobody_has_read_yet() {
    within(async {
        let pair = Pair::up().await;
        let (mut send, mut recv) = pair.gateway.open(HEAD, End::More).await.unwrap();
        send.finish().unwrap();
        let mut incoming = pair.site.accept().await.unwrap();
        // More than is read ahead, no more than the window and the credit for that.
        let body = Bytes::from((0..70_000u32).flat_map(u32::to_be_bytes).collect::<Vec<_>>());
        incoming.send.send_head(HEAD, HeadKind::Final).unwrap();
        incoming.send.write_chunk(body.clone()).await.unwrap();
        incoming.send.finish().unwrap();
        drop(incoming);
        let report = pair.site.drain(Duration::from_secs(30)).await;
        assert_eq!(report, DrainReport { finished: 1, reset: 0 });
        let [gateway, _] = pair.drivers;
        let reason = gateway.await.unwrap();
        assert!(matches!(reason, LinkError::ClosedByPeer { code: 0, .. }), "{reason:?}");
        assert_eq!(recv.head().await.unwrap().block, HEAD);
        assert!(read_all(&mut recv).await.unwrap() == body);
    })
    .await;
}

#[tokio::test]
async fn a_drain_cuts_what_is_open_at_its_deadline() {
    within(async {
        let pair = Pair::up().await;
        let (_send, mut recv) = pair.gateway.open(HEAD, End::More).await.unwrap();
        let _incoming = pair.site.accept().await.unwrap();
        let report = pair.site.drain(Duration::from_millis(1)).await;
        assert_eq!(report, DrainReport { finished: 0, reset: 1 });
        assert_eq!(recv.head().await, Err(RecvError::LinkLost));
    })
    .await;
}

// [QUIC-19] -
#[tokio::test]
async fn openers_that_race_with_a_drain_are_served_or_may_try_another_link() {
    within(async {
        let pair = Pair::up().await;
        let site = pair.site.clone();
        let served = tokio::spawn(async move {
            let mut served = 0;
            while let Ok(mut incoming) = site.accept().await {
                served += 1;
                echo(&mut incoming).await;
            }
            served
        });
        let draining = tokio::spawn({
            let site = pair.site.clone();
            async move { site.drain(Duration::from_secs(30)).await }
        });
        let mut answered = 0;
        loop {
            let Ok((mut send, mut recv)) = pair.gateway.open(HEAD, End::More).await else { break };
            let _ = send.finish();
            match recv.head().await {
                Ok(_) => assert_eq!(recv.read_chunk().await, Ok(None)),
                Err(why) => {
                    assert_eq!(why, RecvError::Reset(StreamCode::REFUSED));
                    continue;
                }
            }
            answered += 1;
        }
        draining.await.unwrap();
        assert_eq!(served.await.unwrap(), answered);
    })
    .await;
}

#[tokio::test]
async fn a_link_without_handles_closes_once_its_streams_have_ended() {
    within(async {
        let Pair { gateway, site, drivers: [one, other] } = Pair::up().await;
        let (mut send, recv) = gateway.open(HEAD, End::More).await.unwrap();
        drop(gateway);
        let incoming = site.accept().await.unwrap();
        assert!(!one.is_finished());
        send.write_chunk(HEAD).await.unwrap();
        drop((send, recv, incoming));
        assert_eq!(one.await.unwrap(), LinkError::ClosedHere);
        assert!(matches!(other.await.unwrap(), LinkError::ClosedByPeer { .. }));
    })
    .await;
}

#[tokio::test]
async fn many_streams_at_once_all_end_and_leave_nothing_behind() {
    within(async {
        let pair = Pair::with(config(0), config(50)).await;
        let site = pair.site.clone();
        let served = tokio::spawn(echo_all(site));
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
        // The last acknowledgements are still on their way.
        until(|| pair.gateway.stats().mux.streams_open == 0).await;
        until(|| pair.site.stats().mux.streams_open == 0).await;
        assert_eq!(pair.gateway.stats().mux.streams_opened, 300);
        assert_eq!(pair.site.stats().mux.streams_accepted, 300);
        pair.end().await;
        served.await.unwrap();
    })
    .await;
}

// [QUIC-04] +
#[tokio::test]
async fn a_link_leases_the_windows_of_its_streams_and_returns_them() {
    within(async {
        let budget = MemoryBudget::new(QUIC_LINK_MEMORY);
        let shared = |accept| Config { memory: Some(budget.clone()), ..config(accept) };
        let pair = Pair::with(shared(0), config(1024)).await;
        assert_eq!(budget.leased(), 128 * u64::from(QUIC_STREAM_WINDOW));
        let mut streams = Vec::new();
        for _ in 0..128 {
            streams.push(pair.gateway.open(HEAD, End::More).await.unwrap());
        }
        until(|| budget.leased() >= 256 * u64::from(QUIC_STREAM_WINDOW)).await;
        drop(streams);
        pair.end().await;
        assert_eq!(budget.leased(), 0);
    })
    .await;
}

/// Opens as many streams at once, and lets all of them end as they should.
async fn burst(pair: &Pair, streams: usize) {
    let mut open = Vec::new();
    for _ in 0..streams {
        let (send, recv) = pair.gateway.open(HEAD, End::NoPayload).await.unwrap();
        open.push((send, recv, pair.site.accept().await.unwrap()));
    }
    for (_send, mut recv, mut incoming) in open {
        incoming.send.send_head(HEAD, HeadKind::FinalAndEnd).unwrap();
        drop(incoming);
        assert!(recv.head().await.unwrap().end);
        assert_eq!(recv.read_chunk().await, Ok(None));
    }
}

// [QUIC-21] +
#[tokio::test]
async fn what_a_burst_has_leased_comes_back_as_streams_end_and_another_burst_leases_it_again() {
    within(async {
        let budget = MemoryBudget::new(1 << 40);
        let shared = |accept| Config { memory: Some(budget.clone()), ..config(accept) };
        let pair = Pair::with(shared(0), shared(1024)).await;
        let windows = |streams: u64| streams * u64::from(QUIC_STREAM_WINDOW);
        // The gateway's first ones, the site's, and the sixteen that the site may open itself.
        let first = windows(128 + 128 + 16);
        assert_eq!(budget.leased(), first);
        for _ in 0..2 {
            burst(&pair, 200).await;
            assert!(budget.leased() > first, "{} octets", budget.leased());
            for _ in 0..1000 {
                burst(&pair, 1).await;
            }
            until(|| budget.leased() == first).await;
        }
        burst(&pair, 200).await;
        pair.end().await;
        assert_eq!(budget.leased(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_link_that_came_up_without_memory_asks_again_and_carries_streams_once_there_is_some() {
    within(async {
        for is_gateway_short in [false, true] {
            let budget = MemoryBudget::new(128 * u64::from(QUIC_STREAM_WINDOW));
            let short = |accept, is_short: bool| Config {
                memory: is_short.then(|| budget.clone()),
                consumer_timeout: Duration::from_millis(20),
                ..config(accept)
            };
            let others = Pair::with(config(0), short(1024, true)).await;
            assert_eq!(budget.leased(), budget.limit());
            let gateway = short(0, is_gateway_short);
            let pair = Pair::with(gateway, short(1024, !is_gateway_short)).await;
            let opener = pair.gateway.clone();
            let opening = tokio::spawn(async move { opener.open(HEAD, End::NoPayload).await });
            burst(&others, 1).await;
            assert!(!opening.is_finished(), "nothing is left");
            others.end().await;
            opening.await.unwrap().unwrap();
            assert_eq!(pair.site.accept().await.unwrap().head, HEAD);
            pair.end().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_waits_for_its_consumer_is_counted_until_it_goes_on() {
    within(async {
        let pair = Pair::with(config(0), config(1024)).await;
        let (mut send, _recv) = pair.gateway.open(HEAD, End::More).await.unwrap();
        let mut incoming = pair.site.accept().await.unwrap();
        let more = Bytes::from(vec![0; 4 << 20]);
        send.write_chunk(more.clone()).await.unwrap();
        until(|| pair.gateway.stats().mux.streams_stalled == 1).await;
        let stats = pair.gateway.stats().mux;
        assert!(stats.credit_stalls >= 1 && stats.payload_queued > 0, "{stats:?}");
        send.finish().unwrap();
        let mut octets = 0;
        while let Some(chunk) = incoming.recv.read_chunk().await.unwrap() {
            octets += chunk.len();
        }
        assert_eq!(octets, more.len());
        until(|| {
            let stats = pair.gateway.stats().mux;
            (stats.streams_stalled, stats.payload_queued) == (0, 0)
        })
        .await;
        let stats = pair.gateway.stats().mux;
        assert!(stats.credit_stalled_for > Duration::ZERO, "{stats:?}");
        pair.end().await;
    })
    .await;
}

#[tokio::test]
async fn a_consumer_that_takes_nothing_for_too_long_has_its_stream_reset() {
    within(async {
        let impatient = Config { consumer_timeout: Duration::from_millis(20), ..config(1024) };
        let pair = Pair::with(config(0), impatient).await;
        let (mut send, mut recv) = pair.gateway.open(HEAD, End::More).await.unwrap();
        let _unread = pair.site.accept().await.unwrap();
        send.write_chunk(HEAD).await.unwrap();
        assert_eq!(recv.head().await, Err(RecvError::Reset(StreamCode::STALLED)));
        until(|| pair.site.stats().mux.consumers_stalled == 1).await;
        // The first is still held and has been looked at as often when the second is reset.
        let (mut send, mut recv) = pair.gateway.open(HEAD, End::More).await.unwrap();
        let _unread_too = pair.site.accept().await.unwrap();
        send.write_chunk(HEAD).await.unwrap();
        assert_eq!(recv.head().await, Err(RecvError::Reset(StreamCode::STALLED)));
        until(|| pair.site.stats().mux.consumers_stalled >= 2).await;
        assert_eq!(pair.site.stats().mux.consumers_stalled, 2, "each once");
        pair.end().await;
    })
    .await;
}
