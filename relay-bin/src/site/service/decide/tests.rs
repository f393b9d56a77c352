use std::fmt::Write as _;

use http::{HeaderName, HeaderValue};
use rcgen::{KeyPair, SigningKey as _};
use relay_core::auth::{Finding, KeySet, Presented, Tokens};
use serde_json::json;
use tempfile::TempDir;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::certificate::tests::{certificate, key};
use super::*;
use crate::site::BulkToken;
use crate::site::keys::tests::{START, put_first};
use crate::site::sqlite::SqliteStore;

const TENANT: Guid = Guid(0x0a1b_2c3d_4e5f_6071_8293_a4b5_c6d7_e8f9);
const HOUR: u64 = 3600;
const YEAR: u64 = 365 * DAY;

/// A site at a time that a test sets.
struct World {
    _folder: TempDir,
    store: SqliteStore,
    keys: Keys,
    replay: Replay,
    tenants: Vec<TrustedTenant>,
    now: u64,
}

/// A device: its key and the certificate it has made itself.
struct Device {
    key: &'static KeyPair,
    der: Vec<u8>,
}

impl Device {
    fn new(number: usize) -> Self {
        let key = key(number);
        Self { key, der: certificate(key, START - DAY, START + 3650 * DAY) }
    }

    fn body(&self) -> String {
        json!({ "certificate": STANDARD.encode(&self.der) }).to_string()
    }

    /// The fields by which it signs that it asks at `at`.
    fn signed(&self, at: u64) -> HeaderMap {
        let time = OffsetDateTime::from_unix_timestamp(at.cast_signed()).unwrap();
        let time = time.format(&Rfc3339).unwrap();
        let id = "GUID:0A1B2C3D-4E5F-6071-8293-A4B5C6D7E8F9".to_owned();
        let fields = [
            ("ccmclientidsignature", self.sign(&id)),
            ("ccmclientid", id),
            ("ccmclienttimestampssignature", self.sign(&time)),
            ("ccmclienttimestamp", time),
            ("ccmclientcertificate", STANDARD.encode(&self.der)),
        ];
        let field = |(name, value): (&'static str, String)| {
            (HeaderName::from_static(name), HeaderValue::try_from(value).unwrap())
        };
        fields.into_iter().map(field).collect()
    }

    fn sign(&self, text: &str) -> String {
        let wide: Vec<u8> = text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
        let octets = self.key.sign(&wide).unwrap();
        octets.iter().rev().fold(String::new(), |mut hex, octet| {
            write!(hex, "{octet:02x}").unwrap();
            hex
        })
    }
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        put_first(folder.path());
        let store = SqliteStore::create(&folder.path().join("site.db")).unwrap();
        let keys = Keys::open(folder.path()).unwrap();
        let replay = Replay::new(64);
        Self { _folder: folder, store, keys, replay, tenants: Vec::new(), now: START }
    }

    /// A bulk token, issued now.
    fn bulk(&mut self) -> (Guid, String) {
        let id = new_guid().unwrap();
        let token = self.token(Holder::Anybody(id), 3 * DAY);
        let (issued, not_before, expires) = (self.now, self.now, self.now + 3 * DAY);
        let known = BulkToken { id, issued, not_before, expires, blocked_since: None };
        self.store.add_bulk_token(&known).unwrap();
        (id, token)
    }

    fn token(&self, holder: Holder, lifetime: u64) -> String {
        let wanted = Wanted { tenant: TENANT, holder, not_before: self.now, lifetime };
        let token = Token::sign(&self.keys.signer(self.now).unwrap(), &wanted).unwrap();
        token.expose().to_owned()
    }

    fn ask(&mut self, door: Door, way: Way, head: HeaderMap, body: &str) -> Result<Issued, Fault> {
        let body = body.as_bytes().to_vec();
        let asked = Asked { door, way, address: None, head, body };
        let (store, keys, tenants) = (&mut self.store, &self.keys, &self.tenants[..]);
        let (replay, now) = (&mut self.replay, self.now);
        Site { tenant: TENANT, store, keys, tenants, replay, now }.serve(&asked)
    }

    fn register(&mut self, device: &Device) -> Result<Issued, Fault> {
        let way = Way::Intranet(Some(device.der.clone()));
        self.ask(Door::Register, way, HeaderMap::new(), &device.body())
    }

    fn register_by(&mut self, device: &Device, token: &str) -> Result<Issued, Fault> {
        self.ask(
            Door::Register,
            Way::Gateway(Some(device.der.clone())),
            bearer_of(token),
            &device.body(),
        )
    }

    fn renew(&mut self, device: &Device, token: &str) -> Result<Issued, Fault> {
        self.ask(Door::Renew, Way::Gateway(Some(device.der.clone())), bearer_of(token), "{}")
    }

    fn exchange(&mut self, token: &str) -> Result<Issued, Fault> {
        self.ask(Door::Exchange, Way::Gateway(None), bearer_of(token), "{}")
    }

    /// Whether an instance takes a token for a request at this time.
    fn counts(&self, device: &Device, token: &str) -> bool {
        let keys = self.keys.accepted(self.now).map(|one| one.key.clone()).collect();
        let blocked = self.store.blocked(self.now).unwrap().into_iter().collect();
        let mut tokens = Tokens::default();
        tokens.trust(Vec::new(), Some(SiteTrust { tenant: TENANT, keys, blocked }));
        let possessed = [thumbprint(&device.der)];
        let shown = Shown { now: self.now, purpose: Use::Traffic, possessed: &possessed };
        let field = format!("Bearer {token}");
        let found = tokens.of_site(&Presented::new([field.as_bytes()].into_iter()), shown);
        matches!(found, Finding::Proven(_))
    }

    fn clients(&self) -> usize {
        self.store.clients().unwrap().len()
    }
}

