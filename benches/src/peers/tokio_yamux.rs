//! `tokio-yamux`, with two detours around what makes version 0.3.20 hang.
//!
//! A stream hears of window updates only while it is read from, so a writer polls a read beside
//! each write. And it hears of nothing after the peer has ended its half, so the opener ends its
//! half only once it has the whole answer; lengths are known from the heads.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use ::tokio_yamux::{Config, Session};
use bytes::Bytes;
use futures_core::Stream as _;
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _, ReadBuf};
use tokio::task::JoinSet;

use super::octets;
use crate::pipes::{Pipe, Pipes};
use crate::{CHUNK_OCTETS, HEAD_OCTETS, payload};

pub(super) use ::tokio_yamux::{Control as RawControl, StreamHandle as Stream};

/// The opening end.
#[derive(Clone)]
pub(super) struct Control(RawControl);

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

pub(super) fn connect(pipes: Pipes, tasks: &mut JoinSet<()>) -> Control {
    let client = Session::new_client(pipes.accepted, Config::default());
    let server = Session::new_server(pipes.dialled, Config::default());
    let control = Control(client.control());
    tasks.spawn(drive(client));
    tasks.spawn(drive(server));
    control
}

async fn drive(mut session: Session<Box<dyn Pipe>>) {
    while let Some(Ok(stream)) = poll_fn(|cx| Pin::new(&mut session).poll_next(cx)).await {
        tokio::spawn(answer(stream));
    }
}

/// Makes one exchange and returns the octets of its answer.
pub(super) async fn exchange(control: &Control, request: Bytes, asked: usize) -> usize {
    let mut stream = ask(control, &request, asked).await;
    let whole = HEAD_OCTETS + asked;
    let mut buffer = vec![0; CHUNK_OCTETS.min(whole)];
    let mut read = 0;
    while read < whole {
        match stream.read(&mut buffer).await.expect("the server answers") {
            0 => break,
            octets => read += octets,
        }
    }
    stream.shutdown().await.expect("the session is up");
    read.saturating_sub(HEAD_OCTETS)
}

/// Begins an exchange and reads the head of its answer only.
pub(super) async fn hold(control: &Control, asked: usize) -> Stream {
    let mut stream = ask(control, &Bytes::new(), asked).await;
    let mut head = [0; HEAD_OCTETS];
    stream.read_exact(&mut head).await.expect("the server answers");
    stream
}

async fn ask(control: &Control, request: &Bytes, asked: usize) -> Stream {
    let stream = control.0.clone().open_stream().await;
    let mut stream = stream.expect("the session is up");
    let request = octets::request(request, asked);
    stream.write_all(&request).await.expect("the stream is open");
    stream
}

/// Ends early when the exchange is abandoned; the opener sees whether its answer was whole.
async fn answer(mut stream: Stream) -> io::Result<()> {
    let mut head = [0; HEAD_OCTETS];
    stream.read_exact(&mut head).await?;
    let (mut follow, asked) = octets::read_head(&head);
    let mut buffer = vec![0; CHUNK_OCTETS.min(follow)];
    while follow > 0 {
        match stream.read(&mut buffer).await? {
            0 => break,
            octets => follow -= octets.min(follow),
        }
    }
    let (first, mut left) = octets::answer(asked);
    write_all(&mut stream, &first).await?;
    while left > 0 {
        let chunk = payload(left.min(CHUNK_OCTETS));
        left -= chunk.len();
        write_all(&mut stream, &chunk).await?;
    }
    stream.shutdown().await
}

async fn write_all(stream: &mut Stream, mut octets: &[u8]) -> io::Result<()> {
    while !octets.is_empty() {
        let written = poll_fn(|cx| poll_write(stream, cx, octets)).await?;
        octets = &octets[written..];
    }
    Ok(())
}

fn poll_write(stream: &mut Stream, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
    let mut unexpected = [0; 1];
    // Nothing is due; it is read from so that it hears of window updates.
    let _ = Pin::new(&mut *stream).poll_read(cx, &mut ReadBuf::new(&mut unexpected));
    Pin::new(stream).poll_write(cx, octets)
}
