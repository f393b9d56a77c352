//! Tokens that nobody may get in with: each is refused, and for the reason that it is wrong for.
//!
//! They are made by another library than the one that judges them. Every class of RFC 8725 is here,
//! each limit with what just passes, and each way to change a good token.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use relay_core::auth::{
    CertificateFault, Finding, Guid, Issuer, Jwt, KeySet, Method, Methods, Part, Presented,
    Principal, Refusal, RsaKey, Shown, SigningKey, SiteTrust, Strictness, TokenFault, Tokens,
    Trail, TrustedTenant, Unproven, Use, search,
};
use relay_tests::tokens::{
    BLOCKED, CERTIFICATE, DISABLED, NOW, SOMEBODY, Signer, TENANT, base64url, bulk_claims,
    ccm_claims, client_claims, entra_claims, entra_header, site_header, trusting,
};
use serde_json::{Value, json};

#[path = "auth_hostile/gateway.rs"]
mod gateway;

thread_local! {
    /// When it is, and which certificate clients have: others where an instance judges by a clock
    /// and in TLS.
    static WORLD: Cell<(u64, [u8; 32])> = const { Cell::new((NOW, CERTIFICATE)) };
}

/// When it is: seconds since 1970 UTC.
fn now() -> u64 {
    WORLD.get().0
}

/// The certificate that the client has.
fn certificate() -> [u8; 32] {
    WORLD.get().1
}

/// Who is said to have issued a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Entra,
    Bulk,
    Client,
    Ccm,
}

use Kind::{Bulk, Ccm, Client, Entra};

const KINDS: [Kind; 4] = [Entra, Bulk, Client, Ccm];

impl Kind {
    fn header(self) -> Value {
        if self == Entra { entra_header() } else { site_header() }
    }

    fn claims(self) -> Value {
        let mut claims = match self {
            Entra => entra_claims(),
            Bulk => bulk_claims(),
            Client => client_claims(),
            Ccm => ccm_claims(),
        };
        for name in ["iat", "nbf", "exp"] {
            if let Some(at) = claims[name].as_u64() {
                claims[name] = json!(now() + at - NOW);
            }
        }
        if self == Client {
            claims["cnf"] = json!({"x5t#S256": base64url(certificate())});
        }
        claims
    }

    fn signer(self) -> &'static Signer {
        if self == Entra { Signer::provider() } else { Signer::site() }
    }

    fn purpose(self) -> Use {
        if self == Bulk { Use::Registration } else { Use::Traffic }
    }

    fn good(self) -> String {
        self.signer().token(self.header().to_string(), self.claims().to_string())
    }

    /// A token whose header says something else.
    fn headed(self, name: &str, value: Value) -> String {
        let mut header = self.header();
        header[name] = value;
        self.signer().token(header.to_string(), self.claims().to_string())
    }

    /// A token that claims something else.
    fn claiming(self, name: &str, value: Value) -> String {
        let mut claims = self.claims();
        claims[name] = value;
        self.signer().token(self.header().to_string(), claims.to_string())
    }

    /// A token whose claims are this text.
    fn saying(self, claims: &str) -> String {
        self.signer().token(self.header().to_string(), claims)
    }

    fn lacking(self, place: Part, name: &str) -> String {
        let (mut header, mut claims) = (self.header(), self.claims());
        let from = if place == Part::Header { &mut header } else { &mut claims };
        from.as_object_mut().unwrap().remove(name).unwrap();
        self.signer().token(header.to_string(), claims.to_string())
    }
}

/// What is shown, and why it must prove nothing.
struct Case {
    name: String,
    fields: Vec<Vec<u8>>,
    purpose: Use,
    possessed: Vec<[u8; 32]>,
    why: TokenFault,
}

fn case(name: impl Into<String>, kind: Kind, token: &str, why: TokenFault) -> Case {
    Case {
        name: format!("{}, {kind:?}", name.into()),
        fields: vec![format!("Bearer {token}").into_bytes()],
        purpose: kind.purpose(),
        possessed: vec![certificate()],
        why,
    }
}

fn field(name: &str, octets: impl Into<Vec<u8>>, why: TokenFault) -> Case {
    Case { fields: vec![octets.into()], ..case(name, Entra, "", why) }
}

/// What both methods find in a request with these fields.
fn found(
    tokens: &Tokens,
    fields: &[Vec<u8>],
    (now, purpose): (u64, Use),
    possessed: &[[u8; 32]],
) -> [Finding; 2] {
    let presented = Presented::new(fields.iter().map(Vec::as_slice));
    let shown = Shown { now, purpose, possessed };
    [tokens.of_tenant(&presented, now), tokens.of_site(&presented, shown)]
}

/// What a token of `kind` comes to at `now`.
fn at(tokens: &Tokens, kind: Kind, token: &str, now: u64) -> Result<Principal, TokenFault> {
    let fields = [format!("Bearer {token}").into_bytes()];
    outcome(found(tokens, &fields, (now, kind.purpose()), &[CERTIFICATE]))
}

/// Whoever is proven, or else the one reason.
fn outcome(found: [Finding; 2]) -> Result<Principal, TokenFault> {
    let mut why = None;
    for finding in found {
        match finding {
            Finding::Absent => {}
            Finding::Proven(principal) => return Ok(principal),
            Finding::Unproven(Unproven::Token(fault)) => why = Some(fault),
            Finding::Unproven(other) => panic!("{other:?}"),
        }
    }
    Err(why.expect("somebody judges each token"))
}

