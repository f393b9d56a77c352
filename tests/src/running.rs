//! Both roles over real sockets on loopback, each as a task that runs until it is told to stop.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU8, Ordering};

use relay_core::connection_point::ConnectionPoint;
use relay_core::gateway::{Gateway, Listeners};
use relay_core::link::DrainReport;
use relay_core::transport::Listener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::client::{Client, Http};
use crate::roles::{House, address, has_settings, until};

/// Any free port of loopback.
pub const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A role that runs until it is told to stop, or dropped.
#[derive(Debug)]
pub struct Running {
    /// Sent, or dropped, it asks to stop.
    pub stop: oneshot::Sender<()>,
    /// What the drain did.
    pub ended: JoinHandle<DrainReport>,
}

impl Running {
    /// Starts the role that `role` makes of its request to stop.
    pub fn start<R>(role: impl FnOnce(oneshot::Receiver<()>) -> R) -> Self
    where
        R: Future<Output = DrainReport> + Send + 'static,
    {
        let (stop, told) = oneshot::channel();
        Self { stop, ended: tokio::spawn(role(told)) }
    }

    /// Has it drain, and waits until it has.
    ///
    /// # Panics
    ///
    /// If the role has ended unasked.
    pub async fn stop(self) -> DrainReport {
        self.stop.send(()).expect("the role waits for it");
        self.ended.await.expect("a role does not panic")
    }
}

/// Ready when a [`Running`] is told to stop, or dropped.
pub async fn told(stop: oneshot::Receiver<()>) {
    let _ = stop.await;
}

/// A gateway instance on loopback.
#[derive(Debug)]
pub struct Instance {
    /// The role.
    pub gateway: Gateway,
    /// Where clients connect.
    pub clients: SocketAddr,
    /// Where links connect.
    pub links: SocketAddr,
    /// Its task.
    pub running: Running,
}

impl Instance {
    /// Starts instance `number`.
    ///
    /// # Panics
    ///
    /// If loopback has no free port.
    pub async fn start(house: &House, number: u64) -> Self {
        let clients = Listener::bind(ANY).await.expect("a free port");
        let links = Listener::bind(ANY).await.expect("a free port");
        let addresses = [clients.local_addr(), links.local_addr()];
        let gateway = house.gateway(number);
        let serving = gateway.clone();
        let listeners = Listeners { clients, links: Some(links), https_links: None, quic: None };
        let running =
            Running::start(|stop| async move { serving.serve(listeners, told(stop)).await });
        let [clients, links] = addresses;
        Self { gateway, clients, links, running }
    }

    /// A client that has connected.
    pub async fn client(&self, house: &House, http: Http) -> Client {
        Client::dial(self.clients, &house.ca, http).await
    }

    /// Waits until it has `count` links, and settings.
    pub async fn until_links(&self, count: usize) {
        until(|| self.gateway.links() == count && has_settings(&self.gateway)).await;
    }
}

/// Starts a connection point that dials `links`, in order of their instances.
pub fn connection_point(house: &House, links: &[SocketAddr]) -> Running {
    dialling(house, links).1
}

/// As [`connection_point`], and the role itself.
pub fn dialling(house: &House, links: &[SocketAddr]) -> (ConnectionPoint, Running) {
    dialling_from(1, house, links)
}

/// As [`dialling`], where the first of `links` is of instance `first`.
pub fn dialling_from(
    first: u64,
    house: &House,
    links: &[SocketAddr],
) -> (ConnectionPoint, Running) {
    let addresses = (first..).zip(links).map(|(number, at)| address(number, at.port())).collect();
    let role = house.connection_point(addresses);
    let serving = role.clone();
    (role, Running::start(|stop| async move { serving.run(told(stop)).await }))
}

/// An address of loopback at which nobody listens, and nobody will: for programs that do not take
/// port 0. A port of 127.0.0.1 that was free a moment ago may be another test's by now; the other
/// addresses of 127.0.0.0/8 are nobody's, and this one is told from others by process and call.
///
/// # Panics
///
/// If loopback has no free port.
pub fn unused_address() -> SocketAddr {
    static CALLS: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let ip = IpAddr::V4(Ipv4Addr::new(127, high, low, call));
    let free = TcpListener::bind((ip, 0)).expect("a free port");
    free.local_addr().expect("a socket that is bound")
}

/// Whether `program`, of Debian's `package`, is installed. Says so if it is not.
///
/// # Panics
///
/// If it is not, where everything has to be: with `RELAY_REQUIRE_TOOLS=1`.
pub fn is_installed(program: &str, package: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    let is_required = std::env::var_os("RELAY_REQUIRE_TOOLS").is_some_and(|value| value == "1");
    assert!(found || !is_required, "no {program}: apt-get install {package}");
    if !found {
        eprintln!("skipped: no {program} (apt-get install {package})");
    }
    found
}
