//! The backends of an `[[endpoint]]`: where they are, who they are, and what they are shown.

use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use http::uri::PathAndQuery;
use rustls::pki_types::DnsName;
use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};

use super::backend_url::{BackendUrlError, parse_backend_url};
use super::endpoint::RawEndpoint;
use super::error::{ConfigError, Invalid};
use super::limits::{Key, Number};
use super::pem::{IdentityFiles, certificate_error, trust_anchors};
use super::source::Source;
use super::spanned::Spanned;
use super::warning::Warning;
use crate::connection_point::{BACKENDS_MAX, BackendCheck, BackendConfig, BackendLimits};
use crate::transport::{
    CLIENT_CERTIFICATES_MAX, ClientCertificates, Identity, backend_client_config_showing,
};

/// What the private key of `NAME.pem` is called in a folder of candidates.
const KEY_SUFFIX: &str = "-key.pem";

/// By which certificates the backends of an endpoint are trusted, and which they are shown.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct BackendFiles {
    /// Whom they are trusted by, if they are of `https`.
    pub authority: Option<PathBuf>,
    /// What they are shown if they ask.
    pub certificates: Vec<PathBuf>,
}

/// A text, or a list of them, each with its place.
pub(super) struct OneOrMany(pub(super) Vec<Spanned<String>>);

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;

        impl<'de> Visitor<'de> for Texts {
            type Value = OneOrMany;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text in quotes, or a list of them")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<OneOrMany, E> {
                // The whole value is the one text: its place is that of the value.
                Ok(OneOrMany(vec![Spanned::new(0..0, text.to_owned())]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMany, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = list.next_element()? {
                    texts.push(text);
                }
                Ok(OneOrMany(texts))
            }
        }

        deserializer.deserialize_any(Texts)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for OneOrMany {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "OneOrMany".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": ["string", "array"], "items": { "type": "string" } })
    }
}

/// Each text of `written` with its place.
fn texts(written: &Spanned<OneOrMany>) -> Vec<Spanned<String>> {
    let each = written.get_ref().0.iter().map(|text| {
        let span = if text.span().is_empty() { written.span() } else { text.span() };
        Spanned::new(span, text.get_ref().clone())
    });
    each.collect()
}

/// `[endpoint.limits]` as written.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[allow(clippy::struct_field_names, reason = "its keys are named as in `[limits]`")]
#[serde(deny_unknown_fields, expecting = "an `[endpoint.limits]` table")]
pub(super) struct RawBackendLimits {
    /// Seconds to connect to a backend.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 60)))]
    backend_connect_seconds: Number,
    /// Seconds from a forwarded request to the head of the answer. It is published, and instances
    /// wait 3 s longer.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 3600)))]
    backend_answer_seconds: Number,
    /// Connections open at once to each backend.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 65_536)))]
    backend_connections_max: Number,
    /// Idle connections kept to each backend.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 65_536)))]
    backend_idle_max: Number,
    /// Seconds that an idle connection to a backend is kept.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 3600)))]
    backend_idle_seconds: Number,
    /// Requests that may wait for one of them; what comes beyond is answered 503.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 65_536)))]
    backend_wait_max: Number,
    /// Seconds that each may wait before it is answered 503.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 300)))]
    backend_wait_seconds: Number,
    /// Failures one after the other before a backend is left alone for a while.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1000)))]
    backend_failures_max: Number,
    /// Seconds that it is left alone at first; twice as long each time, 300 at most.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 300)))]
    backend_rest_seconds: Number,
}

/// What a limit towards backends may be, in `[limits]` and in `[endpoint.limits]`.
pub(super) mod range {
    use super::RangeInclusive;

    pub(in crate::config) const CONNECT: RangeInclusive<u32> = 1..=60;
    pub(in crate::config) const ANSWER: RangeInclusive<u32> = 1..=3600;
    pub(in crate::config) const CONNECTIONS: RangeInclusive<u32> = 1..=65_536;
    pub(in crate::config) const IDLE_COUNT: RangeInclusive<u32> = 0..=65_536;
    pub(in crate::config) const IDLE: RangeInclusive<u32> = 1..=3600;
    pub(in crate::config) const WAITING: RangeInclusive<u32> = 0..=65_536;
    pub(in crate::config) const WAIT: RangeInclusive<u32> = 1..=300;
    pub(in crate::config) const FAILURES: RangeInclusive<u32> = 1..=1000;
    pub(in crate::config) const REST: RangeInclusive<u32> = 1..=300;
}

