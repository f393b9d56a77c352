//! One connection, of which each step has a limit.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, Response, Uri, Version};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::args::Reach;
use super::body::{RequestBody, Taken};
use super::fault::Fault;
use super::target::Target;

/// HTTP/2 windows of a stream and of the connection, in octets: a download is not held up by round
/// trips, and the most that is kept of one is this.
const WINDOW_BYTES: u32 = 1024 * 1024;

/// How long a frame of an answer may be: the gateway sends each by a system call of its own, and
/// holds no more than that for a client that takes nothing.
const FRAME_BYTES_MAX: u32 = 64 << 10;

/// A connection to whoever answers for a URL. Dropping it closes it.
pub(crate) struct Connection {
    sender: Sender,
    /// Whom it was made to: over TLS or not, and by what name.
    to: (bool, String),
    address: SocketAddr,
    certificate: Option<CertificateDer<'static>>,
    patience: Duration,
    /// Owns the task that moves the octets.
    _driver: JoinSet<()>,
}

enum Sender {
    Http1(http1::SendRequest<RequestBody>),
    Http2(http2::SendRequest<RequestBody>),
}

impl Connection {
    /// Connects and shakes hands.
    ///
    /// # Errors
    ///
    /// [`Fault`]: nobody there, nobody trusted, or too slow.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a connection half made is closed.
    pub(crate) async fn open(reach: &Reach, target: &Target) -> Result<Self, Fault> {
        let (address, stream) = connect(reach, target).await?;
        Self::over(reach, target, address, stream).await
    }

    /// Shakes hands over what leads to `address`.
    ///
    /// # Errors
    ///
    /// As [`Connection::open`].
    ///
    /// # Cancel safety
    ///
    /// As [`Connection::open`].
    pub(crate) async fn over(
        reach: &Reach,
        target: &Target,
        address: SocketAddr,
        stream: TcpStream,
    ) -> Result<Self, Fault> {
        // Without it small requests may wait for an acknowledgement; a refusal costs time alone.
        let _ = stream.set_nodelay(true);
        let mut driver = JoinSet::new();
        let broken = |source| Fault::Broken { address, source };
        let tls = reach.tls().filter(|_| target.is_tls);
        let mut certificate = None;
        let sender = match tls {
            None => http1_over(stream, &mut driver).await.map_err(broken)?,
            Some(tls) => {
                let name = ServerName::try_from(target.host.clone());
                let name = name.map_err(|_| Fault::Nonsense(no_host(&target.host)))?;
                let shaken = TlsConnector::from(tls).connect(name, stream);
                let shaken = timeout(reach.patience, shaken).await;
                let during = "the TLS handshake was under way";
                let silent = Fault::Silent { address, during, waited: reach.patience };
                let stream = shaken
                    .map_err(|_| silent)?
                    .map_err(|error| Fault::of_handshake(address, &target.host, error))?;
                let session = stream.get_ref().1;
                certificate = session.peer_certificates().and_then(|it| it.first().cloned());
                let is_http2 = session.alpn_protocol() == Some(b"h2");
                let sender = if is_http2 {
                    http2_over(stream, &mut driver).await
                } else {
                    http1_over(stream, &mut driver).await
                };
                sender.map_err(broken)?
            }
        };
        let to = (target.is_tls, target.authority.clone());
        Ok(Self { sender, to, address, certificate, patience: reach.patience, _driver: driver })
    }

