//! What the admin listener shows, as JSON. Fields are only ever added.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use relay_core::connection_point::{
    self, BackendState, BackendStatus, ConnectionPointStatus, Phase, PlaceStatus, PublishOutcome,
    PublishState,
};
use relay_core::exchange::Count;
use relay_core::gateway::{
    self, EndedLink, GatewayStatus, LinkEnd, MemoryStatus, ProofCount, SettingsSnapshot,
    SiteSettings, SourceKind, SourceStatus, TrafficReports,
};
use relay_core::link::{DrainReport, LinkStats};
use relay_core::transport::{Certificate, Misstep};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::configuration::Configuration;
use super::egress::{Egress, egress};
use super::expiry::Ends;
use super::ready::{self, Readiness};
use super::traffic;
use crate::egress::Reading;
use crate::site;

/// The status of either role.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "role", rename_all = "kebab-case")]
pub(super) enum Status {
    Gateway(Box<Gateway>),
    ConnectionPoint(Box<ConnectionPoint>),
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Gateway {
    pub(super) version: String,
    pub(super) service: String,
    pub(super) instance: u64,
    /// As `/readyz` answers; absent at roles that did not tell of it yet.
    #[serde(default)]
    pub(super) readiness: Option<Readiness>,
    /// It stops, and serves only the requests that it has.
    pub(super) draining: bool,
    pub(super) requests_in_flight: u64,
    /// On whose behalf new requests are refused while links stay: `administrator`, `egress`.
    #[serde(default)]
    pub(super) halted_by: Vec<String>,
    /// What it has sent to clients.
    #[serde(default)]
    pub(super) egress: Egress,
    /// What it shows to connection points that dial it now; absent until that has been read.
    pub(super) certificate: Option<OwnCertificate>,
    /// The memory in use; absent if nothing is refused for it.
    #[serde(default)]
    pub(super) memory: Option<Memory>,
    /// How often it answered by itself, by reason, and how often a connection came to a limit,
    /// since the start.
    #[serde(default)]
    pub(super) counts: Counts,
    /// What each method of authentication has found, since the start: `proven`, or why not.
    #[serde(default)]
    pub(super) authentications: BTreeMap<String, Counts>,
    /// Where keys and revocation lists of its sites are fetched from.
    #[serde(default)]
    pub(super) sources: Vec<Source>,
    pub(super) links: Vec<GatewayLink>,
    /// What is published here, by site.
    pub(super) settings: Vec<Settings>,
    /// The links that ended or were refused last; the last one last.
    pub(super) ended: Vec<Ended>,
    /// What came to each endpoint in each five minutes of the last day; the last one last.
    #[serde(default)]
    pub(super) traffic: Vec<traffic::Window>,
    /// Certificates and revocation lists that end, the next end first.
    #[serde(default)]
    pub(super) expiry: Vec<Ends>,
    /// What of its file, as it is on disk, does not hold.
    #[serde(default)]
    pub(super) configuration: Configuration,
}

/// How often things happened, by name.
pub(super) type Counts = BTreeMap<String, u64>;

/// The memory of the kind that is fullest.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Memory {
    /// Of the process (`resident`), of its `cgroup`, or what the kernel has for `tcp`.
    #[serde(default = "resident")]
    pub(super) name: String,
    pub(super) octets_used: u64,
    pub(super) octets_max: u64,
    /// `calm`, `refuses requests` or `accepts no clients`.
    pub(super) pressure: String,
}

/// A place that keys or revocation lists are fetched from.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Source {
    /// `keys` or `lists`.
    pub(super) kind: String,
    /// Whose keys.
    pub(super) tenant: Option<String>,
    pub(super) address: String,
    /// `held`, `awaited`, `expired`, `not yet valid`, or `not fetched` by this instance at all.
    pub(super) state: String,
    /// Since it was last fetched; absent if it never was.
    pub(super) age_seconds: Option<u64>,
    /// When the first of its lists is over. RFC 3339, UTC.
    pub(super) next_update: Option<String>,
    /// Why it failed last; absent if it did not since it was last fetched.
    pub(super) why: Option<String>,
    pub(super) failures_in_a_row: u32,
    /// When the first of them was.
    pub(super) failing_since: Option<String>,
    /// When it is asked again; absent while it is.
    pub(super) next_try_seconds: Option<u64>,
}

