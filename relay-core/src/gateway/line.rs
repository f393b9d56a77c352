//! Waiting in line for a stream, at every link that may give one.
//!
//! A request that stood at one link alone could wait there behind exchanges that are held for
//! hours, while others came and went on the links beside it.

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
/// that goes away is waited at no more. It counts among those that wait at the first, whose turn it
/// is: so as many may wait in all as at all links together.
///
/// # Errors
///
/// [`OpenFailed::Busy`] if too many wait at the first, else what the last one said.
///
/// # Cancel safety
///
/// Cancel safe: nothing was opened.
pub(super) async fn first_free(
    links: &[Entry],
    head: &Bytes,
    end: End,
) -> Result<Opened, OpenFailed> {
    let wait = |(place, via): (usize, &Entry)| {
        let (link, head) = (via.link.clone(), head.clone());
        Some(Box::pin(async move {
            match place {
                0 => link.open(head, end).await,
                _ => link.open_uncounted(head, end).await,
            }
        }))
    };
    let mut waits: Vec<_> = links.iter().enumerate().map(wait).collect();
    let mut why = OpenFailed::GoingAway;
    poll_fn(|cx| {
        let mut is_any_left = false;
        for (via, wait) in links.iter().zip(&mut waits) {
            let Some(opening) = wait else { continue };
            match Pin::new(opening).poll(cx) {
                // The others are dropped unasked: a stream is opened by a poll and by nothing else.
                Poll::Ready(Ok((send, recv))) => return Poll::Ready(Ok((send, recv, via.clone()))),
                Poll::Ready(Err(OpenFailed::Busy)) => return Poll::Ready(Err(OpenFailed::Busy)),
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
        tokio::time::sleep(Duration::from_millis(100)).await;
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
}
