//! One exchange's stream: between its cell and its two QUIC halves.
//!
//! A *turn* does all that can be done for a stream now. The cell's lock is held while octets change
//! hands, never while QUIC is asked: its own lock may be held for as long as a packet takes.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{BufMut as _, Bytes, BytesMut};
use quinn::{ReadError, RecvStream, SendStream, StoppedError, VarInt, WriteError};
use tokio_util::io::poll_read_buf;

use crate::mux::{HeadKind, LinkError, SendError, Stalls, StreamCode, StreamId};

use super::super::cell::{Cell, In, Kept, Out, RecvEnd, State};
use super::super::recv::Head;
use super::admission::Admission;
use super::codes::{is_whole_reset, of_reset, of_stop, stream_code};
use super::record::{HEADER_LEN, INTERIM_HEADS_MAX, Item, Kind, RECORD_MAX, Reader, header};

/// Octets that are read for a consumer before it has taken any of them. Behind that they stay with
/// QUIC, which grants the peer no more.
const READ_AHEAD: usize = 64 << 10;

/// Octets read in one turn before other streams have theirs.
const TURN_OCTETS: usize = 64 << 10;

/// Octets of the buffer that all streams of a link read into.
const INPUT_OCTETS: usize = 64 << 10;

/// Payload that fills less than a quarter of its buffer is copied out of it: unread, it would keep
/// the whole buffer in use.
const COPY_OUT_MAX: usize = INPUT_OCTETS / 4;

/// Payload of up to this many octets is copied beside its header, as in the mux.
const COPY_IN_MAX: usize = crate::mux::COPY_IN_MAX;

/// Looks in a row at which a consumer may have taken nothing while payload waits. The same as in
/// the mux: four in [`Config::consumer_timeout`](crate::mux::Config::consumer_timeout).
pub(super) const LOOKS_PER_TIMEOUT: u32 = 4;

/// What streams need of their link in a turn.
pub(super) struct Desk<'a> {
    pub(super) admission: &'a mut Admission,
    /// Where every stream reads into. Empty between turns.
    pub(super) input: &'a mut BytesMut,
    /// Where headers are written.
    pub(super) headers: &'a mut BytesMut,
    /// Whom to wake once no lock is held.
    pub(super) wakers: &'a mut Vec<Waker>,
    pub(super) counts: &'a mut Counts,
    /// Octets that may wait in one stream's queue.
    pub(super) queue_max: usize,
    /// Longest head that the peer takes.
    pub(super) head_max: u32,
}

/// What the streams of a link have done so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) payload_received: u64,
    pub(super) payload_sent: u64,
    pub(super) write_calls: u64,
    pub(super) read_calls: u64,
    pub(super) consumers_stalled: u64,
    /// Octets of records that QUIC has not taken yet, headers among them.
    pub(super) queued: u64,
    /// Streams of which QUIC takes nothing: the peer has granted no more, or as much is on its way
    /// as the path carries. QUIC does not tell which.
    pub(super) stalls: Stalls,
}

/// The half that is sent.
///
/// ```text
///   AwaitHead --head--> Payload --end--> Ending --FIN--> Ended --acknowledged--> Over
///       |                  |                |              |                      ^
///       +------------------+--- reset, or stopped by the peer --------------------+
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sending {
    /// No final head was queued, and so many interim ones were.
    AwaitHead { interim: u8 },
    /// Payload may be queued.
    Payload,
    /// The end is queued.
    Ending,
    /// QUIC has it all, and the peer not yet.
    Ended,
    /// Nothing more will be sent, again or at all.
    Over,
}

type Stopped = Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send + Sync>>;

