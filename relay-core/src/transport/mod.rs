//! A connected byte pipe, dialled or accepted: sockets, TLS and the port plan.
//!
//! This room decides how octets get to the other side and who may be there. It knows nothing of
//! frames or HTTP. Read [`PortPlan`] and [`Identity`] first.
//!
//! It is the only room that names `tokio::net` and `tokio_rustls`; the roles receive connected
//! streams from [`Listener`], [`accept_tls`], [`accept_link`], [`Network`] and [`dial_through`].
//! With the feature `quic` it alone names QUIC endpoints; `link` takes their connections.

mod certificate;
mod client_certificates;
mod client_edge;
mod http2;
mod in_force;
mod judged;
mod ladder;
#[cfg(any(test, feature = "test-util"))]
pub mod memory;
#[cfg(not(feature = "quic"))]
mod no_quic;
mod patience;
mod peer;
mod ports;
mod proxy;
#[cfg(feature = "quic")]
mod quic;
mod revocation;
mod socket;
mod tcp;
mod tls;
mod upgrade;

pub use certificate::{
    AcceptedLink, Certificate, CertificateError, DialledLink, Fingerprint, Uses, Validity,
    shown_chain,
};
pub use client_certificates::{
    CLIENT_CERTIFICATES_MAX, ClientCertificates, NotShown, Verdict as CertificateVerdict,
};
pub use client_edge::client_edge_config_asking;
pub use http2::{HTTP2_LINK_WINDOW, Http2Link, Http2Pipe, connect_link_http2, connects_link};
pub use in_force::InForce;
pub use judged::{ChainRefused, judge_server};
pub use ladder::{Ladder, Misstep, Rung};
#[cfg(not(feature = "quic"))]
pub use no_quic::QuicListener;
pub use patience::Patience;
pub use peer::{PeerIdentity, PeerTrust, TrustInForce, Unfit, Verdict};
pub use ports::{Instance, InstanceOutOfRange, PortPlan};
pub use proxy::{
    Bypass, BypassError, CREDENTIAL_BYTES_MAX, CredentialsError, EnvironmentError,
    ProxyCredentials, ProxyError, ProxyUrlError, WebProxy, connect_through, dial_through,
};
#[cfg(feature = "quic")]
pub use quic::{
    QUIC_LINK_MEMORY, QUIC_STREAM_WINDOW, QUIC_STREAMS_MAX, QuicArrival, QuicConnection,
    QuicListener, dial_quic, quic_certificate, quic_chain,
};
pub use revocation::{RevocationList, Revoked};
pub use socket::{Network, Socket};
pub use tcp::{
    ConnectError, Listener, Purpose, accept_link, accept_tls, connect, secure, secure_link,
};
pub use tls::{
    Identity, LINK_ALPN, TlsSetupError, TrustAnchors, backend_client_config,
    backend_client_config_showing, client_edge_config, link_client_config, link_server_config,
};
pub(crate) use tls::{read_certificates, require_file};
pub use upgrade::{Greeted, UPGRADE_PATH, asks_for_link, grant_link, greet, upgrade_link};
