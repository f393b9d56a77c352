//! Giving up a peer that makes no progress.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

/// How long a step may wait that is polled again and again. What is ready ends the wait.
#[derive(Debug)]
pub struct Patience {
    limit: Duration,
    /// Runs while a step waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    /// Each wait may take `limit`.
    pub fn new(limit: Duration) -> Self {
        Self { limit, waiting: None }
    }

    /// The outcome of a step, which fails with [`io::ErrorKind::TimedOut`] once it has been pending
    /// for the limit.
    pub fn judge<T>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.waiting = None;
            return outcome;
        }
        let limit = self.limit;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(limit)));
        waiting.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}