/// One exchange's stream.
#[expect(
    clippy::struct_excessive_bools,
    reason = "who opened it, what has ended, who holds it, whether its place is kept and it moves"
)]
pub(super) struct Stream {
    pub(super) id: StreamId,
    is_ours: bool,
    /// `None` until the head of a stream that the peer opened is there.
    cell: Option<Arc<Cell>>,
    waker: Waker,
    send: SendStream,
    recv: RecvStream,
    /// Tells that the peer wants no more, or has it all; `None` once it has.
    stopped: Option<Stopped>,
    /// The peer wanted no answer before its head was there.
    stopped_early: Option<VarInt>,
    sending: Sending,
    /// Records that QUIC has not taken yet, and their payload's octets.
    queue: VecDeque<Bytes>,
    queued: usize,
    /// Whether QUIC took nothing of it when it was offered last.
    is_stalled: bool,
    /// Whether the receive half has ended for QUIC: finished, reset, or stopped by this side.
    is_received: bool,
    /// Whether this side has stopped it: what became of the other half is not heard.
    is_abandoned: bool,
    reader: Reader,
    /// What has arrived in this turn.
    arrived: Vec<In>,
    recv_end: Option<RecvEnd>,
    /// Octets in the cell that the consumer has not taken.
    unread: usize,
    stalled_looks: u32,
    is_unheld: bool,
    is_withheld: bool,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("id", &self.id)
            .field("sending", &self.sending)
            .field("is_received", &self.is_received)
            .finish_non_exhaustive()
    }
}

/// What a handle has asked for since the last turn.
#[derive(Clone, Copy, Debug, Default)]
struct Wishes {
    reset: Option<StreamCode>,
    stop: Option<StreamCode>,
}

/// What came of a turn.
#[derive(Debug, Default)]
pub(super) struct Turned {
    /// The head of a stream that the peer opened is there.
    pub(super) opened: Option<Bytes>,
    /// Nothing can happen on the stream any more.
    pub(super) is_over: bool,
}

impl Stream {
    /// A stream that this side opens with `head`.
    pub(super) fn opening(
        id: StreamId,
        (send, recv): (SendStream, RecvStream),
        waker: Waker,
        cell: Arc<Cell>,
        head_max: u32,
    ) -> Self {
        let reader = Reader::of_answer(id, head_max);
        let mut stream = Self::new(id, (send, recv), waker, reader);
        stream.is_ours = true;
        stream.cell = Some(cell);
        stream
    }

    /// A stream that the peer has opened.
    pub(super) fn accepted(
        id: StreamId,
        halves: (SendStream, RecvStream),
        waker: Waker,
        head_max: u32,
    ) -> Self {
        Self::new(id, halves, waker, Reader::of_request(id, head_max))
    }

    fn new(
        id: StreamId,
        (send, recv): (SendStream, RecvStream),
        waker: Waker,
        reader: Reader,
    ) -> Self {
        Self {
            id,
            is_ours: false,
            cell: None,
            waker,
            stopped: Some(Box::pin(send.stopped())),
            stopped_early: None,
            send,
            recv,
            sending: Sending::AwaitHead { interim: 0 },
            queue: VecDeque::new(),
            queued: 0,
            is_stalled: false,
            is_received: false,
            is_abandoned: false,
            reader,
            arrived: Vec::new(),
            recv_end: None,
            unread: 0,
            stalled_looks: 0,
            is_unheld: false,
            is_withheld: false,
        }
    }

    /// Whether the stream was opened by this side.
    pub(super) fn is_ours(&self) -> bool {
        self.is_ours
    }

    /// What is kept for as long as the peer may be at work on a stream that is over here; `None` if
    /// the peer has said the end of its half.
    pub(super) fn take_kept(&self) -> Option<Kept> {
        let cell = self.cell.as_ref().filter(|_| self.is_abandoned)?;
        cell.lock().kept.take()
    }

    /// Gives a stream that the peer opened the cell that its handles share.
    pub(super) fn give_cell(&mut self, cell: Arc<Cell>) {
        self.cell = Some(cell);
    }

    /// Queues the head of a stream that this side opens.
    pub(super) fn queue_opening(&mut self, desk: &mut Desk<'_>, block: Bytes, end: bool) {
        let kind = if end { Kind::HeadAndEnd } else { Kind::Head };
        self.queue_record(desk, kind, block);
        self.sending = if end { Sending::Ending } else { Sending::Payload };
    }

