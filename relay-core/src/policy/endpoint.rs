//! What is published: endpoints and the map of them.

use std::collections::HashMap;

use http::HeaderMap;
use http::header::HeaderName;

use super::{RequestHeaders, headers, route};
use crate::auth::Methods;

/// What kind of site role an endpoint leads to; decides its verbs and its default paths.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum EndpointKind {
    /// A management point.
    ManagementPoint,
    /// A software update point.
    SoftwareUpdatePoint,
    /// A distribution point: content, which is read and never written.
    Content,
    /// The site's own token service, where clients register, renew what they were given, and
    /// exchange tokens of Entra.
    TokenService,
}

impl EndpointKind {
    /// Returns the verbs that may pass, exact and case-sensitive.
    ///
    /// Source: Microsoft Learn, "CMG data flow", HTTP verbs that the gateway relays; a software
    /// update point adds POST for its SOAP services, and content is only read.
    pub fn verbs(self) -> &'static [&'static str] {
        match self {
            Self::ManagementPoint => &["HEAD", "CCM_POST", "BITS_POST", "GET", "PROPFIND"],
            Self::Content => &["HEAD", "GET", "PROPFIND"],
            // Our choice: it gives and never shows, so nothing but a message reaches it.
            Self::TokenService => &["CCM_POST", "POST"],
            Self::SoftwareUpdatePoint => {
                &["HEAD", "CCM_POST", "BITS_POST", "GET", "PROPFIND", "POST"]
            }
        }
    }

    /// Returns the path prefixes below the role id that are published unless an endpoint names its
    /// own. Matched in any ASCII case, on a segment boundary.
    pub fn default_paths(self) -> &'static [&'static str] {
        match self {
            Self::ManagementPoint => &[
                "SMS_MP",
                "ccm_system",
                "ccm_system_tokenauth",
                "ccm_incoming",
                "CCM_STS",
                "CCM_Client",
                "BGB",
            ],
            // Not `Content`: clients take update content from the cloud, never through the relay.
            Self::SoftwareUpdatePoint => {
                &["ClientWebService", "SimpleAuthWebService", "ReportingWebService"]
            }
            // The virtual directories of a distribution point for packages and their signatures.
            Self::Content => &["SMS_DP_SMSPKG$", "SMS_DP_SMSSIG$"],
            Self::TokenService => &["CCM_STS"],
        }
    }
}

/// Who may use an endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Access {
    /// Anybody: for trials; start-up warns about each one.
    Anonymous,
    /// Whoever shows who it is by one of these methods, if the site counts that method.
    Clients(Methods),
}

/// One published URL mapping: `/CCM_Proxy_*/<role_id>/<path>` to one site role.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// The administrator's name for it, unique in the map; appears in logs.
    pub name: String,
    /// Decides verbs and default paths.
    pub kind: EndpointKind,
    /// The decimal number in the URL; unique in the map.
    pub role_id: u64,
    /// Path prefixes below the role id that are published, such as `SMS_MP` or `/a/b/`; `None`
    /// means the kind's defaults, and an empty list publishes nothing.
    pub paths: Option<Vec<String>>,
    /// Largest request body in octets; `None` means no limit.
    pub request_body_bytes_max: Option<u64>,
    /// Which header fields of a request may pass.
    pub request_headers: RequestHeaders,
    /// Who may use it.
    pub access: Access,
}

impl Endpoint {
    /// Drops every field of a request that may not reach this endpoint, beyond those that
    /// [`strip_request_headers`](super::strip_request_headers) drops for all: what its closed list
    /// leaves out, and `CCMClientCertificate` unless it is a token service's. Doing it twice
    /// changes nothing more.
    pub fn strip_request_headers(&self, headers: &mut HeaderMap) {
        self.request_headers.strip(headers);
        if self.kind != EndpointKind::TokenService {
            headers.remove(headers::CLIENT_CERTIFICATE);
        }
    }
}

