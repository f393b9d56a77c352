//! Links over QUIC between the two roles, over real sockets: that they are taken, what happens
//! where UDP does not get through, and that nothing is lost when they change or end.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use relay_core::connection_point::GatewayAddress;
use relay_core::gateway::{Gateway, Listeners};
use relay_core::transport::{Listener, QuicListener, link_server_config};
use relay_tests::client::{Client, Http, bare, with_body};
use relay_tests::logs::Logs;
use relay_tests::roles::{House, SERVICE, address, counted, target, until, within};
use relay_tests::site::{Backend, Body, full, octets};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// An instance that takes links over TCP and QUIC, and the tasks of the test.
struct Site {
    house: House,
    gateway: Gateway,
    clients: SocketAddr,
    links: SocketAddr,
    quic: SocketAddr,
    stop_gateway: watch::Sender<bool>,
    stop_point: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

fn stopped(stop: &watch::Sender<bool>) -> impl Future<Output = ()> + Send + 'static {
    let mut stop = stop.subscribe();
    async move {
        let _ = stop.wait_for(|stop| *stop).await;
    }
}

impl Site {
    async fn start() -> Self {
        Self::before(Arc::new(Backend::echo_path().await)).await
    }

    async fn before(backend: Arc<Backend>) -> Self {
        let mut house = House::before(backend.address);
        // As many as by default: all but one rest over QUIC.
        house.connection_point_limits.links_per_instance = 2;
        let clients = Listener::bind(ANY).await.unwrap();
        let links = Listener::bind(ANY).await.unwrap();
        let tls = link_server_config(&house.ca.server(SERVICE), &house.ca.anchors()).unwrap();
        let quic = QuicListener::bind(ANY, Arc::clone(&tls)).unwrap();
        let gateway = house.gateway(1);
        let mut site = Self {
            house,
            gateway: gateway.clone(),
            clients: clients.local_addr(),
            links: links.local_addr(),
            quic: quic.local_addr(),
            stop_gateway: watch::channel(false).0,
            stop_point: watch::channel(false).0,
            tasks: JoinSet::new(),
        };
        let listeners =
            Listeners { clients, links: Some(links), https_links: None, quic: Some(quic) };
        let stop = stopped(&site.stop_gateway);
        site.tasks.spawn(async move {
            let _backend = backend;
            gateway.serve(listeners, stop).await;
        });
        site
    }

    /// A connection point that may dial these ports.
    fn dial(&mut self, quic: SocketAddr, tcp_tls: Option<SocketAddr>) {
        let gateway = GatewayAddress {
            quic_port: Some(quic.port()),
            tcp_tls_port: tcp_tls.map(|at| at.port()),
            ..address(1, 0)
        };
        let connection_point = self.house.connection_point(vec![gateway]);
        let stop = stopped(&self.stop_point);
        self.tasks.spawn(async move { _ = connection_point.run(stop).await });
    }

    async fn client(&self) -> Client {
        Client::dial(self.clients, &self.house.ca, Http::One).await
    }

