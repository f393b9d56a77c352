//! A tenant of Entra ID whose key is in the test's hands.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PKCS_RSA_SHA256, PublicKeyData as _, SigningKey as _};
use serde_json::{Value, json};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// Its id, and that of the application.
const ID: &str = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";

/// The device that it gives tokens to.
pub(crate) const DEVICE: &str = "6d2f7a90-0c4e-4b7e-9a53-2f1c66a0b1d4";

/// A tenant with one key.
pub(crate) struct Tenant {
    key: KeyPair,
}

impl Tenant {
    /// One with a key that nobody else has.
    pub(crate) fn new() -> Self {
        Self { key: KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap() }
    }

    /// Writes its key set into `keys`; the table of a connection point's file that onboards it.
    pub(crate) fn onboarded(&self, keys: &Path) -> String {
        fs::write(keys, self.key_set().to_string()).unwrap();
        format!(
            "\n[[tenant]]\nid = \"{ID}\"\napplication_id = \"{ID}\"\n\
             resource = \"https://ConfigMgrService\"\nkeys = \"{}\"\n",
            keys.display()
        )
    }

    fn key_set(&self) -> Value {
        let spki = self.key.subject_public_key_info();
        let (_, spki) = SubjectPublicKeyInfo::from_der(&spki).unwrap();
        let PublicKey::RSA(rsa) = spki.parsed().unwrap() else { panic!("it is RSA") };
        let number = |octets: &[u8]| {
            let bare: Vec<u8> = octets.iter().copied().skip_while(|it| *it == 0).collect();
            URL_SAFE_NO_PAD.encode(bare)
        };
        let (n, e) = (number(rsa.modulus), number(rsa.exponent));
        json!({"keys": [{"kty": "RSA", "use": "sig", "kid": "key", "n": n, "e": e}]})
    }

    /// A token for [`DEVICE`] that is good for an hour.
    pub(crate) fn token(&self) -> String {
        self.token_for("https://ConfigMgrService")
    }

    /// The same for another service.
    pub(crate) fn token_for(&self, audience: &str) -> String {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let claims = json!({
            "tid": ID, "iss": format!("https://sts.windows.net/{ID}/"),
            "aud": audience, "deviceid": DEVICE,
            "nbf": now, "iat": now, "exp": now + 3600,
        });
        let header = json!({"typ": "JWT", "alg": "RS256", "kid": "key"});
        let signed = [header, claims].map(|it| URL_SAFE_NO_PAD.encode(it.to_string())).join(".");
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(signed.as_bytes()).unwrap());
        format!("{signed}.{signature}")
    }
}
