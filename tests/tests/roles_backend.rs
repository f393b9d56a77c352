//! What the connection point takes from a site role, and what it writes to one.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::sync::Arc;

use http_body_util::BodyExt as _;
use relay_tests::client::{Client, Http, bare, with_body};
use relay_tests::logs::Logs;
use relay_tests::origin::Origin;
use relay_tests::roles::{House, counted, join, target, until, within};
use relay_tests::site::{RawBackend, fed};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;

#[tokio::test]
async fn an_answer_with_two_readings_is_502_and_its_fault_is_named_on_both_ends() {
    let logs = Logs::capture();
    for (answer, fault) in [
        ("HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n", "a line ends with LF alone"),
        ("HTTP/1.1 200 OK\r\nX: secret\r\n more\r\n\r\n", "a line begins with a space"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
            "Content-Length is repeated",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "Content-Length and Transfer-Encoding are both there",
        ),
        ("HTTP/1.1 200 OK\r\nX-Secret : 1\r\nContent-Length: 0\r\n\r\n", "a field's name"),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "101 switches to a protocol"),
    ] {
        within(async {
            let backend = RawBackend::saying(answer).await;
            let house = House::before(backend.address);
            let (gateway, _link) = house.joined().await;
            let mut client = Client::join(&gateway, &house.ca, Http::One).await;
            let answer = client.ask(bare("GET", &target("/SMS_MP/x"))).await;
            let came = (answer.status(), answer.reason());
            assert_eq!(came, (502, Some("CMGConnector_Bad_Answer")), "{fault}");
            let told = String::from_utf8(answer.body.to_vec()).unwrap();
            assert!(told.contains(fault), "{told}");
            assert!(!told.to_lowercase().contains("secret"), "{told}");
            let logged = logs.with(&[answer.message_id(), "not forwarded", fault]);
            assert_eq!(logged.len(), 1, "{fault}");
        })
        .await;
    }
}

