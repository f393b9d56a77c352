//! What is sent next: link slots, openings, stream slots, then queues in turn; openings again, if
//! they have not all left with the first half of the batch.
//!
//! Everything ready is put into batches until nothing is left or the batch is full; the driver
//! sleeps only after an empty one. So a frame made ready is on its way before the driver sleeps,
//! and no timer is needed on the write path.

use std::time::Instant;

use super::{Drain, Mux, Phase};
use crate::mux::batch::{Batch, Level};
use crate::mux::event::Event;
use crate::mux::frame::{Flags, Header, Kind, StreamId};
use crate::mux::half::{RecvHalf, SendEvent};
use crate::mux::schedule::QUANTUM;
use crate::mux::stream::{Queued, Stream};

impl Mux {
    /// Adds to `batch` what is ready to be sent, until it is full. A `batch` that is empty behind
    /// it means that nothing is ready. [`Mux::poll_event`] may have events afterwards.
    pub fn poll_transmit(&mut self, now: Instant, batch: &mut Batch) {
        if self.is_mute {
            return;
        }
        self.link_slots(batch);
        if matches!(self.phase, Phase::Open) {
            if self.drain == Drain::Wanted {
                self.announce_drain(now);
            }
            if !self.openings.is_empty() {
                self.send_first_openings(batch);
            }
            self.send_control(now, batch);
            self.send_queues(batch);
            self.send_openings(batch, Level::FULL);
            // Control that became ready by what was just sent, e.g. the RESET behind an opening.
            self.send_control(now, batch);
            // Link slots that became due by it, e.g. STREAMS behind a stream's last frame: the
            // batch may be empty otherwise, and the driver would sleep on them.
            self.link_slots(batch);
        }
        self.stalls.pass(now);
        self.check_invariants();
    }

    fn link_slots(&mut self, batch: &mut Batch) {
        // Else a peer that asks and does not read would lengthen a batch that waits for the pipe.
        if batch.is_full() {
            return;
        }
        if let Some(preface) = self.slots.preface.take() {
            batch.copy(&preface);
        }
        if let Some(goaway) = self.slots.goaway.take() {
            let mut payload = Vec::with_capacity(8 + goaway.text.len());
            payload.extend_from_slice(&goaway.last.number().to_be_bytes());
            payload.extend_from_slice(&goaway.code.to_be_bytes());
            payload.extend_from_slice(goaway.text.as_bytes());
            control(batch, Kind::GoAway, StreamId::LINK, &payload);
        }
        // After a GOAWAY the PING is a barrier: every stream opened before the GOAWAY was heard
        // must arrive before its PONG, or it would be refused. None is opened any more, so this
        // ends.
        let is_held = self.peer_serves.is_some() && !self.openings.is_empty();
        if let Some(octets) = self.slots.pong.take_if(|_| !is_held) {
            control(batch, Kind::Pong, StreamId::LINK, &octets);
        }
        if let Some(number) = self.slots.ping.take() {
            control(batch, Kind::Ping, StreamId::LINK, &number.to_be_bytes());
        }
        if std::mem::take(&mut self.slots.streams) {
            self.granted = self.acceptable_total();
            control(batch, Kind::Streams, StreamId::LINK, &self.granted.to_be_bytes());
        }
    }

    /// Sends the openings that go before whatever else is ready. They may come as fast as the pipe
    /// takes them, and credit, resets and payload are to leave all the same: so they get half of
    /// what the batch has room for. Where one alone fills it, they come last in the next.
    fn send_first_openings(&mut self, batch: &mut Batch) {
        if batch.is_full() || std::mem::take(&mut self.is_turn_of_others) {
            return;
        }
        self.send_openings(batch, batch.half_way());
        self.is_turn_of_others = batch.is_full();
    }

