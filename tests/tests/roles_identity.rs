//! Who may be at the ends of a link: certificates that are over, taken back or not of the site.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::time::Duration;

use relay_core::connection_point::LinkEnded;
use relay_core::gateway::{Gateway, LinkRefused};
use relay_core::mux::Side;
use relay_core::transport::{
    Certificate, ConnectError, Identity, TrustAnchors, accept_link, client_edge_config,
    link_client_config, link_server_config, secure_link,
};
use relay_tests::client::{Client, Http, bare};
use relay_tests::pki::SiteCa;
use relay_tests::roles::{House, PIPE, SERVICE, address, join, target, within};
use relay_tests::site::{Backend, nobody};
use tokio::io::AsyncReadExt as _;

/// Which side refused, and why in its own words. The other side hears of it by an alert.
type Handshake = Result<(), (Side, String)>;

/// Shakes hands in memory; each side verifies the other by its own anchors.
async fn shake_hands(
    (server, at_server): (&Identity, &TrustAnchors),
    (client, at_client): (&Identity, &TrustAnchors),
) -> Handshake {
    let accepts = link_server_config(server, at_server).unwrap();
    let dials = link_client_config(client, at_client).unwrap();
    let (near, far) = tokio::io::duplex(PIPE);
    let accept = tokio::spawn(accept_link(near, accepts, Duration::from_secs(30)));
    let dialled = secure_link(far, SERVICE, dials).await;
    match (accept.await.unwrap(), dialled) {
        (Ok(_), Ok(_)) => Ok(()),
        // In TLS 1.3 the dialler is done first; an alert is no reason of its own.
        (Err(why), Ok(mut stream)) => {
            assert!(stream.read(&mut [0; 1]).await.is_err(), "not an octet comes back");
            Err((Side::Listener, why.to_string()))
        }
        (_, Err(why)) => Err((Side::Dialer, why.to_string())),
    }
}

/// Asserts that `side` refused and named `reason`.
fn assert_refused(handshake: Handshake, side: Side, reason: &str) {
    let (by, why) = handshake.expect_err(reason);
    assert_eq!(by, side, "{why}");
    assert!(why.contains(reason), "`{reason}` is not in: {why}");
}

#[tokio::test]
async fn a_certificate_outside_its_time_is_refused_on_both_sides() {
    within(async {
        let ca = SiteCa::new();
        let anchors = ca.anchors();
        let (server, client) = (ca.server(SERVICE), ca.connection_point("cp-1"));
        for (years, reason) in [(2000..2001, "expired"), (3000..3001, "not valid yet")] {
            let late = ca.in_years(years.clone(), Side::Dialer, "cp-1");
            let shaken = shake_hands((&server, &anchors), (&late, &anchors)).await;
            assert_refused(shaken, Side::Listener, reason);
            let late = ca.in_years(years, Side::Listener, SERVICE);
            let shaken = shake_hands((&late, &anchors), (&client, &anchors)).await;
            assert_refused(shaken, Side::Dialer, reason);
        }
        let held = ca.in_years(2000..3000, Side::Dialer, "cp-1");
        assert_eq!(shake_hands((&server, &anchors), (&held, &anchors)).await, Ok(()));
    })
    .await;
}

#[tokio::test]
async fn a_certificate_that_was_taken_back_is_refused_on_both_sides_and_no_other_is() {
    within(async {
        let ca = SiteCa::new();
        let (server, client) = (ca.server(SERVICE), ca.connection_point("cp-1"));
        let (stolen, copied) = (ca.connection_point("cp-2"), ca.server(SERVICE));
        let listed = ca.anchors().with_revoked([ca.revoke(&[&stolen, &copied], 3000)]);
        let shaken = shake_hands((&server, &listed), (&client, &listed)).await;
        assert_eq!(shaken, Ok(()));
        let shaken = shake_hands((&server, &listed), (&stolen, &listed)).await;
        assert_refused(shaken, Side::Listener, "Revoked");
        let shaken = shake_hands((&copied, &listed), (&client, &listed)).await;
        assert_refused(shaken, Side::Dialer, "Revoked");
        let unaware = ca.anchors();
        assert_eq!(shake_hands((&copied, &unaware), (&stolen, &unaware)).await, Ok(()));
    })
    .await;
}

#[tokio::test]
async fn a_list_that_is_over_or_not_the_authoritys_lets_nobody_in() {
    within(async {
        let ca = SiteCa::new();
        let (server, client) = (ca.server(SERVICE), ca.connection_point("cp-1"));
        let unlisted = ca.anchors();
        let lists = [
            ("revocation list expired", ca.revoke(&[], 2001)),
            ("UnknownRevocationStatus", SiteCa::new().revoke(&[], 3000)),
        ];
        for (reason, list) in lists {
            let listed = ca.anchors().with_revoked([list]);
            let shaken = shake_hands((&server, &listed), (&client, &unlisted)).await;
            assert_refused(shaken, Side::Listener, reason);
            let shaken = shake_hands((&server, &unlisted), (&client, &listed)).await;
            assert_refused(shaken, Side::Dialer, reason);
        }
    })
    .await;
}

