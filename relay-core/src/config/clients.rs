//! Whose clients count: `[clients]` and what `[[tenant]]` says of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use serde::Deserialize;

use super::client_files::{ClientFiles, ClientList};
use super::error::ConfigError;
use super::pem::{certificate_error, revocation_lists};
use super::source::{Source, changed_at};
use super::spanned::Spanned;
use super::tenant::RawTenant;
use crate::auth::{KEY_SET_OCTETS_MAX, KeySet, Method, Methods, Strictness};
use crate::settings::{
    BARRED_MAX, BarredClient, ClientTrust, KeySource, LISTS_MAX, ListSource, PublishedCertificates,
    Revocation, TRUSTED_MAX, TenantTrust,
};
use crate::transport::{read_certificates, require_file};

/// The `[clients]` table as written.
#[derive(Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "a `[clients]` table")]
pub(super) struct RawClients {
    /// The order in which methods are tried; without it, Entra ID, certificate, site token, as far
    /// as they are set up.
    #[cfg_attr(feature = "schema", schemars(length(min = 1), extend("uniqueItems" = true)))]
    methods: Option<Spanned<Vec<Spanned<RawMethod>>>>,
    /// Whether a request is refused for the first thing that proves nothing, whatever else it
    /// shows.
    #[cfg_attr(feature = "schema", schemars(extend("default" = false)))]
    strict: Option<bool>,
    /// The authorities whose certificates count: a PEM file.
    roots: Option<Spanned<PathBuf>>,
    /// Authorities below them that clients need not show: a PEM file.
    intermediates: Option<Spanned<PathBuf>>,
    /// Whether revocation lists are asked. A certificate whose list is missing is refused.
    #[cfg_attr(feature = "schema", schemars(extend("default" = "on")))]
    revocation: Option<Spanned<RawRevocation>>,
    /// A list of each authority: a file (PEM or DER), or a URL that instances with `[fetch]` ask.
    revocation_lists: Option<Spanned<Vec<Spanned<String>>>>,
    /// Who may not use the gateway: method and client, as `auth` and `who` of the access log have
    /// them, such as `certificate:CN=a device`.
    #[cfg_attr(feature = "schema", schemars(length(max = 16_384)))]
    barred: Option<Spanned<Vec<Spanned<String>>>>,
}

/// The name of a method.
#[derive(Clone, Copy, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawMethod {
    /// A token of a tenant of Entra ID.
    Entra,
    /// A certificate that an authority of `roots` has signed.
    Certificate,
    /// A token of the site.
    SiteToken,
}

#[derive(Clone, Copy, Deserialize, Eq, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
enum RawRevocation {
    /// Lists are asked.
    On,
    /// Nobody asks: a certificate that was stolen counts until it is over.
    Off,
}

impl RawMethod {
    fn method(self) -> Method {
        match self {
            Self::Entra => Method::Entra,
            Self::Certificate => Method::Certificate,
            Self::SiteToken => Method::SiteToken,
        }
    }
}

/// The methods of a list.
pub(super) fn methods(
    source: &Source,
    listed: &Spanned<Vec<Spanned<RawMethod>>>,
) -> Result<Methods, ConfigError> {
    let order: Vec<_> = listed.get_ref().iter().map(|it| it.get_ref().method()).collect();
    Methods::new(&order).map_err(|why| {
        source.invalid(
            listed.span(),
            why.to_string(),
            "list each of \"entra\", \"certificate\" and \"site-token\" at most once, in the order \
             in which they are tried",
        )
    })
}

/// What is published of clients, and when any file of it was changed last.
pub(super) struct Judged {
    pub(super) trust: ClientTrust,
    pub(super) modified: Option<SystemTime>,
    pub(super) files: ClientFiles,
}

impl RawClients {
    /// Judges whose clients count; `has_tokens` if the site issues tokens.
    pub(super) fn judge(
        &self,
        source: &Source,
        tenants: &[RawTenant],
        has_tokens: bool,
    ) -> Result<Judged, ConfigError> {
        let keys = tenants.iter().filter_map(|it| it.keys.as_ref().map(|it| it.get_ref().clone()));
        let has_tenants = !tenants.is_empty();
        let tenants: Vec<_> = tenants.iter().filter_map(|it| it.trust(source)).collect();
        let certificates = source.keep(self.certificates(source));
        let methods = self.methods(source, |method| match method {
            Method::Entra => has_tenants,
            Method::Certificate => self.roots.is_some(),
            Method::SiteToken => has_tokens,
        });
        let methods = source.keep(methods);
        let strictness = match self.strict {
            Some(true) => Strictness::Refuse,
            Some(false) | None => Strictness::FallThrough,
        };
        let barred = source.keep(self.barred(source));
        let lists = self.lists(source);
        let (Some(certificates), Some(methods), Some(barred)) = (certificates, methods, barred)
        else {
            return Err(source.faults());
        };
        let trust =
            ClientTrust { methods, strictness, certificates, tenants, tokens: None, barred };
        let files: Vec<_> = keys.chain(self.files()).map(|file| source.resolve(&file)).collect();
        let modified = files.iter().filter_map(|file| changed_at(file)).max();
        let files = ClientFiles { files, lists };
        Ok(Judged { trust, modified, files })
    }

