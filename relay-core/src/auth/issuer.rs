//! Who issues tokens of tenants.

use super::Guid;

/// Who has issued a token, and in which version.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Issuer {
    /// Version 1: what clients of a site get by default.
    V1,
    /// Version 2.
    V2,
    /// Version 2 of the cloud for the government of the United States.
    Government,
}

impl Issuer {
    /// Its name in configurations and documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::Government => "government",
        }
    }

    /// The text of `iss` for a tenant.
    // Source: Microsoft Learn, "Access tokens in the Microsoft identity platform", claim `iss`.
    pub fn text(self, tenant: Guid) -> String {
        match self {
            Self::V1 => format!("https://sts.windows.net/{tenant}/"),
            Self::V2 => format!("https://login.microsoftonline.com/{tenant}/v2.0"),
            Self::Government => format!("https://login.microsoftonline.us/{tenant}/v2.0"),
        }
    }
}
