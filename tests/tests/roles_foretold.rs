//! What is told beforehand of a request, held against what an instance then does with it.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use http::header::CONNECTION;
use http::{HeaderValue, Request, Response};
use relay_core::auth::{Method, Methods};
use relay_core::connection_point::{SiteEndpoint, Update};
use relay_core::gateway::{Foretold, ForetoldAnswer, foretell};
use relay_core::policy::{Access, EndpointKind};
use relay_core::settings::{Offered, Settings, SettingsDocument};
use relay_tests::client::{Answer, Client, Http, bare};
use relay_tests::clients::{ClientSite, showing};
use relay_tests::roles::{House, SERVICE, join, until, within};
use relay_tests::site::{Backend, full};

const VERBS: [&str; 8] =
    ["GET", "HEAD", "POST", "CCM_POST", "BITS_POST", "PROPFIND", "DELETE", "get"];

const ROOTS: [&str; 4] =
    ["CCM_Proxy_MutualAuth", "ccm_proxy_serverauth", "CCM_Proxy_Other", "%43CM_Proxy_MutualAuth"];

/// What follows the root.
const PATHS: [&str; 19] = [
    "",
    "/",
    "/ServiceMetadata",
    "/servicemetadata?x=1",
    "/AADAuthInfo",
    "/AADAuthInfo?TenantID=00000000-0000-0000-0000-000000000000",
    "/1",
    "/1/",
    "/1/SMS_MP/.sms_aut?MPLIST",
    "/1/sms_mp/a%20b",
    "/1/SMS_MPx",
    "/1/SMS_MP/../x",
    "/1/SMS_MP/%2e%2e/x",
    "/1/SMS_MP//x",
    "/1/ccm_system_altauth/request",
    "/+1/SMS_MP",
    "/2/SMS_MP/x",
    "/3/ClientWebService/client.asmx",
    "/4/SMS_MP/x",
];