/// Every published endpoint, keyed by role id.
///
/// Lookups cost one hash; memory is that of the endpoints and two small indexes. It never changes
/// after it is built: publish a new map instead.
#[derive(Clone, Debug, Default)]
pub struct EndpointMap {
    endpoints: Vec<Endpoint>,
    /// Places in `endpoints`.
    by_role_id: HashMap<u64, usize>,
    /// Places in `endpoints`.
    by_name: HashMap<String, usize>,
}

/// Why a set of endpoints is not a map.
#[derive(Clone, Debug, thiserror::Error, Eq, PartialEq)]
#[non_exhaustive]
pub enum EndpointMapError {
    /// Two endpoints share a role id.
    #[error("endpoints `{first}` and `{second}` share role id {role_id}; give each its own")]
    DuplicateRoleId {
        /// The role id used twice.
        role_id: u64,
        /// Name of the earlier endpoint.
        first: String,
        /// Name of the later endpoint.
        second: String,
    },
    /// Two endpoints share a name.
    #[error("two endpoints are named `{name}`; give each its own name")]
    DuplicateName {
        /// The name used twice.
        name: String,
    },
    /// A path that cannot be published.
    #[error(
        "endpoint `{endpoint}` cannot publish `{path}`; give plain ASCII segments such as \
         `SMS_MP`, without escapes or dot segments, and not an alternate-authentication path"
    )]
    UnusablePath {
        /// Name of the endpoint.
        endpoint: String,
        /// The path as configured.
        path: String,
    },
    /// A header field on the list that never passes.
    #[error(
        "endpoint `{endpoint}` lists the header `{name}`, which never passes; take it off the \
         list: it is about one hop only, or only the relay may set it"
    )]
    UnusableHeader {
        /// Name of the endpoint.
        endpoint: String,
        /// The field's name.
        name: HeaderName,
    },
}

impl EndpointMap {
    /// Builds the map.
    ///
    /// # Errors
    ///
    /// [`EndpointMapError`] when two endpoints share a name or a role id, or when an endpoint names
    /// a path that is empty, ambiguous or an alternate-authentication path, or a header that never
    /// passes.
    pub fn new(endpoints: Vec<Endpoint>) -> Result<Self, EndpointMapError> {
        let mut map = Self::default();
        for endpoint in endpoints {
            map.add(endpoint)?;
        }
        Ok(map)
    }

    fn add(&mut self, endpoint: Endpoint) -> Result<(), EndpointMapError> {
        for path in endpoint.paths.iter().flatten() {
            if !route::is_publishable(path) {
                let path = path.clone();
                return Err(EndpointMapError::UnusablePath { endpoint: endpoint.name, path });
            }
        }
        if let Some(name) = endpoint.request_headers.unusable() {
            let name = name.clone();
            return Err(EndpointMapError::UnusableHeader { endpoint: endpoint.name, name });
        }
        if self.by_name(&endpoint.name).is_some() {
            return Err(EndpointMapError::DuplicateName { name: endpoint.name });
        }
        if let Some(first) = self.by_role_id(endpoint.role_id) {
            return Err(EndpointMapError::DuplicateRoleId {
                role_id: endpoint.role_id,
                first: first.name.clone(),
                second: endpoint.name,
            });
        }
        let place = self.endpoints.len();
        self.by_role_id.insert(endpoint.role_id, place);
        self.by_name.insert(endpoint.name.clone(), place);
        self.endpoints.push(endpoint);
        Ok(())
    }

    /// The endpoints in the order given.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Finds the endpoint with this role id.
    pub fn by_role_id(&self, role_id: u64) -> Option<&Endpoint> {
        self.endpoints.get(*self.by_role_id.get(&role_id)?)
    }