#[tokio::test]
async fn no_session_is_resumed_past_the_verifier() {
    within(async {
        let ca = SiteCa::new();
        let anchors = ca.anchors();
        let accepts = link_server_config(&ca.server(SERVICE), &anchors).unwrap();
        let mut dials = link_client_config(&ca.connection_point("cp-1"), &anchors).unwrap();
        // A peer that would resume if it were let.
        std::sync::Arc::make_mut(&mut dials).resumption =
            rustls::client::Resumption::in_memory_sessions(8);
        for turn in 0..3 {
            let (near, far) = tokio::io::duplex(PIPE);
            let accept = accept_link(near, accepts.clone(), Duration::from_secs(30));
            let dial = secure_link(far, SERVICE, dials.clone());
            let (accepted, dialled) = tokio::join!(accept, dial);
            drop(accepted.unwrap());
            let mut dialled = dialled.unwrap();
            // Whatever the gateway has sent after the handshake is read.
            let _ = dialled.read(&mut [0; 1]).await;
            let kind = dialled.get_ref().1.handshake_kind().unwrap();
            assert_eq!(kind, rustls::HandshakeKind::Full, "turn {turn}");
        }
    })
    .await;
}

/// What becomes of a pipe between two roles on both sides, when no link comes of it.
async fn refused(house: &House, gateway: &Gateway) -> (LinkRefused, LinkEnded) {
    let connection_point = house.connection_point(Vec::new());
    let (near, far) = tokio::io::duplex(PIPE);
    let to = address(1, 0);
    let (here, there) =
        tokio::join!(gateway.serve_link(near), connection_point.serve_link(far, &to));
    (here.unwrap_err(), there.unwrap_err())
}

#[tokio::test]
async fn roles_keep_their_links_with_a_list_and_refuse_by_it() {
    within(async {
        let mut house = House::before(nobody().await);
        house.revoked = Some(house.ca.revoke(&[], 3000));
        let gateway = house.gateway(1);
        let _joined = join(&gateway, &house.connection_point(Vec::new())).await;

        house.revoked = Some(house.ca.revoke(&[], 2001));
        let (here, there) = Box::pin(refused(&house, &house.gateway(1))).await;
        let told = "the list is over, which the connection point is the first to see";
        assert!(matches!(here, LinkRefused::Connect(ConnectError::Tls(_))), "{told}: {here:?}");
        assert!(there.to_string().contains("revocation list expired"), "{told}: {there:?}");
    })
    .await;
}

#[tokio::test]
async fn tls_that_is_replaced_is_met_by_new_links_and_clients_and_drops_none() {
    within(async {
        let backend = Backend::echo_path().await;
        let mut house = House::before(backend.address);
        let gateway = house.gateway(1);
        let connection_point = house.connection_point(Vec::new());
        let old = join(&gateway, &connection_point).await;
        let stranger = house.connection_point(Vec::new());
        let mut client = Client::join(&gateway, &house.ca, Http::One).await;

        // Another authority for everything: of the old one nothing is trusted any more.
        house.ca = SiteCa::new();
        let (server, site) = (house.ca.server(SERVICE), house.ca.anchors());
        gateway.set_link_tls(link_server_config(&server, &site).unwrap());
        gateway.set_client_tls(client_edge_config(&server).unwrap());
        let identity = house.ca.connection_point("cp-1");
        connection_point.set_link_tls(link_client_config(&identity, &site).unwrap());

        let answer = client.ask(bare("GET", &target("/SMS_MP/x"))).await;
        assert_eq!(answer.status(), 200, "over the link and the connection of before");
        assert_eq!(gateway.links(), 1);
        let _new = join(&gateway, &connection_point).await;
        let shown: Vec<_> = gateway.status().links.into_iter().map(|it| it.certificate).collect();
        let new = Certificate::of_chain(identity.chain()).unwrap();
        assert_eq!(shown.len(), 2);
        assert_ne!(shown[0].fingerprint, new.fingerprint);
        assert_eq!(*shown[1], new);
        let mut client = Client::join(&gateway, &house.ca, Http::One).await;
        let answer = client.ask(bare("GET", &target("/SMS_MP/x"))).await;
        assert_eq!(answer.status(), 200, "a client that trusts the new authority alone");

        let (near, far) = tokio::io::duplex(PIPE);
        let to = address(1, 0);
        let (here, there) = tokio::join!(gateway.serve_link(near), stranger.serve_link(far, &to));
        assert!(here.is_err() && there.is_err(), "who has the old one alone gets no link");
        drop(old);
    })
    .await;
}
