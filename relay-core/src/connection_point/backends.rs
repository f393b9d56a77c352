//! The backends of one endpoint: which is asked, and when another is.
//!
//! A request goes to another backend only if no connection to the one before could be made, so that
//! none of it was sent. Read [`Backends`] first; what is known of each is in `backend_health.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Response, Uri};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::transport::Network;

use super::backend::{Busy, Place, Pool, with_causes};
use super::backend_config::{BACKENDS_MAX, BackendConfig, Settled};
use super::backend_health::{BackendState, Notice};
use super::config::ConnectionPointLimits;
use super::interim::Interims;
use super::upload::{LastMove, Unsent, Upload};

/// Every backend of one endpoint.
#[derive(Debug)]
pub(super) struct Backends {
    endpoint: String,
    config: BackendConfig,
    pools: Vec<Pool>,
    /// With whom the search for the next backend begins.
    turn: AtomicUsize,
}

/// A request that goes to one of them.
pub(super) struct Order {
    pub(super) method: Method,
    pub(super) target: PathAndQuery,
    pub(super) headers: HeaderMap,
    pub(super) body: Unsent,
    pub(super) last_move: LastMove,
    pub(super) interims: Interims,
}

/// An answer, and whose it is.
pub(super) struct Answer<'a> {
    pub(super) response: Response<Incoming>,
    pub(super) backend: &'a Uri,
    /// To be kept until the answer is over.
    pub(super) place: Place,
}

/// Why there is no answer.
pub(super) enum Unanswered {
    /// No backend has room.
    Busy(Busy),
    /// The last one that was asked failed.
    Failed(hyper_util::client::legacy::Error),
    /// The endpoint has no backend, or its URL makes no URI.
    Nowhere,
}

/// Which backend has a request at the moment, for whoever loses patience.
#[derive(Debug, Default)]
pub(super) struct Asked(AtomicUsize);

impl Asked {
    const NOBODY: usize = 0;

    fn set(&self, backend: Option<usize>) {
        self.0.store(backend.map_or(Self::NOBODY, |place| place + 1), Ordering::Relaxed);
    }

    fn get(&self) -> Option<usize> {
        self.0.load(Ordering::Relaxed).checked_sub(1)
    }
}

impl Backends {
    pub(super) fn new(
        endpoint: &str,
        config: &BackendConfig,
        limits: &ConnectionPointLimits,
        network: &Network,
    ) -> Self {
        if let Some(certificates) = &config.certificates {
            certificates.tell();
        }
        let limits = Settled::new(&config.limits, limits);
        let urls = config.urls.iter().take(BACKENDS_MAX);
        Self {
            endpoint: endpoint.to_owned(),
            pools: urls.map(|url| Pool::new(url, config, limits, network)).collect(),
            config: config.clone(),
            turn: AtomicUsize::new(0),
        }
    }

    /// Whether those made from `config` for `endpoint` would be the same.
    pub(super) fn is_to(&self, endpoint: &str, config: &BackendConfig) -> bool {
        self.endpoint == endpoint && self.config.is(config)
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(super) fn pools(&self) -> &[Pool] {
        &self.pools
    }

    pub(super) fn config(&self) -> &BackendConfig {
        &self.config
    }

    /// Sends a request to the backend with the fewest, and to the next if it takes no connection.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the request at the backend.
    pub(super) async fn send(
        &self,
        mut order: Order,
        asked: &Asked,
    ) -> Result<Answer<'_>, Unanswered> {
        let mut tried = [false; BACKENDS_MAX];
        let mut failure = Unanswered::Nowhere;
        while let Some((at, pool)) = self.next(&tried, &failure) {
            tried[at] = true;
            let place = match pool.place().await {
                Ok(place) => place,
                Err(busy @ Busy::LineFull(_)) => {
                    failure = Unanswered::Busy(busy);
                    continue;
                }
                // Whoever has waited once waits no more.
                Err(busy @ Busy::TooLong(_)) => return Err(Unanswered::Busy(busy)),
            };
            let headers = match self.pools.len() {
                1 => std::mem::take(&mut order.headers),
                _ => order.headers.clone(),
            };
            let head = pool.head(order.method.clone(), order.target.clone(), headers);
            let body = Upload::new(&order.body, order.last_move.clone(), Arc::clone(&place));
            let (Some(head), Some(body)) = (head, body) else { return Err(failure) };
            let mut request = head.map(|()| body);
            order.interims.hear(&mut request);
            asked.set(Some(at));
            // Neither the time in line nor that of one before is held against it.
            order.last_move.set();
            let limits = pool.limits();
            pool.health().take(limits.connect + limits.answer, Instant::now());
            let outcome = pool.send(request).await;
            asked.set(None);
            match outcome {
                Ok(response) => {
                    self.answered(pool);
                    return Ok(Answer { response, backend: pool.url(), place });
                }
                Err(error) if error.is_connect() => {
                    self.failed(pool, &with_causes(&error));
                    failure = Unanswered::Failed(error);
                }
                Err(error) => return Err(Unanswered::Failed(error)),
            }
        }
        Err(failure)
    }

