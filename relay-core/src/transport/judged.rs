//! Judging a chain of certificates outside a handshake, as a handshake would.
//!
//! For a certificate that is to be put in force, and for one that a link's peer has shown a while
//! ago. Read [`judge_server`] first.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::VerifierBuilderError;

use super::certificate::{Certificate, CertificateError};
use super::tls::{TrustAnchors, server_verifier};

/// Why a chain cannot stand for a server of the site.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChainRefused {
    /// The leaf cannot be read, or there is none. The fault of whoever issued it.
    #[error(transparent)]
    Unreadable(#[from] CertificateError),
    /// The leaf carries neither a DNS name nor an address, so that nobody could dial it. The fault
    /// of whoever issued it.
    #[error("the certificate carries no name that a server has")]
    Nameless,
    /// It would fail a handshake: it is not of the site's authority, does not hold now, was taken
    /// back, or is for another use.
    #[error("it is not trusted: {0}")]
    Untrusted(rustls::Error),
    /// The verifier could not be made of the site's authority and lists. This side's fault.
    #[error("verifier of the peer: {0}")]
    Verifier(#[from] VerifierBuilderError),
}

/// Judges `chain`, leaf first, as a link's handshake judges what a gateway instance shows, at `now`
/// and for each name that the leaf carries. Returns what the leaf says.
///
/// # Errors
///
/// [`ChainRefused`].
pub fn judge_server(
    chain: &[CertificateDer<'_>],
    site: &TrustAnchors,
    now: SystemTime,
) -> Result<Certificate, ChainRefused> {
    let (leaf, intermediates) = chain.split_first().ok_or(CertificateError::Absent)?;
    let read = Certificate::from_der(leaf)?;
    let verifier = server_verifier(site).enforce_revocation_expiration().build()?;
    let now = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
    let mut is_named = false;
    for name in server_names(&read) {
        verifier
            .verify_server_cert(leaf, intermediates, &name, &[], now)
            .map_err(ChainRefused::Untrusted)?;
        is_named = true;
    }
    if is_named { Ok(read) } else { Err(ChainRefused::Nameless) }
}

/// The names under which a server with this certificate can be dialled. For a wildcard some name
/// that it covers.
fn server_names(certificate: &Certificate) -> impl Iterator<Item = ServerName<'static>> {
    let dns = certificate.dns_names.iter().filter_map(|name| {
        let covered = name.strip_prefix("*.").map(|rest| format!("covered.{rest}"));
        let name = ServerName::try_from(covered.unwrap_or_else(|| name.clone())).ok()?;
        matches!(name, ServerName::DnsName(_)).then_some(name)
    });
    let addresses = certificate.addresses.iter().map(|address: &IpAddr| (*address).into());
    dns.chain(addresses)
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    };

    use super::*;

    struct Authority {
        issuer: Issuer<'static, KeyPair>,
        anchors: TrustAnchors,
    }

    fn authority() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = KeyPair::generate().unwrap();
        let anchors = TrustAnchors::new([params.self_signed(&key).unwrap().der().clone()]).unwrap();
        Authority { issuer: Issuer::new(params, key), anchors }
    }

    fn leaf(
        authority: &Authority,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Vec<CertificateDer<'static>> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        vec![params.signed_by(&key, &authority.issuer).unwrap().der().clone()]
    }

    fn at(year: i32) -> SystemTime {
        rcgen::date_time_ymd(year, 6, 1).into()
    }

    const NAMES: [&str; 2] = ["gw.example", "192.0.2.1"];

    #[test]
    fn a_chain_is_judged_as_a_handshake_would_at_that_time() {
        let site = authority();
        let good = leaf(&site, &NAMES, |_| ());
        assert_eq!(judge_server(&good, &site.anchors, at(2026)).unwrap().dns_names, NAMES[..1]);
        let wildcard = leaf(&site, &["*.gw.example"], |_| ());
        judge_server(&wildcard, &site.anchors, at(2026)).unwrap();
        for year in [2019, 2031] {
            let told = judge_server(&good, &site.anchors, at(year)).unwrap_err();
            assert!(matches!(told, ChainRefused::Untrusted(_)), "{year}: {told}");
        }
        let told = judge_server(&good, &authority().anchors, at(2026)).unwrap_err();
        assert!(matches!(told, ChainRefused::Untrusted(_)), "foreign: {told}");
    }

    #[test]
    fn another_use_and_no_name_at_all_are_refused() {
        let site = authority();
        let client = leaf(&site, &NAMES, |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        });
        let told = judge_server(&client, &site.anchors, at(2026)).unwrap_err();
        assert!(matches!(told, ChainRefused::Untrusted(_)), "{told}");
        let nameless = leaf(&site, &[], |_| ());
        let told = judge_server(&nameless, &site.anchors, at(2026)).unwrap_err();
        assert!(matches!(told, ChainRefused::Nameless), "{told}");
        let told = judge_server(&[], &site.anchors, at(2026)).unwrap_err();
        assert!(matches!(told, ChainRefused::Unreadable(CertificateError::Absent)), "{told}");
    }
}
