//! Who the clients of each site are: what the site has published of that, made ready to judge by.
//!
//! `auth` judges; here is what it judges by, what it remembers, and the clock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::SystemTime;

use bytes::Bytes;
use rustls::pki_types::CertificateDer;

use crate::auth::{
    CertificateFault, CertificateTrust, Crl, CrlFault, Crls, Finding, KeySet, KeySetError, Method,
    Methods, Principal, PublishedFault, RevocationCheck, SignerFault, SigningKey, SiteTrust,
    Strictness, Tokens, Trail, TrustedTenant, Verdicts, search,
};
use crate::settings::{
    ClientTrust, KeySource, ListSource, PublishedCertificates, PublishedSigners, Revocation,
    TenantTrust,
};

use super::possession::{Shows, Used};

/// Chains of certificates that are remembered for a site: 8 MiB at most.
const CHAINS_MAX: usize = 8 * 1024;

/// Why nobody can be judged by what a site has published. Its own fault.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error(transparent)]
    Certificates(#[from] PublishedFault),
    #[error("revocation list {place}: {why}")]
    List { place: usize, why: CrlFault },
    #[error("the keys of tenant {place}: {why}")]
    Keys { place: usize, why: KeySetError },
    #[error("signer {place} of tokens: {why}")]
    Signer { place: usize, why: SignerFault },
}

/// What clients of a site are judged by.
pub(super) struct Trusted {
    methods: Methods,
    strictness: Strictness,
    tenants: Vec<TrustedTenant>,
    site: Option<SiteTrust>,
    certificates: Option<(CertificateTrust, Crls)>,
}

impl Trusted {
    /// Reads what a site has published.
    pub(super) fn new(published: &ClientTrust) -> Result<Self, Unusable> {
        let tenants = (1..).zip(&published.tenants).map(|(place, it)| tenant(place, it));
        Ok(Self {
            methods: published.methods,
            strictness: published.strictness,
            tenants: tenants.collect::<Result<_, _>>()?,
            site: published.tokens.as_ref().map(site).transpose()?,
            certificates: published.certificates.as_ref().map(certificates).transpose()?,
        })
    }
}

/// Judges whether clients can be judged by what a site would publish.
///
/// # Errors
///
/// What is wrong and where, for people.
pub fn check_clients(published: &ClientTrust) -> Result<(), String> {
    published.check().map_err(|why| why.to_string())?;
    Trusted::new(published).map(|_| ()).map_err(|why| why.to_string())
}

fn tenant(place: usize, published: &TenantTrust) -> Result<TrustedTenant, Unusable> {
    let keys = match &published.keys {
        KeySource::Published(set) => {
            KeySet::read(set).map_err(|why| Unusable::Keys { place, why })?.0
        }
        // Until they are fetched no key is known, so that no token is good.
        KeySource::Authority(_) => KeySet::default(),
    };
    Ok(TrustedTenant {
        id: published.id,
        is_enabled: published.is_enabled,
        issuers: published.issuers.clone(),
        audiences: published.audiences.clone(),
        keys,
    })
}

fn site(published: &PublishedSigners) -> Result<SiteTrust, Unusable> {
    let signer = |(place, der): (usize, &Bytes)| {
        SigningKey::of_certificate(der).map_err(|why| Unusable::Signer { place, why })
    };
    let keys = (1..).zip(&published.certificates).map(signer).collect::<Result<_, _>>()?;
    let blocked = published.blocked.iter().copied().collect();
    Ok(SiteTrust { tenant: published.tenant, keys, blocked })
}

fn certificates(published: &PublishedCertificates) -> Result<(CertificateTrust, Crls), Unusable> {
    let octets = |list: &[Bytes]| -> Vec<Vec<u8>> { list.iter().map(|it| it.to_vec()).collect() };
    let (roots, below) = (octets(&published.roots), octets(&published.intermediates));
    let roots: Vec<_> = roots.iter().map(Vec::as_slice).collect();
    let below: Vec<_> = below.iter().map(Vec::as_slice).collect();
    let (check, lists) = match &published.revocation {
        Revocation::Off => (RevocationCheck::Off, &[][..]),
        Revocation::On(lists) => (RevocationCheck::On, &lists[..]),
    };
    let trust = CertificateTrust::new(&roots, &below, check, 0)?;
    let mut held = Crls::default();
    for (place, list) in (1..).zip(lists) {
        // What is fetched comes later; without it a certificate is refused.
        let ListSource::Der(der) = list else { continue };
        let read = Crl::from_der(der).and_then(|list| held.take(list, &trust));
        read.map_err(|why| Unusable::List { place, why })?;
    }
    Ok((trust, held))
}

