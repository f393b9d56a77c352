//! Links through squid and tinyproxy.

use relay_core::transport::{
    Listener, Purpose, accept_link, link_client_config, link_server_config, secure_link,
};
use relay_tests::pki::SiteCa;
use relay_tests::site::octets;

use super::programs::{PASSWORD, Program, USER};
use super::*;

/// Octets that each side sends through the tunnel.
const OCTETS: usize = 300_000;

/// Whether this run may not skip what it cannot do.
fn tools_are_required() -> bool {
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    is("CI", "true") && is("RELAY_REQUIRE_TOOLS", "1")
}

/// Everything a real proxy is asked here.
async fn a_proxy_is_asked(program: Program) {
    let Some(path) = program.find() else {
        assert!(!tools_are_required(), "not installed: {program:?}");
        println!("skipped: {program:?} cannot be started; install it to run this test");
        return;
    };
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
    let client = link_client_config(&ca.connection_point(), &ca.anchors()).unwrap();
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
