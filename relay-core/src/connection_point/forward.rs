//! The life of one request at the connection point: decode, judge again, forward, answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, RETRY_AFTER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Uri};
use http_body::Body;
use hyper::body::Incoming as BackendBody;
use hyper::ext::ReasonPhrase;
use tracing::{Instrument as _, Span};

use crate::body::{BodyReceiver, BodySender, BoxError, ReceiveError, SendBodyError};
use crate::exchange::{
    AbortCode, AnswerHead, FieldNames, HeadLimits, MessageId, Origin, ProvenCertificate,
    RequestHead, Tally, TraceContext,
};
use crate::http1::Fault;
use crate::link::{Incoming, RecvStream, SendStream};
use crate::mux::{HeadKind, StreamCode};
use crate::policy::{self, EndpointKind, EndpointMap, Refusal};

use super::backend::{Busy, Place, causes, with_causes};
use super::backend_config::BackendConfig;
use super::backend_pipe::{Misread, NAMES};
use super::backend_tls::{TlsFault, fault_in};
use super::backends::{Asked, Backends, Order, Unanswered};
use super::counted;
use super::interim::Interims;
use super::traced::Traced;
use super::upload::{LastMove, Unsent};

/// Tells the token service of the certificate whose key its client has proven to have; never what a
/// client says itself, which policy drops. Only the service within this process is told: whoever
/// else a connection reaches could not know who says so.
// RFC 9440, section 2.2.
const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");

/// What every request needs.
#[derive(Debug)]
pub(super) struct Forwarder {
    endpoints: EndpointMap,
    /// By role id; in an order of their own, so that they are also let go of in one order.
    backends: BTreeMap<u64, Arc<Backends>>,
    head_limits: HeadLimits,
    tally: Arc<Tally>,
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
    /// Every backend that can be asked has as many requests as it may.
    #[error("{0}")]
    Busy(Busy),
    /// The two ends do not agree on who is there.
    #[error("{0}")]
    Tls(TlsFault),
    /// The backend broke off, or what it sent is not HTTP.
    #[error("the backend broke off: {0}")]
    Broken(String),
    /// The backend answers what could be read in two ways, or what nobody asked.
    #[error("{0}")]
    BadAnswer(Misread),
    /// The request cannot be written in HTTP/1.1 so that it has one reading.
    #[error("the request cannot be sent on: {0}")]
    BadRequest(Fault),
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
            Self::Busy(_) => (StatusCode::SERVICE_UNAVAILABLE, "Backend_Busy"),
            Self::Tls(fault) => fault.answer(),
            Self::Broken(_) => (StatusCode::BAD_GATEWAY, "Bad_Gateway"),
            Self::BadAnswer(_) => (StatusCode::BAD_GATEWAY, "Bad_Answer"),
            Self::BadRequest(fault) => (fault.status(), fault.reason()),
            Self::Timeout(_) => (StatusCode::GATEWAY_TIMEOUT, "Timeout"),
            Self::Head(_) => (StatusCode::BAD_GATEWAY, "Answer_Head_Too_Large"),
            Self::Abandoned => return None,
        };
        Some((status, format!("CMGConnector_{reason}")))
    }

    /// What the client may read. The log has the rest: names, addresses and certificates inside the
    /// site are none of a client's business.
    fn told(&self) -> String {
        match self {
            Self::Unreachable(_) => "cannot connect to the backend".to_owned(),
            Self::Broken(_) => "the backend broke off".to_owned(),
            Self::Tls(fault) => fault.told().to_owned(),
            other => other.to_string(),
        }
    }
}

/// A request that policy lets pass, ready for its backend.
struct Judged<'a> {
    backends: &'a Backends,
    endpoint: &'a str,
    order: Order,
    answer_within: Option<Duration>,
}

/// A backend's answer on its way back.
struct Answered<'a> {
    response: Response<BackendBody>,
    endpoint: &'a str,
    backend: &'a Uri,
    /// How long the rest of the answer may stand still.
    stall: Option<Duration>,
    /// Kept until the answer is over.
    _place: Place,
}

impl Forwarder {
    pub(super) fn new(
        endpoints: EndpointMap,
        backends: BTreeMap<u64, Arc<Backends>>,
        tally: Arc<Tally>,
    ) -> Self {
        Self { endpoints, backends, head_limits: HeadLimits::default(), tally }
    }

