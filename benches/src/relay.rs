//! A whole relay on loopback: clients, a gateway instance, a connection point and a backend, in
//! one process, over real sockets and real TLS.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use relay_core::auth::Methods;
use relay_core::connection_point::{
    BackendConfig, ConnectionPoint, ConnectionPointConfig, ConnectionPointLimits, GatewayAddress,
    SiteEndpoint,
};
use relay_core::gateway::{Balance, Gateway, GatewayConfig, GatewayLimits, Listeners};
use relay_core::policy::{Access, Endpoint, EndpointKind, RequestHeaders};
use relay_core::settings::ClientTrust;
use relay_core::transport::{
    Identity, Instance, Listener, Network, QuicListener, Rung, backend_client_config,
    client_edge_config_asking, link_client_config, link_server_config,
};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::clients::ClientSite;
use crate::load::take_turn;
use crate::pki::{CONNECTION_POINT, HOST, Papers, SiteCa};
use crate::{CHUNK_OCTETS, payload};

/// Role id of the management point that anybody may use; the size of number that real sites have.
const ROLE: u64 = 72_057_594_037_927_939;

/// Role id of the one that asks clients who they are.
const ASKING_ROLE: u64 = ROLE + 1;

/// How often the fixture looks whether the link is up.
const LOOK: Duration = Duration::from_millis(1);

/// Where a client's requests go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// Through the relay, over TLS, where anybody may.
    Relayed,
    /// As that, where clients are asked who they are and show a token of the site.
    RelayedByToken,
    /// As that, where they have shown a certificate of the site's authority in TLS.
    RelayedByCertificate,
    /// Straight to the backend, without TLS: what the backend and the client alone cost.
    Direct,
}

/// What a client asks for.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// Octets of the request's body; 0 is a GET, anything else a `CCM_POST`.
    pub up: usize,
    /// Octets of the answer's body.
    pub down: usize,
}

/// The relay and its backend. Dropping it ends everything.
#[derive(Debug)]
pub struct Relay {
    clients: SocketAddr,
    backend: SocketAddr,
    client_tls: Arc<ClientConfig>,
    /// TLS of a client that shows a certificate.
    shown_tls: Arc<ClientConfig>,
    /// What a client shows that has a token.
    authorization: HeaderValue,
    _tasks: JoinSet<()>,
}

impl Relay {
    /// Starts everything on the current runtime and waits for the link.
    ///
    /// # Panics
    ///
    /// If loopback cannot be used.
    pub async fn start() -> Self {
        Self::start_over(Rung::TcpTls).await
    }

    /// As [`Relay::start`], with one link that takes this way.
    ///
    /// # Panics
    ///
    /// As [`Relay::start`].
    pub async fn start_over(rung: Rung) -> Self {
        let (ca, clients_site) = (SiteCa::new(), ClientSite::new());
        let mut tasks = JoinSet::new();
        let backend = start_backend(&mut tasks).await;
        let clients = listener().await;
        let links = listener().await;
        let link_tls = link_server_config(&ca.server(), &ca.anchors());
        let link_tls = link_tls.expect("the identity was made for this");
        let quic = QuicListener::bind((Ipv4Addr::LOCALHOST, 0).into(), Arc::clone(&link_tls));
        let quic = quic.expect("loopback has a free port");
        let clients_at = clients.local_addr();
        let links_at = match rung {
            Rung::TcpTls => links.local_addr(),
            Rung::Quic => quic.local_addr(),
            Rung::Https | Rung::HttpsUpgrade | Rung::HttpsHttp2 => clients_at,
        };
        let gateway = gateway(&ca.server(), link_tls, gateway_limits());
        let quic = Some(quic);
        let listeners = Listeners { clients, links: Some(links), https_links: None, quic };
        let serving = gateway.clone().serve(listeners, std::future::pending());
        tasks.spawn(async move { _ = serving.await });
        let limits = ConnectionPointLimits::default();
        let papers = ca.link_client_papers();
        let published = Some(clients_site.published(&ca));
        let connection_point =
            connection_point(&papers, (rung, links_at), backend, limits, published);
        let running = connection_point.run(std::future::pending());
        tasks.spawn(async move { _ = running.await });
        while gateway.settings().sites.is_empty() {
            tokio::time::sleep(LOOK).await;
        }
        let client_tls = backend_client_config(&ca.anchors());
        let client_tls = client_tls.expect("the provider supports the default versions");
        let shown_tls = showing(&ca, &ca.link_client());
        let authorization = format!("Bearer {}", clients_site.token(0));
        let authorization = HeaderValue::try_from(authorization).expect("a token is text");
        Self { clients: clients_at, backend, client_tls, shown_tls, authorization, _tasks: tasks }
    }

