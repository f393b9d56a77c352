//! The life of one request at the connection point: decode, judge again, forward, answer.

use std::collections::HashMap;
use std::error::Error as _;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming as BackendBody;
use hyper::ext::ReasonPhrase;

use crate::body::{BodyReceiver, BodySender, ReceiveError, SendBodyError};
use crate::exchange::{AbortCode, AnswerHead, HeadLimits, MessageId, Origin, RequestHead};
use crate::link::{Incoming, RecvStream, SendStream};
use crate::mux::{HeadKind, StreamCode};
use crate::policy::{self, EndpointMap, Refusal};

use super::backend::Pool;
use super::config::ConnectionPointLimits;

/// What every request needs.
#[derive(Debug)]
pub(super) struct Forwarder {
    endpoints: EndpointMap,
    /// By role id.
    backends: HashMap<u64, Pool>,
    answer_within: Duration,
    head_limits: HeadLimits,
}

/// Why a request was not answered by the backend.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// Policy says no, at the site's end too.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// The endpoint has no backend; only a fault in the configuration's checks.
    #[error("the endpoint has no backend")]
    NoBackend,
    /// No connection to the backend.
    #[error("cannot connect to the backend: {0}")]
    Unreachable(String),
    /// The backend broke off, or what it sent is not HTTP.
    #[error("the backend broke off: {0}")]
    Broken(String),
    /// The backend did not answer in time.
    #[error("the backend did not answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    /// The backend's head does not fit in one head block.
    #[error("the backend's answer cannot be relayed: {0}")]
    Head(#[from] crate::exchange::EncodeError),
    /// The client, or the gateway, no longer waits.
    #[error("nobody waits for the answer any more")]
    Abandoned,
}

impl Failure {
    /// Status and reason; `None` if nobody is there to be told.
    fn answer(&self) -> Option<(StatusCode, String)> {
        let (status, reason) = match self {
            Self::Refused(refusal) => (refusal.status(), refusal.reason()),
            Self::NoBackend => (StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError"),
            Self::Unreachable(_) => (StatusCode::BAD_GATEWAY, "Backend_Unreachable"),
            Self::Broken(_) => (StatusCode::BAD_GATEWAY, "Bad_Gateway"),
            Self::Timeout(_) => (StatusCode::GATEWAY_TIMEOUT, "Timeout"),
            Self::Head(_) => (StatusCode::BAD_GATEWAY, "Answer_Head_Too_Large"),
            Self::Abandoned => return None,
        };
        Some((status, format!("CMGConnector_{reason}")))
    }
}

/// A request that policy lets pass, ready for its backend.
struct Judged<'a> {
    pool: &'a Pool,
    endpoint: &'a str,
    request: Request<BodyReceiver>,
    answer_within: Option<Duration>,
}

impl Forwarder {
    pub(super) fn new(
        endpoints: EndpointMap,
        backends: HashMap<u64, Pool>,
        limits: &ConnectionPointLimits,
    ) -> Self {
        let answer_within = limits.backend_answer;
        Self { endpoints, backends, answer_within, head_limits: HeadLimits::default() }
    }

    /// Forwards one stream's request and answers on it. Logs once, with the message id.
    pub(super) async fn serve(&self, incoming: Incoming) {
        let Incoming { id, head, mut send, recv } = incoming;
        let head = match RequestHead::decode(head, &self.head_limits) {
            Ok(head) => head,
            Err(why) => {
                tracing::warn!(stream = %id, %why, "request head refused");
                return send.reset(StreamCode(AbortCode::BadHead.to_wire()));
            }
        };
        let message_id = head.assertions.message_id;
        let method = head.method.clone();
        let path = head.target.path().to_owned();
        let outcome = self.forward(head, &mut send, recv).await;
        match outcome {
            Ok((response, endpoint)) => {
                let status = response.status().as_u16();
                tracing::info!(%message_id, %method, path, status, endpoint, "forwarded");
                self.relay_answer(response, send, message_id).await;
            }
            Err(failure) => {
                let answer = failure.answer();
                let status = answer.as_ref().map(|(status, _)| status.as_u16());
                tracing::info!(%message_id, %method, path, status, why = %failure, "not forwarded");
                match answer {
                    Some((status, reason)) => {
                        self.answer_here(&failure, status, reason, send).await;
                    }
                    None => send.reset(StreamCode(AbortCode::Cancelled.to_wire())),
                }
            }
        }
    }