fn bearer_of(token: &str) -> HeaderMap {
    let value = HeaderValue::try_from(format!("Bearer {token}")).unwrap();
    [(AUTHORIZATION, value)].into_iter().collect()
}

fn code(given: Result<Issued, Fault>) -> &'static str {
    match given {
        Err(Fault::Refused(refusal)) => refusal.code(),
        other => panic!("{other:?}"),
    }
}

fn id(issued: &Issued) -> Guid {
    issued.client_id.parse().unwrap()
}

#[test]
fn a_client_lives_for_a_hundred_and_twenty_days_and_longer_by_renewing_each_month() {
    let (mut world, device) = (World::new(), Device::new(0));
    let (_, bulk) = world.bulk();
    let first = world.register_by(&device, &bulk).unwrap();
    assert_eq!((first.expires, first.renew_after), (START + 90 * DAY, 30 * DAY));
    let mut token = first.token.0.clone();
    for day in [30, 60, 90, 120] {
        world.now = START + day * DAY - EARLY_MAX - 1;
        assert_eq!(code(world.renew(&device, &token)), "too_early", "day {day}");
        world.now = START + day * DAY;
        let renewed = world.renew(&device, &token).unwrap();
        assert_eq!((id(&renewed), renewed.expires), (id(&first), world.now + 90 * DAY));
        assert!(world.counts(&device, &token), "the one before is good to its own end");
        assert_ne!(renewed.token.0, token);
        token = renewed.token.0;
        assert!(world.counts(&device, &token));
        let kept = world.store.client(id(&first)).unwrap().unwrap();
        assert_eq!((kept.registered, kept.renewed), (START, world.now));
        assert_eq!(kept.token_expires, world.now + 90 * DAY);
    }
    assert!(!world.counts(&device, &first.token.0), "120 days on, the first is over");
}

#[test]
fn a_renewal_that_was_missed_for_90_days_is_refused_and_the_client_registers_again() {
    let (mut world, device) = (World::new(), Device::new(0));
    let first = world.register(&device).unwrap();
    // The leeway of a minute is the instances', too.
    world.now = START + 90 * DAY + 59;
    assert!(world.counts(&device, &first.token.0));
    world.renew(&device, &first.token.0).unwrap();
    world.now += 1;
    assert!(!world.counts(&device, &first.token.0));
    assert_eq!(code(world.renew(&device, &first.token.0)), "expired");
    let again = world.register(&device).unwrap();
    assert_eq!(id(&again), id(&first), "the same certificate is the same client");
    assert_eq!(world.clients(), 1);
    assert!(world.counts(&device, &again.token.0));
}

#[test]
fn an_answer_that_was_lost_is_asked_for_again() {
    let (mut world, device) = (World::new(), Device::new(0));
    let (_, bulk) = world.bulk();
    let lost = world.register_by(&device, &bulk).unwrap();
    let first = world.register_by(&device, &bulk).unwrap();
    assert_eq!(id(&lost), id(&first));
    world.now += 30 * DAY;
    world.renew(&device, &first.token.0).unwrap();
    world.renew(&device, &first.token.0).unwrap();
}

