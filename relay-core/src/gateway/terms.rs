//! What an instance may be told anew while it runs.
//!
//! [`Terms`] is one snapshot, swapped whole, as published settings are: whoever asks for it has all
//! of one update or nothing of it, and a request keeps the deadlines that it began with. What is
//! not in [`GatewayUpdate`], and the limits that [`Gateway::update`] passes over, have shaped what
//! stands for as long as the instance does: places that are counted, windows that peers were told.

use std::sync::Arc;

use super::config::GatewayLimits;
use super::content::{ContentStore, Shelves};
use super::serve::Gateway;

/// What a running instance is told anew: see [`Gateway::update`].
#[derive(Clone, Debug)]
pub struct GatewayUpdate {
    /// As [`GatewayConfig::content`](super::GatewayConfig::content). The same one as before goes on
    /// with what it is being asked.
    pub content: Option<Arc<dyn ContentStore>>,
    /// Limits, those among them that can change.
    pub limits: GatewayLimits,
}

/// By what requests are served.
#[derive(Debug)]
pub(super) struct Terms {
    /// Apart, so that whoever keeps them for long keeps no store.
    pub(super) limits: Arc<GatewayLimits>,
    /// Where content is, if this instance gives any.
    pub(super) content: Option<Shelves>,
    /// Those given last: the same store has the same places when it is given again.
    last: Option<Shelves>,
}

impl Terms {
    /// Those at the start.
    pub(super) fn first(limits: GatewayLimits, content: Option<Arc<dyn ContentStore>>) -> Self {
        let content = content.map(Shelves::of);
        Self { limits: Arc::new(limits), last: content.clone(), content }
    }

    /// Those that hold after `update`.
    fn updated(&self, update: GatewayUpdate) -> Self {
        let GatewayUpdate { content, limits } = update;
        let content = content.map(|store| {
            let same = self.last.as_ref().filter(|it| it.are_of(&store)).cloned();
            // Places of its own for another: the one before may hang, and have all of its places.
            same.unwrap_or_else(|| Shelves::of(store))
        });
        let last = content.clone().or_else(|| self.last.clone());
        Self { limits: Arc::new(self.limits.updated(limits.countable())), content, last }
    }
}

impl GatewayLimits {
    /// `next`, but for what cannot change. Each field is named, so that a new one is decided on.
    fn updated(&self, next: Self) -> Self {
        Self {
            client_connections_max: self.client_connections_max,
            connections_per_address_max: self.connections_per_address_max,
            client_handshakes_max: self.client_handshakes_max,
            links_max: self.links_max,
            link_memory: self.link_memory,
            streams_per_link_max: self.streams_per_link_max,
            memory: next.memory,
            link_handshakes_max: self.link_handshakes_max,
            client_hello: next.client_hello,
            tls_handshake: next.tls_handshake,
            request_head: next.request_head,
            idle: next.idle,
            answer_head: next.answer_head,
            backend_answer_max: next.backend_answer_max,
            body_stall: next.body_stall,
            body_rate_min: next.body_rate_min,
            body_grace: next.body_grace,
            // Links that are up wait for whoever consumes what they carry by the one they began
            // with, and would be cut for a client that may be slower now.
            answer_stall: self.answer_stall,
            // Lines that have formed go by theirs.
            link_credit: self.link_credit,
            overload_wait: self.overload_wait,
            drain: next.drain,
            linger: next.linger,
        }
    }
}

impl Gateway {
    /// Has `update` hold for requests that come from now on, and for times of connections that do.
    /// Nothing that is open is dropped.
    ///
    /// Of the limits these change: [`memory`](GatewayLimits::memory),
    /// [`client_hello`](GatewayLimits::client_hello),
    /// [`tls_handshake`](GatewayLimits::tls_handshake),
    /// [`request_head`](GatewayLimits::request_head), [`idle`](GatewayLimits::idle),
    /// [`answer_head`](GatewayLimits::answer_head),
    /// [`backend_answer_max`](GatewayLimits::backend_answer_max),
    /// [`body_stall`](GatewayLimits::body_stall), [`body_rate_min`](GatewayLimits::body_rate_min),
    /// [`body_grace`](GatewayLimits::body_grace), [`drain`](GatewayLimits::drain) and
    /// [`linger`](GatewayLimits::linger). All others stay as they were at the start.
    ///
    /// Of two updates at once the later one holds; one task should make them.
    pub fn update(&self, update: GatewayUpdate) {
        let relay = &self.inner.relay;
        let next = Arc::new(self.terms().updated(update));
        let memory = next.limits.memory.clone();
        relay.terms.set(next);
        relay.memory.set(memory);
    }

