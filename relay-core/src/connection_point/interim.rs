//! Interim answers of a backend on their way into a stream.
//!
//! The HTTP client reads them on a task of the connection's own and calls back; whoever waits for
//! the answer takes them from here and sends them in front of its head. What cannot be sent is left
//! out, with a line in the log: it is never a reason to fail the answer.

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
            let mut queue = shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.heads.push((head.status(), head.headers().clone()));
            drop(queue);
            shared.came.notify_one();
        });
    }

    /// Waits until one has come since the last time.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub(super) async fn came(&self) {
        self.0.came.notified().await;
    }

    /// Sends those that have come, in order.
    pub(super) fn relay(&self, send: &mut SendStream, limits: &HeadLimits) {
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
