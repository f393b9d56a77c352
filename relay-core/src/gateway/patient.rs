//! A byte pipe that gives up on a peer that takes nothing.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::transport::Patience;

use super::access::Slowness;

/// Fails a write that makes no progress within a time limit.
///
/// Without it a client that stops reading its answer would hold the answer's stream, and with it a
/// place at the connection point and a connection to the backend, for as long as it likes.
#[derive(Debug)]
pub(super) struct Patient<P> {
    pipe: P,
    patience: Patience,
    slowness: Slowness,
}

impl<P> Patient<P> {
    pub(super) fn new(pipe: P, limit: Duration) -> Self {
        Self { pipe, patience: Patience::new(limit), slowness: Slowness::default() }
    }

    /// Told when the peer is given up.
    pub(super) fn slowness(&self) -> Slowness {
        self.slowness.clone()
    }

    pub(super) fn into_inner(self) -> P {
        self.pipe
    }

    fn judge<T>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let is_ready = outcome.is_ready();
        let judged = self.patience.judge(cx, outcome);
        if judged.is_ready() && !is_ready {
            self.slowness.note();
        }
        judged
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
        self.judge(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.pipe).poll_write_vectored(cx, slices);
        self.judge(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.pipe.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.pipe).poll_flush(cx);
        self.judge(cx, outcome)
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
        let before = tokio::time::Instant::now();
        let error = pipe.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(before.elapsed() >= LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_a_little_again_and_again_is_served() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut pipe = Patient::new(near, LIMIT);
        let reading = tokio::spawn(async move {
            let mut all = Vec::new();
            let mut buffer = [0; 16];
            while all.len() < 160 {
                tokio::time::advance(LIMIT / 2).await;
                let read = far.read(&mut buffer).await.unwrap();
                all.extend_from_slice(&buffer[..read]);
            }
        });
        pipe.write_all(&[0; 160]).await.unwrap();
        reading.await.unwrap();
    }
}
