//! Who the clients of each site are: what the site has published of that, made ready to judge by.
//!
//! `auth` judges; here is what it judges by, what it remembers, and the clock. What is to be
//! fetched for that, `fetching.rs` has fetched; it is in force with the next request.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::SystemTime;

use bytes::Bytes;
use rustls::pki_types::CertificateDer;

use crate::auth::{
    CertificateFault, CertificateTrust, Crl, CrlFault, Crls, Finding, Issuer, KeySet, KeySetError,
    Method, Methods, Presented, Principal, PublishedFault, RevocationCheck, SignerFault,
    SigningKey, SiteTrust, Strictness, TokenFault, Tokens, Trail, TrustedTenant, Unproven,
    Verdicts, search,
};
use crate::content::{GrantFault, SignedGrant};
use crate::fetched::{
    AddressFault, Fetched, KeySource as FetchedKeys, ListLocation, ProviderVersion, WantError,
};
use crate::settings::{
    ClientTrust, KeySource, ListSource, PublishedCertificates, PublishedSigners, Revocation,
    TenantTrust,
};

use super::fetching::{Fetching, Wanted};
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
    #[error("the address of revocation list {place}: {why}")]
    ListAddress { place: usize, why: AddressFault },
    #[error("the keys of tenant {place}: {why}")]
    Keys { place: usize, why: KeySetError },
    #[error("the authority of tenant {place}: {why}")]
    Authority { place: usize, why: AddressFault },
    #[error("signer {place} of tokens: {why}")]
    Signer { place: usize, why: SignerFault },
    #[error(transparent)]
    TooMuch(#[from] WantError),
}

/// What clients of a site are judged by, as far as the site has published it.
#[derive(Debug, Default)]
pub(super) struct Trusted {
    methods: Methods,
    strictness: Strictness,
    tenants: Vec<Onboarded>,
    site: Option<SiteTrust>,
    certificates: Option<Authorities>,
    /// By the method that finds them.
    barred: BTreeMap<Method, HashSet<String>>,
}

/// A tenant, and where its keys are fetched from if they are not published.
#[derive(Debug)]
struct Onboarded {
    tenant: TrustedTenant,
    keys_from: Option<FetchedKeys>,
}

/// What certificates are judged by.
#[derive(Debug)]
struct Authorities {
    /// By which a later document shows whether it says another thing.
    published: PublishedCertificates,
    trust: CertificateTrust,
    /// Those that are published themselves.
    lists: Crls,
    /// Where others are.
    places: Vec<ListLocation>,
    /// What those have given, as far as it is in force.
    used: Vec<Option<Arc<[Crl]>>>,
}

impl Trusted {
    /// Reads what a site has published.
    pub(super) fn new(published: &ClientTrust) -> Result<Self, Unusable> {
        let tenants = (1..).zip(&published.tenants).map(|(place, it)| onboarded(place, it));
        let mut barred = BTreeMap::<_, HashSet<_>>::new();
        for client in &published.barred {
            barred.entry(client.method).or_default().insert(client.name.clone());
        }
        Ok(Self {
            barred,
            methods: published.methods,
            strictness: published.strictness,
            tenants: tenants.collect::<Result<_, _>>()?,
            site: published.tokens.as_ref().map(site).transpose()?,
            certificates: published.certificates.as_ref().map(certificates).transpose()?,
        })
    }

    /// Where keys are fetched from. Those of a tenant that is disabled too: it may be enabled again
    /// while its provider is down.
    fn keys_from(&self) -> impl Iterator<Item = &FetchedKeys> {
        self.tenants.iter().filter_map(|it| it.keys_from.as_ref())
    }

    /// Where lists are fetched from, and whose they may be.
    fn lists_from(&self) -> impl Iterator<Item = (&ListLocation, &CertificateTrust)> {
        let all = self.certificates.iter();
        all.flat_map(|it| it.places.iter().map(move |place| (place, &it.trust)))
    }

