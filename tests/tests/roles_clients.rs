//! Who clients are, asked of them by a gateway instance: what each method finds, what a client is
//! told that none has found out, and that nothing of such a client reaches the site.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use http::{HeaderValue, Response, StatusCode};
use relay_core::auth::{Guid, Method, Methods, Strictness};
use relay_core::connection_point::{ConnectionPoint, SiteEndpoint, Update};
use relay_core::gateway::Gateway;
use relay_core::policy::Access;
use relay_core::settings::{ClientTrust, ListSource, Revocation};
use relay_core::transport::Identity;
use relay_tests::client::{Answer, Client, Http, bare};
use relay_tests::clients::{ClientSite, self_signed, self_signed_authority, showing};
use relay_tests::roles::{House, Joined, until, within};
use relay_tests::site::{Backend, full};
use relay_tests::tokens::{SOMEBODY, TENANT};

/// Every set of methods, in the usual order.
fn allowed() -> [Methods; 7] {
    use Method::{Certificate, Entra, SiteToken};
    let of = |list: &[Method]| Methods::new(list).unwrap();
    [
        of(&[Entra]),
        of(&[Certificate]),
        of(&[SiteToken]),
        of(&[Entra, Certificate]),
        of(&[Entra, SiteToken]),
        of(&[Certificate, SiteToken]),
        of(&[Entra, Certificate, SiteToken]),
    ]
}

/// Both roles before a backend, with an endpoint for each of [`allowed`].
struct Place {
    house: House,
    site: ClientSite,
    backend: Backend,
    gateway: Gateway,
    point: ConnectionPoint,
    _joined: Joined,
}

impl Place {
    async fn of(site: ClientSite, trust: ClientTrust) -> Self {
        let backend = Backend::start(|_| async { Response::new(full("from the site")) }).await;
        let mut house = House::before(backend.address);
        house.clients = Some(trust.clone());
        let gateway = house.gateway(1);
        let point = house.connection_point(vec![]);
        let joined = relay_tests::roles::join(&gateway, &point).await;
        let place = Self { house, site, backend, gateway, point, _joined: joined };
        place.publish(2, trust).await;
        place
    }

    /// Publishes whose clients count, and waits until that is in force.
    async fn publish(&self, version: u64, trust: ClientTrust) {
        let endpoints = (1..).zip(allowed()).map(|(role_id, methods)| {
            let SiteEndpoint { mut endpoint, backend } = self.house.site_endpoint();
            (endpoint.name, endpoint.role_id) = (format!("mp-{role_id}"), role_id);
            endpoint.access = Access::Clients(methods);
            SiteEndpoint { endpoint, backend }
        });
        let update = Update {
            gateways: vec![],
            endpoints: endpoints.collect(),
            tenants: vec![],
            clients: Some(trust),
            settings_version: version,
        };
        self.point.update(update).unwrap();
        let applied = || {
            let sites = self.gateway.settings().sites;
            sites.iter().any(|it| it.applied.as_ref().is_some_and(|it| it.version == version))
        };
        until(applied).await;
    }

    async fn client(&self, shows: Option<&Identity>, http: Http) -> Client {
        Client::join_with(&self.gateway, &showing(&self.house.ca, shows), http).await
    }
}

/// Asks the endpoint with this role id, showing `token`.
async fn ask(client: &mut Client, role_id: usize, token: Option<&str>) -> Answer {
    let path = format!("/CCM_Proxy_ServerAuth/{role_id}/SMS_MP/x");
    let mut request = bare("GET", &path);
    if let Some(token) = token {
        let value = HeaderValue::try_from(format!("Bearer {token}")).unwrap();
        request.headers_mut().insert("authorization", value);
    }
    client.ask(request).await
}

/// What one method finds in what a client shows.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Finds {
    Nothing,
    Proof,
    Fault,
}

/// The token that is bound to the self-signed certificate which is shown in the matrix.
const OWN: &str = "own";

