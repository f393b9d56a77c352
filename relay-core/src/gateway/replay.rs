//! A request's body that can be sent once more from its beginning.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// Octets of a body that are kept until its request is answered. Our choice: most messages of
/// clients are below it, and what is kept is shared with what is sent, not copied.
pub(super) const KEPT_MAX: usize = 64 << 10;

/// A body of which what was taken is kept, as long as that is little.
#[derive(Debug)]
pub(super) struct Replay<B> {
    body: B,
    /// What is to be yielded again before `body` goes on.
    again: VecDeque<Bytes>,
    /// What was taken so far; `None` once that was too much, or not only octets.
    kept: Option<VecDeque<Bytes>>,
    kept_octets: usize,
}

impl<B> Replay<B> {
    pub(super) fn new(body: B) -> Self {
        let (again, kept) = (VecDeque::new(), Some(VecDeque::new()));
        Self { body, again, kept, kept_octets: 0 }
    }

    /// The body from its beginning, unless too much of it was taken.
    pub(super) fn rewind(self) -> Option<Self> {
        let mut again = self.kept?;
        again.extend(self.again);
        Some(Self { body: self.body, again, kept: Some(VecDeque::new()), kept_octets: 0 })
    }

    /// Keeps nothing any more.
    pub(super) fn release(&mut self) {
        self.kept = None;
    }

    fn keep(&mut self, chunk: &Bytes) {
        self.kept_octets = self.kept_octets.saturating_add(chunk.len());
        match &mut self.kept {
            Some(kept) if self.kept_octets <= KEPT_MAX => kept.push_back(chunk.clone()),
            _ => self.kept = None,
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Replay<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let frame = match this.again.pop_front() {
            Some(chunk) => Some(Ok(Frame::data(chunk))),
            None => ready!(Pin::new(&mut this.body).poll_frame(cx)),
        };
        match &frame {
            Some(Ok(frame)) => match frame.data_ref() {
                Some(chunk) => this.keep(chunk),
                // Trailers would be lost.
                None => this.kept = None,
            },
            Some(Err(_)) => this.kept = None,
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.again.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let again = self.again.iter().map(Bytes::len).sum::<usize>() as u64;
        let rest = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(again));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(again));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full};

    use super::*;

    fn body(octets: usize) -> Replay<Full<Bytes>> {
        Replay::new(Full::new(Bytes::from(vec![7; octets])))
    }

    #[tokio::test]
    async fn what_was_taken_comes_again_up_to_the_limit_and_no_more() {
        for (octets, comes_again) in [(1, true), (KEPT_MAX, true), (KEPT_MAX + 1, false)] {
            let mut replay = body(octets);
            assert_eq!(replay.frame().await.unwrap().unwrap().into_data().unwrap().len(), octets);
            let Some(again) = replay.rewind() else {
                assert!(!comes_again, "{octets}");
                continue;
            };
            assert!(comes_again, "{octets}");
            assert_eq!(again.size_hint().exact(), Some(octets as u64));
            let again = again.collect().await.unwrap().to_bytes();
            assert_eq!(again, vec![7; octets]);
        }
    }

    #[tokio::test]
    async fn a_body_may_come_again_and_again_and_from_the_middle() {
        let mut replay = body(10).rewind().unwrap();
        replay.frame().await.unwrap().unwrap();
        let mut replay = replay.rewind().unwrap().rewind().unwrap();
        assert!(!replay.is_end_stream());
        replay.frame().await.unwrap().unwrap();
        assert!(replay.is_end_stream());
        replay.release();
        assert!(replay.rewind().is_none());
    }
}
