//! A connection point's configuration file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::ClientConfig;
use serde::Deserialize;

use super::admin::{AdminListener, RawAdmin};
use super::backend::{self, BackendFiles, backend};
use super::client_files::ClientFiles;
use super::clients::{self, RawClients};
use super::endpoint::{self, RawEndpoint};
use super::error::{ConfigError, Place};
use super::gateway_addresses::RawGateways;
use super::limits::RawConnectionPointLimits;
use super::listen;
use super::material::{ConnectionPointMaterial, IdentityPaths};
use super::pem::{
    IdentityFiles, certificate_error, revocation_warning, site_anchors, site_error, site_paths,
    trust_anchors,
};
use super::source::Source;
use super::spanned::Spanned;
use super::store::SiteStore;
use super::telemetry::{RawTelemetry, TelemetryConfig};
use super::tenant::{self, RawTenant};
use super::token_service::{RawTokenService, TokenServiceConfig};
use super::tokens::{RawTokens, SiteTokens, check_room};
use super::warning::Warning;
use super::web_proxy::{self, Environment, RawWebProxy};
use crate::auth::Methods;
use crate::connection_point::{ConnectionPointConfig, SiteEndpoint};
use crate::gateway::check_clients;
use crate::settings::{ENDPOINTS_MAX, SITE_OCTETS_MAX};
use crate::transport::{
    Identity, Network, TlsSetupError, TrustAnchors, backend_client_config, link_client_config,
};

/// Longest name of a connection point, in octets.
const NAME_BYTES_MAX: usize = 64;

/// The site of a connection point that names none.
const SITE: &str = "default";

/// A connection point's configuration, read and judged.
#[derive(Clone, Debug)]
pub struct LoadedConnectionPoint {
    /// What the role is told.
    pub config: ConnectionPointConfig,
    /// Where it is administered, if anywhere.
    pub admin: Option<AdminListener>,
    /// The authority with which it renews its link certificate by itself, and those of gateway
    /// instances over its links, if it is to.
    pub authority: Option<IdentityPaths>,
    /// What its site makes tokens with, if it does.
    pub tokens: Option<SiteTokens>,
    /// The service that issues tokens to clients, if it has one. `config` has no endpoint of it:
    /// whoever runs the service adds that.
    pub token_service: Option<TokenServiceConfig>,
    /// Where spans of its requests are sent, if anywhere.
    pub telemetry: Option<TelemetryConfig>,
    /// What its TLS was made from.
    pub material: ConnectionPointMaterial,
    /// What was read of whose clients count.
    pub client_files: ClientFiles,
    /// The certificates that each endpoint names of its backends.
    pub backend_files: Vec<BackendFiles>,
    /// What deserves attention; to be logged at start.
    pub warnings: Vec<Warning>,
    pub(super) places: Places,
}

/// Where a connection point's file says what others have to fit.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub(super) name: Place,
    pub(super) gateways: Place,
    pub(super) site_ca: Place,
    /// Of the version of what is published, if that is written.
    pub(super) version: Option<Place>,
}

/// A connection point's configuration. Relative paths start at the folder of the file.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "the configuration of a connection point")]
pub(super) struct RawConnectionPoint {
    /// This connection point's name, unique in the site; the certificate in `[link]` must carry it.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 64)))]
    name: Spanned<String>,
    /// The site that it stands in; every connection point of one site has the same name here.
    #[cfg_attr(
        feature = "schema",
        schemars(length(min = 1, max = 64), extend("default" = "default"))
    )]
    site: Option<Spanned<String>>,
    /// The gateway instances to dial: all by one pattern, or a table for each.
    gateway: RawGateways,
    /// What this side of each link shows and trusts.
    link: RawLink,
    /// What is published: one for each site role. Anything else is answered 404.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = 1024)))]
    endpoint: Vec<RawEndpoint>,
    /// Tenants of Entra ID: gateways tell clients about each, and its tokens count.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = 64)))]
    tenant: Vec<RawTenant>,
    /// Whose certificates count, and how methods are tried.
    clients: Option<Spanned<RawClients>>,
    /// About what is published to the gateway instances.
    settings: Option<RawSettings>,
    /// Limits; each has a default.
    limits: Option<RawConnectionPointLimits>,
    /// What stands between this connection point and the instances; links over HTTPS go through it.
    web_proxy: Option<Spanned<RawWebProxy>>,
    /// Where this connection point is administered; without it, nowhere.
    admin: Option<RawAdmin>,
    /// Has it renew its link certificate by itself, and those of instances over its links.
    pki: Option<RawPki>,
    /// The tokens that this site makes, for clients without a certificate.
    tokens: Option<RawTokens>,
    /// Where clients register by such a token, and renew their own: a service in this program.
    token_service: Option<RawTokenService>,
    /// Has this connection point send spans of requests to a collector of OpenTelemetry.
    telemetry: Option<RawTelemetry>,
}

