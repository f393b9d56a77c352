//! Spans of requests, for a collector of OpenTelemetry: `[telemetry]`, with the feature `otel`.
//!
//! A request that is part of a trace, because its client says so in `traceparent`, becomes a span
//! at the gateway instance and one at the connection point, with the ids that the log has and the
//! next hop is told. No trace is begun here, and what a client has not sampled is not sent.
//!
//! No crate of OpenTelemetry is used: its SDK gives spans ids of its own, which would not be those
//! in the log, and its exporter brings gRPC's types, for one JSON document (`otlp.rs`). Read
//! [`start`] first, then `layer.rs`, where spans come from, and `export.rs`, which sends them.

#[cfg(not(feature = "otel"))]
mod absent;
#[cfg(feature = "otel")]
mod counted;
#[cfg(feature = "otel")]
mod export;
#[cfg(feature = "otel")]
mod layer;
#[cfg(feature = "otel")]
mod otlp;
#[cfg(feature = "otel")]
mod sending;

#[cfg(not(feature = "otel"))]
pub(crate) use self::absent::{Exporting, counts, judge, start};
#[cfg(feature = "otel")]
pub(crate) use self::layer::layer;
#[cfg(feature = "otel")]
pub(crate) use self::sending::{Exporting, counts, judge, start};

/// Which role tells of its requests.
#[cfg_attr(not(feature = "otel"), expect(dead_code, reason = "nobody is told of it"))]
pub(crate) struct Teller {
    /// What its service is called unless the configuration says otherwise.
    pub(crate) service: &'static str,
    /// Which of several such roles it is.
    pub(crate) instance: String,
}
