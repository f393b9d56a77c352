//! Link peers that may not be there, or do not keep to the protocol.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::sync::Arc;

use relay_core::connection_point::LinkEnded;
use relay_core::gateway::{Gateway, LinkRefused};
use relay_core::mux::{Config, Flags, Header, Hello, HelloError, Kind, LinkError, Side, StreamId};
use relay_core::transport::{
    ConnectError, Identity, LINK_ALPN, accept_link, link_client_config, link_server_config,
    secure_link,
};
use relay_tests::client::{Client, Http, bare, tls, with_body};
use relay_tests::logs::Logs;
use relay_tests::mux::frames;
use relay_tests::pki::SiteCa;
use relay_tests::roles::{House, PIPE, ROGUE, SERVICE, SITE, address, target, until, within};
use relay_tests::site::{Backend, fed, nobody, octets};
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;

/// A name, first octets, and whether an error is the one they deserve.
type Beginning = (&'static str, Vec<u8>, fn(&HelloError) -> bool);

type Served = JoinHandle<Result<(), LinkRefused>>;

/// A pipe to the link port of `gateway`, and what becomes of it there.
fn link_pipe(gateway: &Gateway) -> (DuplexStream, Served) {
    let (near, far) = tokio::io::duplex(PIPE);
    let gateway = gateway.clone();
    (far, tokio::spawn(async move { gateway.serve_link(near).await }))
}

/// A connection to the link port with a certificate of the site in the name of [`ROGUE`], before
/// any octet of the protocol.
async fn secured(house: &House, gateway: &Gateway) -> (TlsStream<DuplexStream>, Served) {
    let (pipe, served) = link_pipe(gateway);
    let tls = shows(&house.ca.connection_point(ROGUE), house);
    (secure_link(pipe, SERVICE, tls).await.unwrap(), served)
}

fn shows(identity: &Identity, house: &House) -> Arc<ClientConfig> {
    link_client_config(identity, &house.ca.anchors()).unwrap()
}

#[tokio::test]
async fn a_peer_that_is_not_of_the_site_is_refused_before_any_frame() {
    within(async {
        let house = House::before(nobody().await);
        let gateway = house.gateway(1);
        let foreign = SiteCa::new();
        let peers = [
            ("no certificate", house.ca.client_tls(LINK_ALPN)),
            ("a foreign certificate", shows(&foreign.connection_point("cp-1"), &house)),
            ("a server's certificate", shows(&house.ca.server(SERVICE), &house)),
            ("a foreign server's certificate", shows(&foreign.server(SERVICE), &house)),
        ];
        for (what, config) in peers {
            let (pipe, served) = link_pipe(&gateway);
            // In TLS 1.3 the dialler is done first, and hears of the refusal when it reads.
            let heard = match secure_link(pipe, SERVICE, config).await {
                Ok(mut stream) => stream.read(&mut [0; 1]).await.map_err(ConnectError::Tls),
                Err(why) => Err(why),
            };
            let refused = served.await.unwrap().unwrap_err();
            assert!(
                matches!(refused, LinkRefused::Connect(ConnectError::Tls(_))),
                "{what}: {refused:?}"
            );
            assert!(heard.is_err(), "{what}: not an octet comes back");
            assert_eq!(gateway.links(), 0, "{what}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_of_the_edge_and_a_link_cannot_be_taken_for_each_other() {
    within(async {
        let house = House::before(nobody().await);
        let gateway = house.gateway(1);
        for alpn in [&b"h2"[..], b"http/1.1"] {
            let (pipe, served) = link_pipe(&gateway);
            let mut config = shows(&house.ca.connection_point("cp-1"), &house).as_ref().clone();
            config.alpn_protocols = vec![alpn.to_vec()];
            assert!(secure_link(pipe, SERVICE, Arc::new(config)).await.is_err());
            assert!(served.await.unwrap().is_err());
        }
        assert_eq!(gateway.links(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_connection_point_refuses_a_gateway_that_is_not_the_sites() {
    within(async {
        let house = House::before(nobody().await);
        let connection_point = house.connection_point(Vec::new());
        let foreign = SiteCa::new();
        let posers = [
            ("another site's gateway", foreign.server(SERVICE), foreign.anchors()),
            ("another name", house.ca.server("other.test"), house.ca.anchors()),
            ("a client's certificate", house.ca.connection_point("cp-1"), house.ca.anchors()),
        ];
        for (what, identity, anchors) in posers {
            let (near, far) = tokio::io::duplex(PIPE);
            let config = link_server_config(&identity, &anchors).unwrap();
            let limit = std::time::Duration::from_secs(30);
            let poser = tokio::spawn(accept_link(near, config, limit));
            let ended = connection_point.serve_link(far, &address(1, 0)).await.unwrap_err();
            assert!(matches!(ended, LinkEnded::Connect(ConnectError::Tls(_))), "{what}: {ended:?}");
            assert!(poser.await.unwrap().is_err(), "{what}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_name_that_the_certificate_does_not_carry_gets_no_link() {
    within(async {
        let house = House::before(nobody().await);
        let gateway = house.gateway(1);
        for (certified, claimed) in [("rogue", ""), ("rogue", "cp-1"), ("rogue.test", "rogue")] {
            let (pipe, served) = link_pipe(&gateway);
            let tls = shows(&house.ca.connection_point(certified), &house);
            let stream = secure_link(pipe, SERVICE, tls).await.unwrap();
            let config = Config { name: claimed.to_owned(), ..Config::default() };
            let (_link, driver) = relay_core::link::new(stream, Side::Dialer, config).unwrap();
            let (heard, served) = tokio::join!(driver, served);
            assert!(matches!(heard, LinkError::RefusedByPeer { .. }), "{heard:?}");
            let refused = served.unwrap().unwrap_err();
            let LinkRefused::NotItsName { claimed: said, certified: names } = &refused else {
                panic!("{certified} as {claimed}: {refused:?}");
            };
            assert_eq!(said, claimed);
            assert!(names.contains(&format!("`{certified}`")), "{names}");
            assert_eq!(gateway.links(), 0);
        }
    })
    .await;
}

#[tokio::test]
async fn a_gateway_that_says_it_is_another_instance_gets_no_link() {
    within(async {
        let house = House::before(nobody().await);
        let (wanted, other) = (house.gateway(1), house.gateway(2));
        for (gateway, is_taken) in [(&wanted, true), (&other, false)] {
            let connection_point = house.connection_point(Vec::new());
            let (pipe, _served) = link_pipe(gateway);
            let to = address(1, 0);
            let mut serving = std::pin::pin!(connection_point.serve_link(pipe, &to));
            let ended = tokio::select! {
                ended = &mut serving => Some(ended.unwrap_err()),
                () = until(|| is_taken && gateway.links() == 1) => None,
            };
            let Some(ended) = ended else { continue };
            let named = matches!(ended, LinkEnded::OtherInstance { found: 2, .. });
            assert!(!is_taken && named, "{ended:?}");
        }
    })
    .await;
}

/// Preface and hello of a connection point that keeps to the protocol.
fn hello(side: Side) -> Vec<u8> {
    let hello = Hello {
        stream_window: 32 << 10,
        payload_max: 16_376,
        head_max: 16_376,
        streams: 16,
        keep_alive: std::time::Duration::from_secs(15),
        link: 1,
        instance: 0,
        name: ROGUE.to_owned(),
        epoch: 1,
        software: "test".to_owned(),
        site: SITE.to_owned(),
    };
    hello.encode(side)
}

#[tokio::test]
async fn a_link_that_begins_wrongly_ends_with_its_named_error_and_no_other_does() {
    within(async {
        let backend = Backend::echo_path().await;
        let house = House::before(backend.address);
        let (gateway, _healthy) = house.joined().await;
        let mut client = Client::join(&gateway, &house.ca, Http::Two).await;

        let with = |place: usize, octet: u8| {
            let mut octets = hello(Side::Dialer);
            octets[place] = octet;
            octets
        };
        let http = b"GET / HTTP/1.1\r\nHost: relay.test\r\n\r\n".to_vec();
        let beginnings: [Beginning; 6] = [
            ("HTTP", http, |why| matches!(why, HelloError::BadMagic)),
            ("garbage", vec![0xa5; 64], |why| matches!(why, HelloError::BadMagic)),
            ("version 2", with(8, 2), |why| matches!(why, HelloError::Version { .. })),
            ("own side", hello(Side::Listener), |why| matches!(why, HelloError::Role { .. })),
            ("reserved", with(11, 1), |why| matches!(why, HelloError::Reserved { .. })),
            ("long hello", with(12, 1), |why| matches!(why, HelloError::TooLong { .. })),
        ];
        for (what, mut octets, expected) in beginnings {
            if what == "version 2" {
                octets[9] = 2;
            }
            let (mut stream, served) = secured(&house, &gateway).await;
            stream.write_all(&octets).await.unwrap();
            stream.flush().await.unwrap();
            let refused = served.await.unwrap().unwrap_err();
            let LinkRefused::Link(LinkError::Hello(why)) = refused else {
                panic!("{what}: {refused:?}");
            };
            assert!(expected(&why), "{what}: {why:?}");
            assert_eq!(gateway.links(), 1);
            let answer = client.ask(bare("GET", &target("/SMS_MP/x"))).await;
            assert_eq!(answer.status(), 200, "after {what}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_frame_that_breaks_the_protocol_ends_its_link_alone() {
    let logs = Logs::capture();
    within(async {
        let backend = Backend::echo_path().await;
        let house = House::before(backend.address);
        let (gateway, _healthy) = house.joined().await;
        let mut client = Client::join(&gateway, &house.ca, Http::One).await;

        let stream = StreamId::nth(Side::Dialer, 0).unwrap();
        let too_long = Header::encode(Kind::Data, Flags::NONE, stream, 16_377);
        let not_open = Header::encode(Kind::Data, Flags::END, stream, 1);
        let unknown = [0, 0, 0, 0xd0, 0, 0, 0, 0];
        let frames = [
            ("oversized", too_long, "exceeds the limit of 16376"),
            ("not open", not_open, "stream"),
            ("unknown", unknown, "unknown kind"),
        ];
        for (what, frame, named) in frames {
            let (mut pipe, served) = secured(&house, &gateway).await;
            pipe.write_all(&hello(Side::Dialer)).await.unwrap();
            pipe.flush().await.unwrap();
            until(|| gateway.links() == 2).await;
            pipe.write_all(&frame).await.unwrap();
            pipe.write_all(&[0; 64]).await.unwrap();
            pipe.flush().await.unwrap();
            // A link that was up and ends is no refusal; the log says why it ended.
            served.await.unwrap().unwrap();
            let lines = logs.with(&["link down", "rogue", named]);
            assert!(!lines.is_empty(), "{what}: {:?}", logs.with(&["link down"]));
            assert_eq!(gateway.links(), 1, "{what}");
            for _ in 0..2 {
                let answer = client.ask(bare("GET", &target("/SMS_MP/x"))).await;
                assert_eq!(answer.status(), 200, "after {what}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_connection_point_names_what_a_gateway_does_wrongly() {
    within(async {
        let house = House::before(nobody().await);
        let connection_point = house.connection_point(Vec::new());
        let (near, far) = tokio::io::duplex(PIPE);
        let config = link_server_config(&house.ca.server(SERVICE), &house.ca.anchors()).unwrap();
        let rogue = tokio::spawn(async move {
            let limit = std::time::Duration::from_secs(30);
            let mut stream = accept_link(near, config, limit).await.unwrap();
            stream.write_all(&[0xa5; 64]).await.unwrap();
            stream.flush().await.unwrap();
            stream
        });
        let ended = connection_point.serve_link(far, &address(1, 0)).await.unwrap_err();
        assert!(
            matches!(ended, LinkEnded::Link(LinkError::Hello(HelloError::BadMagic))),
            "{ended:?}"
        );
        drop(rogue.await.unwrap());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing_is_given_up() {
    within(async {
        let house = House::before(([127, 0, 0, 1], 9).into());
        let gateway = house.gateway(1);
        let (_pipe, served) = link_pipe(&gateway);
        let refused = served.await.unwrap().unwrap_err();
        let in_time = matches!(refused, LinkRefused::Connect(ConnectError::Timeout { .. }));
        assert!(in_time, "before TLS: {refused:?}");

        let (_stream, served) = secured(&house, &gateway).await;
        let refused = served.await.unwrap().unwrap_err();
        let in_time = matches!(refused, LinkRefused::Link(LinkError::HelloTimeout));
        assert!(in_time, "before the hello: {refused:?}");

        let connection_point = house.connection_point(Vec::new());
        let (_silent, pipe) = tokio::io::duplex(PIPE);
        let ended = connection_point.serve_link(pipe, &address(1, 0)).await.unwrap_err();
        let in_time = matches!(ended, LinkEnded::Connect(ConnectError::Timeout { .. }));
        assert!(in_time, "a gateway: {ended:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_point_that_stops_waits_for_no_handshake() {
    within(async {
        let house = House::before(([127, 0, 0, 1], 9).into());
        let connection_point = house.connection_point(Vec::new());
        connection_point.clone().run(std::future::ready(())).await;
        let (_silent, pipe) = tokio::io::duplex(PIPE);
        let ended = connection_point.serve_link(pipe, &address(1, 0)).await;
        assert!(ended.is_ok(), "{ended:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_link_whose_pipe_is_full_still_says_why_it_ends() {
    within(async {
        let mut house = House::before(([127, 0, 0, 1], 9).into());
        house.initial = vec![house.document()];
        let gateway = house.gateway(1);
        let (mut pipe, served) = secured(&house, &gateway).await;
        // Wide windows, so that only the pipe holds the gateway back.
        let (name, site) = (ROGUE.to_owned(), SITE.to_owned());
        let config = Config { stream_window: 1 << 20, name, site, ..Config::default() };
        pipe.write_all(&Hello::of(&config).encode(Side::Dialer)).await.unwrap();
        pipe.flush().await.unwrap();
        until(|| gateway.links() == 1).await;
        let (sender, body) = fed();
        let mut client = Client::join(&gateway, &house.ca, Http::Two).await;
        let post = with_body("CCM_POST", &target("/SMS_MP/x"), body);
        let asked = tokio::spawn(async move { client.ask(post).await.status() });
        // Time passes only once nothing moves any more.
        let second = std::time::Duration::from_secs(1);
        while tokio::time::timeout(second, sender.send(octets(0, PIPE))).await.is_ok() {}

        let unknown_kind = [0, 0, 0, 0xd0, 0, 0, 0, 0];
        pipe.write_all(&unknown_kind).await.unwrap();
        pipe.flush().await.unwrap();
        let mut came = Vec::new();
        // The end may be an error: TLS was not closed in good order.
        while pipe.read_buf(&mut came).await.is_ok_and(|count| count > 0) {}
        let last = frames(&came).pop().unwrap();
        assert_eq!(last.kind, Kind::GoAway as u8);
        served.await.unwrap().unwrap();
        assert_eq!(asked.await.unwrap(), 502);
    })
    .await;
}

#[tokio::test]
async fn links_beyond_their_limit_are_refused_until_one_ends() {
    within(async {
        let mut house = House::before(nobody().await);
        house.gateway_limits.links_max = 1;
        let (gateway, first) = house.joined().await;
        let connection_point = house.connection_point(Vec::new());
        let (pipe, served) = link_pipe(&gateway);
        let to = address(1, 0);
        let (served, ended) = tokio::join!(served, connection_point.serve_link(pipe, &to));
        assert!(matches!(served.unwrap(), Err(LinkRefused::TooMany(1))));
        assert!(matches!(ended, Err(LinkEnded::Refused { .. })), "{ended:?}");
        first.lose();
        first.at_gateway.await.unwrap().unwrap();
        let connection_point = house.connection_point(Vec::new());
        let _second = relay_tests::roles::join(&gateway, &connection_point).await;
    })
    .await;
}

#[tokio::test]
async fn strangers_in_their_handshake_take_no_links_place() {
    within(async {
        let mut house = House::before(nobody().await);
        house.gateway_limits.links_max = 2;
        house.gateway_limits.link_handshakes_max = 3;
        let gateway = house.gateway(1);
        let _strangers = [link_pipe(&gateway), link_pipe(&gateway)];
        let connection_point = house.connection_point(Vec::new());
        let _first = relay_tests::roles::join(&gateway, &connection_point).await;
        let _second = relay_tests::roles::join(&gateway, &connection_point).await;
    })
    .await;
}

#[tokio::test]
async fn handshakes_beyond_their_limit_are_refused_at_once() {
    within(async {
        let mut house = House::before(nobody().await);
        house.gateway_limits.link_handshakes_max = 1;
        let gateway = house.gateway(1);
        let _stranger = link_pipe(&gateway);
        let (_pipe, served) = link_pipe(&gateway);
        assert!(matches!(served.await.unwrap(), Err(LinkRefused::TooManyHandshakes(1))));
    })
    .await;
}

#[tokio::test]
async fn a_client_of_the_edge_needs_no_certificate_and_is_asked_for_none() {
    within(async {
        let house = House::before(nobody().await);
        let gateway = house.gateway(1);
        let pipe = relay_tests::client::pipe_to(&gateway);
        let stream = tls(pipe, &house.ca, b"h2").await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    })
    .await;
}
