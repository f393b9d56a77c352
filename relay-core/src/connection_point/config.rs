//! What a connection point is told at start.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use crate::policy::Endpoint;
use crate::settings::{BACKEND_ANSWER_USUAL, ClientTrust, SettingsDocument, Tenant};
use crate::transport::{Instance, Network, Rung, WebProxy};

use super::backend_config::BackendConfig;
use super::current;
use super::renew::CertificateIssuer;

/// Everything one connection point needs.
#[derive(Clone, Debug)]
pub struct ConnectionPointConfig {
    /// This connection point's name, unique in the site; at most 64 octets.
    pub name: String,
    /// The site that it stands in: 1 to 64 octets of text. Instances take its settings for this
    /// site and send it this site's requests.
    pub site: String,
    /// The version of what is published. The highest one that any connection point of the site has
    /// published holds at an instance, so it must rise whenever `endpoints`, `tenants`, `clients`
    /// or the time that backends may take to answer change; connection points with one version must
    /// publish the same. What `clients` says of the site's tokens has a revision of its own.
    pub settings_version: u64,
    /// Every gateway instance to dial.
    pub gateways: Vec<GatewayAddress>,
    /// TLS towards gateway instances, usually from
    /// [`link_client_config`](crate::transport::link_client_config).
    pub link_tls: Arc<ClientConfig>,
    /// TLS around a link that is upgraded from HTTPS, usually from
    /// [`backend_client_config`](crate::transport::backend_client_config). It may end on the way;
    /// `link_tls` is spoken inside.
    pub https_tls: Arc<ClientConfig>,
    /// Signs the link certificates of instances whose own is due; `None` if this connection point
    /// cannot, and asks none.
    pub certificate_issuer: Option<Arc<dyn CertificateIssuer>>,
    /// What is published to every instance, and where each endpoint leads. Requests are judged here
    /// again: the two ends of a link do not trust each other.
    pub endpoints: Vec<SiteEndpoint>,
    /// The tenants that instances tell clients about; at most 64, each once.
    pub tenants: Vec<Tenant>,
    /// Whose clients count; `None`: nobody's, and every endpoint is anonymous.
    pub clients: Option<ClientTrust>,
    /// Limits; the defaults suit production.
    pub limits: ConnectionPointLimits,
    /// The web proxy between this site and the gateway instances; `None` dials them directly. For
    /// HTTPS alone: a TCP-TLS link port is dialled directly even so.
    pub web_proxy: Option<WebProxy>,
    /// Which network gateway instances and backends are dialled on. The system's by default.
    pub network: Network,
}

impl ConnectionPointConfig {
    /// What this has published.
    pub fn settings(&self) -> SettingsDocument {
        let (tenants, clients) = (self.tenants.clone(), self.clients.clone());
        current::document(self, self.settings_version, &self.endpoints, tenants, clients)
    }
}

/// One gateway instance as seen from the site.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GatewayAddress {
    /// Which instance it is.
    pub instance: Instance,
    /// Host name or address literal, resolved anew at each dial.
    pub host: String,
    /// TCP-TLS link port of the instance; `None` if there is none, as in a scale set.
    pub tcp_tls_port: Option<u16>,
    /// UDP port of the instance on which it takes links over QUIC; `None` if it takes none, or is
    /// not to be asked. Without the feature `quic` it is not.
    pub quic_port: Option<u16>,
    /// HTTPS port of the instance on which it takes links; `None` if it takes none there.
    pub https_port: Option<u16>,
    /// The only way to be taken, of those that the ports above allow; `None` takes any of them.
    pub only: Option<Rung>,
    /// The name that the instance's link certificate must carry.
    pub server_name: String,
    /// The name that the certificate of its HTTPS port must carry towards anybody but links.
    pub https_name: String,
}

impl GatewayAddress {
    /// The ways to reach the instance.
    pub(super) fn rungs(&self) -> impl Iterator<Item = Rung> {
        let quic = self.quic_port.filter(|_| cfg!(feature = "quic")).map(|_| Rung::Quic);
        let tcp_tls = self.tcp_tls_port.map(|_| Rung::TcpTls);
        let https = self.https_port.map(|_| [Rung::Https, Rung::HttpsUpgrade, Rung::HttpsHttp2]);
        let all = quic.into_iter().chain(tcp_tls).chain(https.into_iter().flatten());
        all.filter(|rung| self.only.is_none_or(|only| only == *rung))
    }
}

/// A published endpoint and the backend behind it.
#[derive(Clone, Debug)]
pub struct SiteEndpoint {
    /// What is published.
    pub endpoint: Endpoint,
    /// Where it leads.
    pub backend: BackendConfig,
}

