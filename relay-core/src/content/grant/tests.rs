use std::collections::HashSet;
use std::sync::OnceLock;

use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, RsaKeySize, SigningKey as _};

use super::*;

const NOW: u64 = 1_800_000_000;
const TENANT: Guid = Guid(0x0a1b_2c3d_4e5f_6071_8293_a4b5_c6d7_e8f9);
const CLIENT: Guid = Guid(7);

/// A key that grants are signed with, and how it is known.
struct Site {
    pair: KeyPair,
    key: SigningKey,
}

impl Site {
    fn new() -> Self {
        let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let certificate = CertificateParams::new(Vec::new()).unwrap().self_signed(&pair).unwrap();
        let key = SigningKey::of_certificate(certificate.der()).unwrap();
        Self { pair, key }
    }

    fn sign(&self, grant: Grant) -> Result<SignedGrant, GrantFault> {
        grant.sign(&self.key, |text| Ok(self.pair.sign(text).unwrap()))
    }
}

fn site() -> &'static Site {
    static SITE: OnceLock<Site> = OnceLock::new();
    SITE.get_or_init(Site::new)
}

fn trust() -> SiteTrust {
    SiteTrust { tenant: TENANT, keys: vec![site().key.clone()], blocked: HashSet::new() }
}

fn grant() -> Grant {
    Grant {
        package: "PS100012".parse().unwrap(),
        granted: Granted::Package,
        client: CLIENT,
        issuer: TENANT,
        begins: NOW,
        ends: NOW + 3600,
        bound_to: None,
    }
}

fn query(signed: &SignedGrant) -> String {
    let location = signed.location();
    location.strip_prefix(CONTENT_PATH).and_then(|it| it.strip_prefix('?')).unwrap().to_owned()
}

/// `query` with the value of `name` replaced.
fn with(query: &str, name: &str, value: &str) -> String {
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((it, _)) if it == name => format!("{name}={value}"),
        _ => pair.to_owned(),
    });
    pairs.collect::<Vec<_>>().join("&")
}

fn judge(query: &str) -> Result<(), GrantFault> {
    SignedGrant::read(query)?.verify(&trust(), NOW)
}

#[test]
fn a_grant_that_the_site_has_signed_is_read_as_it_was_written_and_counts() {
    let file = Granted::File("Größe & more/c++ 100%.cab".parse().unwrap());
    for grant in
        [grant(), Grant { granted: file, ..grant() }, Grant { bound_to: Some([9; 32]), ..grant() }]
    {
        let signed = site().sign(grant.clone()).unwrap();
        let query = query(&signed);
        let read = SignedGrant::read(&query).unwrap();
        assert_eq!(read, signed);
        assert_eq!(read.grant(), &grant);
        assert_eq!(read.verify(&trust(), NOW), Ok(()));
        assert!(query.starts_with("pid=PS100012&cid="), "{query}");
        assert!(!format!("{read:?}").contains("signature"), "{read:?}");
    }
}

#[test]
fn the_order_of_parameters_and_the_way_of_escaping_do_not_count() {
    let query = query(&site().sign(grant()).unwrap());
    let mut pairs: Vec<_> = query.split('&').collect();
    pairs.reverse();
    assert_eq!(judge(&pairs.join("&")), Ok(()));
    assert_eq!(judge(&query.replace("urn:", "urn%3A").replace("PS1", "ps%31")), Ok(()));
    assert_eq!(judge(&with(&query, "tid", &CLIENT.to_string().to_uppercase())), Ok(()));
}

