//! Hosts, their listeners, and how they reach each other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::connection::{Connection, ConnectionId, Direction};
use super::faults::{Dials, Plan};
use super::stream::MemoryStream;
use super::trace::{Trace, What};
use super::way::{Travel, Way};

/// Connections that wait for one listener to take them; more are refused.
const BACKLOG_MAX: usize = 1024;

/// Where ports that nobody chose begin.
const FREE_PORTS: u16 = 49_152;

/// A network. Clones share it.
#[derive(Clone, Debug)]
pub struct MemoryNetwork {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Told when a dial that waits may go on.
    healed: Notify,
}

/// Everything there is.
#[derive(Debug)]
pub(super) struct State {
    began: Instant,
    pub(super) rng: Rng,
    /// Every host, in the order of their first mention, with whether it is down.
    pub(super) hosts: Vec<(String, bool)>,
    listeners: BTreeMap<(String, u16), Backlog>,
    pub(super) connections: BTreeMap<u64, Connection>,
    dialled: u64,
    paths: BTreeMap<(String, String), Travel>,
    default_path: Travel,
    /// Pairs of hosts that do not reach each other, in alphabetical order.
    pub(super) partitions: BTreeMap<(String, String), Dials>,
    pub(super) plans: Vec<Plan>,
    who_dialled: BTreeSet<(String, String, u16)>,
    pub(super) trace: Trace,
}

/// Connections that wait to be taken, and who waits for them.
#[derive(Debug, Default)]
struct Backlog {
    waiting: VecDeque<(MemoryStream, SocketAddr)>,
    acceptor: Option<Waker>,
}

/// What came of an attempt to connect.
enum Attempt {
    Connected(MemoryStream),
    Refused,
    /// Nobody answers.
    Silence,
}

/// A host on a network, as the programs on it see it.
#[derive(Clone, Debug)]
pub struct MemoryHost {
    network: MemoryNetwork,
    name: Arc<str>,
}

/// A port on which a host listens. Dropping it closes the port.
#[derive(Debug)]
pub struct MemoryListener {
    network: MemoryNetwork,
    at: (String, u16),
    address: SocketAddr,
}

impl MemoryNetwork {
    /// A network without hosts whose every draw comes from `seed`.
    pub fn new(seed: u64) -> Self {
        let state = State {
            began: Instant::now(),
            rng: Rng::with_seed(seed),
            hosts: Vec::new(),
            listeners: BTreeMap::new(),
            connections: BTreeMap::new(),
            dialled: 0,
            paths: BTreeMap::new(),
            default_path: Travel::default(),
            partitions: BTreeMap::new(),
            plans: Vec::new(),
            who_dialled: BTreeSet::new(),
            trace: Trace::default(),
        };
        let shared = Shared { state: Mutex::new(state), healed: Notify::new() };
        Self { shared: Arc::new(shared) }
    }

    /// The host with this name, which exists from now on.
    pub fn host(&self, name: &str) -> MemoryHost {
        self.state().index(name);
        MemoryHost { network: self.clone(), name: name.into() }
    }

    /// How octets travel between hosts of which nothing else is said, on connections yet to come.
    pub fn set_default_path(&self, travel: Travel) {
        self.state().default_path = travel;
    }

    /// How octets travel from one host to another, on connections yet to come.
    pub fn set_path(&self, from: &str, to: &str, travel: Travel) {
        self.state().paths.insert((from.to_owned(), to.to_owned()), travel);
    }

    /// Everybody who ever dialled, whom, and on which port, whatever came of it.
    pub fn who_dialled(&self) -> BTreeSet<(String, String, u16)> {
        self.state().who_dialled.clone()
    }

    /// Puts a line of the test's own into the trace.
    pub fn note(&self, text: impl Into<String>) {
        self.state().tell(What::Note(text.into()));
    }

    /// What happened so far.
    pub fn trace(&self) -> Trace {
        self.state().trace.clone()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Dials that wait look again.
    pub(super) fn tell_healed(&self) {
        self.shared.healed.notify_waiters();
    }
}

impl MemoryHost {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Listens on `port`.
    ///
    /// # Errors
    ///
    /// That the port is taken.
    pub fn bind(&self, port: u16) -> io::Result<MemoryListener> {
        let mut state = self.network.state();
        let at = (self.name.to_string(), port);
        if state.listeners.contains_key(&at) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        state.listeners.insert(at.clone(), Backlog::default());
        state.tell(What::Bound { host: at.0.clone(), port });
        let address = state.address(&at.0, port);
        Ok(MemoryListener { network: self.network.clone(), at, address })
    }

