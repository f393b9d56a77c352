//! The same table at a gateway instance: over TLS, by both versions of HTTP, by a clock that goes.
//! Each is refused and counted for its reason, and neither a link nor the site learns of any.

use std::collections::BTreeMap;

use http::{HeaderValue, Response};
use relay_core::connection_point::{BackendConfig, ConnectionPoint, SiteEndpoint, Update};
use relay_core::gateway::Gateway;
use relay_core::policy::{Access, EndpointKind};
use relay_core::settings::{ClientTrust, KeySource, TenantTrust};
use relay_core::transport::Identity;
use relay_tests::client::{Answer, Client as HttpClient, Http, bare, pipe_to, tls};
use relay_tests::clients::{self, ClientSite, self_signed, showing};
use relay_tests::roles::{House, Joined, SERVICE, join, until, within};
use relay_tests::site::{Backend, LocalBackend, full};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// Role ids of a management point and of the token service.
const MP: u64 = 1;
const STS: u64 = 2;

/// Both roles before a management point and a token service.
struct Place {
    house: House,
    gateway: Gateway,
    point: ConnectionPoint,
    backend: Backend,
    service: LocalBackend,
    /// What the client has, and what another one has.
    shown: [Option<Identity>; 3],
    _joined: Joined,
}

/// What [`trusting`] trusts, as a site publishes it.
fn trust(site: &ClientSite) -> ClientTrust {
    let mut trust = site.trust_blocking(&[BLOCKED.parse().unwrap()]);
    let provider = Signer::provider();
    let set = json!({"keys": [provider.jwk("key"), provider.jwk("other")]}).to_string();
    trust.tenants[0].keys = KeySource::Published(set.into());
    let disabled = TenantTrust { id: DISABLED, is_enabled: false, ..trust.tenants[0].clone() };
    trust.tenants.push(disabled);
    trust
}

impl Place {
    async fn new() -> Self {
        let from = |whom: &'static str| Response::new(full(whom));
        let (local, service) = LocalBackend::start(move |_| async move { from("the service") });
        let backend = Backend::start(move |_| async move { from("the site") }).await;
        let mut house = House::before(backend.address);
        house.clients = Some(trust(&ClientSite::new()));
        let (gateway, point) = (house.gateway(1), house.connection_point(vec![]));
        let joined = join(&gateway, &point).await;
        let own = self_signed();
        let of_own = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &own.chain()[0]);
        WORLD.set((clients::now(), of_own.as_ref().try_into().unwrap()));
        let shown = [Some(own), Some(self_signed()), None];
        let place = Self { house, gateway, point, backend, service, shown, _joined: joined };
        place.publish(BackendConfig::local(local)).await;
        place
    }

    async fn publish(&self, service: BackendConfig) {
        let of = |role_id: u64, kind, backend: Option<BackendConfig>| {
            let SiteEndpoint { mut endpoint, backend: usual } = self.house.site_endpoint();
            (endpoint.name, endpoint.role_id, endpoint.kind) = (role_id.to_string(), role_id, kind);
            endpoint.access = Access::Clients(Methods::default());
            SiteEndpoint { endpoint, backend: backend.unwrap_or(usual) }
        };
        let endpoints = vec![
            of(MP, EndpointKind::ManagementPoint, None),
            of(STS, EndpointKind::TokenService, Some(service)),
        ];
        let clients = self.house.clients.clone();
        let (gateways, tenants) = (vec![], vec![]);
        let update = Update { gateways, endpoints, tenants, clients, settings_version: 2 };
        self.point.update(update).unwrap();
        let applied = || {
            let sites = self.gateway.settings().sites;
            sites.iter().any(|it| it.applied.as_ref().is_some_and(|it| it.version == 2))
        };
        until(applied).await;
    }

    /// A connection of whoever has each of [`Place::shown`].
    async fn clients(&self, http: Http) -> [HttpClient; 3] {
        let [own, other, none] = self.shown.each_ref().map(Option::as_ref);
        let join = async |shows| {
            HttpClient::join_with(&self.gateway, &showing(&self.house.ca, shows), http).await
        };
        [join(own).await, join(other).await, join(none).await]
    }

    /// What was found of tokens, by either method.
    fn found(&self) -> BTreeMap<&'static str, u64> {
        let mut found = BTreeMap::new();
        for it in self.gateway.status().proofs {
            if it.method != Method::Certificate && it.count > 0 {
                *found.entry(it.outcome).or_default() += it.count;
            }
        }
        found
    }

    /// What went over the link, and what came out of it.
    fn relayed(&self) -> ([u64; 4], usize) {
        let links = self.gateway.status().links;
        let [link] = &links[..] else { panic!("there is one link: {links:?}") };
        let it = link.stats.mux;
        let seen = self.backend.seen().len() + self.service.seen().len();
        ([it.streams_opened, it.streams_accepted, it.payload_sent, it.payload_received], seen)
    }

    /// Whether a good token of each kind is let in, so that each of the others might be.
    async fn lets_good_ones_in(&self) {
        for http in Http::BOTH {
            let mut clients = self.clients(http).await;
            for kind in KINDS {
                let good = case("good", kind, &kind.good(), TokenFault::Malformed);
                let answer = ask(&mut clients, &good).await;
                assert_eq!(answer.status(), 200, "{kind:?}: {:?}", answer.reason());
            }
        }
    }
}

