#![allow(clippy::indexing_slicing, reason = "a place outside is a failed test")]

use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, RsaKeySize, SigningKey as _};

use super::*;

const ID: &str = "GUID:0A1B2C3D-4E5F-6071-8293-A4B5C6D7E8F9";
const TIME: &str = "2026-11-21T18:00:00Z";
const NOW: u64 = 1_795_284_000;

/// A key, and what a client does with it.
struct Client(KeyPair, ClientKey);

impl Client {
    fn new() -> Self {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let certificate = CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
        let read = ClientKey::of_certificate(certificate.der()).unwrap();
        Self(key, read)
    }

    fn sign(&self, text: &str) -> String {
        let wide: Vec<u8> = text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
        let signature = self.0.sign(&wide).unwrap();
        let digit = |it: u8| char::from_digit(it.into(), 16).unwrap().to_ascii_uppercase();
        signature.iter().rev().flat_map(|octet| [digit(octet >> 4), digit(octet & 15)]).collect()
    }

    fn head(&self) -> Vec<(&'static str, String)> {
        vec![
            ("CCMClientID", ID.to_owned()),
            ("CCMClientIDSignature", self.sign(ID)),
            ("CCMClientTimestamp", TIME.to_owned()),
            ("CCMClientTimestampsSignature", self.sign(TIME)),
        ]
    }

    fn token(&self, text: &str) -> Vec<(&'static str, String)> {
        vec![("ClientToken", text.to_owned()), ("ClientTokenSignature", self.sign(text))]
    }

    fn verify(&self, fields: &[(&str, String)], now: u64) -> Result<Guid, SignatureFault> {
        let head = read(fields)?.ok_or(SignatureFault::Incomplete)?;
        head.verify(&self.1, SignedDigests::Sha256, now, &mut Replay::new(9))
    }
}

fn read(fields: &[(&str, String)]) -> Result<Option<SignedHead>, SignatureFault> {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let name = http::HeaderName::try_from(*name).unwrap();
        headers.append(name, value.parse().unwrap());
    }
    SignedHead::read(&headers)
}

#[test]
fn each_way_in_which_clients_sign_a_head_is_read() {
    let client = Client::new();
    let id = read_id(ID).unwrap();
    let mut singular = client.head();
    singular[3].0 = "CCMClientTimestampSignature";
    let token = client.token(&format!("{ID};{TIME};2"));
    let older = client.token(&format!("{ID};{TIME}"));
    let both = [client.head(), token.clone()].concat();
    let twice = [client.head(), vec![singular[3].clone()]].concat();
    for fields in [client.head(), singular, token, older, both, twice] {
        assert_eq!(client.verify(&fields, NOW), Ok(id), "{fields:?}");
    }
    assert_eq!(read(&[("CCMClientID", ID.to_owned())]), Ok(None), "nothing is signed");
}

#[test]
fn a_head_that_lacks_a_part_or_has_one_twice_is_none() {
    let client = Client::new();
    let token = client.token(&format!("{ID};{TIME};2"));
    for whole in [client.head(), token] {
        for place in 0..whole.len() {
            let mut fields = whole.clone();
            let part = fields.remove(place);
            assert_eq!(client.verify(&fields, NOW), Err(SignatureFault::Incomplete), "{part:?}");
            let mut fields = whole.clone();
            fields.push(part);
            assert_eq!(client.verify(&fields, NOW), Err(SignatureFault::Field));
        }
    }
    for text in [format!("{ID};{TIME};3"), format!("{ID};{TIME};2;"), format!("{ID};{TIME};")] {
        assert_eq!(read(&client.token(&text)), Err(SignatureFault::Field));
    }
}

