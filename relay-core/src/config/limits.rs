//! The `[limits]` tables. Every key is optional and carries its unit in its name.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Deserialize;

use super::backend::range;
use super::source::Source;
use super::spanned::Spanned;
use crate::connection_point::ConnectionPointLimits;
use crate::gateway::GatewayLimits;

/// A whole number as written.
pub(super) type Number = Option<Spanned<i64>>;

/// `[limits]` of a gateway instance, as written.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "a `[limits]` table")]
pub(super) struct RawGatewayLimits {
    /// Client connections open at once.
    #[cfg_attr(
        feature = "schema",
        schemars(range(min = 1, max = 1_000_000), extend("default" = 20_000))
    )]
    client_connections_max: Number,
    /// Client connections of one address, of IPv6 one /64, open at once.
    #[cfg_attr(
        feature = "schema",
        schemars(range(min = 1, max = 1_000_000), extend("default" = 100))
    )]
    connections_per_address_max: Number,
    /// Clients in their TLS handshake at once; more wait.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 65_536), extend("default" = 512)))]
    client_handshakes_max: Number,
    /// Links open at once.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 4096), extend("default" = 256)))]
    links_max: Number,
    /// MiB of receive memory of all links, 32 KiB for an exchange.
    #[cfg_attr(
        feature = "schema",
        schemars(range(min = 64, max = 65_536), extend("default" = 640))
    )]
    link_memory_mebibytes: Number,
    /// Requests at once on one link; the lower number of its two ends holds.
    #[cfg_attr(
        feature = "schema",
        schemars(range(min = 1, max = 16_384), extend("default" = 8192))
    )]
    streams_per_link_max: Number,
    /// MiB of memory that the program may have in use: above 85 % of it new requests are answered
    /// 503, above 92 % no client is accepted. Without it, what the cgroup lets it have, else all
    /// that the machine has.
    #[cfg_attr(feature = "schema", schemars(range(min = 64, max = 16_777_216)))]
    memory_mebibytes_max: Number,
    /// Peers on the link ports that have not proved who they are, at once.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 65_536), extend("default" = 512)))]
    link_handshakes_max: Number,
    /// Seconds for a TLS handshake.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 60), extend("default" = 10)))]
    tls_handshake_seconds: Number,
    /// Seconds for a client to send a request head.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 300), extend("default" = 10)))]
    request_head_seconds: Number,
    /// Seconds that a connection may wait for its next request.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 3600), extend("default" = 60)))]
    idle_seconds: Number,
    /// Seconds from a request head to the head of its answer.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 3600), extend("default" = 65)))]
    answer_head_seconds: Number,
    /// Seconds that a site may publish its backends to take, at most.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 3600), extend("default" = 3600)))]
    backend_answer_max_seconds: Number,
    /// Seconds that a client may send nothing of a body before it is answered 408.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 3600), extend("default" = 30)))]
    body_stall_seconds: Number,
    /// Octets a second that a client must send of a body; 0: any pace.
    #[cfg_attr(
        feature = "schema",
        schemars(range(min = 0, max = 1_000_000), extend("default" = 240))
    )]
    body_octets_per_second_min: Number,
    /// Seconds that it may be behind that.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 3600), extend("default" = 5)))]
    body_grace_seconds: Number,
    /// Seconds in which a client must take 16 KiB of an answer.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 3600), extend("default" = 30)))]
    answer_stall_seconds: Number,
    /// Seconds that a request waits for room on a link before it is answered 503.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 300), extend("default" = 5)))]
    link_credit_seconds: Number,
    /// Milliseconds, the same once requests have waited for that long without a break.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 300_000), extend("default" = 50)))]
    overload_wait_milliseconds: Number,
    /// Seconds for requests in flight to end when the instance stops.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 3600), extend("default" = 30)))]
    drain_seconds: Number,
    /// Seconds that an idle connection is kept when the instance stops.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 60), extend("default" = 2)))]
    linger_seconds: Number,
}