    /// Stops both roles; everything ends by itself.
    async fn stop(mut self) {
        self.stop_point.send_replace(true);
        self.stop_gateway.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

/// A request that must go through.
async fn works(client: &mut Client) {
    let answer = client.ask(bare("GET", &target("/SMS_MP/x"))).await;
    assert_eq!((answer.status(), answer.reason()), (200, None));
}

fn is_up(logs: &Logs, rung: &str) -> bool {
    !logs.with(&["link up", &format!("\"rung\":\"{rung}\"")]).is_empty()
}

#[tokio::test]
async fn a_link_comes_up_on_quic_alone_and_serves() {
    within(async {
        let logs = Logs::capture();
        let mut site = Site::start().await;
        site.dial(site.quic, None);
        until(|| site.gateway.links() == 1).await;
        for http in Http::BOTH {
            let mut client = Client::dial(site.clients, &site.house.ca, http).await;
            works(&mut client).await;
        }
        assert!(is_up(&logs, "quic"));
        site.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_link_over_quic_waits_for_its_addresss_share_as_one_over_tcp_does() {
    within(async {
        let mut site = Site::start().await;
        site.house.connection_point_limits.dial_quic = Duration::from_mins(5);
        let mut held = Vec::new();
        for _ in 0..32 {
            held.push(TcpStream::connect(site.links).await.unwrap());
        }
        site.dial(site.quic, None);
        let waits = || {
            let counts = counted(site.gateway.status().counts);
            counts.get("link_handshakes_per_address").is_some_and(|count| *count > 0)
        };
        until(waits).await;
        assert_eq!(site.gateway.links(), 0);
        held.pop();
        until(|| site.gateway.links() == 1).await;
        site.stop().await;
    })
    .await;
}

#[tokio::test]
async fn while_one_link_is_up_on_quic_the_others_rest() {
    within(async {
        let logs = Logs::capture();
        let mut site = Site::start().await;
        site.dial(site.quic, Some(site.links));
        let mut client = {
            until(|| site.gateway.links() > 0).await;
            site.client().await
        };
        // The second link may have been faster over TCP: it is let go of without a loss.
        while !is_up(&logs, "quic") || site.gateway.links() != 1 {
            works(&mut client).await;
        }
        works(&mut client).await;
        drop(client);
        site.stop().await;
    })
    .await;
}

/// Carries datagrams between whoever sends to `near` and `far`.
async fn carry(near: UdpSocket, far: SocketAddr) {
    let onward = UdpSocket::bind(ANY).await.unwrap();
    let (mut here, mut there) = ([0; 2048], [0; 2048]);
    let mut peer = None;
    loop {
        tokio::select! {
            Ok((octets, from)) = near.recv_from(&mut here) => {
                // A dial that was given up is not answered: only the newest one is.
                peer = Some(from);
                let _ = onward.send_to(&here[..octets], far).await;
            }
            Ok(octets) = onward.recv(&mut there) => {
                if let Some(peer) = peer {
                    let _ = near.send_to(&there[..octets], peer).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn where_udp_is_swallowed_links_go_over_tcp_and_climb_when_it_is_not_any_more() {
    within(async {
        let logs = Logs::capture();
        let mut site = Site::start().await;
        site.house.connection_point_limits.dial_quic = Duration::from_millis(200);
        site.house.connection_point_limits.better_rung = Duration::from_millis(50);
        let hole = UdpSocket::bind(ANY).await.unwrap();
        site.dial(hole.local_addr().unwrap(), Some(site.links));
        until(|| site.gateway.links() == 2).await;
        assert!(is_up(&logs, "tcp-tls") && !is_up(&logs, "quic"));
        let mut client = site.client().await;
        works(&mut client).await;

        let mut ways = JoinSet::new();
        ways.spawn(carry(hole, site.quic));
        while !is_up(&logs, "quic") || site.gateway.links() != 1 {
            works(&mut client).await;
        }
        works(&mut client).await;
        drop(client);
        site.stop().await;
    })
    .await;
}

#[tokio::test]
async fn where_nobody_takes_quic_links_go_over_tcp() {
    within(async {
        let logs = Logs::capture();
        let mut site = Site::start().await;
        site.house.connection_point_limits.dial_quic = Duration::from_millis(200);
        // A port that was free a moment ago, and that the kernel answers for.
        let closed = UdpSocket::bind(ANY).await.unwrap().local_addr().unwrap();
        site.dial(closed, Some(site.links));
        until(|| site.gateway.links() == 2).await;
        works(&mut site.client().await).await;
        assert!(!is_up(&logs, "quic"));
        site.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_gateway_of_another_site_is_refused_over_quic_and_told_why() {
    within(async {
        let logs = Logs::capture();
        let mut site = Site::start().await;
        let stranger = House::before(ANY);
        let tls = link_server_config(&stranger.ca.server(SERVICE), &stranger.ca.anchors()).unwrap();
        let foreign = QuicListener::bind(ANY, Arc::clone(&tls)).unwrap();
        let mut tasks = JoinSet::new();
        let at = foreign.local_addr();
        tasks.spawn(async move {
            loop {
                let arrival = foreign.accept().await;
                let _ = arrival.accept(Arc::clone(&tls), Duration::from_secs(1)).await;
            }
        });
        site.dial(at, None);
        until(|| !logs.with(&["no link to the gateway instance", "quic: QUIC hand"]).is_empty())
            .await;
        assert_eq!(site.gateway.links(), 0);
        site.stop().await;
    })
    .await;
}

/// Octets of an answer that takes a while.
const LONG: usize = 2 << 20;

/// An answer that begins once the gate is open.
async fn long_answer(mut gate: watch::Receiver<bool>) -> Response<Body> {
    gate.wait_for(|open| *open).await.unwrap();
    Response::new(full(octets(7, LONG)))
}

#[tokio::test]
async fn a_role_that_stops_loses_nothing_of_what_is_in_flight() {
    within(async {
        for gateway_stops in [false, true] {
            let (open, gate) = watch::channel(false);
            let backend = Backend::start(move |_| long_answer(gate.clone()));
            let backend = Arc::new(backend.await);
            let mut site = Site::before(Arc::clone(&backend)).await;
            site.dial(site.quic, None);
            until(|| site.gateway.links() == 1).await;
            let mut client = site.client().await;
            let asking =
                tokio::spawn(async move { client.ask(bare("GET", &target("/SMS_MP/x"))).await });
            backend.until_in_flight(1).await;
            let stop = if gateway_stops { &site.stop_gateway } else { &site.stop_point };
            stop.send_replace(true);
            open.send_replace(true);
            let answer = asking.await.unwrap();
            assert_eq!((answer.status(), answer.reason()), (200, None));
            assert!(answer.body == octets(7, LONG), "every octet, in its order");
            site.stop().await;
        }
    })
    .await;
}

#[tokio::test]
async fn uploads_and_downloads_go_through_at_once() {
    within(async {
        let backend = Backend::start(|request: Request<Incoming>| async move {
            Response::new(full(request.into_body().collect().await.unwrap().to_bytes()))
        });
        let mut site = Site::before(Arc::new(backend.await)).await;
        site.dial(site.quic, None);
        until(|| site.gateway.links() == 1).await;
        let mut asking = JoinSet::new();
        for number in 0..8 {
            let mut client = site.client().await;
            asking.spawn(async move {
                let body = full(octets(number, LONG));
                let answer =
                    client.ask(with_body("CCM_POST", &target("/ccm_system/request"), body));
                let answer = answer.await;
                assert_eq!((answer.status(), answer.reason()), (200, None));
                assert!(answer.body == octets(number, LONG), "every octet, in its order");
            });
        }
        while let Some(asked) = asking.join_next().await {
            asked.unwrap();
        }
        site.stop().await;
    })
    .await;
}