    /// Does all that can be done now.
    ///
    /// # Errors
    ///
    /// [`LinkError`]; the link must be closed.
    pub(super) fn turn(&mut self, desk: &mut Desk<'_>) -> Result<Turned, LinkError> {
        let wishes = self.collect(desk);
        self.look_whether_stopped(desk);
        if let Some(code) = wishes.reset {
            self.reset(code, desk);
        }
        self.write(desk);
        if let Some(code) = wishes.stop {
            self.stop_receiving(of_stop(code));
        }
        let opened = self.read(desk)?;
        self.publish(desk);
        if self.is_unheld && self.is_withheld {
            self.is_withheld = false;
            desk.admission.give_back();
        }
        // Nobody holds a stream whose head never came.
        let is_unheld = self.is_unheld || (self.cell.is_none() && opened.is_none());
        let is_over = is_unheld && self.is_received && self.sending == Sending::Over;
        Ok(Turned { opened, is_over })
    }

    /// Takes what the handles have left in the cell.
    fn collect(&mut self, desk: &mut Desk<'_>) -> Wishes {
        let Some(cell) = self.cell.clone() else { return Wishes::default() };
        let mut state = cell.lock();
        let outbox = std::mem::take(&mut state.outbox);
        let taken = std::mem::take(&mut state.taken);
        let mut wishes = Wishes { reset: state.reset.take(), stop: None };
        if state.recv_dropped {
            wishes.stop = Some(state.stop.take().unwrap_or(StreamCode::DROPPED));
            self.unread = 0;
        }
        self.is_unheld = state.is_unheld();
        drop(state);
        self.unread = self.unread.saturating_sub(taken);
        if taken > 0 {
            self.stalled_looks = 0;
        }
        for out in outbox {
            if let Err(error) = self.queue_out(desk, out) {
                cell.lock().end_send(error, desk.wakers);
                if !matches!(error, SendError::Stopped(_) | SendError::Reset(_)) {
                    // A mistake in the caller: the half cannot be completed, and the peer must not
                    // wait for it.
                    wishes.reset.get_or_insert(StreamCode::DROPPED);
                }
                break;
            }
        }
        wishes
    }

    fn queue_out(&mut self, desk: &mut Desk<'_>, out: Out) -> Result<(), SendError> {
        let next = match (self.sending, &out) {
            (Sending::AwaitHead { interim }, Out::Head(_, HeadKind::Interim)) => {
                if interim == INTERIM_HEADS_MAX {
                    return Err(SendError::TooManyInterimHeads);
                }
                Sending::AwaitHead { interim: interim + 1 }
            }
            (Sending::AwaitHead { .. }, Out::Head(_, HeadKind::Final))
            | (Sending::Payload, Out::Data(_)) => Sending::Payload,
            (Sending::AwaitHead { .. }, Out::Head(_, HeadKind::FinalAndEnd))
            | (Sending::Payload, Out::Trailers(_) | Out::Finish) => Sending::Ending,
            (Sending::AwaitHead { .. } | Sending::Payload, _) => {
                return Err(SendError::OutOfOrder);
            }
            (Sending::Ending | Sending::Ended, _) => return Err(SendError::Finished),
            // The cell knows why: it was told when the half was given up.
            (Sending::Over, _) => return Ok(()),
        };
        match out {
            Out::Head(block, kind) => {
                check_block(&block, desk.head_max)?;
                let kind = match kind {
                    HeadKind::Interim => Kind::Interim,
                    HeadKind::Final => Kind::Head,
                    HeadKind::FinalAndEnd => Kind::HeadAndEnd,
                };
                self.queue_record(desk, kind, block);
            }
            Out::Trailers(block) => {
                check_block(&block, desk.head_max)?;
                self.queue_record(desk, Kind::Trailers, block);
            }
            Out::Data(mut payload) => {
                while payload.len() > RECORD_MAX {
                    let front = payload.split_to(RECORD_MAX);
                    self.queue_record(desk, Kind::Data, front);
                }
                self.queue_record(desk, Kind::Data, payload);
            }
            Out::Finish => {}
        }
        self.sending = next;
        Ok(())
    }

