//! The live links of this instance, and what is in flight on each.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use crate::balance::{LinkView, LoadBalancer, Notice, Outcome};
use crate::link::Link;
use crate::transport::{Certificate, Rung};

use super::line;

/// Links up to which an offer allocates nothing: 16 connection points with two links each.
const VIEWS_INLINE: usize = 32;

/// A live link to a connection point.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// A number unique in this process, for logs.
    pub(super) number: u64,
    /// The connection point's name.
    pub(super) name: Arc<str>,
    /// The site that the connection point stands in.
    pub(super) site: Arc<str>,
    start: Start,
    pub(super) link: Link,
    pub(super) rung: Rung,
    pub(super) certificate: Arc<Certificate>,
    /// When it came up.
    pub(super) since: Instant,
    /// Told when a later link of the same connection point has taken this one's place.
    pub(super) superseded: Arc<Notify>,
    load: Arc<Load>,
}

/// What a balancer is told of a link. It outlives the link while attempts over it do.
#[derive(Debug)]
struct Load {
    number: u64,
    /// The connection point's name, and what stands for it.
    name: Arc<str>,
    connection_point: u64,
    in_flight: AtomicU32,
    /// Whether one of its attempts has told of the loss of the link.
    loss_told: AtomicBool,
    balancer: Arc<dyn LoadBalancer>,
}

impl Load {
    fn view(&self) -> LinkView {
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        LinkView::new(self.number, self.connection_point, in_flight)
    }

    fn observe(&self, outcome: Outcome) {
        match self.balancer.observe(&self.view(), outcome, Instant::now().into_std()) {
            None => {}
            Some(Notice::Ejected { failures, time }) => tracing::warn!(
                connection_point = &*self.name,
                link = self.number,
                failures,
                ?time,
                "connection point sits out"
            ),
            Some(Notice::Recovered { ejections }) => tracing::info!(
                connection_point = &*self.name,
                link = self.number,
                ejections,
                "connection point is back"
            ),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.balancer.forget(self.number);
    }
}

/// A request on a link, from its opening to the last octet of its answer. What became of it is told
/// once: by [`Attempt::settle`], or as inconclusive when it is dropped before.
#[derive(Debug)]
pub(super) struct Attempt {
    load: Arc<Load>,
    is_settled: bool,
}

impl Attempt {
    fn begin(load: &Arc<Load>) -> Self {
        load.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { load: Arc::clone(load), is_settled: false }
    }

    /// Tells the balancer what became of it. The request stays in flight.
    pub(super) fn settle(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.is_settled, true) {
            return;
        }
        let again = outcome == Outcome::Lost && self.load.loss_told.swap(true, Ordering::Relaxed);
        self.load.observe(if again { Outcome::Inconclusive } else { outcome });
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.settle(Outcome::Inconclusive);
        self.load.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Entry {
    /// Begins an attempt on a stream of this link.
    pub(super) fn attempt(&self) -> Attempt {
        Attempt::begin(&self.load)
    }

    /// Which of its connection point's links to this instance it is.
    pub(super) fn place(&self) -> u32 {
        self.start.place
    }

    /// Requests on it, from their opening to the last octet of their answers.
    pub(super) fn in_flight(&self) -> u32 {
        self.load.in_flight.load(Ordering::Relaxed)
    }

    /// By what entries are sorted, so that links of one connection point stand together.
    fn key(&self) -> (u64, u64) {
        (self.load.connection_point, self.number)
    }
}

/// What became of an offer of the links.
#[derive(Debug)]
pub(super) enum Offer<T> {
    /// A link was taken, with this.
    Taken(T, Entry),
    /// None was; these are the ones to wait for, in order.
    Full(Vec<Entry>),
    /// There is none that takes requests.
    Nothing,
}

/// Which link of its connection point a link is, and which of two is the later.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Start {
    /// Rises with each start of the connection point.
    epoch: u64,
    /// Which of its links to this instance.
    place: u32,
    /// How often that was dialled before.
    turn: u32,
}

impl Start {
    /// As a hello says it, see its field `link`.
    pub(super) fn new(epoch: u64, link: u64) -> Self {
        let [place, turn] = [link >> 32, link & u64::from(u32::MAX)]
            .map(|half| u32::try_from(half).expect("half of a u64 is a u32"));
        Self { epoch, place, turn }
    }

