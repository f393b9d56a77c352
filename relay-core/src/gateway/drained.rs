//! A link that this instance drains, and what its log says of that.

use std::time::Duration;

use tokio::time::Instant;

use crate::link::{DrainReport, Link};

/// Drains link `number`, see [`Link::drain`], and logs what became of its requests; not if it
/// drained before: whoever began that tells of it.
pub(super) async fn drain(link: &Link, number: u64, limit: Duration) -> DrainReport {
    let (began, is_first) = (Instant::now(), !link.is_going_away());
    let report = link.drain(limit).await;
    let DrainReport { finished, reset } = report;
    if is_first {
        let took_ms = began.elapsed().as_millis();
        tracing::info!(link = number, finished, reset, took_ms, "link drained");
    }
    report
}
