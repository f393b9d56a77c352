//! The session's HTTP client: real TLS over real sockets, one connection at a time in plain sight.
//!
//! No pool and no redirects: a step says which instance it speaks to and by which version, and gets
//! what came back. Every answer passes through [`MessageIds`].

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::ext::ReasonPhrase;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use relay_core::transport::Identity;
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::{MESSAGE_ID, Target};

/// Largest answer that a step reads whole, in octets: 4 MiB. Larger ones are streamed.
const REPLY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// HTTP/2 stream window, in octets: 1 MiB, so that a download is not held up by round trips.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;

/// HTTP/2 connection window, in octets: 4 MiB.
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// The version to speak with the gateway.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Version {
    Http11,
    Http2,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http11 => "1.1",
            Self::Http2 => "2",
        })
    }
}

/// One way to the site: an instance (counted from 0) and a version.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Lane {
    pub(super) instance: usize,
    pub(super) version: Version,
}

impl Lane {
    /// The instance's number in the domain, from 1.
    pub(super) fn instance_number(self) -> usize {
        self.instance + 1
    }
}

/// One request as a step words it; the connection adds what its version needs.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    verb: &'static str,
    target: String,
    headers: Vec<(&'static str, Vec<u8>)>,
    body: Bytes,
}

impl Ask {
    /// A request for `target`, a path with query.
    pub(super) fn new(verb: &'static str, target: impl Into<String>) -> Self {
        Self { verb, target: target.into(), headers: Vec::new(), body: Bytes::new() }
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }
}

