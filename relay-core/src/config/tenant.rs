//! The `[[tenant]]` tables of a connection point.

use std::path::PathBuf;

use serde::Deserialize;

use super::error::ConfigError;
use super::source::Source;
use super::spanned::Spanned;
use crate::auth::{Guid, Issuer};
use crate::settings::{TENANTS_MAX, Tenant};

/// Longest name of a resource, in octets.
const RESOURCE_OCTETS_MAX: usize = 1024;

/// One `[[tenant]]` as written.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "a `[[tenant]]` table")]
pub(super) struct RawTenant {
    /// Its GUID, 8-4-4-4-12 hexadecimal digits without braces.
    #[cfg_attr(
        feature = "schema",
        schemars(extend("pattern" = "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$"))
    )]
    id: Spanned<String>,
    /// The GUID of the application that its clients ask a token for.
    #[cfg_attr(
        feature = "schema",
        schemars(extend("pattern" = "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$"))
    )]
    application_id: Spanned<String>,
    /// The resource that its clients ask a token for, as in `https://ConfigMgrService`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 1024)))]
    resource: Spanned<String>,
    /// Whether its tokens count.
    #[cfg_attr(feature = "schema", schemars(extend("default" = true)))]
    pub(super) enabled: Option<bool>,
    /// Whose tokens count.
    #[cfg_attr(
        feature = "schema",
        schemars(length(min = 1), extend("uniqueItems" = true, "default" = ["v1"]))
    )]
    issuers: Option<Spanned<Vec<RawIssuer>>>,
    /// For what its tokens are issued; without it, the resource.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 16)))]
    pub(super) audiences: Option<Vec<Spanned<String>>>,
    /// Where instances with `[fetch]` find its keys; without it, the usual host of Entra ID.
    pub(super) authority: Option<Spanned<String>>,
    /// The keys that its tokens are signed with, which nobody fetches then: the JSON that its
    /// `jwks_uri` answers, as a file.
    pub(super) keys: Option<Spanned<PathBuf>>,
}

/// The name of an issuer.
#[derive(Clone, Copy, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
enum RawIssuer {
    /// Entra ID, tokens of version 1.
    V1,
    /// Entra ID, tokens of version 2.
    V2,
    /// Entra ID for the government of the United States.
    Government,
}

impl RawTenant {
    /// The issuers whose tokens count: by default those of version 1.
    pub(super) fn issuers(&self, source: &Source) -> Result<Vec<Issuer>, ConfigError> {
        let Some(listed) = &self.issuers else { return Ok(vec![Issuer::V1]) };
        let issuers = listed.get_ref().iter().map(|it| match it {
            RawIssuer::V1 => Issuer::V1,
            RawIssuer::V2 => Issuer::V2,
            RawIssuer::Government => Issuer::Government,
        });
        let issuers: Vec<_> = issuers.collect();
        let is_again = |(at, it): (usize, &Issuer)| issuers[..at].contains(it);
        if issuers.is_empty() || issuers.iter().enumerate().any(is_again) {
            return Err(source.invalid(
                listed.span(),
                "a tenant has one issuer at least, and each once",
                "list \"v1\", \"v2\" or \"government\", or remove the line for \"v1\" alone",
            ));
        }
        Ok(issuers)
    }

    /// Judges what is published of it. What is wrong is noted.
    pub(super) fn judge(&self, source: &Source) -> Option<Tenant> {
        let resource = self.resource.get_ref();
        let is_text = (1..=RESOURCE_OCTETS_MAX).contains(&resource.len())
            && !resource.contains(char::is_control);
        if !is_text {
            source.note(source.invalid(
                self.resource.span(),
                format!("a tenant's resource must have 1 to {RESOURCE_OCTETS_MAX} octets of text"),
                "give the identifier that clients ask a token for, as \
                 `https://ConfigMgrService`",
            ));
        }
        let id = source.keep(guid(source, &self.id));
        let application_id = source.keep(guid(source, &self.application_id));
        let (id, application_id) = (id?, application_id?);
        is_text.then(|| Tenant { id, application_id, resource: resource.clone() })
    }
}

fn guid(source: &Source, raw: &Spanned<String>) -> Result<Guid, ConfigError> {
    raw.get_ref().parse().map_err(|_| {
        source.invalid(
            raw.span(),
            "this is not a GUID",
            "give 8-4-4-4-12 hexadecimal digits without braces, as Entra ID shows it",
        )
    })
}

/// Judges every tenant. What is wrong is noted.
pub(super) fn tenants(source: &Source, raw: &[RawTenant]) -> Option<Vec<Tenant>> {
    let mut is_good = raw.len() <= TENANTS_MAX;
    if let Some(beyond) = raw.get(TENANTS_MAX) {
        source.note(source.invalid(
            beyond.id.span(),
            format!("a site publishes at most {TENANTS_MAX} tenants"),
            "remove this one and those after it",
        ));
    }
    let mut all: Vec<Tenant> = Vec::new();
    for raw in raw {
        let Some(tenant) = raw.judge(source) else {
            is_good = false;
            continue;
        };
        if all.iter().any(|other| other.id == tenant.id) {
            is_good = false;
            source.note(source.invalid(
                raw.id.span(),
                format!("tenant {} stands here twice", tenant.id),
                "remove one of the two",
            ));
        }
        all.push(tenant);
    }
    is_good.then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{Site, message};

    fn table(number: usize) -> String {
        format!(
            "\n[[tenant]]\nid = \"0a1b2c3d-4e5f-6071-8293-{number:012x}\"\n\
             application_id = \"5d2f7a90-0c4e-4b7e-9a53-2f1c66a0b1d4\"\n\
             resource = \"https://ConfigMgrService\"\n"
        )
    }

    fn with(tables: &str) -> Result<Vec<Tenant>, ConfigError> {
        let loaded = Site::new().connection_point_with(|text| text.to_owned() + tables);
        loaded.map(|loaded| loaded.config.tenants)
    }

    #[test]
    fn tenants_are_taken_as_written_up_to_64_of_them() {
        assert_eq!(with("").unwrap(), []);
        let [tenant] = &with(&table(7)).unwrap()[..] else { panic!("one is written") };
        assert_eq!(tenant.id.to_string(), "0a1b2c3d-4e5f-6071-8293-000000000007");
        assert_eq!(tenant.application_id.to_string(), "5d2f7a90-0c4e-4b7e-9a53-2f1c66a0b1d4");
        assert_eq!(tenant.resource, "https://ConfigMgrService");
        let many = |count| with(&(0..count).map(table).collect::<String>());
        assert_eq!(many(64).unwrap().len(), 64);
        let text = message(many(65));
        assert!(text.starts_with("a site publishes at most 64 tenants\n"), "{text}");
    }

    #[test]
    fn a_bad_tenant_is_shown_with_what_to_write() {
        for (from, to, says) in [
            ("0a1b2c3d-", "{0a1b2c3d-", "this is not a GUID\n"),
            ("5d2f7a90-", "5d2f7a9-", "this is not a GUID\n"),
            ("https://ConfigMgrService", "", "a tenant's resource must have 1 to 1024 octets"),
            ("resource", "resuorce", "unknown key `resuorce`"),
        ] {
            let text = message(with(&table(7).replace(from, to)));
            assert!(text.starts_with(says), "{text}");
        }
        let text = message(with(&(table(7) + &table(7))));
        let says = "tenant 0a1b2c3d-4e5f-6071-8293-000000000007 stands here twice\n";
        assert!(text.starts_with(says), "{text}");
    }
}
