//! The link: the gateway opens streams, the site answers each in a task of its own.

use bytes::Bytes;
use relay_core::link::{self, Driver, End, Incoming, Link, RecvStream, SendStream};
use relay_core::mux::{Config, HeadKind, Side, StreamCode};
use tokio::task::JoinSet;

use crate::pipes::{Pipe, Pipes};
use crate::{CHUNK_OCTETS, HEAD_OCTETS, payload};

/// As in production, the connection point dials and the gateway accepts.
pub(super) async fn connect(pipes: Pipes, tasks: &mut JoinSet<()>) -> Link {
    let config = Config { accept_streams_max: 16, open_streams_max: 1024, ..Config::default() };
    let (gateway, gateway_driver) = begin(pipes.accepted, Side::Listener, config);
    let (site, site_driver) = begin(pipes.dialled, Side::Dialer, Config::default());
    tasks.spawn(async { drop(gateway_driver.await) });
    tasks.spawn(async { drop(site_driver.await) });
    tasks.spawn(serve(site));
    gateway.established().await.expect("both sides speak one version");
    gateway
}

fn begin<P: Pipe>(pipe: P, side: Side, config: Config) -> (Link, Driver<P>) {
    link::new(pipe, side, config).expect("the settings are constants within range")
}

/// Makes one exchange and returns the octets of its answer.
pub(super) async fn exchange(link: &Link, request: Bytes, octets: usize) -> usize {
    let end = if request.is_empty() { End::NoPayload } else { End::More };
    let opened = link.open(head(octets), end).await;
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
    read
}

/// Begins an exchange and reads the head of its answer only.
pub(super) async fn hold(link: &Link, octets: usize) -> (SendStream, RecvStream) {
    let opened = link.open(head(octets), End::NoPayload).await;
    let (send, mut recv) = opened.expect("the link is up");
    recv.head().await.expect("the site answers");
    (send, recv)
}

/// A request's head: what it asks for.
fn head(octets: usize) -> Bytes {
    let mut head = [0; HEAD_OCTETS];
    head[..8].copy_from_slice(&(octets as u64).to_be_bytes());
    Bytes::copy_from_slice(&head)
}

async fn serve(site: Link) {
    while let Ok(incoming) = site.accept().await {
        tokio::spawn(answer(incoming));
    }
}

/// Ends early when the exchange is abandoned; the opener sees whether its answer was whole.
async fn answer(incoming: Incoming) -> Option<()> {
    let Incoming { head, mut send, mut recv, .. } = incoming;
    let asked = head.first_chunk::<8>().map_or(0, |raw| u64::from_be_bytes(*raw));
    let mut left = usize::try_from(asked).ok()?;
    while recv.read_chunk().await.ok()?.is_some() {}
    send.send_head(payload(HEAD_OCTETS), HeadKind::Final).ok()?;
    while left > 0 {
        let chunk = payload(left.min(CHUNK_OCTETS));
        left -= chunk.len();
        if send.write_chunk(chunk).await.is_err() {
            send.reset(StreamCode::DROPPED);
            return None;
        }
    }
    send.finish().ok()
}
