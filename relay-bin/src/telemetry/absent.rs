//! What there is in place of all this in a program without the feature.

use relay_core::config::{ConfigError, TelemetryConfig};

use super::Teller;
use crate::exit::Failure;

/// Nothing is sent.
pub(crate) struct Exporting;

/// Refuses a configuration by which spans are to be sent.
///
/// # Errors
///
/// [`ConfigError`]: there is a collector.
pub(crate) fn judge(config: Option<&TelemetryConfig>) -> Result<(), ConfigError> {
    let refused = |config: &TelemetryConfig| {
        Err(config.refused(
            "this program was built without `otel`, and sends no spans",
            "remove `[telemetry]`, or build it with `--features otel`",
        ))
    };
    config.map_or(Ok(()), refused)
}

/// Has nothing to begin.
///
/// # Errors
///
/// As [`judge`].
#[expect(clippy::needless_pass_by_value, reason = "with the feature it is kept")]
pub(crate) fn start(config: Option<TelemetryConfig>, _: Teller) -> Result<Exporting, Failure> {
    judge(config.as_ref())?;
    Ok(Exporting)
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
