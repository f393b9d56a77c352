//! A gateway instance's configuration file.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls::server::ParsedCertificate;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::admin::{AdminListener, RawAdmin};
use super::content::{ContentConfig, RawContent};
use super::egress::{EgressConfig, RawEgress};
use super::error::{ConfigError, Place};
use super::fetch::RawFetch;
use super::limits::RawGatewayLimits;
use super::listen;
use super::material::GatewayMaterial;
use super::pem::{IdentityFiles, revocation_warning, site_anchors, site_error, site_paths};
use super::quic;
use super::source::Source;
use super::spanned::Spanned;
use super::telemetry::{RawTelemetry, TelemetryConfig};
use super::warning::Warning;
use crate::gateway::{Balance, GatewayConfig};
use crate::transport::{
    Instance, TlsSetupError, TrustAnchors, client_edge_config_asking, link_server_config,
};

/// A gateway instance's configuration, read and judged.
#[derive(Clone, Debug)]
pub struct LoadedGateway {
    /// What the role is told.
    pub config: GatewayConfig,
    /// Where clients connect. Port 0 leaves the choice to the operating system.
    pub listen: SocketAddr,
    /// Where connection points connect. Port 0 leaves the choice to the operating system.
    pub link_listen: SocketAddr,
    /// Where connection points connect over HTTPS besides the port of clients, if anywhere.
    pub https_link_listen: Option<SocketAddr>,
    /// Where connection points connect over QUIC, if anywhere: a UDP port. Port 0 takes the number
    /// that `link_listen` got.
    pub quic_link_listen: Option<SocketAddr>,
    /// Where it is administered, if anywhere.
    pub admin: Option<AdminListener>,
    /// Where it has content from, if it has any. `config` has it only once somebody has said how
    /// that is read: see [`GatewayConfig::content`].
    pub content: Option<ContentConfig>,
    /// Octets of memory that its process may have in use, if that is written; else as many as the
    /// machine, or whoever confines the process, lets it have. `config` has it only once somebody
    /// has said how that is read: see
    /// [`memory`](crate::gateway::GatewayLimits::memory).
    pub memory_max: Option<u64>,
    /// How much it is meant to send to clients, if that is written.
    pub egress: Option<EgressConfig>,
    /// Where spans of its requests are sent, if anywhere.
    pub telemetry: Option<TelemetryConfig>,
    /// What its TLS was made from.
    pub material: GatewayMaterial,
    /// What deserves attention; to be logged at start.
    pub warnings: Vec<Warning>,
    listen_place: Place,
    link_listen_place: Place,
    https_link_listen_place: Place,
    quic_link_listen_place: Place,
    pub(super) instance_place: Place,
    pub(super) site_ca_place: Place,
}

/// One of a gateway instance's listeners.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Listener {
    /// `[clients]`.
    Clients,
    /// `[links]`.
    Links,
    /// `https_listen` in `[links]`.
    HttpsLinks(SocketAddr),
    /// `quic` or `quic_listen` in `[links]`.
    QuicLinks(SocketAddr),
}

impl LoadedGateway {
    /// The message that a listener could not be bound, at the line that asked for its address.
    pub fn bind_failed(&self, listener: Listener, error: &io::Error) -> ConfigError {
        let (address, place, whom) = match listener {
            Listener::Clients => (self.listen, &self.listen_place, "clients"),
            Listener::Links => (self.link_listen, &self.link_listen_place, "links"),
            Listener::HttpsLinks(address) => {
                (address, &self.https_link_listen_place, "links over HTTPS")
            }
            Listener::QuicLinks(address) => {
                (address, &self.quic_link_listen_place, "links over QUIC")
            }
        };
        listen::bind_failed(whom, address, place, error)
    }
}

