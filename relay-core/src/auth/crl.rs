//! Lists of certificates that authorities have taken back, and which of two lists holds.
//!
//! A list is read whole when it is taken in, so that none that is broken somewhere is ever asked.
//! It is kept as its octets: an index by serial number would take many times the memory. Its
//! signature is checked whenever a certificate is judged by it, for only then it is known which key
//! must have made it.

use std::sync::Arc;

use webpki::{BorrowedCertRevocationList, CertRevocationList};
use x509_parser::asn1_rs::{Any, FromDer as _, Tag};
use x509_parser::extensions::{ParsedExtension, X509Extension};
use x509_parser::time::ASN1Time;

use super::certificate::CertificateTrust;

/// Octets of a list, at most; what is longer is not read.
pub const CRL_BYTES_MAX: usize = 32 << 20;

/// Lists that are held at a time, at most.
// Our choice: four for each of the authorities that a site may publish.
const CRLS_MAX: usize = 256;

/// Octets of a list's number, at most.
// RFC 5280, section 5.2.3.
const NUMBER_BYTES_MAX: usize = 20;

/// One revocation list, read and held.
#[derive(Clone, Eq, PartialEq)]
pub struct Crl {
    der: Arc<[u8]>,
    /// The issuer's name in DER without its outer header, as `webpki` compares it.
    issuer: Vec<u8>,
    /// Which key of the issuer's; empty if it is not said.
    authority_key: Vec<u8>,
    /// For which of the issuer's certificates, in DER; empty for all.
    scope: Vec<u8>,
    /// Big-endian, without leading zeros; empty if there is none.
    number: Vec<u8>,
    this_update: u64,
    next_update: u64,
}

/// Why octets are no revocation list that can be used. The authority's fault, or that of whoever
/// has published the list.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CrlFault {
    /// It exceeds [`CRL_BYTES_MAX`].
    #[error("the revocation list exceeds {CRL_BYTES_MAX} octets; have the authority partition it")]
    TooLong,
    /// It is no list, or none as RFC 5280 has it: version 2, with the time of the next one.
    #[error("not a revocation list of RFC 5280 in DER")]
    Malformed,
    /// It says only what has changed since another list.
    #[error("a delta list says too little; publish the complete one")]
    Delta,
    /// It says what others than its issuer have taken back, or only for some reasons.
    #[error("an indirect list, or one for some reasons only; publish the complete one")]
    Partial,
    /// It ends before it begins.
    #[error("the revocation list ends before it begins")]
    NeverValid,
    /// No published authority has signed it: anybody may have made it.
    #[error("no published authority has signed the revocation list")]
    Unsigned,
    /// The list that is held is newer, or as new with other content.
    #[error("a newer revocation list of the same authority is held already")]
    Older,
    /// There are as many lists as are held at a time.
    #[error("more than {CRLS_MAX} revocation lists; take out those of authorities not in use")]
    TooMany,
}

impl From<webpki::Error> for CrlFault {
    fn from(error: webpki::Error) -> Self {
        match error {
            webpki::Error::UnsupportedDeltaCrl => Self::Delta,
            webpki::Error::UnsupportedIndirectCrl
            | webpki::Error::UnsupportedRevocationReasonsPartitioning => Self::Partial,
            _ => Self::Malformed,
        }
    }
}

/// Its issuer and times, but not its octets.
impl std::fmt::Debug for Crl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Crl")
            .field("octets", &self.der.len())
            .field("this_update", &self.this_update)
            .field("next_update", &self.next_update)
            .finish_non_exhaustive()
    }
}