#[test]
fn header_fields_that_contradict_each_other_are_refused() {
    let client = Client::new();
    let other = ID.replace("0A", "0B");
    for text in [format!("{other};{TIME};2"), format!("{ID};2026-11-21T18:00:01Z;2")] {
        let fields = [client.head(), client.token(&text)].concat();
        assert_eq!(client.verify(&fields, NOW), Err(SignatureFault::Contradiction));
    }
    let mut fields = client.head();
    fields.push(("CCMClientTimestampSignature", client.sign("x")));
    assert_eq!(client.verify(&fields, NOW), Err(SignatureFault::Contradiction));
}

#[test]
fn id_and_timestamp_are_signed_by_one_key() {
    let (client, other) = (Client::new(), Client::new());
    for place in [1, 3] {
        let mut fields = client.head();
        fields[place] = other.head()[place].clone();
        assert_eq!(client.verify(&fields, NOW), Err(SignatureFault::Mismatch));
        assert_eq!(other.verify(&fields, NOW), Err(SignatureFault::Mismatch));
    }
    let mut fields = client.head();
    fields[0].1 = ID.replace("0A", "0B");
    assert_eq!(client.verify(&fields, NOW), Err(SignatureFault::Mismatch));
}

#[test]
fn a_timestamp_is_fresh_ten_minutes_either_way() {
    let client = Client::new();
    let fields = client.head();
    for (now, expected) in [
        (NOW - 601, Err(SignatureFault::Ahead)),
        (NOW - 600, Ok(())),
        (NOW - 599, Ok(())),
        (NOW + 599, Ok(())),
        (NOW + 600, Ok(())),
        (NOW + 601, Err(SignatureFault::Stale)),
    ] {
        assert_eq!(client.verify(&fields, now).map(drop), expected, "at {now}");
    }
}

#[test]
fn what_was_used_is_refused_and_what_fails_uses_nothing() {
    let (client, other) = (Client::new(), Client::new());
    let head = read(&client.head()).unwrap().unwrap();
    let mut used = Replay::new(9);
    let mut verify = |by: &Client, now| head.verify(&by.1, SignedDigests::Sha256, now, &mut used);
    assert_eq!(verify(&other, NOW), Err(SignatureFault::Mismatch));
    assert!(verify(&client, NOW + 10).is_ok());
    assert!(verify(&client, NOW + 15).is_ok(), "another request of the same second");
    assert_eq!(verify(&client, NOW + 16), Err(ReplayFault::Used.into()));
    assert_eq!(used.len(), 1);
}

#[test]
fn timestamps_are_read_in_one_form_alone() {
    assert_eq!(read_timestamp(TIME), Ok(NOW));
    // Source: `date -u -d <text> +%s`.
    for (text, seconds) in [
        ("1970-01-01T00:00:00Z", 0),
        ("2000-02-29T23:59:59Z", 951_868_799),
        ("2024-03-01T00:00:00Z", 1_709_251_200),
        ("2026-12-31T23:59:59Z", 1_798_761_599),
        ("2100-03-01T00:00:00Z", 4_107_542_400),
    ] {
        assert_eq!(read_timestamp(text), Ok(seconds), "{text}");
    }
    for text in [
        "",
        "2026-11-21T18:00:00",
        "2026-11-21T18:00:00z",
        "2026-11-21t18:00:00Z",
        "2026-11-21 18:00:00Z",
        "2026-11-21T18:00:00+00:00",
        "2026-11-21T18:00:00.0Z",
        "2026-11-21T18:00:60Z",
        "2026-11-21T24:00:00Z",
        "2026-11-21T18:60:00Z",
        "2026-13-01T18:00:00Z",
        "2026-00-01T18:00:00Z",
        "2026-11-00T18:00:00Z",
        "2026-11-31T18:00:00Z",
        "2026-02-29T18:00:00Z",
        "2100-02-29T18:00:00Z",
        "1969-12-31T23:59:59Z",
        "+026-11-21T18:00:00Z",
        " 2026-11-21T18:00:00Z",
        "2026-11-21T18:00:00Z ",
        "2026-11-21T18:00:0٠Z",
    ] {
        assert_eq!(read_timestamp(text), Err(SignatureFault::Timestamp), "{text}");
    }
}
