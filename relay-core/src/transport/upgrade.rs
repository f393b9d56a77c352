//! A link inside HTTPS: how it is told from clients on one port, and the HTTP/1.1 upgrade.
//!
//! The TLS around an upgrade may end at a balancer or web proxy on the way, so the link's own
//! mutual TLS is spoken once more inside: who is at the other end is never a matter of the way.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, HOST, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::server::Acceptor;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake, client, server};

use super::tcp::{ConnectError, in_time, is_link, secure, secure_link};
use super::tls::{LINK_ALPN, LINK_PROTOCOL};

/// Where an upgrade to a link is asked for. Our choice: no published endpoint begins so.
pub const UPGRADE_PATH: &str = "/relay-link";

/// A connection whose `ClientHello` has been read and not been answered.
pub struct Greeted<P> {
    handshake: StartHandshake<P>,
    /// When it was taken.
    since: Instant,
}

impl<P> std::fmt::Debug for Greeted<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Greeted").finish_non_exhaustive()
    }
}

/// Reads a `ClientHello`, so that clients and links can share a port. It has `limit` to be there,
/// whole.
///
/// # Errors
///
/// [`ConnectError::Tls`] and [`ConnectError::Timeout`].
///
/// # Cancel safety
///
/// Dropping the future drops the pipe.
pub async fn greet<P: AsyncRead + AsyncWrite + Unpin>(
    pipe: P,
    limit: Duration,
) -> Result<Greeted<P>, ConnectError> {
    let since = Instant::now();
    let handshake = in_time(limit, LazyConfigAcceptor::new(Acceptor::default(), pipe)).await?;
    Ok(Greeted { handshake, since })
}

impl<P: AsyncRead + AsyncWrite + Unpin> Greeted<P> {
    /// Whether the peer offers the link protocol by its ALPN name.
    pub fn offers_link(&self) -> bool {
        self.handshake
            .client_hello()
            .alpn()
            .is_some_and(|mut names| names.any(|name| name == LINK_ALPN))
    }

    /// Goes on with the handshake. All of it has `limit`, from the moment in which [`greet`] was
    /// called: one deadline, however the peer spends it.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Tls`] and [`ConnectError::Timeout`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the pipe.
    pub async fn accept(
        self,
        tls: Arc<ServerConfig>,
        limit: Duration,
    ) -> Result<server::TlsStream<P>, ConnectError> {
        let left = limit.saturating_sub(self.since.elapsed());
        let handshake = in_time(left, self.handshake.into_stream(tls)).await;
        handshake.map_err(|why| match why {
            ConnectError::Timeout { .. } => ConnectError::Timeout { limit },
            other => other,
        })
    }

    /// Goes on with the handshake of a link, as [`Greeted::accept`]: the peer must speak the link
    /// protocol.
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the pipe.
    pub async fn accept_link(
        self,
        tls: Arc<ServerConfig>,
        limit: Duration,
    ) -> Result<server::TlsStream<P>, ConnectError> {
        is_link(self.accept(tls, limit).await?)
    }
}

/// Whether a request asks for a link: `GET` of [`UPGRADE_PATH`] with `Upgrade: relay-link/1`.
pub fn asks_for_link(method: &Method, path: &str, fields: &HeaderMap) -> bool {
    let names = |name, wanted: &str| {
        let lines = fields.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
        lines.flat_map(|line| line.split(',')).any(|it| it.trim().eq_ignore_ascii_case(wanted))
    };
    // RFC 9110, section 7.8: without the option in `Connection` the field is somebody else's.
    method == Method::GET
        && path == UPGRADE_PATH
        && names(UPGRADE, LINK_PROTOCOL)
        && names(CONNECTION, "upgrade")
}

/// The fields of an answer that grants what [`asks_for_link`] found.
pub fn grant_link(fields: &mut HeaderMap) {
    fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    fields.insert(UPGRADE, HeaderValue::from_static(LINK_PROTOCOL));
}

/// Makes a link of a connected pipe to an HTTPS port: TLS as `https` says towards the first name,
/// an HTTP/1.1 upgrade, and mutual TLS as `link` says towards the second inside.
///
/// # Errors
///
/// [`ConnectError`].
///
/// # Cancel safety
///
/// Dropping the future drops the pipe.
pub async fn upgrade_link<P>(
    pipe: P,
    (https_name, link_name): (&str, &str),
    https: Arc<ClientConfig>,
    link: Arc<ClientConfig>,
) -> Result<client::TlsStream<client::TlsStream<P>>, ConnectError>
where
    P: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = secure(pipe, https_name, https).await?;
    let upgraded = upgrade(stream, https_name).await?;
    secure_link(upgraded, link_name, link).await
}

/// Asks for a link over HTTP/1.1 and returns the pipe once it was granted.
async fn upgrade<P>(pipe: P, server_name: &str) -> Result<P, ConnectError>
where
    P: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |error: hyper::Error| ConnectError::Upgrade(error.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(pipe)).await.map_err(failed)?;
    let request = Request::get(UPGRADE_PATH)
        .header(HOST, server_name)
        .header(CONNECTION, "upgrade")
        .header(UPGRADE, LINK_PROTOCOL)
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|_| ConnectError::BadName(server_name.to_owned()))?;
    let asked = async move {
        let answer = sender.send_request(request).await.map_err(failed)?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(ConnectError::NotUpgraded { status: answer.status().as_u16() });
        }
        hyper::upgrade::on(answer).await.map_err(failed)
    };
    let (upgraded, _) = tokio::join!(asked, connection.with_upgrades());
    let parts = upgraded?.downcast::<TokioIo<P>>();
    let parts = parts.map_err(|_| ConnectError::Upgrade("another pipe came back".into()))?;
    if !parts.read_buf.is_empty() {
        // The side that asked speaks first, so these octets are not of a link.
        return Err(ConnectError::Upgrade("octets follow the answer".into()));
    }
    Ok(parts.io.into_inner())
}