/// The site's authority, where this machine may have its key.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "a `[pki]` table")]
struct RawPki {
    /// The certificate of the site's authority: a PEM file.
    ca: Spanned<PathBuf>,
    /// Private key of that certificate: a PEM file.
    ca_key: Spanned<PathBuf>,
}

impl RawPki {
    fn files(&self) -> IdentityFiles<'_> {
        IdentityFiles { certificate: &self.ca, key: &self.ca_key }
    }

    /// Judges that both files are there and belong together.
    fn judge(&self, source: &Source) -> Result<IdentityPaths, ConfigError> {
        self.files().read_matching(source)?;
        Ok(self.files().paths(source))
    }
}

/// What this side of each link shows and trusts.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "a `[link]` table")]
struct RawLink {
    /// Certificate chain, leaf first: a PEM file.
    certificate: Spanned<PathBuf>,
    /// Private key of that certificate: a PEM file.
    key: Spanned<PathBuf>,
    /// The authority that signed the instances' link certificates: a PEM file.
    site_ca: Spanned<PathBuf>,
    /// What that authority has taken back: a PEM file. Without it nobody asks.
    site_crl: Option<Spanned<PathBuf>>,
    /// The authority of whoever ends HTTPS on the way, if not `site_ca`: a PEM file.
    https_ca: Option<Spanned<PathBuf>>,
}

impl RawLink {
    fn files(&self) -> IdentityFiles<'_> {
        IdentityFiles { certificate: &self.certificate, key: &self.key }
    }

    /// TLS of links to instances that the site's authority vouches for.
    fn tls(
        &self,
        source: &Source,
        identity: &Identity,
        anchors: &TrustAnchors,
    ) -> Result<Arc<ClientConfig>, ConfigError> {
        link_client_config(identity, anchors).map_err(|error| match error {
            TlsSetupError::Verifier(_) => {
                site_error(source, &self.site_ca, self.site_crl.as_ref(), &error)
            }
            other => self.files().error(source, &other),
        })
    }

    /// The files that its TLS is made from.
    fn material(&self, source: &Source) -> ConnectionPointMaterial {
        ConnectionPointMaterial {
            link: self.files().paths(source),
            site: site_paths(source, &self.site_ca, self.site_crl.as_ref()),
            https_authority: source.resolve(self.https_authority().get_ref()),
        }
    }

    /// The authority that vouches for the certificates gateways show to clients.
    fn https_authority(&self) -> &Spanned<PathBuf> {
        self.https_ca.as_ref().unwrap_or(&self.site_ca)
    }

    /// TLS of the rung that looks as clients' HTTPS does.
    fn https_tls(&self, source: &Source) -> Result<Arc<ClientConfig>, ConfigError> {
        let authority = self.https_authority();
        backend_client_config(&trust_anchors(source, authority)?)
            .map_err(|error| certificate_error(source, authority, &error))
    }
}

/// About what is published to the gateway instances.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "a `[settings]` table")]
struct RawSettings {
    /// The highest version holds; without it, the time in milliseconds since 1970 of the last
    /// change of this file, or of one that it names in `[clients]` and `[[tenant]]`.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 9_223_372_036_854_775_807_i64)))]
    version: Option<Spanned<i64>>,
}

