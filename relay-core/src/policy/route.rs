//! From a request's verb and target to a published endpoint.

use http::Method;
use http::uri::PathAndQuery;

use super::{Endpoint, EndpointKind, EndpointMap, Refusal, path};

/// Endings of path segments that are never published, whatever an administrator configures.
///
/// Source: Configuration Manager's alternate-authentication paths of a management point
/// (`ccm_system_altauth`, `ccm_system_windowsauth`), which stay on the intranet.
const NEVER_PUBLISHED: [&str; 2] = ["altauth", "windowsauth"];

/// Which of the two trees of URLs a request came by.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum VirtualRoot {
    /// `/CCM_Proxy_MutualAuth/`: the client proves itself by a TLS certificate.
    MutualAuth,
    /// `/CCM_Proxy_ServerAuth/`: the client proves itself by a bearer token.
    ServerAuth,
}

impl VirtualRoot {
    const ALL: [Self; 2] = [Self::MutualAuth, Self::ServerAuth];

    /// Returns the path segment as Configuration Manager spells it; matched in any ASCII case.
    pub fn name(self) -> &'static str {
        match self {
            Self::MutualAuth => "CCM_Proxy_MutualAuth",
            Self::ServerAuth => "CCM_Proxy_ServerAuth",
        }
    }

    /// The tree that a checked path segment names.
    pub(super) fn named(segment: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| path::segment_is(segment, known.name()))
    }
}

/// Where a request that may pass goes.
#[derive(Clone, Debug)]
pub struct Route<'a> {
    /// The endpoint that publishes the path.
    pub endpoint: &'a Endpoint,
    /// The tree of URLs it came by.
    pub root: VirtualRoot,
    /// What the backend is asked for: all that follows the role id, with the path's own octets and
    /// the query, never re-encoded. Begins with `/`.
    pub site_target: PathAndQuery,
}

/// The path of client notification, whose exchanges are held open for hours.
///
/// Source: Microsoft Learn, "Client notification": clients keep a connection open and wait.
const NOTIFICATION_PATH: &str = "BGB";

/// The path of a token service, and what follows it where a client registers.
const TOKEN_SERVICE_PATH: &str = "CCM_STS";
const REGISTRATION: &str = "register";

impl Route<'_> {
    /// Whether the site answers only when it has something to say, so that no deadline for the
    /// answer's head makes sense.
    pub fn is_held(&self) -> bool {
        let path = self.site_target.path().trim_start_matches('/');
        let first = path.split('/').next().unwrap_or_default();
        first.eq_ignore_ascii_case(NOTIFICATION_PATH)
    }

    /// Whether the token service is asked to register a client: the one thing that whoever is no
    /// client yet may ask. All else at a token service is for clients.
    pub fn is_registration(&self) -> bool {
        let mut segments = self.site_target.path().split('/').rev();
        self.endpoint.kind == EndpointKind::TokenService
            && segments.next().is_some_and(|last| path::segment_is(last, REGISTRATION))
            // Below what is published, which is `CCM_STS` by default: no service of another name.
            && segments.next().is_some_and(|before| path::segment_is(before, TOKEN_SERVICE_PATH))
            && segments.eq([""])
    }
}

impl EndpointMap {
    /// Judges a request by its verb and target and finds the endpoint it is for.
    ///
    /// In this order: the path must mean the same to every parser; begin with a virtual root (in
    /// any ASCII case); continue with the role id of an endpoint (1 to 20 decimal digits, no sign);
    /// continue below one of the endpoint's published paths (in any ASCII case, decoded, on a
    /// segment boundary); and the verb must be one of the endpoint's (exact, case-sensitive). So a
    /// verb is only ever named wrong on a path that is published.
    ///
    /// Alternate-authentication paths (any segment ending in `altauth` or `windowsauth`) are not
    /// published even where a configured path covers them.
    ///
    /// # Errors
    ///
    /// [`Refusal::UnsafePath`], [`Refusal::NotPublished`] or [`Refusal::VerbNotAllowed`].
    pub fn route(&self, method: &Method, target: &PathAndQuery) -> Result<Route<'_>, Refusal> {
        // `*`, and a target without a path, name no path at all.
        let below_slash = target.path().strip_prefix('/').ok_or(Refusal::NotPublished)?;
        path::check(below_slash)?;

