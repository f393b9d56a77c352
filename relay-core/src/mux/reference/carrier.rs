//! What carries octets from one engine to the other.

use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;

use crate::mux::Side;

/// An ordered way for octets between two sides, both ways.
///
/// Nothing is lost, doubled or put before another. How much of a write is taken, and in which
/// portions it arrives, is the carrier's affair: an engine must do the same over all of them.
pub trait Carrier: fmt::Debug {
    /// Takes octets from the front of `slices`, at most `octets_max`, and returns how many. None
    /// are taken of nothing only: a carrier has always room for something.
    fn write(&mut self, from: Side, slices: &[IoSlice<'_>], octets_max: usize) -> usize;

    /// The next octets for `to`, at most `octets_max`. Empty only if all that was written has been
    /// read, or nothing is asked for.
    fn read(&mut self, to: Side, octets_max: usize) -> Vec<u8>;
}

/// Two pipes of memory, one each way.
#[derive(Debug)]
pub struct Pipe {
    /// Octets that one write takes and one read gives, at most.
    step: usize,
    to_listener: VecDeque<u8>,
    to_dialer: VecDeque<u8>,
}

impl Pipe {
    /// A pipe that takes every write whole, and gives all it has.
    pub fn whole() -> Self {
        Self::of_steps(usize::MAX)
    }

    /// A pipe that takes one octet with each write, and gives one with each read: every boundary of
    /// a frame, and every place inside one, is met by both.
    pub fn octet_by_octet() -> Self {
        Self::of_steps(1)
    }

    fn of_steps(step: usize) -> Self {
        Self { step, to_listener: VecDeque::new(), to_dialer: VecDeque::new() }
    }

    fn towards(&mut self, side: Side) -> &mut VecDeque<u8> {
        match side {
            Side::Listener => &mut self.to_listener,
            Side::Dialer => &mut self.to_dialer,
        }
    }
}

impl Carrier for Pipe {
    fn write(&mut self, from: Side, slices: &[IoSlice<'_>], octets_max: usize) -> usize {
        let step = octets_max.min(self.step);
        let pipe = self.towards(from.peer());
        let mut taken = 0;
        for slice in slices {
            let part = &slice[..slice.len().min(step - taken)];
            pipe.extend(part);
            taken += part.len();
        }
        taken
    }

    fn read(&mut self, to: Side, octets_max: usize) -> Vec<u8> {
        let step = octets_max.min(self.step);
        let pipe = self.towards(to);
        pipe.drain(..step.min(pipe.len())).collect()
    }
}
