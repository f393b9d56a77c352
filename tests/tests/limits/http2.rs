//! Limits of a connection of HTTP/2, by a client that writes its frames itself where a library
//! would keep to the limit.

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use relay_core::mux::Config;
use relay_tests::client::tls;
use relay_tests::logs::Logs;
use relay_tests::roles::{House, SERVICE, target, within};
use relay_tests::running::{Instance, Running, connection_point};
use relay_tests::site::{Backend, full, nobody};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::client::TlsStream;

use super::points_of;

// RFC 9113, sections 6 and 7.
const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const GOAWAY: u8 = 0x7;
const WINDOW_UPDATE: u8 = 0x8;
const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const FLOW_CONTROL_ERROR: u8 = 0x3;
const REFUSED_STREAM: u8 = 0x7;

/// Octets of a frame's payload at most, unless somebody has granted more.
const FRAME: usize = 16 << 10;

/// Long enough that nothing waits in vain.
const PATIENCE: Duration = Duration::from_hours(1);

const STREAMS: usize = 100;
const HEADER_LIST: usize = 32 << 10;
const STREAM_WINDOW: usize = 64 << 10;
const CONNECTION_WINDOW: usize = 100 * STREAM_WINDOW;

/// Both roles and a backend that answers once it is told to.
struct Relay {
    house: House,
    instance: Instance,
    backend: Backend,
    /// How many requests may be answered.
    allowed: watch::Sender<usize>,
    _point: Running,
}

impl Relay {
    async fn start() -> Self {
        let (allowed, wait) = watch::channel(0);
        let backend = Backend::start(move |request: Request<hyper::body::Incoming>| {
            let mut wait = wait.clone();
            async move {
                let path = request.uri().path();
                let number: usize = path.rsplit('/').next().unwrap().parse().unwrap();
                wait.wait_for(|allowed| number < *allowed).await.unwrap();
                drop(request.into_body().collect().await);
                Response::new(full("taken"))
            }
        })
        .await;
        let house = House::before(backend.address);
        let instance = Instance::start(&house, 1).await;
        let point = connection_point(&house, &[instance.links]);
        instance.until_links(1).await;
        Self { house, instance, backend, allowed, _point: point }
    }
}

async fn frames(house: &House, instance: &Instance) -> Frames {
    let stream = TcpStream::connect(instance.clients).await.unwrap();
    Frames::begin(tls(stream, &house.ca, b"h2").await).await
}

/// A connection, frame by frame.
struct Frames(TlsStream<TcpStream>);

impl Frames {
    async fn begin(mut stream: TlsStream<TcpStream>) -> Self {
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut frames = Self(stream);
        frames.send(SETTINGS, 0, 0, &[]).await;
        while frames.frame().await.kind != SETTINGS {}
        // The gateway's own hold from here on.
        frames.send(SETTINGS, ACK, 0, &[]).await;
        // RFC 9113, section 6.9.2: a connection's window is no setting.
        while frames.frame().await.kind != WINDOW_UPDATE {}
        frames
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut frame = BytesMut::with_capacity(9 + payload.len());
        frame.put_uint(payload.len() as u64, 3);
        frame.put_slice(&[kind, flags]);
        frame.put_u32(stream);
        frame.put_slice(payload);
        self.0.write_all(&frame).await.unwrap();
    }

    /// Asks for a path of the management point.
    async fn ask(&mut self, stream: u32, verb: &str, path: &str, end: u8) {
        // RFC 7541: indexed names of the static table, literal values, nothing remembered.
        let mut block = vec![0x87];
        let target = target(path);
        for (name, value) in [(2, verb), (4, &*target), (1, SERVICE)] {
            block.extend([name, u8::try_from(value.len()).unwrap()]);
            block.extend(value.bytes());
        }
        self.send(HEADERS, END_HEADERS | end, stream, &block).await;
    }

    /// Sends octets of a body.
    async fn data(&mut self, stream: u32, octets: usize) {
        let mut left = octets;
        while left > 0 {
            let this = left.min(FRAME);
            self.send(DATA, 0, stream, &[0; FRAME][..this]).await;
            left -= this;
        }
    }