    /// Connects `count` clients, each with a connection of its own.
    ///
    /// # Panics
    ///
    /// If one cannot connect.
    pub async fn clients(&self, way: Way, count: usize) -> Vec<Client> {
        let mut clients = Vec::with_capacity(count);
        for _ in 0..count {
            clients.push(self.client(way).await);
        }
        clients
    }

    async fn client(&self, way: Way) -> Client {
        let asking = format!("/CCM_Proxy_MutualAuth/{ASKING_ROLE}");
        match way {
            Way::Relayed => Client::dial(self.clients, Arc::clone(&self.client_tls)).await,
            Way::RelayedByToken => {
                let client = Client::dial(self.clients, Arc::clone(&self.client_tls)).await;
                let authorization = Some(self.authorization.clone());
                Client { root: asking, authorization, ..client }
            }
            Way::RelayedByCertificate => {
                let client = Client::dial(self.clients, Arc::clone(&self.shown_tls)).await;
                Client { root: asking, ..client }
            }
            Way::Direct => {
                let send = connect(TokioIo::new(reach(self.backend).await)).await;
                Client { send, root: String::new(), authorization: None }
            }
        }
    }
}

/// TLS of a client that shows a certificate.
fn showing(ca: &SiteCa, identity: &Identity) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates([CertificateDer::from(ca.der().to_vec())]);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider supports the default versions")
        .with_root_certificates(roots);
    let (chain, key) = (identity.chain().to_vec(), identity.key().clone_key());
    let config = builder.with_client_auth_cert(chain, key);
    Arc::new(config.expect("the key is the certificate's"))
}

async fn reach(to: SocketAddr) -> TcpStream {
    let tcp = TcpStream::connect(to).await.expect("the listener takes the connection");
    tcp.set_nodelay(true).expect("the socket is connected");
    tcp
}

async fn connect<P>(io: TokioIo<P>) -> SendRequest<Octets>
where
    P: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (send, connection) = handshake(io).await.expect("a fresh connection takes requests");
    // Ends with the client that it belongs to.
    tokio::spawn(connection);
    send
}

/// What the paths of clients begin with.
pub fn root() -> String {
    format!("/CCM_Proxy_MutualAuth/{ROLE}")
}

/// Connects to a gateway's client port.
///
/// # Panics
///
/// If it cannot.
pub async fn secure(to: SocketAddr, tls: Arc<ClientConfig>) -> TlsStream<TcpStream> {
    let name = ServerName::try_from(HOST).expect("the host is a DNS name");
    let secured = TlsConnector::from(tls).connect(name, reach(to).await);
    secured.await.expect("the client trusts the site")
}

/// A client and its connection.
#[derive(Debug)]
pub struct Client {
    send: SendRequest<Octets>,
    root: String,
    /// What it shows with each request.
    authorization: Option<HeaderValue>,
}

impl Client {
    /// Connects to a gateway's client port.
    ///
    /// # Panics
    ///
    /// If it cannot.
    pub async fn dial(to: SocketAddr, tls: Arc<ClientConfig>) -> Self {
        let send = connect(TokioIo::new(secure(to, tls).await)).await;
        Self { send, root: root(), authorization: None }
    }

    /// Waits for a notification: an exchange that the backend answers when it likes.
    ///
    /// # Panics
    ///
    /// If the answer is not 200.
    pub async fn await_notification(&mut self) {
        self.send.ready().await.expect("the connection is kept alive");
        let request = Request::builder()
            .uri(format!("{}/BGB/held", self.root))
            .header("host", HOST)
            .body(Octets { left: 0 })
            .expect("the parts are constants that are valid");
        let answer = self.send.send_request(request).await.expect("the request is answered");
        assert_eq!(answer.status(), StatusCode::OK, "{:?}", answer.headers());
        count(answer.into_body()).await;
    }

    /// Makes one request and reads the whole answer.
    ///
    /// # Panics
    ///
    /// If the answer is not 200 or its body not of the length that was asked for.
    pub async fn ask(&mut self, ask: Ask) {
        self.send.ready().await.expect("the connection is kept alive");
        let method = match ask.up {
            0 => Method::GET,
            _ => Method::from_bytes(b"CCM_POST").expect("the verb is a token"),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}/SMS_MP/{}", self.root, ask.down))
            .header("host", HOST)
            .header("user-agent", "ConfigMgr Messaging HTTP Sender")
            .body(Octets { left: ask.up })
            .expect("the parts are constants that are valid");
        if let Some(shown) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, shown.clone());
        }
        let answer = self.send.send_request(request).await.expect("the request is answered");
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(count(answer.into_body()).await, ask.down, "the answer is whole");
    }
}

/// Makes `count` requests, as many at any time as there are clients.
///
/// # Panics
///
/// As [`Client::ask`].
pub async fn ask_all(clients: Vec<Client>, ask: Ask, count: u64) -> Vec<Client> {
    let left = Arc::new(AtomicU64::new(count));
    let mut workers = JoinSet::new();
    for mut client in clients {
        let left = Arc::clone(&left);
        workers.spawn(async move {
            while take_turn(&left) {
                client.ask(ask).await;
            }
            client
        });
    }
    workers.join_all().await
}