/// What is told of a token that proves nothing.
const INVALID_TOKEN: (u16, &str) = (401, "CMGService_Invalid_Token");

/// What the matrix says that a client is answered.
fn expected(
    methods: Methods,
    strictness: Strictness,
    token: &Token,
    certificate: Finds,
) -> (u16, Option<&'static str>) {
    let mut told = (401, "CMGService_No_Credential");
    if token.text.is_some() {
        told = INVALID_TOKEN;
    }
    let mut worst = 0;
    for method in methods.iter() {
        let (finds, weight, answer) = match method {
            Method::Entra => (token.entra, 2, INVALID_TOKEN),
            Method::Certificate => (certificate, 1, (401, "CMGService_Invalid_Certificate")),
            Method::SiteToken if token.is_bulk => {
                (token.site, 3, (403, "CMGService_Registration_Only"))
            }
            Method::SiteToken => (token.site, 2, INVALID_TOKEN),
        };
        match finds {
            Finds::Nothing => {}
            Finds::Proof => return (200, None),
            Finds::Fault => {
                // A token that proves nothing is told of before a certificate that does not.
                if worst < weight && (token.text.is_none() || weight > 1) {
                    (worst, told) = (weight, answer);
                }
                if strictness == Strictness::Refuse {
                    break;
                }
            }
        }
    }
    (told.0, Some(told.1))
}

/// A token, and what the two methods that read tokens find in it.
#[derive(Clone)]
struct Token {
    name: &'static str,
    text: Option<String>,
    entra: Finds,
    site: Finds,
    is_bulk: bool,
}

impl Token {
    /// As it is beside a certificate. The one that it is bound to proves nothing by itself; where
    /// tokens of the site count it is there for the token alone.
    fn beside(&self, certificate: Finds, methods: Methods) -> (Self, Finds) {
        if self.name != OWN || certificate != Finds::Fault {
            return (self.clone(), certificate);
        }
        let token = Self { text: self.text.clone(), site: Finds::Proof, ..*self };
        let counts = methods.contains(Method::SiteToken);
        (token, if counts { Finds::Nothing } else { certificate })
    }
}

fn tokens(site: &ClientSite, own: &Identity) -> [Token; 9] {
    use Finds::{Fault, Nothing, Proof};
    let of = |name, text: Option<String>, entra, site| Token {
        name,
        text,
        entra,
        site,
        is_bulk: name == "bulk",
    };
    let published = "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiIsIng1dCI6Ik9Tb1Z4In0.e30.AA";
    [
        of("none", None, Nothing, Nothing),
        of("entra", Some(site.entra()), Proof, Nothing),
        of("forged entra", Some(site.forged_entra()), Fault, Nothing),
        of("ccm", Some(site.ccm()), Nothing, Proof),
        of("expired ccm", Some(site.expired_ccm()), Nothing, Fault),
        of("bulk", Some(site.bulk()), Nothing, Fault),
        of("another's", Some(site.client(&self_signed())), Nothing, Fault),
        of("damaged", Some(published.to_owned()), Fault, Nothing),
        of(OWN, Some(site.client(own)), Nothing, Fault),
    ]
}

#[tokio::test]
async fn what_is_shown_and_what_is_allowed_decide_and_nothing_of_a_stranger_reaches_the_site() {
    for strictness in [Strictness::FallThrough, Strictness::Refuse] {
        within(matrix(strictness)).await;
    }
}

