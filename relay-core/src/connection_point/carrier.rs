//! What a link is to go over: a pipe or a QUIC connection, whose peer is authenticated.

use rustls::pki_types::CertificateDer;

use crate::link::{self, Link};
use crate::mux::{Config, ConfigError, Side};
use crate::transport::{
    ConnectError, DialledLink, Rung, connect_link_http2, dial_through, secure_link, shown_chain,
    upgrade_link,
};
#[cfg(feature = "quic")]
use crate::transport::{
    QUIC_LINK_MEMORY, QUIC_STREAM_WINDOW, QuicConnection, dial_quic, quic_chain,
};

use super::ConnectionPoint;
use super::config::GatewayAddress;
use super::serve::{LinkDriver, Pipe};

/// What carries a link.
pub(super) enum Carrier {
    Pipe {
        pipe: Box<dyn Pipe>,
        /// The chain that the peer has shown.
        shown: Vec<CertificateDer<'static>>,
    },
    #[cfg(feature = "quic")]
    Quic(QuicConnection),
}

impl Carrier {
    /// TLS over a pipe.
    pub(super) fn over<P: Pipe + 'static>(stream: DialledLink<P>) -> Self {
        let shown = shown_chain(&stream);
        Self::Pipe { pipe: Box::new(stream), shown }
    }

    /// The chain, leaf first, that the peer has shown and that was verified.
    pub(super) fn shown(&self) -> Vec<CertificateDer<'static>> {
        match self {
            Self::Pipe { shown, .. } => shown.clone(),
            #[cfg(feature = "quic")]
            Self::Quic(connection) => quic_chain(connection),
        }
    }

    /// Begins a link with these settings.
    pub(super) fn begin(self, config: Config) -> Result<(Link, LinkDriver), ConfigError> {
        match self {
            Self::Pipe { pipe, .. } => {
                let (link, driver) = link::new(pipe, Side::Dialer, config)?;
                Ok((link, Box::pin(driver)))
            }
            #[cfg(feature = "quic")]
            Self::Quic(connection) => {
                let config = Config {
                    stream_window: QUIC_STREAM_WINDOW,
                    receive_memory_max: QUIC_LINK_MEMORY,
                    ..config
                };
                let (link, driver) = link::new_quic(connection, Side::Dialer, config)?;
                Ok((link, Box::pin(driver)))
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
                Ok(Carrier::Quic(dial_quic(host, port, name, tls).await?))
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
        let names = (gateway.https_name.as_str(), gateway.server_name.as_str());
        Ok(match rung {
            Rung::HttpsUpgrade => Carrier::over(upgrade_link(socket, names, https, tls).await?),
            Rung::HttpsHttp2 => {
                Carrier::over(connect_link_http2(socket, names, &https, tls).await?)
            }
            Rung::Quic | Rung::TcpTls | Rung::Https => {
                Carrier::over(secure_link(socket, &gateway.server_name, tls).await?)
            }
        })
    }
}
