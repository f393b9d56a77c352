//! What a request's token comes to, for each method that reads tokens.

use super::cache::{VERIFIED_MAX, Verified};
use super::entra::{EntraToken, TrustedTenant};
use super::jwt::{Jwt, bearer, digest};
use super::site_token::{
    Category, Shown, SigningKey, SiteToken, SiteTrust, claimed_category, claimed_certificate,
};
use super::{Finding, Guid, Principal, TokenFault};

/// Whose tokens count, and what was verified by that.
#[derive(Debug)]
pub struct Tokens {
    tenants: Vec<TrustedTenant>,
    site: Option<SiteTrust>,
    generation: u64,
    of_tenants: Verified<EntraToken>,
    of_site: Verified<SiteToken>,
}

/// The token of one request. Its text is in no log: whoever has it has what it opens.
pub struct Presented<'a> {
    token: Result<Option<&'a str>, TokenFault>,
}

impl<'a> Presented<'a> {
    /// What the Authorization fields of a request hold.
    pub fn new(authorization: impl Iterator<Item = &'a [u8]>) -> Self {
        Self { token: bearer(authorization) }
    }

    /// Whether there is anything that was meant as a token.
    pub(super) fn is_there(&self) -> bool {
        !matches!(self.token, Ok(None))
    }
}

/// What a token of the site says of itself. Nothing of it is proven.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ClaimedBinding {
    /// SHA-256 of the certificate that it is bound to.
    pub certificate: Option<[u8; 32]>,
    /// What it is for.
    pub category: Option<Category>,
}

impl std::fmt::Debug for Presented<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = self.token.as_ref().map(|token| token.map(|_| "[redacted]"));
        f.debug_tuple("Presented").field(&shown).finish()
    }
}

impl Default for Tokens {
    /// Nobody's tokens count.
    fn default() -> Self {
        Self {
            tenants: Vec::new(),
            site: None,
            generation: 0,
            of_tenants: Verified::new(VERIFIED_MAX),
            of_site: Verified::new(VERIFIED_MAX),
        }
    }
}

impl Tokens {
    /// Has tokens of these count from now on, and of nobody else. Where a key is trusted no more,
    /// all that was verified is forgotten; whatever else has changed is asked at each request.
    pub fn trust(&mut self, tenants: Vec<TrustedTenant>, site: Option<SiteTrust>) {
        let keeps = |old: &TrustedTenant| {
            tenants.iter().any(|new| new.id == old.id && new.keys.has_all_of(&old.keys))
        };
        let of_site = |trust: &Option<SiteTrust>| -> Vec<SigningKey> {
            trust.iter().flat_map(|trust| trust.keys.clone()).collect()
        };
        let (old, new) = (of_site(&self.site), of_site(&site));
        // What a token says of its site was read when it was verified.
        let name = |trust: &Option<SiteTrust>| trust.as_ref().map(|trust| trust.tenant);
        let is_other = self.site.is_some() && name(&self.site) != name(&site);
        let has_all = old.iter().all(|key| new.contains(key));
        if is_other || !self.tenants.iter().all(keeps) || !has_all {
            self.generation += 1;
        }
        self.tenants = tenants;
        self.site = site;
    }

    /// What a request's token is as one of a tenant. A token that says the site has issued it is
    /// absent here.
    pub fn of_tenant(&self, presented: &Presented<'_>, now: u64) -> Finding {
        finding(presented, |text| {
            let digest = digest(text);
            if let Some(known) = self.of_tenants.get(self.generation, &digest) {
                return known.admit(&self.tenants, now).map(Some);
            }
            let jwt = Jwt::read(text)?;
            if jwt.claims_to_be_of_the_site() {
                return Ok(None);
            }
            let token = EntraToken::judge(&jwt, &self.tenants, now)?;
            let token = self.of_tenants.put(self.generation, digest, token);
            token.admit(&self.tenants, now).map(Some)
        })
    }

    /// The tenant that a request's token says it is of: for whoever asks for newer keys. Nothing of
    /// it is proven.
    pub fn claimed_tenant(presented: &Presented<'_>) -> Option<Guid> {
        let text = presented.token.as_ref().ok().copied().flatten()?;
        let jwt = Jwt::read(text).ok()?;
        jwt.claims().text("tid").ok()?.parse().ok()
    }

    /// What a request's token says that the site has bound it to, and what for: by that the
    /// certificate beside it is known for one that the client has made itself. Nothing of it is
    /// proven; of other issuers' tokens it is nothing at all.
    pub fn claimed_binding(presented: &Presented<'_>) -> ClaimedBinding {
        let text = presented.token.as_ref().ok().copied().flatten();
        let jwt = text.and_then(|text| Jwt::read(text).ok());
        let Some(jwt) = jwt.filter(Jwt::claims_to_be_of_the_site) else {
            return ClaimedBinding::default();
        };
        ClaimedBinding {
            certificate: claimed_certificate(jwt.claims()),
            category: claimed_category(jwt.claims()),
        }
    }

    /// What a request's token is as one of the site. A token that does not say so is absent here,
    /// unless it is none at all.
    pub fn of_site(&self, presented: &Presented<'_>, shown: Shown<'_>) -> Finding {
        finding(presented, |text| {
            let site = self.site.as_ref().ok_or(TokenFault::Issuer);
            let digest = digest(text);
            if let Some(known) = self.of_site.get(self.generation, &digest) {
                return known.admit(site?, shown).map(Some);
            }
            let jwt = Jwt::read(text)?;
            if !jwt.claims_to_be_of_the_site() {
                return Ok(None);
            }
            let token = SiteToken::judge(&jwt, site.clone()?, shown)?;
            let token = self.of_site.put(self.generation, digest, token);
            token.admit(site?, shown).map(Some)
        })
    }
}

fn finding(
    presented: &Presented<'_>,
    judge: impl FnOnce(&str) -> Result<Option<Principal>, TokenFault>,
) -> Finding {
    let found = match &presented.token {
        Ok(None) => Ok(None),
        Ok(Some(text)) => judge(text),
        Err(fault) => Err(fault.clone()),
    };
    match found {
        Ok(None) => Finding::Absent,
        Ok(Some(principal)) => Finding::Proven(principal),
        Err(fault) => Finding::Unproven(fault.into()),
    }
}
