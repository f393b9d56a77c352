//! Clients that ask when the schedule says so, and not when they were answered.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use relay_benches::pki::HOST;
use relay_benches::relay::{root, secure};
use rustls::ClientConfig;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Requests that a gateway takes on one connection at once.
const REQUESTS_MAX: usize = 100;

/// The status of a request that was not answered.
const UNANSWERED: u16 = 0;

/// What became of one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// When it was to be made.
    pub(crate) at: Instant,
    /// From then until it was answered whole.
    pub(crate) took: Duration,
    pub(crate) status: u16,
}

#[derive(Clone)]
struct Connection {
    send: SendRequest<Bytes>,
    open: Arc<AtomicUsize>,
}

/// All clients, by their connections.
pub(crate) struct Clients {
    connections: Vec<Connection>,
    turn: usize,
    asked: JoinSet<()>,
    samples: Arc<Mutex<Vec<Sample>>>,
}

impl Clients {
    pub(crate) async fn connect(
        to: SocketAddr,
        tls: &Arc<ClientConfig>,
        count: u32,
    ) -> anyhow::Result<Self> {
        let mut connections = Vec::new();
        for _ in 0..count {
            let stream = secure(to, Arc::clone(tls)).await;
            let (send, connection) = h2::client::handshake(stream).await?;
            // It ends with its requests.
            tokio::spawn(connection);
            connections.push(Connection { send, open: Arc::default() });
        }
        Ok(Self { connections, turn: 0, asked: JoinSet::new(), samples: Arc::default() })
    }

    /// Makes `rate` requests a second for so long, at moments that know nothing of each other.
    /// Returns when it began; those that are not answered yet go on.
    pub(crate) async fn offer(&mut self, rate: f64, time: Duration) -> Instant {
        let begun = Instant::now();
        let mut at = begun;
        loop {
            // Exponential, so that arrivals are a Poisson process.
            let gap = -(1.0 - fastrand::f64()).ln() / rate;
            at += Duration::from_secs_f64(gap);
            if at >= begun + time {
                sleep_until(begun + time).await;
                return begun;
            }
            if at > Instant::now() {
                sleep_until(at).await;
            }
            self.ask(at);
            while self.asked.try_join_next().is_some() {}
        }
    }

    /// Waits until all are answered. Returns what became of them.
    pub(crate) async fn rest(&mut self) -> Vec<Sample> {
        while self.asked.join_next().await.is_some() {}
        std::mem::take(&mut self.samples.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn ask(&mut self, at: Instant) {
        let connection = self.free_connection();
        let samples = Arc::clone(&self.samples);
        connection.open.fetch_add(1, Ordering::Relaxed);
        self.asked.spawn(async move {
            let status = exchange(connection.send).await.unwrap_or(UNANSWERED);
            connection.open.fetch_sub(1, Ordering::Relaxed);
            let sample = Sample { at, took: at.elapsed(), status };
            samples.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
        });
    }

    /// The next connection that takes a request, or the next one if none does.
    fn free_connection(&mut self) -> Connection {
        let count = self.connections.len();
        let next = (1..=count).map(|step| (self.turn + step) % count);
        let is_free =
            |at: &usize| self.connections[*at].open.load(Ordering::Relaxed) < REQUESTS_MAX;
        self.turn = next.clone().find(is_free).unwrap_or((self.turn + 1) % count);
        self.connections[self.turn].clone()
    }
}

/// Has one exchange. Returns the status, once the answer is whole.
async fn exchange(send: SendRequest<Bytes>) -> Result<u16, h2::Error> {
    let mut send = send.ready().await?;
    let uri = format!("https://{HOST}{}/SMS_MP/x", root());
    let request = Request::get(uri).body(()).expect("the parts are constants that are valid");
    let answer = send.send_request(request, true)?.0.await?;
    let status = answer.status().as_u16();
    let mut body = answer.into_body();
    while let Some(chunk) = body.data().await {
        let octets = chunk?.len();
        body.flow_control().release_capacity(octets)?;
    }
    Ok(status)
}