        let (root, role_id, site_path) = split(below_slash).ok_or(Refusal::NotPublished)?;
        let endpoint = self.by_role_id(role_id).ok_or(Refusal::NotPublished)?;
        if !publishes(endpoint, site_path) {
            return Err(Refusal::NotPublished);
        }

        let allowed = endpoint.kind.verbs();
        if !allowed.contains(&method.as_str()) {
            return Err(Refusal::VerbNotAllowed { allowed });
        }
        Ok(Route { endpoint, root, site_target: site_target(target, site_path) })
    }
}

/// Splits `<root>/<role id>/<site path>`; the site path keeps its leading slash.
fn split(below_slash: &str) -> Option<(VirtualRoot, u64, &str)> {
    let (root, below_root) = below_slash.split_once('/')?;
    let root = VirtualRoot::named(root)?;
    let (role_id, site_path) = below_root.split_at_checked(below_root.find('/')?)?;
    Some((root, parse_role_id(role_id)?, site_path))
}

/// Reads 1 to 20 decimal digits; `u64::from_str` alone would take a sign and any number of zeros.
fn parse_role_id(digits: &str) -> Option<u64> {
    let plain = digits.len() <= 20 && digits.bytes().all(|octet| octet.is_ascii_digit());
    digits.parse().ok().filter(|_| plain)
}

/// Whether the endpoint's allow-list covers the path, which must have passed [`path::check`].
fn publishes(endpoint: &Endpoint, site_path: &str) -> bool {
    if has_alternate_authentication(site_path) {
        return false;
    }
    match &endpoint.paths {
        None => endpoint.kind.default_paths().iter().any(|prefix| covers(prefix, site_path)),
        Some(prefixes) => prefixes.iter().any(|prefix| covers(prefix, site_path)),
    }
}

/// Whether any segment names an alternate-authentication path.
fn has_alternate_authentication(path: &str) -> bool {
    path.split('/').any(|segment| {
        NEVER_PUBLISHED.iter().any(|suffix| path::segment_ends_with(segment, suffix))
    })
}

/// Whether every segment of the prefix equals the path's segment at the same place.
fn covers(prefix: &str, site_path: &str) -> bool {
    let mut segments = site_path.split('/').skip(1);
    prefix
        .trim_matches('/')
        .split('/')
        .all(|wanted| segments.next().is_some_and(|segment| path::segment_is(segment, wanted)))
}

/// Whether a configured path can be a prefix of the allow-list.
///
/// It is text to compare with, so it has no escapes; and it may not be empty, which would publish
/// everything behind the endpoint.
pub(super) fn is_publishable(prefix: &str) -> bool {
    let plain = prefix.trim_matches('/');
    !plain.is_empty()
        && !plain.contains(['%', '?', '#'])
        && path::check(plain).is_ok()
        && !has_alternate_authentication(plain)
}

/// Cuts the virtual root and the role id off the target.
///
/// `site_path` is the end of the target's path, so what is cut has the same length in both.
fn site_target(target: &PathAndQuery, site_path: &str) -> PathAndQuery {
    let cut = target.path().len() - site_path.len();
    let rest = target.as_str().get(cut..).unwrap_or(site_path);
    PathAndQuery::try_from(rest).expect("the end of a valid target, from a slash on, is valid")
}

#[cfg(test)]
mod tests {
    use super::super::{Access, RequestHeaders, UnsafePath};
    use super::*;
    use proptest::prelude::*;

    const MP: u64 = 72_186_325_152_220_500;

    fn endpoint(name: &str, kind: EndpointKind, role_id: u64) -> Endpoint {
        Endpoint {
            name: name.to_owned(),
            kind,
            role_id,
            paths: None,
            request_body_bytes_max: None,
            request_headers: RequestHeaders::Open,
            access: Access::Anonymous,
        }
    }

    fn map() -> EndpointMap {
        let custom = Endpoint {
            paths: Some(vec!["/One/Two/".to_owned(), "ccm_system".to_owned()]),
            ..endpoint("custom", EndpointKind::ManagementPoint, u64::MAX)
        };
        EndpointMap::new(vec![
            endpoint("mp", EndpointKind::ManagementPoint, MP),
            endpoint("sup", EndpointKind::SoftwareUpdatePoint, 7),
            custom,
        ])
        .unwrap()
    }

