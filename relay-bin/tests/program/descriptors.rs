//! What happens when the process has few descriptors, or none left.

use std::future::Future;
use std::net::{SocketAddr, TcpStream as RawStream};
use std::pin::Pin;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::admin::json;
use crate::support::load::trusting;
use crate::support::site::{SERVICE, Site};

/// Requests in which a connection that need not wait would have come up.
const REQUESTS: usize = 50;

type Client = TlsStream<TcpStream>;

/// A site whose instance 1 takes as many clients of one address as there are, at their leisure.
fn site(home: &std::path::Path) -> Site {
    let site = Site::init_with(home, &["--backend", "http://127.0.0.1:9"]);
    site.edit("gateway-1/gateway.toml", |text| {
        let text = text
            .replace("# connections_per_address_max = 100", "connections_per_address_max = 2000");
        let text = text.replace("# request_head_seconds = 10", "request_head_seconds = 300");
        text.replace("# idle_seconds = 60", "idle_seconds = 300")
    });
    site
}

async fn connect(tls: &TlsConnector, at: SocketAddr) -> Client {
    let stream = TcpStream::connect(at).await.unwrap();
    let name = ServerName::try_from(SERVICE).unwrap();
    tls.connect(name, stream).await.unwrap()
}

/// Asks the instance about itself.
async fn ask(client: &mut Client) {
    let request =
        "GET /CCM_Proxy_MutualAuth/ServiceMetadata HTTP/1.1\r\nHost: relay.example\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // The end of the JSON that it answers.
    while !answer.ends_with(b"}") {
        assert!(client.read_buf(&mut answer).await.unwrap() > 0);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
}

/// Whether `waiting` has to wait while many requests of `client` are answered.
async fn waits<T>(mut waiting: Pin<&mut impl Future<Output = T>>, client: &mut Client) -> bool {
    for _ in 0..REQUESTS {
        tokio::select! {
            biased;
            _ = waiting.as_mut() => return false,
            () = ask(client) => {}
        }
    }
    true
}

#[test]
fn of_1000_descriptors_clients_take_450_and_the_451st_waits_with_links_up() {
    let home = tempfile::tempdir().unwrap();
    let site = site(home.path());
    // The program has as many as it may, whatever it is given first.
    let mut gateway = site.start_gateway_after("ulimit -Sn 100; ulimit -Hn 1000");
    let warned = gateway.wait_for_log("client_connections_max is 20000", 1);
    for part in ["1000 descriptors", "room for 450", "LimitNOFILE=44445"] {
        assert!(warned.contains(part), "{warned}");
    }
    let (admin, [clients, links]) = (gateway.admin(), gateway.addresses());
    let _point = site.start_connection_point(&[links]);
    gateway.wait_for_log("\"message\":\"link up\"", 2);

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tls = trusting(&site.ca());
        let mut served = Vec::new();
        for _ in 0..450 {
            served.push(connect(&tls, clients).await);
        }
        ask(&mut served[449]).await;
        let mut late = Box::pin(connect(&tls, clients));
        assert!(waits(late.as_mut(), &mut served[0]).await);
        let up = json(&["status"], admin)["links"].as_array().unwrap().len();
        assert_eq!(up, 2);
        served.pop();
        ask(&mut late.await).await;
    });
}

#[test]
fn without_a_descriptor_left_an_instance_waits_for_one_and_serves_on() {
    let home = tempfile::tempdir().unwrap();
    let site = site(home.path());
    let mut gateway = site.start_gateway_after("ulimit -n 200");
    let [clients, links] = gateway.addresses();
    // Nobody has to show who he is to have a handshake of a link be begun.
    let flood: Vec<_> = (0..250).map(|_| RawStream::connect(links).unwrap()).collect();
    let told = gateway.wait_for_log("could not accept", 1);
    assert!(told.contains("os error 24"), "{told}");
    drop(flood);
    let _point = site.start_connection_point(&[links]);
    gateway.wait_for_log("\"message\":\"link up\"", 2);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { ask(&mut connect(&trusting(&site.ca()), clients).await).await });
}
