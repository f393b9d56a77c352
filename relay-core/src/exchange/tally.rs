//! How often exchanges ended otherwise than their client wished, by reason.

use std::sync::atomic::{AtomicU64, Ordering};

/// What is counted that the list has no name for; a fault of whoever wrote the list.
const OTHER: &str = "other";

/// Counts events by name, since it was made. The names are known beforehand, so that it never
/// grows, and to count takes no lock.
#[derive(Debug)]
pub struct Tally {
    counts: Box<[(&'static str, AtomicU64)]>,
    other: AtomicU64,
}

/// How often something has happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Count {
    /// Its name.
    pub name: &'static str,
    /// How often, since the start.
    pub count: u64,
}

impl Tally {
    /// Counts what `names` has.
    pub fn new(names: &[&'static str]) -> Self {
        let counts = names.iter().map(|name| (*name, AtomicU64::new(0))).collect();
        Self { counts, other: AtomicU64::new(0) }
    }

    /// Counts one more of `name`.
    pub fn note(&self, name: &str) {
        let found = self.counts.iter().find(|(known, _)| *known == name);
        found.map_or(&self.other, |(_, count)| count).fetch_add(1, Ordering::Relaxed);
    }

    /// All of it, in the order of the names; the last is for what has none.
    pub fn counts(&self) -> Vec<Count> {
        let read = |(name, count): (&'static str, &AtomicU64)| Count {
            name,
            count: count.load(Ordering::Relaxed),
        };
        let known = self.counts.iter().map(|(name, count)| (*name, count));
        known.chain([(OTHER, &self.other)]).map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_counted_by_itself_and_what_has_none_apart() {
        let tally = Tally::new(&["a", "b"]);
        for name in ["b", "a", "b", "c", ""] {
            tally.note(name);
        }
        let told: Vec<_> = tally.counts().iter().map(|it| (it.name, it.count)).collect();
        assert_eq!(told, [("a", 1), ("b", 2), (OTHER, 2)]);
    }
}
