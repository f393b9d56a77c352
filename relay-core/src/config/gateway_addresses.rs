//! `[gateway]` or `[[gateway]]` of a connection point: which instances to dial, and where.

use std::fmt;
use std::ops::Range;

use rustls::pki_types::ServerName;
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

use super::error::ConfigError;
use super::gateway::instance;
use super::limits::{Key, Number};
use super::quic;
use super::source::Source;
use super::spanned::Spanned;
use crate::connection_point::GatewayAddress;
use crate::transport::{Instance, PortPlan, Rung};

/// What stands in a host or server name for the number of each instance.
const PLACEHOLDER: &str = "{instance}";

/// The gateway instances as written, in one of two forms.
#[expect(clippy::large_enum_variant, reason = "there is one, while a file is read")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(untagged))]
pub(super) enum RawGateways {
    /// `[gateway]`: instances 1 to `instances`, by pattern.
    Pattern(RawPattern),
    /// `[[gateway]]`: each instance on its own.
    List(#[cfg_attr(feature = "schema", schemars(length(min = 1, max = 16)))] Vec<RawAddress>),
}

/// Instances 1 to `instances`, by pattern.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "a `[gateway]` table")]
pub(super) struct RawPattern {
    /// Host name or address, looked up anew at each dial; `{instance}` stands for each number.
    host: Spanned<String>,
    /// How many instances there are.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 16)))]
    instances: Spanned<i64>,
    /// Which ways to an instance are tried: all, in turn, or one alone.
    #[cfg_attr(feature = "schema", schemars(extend("default" = "auto")))]
    transport: Option<Spanned<RawTransport>>,
    /// Whether QUIC is tried before all these, on the UDP port of the same number.
    #[cfg_attr(feature = "schema", schemars(extend("default" = false)))]
    quic: Option<Spanned<bool>>,
    /// Link port of instance 1; each further instance has the next one.
    #[cfg_attr(
        feature = "schema",
        schemars(range(min = 1, max = 65_535), extend("default" = 10_140))
    )]
    link_port_base: Number,
    /// HTTPS port of instance 1; each further instance has the next one. Without it 10124, or 443
    /// where there is one instance.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 65_535)))]
    https_port_base: Number,
    /// The name that the link certificate of each instance must carry; without it, the host.
    server_name: Option<Spanned<String>>,
    /// The name that the certificate of each HTTPS port must carry; without it, the host.
    https_name: Option<Spanned<String>>,
}

/// Which ports of the instances are dialled.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawTransport {
    /// TCP-TLS first, HTTPS where that fails.
    #[default]
    Auto,
    /// TCP-TLS alone.
    TcpTls,
    /// HTTPS alone, as for a scale set: by any of its three ways.
    Https,
    /// HTTPS, and an upgrade of HTTP/1.1 alone.
    HttpsUpgrade,
    /// HTTPS, and a stream of HTTP/2 alone.
    HttpsH2,
    /// QUIC alone.
    Quic,
}

/// The ports of an instance that are left for it.
struct Ports {
    quic: Option<u16>,
    tcp_tls: Option<u16>,
    https: Option<u16>,
}

impl RawTransport {
    /// The ports that are left of an instance's two. QUIC has the number of the link port, or of
    /// the HTTPS port where that one alone is dialled.
    fn choose(self, with_quic: bool, tcp_tls: Option<u16>, https: Option<u16>) -> Ports {
        let (left_tcp_tls, left_https) = match self {
            Self::Auto => (tcp_tls, https),
            Self::TcpTls => (tcp_tls, None),
            Self::Https | Self::HttpsUpgrade | Self::HttpsH2 => (None, https),
            Self::Quic => return Ports { quic: tcp_tls.or(https), tcp_tls: None, https: None },
        };
        let quic = left_tcp_tls.or(left_https).filter(|_| with_quic);
        Ports { quic, tcp_tls: left_tcp_tls, https: left_https }
    }

