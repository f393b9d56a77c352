//! A gateway instance's link certificate in its files, as a connection point renews it.

use anyhow::Context as _;
use bytes::Bytes;
use rcgen::PublicKeyData as _;
use relay_core::config::{GatewayMaterial, IdentityPaths, SitePaths};
use relay_core::gateway::{CertificateKeeper, CertificateRequest, HeldCertificate};
use relay_core::transport::{Certificate, Identity};
use rustls::pki_types::PrivatePkcs8KeyDer;
use time::OffsetDateTime;

use super::files::{self, IdentityText, certificate_pem, key_pem};
use super::{Wanted, new_key, params};

/// The error of the library's interface.
type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Keeps a gateway instance's link certificate and key in the files that it was started with.
#[derive(Debug)]
pub(crate) struct GatewayKeeper {
    links: IdentityPaths,
    site: SitePaths,
}

impl GatewayKeeper {
    /// Of the files that the instance's TLS is made from.
    pub(crate) fn new(material: &GatewayMaterial) -> Self {
        Self { links: material.links.clone(), site: material.site.clone() }
    }
}

impl CertificateKeeper for GatewayKeeper {
    fn held(&self) -> Result<HeldCertificate, Failed> {
        let chain = self.links.read()?.chain().to_vec();
        Ok(HeldCertificate { chain, site: self.site.read()? })
    }

    fn request(&self, held: &Certificate) -> Result<CertificateRequest, Failed> {
        let key = new_key()?;
        // Whoever signs takes the names from the certificate that links have met; these are for
        // people who look at the request.
        let Wanted { common_name, names, .. } = Wanted::like(held);
        let now = OffsetDateTime::now_utc();
        let request = params(&common_name, names, now, now)?.serialize_request(&key);
        let request = request.context("cannot sign the request")?;
        Ok(CertificateRequest {
            der: Bytes::copy_from_slice(request.der()),
            public_key: key.subject_public_key_info(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        })
    }

    fn keep(&self, renewed: &Identity) -> Result<(), Failed> {
        let text = IdentityText {
            certificate: renewed.chain().iter().map(certificate_pem).collect(),
            key: key_pem(renewed.key()),
        };
        Ok(files::replace_identity(&text, &self.links.certificate, &self.links.key)?)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::CertificateSigningRequestParams;
    use relay_core::config::load_gateway;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;

    use super::*;
    use crate::pki::SiteCa;

    #[test]
    fn what_is_kept_is_held_and_the_request_is_for_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let ca = SiteCa::new("site").unwrap();
        let links = ca.issue_server(vec!["gw.example".to_owned()]).unwrap();
        write("ca.pem", &ca.certificate_pem());
        write("links.pem", &links.certificate_pem());
        write("key.pem", &links.key_pem());
        write(
            "gw.toml",
            "service = \"gw.example\"\ninstance = 1\n[clients]\nlisten = \"127.0.0.1:0\"\n\
             certificate = \"links.pem\"\nkey = \"key.pem\"\n[links]\n\
             listen = \"127.0.0.1:0\"\ncertificate = \"links.pem\"\nkey = \"key.pem\"\n\
             site_ca = \"ca.pem\"\n",
        );
        let loaded = load_gateway(&folder.path().join("gw.toml")).unwrap();
        let keeper = GatewayKeeper::new(&loaded.material);
        let held = Certificate::of_chain(&keeper.held().unwrap().chain).unwrap();
        assert_eq!(held.dns_names, ["gw.example"]);

        let asked = keeper.request(&held).unwrap();
        let request = CertificateSigningRequestParams::from_der(&(&*asked.der).into()).unwrap();
        assert_eq!(request.public_key.subject_public_key_info(), asked.public_key);
        assert_ne!(asked.public_key, held.public_key);
        let signed = ca.sign(&Wanted::like(&held), &request.public_key).unwrap();
        let chain = [signed.der().clone(), ca.certificate.clone()].to_vec();
        keeper.keep(&Identity::new(chain.clone(), asked.key.clone_key())).unwrap();
        assert_eq!(keeper.held().unwrap().chain, chain);
        loaded.material.load().unwrap();
        let text = fs::read(folder.path().join("links.pem")).unwrap();
        let written: Vec<_> = CertificateDer::pem_slice_iter(&text).map(Result::unwrap).collect();
        assert_eq!(written, chain);
    }
}
