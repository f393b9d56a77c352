//! One GET, bounded in time and octets.
//!
//! A connection of its own each time, which ends with it: a source is fetched once a day. HTTP/1.1,
//! no web proxy, no compression, no cookies. The certificate of a server is judged by the anchors
//! that were given; nothing looks at the machine's own store.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, CONTENT_ENCODING, ETAG, HOST, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
    LOCATION, USER_AGENT,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::transport::{ConnectError, Network, secure};

use super::address::{Address, AddressFault, Plain};

/// For all of a GET, from the name's resolution to the last octet.
// Source: the site's design, "Tokens": 15 s.
pub(super) const GET_WITHIN: Duration = Duration::from_secs(15);

/// Octets of an answer's head, and what is read at once, at most.
const HEAD_OCTETS_MAX: usize = 64 << 10;

/// Fields of an answer's head, at most.
const FIELDS_MAX: usize = 100;

/// Octets of a value that is given back to the server, at most.
const VALIDATOR_OCTETS_MAX: usize = 1024;

/// What a server has called its answer, for asking only for a newer one. RFC 9110, section 8.8.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Validators {
    tag: Option<HeaderValue>,
    modified: Option<HeaderValue>,
}

/// What a GET has brought.
#[derive(Debug)]
pub(super) enum Got {
    New {
        octets: Vec<u8>,
        validators: Validators,
    },
    /// The server has nothing newer than what it was told.
    Unchanged,
}

/// Why a GET has brought nothing. What was held before is still held.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GetError {
    /// The server cannot be reached, or is not: the network, or the address.
    #[error("{0}; is the address right, and is it open for this machine?")]
    Unreachable(String),
    /// The server does not prove to be the one of the address: the server, or the anchors given.
    #[error("{0}; is the authority of its certificate among those that are trusted for fetching?")]
    Tls(String),
    /// It has taken too long; the server, or a filter on the way.
    #[error("not all of the answer came within {} s", GET_WITHIN.as_secs())]
    Timeout,
    /// The server has broken off, or does not speak HTTP.
    #[error("the exchange broke off: {0}")]
    Broken(String),
    /// The server sends elsewhere.
    // Our choice: no redirect is followed, not even within the origin. Trust is in the address as
    // it was written down; what stands elsewhere was named by whoever answers there, and may be
    // inside the instance's own network.
    #[error("the answer is {status} to {to}; no redirect is followed, give that address itself")]
    Redirect {
        /// The answer's status.
        status: u16,
        /// Where to, without its query; "nowhere" if that cannot be said.
        to: String,
    },
    /// The server answers otherwise than 200.
    #[error("the answer is {0}, not 200; is this still published there?")]
    Status(u16),
    /// The answer is compressed, though nobody has asked for it.
    #[error("the answer is compressed, which was not asked for; have the server leave it")]
    Encoded,
    /// The answer exceeds what may come from there.
    #[error("the answer exceeds {octets_max} octets: this is not what is published there")]
    TooLong {
        /// How many may come.
        octets_max: usize,
    },
}

impl From<ConnectError> for GetError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Tls(_) | ConnectError::BadName(_) => Self::Tls(error.to_string()),
            other => Self::Unreachable(other.to_string()),
        }
    }
}

impl From<hyper::Error> for GetError {
    fn from(error: hyper::Error) -> Self {
        let source = std::error::Error::source(&error);
        let source = source.map(|source| format!(": {source}")).unwrap_or_default();
        Self::Broken(format!("{error}{source}"))
    }
}

/// Makes GETs over one network with one trust.
#[derive(Clone, Debug)]
pub(super) struct Getter {
    pub(super) network: Network,
    pub(super) tls: Arc<ClientConfig>,
}

impl Getter {
    /// Fetches what is at an address: `octets_max` octets at most, and nothing if the server says
    /// that it has nothing newer than `known`.
    ///
    /// # Errors
    ///
    /// [`GetError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the connection.
    pub(super) async fn get(
        &self,
        from: &Address,
        octets_max: usize,
        known: &Validators,
    ) -> Result<Got, GetError> {
        let all = self.get_in_any_time(from, octets_max, known);
        timeout(GET_WITHIN, all).await.unwrap_or(Err(GetError::Timeout))
    }