/// Reads a connection point's configuration file and everything it names.
///
/// Required: `name`; `[gateway]` with `host` and `instances` (optional: `link_port_base`,
/// `https_port_base`, `transport`, `quic`, `server_name`, `https_name`; `{instance}` in a name
/// stands for the number), or one `[[gateway]]` with `instance` and `host` (optional: `port`,
/// `https_port`, `transport`, `quic`, `server_name`, `https_name`) for each instance; `[link]` with
/// `certificate`, `key` and `site_ca` (optional: `site_crl`, `https_ca`). Optional: `site`, by
/// default `default`; up to 1,024 `[[endpoint]]` (`name`, `kind`, `role_id`,
/// `unsafe_allow_anonymous` or `methods`, `paths`, `request_body_bytes_max`), each with `backend`,
/// one URL or up to 16 of one site role, and, for `https://`, `backend_ca` (optional:
/// `backend_name`; `client_certificate` with `client_key`, or with a list of them, or a folder of
/// `NAME.pem` and `NAME-key.pem` alone; `[endpoint.limits]` with the keys of `[limits]` that begin
/// with `backend_`; `[endpoint.check]` with `path`, `status`, `interval_seconds`,
/// `timeout_seconds`); up to 64 `[[tenant]]` (`id`, `application_id`, `resource`), about which
/// gateways answer `AADAuthInfo`, and whose tokens count (`enabled`, `issuers`, `audiences`, `keys`
/// or `authority`); `[clients]` with `roots` and `intermediates` of certificates,
/// `revocation_lists` or `revocation = "off"`, `methods`, `strict` and `barred`, clients that may
/// not use the gateway; `[settings]` with `version`,
/// by default the time in milliseconds since 1970 when this file, or one that is published, was
/// changed last; `[limits]`, whose keys are the fields of
/// [`ConnectionPointLimits`](crate::connection_point::ConnectionPointLimits) with their unit;
/// `[admin]` with `listen`, an address of loopback; `[pki]` with `ca` and `ca_key`, the
/// site's authority, with which the program renews link certificates, its own and those of
/// gateways; `[tokens]` with `folder`, of signing keys and of what was issued and blocked,
/// `tenant`, a GUID that the site names itself by, and `store`, a database of PostgreSQL in place
/// of a file in that folder (`store_password_file`, `store_ca` or `unsafe_plain_store`);
/// `[token_service]` with `role_id` (optional: `name`, `methods`, `listen` with `certificate` and
/// `key`, `provider_ca`); `[telemetry]` with `endpoint` (optional: `ca`, `headers_file`,
/// `sample_ratio`, `service_name`); and `[web_proxy]`, with `url` (`http://host:port`) and, as they
/// apply, `user` with `password_file` and `bypass`, a list of hosts as in
/// [`Bypass`](crate::transport::Bypass), or with `from_environment = true` alone, which takes the
/// proxy from `environment` as in
/// [`WebProxy::from_environment`](crate::transport::WebProxy::from_environment).
///
/// `environment` is asked for nothing else, and not at all where the file does not say so.
///
/// Blocks on the file system; meant for start-up.
///
/// # Errors
///
/// [`ConfigError`] with every fault found. Nothing of a faulty file takes effect.
pub fn load_connection_point(
    path: &Path,
    environment: Environment<'_>,
) -> Result<LoadedConnectionPoint, ConfigError> {
    let source = Source::read(path)?;
    let raw: RawConnectionPoint = source.parse_on()?;

    let name = source.keep(name(&source, &raw.name));
    let site = raw.site.as_ref().map(|raw| source.keep(site(&source, raw)));
    let gateways = source.keep(raw.gateway.judge(&source));
    let tenants = tenant::tenants(&source, &raw.tenant);
    let clients = source.keep(clients(&source, &raw, tenants.is_some()));
    let modified = clients.iter().flatten().filter_map(|it| it.modified);
    let modified = modified.max().max(Some(source.modified()));
    let settings_version = source.keep(version(&source, raw.settings.as_ref(), modified));
    // Where whose clients count is wrong, endpoints are judged as if all did.
    let any = Methods::default();
    let counted = clients.as_ref().map_or(Some(&any), |it| it.as_ref().map(|it| &it.trust.methods));
    let limits = raw.limits.as_ref().map(|limits| limits.judge(&source)).unwrap_or_default();
    let web_proxy = raw.web_proxy.as_ref();
    let web_proxy =
        web_proxy.and_then(|raw| source.keep(web_proxy::judge(&source, raw, environment)));
    let tokens = raw.tokens.as_ref().and_then(|tokens| source.keep(tokens.judge(&source)));
    let telemetry = raw.telemetry.as_ref().and_then(|it| source.keep(it.judge(&source)));
    let (endpoints, token_service) = raw.endpoints(&source, counted);
    let admin = raw.admin(&source, token_service.as_ref());
    let tls = raw.tls(&source);
    let (Some(name), Some(gateways), Some(tenants)) = (name, gateways, tenants) else {
        return Err(source.faults());
    };
    let (Some(clients), Some(settings_version), Some(tls)) = (clients, settings_version, tls)
    else {
        return Err(source.faults());
    };
    source.check()?;

    let (clients, client_files) = clients.map(|it| (it.trust, it.files)).unzip();
    let client_files = client_files.unwrap_or_default();
    let warnings = warnings(&source, &raw, &tls.site, &client_files, tokens.as_ref());
    let config = ConnectionPointConfig {
        name,
        site: site.flatten().unwrap_or_else(|| SITE.to_owned()),
        settings_version,
        gateways,
        link_tls: tls.link,
        https_tls: tls.https,
        certificate_issuer: None,
        endpoints,
        tenants,
        clients,
        limits,
        web_proxy: web_proxy.flatten(),
        network: Network::default(),
    };
    if tokens.is_some() {
        check_room(&source, raw.clients.as_ref().map(Spanned::span), &config)?;
    }
    Ok(LoadedConnectionPoint {
        config,
        admin,
        authority: tls.authority,
        tokens,
        token_service,
        telemetry,
        material: raw.link.material(&source),
        client_files,
        backend_files: raw.endpoint.iter().map(|it| backend::files(&source, it)).collect(),
        warnings,
        places: raw.places(&source),
    })
}

