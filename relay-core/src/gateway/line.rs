//! Waiting for a stream at every link that may give one.
//!
//! A request that stood at one link alone could wait there behind exchanges that are held for
//! hours, while others came and went on the links beside it. Of the requests for one site only the
//! one whose turn it is waits here; `lines.rs` has the line of the others.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;

use crate::link::{End, OpenFailed, RecvStream, SendStream};

use super::registry::Entry;

/// Links that one request waits at: those of eight connection points with two each. Each takes
/// some memory for each request that waits.
pub(super) const LINKS_MAX: usize = 16;

/// A stream, and the link it is on.
pub(super) type Opened = (SendStream, RecvStream, Entry);

/// Waits at all of `links` for a stream to open with `head`, and takes the first that is free. One
/// that goes away is waited at no more.
///
/// # Errors
///
/// What the last one said.
///
/// # Cancel safety
///
/// Cancel safe: nothing was opened.
pub(super) async fn first_free(
    links: &[Entry],
    head: &Bytes,
    end: End,
) -> Result<Opened, OpenFailed> {
    let wait = |via: &Entry| {
        let (link, head) = (via.link.clone(), head.clone());
        Some(Box::pin(async move { link.open_uncounted(head, end).await }))
    };
    let mut waits: Vec<_> = links.iter().map(wait).collect();
    let mut why = OpenFailed::GoingAway;
    poll_fn(|cx| {
        let mut is_any_left = false;
        for (via, wait) in links.iter().zip(&mut waits) {
            let Some(opening) = wait else { continue };
            match Pin::new(opening).poll(cx) {
                // The others are dropped unasked: a stream is opened by a poll and by nothing else.
                Poll::Ready(Ok((send, recv))) => return Poll::Ready(Ok((send, recv, via.clone()))),
                Poll::Ready(Err(failed)) => {
                    *wait = None;
                    why = failed;
                }
                Poll::Pending => is_any_left = true,
            }
        }
        if is_any_left { Poll::Pending } else { Poll::Ready(Err(why.clone())) }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::Request;
    use http_body_util::Empty;
    use tokio::time::{Instant, timeout};

    use crate::gateway::config::GatewayLimits;
    use crate::gateway::serve::tests::{TARGET, add_link_of, gateway, head};
    use crate::gateway::{AnswerBody, Gateway};
    use crate::link::{Incoming, Link};
    use crate::mux::HeadKind;

    use super::*;

    type Answer = http::Response<AnswerBody<Empty<Bytes>>>;

    fn ask(gateway: &Gateway) -> tokio::task::JoinHandle<Answer> {
        let gateway = gateway.clone();
        let request = Request::get(TARGET).body(Empty::new()).unwrap();
        tokio::spawn(async move { gateway.handle(request).await })
    }

    /// A gateway with so many links of one stream each, and requests that hold them all.
    async fn full(links: u64) -> (Gateway, Vec<Link>, Vec<Incoming>) {
        let gateway = gateway(GatewayLimits::default());
        let (mut peers, mut held) = (Vec::new(), Vec::new());
        for number in 1..=links {
            let peer = add_link_of(&gateway, number, 1).await;
            let _asked = ask(&gateway);
            held.push(peer.accept().await.unwrap());
            peers.push(peer);
        }
        (gateway, peers, held)
    }

    fn answer(mut incoming: Incoming) {
        incoming.send.send_head(head(204), HeadKind::FinalAndEnd).unwrap();
        drop(incoming.recv);
    }

    #[tokio::test(start_paused = true)]
    async fn whichever_link_has_a_stream_free_first_gets_the_request_that_waits() {
        for freed in 0..3 {
            let (gateway, peers, mut held) = full(3).await;
            let waiting = ask(&gateway);
            // It waits by now, wherever its turn was.
            tokio::time::sleep(Duration::from_millis(100)).await;
            let before = Instant::now();
            answer(held.remove(freed));
            let next = timeout(Duration::from_secs(1), peers[freed].accept()).await;
            answer(next.expect("at once").unwrap());
            assert!(before.elapsed() < Duration::from_millis(10));
            assert_eq!(waiting.await.unwrap().status(), 204);
            let accepted = peers.iter().map(|peer| peer.stats().mux.streams_accepted);
            assert_eq!(accepted.sum::<u64>(), 4, "it was opened once");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_that_comes_up_takes_requests_that_wait_at_others() {
        let (gateway, _peers, _held) = full(2).await;
        let waiting = ask(&gateway);
        tokio::time::sleep(Duration::from_millis(100)).await;
        let peer = add_link_of(&gateway, 3, 1).await;
        let incoming = timeout(Duration::from_secs(1), peer.accept()).await.expect("at once");
        answer(incoming.unwrap());
        assert_eq!(waiting.await.unwrap().status(), 204);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_on_while_a_link_that_it_waits_at_is_lost() {
        let (gateway, mut peers, mut held) = full(2).await;
        let waiting = ask(&gateway);
        // What was on the lost link is sent again, and stands behind it only if it comes soon.
        tokio::time::sleep(Duration::from_millis(10)).await;
        peers.remove(0).close();
        tokio::time::sleep(Duration::from_millis(100)).await;
        answer(held.remove(1));
        let next = timeout(Duration::from_secs(1), peers[0].accept()).await.expect("at once");
        answer(next.unwrap());
        assert_eq!(waiting.await.unwrap().status(), 204);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_for_link_credit() {
        let (gateway, _peers, _held) = full(2).await;
        let before = Instant::now();
        let refused = ask(&gateway).await.unwrap();
        assert_eq!(refused.status(), 503);
        assert_eq!(before.elapsed(), GatewayLimits::default().link_credit);
    }

    /// Asks at each step of 20 ms, so that the line is never empty, for so long.
    async fn ask_on(gateway: &Gateway, time: Duration) -> Vec<tokio::task::JoinHandle<Answer>> {
        let (mut asked, end) = (Vec::new(), Instant::now() + time);
        while Instant::now() < end {
            asked.push(ask(gateway));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        asked
    }

    #[tokio::test(start_paused = true)]
    async fn in_a_line_that_stands_each_request_is_refused_when_it_has_waited_for_50_ms() {
        let (gateway, peers, mut held) = full(1).await;
        let limits = GatewayLimits::default();
        let before = Instant::now();
        // Nobody is told before the line stands, and then all who have waited for so long.
        let burst = ask_on(&gateway, limits.link_credit).await;
        assert!(burst.iter().all(|it| !it.is_finished()));
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(before.elapsed(), limits.link_credit + Duration::from_millis(1));
        // The last two have waited for 20 ms and 40 ms.
        let told = burst.iter().take_while(|it| it.is_finished()).count();
        assert_eq!(told, burst.len() - 2);
        for refused in burst {
            let refused = refused.await.unwrap();
            assert_eq!(refused.status(), 503);
            assert_eq!(refused.headers()["retry-after"], "1");
        }
        // That goes on after the line was empty, for as long as requests are refused.
        tokio::time::sleep(limits.link_credit.saturating_sub(Duration::from_secs(1))).await;
        for _ in 0..3 {
            let before = Instant::now();
            assert_eq!(ask(&gateway).await.unwrap().status(), 503);
            assert_eq!(before.elapsed(), limits.overload_wait);
            tokio::time::sleep(limits.link_credit.saturating_sub(Duration::from_millis(1))).await;
        }
        answer(held.remove(0));
        let served = ask(&gateway);
        answer(peers[0].accept().await.unwrap());
        assert_eq!(served.await.unwrap().status(), 204);
    }

    #[tokio::test(start_paused = true)]
    async fn under_overload_whoever_came_last_is_served_first() {
        let (gateway, peers, mut held) = full(1).await;
        let first = ask(&gateway);
        tokio::time::sleep(GatewayLimits::default().overload_wait).await;
        let [second, last] = [ask(&gateway), ask(&gateway)];
        tokio::time::sleep(Duration::from_millis(1)).await;
        answer(held.remove(0));
        for served in [last, second, first] {
            answer(peers[0].accept().await.unwrap());
            assert_eq!(served.await.unwrap().status(), 204);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_link_waits_for_that_however_long_a_line_has_stood() {
        let (gateway, mut peers, _held) = full(1).await;
        let asked = ask_on(&gateway, GatewayLimits::default().link_credit * 2).await;
        let last = asked.into_iter().next_back().unwrap();
        assert!(!last.is_finished());
        peers.remove(0).close();
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!(!last.is_finished(), "it is dialled again");
        let peer = add_link_of(&gateway, 2, 1).await;
        answer(peer.accept().await.unwrap());
        assert_eq!(last.await.unwrap().status(), 204);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_goes_away_leaves_its_turn_to_another() {
        let (gateway, peers, mut held) = full(2).await;
        let [first, second] = [ask(&gateway), ask(&gateway)];
        tokio::time::sleep(Duration::from_millis(1)).await;
        first.abort();
        tokio::time::sleep(Duration::from_millis(1)).await;
        answer(held.remove(1));
        answer(peers[1].accept().await.unwrap());
        assert_eq!(second.await.unwrap().status(), 204);
    }
}
