//! Whether the certificate that a client has shown in TLS proves who it is.
//!
//! TLS has proven no more than that the client has the key. Here the chain is judged against the
//! roots that the site has published, never against those of the machine: dates, uses, constraints,
//! and what the authorities have taken back. Read [`CertificateTrust::judge`] first.

use std::fmt;

use aws_lc_rs::digest;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::aws_lc_rs as algorithms;
use webpki::{
    EndEntityCert, ExpirationPolicy, KeyUsage, RevocationOptionsBuilder, VerifiedPath,
    anchor_from_trusted_cert,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;

use super::CertificateFault;
use super::crl::{Crl, Crls, seconds};

/// Certificates that a client may show, at most; the leaf is one of them.
// Our choice: six authorities below a root are followed, the leaf and the root may be shown too.
pub const CHAIN_MAX: usize = 8;

/// Octets of all certificates that a client may show, at most.
pub const CHAIN_BYTES_MAX: usize = 16 << 10;

/// Roots that a site may publish, and as many authorities below them, at most.
pub const PUBLISHED_MAX: usize = 64;

/// The shortest RSA key that counts, in bits.
// Source: NIST SP 800-131A revision 2, section 3: 2048 bits at least.
const RSA_BITS_MIN: usize = 2048;

/// Which signatures count: no SHA-1, no RSA key below 2048 bits.
static ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P256_SHA384,
    algorithms::ECDSA_P256_SHA512,
    algorithms::ECDSA_P384_SHA256,
    algorithms::ECDSA_P384_SHA384,
    algorithms::ECDSA_P384_SHA512,
    algorithms::ECDSA_P521_SHA256,
    algorithms::ECDSA_P521_SHA384,
    algorithms::ECDSA_P521_SHA512,
    algorithms::ED25519,
    algorithms::RSA_PKCS1_2048_8192_SHA256,
    algorithms::RSA_PKCS1_2048_8192_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA512,
    algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
];

/// Whether it is asked what authorities have taken back.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RevocationCheck {
    /// Of each authority of a chain a list must hold now that does not name the certificate. What
    /// cannot be said is refused.
    #[default]
    On,
    /// Nobody asks. A certificate that was stolen passes until it is over.
    Off,
}

/// What certificates of clients are judged by: what the site has published.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertificateTrust {
    roots: Vec<Root>,
    intermediates: Vec<CertificateDer<'static>>,
    check: RevocationCheck,
    generation: u64,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Root {
    der: CertificateDer<'static>,
    anchor: TrustAnchor<'static>,
    from: u64,
    until: u64,
}

/// Why what a site publishes cannot be trust. The fault of whoever publishes it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishedFault {
    /// One is no certificate, or none that can be a root.
    #[error("certificate {place} of the published {what} is no certificate of an authority")]
    Malformed {
        /// "roots" or "intermediates".
        what: &'static str,
        /// Which of them, from 1.
        place: usize,
    },
    /// There are too many.
    #[error("more than {PUBLISHED_MAX} published {what}")]
    TooMany {
        /// "roots" or "intermediates".
        what: &'static str,
    },
}

/// Who a certificate shows its holder to be, and when it does.
#[derive(Clone, Eq, PartialEq)]
#[non_exhaustive]
pub struct ClientCertificate {
    /// The subject, for people; control characters are replaced.
    pub subject: String,
    /// The alternative names that are DNS names, as written; control characters are replaced.
    pub dns_names: Vec<String>,
    /// SHA-256 of the certificate.
    pub fingerprint: [u8; 32],
    /// SHA-1 of the certificate: what administrators know it by. It proves nothing.
    pub thumbprint: [u8; 20],
    /// The first second, since 1970 UTC, in which all of the chain and its lists hold.
    pub from: u64,
    /// The last such second.
    pub until: u64,
}

