//! How many tokens were issued, and how many were not by each reason.

use std::sync::atomic::{AtomicU64, Ordering};

use super::decide::Door;
use super::refusal::Refusal;

/// What tokens were issued for, as counted.
const ISSUED: [(Door, &str); 3] = [
    (Door::Register, "token_service_registered"),
    (Door::Renew, "token_service_renewed"),
    (Door::Exchange, "token_service_exchanged"),
];

/// Counts since the start.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    issued: [AtomicU64; ISSUED.len()],
    refused: [AtomicU64; Refusal::CODES.len()],
}

impl Tally {
    pub(super) fn issued(&self, door: Door) {
        let place = ISSUED.iter().position(|(it, _)| *it == door);
        if let Some(count) = place.and_then(|place| self.issued.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn refused(&self, why: &Refusal) {
        let place = Refusal::CODES.iter().position(|it| *it == why.code());
        if let Some(count) = place.and_then(|place| self.refused.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What was counted, by name: `token_service_registered`, `token_service_refused_blocked`.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (String, u64)> {
        let issued =
            ISSUED.iter().zip(&self.issued).map(|((_, name), it)| ((*name).to_owned(), it));
        let refused = Refusal::CODES.iter().zip(&self.refused);
        let refused = refused.map(|(code, it)| (format!("token_service_refused_{code}"), it));
        issued.chain(refused).map(|(name, count)| (name, count.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_issued_and_refused_is_counted_by_its_name() {
        let tally = Tally::default();
        tally.issued(Door::Renew);
        tally.refused(&Refusal::Busy);
        tally.refused(&Refusal::Busy);
        let counted: Vec<_> = tally.counts().filter(|(_, count)| *count > 0).collect();
        let expected = [("token_service_renewed", 1), ("token_service_refused_busy", 2)];
        assert_eq!(counted, expected.map(|(name, count)| (name.to_owned(), count)));
        assert_eq!(tally.counts().count(), 23);
    }
}
