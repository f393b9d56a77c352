//! What the owner of a link may do with it.

use std::time::Instant;

use bytes::Bytes;

use super::receive::INTERIM_HEADS_MAX;
use super::{Drain, GoAway, Mux, Phase};
use crate::mux::error::{LinkError, OpenError, SendError, StreamCode};
use crate::mux::event::Event;
use crate::mux::frame::StreamId;
use crate::mux::half::{Abort, RecvEvent, SendEvent, SendHalf};
use crate::mux::stream::{Queued, Stream};

/// Which head is sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HeadKind {
    /// An interim (1xx) head; another follows.
    Interim,
    /// The final head; payload may follow.
    Final,
    /// The final head of a half without payload.
    FinalAndEnd,
}

impl Mux {
    /// Opens a stream with `head` as its head block; `end` if no payload follows. Its owner must
    /// end in [`Mux::release`], whatever becomes of it.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; nothing was sent.
    pub fn open(&mut self, head: Bytes, end: bool) -> Result<StreamId, OpenError> {
        let (Phase::Open, Some(peer)) = (&self.phase, &self.peer) else {
            return Err(OpenError::NotUp);
        };
        if self.peer_serves.is_some() || self.drain != Drain::No || self.is_mute {
            return Err(OpenError::GoingAway);
        }
        if head.len() > peer.head_max as usize {
            return Err(OpenError::HeadTooLong { len: head.len(), limit: peer.head_max });
        }
        // Numbers are never reused, so a link that has used them up is as good as going away.
        let id = StreamId::nth(self.side, self.opened).ok_or(OpenError::GoingAway)?;
        if u64::from(self.opened) >= self.openable_total() {
            return Err(OpenError::NoStreamFree);
        }
        let (floor, credit) = (self.config.stream_window, peer.stream_window);
        let mut queue = self.streams.queue();
        if end {
            queue.push_back(Queued::End);
        }
        let mut stream = Stream::new(id, Some(head), floor.into(), credit.into(), queue);
        if end {
            stream.send = SendHalf::Finishing;
        }
        self.opened += 1;
        self.streams.insert(stream);
        self.openings.push_back(id);
        self.lease_floors();
        if StreamId::nth(self.side, self.opened).is_none() {
            // The link is to be replaced, and the one who dials may be the peer: it must hear.
            self.drain = Drain::Wanted;
            self.events.push_back(Event::GoingAway { code: LinkError::CODE_DONE });
        }
        self.check_invariants();
        Ok(id)
    }

    /// Queues a head on a stream that the peer opened.
    ///
    /// # Errors
    ///
    /// [`SendError`]; nothing was queued.
    pub fn send_head(
        &mut self,
        id: StreamId,
        block: Bytes,
        kind: HeadKind,
    ) -> Result<(), SendError> {
        self.check_block(&block)?;
        let stream = self.streams.get_mut(id).ok_or(SendError::NoSuchStream)?;
        let event = match kind {
            HeadKind::Interim => SendEvent::Interim,
            HeadKind::Final | HeadKind::FinalAndEnd => SendEvent::Head,
        };
        let after = stream.send.on(event).map_err(|_| refusal(stream.send))?;
        if kind == HeadKind::Interim {
            // The peer would end the whole link for one stream's mistake.
            if stream.interim_sent == INTERIM_HEADS_MAX {
                return Err(SendError::TooManyInterimHeads);
            }
            stream.interim_sent += 1;
        }
        stream.send = after;
        stream.queue.push_back(match kind {
            HeadKind::Interim => Queued::Interim(block),
            HeadKind::Final | HeadKind::FinalAndEnd => Queued::Head(block),
        });
        if kind == HeadKind::FinalAndEnd {
            stream.send = SendHalf::Finishing;
            stream.queue.push_back(Queued::End);
        }
        self.mark_ready(id);
        self.check_invariants();
        Ok(())
    }

    fn check_block(&self, block: &Bytes) -> Result<(), SendError> {
        let limit = self.peer.as_ref().map_or(0, |peer| peer.head_max);
        if block.len() > limit as usize {
            return Err(SendError::HeadTooLong { len: block.len(), limit });
        }
        Ok(())
    }

    /// Octets that may wait in a stream's queue now. May fall below what waits already.
    ///
    /// A stream whose opening waits stands in no line yet and may be written to, so it counts too.
    pub(super) fn queue_max(&self) -> u64 {
        let busy = (self.ready.len() + self.openings.len()).max(1) as u64;
        let share = u64::from(self.config.send_queue_shared) / busy;
        share.max(self.config.send_queue_max.into())
    }

    /// Octets that [`Mux::write`] would take now.
    pub fn room(&self, id: StreamId) -> usize {
        let queue_max = self.queue_max();
        let room = self.streams.get(id).map_or(0, |stream| stream.credit.room(queue_max));
        usize::try_from(room).unwrap_or(usize::MAX)
    }