    /// The only way that is left, of those to one port.
    fn only(self) -> Option<Rung> {
        match self {
            Self::HttpsUpgrade => Some(Rung::HttpsUpgrade),
            Self::HttpsH2 => Some(Rung::HttpsHttp2),
            Self::Auto | Self::TcpTls | Self::Https | Self::Quic => None,
        }
    }
}

/// Which ways are to be taken: by `transport`, and QUIC before them.
fn ways(
    source: &Source,
    transport: Option<&Spanned<RawTransport>>,
    with_quic: Option<&Spanned<bool>>,
) -> Result<(RawTransport, bool), ConfigError> {
    let chosen = transport.map(|written| *written.get_ref()).unwrap_or_default();
    if let (RawTransport::Quic, Some(written)) = (chosen, transport) {
        quic::check_build(source, written)?;
    }
    Ok((chosen, quic::is_wanted(source, with_quic)?))
}

/// One instance.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "a `[[gateway]]` table")]
pub(super) struct RawAddress {
    /// The number in that instance's own file.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 16)))]
    instance: Spanned<i64>,
    /// Host name or address, looked up anew at each dial.
    host: Spanned<String>,
    /// Which ways to an instance are tried: all, in turn, or one alone.
    #[cfg_attr(feature = "schema", schemars(extend("default" = "auto")))]
    transport: Option<Spanned<RawTransport>>,
    /// Whether QUIC is tried before all these, on the UDP port of the same number.
    #[cfg_attr(feature = "schema", schemars(extend("default" = false)))]
    quic: Option<Spanned<bool>>,
    /// Its link port; without it, 10139 plus its number.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 65_535)))]
    port: Number,
    /// Its HTTPS port; without it, 10123 plus its number, or 443 where there is one instance.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 65_535)))]
    https_port: Number,
    /// The name that its link certificate must carry; without it, the host.
    server_name: Option<Spanned<String>>,
    /// The name that the certificate of its HTTPS port must carry; without it, the host.
    https_name: Option<Spanned<String>>,
}

impl<'de> Deserialize<'de> for RawGateways {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct GatewaysVisitor;

        impl<'de> Visitor<'de> for GatewaysVisitor {
            type Value = RawGateways;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a `[gateway]` table or several `[[gateway]]` tables")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawGateways, A::Error> {
                let table = MapAccessDeserializer::new(map);
                RawPattern::deserialize(table).map(RawGateways::Pattern)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<RawGateways, A::Error> {
                let tables = SeqAccessDeserializer::new(seq);
                Vec::deserialize(tables).map(RawGateways::List)
            }
        }

        deserializer.deserialize_any(GatewaysVisitor)
    }
}

impl RawGateways {
    /// Where it is said which instances there are.
    pub(super) fn span(&self) -> Range<usize> {
        match self {
            Self::Pattern(pattern) => pattern.instances.span(),
            Self::List(list) => list.first().map_or(0..0, |first| first.instance.span()),
        }
    }

    /// The address of each instance; at least one.
    pub(super) fn judge(&self, source: &Source) -> Result<Vec<GatewayAddress>, ConfigError> {
        match self {
            Self::Pattern(pattern) => pattern.judge(source),
            Self::List(list) => judge_list(source, list),
        }
    }
}