impl ClientCertificate {
    /// Whether what was judged once can be said of `now` too.
    pub fn holds_at(&self, now: u64) -> bool {
        (self.from..=self.until).contains(&now)
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate")
            .field("subject", &self.subject)
            .field("from", &self.from)
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

impl CertificateTrust {
    /// Trust in `roots`, each in DER; `intermediates` help to reach them. `generation` must be
    /// another for each trust that is ever used with the same [`Verdicts`](super::Verdicts).
    ///
    /// # Errors
    ///
    /// [`PublishedFault`].
    pub fn new(
        roots: &[&[u8]],
        intermediates: &[&[u8]],
        check: RevocationCheck,
        generation: u64,
    ) -> Result<Self, PublishedFault> {
        for (what, list) in [("roots", roots), ("intermediates", intermediates)] {
            if list.len() > PUBLISHED_MAX {
                return Err(PublishedFault::TooMany { what });
            }
        }
        let mut trust = Self { roots: Vec::new(), intermediates: Vec::new(), check, generation };
        for (place, der) in (1..).zip(roots) {
            let root = Root::read(der).ok_or(PublishedFault::Malformed { what: "roots", place })?;
            trust.roots.push(root);
        }
        for (place, der) in (1..).zip(intermediates) {
            if Parsed::read(der).is_none() {
                return Err(PublishedFault::Malformed { what: "intermediates", place });
            }
            trust.intermediates.push(CertificateDer::from(der.to_vec()));
        }
        Ok(trust)
    }

    /// Trust in whatever any of `all` trusts, for lists that several sites name: each site judges
    /// by its own besides. Of generation 0, without a limit of its own, and the same in whatever
    /// order they come.
    pub fn of_any<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        let (roots, intermediates, check) = (Vec::new(), Vec::new(), RevocationCheck::On);
        let mut any = Self { roots, intermediates, check, generation: 0 };
        for each in all {
            let new = |it: &&Root| !any.roots.contains(it);
            let roots: Vec<_> = each.roots.iter().filter(new).cloned().collect();
            any.roots.extend(roots);
            let new = |it: &&CertificateDer<'_>| !any.intermediates.contains(it);
            let below: Vec<_> = each.intermediates.iter().filter(new).cloned().collect();
            any.intermediates.extend(below);
        }
        any.roots.sort_by(|one, other| one.der.as_ref().cmp(other.der.as_ref()));
        any.intermediates.sort_by(|one, other| one.as_ref().cmp(other.as_ref()));
        any
    }

    /// As this one, of another generation.
    #[must_use]
    pub fn of_generation(self, generation: u64) -> Self {
        Self { generation, ..self }
    }

    /// What it was given.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether a published root or authority has signed `list`.
    pub(super) fn has_signed(&self, list: &Crl) -> bool {
        let Some((signed, algorithm, signature)) = list.signed() else { return false };
        let right = ALGORITHMS.iter().filter(|it| it.signature_alg_id().as_ref() == algorithm);
        let right: Vec<_> = right.collect();
        let roots = self.roots.iter().map(|root| &root.der);
        roots.chain(&self.intermediates).any(|der| {
            let Ok(authority) = EndEntityCert::try_from(der) else { return false };
            list.is_of(authority.subject())
                && right
                    .iter()
                    .any(|it| authority.verify_signature(**it, signed, signature).is_ok())
        })
    }

    /// Whether `chain`, leaf first and each in DER, shows at `now` who has its key. What the client
    /// shows besides the leaf only helps to find a way to a published root.
    ///
    /// One judgement checks at most 100 signatures, and looks at few ways: see `way_up`. The
    /// signature of a list is one of them, and is checked each time: that takes as long as hashing
    /// the list.
    ///
    /// # Errors
    ///
    /// [`CertificateFault`]: whatever cannot be said is a fault.
    pub fn judge(
        &self,
        lists: &Crls,
        chain: &[&[u8]],
        now: u64,
    ) -> Result<ClientCertificate, CertificateFault> {
        within_bounds(chain)?;
        let (leaf_der, shown) = chain.split_first().ok_or(CertificateFault::Malformed)?;
        let leaf = Parsed::read(leaf_der).ok_or(CertificateFault::Malformed)?;
        leaf.has_strong_key()?;
        let authorities = [&way_up(&leaf, shown)?[..], &self.intermediates].concat();
        let anchors: Vec<_> = self.roots.iter().map(|root| root.anchor.clone()).collect();

        let der = CertificateDer::from(*leaf_der);
        let entity = EndEntityCert::try_from(&der).map_err(|error| fault(&error))?;
        let mut span = leaf.span();
        let within = |path: &VerifiedPath<'_>| self.root_holds(path, now);
        let used = self.lists_for(lists, &leaf);
        let read: Vec<_> = used.iter().filter_map(|list| list.borrowed()).collect();
        let read: Vec<_> = read.iter().collect();
        let options = match self.check {
            RevocationCheck::Off => None,
            RevocationCheck::On => {
                let options = RevocationOptionsBuilder::new(&read);
                let options = options.map_err(|_| missing(lists));
                Some(options.map(|it| it.with_expiration_policy(ExpirationPolicy::Enforce).build()))
            }
        };
        // Without any list a chain that nobody trusts is still told so: the check comes after.
        let (options, no_list) = match options {
            Some(Err(fault)) => (None, Some(fault)),
            Some(Ok(options)) => (Some(options), None),
            None => (None, None),
        };
        let path = entity
            .verify_for_usage(
                ALGORITHMS,
                &anchors,
                &authorities,
                UnixTime::since_unix_epoch(std::time::Duration::from_secs(now)),
                KeyUsage::client_auth(),
                options,
                Some(&within),
            )
            .map_err(|error| match fault(&error) {
                CertificateFault::ListMissing => missing(lists),
                fault => fault,
            })?;
        if let Some(fault) = no_list {
            return Err(fault);
        }
        leaf.is_for_clients()?;
        self.narrow_by_authorities(&path, &mut span)?;
        narrow_by_lists(&path, &used, &mut span, now)?;
        Ok(leaf.identity(leaf_der, span))
    }

    /// The lists to judge by. Those by the key that has signed the leaf come first, for of several
    /// lists under one name the first is asked: an authority that has a new key keeps its name.
    fn lists_for<'a>(&self, lists: &'a Crls, leaf: &Parsed<'_>) -> Vec<&'a Crl> {
        if self.check == RevocationCheck::Off {
            return Vec::new();
        }
        let mut used: Vec<_> = lists.iter().collect();
        let key = leaf.authority_key();
        used.sort_by_key(|list| !list.is_by(key));
        used
    }

    /// `webpki` asks no root for its dates.
    fn root_holds(&self, path: &VerifiedPath<'_>, now: u64) -> Result<(), webpki::Error> {
        let time = |seconds| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let Some(root) = self.roots.iter().find(|root| root.anchor == *path.anchor()) else {
            return Err(webpki::Error::UnknownIssuer);
        };
        if now > root.until {
            let not_after = time(root.until);
            return Err(webpki::Error::CertExpired { time: time(now), not_after });
        }
        if now < root.from {
            let not_before = time(root.from);
            return Err(webpki::Error::CertNotValidYet { time: time(now), not_before });
        }
        Ok(())
    }

    fn narrow_by_authorities(
        &self,
        path: &VerifiedPath<'_>,
        span: &mut Span,
    ) -> Result<(), CertificateFault> {
        for authority in path.intermediate_certificates() {
            let der = authority.der();
            span.narrow(Parsed::read(&der).ok_or(CertificateFault::Malformed)?.span());
        }
        let root = self.roots.iter().find(|root| root.anchor == *path.anchor());
        let root = root.ok_or(CertificateFault::Untrusted)?;
        span.narrow(Span { from: root.from, until: root.until });
        Ok(())
    }
}

/// Of what a client shows besides its leaf, what leads upwards from that: at each step the first
/// two certificates of the authority that is named, for one may have two, and no more. All ways
/// through what a stranger has made up would be some thousands otherwise, each of them looked at.
fn way_up<'a>(
    leaf: &Parsed<'_>,
    shown: &[&'a [u8]],
) -> Result<Vec<CertificateDer<'a>>, CertificateFault> {
    let read = |der: &&'a [u8]| Parsed::read(der).ok_or(CertificateFault::Malformed);
    let mut left: Vec<_> = shown.iter().zip(shown.iter().map(read)).collect();
    let mut issuer = leaf.certificate.issuer().as_raw().to_vec();
    let mut way = Vec::new();
    loop {
        let mut next = None;
        for _ in 0..2 {
            let is_it = |it: &(_, Result<Parsed<'_>, _>)| {
                it.1.as_ref().is_ok_and(|it| it.certificate.subject().as_raw() == issuer)
            };
            let Some(at) = left.iter().position(is_it) else { break };
            let (der, authority) = left.remove(at);
            way.push(CertificateDer::from(*der));
            next.get_or_insert(authority?.certificate.issuer().as_raw().to_vec());
        }
        match next {
            // One of a root's own says nothing of who is above it.
            Some(above) if above != issuer => issuer = above,
            _ => return Ok(way),
        }
    }
}