/// Who the clients of all sites are.
#[derive(Debug, Default)]
pub(super) struct Clients(RwLock<HashMap<String, Arc<SiteClients>>>);

impl Clients {
    pub(super) fn of(&self, site: &str) -> Option<Arc<SiteClients>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(site).cloned()
    }

    /// Has clients of `site` judged by this from now on. What was remembered stays where it still
    /// counts.
    pub(super) fn trust(&self, site: &str, trusted: Option<Trusted>) {
        let mut sites = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match trusted {
            None => drop(sites.remove(site)),
            Some(trusted) => {
                let clients = sites.entry(site.to_owned()).or_default();
                clients.trust(trusted);
            }
        }
    }
}

/// Who the clients of one site are.
#[derive(Debug, Default)]
pub(super) struct SiteClients {
    judged_by: RwLock<JudgedBy>,
    verdicts: Mutex<Option<Verdicts>>,
    used: Used,
}

#[derive(Debug, Default)]
struct JudgedBy {
    methods: Methods,
    strictness: Strictness,
    tokens: Tokens,
    certificates: Option<Arc<(CertificateTrust, Crls)>>,
    /// Rises with each trust, so that no verdict outlives one.
    generation: u64,
}

impl SiteClients {
    fn trust(&self, trusted: Trusted) {
        let mut now = self.judged_by.write().unwrap_or_else(PoisonError::into_inner);
        now.generation += 1;
        (now.methods, now.strictness) = (trusted.methods, trusted.strictness);
        now.tokens.trust(trusted.tenants, trusted.site);
        let generation = now.generation;
        let of_now = |(trust, lists): (CertificateTrust, _)| {
            Arc::new((trust.of_generation(generation), lists))
        };
        now.certificates = trusted.certificates.map(of_now);
    }

    /// Finds out who a client is by `allowed` methods.
    pub(super) fn search(&self, allowed: Methods, shows: &Shows<'_>) -> Trail {
        let now = seconds(SystemTime::now());
        let (methods, strictness, certificates) = {
            let by = self.judged_by();
            (by.methods.within(&allowed), by.strictness, by.certificates.clone())
        };
        // The document would not have been taken without one that is allowed.
        let Some(methods) = methods else { return Trail::default() };
        let presented = &shows.presented;
        search(&methods, strictness, |method| {
            let found = match method {
                Method::Entra => self.judged_by().tokens.of_tenant(presented, now),
                Method::Certificate => self.certificate(certificates.as_deref(), shows.chain, now),
                Method::SiteToken => shows.site_token(now, &self.used, |shown| {
                    self.judged_by().tokens.of_site(presented, shown)
                }),
            };
            shows.confirm(found, now, &self.used)
        })
    }

    fn judged_by(&self) -> RwLockReadGuard<'_, JudgedBy> {
        self.judged_by.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Judges a chain. Nobody waits meanwhile: it takes as long as several signatures.
    fn certificate(
        &self,
        by: Option<&(CertificateTrust, Crls)>,
        chain: &[CertificateDer<'_>],
        now: u64,
    ) -> Finding {
        if chain.is_empty() {
            return Finding::Absent;
        }
        let Some((trust, lists)) = by else {
            return Finding::Unproven(CertificateFault::Untrusted.into());
        };
        let shown: Vec<&[u8]> = chain.iter().map(|it| &**it).collect();
        let known = self.with_verdicts(|all| all.known(trust, lists, &shown, now));
        let judged = known.and_then(|known| match known {
            Some(known) => Ok(known),
            None => trust.judge(lists, &shown, now).inspect(|judged| {
                self.with_verdicts(|all| all.note(trust, lists, &shown, judged));
            }),
        });
        match judged {
            Ok(it) => Finding::Proven(Principal {
                method: Method::Certificate,
                name: it.subject,
                until: it.until,
            }),
            Err(why) => Finding::Unproven(why.into()),
        }
    }

    fn with_verdicts<T>(&self, look: impl FnOnce(&mut Verdicts) -> T) -> T {
        let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        look(verdicts.get_or_insert_with(|| Verdicts::new(CHAINS_MAX)))
    }
}

/// Seconds since 1970 UTC.
fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