/// What a connection point shows on its links, and whom it trusts there.
struct Tls {
    link: Arc<ClientConfig>,
    https: Arc<ClientConfig>,
    site: TrustAnchors,
    authority: Option<IdentityPaths>,
}

impl RawConnectionPoint {
    fn places(&self, source: &Source) -> Places {
        let version = self.settings.as_ref().and_then(|it| it.version.as_ref());
        Places {
            name: source.place(self.name.span()),
            gateways: source.place(self.gateway.span()),
            site_ca: source.place(self.link.site_ca.span()),
            version: version.map(|written| source.place(written.span())),
        }
    }

    /// Judges every certificate and key of its links. What is wrong is noted.
    fn tls(&self, source: &Source) -> Option<Tls> {
        let (link, site_crl) = (&self.link, self.link.site_crl.as_ref());
        let https = source.keep(link.https_tls(source));
        let identity = source.keep(link.files().read_matching(source));
        let site = source.keep(site_anchors(source, &link.site_ca, site_crl));
        let pki = self.pki.as_ref();
        let authority = pki.and_then(|pki| source.keep(pki.judge(source)));
        let site = site?;
        let link = source.keep(link.tls(source, &identity?, &site));
        Some(Tls { link: link?, https: https?, site, authority })
    }

    /// Judges each endpoint, and the token service beside them. What is wrong is noted.
    fn endpoints(
        &self,
        source: &Source,
        counted: Option<&Methods>,
    ) -> (Vec<SiteEndpoint>, Option<TokenServiceConfig>) {
        if let Some(beyond) = self.endpoint.get(ENDPOINTS_MAX) {
            source.note(source.invalid(
                beyond.name.span(),
                format!("a site publishes at most {ENDPOINTS_MAX} endpoints"),
                "remove this one and those after it",
            ));
        }
        let mut endpoints = Vec::new();
        let mut published = Vec::new();
        for raw in self.endpoint.iter().take(ENDPOINTS_MAX) {
            let (endpoint, backend) = (raw.endpoint(source, counted), backend(source, raw));
            let Some(endpoint) = endpoint else { continue };
            published.push((raw, endpoint.clone()));
            endpoints.extend(backend.map(|backend| SiteEndpoint { endpoint, backend }));
        }
        let others: Vec<_> = published.iter().map(|(_, endpoint)| endpoint.clone()).collect();
        endpoint::judge_map(source, published);
        let service = self.token_service.as_ref().and_then(|service| {
            source.keep(service.judge(source, self.tokens.is_some(), counted, &others))
        });
        (endpoints, service)
    }

