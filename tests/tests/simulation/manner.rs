//! How the two ends of an exchange behave: most as they should, some slowly, some site roles badly.

use std::time::Duration;

use fastrand::Rng;

use super::plan::{Kind, Weather};

/// The longest pause where roles are stopped meanwhile: well below what a drain waits for.
const PAUSE_SHORT_MS: u64 = 5000;

/// The longest elsewhere: well below the 30 s for which a client may stand still.
const PAUSE_LONG_MS: u64 = 20_000;

/// How an exchange is carried on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Manner {
    /// As it should be.
    Plain,
    /// The client takes nothing of the answer's body for so long.
    ReadsLate(Duration),
    /// The client stops for so long within its body.
    SendsLate(Duration),
    /// The site role takes nothing of the body for so long.
    TakesLate(Duration),
    /// The site role stops for so long within its answer.
    AnswersLate(Duration),
    /// The site role takes the request and says nothing.
    Silent,
    /// The site role closes the connection instead of answering.
    Closes,
    /// What the site role answers is no HTTP.
    Garbage,
    /// The site role closes the connection within its answer.
    BreaksOff,
    /// As that, and the connection is reset.
    Resets,
}

impl Manner {
    /// Draws how a request of this kind is carried on.
    pub(crate) fn draw(kind: Kind, has_body: bool, weather: Weather, rng: &mut Rng) -> Self {
        let longest = match weather {
            Weather::Calm | Weather::Site => PAUSE_LONG_MS,
            Weather::Drains | Weather::Faults => PAUSE_SHORT_MS,
        };
        let pause = Duration::from_millis(rng.u64(..longest));
        let slow = match rng.u8(..4) {
            0 => Self::ReadsLate(pause),
            1 if has_body => Self::SendsLate(pause),
            2 if has_body => Self::TakesLate(pause),
            _ => Self::AnswersLate(pause),
        };
        let bad = match rng.u8(..5) {
            // A notification may wait for ever.
            0 if kind != Kind::Held => Self::Silent,
            2 => Self::Garbage,
            // An answer to HEAD has nothing to be cut.
            3 if kind != Kind::Head => Self::BreaksOff,
            4 if kind != Kind::Head => Self::Resets,
            _ => Self::Closes,
        };
        match (weather, rng.u8(..12)) {
            (Weather::Site, 0..5) | (Weather::Faults, 0) => bad,
            (Weather::Site, 5..8) | (_, 1 | 2) => slow,
            _ => Self::Plain,
        }
    }

    /// How long an exchange takes more for it.
    pub(crate) fn pause(self) -> Duration {
        match self {
            Self::ReadsLate(pause)
            | Self::SendsLate(pause)
            | Self::TakesLate(pause)
            | Self::AnswersLate(pause) => pause,
            _ => Duration::ZERO,
        }
    }

    /// Whether nobody may ever take its answer for a whole one.
    pub(crate) fn is_bad(self) -> bool {
        self.is_cut() || matches!(self, Self::Silent | Self::Closes | Self::Garbage)
    }

    /// Whether the answer begins and does not end.
    pub(crate) fn is_cut(self) -> bool {
        matches!(self, Self::BreaksOff | Self::Resets)
    }
}
