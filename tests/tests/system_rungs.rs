//! Every way to a gateway instance, over real sockets: which one is taken, and what happens when it
//! is blocked, silent, wrong, or better than the one that carries the link.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use relay_core::connection_point::{ConnectionPoint, GatewayAddress};
use relay_core::gateway::{Gateway, Listeners};
use relay_core::transport::{
    ConnectError, Listener, Rung, backend_client_config, client_edge_config, connect,
    connect_link_http2, link_client_config, upgrade_link,
};
use relay_tests::client::{Client, Http, bare};
use relay_tests::logs::Logs;
use relay_tests::roles::{House, SERVICE, address, has_settings, target, until, within};
use relay_tests::site::Backend;
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// An empty SETTINGS frame: RFC 9113, section 6.5.
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// An instance with every listener, and the tasks of the test.
struct Site {
    house: House,
    gateway: Gateway,
    clients: SocketAddr,
    links: SocketAddr,
    https_links: SocketAddr,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Site {
    async fn start() -> Self {
        let backend = Backend::echo_path().await;
        let house = House::before(backend.address);
        let [clients, links, https_links] = [
            Listener::bind(ANY).await.unwrap(),
            Listener::bind(ANY).await.unwrap(),
            Listener::bind(ANY).await.unwrap(),
        ];
        let gateway = house.gateway(1);
        let (stop, _) = watch::channel(false);
        let mut site = Self {
            house,
            gateway: gateway.clone(),
            clients: clients.local_addr(),
            links: links.local_addr(),
            https_links: https_links.local_addr(),
            stop,
            tasks: JoinSet::new(),
        };
        let listeners =
            Listeners { clients, links: Some(links), https_links: Some(https_links), quic: None };
        let stopped = site.stopped();
        site.tasks.spawn(async move {
            let _backend = backend;
            gateway.serve(listeners, stopped).await;
        });
        site
    }

    fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut stop = self.stop.subscribe();
        async move {
            let _ = stop.wait_for(|stop| *stop).await;
        }
    }

    /// A connection point that may dial these ports.
    fn dial(&mut self, tcp_tls: Option<SocketAddr>, https: Option<SocketAddr>) -> ConnectionPoint {
        let gateway = GatewayAddress {
            tcp_tls_port: tcp_tls.map(|at| at.port()),
            https_port: https.map(|at| at.port()),
            ..address(1, 0)
        };
        let connection_point = self.house.connection_point(vec![gateway]);
        let (running, stopped) = (connection_point.clone(), self.stopped());
        self.tasks.spawn(async move { _ = running.run(stopped).await });
        connection_point
    }

    async fn until_links(&self, count: usize) {
        until(|| self.gateway.links() == count && has_settings(&self.gateway)).await;
    }

    /// A request goes through.
    async fn works(&self) {
        for http in Http::BOTH {
            let mut client = Client::dial(self.clients, &self.house.ca, http).await;
            let answer = client.ask(bare("GET", &target("/SMS_MP/x"))).await;
            assert_eq!((answer.status(), answer.reason()), (200, None));
        }
    }

    /// Stops both roles; everything ends by itself.
    async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

/// A port that refuses connections for as long as the socket is held: nobody else can have it.
fn refused() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(ANY).unwrap();
    let at = socket.local_addr().unwrap();
    (socket, at)
}

/// A port that takes connections and says nothing, as a filter that swallows packets seems to.
async fn silent(tasks: &mut JoinSet<()>) -> SocketAddr {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let at = listener.local_addr().unwrap();
    tasks.spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    at
}

/// Passes octets on to `far`, both ways.
async fn carry(mut near: TcpStream, far: SocketAddr) {
    let mut far = TcpStream::connect(far).await.unwrap();
    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
}

