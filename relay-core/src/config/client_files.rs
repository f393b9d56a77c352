//! The files that say whose clients count, so that they can be looked at while a role runs.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::warning::Warning;
use crate::auth::Crl;

/// The end of a list is warned of so long before it at most. Our choice: over a weekend.
const ENDS_SOON: Duration = Duration::from_hours(72);

/// The files that `[clients]` and each `[[tenant]]` name, as they were when they were read.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct ClientFiles {
    /// Every one: roots, intermediates, revocation lists, keys of tenants.
    pub files: Vec<PathBuf>,
    /// Each list in them.
    pub lists: Vec<ClientList>,
}

/// A revocation list that is published from a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientList {
    /// The file.
    pub file: PathBuf,
    /// When it was issued, in seconds since 1970 UTC.
    pub this_update: u64,
    /// When it is over, in seconds since 1970 UTC.
    pub next_update: u64,
}

impl ClientFiles {
    /// What deserves attention about the lists at `now`.
    pub fn warnings(&self, now: SystemTime) -> Vec<Warning> {
        self.lists.iter().filter_map(|list| list.warning(now)).collect()
    }
}

impl ClientList {
    /// The list of `file` that is `der`; `None` if it is none.
    pub(super) fn read(file: PathBuf, der: &Bytes) -> Option<Self> {
        let list = Crl::from_der(der).ok()?;
        let (this_update, next_update) = (list.this_update(), list.next_update());
        Some(Self { file, this_update, next_update })
    }

    /// Whether it is over at `now`, or less than a third of its life is left and less than three
    /// days.
    fn warning(&self, now: SystemTime) -> Option<Warning> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let file = self.file.clone();
        if self.next_update <= now {
            return Some(Warning::ClientListOver { file });
        }
        let left = self.next_update - now;
        let third = self.next_update.saturating_sub(self.this_update) / 3;
        let is_soon = left < third.min(ENDS_SOON.as_secs());
        is_soon.then_some(Warning::ClientListEnds { file, hours_left: left / 3600 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;
    const DAY: u64 = 24 * HOUR;

    /// What is said of a list that lives for `life`, when so much of that is `left`.
    fn said(life: u64, left: u64) -> Option<Warning> {
        let begin = 1_800_000_000;
        let list = ClientList { file: "a".into(), this_update: begin, next_update: begin + life };
        list.warning(UNIX_EPOCH + Duration::from_secs(begin + life - left))
    }

    #[test]
    fn the_end_of_a_list_is_warned_of_in_the_last_third_of_its_life_and_three_days() {
        let ends = |hours_left| Some(Warning::ClientListEnds { file: "a".into(), hours_left });
        let over = Some(Warning::ClientListOver { file: "a".into() });
        assert_eq!([said(3 * DAY, DAY), said(3 * DAY, DAY - 1)], [None, ends(23)]);
        assert_eq!([said(90 * DAY, 3 * DAY), said(90 * DAY, 3 * DAY - 1)], [None, ends(71)]);
        assert_eq!([said(DAY, 1), said(DAY, 0)], [ends(0), over]);
    }
}
