//! The life of one request at the gateway: judge, open a stream, send, wait for the answer's head.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument as _, Span};

use crate::auth;
use crate::balance::Outcome;
use crate::body::{BodyReceiver, BodySender, BoxError, SendBodyError};
use crate::exchange::{
    AnswerHead, Assertions, FieldNames, HeadLimits, MessageId, Origin, RequestHead, Tally,
    TraceContext,
};
use crate::link::{End, Head, RecvStream};
use crate::policy::{self, Endpoint, OwnAnswer};
use crate::settings::Settings;
use crate::transport::InForce;

use super::access::{Access, Client};
use super::answer::{self, AnswerBody, InFlight, InFlightGuard, Relayed};
use super::config::GatewayLimits;
use super::failure::Failure;
use super::halt::Halts;
use super::http2_places::Place;
use super::interim::Interims;
use super::judging;
use super::lines::Lines;
use super::meter::{Bearer, Metered};
use super::names;
use super::own::{self, Answerer};
use super::pace::Pace;
use super::pressure::{Memory, Pressure};
use super::proofs::Proofs;
use super::published::{Holding, Published};
use super::registry::{Attempt, Entry, Registry};
use super::replay::Replay;
use super::terms::Terms;

/// How often a request is sent again. More than the links that are likely to begin a drain, or to
/// be lost, at once; a connection point that refuses everything must not keep it for ever.
const RESENDS_MAX: u32 = 4;

/// What every request needs.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) settings: Published,
    pub(super) registry: Arc<Registry>,
    pub(super) lines: Lines,
    pub(super) in_flight: InFlight,
    pub(super) head_limits: HeadLimits,
    pub(super) answerer: Answerer,
    pub(super) memory: Memory,
    /// On whose behalf nobody is served.
    pub(super) halts: Halts,
    pub(super) tally: Arc<Tally>,
    /// What each method of authentication has found.
    pub(super) proofs: Proofs,
    /// By which requests are served that come now.
    pub(super) terms: InForce<Terms>,
}

/// A request that policy lets pass.
pub(super) struct Judged<'a> {
    /// By which it is served to its end, whatever is told meanwhile.
    limits: Arc<GatewayLimits>,
    endpoint: &'a Endpoint,
    /// The site that publishes it.
    pub(super) site: &'a str,
    /// Time to the answer's head; `None` for an exchange that is held open on purpose.
    answer_within: Option<Duration>,
    pub(super) head: Bytes,
    pub(super) end: End,
    is_head: bool,
    /// Whether a backend may see it twice.
    is_repeatable: bool,
    /// Where interim answers go, if its client can be sent them.
    interims: Option<Interims>,
    /// Its place on its client's connection, which each stream that carries it holds as well.
    place: Option<Place>,
}

/// A stream that carries a request.
struct Sent<B> {
    request: Option<BodySender<Replay<B>>>,
    /// The request's body once it is through, or the stream takes no more of it.
    spent: Option<Replay<B>>,
    answer: RecvStream,
    /// Whether anything of an answer came.
    answered: bool,
    /// When the request was sent, or more of its body.
    moved_at: Instant,
    pace: Pace,
    via: Entry,
    attempt: Attempt,
}

/// The head of an answer that makes sense.
struct Understood {
    head: AnswerHead,
    body_length: Option<u64>,
}

/// What became of a request so far.
#[derive(Debug, Default)]
pub(super) struct Tries {
    /// When it was sent first: its deadline runs from then on.
    first_sent: Option<Instant>,
    /// How often it was sent again.
    again: u32,
    /// Whether a link was lost under it. That link takes no streams any more.
    pub(super) lost: bool,
}