fn fields_and_segments() -> Vec<Case> {
    let good = Entra.good();
    let [header, payload, signature] = parts(&good);
    let two = vec![format!("Bearer {good}").into_bytes(); 2];
    let mut cases = vec![
        Case { fields: two, ..field("two fields", "", TokenFault::SeveralFields) },
        Case {
            fields: vec![format!("Bearer {good}").into_bytes(), b"Basic YTpi".to_vec()],
            ..field("a good field and another scheme's", "", TokenFault::SeveralFields)
        },
        field("an empty field", "", TokenFault::Scheme),
        field("another scheme", format!("Basic {good}"), TokenFault::Scheme),
        field("no scheme", good.clone(), TokenFault::Scheme),
        field("a colon behind the scheme", format!("Bearer: {good}"), TokenFault::Scheme),
        field("a tab behind the scheme", format!("Bearer\t{good}"), TokenFault::Scheme),
        field("a no-break space in front", format!("\u{a0}Bearer {good}"), TokenFault::Scheme),
        field("octets that are no text", b"Bearer \xff\xfe".to_vec(), TokenFault::Malformed),
        field("the scheme alone", "Bearer", TokenFault::Malformed),
        field("the scheme and a space", "Bearer ", TokenFault::Malformed),
        field("two in one field", format!("Bearer {good}, Bearer {good}"), TokenFault::Malformed),
    ];
    let base64 = TokenFault::Base64;
    for (name, token, why) in [
        ("a comma behind it", format!("{good},"), base64(Part::Signature)),
        ("a quoted token", format!("\"{good}\""), base64(Part::Header)),
        ("two segments", format!("{header}.{payload}"), TokenFault::Malformed),
        ("four segments", format!("{good}.{signature}"), TokenFault::Malformed),
        ("a dot behind it", format!("{good}."), TokenFault::Malformed),
        ("five segments, as encrypted", format!("{good}.a.b"), TokenFault::Malformed),
        ("no header", format!(".{payload}.{signature}"), TokenFault::Json(Part::Header)),
        ("no payload", format!("{header}..{signature}"), TokenFault::Json(Part::Payload)),
        ("only dots", "..".to_owned(), TokenFault::Json(Part::Header)),
        ("a space in front", format!("\t{good}"), base64(Part::Header)),
        ("a space behind", format!("{good} "), base64(Part::Signature)),
        ("a line feed within", good.replacen('.', "\n.", 1), base64(Part::Header)),
        ("a NUL behind", format!("{good}\0"), base64(Part::Signature)),
        ("a NUL in front", format!("\0{good}"), base64(Part::Header)),
        ("padding behind the header", good.replacen('.', "=.", 1), base64(Part::Header)),
        ("padding behind the signature", format!("{good}=="), base64(Part::Signature)),
        ("a BOM in front", format!("\u{feff}{good}"), base64(Part::Header)),
        ("the JSON form", format!("{{\"payload\":\"{payload}\"}}"), TokenFault::Malformed),
        ("a full-width dot", good.replacen('.', "\u{ff0e}", 1), TokenFault::Malformed),
        ("plus for minus", format!("{header}.{payload}.+{signature}"), base64(Part::Signature)),
    ] {
        cases.push(case(name, Entra, &token, why));
    }
    cases
}

/// Bits that are left over in the last digit of a part, and set: another text for the same octets.
fn left_over_bits() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in KINDS {
        for part in [Part::Header, Part::Payload, Part::Signature] {
            // One octet in the last two digits leaves four bits, two in three leave two.
            for octets in [1, 2] {
                let fill = |text: String| {
                    let wanted = (octets + 3 - text.len() % 3) % 3;
                    text + &" ".repeat(wanted)
                };
                let (header, claims) = (fill(kind.header().to_string()), kind.claims().to_string());
                let token = kind.signer().token(header, fill(claims));
                let mut parts = parts(&token).map(str::to_owned);
                let text = &mut parts[part as usize];
                let Some(last) = text.pop().filter(|_| text.len() % 4 != 3) else { continue };
                // Whatever it was, its neighbour has the lowest bit set.
                text.push((last as u8 + 1) as char);
                let why = TokenFault::Base64(part);
                cases.push(case(format!("bits left over in {part}"), kind, &parts.join("."), why));
            }
        }
    }
    assert!(cases.len() >= 16, "{} of them", cases.len());
    cases
}

fn parts(token: &str) -> [&str; 3] {
    let parts: Vec<&str> = token.split('.').collect();
    parts.try_into().unwrap()
}

fn headers() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in [Entra, Bulk] {
        for alg in [
            json!("none"),
            json!("None"),
            json!("NONE"),
            json!("nOnE"),
            json!(""),
            json!("HS256"),
            json!("HS512"),
            json!("PS256"),
            json!("RS384"),
            json!("RS512"),
            json!("ES256"),
            json!("EdDSA"),
            json!("rs256"),
            json!("RS256 "),
            json!("RS256\0"),
            json!(null),
            json!(["RS256"]),
            json!({"RS256": 1}),
            json!(256),
            json!(true),
        ] {
            let name = format!("algorithm {alg}");
            cases.push(case(name, kind, &kind.headed("alg", alg), TokenFault::Algorithm));
        }
        for typ in [
            json!("jwt"),
            json!("at+jwt"),
            json!("JWS"),
            json!("application/jwt"),
            json!("dpop+jwt"),
            json!("secevent+jwt"),
            json!(1),
            json!(null),
        ] {
            cases.push(case(
                format!("type {typ}"),
                kind,
                &kind.headed("typ", typ),
                TokenFault::Type,
            ));
        }
    }
    cases
}

fn extensions() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in [Entra, Bulk] {
        let jwk = Signer::stranger().jwk("key");
        for (name, value) in [
            ("jwk", jwk),
            ("jku", json!("https://evil.example/keys")),
            ("x5u", json!("https://evil.example/cert")),
            ("x5c", json!(["MIIB"])),
        ] {
            let mut header = kind.header();
            header[name] = value;
            let token = Signer::stranger().token(header.to_string(), kind.claims().to_string());
            cases.push(case(format!("with {name}"), kind, &token, TokenFault::EmbeddedKey(name)));
        }
        for (name, value) in [
            ("crit", json!(["exp"])),
            ("crit", json!([])),
            ("crit", json!(null)),
            ("b64", json!(false)),
            ("cty", json!("JWT")),
            ("zip", json!("DEF")),
            ("enc", json!("A128GCM")),
        ] {
            let shown = format!("with {name} {value}");
            let token = kind.headed(name, value);
            cases.push(case(shown, kind, &token, TokenFault::Extension(name)));
        }
        for (name, why) in [("alg", TokenFault::Algorithm), ("typ", TokenFault::Type)] {
            let token = kind.lacking(Part::Header, name);
            cases.push(case(format!("without {name}"), kind, &token, why));
        }
    }
    cases
}

fn keys() -> Vec<Case> {
    let mut cases = Vec::new();
    for (kind, name) in [(Entra, "kid"), (Bulk, "x5t")] {
        let lacking = kind.lacking(Part::Header, name);
        cases.push(case(format!("without {name}"), kind, &lacking, TokenFault::NoKeyId(name)));
        for value in [json!(null), json!(1), json!(["key"])] {
            let shown = format!("{name} {value}");
            cases.push(case(shown, kind, &kind.headed(name, value), TokenFault::NoKeyId(name)));
        }
        for value in ["", "KEY", "key ", "key\0", "../../dev/null", "' OR 1=1 --"] {
            let token = kind.headed(name, json!(value));
            cases.push(case(format!("{name} {value:?}"), kind, &token, TokenFault::UnknownKey));
        }
    }
    let site = Signer::site().certificate();
    let disagree = Bulk.headed("x5t#S256", json!(base64url([1; 32])));
    cases.push(case("x5t#S256 of another", Bulk, &disagree, TokenFault::KeyIdsDisagree));
    let text = Bulk.headed("x5t#S256", json!(1));
    cases.push(case("x5t#S256 as a number", Bulk, &text, TokenFault::NoKeyId("x5t#S256")));
    let hex: Vec<String> = site.sha1.iter().map(|octet| format!("{octet:02X}")).collect();
    let token = Bulk.headed("x5t", json!(hex.concat()));
    cases.push(case("x5t in hexadecimal digits", Bulk, &token, TokenFault::UnknownKey));
    cases
}

