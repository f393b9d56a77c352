//! How many tokens were issued, and how many were not by each reason; and how often connections of
//! the site's own network came to a limit.

use std::sync::atomic::{AtomicU64, Ordering};

use super::decide::Door;
use super::refusal::Refusal;

/// What tokens were issued for, as counted.
const ISSUED: [(Door, &str); 3] = [
    (Door::Register, "token_service_registered"),
    (Door::Renew, "token_service_renewed"),
    (Door::Exchange, "token_service_exchanged"),
];

/// A limit that a connection of the site's own network came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Came {
    /// It has the last place of all: the next one waits.
    Last,
    /// Its source has as many as it may, so it was closed.
    OverSource,
    /// Its handshake took too long.
    LateHandshake,
    /// It was not over in time.
    Late,
}

/// The limits, as counted.
const CAME: [(Came, &str); 4] = [
    (Came::Last, "token_service_connections_full"),
    (Came::OverSource, "token_service_connections_dropped_source"),
    (Came::LateHandshake, "token_service_connections_dropped_handshake"),
    (Came::Late, "token_service_connections_dropped_late"),
];

/// Counts since the start.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    came: [AtomicU64; CAME.len()],
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

    pub(super) fn came(&self, to: Came) {
        let place = CAME.iter().position(|(it, _)| *it == to);
        if let Some(count) = place.and_then(|place| self.came.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What was counted, by name: `token_service_registered`, `token_service_refused_blocked`.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (String, u64)> {
        let issued =
            ISSUED.iter().zip(&self.issued).map(|((_, name), it)| ((*name).to_owned(), it));
        let refused = Refusal::CODES.iter().zip(&self.refused);
        let refused = refused.map(|(code, it)| (format!("token_service_refused_{code}"), it));
        let came = CAME.iter().zip(&self.came).map(|((_, name), it)| ((*name).to_owned(), it));
        issued.chain(refused).chain(came).map(|(name, count)| (name, count.load(Ordering::Relaxed)))
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
        tally.came(Came::Late);
        let counted: Vec<_> = tally.counts().filter(|(_, count)| *count > 0).collect();
        let expected = [
            ("token_service_renewed", 1),
            ("token_service_refused_busy", 2),
            ("token_service_connections_dropped_late", 1),
        ];
        assert_eq!(counted, expected.map(|(name, count)| (name.to_owned(), count)));
        assert_eq!(tally.counts().count(), 28);
    }
}
