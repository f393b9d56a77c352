//! Which requests a gateway instance answers by itself.

use http::Method;
use http::uri::PathAndQuery;

use super::{Refusal, VirtualRoot, path};

/// Verbs of what a gateway answers by itself.
const VERBS: [&str; 2] = ["GET", "HEAD"];

/// The folder and the name of content.
// Source: Microsoft Learn, "CMG data flow".
const CONTENT: [&str; 2] = ["downloadrestservice.svc", "getcontentxmlsecure"];

/// What a gateway instance is asked about itself, about what it was told, or for content that it
/// holds. No role id stands in such a path, so no endpoint can publish it, and no connection point
/// is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum OwnAnswer<'a> {
    /// `ServiceMetadata` below either virtual root: which instance of what this is, and which
    /// versions of settings hold.
    ServiceMetadata,
    /// `AADAuthInfo` for clients with tokens: what is published about a tenant.
    TenantInfo {
        /// The value of `TenantID`, as it was written; `None` unless it is there exactly once.
        tenant: Option<&'a str>,
    },
    /// `/downloadrestservice.svc/getcontentxmlsecure`: content, by the grant in the query.
    Content,
}

impl<'a> OwnAnswer<'a> {
    /// Judges whether a request is for the gateway itself; `None` if it is for an endpoint, or for
    /// nothing.
    ///
    /// Paths are compared as those of endpoints: in any ASCII case, decoded. `TenantID` is compared
    /// in any ASCII case too, and what the query says beside it is passed over (our choice).
    ///
    /// # Errors
    ///
    /// [`Refusal::VerbNotAllowed`] for a verb other than GET and HEAD.
    pub fn of(method: &Method, target: &'a PathAndQuery) -> Result<Option<Self>, Refusal> {
        let Some(asked) = Self::at(target) else { return Ok(None) };
        if VERBS.contains(&method.as_str()) {
            return Ok(Some(asked));
        }
        Err(Refusal::VerbNotAllowed { allowed: &VERBS })
    }

    fn at(target: &'a PathAndQuery) -> Option<Self> {
        let below_slash = target.path().strip_prefix('/')?;
        let (root, name) = below_slash.split_once('/')?;
        if name.contains('/') || path::check(below_slash).is_err() {
            return None;
        }
        if path::segment_is(root, CONTENT[0]) && path::segment_is(name, CONTENT[1]) {
            return Some(Self::Content);
        }
        if path::segment_is(name, "ServiceMetadata") {
            return VirtualRoot::named(root).map(|_| Self::ServiceMetadata);
        }
        let is_tenant_info = path::segment_is(name, "AADAuthInfo")
            && VirtualRoot::named(root) == Some(VirtualRoot::ServerAuth);
        is_tenant_info.then(|| Self::TenantInfo { tenant: tenant_in(target.query()) })
    }
}

/// The only value of `TenantID`.
fn tenant_in(query: Option<&str>) -> Option<&str> {
    let pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
    let mut values = pairs.filter(|(name, _)| name.eq_ignore_ascii_case("TenantID"));
    let (_, value) = values.next()?;
    values.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(verb: &str, target: &'static str) -> Result<Option<OwnAnswer<'static>>, Refusal> {
        let method = Method::from_bytes(verb.as_bytes()).unwrap();
        let target = Box::leak(Box::new(PathAndQuery::from_static(target)));
        OwnAnswer::of(&method, target)
    }

    #[test]
    fn metadata_is_asked_for_below_both_roots_in_any_case_by_get_and_head() {
        for target in [
            "/CCM_Proxy_MutualAuth/ServiceMetadata",
            "/CCM_Proxy_ServerAuth/ServiceMetadata",
            "/ccm_proxy_mutualauth/SERVICEMETADATA?x=1",
            "/CCM_Proxy_ServerAuth/%53erviceMetadata",
        ] {
            for verb in VERBS {
                assert_eq!(judge(verb, target), Ok(Some(OwnAnswer::ServiceMetadata)), "{target}");
            }
            for verb in ["POST", "get", "CCM_POST", "PROPFIND", "OPTIONS"] {
                let refused = Err(Refusal::VerbNotAllowed { allowed: &VERBS });
                assert_eq!(judge(verb, target), refused, "{verb} {target}");
            }
        }
    }

    #[test]
    fn a_tenant_is_asked_about_below_the_root_of_tokens_alone_and_once() {
        for (query, tenant) in [
            ("?TenantID=a-1", Some("a-1")),
            ("?tenantid=a-1&x=y", Some("a-1")),
            ("?x&TENANTID=", Some("")),
            ("?TenantID=1&tenantID=2", None),
            ("?TenantID", None),
            ("?XTenantID=1", None),
            ("", None),
        ] {
            let target = format!("/ccm_proxy_serverauth/aadauthinfo{query}");
            let asked = judge("GET", Box::leak(target.into_boxed_str()));
            assert_eq!(asked, Ok(Some(OwnAnswer::TenantInfo { tenant })), "{query}");
        }
        assert_eq!(judge("GET", "/CCM_Proxy_MutualAuth/AADAuthInfo?TenantID=1"), Ok(None));
    }

    #[test]
    fn content_is_asked_for_at_its_path_in_any_case() {
        for target in [
            "/downloadrestservice.svc/getcontentxmlsecure?pid=1",
            "/DownloadRestService.svc/GetContentXmlSecure",
        ] {
            assert_eq!(judge("GET", target), Ok(Some(OwnAnswer::Content)), "{target}");
            let refused = Err(Refusal::VerbNotAllowed { allowed: &VERBS });
            assert_eq!(judge("PROPFIND", target), refused);
        }
    }

    #[test]
    fn whatever_is_not_exactly_such_a_path_is_for_endpoints() {
        for target in [
            "/ServiceMetadata",
            "/CCM_Proxy_MutualAuth/ServiceMetadata/",
            "/CCM_Proxy_MutualAuth/7/ServiceMetadata",
            "/CCM_Proxy_MutualAuth/ServiceMetadataX",
            "/CCM_Proxy_Mutual/ServiceMetadata",
            "/CCM_Proxy_MutualAuth/ServiceMetadata:x",
            "//CCM_Proxy_MutualAuth/ServiceMetadata",
            "/downloadrestservice.svc/getcontentxmlsecure/",
            "/downloadrestservice.svc/getcontentxml",
            "/CCM_Proxy_MutualAuth/getcontentxmlsecure",
            "*",
        ] {
            for verb in ["GET", "DELETE"] {
                assert_eq!(judge(verb, target), Ok(None), "{target}");
            }
        }
    }
}