/// A certificate that a role shows.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct OwnCertificate {
    pub(super) sha256: String,
    /// When it expires. RFC 3339, UTC.
    pub(super) not_after: String,
    /// Whole days until then.
    pub(super) days_left: u64,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct GatewayLink {
    /// As in the log.
    pub(super) number: u64,
    pub(super) connection_point: String,
    /// The site that it stands in; absent at roles that did not tell of it yet.
    #[serde(default)]
    pub(super) site: Option<String>,
    /// Which of its connection point's links to this instance it is, from 0.
    pub(super) place: u32,
    /// SHA-256 of the certificate that the connection point has shown.
    pub(super) certificate_sha256: String,
    /// When that certificate expires; a link that is up outlives it. RFC 3339, UTC.
    pub(super) certificate_not_after: String,
    /// Requests on it, as the balancer counts them.
    pub(super) requests_in_flight: u32,
    #[serde(flatten)]
    pub(super) link: Link,
}

/// What an instance knows of the settings of a site.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Settings {
    pub(super) site: String,
    /// The version that holds; absent while none does.
    pub(super) version: Option<u64>,
    /// By which settings can be compared across instances.
    pub(super) digest: Option<String>,
    pub(super) endpoints: usize,
    /// The connection point that told of them first.
    pub(super) from: Option<String>,
    pub(super) since: Option<String>,
    /// Why the last offer that was refused was.
    pub(super) refused: Option<String>,
}

/// What became of a connection point's settings at an instance.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Published {
    pub(super) instance: u64,
    /// The version that was offered last.
    pub(super) version: Option<u64>,
    /// `waiting`, `applied`, `refused` or `failed`.
    pub(super) outcome: String,
    pub(super) why: Option<String>,
    pub(super) at: String,
}

/// What both sides know of a link, each by its own count and measurement.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Link {
    pub(super) transport: String,
    /// `up` or `draining`.
    pub(super) state: String,
    /// RFC 3339, UTC.
    pub(super) since: String,
    pub(super) up_seconds: u64,
    /// Smoothed; absent until measured.
    pub(super) round_trip_us: Option<u64>,
    pub(super) streams_open: usize,
    pub(super) streams_total: u64,
    /// Payload octets: requests' and answers' bodies.
    pub(super) octets_received: u64,
    pub(super) octets_sent: u64,
    /// Octets that wait to be sent.
    #[serde(default)]
    pub(super) octets_queued: u64,
    /// How often a stream had sent all that the other side had granted, and had not ended.
    #[serde(default)]
    pub(super) credit_stalls: u64,
    /// For how long at least one stream stood still so.
    #[serde(default)]
    pub(super) credit_stalled_ms: u64,
    /// The other side's program and version, as it says itself.
    pub(super) software: String,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Ended {
    /// The link's number, if it was up.
    pub(super) number: Option<u64>,
    pub(super) connection_point: Option<String>,
    /// Where a peer that was refused connected from.
    pub(super) refused_from: Option<String>,
    pub(super) why: String,
    pub(super) at: String,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct ConnectionPoint {
    pub(super) version: String,
    pub(super) name: String,
    /// As `/readyz` answers; absent at roles that did not tell of it yet.
    #[serde(default)]
    pub(super) readiness: Option<Readiness>,
    pub(super) draining: bool,
    pub(super) links_up: usize,
    pub(super) links_wanted: usize,
    pub(super) places: Vec<Place>,
    /// What became of its settings, by instance.
    pub(super) published: Vec<Published>,
    /// Whether what the site has blocked, and signs with, is among them; absent while the site has
    /// made no token.
    #[serde(default)]
    pub(super) site_tokens: Option<SiteTokens>,
    /// The site roles that it forwards to.
    #[serde(default)]
    pub(super) backends: Vec<Backend>,
    /// Certificates and revocation lists that end, the next end first.
    #[serde(default)]
    pub(super) expiry: Vec<Ends>,
    /// How often it answered in a backend's place, by reason, and what its token service has issued
    /// and refused (`token_service_*`), since the start.
    #[serde(default)]
    pub(super) counts: Counts,
}

/// What is published of a site's tokens.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct SiteTokens {
    /// Rises with each change of it; absent while nothing could be published.
    pub(super) revision: Option<u64>,
    pub(super) signers: usize,
    pub(super) blocked: usize,
    /// Since when nothing newer could be published, blocks that were made since among it.
    pub(super) stale_since: Option<String>,
    /// Why.
    pub(super) why: Option<String>,
    /// Why this connection point's own signing keys cannot be used, if that is so. What all of them
    /// have published is not held up by that.
    #[serde(default)]
    pub(super) key_fault: Option<String>,
    /// Until when this connection point's signing key signs: `relay token rotate` makes another.
    #[serde(default)]
    pub(super) signing_ends: Option<String>,
}

