//! What a supervisor lets others see of its links.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::link::Link;
use crate::transport::Rung;

/// What a supervisor does now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Phase {
    /// It tries the ways to the instance.
    Dialling,
    /// Its link is up.
    Up,
    /// The first link to the instance is up over QUIC, and needs no other beside it.
    Resting,
    /// No way carries a link, or the link was lost. It dials again when the time has come.
    Waiting {
        /// What went wrong, for an administrator.
        why: Arc<str>,
        /// When it dials again.
        until: Instant,
    },
}

/// A link and where it came up.
#[derive(Clone, Debug)]
pub(super) struct ShownLink {
    pub(super) link: Link,
    pub(super) rung: Rung,
    pub(super) since: Instant,
}

/// Written by one supervisor, read by whoever asks.
#[derive(Debug)]
pub(super) struct Shown(Mutex<State>);

#[derive(Debug)]
pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) since: Instant,
    /// The link that came up last is the last one; those before it drain.
    pub(super) links: Vec<ShownLink>,
}

impl Shown {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State { phase: Phase::Dialling, since: now(), links: Vec::new() }))
    }

    pub(super) fn turn_to(&self, phase: Phase) {
        let mut state = self.state();
        state.phase = phase;
        state.since = now();
    }

    pub(super) fn up(&self, link: &Link, rung: Rung) {
        let mut state = self.state();
        state.phase = Phase::Up;
        state.since = now();
        state.links.push(ShownLink { link: link.clone(), rung, since: now() });
    }

    /// What there is to see. Links that have ended are gone from it.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.links.retain(|shown| shown.link.close_reason().is_none());
        state
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
