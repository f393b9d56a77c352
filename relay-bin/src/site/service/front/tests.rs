use std::sync::RwLock;

use relay_core::config::{SiteTokens, site_tokens};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::super::office::WAITING_MAX;
use super::super::rate::Rate;
use super::super::tenants::Tenants;
use super::*;
use crate::site::command;

const LIMITS: Limits = Limits {
    in_flight_max: 2,
    body_bytes_max: 64,
    head_time: Duration::from_secs(10),
    request_time: Duration::from_secs(15),
    rates: Rates {
        overall: Rate { per_second: 1, burst: 4 },
        each: Rate { per_second: 1, burst: 4 },
        sources_max: 8,
    },
};

/// A site with a key, a store and a service for its own network.
struct Place {
    _folder: TempDir,
    front: Arc<Front>,
    tally: Arc<Tally>,
}

impl Place {
    fn new(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tokens = tokens_in(&folder);
        crate::site::opening::prepare(&tokens, command::now().unwrap()).unwrap();
        crate::site::keys::tests::put_first(&tokens.folder);
        let (office, _) = Office::open(tokens, Arc::<RwLock<Tenants>>::default()).unwrap();
        let tally = Arc::<Tally>::default();
        let front = Arc::new(Front::new(office, limits, Arc::clone(&tally)));
        Self { _folder: folder, front, tally }
    }

    /// A connection from the site's own network.
    fn connect(&self) -> DuplexStream {
        self.connect_from(From::Intranet(Source::of([10, 0, 0, 5].into()), None))
    }

    fn connect_from(&self, from: From) -> DuplexStream {
        let (near, far) = duplex(64 * 1024);
        tokio::spawn(Arc::clone(&self.front).serve(far, from, std::future::pending()));
        near
    }