impl Relay {
    /// Relays one request, or answers why not. The access log has it once, when it has ended.
    pub(super) async fn handle<B>(&self, request: Request<B>) -> Response<AnswerBody<B>>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        let message_id = new_message_id();
        let mut access = Access::begin(&request, message_id);
        let guard = self.in_flight.enter();
        let (mut parts, body) = request.into_parts();
        if let Some(hop) = access.trace() {
            hop.tell(&mut parts.headers);
        }
        let span = span(message_id, access.trace());
        let answered = if let Err(failure) = self.admit() {
            Err(failure)
        } else if let Some(alone) = self.answer_alone(&parts, message_id, &mut access).await {
            alone.inspect(|response| access.note_own(response.status()))
        } else {
            let relayed = self.relay(parts, body, message_id, guard, &mut access);
            relayed.instrument(span).await
        };
        let mut response = match answered {
            Ok(response) => response,
            Err(failure) => return refuse_of(&failure, access, message_id, &self.tally),
        };
        response.body_mut().log_to(access);
        response.body_mut().count_in(Arc::clone(&self.tally));
        response
    }

    /// Judges whether one more request is served, and whether there is memory for it. Before
    /// clients are asked who they are, for that costs memory, too.
    fn admit(&self) -> Result<(), Failure> {
        self.halts.check()?;
        match self.memory.pressure() {
            Pressure::Calm => Ok(()),
            Pressure::Refuse | Pressure::Pause => Err(Failure::OutOfMemory),
        }
    }

    /// Answers what the instance is asked about itself; `None` if it is asked to relay.
    async fn answer_alone<B>(
        &self,
        request: &http::request::Parts,
        message_id: MessageId,
        access: &mut Access,
    ) -> Option<Result<Response<AnswerBody<B>>, Failure>> {
        let target = request.uri.path_and_query()?;
        let asked = OwnAnswer::of(&request.method, target).transpose()?;
        let answered = async {
            judging::check_host(&request.uri, &request.headers)?;
            let value = match asked? {
                OwnAnswer::Content => return self.content(request, message_id, access).await,
                OwnAnswer::TenantInfo { tenant } => self.tenant_info(tenant).await?,
                _ => self.service_metadata(),
            };
            Ok(own::answer(&value, message_id, request.method == Method::HEAD))
        };
        Some(answered.await)
    }

    fn service_metadata(&self) -> serde_json::Value {
        self.answerer.service_metadata(&self.settings.current(), &self.registry)
    }

    async fn tenant_info(&self, tenant: Option<&str>) -> Result<serde_json::Value, Failure> {
        let id = own::tenant_id(tenant);
        // What is no tenant's id, nobody is going to publish.
        let is_known = |settings: &Settings| id.is_none_or(|id| settings.tenant(id).is_some());
        let settings = self.settings_for(is_known).await;
        if id.is_some() {
            self.check_told(&settings)?;
        }
        own::tenant_info(&settings, tenant)
    }

    async fn relay<B>(
        &self,
        parts: http::request::Parts,
        body: B,
        message_id: MessageId,
        guard: InFlightGuard,
        access: &mut Access,
    ) -> Result<Response<AnswerBody<B>>, Failure>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        let end = if body.is_end_stream() { End::NoPayload } else { End::More };
        // One and the same from here to the answer, however often it is sent.
        let settings = self.settings_for(|settings| is_published(settings, &parts)).await;
        let judged = self.judge(&settings, parts, message_id, end, access)?;
        let mut body = Some(Replay::new(body)).filter(|_| end == End::More);
        let mut tries = Tries::default();
        loop {
            let mut sent = self.send(&judged, body, &tries).await?;
            let since = *tries.first_sent.get_or_insert(sent.moved_at);
            let via = sent.via.clone();
            access.note_sent(&via, tries.again);
            let answered = self.await_answer(&mut sent, &judged, since, access).await;
            match answered.and_then(|block| self.understand(block)) {
                Ok(understood) => {
                    let latency = judged.answer_within.map(|_| sent.moved_at.elapsed());
                    sent.attempt.settle(outcome_of(&understood.head, latency));
                    note_answer(access, &understood.head);
                    return Ok(answer(understood, sent, &judged, message_id, guard));
                }
                Err(failure) => {
                    sent.attempt.settle(tries.outcome(&failure, &via));
                    body = tries.again(&judged, sent, failure)?;
                }
            }
            tracing::info!(
                %message_id, link = via.number, connection_point = &*via.name,
                "lost or refused; sent again"
            );
        }
    }

    /// Judges the request and writes the head that the connection point will judge again.
    fn judge<'a>(
        &self,
        settings: &'a Holding,
        parts: http::request::Parts,
        message_id: MessageId,
        end: End,
        access: &mut Access,
    ) -> Result<Judged<'a>, Failure> {
        let mut headers = parts.headers;
        let names = parts.extensions.get::<FieldNames>().cloned();
        let interims = parts.extensions.get::<Interims>().cloned();
        let place = parts.extensions.get::<Place>().cloned();
        let told = || self.check_told(settings);
        let (target, route) = judging::routed(settings, &parts.method, parts.uri, &headers, told)?;
        let (endpoint, waits) = (route.endpoint, route.is_held());
        let site = settings.site_of(endpoint.role_id).unwrap_or_default();
        let metered = settings.meter(endpoint.role_id);
        let metered = metered.map(|meter| Metered::begin(meter, bearer_of(&headers)));
        access.note_endpoint(endpoint, site, metered);
        let certificate = match endpoint.access {
            policy::Access::Anonymous => None,
            policy::Access::Clients(allowed) => {
                let client = parts.extensions.get::<Client>();
                self.identify((site, &route, allowed), &headers, client, access)?
            }
        };
        judging::pass(endpoint, &mut headers)?;
        let backend_answer = settings.backend_answer(endpoint.role_id);
        let limits = Arc::clone(&self.terms.get().limits);
        let answer_within = (!waits).then(|| limits.answer_within(backend_answer));
        let mut assertions = Assertions::new(message_id);
        assertions.answer_within = answer_within;
        assertions.names = names;
        assertions.certificate = certificate;
        let is_head = parts.method == Method::HEAD;
        let is_repeatable = end == End::NoPayload && is_repeatable(&parts.method);
        let request = RequestHead { method: parts.method, target, headers, assertions };
        let head = names::encode(request, &self.head_limits)?;
        Ok(Judged {
            limits,
            endpoint,
            site,
            answer_within,
            head,
            end,
            is_head,
            is_repeatable,
            interims,
            place,
        })
    }

    /// Judges whether anybody has told what is published.
    pub(super) fn check_told(&self, settings: &Settings) -> Result<(), Failure> {
        if !settings.documents().is_empty() {
            return Ok(());
        }
        // Who tells what is published is who would be asked for it.
        let is_alone = self.registry.all().is_empty();
        Err(if is_alone { Failure::NoConnector } else { Failure::NoSettings })
    }

    /// Opens a stream on the first link that has one free, and hands it the request.
    async fn send<B>(
        &self,
        judged: &Judged<'_>,
        body: Option<Replay<B>>,
        tries: &Tries,
    ) -> Result<Sent<B>, Failure>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        let (send, answer, via) = match self.open(judged, tries).await {
            // Not that no other link takes it: the site may have acted on it.
            Err(_) if tries.lost => return Err(Failure::LinkLost),
            opened => opened?,
        };
        if let Some(place) = &judged.place {
            send.keep(place.kept());
        }
        // Without a body the end travelled with the opening: the half has nothing left to do.
        let limit = judged.endpoint.request_body_bytes_max;
        let listed = || judged.endpoint.request_headers.clone();
        let request = body.map(|body| BodySender::new(body, send, limit).listing(listed()));
        let (moved_at, attempt) = (Instant::now(), via.attempt());
        let pace = Pace::new(&judged.limits);
        Ok(Sent { request, spent: None, answer, answered: false, moved_at, pace, via, attempt })
    }

    /// What is published. An instance that has just started waits for it as for its first link,
    /// and for that of other sites too while nobody has published what is asked for.
    pub(super) async fn settings_for(
        &self,
        is_published: impl Fn(&Settings) -> bool,
    ) -> Arc<Holding> {
        let credit = self.terms.get().limits.link_credit;
        loop {
            let mut told = pin!(self.settings.told());
            told.as_mut().enable();
            let settings = self.settings.current();
            let until = if settings.documents().is_empty() {
                Some(self.registry.is_awaited_until(credit))
            } else {
                self.settings.began().map(|began| began + credit)
            };
            let awaited = until.filter(|until| Instant::now() < *until);
            let Some(until) = awaited.filter(|_| !is_published(&settings)) else {
                return settings;
            };
            if timeout_at(until, told).await.is_err() {
                return self.settings.current();
            }
        }
    }

    /// Moves the request's body until the answer's head arrives. The deadline, which runs from
    /// `since`, starts anew whenever the body has moved on: a long upload is not a slow answer.
    async fn await_answer<B>(
        &self,
        sent: &mut Sent<B>,
        judged: &Judged<'_>,
        since: Instant,
        access: &mut Access,
    ) -> Result<Bytes, Failure>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        let mut moved_at = since;
        loop {
            let step = match Self::patience(sent, judged, moved_at) {
                None => next_step(sent, access).await,
                Some((until, failure)) => match timeout_at(until, next_step(sent, access)).await {
                    Ok(step) => step,
                    // Dropping the stream's halves tells the connection point to give up too.
                    Err(_) => return Err(failure),
                },
            };
            match step? {
                Step::Head(head) if !head.interim => return Ok(head.block),
                Step::Head(head) => {
                    sent.answered = true;
                    if let Some(interims) = &judged.interims {
                        interims.put(head.block, &self.head_limits);
                    }
                }
                Step::Moved => {
                    moved_at = Instant::now();
                    sent.moved_at = moved_at;
                }
            }
        }
    }

    /// Until when nothing need happen, and what it is if nothing does. A client that is waited for
    /// has its time in an exchange that is held open too.
    fn patience<B>(
        sent: &Sent<B>,
        judged: &Judged<'_>,
        moved_at: Instant,
    ) -> Option<(Instant, Failure)>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        let within = judged.answer_within;
        if !sent.request.as_ref().is_some_and(BodySender::waits_for_source) {
            return within.map(|limit| (moved_at + limit, Failure::Timeout(limit)));
        }
        let stall = judged.limits.body_stall;
        let limit = within.map_or(stall, |it| it.min(stall));
        let stalled = (moved_at + limit, Failure::ClientStalled(limit));
        let slow = || Failure::ClientSlow(sent.pace.rate_min());
        let paced = sent.pace.left().map(|left| (Instant::now() + left, slow()));
        Some(paced.filter(|(until, _)| *until < stalled.0).unwrap_or(stalled))
    }

    /// Reads the head of an answer.
    fn understand(&self, block: Bytes) -> Result<Understood, Failure> {
        let head = AnswerHead::decode(block, &self.head_limits);
        let mut head = head.map_err(|error| Failure::BadAnswer(error.to_string()))?;
        if head.status.is_informational() {
            // A final head never has such a status, and HTTP has no way to show it as one.
            return Err(Failure::BadAnswer(format!("status {}", head.status.as_u16())));
        }
        policy::strip_answer_headers(&mut head.headers);
        let body_length = policy::declared_body_length(&head.headers);
        let body_length = body_length.map_err(|error| Failure::BadAnswer(error.to_string()))?;
        Ok(Understood { head, body_length })
    }
}