/// `[limits]` of a connection point, as written.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "a `[limits]` table")]
pub(super) struct RawConnectionPointLimits {
    /// Milliseconds that the first random delay after a failed dial has at most; it doubles with
    /// each failure.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 60_000), extend("default" = 250)))]
    redial_first_milliseconds: Number,
    /// Seconds where that doubling ends.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 3600), extend("default" = 30)))]
    redial_max_seconds: Number,
    /// Seconds for one attempt to reach an instance, TLS handshake included.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 60), extend("default" = 10)))]
    dial_seconds: Number,
    /// Seconds for one over QUIC: a path that swallows UDP shows in nothing else.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 60), extend("default" = 3)))]
    dial_quic_seconds: Number,
    /// Seconds that a way may be silent before the next is tried beside it.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 60), extend("default" = 3)))]
    next_rung_seconds: Number,
    /// Milliseconds between two dials, whatever their instance.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 60_000), extend("default" = 25)))]
    dial_pace_milliseconds: Number,
    /// Seconds after which a link that is not up on its best way tries the better ones again.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 86_400), extend("default" = 300)))]
    better_rung_seconds: Number,
    /// Links to each instance.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 16), extend("default" = 2)))]
    links_per_instance: Number,
    /// Seconds to connect to a backend.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 60), extend("default" = 5)))]
    backend_connect_seconds: Number,
    /// Seconds from a forwarded request to the head of the answer. It is published, and instances
    /// wait 3 s longer.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 3600), extend("default" = 62)))]
    backend_answer_seconds: Number,
    /// Idle connections kept to each backend.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 65_536), extend("default" = 64)))]
    backend_idle_max: Number,
    /// Seconds that an idle connection to a backend is kept.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 3600), extend("default" = 60)))]
    backend_idle_seconds: Number,
    /// Connections open at once to each backend.
    #[cfg_attr(
        feature = "schema",
        schemars(range(min = 1, max = 65_536), extend("default" = 16_384))
    )]
    backend_connections_max: Number,
    /// Requests that may wait for one of them; what comes beyond is answered 503.
    #[cfg_attr(
        feature = "schema",
        schemars(range(min = 0, max = 65_536), extend("default" = 1024))
    )]
    backend_wait_max: Number,
    /// Seconds that each may wait before it is answered 503.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 300), extend("default" = 5)))]
    backend_wait_seconds: Number,
    /// Failures one after the other before a backend is left alone for a while.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1000), extend("default" = 3)))]
    backend_failures_max: Number,
    /// Seconds that it is left alone at first; twice as long each time, 300 at most.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 300), extend("default" = 5)))]
    backend_rest_seconds: Number,
    /// MiB of receive memory of all links, 32 KiB for an exchange.
    #[cfg_attr(
        feature = "schema",
        schemars(range(min = 64, max = 65_536), extend("default" = 640))
    )]
    link_memory_mebibytes: Number,
    /// Requests at once on one link; the lower number of its two ends holds.
    #[cfg_attr(
        feature = "schema",
        schemars(range(min = 1, max = 16_384), extend("default" = 8192))
    )]
    streams_per_link_max: Number,
    /// Seconds for requests in flight to end when the connection point stops.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 3600), extend("default" = 30)))]
    drain_seconds: Number,
}

impl RawGatewayLimits {
    /// The limits, with the defaults for what is not written.
    pub(super) fn judge(&self, source: &Source) -> GatewayLimits {
        let or = GatewayLimits::default();
        let key = |name, written| Key { source, name, written };
        GatewayLimits {
            client_connections_max: key("client_connections_max", &self.client_connections_max)
                .count(1..=1_000_000, or.client_connections_max),
            connections_per_address_max: key(
                "connections_per_address_max",
                &self.connections_per_address_max,
            )
            .count(1..=1_000_000, or.connections_per_address_max),
            client_handshakes_max: key("client_handshakes_max", &self.client_handshakes_max)
                .count(1..=65_536, or.client_handshakes_max),
            links_max: key("links_max", &self.links_max).count(1..=4096, or.links_max),
            link_memory: key("link_memory_mebibytes", &self.link_memory_mebibytes)
                .mebibytes(64..=65_536, or.link_memory),
            streams_per_link_max: key("streams_per_link_max", &self.streams_per_link_max)
                .within(&(1..=16_384))
                .unwrap_or(or.streams_per_link_max),
            memory: or.memory,
            link_handshakes_max: key("link_handshakes_max", &self.link_handshakes_max)
                .count(1..=65_536, or.link_handshakes_max),
            client_hello: or.client_hello,
            tls_handshake: key("tls_handshake_seconds", &self.tls_handshake_seconds)
                .seconds(1..=60, or.tls_handshake),
            request_head: key("request_head_seconds", &self.request_head_seconds)
                .seconds(1..=300, or.request_head),
            idle: key("idle_seconds", &self.idle_seconds).seconds(1..=3600, or.idle),
            answer_head: key("answer_head_seconds", &self.answer_head_seconds)
                .seconds(1..=3600, or.answer_head),
            backend_answer_max: key("backend_answer_max_seconds", &self.backend_answer_max_seconds)
                .seconds(1..=3600, or.backend_answer_max),
            body_stall: key("body_stall_seconds", &self.body_stall_seconds)
                .seconds(1..=3600, or.body_stall),
            body_rate_min: key("body_octets_per_second_min", &self.body_octets_per_second_min)
                .within(&(0..=1_000_000))
                .unwrap_or(or.body_rate_min),
            body_grace: key("body_grace_seconds", &self.body_grace_seconds)
                .seconds(1..=3600, or.body_grace),
            answer_stall: key("answer_stall_seconds", &self.answer_stall_seconds)
                .seconds(1..=3600, or.answer_stall),
            link_credit: key("link_credit_seconds", &self.link_credit_seconds)
                .seconds(1..=300, or.link_credit),
            overload_wait: key("overload_wait_milliseconds", &self.overload_wait_milliseconds)
                .milliseconds(1..=300_000, or.overload_wait),
            drain: key("drain_seconds", &self.drain_seconds).seconds(0..=3600, or.drain),
            linger: key("linger_seconds", &self.linger_seconds).seconds(0..=60, or.linger),
        }
    }
}

