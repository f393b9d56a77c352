//! A client that renews its token when that is due: it has one that the site's key has signed some
//! days ago, by the test's account.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::SigningKey as _;

use super::*;

const DAY: u64 = 86_400;

/// What a key in a file ends with.
const END: &str = "-----END PRIVATE KEY-----\n";

/// The parts of a token.
fn parts(token: &str) -> [&str; 3] {
    let parts: Vec<_> = token.trim().split('.').collect();
    parts.try_into().unwrap()
}

/// What a token says.
fn claims(token: &str) -> Value {
    let octets = URL_SAFE_NO_PAD.decode(parts(token)[1]).unwrap();
    serde_json::from_slice(&octets).unwrap()
}

/// The token as it would be if it had been issued so many days before.
fn aged(place: &Relay, token: &str, days: u64) -> String {
    let signer = fs::read_to_string(place.path("site/connection-point/tokens/signing-1.pem"));
    let signer = signer.unwrap();
    let begin = signer.find("-----BEGIN PRIVATE KEY-----").unwrap();
    let end = signer.find(END).unwrap() + END.len();
    let key = KeyPair::from_pem(&signer[begin..end]).unwrap();
    let mut claims = claims(token);
    for name in ["nbf", "exp"] {
        claims[name] = json!(claims[name].as_u64().unwrap() - days * DAY);
    }
    let head_and_claims =
        format!("{}.{}", parts(token)[0], URL_SAFE_NO_PAD.encode(claims.to_string()));
    let signature = URL_SAFE_NO_PAD.encode(key.sign(head_and_claims.as_bytes()).unwrap());
    format!("{head_and_claims}.{signature}")
}

#[test]
fn a_token_is_renewed_between_its_thirtieth_day_and_its_last() {
    let mut place = relay("listen = \"127.0.0.1:0\"\n", "");
    place.bulk("bulk", 2);
    let (service, intranet) = (place.service(), place.intranet());
    let mine = ["--folder", "me"];
    let registered =
        place.succeed(&[&["register", &service], &mine[..], &["--token-file", "bulk"]].concat());
    let own = || fs::read_to_string(place.path("me/client.token")).unwrap();
    let (first, renew) = (own(), [&["renew", &service], &mine[..]].concat());
    let hold = |days| place.secret("me/client.token", &aged(&place, &first, days));

    hold(29);
    assert_eq!(place.refusal(&renew), "too_early");
    hold(91);
    // To the gateway it is over, and so it is to the token service.
    assert_eq!(place.use_it(&mine), "CMGService_Invalid_Token");
    let (status, report) = place.report(&renew);
    assert_eq!((status, &report["hop"]), (1, &"gateway".into()), "{report:#}");
    assert_eq!(report["reason"], "CMGService_Invalid_Token");
    assert_eq!(place.refusal(&["renew", &intranet, "--folder", "me"]), "expired");

    for (days, at) in [(30, &service), (89, &service), (31, &intranet)] {
        hold(days);
        let old = own();
        assert_eq!(place.use_it(&mine), "", "it is good for traffic meanwhile");
        let report = place.succeed(&["renew", at, "--folder", "me"]);
        let new = own();
        assert_ne!(new.trim(), old.trim(), "the folder holds the new one");
        assert_eq!(mode(&place.path("me/client.token")), 0o600);
        assert_eq!(text(&report, "client_id"), text(&registered, "client_id"));
        let said = |token: &str, name: &str| claims(token)[name].clone();
        for name in ["ClientId", "cnf"] {
            assert_eq!(said(&new, name), said(&old, name), "{name}");
        }
        let at = |token: &str, name: &str| claims(token)[name].as_u64().unwrap();
        assert!(at(&new, "nbf") >= at(&old, "nbf") + days * DAY, "it is of now");
        assert_eq!(at(&new, "exp") - at(&new, "nbf"), 90 * DAY);
        assert_eq!(place.use_it(&mine), "");
        assert_eq!(place.refusal(&renew), "too_early", "the new one is a month from its own");
    }
    let clients = place.token(&["clients"]);
    assert_eq!(clients["clients"].as_array().unwrap().len(), 1, "{clients:#}");
}
