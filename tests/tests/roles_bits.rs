//! A BITS upload whose packets go over two instances, several links and several connection points:
//! for each fragment the access log says which, and the site ends up with the very file.
//!
//! Source of the protocol: [MC-BUP], sections 2.2 and 3.2.5.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use relay_tests::client::{Answer, Http, with_body};
use relay_tests::logs::Logs;
use relay_tests::roles::{House, target, until, within};
use relay_tests::running::{Instance, Running, connection_point};
use relay_tests::site::{Backend, Body, empty, full, octets};
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

const PATH: &str = "/CCM_Incoming/report.bin";
const PROTOCOL: &str = "{7df0354d-249b-430f-820d-3d2a9bef4931}";

/// Octets of a fragment.
const FRAGMENT: u64 = 64 << 10;
/// Octets of the file: twenty-four fragments and a short one.
const FILE: u64 = 24 * FRAGMENT + 4_321;
/// Octets that the site has when a link is lost under a fragment.
const LOST_AT: u64 = 8 * FRAGMENT;
/// Octets that the site has when a fragment is left out.
const GAP_AT: u64 = 16 * FRAGMENT;

/// Links of a connection point to an instance.
const LINKS: usize = 2;

/// A site role that takes uploads.
#[derive(Default)]
struct Site {
    /// What came so far, by session.
    open: Mutex<BTreeMap<String, Vec<u8>>>,
    /// The octets of uploads that were closed.
    closed: Mutex<Vec<Vec<u8>>>,
    /// Where the fragment begins that is taken and not answered, once.
    silent_at: Mutex<Option<u64>>,
    /// Told when that has come.
    is_silent: Notify,
}

impl Site {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        assert_eq!((head.method.as_str(), head.uri.path()), ("BITS_POST", PATH));
        let body = body.collect().await.map(http_body_util::Collected::to_bytes);
        // What broke off on its way is not of the file.
        let Ok(body) = body else { return Response::new(empty()) };
        let session = text(&head.headers, "bits-session-id").unwrap_or("{new}").to_owned();
        let answer = Response::builder()
            .header("bits-packet-type", "Ack")
            .header("bits-session-id", &session)
            .header("bits-host-id", "mp01.corp.example");
        let status = match text(&head.headers, "bits-packet-type").unwrap() {
            "Ping" => 200,
            "Create-Session" => {
                assert_eq!(text(&head.headers, "bits-supported-protocols"), Some(PROTOCOL));
                self.open.lock().unwrap().insert(session, Vec::new());
                200
            }
            "Fragment" => {
                let range = text(&head.headers, "content-range").unwrap();
                let (status, received) = self.take(&session, range, &body);
                self.keep_silent_if_told(range).await;
                let answer = answer.status(status).header("bits-received-content-range", received);
                return answer.body(empty()).unwrap();
            }
            "Close-Session" => match self.open.lock().unwrap().remove(&session) {
                Some(file) => {
                    self.closed.lock().unwrap().push(file);
                    200
                }
                None => 404,
            },
            "Cancel-Session" => {
                if self.open.lock().unwrap().remove(&session).is_some() {
                    200
                } else {
                    404
                }
            }
            other => panic!("{other}"),
        };
        answer.status(status).body(empty()).unwrap()
    }

    /// Takes what of a fragment is new. Returns status, and what is expected next.
    fn take(&self, session: &str, range: &str, body: &[u8]) -> (u16, u64) {
        let mut open = self.open.lock().unwrap();
        let file = open.get_mut(session).unwrap();
        let (from, received) = (first(range), file.len() as u64);
        let Some(known) = received.checked_sub(from) else { return (416, received) };
        file.extend(body.iter().skip(usize::try_from(known).unwrap()));
        (200, file.len() as u64)
    }

    async fn keep_silent_if_told(&self, range: &str) {
        let is_told = self.silent_at.lock().unwrap().take_if(|at| *at == first(range)).is_some();
        if is_told {
            self.is_silent.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

/// The first octet of `bytes FIRST-LAST/ALL`.
fn first(range: &str) -> u64 {
    range.strip_prefix("bytes ").unwrap().split('-').next().unwrap().parse().unwrap()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap())
}

/// Which way a packet went.
#[derive(Clone, Debug)]
struct Way {
    instance: usize,
    link: u64,
    connection_point: String,
}

/// An upload, and the ways that its fragments went.
struct Upload<'a> {
    house: &'a House,
    instances: &'a [Instance],
    logs: &'a Logs,
    session: &'static str,
    file: Bytes,
    asked: usize,
    ways: Vec<Way>,
}

