//! Connection points that change while they run, over real sockets: instances come and go.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::Response;
use relay_core::connection_point::{ConnectionPoint, GatewayAddress, PublishOutcome, Update};
use relay_core::gateway::{Gateway, Listeners};
use relay_core::transport::{Instance, Listener};
use relay_tests::client::{Client, Http, bare};
use relay_tests::roles::{House, address, has_settings, target, until, within};
use relay_tests::site::{Backend, full};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A gateway instance on loopback, until it is dropped.
struct Standing {
    gateway: Gateway,
    clients: SocketAddr,
    address: GatewayAddress,
    _serving: JoinSet<()>,
}

impl Standing {
    async fn start(house: &House, number: u64) -> Self {
        let clients = Listener::bind(ANY).await.unwrap();
        let links = Listener::bind(ANY).await.unwrap();
        let (at, address) = (clients.local_addr(), address(number, links.local_addr().port()));
        let gateway = house.gateway(number);
        let listeners = Listeners { clients, links: Some(links), https_links: None, quic: None };
        let serving = gateway.clone().serve(listeners, std::future::pending());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { _ = serving.await });
        Self { gateway, clients: at, address, _serving: tasks }
    }

    async fn ask(&self, house: &House, path: &str) -> u16 {
        let mut client = Client::dial(self.clients, &house.ca, Http::Two).await;
        client.ask(bare("GET", &target(path))).await.status()
    }

    async fn until_linked(&self) {
        until(|| self.gateway.links() == 1 && has_settings(&self.gateway)).await;
    }

    async fn until_alone(&self) {
        until(|| self.gateway.links() == 0).await;
    }
}

/// An update that changes nothing but the instances to dial.
fn dialling(house: &House, instances: &[&Standing]) -> Update {
    Update {
        gateways: instances.iter().map(|instance| instance.address.clone()).collect(),
        endpoints: vec![house.site_endpoint()],
        tenants: Vec::new(),
        clients: None,
        settings_version: 1,
    }
}

fn run(connection_point: &ConnectionPoint) -> JoinSet<()> {
    let running = connection_point.clone().run(std::future::pending());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { _ = running.await });
    tasks
}

/// A backend whose answers on `held` take a permit of `gate` each.
async fn gated(gate: &Arc<Semaphore>) -> Backend {
    let gate = Arc::clone(gate);
    Backend::start(move |request| {
        let is_held = request.uri().path().ends_with("/held");
        let gate = Arc::clone(&gate);
        async move {
            if is_held {
                gate.acquire().await.unwrap().forget();
            }
            Response::new(full("answered"))
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_are_added_and_removed_and_a_request_under_way_ends_where_it_is() {
    within(async {
        let gate = Arc::new(Semaphore::new(0));
        let backend = gated(&gate).await;
        let house = House::before(backend.address);
        let first = Standing::start(&house, 1).await;
        let second = Standing::start(&house, 2).await;
        let connection_point = house.connection_point(vec![first.address.clone()]);
        let _running = run(&connection_point);
        first.until_linked().await;
        assert_eq!(second.ask(&house, "/SMS_MP/x").await, 503, "it is not dialled yet");

        connection_point.update(dialling(&house, &[&first, &second])).unwrap();
        second.until_linked().await;
        assert_eq!(second.ask(&house, "/SMS_MP/x").await, 200);
        assert_eq!(first.gateway.links(), 1, "its link stays");

        let mut client = Client::dial(first.clients, &house.ca, Http::Two).await;
        let held = bare("GET", &target("/SMS_MP/held"));
        let held = tokio::spawn(async move { client.ask(held).await });
        backend.until_in_flight(1).await;
        connection_point.update(dialling(&house, &[&second])).unwrap();
        assert_eq!(second.ask(&house, "/SMS_MP/x").await, 200);
        // The link that drains is there for what is under way, and never picked.
        while first.ask(&house, "/SMS_MP/x").await != 503 {
            // The gateway has not heard of the drain yet.
        }
        assert_eq!(first.gateway.links(), 1);
        gate.add_permits(1);
        let answer = held.await.unwrap();
        assert_eq!((answer.status(), answer.body.as_ref()), (200, &b"answered"[..]));
        first.until_alone().await;

        connection_point.update(dialling(&house, &[&second, &first])).unwrap();
        first.until_linked().await;
        assert_eq!(first.ask(&house, "/SMS_MP/x").await, 200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_whose_address_changes_is_dialled_there() {
    within(async {
        let backend = Backend::echo_path().await;
        let house = House::before(backend.address);
        let before = Standing::start(&house, 1).await;
        let after = Standing::start(&house, 1).await;
        let connection_point = house.connection_point(vec![before.address.clone()]);
        let [state] = &connection_point.published()[..] else { panic!("one instance is named") };
        assert_eq!((state.version, &state.outcome), (None, &PublishOutcome::Waiting));
        let _running = run(&connection_point);
        before.until_linked().await;
        connection_point.update(dialling(&house, &[&after])).unwrap();
        after.until_linked().await;
        before.until_alone().await;
        assert_eq!(after.ask(&house, "/SMS_MP/x").await, 200);
        let [state] = &connection_point.published()[..] else { panic!("one instance is named") };
        assert_eq!(state.instance, Instance::FIRST);
    })
    .await;
}
