//! One end of a connection, as programs hold it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::connection::{ConnectionId, Direction, Reader};
use super::network::MemoryNetwork;
use super::trace::What;
use super::way::{Ending, Found};

/// One end of a connection in memory. Dropping it closes the connection.
#[derive(Debug)]
pub struct MemoryStream {
    network: MemoryNetwork,
    id: ConnectionId,
    /// In which direction this end writes.
    end: Direction,
    /// Until the next octets arrive, or this end gives up.
    arrival: Option<Pin<Box<Sleep>>>,
}

impl MemoryStream {
    pub(super) fn new(network: MemoryNetwork, id: ConnectionId, end: Direction) -> Self {
        Self { network, id, end, arrival: None }
    }

    /// Which connection it is of.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// Reads what has arrived, or returns until when nothing will.
    fn read(&self, cx: &Context<'_>, into: &mut ReadBuf<'_>) -> Result<io::Result<()>, Wait> {
        let mut guard = self.network.state();
        let state = &mut *guard;
        let Some(connection) = state.connections.get_mut(&self.id.0) else {
            return Ok(Err(io::ErrorKind::NotConnected.into()));
        };
        if let Err(error) = connection.check(self.end) {
            return Ok(Err(error));
        }
        let now = Instant::now();
        let given_up_at = connection.given_up_at(self.end);
        if given_up_at.is_some_and(|at| at <= now) {
            connection.cut_at(self.end);
            return Ok(Err(io::ErrorKind::TimedOut.into()));
        }
        let way = connection.way(self.end.other());
        match way.find(into.remaining(), now) {
            Found::Octets(found) => {
                let octets = way.travel.piece(found, &mut state.rng);
                way.take(octets, |part| into.put_slice(part));
                state.tell_moved(self.id.0, self.end.other(), octets);
                Ok(Ok(()))
            }
            Found::End(Ending::Finished) => Ok(Ok(())),
            Found::End(Ending::Reset) => Ok(Err(io::ErrorKind::ConnectionReset.into())),
            Found::NotBefore(at) => {
                way.reader = Some(cx.waker().clone());
                Err(Wait::Until(given_up_at.map_or(at, |given_up_at| at.min(given_up_at))))
            }
            Found::Nothing => {
                way.reader = Some(cx.waker().clone());
                Err(given_up_at.map_or(Wait::Told, Wait::Until))
            }
        }
    }

    fn write(&self, cx: &Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        let mut guard = self.network.state();
        let state = &mut *guard;
        let Some(connection) = state.connections.get_mut(&self.id.0) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let now = Instant::now();
        if connection.check_write(self.end, now, &mut state.rng)? == Reader::Gone {
            return Poll::Ready(Ok(offered));
        }
        let way = connection.way(self.end);
        let room = way.room();
        if room == 0 && offered > 0 {
            way.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let wanted = way.travel.piece(offered.min(room), &mut state.rng);
        let (taken, fault) = way.before_fault(wanted);
        way.send(gather(slices, taken), now, &mut state.rng);
        let octets = way.accepted;
        if let Some(fault) = fault {
            connection.strike(self.end, fault, now, &mut state.rng);
        }
        connection.note_unacknowledged(now);
        if fault.is_some() {
            state.tell(What::Struck { connection: self.id.0, octets });
        }
        state.tell_moved(self.id.0, self.end, taken);
        drop(guard);
        if taken == 0 && offered > 0 {
            // The fault struck before anything was taken; what the connection is now is found anew.
            return self.write(cx, slices);
        }
        Poll::Ready(Ok(taken))
    }
}

/// What a reader waits for.
enum Wait {
    Until(Instant),
    Told,
}

/// The first `len` octets of `slices`.
fn gather(slices: &[IoSlice<'_>], len: usize) -> bytes::Bytes {
    let mut octets = BytesMut::with_capacity(len);
    for slice in slices {
        let part = &slice[..slice.len().min(len - octets.len())];
        octets.extend_from_slice(part);
    }
    octets.freeze()
}

impl AsyncRead for MemoryStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if into.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            let at = match self.read(cx, into) {
                Ok(outcome) => return Poll::Ready(outcome),
                Err(Wait::Told) => return Poll::Pending,
                Err(Wait::Until(at)) => at,
            };
            let timer = self.arrival.get_or_insert_with(|| Box::pin(sleep_until(at)));
            if timer.deadline() != at {
                timer.as_mut().reset(at);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.arrival = None;
        }
    }
}

impl AsyncWrite for MemoryStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, &[IoSlice::new(octets)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut guard = self.network.state();
        let state = &mut *guard;
        if let Some(connection) = state.connections.get_mut(&self.id.0) {
            connection.check(self.end)?;
            connection.way(self.end).end(Ending::Finished, Instant::now(), &mut state.rng);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        let mut guard = self.network.state();
        let state = &mut *guard;
        let Some(connection) = state.connections.get_mut(&self.id.0) else { return };
        connection.leave(self.end, Instant::now(), &mut state.rng);
        if connection.is_left() {
            state.forget(self.id.0);
        }
    }
}
