//! Inputs of the targets that judge tokens, key sets and metadata of providers. Nobody has signed
//! any of the tokens.

use serde_json::{Value, json};

use super::Seed;
use crate::tokens::{
    NOW, SOMEBODY, TENANT, base64url, bulk_claims, ccm_claims, client_claims, entra_claims,
    entra_header,
};

pub(super) fn all() -> Vec<Seed> {
    [tokens(), key_sets(), metadata()].concat()
}

/// A token with a signature of zeros.
fn token(header: &Value, payload: &Value) -> String {
    let parts = [header.to_string(), payload.to_string()].map(base64url);
    format!("{}.{}", parts.join("."), base64url([0; 256]))
}

fn tokens() -> Vec<Seed> {
    let seed = |name, text: String| Seed { target: "jwt", name, octets: text.into_bytes() };
    let entra = |name: &str, value: Value| {
        let mut claims = entra_claims();
        claims[name] = value;
        token(&entra_header(), &claims)
    };
    let headed = |name: &str, value: Value| {
        let mut header = entra_header();
        header[name] = value;
        token(&header, &entra_claims())
    };
    // The thumbprints that the instance under test knows.
    let (sha1, sha256) = (base64url([0; 20]), base64url([0; 32]));
    let site = json!({"typ": "JWT", "alg": "RS256", "x5t": sha1, "x5t#S256": sha256});
    let good = token(&entra_header(), &entra_claims());
    let twice = "{\"typ\":\"JWT\",\"alg\":\"RS256\",\"\\u0061lg\":\"none\"}";
    vec![
        seed("written-entra", good.clone()),
        seed("written-entra-with-scheme", format!("Bearer {good}")),
        seed("written-entra-two", format!("{good},{good}")),
        seed("written-entra-expired", entra("exp", json!(NOW - 400))),
        seed("written-entra-time-as-text", entra("exp", json!("1800003600"))),
        seed("written-entra-list-of-audiences", entra("aud", json!(["a", "b"]))),
        seed("written-entra-other-tenant", entra("tid", json!(SOMEBODY))),
        seed("written-entra-none", headed("alg", json!("none"))),
        seed("written-entra-critical", headed("crit", json!(["exp"]))),
        seed("written-entra-key-along", headed("jwk", json!({"kty": "RSA", "e": "AQAB"}))),
        seed("written-entra-unknown-key", headed("kid", json!("newer"))),
        seed("written-bulk", token(&site, &bulk_claims())),
        seed("written-client", token(&site, &client_claims())),
        seed("written-ccm", token(&site, &ccm_claims())),
        seed("written-member-twice", format!("{}.e30.AA", base64url(twice))),
        seed("written-dots", "..".to_owned()),
        seed("written-padded", good.replacen('.', "==.", 1)),
        seed("written-tenant-alone", format!("{}.e30.", base64url(TENANT.to_string()))),
    ]
}

fn key_sets() -> Vec<Seed> {
    let seed =
        |name, set: Value| Seed { target: "jwks", name, octets: set.to_string().into_bytes() };
    let key = |name: &str, octets: usize| {
        let n = base64url(vec![0xff; octets]);
        json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": name, "n": n, "e": "AQAB"})
    };
    let with = |name: &str, value: Value| {
        let mut key = key("a", 256);
        key[name] = value;
        json!({"keys": [key]})
    };
    let twice = Seed {
        target: "jwks",
        name: "written-member-twice",
        octets: b"{\"keys\":[],\"keys\":[{}]}".to_vec(),
    };
    vec![
        twice,
        seed("written-one", json!({"keys": [key("a", 256)]})),
        seed("written-two", json!({"keys": [key("a", 256), key("b", 1024)]})),
        seed("written-two-by-one-name", json!({"keys": [key("a", 256), key("a", 256)]})),
        seed("written-too-short", json!({"keys": [key("a", 255)]})),
        seed("written-too-long", json!({"keys": [key("a", 1025)]})),
        seed("written-none", json!({"keys": []})),
        seed("written-no-list", json!({"keys": {"kty": "RSA"}})),
        seed("written-encryption", with("use", json!("enc"))),
        seed("written-other-algorithm", with("alg", json!("PS256"))),
        seed("written-operations", with("key_ops", json!(["sign", "verify"]))),
        seed("written-curve", with("kty", json!("EC"))),
        seed("written-even-exponent", with("e", json!("AQAA"))),
        seed("written-leading-zero", with("n", json!(base64url([0; 257])))),
        seed("written-certificates", with("x5c", json!(["MIIB", "MIIC"]))),
    ]
}

fn metadata() -> Vec<Seed> {
    let seed = |name, text: String| Seed { target: "metadata", name, octets: text.into_bytes() };
    let issuer = format!("https://sts.windows.net/{TENANT}/");
    let keys = "https://login.microsoftonline.com/common/discovery/keys";
    let good = json!({"issuer": issuer, "jwks_uri": keys});
    let with = |name: &str, value: Value| {
        let mut metadata = good.clone();
        metadata[name] = value;
        metadata.to_string()
    };
    vec![
        seed("written-two-members", good.to_string()),
        seed("written-more", with("id_token_signing_alg_values_supported", json!(["RS256"]))),
        seed("written-nested", with("claims", json!({"issuer": "other", "of": [{"a": 1}]}))),
        seed("written-no-address", with("jwks_uri", Value::Null)),
        seed("written-number", with("issuer", json!(1))),
        seed("written-escapes", good.to_string().replace("issuer", "\\u0069ssuer")),
        seed(
            "written-surrogates",
            with("issuer", json!("\u{1f511}")).replace('\u{1f511}', "\\ud83d\\udd11"),
        ),
        seed("written-lone-surrogate", good.to_string().replace("https", "\\ud83d")),
        seed("written-member-twice", good.to_string().replacen('{', "{\"issuer\":\"a\",", 1)),
        seed("written-list", json!([good]).to_string()),
        seed("written-trailing", format!("{good} {{}}")),
        seed("written-html", "<html>".to_owned()),
    ]
}