/// A gateway instance's configuration. Relative paths start at the folder of the file.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "the configuration of a gateway")]
pub(super) struct RawGateway {
    /// The service's name, as in the clients' URL. The certificate in `[clients]` must carry it.
    service: Spanned<String>,
    /// Which instance this is. Every instance of the service has its own number.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 16)))]
    instance: Spanned<i64>,
    /// How requests are spread over the links.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = "round-robin")))]
    balance: RawBalance,
    /// Where clients connect, over HTTPS.
    clients: RawClients,
    /// Where connection points connect, over TLS 1.3 with certificates on both sides.
    links: RawLinks,
    /// Known only to be refused with a better answer than "unknown key".
    #[cfg_attr(feature = "schema", schemars(skip))]
    endpoint: Option<Spanned<IgnoredAny>>,
    /// Limits; each has a default.
    limits: Option<RawGatewayLimits>,
    /// Where this instance is administered; without it, nowhere.
    admin: Option<RawAdmin>,
    /// Has this instance fetch keys of tenants and revocation lists; without it, it does not.
    fetch: Option<RawFetch>,
    /// Has this instance give packages to clients whom the site has granted them.
    content: Option<Spanned<RawContent>>,
    /// How much this instance is meant to send to clients in 14 days.
    egress: Option<RawEgress>,
    /// Has this instance send spans of requests to a collector of OpenTelemetry.
    telemetry: Option<RawTelemetry>,
}

/// How requests are spread over the links.
#[derive(Clone, Copy, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
enum RawBalance {
    /// Connection points take turns.
    #[default]
    RoundRobin,
    /// The link with the fewest requests under way.
    LeastInFlight,
    /// The faster of two links that are drawn.
    PeakEwma,
}

impl RawBalance {
    fn judge(self) -> Balance {
        match self {
            Self::RoundRobin => Balance::RoundRobin,
            Self::LeastInFlight => Balance::LeastInFlight,
            Self::PeakEwma => Balance::PeakEwma,
        }
    }
}

/// Where clients connect, over HTTPS.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "a `[clients]` table")]
struct RawClients {
    /// IP address and port, as in `0.0.0.0:8443`. Clients expect port 443.
    listen: Spanned<String>,
    /// Certificate chain, leaf first: a PEM file.
    certificate: Spanned<PathBuf>,
    /// Private key of that certificate: a PEM file.
    key: Spanned<PathBuf>,
}

impl RawClients {
    fn files(&self) -> IdentityFiles<'_> {
        IdentityFiles { certificate: &self.certificate, key: &self.key }
    }
}

/// Where connection points connect.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "a `[links]` table")]
struct RawLinks {
    /// IP address and port; 10139 plus the instance's number is customary.
    listen: Spanned<String>,
    /// IP address and port for links over HTTPS, when they cannot share that of clients.
    https_listen: Option<Spanned<String>>,
    /// Whether links are taken over QUIC too, on the UDP port of the same number.
    #[cfg_attr(feature = "schema", schemars(extend("default" = false)))]
    quic: Option<Spanned<bool>>,
    /// IP address and UDP port for links over QUIC, where that is another one.
    quic_listen: Option<Spanned<String>>,
    /// Certificate chain, leaf first: a PEM file.
    certificate: Spanned<PathBuf>,
    /// Private key of that certificate: a PEM file.
    key: Spanned<PathBuf>,
    /// Who may connect: holders of a certificate that this authority has signed. A PEM file.
    site_ca: Spanned<PathBuf>,
    /// What that authority has taken back: a PEM file. Without it nobody asks.
    site_crl: Option<Spanned<PathBuf>>,
}

impl RawLinks {
    fn files(&self) -> IdentityFiles<'_> {
        IdentityFiles { certificate: &self.certificate, key: &self.key }
    }
}

