//! The site's own token service, over a gateway and on the site's own network: clients that
//! register, renew and exchange, use what they are given, and are blocked.

mod credentials;
mod renewal;

use serde_json::json;

use super::*;
use crate::support::tenant::Tenant;

const TABLE: &str = "[token_service]\n";

/// The role id that `relay init` gives it.
const ROLE: u64 = HTTPS_ROLE + 1;

/// A relay whose clients have to show who they are, with `lines` in `[token_service]`.
fn relay(lines: &str, tables: &str) -> Relay {
    relay_before(lines, tables, |_| answer(200, "from the site"))
}

/// As [`relay`], before another site role.
fn relay_before(
    lines: &str,
    tables: &str,
    role: impl Fn(&Asked) -> Response<Said> + Clone + Send + Sync + 'static,
) -> Relay {
    Relay::start_with(
        |text| {
            let text = text.replace("unsafe_allow_anonymous = true\n", "");
            text.replace(TABLE, &format!("{TABLE}{lines}")) + tables
        },
        role,
    )
}

impl Relay {
    /// The token service over the gateway.
    fn service(&self) -> String {
        format!("https://{SERVICE}:{}/CCM_Proxy_ServerAuth/{ROLE}", self.clients.port())
    }

    /// The token service on the site's own network.
    fn intranet(&mut self) -> String {
        format!("http://{}", self.point.as_mut().unwrap().token_service())
    }

    /// A bulk token in a file of this name; its GUID. Instances know of its key then.
    fn bulk(&mut self, name: &str, settings: usize) -> String {
        let issued = self.token(&["new"]);
        self.secret(name, issued["token"].as_str().unwrap());
        self.gateway.wait_for_log("settings applied", settings);
        issued["guid"].as_str().unwrap().to_owned()
    }

    /// Asks the site role, and says by which reason that is refused; empty if it is not.
    fn use_it(&self, shows: &[&str]) -> String {
        let url = self.url("/SMS_MP/x");
        let (status, report) = self.report(&[&["request", "GET", &url], shows].concat());
        assert_eq!(status == 0, report["reason"].is_null(), "{report:#}");
        report["reason"].as_str().unwrap_or_default().to_owned()
    }

    /// The reason of the token service for which a command is refused.
    fn refusal(&self, args: &[&str]) -> String {
        let (status, report) = self.report(args);
        assert_eq!((status, &report["hop"]), (1, &"token_service".into()), "{report:#}");
        report["reason"].as_str().unwrap().to_owned()
    }

    fn succeed(&self, args: &[&str]) -> Value {
        let (status, report) = self.report(args);
        assert_eq!((status, &report["hop"]), (0, &"token_service".into()), "{report:#}");
        report
    }
}

fn mode(file: &Path) -> u32 {
    fs::metadata(file).unwrap().permissions().mode() & 0o777
}

fn text<'a>(report: &'a Value, name: &str) -> &'a str {
    report[name].as_str().unwrap()
}

#[test]
fn a_client_registers_over_the_gateway_uses_its_token_and_is_blocked() {
    let mut place = relay("", "");
    let bulk = place.bulk("bulk", 2);
    let service = place.service();
    let by_bulk = ["--token-file", "bulk"];
    let mine = ["--folder", "me"];
    let register = [&["register", &service], &mine[..], &by_bulk[..]].concat();
    let report = place.succeed(&register);
    let id = text(&report, "client_id").to_owned();
    assert_eq!(report["renew_after"], 30 * 86_400);
    for name in ["client-key.pem", "client.pem", "client.token"] {
        assert_eq!(mode(&place.path("me").join(name)), 0o600, "{name}");
    }
    let key = || fs::read(place.path("me/client-key.pem")).unwrap();
    let key_before = key();
    assert_eq!(place.use_it(&mine), "");
    let path = place.url("/SMS_MP/x");
    let signed = [&["request", "GET", &path, "--sign"], &mine[..]].concat();
    assert_eq!(place.report(&signed).0, 0);
    let named = place.origin.seen().pop().unwrap().header("ccmclientid").to_owned();
    assert_eq!(named, format!("GUID:{}", id.to_uppercase()), "the head names who was registered");
    assert_eq!(place.use_it(&by_bulk), "CMGService_Registration_Only");
    // It is bound to the certificate, and worth nothing to whoever has the token alone.
    let alone = ["--token-file", "me/client.token"];
    assert_eq!(place.use_it(&alone), "CMGService_Invalid_Token");
    assert_eq!(place.refusal(&[&["renew", &service], &mine[..]].concat()), "too_early");
    let again = place.succeed(&[&register[..], &["--force"]].concat());
    assert_eq!(text(&again, "client_id"), id, "the same certificate is the same client");
    assert_eq!(key(), key_before);
    let unasked = [&["register", &service], &mine[..]].concat();
    assert_eq!(place.client(&unasked).status.code(), Some(2), "again is a wish to be told");

    let clients = place.token(&["clients"]);
    let [client] = &clients["clients"].as_array().unwrap()[..] else { panic!("{clients:#}") };
    let shown = ["guid", "state", "how", "bulk_token"].map(|name| text(client, name));
    assert_eq!(shown, [&*id, "valid", "bulk-token", &*bulk]);

    // No longer good for registration; who has registered by it goes on.
    place.token(&["block", &bulk]);
    place.gateway.wait_for_log("settings applied", 3);
    let other = [&["register", &service, "--folder", "other"], &by_bulk[..]].concat();
    let (status, report) = place.report(&other);
    assert_eq!((status, text(&report, "reason")), (1, "CMGService_Invalid_Token"), "{report:#}");
    assert!(!place.path("other").exists());
    assert_eq!(place.use_it(&mine), "");
    place.token(&["block", &id]);
    place.gateway.wait_for_log("settings applied", 4);
    assert_eq!(place.use_it(&mine), "CMGService_Invalid_Token");
    let renew = [&["renew", &service], &mine[..]].concat();
    assert_eq!(place.report(&renew).1["reason"], "CMGService_Invalid_Token");
    assert_eq!(text(&place.token(&["clients"])["clients"][0], "state"), "blocked");
    assert_eq!(place.origin.seen().len(), 3, "nothing else has reached the site role");
}

