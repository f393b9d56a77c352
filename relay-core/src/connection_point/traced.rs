//! What is told of a request's place in its trace, once its exchange has ended.

use std::time::Instant;

use http::Method;

use crate::exchange::{MessageId, SPANS, TraceContext};

/// A request that is part of a trace, and becomes a span of it when this is dropped.
#[derive(Debug)]
pub(super) struct Traced {
    message_id: MessageId,
    /// The gateway's place, and this one's.
    hops: Option<(TraceContext, TraceContext)>,
    begun: Instant,
    method: Method,
    path: String,
    endpoint: Option<String>,
    status: Option<u16>,
    has_failed: bool,
}

impl Traced {
    /// It begins now.
    pub(super) fn begin(
        message_id: MessageId,
        hops: Option<(TraceContext, TraceContext)>,
        (method, path): (&Method, &str),
    ) -> Self {
        Self {
            message_id,
            hops,
            begun: Instant::now(),
            method: method.clone(),
            path: hops.map_or_else(String::new, |_| path.to_owned()),
            endpoint: None,
            status: None,
            has_failed: true,
        }
    }

    /// A backend of `endpoint` has answered.
    pub(super) fn note_answer(&mut self, endpoint: &str, status: u16) {
        self.endpoint = self.hops.map(|_| endpoint.to_owned());
        self.status = Some(status);
    }

    /// All of that answer was relayed.
    pub(super) fn note_whole(&mut self) {
        self.has_failed = self.status.is_none_or(|status| status >= 500);
    }

    /// None has, and the client is told this.
    pub(super) fn note_failure(&mut self, status: Option<u16>) {
        self.status = status;
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        let Some((parent, own)) = self.hops else { return };
        tracing::trace!(
            target: SPANS,
            span_name = "forward",
            trace_id = %own.trace_id(),
            span_id = %own.span_id(),
            parent_id = %parent.span_id(),
            is_sampled = own.is_sampled(),
            has_failed = self.has_failed,
            took_us = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX),
            "relay.message_id" = %self.message_id,
            "http.request.method" = self.method.as_str(),
            "url.path" = self.path,
            "http.response.status_code" = self.status,
            "relay.endpoint" = self.endpoint.as_deref(),
            "span"
        );
    }
}
