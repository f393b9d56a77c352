//! The relay inside the demonstration: gateway instances and connection points in this process.
//!
//! [`start_relay`] is the one place where the demonstration touches the two roles.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use http::Uri;
use relay_core::auth::Methods;
use relay_core::connection_point::{
    BackendConfig, ConnectionPoint, ConnectionPointConfig, ConnectionPointLimits, GatewayAddress,
    SiteEndpoint, Update,
};
use relay_core::gateway::{Balance, Gateway, GatewayConfig, GatewayLimits, Listeners};
use relay_core::policy::{Access, Endpoint, EndpointKind, RequestHeaders};
use relay_core::transport::{
    Instance, Listener, Network, QuicListener, backend_client_config, client_edge_config_asking,
    link_client_config, link_server_config,
};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Transport;
use super::members::Members;
use super::session::{Carried, Links, Membership};
use super::site::Site;
use crate::pki::SiteCa;

/// The service's name: in the client's URL and in every server certificate.
pub(crate) const HOST: &str = "localhost";

/// Role id of the management point; the size of number that real sites have.
pub(crate) const MP_ROLE: u64 = 72_057_594_037_927_939;

/// Role id of the software update point.
pub(crate) const SUP_ROLE: u64 = 72_057_594_037_927_941;

/// Connection points, each with links to every instance.
pub(crate) const CONNECTION_POINTS: u8 = 2;

/// How long requests in flight have to end when the demonstration stops; nobody waits for them.
const DRAIN_WITHIN: Duration = Duration::from_secs(2);

/// The running relay. Dropping it ends its tasks at once; [`RunningRelay::stop`] drains.
#[derive(Debug)]
pub(crate) struct RunningRelay {
    /// Where each instance listens for clients, instance 1 first.
    pub clients: Vec<SocketAddr>,
    /// How a client becomes one of the site.
    pub membership: Membership,
    gateways: Vec<Gateway>,
    stop: watch::Sender<bool>,
    roles: JoinSet<()>,
}

impl RunningRelay {
    /// What tells which links there are, and how many requests each has carried.
    pub(crate) fn links(&self) -> Links {
        let gateways = self.gateways.clone();
        let carried = |gateway: &Gateway| {
            let links = gateway.status().links.into_iter();
            let instance = gateway.status().instance.number();
            let carried = links.map(|link| Carried {
                instance,
                connection_point: link.connection_point.to_string(),
                requests: link.stats.mux.streams_opened,
            });
            carried.collect::<Vec<_>>()
        };
        Links::new(move || gateways.iter().flat_map(carried).collect())
    }

    /// Stops both roles and waits for them.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends what is left of the relay at once.
    pub(crate) async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.roles.join_next().await.is_some() {}
    }
}

/// Starts `instances` gateway instances and two connection points in front of `site`.
///
/// Returns as soon as every listener is bound; a link may still be on its way.
///
/// # Errors
///
/// When a loopback port cannot be bound, or the certificates do not serve their purpose.
pub(crate) async fn start_relay(
    instances: u8,
    transport: Transport,
    site: &Site,
    members: &Members,
    ca: &SiteCa,
) -> anyhow::Result<RunningRelay> {
    let anchors = ca.anchors()?;
    let edge = client_edge_config_asking(&ca.issue_server(vec![HOST.to_owned()])?.identity())?;
    let (stop, stopped) = watch::channel(false);
    let (mut addresses, mut roles) = (Vec::new(), JoinSet::new());
    let (mut running, mut gateways) = (Vec::new(), Vec::new());

    for instance in Instance::first(instances) {
        let clients = listener().await?;
        let links = listener().await?;
        let identity = ca.issue_server(vec![HOST.to_owned()])?.identity();
        let link_tls = link_server_config(&identity, &anchors)?;
        let quic = match transport {
            Transport::Quic => Some(quic_listener(Arc::clone(&link_tls))?),
            _ => None,
        };
        addresses.push(clients.local_addr());
        gateways.push(GatewayAddress {
            instance,
            host: Ipv4Addr::LOCALHOST.to_string(),
            tcp_tls_port: Some(links.local_addr().port()),
            quic_port: quic.as_ref().map(|it| it.local_addr().port()),
            https_port: Some(clients.local_addr().port()),
            only: transport.only(),
            server_name: HOST.to_owned(),
            https_name: HOST.to_owned(),
        });
        let mut limits = GatewayLimits::default();
        limits.drain = DRAIN_WITHIN;
        let gateway = Gateway::new(GatewayConfig {
            service: HOST.to_owned(),
            instance,
            // It is told by the connection point what is published.
            initial: Vec::new(),
            client_tls: Arc::clone(&edge),
            link_tls,
            certificate_keeper: None,
            fetch: None,
            content: None,
            balance: Balance::default(),
            limits,
        });
        running.push(gateway.clone());
        let stopped = until(stopped.clone());
        let listeners = Listeners { clients, links: Some(links), https_links: None, quic };
        roles.spawn(async move { _ = gateway.serve(listeners, stopped).await });
    }

    let published = published(gateways, site, members)?;
    let mut points = Vec::new();
    for number in 1..=CONNECTION_POINTS {
        let point = connection_point(number, published.clone(), ca)?;
        points.push(point.clone());
        let stopped = until(stopped.clone());
        roles.spawn(async move { _ = point.run(stopped).await });
    }
    let membership = members.membership(points, published);
    Ok(RunningRelay { clients: addresses, membership, gateways: running, stop, roles })
}