/// A site role at one place.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Backend {
    pub(super) endpoint: String,
    pub(super) url: String,
    /// `up`; `resting` after failures, or `check-fails`: left alone if there is another one.
    pub(super) state: String,
    pub(super) since: String,
    /// Why it failed last, request or check; absent if it has answered since.
    pub(super) why: Option<String>,
    pub(super) failures_in_a_row: u32,
    /// When it is tried again, while it rests.
    pub(super) next_try_ms: Option<u64>,
    pub(super) requests_in_flight: usize,
    /// Requests that wait for a connection to it.
    pub(super) requests_waiting: usize,
    pub(super) connections: usize,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[allow(clippy::struct_field_names, reason = "the members of the JSON are named as everywhere")]
pub(super) struct Place {
    pub(super) instance: u64,
    pub(super) host: String,
    pub(super) place: u32,
    /// `up`, `dialling`, `waiting`, or `resting` while a link over QUIC needs no other beside it.
    pub(super) phase: String,
    pub(super) since: String,
    /// Why it is not up, while it waits.
    pub(super) why: Option<String>,
    pub(super) next_dial_ms: Option<u64>,
    pub(super) links: Vec<Link>,
    /// Ways to the instance that failed when they were tried last.
    pub(super) failed: Vec<Failed>,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Failed {
    pub(super) transport: String,
    pub(super) why: String,
    pub(super) at: String,
}

/// What a drain did.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Drained {
    /// Requests that ended by themselves.
    pub(super) finished: u64,
    /// Requests that were cut at the deadline.
    pub(super) cut: u64,
}

impl From<DrainReport> for Drained {
    fn from(report: DrainReport) -> Self {
        Self { finished: report.finished, cut: report.reset }
    }
}

/// Whether a gateway instance serves clients.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Service {
    pub(super) serving: bool,
    /// As in the status.
    pub(super) halted_by: Vec<String>,
}

/// What a role logs.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Log {
    /// The directives, as on the command line.
    pub(super) filter: String,
    /// Those that the role was started with.
    pub(super) started_with: String,
    /// Seconds until it logs by those again; absent if it stays so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seconds_left: Option<u64>,
}

/// What a role is to log.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetLog {
    /// The directives; absent: those that the role was started with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) filter: Option<String>,
    /// For so many minutes; absent: until it is told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) minutes: Option<u32>,
}

/// Why nothing was done.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Refused {
    pub(super) error: String,
}

/// The two clocks, read once for a whole status.
#[derive(Clone, Copy)]
pub(super) struct Now {
    monotonic: Instant,
    wall: OffsetDateTime,
}

