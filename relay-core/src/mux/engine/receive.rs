//! What the peer sent: judged frame by frame against the state of the link and its streams.

use std::time::Instant;

use bytes::{Buf as _, Bytes, BytesMut};

use super::{Drain, Mux, Phase, code, number};
use crate::mux::budget::{SMALL_DATA, Work};
use crate::mux::decode::Item;
use crate::mux::error::{LinkError, StreamCode};
use crate::mux::event::Event;
use crate::mux::frame::{Flags, Kind, StreamId};
use crate::mux::half::{RecvEvent, RecvHalf, SendEvent};
use crate::mux::hello::{Hello, PREFACE_LEN, Preface};
use crate::mux::stream::{LastWord, Stream};

/// Interim heads before the final one. More than any real answer has.
pub(super) const INTERIM_HEADS_MAX: u8 = 8;

/// GOAWAYs on one link. A drain and a close need three; each costs a look at every stream.
const GOAWAYS_MAX: u8 = 8;

impl Mux {
    /// Takes every whole frame, and every part of a DATA frame, from the front of `input`.
    ///
    /// What is left in `input` must be there again, with more behind it, at the next call. The
    /// events hold at most what `input` held, so an owner that drains [`Mux::poll_event`] between
    /// calls bounds their memory.
    ///
    /// # Errors
    ///
    /// [`LinkError`]: the link has ended. A GOAWAY that says why is ready to be sent.
    pub fn handle_input(&mut self, now: Instant, input: &mut BytesMut) -> Result<(), LinkError> {
        self.stalls.pass(now);
        let outcome = self.take_input(now, input);
        if let Err(error) = &outcome {
            self.fail(error.clone());
            input.clear();
        }
        self.check_invariants();
        outcome
    }

    fn take_input(&mut self, now: Instant, input: &mut BytesMut) -> Result<(), LinkError> {
        if let Phase::Closed(error) = &self.phase {
            return Err(error.clone());
        }
        if !input.is_empty() {
            self.liveness.heard(now);
        }
        if !matches!(self.phase, Phase::Open) && !self.take_hello(now, input)? {
            return Ok(());
        }
        while let Some(item) = self.decoder.next(input)? {
            match item {
                Item::Data { stream, payload, end, header } => {
                    if header.is_some_and(|frame| !frame.end && frame.payload_len < SMALL_DATA) {
                        self.spend(Work::SmallData)?;
                    }
                    self.on_data(stream, payload, end, header.is_some())?;
                }
                Item::Frame { kind, flags, stream, payload } => {
                    self.on_frame(kind, flags, stream, payload, now)?;
                }
                Item::Skipped { first: true, .. } => self.spend(Work::Skipped)?,
                Item::Skipped { .. } => {}
            }
        }
        Ok(())
    }

    /// Takes preface and hello; `false` while they are not whole.
    fn take_hello(&mut self, now: Instant, input: &mut BytesMut) -> Result<bool, LinkError> {
        if matches!(self.phase, Phase::Preface) {
            // Judged octet by octet, so that a peer that speaks something else is refused by what
            // it has sent, not left waiting for octets it will never send.
            let shared = input.len().min(crate::mux::hello::MAGIC.len());
            if input[..shared] != crate::mux::hello::MAGIC[..shared] {
                return Err(crate::mux::error::HelloError::BadMagic.into());
            }
            let Some(raw) = input.first_chunk::<PREFACE_LEN>() else { return Ok(false) };
            let preface = Preface::decode(raw, self.side)?;
            input.advance(PREFACE_LEN);
            self.phase = Phase::Hello { len: preface.hello_len as usize };
        }
        if let Phase::Hello { len } = self.phase {
            if input.len() < len {
                return Ok(false);
            }
            let hello = Box::new(Hello::decode(&input.split_to(len))?);
            self.openable_by_peer = u64::from(hello.streams);
            self.peer = Some(hello.clone());
            self.phase = Phase::Open;
            self.events.push_back(Event::Established(hello));
            self.slots.ping = Some(self.liveness.new_ping(now));
            if self.drain == Drain::Wanted {
                self.announce_drain(now);
            }
        }
        Ok(true)
    }

