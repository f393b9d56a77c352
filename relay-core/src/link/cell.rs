//! What a stream's handles and the driver share: the stream's cell.

use std::any::Any;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, PoisonError};
use std::task::Waker;

use bytes::{Bytes, BytesMut};

use crate::mux::{HeadKind, SendError, StreamCode, StreamId};

use super::recv::{Head, RecvError};
use super::sync::{Mutex, MutexGuard};

/// Something that is dropped once the peer has let go of a stream.
///
/// Boxed, for a stream that keeps nothing is not to be longer for it.
pub(super) type Kept = Box<Arc<dyn Any + Send + Sync>>;

/// Something a handle wants sent, in order.
#[derive(Debug)]
pub(super) enum Out {
    Head(Bytes, HeadKind),
    Data(Bytes),
    Trailers(Bytes),
    Finish,
}

/// Something that arrived, in order.
#[derive(Debug)]
pub(super) enum In {
    Head(Head),
    Data(Bytes),
    /// Small payloads that nobody has read yet, gathered.
    Gathered(BytesMut),
    Trailers(Bytes),
}

/// Payloads of up to this many octets are gathered while they wait to be read.
///
/// Each entry of an inbox costs tens of octets, and pins the read buffer that it came in: a peer
/// that sends single octets could hold far more memory than its window.
const GATHER_MAX: usize = 1024;

/// Octets gathered in one entry.
const GATHERED_MAX: usize = 4096;

/// How the receive half ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum RecvEnd {
    /// The peer finished; everything is in the inbox.
    Finished,
    /// It was cut.
    Failed(RecvError),
}

/// The state of one stream between its handles and the driver.
#[derive(Debug, Default)]
pub(super) struct State {
    // From the handles to the driver.
    /// The head that is to open the stream, until the driver has opened it.
    pub(super) opening: Option<(Bytes, bool)>,
    pub(super) outbox: VecDeque<Out>,
    /// Payload octets taken by the consumer and not yet told to the engine.
    pub(super) taken: usize,
    pub(super) reset: Option<StreamCode>,
    pub(super) stop: Option<StreamCode>,
    pub(super) send_dropped: bool,
    pub(super) recv_dropped: bool,
    /// What the opener wants kept for as long as the peer may be at work on the stream.
    pub(super) kept: Option<Kept>,
    /// Whether the cell stands in the list that the driver sweeps.
    pub(super) dirty: bool,

    // From the driver to the handles.
    pub(super) id: Option<StreamId>,
    /// Octets the engine would take now. A chunk may overshoot it once, so that writing is all or
    /// nothing for the caller.
    pub(super) room: usize,
    /// How many taken octets are worth telling the engine.
    pub(super) taken_report: usize,
    pub(super) inbox: VecDeque<In>,
    pub(super) recv_end: Option<RecvEnd>,
    pub(super) send_end: Option<SendError>,
    pub(super) recv_waker: Option<Waker>,
    pub(super) send_waker: Option<Waker>,
}

/// A stream's cell.
#[derive(Debug)]
pub(super) struct Cell {
    state: Mutex<State>,
}

impl Cell {
    pub(super) fn new(state: State) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(state) })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under the lock panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the cell for the driver, which has just taken it from the agenda. It is clean from
    /// here on, not once the driver has looked: what is changed behind this look puts it there
    /// again.
    pub(super) fn lock_clean(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        debug_assert!(state.dirty, "a cell stands on the agenda once, and while it is dirty");
        state.dirty = false;
        state
    }
}

impl State {
    /// The link is gone under the stream.
    pub(super) fn cut(&mut self, wakers: &mut Vec<Waker>) {
        // A head that never reached the engine was never sent: another link may carry it.
        let (code, error) = match self.opening.take() {
            Some(_) => (StreamCode::REFUSED, RecvError::Reset(StreamCode::REFUSED)),
            None => (StreamCode::DROPPED, RecvError::LinkLost),
        };
        self.end_send(SendError::Reset(code), wakers);
        self.end_recv(error, wakers);
    }

    /// Ends the send half, unless it has ended: what waits is not sent any more.
    pub(super) fn end_send(&mut self, error: SendError, wakers: &mut Vec<Waker>) {
        self.outbox.clear();
        self.send_end.get_or_insert(error);
        wakers.extend(self.send_waker.take());
    }

    /// Cuts the receive half, unless it has ended: what has arrived can still be read.
    pub(super) fn end_recv(&mut self, error: RecvError, wakers: &mut Vec<Waker>) {
        self.recv_end.get_or_insert(RecvEnd::Failed(error));
        wakers.extend(self.recv_waker.take());
    }

