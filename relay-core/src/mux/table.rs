//! The streams of a link, by id.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::hash::{BuildHasherDefault, Hasher};

use slab::Slab;

use super::frame::{Side, StreamId};
use super::stream::{Queued, Stream};

/// Send queues kept for reuse, so that a small exchange need not allocate one.
const SPARE_QUEUES: usize = 64;

/// Hashes a stream id by one multiplication.
///
/// A peer cannot choose ids that collide: each side's ids are consecutive, and any other id ends
/// the link before it reaches the table.
#[derive(Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, octets: &[u8]) {
        for &octet in octets {
            self.write_u32(u32::from(octet));
        }
    }

    fn write_u32(&mut self, number: u32) {
        // The 64-bit golden ratio spreads consecutive numbers over all bits.
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// A map keyed by stream id.
pub type IdMap<V> = HashMap<StreamId, V, BuildHasherDefault<IdHasher>>;

#[derive(Debug, Default)]
pub(super) struct Table {
    slots: Slab<Stream>,
    by_id: IdMap<usize>,
    /// Of the streams, those that the listener opened.
    of_listener: usize,
    spare: Vec<VecDeque<Queued>>,
}

impl Table {
    pub(super) fn get(&self, id: StreamId) -> Option<&Stream> {
        self.slots.get(*self.by_id.get(&id)?)
    }

    pub(super) fn get_mut(&mut self, id: StreamId) -> Option<&mut Stream> {
        self.slots.get_mut(*self.by_id.get(&id)?)
    }

    pub(super) fn insert(&mut self, stream: Stream) {
        let id = stream.id;
        let key = self.slots.insert(stream);
        let earlier = self.by_id.insert(id, key);
        debug_assert!(earlier.is_none(), "stream {id} was open already");
        self.of_listener += usize::from(id.opener() == Side::Listener);
    }

    pub(super) fn remove(&mut self, id: StreamId) -> Option<Stream> {
        let key = self.by_id.remove(&id)?;
        let mut stream = self.slots.try_remove(key)?;
        self.of_listener -= usize::from(id.opener() == Side::Listener);
        if self.spare.len() < SPARE_QUEUES {
            let mut queue = std::mem::take(&mut stream.queue);
            queue.clear();
            self.spare.push(queue);
        }
        Some(stream)
    }

    /// An empty send queue, reused if there is one.
    pub(super) fn queue(&mut self) -> VecDeque<Queued> {
        self.spare.pop().unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Of the streams, how many the listener opened.
    pub(super) fn of_listener(&self) -> usize {
        self.of_listener
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.slots.iter_mut().map(|(_, stream)| stream)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Stream> {
        self.slots.iter().map(|(_, stream)| stream)
    }
}
