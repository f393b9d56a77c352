//! What tokens, key sets and metadata of providers are judged by: octets that nobody has signed
//! never pass, and what is read is within its limits.
//!
//! Hidden behind the feature `fuzzing` and not covered by semver. The fuzz targets and the replay
//! of their corpora call these; every violation is a panic.

use std::collections::HashSet;

use crate::auth::{
    AUTHORIZATION_OCTETS_MAX, Finding, Guid, KEY_SET_OCTETS_MAX, KEYS_MAX, KeySet,
    METADATA_OCTETS_MAX, Presented, ProviderMetadata, RsaKey, Shown, SigningKey, SiteTrust, Tokens,
    TrustedTenant, Use,
};

/// A moment at which the written seeds would be valid.
const NOW: u64 = 1_800_000_000;

/// The tenant that the written seeds are of.
const TENANT: Guid = Guid(0x0a1b_2c3d_4e5f_6071_8293_a4b5_c6d7_e8f9);

/// The body of the fuzz target `jwt`: `data` is offered as the value of Authorization, and behind
/// `Bearer`, to an instance whose keys nobody has.
///
/// # Panics
///
/// If anything of it is proven, or a field that is there is absent to both methods.
pub fn jwt(data: &[u8]) {
    let tokens = trusting();
    let bearer = [b"Bearer ", data].concat();
    for field in [data, &bearer] {
        let presented = Presented::new([field].into_iter());
        let shown = Shown { now: NOW, purpose: Use::Registration, possessed: &[] };
        let found = [tokens.of_tenant(&presented, NOW), tokens.of_site(&presented, shown)];
        assert!(found.iter().any(|it| matches!(it, Finding::Unproven(_))), "somebody judges it");
        assert!(!found.iter().any(|it| matches!(it, Finding::Proven(_))), "nobody has signed it");
        assert!(field.len() <= AUTHORIZATION_OCTETS_MAX || found.iter().all(is_unproven));
    }
}

/// The body of the fuzz target `jwks`: `data` is offered as a key set.
///
/// # Panics
///
/// If a set that is taken exceeds a limit, or a key of it is not found by its name.
pub fn jwks(data: &[u8]) {
    let Ok((set, skipped)) = KeySet::read(data) else { return };
    assert!(data.len() <= KEY_SET_OCTETS_MAX);
    let names: Vec<&str> = set.names().collect();
    assert!(!names.is_empty() && names.len() + skipped.len() <= KEYS_MAX);
    for name in &names {
        let key = set.get(name).expect("a key that is listed");
        assert!((2048..=8192).contains(&key.bits()), "{} bits", key.bits());
        assert_eq!(names.iter().filter(|it| *it == name).count(), 1, "two by one name");
    }
}

/// The body of the fuzz target `metadata`: `data` is offered as what a provider says of itself.
///
/// # Panics
///
/// If what is taken exceeds its limit, or another reader of JSON finds another issuer or address.
pub fn metadata(data: &[u8]) {
    let Ok(read) = ProviderMetadata::read(data) else { return };
    assert!(data.len() <= METADATA_OCTETS_MAX);
    let other: serde_json::Value = serde_json::from_slice(data).expect("an object, so JSON");
    assert_eq!(other.get("issuer").and_then(|it| it.as_str()), Some(&*read.issuer));
    assert_eq!(other.get("jwks_uri").and_then(|it| it.as_str()), Some(&*read.jwks_uri));
}

fn is_unproven(finding: &Finding) -> bool {
    matches!(finding, Finding::Unproven(_))
}

/// An instance that trusts keys which nobody can have: an odd number each.
fn trusting() -> Tokens {
    let modulus = [0xff; 256];
    let key = RsaKey::new(&modulus, &[1, 0, 1]).expect("2,048 bits, and F4");
    let n = "_".repeat(340) + "_w";
    let set = format!(r#"{{"keys":[{{"kty":"RSA","kid":"key","n":"{n}","e":"AQAB"}}]}}"#);
    let (keys, _) = KeySet::read(set.as_bytes()).expect("the same key, in base64url");
    let key = SigningKey { sha1: [0; 20], sha256: [0; 32], key };
    let blocked = HashSet::new();
    let mut tokens = Tokens::default();
    tokens.trust(
        vec![TrustedTenant::new(TENANT, keys)],
        Some(SiteTrust { tenant: TENANT, keys: vec![key], blocked }),
    );
    tokens
}