    fn queue_record(&mut self, desk: &mut Desk<'_>, kind: Kind, body: Bytes) {
        let is_copied = body.len() <= COPY_IN_MAX;
        desk.headers.reserve(HEADER_LEN + COPY_IN_MAX);
        desk.headers.put_slice(&header(kind, body.len()));
        if is_copied {
            desk.headers.put_slice(&body);
        }
        self.queue.push_back(desk.headers.split().freeze());
        self.queued += HEADER_LEN + body.len();
        desk.counts.queued += (HEADER_LEN + body.len()) as u64;
        if kind == Kind::Data {
            desk.counts.payload_sent += body.len() as u64;
        }
        if !is_copied {
            self.queue.push_back(body);
        }
    }

    /// Whether the peer wants no more, or has it all.
    fn look_whether_stopped(&mut self, desk: &mut Desk<'_>) {
        if let Some(code) = self.stopped_early.take() {
            self.on_stopped(code, desk);
        }
        if self.sending == Sending::Over {
            return;
        }
        let Some(stopped) = &mut self.stopped else { return };
        let Poll::Ready(outcome) = stopped.as_mut().poll(&mut Context::from_waker(&self.waker))
        else {
            return;
        };
        self.stopped = None;
        match outcome {
            Ok(Some(code)) => self.on_stopped(code, desk),
            Ok(None) => self.sending = Sending::Over,
            // The connection has ended, which is told elsewhere.
            Err(_) => {}
        }
    }

    fn on_stopped(&mut self, raw: VarInt, desk: &mut Desk<'_>) {
        let (code, is_whole) = (self.believed(stream_code(raw)), is_whole_reset(raw));
        if !self.is_ours && self.cell.is_none() && !is_whole {
            // Nothing may end for QUIC before there is a cell that can be held.
            self.stopped_early = Some(raw);
            return;
        }
        // RFC 9000, section 3.5: STOP_SENDING is answered by RESET_STREAM.
        self.stop_sending(code, desk);
        if is_whole {
            self.stop_receiving(of_reset(code));
            // It says its last word by that, and is not asked for another.
            self.is_abandoned = false;
        }
        let Some(cell) = &self.cell else { return };
        if is_whole {
            cell.lock().end_reset(code, desk.wakers);
        } else {
            cell.lock().end_send(SendError::Stopped(code), desk.wakers);
        }
    }

    /// Aborts both halves, as a handle asks. Returns whether either had not ended.
    fn reset(&mut self, code: StreamCode, desk: &mut Desk<'_>) -> bool {
        let has_answered = !self.is_ours && self.sending != (Sending::AwaitHead { interim: 0 });
        let code = match code {
            StreamCode::REFUSED if has_answered => StreamCode::DROPPED,
            code => code,
        };
        if let Some(cell) = &self.cell {
            cell.lock().end_reset(code, desk.wakers);
        }
        let is_sent = matches!(self.sending, Sending::Ended | Sending::Over);
        let was_open = !is_sent || !self.is_received;
        if was_open {
            self.stop_sending(code, desk);
            self.stop_receiving(of_reset(code));
        }
        was_open
    }

    /// Nothing more is sent, and what QUIC still has is given up.
    fn stop_sending(&mut self, code: StreamCode, desk: &mut Desk<'_>) {
        self.forget_queue(desk);
        if self.sending == Sending::Over {
            return;
        }
        self.keep_place(desk);
        self.sending = Sending::Over;
        // Fails where the peer has it all already.
        let _ = self.send.reset(code.0.into());
    }

    fn forget_queue(&mut self, desk: &mut Desk<'_>) {
        self.queue.clear();
        desk.counts.queued -= std::mem::take(&mut self.queued) as u64;
        self.go_on(desk);
    }

    fn stand_still(&mut self, desk: &mut Desk<'_>) {
        if !std::mem::replace(&mut self.is_stalled, true) {
            desk.counts.stalls.begin();
        }
    }

    fn go_on(&mut self, desk: &mut Desk<'_>) {
        if std::mem::take(&mut self.is_stalled) {
            desk.counts.stalls.end();
        }
    }

    fn stop_receiving(&mut self, code: VarInt) {
        if !self.is_received {
            self.is_received = true;
            self.is_abandoned = true;
            let _ = self.recv.stop(code);
        }
    }

