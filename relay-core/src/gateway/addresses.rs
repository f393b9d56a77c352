//! How many connections each client address has open, and how many of them are in a handshake, so
//! that one cannot have them all.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// How often refusals are logged, however many there are.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// Bits of an IPv6 address that name one client. Our choice: whoever has a line has a /64 at least,
/// and may take any address of it for each connection.
const IPV6_PREFIX_BITS: u32 = 64;

/// Of how many connections of an address one may be in its handshake: 16 of the 100 by default.
///
/// Our choice. Whoever says hello and then nothing has a place among handshakes for 10 s, and six
/// addresses would have all 512. One beyond its share waits and is not refused: behind one address
/// there may be a whole site that comes back at once, and at 16 a time, each for a round trip or
/// two, it is through soon. Nobody's place is taken away either: the oldest handshake of an address
/// is as likely to be that of an honest client far away. With it an attacker needs 32 addresses to
/// have others wait. It follows from the connections that an address may have, so that a balancer
/// that shows its own address for all clients has one number to be told of.
const CONNECTIONS_PER_HANDSHAKE: usize = 6;

/// Of how many handshakes on links' own ports an address may have one: 32 of the 512 by default.
///
/// Our choice. All connection points of a site may come from behind one address, and at once: 16 of
/// them with two links each, as is the default, need not wait for each other. More wait, for as
/// long as a handshake may take: all 256 links that an instance has by default are through in eight
/// turns of a round trip or two. An attacker needs 16 addresses to have all handshakes.
const HANDSHAKES_PER_LINK_SHARE: usize = 16;

/// The addresses that have connections open. As large as there are connections at most.
#[derive(Debug)]
pub(super) struct Addresses {
    connections_max: usize,
    handshakes_max: usize,
    state: Mutex<State>,
}

/// What an address has open.
#[derive(Debug)]
struct Open {
    connections: usize,
    share: Share,
}

/// The places of one address among handshakes.
#[derive(Clone, Debug)]
pub(super) struct Share(Arc<Semaphore>);

#[derive(Debug, Default)]
struct State {
    open: HashMap<IpAddr, Open>,
    refused: u64,
    /// Refusals that no line of the log tells of yet.
    untold: u64,
    told_at: Option<Instant>,
}

/// One connection of an address, until it is dropped.
#[derive(Debug)]
pub(super) struct Placed {
    addresses: Arc<Addresses>,
    key: IpAddr,
    share: Share,
}

impl Placed {
    /// Its address's places among handshakes.
    pub(super) fn share(&self) -> Share {
        self.share.clone()
    }
}

impl Share {
    /// A place for one handshake, if there is one now.
    pub(super) fn try_take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_owned().ok()
    }

    /// A place for one handshake, first come first served; `None` if there is none until
    /// `deadline`.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the place in line is lost.
    pub(super) async fn take(&self, deadline: Instant) -> Option<OwnedSemaphorePermit> {
        // Never closed.
        timeout_at(deadline, Arc::clone(&self.0).acquire_owned()).await.ok()?.ok()
    }
}

/// A connection more than its address may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct TooMany {
    /// How many refusals the log is to tell of now; `None` if it is to wait.
    pub(super) to_tell: Option<u64>,
}

impl Addresses {
    pub(super) fn new(connections_max: usize) -> Arc<Self> {
        Self::with(connections_max, connections_max / CONNECTIONS_PER_HANDSHAKE)
    }

    /// Those of links' own ports, on which `handshakes_max` of all addresses may be under way. What
    /// an address has there is in its handshake, or waits for it.
    pub(super) fn of_links(handshakes_max: usize) -> Arc<Self> {
        Self::with(handshakes_max, handshakes_max / HANDSHAKES_PER_LINK_SHARE)
    }