/// Answers what is no request.
pub(super) fn refuse<B>(
    failure: &Failure,
    client: Client,
    tally: &Tally,
) -> Response<AnswerBody<B>> {
    let message_id = new_message_id();
    refuse_of(failure, Access::of_nothing(Some(client), message_id), message_id, tally)
}

/// Answers a request that is not looked at.
pub(super) fn refuse_request<A, B>(
    failure: &Failure,
    client: Client,
    request: &Request<A>,
    tally: &Tally,
) -> Response<AnswerBody<B>> {
    let message_id = new_message_id();
    refuse_of(failure, Access::of_client(client, request, message_id), message_id, tally)
}

fn refuse_of<B>(
    failure: &Failure,
    mut access: Access,
    message_id: MessageId,
    tally: &Tally,
) -> Response<AnswerBody<B>> {
    access.note_failure(failure);
    let mut response = failure.response(message_id, tally);
    if has_no_body(response.status(), access.is_head()) {
        response = response.map(|_| AnswerBody::none());
    }
    response.body_mut().log_to(access);
    response
}

/// Notes an answer, with its reason if that is the connection point's: a backend's phrase may say
/// anything.
fn note_answer(access: &mut Access, head: &AnswerHead) {
    let is_own = head.origin == Origin::ConnectionPoint;
    access.note_answer(head.status, head.reason.as_deref().filter(|_| is_own));
}