    fn judge(verb: &str, target: &str) -> Result<(String, VirtualRoot, String), Refusal> {
        let map = map();
        let method = Method::from_bytes(verb.as_bytes()).unwrap();
        let target = PathAndQuery::try_from(target).unwrap();
        let route = map.route(&method, &target)?;
        Ok((route.endpoint.name.clone(), route.root, route.site_target.as_str().to_owned()))
    }

    #[test]
    fn published_paths_lead_to_their_endpoint_under_both_roots() {
        use VirtualRoot::{MutualAuth, ServerAuth};
        let mp = &*format!("/ccm_proxy_mutualauth/{MP}");
        let mp_by_token = &*format!("/CCM_PROXY_ServerAuth/{MP}");
        let custom = &*format!("/CCM_Proxy_MutualAuth/{}", u64::MAX);
        let sup = "/CCM_Proxy_MutualAuth/7";

        for (name, root, verb, base, site) in [
            ("mp", MutualAuth, "GET", mp, "/SMS_MP/.sms_aut?MPLIST"),
            ("mp", MutualAuth, "GET", mp, "/sms_mp/.sms_pol?a=1&b=%2e%2E//..;"),
            ("mp", ServerAuth, "CCM_POST", mp_by_token, "/ccm_system_tokenauth/request"),
            ("mp", ServerAuth, "CCM_POST", mp_by_token, "/ccm_system/request"),
            ("mp", MutualAuth, "BITS_POST", mp, "/ccm_incoming/{A-1}/"),
            ("mp", MutualAuth, "PROPFIND", mp, "/CCM_Client/"),
            ("mp", MutualAuth, "HEAD", mp, "/CCM_Client/ccmsetup.cab"),
            ("mp", MutualAuth, "GET", mp, "/CCM_STS"),
            ("mp", MutualAuth, "CCM_POST", mp, "/BGB"),
            ("sup", MutualAuth, "POST", sup, "/ClientWebService/client.asmx"),
            ("sup", MutualAuth, "POST", sup, "/SimpleAuthWebService/SimpleAuth.asmx"),
            ("sup", MutualAuth, "POST", "/CCM_Proxy_MutualAuth/007", "/ReportingWebService/x"),
            ("custom", MutualAuth, "GET", custom, "/one/%74wo/three?"),
        ] {
            let found = judge(verb, &format!("{base}{site}"));
            assert_eq!(found, Ok((name.to_owned(), root, site.to_owned())));
        }
    }

    #[test]
    fn unpublished_paths_are_not_found_whatever_the_verb() {
        for target in [
            "*",
            "/",
            "?x",
            "/CCM_Proxy_MutualAuth",
            "/CCM_Proxy_MutualAuth/",
            "/CCM_Proxy_MutualAuth/7",
            "/CCM_Proxy_MutualAuth/7/",
            "/CCM_Proxy_MutualAuth/ServiceMetadata",
            "/CCM_Proxy_Mutual/7/ClientWebService/x",
            "/x/CCM_Proxy_MutualAuth/7/ClientWebService/x",
            "/CCM_Proxy_MutualAuth/8/ClientWebService/x",
            "/CCM_Proxy_MutualAuth/+7/ClientWebService/x",
            "/CCM_Proxy_MutualAuth/-7/ClientWebService/x",
            "/CCM_Proxy_MutualAuth/0x7/ClientWebService/x",
            "/CCM_Proxy_MutualAuth/%37/ClientWebService/x",
            "/CCM_Proxy_MutualAuth/000000000000000000007/ClientWebService/x",
            "/CCM_Proxy_MutualAuth/18446744073709551616/One/Two",
            "/CCM_Proxy_MutualAuth/18446744073709551622/ClientWebService/x",
            "/CCM_Proxy_MutualAuth/7/Content/x",
            "/CCM_Proxy_MutualAuth/7/SMS_MP/.sms_aut",
            "/CCM_Proxy_MutualAuth/7/ClientWebServiceX/x",
            "/CCM_Proxy_MutualAuth/18446744073709551615/One",
            "/CCM_Proxy_MutualAuth/18446744073709551615/One/TwoThree",
            "/CCM_Proxy_MutualAuth/18446744073709551615/SMS_MP/.sms_aut",
        ] {
            for verb in ["GET", "DELETE", "POST"] {
                assert_eq!(judge(verb, target), Err(Refusal::NotPublished), "{target}");
            }
        }
    }

