//! One vectored write: frames gathered for the pipe, with a cursor for partial writes.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

/// A batch is full at this many octets: 16 full frames of the default size.
///
/// Our choice: four times what one `write` is commonly given. Each call costs as much as copying
/// tens of kilobytes; and a batch of 64 KiB, full after four frames, would leave the last octets of
/// every chunk of 64 KiB, which is four frames and a bit, to a write of their own.
pub const BATCH_OCTETS: usize = 256 << 10;

/// Scratch that has been written is worth forgetting from this many octets on.
const RECLAIM_OCTETS: usize = 64 << 10;

/// A batch is full at this many slices.
pub const BATCH_SLICES: usize = 64;

/// Payloads up to this many octets are copied beside their header; one slice then serves many small
/// frames. Neighbours that fit in it together are joined while they wait. Longer payloads are
/// written from the memory they came in.
pub const COPY_IN_MAX: usize = 1024;

/// Frames on their way to the pipe.
///
/// The engine fills it, the driver writes [`Batch::io_slices`] and calls [`Batch::advance`] with
/// what the pipe took. Nothing is lost or repeated when the pipe takes only part.
#[derive(Debug, Default)]
pub struct Batch {
    /// Headers, control frames and small payloads, one after the other.
    scratch: Vec<u8>,
    segments: VecDeque<Segment>,
    /// Octets not yet written.
    len: usize,
}

/// How far a batch may be filled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level {
    octets: usize,
    slices: usize,
}

impl Level {
    /// As far as batches go.
    pub(super) const FULL: Self = Self { octets: BATCH_OCTETS, slices: BATCH_SLICES };
}

/// Slices that a frame may take: what is copied, and a payload in its own memory.
const FRAME_SLICES: usize = 2;

#[derive(Debug)]
enum Segment {
    /// A range of `scratch`.
    Scratch { start: usize, end: usize },
    /// A payload in its own memory.
    Shared(Bytes),
}

impl Batch {
    /// An empty batch. Its memory is kept for the next batch once it has been written.
    pub fn new() -> Self {
        Self::default()
    }

    /// Octets not yet written.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether everything has been written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether another frame would make the write longer than it should be.
    pub(super) fn is_full(&self) -> bool {
        self.is_at(Level::FULL)
    }

    /// Whether another frame would go beyond `level`.
    pub(super) fn is_at(&self, level: Level) -> bool {
        self.len >= level.octets || self.segments.len() + FRAME_SLICES > level.slices
    }

    /// Half-way from here to full, and a frame at least if the batch is not full.
    pub(super) fn half_way(&self) -> Level {
        let (octets, slices) = (self.len, self.segments.len());
        let half = |from: usize, full: usize| from + full.saturating_sub(from).div_ceil(2);
        Level {
            octets: half(octets, BATCH_OCTETS),
            slices: half(slices, BATCH_SLICES).max(slices + FRAME_SLICES).min(BATCH_SLICES),
        }
    }

    /// Slices that can still be added before the batch is full, at least one.
    pub(super) fn slices_left(&self) -> usize {
        BATCH_SLICES.saturating_sub(self.segments.len()).max(1)
    }

    /// Adds octets by copy.
    pub(super) fn copy(&mut self, octets: &[u8]) {
        if octets.is_empty() {
            return;
        }
        let start = self.scratch.len();
        self.scratch.extend_from_slice(octets);
        self.len += octets.len();
        let new_end = self.scratch.len();
        if let Some(Segment::Scratch { end, .. }) = self.segments.back_mut() {
            *end = new_end;
            return;
        }
        self.segments.push_back(Segment::Scratch { start, end: new_end });
    }

    /// Adds a payload: by copy if it is small, else by reference.
    pub(super) fn payload(&mut self, payload: Bytes) {
        if payload.len() <= COPY_IN_MAX {
            self.copy(&payload);
            return;
        }
        self.len += payload.len();
        self.segments.push_back(Segment::Shared(payload));
    }

