//! Spans as OTLP has them: one JSON document for a batch, and what the collector says of it.
//!
//! Source: OpenTelemetry Protocol Specification 1.x, "OTLP/HTTP" and "JSON Protobuf Encoding": ids
//! are hexadecimal, integers of 64 bits are text, names are in lower camel case.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// A span of a trace that a client has begun.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Span {
    /// As in the log: hexadecimal.
    pub(super) trace: String,
    /// Its own id.
    pub(super) id: String,
    pub(super) parent: String,
    pub(super) name: String,
    pub(super) ended_at: SystemTime,
    pub(super) took: Duration,
    pub(super) has_failed: bool,
    /// Name and value of what is known.
    pub(super) attributes: Vec<(&'static str, Value)>,
}

/// Who tells of them.
#[derive(Clone, Debug)]
pub(super) struct Teller {
    pub(super) service: String,
    /// Which of several such roles.
    pub(super) instance: String,
}

/// `SPAN_KIND_SERVER`.
const SERVER: u8 = 2;

/// `STATUS_CODE_UNSET`.
const UNSET: u8 = 0;

/// `STATUS_CODE_ERROR`.
const ERROR: u8 = 2;

/// The body of a request that tells of `spans`.
pub(super) fn document(teller: &Teller, spans: &[Span]) -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let resource = [
        ("service.name", json!(teller.service)),
        ("service.instance.id", json!(teller.instance)),
        ("service.version", json!(version)),
    ];
    let resource: Vec<_> = resource.iter().map(|(name, it)| attribute(name, it)).collect();
    let document = json!({"resourceSpans": [{
        "resource": {"attributes": resource},
        "scopeSpans": [{
            "scope": {"name": "relay", "version": version},
            "spans": spans.iter().map(span).collect::<Vec<_>>(),
        }],
    }]});
    document.to_string().into_bytes()
}

fn span(span: &Span) -> Value {
    let ended = span.ended_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let began = ended.saturating_sub(span.took);
    let attributes = span.attributes.iter().map(|(name, it)| attribute(name, it));
    json!({
        "traceId": span.trace,
        "spanId": span.id,
        "parentSpanId": span.parent,
        // Sampled, and its parent is of another process: W3C flags and OTLP's two of its own.
        "flags": 0x301,
        "name": span.name,
        "kind": SERVER,
        "startTimeUnixNano": began.as_nanos().to_string(),
        "endTimeUnixNano": ended.as_nanos().to_string(),
        "attributes": attributes.collect::<Vec<_>>(),
        "status": {"code": if span.has_failed { ERROR } else { UNSET }},
    })
}

fn attribute(name: &str, value: &Value) -> Value {
    let (kind, value) = match value {
        Value::Number(number) => ("intValue", json!(number.to_string())),
        Value::Bool(_) => ("boolValue", value.clone()),
        Value::String(_) => ("stringValue", value.clone()),
        other => ("stringValue", json!(other.to_string())),
    };
    json!({"key": name, "value": Map::from_iter([(kind.to_owned(), value)])})
}

/// How many spans a collector that has answered with success has refused.
pub(super) fn rejected(answer: &[u8]) -> u64 {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        partial_success: Option<Partial>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Partial {
        rejected_spans: Option<Value>,
    }

    let answer = serde_json::from_slice::<Answer>(answer).ok();
    let rejected = answer.and_then(|it| it.partial_success?.rejected_spans);
    match rejected {
        Some(Value::Number(count)) => count.as_u64().unwrap_or(0),
        Some(Value::String(count)) => count.parse().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_written_as_the_protocol_has_it() {
        let one = Span {
            trace: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
            id: "00f067aa0ba902b7".to_owned(),
            parent: "00000000000000ab".to_owned(),
            name: "relay".to_owned(),
            ended_at: UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_001),
            took: Duration::from_micros(1_500),
            has_failed: true,
            attributes: vec![("url.path", json!("/x")), ("relay.link", json!(7))],
        };
        let teller = Teller { service: "relay-gateway".to_owned(), instance: "1".to_owned() };
        let document: Value = serde_json::from_slice(&document(&teller, &[one])).unwrap();
        let of = &document["resourceSpans"][0];
        let name = json!({"key": "service.name", "value": {"stringValue": "relay-gateway"}});
        assert_eq!(of["resource"]["attributes"][0], name);
        let expected = json!({
            "traceId": "4bf92f3577b34da6a3ce929d0e0e4736",
            "spanId": "00f067aa0ba902b7",
            "parentSpanId": "00000000000000ab",
            "flags": 769,
            "name": "relay",
            "kind": 2,
            "startTimeUnixNano": "1699999999998501000",
            "endTimeUnixNano": "1700000000000001000",
            "attributes": [
                {"key": "url.path", "value": {"stringValue": "/x"}},
                {"key": "relay.link", "value": {"intValue": "7"}},
            ],
            "status": {"code": 2},
        });
        assert_eq!(of["scopeSpans"][0]["spans"], json!([expected]));
    }

    #[test]
    fn what_a_collector_has_refused_of_a_batch_is_read_however_it_is_written() {
        let told = [
            ("{}", 0),
            ("", 0),
            ("{\"partialSuccess\":{}}", 0),
            ("{\"partialSuccess\":{\"rejectedSpans\":\"3\"}}", 3),
            ("{\"partialSuccess\":{\"rejectedSpans\":4,\"errorMessage\":\"x\"}}", 4),
            ("{\"partialSuccess\":{\"rejectedSpans\":-1}}", 0),
        ];
        for (answer, count) in told {
            assert_eq!(rejected(answer.as_bytes()), count, "{answer}");
        }
    }
}