impl Crl {
    /// Reads a list in DER, each entry of it. Its signature is not judged.
    ///
    /// # Errors
    ///
    /// [`CrlFault`], of those that concern one list.
    pub fn from_der(der: &[u8]) -> Result<Self, CrlFault> {
        if der.len() > CRL_BYTES_MAX {
            return Err(CrlFault::TooLong);
        }
        let list = BorrowedCertRevocationList::from_der(der)?;
        for entry in &list {
            entry?;
        }
        let list = CertRevocationList::from(list);
        let (issuer, scope) = (list.issuer().to_vec(), list.issuing_distribution_point());
        let head = Head::read(der).ok_or(CrlFault::Malformed)?;
        if head.this_update >= head.next_update {
            return Err(CrlFault::NeverValid);
        }
        Ok(Self {
            issuer,
            scope: scope.unwrap_or_default().to_vec(),
            authority_key: head.authority_key,
            number: head.number,
            this_update: head.this_update,
            next_update: head.next_update,
            der: der.into(),
        })
    }

    /// When it was issued, in seconds since 1970 UTC. It says nothing before.
    pub fn this_update(&self) -> u64 {
        self.this_update
    }

    /// When the next one is due, in seconds since 1970 UTC. It says nothing from then on.
    pub fn next_update(&self) -> u64 {
        self.next_update
    }

    /// The list as it came.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// What is signed, the algorithm in DER without its outer header, and the signature.
    pub(super) fn signed(&self) -> Option<(&[u8], &[u8], &[u8])> {
        let (_, list) = Any::from_der(&self.der).ok()?;
        let (rest, _) = Any::from_der(list.data).ok()?;
        let signed = list.data.get(..list.data.len() - rest.len())?;
        let (rest, algorithm) = Any::from_der(rest).ok()?;
        let (_, signature) = Any::from_der(rest).ok()?;
        // The first octet says how many bits are unused: none.
        Some((signed, algorithm.data, signature.data.strip_prefix(&[0])?))
    }

    /// As `webpki` has it.
    pub(super) fn borrowed(&self) -> Option<CertRevocationList<'_>> {
        BorrowedCertRevocationList::from_der(&self.der).ok().map(Into::into)
    }

    /// Whether the authority with this name, in DER without its outer header, has issued it.
    pub(super) fn is_of(&self, issuer: &[u8]) -> bool {
        self.issuer == issuer
    }

    /// Whether it says which key has signed it, and that is the one with this identifier.
    pub(super) fn is_by(&self, authority_key: &[u8]) -> bool {
        !self.authority_key.is_empty() && self.authority_key == authority_key
    }

    /// Whether both speak of the same certificates, so that only one of them can hold.
    fn replaces(&self, other: &Self) -> bool {
        self.issuer == other.issuer
            && self.authority_key == other.authority_key
            && self.scope == other.scope
    }

    /// Whether it was issued after `other`. Numbers decide where both have one: they rise with each
    /// list, whatever the authority's clock does.
    // RFC 5280, section 5.2.3.
    fn is_newer_than(&self, other: &Self) -> bool {
        if self.number.is_empty() || other.number.is_empty() {
            return self.this_update > other.this_update;
        }
        let size = |it: &Self| it.number.len();
        (size(self), &self.number) > (size(other), &other.number)
    }
}

/// What `webpki` reads of a list, but does not tell.
struct Head {
    this_update: u64,
    next_update: u64,
    number: Vec<u8>,
    authority_key: Vec<u8>,
}

impl Head {
    /// Reads the head of a list without its entries, which `webpki` has judged.
    fn read(der: &[u8]) -> Option<Self> {
        let (_, list) = Any::from_der(der).ok()?;
        let (_, signed) = Any::from_der(list.data).ok()?;
        // Version, algorithm and issuer stand before the times.
        let (mut rest, _version) = Any::from_der(signed.data).ok()?;
        for _ in 0..2 {
            (rest, _) = Any::from_der(rest).ok()?;
        }
        let (rest, this_update) = ASN1Time::from_der(rest).ok()?;
        let (mut rest, next_update) = ASN1Time::from_der(rest).ok()?;
        let mut head = Self {
            this_update: seconds(this_update)?,
            next_update: seconds(next_update)?,
            number: Vec::new(),
            authority_key: Vec::new(),
        };
        while !rest.is_empty() {
            let (after, part) = Any::from_der(rest).ok()?;
            rest = after;
            // What comes tagged as 0 are the extensions, the other part are the entries.
            if part.header.tag() == Tag(0) {
                head.read_extensions(part.data)?;
            }
        }
        Some(head)
    }

