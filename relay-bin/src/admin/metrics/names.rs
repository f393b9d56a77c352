//! Every metric there is: its name, what it means and its unit. `METRICS.md` of this crate has a
//! row for each.
//!
//! Labels have few values: names of the configuration, and words that are in this program. No
//! client, no secret, and nothing that a client says is ever one.

use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// What its values are measured in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Measure {
    /// Nothing: it counts.
    Number,
    Seconds,
    Octets,
}

/// What kind of metric it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
    Info,
}

/// One metric.
#[derive(Debug)]
pub(super) struct Metric {
    /// Without its unit, and without what the format adds for its kind.
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: Kind,
    pub(super) measure: Measure,
}

impl Metric {
    pub(super) fn metric_type(&self) -> MetricType {
        match self.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
            Kind::Info => MetricType::Info,
        }
    }

    pub(super) fn unit(&self) -> Option<Unit> {
        match self.measure {
            Measure::Number => None,
            Measure::Seconds => Some(Unit::Seconds),
            // As Prometheus calls octets.
            Measure::Octets => Some(Unit::Bytes),
        }
    }
}

const fn counter(name: &'static str, help: &'static str) -> Metric {
    Metric { name, help, kind: Kind::Counter, measure: Measure::Number }
}

const fn gauge(name: &'static str, help: &'static str) -> Metric {
    Metric { name, help, kind: Kind::Gauge, measure: Measure::Number }
}

impl Metric {
    const fn octets(mut self) -> Self {
        self.measure = Measure::Octets;
        self
    }

    const fn seconds(mut self) -> Self {
        self.measure = Measure::Seconds;
        self
    }
}

// Of both roles.

pub(super) static BUILD: Metric = Metric {
    name: "relay_build",
    help: "Version and role of this process.",
    kind: Kind::Info,
    measure: Measure::Number,
};
pub(super) static START: Metric =
    gauge("process_start_time", "When this process began to serve, since 1970.").seconds();
pub(super) static READY: Metric = gauge("relay_ready", "1 if /readyz answers 200, else 0.");
pub(super) static DRAINING: Metric = gauge("relay_draining", "1 while the role stops, else 0.");
pub(super) static LINKS: Metric = gauge("relay_links", "Links, by transport and state.");
pub(super) static STREAMS: Metric = gauge("relay_link_streams_open", "Streams open on all links.");
pub(super) static RESERVED: Metric =
    gauge("relay_link_memory", "Receive memory that all links have reserved.").octets();
pub(super) static QUEUED: Metric =
    gauge("relay_link_queue", "Octets that wait to be sent on a link that is up.").octets();
pub(super) static RECEIVED: Metric =
    counter("relay_link_received", "Payload octets that came over the link that is up.").octets();
pub(super) static SENT: Metric =
    counter("relay_link_sent", "Payload octets that went over the link that is up.").octets();
pub(super) static STALLS: Metric =
    counter("relay_link_credit_stalls", "Times that a stream had sent all that was granted.");
pub(super) static STALLED: Metric =
    counter("relay_link_credit_stalled", "Time in which a stream had sent all that was granted.")
        .seconds();
pub(super) static STREAMS_STALLED: Metric =
    gauge("relay_link_streams_stalled", "Streams that have sent all that is granted now.");
pub(super) static ROUND_TRIP: Metric =
    gauge("relay_link_round_trip", "Smoothed round trip of a link that is up.").seconds();
pub(super) static ANSWERS: Metric =
    counter("relay_answers", "Answers that this role gave by itself, by reason.");
pub(super) static EVENTS: Metric = counter(
    "relay_events",
    "Limits that connections came to, answers that were cut, and what a token service did.",
);
pub(super) static EXPIRY: Metric =
    gauge("relay_expiry_timestamp", "When a certificate or a list ends, since 1970.").seconds();

// Of a gateway instance.

pub(super) static REQUESTS: Metric =
    counter("relay_requests", "Requests that came for an endpoint.");
pub(super) static BEARERS: Metric =
    counter("relay_requests_with_bearer_token", "Of them, those that showed a bearer token.");
pub(super) static ENDED: Metric =
    counter("relay_requests_ended", "Requests for an endpoint that have ended, by how.");
pub(super) static IN_FLIGHT: Metric =
    gauge("relay_requests_in_flight", "Requests for an endpoint that have not ended.");
pub(super) static REQUEST_OCTETS: Metric =
    counter("relay_request_body", "Octets of request bodies that went on to an endpoint.").octets();
pub(super) static ANSWER_OCTETS: Metric =
    counter("relay_response_body", "Octets of an endpoint's answers that went on to clients.")
        .octets();
pub(super) static DURATION: Metric = Metric {
    name: "relay_request_duration",
    help: "Time from a request's head to the end of its answer.",
    kind: Kind::Histogram,
    measure: Measure::Seconds,
};
pub(super) static AUTHENTICATIONS: Metric =
    counter("relay_authentications", "What each method of authentication has found.");
pub(super) static HALTED: Metric =
    gauge("relay_halted", "1 while new requests are refused on somebody's behalf, else 0.");
pub(super) static EGRESS: Metric =
    counter("relay_egress", "Octets that were sent to clients, heads and bodies.").octets();
pub(super) static EGRESS_SUM: Metric =
    gauge("relay_egress_fortnight", "Octets that were sent to clients in 14 days.").octets();
pub(super) static EGRESS_THRESHOLD: Metric =
    gauge("relay_egress_threshold", "Octets that are meant to be sent in 14 days.").octets();
pub(super) static SETTINGS: Metric =
    gauge("relay_settings_version", "Version of the settings of a site that hold.");
pub(super) static MEMORY: Metric =
    gauge("relay_memory_used", "Memory in use, of the kind that is fullest.").octets();
pub(super) static MEMORY_MAX: Metric =
    gauge("relay_memory_limit", "Memory of that kind that may be in use.").octets();

// Of a connection point.

pub(super) static LINKS_WANTED: Metric =
    gauge("relay_links_wanted", "Links that are to be up to an instance.");
pub(super) static PUBLISHED: Metric =
    gauge("relay_settings_applied", "1 if an instance has applied the settings told last, else 0.");
pub(super) static BACKEND_UP: Metric =
    gauge("relay_backend_up", "1 if a backend is asked, 0 while it is left alone.");
pub(super) static BACKEND_IN_FLIGHT: Metric =
    gauge("relay_backend_requests_in_flight", "Requests that a backend has.");
pub(super) static BACKEND_WAITING: Metric =
    gauge("relay_backend_requests_waiting", "Requests that wait for a connection to a backend.");
pub(super) static BACKEND_CONNECTIONS: Metric =
    gauge("relay_backend_connections", "Connections to a backend.");
