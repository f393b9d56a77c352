//! Takes spans to the collector, in batches, beside a role that runs.
//!
//! Nobody waits for it: what does not fit into the queue, or cannot be sent, is dropped and
//! counted, and the log says so once, until it works again.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use relay_core::config::TelemetryConfig;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::counted::{DROPPED, EXPORTED};
use super::otlp::{self, Span, Teller};

/// Spans in one request.
const BATCH_MAX: usize = 512;

/// How long a span waits for others to go with it.
const EVERY: Duration = Duration::from_secs(5);

/// Time that a collector has for one batch, from the connection to its answer.
const SEND_TIME: Duration = Duration::from_secs(5);

/// Octets that are read of its answer.
const ANSWER_MAX: usize = 64 << 10;

/// Where traces are taken to below the collector's address: OTLP/HTTP, "Request".
const PATH: &str = "/v1/traces";

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    /// There is no way to it.
    #[error("cannot connect: {0}; see that it runs, and that `endpoint` is where")]
    Unreachable(io::Error),
    /// Its certificate is not believed, or it speaks no TLS.
    #[error("the TLS handshake failed: {0}; see whether `ca` vouches for it")]
    Tls(io::Error),
    /// It speaks no HTTP, or broke off.
    #[error("it broke off: {0}")]
    Broken(#[from] hyper::Error),
    /// It does not want them.
    #[error("it answered {0}; see its own log, and `headers_file`")]
    Refused(StatusCode),
    /// It took too long.
    #[error("it has not answered within {} s", SEND_TIME.as_secs())]
    Late,
}

/// The collector, and how it is spoken to.
struct Collector {
    host: String,
    port: u16,
    authority: HeaderValue,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Collector {
    /// `None` if its URL names no host, which the configuration has refused.
    fn of(config: TelemetryConfig) -> Option<Self> {
        let authority = config.endpoint.authority()?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let customary = if config.tls.is_some() { 443 } else { 80 };
        let port = authority.port_u16().unwrap_or(customary);
        let tls = match config.tls {
            Some(tls) => Some((tls, ServerName::try_from(host.clone()).ok()?)),
            None => None,
        };
        let authority = HeaderValue::from_str(authority.as_str()).ok()?;
        Some(Self { host, port, authority, tls, headers: config.headers })
    }

    /// Has it take a batch. Returns how many spans it has refused of it.
    async fn take(&self, batch: Vec<u8>) -> Result<u64, ExportError> {
        let taken = async {
            let stream = TcpStream::connect((&*self.host, self.port)).await;
            let stream = stream.map_err(ExportError::Unreachable)?;
            match &self.tls {
                None => self.ask(stream, batch).await,
                Some((tls, name)) => {
                    let connector = TlsConnector::from(Arc::clone(tls));
                    let stream = connector.connect(name.clone(), stream).await;
                    self.ask(stream.map_err(ExportError::Tls)?, batch).await
                }
            }
        };
        timeout(SEND_TIME, taken).await.unwrap_or(Err(ExportError::Late))
    }

    async fn ask<S>(&self, stream: S, batch: Vec<u8>) -> Result<u64, ExportError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends with this exchange, however that ends.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let mut request = Request::new(Full::new(Bytes::from(batch)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static(PATH);
        let headers = request.headers_mut();
        headers.extend(self.headers.iter().cloned());
        headers.insert(HOST, self.authority.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        if !status.is_success() {
            return Err(ExportError::Refused(status));
        }
        let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
        Ok(body.map_or(0, |body| otlp::rejected(&body.to_bytes())))
    }
}

/// What takes spans to the collector.
pub(super) struct Exporter {
    spans: mpsc::Receiver<Span>,
    collector: Collector,
    teller: Teller,
    /// Whether the last batch was not taken.
    fails: bool,
}

impl Exporter {
    /// `None` as the collector's URL, which the configuration has judged, names no host.
    pub(super) fn of(
        spans: mpsc::Receiver<Span>,
        config: TelemetryConfig,
        teller: Teller,
    ) -> Option<Self> {
        Some(Self { spans, collector: Collector::of(config)?, teller, fails: false })
    }

    /// Takes what comes until it is told to stop, and then all that is there.
    pub(super) async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        let mut is_stopping = false;
        loop {
            let mut batch = Vec::new();
            let mut due = std::pin::pin!(sleep(EVERY));
            while batch.len() < BATCH_MAX {
                let room = BATCH_MAX - batch.len();
                tokio::select! {
                    got = self.spans.recv_many(&mut batch, room) => if got == 0 { break },
                    () = &mut due, if !batch.is_empty() && !is_stopping => break,
                    _ = &mut stop, if !is_stopping => {
                        is_stopping = true;
                        self.spans.close();
                    }
                }
            }
            if batch.is_empty() {
                return;
            }
            self.send(&batch).await;
        }
    }

    async fn send(&mut self, batch: &[Span]) {
        let spans = batch.len() as u64;
        let taken = self.collector.take(otlp::document(&self.teller, batch)).await;
        let refused = match &taken {
            Ok(refused) => (*refused).min(spans),
            Err(_) => spans,
        };
        DROPPED.add(refused);
        EXPORTED.add(spans - refused);
        let did_fail = std::mem::replace(&mut self.fails, taken.is_err());
        match taken {
            Err(why) if !did_fail => tracing::warn!(
                %why,
                "the collector does not take spans; they are dropped until it does, and counted"
            ),
            Ok(_) if did_fail => {
                tracing::info!(dropped = DROPPED.get(), "the collector takes spans again");
            }
            _ => {}
        }
    }
}