    /// Whether a link that began so takes the place of one that began as `other`.
    fn succeeds(self, other: Self) -> bool {
        let is_redialled = self.place == other.place && self.turn > other.turn;
        self.epoch > other.epoch || self.epoch == other.epoch && is_redialled
    }
}

/// A link that has come up.
#[derive(Debug)]
pub(super) struct Arrival {
    /// Was never given to another link.
    pub(super) number: u64,
    /// The connection point's name.
    pub(super) name: Arc<str>,
    /// The site that the connection point stands in.
    pub(super) site: Arc<str>,
    pub(super) start: Start,
    pub(super) link: Link,
    pub(super) rung: Rung,
    pub(super) certificate: Arc<Certificate>,
    /// To be told when a later link of the same connection point has taken its place.
    pub(super) superseded: Arc<Notify>,
}

/// A link whose place a later one has already.
#[derive(Debug)]
pub(super) struct Stale;

/// Every live link. Reading takes a snapshot; a link that ends is removed by its registration.
#[derive(Debug)]
pub(super) struct Registry {
    entries: RwLock<Arc<[Entry]>>,
    /// Links that others have taken the place of, until they have ended.
    retired: Mutex<Vec<Entry>>,
    /// Told of each link that comes up.
    arrivals: Notify,
    /// When the last link went, or the instance started without one.
    deserted: Mutex<Instant>,
    balancer: Arc<dyn LoadBalancer>,
    /// Makes numbers of names, others in each process: no peer can choose one that collides.
    names: Names,
}

/// Makes numbers of names.
#[derive(Debug)]
enum Names {
    Random(RandomState),
    #[cfg(any(test, feature = "test-util"))]
    Seeded(u64),
}

impl Names {
    fn number(&self, name: &str) -> u64 {
        match self {
            Self::Random(state) => state.hash_one(name),
            #[cfg(any(test, feature = "test-util"))]
            Self::Seeded(seed) => {
                let hasher = std::hash::BuildHasherDefault::<std::hash::DefaultHasher>::default();
                hasher.hash_one((seed, name))
            }
        }
    }
}

/// Keeps a link registered until it is dropped.
#[derive(Debug)]
pub(super) struct Registration {
    registry: Arc<Registry>,
    number: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let is_other = |entry: &Entry| entry.number != self.number;
        self.registry.change(|entries| entries.retain(is_other));
        self.registry.retired().retain(is_other);
    }
}

impl Registry {
    pub(super) fn new(balancer: Arc<dyn LoadBalancer>) -> Self {
        Self {
            entries: RwLock::default(),
            retired: Mutex::default(),
            arrivals: Notify::new(),
            deserted: Mutex::new(Instant::now()),
            balancer,
            names: Names::Random(RandomState::new()),
        }
    }

    /// As [`Registry::new`], but the numbers of names follow from `seed`.
    #[cfg(any(test, feature = "test-util"))]
    pub(super) fn seeded(balancer: Arc<dyn LoadBalancer>, seed: u64) -> Self {
        Self { names: Names::Seeded(seed), ..Self::new(balancer) }
    }

    /// Whether the numbers of names are the same in every process.
    pub(super) fn is_seeded(&self) -> bool {
        !matches!(self.names, Names::Random(_))
    }

