//! A site's token service behind both roles: who gets to it, by which verb and path, what it is
//! told of its clients, and that nobody else can tell it that. It is within the process of the
//! connection point, which forwards to it as to every backend.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::BodyExt as _;
use relay_core::auth::{self, Methods, Strictness};
use relay_core::connection_point::{
    BackendConfig, BackendState, ConnectionPoint, LocalService, SiteEndpoint, Update,
};
use relay_core::exchange::{
    AnswerHead, Assertions, HeadLimits, MessageId, ProvenCertificate, RequestHead,
};
use relay_core::gateway::Gateway;
use relay_core::link::End;
use relay_core::policy::{Access, EndpointKind};
use relay_core::settings::ClientTrust;
use relay_core::transport::Identity;
use relay_tests::client::{Answer, Client, Http, bare, with_body};
use relay_tests::clients::{
    ClientSite, SigningClient, now, self_signed, self_signed_authority, showing,
};
use relay_tests::logs::Logs;
use relay_tests::roles::{House, Joined, join, until, within};
use relay_tests::site::{Backend, LocalBackend, empty, fed, full, octets};
use tokio::sync::Semaphore;

/// Role ids: the token service, a management point, a token service behind a socket.
const STS: u64 = 1;
const MP: u64 = 2;
const REMOTE: u64 = 3;

const REGISTER: &str = "/CCM_STS/register";
const RENEW: &str = "/CCM_STS/renew";
const EXCHANGE: &str = "/CCM_STS/exchange";

/// What a management point serves.
const PATH: &str = "/SMS_MP/x";

/// Both roles before a token service, and a backend for all else.
struct Place {
    house: House,
    site: ClientSite,
    service: LocalBackend,
    backend: Backend,
    gateway: Gateway,
    point: ConnectionPoint,
    _joined: Joined,
}

impl Place {
    async fn new() -> Self {
        let (local, service) =
            LocalBackend::start(|_| async { Response::new(full("from the service")) });
        Self::with(local, service).await
    }

    async fn with(local: LocalService, service: LocalBackend) -> Self {
        Self::judging(local, service, Strictness::FallThrough).await
    }

    async fn judging(local: LocalService, service: LocalBackend, strictness: Strictness) -> Self {
        let site = ClientSite::new();
        let backend = Backend::start(|_| async { Response::new(full("from the site")) }).await;
        let mut house = House::before(backend.address);
        house.clients = Some(ClientTrust { strictness, ..site.trust() });
        let gateway = house.gateway(1);
        let point = house.connection_point(vec![]);
        let joined = join(&gateway, &point).await;
        let place = Self { house, site, service, backend, gateway, point, _joined: joined };
        place.publish(local).await;
        place
    }

    /// Publishes, and waits until that is in force.
    async fn publish(&self, local: LocalService) {
        self.point.update(self.update(local)).unwrap();
        let applied = || {
            let sites = self.gateway.settings().sites;
            sites.iter().any(|it| it.applied.as_ref().is_some_and(|it| it.version == 2))
        };
        until(applied).await;
    }

    /// What is published, with `local` behind the token service.
    fn update(&self, local: LocalService) -> Update {
        let of = |name: &str, role_id, kind| {
            let SiteEndpoint { mut endpoint, backend } = self.house.site_endpoint();
            (endpoint.name, endpoint.role_id, endpoint.kind) = (name.to_owned(), role_id, kind);
            endpoint.access = Access::Clients(Methods::default());
            SiteEndpoint { endpoint, backend }
        };
        let mut service = of("token-service", STS, EndpointKind::TokenService);
        service.backend = BackendConfig::local(local);
        // As the configuration has it.
        let usual = [auth::Method::Entra, auth::Method::SiteToken];
        service.endpoint.access = Access::Clients(Methods::new(&usual).unwrap());
        let others = [
            of("mp", MP, EndpointKind::ManagementPoint),
            of("remote", REMOTE, EndpointKind::TokenService),
        ];
        Update {
            gateways: vec![],
            endpoints: [service].into_iter().chain(others).collect(),
            tenants: vec![],
            clients: self.house.clients.clone(),
            settings_version: 2,
        }
    }