impl RawGatewayLimits {
    /// Octets of memory that the process may have in use, if that is written.
    pub(super) fn memory_max(&self, source: &Source) -> Option<u64> {
        let written = &self.memory_mebibytes_max;
        let key = Key { source, name: "memory_mebibytes_max", written };
        // As many as 16 TiB.
        key.within(&(64..=16_777_216)).map(|mebibytes| u64::from(mebibytes) << 20)
    }
}

impl RawConnectionPointLimits {
    /// The limits, with the defaults for what is not written.
    pub(super) fn judge(&self, source: &Source) -> ConnectionPointLimits {
        let or = self.backends(source, &ConnectionPointLimits::default());
        let key = |name, written| Key { source, name, written };
        let limits = ConnectionPointLimits {
            redial_first: key("redial_first_milliseconds", &self.redial_first_milliseconds)
                .milliseconds(1..=60_000, or.redial_first),
            redial_max: key("redial_max_seconds", &self.redial_max_seconds)
                .seconds(1..=3600, or.redial_max),
            dial: key("dial_seconds", &self.dial_seconds).seconds(1..=60, or.dial),
            dial_quic: key("dial_quic_seconds", &self.dial_quic_seconds)
                .seconds(1..=60, or.dial_quic),
            next_rung: key("next_rung_seconds", &self.next_rung_seconds)
                .seconds(1..=60, or.next_rung),
            dial_pace: key("dial_pace_milliseconds", &self.dial_pace_milliseconds)
                .milliseconds(0..=60_000, or.dial_pace),
            better_rung: key("better_rung_seconds", &self.better_rung_seconds)
                .seconds(1..=86_400, or.better_rung),
            links_per_instance: key("links_per_instance", &self.links_per_instance)
                .count(1..=16, or.links_per_instance),
            link_memory: key("link_memory_mebibytes", &self.link_memory_mebibytes)
                .mebibytes(64..=65_536, or.link_memory),
            streams_per_link_max: key("streams_per_link_max", &self.streams_per_link_max)
                .within(&(1..=16_384))
                .unwrap_or(or.streams_per_link_max),
            drain: key("drain_seconds", &self.drain_seconds).seconds(0..=3600, or.drain),
            ..or
        };
        let written = self.redial_first_milliseconds.as_ref().or(self.redial_max_seconds.as_ref());
        if let Some(written) = written.filter(|_| limits.redial_max < limits.redial_first) {
            source.note(source.invalid(
                written.span(),
                format!(
                    "the first delay between dials, {:?}, is above the ceiling, {:?}",
                    limits.redial_first, limits.redial_max
                ),
                "lower redial_first_milliseconds or raise redial_max_seconds",
            ));
        }
        limits
    }
}

