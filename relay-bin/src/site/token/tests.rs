use std::collections::HashSet;

use relay_core::auth::{
    Finding, Presented, Principal, Shown, SiteTrust, TokenFault, Tokens, Unproven, Use,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::site::Keys;
use crate::site::keys::tests::{START, put_first, rotate};

const TENANT: Guid = Guid(0x0a1b_2c3d_4e5f_6071_8293_a4b5_c6d7_e8f9);
const CLIENT: Guid = Guid(0xc11e);
const CERTIFICATE: [u8; 32] = [7; 32];

struct Site {
    _folder: TempDir,
    keys: Keys,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        put_first(folder.path());
        let keys = Keys::open(folder.path()).unwrap();
        Self { _folder: folder, keys }
    }

    fn sign(&self, holder: Holder, lifetime: u64) -> Result<Token, SignError> {
        self.sign_at(START, holder, lifetime)
    }

    fn sign_at(&self, now: u64, holder: Holder, lifetime: u64) -> Result<Token, SignError> {
        let wanted = Wanted { tenant: TENANT, holder, not_before: now, lifetime };
        Token::sign(&self.keys.signer(now).unwrap(), &wanted)
    }

    /// What a gateway finds, to which the site's keys were published at `now`.
    fn judge(&self, token: &str, shown: Shown<'_>, blocked: &[Guid]) -> Finding {
        let keys = self.keys.accepted(shown.now).map(|one| one.key.clone()).collect();
        let blocked: HashSet<Guid> = blocked.iter().copied().collect();
        let mut tokens = Tokens::default();
        tokens.trust(Vec::new(), Some(SiteTrust { tenant: TENANT, keys, blocked }));
        let field = format!("Bearer {token}");
        tokens.of_site(&Presented::new([field.as_bytes()].into_iter()), shown)
    }
}

fn shown(now: u64, purpose: Use) -> Shown<'static> {
    Shown { now, purpose, possessed: &[CERTIFICATE] }
}

fn fault(finding: Finding) -> TokenFault {
    match finding {
        Finding::Unproven(Unproven::Token(fault)) => fault,
        other => panic!("{other:?}"),
    }
}

fn json_of(segment: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(segment).unwrap()).unwrap()
}

#[test]
fn each_kind_counts_for_what_it_is_for_and_until_it_is_over() {
    let site = Site::new();
    for (holder, good, bad) in [
        (Holder::Anybody(Guid(1)), Some(Use::Registration), Some(TokenFault::RegistrationOnly)),
        (Holder::Client(CLIENT, CERTIFICATE), None, None),
        (Holder::OfEntra(CLIENT), Some(Use::Traffic), Some(TokenFault::TrafficOnly)),
    ] {
        let lifetime = holder.category().lifetime_max();
        let token = site.sign(holder, lifetime).unwrap();
        for purpose in [Use::Registration, Use::Traffic] {
            let finding = site.judge(token.expose(), shown(START, purpose), &[]);
            if good.is_none_or(|good| good == purpose) {
                let Finding::Proven(Principal { until, .. }) = finding else {
                    panic!("{holder:?}: {finding:?}")
                };
                assert_eq!(until, START + lifetime + 60);
            } else {
                assert_eq!(Some(fault(finding)), bad);
            }
        }
        let over = shown(START + lifetime + 60, good.unwrap_or(Use::Traffic));
        assert_eq!(fault(site.judge(token.expose(), over, &[])), TokenFault::Expired);
    }
}

