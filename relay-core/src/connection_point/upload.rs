//! A request's body on its way to the backend, and the deadline that moves with it.

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, timeout_at};

use crate::body::{BodyReceiver, ReceiveError};

use super::backend::Place;

/// When the body last moved on. Shared, because the body itself is handed to the HTTP client.
#[derive(Clone, Debug)]
pub(super) struct LastMove(Arc<Mutex<Move>>);

#[derive(Clone, Copy, Debug)]
struct Move {
    at: Instant,
    waits_for_client: bool,
}

impl LastMove {
    pub(super) fn now() -> Self {
        Self(Arc::new(Mutex::new(Move { at: Instant::now(), waits_for_client: false })))
    }

    fn lock(&self) -> MutexGuard<'_, Move> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It moves now; or its time begins.
    pub(super) fn set(&self) {
        *self.lock() = Move { at: Instant::now(), waits_for_client: false };
    }

    fn get(&self) -> Instant {
        self.lock().at
    }

    fn note_wait(&self) {
        self.lock().waits_for_client = true;
    }

    /// Whether the backend has taken all that there is, and the client owes the rest.
    pub(super) fn waits_for_client(&self) -> bool {
        self.lock().waits_for_client
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

/// Where the body of a request is found again that was not sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Unsent(Arc<Mutex<Option<BodyReceiver>>>);

impl Unsent {
    pub(super) fn of(body: BodyReceiver) -> Self {
        Self(Arc::new(Mutex::new(Some(body))))
    }

    fn lock(&self) -> MutexGuard<'_, Option<BodyReceiver>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the body; `None` if it was taken before and did not come back.
    pub(super) fn take(&self) -> Option<BodyReceiver> {
        self.lock().take()
    }
}

/// A request's body that notes when it moves on. One that is dropped before an octet of it was
/// taken goes back to where it came from.
#[derive(Debug)]
pub(super) struct Upload {
    body: Option<BodyReceiver>,
    unsent: Unsent,
    last_move: LastMove,
    /// The request's place among those that its backend has at once.
    _place: Place,
}

impl Upload {
    /// The body in `unsent`; `None` if it is not there.
    pub(super) fn new(unsent: &Unsent, last_move: LastMove, place: Place) -> Option<Self> {
        let body = Some(unsent.take()?);
        Some(Self { body, unsent: unsent.clone(), last_move, _place: place })
    }

    /// No body.
    pub(super) fn nothing(last_move: LastMove, place: Place) -> Self {
        Self { body: None, unsent: Unsent::default(), last_move, _place: place }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(body) = self.body.take_if(|body| body.octets() == 0) {
            *self.unsent.lock() = Some(body);
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = ReceiveError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReceiveError>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let outcome = Pin::new(body).poll_frame(cx);
        match outcome {
            Poll::Ready(_) => self.last_move.set(),
            Poll::Pending => self.last_move.note_wait(),
        }
        outcome
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
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
