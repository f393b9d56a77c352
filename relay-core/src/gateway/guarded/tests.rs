//! Connections of HTTP/1.1 whose octets are written by hand.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::{advance, sleep};

use super::super::access::Client;
use super::*;
use crate::gateway::patient::Patient;
use crate::gateway::serve::Port;
use crate::gateway::serve::tests::{TARGET, add_link, gateway, head};
use crate::gateway::{Gateway, GatewayLimits};
use crate::link::Link;
use crate::mux::HeadKind;

const FROM: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
const LONG: Duration = Duration::from_mins(10);
const HEAD: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_mins(1);

/// A connection, and a task that ends when the gateway has closed it.
fn connect(gateway: &Gateway) -> (DuplexStream, JoinHandle<()>) {
    let (client, server) = tokio::io::duplex(64 << 10);
    let gateway = gateway.clone();
    let serving = tokio::spawn(async move {
        let pipe = Patient::new(server, LONG);
        let client = Client::new(FROM, pipe.slowness());
        let _ = gateway.serve_http1(pipe, client, Port::Shared).await;
    });
    (client, serving)
}

/// Has the site answer every request 200 with the octets of its body, whenever that has ended.
fn echo(site: Link) {
    tokio::spawn(async move {
        while let Ok(mut incoming) = site.accept().await {
            tokio::spawn(async move {
                let mut body = Vec::new();
                while let Ok(Some(chunk)) = incoming.recv.read_chunk().await {
                    body.extend_from_slice(&chunk);
                }
                let _ = incoming.send.send_head(head(200), HeadKind::Final);
                let _ = incoming.send.write_chunk(Bytes::from(body)).await;
                let _ = incoming.send.finish();
            });
        }
    });
}

fn request(verb: &str, fields: &str) -> String {
    format!("{verb} {TARGET} HTTP/1.1\r\nHost: relay.example\r\n{fields}\r\n")
}

/// All that is said until the connection ends.
async fn rest(mut client: DuplexStream) -> String {
    let mut said = Vec::new();
    client.read_to_end(&mut said).await.unwrap();
    String::from_utf8(said).unwrap()
}

