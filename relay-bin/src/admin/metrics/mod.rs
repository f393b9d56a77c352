//! `/metrics`: what a role has counted and measured, as Prometheus reads it.
//!
//! Nothing is counted here. Whatever is told is taken from the status of the role when it is asked
//! for, so that it costs nothing while nobody asks. `names.rs` has every metric, `exposition.rs`
//! the format. Pure: snapshots in, text out.

mod exposition;
mod names;

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use relay_core::connection_point::{
    BackendState, ConnectionPointStatus, Phase, PlaceStatus, PublishOutcome, PublishState,
};
use relay_core::exchange::Count;
use relay_core::gateway::{EndpointTraffic, GatewayStatus, Halt, SettingsSnapshot};
use relay_core::link::LinkStats;
use relay_core::mux::Stats;
use relay_core::transport::Rung;

use self::exposition::{Family, Labels};
use super::{expiry, ready};
use crate::egress;
use crate::expiry::Ending;

/// As the text says it: <https://prometheus.io/docs/specs/om/open_metrics_spec/>.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Reasons of answers begin so; whatever else is counted beside them does not.
const REASON: &str = "CMG";

/// What a gateway instance tells; `counted` of spans, if it sends any; `began` is when it began to
/// serve.
pub(super) fn gateway(
    (status, settings): (&GatewayStatus, &SettingsSnapshot),
    (traffic, sums): &(Vec<EndpointTraffic>, Option<egress::Reading>),
    counted: &[(&'static str, u64)],
    (endings, began): (&[Ending], SystemTime),
) -> String {
    let is_ready = ready::gateway(status, settings).is_empty();
    let mut families = of_process("gateway", began, is_ready, status.is_draining);
    let links = status.links.iter().map(|link| {
        let place = vec![
            ("connection_point", link.connection_point.to_string()),
            ("place", link.place.to_string()),
        ];
        Shown::new(link.rung.name(), link.is_draining, place, &link.stats)
    });
    families.extend(of_links(&links.collect::<Vec<_>>()));
    let counts = status.counts.iter().map(|it| (it.name, it.count));
    families.extend(of_counts(counts.chain(counted.iter().copied())));
    families.extend(of_endpoints(traffic));
    families.extend(of_egress(status, sums.as_ref()));
    families.push(of_endings(endings));
    let proofs = status.proofs.iter().map(|it| {
        let outcome = ("outcome", it.outcome.to_owned());
        (vec![("method", it.method.name().to_owned()), outcome], it.count)
    });
    families.push(Family::counters(&names::AUTHENTICATIONS, proofs));
    let versions = settings.sites.iter().filter_map(|site| {
        Some((vec![("site", site.site.clone())], number(site.applied.as_ref()?.version)))
    });
    families.push(Family::gauges(&names::SETTINGS, versions));
    let memory = status.memory.iter().map(|it| (vec![("kind", it.name.to_owned())], it));
    let used = memory.clone().map(|(kind, it)| (kind, number(it.used)));
    families.push(Family::gauges(&names::MEMORY, used));
    families
        .push(Family::gauges(&names::MEMORY_MAX, memory.map(|(kind, it)| (kind, number(it.max)))));
    exposition::text(families)
}

/// What a connection point tells; `counted` by its token service, if it has one.
pub(super) fn connection_point(
    (status, published): (&ConnectionPointStatus, &[PublishState]),
    counted: &[(String, u64)],
    endings: &[Ending],
    began: SystemTime,
) -> String {
    let is_ready = ready::connection_point(status).is_empty();
    let mut families = of_process("connection-point", began, is_ready, status.is_draining);
    let links = status.places.iter().flat_map(|place| {
        place.links.iter().map(|link| {
            let of = vec![instance(place), ("place", place.place.to_string())];
            Shown::new(link.rung.name(), link.is_draining, of, &link.stats)
        })
    });
    families.extend(of_links(&links.collect::<Vec<_>>()));
    let counts = status.counts.iter().map(|it| (it.name, it.count));
    families.extend(of_counts(counts.chain(counted.iter().map(|(name, it)| (&**name, *it)))));
    let wanted = status
        .places
        .iter()
        .map(|place| (vec![instance(place)], truth(!matches!(place.phase, Phase::Resting))));
    families.push(Family::gauges(&names::LINKS_WANTED, wanted));
    let applied = published.iter().map(|it| {
        let labels = vec![("gateway_instance", it.instance.number().to_string())];
        (labels, truth(matches!(it.outcome, PublishOutcome::Applied)))
    });
    families.push(Family::gauges(&names::PUBLISHED, applied));
    families.extend(of_backends(status));
    families.push(of_endings(endings));
    exposition::text(families)
}

/// Not `instance`: Prometheus calls its targets so, and renames ours.
fn instance(place: &PlaceStatus) -> (&'static str, String) {
    ("gateway_instance", place.instance.number().to_string())
}

fn of_process(role: &str, began: SystemTime, is_ready: bool, is_draining: bool) -> Vec<Family> {
    let version = ("version", env!("CARGO_PKG_VERSION").to_owned());
    let began = began.duration_since(UNIX_EPOCH).unwrap_or_default();
    vec![
        Family::info(&names::BUILD, vec![version, ("role", role.to_owned())]),
        Family::gauge(&names::START, began.as_secs_f64()),
        Family::gauge(&names::READY, truth(is_ready)),
        Family::gauge(&names::DRAINING, truth(is_draining)),
    ]
}

/// A link of either role.
struct Shown {
    transport: &'static str,
    state: &'static str,
    /// Whose it is.
    place: Labels,
    stats: LinkStats,
}

impl Shown {
    fn new(transport: &'static str, is_draining: bool, place: Labels, stats: &LinkStats) -> Self {
        let phase = if is_draining { "draining" } else { "up" };
        Self { transport, state: phase, place, stats: *stats }
    }

    fn labels(&self) -> Labels {
        vec![("transport", self.transport.to_owned()), ("state", self.state.to_owned())]
    }
}

fn of_links(links: &[Shown]) -> Vec<Family> {
    let each =
        |value: fn(&LinkStats) -> f64| links.iter().map(move |it| (it.labels(), value(&it.stats)));
    // Of one link at each place: one that drains has another in its place.
    let up: BTreeMap<_, _> =
        links.iter().filter(|it| it.state == "up").map(|it| (it.place.clone(), it.stats)).collect();
    let round_trips =
        up.iter().filter_map(|(of, it)| Some((of.clone(), it.round_trip?.as_secs_f64())));
    // One that is not there is a 0: an alert compares nothing with a series that is absent.
    let none = Rung::ALL
        .map(|rung| (vec![("transport", rung.name().to_owned()), ("state", "up".to_owned())], 0.0));
    let gauges = |metric, value: fn(&Stats) -> f64| {
        Family::gauges(metric, up.iter().map(|(of, it)| (of.clone(), value(&it.mux))))
    };
    let counters = |metric, value: fn(&Stats) -> u64| {
        Family::counters(metric, up.iter().map(|(of, it)| (of.clone(), value(&it.mux))))
    };
    let stalled = up.iter().map(|(of, it)| (of.clone(), it.mux.credit_stalled_for));
    vec![
        Family::gauges(&names::LINKS, each(|_| 1.0).chain(none)),
        Family::gauges(&names::STREAMS, each(|stats| size(stats.mux.streams_open))),
        Family::gauges(&names::RESERVED, each(|stats| number(stats.mux.memory_reserved))),
        Family::gauges(&names::ROUND_TRIP, round_trips),
        gauges(&names::QUEUED, |mux| number(mux.payload_queued)),
        gauges(&names::STREAMS_STALLED, |mux| size(mux.streams_stalled)),
        counters(&names::RECEIVED, |mux| mux.payload_received),
        counters(&names::SENT, |mux| mux.payload_sent),
        counters(&names::STALLS, |mux| mux.credit_stalls),
        Family::times(&names::STALLED, stalled),
    ]
}

fn of_counts<'a>(counts: impl Iterator<Item = (&'a str, u64)>) -> [Family; 2] {
    let (reasons, others): (Vec<_>, Vec<_>) =
        counts.partition(|(name, _)| name.starts_with(REASON));
    [
        Family::counters(&names::ANSWERS, under("reason", &reasons)),
        Family::counters(&names::EVENTS, under("event", &others)),
    ]
}

