#![allow(clippy::indexing_slicing, reason = "a place outside is a failed test")]

use proptest::prelude::*;
use rcgen::{
    CertificateParams, CustomExtension, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256,
    RsaKeySize, SigningKey as _,
};

use super::*;
use crate::auth::SIGNATURE_WINDOW;

const ID: &str = "GUID:0A1B2C3D-4E5F-6071-8293-A4B5C6D7E8F9";
const TIME: &str = "2026-11-21T18:00:00Z";
const NOW: u64 = 1_795_284_000;

/// A client with a key and a certificate that it has made itself.
struct Client {
    key: KeyPair,
    certificate: Vec<u8>,
}

impl Client {
    fn new() -> Self {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        Self::with_key(key, 0)
    }

    /// With a certificate that has an extension of `padding` octets.
    fn with_key(key: KeyPair, padding: usize) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        let content = vec![7; padding];
        params.custom_extensions.push(CustomExtension::from_oid_content(&[1, 3, 6, 1], content));
        let certificate = params.self_signed(&key).unwrap().der().to_vec();
        Self { key, certificate }
    }

    /// With a certificate of exactly `octets`.
    fn of_octets(octets: usize) -> Self {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let pem = key.serialize_pem();
        // Lengths above 255 take as many octets each as that of the whole.
        let plain = Self::with_key(key, 1000).certificate.len();
        let mut fits = (0..8).map(|less| {
            let key = KeyPair::from_pem(&pem).unwrap();
            Self::with_key(key, 1000 + octets - plain - less)
        });
        fits.find(|it| it.certificate.len() == octets).expect("one that fits")
    }

    fn sign(&self, text: &str) -> String {
        let wide: Vec<u8> = text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
        let signature = self.key.sign(&wide).unwrap();
        let digit = |it: u8| char::from_digit(it.into(), 16).unwrap().to_ascii_uppercase();
        signature.iter().rev().flat_map(|octet| [digit(octet >> 4), digit(octet & 15)]).collect()
    }

    fn head(&self) -> Vec<(&'static str, String)> {
        vec![
            ("CCMClientCertificate", STANDARD.encode(&self.certificate)),
            ("CCMClientID", ID.to_owned()),
            ("CCMClientIDSignature", self.sign(ID)),
            ("CCMClientTimestamp", TIME.to_owned()),
            ("CCMClientTimestampsSignature", self.sign(TIME)),
        ]
    }

    fn thumbprint(&self) -> [u8; 32] {
        digest::digest(&digest::SHA256, &self.certificate).as_ref().try_into().unwrap()
    }
}

fn headers(fields: &[(&str, String)]) -> HeaderMap {
    let field = |(name, value): &(&str, String)| {
        (http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap())
    };
    let mut headers = HeaderMap::new();
    for (name, value) in fields.iter().map(field) {
        let _: bool = headers.append(name, value);
    }
    headers
}

fn judge(fields: &[(&str, String)], now: u64) -> Result<Option<Possession>, PossessionFault> {
    Possession::judge(&headers(fields), now, &mut Replay::new(9))
}

#[test]
fn whoever_signs_the_time_with_a_key_has_its_certificate() {
    let client = Client::new();
    let mut singular = client.head();
    singular[4].0 = "CCMClientTimestampSignature";
    let token = format!("{ID};{TIME};2");
    let token = vec![
        client.head()[0].clone(),
        ("ClientToken", token.clone()),
        ("ClientTokenSignature", client.sign(&token)),
    ];
    for fields in [client.head(), singular, token] {
        let shown = judge(&fields, NOW).unwrap().unwrap();
        assert_eq!(shown.certificate, client.certificate);
        assert_eq!(shown.thumbprint, client.thumbprint());
        assert_eq!(shown.client, ID.strip_prefix("GUID:").unwrap().parse().unwrap());
    }
}

#[test]
fn a_head_without_a_certificate_claims_nothing_however_it_is_signed() {
    let fields = Client::new().head();
    assert_eq!(judge(&fields[1..], NOW), Ok(None));
    assert_eq!(judge(&fields[1..3], NOW), Ok(None), "nor if it is no whole one");
    assert_eq!(judge(&[], NOW), Ok(None));
}

#[test]
fn a_certificate_that_nothing_is_signed_beside_proves_nothing() {
    let fields = Client::new().head();
    for alone in [&fields[..1], &fields[..2]] {
        assert_eq!(judge(alone, NOW), Err(PossessionFault::Unsigned));
    }
    for missing in 1..fields.len() {
        let mut fields = fields.clone();
        fields.remove(missing);
        assert_eq!(judge(&fields, NOW), Err(SignatureFault::Incomplete.into()), "{missing}");
    }
}

