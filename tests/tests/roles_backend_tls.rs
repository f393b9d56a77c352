//! Who a site role is to the connection point over HTTPS, and who the connection point is to it.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::sync::Arc;

use http::Uri;
use relay_core::connection_point::{BackendConfig, Update};
use relay_core::mux::Side;
use relay_core::transport::{ClientCertificates, Identity, backend_client_config_showing};
use relay_tests::client::{Answer, Client, Http, bare};
use relay_tests::logs::Logs;
use relay_tests::pki::SiteCa;
use relay_tests::roles::{House, join, target, within};
use relay_tests::tls_site::{SecureBackend, demanding, open_to_all};

/// An `https://` backend that is trusted if `ca` has signed it.
fn secured(url: &str, ca: &SiteCa, certificates: ClientCertificates) -> BackendConfig {
    let certificates = Arc::new(certificates);
    let tls = backend_client_config_showing(&ca.anchors(), Arc::clone(&certificates)).unwrap();
    let mut config = BackendConfig::new(url.parse::<Uri>().unwrap(), Some(tls));
    config.certificates = Some(certificates);
    config
}

fn none() -> ClientCertificates {
    ClientCertificates::new("mp")
}

/// Asks once through a relay with this backend.
async fn ask(house: &House) -> Answer {
    let (gateway, _link) = house.joined().await;
    let mut client = Client::join(&gateway, &house.ca, Http::One).await;
    client.ask(bare("GET", &target("/SMS_MP/x"))).await
}

fn house(backend: BackendConfig) -> House {
    let mut house = House::before(([127, 0, 0, 1], 0).into());
    house.backend = Some(backend);
    house
}

#[tokio::test]
async fn host_and_sni_are_those_of_the_url_unless_the_endpoint_names_the_backend() {
    within(async {
        let ca = SiteCa::new();
        let backend = SecureBackend::start(open_to_all(&ca.server("localhost"))).await;
        let port = backend.address.port();
        let answer = ask(&house(secured(&format!("https://localhost:{port}"), &ca, none()))).await;
        assert_eq!((answer.status(), answer.reason()), (200, None));
        let visits = backend.take();
        assert_eq!(visits.len(), 1);
        assert_eq!(visits[0].sni.as_deref(), Some("localhost"));
        assert_eq!(visits[0].host, format!("localhost:{port}"));

        let backend = SecureBackend::start(open_to_all(&ca.server("mp.site.test"))).await;
        let mut config = secured(&format!("https://{}", backend.address), &ca, none());
        config.name = Some("mp.site.test".try_into().unwrap());
        let answer = ask(&house(config)).await;
        assert_eq!((answer.status(), answer.reason()), (200, None));
        let visits = backend.take();
        assert_eq!(visits[0].sni.as_deref(), Some("mp.site.test"));
        assert_eq!(visits[0].host, format!("mp.site.test:{}", backend.address.port()));
    })
    .await;
}

#[tokio::test]
async fn a_backend_under_another_name_or_of_another_authority_has_a_reason_of_its_own() {
    let logs = Logs::capture();
    within(async {
        let (ca, other) = (SiteCa::new(), SiteCa::new());
        let over = ca.in_years(2000..2001, Side::Listener, "localhost");
        for (identity, trusted, reason, why) in [
            (ca.server("else.test"), &ca, "CMGConnector_Backend_Wrong_Name", "else.test"),
            (ca.server("localhost"), &other, "CMGConnector_Backend_Untrusted", "UnknownIssuer"),
            (over, &ca, "CMGConnector_Backend_Untrusted", "expired"),
        ] {
            let backend = SecureBackend::start(open_to_all(&identity)).await;
            let url = format!("https://localhost:{}", backend.address.port());
            let answer = ask(&house(secured(&url, trusted, none()))).await;
            assert_eq!((answer.status(), answer.reason()), (502, Some(reason)));
            assert!(!String::from_utf8_lossy(&answer.body).contains("else.test"));
            assert_eq!(logs.with(&[answer.message_id(), "not forwarded", why]).len(), 1, "{why}");
            assert_eq!(backend.take(), []);
        }
    })
    .await;
}

