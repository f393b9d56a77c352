//! Certificates that come for a request, and what becomes of each.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PublicKeyData as _, date_time_ymd,
};

use super::*;

/// An authority of a site.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    anchors: TrustAnchors,
}

/// What a certificate is to say.
#[derive(Clone)]
struct Wanted {
    common_name: &'static str,
    names: Vec<&'static str>,
    uses: Vec<ExtendedKeyUsagePurpose>,
    years: (i32, i32),
}

impl Wanted {
    /// As the one that is due, for longer.
    fn good() -> Self {
        Self {
            common_name: "gw.example",
            names: vec!["gw.example", "192.0.2.1"],
            uses: vec![ExtendedKeyUsagePurpose::ServerAuth],
            years: (2026, 2030),
        }
    }

    fn due() -> Self {
        Self { years: (2020, 2027), ..Self::good() }
    }
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = KeyPair::generate().unwrap();
        let anchors = TrustAnchors::new([params.self_signed(&key).unwrap().der().clone()]).unwrap();
        Self { issuer: Issuer::new(params, key), anchors }
    }

    fn sign(&self, wanted: &Wanted, key: &KeyPair) -> rcgen::Certificate {
        let names = wanted.names.iter().map(|name| (*name).to_owned());
        let mut params = CertificateParams::new(names.collect::<Vec<_>>()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, wanted.common_name);
        params.extended_key_usages.clone_from(&wanted.uses);
        params.not_before = date_time_ymd(wanted.years.0, 1, 1);
        params.not_after = date_time_ymd(wanted.years.1, 1, 1);
        params.signed_by(key, &self.issuer).unwrap()
    }
}

/// Keeps in memory what it is given.
#[derive(Debug)]
struct Memory {
    held: Mutex<HeldCertificate>,
    /// The key of the latest request, which a real one gives to nobody else.
    made: Mutex<Vec<u8>>,
    is_full: Mutex<bool>,
}

impl CertificateKeeper for Memory {
    fn held(&self) -> Result<HeldCertificate, BoxError> {
        Ok(lock(&self.held).clone())
    }

    fn request(&self, held: &Certificate) -> Result<CertificateRequest, BoxError> {
        assert_eq!(held.common_name.as_deref(), Some("gw.example"));
        let key = KeyPair::generate()?;
        *lock(&self.made) = key.serialize_der();
        let der = CertificateParams::default().serialize_request(&key)?;
        Ok(CertificateRequest {
            der: der.der().to_vec().into(),
            public_key: key.subject_public_key_info(),
            key: key.serialize_der().try_into()?,
        })
    }

    fn keep(&self, renewed: &Identity) -> Result<(), BoxError> {
        if *lock(&self.is_full) {
            return Err("the disk is full".into());
        }
        renewed.chain().clone_into(&mut lock(&self.held).chain);
        Ok(())
    }
}

/// An instance whose certificate is due, and the authority that has signed it.
struct House {
    authority: Authority,
    memory: Arc<Memory>,
    renewal: Renewal,
    at: Instant,
}

fn now() -> SystemTime {
    date_time_ymd(2026, 6, 1).into()
}

impl House {
    fn new() -> Self {
        Self::holding(&Wanted::due())
    }

    fn holding(held: &Wanted) -> Self {
        let authority = Authority::new();
        let certificate = authority.sign(held, &KeyPair::generate().unwrap());
        let chain = vec![certificate.der().clone()];
        let held = Mutex::new(HeldCertificate { chain, site: authority.anchors.clone() });
        let memory = Arc::new(Memory { held, made: Mutex::default(), is_full: Mutex::new(false) });
        let renewal = Renewal::new(Arc::clone(&memory) as Arc<dyn CertificateKeeper>);
        Self { authority, memory, renewal, at: Instant::now() }
    }

    fn ask(&self, link: u64, after: Duration) -> Option<Bytes> {
        self.renewal.request(link, now(), self.at + after).unwrap()
    }