    async fn frame(&mut self) -> Frame {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).await.unwrap();
        Frame { kind: head[3], flags: head[4], stream, payload }
    }

    /// What ends next: an answer, a stream before its time, the connection, or, if all is well, the
    /// wait for an answer to a ping.
    async fn next(&mut self) -> End {
        loop {
            let frame = self.frame().await;
            match frame.kind {
                DATA | HEADERS if frame.flags & END_STREAM != 0 => {
                    return End::Answered(frame.stream);
                }
                RST_STREAM => return End::Reset(frame.stream, frame.payload[3]),
                GOAWAY => return End::Gone(frame.payload[7]),
                PING if frame.flags & ACK != 0 => return End::Pong,
                _ => {}
            }
        }
    }

    /// Asks twice whether anybody is there, as answers to pings overtake what ends a stream.
    /// Returns what came before the second answer, and that if nothing did.
    async fn ping(&mut self) -> End {
        self.send(PING, 0, 0, &[0; 8]).await;
        let end = self.next().await;
        if end != End::Pong {
            return end;
        }
        self.send(PING, 0, 0, &[0; 8]).await;
        self.next().await
    }
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

#[derive(Debug, Eq, PartialEq)]
enum End {
    /// The answer on a stream.
    Answered(u32),
    /// A stream, with a code.
    Reset(u32, u8),
    /// The connection, with a code.
    Gone(u8),
    /// Nothing but a ping.
    Pong,
}

/// The number of a client's stream.
fn stream(number: usize) -> u32 {
    u32::try_from(2 * number + 1).unwrap()
}

#[tokio::test]
async fn the_101st_stream_of_a_connection_is_refused_and_has_a_place_when_one_ends() {
    within(async {
        let relay = Relay::start().await;
        let mut frames = frames(&relay.house, &relay.instance).await;
        for number in 0..=STREAMS {
            let path = format!("/BGB/{number}");
            frames.ask(stream(number), "GET", &path, END_STREAM).await;
        }
        let beyond = stream(STREAMS);
        assert_eq!(frames.next().await, End::Reset(beyond, REFUSED_STREAM));
        relay.backend.until_in_flight(STREAMS).await;
        relay.allowed.send_replace(1);
        assert_eq!(frames.next().await, End::Answered(stream(0)));
        frames.ask(stream(STREAMS + 1), "GET", "/BGB/0", END_STREAM).await;
        assert_eq!(frames.next().await, End::Answered(stream(STREAMS + 1)));
    })
    .await;
}

/// Asks with a header list of `octets`, most of which is not relayed.
async fn ask_with(sender: SendRequest<Bytes>, octets: usize) -> String {
    let uri = format!("https://{SERVICE}{}", target("/SMS_MP/0"));
    let path = target("/SMS_MP/0");
    // RFC 9113, section 6.5.2: 32 for each field beside its name and value.
    let pseudo =
        [(":method", "GET"), (":scheme", "https"), (":authority", SERVICE), (":path", &path)];
    let pseudo: usize = pseudo.iter().map(|(name, value)| name.len() + value.len() + 32).sum();
    let name = "x-relay-pad";
    let mut left = octets - pseudo;
    let mut request = Request::get(uri);
    while left > 0 {
        let this = if left > 6000 { 4000 } else { left };
        request = request.header(name, "a".repeat(this - name.len() - 32));
        left -= this;
    }
    told(sender, request.body(()).unwrap()).await
}

/// The status and the reason of an answer, and that it has a message id if it has a reason.
async fn told(sender: SendRequest<Bytes>, request: Request<()>) -> String {
    let mut sender = sender.ready().await.unwrap();
    let (answer, _) = sender.send_request(request, true).unwrap();
    let answer = answer.await.unwrap();
    let Some(reason) = answer.headers().get("relay-reason") else {
        return answer.status().as_str().to_owned();
    };
    assert!(answer.headers().contains_key("relay-message-id"), "{answer:?}");
    format!("{} {}", answer.status().as_str(), reason.to_str().unwrap())
}

/// What has so many fields beside those that begin with a colon. None of them is relayed.
fn of_fields(fields: usize) -> Request<()> {
    let request = Request::get(format!("https://{SERVICE}{}", target("/SMS_MP/0")));
    let request = (0..fields).fold(request, |request, _| request.header("x-relay-pad", "a"));
    request.body(()).unwrap()
}

