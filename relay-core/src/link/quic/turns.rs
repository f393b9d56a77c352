//! From the connection: streams that have something to do, new ones, the control stream, the end.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::{Connection, ConnectionError, RecvStream as QuicRecv, SendStream as QuicSend};

use super::super::cell::{Cell, State};
use super::super::sync::Ordering;
use super::control::Word;
use super::stream::Stream;
use super::{
    Bytes, Control, Drain, Hello, Incoming, LinkError, Progress, QuicDriver, RecvStream,
    SendStream, Side, Stage, StreamId, What, codes,
};

/// The next stream that either side opens.
pub(super) type Opening =
    Pin<Box<dyn Future<Output = Result<(QuicSend, QuicRecv), ConnectionError>> + Send>>;

/// The next stream of this side's.
pub(super) fn open(connection: &Connection) -> Opening {
    let connection = connection.clone();
    Box::pin(async move { connection.open_bi().await })
}

/// The next stream of the peer's.
pub(super) fn accept(connection: &Connection) -> Opening {
    let connection = connection.clone();
    Box::pin(async move { connection.accept_bi().await })
}

impl QuicDriver {
    /// Looks at whatever is ready.
    pub(super) fn take_turns(&mut self) -> Progress {
        let mut due = std::mem::take(&mut self.due);
        self.ready.take(&mut due);
        let progress = !due.is_empty();
        for source in due.drain(..) {
            source.take_off();
            match source.what {
                _ if self.ending.is_some() => {}
                What::Stream(id) => self.turn(id),
                What::Open => self.open_spare(),
                What::Accept => self.accept(),
                What::Control => self.attend_control(),
                What::End => self.look_at_end(),
            }
        }
        self.due = due;
        progress
    }

    /// Gives one stream its turn.
    pub(super) fn turn(&mut self, id: StreamId) {
        let Some((mut stream, waker)) = self.streams.remove(&id) else { return };
        match stream.turn(&mut self.desk()) {
            Ok(turned) => {
                if let Some(head) = turned.opened {
                    self.hand_over(&mut stream, head);
                    // What came behind the head, and what the acceptor does with it.
                    waker.wake_by_ref();
                }
                if !turned.is_over {
                    self.streams.insert(id, (stream, waker));
                } else if stream.is_ours() {
                    self.ours_open -= 1;
                    self.await_release(&stream);
                    // Streams that are opened ahead keep the memory they were opened on.
                    if self.places_taken() < self.openable() {
                        self.admission.note_ended(self.ours_open);
                    }
                    self.wakers_of.open.wake_by_ref();
                } else {
                    self.admission.end();
                    self.tell_released(id);
                }
            }
            Err(why) => {
                self.streams.insert(id, (stream, waker));
                self.fail(why);
            }
        }
    }

    /// Gives a stream of the peer's to whoever accepts.
    fn hand_over(&mut self, stream: &mut Stream, head: Bytes) {
        let id = stream.id;
        let room = self.config.send_queue_max as usize;
        let state = State { id: Some(id), room, ..State::default() };
        let cell = Cell::new(state);
        stream.give_cell(Arc::clone(&cell));
        stream.publish(&mut self.desk());
        let send = SendStream::new(Arc::clone(&cell), Arc::clone(&self.shared), false);
        let recv = RecvStream::new(cell, Arc::clone(&self.shared));
        // The channel has a place for every stream the peer may open; if nobody accepts any more,
        // dropping the handles resets the stream.
        if let Some(acceptor) = &self.incoming {
            let _ = acceptor.try_send(Incoming { id, head, send, recv });
        }
    }

    /// Opens what QUIC lets this side open, ahead of whoever wants it: only so is known how many
    /// that are. The peer hears of none before it is used.
    fn open_spare(&mut self) {
        let is_open = self.peer.is_some() && !self.peer_drains && self.drain == Drain::No;
        let waker = self.wakers_of.open.clone();
        let mut cx = Context::from_waker(&waker);
        // The dialer's first stream is the control stream.
        let mut is_control = self.control.is_none() && self.side == Side::Dialer;
        while is_control || (is_open && self.places_taken() < self.openable()) {
            let Poll::Ready(opened) = self.opening.as_mut().poll(&mut cx) else { return };
            self.opening = open(&self.connection);
            // The connection has ended, which is told elsewhere.
            let Ok(halves) = opened else { return };
            if is_control {
                is_control = false;
                self.begin_control(halves);
                continue;
            }
            self.spare.push_back(halves);
            self.shared.openable.add_permits(1);
        }
    }

