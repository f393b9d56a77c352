//! What a gateway answers by itself, as clients see it over both versions of HTTP.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::time::Duration;

use relay_core::auth::Guid;
use relay_core::connection_point::{Update, UpdateError};
use relay_core::gateway::Gateway;
use relay_core::policy::EndpointKind;
use relay_core::settings::Tenant;
use relay_tests::client::{Answer, Client, Http, bare};
use relay_tests::roles::{House, SERVICE, SITE, within};
use relay_tests::site::{Backend, nobody};
use serde_json::{Value, json};
use tokio::time::Instant;

const ID: &str = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
const APPLICATION: &str = "5d2f7a90-0c4e-4b7e-9a53-2f1c66a0b1d4";
const RESOURCE: &str = "https://ConfigMgrService";

fn tenant() -> Tenant {
    let guid = |text: &str| -> Guid { text.parse().unwrap() };
    Tenant { id: guid(ID), application_id: guid(APPLICATION), resource: RESOURCE.to_owned() }
}

async fn ask(house: &House, gateway: &Gateway, http: Http, verb: &str, target: &str) -> Answer {
    let mut client = Client::join(gateway, &house.ca, http).await;
    client.ask(bare(verb, target)).await
}

fn json_of(answer: &Answer) -> Value {
    assert_eq!(answer.parts.headers["content-type"], "application/json");
    assert_eq!(answer.parts.headers["cache-control"], "no-store");
    assert_eq!((answer.status(), answer.reason()), (200, None));
    assert_eq!(answer.message_id().len(), 36);
    serde_json::from_slice(&answer.body).unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_instance_tells_what_it_is_at_once_with_nobody_connected() {
    within(async {
        let house = House::before(nobody().await);
        for http in Http::BOTH {
            let gateway = house.gateway(3);
            let before = Instant::now();
            for root in ["CCM_Proxy_MutualAuth", "ccm_proxy_SERVERAUTH"] {
                let target = format!("/{root}/servicemetadata");
                let answer = ask(&house, &gateway, http, "GET", &target).await;
                let expected = json!({
                    "service": SERVICE,
                    "instance": 3,
                    "software_version": env!("CARGO_PKG_VERSION"),
                    "connected": false,
                    "sites": [],
                });
                assert_eq!(json_of(&answer), expected, "{http:?}");
            }
            assert!(before.elapsed() < Duration::from_secs(1), "it waits for nobody");
            assert_eq!(gateway.in_flight(), 0);
        }
    })
    .await;
}

#[tokio::test]
async fn an_instance_tells_the_version_that_holds_of_each_site_and_asks_no_site_role() {
    within(async {
        let backend = Backend::echo_path().await;
        let mut house = House::before(backend.address);
        house.settings.1 = u64::MAX;
        let (gateway, _joined) = house.joined().await;
        for http in Http::BOTH {
            let target = "/CCM_Proxy_MutualAuth/ServiceMetadata";
            let answer = ask(&house, &gateway, http, "GET", target).await;
            let version = u64::MAX.to_string();
            let sites = json!([{
                "site": SITE,
                "configuration_version": version,
                "connected": true,
                "management_point": true,
            }]);
            let told = json_of(&answer);
            assert_eq!((&told["connected"], &told["sites"]), (&true.into(), &sites), "{http:?}");
            let head = ask(&house, &gateway, http, "HEAD", target).await;
            let length = answer.body.len().to_string();
            assert_eq!(head.parts.headers["content-length"], length, "{http:?}");
            assert_eq!((head.status(), head.body.len()), (200, 0));
            let refused = ask(&house, &gateway, http, "CCM_POST", target).await;
            assert_eq!(refused.status(), 405);
            assert_eq!(refused.reason(), Some("CMGService_Method_Not_Allowed"));
            assert_eq!(refused.parts.headers["allow"], "GET, HEAD");
        }
        assert!(backend.seen().is_empty());
    })
    .await;
}

#[tokio::test]
async fn an_instance_tells_that_nobody_is_connected_or_that_no_management_point_is_published() {
    within(async {
        let mut house = House::before(nobody().await);
        house.endpoint.0.kind = EndpointKind::SoftwareUpdatePoint;
        let (gateway, joined) = house.joined().await;
        let target = "/CCM_Proxy_MutualAuth/ServiceMetadata";
        let told = json_of(&ask(&house, &gateway, Http::Two, "GET", target).await);
        let site = |told: &Value| {
            ["connected", "management_point"].map(|name| told["sites"][0][name].as_bool().unwrap())
        };
        assert_eq!((&told["connected"], site(&told)), (&true.into(), [true, false]));
        // What holds goes on to hold, and that it leads nowhere now is told.
        joined.lose();
        relay_tests::roles::until(|| gateway.links() == 0).await;
        let told = json_of(&ask(&house, &gateway, Http::Two, "GET", target).await);
        assert_eq!((&told["connected"], site(&told)), (&false.into(), [false, false]));
    })
    .await;
}

#[tokio::test]
async fn what_is_published_about_a_tenant_is_told_and_of_others_nothing() {
    within(async {
        let backend = Backend::echo_path().await;
        let mut house = House::before(backend.address);
        house.tenants = vec![tenant()];
        house.gateway_limits.link_credit = Duration::ZERO;
        let (gateway, _joined) = house.joined().await;
        let info = "/CCM_Proxy_ServerAuth/AADAuthInfo";
        for http in Http::BOTH {
            for id in [ID.to_owned(), ID.to_ascii_uppercase()] {
                let target = format!("{info}?TenantID={id}");
                let answer = ask(&house, &gateway, http, "GET", &target).await;
                let expected = json!({
                    "tenant_id": ID,
                    "application_id": APPLICATION,
                    "resource": RESOURCE,
                });
                assert_eq!(json_of(&answer), expected, "{http:?}");
            }
            for query in
                [&format!("?TenantID={APPLICATION}"), "?TenantID=", "?TenantID=x", "", "?Tenant=1"]
            {
                let answer = ask(&house, &gateway, http, "GET", &format!("{info}{query}")).await;
                assert_eq!(answer.status(), 404, "{query}");
                assert_eq!(answer.reason(), Some("CMGService_Unknown_Tenant"), "{query}");
            }
            let target = format!("/CCM_Proxy_MutualAuth/AADAuthInfo?TenantID={ID}");
            let answer = ask(&house, &gateway, http, "GET", &target).await;
            assert_eq!(answer.reason(), Some("CMGService_Not_Published"));
        }
        assert!(backend.seen().is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_was_told_nothing_says_so_of_a_tenant_once_it_has_waited() {
    within(async {
        let house = House::before(nobody().await);
        for http in Http::BOTH {
            let gateway = house.gateway(1);
            let target = format!("/CCM_Proxy_ServerAuth/AADAuthInfo?TenantID={ID}");
            let answer = ask(&house, &gateway, http, "GET", &target).await;
            assert_eq!(answer.status(), 503, "{http:?}");
            assert_eq!(answer.reason(), Some("CMGService_No_Connector"));
            assert!(answer.parts.headers.contains_key("retry-after"));
        }
    })
    .await;
}

#[tokio::test]
async fn a_tenant_is_still_told_when_every_link_is_gone() {
    within(async {
        let mut house = House::before(nobody().await);
        house.tenants = vec![tenant()];
        let (gateway, joined) = house.joined().await;
        joined.lose();
        relay_tests::roles::until(|| gateway.links() == 0).await;
        for http in Http::BOTH {
            let target = format!("/ccm_proxy_serverauth/aadauthinfo?tenantid={ID}");
            let answer = ask(&house, &gateway, http, "GET", &target).await;
            assert_eq!(json_of(&answer)["resource"], RESOURCE, "{http:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn other_tenants_are_published_by_a_higher_version_alone() {
    within(async {
        let house = House::before(nobody().await);
        let point = house.connection_point(Vec::new());
        let update = |settings_version| Update {
            gateways: Vec::new(),
            endpoints: vec![house.site_endpoint()],
            tenants: vec![tenant()],
            clients: None,
            settings_version,
        };
        assert_eq!(point.update(update(1)), Err(UpdateError::Version { version: 1, have: 1 }));
        assert_eq!(point.update(update(2)), Ok(()));
    })
    .await;
}