fn signatures() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in KINDS {
        let good = kind.good();
        let [header, payload, signature] = parts(&good);
        let mut octets = kind.signer().sign(b"", &aws_lc_rs::signature::RSA_PKCS1_SHA256);
        let message = format!("{header}.{payload}");
        let with = |signature: &[u8]| format!("{message}.{}", base64url(signature));
        let stranger =
            Signer::stranger().token(kind.header().to_string(), kind.claims().to_string());
        let other = kind.claiming("nbf", json!(now() - 11));
        let zeros = vec![0; octets.len()];
        octets.push(0);
        let wrong = [
            ("another key's", stranger),
            ("another token's", format!("{message}.{}", parts(&other)[2])),
            ("none", format!("{message}.")),
            ("one octet", format!("{message}.AA")),
            ("zeros", with(&zeros)),
            ("ones", with(&vec![0xff; zeros.len()])),
            ("of nothing, and one octet more", with(&octets)),
            ("cut", with(&octets[..octets.len() - 4])),
            ("with octets behind it", format!("{message}.{signature}AAAA")),
            ("PSS", with(&kind.signer().sign(message.as_bytes(), &RSA_PSS_SHA256))),
            ("SHA-384", with(&kind.signer().sign(message.as_bytes(), &RSA_PKCS1_SHA384))),
            ("SHA-512", with(&kind.signer().sign(message.as_bytes(), &RSA_PKCS1_SHA512))),
        ];
        for (name, token) in wrong {
            cases.push(case(format!("signature: {name}"), kind, &token, TokenFault::Signature));
        }
        let long = with(&[1; 1025]);
        cases.push(case("signature too long", kind, &long, TokenFault::TooLong(Part::Signature)));
    }
    // RFC 8725, section 2.1: the public key as a secret that everybody knows.
    let mut header = entra_header();
    header["alg"] = json!("HS256");
    let message =
        format!("{}.{}", base64url(header.to_string()), base64url(Entra.claims().to_string()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, &Signer::provider().modulus());
    let token = format!("{message}.{}", base64url(hmac::sign(&key, message.as_bytes())));
    cases.push(case("HMAC with the public key", Entra, &token, TokenFault::Algorithm));
    header["alg"] = json!("none");
    let payload = base64url(Entra.claims().to_string());
    let token = format!("{}.{payload}.", base64url(header.to_string()));
    cases.push(case("none, and no signature", Entra, &token, TokenFault::Algorithm));
    cases
}

fn times() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in KINDS {
        for name in ["exp", "nbf"] {
            // What would do as a number of whole seconds.
            let good = &kind.claims()[name];
            for value in [
                &*format!("\"{good}\""),
                &format!("{good}.0"),
                "1.8e9",
                "-1",
                "18446744073709551616",
                "true",
                "null",
                &format!("[{good}]"),
                "{}",
            ] {
                let mut claims = kind.claims();
                claims[name] = json!("HERE");
                let text = claims.to_string().replace("\"HERE\"", value);
                let why = TokenFault::ClaimForm(name);
                cases.push(case(format!("{name} {value}"), kind, &kind.saying(&text), why));
            }
            let (shown, lacking) = (format!("without {name}"), kind.lacking(Part::Payload, name));
            cases.push(case(shown, kind, &lacking, TokenFault::NoClaim(name)));
        }
        for (name, claim, value, why) in [
            ("never over", "exp", u64::MAX, TokenFault::LivesTooLong),
            ("over in a hundred years", "exp", now() + 100 * 31_557_600, TokenFault::LivesTooLong),
            ("over before it began", "exp", now() - 11, TokenFault::Expired),
            ("over in 1970", "exp", 0, TokenFault::Expired),
            ("from 1970 on", "nbf", 0, TokenFault::LivesTooLong),
            ("issued in the future", "iat", now() + 1000, TokenFault::IssuedLater),
            ("issued at the end of time", "iat", u64::MAX, TokenFault::IssuedLater),
        ] {
            cases.push(case(name, kind, &kind.claiming(claim, json!(value)), why));
        }
        let mut claims = kind.claims();
        // To the second: `no_step_of_the_clock_extends_a_token_beyond_its_leeway`.
        claims["nbf"] = json!(now() + 1000);
        claims["exp"] = json!(now() + 1100);
        cases.push(case(
            "not yet valid",
            kind,
            &kind.saying(&claims.to_string()),
            TokenFault::NotYet,
        ));
        claims["nbf"] = json!(now() - 400);
        claims["exp"] = json!(now() - 300);
        cases.push(case("expired", kind, &kind.saying(&claims.to_string()), TokenFault::Expired));
        let iat = kind.claiming("iat", json!(now().to_string()));
        cases.push(case("iat as text", kind, &iat, TokenFault::ClaimForm("iat")));
    }
    cases
}

fn issuers() -> Vec<Case> {
    let tid = TENANT.to_string();
    let stranger = "99999999-9999-9999-9999-999999999999";
    let sts = |tenant: &str| format!("https://sts.windows.net/{tenant}/");
    let mut cases = Vec::new();
    for iss in [
        sts(stranger),
        sts(&tid.to_uppercase()),
        format!("https://sts.windows.net/{tid}"),
        format!("https://sts.windows.net/{tid}//"),
        format!("http://sts.windows.net/{tid}/"),
        format!("HTTPS://sts.windows.net/{tid}/"),
        format!("https://STS.windows.net/{tid}/"),
        format!("https://sts.windows.net.evil.example/{tid}/"),
        format!(" {}", sts(&tid)),
        format!("https://evil.example/https://sts.windows.net/{tid}/"),
        format!("https://sts.windows.net@evil.example/{tid}/"),
        format!("{}\0", sts(&tid)),
        format!("https://login.microsoftonline.com/{tid}/v2.0"),
        format!("https://login.microsoftonline.us/{tid}/v2.0"),
        String::new(),
        format!("https://sts.windows.net/{{{tid}}}/"),
        "URN:SCCM:OAUTH2:".to_owned(),
    ] {
        let token = Entra.claiming("iss", json!(iss));
        cases.push(case(format!("issuer {iss:?}"), Entra, &token, TokenFault::Issuer));
    }
    cases
}

