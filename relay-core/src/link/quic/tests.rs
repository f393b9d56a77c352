//! What takes the inside of a driver to set up. The rest is in `tests/tests/link_quic.rs`.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::{ClientConfig, Connection, Endpoint, ServerConfig};
use rustls::RootCertStore;
use rustls::pki_types::PrivatePkcs8KeyDer;

use super::super::{End, OpenFailed};
use super::{Config, LinkError, Side, StreamId, new_quic};
use crate::mux::HeadKind;

const HEAD: Bytes = Bytes::from_static(b"head");

/// Two connections that are each other's ends. Nobody asks the dialer who it is.
async fn connections() -> [Connection; 2] {
    let issued = rcgen::generate_simple_self_signed(["gateway".to_owned()]).unwrap();
    let certificate = issued.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(issued.signing_key.serialize_der());
    let mut trusted = RootCertStore::empty();
    trusted.add(certificate.clone()).unwrap();
    let server = ServerConfig::with_single_cert(vec![certificate], key.into()).unwrap();
    let client = ClientConfig::with_root_certificates(Arc::new(trusted)).unwrap();

    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (listener, dialer) =
        (Endpoint::server(server, any).unwrap(), Endpoint::client(any).unwrap());
    let address = listener.local_addr().unwrap();
    let dial = dialer.connect_with(client, address, "gateway").unwrap();
    let accept = async { listener.accept().await.unwrap().await };
    let (accepted, dialled) = tokio::join!(accept, dial);
    [accepted.unwrap(), dialled.unwrap()]
}

#[tokio::test]
async fn a_side_that_has_used_up_its_numbers_drains_the_link_so_that_its_peer_replaces_it() {
    let test = async {
        let config = Config { accept_streams_max: 8, open_streams_max: 8, ..Config::default() };
        let [near, far] = connections().await;
        let (gateway, mut one) = new_quic(near, Side::Listener, config.clone()).unwrap();
        let (site, mut other) = new_quic(far, Side::Dialer, config).unwrap();
        // As after all streams but the last two.
        let used = (1 << 31) - 2;
        (one.opened, other.accepted) = (used, used);
        let drivers = [tokio::spawn(one), tokio::spawn(other)];

        let first = gateway.open(HEAD, End::More).await.unwrap();
        let accepted = site.accept().await.unwrap();
        assert!(!gateway.is_going_away() && !site.is_going_away());
        let (send, mut recv) = gateway.open(HEAD, End::NoPayload).await.unwrap();
        site.going_away().await;
        let again = gateway.open(HEAD, End::NoPayload).await;
        assert!(matches!(again, Err(OpenFailed::GoingAway)), "{again:?}");

        let mut last = site.accept().await.unwrap();
        assert_eq!(Some(last.id), StreamId::nth(Side::Listener, (1 << 31) - 1));
        last.send.send_head(HEAD, HeadKind::FinalAndEnd).unwrap();
        assert!(recv.head().await.unwrap().end, "what is open goes on");
        drop((first, accepted, send, recv, last));
        // Had one that was opened ahead been let go of, it would be a stream without a head.
        let report = gateway.drain(Duration::from_mins(1)).await;
        assert_eq!(report.reset, 0);
        let [here, there] = drivers;
        assert_eq!(here.await.unwrap(), LinkError::ClosedHere);
        assert!(matches!(there.await.unwrap(), LinkError::ClosedByPeer { code: 0, .. }));
    };
    tokio::time::timeout(Duration::from_mins(1), test).await.expect("no step hangs");
}
