//! Stopping on request.

use std::pin::pin;

use anyhow::{Context as _, anyhow};
use relay_core::link::DrainReport;
use tokio::sync::oneshot;

use crate::exit::Failure;

/// The requests to stop that the platform can send: SIGTERM and Ctrl-C on Unix, Ctrl-C elsewhere.
pub(super) struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    /// Takes the signals over from the platform's default, which would end the process at once.
    #[cfg(unix)]
    pub(super) fn install() -> anyhow::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let take = |kind| signal(kind).context("cannot handle signals");
        Ok(Self {
            terminate: take(SignalKind::terminate())?,
            interrupt: take(SignalKind::interrupt())?,
        })
    }

    /// Nothing to take over before the first wait.
    #[cfg(not(unix))]
    pub(super) fn install() -> anyhow::Result<Self> {
        Ok(Self {})
    }

    /// Waits for the next request to stop and returns its name.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a signal that nobody waited for is seen by the next call.
    #[cfg(unix)]
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "Ctrl-C",
        }
    }

    #[cfg(not(unix))]
    async fn next(&mut self) -> &'static str {
        if tokio::signal::ctrl_c().await.is_err() {
            // Without a handler Ctrl-C ends the process by itself.
            std::future::pending::<()>().await;
        }
        "Ctrl-C"
    }
}

/// The future that a role takes as its request to stop.
type Stop = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs the role that `start` makes until a signal asks it to stop and it has drained.
///
/// # Errors
///
/// [`Failure::Runtime`] when a second signal cuts the drain short, or the role ends unasked.
pub(super) async fn until_stopped<R>(
    mut signals: Signals,
    start: impl FnOnce(Stop) -> R,
) -> Result<DrainReport, Failure>
where
    R: Future<Output = DrainReport>,
{
    let (stop, stopped) = oneshot::channel::<()>();
    // A dropped sender asks to stop as well: nobody is left who could.
    let mut role = pin!(start(Box::pin(async move { stopped.await.unwrap_or_default() })));
    tokio::select! {
        report = &mut role => {
            let error = anyhow!("stopped without being asked to ({report}); see the log for why");
            return Err(Failure::Runtime(error));
        }
        signal = signals.next() => {
            tracing::info!("{signal}: draining; a second signal stops at once");
        }
    }
    drop(stop);
    tokio::select! {
        report = &mut role => Ok(report),
        signal = signals.next() => Err(Failure::Runtime(anyhow!(
            "{signal} while draining: stopped at once, requests in flight were cut"
        ))),
    }
}
