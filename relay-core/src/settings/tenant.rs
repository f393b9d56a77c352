//! Tenants that clients may be members of.

use crate::auth::Guid;

/// Tenants in one document.
pub const TENANTS_MAX: usize = 64;

/// Longest name of a tenant's resource, in octets.
pub(super) const RESOURCE_OCTETS_MAX: usize = 1024;

/// An onboarded Entra tenant, as far as clients may ask about it. None of it is a secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tenant {
    /// The tenant; unique in a document.
    pub id: Guid,
    /// The client application that its devices ask for a token as.
    pub application_id: Guid,
    /// What they ask for a token to: 1 to 1,024 octets of text without control characters, such as
    /// `https://ConfigMgrService`.
    pub resource: String,
}
