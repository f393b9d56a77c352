//! How many connections one address may have, over real sockets.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::time::Duration;

use relay_tests::client::{Client, Http, bare};
use relay_tests::logs::Logs;
use relay_tests::roles::{House, counted, within};
use relay_tests::running::Instance;
use relay_tests::site::nobody;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// Long enough that nobody is let go of for saying nothing.
const PATIENCE: Duration = Duration::from_mins(5);

#[tokio::test]
async fn the_101st_connection_of_an_address_is_closed_and_the_100th_is_served() {
    within(async {
        let mut house = House::before(nobody().await);
        house.gateway_limits.client_hello = PATIENCE;
        house.gateway_limits.tls_handshake = PATIENCE;
        let logs = Logs::capture();
        let instance = Instance::start(&house, 1).await;
        let mut held = Vec::new();
        for _ in 0..98 {
            held.push(TcpStream::connect(instance.clients).await.unwrap());
        }
        // Connections are taken in the order in which they come.
        let target = "/CCM_Proxy_MutualAuth/ServiceMetadata";
        let mut clients = Vec::new();
        for number in 99..=100 {
            let mut client = instance.client(&house, Http::One).await;
            let answer = client.ask(bare("GET", target)).await;
            assert_eq!(answer.status(), 200, "connection {number}");
            clients.push(client);
        }
        for _ in 0..3 {
            let mut beyond = TcpStream::connect(instance.clients).await.unwrap();
            // Closed, before anything was said.
            assert_eq!(beyond.read(&mut [0; 16]).await.unwrap_or(0), 0);
        }
        assert_eq!(instance.gateway.status().connections_refused, 3);
        let counts = counted(instance.gateway.status().counts);
        assert_eq!(counts, [("connections_per_address_max", 3)].into());
        for client in &mut clients {
            assert_eq!(client.ask(bare("GET", target)).await.status(), 200);
        }
        let told = logs.with(&["more connections than one address may have", "127.0.0.1"]);
        assert!((1..=3).contains(&told.len()), "{told:?}");
        drop(held);
        let _: Client = instance.client(&house, Http::Two).await;
    })
    .await;
}