fn entra() -> Vec<Case> {
    let tid = TENANT.to_string();
    let stranger = "99999999-9999-9999-9999-999999999999";
    let sts = |tenant: &str| format!("https://sts.windows.net/{tenant}/");
    let mut cases = Vec::new();
    for aud in [
        "",
        "https://configmgrservice",
        "https://ConfigMgrService/",
        "urn:sccm:service",
        "https://ConfigMgrService ",
        "https://graph.microsoft.com",
        "https://ConfigMgrService\0",
    ] {
        let token = Entra.claiming("aud", json!(aud));
        cases.push(case(format!("audience {aud:?}"), Entra, &token, TokenFault::Audience));
    }
    for (claim, value) in [
        ("aud", json!(["https://ConfigMgrService"])),
        ("aud", json!({})),
        ("aud", json!(1)),
        ("iss", json!(1)),
        ("iss", json!([sts(&tid)])),
        ("iss", json!(null)),
        ("tid", json!(1)),
        ("tid", json!("common")),
        ("tid", json!(tid.to_uppercase())),
        ("tid", json!(format!("{{{tid}}}"))),
        ("tid", json!(format!("{tid} "))),
        ("oid", json!(1)),
        ("oid", json!("root")),
        ("deviceid", json!(null)),
        ("deviceid", json!("")),
    ] {
        let name = format!("{claim} {value}");
        let token = Entra.claiming(claim, value);
        cases.push(case(name, Entra, &token, TokenFault::ClaimForm(claim)));
    }
    for claim in ["aud", "iss", "tid"] {
        let token = Entra.lacking(Part::Payload, claim);
        cases.push(case(format!("without {claim}"), Entra, &token, TokenFault::NoClaim(claim)));
    }
    let mut claims = Entra.claims();
    claims["tid"] = json!(stranger);
    cases.push(case(
        "tenant of another",
        Entra,
        &Entra.saying(&claims.to_string()),
        TokenFault::Tenant,
    ));
    claims["iss"] = json!(sts(stranger));
    cases.push(case(
        "all of another",
        Entra,
        &Entra.saying(&claims.to_string()),
        TokenFault::Tenant,
    ));
    claims["tid"] = json!(DISABLED.to_string());
    claims["iss"] = json!(sts(&DISABLED.to_string()));
    let disabled = Entra.saying(&claims.to_string());
    cases.push(case("a disabled tenant", Entra, &disabled, TokenFault::TenantDisabled));
    let mut nobody = Entra.claims();
    nobody.as_object_mut().unwrap().remove("oid");
    nobody.as_object_mut().unwrap().remove("deviceid");
    cases.push(case("of nobody", Entra, &Entra.saying(&nobody.to_string()), TokenFault::Nobody));
    cases
}

fn site() -> Vec<Case> {
    let tid = TENANT.to_string();
    let stranger = "99999999-9999-9999-9999-999999999999";
    let mut cases = Vec::new();
    for kind in [Bulk, Client, Ccm] {
        for (claim, value, why) in [
            ("SCCMTokenCategory", "sccmpreauthtoken", TokenFault::Claim("SCCMTokenCategory")),
            ("SCCMTokenCategory", "", TokenFault::Claim("SCCMTokenCategory")),
            ("Authority", "sccm", TokenFault::Claim("Authority")),
            ("License", "SCCM ", TokenFault::Claim("License")),
            ("Type", "bulkregistration", TokenFault::Claim("Type")),
            ("TenantId", stranger, TokenFault::Tenant),
            ("TenantId", &tid, TokenFault::Tenant),
            ("UniqueId", "1", TokenFault::ClaimForm("UniqueId")),
            ("UniqueId", BLOCKED, TokenFault::Blocked),
            ("UniqueId", &BLOCKED.to_uppercase(), TokenFault::Blocked),
            ("iss", &format!("urn:sccm:oauth2:{stranger}"), TokenFault::Issuer),
            ("iss", &format!("urn:sccm:oauth2:{}", tid.to_uppercase()), TokenFault::Issuer),
            ("iss", "urn:sccm:oauth2:", TokenFault::Issuer),
            ("aud", "urn:sccm:Service", TokenFault::Audience),
            ("aud", "https://ConfigMgrService", TokenFault::Audience),
        ] {
            let token = kind.claiming(claim, json!(value));
            cases.push(case(format!("{claim} {value:?}"), kind, &token, why));
        }
        for claim in
            ["SCCMTokenCategory", "Authority", "License", "Type", "TenantId", "UniqueId", "aud"]
        {
            let lacking = kind.lacking(Part::Payload, claim);
            cases.push(case(
                format!("without {claim}"),
                kind,
                &lacking,
                TokenFault::NoClaim(claim),
            ));
            for value in [json!(1), json!(null), json!([kind.claims()[claim]])] {
                let name = format!("{claim} {value}");
                let token = kind.claiming(claim, value);
                cases.push(case(name, kind, &token, TokenFault::ClaimForm(claim)));
            }
        }
    }
    cases
}

fn bindings() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in [Bulk, Client, Ccm] {
        // Nothing but that it says so makes it the site's: without, it is judged as a tenant's.
        let lacking = kind.lacking(Part::Payload, "iss");
        cases.push(case("without iss", kind, &lacking, TokenFault::NoClaim("tid")));
        for value in [
            json!("x"),
            json!(1),
            json!({}),
            json!({"x5t#S256": 1}),
            json!({"x5t#S256": base64url([7; 31])}),
            json!({"x5t#S256": base64url([7; 33])}),
            json!({"X5T#S256": base64url([7; 32])}),
            json!({"jkt": base64url([7; 32])}),
        ] {
            let name = format!("cnf {value}");
            let token = kind.claiming("cnf", value);
            cases.push(case(name, kind, &token, TokenFault::ClaimForm("cnf")));
        }
    }
    for kind in [Client, Ccm] {
        let token = kind.lacking(Part::Payload, "ClientId");
        cases.push(case("without ClientId", kind, &token, TokenFault::NoClaim("ClientId")));
        let token = kind.claiming("ClientId", json!("GUID:1"));
        cases.push(case(
            "ClientId of another form",
            kind,
            &token,
            TokenFault::ClaimForm("ClientId"),
        ));
    }
    let token = Client.lacking(Part::Payload, "cnf");
    cases.push(case("without cnf", Client, &token, TokenFault::NoClaim("cnf")));
    cases.extend(purposes());
    cases
}

