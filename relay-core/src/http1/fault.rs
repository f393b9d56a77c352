//! What is wrong with a message, and what its sender is told.

use http::StatusCode;

/// Why a message is refused: somebody on the way could read it otherwise, or it is too large.
///
/// The text says what to change. It never repeats what the message said.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A line ends with LF alone.
    #[error("a line ends with LF alone; lines end with CR LF (RFC 9112, section 2.2)")]
    BareLf,
    /// CR stands where no line ends.
    #[error("CR stands in a line; it may only come before LF (RFC 9112, section 2.2)")]
    BareCr,
    /// A control character stands in a line.
    #[error("the control character {0:#04x} stands in a line (RFC 9110, section 5.5)")]
    Control(u8),
    /// The first line is not a method, a target and a version with one space between them.
    #[error("the request line is not `METHOD target HTTP/1.1` (RFC 9112, section 3)")]
    RequestLine,
    /// The first line of an answer is not a version and a status.
    #[error("the status line is not `HTTP/1.1 200 reason` (RFC 9112, section 4)")]
    StatusLine,
    /// Neither HTTP/1.1 nor HTTP/1.0. None at all, as in HTTP/0.9, is no request line.
    #[error("the version is neither HTTP/1.1 nor HTTP/1.0 (RFC 9112, section 2.3)")]
    Version,
    /// CONNECT, which asks for a tunnel.
    #[error("CONNECT asks for a tunnel, and none is given here (RFC 9110, section 9.3.6)")]
    Connect,
    /// The target has an octet that no target has, or a fragment.
    #[error("the request target has an octet that must be escaped (RFC 9112, section 3.2)")]
    Target,
    /// A line begins with a space or tab: the old way to continue the line before it.
    #[error("a line begins with a space, as if it went on with the one before it")]
    Folded,
    /// A line of the head has no colon, or its name is not a name.
    #[error(
        "a field's name is not a name, or has a space before its colon (RFC 9112, section 5.1)"
    )]
    FieldName,
    /// No `Host`.
    #[error("there is no Host (RFC 9112, section 3.2)")]
    NoHost,
    /// More than one `Host`, or one that is not a host.
    #[error("Host is repeated, or is not a host and a port (RFC 9112, section 3.2)")]
    Host,
    /// The target names one host, and `Host` another.
    #[error("the request target names another host than Host (RFC 9112, section 3.2.2)")]
    OtherHost,
    /// `Content-Length` is repeated or is not a number of 1 to 19 digits.
    #[error("Content-Length is repeated, or is not 1 to 19 digits (RFC 9112, section 6.3)")]
    Length,
    /// A transfer coding other than `chunked` alone.
    #[error("Transfer-Encoding is not `chunked` alone, once (RFC 9112, section 6.1)")]
    Coding,
    /// Two statements of where the body ends.
    #[error("Content-Length and Transfer-Encoding are both there (RFC 9112, section 6.3)")]
    LengthAndCoding,
    /// A transfer coding where the version has none.
    #[error("HTTP/1.0 has no Transfer-Encoding (RFC 9112, section 6.1)")]
    CodingInHttp10,
    /// Something other than `100-continue` is expected, or it is said twice, which some servers
    /// refuse and others do not.
    #[error("Expect is repeated, or is not `100-continue` (RFC 9110, section 10.1.1)")]
    Expectation,
    /// The first line is too long.
    #[error("the first line is longer than {0} octets")]
    FirstLineTooLong(usize),
    /// A field is too long.
    #[error("a field is longer than {0} octets")]
    FieldTooLong(usize),
    /// There are too many fields.
    #[error("there are more than {0} fields")]
    TooManyFields(usize),
    /// The head is too long.
    #[error("the head is longer than {0} octets")]
    HeadTooLong(usize),
    /// The size of a chunk is not 1 to 16 hexadecimal digits.
    #[error("a chunk's size is not 1 to 16 hexadecimal digits (RFC 9112, section 7.1)")]
    ChunkSize,
    /// An extension of a chunk is none.
    #[error("a chunk's extension is not `name`, or `name=value` (RFC 9112, section 7.1.1)")]
    Extension,
    /// The extensions of chunks are too long.
    #[error("the extensions of chunks are longer than {0} octets (RFC 9112, section 7.1.1)")]
    ExtensionsTooLong(usize),
    /// A chunk does not end where its size says.
    #[error("a chunk does not end where its size says (RFC 9112, section 7.1)")]
    ChunkEnd,
    /// The other side switches to a protocol that nobody asked for.
    #[error("101 switches to a protocol that was not asked for (RFC 9110, section 15.2.2)")]
    Switch,
    /// More interim answers than anybody needs.
    #[error("there are more than {0} interim answers to one request (RFC 9110, section 15.2)")]
    TooManyInterim(usize),
}

impl Fault {
    /// The status by which a request with this fault is answered.
    pub fn status(self) -> StatusCode {
        match self {
            Self::FirstLineTooLong(_) => StatusCode::URI_TOO_LONG,
            Self::FieldTooLong(_) | Self::TooManyFields(_) | Self::HeadTooLong(_) => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The fault in one word, as it stands in an answer's reason.
    pub fn reason(self) -> &'static str {
        match self {
            Self::BareLf | Self::BareCr => "Bad_Line_End",
            Self::Control(_) => "Control_Character",
            Self::RequestLine => "Bad_Request_Line",
            Self::StatusLine => "Bad_Status_Line",
            Self::Version => "Version_Not_Supported",
            Self::Connect => "Connect_Not_Allowed",
            Self::Target => "Bad_Target",
            Self::Folded => "Folded_Field",
            Self::FieldName => "Bad_Field_Name",
            Self::NoHost => "No_Host",
            Self::Host | Self::OtherHost => "Bad_Host",
            Self::Length => "Bad_Content_Length",
            Self::Coding | Self::CodingInHttp10 => "Bad_Transfer_Encoding",
            Self::LengthAndCoding => "Ambiguous_Body_Length",
            Self::Expectation => "Expectation_Failed",
            Self::FirstLineTooLong(_) => "Target_Too_Long",
            Self::FieldTooLong(_) => "Field_Too_Large",
            Self::TooManyFields(_) => "Too_Many_Fields",
            Self::HeadTooLong(_) => "Head_Too_Large",
            Self::ChunkSize | Self::ChunkEnd | Self::Extension => "Bad_Chunk",
            Self::ExtensionsTooLong(_) => "Chunk_Extensions_Too_Long",
            Self::Switch => "Unexpected_Switch",
            Self::TooManyInterim(_) => "Too_Many_Interim_Answers",
        }
    }
}
