//! One supervisor for each link that is to be up: dial, serve, wait, dial again; and climb to a
//! better rung without letting go of the one below.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

use crate::link::{DrainReport, Link};
use crate::mux::LinkError;
use crate::transport::{Ladder, Misstep, Rung};

use super::backoff::Backoff;
use super::config::GatewayAddress;
use super::drained::drain;
use super::serve::Standing;
use super::shown::{Phase, Shown};
use super::{ConnectionPoint, LinkEnded};

/// A gateway instance, and what all links to it have learnt about the ways there.
#[derive(Debug)]
pub(super) struct Route {
    gateway: GatewayAddress,
    ladder: Mutex<Ladder>,
    /// Whether the first of the links is up over QUIC. The others rest then: a QUIC connection
    /// keeps its exchanges apart by itself.
    on_quic: watch::Sender<bool>,
    /// Changes whenever a way has worked.
    proven: watch::Sender<()>,
    /// Turns true when the instance is dialled no more.
    removed: watch::Sender<bool>,
}

impl Route {
    pub(super) fn new(gateway: GatewayAddress) -> Self {
        let ladder = Mutex::new(Ladder::new(gateway.rungs()));
        let (proven, removed) = (watch::Sender::new(()), watch::Sender::new(false));
        Self { gateway, ladder, on_quic: watch::Sender::new(false), proven, removed }
    }

    pub(super) fn gateway(&self) -> &GatewayAddress {
        &self.gateway
    }

    /// Has every link to the instance drained, and none dialled again.
    pub(super) fn remove(&self) {
        self.removed.send_replace(true);
    }

    /// A link came up on `rung`.
    pub(super) fn worked(&self, rung: Rung) {
        self.ladder(|ladder| ladder.worked(rung));
        self.proven.send_replace(());
    }

    pub(super) fn ladder<T>(&self, with: impl FnOnce(&mut Ladder) -> T) -> T {
        with(&mut self.ladder.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One of the links to an instance, as its supervisor sees it.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) route: Arc<Route>,
    /// Which of the links to the instance.
    pub(super) place: u32,
    /// How often it was tried.
    turn: AtomicU32,
    /// Whether a link is being made, which the gateway may know of already.
    pub(super) is_establishing: AtomicBool,
    pub(super) shown: Shown,
}

impl Way {
    pub(super) fn new(route: Arc<Route>, place: u32) -> Self {
        let (turn, is_establishing) = (AtomicU32::new(0), AtomicBool::new(false));
        Self { route, place, turn, is_establishing, shown: Shown::new() }
    }

    /// Whether this link may go by `rung`: only the first one goes over QUIC. The others are up at
    /// once where UDP is swallowed.
    pub(super) fn may_take(&self, rung: Rung) -> bool {
        self.place == 0 || rung != Rung::Quic
    }

    /// Tells the other links by which rung this one is up, if it is.
    fn tell(&self, rung: Option<Rung>) {
        if self.place == 0 {
            self.route.on_quic.send_replace(rung == Some(Rung::Quic));
        }
    }

    /// Waits until this link is to rest, because the first one is up over QUIC.
    async fn until_resting(&self) {
        if self.place == 0 {
            return std::future::pending().await;
        }
        // The sender lives as long as `self`.
        let _ = self.route.on_quic.subscribe().wait_for(|on_quic| *on_quic).await;
    }

    fn is_resting(&self) -> bool {
        self.place > 0 && *self.route.on_quic.borrow()
    }

    /// Waits while this link is to rest.
    async fn until_needed(&self) {
        if self.place > 0 {
            let _ = self.route.on_quic.subscribe().wait_for(|on_quic| !*on_quic).await;
        }
    }

    /// Has the ladder know that the gateway refused a link that had come up: that it has come up
    /// is known to this side with the gateway's hello, and to the gateway only with this side's.
    fn note_refusal(&self, rung: Rung, why: &LinkError) {
        if let LinkError::RefusedByPeer { .. } = why {
            let (why, now) = (LinkEnded::from(why.clone()), Instant::now().into_std());
            self.route.ladder(|ladder| ladder.failed(rung, &why.to_string(), now));
        }
    }

