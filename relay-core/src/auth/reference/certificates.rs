//! What certificates and revocation lists from anywhere are judged by: nobody panics, and none
//! proves anything that no published root has signed.
//!
//! Hidden behind the feature `fuzzing` and not covered by semver. The fuzz targets and the replay
//! of their corpora call these functions; every violation is a panic.

use crate::auth::{
    CertificateTrust, ClientKey, Crl, CrlFault, Crls, RevocationCheck, SignedDigests, Verdicts,
};

/// A time at which the certificates of the corpora hold, in seconds since 1970 UTC.
const NOW: u64 = 1_800_000_000;

/// The body of the fuzz target `crl`: `data` is offered as a revocation list.
///
/// # Panics
///
/// If a list is read that holds at no time, is taken unsigned, or is older than itself.
pub fn crl(data: &[u8]) {
    let Ok(list) = Crl::from_der(data) else { return };
    assert!(list.this_update() < list.next_update());
    assert_eq!(list.der(), data);
    assert_eq!(Crl::from_der(list.der()).as_ref(), Ok(&list), "read again");
    let nobody = CertificateTrust::new(&[], &[], RevocationCheck::On, 1).expect("no roots");
    let mut lists = Crls::default();
    assert_eq!(lists.take(list.clone(), &nobody), Err(CrlFault::Unsigned));
    assert_eq!(lists.hold(list.clone()), Ok(true));
    assert_eq!(lists.hold(list), Ok(false));
}

/// The body of the fuzz target `client_certificate`: certificates, each behind its length in two
/// octets, are offered as a chain. The last is published as a root, if it can be one.
///
/// # Panics
///
/// If anything is proven without a root, or not the same is said twice.
pub fn client_certificate(data: &[u8]) {
    let mut chain = Vec::new();
    let mut rest = data;
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
        let (der, after) = after.split_at(length);
        chain.push(der);
        rest = after;
    }
    for der in &chain {
        if let Ok(key) = ClientKey::of_certificate(der) {
            assert!(key.verify("", &"00".repeat(256), SignedDigests::Sha1Too).is_err());
        }
    }
    let lists = Crls::default();
    let trust = |roots: &[&[u8]], generation| {
        CertificateTrust::new(roots, &[], RevocationCheck::Off, generation)
    };
    let nobody = trust(&[], 1).expect("no roots");
    assert!(nobody.judge(&lists, &chain, NOW).is_err(), "nobody is trusted");
    let Some(Ok(trust)) = chain.last().map(|root| trust(&[root], 2)) else { return };
    let judged = trust.judge(&lists, &chain, NOW);
    let mut verdicts = Verdicts::new(1);
    for _ in 0..2 {
        assert_eq!(verdicts.judge(&trust, &lists, &chain, NOW), judged);
    }
    assert_eq!(verdicts.len(), usize::from(judged.is_ok()), "what proves nothing is forgotten");
}