    /// The key of the pending request.
    fn key(&self) -> KeyPair {
        KeyPair::try_from(lock(&self.memory.made).as_slice()).unwrap()
    }

    fn held(&self) -> Vec<CertificateDer<'static>> {
        lock(&self.memory.held).chain.clone()
    }

    /// Has a certificate that `authority` signs for `key` refused, and the right one taken after.
    fn refuses(&self, authority: &Authority, wanted: &Wanted, key: &KeyPair) -> RenewalRefused {
        let before = self.held();
        let refused = self.renewal.take(authority.sign(wanted, key).pem().as_bytes(), now());
        let refused = refused.unwrap_err();
        assert_eq!(self.held(), before);
        self.takes(&self.authority.sign(&Wanted::good(), &self.key()));
        refused
    }

    fn takes(&self, certificate: &rcgen::Certificate) {
        let renewed = self.renewal.take(certificate.pem().as_bytes(), now()).unwrap();
        assert_eq!(self.held(), [certificate.der().clone()]);
        assert_eq!(renewed.certificate, Certificate::from_der(certificate.der()).unwrap());
    }
}

/// An instance that has been asked already.
fn asked() -> House {
    let house = House::new();
    assert!(house.ask(1, Duration::ZERO).is_some());
    house
}

#[test]
fn a_certificate_for_the_pending_request_is_kept_once() {
    let house = asked();
    let certificate = house.authority.sign(&Wanted::good(), &house.key());
    house.takes(&certificate);
    let again = house.renewal.take(certificate.pem().as_bytes(), now()).unwrap_err();
    assert!(matches!(again, RenewalRefused::NotAsked), "{again}");
    assert_eq!(again.status(), 409);
    assert_eq!(house.ask(2, Duration::ZERO), None, "it is not due any more");
}

#[test]
fn nothing_is_requested_before_less_than_a_third_is_left() {
    let house = House::holding(&Wanted { years: (2024, 2031), ..Wanted::good() });
    assert_eq!(house.ask(1, Duration::ZERO), None);
    assert!(lock(&house.memory.made).is_empty(), "and no key is made");
}

#[test]
fn one_link_at_a_time_has_the_request_until_it_has_had_its_time() {
    let house = House::new();
    let request = house.ask(1, Duration::ZERO).unwrap();
    let is_lent = |link, after| {
        let asked = house.renewal.request(link, now(), house.at + after);
        matches!(asked, Err(RenewalRefused::Lent))
    };
    assert_eq!(house.ask(1, Duration::from_secs(1)), Some(request.clone()), "the same again");
    assert!(is_lent(2, Duration::from_millis(29_999)), "asking again prolongs nothing");
    assert_eq!(house.ask(2, LENT_FOR), Some(request.clone()));
    assert!(is_lent(1, LENT_FOR));
    // A link that ends leaves it to the next, unless it had it not.
    house.renewal.link_ended(1);
    assert!(is_lent(1, LENT_FOR));
    house.renewal.link_ended(2);
    assert_eq!(house.ask(1, LENT_FOR), Some(request));
}

#[test]
fn a_certificate_for_a_foreign_key_is_refused() {
    let house = asked();
    let foreign = KeyPair::generate().unwrap();
    let refused = house.refuses(&house.authority, &Wanted::good(), &foreign);
    assert!(matches!(refused, RenewalRefused::ForeignKey), "{refused}");
    assert_eq!(refused.status(), 409);
}

#[test]
fn a_certificate_with_other_names_or_uses_is_refused() {
    let good = Wanted::good();
    let more = Wanted { names: vec!["gw.example", "192.0.2.1", "b.example"], ..good.clone() };
    let less = Wanted { names: vec!["gw.example"], ..good.clone() };
    let moved = Wanted { names: vec!["gw.example", "192.0.2.2"], ..good.clone() };
    let other = Wanted { common_name: "b.example", ..good.clone() };
    for wanted in [more, less, moved, other] {
        let house = asked();
        let refused = house.refuses(&house.authority, &wanted, &house.key());
        assert!(matches!(refused, RenewalRefused::OtherNames { .. }), "{refused}");
        assert_eq!(refused.status(), 403);
    }
    let uses = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let house = asked();
    let refused = house.refuses(&house.authority, &Wanted { uses, ..good }, &house.key());
    assert!(matches!(refused, RenewalRefused::OtherUses), "{refused}");
}

