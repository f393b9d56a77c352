//! Authorities for tests, whose clock begins at [`START`].
#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair,
    RevokedCertParams, SerialNumber, date_time_ymd,
};

use super::Crl;

/// When all certificates and lists begin to hold.
pub(super) const START: u64 = 1_800_000_000;
/// When the next list is due.
pub(super) const LIST_END: u64 = START + 1_000;
/// The last second of every certificate of a client.
pub(super) const LEAF_END: u64 = START + 10_000;
/// The last second of every authority.
pub(super) const AUTHORITY_END: u64 = START + 20_000;

/// The serial number of all certificates that are not asked to have another.
pub(super) const SERIAL: u64 = 7;

/// A certification authority.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

fn params(name: &str, until: u64) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SerialNumber::from(SERIAL));
    params.use_authority_key_identifier_extension = true;
    params.not_before = date_time_ymd(1970, 1, 1) + Duration::from_secs(START);
    params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(until);
    params
}

fn authority(name: &str) -> CertificateParams {
    let mut params = params(name, AUTHORITY_END);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

impl Authority {
    pub(super) fn root(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(authority(name), key).unwrap())
    }

    /// An authority that this one has signed.
    pub(super) fn below(&self, name: &str) -> Self {
        self.below_as(name, |_| ())
    }

    pub(super) fn below_as(&self, name: &str, change: fn(&mut CertificateParams)) -> Self {
        let mut params = authority(name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::signed_by(params, key, &self.0).unwrap())
    }

    pub(super) fn der(&self) -> &[u8] {
        self.0.der()
    }

    /// The certificate of a client, in DER.
    pub(super) fn client(&self) -> Vec<u8> {
        self.client_as(|_| ())
    }

    pub(super) fn client_as(&self, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = params("client", LEAF_END);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        params.signed_by(&key, &self.0).unwrap().der().to_vec()
    }

    /// A list of this authority's that holds now and takes nothing back.
    pub(super) fn list(&self) -> Crl {
        self.list_as(|_| ())
    }

    /// One that takes back what has [`SERIAL`].
    pub(super) fn revoking(&self) -> Crl {
        self.list_as(|list| list.revoked_certs.push(revoked(SERIAL)))
    }

    pub(super) fn list_as(&self, change: impl FnOnce(&mut CertificateRevocationListParams)) -> Crl {
        Crl::from_der(&self.list_der(change)).unwrap()
    }

    pub(super) fn list_der(
        &self,
        change: impl FnOnce(&mut CertificateRevocationListParams),
    ) -> Vec<u8> {
        list_of(&self.0, change)
    }
}

pub(super) fn revoked(serial: u64) -> RevokedCertParams {
    RevokedCertParams {
        serial_number: SerialNumber::from(serial),
        revocation_time: date_time_ymd(2026, 1, 1),
        reason_code: None,
        invalidity_date: None,
    }
}

fn list_of(
    issuer: &Issuer<'_, KeyPair>,
    change: impl FnOnce(&mut CertificateRevocationListParams),
) -> Vec<u8> {
    let mut params = CertificateRevocationListParams {
        this_update: date_time_ymd(1970, 1, 1) + Duration::from_secs(START),
        next_update: date_time_ymd(1970, 1, 1) + Duration::from_secs(LIST_END),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    change(&mut params);
    params.signed_by(issuer).unwrap().der().to_vec()
}
