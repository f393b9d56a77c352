//! Grants for content: signed with the key of the site's tokens, and kept nowhere.

use anyhow::Context as _;
use rcgen::SigningKey as _;
use relay_core::auth::Guid;
use relay_core::config::SiteTokens;
use relay_core::content::{Grant, Granted, PackageId, SignedGrant};

use super::command::now;
use super::opening::{self, prepare};

/// A grant that is to be signed, from now on.
pub(crate) struct WantedGrant {
    pub(crate) package: PackageId,
    pub(crate) granted: Granted,
    pub(crate) client: Guid,
    /// For how long.
    pub(crate) seconds: u64,
    /// SHA-256 of the certificate that its client shows in TLS, if it does.
    pub(crate) bound_to: Option<[u8; 32]>,
}

/// Signs a grant. Instances know the certificate as soon as the connection point has published it.
///
/// # Errors
///
/// What cannot be used, and what to do.
pub(crate) fn sign_grant(tokens: &SiteTokens, wanted: WantedGrant) -> anyhow::Result<SignedGrant> {
    let now = now()?;
    let (mut keys, mut store) = prepare(tokens, now)?;
    if keys.is_empty() {
        opening::rotate(&mut keys, store.as_mut(), now)?;
    }
    let signer = opening::signer(&keys, store.as_mut(), now)?;
    let WantedGrant { package, granted, client, seconds, bound_to } = wanted;
    let issuer = tokens.tenant;
    let ends = now + seconds;
    let grant = Grant { package, granted, client, issuer, begins: now, ends, bound_to };
    grant.sign(&signer.key, |text| {
        signer.secret.sign(text).context("cannot sign; make another key by `relay token rotate`")
    })
}