    /// The methods that count: those that are listed, or all that the site has set up.
    fn methods(
        &self,
        source: &Source,
        is_set_up: impl Fn(Method) -> bool,
    ) -> Result<Methods, ConfigError> {
        let Some(listed) = &self.methods else {
            let set_up: Vec<_> = Method::ALL.into_iter().filter(|it| is_set_up(*it)).collect();
            // With none, no endpoint is for clients; that is judged there.
            return Ok(Methods::new(&set_up).unwrap_or_default());
        };
        let mut is_usable = true;
        for written in listed.get_ref() {
            let method = written.get_ref().method();
            if is_set_up(method) {
                continue;
            }
            let missing = match method {
                Method::Entra => "add a `[[tenant]]`",
                Method::Certificate => "add `roots`, a PEM file with the authorities that count",
                Method::SiteToken => "add `[tokens]`, with which the site issues tokens",
            };
            is_usable = false;
            source.note(source.invalid(
                written.span(),
                "no client could ever show who it is by this method",
                format!("{missing}, or remove the method"),
            ));
        }
        if is_usable { methods(source, listed) } else { Err(source.faults()) }
    }

    /// The clients that may not use the gateway.
    fn barred(&self, source: &Source) -> Result<Vec<BarredClient>, ConfigError> {
        let Some(listed) = &self.barred else { return Ok(Vec::new()) };
        let count = listed.get_ref().len();
        if count > BARRED_MAX {
            return Err(source.invalid(
                listed.span(),
                format!("{count} clients are barred, and may be {BARRED_MAX}"),
                "block their tokens (`relay token block`) or revoke their certificates instead",
            ));
        }
        let client = |written: &Spanned<String>| {
            written.get_ref().parse().map_err(|_| {
                source.invalid(
                    written.span(),
                    "this names no client",
                    "write the method and the client as `auth` and `who` of the access log have \
                     them, such as \"certificate:CN=a device\" or \"site-token:client GUID\"",
                )
            })
        };
        Ok(listed.get_ref().iter().filter_map(|written| source.keep(client(written))).collect())
    }

    fn certificates(&self, source: &Source) -> Result<Option<PublishedCertificates>, ConfigError> {
        let Some(roots) = &self.roots else {
            let alone = [
                self.intermediates.as_ref().map(Spanned::span),
                self.revocation.as_ref().map(Spanned::span),
                self.revocation_lists.as_ref().map(Spanned::span),
            ];
            return match alone.into_iter().flatten().next() {
                None => Ok(None),
                Some(span) => Err(source.invalid(
                    span,
                    "this says how certificates of clients are judged, and none counts",
                    "add `roots`, a PEM file with the authorities that count, or remove the line",
                )),
            };
        };
        let intermediates = match &self.intermediates {
            Some(file) => source.keep(authorities(source, file)),
            None => Some(Vec::new()),
        };
        let roots = source.keep(authorities(source, roots));
        let revocation = source.keep(self.revocation(source));
        let (Some(roots), Some(intermediates), Some(revocation)) =
            (roots, intermediates, revocation)
        else {
            return Err(source.faults());
        };
        Ok(Some(PublishedCertificates { roots, intermediates, revocation }))
    }

    fn revocation(&self, source: &Source) -> Result<Revocation, ConfigError> {
        let is_off = self.revocation.as_ref().is_some_and(|it| *it.get_ref() == RawRevocation::Off);
        let listed = self.revocation_lists.as_ref();
        let listed = listed.filter(|lists| !lists.get_ref().is_empty());
        match (is_off, listed) {
            (true, None) => Ok(Revocation::Off),
            (true, Some(lists)) => Err(source.invalid(
                lists.span(),
                "revocation lists are named, and nobody would look at them",
                "remove `revocation = \"off\"`, or the lists",
            )),
            (false, Some(lists)) => lists_of(source, lists),
            (false, None) => {
                let place = self.revocation.as_ref().map(Spanned::span);
                let roots = self.roots.as_ref().map(Spanned::span);
                Err(source.invalid(
                    place.or(roots).unwrap_or(0..0),
                    "without a revocation list every certificate of a client is refused",
                    "name the lists of all authorities, files or URLs, in `revocation_lists`, or \
                     say `revocation = \"off\"`: a certificate that was stolen then counts until \
                     it is over",
                ))
            }
        }
    }