#[test]
fn whatever_is_changed_of_a_signed_grant_it_counts_no_more() {
    let bound = Grant { bound_to: Some([9; 32]), ..grant() };
    let query = query(&site().sign(bound).unwrap());
    let other = URL_SAFE_NO_PAD.encode([8; 32]);
    let no_certificate: Vec<_> = query.split('&').filter(|it| !it.starts_with("cnf=")).collect();
    for changed in [
        with(&query, "pid", "PS100013"),
        with(&query, "cid", "a"),
        with(&query, "tid", &Guid(8).to_string()),
        with(&query, "st", &(NOW - 1).to_string()),
        with(&query, "et", &(NOW + 3601).to_string()),
        with(&query, "cnf", &other),
        with(&query, "sig", &URL_SAFE_NO_PAD.encode([1; 256])),
        with(&query, "sig", "AA"),
        no_certificate.join("&"),
    ] {
        assert_ne!(changed, query);
        assert_eq!(judge(&changed), Err(GrantFault::Signature), "{changed}");
    }
    let elsewhere = format!("urn:sccm:oauth2:{}", Guid(1));
    assert_eq!(judge(&with(&query, "iss", &elsewhere)), Err(GrantFault::Issuer));
    assert_eq!(judge(&with(&query, "kid", &other)), Err(GrantFault::UnknownSigner));
}

#[test]
fn what_another_key_has_signed_does_not_count() {
    let stranger = Site::new();
    let signed = stranger.sign(grant()).unwrap();
    assert_eq!(signed.verify(&trust(), NOW), Err(GrantFault::UnknownSigner));
    let posed = SignedGrant { signer: site().key.sha256, ..signed };
    assert_eq!(posed.verify(&trust(), NOW), Err(GrantFault::Signature));
}

#[test]
fn a_grant_counts_from_a_minute_before_its_begin_to_its_end_and_not_a_second_more() {
    let signed = site().sign(grant()).unwrap();
    let at = |now| signed.verify(&trust(), now);
    assert_eq!(at(NOW - GRANT_LEEWAY), Ok(()));
    assert_eq!(at(NOW - GRANT_LEEWAY - 1), Err(GrantFault::NotYet));
    assert_eq!(at(NOW + 3599), Ok(()));
    assert_eq!(at(NOW + 3600), Err(GrantFault::Over));
    assert_eq!(at(u64::MAX), Err(GrantFault::Over));
}

#[test]
fn a_grant_lives_for_24_hours_at_most() {
    let query = query(&site().sign(grant()).unwrap());
    for (life, found) in [
        (1, Ok(())),
        (GRANT_LIFETIME_MAX, Ok(())),
        (GRANT_LIFETIME_MAX + 1, Err(GrantFault::Lifetime)),
        (0, Err(GrantFault::Lifetime)),
    ] {
        let signed = site().sign(Grant { ends: NOW + life, ..grant() });
        assert_eq!(signed.map(|_| ()), found, "{life}");
        let read = SignedGrant::read(&with(&query, "et", &(NOW + life).to_string()));
        assert_eq!(read.map(|_| ()), found, "{life}");
    }
    let back = with(&query, "et", &(NOW - 1).to_string());
    assert_eq!(judge(&back), Err(GrantFault::Lifetime));
}

#[test]
fn a_client_that_is_blocked_has_no_grant() {
    let signed = site().sign(grant()).unwrap();
    let blocked = SiteTrust { blocked: [CLIENT].into(), ..trust() };
    assert_eq!(signed.verify(&blocked, NOW), Err(GrantFault::Blocked));
}

