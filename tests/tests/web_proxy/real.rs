//! Links through squid and tinyproxy.

use std::path::PathBuf;

use relay_core::connection_point::GatewayAddress;
use relay_core::gateway::Listeners;
use relay_core::transport::{
    Listener, Purpose, accept_link, link_client_config, link_server_config, secure_link,
};
use relay_tests::client::{Client, Http, bare};
use relay_tests::pki::SiteCa;
use relay_tests::roles::{House, address, has_settings, target, until};
use relay_tests::site::{Backend, octets};
use tokio::task::JoinSet;

use super::programs::{PASSWORD, Program, USER};
use super::*;

/// Octets that each side sends through the tunnel.
const OCTETS: usize = 300_000;

/// Whether this run may not skip what it cannot do.
fn tools_are_required() -> bool {
    std::env::var_os("RELAY_REQUIRE_TOOLS").is_some_and(|value| value == "1")
}

/// Where `program` is, unless the test is to be skipped, which is said.
fn find(program: Program) -> Option<PathBuf> {
    let path = program.find();
    if path.is_none() {
        assert!(!tools_are_required(), "not installed: {program:?}");
        println!("skipped: {program:?} cannot be started; install it to run this test");
    }
    path
}

/// Everything a real proxy is asked here.
async fn a_proxy_is_asked(program: Program) {
    let Some(path) = find(program) else { return };
    let gateway = Listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let elsewhere = Listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let port = gateway.local_addr().port();
    let running = program.start(&path, port).await;
    let dial = async |shown: Option<(&str, &str)>, port: u16| {
        let shown = shown.map(|(user, password)| ProxyCredentials::new(user, password).unwrap());
        dial_through(&proxy_at(running.address, shown), "127.0.0.1", port, LONG).await
    };

    let verdict = dial(None, port).await;
    let Err(ProxyError::CredentialsRequired { schemes }) = verdict else { panic!("{verdict:?}") };
    assert_eq!(schemes, ["Basic"]);

    for wrong in [(USER, "wrong"), ("nobody", PASSWORD), ("", "")] {
        let verdict = dial(Some(wrong), port).await;
        let Err(ProxyError::CredentialsRejected { schemes }) = verdict else {
            panic!("{wrong:?}: {verdict:?}\n{}", running.log())
        };
        assert_eq!(schemes, ["Basic"]);
    }

    let right = Some((USER, PASSWORD));
    let verdict = dial(right, elsewhere.local_addr().port()).await;
    assert!(matches!(verdict, Err(ProxyError::Refused { status: 403, .. })), "{verdict:?}");

    let stream = dial(right, port).await.unwrap();
    a_link_works(stream, &gateway).await;

    // Nobody is behind the port any more: the proxy is who says so.
    drop(gateway);
    let verdict = dial(right, port).await;
    let Err(ProxyError::Refused { status, reason }) = verdict else { panic!("{verdict:?}") };
    assert!((500..=504).contains(&status), "{status} {reason}");
}

/// TLS as of a link over `stream`, whose far end is accepted by `gateway`; octets go both ways.
async fn a_link_works(stream: TcpStream, gateway: &Listener) {
    let ca = SiteCa::new();
    let server = link_server_config(&ca.server(HOST), &ca.anchors()).unwrap();
    let client = link_client_config(&ca.connection_point("cp-1"), &ca.anchors()).unwrap();
    let accept = async {
        let (stream, _) = gateway.accept(Purpose::Link).await;
        accept_link(stream, server, LONG).await.unwrap()
    };
    let (mut near, mut far) = within(async {
        let (near, far) = tokio::join!(secure_link(stream, HOST, client), accept);
        (near.unwrap(), far)
    })
    .await;

    let (up, down) = (octets(1, OCTETS), octets(2, OCTETS));
    let near_end = async {
        let (mut reader, mut writer) = tokio::io::split(&mut near);
        let mut came = vec![0; OCTETS];
        let write = async {
            writer.write_all(&up).await.unwrap();
            writer.flush().await.unwrap();
        };
        tokio::join!(write, async { reader.read_exact(&mut came).await.unwrap() });
        came
    };
    let far_end = async {
        let mut came = vec![0; OCTETS];
        far.read_exact(&mut came).await.unwrap();
        far.write_all(&down).await.unwrap();
        far.flush().await.unwrap();
        came
    };
    let (came_near, came_far) = within(async { tokio::join!(near_end, far_end) }).await;
    assert!(came_far == up && came_near == down, "other octets than were sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn squid_carries_a_link_and_says_why_it_does_not() {
    a_proxy_is_asked(Program::Squid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tinyproxy_carries_a_link_and_says_why_it_does_not() {
    a_proxy_is_asked(Program::Tinyproxy).await;
}

/// A whole connection point is behind the proxy, and goes through it.
async fn a_connection_point_is_carried(program: Program) {
    let Some(path) = find(program) else { return };
    let clients = Listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let at = clients.local_addr();
    let running = program.start(&path, at.port()).await;
    let backend = Backend::echo_path().await;
    let mut house = House::before(backend.address);
    let credentials = ProxyCredentials::new(USER, PASSWORD).unwrap();
    house.web_proxy = Some(proxy_at(running.address, Some(credentials)));
    let gateway = house.gateway(1);
    let https = GatewayAddress { tcp_tls_port: None, https_port: Some(at.port()), ..address(1, 0) };
    let connection_point = house.connection_point(vec![https]);
    let listeners = Listeners { clients, links: None, https_links: None, quic: None };
    let mut tasks = JoinSet::new();
    let serving = gateway.clone().serve(listeners, std::future::pending());
    tasks.spawn(async move { _ = serving.await });
    tasks.spawn(async move { _ = connection_point.run(std::future::pending()).await });
    within(async {
        until(|| gateway.links() == 1 && has_settings(&gateway)).await;
        let mut client = Client::dial(at, &house.ca, Http::Two).await;
        let answer = client.ask(bare("GET", &target("/SMS_MP/x"))).await;
        assert_eq!((answer.status(), answer.reason()), (200, None));
        // The link ends with the proxy, so it went through it.
        drop(running);
        until(|| gateway.links() == 0).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn squid_carries_a_connection_point() {
    a_connection_point_is_carried(Program::Squid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tinyproxy_carries_a_connection_point() {
    a_connection_point_is_carried(Program::Tinyproxy).await;
}
