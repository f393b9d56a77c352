//! A byte pipe that gives up on a peer that takes next to nothing.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::access::Slowness;

/// Octets that a peer has to take in each time limit of waiting for it. Our choice: it is what a
/// link of 4.5 kbit/s carries in 30 s, and far above what holding a place is worth.
const TAKEN_MIN: usize = 16 << 10;

/// Fails a write once its peer was waited for as long as the limit, and has taken less than 16 KiB
/// meanwhile. Only waiting counts: an answer that is itself slow is no fault of the peer.
///
/// Without it a client that stops reading its answer, or reads an octet now and then, would hold
/// the answer's stream, and with it a place at the connection point and a connection to the
/// backend, for as long as it likes.
#[derive(Debug)]
pub(super) struct Patient<P> {
    pipe: P,
    limit: Duration,
    /// How long the peer was waited for, and what it has taken since.
    waited: Duration,
    taken: usize,
    /// Since when a write is pending, and when that is too long.
    pending: Option<(Instant, Pin<Box<Sleep>>)>,
    slowness: Slowness,
}

impl<P> Patient<P> {
    pub(super) fn new(pipe: P, limit: Duration) -> Self {
        let (waited, taken, pending) = (Duration::ZERO, 0, None);
        Self { pipe, limit, waited, taken, pending, slowness: Slowness::default() }
    }

    /// Told when the peer is given up.
    pub(super) fn slowness(&self) -> Slowness {
        self.slowness.clone()
    }

    pub(super) fn into_inner(self) -> P {
        self.pipe
    }

    /// Begins anew: nothing waits for the peer, or it has taken enough.
    fn forgive(&mut self) {
        (self.waited, self.taken, self.pending) = (Duration::ZERO, 0, None);
    }

    fn judge<T>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            if let Some((since, _)) = self.pending.take() {
                self.waited += since.elapsed();
            }
            return outcome;
        }
        let left = self.limit.saturating_sub(self.waited);
        let begin = || (Instant::now(), Box::pin(sleep(left)));
        let (_, due) = self.pending.get_or_insert_with(begin);
        if due.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.slowness.note();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn judge_write(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(octets)) = &outcome {
            self.taken = self.taken.saturating_add(*octets);
            if self.taken >= TAKEN_MIN {
                self.forgive();
            }
        }
        self.judge(cx, outcome)
    }

    fn judge_flush(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        if outcome.is_ready() {
            self.forgive();
        }
        self.judge(cx, outcome)
    }
}

impl<P: AsyncRead + Unpin> AsyncRead for Patient<P> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(cx, buffer)
    }
}

impl<P: AsyncWrite + Unpin> AsyncWrite for Patient<P> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.pipe).poll_write(cx, octets);
        self.judge_write(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.pipe).poll_write_vectored(cx, slices);
        self.judge_write(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.pipe.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.pipe).poll_flush(cx);
        self.judge_flush(cx, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.pipe).poll_shutdown(cx);
        self.judge(cx, outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const LIMIT: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up_at_the_limit() {
        let (near, _far) = tokio::io::duplex(16);
        let mut pipe = Patient::new(near, LIMIT);
        let before = Instant::now();
        let error = pipe.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(before.elapsed() >= LIMIT);
    }

    /// Has a peer take so many octets at a time, with a third of the limit before each, of as many
    /// as three limits are long. Returns whether all of it could be written.
    async fn is_borne(at_a_time: usize) -> bool {
        let (near, mut far) = tokio::io::duplex(at_a_time);
        let mut pipe = Patient::new(near, LIMIT);
        let reading = tokio::spawn(async move {
            let mut buffer = vec![0; at_a_time];
            loop {
                sleep(LIMIT / 3).await;
                if far.read(&mut buffer).await.unwrap() == 0 {
                    return;
                }
            }
        });
        let written = pipe.write_all(&vec![0; 9 * at_a_time]).await;
        drop(pipe);
        reading.await.unwrap();
        written.inspect_err(|why| assert_eq!(why.kind(), io::ErrorKind::TimedOut)).is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_has_to_take_16_kib_in_each_limit_of_waiting() {
        // In three reads, of which the last falls together with the limit.
        for (octets, expected) in
            [(16, false), (TAKEN_MIN / 3, false), (TAKEN_MIN / 2, true), (TAKEN_MIN, true)]
        {
            assert_eq!(is_borne(octets).await, expected, "{octets}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_slow_itself_is_no_fault_of_the_peer() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut pipe = Patient::new(near, LIMIT);
        let reading = tokio::spawn(async move {
            let mut buffer = [0; 16];
            while far.read(&mut buffer).await.unwrap() > 0 {
                sleep(LIMIT / 4).await;
            }
        });
        for _ in 0..8 {
            // The second waits for a quarter of the limit.
            for _ in 0..2 {
                pipe.write_all(&[0; 16]).await.unwrap();
            }
            pipe.flush().await.unwrap();
            sleep(2 * LIMIT).await;
        }
        drop(pipe);
        reading.await.unwrap();
    }
}