    async fn client(&self, shows: Option<&Identity>) -> Client {
        Client::join_with(&self.gateway, &showing(&self.house.ca, shows), Http::One).await
    }

    /// What the service has seen since it was asked last.
    fn last_seen(&self) -> http::request::Parts {
        self.service.seen().pop().unwrap()
    }
}

fn request(verb: &str, role_id: u64, path: &str) -> Request<relay_tests::site::Body> {
    bare(verb, &format!("/CCM_Proxy_ServerAuth/{role_id}{path}"))
}

/// Sends a message with a token and more fields.
async fn ask(
    client: &mut Client,
    (role_id, path): (u64, &str),
    token: &str,
    fields: &[(&str, String)],
) -> Answer {
    let mut request = request("CCM_POST", role_id, path);
    let bearer = HeaderValue::try_from(format!("Bearer {token}")).unwrap();
    request.headers_mut().insert("authorization", bearer);
    for (name, value) in fields {
        let name = HeaderName::try_from(*name).unwrap();
        request.headers_mut().append(name, value.parse().unwrap());
    }
    client.ask(request).await
}

/// What the service is told of a certificate: RFC 9440, section 2.2.
fn told(der: &[u8]) -> Vec<String> {
    vec![format!(":{}:", STANDARD.encode(der))]
}