impl RawBackendLimits {
    fn judge(&self, source: &Source) -> BackendLimits {
        let number = |name, written, range: RangeInclusive<u32>| {
            Key { source, name, written }.within(&range)
        };
        let seconds = |name, written, range| {
            let seconds: Option<u32> = number(name, written, range);
            seconds.map(|seconds| Duration::from_secs(seconds.into()))
        };
        let count = |name, written, range| {
            // A `u32` that no `usize` holds is above every range here on such a machine as well.
            number(name, written, range).and_then(|count| usize::try_from(count).ok())
        };
        BackendLimits {
            connect: seconds(
                "backend_connect_seconds",
                &self.backend_connect_seconds,
                range::CONNECT,
            ),
            answer: seconds("backend_answer_seconds", &self.backend_answer_seconds, range::ANSWER),
            connections_max: count(
                "backend_connections_max",
                &self.backend_connections_max,
                range::CONNECTIONS,
            ),
            idle_max: count("backend_idle_max", &self.backend_idle_max, range::IDLE_COUNT),
            idle: seconds("backend_idle_seconds", &self.backend_idle_seconds, range::IDLE),
            wait_max: count("backend_wait_max", &self.backend_wait_max, range::WAITING),
            wait: seconds("backend_wait_seconds", &self.backend_wait_seconds, range::WAIT),
            failures_max: number(
                "backend_failures_max",
                &self.backend_failures_max,
                range::FAILURES,
            ),
            rest: seconds("backend_rest_seconds", &self.backend_rest_seconds, range::REST),
        }
    }
}

/// `[endpoint.check]` as written.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "an `[endpoint.check]` table")]
pub(super) struct RawCheck {
    /// What is asked for, by GET, as in `/SMS_MP/.sms_aut?MPLIST`.
    #[cfg_attr(feature = "schema", schemars(extend("pattern" = "^/")))]
    path: Spanned<String>,
    /// The status that is expected.
    #[cfg_attr(feature = "schema", schemars(range(min = 200, max = 599), extend("default" = 200)))]
    status: Number,
    /// Seconds between two such requests.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 3600), extend("default" = 10)))]
    interval_seconds: Number,
    /// Seconds for the answer.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 60), extend("default" = 5)))]
    timeout_seconds: Number,
}

impl RawCheck {
    fn judge(&self, source: &Source) -> Result<BackendCheck, ConfigError> {
        let number = |name, written, range| Key { source, name, written }.within(&range);
        let status = number("status", &self.status, 200..=599);
        let interval = number("interval_seconds", &self.interval_seconds, 1..=3600);
        let timeout = number("timeout_seconds", &self.timeout_seconds, 1..=60);
        let path = self.path.get_ref();
        let target = path.parse::<PathAndQuery>().ok().filter(|_| path.starts_with('/'));
        let target = target.ok_or_else(|| {
            source.invalid(
                self.path.span(),
                "this is not a path",
                "give what is asked for at the backend, as in `/SMS_MP/.sms_aut?MPLIST`",
            )
        })?;
        let mut check = BackendCheck::new(target);
        if let Some(status) = status {
            check.status = u16::try_from(status).unwrap_or(check.status);
        }
        if let Some(seconds) = interval {
            check.interval = Duration::from_secs(seconds.into());
        }
        if let Some(seconds) = timeout {
            check.timeout = Duration::from_secs(seconds.into());
        }
        Ok(check)
    }
}

/// Judges where an endpoint leads. What is wrong is noted.
pub(super) fn backend(source: &Source, raw: &RawEndpoint) -> Option<BackendConfig> {
    let name = raw.backend_name.as_ref();
    let name = name.and_then(|name| source.keep(called(source, name)));
    let limits = raw.limits.as_ref().map(|limits| limits.judge(source));
    let check = raw.check.as_ref().and_then(|check| source.keep(check.judge(source)));
    let Some(written) = &raw.backend else {
        source.note(source.invalid(
            raw.name.span(),
            format!("endpoint `{}` leads nowhere", raw.name.get_ref()),
            "add `backend = \"http://host:port\"`, the site role's own address",
        ));
        return None;
    };
    let Some(urls) = source.keep(urls(source, written)) else {
        // What it is shown can be judged all the same.
        raw.backend_ca.as_ref().and_then(|file| source.keep(trust_anchors(source, file)));
        source.keep(certificates(source, raw));
        return None;
    };
    let mut config = source.keep(reached(source, raw, written, urls))?;
    config.name = name;
    config.limits = limits.unwrap_or(config.limits);
    config.check = check;
    Some(config)
}