impl RawPattern {
    fn judge(&self, source: &Source) -> Result<Vec<GatewayAddress>, ConfigError> {
        let last = source.keep(instance(source, &self.instances));
        let mut plan = PortPlan::default();
        let base = port(source, "link_port_base", &self.link_port_base);
        plan.tcp_tls_base = base.unwrap_or(plan.tcp_tls_base);
        if let Some(base) = port(source, "https_port_base", &self.https_port_base) {
            (plan.https_base, plan.https_single) = (base, base);
        }
        let ways = source.keep(ways(source, self.transport.as_ref(), self.quic.as_ref()));
        let server_name = self.server_name.as_ref().unwrap_or(&self.host);
        let https_name = self.https_name.as_ref().unwrap_or(&self.host);
        let (Some(last), Some((transport, with_quic))) = (last, ways) else {
            return Err(source.faults());
        };

        Instance::first(last.number())
            .map(|instance| {
                let too_high = |written: &Number| {
                    let place = written.as_ref().unwrap_or(&self.instances).span();
                    source.invalid(
                        place,
                        format!("instance {instance} would have a port above 65535"),
                        format!("give {} or less", 65_536 - u32::from(last.number())),
                    )
                };
                let tcp_tls = plan.tcp_tls(instance);
                let tcp_tls = tcp_tls.ok_or_else(|| too_high(&self.link_port_base))?;
                let https = plan.https(instance, last.number());
                let https = https.ok_or_else(|| too_high(&self.https_port_base))?;
                let ports = transport.choose(with_quic, Some(tcp_tls), Some(https));
                let number = instance.number().to_string();
                let fill = |text: &Spanned<String>| {
                    host(source, text, &text.get_ref().replace(PLACEHOLDER, &number))
                };
                Ok(GatewayAddress {
                    instance,
                    host: fill(&self.host)?,
                    quic_port: ports.quic,
                    tcp_tls_port: ports.tcp_tls,
                    https_port: ports.https,
                    only: transport.only(),
                    server_name: fill(server_name)?,
                    https_name: fill(https_name)?,
                })
            })
            .collect()
    }
}

/// A port as written, if it is.
fn port(source: &Source, name: &'static str, written: &Number) -> Option<u16> {
    let port = Key { source, name, written }.within(&(1..=65_535))?;
    u16::try_from(port).ok()
}

fn judge_list(source: &Source, list: &[RawAddress]) -> Result<Vec<GatewayAddress>, ConfigError> {
    if list.is_empty() {
        return Err(source.invalid(
            0..0,
            "there is no gateway instance to dial",
            "add a `[gateway]` table, or a `[[gateway]]` table for each instance",
        ));
    }
    let mut addresses: Vec<GatewayAddress> = Vec::with_capacity(list.len());
    for raw in list {
        let Some(address) = raw.judge(source, list.len()) else { continue };
        if addresses.iter().any(|other| address.instance == other.instance) {
            source.note(source.invalid(
                raw.instance.span(),
                format!("instance {} is listed twice", address.instance),
                "give each `[[gateway]]` the number in that instance's own file",
            ));
        }
        addresses.push(address);
    }
    Ok(addresses)
}

impl RawAddress {
    /// The address, of a list of `instances`. What is wrong is noted.
    fn judge(&self, source: &Source, instances: usize) -> Option<GatewayAddress> {
        let named = |name: &Spanned<String>| source.keep(host(source, name, name.get_ref()));
        let instance = source.keep(instance(source, &self.instance));
        let (tcp_tls, https) =
            (port(source, "port", &self.port), port(source, "https_port", &self.https_port));
        let ways = source.keep(ways(source, self.transport.as_ref(), self.quic.as_ref()));
        let host = named(&self.host);
        let server_name = named(self.server_name.as_ref().unwrap_or(&self.host));
        let https_name = named(self.https_name.as_ref().unwrap_or(&self.host));

        let (instance, (transport, with_quic)) = (instance?, ways?);
        let plan = PortPlan::default();
        let instances = u8::try_from(instances).unwrap_or(u8::MAX);
        let tcp_tls = tcp_tls.or_else(|| plan.tcp_tls(instance));
        let https = https.or_else(|| plan.https(instance, instances));
        let ports = transport.choose(with_quic, tcp_tls, https);
        Some(GatewayAddress {
            instance,
            host: host?,
            quic_port: ports.quic,
            tcp_tls_port: ports.tcp_tls,
            https_port: ports.https,
            only: transport.only(),
            server_name: server_name?,
            https_name: https_name?,
        })
    }
}