/// Turns the site's head into the client's.
fn answer<B>(
    understood: Understood,
    sent: Sent<B>,
    judged: &Judged<'_>,
    message_id: MessageId,
    in_flight: InFlightGuard,
) -> Response<AnswerBody<B>>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let Understood { head, body_length } = understood;
    let mut sent = sent;
    if let Some(request) = &mut sent.request {
        // It is answered: there is no again.
        request.body_mut().release();
    }
    let body = if has_no_body(head.status, judged.is_head) {
        AnswerBody::none()
    } else {
        AnswerBody::relayed(Relayed {
            answer: BodyReceiver::new(sent.answer, body_length),
            request: sent.request,
            up: None,
            stall: judged.answer_within,
            waiting: None,
            pace: sent.pace,
            waited_since: None,
            slow: None,
            _in_flight: (in_flight, sent.attempt),
        })
    };
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    let (reason, phrase) = match head.origin {
        Origin::ConnectionPoint => (head.reason, None),
        _ => (None, head.reason),
    };
    answer::mark(&mut response, message_id, reason);
    if let Some(phrase) = phrase {
        answer::show_phrase(&mut response, phrase);
    }
    response
}

/// What an answer tells about the link that it came over. A connection point that cannot connect to
/// a backend, or has none, may be the only one. A backend that broke off or was slow would have
/// been so for another, and what policy refuses there is for both configurations to agree upon.
fn outcome_of(head: &AnswerHead, latency: Option<Duration>) -> Outcome {
    if head.origin != Origin::ConnectionPoint {
        return Outcome::Answered { latency };
    }
    match head.reason.as_deref() {
        Some(
            b"CMGConnector_Backend_Unreachable"
            | b"CMGConnector_Backend_Untrusted"
            | b"CMGConnector_Backend_Wrong_Name"
            | b"CMGConnector_Clientcertificaterequired"
            | b"CMGConnector_InternalServerError",
        ) => Outcome::Failed,
        _ => Outcome::Inconclusive,
    }
}

