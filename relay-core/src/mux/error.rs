//! What can go wrong on a link and on a stream, with the code each has on the wire.

use super::frame::{Kind, StreamId};

/// Why a frame header cannot be accepted. The peer's fault; ends the link.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A kind this version does not know, without the flag that lets it be skipped.
    #[error("frame of unknown kind {kind}")]
    UnknownKind {
        /// The four kind bits.
        kind: u8,
    },
    /// A payload longer than this side announced it takes.
    #[error("frame payload of {payload_len} octets exceeds the limit of {limit}")]
    TooLong {
        /// Length in the header.
        payload_len: u32,
        /// Longest accepted.
        limit: u32,
    },
    /// A payload too short for its kind.
    #[error("{kind:?} frame with only {payload_len} octets of payload")]
    TooShort {
        /// The frame's kind.
        kind: Kind,
        /// Length in the header.
        payload_len: u32,
    },
    /// A flag that this kind does not have.
    #[error("{kind:?} frame with flags {flags:#06b}")]
    BadFlags {
        /// The frame's kind.
        kind: Kind,
        /// The four flag bits.
        flags: u8,
    },
    /// A stream frame for the link, or a link frame for a stream.
    #[error("{kind:?} frame for stream {stream}")]
    BadStreamId {
        /// The frame's kind.
        kind: Kind,
        /// The stream it named.
        stream: StreamId,
    },
    /// DATA with neither payload nor END says nothing.
    #[error("empty DATA without END on stream {stream}")]
    EmptyData {
        /// The stream it named.
        stream: StreamId,
    },
    /// A half that ends inside a frame, or before its head. Over QUIC only.
    #[error("stream {stream} ends inside a frame")]
    CutShort {
        /// The stream it names.
        stream: StreamId,
    },
}

/// Why a peer's preface or hello cannot be accepted. The peer's fault; ends the link.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HelloError {
    /// The first octets are not those of a link.
    #[error("the peer does not speak the link protocol (wrong first octets)")]
    BadMagic,
    /// No protocol version in common.
    #[error("no version in common: the peer speaks {min} to {max}")]
    Version {
        /// Lowest version of the peer.
        min: u8,
        /// Highest version of the peer.
        max: u8,
    },
    /// Both ends dialled, or both accepted.
    #[error("the peer claims the same side of the link (role octet {role})")]
    Role {
        /// The peer's role octet.
        role: u8,
    },
    /// The reserved octet is not zero.
    #[error("the reserved octet of the preface is {octet}, not 0")]
    Reserved {
        /// Its value.
        octet: u8,
    },
    /// The hello is longer than its limit.
    #[error("hello of {len} octets exceeds the limit of {limit}")]
    TooLong {
        /// Its length in the preface.
        len: u32,
        /// Longest accepted.
        limit: u32,
    },
    /// A field runs past the end of the hello.
    #[error("hello field {field:#06x} is cut short")]
    Truncated {
        /// The field's type.
        field: u16,
    },
    /// A field this side must understand and does not.
    #[error("hello field {field:#06x} is marked critical and is not known here")]
    UnknownCritical {
        /// The field's type.
        field: u16,
    },
    /// The same field twice.
    #[error("hello field {field:#06x} appears twice")]
    Duplicate {
        /// The field's type.
        field: u16,
    },
    /// A value outside its range, or of the wrong length.
    #[error("hello field {field:#06x} has a value outside its range")]
    BadValue {
        /// The field's type.
        field: u16,
    },
    /// A field that every hello must have is missing.
    #[error("hello lacks field {field:#06x}")]
    Missing {
        /// The field's type.
        field: u16,
    },
}

