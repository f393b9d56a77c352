//! Whether what a site says of its tokens holds at its instances, for the log and `relay status`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::published::Published;

/// How often it is said again that blocks cannot be published.
const TOLD_EVERY: Duration = Duration::from_mins(1);

/// Whether the site's tokens are published, for whoever asks. In memory; clones show the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct TokensState(Arc<Mutex<State>>);

/// What became of the last look.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    /// What holds: its revision, and numbers of signing certificates and blocks.
    pub(crate) published: Option<Summary>,
    /// Since when what there is cannot be published, and why.
    pub(crate) trouble: Option<(SystemTime, String)>,
    told: Option<Instant>,
}

/// What is published, in short.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Summary {
    pub(crate) revision: u64,
    pub(crate) signers: usize,
    pub(crate) blocked: usize,
}

impl Summary {
    fn of(published: &Published) -> Self {
        let signers = published.signers.as_ref();
        Self {
            revision: published.revision,
            signers: signers.map_or(0, |it| it.certificates.len()),
            blocked: signers.map_or(0, |it| it.blocked.len()),
        }
    }
}

impl TokensState {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it is now.
    pub(crate) fn read(&self) -> State {
        self.lock().clone()
    }

    /// Notes that this holds.
    pub(crate) fn published(&self, published: Option<&Published>) {
        let mut state = self.lock();
        if state.trouble.take().is_some() {
            tracing::info!("blocks can be read and published again");
        }
        *state = State { published: published.map(Summary::of), ..State::default() };
    }

    /// Notes why nothing newer is published, and says so at once and again each minute: a block
    /// that does not hold is nothing to be said once.
    pub(crate) fn failed(&self, why: &anyhow::Error) {
        let mut state = self.lock();
        let (why, now) = (format!("{why:#}"), Instant::now());
        let is_known = state.trouble.as_ref().is_some_and(|(_, before)| *before == why);
        let is_due = |told| TOLD_EVERY <= now.saturating_duration_since(told);
        if !is_known || state.told.is_none_or(is_due) {
            tracing::error!(why, "blocks cannot be read or published; those before still hold");
            state.told = Some(now);
        }
        let since = state.trouble.take().map_or_else(SystemTime::now, |(since, _)| since);
        state.trouble = Some((since, why));
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn trouble_is_known_from_its_beginning_and_ends_with_what_is_published() {
        let state = TokensState::default();
        state.failed(&anyhow!("full"));
        let (since, _) = state.read().trouble.unwrap();
        state.failed(&anyhow!("fuller"));
        assert_eq!(state.read().trouble, Some((since, "fuller".to_owned())));
        assert_eq!(state.read().published, None);
        state.published(Some(&Published { signers: None, revision: 7 }));
        let summary = Summary { revision: 7, signers: 0, blocked: 0 };
        assert_eq!((state.read().published, state.read().trouble), (Some(summary), None));
        state.failed(&anyhow!("gone"));
        assert_eq!(state.read().published, Some(summary), "it still holds");
    }
}