impl Tries {
    /// What the last failure tells about the link that it happened on.
    fn outcome(&self, failure: &Failure, via: &Entry) -> Outcome {
        match failure.outcome() {
            // Others used up a part of its time.
            _ if matches!(failure, Failure::Timeout(_)) && self.again > 0 => Outcome::Inconclusive,
            // A drain refuses what comes too late for it, and is nobody's fault.
            Outcome::Refused if !via.link.is_open() => Outcome::Inconclusive,
            outcome => outcome,
        }
    }

    /// The one rule of re-sending: a request goes out again if it was never looked at, or if it
    /// changes nothing, its link was lost, and nothing of an answer came. Returns the body to send
    /// with it, or the failure if it must not, or cannot, be sent again.
    fn again<B>(
        &mut self,
        judged: &Judged<'_>,
        sent: Sent<B>,
        failure: Failure,
    ) -> Result<Option<Replay<B>>, Failure>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        if sent.answered || self.again == RESENDS_MAX {
            return Err(failure);
        }
        match failure {
            Failure::Aborted(code) if code.is_never_processed() => {
                let body = sent.request.map(BodySender::into_body).or(sent.spent);
                let body = body.and_then(Replay::rewind);
                if judged.end == End::More && body.is_none() {
                    return Err(failure);
                }
                self.again += 1;
                Ok(body)
            }
            Failure::LinkLost if judged.is_repeatable => {
                self.again += 1;
                self.lost = true;
                Ok(None)
            }
            _ => Err(failure),
        }
    }
}

