//! The two roles on an in-memory network, and peers that break the rules.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a failed step of a test's set-up is a failed test"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Uri};
use relay_core::connection_point::{
    BackendConfig, CertificateIssuer, ConnectionPoint, ConnectionPointConfig,
    ConnectionPointLimits, GatewayAddress, LinkEnded, SiteEndpoint,
};
use relay_core::exchange::{AnswerHead, Assertions, Count, HeadLimits, MessageId, RequestHead};
use relay_core::fetched::FetchConfig;
use relay_core::gateway::{
    Balance, CertificateKeeper, ContentStore, Gateway, GatewayConfig, GatewayLimits, LinkRefused,
};
use relay_core::link::{self, DrainReport, End, Link, RecvStream, SendStream};
use relay_core::mux::{Config, LinkError, Side};
use relay_core::policy::{Access, Endpoint, EndpointKind, RequestHeaders};
use relay_core::settings::{ClientTrust, SettingsDocument, Tenant};
use relay_core::transport::{
    Instance, Network, TrustAnchors, WebProxy, accept_link, backend_client_config,
    client_edge_config_asking, link_client_config, link_server_config, secure_link,
};
use rustls::pki_types::CertificateRevocationListDer;
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;

use crate::pki::SiteCa;

/// The service's name.
pub const SERVICE: &str = "relay.test";

/// The site of connection points.
pub const SITE: &str = "default";
/// The name of a connection point that is in a test's hands.
pub const ROGUE: &str = "rogue";

/// Role id of the management point that [`House::before`] publishes.
pub const ROLE: u64 = 7;

/// Octets that an in-memory connection holds in each direction.
pub const PIPE: usize = 64 << 10;

/// No test takes this long; only a hang does. Above every default limit of the roles, because a
/// paused clock goes through those.
const HANG: Duration = Duration::from_secs(100);

/// Runs a test, which fails if it hangs.
pub fn within<'a, T>(test: impl Future<Output = T> + 'a) -> Pin<Box<dyn Future<Output = T> + 'a>> {
    Box::pin(async { tokio::time::timeout(HANG, test).await.expect("the test hangs") })
}

/// Waits, without sleeping, until `condition` holds.
pub async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

/// `path` of the management point, as clients write it.
pub fn target(path: &str) -> String {
    format!("/CCM_Proxy_MutualAuth/{ROLE}{path}")
}

/// What both roles of a site are made from. The fields are to be changed before the roles are made.
#[derive(Debug)]
pub struct House {
    /// The site's authority.
    pub ca: SiteCa,
    /// What the authority has taken back; `None` if nobody asks.
    pub revoked: Option<CertificateRevocationListDer<'static>>,
    /// What is published, and the address behind it.
    pub endpoint: (Endpoint, SocketAddr),
    /// What is behind it in place of that address, if something is.
    pub backend: Option<BackendConfig>,
    /// Which network connection points dial on; the system's by default.
    pub network: Network,
    /// The site of connection points, and the version of its settings.
    pub settings: (String, u64),
    /// The tenants that are published.
    pub tenants: Vec<Tenant>,
    /// Whose clients count, and how endpoints are to be used.
    pub clients: Option<ClientTrust>,
    /// What gateways know from their start.
    pub initial: Vec<SettingsDocument>,
    /// How gateways pick a link.
    pub balance: Balance,
    /// Limits of gateways.
    pub gateway_limits: GatewayLimits,
    /// Limits of connection points.
    pub connection_point_limits: ConnectionPointLimits,
    /// The web proxy of connection points.
    pub web_proxy: Option<WebProxy>,
    /// What keeps the link certificate of gateways, if something does.
    pub keeper: Option<Arc<dyn CertificateKeeper>>,
    /// How gateways fetch, if they do.
    pub fetch: Option<FetchConfig>,
    /// Where gateways have content, if they do.
    pub content: Option<Arc<dyn ContentStore>>,
    /// What signs certificates at connection points, if something does.
    pub issuer: Option<Arc<dyn CertificateIssuer>>,
    /// Connection points made so far: each has a name of its own.
    points: AtomicUsize,
}

impl House {
    /// A site with one management point at `backend`.
    pub fn before(backend: SocketAddr) -> Self {
        let endpoint = Endpoint {
            name: "mp".to_owned(),
            kind: EndpointKind::ManagementPoint,
            role_id: ROLE,
            paths: None,
            request_body_bytes_max: None,
            request_headers: RequestHeaders::Open,
            access: Access::Anonymous,
        };
        let mut connection_point_limits = ConnectionPointLimits::default();
        connection_point_limits.redial_first = Duration::from_millis(1);
        connection_point_limits.dial_pace = Duration::ZERO;
        connection_point_limits.links_per_instance = 1;
        Self {
            ca: SiteCa::new(),
            revoked: None,
            endpoint: (endpoint, backend),
            backend: None,
            network: Network::default(),
            settings: (SITE.to_owned(), 1),
            tenants: Vec::new(),
            clients: None,
            initial: Vec::new(),
            balance: Balance::default(),
            gateway_limits: GatewayLimits::default(),
            connection_point_limits,
            web_proxy: None,
            keeper: None,
            fetch: None,
            content: None,
            issuer: None,
            points: AtomicUsize::new(0),
        }
    }

