//! HTTP/2 as the gateway's client edge speaks it, held against RFC 9113 and RFC 7541: what is sent
//! in frames, and what must come of it. The tables are in the folder of this name.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use relay_core::gateway::Gateway;
use relay_tests::client::{Client, Http, bare};
use relay_tests::http2::{END_HEADERS, END_STREAM, WHOLE};
use relay_tests::http2::{Http2Client, asks, block, code, frame, hello, kind};
use relay_tests::pki::SiteCa;
use relay_tests::roles::{House, target, until, within};
use relay_tests::site::{Backend, Body, full};
use tokio::time::timeout;

#[path = "http2_conformance/fields.rs"]
mod fields;
#[path = "http2_conformance/framing.rs"]
mod framing;
#[path = "http2_conformance/requests.rs"]
mod requests;
#[path = "http2_conformance/streams.rs"]
mod streams;

/// The stream that rows are about.
const STREAM: u32 = 1;

/// A stream above any of the rows'.
const LATER: u32 = 0x1001;

/// No outcome is waited for as long.
const LONG: Duration = Duration::from_secs(10);

/// What must come of what is sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Outcome {
    /// The connection ends with a GOAWAY of this code.
    Goaway(u32),
    /// The connection ends, with or without a word.
    Ended,
    /// The stream is reset with this code, and the connection goes on.
    Reset(u32),
    /// The stream is answered so, and the connection goes on.
    Status(u16),
    /// Nothing but that the connection goes on.
    Ignored,
}

/// One requirement.
struct Row {
    /// Where it is written: RFC 9113, or RFC 7541 where that is said.
    section: &'static str,
    /// Who sends what.
    name: &'static str,
    script: Script,
    required: Outcome,
    /// What happens instead, and why that stays.
    deviation: Option<(Outcome, &'static str)>,
}

impl Row {
    fn new(section: &'static str, name: &'static str, script: Script, required: Outcome) -> Self {
        Self { section, name, script, required, deviation: None }
    }

    /// The same, of which something else is known to come.
    fn known(mut self, instead: Outcome, why: &'static str) -> Self {
        self.deviation = Some((instead, why));
        self
    }
}

/// Why a connection ends for what concerns one stream. RFC 9113, section 5.4.1, leaves that to us.
const ENDS_ALL: &str = "the crate h2 ends the connection when it cannot decode a frame";
/// Why a code is another. What it is said for is refused all the same.
const OTHER_CODE: &str = "the crate h2 has one code for whatever it cannot decode";
/// Why more is taken.
const DROPS_PSEUDO: &str = "the crate h2 drops pseudo-header fields of trailers without a word";
/// Why white space is forgiven.
const PADDED: &str = "clients of site roles write it, and HTTP/1.1 has none of it in a value";
/// Why it is told less that a stream has ended.
const FORGETS: &str = "the crate h2 does not keep in mind in which way a stream has ended";

enum Step {
    Send(Vec<u8>),
    /// Reads until a stream has ended.
    Ended(u32),
}

/// What a client does.
struct Script {
    has_hello: bool,
    steps: Vec<Step>,
}

/// A client that has begun well.
fn client() -> Script {
    Script { has_hello: true, steps: Vec::new() }
}

/// A client that begins with these octets.
fn stranger(octets: impl Into<Vec<u8>>) -> Script {
    Script { has_hello: false, steps: vec![Step::Send(octets.into())] }
}

impl Script {
    fn send(mut self, octets: impl Into<Vec<u8>>) -> Self {
        self.steps.push(Step::Send(octets.into()));
        self
    }

    fn frame(self, kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Self {
        self.send(frame(kind, flags, stream, payload.as_ref()))
    }

    /// HEADERS of [`STREAM`].
    fn head(self, flags: u8, block: impl AsRef<[u8]>) -> Self {
        self.frame(kind::HEADERS, flags | END_HEADERS, STREAM, block)
    }

    /// A request that is whole, and whose answer never comes.
    fn held(self) -> Self {
        self.head(END_STREAM, block(&asks("GET", &target("/SMS_MP/held"))))
    }

    /// A request whose body is to come.
    fn upload(self) -> Self {
        self.head(0, block(&asks("CCM_POST", &target("/SMS_MP/x"))))
    }

    fn data(self, flags: u8, octets: impl AsRef<[u8]>) -> Self {
        self.frame(kind::DATA, flags, STREAM, octets)
    }

    /// A request that is answered before anything else is sent.
    fn answered(mut self) -> Self {
        self = self.head(END_STREAM, get());
        self.steps.push(Step::Ended(STREAM));
        self
    }

    /// Whether the stream has ended before the outcome is looked for.
    fn ends_before(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Ended(_)))
    }
}

/// The field block of a request that is answered.
fn get() -> Vec<u8> {
    block(&asks("GET", &target("/SMS_MP/x")))
}