async fn connected(relay: &Relay) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(relay.instance.clients).await.unwrap();
    let stream = tls(stream, &relay.house.ca, b"h2").await;
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn a_head_over_http2_has_64_fields_and_no_more() {
    within(async {
        let relay = Relay::start().await;
        relay.allowed.send_replace(1);
        let sender = connected(&relay).await;
        let logs = Logs::capture();
        let [.., beyond] = points_of("headers over HTTP/2");
        for (fields, expected) in [(63, "200"), (64, "200"), (65, beyond), (1, "200")] {
            assert_eq!(told(sender.clone(), of_fields(fields)).await, expected, "{fields}");
        }
        let access = &["relay::access", "CMGService_Too_Many_Fields", "\"status\":431", "SMS_MP"];
        assert_eq!(logs.with(access).len(), 1);
    })
    .await;
}

#[tokio::test]
async fn an_answer_to_head_of_a_head_that_is_too_large_has_no_body() {
    within(async {
        let relay = Relay::start().await;
        let mut request = of_fields(65);
        *request.method_mut() = http::Method::HEAD;
        let mut sender = connected(&relay).await.ready().await.unwrap();
        let (answer, _) = sender.send_request(request, true).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.status().as_u16(), 431);
        assert!(answer.body().is_end_stream());
    })
    .await;
}

#[tokio::test]
async fn a_header_list_has_32_kib_and_no_more() {
    within(async {
        let relay = Relay::start().await;
        relay.allowed.send_replace(1);
        let sender = connected(&relay).await;
        let logs = Logs::capture();
        let points = points_of("header list");
        for (octets, expected) in
            [(HEADER_LIST - 1, points[0]), (HEADER_LIST, points[1]), (HEADER_LIST + 1, points[2])]
        {
            assert_eq!(ask_with(sender.clone(), octets).await, expected, "{octets}");
        }
        let access = &["relay::access", "CMGService_Head_Too_Large", "\"status\":431", "SMS_MP"];
        assert_eq!(logs.with(access).len(), 1);
        // Where the parser answers by itself, and the last before that.
        let read = 2 * HEADER_LIST;
        for (octets, expected) in [(read - 1, points[2]), (read, "431"), (9000, "200")] {
            assert_eq!(ask_with(sender.clone(), octets).await, expected, "{octets}");
        }
        assert_eq!(logs.with(access).len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_stream_has_a_window_of_64_kib_and_a_connection_one_of_100_such() {
    within(async {
        let mut house = House::before(nobody().await);
        house.gateway_limits.link_credit = PATIENCE;
        let instance = Instance::start(&house, 1).await;
        // What waits for a stream of a link has nothing taken of its body.
        let config = Config { accept_streams_max: 0, ..Config::default() };
        let _rogue = house.rogue_connection_point(&instance.gateway, config).await;
        for (octets, end) in [
            (STREAM_WINDOW - 1, End::Pong),
            (STREAM_WINDOW, End::Pong),
            (STREAM_WINDOW + 1, End::Reset(1, FLOW_CONTROL_ERROR)),
        ] {
            let mut frames = frames(&house, &instance).await;
            frames.ask(1, "CCM_POST", "/SMS_MP/x", 0).await;
            frames.data(1, octets).await;
            assert_eq!(frames.ping().await, end, "{octets} on a stream");
        }
        for (octets, end) in [
            (CONNECTION_WINDOW - 1, End::Pong),
            (CONNECTION_WINDOW, End::Pong),
            (CONNECTION_WINDOW + 1, End::Gone(FLOW_CONTROL_ERROR)),
        ] {
            let mut frames = frames(&house, &instance).await;
            for (number, begin) in (0..octets).step_by(STREAM_WINDOW).enumerate() {
                frames.ask(stream(number), "CCM_POST", "/SMS_MP/x", 0).await;
                frames.data(stream(number), STREAM_WINDOW.min(octets - begin)).await;
            }
            // What is beyond every stream's window there can be needs one stream more.
            let mut came = frames.ping().await;
            if came == End::Reset(stream(100), REFUSED_STREAM) {
                came = frames.next().await;
            }
            assert_eq!(came, end, "{octets} on a connection");
        }
    })
    .await;
}
