//! Clients that ask as planned and keep what they saw.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Request;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use relay_core::gateway::header;
use relay_core::transport::memory::MemoryHost;
use relay_tests::client::Http;
use relay_tests::site::{Body, empty, fed, full, octets};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsConnector;

use super::identities::SITE;
use super::manner::Manner;
use super::plan::{ASKS_MAX, Ask, Kind};
use super::world::{CLIENT_PORT, SERVICE, instance_host};

/// No request takes this long; only one that nobody ends does.
const FOR_EVER: Duration = Duration::from_mins(5);

/// Octets of an answer that a client over HTTP/2 takes before it reads them.
const WINDOW: u32 = 32 << 10;

/// What a client saw of a request.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    /// No connection to the instance.
    NotConnected,
    /// The connection ended before an answer.
    NoAnswer,
    /// As that, and it had been used before: it may have been closed as idle just then.
    // RFC 9112, section 9.5: a client must be prepared for it.
    NoAnswerOnIdle,
    /// An answer.
    Answer {
        status: u16,
        /// Which hop failed and why, if one did.
        reason: Option<String>,
        /// The number of the request that the site answered.
        site_id: Option<u64>,
        body: Bytes,
        /// Whether the body ended as one that is complete.
        is_whole: bool,
    },
    /// The client has gone away, as planned.
    Left,
    /// Nobody ended it.
    Never,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer { status, reason, site_id, body, is_whole } => {
                let octets = body.len();
                write!(f, "{status} {reason:?} of {site_id:?}, {octets} octets, {is_whole}")
            }
            other => write!(f, "{other:?}"),
        }
    }
}

/// What became of a request.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) ask: Ask,
    pub(crate) http: Http,
    pub(crate) seen: Seen,
    /// Since the world began.
    pub(crate) started: Duration,
    pub(crate) took: Duration,
}

/// A connection to an instance.
enum Sender {
    One(http1::SendRequest<Body>),
    Two(http2::SendRequest<Body>),
}

/// A client with its connections.
pub(crate) struct Client {
    host: MemoryHost,
    http: Http,
    tls: Arc<ClientConfig>,
    began: Instant,
    /// At rest, or shared, by the instance that each leads to.
    connections: Mutex<BTreeMap<usize, Sender>>,
    tasks: std::sync::Mutex<JoinSet<()>>,
}

impl Client {
    pub(crate) fn new(host: MemoryHost, http: Http, began: Instant) -> Self {
        let tls = SITE.client_tls(http.alpn());
        let (connections, tasks) = (Mutex::default(), std::sync::Mutex::default());
        Self { host, http, tls, began, connections, tasks }
    }

    /// Asks each thing not before its time; over HTTP/1.1 one after the other.
    pub(crate) async fn run(self, asks: Vec<Ask>) -> Vec<Outcome> {
        if self.http == Http::One {
            let mut outcomes = Vec::new();
            for ask in asks {
                outcomes.push(self.see(ask).await);
            }
            return outcomes;
        }
        let client = Arc::new(self);
        let mut asked = JoinSet::new();
        for ask in asks {
            let client = Arc::clone(&client);
            asked.spawn(async move { client.see(ask).await });
        }
        asked.join_all().await
    }

    async fn see(&self, ask: Ask) -> Outcome {
        sleep_until(self.began + ask.at).await;
        let started = self.began.elapsed();
        let limit = ask.patience.unwrap_or(FOR_EVER);
        let seen = if let Ok(seen) = timeout(limit, self.ask(&ask)).await {
            seen
        } else {
            if self.http == Http::One {
                // Over HTTP/2 only the stream is given up.
                self.connections.lock().await.clear();
                let tasks = std::mem::take(&mut *self.tasks.lock().unwrap());
                drop(tasks);
            }
            if ask.patience.is_some() { Seen::Left } else { Seen::Never }
        };
        let took = self.began.elapsed().saturating_sub(started);
        Outcome { ask, http: self.http, seen, started, took }
    }

    async fn ask(&self, ask: &Ask) -> Seen {
        let Some((mut sender, is_new)) = self.connected(ask.instance).await else {
            return Seen::NotConnected;
        };
        let request = request(ask, self.http);
        let answer = match &mut sender {
            Sender::One(sender) => sender.send_request(request).await,
            Sender::Two(sender) => sender.send_request(request).await,
        };
        let Ok(answer) = answer else {
            return if is_new { Seen::NoAnswer } else { Seen::NoAnswerOnIdle };
        };
        let field =
            |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let (reason, site_id) = (field(header::REASON.as_str()), field("x-sim-id"));
        let status = answer.status().as_u16();
        if let Manner::ReadsLate(pause) = ask.manner {
            sleep(pause).await;
        }
        let (body, is_whole) = read(answer.into_body()).await;
        if is_whole && self.http == Http::One {
            self.connections.lock().await.insert(ask.instance, sender);
        }
        let site_id = site_id.map(|id| id.parse().unwrap());
        Seen::Answer { status, reason, site_id, body, is_whole }
    }