    fn send_openings(&mut self, batch: &mut Batch, level: Level) {
        while !self.openings.is_empty() && !batch.is_at(level) {
            let Some(id) = self.openings.pop_front() else { return };
            let Some(stream) = self.streams.get_mut(id) else { continue };
            let Some(head) = stream.opening.take() else { continue };
            let end = take_end(stream);
            let flags = Flags::OPEN.with(Flags::end_if(end));
            frame(batch, Kind::Head, flags, id, head);
            self.mark_control(id);
            self.mark_ready(id);
            self.remove_if_over(id);
        }
    }

    fn send_control(&mut self, now: Instant, batch: &mut Batch) {
        let path = self.liveness.path(now);
        while !batch.is_full() {
            let Some(id) = self.control.pop_front() else { return };
            let Some(stream) = self.streams.get_mut(id) else { continue };
            stream.in_control = false;
            if let Some(code) = stream.slots.reset.take() {
                control(batch, Kind::Reset, id, &code.0.to_be_bytes());
            }
            if let Some(code) = stream.slots.stop.take()
                && stream.recv == RecvHalf::Stopping
            {
                control(batch, Kind::Stop, id, &code.0.to_be_bytes());
            }
            if std::mem::take(&mut stream.slots.end) {
                stream.send = stream.send.on(SendEvent::EndSent).unwrap_or(stream.send);
                batch.copy(&Header::encode(Kind::Data, Flags::END, id, 0));
            }
            if std::mem::take(&mut stream.slots.window)
                && stream.recv == RecvHalf::Receiving
                && let Some(limit) = stream.window.grant(now, path, &mut self.pool)
            {
                control(batch, Kind::Window, id, &limit.to_be_bytes());
                self.refresh_round_trip(now);
            }
            self.remove_if_over(id);
        }
    }

    fn send_queues(&mut self, batch: &mut Batch) {
        let payload_max = self.peer.as_ref().map_or(0, |peer| peer.payload_max as usize);
        while !batch.is_full() {
            let Some((class, id)) = self.ready.pop() else { return };
            let Some(stream) = self.streams.get_mut(id) else { continue };
            stream.in_ready = false;
            let before = batch.len();
            let sent = send_turn(stream, payload_max, batch);
            self.stats.payload_sent += sent;
            self.stats.payload_queued -= sent;
            self.ready.sent(class, (batch.len() - before) as u64);
            self.mark_ready(id);
            self.tell_of_room(id);
            self.remove_if_over(id);
        }
    }

    fn tell_of_room(&mut self, id: StreamId) {
        let queue_max = self.queue_max();
        let Some(stream) = self.streams.get_mut(id) else { return };
        if !stream.wants_room() {
            return;
        }
        if has_worthwhile_room(stream, queue_max) {
            stream.want_no_room(&mut self.stalls);
            self.events.push_back(Event::Writable { id });
        } else {
            stream.note_stall(&mut self.stalls);
        }
    }
}

/// Whether a waiting writer should be woken: not for every few octets, but always when its queue
/// has run empty.
fn has_worthwhile_room(stream: &Stream, queue_max: u64) -> bool {
    let room = stream.credit.room(queue_max);
    room > 0 && (stream.credit.queued() == 0 || room >= queue_max / 2)
}

/// Sends what one turn allows from the front of the stream's queue. Returns the payload octets
/// sent.
fn send_turn(stream: &mut Stream, payload_max: usize, batch: &mut Batch) -> u64 {
    stream.deficit += QUANTUM;
    let mut sent = 0;
    while !batch.is_full() {
        let Some(cost) = front_cost(stream, payload_max) else {
            // What a stream does not use while it has nothing to send is not saved up.
            stream.deficit = 0;
            break;
        };
        if stream.deficit < cost {
            break;
        }
        let payload = send_one(stream, payload_max, batch);
        // A frame for which the batch had few slices left is shorter than it was to be.
        stream.deficit -= if payload > 0 { payload } else { cost };
        sent += payload;
    }
    sent
}

