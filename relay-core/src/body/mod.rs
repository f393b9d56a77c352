//! HTTP bodies over the streams of a link, in both directions.
//!
//! Each role sends one body into a stream and reads another out of it, and the roles may not import
//! each other; what they share is here. This room does not judge a request, choose a link or map a
//! failure to an answer. Read [`BodySender`] and [`BodyReceiver`].
//!
//! A body is never collected: each chunk waits until the next hop has room for it, so a slow client
//! slows the backend and nothing between them grows. A cut body never looks complete: its stream is
//! reset, and a declared length is held against what came.

mod receiver;
mod sender;

pub use receiver::{BodyReceiver, ReceiveError};
pub use sender::{BodySender, BoxError, SendBodyError};
