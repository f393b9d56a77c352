//! Two links over a loopback socket, with the drivers and tasks that a relay has.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use relay_core::link::{self, Driver, End, Incoming, Link};
use relay_core::mux::{Config, HeadKind, LinkError, Side};
use relay_core::transport::{
    Listener, Purpose, accept_link, link_client_config, link_server_config, secure_link,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::pki::{HOST, SiteCa};
use crate::{CHUNK_OCTETS, HEAD_OCTETS, SMALL_DOWN, SMALL_UP, payload};

/// Time for a handshake on loopback; only a fixture that is broken takes it.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What a link travels in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Carrier {
    /// TCP.
    Plain,
    /// TLS 1.3 over TCP, both sides with certificates, as in production.
    Tls,
}

impl Carrier {
    /// Every carrier.
    pub const ALL: [Self; 2] = [Self::Plain, Self::Tls];

    /// Its name in a benchmark's id.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Tls => "tls",
        }
    }
}

/// A byte pipe of any carrier.
pub trait Pipe: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<P: AsyncRead + AsyncWrite + Unpin + Send + 'static> Pipe for P {}

/// Both ends of a connected pipe: the one that accepted, then the one that dialled.
///
/// # Panics
///
/// If loopback cannot be used or the handshake fails.
pub async fn pipes(carrier: Carrier) -> (Box<dyn Pipe>, Box<dyn Pipe>) {
    let listener = Listener::bind(([127, 0, 0, 1], 0).into()).await;
    let listener = listener.expect("loopback has a free port");
    let dial = TcpStream::connect(listener.local_addr());
    let ((accepted, _), dialled) = tokio::join!(listener.accept(Purpose::Link), dial);
    let dialled = dialled.expect("the listener takes the connection");
    dialled.set_nodelay(true).expect("the socket is connected");
    if carrier == Carrier::Plain {
        return (Box::new(accepted), Box::new(dialled));
    }
    let ca = SiteCa::new();
    let server = link_server_config(&ca.server(), &ca.anchors());
    let server = server.expect("the identity was made for this");
    let client = link_client_config(&ca.link_client(), &ca.anchors());
    let client = client.expect("the identity was made for this");
    let (accepted, dialled) =
        tokio::join!(accept_link(accepted, server, HANDSHAKE), secure_link(dialled, HOST, client));
    (
        Box::new(accepted.expect("both sides are of one site")),
        Box::new(dialled.expect("both sides are of one site")),
    )
}

/// An established pair of links on the current runtime: the gateway opens streams, the site
/// answers each in a task of its own. Dropping it cuts both.
#[derive(Debug)]
pub struct Links {
    gateway: Link,
    /// The drivers and the site's acceptor.
    _tasks: JoinSet<LinkError>,
}