impl Now {
    pub(super) fn read() -> Self {
        Self { monotonic: Instant::now(), wall: OffsetDateTime::now_utc() }
    }

    /// The clock.
    pub(super) fn system(self) -> SystemTime {
        self.wall.into()
    }

    fn wall(self, at: Instant) -> String {
        let ago = self.monotonic.saturating_duration_since(at);
        rfc3339((self.wall - ago).replace_millisecond(0).unwrap_or(self.wall))
    }

    fn seconds_since(self, at: Instant) -> u64 {
        self.monotonic.saturating_duration_since(at).as_secs()
    }
}

pub(super) fn rfc3339(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}

/// To the second.
fn wall_clock(at: SystemTime) -> String {
    let at = OffsetDateTime::from(at);
    rfc3339(at.replace_nanosecond(0).unwrap_or(at))
}

/// What is told of an instance by others than itself.
type Told = (TrafficReports, Vec<Ends>, Option<Reading>, Configuration);

impl Status {
    pub(super) fn gateway(
        status: GatewayStatus,
        settings: SettingsSnapshot,
        ((reports, expiry, sent, configuration), of_spans): (
            Told,
            impl Iterator<Item = (&'static str, u64)>,
        ),
        now: Now,
    ) -> Self {
        let egress = egress(&status, sent);
        Self::Gateway(Box::new(Gateway {
            readiness: Some(Readiness::of(&ready::gateway(&status, &settings))),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            configuration,
            service: status.service,
            instance: status.instance.number().into(),
            draining: status.is_draining,
            requests_in_flight: status.in_flight,
            halted_by: status.halts.iter().map(|it| it.name().to_owned()).collect(),
            egress,
            certificate: status.link_certificate.map(|it| own_certificate(&it, now)),
            memory: status.memory.map(memory),
            authentications: authentications(&status.proofs),
            sources: status.sources.into_iter().map(|it| source(it, now)).collect(),
            counts: counts(&status.counts)
                .into_iter()
                .chain(of_spans.map(|(name, it)| (name.to_owned(), it)))
                .collect(),
            links: status.links.into_iter().map(|link| gateway_link(link, now)).collect(),
            settings: settings.sites.into_iter().map(site_settings).collect(),
            ended: status.ended.into_iter().map(|end| ended(end, now)).collect(),
            traffic: traffic::windows(reports),
            expiry,
        }))
    }

    pub(super) fn connection_point(
        status: ConnectionPointStatus,
        published: Vec<PublishState>,
        (tokens, of_token_service): (site::State, impl Iterator<Item = (String, u64)>),
        (expiry, now): (Vec<Ends>, Now),
    ) -> Self {
        let is_up = |place: &&PlaceStatus| place.links.iter().any(|link| !link.is_draining);
        Self::ConnectionPoint(Box::new(ConnectionPoint {
            readiness: Some(Readiness::of(&ready::connection_point(&status))),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            name: status.name,
            draining: status.is_draining,
            links_up: status.places.iter().filter(is_up).count(),
            links_wanted: status.places.iter().filter(|it| !is_resting(it)).count(),
            places: status.places.into_iter().map(|it| place(it, now)).collect(),
            published: published.into_iter().map(published_at).collect(),
            site_tokens: site_tokens(tokens),
            backends: status.backends.into_iter().map(|it| backend(it, now)).collect(),
            expiry,
            counts: counts(&status.counts).into_iter().chain(of_token_service).collect(),
        }))
    }
}

fn is_resting(place: &PlaceStatus) -> bool {
    matches!(place.phase, Phase::Resting)
}

/// The only kind that instances knew at first.
fn resident() -> String {
    "resident".to_owned()
}

fn memory(status: MemoryStatus) -> Memory {
    let MemoryStatus { name, used: octets_used, max: octets_max, pressure, .. } = status;
    let (name, pressure) = (name.to_owned(), pressure.name().to_owned());
    Memory { name, octets_used, octets_max, pressure }
}

fn counts(counted: &[Count]) -> Counts {
    counted.iter().map(|it| (it.name.to_owned(), it.count)).collect()
}

fn authentications(counted: &[ProofCount]) -> BTreeMap<String, Counts> {
    let mut all = BTreeMap::<String, Counts>::new();
    for it in counted {
        let of = all.entry(it.method.name().to_owned()).or_default();
        of.insert(it.outcome.to_owned(), it.count);
    }
    all
}

fn source(status: SourceStatus, now: Now) -> Source {
    let SourceStatus { kind, source, state, fetched_at, next_update, failure, next_in, .. } =
        status;
    let (kind, tenant) = match kind {
        SourceKind::Keys(tenant) => ("keys", Some(tenant.to_string())),
        _ => ("lists", None),
    };
    let wall = u64::try_from(now.wall.unix_timestamp()).unwrap_or_default();
    Source {
        kind: kind.to_owned(),
        tenant,
        address: source,
        state: state.name().to_owned(),
        age_seconds: fetched_at.map(|at| wall.saturating_sub(at)),
        next_update: next_update.and_then(since_1970),
        failures_in_a_row: failure.as_ref().map_or(0, |it| it.count),
        failing_since: failure.as_ref().and_then(|it| since_1970(it.since)),
        why: failure.map(|it| it.why),
        next_try_seconds: next_in.map(|next| next.as_secs()),
    }
}

pub(super) fn since_1970(seconds: u64) -> Option<String> {
    let seconds = i64::try_from(seconds).ok()?;
    OffsetDateTime::from_unix_timestamp(seconds).ok().map(rfc3339)
}

fn own_certificate(certificate: &Certificate, now: Now) -> OwnCertificate {
    OwnCertificate {
        sha256: certificate.fingerprint.to_string(),
        not_after: rfc3339(certificate.validity.not_after.into()),
        days_left: certificate.validity.days_left(now.wall.into()),
    }
}

fn site_settings(settings: SiteSettings) -> Settings {
    let applied = settings.applied;
    let refused =
        settings.refused.map(|it| format!("{} {} (from {})", it.status, it.reason, it.from));
    Settings {
        site: settings.site,
        version: applied.as_ref().map(|it| it.version),
        digest: applied.as_ref().map(|it| it.digest.to_string()),
        endpoints: applied.as_ref().map_or(0, |it| it.endpoints),
        since: applied.as_ref().map(|it| wall_clock(it.at)),
        from: applied.map(|it| it.from),
        refused,
    }
}

fn published_at(state: PublishState) -> Published {
    let (outcome, why) = match state.outcome {
        PublishOutcome::Applied => ("applied", None),
        PublishOutcome::Refused { status, reason } => {
            ("refused", Some(format!("{status} {reason}")))
        }
        PublishOutcome::Failed { why } => ("failed", Some(why)),
        _ => ("waiting", None),
    };
    Published {
        instance: state.instance.number().into(),
        version: state.version,
        outcome: outcome.to_owned(),
        why,
        at: wall_clock(state.at),
    }
}

fn site_tokens(state: site::State) -> Option<SiteTokens> {
    let site::State { published, trouble, key_fault, signing_ends, .. } = state;
    let is_used = published.is_some() || trouble.is_some() || key_fault.is_some();
    is_used.then(|| SiteTokens {
        revision: published.map(|it| it.revision),
        signers: published.map_or(0, |it| it.signers),
        blocked: published.map_or(0, |it| it.blocked),
        stale_since: trouble.as_ref().map(|it| wall_clock(it.since)),
        why: trouble.map(|it| it.why),
        key_fault: key_fault.map(|it| it.why),
        signing_ends: signing_ends
            .and_then(|ends| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(ends)))
            .map(wall_clock),
    })
}

