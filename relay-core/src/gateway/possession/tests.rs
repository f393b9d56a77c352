use std::cell::RefCell;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, RsaKeySize, SigningKey as _};

use super::*;
use crate::auth::{Method, Principal, ReplayFault, SignatureFault};

const NOW: u64 = 1_795_284_000;
const TIME: &str = "2026-11-21T18:00:00Z";

/// A client that signs at [`NOW`].
struct Client {
    certificate: CertificateDer<'static>,
    head: HeaderMap,
}

impl Client {
    fn new() -> Self {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let params = CertificateParams::new(Vec::new()).unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        let mut head = HeaderMap::new();
        let text = format!("0A1B2C3D-4E5F-6071-8293-A4B5C6D7E8F9;{TIME};2");
        let wide: Vec<u8> = text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
        let digit = |it: u8| char::from_digit(it.into(), 16).unwrap();
        let signature = key.sign(&wide).unwrap();
        let signature = signature.iter().rev().flat_map(|it| [digit(it >> 4), digit(it & 15)]);
        head.insert("clienttoken", text.parse().unwrap());
        head.insert("clienttokensignature", signature.collect::<String>().parse().unwrap());
        let shown = STANDARD.encode(&certificate);
        head.insert("ccmclientcertificate", shown.parse().unwrap());
        Self { certificate, head }
    }

    fn shows(&self, purpose: Use) -> Shows<'_> {
        Shows::new(Presented::new([].into_iter()), purpose, &[], &self.head)
    }
}

fn somebody() -> Finding {
    Finding::Proven(Principal {
        method: Method::SiteToken,
        name: "a".to_owned(),
        client: None,
        until: 1,
    })
}

fn unproven(why: TokenFault) -> Finding {
    Finding::Unproven(why.into())
}

/// A token that is bound to a certificate.
fn bound_to(thumbprint: [u8; 32]) -> impl Fn(Shown<'_>) -> Finding {
    move |shown| {
        let has = shown.possessed.contains(&thumbprint);
        if has { somebody() } else { unproven(TokenFault::Unbound) }
    }
}

fn remembered(used: &Used) -> [usize; 2] {
    [&used.of_clients, &used.of_newcomers].map(|it| it.lock().unwrap().len())
}

#[test]
fn who_signs_with_the_key_that_a_token_is_bound_to_shows_the_token() {
    let (client, used) = (Client::new(), Used::default());
    let judge = bound_to(fingerprint(&client.certificate));
    let shows = client.shows(Use::Traffic);
    assert_eq!(shows.site_token(NOW, &used, &judge), somebody());
    assert_eq!(remembered(&used), [1, 0]);
    assert_eq!(shows.for_token_service(), None, "only the token service is told");

    let shows = client.shows(Use::Renewal);
    let found = shows.site_token(NOW, &used, &judge);
    assert_eq!(shows.confirm(found, NOW, &used), somebody());
    assert_eq!(remembered(&used), [1, 0], "one request uses its timestamp once");
    let told = shows.for_token_service().unwrap();
    assert_eq!(told.as_bytes(), &*client.certificate);
}

#[test]
fn nothing_is_computed_for_a_token_that_is_not_good_or_is_bound_to_another_certificate() {
    let (client, used) = (Client::new(), Used::default());
    let thumbprint = fingerprint(&client.certificate);
    let expired = |_: Shown<'_>| unproven(TokenFault::Expired);
    // Its signature is wrong, which is found out only once it need not be refused for less.
    let forged = |shown: Shown<'_>| {
        let has = shown.possessed.contains(&thumbprint);
        unproven(if has { TokenFault::Signature } else { TokenFault::Unbound })
    };
    for purpose in [Use::Registration, Use::Renewal, Use::Traffic] {
        let shows = client.shows(purpose);
        assert_eq!(shows.site_token(NOW, &used, expired), unproven(TokenFault::Expired));
        assert_eq!(shows.site_token(NOW, &used, forged), unproven(TokenFault::Signature));
        let other = shows.site_token(NOW, &used, bound_to([8; 32]));
        assert_eq!(other, unproven(TokenFault::Unbound));
        assert_eq!(shows.confirm(other, NOW, &used), unproven(TokenFault::Unbound));
        assert!(shows.signed.get().is_none());
    }
    assert_eq!(remembered(&used), [0, 0]);
}