/// What every connection point is told and publishes.
fn published(
    gateways: Vec<GatewayAddress>,
    site: &Site,
    members: &Members,
) -> anyhow::Result<Update> {
    let (settings_version, clients) = members.trust()?;
    let mut endpoints = site_endpoints(site)?;
    endpoints.push(members.endpoint());
    let clients = Some(clients);
    Ok(Update { gateways, endpoints, tenants: Vec::new(), clients, settings_version })
}

fn connection_point(number: u8, published: Update, ca: &SiteCa) -> anyhow::Result<ConnectionPoint> {
    let Update { gateways, endpoints, tenants, clients, settings_version } = published;
    let anchors = ca.anchors()?;
    let name = format!("demo-cp-{number}");
    let mut limits = ConnectionPointLimits::default();
    limits.drain = DRAIN_WITHIN;
    let link_tls = link_client_config(&ca.issue_client(&name)?.identity(), &anchors)?;
    Ok(ConnectionPoint::new(ConnectionPointConfig {
        name,
        site: "demo".to_owned(),
        settings_version,
        gateways,
        link_tls,
        https_tls: backend_client_config(&anchors)?,
        certificate_issuer: None,
        endpoints,
        tenants,
        clients,
        limits,
        web_proxy: None,
        network: Network::default(),
    })?)
}

/// A loopback port of the system's choosing.
async fn listener() -> anyhow::Result<Listener> {
    Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).await.context("cannot listen on 127.0.0.1")
}

/// A loopback UDP port of the system's choosing.
fn quic_listener(link_tls: Arc<rustls::ServerConfig>) -> anyhow::Result<QuicListener> {
    let bound = QuicListener::bind((Ipv4Addr::LOCALHOST, 0).into(), link_tls);
    bound.context("cannot listen on 127.0.0.1 over UDP")
}

/// Waits until the relay stops, or its handle is gone.
async fn until(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

fn site_endpoints(site: &Site) -> anyhow::Result<Vec<SiteEndpoint>> {
    let [mp, sup] = endpoints();
    [(mp, site.mp), (sup, site.sup)]
        .into_iter()
        .map(|(endpoint, backend)| {
            let url = Uri::try_from(format!("http://{backend}"))?;
            Ok(SiteEndpoint { endpoint, backend: BackendConfig::new(url, None) })
        })
        .collect()
}

/// The management point and the software update point, with their kinds' own paths.
pub(super) fn endpoints() -> [Endpoint; 2] {
    let endpoint = |name: &str, kind, role_id| Endpoint {
        name: name.to_owned(),
        kind,
        role_id,
        paths: None,
        request_body_bytes_max: None,
        request_headers: RequestHeaders::Open,
        access: Access::Clients(Methods::default()),
    };
    [
        endpoint("demo-mp", EndpointKind::ManagementPoint, MP_ROLE),
        endpoint("demo-sup", EndpointKind::SoftwareUpdatePoint, SUP_ROLE),
    ]
}