impl Links {
    /// A pair over a fresh connection.
    ///
    /// # Panics
    ///
    /// As [`pipes`].
    pub async fn new(carrier: Carrier) -> Self {
        // As in production, the connection point dials and the gateway accepts.
        let (accepted, dialled) = pipes(carrier).await;
        let gateway =
            Config { accept_streams_max: 16, open_streams_max: 1024, ..Config::default() };
        let (gateway, gateway_driver) = begin(accepted, Side::Listener, gateway);
        let (site, site_driver) = begin(dialled, Side::Dialer, Config::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(gateway_driver);
        tasks.spawn(site_driver);
        tasks.spawn(serve(site));
        gateway.established().await.expect("both sides speak one version");
        Self { gateway, _tasks: tasks }
    }

    /// Has the site send `octets` in equal parts on `streams` streams at once, and waits for the
    /// last of them.
    ///
    /// # Panics
    ///
    /// If an exchange fails or is short.
    pub async fn download(&self, streams: usize, octets: usize) {
        let mut readers = JoinSet::new();
        for _ in 0..streams {
            let link = self.gateway.clone();
            readers.spawn(async move { exchange(&link, Bytes::new(), octets / streams).await });
        }
        while let Some(read) = readers.join_next().await {
            read.expect("the reader does not panic");
        }
    }

    /// Makes `count` small exchanges, `in_flight` at any time, [`SMALL_UP`] octets up and
    /// [`SMALL_DOWN`] down.
    ///
    /// # Panics
    ///
    /// If an exchange fails or is short.
    pub async fn small_exchanges(&self, in_flight: usize, count: u64) {
        let left = Arc::new(AtomicU64::new(count));
        let mut workers = JoinSet::new();
        for _ in 0..in_flight {
            let (link, left) = (self.gateway.clone(), Arc::clone(&left));
            workers.spawn(async move {
                while take_turn(&left) {
                    exchange(&link, payload(SMALL_UP), SMALL_DOWN).await;
                }
            });
        }
        while let Some(worker) = workers.join_next().await {
            worker.expect("the worker does not panic");
        }
    }
}

fn begin<P: Pipe>(pipe: P, side: Side, config: Config) -> (Link, Driver<P>) {
    link::new(pipe, side, config).expect("the settings are constants within range")
}

/// Takes one of what is `left`; `false` if nothing is.
pub fn take_turn(left: &AtomicU64) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

/// Makes one exchange: sends `request`, and reads an answer of `octets`, which the head asks for.
async fn exchange(link: &Link, request: Bytes, octets: usize) {
    let mut head = [0; HEAD_OCTETS];
    head[..8].copy_from_slice(&(octets as u64).to_be_bytes());
    let end = if request.is_empty() { End::NoPayload } else { End::More };
    let opened = link.open(Bytes::copy_from_slice(&head), end).await;
    let (mut send, mut recv) = opened.expect("the link is up");
    if end == End::More {
        send.write_chunk(request).await.expect("the half is open");
        send.finish().expect("the half is open");
    }
    recv.head().await.expect("the site answers");
    let mut read = 0;
    while let Some(chunk) = recv.read_chunk().await.expect("the site sends all of it") {
        read += chunk.len();
    }
    assert_eq!(read, octets, "the answer has the length that was asked for");
}

async fn serve(site: Link) -> LinkError {
    loop {
        match site.accept().await {
            Ok(incoming) => drop(tokio::spawn(answer(incoming))),
            Err(why) => return why,
        }
    }
}

async fn answer(incoming: Incoming) {
    let Incoming { head, mut send, mut recv, .. } = incoming;
    let asked = head.first_chunk::<8>().map_or(0, |raw| u64::from_be_bytes(*raw));
    let mut left = usize::try_from(asked).expect("a benchmark asks for what fits in memory");
    while recv.read_chunk().await.expect("the gateway sends all of it").is_some() {}
    send.send_head(payload(HEAD_OCTETS), HeadKind::Final).expect("the half awaits its head");
    while left > 0 {
        let chunk = payload(left.min(CHUNK_OCTETS));
        left -= chunk.len();
        send.write_chunk(chunk).await.expect("the half is open");
    }
    send.finish().expect("the half is open");
}

/// A bare pipe, for what a link can reach at best.
pub struct Raw {
    reader: Box<dyn Pipe>,
    writer: Box<dyn Pipe>,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Raw").finish_non_exhaustive()
    }
}

impl Raw {
    /// A fresh connection.
    ///
    /// # Panics
    ///
    /// As [`pipes`].
    pub async fn new(carrier: Carrier) -> Self {
        let (reader, writer) = pipes(carrier).await;
        Self { reader, writer, buffer: vec![0; CHUNK_OCTETS] }
    }

    /// Sends `octets` one way, written and read in chunks of [`CHUNK_OCTETS`].
    ///
    /// # Panics
    ///
    /// If the connection fails.
    pub async fn download(&mut self, octets: usize) {
        let Self { reader, writer, buffer } = self;
        let write = async {
            for _ in 0..octets / CHUNK_OCTETS {
                writer.write_all(&payload(CHUNK_OCTETS)).await.expect("the reader is there");
            }
            writer.flush().await.expect("the reader is there");
        };
        let read = async {
            let mut left = octets;
            while left > 0 {
                left -= reader.read(buffer).await.expect("the writer is there");
            }
        };
        tokio::join!(write, read);
    }

    /// Makes `count` small exchanges one after the other: [`SMALL_UP`] octets one way, then
    /// [`SMALL_DOWN`] the other.
    ///
    /// # Panics
    ///
    /// If the connection fails.
    pub async fn ping_pong(&mut self, count: u64) {
        let Self { reader: client, writer: server, .. } = self;
        let (mut request, mut answer) = ([0; SMALL_UP], [0; SMALL_DOWN]);
        let ask = async {
            for _ in 0..count {
                send(client, SMALL_UP).await;
                client.read_exact(&mut answer).await.expect("the server answers");
            }
        };
        let serve = async {
            for _ in 0..count {
                server.read_exact(&mut request).await.expect("the client asks");
                send(server, SMALL_DOWN).await;
            }
        };
        tokio::join!(ask, serve);
    }
}

async fn send(pipe: &mut Box<dyn Pipe>, octets: usize) {
    pipe.write_all(&payload(octets)).await.expect("the peer is there");
    pipe.flush().await.expect("the peer is there");
}
