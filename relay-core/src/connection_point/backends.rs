//! The backends of one endpoint: which is asked, and when another is.
//!
//! A request goes to another backend if it got no connection to the one before: none could be made,
//! or opened, or it ended before it was given the request. So none of it was sent. If its
//! connection broke before an octet of an answer, and it changes nothing and has no body, it is
//! sent again once, over a new connection if one may be opened: to another backend, or to the same
//! one if the connection had been kept from an earlier request. Read [`Backends`] first; what is
//! known of each is in `backend_health.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Response, Uri};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::transport::Network;

use super::backend::{Busy, Over, Place, Pool, SendFailed, with_causes};
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
    pools: Vec<Arc<Pool>>,
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
    /// Whether it changes nothing and has no body, so that a backend may see it twice.
    pub(super) is_repeatable: bool,
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
    Failed(SendFailed),
    /// The endpoint has no backend, or its URL makes no URI.
    Nowhere,
}

/// Which backend has a request at the moment, for whoever loses patience.
#[derive(Debug, Default)]
pub(super) struct Asked {
    place: AtomicUsize,
    /// Whether another one, or another connection, used up a part of the request's time.
    is_late: AtomicBool,
}

impl Asked {
    const NOBODY: usize = 0;

    fn set(&self, backend: Option<usize>) {
        self.place.store(backend.map_or(Self::NOBODY, |place| place + 1), Ordering::Relaxed);
    }

    fn get(&self) -> Option<usize> {
        self.place.load(Ordering::Relaxed).checked_sub(1)
    }
}

/// What became of a request so far.
struct Tries {
    tried: [bool; BACKENDS_MAX],
    failure: Unanswered,
    /// Why it is sent again, if it is: no failure to send it again is told in place of that one.
    lost: Option<SendFailed>,
}

impl Tries {
    fn new() -> Self {
        Self { tried: [false; BACKENDS_MAX], failure: Unanswered::Nowhere, lost: None }
    }

    fn over(&self) -> Over {
        if self.lost.is_some() { Over::New } else { Over::Any }
    }

    /// Why there is no answer.
    fn why(self) -> Unanswered {
        self.lost.map_or(self.failure, Unanswered::Failed)
    }
}

/// A request that is a backend's trial, until it is known how it ended.
struct Trial<'a>(Option<&'a Pool>);

impl<'a> Trial<'a> {
    fn of(pool: &'a Pool) -> Self {
        let limits = pool.limits();
        let is_trial = pool.health().take(limits.connect + limits.answer, Instant::now());
        Self(is_trial.then_some(pool))
    }

    /// It is known.
    fn over(mut self) {
        self.0 = None;
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if let Some(pool) = self.0 {
            pool.health().give_back_trial(Instant::now());
        }
    }
}

impl Backends {
    /// Those of `config`. Of those `before` with everything else equal, each one at the same place
    /// stays, with its connections and what is known of it.
    pub(super) fn new(
        endpoint: &str,
        config: &BackendConfig,
        limits: &ConnectionPointLimits,
        network: &Network,
        before: Option<&Self>,
    ) -> Self {
        let before = before.filter(|before| before.config.is_but_for_urls(config));
        let config = match before {
            // Their connections are made with it.
            Some(Self { config: BackendConfig { tls, certificates, .. }, .. }) => BackendConfig {
                tls: tls.clone(),
                certificates: certificates.clone(),
                ..config.clone()
            },
            None => config.clone(),
        };
        if let (None, Some(certificates)) = (before, &config.certificates) {
            certificates.tell();
        }
        let limits = Settled::new(&config.limits, limits);
        let kept = |url: &Uri| before?.pools.iter().find(|pool| pool.url() == url).cloned();
        let pools = config.urls.iter().take(BACKENDS_MAX).map(|url| {
            kept(url).unwrap_or_else(|| Arc::new(Pool::new(url, &config, limits, network)))
        });
        let pools = pools.collect();
        Self { endpoint: endpoint.to_owned(), pools, config, turn: AtomicUsize::new(0) }
    }

