//! From a stream to an HTTP body.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::exchange::{DecodeError, HeadLimits, Trailers};
use crate::link::{RecvError, RecvStream};
use crate::policy::{self, RequestHeaders};

/// Why a body is incomplete. HTTP must show the reader that it is: close short, or reset.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The stream was reset, or the link was lost.
    #[error(transparent)]
    Stream(#[from] RecvError),
    /// The stream ended before, or went beyond, the declared length. The sender's fault.
    #[error("the body has {octets} octets where {declared} were declared")]
    Length {
        /// Octets that came.
        octets: u64,
        /// Octets that were declared.
        declared: u64,
    },
    /// The body grew beyond its limit. The peer's fault: it should have held the limit too.
    #[error("the body exceeds its limit of {limit} octets")]
    TooLarge {
        /// Octets allowed.
        limit: u64,
    },
    /// Nothing came for this long.
    #[error("nothing came for {} s", .0.as_secs_f32())]
    Stalled(Duration),
    /// The other body of the exchange, the request's, came too slowly, and with it this one ends.
    /// Its sender's fault.
    #[error("the request's body came slower than {0} octets a second")]
    TooSlow(u32),
    /// What it is read from cannot be read. The fault of whoever keeps it.
    #[error("it cannot be read on: {0}")]
    Unreadable(std::io::Error),
    /// The trailers could not be decoded. The peer's fault.
    #[error("trailers: {0}")]
    Trailers(#[from] DecodeError),
}

/// The rest of a stream's receive half as an HTTP body.
#[derive(Debug)]
pub struct BodyReceiver {
    recv: RecvStream,
    declared: Option<u64>,
    octets: u64,
    octets_max: Option<u64>,
    trailers: RequestHeaders,
    limits: HeadLimits,
    ended: bool,
}

impl BodyReceiver {
    /// The body that `recv` goes on to carry, of `declared` octets if that is known.
    pub fn new(recv: RecvStream, declared: Option<u64>) -> Self {
        let limits = HeadLimits::default();
        let trailers = RequestHeaders::Open;
        Self { recv, declared, octets: 0, octets_max: None, trailers, limits, ended: false }
    }

    /// The same body of at most `octets_max` octets (`None`: no limit). It fails at the chunk that
    /// goes beyond.
    #[must_use]
    pub fn limited(self, octets_max: Option<u64>) -> Self {
        Self { octets_max, ..self }
    }

    /// The same body, of whose trailers only those pass that `listed` allows.
    #[must_use]
    pub fn listing(self, listed: RequestHeaders) -> Self {
        Self { trailers: listed, ..self }
    }

    /// Octets read so far.
    pub fn octets(&self) -> u64 {
        self.octets
    }

    fn wrong_length(&self) -> Option<ReceiveError> {
        if let Some(limit) = self.octets_max
            && self.octets > limit
        {
            return Some(ReceiveError::TooLarge { limit });
        }
        let declared = self.declared?;
        let wrong = if self.ended { self.octets != declared } else { self.octets > declared };
        wrong.then_some(ReceiveError::Length { octets: self.octets, declared })
    }
}

impl Body for BodyReceiver {
    type Data = Bytes;
    type Error = ReceiveError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReceiveError>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        match ready!(this.recv.poll_chunk(cx)) {
            Ok(Some(chunk)) => {
                this.octets = this.octets.saturating_add(chunk.len() as u64);
                if let Some(error) = this.wrong_length() {
                    this.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
            Ok(None) => {
                this.ended = true;
                if let Some(error) = this.wrong_length() {
                    return Poll::Ready(Some(Err(error)));
                }
                let Some(block) = this.recv.take_trailers() else { return Poll::Ready(None) };
                Poll::Ready(Some(match Trailers::decode(block, &this.limits) {
                    Ok(Trailers(mut trailers)) => {
                        policy::strip_trailers(&mut trailers);
                        this.trailers.strip(&mut trailers);
                        Ok(Frame::trailers(trailers))
                    }
                    Err(error) => Err(error.into()),
                }))
            }
            Err(error) => {
                this.ended = true;
                Poll::Ready(Some(Err(error.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        // A body cut short of its declared length has to be polled once more to say so.
        self.ended
            || (self.recv.is_finished() && self.declared.is_none_or(|all| all == self.octets))
    }

    fn size_hint(&self) -> SizeHint {
        match self.declared {
            Some(declared) => SizeHint::with_exact(declared.saturating_sub(self.octets)),
            None => SizeHint::default(),
        }
    }
}