#[test]
fn what_the_clock_does_extends_no_token_and_locks_nobody_out_without_a_word() {
    for step in [HOUR, YEAR] {
        let (mut world, device) = (World::new(), Device::new(0));
        world.now = START + YEAR + DAY;
        let right = world.now;
        let token = world.register(&device).unwrap().token.0;
        let due = right + 30 * DAY;

        // Set back: what was issued by the right clock is not valid yet, and that is said.
        world.now = right - step;
        assert!(!world.counts(&device, &token));
        assert_eq!(code(world.renew(&device, &token)), "not_yet");
        // What is registered meanwhile has no day more than 90 by the clock of the moment.
        let meanwhile = world.register(&device).unwrap();
        assert_eq!(meanwhile.expires, right - step + 90 * DAY);
        world.now = meanwhile.expires + 60;
        assert!(!world.counts(&device, &meanwhile.token.0));

        // Set ahead: by a year all is over, and that is said, too; nothing is lost by it.
        world.now = due + step;
        let ahead = world.renew(&device, &token);
        if step == YEAR {
            assert_eq!(code(ahead), "expired");
        } else {
            assert_eq!(ahead.unwrap().expires, due + step + 90 * DAY);
        }
        // Somebody else registers by a clock by which all have been over for long, and nobody
        // becomes unknown by it.
        world.now = right + 200 * DAY;
        world.register(&Device::new(1)).unwrap();
        assert_eq!(world.clients(), 2);
        // And right again: as if nothing had been.
        world.now = due;
        assert!(world.counts(&device, &token));
        assert_eq!(world.renew(&device, &token).unwrap().expires, due + 90 * DAY);
        world.now = right + 90 * DAY + 60;
        assert!(!world.counts(&device, &token), "its end has not moved");
        assert_eq!(code(world.renew(&device, &token)), "expired");
    }
}

#[test]
fn registration_takes_a_bulk_token_over_a_gateway_and_none_on_the_sites_own_network() {
    let (mut world, device) = (World::new(), Device::new(0));
    let (bulk_id, bulk) = world.bulk();
    let gateway = || Way::Gateway(Some(Device::new(0).der));
    let body = device.body();
    assert_eq!(code(world.ask(Door::Register, gateway(), HeaderMap::new(), &body)), "no_token");
    let client = world.token(Holder::Client(Guid(1), thumbprint(&device.der)), 90 * DAY);
    let ccm = world.token(Holder::OfEntra(Guid(1)), HOUR);
    let strange = format!("{}x", &bulk[..bulk.len() - 1]);
    for (token, refused) in [
        (client.as_str(), "other_certificate"),
        (&ccm, "wrong_token"),
        ("e30.e30.e30", "invalid_token"),
        (&strange, "invalid_token"),
    ] {
        assert_eq!(code(world.register_by(&device, token)), refused, "{refused}");
        // What is shown on the site's own network is judged as well.
        let way = Way::Intranet(Some(device.der.clone()));
        let given = world.ask(Door::Register, way, bearer_of(token), &body);
        assert_eq!(code(given), refused);
    }
    let mut twice = bearer_of(&bulk);
    twice.append(AUTHORIZATION, twice[AUTHORIZATION].clone());
    assert_eq!(code(world.ask(Door::Register, gateway(), twice, &body)), "invalid_token");
    assert_eq!(world.clients(), 0, "nothing is written of what is refused");

    let issued = world.register_by(&device, &bulk).unwrap();
    let kept = world.store.client(id(&issued)).unwrap().unwrap();
    assert_eq!(kept.registration, Registration::BulkToken(bulk_id));
    assert_eq!(kept.certificate, thumbprint(&device.der));
    world.now += 3 * DAY + 60;
    assert_eq!(code(world.register_by(&device, &bulk)), "expired");
    world.register(&device).unwrap();
    let kept = world.store.client(id(&issued)).unwrap().unwrap();
    assert_eq!(kept.registration, Registration::Intranet);
}