    /// What was counted.
    pub(super) fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// The backends of the endpoint with this role id and name, if they are those of `config`.
    pub(super) fn kept(
        &self,
        role_id: u64,
        name: &str,
        config: &BackendConfig,
    ) -> Option<Arc<Backends>> {
        self.backends.get(&role_id).filter(|backends| backends.is_to(name, config)).cloned()
    }

    /// The backends of the endpoint with this role id.
    pub(super) fn backends_of(&self, role_id: u64) -> Option<&Backends> {
        self.backends.get(&role_id).map(Arc::as_ref)
    }

    /// The backends of each endpoint.
    pub(super) fn backends(&self) -> impl Iterator<Item = &Arc<Backends>> {
        self.backends.values()
    }

    /// Forwards one stream's request and answers on it. Logs once, with the message id.
    pub(super) async fn serve(&self, incoming: Incoming) {
        let Incoming { id, head, mut send, recv } = incoming;
        let mut head = match RequestHead::decode(head, &self.head_limits) {
            Ok(head) => head,
            Err(why) => {
                tracing::warn!(stream = %id, %why, "request head refused");
                return send.reset(StreamCode(AbortCode::BadHead.to_wire()));
            }
        };
        let message_id = head.assertions.message_id;
        let (parent, hop) = continue_trace(&mut head.headers);
        let span = span(message_id, parent, hop);
        let hops = parent.zip(hop);
        self.serve_head(head, hops, send, recv).instrument(span).await;
    }

    async fn serve_head(
        &self,
        head: RequestHead,
        hops: Option<(TraceContext, TraceContext)>,
        mut send: SendStream,
        recv: RecvStream,
    ) {
        let message_id = head.assertions.message_id;
        let method = head.method.clone();
        let path = policy::visible_path(head.target.path()).into_owned();
        let trace_id = hops.map(|(_, hop)| tracing::field::display(hop.trace_id()));
        let span_id = hops.map(|(_, hop)| tracing::field::display(hop.span_id()));
        let mut traced = Traced::begin(message_id, hops, (&method, &path));
        let outcome = self.forward(head, &mut send, recv).await;
        match outcome {
            Ok(answered) => {
                let (status, endpoint) = (answered.response.status().as_u16(), answered.endpoint);
                let backend = answered.backend;
                tracing::info!(
                    %message_id, trace_id, span_id, %method, path, status, endpoint, %backend,
                    "forwarded"
                );
                traced.note_answer(endpoint, status);
                if self.relay_answer(answered, send, message_id).await {
                    traced.note_whole();
                }
            }
            Err(failure) => {
                let answer = failure.answer();
                let status = answer.as_ref().map(|(status, _)| status.as_u16());
                tracing::info!(
                    %message_id, trace_id, span_id, %method, path, status, why = %failure,
                    "not forwarded"
                );
                traced.note_failure(status);
                if let Some((status, reason)) = answer {
                    self.answer_here(&failure, status, reason, send).await;
                } else {
                    self.tally.note(counted::ABANDONED);
                    send.reset(StreamCode(AbortCode::Cancelled.to_wire()));
                }
            }
        }
    }

