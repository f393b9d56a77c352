//! The roles, the site and the clients of one world, on one network.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::Uri;
use relay_core::connection_point::{
    BackendConfig, ConnectionPoint, ConnectionPointConfig, ConnectionPointLimits, GatewayAddress,
    SiteEndpoint,
};
use relay_core::gateway::{Balance, Gateway, GatewayConfig, GatewayLimits, Listeners};
use relay_core::link::DrainReport;
use relay_core::policy::{Access, Endpoint, EndpointKind, RequestHeaders};
use relay_core::transport::memory::{Crash, MemoryNetwork, PathFault};
use relay_core::transport::{
    Instance, Listener, Network, backend_client_config, client_edge_config, link_client_config,
    link_server_config,
};
use relay_tests::client::Http;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::client::{Client, Outcome, Seen};
use super::identities::SITE;
use super::plan::{Ask, OTHER_ROLE, Plan};
use super::site::{self, Ledgers};

/// The service's name.
pub(crate) const SERVICE: &str = "relay.test";

/// Where clients connect.
pub(crate) const CLIENT_PORT: u16 = 443;

/// Where links are taken.
pub(crate) const LINK_PORT: u16 = 10_140;

/// Time for a small exchange at rest: connecting and the slowest paths.
const PROBE_MAX: Duration = Duration::from_secs(3);

/// Time for instances to notice that every connection point has gone.
const LINKS_GONE: Duration = Duration::from_secs(30);

/// What a site is called.
pub(crate) const SITE_NAME: &str = "site";

/// Every management point.
pub(crate) const SITE_HOST: &str = "mp";

const SITE_PORT: u16 = 80;

pub(crate) fn instance_host(instance: usize) -> String {
    format!("gateway-{instance}")
}

pub(crate) fn connection_point_host(connection_point: usize) -> String {
    format!("cp-{connection_point}")
}

/// A role that runs.
struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<DrainReport>,
}

/// A world while it runs.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) network: MemoryNetwork,
    pub(crate) ledgers: Ledgers,
    pub(crate) began: Instant,
    instances: BTreeMap<usize, (Gateway, Running)>,
    connection_points: BTreeMap<usize, Running>,
    /// The site roles, unless they have crashed.
    site: Option<JoinHandle<()>>,
    epoch: u64,
}

impl World {
    /// Starts everything that `plan` has.
    pub(crate) fn start(plan: Plan, planned: Option<PathFault>) -> Self {
        // What the roles draw: message ids, delays.
        fastrand::seed(plan.seed);
        let network = MemoryNetwork::new(plan.seed);
        for connection_point in 0..plan.connection_points {
            let site = connection_point_host(connection_point);
            for (one, other) in [(SITE_HOST, &*site), (&*site, SITE_HOST)] {
                network.set_path(one, other, plan.inside);
            }
            for instance in (0..plan.instances).map(instance_host) {
                network.set_path(&site, &instance, plan.outside);
                network.set_path(&instance, &site, plan.outside);
            }
        }
        if let Some(fault) = planned {
            network.plan(&instance_host(0), LINK_PORT, 0, fault);
        }
        let ledgers = Ledgers::default();
        let mut world = Self {
            began: Instant::now(),
            instances: BTreeMap::new(),
            connection_points: BTreeMap::new(),
            epoch: 0,
            plan,
            network,
            ledgers,
            site: None,
        };
        world.start_missing();
        world
    }

    /// Starts every role that does not run.
    pub(crate) fn start_missing(&mut self) {
        if self.site.is_none() {
            let at = (SITE_HOST, SITE_PORT);
            self.site = Some(site::start(&self.network, at, &self.ledgers, &self.plan.asks));
        }
        for instance in 0..self.plan.instances {
            if !self.instances.contains_key(&instance) {
                self.start_instance(instance);
            }
        }
        for connection_point in 0..self.plan.connection_points {
            if !self.connection_points.contains_key(&connection_point) {
                self.start_connection_point(connection_point);
            }
        }
    }

    fn start_instance(&mut self, instance: usize) {
        let host = self.network.host(&instance_host(instance));
        let gateway = Gateway::seeded(gateway_config(instance), self.plan.seed);
        let listen = |port| Listener::memory(host.bind(port).expect("nothing runs there"));
        let listeners = Listeners {
            clients: listen(CLIENT_PORT),
            links: Some(listen(LINK_PORT)),
            https_links: None,
            quic: None,
        };
        let (stop, stopped) = oneshot::channel();
        let serving = gateway.clone().serve(listeners, async { drop(stopped.await) });
        let running = Running { stop, task: tokio::spawn(serving) };
        self.instances.insert(instance, (gateway, running));
    }

