//! `[token_service]`: the site's token service, where it is published and where it listens.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;

use serde::Deserialize;

use super::clients::{RawMethod, methods};
use super::endpoint::{self, RawRoleId};
use super::error::{ConfigError, Place};
use super::gateway::address;
use super::listen;
use super::material::IdentityPaths;
use super::pem::{IdentityFiles, trust_anchors};
use super::source::Source;
use super::spanned::Spanned;
use super::warning::Warning;
use crate::auth::{Method, Methods};
use crate::policy::{Access, Endpoint, EndpointKind, RequestHeaders};
use crate::settings::ENDPOINTS_MAX;
use crate::transport::TrustAnchors;

/// What the endpoint is called unless the table says otherwise.
const NAME: &str = "token-service";

/// Octets that a request may have: a certificate is the longest part of one.
const REQUEST_BYTES_MAX: u64 = 64 * 1024;

/// `[token_service]` as written.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "a `[token_service]` table")]
pub(super) struct RawTokenService {
    /// The number in its URL, `/CCM_Proxy_ServerAuth/NUMBER/CCM_STS`. No endpoint has the same.
    /// Above 9223372036854775807 it stands in quotes.
    role_id: Spanned<RawRoleId>,
    /// A name for logs, which no endpoint has.
    #[cfg_attr(
        feature = "schema",
        schemars(length(min = 1, max = 64), extend("default" = "token-service"))
    )]
    name: Option<Spanned<String>>,
    /// By which methods a client may show who it is, of those that count at the site.
    #[cfg_attr(
        feature = "schema",
        schemars(length(min = 1), extend("uniqueItems" = true, "default" = ["entra", "site-token"]))
    )]
    methods: Option<Spanned<Vec<Spanned<RawMethod>>>>,
    /// Where clients of the site's own network reach it: IP address and port. Whoever does can
    /// register.
    listen: Option<Spanned<String>>,
    /// What it shows to them: a PEM file. Without it, on loopback alone.
    certificate: Option<Spanned<PathBuf>>,
    /// Private key of that certificate: a PEM file.
    key: Option<Spanned<PathBuf>>,
    /// By whom servers with keys of tenants are trusted, so that they are fetched: a PEM file.
    provider_ca: Option<Spanned<PathBuf>>,
}

/// The token service of a site.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TokenServiceConfig {
    /// What instances publish of it. What it leads to is in the connection point's own process.
    pub endpoint: Endpoint,
    /// Where clients of the site's own network reach it, if anywhere.
    pub intranet: Option<IntranetListener>,
    /// Whose certificates prove that a server is a tenant's identity provider. Without it, keys of
    /// tenants by `authority` are not fetched here.
    pub provider_trust: Option<TrustAnchors>,
}

/// Where clients of the site's own network reach the token service. Whoever does can register.
#[derive(Clone, Debug)]
pub struct IntranetListener {
    /// The address. Port 0 leaves the choice to the operating system.
    pub listen: SocketAddr,
    /// What it shows to clients; `None` on loopback alone: without TLS.
    pub identity: Option<IdentityPaths>,
    place: Place,
}

impl TokenServiceConfig {
    /// A service that is published by this endpoint, listens nowhere and fetches no keys.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, intranet: None, provider_trust: None }
    }
}

impl IntranetListener {
    /// The message that it could not be bound, at the line that asked for its address.
    pub fn bind_failed(&self, error: &io::Error) -> ConfigError {
        listen::bind_failed("the token service", self.listen, &self.place, error)
    }
}

impl RawTokenService {
    /// Judges the table, beside the `endpoints` that are published as well.
    pub(super) fn judge(
        &self,
        source: &Source,
        has_tokens: bool,
        counted: Option<&Methods>,
        endpoints: &[Endpoint],
    ) -> Result<TokenServiceConfig, ConfigError> {
        if !has_tokens {
            source.note(source.invalid(
                self.role_id.span(),
                "a token service issues tokens, and this site makes none",
                "add `[tokens]` with `folder` and `tenant`, or remove `[token_service]`",
            ));
        }
        let endpoint = source.keep(self.endpoint(source, counted));
        if let Some(endpoint) = &endpoint {
            source.keep(self.judge_beside(source, endpoint, endpoints));
        }
        let provider_ca = self.provider_ca.as_ref();
        let provider_trust = provider_ca.and_then(|file| source.keep(trust_anchors(source, file)));
        let intranet = source.keep(self.intranet(source));
        let (Some(endpoint), Some(intranet)) = (endpoint, intranet) else {
            return Err(source.faults());
        };
        Ok(TokenServiceConfig { endpoint, intranet, provider_trust })
    }

