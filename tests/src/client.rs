//! A client of the gateway, over HTTP/1.1 or HTTP/2.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a failed step of a test's set-up is a failed test"
)]

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use relay_core::gateway::{Gateway, header};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::pki::SiteCa;
use crate::roles::{PIPE, SERVICE};
use crate::site::{Body, empty};

/// Which HTTP a client speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Http {
    /// HTTP/1.1.
    One,
    /// HTTP/2.
    Two,
}

impl Http {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::One, Self::Two];

    /// Its name in TLS.
    pub fn alpn(self) -> &'static [u8] {
        match self {
            Self::One => b"http/1.1",
            Self::Two => b"h2",
        }
    }
}

#[derive(Debug)]
enum Sender {
    One(http1::SendRequest<Body>),
    Two(http2::SendRequest<Body>),
}

/// One connection of a client. Dropping it cuts the connection.
#[derive(Debug)]
pub struct Client {
    sender: Sender,
    tasks: JoinSet<()>,
}

/// Shakes hands with a gateway over `pipe`, as a client that speaks `alpn`.
pub async fn tls<P>(pipe: P, ca: &SiteCa, alpn: &[u8]) -> TlsStream<P>
where
    P: AsyncRead + AsyncWrite + Unpin,
{
    let name = ServerName::try_from(SERVICE).unwrap();
    TlsConnector::from(ca.client_tls(alpn)).connect(name, pipe).await.unwrap()
}

/// What a client with `config` says first.
pub fn client_hello(config: Arc<ClientConfig>) -> Vec<u8> {
    let name = ServerName::try_from(SERVICE).unwrap();
    let mut hello = Vec::new();
    rustls::ClientConnection::new(config, name).unwrap().write_tls(&mut hello).unwrap();
    hello
}

/// The far end of a new connection that `gateway` serves in memory.
pub fn pipe_to(gateway: &Gateway) -> tokio::io::DuplexStream {
    let (near, far) = tokio::io::duplex(PIPE);
    let gateway = gateway.clone();
    let from = SocketAddr::from(([192, 0, 2, 1], 50_000));
    tokio::spawn(async move { gateway.serve_client(near, from).await });
    far
}

impl Client {
    /// Connects to `gateway` in memory.
    pub async fn join(gateway: &Gateway, ca: &SiteCa, http: Http) -> Self {
        Self::over(tls(pipe_to(gateway), ca, http.alpn()).await, http).await
    }

    /// Connects to a gateway's client port.
    pub async fn dial(address: SocketAddr, ca: &SiteCa, http: Http) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(tls(stream, ca, http.alpn()).await, http).await
    }

    /// As [`Client::join`], with another TLS set-up.
    pub async fn join_with(gateway: &Gateway, tls: &Arc<ClientConfig>, http: Http) -> Self {
        Self::over_tls(pipe_to(gateway), tls, http).await
    }

    /// As [`Client::dial`], with another TLS set-up.
    pub async fn dial_with(address: SocketAddr, tls: &Arc<ClientConfig>, http: Http) -> Self {
        Self::over_tls(TcpStream::connect(address).await.unwrap(), tls, http).await
    }

    async fn over_tls<P>(pipe: P, tls: &Arc<ClientConfig>, http: Http) -> Self
    where
        P: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut tls = ClientConfig::clone(tls);
        tls.alpn_protocols = vec![http.alpn().to_vec()];
        let name = ServerName::try_from(SERVICE).unwrap();
        let connector = TlsConnector::from(Arc::new(tls));
        Self::over(connector.connect(name, pipe).await.unwrap(), http).await
    }

    async fn over<P>(pipe: P, http: Http) -> Self
    where
        P: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let io = TokioIo::new(pipe);
        let mut tasks = JoinSet::new();
        // How a connection ended is seen by the requests on it.
        let sender = match http {
            Http::One => {
                let (sender, connection) = http1::handshake(io).await.unwrap();
                tasks.spawn(async move { drop(connection.await) });
                Sender::One(sender)
            }
            Http::Two => {
                let (sender, connection) =
                    http2::handshake(TokioExecutor::new(), io).await.unwrap();
                tasks.spawn(async move { drop(connection.await) });
                Sender::Two(sender)
            }
        };
        Self { sender, tasks }
    }

    /// Waits until the gateway has ended the connection.
    pub async fn until_closed(mut self) {
        self.tasks.join_next().await;
    }

    /// Sends a request whose target is a path, and waits for the head of its answer.
    ///
    /// # Errors
    ///
    /// When the connection ends first.
    pub async fn send(&mut self, mut request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        match &mut self.sender {
            Sender::One(sender) => {
                let host = http::HeaderValue::from_static(SERVICE);
                request.headers_mut().entry(http::header::HOST).or_insert(host);
                sender.ready().await?;
                sender.send_request(request).await
            }
            Sender::Two(sender) => {
                let path = request.uri().path_and_query().unwrap().clone();
                *request.uri_mut() = Uri::builder()
                    .scheme("https")
                    .authority(SERVICE)
                    .path_and_query(path)
                    .build()
                    .unwrap();
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    /// Sends a request and reads the whole answer, both of which must work.
    pub async fn ask(&mut self, request: Request<Body>) -> Answer {
        let (parts, body) = self.send(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { parts, body }
    }
}

/// A request without a body.
pub fn bare(verb: &str, target: &str) -> Request<Body> {
    with_body(verb, target, empty())
}

/// A request with a body.
pub fn with_body(verb: &str, target: &str, body: Body) -> Request<Body> {
    Request::builder().method(verb).uri(target).body(body).unwrap()
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// Its head.
    pub parts: http::response::Parts,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// The status.
    pub fn status(&self) -> u16 {
        self.parts.status.as_u16()
    }

    /// Which hop failed and why, if one did.
    pub fn reason(&self) -> Option<&str> {
        self.parts.headers.get(header::REASON).map(|reason| reason.to_str().unwrap())
    }

    /// The message id, which every answer has.
    pub fn message_id(&self) -> &str {
        self.parts.headers.get(header::MESSAGE_ID).unwrap().to_str().unwrap()
    }
}