/// Reads a gateway instance's configuration file and everything it names.
///
/// Required: `service`, `instance` (1 to 16), `[clients]` with `listen`, `certificate` and `key`,
/// `[links]` with the same and `site_ca` (optional: `https_listen`, `site_crl`, `quic`,
/// `quic_listen`). Optional: `balance` (`round-robin`, the default, `least-in-flight` or
/// `peak-ewma`), `[limits]`, whose keys are the fields of
/// [`GatewayLimits`](crate::gateway::GatewayLimits) with their unit,
/// `[fetch]` with `trust`, a PEM file of whom servers of keys and lists are trusted by, `[content]`
/// with `folder`, `azure` or `s3`, where packages are, and `enabled`, `[admin]` with `listen`, an
/// address of loopback, `[egress]` with `threshold_gibibytes` (optional: `warning_percent`,
/// `critical_percent`, `stop_when_critical`, `file`), and `[telemetry]` with `endpoint` (optional:
/// `ca`, `headers_file`, `sample_ratio`, `service_name`). What is published is not written here:
/// connection points say so, over their links.
///
/// Blocks on the file system; meant for start-up.
///
/// # Errors
///
/// [`ConfigError`] with every fault found. Nothing of a faulty file takes effect.
pub fn load_gateway(path: &Path) -> Result<LoadedGateway, ConfigError> {
    let source = Source::read(path)?;
    let raw: RawGateway = source.parse_on()?;

    let service = source.keep(service_name(&source, &raw.service));
    let instance = source.keep(instance(&source, &raw.instance));
    let addresses = raw.addresses(&source);
    source.keep(no_endpoints(&source, &raw));
    let limits = raw.limits.as_ref().map(|limits| limits.judge(&source)).unwrap_or_default();
    let memory_max = raw.limits.as_ref().and_then(|limits| limits.memory_max(&source));
    let fetch = raw.fetch.as_ref().and_then(|fetch| source.keep(fetch.judge(&source)));
    let content = raw.content.as_ref().and_then(|it| source.keep(RawContent::judge(&source, it)));
    let egress = raw.egress.as_ref().and_then(|it| source.keep(it.judge(&source)));
    let telemetry = raw.telemetry.as_ref().and_then(|it| source.keep(it.judge(&source)));
    let tls = raw.tls(&source);
    let (Some(service), Some(instance), Some(addresses), Some(tls)) =
        (service, instance, addresses, tls)
    else {
        return Err(source.faults());
    };
    source.check()?;

    let (client_files, link_files) = (raw.clients.files(), raw.links.files());
    let site_crl = raw.links.site_crl.as_ref();
    let mut warnings = Vec::from_iter(name_warning(&source, &service, &raw));
    warnings.extend(client_files.warning(&source));
    warnings.extend(link_files.warning(&source));
    warnings.extend(revocation_warning(&source, &tls.site, site_crl, SystemTime::now()));
    warnings.extend(raw.telemetry.iter().flat_map(|it| it.warnings(&source)));
    let material = GatewayMaterial {
        clients: client_files.paths(&source),
        links: link_files.paths(&source),
        site: site_paths(&source, &raw.links.site_ca, site_crl),
    };
    let (quic, quic_listen) = (raw.links.quic.as_ref(), raw.links.quic_listen.as_ref());
    Ok(LoadedGateway {
        material,
        config: GatewayConfig {
            service: raw.service.get_ref().clone(),
            instance,
            initial: Vec::new(),
            client_tls: tls.clients,
            link_tls: tls.links,
            certificate_keeper: None,
            fetch,
            content: None,
            balance: raw.balance.judge(),
            limits,
        },
        listen: addresses.clients,
        link_listen: addresses.links,
        https_link_listen: addresses.https_links,
        quic_link_listen: addresses.quic_links,
        memory_max,
        content,
        admin: addresses.admin,
        egress,
        telemetry,
        warnings,
        listen_place: source.place(raw.clients.listen.span()),
        link_listen_place: source.place(raw.links.listen.span()),
        https_link_listen_place: source
            .place(raw.links.https_listen.as_ref().unwrap_or(&raw.links.listen).span()),
        quic_link_listen_place: source
            .place(quic_listen.map(Spanned::span).or(quic.map(Spanned::span)).unwrap_or(0..0)),
        instance_place: source.place(raw.instance.span()),
        site_ca_place: source.place(raw.links.site_ca.span()),
    })
}

/// Where an instance listens.
struct Addresses {
    clients: SocketAddr,
    links: SocketAddr,
    https_links: Option<SocketAddr>,
    quic_links: Option<SocketAddr>,
    admin: Option<AdminListener>,
}

/// What an instance shows, and whom it trusts.
struct Tls {
    clients: Arc<ServerConfig>,
    links: Arc<ServerConfig>,
    site: TrustAnchors,
}

