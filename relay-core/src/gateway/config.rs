//! What a gateway instance is told at start.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::sync::Semaphore;

use crate::balance::{LeastInFlight, LoadBalancer, Outliers, PeakEwma, RoundRobin};
use crate::fetched::FetchConfig;
use crate::settings::SettingsDocument;
use crate::transport::Instance;

use super::content::ContentStore;
use super::pressure::MemoryLimit;
use super::renewal::CertificateKeeper;

/// Everything one gateway instance needs besides its sockets.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// The service's name, as in the client's URL and the server certificate.
    pub service: String,
    /// Which instance this is.
    pub instance: Instance,
    /// Settings that hold from the start, until a connection point publishes later ones. Usually
    /// none: requests are then answered 503 until the first connection point has come.
    pub initial: Vec<SettingsDocument>,
    /// TLS towards clients, usually from
    /// [`client_edge_config_asking`](crate::transport::client_edge_config_asking).
    pub client_tls: Arc<ServerConfig>,
    /// TLS towards connection points, usually from
    /// [`link_server_config`](crate::transport::link_server_config).
    pub link_tls: Arc<ServerConfig>,
    /// Has connection points that can sign renew what `link_tls` shows, once less than a third of
    /// its life is left; `None` if the product sees to that itself.
    pub certificate_keeper: Option<Arc<dyn CertificateKeeper>>,
    /// How keys of tenants and revocation lists are fetched that sites name by their address;
    /// `None`: they are not, and whoever is judged by them is refused.
    pub fetch: Option<FetchConfig>,
    /// Where content is that clients are given by grants of their site; `None`: they are answered
    /// 404, and go elsewhere.
    pub content: Option<Arc<dyn ContentStore>>,
    /// Which link takes a request.
    pub balance: Balance,
    /// Limits; the defaults suit production.
    pub limits: GatewayLimits,
}

/// How requests are spread over the links of an instance.
///
/// All but [`Balance::Custom`] keep connection points that fail again and again out for a while:
/// see [`Outliers`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Balance {
    /// Connection points take turns: [`RoundRobin`]. The default.
    #[default]
    RoundRobin,
    /// The link with the fewest requests in flight: [`LeastInFlight`].
    LeastInFlight,
    /// The faster of two that are drawn: [`PeakEwma`].
    PeakEwma,
    /// A rule of the product's own, as it is; [`Outliers::new`] wraps it where that is wanted.
    Custom(Arc<dyn LoadBalancer>),
}

impl Balance {
    pub(super) fn balancer(&self) -> Arc<dyn LoadBalancer> {
        match self {
            Self::RoundRobin => Arc::new(Outliers::new(RoundRobin::default())),
            Self::LeastInFlight => Arc::new(Outliers::new(LeastInFlight::default())),
            Self::PeakEwma => Arc::new(Outliers::new(PeakEwma::default())),
            Self::Custom(balancer) => Arc::clone(balancer),
        }
    }
}

