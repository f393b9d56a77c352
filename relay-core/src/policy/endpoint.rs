//! What is published: endpoints and the map of them.

/// What kind of site role an endpoint leads to; decides its verbs and its default paths.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum EndpointKind {
    /// A management point.
    ManagementPoint,
    /// A software update point.
    SoftwareUpdatePoint,
}

/// Who may use an endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Access {
    /// Anybody. Exists only until client authentication does; start-up warns about each one.
    Anonymous,
}

/// One published URL mapping: `/CCM_Proxy_*/<role_id>/<path>` to one site role.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The administrator's name for it, unique in the map; appears in logs.
    pub name: String,
    /// Decides verbs and default paths.
    pub kind: EndpointKind,
    /// The decimal number in the URL; unique in the map.
    pub role_id: u64,
    /// Path prefixes below the role id that are published; `None` means the kind's defaults.
    pub paths: Option<Vec<String>>,
    /// Largest request body in octets; `None` means no limit.
    pub request_body_bytes_max: Option<u64>,
    /// Who may use it.
    pub access: Access,
}

/// Every published endpoint, keyed by role id.
#[derive(Clone, Debug, Default)]
pub struct EndpointMap {
    endpoints: Vec<Endpoint>,
}

/// Why a set of endpoints is not a map.
#[derive(Debug, thiserror::Error, Eq, PartialEq)]
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
}

impl EndpointMap {
    /// Builds the map.
    ///
    /// # Errors
    ///
    /// [`EndpointMapError`] when two endpoints share a name or a role id.
    pub fn new(endpoints: Vec<Endpoint>) -> Result<Self, EndpointMapError> {
        Ok(Self { endpoints })
    }

    /// The endpoints in the order given.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }
}
