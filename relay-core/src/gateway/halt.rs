//! An instance that runs, keeps its links, and serves nobody: new requests are answered 503.
//!
//! Nothing of it outlives the process: whoever wants it so after a start says so again. It decides
//! nothing: who halts an instance does, and has it go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use super::failure::Failure;
use super::serve::{Gateway, Port};

/// On whose behalf an instance is halted. It serves while it is on nobody's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Halt {
    /// An administrator's. Requests are answered 503 `CMGService_Stopped`.
    Administrator,
    /// Of what was sent to clients, of which there may be no more. Requests are answered 503
    /// `CMGService_Egress_Stopped`.
    Egress,
}

impl Halt {
    /// One of each, the one whose answer is given first.
    const ALL: [Self; 2] = [Self::Administrator, Self::Egress];

    /// As it stands in the log, in a status and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Administrator => "administrator",
            Self::Egress => "egress",
        }
    }

    fn bit(self) -> u8 {
        match self {
            Self::Administrator => 1,
            Self::Egress => 2,
        }
    }
}

/// All on whose behalf an instance is halted.
#[derive(Debug, Default)]
pub(super) struct Halts(AtomicU8);

impl Halts {
    /// Judges whether one more request is served.
    pub(super) fn check(&self) -> Result<(), Failure> {
        match self.holding().next() {
            None => Ok(()),
            Some(halt) => Err(Failure::Halted(halt)),
        }
    }

    /// Those that hold, in the order of their answers.
    pub(super) fn holding(&self) -> impl Iterator<Item = Halt> + use<> {
        let bits = self.0.load(Ordering::Relaxed);
        Halt::ALL.into_iter().filter(move |halt| bits & halt.bit() != 0)
    }

    /// Returns whether that is new.
    fn begin(&self, halt: Halt) -> bool {
        self.0.fetch_or(halt.bit(), Ordering::Relaxed) & halt.bit() == 0
    }

    /// Returns whether it held.
    fn end(&self, halt: Halt) -> bool {
        self.0.fetch_and(!halt.bit(), Ordering::Relaxed) & halt.bit() != 0
    }
}

impl Gateway {
    /// Has requests that come from now on be answered 503. Those in flight go on, links stay, and
    /// connection points tell what they publish as before. It holds until [`Gateway::resume`] or
    /// the end of the process. Returns whether that is new.
    pub fn halt(&self, halt: Halt) -> bool {
        let is_new = self.inner.relay.halts.begin(halt);
        if is_new {
            tracing::warn!(by = halt.name(), "halted: new requests are answered 503");
        }
        is_new
    }

    /// Has requests be served again, unless the instance is halted on another's behalf. Returns
    /// whether it was halted on this one's.
    pub fn resume(&self, halt: Halt) -> bool {
        let held = self.inner.relay.halts.end(halt);
        if held {
            tracing::info!(by = halt.name(), "no longer halted by this");
        }
        held
    }

    /// Octets that were sent to clients since the start: heads and bodies of answers, without what
    /// TLS and TCP add. Those of links that share a connection over HTTP/2 with clients, or could,
    /// are among them; those of links' own ports and of links by an upgrade are not.
    pub fn octets_sent(&self) -> u64 {
        self.inner.sent.load(Ordering::Relaxed)
    }

    /// Where the octets count that go out on a connection to `port`.
    pub(super) fn count_of(&self, port: Port) -> Arc<AtomicU64> {
        match port {
            Port::Shared => Arc::clone(&self.inner.sent),
            Port::Links => Arc::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_serves_while_it_is_halted_on_nobodys_behalf() {
        let halts = Halts::default();
        assert!(halts.check().is_ok());
        assert_eq!([halts.begin(Halt::Egress), halts.begin(Halt::Egress)], [true, false]);
        assert!(matches!(halts.check(), Err(Failure::Halted(Halt::Egress))));
        assert!(halts.begin(Halt::Administrator));
        assert!(halts.holding().eq(Halt::ALL));
        assert!(matches!(halts.check(), Err(Failure::Halted(Halt::Administrator))));
        assert_eq!([halts.end(Halt::Administrator), halts.end(Halt::Administrator)], [true, false]);
        assert!(matches!(halts.check(), Err(Failure::Halted(Halt::Egress))));
        assert!(halts.end(Halt::Egress));
        assert!(halts.check().is_ok());
    }
}
