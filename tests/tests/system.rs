//! Both roles over real sockets, as the program runs them: several instances, several connection
//! points, links that are cut, drains.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::net::SocketAddr;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use relay_core::gateway::Listeners;
use relay_core::link::DrainReport;
use relay_core::transport::Listener;
use relay_tests::client::{Client, Http, bare, with_body};
use relay_tests::roles::{House, has_settings, target, until, within};
use relay_tests::running::{ANY, Instance, Running, connection_point, told};
use relay_tests::site::{Backend, empty, fed, full, octets};
use sha2::{Digest as _, Sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Asks `count` times, one after the other, and is answered well each time.
async fn read(client: &mut Client, count: usize) {
    for n in 0..count {
        let answer = client.ask(bare("GET", &target("/SMS_MP/x"))).await;
        assert_eq!((answer.status(), answer.reason()), (200, None), "request {n}");
        assert_eq!(answer.body, "/SMS_MP/x");
    }
}

/// A way to an address that can be cut and mended.
struct Way {
    at: SocketAddr,
    whole: tokio::sync::watch::Sender<bool>,
    _task: JoinSet<()>,
}

impl Way {
    async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(ANY).await.unwrap();
        let at = listener.local_addr().unwrap();
        let whole = tokio::sync::watch::Sender::new(true);
        let state = whole.clone();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut ways = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                ways.spawn(Self::carry(near, target, state.subscribe()));
            }
        });
        Self { at, whole, _task: task }
    }

    async fn carry(
        mut near: TcpStream,
        target: SocketAddr,
        mut whole: tokio::sync::watch::Receiver<bool>,
    ) {
        whole.wait_for(|whole| *whole).await.unwrap();
        let mut far = TcpStream::connect(target).await.unwrap();
        tokio::select! {
            // How it ended is for the two ends to notice.
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
            _ = whole.wait_for(|whole| !*whole) => {}
        }
    }

    /// Ends every connection on the way; new ones wait until it is mended.
    fn cut(&self) {
        self.whole.send_replace(false);
    }

    fn mend(&self) {
        self.whole.send_replace(true);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_take_turns_over_the_connection_points_of_each_instance() {
    within(async {
        let backends = [Backend::echo_path().await, Backend::echo_path().await];
        let mut house = House::before(backends[0].address);
        let instances = [Instance::start(&house, 1).await, Instance::start(&house, 2).await];
        let links = instances.each_ref().map(|instance| instance.links);
        let mut points = Vec::new();
        for backend in &backends {
            house.endpoint.1 = backend.address;
            points.push(connection_point(&house, &links));
        }
        for (n, instance) in (1..).zip(&instances) {
            instance.until_links(2).await;
            for http in Http::BOTH {
                read(&mut instance.client(&house, http).await, 5).await;
            }
            let seen = backends.each_ref().map(|backend| backend.seen().len());
            assert_eq!(seen, [5 * n, 5 * n], "each has every other request");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_point_comes_back_after_its_link_was_cut() {
    within(async {
        let backend = Backend::echo_path().await;
        let house = House::before(backend.address);
        let instances = [Instance::start(&house, 1).await, Instance::start(&house, 2).await];
        let way = Way::to(instances[0].links).await;
        let _point = connection_point(&house, &[way.at, instances[1].links]);
        let mut steady = instances[1].client(&house, Http::Two).await;
        instances[1].until_links(1).await;
        for _ in 0..3 {
            instances[0].until_links(1).await;
            let mut client = instances[0].client(&house, Http::One).await;
            let answer = client.ask(bare("GET", &target("/SMS_MP/x"))).await;
            assert_eq!(answer.status(), 200);
            way.cut();
            instances[0].until_links(0).await;
            let answer = steady.ask(bare("GET", &target("/SMS_MP/x"))).await;
            assert_eq!(answer.status(), 200, "the other instance does not notice");
            way.mend();
        }
        instances[0].until_links(1).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_point_waits_for_an_instance_that_starts_later() {
    within(async {
        let backend = Backend::echo_path().await;
        let house = House::before(backend.address);
        let reserved = Listener::bind(ANY).await.unwrap();
        let way = Way::to(reserved.local_addr()).await;
        let _point = connection_point(&house, &[way.at]);
        // Whoever dials meanwhile is not answered.
        let clients = Listener::bind(ANY).await.unwrap();
        let at = clients.local_addr();
        let gateway = house.gateway(1);
        let serving = gateway.clone();
        let listeners = Listeners { clients, links: Some(reserved), https_links: None, quic: None };
        let _running =
            Running::start(|stop| async move { serving.serve(listeners, told(stop)).await });
        until(|| gateway.links() == 1 && has_settings(&gateway)).await;
        let mut client = Client::dial(at, &house.ca, Http::Two).await;
        assert_eq!(client.ask(bare("GET", &target("/SMS_MP/x"))).await.status(), 200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_keep_their_hash_in_both_directions() {
    const LEN: usize = 16 << 20;
    within(async {
        let backend = Backend::start(|request: Request<Incoming>| async move {
            if request.method() == "GET" {
                return Response::new(full(octets(1, LEN)));
            }
            let body = request.into_body().collect().await.unwrap().to_bytes();
            Response::new(full(format!("{:x}", Sha256::digest(&body))))
        })
        .await;
        let house = House::before(backend.address);
        let instance = Instance::start(&house, 1).await;
        let _point = connection_point(&house, &[instance.links]);
        instance.until_links(1).await;
        let hash = Sha256::digest(octets(1, LEN));
        for http in Http::BOTH {
            let mut client = instance.client(&house, http).await;
            let down = client.ask(bare("GET", &target("/SMS_MP/x"))).await;
            assert_eq!(Sha256::digest(&down.body), hash, "down over {http:?}");
            let upload = with_body("CCM_POST", &target("/SMS_MP/x"), full(octets(1, LEN)));
            let up = client.ask(upload).await;
            assert_eq!(up.body, format!("{hash:x}"), "up over {http:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_requests_at_once_each_get_their_own_answer() {
    within(async {
        let backend = Backend::echo_path().await;
        let house = House::before(backend.address);
        let instances = [Instance::start(&house, 1).await, Instance::start(&house, 2).await];
        let _point = connection_point(&house, &instances.each_ref().map(|it| it.links));
        for instance in &instances {
            instance.until_links(1).await;
        }
        let mut asking = JoinSet::new();
        for n in 0..500_usize {
            let http = Http::BOTH[n / 2 % 2];
            let mut client = instances[n % 2].client(&house, http).await;
            asking.spawn(async move {
                let path = format!("/SMS_MP/{n}");
                let answer = client.ask(bare("GET", &target(&path))).await;
                assert_eq!((answer.status(), answer.body), (200, path.into()));
            });
        }
        asking.join_all().await;
        assert_eq!(backend.seen().len(), 500);
        for instance in instances {
            until(|| instance.gateway.in_flight() == 0).await;
        }
    })
    .await;
}

/// A backend that holds every request until it is told to let go.
async fn holding() -> (Backend, tokio::sync::watch::Sender<bool>) {
    let let_go = tokio::sync::watch::Sender::new(false);
    let told = let_go.clone();
    let backend = Backend::start(move |_| {
        let mut told = told.subscribe();
        async move {
            let _ = told.wait_for(|go| *go).await;
            Response::new(full("held"))
        }
    })
    .await;
    (backend, let_go)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graceful_stop_of_either_role_lets_requests_in_flight_end() {
    for stops_gateway in [true, false] {
        within(graceful_stop(stops_gateway)).await;
    }
}

async fn graceful_stop(stops_gateway: bool) {
    let (backend, let_go) = holding().await;
    let house = House::before(backend.address);
    let instance = Instance::start(&house, 1).await;
    let point = connection_point(&house, &[instance.links]);
    instance.until_links(1).await;
    let mut asking = JoinSet::new();
    for http in Http::BOTH {
        let mut client = instance.client(&house, http).await;
        asking.spawn(async move { client.ask(bare("GET", &target("/SMS_MP/x"))).await });
    }
    backend.until_in_flight(2).await;

    let (stopping, _other) =
        if stops_gateway { (instance.running, point) } else { (point, instance.running) };
    let Running { stop, ended } = stopping;
    stop.send(()).unwrap();
    if stops_gateway {
        // New clients are refused from the moment that the listener is closed.
        while TcpStream::connect(instance.clients).await.is_ok() {}
    }
    let_go.send_replace(true);
    for answer in asking.join_all().await {
        assert_eq!((answer.status(), &answer.body[..]), (200, &b"held"[..]));
    }
    let report = ended.await.unwrap();
    assert_eq!(report.reset, 0);
    // A connection point may begin its drain only when the two have ended.
    assert!(!stops_gateway || report.finished == 2, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_cuts_what_does_not_end_by_its_deadline() {
    for stops_gateway in [true, false] {
        within(slow_drain(stops_gateway)).await;
    }
}

async fn slow_drain(stops_gateway: bool) {
    let (backend, _let_go) = holding().await;
    let mut house = House::before(backend.address);
    house.gateway_limits.drain = Duration::from_millis(50);
    house.connection_point_limits.drain = Duration::from_millis(50);
    let instance = Instance::start(&house, 1).await;
    let point = connection_point(&house, &[instance.links]);
    instance.until_links(1).await;
    let mut client = instance.client(&house, Http::Two).await;
    let asking = tokio::spawn(async move {
        let answer = client.send(bare("GET", &target("/SMS_MP/x"))).await;
        answer.map(|answer| answer.status().as_u16())
    });
    backend.until_in_flight(1).await;
    let (stopping, _other) =
        if stops_gateway { (instance.running, point) } else { (point, instance.running) };
    assert_eq!(stopping.stop().await, DrainReport { finished: 0, reset: 1 });
    backend.until_in_flight(0).await;
    let came = asking.await.unwrap();
    assert!(!matches!(came, Ok(200)), "{came:?}");
}

/// Reads until it is told to stop; returns how often.
async fn read_until(client: &mut Client, stop: &tokio::sync::watch::Receiver<bool>) -> usize {
    let mut asked = 0;
    while !*stop.borrow() {
        read(client, 1).await;
        asked += 1;
    }
    asked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_restarts_of_connection_points_lose_no_request() {
    within(async {
        let backend = Backend::echo_path().await;
        let house = House::before(backend.address);
        let instance = Instance::start(&house, 1).await;
        let mut points = vec![connection_point(&house, &[instance.links])];
        instance.until_links(1).await;
        let (enough, stop) = tokio::sync::watch::channel(false);
        let mut asking = JoinSet::new();
        for http in [Http::One, Http::Two, Http::One, Http::Two] {
            let (mut client, stop) = (instance.client(&house, http).await, stop.clone());
            asking.spawn(async move { read_until(&mut client, &stop).await });
        }
        for _ in 0..10 {
            points.push(connection_point(&house, &[instance.links]));
            instance.until_links(2).await;
            points.remove(0).stop().await;
            instance.until_links(1).await;
        }
        enough.send_replace(true);
        assert!(asking.join_all().await.into_iter().all(|asked| asked > 0));
    })
    .await;
}

#[tokio::test]
async fn a_port_in_use_is_told_as_such() {
    let first = Listener::bind(ANY).await.unwrap();
    let second = Listener::bind(first.local_addr()).await.unwrap_err();
    assert_eq!(second.kind(), std::io::ErrorKind::AddrInUse);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_stalls_within_its_body_slows_no_other() {
    within(async {
        let backend = Backend::start(|request: Request<Incoming>| async move {
            let path = request.uri().path().to_owned();
            match request.into_body().collect().await {
                Ok(_) => Response::new(full(path)),
                Err(_) => Response::new(empty()),
            }
        })
        .await;
        let house = House::before(backend.address);
        let instance = Instance::start(&house, 1).await;
        let _point = connection_point(&house, &[instance.links]);
        instance.until_links(1).await;
        let (sender, body) = fed();
        sender.send(octets(0, 100)).await.unwrap();
        let mut stalled = instance.client(&house, Http::One).await;
        let request = with_body("CCM_POST", &target("/SMS_MP/stalled"), body);
        let stalled = tokio::spawn(async move { stalled.ask(request).await });
        backend.until_in_flight(1).await;
        for http in Http::BOTH {
            let mut client = instance.client(&house, http).await;
            read(&mut client, 20).await;
        }
        sender.send(bytes::Bytes::new()).await.unwrap();
        assert_eq!(stalled.await.unwrap().body, "/SMS_MP/stalled");
    })
    .await;
}