/// Limits of one gateway instance. Each bounds something a client or a link peer could use up.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GatewayLimits {
    /// Client connections open at once. Default 20,000.
    pub client_connections_max: usize,
    /// Connections of one client address to the HTTPS ports that are open at once; one more is
    /// closed before TLS. A /64 of IPv6 counts as one address. Whoever has a balancer in front that
    /// shows its own address gives as many as `client_connections_max`. A connection that has
    /// become a link counts no more. Default 100.
    pub connections_per_address_max: usize,
    /// Clients in their TLS handshake at once, from the end of their `ClientHello`; one more waits
    /// for a place, in its time for the handshake. So does a client, or a peer that is to become a
    /// link, of whose address a sixth of `connections_per_address_max` are in theirs: 16 by
    /// default. Default 512.
    pub client_handshakes_max: usize,
    /// Links open at once. Default 256: 16 connection points with several links each.
    pub links_max: usize,
    /// Octets of receive memory that all links share: what they let their peers send before it is
    /// passed on. A link beyond it opens and takes fewer streams; the last eighth is for the first
    /// 128 streams of links that are still to come, and for windows. Default 640 MiB, of which
    /// 560 MiB hold 17,900 exchanges: two links that are full.
    pub link_memory: u64,
    /// Requests at once on one link; the lower number of its two ends
    /// holds. Default 8,192, so that two links hold 16,384 exchanges; 1 to 16,384. Over QUIC 1,024
    /// at most. An exchange that is held open keeps 32 KiB of `link_memory` reserved, which bounds
    /// all of them, and takes no memory by that.
    pub streams_per_link_max: u32,
    /// Memory that may be in use: above 85 % of it new requests are answered 503, above 92 % no
    /// client's connection is accepted. Of several kinds the fullest counts. `None`, the default:
    /// nobody watches it.
    pub memory: Option<MemoryLimit>,
    /// Peers that are to become links and are not authenticated yet, at once. On links' own ports a
    /// sixteenth of them may be of one address, 32 by default, or of a /64 of IPv6; one more waits,
    /// in its time for the handshake. So many may wait, of one address and of all. Default 512.
    pub link_handshakes_max: usize,
    /// Time a peer on an HTTPS port has until its whole `ClientHello` is there; never more than
    /// `tls_handshake`. Default 3 s.
    pub client_hello: Duration,
    /// Time a peer has for the TLS handshake, its `ClientHello` included. Default 10 s.
    pub tls_handshake: Duration,
    /// Time a client has to send a request head. Default 10 s.
    pub request_head: Duration,
    /// Time that a connection may wait for its next request; over HTTP/2, while no stream of it is
    /// open. Default 60 s.
    pub idle: Duration,
    /// Time from a request's head, or from the last move of its body, to its answer's head, and
    /// how long an answer may then stand still. Default 65 s, above the 60 s that the original's
    /// message timeout allows. Where a site publishes that an endpoint's backends may take longer,
    /// it is that time and 3 s.
    pub answer_head: Duration,
    /// What a site's backends may take at most: a longer time that it publishes counts as this one,
    /// so that no site has an instance wait for ever. Default 1 h.
    pub backend_answer_max: Duration,
    /// Time that a client may send nothing of a body that it has begun, before it is answered 408.
    /// Default 30 s.
    pub body_stall: Duration,
    /// Octets a second that a client must send of a body, over the time in which it alone is waited
    /// for; 0: any pace will do. Default 240.
    pub body_rate_min: u32,
    /// How far a client may be behind that pace before it is answered 408. What it sends ahead of
    /// it counts for at most `body_stall`. Default 5 s.
    pub body_grace: Duration,
    /// Time in which a client that is waited for must take 16 KiB of what is sent to it, before its
    /// connection is cut; over HTTP/2 also the time in which it may take nothing of one stream,
    /// before that is reset. Default 30 s.
    pub answer_stall: Duration,
    /// Time in which the requests that wait for a stream of a site's links must all have got one.
    /// So a burst that is over by then loses nobody, and no request waits longer before it is
    /// answered 503. Default 5 s.
    pub link_credit: Duration,
    /// Time a request waits for a stream where `link_credit` was not enough: requests have waited
    /// without a break for so long, or one was refused no longer ago. Not below `link_credit`: each
    /// request waits for that. Default 50 ms.
    pub overload_wait: Duration,
    /// Time that requests in flight have to end when the instance stops. Default 30 s.
    pub drain: Duration,
    /// Time that an HTTP/1.1 connection without a request is kept when the instance stops, for the
    /// request that may be on its way already; the answer to it says that it is the last. HTTP/2
    /// needs no such time. Default 2 s.
    pub linger: Duration,
}

/// Streams that one link can have; it cannot do without one.
const STREAMS_PER_LINK_MAX: u32 = 16_384;

/// Twice as long is as long as a link waits for whoever consumes what it carries.
const CONSUMER_TIME_MAX: Duration = Duration::from_hours(12);

/// What is longer is as good as never, and might be too long to be added to the time of a clock.
const TIME_MAX: Duration = Duration::from_hours(365 * 24);

impl GatewayLimits {
    /// With no number and no time beyond what can be counted to.
    pub(super) fn countable(mut self) -> Self {
        for count in [
            &mut self.client_connections_max,
            &mut self.client_handshakes_max,
            &mut self.links_max,
            &mut self.link_handshakes_max,
        ] {
            *count = (*count).min(Semaphore::MAX_PERMITS);
        }
        self.streams_per_link_max = self.streams_per_link_max.clamp(1, STREAMS_PER_LINK_MAX);
        for time in [&mut self.link_credit, &mut self.answer_stall] {
            *time = (*time).min(CONSUMER_TIME_MAX);
        }
        for time in [
            &mut self.client_hello,
            &mut self.tls_handshake,
            &mut self.request_head,
            &mut self.idle,
            &mut self.answer_head,
            &mut self.backend_answer_max,
            &mut self.body_stall,
            &mut self.body_grace,
            &mut self.overload_wait,
            &mut self.drain,
            &mut self.linger,
        ] {
            *time = (*time).min(TIME_MAX);
        }
        self
    }

    /// Connections to a port for links alone: all of them, and those that are to be one.
    pub(super) fn link_connections_max(&self) -> usize {
        self.links_max.saturating_add(self.link_handshakes_max).min(Semaphore::MAX_PERMITS)
    }
}

