//! How often each method of authentication has proven who a client is, or has not, and why.
//!
//! A request counts once for each method that found something in it: what is absent is not counted.
//! What its client was told is counted by `counted.rs`.

use crate::auth::{CertificateFault, Finding, Method, TokenFault, Trail, Unproven};
use crate::exchange::Tally;

/// What a method has found so and so often.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct ProofCount {
    /// The method.
    pub method: Method,
    /// `proven`, or the name of the fault: [`TokenFault::name`], [`CertificateFault::name`].
    pub outcome: &'static str,
    /// How often, since the start.
    pub count: u64,
}

/// That a method has found out who a client is.
const PROVEN: &str = "proven";

/// That it has, but for a signed head that does not prove the key which the client needs.
const SIGNATURE: &str = "possession";

/// What each method has found, each by a list that never grows.
#[derive(Debug)]
pub(super) struct Proofs([(Method, Tally); Method::ALL.len()]);

impl Default for Proofs {
    fn default() -> Self {
        let of = |method| {
            let faults: Vec<_> = match method {
                Method::Certificate => {
                    CertificateFault::ALL.iter().map(CertificateFault::name).collect()
                }
                Method::Entra | Method::SiteToken => {
                    TokenFault::ALL.iter().map(TokenFault::name).collect()
                }
            };
            (method, Tally::new(&[&[PROVEN, SIGNATURE][..], &faults].concat()))
        };
        Self(Method::ALL.map(of))
    }
}

impl Proofs {
    /// Counts what was found of one request.
    pub(super) fn note(&self, trail: &Trail) {
        for (method, finding) in trail.iter() {
            let outcome = match finding {
                Finding::Absent => continue,
                Finding::Proven(_) => PROVEN,
                Finding::Unproven(Unproven::Token(why)) => why.name(),
                Finding::Unproven(Unproven::Certificate(why)) => why.name(),
                Finding::Unproven(Unproven::Possession(_)) => SIGNATURE,
            };
            if let Some((_, tally)) = self.0.iter().find(|(it, _)| it == method) {
                tally.note(outcome);
            }
        }
    }

    /// All of it.
    pub(super) fn counts(&self) -> Vec<ProofCount> {
        let counts = self.0.iter().flat_map(|(method, tally)| {
            let of = |it: crate::exchange::Count| ProofCount {
                method: *method,
                outcome: it.name,
                count: it.count,
            };
            tally.counts().into_iter().map(of)
        });
        counts.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::auth::{Methods, PossessionFault, Principal, Strictness, search};

    /// A new variant does not compile before it has its place here, and fails before it is listed.
    fn place_of_token_fault(fault: &TokenFault) -> usize {
        use TokenFault as F;
        match fault {
            F::SeveralFields => 0,
            F::FieldTooLong => 1,
            F::Scheme => 2,
            F::Malformed => 3,
            F::TooLong(_) => 4,
            F::Base64(_) => 5,
            F::Json(_) => 6,
            F::Duplicate(_) => 7,
            F::Extension(_) => 8,
            F::EmbeddedKey(_) => 9,
            F::Algorithm => 10,
            F::Type => 11,
            F::NoKeyId(_) => 12,
            F::KeyIdsDisagree => 13,
            F::UnknownKey => 14,
            F::KeysNotFetched => 15,
            F::Signature => 16,
            F::NoClaim(_) => 17,
            F::ClaimForm(_) => 18,
            F::Claim(_) => 19,
            F::Issuer => 20,
            F::Audience => 21,
            F::Tenant => 22,
            F::TenantDisabled => 23,
            F::NotYet => 24,
            F::IssuedLater => 25,
            F::Expired => 26,
            F::LivesTooLong => 27,
            F::Nobody => 28,
            F::Blocked => 29,
            F::RegistrationOnly => 30,
            F::TrafficOnly => 31,
            F::Unbound => 32,
        }
    }

    fn place_of_certificate_fault(fault: &CertificateFault) -> usize {
        use CertificateFault as F;
        match fault {
            F::Malformed => 0,
            F::TooLarge => 1,
            F::TooDeep => 2,
            F::TooCostly => 3,
            F::Untrusted => 4,
            F::Expired => 5,
            F::NotYetValid => 6,
            F::NoClientUse => 7,
            F::NotPermitted => 8,
            F::Revoked => 9,
            F::ListMissing => 10,
            F::ListNotFetched => 11,
            F::ListExpired => 12,
            F::ListNotYetValid => 13,
            F::ListUntrusted => 14,
            F::Weak => 15,
        }
    }

    #[test]
    fn each_fault_of_each_method_has_a_count_of_its_own() {
        assert!(TokenFault::ALL.iter().map(place_of_token_fault).eq(0..33));
        assert!(CertificateFault::ALL.iter().map(place_of_certificate_fault).eq(0..16));
        let proofs = Proofs::default();
        let note = |method, finding: Finding| {
            let only = Methods::new(&[method]).unwrap();
            proofs.note(&search(&only, Strictness::FallThrough, |_| finding.clone()));
        };
        for method in Method::ALL {
            note(method, Finding::Absent);
            let name = "somebody".to_owned();
            note(method, Finding::Proven(Principal { method, name, client: None, until: 1 }));
            note(method, Finding::Unproven(Unproven::Possession(PossessionFault::Unsigned)));
        }
        for fault in TokenFault::ALL {
            note(Method::Entra, Finding::Unproven(fault.clone().into()));
            note(Method::SiteToken, Finding::Unproven(fault.into()));
        }
        for fault in CertificateFault::ALL {
            note(Method::Certificate, Finding::Unproven(fault.into()));
        }
        let counts = proofs.counts();
        let mut names = BTreeSet::new();
        for it in &counts {
            assert_eq!(it.count, u64::from(it.outcome != "other"), "{it:?}");
            assert!(names.insert((it.method, it.outcome)), "{it:?} is there twice");
        }
        assert_eq!(counts.len(), 2 * (2 + 33 + 1) + (2 + 16 + 1));
    }
}