impl RawConnectionPointLimits {
    /// `or` with what is written about backends.
    fn backends(&self, source: &Source, or: &ConnectionPointLimits) -> ConnectionPointLimits {
        let key = |name, written| Key { source, name, written };
        let failures_max = key("backend_failures_max", &self.backend_failures_max);
        ConnectionPointLimits {
            backend_connect: key("backend_connect_seconds", &self.backend_connect_seconds)
                .seconds(range::CONNECT, or.backend_connect),
            backend_answer: key("backend_answer_seconds", &self.backend_answer_seconds)
                .seconds(range::ANSWER, or.backend_answer),
            backend_idle_max: key("backend_idle_max", &self.backend_idle_max)
                .count(range::IDLE_COUNT, or.backend_idle_max),
            backend_idle: key("backend_idle_seconds", &self.backend_idle_seconds)
                .seconds(range::IDLE, or.backend_idle),
            backend_connections_max: key("backend_connections_max", &self.backend_connections_max)
                .count(range::CONNECTIONS, or.backend_connections_max),
            backend_wait_max: key("backend_wait_max", &self.backend_wait_max)
                .count(range::WAITING, or.backend_wait_max),
            backend_wait: key("backend_wait_seconds", &self.backend_wait_seconds)
                .seconds(range::WAIT, or.backend_wait),
            backend_failures_max: failures_max
                .within(&range::FAILURES)
                .unwrap_or(or.backend_failures_max),
            backend_rest: key("backend_rest_seconds", &self.backend_rest_seconds)
                .seconds(range::REST, or.backend_rest),
            ..or.clone()
        }
    }
}

/// One key of a table, and the number written for it, if any.
pub(super) struct Key<'a> {
    pub(super) source: &'a Source,
    pub(super) name: &'a str,
    pub(super) written: &'a Number,
}