impl Default for GatewayLimits {
    fn default() -> Self {
        Self {
            client_connections_max: 20_000,
            connections_per_address_max: 100,
            client_handshakes_max: 512,
            links_max: 256,
            link_memory: 640 << 20,
            streams_per_link_max: 8192,
            memory: None,
            link_handshakes_max: 512,
            client_hello: Duration::from_secs(3),
            tls_handshake: Duration::from_secs(10),
            request_head: Duration::from_secs(10),
            idle: Duration::from_mins(1),
            answer_head: Duration::from_secs(65),
            backend_answer_max: Duration::from_hours(1),
            body_stall: Duration::from_secs(30),
            body_rate_min: 240,
            body_grace: Duration::from_secs(5),
            answer_stall: Duration::from_secs(30),
            link_credit: Duration::from_secs(5),
            overload_wait: Duration::from_millis(50),
            drain: Duration::from_secs(30),
            linger: Duration::from_secs(2),
        }
    }
}

/// How much longer than a backend may take a gateway waits, so that the connection point, which
/// knows why there is no answer, is the one to say so.
const ANSWER_MARGIN: Duration = Duration::from_secs(3);

impl GatewayLimits {
    /// Time to an answer's head, where a site has published that its backends may take `published`.
    /// A shorter time than usual is for the connection point to keep: a request may have waited
    /// there for a place before its time began.
    pub(super) fn answer_within(&self, published: Option<Duration>) -> Duration {
        let published = published.map(|time| time.min(self.backend_answer_max) + ANSWER_MARGIN);
        published.map_or(self.answer_head, |time| time.max(self.answer_head))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mux::{Config, Floors, MemoryBudget};

    #[test]
    fn two_links_that_are_full_fit_what_links_have_of_memory_by_default() {
        let limits = GatewayLimits::default();
        let streams = limits.streams_per_link_max;
        let budget = MemoryBudget::new(limits.link_memory);
        let floor = Config::for_streams(16, streams).stream_window;
        let floors = |streams| {
            let mut floors = Floors::new(floor, streams, Some(budget.clone()));
            while floors.grow(floors.streams().into()) {}
            floors
        };
        let links = [16, streams, 16, streams].map(floors);
        assert_eq!(links.map(|floors| floors.streams()), [16, 8192, 16, 8192]);
    }

    #[test]
    fn times_that_never_end_and_numbers_without_end_are_what_can_be_counted_to() {
        // Each field is named, so that a new one is thought of.
        let never = GatewayLimits {
            client_connections_max: usize::MAX,
            connections_per_address_max: usize::MAX,
            client_handshakes_max: usize::MAX,
            links_max: usize::MAX,
            link_memory: u64::MAX,
            streams_per_link_max: u32::MAX,
            memory: None,
            link_handshakes_max: usize::MAX,
            client_hello: Duration::MAX,
            tls_handshake: Duration::MAX,
            request_head: Duration::MAX,
            idle: Duration::MAX,
            answer_head: Duration::MAX,
            backend_answer_max: Duration::MAX,
            body_stall: Duration::MAX,
            body_rate_min: u32::MAX,
            body_grace: Duration::MAX,
            answer_stall: Duration::MAX,
            link_credit: Duration::MAX,
            overload_wait: Duration::MAX,
            drain: Duration::MAX,
            linger: Duration::MAX,
        };
        let told = format!("{:?}", never.clone().countable());
        assert!(!told.contains(&format!("{:?}", Duration::MAX)), "{told}");
        let limits = never.countable();
        assert_eq!(limits.answer_within(Some(Duration::MAX)), TIME_MAX + ANSWER_MARGIN);
        // What can be counted to stays as it is.
        let usual = GatewayLimits::default();
        assert_eq!(format!("{:?}", usual.clone().countable()), format!("{usual:?}"));
        let longest = GatewayLimits { idle: TIME_MAX, link_credit: CONSUMER_TIME_MAX, ..usual };
        assert_eq!(format!("{:?}", longest.clone().countable()), format!("{longest:?}"));
    }

    #[test]
    fn an_instance_waits_as_long_as_a_backend_may_take_and_3_s_but_no_longer_than_its_bound() {
        let limits = GatewayLimits::default();
        let within = |seconds| limits.answer_within(Some(Duration::from_secs(seconds))).as_secs();
        assert_eq!(limits.answer_within(None), limits.answer_head);
        assert_eq!([1, 61, 62, 63, 120].map(within), [65, 65, 65, 66, 123]);
        assert_eq!([3599, 3600, 3601, u64::MAX].map(within), [3602, 3603, 3603, 3603]);
        let patient = GatewayLimits { answer_head: Duration::from_hours(2), ..limits };
        assert_eq!(patient.answer_within(Some(Duration::MAX)), Duration::from_hours(2));
    }
}