    /// Queues the front of `payload`, as much as credit and queue have room for, and leaves the
    /// rest in it. If anything is left, [`Event::Writable`] tells when there is room again. The
    /// octets are not copied (but see [`COPY_IN_MAX`](crate::mux::COPY_IN_MAX)).
    ///
    /// # Errors
    ///
    /// [`SendError`]; nothing was queued.
    pub fn write(&mut self, id: StreamId, payload: &mut Bytes) -> Result<(), SendError> {
        let queue_max = self.queue_max();
        let stream = self.streams.get_mut(id).ok_or(SendError::NoSuchStream)?;
        if stream.send != SendHalf::Sending {
            return Err(refusal(stream.send));
        }
        let room = usize::try_from(stream.credit.room(queue_max)).unwrap_or(usize::MAX);
        let part = payload.split_to(room.min(payload.len()));
        if payload.is_empty() {
            stream.want_no_room(&mut self.stalls);
        } else {
            stream.want_room();
        }
        if part.is_empty() {
            stream.note_stall(&mut self.stalls);
        } else {
            stream.credit.queue(part.len() as u64);
            self.stats.payload_queued += part.len() as u64;
            stream.queue_data(part);
            self.mark_ready(id);
        }
        self.check_invariants();
        Ok(())
    }

    /// Asks for [`Event::Writable`] once the stream has room: now, if
    /// it has some. Does nothing on a half that takes no more payload.
    pub fn want_room(&mut self, id: StreamId) {
        let queue_max = self.queue_max();
        let Some(stream) = self.streams.get_mut(id) else { return };
        if !matches!(stream.send, SendHalf::AwaitHead | SendHalf::Sending) {
            return;
        }
        if stream.credit.room(queue_max) == 0 {
            stream.want_room();
            stream.note_stall(&mut self.stalls);
        } else {
            stream.want_no_room(&mut self.stalls);
            self.events.push_back(Event::Writable { id });
        }
    }

    /// Ends this side's half; what is queued is sent first.
    ///
    /// # Errors
    ///
    /// [`SendError`]; nothing changed.
    pub fn finish(&mut self, id: StreamId) -> Result<(), SendError> {
        self.end_with(id, Queued::End)
    }

    /// Ends this side's half with a field block.
    ///
    /// # Errors
    ///
    /// [`SendError`]; nothing changed.
    pub fn send_trailers(&mut self, id: StreamId, block: Bytes) -> Result<(), SendError> {
        self.check_block(&block)?;
        self.end_with(id, Queued::Trailers(block))
    }

    fn end_with(&mut self, id: StreamId, last: Queued) -> Result<(), SendError> {
        let stream = self.streams.get_mut(id).ok_or(SendError::NoSuchStream)?;
        stream.send = stream.send.on(SendEvent::Finish).map_err(|_| refusal(stream.send))?;
        stream.want_no_room(&mut self.stalls);
        stream.queue.push_back(last);
        self.mark_ready(id);
        self.check_invariants();
        Ok(())
    }

    /// Aborts both halves of the stream and tells the peer. Does nothing if both have ended.
    ///
    /// [`StreamCode::REFUSED`] promises that nobody looked at the stream, so that it may be sent
    /// again: once any of an answer was queued, [`StreamCode::DROPPED`] is sent instead.
    pub fn reset(&mut self, id: StreamId, code: StreamCode) {
        let code = match self.streams.get(id) {
            Some(stream) if code == StreamCode::REFUSED && stream.has_answer(self.side) => {
                StreamCode::DROPPED
            }
            _ => code,
        };
        self.reset_if_open(id, code);
    }

    /// Returns whether either half had not ended.
    pub(super) fn reset_if_open(&mut self, id: StreamId, code: StreamCode) -> bool {
        let is_ours = id.opener() == self.side;
        let event = if is_ours { RecvEvent::Abandon } else { RecvEvent::Reset };
        let was_open = self.abort(id, code, event);
        if was_open {
            if let Some(stream) = self.streams.get_mut(id) {
                stream.slots.reset = Some(code);
            }
            self.mark_control(id);
        }
        self.remove_if_over(id);
        self.check_invariants();
        was_open
    }