fn gateway_link(status: gateway::LinkStatus, now: Now) -> GatewayLink {
    let is_draining = status.is_draining;
    let since = status.since;
    let link = link(status.rung.name(), is_draining, since, status.software, &status.stats, now);
    GatewayLink {
        number: status.number,
        connection_point: status.connection_point.to_string(),
        site: Some(status.site.to_string()),
        place: status.place,
        certificate_sha256: status.certificate.fingerprint.to_string(),
        certificate_not_after: rfc3339(status.certificate.validity.not_after.into()),
        requests_in_flight: status.in_flight,
        link,
    }
}

fn link(
    transport: &str,
    is_draining: bool,
    since: Instant,
    software: String,
    stats: &LinkStats,
    now: Now,
) -> Link {
    Link {
        transport: transport.to_owned(),
        state: if is_draining { "draining" } else { "up" }.to_owned(),
        since: now.wall(since),
        up_seconds: now.seconds_since(since),
        round_trip_us: stats.round_trip.map(|it| u64::try_from(it.as_micros()).unwrap_or(u64::MAX)),
        streams_open: stats.mux.streams_open,
        streams_total: stats.mux.streams_opened + stats.mux.streams_accepted,
        octets_received: stats.mux.payload_received,
        octets_sent: stats.mux.payload_sent,
        octets_queued: stats.mux.payload_queued,
        credit_stalls: stats.mux.credit_stalls,
        credit_stalled_ms: milliseconds(stats.mux.credit_stalled_for),
        software,
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn ended(ended: EndedLink, now: Now) -> Ended {
    let (number, connection_point, refused_from) = match ended.end {
        LinkEnd::Down { number, connection_point } => {
            (Some(number), Some(connection_point.to_string()), None)
        }
        LinkEnd::Refused { from } => (None, None, Some(from.to_string())),
        _ => (None, None, None),
    };
    Ended { number, connection_point, refused_from, why: ended.why, at: now.wall(ended.at) }
}

fn place(status: PlaceStatus, now: Now) -> Place {
    let (phase, why, until) = match status.phase {
        Phase::Up => ("up", None, None),
        Phase::Resting => ("resting", None, None),
        Phase::Waiting { why, until } => ("waiting", Some(why.to_string()), Some(until)),
        _ => ("dialling", None, None),
    };
    let until = until.map(|until| until.saturating_duration_since(now.monotonic).as_millis());
    Place {
        instance: status.instance.number().into(),
        host: status.host,
        place: status.place,
        phase: phase.to_owned(),
        since: now.wall(status.since),
        why,
        next_dial_ms: until.map(|until| u64::try_from(until).unwrap_or(u64::MAX)),
        links: status.links.into_iter().map(|it| place_link(it, now)).collect(),
        failed: status.missteps.iter().map(|it| failed(it, now)).collect(),
    }
}

fn backend(status: BackendStatus, now: Now) -> Backend {
    let state = match status.state {
        BackendState::Up => "up",
        BackendState::Resting => "resting",
        _ => "check-fails",
    };
    let until = status.until.map(|it| it.saturating_duration_since(now.monotonic).as_millis());
    Backend {
        endpoint: status.endpoint,
        url: status.url.to_string(),
        state: state.to_owned(),
        since: now.wall(status.since),
        why: status.why,
        failures_in_a_row: status.failures,
        next_try_ms: until.map(|until| u64::try_from(until).unwrap_or(u64::MAX)),
        requests_in_flight: status.in_flight,
        requests_waiting: status.waiting,
        connections: status.connections,
    }
}

fn place_link(status: connection_point::LinkStatus, now: Now) -> Link {
    let (rung, since) = (status.rung.name(), status.since);
    link(rung, status.is_draining, since, status.software, &status.stats, now)
}

fn failed(misstep: &Misstep, now: Now) -> Failed {
    Failed {
        transport: misstep.rung.name().to_owned(),
        why: misstep.why.to_string(),
        at: now.wall(misstep.at),
    }
}
