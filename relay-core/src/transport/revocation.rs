//! A list of certificates that an authority has taken back, as plain values.
//!
//! Nothing here verifies the list's signature: TLS does, whenever it judges a certificate by it.

use std::time::SystemTime;

use x509_parser::num_bigint::BigUint;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use super::certificate::{CertificateError, malformed, time};

/// A revocation list's contents.
///
/// Source: RFC 5280, section 5.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct RevocationList {
    /// Whoever has signed it, for people.
    pub issuer: String,
    /// When it was signed.
    pub this_update: SystemTime,
    /// Until when it holds; after that every certificate is refused where the list is used. `None`
    /// if it does not say.
    pub next_update: Option<SystemTime>,
    /// Its number, which rises with each list of the same issuer: big-endian octets. Empty if it
    /// has none.
    pub number: Vec<u8>,
    /// What was taken back.
    pub revoked: Vec<Revoked>,
}

/// One certificate that was taken back.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Revoked {
    /// Its serial number, as [`Certificate::serial`](super::Certificate::serial).
    pub serial: Vec<u8>,
    /// When it was taken back.
    pub since: SystemTime,
}

impl RevocationList {
    /// Reads one list in DER.
    ///
    /// # Errors
    ///
    /// [`CertificateError::Malformed`] and [`CertificateError::Trailing`].
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let (rest, list) =
            CertificateRevocationList::from_der(der).map_err(|error| malformed(&error))?;
        if !rest.is_empty() {
            return Err(CertificateError::Trailing { octets: rest.len() });
        }
        let revoked = list.iter_revoked_certificates().map(|entry| {
            let serial = entry.raw_serial().to_vec();
            Ok(Revoked { serial, since: time(entry.revocation_date)? })
        });
        Ok(Self {
            issuer: list.issuer().to_string(),
            this_update: time(list.last_update())?,
            next_update: list.next_update().map(time).transpose()?,
            number: list.crl_number().map(BigUint::to_bytes_be).unwrap_or_default(),
            revoked: revoked.collect::<Result<_, _>>()?,
        })
    }

    /// Whether it says that the certificate with this serial number was taken back.
    pub fn holds(&self, serial: &[u8]) -> bool {
        self.revoked.iter().any(|entry| entry.serial == serial)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, Issuer,
        KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber, date_time_ymd,
    };

    use super::*;

    fn list(serials: &[&[u8]]) -> Vec<u8> {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = Issuer::new(authority, KeyPair::generate().unwrap());
        let revoked = |serial: &&[u8]| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: date_time_ymd(1970, 1, 3),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(1970, 1, 2),
            next_update: date_time_ymd(1970, 1, 5),
            crl_number: SerialNumber::from_slice(&[1, 2]),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&issuer).unwrap().der().to_vec()
    }

    #[test]
    fn a_list_is_read_as_it_was_written() {
        let read = RevocationList::from_der(&list(&[&[7, 8], &[0x7f]])).unwrap();
        let day = |n: u32| UNIX_EPOCH + Duration::from_hours(24) * n;
        assert_eq!((read.this_update, read.next_update), (day(1), Some(day(4))));
        assert_eq!(read.number, [1, 2]);
        assert_eq!(read.revoked[0], Revoked { serial: vec![7, 8], since: day(2) });
        assert_eq!(read.revoked.len(), 2);
        assert!(read.holds(&[0x7f]) && !read.holds(&[7]) && !read.holds(&[]));
    }

    #[test]
    fn a_list_of_nothing_holds_nothing() {
        let read = RevocationList::from_der(&list(&[])).unwrap();
        assert!(read.revoked.is_empty() && !read.holds(&[7, 8]));
    }

    #[test]
    fn what_is_no_list_is_refused_at_every_length() {
        let whole = list(&[&[7, 8]]);
        for len in 0..whole.len() {
            let read = RevocationList::from_der(&whole[..len]);
            assert!(matches!(read, Err(CertificateError::Malformed { .. })), "{len} octets");
        }
        let longer = [&whole[..], &[0]].concat();
        assert_eq!(
            RevocationList::from_der(&longer),
            Err(CertificateError::Trailing { octets: 1 })
        );
    }
}
