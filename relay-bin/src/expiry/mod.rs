//! What ends when: certificates and revocation lists of a role, with name and place.
//!
//! Everything that a role uses and that ends is listed here and nowhere else, once a minute, from
//! its files (`list.rs`) and, at a gateway instance, from what its sites have told it. The log has
//! each at 60, 30, 14, 7, 3, 2 and 1 days before its end and daily after it (`notice.rs`); the
//! admin listener shows all. Nothing is renewed or refused here. Read [`Ending`] and [`Watch`]
//! first.

mod list;
mod notice;

use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use relay_core::config::{ConnectionPointMaterial, GatewayMaterial};
use relay_core::gateway::Gateway;
use tokio::time::{MissedTickBehavior, interval};

use self::notice::{Notice, Notices};

/// How often it is listed. Our choice: as often as changed files are looked for.
const LIST_EVERY: Duration = Duration::from_mins(1);

/// Something that ends.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Ending {
    /// What it is, in fixed words.
    pub(crate) what: &'static str,
    /// A certificate's subject, or a list's issuer.
    pub(crate) name: String,
    /// Its file, or who has told of it.
    pub(crate) place: String,
    /// When it began to hold; `None` if that is not known, and it is not warned of: somebody
    /// fetches the next one.
    pub(crate) begins_at: Option<SystemTime>,
    /// When it holds no more.
    pub(crate) ends_at: SystemTime,
}

impl Ending {
    /// Whether its end is so near, for something that lives so long, that the log tells it.
    pub(crate) fn is_near(&self, now: SystemTime) -> bool {
        notice::Nearness::of(self, now).is_some()
    }
}

/// All that ends, as it was listed last, for whoever shows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Endings(Arc<Mutex<Vec<Ending>>>);

impl Endings {
    /// All of it, the next end first.
    pub(crate) fn read(&self) -> Vec<Ending> {
        lock(&self.0).clone()
    }

    fn set(&self, mut all: Vec<Ending>) {
        all.sort_by(|a, b| (a.ends_at, &a.what, &a.name).cmp(&(b.ends_at, &b.what, &b.name)));
        all.dedup();
        *lock(&self.0) = all;
    }
}

/// The files that say whose clients count; a connection point may be given others while it runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientPlaces(Arc<Mutex<Vec<PathBuf>>>);

impl ClientPlaces {
    pub(crate) fn set(&self, files: Vec<PathBuf>) {
        *lock(&self.0) = files;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lists all there is now; blocks on the file system.
type List = Arc<dyn Fn() -> Vec<Ending> + Send + Sync>;

/// Lists what ends beside a role that runs.
pub(crate) struct Watch {
    list: List,
    endings: Endings,
    notices: Notices,
}

impl Watch {
    /// Of a gateway instance: its own files, and what its sites have published.
    pub(crate) fn of_gateway(material: GatewayMaterial, role: Gateway) -> Self {
        Self::new(move || {
            let mut all = list::of_gateway_files(&material);
            for document in role.documents() {
                all.extend(list::of_document(&document));
            }
            all.extend(list::of_sources(&role.status().sources));
            all
        })
    }

    /// Of a connection point: its files, and those that say whose clients count.
    pub(crate) fn of_connection_point(
        material: ConnectionPointMaterial,
        clients: ClientPlaces,
    ) -> Self {
        Self::new(move || {
            let mut all = list::of_connection_point_files(&material);
            let files = lock(&clients.0).clone();
            all.extend(files.iter().flat_map(|file| list::of_client_file(file)));
            all
        })
    }

    fn new(list: impl Fn() -> Vec<Ending> + Send + Sync + 'static) -> Self {
        let (endings, notices) = (Endings::default(), Notices::default());
        Self { list: Arc::new(list), endings, notices }
    }

    /// Where all of it can be read.
    pub(crate) fn endings(&self) -> Endings {
        self.endings.clone()
    }

    /// Runs `role` to its end, and lists meanwhile.
    pub(crate) async fn beside<T>(mut self, role: impl Future<Output = T>) -> T {
        let mut role = pin!(role);
        let mut looks = interval(LIST_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                ended = &mut role => return ended,
                _ = looks.tick() => {}
            }
            // The role goes on while files are read.
            tokio::select! {
                ended = &mut role => return ended,
                () = self.look() => {}
            }
        }
    }

    async fn look(&mut self) {
        let list = Arc::clone(&self.list);
        // A task that is not awaited to its end is one whose role has ended.
        let Ok(all) = tokio::task::spawn_blocking(move || list()).await else { return };
        let news = self.notices.news(&all, SystemTime::now());
        // Before it is told: whoever reads the log finds it.
        self.endings.set(all);
        news.iter().for_each(Notice::log);
    }
}
