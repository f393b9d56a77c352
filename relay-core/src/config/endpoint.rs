//! The `[[endpoint]]` tables of a connection point.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use http::header::HeaderName;
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use super::backend::{self, OneOrMany, RawBackendLimits, RawCheck};
use super::clients::{RawMethod, methods};
use super::error::ConfigError;
use super::source::Source;
use super::spanned::Spanned;
use super::warning::Warning;
use crate::auth::Methods;
use crate::policy::{
    Access, Endpoint, EndpointKind, EndpointMap, EndpointMapError, RequestHeaders,
};

/// Longest endpoint name, in octets.
const NAME_BYTES_MAX: usize = 64;

/// One `[[endpoint]]` as written.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "an `[[endpoint]]` table")]
pub(super) struct RawEndpoint {
    /// A name for logs, unique in the file.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 64)))]
    pub(super) name: Spanned<String>,
    /// Decides verbs and paths that may pass.
    kind: RawKind,
    /// The decimal number in the clients' URL, unique in the file. Above 9223372036854775807 it
    /// stands in quotes.
    role_id: Spanned<RawRoleId>,
    /// Lets anybody on the internet use this endpoint; for trials only.
    #[cfg_attr(feature = "schema", schemars(extend("default" = false)))]
    unsafe_allow_anonymous: Option<Spanned<bool>>,
    /// By which methods a client may show who it is; without it, any that counts at the site.
    #[cfg_attr(feature = "schema", schemars(length(min = 1), extend("uniqueItems" = true)))]
    methods: Option<Spanned<Vec<Spanned<RawMethod>>>>,
    /// Path prefixes below the role id that are published; without it, those of the kind.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    paths: Option<Spanned<Vec<Spanned<String>>>>,
    /// Octets that the body of a request may have; without it, any number.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 9_223_372_036_854_775_807_i64)))]
    request_body_bytes_max: Option<Spanned<i64>>,
    /// Whether only those headers of a request pass that clients of Configuration Manager send, and
    /// those of `allow_headers`.
    #[cfg_attr(feature = "schema", schemars(extend("default" = false)))]
    strict_headers: Option<Spanned<bool>>,
    /// Headers that pass besides; with `strict_headers` alone.
    allow_headers: Option<Spanned<Vec<Spanned<String>>>>,
    /// Where the site role is, as in `http://host:port`: one URL, or one for each of its places.
    #[cfg_attr(feature = "schema", schemars(required, extend("minItems" = 1, "maxItems" = 16)))]
    pub(super) backend: Option<Spanned<OneOrMany>>,
    /// The authority that signed the certificate of an `https://` backend: a PEM file.
    pub(super) backend_ca: Option<Spanned<PathBuf>>,
    /// What the backend is called in Host and in TLS; without it, the host of its URL.
    pub(super) backend_name: Option<Spanned<String>>,
    /// Shown to an `https://` backend that asks: a PEM file, a list of them, or a folder of
    /// `NAME.pem` and `NAME-key.pem` alone.
    #[cfg_attr(feature = "schema", schemars(extend("minItems" = 1, "maxItems" = 64)))]
    pub(super) client_certificate: Option<Spanned<OneOrMany>>,
    /// Private key of that certificate: a PEM file, or as many as there are certificates.
    #[cfg_attr(feature = "schema", schemars(extend("minItems" = 1, "maxItems" = 64)))]
    pub(super) client_key: Option<Spanned<OneOrMany>>,
    /// Limits of this endpoint alone; without one, that of `[limits]` holds.
    pub(super) limits: Option<RawBackendLimits>,
    /// Has each backend be asked for a path every now and then: one that fails is left alone.
    pub(super) check: Option<RawCheck>,
}

#[derive(Clone, Copy, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
enum RawKind {
    /// A management point.
    ManagementPoint,
    /// A software update point.
    SoftwareUpdatePoint,
    /// A server of content.
    Content,
}

/// A role id as written. TOML integers end at `i64::MAX` and role ids are unsigned, so the upper
/// half needs quotes.
pub(super) enum RawRoleId {
    Number(i64),
    Text(String),
}