/// Whether a request with this verb and no body may reach a backend twice.
fn is_repeatable(method: &Method) -> bool {
    matches!(method.as_str(), "GET" | "HEAD" | "PROPFIND")
}

/// Whether a request shows a bearer token, whatever it is worth.
pub(super) fn bearer_of(headers: &HeaderMap) -> Bearer {
    let fields = headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes);
    if matches!(auth::bearer(fields), Ok(Some(_))) { Bearer::Shown } else { Bearer::Absent }
}

/// Whether some site has published what a request asks for. What is no path is judged later.
fn is_published(settings: &Settings, request: &http::request::Parts) -> bool {
    let Some(target) = request.uri.path_and_query() else { return true };
    let route = settings.endpoints().route(&request.method, target);
    !matches!(route, Err(policy::Refusal::NotPublished))
}

/// Whether an answer has no body whatever it declares and whatever comes behind its head: over
/// HTTP/2 nothing else keeps such octets from the client, which must take them for a broken answer.
// RFC 9110, section 6.4.1.
fn has_no_body(status: StatusCode, is_head: bool) -> bool {
    is_head || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// What ended one wait for the answer's head.
enum Step {
    Head(Head),
    /// Some of the request's body went on.
    Moved,
}

async fn next_step<B>(sent: &mut Sent<B>, access: &mut Access) -> Result<Step, Failure>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let Sent { request, spent, answer, pace, .. } = sent;
    let is_awaited = request.as_ref().is_some_and(BodySender::waits_for_source);
    let (before, since) = (request.as_ref().map_or(0, BodySender::octets), Instant::now());
    let mut octets = before;
    let step = poll_fn(|cx| {
        let moved = poll_request(request, spent, access, cx)?;
        octets = request.as_ref().map_or(octets, BodySender::octets);
        match answer.poll_head(cx) {
            Poll::Ready(Ok(head)) => Poll::Ready(Ok(Step::Head(head))),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            Poll::Pending if moved => Poll::Ready(Ok(Step::Moved)),
            Poll::Pending => Poll::Pending,
        }
    });
    let step = step.await;
    if is_awaited {
        pace.waited(since.elapsed());
    }
    pace.came(octets - before);
    step
}

/// Moves what can be moved of the request's body. Returns whether anything did.
fn poll_request<B>(
    request: &mut Option<BodySender<Replay<B>>>,
    spent: &mut Option<Replay<B>>,
    access: &mut Access,
    cx: &mut Context<'_>,
) -> Result<bool, Failure>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let Some(sender) = request else { return Ok(false) };
    let before = sender.steps();
    let outcome = sender.poll_send(cx);
    access.note_up(sender.octets());
    let Poll::Ready(outcome) = outcome else { return Ok(sender.steps() != before) };
    *spent = request.take().map(BodySender::into_body);
    match outcome {
        // Stopped: the answer is on its way. Reset: the answer's half says why.
        Ok(()) | Err(SendBodyError::Stream(_)) => Ok(true),
        Err(error) => Err(Failure::ClientBody(error)),
    }
}

/// What lines about one request have in common, for whoever looks so closely.
fn span(message_id: MessageId, trace: Option<TraceContext>) -> Span {
    let trace_id = trace.map(|hop| tracing::field::display(hop.trace_id()));
    let span_id = trace.map(|hop| tracing::field::display(hop.span_id()));
    tracing::debug_span!("relay", %message_id, trace_id, span_id)
}

/// It names a request and guards nothing, so that a generator of the thread's own serves, without a
/// system call.
pub(super) fn new_message_id() -> MessageId {
    MessageId::from_random(fastrand::u128(..))
}