    async fn get_in_any_time(
        &self,
        from: &Address,
        octets_max: usize,
        known: &Validators,
    ) -> Result<Got, GetError> {
        let request = request(from, known)?;
        let socket = self.network.connect(from.host(), from.port()).await?;
        if !from.is_tls() {
            return speak(socket, request, octets_max).await;
        }
        let pipe = secure(socket, from.host(), Arc::clone(&self.tls)).await?;
        speak(pipe, request, octets_max).await
    }
}

fn request(to: &Address, known: &Validators) -> Result<Request<Empty<Bytes>>, GetError> {
    let mut request = Request::get(to.target())
        .header(HOST, to.authority())
        .header(ACCEPT, "*/*")
        .header(USER_AGENT, concat!("relay/", env!("CARGO_PKG_VERSION")))
        .body(Empty::new())
        .map_err(|error| GetError::Broken(error.to_string()))?;
    let fields = [(IF_NONE_MATCH, &known.tag), (IF_MODIFIED_SINCE, &known.modified)];
    for (name, value) in fields {
        if let Some(value) = value {
            request.headers_mut().insert(name, value.clone());
        }
    }
    Ok(request)
}

async fn speak<P>(
    pipe: P,
    request: Request<Empty<Bytes>>,
    octets_max: usize,
) -> Result<Got, GetError>
where
    P: AsyncRead + AsyncWrite + Unpin,
{
    let has_asked_for_newer = request.headers().contains_key(IF_NONE_MATCH)
        || request.headers().contains_key(IF_MODIFIED_SINCE);
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_OCTETS_MAX).max_headers(FIELDS_MAX);
    let (mut sender, connection) = builder.handshake(TokioIo::new(pipe)).await?;
    let exchange = async move {
        let answer = sender.send_request(request).await?;
        read(answer, has_asked_for_newer, octets_max).await
    };
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        biased;
        got = &mut exchange => got,
        // The exchange knows better how it has ended, and what has come is still there.
        _ = connection => exchange.await,
    }
}

async fn read(
    answer: Response<Incoming>,
    has_asked_for_newer: bool,
    octets_max: usize,
) -> Result<Got, GetError> {
    let (head, mut body) = answer.into_parts();
    match head.status {
        StatusCode::OK => {}
        StatusCode::NOT_MODIFIED if has_asked_for_newer => return Ok(Got::Unchanged),
        status if status.is_redirection() && head.headers.contains_key(LOCATION) => {
            let to = head.headers.get(LOCATION).and_then(|to| to.to_str().ok());
            let to = to.and_then(|to| Address::read(to, Plain::Anywhere).ok());
            let to = to.map_or_else(|| "nowhere".to_owned(), |to| to.to_string());
            return Err(GetError::Redirect { status: status.as_u16(), to });
        }
        status => return Err(GetError::Status(status.as_u16())),
    }
    if head.headers.get(CONTENT_ENCODING).is_some_and(|it| it != "identity") {
        return Err(GetError::Encoded);
    }
    let too_long = GetError::TooLong { octets_max };
    if body.size_hint().lower() > octets_max as u64 {
        return Err(too_long);
    }
    let mut octets = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(chunk) = frame?.into_data() else { continue };
        if octets.len() + chunk.len() > octets_max {
            return Err(too_long);
        }
        octets.extend_from_slice(&chunk);
    }
    Ok(Got::New { octets, validators: Validators::of(&head.headers) })
}

impl Validators {
    fn of(headers: &HeaderMap) -> Self {
        let field = |name: HeaderName| {
            let short = |value: &&HeaderValue| value.len() <= VALIDATOR_OCTETS_MAX;
            headers.get(name).filter(short).cloned()
        };
        Self { tag: field(ETAG), modified: field(LAST_MODIFIED) }
    }
}

impl From<AddressFault> for GetError {
    fn from(fault: AddressFault) -> Self {
        Self::Unreachable(fault.to_string())
    }
}
