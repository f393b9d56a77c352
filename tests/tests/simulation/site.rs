//! Site roles that keep a ledger of what reached them.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use relay_core::transport::memory::{ConnectionId, MemoryHost, MemoryNetwork, MemoryStream};
use relay_tests::site::{Body, empty, fed, full, octets};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use super::manner::Manner;
use super::plan::Ask;

/// Headers that must not cross, one of which only `Connection` names.
pub(crate) const FORGED: [&str; 5] =
    ["x-hop", "keep-alive", "x-forwarded-for", "x-relay-device", "x-ssl-client-cert"];

/// A request that reached a site role.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    /// Which connection point brought it.
    pub(crate) from: IpAddr,
    pub(crate) verb: String,
    pub(crate) target: String,
    /// Of the body: its octets if it came whole, `None` if it was cut or has not ended.
    pub(crate) body: Option<Bytes>,
    /// Names of [`FORGED`] that came along.
    pub(crate) forged: Vec<&'static str>,
}

/// What reached the site, by the number of the request.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) deliveries: BTreeMap<u64, Vec<Delivery>>,
    /// Requests that a site role works on.
    pub(crate) active: usize,
}

/// Shared by the site roles of a world.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledgers(Arc<Mutex<Ledger>>);

impl Ledgers {
    pub(crate) fn read(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap()
    }
}

/// A request that is worked on, until it is dropped.
struct Active(Ledgers);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.read().active -= 1;
    }
}

/// What a request asks of a site role, in its query.
struct Order {
    id: u64,
    think: Duration,
    answer: usize,
    declares: bool,
}

impl Order {
    fn read(target: &str) -> Self {
        let query = target.split_once('?').map_or("", |(_, query)| query);
        let field = |name: &str| {
            let value = query.split('&').filter_map(|pair| pair.split_once('='));
            let found = value.into_iter().find(|(key, _)| *key == name);
            found.map_or(0, |(_, value)| value.parse::<u64>().unwrap())
        };
        Self {
            id: field("id"),
            think: Duration::from_millis(field("think")),
            answer: usize::try_from(field("answer")).unwrap(),
            declares: field("declares") == 1,
        }
    }
}

/// A site role, as one of its connections sees it.
#[derive(Clone, Debug)]
struct Role {
    network: MemoryNetwork,
    ledgers: Ledgers,
    manners: Arc<BTreeMap<u64, Manner>>,
}

/// Starts a site role on `port` of `host`, which carries on with each of `asks` in its manner.
pub(crate) fn start(
    network: &MemoryNetwork,
    (host, port): (&str, u16),
    ledgers: &Ledgers,
    asks: &[Ask],
) -> JoinHandle<()> {
    let host: MemoryHost = network.host(host);
    let listener = host.bind(port).unwrap();
    let manners = Arc::new(asks.iter().map(|ask| (ask.id, ask.manner)).collect());
    let role = Role { network: network.clone(), ledgers: ledgers.clone(), manners };
    tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, from) = listener.accept().await;
            connections.spawn(serve(stream, from.ip(), role.clone()));
        }
    })
}

