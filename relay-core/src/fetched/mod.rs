//! What a gateway instance fetches by itself: keys of identity providers, revocation lists.
//!
//! It says what is held and how old that is; whether a token or certificate counts is said by
//! `auth`. Whoever fails leaves what was held before where it is: a provider that is down locks
//! nobody out, and a list ends by its own time. Nothing here starts a task that outlives
//! [`FetchDriver::run`], but for the reading of a list that is under way.
//!
//! Read [`Fetched`] first, then `schedule`, which decides when; `get` is the only file that speaks
//! to anybody. What is wanted comes from the site's settings; keys and lists go to `auth`, states
//! to the log, once for each change, and to operators.

mod address;
mod driver;
mod get;
mod held;
mod keys;
mod lists;
mod schedule;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::ClientConfig;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::auth::{Crl, KeySet};
use crate::transport::{Network, TlsSetupError, TrustAnchors, backend_client_config};

pub use address::{ADDRESS_OCTETS_MAX, AddressFault};
pub use driver::FetchDriver;
pub use get::GetError;
pub use held::{Failure, KeysStatus, LISTS_OCTETS_MAX, ListStatus};
pub use keys::{KeySource, KeysFault, ProviderVersion};
pub use lists::{LISTS_OF_SOURCE_MAX, ListFault, ListLocation, ListSource, ListState};
pub use schedule::Asked;

use get::Getter;
use held::Held;

/// Sources of keys, at most, of all sites together. Our choice: as many as four sites may publish;
/// 128 keys of each take 32 MiB.
pub const KEY_SOURCES_MAX: usize = 256;

/// Places that lists are fetched from, at most, of all sites together. Our choice: as many as four
/// sites may publish.
pub const LIST_SOURCES_MAX: usize = 256;

/// Seconds since 1970 UTC, by whichever clock is to count.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

/// How to fetch.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FetchConfig {
    /// By whom a server is trusted to be the one of an `https://` address.
    tls: Arc<ClientConfig>,
    /// The network; the operating system's by default. No web proxy is asked.
    pub network: Network,
    /// By which clock lists are over; the operating system's by default.
    pub clock: Clock,
    /// Octets of all lists that are held, at most; [`LISTS_OCTETS_MAX`] by default. While they are
    /// fetched and read, each of four may take 64 MiB besides.
    pub lists_octets_max: usize,
}

/// More is wanted than is fetched. The fault of whoever publishes it; what was wanted before still
/// is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum WantError {
    /// [`KEY_SOURCES_MAX`].
    #[error("keys of more than {KEY_SOURCES_MAX} tenants are wanted, of all sites together")]
    TooManyTenants,
    /// [`LIST_SOURCES_MAX`].
    #[error(
        "revocation lists of more than {LIST_SOURCES_MAX} places are wanted, of all sites together"
    )]
    TooManyLists,
}

/// What is held of what was fetched. Clones share it.
///
/// Nothing is fetched unless [`FetchDriver::run`] runs; what is held then stays as it is.
#[derive(Clone, Debug)]
pub struct Fetched {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    held: Mutex<Held>,
    /// Tells the driver that there may be something to do.
    wake: Notify,
    /// Rises whenever keys or lists have changed.
    generation: watch::Sender<u64>,
    began: Instant,
    clock: Clock,
    getter: Getter,
}

impl FetchConfig {
    /// Has a server prove by `trust` that it is the one of an `https://` address, and the defaults
    /// otherwise. Nothing looks at the machine's own store; [`TrustAnchors::from_pem_file`] reads
    /// it where it is a file, such as `/etc/ssl/certs/ca-certificates.crt`.
    ///
    /// # Errors
    ///
    /// [`TlsSetupError`], if nothing can be trusted by `trust`.
    pub fn new(trust: &TrustAnchors) -> Result<Self, TlsSetupError> {
        Ok(Self {
            tls: backend_client_config(trust)?,
            network: Network::default(),
            clock: Clock::default(),
            lists_octets_max: LISTS_OCTETS_MAX,
        })
    }
}