    fn start_connection_point(&mut self, connection_point: usize) {
        self.epoch += 1;
        let config = self.connection_point_config(connection_point);
        let role = ConnectionPoint::with_epoch(config, self.epoch).expect("one endpoint");
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(role.run(async { drop(stopped.await) }));
        self.connection_points.insert(connection_point, Running { stop, task });
    }

    fn connection_point_config(&self, connection_point: usize) -> ConnectionPointConfig {
        let mut limits = ConnectionPointLimits::default();
        limits.links_per_instance = self.plan.links_per_instance;
        let name = connection_point_host(connection_point);
        let gateways = (0..self.plan.instances).map(|instance| GatewayAddress {
            instance: number(instance),
            host: instance_host(instance),
            tcp_tls_port: Some(LINK_PORT),
            quic_port: None,
            https_port: self.plan.takes_https_links.then_some(CLIENT_PORT),
            only: None,
            server_name: SERVICE.to_owned(),
            https_name: SERVICE.to_owned(),
        });
        let url = Uri::try_from(format!("http://{SITE_HOST}:{SITE_PORT}")).unwrap();
        let backend = BackendConfig::new(url, None);
        let roles = self.plan.roles(connection_point);
        let endpoints = roles
            .iter()
            .map(|role| SiteEndpoint { endpoint: endpoint(*role), backend: backend.clone() });
        ConnectionPointConfig {
            site: if roles == [OTHER_ROLE] { "other" } else { SITE_NAME }.to_owned(),
            settings_version: 1,
            gateways: gateways.collect(),
            // New ones for each start, or a session of an earlier world would be resumed.
            link_tls: link_client_config(&SITE.connection_point, &SITE.anchors()).unwrap(),
            https_tls: backend_client_config(&SITE.anchors()).unwrap(),
            certificate_issuer: None,
            endpoints: endpoints.collect(),
            tenants: Vec::new(),
            clients: None,
            limits,
            web_proxy: None,
            network: Network::Memory(self.network.host(&name)),
            name,
        }
    }

    /// Starts every client; ends with what they saw.
    pub(crate) fn start_clients(&self) -> Vec<JoinHandle<Vec<Outcome>>> {
        let mut asks: BTreeMap<usize, Vec<Ask>> = BTreeMap::new();
        for ask in &self.plan.asks {
            asks.entry(ask.client).or_default().push(ask.clone());
        }
        let start = |(number, mut asks): (usize, Vec<Ask>)| {
            asks.sort_by_key(|ask| (ask.at, ask.id));
            let host = self.network.host(&format!("client-{number}"));
            let http = self.plan.clients.get(number).copied().unwrap_or(Http::One);
            let client = Client::new(host, http, self.began);
            tokio::spawn(client.run(asks))
        };
        asks.into_iter().map(start).collect()
    }

    /// Has every instance asked for what each management point behind it has. Returns what is not
    /// answered as it should be.
    pub(crate) async fn probe(&self) -> Vec<String> {
        let points = (0..self.plan.connection_points).map(|it| self.plan.roles(it));
        let roles: BTreeSet<u64> = points.flatten().copied().collect();
        let mut findings = Vec::new();
        for instance in 0..self.plan.instances {
            let probe = |role: &u64| Ask::probe(instance, *role, self.began.elapsed());
            let host = self.network.host("prober");
            let prober = Client::new(host, Http::One, self.began);
            for outcome in prober.run(roles.iter().map(probe).collect()).await {
                let is_whole = matches!(outcome.seen, Seen::Answer { status: 200, .. });
                if !is_whole || outcome.took > PROBE_MAX {
                    let Outcome { ask, seen, took, .. } = outcome;
                    findings.push(format!(
                        "at rest instance {instance} answers for {}: {seen}, after {took:?}",
                        ask.role
                    ));
                }
            }
        }
        findings
    }

    /// Ends an instance in good order, and returns what will tell how it went.
    pub(crate) fn stop_instance(&mut self, instance: usize) -> Option<JoinHandle<DrainReport>> {
        let (_, running) = self.instances.remove(&instance)?;
        let _ = running.stop.send(());
        Some(running.task)
    }

    /// Has an instance drain each of its links. Returns what will tell how that went.
    pub(crate) fn drain_links(&self, instance: usize) -> Vec<JoinHandle<DrainReport>> {
        let Some((gateway, _)) = self.instances.get(&instance) else { return Vec::new() };
        let drain = |number| {
            let gateway = gateway.clone();
            tokio::spawn(async move { gateway.drain_link(number).await.unwrap_or_default() })
        };
        gateway.status().links.iter().map(|link| drain(link.number)).collect()
    }

    /// As [`World::stop_instance`].
    pub(crate) fn stop_connection_point(
        &mut self,
        connection_point: usize,
    ) -> Option<JoinHandle<DrainReport>> {
        let running = self.connection_points.remove(&connection_point)?;
        let _ = running.stop.send(());
        Some(running.task)
    }

