//! One exchange that this side begins: telling or asking a gateway instance something over a link.

use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, StatusCode};

use crate::exchange::{
    AnswerHead, Assertions, DecodeError, EncodeError, HeadLimits, MessageId, RequestHead,
};
use crate::link::{End, Link, OpenFailed, RecvError, RecvStream};
use crate::mux::SendError;

/// Time for an instance to answer. It gives up after 10 s itself.
pub(super) const WITHIN: Duration = Duration::from_secs(12);

/// Why an instance could not be told.
#[derive(Debug, thiserror::Error)]
pub(super) enum Untold {
    #[error("no stream could be opened: {0}")]
    Open(#[from] OpenFailed),
    #[error("what is told could not be sent: {0}")]
    Send(#[from] SendError),
    #[error("no answer came: {0}")]
    Receive(#[from] RecvError),
    #[error("the request's head cannot be written: {0}")]
    Encode(#[from] EncodeError),
    #[error("the answer's head cannot be understood: {0}")]
    Decode(#[from] DecodeError),
    #[error("no answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
}

/// What an instance answers.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// Why, for people; at most 128 octets.
    pub(super) reason: String,
    /// The body, if there is one.
    pub(super) recv: RecvStream,
}

/// Sends a request, with `content` if there is some, and waits for the head of its answer.
pub(super) async fn tell(
    link: &Link,
    method: Method,
    target: &'static str,
    content: Option<Bytes>,
) -> Result<Answer, Untold> {
    let limits = HeadLimits::default();
    let head = RequestHead {
        method,
        target: PathAndQuery::from_static(target),
        headers: HeaderMap::new(),
        assertions: Assertions::new(MessageId::from_random(fastrand::u128(..))),
    };
    let end = if content.is_some() { End::More } else { End::NoPayload };
    let (mut send, mut recv) = link.open(head.encode(&limits)?, end).await?;
    let written = match content {
        None => Ok(()),
        Some(content) => match send.write_chunk(content).await {
            Ok(()) => send.finish(),
            Err(why) => Err(why),
        },
    };
    // An instance that wants no more of it says why.
    let head = match recv.head().await {
        Ok(answer) => AnswerHead::decode(answer.block, &limits)?,
        Err(why) => return Err(written.err().map_or(Untold::Receive(why), Untold::Send)),
    };
    let reason = String::from_utf8_lossy(&head.reason.unwrap_or_default()).into_owned();
    Ok(Answer { status: head.status, reason, recv })
}