impl<'de> Deserialize<'de> for RawRoleId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RoleIdVisitor;

        impl Visitor<'_> for RoleIdVisitor {
            type Value = RawRoleId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a role id: a whole number, bare or in quotes")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<RawRoleId, E> {
                Ok(RawRoleId::Number(number))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<RawRoleId, E> {
                Ok(RawRoleId::Text(text.to_owned()))
            }
        }

        deserializer.deserialize_any(RoleIdVisitor)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for RawRoleId {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RoleId".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": ["integer", "string"],
            "minimum": 0,
            "pattern": "^[0-9]+$",
        })
    }
}

impl RawRoleId {
    fn number(&self) -> Option<u64> {
        match self {
            Self::Number(number) => u64::try_from(*number).ok(),
            // `parse` alone would let a leading `+` through.
            Self::Text(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
            Self::Text(_) => None,
        }
    }
}

impl RawEndpoint {
    /// Judges what is published. What is wrong is noted.
    pub(super) fn endpoint(&self, source: &Source, counted: Option<&Methods>) -> Option<Endpoint> {
        let name = source.keep(judge_name(source, &self.name));
        let role_id = source.keep(role_id(source, &self.role_id));
        let paths = source.keep(self.paths(source));
        let request_body_bytes_max = source.keep(self.request_body_bytes_max(source));
        let request_headers = source.keep(self.request_headers(source));
        let access = source.keep(self.access(source, counted));
        name?;
        Some(Endpoint {
            name: self.name.get_ref().clone(),
            kind: match self.kind {
                RawKind::ManagementPoint => EndpointKind::ManagementPoint,
                RawKind::SoftwareUpdatePoint => EndpointKind::SoftwareUpdatePoint,
                RawKind::Content => EndpointKind::Content,
            },
            role_id: role_id?,
            paths: paths?,
            request_body_bytes_max: request_body_bytes_max?,
            request_headers: request_headers?,
            access: access?,
        })
    }

    /// Judges who may use it, of the methods that count at the site, if any does.
    fn access(&self, source: &Source, counted: Option<&Methods>) -> Result<Access, ConfigError> {
        let is_anonymous = self.unsafe_allow_anonymous.as_ref().is_some_and(|it| *it.get_ref());
        if is_anonymous {
            return match &self.methods {
                None => Ok(Access::Anonymous),
                Some(listed) => Err(source.invalid(
                    listed.span(),
                    "this endpoint is for anybody, and asks nobody who it is",
                    "remove `unsafe_allow_anonymous`, or the list of methods",
                )),
            };
        }
        let place = self.unsafe_allow_anonymous.as_ref().map(Spanned::span);
        let Some(counted) = counted else {
            return Err(source.invalid(
                place.unwrap_or(self.name.span()),
                format!("endpoint `{}` cannot authenticate its clients", self.name.get_ref()),
                "say whose clients count: add `[clients]` with `roots`, a `[[tenant]]`, or \
                 `[tokens]`. For trials only, `unsafe_allow_anonymous = true` lets anybody in",
            ));
        };
        let Some(listed) = &self.methods else { return Ok(Access::Clients(Methods::default())) };
        let allowed = methods(source, listed)?;
        if counted.within(&allowed).is_none() {
            return Err(source.invalid(
                listed.span(),
                "none of these methods counts at this site",
                "list a method that `[clients]`, a `[[tenant]]` or `[tokens]` sets up",
            ));
        }
        Ok(Access::Clients(allowed))
    }

    fn paths(&self, source: &Source) -> Result<Option<Vec<String>>, ConfigError> {
        let Some(paths) = &self.paths else {
            return Ok(None);
        };
        if paths.get_ref().is_empty() {
            return Err(source.invalid(
                paths.span(),
                "an empty list of paths publishes nothing",
                "remove the line to publish the paths of this kind, or list the paths to publish",
            ));
        }
        Ok(Some(paths.get_ref().iter().map(|path| path.get_ref().clone()).collect()))
    }

    fn request_body_bytes_max(&self, source: &Source) -> Result<Option<u64>, ConfigError> {
        let Some(limit) = &self.request_body_bytes_max else {
            return Ok(None);
        };
        u64::try_from(*limit.get_ref()).map(Some).map_err(|_| {
            source.invalid(
                limit.span(),
                "a limit of octets cannot be negative",
                "give 0 or more, or remove the line for no limit",
            )
        })
    }