    #[test]
    fn alternate_authentication_is_never_published() {
        for site in [
            "/ccm_system_altauth/request",
            "/ccm_system_windowsauth/request",
            "/CCM_SYSTEM_WINDOWSAUTH/request",
            "/ccm_system/ccm_system_altauth/request",
            "/ccm_system/%61ltauth",
        ] {
            for id in [MP, u64::MAX] {
                let target = format!("/CCM_Proxy_MutualAuth/{id}{site}");
                assert_eq!(judge("CCM_POST", &target), Err(Refusal::NotPublished), "{target}");
            }
        }
    }

    #[test]
    fn a_client_registers_at_one_path_of_a_token_service_and_nowhere_else() {
        let published = Some(vec!["CCM_STS".to_owned(), "x".to_owned()]);
        let map = EndpointMap::new(vec![
            Endpoint { paths: published, ..endpoint("sts", EndpointKind::TokenService, 1) },
            endpoint("mp", EndpointKind::ManagementPoint, 2),
        ]);
        let map = map.unwrap();
        let registers = |role_id: u64, path: &str| {
            let target = format!("/CCM_Proxy_ServerAuth/{role_id}{path}").parse().unwrap();
            map.route(&Method::from_bytes(b"CCM_POST").unwrap(), &target).unwrap().is_registration()
        };
        for path in ["/CCM_STS/register", "/ccm_sts/%52egister?register", "/CCM_STS/REGISTER?a=/b"]
        {
            assert!(registers(1, path), "{path}");
            assert!(!registers(2, path), "{path}");
        }
        for path in [
            "/CCM_STS",
            "/CCM_STS/renew",
            "/CCM_STS/exchange",
            "/CCM_STS/register/",
            "/CCM_STS/register/x",
            "/CCM_STS/registers",
            "/CCM_STS/renew/register",
            "/CCM_STS/CCM_STS/register",
            "/CCM_STS/renew?/CCM_STS/register",
            "/x/register",
        ] {
            assert!(!registers(1, path), "{path}");
        }
    }

    #[test]
    fn verbs_are_exact_per_kind() {
        const MP_VERBS: [&str; 5] = ["HEAD", "CCM_POST", "BITS_POST", "GET", "PROPFIND"];

        let mp = format!("/CCM_Proxy_MutualAuth/{MP}/SMS_MP/.sms_aut");
        let sup = "/CCM_Proxy_MutualAuth/7/ClientWebService/client.asmx";
        for verb in MP_VERBS {
            assert!(judge(verb, &mp).is_ok(), "{verb}");
            assert!(judge(verb, sup).is_ok(), "{verb}");
        }
        assert!(judge("POST", sup).is_ok());

        let refused = Err(Refusal::VerbNotAllowed { allowed: &MP_VERBS });
        for verb in ["POST", "get", "Ccm_Post", "PUT", "DELETE", "OPTIONS", "CONNECT", "GETX"] {
            assert_eq!(judge(verb, &mp), refused, "{verb}");
        }
        for verb in ["post", "PUT", "OPTIONS"] {
            assert!(matches!(judge(verb, sup), Err(Refusal::VerbNotAllowed { .. })), "{verb}");
        }
    }

    #[test]
    fn an_unsafe_path_is_refused_before_anything_else_is_looked_at() {
        for target in
            ["/CCM_Proxy_MutualAuth/7/ClientWebService/../../secret", "/%2e%2e/x", "/a/./b"]
        {
            let refused = Err(Refusal::UnsafePath(UnsafePath::TrailingDot));
            assert_eq!(judge("GET", target), refused, "{target}");
            assert_eq!(judge("BREW", target), refused, "{target}");
        }
    }

    proptest! {
        #[test]
        fn no_target_makes_the_map_panic_and_each_verdict_repeats(
            tail in "(/|[a-zA-Z0-9_.;:{}-]|%[0-9a-f]{2}|SMS_MP|ccm_system|\\?|=){0,24}"
        ) {
            let id = MP;
            for text in [format!("/CCM_Proxy_MutualAuth/{id}/{tail}"), format!("/{tail}")] {
                let first = judge("GET", &text);
                prop_assert_eq!(&first, &judge("GET", &text));
                if let Ok((_, _, site)) = first {
                    prop_assert!(text.ends_with(&site));
                    prop_assert_eq!(format!("/CCM_Proxy_MutualAuth/{id}{site}"), text);
                }
            }
        }
    }
}