/// A request without a body, but for what it may declare.
fn request(verb: &str, target: &str, field: Option<(&'static str, &str)>) -> Request<()> {
    let mut request = Request::builder().method(verb).uri(target).body(()).unwrap();
    request.headers_mut().insert("host", HeaderValue::from_static(SERVICE));
    request.headers_mut().insert("x-site", HeaderValue::from_static("kept"));
    if let Some((name, value)) = field {
        request.headers_mut().append(name, HeaderValue::try_from(value).unwrap());
    }
    request
}

type Field = Option<(&'static str, &'static str)>;

/// Every verb with every root and path, with each field.
fn cases() -> Vec<(&'static str, String, Field)> {
    let fields = [None, Some(("connection", "x-hop")), Some(("authorization", "Bearer no"))];
    let mut cases = Vec::new();
    for (verb, root) in VERBS.iter().flat_map(|verb| ROOTS.map(|root| (*verb, root))) {
        for (path, field) in PATHS.iter().flat_map(|path| fields.map(|field| (path, field))) {
            cases.push((verb, format!("/{root}{path}"), field));
        }
    }
    cases
}

/// The four endpoints that are asked: for anybody, for clients, with a limit, and with a method
/// that the site does not count.
fn endpoints(house: &House) -> Vec<SiteEndpoint> {
    use EndpointKind::{ManagementPoint, SoftwareUpdatePoint};
    let of = |role_id: u64, kind, access, limit| {
        let SiteEndpoint { mut endpoint, backend } = house.site_endpoint();
        (endpoint.name, endpoint.role_id) = (format!("role-{role_id}"), role_id);
        (endpoint.kind, endpoint.access) = (kind, access);
        endpoint.request_body_bytes_max = limit;
        SiteEndpoint { endpoint, backend }
    };
    let tokens = Methods::new(&[Method::SiteToken, Method::Entra]).unwrap();
    vec![
        of(1, ManagementPoint, Access::Anonymous, None),
        of(2, ManagementPoint, Access::Clients(tokens), None),
        of(3, SoftwareUpdatePoint, Access::Anonymous, Some(0)),
        of(4, ManagementPoint, Access::Clients(Methods::default()), Some(0)),
    ]
}

/// Whether an answer is what was told.
fn is(answer: &Answer, told: &ForetoldAnswer) -> bool {
    answer.status() == told.status.as_u16() && answer.reason() == Some(told.reason.as_str())
}

/// Asserts that `answer` is what `foretold` says of the request.
fn check(foretold: &Foretold<'_>, answer: &Answer, backend: &Backend, shown: &str) {
    match foretold {
        Foretold::Own(_) => assert_eq!((answer.status(), answer.reason()), (200, None), "{shown}"),
        Foretold::Refused(told) => assert!(is(answer, &told.answer), "{shown}: {told:?}"),
        Foretold::Relayed(relay) => {
            if let Some(told) = &relay.unproven {
                return assert!(is(answer, told), "{shown}: {told:?}");
            }
            assert_eq!((answer.status(), answer.reason()), (200, None), "{shown}");
            let seen = backend.seen().pop().unwrap();
            assert_eq!(seen.uri.path_and_query(), Some(&relay.route.site_target), "{shown}");
            let is_there = |name| seen.headers.contains_key(name);
            assert!(!relay.dropped.iter().any(is_there), "{shown}: {:?}", seen.headers);
            assert!(seen.headers.contains_key("x-site"), "{shown}");
        }
        other => panic!("{shown}: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_told_beforehand_of_a_request_is_what_the_instance_then_does() {
    within(async {
        let backend = Backend::start(|_| async { Response::new(full("from the site")) }).await;
        let mut house = House::before(backend.address);
        let trust = ClientSite::new().trust();
        house.clients = Some(trust.clone());
        let (gateway, point) = (house.gateway(1), house.connection_point(vec![]));
        let _joined = join(&gateway, &point).await;
        let update = Update {
            gateways: vec![],
            endpoints: endpoints(&house),
            tenants: vec![],
            clients: Some(trust),
            settings_version: 2,
        };
        point.update(update).unwrap();
        let is_second = || {
            let sites = gateway.settings().sites;
            sites.iter().any(|it| it.applied.as_ref().is_some_and(|it| it.version == 2))
        };
        until(is_second).await;
        let published = endpoints(&house).into_iter().map(|it| it.endpoint).collect();
        let document = SettingsDocument { endpoints: published, version: 2, ..house.document() };
        let Offered::Accepted(settings) = Settings::default().offer(document).unwrap() else {
            panic!("there was nothing before");
        };

        let tls = showing(&house.ca, None);
        let mut client = Client::join_with(&gateway, &tls, Http::One).await;
        let mut outcomes = [0_usize; 3];
        for (verb, target, field) in cases() {
            let shown = format!("{verb} {target} with {field:?}");
            let (parts, ()) = request(verb, &target, field).into_parts();
            let foretold = foretell(&settings, &parts);
            outcomes[match foretold {
                Foretold::Own(_) => 0,
                Foretold::Refused(_) => 1,
                _ => 2,
            }] += 1;
            let mut sent = bare(verb, &target);
            *sent.headers_mut() = parts.headers.clone();
            let answer = client.ask(sent).await;
            check(&foretold, &answer, &backend, &shown);
            let ends = answer.parts.headers.get(CONNECTION).is_some_and(|it| it == "close");
            if ends || field.is_some_and(|(name, _)| name == "connection") {
                client = Client::join_with(&gateway, &tls, Http::One).await;
            }
        }
        assert!(outcomes.iter().all(|count| *count > 10), "each of them: {outcomes:?}");
    })
    .await;
}

#[tokio::test]
async fn a_body_above_the_limit_is_told_of_before_and_after_a_client_is_known() {
    let backend = Backend::start(|_| async { Response::new(full("unasked")) }).await;
    let mut house = House::before(backend.address);
    house.clients = Some(ClientSite::new().trust());
    let published = endpoints(&house).into_iter().map(|it| it.endpoint).collect();
    let document = SettingsDocument { endpoints: published, ..house.document() };
    let Offered::Accepted(settings) = Settings::default().offer(document).unwrap() else {
        panic!("there was nothing before");
    };
    let told = |target: &str, length: &str| {
        request("CCM_POST", target, Some(("content-length", length))).into_parts().0
    };
    let anonymous = "/CCM_Proxy_MutualAuth/3/ClientWebService/x";
    for (length, is_refused) in [("0", false), ("1", true)] {
        let parts = told(anonymous, length);
        match foretell(&settings, &parts) {
            Foretold::Refused(refusal) if is_refused => {
                assert_eq!(refusal.answer.reason, "CMGService_Body_Too_Large");
                assert_eq!(refusal.route.unwrap().endpoint.role_id, 3);
            }
            Foretold::Relayed(_) if !is_refused => {}
            other => panic!("{length}: {other:?}"),
        }
    }
    let parts = told("/CCM_Proxy_ServerAuth/4/SMS_MP/x", "1");
    let Foretold::Relayed(relay) = foretell(&settings, &parts) else { panic!("it may pass") };
    assert_eq!(relay.unproven.unwrap().reason, "CMGService_No_Credential");
    assert_eq!(relay.proven.unwrap().reason, "CMGService_Body_Too_Large");
    assert!(relay.methods.unwrap().contains(Method::SiteToken));
}
