//! A link that is drained, by either side, and what the log says of that.

use std::time::Duration;

use tokio::time::Instant;

use crate::link::{DrainReport, Link};
use crate::transport::Instance;

/// Drains a link to `instance`, see [`Link::drain`], and logs what became of its requests. For
/// whoever owns the link, so that each is told of once.
pub(super) async fn drain(link: &Link, instance: Instance, limit: Duration) -> DrainReport {
    let began = Instant::now();
    let report = link.drain(limit).await;
    let DrainReport { finished, reset } = report;
    let took_ms = began.elapsed().as_millis();
    tracing::info!(%instance, finished, reset, took_ms, "link drained");
    report
}