    /// Whom both sides of a link trust.
    fn anchors(&self) -> TrustAnchors {
        self.ca.anchors().with_revoked(self.revoked.clone())
    }

    /// A gateway instance.
    pub fn gateway(&self, instance: u64) -> Gateway {
        let identity = self.ca.server(SERVICE);
        Gateway::new(GatewayConfig {
            service: SERVICE.to_owned(),
            instance: Instance::new(instance).unwrap(),
            initial: self.initial.clone(),
            client_tls: client_edge_config_asking(&identity).unwrap(),
            link_tls: link_server_config(&identity, &self.anchors()).unwrap(),
            certificate_keeper: self.keeper.clone(),
            fetch: self.fetch.clone(),
            content: self.content.clone(),
            balance: self.balance.clone(),
            limits: self.gateway_limits.clone(),
        })
    }

    /// A connection point that [`ConnectionPoint::run`] has dial `gateways`.
    pub fn connection_point(&self, gateways: Vec<GatewayAddress>) -> ConnectionPoint {
        let name = format!("cp-{}", self.points.fetch_add(1, Ordering::Relaxed) + 1);
        let identity = self.ca.connection_point(&name);
        ConnectionPoint::new(ConnectionPointConfig {
            name,
            site: self.settings.0.clone(),
            settings_version: self.settings.1,
            gateways,
            link_tls: link_client_config(&identity, &self.anchors()).unwrap(),
            https_tls: backend_client_config(&self.ca.anchors()).unwrap(),
            certificate_issuer: self.issuer.clone(),
            endpoints: vec![self.site_endpoint()],
            tenants: self.tenants.clone(),
            clients: self.clients.clone(),
            limits: self.connection_point_limits.clone(),
            web_proxy: self.web_proxy.clone(),
            network: self.network.clone(),
        })
        .unwrap()
    }

    /// What is published, and where it leads.
    pub fn site_endpoint(&self) -> SiteEndpoint {
        let url = Uri::try_from(format!("http://{}", self.endpoint.1)).unwrap();
        let backend = self.backend.clone().unwrap_or_else(|| BackendConfig::new(url, None));
        SiteEndpoint { endpoint: self.endpoint.0.clone(), backend }
    }

    /// What connection points publish.
    pub fn document(&self) -> SettingsDocument {
        let (site, version) = self.settings.clone();
        let endpoints = vec![self.endpoint.0.clone()];
        let (tenants, deadlines) = (self.tenants.clone(), Vec::new());
        SettingsDocument {
            site,
            version,
            endpoints,
            tenants,
            deadlines,
            clients: self.clients.clone(),
        }
    }

    /// Both roles and a link between them.
    pub async fn joined(&self) -> (Gateway, Joined) {
        let gateway = self.gateway(1);
        let joined = join(&gateway, &self.connection_point(Vec::new())).await;
        (gateway, joined)
    }

    /// A link to `gateway` whose far end is in the test's hands, and which has published the
    /// house's settings.
    pub async fn rogue_connection_point(&self, gateway: &Gateway, config: Config) -> Rogue {
        let rogue = self.silent_connection_point(gateway, config).await;
        let answer = publish(&rogue.link, self.document().encode().unwrap()).await;
        assert!(answer.status.is_success(), "{answer:?}");
        rogue
    }

    /// A link to `gateway` whose far end is in the test's hands, and which has published nothing.
    /// It says that it stands in the house's site unless `config` names another. It has a
    /// certificate in the name that `config` gives it, [`ROGUE`] if none.
    pub async fn silent_connection_point(&self, gateway: &Gateway, mut config: Config) -> Rogue {
        if config.site.is_empty() {
            config.site.clone_from(&self.settings.0);
        }
        if config.name.is_empty() {
            ROGUE.clone_into(&mut config.name);
        }
        let before = gateway.links();
        let (near, far) = tokio::io::duplex(PIPE);
        tokio::spawn(serve_link(gateway.clone(), near));
        let identity = self.ca.connection_point(&config.name);
        let tls = link_client_config(&identity, &self.ca.anchors()).unwrap();
        let stream = secure_link(far, SERVICE, tls).await.unwrap();
        let (link, driver) = link::new(stream, Side::Dialer, config).unwrap();
        let driver = tokio::spawn(driver);
        until(|| gateway.links() > before).await;
        Rogue { link, driver }
    }

