//! Interim answers of a site role: who is sent them, in which order, and what they never do.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use relay_core::exchange::{AnswerHead, Assertions, HeadLimits, MessageId, Origin, RequestHead};
use relay_core::gateway::header::REASON;
use relay_core::link::End;
use relay_core::mux::{Config, HeadKind};
use relay_tests::client::{pipe_to, tls};
use relay_tests::logs::Logs;
use relay_tests::roles::{House, SERVICE, target, within};
use relay_tests::running::{Instance, Running, connection_point};
use relay_tests::site::{RawBackend, nobody};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const STYLE: &str = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n";
const SCRIPT: &str = "HTTP/1.1 103 Early Hints\r\nLink: </script.js>; rel=preload\r\n\r\n";
const FINAL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndone";

/// A site role that says `texts`, one after each permit, and closes; and how often it was asked.
async fn in_steps<const N: usize>(
    texts: [String; N],
) -> (RawBackend, Arc<Semaphore>, Arc<AtomicUsize>) {
    let (steps, asked) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let (permits, count) = (Arc::clone(&steps), Arc::clone(&asked));
    let backend = RawBackend::start(move |mut stream: TcpStream| {
        let (texts, permits, count) = (texts.clone(), Arc::clone(&permits), Arc::clone(&count));
        async move {
            let mut came = Vec::new();
            while !came.ends_with(b"\r\n\r\n") {
                if stream.read_buf(&mut came).await.is_ok_and(|octets| octets == 0) {
                    return;
                }
            }
            count.fetch_add(1, Ordering::Relaxed);
            for text in texts {
                permits.acquire().await.unwrap().forget();
                // Errors mean that the connection point was content before the end.
                let _ = stream.write_all(text.as_bytes()).await;
            }
        }
    });
    (backend.await, steps, asked)
}

/// A site role that says `text` to whoever asks, and closes; and how often it was asked.
async fn saying(text: String) -> (RawBackend, Arc<AtomicUsize>) {
    let (backend, steps, asked) = in_steps([text]).await;
    steps.add_permits(Semaphore::MAX_PERMITS);
    (backend, asked)
}

/// Both roles on loopback, before `backend`.
async fn on_loopback(backend: &RawBackend) -> (House, Instance, Running) {
    let house = House::before(backend.address);
    let instance = Instance::start(&house, 1).await;
    let role = connection_point(&house, &[instance.links]);
    instance.until_links(1).await;
    (house, instance, role)
}

/// A client of HTTP/2 that sees interim answers.
struct Hinted {
    sender: h2::client::SendRequest<Bytes>,
    _tasks: JoinSet<()>,
}

/// An answer that such a client waits for.
struct Awaited(h2::client::ResponseFuture);

impl Hinted {
    async fn dial(instance: &Instance, house: &House) -> Self {
        Self::over(TcpStream::connect(instance.clients).await.unwrap(), house).await
    }

    async fn over<P>(pipe: P, house: &House) -> Self
    where
        P: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let stream = tls(pipe, &house.ca, b"h2").await;
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        let mut tasks = JoinSet::new();
        // How a connection ended is seen by the requests on it.
        tasks.spawn(async move { drop(connection.await) });
        Self { sender, _tasks: tasks }
    }

    async fn get(&mut self) -> Awaited {
        poll_fn(|cx| self.sender.poll_ready(cx)).await.unwrap();
        let uri = format!("https://{SERVICE}{}", target("/SMS_MP/x"));
        let request = Request::get(uri).body(()).unwrap();
        Awaited(self.sender.send_request(request, true).unwrap().0)
    }
}