fn under(label: &'static str, counts: &[(&str, u64)]) -> Vec<(Labels, u64)> {
    counts.iter().map(|(name, count)| (vec![(label, (*name).to_owned())], *count)).collect()
}

fn of_endpoints(traffic: &[EndpointTraffic]) -> [Family; 7] {
    let labels = |it: &EndpointTraffic| {
        vec![("site", it.total.site.to_string()), ("endpoint", it.total.endpoint.to_string())]
    };
    let each =
        |value: fn(&EndpointTraffic) -> u64| traffic.iter().map(move |it| (labels(it), value(it)));
    let ended = traffic.iter().flat_map(|it| {
        let with = move |outcome: &Count| {
            let mut labels = labels(it);
            labels.push(("outcome", outcome.name.to_owned()));
            (labels, outcome.count)
        };
        it.outcomes.iter().map(with)
    });
    let in_flight = traffic.iter().map(|it| (labels(it), number(it.in_flight)));
    let durations = traffic.iter().map(|it| (labels(it), it.durations.clone()));
    [
        Family::counters(&names::REQUESTS, each(|it| it.total.requests)),
        Family::counters(&names::BEARERS, each(|it| it.total.requests_with_bearer_token)),
        Family::counters(&names::ENDED, ended),
        Family::gauges(&names::IN_FLIGHT, in_flight),
        Family::counters(&names::REQUEST_OCTETS, each(|it| it.total.request_octets)),
        Family::counters(&names::ANSWER_OCTETS, each(|it| it.total.response_octets)),
        Family::histograms(&names::DURATION, durations),
    ]
}