#[test]
fn what_is_blocked_or_not_known_is_given_nothing() {
    let (mut world, device) = (World::new(), Device::new(0));
    let (bulk_id, bulk) = world.bulk();
    let issued = world.register_by(&device, &bulk).unwrap();
    world.store.block(bulk_id, START).unwrap();
    assert_eq!(code(world.register_by(&Device::new(1), &bulk)), "blocked");
    assert_eq!(world.clients(), 1);

    world.now += 30 * DAY;
    world.store.block(id(&issued), world.now).unwrap();
    assert_eq!(code(world.renew(&device, &issued.token.0)), "blocked");
    assert_eq!(code(world.register(&device)), "blocked");
    world.store.unblock(id(&issued), world.now).unwrap();
    world.renew(&device, &issued.token.0).unwrap();

    // The store is another one: tokens that it has not seen are worth nothing to it.
    let other = World::new();
    world.store = other.store;
    assert_eq!(code(world.renew(&device, &issued.token.0)), "unknown_client");
    world.now = START;
    assert_eq!(code(world.register_by(&device, &bulk)), "unknown_token");
    assert_eq!(world.clients(), 0);
}

#[test]
fn the_key_of_the_certificate_is_proven_or_nothing_is_given() {
    let (mut world, device, other) = (World::new(), Device::new(0), Device::new(1));
    let body = device.body();
    for way in [Way::Intranet, Way::Gateway] {
        let (_, bulk) = world.bulk();
        let register = |world: &mut World, shown, head: HeaderMap| {
            let head = head.into_iter().chain(bearer_of(&bulk));
            let head = head.filter_map(|(name, value)| Some((name?, value))).collect();
            world.ask(Door::Register, way(shown), head, &body)
        };
        let none = HeaderMap::new;
        assert_eq!(code(register(&mut world, None, none())), "no_possession");
        assert_eq!(
            code(register(&mut world, Some(other.der.clone()), none())),
            "other_certificate"
        );
        let now = world.now;
        assert_eq!(code(register(&mut world, None, other.signed(now))), "other_certificate");
        let stale = device.signed(now - 601);
        assert_eq!(code(register(&mut world, None, stale)), "no_possession");
        let mut forged = other.signed(now);
        forged.insert("ccmclientcertificate", device.signed(now)["ccmclientcertificate"].clone());
        assert_eq!(code(register(&mut world, None, forged)), "no_possession");
        let signed = device.signed(now);
        register(&mut world, None, signed.clone()).unwrap();
        world.now += 6;
        assert_eq!(code(register(&mut world, None, signed)), "no_possession", "it was used");
    }
    // A head that says so of itself proves nothing.
    let told = HeaderValue::try_from(format!(":{}:", STANDARD.encode(&device.der))).unwrap();
    let head = [(HeaderName::from_static("client-cert"), told)].into_iter().collect();
    let given = world.ask(Door::Register, Way::Intranet(None), head, &body);
    assert_eq!(code(given), "no_possession");
}

#[test]
fn a_renewal_needs_the_clients_own_token_and_its_own_key() {
    let (mut world, device, other) = (World::new(), Device::new(0), Device::new(1));
    let issued = world.register(&device).unwrap();
    let (_, bulk) = world.bulk();
    world.now += 30 * DAY;
    assert_eq!(code(world.renew(&other, &issued.token.0)), "other_certificate");
    let none = Way::Gateway(None);
    let given = world.ask(Door::Renew, none, bearer_of(&issued.token.0), "{}");
    assert_eq!(code(given), "no_possession");
    let given =
        world.ask(Door::Renew, Way::Gateway(Some(device.der.clone())), HeaderMap::new(), "{}");
    assert_eq!(code(given), "no_token");
    world.now = START + DAY;
    assert_eq!(code(world.renew(&device, &bulk)), "wrong_token");
    let ccm = world.token(Holder::OfEntra(id(&issued)), HOUR);
    assert_eq!(code(world.renew(&device, &ccm)), "wrong_token");
    // Signed by the site, and bound to another's key than the one the client has registered.
    let token = world.token(Holder::Client(id(&issued), thumbprint(&other.der)), 90 * DAY);
    assert_eq!(code(world.renew(&other, &token)), "other_certificate");
    world.now += 30 * DAY;
    let signed = device.signed(world.now).into_iter().chain(bearer_of(&issued.token.0));
    let head = signed.filter_map(|(name, value)| Some((name?, value))).collect();
    world.ask(Door::Renew, Way::Intranet(None), head, "{}").unwrap();
}