/// Which lists were asked cannot be learned from `webpki`; so all of the names count.
fn narrow_by_lists(
    path: &VerifiedPath<'_>,
    used: &[&Crl],
    span: &mut Span,
    now: u64,
) -> Result<(), CertificateFault> {
    let leaf = std::iter::once(path.end_entity().issuer());
    let issuers: Vec<_> =
        leaf.chain(path.intermediate_certificates().map(webpki::Cert::issuer)).collect();
    for list in used.iter().filter(|list| issuers.iter().any(|it| list.is_of(it))) {
        if now < list.this_update() {
            return Err(CertificateFault::ListNotYetValid);
        }
        // One of another key of the authority's may be over; nobody has asked it.
        if now < list.next_update() {
            span.narrow(Span { from: list.this_update(), until: list.next_update() - 1 });
        }
    }
    Ok(())
}

/// From when until when something holds, both inclusive, in seconds since 1970 UTC.
#[derive(Clone, Copy, Debug)]
struct Span {
    from: u64,
    until: u64,
}

impl Span {
    fn narrow(&mut self, other: Self) {
        self.from = self.from.max(other.from);
        self.until = self.until.min(other.until);
    }
}

impl Root {
    fn read(der: &[u8]) -> Option<Self> {
        let parsed = Parsed::read(der)?;
        if !parsed.certificate.is_ca() {
            return None;
        }
        let Span { from, until } = parsed.span();
        let der = CertificateDer::from(der.to_vec());
        let anchor = anchor_from_trusted_cert(&der).ok()?.to_owned();
        Some(Self { der, anchor, from, until })
    }
}

