//! What clients and site roles keep secret is in no line of any log, whoever writes it, and in
//! nothing that an administrator is shown.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::convert::Infallible;
use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE, SET_COOKIE};
use http::{HeaderName, Request, Response, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use relay_core::connection_point::BackendConfig;
use relay_core::transport::Network;
use relay_core::transport::memory::{MemoryNetwork, MemoryStream};
use relay_tests::bed::Role;
use relay_tests::client::{Client, Http, with_body};
use relay_tests::logs::{Format, Logs};
use relay_tests::roles::{House, join, target, until, within};
use relay_tests::site::{Body, full};

/// What every secret of this test begins with.
const MARK: &str = "hush-";

/// Fields of requests that hold secrets.
const FIELDS: [HeaderName; 11] = [
    AUTHORIZATION,
    COOKIE,
    HeaderName::from_static("proxy-authorization"),
    HeaderName::from_static("ccmclientid"),
    HeaderName::from_static("ccmclientidsignature"),
    HeaderName::from_static("ccmclienttimestampssignature"),
    HeaderName::from_static("clienttoken"),
    HeaderName::from_static("clienttokensignature"),
    HeaderName::from_static("bits-session-id"),
    HeaderName::from_static("bits-original-request-url"),
    HeaderName::from_static("x-ms-token"),
];

fn request(verb: &str, path: &str) -> Request<Body> {
    let mut request = with_body(verb, &target(path), full("hush-body"));
    for (number, name) in FIELDS.into_iter().enumerate() {
        request.headers_mut().insert(name, format!("Bearer {MARK}{number}").parse().unwrap());
    }
    request
}

/// A site role that has secrets of its own. It is on a network in memory: time is paused.
fn site(network: &MemoryNetwork) -> Role {
    let counters = (Arc::default(), Arc::default());
    Role::serving(network, "mp", counters, |stream: MemoryStream| async move {
        let server = hyper::server::conn::http1::Builder::new();
        // An error is a connection that the connection point cut.
        let _ = server.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
    })
}

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    assert_eq!(request.headers()["clienttoken"], "Bearer hush-6", "the site has them");
    let is_garbage = request.uri().path().ends_with("garbage");
    let _ = request.into_body().collect().await;
    let mut answer = Response::builder()
        .header(SET_COOKIE, "session=hush-of-site; Secure")
        .header("bits-session-id", "{hush-session}")
        .header("authentication-info", "nextnonce=\"hush-nonce\"");
    if is_garbage {
        // Does not fit a head block.
        answer = ["a", "b", "c"]
            .iter()
            .fold(answer, |answer, name| answer.header(*name, "hush-long".repeat(800)));
    }
    Ok(answer.body(full("hush-answer")).unwrap())
}

/// Has requests served, and fail in every way that is easily had.
async fn drive() -> Vec<u16> {
    let network = MemoryNetwork::new(1);
    let backend = site(&network);
    let mut house = House::before(([127, 0, 0, 1], 0).into());
    house.backend = Some(BackendConfig::new(Uri::from_static("http://mp"), None));
    house.network = Network::Memory(network.host("site"));
    let (gateway, point) = (house.gateway(1), house.connection_point(Vec::new()));
    let link = join(&gateway, &point).await;
    let mut statuses = Vec::new();
    let mut ask = async |http, verb: &str, path: &str| {
        let mut client = Client::join(&gateway, &house.ca, http).await;
        let answer = client.ask(request(verb, path)).await;
        statuses.push(answer.status());
        let shown = format!("{:?}{:?}{:?}", gateway.status(), gateway.settings(), point.status());
        assert!(!shown.contains(MARK), "{shown}");
    };
    for http in Http::BOTH {
        ask(http, "CCM_POST", "/SMS_MP/x?sig=hush-sig&st=hush-st").await;
        ask(http, "CCM_POST", "/SMS_MP/garbage?sig=hush-sig").await;
        ask(http, "CCM_POST", "/elsewhere?sig=hush-sig").await;
        ask(http, "DELETE", "/SMS_MP/x?sig=hush-sig").await;
        ask(http, "CCM_POST", "/SMS_MP/../x?sig=hush-sig").await;
    }
    drop(backend);
    ask(Http::Two, "CCM_POST", "/SMS_MP/x?sig=hush-sig").await;
    link.lose();
    until(|| gateway.links() == 0).await;
    ask(Http::One, "CCM_POST", "/SMS_MP/x?sig=hush-sig").await;
    until(|| gateway.in_flight() == 0).await;
    statuses
}

#[tokio::test(start_paused = true)]
async fn no_secret_is_in_any_line_at_level_trace_as_text_or_as_json() {
    within(async {
        for format in Format::BOTH {
            let logs = Logs::capture_everything(format);
            let each = [200, 502, 404, 405, 400];
            let statuses = drive().await;
            assert_eq!(statuses, [&each[..], &each, &[502, 503]].concat(), "{format:?}");
            assert!(logs.with(&["relay_core"]).len() > 12, "{format:?}");
            assert!(!logs.with(&["h2::"]).is_empty(), "others have their say");
            assert_eq!(logs.with(&[MARK]), Vec::<String>::new(), "{format:?}");
        }
    })
    .await;
}
