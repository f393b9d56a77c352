//! What the policy says no to, and what the client is told.

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};

use super::UnsafePath;

/// Why a request is not relayed. The fault is always the client's; nothing reached the site.
///
/// The client is told [`status`](Self::status) and [`reason`](Self::reason); `Display` is for the
/// log.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No endpoint publishes this path. The administrator may add it to an endpoint's paths, unless
    /// it is one of the alternate-authentication paths, which are never published.
    #[error("no endpoint publishes this path")]
    NotPublished,
    /// The path is published, for other verbs.
    #[error("the endpoint's verbs are {}", allowed.join(", "))]
    VerbNotAllowed {
        /// The endpoint's verbs, exact and case-sensitive.
        allowed: &'static [&'static str],
    },
    /// A parser behind the relay could read the path in another way than the relay does.
    #[error("the path is not safe to relay: {0}")]
    UnsafePath(#[from] UnsafePath),
    /// The declared body is larger than the endpoint takes.
    #[error("the body is larger than the endpoint's limit of {limit} octets")]
    BodyTooLarge {
        /// The endpoint's limit in octets.
        limit: u64,
    },
    /// A header that decides how the message is read contradicts itself.
    #[error("header `{name}`: {fault}")]
    BadHeader {
        /// The header at fault.
        name: HeaderName,
        /// What is wrong with it.
        fault: HeaderFault,
    },
}

/// What is wrong with a header that [`Refusal::BadHeader`] names.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderFault {
    /// `Connection` is not a list of header names.
    #[error("is not a list of header names")]
    NotAList,
    /// `Connection` asks to remove a header that must reach the site.
    #[error("asks to remove `{0}`, which must reach the site")]
    RemovesEndToEnd(HeaderName),
    /// `Content-Length` is not one number of 1 to 19 digits.
    #[error("is not one number of 1 to 19 digits")]
    NotALength,
}

impl Refusal {
    /// Returns the status the client is answered with.
    ///
    /// An unsafe path is 400 and not 404: the request is wrong whatever is published, and the two
    /// must not look alike to an administrator.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotPublished => StatusCode::NOT_FOUND,
            Self::VerbNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::UnsafePath(_) | Self::BadHeader { .. } => StatusCode::BAD_REQUEST,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        }
    }

    /// Returns the reason without the hop's prefix.
    ///
    /// The gateway puts `CMGService_` before it, the connection point `CMGConnector_`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotPublished => "Not_Published",
            Self::VerbNotAllowed { .. } => "Method_Not_Allowed",
            Self::UnsafePath(_) => "Unsafe_Path",
            Self::BodyTooLarge { .. } => "Body_Too_Large",
            Self::BadHeader { .. } => "Bad_Header",
        }
    }

    /// Adds the headers that the answer to this refusal must carry: `Allow` with a 405.
    // RFC 9110, section 15.5.6: a 405 must have an Allow header.
    pub fn add_answer_headers(&self, headers: &mut HeaderMap) {
        if let Self::VerbNotAllowed { allowed } = self
            && let Ok(value) = HeaderValue::try_from(allowed.join(", "))
        {
            headers.insert(http::header::ALLOW, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_status_and_reason() {
        let table = [
            (Refusal::NotPublished, 404, "Not_Published"),
            (Refusal::VerbNotAllowed { allowed: &["GET"] }, 405, "Method_Not_Allowed"),
            (Refusal::UnsafePath(UnsafePath::EmptySegment), 400, "Unsafe_Path"),
            (Refusal::BodyTooLarge { limit: 1 }, 413, "Body_Too_Large"),
            (
                Refusal::BadHeader {
                    name: http::header::CONNECTION,
                    fault: HeaderFault::RemovesEndToEnd(http::header::HOST),
                },
                400,
                "Bad_Header",
            ),
        ];
        for (refusal, status, reason) in table {
            assert_eq!(refusal.status(), status, "{refusal}");
            assert_eq!(refusal.reason(), reason, "{refusal}");
        }
    }

    #[test]
    fn only_a_wrong_verb_carries_allow() {
        let mut headers = HeaderMap::new();
        Refusal::NotPublished.add_answer_headers(&mut headers);
        assert!(headers.is_empty());

        Refusal::VerbNotAllowed { allowed: &["HEAD", "GET"] }.add_answer_headers(&mut headers);
        assert_eq!(headers.get("allow").unwrap(), "HEAD, GET");
    }
}