fn purposes() -> Vec<Case> {
    let other = Client.claiming("cnf", json!({"x5t#S256": base64url([8; 32])}));
    let category = Bulk.claiming("SCCMTokenCategory", json!("SCCMCcmToken"));
    let bound = Ccm.claiming("cnf", json!({"x5t#S256": base64url([8; 32])}));
    let unbound = |name| case(name, Client, &Client.good(), TokenFault::Unbound);
    vec![
        case("another client's", Client, &other, TokenFault::Unbound),
        Case { possessed: vec![], ..unbound("no certificate") },
        Case { possessed: vec![[8; 32], [9; 32]], ..unbound("other certificates") },
        case("bound though it need not be", Ccm, &bound, TokenFault::Unbound),
        Case {
            purpose: Use::Traffic,
            ..case("bulk token for traffic", Bulk, &Bulk.good(), TokenFault::RegistrationOnly)
        },
        Case {
            purpose: Use::Registration,
            ..case("8 hours for registration", Ccm, &Ccm.good(), TokenFault::TrafficOnly)
        },
        case("a bulk token called another", Bulk, &category, TokenFault::Claim("Type")),
        case(
            "the site's token by the provider's key",
            Bulk,
            &Signer::provider().token(site_header().to_string(), Bulk.claims().to_string()),
            TokenFault::Signature,
        ),
        case(
            "the tenant's token by the site's key",
            Entra,
            &Signer::site().token(entra_header().to_string(), Entra.claims().to_string()),
            TokenFault::Signature,
        ),
    ]
}

fn texts() -> Vec<Case> {
    let payload = Part::Payload;
    let mut cases = Vec::new();
    for kind in KINDS {
        let claims = kind.claims().to_string();
        let inner = &claims[1..claims.len() - 1];
        let nested = |open: &str, close: &str| {
            format!("{{\"a\":{}{},{inner}}}", open.repeat(500), close.repeat(500))
        };
        let (json, twice) = (TokenFault::Json(payload), TokenFault::Duplicate(payload));
        for (name, text, why) in [
            ("exp twice", format!("{{\"exp\":9999999999,{inner}}}"), twice.clone()),
            ("exp twice, once escaped", format!("{{\"\\u0065xp\":1,{inner}}}"), twice.clone()),
            ("aud twice", format!("{{{inner},\"aud\":\"x\"}}"), twice.clone()),
            ("a duplicate within", format!("{{\"a\":{{\"b\":1,\"b\":1}},{inner}}}"), twice),
            ("a lone surrogate", format!("{{\"a\":\"\\ud800\",{inner}}}"), json.clone()),
            ("a lone surrogate as a name", format!("{{\"\\udc00\":1,{inner}}}"), json.clone()),
            ("a NUL within", format!("{{\"a\":\"\0\",{inner}}}"), json.clone()),
            ("lists in lists", nested("[", "]"), json.clone()),
            ("a comma at the end", format!("{{{inner},}}"), json.clone()),
            ("a comment", format!("{{/**/{inner}}}"), json.clone()),
            ("single quotes", claims.replace('"', "'"), json.clone()),
            ("a BOM", format!("\u{feff}{claims}"), json.clone()),
            ("a NUL behind", format!("{claims}\0"), json.clone()),
            ("two objects", format!("{claims}{claims}"), json.clone()),
            ("a list", format!("[{claims}]"), json.clone()),
            ("text", format!("\"{}\"", base64url(&claims)), json.clone()),
            ("nothing", String::new(), json.clone()),
            ("a number that is none", format!("{{\"a\":1e999,{inner}}}"), json.clone()),
            ("cut", claims[..claims.len() - 1].to_owned(), json.clone()),
        ] {
            cases.push(case(format!("payload: {name}"), kind, &kind.saying(&text), why));
        }
        let header = kind.header().to_string();
        let inner = &header[1..];
        let under = |header: String| kind.signer().token(header, &claims);
        for (name, text, why) in [
            (
                "alg twice",
                format!("{{\"alg\":\"none\",{inner}"),
                TokenFault::Duplicate(Part::Header),
            ),
            ("a BOM", format!("\u{feff}{header}"), TokenFault::Json(Part::Header)),
            ("a list", format!("[{header}]"), TokenFault::Json(Part::Header)),
            ("alg in capitals", header.replace("\"alg\"", "\"ALG\""), TokenFault::Algorithm),
        ] {
            cases.push(case(format!("header: {name}"), kind, &under(text), why));
        }
    }
    cases
}

/// All of them.
fn table() -> Vec<Case> {
    let tables: [fn() -> Vec<Case>; 12] = [
        fields_and_segments,
        headers,
        extensions,
        keys,
        signatures,
        times,
        issuers,
        entra,
        site,
        bindings,
        left_over_bits,
        texts,
    ];
    let cases: Vec<Case> = tables.iter().flat_map(|table| table()).collect();
    assert!(cases.len() >= 150, "{} of them", cases.len());
    cases
}

#[test]
fn every_hostile_token_is_refused_and_for_its_reason() {
    let (tokens, cases) = (trusting(), table());
    let mut faults = Vec::new();
    for case in &cases {
        let found = found(&tokens, &case.fields, (NOW, case.purpose), &case.possessed);
        match outcome(found) {
            Err(why) if why == case.why => {}
            other => faults.push(format!("{}: {other:?}, not {:?}", case.name, case.why)),
        }
    }
    assert!(faults.is_empty(), "of {}:\n{}", cases.len(), faults.join("\n"));
    println!("{} hostile tokens", cases.len());
}

#[test]
fn what_the_table_begins_with_is_accepted() {
    let tokens = trusting();
    for kind in KINDS {
        for _ in ["computed", "remembered"] {
            let principal = at(&tokens, kind, &kind.good(), NOW).unwrap();
            let leeway = if kind == Entra { 300 } else { 60 };
            assert_eq!(principal.until, NOW + 3600 + leeway);
            assert!(principal.name.contains(SOMEBODY), "{}", principal.name);
        }
        assert!(at(&tokens, kind, &kind.lacking(Part::Payload, "nbf"), NOW).is_err());
    }
    let good = Entra.good();
    for scheme in ["bearer", "BEARER", "bEaReR", "Bearer  "] {
        let fields = [format!("{scheme} {good}").into_bytes()];
        assert!(outcome(found(&tokens, &fields, (NOW, Use::Traffic), &[])).is_ok(), "{scheme}");
    }
    assert!(at(&tokens, Bulk, &Bulk.lacking(Part::Header, "x5t#S256"), NOW).is_ok());
    let other = Entra.headed("kid", json!("other"));
    assert!(at(&tokens, Entra, &other, NOW).is_ok(), "each key that is published counts");
}