    /// Judges where it is administered, beside where its token service listens.
    fn admin(
        &self,
        source: &Source,
        service: Option<&TokenServiceConfig>,
    ) -> Option<AdminListener> {
        let raw = self.admin.as_ref()?;
        let admin = source.keep(raw.judge(source))?;
        let service_span = self.token_service.as_ref().and_then(RawTokenService::listen_span);
        let intranet = service.and_then(|service| service.intranet.as_ref()).zip(service_span);
        let mut all = Vec::from_iter(
            intranet
                .map(|(intranet, span)| ("clients of the token service", intranet.listen, span)),
        );
        all.push(("administrators", admin.listen, raw.span()));
        listen::apart(source, &all);
        Some(admin)
    }
}

/// What deserves attention about a file that can be used.
fn warnings(
    source: &Source,
    raw: &RawConnectionPoint,
    anchors: &TrustAnchors,
    client_files: &ClientFiles,
    tokens: Option<&SiteTokens>,
) -> Vec<Warning> {
    let mut warnings = endpoint::warnings(source, &raw.endpoint);
    warnings.extend(client_files.warnings(SystemTime::now()));
    warnings.extend(raw.telemetry.iter().flat_map(|it| it.warnings(source)));
    let version = raw.settings.as_ref().and_then(|raw| raw.version.as_ref());
    warnings.extend(version_warning(source, version, client_files, tokens));
    warnings.extend(raw.pki.as_ref().and_then(|pki| pki.files().warning(source)));
    warnings.extend(raw.link.files().warning(source));
    warnings.extend(raw.token_service.as_ref().and_then(|service| service.warning(source)));
    let site_crl = raw.link.site_crl.as_ref();
    warnings.extend(revocation_warning(source, anchors, site_crl, SystemTime::now()));
    warnings.extend(raw.web_proxy.as_ref().and_then(|raw| web_proxy::warning(source, raw)));
    warnings
}

fn name(source: &Source, raw: &Spanned<String>) -> Result<String, ConfigError> {
    let name = raw.get_ref();
    if name.is_empty() || NAME_BYTES_MAX < name.len() || name.chars().any(char::is_control) {
        return Err(source.invalid(
            raw.span(),
            format!("a connection point's name must have 1 to {NAME_BYTES_MAX} octets of text"),
            "give a short name that no other connection point of the site has",
        ));
    }
    Ok(name.clone())
}

fn site(source: &Source, raw: &Spanned<String>) -> Result<String, ConfigError> {
    let site = raw.get_ref();
    if site.is_empty() || SITE_OCTETS_MAX < site.len() || site.chars().any(char::is_control) {
        return Err(source.invalid(
            raw.span(),
            format!("a site's name must have 1 to {SITE_OCTETS_MAX} octets of text"),
            "give the same short name at every connection point of the site, or remove the line",
        ));
    }
    Ok(site.clone())
}

/// Whose clients count, if anybody's do. What instances would say of them is asked only where no
/// tenant is wrong: they would say the same of that.
fn clients(
    source: &Source,
    raw: &RawConnectionPoint,
    are_tenants_good: bool,
) -> Result<Option<clients::Judged>, ConfigError> {
    if raw.clients.is_none() && raw.tenant.is_empty() && raw.tokens.is_none() {
        return Ok(None);
    }
    let (nothing, place) = (RawClients::default(), raw.clients.as_ref().map(Spanned::span));
    let written = raw.clients.as_ref().map_or(&nothing, Spanned::get_ref);
    let judged = written.judge(source, &raw.tenant, raw.tokens.is_some())?;
    let checked = if are_tenants_good { check_clients(&judged.trust) } else { Ok(()) };
    checked.map_err(|why| {
        source.invalid(
            place.unwrap_or(0..0),
            format!("no client could be judged by this: {why}"),
            "no instance would take such settings",
        )
    })?;
    Ok(Some(judged))
}

