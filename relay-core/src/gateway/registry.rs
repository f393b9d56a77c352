//! The live links of this instance, and whose turn it is.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::Notify;

use crate::link::Link;

/// A live link to a connection point.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// A number unique in this process, for logs.
    pub(super) number: u64,
    /// The connection point's name.
    pub(super) name: Arc<str>,
    /// Rises with each start of the connection point.
    pub(super) epoch: u64,
    pub(super) link: Link,
    /// Told when a later start of the same connection point has taken this one's place.
    pub(super) superseded: Arc<Notify>,
}

/// A link of a connection point that has been started again since.
#[derive(Debug)]
pub(super) struct Stale;

/// Every live link. Reading takes a snapshot; a link that ends is removed by its registration.
#[derive(Debug, Default)]
pub(super) struct Registry {
    entries: RwLock<Arc<[Entry]>>,
    turn: AtomicUsize,
}

/// Keeps a link registered until it is dropped.
#[derive(Debug)]
pub(super) struct Registration {
    registry: Arc<Registry>,
    number: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.change(|entries| entries.retain(|entry| entry.number != self.number));
    }
}

impl Registry {
    /// Adds a link. Links of an earlier start of the same connection point are taken out at once,
    /// and told; one that is of an earlier start itself is not added.
    pub(super) fn register(self: &Arc<Self>, entry: Entry) -> Result<Registration, Stale> {
        let number = entry.number;
        let mut is_stale = false;
        self.change(|entries| {
            let same = |other: &Entry| other.name == entry.name;
            is_stale = entries.iter().any(|other| same(other) && other.epoch > entry.epoch);
            if is_stale {
                return;
            }
            entries.retain(|other| {
                let is_superseded = same(other) && other.epoch < entry.epoch;
                if is_superseded {
                    other.superseded.notify_one();
                }
                !is_superseded
            });
            entries.push(entry);
        });
        if is_stale { Err(Stale) } else { Ok(Registration { registry: Arc::clone(self), number }) }
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Entry>)) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = entries.to_vec();
        change(&mut changed);
        *entries = changed.into();
    }

    /// Every registered link.
    pub(super) fn all(&self) -> Arc<[Entry]> {
        Arc::clone(&self.entries.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The links that take streams, beginning with the one whose turn it is.
    pub(super) fn in_turn(&self) -> Vec<Entry> {
        let all = self.all();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let start = turn.checked_rem(all.len()).unwrap_or(0);
        let (before, after) = all.split_at(start);
        after.iter().chain(before).filter(|entry| entry.link.is_open()).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mux::{Config, Side};

    /// Two established links, so that one of them is open, and their drivers.
    async fn open_link() -> (Link, Link) {
        let (near, far) = tokio::io::duplex(1024);
        let (link, driver) = crate::link::new(near, Side::Listener, Config::default()).unwrap();
        let (peer, peer_driver) = crate::link::new(far, Side::Dialer, Config::default()).unwrap();
        tokio::spawn(driver);
        tokio::spawn(peer_driver);
        link.established().await.unwrap();
        (link, peer)
    }

    fn entry(number: u64, link: &Link) -> Entry {
        started(number, "cp", 1, link)
    }

    fn started(number: u64, name: &str, epoch: u64, link: &Link) -> Entry {
        let superseded = Arc::default();
        Entry { number, name: name.into(), epoch, link: link.clone(), superseded }
    }

    fn numbers(entries: &[Entry]) -> Vec<u64> {
        entries.iter().map(|entry| entry.number).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn links_take_turns_and_each_turn_offers_every_link_once() {
        let registry = Arc::new(Registry::default());
        let (link, _peer) = open_link().await;
        let _kept: Vec<_> = (0..3).map(|n| registry.register(entry(n, &link)).unwrap()).collect();
        let turns: Vec<_> = (0..4).map(|_| numbers(&registry.in_turn())).collect();
        assert_eq!(turns, [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_that_drains_or_has_ended_is_never_offered() {
        let registry = Arc::new(Registry::default());
        assert!(registry.in_turn().is_empty());
        let (healthy, _peer) = open_link().await;
        let (draining, peer) = open_link().await;
        let _one = registry.register(entry(1, &healthy)).unwrap();
        let other = registry.register(entry(2, &draining)).unwrap();
        peer.drain(std::time::Duration::from_secs(1)).await;
        assert_eq!(numbers(&registry.in_turn()), [1]);
        drop(other);
        assert_eq!(numbers(&registry.all()), [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_start_of_a_connection_point_takes_the_place_of_an_earlier_one() {
        let registry = Arc::new(Registry::default());
        let (link, _peer) = open_link().await;
        let old = started(1, "cp", 5, &link);
        let superseded = Arc::clone(&old.superseded);
        let _old = registry.register(old).unwrap();
        let _sister = registry.register(started(2, "cp", 5, &link)).unwrap();
        let _other = registry.register(started(3, "another", 1, &link)).unwrap();
        assert_eq!(numbers(&registry.all()), [1, 2, 3], "links of one start stand side by side");
        let _new = registry.register(started(4, "cp", 6, &link)).unwrap();
        assert_eq!(numbers(&registry.all()), [3, 4]);
        superseded.notified().await;
        assert!(registry.register(started(5, "cp", 5, &link)).is_err());
        assert_eq!(numbers(&registry.all()), [3, 4]);
    }
}