async fn matrix(strictness: Strictness) {
    let site = ClientSite::new();
    let trust = ClientTrust { strictness, ..site.trust() };
    let good = site.authority.connection_point("a device");
    let stranger = self_signed();
    let place = Place::of(site, trust).await;
    let tokens = tokens(&place.site, &stranger);
    let (mut asked, mut passed) = (0, 0);
    for (shows, certificate) in
        [(None, Finds::Nothing), (Some(&good), Finds::Proof), (Some(&stranger), Finds::Fault)]
    {
        for http in Http::BOTH {
            let mut client = place.client(shows, http).await;
            for (role_id, methods) in (1..).zip(allowed()) {
                for token in &tokens {
                    let answer = ask(&mut client, role_id, token.text.as_deref()).await;
                    let told = (answer.status(), answer.reason());
                    let (with, beside) = token.beside(certificate, methods);
                    let wanted = expected(methods, strictness, &with, beside);
                    let shown = (token.name, shows.is_some(), role_id, strictness);
                    assert_eq!(told, wanted, "{shown:?}: {:?}", answer.body);
                    let challenge = answer.parts.headers.contains_key("www-authenticate");
                    assert_eq!(challenge, wanted.0 != 200, "RFC 9110, section 15.5.2");
                    asked += 1;
                    passed += usize::from(wanted.0 == 200);
                }
            }
        }
    }
    assert_eq!((asked, place.backend.seen().len()), (3 * 2 * 7 * 9, passed));
    assert!(0 < passed && passed < asked, "{passed}");
}

