//! Limits that one request over HTTP/1.1 can reach.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use relay_core::exchange::{AnswerHead, HeadLimits, Origin};
use relay_core::link::Link;
use relay_core::mux::{Config, HeadKind};
use relay_tests::client::tls;
use relay_tests::roles::{House, counted, counted_since, target, within};
use relay_tests::running::{Instance, connection_point};
use relay_tests::site::{Backend, full, nobody};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{BODY, LIMITS, Proof};

/// Fields that are taken off on the way, however long they are: only the head's own limits count.
const NOT_RELAYED: &str = "X-Relay-Pad: ";

fn letters(octets: usize) -> String {
    "a".repeat(octets)
}

fn request(verb: &str, path: &str, rest: &str) -> String {
    format!("{verb} {} HTTP/1.1\r\nHost: relay.test\r\n{rest}", target(path))
}

fn get(fields: &str) -> String {
    request("GET", "/SMS_MP/x", &format!("{fields}\r\n"))
}

fn chunked(body: &str) -> String {
    request("CCM_POST", "/SMS_MP/x", &format!("Transfer-Encoding: chunked\r\n\r\n{body}"))
}

/// Lines that begin with `name`, of `octets` in all.
fn lines(name: &str, octets: usize) -> String {
    let line = |octets: usize| format!("{name}{}\r\n", letters(octets - name.len() - 2));
    // The last one is long enough for a name.
    let full = octets.saturating_sub(2001) / 4000;
    line(4000).repeat(full) + &line(octets - full * 4000)
}

pub(super) fn first_line(octets: usize) -> String {
    let line = |pad| format!("GET {} HTTP/1.1", target(&format!("/SMS_MP/{}", letters(pad))));
    format!("{}\r\nHost: relay.test\r\n\r\n", line(octets - line(0).len()))
}

pub(super) fn field(octets: usize) -> String {
    get(&format!("X: {}\r\n", letters(octets - 3)))
}

pub(super) fn field_name(octets: usize) -> String {
    // Not relayed, for names of another case than the usual one are relayed twice.
    let name = NOT_RELAYED.trim_end_matches(": ");
    get(&format!("{name}{}: b\r\n", letters(octets - name.len() - 3)))
}

pub(super) fn head(octets: usize) -> String {
    get(&lines(NOT_RELAYED, octets - get("").len()))
}

pub(super) fn fields(count: usize) -> String {
    // Host is one of them.
    get(&"X: y\r\n".repeat(count - 1))
}

pub(super) fn length_digits(count: usize) -> String {
    let length = "9".repeat(count);
    request("CCM_POST", "/SMS_MP/x", &format!("Content-Length: {length}\r\n\r\n"))
}

pub(super) fn chunk_digits(count: usize) -> String {
    chunked(&format!("{:0>count$}\r\nabcde\r\n0\r\n\r\n", 5))
}

pub(super) fn extensions(octets: usize) -> String {
    let half = octets / 2;
    let [one, other] = [half, octets - half].map(|octets| format!(";a={}", letters(octets - 3)));
    chunked(&format!("1{one}\r\nx\r\n1{other}\r\nx\r\n0\r\n\r\n"))
}

pub(super) fn trailers(count: usize) -> String {
    chunked(&format!("1\r\nx\r\n0\r\n{}\r\n", "X: y\r\n".repeat(count)))
}

pub(super) fn trailer(octets: usize) -> String {
    chunked(&format!("0\r\nX: {}\r\n\r\n", letters(octets - 3)))
}

pub(super) fn trailer_octets(octets: usize) -> String {
    chunked(&format!("0\r\n{}\r\n", lines(NOT_RELAYED, octets - 2)))
}

pub(super) fn declared_body(octets: usize) -> String {
    let body = letters(octets);
    request("CCM_POST", "/SMS_MP/x", &format!("Content-Length: {octets}\r\n\r\n{body}"))
}

