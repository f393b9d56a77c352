use std::net::SocketAddr;

use relay_core::config::site_tokens;
use relay_core::transport::Identity;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::task::yield_now;
use tokio::time::Instant;

use super::super::front::Limits;
use super::super::office::Office;
use super::*;

/// A service whose store is not there: whoever gets as far as that is told `unavailable`.
fn front() -> Arc<Front> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file.toml");
    let tenant = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
    std::fs::write(&file, format!("[tokens]\nfolder = \"t\"\ntenant = \"{tenant}\"\n")).unwrap();
    let (office, _) = Office::open(site_tokens(&file).unwrap(), Arc::default()).unwrap();
    Arc::new(Front::new(office, Limits::default(), Arc::default()))
}

async fn intranet(all_max: usize, each_max: usize) -> (Intranet, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = Arc::new(IntranetTls::new(None).unwrap());
    let places = Places::new(all_max, each_max);
    (Intranet { places, ..Intranet::new(listener, tls, front()) }, address)
}

fn counted(front: &Front, name: &str) -> u64 {
    let name = format!("token_service_connections_{name}");
    front.tally.counts().find(|(it, _)| *it == name).unwrap().1
}

/// Polls `waits` for long enough to do whatever it can do.
macro_rules! still_waits {
    ($waits:expr, $why:literal) => {
        for _ in 0..64 {
            tokio::select! {
                biased;
                _ = &mut $waits => panic!($why),
                () = yield_now() => {}
            }
        }
    };
}

#[tokio::test]
async fn one_connection_more_than_may_be_waits_until_another_ends() {
    let (intranet, address) = intranet(2, 2).await;
    assert_eq!(CONNECTIONS_MAX, 256);
    let _clients = [
        TcpStream::connect(address).await.unwrap(),
        TcpStream::connect(address).await.unwrap(),
        TcpStream::connect(address).await.unwrap(),
    ];
    let (_, first) = intranet.accept().await;
    assert_eq!(counted(&intranet.front, "full"), 0);
    let _second = intranet.accept().await;
    assert_eq!(counted(&intranet.front, "full"), 1);
    let mut third = pin!(intranet.accept());
    still_waits!(third, "there was no place for it");
    drop(first);
    let (_, place) = third.await;
    assert_eq!(place.source(), Source::of([127, 0, 0, 1].into()));
    assert_eq!(counted(&intranet.front, "full"), 2);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_source_with_as_many_connections_as_it_may_have_is_cut_off_and_another_is_served() {
    let (intranet, address) = intranet(8, 3).await;
    assert_eq!(CONNECTIONS_OF_SOURCE_MAX, 32);
    let mut clients = Vec::new();
    let mut places = Vec::new();
    for _ in 0..3 {
        clients.push(TcpStream::connect(address).await.unwrap());
        places.push(intranet.accept().await);
    }
    assert_eq!(counted(&intranet.front, "dropped_source"), 0);
    let mut fourth = TcpStream::connect(address).await.unwrap();
    // All of 127.0.0.0/8 is this machine.
    let other = tokio::net::TcpSocket::new_v4().unwrap();
    other.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let _other = other.connect(address).await.unwrap();
    let (_, place) = intranet.accept().await;
    assert_eq!(place.source(), Source::of([127, 0, 0, 2].into()));
    assert_eq!(counted(&intranet.front, "dropped_source"), 1);
    assert_eq!(fourth.read(&mut [0]).await.unwrap_or(0), 0, "it is closed");
    // A place that is given back is one to be had.
    places.remove(0);
    let _fifth = TcpStream::connect(address).await.unwrap();
    let (_, place) = intranet.accept().await;
    assert_eq!(place.source(), Source::of([127, 0, 0, 1].into()));
    assert_eq!(counted(&intranet.front, "dropped_source"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_does_not_come_to_its_end_is_given_up_and_counted() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let identity = Identity::new(vec![certificate.der().clone()], key.into());
    let tls = TlsAcceptor::from(client_edge_config_asking(&identity).unwrap());
    let (front, source) = (front(), Source::of([10, 0, 0, 5].into()));
    let (_never_says_anything, far) = duplex(1024);
    let (_stop, stop) = watch::channel(false);
    let before = Instant::now();
    serve_one(far, source, (Some(tls), Arc::clone(&front)), stop).await;
    assert_eq!(before.elapsed(), HANDSHAKE_TIME);
    assert_eq!(counted(&front, "dropped_handshake"), 1);
    assert_eq!(counted(&front, "dropped_late"), 0);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_its_answer_is_given_up_and_counted() {
    let (front, source) = (front(), Source::of([10, 0, 0, 5].into()));
    // The answer does not fit.
    let (mut near, far) = duplex(64);
    let (_stop, stop) = watch::channel(false);
    let before = Instant::now();
    let served = tokio::spawn(serve_one(far, source, (None, Arc::clone(&front)), stop));
    near.write_all(b"GET /CCM_STS/renew HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    served.await.unwrap();
    assert_eq!(before.elapsed(), CONNECTION_TIME);
    assert_eq!(counted(&front, "dropped_late"), 1);
}

#[tokio::test]
async fn a_request_that_has_begun_is_answered_though_the_service_stops() {
    let (intranet, address) = intranet(8, 8).await;
    let (stop, stops) = watch::channel(false);
    let mut begun = TcpStream::connect(address).await.unwrap();
    let mut idle = TcpStream::connect(address).await.unwrap();
    let serving = tokio::spawn(intranet.serve(stops));
    let fields = "host: a\r\nexpect: 100-continue\r\ncontent-length: 2";
    let head = format!("POST /CCM_STS/renew HTTP/1.1\r\n{fields}\r\n\r\n");
    begun.write_all(head.as_bytes()).await.unwrap();
    let mut said = [0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
    begun.read_exact(&mut said).await.unwrap();
    begun.write_all(b"{").await.unwrap();
    stop.send(true).unwrap();
    // On which nothing was asked.
    assert_eq!(idle.read(&mut [0]).await.unwrap_or(0), 0, "it is closed");
    assert!(!serving.is_finished());
    begun.write_all(b"}").await.unwrap();
    let mut answer = String::new();
    begun.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("unavailable"), "{answer}");
    serving.await.unwrap();
}
