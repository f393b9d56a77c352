//! From what a role tells of its requests to spans.
//!
//! A role tells of each request that is part of a trace at the target [`SPANS`], with the ids that
//! the log has. Nothing else is looked at.

use std::fmt;
use std::time::{Duration, SystemTime};

use relay_core::exchange::SPANS;
use serde_json::{Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{FilterFn, LevelFilter, filter_fn};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::otlp::Span;
use super::sending::{is_begun, take};

/// What takes spans to the collector, if there is one.
struct Spans;

/// A layer that finds spans among all that is told, whatever the log shows of it.
pub(crate) fn layer<S>() -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let is_span = |it: &Metadata<'_>| it.target() == SPANS;
    let filter: FilterFn<_> = filter_fn(is_span).with_max_level_hint(LevelFilter::TRACE);
    Spans.with_filter(filter)
}

impl<S: Subscriber> Layer<S> for Spans {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if !is_begun() {
            return;
        }
        let mut told = Told::default();
        event.record(&mut told);
        if let Some(span) = told.sampled(SystemTime::now()) {
            take(span);
        }
    }
}

/// Characters of an attribute that are kept. Anybody may ask for a path of 32 KiB.
const VALUE_CHARS_MAX: usize = 512;

/// The fields of an event.
#[derive(Debug, Default)]
struct Told {
    trace_id: Option<String>,
    span_id: Option<String>,
    parent_id: Option<String>,
    name: Option<String>,
    took_us: Option<u64>,
    is_sampled: bool,
    has_failed: bool,
    attributes: Vec<(&'static str, Value)>,
}

impl Told {
    /// The span, if its client has its trace sampled, and all is there.
    fn sampled(self, now: SystemTime) -> Option<Span> {
        if !self.is_sampled {
            return None;
        }
        Some(Span {
            trace: self.trace_id?,
            id: self.span_id?,
            parent: self.parent_id?,
            name: self.name?,
            ended_at: now,
            took: Duration::from_micros(self.took_us?),
            has_failed: self.has_failed,
            attributes: self.attributes,
        })
    }
}

impl Visit for Told {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "took_us" => self.took_us = Some(value),
            name => self.attributes.push((name, json!(value))),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        match field.name() {
            "is_sampled" => self.is_sampled = value,
            "has_failed" => self.has_failed = value,
            name => self.attributes.push((name, json!(value))),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "span_name" => self.name = Some(value.to_owned()),
            "trace_id" => self.trace_id = Some(value.to_owned()),
            "span_id" => self.span_id = Some(value.to_owned()),
            "parent_id" => self.parent_id = Some(value.to_owned()),
            "message" => {}
            name => {
                let kept: String = value.chars().take(VALUE_CHARS_MAX).collect();
                self.attributes.push((name, kept.into()));
            }
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}
