//! Clients that ask as planned and keep what they saw.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Request;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use relay_core::gateway::header;
use relay_core::transport::memory::MemoryHost;
use relay_tests::site::{Body, empty, fed, full, octets};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsConnector;

use super::plan::{Ask, Kind};
use super::world::{CLIENT_PORT, ROLE, SERVICE, instance_host};

/// No request takes this long; only one that nobody ends does.
const FOR_EVER: Duration = Duration::from_mins(5);

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
    pub(crate) seen: Seen,
    /// Since the world began.
    pub(crate) started: Duration,
    pub(crate) took: Duration,
}

/// A client with its connections.
pub(crate) struct Client {
    host: MemoryHost,
    tls: Arc<ClientConfig>,
    began: Instant,
    /// To one instance.
    connection: Option<(usize, SendRequest<Body>)>,
    tasks: JoinSet<()>,
}

impl Client {
    pub(crate) fn new(host: MemoryHost, tls: Arc<ClientConfig>, began: Instant) -> Self {
        Self { host, tls, began, connection: None, tasks: JoinSet::new() }
    }

    /// Asks one thing after the other, each not before its time.
    pub(crate) async fn run(mut self, asks: Vec<Ask>) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for ask in asks {
            sleep_until(self.began + ask.at).await;
            let started = self.began.elapsed();
            let limit = ask.patience.unwrap_or(FOR_EVER);
            let seen = if let Ok(seen) = timeout(limit, self.ask(&ask)).await {
                seen
            } else {
                self.connection = None;
                self.tasks.shutdown().await;
                if ask.patience.is_some() { Seen::Left } else { Seen::Never }
            };
            let took = self.began.elapsed().saturating_sub(started);
            outcomes.push(Outcome { ask, seen, started, took });
        }
        outcomes
    }

    async fn ask(&mut self, ask: &Ask) -> Seen {
        let is_new = self.connection.as_ref().is_none_or(|(to, _)| *to != ask.instance);
        let Some(mut sender) = self.connected(ask.instance).await else {
            return Seen::NotConnected;
        };
        let Ok(answer) = sender.send_request(request(ask)).await else {
            return if is_new { Seen::NoAnswer } else { Seen::NoAnswerOnIdle };
        };
        let field =
            |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let (reason, site_id) = (field(header::REASON.as_str()), field("x-sim-id"));
        let status = answer.status().as_u16();
        let (body, is_whole) = read(answer.into_body()).await;
        if is_whole {
            self.connection = Some((ask.instance, sender));
        }
        let site_id = site_id.map(|id| id.parse().unwrap());
        Seen::Answer { status, reason, site_id, body, is_whole }
    }

    /// The connection that is there, or a new one.
    async fn connected(&mut self, instance: usize) -> Option<SendRequest<Body>> {
        if let Some((to, mut sender)) = self.connection.take()
            && to == instance
            && sender.ready().await.is_ok()
        {
            return Some(sender);
        }
        self.connect(instance).await
    }

    async fn connect(&mut self, instance: usize) -> Option<SendRequest<Body>> {
        let stream = self.host.dial(&instance_host(instance), CLIENT_PORT).await.ok()?;
        let name = ServerName::try_from(SERVICE).unwrap();
        let stream = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await.ok()?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        // How it ended is seen by the requests on it.
        self.tasks.spawn(async move { drop(connection.await) });
        Some(sender)
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

fn request(ask: &Ask) -> Request<Body> {
    let target = format!("/CCM_Proxy_MutualAuth/{ROLE}{}", site_target(ask));
    let mut request =
        Request::builder().method(ask.kind.verb()).uri(target).header("host", SERVICE);
    if ask.forges {
        let forged = [
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("x-forwarded-for", "203.0.113.9"),
            ("x-relay-device", "somebody"),
            ("x-ssl-client-cert", "another"),
        ];
        request = forged.into_iter().fold(request, |to, (name, value)| to.header(name, value));
    }
    request.body(body(ask)).unwrap()
}

fn body(ask: &Ask) -> Body {
    match ask.body {
        None => empty(),
        Some(_) if ask.declares => full(request_body(ask)),
        Some(_) => pieces(request_body(ask)),
    }
}

/// A body of no declared length.
fn pieces(whole: Bytes) -> Body {
    let (sender, body) = fed();
    tokio::spawn(async move {
        for piece in whole.chunks(700) {
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
