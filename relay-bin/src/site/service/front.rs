//! The service over HTTP/1.1: what is read of a request, and how the answer is written.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::decide::{Asked, Door, Issued, Way, thumbprint};
use super::office::Office;
use super::possession::client_certificate;
use super::rate::{Asking, Rates, Source};
use super::refusal::Refusal;
use super::tally::Tally;

/// What bounds the work for others. Each has a counter among the refusals.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Requests at a time, over all connections of one way.
    pub(super) in_flight_max: usize,
    /// Octets of a body.
    pub(super) body_bytes_max: usize,
    /// For the head of a request on the site's own network.
    pub(super) head_time: Duration,
    /// For the rest of a request, until its answer.
    pub(super) request_time: Duration,
    pub(super) rates: Rates,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            in_flight_max: 64,
            body_bytes_max: 64 * 1024,
            head_time: Duration::from_secs(10),
            // Above the 5 s that the store waits for another process.
            request_time: Duration::from_secs(15),
            rates: Rates::default(),
        }
    }
}

/// How a connection has come.
#[derive(Clone, Debug)]
pub(super) enum From {
    /// From the connection point in this process, for whom it speaks to.
    ConnectionPoint,
    /// From the site's own network, with the certificate that was shown in TLS.
    Intranet(Source, Option<Vec<u8>>),
}

/// What all connections share.
#[derive(Debug)]
pub(super) struct Front {
    limits: Limits,
    office: Office,
    pub(super) tally: Arc<Tally>,
    over_gateways: Lane,
    on_intranet: Lane,
    began: Instant,
}

/// What connections of one way share, and those of the other have for themselves: whoever floods
/// the site's own network, where nobody is asked who he is, takes nothing from clients of gateways.
#[derive(Debug)]
struct Lane {
    places: Semaphore,
    asking: Mutex<Asking<Source>>,
}

impl Lane {
    fn new(limits: Limits) -> Self {
        let asking = Mutex::new(Asking::new(limits.rates));
        Self { places: Semaphore::new(limits.in_flight_max), asking }
    }

    fn may_ask(&self, source: Source, now: Duration) -> bool {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner).admit(source, now)
    }
}

impl Front {
    pub(super) fn new(office: Office, limits: Limits, tally: Arc<Tally>) -> Self {
        Self {
            office,
            tally,
            over_gateways: Lane::new(limits),
            on_intranet: Lane::new(limits),
            began: Instant::now(),
            limits,
        }
    }