/// How the places `urls` of an endpoint are reached.
fn reached(
    source: &Source,
    raw: &RawEndpoint,
    written: &Spanned<OneOrMany>,
    urls: Vec<Uri>,
) -> Result<BackendConfig, ConfigError> {
    let is_https = urls.iter().any(|url| url.scheme_str() == Some("https"));
    let mut config = match (is_https, &raw.backend_ca) {
        (true, Some(file)) => secured(source, raw, file, urls[0].clone())?,
        (true, None) => {
            return Err(source.invalid(
                written.span(),
                "an https backend needs the certificate authority to trust",
                "add `backend_ca = \"file.pem\"`, the authority that signed the backend's \
                 certificate",
            ));
        }
        (false, Some(file)) => {
            return Err(source.invalid(
                file.span(),
                "an http backend shows no certificate to verify",
                "remove `backend_ca`, or make the backend's URL begin with `https://`",
            ));
        }
        (false, None) => plain(source, raw, urls[0].clone())?,
    };
    config.urls = urls;
    Ok(config)
}

fn urls(source: &Source, written: &Spanned<OneOrMany>) -> Result<Vec<Uri>, ConfigError> {
    let texts = texts(written);
    if texts.is_empty() || BACKENDS_MAX < texts.len() {
        return Err(source.invalid(
            written.span(),
            format!("an endpoint has 1 to {BACKENDS_MAX} backends, not {}", texts.len()),
            "list places of one and the same site role; another role is another [[endpoint]]",
        ));
    }
    let mut urls: Vec<Uri> = Vec::new();
    for text in &texts {
        let Some(url) = source.keep(url(source, text)) else { continue };
        if urls.contains(&url) {
            return Err(source.invalid(
                text.span(),
                "this backend is listed twice",
                "list each place once; requests are spread evenly",
            ));
        }
        if urls.first().is_some_and(|first| first.scheme() != url.scheme()) {
            return Err(source.invalid(
                text.span(),
                "the backends of one endpoint are all http or all https",
                "write each URL with the same scheme",
            ));
        }
        urls.push(url);
    }
    // One that is none was noted.
    if urls.is_empty() { Err(source.faults()) } else { Ok(urls) }
}

fn url(source: &Source, text: &Spanned<String>) -> Result<Uri, ConfigError> {
    parse_backend_url(text.get_ref()).map_err(|error| {
        let place = source.place(text.span());
        let place = match error {
            BackendUrlError::Credentials => place.redacted(),
            _ => place,
        };
        let problem = "this is not the URL of a backend".to_owned();
        ConfigError::Invalid(Box::new(Invalid { problem, place, help: error.to_string() }))
    })
}

fn called(source: &Source, name: &Spanned<String>) -> Result<DnsName<'static>, ConfigError> {
    DnsName::try_from(name.get_ref().clone()).map_err(|_| {
        source.invalid(
            name.span(),
            "this is not a host name",
            "give the name in the backend's certificate, without scheme and port",
        )
    })
}

/// A backend over plain HTTP, which asks for no certificate.
fn plain(source: &Source, raw: &RawEndpoint, url: Uri) -> Result<BackendConfig, ConfigError> {
    let key = raw.client_certificate.as_ref().or(raw.client_key.as_ref());
    match key {
        None => Ok(BackendConfig::new(url, None)),
        Some(key) => Err(source.invalid(
            key.span(),
            "an http backend asks for no certificate",
            "remove the line, or make the backend's URL begin with `https://`",
        )),
    }
}

fn secured(
    source: &Source,
    raw: &RawEndpoint,
    authority: &Spanned<PathBuf>,
    url: Uri,
) -> Result<BackendConfig, ConfigError> {
    let anchors = source.keep(trust_anchors(source, authority));
    let certificates = Arc::new(certificates(source, raw)?);
    let Some(anchors) = anchors else { return Err(source.faults()) };
    let tls = backend_client_config_showing(&anchors, Arc::clone(&certificates))
        .map_err(|error| certificate_error(source, authority, &error))?;
    let mut config = BackendConfig::new(url, Some(tls));
    config.trust = Some(anchors);
    config.certificates = Some(certificates);
    Ok(config)
}

/// The client certificates of an endpoint: files that are named, or all of a folder.
fn certificates(source: &Source, raw: &RawEndpoint) -> Result<ClientCertificates, ConfigError> {
    let set = ClientCertificates::new(raw.name.get_ref());
    let (files, keys) = match (&raw.client_certificate, &raw.client_key) {
        (None, None) => return Ok(set),
        (None, Some(keys)) => {
            return Err(source.invalid(
                keys.span(),
                "there is a key, and no certificate that it belongs to",
                "add `client_certificate`, the certificate chain of this key",
            ));
        }
        (Some(files), None) => match &texts(files)[..] {
            [folder] if source.resolve(Path::new(folder.get_ref())).is_dir() => {
                return from_folder(source, folder, set);
            }
            _ => {
                return Err(source.invalid(
                    files.span(),
                    "there is a certificate, and no key that belongs to it",
                    "add `client_key`, one for each certificate; or name a folder that holds \
                     `NAME.pem` and `NAME-key.pem`",
                ));
            }
        },
        (Some(files), Some(keys)) => (files, keys),
    };
    let (named, own) = (texts(files), texts(keys));
    if named.len() != own.len() || named.is_empty() || CLIENT_CERTIFICATES_MAX < named.len() {
        return Err(source.invalid(
            keys.span(),
            format!("{} keys for {} certificates", own.len(), named.len()),
            format!(
                "list 1 to {CLIENT_CERTIFICATES_MAX} certificates, and a key for each, in order"
            ),
        ));
    }
    Ok(named.iter().zip(&own).fold(set, |set, (certificate, key)| {
        let path = |text: &Spanned<String>| Spanned::new(text.span(), text.get_ref().into());
        let (certificate, key): (Spanned<PathBuf>, Spanned<PathBuf>) =
            (path(certificate), path(key));
        let files = IdentityFiles { certificate: &certificate, key: &key };
        let Some(identity) = source.keep(files.read_matching(source)) else { return set };
        set.with(certificate.get_ref().display().to_string(), Ok(identity))
    }))
}