    /// What whoever answers has shown in TLS, and was believed.
    pub(crate) fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.certificate.as_ref()
    }

    /// Whether it was made to whoever answers for `target`: nobody else is shown what is for it.
    pub(super) fn leads_to(&self, target: &Target) -> bool {
        self.to.0 == target.is_tls && self.to.1 == target.authority
    }

    /// Whether no other request goes over it.
    pub(super) fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    /// What is spoken, and with whom.
    pub(crate) fn described(&self) -> String {
        let version = match self.sender {
            Sender::Http1(_) => "HTTP/1.1",
            Sender::Http2(_) => "HTTP/2",
        };
        format!("{version} with {}", self.address)
    }

    /// Sends a request and waits for the head of its answer. `taken` counts what goes of the body:
    /// as long as some does, the answer has time.
    ///
    /// # Errors
    ///
    /// [`Fault`].
    pub(crate) async fn send(
        &mut self,
        target: &Target,
        mut request: Request<RequestBody>,
        taken: &Taken,
    ) -> Result<Response<Incoming>, Fault> {
        let address = self.address;
        let broken = |source| Fault::Broken { address, source };
        let (during, waited) = ("room for a request was waited for", self.patience);
        let silent = || Fault::Silent { address, during, waited };
        let answer = match &mut self.sender {
            Sender::Http1(sender) => {
                *request.uri_mut() = Uri::from(target.path.clone());
                let host = HeaderValue::try_from(&target.authority).map_err(http::Error::from)?;
                request.headers_mut().insert(HOST, host);
                let ready = timeout(self.patience, sender.ready()).await;
                ready.map_err(|_| silent())?.map_err(broken)?;
                either(sender.send_request(request))
            }
            Sender::Http2(sender) => {
                *request.uri_mut() = target.url()?;
                *request.version_mut() = Version::HTTP_2;
                let ready = timeout(self.patience, sender.ready()).await;
                ready.map_err(|_| silent())?.map_err(broken)?;
                either(sender.send_request(request))
            }
        };
        let mut answer = answer;
        loop {
            let before = taken.load(Ordering::Relaxed);
            if let Ok(answer) = timeout(self.patience, &mut answer).await {
                return answer.map_err(broken);
            }
            if taken.load(Ordering::Relaxed) == before {
                let during = "its answer was waited for";
                return Err(Fault::Silent { address, during, waited: self.patience });
            }
        }
    }

    /// The next octets of an answer's body; `None` at its end.
    ///
    /// # Errors
    ///
    /// [`Fault`], if it broke off or stands still.
    pub(super) async fn more(&self, body: &mut Incoming) -> Result<Option<Bytes>, Fault> {
        loop {
            let frame = timeout(self.patience, body.frame()).await.map_err(|_| Fault::Silent {
                address: self.address,
                during: "the answer's body was under way",
                waited: self.patience,
            })?;
            match frame {
                None => return Ok(None),
                Some(Err(source)) => return Err(Fault::Broken { address: self.address, source }),
                Some(Ok(frame)) => {
                    // Trailers say nothing to us.
                    if let Ok(octets) = frame.into_data() {
                        return Ok(Some(octets));
                    }
                }
            }
        }
    }

    /// What is left of a body, up to `most` octets; the rest is left unread.
    ///
    /// # Errors
    ///
    /// As [`Connection::more`].
    pub(crate) async fn rest(&self, body: &mut Incoming, most: usize) -> Result<Bytes, Fault> {
        let mut read = Vec::new();
        while read.len() < most {
            let Some(octets) = self.more(body).await? else { break };
            read.extend_from_slice(&octets);
        }
        read.truncate(most);
        Ok(read.into())
    }
}

type Answer = std::pin::Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

fn either(
    answer: impl Future<Output = hyper::Result<Response<Incoming>>> + Send + 'static,
) -> Answer {
    Box::pin(answer)
}

fn no_host(host: &str) -> String {
    format!("`{host}` is no host that a certificate can be for")
}

/// Tries every address of the name, in their order.
async fn connect(reach: &Reach, target: &Target) -> Result<(SocketAddr, TcpStream), Fault> {
    let mut last = no_address(&target.host, io::ErrorKind::NotFound.into());
    for address in addresses(reach, target).await? {
        match dial(address, reach.patience).await {
            Ok(stream) => return Ok((address, stream)),
            Err(fault) => last = fault,
        }
    }
    Err(last)
}

fn no_address(host: &str, source: io::Error) -> Fault {
    Fault::Name { host: host.to_owned(), source }
}

/// Where a URL's host is: as the command line says, or else as its name is looked up.
///
/// # Errors
///
/// [`Fault::Name`].
///
/// # Cancel safety
///
/// Cancel safe: what was found is dropped.
pub(crate) async fn addresses(reach: &Reach, target: &Target) -> Result<Vec<SocketAddr>, Fault> {
    let told = reach.addresses(target);
    if !told.is_empty() {
        return Ok(told);
    }
    look_up(&target.host, target.port, reach.patience).await
}

/// Looks a name up; an address stands for itself.
///
/// # Errors
///
/// [`Fault::Name`].
///
/// # Cancel safety
///
/// Cancel safe: what was found is dropped.
pub(crate) async fn look_up(
    host: &str,
    port: u16,
    patience: Duration,
) -> Result<Vec<SocketAddr>, Fault> {
    let found = timeout(patience, tokio::net::lookup_host((host, port))).await;
    let found = found.map_err(|_| no_address(host, io::ErrorKind::TimedOut.into()))?;
    let found: Vec<_> = found.map_err(|source| no_address(host, source))?.collect();
    if found.is_empty() {
        return Err(no_address(host, io::ErrorKind::NotFound.into()));
    }
    Ok(found)
}

/// Asks for a connection.
///
/// # Errors
///
/// [`Fault::Unreachable`] or [`Fault::Silent`].
///
/// # Cancel safety
///
/// Cancel safe: a connection half made is closed.
pub(crate) async fn dial(address: SocketAddr, patience: Duration) -> Result<TcpStream, Fault> {
    let silent =
        || Fault::Silent { address, during: "a connection was asked for", waited: patience };
    let dialled = timeout(patience, TcpStream::connect(address)).await.map_err(|_| silent())?;
    dialled.map_err(|source| Fault::Unreachable { address, source })
}

async fn http1_over(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    driver: &mut JoinSet<()>,
) -> hyper::Result<Sender> {
    let (sender, connection) = http1::Builder::new().handshake(TokioIo::new(stream)).await?;
    // A connection that ends in an error has said so to whoever waited for an answer on it.
    driver.spawn(async { _ = connection.await });
    Ok(Sender::Http1(sender))
}

async fn http2_over(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    driver: &mut JoinSet<()>,
) -> hyper::Result<Sender> {
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await?;
    driver.spawn(async { _ = connection.await });
    Ok(Sender::Http2(sender))
}