    fn endpoint(
        &self,
        source: &Source,
        counted: Option<&Methods>,
    ) -> Result<Endpoint, ConfigError> {
        let name = self.name.as_ref().map_or(NAME, |name| name.get_ref());
        if let Some(written) = &self.name {
            endpoint::judge_name(source, written)?;
        }
        let access = match &self.methods {
            None => {
                let usual = usual_methods();
                if counted.is_some_and(|counted| counted.within(&usual).is_none()) {
                    return Err(source.invalid(
                        self.role_id.span(),
                        "a token service is for clients with tokens, and none counts at this site",
                        "list `site-token` in `methods` of `[clients]`, or remove \
                         `[token_service]`",
                    ));
                }
                usual
            }
            Some(listed) => {
                let allowed = methods(source, listed)?;
                if counted.and_then(|counted| counted.within(&allowed)).is_none() {
                    return Err(source.invalid(
                        listed.span(),
                        "none of these methods counts at this site",
                        "list a method that `[clients]`, a `[[tenant]]` or `[tokens]` sets up",
                    ));
                }
                allowed
            }
        };
        Ok(Endpoint {
            name: name.to_owned(),
            kind: EndpointKind::TokenService,
            role_id: endpoint::role_id(source, &self.role_id)?,
            paths: None,
            request_body_bytes_max: Some(REQUEST_BYTES_MAX),
            request_headers: RequestHeaders::Open,
            access: Access::Clients(access),
        })
    }

    /// Judges that no other endpoint has its name or role id, and that there is room for it.
    fn judge_beside(
        &self,
        source: &Source,
        own: &Endpoint,
        others: &[Endpoint],
    ) -> Result<(), ConfigError> {
        if let Some(other) = others.iter().find(|it| it.role_id == own.role_id) {
            return Err(source.invalid(
                self.role_id.span(),
                format!("endpoint `{}` has this role id, too", other.name),
                "give a number that no `[[endpoint]]` has; it stands in the clients' URL",
            ));
        }
        if others.iter().any(|it| it.name == own.name) {
            let place = self.name.as_ref().map_or(self.role_id.span(), Spanned::span);
            return Err(source.invalid(
                place,
                format!("an endpoint is named `{}`, too", own.name),
                "give another `name`, here or there; names tell endpoints apart in logs",
            ));
        }
        if others.len() >= ENDPOINTS_MAX {
            return Err(source.invalid(
                self.role_id.span(),
                format!("a site publishes at most {ENDPOINTS_MAX} endpoints, and this is one more"),
                "remove an `[[endpoint]]`",
            ));
        }
        Ok(())
    }

    fn intranet(&self, source: &Source) -> Result<Option<IntranetListener>, ConfigError> {
        let (written, files) = match (&self.listen, &self.certificate, &self.key) {
            (None, None, None) => return Ok(None),
            (None, Some(file), _) | (None, None, Some(file)) => {
                return Err(source.invalid(
                    file.span(),
                    "this is shown to clients of the site's own network, and it listens nowhere",
                    "add `listen`, an address of this machine and a port, or remove the line",
                ));
            }
            (Some(written), Some(certificate), Some(key)) => {
                (written, Some(IdentityFiles { certificate, key }))
            }
            (Some(written), None, None) => (written, None),
            (Some(_), Some(file), None) | (Some(_), None, Some(file)) => {
                return Err(source.invalid(
                    file.span(),
                    "`certificate` and `key` go together",
                    "add the other one, a PEM file",
                ));
            }
        };
        let listen = address(source, written)?;
        if files.is_none() && !listen.ip().is_loopback() {
            return Err(source.invalid(
                written.span(),
                format!("{listen} can be reached from other machines, and has no TLS"),
                "add `certificate` and `key`, PEM files; without them tokens would go over the \
                 network for all to read",
            ));
        }
        if let Some(files) = files {
            files.read_matching(source)?;
        }
        let identity = files.map(|files| files.paths(source));
        Ok(Some(IntranetListener { listen, identity, place: source.place(written.span()) }))
    }

    /// Where it listens, if that is written.
    pub(super) fn listen_span(&self) -> Option<Range<usize>> {
        self.listen.as_ref().map(Spanned::span)
    }

    /// What deserves attention about it.
    pub(super) fn warning(&self, source: &Source) -> Option<Warning> {
        Warning::of_key(&source.resolve(self.key.as_ref()?.get_ref()))
    }
}

