//! The access log: one line for each request, when it has ended.
//!
//! Lines have the target `relay::access` and the level info. They never show what may hold a
//! secret: no header but the trace id, and the path without its query, in which clients of this
//! kind send signatures and tokens. Of a grant of content they show what it is for.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Method, Request, StatusCode, Version};
use rustls::pki_types::CertificateDer;
use tokio::time::Instant;

use crate::auth::{Finding, Guid, Trail};
use crate::body::{ReceiveError, SendBodyError};
use crate::content::{FileName, PackageId, SignedGrant};
use crate::exchange::{MessageId, SPANS, TraceContext};
use crate::link::RecvError;
use crate::policy::{Endpoint, visible_path};

use super::failure::Failure;
use super::meter::{Answerer, Metered, Outcome};
use super::registry::Entry;
use super::traffic::CONTENT;

/// How a client has shown who it is that nobody has asked.
const NOBODY: &str = "none";

/// Who sends the requests of a connection; each request carries it as an extension.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) address: SocketAddr,
    pub(super) slowness: Slowness,
    /// The certificates that it has shown in TLS, its own first; whose key it has.
    pub(super) chain: Arc<[CertificateDer<'static>]>,
}

impl Client {
    /// A client that has shown no certificate.
    pub(super) fn new(address: SocketAddr, slowness: Slowness) -> Self {
        Self { address, slowness, chain: Arc::default() }
    }

    /// As this one, with what it has shown in TLS.
    pub(super) fn showing(self, chain: Option<&[CertificateDer<'static>]>) -> Self {
        Self { chain: chain.map(Arc::from).unwrap_or_default(), ..self }
    }
}

/// Whether the client of a connection was given up because it took nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Slowness(Arc<AtomicBool>);

impl Slowness {
    pub(super) fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_noted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ended {
    /// All of the answer was handed to the client's connection.
    Complete,
    /// The client went away, or broke off its request.
    ClientGone,
    /// The client sent nothing of its request, or took nothing of the answer, for too long.
    ClientTooSlow,
    /// The site, or the connection point, gave no answer that makes sense, or not all of one.
    SiteBrokeOff,
    /// Content that the gateway holds could not be read to its end.
    StoreBrokeOff,
    /// The link was lost under it.
    LinkLost,
    /// The gateway answered by itself, before anything was sent over a link.
    RefusedHere,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Complete => "complete",
            Self::ClientGone => "client gone",
            Self::ClientTooSlow => "client too slow",
            Self::SiteBrokeOff => "site broke off",
            Self::StoreBrokeOff => "store broke off",
            Self::LinkLost => "link lost",
            Self::RefusedHere => "refused here",
        })
    }
}

impl Ended {
    /// By a failure, which the gateway has answered.
    fn by(failure: &Failure) -> Self {
        match failure {
            Failure::LinkLost => Self::LinkLost,
            Failure::Aborted(_) | Failure::BadAnswer(_) | Failure::Timeout(_) => Self::SiteBrokeOff,
            Failure::HeadTooSlow(_) | Failure::ClientStalled(_) | Failure::ClientSlow(_) => {
                Self::ClientTooSlow
            }
            Failure::ClientBody(SendBodyError::Source(_)) if !failure.is_malformed() => {
                Self::ClientGone
            }
            _ => Self::RefusedHere,
        }
    }
}

/// What is known of a request. Writes its line when it is dropped.
#[derive(Debug)]
pub(super) struct Access {
    message_id: MessageId,
    client: Option<Client>,
    request: Option<Asked>,
    begun: Instant,
    endpoint: Option<(String, String)>,
    /// The content that it asks for, as the grant says that it shows.
    granted: Option<Granted>,
    /// Where it is counted, if it is for an endpoint.
    metered: Option<Metered>,
    /// What was found of who the client is, where that was asked.
    found: Option<Trail>,
    via: Option<(u64, Arc<str>)>,
    /// Time to the stream, and to the head of the answer.
    opened: Option<Duration>,
    answered: Option<Duration>,
    status: Option<StatusCode>,
    reason: Option<String>,
    why: Option<String>,
    /// Where the client was sent for the file, without a query.
    redirected_to: Option<String>,
    /// How often it was sent again.
    again: u32,
    /// Octets of the request's body that went on to the site, the last time it was sent.
    up: u64,
    /// Octets of the answer's body that went on to the client.
    down: u64,
    ended: Option<Ended>,
}

/// What a grant is for: the permission itself is a secret.
#[derive(Debug)]
struct Granted {
    package: PackageId,
    file: Option<FileName>,
    client: Guid,
}

/// What was asked for.
#[derive(Debug)]
struct Asked {
    version: Version,
    method: Method,
    /// Without the query, and as a log may show it.
    path: String,
    /// The client's place in the trace that it says its request is part of, and this gateway's.
    hops: Option<(TraceContext, TraceContext)>,
}