/// One certificate as it can be read, and its times.
struct Parsed<'a> {
    certificate: X509Certificate<'a>,
    span: Span,
}

impl<'a> Parsed<'a> {
    fn read(der: &'a [u8]) -> Option<Self> {
        let (rest, certificate) = X509Certificate::from_der(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let validity = certificate.validity();
        let span =
            Span { from: seconds(validity.not_before)?, until: seconds(validity.not_after)? };
        Some(Self { certificate, span })
    }

    fn span(&self) -> Span {
        self.span
    }

    /// `webpki` judges the keys that have signed, but not the leaf's.
    fn has_strong_key(&self) -> Result<(), CertificateFault> {
        let key = self.certificate.public_key();
        match key.parsed() {
            Ok(PublicKey::RSA(rsa)) if rsa.key_size() >= RSA_BITS_MIN => Ok(()),
            Ok(PublicKey::EC(point)) if point.key_size() >= 256 => Ok(()),
            // Curves of RFC 8410 are unknown to the parser. Which of them counts TLS has judged.
            Ok(PublicKey::Unknown(octets)) if octets.len() >= 32 => Ok(()),
            Ok(_) => Err(CertificateFault::Weak),
            Err(_) => Err(CertificateFault::Malformed),
        }
    }

    /// Unlike elsewhere in TLS, whoever names no uses is not taken for a client.
    // Source: Microsoft Learn, "PKI certificate requirements for Configuration Manager": enhanced
    // key usage must contain client authentication. RFC 5280, section 4.2.1.3 for the other.
    fn is_for_clients(&self) -> Result<(), CertificateFault> {
        let uses = self.certificate.extended_key_usage();
        let uses = uses.map_err(|_| CertificateFault::Malformed)?;
        let keys = self.certificate.key_usage().map_err(|_| CertificateFault::Malformed)?;
        let is_client = uses.is_some_and(|it| it.value.client_auth);
        let may_sign = keys.is_none_or(|it| it.value.digital_signature());
        if is_client && may_sign { Ok(()) } else { Err(CertificateFault::NoClientUse) }
    }

    /// Which key has signed it; empty if it does not say.
    fn authority_key(&self) -> &[u8] {
        let key = self.certificate.iter_extensions().find_map(|it| match it.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(identifier) => {
                identifier.key_identifier.as_ref().map(|key| key.0)
            }
            _ => None,
        });
        key.unwrap_or_default()
    }