    fn read_extensions(&mut self, tagged: &[u8]) -> Option<()> {
        let (_, list) = Any::from_der(tagged).ok()?;
        let mut rest = list.data;
        while !rest.is_empty() {
            let (after, extension) = X509Extension::from_der(rest).ok()?;
            rest = after;
            match extension.parsed_extension() {
                ParsedExtension::CRLNumber(number) => self.number = number.to_bytes_be(),
                ParsedExtension::AuthorityKeyIdentifier(identifier) => {
                    let key = identifier.key_identifier.as_ref();
                    self.authority_key = key.map(|it| it.0.to_vec()).unwrap_or_default();
                }
                _ => {}
            }
        }
        (self.number.len() <= NUMBER_BYTES_MAX).then_some(())
    }
}

/// Seconds since 1970; `None` before.
pub(super) fn seconds(time: ASN1Time) -> Option<u64> {
    time.timestamp().try_into().ok()
}

/// The lists that hold: of each authority, key and scope the newest that was ever taken in.
#[derive(Clone, Debug, Default)]
pub struct Crls {
    held: Vec<Crl>,
    generation: u64,
    is_awaiting: bool,
}

impl Crls {
    /// Has `list` hold, in place of the one before it. Returns whether anything has changed: the
    /// list that is held may come again.
    ///
    /// A root or an authority that `trust` knows must have signed it. Lists come over plain HTTP;
    /// else whoever stands in between could have one hold that no later one replaces.
    ///
    /// # Errors
    ///
    /// [`CrlFault::Unsigned`], [`CrlFault::Older`], [`CrlFault::TooMany`]; then what held before
    /// still does.
    pub fn take(&mut self, list: Crl, trust: &CertificateTrust) -> Result<bool, CrlFault> {
        if !trust.has_signed(&list) {
            return Err(CrlFault::Unsigned);
        }
        self.hold(list)
    }

    /// As [`Crls::take`], of a list that may be one that `before` holds, the same and no copy: its
    /// signature is not verified again. `trust` must have let in what `before` holds.
    ///
    /// # Errors
    ///
    /// As [`Crls::take`].
    pub fn take_again(
        &mut self,
        list: Crl,
        trust: &CertificateTrust,
        before: &Self,
    ) -> Result<bool, CrlFault> {
        let is_known = before.held.iter().any(|held| Arc::ptr_eq(&held.der, &list.der));
        if is_known { self.hold(list) } else { self.take(list, trust) }
    }

    pub(super) fn hold(&mut self, list: Crl) -> Result<bool, CrlFault> {
        let Some(held) = self.held.iter_mut().find(|held| list.replaces(held)) else {
            if self.held.len() >= CRLS_MAX {
                return Err(CrlFault::TooMany);
            }
            self.held.push(list);
            self.generation += 1;
            return Ok(true);
        };
        if *held == list {
            return Ok(false);
        }
        if !list.is_newer_than(held) {
            return Err(CrlFault::Older);
        }
        *held = list;
        self.generation += 1;
        Ok(true)
    }

    /// The same, said to lack lists that are to be fetched, or to have them all: whoever misses one
    /// is told so.
    #[must_use]
    pub fn awaiting(self, is_awaiting: bool) -> Self {
        Self { is_awaiting, ..self }
    }

    /// Whether there are lists that are still to be fetched.
    pub fn is_awaiting(&self) -> bool {
        self.is_awaiting
    }

    /// Those that hold.
    pub fn iter(&self) -> impl Iterator<Item = &Crl> {
        self.held.iter()
    }

    /// Rises with each change.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

#[cfg(test)]
#[path = "crl/tests.rs"]
mod tests;