/// An answer read whole.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    /// The reason phrase as sent, or the usual one; HTTP/2 has none.
    pub(super) phrase: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Reply {
    /// Status and phrase, as a table shows them.
    pub(super) fn line(&self) -> String {
        format!("{} {}", self.status.as_u16(), self.phrase).trim_end().to_owned()
    }

    /// A header as text; empty if absent or not text.
    pub(super) fn text(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Refuses any status but `expected`, saying what came instead.
    pub(super) fn expect(&self, expected: StatusCode) -> anyhow::Result<()> {
        let reason = self.text(super::REASON);
        anyhow::ensure!(
            self.status == expected,
            "expected {}, got {} {reason}",
            expected.as_u16(),
            self.line()
        );
        Ok(())
    }
}

/// Status and phrase of an answer whose body is not read whole.
pub(super) fn phrase<B>(answer: &Response<B>) -> String {
    let sent = answer.extensions().get::<ReasonPhrase>();
    match sent {
        Some(phrase) => String::from_utf8_lossy(phrase.as_bytes()).into_owned(),
        None => answer.status().canonical_reason().unwrap_or_default().to_owned(),
    }
}

/// What is known of the message ids of all answers.
#[derive(Debug, Default)]
pub(super) struct MessageIds {
    ids: HashSet<Vec<u8>>,
    answers: u64,
    missing: u64,
}

impl MessageIds {
    fn record(&mut self, headers: &HeaderMap) {
        self.answers += 1;
        match headers.get(MESSAGE_ID).filter(|id| is_guid(id.as_bytes())) {
            Some(id) => _ = self.ids.insert(id.as_bytes().to_vec()),
            None => self.missing += 1,
        }
    }

    /// Answers so far, those without an id, and those with an id that another answer had.
    pub(super) fn counts(&self) -> (u64, u64, u64) {
        let repeated = self.answers - self.missing - self.ids.len() as u64;
        (self.answers, self.missing, repeated)
    }
}

/// Whether `id` is 8-4-4-4-12 hexadecimal digits.
fn is_guid(id: &[u8]) -> bool {
    let groups: Vec<_> = id.split(|&octet| octet == b'-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.concat().iter().all(u8::is_ascii_hexdigit)
}

/// Opens connections to the relay under test.
#[derive(Clone)]
pub(super) struct Client {
    target: Target,
    http11: TlsConnector,
    http2: TlsConnector,
    /// Authorization of every request.
    token: Option<HeaderValue>,
    ids: Arc<Mutex<MessageIds>>,
}

/// What sets TLS up for HTTP/1.1 and for HTTP/2.
fn connectors(
    target: &Target,
    shown: Option<&Identity>,
) -> anyhow::Result<(TlsConnector, TlsConnector)> {
    let connector = |alpn: &[u8]| -> anyhow::Result<TlsConnector> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(Arc::clone(&target.roots));
        let mut tls = match shown {
            None => tls.with_no_client_auth(),
            Some(it) => tls.with_client_auth_cert(it.chain().to_vec(), it.key().clone_key())?,
        };
        tls.alpn_protocols = vec![alpn.to_vec()];
        Ok(TlsConnector::from(Arc::new(tls)))
    };
    Ok((connector(b"http/1.1")?, connector(b"h2")?))
}

impl Client {
    /// One that shows nothing of who it is.
    pub(super) fn new(target: &Target) -> anyhow::Result<Self> {
        let (http11, http2) = connectors(target, None)?;
        Ok(Self { target: target.clone(), http11, http2, token: None, ids: Arc::default() })
    }

    /// As this one, showing a certificate on each connection and a token with each request.
    pub(super) fn showing(&self, identity: &Identity, token: &str) -> anyhow::Result<Self> {
        let (http11, http2) = connectors(&self.target, Some(identity))?;
        let client = Self { http11, http2, ..self.clone() };
        client.with_token(token)
    }

    /// As this one, showing this token.
    pub(super) fn with_token(&self, token: &str) -> anyhow::Result<Self> {
        let mut token = HeaderValue::try_from(format!("Bearer {token}"))?;
        token.set_sensitive(true);
        Ok(Self { token: Some(token), ..self.clone() })
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    pub(super) fn instances(&self) -> usize {
        self.target.instances.len()
    }

    /// Every pair of instance and version, so that consecutive lanes differ in the instance, and in
    /// the version too while there are instances left.
    pub(super) fn lanes(&self) -> Vec<Lane> {
        let count = self.instances();
        let version = |n: usize| if n.is_multiple_of(2) { Version::Http11 } else { Version::Http2 };
        (0..2)
            .flat_map(|round| {
                (0..count)
                    .map(move |instance| Lane { instance, version: version(instance + round) })
            })
            .collect()
    }

    /// The `n`th lane, round and round.
    pub(super) fn lane(&self, n: usize) -> Lane {
        let lanes = self.lanes();
        lanes[n % lanes.len()]
    }

    /// The message ids of all answers so far.
    pub(super) fn message_ids(&self) -> (u64, u64, u64) {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).counts()
    }

    /// The URL path of `path` at the management point.
    pub(super) fn mp(&self, path: &str) -> String {
        format!("/CCM_Proxy_MutualAuth/{}{path}", self.target.mp_role)
    }

    /// The URL path of `path` at the software update point.
    pub(super) fn sup(&self, path: &str) -> String {
        format!("/CCM_Proxy_MutualAuth/{}{path}", self.target.sup_role)
    }

    /// Connects, shakes hands and checks the version agreed on.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a connection half made is closed.
    pub(super) async fn open(&self, lane: Lane) -> anyhow::Result<Connection> {
        let address = self.target.instances[lane.instance];
        let instance = lane.instance_number();
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("cannot connect to instance {instance} at {address}"))?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(self.target.host.clone())?;
        let (connector, alpn): (_, &[u8]) = match lane.version {
            Version::Http11 => (&self.http11, b"http/1.1"),
            Version::Http2 => (&self.http2, b"h2"),
        };
        let stream = connector.connect(name, stream).await.context("TLS handshake")?;
        let agreed = stream.get_ref().1.alpn_protocol();
        anyhow::ensure!(agreed == Some(alpn), "the gateway does not speak HTTP/{}", lane.version);

        let io = TokioIo::new(stream);
        let mut driver = JoinSet::new();
        // A connection that ends in an error has said so to whoever waited for an answer on it.
        let sender = match lane.version {
            Version::Http11 => {
                let (sender, connection) = http1::Builder::new().handshake(io).await?;
                driver.spawn(async { _ = connection.await });
                Sender::Http11(sender)
            }
            Version::Http2 => {
                let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                    .timer(TokioTimer::new())
                    .initial_stream_window_size(STREAM_WINDOW_BYTES)
                    .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                    .handshake(io)
                    .await?;
                driver.spawn(async { _ = connection.await });
                Sender::Http2(sender)
            }
        };
        let authority = format!("{}:{}", self.target.host, address.port());
        Ok(Connection {
            sender,
            authority,
            token: self.token.clone(),
            ids: Arc::clone(&self.ids),
            driver: Arc::new(driver),
        })
    }

    /// One request on a connection of its own, answered whole.
    pub(super) async fn call(&self, lane: Lane, ask: Ask) -> anyhow::Result<Reply> {
        self.open(lane).await?.call(ask).await
    }
}