    fn request_headers(&self, source: &Source) -> Result<RequestHeaders, ConfigError> {
        let is_strict = self.strict_headers.as_ref().is_some_and(|strict| *strict.get_ref());
        let Some(names) = &self.allow_headers else {
            let none = RequestHeaders::Listed([].into());
            return Ok(if is_strict { none } else { RequestHeaders::Open });
        };
        if !is_strict {
            return Err(source.invalid(
                names.span(),
                "headers are listed, but the list is not in force",
                "add `strict_headers = true` to have only listed headers pass, or remove the list",
            ));
        }
        let name = |written: &Spanned<String>| {
            HeaderName::from_bytes(written.get_ref().as_bytes()).map_err(|_| {
                source.invalid(
                    written.span(),
                    "this is not the name of a header",
                    "give a name without spaces or a colon, in any case, such as \"X-Site\"",
                )
            })
        };
        let names = names.get_ref().iter().filter_map(|written| source.keep(name(written)));
        Ok(RequestHeaders::Listed(names.collect()))
    }

    /// Where the header `name` is written, if it is on this endpoint's list.
    fn place_of_header(&self, name: &HeaderName) -> Option<Range<usize>> {
        let names = self.allow_headers.as_ref()?.get_ref();
        let is_it =
            |written: &&Spanned<String>| name.as_str().eq_ignore_ascii_case(written.get_ref());
        names.iter().find(is_it).map(Spanned::span)
    }

    /// Where `path` is written, if it is one of this endpoint's paths.
    fn place_of_path(&self, path: &str) -> Option<Range<usize>> {
        let paths = self.paths.as_ref()?.get_ref();
        paths.iter().find(|written| written.get_ref() == path).map(Spanned::span)
    }

