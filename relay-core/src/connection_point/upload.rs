//! A request's body on its way to the backend, and the deadline that moves with it.

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, timeout_at};

use crate::body::{BodyReceiver, ReceiveError};

/// When the body last moved on. Shared, because the body itself is handed to the HTTP client.
#[derive(Clone, Debug)]
pub(super) struct LastMove(Arc<Mutex<Instant>>);

impl LastMove {
    pub(super) fn now() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    fn set(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn get(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for `work` until the body has not moved for `limit`: a long upload is not a slow
    /// answer. `None`: too late.
    pub(super) async fn in_time<F: Future>(&self, limit: Duration, work: F) -> Option<F::Output> {
        let mut work = pin!(work);
        loop {
            let deadline = self.get() + limit;
            if let Ok(done) = timeout_at(deadline, work.as_mut()).await {
                return Some(done);
            }
            if self.get() + limit <= deadline {
                return None;
            }
        }
    }
}

/// A request's body that notes when it moves on.
#[derive(Debug)]
pub(super) struct Upload {
    body: BodyReceiver,
    last_move: LastMove,
}

impl Upload {
    pub(super) fn new(body: BodyReceiver, last_move: LastMove) -> Self {
        Self { body, last_move }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = ReceiveError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReceiveError>>> {
        let outcome = Pin::new(&mut self.body).poll_frame(cx);
        if outcome.is_ready() {
            self.last_move.set();
        }
        outcome
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    const LIMIT: Duration = Duration::from_secs(62);

    #[tokio::test(start_paused = true)]
    async fn an_upload_that_goes_on_may_take_longer_than_the_answers_deadline() {
        let last_move = LastMove::now();
        let upload = async {
            for _ in 0..10 {
                advance(LIMIT / 2).await;
                last_move.set();
            }
            "answered"
        };
        assert_eq!(last_move.in_time(LIMIT, upload).await, Some("answered"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_runs_from_the_last_move_exactly() {
        let last_move = LastMove::now();
        let before = Instant::now();
        let work = async {
            advance(LIMIT / 2).await;
            last_move.set();
            std::future::pending::<()>().await;
        };
        assert_eq!(last_move.in_time(LIMIT, work).await, None);
        assert_eq!(before.elapsed(), LIMIT / 2 + LIMIT);
    }
}
