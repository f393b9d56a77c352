//! Clients that wait for a word before they send a body, and fields behind a body: over HTTP/1.1
//! and HTTP/2, from end to end.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::sync::{Arc, Mutex};

use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use relay_tests::client::{Client, Http, pipe_to, tls, with_body};
use relay_tests::http2::{END_HEADERS, END_STREAM, Http2Client, asks, block, frame, kind};
use relay_tests::roles::{House, SERVICE, target, within};
use relay_tests::site::{Backend, RawBackend, fed, full};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const BODY: &[u8] = b"what was waited for";

/// A site role that answers with the body of the request.
async fn echo() -> Backend {
    Backend::start(|request: Request<Incoming>| async move {
        Response::new(full(request.into_body().collect().await.unwrap().to_bytes()))
    })
    .await
}

/// A site role that has a field behind the body of its answer, and keeps what it is sent.
async fn with_trailers() -> (RawBackend, Arc<Mutex<String>>) {
    const ANSWER: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
                          3\r\nsum\r\n0\r\nX-Sum: 43\r\n\r\n";
    let kept = Arc::new(Mutex::new(String::new()));
    let keep = Arc::clone(&kept);
    let script = move |mut stream: TcpStream| {
        let keep = Arc::clone(&keep);
        async move {
            let mut came = Vec::new();
            let is_last = |came: &[u8]| came.windows(5).any(|chunk| chunk == b"\r\n0\r\n");
            while !is_last(&came) || !came.ends_with(b"\r\n\r\n") {
                assert!(stream.read_buf(&mut came).await.unwrap() > 0, "the request is cut");
            }
            *keep.lock().unwrap() = String::from_utf8(came).unwrap();
            // It ends the connection, so that each request comes on one of its own.
            let _ = stream.write_all(ANSWER.as_bytes()).await;
        }
    };
    (RawBackend::start(script).await, kept)
}

#[tokio::test]
async fn a_client_of_http2_that_waits_is_told_to_go_on_unless_it_is_refused() {
    within(async {
        let backend = echo().await;
        let house = House::before(backend.address);
        let (gateway, _link) = house.joined().await;
        let mut client = Http2Client::join(&gateway, &house.ca).await;
        let path = target("/SMS_MP/x");
        let head =
            |method| block(&[&asks(method, &path)[..], &[("expect", "100-continue")]].concat());
        client.send(&frame(kind::HEADERS, END_HEADERS, 1, &head("CCM_POST"))).await;
        client.until(|frame| frame.stream == 1).await.unwrap();
        assert_eq!(client.statuses_of(1), [100]);
        client.send(&frame(kind::DATA, END_STREAM, 1, BODY)).await;
        let mut body = Vec::new();
        while let Some(frame) = client.next().await {
            if frame.stream == 1 && frame.kind == kind::DATA {
                body.extend_from_slice(&frame.payload);
            }
            if frame.stream == 1 && frame.ends_stream() {
                break;
            }
        }
        assert_eq!((client.statuses_of(1), &body[..]), (&[100, 200][..], BODY));
        // Refused by its head alone.
        client.send(&frame(kind::HEADERS, END_HEADERS, 3, &head("PUT"))).await;
        client.status(3).await;
        assert_eq!(client.statuses_of(3), [405]);
    })
    .await;
}

#[tokio::test]
async fn a_client_of_http1_that_waits_is_told_to_go_on_and_one_of_http10_is_not() {
    within(async {
        let backend = echo().await;
        let house = House::before(backend.address);
        let (gateway, _link) = house.joined().await;
        for (version, is_told) in [("1.1", true), ("1.0", false)] {
            let mut stream = tls(pipe_to(&gateway), &house.ca, b"http/1.1").await;
            let (path, length) = (target("/SMS_MP/x"), BODY.len());
            let head = format!(
                "CCM_POST {path} HTTP/{version}\r\nHost: {SERVICE}\r\nContent-Length: {length}\r\n\
                 Expect: 100-continue\r\nConnection: close\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut came = Vec::new();
            while is_told && !came.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut came).await.unwrap();
            }
            let first = String::from_utf8(came).unwrap();
            assert_eq!(first.starts_with("HTTP/1.1 100 "), is_told, "{first}");
            stream.write_all(BODY).await.unwrap();
            let mut came = Vec::new();
            while stream.read_buf(&mut came).await.is_ok_and(|count| count > 0) {}
            let answer = String::from_utf8(came).unwrap();
            assert!(answer.split(' ').nth(1) == Some("200"), "{version}: {answer}");
            assert!(answer.as_bytes().ends_with(BODY), "{version}: {answer}");
        }
    })
    .await;
}

#[tokio::test]
async fn fields_behind_a_body_come_through_both_ways_over_both_versions() {
    within(async {
        let (backend, kept) = with_trailers().await;
        let house = House::before(backend.address);
        let (gateway, _link) = house.joined().await;
        for http in Http::BOTH {
            let mut client = Client::join(&gateway, &house.ca, http).await;
            let mut fields = HeaderMap::new();
            fields.insert("x-sum", HeaderValue::from_static("42"));
            // Behind a declared length HTTP/1.1 has no place for them.
            let (feed, body) = fed();
            tokio::spawn(async move {
                feed.send(BODY.into()).await.unwrap();
                feed.send("".into()).await.unwrap();
            });
            let body = body.with_trailers(async move { Some(Ok(fields)) }).boxed();
            let mut request = with_body("CCM_POST", &target("/SMS_MP/x"), body);
            let headers = request.headers_mut();
            headers.insert("te", HeaderValue::from_static("trailers"));
            headers.insert("trailer", HeaderValue::from_static("x-sum"));
            if http == Http::One {
                headers.insert("transfer-encoding", HeaderValue::from_static("chunked"));
            }
            let answer = client.send(request).await.unwrap();
            assert_eq!(answer.status(), 200, "{http:?}");
            let came = answer.into_body().collect().await.unwrap();
            let sum = came.trailers().and_then(|all| all.get("x-sum")).cloned();
            assert_eq!(came.to_bytes(), "sum", "{http:?}");
            assert_eq!(sum, Some(HeaderValue::from_static("43")), "{http:?}");
            let kept = kept.lock().unwrap().clone();
            let body = kept.split_once("\r\n\r\n").unwrap().1;
            assert_eq!(body, "13\r\nwhat was waited for\r\n0\r\nX-Sum: 42\r\n\r\n", "{http:?}");
        }
    })
    .await;
}
