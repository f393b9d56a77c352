//! Signatures of CCM clients that were made without the code under test:
//! `tests/vectors/ccm_signatures.py`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use relay_core::auth::{ClientKey, SignatureFault, SignedDigests};
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../vectors/ccm_signatures.json")).unwrap()
}

fn octets(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap()
}

#[test]
fn signatures_hold_as_they_were_made_and_no_others() {
    let vectors = vectors();
    let cases = vectors["cases"].as_array().unwrap();
    let mut held = 0;
    for case in cases {
        let name = text(case, "name");
        let digests = if case["sha1"].as_bool().unwrap() {
            SignedDigests::Sha1Too
        } else {
            SignedDigests::Sha256
        };
        let key = ClientKey::from_der(&octets(text(&vectors["keys"], text(case, "key"))));
        let judged =
            key.and_then(|key| key.verify(text(case, "text"), text(case, "signature"), digests));
        assert_eq!(judged.is_ok(), case["holds"].as_bool().unwrap(), "{name}: {judged:?}");
        held += usize::from(judged.is_ok());
    }
    assert_eq!((cases.len(), held), (68, 17));
}

#[test]
fn no_signature_with_another_digit_holds() {
    let vectors = vectors();
    let key = ClientKey::from_der(&octets(text(&vectors["keys"], "rsa2048"))).unwrap();
    let usual = &vectors["cases"][0];
    let signature = text(usual, "signature");
    assert_eq!(key.verify(text(usual, "text"), signature, SignedDigests::Sha256), Ok(()));
    for place in 0..signature.len() {
        let mut other = signature.as_bytes().to_vec();
        other[place] = if other[place] == b'0' { b'1' } else { b'0' };
        let other = String::from_utf8(other).unwrap();
        let judged = key.verify(text(usual, "text"), &other, SignedDigests::Sha1Too);
        assert_eq!(judged, Err(SignatureFault::Mismatch), "digit {place}");
    }
}

#[test]
fn a_key_of_1024_bits_is_none() {
    let key = ClientKey::from_der(&octets(text(&vectors()["keys"], "rsa1024")));
    assert_eq!(key, Err(SignatureFault::WeakKey));
}