impl Key<'_> {
    /// The number, `None` if it is not written. One that is out of range is noted, and is as good
    /// as not written.
    pub(super) fn within(&self, range: &RangeInclusive<u32>) -> Option<u32> {
        let written = self.written.as_ref()?;
        let number = u32::try_from(*written.get_ref()).ok().filter(|n| range.contains(n));
        if number.is_none() {
            let (low, high) = (range.start(), range.end());
            self.source.note(self.source.invalid(
                written.span(),
                format!("`{}` is {}, which is not {low} to {high}", self.name, written.get_ref()),
                format!("give a whole number from {low} to {high}"),
            ));
        }
        number
    }

    fn count(&self, range: RangeInclusive<u32>, or: usize) -> usize {
        // A `u32` that no `usize` holds is above every range here on such a machine as well.
        self.within(&range).and_then(|count| usize::try_from(count).ok()).unwrap_or(or)
    }

    fn mebibytes(&self, range: RangeInclusive<u32>, or: u64) -> u64 {
        self.within(&range).map_or(or, |mebibytes| u64::from(mebibytes) << 20)
    }

    fn seconds(&self, range: RangeInclusive<u32>, or: Duration) -> Duration {
        self.within(&range).map_or(or, |seconds| Duration::from_secs(seconds.into()))
    }

    fn milliseconds(&self, range: RangeInclusive<u32>, or: Duration) -> Duration {
        self.within(&range).map_or(or, |millis| Duration::from_millis(millis.into()))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::ConfigError;
    use crate::config::testing::{Site, message};

    /// Asserts that `key` takes `low` and `high` and refuses what lies beyond.
    fn assert_range(low: i64, high: i64, accepts: impl Fn(i64) -> Result<(), ConfigError>) {
        for good in [low, high] {
            accepts(good).unwrap_or_else(|error| panic!("{error}"));
        }
        for bad in [low - 1, high + 1, i64::MIN, i64::MAX] {
            let error = accepts(bad).expect_err("out of range").to_string();
            assert!(error.contains(&format!("is {bad}, which is not {low} to {high}")), "{error}");
        }
    }

    #[test]
    fn each_limit_of_a_gateway_is_taken_at_both_ends_of_its_range_and_refused_beyond() {
        for (key, low, high) in [
            ("client_connections_max", 1, 1_000_000),
            ("connections_per_address_max", 1, 1_000_000),
            ("client_handshakes_max", 1, 65_536),
            ("links_max", 1, 4096),
            ("link_handshakes_max", 1, 65_536),
            ("link_memory_mebibytes", 64, 65_536),
            ("streams_per_link_max", 1, 16_384),
            ("memory_mebibytes_max", 64, 16_777_216),
            ("tls_handshake_seconds", 1, 60),
            ("request_head_seconds", 1, 300),
            ("idle_seconds", 1, 3600),
            ("answer_head_seconds", 1, 3600),
            ("backend_answer_max_seconds", 1, 3600),
            ("body_stall_seconds", 1, 3600),
            ("body_octets_per_second_min", 0, 1_000_000),
            ("body_grace_seconds", 1, 3600),
            ("answer_stall_seconds", 1, 3600),
            ("link_credit_seconds", 1, 300),
            ("overload_wait_milliseconds", 1, 300_000),
            ("drain_seconds", 0, 3600),
            ("linger_seconds", 0, 60),
        ] {
            let site = Site::new();
            assert_range(low, high, |value| {
                site.gateway_with(|text| format!("{text}\n[limits]\n{key} = {value}\n")).map(drop)
            });
        }
    }

    #[test]
    fn each_limit_of_a_connection_point_is_taken_at_both_ends_and_refused_beyond() {
        for (key, low, high, rest) in [
            ("redial_first_milliseconds", 1, 60_000, "redial_max_seconds = 60\n"),
            ("redial_max_seconds", 1, 3600, ""),
            ("dial_seconds", 1, 60, ""),
            ("dial_quic_seconds", 1, 60, ""),
            ("next_rung_seconds", 1, 60, ""),
            ("dial_pace_milliseconds", 0, 60_000, ""),
            ("better_rung_seconds", 1, 86_400, ""),
            ("links_per_instance", 1, 16, ""),
            ("backend_connect_seconds", 1, 60, ""),
            ("backend_answer_seconds", 1, 3600, ""),
            ("backend_idle_max", 0, 65_536, ""),
            ("backend_idle_seconds", 1, 3600, ""),
            ("backend_connections_max", 1, 65_536, ""),
            ("backend_wait_max", 0, 65_536, ""),
            ("backend_wait_seconds", 1, 300, ""),
            ("backend_failures_max", 1, 1000, ""),
            ("backend_rest_seconds", 1, 300, ""),
            ("link_memory_mebibytes", 64, 65_536, ""),
            ("streams_per_link_max", 1, 16_384, ""),
            ("drain_seconds", 0, 3600, ""),
        ] {
            let site = Site::new();
            assert_range(low, high, |value| {
                site.connection_point_with(|text| {
                    format!("{text}\n[limits]\n{key} = {value}\n{rest}")
                })
                .map(drop)
            });
        }
    }

    #[test]
    fn what_is_written_reaches_the_field_of_its_name_and_the_rest_keeps_its_default() {
        let written = "\n[limits]\nclient_connections_max = 1\nlinks_max = 2\n\
             tls_handshake_seconds = 3\nrequest_head_seconds = 4\nidle_seconds = 9\n\
             answer_head_seconds = 5\nbackend_answer_max_seconds = 8\n\
             link_credit_seconds = 6\nlinger_seconds = 7\n\
             overload_wait_milliseconds = 8\n";
        let limits =
            Site::new().gateway_with(|text| text.to_owned() + written).unwrap().config.limits;
        assert_eq!((limits.client_connections_max, limits.links_max), (1, 2));
        assert_eq!(limits.overload_wait.as_millis(), 8);
        let seconds = [
            limits.tls_handshake,
            limits.request_head,
            limits.idle,
            limits.answer_head,
            limits.backend_answer_max,
            limits.link_credit,
            limits.drain,
            limits.linger,
        ];
        assert_eq!(seconds.map(|time| time.as_secs()), [3, 4, 9, 5, 8, 6, 30, 7]);
    }

    #[test]
    fn what_is_written_reaches_the_connection_points_field_of_its_name() {
        let written = "\n[limits]\nredial_first_milliseconds = 1\nredial_max_seconds = 2\n\
             dial_seconds = 3\nbackend_connect_seconds = 4\nbackend_answer_seconds = 5\n\
             backend_idle_max = 6\nbackend_idle_seconds = 7\ndrain_seconds = 8\n\
             dial_quic_seconds = 9\nnext_rung_seconds = 10\n";
        let limits = Site::new()
            .connection_point_with(|text| text.to_owned() + written)
            .unwrap()
            .config
            .limits;
        assert_eq!((limits.redial_first.as_millis(), limits.backend_idle_max), (1, 6));
        let seconds = [
            limits.redial_max,
            limits.dial,
            limits.backend_connect,
            limits.backend_answer,
            limits.backend_idle,
            limits.drain,
            limits.dial_quic,
            limits.next_rung,
        ];
        assert_eq!(seconds.map(|time| time.as_secs()), [2, 3, 4, 5, 7, 8, 9, 10]);
    }

    #[test]
    fn a_first_delay_above_the_ceiling_is_refused() {
        let with = |first| {
            Site::new().connection_point_with(|text| {
                format!(
                    "{text}\n[limits]\nredial_first_milliseconds = {first}\n\
                     redial_max_seconds = 1\n"
                )
            })
        };
        assert!(with(1000).is_ok());
        let message = message(with(1001));
        assert!(
            message.starts_with("the first delay between dials, 1.001s, is above"),
            "{message}"
        );
    }
}