#[test]
fn each_kind_of_token_counts_for_its_uses_alone() {
    let tokens = trusting();
    let (registration, traffic) = (TokenFault::RegistrationOnly, TokenFault::TrafficOnly);
    for (kind, [registers, renews, travels]) in [
        (Bulk, [None, Some(&registration), Some(&registration)]),
        (Client, [None, None, None]),
        (Ccm, [Some(&traffic), Some(&traffic), None]),
    ] {
        let fields = [format!("Bearer {}", kind.good()).into_bytes()];
        let uses = [Use::Registration, Use::Renewal, Use::Traffic];
        for (purpose, fault) in uses.into_iter().zip([registers, renews, travels]) {
            let judged = found(&tokens, &fields, (NOW, purpose), &[[1; 32], CERTIFICATE]);
            assert_eq!(outcome(judged).err().as_ref(), fault, "{kind:?} for {purpose:?}");
        }
    }
}

#[test]
fn each_limit_takes_what_just_fits_and_nothing_more() {
    let tokens = trusting();
    // Spaces behind an object are of no account in JSON, so that any size can be made.
    let sized = |header: usize, payload: usize| {
        let fill = |text: String, size: usize| format!("{text:<size$}");
        let header = fill(entra_header().to_string(), header);
        let payload = fill(entra_claims().to_string(), payload);
        at(&tokens, Entra, &Signer::provider().token(header, payload), NOW)
    };
    for fits in [1023, 1024] {
        assert!(sized(fits, 0).is_ok(), "a header of {fits}");
    }
    assert_eq!(sized(1025, 0), Err(TokenFault::TooLong(Part::Header)));
    for fits in [8191, 8192] {
        assert!(sized(0, fits).is_ok(), "a payload of {fits}");
    }
    assert_eq!(sized(0, 8193), Err(TokenFault::TooLong(Part::Payload)));

    // A field can be as long only by spaces behind the scheme.
    let good = Entra.good();
    let field = |length: usize| {
        let spaces = " ".repeat(length - "Bearer".len() - good.len());
        let fields = [format!("Bearer{spaces}{good}").into_bytes()];
        outcome(found(&tokens, &fields, (NOW, Use::Traffic), &[]))
    };
    assert!(field(16 * 1024 - 1).is_ok() && field(16 * 1024).is_ok());
    assert_eq!(field(16 * 1024 + 1), Err(TokenFault::FieldTooLong));
}

#[test]
fn a_token_lives_as_long_as_its_kind_may_and_no_second_longer() {
    let tokens = trusting();
    for (kind, most) in
        [(Entra, 28 * 3600), (Bulk, 7 * 86_400), (Client, 90 * 86_400), (Ccm, 8 * 3600)]
    {
        let living = |seconds: u64| {
            let exp = NOW - 10 + seconds;
            at(&tokens, kind, &kind.claiming("exp", json!(exp)), NOW)
        };
        assert!(living(most - 1).is_ok() && living(most).is_ok(), "{kind:?}");
        assert_eq!(living(most + 1), Err(TokenFault::LivesTooLong), "{kind:?}");
    }
}

#[test]
fn no_step_of_the_clock_extends_a_token_beyond_its_leeway() {
    for kind in KINDS {
        let leeway = if kind == Entra { 300 } else { 60 };
        let (first, over) = (NOW - 10 - leeway, NOW + 3600 + leeway);
        let token = kind.good();
        // Cold at each time, and remembered from whichever came before: forth, back and forth.
        let warm = trusting();
        let order = [NOW, over - 1, over, first - 1, first, over + 1, 0, u64::MAX, NOW, over];
        for now in order {
            let wanted = match now {
                now if now < first => Err(TokenFault::NotYet),
                now if now >= over => Err(TokenFault::Expired),
                _ => Ok(over),
            };
            let until = |tokens: &Tokens| at(tokens, kind, &token, now).map(|it| it.until);
            assert_eq!(until(&trusting()), wanted, "{kind:?} at {now}, computed");
            assert_eq!(until(&warm), wanted, "{kind:?} at {now}, remembered");
        }
        let issued = kind.claiming("iat", json!(NOW + leeway));
        assert!(at(&warm, kind, &issued, NOW).is_ok());
        let issued = kind.claiming("iat", json!(NOW + leeway + 1));
        assert_eq!(at(&warm, kind, &issued, NOW), Err(TokenFault::IssuedLater));
    }
}

#[test]
fn what_was_verified_once_is_asked_again_for_all_that_may_change() {
    let mut tokens = trusting();
    let (provider, key) = (Signer::provider(), Signer::site().certificate());
    let set = |name: &str| {
        let set = json!({"keys": [provider.jwk(name)]}).to_string();
        KeySet::read(set.as_bytes()).unwrap().0
    };
    let site = |blocked: &[&str]| SiteTrust {
        tenant: TENANT,
        keys: vec![key.clone()],
        blocked: blocked.iter().map(|it| it.parse().unwrap()).collect(),
    };
    let (entra, client, bulk) = (Entra.good(), Client.good(), Bulk.good());
    assert!(at(&tokens, Entra, &entra, NOW).is_ok() && at(&tokens, Client, &client, NOW).is_ok());

    let fields = [format!("Bearer {client}").into_bytes()];
    let other = found(&tokens, &fields, (NOW, Use::Traffic), &[[8; 32]]);
    assert_eq!(outcome(other), Err(TokenFault::Unbound), "another client shows it");
    assert!(at(&tokens, Bulk, &bulk, NOW).is_ok());
    let fields = [format!("Bearer {bulk}").into_bytes()];
    let traffic = found(&tokens, &fields, (NOW, Use::Traffic), &[]);
    assert_eq!(outcome(traffic), Err(TokenFault::RegistrationOnly));

    let tenant = TrustedTenant::new(TENANT, set("key"));
    tokens.trust(vec![tenant.clone()], Some(site(&[SOMEBODY])));
    assert_eq!(at(&tokens, Client, &client, NOW), Err(TokenFault::Blocked));
    tokens.trust(vec![tenant.clone()], Some(site(&[])));
    assert!(at(&tokens, Client, &client, NOW).is_ok(), "unblocked");
    assert!(at(&tokens, Entra, &entra, NOW).is_ok());
    let disabled = TrustedTenant { is_enabled: false, ..tenant.clone() };
    tokens.trust(vec![disabled], Some(site(&[])));
    assert_eq!(at(&tokens, Entra, &entra, NOW), Err(TokenFault::TenantDisabled));
    tokens.trust(vec![tenant], Some(site(&[])));
    assert!(at(&tokens, Entra, &entra, NOW).is_ok(), "enabled again");
    tokens.trust(vec![TrustedTenant::new(TENANT, set("newer"))], Some(site(&[])));
    assert_eq!(at(&tokens, Entra, &entra, NOW), Err(TokenFault::UnknownKey), "the key is gone");
    let rolled = Entra.headed("kid", json!("newer"));
    assert!(at(&tokens, Entra, &rolled, NOW).is_ok(), "without restart");
    tokens.trust(vec![TrustedTenant::new(TENANT, KeySet::default())], Some(site(&[])));
    assert_eq!(at(&tokens, Entra, &rolled, NOW), Err(TokenFault::KeysNotFetched), "none yet");
    assert!(at(&tokens, Client, &client, NOW).is_ok());
    tokens.trust(vec![], None);
    assert_eq!(at(&tokens, Client, &client, NOW), Err(TokenFault::Issuer), "the site is gone");
}