#[test]
fn a_certificate_that_does_not_hold_now_or_no_longer_than_before_is_refused() {
    for (years, is_chain) in [((2020, 2026), true), ((2027, 2040), true), ((2020, 2027), false)] {
        let house = asked();
        let wanted = Wanted { years, ..Wanted::good() };
        let refused = house.refuses(&house.authority, &wanted, &house.key());
        match refused {
            RenewalRefused::Chain(ChainRefused::Untrusted(_)) => assert!(is_chain, "{years:?}"),
            RenewalRefused::NotLater => assert!(!is_chain, "{years:?}"),
            other => panic!("{years:?}: {other}"),
        }
    }
}

#[test]
fn a_certificate_of_a_foreign_authority_is_refused() {
    let house = asked();
    let refused = house.refuses(&Authority::new(), &Wanted::good(), &house.key());
    assert!(matches!(refused, RenewalRefused::Chain(ChainRefused::Untrusted(_))), "{refused}");
    assert_eq!(refused.status(), 403);
}

#[test]
fn a_certificate_that_was_taken_back_is_refused() {
    let house = asked();
    let certificate = house.authority.sign(&Wanted::good(), &house.key());
    let serial = Certificate::from_der(certificate.der()).unwrap().serial;
    let list = rcgen::CertificateRevocationListParams {
        this_update: date_time_ymd(2026, 1, 1),
        next_update: date_time_ymd(2027, 1, 1),
        crl_number: rcgen::SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![rcgen::RevokedCertParams {
            serial_number: rcgen::SerialNumber::from_slice(&serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&house.authority.issuer).unwrap().der().clone();
    let site = house.authority.anchors.clone().with_revoked([list]);
    lock(&house.memory.held).site = site;
    let refused = house.renewal.take(certificate.pem().as_bytes(), now()).unwrap_err();
    assert!(refused.to_string().contains("Revoked"), "{refused}");
    lock(&house.memory.held).site = house.authority.anchors.clone();
    house.takes(&certificate);
}

#[test]
fn what_is_no_certificate_and_what_nobody_asked_for_is_refused() {
    let house = House::new();
    let key = KeyPair::generate().unwrap();
    let good = house.authority.sign(&Wanted::good(), &key).pem();
    let refused = house.renewal.take(good.as_bytes(), now()).unwrap_err();
    assert!(matches!(refused, RenewalRefused::NotAsked), "{refused}");
    for octets in ["", "text", "-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n"] {
        let refused = house.renewal.take(octets.as_bytes(), now()).unwrap_err();
        assert!(matches!(refused, RenewalRefused::NoChain(_)), "{octets}: {refused}");
        assert_eq!(refused.status(), 400);
    }
}

#[test]
fn a_certificate_that_cannot_be_kept_may_come_again() {
    let house = asked();
    *lock(&house.memory.is_full) = true;
    let certificate = house.authority.sign(&Wanted::good(), &house.key());
    let refused = house.renewal.take(certificate.pem().as_bytes(), now()).unwrap_err();
    assert_eq!(refused.status(), 500);
    assert!(!refused.to_string().contains("disk"), "{refused}");
    assert_eq!(refused.cause().as_deref(), Some("the disk is full"));
    *lock(&house.memory.is_full) = false;
    house.takes(&certificate);
}

#[test]
fn a_request_shows_no_key() {
    let house = asked();
    let shown = format!("{:?}", lock(&house.renewal.pending));
    assert!(shown.contains("[redacted]") && !shown.contains("Pkcs8"), "{shown}");
}
