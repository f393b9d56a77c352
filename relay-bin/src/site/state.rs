//! Whether what a site says of its tokens holds at its instances, for the log and `relay status`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use relay_core::settings::PublishedSigners;

use super::published::Looked;

/// How often it is said again that something of the tokens cannot be used.
const TOLD_EVERY: Duration = Duration::from_mins(1);

/// Whether the site's tokens are published, for whoever asks. In memory; clones show the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct TokensState(Arc<Mutex<State>>);

/// What became of the last look.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    /// What holds: its revision, and numbers of signing certificates and blocks.
    pub(crate) published: Option<Summary>,
    /// What there is cannot be published.
    pub(crate) trouble: Option<Trouble>,
    /// This connection point's keys cannot be used. What there is, is published.
    pub(crate) key_fault: Option<Trouble>,
    /// Until when its key signs, in seconds since 1970 UTC.
    pub(crate) signing_ends: Option<u64>,
}

/// Something that does not work, from its beginning.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Trouble {
    /// When it began.
    pub(crate) since: SystemTime,
    /// What it is now.
    pub(crate) why: String,
    told: Instant,
}

impl Trouble {
    /// Notes what it is now. Returns whether that has to be said: it is news, or was said a while
    /// ago.
    fn note(noted: &mut Option<Self>, why: String, now: Instant) -> bool {
        let is_due = noted
            .as_ref()
            .is_none_or(|it| it.why != why || TOLD_EVERY <= now.saturating_duration_since(it.told));
        let since = noted.as_ref().map_or_else(SystemTime::now, |it| it.since);
        let told = noted.as_ref().map_or(now, |it| if is_due { now } else { it.told });
        *noted = Some(Self { since, why, told });
        is_due
    }
}

/// What is published, in short.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Summary {
    pub(crate) revision: u64,
    pub(crate) signers: usize,
    pub(crate) blocked: usize,
}

impl Summary {
    fn of(published: &PublishedSigners) -> Self {
        Self {
            revision: published.revision,
            signers: published.certificates.len(),
            blocked: published.blocked.len(),
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

    /// Notes that this holds, and says of keys that cannot be used at once and again each minute.
    pub(crate) fn published(&self, looked: &Looked) {
        let mut state = self.lock();
        if state.trouble.take().is_some() {
            tracing::info!("blocks can be read and published again");
        }
        state.published = looked.published.as_ref().map(Summary::of);
        state.signing_ends = looked.signing_ends;
        let Some(why) = looked.key_fault.clone() else {
            if state.key_fault.take().is_some() {
                tracing::info!("signing keys can be used again");
            }
            return;
        };
        if Trouble::note(&mut state.key_fault, why.clone(), Instant::now()) {
            tracing::error!(why, "signing keys cannot be used; blocks are published all the same");
        }
    }

    /// Notes why nothing newer is published, and says so at once and again each minute: a block
    /// that does not hold is nothing to be said once.
    pub(crate) fn failed(&self, why: &anyhow::Error) {
        let why = format!("{why:#}");
        if Trouble::note(&mut self.lock().trouble, why.clone(), Instant::now()) {
            tracing::error!(why, "blocks cannot be read or published; those before still hold");
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use relay_core::auth::Guid;

    use super::*;

    fn whys(state: &TokensState) -> [Option<String>; 2] {
        let State { trouble, key_fault, .. } = state.read();
        [trouble, key_fault].map(|it| it.map(|it| it.why))
    }

    #[test]
    fn trouble_is_known_from_its_beginning_and_ends_with_what_is_published() {
        let state = TokensState::default();
        state.failed(&anyhow!("full"));
        let since = state.read().trouble.unwrap().since;
        state.failed(&anyhow!("fuller"));
        assert_eq!(whys(&state), [Some("fuller".to_owned()), None]);
        assert_eq!(state.read().trouble.unwrap().since, since);
        assert_eq!(state.read().published, None);
        let published = Some(PublishedSigners {
            tenant: Guid(1),
            revision: 7,
            certificates: Vec::new(),
            blocked: Vec::new(),
        });
        let mut looked =
            Looked { published, key_fault: Some("cut".to_owned()), signing_ends: None };
        state.published(&looked);
        let summary = Summary { revision: 7, signers: 0, blocked: 0 };
        assert_eq!(state.read().published, Some(summary));
        assert_eq!(whys(&state), [None, Some("cut".to_owned())], "keys are another matter");
        looked.key_fault = None;
        state.published(&looked);
        assert_eq!(whys(&state), [None, None]);
        state.failed(&anyhow!("gone"));
        assert_eq!(state.read().published, Some(summary), "it still holds");
    }

    #[test]
    fn trouble_is_said_when_it_is_news_and_again_after_a_minute() {
        let (mut noted, start) = (None, Instant::now());
        let said = [("a", 0), ("a", 59), ("b", 60), ("b", 119), ("b", 120), ("b", 121)];
        let said = said.map(|(why, seconds)| {
            Trouble::note(&mut noted, why.to_owned(), start + Duration::from_secs(seconds))
        });
        assert_eq!(said, [true, false, true, false, true, false]);
    }
}