#[test]
fn issuers_that_are_opted_for_are_accepted_and_no_others() {
    let set = json!({"keys": [Signer::provider().jwk("key")]}).to_string();
    let (keys, _) = KeySet::read(set.as_bytes()).unwrap();
    let all = [Issuer::V1, Issuer::V2, Issuer::Government];
    for opted in all {
        let mut tokens = Tokens::default();
        let tenant = TrustedTenant::new(TENANT, keys.clone());
        tokens.trust(vec![TrustedTenant { issuers: vec![opted], ..tenant }], None);
        for issuer in all {
            let token = Entra.claiming("iss", json!(issuer.text(TENANT)));
            let judged = at(&tokens, Entra, &token, NOW).map(|_| ());
            let wanted = if issuer == opted { Ok(()) } else { Err(TokenFault::Issuer) };
            assert_eq!(judged, wanted, "{issuer:?} where {opted:?} is accepted");
        }
    }
}

/// Everything that a request can show: a token of each kind, good or bad, or none; a certificate.
#[test]
fn of_three_methods_the_first_that_proves_something_wins() {
    let tokens = trusting();
    let bad = |kind: Kind| kind.claiming("exp", json!(0));
    let shown = [
        None,
        Some((Method::Entra, true, Entra.good())),
        Some((Method::Entra, false, bad(Entra))),
        Some((Method::SiteToken, true, Client.good())),
        Some((Method::SiteToken, false, bad(Client))),
    ];
    let certificate = [
        Finding::Absent,
        Finding::Unproven(CertificateFault::Malformed.into()),
        Finding::Proven(Principal {
            method: Method::Certificate,
            name: String::new(),
            client: None,
            until: NOW + 1,
        }),
    ];
    let [entra, pki, site] = Method::ALL;
    let orders = [
        vec![entra, pki, site],
        vec![site, pki, entra],
        vec![pki, entra, site],
        vec![pki],
        vec![entra],
        vec![site],
        vec![site, entra],
    ];
    for (token, certificate, order) in shown.iter().flat_map(|token| {
        let orders = &orders;
        certificate.iter().flat_map(move |it| orders.iter().map(move |order| (token, it, order)))
    }) {
        for strictness in [Strictness::FallThrough, Strictness::Refuse] {
            let fields: Vec<Vec<u8>> =
                token.iter().map(|(_, _, text)| format!("Bearer {text}").into_bytes()).collect();
            let presented = Presented::new(fields.iter().map(Vec::as_slice));
            let trail = trail(&tokens, &presented, certificate, (order, strictness));
            let good = |method: &Method| match (method, token) {
                (Method::Certificate, _) => matches!(certificate, Finding::Proven(_)),
                (_, Some((of, is_good, _))) => of == method && *is_good,
                (_, None) => false,
            };
            let bad = |method: &Method| match (method, token) {
                (Method::Certificate, _) => matches!(certificate, Finding::Unproven(_)),
                (_, Some((of, is_good, _))) => of == method && !is_good,
                (_, None) => false,
            };
            let ends = |it: &&Method| good(it) || strictness == Strictness::Refuse && bad(it);
            let winner = order.iter().find(ends).filter(|it| good(it));
            let context = format!("{token:?}, {certificate:?}, {order:?}, {strictness:?}");
            assert_eq!(trail.principal().map(|it| it.method), winner.copied(), "{context}");
            let refusal = Refusal::of(&trail, &presented);
            let told = match (winner, token, order.iter().any(bad)) {
                (Some(_), ..) => None,
                (None, Some(_), _) => Some(Refusal::InvalidToken),
                (None, None, true) => Some(Refusal::InvalidCertificate),
                (None, None, false) => Some(Refusal::NoCredential),
            };
            assert_eq!(refusal, told, "{context}");
        }
    }
}

fn trail(
    tokens: &Tokens,
    presented: &Presented<'_>,
    certificate: &Finding,
    (order, strictness): (&[Method], Strictness),
) -> Trail {
    let shown = Shown { now: NOW, purpose: Use::Traffic, possessed: &[CERTIFICATE] };
    search(&Methods::new(order).unwrap(), strictness, |method| match method {
        Method::Entra => tokens.of_tenant(presented, NOW),
        Method::Certificate => certificate.clone(),
        Method::SiteToken => tokens.of_site(presented, shown),
    })
}

/// The text of a file of vectors that is not part of the project; says so where it is not there.
fn vector(name: &str) -> Option<String> {
    let folder = std::env::var("RELAY_VECTORS").map_or_else(
        |_| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors"),
        PathBuf::from,
    );
    let text = std::fs::read_to_string(folder.join(name)).ok();
    let is_named = std::env::var_os("RELAY_VECTORS").is_some();
    assert!(text.is_some() || !is_named, "no {name}: RELAY_VECTORS names its folder");
    if text.is_none() {
        eprintln!("skipped: {name} is not there; RELAY_VECTORS names the folder");
    }
    text
}

/// The payloads of these vectors are no claims, so that only the verdict about the signature is
/// held against them.
#[test]
fn signatures_are_judged_as_wycheproof_says() {
    let Some(file) = vector("wycheproof/json_web_signature_test.json") else { return };
    let vectors: Value = serde_json::from_str(&file).unwrap();
    let (mut good, mut others) = (0, 0);
    for group in vectors["testGroups"].as_array().unwrap() {
        let public = &group["public"];
        if public["kty"] != "RSA" {
            continue;
        }
        let name = public["kid"].as_str().unwrap();
        let set = KeySet::read(json!({"keys": [public]}).to_string().as_bytes());
        for test in group["tests"].as_array().unwrap() {
            let token = test["jws"].as_str().unwrap();
            let is_ours = is_rs256(token);
            let verified = set.as_ref().is_ok_and(|(set, _)| {
                let key = set.get(name).unwrap();
                is_ours && has_signed(key, token)
            });
            let is_valid = test["result"] == "valid" && is_ours;
            assert_eq!(verified, is_valid, "{} of {}: {token}", test["tcId"], group["comment"]);
            let count = if verified { &mut good } else { &mut others };
            *count += 1;
        }
    }
    println!("{good} passed, {others} refused");
    assert!(good >= 5 && others >= 50, "{good} passed, {others} refused");
}

