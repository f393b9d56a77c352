//! Why the TLS of a connection to a backend came to nothing, as far as the two ends do not agree on
//! who is there.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::StatusCode;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, CertificateError, SignatureScheme};

use super::backend::with_causes;

/// What is wrong with who is there.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum TlsFault {
    /// The backend's certificate is good, and that of somebody else.
    #[error("the backend's certificate does not carry its name: {0}")]
    WrongName(String),
    /// The backend's certificate is not trusted.
    #[error("the backend's certificate is not trusted: {0}")]
    Untrusted(String),
    /// The backend wants a client certificate, and was shown none or one that it refuses.
    #[error("the backend wants another client certificate, or one at all: {0}")]
    CertificateWanted(String),
}

impl TlsFault {
    /// Status and reason.
    pub(super) fn answer(&self) -> (StatusCode, &'static str) {
        match self {
            Self::WrongName(_) => (StatusCode::BAD_GATEWAY, "Backend_Wrong_Name"),
            Self::Untrusted(_) => (StatusCode::BAD_GATEWAY, "Backend_Untrusted"),
            // Source: the reason that the original is seen to give.
            Self::CertificateWanted(_) => (StatusCode::FORBIDDEN, "Clientcertificaterequired"),
        }
    }

    /// What the client may read.
    pub(super) fn told(&self) -> &'static str {
        match self {
            Self::WrongName(_) => "the backend's certificate does not carry its name",
            Self::Untrusted(_) => "the backend's certificate is not trusted",
            Self::CertificateWanted(_) => "the backend wants a client certificate of the relay's",
        }
    }

    /// One of each kind.
    #[cfg(test)]
    pub(super) fn each() -> [Self; 3] {
        [Self::WrongName, Self::Untrusted, Self::CertificateWanted].map(|kind| kind(String::new()))
    }
}

/// Shows what another one chooses, and notes whether the backend has asked and was shown nothing:
/// each backend for itself, since another one may not have asked.
#[derive(Debug)]
pub(super) struct Noting {
    chooses: Arc<dyn ResolvesClientCert>,
    in_vain: Arc<AtomicBool>,
}

impl Noting {
    pub(super) fn over(
        chooses: Arc<dyn ResolvesClientCert>,
        in_vain: &Arc<AtomicBool>,
    ) -> Arc<dyn ResolvesClientCert> {
        Arc::new(Self { chooses, in_vain: Arc::clone(in_vain) })
    }
}

impl ResolvesClientCert for Noting {
    fn resolve(
        &self,
        root_hint_subjects: &[&[u8]],
        sigschemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let chosen = self.chooses.resolve(root_hint_subjects, sigschemes);
        self.in_vain.store(chosen.is_none(), Ordering::Relaxed);
        chosen
    }

    fn only_raw_public_keys(&self) -> bool {
        self.chooses.only_raw_public_keys()
    }

    fn has_certs(&self) -> bool {
        self.chooses.has_certs()
    }
}

/// The fault that `error` comes from, if it is one. `asked_in_vain`: on the way to that connection
/// the backend asked for a certificate and was shown none.
pub(super) fn fault_in(error: &(dyn Error + 'static), asked_in_vain: bool) -> Option<TlsFault> {
    let text = || with_causes(error);
    let mut cause = Some(error);
    while let Some(this) = cause {
        match tls_error(this) {
            Some(rustls::Error::InvalidCertificate(why)) if is_about_name(why) => {
                return Some(TlsFault::WrongName(text()));
            }
            Some(rustls::Error::InvalidCertificate(_)) => {
                return Some(TlsFault::Untrusted(text()));
            }
            Some(rustls::Error::AlertReceived(alert)) if is_about_client(*alert) => {
                return Some(TlsFault::CertificateWanted(text()));
            }
            // TLS 1.2 has no alert of its own for it. Source: RFC 5246, section 7.4.6.
            Some(rustls::Error::AlertReceived(AlertDescription::HandshakeFailure))
                if asked_in_vain =>
            {
                return Some(TlsFault::CertificateWanted(text()));
            }
            _ if asked_in_vain && is_broken_off(this) => {
                return Some(TlsFault::CertificateWanted(text()));
            }
            _ => cause = this.source(),
        }
    }
    None
}

/// Whether a connection ended that had been there. Whoever ends one in TLS 1.3 because it was shown
/// no certificate may do so before its alert is read.
fn is_broken_off(error: &(dyn Error + 'static)) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        return error.is_incomplete_message();
    }
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    kind.is_some_and(|kind| {
        matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
    })
}

/// The error of TLS in `error`; those of I/O hide what they hold from their `source`.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut inner = error;
    while let Some(io) = inner.downcast_ref::<io::Error>() {
        inner = io.get_ref()?;
    }
    inner.downcast_ref()
}

fn is_about_name(why: &CertificateError) -> bool {
    matches!(
        why,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
    )
}

/// Whether an alert says that the certificate of the side that dials is at fault.
// Source: RFC 8446, section 6.2.
fn is_about_client(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::ClientCertificates;

    /// As the connector of HTTPS wraps it.
    fn wrapped(error: rustls::Error) -> io::Error {
        io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error))
    }

    #[test]
    fn faults_are_told_apart_however_deep_they_are_wrapped() {
        use rustls::Error::{AlertReceived, InvalidCertificate};
        let kind = |error| fault_in(&wrapped(error), false).map(|it| it.answer().1);
        for (error, expected) in [
            (InvalidCertificate(CertificateError::NotValidForName), Some("Backend_Wrong_Name")),
            (InvalidCertificate(CertificateError::UnknownIssuer), Some("Backend_Untrusted")),
            (InvalidCertificate(CertificateError::Expired), Some("Backend_Untrusted")),
            (
                AlertReceived(AlertDescription::CertificateRequired),
                Some("Clientcertificaterequired"),
            ),
            (AlertReceived(AlertDescription::UnknownCA), Some("Clientcertificaterequired")),
            (AlertReceived(AlertDescription::ProtocolVersion), None),
            (rustls::Error::DecryptError, None),
        ] {
            assert_eq!(kind(error.clone()), expected, "{error:?}");
        }
    }

    #[test]
    fn a_connection_that_breaks_after_it_was_asked_in_vain_wants_a_certificate() {
        let broken = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(fault_in(&broken, false), None);
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(fault_in(&refused, true), None);
        let fault = fault_in(&broken, true);
        assert!(matches!(fault, Some(TlsFault::CertificateWanted(_))), "{fault:?}");
    }

    #[test]
    fn each_backend_that_asks_and_is_shown_nothing_is_noted_for_itself() {
        let certificates: Arc<dyn ResolvesClientCert> = Arc::new(ClientCertificates::new("mp"));
        let notes = [Arc::<AtomicBool>::default(), Arc::default()];
        let [one, _other] = notes.each_ref().map(|to| Noting::over(Arc::clone(&certificates), to));
        assert!(one.resolve(&[], &[]).is_none());
        assert_eq!(notes.map(|note| note.load(Ordering::Relaxed)), [true, false]);
    }
}