    /// There was no answer in time. Returns whether a backend had the request; it is not blamed if
    /// the client was waited for.
    pub(super) fn timed_out(&self, asked: &Asked, last_move: &LastMove) -> bool {
        let Some(pool) = asked.get().and_then(|at| self.pools.get(at)) else { return false };
        if !last_move.waits_for_client() {
            self.failed(pool, "no answer in time");
        }
        true
    }

    /// The backend to ask next: of those that are up the one with the fewest requests, in turns.
    /// If none is up, or takes a connection, those that are left alone are asked as well, by rank:
    /// what is known of them may be old. That a line is full is no reason to.
    fn next(&self, tried: &[bool], failure: &Unanswered) -> Option<(usize, &Pool)> {
        let count = self.pools.len();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let places = (0..count).map(|step| (turn.wrapping_add(step)) % count);
        let untried = places.filter(|at| !tried[*at]).map(|at| (at, &self.pools[at]));
        let (up, down): (Vec<_>, Vec<_>) =
            untried.partition(|(_, pool)| pool.health().state(now) == BackendState::Up);
        let best = up.into_iter().min_by_key(|(_, pool)| {
            let (in_flight, waiting) = pool.load();
            in_flight + waiting
        });
        let is_busy = matches!(failure, Unanswered::Busy(_));
        best.or_else(|| {
            let down = down.into_iter().filter(|_| !is_busy);
            down.min_by_key(|(_, pool)| pool.health().rank())
        })
    }

    fn failed(&self, pool: &Pool, why: &str) {
        let limits = pool.limits();
        let rule = (limits.failures_max, limits.rest);
        let notice = pool.health().failed(why, rule, Instant::now());
        self.tell(pool, notice, why);
    }

    fn answered(&self, pool: &Pool) {
        if let Some(certificates) = &self.config.certificates {
            certificates.answered();
        }
        let notice = pool.health().answered(Instant::now());
        self.tell(pool, notice, "");
    }

    /// Logs what has become of a backend.
    pub(super) fn tell(&self, pool: &Pool, notice: Option<Notice>, why: &str) {
        let (endpoint, backend) = (&self.endpoint, pool.url());
        let is_alone = self.pools.len() == 1;
        match notice {
            None => {}
            Some(Notice::Rests(_)) if is_alone => tracing::warn!(
                endpoint, %backend, why,
                "the backend fails again and again; it is asked all the same, being the only one"
            ),
            Some(Notice::Rests(time)) => tracing::warn!(
                endpoint, %backend, why, rest_ms = time.as_millis(),
                "the backend fails again and again and is left alone for a while"
            ),
            Some(Notice::Answers) => {
                tracing::info!(endpoint, %backend, "the backend answers again");
            }
            Some(Notice::ChecksFail) => tracing::warn!(
                endpoint, %backend, why,
                "checks of the backend fail; it is asked only if no other is there"
            ),
            Some(Notice::CheckPasses) => {
                tracing::info!(endpoint, %backend, "a check of the backend passes again");
            }
        }
    }
}