    /// By what requests are served that come now.
    pub(super) fn terms(&self) -> Arc<Terms> {
        self.inner.relay.terms.get()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::content::{ContentFile, Manifest, PackageId};
    use crate::gateway::{Place, StoreFault, Visit};

    #[derive(Debug)]
    struct Empty;

    impl ContentStore for Empty {
        fn manifest(&self, _package: &PackageId) -> Result<Arc<Manifest>, StoreFault> {
            Err(StoreFault::Absent)
        }

        fn place(
            &self,
            _package: &PackageId,
            _file: &ContentFile,
            _visit: &Visit,
        ) -> Result<Place, StoreFault> {
            Err(StoreFault::Absent)
        }
    }

    fn first(content: Option<Arc<dyn ContentStore>>) -> Terms {
        Terms::first(GatewayLimits::default(), content)
    }

    #[test]
    fn times_of_requests_change_and_what_is_counted_or_was_told_to_peers_stays() {
        let asked = GatewayLimits {
            idle: Duration::from_secs(7),
            answer_head: Duration::from_secs(8),
            body_rate_min: 9,
            drain: Duration::from_secs(10),
            links_max: 1,
            client_connections_max: 2,
            streams_per_link_max: 3,
            answer_stall: Duration::from_secs(4),
            ..GatewayLimits::default()
        };
        let now = first(None).updated(GatewayUpdate { content: None, limits: asked }).limits;
        let times = [now.idle, now.answer_head, now.drain].map(|it| it.as_secs());
        assert_eq!((times, now.body_rate_min), ([7, 8, 10], 9));
        let or = GatewayLimits::default();
        let fixed = |it: &GatewayLimits| {
            (it.links_max, it.client_connections_max, it.streams_per_link_max, it.answer_stall)
        };
        assert_eq!(fixed(&now), fixed(&or));
    }

    #[test]
    fn the_same_store_keeps_its_places_and_another_one_has_its_own() {
        let (one, other): (Arc<dyn ContentStore>, Arc<dyn ContentStore>) =
            (Arc::new(Empty), Arc::new(Empty));
        let before = first(Some(Arc::clone(&one)));
        let after = |content: Option<&Arc<dyn ContentStore>>| {
            let limits = GatewayLimits::default();
            before.updated(GatewayUpdate { content: content.cloned(), limits }).content
        };
        let kept = after(Some(&one)).unwrap();
        assert!(kept.shares_places(before.content.as_ref().unwrap()));
        let fresh = after(Some(&other)).unwrap();
        assert!(!fresh.shares_places(&kept) && fresh.are_of(&other));
        assert!(after(None).is_none());
    }

    #[test]
    fn a_store_that_is_not_given_for_a_while_has_its_places_afterwards() {
        let store: Arc<dyn ContentStore> = Arc::new(Empty);
        let limits = GatewayLimits::default;
        let before = first(Some(Arc::clone(&store)));
        let off = before.updated(GatewayUpdate { content: None, limits: limits() });
        let on = off.updated(GatewayUpdate { content: Some(store), limits: limits() });
        assert!(on.content.unwrap().shares_places(before.content.as_ref().unwrap()));
    }

    #[cfg(feature = "net")]
    #[test]
    fn exactly_the_limits_change_whose_keys_are_said_to() {
        use crate::config::{GATEWAY_KEYS, TakesEffect};

        let (n, s) = (7, Duration::from_secs(7));
        let asked = GatewayLimits {
            client_connections_max: n,
            connections_per_address_max: n,
            client_handshakes_max: n,
            links_max: n,
            link_memory: 7,
            streams_per_link_max: 7,
            memory: None,
            link_handshakes_max: n,
            client_hello: s,
            tls_handshake: s,
            request_head: s,
            idle: s,
            answer_head: s,
            backend_answer_max: s,
            body_stall: s,
            body_rate_min: 7,
            body_grace: s,
            answer_stall: s,
            link_credit: s,
            overload_wait: s,
            drain: s,
            linger: s,
        };
        let now = GatewayLimits::default().updated(asked);
        let lines = |it: &GatewayLimits| -> Vec<String> {
            format!("{it:#?}").lines().map(|line| line.trim().to_owned()).collect()
        };
        let both = lines(&GatewayLimits::default()).into_iter().zip(lines(&now));
        let mut changed: Vec<_> = both
            .filter(|(before, now)| before != now)
            .filter_map(|(_, now)| Some(now.split_once(':')?.0.to_owned()))
            .collect();
        // Of these one has no key, and one is made of its key by the program.
        let mut said = vec!["client_hello".to_owned()];
        for (key, when) in GATEWAY_KEYS {
            let Some(key) = key.strip_prefix("limits.") else { continue };
            if *when == TakesEffect::AtOnce && key != "memory_mebibytes_max" {
                let field = key.replace("octets_per_second", "rate");
                said.push(field.trim_end_matches("_seconds").to_owned());
            }
        }
        changed.sort();
        said.sort();
        assert_eq!(changed, said);
    }
}