    /// The send half is about to end for QUIC: see [`Admission`].
    fn keep_place(&mut self, desk: &mut Desk<'_>) {
        let is_kept = !self.is_unheld || desk.admission.is_shrinking();
        if !self.is_ours && self.cell.is_some() && is_kept && !self.is_withheld {
            self.is_withheld = true;
            desk.admission.withhold();
        }
    }

    /// Hands QUIC what is queued, as far as the peer's credit goes.
    fn write(&mut self, desk: &mut Desk<'_>) {
        while !self.queue.is_empty() {
            let mut cx = Context::from_waker(&self.waker);
            let records = self.queue.make_contiguous();
            let written = pin!(self.send.write_chunks(records)).poll(&mut cx);
            match written {
                Poll::Pending => return self.stand_still(desk),
                Poll::Ready(Ok(written)) => {
                    desk.counts.write_calls += 1;
                    self.go_on(desk);
                    self.queue.drain(..written.chunks);
                    self.queued -= written.bytes;
                    desk.counts.queued -= written.bytes as u64;
                }
                Poll::Ready(Err(WriteError::Stopped(code))) => {
                    return self.on_stopped(code, desk);
                }
                // The connection has ended, which is told elsewhere.
                Poll::Ready(Err(_)) => return self.forget_queue(desk),
            }
        }
        if self.sending == Sending::Ending {
            self.keep_place(desk);
            self.sending = Sending::Ended;
            let _ = self.send.finish();
            // Asks to be told when the peer has it.
            self.look_whether_stopped(desk);
        }
    }

    /// Reads what has arrived, as far as the consumer has room. Returns the head that opens the
    /// stream, if it was among that.
    fn read(&mut self, desk: &mut Desk<'_>) -> Result<Option<Bytes>, LinkError> {
        let mut opened = None;
        let mut turn = TURN_OCTETS;
        while !self.is_received && self.unread < READ_AHEAD {
            if turn == 0 || opened.is_some() {
                // What follows a head waits for the cell that it is put into.
                self.waker.wake_by_ref();
                break;
            }
            let room = (READ_AHEAD - self.unread).min(turn);
            let Some(octets) = self.read_some(room, desk)? else { break };
            turn = turn.saturating_sub(octets);
            self.sort_input(desk, &mut opened)?;
        }
        Ok(opened)
    }

    /// Reads what is there, however full the cell is: the connection has ended, and what has
    /// arrived can still be read.
    ///
    /// # Errors
    ///
    /// As [`Stream::turn`].
    pub(super) fn read_out(&mut self, desk: &mut Desk<'_>) -> Result<(), LinkError> {
        if self.cell.is_some() {
            while !self.is_received && self.read_some(INPUT_OCTETS, desk)?.is_some() {
                self.sort_input(desk, &mut None)?;
            }
            self.publish(desk);
        }
        Ok(())
    }

    /// Reads at most `room` octets into the link's buffer. `None` if there is nothing now, or will
    /// be nothing more.
    fn read_some(&mut self, room: usize, desk: &mut Desk<'_>) -> Result<Option<usize>, LinkError> {
        if !desk.input.try_reclaim(INPUT_OCTETS) {
            *desk.input = BytesMut::with_capacity(INPUT_OCTETS);
        }
        let mut cx = Context::from_waker(&self.waker);
        let mut portion = (&mut *desk.input).limit(room);
        match poll_read_buf(Pin::new(&mut self.recv), &mut cx, &mut portion) {
            Poll::Pending => Ok(None),
            Poll::Ready(Ok(0)) => {
                self.is_received = true;
                self.reader.finish()?;
                self.recv_end.get_or_insert(RecvEnd::Finished);
                Ok(None)
            }
            Poll::Ready(Ok(octets)) => {
                desk.counts.read_calls += 1;
                Ok(Some(octets))
            }
            Poll::Ready(Err(error)) => {
                let error = error.get_ref().and_then(|error| error.downcast_ref::<ReadError>());
                if let Some(ReadError::Reset(code)) = error {
                    self.on_reset(*code, desk);
                }
                // Else the connection has ended, which is told elsewhere.
                Ok(None)
            }
        }
    }

