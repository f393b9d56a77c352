//! Clients that never stop asking, and count what they were answered.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONNECTION, HOST};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::site::{HTTP_ROLE, SERVICE};

/// What the file that is asked for holds.
pub(crate) const CONTENT: &[u8] = b"0123456789 the management point speaks\n";

/// Name of the file that is asked for.
pub(crate) const FILE: &str = "small.txt";

/// What came of the requests so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) answered: u64,
    /// By kind.
    pub(crate) failed: BTreeMap<String, u64>,
    /// When the last good answers came, the latest last; as many as there are clients.
    pub(crate) last_good: Option<Instant>,
    /// The longest that a good answer took.
    pub(crate) slowest: Duration,
}

/// Clients at work; they end when this is dropped.
pub(crate) struct Load {
    runtime: Runtime,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    tally: Arc<Mutex<Tally>>,
}

/// Requests on one connection. Clients would else gather at the instance that never failed them.
/// Odd, so that a client comes to each of two instances in turn.
const REQUESTS_PER_CONNECTION: usize = 15;

/// One client: a connection at a time, to whichever instance takes it, as behind a balancer that
/// knows no HTTP.
struct Client {
    turn: usize,
    instances: Vec<SocketAddr>,
    tls: TlsConnector,
    connection: Option<SendRequest<Full<Bytes>>>,
}

/// TLS of clients that trust `ca` alone.
pub(crate) fn trusting(ca: &Path) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_file_iter(ca).unwrap() {
        roots.add(authority.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(tls))
}

impl Load {
    /// Starts `clients` which ask the instances that clients reach at `instances`. Every third
    /// request is a `CCM_POST`, the others are `GET`.
    pub(crate) fn start(ca: &Path, instances: &[SocketAddr], clients: usize) -> Self {
        let tls = trusting(ca);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let (stop, stopped) = watch::channel(false);
        let (mut tasks, tally) = (JoinSet::new(), Arc::default());
        for turn in 0..clients {
            let (instances, tls) = (instances.to_vec(), tls.clone());
            let client = Client { turn, instances, tls, connection: None };
            let work = client.work(stopped.clone(), Arc::clone(&tally));
            tasks.spawn_on(work, runtime.handle());
        }
        Self { runtime, stop, tasks, tally }
    }

    /// What came of it so far.
    pub(crate) fn tally(&self) -> Tally {
        self.tally.lock().unwrap().clone()
    }

    /// Waits until `count` more requests were answered well.
    pub(crate) fn wait_for(&self, count: u64) {
        let wanted = self.tally().answered + count;
        let begun = Instant::now();
        while self.tally().answered < wanted {
            assert!(begun.elapsed() < Duration::from_mins(2), "stuck: {:?}", self.tally());
            std::thread::yield_now();
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// Lets each client end its request, and returns what came of all.
    pub(crate) fn stop(mut self) -> Tally {
        self.stop.send_replace(true);
        self.runtime.block_on(async { while self.tasks.join_next().await.is_some() {} });
        self.tally()
    }
}

impl Client {
    async fn work(mut self, stopped: watch::Receiver<bool>, tally: Arc<Mutex<Tally>>) {
        while !*stopped.borrow() {
            self.turn += 1;
            let begun = Instant::now();
            let outcome = self.ask().await;
            let mut tally = tally.lock().unwrap();
            match outcome {
                Ok(()) => {
                    tally.answered += 1;
                    tally.last_good = Some(Instant::now());
                    tally.slowest = tally.slowest.max(begun.elapsed());
                }
                Err(kind) => *tally.failed.entry(kind).or_default() += 1,
            }
        }
    }

    /// One request and its answer; what failed, if it did.
    async fn ask(&mut self) -> Result<(), String> {
        let mut request = self.request();
        loop {
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => self.connect().await.ok_or("no instance takes connections")?,
            };
            if connection.ready().await.is_err() {
                continue;
            }
            match connection.try_send_request(request).await {
                Ok(answer) => {
                    let closes = answer.headers().contains_key(CONNECTION);
                    judge(answer).await?;
                    let goes_on = !closes && !self.turn.is_multiple_of(REQUESTS_PER_CONNECTION);
                    self.connection = Some(connection).filter(|_| goes_on);
                    return Ok(());
                }
                Err(mut error) => match error.take_message() {
                    // Not one octet of it has left.
                    Some(unsent) => request = unsent,
                    None => return Err(format!("broken off: {}", error.error())),
                },
            }
        }
    }

    fn request(&self) -> Request<Full<Bytes>> {
        let base = format!("/CCM_Proxy_MutualAuth/{HTTP_ROLE}");
        let (verb, path, body) = match self.turn % 3 {
            0 => ("CCM_POST", "/ccm_system/request".to_owned(), Bytes::from(vec![b'x'; 2048])),
            _ => ("GET", format!("/SMS_MP/{FILE}"), Bytes::new()),
        };
        Request::builder()
            .method(verb)
            .uri(base + &path)
            .header(HOST, SERVICE)
            .body(Full::new(body))
            .unwrap()
    }

    /// A connection to the instance whose turn it is, or to the next that takes one.
    async fn connect(&self) -> Option<SendRequest<Full<Bytes>>> {
        for offset in 0..self.instances.len() {
            let at = self.instances[(self.turn + offset) % self.instances.len()];
            let Ok(stream) = TcpStream::connect(at).await else { continue };
            let name = ServerName::try_from(SERVICE).unwrap();
            let Ok(stream) = self.tls.connect(name, stream).await else { continue };
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
            // Ends with the sender.
            tokio::spawn(connection);
            return Some(sender);
        }
        None
    }
}

/// Whether an answer is what nginx says to one of the two requests.
async fn judge(answer: Response<hyper::body::Incoming>) -> Result<(), String> {
    let (head, body) = answer.into_parts();
    let reason =
        head.headers.get("relay-reason").and_then(|it| it.to_str().ok()).map(str::to_owned);
    let body =
        body.collect().await.map_err(|error| format!("body broken off: {error}"))?.to_bytes();
    match (head.status.as_u16(), reason) {
        (200, _) if body == CONTENT || body == "CCM_POST taken\n" => Ok(()),
        (200, _) => Err("another body".to_owned()),
        (status, reason) => Err(format!("{status} {}", reason.unwrap_or_default())),
    }
}