    fn with(connections_max: usize, handshakes_max: usize) -> Arc<Self> {
        let handshakes_max = handshakes_max.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self { connections_max, handshakes_max, state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for one more connection of this address.
    pub(super) fn place(self: &Arc<Self>, from: IpAddr) -> Result<Placed, TooMany> {
        let key = key(from);
        let mut state = self.lock();
        let open = state.open.entry(key).or_insert_with(|| Open {
            connections: 0,
            share: Share(Arc::new(Semaphore::new(self.handshakes_max()))),
        });
        if open.connections < self.connections_max {
            open.connections += 1;
            let share = open.share.clone();
            return Ok(Placed { addresses: Arc::clone(self), key, share });
        }
        state.refused += 1;
        state.untold += 1;
        let now = Instant::now();
        let waits = state.told_at.is_some_and(|told| now < told + LOG_EVERY);
        let to_tell = (!waits).then(|| {
            state.told_at = Some(now);
            std::mem::take(&mut state.untold)
        });
        Err(TooMany { to_tell })
    }

    /// Handshakes of one address at once.
    pub(super) fn handshakes_max(&self) -> usize {
        self.handshakes_max
    }

    /// Whether connections of this address would be half of the handshakes that it may have.
    #[cfg(any(test, feature = "quic"))]
    pub(super) fn is_crowded(&self, address: IpAddr) -> bool {
        let open = self.lock().open.get(&key(address)).map_or(0, |open| open.connections);
        open >= self.handshakes_max.div_ceil(2)
    }

    /// The places among handshakes of an address that has a connection; `None` if it has none.
    pub(super) fn share(&self, of: IpAddr) -> Option<Share> {
        self.lock().open.get(&key(of)).map(|open| open.share.clone())
    }

    /// Connections that were refused since the start.
    pub(super) fn refused(&self) -> u64 {
        self.lock().refused
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        let mut state = self.addresses.lock();
        let Some(open) = state.open.get_mut(&self.key) else { return };
        open.connections -= 1;
        if open.connections == 0 {
            state.open.remove(&self.key);
        }
    }
}

/// What counts as one address.
fn key(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(address) => {
            let mask = u128::MAX << (128 - IPV6_PREFIX_BITS);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_100_connections_and_gets_another_when_one_ends() {
        let addresses = Addresses::new(100);
        let mut placed: Vec<_> =
            (0..99).map(|_| addresses.place(ip("192.0.2.1")).unwrap()).collect();
        placed.push(addresses.place(ip("192.0.2.1")).unwrap());
        assert!(addresses.place(ip("192.0.2.1")).is_err());
        assert_eq!(addresses.refused(), 1);
        let _neighbour = addresses.place(ip("192.0.2.2")).unwrap();
        placed.pop();
        placed.push(addresses.place(ip("192.0.2.1")).unwrap());
        assert!(addresses.place(ip("192.0.2.1")).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_has_a_sixth_of_its_connections_in_handshakes_and_the_next_one_waits() {
        for (connections, handshakes) in
            [(1, 1), (11, 1), (12, 2), (95, 15), (96, 16), (100, 16), (20_000, 3333)]
        {
            let addresses = Addresses::new(connections);
            let share = addresses.place(ip("192.0.2.1")).unwrap().share();
            let mut held = Vec::new();
            for _ in 0..handshakes {
                held.push(share.take(Instant::now()).await.expect("a place"));
            }
            assert!(share.take(Instant::now() + LOG_EVERY).await.is_none(), "{connections}");
            held.pop();
            assert!(share.take(Instant::now()).await.is_some(), "{connections}");
        }
    }

    #[test]
    fn an_address_has_a_sixteenth_of_the_handshakes_of_links_and_is_crowded_from_half_of_that() {
        for (all, share, crowded) in [(1, 1, 1), (31, 1, 1), (32, 2, 1), (512, 32, 16)] {
            let addresses = Addresses::of_links(all);
            assert_eq!(addresses.handshakes_max(), share, "{all}");
            let mut placed = Vec::new();
            for open in 0..all {
                assert_eq!(addresses.is_crowded(ip("192.0.2.1")), open >= crowded, "{open}");
                placed.push(addresses.place(ip("192.0.2.1")).unwrap());
            }
            assert!(addresses.place(ip("192.0.2.1")).is_err(), "{all}");
            assert!(!addresses.is_crowded(ip("192.0.2.2")));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn connections_of_an_address_have_one_share_and_its_neighbour_has_another() {
        let addresses = Addresses::new(2);
        let (one, other) = (ip("192.0.2.1"), ip("192.0.2.2"));
        let placed: Vec<_> = (0..2).map(|_| addresses.place(one).unwrap()).collect();
        let _neighbour = addresses.place(other).unwrap();
        let _held = placed[0].share().take(Instant::now()).await.expect("a place");
        assert!(placed[1].share().take(Instant::now()).await.is_none());
        assert!(addresses.share(one).unwrap().take(Instant::now()).await.is_none());
        assert!(addresses.share(other).unwrap().take(Instant::now()).await.is_some());
        drop(placed);
        assert!(addresses.share(one).is_none());
    }

    #[test]
    fn a_64_of_ipv6_is_one_address_and_a_mapped_one_is_its_ipv4_address() {
        for (one, other, is_same) in [
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
            ("::ffff:192.0.2.1", "192.0.2.1", true),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.2", false),
            ("192.0.2.1", "192.0.2.2", false),
        ] {
            let addresses = Addresses::new(1);
            let _placed = addresses.place(ip(one)).unwrap();
            assert_eq!(addresses.place(ip(other)).is_err(), is_same, "{one} {other}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_are_told_once_a_second_with_how_many_there_were() {
        let addresses = Addresses::new(0);
        let refuse = || addresses.place(ip("192.0.2.1")).unwrap_err().to_tell;
        assert_eq!([refuse(), refuse(), refuse()], [Some(1), None, None]);
        tokio::time::advance(LOG_EVERY.checked_sub(Duration::from_millis(1)).unwrap()).await;
        assert_eq!(refuse(), None);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!([refuse(), refuse()], [Some(4), None]);
        assert_eq!(addresses.refused(), 6);
    }

    #[test]
    fn nothing_is_remembered_of_an_address_without_connections() {
        let addresses = Addresses::new(1);
        drop(addresses.place(ip("192.0.2.1")).unwrap());
        assert!(addresses.lock().open.is_empty());
    }
}