    /// The peer has aborted both halves.
    fn on_reset(&mut self, raw: VarInt, desk: &mut Desk<'_>) {
        self.is_received = true;
        let code = self.believed(stream_code(raw));
        self.arrived.clear();
        if let Some(cell) = &self.cell {
            cell.lock().end_reset(code, desk.wakers);
        }
        self.stop_sending(code, desk);
    }

    /// A peer that has begun to answer cannot say that it did not look.
    fn believed(&self, code: StreamCode) -> StreamCode {
        match code {
            StreamCode::REFUSED if self.reader.has_begun() => StreamCode::DROPPED,
            code => code,
        }
    }

    /// Takes what was read apart.
    fn sort_input(
        &mut self,
        desk: &mut Desk<'_>,
        opened: &mut Option<Bytes>,
    ) -> Result<(), LinkError> {
        while let Some(item) = self.reader.next(desk.input)? {
            match item {
                Item::Head { block, end, .. } if !self.is_ours => {
                    *opened = Some(block);
                    self.note_end(end);
                }
                Item::Head { block, interim, end } => {
                    self.arrived.push(In::Head(Head { block, interim, end }));
                    self.note_end(end);
                }
                Item::Data(part) => {
                    self.unread += part.len();
                    desk.counts.payload_received += part.len() as u64;
                    let part = match part.len() {
                        0..=COPY_OUT_MAX => Bytes::copy_from_slice(&part),
                        _ => part.freeze(),
                    };
                    self.arrived.push(In::Data(part));
                }
                Item::Trailers(block) => {
                    self.arrived.push(In::Trailers(block));
                    self.note_end(true);
                }
            }
        }
        Ok(())
    }

    fn note_end(&mut self, end: bool) {
        if end {
            self.recv_end = Some(RecvEnd::Finished);
        }
    }

    /// Puts what has arrived into the cell, and says how much room there is.
    pub(super) fn publish(&mut self, desk: &mut Desk<'_>) {
        let Some(cell) = &self.cell else { return };
        let mut state = cell.lock();
        let state = &mut *state;
        let has_news = !self.arrived.is_empty() || self.recv_end.is_some();
        for item in self.arrived.drain(..) {
            if !state.recv_dropped && state.recv_end.is_none() {
                state.put_in(item);
            }
        }
        if let Some(end) = self.recv_end.take() {
            state.recv_end.get_or_insert(end);
        }
        if has_news {
            desk.wakers.extend(state.recv_waker.take());
        }
        state.taken_report = READ_AHEAD / 2;
        state.room = desk.queue_max.saturating_sub(self.queued + outbox_octets(state));
        if state.room > 0 && state.send_end.is_none() && self.sending != Sending::Over {
            desk.wakers.extend(state.send_waker.take());
        }
    }

    /// Looks whether the consumer has taken anything since the last look. If it has taken nothing
    /// for too long the stream is reset.
    pub(super) fn look_at_consumer(&mut self, desk: &mut Desk<'_>) {
        let Some(cell) = &self.cell else { return };
        let taken = std::mem::take(&mut cell.lock().taken);
        self.unread = self.unread.saturating_sub(taken);
        if taken > 0 || self.unread == 0 {
            self.stalled_looks = 0;
            return;
        }
        self.stalled_looks = self.stalled_looks.saturating_add(1);
        // It stays until its handles are dropped, and is looked at for as long.
        if self.stalled_looks > LOOKS_PER_TIMEOUT && self.reset(StreamCode::STALLED, desk) {
            desk.counts.consumers_stalled += 1;
            self.waker.wake_by_ref();
        }
    }

    /// The link has ended under the stream.
    pub(super) fn cut(&mut self, wakers: &mut Vec<Waker>) {
        if let Some(cell) = &self.cell {
            cell.lock().cut(wakers);
        }
    }
}

fn outbox_octets(state: &State) -> usize {
    let octets = |out: &Out| if let Out::Data(payload) = out { payload.len() } else { 0 };
    state.outbox.iter().map(octets).sum()
}

fn check_block(block: &Bytes, limit: u32) -> Result<(), SendError> {
    if block.len() > limit as usize {
        return Err(SendError::HeadTooLong { len: block.len(), limit });
    }
    Ok(())
}