    /// Places of streams that this side opens: in use, ready for use, and of those over here whose
    /// end the peer has not told.
    fn places_taken(&self) -> usize {
        self.ours_open + self.spare.len() + self.awaited.len()
    }

    fn openable(&self) -> usize {
        self.admission.openable()
    }

    /// Takes the streams that the peer has opened; none before its hello.
    fn accept(&mut self) {
        let waker = self.wakers_of.accept.clone();
        let mut cx = Context::from_waker(&waker);
        while self.ending.is_none() {
            let is_control = self.control.is_none() && self.side == Side::Listener;
            if !is_control && self.peer.is_none() {
                return;
            }
            let Poll::Ready(opened) = self.accepting.as_mut().poll(&mut cx) else { return };
            self.accepting = accept(&self.connection);
            let Ok(halves) = opened else { return };
            if is_control {
                self.begin_control(halves);
                continue;
            }
            if self.drain == Drain::Last(self.accepted) {
                return self.fail(LinkError::Control { what: "a stream above its last" });
            }
            let index = u32::try_from(self.accepted).ok();
            let Some(id) = index.and_then(|index| StreamId::nth(self.side.peer(), index)) else {
                return self.fail(LinkError::Abuse { what: "streams" });
            };
            self.accepted += 1;
            self.admission.accept();
            let waker = self.ready.waker(What::Stream(id));
            let stream = Stream::accepted(id, halves, waker.clone(), self.config.head_max);
            self.streams.insert(id, (stream, waker));
        }
    }

    fn begin_control(&mut self, halves: (QuicSend, QuicRecv)) {
        let hello = Hello::of(&self.config);
        self.control = Some(Control::new(self.side, &hello, halves));
        self.wakers_of.control.wake_by_ref();
    }

    fn attend_control(&mut self) {
        let waker = self.wakers_of.control.clone();
        let mut cx = Context::from_waker(&waker);
        loop {
            let Some(control) = &mut self.control else { return };
            control.poll_write(&mut cx);
            let heard = match control.poll_word(&mut cx) {
                Poll::Pending => return,
                Poll::Ready(heard) => heard,
            };
            if let Err(why) = heard.and_then(|word| self.on_word(word)) {
                return self.fail(why);
            }
        }
    }

    fn on_word(&mut self, word: Word) -> Result<(), LinkError> {
        match word {
            Word::Hello(hello) => self.on_hello(*hello),
            Word::Drain if self.peer_drains => {
                return Err(LinkError::Control { what: "a second drain" });
            }
            Word::Drain => {
                self.peer_drains = true;
                self.set_draining();
                // Whoever took a permit before comes too late: it may be sent on another link.
                let opened = self.opened;
                if let Some(control) = &mut self.control {
                    control.say_last(opened);
                }
            }
            Word::Last(opened) if self.drain == Drain::Said && opened >= self.accepted => {
                self.drain = Drain::Last(opened);
            }
            Word::Ask(exchange) => return self.on_ask(exchange),
            Word::Released(exchange) => return self.on_released(exchange),
            Word::Last(_) => {
                return Err(LinkError::Control { what: "a count that nobody asked for" });
            }
        }
        Ok(())
    }

    fn on_hello(&mut self, hello: Hello) {
        let hello = Arc::new(hello);
        self.peer = Some(Arc::clone(&hello));
        let room = self.config.send_queue_max as usize;
        self.shared.initial_room.store(room, Ordering::Release);
        self.shared.stage.send_replace(Stage::Up(hello));
        self.await_next_look();
        self.begin_drain();
        self.wakers_of.open.wake_by_ref();
        self.wakers_of.accept.wake_by_ref();
    }

    fn look_at_end(&mut self) {
        let mut cx = Context::from_waker(&self.wakers_of.end);
        if let Poll::Ready(why) = self.end.as_mut().poll(&mut cx) {
            self.fail(codes::ended_by(&why));
        }
    }

    pub(super) fn look_at_consumers(&mut self) {
        for id in self.streams.keys().copied().collect::<Vec<_>>() {
            let Some((mut stream, waker)) = self.streams.remove(&id) else { continue };
            stream.look_at_consumer(&mut self.desk());
            self.streams.insert(id, (stream, waker));
        }
    }
}
