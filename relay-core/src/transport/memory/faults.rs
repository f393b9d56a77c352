//! What a test has go wrong.

use tokio::time::Instant;

use super::connection::{Connection, ConnectionId, Direction};
use super::network::{MemoryNetwork, State, pair};
use super::trace::What;
use super::way::Held;

/// What dials meet between hosts that are kept apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dials {
    /// They are refused.
    Refused,
    /// They wait until the hosts reach each other again.
    Silent,
}

/// How a host ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Crash {
    /// Its programs: peers are told at once, dials are refused.
    Programs,
    /// The machine: nobody hears anything until it is back.
    Machine,
}

/// What happens to a connection at a chosen octet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PlannedFault {
    /// It is reset. What was written before that octet arrives; what goes the other way is lost.
    Cut,
    /// Nothing behind the octet arrives, and nobody is told: half-open.
    Hold,
    /// Nothing arrives any more in either direction.
    HoldBoth,
}

/// A fault at an octet of a direction.
#[derive(Clone, Copy, Debug)]
pub struct PathFault {
    /// Which direction's octets are counted, and struck.
    pub direction: Direction,
    /// How many octets are written before it; 0 strikes at the first.
    pub octet: u64,
    /// What happens.
    pub fault: PlannedFault,
}

/// A fault that waits for its connection.
#[derive(Debug)]
pub(super) struct Plan {
    to: String,
    port: u16,
    /// Dials that go by before it.
    skip: u32,
    is_spent: bool,
    pub(super) fault: PathFault,
}

impl Plan {
    pub(super) fn counts(&self, to: &str, port: u16) -> bool {
        self.to == to && self.port == port
    }

    /// Whether the connection that is dialled now is the one.
    pub(super) fn is_due(&mut self) -> bool {
        self.is_spent = self.skip == 0;
        self.skip = self.skip.saturating_sub(1);
        self.is_spent
    }

    pub(super) fn is_spent(&self) -> bool {
        self.is_spent
    }
}

impl State {
    fn with(&mut self, id: ConnectionId, act: impl FnOnce(&mut Connection)) {
        if let Some(connection) = self.connections.get_mut(&id.0) {
            act(connection);
        }
    }
}

impl MemoryNetwork {
    /// The connections between two hosts, the oldest first.
    pub fn between(&self, one: &str, other: &str) -> Vec<ConnectionId> {
        let state = self.state();
        let all = state.connections.iter();
        all.filter(|(_, it)| it.joins(one, other)).map(|(id, _)| ConnectionId(*id)).collect()
    }

    /// Octets written so far on a connection that still is: by its dialer, and to it.
    pub fn octets(&self, connection: ConnectionId) -> Option<[u64; 2]> {
        self.state().connections.get(&connection.0).map(Connection::octets_written)
    }

    /// What was written so far on a connection that still is, by its dialer and to it: empty unless
    /// its path [keeps it](super::Travel::keeps_octets).
    pub fn written(&self, connection: ConnectionId) -> Option<[Vec<u8>; 2]> {
        self.state().connections.get(&connection.0).map(Connection::kept)
    }

    /// Resets a connection at once; what is on its way is lost.
    pub fn cut(&self, connection: ConnectionId) {
        self.state().with(connection, Connection::cut);
    }

    /// From now on nothing more arrives in `direction`, and nobody is told, until
    /// [`MemoryNetwork::release`]. What is on its way arrives.
    pub fn hold(&self, connection: ConnectionId, direction: Direction) {
        self.state().with(connection, |it| it.way(direction).hold(Held::Alone));
    }

    /// What was held back arrives.
    pub fn release(&self, connection: ConnectionId, direction: Direction) {
        self.state().with(connection, |it| {
            it.way(direction).release(Held::Alone);
            it.note_unacknowledged(Instant::now());
        });
    }

    /// Plans a fault for a connection to `port` of the host `to`: the next one, but for `skip`.
    /// Several plans for one port come about one after the other.
    pub fn plan(&self, to: &str, port: u16, skip: u32, fault: PathFault) {
        let plan = Plan { to: to.to_owned(), port, skip, is_spent: false, fault };
        self.state().plans.push(plan);
    }

    /// Keeps two hosts apart until [`MemoryNetwork::heal`]: connections fall silent.
    pub fn partition(&self, one: &str, other: &str, dials: Dials) {
        let mut state = self.state();
        state.partitions.insert(pair(one, other), dials);
        for connection in state.connections.values_mut().filter(|it| it.joins(one, other)) {
            connection.hold_apart();
        }
    }

    /// Two hosts reach each other again: what waited arrives.
    pub fn heal(&self, one: &str, other: &str) {
        let mut state = self.state();
        state.partitions.remove(&pair(one, other));
        state.rejoin();
        drop(state);
        self.tell_healed();
    }

    /// Ends what runs on a host: its ports are closed, its connections gone. The programs are the
    /// test's to end, and see errors until then.
    pub fn crash(&self, host: &str, crash: Crash) {
        let mut guard = self.state();
        let state = &mut *guard;
        let now = Instant::now();
        let unaccepted = state.unbind_all(host);
        for connection in state.connections.values_mut().filter(|it| it.touches(host)) {
            let end = if connection.hosts[0] == host {
                Direction::FromDialer
            } else {
                Direction::ToDialer
            };
            match crash {
                Crash::Programs => connection.cut(),
                Crash::Machine => connection.vanish(end, now, &mut state.rng),
            }
        }
        for (name, is_down) in &mut state.hosts {
            *is_down |= name == host && crash == Crash::Machine;
        }
        state.tell(What::Note(format!("{host} crashes: {crash:?}")));
        drop(guard);
        // Streams lock the network when they are dropped: not before it is free.
        drop(unaccepted);
    }

    /// A host's machine is back, with nothing running on it: whoever still speaks to what was there
    /// is told.
    pub fn restart(&self, host: &str) {
        let mut state = self.state();
        for (name, is_down) in &mut state.hosts {
            *is_down &= name != host;
        }
        state.rejoin();
        drop(state);
        self.tell_healed();
    }

    /// Ends every fault: no plan is left, nothing is held, nobody is apart or down.
    pub fn heal_all(&self) {
        let mut state = self.state();
        state.plans.clear();
        state.partitions.clear();
        state.hosts.iter_mut().for_each(|(_, is_down)| *is_down = false);
        for connection in state.connections.values_mut() {
            connection.forget_plans();
            connection.release(Held::Alone);
        }
        state.rejoin();
        drop(state);
        self.tell_healed();
    }
}

impl State {
    /// Lets go of what is held between hosts that are up and not apart.
    fn rejoin(&mut self) {
        let Self { connections, partitions, hosts, .. } = self;
        let is_down = |host: &String| hosts.iter().any(|(name, is_down)| name == host && *is_down);
        for connection in connections.values_mut() {
            let [one, other] = &connection.hosts;
            let apart = partitions.contains_key(&pair(one, other));
            if !apart && !is_down(one) && !is_down(other) {
                connection.release(Held::Apart);
            }
        }
    }
}
