//! What a check has come to.

use std::time::Duration;

use serde::Serialize;

/// The whole analysis, as `--json` prints it. Members are only ever added.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Analysis {
    pub(super) url: String,
    /// `fail` if any check failed.
    pub(super) verdict: Verdict,
    pub(super) checks: Vec<Check>,
}

impl Analysis {
    pub(super) fn new(url: String, checks: Vec<Check>) -> Self {
        let failed = checks.iter().any(|check| check.verdict == Verdict::Fail);
        let verdict = if failed { Verdict::Fail } else { Verdict::Pass };
        Self { url, verdict, checks }
    }

    /// How many checks came to `verdict`.
    pub(super) fn count(&self, verdict: Verdict) -> usize {
        self.checks.iter().filter(|check| check.verdict == verdict).count()
    }

    /// How many things will make a check fail that does not now.
    pub(super) fn warnings(&self) -> usize {
        self.checks.iter().map(|check| check.warnings.len()).sum()
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Pass,
    Fail,
    Skipped,
}

/// The checks, in the order of a request's way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    Service,
    Name,
    Version,
    Connected,
    Published,
    Channel,
}

impl Step {
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Service => 1,
            Self::Name => 2,
            Self::Version => 3,
            Self::Connected => 4,
            Self::Published => 5,
            Self::Channel => 6,
        }
    }

    fn id(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Name => "name",
            Self::Version => "version",
            Self::Connected => "connected",
            Self::Published => "published",
            Self::Channel => "channel",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Service => "the service runs and takes connections",
            Self::Name => "the name leads to a gateway with the right certificate",
            Self::Version => "every instance has the expected configuration",
            Self::Connected => "a connection point is connected to every instance",
            Self::Published => "a management point is published",
            Self::Channel => "the channel to each management point works",
        }
    }
}

/// One check.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Check {
    pub(super) number: u8,
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) verdict: Verdict,
    /// Why it was skipped; absent if it was not.
    pub(super) skipped: Option<Skipped>,
    pub(super) evidence: Vec<Item>,
    /// Why it failed, the likeliest first; empty if it did not.
    pub(super) causes: Vec<Cause>,
    /// What will make it fail if nothing is done. No check fails for it now.
    pub(super) warnings: Vec<Cause>,
}

/// Why a check was not made.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct Skipped {
    pub(super) because: String,
    /// The check that it depends on; absent if it was skipped by choice.
    pub(super) depends_on: Option<u8>,
}

/// Something that was seen.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct Item {
    pub(super) asked: String,
    pub(super) came: String,
    pub(super) milliseconds: Option<u64>,
}

impl Item {
    pub(super) fn new(asked: impl Into<String>, came: impl Into<String>) -> Self {
        Self { asked: asked.into(), came: came.into(), milliseconds: None }
    }

    pub(super) fn took(self, took: Duration) -> Self {
        Self { milliseconds: Some(u64::try_from(took.as_millis()).unwrap_or(u64::MAX)), ..self }
    }
}

/// What has probably made a check fail, and what to do about it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct Cause {
    /// A name that stays, for scripts.
    pub(super) id: &'static str,
    pub(super) means: String,
    pub(super) next: String,
}

impl Cause {
    pub(super) fn new(id: &'static str, means: impl Into<String>, next: impl Into<String>) -> Self {
        Self { id, means: means.into(), next: next.into() }
    }
}

/// A check under way: what was seen, and what is wrong with it.
#[derive(Debug)]
pub(super) struct Judging {
    step: Step,
    evidence: Vec<Item>,
    causes: Vec<Cause>,
    warnings: Vec<Cause>,
}

impl Judging {
    pub(super) fn of(step: Step) -> Self {
        Self { step, evidence: Vec::new(), causes: Vec::new(), warnings: Vec::new() }
    }

    pub(super) fn saw(&mut self, item: Item) {
        self.evidence.push(item);
    }

    /// Has the check fail. A cause that was told already is not told again.
    pub(super) fn blame(&mut self, cause: Cause) {
        if !self.causes.contains(&cause) {
            self.causes.push(cause);
        }
    }

    /// Tells what will make the check fail; it does not now. Each is told once.
    pub(super) fn warn(&mut self, cause: Cause) {
        if !self.warnings.contains(&cause) {
            self.warnings.push(cause);
        }
    }

    pub(super) fn is_blamed(&self) -> bool {
        !self.causes.is_empty()
    }

    /// The check passes, unless something was blamed.
    pub(super) fn judged(self) -> Check {
        let verdict = if self.causes.is_empty() { Verdict::Pass } else { Verdict::Fail };
        self.ended(verdict, None)
    }

    /// The check cannot be made before another one passes.
    pub(super) fn waits_for(self, other: Step, because: impl Into<String>) -> Check {
        let skipped = Skipped { because: because.into(), depends_on: Some(other.number()) };
        self.ended(Verdict::Skipped, Some(skipped))
    }

    /// Nobody has asked for the check.
    pub(super) fn unwanted(self, because: impl Into<String>) -> Check {
        let skipped = Skipped { because: because.into(), depends_on: None };
        self.ended(Verdict::Skipped, Some(skipped))
    }

    fn ended(self, verdict: Verdict, skipped: Option<Skipped>) -> Check {
        let Self { step, evidence, causes, warnings } = self;
        let (number, id, title) = (step.number(), step.id(), step.title());
        Check { number, id, title, verdict, skipped, evidence, causes, warnings }
    }
}