/// What came of a script.
async fn outcome(gateway: &Gateway, ca: &SiteCa, script: &Script, expected: Outcome) -> Outcome {
    let mut client = Http2Client::connect(gateway, ca).await;
    if script.has_hello {
        client.send(&hello()).await;
    }
    for step in &script.steps {
        match step {
            Step::Send(octets) => client.send(octets).await,
            Step::Ended(stream) => {
                client.until(|frame| frame.stream == *stream && frame.ends_stream()).await;
            }
        }
    }
    // Only a connection that has not ended answers it. Others may have ended long before.
    client.send(&frame(kind::HEADERS, WHOLE, LATER, &get())).await;
    let (mut reset, mut goodbye) = (None, None);
    let mut awaited = vec![LATER];
    if matches!(expected, Outcome::Reset(_) | Outcome::Status(_)) && !script.ends_before() {
        awaited.push(STREAM);
    }
    while !awaited.is_empty()
        && let Ok(Some(frame)) = timeout(LONG, client.next()).await
    {
        match frame.kind {
            kind::GOAWAY => goodbye = Some(frame.number(4)),
            kind::RST_STREAM if frame.stream == STREAM => reset = Some(frame.number(0)),
            _ => {}
        }
        awaited.retain(|stream| *stream != frame.stream || !frame.ends_stream());
    }
    let status = client.status_of(STREAM);
    match (goodbye, client.status_of(LATER), reset, status) {
        (Some(code), ..) => Outcome::Goaway(code),
        (None, None, ..) => Outcome::Ended,
        (None, _, Some(code), _) => Outcome::Reset(code),
        (None, _, None, Some(status)) => Outcome::Status(status),
        (None, _, None, None) => Outcome::Ignored,
    }
}

fn fits(required: Outcome, came: Outcome) -> bool {
    required == came || (required == Outcome::Ended && matches!(came, Outcome::Goaway(_)))
}

async fn site() -> Backend {
    Backend::start(|request: Request<Incoming>| async move {
        if request.uri().path().ends_with("/held") {
            std::future::pending::<()>().await;
        }
        match request.into_body().collect().await {
            Ok(_) => Response::new(full("whole")),
            // Nobody hears it.
            Err(_) => Response::<Body>::new(full("cut")),
        }
    })
    .await
}

/// Runs the rows while a neighbour has a request open, which is answered when all have ended.
async fn run(rows: Vec<Row>) {
    within(async {
        let backend = site().await;
        let mut house = House::before(backend.address);
        // However long the rows take, the neighbour is not too slow; and nothing that is not
        // published is waited for.
        house.gateway_limits.body_rate_min = 0;
        house.gateway_limits.link_credit = Duration::ZERO;
        let (gateway, _link) = house.joined().await;
        let mut neighbour = Client::join(&gateway, &house.ca, Http::Two).await;
        let (feed, body) = relay_tests::site::fed();
        let upload = relay_tests::client::with_body("CCM_POST", &target("/SMS_MP/x"), body);
        let asked = tokio::spawn(async move { (neighbour.ask(upload).await.status(), neighbour) });
        feed.send("before".into()).await.unwrap();
        backend.until_in_flight(1).await;
        let mut wrong = Vec::new();
        for row in rows {
            let expected = row.deviation.map_or(row.required, |(instead, _)| instead);
            let came = outcome(&gateway, &house.ca, &row.script, expected).await;
            let at_rest = async {
                until(|| gateway.in_flight() == 1).await;
                backend.until_in_flight(1).await;
            };
            if timeout(LONG, at_rest).await.is_err() {
                let left = gateway.in_flight();
                panic!("{}: {}: {left} in flight with the neighbour's", row.section, row.name);
            }
            if !fits(expected, came) {
                let (section, name) = (row.section, row.name);
                let why = row.deviation.map_or("required", |(_, why)| why);
                wrong.push(format!("{section}: {name}: {expected:?} ({why}), {came:?} came"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        // The neighbour has noticed nothing.
        feed.send("after".into()).await.unwrap();
        feed.send("".into()).await.unwrap();
        let (status, mut neighbour) = asked.await.unwrap();
        assert_eq!(status, 200);
        assert_eq!(neighbour.ask(bare("GET", &target("/SMS_MP/x"))).await.status(), 200);
        until(|| gateway.in_flight() == 0).await;
        backend.until_in_flight(0).await;
    })
    .await;
}

#[tokio::test]
async fn frames_are_read_as_sections_3_and_4_and_6_say() {
    run(framing::rows()).await;
}

#[tokio::test]
async fn streams_live_and_end_as_section_5_says() {
    run(streams::rows()).await;
}

#[tokio::test]
async fn requests_are_well_formed_as_section_8_says() {
    run(requests::rows()).await;
}

#[tokio::test]
async fn field_blocks_are_read_as_rfc_7541_says() {
    run(fields::rows()).await;
}