    /// Connects to `port` of the host `to`: there and back again, once.
    ///
    /// # Errors
    ///
    /// That nobody listens there, or that no such host exists. Between hosts that do not reach each
    /// other it waits, without a deadline, until they do.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is left behind.
    pub async fn dial(&self, to: &str, port: u16) -> io::Result<MemoryStream> {
        let round_trip = {
            let mut state = self.network.state();
            let dial = (self.name.to_string(), to.to_owned(), port);
            state.who_dialled.insert(dial);
            state.round_trip(&self.name, to)
        };
        loop {
            sleep(round_trip).await;
            // Before the look, or what heals meanwhile would not be noticed.
            let healed = self.network.shared.healed.notified();
            match self.network.connect(&self.name, to, port) {
                Attempt::Connected(stream) => return Ok(stream),
                Attempt::Refused => return Err(io::ErrorKind::ConnectionRefused.into()),
                Attempt::Silence => healed.await,
            }
        }
    }
}

impl MemoryNetwork {
    fn connect(&self, from: &str, to: &str, port: u16) -> Attempt {
        let mut guard = self.state();
        let state = &mut *guard;
        match state.partitions.get(&pair(from, to)) {
            Some(Dials::Silent) => return state.leave_unanswered(from, to, port),
            _ if state.is_down(to) || state.is_down(from) => {
                return state.leave_unanswered(from, to, port);
            }
            Some(Dials::Refused) => return state.refuse(from, to, port),
            None => {}
        }
        let at = (to.to_owned(), port);
        if state.listeners.get(&at).is_none_or(|backlog| backlog.waiting.len() == BACKLOG_MAX) {
            return state.refuse(from, to, port);
        }
        state.dialled += 1;
        let number = state.dialled;
        state.add(number, from, to, port);
        let free_port = FREE_PORTS + u16::try_from(number % 16_384).unwrap_or(0);
        let address = state.address(from, free_port);
        let id = ConnectionId(number);
        // Made here, and nowhere else: each end once.
        let near = MemoryStream::new(self.clone(), id, Direction::FromDialer);
        let far = MemoryStream::new(self.clone(), id, Direction::ToDialer);
        if let Some(backlog) = state.listeners.get_mut(&at) {
            backlog.waiting.push_back((far, address));
            backlog.acceptor.take().inspect(Waker::wake_by_ref);
        }
        Attempt::Connected(near)
    }
}

impl State {
    fn add(&mut self, number: u64, from: &str, to: &str, port: u16) {
        let (now, hosts) = (Instant::now(), [from.to_owned(), to.to_owned()]);
        let mut faults = [None; 2];
        if let Some(plan) = self.plans.iter_mut().find(|plan| plan.counts(to, port))
            && plan.is_due()
        {
            faults[plan.fault.direction as usize] = Some(plan.fault);
        }
        self.plans.retain(|plan| !plan.is_spent());
        let [from_dialer, to_dialer] = faults;
        let ways = [
            Way::new(self.path(from, to), from_dialer, now),
            Way::new(self.path(to, from), to_dialer, now),
        ];
        self.connections.insert(number, Connection::new(hosts, ways));
        let (from, to) = (from.to_owned(), to.to_owned());
        self.tell(What::Connected { connection: number, from, to, port });
    }

    fn refuse(&mut self, from: &str, to: &str, port: u16) -> Attempt {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.tell(What::Refused { from, to, port });
        Attempt::Refused
    }

    fn leave_unanswered(&mut self, from: &str, to: &str, port: u16) -> Attempt {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.tell(What::Unanswered { from, to, port });
        Attempt::Silence
    }

    fn path(&self, from: &str, to: &str) -> Travel {
        let path = self.paths.get(&(from.to_owned(), to.to_owned()));
        path.copied().unwrap_or(self.default_path)
    }

    fn round_trip(&mut self, from: &str, to: &str) -> Duration {
        let [there, back] = [self.path(from, to), self.path(to, from)];
        there.latency(&mut self.rng) + back.latency(&mut self.rng)
    }

    /// The host's place among all; it exists from now on.
    fn index(&mut self, name: &str) -> usize {
        if let Some(at) = self.hosts.iter().position(|(host, _)| host == name) {
            return at;
        }
        self.hosts.push((name.to_owned(), false));
        self.hosts.len() - 1
    }

    fn is_down(&self, name: &str) -> bool {
        self.hosts.iter().any(|(host, is_down)| host == name && *is_down)
    }

    fn address(&mut self, name: &str, port: u16) -> SocketAddr {
        let [.., high, low] = self.index(name).to_be_bytes();
        (Ipv4Addr::new(10, 0, high, low), port).into()
    }

    pub(super) fn tell(&mut self, what: What) {
        let at = self.began.elapsed();
        self.trace.tell(at, what);
    }

    /// A stream moved octets in `direction`.
    pub(super) fn tell_moved(&mut self, connection: u64, direction: Direction, octets: usize) {
        let at = self.began.elapsed();
        self.trace.moved(at, connection, direction as u8, octets as u64);
    }

    /// Forgets a connection that nobody holds.
    pub(super) fn forget(&mut self, connection: u64) {
        if let Some(gone) = self.connections.remove(&connection) {
            self.tell(What::Closed { connection, octets: gone.octets_read() });
        }
    }

    /// Closes every port of a host.
    pub(super) fn unbind_all(&mut self, host: &str) -> Vec<MemoryStream> {
        let ports: Vec<_> = self.listeners.keys().filter(|(on, _)| on == host).cloned().collect();
        let backlogs = ports.iter().filter_map(|at| self.listeners.remove(at));
        backlogs.flat_map(|backlog| backlog.waiting).map(|(stream, _)| stream).collect()
    }
}

/// Two hosts, in alphabetical order.
pub(super) fn pair(one: &str, other: &str) -> (String, String) {
    let (first, second) = if one < other { (one, other) } else { (other, one) };
    (first.to_owned(), second.to_owned())
}

impl MemoryListener {
    /// The address it listens on: hosts are numbered in 10.0.0.0/16.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Waits for the next connection. For ever once its host has crashed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn accept(&self) -> (MemoryStream, SocketAddr) {
        std::future::poll_fn(|cx| self.poll_accept(cx)).await
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<(MemoryStream, SocketAddr)> {
        let mut state = self.network.state();
        let Some(backlog) = state.listeners.get_mut(&self.at) else { return Poll::Pending };
        if let Some(taken) = backlog.waiting.pop_front() {
            return Poll::Ready(taken);
        }
        backlog.acceptor = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for MemoryListener {
    fn drop(&mut self) {
        // Streams lock the network when they are dropped: not before it is free.
        let backlog = self.network.state().listeners.remove(&self.at);
        drop(backlog);
    }
}