    fn on_frame(
        &mut self,
        kind: Kind,
        flags: Flags,
        id: StreamId,
        payload: Bytes,
        now: Instant,
    ) -> Result<(), LinkError> {
        if matches!(kind, Kind::Reset | Kind::Stop | Kind::Window | Kind::Streams | Kind::Pong) {
            self.spend(Work::Control)?;
        }
        match kind {
            Kind::Head if flags.contains(Flags::OPEN) => self.on_open(id, payload, flags),
            Kind::Head => self.on_head(id, payload, flags),
            Kind::Trailers => self.on_trailers(id, payload),
            Kind::Reset => self.on_reset(id, code(&payload)),
            Kind::Stop => self.on_stop(id, code(&payload)),
            Kind::Window => self.on_window(id, number(&payload)),
            Kind::Streams => self.on_streams(number(&payload)),
            Kind::Ping => {
                self.spend(Work::Ping)?;
                self.slots.pong = payload.first_chunk::<8>().copied();
                self.lease_floors();
                Ok(())
            }
            Kind::Pong => {
                self.on_pong(number(&payload), now);
                Ok(())
            }
            Kind::GoAway => self.on_goaway(payload),
            // The decoder hands these on as items of their own.
            Kind::Data | Kind::Pad => Ok(()),
        }
    }

    /// The stream a frame names; `None` if it has ended, which is no error: the frame and the end
    /// crossed on the way.
    fn stream(&mut self, kind: Kind, id: StreamId) -> Result<Option<&mut Stream>, LinkError> {
        // The second look-up is what the borrow checker needs to see.
        if let Some(stream) = self.streams.get(id) {
            if stream.opening.is_some() {
                // The peer cannot know of it yet: taken for an answer, this would be a forgery.
                return Err(LinkError::NotOpen { kind, stream: id });
            }
            return Ok(self.streams.get_mut(id));
        }
        let known = if id.opener() == self.side { self.opened } else { self.accepted };
        let next = StreamId::nth(id.opener(), known);
        if next.is_some_and(|next| id >= next) {
            return Err(LinkError::NotOpen { kind, stream: id });
        }
        self.stats.late_frames += 1;
        self.spend(Work::LateFrame)?;
        Ok(None)
    }

    /// Takes a token from the peer's budget for `work`.
    fn spend(&mut self, work: Work) -> Result<(), LinkError> {
        let now = self.liveness.heard_at();
        if work == Work::Control {
            self.budgets.payload_moved(self.stats.payload_sent + self.stats.payload_received);
        }
        self.budgets.spend(work, now).map_err(|what| LinkError::Abuse { what })
    }

    fn on_open(&mut self, id: StreamId, head: Bytes, flags: Flags) -> Result<(), LinkError> {
        if StreamId::nth(self.side.peer(), self.accepted) != Some(id) {
            return Err(LinkError::NotOpen { kind: Kind::Head, stream: id });
        }
        if u64::from(self.accepted) >= self.granted {
            return Err(LinkError::TooManyStreams { stream: id, granted: self.granted });
        }
        let credit = self.peer.as_ref().map_or(0, |peer| peer.stream_window);
        let queue = self.streams.queue();
        let floor = u64::from(self.config.stream_window);
        let mut stream = Stream::new(id, None, floor, credit.into(), queue);
        let end = flags.contains(Flags::END);
        if end {
            stream.recv = RecvHalf::Ended;
        }
        self.accepted += 1;
        self.streams.insert(stream);
        // What was held back while the peer had plenty may be worth announcing now.
        self.announce_streams();
        self.lease_floors();
        // Nobody could hear the answer: it is not looked at, as behind the end of a drain.
        if self.is_mute || matches!(self.drain, Drain::Final { last, .. } if id > last) {
            self.abort(id, StreamCode::REFUSED, RecvEvent::Reset);
            if let Some(stream) = self.streams.get_mut(id) {
                stream.released = true;
                stream.slots.reset = Some(StreamCode::REFUSED);
            }
            self.mark_control(id);
            return Ok(());
        }
        self.events.push_back(Event::Opened { id, head, end });
        Ok(())
    }

