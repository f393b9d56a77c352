//! Each kind of credential that `relay client` can show, by each of its commands, at a site that
//! counts clients by every method; and what the gateway's access log says of whoever shows it.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::super::transfer::{Uploads, Wrong};
use super::*;
use crate::material;
use crate::support::tenant::DEVICE;

/// The table of a site that counts certificates of its own authority.
const CLIENTS: &str = "\n[clients]\nroots = \"site-ca.pem\"\nrevocation = \"off\"\n";

/// How a client shows each kind.
const FOLDER: &[&str] = &["--folder", "me"];
const CCM: &[&str] = &["--token-file", "ccm.token"];
const ENTRA: &[&str] = &["--token-file", "entra.token"];
const CERTIFICATE: &[&str] = &["--certificate", "device/link.pem", "--key", "device/link-key.pem"];
const OWN_CERTIFICATE: &[&str] = &["--certificate", "me/client.pem", "--key", "me/client-key.pem"];

/// A relay before an upload server that also gives a file, with what a client needs of each kind;
/// and the folder with the keys of the tenant.
fn place() -> (Relay, Arc<Mutex<Uploads>>, TempDir) {
    let keys = tempfile::tempdir().unwrap();
    let (tenant, stranger) = (Tenant::new(), Tenant::new());
    let tables = format!("{CLIENTS}{}", tenant.onboarded(&keys.path().join("keys.json")));
    let uploads = Arc::<Mutex<Uploads>>::default();
    let state = Arc::clone(&uploads);
    let mut place = relay_before("", &tables, move |asked: &Asked| {
        match asked.line.split(' ').next().unwrap() {
            "BITS_POST" => state.lock().unwrap().answer(Wrong::Nothing, asked),
            _ => answer(200, "from the site"),
        }
    });
    place.bulk("bulk", 2);
    place.secret("entra.token", &tenant.token());
    place.secret("forged.token", &stranger.token());
    let service = place.service();
    place.succeed(&[&["register", &service], FOLDER, &["--token-file", "bulk"]].concat());
    place.succeed(&[&["exchange", &service], ENTRA, &["--save", "ccm.token"]].concat());
    let issue = "pki issue --ca site/site-ca --connection-point a-device --out device";
    material::relay(place.home.path(), issue);
    (place, uploads, keys)
}

#[test]
fn each_kind_of_credential_is_enough_to_ask_to_upload_and_to_download() {
    let (place, uploads, _keys) = place();
    fs::write(place.path("report"), "up to the site").unwrap();
    let up = place.url("/ccm_incoming/report");
    let down = place.url("/CCM_Client/file");
    for shows in [FOLDER, CCM, ENTRA, CERTIFICATE] {
        assert_eq!(place.use_it(shows), "", "{shows:?}");
        let (status, report) = place.report(&[&["upload", "report", &up], shows].concat());
        assert_eq!((status, &report["hop"]), (0, &"site".into()), "{report:#}");
        assert_eq!(uploads.lock().unwrap().closed.pop().unwrap(), b"up to the site");
        let (status, report) = place.report(&[&["download", &down, "file"], shows].concat());
        assert_eq!((status, &report["hop"]), (0, &"site".into()), "{report:#}");
        assert_eq!(fs::read(place.path("file")).unwrap(), b"from the site");
        fs::remove_file(place.path("file")).unwrap();
    }
    let seen = place.origin.seen().len();
    for (shows, reason) in [
        (&[][..], "CMGService_No_Credential"),
        (&["--token-file", "forged.token"], "CMGService_Invalid_Token"),
        (&["--token-file", "bulk"], "CMGService_Registration_Only"),
        (OWN_CERTIFICATE, "CMGService_Invalid_Certificate"),
    ] {
        assert_eq!(place.use_it(shows), reason);
        for command in [&["upload", "report", &up][..], &["download", &down, "file"]] {
            let (status, report) = place.report(&[command, shows].concat());
            let told = (&report["hop"], &report["reason"]);
            assert_eq!((status, told), (1, (&"gateway".into(), &reason.into())), "{report:#}");
        }
        assert!(!place.path("file").exists());
    }
    assert_eq!(place.origin.seen().len(), seen, "nothing of them has reached the site");
    assert!(uploads.lock().unwrap().closed.is_empty());
}

