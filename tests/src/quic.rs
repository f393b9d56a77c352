//! Two ends of a link over QUIC, on loopback.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a failed step of a test's set-up is a failed test"
)]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn::Connection;
use relay_core::link::{Link, new_quic};
use relay_core::mux::{Config, LinkError, Side};
use relay_core::transport::{
    QUIC_LINK_MEMORY, QUIC_STREAM_WINDOW, QuicListener, dial_quic, link_client_config,
    link_server_config,
};
use tokio::task::JoinHandle;

use crate::pki::SiteCa;

/// The gateway's name in its certificate.
pub const NAME: &str = "gateway.test";

/// No handshake on loopback takes this long; only a hang does.
pub const HANDSHAKE: Duration = Duration::from_secs(30);

/// Any free port of loopback.
pub const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Settings of a side that lets its peer open so many streams.
pub fn config(accept_streams_max: u32) -> Config {
    Config {
        accept_streams_max,
        open_streams_max: 1024 - accept_streams_max.min(1024) + 16,
        stream_window: QUIC_STREAM_WINDOW,
        receive_memory_max: QUIC_LINK_MEMORY,
        ..Config::default()
    }
}

/// Two connections that are each other's ends: the gateway's and the site's.
pub async fn connections() -> [Connection; 2] {
    let ca = SiteCa::new();
    let server = link_server_config(&ca.server(NAME), &ca.anchors()).unwrap();
    let client = link_client_config(&ca.connection_point("cp"), &ca.anchors()).unwrap();
    let listener = QuicListener::bind(ANY, Arc::clone(&server)).unwrap();
    let accept = async { listener.accept().await.accept(server, HANDSHAKE).await };
    let dial = dial_quic("127.0.0.1", listener.local_addr().port(), NAME, Arc::clone(&client));
    let (accepted, dialled) = tokio::join!(accept, dial);
    [accepted.unwrap(), dialled.unwrap()]
}

/// Two linked ends and their drivers.
#[derive(Debug)]
pub struct Pair {
    /// The listener's end.
    pub gateway: Link,
    /// The dialer's end.
    pub site: Link,
    /// In this order.
    pub drivers: [JoinHandle<LinkError>; 2],
}

impl Pair {
    /// A link whose ends have these settings.
    pub async fn with(gateway: Config, site: Config) -> Self {
        let [near, far] = connections().await;
        let (gateway, one) = new_quic(near, Side::Listener, gateway).unwrap();
        let (site, other) = new_quic(far, Side::Dialer, site).unwrap();
        let drivers = [tokio::spawn(one), tokio::spawn(other)];
        gateway.established().await.unwrap();
        site.established().await.unwrap();
        Self { gateway, site, drivers }
    }

    /// A link on which the gateway opens streams.
    pub async fn up() -> Self {
        Self::with(config(0), config(1024)).await
    }

    /// Closes the link from the gateway's side, and says how both ends saw it.
    pub async fn end(self) -> [LinkError; 2] {
        self.gateway.close();
        let [one, other] = self.drivers;
        [one.await.unwrap(), other.await.unwrap()]
    }
}
