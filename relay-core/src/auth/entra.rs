//! Tokens of Entra tenants.

use super::jwks::KeySet;
use super::jwt::{Claims, Jwt, Times};
use super::{Guid, Issuer, Method, Principal, TokenFault};

/// How far the clocks of Entra and an instance may be apart, in seconds.
pub const ENTRA_LEEWAY: u64 = 300;

/// Longest validity of a token, in seconds: 28 hours.
// Source: Microsoft Learn, "Configurable token lifetimes" and "Continuous access evaluation": up to
// 24 hours by policy, up to 28 where access is evaluated all the time.
pub const ENTRA_LIFETIME_MAX: u64 = 28 * 3600;

/// A tenant whose members may be clients.
#[derive(Clone, Debug)]
pub struct TrustedTenant {
    /// The tenant.
    pub id: Guid,
    /// Whether its tokens count at present.
    pub is_enabled: bool,
    /// The issuers that are accepted; [`Issuer::V1`] by default.
    pub issuers: Vec<Issuer>,
    /// The audiences that are accepted; `https://ConfigMgrService` by default.
    pub audiences: Vec<String>,
    /// The keys of its cloud. A tenant lives in one, so no other cloud's key verifies its tokens.
    /// Empty while none have been fetched.
    pub keys: KeySet,
}

impl TrustedTenant {
    /// A tenant with the defaults: enabled, version 1, the usual audience.
    pub fn new(id: Guid, keys: KeySet) -> Self {
        let audiences = vec!["https://ConfigMgrService".to_owned()];
        Self { id, is_enabled: true, issuers: vec![Issuer::V1], audiences, keys }
    }
}

/// A token of a tenant. Once its signature is verified, all that is left to ask is what time and
/// administrators may change: [`EntraToken::admit`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EntraToken {
    tenant: Guid,
    device: Option<Guid>,
    user: Option<Guid>,
    audience: String,
    issuer: String,
    times: Times,
}

impl EntraToken {
    /// Judges a token at `now`. What costs nothing comes first: only a token that would be good is
    /// ever computed on, and only such a one finds its key unknown.
    ///
    /// # Errors
    ///
    /// [`TokenFault`]; after [`TokenFault::UnknownKey`] and [`TokenFault::KeysNotFetched`] the
    /// caller may ask for newer keys.
    pub fn judge(jwt: &Jwt<'_>, tenants: &[TrustedTenant], now: u64) -> Result<Self, TokenFault> {
        let token = Self::read(jwt.claims())?;
        let tenant = token.admitted_by(tenants)?;
        token.times.judge(now, ENTRA_LEEWAY, ENTRA_LIFETIME_MAX)?;
        let name = jwt.key_id("kid")?;
        let key = match tenant.keys.get(name) {
            Some(key) => key,
            None if tenant.keys.is_empty() => return Err(TokenFault::KeysNotFetched),
            None => return Err(TokenFault::UnknownKey),
        };
        jwt.check(key)?;
        Ok(token)
    }

    /// Who shows this token, if it still counts at `now`.
    ///
    /// # Errors
    ///
    /// [`TokenFault`], if its time is over or has not come, or its tenant counts no more.
    pub fn admit(&self, tenants: &[TrustedTenant], now: u64) -> Result<Principal, TokenFault> {
        self.admitted_by(tenants)?;
        let until = self.times.judge(now, ENTRA_LEEWAY, ENTRA_LIFETIME_MAX)?;
        Ok(Principal { method: Method::Entra, name: self.name(), client: None, until })
    }

    /// The tenant it is of.
    pub fn tenant(&self) -> Guid {
        self.tenant
    }

    /// The device it was issued to, if any.
    pub fn device(&self) -> Option<Guid> {
        self.device
    }

    /// The user, or the device's own account, that it was issued to, if any.
    pub fn user(&self) -> Option<Guid> {
        self.user
    }

    fn read(claims: Claims<'_>) -> Result<Self, TokenFault> {
        let token = Self {
            tenant: guid(claims, "tid")?,
            device: claims.if_any("deviceid", guid)?,
            user: claims.if_any("oid", guid)?,
            // RFC 7519, section 4.1.3, lets it be a list. Our choice: it is refused. Entra issues
            // each token for one resource; any of several could show it to us in its owner's name.
            audience: claims.text("aud")?.to_owned(),
            issuer: claims.text("iss")?.to_owned(),
            times: claims.times()?,
        };
        if token.device.or(token.user).is_none() {
            return Err(TokenFault::Nobody);
        }
        Ok(token)
    }

    fn admitted_by<'a>(
        &self,
        tenants: &'a [TrustedTenant],
    ) -> Result<&'a TrustedTenant, TokenFault> {
        let tenant = tenants.iter().find(|it| it.id == self.tenant).ok_or(TokenFault::Tenant)?;
        if !tenant.is_enabled {
            return Err(TokenFault::TenantDisabled);
        }
        if !tenant.issuers.iter().any(|issuer| issuer.text(tenant.id) == self.issuer) {
            return Err(TokenFault::Issuer);
        }
        if !tenant.audiences.contains(&self.audience) {
            return Err(TokenFault::Audience);
        }
        Ok(tenant)
    }

    fn name(&self) -> String {
        let tenant = self.tenant;
        match (self.device, self.user) {
            (Some(device), Some(user)) => {
                format!("device {device} with {user} of tenant {tenant}")
            }
            (Some(device), None) => format!("device {device} of tenant {tenant}"),
            (None, user) => format!("{} of tenant {tenant}", user.unwrap_or(tenant)),
        }
    }
}

/// A GUID as Entra writes it: in lower case. There is one way to write each.
fn guid(claims: Claims<'_>, name: &'static str) -> Result<Guid, TokenFault> {
    let text = claims.text(name)?;
    let guid: Option<Guid> = text.parse().ok();
    guid.filter(|guid| guid.to_string() == text).ok_or(TokenFault::ClaimForm(name))
}