/// What the access log says of one request: `auth`, `who`, `unproven`.
fn logged(place: &mut Relay, args: &[&str]) -> [Value; 3] {
    let (_, report) = place.report(args);
    let id = report["message_id"].as_str().unwrap_or_else(|| panic!("{report:#}"));
    let named = format!("\"message\":\"request\",\"message_id\":\"{id}\"");
    let line: Value = serde_json::from_str(&place.gateway.wait_for_log(&named, 1)).unwrap();
    assert_eq!(line["target"], "relay::access");
    ["auth", "who", "unproven"].map(|name| line[name].clone())
}

/// What a token calls itself or its client.
fn claim(place: &Relay, file: &str, name: &str) -> String {
    let token = fs::read_to_string(place.path(file)).unwrap();
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    claims[name].as_str().unwrap().to_ascii_lowercase()
}

/// What is said of what proves nothing.
const SIGNATURE: &str = "entra: its signature is wrong: it was damaged on the way, or changed";
const UNTRUSTED: &str =
    "certificate: no published root stands behind it; is an intermediate authority missing?";
const UNBOUND: &str = "site-token: it is bound to a certificate that the client has not shown: it \
                       is another client's";
const REGISTRATION: &str = "site-token: it is good for registration only: the client must \
                            register and use what it gets";

#[test]
fn the_access_log_says_by_which_method_who_it_was_and_why_all_else_proved_nothing() {
    let (mut place, _, _keys) = place();
    let of = |file: &str| {
        let [client, token] = ["ClientId", "UniqueId"].map(|it| claim(&place, file, it));
        format!("client {client} by token {token}")
    };
    let (own, ccm) = (of("me/client.token"), of("ccm.token"));
    let bulk = format!("bearer of token {}", claim(&place, "bulk", "UniqueId"));
    let device = format!("device {DEVICE} of tenant {}", claim(&place, "entra.token", "tid"));
    let forged = ["--token-file", "forged.token"];
    let stolen = ["--token-file", "me/client.token"];
    let (service, url) = (place.service(), place.url("/SMS_MP/x"));
    let get = |shows: &[&'static str]| [&["request", "GET", &*url], shows].concat();
    let again = [&["register", &*service], FOLDER, &["--token-file", "bulk", "--force"]].concat();
    for (args, auth, who, unproven) in [
        (get(&[]), "none", "", &[][..]),
        (get(ENTRA), "entra", &*device, &[]),
        (get(CERTIFICATE), "certificate", "a-device", &[]),
        (get(CCM), "site-token", &*ccm, &[]),
        // The certificate that a token is bound to, or that is to be registered, is no fault.
        (get(FOLDER), "site-token", &*own, &[]),
        (again, "site-token", &*bulk, &[]),
        (get(&[&forged[..], CERTIFICATE].concat()), "certificate", "a-device", &[SIGNATURE]),
        (get(&forged), "none", "", &[SIGNATURE]),
        (get(&[&forged[..], OWN_CERTIFICATE].concat()), "none", "", &[SIGNATURE, UNTRUSTED]),
        (get(OWN_CERTIFICATE), "none", "", &[UNTRUSTED]),
        (get(&stolen), "none", "", &[UNBOUND]),
        (get(&["--token-file", "bulk"]), "none", "", &[REGISTRATION]),
    ] {
        let [by, name, nothing] = logged(&mut place, &args);
        assert_eq!(by, auth, "{args:?}");
        match (who, name.as_str()) {
            ("", name) => assert_eq!(name, None, "{args:?}"),
            // A certificate's whole name.
            ("a-device", Some(name)) => assert!(name.contains("a-device"), "{name}"),
            (who, name) => assert_eq!(name, Some(who), "{args:?}"),
        }
        assert_eq!(nothing.as_str().unwrap_or_default(), unproven.join("; "), "{args:?}");
    }
}
