//! Asks backends every now and then whether they are in order, where the configuration says so, and
//! shows what is known of each.

use std::sync::Arc;

use http::Uri;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::ConnectionPoint;
use super::backend::Pool;
use super::backend_health::BackendState;
use super::backends::Backends;

/// A backend at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BackendStatus {
    /// The endpoint that it is behind.
    pub endpoint: String,
    /// Where it is.
    pub url: Uri,
    /// Whether it is asked.
    pub state: BackendState,
    /// Since when.
    pub since: std::time::Instant,
    /// When it is tried again, while it rests.
    pub until: Option<std::time::Instant>,
    /// Failures in a row, since it rested last.
    pub failures: u32,
    /// Why it failed last, request or check; `None` if it has answered since.
    pub why: Option<String>,
    /// Requests that it has.
    pub in_flight: usize,
    /// Requests that wait for a connection to it.
    pub waiting: usize,
    /// Connections to it.
    pub connections: usize,
}

impl BackendStatus {
    fn of(backends: &Backends, pool: &Pool, now: Instant) -> Self {
        let (in_flight, waiting) = pool.load();
        let health = pool.health();
        Self {
            endpoint: backends.endpoint().to_owned(),
            url: pool.url().clone(),
            state: health.state(now),
            since: health.since().into_std(),
            until: health.until(now).map(Instant::into_std),
            failures: health.failures(),
            why: health.why().map(str::to_owned),
            in_flight,
            waiting,
            connections: pool.connections(),
        }
    }
}

impl ConnectionPoint {
    /// Every backend, by endpoint in the order of role ids.
    pub(super) fn backends(&self) -> Vec<BackendStatus> {
        let (current, now) = (Arc::clone(&self.inner.current.borrow()), Instant::now());
        let all = current.forwarder.backends();
        all.flat_map(|backends| {
            backends.pools().iter().map(move |pool| BackendStatus::of(backends, pool, now))
        })
        .collect()
    }

    /// Checks those that are to be, for ever.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends every check.
    pub(super) async fn check_backends(&self) {
        let mut current = self.inner.current.subscribe();
        loop {
            let forwarder = Arc::clone(&current.borrow_and_update().forwarder);
            // Those of before end here.
            let mut checks = JoinSet::new();
            for backends in forwarder.backends().filter(|it| it.config().check.is_some()) {
                for at in 0..backends.pools().len() {
                    checks.spawn(check(Arc::clone(backends), at));
                }
            }
            // The sender lives as long as `self`.
            let _ = current.changed().await;
        }
    }
}

async fn check(backends: Arc<Backends>, at: usize) {
    let pool = &backends.pools()[at];
    while let Some(interval) = pool.check_interval() {
        let notice = pool.check().await;
        if pool.health().passes_checks() {
            // It answers as it is asked: what it wanted to see in vain was no condition.
            pool.note_answer();
        }
        let why = pool.health().why().unwrap_or_default().to_owned();
        backends.tell(pool, notice, &why);
        sleep(interval).await;
    }
}