/// A body of known length that costs nothing to make.
#[derive(Debug)]
struct Octets {
    left: usize,
}

impl Body for Octets {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let chunk = payload(self.left.min(CHUNK_OCTETS));
        self.left -= chunk.len();
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}

async fn count(mut body: Incoming) -> usize {
    let mut octets = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.expect("the body is not cut");
        octets += frame.data_ref().map_or(0, Bytes::len);
    }
    octets
}

async fn listener() -> Listener {
    let at = (Ipv4Addr::LOCALHOST, 0).into();
    Listener::bind(at).await.expect("loopback has a free port")
}

/// A backend that answers with as many octets as the last segment of the path says.
async fn start_backend(tasks: &mut JoinSet<()>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.expect("loopback has a free port");
    let address = listener.local_addr().expect("the socket is bound");
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((tcp, _)) = listener.accept().await {
            let _ = tcp.set_nodelay(true);
            let serve = http1::Builder::new();
            connections.spawn(serve.serve_connection(TokioIo::new(tcp), service_fn(answer)));
        }
    });
    address
}

async fn answer(request: Request<Incoming>) -> Result<Response<Octets>, Infallible> {
    let asked = request.uri().path().rsplit('/').next().and_then(|last| last.parse().ok());
    count(request.into_body()).await;
    let mut response = Response::new(Octets { left: asked.unwrap_or(0) });
    if asked.is_none() {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    Ok(response)
}

fn endpoint(name: &str, role_id: u64, access: Access) -> Endpoint {
    Endpoint {
        name: name.to_owned(),
        kind: EndpointKind::ManagementPoint,
        role_id,
        paths: None,
        request_body_bytes_max: None,
        request_headers: RequestHeaders::Open,
        access,
    }
}

/// Limits with which a gateway instance bears all clients of a benchmark.
pub fn gateway_limits() -> GatewayLimits {
    let mut limits = GatewayLimits::default();
    // All clients of a benchmark are on loopback.
    limits.connections_per_address_max = limits.client_connections_max;
    // The first of thousands waits until the last has connected.
    limits.request_head = limits.idle;
    limits
}

/// A gateway instance.
///
/// # Panics
///
/// If the identity was not made for a server.
pub fn gateway(identity: &Identity, link_tls: Arc<ServerConfig>, limits: GatewayLimits) -> Gateway {
    let client_tls = client_edge_config_asking(identity).expect("the identity was made for this");
    Gateway::new(GatewayConfig {
        service: HOST.to_owned(),
        instance: Instance::FIRST,
        initial: Vec::new(),
        client_tls,
        link_tls,
        certificate_keeper: None,
        fetch: None,
        content: None,
        balance: Balance::default(),
        limits,
    })
}

/// A connection point that dials one address and forwards to one. Whose clients count there is
/// `clients`; `None`: nobody is asked.
///
/// # Panics
///
/// If the papers were not made for a connection point.
pub fn connection_point(
    papers: &Papers,
    (rung, links): (Rung, SocketAddr),
    backend: SocketAddr,
    limits: ConnectionPointLimits,
    clients: Option<ClientTrust>,
) -> ConnectionPoint {
    let port = Some(links.port());
    let link_tls = link_client_config(&papers.identity(), &papers.anchors());
    let url: Uri = format!("http://{backend}").parse().expect("an address makes a URL");
    let mut endpoints = vec![endpoint("mp", ROLE, Access::Anonymous)];
    if clients.is_some() {
        let access = Access::Clients(Methods::default());
        endpoints.push(endpoint("asking", ASKING_ROLE, access));
    }
    let at_backend = |endpoint| {
        let backend = BackendConfig::new(url.clone(), None);
        SiteEndpoint { endpoint, backend }
    };
    let connection_point = ConnectionPoint::new(ConnectionPointConfig {
        name: CONNECTION_POINT.to_owned(),
        site: "bench".to_owned(),
        settings_version: 1,
        gateways: vec![GatewayAddress {
            instance: Instance::FIRST,
            host: links.ip().to_string(),
            tcp_tls_port: port,
            quic_port: port,
            https_port: port,
            only: Some(rung),
            server_name: HOST.to_owned(),
            https_name: HOST.to_owned(),
        }],
        link_tls: link_tls.expect("the identity was made for this"),
        https_tls: backend_client_config(&papers.anchors()).expect("the versions are supported"),
        certificate_issuer: None,
        endpoints: endpoints.into_iter().map(at_backend).collect(),
        tenants: Vec::new(),
        clients,
        limits,
        web_proxy: None,
        network: Network::default(),
    });
    connection_point.expect("no endpoint has a double")
}
