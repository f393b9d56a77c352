//! Where spans wait for the collector, and who begins and ends that.

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::anyhow;
use relay_core::config::{ConfigError, TelemetryConfig};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::Teller;
use super::counted::{DROPPED, EXPORTED};
use super::export::Exporter;
use super::otlp::{self, Span};
use crate::exit::Failure;

/// Spans that wait to be sent. About 4 MiB at worst: attributes are cut, see `layer.rs`.
const QUEUE_MAX: usize = 2048;

/// Time that the spans which are there have when the role has stopped.
const END_TIME: Duration = Duration::from_secs(5);

/// Where the spans of this process go: the log is the process's, too.
static QUEUE: OnceLock<Queue> = OnceLock::new();

struct Queue {
    spans: mpsc::Sender<Span>,
    part: Part,
}

/// Which part of all traces is sent.
#[derive(Clone, Copy, Debug)]
struct Part(f64);

impl Part {
    /// The same of a trace at each hop, whoever asks: by the trace's own digits.
    fn has(self, trace_id: &str) -> bool {
        // Source: OpenTelemetry, "TraceState: Probability Sampling": of the last 56 bits, which are
        // random, the first 32 are as many as a part is told apart by.
        let random = trace_id.get(18..26).unwrap_or_default();
        let place = u32::from_str_radix(random, 16).unwrap_or_default();
        f64::from(place) / 2_f64.powi(32) >= 1.0 - self.0
    }
}

/// Queues a span for the collector, if there is one and it is to have it.
pub(super) fn take(span: Span) {
    let Some(queue) = QUEUE.get() else { return };
    if queue.part.has(&span.trace) && queue.spans.try_send(span).is_err() {
        DROPPED.add(1);
    }
}

/// Whether there is a collector.
pub(super) fn is_begun() -> bool {
    QUEUE.get().is_some()
}

/// This program can send spans.
#[expect(clippy::unnecessary_wraps, reason = "without the feature it refuses")]
pub(crate) fn judge(_: Option<&TelemetryConfig>) -> Result<(), ConfigError> {
    Ok(())
}

/// How many spans a collector has taken, and how many were dropped; nothing without a collector.
pub(crate) fn counts() -> impl Iterator<Item = (&'static str, u64)> {
    let all = [("trace_spans_dropped", DROPPED.get()), ("trace_spans_exported", EXPORTED.get())];
    all.into_iter().filter(|_| QUEUE.get().is_some())
}

/// Spans that are sent while a role runs.
pub(crate) struct Exporting(Option<(oneshot::Sender<()>, JoinHandle<()>)>);

/// Begins to send spans to the collector, if there is one.
///
/// # Errors
///
/// [`Failure::Runtime`] if this process has begun before, or the collector has no host.
///
/// # Panics
///
/// With a collector, outside of a runtime.
pub(crate) fn start(config: Option<TelemetryConfig>, teller: Teller) -> Result<Exporting, Failure> {
    let Some(config) = config else { return Ok(Exporting(None)) };
    let failed = |why: &'static str| Failure::Runtime(anyhow!(why));
    let (spans, waiting) = mpsc::channel(QUEUE_MAX);
    let part = Part(config.sample_ratio);
    let service = config.service_name.clone().unwrap_or_else(|| teller.service.to_owned());
    let teller = otlp::Teller { service, instance: teller.instance };
    let exporter = Exporter::of(waiting, config, teller);
    let exporter = exporter.ok_or_else(|| failed("`endpoint` of `[telemetry]` names no host"))?;
    QUEUE.set(Queue { spans, part }).map_err(|_| failed("spans are sent already"))?;
    let (stop, stopping) = oneshot::channel();
    Ok(Exporting(Some((stop, tokio::spawn(exporter.run(stopping))))))
}

impl Exporting {
    /// Sends what is there, within [`END_TIME`].
    pub(crate) async fn end(self) {
        let Some((stop, mut running)) = self.0 else { return };
        // Nobody listens if it has ended.
        let _ = stop.send(());
        if timeout(END_TIME, &mut running).await.is_err() {
            running.abort();
            tracing::warn!("the collector did not take the last spans in time; they are lost");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_all_traces_is_sent_and_the_same_ones_everywhere() {
        let of = |place: u32| format!("{:018}{place:08x}{:06}", 0, 0);
        for (part, first) in [(1.0, 0), (0.5, 1 << 31), (0.25, 3 << 30)] {
            assert!(Part(part).has(&of(first)) && Part(part).has(&of(u32::MAX)), "{part}");
            assert!(first == 0 || !Part(part).has(&of(first - 1)), "{part}");
        }
        assert!(!Part(0.0).has(&of(u32::MAX)));
    }
}