#[test]
fn a_certificate_of_another_key_is_not_possessed() {
    let (client, other) = (Client::new(), Client::new());
    let mut fields = client.head();
    fields[0] = other.head()[0].clone();
    assert_eq!(judge(&fields, NOW), Err(SignatureFault::Mismatch.into()));
}

#[test]
fn two_certificates_prove_nothing_even_if_they_are_one() {
    let client = Client::new();
    for second in [&client, &Client::new()] {
        let mut fields = client.head();
        fields.push(second.head()[0].clone());
        assert_eq!(judge(&fields, NOW), Err(PossessionFault::Repeated));
    }
}

#[test]
fn a_certificate_has_4096_octets_at_most() {
    for (octets, expected) in [(4095, None), (4096, None), (4097, Some(PossessionFault::TooLarge))]
    {
        let client = Client::of_octets(octets);
        let judged = judge(&client.head(), NOW);
        assert_eq!(
            judged.map(|it| it.unwrap().thumbprint),
            expected.map_or(Ok(client.thumbprint()), Err)
        );
    }
    let mut fields = Client::new().head();
    fields[0].1 = "A".repeat(FIELD_OCTETS_MAX + 1);
    assert_eq!(judge(&fields, NOW), Err(PossessionFault::TooLarge));
}

#[test]
fn a_certificate_that_is_not_written_in_plain_base64_is_refused() {
    let fields = Client::new().head();
    let text = &fields[0].1;
    let mut damaged = vec![
        format!(":{text}:"),
        format!(" {text}="),
        text.replace('/', "_").replace('+', "-"),
        text[..text.len() - 1].to_owned(),
        format!("{}\u{e9}", &text[..text.len() - 2]),
    ];
    damaged.retain(|it| it != text);
    for certificate in damaged {
        let mut fields = fields.clone();
        fields[0].1 = certificate.clone();
        assert_eq!(judge(&fields, NOW), Err(PossessionFault::Base64), "{certificate}");
    }
}

#[test]
fn what_is_no_certificate_with_an_rsa_key_has_no_key_that_signs() {
    let client = Client::new();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let curve = Client::with_key(key, 0).certificate;
    let behind = [&client.certificate[..], &[0]].concat();
    for (der, fault) in [
        (curve, SignatureFault::WeakKey),
        (behind, SignatureFault::Key),
        (client.certificate[1..].to_vec(), SignatureFault::Key),
        (Vec::new(), SignatureFault::Key),
    ] {
        let mut fields = client.head();
        fields[0].1 = STANDARD.encode(der);
        assert_eq!(judge(&fields, NOW), Err(fault.into()));
    }
}

#[test]
fn a_timestamp_that_is_stale_ahead_or_used_proves_nothing() {
    let fields = Client::new().head();
    for (now, fault) in [
        (NOW + SIGNATURE_WINDOW, None),
        (NOW + SIGNATURE_WINDOW + 1, Some(SignatureFault::Stale)),
        (NOW - SIGNATURE_WINDOW, None),
        (NOW - SIGNATURE_WINDOW - 1, Some(SignatureFault::Ahead)),
    ] {
        let judged = judge(&fields, now).map(|it| it.is_some());
        assert_eq!(judged, fault.map_or(Ok(true), |it| Err(it.into())), "{now}");
    }
    let mut used = Replay::new(9);
    let mut at = |now| Possession::judge(&headers(&fields), now, &mut used).map(|it| it.is_some());
    assert_eq!([at(NOW), at(NOW + 5)], [Ok(true), Ok(true)]);
    assert_eq!(at(NOW + 6), Err(SignatureFault::from(ReplayFault::Used).into()));
}

#[test]
fn a_full_memory_refuses_and_what_is_refused_for_its_form_never_comes_to_it() {
    let (client, other) = (Client::new(), Client::new());
    let mut used = Replay::new(1);
    let mut forged = other.head();
    forged[2].1 = forged[4].1.clone();
    for fields in [forged, other.head()[..1].to_vec()] {
        Possession::judge(&headers(&fields), NOW, &mut used).unwrap_err();
        assert!(used.is_empty());
    }
    Possession::judge(&headers(&client.head()), NOW, &mut used).unwrap().unwrap();
    let full = Possession::judge(&headers(&other.head()), NOW, &mut used);
    assert_eq!(full, Err(SignatureFault::from(ReplayFault::Full).into()));
}

proptest! {
    #[test]
    fn no_octets_in_the_field_are_a_proof_or_a_panic(
        value in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let Ok(value) = http::HeaderValue::from_bytes(&value) else { return Ok(()) };
        let mut shown = HeaderMap::new();
        shown.insert(CLIENT_CERTIFICATE_FIELD, value);
        prop_assert!(Possession::judge(&shown, NOW, &mut Replay::new(1)).is_err());
    }
}