    /// Borrows what is left to write, in order, into the front of `slices`.
    ///
    /// Returns how many of them are in use: all that is left if `slices` is long enough.
    pub fn io_slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut used = 0;
        for (slot, segment) in slices.iter_mut().zip(&self.segments) {
            *slot = IoSlice::new(match segment {
                Segment::Scratch { start, end } => &self.scratch[*start..*end],
                Segment::Shared(payload) => payload,
            });
            used += 1;
        }
        used
    }

    /// Forgets the first `written` octets.
    ///
    /// # Panics
    ///
    /// If more is claimed than [`Batch::len`]: the pipe is broken, and octets would be lost.
    pub fn advance(&mut self, mut written: usize) {
        assert!(written <= self.len, "the pipe claims more octets than it was given");
        self.len -= written;
        while written > 0 {
            let Some(front) = self.segments.front_mut() else { break };
            let left = match front {
                Segment::Scratch { start, end } => {
                    let step = written.min(*end - *start);
                    *start += step;
                    written -= step;
                    *end - *start
                }
                Segment::Shared(payload) => {
                    let step = written.min(payload.len());
                    bytes::Buf::advance(payload, step);
                    written -= step;
                    payload.len()
                }
            };
            if left == 0 {
                self.segments.pop_front();
            }
        }
        self.reclaim();
    }

    /// Forgets scratch that has been written: all of it when nothing is left, else whenever that
    /// moves fewer octets than it frees. A batch that is topped up and never empties stays small.
    fn reclaim(&mut self) {
        let first = self.segments.iter().find_map(|segment| match segment {
            Segment::Scratch { start, .. } => Some(*start),
            Segment::Shared(_) => None,
        });
        let written = first.unwrap_or(self.scratch.len());
        if self.segments.is_empty() {
            self.scratch.clear();
        } else if written >= RECLAIM_OCTETS && written >= self.scratch.len() / 2 {
            self.scratch.drain(..written);
            for segment in &mut self.segments {
                if let Segment::Scratch { start, end } = segment {
                    *start -= written;
                    *end -= written;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written_by(batch: &mut Batch, at_most: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while !batch.is_empty() {
            let mut slices = [IoSlice::new(&[]); BATCH_SLICES];
            let used = batch.io_slices(&mut slices);
            let step: Vec<u8> =
                slices[..used].iter().flat_map(|s| s.iter().copied()).take(at_most).collect();
            out.extend_from_slice(&step);
            batch.advance(step.len());
        }
        out
    }

    fn written_front(batch: &Batch, octets: usize) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); BATCH_SLICES];
        let used = batch.io_slices(&mut slices);
        slices[..used].iter().flat_map(|s| s.iter().copied()).take(octets).collect()
    }

    fn sample() -> (Batch, Vec<u8>) {
        let mut batch = Batch::new();
        let large = vec![9; COPY_IN_MAX + 1];
        batch.copy(b"head");
        batch.payload(Bytes::from_static(b"small"));
        batch.payload(Bytes::from(large.clone()));
        batch.copy(b"tail");
        (batch, [b"headsmall".as_slice(), &large, b"tail"].concat())
    }

    #[test]
    fn a_partial_write_resumes_by_cursor_at_every_step() {
        for at_most in [1, 2, 3, 7, 512, 5000] {
            let (mut batch, expected) = sample();
            assert_eq!(written_by(&mut batch, at_most), expected, "{at_most} octets a write");
        }
    }

    #[test]
    fn small_payloads_share_a_slice_with_their_headers_and_large_ones_are_not_copied() {
        let mut batch = Batch::new();
        let large = Bytes::from(vec![9; COPY_IN_MAX + 1]);
        batch.copy(b"h1");
        batch.payload(Bytes::from(vec![1; COPY_IN_MAX]));
        batch.copy(b"h2");
        batch.payload(large.clone());
        let mut slices = [IoSlice::new(&[]); BATCH_SLICES];
        assert_eq!(batch.io_slices(&mut slices), 2);
        assert_eq!(slices[1].as_ptr(), large.as_ptr());
    }

    #[test]
    fn its_memory_is_kept_and_its_scratch_forgotten_once_written() {
        let (mut batch, expected) = sample();
        batch.advance(expected.len());
        assert!(batch.is_empty() && batch.scratch.is_empty() && batch.scratch.capacity() > 0);
    }

    #[test]
    fn a_batch_that_is_topped_up_before_it_is_written_keeps_its_memory_bounded() {
        let mut batch = Batch::new();
        let mut expected = VecDeque::new();
        for round in 0..20_000u32 {
            let octets = round.to_be_bytes().repeat(16);
            batch.copy(&octets);
            expected.extend(octets);
            if round % 64 == 0 {
                let large = vec![9; COPY_IN_MAX + 1];
                batch.payload(Bytes::from(large.clone()));
                expected.extend(large);
            }
            // The pipe never takes all of it.
            let step = batch.len().saturating_sub(100);
            let written = written_front(&batch, step);
            assert!(expected.drain(..step).eq(written), "round {round}");
            batch.advance(step);
        }
        assert!(batch.scratch.capacity() <= 4 * RECLAIM_OCTETS);
        assert_eq!(written_by(&mut batch, usize::MAX), Vec::from(expected));
    }

    #[test]
    fn half_way_leaves_room_for_a_frame_unless_the_batch_is_full() {
        let mut batch = Batch::new();
        let mut frames = 0;
        while !batch.is_full() {
            let level = batch.half_way();
            assert!(!batch.is_at(level), "after {frames} frames");
            assert!(level.slices <= batch.segments.len() + BATCH_SLICES / 2);
            batch.copy(b"header");
            batch.payload(Bytes::from(vec![9; COPY_IN_MAX + 1]));
            frames += 1;
        }
        assert_eq!(frames, BATCH_SLICES / FRAME_SLICES);
        assert!(batch.is_at(batch.half_way()));
        let mut long = Batch::new();
        long.payload(Bytes::from(vec![9; BATCH_OCTETS - 1]));
        assert!(!long.is_at(long.half_way()), "an octet is left");
        long.copy(b"9");
        assert!(long.is_full() && long.is_at(long.half_way()));
    }

    #[test]
    #[should_panic(expected = "claims more octets")]
    fn a_pipe_that_claims_too_much_is_caught() {
        let (mut batch, expected) = sample();
        batch.advance(expected.len() + 1);
    }
}
