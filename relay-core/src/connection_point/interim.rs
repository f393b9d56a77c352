//! Interim answers of a backend on their way into a stream.
//!
//! The HTTP client reads them on a task of the connection's own and calls back; whoever waits for
//! the answer takes them from here and sends them in front of its head. What cannot be sent is left
//! out, with a line in the log: it is never a reason to fail the answer.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, Request, StatusCode};
use tokio::sync::Notify;

use crate::exchange::{AnswerHead, HeadLimits, Origin};
use crate::link::SendStream;
use crate::mux::HeadKind;
use crate::policy;

/// Interim heads of one answer; with one more the link would give up the whole answer.
// `mux/PROTOCOL.md`, MUX-28; `link/QUIC.md`, QUIC-11.
const SENT_MAX: usize = 8;

/// The interim answers to one request. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Interims(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    came: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    /// Those that have come and were not sent yet. The pipe to the backend lets 16 of one answer
    /// pass.
    heads: Vec<(StatusCode, HeaderMap)>,
    /// Those that were sent.
    sent: usize,
}

impl Interims {
    /// Has the HTTP client hand over those to `request`.
    pub(super) fn hear<B>(&self, request: &mut Request<B>) {
        let shared = Arc::clone(&self.0);
        hyper::ext::on_informational(request, move |head| {
            shared.note(head.status(), head.headers().clone());
        });
    }

    /// Sends those that come until `answered` is ready, and returns what that is; `None` if nobody
    /// waits for the answer any more.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops `answered`. What was sent stays sent.
    pub(super) async fn relay_until<F: Future>(
        &self,
        answered: F,
        send: &mut SendStream,
        limits: &HeadLimits,
    ) -> Option<F::Output> {
        let mut answered = pin!(answered);
        let answer = loop {
            tokio::select! {
                biased;
                _ = send.stopped() => return None,
                () = self.0.came.notified() => self.relay(send, limits),
                answer = answered.as_mut() => break answer,
            }
        };
        // What came a moment before the answer goes before it.
        self.relay(send, limits);
        Some(answer)
    }

    /// Sends those that have come, in order.
    fn relay(&self, send: &mut SendStream, limits: &HeadLimits) {
        let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let Queue { heads, sent } = &mut *queue;
        for (status, mut headers) in heads.drain(..) {
            if !policy::passes_interim(status) {
                continue;
            }
            if *sent == SENT_MAX {
                tracing::debug!(%status, "one interim answer too many, dropped");
                continue;
            }
            policy::strip_interim_headers(&mut headers);
            let head = AnswerHead { status, reason: None, headers, origin: Origin::Site };
            match head.encode(limits) {
                Ok(block) => {
                    *sent += 1;
                    // It fails if nobody waits for the answer any more, which is seen elsewhere.
                    let _ = send.send_head(block, HeadKind::Interim);
                }
                Err(why) => tracing::debug!(%status, %why, "interim answer dropped"),
            }
        }
    }
}

impl Shared {
    fn note(&self, status: StatusCode, headers: HeaderMap) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.heads.push((status, headers));
        drop(queue);
        self.came.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::link::{self, End};
    use crate::mux::{Config, Side};

    #[tokio::test(start_paused = true)]
    async fn one_that_comes_together_with_the_answer_goes_before_it() {
        let config = Config { open_streams_max: 8, ..Config::default() };
        let (near, far) = tokio::io::duplex(1024);
        let (gateway, driver) = link::new(near, Side::Listener, config.clone()).unwrap();
        let (site, site_driver) = link::new(far, Side::Dialer, config).unwrap();
        tokio::spawn(driver);
        tokio::spawn(site_driver);
        let head = Bytes::from_static(b"head");
        let (_send, mut answer) = gateway.open(head.clone(), End::NoPayload).await.unwrap();
        let mut send = site.accept().await.unwrap().send;
        let interims = Interims::default();
        // The connection's task has both before this one looks again.
        let answered = async { interims.0.note(StatusCode::EARLY_HINTS, HeaderMap::new()) };
        let limits = HeadLimits::default();
        assert_eq!(interims.relay_until(answered, &mut send, &limits).await, Some(()));
        send.send_head(head, HeadKind::FinalAndEnd).unwrap();
        let first = answer.head().await.unwrap();
        assert!(first.interim, "{first:?}");
        assert_eq!(AnswerHead::decode(first.block, &limits).unwrap().status, 103);
        assert!(answer.head().await.unwrap().end);
    }
}
