//! Telling every gateway instance what the site publishes: on each link as soon as it is up, and
//! again whenever that changes.
//!
//! An instance that cannot be told, or refuses, is asked again while the link is up; nothing else
//! depends on it. [`ConnectionPoint::published`] shows what became of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Method;
use tokio::time::{sleep, timeout};

use crate::link::Link;
use crate::transport::Instance;

use super::ConnectionPoint;
use super::backoff::Backoff;
use super::tell::{Untold, WITHIN, tell};

/// First delay after an instance refused, or was not reached, and the ceiling of later ones.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// What became of the latest settings at one gateway instance.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PublishState {
    /// The instance.
    pub instance: Instance,
    /// The version that was offered last; `None` while none was.
    pub version: Option<u64>,
    /// What became of it.
    pub outcome: PublishOutcome,
    /// When that became known; for [`PublishOutcome::Waiting`] when the link came up, and without a
    /// link now.
    pub at: SystemTime,
}

/// What became of settings at an instance.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum PublishOutcome {
    /// No link to the instance is up, or it has not answered yet.
    Waiting,
    /// They hold there.
    Applied,
    /// The instance refused them. Those before still hold there.
    Refused {
        /// The status: 400 for what is no document, 403 for another site's, 409 for one that is
        /// older than what holds, or differs from what holds in all but its version.
        status: u16,
        /// Why, for people; at most 128 octets.
        reason: String,
    },
    /// The instance could not be told. Its own fault, or the link's.
    Failed {
        /// Why, for people.
        why: String,
    },
}

/// What is known of each link that is up.
#[derive(Debug, Default)]
pub(super) struct Told {
    next: u64,
    links: HashMap<u64, PublishState>,
}

/// Forgets a link when it is dropped.
struct Forget<'a> {
    told: &'a Mutex<Told>,
    number: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(self.told).links.remove(&self.number);
    }
}

fn lock(told: &Mutex<Told>) -> MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ConnectionPoint {
    /// What became of the settings at each instance that is dialled, and at those that are linked
    /// to besides; by instance. Of several links the one that was told last counts.
    pub fn published(&self) -> Vec<PublishState> {
        let at = SystemTime::now();
        let mut by_instance: HashMap<Instance, PublishState> = HashMap::new();
        for gateway in self.inner.gateways.borrow().iter() {
            let (instance, outcome) = (gateway.instance, PublishOutcome::Waiting);
            by_instance.insert(instance, PublishState { instance, version: None, outcome, at });
        }
        for state in lock(&self.inner.told).links.values() {
            let latest = by_instance.entry(state.instance).or_insert_with(|| state.clone());
            // One that is being told says nothing yet.
            let rank = |it: &PublishState| (it.outcome != PublishOutcome::Waiting, it.at);
            if rank(latest) < rank(state) {
                latest.clone_from(state);
            }
        }
        let mut states: Vec<_> = by_instance.into_values().collect();
        states.sort_by_key(|state| state.instance.number());
        states
    }

    /// Publishes over one link, until it ends or the connection point stops.
    pub(super) async fn publish(&self, link: &Link, instance: Instance) {
        tokio::select! {
            () = self.keep_published(link, instance) => {}
            _ = link.closed() => {}
            () = self.stopped() => {}
        }
    }

    async fn keep_published(&self, link: &Link, instance: Instance) {
        let mut current = self.inner.current.subscribe();
        let number = {
            let mut told = lock(&self.inner.told);
            told.next += 1;
            let (number, at, outcome) = (told.next, SystemTime::now(), PublishOutcome::Waiting);
            told.links.insert(number, PublishState { instance, version: None, outcome, at });
            number
        };
        let _forget = Forget { told: &self.inner.told, number };
        let mut backoff = Backoff::new(AGAIN.0, AGAIN.1);
        loop {
            let latest = Arc::clone(&current.borrow_and_update());
            let outcome = match timeout(WITHIN, put(link, latest.octets.clone())).await {
                Ok(Ok(outcome)) => outcome,
                // Another link is about to take its place, or the instance goes.
                Ok(Err(_)) if !link.is_open() => return,
                Ok(Err(why)) => PublishOutcome::Failed { why: why.to_string() },
                Err(_) => PublishOutcome::Failed { why: Untold::Timeout(WITHIN).to_string() },
            };
            let again = match outcome {
                PublishOutcome::Applied => None,
                _ => Some(backoff.next(fastrand::f64())),
            };
            let version = latest.document.version;
            let at = SystemTime::now();
            self.note(number, PublishState { instance, version: Some(version), outcome, at });
            let asked_again = async {
                match again {
                    Some(delay) => sleep(delay).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = asked_again => {}
                changed = current.changed() => {
                    // The sender lives as long as `self`.
                    let Ok(()) = changed else { return };
                    backoff = Backoff::new(AGAIN.0, AGAIN.1);
                }
            }
        }
    }

    /// Remembers what became of the settings on a link, and logs what is new about it.
    fn note(&self, number: u64, state: PublishState) {
        let mut told = lock(&self.inner.told);
        let (instance, version) = (state.instance, state.version);
        let same = |it: &PublishState| it.version == version && it.outcome == state.outcome;
        // Its other links are told the same, and it is asked again and again.
        let is_known = told.links.values().any(|it| it.instance == instance && same(it));
        if !is_known {
            match &state.outcome {
                PublishOutcome::Refused { status, reason } => tracing::warn!(
                    %instance, version, status, reason, "the instance refused the settings"
                ),
                PublishOutcome::Failed { why } => {
                    tracing::warn!(%instance, version, why, "the instance could not be told");
                }
                _ => tracing::info!(%instance, version, "settings published"),
            }
        }
        told.links.insert(number, state);
    }
}

/// Sends a document and waits for the answer.
async fn put(link: &Link, document: Bytes) -> Result<PublishOutcome, Untold> {
    let answer = tell(link, Method::PUT, "/relay/settings", Some(document)).await?;
    if answer.status.is_success() {
        return Ok(PublishOutcome::Applied);
    }
    Ok(PublishOutcome::Refused { status: answer.status.as_u16(), reason: answer.reason })
}
