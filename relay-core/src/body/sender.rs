//! From an HTTP body into a stream.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;

use crate::exchange::{AbortCode, HeadLimits, Trailers};
use crate::link::SendStream;
use crate::mux::{SendError, StreamCode};
use crate::policy::{self, RequestHeaders};

/// Any error of an HTTP body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a body did not go through. The stream has been reset, unless the peer stopped it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendBodyError {
    /// The body's source failed: the client, or the backend, broke off.
    #[error("the body's source failed: {0}")]
    Source(BoxError),
    /// The body grew beyond its limit. Its source's fault.
    #[error("the body exceeds its limit of {limit} octets")]
    TooLarge {
        /// Octets allowed.
        limit: u64,
    },
    /// The stream takes no more: the peer stopped or reset it, or the link was lost.
    #[error(transparent)]
    Stream(#[from] SendError),
}

/// Moves a body into a stream, and ends the stream's half when the body ends.
///
/// Dropping it unfinished resets the stream.
#[derive(Debug)]
pub struct BodySender<B> {
    body: B,
    send: SendStream,
    /// A chunk that waits for room.
    chunk: Option<Bytes>,
    octets: u64,
    steps: u64,
    octets_max: Option<u64>,
    trailers: RequestHeaders,
    limits: HeadLimits,
    source_failure: AbortCode,
    done: bool,
}

impl<B> BodySender<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    /// Prepares to move `body` into `send`, of at most `octets_max` octets (`None`: no limit).
    pub fn new(body: B, send: SendStream, octets_max: Option<u64>) -> Self {
        let limits = HeadLimits::default();
        Self {
            body,
            send,
            chunk: None,
            octets: 0,
            steps: 0,
            octets_max,
            trailers: RequestHeaders::Open,
            limits,
            source_failure: AbortCode::Cancelled,
            done: false,
        }
    }

    /// Has only those trailers pass that `listed` allows. Default: all that a trailer may carry.
    #[must_use]
    pub fn listing(self, listed: RequestHeaders) -> Self {
        Self { trailers: listed, ..self }
    }

    /// Changes the code with which the stream is reset when the body's source fails. Default
    /// [`AbortCode::Cancelled`], for a client that went away.
    #[must_use]
    pub fn on_source_failure(mut self, code: AbortCode) -> Self {
        self.source_failure = code;
        self
    }

    /// The body, of which some may have been taken. Unless it is through, the stream's half is
    /// reset.
    pub(crate) fn into_body(self) -> B {
        self.body
    }

    /// The body.
    pub(crate) fn body_mut(&mut self) -> &mut B {
        &mut self.body
    }

    /// Octets moved so far.
    pub fn octets(&self) -> u64 {
        self.octets
    }

    /// A number that changes whenever something has moved, from the source or into the stream.
    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    /// Whether the source is what is waited for, and not the stream. Makes sense while
    /// [`BodySender::poll_send`] is pending.
    pub(crate) fn waits_for_source(&self) -> bool {
        !self.done && self.chunk.is_none()
    }

    /// Moves the whole body.
    ///
    /// # Errors
    ///
    /// [`SendBodyError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: call it again to go on.
    pub async fn send_all(&mut self) -> Result<(), SendBodyError> {
        poll_fn(|cx| self.poll_send(cx)).await
    }

    /// As [`BodySender::send_all`], and ends as soon as the peer wants no more, even while the
    /// source has nothing to send.
    ///
    /// # Errors
    ///
    /// [`SendBodyError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: call it again to go on.
    pub async fn send_all_or_stopped(&mut self) -> Result<(), SendBodyError> {
        poll_fn(|cx| {
            if let Poll::Ready(done) = self.poll_send(cx) {
                return Poll::Ready(done);
            }
            self.send.poll_stopped(cx).map(|error| Err(error.into()))
        })
        .await
    }

    /// Moves what can be moved now; ready when the whole body is through.
    ///
    /// # Errors
    ///
    /// [`SendBodyError`]. Must not be polled again after one.
    pub fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendBodyError>> {
        while !self.done {
            if self.chunk.is_some() {
                ready!(self.send.poll_room(cx))?;
                if let Some(chunk) = self.chunk.take() {
                    self.send.write_now(chunk)?;
                    self.steps += 1;
                }
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.accept(data)?,
                    Err(other) => {
                        if let Ok(trailers) = other.into_trailers() {
                            self.finish_with(trailers)?;
                        }
                    }
                },
                Some(Err(error)) => {
                    self.send.reset(StreamCode(self.source_failure.to_wire()));
                    return Poll::Ready(Err(SendBodyError::Source(error.into())));
                }
                None => {
                    self.done = true;
                    self.send.finish()?;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn accept(&mut self, data: Bytes) -> Result<(), SendBodyError> {
        self.octets = self.octets.saturating_add(data.len() as u64);
        if let Some(limit) = self.octets_max
            && self.octets > limit
        {
            self.send.reset(StreamCode(AbortCode::BodyTooLarge.to_wire()));
            return Err(SendBodyError::TooLarge { limit });
        }
        self.chunk = Some(data);
        self.steps += 1;
        Ok(())
    }

    fn finish_with(&mut self, mut trailers: HeaderMap) -> Result<(), SendBodyError> {
        policy::strip_trailers(&mut trailers);
        self.trailers.strip(&mut trailers);
        self.done = true;
        match Trailers(trailers).encode(&self.limits) {
            Ok(block) => self.send.finish_with_trailers(block)?,
            Err(error) => {
                self.send.reset(StreamCode(AbortCode::BadHead.to_wire()));
                return Err(SendBodyError::Source(error.into()));
            }
        }
        Ok(())
    }

    /// Aborts both halves of the stream.
    pub fn reset(&mut self, code: AbortCode) {
        self.done = true;
        self.send.reset(StreamCode(code.to_wire()));
    }
}
