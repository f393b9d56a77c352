//! What ends when: certificates and revocation lists of a role, with name and place.
//!
//! Everything that a role uses and that ends is listed here and nowhere else, once a minute, from
//! its files (`list.rs`) and, at a gateway instance, from what its sites have told it. The log has
//! each at 60, 30, 14, 7, 3, 2 and 1 days before its end and daily after it (`notice.rs`); the
//! admin listener shows all. Nothing is renewed or refused here. Read [`Ending`] and [`Watch`]
//! first.

mod list;
mod notice;

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use relay_core::config::{
    BackendFiles, ConnectionPointMaterial, GatewayMaterial, LoadedConnectionPoint,
};
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

    fn set(&self, all: Vec<Ending>) {
        *lock(&self.0) = sorted(all);
    }
}

/// Each once, the next end first.
fn sorted(mut all: Vec<Ending>) -> Vec<Ending> {
    // By all that tells them apart, or equal ones need not be neighbours.
    all.sort_by(|a, b| {
        let before = (a.ends_at, a.what, &a.name, &a.place, a.begins_at);
        before.cmp(&(b.ends_at, b.what, &b.name, &b.place, b.begins_at))
    });
    all.dedup();
    all
}

/// What ends of a gateway instance's own files, the next end first. Blocks on the file system.
pub(crate) fn of_gateway(material: &GatewayMaterial) -> Vec<Ending> {
    sorted(list::of_gateway_files(material))
}

/// What ends of all that a connection point's file names, the next end first. Blocks on the file
/// system.
pub(crate) fn of_connection_point(loaded: &LoadedConnectionPoint) -> Vec<Ending> {
    let mut all = list::of_connection_point_files(&loaded.material);
    all.extend(Named::of(loaded).list());
    sorted(all)
}

/// What ends of the certificates in these files, whatever they are for. Blocks on the file system.
pub(crate) fn of_files<'a>(files: impl IntoIterator<Item = &'a Path>) -> Vec<Ending> {
    sorted(files.into_iter().flat_map(list::of_file).collect())
}

/// What a connection point's configuration names beside what its links are made from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Named {
    /// Files that say whose clients count.
    clients: Vec<PathBuf>,
    backends: Vec<BackendFiles>,
    /// The folder of its signing keys, if it makes tokens.
    signing_keys: Option<PathBuf>,
    /// The certificate of its token service, if that has one.
    token_service: Option<PathBuf>,
    /// The certificate of the authority with which it renews those of links.
    link_authority: Option<PathBuf>,
}

impl Named {
    pub(crate) fn of(loaded: &LoadedConnectionPoint) -> Self {
        let service = loaded.token_service.as_ref().and_then(|it| it.intranet.as_ref());
        let identity = service.and_then(|it| it.identity.as_ref());
        Self {
            clients: loaded.client_files.files.clone(),
            backends: loaded.backend_files.clone(),
            signing_keys: loaded.tokens.as_ref().map(|tokens| tokens.folder.clone()),
            token_service: identity.map(|identity| identity.certificate.clone()),
            link_authority: loaded.authority.as_ref().map(|it| it.certificate.clone()),
        }
    }

    fn list(&self) -> Vec<Ending> {
        let mut all: Vec<_> =
            self.clients.iter().flat_map(|file| list::of_client_file(file)).collect();
        all.extend(self.backends.iter().flat_map(list::of_backends));
        all.extend(self.signing_keys.iter().flat_map(|it| list::of_signing_keys(it)));
        all.extend(self.token_service.iter().flat_map(|it| list::of_token_service(it)));
        all.extend(self.link_authority.iter().flat_map(|it| list::of_link_authority(it)));
        all
    }
}

/// That, where a connection point may be given another while it runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places(Arc<Mutex<Named>>);

impl Places {
    pub(crate) fn set(&self, named: Named) {
        *lock(&self.0) = named;
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

    /// Of a connection point: what its links are made from, and what else is named.
    pub(crate) fn of_connection_point(material: ConnectionPointMaterial, places: Places) -> Self {
        Self::new(move || {
            let mut all = list::of_connection_point_files(&material);
            let named = lock(&places.0).clone();
            all.extend(named.list());
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
