//! What an instance counts of connections that end without an answer: each limit by itself.
//!
//! `answers.rs` asks the same of every answer, `limits/listener.rs` of those who wait.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use relay_core::gateway::Gateway;
use relay_tests::client::{Client, Http, bare, pipe_to, tls};
use relay_tests::roles::{House, SERVICE, counted, within};
use relay_tests::site::nobody;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::sleep;

/// Longer than any limit on a connection that does nothing.
const LONG: Duration = Duration::from_secs(90);

/// What a client of HTTP/2 says first, and some frames.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0pingpong";
const IDLE_DATA: &[u8] = b"\0\0\0\0\0\0\0\0\x01";
const SHORT_PING: &[u8] = b"\0\0\x07\x06\0\0\0\0\0pingpon";

type Driven = Pin<Box<dyn Future<Output = ()>>>;

/// Has a client of HTTP/2 say `octets`, and nothing else.
async fn say(gateway: Gateway, house: &House, octets: &[u8]) {
    let mut stream = tls(pipe_to(&gateway), &house.ca, b"h2").await;
    stream.write_all(octets).await.unwrap();
    // Read on, or it would be one that takes nothing.
    let _ = tokio::time::timeout(LONG, stream.read_to_end(&mut Vec::new())).await;
}

/// Has a client ask the instance about itself, and then no more.
async fn fall_silent(gateway: Gateway, house: &House, http: Http) {
    let mut client = Client::join(&gateway, &house.ca, http).await;
    let metadata = bare("GET", "/CCM_Proxy_MutualAuth/ServiceMetadata");
    assert_eq!(client.ask(metadata).await.status(), 200);
    sleep(LONG).await;
}

/// Has a client stop in its handshake, behind its `ClientHello` if it says one.
async fn stop_in_handshake(gateway: Gateway, house: &House, says_hello: bool) {
    let mut pipe = pipe_to(&gateway);
    if says_hello {
        let name = rustls::pki_types::ServerName::try_from(SERVICE).unwrap();
        let tls = house.ca.client_tls(b"http/1.1");
        let mut hello = Vec::new();
        rustls::ClientConnection::new(tls, name).unwrap().write_tls(&mut hello).unwrap();
        pipe.write_all(&hello).await.unwrap();
    }
    sleep(LONG).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_at_a_limit_is_counted_once_by_that_limit_alone() {
    let house: &'static House = Box::leak(Box::new(House::before(nobody().await)));
    let http2 = |octets: Vec<u8>| -> Box<dyn FnOnce(Gateway) -> Driven> {
        Box::new(move |gateway| Box::pin(async move { say(gateway, house, &octets).await }))
    };
    let silent = |http| -> Box<dyn FnOnce(Gateway) -> Driven> {
        Box::new(move |gateway| Box::pin(fall_silent(gateway, house, http)))
    };
    let stopped = |says_hello| -> Box<dyn FnOnce(Gateway) -> Driven> {
        Box::new(move |gateway| Box::pin(stop_in_handshake(gateway, house, says_hello)))
    };
    let hello = [PREFACE, SETTINGS].concat();
    for (name, drive) in [
        ("client_hello_seconds", stopped(false)),
        ("tls_handshake_seconds", stopped(true)),
        ("idle_seconds", silent(Http::One)),
        ("idle_seconds", silent(Http::Two)),
        ("http2_pong", http2(hello.clone())),
        ("http2_first_frame", http2([PREFACE, PING].concat())),
        ("http2_broken", http2([&*hello, IDLE_DATA].concat())),
        ("http2_broken", http2(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec())),
        ("http2_frame_size", http2([&*hello, SHORT_PING].concat())),
        ("http2_pings", http2([&*hello, &PING.repeat(31)].concat())),
        ("http2_settings", http2([&*hello, &SETTINGS.repeat(20)].concat())),
    ] {
        within(async {
            let gateway = house.gateway(1);
            drive(gateway.clone()).await;
            assert_eq!(counted(gateway.status().counts), BTreeMap::from([(name, 1)]), "{name}");
        })
        .await;
    }
}