#[tokio::test]
async fn a_backend_that_demands_a_certificate_is_shown_the_one_of_its_issuer_valid_for_longest() {
    let logs = Logs::capture();
    within(async {
        let (ca, mp_ca) = (SiteCa::new(), SiteCa::new());
        let backend = SecureBackend::start(demanding(&ca.server("localhost"), &mp_ca)).await;
        let url = format!("https://localhost:{}", backend.address.port());
        let long = mp_ca.in_years(2020..2990, Side::Dialer, "cp");
        let set = none()
            .with("short", Ok(mp_ca.in_years(2020..2980, Side::Dialer, "cp")))
            .with("long", Ok(long.clone()))
            .with("of another", Ok(ca.in_years(2020..2999, Side::Dialer, "cp")))
            .with("over", Ok(mp_ca.in_years(2020..2021, Side::Dialer, "cp")));
        let answer = ask(&house(secured(&url, &ca, set))).await;
        assert_eq!((answer.status(), answer.reason()), (200, None));
        assert_eq!(backend.take()[0].shown.as_ref(), long.chain().first());

        // When the set is loaded, by any issuer; and when the backend asks.
        for (name, verdict) in [
            ("of another", "this client certificate is shown to backends that take its issuer"),
            ("long", "another one that fits is valid for longer"),
            ("short", "another one that fits is valid for longer"),
            ("over", "it has expired"),
        ] {
            let name = format!("\"certificate\":\"{name}\"");
            assert_eq!(logs.with(&[&name, "\"endpoint\":\"mp\"", verdict]).len(), 1, "{name}");
        }
        let asked = ["asks for a client certificate and is shown", "\"certificate\":\"long\""];
        assert_eq!(logs.with(&asked).len(), 1);
    })
    .await;
}

#[tokio::test]
async fn where_no_certificate_fits_the_answer_is_403_and_the_log_says_why_of_each() {
    let logs = Logs::capture();
    within(async {
        let (ca, mp_ca) = (SiteCa::new(), SiteCa::new());
        let backend = SecureBackend::start(demanding(&ca.server("localhost"), &mp_ca)).await;
        let url = format!("https://localhost:{}", backend.address.port());
        let misfits = none()
            .with("over", Ok(mp_ca.in_years(2020..2021, Side::Dialer, "cp")))
            .with("a server's", Ok(mp_ca.server("cp")))
            .with("of another", Ok(ca.connection_point("cp")));
        for (set, why) in [
            (none(), "none is configured"),
            (
                misfits,
                "over: it has expired; a server's: its extended key usage does not name client \
                 authentication; of another: the backend takes no certificate of its issuer",
            ),
        ] {
            let answer = ask(&house(secured(&url, &ca, set))).await;
            let reason = "CMGConnector_Clientcertificaterequired";
            assert_eq!((answer.status(), answer.reason()), (403, Some(reason)));
            let told = ["asks for a client certificate and none fits", why];
            assert_eq!(logs.with(&told).len(), 1, "{why}");
        }
        assert_eq!(backend.take(), []);
    })
    .await;
}

#[tokio::test]
async fn a_set_that_changes_is_shown_from_then_on() {
    let logs = Logs::capture();
    within(async {
        let ca = SiteCa::new();
        let backend = SecureBackend::start(demanding(&ca.server("localhost"), &ca)).await;
        let url = format!("https://localhost:{}", backend.address.port());
        let of = |identity: &Identity| secured(&url, &ca, none().with("a", Ok(identity.clone())));
        let (one, other) = (ca.connection_point("one"), ca.connection_point("other"));
        let mut house = house(of(&one));
        let gateway = house.gateway(1);
        let point = house.connection_point(Vec::new());
        let _link = join(&gateway, &point).await;
        let mut client = Client::join(&gateway, &house.ca, Http::One).await;
        for shown in [&one, &other] {
            let answer = client.ask(bare("GET", &target("/SMS_MP/x"))).await;
            assert_eq!((answer.status(), answer.reason()), (200, None));
            assert_eq!(backend.take()[0].shown.as_ref(), shown.chain().first());
            house.backend = Some(of(&other));
            let update = Update {
                gateways: Vec::new(),
                endpoints: vec![house.site_endpoint()],
                tenants: Vec::new(),
                clients: None,
                settings_version: 1,
            };
            point.update(update.clone()).unwrap();
            let verdicts = logs.with(&["this client certificate is shown to"]).len();
            // The same set again is no news, and keeps its connections.
            point.update(update).unwrap();
            assert_eq!(logs.with(&["this client certificate is shown to"]).len(), verdicts);
        }
    })
    .await;
}
