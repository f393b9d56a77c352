//! Gives up an HTTP/2 stream of whose answer its client takes nothing.
//!
//! [`Patient`](super::patient::Patient) sees only a connection that stands still. A client that
//! grants one stream no window keeps the connection moving, and the answer's body is then not even
//! polled; so the task of the stream is watched from outside.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use hyper::rt::Executor;
use tokio::time::{Instant, Sleep, sleep_until};

tokio::task_local! {
    /// Since when octets of the answer, whose stream this task serves, wait for the client.
    static WAITS_SINCE: Cell<Option<Instant>>;
}

/// Notes that an answer's body was polled, and whether it gave something to be sent.
pub(super) fn note_polled(gave: bool) {
    // Outside such a task the answer is served by a product's own server, with limits of its own.
    let _ = WAITS_SINCE.try_with(|since| since.set(gave.then(Instant::now)));
}

/// Runs the tasks of HTTP/2 streams, and drops one whose client takes nothing for a time. That
/// resets the stream.
#[derive(Clone, Debug)]
pub(super) struct PatientExecutor {
    limit: Duration,
}

impl PatientExecutor {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit }
    }
}

impl<F> Executor<F> for PatientExecutor
where
    F: Future + Send + 'static,
{
    fn execute(&self, stream: F) {
        tokio::spawn(WAITS_SINCE.scope(Cell::new(None), while_taken(stream, self.limit)));
    }
}

async fn while_taken<F: Future>(stream: F, limit: Duration) {
    let mut stream = pin!(stream);
    let mut waiting: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|cx| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let Some(since) = WAITS_SINCE.with(Cell::get) else { return Poll::Pending };
        let due = since + limit;
        let waiting = waiting.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if waiting.deadline() != due {
            waiting.as_mut().reset(due);
        }
        waiting.as_mut().poll(cx)
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;
    use tokio::time::advance;

    const LIMIT: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_stream_of_which_nothing_is_taken_is_dropped_at_the_limit() {
        let (held, dropped) = oneshot::channel::<()>();
        let before = Instant::now();
        PatientExecutor::new(LIMIT).execute(async move {
            note_polled(true);
            std::future::pending::<()>().await;
            drop(held);
        });
        assert!(dropped.await.is_err());
        assert_eq!(before.elapsed(), LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_of_which_a_little_is_taken_again_and_again_goes_on() {
        let (done, ended) = oneshot::channel();
        PatientExecutor::new(LIMIT).execute(async move {
            for _ in 0..10 {
                note_polled(true);
                advance(LIMIT / 2).await;
            }
            done.send(())
        });
        ended.await.expect("it was not dropped");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_waits_for_the_site_is_no_fault_of_the_client() {
        let (done, ended) = oneshot::channel();
        PatientExecutor::new(LIMIT).execute(async move {
            note_polled(true);
            note_polled(false);
            advance(LIMIT * 3).await;
            done.send(())
        });
        ended.await.expect("it was not dropped");
    }
}