/// Why a link ended. Each has a code that GOAWAY carries to the peer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// A frame that cannot be accepted. The peer's fault.
    #[error("protocol error by the peer: {0}")]
    Frame(#[from] FrameError),
    /// A preface or hello that cannot be accepted. The peer's fault.
    #[error("link refused: {0}")]
    Hello(#[from] HelloError),
    /// No hello within its time. The peer's fault.
    #[error("the peer sent no hello in time")]
    HelloTimeout,
    /// More payload than was granted. The peer's fault.
    #[error("the peer sent more than stream {stream} was granted")]
    FlowControl {
        /// The stream it was sent on.
        stream: StreamId,
    },
    /// A grant that goes back. The peer's fault.
    #[error("the peer took back credit ({kind:?} on {stream})")]
    CreditDecreased {
        /// WINDOW or STREAMS.
        kind: Kind,
        /// The stream, or the link.
        stream: StreamId,
    },
    /// More streams than were granted. The peer's fault.
    #[error("the peer opened stream {stream} above the {granted} it was granted")]
    TooManyStreams {
        /// The stream it opened.
        stream: StreamId,
        /// How many it may open.
        granted: u64,
    },
    /// A frame that the stream's state does not allow. The peer's fault.
    #[error("{kind:?} frame not allowed now on stream {stream}")]
    StreamState {
        /// The frame's kind.
        kind: Kind,
        /// The stream it named.
        stream: StreamId,
    },
    /// A frame for a stream that was never opened, or an opening out of order. The peer's fault.
    #[error("{kind:?} frame for stream {stream}, which is not open")]
    NotOpen {
        /// The frame's kind.
        kind: Kind,
        /// The stream it named.
        stream: StreamId,
    },
    /// A budget against abuse is used up. The peer's fault.
    #[error("the peer exceeded the budget for {what}")]
    Abuse {
        /// What was done too often.
        what: &'static str,
    },
    /// Something on the control stream that has no business there. Over QUIC only. The peer's
    /// fault.
    #[error("protocol error by the peer on the control stream: {what}")]
    Control {
        /// What is wrong.
        what: &'static str,
    },
    /// The peer sent nothing, not even a PONG, for too long.
    #[error("the peer has been silent for too long")]
    Silent,
    /// The peer said why it ends the link.
    #[error("the peer closed the link: code {code:#x} {text:?}")]
    ClosedByPeer {
        /// The GOAWAY's code, see [`LinkError::code`].
        code: u32,
        /// The GOAWAY's text: at most 128 characters, control characters replaced.
        text: Box<str>,
    },
    /// The peer does not want this link, although it keeps to the protocol: its owner's limits or
    /// rules say no. What to do is in its words.
    #[error("the peer refused the link: {why}")]
    RefusedByPeer {
        /// The GOAWAY's text: at most 128 characters, control characters replaced.
        why: Box<str>,
    },
    /// This side does not want the link, and has told the peer why.
    #[error("the link was refused here: {why}")]
    RefusedHere {
        /// What the peer is told, cut to 128 octets there. No secrets.
        why: Box<str>,
    },
    /// The pipe ended or failed without a GOAWAY.
    #[error("the connection was lost: {cause}")]
    Lost {
        /// What the pipe said, e.g. a TLS alert or a reset.
        cause: Box<str>,
    },
    /// This side closed the link.
    #[error("the link was closed here")]
    ClosedHere,
}

impl LinkError {
    /// The code for a link that ended as intended.
    pub const CODE_DONE: u32 = 0;

    /// The code for a link that its receiver is told it may not have.
    pub(crate) const CODE_REFUSED: u32 = 0x0d;

    /// Why a link has ended that the peer ends with this code, which is not
    /// [`LinkError::CODE_DONE`], and this text. The text must be fit to be shown.
    pub(crate) fn ended_by_peer(code: u32, text: Box<str>) -> Self {
        match code {
            Self::CODE_REFUSED => Self::RefusedByPeer { why: text },
            _ => Self::ClosedByPeer { code, text },
        }
    }

    /// What the peer is told in words, before it is cut to what GOAWAY carries.
    pub(crate) fn goodbye(&self) -> String {
        match self {
            Self::RefusedHere { why } => why.to_string(),
            other => other.to_string(),
        }
    }

    /// The code that GOAWAY carries.
    pub fn code(&self) -> u32 {
        match self {
            Self::ClosedHere => Self::CODE_DONE,
            Self::Frame(_) => 0x01,
            Self::Hello(_) => 0x02,
            Self::HelloTimeout => 0x03,
            Self::FlowControl { .. } => 0x04,
            Self::CreditDecreased { .. } => 0x05,
            Self::TooManyStreams { .. } => 0x06,
            Self::StreamState { .. } => 0x07,
            Self::NotOpen { .. } => 0x08,
            Self::Abuse { .. } => 0x09,
            Self::Silent => 0x0a,
            Self::Lost { .. } => 0x0b,
            Self::Control { .. } => 0x0c,
            Self::RefusedHere { .. } | Self::RefusedByPeer { .. } => Self::CODE_REFUSED,
            Self::ClosedByPeer { code, .. } => *code,
        }
    }
}

/// The code of a RESET or STOP.
///
/// Codes below 0x100 are the mux's own; the rest belong to whoever uses the streams.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct StreamCode(pub u32);

impl StreamCode {
    /// The stream was not looked at: whatever it carries may be sent again.
    pub const REFUSED: Self = Self(0x01);
    /// The handle was dropped without finishing.
    pub const DROPPED: Self = Self(0x02);
    /// Its consumer took nothing for too long while payload waited.
    pub const STALLED: Self = Self(0x03);
    /// The acceptor has let go of a stream that its opener has reset. No owner sees it.
    pub const RELEASED: Self = Self(0x04);
}

impl std::fmt::Display for StreamCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Why a stream could not be opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The link has not been established, or has ended.
    #[error("the link is not up")]
    NotUp,
    /// Either side drains this link, or its stream numbers are used up; another link may take it.
    #[error("the link takes no new streams")]
    GoingAway,
    /// All streams that the peer and the local limits allow are in use.
    #[error("no stream is free")]
    NoStreamFree,
    /// The head is longer than the peer takes. The caller's mistake.
    #[error("a head of {len} octets exceeds the peer's limit of {limit}")]
    HeadTooLong {
        /// Octets in the head block.
        len: usize,
        /// What the peer announced.
        limit: u32,
    },
}

/// Why something could not be sent on a stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The peer wants no more; its answer may still come.
    #[error("the peer wants no more of this half ({0})")]
    Stopped(StreamCode),
    /// The stream was reset, by either side.
    #[error("the stream was reset ({0})")]
    Reset(StreamCode),
    /// This half was finished before. The caller's mistake.
    #[error("this half is finished")]
    Finished,
    /// A head is due first, or was sent already. The caller's mistake.
    #[error("head and payload in the wrong order")]
    OutOfOrder,
    /// More interim heads than a peer takes; the final head may still follow. The caller's mistake.
    #[error("too many interim heads")]
    TooManyInterimHeads,
    /// The head is longer than the peer takes. The caller's mistake.
    #[error("a head of {len} octets exceeds the peer's limit of {limit}")]
    HeadTooLong {
        /// Octets in the head block.
        len: usize,
        /// What the peer announced.
        limit: u32,
    },
    /// No such stream: it has ended and was released. The caller's mistake.
    #[error("there is no such stream")]
    NoSuchStream,
}
