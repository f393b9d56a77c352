//! A connected byte pipe, dialled or accepted: sockets, TLS and the port plan.
//!
//! This room decides how octets get to the other side and who may be there. It knows nothing of
//! frames or HTTP. Read [`PortPlan`] and [`Identity`] first.
//!
//! It is the only room that names `tokio::net` and `tokio_rustls`; the roles receive connected
//! streams from here.

mod ports;
mod tls;

pub use ports::{Instance, InstanceOutOfRange, PortPlan};
pub use tls::{
    Identity, LINK_ALPN, TlsSetupError, TrustAnchors, backend_client_config, client_edge_config,
    link_client_config, link_server_config,
};