impl Access {
    /// A request has come.
    pub(super) fn begin<B>(request: &Request<B>, message_id: MessageId) -> Self {
        Self::of(request.extensions().get().cloned(), request, message_id)
    }

    /// A request of a client that it does not carry itself.
    pub(super) fn of_client<B>(
        client: Client,
        request: &Request<B>,
        message_id: MessageId,
    ) -> Self {
        Self::of(Some(client), request, message_id)
    }

    fn of<B>(client: Option<Client>, request: &Request<B>, message_id: MessageId) -> Self {
        let asked = Asked {
            version: request.version(),
            method: request.method().clone(),
            path: visible_path(request.uri().path()).into_owned(),
            hops: TraceContext::of(request.headers())
                .map(|client| (client, client.continued(fastrand::u64(1..)))),
        };
        let mut access = Self::of_nothing(client, message_id);
        access.request = Some(asked);
        access
    }

    /// Something has come that is no request.
    pub(super) fn of_nothing(client: Option<Client>, message_id: MessageId) -> Self {
        Self {
            message_id,
            client,
            request: None,
            begun: Instant::now(),
            endpoint: None,
            granted: None,
            metered: None,
            found: None,
            via: None,
            opened: None,
            answered: None,
            status: None,
            reason: None,
            why: None,
            redirected_to: None,
            again: 0,
            up: 0,
            down: 0,
            ended: None,
        }
    }

    /// The gateway's place in the trace that the request is part of, if its client says so.
    pub(super) fn trace(&self) -> Option<TraceContext> {
        self.request.as_ref()?.hops.map(|(_, own)| own)
    }

    pub(super) fn is_head(&self) -> bool {
        self.request.as_ref().is_some_and(|asked| asked.method == Method::HEAD)
    }

    /// It is for `endpoint` of `site`, and counted there.
    pub(super) fn note_endpoint(
        &mut self,
        endpoint: &Endpoint,
        site: &str,
        metered: Option<Metered>,
    ) {
        self.metered = metered;
        self.endpoint = Some((endpoint.name.clone(), site.to_owned()));
    }

    /// It shows this grant, which nobody has judged yet.
    pub(super) fn note_grant(&mut self, shown: &SignedGrant) {
        let grant = shown.grant();
        let (package, file) = (grant.package.clone(), shown.file().cloned());
        self.granted = Some(Granted { package, file, client: grant.client });
    }

    /// It is for content that `site` grants, and counted as such.
    pub(super) fn note_content(&mut self, site: &str, metered: Metered) {
        self.metered = Some(metered);
        self.endpoint = Some((CONTENT.to_owned(), site.to_owned()));
    }

    /// So much is known of who the client is.
    pub(super) fn note_found(&mut self, trail: Trail) {
        self.found = Some(trail);
    }

    /// It was sent over a link, after it was sent `again` times before.
    pub(super) fn note_sent(&mut self, via: &Entry, again: u32) {
        self.via = Some((via.number, Arc::clone(&via.name)));
        self.opened.get_or_insert(self.begun.elapsed());
        self.again = again;
        self.up = 0;
    }

    /// So many octets of the request's body have gone on.
    pub(super) fn note_up(&mut self, octets: u64) {
        self.up = octets;
        if let Some(metered) = &mut self.metered {
            metered.note_up(octets);
        }
    }

    /// So many octets of the answer's body have gone on.
    pub(super) fn note_down(&mut self, octets: u64) {
        self.down = octets;
        if let Some(metered) = &mut self.metered {
            metered.note_down(octets);
        }
    }

    /// The site has answered; `reason` is the connection point's.
    pub(super) fn note_answer(&mut self, status: StatusCode, reason: Option<&[u8]>) {
        self.answered = Some(self.begun.elapsed());
        self.status = Some(status);
        self.reason = reason.map(|reason| String::from_utf8_lossy(reason).into_owned());
    }

    /// The gateway was asked about itself, and has answered.
    pub(super) fn note_own(&mut self, status: StatusCode) {
        self.answered = Some(self.begun.elapsed());
        self.status = Some(status);
    }

    /// The gateway has answered.
    pub(super) fn note_failure(&mut self, failure: &Failure) {
        let (status, reason) = failure.answer();
        self.status = Some(status);
        self.reason = Some(reason.into_owned());
        self.why = Some(failure.to_string());
        self.ended = Some(Ended::by(failure));
    }

    /// The client is sent there; `location` has no query.
    pub(super) fn note_redirect(&mut self, location: &str) {
        self.redirected_to = Some(location.to_owned());
    }

    /// It is reset and has no answer.
    pub(super) fn note_reset(&mut self, why: &str) {
        self.why = Some(why.to_owned());
        self.ended = Some(Ended::RefusedHere);
    }

    /// The answer broke off before its end.
    pub(super) fn note_broken(&mut self, error: &ReceiveError) {
        let is_lost = matches!(error, ReceiveError::Stream(RecvError::LinkLost));
        self.why = Some(error.to_string());
        self.end(if is_lost { Ended::LinkLost } else { Ended::SiteBrokeOff });
    }