    fn on_head(&mut self, id: StreamId, block: Bytes, flags: Flags) -> Result<(), LinkError> {
        let refused = LinkError::StreamState { kind: Kind::Head, stream: id };
        let Some(stream) = self.stream(Kind::Head, id)? else { return Ok(()) };
        stream.heads.note();
        let interim = flags.contains(Flags::INFORMATIONAL);
        let end = flags.contains(Flags::END);
        if stream.recv.is_reset() {
            // Nobody looks at them, in whatever order they come.
            if stream.heads.count() > INTERIM_HEADS_MAX + 1 {
                return Err(LinkError::Abuse { what: "heads" });
            }
            self.on_last_word(id, end);
            return Ok(());
        }
        if interim && stream.heads.count() > INTERIM_HEADS_MAX {
            return Err(LinkError::Abuse { what: "interim heads" });
        }
        let unwanted = stream.recv == RecvHalf::Stopping;
        let event = if interim { RecvEvent::Interim } else { RecvEvent::Head };
        let mut after = stream.recv.on(event).map_err(|_| refused.clone())?;
        if end {
            after = after.on(RecvEvent::End).map_err(|_| refused)?;
        }
        stream.recv = after;
        if !unwanted {
            self.events.push_back(Event::Head { id, block, interim, end });
        }
        self.remove_if_over(id);
        Ok(())
    }

    fn on_data(
        &mut self,
        id: StreamId,
        payload: Bytes,
        end: bool,
        first: bool,
    ) -> Result<(), LinkError> {
        let octets = payload.len() as u64;
        let refused = LinkError::StreamState { kind: Kind::Data, stream: id };
        if !first && self.streams.get(id).is_none() {
            // Counted with its first part, however the pipe has split it.
            return Ok(());
        }
        let Some(stream) = self.stream(Kind::Data, id)? else { return Ok(()) };
        if !stream.window.receive(octets) {
            return Err(LinkError::FlowControl { stream: id });
        }
        if stream.recv.is_reset() {
            stream.window.take(octets);
            self.on_last_word(id, end);
            return Ok(());
        }
        let unwanted = stream.recv == RecvHalf::Stopping;
        if octets > 0 {
            stream.recv = stream.recv.on(RecvEvent::Data).map_err(|_| refused.clone())?;
        }
        if end {
            stream.recv = stream.recv.on(RecvEvent::End).map_err(|_| refused)?;
        }
        if unwanted {
            stream.window.take(octets);
        } else {
            self.events.push_back(Event::Data { id, payload, end });
            self.stats.payload_received += octets;
            self.expect_consumer();
        }
        if end {
            self.remove_if_over(id);
        }
        Ok(())
    }

    fn on_trailers(&mut self, id: StreamId, block: Bytes) -> Result<(), LinkError> {
        let refused = LinkError::StreamState { kind: Kind::Trailers, stream: id };
        let Some(stream) = self.stream(Kind::Trailers, id)? else { return Ok(()) };
        if stream.recv.is_reset() {
            self.on_last_word(id, true);
            return Ok(());
        }
        let unwanted = stream.recv == RecvHalf::Stopping;
        stream.recv = stream.recv.on(RecvEvent::End).map_err(|_| refused)?;
        if !unwanted {
            self.events.push_back(Event::Trailers { id, block });
        }
        self.remove_if_over(id);
        Ok(())
    }

    fn on_reset(&mut self, id: StreamId, code: StreamCode) -> Result<(), LinkError> {
        let is_ours = id.opener() == self.side;
        let Some(stream) = self.stream(Kind::Reset, id)? else { return Ok(()) };
        if stream.owes_reset() {
            return Ok(());
        }
        let is_heard = stream.is_heard();
        let code = match code {
            // A peer that has begun to answer has looked at it, whatever it says.
            StreamCode::REFUSED if is_ours && stream.is_answered() => StreamCode::DROPPED,
            code => code,
        };
        // A RESET or END of ours that has not left yet would tell the peer what it has told us.
        let is_answer_due = stream.take_back_end() && !is_ours;
        let is_news = self.abort(id, code, RecvEvent::Reset);
        if is_news && is_heard {
            self.events.push_back(Event::Reset { id, code });
        }
        if is_news || is_answer_due {
            self.budgets.half_ended();
        }
        if let Some(stream) = self.streams.get_mut(id).filter(|_| is_answer_due) {
            stream.owe(LastWord::Reset);
            self.mark_control(id);
        }
        self.remove_if_over(id);
        Ok(())
    }

