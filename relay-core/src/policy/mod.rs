//! Which verbs, headers and paths may pass, and to which published endpoint. Pure decisions.
mod endpoint;

pub use endpoint::{Access, Endpoint, EndpointKind, EndpointMap, EndpointMapError};