impl Upload<'_> {
    /// Sends a packet to the instance whose turn it is, in the HTTP whose turn it is. Returns the
    /// answer and that instance.
    async fn packet(&mut self, kind: &str, more: &[(&str, &str)], body: Body) -> (Answer, usize) {
        let turn = self.asked % self.instances.len();
        let http = Http::BOTH[self.asked / self.instances.len() % 2];
        self.asked += 1;
        let mut request = with_body("BITS_POST", &target(PATH), body);
        let own = [("BITS-Packet-Type", kind), ("BITS-Session-Id", self.session)];
        for (name, value) in own.iter().chain(more) {
            let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let mut client = self.instances[turn].client(self.house, http).await;
        let answer = client.ask(request).await;
        assert!(!answer.parts.headers.contains_key("bits-host-id"), "{kind}");
        (answer, turn)
    }

    /// As [`Upload::packet`], of which the site says `status`.
    async fn say(&mut self, kind: &str, more: &[(&str, &str)], status: u16) {
        let (answer, _) = self.packet(kind, more, empty()).await;
        assert_eq!((answer.status(), answer.reason()), (status, None), "{kind}");
        assert_eq!(text(&answer.parts.headers, "bits-packet-type"), Some("Ack"), "{kind}");
    }

    /// Sends the fragment that begins at `from`.
    async fn fragment(&mut self, from: u64) -> (Answer, usize) {
        let to = FILE.min(from + FRAGMENT);
        let range = format!("bytes {from}-{}/{FILE}", to - 1);
        let [from, to] = [from, to].map(|at| usize::try_from(at).unwrap());
        let body = full(self.file.slice(from..to));
        self.packet("Fragment", &[("Content-Range", &range)], body).await
    }

    /// Sends the fragment that begins at `from`. Returns what the site says that it wants next, and
    /// notes the way.
    async fn send(&mut self, from: u64, status: u16) -> u64 {
        let (answer, instance) = self.fragment(from).await;
        assert_eq!((answer.status(), answer.reason()), (status, None), "from {from}");
        let way = self.way(&answer, instance).await;
        self.ways.push(way);
        text(&answer.parts.headers, "bits-received-content-range").unwrap().parse().unwrap()
    }

    /// Sends fragments until the site has `to` octets of those from `from`.
    async fn send_up_to(&mut self, mut from: u64, to: u64) {
        while from < to {
            let next = self.send(from, 200).await;
            assert_eq!(next, FILE.min(from + FRAGMENT));
            from = next;
        }
    }

    /// How many links and connection points of an instance the fragments went over.
    fn used(&self, instance: usize) -> (usize, usize) {
        let ways = || self.ways.iter().filter(|way| way.instance == instance);
        let links: BTreeSet<_> = ways().map(|way| way.link).collect();
        let points: BTreeSet<_> = ways().map(|way| &way.connection_point).collect();
        (links.len(), points.len())
    }

    /// Which way a packet went to its answer: by the access log, and as the instance that was asked
    /// shows its links.
    async fn way(&self, answer: &Answer, instance: usize) -> Way {
        let logged = || self.logs.with(&[answer.message_id(), r#""target":"relay::access""#]);
        until(|| !logged().is_empty()).await;
        let logged = logged();
        assert_eq!(logged.len(), 1, "{logged:?}");
        let told: serde_json::Value = serde_json::from_str(&logged[0]).unwrap();
        let link = told["fields"]["link"].as_u64().unwrap();
        let connection_point = told["fields"]["connection_point"].as_str().unwrap().to_owned();
        let links = self.instances[instance].gateway.status().links;
        let is_it = |it: &&relay_core::gateway::LinkStatus| it.number == link;
        let shown = links.iter().find(is_it).map(|it| it.connection_point.to_string());
        assert_eq!(shown.as_ref(), Some(&connection_point), "link {link}: {links:?}");
        Way { instance, link, connection_point }
    }
}

/// A site before two instances, with two connection points.
async fn start() -> (Arc<Site>, Backend, House, Vec<Instance>, BTreeMap<String, Running>) {
    let site = Arc::new(Site::default());
    let answering = Arc::clone(&site);
    let backend = Backend::start(move |request| {
        let site = Arc::clone(&answering);
        async move { site.answer(request).await }
    })
    .await;
    let mut house = House::before(backend.address);
    house.connection_point_limits.links_per_instance = LINKS;
    let instances = vec![Instance::start(&house, 1).await, Instance::start(&house, 2).await];
    let links: Vec<_> = instances.iter().map(|instance| instance.links).collect();
    let mut points = BTreeMap::new();
    for name in ["cp-1", "cp-2"] {
        points.insert(name.to_owned(), connection_point(&house, &links));
    }
    for instance in &instances {
        instance.until_links(points.len() * LINKS).await;
    }
    (site, backend, house, instances, points)
}

/// Has the connection point lost over which the fragment at [`LOST_AT`] goes, once the site has
/// taken it. The client is told so, once.
async fn lose(upload: &mut Upload<'_>, site: &Site, points: &mut BTreeMap<String, Running>) {
    *site.silent_at.lock().unwrap() = Some(LOST_AT);
    let instances = upload.instances;
    let losing = async {
        site.is_silent.notified().await;
        let links = instances.iter().flat_map(|instance| instance.gateway.status().links);
        let busy: Vec<_> = links.filter(|link| link.in_flight > 0).collect();
        let [link] = &busy[..] else { panic!("one is on its way: {busy:?}") };
        let name = link.connection_point.to_string();
        points.remove(&name).unwrap().ended.abort();
        name
    };
    let ((answer, _), name) = tokio::join!(upload.fragment(LOST_AT), losing);
    let came = (answer.status(), answer.reason());
    assert_eq!(came, (502, Some("CMGService_Connector_Lost")));
    let lost = upload.logs.with(&[answer.message_id(), r#""ended":"link lost""#, &name]);
    assert_eq!(lost.len(), 1, "{lost:?}");
    // What is sent over a link of which nobody knows yet that it is lost would be told so too.
    for instance in instances {
        instance.until_links(LINKS).await;
    }
}

#[tokio::test]
async fn an_upload_over_every_way_arrives_as_it_was_sent_also_when_one_is_lost() {
    within(async {
        let logs = Logs::capture();
        let (site, backend, house, instances, mut points) = start().await;
        let mut upload = Upload {
            house: &house,
            instances: &instances,
            logs: &logs,
            session: "{1}",
            file: octets(11, usize::try_from(FILE).unwrap()),
            asked: 0,
            ways: Vec::new(),
        };
        upload.say("Ping", &[], 200).await;
        upload.say("Create-Session", &[("BITS-Supported-Protocols", PROTOCOL)], 200).await;
        upload.send_up_to(0, LOST_AT).await;
        for instance in 0..instances.len() {
            assert_eq!(upload.used(instance), (4, 2), "links and connection points of {instance}");
        }
        lose(&mut upload, &site, &mut points).await;
        // The site has it: of the same fragment once more it takes nothing.
        assert_eq!(upload.send(LOST_AT, 200).await, LOST_AT + FRAGMENT);
        upload.send_up_to(LOST_AT + FRAGMENT, GAP_AT).await;
        let received = upload.send(GAP_AT + FRAGMENT, 416).await;
        assert_eq!(received, GAP_AT, "where it goes on");
        upload.send_up_to(received, FILE).await;
        upload.say("Close-Session", &[], 200).await;

        upload.ways.drain(..8);
        for instance in 0..instances.len() {
            assert_eq!(upload.used(instance), (2, 1), "what was left of {instance}");
        }

        let closed = site.closed.lock().unwrap().clone();
        let hashes: Vec<_> = closed.iter().map(Sha256::digest).collect();
        assert_eq!(hashes, [Sha256::digest(&upload.file)]);

        // Each fragment, the one that was repeated, and the one that came too early.
        assert_eq!(upload.ways.len(), 26 - 8);
        // And one that was lost, Ping, Create-Session and Close-Session.
        assert_eq!(backend.seen().len(), 30);
    })
    .await;
}

#[tokio::test]
async fn an_upload_that_is_cancelled_is_gone_at_every_instance() {
    within(async {
        let logs = Logs::capture();
        let (site, _backend, house, instances, _points) = start().await;
        let (file, ways) = (octets(12, usize::try_from(FILE).unwrap()), Vec::new());
        let (house, instances, logs) = (&house, &instances[..], &logs);
        let mut upload = Upload { house, instances, logs, session: "{2}", file, asked: 0, ways };
        upload.say("Create-Session", &[("BITS-Supported-Protocols", PROTOCOL)], 200).await;
        upload.send_up_to(0, 2 * FRAGMENT).await;
        upload.say("Cancel-Session", &[], 200).await;
        for _ in instances {
            upload.say("Close-Session", &[], 404).await;
        }
        assert_eq!(site.closed.lock().unwrap().len(), 0);
    })
    .await;
}