    /// Whether both have the same fetched.
    fn fetches_as(&self, other: &Self) -> bool {
        let places = |it: &Self| -> Vec<_> { it.lists_from().map(|it| it.0.clone()).collect() };
        self.keys_from().eq(other.keys_from()) && places(self) == places(other)
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

fn onboarded(place: usize, published: &TenantTrust) -> Result<Onboarded, Unusable> {
    let (keys, keys_from) = match &published.keys {
        KeySource::Published(set) => {
            (KeySet::read(set).map_err(|why| Unusable::Keys { place, why })?.0, None)
        }
        KeySource::Authority(authority) => {
            // Both versions are signed with the same keys; metadata is of one. In whatever order
            // they stand, it is the same one, so that no key is forgotten for another order.
            let issuers = &published.issuers;
            let is_one = issuers.is_empty() || issuers.contains(&Issuer::V1);
            let version = if is_one { ProviderVersion::V1 } else { ProviderVersion::V2 };
            let source = FetchedKeys::new(published.id, authority, version);
            (KeySet::default(), Some(source.map_err(|why| Unusable::Authority { place, why })?))
        }
    };
    let tenant = TrustedTenant {
        id: published.id,
        is_enabled: published.is_enabled,
        issuers: published.issuers.clone(),
        audiences: published.audiences.clone(),
        keys,
    };
    Ok(Onboarded { tenant, keys_from })
}

fn site(published: &PublishedSigners) -> Result<SiteTrust, Unusable> {
    let signer = |(place, der): (usize, &Bytes)| {
        SigningKey::of_certificate(der).map_err(|why| Unusable::Signer { place, why })
    };
    let keys = (1..).zip(&published.certificates).map(signer).collect::<Result<_, _>>()?;
    let blocked = published.blocked.iter().copied().collect();
    Ok(SiteTrust { tenant: published.tenant, keys, blocked })
}

fn certificates(published: &PublishedCertificates) -> Result<Authorities, Unusable> {
    let octets = |list: &[Bytes]| -> Vec<Vec<u8>> { list.iter().map(|it| it.to_vec()).collect() };
    let (roots, below) = (octets(&published.roots), octets(&published.intermediates));
    let roots: Vec<_> = roots.iter().map(Vec::as_slice).collect();
    let below: Vec<_> = below.iter().map(Vec::as_slice).collect();
    let (check, listed) = match &published.revocation {
        Revocation::Off => (RevocationCheck::Off, &[][..]),
        Revocation::On(lists) => (RevocationCheck::On, &lists[..]),
    };
    let trust = CertificateTrust::new(&roots, &below, check, 0)?;
    let (mut lists, mut places) = (Crls::default(), Vec::new());
    for (place, list) in (1..).zip(listed) {
        match list {
            ListSource::Der(der) => {
                let read = Crl::from_der(der).and_then(|list| lists.take(list, &trust));
                read.map_err(|why| Unusable::List { place, why })?;
            }
            ListSource::Url(url) => {
                let read = ListLocation::server(url);
                places.push(read.map_err(|why| Unusable::ListAddress { place, why })?);
            }
        }
    }
    let used = vec![None; places.len()];
    Ok(Authorities { published: published.clone(), trust, lists, places, used })
}

/// Who the clients of all sites are.
#[derive(Debug)]
pub(super) struct Clients {
    sites: RwLock<BTreeMap<String, Arc<SiteClients>>>,
    fetching: Fetching,
}

impl Clients {
    /// Nobody's; what is to be fetched for them is fetched by `fetching`.
    pub(super) fn new(fetching: Fetching) -> Self {
        Self { sites: RwLock::default(), fetching }
    }

    pub(super) fn of(&self, site: &str) -> Option<Arc<SiteClients>> {
        self.sites.read().unwrap_or_else(PoisonError::into_inner).get(site).cloned()
    }

    /// What is fetched for them.
    pub(super) fn fetching(&self) -> &Fetching {
        &self.fetching
    }

    /// Has clients of `site` judged by this from now on, and what that needs fetched. What was
    /// remembered stays where it still counts. To be called by one at a time.
    ///
    /// # Errors
    ///
    /// [`WantError`], if that is too much for all sites together. All is as before then.
    pub(super) fn trust(&self, site: &str, trusted: Option<Trusted>) -> Result<(), WantError> {
        let all = || self.sites.write().unwrap_or_else(PoisonError::into_inner);
        let Some(trusted) = trusted else {
            all().remove(site);
            return self.want(site, None);
        };
        let fetched = self.fetching.fetched();
        let clients = self.of(site);
        let clients = clients.unwrap_or_else(|| Arc::new(SiteClients::fetching(fetched.cloned())));
        let is_new = clients.trust(trusted, |trusted| self.want(site, Some(trusted)))?;
        if is_new && fetched.is_none() {
            clients.warn_of_what_is_not_fetched(site);
        }
        all().insert(site.to_owned(), clients);
        Ok(())
    }

    /// Has fetched whatever any site needs, if `site` needs `trusted`.
    fn want(&self, site: &str, trusted: Option<&Trusted>) -> Result<(), WantError> {
        let sites = self.sites.read().unwrap_or_else(PoisonError::into_inner);
        let others = sites.iter().filter(|(name, _)| *name != site);
        let others: Vec<_> = others.map(|(name, it)| (name.as_str(), it.judged_by())).collect();
        let all = others.iter().map(|(name, it)| (*name, &it.said));
        let mut all: Vec<_> = all.chain(trusted.map(|it| (site, it))).collect();
        // In an order that is the same whoever publishes.
        all.sort_by_key(|(name, _)| *name);
        let mut wanted = Wanted::default();
        for (_, said) in all {
            wanted.add(said.keys_from(), said.lists_from());
        }
        self.fetching.want(wanted)
    }
}

/// Who the clients of one site are.
#[derive(Debug, Default)]
pub(super) struct SiteClients {
    judged_by: RwLock<JudgedBy>,
    verdicts: Mutex<Option<Verdicts>>,
    used: Used,
    /// `None` if this instance fetches nothing.
    fetched: Option<Fetched>,
}

#[derive(Debug, Default)]
struct JudgedBy {
    methods: Methods,
    strictness: Strictness,
    tokens: Tokens,
    certificates: Option<Arc<(CertificateTrust, Crls)>>,
    /// Rises with each trust and each list, so that no verdict outlives one.
    generation: u64,
    /// What the site has published.
    said: Trusted,
    /// Up to which generation what was fetched is in force.
    fetched: Option<u64>,
}

impl JudgedBy {
    /// Has what was fetched count beside what is published. Tokens and chains that were judged stay
    /// known where no key is gone and no list is new.
    fn take_fetched(&mut self, fetched: Option<&Fetched>) {
        let keys = |from: &FetchedKeys| fetched.and_then(|it| it.keys(from));
        let tenants = self.said.tenants.iter().map(|it| {
            let fetched = it.keys_from.as_ref().and_then(keys);
            let keys = fetched.map_or_else(|| it.tenant.keys.clone(), |keys| (*keys).clone());
            TrustedTenant { keys, ..it.tenant.clone() }
        });
        self.tokens.trust(tenants.collect(), self.said.site.clone());
        let Some(said) = &mut self.said.certificates else { return self.certificates = None };
        let lists = said.places.iter().map(|place| fetched.and_then(|it| it.lists_at(place)));
        let lists: Vec<_> = lists.collect();
        if self.certificates.is_some() && said.used == lists {
            return;
        }
        self.generation += 1;
        // What is in use was let in by the same trust: only new lists are hashed, while all wait.
        let before = self.certificates.as_ref().map(|it| it.1.clone()).unwrap_or_default();
        let mut all = said.lists.clone();
        for list in lists.iter().flatten().flat_map(|it| it.iter()) {
            // One of another site's authority, or older than what is published: it says nothing.
            if let Err(why) = all.take_again(list.clone(), &said.trust, &before) {
                tracing::debug!(%why, "a revocation list that was fetched is left out");
            }
        }
        let all = all.awaiting(lists.iter().any(Option::is_none));
        said.used = lists;
        let trust = said.trust.clone().of_generation(self.generation);
        self.certificates = Some(Arc::new((trust, all)));
    }
}

impl SiteClients {
    /// Nobody's, until somebody says so.
    fn fetching(fetched: Option<Fetched>) -> Self {
        Self { fetched, ..Self::default() }
    }

    /// Judges by this from now on, if `want` has fetched what it needs. Meanwhile nobody is judged,
    /// so that nobody misses what is forgotten for it. Returns whether other things are to be
    /// fetched than before.
    fn trust(
        &self,
        trusted: Trusted,
        want: impl FnOnce(&Trusted) -> Result<(), WantError>,
    ) -> Result<bool, WantError> {
        let mut now = self.judged_by.write().unwrap_or_else(PoisonError::into_inner);
        want(&trusted)?;
        // Before it is looked at: what comes meanwhile is looked at again.
        now.fetched = self.fetched.as_ref().map(Fetched::generation);
        let before = std::mem::replace(&mut now.said, trusted);
        let is_new = !now.said.fetches_as(&before);
        (now.methods, now.strictness) = (now.said.methods, now.said.strictness);
        match (&mut now.said.certificates, before.certificates) {
            (Some(new), Some(old)) if new.published == old.published => *new = old,
            _ => now.certificates = None,
        }
        now.take_fetched(self.fetched.as_ref());
        Ok(is_new)
    }

    /// Has what was fetched meanwhile in force before anybody is judged. Once for each change
    /// somebody waits as long as hashing the new lists takes.
    fn catch_up(&self) {
        let Some(fetched) = &self.fetched else { return };
        let generation = Some(fetched.generation());
        if self.judged_by().fetched == generation {
            return;
        }
        let mut now = self.judged_by.write().unwrap_or_else(PoisonError::into_inner);
        if now.fetched != generation {
            now.take_fetched(Some(fetched));
            now.fetched = generation;
        }
    }

    /// Says what a site needs that nobody fetches here.
    fn warn_of_what_is_not_fetched(&self, site: &str) {
        let now = self.judged_by();
        let keys = now.said.keys_from().map(ToString::to_string);
        let lists = now.said.lists_from().map(|(place, _)| place.to_string());
        let sources: Vec<_> = keys.chain(lists).collect();
        if !sources.is_empty() {
            tracing::warn!(
                site,
                sources = sources.join(", "),
                "the site publishes where keys or revocation lists are, and this instance fetches \
                 nothing: whoever is judged by those is refused; give it a [fetch]"
            );
        }
    }

    /// What a request's token is as one of a tenant. One whose key is not known has the keys
    /// fetched anew, by one of all who ask, and is refused at once.
    // Our choice: nobody waits for them. Anybody can write such a token, so whoever waits would be
    // one of a flood; a provider publishes a key long before it signs with it.
    fn of_tenant(&self, presented: &Presented<'_>, now: u64) -> Finding {
        let by = self.judged_by();
        let found = by.tokens.of_tenant(presented, now);
        let lacks_key = matches!(
            &found,
            Finding::Unproven(Unproven::Token(TokenFault::UnknownKey | TokenFault::KeysNotFetched))
        );
        if !lacks_key {
            return found;
        }
        let tenant = Tokens::claimed_tenant(presented);
        let source = by.said.keys_from().find(|it| Some(it.tenant()) == tenant);
        if let (Some(fetched), Some(source)) = (&self.fetched, source) {
            fetched.ask_again(source);
        }
        found
    }

    /// Finds out who a client is by `allowed` methods.
    pub(super) fn search(&self, allowed: Methods, shows: &Shows<'_>) -> Trail {
        self.catch_up();
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
                Method::Entra => self.of_tenant(presented, now),
                Method::Certificate => {
                    let found = self.certificate(certificates.as_deref(), shows.chain, now);
                    if is_for_its_token(&found, methods, shows) { Finding::Absent } else { found }
                }
                Method::SiteToken => shows.site_token(now, &self.used, |shown| {
                    self.judged_by().tokens.of_site(presented, shown)
                }),
            };
            shows.confirm(found, now, &self.used)
        })
    }

    /// Judges a grant by what the site signs with and whom it has blocked.
    pub(super) fn judge_grant(&self, grant: &SignedGrant) -> Result<(), GrantFault> {
        let by = self.judged_by();
        let trust = by.said.site.as_ref().ok_or(GrantFault::Issuer)?;
        grant.verify(trust, seconds(SystemTime::now()))
    }

    /// Whether the site lets a client not use the gateway. Asked for each request: nothing that was
    /// found out before outlives it.
    pub(super) fn bars(&self, client: &Principal) -> bool {
        let by = self.judged_by();
        by.said.barred.get(&client.method).is_some_and(|names| names.contains(client.client()))
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
                client: None,
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

/// Whether a certificate that proves nothing by itself is what a token of the site is bound to, or
/// is to be: a client that has registered itself shows one that no authority has signed. It proves
/// what its token needs, or nothing: whoever has it alone is a stranger still.
fn is_for_its_token(found: &Finding, methods: Methods, shows: &Shows<'_>) -> bool {
    let Finding::Unproven(Unproven::Certificate(why)) = found else { return false };
    *why != CertificateFault::Revoked
        && methods.contains(Method::SiteToken)
        && shows.is_with_certificate_of_its_own()
}

/// Seconds since 1970 UTC.
fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Guid;

    #[test]
    fn keys_of_a_tenant_come_from_one_place_in_whatever_order_its_issuers_stand() {
        let source = |issuers: &[Issuer]| {
            let published = TenantTrust {
                id: Guid(1),
                is_enabled: true,
                issuers: issuers.to_vec(),
                audiences: Vec::new(),
                keys: KeySource::Authority("https://login.example".to_owned()),
            };
            onboarded(1, &published).unwrap().keys_from.unwrap()
        };
        let (one, two, government) = (Issuer::V1, Issuer::V2, Issuer::Government);
        assert_eq!(source(&[one, two]), source(&[two, one]));
        assert_eq!(source(&[two, government]), source(&[government]));
        assert_ne!(source(&[one]), source(&[two]));
    }
}
