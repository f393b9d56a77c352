//! What the engine tells its owner.

use std::time::Duration;

use bytes::Bytes;

use super::error::StreamCode;
use super::frame::StreamId;
use super::hello::Hello;

/// Something that happened on the link, in order.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The peer's hello arrived: streams can be opened.
    Established(Box<Hello>),
    /// The peer opened a stream. Its owner must end in [`Mux::release`](super::Mux::release).
    Opened {
        /// The stream.
        id: StreamId,
        /// Its head block.
        head: Bytes,
        /// Whether the peer's half has ended already.
        end: bool,
    },
    /// A head arrived on a stream that this side opened.
    Head {
        /// The stream.
        id: StreamId,
        /// The head block.
        block: Bytes,
        /// Whether it is an interim head; another follows.
        interim: bool,
        /// Whether the peer's half has ended.
        end: bool,
    },
    /// Payload arrived. Its credit returns with [`Mux::take`](super::Mux::take).
    Data {
        /// The stream.
        id: StreamId,
        /// The octets; empty only with `end`.
        payload: Bytes,
        /// Whether the peer's half has ended.
        end: bool,
    },
    /// Trailers arrived, and the peer's half has ended.
    Trailers {
        /// The stream.
        id: StreamId,
        /// The field block.
        block: Bytes,
    },
    /// The stream was reset. With [`StreamCode::REFUSED`] the peer never looked at it; the engine
    /// says so too of openings that had not left when the link ended. With
    /// [`StreamCode::STALLED`] it may be this side's consumer that took nothing for too long; any
    /// other code is the peer's.
    Reset {
        /// The stream.
        id: StreamId,
        /// Why.
        code: StreamCode,
    },
    /// The peer wants no more of this side's half.
    Stopped {
        /// The stream.
        id: StreamId,
        /// Why.
        code: StreamCode,
    },
    /// Payload has waited for its consumer for a while. An owner that passes on what was taken in
    /// steps does so now: after [`Config::consumer_timeout`](super::Config::consumer_timeout)
    /// without a [`Mux::take`](super::Mux::take) the stream is reset.
    Unread {
        /// The stream.
        id: StreamId,
    },
    /// A stream whose owner waited for room has some again.
    Writable {
        /// The stream.
        id: StreamId,
    },
    /// The peer has let go of a stream that this side opened and let go of before, and nothing of
    /// it is left: [`Mux::release`](super::Mux::release) said that this would follow.
    Forgotten {
        /// The stream.
        id: StreamId,
    },
    /// More streams can be opened than before, see
    /// [`Mux::openable_total`](super::Mux::openable_total).
    Openable,
    /// The peer takes no new streams, or this side has used up its stream numbers and drains the
    /// link.
    GoingAway {
        /// See [`LinkError::code`](super::LinkError::code).
        code: u32,
    },
    /// A round trip was measured.
    RoundTrip(Duration),
    /// After [`Mux::drain`](super::Mux::drain), or once the stream numbers were used up: every
    /// stream has ended.
    Drained,
}