/// A middlebox that ends TLS for `house`'s service as any balancer does, without knowing links, and
/// passes octets on to the HTTPS port at `inner`. It speaks nothing but `http`.
async fn balancer(
    house: &House,
    inner: SocketAddr,
    http: &[u8],
    tasks: &mut JoinSet<()>,
) -> SocketAddr {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let at = listener.local_addr().unwrap();
    let identity = house.ca.server(SERVICE);
    let mut edge = (*client_edge_config(&identity).unwrap()).clone();
    edge.alpn_protocols = vec![http.to_vec()];
    let mut towards = (*backend_client_config(&house.ca.anchors()).unwrap()).clone();
    towards.alpn_protocols = vec![http.to_vec()];
    let (edge, towards) = (Arc::new(edge), Arc::new(towards));
    tasks.spawn(async move {
        let mut ways = JoinSet::new();
        while let Ok((near, _)) = listener.accept().await {
            let (edge, towards) = (TlsAcceptor::from(Arc::clone(&edge)), Arc::clone(&towards));
            ways.spawn(async move {
                // A link by its ALPN name finds nobody here: rustls ends that handshake.
                let Ok(mut near) = edge.accept(near).await else { return };
                let far = TcpStream::connect(inner).await.unwrap();
                let name = SERVICE.try_into().unwrap();
                let connector = tokio_rustls::TlsConnector::from(towards);
                let mut far = connector.connect(name, far).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    at
}

#[tokio::test]
async fn every_rung_carries_requests_on_every_port_that_takes_links() {
    within(async {
        for (way, rung) in [("tcp", Rung::TcpTls), ("https", Rung::Https), ("shared", Rung::Https)]
        {
            let mut site = Site::start().await;
            match way {
                "tcp" => site.dial(Some(site.links), Some(site.https_links)),
                "https" => site.dial(None, Some(site.https_links)),
                _ => site.dial(None, Some(site.clients)),
            };
            site.until_links(1).await;
            site.works().await;
            let links = site.gateway.status().links;
            let rungs: Vec<_> = links.iter().map(|link| link.rung).collect();
            assert_eq!(rungs, [rung], "{way}");
            site.stop().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_link_goes_through_a_balancer_that_ends_tls_by_whichever_http_it_speaks() {
    within(async {
        let logs = Logs::capture();
        let both: [(&[u8], _); 2] = [(b"http/1.1", "https-upgrade"), (b"h2", "https-h2")];
        for ((http, rung), shared) in both.into_iter().flat_map(|it| [(it, true), (it, false)]) {
            let mut site = Site::start().await;
            let inner = if shared { site.clients } else { site.https_links };
            let mut tasks = JoinSet::new();
            let at = balancer(&site.house, inner, http, &mut tasks).await;
            let (_held, refused) = refused();
            site.dial(Some(refused), Some(at));
            site.until_links(1).await;
            site.works().await;
            let links = site.gateway.status().links;
            assert_eq!(links[0].rung.name(), rung, "{shared}");
            assert!(!logs.with(&["link up", &format!("\"rung\":\"{rung}\"")]).is_empty());
            site.stop().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_refused_and_a_silent_port_are_both_passed_over() {
    within(async {
        let mut tasks = JoinSet::new();
        let (_held, refused) = refused();
        for at in [refused, silent(&mut tasks).await] {
            let mut site = Site::start().await;
            site.house.connection_point_limits.dial = Duration::from_millis(300);
            site.dial(Some(at), Some(site.https_links));
            site.until_links(1).await;
            site.works().await;
            site.stop().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_way_that_is_silent_does_not_keep_the_next_one_waiting_for_its_deadline() {
    within(async {
        let mut tasks = JoinSet::new();
        let silent = silent(&mut tasks).await;
        let mut site = Site::start().await;
        let limits = &mut site.house.connection_point_limits;
        (limits.dial, limits.next_rung) = (Duration::from_hours(1), Duration::from_millis(100));
        let connection_point = site.dial(Some(silent), Some(site.https_links));
        site.until_links(1).await;
        site.works().await;
        let missteps = connection_point.status().places[0].missteps.clone();
        let told: Vec<_> = missteps.iter().map(|it| format!("{}: {}", it.rung, it.why)).collect();
        assert_eq!(told, ["tcp-tls: silent for 0.1 s; https was not"]);
        site.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_better_way_that_opens_is_taken_without_losing_a_request() {
    within(async {
        let logs = Logs::capture();
        let mut site = Site::start().await;
        site.house.connection_point_limits.better_rung = Duration::from_millis(50);
        // The port of the better rung refuses; what listens there later carries.
        let (held, blocked) = refused();
        site.dial(Some(blocked), Some(site.https_links));
        site.until_links(1).await;
        let mut client = Client::dial(site.clients, &site.house.ca, Http::One).await;
        let opened = held.listen(16).unwrap();
        let (links, mut tasks) = (site.links, JoinSet::new());
        tasks.spawn(async move {
            while let Ok((near, _)) = opened.accept().await {
                carry(near, links).await;
            }
        });
        while logs.with(&["link up", "\"rung\":\"tcp-tls\""]).is_empty() {
            let answer = client.ask(bare("GET", &target("/SMS_MP/x"))).await;
            assert_eq!((answer.status(), answer.reason()), (200, None));
        }
        // The old link is let go of once the new one stands.
        while site.gateway.links() != 1 {
            let answer = client.ask(bare("GET", &target("/SMS_MP/x"))).await;
            assert_eq!((answer.status(), answer.reason()), (200, None));
        }
        site.works().await;
        drop(client);
        site.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_better_way_that_carries_one_link_is_taken_by_the_other_at_once() {
    within(async {
        let mut site = Site::start().await;
        let limits = &mut site.house.connection_point_limits;
        (limits.links_per_instance, limits.better_rung) = (2, Duration::from_hours(1));
        // The first to come is turned away.
        let listener = TcpListener::bind(ANY).await.unwrap();
        let (at, links) = (listener.local_addr().unwrap(), site.links);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            drop(listener.accept().await.unwrap());
            let mut ways = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                ways.spawn(carry(near, links));
            }
        });
        site.dial(Some(at), Some(site.https_links));
        until(|| {
            let links = site.gateway.status().links;
            links.len() == 2 && links.iter().all(|link| link.rung == Rung::TcpTls)
        })
        .await;
        site.stop().await;
    })
    .await;
}

/// An HTTPS server that speaks `http`, and answers the first octets that it hears with `answer`; it
/// returns them. A server that has none hears octets that ask for nothing yet.
async fn answering(
    house: &House,
    http: &[u8],
    answer: Vec<u8>,
    tasks: &mut JoinSet<Vec<u8>>,
) -> TcpStream {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let at = listener.local_addr().unwrap();
    let mut edge = (*client_edge_config(&house.ca.server(SERVICE)).unwrap()).clone();
    edge.alpn_protocols = vec![http.to_vec()];
    tasks.spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = TlsAcceptor::from(Arc::new(edge)).accept(stream).await.unwrap();
        let mut asked = vec![0; 1024];
        let octets = stream.read(&mut asked).await.unwrap();
        asked.truncate(octets);
        stream.write_all(&answer).await.unwrap();
        let _ = stream.shutdown().await;
        asked
    });
    connect("127.0.0.1", at.port()).await.unwrap()
}

/// TLS of a connection point: around a link, and in it.
fn dialling(house: &House) -> (Arc<ClientConfig>, Arc<ClientConfig>) {
    let https = backend_client_config(&house.ca.anchors()).unwrap();
    let identity = house.ca.connection_point("cp-1");
    (https, link_client_config(&identity, &house.ca.anchors()).unwrap())
}

/// What an upgrade comes to at an HTTPS server that answers it with `answer`.
async fn upgraded_by(answer: &'static [u8]) -> ConnectError {
    let (house, mut tasks) = (House::before(ANY), JoinSet::new());
    let socket = answering(&house, b"http/1.1", answer.to_vec(), &mut tasks).await;
    let (https, link) = dialling(&house);
    let why = upgrade_link(socket, (SERVICE, SERVICE), https, link).await.unwrap_err();
    let asked = String::from_utf8(tasks.join_next().await.unwrap().unwrap()).unwrap();
    assert!(asked.starts_with("GET /relay-link HTTP/1.1\r\n"), "{asked}");
    assert!(asked.to_lowercase().contains("upgrade: relay-link/1\r\n"), "{asked}");
    why
}

/// What an extended CONNECT comes to at an HTTPS server that speaks `http` and says these octets.
async fn connected_by(http: &[u8], said: &[u8]) -> ConnectError {
    let (house, mut tasks) = (House::before(ANY), JoinSet::new());
    let socket = answering(&house, http, said.to_vec(), &mut tasks).await;
    let (https, link) = dialling(&house);
    connect_link_http2(socket, (SERVICE, SERVICE), &https, link).await.unwrap_err()
}

/// What an extended CONNECT comes to at a server of HTTP/2 that answers everything 405.
async fn refused_by(builder: h2::server::Builder) -> ConnectError {
    let house = House::before(ANY);
    let listener = TcpListener::bind(ANY).await.unwrap();
    let at = listener.local_addr().unwrap();
    let edge = TlsAcceptor::from(client_edge_config(&house.ca.server(SERVICE)).unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let stream = edge.accept(stream).await.unwrap();
        let mut connection = builder.handshake::<_, bytes::Bytes>(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let answer = http::Response::builder().status(405).body(()).unwrap();
            respond.send_response(answer, true).unwrap();
        }
    });
    let socket = connect("127.0.0.1", at.port()).await.unwrap();
    let (https, link) = dialling(&house);
    connect_link_http2(socket, (SERVICE, SERVICE), &https, link).await.unwrap_err()
}

#[tokio::test]
async fn a_connect_that_is_not_granted_says_why() {
    within(async {
        let old = refused_by(h2::server::Builder::new()).await;
        assert!(matches!(old, ConnectError::NoExtendedConnect), "{old:?}");
        let mut extended = h2::server::Builder::new();
        extended.enable_connect_protocol();
        let refused = refused_by(extended).await;
        assert!(matches!(refused, ConnectError::NotConnected { status: 405 }), "{refused:?}");
        assert!(refused.to_string().contains("answered 405, not 200"), "{refused}");
        for said in [&b""[..], b"HTTP/1.1 400 Bad Request\r\n\r\n", SETTINGS] {
            let broken = connected_by(b"h2", said).await;
            assert!(matches!(broken, ConnectError::Http2(_)), "{broken:?}");
        }
        let http1 = connected_by(b"http/1.1", b"").await;
        assert!(matches!(http1, ConnectError::Tls(_)), "{http1:?}");
    })
    .await;
}

#[tokio::test]
async fn an_upgrade_that_is_not_granted_says_how_it_was_answered() {
    within(async {
        let not = upgraded_by(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        assert!(matches!(not, ConnectError::NotUpgraded { status: 200 }), "{not:?}");
        let not = upgraded_by(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await;
        assert!(not.to_string().contains("answered 403, not 101"), "{not}");
        let granted = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
                       upgrade: relay-link/1\r\n\r\nspoken too soon";
        let soon = upgraded_by(granted.as_bytes()).await;
        assert!(matches!(soon, ConnectError::Upgrade(_)), "{soon:?}");
        let garbage = upgraded_by(b"220 mail.example ESMTP\r\n").await;
        assert!(matches!(garbage, ConnectError::Upgrade(_)), "{garbage:?}");
        let nothing = upgraded_by(b"").await;
        assert!(matches!(nothing, ConnectError::Upgrade(_)), "{nothing:?}");
    })
    .await;
}

#[tokio::test]
async fn a_port_for_links_alone_serves_no_client() {
    within(async {
        let mut site = Site::start().await;
        site.dial(None, Some(site.https_links));
        site.until_links(1).await;
        let mut client = Client::dial(site.https_links, &site.house.ca, Http::One).await;
        let answer = client.ask(bare("GET", &target("/SMS_MP/x"))).await;
        assert_eq!(answer.status(), 404);
        drop(client);
        site.stop().await;
    })
    .await;
}