    async fn forward<'a>(
        &'a self,
        head: RequestHead,
        send: &mut SendStream,
        recv: RecvStream,
    ) -> Result<(Response<BackendBody>, &'a str), Failure> {
        let judged = self.judge(head, recv)?;
        let asked = judged.pool.send(judged.request);
        let answered = async {
            match judged.answer_within {
                Some(limit) => tokio::time::timeout(limit, asked)
                    .await
                    .map_err(|_| Failure::Timeout(limit))?
                    .map_err(|error| backend_failure(&error)),
                None => asked.await.map_err(|error| backend_failure(&error)),
            }
        };
        tokio::select! {
            response = answered => Ok((response?, judged.endpoint)),
            // Dropping the request cancels it at the backend.
            _ = send.stopped() => Err(Failure::Abandoned),
        }
    }

    /// Judges the request as if no gateway had, and addresses it to its backend.
    fn judge(&self, head: RequestHead, recv: RecvStream) -> Result<Judged<'_>, Failure> {
        let RequestHead { method, target, mut headers, .. } = head;
        let route = self.endpoints.route(&method, &target)?;
        let declared = policy::declared_body_length(&headers)?;
        policy::check_body_length(route.endpoint, declared)?;
        policy::strip_request_headers(&mut headers)?;
        // The gateway's own name; the backend has another, which the client fills in.
        headers.remove(HOST);
        let answer_within = (!route.is_held()).then_some(self.answer_within);
        let pool = self.backends.get(&route.endpoint.role_id).ok_or(Failure::NoBackend)?;
        let uri = pool.uri(route.site_target).ok_or(Failure::NoBackend)?;
        let limit = route.endpoint.request_body_bytes_max;
        let mut request = Request::new(BodyReceiver::new(recv, declared).limited(limit));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(Judged { pool, endpoint: &route.endpoint.name, request, answer_within })
    }

    /// Sends the backend's answer, body and all.
    async fn relay_answer(
        &self,
        response: Response<BackendBody>,
        mut send: SendStream,
        message_id: MessageId,
    ) {
        let (parts, body) = response.into_parts();
        let end = body.is_end_stream();
        let block = match self.answer_block(parts) {
            Ok(block) => block,
            Err(why) => {
                tracing::warn!(%message_id, %why, "answer not relayed");
                let failure = Failure::Head(why);
                if let Some((status, reason)) = failure.answer() {
                    self.answer_here(&failure, status, reason, send).await;
                }
                return;
            }
        };
        let kind = if end { HeadKind::FinalAndEnd } else { HeadKind::Final };
        if send.send_head(block, kind).is_err() || end {
            return;
        }
        let mut sender = BodySender::new(body, send, None);
        // The next step waits for room or for the backend; a gateway that gives up ends either.
        if let Err(why) = sender.send_all_or_stopped().await {
            if let SendBodyError::Source(_) = why {
                sender.reset(AbortCode::BackendFailed);
            }
            tracing::info!(%message_id, %why, octets = sender.octets(), "answer cut");
        }
    }

    fn answer_block(
        &self,
        mut parts: http::response::Parts,
    ) -> Result<Bytes, crate::exchange::EncodeError> {
        policy::strip_answer_headers(&mut parts.headers);
        let phrase = parts.extensions.remove::<ReasonPhrase>();
        let mut head = AnswerHead {
            status: parts.status,
            reason: None,
            headers: parts.headers,
            origin: Origin::Site,
        };
        if let Some(phrase) = phrase {
            head = head.with_reason(Bytes::copy_from_slice(phrase.as_bytes()));
        }
        head.encode(&self.head_limits)
    }

    /// Answers instead of the backend.
    async fn answer_here(
        &self,
        failure: &Failure,
        status: StatusCode,
        reason: String,
        mut send: SendStream,
    ) {
        let text = Bytes::from(format!("{reason}\n{failure}\n"));
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
        if let Failure::Refused(refusal) = failure {
            refusal.add_answer_headers(&mut headers);
        }
        let reason = Some(Bytes::from(reason));
        let head = AnswerHead { status, reason, headers, origin: Origin::ConnectionPoint };
        let Ok(block) = head.encode(&self.head_limits) else {
            return send.reset(StreamCode(AbortCode::Internal.to_wire()));
        };
        // An error means that nobody waits for the answer any more.
        if send.send_head(block, HeadKind::Final).is_ok() && send.write_chunk(text).await.is_ok() {
            let _ = send.finish();
        }
    }
}

fn backend_failure(error: &hyper_util::client::legacy::Error) -> Failure {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(ReceiveError::TooLarge { limit }) = cause.downcast_ref() {
            return Refusal::BodyTooLarge { limit: *limit }.into();
        }
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    if error.is_connect() { Failure::Unreachable(text) } else { Failure::Broken(text) }
}
