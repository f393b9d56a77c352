//! What unread payload pins: the read buffers that it came in.
//!
//! A payload is handed on as a slice of its read buffer, so one that nobody reads keeps the whole
//! buffer. A peer that puts a little payload for a slow consumer into every buffer could hold far
//! more memory than its windows. So the driver remembers the latest buffers that were left in use;
//! of older ones it copies out what nobody has read.

use std::collections::VecDeque;
use std::ops::Range;

use crate::mux::{COPY_OUT_MAX, StreamId};

use super::super::cell::In;
use super::Driver;

/// Octets of read buffers that unread payload of one link may pin beyond its own size.
///
/// Our choice: enough for a consumer that is a little behind a fast link to be spared the copy.
pub(super) const PINNED_MAX: usize = 8 << 20;

/// A read buffer that was left in use.
#[derive(Debug)]
struct Left {
    memory: Range<usize>,
    /// Streams that got payload of it.
    fed: Vec<StreamId>,
}

/// The buffer in use, and those that were left.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    memory: Range<usize>,
    fed: Vec<StreamId>,
    left: VecDeque<Left>,
    left_octets: usize,
}

impl Buffers {
    /// Notes that payload of the buffer in use was left for a consumer.
    pub(super) fn note(&mut self, id: StreamId, item: &In) {
        let is_slice = matches!(item, In::Data(payload) if payload.len() > COPY_OUT_MAX);
        if is_slice && self.fed.last() != Some(&id) {
            self.fed.push(id);
        }
    }

    /// The buffer in use is begun anew: nobody holds any of it.
    fn reuse(&mut self) {
        self.fed.clear();
    }

    /// The buffer in use is given up for another one at `memory`.
    fn replace(&mut self, memory: Range<usize>) {
        let memory = std::mem::replace(&mut self.memory, memory);
        let fed = std::mem::take(&mut self.fed);
        if !fed.is_empty() {
            self.left_octets += memory.len();
            self.left.push_back(Left { memory, fed });
        }
    }

    /// The buffer that was left longest ago, if what is unread of it is to be copied out.
    fn pop_excess(&mut self) -> Option<Left> {
        if self.left_octets <= PINNED_MAX {
            return None;
        }
        let oldest = self.left.pop_front()?;
        self.left_octets -= oldest.memory.len();
        Some(oldest)
    }
}

impl<P> Driver<P> {
    /// Makes room in the read buffer, by a new one if the old one is in use.
    pub(super) fn renew_buffer(&mut self) {
        if self.input.try_reclaim(self.read_buffer) {
            return self.buffers.reuse();
        }
        self.input.reserve(self.read_buffer);
        let start = self.input.as_ptr().addr();
        self.buffers.replace(start..start + self.input.capacity());
        while let Some(oldest) = self.buffers.pop_excess() {
            for id in oldest.fed {
                if let Some(cell) = self.cells.get(&id) {
                    cell.lock().copy_out(&oldest.memory);
                }
            }
        }
    }
}