impl RawGateway {
    /// Judges where it listens. What is wrong is noted.
    fn addresses(&self, source: &Source) -> Option<Addresses> {
        let of = |raw| source.keep(address(source, raw));
        let (clients, links) = (of(&self.clients.listen), of(&self.links.listen));
        let https_links = self.links.https_listen.as_ref().and_then(of);
        let (quic, quic_listen) = (self.links.quic.as_ref(), self.links.quic_listen.as_ref());
        // Without an address of links, what is said of QUIC is judged beside any.
        let beside = links.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
        let quic_links = source.keep(quic::listen(source, quic, quic_listen, beside));
        let admin = self.admin.as_ref().and_then(|admin| source.keep(admin.judge(source)));

        let https_span = self.links.https_listen.as_ref().map(Spanned::span);
        let admin_span = self.admin.as_ref().map(RawAdmin::span);
        let all = [
            ("clients", clients, Some(self.clients.listen.span())),
            ("links", links, Some(self.links.listen.span())),
            ("links over HTTPS", https_links, https_span),
            ("administrators", admin.as_ref().map(|it| it.listen), admin_span),
        ];
        let all = all.into_iter().filter_map(|(whom, at, span)| Some((whom, at?, span?)));
        listen::apart(source, &all.collect::<Vec<_>>());
        let (clients, links, quic_links) = (clients?, links?, quic_links?);
        Some(Addresses { clients, links, https_links, quic_links, admin })
    }

    /// Judges every certificate and key. What is wrong is noted.
    fn tls(&self, source: &Source) -> Option<Tls> {
        let (client_files, link_files) = (self.clients.files(), self.links.files());
        let clients = source.keep(client_files.read(source)).and_then(|identity| {
            let made = client_edge_config_asking(&identity);
            source.keep(made.map_err(|error| client_files.error(source, &error)))
        });
        let identity = source.keep(link_files.read_matching(source));
        let (site_ca, site_crl) = (&self.links.site_ca, self.links.site_crl.as_ref());
        let site = source.keep(site_anchors(source, site_ca, site_crl))?;
        let links = link_server_config(&identity?, &site).map_err(|error| match error {
            TlsSetupError::Verifier(_) => site_error(source, site_ca, site_crl, &error),
            other => link_files.error(source, &other),
        });
        Some(Tls { clients: clients?, links: source.keep(links)?, site })
    }
}

fn no_endpoints(source: &Source, raw: &RawGateway) -> Result<(), ConfigError> {
    let Some(endpoint) = &raw.endpoint else { return Ok(()) };
    Err(source.invalid(
        endpoint.span(),
        "a gateway is told by connection points what is published",
        "move every `[[endpoint]]` to `connection-point.toml`",
    ))
}

/// Judges a gateway instance's number.
pub(super) fn instance(source: &Source, raw: &Spanned<i64>) -> Result<Instance, ConfigError> {
    let number = u64::try_from(*raw.get_ref()).ok();
    number.and_then(|number| Instance::new(number).ok()).ok_or_else(|| {
        source.invalid(
            raw.span(),
            format!("instance {} does not exist", raw.get_ref()),
            format!("give a number from 1 to {}", Instance::MAX),
        )
    })
}

fn service_name(
    source: &Source,
    raw: &Spanned<String>,
) -> Result<ServerName<'static>, ConfigError> {
    ServerName::try_from(raw.get_ref().clone()).map_err(|_| {
        source.invalid(
            raw.span(),
            format!("`{}` is not a host name", raw.get_ref()),
            "give the name in the clients' URL, as in `relay.example`: no scheme, port or path",
        )
    })
}

pub(super) fn address(source: &Source, raw: &Spanned<String>) -> Result<SocketAddr, ConfigError> {
    raw.get_ref().parse().map_err(|_| {
        source.invalid(
            raw.span(),
            format!("`{}` is not an address to listen on", raw.get_ref()),
            "give an IP address and a port, as in `0.0.0.0:8443` or `[::]:8443`; host names are \
             not looked up",
        )
    })
}

/// The warning that clients will find another name in the certificate, if they will.
fn name_warning(source: &Source, service: &ServerName<'_>, raw: &RawGateway) -> Option<Warning> {
    let certificate = source.resolve(raw.clients.certificate.get_ref());
    let leaf = CertificateDer::pem_file_iter(&certificate).ok()?.next()?.ok()?;
    let parsed = ParsedCertificate::try_from(&leaf).ok()?;
    rustls::client::verify_server_name(&parsed, service).is_err().then(|| {
        Warning::ServiceNotInCertificate { service: raw.service.get_ref().clone(), certificate }
    })
}

