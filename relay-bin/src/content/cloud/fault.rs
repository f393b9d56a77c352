//! Why a store was not reached, or takes nothing.

use std::error::Error;
use std::io;
use std::time::Duration;

use http::StatusCode;
use object_store::client::{HttpError, HttpErrorKind};
use rustls::CertificateError;

/// Characters of a stranger's words that are told.
const WORDS_MAX: usize = 200;

/// What came in place of a store's answer. Whoever configures `[content]` is told what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum WireFault {
    /// Nobody takes a connection there, or its name leads nowhere.
    #[error(
        "nobody takes a connection at the store: check `endpoint` of [content], its name, and \
         firewalls ({0})"
    )]
    Unreachable(String),
    /// The certificate shown is of no authority that is trusted.
    #[error(
        "the certificate that the store shows is of no authority that is trusted: have `trust` of \
         [content] name the one that has signed it; else somebody else answers there"
    )]
    Untrusted,
    /// The certificate shown is another's.
    #[error(
        "the certificate that the store shows is of another name: have `endpoint` of [content] \
         name the store as its certificate does; else somebody else answers there"
    )]
    WrongName,
    /// The certificate shown is over, or not valid yet.
    #[error(
        "the certificate that the store shows is not valid now: check this machine's clock; then \
         have the store's certificate renewed"
    )]
    NotNow,
    /// What answers speaks no TLS that can be understood.
    #[error(
        "no TLS with the store: check scheme and port of `endpoint` in [content], and what stands \
         in between ({0})"
    )]
    Handshake(String),
    /// Not all of an answer came in time.
    #[error(
        "no answer within {} s: check the store, and the line to it", .0.as_secs()
    )]
    Silent(Duration),
    /// The store says that it has no room, or none for something that large.
    #[error(
        "the store takes no more, or nothing that large ({0}): make room there, or have its owner \
         raise what it may hold"
    )]
    NoRoom(StatusCode),
    /// The connection ended, or what came cannot be understood.
    #[error("the connection to the store broke: {0}")]
    Broken(String),
}

impl WireFault {
    /// Why a request has no answer.
    pub(super) fn of(error: &hyper_util::client::legacy::Error) -> Self {
        match tls_fault(error) {
            Some(rustls::Error::InvalidCertificate(fault)) => match fault {
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => Self::WrongName,
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Self::NotNow,
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::Untrusted,
                _ => Self::Handshake(words(error)),
            },
            Some(_) => Self::Handshake(words(error)),
            None if error.is_connect() => Self::Unreachable(words(error)),
            None => Self::Broken(words(error)),
        }
    }

    /// Why an answer is not whole.
    pub(super) fn broken(error: &(dyn Error + 'static)) -> Self {
        Self::Broken(words(error))
    }

    /// What a store's error has come from, if that is one of these.
    pub(super) fn behind(error: &object_store::Error) -> Option<&Self> {
        let mut next: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(at) = next {
            if let Some(found) = at.downcast_ref() {
                return Some(found);
            }
            next = at.source();
        }
        None
    }

    /// Whether the same may be answered a moment later, and how sure it is that nothing was done.
    fn kind(&self) -> HttpErrorKind {
        match self {
            Self::Unreachable(_) => HttpErrorKind::Connect,
            Self::Broken(_) => HttpErrorKind::Interrupted,
            Self::Silent(_) => HttpErrorKind::Timeout,
            Self::Untrusted
            | Self::WrongName
            | Self::NotNow
            | Self::Handshake(_)
            | Self::NoRoom(_) => HttpErrorKind::Unknown,
        }
    }
}

impl From<WireFault> for HttpError {
    fn from(fault: WireFault) -> Self {
        Self::new(fault.kind(), fault)
    }
}

/// What TLS says, wherever it stands in an error. `io::Error` shows what it holds in its own way.
fn tls_fault<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(at) = next {
        if let Some(found) = at.downcast_ref() {
            return Some(found);
        }
        let held = at.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match held {
            Some(held) => Some(held),
            None => at.source(),
        };
    }
    None
}

/// An error with all that it has come from, in one line.
fn words(error: &(dyn Error + 'static)) -> String {
    let (mut text, mut next) = (error.to_string(), error.source());
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    visible(&text, WORDS_MAX)
}

/// So many characters of a text, as a terminal can show them.
pub(super) fn visible(text: &str, most: usize) -> String {
    let visible = |it: char| if it.is_control() { ' ' } else { it };
    text.chars().take(most).map(visible).collect()
}