/// What is said up to the end of a chunked answer.
async fn one_answer(client: &mut DuplexStream) -> String {
    let mut said = Vec::new();
    while !said.ends_with(b"0\r\n\r\n") {
        said.push(client.read_u8().await.unwrap());
    }
    String::from_utf8(said).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_has_no_single_reading_is_answered_in_its_turn_and_ends_the_connection() {
    let gateway = gateway(GatewayLimits::default());
    let site = add_link(&gateway, 1).await;
    echo(site.clone());
    for (wrong, status, reason) in [
        (request("GET", "X: y\n"), "400", "CMGService_Bad_Line_End"),
        (request("GET", "X : y\r\n"), "400", "CMGService_Bad_Field_Name"),
        (request("GET", "Host: b\r\n"), "400", "CMGService_Bad_Host"),
        (
            request("CCM_POST", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
            "400",
            "CMGService_Ambiguous_Body_Length",
        ),
        (request("GET", "Expect: x\r\n"), "417", "CMGService_Expectation_Failed"),
        (format!("GET {TARGET}\r\n\r\n"), "400", "CMGService_Bad_Request_Line"),
        (format!("GET {TARGET} HTTP/0.9\r\n\r\n"), "505", "CMGService_Version_Not_Supported"),
        (format!("GET {TARGET} HTTP/2.0\r\n\r\n"), "505", "CMGService_Version_Not_Supported"),
        (format!("GET {TARGET} HTTP/3.0\r\n\r\n"), "505", "CMGService_Version_Not_Supported"),
        (format!("GET /{}", "x".repeat(8 << 10)), "414", "CMGService_Target_Too_Long"),
        (request("GET", &"X: y\r\n".repeat(64)), "431", "CMGService_Too_Many_Fields"),
    ] {
        let (mut client, serving) = connect(&gateway);
        let good = request("CCM_POST", "Content-Length: 5\r\n") + "hello";
        let all = format!("{good}{good}{wrong}{good}");
        client.write_all(all.as_bytes()).await.unwrap();
        let said = rest(client).await;
        serving.await.unwrap();
        assert_eq!(said.matches("HTTP/1.1 200 OK").count(), 2, "{wrong}\n{said}");
        let (_, last) = said.rsplit_once("\r\nHTTP/1.1 ").unwrap();
        assert!(last.starts_with(&format!("{status} {reason}\r\n")), "{wrong}\n{said}");
        assert!(last.contains("connection: close\r\n"), "{last}");
        assert!(last.contains("relay-message-id: "), "{last}");
    }
    assert_eq!(site.stats().mux.streams_accepted, 22, "nothing but what is good");
}

#[tokio::test(start_paused = true)]
async fn octets_that_come_one_by_one_are_as_good_as_all_at_once() {
    let gateway = gateway(GatewayLimits::default());
    echo(add_link(&gateway, 1).await);
    let (mut client, serving) = connect(&gateway);
    let chunked = request("CCM_POST", "Transfer-Encoding: chunked\r\n");
    let last = request("CCM_POST", "Connection: close\r\nContent-Length: 3\r\n");
    let all = format!("{chunked}5;a=b\r\nhello\r\n1\r\n!\r\n0\r\n\r\n\r\n{last}bye");
    for octet in all.as_bytes() {
        client.write_all(&[*octet]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let said = rest(client).await;
    serving.await.unwrap();
    assert_eq!(said.matches("HTTP/1.1 200 OK").count(), 2, "{said}");
    assert!(said.contains("\r\nhello!\r\n") && said.contains("\r\nbye\r\n"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_chunked_body_that_breaks_the_rules_is_answered_with_the_rule() {
    let gateway = gateway(GatewayLimits::default());
    let site = add_link(&gateway, 1).await;
    let asked = tokio::spawn(async move {
        let mut incoming = site.accept().await.unwrap();
        while incoming.recv.read_chunk().await.unwrap_or_default().is_some() {}
        incoming.recv.read_chunk().await
    });
    let (mut client, serving) = connect(&gateway);
    let all = request("CCM_POST", "Transfer-Encoding: chunked\r\n") + "5\r\nhello\r\n5 \r\n";
    client.write_all(all.as_bytes()).await.unwrap();
    let said = rest(client).await;
    serving.await.unwrap();
    assert!(said.starts_with("HTTP/1.1 400 CMGService_Bad_Chunk\r\n"), "{said}");
    assert!(asked.await.unwrap().is_err(), "the site's request was broken off");
}

#[tokio::test(start_paused = true)]
async fn a_head_has_its_time_from_its_first_octet_and_is_then_answered_408() {
    let gateway = gateway(GatewayLimits::default());
    echo(add_link(&gateway, 1).await);
    let good = request("CCM_POST", "Content-Length: 1\r\n") + "x";
    for before in [None, Some(IDLE / 2)] {
        let (mut client, serving) = connect(&gateway);
        if let Some(pause) = before {
            client.write_all(good.as_bytes()).await.unwrap();
            one_answer(&mut client).await;
            sleep(pause).await;
        }
        let begun = Instant::now();
        for octet in b"GET /x HTTP/1.1\r\nHost: " {
            client.write_all(&[*octet]).await.unwrap();
            sleep(HEAD / 100).await;
        }
        let said = rest(client).await;
        serving.await.unwrap();
        assert!(said.starts_with("HTTP/1.1 408 CMGService_Too_Slow\r\n"), "{said}");
        assert_eq!(begun.elapsed().as_millis(), HEAD.as_millis(), "{before:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_says_nothing_ends_at_the_limit_without_a_word() {
    let gateway = gateway(GatewayLimits::default());
    echo(add_link(&gateway, 1).await);
    // Before the first request the time is that of a head.
    let (client, serving) = connect(&gateway);
    let begun = Instant::now();
    assert_eq!(rest(client).await, "");
    serving.await.unwrap();
    assert_eq!(begun.elapsed().as_millis(), HEAD.as_millis());

    let (mut client, serving) = connect(&gateway);
    let good = request("CCM_POST", "Content-Length: 1\r\n") + "x";
    for pause in [Duration::ZERO, IDLE.saturating_sub(Duration::from_millis(1))] {
        sleep(pause).await;
        client.write_all(good.as_bytes()).await.unwrap();
        one_answer(&mut client).await;
    }
    let begun = Instant::now();
    assert_eq!(rest(client).await, "");
    serving.await.unwrap();
    assert_eq!(begun.elapsed().as_millis(), IDLE.as_millis());
}

#[tokio::test(start_paused = true)]
async fn while_an_answer_is_awaited_no_time_runs_and_after_it_all_of_it_does() {
    let gateway = gateway(GatewayLimits::default());
    let site = add_link(&gateway, 1).await;
    let (mut client, serving) = connect(&gateway);
    let held = request("GET", "").replace("/SMS_MP/.sms_aut", "/BGB");
    client.write_all(held.as_bytes()).await.unwrap();
    let mut incoming = site.accept().await.unwrap();
    // Hours, and not to the minute at which a clock that runs on would ring.
    advance(IDLE * 90 + IDLE / 3).await;
    incoming.send.send_head(head(200), HeadKind::Final).unwrap();
    incoming.send.write_chunk(Bytes::from_static(b"woken")).await.unwrap();
    incoming.send.finish().unwrap();
    assert!(one_answer(&mut client).await.contains("woken"));
    let begun = Instant::now();
    assert_eq!(rest(client).await, "");
    serving.await.unwrap();
    assert_eq!(begun.elapsed().as_millis(), IDLE.as_millis());
}

#[test]
fn a_connection_that_waits_keeps_no_buffer() {
    let mut guarded = Guarded::new((), Passed::default(), Times { head: HEAD, idle: IDLE });
    guarded.refuse(Malformed::Fault(Fault::BareLf));
    let mut octets = [0; 256];
    let mut buffer = ReadBuf::new(&mut octets);
    guarded.pass(&mut buffer);
    assert_eq!(buffer.filled(), REFUSED);
    assert_eq!(guarded.kept.capacity(), 0);
}
