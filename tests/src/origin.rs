//! A site role that keeps the very octets it was sent.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a failed step of a test's set-up is a failed test"
)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

pub use crate::reading::Recorded;
use crate::reading::{Rest, read};
use crate::running::ANY;
use crate::site::RawBackend;

/// What an origin says unless it is told otherwise.
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// Answers every request with 200 and no body, or as it is told. What it is asked is read by the
/// letter.
#[derive(Debug)]
pub struct Origin {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    _backend: RawBackend,
}

#[derive(Debug, Default)]
struct Seen {
    requests: Vec<Recorded>,
    rests: Vec<(Rest, Vec<u8>)>,
    /// Names in the handshakes of TLS.
    called: Vec<Option<String>>,
    /// Connections that are open.
    open: usize,
}

impl Origin {
    /// Starts it.
    pub async fn start() -> Self {
        Self::answering(|_| OK.to_vec()).await
    }

    /// Starts one that says `answer`, by the letter.
    pub async fn answering<A>(answer: A) -> Self
    where
        A: Fn(&Recorded) -> Vec<u8> + Send + Sync + 'static,
    {
        Self::answering_at(ANY, None, answer).await
    }

    /// As [`Origin::answering`], at an address, behind TLS if it is given.
    pub async fn answering_at<A>(at: SocketAddr, tls: Option<Arc<ServerConfig>>, answer: A) -> Self
    where
        A: Fn(&Recorded) -> Vec<u8> + Send + Sync + 'static,
    {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let (log, answer) = (Arc::clone(&seen), Arc::new(answer));
        let acceptor = tls.map(TlsAcceptor::from);
        let backend = RawBackend::start_at(at, move |stream| {
            log.lock().unwrap().open += 1;
            let (log, answer, acceptor) = (Arc::clone(&log), Arc::clone(&answer), acceptor.clone());
            async move {
                match acceptor {
                    None => serve(stream, &log, &*answer).await,
                    Some(acceptor) => match acceptor.accept(stream).await {
                        Ok(stream) => {
                            let name = stream.get_ref().1.server_name().map(str::to_owned);
                            log.lock().unwrap().called.push(name);
                            serve(stream, &log, &*answer).await;
                        }
                        // A client that refused, or was refused.
                        Err(_) => log.lock().unwrap().open -= 1,
                    },
                }
            }
        })
        .await;
        Self { address: backend.address, seen, _backend: backend }
    }

    /// The requests that came since it was last asked, in order.
    pub fn take(&self) -> Vec<Recorded> {
        std::mem::take(&mut self.seen.lock().unwrap().requests)
    }

    /// What stood behind the last request of connections that have ended, unless it was nothing,
    /// with its octets. A connection ends with what is no request.
    pub fn take_rests(&self) -> Vec<(Rest, Vec<u8>)> {
        std::mem::take(&mut self.seen.lock().unwrap().rests)
    }

    /// What it was called in the handshakes of TLS since it was last asked.
    pub fn take_called(&self) -> Vec<Option<String>> {
        std::mem::take(&mut self.seen.lock().unwrap().called)
    }

    /// Connections that are open.
    pub fn open(&self) -> usize {
        self.seen.lock().unwrap().open
    }
}

async fn serve<P>(
    mut stream: P,
    seen: &Mutex<Seen>,
    answer: &(impl Fn(&Recorded) -> Vec<u8> + Sync),
) where
    P: AsyncRead + AsyncWrite + Unpin,
{
    let mut octets = Vec::new();
    let mut answered = 0;
    loop {
        let reading = read(&octets);
        for request in reading.requests.iter().skip(answered) {
            seen.lock().unwrap().requests.push(request.clone());
            answered += 1;
            // Whoever is gone is found out by the next read.
            if stream.write_all(&answer(request)).await.is_ok() {
                let _ = stream.flush().await;
            }
        }
        if reading.rest == Rest::Nothing {
            (octets, answered) = (Vec::new(), 0);
        }
        let is_wrong = matches!(reading.rest, Rest::Wrong { .. });
        if is_wrong || !matches!(stream.read_buf(&mut octets).await, Ok(1..)) {
            let mut seen = seen.lock().unwrap();
            seen.open -= 1;
            if reading.rest != Rest::Nothing {
                seen.rests.push((reading.rest, octets));
            }
            return;
        }
    }
}