/// What opens the service, unless `methods` says otherwise.
// Our choice: no certificate. Each door asks for a token; beside a certificate any text would pass
// for one, and the service tells by the token who asks too often.
fn usual_methods() -> Methods {
    Methods::new(&[Method::Entra, Method::SiteToken]).expect("two methods, each once")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LoadedConnectionPoint;
    use crate::config::testing::{Site, message};

    const TOKENS: &str =
        "\n[tokens]\nfolder = \"tokens\"\ntenant = \"0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9\"\n";

    fn with(lines: &str) -> Result<LoadedConnectionPoint, ConfigError> {
        let table = format!("{TOKENS}\n[token_service]\nrole_id = 8\n{lines}\n");
        Site::new().connection_point_with(|text| text.to_owned() + &table)
    }

    fn service(lines: &str) -> TokenServiceConfig {
        with(lines).unwrap().token_service.unwrap()
    }

    #[test]
    fn a_token_service_is_published_for_clients_and_listens_nowhere_unless_told() {
        let found = service("");
        let endpoint = &found.endpoint;
        assert_eq!((endpoint.name.as_str(), endpoint.role_id), ("token-service", 8));
        assert_eq!(endpoint.kind, EndpointKind::TokenService);
        assert_eq!(endpoint.access, Access::Clients(usual_methods()));
        assert!(!usual_methods().contains(Method::Certificate));
        assert_eq!(endpoint.request_body_bytes_max, Some(65_536));
        assert!(found.intranet.is_none() && found.provider_trust.is_none());
        assert_eq!(service("name = \"sts\"").endpoint.name, "sts");
        let only = service("methods = [\"site-token\"]").endpoint.access;
        assert_eq!(only, Access::Clients(Methods::new(&[Method::SiteToken]).unwrap()));
        let loaded = Site::new().connection_point_with(|text| text.to_owned() + TOKENS).unwrap();
        assert!(loaded.token_service.is_none());
    }

    #[test]
    fn it_listens_with_a_certificate_and_on_loopback_without() {
        let plain = service("listen = \"127.0.0.1:0\"").intranet.unwrap();
        assert!(plain.listen.ip().is_loopback() && plain.identity.is_none());
        let files = "certificate = \"link.pem\"\nkey = \"link-key.pem\"";
        let open = service(&format!("listen = \"0.0.0.0:8444\"\n{files}")).intranet.unwrap();
        assert_eq!((open.listen.port(), open.identity.is_some()), (8444, true));
        for (lines, says) in [
            ("listen = \"0.0.0.0:8444\"", "0.0.0.0:8444 can be reached from other machines"),
            ("listen = \"here\"", "`here` is not an address to listen on"),
            (files, "this is shown to clients of the site's own network, and it listens nowhere"),
            ("key = \"link-key.pem\"", "this is shown to clients of the site's own network"),
            (
                "listen = \"127.0.0.1:0\"\nkey = \"link-key.pem\"",
                "`certificate` and `key` go together",
            ),
            (
                "listen = \"127.0.0.1:0\"\ncertificate = \"link.pem\"\nkey = \"links-key.pem\"",
                "private key `links-key.pem` does not belong to certificate `link.pem`",
            ),
            ("provider_ca = \"absent.pem\"", "cannot read the certificate"),
        ] {
            let text = message(with(lines));
            assert!(text.starts_with(says), "{lines}: {text}");
        }
    }

    #[test]
    fn what_cannot_be_published_is_shown_with_what_to_write() {
        for (lines, says) in [
            ("name = \"mp\"", "an endpoint is named `mp`, too"),
            ("name = \"\"", "an endpoint's name must have"),
            ("methods = [\"certificate\"]", "none of these methods counts at this site"),
            ("kind = \"content\"", "unknown key `kind`"),
        ] {
            let text = message(with(lines));
            assert!(text.starts_with(says), "{lines}: {text}");
        }
        let certificates = "methods = [\"certificate\"]\nroots = \"site-ca.pem\"";
        let text = message(with(&format!("[clients]\n{certificates}\nrevocation = \"off\"")));
        assert!(text.starts_with("a token service is for clients with tokens"), "{text}");
        let table = |id: &str| format!("{TOKENS}\n[token_service]\nrole_id = {id}\n");
        let site = Site::new();
        let of =
            |id: &str| message(site.connection_point_with(|text| text.to_owned() + &table(id)));
        assert!(of("72057594037927937").starts_with("endpoint `mp` has this role id, too"));
        assert!(of("-1").starts_with("this is not a role id"));
        let alone = "\n[token_service]\nrole_id = 8\n";
        let text = message(site.connection_point_with(|text| text.to_owned() + alone));
        assert!(text.starts_with("a token service issues tokens, and this site makes none"));
    }
}
