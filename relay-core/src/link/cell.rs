//! What a stream's handles and the driver share: the stream's cell.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::Bytes;

use crate::mux::{HeadKind, SendError, StreamCode, StreamId};

use super::recv::{Head, RecvError};

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
    Trailers(Bytes),
}

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
}

impl State {
    /// Puts `waker` where the next event will find it.
    pub(super) fn park(slot: &mut Option<Waker>, waker: &Waker) {
        match slot {
            Some(parked) => parked.clone_from(waker),
            None => *slot = Some(waker.clone()),
        }
    }
}