/// Judges a host name or address literal; `raw` is where it is written, `name` what it came to.
fn host(source: &Source, raw: &Spanned<String>, name: &str) -> Result<String, ConfigError> {
    match ServerName::try_from(name) {
        Ok(_) => Ok(name.to_owned()),
        Err(_) => Err(source.invalid(
            raw.span(),
            format!("`{name}` is not a host name or an IP address"),
            "give a name as in `relay.example` or an address without brackets: no scheme, port or \
             path; `{instance}` in a `[gateway]` table stands for each instance's number",
        )),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::testing::{Site, message};
    use crate::connection_point::GatewayAddress;
    use crate::transport::Rung;

    /// Loads a connection point whose `[gateway]` table is `text` instead.
    fn with(table: &str) -> Result<Vec<GatewayAddress>, crate::config::ConfigError> {
        Site::new()
            .connection_point_with(|text| {
                let (before, rest) = text.split_once("[gateway]").unwrap();
                let (_, after) = rest.split_once("[link]").unwrap();
                format!("{before}{table}\n[link]{after}")
            })
            .map(|loaded| loaded.config.gateways)
    }

    fn shown(addresses: &[GatewayAddress]) -> Vec<String> {
        addresses
            .iter()
            .map(|a| {
                let [port, https] = [a.tcp_tls_port, a.https_port]
                    .map(|port| port.map_or_else(|| "-".to_owned(), |port| port.to_string()));
                format!(
                    "{} {}:{port}/{https} as {}/{}",
                    a.instance, a.host, a.server_name, a.https_name
                )
            })
            .collect()
    }

    #[test]
    fn a_pattern_yields_each_instance_with_its_port_and_name() {
        let table = "[gateway]\nhost = \"relay.example\"\ninstances = 2\n\
                     server_name = \"gateway-{instance}.relay.example\"\n";
        assert_eq!(
            shown(&with(table).unwrap()),
            [
                "1 relay.example:10140/10124 as gateway-1.relay.example/relay.example",
                "2 relay.example:10141/10125 as gateway-2.relay.example/relay.example",
            ]
        );
    }

    #[test]
    fn the_server_name_is_the_host_unless_written() {
        let table =
            "[gateway]\nhost = \"g{instance}.example\"\ninstances = 2\nlink_port_base = 1\n";
        assert_eq!(
            shown(&with(table).unwrap()),
            [
                "1 g1.example:1/10124 as g1.example/g1.example",
                "2 g2.example:2/10125 as g2.example/g2.example"
            ]
        );
    }

    #[test]
    fn a_list_yields_what_it_lists() {
        let table = "[[gateway]]\ninstance = 3\nhost = \"10.0.0.3\"\n\
                     [[gateway]]\ninstance = 1\nhost = \"::1\"\nport = 5\nserver_name = \"a\"\n\
                     https_port = 6\nhttps_name = \"b\"\n";
        assert_eq!(
            shown(&with(table).unwrap()),
            ["3 10.0.0.3:10142/10126 as 10.0.0.3/10.0.0.3", "1 ::1:5/6 as a/b"]
        );
    }

    #[test]
    fn a_lone_instance_takes_links_on_443_and_a_base_of_its_own_counts_up() {
        for (rest, ports) in [
            ("instances = 1\n", "a:10140/443"),
            ("instances = 1\nhttps_port_base = 8443\n", "a:10140/8443"),
            ("instances = 2\nhttps_port_base = 8443\n", "a:10140/8443"),
        ] {
            let addresses = with(&format!("[gateway]\nhost = \"a\"\n{rest}")).unwrap();
            assert!(shown(&addresses)[0].contains(ports), "{addresses:?}");
        }
    }

    #[test]
    fn a_transport_leaves_only_its_own_port() {
        for (transport, ports) in
            [("auto", "10140/443"), ("tcp-tls", "10140/-"), ("https", "-/443")]
        {
            let table = format!("host = \"a\"\ntransport = \"{transport}\"\n");
            for form in ["[gateway]\ninstances = 1\n", "[[gateway]]\ninstance = 1\n"] {
                let addresses = with(&format!("{form}{table}")).unwrap();
                assert!(shown(&addresses)[0].contains(ports), "{addresses:?}");
            }
        }
        for (transport, only) in [
            ("auto", None),
            ("https", None),
            ("https-upgrade", Some(Rung::HttpsUpgrade)),
            ("https-h2", Some(Rung::HttpsHttp2)),
        ] {
            let table =
                format!("[gateway]\nhost = \"a\"\ninstances = 1\ntransport = \"{transport}\"");
            let address = &with(&table).unwrap()[0];
            assert_eq!((address.only, address.https_port), (only, Some(443)), "{transport}");
        }
        let text = message(with("[gateway]\nhost = \"a\"\ninstances = 1\ntransport = \"udp\"\n"));
        assert!(text.contains("udp"), "{text}");
    }

    #[cfg(feature = "quic")]
    #[test]
    fn quic_has_the_number_of_the_first_port_that_is_dialled() {
        for (keys, quic, others) in [
            ("", None, "10140/443"),
            ("quic = false\n", None, "10140/443"),
            ("quic = true\n", Some(10_140), "10140/443"),
            ("quic = true\ntransport = \"tcp-tls\"\n", Some(10_140), "10140/-"),
            ("quic = true\ntransport = \"https\"\n", Some(443), "-/443"),
            ("transport = \"quic\"\n", Some(10_140), "-/-"),
        ] {
            for form in ["[gateway]\ninstances = 1\n", "[[gateway]]\ninstance = 1\n"] {
                let addresses = with(&format!("{form}host = \"a\"\n{keys}")).unwrap();
                assert_eq!(addresses[0].quic_port, quic, "{keys}");
                assert!(shown(&addresses)[0].contains(others), "{addresses:?}");
            }
        }
    }

    #[test]
    fn instances_and_ports_out_of_range_are_refused() {
        let pattern = |rest: &str| with(&format!("[gateway]\nhost = \"a\"\n{rest}"));
        for (count, good) in [(0, false), (1, true), (16, true), (17, false)] {
            assert_eq!(pattern(&format!("instances = {count}\n")).is_ok(), good, "{count}");
        }
        for (base, good) in
            [(0, false), (1, true), (65_534, true), (65_535, false), (65_536, false)]
        {
            let loaded = pattern(&format!("instances = 2\nlink_port_base = {base}\n"));
            assert_eq!(loaded.is_ok(), good, "{base}");
        }
        let text = message(pattern("instances = 2\nlink_port_base = 65535\n"));
        assert!(text.starts_with("instance 2 would have a port above 65535\n"), "{text}");
        assert!(text.ends_with("give 65534 or less"), "{text}");
        assert!(with("[[gateway]]\ninstance = 1\nhost = \"a\"\nport = 0\n").is_err());
    }

    #[test]
    fn an_instance_listed_twice_is_refused_at_the_second() {
        let entry = "[[gateway]]\ninstance = 1\nhost = \"a\"\n";
        let text = message(with(&format!("{entry}{entry}")));
        assert!(text.starts_with("instance 1 is listed twice\n"), "{text}");
        assert!(text.contains(":7:12\n"), "{text}");
    }

    #[test]
    fn hosts_that_are_none_are_refused() {
        for host in ["", "https://a", "a:1", "a b", "{number}", "[::1]"] {
            let text = message(with(&format!("[gateway]\nhost = \"{host}\"\ninstances = 1\n")));
            assert!(text.contains("is not a host name or an IP address"), "{text}");
        }
    }

    #[test]
    fn an_unknown_key_in_either_form_is_shown_at_the_key() {
        for (table, place) in [
            ("[gateway]\nhost = \"a\"\ninstances = 1\nprot = 1\n", ":6:1\n"),
            ("[[gateway]]\nhost = \"a\"\ninstance = 1\nprot = 1\n", ":6:1\n"),
        ] {
            let text = message(with(table));
            assert!(text.starts_with("unknown key `prot`\n"), "{text}");
            assert!(text.contains(place), "{text}");
        }
        let text = message(with("gateway = 1\n"));
        assert!(text.contains("this must be a `[gateway]` table or several"), "{text}");
        let text = message(with("gateway = []\n"));
        assert!(text.starts_with("there is no gateway instance to dial\n"), "{text}");
    }
}
