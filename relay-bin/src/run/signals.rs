//! Stopping, and reading the configuration again, on request.

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
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "Ctrl-C",
        }
    }

    #[cfg(not(unix))]
    pub(super) async fn next(&mut self) -> &'static str {
        if tokio::signal::ctrl_c().await.is_err() {
            // Without a handler Ctrl-C ends the process by itself.
            std::future::pending::<()>().await;
        }
        "Ctrl-C"
    }
}

/// The requests to read the configuration again: SIGHUP on Unix, none elsewhere.
pub(super) struct Reloads {
    #[cfg(unix)]
    hangup: tokio::signal::unix::Signal,
}

impl Reloads {
    /// Takes SIGHUP over from the platform's default, which would end the process.
    #[cfg(unix)]
    pub(super) fn install() -> anyhow::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { hangup: signal(SignalKind::hangup()).context("cannot handle signals")? })
    }

    /// Nothing to take over.
    #[cfg(not(unix))]
    pub(super) fn install() -> anyhow::Result<Self> {
        Ok(Self {})
    }

    /// Waits for the next request.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a signal that nobody waited for is seen by the next call.
    #[cfg(unix)]
    pub(super) async fn next(&mut self) {
        if self.hangup.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    #[cfg(not(unix))]
    pub(super) async fn next(&mut self) {
        std::future::pending().await
    }
}

/// The future that a role takes as its request to stop.
pub(super) type Stop = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs the role that `start` makes until `next_signal` asks it to stop and it has drained.
///
/// # Errors
///
/// [`Failure::Runtime`] when a second signal cuts the drain short, or the role ends unasked.
pub(super) async fn until_stopped<R>(
    mut next_signal: impl AsyncFnMut() -> &'static str,
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
        signal = next_signal() => {
            tracing::info!("{signal}: draining; a second signal stops at once");
        }
    }
    drop(stop);
    tokio::select! {
        report = &mut role => Ok(report),
        signal = next_signal() => Err(Failure::Runtime(anyhow!(
            "{signal} while draining: stopped at once, requests in flight were cut"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    /// Signals that come at once, `count` of them, and then no more.
    fn signals(mut count: u32) -> impl AsyncFnMut() -> &'static str {
        async move || {
            if count == 0 {
                pending::<()>().await;
            }
            count -= 1;
            "SIGTERM"
        }
    }

    async fn until_asked(stop: Stop) -> DrainReport {
        stop.await;
        DrainReport { finished: 0, reset: 0 }
    }

    #[tokio::test]
    async fn one_signal_drains_the_role() {
        let outcome = until_stopped(signals(1), until_asked).await;
        assert!(outcome.is_ok());
    }

    #[tokio::test]
    async fn a_second_signal_ends_a_drain_that_hangs() {
        let outcome = until_stopped(signals(2), |_stop| pending()).await;
        let failure = outcome.expect_err("the drain never ends").to_string();
        assert!(failure.starts_with("SIGTERM while draining: stopped at once"), "{failure}");
    }

    #[tokio::test]
    async fn a_role_that_ends_unasked_is_a_failure() {
        let ended = |_stop| async { DrainReport { finished: 0, reset: 0 } };
        let failure = until_stopped(signals(0), ended).await.expect_err("nobody asked").to_string();
        assert!(failure.starts_with("stopped without being asked to"), "{failure}");
    }
}