    /// Serves a connection to its end. Once `stopping` has ended, one on which nothing has been
    /// asked is closed, and others end with their answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cuts the connection; see [`Office::ask`] for what is under way.
    pub(super) async fn serve(
        self: Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        from: From,
        stopping: impl Future<Output = ()>,
    ) {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).max_buf_size(64 * 1024);
        match &from {
            // It is in this process, keeps its connections, and has limits of its own.
            From::ConnectionPoint => http.header_read_timeout(None),
            // Clients ask once in a month: no connection waits for a second request.
            From::Intranet(..) => http.keep_alive(false).header_read_timeout(self.limits.head_time),
        };
        let service = service_fn(|request| {
            let (front, from) = (Arc::clone(&self), from.clone());
            async move { Ok::<_, Infallible>(front.answer(request, &from).await) }
        });
        let mut served = pin!(http.serve_connection(TokioIo::new(stream), service));
        // A connection that breaks is the other side's matter: it asks again.
        tokio::select! {
            _ = served.as_mut() => return,
            () = stopping => served.as_mut().graceful_shutdown(),
        }
        let _ = served.await;
    }

    async fn answer(&self, request: Request<Incoming>, from: &From) -> Response<Full<Bytes>> {
        match self.given(request, from).await {
            Ok((door, issued)) => {
                self.tally.issued(door);
                answer(StatusCode::OK, &json!(issued))
            }
            Err(refusal) => {
                self.tally.refused(&refusal);
                refused(&refusal)
            }
        }
    }

    async fn given(
        &self,
        request: Request<Incoming>,
        from: &From,
    ) -> Result<(Door, Issued), Refusal> {
        let door = door(request.uri().path()).ok_or(Refusal::NotFound)?;
        if !matches!(request.method().as_str(), "CCM_POST" | "POST") {
            return Err(Refusal::Verb);
        }
        if is_longer(&request, self.limits.body_bytes_max) {
            return Err(Refusal::TooLarge);
        }
        let (lane, source, way) = match from {
            From::ConnectionPoint => {
                let shown = request.headers().get(AUTHORIZATION);
                let shown = shown.map_or(&b""[..], HeaderValue::as_bytes);
                let way = Way::Gateway(client_certificate(request.headers()));
                (&self.over_gateways, Source::Credential(thumbprint(shown)), way)
            }
            From::Intranet(source, certificate) => {
                (&self.on_intranet, *source, Way::Intranet(certificate.clone()))
            }
        };
        // Before the body, which it bounds: of one way no more are read at a time than begin in
        // [`Limits::request_time`], 500 by default, 32 MiB at most.
        if !lane.may_ask(source, self.began.elapsed()) {
            return Err(Refusal::SlowDown);
        }
        let work = async {
            let (head, body) = request.into_parts();
            let body = Limited::new(body, self.limits.body_bytes_max).collect().await;
            let body = body.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
                Some(_) => Refusal::TooLarge,
                None => Refusal::NoBody,
            })?;
            let body = body.to_bytes().to_vec();
            // Once it is all there: whoever sends it slowly keeps nobody from a place.
            let _place = lane.places.try_acquire().map_err(|_| Refusal::Busy)?;
            let (address, head) = (source.address(), head.headers);
            self.office.ask(Asked { door, way, address, head, body }).await
        };
        let issued = timeout(self.limits.request_time, work).await;
        issued.unwrap_or(Err(Refusal::Late)).map(|issued| (door, issued))
    }
}

/// Which door a path leads to: `CCM_STS/register` in any case, with whatever a gateway has in front
/// of it or without.
fn door(path: &str) -> Option<Door> {
    let mut segments = path.rsplit('/');
    let (last, service) = (segments.next()?, segments.next()?);
    let rest: Vec<_> = segments.collect();
    let is_mapped = match rest[..] {
        [""] => true,
        [role, mapping, ""] => {
            let is_id = !role.is_empty() && role.bytes().all(|it| it.is_ascii_digit());
            let names = ["CCM_Proxy_ServerAuth", "CCM_Proxy_MutualAuth"];
            is_id && names.iter().any(|name| name.eq_ignore_ascii_case(mapping))
        }
        _ => false,
    };
    let doors =
        [("register", Door::Register), ("renew", Door::Renew), ("exchange", Door::Exchange)];
    let found = doors.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(last));
    let is_service = service.eq_ignore_ascii_case("CCM_STS");
    found.filter(|_| is_service && is_mapped).map(|(_, door)| door)
}

/// Whether the head says so: then nothing of the body is read.
fn is_longer(request: &Request<Incoming>, max: usize) -> bool {
    let told = request.headers().get(CONTENT_LENGTH).and_then(|it| it.to_str().ok());
    told.and_then(|it| it.parse::<u64>().ok()).is_some_and(|it| it > max as u64)
}

fn refused(refusal: &Refusal) -> Response<Full<Bytes>> {
    let (status, detail) = (refusal.status(), refusal.to_string());
    let mut answer = answer(status, &json!({ "error": refusal.code(), "detail": detail }));
    let mut put = |name: HeaderName, value: HeaderValue| {
        answer.headers_mut().insert(name, value);
    };
    if let Some(seconds) = refusal.retry_after() {
        put(RETRY_AFTER, HeaderValue::from(seconds));
    }
    // RFC 9110, sections 15.5.2 and 15.5.6.
    if status == StatusCode::UNAUTHORIZED {
        put(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        put(ALLOW, HeaderValue::from_static("CCM_POST, POST"));
    }
    answer
}

fn answer(status: StatusCode, said: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::from(said.to_string()));
    *answer.status_mut() = status;
    let head = answer.headers_mut();
    head.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // RFC 6749, section 5.1: what holds a token is kept nowhere on the way.
    head.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

#[cfg(test)]
mod tests;