impl Fetched {
    /// Nothing is held or wanted yet. The second half has to run.
    pub fn new(config: FetchConfig) -> (Self, FetchDriver) {
        let shared = Arc::new(Shared {
            held: Mutex::new(Held::new(config.lists_octets_max)),
            wake: Notify::new(),
            generation: watch::Sender::new(0),
            began: Instant::now(),
            clock: config.clock,
            getter: Getter { network: config.network, tls: config.tls },
        });
        (Self { shared: Arc::clone(&shared) }, FetchDriver::new(shared))
    }

    /// Has these fetched from now on, and nothing else. A source that was wanted before keeps what
    /// is held of it and its time; one that is wanted no more is forgotten with what it gave. A
    /// list whose authorities are others now is fetched at once.
    ///
    /// What is listed twice is fetched once; a list with the authorities that come first.
    ///
    /// # Errors
    ///
    /// [`WantError`]: all of it, or nothing.
    pub fn want(&self, keys: Vec<KeySource>, lists: Vec<ListSource>) -> Result<(), WantError> {
        if keys.len() > KEY_SOURCES_MAX {
            return Err(WantError::TooManyTenants);
        }
        if lists.len() > LIST_SOURCES_MAX {
            return Err(WantError::TooManyLists);
        }
        let has_lost = self.shared.held().want(keys, lists, self.shared.began.elapsed());
        if has_lost {
            self.shared.has_changed();
        }
        self.shared.wake.notify_one();
        Ok(())
    }

    /// The keys of a source: the last ones that it gave, however long ago.
    // Our choice: without an end. Who makes the provider unreachable for an instance would else
    // lock out every client, and `status` tells how old they are.
    pub fn keys(&self, source: &KeySource) -> Option<Arc<KeySet>> {
        self.shared.held().keys_of(source)
    }

    /// The lists of a place, over or not: of each authority, key and scope the newest one that it
    /// ever gave. `auth` refuses by those that are over.
    pub fn lists_at(&self, place: &ListLocation) -> Option<Arc<[Crl]>> {
        self.shared.held().lists_at(place)
    }

    /// Every place that lists are wanted from, in the order in which they were first wanted, with
    /// what is held of it and what became of it.
    ///
    /// Lists that are over are among them, told as such; `auth` refuses by them.
    pub fn lists(&self) -> Vec<ListStatus> {
        self.shared.held().lists(self.shared.began.elapsed(), self.shared.clock.now())
    }

    /// Every source of keys that is wanted, in the order in which they were first wanted.
    pub fn tenants(&self) -> Vec<KeysStatus> {
        self.shared.held().tenants(self.shared.began.elapsed())
    }

    /// A token names a key that is not among [`Fetched::keys`] of this source: they are fetched at
    /// once, by one of all who ask, and once in five minutes. Costs no more than a look.
    ///
    /// Whoever waits for what comes of it by [`Fetched::changed`] needs a deadline: keys that are
    /// the same, or did not come, are no change.
    ///
    /// To be called only for a token that would be good but for its key
    /// (`TokenFault::UnknownKey`).
    pub fn ask_again(&self, source: &KeySource) -> Asked {
        let asked = self.shared.held().ask(source, self.shared.began.elapsed());
        if asked == Asked::Begun {
            self.shared.wake.notify_one();
        }
        asked
    }

    /// A number that rises whenever keys or lists have changed, or a list began or ceased to hold.
    pub fn generation(&self) -> u64 {
        *self.shared.generation.borrow()
    }

    /// Waits until [`Fetched::generation`] is another than `seen`, and returns it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: whoever asks with the same number again misses nothing.
    pub async fn changed(&self, seen: u64) -> u64 {
        let mut generation = self.shared.generation.subscribe();
        // The sender lives as long as `self`.
        generation.wait_for(|now| *now != seen).await.map_or(seen, |now| *now)
    }
}

impl Shared {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_changed(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }
}

impl Clock {
    /// A clock that says what `now` does, in seconds since 1970 UTC.
    pub fn new(now: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    fn now(&self) -> u64 {
        (self.0)()
    }
}

impl Default for Clock {
    /// The operating system's.
    fn default() -> Self {
        Self::new(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}