    /// The number of the next link, by which the gateway tells it from those before it.
    pub(super) fn next_number(&self) -> u64 {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        u64::from(self.place) << 32 | u64::from(turn)
    }
}

/// The links of one supervisor: the one that is up, and those that it has replaced.
#[derive(Debug, Default)]
struct Served {
    /// Ends with the link, and why it did.
    links: JoinSet<LinkError>,
    /// Replaced links, until the last request on them has ended.
    retiring: JoinSet<DrainReport>,
}

/// The link that is up.
#[derive(Debug)]
struct Current {
    link: Link,
    rung: Rung,
    since: Instant,
    id: Id,
}

/// How a supervisor's link came to its end.
enum End {
    /// It was lost, and is to be dialled anew.
    Lost(LinkError, Duration),
    /// Another one is up over QUIC, and this one drains.
    Resting,
    /// It is drained, by either side, and another is to stand in its place.
    Drained(Duration),
    /// The connection point stops, or dials the instance no more.
    Stopped(DrainReport),
}

impl ConnectionPoint {
    /// Keeps one link to an instance until the connection point stops or dials it no more.
    pub(super) async fn supervise(&self, way: &Way) -> DrainReport {
        let limits = &self.inner.config.limits;
        let (route, gateway) = (&way.route, &way.route.gateway);
        let mut backoff = Backoff::new(limits.redial_first, limits.redial_max);
        let mut served = Served::default();
        loop {
            let dialled = async {
                if way.is_resting() {
                    way.shown.turn_to(Phase::Resting);
                    way.until_needed().await;
                }
                way.shown.turn_to(Phase::Dialling);
                self.dial(way).await
            };
            let dialled = tokio::select! {
                biased;
                () = self.released(way) => return served.end().await,
                dialled = dialled => dialled,
            };
            let why = match dialled {
                Some((rung, standing)) => {
                    let end = self.stand(way, rung, standing, &mut served).await;
                    way.tell(None);
                    match end {
                        End::Resting => continue,
                        End::Stopped(report) => return report,
                        End::Lost(why, lived) => {
                            backoff.was_up(lived);
                            LinkEnded::from(why).to_string()
                        }
                        End::Drained(lived) => {
                            backoff.was_up(lived);
                            "the link is drained".to_owned()
                        }
                    }
                }
                None if self.inner.stopping.is_cancelled() => return served.end().await,
                None => route.ladder(|ladder| told(&ladder.missteps())),
            };
            let delay = backoff.next(fastrand::f64());
            let until = Instant::now() + delay;
            way.shown.turn_to(Phase::Waiting { why: why.as_str().into(), until: until.into_std() });
            tracing::warn!(
                instance = %gateway.instance, host = gateway.host, why,
                retry_in_ms = delay.as_millis(),
                "no link to the gateway instance"
            );
            tokio::select! {
                biased;
                () = self.released(way) => return served.end().await,
                () = sleep_until(until) => {}
            }
        }
    }

    /// Waits until the connection point stops, or dials the instance no more.
    async fn released(&self, way: &Way) {
        let mut removed = way.route.removed.subscribe();
        tokio::select! {
            biased;
            () = self.stopped() => {}
            // The sender lives as long as `way`.
            _ = removed.wait_for(|removed| *removed) => {}
        }
    }