#[tokio::test]
async fn a_body_whose_end_nobody_can_tell_is_cut_and_its_fault_is_logged() {
    let logs = Logs::capture();
    within(async {
        let backend = RawBackend::saying(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n\
             1;a=\"\r\nx\r\n0\r\n\r\n",
        )
        .await;
        let house = House::before(backend.address);
        let (gateway, point) = (house.gateway(1), house.connection_point(Vec::new()));
        let _link = join(&gateway, &point).await;
        for http in Http::BOTH {
            let mut client = Client::join(&gateway, &house.ca, http).await;
            let (parts, body) =
                client.send(bare("GET", &target("/SMS_MP/x"))).await.unwrap().into_parts();
            // The reset may overtake the head.
            let is_cut = parts.status == 502 || body.collect().await.is_err();
            assert!(is_cut, "over {http:?}");
        }
        let fault = "a chunk's extension is not";
        while logs.with(&["answer cut", fault]).len() < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(counted(point.status().counts), [("answer_cut_site", 2)].into());
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_is_not_taken_to_its_end_is_counted_by_who_broke_off() {
    within(async {
        // Gives half of an answer, and holds the rest back.
        let backend = RawBackend::start(|mut stream| async move {
            assert_ne!(stream.read(&mut [0; 4096]).await.unwrap(), 0);
            let half = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf";
            stream.write_all(half.as_bytes()).await.unwrap();
            std::future::pending::<()>().await;
        })
        .await;
        let house = House::before(backend.address);
        for (breaks, name) in
            [("client", "answer_cut_client_gone"), ("link", "answer_cut_link_lost")]
        {
            let (gateway, point) = (house.gateway(1), house.connection_point(Vec::new()));
            let link = join(&gateway, &point).await;
            let mut client = Client::join(&gateway, &house.ca, Http::One).await;
            let answer = client.send(bare("GET", &target("/SMS_MP/x"))).await.unwrap();
            let mut body = answer.into_body();
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
            if breaks == "link" {
                link.lose();
            } else {
                drop((client, body));
            }
            let counts = || [counted(gateway.status().counts), counted(point.status().counts)];
            until(|| counts().iter().all(|counts| !counts.is_empty())).await;
            let point = ("answer_cut_gateway", 1);
            assert_eq!(counts(), [[(name, 1)].into(), [point].into()], "the {breaks}");
        }
    })
    .await;
}

#[tokio::test]
async fn octets_that_come_while_nobody_asks_are_the_answer_to_nothing() {
    within(async {
        let (told, closed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (go, gone) = (Arc::clone(&told), Arc::clone(&closed));
        // Answers, and when it is told to begins an answer to the request that comes next.
        let backend = RawBackend::start(move |mut stream| {
            let (go, gone) = (Arc::clone(&go), Arc::clone(&gone));
            async move {
                assert_ne!(stream.read(&mut [0; 4096]).await.unwrap(), 0);
                let answer = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx";
                stream.write_all(answer.as_bytes()).await.unwrap();
                go.notified().await;
                let poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n";
                stream.write_all(poison.as_bytes()).await.unwrap();
                // The connection point wants nothing more of it.
                let rest = stream.read(&mut [0; 4096]).await;
                assert_eq!(rest.unwrap_or_default(), 0, "asked on a poisoned connection");
                gone.notify_one();
            }
        })
        .await;
        let house = House::before(backend.address);
        let (gateway, _link) = house.joined().await;
        let mut client = Client::join(&gateway, &house.ca, Http::One).await;
        for _ in 0..2 {
            assert_eq!(client.ask(bare("GET", &target("/SMS_MP/x"))).await.body, "x");
            told.notify_one();
            closed.notified().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_request_that_http_1_cannot_say_in_one_way_never_reaches_the_site() {
    within(async {
        let origin = Origin::start().await;
        let house = House::before(origin.address);
        let (gateway, _link) = house.joined().await;
        let mut client = Client::join(&gateway, &house.ca, Http::Two).await;
        let mut request = bare("GET", &target("/SMS_MP/x"));
        request.headers_mut().insert("expect", "the-worst".parse().unwrap());
        let answer = client.ask(request).await;
        let came = (answer.status(), answer.reason());
        assert_eq!(came, (417, Some("CMGConnector_Expectation_Failed")));
        let answer = client.ask(bare("GET", &target("/SMS_MP/y"))).await;
        assert_eq!(answer.status(), 200);
        let lines: Vec<_> = origin.take().into_iter().map(|request| request.line).collect();
        assert_eq!(lines, [b"GET /SMS_MP/y HTTP/1.1"]);
    })
    .await;
}

#[tokio::test]
async fn a_body_of_undeclared_length_reaches_the_site_whatever_the_verb() {
    within(async {
        let origin = Origin::start().await;
        let house = House::before(origin.address);
        let (gateway, _link) = house.joined().await;
        let verbs = ["GET", "PROPFIND", "CCM_POST"];
        for (http, verb) in Http::BOTH.into_iter().flat_map(|http| verbs.map(|verb| (http, verb))) {
            let mut client = Client::join(&gateway, &house.ca, http).await;
            let (sender, body) = fed();
            let mut request = with_body(verb, &target("/SMS_MP/x"), body);
            if http == Http::One {
                request.headers_mut().insert("transfer-encoding", "chunked".parse().unwrap());
            }
            let feeding = async {
                sender.send("all of it".into()).await.unwrap();
                sender.send("".into()).await.unwrap();
            };
            let (answer, ()) = tokio::join!(client.ask(request), feeding);
            assert_eq!(answer.status(), 200, "{verb} over {http:?}");
            assert_eq!(origin.take()[0].body, b"all of it", "{verb} over {http:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_post_without_a_body_says_so_to_the_site_and_a_get_does_not() {
    within(async {
        let origin = Origin::start().await;
        let house = House::before(origin.address);
        let (gateway, _link) = house.joined().await;
        let verbs = [("CCM_POST", Some("0")), ("BITS_POST", Some("0")), ("GET", None)];
        for (http, (verb, told)) in
            Http::BOTH.into_iter().flat_map(|http| verbs.map(|verb| (http, verb)))
        {
            let mut client = Client::join(&gateway, &house.ca, http).await;
            let answer = client.ask(bare(verb, &target("/SMS_MP/x"))).await;
            assert_eq!(answer.status(), 200, "{verb} over {http:?}");
            let seen = origin.take();
            let told: Vec<_> = told.into_iter().map(str::as_bytes).collect();
            assert_eq!(seen[0].values("content-length"), told, "{verb} over {http:?}");
        }
    })
    .await;
}