async fn serve(stream: MemoryStream, from: IpAddr, role: Role) {
    let id = stream.id();
    let is_spoiled = Arc::<AtomicBool>::default();
    let stream = Spoilable { stream, is_spoiled: Arc::clone(&is_spoiled) };
    let service = service_fn(move |request| {
        let (role, is_spoiled) = (role.clone(), Arc::clone(&is_spoiled));
        async move { answer(request, role, (id, from), &is_spoiled).await }
    });
    let mut server = hyper::server::conn::http1::Builder::new();
    // Over HTTP/2 it would be as long as its digits have it.
    server.auto_date_header(false);
    // An error is a connection that was cut.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

/// Notes that a request has come, and returns its place in the ledger.
fn enter(ledgers: &Ledgers, id: u64, delivery: Delivery) -> usize {
    let mut ledger = ledgers.read();
    let all = ledger.deliveries.entry(id).or_default();
    all.push(delivery);
    all.len() - 1
}

async fn answer(
    request: Request<Incoming>,
    role: Role,
    (connection, from): (ConnectionId, IpAddr),
    is_spoiled: &AtomicBool,
) -> io::Result<Response<Body>> {
    let ledgers = &role.ledgers;
    ledgers.read().active += 1;
    let active = Active(ledgers.clone());
    let (parts, body) = request.into_parts();
    let target = parts.uri.to_string();
    let order = Order::read(&target);
    let verb = parts.method.to_string();
    let forged = forged(&parts.headers);
    let index = enter(ledgers, order.id, Delivery { from, verb, target, body: None, forged });
    let manner = role.manners.get(&order.id).copied().unwrap_or(Manner::Plain);
    if let Manner::TakesLate(pause) = manner {
        sleep(pause).await;
    }
    let body = body.collect().await;
    let is_cut = body.is_err();
    if let Ok(whole) = body {
        let mut ledger = ledgers.read();
        let delivery = ledger.deliveries.get_mut(&order.id).and_then(|all| all.get_mut(index));
        delivery.expect("just entered").body = Some(whole.to_bytes());
    }
    sleep(order.think).await;
    match manner {
        // The server looks at a connection no more once a body has broken off on it.
        Manner::Silent if is_cut => return Err(io::ErrorKind::ConnectionAborted.into()),
        Manner::Silent => std::future::pending().await,
        Manner::Closes => return Err(io::ErrorKind::ConnectionAborted.into()),
        Manner::Garbage => is_spoiled.store(true, Ordering::Relaxed),
        _ => {}
    }
    let answer = Response::builder().header("x-sim-id", order.id);
    let is_plain = matches!(manner, Manner::Plain | Manner::ReadsLate(_) | Manner::SendsLate(_));
    if order.declares && is_plain {
        // Kept by the server until it is written, which the relay's counters tell of.
        drop(active);
        let whole = octets(order.id, order.answer);
        let body = if whole.is_empty() { empty() } else { full(whole) };
        return Ok(answer.body(body).unwrap());
    }
    let answer = if order.declares { answer.header(CONTENT_LENGTH, order.answer) } else { answer };
    Ok(answer.body(pieces(&order, manner, (role.network, connection), active)).unwrap())
}

fn forged(headers: &HeaderMap) -> Vec<&'static str> {
    FORGED.into_iter().filter(|name| headers.contains_key(*name)).collect()
}

/// The answer's octets, which keep `active` until the last is taken.
fn pieces(
    order: &Order,
    manner: Manner,
    (network, connection): (MemoryNetwork, ConnectionId),
    active: Active,
) -> Body {
    let whole = octets(order.id, order.answer);
    let (sender, body) = fed();
    tokio::spawn(async move {
        let _active = active;
        let half = whole.len() / 2;
        for piece in whole.slice(..half).chunks(1000) {
            if sender.send(Bytes::copy_from_slice(piece)).await.is_err() {
                return;
            }
        }
        match manner {
            // Without its end it is cut.
            Manner::BreaksOff => return,
            Manner::Resets => {
                // What was sent has left.
                sleep(Duration::from_millis(1)).await;
                return network.cut(connection);
            }
            Manner::AnswersLate(pause) => sleep(pause).await,
            _ => {}
        }
        for piece in whole.slice(half..).chunks(1000) {
            if sender.send(Bytes::copy_from_slice(piece)).await.is_err() {
                return;
            }
        }
        // Its end.
        let _ = sender.send(Bytes::new()).await;
    });
    body
}

/// What is written instead of an answer.
const GARBAGE: &[u8] = b"\x15\x03\x01 no HTTP at all\r\n\r\n";

/// A connection on which nothing that makes sense is written once it is spoiled.
struct Spoilable {
    stream: MemoryStream,
    is_spoiled: Arc<AtomicBool>,
}

impl AsyncRead for Spoilable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Spoilable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.is_spoiled.load(Ordering::Relaxed) {
            return Pin::new(&mut self.stream).poll_write(cx, octets);
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, GARBAGE);
        written.map_ok(|_| octets.len())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
