//! What a link is to go over: a pipe or a QUIC connection, whose peer is authenticated.

use crate::link::{self, Link};
use crate::mux::{Config, ConfigError, Side};
use crate::transport::{
    ConnectError, DialledLink, PeerIdentity, Rung, connect_link_http2, dial_through, secure_link,
    upgrade_link,
};
#[cfg(feature = "quic")]
use crate::transport::{
    QUIC_LINK_MEMORY, QUIC_STREAM_WINDOW, QUIC_STREAMS_MAX, QuicConnection, dial_quic, quic_chain,
};

use super::ConnectionPoint;
use super::config::GatewayAddress;
use super::serve::{LinkDriver, Pipe};

/// What carries a link.
pub(super) enum Carrier {
    Pipe(Box<dyn Pipe>, PeerIdentity),
    #[cfg(feature = "quic")]
    Quic(QuicConnection, PeerIdentity),
}

impl Carrier {
    /// TLS over a pipe, to a peer that was dialled as `server_name`.
    pub(super) fn over<P: Pipe + 'static>(stream: DialledLink<P>, server_name: &str) -> Self {
        let peer = PeerIdentity::of_secured(&stream, server_name);
        Self::Pipe(Box::new(stream), peer)
    }

    /// Begins a link with these settings, and says who is at its end.
    pub(super) fn begin(
        self,
        config: Config,
    ) -> Result<(Link, LinkDriver, PeerIdentity), ConfigError> {
        match self {
            Self::Pipe(pipe, peer) => {
                let (link, driver) = link::new(pipe, Side::Dialer, config)?;
                Ok((link, Box::pin(driver), peer))
            }
            #[cfg(feature = "quic")]
            Self::Quic(connection, peer) => {
                let config = Config {
                    stream_window: QUIC_STREAM_WINDOW,
                    receive_memory_max: QUIC_LINK_MEMORY,
                    accept_streams_max: config.accept_streams_max.min(QUIC_STREAMS_MAX),
                    send_queue_max: Config::default().send_queue_max,
                    ..config
                };
                let (link, driver) = link::new_quic(connection, Side::Dialer, config)?;
                Ok((link, Box::pin(driver), peer))
            }
        }
    }
}

impl ConnectionPoint {
    /// Reaches the instance on one rung, and makes sure of who is there.
    pub(super) async fn reach(
        &self,
        gateway: &GatewayAddress,
        rung: Rung,
    ) -> Result<Carrier, ConnectError> {
        match rung {
            #[cfg(feature = "quic")]
            Rung::Quic => {
                let tls = self.inner.link_tls.get();
                let (host, name) = (&gateway.host, &gateway.server_name);
                let port = gateway.quic_port.unwrap_or_default();
                let connection = dial_quic(host, port, name, tls).await?;
                let peer = PeerIdentity::of_dialled(&quic_chain(&connection), name);
                Ok(Carrier::Quic(connection, peer))
            }
            // No address has this rung in such a build.
            #[cfg(not(feature = "quic"))]
            Rung::Quic => Err(ConnectError::Quic("this build has no QUIC".into())),
            Rung::TcpTls | Rung::Https | Rung::HttpsUpgrade | Rung::HttpsHttp2 => {
                self.pipe(gateway, rung).await
            }
        }
    }

    /// A pipe to the instance whose peer is authenticated.
    async fn pipe(&self, gateway: &GatewayAddress, rung: Rung) -> Result<Carrier, ConnectError> {
        let tls = self.inner.link_tls.get();
        let port = match rung {
            Rung::Quic => gateway.quic_port,
            Rung::TcpTls => gateway.tcp_tls_port,
            Rung::Https | Rung::HttpsUpgrade | Rung::HttpsHttp2 => gateway.https_port,
        };
        let (host, port) = (&gateway.host, port.unwrap_or_default());
        let proxy = self.inner.config.web_proxy.as_ref();
        // Source: Microsoft Learn, "CMG data flow": no web proxy for TCP-TLS.
        let proxy = proxy.filter(|it| rung != Rung::TcpTls && !it.bypass.covers(host, port));
        let socket = match proxy {
            Some(proxy) => {
                dial_through(proxy, host, port, self.inner.config.limits.dial).await?.into()
            }
            None => self.inner.config.network.connect(host, port).await?,
        };
        let https = self.inner.https_tls.get();
        let name = gateway.server_name.as_str();
        let names = (gateway.https_name.as_str(), name);
        Ok(match rung {
            Rung::HttpsUpgrade => {
                Carrier::over(upgrade_link(socket, names, https, tls).await?, name)
            }
            Rung::HttpsHttp2 => {
                Carrier::over(connect_link_http2(socket, names, &https, tls).await?, name)
            }
            Rung::Quic | Rung::TcpTls | Rung::Https => {
                Carrier::over(secure_link(socket, name, tls).await?, name)
            }
        })
    }
}