/// One connection to a gateway instance. Dropping the last handle closes it.
pub(super) struct Connection {
    sender: Sender,
    authority: String,
    token: Option<HeaderValue>,
    ids: Arc<Mutex<MessageIds>>,
    /// Keeps the connection's task alive; the last handle to go ends it.
    driver: Arc<JoinSet<()>>,
}

enum Sender {
    Http11(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    /// Another handle on the same connection; `None` if its version allows one request at a time.
    pub(super) fn share(&self) -> Option<Self> {
        let Sender::Http2(sender) = &self.sender else {
            return None;
        };
        Some(Self {
            sender: Sender::Http2(sender.clone()),
            authority: self.authority.clone(),
            token: self.token.clone(),
            ids: Arc::clone(&self.ids),
            driver: Arc::clone(&self.driver),
        })
    }

    /// Sends a request and gives the answer with its body unread.
    pub(super) async fn send(&mut self, ask: Ask) -> anyhow::Result<Response<Incoming>> {
        let answer = match &mut self.sender {
            Sender::Http11(sender) => {
                sender.ready().await.context("connection closed")?;
                let mut request = request(&ask, self.token.as_ref(), ask.target.parse()?)?;
                request.headers_mut().insert(HOST, HeaderValue::try_from(&self.authority)?);
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                sender.ready().await.context("connection closed")?;
                let url = format!("https://{}{}", self.authority, ask.target);
                sender.send_request(request(&ask, self.token.as_ref(), url.parse()?)?).await
            }
        };
        let answer = answer.context("no answer")?;
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).record(answer.headers());
        Ok(answer)
    }

    /// Sends a request and reads the answer whole.
    pub(super) async fn call(&mut self, ask: Ask) -> anyhow::Result<Reply> {
        let http2 = matches!(self.sender, Sender::Http2(_));
        let answer = self.send(ask).await?;
        let phrase = if http2 { String::new() } else { phrase(&answer) };
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, REPLY_BYTES_MAX).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?;
        Ok(Reply { status: head.status, phrase, headers: head.headers, body: body.to_bytes() })
    }
}

fn request(
    ask: &Ask,
    token: Option<&HeaderValue>,
    uri: Uri,
) -> anyhow::Result<Request<Full<Bytes>>> {
    let mut request = Request::new(Full::new(ask.body.clone()));
    if let Some(token) = token {
        request.headers_mut().insert(AUTHORIZATION, token.clone());
    }
    *request.method_mut() = Method::from_bytes(ask.verb.as_bytes())?;
    *request.uri_mut() = uri;
    for (name, value) in &ask.headers {
        let name = HeaderName::from_bytes(name.as_bytes())?;
        request.headers_mut().append(name, HeaderValue::from_bytes(value)?);
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_guid_is_a_message_id() {
        assert!(is_guid(b"0f8fad5b-d9cb-469f-a165-70867728950e"));
        for other in
            ["", "-", "0f8fad5b-d9cb-469f-a165-70867728950", "0f8fad5bd9cb469fa16570867728950e"]
        {
            assert!(!is_guid(other.as_bytes()), "{other}");
        }
        assert!(!is_guid(b"0f8fad5b-d9cb-469f-a165-70867728950g"));
    }

    #[test]
    fn missing_and_repeated_message_ids_are_told_apart() {
        let mut ids = MessageIds::default();
        let mut headers = HeaderMap::new();
        ids.record(&headers);
        headers.insert(MESSAGE_ID, "0f8fad5b-d9cb-469f-a165-70867728950e".parse().unwrap());
        ids.record(&headers);
        ids.record(&headers);
        assert_eq!(ids.counts(), (3, 1, 1));
    }
}