pub(super) fn chunked_body(octets: usize) -> String {
    let (one, other) = (letters(octets / 2), letters(octets - octets / 2));
    chunked(&format!("{:x}\r\n{one}\r\n{:x}\r\n{other}\r\n0\r\n\r\n", one.len(), other.len()))
}

/// Says `request` on a connection of its own. Returns the status of the answer, with the reason if
/// the relay has answered itself.
async fn say(house: &House, instance: &Instance, request: &str) -> String {
    let before = counted(instance.gateway.status().counts);
    let stream = TcpStream::connect(instance.clients).await.unwrap();
    let mut stream = tls(stream, &house.ca, b"http/1.1").await;
    // What is refused before its end may not be taken to its end.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut head = Vec::new();
    while !head.windows(4).any(|octets| octets == b"\r\n\r\n") {
        assert!(stream.read_buf(&mut head).await.unwrap() > 0, "no answer to {request:.200}");
    }
    let head = String::from_utf8_lossy(&head);
    let status = head.split(' ').nth(1).unwrap();
    let reason = head.lines().find_map(|line| line.strip_prefix("relay-reason: "));
    // One count has moved, if it was answered here.
    let moved = counted_since(&before, counted(instance.gateway.status().counts));
    assert!(moved.into_iter().eq(reason.map(|reason| (reason, 1))), "{head}");
    match reason {
        Some(reason) => format!("{status} {reason}"),
        None => status.to_owned(),
    }
}

#[tokio::test]
async fn each_limit_of_a_request_holds_at_its_octet() {
    within(async {
        let backend = Backend::start(|request| async move {
            // A body that is cut has no answer that anybody waits for.
            let _ = request.into_body().collect().await;
            http::Response::new(full("taken"))
        });
        let backend = backend.await;
        let mut house = House::before(backend.address);
        house.endpoint.0.request_body_bytes_max = Some(BODY as u64);
        let instance = Instance::start(&house, 1).await;
        let _point = connection_point(&house, &[instance.links]);
        instance.until_links(1).await;
        let mut faults = Vec::new();
        for row in &LIMITS {
            let Proof::Asked(request) = row.proof else { continue };
            for (number, expected) in (row.value - 1..).zip(row.points) {
                let told = say(&house, &instance, &request(number)).await;
                let fault = format!("{} of {number}: {told}, not {expected}", row.of);
                faults.extend((told != expected).then_some(fault));
            }
        }
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    })
    .await;
}

/// Answers one request with 200, and returns how many octets its head had on the link.
async fn answer_one(link: &Link) -> usize {
    let mut incoming = link.accept().await.unwrap();
    let head = AnswerHead {
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        reason: None,
        origin: Origin::Site,
    };
    let head: Bytes = head.encode(&HeadLimits::default()).unwrap();
    incoming.send.send_head(head, HeadKind::FinalAndEnd).unwrap();
    incoming.head.len()
}

#[tokio::test]
async fn a_head_as_it_is_relayed_has_16376_octets_and_no_more() {
    within(async {
        let house = House::before(nobody().await);
        let instance = Instance::start(&house, 1).await;
        let rogue = house.rogue_connection_point(&instance.gateway, Config::default()).await;
        // How much more it is by the relay's own account does not depend on its length.
        let padded = |pad: usize| get(&(lines("X: ", 8000) + &lines("X: ", 6000 + pad)));
        let request = padded(0);
        let (told, relayed) =
            tokio::join!(say(&house, &instance, &request), answer_one(&rogue.link));
        assert_eq!(told, "200");
        for expected in [16_375, 16_376] {
            let request = padded(expected - relayed);
            let (told, octets) =
                tokio::join!(say(&house, &instance, &request), answer_one(&rogue.link));
            assert_eq!((told.as_str(), octets), ("200", expected));
        }
        let told = say(&house, &instance, &padded(16_377 - relayed)).await;
        assert_eq!(told, "431 CMGService_Head_Too_Large");
    })
    .await;
}