/// Limits of one connection point.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionPointLimits {
    /// First delay after a failed dial; each failure doubles the ceiling, the delay is drawn evenly
    /// below it (full jitter). Default 250 ms.
    pub redial_first: Duration,
    /// Ceiling of the delay between dials. Default 30 s.
    pub redial_max: Duration,
    /// Time for one attempt to reach an instance: from connecting to the TLS handshake's end.
    /// Default 10 s.
    pub dial: Duration,
    /// The same over QUIC. Default 3 s: a path that swallows UDP shows in nothing else, and until
    /// then the next way waits.
    pub dial_quic: Duration,
    /// How long a way to an instance may be silent before the next is tried beside it. Default 3 s:
    /// above the three round trips that a satellite needs for TCP and TLS.
    pub next_rung: Duration,
    /// Time between two dials of this connection point, whatever their instance. Default 25 ms:
    /// 40 a second.
    pub dial_pace: Duration,
    /// How long a link that is not up on its best rung waits before the better ones are tried
    /// again, beside it. Drawn evenly from half of it to one and a half. Default 5 min.
    pub better_rung: Duration,
    /// Links to each instance. Default 2: each is driven by one task. 1 to 16. Over QUIC there is
    /// one: while it is up the others rest.
    pub links_per_instance: usize,
    /// Time to connect to a backend, TLS handshake included. Default 5 s. This and what follows
    /// about backends can be another for one endpoint: see [`BackendConfig::limits`].
    pub backend_connect: Duration,
    /// Time from a forwarded request to the head of the backend's answer. Default 62 s: above the
    /// original's 60 s message timeout and below the gateway's 65 s, so that the hop that knows
    /// why is the hop that answers. Another time is published, and instances wait 3 s longer.
    pub backend_answer: Duration,
    /// Idle connections kept per backend. Default 64.
    pub backend_idle_max: usize,
    /// How long an idle backend connection is kept. Default 60 s.
    pub backend_idle: Duration,
    /// Connections open at once to each backend, idle ones among them; at least 1. Default 16,384:
    /// half of the ports that Linux has for outgoing connections to one address. An exchange that
    /// is held open has one to itself.
    pub backend_connections_max: usize,
    /// Requests that wait for a connection to one backend; what comes beyond is answered 503 at
    /// once. Default 1,024.
    pub backend_wait_max: usize,
    /// How long each of them waits before it is answered 503. Default 5 s.
    pub backend_wait: Duration,
    /// Connections to a backend that fail, or answers that do not come in time, one after the
    /// other, before it rests; at least 1. Where an endpoint has one backend, that one is asked all
    /// the same. Default 3.
    pub backend_failures_max: u32,
    /// How long a backend rests first; each further rest without an answer in between is twice as
    /// long, 5 min at most. Default 5 s.
    pub backend_rest: Duration,
    /// Octets of receive memory that all links share: what they let their peers send before it is
    /// passed on. A link beyond it opens and takes fewer streams; the last eighth is for the first
    /// 128 streams of links that are still to come, and for windows. Default 640 MiB, of which
    /// 560 MiB hold 17,900 exchanges: two links that are full.
    pub link_memory: u64,
    /// Requests that an instance may have at once on one link; the lower number of its two ends
    /// holds. Default 8,192, so that two links hold 16,384 exchanges; 1 to 16,384. Over QUIC 1,024
    /// at most. An exchange that is held open keeps 32 KiB of `link_memory` reserved, which bounds
    /// all of them, and takes no memory by that.
    pub streams_per_link_max: u32,
    /// Time that requests in flight have to end when the connection point stops. Default 30 s.
    pub drain: Duration,
}

/// What is longer is as good as never, and might be too long to be added to the time of a clock.
pub(super) const TIME_MAX: Duration = Duration::from_hours(365 * 24);

impl ConnectionPointLimits {
    /// With no time beyond what can be counted to.
    pub(super) fn countable(mut self) -> Self {
        for time in [
            &mut self.redial_first,
            &mut self.redial_max,
            &mut self.dial,
            &mut self.dial_quic,
            &mut self.next_rung,
            &mut self.dial_pace,
            &mut self.better_rung,
            &mut self.backend_connect,
            &mut self.backend_answer,
            &mut self.backend_idle,
            &mut self.backend_wait,
            &mut self.backend_rest,
            &mut self.drain,
        ] {
            *time = (*time).min(TIME_MAX);
        }
        self
    }
}

impl Default for ConnectionPointLimits {
    fn default() -> Self {
        Self {
            redial_first: Duration::from_millis(250),
            redial_max: Duration::from_secs(30),
            dial: Duration::from_secs(10),
            dial_quic: Duration::from_secs(3),
            next_rung: Duration::from_secs(3),
            dial_pace: Duration::from_millis(25),
            better_rung: Duration::from_mins(5),
            links_per_instance: 2,
            backend_connect: Duration::from_secs(5),
            backend_answer: BACKEND_ANSWER_USUAL,
            backend_idle_max: 64,
            backend_idle: Duration::from_mins(1),
            backend_connections_max: 16_384,
            backend_wait_max: 1024,
            backend_wait: Duration::from_secs(5),
            backend_failures_max: 3,
            backend_rest: Duration::from_secs(5),
            link_memory: 640 << 20,
            streams_per_link_max: 8192,
            drain: Duration::from_secs(30),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_never_end_are_what_can_be_counted_to() {
        // Each field is named, so that a new one is thought of.
        let never = ConnectionPointLimits {
            redial_first: Duration::MAX,
            redial_max: Duration::MAX,
            dial: Duration::MAX,
            dial_quic: Duration::MAX,
            next_rung: Duration::MAX,
            dial_pace: Duration::MAX,
            better_rung: Duration::MAX,
            links_per_instance: 2,
            backend_connect: Duration::MAX,
            backend_answer: Duration::MAX,
            backend_idle_max: 64,
            backend_idle: Duration::MAX,
            backend_connections_max: 16,
            backend_wait_max: 16,
            backend_wait: Duration::MAX,
            backend_failures_max: 3,
            backend_rest: Duration::MAX,
            link_memory: 1 << 20,
            streams_per_link_max: 16,
            drain: Duration::MAX,
        };
        let told = format!("{:?}", never.countable());
        assert!(!told.contains(&format!("{:?}", Duration::MAX)), "{told}");
        // What can be counted to stays as it is.
        let usual = ConnectionPointLimits::default();
        let longest = ConnectionPointLimits { drain: TIME_MAX, ..usual };
        assert_eq!(format!("{:?}", longest.clone().countable()), format!("{longest:?}"));
    }
}