    async fn forward<'a>(
        &'a self,
        head: RequestHead,
        send: &mut SendStream,
        recv: RecvStream,
    ) -> Result<Answered<'a>, Failure> {
        let judged = self.judge(head, recv)?;
        let Judged { backends, endpoint, order, answer_within } = judged;
        let (asked, last_move) = (Asked::default(), order.last_move.clone());
        let interims = order.interims.clone();
        let exchange = backends.send(order, &asked);
        let answered = async {
            let outcome = match answer_within {
                Some(limit) => last_move.in_time(limit, exchange).await.ok_or_else(|| {
                    if backends.timed_out(&asked, &last_move) {
                        return Failure::Timeout(limit);
                    }
                    unanswered(Unanswered::Busy(Busy::TooLong(limit)))
                })?,
                None => exchange.await,
            };
            outcome.map_err(unanswered)
        };
        // Dropping the request cancels it at the backend.
        let answer = interims.relay_until(answered, send, &self.head_limits).await;
        let answer = answer.ok_or(Failure::Abandoned)??;
        let (response, backend) = (answer.response, answer.backend);
        if response.status().is_informational() {
            // Nobody asked to switch protocols, and no other interim status ends an exchange.
            let text = format!("status {} ends no exchange", response.status().as_u16());
            return Err(Failure::Broken(text));
        }
        Ok(Answered { response, endpoint, backend, stall: answer_within, _place: answer.place })
    }

    /// Judges the request as if no gateway had, and addresses it to its backend.
    fn judge(&self, head: RequestHead, recv: RecvStream) -> Result<Judged<'_>, Failure> {
        let RequestHead { method, target, mut headers, assertions } = head;
        let route = self.endpoints.route(&method, &target)?;
        let declared = policy::declared_body_length(&headers)?;
        policy::check_body_length(route.endpoint, declared)?;
        policy::strip_request_headers(&mut headers)?;
        route.endpoint.strip_request_headers(&mut headers);
        // The gateway's own name; the backend has another, which the client fills in.
        headers.remove(HOST);
        if let Some(names) = assertions.names.as_ref().and_then(as_value) {
            headers.insert(NAMES, names);
        }
        let backends = self.backends.get(&route.endpoint.role_id).ok_or(Failure::NoBackend)?;
        if route.endpoint.kind == EndpointKind::TokenService
            && backends.config().local_service().is_some()
            && let Some(certificate) = &assertions.certificate
        {
            headers.insert(CLIENT_CERT, client_cert(certificate));
        }
        let answer_within = backends.pools().first().map(|pool| pool.limits().answer);
        let answer_within = answer_within.filter(|_| !route.is_held());
        let limit = route.endpoint.request_body_bytes_max;
        let listed = route.endpoint.request_headers.clone();
        let body = BodyReceiver::new(recv, declared).limited(limit).listing(listed);
        let is_empty = body.is_end_stream();
        match declared {
            // Of verbs that rarely have a body, such as GET, the client would leave it out.
            None if !is_empty => {
                headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
            // RFC 9110, section 8.6: servers want to be told so of verbs that mostly have one, and
            // some answer 411 otherwise. The client may have told so by other means.
            None if method.as_str().ends_with("POST") => {
                headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
            }
            _ => {}
        }
        let (target, body, last_move) = (route.site_target, Unsent::of(body), LastMove::now());
        let interims = Interims::default();
        let is_repeatable = is_empty && matches!(method.as_str(), "GET" | "HEAD" | "PROPFIND");
        let order = Order { method, target, headers, body, last_move, interims, is_repeatable };
        Ok(Judged { backends, endpoint: &route.endpoint.name, order, answer_within })
    }

    /// Sends the backend's answer, body and all. Returns whether all of it was.
    async fn relay_answer(
        &self,
        answered: Answered<'_>,
        mut send: SendStream,
        message_id: MessageId,
    ) -> bool {
        let Answered { response, stall, _place, .. } = answered;
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
                return false;
            }
        };
        let kind = if end { HeadKind::FinalAndEnd } else { HeadKind::Final };
        let is_told = send.send_head(block, kind).is_ok();
        if !is_told || end {
            return is_told;
        }
        let sender = BodySender::new(body, send, None);
        let mut sender = sender.on_source_failure(AbortCode::BackendFailed);
        let unsent = counted::Unsent::of(&self.tally);
        let outcome = send_body(&mut sender, stall).await;
        unsent.end(outcome.as_ref().err().map(Cut::counted));
        if let Err(why) = &outcome {
            let why = why.text();
            tracing::info!(%message_id, why, octets = sender.octets(), "answer cut");
        }
        outcome.is_ok()
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
        self.tally.note(&reason);
        let text = Bytes::from(format!("{reason}\n{}\n", failure.told()));
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
        if let Failure::Refused(refusal) = failure {
            refusal.add_answer_headers(&mut headers);
        }
        if let Failure::Busy(_) = failure {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
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

/// Takes the next place in the trace that `headers` are part of, if they are, and tells the backend
/// of it. Returns the gateway's and this one's.
fn continue_trace(headers: &mut HeaderMap) -> (Option<TraceContext>, Option<TraceContext>) {
    let parent = TraceContext::of(headers);
    let hop = parent.map(|parent| parent.continued(fastrand::u64(1..)));
    if let Some(hop) = hop {
        hop.tell(headers);
    }
    (parent, hop)
}

/// What lines about one request have in common, for whoever looks so closely.
fn span(message_id: MessageId, parent: Option<TraceContext>, hop: Option<TraceContext>) -> Span {
    let trace_id = hop.map(|hop| tracing::field::display(hop.trace_id()));
    let span_id = hop.map(|hop| tracing::field::display(hop.span_id()));
    let parent_id = parent.map(|parent| tracing::field::display(parent.span_id()));
    tracing::debug_span!("forward", %message_id, trace_id, span_id, parent_id)
}

/// Why an answer's body was cut.
#[derive(Debug, thiserror::Error)]
enum Cut {
    #[error(transparent)]
    Send(#[from] SendBodyError),
    /// The stream has been reset.
    #[error("the backend sent nothing for {} s", .0.as_secs_f32())]
    Stalled(Duration),
}

impl Cut {
    /// What it is counted as.
    fn counted(&self) -> &'static str {
        match self {
            Self::Send(SendBodyError::Stream(_)) => counted::CUT_BY_GATEWAY,
            Self::Send(_) | Self::Stalled(_) => counted::CUT_BY_SITE,
        }
    }

    /// What happened, with its causes.
    fn text(&self) -> String {
        match self {
            Self::Send(SendBodyError::Source(error)) => with_causes(&**error),
            other => other.to_string(),
        }
    }
}

/// Sends a body whose source may stand still for at most `stall`. While the gateway has no room the
/// delay is not the source's; a gateway that gives up ends the wait.
async fn send_body<B>(sender: &mut BodySender<B>, stall: Option<Duration>) -> Result<(), Cut>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let Some(stall) = stall else { return Ok(sender.send_all_or_stopped().await?) };
    loop {
        let before = sender.steps();
        if let Ok(sent) = tokio::time::timeout(stall, sender.send_all_or_stopped()).await {
            return Ok(sent?);
        }
        if sender.steps() == before && sender.waits_for_source() {
            sender.reset(AbortCode::BackendTimeout);
            return Err(Cut::Stalled(stall));
        }
    }
}