impl Awaited {
    /// The next interim answer; `None` if the final one comes next.
    async fn interim(&mut self) -> Option<Response<()>> {
        poll_fn(|cx| match self.0.poll_informational(cx) {
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(head)) => Poll::Ready(Some(head.unwrap())),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// All interim answers, and the final one.
    async fn all(mut self) -> (Vec<Response<()>>, Response<h2::RecvStream>) {
        let mut interims = Vec::new();
        while let Some(head) = self.interim().await {
            interims.push(head);
        }
        (interims, self.0.await.unwrap())
    }
}

/// The whole of what a client of HTTP/1 is answered, until its connection ends.
async fn raw_answer(instance: &Instance, house: &House, version: &str) -> String {
    let pipe = TcpStream::connect(instance.clients).await.unwrap();
    let mut stream = tls(pipe, &house.ca, b"http/1.1").await;
    let path = target("/SMS_MP/x");
    let head = format!("GET {path} HTTP/{version}\r\nHost: {SERVICE}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut came = Vec::new();
    while stream.read_buf(&mut came).await.is_ok_and(|octets| octets > 0) {}
    String::from_utf8(came).unwrap()
}

fn statuses(heads: &[Response<()>]) -> Vec<u16> {
    heads.iter().map(|head| head.status().as_u16()).collect()
}

#[tokio::test]
async fn a_client_of_http2_has_each_hint_at_once_and_in_order() {
    within(async {
        let (backend, steps, asked) = in_steps([STYLE, SCRIPT, FINAL].map(str::to_owned)).await;
        let (house, instance, _role) = on_loopback(&backend).await;
        let mut client = Hinted::dial(&instance, &house).await;
        let mut answer = client.get().await;
        for hint in ["</style.css>; rel=preload", "</script.js>; rel=preload"] {
            // The site says no more before the client has this one.
            steps.add_permits(1);
            let head = answer.interim().await.expect("a hint");
            assert_eq!(
                (head.status().as_u16(), &head.headers()["link"]),
                (103, &hint.parse().unwrap())
            );
            assert_eq!(head.headers().len(), 1, "{head:?}");
        }
        steps.add_permits(1);
        let (rest, answer) = answer.all().await;
        assert!(rest.is_empty(), "{rest:?}");
        assert_eq!(answer.status(), 200);
        assert!(!answer.headers().contains_key("link"));
        let body = answer.into_body().data().await.unwrap().unwrap();
        assert_eq!((&body[..], asked.load(Ordering::Relaxed)), (&b"done"[..], 1));
    })
    .await;
}

#[tokio::test]
async fn clients_of_http1_have_the_final_answer_alone() {
    within(async {
        let (backend, asked) = saying([STYLE, SCRIPT, FINAL].concat()).await;
        let (house, instance, _role) = on_loopback(&backend).await;
        for version in ["1.1", "1.0"] {
            let answer = raw_answer(&instance, &house, version).await;
            assert_eq!(answer.split(' ').nth(1), Some("200"), "{version}: {answer}");
            assert_eq!(answer.matches("HTTP/1.").count(), 1, "{version}: {answer}");
            assert!(!answer.to_lowercase().contains("link:"), "{version}: {answer}");
            assert!(answer.ends_with("\r\n\r\ndone"), "{version}: {answer}");
        }
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    })
    .await;
}

#[tokio::test]
async fn of_many_hints_eight_come_and_the_answer_and_its_link_are_whole() {
    let logs = Logs::capture_debug();
    within(async {
        let (backend, asked) = saying([&STYLE.repeat(9), FINAL].concat()).await;
        let (house, instance, _role) = on_loopback(&backend).await;
        let mut client = Hinted::dial(&instance, &house).await;
        for count in 1..=2 {
            let (interims, answer) = client.get().await.all().await;
            assert_eq!((statuses(&interims), answer.status().as_u16()), (vec![103; 8], 200));
            let body = answer.into_body().data().await.unwrap().unwrap();
            assert_eq!((&body[..], asked.load(Ordering::Relaxed)), (&b"done"[..], count));
            let dropped = logs.with(&["DEBUG", "one interim answer too many, dropped"]);
            assert_eq!(dropped.len(), count, "{dropped:?}");
        }
        assert!(raw_answer(&instance, &house, "1.1").await.ends_with("\r\n\r\ndone"));
        assert_eq!(instance.gateway.status().links.len(), 1);
        assert_eq!(instance.gateway.status().ended.len(), 0, "the link stood all the time");
    })
    .await;
}

#[tokio::test]
async fn a_site_that_hints_and_breaks_off_is_502_and_is_not_asked_again() {
    within(async {
        let (backend, asked) = saying(STYLE.to_owned()).await;
        let (house, instance, _role) = on_loopback(&backend).await;
        let mut client = Hinted::dial(&instance, &house).await;
        let (interims, answer) = client.get().await.all().await;
        assert_eq!((statuses(&interims), answer.status().as_u16()), (vec![103], 502));
        assert_eq!(answer.headers()[REASON], "CMGConnector_Bad_Gateway");
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        let answer = raw_answer(&instance, &house, "1.1").await;
        assert!(answer.starts_with("HTTP/1.1 502 CMGConnector_Bad_Gateway\r\n"), "{answer}");
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    })
    .await;
}

#[tokio::test]
async fn what_is_of_one_hop_or_too_long_stays_behind_and_the_rest_goes_on() {
    within(async {
        let go_on = "HTTP/1.1 100 Continue\r\n\r\n";
        let odd = "HTTP/1.1 102 Processing\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\
                   Content-Length: 3\r\nRelay-Reason: CMGService_Forged\r\n\
                   Relay-Message-Id: 0\r\nX-End: 2\r\n\r\n";
        let field = |number| format!("X-Long-{number}: {}\r\n", "x".repeat(6 << 10));
        let long = format!("HTTP/1.1 103 Long\r\n{}{}{}\r\n", field(1), field(2), field(3));
        let (backend, _asked) = saying([go_on, odd, &long, STYLE, FINAL].concat()).await;
        let (house, instance, _role) = on_loopback(&backend).await;
        let mut client = Hinted::dial(&instance, &house).await;
        let (interims, answer) = client.get().await.all().await;
        assert_eq!((statuses(&interims), answer.status().as_u16()), (vec![102, 103], 200));
        let names: Vec<_> = interims[0].headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["x-end"]);
        assert!(answer.headers().contains_key("relay-message-id"), "of the gateway's own");
    })
    .await;
}

/// The block of a head with what no client may see, and a hint.
fn head(status: u16) -> Bytes {
    let fields = ["relay-reason", "connection", "content-length", "link"];
    let value = HeaderValue::from_static("0");
    let headers: HeaderMap =
        fields.map(|name| (HeaderName::from_static(name), value.clone())).into_iter().collect();
    let status = StatusCode::from_u16(status).unwrap();
    let head = AnswerHead { status, reason: None, headers, origin: Origin::Site };
    head.encode(&HeadLimits::default()).unwrap()
}

#[tokio::test]
async fn a_connection_point_tells_a_gateway_no_more_than_a_client_may_see() {
    within(async {
        let forged = "HTTP/1.1 103 Early Hints\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\
                      Content-Length: 3\r\nBITS-Host-Id: mp01\r\nLink: 2\r\n\r\n";
        let go_on = "HTTP/1.1 100 Continue\r\n\r\n";
        let (backend, _asked) = saying([go_on, forged, FINAL].concat()).await;
        let house = House::before(backend.address);
        let rogue = house.rogue_gateway(&house.connection_point(Vec::new())).await;
        let target = target("/SMS_MP/x").parse().unwrap();
        let assertions = Assertions::new(MessageId([7; 16]));
        let request =
            RequestHead { method: Method::GET, target, headers: HeaderMap::new(), assertions };
        let block = request.encode(&HeadLimits::default()).unwrap();
        let (_send, mut answer) = rogue.link.open(block, End::NoPayload).await.unwrap();
        let interim = answer.head().await.unwrap();
        let head = AnswerHead::decode(interim.block, &HeadLimits::default()).unwrap();
        assert_eq!((interim.interim, head.status.as_u16(), head.origin), (true, 103, Origin::Site));
        let names: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["link"]);
        assert!(!answer.head().await.unwrap().interim);
    })
    .await;
}

#[tokio::test]
async fn a_gateway_judges_interim_answers_as_if_no_connection_point_had() {
    within(async {
        let house = House::before(nobody().await);
        let gateway = house.gateway(1);
        let rogue = house.rogue_connection_point(&gateway, Config::default()).await;
        let answering = tokio::spawn(async move {
            let mut incoming = rogue.link.accept().await.unwrap();
            for block in [head(100), head(101), head(200), Bytes::from_static(b"x"), head(103)] {
                incoming.send.send_head(block, HeadKind::Interim).unwrap();
            }
            incoming.send.send_head(head(404), HeadKind::FinalAndEnd).unwrap();
            rogue
        });
        let mut client = Hinted::over(pipe_to(&gateway), &house).await;
        let (interims, answer) = client.get().await.all().await;
        assert_eq!((statuses(&interims), answer.status().as_u16()), (vec![103], 404));
        let names: Vec<_> = interims[0].headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["link"]);
        answering.await.unwrap();
    })
    .await;
}