#[test]
fn every_parameter_is_there_once_in_its_form_and_no_other_beside() {
    let good = query(&site().sign(grant()).unwrap());
    for name in ["pid", "cid", "tid", "iss", "alg", "st", "et", "kid", "sig"] {
        let is_other = |pair: &&str| !pair.starts_with(&format!("{name}="));
        let without: Vec<_> = good.split('&').filter(is_other).collect();
        assert_eq!(judge(&without.join("&")), Err(GrantFault::Missing(name)));
        let value = good.split('&').find(|it| !is_other(it)).unwrap();
        assert_eq!(judge(&format!("{good}&{value}")), Err(GrantFault::Twice(name)));
        let upper = good.replace(&format!("{name}="), &format!("{}=", name.to_uppercase()));
        assert_eq!(judge(&upper), Err(GrantFault::Unknown));
    }
    for more in ["x=1", "x", "", "=", "pid"] {
        assert_eq!(judge(&format!("{good}&{more}")), Err(GrantFault::Unknown), "{more}");
    }
    for (name, value) in [
        ("pid", ""),
        ("pid", "../x"),
        ("cid", ""),
        ("cid", "../x"),
        ("cid", "a%00"),
        ("cid", "a\\b"),
        ("cid", "%2e%2e%2fx"),
        ("tid", "{0}"),
        ("iss", "urn:sccm:oauth2:"),
        ("iss", "https://sts.windows.net/"),
        ("st", ""),
        ("st", "-1"),
        ("st", "01"),
        ("st", "10000000000"),
        ("et", "1e9"),
        ("et", "2026-11-21T18:00:00Z"),
        ("kid", "AA"),
        ("sig", ""),
        ("sig", "AA=="),
        ("sig", "A"),
    ] {
        let fault = judge(&with(&good, name, value));
        assert_eq!(fault, Err(GrantFault::Form(name)), "{name}={value}");
    }
    for alg in ["none", "rs256", "HS256", "PS256", ""] {
        assert_eq!(judge(&with(&good, "alg", alg)), Err(GrantFault::Algorithm));
    }
    assert_eq!(judge(&format!("{good}&cnf=AA")), Err(GrantFault::Form("cnf")));
    let long = |octets| with(&good, "sig", &URL_SAFE_NO_PAD.encode(vec![1; octets]));
    assert_eq!(judge(&long(SIGNATURE_OCTETS_MAX)), Err(GrantFault::Signature));
    assert_eq!(judge(&long(SIGNATURE_OCTETS_MAX + 1)), Err(GrantFault::Form("sig")));
}

#[test]
fn a_query_has_4096_octets_at_most() {
    let sized = |octets: usize| format!("x={}", "a".repeat(octets - 2));
    assert_eq!(judge(&sized(GRANT_OCTETS_MAX)), Err(GrantFault::Unknown));
    assert_eq!(judge(&sized(GRANT_OCTETS_MAX + 1)), Err(GrantFault::TooLong));
    let name = "%+".repeat(126) + "/" + &"%+".repeat(127) + "/x";
    let granted = Granted::File(name.parse().unwrap());
    let bound_to = Some([9; 32]);
    let longest = Grant { granted, bound_to, ..grant() };
    let signed: Result<_, GrantFault> = longest.sign(&site().key, |_| Ok(vec![0xff; 1024]));
    assert!(query(&signed.unwrap()).len() <= GRANT_OCTETS_MAX);
}

#[test]
fn a_grant_for_a_package_has_locations_of_its_files_and_one_for_a_file_of_that_alone() {
    let (one, other): (FileName, FileName) = ("a/b".parse().unwrap(), "c".parse().unwrap());
    let signed = site().sign(grant()).unwrap();
    assert_eq!(signed.file(), None);
    let of_one = signed.for_file(&one).unwrap();
    assert!(of_one.location().ends_with("&file=a/b"));
    let read = SignedGrant::read(&query(&of_one)).unwrap();
    assert_eq!((read.file(), read.verify(&trust(), NOW)), (Some(&one), Ok(())));
    assert_eq!((read.grant().ends, read.for_file(&other).is_some()), (NOW + 3600, true));

    let signed = site().sign(Grant { granted: Granted::File(one.clone()), ..grant() }).unwrap();
    assert_eq!(signed.file(), Some(&one));
    assert_eq!(signed.for_file(&one), Some(signed.clone()));
    assert_eq!(signed.for_file(&other), None);
    let tried = format!("{}&file=c", query(&signed));
    assert_eq!(judge(&tried), Err(GrantFault::OtherFile));
    for name in ["../x", "", "/a", "a%00"] {
        let tried = format!("{}&file={name}", query(&site().sign(grant()).unwrap()));
        assert_eq!(judge(&tried), Err(GrantFault::Form("file")), "{name}");
    }
}