/// The certificate as a byte sequence of a structured field: RFC 9440, section 2.1.
fn client_cert(certificate: &ProvenCertificate) -> HeaderValue {
    let value = format!(":{}:", STANDARD.encode(certificate.as_bytes()));
    HeaderValue::try_from(value).expect("base64 between colons is always a value")
}

/// For the pipe to the backend, which takes it out again.
fn as_value(names: &FieldNames) -> Option<HeaderValue> {
    // Names are always a value.
    HeaderValue::from_maybe_shared(names.as_bytes().clone()).ok()
}

fn unanswered(why: Unanswered) -> Failure {
    let failed = match why {
        Unanswered::Nowhere => return Failure::NoBackend,
        Unanswered::Busy(busy) => return Failure::Busy(busy),
        Unanswered::Failed(failed) => failed,
    };
    let error = &failed.error;
    for cause in causes(error) {
        if let Some(ReceiveError::TooLarge { limit }) = cause.downcast_ref() {
            return Refusal::BodyTooLarge { limit: *limit }.into();
        }
        match Misread::of(cause) {
            Some(Misread::Request(fault)) => return Failure::BadRequest(fault),
            Some(misread) => return Failure::BadAnswer(misread),
            None => {}
        }
    }
    let text = with_causes(error);
    match fault_in(error, failed.asked_in_vain) {
        Some(fault) => Failure::Tls(fault),
        None if error.is_connect() => Failure::Unreachable(text),
        None => Failure::Broken(text),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use super::*;
    use crate::link::{self, End, RecvError};
    use crate::mux::{Config, Side};

    /// A backend's body that sends one chunk and then neither more nor its end.
    struct Hanging(Option<Bytes>);

    impl Body for Hanging {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
            match self.0.take() {
                Some(chunk) => Poll::Ready(Some(Ok(http_body::Frame::data(chunk)))),
                None => Poll::Pending,
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_stands_still_is_cut_and_never_looks_complete() {
        let config = Config { open_streams_max: 8, ..Config::default() };
        let (near, far) = tokio::io::duplex(1024);
        let (gateway, driver) = link::new(near, Side::Listener, config.clone()).unwrap();
        let (site, site_driver) = link::new(far, Side::Dialer, config).unwrap();
        tokio::spawn(driver);
        tokio::spawn(site_driver);
        let head = Bytes::from_static(b"head");
        let (_send, mut answer) = gateway.open(head.clone(), End::NoPayload).await.unwrap();
        let mut incoming = site.accept().await.unwrap();
        incoming.send.send_head(head, HeadKind::Final).unwrap();
        let body = Hanging(Some(Bytes::from_static(b"half")));
        let mut sender = BodySender::new(body, incoming.send, None);
        let stall = Duration::from_secs(20);
        let sent = send_body(&mut sender, Some(stall));
        let sent = tokio::time::timeout(stall * 3, sent).await.expect("an end");
        assert!(matches!(sent, Err(Cut::Stalled(_))), "{sent:?}");
        answer.head().await.unwrap();
        assert_eq!(answer.read_chunk().await.unwrap().unwrap(), "half");
        let code = StreamCode(AbortCode::BackendTimeout.to_wire());
        assert_eq!(answer.read_chunk().await, Err(RecvError::Reset(code)));
    }

    /// Status and reason of the rows that say that the connection point answers.
    fn table() -> BTreeSet<(String, String)> {
        let rows = include_str!("../gateway/ANSWERS.md").lines().filter_map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let is_here = cells.get(2).is_some_and(|by| by.starts_with("connection point"));
            is_here.then(|| (cells[0].to_owned(), cells[1].trim_matches('`').to_owned()))
        });
        rows.collect()
    }

    #[test]
    fn the_table_of_answers_has_every_answer_of_the_connection_point_and_no_other() {
        let name = HOST;
        let refusals = [
            Refusal::NotPublished,
            Refusal::VerbNotAllowed { allowed: &["GET"] },
            Refusal::UnsafePath(policy::UnsafePath::EmptySegment),
            Refusal::BodyTooLarge { limit: 1 },
            Refusal::BadHeader { name, fault: policy::HeaderFault::NotAList },
        ];
        let head = crate::exchange::EncodeError::HeadTooLong { octets: 2, limit: 1 };
        let mut all = vec![
            Failure::NoBackend,
            Failure::Unreachable(String::new()),
            Failure::Broken(String::new()),
            Failure::Timeout(Duration::ZERO),
            Failure::Head(head),
            Failure::Abandoned,
            Failure::BadAnswer(Misread::Unasked),
            Failure::Busy(Busy::LineFull(1)),
        ];
        all.extend(TlsFault::each().map(Failure::Tls));
        // What HTTP/2 can say, and HTTP/1.1 cannot.
        all.extend([Fault::Target, Fault::Expectation].map(Failure::BadRequest));
        all.extend(refusals.map(Failure::Refused));
        // A new variant does not compile before somebody has looked here.
        let place = |failure: &Failure| match failure {
            Failure::NoBackend => 0,
            Failure::Unreachable(_) => 1,
            Failure::Broken(_) => 2,
            Failure::Timeout(_) => 3,
            Failure::Head(_) => 4,
            Failure::Abandoned => 5,
            Failure::Refused(_) => 6,
            Failure::BadAnswer(_) => 7,
            Failure::BadRequest(_) => 8,
            Failure::Busy(_) => 9,
            Failure::Tls(_) => 10,
        };
        assert_eq!(all.iter().map(place).collect::<BTreeSet<_>>(), (0..11).collect());
        let told = all.iter().filter_map(Failure::answer);
        let told = told.map(|(status, reason)| (status.as_str().to_owned(), reason));
        let told: BTreeSet<_> = told.collect();
        let counted = counted::NAMES.into_iter().filter(|name| name.starts_with("CMGConnector_"));
        assert!(counted.eq(told.iter().map(|(_, reason)| reason).collect::<BTreeSet<_>>()));
        assert_eq!(table(), told);
    }

    #[test]
    fn a_client_is_told_nothing_about_the_inside_of_the_site() {
        let secret = || "10.1.2.3:443: certificate of mp01.corp.example".to_owned();
        let tls = TlsFault::WrongName(secret());
        for failure in
            [Failure::Unreachable(secret()), Failure::Broken(secret()), Failure::Tls(tls)]
        {
            assert!(failure.to_string().contains("10.1.2.3"), "the log has it");
            assert!(!failure.told().contains("10.1.2.3"), "{}", failure.told());
        }
    }
}
