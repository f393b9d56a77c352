//! Which certificates' keys a client has proven to have, for one request.
//!
//! A token that is bound to a certificate counts for whoever has its key. A client shows that in
//! TLS; where its TLS ends at a proxy on the way, by a signed timestamp in each request. Such a
//! signature is looked at only once all else about the request is good: strangers have nothing
//! computed for them.
//!
//! Read [`Shows`] first. `auth` judges; the memory of what was used is [`Used`], one for each site.

use std::cell::OnceCell;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest;
use bytes::Bytes;
use http::HeaderMap;
use rustls::pki_types::CertificateDer;

use crate::auth::{
    Category, ClaimedPossession, Finding, Possession, PossessionFault, Presented, Replay, Shown,
    TokenFault, Tokens, Unproven, Use,
};
use crate::exchange::ProvenCertificate;

/// Timestamps of keys that tokens are bound to which are remembered for a site: 20 MiB at most.
/// Enough for 6,000 clients that each sign one every 13 s, which all count for 10 minutes.
const OF_CLIENTS_MAX: usize = 256 * 1024;

/// The same of other keys: 1.3 MiB at most. Whoever has a bulk token can make as many keys as it
/// wants; the clients of the site must not pay for that.
const OF_NEWCOMERS_MAX: usize = 16 * 1024;

/// Which signed timestamps were used at a site.
#[derive(Debug)]
pub(super) struct Used {
    of_clients: Mutex<Replay>,
    of_newcomers: Mutex<Replay>,
}

impl Default for Used {
    fn default() -> Self {
        Self::new(OF_CLIENTS_MAX, OF_NEWCOMERS_MAX)
    }
}

impl Used {
    fn new(of_clients: usize, of_newcomers: usize) -> Self {
        Self {
            of_clients: Mutex::new(Replay::new(of_clients)),
            of_newcomers: Mutex::new(Replay::new(of_newcomers)),
        }
    }
}

/// What a client shows with one request.
pub(super) struct Shows<'a> {
    /// The token.
    pub(super) presented: Presented<'a>,
    /// What it is shown for.
    pub(super) purpose: Use,
    /// The certificates that it has shown in TLS, its own first; whose key it has.
    pub(super) chain: &'a [CertificateDer<'a>],
    headers: &'a HeaderMap,
    /// What was signed, once that is judged: a timestamp is used once for each request.
    signed: OnceCell<Result<Option<Possession>, PossessionFault>>,
}

impl<'a> Shows<'a> {
    pub(super) fn new(
        presented: Presented<'a>,
        purpose: Use,
        chain: &'a [CertificateDer<'a>],
        headers: &'a HeaderMap,
    ) -> Self {
        Self { presented, purpose, chain, headers, signed: OnceCell::new() }
    }

    /// What the token is by `judge`, for a client that has the keys it has.
    pub(super) fn site_token(
        &self,
        now: u64,
        used: &Used,
        judge: impl Fn(Shown<'_>) -> Finding,
    ) -> Finding {
        let of = |possessed: &[_]| judge(Shown { now, purpose: self.purpose, possessed });
        let mut possessed: Vec<_> = self.chain.first().map(fingerprint).into_iter().collect();
        let found = of(&possessed);
        if found != Finding::Unproven(Unproven::Token(TokenFault::Unbound)) {
            return found;
        }
        match ClaimedPossession::read(self.headers) {
            Ok(None) => return found,
            Ok(Some(claimed)) => possessed.push(*claimed.thumbprint()),
            Err(fault) => return Finding::Unproven(fault.into()),
        }
        // As if the key were proven: only for a token that is good then it is worth a look.
        match of(&possessed) {
            found @ Finding::Proven(_) => self.by_signature(found, now, &used.of_clients),
            found => found,
        }
    }

    /// Whether the certificate in TLS goes with the token: the token says that it is bound to it,
    /// or it is what a newcomer is to register. Nothing of what a token says is proven here.
    pub(super) fn is_with_certificate_of_its_own(&self) -> bool {
        let Some(leaf) = self.chain.first() else { return false };
        let claimed = Tokens::claimed_binding(&self.presented);
        let is_newcomer = self.purpose == Use::Registration;
        claimed.certificate.is_some_and(|bound| bound == fingerprint(leaf))
            || is_newcomer && claimed.category == Some(Category::Bulk)
    }

    /// `found`, unless the client has signed for the token service what proves nothing. It may
    /// register the key of a certificate that no token is bound to yet.
    pub(super) fn confirm(&self, found: Finding, now: u64, used: &Used) -> Finding {
        match found {
            Finding::Proven(_) if self.purpose != Use::Traffic && !self.signs_as_in_tls() => {
                self.by_signature(found, now, &used.of_newcomers)
            }
            found => found,
        }
    }

    /// Whether what is signed is signed for the certificate in TLS. That has proven its key:
    /// neither a clock nor whoever fills the memory of newcomers keeps such a client from renewal.
    fn signs_as_in_tls(&self) -> bool {
        let Some(leaf) = self.chain.first() else { return false };
        let claimed = ClaimedPossession::read(self.headers).ok().flatten();
        claimed.is_some_and(|it| *it.thumbprint() == fingerprint(leaf))
    }

    /// `found`, if the signature is good, or there is none.
    fn by_signature(&self, found: Finding, now: u64, used: &Mutex<Replay>) -> Finding {
        let judged = self.signed.get_or_init(|| {
            let claimed = ClaimedPossession::read(self.headers)?;
            let take =
                |key, at| used.lock().unwrap_or_else(PoisonError::into_inner).take(key, at, now);
            claimed.map(|it| it.verify(now, take)).transpose()
        });
        match judged {
            Ok(_) => found,
            Err(fault) => Finding::Unproven(fault.clone().into()),
        }
    }

    /// The certificate that the token service is to know of, if its client is somebody: what is
    /// signed, being for this request, goes before what was shown in TLS.
    pub(super) fn for_token_service(&self) -> Option<ProvenCertificate> {
        if self.purpose == Use::Traffic {
            return None;
        }
        let signed = self.signed.get().and_then(|judged| judged.as_ref().ok()?.as_ref());
        let der = match signed {
            Some(possession) => possession.certificate.clone(),
            None => Bytes::copy_from_slice(self.chain.first()?),
        };
        ProvenCertificate::new(der)
    }
}

pub(super) fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, certificate);
    digest.as_ref().try_into().expect("SHA-256 has 32 octets")
}

#[cfg(test)]
#[path = "possession/tests.rs"]
mod tests;