#[test]
fn a_bulk_token_has_the_header_and_claims_of_the_original() {
    let site = Site::new();
    let token = site.sign(Holder::Anybody(Guid(0xabc)), 4320 * 60).unwrap();
    let segments: Vec<&str> = token.expose().split('.').collect();
    let key = &site.keys.current().unwrap().key;
    assert_eq!(
        json_of(segments[0]),
        json!({
            "typ": "JWT",
            "alg": "RS256",
            "x5t": URL_SAFE_NO_PAD.encode(key.sha1),
            "x5t#S256": URL_SAFE_NO_PAD.encode(key.sha256),
        })
    );
    assert_eq!(
        json_of(segments[1]),
        json!({
            "SCCMTokenCategory": "SCCMPreAuthToken",
            "Authority": "SCCM",
            "License": "SCCM",
            "Type": "BulkRegistration",
            "TenantId": "0A1B2C3D-4E5F-6071-8293-A4B5C6D7E8F9",
            "UniqueId": "00000000-0000-0000-0000-000000000abc",
            "iss": "urn:sccm:oauth2:0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9",
            "aud": "urn:sccm:service",
            "nbf": START,
            "exp": START + 259_200,
        })
    );
}

#[test]
fn a_clients_token_counts_with_its_certificate_alone_and_ends_with_a_block_of_the_client() {
    let site = Site::new();
    let token = site.sign(Holder::Client(CLIENT, CERTIFICATE), 90 * 86_400).unwrap();
    let token = token.expose();
    let traffic = shown(START, Use::Traffic);
    let others = Shown { possessed: &[[8; 32]], ..traffic };
    assert_eq!(fault(site.judge(token, others, &[])), TokenFault::Unbound);
    assert_eq!(fault(site.judge(token, traffic, &[CLIENT])), TokenFault::Blocked);
    assert!(matches!(site.judge(token, traffic, &[Guid(1)]), Finding::Proven(_)));
    let of_entra = site.sign(Holder::OfEntra(CLIENT), 3600).unwrap();
    let blocked = site.judge(of_entra.expose(), traffic, &[CLIENT]);
    assert_eq!(fault(blocked), TokenFault::Blocked);
}

#[test]
fn no_token_is_signed_for_no_time_or_for_longer_than_its_kind_may_have() {
    let site = Site::new();
    for (holder, max) in [
        (Holder::Anybody(Guid(1)), 10_080 * 60),
        (Holder::Client(CLIENT, CERTIFICATE), 90 * 86_400),
        (Holder::OfEntra(CLIENT), 8 * 3600),
    ] {
        for (lifetime, signed) in [(0, false), (1, true), (max, true), (max + 1, false)] {
            let token = site.sign(holder, lifetime);
            assert_eq!(token.is_ok(), signed, "{holder:?}, {lifetime}");
        }
    }
}

#[test]
fn what_was_signed_before_a_rotation_counts_to_its_end() {
    let mut site = Site::new();
    let lifetime = 90 * 86_400;
    let rotated = START + 400 * 86_400;
    let token = site.sign_at(rotated, Holder::Client(CLIENT, CERTIFICATE), lifetime).unwrap();
    rotate(&mut site.keys, rotated);
    let last = shown(rotated + lifetime + 59, Use::Traffic);
    assert!(matches!(site.judge(token.expose(), last, &[]), Finding::Proven(_)));
    let newer = site.sign_at(rotated, Holder::OfEntra(CLIENT), 3600).unwrap();
    let now = shown(rotated, Use::Traffic);
    assert!(matches!(site.judge(newer.expose(), now, &[]), Finding::Proven(_)));
    let before = Site::new();
    assert_eq!(fault(before.judge(newer.expose(), now, &[])), TokenFault::UnknownKey);
}

#[test]
fn a_token_is_in_no_debug_text_and_a_guid_is_a_random_one() {
    let token = Site::new().sign(Holder::Anybody(Guid(1)), 1).unwrap();
    assert_eq!(format!("{token:?}"), "Token([redacted])");
    let (one, another) = (new_guid().unwrap(), new_guid().unwrap());
    assert_ne!(one, another);
    let text = one.to_string();
    assert_eq!(text.as_bytes()[14], b'4', "{text}: version 4");
    assert!(matches!(text.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{text}: its variant");
}