    fn identity(&self, der: &[u8], span: Span) -> ClientCertificate {
        let names = self.certificate.subject_alternative_name().ok().flatten();
        let names = names.iter().flat_map(|it| &it.value.general_names);
        let dns = names.filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(printable(name)),
            _ => None,
        });
        let thumbprint = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, der);
        ClientCertificate {
            subject: printable(&self.certificate.subject().to_string()),
            dns_names: dns.collect(),
            fingerprint: sha256(&[der]),
            thumbprint: thumbprint.as_ref().try_into().expect("SHA-1 has 20 octets"),
            from: span.from,
            until: span.until,
        }
    }
}

/// Whoever chooses a name could else write lines of a log.
fn printable(name: &str) -> String {
    name.replace(char::is_control, "\u{fffd}")
}

/// Whether anybody has to read it at all.
pub(super) fn within_bounds(chain: &[&[u8]]) -> Result<(), CertificateFault> {
    let octets: usize = chain.iter().map(|der| der.len()).sum();
    if chain.len() > CHAIN_MAX || octets > CHAIN_BYTES_MAX {
        return Err(CertificateFault::TooLarge);
    }
    Ok(())
}

/// One number for all of a chain: with other authorities shown, another verdict is possible.
pub(super) fn chain_fingerprint(chain: &[&[u8]]) -> [u8; 32] {
    let each: Vec<[u8; 32]> = chain.iter().map(|der| sha256(&[der])).collect();
    let each: Vec<&[u8]> = each.iter().map(|it| &it[..]).collect();
    sha256(&each)
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    context.finish().as_ref().try_into().expect("SHA-256 has 32 octets")
}

/// Why there is no list of an authority's.
fn missing(lists: &Crls) -> CertificateFault {
    if lists.is_awaiting() {
        CertificateFault::ListNotFetched
    } else {
        CertificateFault::ListMissing
    }
}

/// What the reasons of `webpki` come to. Whatever it does not know yet is not permitted.
fn fault(error: &webpki::Error) -> CertificateFault {
    use webpki::Error as E;
    match error {
        E::CertExpired { .. } => CertificateFault::Expired,
        E::CertNotValidYet { .. } => CertificateFault::NotYetValid,
        E::CertRevoked => CertificateFault::Revoked,
        E::UnknownRevocationStatus => CertificateFault::ListMissing,
        E::CrlExpired { .. } => CertificateFault::ListExpired,
        E::InvalidCrlSignatureForPublicKey
        | E::IssuerNotCrlSigner
        | E::UnsupportedCrlSignatureAlgorithmContext(_)
        | E::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(_) => {
            CertificateFault::ListUntrusted
        }
        E::UnknownIssuer | E::InvalidSignatureForPublicKey | E::CertDistrusted => {
            CertificateFault::Untrusted
        }
        E::UnsupportedSignatureAlgorithmContext(_)
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => CertificateFault::Weak,
        E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension | E::CaUsedAsEndEntity => {
            CertificateFault::NoClientUse
        }
        E::MaximumPathDepthExceeded => CertificateFault::TooDeep,
        E::MaximumSignatureChecksExceeded
        | E::MaximumPathBuildCallsExceeded
        | E::MaximumNameConstraintComparisonsExceeded => CertificateFault::TooCostly,
        E::PathLenConstraintViolated
        | E::NameConstraintViolation
        | E::EndEntityUsedAsCa
        | E::UnsupportedCriticalExtension => CertificateFault::NotPermitted,
        _ => CertificateFault::Malformed,
    }
}

#[cfg(test)]
#[path = "certificate/tests.rs"]
mod tests;