#[cfg(test)]
mod tests {
    use super::super::content::{RawAzure, RawS3};
    use super::*;
    use crate::config::GATEWAY_KEYS;
    use crate::config::testing::{Site, message};

    #[test]
    fn a_complete_file_yields_what_it_says() {
        let loaded = Site::new().gateway_with(str::to_owned).unwrap();
        assert_eq!(loaded.config.service, "relay.example");
        assert_eq!(loaded.config.instance.number(), 1);
        assert_eq!(loaded.listen, "0.0.0.0:8443".parse().unwrap());
        assert_eq!(loaded.link_listen, "0.0.0.0:10140".parse().unwrap());
        assert!(loaded.config.initial.is_empty());
        assert_eq!(loaded.warnings, []);
    }

    #[test]
    fn an_unknown_key_is_shown_with_a_caret_and_the_keys_that_exist() {
        let site = Site::new();
        let shown = message(
            site.gateway_with(|text| text.replace("listen = \"0.0.0.0:8443\"", "listn = 1")),
        );
        let expected = format!(
            "unknown key `listn`
 --> {}:5:1
  |
5 | listn = 1
  | ^^^^^
  = help: did you mean `listen`? keys allowed here: `listen`, `certificate`, `key`",
            site.gateway_file().display()
        );
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_wrong_type_is_shown_with_what_was_expected() {
        let site = Site::new();
        let shown =
            message(site.gateway_with(|text| text.replace("instance = 1", "instance = \"first\"")));
        let expected = format!(
            "wrong type: found string \"first\"
 --> {}:2:12
  |
2 | instance = \"first\"
  |            ^^^^^^^
  = help: this must be a whole number",
            site.gateway_file().display()
        );
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_certificate_path_that_leads_nowhere_is_shown_resolved() {
        let site = Site::new();
        let shown = message(site.gateway_with(|text| text.replace("clients.pem", "absent.pem")));
        let expected = format!(
            "cannot read the certificate `{}`: {}
 --> {}:6:15
  |
6 | certificate = \"absent.pem\"
  |               ^^^^^^^^^^^^
  = help: check the path and its permissions; a relative path starts at the folder of this file",
            site.path("absent.pem").display(),
            std::fs::File::open(site.path("absent.pem")).unwrap_err(),
            site.gateway_file().display()
        );
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_key_of_another_certificate_is_refused_at_the_key() {
        let site = Site::new();
        let shown =
            message(site.gateway_with(|text| text.replace("clients-key.pem", "links-key.pem")));
        let expected = format!(
            "private key `links-key.pem` does not belong to certificate `clients.pem`
 --> {}:7:7
  |
7 | key = \"links-key.pem\"
  |       ^^^^^^^^^^^^^^^
  = help: give the key that was made with this certificate; the leaf must come first in the \
             certificate file",
            site.gateway_file().display()
        );
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_missing_key_is_shown_at_its_table() {
        let site = Site::new();
        let shown =
            message(site.gateway_with(|text| text.replace("site_ca = \"site-ca.pem\"\n", "")));
        let expected = format!(
            "key `site_ca` is missing
 --> {}:9:1
  |
9 | [links]
  | ^^^^^^^
  = help: add `site_ca` to the table that begins here",
            site.gateway_file().display()
        );
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_key_missing_at_the_top_is_shown_at_the_top() {
        let shown = message(Site::new().gateway_with(|_| String::new()));
        assert!(shown.starts_with("key `service` is missing\n"), "{shown}");
        assert!(shown.contains("gateway.toml:1:1\n"), "{shown}");
    }

    #[test]
    fn text_that_is_not_toml_is_shown_where_it_stops_being_toml() {
        let shown =
            message(Site::new().gateway_with(|text| text.replace("instance = 1", "instance = ")));
        assert!(shown.contains("gateway.toml:2:"), "{shown}");
        assert!(shown.contains("the text is not valid TOML here"), "{shown}");
        let shown = message(
            Site::new()
                .gateway_with(|text| text.replace("instance = 1", "instance = 1\ninstance = 2")),
        );
        assert!(shown.starts_with("duplicate key\n"), "{shown}");
        assert!(shown.contains("gateway.toml:3:1\n"), "{shown}");
    }

    #[test]
    fn a_file_that_is_absent_is_named() {
        let site = Site::new();
        let shown = message(load_gateway(&site.path("absent.toml")));
        assert!(shown.starts_with("cannot read the configuration `"), "{shown}");
        assert!(shown.contains("absent.toml"), "{shown}");
    }

    #[test]
    fn instances_are_1_to_16() {
        for (number, exists) in [(-1, false), (0, false), (1, true), (16, true), (17, false)] {
            let loaded = Site::new()
                .gateway_with(|text| text.replace("instance = 1", &format!("instance = {number}")));
            assert_eq!(loaded.is_ok(), exists, "{number}");
        }
        let shown =
            message(Site::new().gateway_with(|text| text.replace("instance = 1", "instance = 17")));
        assert!(shown.starts_with("instance 17 does not exist\n"), "{shown}");
    }

    #[test]
    fn requests_are_spread_in_turn_unless_the_file_says_otherwise() {
        let spread = |line: &str| {
            let with = |text: &str| text.replace("instance = 1", &format!("instance = 1\n{line}"));
            Site::new().gateway_with(with).unwrap().config.balance
        };
        assert!(matches!(spread(""), Balance::RoundRobin));
        assert!(matches!(spread("balance = \"round-robin\""), Balance::RoundRobin));
        assert!(matches!(spread("balance = \"least-in-flight\""), Balance::LeastInFlight));
        assert!(matches!(spread("balance = \"peak-ewma\""), Balance::PeakEwma));
    }

    #[test]
    fn a_balance_that_does_not_exist_is_shown_with_those_that_do() {
        let site = Site::new();
        let shown = message(site.gateway_with(|text| {
            text.replace("instance = 1", "instance = 1\nbalance = \"round-robbin\"")
        }));
        let expected = format!(
            "unknown value `round-robbin`
 --> {}:3:11
  |
3 | balance = \"round-robbin\"
  |           ^^^^^^^^^^^^^^
  = help: did you mean `round-robin`? values allowed here: `round-robin`, `least-in-flight`, \
             `peak-ewma`",
            site.gateway_file().display()
        );
        assert_eq!(shown, expected);
    }

    #[test]
    fn listen_addresses_are_addresses_and_differ() {
        for bad in ["localhost:8443", "0.0.0.0", "0.0.0.0:65536", "8443", ""] {
            let shown = message(Site::new().gateway_with(|text| text.replace("0.0.0.0:8443", bad)));
            assert!(shown.contains("is not an address to listen on"), "{shown}");
        }
        let shown =
            message(Site::new().gateway_with(|text| text.replace("0.0.0.0:8443", "0.0.0.0:10140")));
        assert!(shown.starts_with("clients and links cannot both connect"), "{shown}");
        let any = |text: &str| text.replace(":8443", ":0").replace(":10140", ":0");
        assert!(Site::new().gateway_with(any).is_ok());
    }

    #[test]
    fn the_service_is_a_host_name() {
        for bad in ["", "https://relay.example", "relay.example:443", "a b"] {
            let shown = message(
                Site::new()
                    .gateway_with(|text| text.replace("\"relay.example\"", &format!("{bad:?}"))),
            );
            assert!(shown.contains("is not a host name"), "{shown}");
        }
    }

    #[test]
    fn a_certificate_without_the_services_name_is_warned_about() {
        let loaded = Site::new()
            .gateway_with(|text| text.replace("\"relay.example\"", "\"other.example\""))
            .unwrap();
        assert!(
            loaded.warnings.iter().any(|warning| matches!(
                warning,
                Warning::ServiceNotInCertificate { service, .. } if service == "other.example"
            )),
            "{:?}",
            loaded.warnings
        );
    }

    #[test]
    fn files_that_hold_something_else_are_named_with_what_they_lack() {
        let with =
            |old: &str, new: &str| message(Site::new().gateway_with(|text| text.replace(old, new)));
        let shown = with("clients.pem", "clients-key.pem");
        assert!(shown.contains("clients-key.pem` holds no certificate\n"), "{shown}");
        let shown = with("clients-key.pem", "clients.pem");
        assert!(shown.contains("clients.pem` holds no private key\n"), "{shown}");
        let shown = with("site-ca.pem", "gateway.toml");
        assert!(shown.contains("gateway.toml` holds no certificate\n"), "{shown}");
    }

    #[test]
    fn an_endpoint_is_refused_with_the_file_that_it_belongs_to() {
        let endpoint = "\n[[endpoint]]\nname = \"mp\"\nkind = \"management-point\"\n";
        for written in [endpoint, "\n[endpoint]\nname = \"mp\"\n"] {
            let shown = message(Site::new().gateway_with(|text| format!("{text}{written}")));
            let problem = "a gateway is told by connection points what is published\n";
            assert!(shown.starts_with(problem), "{shown}");
            assert!(shown.contains("gateway.toml:15:"), "{shown}");
            assert!(shown.contains("to `connection-point.toml`"), "{shown}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_can_read_is_warned_about() {
        use std::os::unix::fs::PermissionsExt as _;
        let site = Site::new();
        let others = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(site.path("links-key.pem"), others).unwrap();
        let loaded = site.gateway_with(str::to_owned).unwrap();
        let warned = loaded.warnings.iter().map(ToString::to_string).collect::<String>();
        assert!(warned.contains("links-key.pem has mode 0644"), "{warned}");
    }

    #[test]
    fn an_address_in_use_is_shown_at_the_line_that_asks_for_it() {
        let site = Site::new();
        let loaded = site.gateway_with(str::to_owned).unwrap();
        let error = io::Error::from(io::ErrorKind::AddrInUse);
        let expected = format!(
            "cannot listen for links on 0.0.0.0:10140: {error}
  --> {}:10:10
   |
10 | listen = \"0.0.0.0:10140\"
   |          ^^^^^^^^^^^^^^^
  = help: another program listens there: stop it, or choose another port here",
            site.gateway_file().display()
        );
        assert_eq!(loaded.bind_failed(Listener::Links, &error).to_string(), expected);
    }

    /// Which keys a table has, as its reader asks for them.
    struct Asked<'a>(&'a mut Vec<&'static str>);

    impl<'de> serde::Deserializer<'de> for Asked<'_> {
        type Error = serde::de::value::Error;

        fn deserialize_any<V: serde::de::Visitor<'de>>(
            self,
            _: V,
        ) -> Result<V::Value, Self::Error> {
            Err(serde::de::Error::custom("only tables are asked"))
        }

        fn deserialize_struct<V: serde::de::Visitor<'de>>(
            self,
            _name: &'static str,
            fields: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, Self::Error> {
            self.0.extend(fields);
            self.deserialize_any(visitor)
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
            option unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier
            ignored_any
        }
    }

    fn keys_of<'de, T: Deserialize<'de>>() -> Vec<&'static str> {
        let mut keys = Vec::new();
        assert!(T::deserialize(Asked(&mut keys)).is_err());
        keys
    }

    #[test]
    fn every_key_is_listed_with_when_it_takes_effect_and_no_other_is() {
        let tables = [
            ("clients", keys_of::<RawClients>()),
            ("links", keys_of::<RawLinks>()),
            ("limits", keys_of::<RawGatewayLimits>()),
            ("admin", keys_of::<RawAdmin>()),
            ("fetch", keys_of::<RawFetch>()),
            ("content", keys_of::<RawContent>()),
            ("content.azure", keys_of::<RawAzure>()),
            ("content.s3", keys_of::<RawS3>()),
            ("egress", keys_of::<RawEgress>()),
            ("telemetry", keys_of::<RawTelemetry>()),
        ];
        let mut keys = Vec::new();
        // `endpoint` is refused wherever it is.
        let all = keys_of::<RawGateway>().into_iter().filter(|key| *key != "endpoint");
        let mut left: Vec<String> = all.map(str::to_owned).collect();
        while let Some(key) = left.pop() {
            match tables.iter().find(|(table, _)| *table == key) {
                Some((table, of)) => left.extend(of.iter().map(|key| format!("{table}.{key}"))),
                None => keys.push(key),
            }
        }
        let mut listed: Vec<_> = GATEWAY_KEYS.iter().map(|(key, _)| (*key).to_owned()).collect();
        keys.sort();
        listed.sort();
        assert_eq!(listed, keys);
    }
}