/// The version of what is published: as written, or when what is published was written last.
fn version(
    source: &Source,
    raw: Option<&RawSettings>,
    modified: Option<SystemTime>,
) -> Result<u64, ConfigError> {
    let Some(version) = raw.and_then(|raw| raw.version.as_ref()) else {
        let modified = modified.unwrap_or(source.modified());
        let since_1970 = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        return Ok(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX));
    };
    u64::try_from(*version.get_ref()).map_err(|_| {
        source.invalid(
            version.span(),
            "a version cannot be negative",
            "count up with each change, or remove the line: the time of the file's last change \
             then serves",
        )
    })
}

/// What deserves attention about the version of what is published: connection points that share a
/// store have one in common, and at others files of whose clients count change in vain.
fn version_warning(
    source: &Source,
    version: Option<&Spanned<i64>>,
    client_files: &ClientFiles,
    tokens: Option<&SiteTokens>,
) -> Option<Warning> {
    let is_shared = tokens.is_some_and(|tokens| tokens.store != SiteStore::File);
    let file = source.path().to_owned();
    match version {
        Some(version) if !is_shared && !client_files.files.is_empty() => {
            Some(Warning::VersionWritten { file, line: source.place(version.span()).line() })
        }
        None if is_shared => Some(Warning::VersionNotWritten { file }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{Site, message};

    const BACKEND: &str = "backend = \"http://127.0.0.1:8080\"";

    #[test]
    fn a_complete_file_yields_what_it_says() {
        let loaded = Site::new().connection_point_with(str::to_owned).unwrap();
        assert_eq!(loaded.config.name, "site-1");
        assert_eq!(loaded.config.gateways.len(), 2);
        let [endpoint] = &loaded.config.endpoints[..] else { panic!("one endpoint is written") };
        assert_eq!(endpoint.backend.urls, ["http://127.0.0.1:8080/"]);
        assert!(endpoint.backend.tls.is_none());
        let [Warning::AnonymousEndpoint { endpoint, line: 18, .. }] = &loaded.warnings[..] else {
            panic!("{:?}", loaded.warnings);
        };
        assert_eq!(endpoint, "mp");
        assert_eq!(loaded.config.site, "default");
    }

    #[test]
    fn a_file_without_endpoints_is_warned_about() {
        let loaded = Site::new()
            .connection_point_with(|text| text.split("[[endpoint]]").next().unwrap().to_owned())
            .unwrap();
        assert!(matches!(loaded.warnings[..], [Warning::NoEndpoints { .. }]));
    }

    #[test]
    fn a_site_has_1_to_64_octets() {
        for (len, accepted) in [(0, false), (1, true), (64, true), (65, false)] {
            let (site, name) = (Site::new(), "s".repeat(len));
            let loaded = site.connection_point_with(|text| format!("site = \"{name}\"\n{text}"));
            assert_eq!(loaded.is_ok(), accepted, "{len} octets");
            if let Ok(loaded) = loaded {
                assert_eq!(loaded.config.site, name);
            }
        }
    }

    #[test]
    fn a_version_is_taken_as_written_and_else_is_the_time_of_the_files_last_change() {
        let site = Site::new();
        let with = |line: &str| {
            let loaded = site.connection_point_with(|text| format!("{text}\n[settings]\n{line}\n"));
            loaded.map(|loaded| loaded.config.settings_version)
        };
        assert_eq!(with("version = 0").unwrap(), 0);
        assert_eq!(with("version = 9223372036854775807").unwrap(), i64::MAX.unsigned_abs());
        assert!(message(with("version = -1")).starts_with("a version cannot be negative\n"));
        assert!(message(with("versoin = 1")).starts_with("unknown key `versoin`"));
        with("").unwrap();
        let path = site.path("connection-point.toml");
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        let changed = UNIX_EPOCH + std::time::Duration::from_millis(4_102_444_800_123);
        file.set_modified(changed).unwrap();
        let loaded = load_connection_point(&path, &|_| None).unwrap();
        assert_eq!(loaded.config.settings_version, 4_102_444_800_123);
    }

    #[test]
    fn a_site_publishes_at_most_1024_endpoints() {
        let with = |endpoints: usize| {
            Site::new().connection_point_with(|text| {
                let (front, endpoint) = text.split_at(text.find("[[endpoint]]").unwrap());
                let each = (0..endpoints).map(|number| {
                    let named = endpoint.replace("\"mp\"", &format!("\"mp-{number}\""));
                    named.replace("72057594037927937", &number.to_string())
                });
                front.to_owned() + &each.collect::<String>()
            })
        };
        assert_eq!(with(1024).unwrap().config.endpoints.len(), 1024);
        let text = message(with(1025));
        assert!(text.starts_with("a site publishes at most 1024 endpoints\n"), "{text}");
        assert!(text.contains("\"mp-1024\""), "{text}");
    }

    #[test]
    fn an_https_backend_needs_its_authority_and_an_http_one_refuses_it() {
        let with = |backend: &str| {
            Site::new().connection_point_with(|text| text.replace(BACKEND, backend))
        };
        let https = "backend = \"https://mp.site\"";
        let loaded = with(&format!("{https}\nbackend_ca = \"site-ca.pem\"")).unwrap();
        assert!(loaded.config.endpoints[0].backend.tls.is_some());
        let text = message(with(https));
        assert!(text.starts_with("an https backend needs the certificate authority"), "{text}");
        let text = message(with(&format!("{BACKEND}\nbackend_ca = \"site-ca.pem\"")));
        assert!(text.starts_with("an http backend shows no certificate to verify"), "{text}");
        let text = message(with(&format!("{https}\nbackend_ca = \"absent.pem\"")));
        assert!(text.starts_with("cannot read the certificate `"), "{text}");
    }

    #[test]
    fn a_bad_backend_url_is_shown_with_what_to_write() {
        let site = Site::new();
        let text = message(site.connection_point_with(|text| {
            text.replace("http://127.0.0.1:8080", "127.0.0.1:8080/SMS_MP")
        }));
        assert!(text.starts_with("this is not the URL of a backend\n"), "{text}");
        assert!(text.contains(":20:11\n"), "{text}");
    }

    #[test]
    fn a_password_in_a_backend_url_is_not_repeated() {
        let site = Site::new();
        let text = message(
            site.connection_point_with(|text| text.replace("http://", "http://user:secret@")),
        );
        let expected = format!(
            "this is not the URL of a backend
  --> {}:20:11
   |
20 | backend = [redacted]
   |           ^^^^^^^^^^
  = help: it carries a user name; remove everything up to and including `@`",
            site.path("connection-point.toml").display()
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn an_endpoint_without_backend_is_refused() {
        let text = message(Site::new().connection_point_with(|text| text.replace(BACKEND, "")));
        assert!(text.starts_with("endpoint `mp` leads nowhere\n"), "{text}");
    }

    #[test]
    fn an_authority_and_its_key_must_belong_together() {
        let with = |key: &str| {
            let table = format!("[pki]\nca = \"link.pem\"\nca_key = {key:?}\n[[endpoint]]");
            let site = Site::new();
            let loaded = site.connection_point_with(|text| text.replace("[[endpoint]]", &table));
            (site.path("link.pem"), loaded)
        };
        let (certificate, loaded) = with("link-key.pem");
        assert_eq!(loaded.unwrap().authority.unwrap().certificate, certificate);
        let text = message(with("links-key.pem").1);
        assert!(text.starts_with("private key `links-key.pem` does not belong"), "{text}");
        let text = message(with("absent.pem").1);
        assert!(text.starts_with("cannot read the private key `"), "{text}");
    }

    #[test]
    fn names_have_1_to_64_octets() {
        for (len, accepted) in [(0, false), (1, true), (64, true), (65, false)] {
            let name = "n".repeat(len);
            let loaded = Site::new().connection_point_with(|text| text.replace("site-1", &name));
            assert_eq!(loaded.is_ok(), accepted, "{len} octets");
        }
    }

    #[test]
    fn a_key_of_another_certificate_is_refused_at_the_key() {
        let text = message(
            Site::new().connection_point_with(|text| text.replace("link-key.pem", "links-key.pem")),
        );
        assert!(text.starts_with("private key `links-key.pem` does not belong"), "{text}");
        assert!(text.contains(":10:7\n"), "{text}");
    }
}