fn client_certs(headers: &HeaderMap) -> Vec<String> {
    let all = headers.get_all("client-cert").iter();
    all.map(|value| value.to_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_token_service_takes_messages_below_its_path_and_nothing_else() {
    within(async {
        let place = Place::new().await;
        let token = format!("Bearer {}", place.site.entra());
        let mut client = place.client(None).await;
        for (verb, path, status) in [
            ("CCM_POST", EXCHANGE, 200),
            ("POST", EXCHANGE, 200),
            ("POST", "/ccm_sts/exchange", 200),
            ("GET", EXCHANGE, 405),
            ("HEAD", EXCHANGE, 405),
            ("PROPFIND", EXCHANGE, 405),
            ("BITS_POST", EXCHANGE, 405),
            ("post", EXCHANGE, 405),
            ("POST", "/", 404),
            ("POST", "/CCM_STSX/exchange", 404),
            ("POST", "/SMS_MP/x", 404),
            ("POST", "/CCM_STS/../SMS_MP/x", 400),
        ] {
            let mut request = request(verb, STS, path);
            let value = HeaderValue::try_from(token.as_str()).unwrap();
            request.headers_mut().insert("authorization", value);
            let answer = client.ask(request).await;
            assert_eq!(answer.status(), status, "{verb} {path}");
        }
        assert_eq!(place.service.seen().len(), 3);
        assert!(place.backend.seen().is_empty());
    })
    .await;
}

#[tokio::test]
async fn each_credential_opens_what_it_is_for_and_no_octet_of_others_reaches_the_service() {
    within(async {
        let place = Place::new().await;
        let own = self_signed();
        let pki = place.site.authority.connection_point("a device");
        let site = &place.site;
        let (entra, bulk, ccm) = (site.entra(), site.bulk(), site.ccm());
        let client = site.client(&own);
        let registration = (403, Some("CMGService_Registration_Only"));
        let (invalid, good) = ((401, Some("CMGService_Invalid_Token")), (200, None));
        // What each may: register, renew and exchange there, register at a management point.
        let rows = [
            ("bulk", &bulk, None, [good, registration, registration, registration]),
            ("client", &client, Some(&own), [good, good, good, good]),
            ("client without", &client, None, [invalid; 4]),
            ("ccm", &ccm, None, [invalid, invalid, invalid, good]),
            ("entra", &entra, None, [good; 4]),
            // Any text would pass for a token beside it, and each for another client's.
            ("pki", &String::from("x.y.z"), Some(&pki), [invalid, invalid, invalid, good]),
        ];
        let mut passed = [0; 2];
        for (name, token, shows, answers) in rows {
            let mut client = place.client(shows).await;
            let places = [(STS, REGISTER), (STS, RENEW), (STS, EXCHANGE), (MP, REGISTER)];
            for (at, wanted) in places.into_iter().zip(answers) {
                let answer = ask(&mut client, at, token, &[]).await;
                assert_eq!((answer.status(), answer.reason()), wanted, "{name} at {at:?}");
                passed[usize::from(at.0 == MP)] += usize::from(wanted == good);
                let seen = [place.service.seen().len(), place.backend.seen().len()];
                assert_eq!(seen, passed, "{name} at {at:?}");
            }
        }
        assert_eq!(passed, [7, 4]);
    })
    .await;
}

#[tokio::test]
async fn the_service_is_told_of_the_certificate_in_tls_and_never_what_a_client_says() {
    within(async {
        let place = Place::new().await;
        let own = self_signed();
        let der = own.chain().first().unwrap().to_vec();
        let token = place.site.client(&own);
        let forged = [
            ("Client-Cert", told(&[1, 2, 3])[0].clone()),
            ("Client_Cert", told(&[4, 5, 6])[0].clone()),
            ("Client-Cert-Chain", told(&[7, 8, 9])[0].clone()),
        ];
        for fields in [&[][..], &forged] {
            let mut client = place.client(Some(&own)).await;
            assert_eq!(ask(&mut client, (STS, RENEW), &token, fields).await.status(), 200);
            let headers = place.last_seen().headers;
            assert_eq!(client_certs(&headers), told(&der));
            assert!(!headers.contains_key("client_cert"));
            assert!(!headers.contains_key("client-cert-chain"));
            // Who shows none has none, whatever it says.
            let mut client = place.client(None).await;
            let entra = place.site.entra();
            assert_eq!(ask(&mut client, (STS, EXCHANGE), &entra, fields).await.status(), 200);
            assert!(client_certs(&place.last_seen().headers).is_empty());
        }
    })
    .await;
}

#[tokio::test]
async fn a_newcomer_registers_with_its_certificate_in_tls_where_all_that_is_shown_must_be_good() {
    within(async {
        let (local, service) =
            LocalBackend::start(|_| async { Response::new(full("from the service")) });
        let place = Place::judging(local, service, Strictness::Refuse).await;
        let bulk = place.site.bulk();
        for own in [self_signed(), self_signed_authority()] {
            let mut client = place.client(Some(&own)).await;
            assert_eq!(ask(&mut client, (STS, REGISTER), &bulk, &[]).await.status(), 200);
            let der = own.chain().first().unwrap();
            assert_eq!(client_certs(&place.last_seen().headers), told(der));
            // Also where certificates count. It opens that door alone: elsewhere that certificate
            // is one like others, and proves nothing.
            assert_eq!(ask(&mut client, (REMOTE, REGISTER), &bulk, &[]).await.status(), 200);
            for (at, status) in [((STS, RENEW), 403), ((REMOTE, RENEW), 401), ((MP, PATH), 401)] {
                assert_eq!(ask(&mut client, at, &bulk, &[]).await.status(), status, "{at:?}");
            }
            assert_eq!(ask(&mut client, (STS, REGISTER), "x.y.z", &[]).await.status(), 401);
        }
        assert_eq!((place.service.seen().len(), place.backend.seen().len()), (2, 2));
    })
    .await;
}

#[tokio::test]
async fn nobody_but_the_service_in_the_process_is_told_of_a_certificate() {
    within(async {
        let place = Place::new().await;
        let own = self_signed();
        let token = place.site.client(&own);
        let mut client = place.client(Some(&own)).await;
        for at in [(MP, "/SMS_MP/x"), (REMOTE, RENEW)] {
            assert_eq!(ask(&mut client, at, &token, &[]).await.status(), 200);
        }
        let seen = place.backend.seen();
        assert_eq!(seen.len(), 2);
        assert!(seen.iter().all(|it| client_certs(&it.headers).is_empty()));
    })
    .await;
}

#[tokio::test]
async fn a_gateway_can_assert_a_certificate_and_cannot_pass_a_field_for_one() {
    within(async {
        let place = Place::new().await;
        let rogue = place.house.rogue_gateway(&place.point).await;
        let asserted = ProvenCertificate::new(Bytes::from_static(&[0x30, 0]));
        let forged = HeaderValue::try_from(told(&[1, 2, 3])[0].clone()).unwrap();
        for (role_id, certificate, wanted) in
            [(STS, None, vec![]), (STS, asserted.clone(), told(&[0x30, 0])), (MP, asserted, vec![])]
        {
            let target = format!("/CCM_Proxy_ServerAuth/{role_id}{RENEW}");
            let mut assertions = Assertions::new(MessageId([7; 16]));
            assertions.certificate = certificate;
            let head = RequestHead {
                method: Method::from_bytes(b"CCM_POST").unwrap(),
                target: PathAndQuery::try_from(target).unwrap(),
                headers: HeaderMap::from_iter([(
                    HeaderName::from_static("client-cert"),
                    forged.clone(),
                )]),
                assertions,
            };
            let block = head.encode(&HeadLimits::default()).unwrap();
            let (_send, mut answer) = rogue.link.open(block, End::NoPayload).await.unwrap();
            let head = answer.head().await.unwrap().block;
            assert_eq!(AnswerHead::decode(head, &HeadLimits::default()).unwrap().status, 200);
            let seen = if role_id == STS { place.service.seen() } else { place.backend.seen() };
            assert_eq!(client_certs(&seen.last().unwrap().headers), wanted, "{role_id}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_whose_tls_ends_on_the_way_proves_its_key_by_a_signed_timestamp() {
    within(async {
        let place = Place::new().await;
        let signing = SigningClient::new();
        let token = place.site.client(&signing.identity);
        let mut client = place.client(None).await;
        let head = signing.signed_head(now());
        assert_eq!(ask(&mut client, (STS, RENEW), &token, &head).await.status(), 200);
        assert_eq!(client_certs(&place.last_seen().headers), told(signing.der()));
        assert!(place.last_seen().headers.contains_key("ccmclientcertificate"));
        // Traffic too; a site role has no business with the certificate.
        assert_eq!(ask(&mut client, (MP, "/SMS_MP/x"), &token, &head).await.status(), 200);
        let headers = place.backend.seen().pop().unwrap().headers;
        assert!(!headers.contains_key("ccmclientcertificate"));
        for (name, value) in &head[1..] {
            assert_eq!(headers[*name], value.as_str(), "{name} passes as it is");
        }
        // The key that is to be registered, which no token is bound to yet.
        let newcomer = SigningClient::new();
        let head = newcomer.signed_head(now());
        let bulk = place.site.bulk();
        assert_eq!(ask(&mut client, (STS, REGISTER), &bulk, &head).await.status(), 200);
        assert_eq!(client_certs(&place.last_seen().headers), told(newcomer.der()));
    })
    .await;
}

/// A client's fields after `change`.
fn changed(
    head: &[(&'static str, String)],
    change: impl FnOnce(&mut Vec<(&'static str, String)>),
) -> Vec<(&'static str, String)> {
    let mut head = head.to_vec();
    change(&mut head);
    head
}

#[tokio::test]
async fn what_is_not_signed_by_the_key_and_for_now_is_refused_and_the_log_says_why() {
    within(async {
        let logs = Logs::capture();
        let place = Place::new().await;
        let (own, other) = (SigningClient::new(), SigningClient::new());
        let large = SigningClient::of_octets(4097);
        let (now, head) = (now(), own.signed_head(now()));
        let certificate = other.signed_head(now)[0].clone();
        let signature = "CMGService_Invalid_Signature";
        let cases = [
            ("stale", own.signed_head(now - 700), signature, "s old"),
            ("ahead", own.signed_head(now + 700), signature, "s ahead"),
            (
                "by another key",
                changed(&other.signed_head(now), |it| it[0] = head[0].clone()),
                signature,
                "not that key's",
            ),
            ("another's", other.signed_head(now), "CMGService_Invalid_Token", "has not shown"),
            (
                "another's certificate",
                changed(&head, |it| it[0] = certificate.clone()),
                "CMGService_Invalid_Token",
                "has not shown",
            ),
            ("two", changed(&head, |it| it.push(certificate.clone())), signature, "twice"),
            ("unsigned", head[..1].to_vec(), signature, "without a signed head"),
            ("lacking", head[..4].to_vec(), signature, "lacks an id"),
            ("damaged", changed(&head, |it| it[0].1.insert(9, '!')), signature, "no base64"),
            ("too large", large.signed_head(now), signature, "more than 4096 octets"),
            ("no certificate", head[1..].to_vec(), "CMGService_Invalid_Token", "has not shown"),
        ];
        let token = place.site.client(&own.identity);
        let mut client = place.client(None).await;
        for (name, fields, reason, why) in cases {
            for at in [(STS, RENEW), (MP, "/SMS_MP/x")] {
                let answer = ask(&mut client, at, &token, &fields).await;
                assert_eq!((answer.status(), answer.reason()), (401, Some(reason)), "{name}");
                let id = answer.message_id().to_owned();
                drop(answer);
                until(|| !logs.with(&["relay::access", &id]).is_empty()).await;
                let line = logs.with(&["relay::access", &id, "unproven"]).concat();
                assert!(line.contains(why), "{name}: {line}");
            }
        }
        // Whoever is somebody is not let through with a signature that proves nothing.
        let bulk = place.site.bulk();
        let answer = ask(&mut client, (STS, REGISTER), &bulk, &own.signed_head(now - 700)).await;
        assert_eq!((answer.status(), answer.reason()), (401, Some(signature)));
        assert!(place.service.seen().is_empty() && place.backend.seen().is_empty());
        assert!(logs.with(&[&head[0].1]).is_empty() && logs.with(&[&head[1].1]).is_empty());
    })
    .await;
}

#[tokio::test]
async fn the_largest_certificate_that_may_be_shown_is_told_whole() {
    within(async {
        let place = Place::new().await;
        let largest = SigningClient::of_octets(4096);
        let token = place.site.client(&largest.identity);
        for (shows, head) in
            [(None, largest.signed_head(now())), (Some(&largest.identity), Vec::new())]
        {
            let mut client = place.client(shows).await;
            assert_eq!(ask(&mut client, (STS, RENEW), &token, &head).await.status(), 200);
            assert_eq!(client_certs(&place.last_seen().headers), told(largest.der()));
        }
    })
    .await;
}

#[tokio::test]
async fn a_signed_timestamp_that_was_heard_is_of_no_use_for_long() {
    within(async {
        let place = Place::new().await;
        let signing = SigningClient::new();
        let token = place.site.client(&signing.identity);
        let mut client = place.client(None).await;
        // However slow this is: 64 times at most, and for five seconds at most.
        let head = signing.signed_head(now());
        let mut passed = 0;
        for _ in 0..65 {
            let answer = ask(&mut client, (STS, RENEW), &token, &head).await;
            if answer.status() == 200 {
                passed += 1;
                continue;
            }
            assert_eq!(answer.reason(), Some("CMGService_Invalid_Signature"));
        }
        assert!((1..=64).contains(&passed), "{passed}");
        assert_eq!(ask(&mut client, (STS, RENEW), &token, &head).await.status(), 401);
        assert_eq!(place.service.seen().len(), passed);
        let later = signing.signed_head(now() + 1);
        assert_eq!(ask(&mut client, (STS, RENEW), &token, &later).await.status(), 200);
    })
    .await;
}

#[tokio::test]
async fn a_hundred_exchanges_at_once_are_answered_each_with_its_own() {
    within(async {
        let (local, service) = LocalBackend::start(|request: Request<_>| async move {
            let body: hyper::body::Incoming = request.into_body();
            Response::new(full(body.collect().await.unwrap().to_bytes()))
        });
        let place = Place::with(local, service).await;
        let token = HeaderValue::try_from(format!("Bearer {}", place.site.entra())).unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..100 {
            let mut client = place.client(None).await;
            let target = format!("/CCM_Proxy_ServerAuth/{STS}{EXCHANGE}");
            let mut request = with_body("CCM_POST", &target, full(octets(number, 5000)));
            request.headers_mut().insert("authorization", token.clone());
            tasks.spawn(async move { (number, client.ask(request).await) });
        }
        while let Some(answered) = tasks.join_next().await {
            let (number, answer) = answered.unwrap();
            assert_eq!((answer.status(), answer.body), (200, octets(number, 5000)));
        }
        assert_eq!(place.service.seen().len(), 100);
    })
    .await;
}

#[tokio::test]
async fn bodies_stream_through_the_pipe_both_ways_at_once() {
    within(async {
        // What comes in goes out, far more than a pipe holds.
        let (local, service) = LocalBackend::start(|request: Request<_>| async move {
            let body: hyper::body::Incoming = request.into_body();
            Response::new(body.map_err(std::io::Error::other).boxed())
        });
        let place = Place::with(local, service).await;
        let mut client = place.client(None).await;
        let (feed, body) = fed();
        let target = format!("/CCM_Proxy_ServerAuth/{STS}{EXCHANGE}");
        let mut request = with_body("POST", &target, body);
        let token = format!("Bearer {}", place.site.entra());
        request.headers_mut().insert("authorization", token.parse().unwrap());
        let chunk = |number| octets(number, 16 << 10);
        feed.send(chunk(0)).await.unwrap();
        let mut answer = client.send(request).await.unwrap().into_body();
        // Not the client's chunks, but its octets, before there are more.
        let mut heard = Vec::new();
        for number in 0..64 {
            while heard.len() < chunk(number).len() {
                heard.extend_from_slice(
                    &answer.frame().await.unwrap().unwrap().into_data().unwrap(),
                );
            }
            assert_eq!(heard, chunk(number));
            heard.clear();
            let next = if number < 63 { chunk(number + 1) } else { Bytes::new() };
            feed.send(next).await.unwrap();
        }
        assert!(answer.frame().await.is_none(), "the end");
    })
    .await;
}

#[tokio::test]
async fn a_service_that_nobody_serves_is_an_unreachable_backend() {
    within(async {
        let place = Place::new().await;
        let (local, connections) = LocalService::new();
        drop(connections);
        place.point.update(place.update(local)).unwrap();
        let token = place.site.entra();
        let mut client = place.client(None).await;
        let answer = ask(&mut client, (STS, EXCHANGE), &token, &[]).await;
        let told = (answer.status(), answer.reason());
        assert_eq!(told, (502, Some("CMGConnector_Backend_Unreachable")));
        assert!(!String::from_utf8_lossy(&answer.body).contains("local"), "{:?}", answer.body);
        let status = place.point.status();
        let shown = status.backends.iter().find(|it| it.endpoint == "token-service").unwrap();
        assert_eq!((shown.url.to_string().as_str(), shown.failures), ("local", 1));
        assert_eq!(shown.state, BackendState::Up, "one failure is none");
        assert!(shown.why.as_ref().unwrap().contains("nobody serves it"), "{:?}", shown.why);
        // Another in its place is reached at once.
        let (local, service) = LocalBackend::start(|_| async { Response::new(full("here")) });
        place.point.update(place.update(local)).unwrap();
        assert_eq!(ask(&mut client, (STS, EXCHANGE), &token, &[]).await.status(), 200);
        assert_eq!(service.seen().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn an_exchange_that_is_held_holds_no_other_and_ends_with_the_service() {
    within(async {
        static HELD: Semaphore = Semaphore::const_new(0);
        let (local, service) = LocalBackend::start(|request: Request<_>| async move {
            if request.uri().path() == RENEW {
                HELD.add_permits(1);
                std::future::pending::<()>().await;
            }
            Response::new(empty())
        });
        let place = Place::with(local, service).await;
        let token = place.site.entra();
        let (mut first, mut second) = (place.client(None).await, place.client(None).await);
        let held = token.clone();
        let held = tokio::spawn(async move { ask(&mut first, (STS, RENEW), &held, &[]).await });
        HELD.acquire().await.unwrap().forget();
        for _ in 0..8 {
            assert_eq!(ask(&mut second, (STS, EXCHANGE), &token, &[]).await.status(), 200);
        }
        assert!(!held.is_finished());
        let Place { service, .. } = place;
        drop(service);
        let answer = held.await.unwrap();
        assert_eq!((answer.status(), answer.reason()), (502, Some("CMGConnector_Bad_Gateway")));
        let answer = ask(&mut second, (STS, EXCHANGE), &token, &[]).await;
        assert_eq!(answer.reason(), Some("CMGConnector_Backend_Unreachable"));
    })
    .await;
}