    /// Serves a link until it is lost or the connection point stops, and climbs meanwhile.
    async fn stand(&self, way: &Way, rung: Rung, standing: Standing, served: &mut Served) -> End {
        let (limit, instance) = (self.inner.config.limits.drain, way.route.gateway.instance);
        let mut current = self.begin(way, rung, standing, served);
        let mut climb = pin!(self.climb(way, rung));
        let mut is_leaving = false;
        loop {
            way.tell(Some(current.rung));
            // A gateway drains a link as soon as it knows of the one that takes its place, which
            // may be before this side does.
            if is_leaving && !way.is_establishing.load(Ordering::Relaxed) {
                let lived = current.since.elapsed();
                // It ends by itself; the deadline is for a side that only says that it drains.
                let link = current.link;
                served.retiring.spawn(async move { drain(&link, instance, limit).await });
                return End::Drained(lived);
            }
            tokio::select! {
                // Each of these happens once to a link: none keeps another waiting.
                biased;
                Some(ended) = served.links.join_next_with_id() => {
                    let Some(why) = current.ended(ended) else { continue };
                    way.note_refusal(current.rung, &why);
                    return End::Lost(why, current.since.elapsed());
                }
                climbed = climb.as_mut() => {
                    if let Some((rung, standing)) = climbed {
                        // Make before break: requests in flight end where they are.
                        let better = self.begin(way, rung, standing, served);
                        let old = std::mem::replace(&mut current, better);
                        let retire = async move { drain(&old.link, instance, limit).await };
                        served.retiring.spawn(retire);
                        is_leaving = false;
                    }
                    climb.set(self.climb(way, current.rung));
                }
                () = way.until_resting() => {
                    let link = current.link.clone();
                    served.retiring.spawn(async move { drain(&link, instance, limit).await });
                    return End::Resting;
                }
                () = current.link.going_away(), if !is_leaving => {
                    // One that has ended says why before its task has.
                    if let Some(why) = current.link.close_reason() {
                        way.note_refusal(current.rung, &why);
                        return End::Lost(why, current.since.elapsed());
                    }
                    is_leaving = true;
                }
                () = self.released(way) => break,
            }
        }
        let (mut report, retired) =
            tokio::join!(drain(&current.link, instance, limit), served.end());
        report += retired;
        End::Stopped(report)
    }

    fn begin(&self, way: &Way, rung: Rung, standing: Standing, served: &mut Served) -> Current {
        let link = standing.link.clone();
        way.shown.up(&link, rung);
        let connection_point = self.clone();
        let task = async move { connection_point.serve_standing(standing).await };
        let id = served.links.spawn(task).id();
        Current { link, rung, since: Instant::now(), id }
    }

    /// Waits until it is time to try the better rungs, or one of them carries another link, and
    /// tries each. `None` if none carries a link.
    async fn climb(&self, way: &Way, from: Rung) -> Option<(Rung, Standing)> {
        let route = &way.route;
        let mut better = route.ladder(|ladder| ladder.better_than(from));
        better.retain(|rung| way.may_take(*rung));
        if better.is_empty() {
            return std::future::pending().await;
        }
        let is_proven = || route.ladder(|it| better.iter().any(|rung| it.is_proven(*rung)));
        let mut proven = route.proven.subscribe();
        let one_is_proven = async {
            while !is_proven() {
                // The sender lives in `route`.
                let _ = proven.changed().await;
            }
        };
        tokio::select! {
            () = sleep(self.inner.config.limits.better_rung.mul_f64(0.5 + fastrand::f64())) => {}
            () = one_is_proven => {}
        }
        for rung in &better {
            if let Some(standing) = self.try_rung(way, *rung).await {
                return Some((*rung, standing));
            }
        }
        None
    }
}

impl Current {
    /// Why this link ended, if it is the one that did.
    fn ended(&self, ended: Result<(Id, LinkError), tokio::task::JoinError>) -> Option<LinkError> {
        match ended {
            Ok((id, why)) => (id == self.id).then_some(why),
            Err(error) if error.id() == self.id => {
                Some(LinkError::Lost { cause: "its task has failed".into() })
            }
            Err(_) => None,
        }
    }
}

impl Served {
    /// Waits until every link has ended, with its last octets. They must be draining.
    async fn end(&mut self) -> DrainReport {
        let mut report = DrainReport::default();
        while let Some(ended) = self.retiring.join_next().await {
            report += ended.unwrap_or_default();
        }
        while self.links.join_next().await.is_some() {}
        report
    }
}

/// Why no rung carries a link, in one line.
fn told(missteps: &[Misstep]) -> String {
    let each: Vec<_> = missteps.iter().map(|it| format!("{}: {}", it.rung, it.why)).collect();
    each.join("; ")
}