    /// Offers requests to a link. The one whose place it takes, and all of an earlier start of the
    /// same connection point, are taken out at once, and told: they may be half-open. A link that
    /// is an earlier one itself is not added.
    pub(super) fn register(self: &Arc<Self>, arrival: Arrival) -> Result<Registration, Stale> {
        let Arrival { number, name, site, start, link, rung, certificate, superseded } = arrival;
        let load = Arc::new(Load {
            number,
            name: Arc::clone(&name),
            connection_point: self.names.number(&name),
            in_flight: AtomicU32::new(0),
            loss_told: AtomicBool::new(false),
            balancer: Arc::clone(&self.balancer),
        });
        let since = Instant::now();
        let entry =
            Entry { number, name, site, start, link, rung, certificate, since, superseded, load };
        let mut is_stale = false;
        self.change(|entries| {
            let same = |other: &Entry| other.name == entry.name;
            is_stale = entries.iter().any(|other| same(other) && other.start.succeeds(entry.start));
            if is_stale {
                return;
            }
            entries.retain(|other| {
                let is_superseded = same(other) && entry.start.succeeds(other.start);
                if is_superseded {
                    other.superseded.notify_one();
                    self.retired().push(other.clone());
                }
                !is_superseded
            });
            let at = entries.partition_point(|other| other.key() < entry.key());
            entries.insert(at, entry);
        });
        if is_stale {
            return Err(Stale);
        }
        self.arrivals.notify_waiters();
        Ok(Registration { registry: Arc::clone(self), number })
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Entry>)) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = entries.to_vec();
        change(&mut changed);
        if changed.is_empty() && !entries.is_empty() {
            *self.deserted.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
        *entries = changed.into();
    }

    /// Ready when a link comes up, once it was enabled.
    pub(super) fn arrival(&self) -> Notified<'_> {
        self.arrivals.notified()
    }

    /// Whether there is a link of this site that takes requests.
    pub(super) fn has_open(&self, site: &str) -> bool {
        self.all().iter().any(|entry| *entry.site == *site && entry.link.is_open())
    }

    /// Until when it is worth waiting for a link while none takes requests: for `grace` after the
    /// last one went or the instance started, in which connection points dial it.
    pub(super) fn is_awaited_until(&self, grace: Duration) -> Instant {
        if !self.all().is_empty() {
            return Instant::now() + grace;
        }
        *self.deserted.lock().unwrap_or_else(PoisonError::into_inner) + grace
    }

    fn retired(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every link that has not ended: those that requests are offered to, and behind them those
    /// that others have taken the place of.
    pub(super) fn standing(&self) -> Vec<Entry> {
        // In this order none is missed that is retired meanwhile, though it may be there twice.
        let all = self.all();
        let retired = self.retired().clone();
        let is_new = |entry: &&Entry| all.iter().all(|other| other.number != entry.number);
        all.iter().chain(retired.iter().filter(is_new)).cloned().collect()
    }

    /// Every registered link.
    pub(super) fn all(&self) -> Arc<[Entry]> {
        Arc::clone(&self.entries.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Streams that are free now on the links into `site`.
    pub(super) fn openable(&self, site: &str) -> usize {
        let all = self.all();
        let into_site = all.iter().filter(|entry| *entry.site == *site);
        into_site.map(|entry| entry.link.openable()).fold(0, usize::saturating_add)
    }

    /// Offers the links into `site` that take streams, in the balancer's order, until `take` takes
    /// one.
    ///
    /// The filter is the one place where links are left out: those that drain or have ended, and
    /// those of another site than the endpoint's.
    pub(super) fn offer<T>(
        &self,
        site: &str,
        mut take: impl FnMut(&Entry) -> Option<T>,
    ) -> Offer<T> {
        let all = self.all();
        let mut inline = [LinkView::default(); VIEWS_INLINE];
        let mut spilled = Vec::new();
        let mut views = &mut inline[..];
        if views.len() < all.len() {
            spilled.resize(all.len(), LinkView::default());
            views = &mut spilled;
        }
        let open = all.iter().filter(|entry| *entry.site == *site && entry.link.is_open());
        let count = views.iter_mut().zip(open).map(|(view, of)| *view = of.load.view()).count();
        let views = &mut views[..count];
        let now = Instant::now().into_std();
        let count = self.balancer.order(views, now, fastrand::u64(..)).min(count);
        let mut full = Vec::new();
        for view in &views[..count] {
            let key = (view.connection_point, view.id);
            // A balancer of the product's own may have made one up.
            let Ok(at) = all.binary_search_by_key(&key, Entry::key) else { continue };
            if let Some(taken) = take(&all[at]) {
                return Offer::Taken(taken, all[at].clone());
            }
            // One that has ended meanwhile is no place to wait at.
            if full.len() < line::LINKS_MAX && all[at].link.is_open() {
                full.push(at);
            }
        }
        if full.is_empty() {
            return Offer::Nothing;
        }
        Offer::Full(full.into_iter().map(|at| all[at].clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;
    use crate::balance::RoundRobin;
    use crate::mux::{Config, Side};

    /// Two established links, so that one of them is open, and their drivers.
    async fn open_link() -> (Link, Link) {
        let (near, far) = tokio::io::duplex(1024);
        let (link, driver) = crate::link::new(near, Side::Listener, Config::default()).unwrap();
        let (peer, peer_driver) = crate::link::new(far, Side::Dialer, Config::default()).unwrap();
        tokio::spawn(driver);
        tokio::spawn(peer_driver);
        link.established().await.unwrap();
        (link, peer)
    }

    fn registry() -> Arc<Registry> {
        Arc::new(Registry::new(Arc::new(RoundRobin::default())))
    }

    fn started(number: u64, name: &str, epoch: u64, link: &Link) -> Arrival {
        dialled(number, name, Start { epoch, place: 0, turn: 0 }, link)
    }

    fn dialled(number: u64, name: &str, start: Start, link: &Link) -> Arrival {
        let superseded = Arc::default();
        let (name, site, rung) = (name.into(), "site".into(), Rung::TcpTls);
        let (link, certificate) = (link.clone(), Arc::new(Certificate::nobodys()));
        Arrival { number, name, site, start, link, rung, certificate, superseded }
    }

    fn register(registry: &Arc<Registry>, number: u64, link: &Link) -> Registration {
        registry.register(started(number, "cp", 1, link)).unwrap()
    }

    /// The links that are offered to one who takes none.
    fn in_turn(registry: &Registry) -> Vec<u64> {
        let mut numbers = Vec::new();
        let offer: Offer<()> = registry.offer("site", |entry| {
            numbers.push(entry.number);
            None
        });
        match offer {
            Offer::Taken(..) => panic!("none was taken"),
            Offer::Full(full) => {
                let few = &numbers[..numbers.len().min(line::LINKS_MAX)];
                assert_eq!(full.iter().map(|it| it.number).collect::<Vec<_>>(), few);
            }
            Offer::Nothing => assert!(numbers.is_empty()),
        }
        numbers
    }

    fn numbers(entries: &[Entry]) -> Vec<u64> {
        entries.iter().map(|entry| entry.number).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn links_take_turns_and_each_turn_offers_every_link_once() {
        let registry = registry();
        let (link, _peer) = open_link().await;
        let _kept: Vec<_> = (0..3).map(|n| register(&registry, n, &link)).collect();
        let turns: Vec<_> = (0..4).map(|_| in_turn(&registry)).collect();
        assert_eq!(turns, [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_that_drains_or_has_ended_is_never_offered() {
        let registry = registry();
        assert!(in_turn(&registry).is_empty());
        let (healthy, _peer) = open_link().await;
        let (draining, peer) = open_link().await;
        let _one = register(&registry, 1, &healthy);
        let other = register(&registry, 2, &draining);
        peer.drain(Duration::from_secs(1)).await;
        assert_eq!(in_turn(&registry), [1]);
        drop(other);
        assert_eq!(numbers(&registry.all()), [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_into_another_site_is_never_offered() {
        let registry = registry();
        let (link, _peer) = open_link().await;
        let _own = register(&registry, 1, &link);
        let foreign = Arrival { site: "other".into(), ..started(2, "cp-2", 1, &link) };
        let _foreign = registry.register(foreign).unwrap();
        assert_eq!(in_turn(&registry), [1]);
        let Offer::Full(full) = registry.offer("other", |_| None::<()>) else { panic!("one is") };
        assert_eq!(full.iter().map(|it| it.number).collect::<Vec<_>>(), [2]);
        assert!(matches!(registry.offer("third", |_| None::<()>), Offer::Nothing));
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_start_of_a_connection_point_takes_the_place_of_an_earlier_one() {
        let registry = registry();
        let (link, _peer) = open_link().await;
        let old = started(1, "cp", 5, &link);
        let superseded = Arc::clone(&old.superseded);
        let _old = registry.register(old).unwrap();
        let _sister = registry.register(started(2, "cp", 5, &link)).unwrap();
        let _other = registry.register(started(3, "another", 1, &link)).unwrap();
        // Names stand in an order of the process's own.
        let sorted = || {
            let mut numbers = numbers(&registry.all());
            numbers.sort_unstable();
            numbers
        };
        assert_eq!(sorted(), [1, 2, 3], "links of one start stand side by side");
        let _new = registry.register(started(4, "cp", 6, &link)).unwrap();
        assert_eq!(sorted(), [3, 4]);
        superseded.notified().await;
        assert!(registry.register(started(5, "cp", 5, &link)).is_err());
        assert_eq!(sorted(), [3, 4]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_that_is_dialled_again_takes_its_own_place_and_no_other() {
        let registry = registry();
        let (link, _peer) = open_link().await;
        let start = |place, turn| Start { epoch: 5, place, turn };
        let half_open = dialled(1, "cp", start(0, 3), &link);
        let superseded = Arc::clone(&half_open.superseded);
        let _first = registry.register(half_open).unwrap();
        let _second = registry.register(dialled(2, "cp", start(1, 0), &link)).unwrap();
        let _again = registry.register(dialled(3, "cp", start(0, 4), &link)).unwrap();
        assert_eq!(numbers(&registry.all()), [2, 3]);
        superseded.notified().await;
        assert!(registry.register(dialled(4, "cp", start(0, 3), &link)).is_err());
        // Whoever does not number its links has them all.
        let _same = registry.register(dialled(5, "cp", start(0, 4), &link)).unwrap();
        assert_eq!(numbers(&registry.all()), [2, 3, 5]);
    }

    #[test]
    fn a_hello_tells_place_and_turn_by_halves() {
        let start = Start::new(7, 0x0000_0002_0000_0009);
        assert_eq!(start, Start { epoch: 7, place: 2, turn: 9 });
    }

    #[tokio::test(start_paused = true)]
    async fn many_links_are_offered_like_few() {
        let registry = registry();
        let (link, _peer) = open_link().await;
        let last = VIEWS_INLINE as u64;
        let _kept: Vec<_> = (0..=last).map(|n| register(&registry, n, &link)).collect();
        assert_eq!(in_turn(&registry), (0..=last).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn links_of_one_connection_point_are_one_turn_whenever_they_came() {
        let registry = registry();
        let (link, _peer) = open_link().await;
        let names = ["a", "b", "a", "c", "a", "b"];
        let register = |(number, name): (u64, &str)| {
            registry.register(started(number, name, 1, &link)).unwrap()
        };
        let _kept: Vec<_> = (0..).zip(names).map(register).collect();
        let mut turns = [0; 3];
        for _ in 0..30 {
            let place = usize::try_from(in_turn(&registry)[0]).unwrap();
            turns[names[place].bytes().map(|name| usize::from(name - b'a')).sum::<usize>()] += 1;
        }
        assert_eq!(turns, [10, 10, 10]);
    }

    /// Writes down what it is told, and makes links up.
    #[derive(Debug, Default)]
    struct Scribe(Mutex<Vec<String>>);

    impl Scribe {
        fn told(&self) -> Vec<String> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    impl LoadBalancer for Scribe {
        fn order(&self, links: &mut [LinkView], _now: std::time::Instant, _draw: u64) -> usize {
            let told = links.iter().map(|link| format!("{}: {}", link.id, link.in_flight));
            self.0.lock().unwrap().extend(told);
            links[0] = LinkView::new(99, 99, 0);
            links.len() + 1
        }

        fn observe(
            &self,
            link: &LinkView,
            outcome: Outcome,
            _now: std::time::Instant,
        ) -> Option<Notice> {
            self.0.lock().unwrap().push(format!("{} {outcome:?}", link.id));
            None
        }

        fn forget(&self, link: u64) {
            self.0.lock().unwrap().push(format!("{link} forgotten"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn links_that_a_balancer_makes_up_are_passed_over() {
        let registry = Arc::new(Registry::new(Arc::new(Scribe::default())));
        let (link, _peer) = open_link().await;
        let _kept: Vec<_> = (0..2).map(|n| register(&registry, n, &link)).collect();
        assert_eq!(in_turn(&registry), [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_is_counted_and_told_once_and_its_link_forgotten_after_it() {
        let scribe = Arc::new(Scribe::default());
        let registry = Arc::new(Registry::new(Arc::clone(&scribe) as Arc<dyn LoadBalancer>));
        let (link, _peer) = open_link().await;
        let registration = register(&registry, 7, &link);
        let entry = registry.all()[0].clone();
        let mut settled = entry.attempt();
        let dropped = entry.attempt();
        assert_eq!(entry.load.view().in_flight, 2);
        settled.settle(Outcome::Refused);
        settled.settle(Outcome::Failed);
        assert_eq!(scribe.told(), ["7 Refused"]);
        assert_eq!(entry.load.view().in_flight, 2, "its answer is still under way");
        drop(dropped);
        assert_eq!(scribe.told(), ["7 Inconclusive"]);
        assert_eq!(entry.load.view().in_flight, 1);
        drop((registration, entry));
        assert_eq!(scribe.told(), Vec::<String>::new(), "an attempt may still tell of it");
        drop(settled);
        assert_eq!(scribe.told(), ["7 forgotten"]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_loss_of_a_link_is_told_once_however_many_requests_it_takes() {
        let scribe = Arc::new(Scribe::default());
        let registry = Arc::new(Registry::new(Arc::clone(&scribe) as Arc<dyn LoadBalancer>));
        let (link, _peer) = open_link().await;
        let _registration = register(&registry, 7, &link);
        let entry = registry.all()[0].clone();
        for mut attempt in [entry.attempt(), entry.attempt(), entry.attempt()] {
            attempt.settle(Outcome::Lost);
        }
        assert_eq!(scribe.told(), ["7 Lost", "7 Inconclusive", "7 Inconclusive"]);
    }
}