    /// The revocation lists that files hold, with their times.
    fn lists(&self, source: &Source) -> Vec<ClientList> {
        let named = self.revocation_lists.iter().flat_map(Spanned::get_ref);
        let mut lists = Vec::new();
        for written in named.filter(|it| !is_url(it.get_ref().as_ref())) {
            let file = Spanned::new(written.span(), PathBuf::from(written.get_ref()));
            let path = source.resolve(file.get_ref());
            let Some(read) = source.keep(revocation_lists(source, &file)) else { continue };
            lists.extend(read.iter().filter_map(|der| ClientList::read(path.clone(), der)));
        }
        lists
    }

    /// The files that are published.
    fn files(&self) -> impl Iterator<Item = PathBuf> {
        let lists = self.revocation_lists.iter().flat_map(Spanned::get_ref);
        let lists = lists.map(|it| PathBuf::from(it.get_ref())).filter(|it| !is_url(it));
        let files = self.roots.iter().chain(&self.intermediates).map(|it| it.get_ref().clone());
        files.chain(lists)
    }
}

fn is_url(written: &Path) -> bool {
    written.to_str().is_some_and(|it| it.starts_with("http://") || it.starts_with("https://"))
}

fn authorities(source: &Source, file: &Spanned<PathBuf>) -> Result<Vec<Bytes>, ConfigError> {
    let all = read_certificates(&source.resolve(file.get_ref()))
        .map_err(|error| certificate_error(source, file, &error))?;
    let all: Vec<_> = all.iter().map(|it| Bytes::copy_from_slice(it)).collect();
    if all.len() > TRUSTED_MAX {
        return Err(source.invalid(
            file.span(),
            format!("the file has {} certificates, and may have {TRUSTED_MAX}", all.len()),
            "leave in those of authorities that issue certificates to clients",
        ));
    }
    Ok(all)
}

fn lists_of(
    source: &Source,
    listed: &Spanned<Vec<Spanned<String>>>,
) -> Result<Revocation, ConfigError> {
    let mut lists = Vec::new();
    for written in listed.get_ref() {
        if is_url(written.get_ref().as_ref()) {
            lists.push(ListSource::Url(written.get_ref().clone()));
        } else {
            let file = Spanned::new(written.span(), PathBuf::from(written.get_ref()));
            let Some(read) = source.keep(revocation_lists(source, &file)) else { continue };
            lists.extend(read.into_iter().map(ListSource::Der));
        }
    }
    if lists.len() > LISTS_MAX {
        return Err(source.invalid(
            listed.span(),
            format!("there are {} revocation lists, and may be {LISTS_MAX}", lists.len()),
            "leave in those of authorities that issue certificates to clients",
        ));
    }
    Ok(Revocation::On(lists))
}

impl RawTenant {
    /// Judges how tokens of the tenant count. What is wrong is noted.
    fn trust(&self, source: &Source) -> Option<TenantTrust> {
        let issuers = source.keep(self.issuers(source));
        let keys = source.keep(self.keys(source, issuers.as_deref().unwrap_or(&[])));
        let tenant = self.judge(source)?;
        let audiences = match &self.audiences {
            Some(listed) => listed.iter().map(|it| it.get_ref().clone()).collect(),
            None => vec![tenant.resource],
        };
        Some(TenantTrust {
            id: tenant.id,
            is_enabled: self.enabled.unwrap_or(true),
            keys: keys?,
            issuers: issuers?,
            audiences,
        })
    }

    fn keys(
        &self,
        source: &Source,
        issuers: &[crate::auth::Issuer],
    ) -> Result<KeySource, ConfigError> {
        match (&self.keys, &self.authority) {
            (Some(_), Some(authority)) => Err(source.invalid(
                authority.span(),
                "the keys of this tenant are in a file, and are not fetched as well",
                "remove `keys` or `authority`",
            )),
            (Some(file), None) => key_set(source, file),
            (None, Some(authority)) => Ok(KeySource::Authority(authority.get_ref().clone())),
            (None, None) => {
                let is_government = issuers.contains(&crate::auth::Issuer::Government);
                let host = if is_government { "us" } else { "com" };
                Ok(KeySource::Authority(format!("https://login.microsoftonline.{host}")))
            }
        }
    }
}

fn key_set(source: &Source, file: &Spanned<PathBuf>) -> Result<KeySource, ConfigError> {
    let path = source.resolve(file.get_ref());
    let text = require_file(&path).and_then(|()| fs::read(&path)).map_err(|error| {
        source.invalid(
            file.span(),
            format!("cannot read the key set `{}`: {error}", path.display()),
            "check the path and its permissions; a relative path starts at the folder of this file",
        )
    })?;
    KeySet::read(&text).map_err(|why| {
        source.invalid(
            file.span(),
            format!("`{}` is no key set: {why}", path.display()),
            format!(
                "give the JSON that the tenant's `jwks_uri` answers, at most {KEY_SET_OCTETS_MAX} \
                 octets, or remove the line to have instances fetch it"
            ),
        )
    })?;
    Ok(KeySource::Published(text.into()))
}

#[cfg(test)]
mod tests;