    /// The end of a half, if `is_end`, on a stream that was reset: where this side has reset the
    /// stream it had opened, the acceptor has let go of it.
    fn on_last_word(&mut self, id: StreamId, is_end: bool) {
        let Some(stream) = self.streams.get_mut(id).filter(|_| is_end) else { return };
        stream.recv = stream.recv.on(RecvEvent::End).unwrap_or(stream.recv);
        self.remove_if_over(id);
    }

    fn on_stop(&mut self, id: StreamId, code: StreamCode) -> Result<(), LinkError> {
        let is_ours = id.opener() == self.side;
        let Some(stream) = self.stream(Kind::Stop, id)? else { return Ok(()) };
        let Ok(after) = stream.send.on(SendEvent::Stop(code)) else { return Ok(()) };
        stream.send = after;
        let is_heard = !stream.released;
        if is_ours {
            // At once: the acceptor forgets the stream when it has this.
            stream.slots.end = true;
        } else {
            stream.owe(LastWord::End);
        }
        self.clear_queue(id);
        self.mark_control(id);
        self.budgets.half_ended();
        if is_heard {
            self.events.push_back(Event::Stopped { id, code });
        }
        Ok(())
    }

    fn on_window(&mut self, id: StreamId, limit: u64) -> Result<(), LinkError> {
        let queue_max = self.queue_max();
        let Some(stream) = self.stream(Kind::Window, id)? else { return Ok(()) };
        let grants_nothing = limit == stream.credit.limit();
        if !stream.credit.raise(limit) {
            return Err(LinkError::CreditDecreased { kind: Kind::Window, stream: id });
        }
        let is_awaited = stream.wants_room() && stream.credit.room(queue_max) > 0;
        if is_awaited && let Some(stream) = self.streams.get_mut(id) {
            stream.want_no_room(&mut self.stalls);
            self.events.push_back(Event::Writable { id });
        }
        if grants_nothing {
            self.spend(Work::EmptyGrant)?;
        }
        Ok(())
    }

    fn on_streams(&mut self, total: u64) -> Result<(), LinkError> {
        if total < self.openable_by_peer {
            let stream = StreamId::LINK;
            return Err(LinkError::CreditDecreased { kind: Kind::Streams, stream });
        }
        if total == self.openable_by_peer {
            return self.spend(Work::EmptyGrant);
        }
        let before = self.openable_total();
        self.openable_by_peer = total;
        if self.openable_total() > before {
            self.events.push_back(Event::Openable);
        }
        Ok(())
    }

    fn on_goaway(&mut self, mut payload: Bytes) -> Result<(), LinkError> {
        self.goaways += 1;
        if self.goaways > GOAWAYS_MAX {
            return Err(LinkError::Abuse { what: "GOAWAY frames" });
        }
        let (last, code) = (StreamId::from_wire(payload.get_u32()), payload.get_u32());
        if code != LinkError::CODE_DONE {
            self.refuse_streams_above(last);
            let text = String::from_utf8_lossy(&payload).replace(char::is_control, "?");
            return Err(LinkError::ended_by_peer(code, text.into()));
        }
        if self.peer_serves.is_some_and(|before| last > before) {
            return Err(LinkError::StreamState { kind: Kind::GoAway, stream: StreamId::LINK });
        }
        // A peer that disowns a stream it has answered would have a request sent twice.
        let disowned = self.streams_above(last).find(|stream| stream.is_answered());
        if let Some(stream) = disowned {
            return Err(LinkError::StreamState { kind: Kind::GoAway, stream: stream.id });
        }
        if self.peer_serves.is_none() {
            self.events.push_back(Event::GoingAway { code });
        }
        self.peer_serves = Some(last);
        self.refuse_streams_above(last);
        Ok(())
    }

    /// Streams of this side above `last`.
    fn streams_above(&self, last: StreamId) -> impl Iterator<Item = &Stream> {
        self.streams.iter().filter(move |stream| stream.is_ours(self.side) && stream.id > last)
    }

    /// The peer will never look at streams of this side above `last`.
    fn refuse_streams_above(&mut self, last: StreamId) {
        let unseen = self.streams_above(last).filter(|stream| !stream.is_answered());
        let unseen: Vec<StreamId> = unseen.map(|stream| stream.id).collect();
        self.openings.retain(|id| *id <= last);
        for id in unseen {
            self.refuse(id);
        }
    }
}
