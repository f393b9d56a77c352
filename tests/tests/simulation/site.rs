//! Site roles that keep a ledger of what reached them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use relay_core::transport::memory::{MemoryHost, MemoryStream};
use relay_tests::site::{Body, empty, fed, full, octets};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

/// Headers that must not cross, one of which only `Connection` names.
pub(crate) const FORGED: [&str; 5] =
    ["x-hop", "keep-alive", "x-forwarded-for", "x-relay-device", "x-ssl-client-cert"];

/// A request that reached a site role.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
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

/// Starts a site role on `port` of `host`.
pub(crate) fn start(host: &MemoryHost, port: u16, ledgers: &Ledgers) -> JoinHandle<()> {
    let listener = host.bind(port).unwrap();
    let ledgers = ledgers.clone();
    tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await;
            connections.spawn(serve(stream, ledgers.clone()));
        }
    })
}

async fn serve(stream: MemoryStream, ledgers: Ledgers) {
    let service = service_fn(|request| {
        let ledgers = ledgers.clone();
        async move { Ok::<_, Infallible>(answer(request, ledgers).await) }
    });
    let server = hyper::server::conn::http1::Builder::new();
    // An error is a connection that was cut.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, ledgers: Ledgers) -> Response<Body> {
    ledgers.read().active += 1;
    let active = Active(ledgers.clone());
    let (parts, body) = request.into_parts();
    let target = parts.uri.to_string();
    let order = Order::read(&target);
    let delivery = Delivery {
        verb: parts.method.to_string(),
        target,
        body: None,
        forged: forged(&parts.headers),
    };
    let index = {
        let mut ledger = ledgers.read();
        let all = ledger.deliveries.entry(order.id).or_default();
        all.push(delivery);
        all.len() - 1
    };
    if let Ok(whole) = body.collect().await {
        let mut ledger = ledgers.read();
        let delivery = ledger.deliveries.get_mut(&order.id).and_then(|all| all.get_mut(index));
        delivery.expect("just entered").body = Some(whole.to_bytes());
    }
    sleep(order.think).await;
    let body = answer_body(&order, active);
    Response::builder().header("x-sim-id", order.id).body(body).unwrap()
}

fn forged(headers: &HeaderMap) -> Vec<&'static str> {
    FORGED.into_iter().filter(|name| headers.contains_key(*name)).collect()
}

/// The answer's octets, which keep `active` until the last is taken.
fn answer_body(order: &Order, active: Active) -> Body {
    let whole = octets(order.id, order.answer);
    if order.declares {
        // Kept by the server until it is written, which the relay's counters tell of.
        drop(active);
        return if whole.is_empty() { empty() } else { full(whole) };
    }
    let (sender, body) = fed();
    tokio::spawn(async move {
        let _active = active;
        for piece in whole.chunks(1000) {
            if sender.send(Bytes::copy_from_slice(piece)).await.is_err() {
                return;
            }
        }
        // Its end.
        let _ = sender.send(Bytes::new()).await;
    });
    body
}
