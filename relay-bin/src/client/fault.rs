//! Why no answer came, or not all of one.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustls::CertificateError;

use super::report::Hop;

/// What ended an exchange before its answer was whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Fault {
    /// The URL's host leads nowhere.
    #[error("the name {host} has no address: {source}")]
    Name {
        /// As in the URL.
        host: String,
        source: io::Error,
    },
    /// Nobody takes a connection.
    #[error("nobody takes a connection at {address}: {source}")]
    Unreachable { address: SocketAddr, source: io::Error },
    /// The certificate shown is of no authority that is trusted.
    #[error("the certificate that {address} shows is of no authority that is trusted here")]
    Untrusted { address: SocketAddr },
    /// The certificate shown is another's.
    #[error("the certificate that {address} shows is not one of {host}")]
    WrongName { address: SocketAddr, host: String },
    /// The certificate shown is over, or not valid yet.
    #[error("the certificate that {address} shows is not valid now: {source}")]
    NotNow { address: SocketAddr, source: rustls::Error },
    /// Whoever answers has ended the handshake.
    #[error("{address} refused the TLS handshake: {source}")]
    Alert { address: SocketAddr, source: rustls::Error },
    /// What answers speaks no TLS that can be understood.
    #[error("no TLS handshake with {address}: {source}")]
    Handshake { address: SocketAddr, source: io::Error },
    /// The connection ended or cannot be understood.
    #[error("the connection to {address} broke: {source}")]
    Broken { address: SocketAddr, source: hyper::Error },
    /// Nothing came, nor went, for too long.
    #[error("nothing came from {address} for {} s while {during}", .waited.as_secs())]
    Silent { address: SocketAddr, during: &'static str, waited: Duration },
    /// A file of this machine failed.
    #[error("{what}: {source}")]
    File { what: &'static str, source: io::Error },
    /// The request cannot be put into words.
    #[error("the request cannot be written: {0}")]
    Request(#[from] http::Error),
    /// Somebody has pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// What was asked for and what came do not go together.
    #[error("{0}")]
    Nonsense(String),
}

impl Fault {
    /// Why the handshake failed.
    pub(super) fn of_handshake(address: SocketAddr, host: &str, error: io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let Some(source) = inner.cloned() else {
            return Self::Handshake { address, source: error };
        };
        match &source {
            rustls::Error::InvalidCertificate(fault) => match fault {
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => {
                    Self::WrongName { address, host: host.to_owned() }
                }
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Self::NotNow { address, source },
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    Self::Untrusted { address }
                }
                _ => Self::Handshake { address, source: error },
            },
            rustls::Error::AlertReceived(_) => Self::Alert { address, source },
            _ => Self::Handshake { address, source: error },
        }
    }

    /// Where it happened.
    pub(crate) fn hop(&self) -> Hop {
        match self {
            Self::File { .. } | Self::Request(_) | Self::Interrupted => Hop::Here,
            Self::Name { .. } | Self::Unreachable { .. } | Self::Silent { .. } => Hop::Network,
            Self::Untrusted { .. }
            | Self::WrongName { .. }
            | Self::NotNow { .. }
            | Self::Alert { .. }
            | Self::Handshake { .. }
            | Self::Broken { .. }
            | Self::Nonsense(_) => Hop::Unknown,
        }
    }

    /// What to do about it.
    pub(crate) fn next(&self) -> &'static str {
        match self {
            Self::Name { .. } => {
                "check the URL and DNS, or say where it is: --resolve HOST:ADDRESS"
            }
            Self::Unreachable { .. } => {
                "check address and port, firewalls, and that the gateway runs: `relay status` there"
            }
            Self::Untrusted { .. } => {
                "give --ca the authority that has signed the gateway's certificate; else somebody \
                 else answers there: an inspecting proxy, or the wrong address"
            }
            Self::WrongName { .. } => {
                "use the service's name in the URL, with --resolve HOST:ADDRESS if need be; else \
                 somebody else answers there"
            }
            Self::NotNow { .. } => {
                "check this machine's clock; then have the gateway's certificate renewed"
            }
            Self::Alert { .. } => {
                "the gateway's log says why; check the client certificate, if one is shown"
            }
            Self::Handshake { .. } => {
                "check the port: it may be none of TLS, or what stands in between may be a proxy"
            }
            Self::Broken { .. } => {
                "try again; if it stays so, the gateway's log and what stands in between, such as \
                 a balancer or a proxy"
            }
            Self::Silent { .. } => {
                "check firewalls and the gateway's log; a slow network may need a longer --timeout"
            }
            Self::File { .. } => "check the file, its permissions and the space left",
            Self::Request(_) => "check the verb, the URL and the headers",
            Self::Interrupted => "the same command again",
            Self::Nonsense(_) => "the log of whoever answered, by message id",
        }
    }

    /// Where it happened, if a store of content was asked.
    pub(super) fn hop_at_store(&self) -> Hop {
        match self.hop() {
            Hop::Unknown => Hop::Store,
            hop => hop,
        }
    }

    /// What to do about it, if a store of content was asked.
    pub(super) fn next_at_store(&self) -> &'static str {
        match self {
            Self::Name { .. } => {
                "have the store's name looked up here, or say where it is: --resolve HOST:ADDRESS"
            }
            Self::Unreachable { .. } => {
                "check firewalls, as files are fetched from the store directly; then that it runs"
            }
            Self::Untrusted { .. } => {
                "give --store-ca the authority that has signed the store's certificate; else \
                 somebody else answers there: an inspecting proxy, or the wrong address"
            }
            Self::WrongName { .. } => {
                "have `endpoint` of [content] name the store as its certificate does; else \
                 somebody else answers there"
            }
            Self::NotNow { .. } => {
                "check this machine's clock; then have the store's certificate renewed"
            }
            Self::Alert { .. } => "the store's log says why; it is shown no client certificate",
            Self::Broken { .. } | Self::Nonsense(_) => {
                "the same command again; if it stays so, the store's log and what stands in \
                 between, such as a proxy"
            }
            Self::Silent { .. } => {
                "check firewalls and the store; a slow network may need a longer --timeout"
            }
            Self::Handshake { .. } | Self::File { .. } | Self::Request(_) | Self::Interrupted => {
                self.next()
            }
        }
    }

    /// Whether the same may come to an end when it is tried again.
    pub(super) fn is_passing(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        match self {
            Self::Unreachable { .. } | Self::Broken { .. } | Self::Silent { .. } => true,
            // It was full, or ended: what speaks no TLS says something else.
            Self::Handshake { source, .. } => matches!(
                source.kind(),
                BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
            ),
            _ => false,
        }
    }
}