#[test]
fn a_token_ends_with_its_certificate_if_that_is_earlier() {
    let mut world = World::new();
    let der = certificate(key(0), START, START + 40 * DAY);
    let device = Device { key: key(0), der };
    let issued = world.register(&device).unwrap();
    assert_eq!((issued.expires, issued.renew_after), (START + 40 * DAY, 30 * DAY));
    world.now = START + 39 * DAY;
    let renewed = world.renew(&device, &issued.token.0).unwrap();
    assert_eq!((renewed.expires, renewed.renew_after), (START + 40 * DAY, HOUR));
    world.now += 1;
    assert_eq!(code(world.renew(&device, &issued.token.0)), "certificate");
}

#[test]
fn a_token_that_its_certificate_makes_short_is_renewed_a_day_before_its_end() {
    let mut world = World::new();
    let der = certificate(key(0), START, START + 20 * DAY);
    let device = Device { key: key(0), der };
    let issued = world.register(&device).unwrap();
    assert_eq!((issued.expires, issued.renew_after), (START + 20 * DAY, 19 * DAY));
    world.now = START + 19 * DAY - 61;
    assert_eq!(code(world.renew(&device, &issued.token.0)), "too_early");
    world.now += 1;
    world.renew(&device, &issued.token.0).unwrap();
}

#[test]
fn bodies_that_mean_nothing_are_refused() {
    let (mut world, device) = (World::new(), Device::new(0));
    let token = world.token(Holder::Client(Guid(1), thumbprint(&device.der)), 90 * DAY);
    for body in [
        "",
        "{}",
        "[]",
        "[\"\"]",
        "{\"certificate\":7}",
        "{\"certificate\":\"%\"}",
        "{\"certificate\":\"\",\"more\":\"\"}",
    ] {
        let way = Way::Intranet(Some(device.der.clone()));
        let given = world.ask(Door::Register, way, HeaderMap::new(), body);
        assert_eq!(code(given), "malformed", "{body}");
    }
    for body in ["", "[]", "{\"certificate\":\"\"}", "{}{}"] {
        for door in [Door::Renew, Door::Exchange] {
            let given = world.ask(door, Way::Gateway(None), bearer_of(&token), body);
            assert_eq!(code(given), "malformed", "{body}");
        }
    }
    let way = Way::Intranet(Some(b"x".to_vec()));
    let body = json!({ "certificate": STANDARD.encode(b"x") }).to_string();
    assert_eq!(code(world.ask(Door::Register, way, HeaderMap::new(), &body)), "certificate");
}

/// A token of a tenant, signed by `key`, with `changed` in place of what it claims.
fn entra(now: u64, key: &KeyPair, changed: &serde_json::Value) -> String {
    let mut claims = json!({
        "tid": TENANT.to_string(), "iss": format!("https://sts.windows.net/{TENANT}/"),
        "aud": "https://ConfigMgrService", "oid": "5d2f7a90-0c4e-4b7e-9a53-2f1c66a0b1d4",
        "deviceid": "6d2f7a90-0c4e-4b7e-9a53-2f1c66a0b1d4",
        "nbf": now, "iat": now, "exp": now + HOUR,
    });
    for (name, value) in changed.as_object().unwrap() {
        claims[name] = value.clone();
    }
    let header = json!({"typ": "JWT", "alg": "RS256", "kid": "key"});
    let text = [header, claims].map(|it| URL_SAFE_NO_PAD.encode(it.to_string())).join(".");
    let signature = URL_SAFE_NO_PAD.encode(key.sign(text.as_bytes()).unwrap());
    format!("{text}.{signature}")
}

/// The key set of a provider that signs with `key`.
pub(in super::super) fn key_set(key: &KeyPair) -> serde_json::Value {
    let spki = rcgen::PublicKeyData::subject_public_key_info(key);
    let (_, spki) = x509_parser::prelude::FromDer::from_der(&spki).unwrap();
    let spki: x509_parser::x509::SubjectPublicKeyInfo<'_> = spki;
    let x509_parser::public_key::PublicKey::RSA(rsa) = spki.parsed().unwrap() else { panic!() };
    let number = |octets: &[u8]| {
        let bare: Vec<u8> = octets.iter().copied().skip_while(|it| *it == 0).collect();
        URL_SAFE_NO_PAD.encode(bare)
    };
    json!({"keys": [{
        "kty": "RSA", "use": "sig", "kid": "key", "n": number(rsa.modulus),
        "e": number(rsa.exponent),
    }]})
}