    /// The connection that is there, or a new one, and which it is.
    async fn connected(&self, instance: usize) -> Option<(Sender, bool)> {
        let mut connections = self.connections.lock().await;
        let mut there = connections.remove(&instance);
        connections.retain(|_, _| self.http == Http::Two);
        let is_ready = match &mut there {
            Some(Sender::One(sender)) => sender.ready().await.is_ok(),
            Some(Sender::Two(sender)) => sender.ready().await.is_ok(),
            None => false,
        };
        let sender = match there {
            Some(sender) if is_ready => sender,
            _ => self.connect(instance).await?,
        };
        if let Sender::Two(shared) = &sender {
            connections.insert(instance, Sender::Two(shared.clone()));
        }
        Some((sender, !is_ready))
    }

    async fn connect(&self, instance: usize) -> Option<Sender> {
        let stream = self.host.dial(&instance_host(instance), CLIENT_PORT).await.ok()?;
        let name = ServerName::try_from(SERVICE).unwrap();
        let stream = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await.ok()?;
        let io = TokioIo::new(stream);
        // How a connection ended is seen by the requests on it.
        Some(match self.http {
            Http::One => {
                let (sender, connection) = http1::handshake(io).await.ok()?;
                self.tasks.lock().unwrap().spawn(async move { drop(connection.await) });
                Sender::One(sender)
            }
            Http::Two => {
                let mut builder = http2::Builder::new(TokioExecutor::new());
                // A stream that is not read holds up no other of its own client.
                builder
                    .initial_stream_window_size(WINDOW)
                    .initial_connection_window_size(WINDOW * u32::try_from(ASKS_MAX).unwrap());
                let (sender, connection) = builder.handshake(io).await.ok()?;
                self.tasks.lock().unwrap().spawn(async move { drop(connection.await) });
                Sender::Two(sender)
            }
        })
    }
}

async fn read(mut body: Incoming) -> (Bytes, bool) {
    let mut octets = BytesMut::new();
    loop {
        match body.frame().await {
            None => return (octets.freeze(), true),
            Some(Err(_)) => return (octets.freeze(), false),
            Some(Ok(frame)) => octets.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new())),
        }
    }
}

/// The target behind the relay.
pub(crate) fn site_target(ask: &Ask) -> String {
    format!(
        "{}?id={}&think={}&answer={}&declares={}",
        ask.kind.path(),
        ask.id,
        ask.think.as_millis(),
        ask.answer,
        u8::from(ask.answer_declares),
    )
}

/// The octets that a request carries; those of its answer are others.
pub(crate) fn request_body(ask: &Ask) -> Bytes {
    octets(ask.id + 1000, ask.body.unwrap_or(0))
}

fn request(ask: &Ask, http: Http) -> Request<Body> {
    let target = format!("/CCM_Proxy_MutualAuth/{}{}", ask.role, site_target(ask));
    let request = Request::builder().method(ask.kind.verb());
    let mut request = match http {
        Http::One => request.uri(target).header("host", SERVICE),
        Http::Two => request.uri(format!("https://{SERVICE}{target}")),
    };
    if ask.forges {
        // RFC 9113, section 8.2.2: the first three cannot even be said over HTTP/2.
        let forged = [
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("x-forwarded-for", "203.0.113.9"),
            ("x-relay-device", "somebody"),
            ("x-ssl-client-cert", "another"),
        ];
        let forged = &forged[if http == Http::Two { 3 } else { 0 }..];
        request = forged.iter().fold(request, |to, (name, value)| to.header(*name, *value));
    }
    request.body(body(ask)).unwrap()
}

fn body(ask: &Ask) -> Body {
    match ask.body {
        None => empty(),
        Some(_) if ask.declares && !matches!(ask.manner, Manner::SendsLate(_)) => {
            full(request_body(ask))
        }
        Some(_) => pieces(request_body(ask), ask.manner),
    }
}

/// A body of no declared length.
fn pieces(whole: Bytes, manner: Manner) -> Body {
    let (sender, body) = fed();
    tokio::spawn(async move {
        for (number, piece) in whole.chunks(700).enumerate() {
            if let (1, Manner::SendsLate(pause)) = (number, manner) {
                sleep(pause).await;
            }
            if sender.send(Bytes::copy_from_slice(piece)).await.is_err() {
                return;
            }
        }
        // Its end.
        let _ = sender.send(Bytes::new()).await;
    });
    body
}

/// What the site answers to `ask`.
pub(crate) fn whole_answer(ask: &Ask) -> Bytes {
    let len = if ask.kind == Kind::Head { 0 } else { ask.answer };
    octets(ask.id, len)
}