    /// Tells the peer that this side wants no more of its half; nothing is told if the half has
    /// ended. What waits to be taken and what arrives from now on is thrown away: nobody is asked
    /// for it any more, and the other half of the stream goes on.
    pub fn stop(&mut self, id: StreamId, code: StreamCode) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        let unread = stream.window.held();
        stream.window.take(unread);
        let Ok(after) = stream.recv.on(RecvEvent::Stop) else { return };
        stream.recv = after;
        stream.slots.stop = Some(code);
        stream.slots.window = false;
        self.mark_control(id);
        self.check_invariants();
    }

    /// Counts `octets` of payload that the owner has passed on; their credit returns to the peer.
    pub fn take(&mut self, id: StreamId, octets: usize) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        stream.window.take(octets as u64);
        if octets > 0 {
            stream.stalled_looks = 0;
        }
        if stream.recv == crate::mux::half::RecvHalf::Receiving && stream.window.grant_is_due() {
            stream.slots.window = true;
            self.mark_control(id);
        }
        self.check_invariants();
    }

    /// Lets go of the stream: the work behind it has ended and its payload is freed.
    ///
    /// A half that has not ended is ended first: an unfinished send half resets the stream, an
    /// unread receive half is stopped; a finished send half is still sent. Only once both halves
    /// have ended may another stream be opened in its place, and a half that an opener ends so ends
    /// when the acceptor has let go of the stream as well.
    ///
    /// Returns whether the stream is forgotten. If it is not, and this side has opened it,
    /// [`Event::Forgotten`] follows once it is, unless the link ends before. No other event names
    /// it any more, except those that wait for [`Mux::poll_event`] already.
    pub fn release(&mut self, id: StreamId) -> bool {
        let Some(stream) = self.streams.get_mut(id) else { return true };
        stream.released = true;
        stream.want_no_room(&mut self.stalls);
        let unread = stream.window.held();
        stream.window.take(unread);
        if matches!(stream.send, SendHalf::AwaitHead | SendHalf::Sending) {
            self.reset(id, StreamCode::DROPPED);
        } else {
            if stream.slots.owed.is_some() {
                stream.pay();
                self.mark_control(id);
            }
            self.stop(id, StreamCode::DROPPED);
        }
        let is_forgotten = self.remove_if_over(id);
        if !is_forgotten
            && id.opener() == self.side
            && let Some(stream) = self.streams.get_mut(id)
        {
            stream.slots.forgotten = true;
        }
        self.check_invariants();
        is_forgotten
    }

    /// Stops taking streams, in two phases: the peer is told that no more are wanted; once it has
    /// certainly heard, it is told which was the last. Streams that are open go on.
    /// [`Event::Drained`] follows when the last of them has ended. That
    /// takes the peer's help, so an owner bounds the wait and then closes.
    ///
    /// Before the peer's hello it is remembered and begins with it.
    pub fn drain(&mut self, now: Instant) {
        match (&self.phase, self.drain) {
            (Phase::Open, Drain::No) => self.announce_drain(now),
            (Phase::Preface | Phase::Hello { .. }, Drain::No) => self.drain = Drain::Wanted,
            _ => {}
        }
        self.check_invariants();
    }

    /// First phase of a drain: GOAWAY for no stream in particular, and the barrier behind it.
    pub(super) fn announce_drain(&mut self, now: Instant) {
        let last = StreamId::from_wire(u32::MAX);
        let text = "draining".to_owned();
        self.slots.goaway = Some(GoAway { last, code: LinkError::CODE_DONE, text });
        let barrier = self.liveness.new_ping(now);
        self.slots.ping = Some(barrier);
        self.drain = Drain::Announced { barrier };
    }

    /// Whether this side drains the link: [`Mux::drain`] was called, or it has used up its stream
    /// numbers.
    pub fn is_draining(&self) -> bool {
        self.drain != Drain::No
    }

    /// Ends the link at once, telling the peer.
    pub fn close(&mut self) {
        self.fail(LinkError::ClosedHere);
    }

    /// Ends the link at once, because this side will not have it. The peer is told `why`, cut to
    /// 128 octets.
    pub fn refuse_link(&mut self, why: &str) {
        self.fail(LinkError::RefusedHere { why: why.into() });
    }

    /// The pipe takes no more octets, and may still have some to give: nothing is sent from now on,
    /// and no stream opened or taken. Openings that wait are refused, for they were never sent.
    ///
    /// The link goes on, so that what the peer has sent is received: answers, and why it ends the
    /// link. Its owner bounds that time, and then calls [`Mux::handle_lost`].
    pub fn handle_write_lost(&mut self) {
        self.is_mute = true;
        for id in std::mem::take(&mut self.openings) {
            self.refuse(id);
        }
        self.check_invariants();
    }

    /// The pipe has ended or failed, and `cause` says how: nothing more can be received or sent.
    pub fn handle_lost(&mut self, cause: &str) {
        // A peer that said goodbye first has closed; any other is lost.
        self.fail(match self.peer_serves {
            Some(_) => LinkError::ClosedByPeer { code: LinkError::CODE_DONE, text: "".into() },
            None => LinkError::Lost { cause: cause.into() },
        });
        self.slots.goaway = None;
        self.is_lost = true;
    }

    /// Whether [`Mux::handle_lost`] was called: there is no pipe to write to.
    pub fn is_lost(&self) -> bool {
        self.is_lost
    }
}

fn refusal(half: SendHalf) -> SendError {
    match half {
        SendHalf::AwaitHead | SendHalf::Sending => SendError::OutOfOrder,
        SendHalf::Finishing | SendHalf::Finished => SendError::Finished,
        SendHalf::Aborted(Abort::Reset(code)) => SendError::Reset(code),
        SendHalf::Aborted(Abort::Stopped(code) | Abort::Ended(code)) => SendError::Stopped(code),
    }
}
