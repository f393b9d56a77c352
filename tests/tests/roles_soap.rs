//! The SOAP services of a software update point, on the ports that it has by itself: 8530 over
//! HTTP and 8531 over HTTPS.
//!
//! Source: Microsoft Learn, "Plan for WSUS websites", the two ports; [MS-WUSP], the services and
//! their `SOAPAction`.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::net::SocketAddr;
use std::time::Duration;

use relay_core::connection_point::BackendConfig;
use relay_core::policy::EndpointKind;
use relay_core::transport::backend_client_config;
use relay_tests::client::{Client, Http, with_body};
use relay_tests::origin::{Origin, Recorded};
use relay_tests::pki::SiteCa;
use relay_tests::raw::RawClient;
use relay_tests::roles::{House, SERVICE, target, within};
use relay_tests::running::unused_address;
use relay_tests::site::full;
use relay_tests::tls_site::open_to_all;

/// What the site calls its software update point.
const NAME: &str = "sup.site.test";

/// An envelope with what a relay that reads or rewrites text would change.
const ASKED: &[u8] = b"\xef\xbb\xbf<?xml version=\"1.0\" encoding=\"utf-8\"?>\r\n\
    <soap:Envelope xmlns:soap=\"http://schemas.xmlsoap.org/soap/envelope/\">\n\
    <soap:Body><GetConfig>\t<protocolVersion>1.20</protocolVersion>\0\xff\xfe\r</GetConfig>\
    </soap:Body></soap:Envelope>";

/// What is asked of which service, with its action and the status that it answers: a fault is 500
/// (SOAP 1.1, section 6.2).
const SERVICES: [(&str, &str, u16); 4] = [
    ("/ClientWebService/client.asmx", "\"http://example.org/ClientWebService/SyncUpdates\"", 200),
    ("/SimpleAuthWebService/SimpleAuth.asmx", "http://example.org/GetAuthorizationCookie", 200),
    ("/ReportingWebService/reportingwebservice.asmx", "\"\"", 200),
    ("/clientwebservice/Client.asmx", "\"http://example.org/Fault\"", 500),
];

fn answer(request: &Recorded) -> Vec<u8> {
    let is_fault = request.values("soapaction")[0].ends_with(b"Fault\"");
    let status = if is_fault { "500 Internal Server Error" } else { "200 OK" };
    let body = said(request.line_parts()[1]);
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/xml; charset=utf-8\r\nX-AspNet-Version: \
         4.0.30319\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), &body].concat()
}

/// The answer's octets, others for each service.
fn said(path: &[u8]) -> Vec<u8> {
    [ASKED, path, b"\r\n--\0--\n"].concat()
}

/// Asks each service over each HTTP, and returns what the site was asked.
async fn ask_all(house: &House, origin: &Origin) -> Vec<Recorded> {
    let (gateway, _link) = house.joined().await;
    for (path, action, status) in SERVICES {
        for http in Http::BOTH {
            let mut request = with_body("POST", &target(path), full(ASKED));
            request.headers_mut().insert("soapaction", action.parse().unwrap());
            request
                .headers_mut()
                .insert("content-type", "text/xml; charset=utf-8".parse().unwrap());
            let mut client = Client::join(&gateway, &house.ca, http).await;
            let answer = client.ask(request).await;
            assert_eq!((answer.status(), answer.reason()), (status, None), "{path}");
            assert_eq!(answer.parts.headers["content-type"], "text/xml; charset=utf-8");
            assert_eq!(answer.parts.headers["x-aspnet-version"], "4.0.30319");
            assert!(answer.body == said(path.as_bytes()), "{path} over {http:?}");
        }
    }
    // As a client writes it that has its own mind about case.
    let mut client = RawClient::join(&gateway, &house.ca).await;
    let (path, action, _) = SERVICES[0];
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: {SERVICE}\r\nSoapACTION:  {action}\r\n\
         Content-Length: {}\r\n\r\n",
        target(path),
        ASKED.len()
    );
    client.send(&[head.as_bytes(), ASKED].concat()).await;
    assert_eq!(client.status().await, Some(200));
    let seen = origin.take();
    for (place, request) in seen.iter().enumerate() {
        let (path, action, _) = SERVICES.get(place / 2).unwrap_or(&SERVICES[0]);
        assert_eq!(request.line, format!("POST {path} HTTP/1.1").as_bytes());
        assert_eq!(request.values("soapaction"), [action.as_bytes()]);
        assert!(request.body == ASKED, "{path}");
        // HTTP/2 has no case; the other client writes its names so.
        let name = ["soapaction", "SOAPAction"][place % 2];
        let name = if place == 8 { "SoapACTION" } else { name };
        assert!(request.names().iter().any(|it| it == name), "{place}: {:?}", request.names());
    }
    seen
}