/// Whether the header, read by another library, says RS256.
fn is_rs256(jws: &str) -> bool {
    let header = jws.split('.').next().and_then(|it| URL_SAFE_NO_PAD.decode(it).ok());
    let header: Option<Value> = header.and_then(|it| serde_json::from_slice(&it).ok());
    header.is_some_and(|it| it["alg"] == "RS256")
}

fn has_signed(key: &RsaKey, jws: &str) -> bool {
    let Some((message, signature)) = jws.rsplit_once('.') else { return false };
    let signature = URL_SAFE_NO_PAD.decode(signature);
    signature.is_ok_and(|it| message.contains('.') && key.has_signed(message.as_bytes(), &it))
}

#[test]
fn the_published_token_that_was_damaged_on_purpose_is_refused() {
    let Some(text) = vector("published-bulk-token.txt") else { return };
    let judged = at(&trusting(), Bulk, text.trim(), 1_580_200_000);
    assert_eq!(judged, Err(TokenFault::Json(Part::Payload)));
}

#[test]
fn nothing_that_is_shown_or_said_about_a_token_holds_any_of_it() {
    let tokens = trusting();
    for kind in KINDS {
        let good = kind.good();
        let bad = kind.claiming("exp", json!(0));
        for token in [good, bad] {
            let fields = [format!("Bearer {token}").into_bytes()];
            let presented = Presented::new(fields.iter().map(Vec::as_slice));
            let shown = format!(
                "{presented:?} {:?} {tokens:?} {:?}",
                found(&tokens, &fields, (NOW, kind.purpose()), &[CERTIFICATE]),
                Jwt::read(&token),
            );
            for part in parts(&token) {
                assert!(!shown.contains(&part[..16]), "{kind:?}: {shown}");
            }
        }
    }
}

proptest! {
    #[test]
    fn no_octets_are_anybody(octets: Vec<u8>) {
        relay_core::auth::reference::jwt(&octets);
        relay_core::auth::reference::jwks(&octets);
    }

    #[test]
    fn no_segments_of_json_are_anybody(header in ".{0,40}", payload in ".{0,40}", signed: Vec<u8>) {
        let token = [header.as_bytes(), payload.as_bytes(), &signed].map(base64url).join(".");
        relay_core::auth::reference::jwt(token.as_bytes());
    }

    #[test]
    fn a_token_of_which_any_bit_is_flipped_never_passes(place: prop::sample::Index, bit in 0..8u8) {
        // One instance for all: it must not take the changed one for what it has verified.
        let tokens = remembering();
        for kind in KINDS {
            let mut octets = kind_token(kind).as_bytes().to_vec();
            let place = place.index(octets.len());
            octets[place] ^= 1 << bit;
            let fields = [[b"Bearer ", &octets[..]].concat()];
            let judged = outcome(found(tokens, &fields, (NOW, kind.purpose()), &[CERTIFICATE]));
            prop_assert!(judged.is_err(), "bit {bit} of octet {place}, {kind:?}");
        }
    }
}

/// One good token of each kind.
fn kind_token(kind: Kind) -> &'static str {
    static TOKENS: OnceLock<[String; 4]> = OnceLock::new();
    &TOKENS.get_or_init(|| KINDS.map(Kind::good))[kind as usize]
}

/// An instance that has verified each of them.
fn remembering() -> &'static Tokens {
    static INSTANCE: OnceLock<Tokens> = OnceLock::new();
    INSTANCE.get_or_init(|| {
        let tokens = trusting();
        for kind in KINDS {
            assert!(at(&tokens, kind, kind_token(kind), NOW).is_ok());
        }
        tokens
    })
}

#[test]
fn each_tenants_tokens_count_by_its_own_keys_and_no_others() {
    let both = [(TENANT, Signer::provider()), (DISABLED, Signer::stranger())];
    let trusted = |enabled: [bool; 2]| {
        let tenant = |((id, by), is_enabled): ((Guid, &Signer), bool)| {
            let set = json!({"keys": [by.jwk("key")]}).to_string();
            let (keys, _) = KeySet::read(set.as_bytes()).unwrap();
            TrustedTenant { is_enabled, ..TrustedTenant::new(id, keys) }
        };
        let mut tokens = Tokens::default();
        tokens.trust(both.into_iter().zip(enabled).map(tenant).collect(), None);
        tokens
    };
    let token = |id: Guid, by: &Signer| {
        let (mut header, mut claims) = (entra_header(), entra_claims());
        header["kid"] = json!("key");
        (claims["tid"], claims["iss"]) = (json!(id.to_string()), json!(Issuer::V1.text(id)));
        by.token(header.to_string(), claims.to_string())
    };
    for (place, (id, by)) in both.into_iter().enumerate() {
        let (other, its) = both[1 - place];
        let tokens = trusted([true; 2]);
        at(&tokens, Entra, &token(id, by), NOW).unwrap();
        assert_eq!(at(&tokens, Entra, &token(id, its), NOW), Err(TokenFault::Signature));
        let left = trusted([place == 0, place == 1]);
        at(&left, Entra, &token(id, by), NOW).unwrap();
        let refused = at(&left, Entra, &token(other, its), NOW);
        assert_eq!(refused, Err(TokenFault::TenantDisabled));
    }
}

/// Of two keys with the same thumbprints the first is tried: whoever is let in afterwards is
/// remembered.
#[test]
fn a_token_that_was_verified_is_not_verified_again() {
    let (site, stranger) = (Signer::site().certificate(), Signer::stranger().certificate());
    let first = SigningKey { key: stranger.key, ..site.clone() };
    let of = |keys| Some(SiteTrust { tenant: TENANT, keys, blocked: [].into() });
    let mut tokens = Tokens::default();
    tokens.trust(vec![], of(vec![site.clone()]));
    let (known, new) = (Ccm.good(), Ccm.claiming("nbf", json!(NOW - 11)));
    at(&tokens, Ccm, &known, NOW).unwrap();
    tokens.trust(vec![], of(vec![first, site]));
    at(&tokens, Ccm, &known, NOW).unwrap();
    assert_eq!(at(&tokens, Ccm, &new, NOW), Err(TokenFault::Signature));
}