#[tokio::test]
async fn a_client_shows_its_own_token_with_the_certificate_it_is_bound_to() {
    within(async {
        let site = ClientSite::new();
        let trust = site.trust();
        let place = Place::of(site, trust).await;
        let (own, other) = (self_signed(), self_signed());
        let token = place.site.client(&own);
        // Only the site's tokens count at this endpoint.
        for (shows, status) in [(Some(&own), 200), (Some(&other), 401), (None, 401)] {
            let mut client = place.client(shows, Http::Two).await;
            assert_eq!(ask(&mut client, 3, Some(&token)).await.status(), status);
        }
        assert_eq!(place.backend.seen().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn the_certificate_of_a_clients_own_token_is_no_fault_of_a_certificate() {
    within(async {
        let site = ClientSite::new();
        let trust = ClientTrust { strictness: Strictness::Refuse, ..site.trust() };
        let place = Place::of(site, trust).await;
        let counted = || {
            let all = place.gateway.status().proofs.into_iter().filter(|it| it.count > 0);
            all.map(|it| (it.method, it.outcome, it.count)).collect::<Vec<_>>()
        };
        for own in [self_signed(), self_signed_authority()] {
            let token = place.site.client(&own);
            let mut client = place.client(Some(&own), Http::Two).await;
            assert_eq!(ask(&mut client, 7, Some(&token)).await.status(), 200);
        }
        assert_eq!(counted(), [(Method::SiteToken, "proven", 2)]);
        // Beside another's token it is one, and whoever has signed a token that names it by itself
        // has proven nothing.
        let (own, other) = (self_signed(), self_signed());
        let mut client = place.client(Some(&own), Http::Two).await;
        let others = place.site.client(&other);
        assert_eq!(ask(&mut client, 7, Some(&others)).await.status(), 401);
        assert_eq!(counted()[0], (Method::Certificate, "untrusted", 1));
        let forged = place.site.forged_client(&own);
        let answer = ask(&mut client, 7, Some(&forged)).await;
        assert_eq!((answer.status(), answer.reason()), (401, Some(INVALID_TOKEN.1)));
        assert!(counted().contains(&(Method::SiteToken, "signature", 1)));
        assert_eq!(place.backend.seen().len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_block_holds_for_the_next_request_on_a_connection_that_is_open() {
    within(async {
        let site = ClientSite::new();
        let trust = site.trust();
        let place = Place::of(site, trust).await;
        let token = place.site.ccm();
        let mut client = place.client(None, Http::One).await;
        assert_eq!(ask(&mut client, 7, Some(&token)).await.status(), 200);
        let somebody: Guid = SOMEBODY.parse().unwrap();
        // By the token's name; by nobody's; by the client's name, which is the same here.
        for (version, blocked, status) in
            [(3, &[somebody][..], 401), (4, &[Guid(1)], 200), (5, &[Guid(1), somebody], 401)]
        {
            place.publish(version, place.site.trust_blocking(blocked)).await;
            let answer = ask(&mut client, 7, Some(&token)).await;
            assert_eq!(answer.status(), status, "{blocked:?}");
        }
        assert_eq!(place.backend.seen().len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_client_that_is_barred_is_refused_from_the_next_request_on_by_each_name_that_is() {
    within(async {
        let site = ClientSite::new();
        let device = site.authority.connection_point("a device");
        let trust = site.trust();
        let place = Place::of(site, trust).await;
        let own = self_signed();
        let (entra, ccm, token) = (place.site.entra(), place.site.ccm(), place.site.client(&own));
        let mut clients = [
            (place.client(None, Http::One).await, Some(entra.as_str())),
            (place.client(Some(&device), Http::Two).await, None),
            (place.client(None, Http::Two).await, Some(ccm.as_str())),
            (place.client(Some(&own), Http::One).await, Some(token.as_str())),
        ];
        let mut seen = 0;
        let somebody = format!("site-token:client {SOMEBODY}");
        let entra = format!("entra:device {SOMEBODY} with {SOMEBODY} of tenant {TENANT}");
        let by_token = format!("{somebody} by token {SOMEBODY}");
        let certificate = "certificate:CN=a device";
        for (version, barred, answers) in [
            (3, vec![], [200; 4]),
            (4, vec![certificate, &entra], [403, 403, 200, 200]),
            (5, vec![&somebody], [200, 200, 403, 403]),
            // Nobody's names: another method's, a part of one, a token's.
            (6, vec!["entra:CN=a device", "certificate:CN=a", &by_token], [200; 4]),
        ] {
            let barred = barred.into_iter().map(|it| it.parse().unwrap()).collect();
            place.publish(version, ClientTrust { barred, ..place.site.trust() }).await;
            for ((client, token), status) in clients.iter_mut().zip(answers) {
                let answer = ask(client, 7, *token).await;
                assert_eq!(answer.status(), status, "version {version}");
                let reason = (status == 403).then_some("CMGService_Client_Barred");
                assert_eq!(answer.reason(), reason);
                seen += usize::from(status == 200);
            }
        }
        assert_eq!(place.backend.seen().len(), seen, "nothing of them reaches the site");
    })
    .await;
}

#[tokio::test]
async fn a_certificate_that_is_taken_back_proves_nothing_on_its_open_connection_or_a_resumed_one() {
    within(async {
        let site = ClientSite::new();
        let device = site.authority.connection_point("a device");
        let other = site.authority.connection_point("another");
        let with = |revoked: &[&Identity], until_year| {
            let mut trust = site.trust();
            let list = site.authority.revoke(revoked, until_year);
            let list = ListSource::Der(list.to_vec().into());
            trust.certificates.as_mut().unwrap().revocation = Revocation::On(vec![list]);
            trust
        };
        let (all_good, revoked) = (with(&[&other], 3000), with(&[&device], 3000));
        let (over, none) = (with(&[], 2001), {
            let mut trust = site.trust();
            trust.certificates.as_mut().unwrap().revocation = Revocation::On(vec![]);
            trust
        });
        let place = Place::of(site, all_good.clone()).await;
        let tls = showing(&place.house.ca, Some(&device));
        let mut open = Client::join_with(&place.gateway, &tls, Http::One).await;
        assert_eq!(ask(&mut open, 2, None).await.status(), 200);
        // Without a list, or with one that is over, nobody can say that it holds.
        for (version, trust, status) in
            [(3, revoked, 401), (4, all_good.clone(), 200), (5, over, 401), (6, none, 401)]
        {
            place.publish(version, trust).await;
            let mut resumed = Client::join_with(&place.gateway, &tls, Http::One).await;
            for client in [&mut open, &mut resumed] {
                let answer = ask(client, 2, None).await;
                assert_eq!(answer.status(), status, "{version}");
                let reason = (status == 401).then_some("CMGService_Invalid_Certificate");
                assert_eq!(answer.reason(), reason);
            }
        }
        assert_eq!(place.backend.seen().len(), 3);
    })
    .await;
}

#[tokio::test]
async fn two_authorization_fields_and_other_schemes_prove_nothing() {
    within(async {
        let site = ClientSite::new();
        let trust = site.trust();
        let place = Place::of(site, trust).await;
        let mut client = place.client(None, Http::Two).await;
        let good = format!("Bearer {}", place.site.ccm());
        let too_long = format!("Bearer {}", "x".repeat(16 << 10));
        for fields in [
            vec![&*good, &*good],
            vec![&*good, "Bearer x"],
            vec!["Basic dXNlcjpwYXNz"],
            vec!["Negotiate YII="],
            vec!["Bearer"],
            vec!["Bearer a b"],
            vec![&*too_long],
        ] {
            let mut request = bare("GET", "/CCM_Proxy_ServerAuth/7/SMS_MP/x");
            for field in &fields {
                let value = HeaderValue::try_from(*field).unwrap();
                request.headers_mut().append("authorization", value);
            }
            let answer = client.ask(request).await;
            assert_eq!(answer.parts.status, StatusCode::UNAUTHORIZED, "{}", fields[0].len());
            assert_eq!(answer.reason(), Some(INVALID_TOKEN.1));
        }
        assert!(place.backend.seen().is_empty());
    })
    .await;
}

#[tokio::test]
async fn settings_by_which_no_client_could_be_judged_are_refused_and_those_before_hold() {
    within(async {
        let site = ClientSite::new();
        let trust = site.trust();
        let place = Place::of(site, trust).await;
        let mut broken = place.site.trust();
        broken.tokens.as_mut().unwrap().certificates = vec![vec![1, 2, 3].into()];
        let endpoints = vec![];
        let update = Update {
            gateways: vec![],
            endpoints,
            tenants: vec![],
            clients: Some(broken),
            settings_version: 9,
        };
        place.point.update(update).unwrap();
        let refused = || {
            let sites = place.gateway.settings().sites;
            sites.first().and_then(|it| it.refused.clone())
        };
        until(|| refused().is_some()).await;
        let refused = refused().unwrap();
        assert_eq!(refused.status, 400);
        let why = "whose clients count cannot be told: signer 1 of tokens: it is no certificate";
        assert_eq!(refused.reason, why);
        let token = place.site.ccm();
        let mut client = place.client(None, Http::One).await;
        // The connection point itself publishes these endpoints no more; the instance still does.
        assert_eq!(ask(&mut client, 7, Some(&token)).await.status(), 404);
        assert_eq!(ask(&mut client, 7, None).await.status(), 401);
    })
    .await;
}

#[tokio::test]
async fn methods_are_tried_in_the_order_that_the_site_publishes() {
    within(async {
        use Method::{Certificate, Entra, SiteToken};
        let site = ClientSite::new();
        let device = site.authority.connection_point("a device");
        let trust = site.trust();
        let place = Place::of(site, trust).await;
        let mut client = place.client(Some(&device), Http::Two).await;
        let entra = place.site.entra();
        let proven = |method| -> u64 {
            let all = place.gateway.status().proofs.into_iter();
            all.filter(|it| it.method == method && it.outcome == "proven").map(|it| it.count).sum()
        };
        for (version, order) in
            [(3, [Certificate, Entra, SiteToken]), (4, [Entra, Certificate, SiteToken])]
        {
            let methods = Methods::new(&order).unwrap();
            place.publish(version, ClientTrust { methods, ..place.site.trust() }).await;
            let before = [proven(order[0]), proven(order[1])];
            assert_eq!(ask(&mut client, 7, Some(&entra)).await.status(), 200);
            assert_eq!([proven(order[0]), proven(order[1])], [before[0] + 1, before[1]]);
        }
    })
    .await;
}