    /// A link of `connection_point` whose gateway end is in the test's hands.
    pub async fn rogue_gateway(&self, connection_point: &ConnectionPoint) -> Rogue {
        let (near, far) = tokio::io::duplex(PIPE);
        let connection_point = connection_point.clone();
        tokio::spawn(async move { connection_point.serve_link(far, &address(1, 0)).await });
        let tls = link_server_config(&self.ca.server(SERVICE), &self.ca.anchors()).unwrap();
        let stream = accept_link(near, tls, HANG).await.unwrap();
        let config = Config { accept_streams_max: 16, open_streams_max: 1024, ..Config::default() };
        let (link, driver) = link::new(stream, Side::Listener, config).unwrap();
        let driver = tokio::spawn(driver);
        link.established().await.unwrap();
        Rogue { link, driver }
    }
}

/// A gateway instance on loopback.
pub fn address(instance: u64, port: u16) -> GatewayAddress {
    GatewayAddress {
        instance: Instance::new(instance).unwrap(),
        host: "127.0.0.1".to_owned(),
        tcp_tls_port: Some(port),
        quic_port: None,
        https_port: None,
        only: None,
        server_name: SERVICE.to_owned(),
        https_name: SERVICE.to_owned(),
    }
}

/// One end of a link that obeys no rule but the protocol's. Dropping it leaves the link alone.
#[derive(Debug)]
pub struct Rogue {
    /// The link.
    pub link: Link,
    driver: JoinHandle<LinkError>,
}

impl Rogue {
    /// Ends the connection without a word.
    pub fn lose(&self) {
        self.driver.abort();
    }
}

/// A link between two roles.
#[derive(Debug)]
pub struct Joined {
    /// The gateway's side.
    pub at_gateway: JoinHandle<Result<(), LinkRefused>>,
    /// The connection point's side.
    pub at_site: JoinHandle<Result<DrainReport, LinkEnded>>,
}

impl Joined {
    /// Ends the connection without a word, from the site's side.
    pub fn lose(&self) {
        self.at_site.abort();
    }
}

async fn serve_link(gateway: Gateway, pipe: DuplexStream) -> Result<(), LinkRefused> {
    gateway.serve_link(pipe).await
}

/// Whether `gateway` knows of any site what it publishes.
pub fn has_settings(gateway: &Gateway) -> bool {
    gateway.settings().sites.iter().any(|site| site.applied.is_some())
}

/// What a role has counted, without what has not happened.
pub fn counted(counts: Vec<Count>) -> BTreeMap<&'static str, u64> {
    counts.into_iter().filter(|it| it.count > 0).map(|it| (it.name, it.count)).collect()
}

/// What of `now` has been counted since a role had counted `before`.
pub fn counted_since(
    before: &BTreeMap<&str, u64>,
    mut now: BTreeMap<&'static str, u64>,
) -> BTreeMap<&'static str, u64> {
    for (name, count) in &mut now {
        *count -= before.get(name).unwrap_or(&0);
    }
    now.retain(|_, count| *count > 0);
    now
}

/// Sends `document` over a link as a connection point does. Returns the head of the answer.
pub async fn publish(link: &Link, document: impl Into<Bytes>) -> AnswerHead {
    tell(link, Method::PUT, "/relay/settings", document).await
}

/// Has a whole exchange over a link from the site's side. Returns the head of the answer.
pub async fn tell(
    link: &Link,
    method: Method,
    target: &'static str,
    body: impl Into<Bytes>,
) -> AnswerHead {
    let (mut send, recv) = begin_telling(link, method, target).await;
    // Whoever refuses it early wants no more of it.
    if send.write_chunk(body.into()).await.is_ok() {
        let _ = send.finish();
    }
    told(recv).await
}

/// Begins an exchange over a link from the site's side.
pub async fn begin_telling(
    link: &Link,
    method: Method,
    target: &'static str,
) -> (SendStream, RecvStream) {
    let target = PathAndQuery::from_static(target);
    let assertions = Assertions::new(MessageId([7; 16]));
    let head = RequestHead { method, target, headers: HeaderMap::new(), assertions };
    link.open(head.encode(&HeadLimits::default()).unwrap(), End::More).await.unwrap()
}

/// The head of what a gateway answers.
pub async fn told(mut recv: RecvStream) -> AnswerHead {
    AnswerHead::decode(recv.head().await.unwrap().block, &HeadLimits::default()).unwrap()
}

/// Links two roles in memory and waits until the link is up and the gateway has settings.
pub async fn join(gateway: &Gateway, connection_point: &ConnectionPoint) -> Joined {
    let before = gateway.links();
    let (near, far) = tokio::io::duplex(PIPE);
    let at_gateway = tokio::spawn(serve_link(gateway.clone(), near));
    let connection_point = connection_point.clone();
    let to = address(gateway.status().instance.number().into(), 0);
    let at_site = tokio::spawn(async move { connection_point.serve_link(far, &to).await });
    until(|| gateway.links() > before && has_settings(gateway)).await;
    Joined { at_gateway, at_site }
}