    /// What is said to a whole request: the status, and the code of a refusal.
    async fn ask(&self, request: &str) -> (u16, String) {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).await.unwrap();
        said(stream).await
    }

    /// As [`Place::ask`], over a gateway.
    async fn ask_over_gateway(&self, request: &str) -> (u16, String) {
        let mut stream = self.connect_from(From::ConnectionPoint);
        let last = request.replacen("\r\n", "\r\nconnection: close\r\n", 1);
        stream.write_all(last.as_bytes()).await.unwrap();
        said(stream).await
    }

    /// A request of the site's own network whose body is waited for: it has one octet of two.
    async fn begin(&self) -> DuplexStream {
        let mut stream = self.connect();
        let fields = "host: a\r\nexpect: 100-continue\r\ncontent-length: 2";
        let head = format!("POST /CCM_STS/renew HTTP/1.1\r\n{fields}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        // RFC 9110, section 10.1.1: said once somebody reads the body.
        let mut said = [0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
        stream.read_exact(&mut said).await.unwrap();
        assert!(said.starts_with(b"HTTP/1.1 100 "));
        stream.write_all(b"{").await.unwrap();
        stream
    }

    fn counted(&self, name: &str) -> u64 {
        self.tally.counts().find(|(it, _)| it == name).unwrap().1
    }
}

fn tokens_in(folder: &TempDir) -> SiteTokens {
    let file = folder.path().join("connection-point.toml");
    let tenant = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
    let text = format!("[tokens]\nfolder = \"tokens\"\ntenant = \"{tenant}\"\n");
    std::fs::write(&file, text).unwrap();
    site_tokens(&file).unwrap()
}

async fn said(mut stream: DuplexStream) -> (u16, String) {
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    let Some((head, body)) = said.split_once("\r\n\r\n") else { return (0, said) };
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert!(!body["detail"].as_str().unwrap().is_empty(), "{body}");
    (status, body["error"].as_str().unwrap().to_owned())
}

fn request(verb: &str, path: &str, body: &str) -> String {
    format!("{verb} {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn told(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn paths_and_verbs_of_others_are_refused_before_anything_else() {
    let place = Place::new(Limits::default());
    let ask = async |verb: &str, path: &str| place.ask(&request(verb, path, "{}")).await;
    assert_eq!(ask("CCM_POST", "/CCM_STS/none").await, told(404, "not_found"));
    assert_eq!(ask("GET", "/CCM_STS/renew").await, told(405, "method_not_allowed"));
    assert_eq!(ask("ccm_post", "/CCM_STS/renew").await, told(405, "method_not_allowed"));
    assert_eq!(ask("POST", "/CCM_STS/renew").await, told(401, "no_token"));
    assert_eq!(ask("CCM_POST", "/CCM_STS/exchange?x").await, told(401, "no_token"));
    assert_eq!(place.counted("token_service_refused_no_token"), 2);
}

#[tokio::test]
async fn a_body_at_its_limit_is_read_and_one_octet_more_is_not() {
    let place = Place::new(LIMITS);
    let chunked = |len: usize| {
        let head = "POST /CCM_STS/renew HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked";
        format!("{head}\r\n\r\n{len:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(len))
    };
    let told_of = |len: usize| request("POST", "/CCM_STS/renew", &"x".repeat(len));
    for text in [told_of(64), chunked(64)] {
        assert_eq!(place.ask(&text).await, told(400, "malformed"));
    }
    for text in [told_of(65), chunked(65)] {
        assert_eq!(place.ask(&text).await, told(413, "too_large"));
    }
    assert_eq!(Limits::default().body_bytes_max, 65_536);
}

#[tokio::test]
async fn one_request_more_than_may_be_served_at_a_time_is_refused_at_once() {
    let place = Place::new(LIMITS);
    let whole = request("POST", "/CCM_STS/renew", "{}");
    let places = &place.front.on_intranet.places;
    let _first = places.try_acquire().unwrap();
    assert_eq!(place.ask(&whole).await, told(401, "no_token"));
    let second = places.try_acquire().unwrap();
    assert_eq!(place.ask(&whole).await, told(503, "busy"));
    assert_eq!(place.ask_over_gateway(&whole).await, told(401, "no_token"));
    drop(second);
    assert_eq!(place.ask(&whole).await, told(401, "no_token"));
    assert!(2 * Limits::default().in_flight_max <= WAITING_MAX, "the thread has room for all");
}

#[tokio::test]
async fn bodies_that_do_not_come_keep_nobody_from_being_served() {
    let place = Place::new(LIMITS);
    let whole = request("POST", "/CCM_STS/renew", "{}");
    let begun = [place.begin().await, place.begin().await];
    assert_eq!(place.ask_over_gateway(&whole).await, told(401, "no_token"));
    assert_eq!(place.ask(&whole).await, told(401, "no_token"));
    for mut stream in begun {
        stream.write_all(b"}").await.unwrap();
        assert_eq!(said(stream).await, told(401, "no_token"));
    }
}

#[tokio::test]
async fn who_asks_too_often_on_one_way_takes_nothing_from_the_other() {
    let rates = Rates { overall: Rate { per_second: 0, burst: 2 }, ..LIMITS.rates };
    let place = Place::new(Limits { rates, ..LIMITS });
    let whole = request("POST", "/CCM_STS/renew", "{}");
    for _ in 0..2 {
        assert_eq!(place.ask(&whole).await, told(401, "no_token"));
    }
    assert_eq!(place.ask(&whole).await, told(429, "slow_down"));
    for _ in 0..2 {
        assert_eq!(place.ask_over_gateway(&whole).await, told(401, "no_token"));
    }
    assert_eq!(place.ask_over_gateway(&whole).await, told(429, "slow_down"));
}

#[tokio::test]
async fn who_asks_too_often_is_told_to_wait() {
    let rates = Rates { overall: Rate { per_second: 0, burst: 3 }, ..LIMITS.rates };
    let place = Place::new(Limits { rates, ..LIMITS });
    let whole = request("POST", "/CCM_STS/renew", "{}");
    for _ in 0..3 {
        assert_eq!(place.ask(&whole).await, told(401, "no_token"));
    }
    assert_eq!(place.ask(&whole).await, told(429, "slow_down"));
    assert_eq!(place.counted("token_service_refused_slow_down"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_come_to_its_end_in_time_is_given_up() {
    let place = Place::new(LIMITS);
    let before = Instant::now();
    let whole = request("POST", "/CCM_STS/renew", "{}");
    assert_eq!(place.ask(&whole[..whole.len() - 1]).await, told(503, "busy"));
    assert_eq!(before.elapsed().as_secs(), 15);
    assert_eq!(place.ask(&whole[..10]).await.0, 0, "a head that is none is not answered");
    assert_eq!(before.elapsed().as_secs(), 25);
    assert_eq!(place.front.on_intranet.places.available_permits(), 2);
}

#[test]
fn a_path_leads_to_a_door_with_and_without_what_a_gateway_has_in_front_of_it() {
    for (path, expected) in [
        ("/CCM_STS/register", Some(Door::Register)),
        ("/ccm_sts/RENEW", Some(Door::Renew)),
        ("/CCM_Proxy_ServerAuth/7/CCM_STS/exchange", Some(Door::Exchange)),
        ("/ccm_proxy_mutualauth/72057594037927938/CCM_STS/renew", Some(Door::Renew)),
        ("/CCM_Proxy_ServerAuth/x/CCM_STS/renew", None),
        ("/CCM_Proxy_ServerAuth//CCM_STS/renew", None),
        ("/CCM_Proxy_Other/7/CCM_STS/renew", None),
        ("/x/CCM_STS/renew", None),
        ("CCM_STS/renew", None),
        ("/CCM_STS/renew/", None),
        ("/CCM_STS", None),
        ("/register", None),
        ("", None),
    ] {
        assert_eq!(door(path), expected, "{path}");
    }
}
