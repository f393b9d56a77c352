//! Trying the ways to a gateway instance: one after another, and beside one that is silent.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use crate::transport::{ConnectError, Rung};

use super::carrier::Carrier;
use super::config::GatewayAddress;
use super::serve::Standing;
use super::supervise::Way;
use super::{ConnectionPoint, LinkEnded};

/// An attempt to reach an instance.
type Reach<'a> = Pin<Box<dyn Future<Output = Result<Carrier, ConnectError>> + Send + 'a>>;

/// The ways to one instance that are being tried.
#[derive(Default)]
struct Attempts<'a> {
    /// Those that have not been answered yet, in the order in which they began.
    open: Vec<(Rung, Reach<'a>)>,
    /// When the next is due beside them; `None` is now.
    next_due: Option<Instant>,
}

impl<'a> Attempts<'a> {
    fn begin(&mut self, rung: Rung, reach: Reach<'a>, patience: Duration) {
        self.open.push((rung, reach));
        self.next_due = Some(Instant::now() + patience);
    }

    /// Waits until one has been answered, or has failed. Pending while there is none.
    async fn ended(&mut self) -> (Rung, Result<Carrier, ConnectError>) {
        let (place, outcome) = poll_fn(|cx| {
            for (place, (_, reach)) in self.open.iter_mut().enumerate() {
                if let Poll::Ready(outcome) = reach.as_mut().poll(cx) {
                    return Poll::Ready((place, outcome));
                }
            }
            Poll::Pending
        })
        .await;
        self.next_due = None;
        (self.open.remove(place).0, outcome)
    }
}

impl ConnectionPoint {
    /// Tries each way once, in the ladder's order, until one carries a link; `None` if none does.
    ///
    /// The next is tried as soon as one fails, and beside one that is silent for
    /// [`next_rung`](super::ConnectionPointLimits::next_rung). The first that is answered and
    /// carries a link wins; what would have become of the others is not waited for.
    pub(super) async fn dial(&self, way: &Way) -> Option<(Rung, Standing)> {
        let patience = self.inner.config.limits.next_rung;
        let gateway = way.route.gateway();
        let order = way.route.ladder(|ladder| ladder.order());
        let mut order = order.into_iter().filter(|rung| way.may_take(*rung)).peekable();
        let mut attempts = Attempts::default();
        while !attempts.open.is_empty() || order.peek().is_some() {
            let due = attempts.next_due.unwrap_or_else(Instant::now);
            tokio::select! {
                biased;
                (rung, outcome) = attempts.ended() => {
                    let Some(standing) = self.settle(way, rung, outcome).await else { continue };
                    let why = format!("silent for {} s; {rung} was not", patience.as_secs_f32());
                    for (silent, _) in attempts.open {
                        note_failed(way, silent, &why);
                    }
                    return Some((rung, standing));
                }
                () = self.stopped() => return None,
                () = sleep_until(due), if order.peek().is_some() => {
                    let Some(rung) = order.next() else { continue };
                    attempts.begin(rung, Box::pin(self.reach_in_time(gateway, rung)), patience);
                }
            }
        }
        None
    }

    /// Tries one way, and notes what came of it.
    pub(super) async fn try_rung(&self, way: &Way, rung: Rung) -> Option<Standing> {
        let outcome = tokio::select! {
            biased;
            outcome = self.reach_in_time(way.route.gateway(), rung) => outcome,
            () = self.stopped() => return None,
        };
        self.settle(way, rung, outcome).await
    }

    async fn reach_in_time(
        &self,
        gateway: &GatewayAddress,
        rung: Rung,
    ) -> Result<Carrier, ConnectError> {
        let limits = &self.inner.config.limits;
        let limit = if rung == Rung::Quic { limits.dial_quic } else { limits.dial };
        self.take_turn().await;
        let carrier = timeout(limit, self.reach(gateway, rung)).await;
        carrier.unwrap_or(Err(ConnectError::Timeout { limit }))
    }

    /// Waits until this dial may begin: the dials of a connection point are spread, so that a
    /// gateway that comes back is not met by all of them at once.
    async fn take_turn(&self) {
        let turn = {
            let next = &self.inner.next_dial;
            let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = (*next).max(Instant::now());
            *next = turn + self.inner.config.limits.dial_pace;
            turn
        };
        sleep_until(turn).await;
    }

    /// Makes a link of what a way came to, and notes whether it carries one.
    ///
    /// The hello has its own deadline, in the link. It is waited for even if the connection point
    /// stops: to the gateway the link may be up, with requests on it, which a drain serves and a
    /// cut would lose.
    async fn settle(
        &self,
        way: &Way,
        rung: Rung,
        outcome: Result<Carrier, ConnectError>,
    ) -> Option<Standing> {
        let instance = way.route.gateway().instance;
        let standing = match outcome {
            Ok(carrier) => {
                let _establishing = Establishing::begin(&way.is_establishing);
                self.establish_in_safety(carrier, instance, way.next_number()).await
            }
            Err(why) => Err(LinkEnded::Connect(why)),
        };
        match standing {
            Ok(standing) => {
                way.route.worked(rung);
                let hello = standing.link.peer();
                let service = hello.as_ref().map_or("", |hello| hello.name.as_str());
                let software = hello.as_ref().map_or("", |hello| hello.software.as_str());
                tracing::info!(%instance, %rung, service, software, "link up");
                Some(standing)
            }
            Err(why) => {
                note_failed(way, rung, &why.to_string());
                None
            }
        }
    }
}

fn note_failed(way: &Way, rung: Rung, why: &str) {
    let instance = way.route.gateway().instance;
    tracing::debug!(%instance, %rung, why, "no link on this rung");
    let now = Instant::now().into_std();
    way.route.ladder(|ladder| ladder.failed(rung, why, now));
}

/// Says for as long as it lives that a link is being made.
struct Establishing<'a>(&'a AtomicBool);

impl<'a> Establishing<'a> {
    fn begin(flag: &'a AtomicBool) -> Self {
        flag.store(true, Ordering::Relaxed);
        Self(flag)
    }
}

impl Drop for Establishing<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