    /// Ends both halves, where they have not ended, with a reset.
    pub(super) fn end_reset(&mut self, code: StreamCode, wakers: &mut Vec<Waker>) {
        self.end_send(SendError::Reset(code), wakers);
        self.end_recv(RecvError::Reset(code), wakers);
    }

    /// Whether nobody holds either half any more.
    pub(super) fn is_unheld(&self) -> bool {
        self.send_dropped && self.recv_dropped
    }

    /// Puts what arrived behind what has not been read yet.
    pub(super) fn put_in(&mut self, item: In) {
        let payload = match item {
            In::Data(payload) if payload.len() <= GATHER_MAX => payload,
            other => return self.inbox.push_back(other),
        };
        match self.inbox.back_mut() {
            Some(In::Gathered(gathered)) if gathered.len() + payload.len() <= GATHERED_MAX => {
                gathered.extend_from_slice(&payload);
            }
            // The first one is handed on as it came, if it is read before the next arrives.
            Some(In::Data(_) | In::Gathered(_)) => {
                let mut gathered = BytesMut::with_capacity(GATHER_MAX);
                gathered.extend_from_slice(&payload);
                self.inbox.push_back(In::Gathered(gathered));
            }
            _ => self.inbox.push_back(In::Data(payload)),
        }
    }

    /// Copies what is unread and lies in `memory`, so that it no longer keeps that in use.
    pub(super) fn copy_out(&mut self, memory: &Range<usize>) {
        for item in &mut self.inbox {
            if let In::Data(payload) = item
                && memory.contains(&payload.as_ptr().addr())
            {
                *payload = Bytes::copy_from_slice(payload);
            }
        }
    }

    /// Puts `waker` where the next event will find it.
    pub(super) fn park(slot: &mut Option<Waker>, waker: &Waker) {
        match slot {
            Some(parked) => parked.clone_from(waker),
            None => *slot = Some(waker.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(state: &mut State) -> Vec<u8> {
        let mut all = Vec::new();
        for item in state.inbox.drain(..) {
            match item {
                In::Data(payload) => all.extend_from_slice(&payload),
                In::Gathered(payload) => all.extend_from_slice(&payload),
                other => panic!("{other:?}"),
            }
        }
        all
    }

    #[test]
    fn single_octets_that_wait_to_be_read_cost_about_their_own_memory() {
        let mut state = State::default();
        let octets: Vec<u8> = (0..=u8::MAX).cycle().take(32 << 10).collect();
        for octet in &octets {
            state.put_in(In::Data(Bytes::copy_from_slice(&[*octet])));
        }
        assert!(state.inbox.len() <= 10, "{} entries", state.inbox.len());
        assert_eq!(drain(&mut state), octets);
    }

    #[test]
    fn payloads_of_every_size_keep_their_order() {
        let mut state = State::default();
        let mut expected = Vec::new();
        for (number, len) in (0..).zip([1, 1024, 1, 5000, 1, 1023, 1024, 1024, 1025, 2, 2]) {
            let payload = vec![number; len];
            expected.extend_from_slice(&payload);
            state.put_in(In::Data(payload.into()));
        }
        assert_eq!(drain(&mut state), expected);
    }

    #[test]
    fn what_is_copied_out_is_what_lies_in_the_buffer_and_nothing_else() {
        let mut state = State::default();
        let [old, new] = [Bytes::from(vec![1; 5000]), Bytes::from(vec![2; 5000])];
        for payload in [old.slice(100..3000), new.slice(7..), old.slice(3000..)] {
            state.put_in(In::Data(payload));
        }
        let memory = old.as_ptr().addr()..old.as_ptr().addr() + old.len();
        state.copy_out(&memory);
        drop(old.try_into_mut().expect("nothing else holds the old buffer"));
        let Some(In::Data(kept)) = state.inbox.get(1) else { panic!("not as it came") };
        assert_eq!(kept.as_ptr(), new[7..].as_ptr());
        let expected = [vec![1; 2900], vec![2; 4993], vec![1; 2000]].concat();
        assert_eq!(drain(&mut state), expected);
    }

    #[test]
    fn a_payload_that_is_read_before_the_next_arrives_is_not_copied() {
        let mut state = State::default();
        let payload = Bytes::from(vec![7; 100]);
        state.put_in(In::Data(payload.clone()));
        let Some(In::Data(read)) = state.inbox.pop_front() else { panic!("not as it came") };
        assert_eq!(read.as_ptr(), payload.as_ptr());
    }
}