/// Every `NAME.pem` of a folder that has a `NAME-key.pem` beside it. What cannot be used of them is
/// told of with the others.
fn from_folder(
    source: &Source,
    folder: &Spanned<String>,
    set: ClientCertificates,
) -> Result<ClientCertificates, ConfigError> {
    let at = source.resolve(Path::new(folder.get_ref()));
    let pairs = pairs(&at).map_err(|error| {
        source.invalid(
            folder.span(),
            format!("cannot read the folder `{}`: {error}", at.display()),
            "check the path and its permissions; a relative path starts at the folder of this file",
        )
    })?;
    if pairs.is_empty() || CLIENT_CERTIFICATES_MAX < pairs.len() {
        return Err(source.invalid(
            folder.span(),
            format!("the folder `{}` holds {} certificates", at.display(), pairs.len()),
            format!(
                "have 1 to {CLIENT_CERTIFICATES_MAX} in it: `NAME.pem` with the chain, and its \
                 private key beside it in `NAME{KEY_SUFFIX}`"
            ),
        ));
    }
    Ok(pairs.iter().fold(set, |set, (certificate, key)| {
        let identity = Identity::from_pem_files(certificate, key);
        let name = certificate.file_name().unwrap_or_default().to_string_lossy().into_owned();
        set.with(name, identity.map_err(|error| error.to_string()))
    }))
}

/// Each certificate of a folder and where its key is expected, by name.
fn pairs(folder: &Path) -> io::Result<Vec<(PathBuf, PathBuf)>> {
    let files: Vec<PathBuf> = std::fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<_>>()?;
    let mut pairs: Vec<_> = files.into_iter().filter_map(pair).collect();
    pairs.sort();
    Ok(pairs)
}

/// A certificate and where its key is expected; `None` for what is not called like a certificate.
fn pair(file: PathBuf) -> Option<(PathBuf, PathBuf)> {
    let name = file.file_name()?.to_str()?;
    let stem = name.strip_suffix(".pem").filter(|_| !name.ends_with(KEY_SUFFIX))?;
    let key = file.with_file_name(format!("{stem}{KEY_SUFFIX}"));
    Some((file, key))
}

/// The files by which an endpoint's backends are trusted, and that they are shown.
pub(super) fn files(source: &Source, raw: &RawEndpoint) -> BackendFiles {
    let resolve = |text: &Spanned<String>| source.resolve(Path::new(text.get_ref()));
    let certificates = match (&raw.client_certificate, &raw.client_key) {
        (Some(files), Some(_)) => texts(files).iter().map(resolve).collect(),
        (Some(folder), None) => {
            let folders = texts(folder);
            let all = folders.iter().filter_map(|folder| pairs(&resolve(folder)).ok()).flatten();
            all.map(|(certificate, _)| certificate).collect()
        }
        (None, _) => Vec::new(),
    };
    let authority = raw.backend_ca.as_ref().map(|file| source.resolve(file.get_ref()));
    BackendFiles { authority, certificates }
}

/// What deserves attention about the client certificates of an endpoint.
pub(super) fn warnings(source: &Source, raw: &RawEndpoint) -> Vec<Warning> {
    let resolve = |text: &Spanned<String>| source.resolve(Path::new(text.get_ref()));
    let keys: Vec<PathBuf> = match (&raw.client_certificate, &raw.client_key) {
        (_, Some(keys)) => texts(keys).iter().map(resolve).collect(),
        // What is no folder that can be read was refused.
        (Some(folder), None) => {
            let folders = texts(folder);
            let all = folders.iter().filter_map(|folder| pairs(&resolve(folder)).ok()).flatten();
            all.map(|(_, key)| key).collect()
        }
        (None, None) => Vec::new(),
    };
    keys.iter().filter_map(|key| Warning::of_key(key)).collect()
}

#[cfg(test)]
mod tests;
