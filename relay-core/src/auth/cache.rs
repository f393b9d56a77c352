//! Tokens whose signatures have been verified.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Tokens that are remembered by default. A thousand octets each at most, so 32 MiB.
pub const VERIFIED_MAX: usize = 32 * 1024;

/// What verified tokens say, by the SHA-256 of their text.
///
/// It saves the computing and nothing else: whoever takes a token out asks it again whether it
/// counts now, for this purpose, by these blocks and with these keys in hand. So no verdict
/// outlives a block, a step of the clock, or the client it was given to.
///
/// Tokens that proved nothing are not remembered. Most are refused before anything is computed, and
/// the others cost one verification each, some 30 µs; whoever floods an instance writes each one
/// anew, so a memory of them would never be asked and would take the place of good ones.
///
/// Tokens are kept in two halves. When the younger is full it becomes the elder, which is dropped:
/// whatever was shown since the last time stays, and no search is needed.
#[derive(Debug)]
pub struct Verified<T> {
    half_max: usize,
    halves: Mutex<Halves<T>>,
}

#[derive(Debug)]
struct Halves<T> {
    generation: u64,
    younger: HashMap<[u8; 32], Arc<T>>,
    elder: HashMap<[u8; 32], Arc<T>>,
}

impl<T> Verified<T> {
    /// An empty one, for `max` tokens, two at least.
    pub fn new(max: usize) -> Self {
        let (younger, elder) = (HashMap::new(), HashMap::new());
        let halves = Mutex::new(Halves { generation: 0, younger, elder });
        Self { half_max: (max / 2).max(1), halves }
    }

    /// The token of that digest, if it was verified by the keys of `generation`. A caller counts a
    /// generation on when keys that were trusted are trusted no more.
    pub fn get(&self, generation: u64, digest: &[u8; 32]) -> Option<Arc<T>> {
        let mut halves = self.of(generation)?;
        if let Some(token) = halves.younger.get(digest) {
            return Some(Arc::clone(token));
        }
        let token = halves.elder.remove(digest)?;
        self.insert(&mut halves, *digest, Arc::clone(&token));
        Some(token)
    }

    /// Remembers a token that was verified by the keys of `generation`.
    pub fn put(&self, generation: u64, digest: [u8; 32], token: T) -> Arc<T> {
        let token = Arc::new(token);
        if let Some(mut halves) = self.of(generation) {
            halves.elder.remove(&digest);
            self.insert(&mut halves, digest, Arc::clone(&token));
        }
        token
    }

    /// Tokens that are remembered.
    pub fn len(&self) -> usize {
        let halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        halves.younger.len() + halves.elder.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn insert(&self, halves: &mut Halves<T>, digest: [u8; 32], token: Arc<T>) {
        if halves.younger.len() >= self.half_max && !halves.younger.contains_key(&digest) {
            halves.elder = std::mem::take(&mut halves.younger);
        }
        halves.younger.insert(digest, token);
    }

    /// The halves, if `generation` is not one that is over; emptied if it is a new one.
    fn of(&self, generation: u64) -> Option<MutexGuard<'_, Halves<T>>> {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        if generation < halves.generation {
            return None;
        }
        if generation > halves.generation {
            halves.generation = generation;
            halves.younger.clear();
            halves.elder.clear();
        }
        Some(halves)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(of: usize) -> [u8; 32] {
        std::array::from_fn(|place| of.to_le_bytes().get(place).copied().unwrap_or(0))
    }

    #[test]
    fn never_more_than_asked_for_are_kept_and_the_last_half_always_is() {
        for max in [2, 3, 8, 9, 100] {
            let verified = Verified::new(max);
            for place in 0..5 * max {
                verified.put(0, digest(place), place);
                assert!(verified.len() <= max, "{} of {max}", verified.len());
                for kept in (place + 1).saturating_sub(max / 2)..=place {
                    let held = verified.halves.lock().unwrap();
                    let digest = digest(kept);
                    let is_held =
                        held.younger.contains_key(&digest) || held.elder.contains_key(&digest);
                    assert!(is_held, "{kept} at {place} of {max}");
                }
            }
        }
    }

    #[test]
    fn what_is_shown_again_and_again_stays() {
        let verified = Verified::new(8);
        verified.put(0, digest(0), 0);
        for place in 1..1000 {
            verified.put(0, digest(place), place);
            assert_eq!(verified.get(0, &digest(0)).as_deref(), Some(&0), "after {place}");
        }
        assert!(verified.get(0, &digest(1)).is_none());
    }

    #[test]
    fn nothing_is_left_of_a_generation_that_is_over() {
        let verified = Verified::new(8);
        assert!(verified.is_empty());
        verified.put(1, digest(0), 0);
        assert!(verified.get(1, &digest(0)).is_some());
        assert!(verified.get(0, &digest(0)).is_none(), "of older keys");
        assert!(verified.get(2, &digest(0)).is_none());
        assert!(verified.get(1, &digest(0)).is_none(), "the newer keys hold");
        // A verification that began before the keys changed.
        verified.put(1, digest(1), 1);
        assert!(verified.is_empty());
    }
}
