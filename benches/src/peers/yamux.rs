//! `yamux`: one task owns the connection, opens streams on demand and has what arrives answered.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use ::yamux::{Config, Mode};
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _, TokioAsyncReadCompatExt as _};

use super::octets;
use crate::pipes::{Pipe, Pipes};
use crate::{CHUNK_OCTETS, HEAD_OCTETS, payload};

/// A stream with the runtime's own traits.
pub(super) type Stream = Compat<::yamux::Stream>;

type Connection = ::yamux::Connection<Compat<Box<dyn Pipe>>>;
type Ask = oneshot::Sender<::yamux::Stream>;

/// Streams at once, more than any load opens.
const STREAMS: usize = 1024;

/// The opening end.
#[derive(Clone, Debug)]
pub(super) struct Yamux(mpsc::Sender<Ask>);

pub(super) fn connect(pipes: Pipes, tasks: &mut JoinSet<()>) -> Yamux {
    let mut config = Config::default();
    config.set_max_num_streams(STREAMS);
    let client = Connection::new(pipes.accepted.compat(), config.clone(), Mode::Client);
    let server = Connection::new(pipes.dialled.compat(), config, Mode::Server);
    let (ask, asked) = mpsc::channel(STREAMS);
    let (nobody, never) = mpsc::channel(1);
    tasks.spawn(drive(client, asked));
    tasks.spawn(async {
        drive(server, never).await;
        drop(nobody);
    });
    Yamux(ask)
}

async fn drive(mut connection: Connection, mut asked: mpsc::Receiver<Ask>) {
    let mut asking = None;
    poll_fn(|cx| poll_drive(&mut connection, &mut asked, &mut asking, cx)).await;
}

fn poll_drive(
    connection: &mut Connection,
    asked: &mut mpsc::Receiver<Ask>,
    asking: &mut Option<Ask>,
    cx: &mut Context<'_>,
) -> Poll<()> {
    loop {
        if asking.is_none()
            && let Poll::Ready(ask) = asked.poll_recv(cx)
        {
            *asking = ask;
        }
        if asking.is_some() {
            match connection.poll_new_outbound(cx) {
                Poll::Ready(Ok(stream)) => {
                    // An asker that is gone drops the stream.
                    let _ = asking.take().map(|ask| ask.send(stream));
                    continue;
                }
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {}
            }
        }
        match connection.poll_next_inbound(cx) {
            Poll::Ready(Some(Ok(stream))) => {
                tokio::spawn(answer(stream.compat()));
            }
            Poll::Ready(_) => return Poll::Ready(()),
            Poll::Pending => return Poll::Pending,
        }
    }
}

impl Yamux {
    /// Makes one exchange and returns the octets of its answer.
    pub(super) async fn exchange(&self, request: Bytes, asked: usize) -> usize {
        let mut stream = self.ask(&request, asked).await;
        let mut buffer = vec![0; CHUNK_OCTETS.min(HEAD_OCTETS + asked)];
        let mut read = 0;
        loop {
            match stream.read(&mut buffer).await.expect("the server answers") {
                0 => break,
                octets => read += octets,
            }
        }
        read.saturating_sub(HEAD_OCTETS)
    }

    /// Begins an exchange and reads the head of its answer only.
    pub(super) async fn hold(&self, asked: usize) -> Stream {
        let mut stream = self.ask(&Bytes::new(), asked).await;
        let mut head = [0; HEAD_OCTETS];
        stream.read_exact(&mut head).await.expect("the server answers");
        stream
    }

    async fn ask(&self, request: &Bytes, asked: usize) -> Stream {
        let (ask, opened) = oneshot::channel();
        self.0.send(ask).await.expect("the connection is up");
        let mut stream = opened.await.expect("the connection is up").compat();
        let request = octets::request(request, asked);
        stream.write_all(&request).await.expect("the stream is open");
        stream.shutdown().await.expect("the stream is open");
        stream
    }
}

/// Ends early when the exchange is abandoned; the opener sees whether its answer was whole.
async fn answer(mut stream: Stream) -> io::Result<()> {
    let mut head = [0; HEAD_OCTETS];
    stream.read_exact(&mut head).await?;
    let (follow, asked) = octets::read_head(&head);
    let mut buffer = vec![0; CHUNK_OCTETS.min(follow + 1)];
    while stream.read(&mut buffer).await? > 0 {}
    let (first, mut left) = octets::answer(asked);
    stream.write_all(&first).await?;
    while left > 0 {
        let chunk = payload(left.min(CHUNK_OCTETS));
        left -= chunk.len();
        stream.write_all(&chunk).await?;
    }
    stream.shutdown().await
}