fn of_egress(status: &GatewayStatus, sums: Option<&egress::Reading>) -> [Family; 4] {
    let halts = [Halt::Administrator, Halt::Egress];
    let halts = halts.map(|it| (vec![("by", it.name().to_owned())], status.halts.contains(&it)));
    let alone =
        |value: fn(&egress::Reading) -> u64| sums.map(|it| (Labels::new(), number(value(it))));
    [
        Family::gauges(&names::HALTED, halts.map(|(by, holds)| (by, truth(holds)))),
        Family::counters(&names::EGRESS, [(Labels::new(), status.octets_sent)]),
        Family::gauges(&names::EGRESS_SUM, alone(|it| it.total)),
        Family::gauges(&names::EGRESS_THRESHOLD, alone(|it| it.config.threshold)),
    ]
}

/// Of several with one name at one place the first end.
fn of_endings(endings: &[Ending]) -> Family {
    let mut first = BTreeMap::<Labels, f64>::new();
    for it in endings {
        let what = ("what", it.what.to_owned());
        let labels = vec![what, ("name", it.name.clone()), ("place", it.place.clone())];
        let ends_at = expiry::seconds(it.ends_at);
        first.entry(labels).and_modify(|at| *at = at.min(ends_at)).or_insert(ends_at);
    }
    Family::gauges(&names::EXPIRY, first)
}

fn of_backends(status: &ConnectionPointStatus) -> [Family; 4] {
    let all = status.backends.iter().map(|it| {
        // Neither user nor path: it is a place.
        let host = it.url.host().unwrap_or_default();
        let at = it.url.port_u16().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        (vec![("endpoint", it.endpoint.clone()), ("backend", at)], it)
    });
    let up = all.clone().map(|(of, it)| (of, truth(matches!(it.state, BackendState::Up))));
    [
        Family::gauges(&names::BACKEND_UP, up),
        Family::gauges(
            &names::BACKEND_IN_FLIGHT,
            all.clone().map(|(of, it)| (of, size(it.in_flight))),
        ),
        Family::gauges(&names::BACKEND_WAITING, all.clone().map(|(of, it)| (of, size(it.waiting)))),
        Family::gauges(&names::BACKEND_CONNECTIONS, all.map(|(of, it)| (of, size(it.connections)))),
    ]
}

fn truth(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

#[allow(clippy::cast_precision_loss, reason = "gauges are floats; beyond 2^53 none is exact")]
fn number(value: u64) -> f64 {
    value as f64
}

fn size(value: usize) -> f64 {
    number(u64::try_from(value).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_waits_and_stands_still_on_a_link_is_told_under_its_own_name() {
        let mut stats = LinkStats::default();
        (stats.mux.payload_queued, stats.mux.credit_stalls, stats.mux.streams_stalled) = (3, 7, 2);
        stats.mux.credit_stalled_for = Duration::from_millis(1500);
        let place = vec![("connection_point", "cp".to_owned()), ("place", "0".to_owned())];
        let text = exposition::text(of_links(&[Shown::new("tcp-tls", false, place, &stats)]));
        for (name, value) in [
            ("queue_bytes", "3.0"),
            ("credit_stalls_total", "7"),
            ("streams_stalled", "2.0"),
            ("credit_stalled_seconds_total", "1.5"),
        ] {
            let labels = "{connection_point=\"cp\",place=\"0\"}";
            let line = format!("\nrelay_link_{name}{labels} {value}\n");
            assert!(text.contains(&line), "{line}: {text}");
        }
    }
}