    /// Ends an instance at once.
    pub(crate) async fn crash_instance(&mut self, instance: usize, crash: Crash) {
        self.network.crash(&instance_host(instance), crash);
        if let Some((_, running)) = self.instances.remove(&instance) {
            running.task.abort();
            let _ = running.task.await;
        }
    }

    /// As [`World::crash_instance`].
    pub(crate) async fn crash_connection_point(&mut self, connection_point: usize, crash: Crash) {
        self.network.crash(&connection_point_host(connection_point), crash);
        if let Some(running) = self.connection_points.remove(&connection_point) {
            running.task.abort();
            let _ = running.task.await;
        }
    }

    /// As [`World::crash_instance`].
    pub(crate) async fn crash_site(&mut self, crash: Crash) {
        self.network.crash(SITE_HOST, crash);
        if let Some(running) = self.site.take() {
            running.abort();
            let _ = running.await;
        }
    }

    /// Whether every link is up that is to be.
    pub(crate) fn is_meshed(&self) -> bool {
        let links = self.plan.connection_points * self.plan.links_per_instance;
        let all = (0..self.plan.instances).map(|instance| self.instances.get(&instance));
        all.into_iter().all(|running| running.is_some_and(|(it, _)| it.links() == links))
    }

    /// What is not at rest, in words.
    pub(crate) fn unrest(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (instance, (gateway, _)) in &self.instances {
            let (in_flight, streams) = (gateway.in_flight(), gateway.streams_open());
            if (in_flight, streams) != (0, 0) {
                found.push(format!("instance {instance}: {in_flight} in flight, {streams} open"));
            }
            if !self.is_meshed() {
                found.push(format!("instance {instance}: {} links", gateway.links()));
            }
        }
        match self.ledgers.read().active {
            0 => {}
            active => found.push(format!("the site works on {active}")),
        }
        found
    }

    /// Waits until `condition` holds, at most `limit`; returns how long it took.
    pub(crate) async fn until(
        &self,
        limit: Duration,
        condition: impl Fn(&Self) -> bool,
    ) -> Option<Duration> {
        let before = Instant::now();
        while !condition(self) {
            if before.elapsed() >= limit {
                return None;
            }
            sleep(Duration::from_millis(20)).await;
        }
        Some(before.elapsed())
    }

    /// What was written so far on the first link to the first instance.
    pub(crate) fn first_link(&self) -> [Vec<u8>; 2] {
        let links = self.network.between(&connection_point_host(0), &instance_host(0));
        links.first().and_then(|link| self.network.written(*link)).unwrap_or_default()
    }

    /// Stops every role in good order; ends when they have. Returns how many were cut in it, and
    /// what was left of the links once every connection point had gone.
    pub(crate) async fn stop(&mut self) -> (DrainReport, usize) {
        let mut report = DrainReport::default();
        for connection_point in 0..self.plan.connection_points {
            if let Some(task) = self.stop_connection_point(connection_point) {
                report += task.await.unwrap();
            }
        }
        let links =
            |world: &Self| world.instances.values().map(|(it, _)| it.links()).sum::<usize>();
        self.until(LINKS_GONE, |world| links(world) == 0).await;
        let left = links(self);
        for instance in 0..self.plan.instances {
            if let Some(task) = self.stop_instance(instance) {
                report += task.await.unwrap();
            }
        }
        self.site.take().inspect(JoinHandle::abort);
        (report, left)
    }
}

fn number(instance: usize) -> Instance {
    Instance::new(instance as u64 + 1).unwrap()
}

fn endpoint(role_id: u64) -> Endpoint {
    Endpoint {
        name: format!("mp-{role_id}"),
        kind: EndpointKind::ManagementPoint,
        role_id,
        paths: None,
        request_body_bytes_max: None,
        request_headers: RequestHeaders::Open,
        access: Access::Anonymous,
    }
}

fn gateway_config(instance: usize) -> GatewayConfig {
    GatewayConfig {
        service: SERVICE.to_owned(),
        instance: number(instance),
        initial: Vec::new(),
        client_tls: client_edge_config(&SITE.gateway).unwrap(),
        link_tls: link_server_config(&SITE.gateway, &SITE.anchors()).unwrap(),
        certificate_keeper: None,
        fetch: None,
        content: None,
        balance: Balance::default(),
        limits: gateway_limits(),
    }
}

/// What an instance bears. Clients that send late are late by more than the rate of a body allows,
/// which has tests of its own: here they are to be waited for.
fn gateway_limits() -> GatewayLimits {
    let mut limits = GatewayLimits::default();
    limits.body_rate_min = 0;
    limits
}
