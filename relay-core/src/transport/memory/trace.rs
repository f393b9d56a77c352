//! What happened on the network, in order, and a digest by which two runs are told apart.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// Events that a trace keeps: the latest.
const EVENTS_MAX: usize = 4096;

/// Something that happened.
#[derive(Clone, Debug)]
pub struct Event {
    /// The time since the network was made.
    pub at: Duration,
    /// What it was.
    pub what: What,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>9.3} s  {:?}", self.at.as_secs_f64(), self.what)
    }
}

/// The kinds of events. Numbers of connections count dials.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum What {
    /// A host listens on a port.
    Bound {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    },
    /// A connection was dialled and came about.
    Connected {
        /// Its number.
        connection: u64,
        /// Who dialled.
        from: String,
        /// Who listens.
        to: String,
        /// On which port.
        port: u16,
    },
    /// Nobody listens there, or no such host exists.
    Refused {
        /// Who dialled.
        from: String,
        /// Whom.
        to: String,
        /// On which port.
        port: u16,
    },
    /// Nobody answers a dial, which waits.
    Unanswered {
        /// Who dialled.
        from: String,
        /// Whom.
        to: String,
        /// On which port.
        port: u16,
    },
    /// Both ends are gone.
    Closed {
        /// Its number.
        connection: u64,
        /// Octets read of what the dialer sent, and of what it was sent.
        octets: [u64; 2],
    },
    /// A planned fault of a connection has happened.
    Struck {
        /// Its number.
        connection: u64,
        /// Octets written in the direction of the fault.
        octets: u64,
    },
    /// The test says something.
    Note(String),
}

/// What happened so far.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// The latest 4,096 events, in order.
    pub events: VecDeque<Event>,
    /// Stands for every event and for the time and the length of every read and write.
    pub digest: u64,
}

impl Trace {
    pub(super) fn tell(&mut self, at: Duration, what: What) {
        for octet in format!("{what:?}").bytes() {
            self.mix(octet.into());
        }
        self.mix(u64::try_from(at.as_nanos()).unwrap_or(u64::MAX));
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(Event { at, what });
    }

    /// Octets were moved, in `direction` of a connection.
    pub(super) fn moved(&mut self, at: Duration, connection: u64, direction: u8, octets: u64) {
        let at = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        for value in [at, connection, direction.into(), octets] {
            self.mix(value);
        }
    }

    // FNV-1a over 64 bits at a time: no secret, and the same in every process.
    fn mix(&mut self, value: u64) {
        self.digest = (self.digest.rotate_left(5) ^ value).wrapping_mul(0x0000_0100_0000_01b3);
    }
}