    /// So many octets of content were given, or no more of it can be read.
    pub(super) fn note_held(&mut self, octets: Result<u64, &ReceiveError>) {
        match octets {
            Ok(octets) => self.note_down(octets),
            Err(error) => {
                self.why = Some(error.to_string());
                self.end(Ended::StoreBrokeOff);
            }
        }
    }

    /// It has ended, if it had not before.
    pub(super) fn end(&mut self, ended: Ended) {
        self.ended.get_or_insert(ended);
    }

    /// How it ended, now that nobody waits for it any more.
    pub(super) fn ended(&self) -> Ended {
        let was_slow = self.client.as_ref().is_some_and(|client| client.slowness.is_noted());
        let by_client = if was_slow { Ended::ClientTooSlow } else { Ended::ClientGone };
        self.ended.unwrap_or(by_client)
    }
}

impl Access {
    /// Tells of a request that is part of a trace, for whoever collects spans.
    fn tell_span(&self) {
        let Some(asked) = &self.request else { return };
        let Some((client, own)) = asked.hops else { return };
        let ended = self.ended();
        let is_fault = self.status.is_some_and(|status| status.is_server_error());
        tracing::trace!(
            target: SPANS,
            span_name = "relay",
            trace_id = %own.trace_id(),
            span_id = %own.span_id(),
            parent_id = %client.span_id(),
            is_sampled = own.is_sampled(),
            has_failed = is_fault || ended != Ended::Complete,
            took_us = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX),
            "relay.message_id" = %self.message_id,
            "http.request.method" = asked.method.as_str(),
            "url.path" = asked.path,
            "http.response.status_code" = self.status.map(|status| status.as_u16()),
            "relay.endpoint" = self.endpoint.as_ref().map(|(endpoint, _)| endpoint.as_str()),
            "relay.site" = self.endpoint.as_ref().map(|(_, site)| site.as_str()),
            "relay.reason" = self.reason.as_deref(),
            "relay.link" = self.via.as_ref().map(|(number, _)| *number),
            "relay.connection_point" = self.via.as_ref().map(|(_, name)| &**name),
            "relay.ended" = %ended,
            "span"
        );
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        self.tell_span();
        if let Some(metered) = self.metered.take() {
            let by = if self.reason.is_some() { Answerer::Relay } else { Answerer::Site };
            metered.end(Outcome::of(self.ended(), self.status, by), self.begun.elapsed());
        }
        let (asked, granted) = (self.request.as_ref(), self.granted.as_ref());
        let version = asked.map(|asked| tracing::field::debug(asked.version));
        let trace = self.trace();
        let who = self.found.as_ref().and_then(Trail::principal);
        tracing::info!(
            target: "relay::access",
            message_id = %self.message_id,
            client = self.client.as_ref().map(|it| tracing::field::display(it.address)),
            version,
            method = asked.map(|asked| asked.method.as_str()),
            path = asked.map(|asked| asked.path.as_str()),
            trace_id = trace.map(|hop| tracing::field::display(hop.trace_id())),
            span_id = trace.map(|hop| tracing::field::display(hop.span_id())),
            endpoint = self.endpoint.as_ref().map(|(endpoint, _)| endpoint.as_str()),
            site = self.endpoint.as_ref().map(|(_, site)| site.as_str()),
            package = granted.map(|it| it.package.as_str()),
            file = granted.and_then(|it| it.file.as_ref()).map(FileName::as_str),
            granted_to = granted.map(|it| tracing::field::display(it.client)),
            auth = who.map_or(NOBODY, |who| who.method.name()),
            who = who.map(|who| who.name.as_str()),
            unproven = self.found.as_ref().and_then(unproven),
            status = self.status.map(|status| status.as_u16()),
            reason = self.reason.as_deref(),
            why = self.why.as_deref(),
            redirected_to = self.redirected_to.as_deref(),
            link = self.via.as_ref().map(|(number, _)| *number),
            connection_point = self.via.as_ref().map(|(_, name)| &**name),
            octets_up = self.up,
            octets_down = self.down,
            opened_ms = self.opened.map(in_ms),
            answered_ms = self.answered.map(in_ms),
            total_ms = in_ms(self.begun.elapsed()),
            sent_again = self.again,
            ended = %self.ended(),
            "request"
        );
    }
}

/// What proved nothing, and why; `None` if all that was shown proved something.
fn unproven(trail: &Trail) -> Option<String> {
    let whys = trail.iter().filter_map(|(method, finding)| match finding {
        Finding::Unproven(why) => Some(format!("{method}: {why}")),
        Finding::Absent | Finding::Proven(_) => None,
    });
    let whys: Vec<_> = whys.collect();
    Some(whys.join("; ")).filter(|told| !told.is_empty())
}

/// In milliseconds, to the microsecond.
fn in_ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
