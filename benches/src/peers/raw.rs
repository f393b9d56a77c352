//! The bare pipe, one exchange at a time: what a multiplexer over it can reach at best.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::pipes::{Pipe, Pipes};
use crate::{CHUNK_OCTETS, payload};

/// The least that a request has: its own length, and the answer's.
const REQUEST_MIN: usize = 16;

/// The asking end.
#[derive(Clone)]
pub(super) struct Raw(Arc<Mutex<Asking>>);

struct Asking {
    pipe: Box<dyn Pipe>,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Raw").finish_non_exhaustive()
    }
}

pub(super) fn connect(pipes: Pipes, tasks: &mut JoinSet<()>) -> Raw {
    tasks.spawn(async { drop(serve(pipes.dialled).await) });
    let asking = Asking { pipe: pipes.accepted, buffer: vec![0; CHUNK_OCTETS] };
    Raw(Arc::new(Mutex::new(asking)))
}

impl Raw {
    /// Makes one exchange and returns the octets of its answer. The lengths take the place of the
    /// first octets of `request`, so that it travels in as many octets as it has.
    pub(super) async fn exchange(&self, request: Bytes, octets: usize) -> usize {
        let mut asking = self.0.lock().await;
        let Asking { pipe, buffer } = &mut *asking;
        let request_len = request.len().max(REQUEST_MIN);
        let head = &mut buffer[..request_len];
        head[..8].copy_from_slice(&(octets as u64).to_be_bytes());
        head[8..16].copy_from_slice(&(request_len as u64).to_be_bytes());
        pipe.write_all(head).await.expect("the server is there");
        pipe.flush().await.expect("the server is there");
        let mut read = 0;
        while read < octets {
            match pipe.read(buffer).await.expect("the server answers") {
                0 => break,
                octets => read += octets,
            }
        }
        read
    }
}

/// Answers until the asking end goes away.
async fn serve(mut pipe: Box<dyn Pipe>) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK_OCTETS];
    loop {
        let mut filled = 0;
        while filled < REQUEST_MIN {
            filled += match pipe.read(&mut buffer[filled..]).await? {
                0 => return Ok(()),
                octets => octets,
            };
        }
        let (mut left, request_len) = (length(&buffer[..8]), length(&buffer[8..16]));
        pipe.read_exact(&mut buffer[filled.min(request_len)..request_len]).await?;
        while left > 0 {
            let chunk = payload(left.min(CHUNK_OCTETS));
            left -= chunk.len();
            pipe.write_all(&chunk).await?;
        }
        pipe.flush().await?;
    }
}

fn length(raw: &[u8]) -> usize {
    let raw = raw.first_chunk::<8>().map_or(0, |raw| u64::from_be_bytes(*raw));
    usize::try_from(raw).unwrap_or(usize::MAX)
}