/// Octets of the frame that the stream would send next.
fn front_cost(stream: &Stream, payload_max: usize) -> Option<u64> {
    Some(match stream.queue.front()? {
        Queued::Interim(block) | Queued::Head(block) | Queued::Trailers(block) => {
            block.len() as u64
        }
        Queued::Data(_) => stream.credit.queued().min(payload_max as u64),
        Queued::End => 0,
    })
}

/// Sends one frame from the front of the stream's queue. Returns the payload octets sent.
fn send_one(stream: &mut Stream, payload_max: usize, batch: &mut Batch) -> u64 {
    let id = stream.id;
    match stream.queue.pop_front() {
        None => 0,
        Some(Queued::Interim(block)) => {
            frame(batch, Kind::Head, Flags::INFORMATIONAL, id, block);
            0
        }
        Some(Queued::Head(block)) => {
            let end = take_end(stream);
            frame(batch, Kind::Head, Flags::end_if(end), id, block);
            0
        }
        Some(Queued::Trailers(block)) => {
            end_was_sent(stream);
            frame(batch, Kind::Trailers, Flags::NONE, id, block);
            0
        }
        Some(Queued::End) => {
            end_was_sent(stream);
            batch.copy(&Header::encode(Kind::Data, Flags::END, id, 0));
            0
        }
        Some(Queued::Data(data)) => {
            stream.queue.push_front(Queued::Data(data));
            send_data(stream, payload_max, batch)
        }
    }
}

/// Sends one DATA frame gathered from as many queued payloads as fit in it.
fn send_data(stream: &mut Stream, payload_max: usize, batch: &mut Batch) -> u64 {
    let mut len = 0;
    let mut whole = 0;
    let slices = batch.slices_left().saturating_sub(1).max(1);
    for queued in stream.queue.iter().take(slices) {
        let Queued::Data(data) = queued else { break };
        len += data.len();
        whole += 1;
        if len >= payload_max {
            break;
        }
    }
    let excess = len.saturating_sub(payload_max);
    let len = len - excess;
    let end = excess == 0 && matches!(stream.queue.get(whole), Some(Queued::End));
    // At most 65,528, which the peer's hello was judged by.
    let wire_len = u32::try_from(len).unwrap_or(u32::MAX);
    batch.copy(&Header::encode(Kind::Data, Flags::end_if(end), stream.id, wire_len));

    let mut left = len;
    while left > 0 {
        let Some(Queued::Data(mut data)) = stream.queue.pop_front() else { break };
        if data.len() > left {
            let part = data.split_to(left);
            stream.queue.push_front(Queued::Data(data));
            data = part;
        }
        left -= data.len();
        batch.payload(data);
    }
    stream.credit.send(len as u64);
    if end {
        stream.queue.pop_front();
        end_was_sent(stream);
    }
    len as u64
}

/// Folds a queued end into the frame about to be sent.
fn take_end(stream: &mut Stream) -> bool {
    if !matches!(stream.queue.front(), Some(Queued::End)) {
        return false;
    }
    stream.queue.pop_front();
    end_was_sent(stream);
    true
}

fn end_was_sent(stream: &mut Stream) {
    stream.send = stream.send.on(SendEvent::EndSent).unwrap_or(stream.send);
}

fn control(batch: &mut Batch, kind: Kind, id: StreamId, payload: &[u8]) {
    // Control payloads have fixed lengths of at most 136 octets.
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    batch.copy(&Header::encode(kind, Flags::NONE, id, len));
    batch.copy(payload);
}

fn frame(batch: &mut Batch, kind: Kind, flags: Flags, id: StreamId, block: bytes::Bytes) {
    // A head block was checked against the peer's limit, at most 65,528, when it was queued.
    let len = u32::try_from(block.len()).unwrap_or(u32::MAX);
    batch.copy(&Header::encode(kind, flags, id, len));
    batch.payload(block);
}