    /// Whether those made from `config` for `endpoint` would be the same.
    pub(super) fn is_to(&self, endpoint: &str, config: &BackendConfig) -> bool {
        self.endpoint == endpoint && self.config.is(config)
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(super) fn pools(&self) -> &[Arc<Pool>] {
        &self.pools
    }

    pub(super) fn config(&self) -> &BackendConfig {
        &self.config
    }

    /// Sends a request to the backend with the fewest, to the next if it takes no connection, and
    /// again as the room's rule says.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the request at the backend.
    pub(super) async fn send(
        &self,
        mut order: Order,
        asked: &Asked,
    ) -> Result<Answer<'_>, Unanswered> {
        let mut tries = Tries::new();
        let mut next = self.next(&tries);
        while let Some((at, pool)) = next {
            tries.tried[at] = true;
            match self.ask((at, pool), &mut order, &tries, asked).await {
                Ok((response, place)) => {
                    self.answered(pool);
                    return Ok(Answer { response, backend: pool.url(), place });
                }
                // Whoever has waited once waits no more.
                Err(Unanswered::Busy(busy @ Busy::TooLong(_))) => {
                    tries.failure = Unanswered::Busy(busy);
                    break;
                }
                Err(Unanswered::Failed(why)) if why.is_unsent() => {
                    if why.is_unreachable() {
                        self.failed(pool, &with_causes(&why.error));
                    }
                    tries.failure =
                        why.no_place().map_or(Unanswered::Failed(why), Unanswered::Busy);
                }
                Err(Unanswered::Failed(why)) => {
                    next = self.again((at, pool), &order, &mut tries, why);
                    asked.is_late.store(true, Ordering::Relaxed);
                    continue;
                }
                Err(Unanswered::Nowhere) => break,
                Err(why) => tries.failure = why,
            }
            next = self.next(&tries);
        }
        Err(tries.why())
    }

    /// Has one backend asked.
    async fn ask(
        &self,
        (at, pool): (usize, &Pool),
        order: &mut Order,
        tries: &Tries,
        asked: &Asked,
    ) -> Result<(Response<Incoming>, Place), Unanswered> {
        let place = pool.place().await.map_err(Unanswered::Busy)?;
        let headers = match self.pools.len() {
            1 if !order.is_repeatable => std::mem::take(&mut order.headers),
            _ => order.headers.clone(),
        };
        let head = pool.head(order.method.clone(), order.target.clone(), headers);
        let last_move = order.last_move.clone();
        let body = match tries.lost {
            None => Upload::new(&order.body, last_move, Arc::clone(&place)),
            Some(_) => Some(Upload::nothing(last_move, Arc::clone(&place))),
        };
        let (Some(head), Some(body)) = (head, body) else { return Err(Unanswered::Nowhere) };
        let mut request = head.map(|()| body);
        order.interims.hear(&mut request);
        asked.set(Some(at));
        if tries.lost.is_none() {
            // Neither the time in line nor that of one before is held against it. The deadline of
            // what is sent again runs from the first time.
            order.last_move.set();
        }
        let trial = Trial::of(pool);
        let outcome = pool.send(request, tries.over()).await;
        if outcome.as_ref().err().is_none_or(SendFailed::is_unreachable) {
            trial.over();
        }
        asked.set(None);
        outcome.map(|response| (response, place)).map_err(Unanswered::Failed)
    }

    /// Where a request is sent again whose connection at a backend has broken; `None`: nowhere.
    // The one rule of re-sending: see "Sending again" in ARCHITECTURE.md.
    fn again<'a>(
        &'a self,
        (at, pool): (usize, &'a Arc<Pool>),
        order: &Order,
        tries: &mut Tries,
        why: SendFailed,
    ) -> Option<(usize, &'a Arc<Pool>)> {
        let is_first = tries.lost.is_none();
        let may_be = order.is_repeatable && is_first && why.is_unheard() && !why.asked_in_vain;
        let was_kept = why.was_kept();
        if is_first {
            tries.lost = Some(why);
        }
        if !may_be {
            return None;
        }
        let is_up = |pool: &Pool| pool.health().state(Instant::now()) == BackendState::Up;
        // The turn is that of the next request.
        let turn = self.turn.load(Ordering::Relaxed);
        let other = self.pick(tries, turn).filter(|(_, other)| is_up(other));
        let next = other.or(was_kept.then_some((at, pool)))?;
        tracing::debug!(
            endpoint = self.endpoint, from = %pool.url(), to = %next.1.url(),
            "the connection broke before an answer; the request is sent again"
        );
        Some(next)
    }

    /// There was no answer in time. Returns whether a backend had the request; it is not blamed if
    /// the client was waited for, or the request had been sent before.
    pub(super) fn timed_out(&self, asked: &Asked, last_move: &LastMove) -> bool {
        let is_late = asked.is_late.load(Ordering::Relaxed);
        let Some(pool) = asked.get().and_then(|at| self.pools.get(at)) else { return is_late };
        if !last_move.waits_for_client() && !is_late {
            self.failed(pool, "no answer in time");
        }
        true
    }

    /// The backend to ask next: of those that are up the one with the fewest requests, in turns.
    /// If none is up, or takes a connection, those that are left alone are asked as well, by rank:
    /// what is known of them may be old. That a line is full is no reason to.
    fn next(&self, tries: &Tries) -> Option<(usize, &Arc<Pool>)> {
        self.pick(tries, self.turn.fetch_add(1, Ordering::Relaxed))
    }

    fn pick(&self, tries: &Tries, turn: usize) -> Option<(usize, &Arc<Pool>)> {
        let Tries { tried, failure, .. } = tries;
        let count = self.pools.len();
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
        pool.note_answer();
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
