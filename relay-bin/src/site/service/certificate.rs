//! The certificate that a client registers with.
//!
//! It stands for its key and for nothing else: nobody vouches for what it says of its holder. What
//! is judged is whether it is one that a client makes for itself, and whether a token can be bound
//! to it for as long as that is to count.

use aws_lc_rs::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RsaParameters, UnparsedPublicKey,
};
use relay_core::auth::{ClientKey, SignatureFault};
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::{
    OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA,
};
use x509_parser::prelude::FromDer as _;

use super::DAY;

/// Octets of a certificate, at most.
// As many as `CCMClientCertificate` carries.
pub(super) const CERTIFICATE_OCTETS_MAX: usize = 4 * 1024;

/// How far the client's clock may be ahead of the site's, in seconds. A new certificate counts from
/// when the client has made it.
const AHEAD_MAX: u64 = DAY;

/// For how long it must count at least, in seconds. Our choice: for less there is no token; the
/// client makes another certificate, and registers with that as it did at first.
const LEFT_MIN: u64 = DAY;

/// Why a certificate is none to register with. The fault of the client.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum CertificateFault {
    /// It is longer than any that a client makes.
    #[error("it is longer than {CERTIFICATE_OCTETS_MAX} octets; make a smaller one")]
    TooLong,
    /// It is none.
    #[error("it is no certificate in DER")]
    Malformed,
    /// Its key is another or a weak one.
    #[error("its key is not RSA of 2,048 to 4,096 bits; make one that is")]
    Key,
    /// Somebody else has signed it.
    #[error("it is not signed by its own key with RSA and SHA-2; make one that is")]
    NotSelfSigned,
    /// Its time is over, or nearly.
    #[error("it is over in less than a day; make a new one")]
    Over,
    /// Its time has not come.
    #[error("it counts from a time more than a day ahead; is a clock wrong?")]
    NotYet,
}

/// Judges a certificate at `now`, and says until when it counts; in seconds since 1970 UTC.
pub(super) fn judge(der: &[u8], now: u64) -> Result<u64, CertificateFault> {
    if der.len() > CERTIFICATE_OCTETS_MAX {
        return Err(CertificateFault::TooLong);
    }
    let Ok(([], read)) = X509Certificate::from_der(der) else {
        return Err(CertificateFault::Malformed);
    };
    ClientKey::of_certificate(der).map_err(|fault| match fault {
        SignatureFault::WeakKey => CertificateFault::Key,
        _ => CertificateFault::Malformed,
    })?;
    let validity = read.validity();
    let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
    let not_before = seconds(validity.not_before.timestamp());
    let not_after = seconds(validity.not_after.timestamp());
    if not_before > now.saturating_add(AHEAD_MAX) {
        return Err(CertificateFault::NotYet);
    }
    if not_after < now.saturating_add(LEFT_MIN) {
        return Err(CertificateFault::Over);
    }
    if !is_self_signed(&read) {
        return Err(CertificateFault::NotSelfSigned);
    }
    Ok(not_after)
}

fn is_self_signed(read: &X509Certificate<'_>) -> bool {
    let Some(algorithm) = algorithm(read) else { return false };
    let key = &read.public_key().subject_public_key.data;
    let signature = &read.signature_value.data;
    let is_its_own = read.issuer() == read.subject();
    let key = UnparsedPublicKey::new(algorithm, key);
    is_its_own && key.verify(read.tbs_certificate.as_ref(), signature).is_ok()
}

/// By what it is signed. RFC 5280, section 4.1.1.2: the two places that say so agree.
fn algorithm(read: &X509Certificate<'_>) -> Option<&'static RsaParameters> {
    let named = &read.signature_algorithm;
    if *named != read.tbs_certificate.signature {
        return None;
    }
    let known = [
        (&OID_PKCS1_SHA256WITHRSA, &RSA_PKCS1_2048_8192_SHA256),
        (&OID_PKCS1_SHA384WITHRSA, &RSA_PKCS1_2048_8192_SHA384),
        (&OID_PKCS1_SHA512WITHRSA, &RSA_PKCS1_2048_8192_SHA512),
    ];
    known.into_iter().find(|(oid, _)| named.algorithm == **oid).map(|(_, it)| it)
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::OnceLock;

    use rcgen::{
        CertificateParams, DistinguishedName, DnType, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256,
        PKCS_RSA_SHA256,
    };
    use time::OffsetDateTime;

    use super::*;

    pub(in crate::site) const NOW: u64 = 1_800_000_000;

    /// Keys of clients; to make one takes long.
    pub(in crate::site) fn key(number: usize) -> &'static KeyPair {
        static KEYS: [OnceLock<KeyPair>; 2] = [const { OnceLock::new() }; 2];
        KEYS[number].get_or_init(|| KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap())
    }

    fn at(time: u64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(time.cast_signed()).unwrap()
    }

    fn params(from: u64, until: u64) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "relay client");
        (params.not_before, params.not_after) = (at(from), at(until));
        params
    }

    /// A client's own certificate.
    pub(in crate::site) fn certificate(key: &KeyPair, from: u64, until: u64) -> Vec<u8> {
        params(from, until).self_signed(key).unwrap().der().to_vec()
    }

    #[test]
    fn a_certificate_counts_while_it_has_a_day_left_and_from_a_day_ahead() {
        let with = |from: u64, until: u64| judge(&certificate(key(0), from, until), NOW);
        assert_eq!(with(NOW, NOW + 90 * DAY), Ok(NOW + 90 * DAY));
        assert_eq!(with(NOW - 900 * DAY, NOW + DAY), Ok(NOW + DAY));
        assert_eq!(with(NOW - DAY, NOW + DAY - 1), Err(CertificateFault::Over));
        assert_eq!(with(NOW + DAY, NOW + 9 * DAY), Ok(NOW + 9 * DAY));
        assert_eq!(with(NOW + DAY + 1, NOW + 9 * DAY), Err(CertificateFault::NotYet));
    }

    #[test]
    fn what_no_client_has_made_for_itself_is_refused() {
        let good = certificate(key(0), NOW, NOW + 9 * DAY);
        let issuer = Issuer::new(params(NOW, NOW + 9 * DAY), key(1));
        let of_other = params(NOW, NOW + 9 * DAY).signed_by(key(0), &issuer).unwrap();
        assert_eq!(judge(of_other.der(), NOW), Err(CertificateFault::NotSelfSigned));
        let mut damaged = good.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(judge(&damaged, NOW), Err(CertificateFault::NotSelfSigned));

        let elliptic = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let elliptic = certificate(&elliptic, NOW, NOW + 9 * DAY);
        assert_eq!(judge(&elliptic, NOW), Err(CertificateFault::Key));
        for malformed in [&b""[..], b"certificate", &good[1..], &[&good[..], b"x"].concat()] {
            assert_eq!(judge(malformed, NOW), Err(CertificateFault::Malformed));
        }
        assert_eq!(judge(&[0; 4096], NOW), Err(CertificateFault::Malformed));
        assert_eq!(judge(&[0; 4097], NOW), Err(CertificateFault::TooLong));
    }
}