#[test]
fn what_is_not_signed_well_is_unproven_with_the_reason_of_the_signature() {
    let (client, other, used) = (Client::new(), Client::new(), Used::default());
    let judge = bound_to(fingerprint(&client.certificate));
    let fault = |head: &HeaderMap, now| {
        let shows = Shows::new(Presented::new([].into_iter()), Use::Traffic, &[], head);
        let found = shows.site_token(now, &used, &judge);
        let Finding::Unproven(Unproven::Possession(fault)) = found else { panic!("{found:?}") };
        fault
    };
    let mut anothers = other.head.clone();
    anothers.insert("ccmclientcertificate", client.head["ccmclientcertificate"].clone());
    assert_eq!(fault(&anothers, NOW), SignatureFault::Mismatch.into());
    assert_eq!(fault(&client.head, NOW + 601), SignatureFault::Stale.into());
    let mut damaged = client.head.clone();
    damaged.insert("ccmclientcertificate", "!".parse().unwrap());
    assert_eq!(fault(&damaged, NOW), PossessionFault::Base64);
    assert_eq!(remembered(&used), [0, 0]);
}

#[test]
fn the_key_that_is_to_be_registered_is_confirmed_for_somebody_alone() {
    let (client, used) = (Client::new(), Used::default());
    let nobody = Finding::Unproven(TokenFault::Expired.into());
    let shows = client.shows(Use::Registration);
    assert_eq!(shows.confirm(nobody.clone(), NOW, &used), nobody);
    assert_eq!(shows.confirm(Finding::Absent, NOW, &used), Finding::Absent);
    assert_eq!(remembered(&used), [0, 0]);
    assert_eq!(shows.confirm(somebody(), NOW, &used), somebody());
    assert_eq!(shows.confirm(somebody(), NOW, &used), somebody());
    assert_eq!(remembered(&used), [0, 1], "once for each request");
    assert_eq!(shows.for_token_service().unwrap().as_bytes(), &*client.certificate);

    let traffic = client.shows(Use::Traffic);
    assert_eq!(traffic.confirm(somebody(), NOW + 1000, &used), somebody(), "it is not asked for");
}

#[test]
fn keys_that_newcomers_make_do_not_fill_the_memory_of_clients() {
    let (client, used) = (Client::new(), Used::new(1, 1));
    for (newcomer, fits) in [(Client::new(), true), (Client::new(), false)] {
        let found = newcomer.shows(Use::Registration).confirm(somebody(), NOW, &used);
        let full = PossessionFault::from(SignatureFault::from(ReplayFault::Full));
        assert_eq!(found, if fits { somebody() } else { Finding::Unproven(full.into()) });
    }
    for (client, fits) in [(&client, true), (&client, true), (&Client::new(), false)] {
        let judge = bound_to(fingerprint(&client.certificate));
        let found = client.shows(Use::Traffic).site_token(NOW, &used, judge);
        assert_eq!(found == somebody(), fits);
    }
}

#[test]
fn who_has_proven_its_key_in_tls_needs_no_place_among_newcomers_and_no_right_clock() {
    let (client, other) = (Client::new(), Client::new());
    // No newcomer has a place.
    let used = Used::new(8, 0);
    let judge = bound_to(fingerprint(&client.certificate));
    let chain = [client.certificate.clone()];
    let found = |chain, head, purpose, now| {
        let shows = Shows::new(Presented::new([].into_iter()), purpose, chain, head);
        let found = shows.site_token(now, &used, &judge);
        (shows.confirm(found, now, &used), shows.for_token_service())
    };
    for (purpose, now) in
        [(Use::Renewal, NOW), (Use::Renewal, NOW + 1000), (Use::Registration, NOW + 1000)]
    {
        let (found, told) = found(&chain, &client.head, purpose, now);
        assert_eq!(found, somebody(), "{purpose:?} at {now}");
        assert_eq!(told.unwrap().as_bytes(), &*client.certificate);
    }
    assert_eq!(remembered(&used), [0, 0]);
    // What another key has signed, or nobody, is judged as ever.
    let full = PossessionFault::from(SignatureFault::from(ReplayFault::Full));
    let (refused, _) = found(&chain, &other.head, Use::Renewal, NOW);
    assert_eq!(refused, Finding::Unproven(full.into()));
    let mut unsigned = HeaderMap::new();
    let field = "ccmclientcertificate";
    unsigned.insert(field, client.head[field].clone());
    let (refused, _) = found(&chain, &unsigned, Use::Renewal, NOW);
    assert_eq!(refused, Finding::Unproven(PossessionFault::Unsigned.into()));
}