/// Verb and path of what a case is about.
fn asked(case: &Case) -> (&'static str, String) {
    match case.purpose {
        Use::Traffic => ("GET", format!("/CCM_Proxy_ServerAuth/{MP}/SMS_MP/x")),
        _ => ("CCM_POST", format!("/CCM_Proxy_ServerAuth/{STS}/CCM_STS/register")),
    }
}

/// Shows what is in a case over the connection that shows its certificate.
async fn ask([own, other, none]: &mut [HttpClient; 3], case: &Case) -> Answer {
    let client = match &case.possessed[..] {
        [] => none,
        it if it.contains(&certificate()) => own,
        _ => other,
    };
    let (verb, path) = asked(case);
    let mut request = bare(verb, &path);
    for field in &case.fields {
        let value = HeaderValue::from_bytes(field).unwrap();
        request.headers_mut().append("authorization", value);
    }
    client.ask(request).await
}

/// Shows octets that no library sends; the first line of the answer.
async fn ask_by_hand(place: &Place, case: &Case) -> String {
    let mut stream = tls(pipe_to(&place.gateway), &place.house.ca, b"http/1.1").await;
    let (verb, path) = asked(case);
    let head = format!("{verb} {path} HTTP/1.1\r\nHost: {SERVICE}\r\nAuthorization: ");
    let octets = [head.as_bytes(), &case.fields[0], b"\r\n\r\n"].concat();
    stream.write_all(&octets).await.unwrap();
    let mut answer = Vec::new();
    // However the connection ends.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
}

/// What a field comes to: blanks around a value are no part of it. RFC 9110, section 5.5.
fn is_sent_as_it_is(case: &Case) -> bool {
    case.fields.iter().all(|field| field.trim_ascii() == field)
}

/// What an instance makes of a case, where that is not the one fault that the table names.
async fn fault_of(place: &Place, clients: &mut [HttpClient; 3], case: &Case) -> Option<String> {
    let known = place.found();
    let answer = ask(clients, case).await;
    let mut found = place.found();
    found.retain(|name, count| known.get(name) != Some(count));
    let status = if case.why == TokenFault::RegistrationOnly { 403 } else { 401 };
    let reasons: Vec<_> = found.into_keys().collect();
    let is_right = answer.status() == status && reasons == [case.why.name()];
    (!is_right).then(|| format!("{:?}", (answer.status(), reasons, case.why.name())))
}

#[tokio::test]
async fn no_hostile_token_gets_past_a_gateway_and_nothing_of_any_goes_over_a_link() {
    within(async {
        let place = Place::new().await;
        place.lets_good_ones_in().await;
        let before = place.relayed();
        assert_eq!(before.1, 2 * KINDS.len());
        let is_value =
            |case: &Case| case.fields.iter().all(|it| HeaderValue::from_bytes(it).is_ok());
        let (cases, others): (Vec<_>, Vec<_>) = table().into_iter().partition(is_value);
        let (mut shown, mut faults) = (0, Vec::new());
        for http in Http::BOTH {
            let mut clients = place.clients(http).await;
            for case in cases.iter().filter(|it| is_sent_as_it_is(it)) {
                let fault = fault_of(&place, &mut clients, case).await;
                faults.extend(fault.map(|it| format!("{}, {http:?}: {it}", case.name)));
                shown += 1;
            }
        }
        assert!(faults.is_empty(), "of {shown}:\n{}", faults.join("\n"));
        assert!(shown >= 2 * 600, "{shown}");
        assert!(!others.is_empty());
        for case in &others {
            let answer = ask_by_hand(&place, case).await;
            assert!(answer.starts_with("HTTP/1.1 400 CMGService_"), "{}: {answer}", case.name);
        }
        assert_eq!(place.relayed(), before);
        place.lets_good_ones_in().await;
    })
    .await;
}
