//! The access log: one line for each request, when it has ended.
//!
//! Lines have the target `relay::access` and the level info. They never show what may hold a
//! secret: no header but the trace id, and the path without its query, in which clients of this
//! kind send signatures and tokens.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{HeaderMap, Method, Request, StatusCode, Version};
use tokio::time::Instant;

use crate::body::{ReceiveError, SendBodyError};
use crate::exchange::MessageId;
use crate::link::RecvError;
use crate::policy::Endpoint;

use super::failure::Failure;
use super::registry::Entry;

/// Who sends the requests of a connection; each request carries it as an extension.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) address: SocketAddr,
    pub(super) slowness: Slowness,
}

/// Whether the client of a connection was given up because it took nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Slowness(Arc<AtomicBool>);

impl Slowness {
    pub(super) fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_noted(&self) -> bool {
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
    via: Option<(u64, Arc<str>)>,
    /// Time to the stream, and to the head of the answer.
    opened: Option<Duration>,
    answered: Option<Duration>,
    status: Option<StatusCode>,
    reason: Option<String>,
    why: Option<String>,
    /// How often it was sent again.
    again: u32,
    /// Octets of the request's body that went on to the site, the last time it was sent.
    up: u64,
    /// Octets of the answer's body that went on to the client.
    down: u64,
    ended: Option<Ended>,
}

/// What was asked for.
#[derive(Debug)]
struct Asked {
    version: Version,
    method: Method,
    /// Without the query.
    path: String,
    trace: Option<String>,
}

impl Access {
    /// A request has come.
    pub(super) fn begin<B>(request: &Request<B>, message_id: MessageId) -> Self {
        let asked = Asked {
            version: request.version(),
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            trace: trace_id(request.headers()).map(str::to_owned),
        };
        let client = request.extensions().get().cloned();
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
            via: None,
            opened: None,
            answered: None,
            status: None,
            reason: None,
            why: None,
            again: 0,
            up: 0,
            down: 0,
            ended: None,
        }
    }

    pub(super) fn is_head(&self) -> bool {
        self.request.as_ref().is_some_and(|asked| asked.method == Method::HEAD)
    }

    /// It is for `endpoint` of `site`.
    pub(super) fn note_endpoint(&mut self, endpoint: &Endpoint, site: &str) {
        self.endpoint = Some((endpoint.name.clone(), site.to_owned()));
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
    }

    /// So many octets of the answer's body have gone on.
    pub(super) fn note_down(&mut self, octets: u64) {
        self.down = octets;
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

    /// The answer broke off before its end.
    pub(super) fn note_broken(&mut self, error: &ReceiveError) {
        let is_lost = matches!(error, ReceiveError::Stream(RecvError::LinkLost));
        self.why = Some(error.to_string());
        self.end(if is_lost { Ended::LinkLost } else { Ended::SiteBrokeOff });
    }

    /// It has ended, if it had not before.
    pub(super) fn end(&mut self, ended: Ended) {
        self.ended.get_or_insert(ended);
    }

    /// How it ended, now that nobody waits for it any more.
    fn ended(&self) -> Ended {
        let was_slow = self.client.as_ref().is_some_and(|client| client.slowness.is_noted());
        let by_client = if was_slow { Ended::ClientTooSlow } else { Ended::ClientGone };
        self.ended.unwrap_or(by_client)
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        let asked = self.request.as_ref();
        let version = asked.map(|asked| tracing::field::debug(asked.version));
        tracing::info!(
            target: "relay::access",
            message_id = %self.message_id,
            client = self.client.as_ref().map(|it| tracing::field::display(it.address)),
            version,
            method = asked.map(|asked| asked.method.as_str()),
            path = asked.map(|asked| asked.path.as_str()),
            trace_id = asked.and_then(|asked| asked.trace.as_deref()),
            endpoint = self.endpoint.as_ref().map(|(endpoint, _)| endpoint.as_str()),
            site = self.endpoint.as_ref().map(|(_, site)| site.as_str()),
            status = self.status.map(|status| status.as_u16()),
            reason = self.reason.as_deref(),
            why = self.why.as_deref(),
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

/// In milliseconds, to the microsecond.
fn in_ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// The trace that a client says its request is part of, if it says so once and by the rules.
// W3C Trace Context, section 3.2.2: version, trace id, parent id, flags. Versions to come may have
// more behind a further dash.
fn trace_id(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all("traceparent").iter();
    let (value, second) = (values.next()?.to_str().ok()?, values.next());
    let mut parts = value.split('-');
    let [version, trace, parent, flags] = [(); 4].map(|()| parts.next().unwrap_or_default());
    let is_hex = |text: &str, digits| {
        let is_digit = |octet| matches!(octet, b'0'..=b'9' | b'a'..=b'f');
        text.len() == digits && text.bytes().all(is_digit)
    };
    let is_nothing = |text: &str| text.bytes().all(|octet| octet == b'0');
    let fits = is_hex(version, 2) && is_hex(trace, 32) && is_hex(parent, 16) && is_hex(flags, 2);
    let ends = version != "00" || parts.next().is_none();
    let is_valid = second.is_none() && fits && ends && version != "ff";
    (is_valid && !is_nothing(trace) && !is_nothing(parent)).then_some(trace)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn trace_of(values: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("traceparent", value.parse().unwrap());
        }
        trace_id(&headers).map(str::to_owned)
    }

    #[test]
    fn a_trace_is_shown_if_it_is_told_once_and_by_the_rules() {
        for (before, behind) in [("00-", "-00f067aa0ba902b7-01"), ("cc-", "-00f067aa0ba902b7-01-x")]
        {
            let value = format!("{before}{TRACE}{behind}");
            assert_eq!(trace_of(&[&value]).as_deref(), Some(TRACE), "{value}");
            assert_eq!(trace_of(&[&value, &value]), None, "twice");
        }
    }

    #[test]
    fn a_trace_that_breaks_the_rules_is_not_shown() {
        let zeros = "0".repeat(32);
        for value in [
            String::new(),
            TRACE.to_owned(),
            format!("ff-{TRACE}-00f067aa0ba902b7-01"),
            format!("00-{TRACE}-00f067aa0ba902b7"),
            format!("00-{TRACE}-00f067aa0ba902b7-01-x"),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{zeros}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()),
            format!("00-{TRACE}0-00f067aa0ba902b7-01"),
            format!("00-{TRACE}-00f067aa0ba902b7-1"),
        ] {
            assert_eq!(trace_of(&[&value]), None, "{value}");
        }
        assert_eq!(trace_of(&[]), None);
    }
}
