//! How long a peer is waited for that takes next to nothing, and a byte pipe that gives it up.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::access::Slowness;

/// Octets that a peer has to take in each time limit of waiting for it. Our choice: it is what a
/// link of 4.5 kbit/s carries in 30 s, and far above what holding a place is worth.
const TAKEN_MIN: usize = 16 << 10;

/// How long a peer was waited for since it has taken enough. Pure: times are handed in.
#[derive(Debug)]
pub(super) struct Ledger {
    limit: Duration,
    waited: Duration,
    taken: usize,
}

impl Ledger {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, waited: Duration::ZERO, taken: 0 }
    }

    /// How much longer the peer may be waited for.
    pub(super) fn left(&self) -> Duration {
        self.limit.saturating_sub(self.waited)
    }

    pub(super) fn waited(&mut self, time: Duration) {
        self.waited = self.waited.saturating_add(time);
    }

    /// The peer has taken some. Returns whether that is enough, and all begins anew.
    pub(super) fn took(&mut self, octets: usize) -> bool {
        self.taken = self.taken.saturating_add(octets);
        let is_enough = self.taken >= TAKEN_MIN;
        if is_enough {
            self.forgive();
        }
        is_enough
    }

    /// Begins anew: the peer has taken all there is, or enough of it.
    pub(super) fn forgive(&mut self) {
        (self.waited, self.taken) = (Duration::ZERO, 0);
    }
}

/// Fails a write once its peer was waited for as long as the limit, and has taken less than 16 KiB
/// meanwhile. Only waiting counts: an answer that is itself slow is no fault of the peer.
///
/// What the kernels hold counts as taken: here 64 KiB that are not on their way (on Linux; see
/// `transport/tcp.rs`), at the client what its own has granted. Who reads nothing is noticed once
/// those are full.
///
/// Without it a client that stops reading its answer, or reads an octet now and then, would hold
/// the answer's stream, and with it a place at the connection point and a connection to the
/// backend, for as long as it likes.
#[derive(Debug)]
pub(super) struct Patient<P> {
    pipe: P,
    ledger: Ledger,
    /// Since when a write is pending, and when that is too long.
    pending: Option<(Instant, Pin<Box<Sleep>>)>,
    slowness: Slowness,
    /// Octets that it took.
    sent: Arc<AtomicU64>,
}

impl<P> Patient<P> {
    pub(super) fn new(pipe: P, limit: Duration) -> Self {
        let (ledger, slowness) = (Ledger::new(limit), Slowness::default());
        Self { pipe, ledger, pending: None, slowness, sent: Arc::default() }
    }

    /// Has what the peer takes count in `sent`.
    pub(super) fn counting(self, sent: Arc<AtomicU64>) -> Self {
        Self { sent, ..self }
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
        self.ledger.forgive();
        self.pending = None;
    }

    fn judge<T>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            if let Some((since, _)) = self.pending.take() {
                self.ledger.waited(since.elapsed());
            }
            return outcome;
        }
        let left = self.ledger.left();
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
            self.sent.fetch_add(*octets as u64, Ordering::Relaxed);
            if self.ledger.took(*octets) {
                self.pending = None;
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