    /// The warning that this endpoint lets anybody in, if it does.
    pub(super) fn warning(&self, source: &Source) -> Option<Warning> {
        let allowed = self.unsafe_allow_anonymous.as_ref().filter(|allowed| *allowed.get_ref())?;
        Some(Warning::AnonymousEndpoint {
            endpoint: self.name.get_ref().clone(),
            file: source.path().to_owned(),
            line: source.place(allowed.span()).line(),
        })
    }
}

/// Judges what an endpoint is called.
pub(super) fn judge_name(source: &Source, written: &Spanned<String>) -> Result<(), ConfigError> {
    let name = written.get_ref();
    if name.is_empty() || NAME_BYTES_MAX < name.len() || name.chars().any(char::is_control) {
        return Err(source.invalid(
            written.span(),
            format!("an endpoint's name must have 1 to {NAME_BYTES_MAX} octets of text"),
            "give a short name; it appears in logs only",
        ));
    }
    Ok(())
}

/// Judges the number in an endpoint's URL.
pub(super) fn role_id(source: &Source, written: &Spanned<RawRoleId>) -> Result<u64, ConfigError> {
    written.get_ref().number().ok_or_else(|| {
        source.invalid(
            written.span(),
            "this is not a role id",
            format!("give the decimal number in the site role's URL, 0 to {}", u64::MAX),
        )
    })
}

/// What deserves attention about the endpoints of a file.
pub(super) fn warnings(source: &Source, endpoints: &[RawEndpoint]) -> Vec<Warning> {
    if endpoints.is_empty() {
        return vec![Warning::NoEndpoints { file: source.path().to_owned() }];
    }
    let anonymous = endpoints.iter().filter_map(|endpoint| endpoint.warning(source));
    anonymous.chain(endpoints.iter().flat_map(|it| backend::warnings(source, it))).collect()
}

/// Notes what keeps `published`, each with its table, from being a map of endpoints: of two that
/// collide, the later.
pub(super) fn judge_map(source: &Source, mut published: Vec<(&RawEndpoint, Endpoint)>) {
    loop {
        let endpoints = published.iter().map(|(_, endpoint)| endpoint.clone()).collect();
        let Err(error) = EndpointMap::new(endpoints) else { return };
        let last = |name: &str| published.iter().rposition(|(_, it)| it.name == name);
        let first = |place: &dyn Fn(&RawEndpoint) -> Option<Range<usize>>| {
            let at = published.iter().position(|(raw, _)| place(raw).is_some())?;
            Some((at, place(published[at].0)?))
        };
        let (place, help) = match &error {
            EndpointMapError::DuplicateName { name } => (
                last(name).map(|at| (at, published[at].0.name.span())),
                "names tell endpoints apart in logs, nothing else depends on them",
            ),
            EndpointMapError::DuplicateRoleId { second, .. } => (
                last(second).map(|at| (at, published[at].0.role_id.span())),
                "it is the number in the URL of this endpoint's own site role",
            ),
            EndpointMapError::UnusablePath { path, .. } => (
                first(&|raw| raw.place_of_path(path)),
                "write whole segments, as in `SMS_MP` or `ccm_system/request`",
            ),
            EndpointMapError::UnusableHeader { name, .. } => (
                first(&|raw| raw.place_of_header(name)),
                "headers such as `Connection` and `X-Forwarded-For` are dropped in either mode",
            ),
        };
        let (at, span) = place.unwrap_or((published.len(), 0..0));
        source.note(source.invalid(span, error.to_string(), help));
        if at == published.len() {
            return;
        }
        // What is wrong with the others shows without it.
        published.remove(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{Site, message};

    /// The error at an `[[endpoint]]` that has `line` in place of the key it starts with.
    fn refused(line: &str) -> String {
        let key = line.split(' ').next().unwrap();
        message(Site::new().connection_point_with(|text| {
            let old = text.lines().rfind(|old| old.starts_with(&format!("{key} ")));
            match old {
                Some(old) => text.replace(old, line),
                None => format!("{text}{line}\n"),
            }
        }))
    }

    #[test]
    fn role_ids_are_read_bare_up_to_i64_max_and_in_quotes_up_to_u64_max() {
        for (written, expected) in [
            ("0", 0),
            ("\"0\"", 0),
            ("9223372036854775807", 9_223_372_036_854_775_807),
            ("\"9223372036854775808\"", 9_223_372_036_854_775_808),
            ("\"18446744073709551615\"", u64::MAX),
        ] {
            let loaded = Site::new()
                .connection_point_with(|text| text.replace("72057594037927937", written))
                .unwrap_or_else(|error| panic!("{written}: {error}"));
            assert_eq!(loaded.config.endpoints[0].endpoint.role_id, expected);
        }
    }

    #[test]
    fn role_ids_that_are_none_are_refused() {
        for written in ["-1", "\"18446744073709551616\"", "\"+1\"", "\"\"", "\"0x10\"", "\" 1\""] {
            let message = refused(&format!("role_id = {written}"));
            assert!(message.starts_with("this is not a role id\n"), "{message}");
        }
        let message = refused("role_id = 1.5");
        assert!(message.starts_with("wrong type: found floating point `1.5`"), "{message}");
        let message = refused("role_id = 9223372036854775808");
        assert!(message.contains("|           ^"), "{message}");
    }

    #[test]
    fn an_unknown_kind_is_answered_with_the_kinds() {
        let message = refused("kind = \"managment-point\"");
        assert!(message.starts_with("unknown value `managment-point`"), "{message}");
        assert!(message.contains("did you mean `management-point`?"), "{message}");
    }

    #[test]
    fn an_endpoint_that_does_not_say_anonymous_is_refused() {
        let message = refused("unsafe_allow_anonymous = false");
        assert!(message.starts_with("endpoint `mp` cannot authenticate its clients"), "{message}");
        assert!(message.contains("^^^^^\n"), "{message}");
        let message = message_without_line("unsafe_allow_anonymous");
        assert!(message.contains("name = \"mp\"\n"), "{message}");
    }

    fn message_without_line(key: &str) -> String {
        message(Site::new().connection_point_with(|text| {
            text.lines()
                .filter(|line| !line.starts_with(key))
                .fold(String::new(), |all, line| all + line + "\n")
        }))
    }

    #[test]
    fn names_have_1_to_64_octets() {
        for (len, accepted) in [(0, false), (1, true), (64, true), (65, false)] {
            let line = format!("name = \"{}\"", "n".repeat(len));
            let loaded =
                Site::new().connection_point_with(|text| text.replace("name = \"mp\"", &line));
            assert_eq!(loaded.is_ok(), accepted, "{len} octets");
        }
        assert!(refused("name = \"a\\nb\"").starts_with("an endpoint's name must have"));
    }

    #[test]
    fn paths_are_judged_by_the_policy_and_shown_where_they_are_written() {
        for good in ["SMS_MP", "ccm_system/request", ".sms_aut"] {
            let line = format!("paths = [\"{good}\"]");
            let loaded =
                Site::new().connection_point_with(|text| format!("{text}{line}\n")).unwrap();
            let paths = loaded.config.endpoints[0].endpoint.paths.clone();
            assert_eq!(paths, Some(vec![good.to_owned()]));
        }
        for bad in ["", "a//b", "a/../b", "a%2f", "a?b", "ccm_system_altauth"] {
            let message = refused(&format!("paths = [\"SMS_MP\", \"{bad}\"]"));
            let problem = format!("endpoint `mp` cannot publish `{bad}`");
            assert!(message.starts_with(&problem), "{message}");
            assert!(message.contains("connection-point.toml:21:20\n"), "{message}");
        }
        assert!(refused("paths = []").starts_with("an empty list of paths publishes nothing"));
    }

    #[test]
    fn a_body_limit_is_zero_or_more() {
        assert!(refused("request_body_bytes_max = -1").contains("cannot be negative"));
        for limit in [0, 1] {
            let loaded = Site::new()
                .connection_point_with(|text| format!("{text}request_body_bytes_max = {limit}\n"))
                .unwrap();
            let found = loaded.config.endpoints[0].endpoint.request_body_bytes_max;
            assert_eq!(found, Some(limit));
        }
    }

    #[test]
    fn a_list_of_headers_is_in_force_only_where_it_is_asked_for() {
        let loaded = |lines: &str| {
            let loaded = Site::new().connection_point_with(|text| format!("{text}{lines}\n"));
            loaded.unwrap().config.endpoints[0].endpoint.request_headers.clone()
        };
        let listed = |names: &[&'static str]| {
            RequestHeaders::Listed(names.iter().map(|it| HeaderName::from_static(it)).collect())
        };
        assert_eq!(loaded(""), RequestHeaders::Open);
        assert_eq!(loaded("strict_headers = false"), RequestHeaders::Open);
        assert_eq!(loaded("strict_headers = true"), listed(&[]));
        let both = "strict_headers = true\nallow_headers = [\"X-Site\", \"cookie\"]";
        assert_eq!(loaded(both), listed(&["x-site", "cookie"]));

        assert!(refused("allow_headers = []").starts_with("headers are listed, but the list is"));
        let strict = |line: &str| refused(&format!("strict_headers = true\n{line}"));
        for bad in ["", "a b", "a:", "\u{e4}"] {
            let message = strict(&format!("allow_headers = [\"X-Site\", \"{bad}\"]"));
            assert!(message.starts_with("this is not the name of a header"), "{message}");
            assert!(message.contains("connection-point.toml:22:28\n"), "{message}");
        }
        let message = strict("allow_headers = [\"X-Forwarded-For\"]");
        let told = "endpoint `mp` lists the header `x-forwarded-for`, which never passes";
        assert!(message.starts_with(told), "{message}");
        assert!(message.contains("connection-point.toml:22:18\n"), "{message}");
    }

    #[test]
    fn two_endpoints_of_one_name_or_role_id_are_refused_at_the_later_one() {
        let second = |name: &str, role_id: u64| {
            message(Site::new().connection_point_with(|text| {
                format!(
                    "{text}\n[[endpoint]]\nname = \"{name}\"\nkind = \"software-update-point\"\n\
                     role_id = {role_id}\nunsafe_allow_anonymous = true\n\
                     backend = \"http://127.0.0.1:8080\"\n"
                )
            }))
        };
        let message = second("mp", 2);
        assert!(message.starts_with("two endpoints are named `mp`"), "{message}");
        assert!(message.contains("connection-point.toml:23:8"), "{message}");
        let message = second("sup", 72_057_594_037_927_937);
        assert!(message.contains("share role id 72057594037927937"), "{message}");
        assert!(message.contains("connection-point.toml:25:11"), "{message}");
    }
}
