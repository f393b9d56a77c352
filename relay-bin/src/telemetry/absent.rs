//! What there is in place of all this in a program without the feature.

use anyhow::anyhow;
use relay_core::config::TelemetryConfig;

use super::Teller;
use crate::exit::Failure;

/// Nothing is sent.
pub(crate) struct Exporting;

/// Refuses to run where spans are to be sent.
///
/// # Errors
///
/// [`Failure::Usage`]: there is a collector.
pub(crate) fn start(config: Option<TelemetryConfig>, _: Teller) -> Result<Exporting, Failure> {
    let refused = |_| {
        Err(Failure::Usage(anyhow!(
            "this program was built without `otel`, and sends no spans: remove `[telemetry]`, or \
             build it with `--features otel`"
        )))
    };
    config.map_or(Ok(Exporting), refused)
}

impl Exporting {
    /// Has nothing to send.
    #[expect(clippy::unused_async, reason = "with the feature there is something to wait for")]
    pub(crate) async fn end(self) {}
}

/// There are no spans that anything could become of.
pub(crate) fn counts() -> impl Iterator<Item = (&'static str, u64)> {
    std::iter::empty()
}