    /// Finds the endpoint with this name; case-sensitive.
    pub fn by_name(&self, name: &str) -> Option<&Endpoint> {
        self.endpoints.get(*self.by_name.get(name)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(name: &str, role_id: u64) -> Endpoint {
        Endpoint {
            name: name.to_owned(),
            kind: EndpointKind::ManagementPoint,
            role_id,
            paths: None,
            request_body_bytes_max: None,
            request_headers: RequestHeaders::Open,
            access: Access::Anonymous,
        }
    }

    #[test]
    fn endpoints_are_found_by_role_id_and_by_exact_name() {
        let map = EndpointMap::new(vec![endpoint("a", 1), endpoint("A", 2)]).unwrap();
        assert_eq!(map.by_role_id(2).unwrap().name, "A");
        assert_eq!(map.by_name("a").unwrap().role_id, 1);
        assert!(map.by_role_id(3).is_none());
        assert!(map.by_name("b").is_none());
        assert_eq!(map.endpoints().len(), 2);
    }

    #[test]
    fn a_token_service_takes_messages_and_nothing_else() {
        assert_eq!(EndpointKind::TokenService.verbs(), ["CCM_POST", "POST"]);
        assert_eq!(EndpointKind::TokenService.default_paths(), ["CCM_STS"]);
    }

    #[test]
    fn a_clients_certificate_reaches_a_token_service_alone() {
        use EndpointKind::{Content, ManagementPoint, SoftwareUpdatePoint, TokenService};
        for kind in [Content, ManagementPoint, SoftwareUpdatePoint, TokenService] {
            for request_headers in [RequestHeaders::Open, RequestHeaders::Listed([].into())] {
                let endpoint = Endpoint { kind, request_headers, ..endpoint("a", 1) };
                let mut headers = HeaderMap::new();
                for name in ["ccmclientcertificate", "ccmclientid"] {
                    headers.insert(name, http::HeaderValue::from_static("x"));
                }
                endpoint.strip_request_headers(&mut headers);
                let is_there = headers.contains_key("ccmclientcertificate");
                assert_eq!(is_there, kind == TokenService, "{kind:?}");
                assert!(headers.contains_key("ccmclientid"));
            }
        }
    }

    #[test]
    fn a_shared_role_id_or_name_is_refused() {
        assert_eq!(
            EndpointMap::new(vec![endpoint("a", 1), endpoint("b", 1)]).unwrap_err(),
            EndpointMapError::DuplicateRoleId {
                role_id: 1,
                first: "a".to_owned(),
                second: "b".to_owned()
            }
        );
        assert_eq!(
            EndpointMap::new(vec![endpoint("a", 1), endpoint("a", 2)]).unwrap_err(),
            EndpointMapError::DuplicateName { name: "a".to_owned() }
        );
    }

    #[test]
    fn a_listed_header_that_never_passes_is_refused() {
        for name in ["connection", "x-forwarded-for", "transfer-encoding", "relay-message-id"] {
            let name = HeaderName::from_static(name);
            let request_headers = RequestHeaders::Listed([name.clone()].into());
            assert_eq!(
                EndpointMap::new(vec![Endpoint { request_headers, ..endpoint("a", 1) }]).err(),
                Some(EndpointMapError::UnusableHeader { endpoint: "a".to_owned(), name })
            );
        }
        let request_headers = RequestHeaders::Listed([HeaderName::from_static("x-site")].into());
        EndpointMap::new(vec![Endpoint { request_headers, ..endpoint("a", 1) }]).unwrap();
    }

    #[test]
    fn a_path_that_could_publish_too_much_is_refused() {
        for path in ["", "/", "//", "a//b", "..", "a/../b", "a%62", "a?b", "ccm_system_altauth"] {
            let published = Endpoint { paths: Some(vec![path.to_owned()]), ..endpoint("a", 1) };
            assert_eq!(
                EndpointMap::new(vec![published]).unwrap_err(),
                EndpointMapError::UnusablePath { endpoint: "a".to_owned(), path: path.to_owned() }
            );
        }
    }
}