#[test]
fn on_the_sites_own_network_a_client_registers_without_a_token() {
    let mut place = relay("listen = \"127.0.0.1:0\"\n", "");
    let intranet = place.intranet();
    let register = ["register", &intranet, "--folder", "me"];
    assert_eq!(place.refusal(&register), "unavailable", "no signing key was made");
    assert!(!place.path("me").exists());
    place.bulk("bulk", 2);
    let first = place.succeed(&register);
    let id = text(&first, "client_id").to_owned();
    assert_eq!(place.use_it(&["--folder", "me"]), "");
    let again = place.succeed(&[&register[..], &["--force"]].concat());
    assert_eq!(text(&again, "client_id"), id);
    assert_eq!(place.refusal(&["renew", &intranet, "--folder", "me"]), "too_early");
    let client = &place.token(&["clients"])["clients"][0];
    assert_eq!((text(client, "how"), &client["bulk_token"]), ("intranet", &Value::Null));
    place.token(&["block", &id]);
    assert_eq!(place.refusal(&[&register[..], &["--force"]].concat()), "blocked");

    let point = place.point.as_mut().unwrap();
    let admin = point.admin();
    let shown = Command::new(env!("CARGO_BIN_EXE_relay"))
        .args(["status", "--json", "--admin", &admin.to_string()])
        .output()
        .unwrap();
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    let counts = &shown["counts"];
    let counted = ["registered", "refused_unavailable", "refused_too_early", "refused_blocked"];
    let counted = counted.map(|name| counts[format!("token_service_{name}")].as_u64().unwrap());
    assert_eq!(counted, [2, 1, 1, 1], "{counts:#}");
}

#[test]
fn on_the_sites_own_network_tls_shows_whose_key_it_is() {
    let lines = "listen = \"127.0.0.1:0\"\ncertificate = \"../gateway-1/clients.pem\"\n\
                 key = \"../gateway-1/clients-key.pem\"\n";
    let mut place = relay(lines, "");
    place.bulk("bulk", 2);
    let port = place.point.as_mut().unwrap().token_service().port();
    let url = format!("https://{SERVICE}:{port}");
    place.succeed(&["register", &url, "--folder", "me"]);
    assert_eq!(place.use_it(&["--folder", "me"]), "");
    // A stranger's certificate is not the one that is asked for.
    let [certificate, key] = place.certificate("stranger");
    fs::write(place.path("body"), json!({"certificate": der(&place, "me")}).to_string()).unwrap();
    let at = format!("{url}/CCM_STS/register");
    let shows = ["--certificate", &certificate, "--key", &key, "--data-file", "body"];
    let (status, report) = place.report(&[&["request", "POST", &at], &shows[..]].concat());
    assert_eq!((status, &report["status"]), (1, &403.into()), "{report:#}");
    assert_eq!(place.token(&["clients"])["clients"].as_array().unwrap().len(), 1);
}

/// The certificate of a registration, as it is asked with.
fn der(place: &Relay, folder: &str) -> String {
    let pem = fs::read_to_string(place.path(folder).join("client.pem")).unwrap();
    pem.lines().filter(|line| !line.starts_with("-----")).collect()
}

#[test]
fn a_token_of_entra_is_exchanged_for_one_of_the_sites() {
    let home = tempfile::tempdir().unwrap();
    let tenant = Tenant::new();
    let mut place = relay("", &tenant.onboarded(&home.path().join("keys.json")));
    place.bulk("bulk", 2);
    place.secret("entra.token", &tenant.token());
    let service = place.service();
    let exchange =
        |from: &'static str, to: &'static str| ["exchange", "--token-file", from, "--save", to];
    let [verb, rest @ ..] = exchange("entra.token", "ccm.token");
    let given = place.succeed(&[&[verb, &service], &rest[..]].concat());
    assert_eq!(given["renew_after"], 7 * 3600);
    assert_eq!(mode(&place.path("ccm.token")), 0o600);
    assert_eq!(place.use_it(&["--token-file", "ccm.token"]), "");
    let again = place.succeed(&[&[verb, &service], &rest[..]].concat());
    assert_eq!(given["client_id"], again["client_id"]);
    // What was given is not exchanged again.
    let [verb, rest @ ..] = exchange("ccm.token", "other.token");
    let (status, report) = place.report(&[&[verb, &service], &rest[..]].concat());
    assert_eq!((status, text(&report, "reason")), (1, "CMGService_Invalid_Token"), "{report:#}");
    assert!(!place.path("other.token").exists());
    assert_eq!(place.token(&["clients"])["clients"].as_array().unwrap().len(), 0);
}
