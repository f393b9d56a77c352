//! A network in memory, in the runtime's time: for tests, with the feature `test-util` alone.
//!
//! Hosts have names, listen on ports and dial each other. Octets take time, arrive in pieces, wait
//! in bounded buffers, and are cut or held back as a test says. Nothing here draws but from the
//! network's own seed and nothing asks the system's clock: on a runtime of one thread whose clock
//! is paused, the same seed gives the same [`Trace`].
//!
//! What it does not do: lose octets inside a connection that goes on. It stands where TCP does, and
//! what TCP cannot bring at once comes later or not at all. Read [`MemoryNetwork`] and
//! [`MemoryHost`] first.

mod connection;
mod faults;
mod network;
mod stream;
mod trace;
mod way;

#[cfg(test)]
mod tests;

pub use connection::{ConnectionId, Direction};
pub use faults::{Crash, Dials, PathFault, PlannedFault};
pub use network::{MemoryHost, MemoryListener, MemoryNetwork};
pub use stream::MemoryStream;
pub use trace::{Event, Trace, What};
pub use way::Travel;
