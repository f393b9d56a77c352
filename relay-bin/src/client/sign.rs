//! The head that a client signs: who sends a request, and when.
//!
//! What is signed and how: `relay_core::auth::SignedHead`, which judges it.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};
use relay_core::auth::{CLIENT_CERTIFICATE_FIELD, CLIENT_CERTIFICATE_OCTETS_MAX, Guid};
use relay_core::transport::Identity;
use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::SigningKey;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Signs with a client's key.
pub(super) struct Signer {
    key: Arc<dyn SigningKey>,
    /// The key's certificate as it is sent, if it is one that can be.
    certificate: Option<HeaderValue>,
}

impl Signer {
    /// One that signs with the key of `identity`.
    ///
    /// # Errors
    ///
    /// The key is not RSA.
    pub(super) fn new(identity: &Identity) -> anyhow::Result<Self> {
        let key = any_supported_type(identity.key()).context("the key cannot be used")?;
        let is_rsa = key.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256]).is_some();
        ensure!(is_rsa, "requests are signed with RSA keys alone; this one is of another kind");
        // A larger one is taken by nobody: then the signature proves no certificate.
        let leaf = identity.chain().first().filter(|it| it.len() <= CLIENT_CERTIFICATE_OCTETS_MAX);
        let certificate = leaf.map(|leaf| HeaderValue::try_from(STANDARD.encode(leaf)));
        Ok(Self { key, certificate: certificate.transpose()? })
    }

    /// The fields that say that `client` sends a request at `now`, and by which certificate's key:
    /// behind a proxy that ends TLS, nothing else shows it.
    ///
    /// # Errors
    ///
    /// The clock is beyond what can be written, or the key does not sign.
    pub(super) fn head(
        &self,
        client: Guid,
        now: SystemTime,
    ) -> anyhow::Result<Vec<(HeaderName, HeaderValue)>> {
        let id = format!("GUID:{}", client.to_string().to_ascii_uppercase());
        let at = OffsetDateTime::from(now).replace_nanosecond(0)?;
        let at = at.format(&Rfc3339).context("the clock is wrong")?;
        let fields = [
            ("ccmclientidsignature", self.sign(&id)?),
            ("ccmclientid", id),
            ("ccmclienttimestampssignature", self.sign(&at)?),
            ("ccmclienttimestamp", at),
        ];
        let field = |(name, value): (&'static str, String)| {
            Ok((HeaderName::from_static(name), HeaderValue::try_from(value)?))
        };
        let certificate = self.certificate.clone();
        let certificate =
            certificate.map(|it| Ok((HeaderName::from_static(CLIENT_CERTIFICATE_FIELD), it)));
        fields.into_iter().map(field).chain(certificate).collect()
    }

    fn sign(&self, text: &str) -> anyhow::Result<String> {
        let wide: Vec<u8> = text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
        let signer = self.key.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256]);
        let signer = signer.context("the key signs no longer by RSA")?;
        let octets = signer.sign(&wide).context("the key does not sign")?;
        let mut hex = String::new();
        // Source: MS Learn, `CryptSignHash`, remarks: the last octet comes first.
        for octet in octets.iter().rev() {
            write!(hex, "{octet:02X}").expect("writing to a String cannot fail");
        }
        Ok(hex)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use http::HeaderMap;
    use rcgen::SignatureAlgorithm;
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
    use relay_core::auth::{ClientKey, Possession, Replay, SignedDigests, SignedHead};

    use super::*;

    fn identity(algorithm: &'static SignatureAlgorithm) -> (Identity, Vec<u8>) {
        let home = tempfile::tempdir().unwrap();
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        let [pem, key_pem] = ["c.pem", "k.pem"].map(|name| home.path().join(name));
        std::fs::write(&pem, certificate.pem()).unwrap();
        std::fs::write(&key_pem, key.serialize_pem()).unwrap();
        (Identity::from_pem_files(&pem, &key_pem).unwrap(), certificate.der().to_vec())
    }

    #[test]
    fn a_signed_head_is_what_a_gateway_judges_to_be_signed() {
        let (identity, der) = identity(&PKCS_RSA_SHA256);
        let client = Guid(0x0a1b_2c3d_4e5f_6071_8293_a4b5_c6d7_e8f9);
        let now = 1_795_284_000;
        let at = UNIX_EPOCH + Duration::from_millis(now * 1000 + 999);
        let head = Signer::new(&identity).unwrap().head(client, at).unwrap();
        let headers: HeaderMap = head.into_iter().collect();
        assert_eq!(headers["ccmclienttimestamp"], "2026-11-21T18:00:00Z");
        assert_eq!(headers["ccmclientid"], "GUID:0A1B2C3D-4E5F-6071-8293-A4B5C6D7E8F9");
        let signed = SignedHead::read(&headers).unwrap().unwrap();
        let key = ClientKey::of_certificate(&der).unwrap();
        let judged = signed.verify(&key, SignedDigests::Sha256, now, &mut Replay::new(8));
        assert_eq!(judged, Ok(client));
        let proven = Possession::judge(&headers, now, &mut Replay::new(8)).unwrap().unwrap();
        assert_eq!((proven.client, &proven.certificate[..]), (client, &der[..]));
    }

    #[test]
    fn a_key_that_is_not_rsa_signs_nothing() {
        let (identity, _) = identity(&PKCS_ECDSA_P256_SHA256);
        let error = Signer::new(&identity).err().unwrap().to_string();
        assert!(error.contains("RSA keys alone"), "{error}");
    }
}
