//! Signing what gateway instances ask for over their links, where the authority is at hand.

use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context as _, ensure};
use rcgen::{CertificateSigningRequestParams, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use relay_core::config::{IdentityPaths, SitePaths};
use relay_core::connection_point::CertificateIssuer;
use relay_core::transport::{Certificate, judge_server};
use rustls::pki_types::CertificateDer;

use super::files::certificate_pem;
use super::show::hexadecimal;
use super::{SiteCa, Wanted};

/// Octets of a public key on P-256, uncompressed. Source: SEC 1, section 2.3.3.
const P256_KEY_OCTETS: usize = 65;

/// Signs certificates of gateway instances with the site's authority.
#[derive(Debug)]
pub(crate) struct GatewayIssuer {
    authority: IdentityPaths,
    /// Whom links trust, and what was taken back.
    site: SitePaths,
}

impl GatewayIssuer {
    /// With the authority in these files, as far as `site` trusts whoever asks.
    pub(crate) fn new(authority: IdentityPaths, site: SitePaths) -> Self {
        Self { authority, site }
    }

    /// As [`CertificateIssuer::issue`], at `now`.
    fn sign(
        &self,
        peer: &[CertificateDer<'static>],
        request: &[u8],
        now: SystemTime,
    ) -> anyhow::Result<String> {
        let authority: &Path = &self.authority.certificate;
        // Its link may have come up long ago: what was taken back since must not be renewed, or a
        // link that is up would outlive every list.
        let old = judge_server(peer, &self.site.read()?, now)
            .context("the certificate that the instance has shown is not good any more")?;
        // Nobody gets more certificates than it needs.
        ensure!(
            old.validity.is_renewal_due(now),
            "the instance asks for a certificate, but by this machine's clock the one that it has \
             shown is not due"
        );
        let ca = SiteCa::load(authority, &self.authority.key)?;
        ca.ensure_issued(&old, "the certificate that the instance has shown")?;
        ca.ensure_outlives(old.validity, authority)?;
        // Judges the request's signature: whoever asks has the key.
        let request = CertificateSigningRequestParams::from_der(&request.into())
            .context("the instance's request cannot be used")?;
        let key = &request.public_key;
        // All that the program asks for. A key of another curve could be signed so, too.
        ensure!(
            key.algorithm() == &PKCS_ECDSA_P256_SHA256 && key.der_bytes().len() == P256_KEY_OCTETS,
            "the instance's request is for a key that is not on the curve P-256"
        );
        let signed = ca.sign(&Wanted::like(&old), key)?;
        let read = Certificate::from_der(signed.der())?;
        tracing::info!(
            subject = read.subject,
            serial = hexadecimal(&read.serial),
            sha256 = %read.fingerprint,
            "certificate signed for a gateway instance"
        );
        let above = peer.iter().skip(1).map(certificate_pem);
        Ok([certificate_pem(signed.der())].into_iter().chain(above).collect())
    }
}

impl CertificateIssuer for GatewayIssuer {
    fn issue(
        &self,
        peer: &[CertificateDer<'static>],
        request: &[u8],
    ) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.sign(peer, request, SystemTime::now())?)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use rcgen::{CertificateParams, DnType, KeyPair, PublicKeyData as _};
    use relay_core::config::load_connection_point;
    use relay_core::transport::{Uses, Validity};
    use rustls::pki_types::pem::PemObject as _;
    use tempfile::TempDir;

    use super::*;
    use crate::pki::{Issued, files};

    /// A connection point with the authority, and an instance of its site.
    struct Home {
        _folder: TempDir,
        ca: SiteCa,
        issuer: GatewayIssuer,
        instance: Vec<CertificateDer<'static>>,
        validity: Validity,
    }

    impl Home {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
            let ca = SiteCa::new("site").unwrap();
            let link = ca.issue_client("cp-1").unwrap();
            write("ca.pem", &ca.certificate_pem());
            write("ca-key.pem", &ca.key_pem());
            write("link.pem", &link.certificate_pem());
            write("link-key.pem", &link.key_pem());
            write("ca.crl", &ca.revoke(None, &[], None).unwrap());
            write(
                "cp.toml",
                "name = \"cp-1\"\n[gateway]\nhost = \"a.example\"\ninstances = 1\n[link]\n\
                 certificate = \"link.pem\"\nkey = \"link-key.pem\"\nsite_ca = \"ca.pem\"\n\
                 site_crl = \"ca.crl\"\n[pki]\nca = \"ca.pem\"\nca_key = \"ca-key.pem\"\n",
            );
            let loaded = load_connection_point(&folder.path().join("cp.toml"), &|_| None).unwrap();
            let issuer = GatewayIssuer::new(loaded.authority.unwrap(), loaded.material.site);
            let names = ["gw.example", "192.0.2.1"].map(str::to_owned).to_vec();
            let instance = certificate(&ca.issue_server(names).unwrap());
            let validity = Certificate::of_chain(&instance).unwrap().validity;
            Self { _folder: folder, ca, issuer, instance, validity }
        }

        /// A time at which the instance's certificate is due.
        fn late(&self) -> SystemTime {
            self.validity.not_after - self.validity.life() / 4
        }

        fn sign(&self, request: &[u8]) -> anyhow::Result<String> {
            self.issuer.sign(&self.instance, request, self.late())
        }

        fn refuses(&self, request: &[u8]) -> String {
            format!("{:#}", self.sign(request).unwrap_err())
        }
    }

    fn certificate(issued: &Issued) -> Vec<CertificateDer<'static>> {
        vec![CertificateDer::from_pem_slice(issued.certificate_pem().as_bytes()).unwrap()]
    }

    /// A request of somebody who would like to be somebody else.
    fn request(key: &KeyPair) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["other.example".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "other");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.serialize_request(key).unwrap().der().to_vec()
    }

    #[test]
    fn names_and_uses_are_those_that_the_link_has_met_whatever_the_request_says() {
        let home = Home::new();
        let key = KeyPair::generate().unwrap();
        let pem = home.sign(&request(&key)).unwrap();
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect();
        let read = Certificate::of_chain(&chain).unwrap();
        let old = Certificate::of_chain(&home.instance).unwrap();
        assert_eq!(chain.len(), 1);
        assert_eq!((&read.subject, &read.dns_names), (&old.subject, &old.dns_names));
        assert_eq!((&read.addresses, read.uses), (&old.addresses, old.uses));
        let Uses { server, client, authority, .. } = read.uses;
        assert_eq!((server, client, authority), (true, false, false));
        assert_eq!(read.public_key, key.subject_public_key_info());
        // Signed again, it is another one.
        let again = home.sign(&request(&key)).unwrap();
        let again = CertificateDer::from_pem_slice(again.as_bytes()).unwrap();
        assert_ne!(Certificate::from_der(&again).unwrap().serial, read.serial);
    }

    #[test]
    fn what_the_instance_has_shown_must_be_due_and_of_the_site() {
        let home = Home::new();
        let request = request(&KeyPair::generate().unwrap());
        let early = home.validity.not_before + Duration::from_hours(2);
        let told = home.issuer.sign(&home.instance, &request, early).unwrap_err().to_string();
        assert!(told.contains("is not due"), "{told}");
        let over = home.validity.not_after + Duration::from_secs(1);
        let told = format!("{:#}", home.issuer.sign(&home.instance, &request, over).unwrap_err());
        assert!(told.contains("expired"), "{told}");
        let foreign = SiteCa::new("other").unwrap();
        let foreign = certificate(&foreign.issue_server(vec!["gw.example".to_owned()]).unwrap());
        let told = format!("{:#}", home.issuer.sign(&foreign, &request, home.late()).unwrap_err());
        assert!(told.contains("UnknownIssuer"), "{told}");
        // A connection point is no instance.
        let client = certificate(&home.ca.issue_client("gw.example").unwrap());
        let told = format!("{:#}", home.issuer.sign(&client, &request, home.late()).unwrap_err());
        assert!(told.contains("not trusted"), "{told}");
    }

    #[test]
    fn an_authority_signs_only_for_its_own_and_only_what_it_outlives() {
        let home = Home::new();
        let request = request(&KeyPair::generate().unwrap());
        let refused = |instance: &[CertificateDer<'static>]| {
            let life = Certificate::of_chain(instance).unwrap().validity;
            let late = life.not_after - Duration::from_hours(1);
            home.issuer.sign(instance, &request, late).unwrap_err().to_string()
        };
        let mut wanted = Wanted::server(vec!["gw.example".to_owned()]);
        wanted.life = time::Duration::days(9000);
        let told = refused(&certificate(&home.ca.issue(&wanted).unwrap()));
        assert!(told.contains("no certificate can outlive it"), "{told}");
        // Links trust another authority besides, whose key is not here.
        let second = SiteCa::new("second").unwrap();
        let both = home.ca.certificate_pem() + &second.certificate_pem();
        fs::write(&home.issuer.site.authority, both).unwrap();
        let mut site = home.issuer.site.clone();
        site.revoked = None;
        let issuer = GatewayIssuer::new(home.issuer.authority.clone(), site);
        let theirs = second.issue_server(vec!["gw.example".to_owned()]).unwrap();
        let told = issuer.sign(&certificate(&theirs), &request, home.late()).unwrap_err();
        assert!(told.to_string().contains("was signed by `CN=second`"), "{told}");
    }

    #[test]
    fn what_was_taken_back_since_its_link_came_up_is_not_renewed() {
        let home = Home::new();
        let request = request(&KeyPair::generate().unwrap());
        home.sign(&request).unwrap();
        let serial = Certificate::of_chain(&home.instance).unwrap().serial;
        let list = home.ca.revoke(None, &[serial], None).unwrap();
        let file = home.issuer.site.revoked.clone().unwrap();
        files::replace(&file, &list, files::Readers::Anybody).unwrap();
        let told = home.refuses(&request);
        assert!(told.contains("Revoked"), "{told}");
    }

    #[test]
    fn a_request_must_be_signed_by_its_own_key_and_on_p_256() {
        let home = Home::new();
        let good = request(&KeyPair::generate().unwrap());
        let mut forged = good.clone();
        *forged.last_mut().unwrap() ^= 1;
        let told = home.refuses(&forged);
        assert!(told.starts_with("the instance's request cannot be used"), "{told}");
        assert!(home.refuses(b"text").starts_with("the instance's request cannot be used"));
        let other = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let told = home.refuses(&request(&other));
        assert!(told.contains("not on the curve P-256"), "{told}");
        home.sign(&good).unwrap();
    }

    #[test]
    fn without_the_authoritys_key_it_says_which_file_is_missing() {
        let home = Home::new();
        fs::remove_file(&home.issuer.authority.key).unwrap();
        let told = home.refuses(&request(&KeyPair::generate().unwrap()));
        assert!(told.contains("ca-key.pem"), "{told}");
    }
}