/// Has tokens of the tenant count that `key` signs.
fn onboard(world: &mut World, key: &KeyPair) {
    let (set, _) = KeySet::read(key_set(key).to_string().as_bytes()).unwrap();
    world.tenants = vec![TrustedTenant::new(TENANT, set)];
}

#[test]
fn a_token_of_entra_is_exchanged_for_one_of_eight_hours_for_the_same_client_each_time() {
    let (mut world, device) = (World::new(), Device::new(0));
    onboard(&mut world, key(1));
    let none = json!({});
    let first = world.exchange(&entra(START, key(1), &none)).unwrap();
    assert_eq!((first.expires, first.renew_after), (START + 8 * HOUR, 7 * HOUR));
    assert!(world.counts(&device, &first.token.0), "it is bound to no certificate");
    world.now += HOUR / 2;
    let again = world.exchange(&entra(START, key(1), &none)).unwrap();
    assert_eq!(again.client_id, first.client_id);
    assert_eq!(again.client_id.as_bytes()[14], b'8');
    let other = json!({"deviceid": "7d2f7a90-0c4e-4b7e-9a53-2f1c66a0b1d4"});
    let other = world.exchange(&entra(START, key(1), &other)).unwrap();
    assert_ne!(other.client_id, first.client_id);
    assert_eq!(world.clients(), 0);
    world.now = START + 8 * HOUR + 60;
    assert!(!world.counts(&device, &first.token.0));
    assert_eq!(code(world.exchange(&entra(START, key(1), &none))), "invalid_token");
}

#[test]
fn what_is_no_good_token_of_an_onboarded_tenant_is_not_exchanged() {
    let mut world = World::new();
    let none = json!({});
    let good = entra(START, key(1), &none);
    assert_eq!(code(world.exchange(&good)), "invalid_token", "no tenant is onboarded");
    onboard(&mut world, key(1));
    assert_eq!(code(world.exchange(&entra(START, key(0), &none))), "invalid_token");
    let elsewhere = json!({"aud": "https://graph.example"});
    assert_eq!(code(world.exchange(&entra(START, key(1), &elsewhere))), "invalid_token");
    assert_eq!(code(world.exchange(&entra(START + HOUR, key(1), &none))), "not_yet");
    let (_, bulk) = world.bulk();
    assert_eq!(code(world.exchange(&bulk)), "wrong_token");
    let ask = world.ask(Door::Exchange, Way::Gateway(None), HeaderMap::new(), "{}");
    assert_eq!(code(ask), "no_token");
    world.tenants[0].is_enabled = false;
    assert_eq!(code(world.exchange(&good)), "invalid_token");
    world.tenants[0].is_enabled = true;
    world.exchange(&good).unwrap();
    world.tenants[0].keys = KeySet::default();
    assert_eq!(code(world.exchange(&good)), "unknown_key");
    assert_eq!(tenant_of(&bearer_of(&good)), Some(TENANT), "whose keys are then asked for");
}

#[test]
fn what_is_issued_shows_its_token_to_nobody_but_its_client() {
    let mut world = World::new();
    let issued = world.register(&Device::new(0)).unwrap();
    let shown = format!("{issued:?}");
    assert!(shown.contains("[redacted]") && !shown.contains(&issued.token.0), "{shown}");
    assert_eq!(json!(issued)["token"], json!(issued.token.0));
}

#[test]
fn a_client_of_entra_that_is_blocked_is_given_nothing_and_what_it_had_counts_no_more() {
    let (mut world, device) = (World::new(), Device::new(0));
    onboard(&mut world, key(1));
    let none = json!({});
    let issued = world.exchange(&entra(START, key(1), &none)).unwrap();
    assert!(world.counts(&device, &issued.token.0));
    world.store.block(id(&issued), START).unwrap();
    assert!(!world.counts(&device, &issued.token.0), "as soon as it is published");
    assert_eq!(code(world.exchange(&entra(START, key(1), &none))), "blocked");
    world.store.unblock(id(&issued), START).unwrap();
    assert!(world.counts(&device, &issued.token.0));
    world.exchange(&entra(START, key(1), &none)).unwrap();
}