#[test]
fn a_certificate_goes_with_the_token_that_says_so_and_with_a_newcomers() {
    let encode = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let leaf = [CertificateDer::from(vec![7; 10])];
    let (own, other) = (fingerprint(&leaf[0]), [8; 32]);
    let token = |issuer: &str, category: &str, bound: Option<[u8; 32]>| {
        let mut claims = serde_json::json!({"iss": issuer, "SCCMTokenCategory": category});
        if let Some(bound) = bound {
            claims["cnf"] = serde_json::json!({"x5t#S256": encode.encode(bound)});
        }
        let header = encode.encode(r#"{"typ":"JWT","alg":"RS256"}"#);
        format!("Bearer {header}.{}.AA", encode.encode(claims.to_string()))
    };
    let goes = |chain, purpose, token: &str| {
        let head = HeaderMap::new();
        let presented = Presented::new([token.as_bytes()].into_iter());
        Shows::new(presented, purpose, chain, &head).is_with_certificate_of_its_own()
    };
    let (site, client, bulk) = ("urn:sccm:oauth2:x", "SCCMClientToken", "SCCMPreAuthToken");
    let (registers, traffic) = (Use::Registration, Use::Traffic);
    for (purpose, text, expected) in [
        (traffic, token(site, client, Some(own)), true),
        (Use::Renewal, token(site, client, Some(own)), true),
        (traffic, token(site, client, Some(other)), false),
        (traffic, token(site, client, None), false),
        (traffic, token("https://sts.example/", client, Some(own)), false),
        (registers, token(site, bulk, None), true),
        (traffic, token(site, bulk, None), false),
        (Use::Renewal, token(site, bulk, None), false),
        (registers, token(site, client, None), false),
        (registers, token("https://sts.example/", bulk, None), false),
        (registers, "Bearer x.y.z".to_owned(), false),
        (registers, "Basic x".to_owned(), false),
    ] {
        assert_eq!(goes(&leaf, purpose, &text), expected, "{purpose:?} {text}");
        assert!(!goes(&[], purpose, &text), "there is none");
    }
}

#[test]
fn the_certificate_of_tls_is_told_where_nothing_is_signed_and_what_is_signed_goes_before_it() {
    let (client, used) = (Client::new(), Used::default());
    let leaf = [CertificateDer::from(vec![7; 4096])];
    let none = HeaderMap::new();
    let tells = |chain, head, purpose| {
        let shows = Shows::new(Presented::new([].into_iter()), purpose, chain, head);
        assert_eq!(shows.confirm(somebody(), NOW, &used), somebody());
        shows.for_token_service().map(|it| it.as_bytes().clone())
    };
    assert_eq!(tells(&leaf, &none, Use::Renewal).unwrap(), &*leaf[0]);
    assert_eq!(tells(&leaf, &client.head, Use::Renewal).unwrap(), &*client.certificate);
    assert_eq!(tells(&leaf, &none, Use::Traffic), None);
    assert_eq!(tells(&[], &none, Use::Registration), None);
    let large = [CertificateDer::from(vec![7; 4097])];
    assert_eq!(tells(&large, &none, Use::Renewal), None, "it would fit no head");
}

#[test]
fn which_certificates_a_token_is_asked_with_is_told_once_each() {
    let (client, used) = (Client::new(), Used::default());
    let leaf = [CertificateDer::from(vec![7; 10])];
    let shows = Shows::new(Presented::new([].into_iter()), Use::Traffic, &leaf, &client.head);
    let asked = RefCell::new(Vec::new());
    let judge = |shown: Shown<'_>| {
        asked.borrow_mut().push(shown.possessed.to_vec());
        unproven(TokenFault::Unbound)
    };
    shows.site_token(NOW, &used, judge);
    let (of_tls, signed) = (fingerprint(&leaf[0]), fingerprint(&client.certificate));
    assert_eq!(*asked.borrow(), [vec![of_tls], vec![of_tls, signed]]);
}