/// A house that publishes a software update point.
fn house(backend: BackendConfig) -> House {
    let mut house = House::before(([127, 0, 0, 1], 9).into());
    house.endpoint.0.kind = EndpointKind::SoftwareUpdatePoint;
    house.backend = Some(backend);
    house
}

/// An address of this port that is nobody's.
fn at(port: u16) -> SocketAddr {
    SocketAddr::new(unused_address().ip(), port)
}

#[tokio::test]
async fn soap_passes_both_ways_octet_for_octet_to_port_8530() {
    within(async {
        let origin = Origin::answering_at(at(8530), None, answer).await;
        let url = format!("http://{}", origin.address).parse().unwrap();
        let seen = ask_all(&house(BackendConfig::new(url, None)), &origin).await;
        assert_eq!(seen.len(), 9);
        for request in seen {
            let host = origin.address.to_string();
            assert!(host.ends_with(":8530"));
            assert_eq!(request.values("host"), [host.as_bytes()]);
        }
    })
    .await;
}

#[tokio::test]
async fn soap_passes_both_ways_octet_for_octet_to_port_8531_under_the_sites_name() {
    within(async {
        let ca = SiteCa::new();
        let tls = open_to_all(&ca.server(NAME));
        let origin = Origin::answering_at(at(8531), Some(tls), answer).await;
        let url = format!("https://{}", origin.address).parse().unwrap();
        let tls = backend_client_config(&ca.anchors()).unwrap();
        let mut backend = BackendConfig::new(url, Some(tls));
        backend.name = Some(NAME.try_into().unwrap());
        let seen = ask_all(&house(backend), &origin).await;
        assert_eq!(seen.len(), 9);
        for request in seen {
            assert_eq!(request.values("host"), [format!("{NAME}:8531").as_bytes()]);
        }
        let called = origin.take_called();
        assert!(!called.is_empty() && called.iter().all(|name| name.as_deref() == Some(NAME)));
    })
    .await;
}

#[tokio::test]
async fn a_service_for_other_servers_passes_only_where_it_is_published() {
    within(async {
        let origin = Origin::answering_at(at(8530), None, answer).await;
        let url: http::Uri = format!("http://{}", origin.address).parse().unwrap();
        let path = "/DssAuthWebService/DssAuthWebService.asmx";
        for (paths, status) in [(None, 404), (Some(vec!["DssAuthWebService".to_owned()]), 200)] {
            let mut house = house(BackendConfig::new(url.clone(), None));
            house.endpoint.0.paths = paths;
            // Nobody else comes who may publish it.
            house.gateway_limits.link_credit = Duration::ZERO;
            let (gateway, _link) = house.joined().await;
            let mut request = with_body("POST", &target(path), full(ASKED));
            request.headers_mut().insert("soapaction", "\"\"".parse().unwrap());
            let mut client = Client::join(&gateway, &house.ca, Http::One).await;
            assert_eq!(client.ask(request).await.status(), status);
        }
        assert_eq!(origin.take().len(), 1);
    })
    .await;
}
