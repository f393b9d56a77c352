//! What the model says to the events of an engine, and to its state at rest.

use super::end::End;
use super::view::{Block, Receiving, Sending, View, payload};
use crate::mux::{Event, StreamCode, StreamId};

impl End {
    /// Takes every event, and judges it while the model predicts.
    pub(super) fn tell_events(&mut self, peer: &Self) {
        while let Some(event) = self.mux.poll_event() {
            if self.predicted {
                self.judge(peer, event);
            } else {
                self.note(&event);
            }
        }
    }

    /// What must be known even of a link whose peer is hostile: which streams there are, and how
    /// much memory they hold.
    fn note(&mut self, event: &Event) {
        match event {
            Event::Opened { id, .. } => {
                self.views.insert(*id, View::new(*id, false));
            }
            Event::Data { id, payload, .. } => {
                let Some(view) = self.views.get_mut(id) else { return };
                view.read += payload.len() as u64;
            }
            _ => {}
        }
    }

    fn judge(&mut self, peer: &Self, event: Event) {
        let released = named(&event).and_then(|id| self.views.get(&id)).is_some_and(|v| v.released);
        assert!(!released, "{:?} hears {event:?} of a stream it let go of", self.side);
        match event {
            Event::Established(hello) => {
                assert_eq!(hello.stream_window, peer.config.stream_window);
                assert_eq!(hello.streams, peer.config.accept_streams_max);
            }
            Event::Opened { id, head, end } => self.on_opened(peer, id, &head, end),
            Event::Head { id, block, interim, end } => {
                let block = Block { octets: block.into(), interim };
                self.on_head(peer, id, &block, end);
            }
            Event::Data { id, payload, end } => self.on_data(peer, id, &payload, end),
            Event::Trailers { id, block } => {
                let (view, other) = self.reading(peer, id);
                assert_eq!(other.trailers.as_deref(), Some(&block[..]), "trailers of {id}");
                assert_eq!(view.read, other.written, "trailers of {id} before its payload");
                view.end_is_told();
            }
            Event::Reset { id, code } => self.on_reset(peer, id, code),
            Event::Stopped { id, code } => self.on_stopped(peer, id, code),
            Event::Writable { id } => {
                let view = self.views.get_mut(&id).expect("only known streams become writable");
                assert!(view.wants_room, "nobody waits to write on {id}");
                view.wants_room = false;
                let open = matches!(view.send, Sending::AwaitHead | Sending::Open);
                assert!(open, "{id} is called writable and is {:?}", view.send);
                assert!(self.mux.room(id) > 0, "{id} is called writable and is not");
            }
            Event::Openable => {
                self.openable_told += 1;
                let total = self.mux.openable_total();
                assert!(total >= self.openable_told, "each says that there is one more");
            }
            Event::GoingAway { code } => {
                assert!(
                    peer.draining && !self.told_to_go && code == 0,
                    "told to go once, by a drain"
                );
                self.told_to_go = true;
            }
            Event::Forgotten { id } => self.on_forgotten(peer, id),
            Event::RoundTrip(_) | Event::Unread { .. } => {}
            Event::Drained => {
                assert!(self.draining && !self.drained, "drained once, when asked to");
                self.drained = true;
            }
        }
    }

    /// The view of a stream that something arrived on, and the sender's view of it.
    fn reading<'a>(&mut self, peer: &'a Self, id: StreamId) -> (&mut View, &'a View) {
        let view = self.views.get_mut(&id).expect("only known streams have events");
        let other = peer.views.get(&id).expect("the sender knows the stream");
        assert_eq!(view.recv, Receiving::Open, "payload of {id} is told now");
        (view, other)
    }

    fn on_opened(&mut self, peer: &Self, id: StreamId, head: &[u8], end: bool) {
        let other = peer.views.get(&id).expect("the opener knows the stream");
        assert_eq!(other.heads.first().map(|head| &head.octets[..]), Some(head), "head of {id}");
        assert!(!end || (other.send == Sending::Finishing && other.written == 0) || is_over(other));
        let mut view = View::new(id, false);
        view.heads_told = 1;
        if end {
            view.end_is_told();
        }
        assert!(self.views.insert(id, view).is_none(), "{id} opens twice");
    }

    fn on_head(&mut self, peer: &Self, id: StreamId, block: &Block, end: bool) {
        let view = self.views.get_mut(&id).expect("only known streams have events");
        let other = peer.views.get(&id).expect("the sender knows the stream");
        assert_eq!(view.recv, Receiving::AwaitHead, "a head of {id} is told now");
        assert_eq!(other.heads.get(view.heads_told), Some(block), "heads of {id} in their order");
        view.heads_told += 1;
        assert!(!end || other.written == 0, "the end of {id} overtakes its payload");
        match (block.interim, end) {
            (true, _) => {}
            (false, false) => view.recv = Receiving::Open,
            (false, true) => view.end_is_told(),
        }
    }

    fn on_data(&mut self, peer: &Self, id: StreamId, octets: &[u8], end: bool) {
        let now = self.now;
        let (view, other) = self.reading(peer, id);
        assert_eq!(octets, payload(id, peer.side, view.read, octets.len()), "payload of {id}");
        assert!(end || !octets.is_empty(), "an event that says nothing");
        view.read += octets.len() as u64;
        view.payload_moved(false, now);
        assert!(view.read <= other.written, "more of {id} arrives than was written");
        if end {
            let finished = other.trailers.is_none() && view.read == other.written;
            assert!(finished && other.send != Sending::Open, "{id} was not finished here");
            view.end_is_told();
        }
    }

    fn on_reset(&mut self, peer: &Self, id: StreamId, code: StreamCode) {
        let by_peer = peer.views.get(&id).and_then(|other| other.own_reset) == Some(code);
        let unserved = peer.heard.serves().is_some_and(|last| id.number() > last);
        let refused = code == StreamCode::REFUSED && id.opener() == self.side && unserved;
        let stalled = code == StreamCode::STALLED && self.waits_too_long(id);
        assert!(by_peer || refused || stalled, "{id} is reset by nobody");
        assert!(self.abort(peer, id, code), "{id} is reset, and it was over");
        let Some(view) = self.views.get_mut(&id) else { return };
        view.resets_told += 1;
        if stalled {
            view.stalled = true;
            view.was_reset_here(self.side, code);
        }
    }

    /// An opener hears that a stream is forgotten once, after it has let go of it, and not before
    /// its acceptor has ended its own half or let go of the stream as well.
    fn on_forgotten(&mut self, peer: &Self, id: StreamId) {
        let view = self.views.get_mut(&id).expect("only known streams are forgotten");
        let ours = id.opener() == self.side;
        assert!(ours && view.released && !view.forgotten, "{id} is forgotten unasked");
        view.forgotten = true;
        let unserved = peer.heard.serves().is_some_and(|last| id.number() > last);
        let over = peer.views.get(&id).is_none_or(View::has_let_go);
        assert!(over || unserved, "{id} is forgotten, and its acceptor is at work");
        let told = peer.heard.half(id.number()).is_some_and(|half| half.ended || half.reset);
        assert!(told || unserved, "{id} is forgotten, and its acceptor has said nothing");
    }

    /// Whether this side has passed on nothing of what waits for as long as it may.
    fn waits_too_long(&self, id: StreamId) -> bool {
        let since = self.views.get(&id).and_then(|view| view.waits_since);
        since.is_some_and(|since| self.now - since >= self.config.consumer_timeout)
    }

    /// A consumer that takes nothing loses its stream, once the engine has looked often enough: the
    /// steps in which time goes on here are far shorter than a quarter of what it is given.
    pub(super) fn check_consumers(&self, peer: &Self) {
        let late = |view: &&View| {
            let since = view.waits_since.unwrap_or(self.now);
            self.now - since > self.config.consumer_timeout * 2
        };
        for view in self.views.values().filter(late) {
            let over = self.send_is_over(peer, view) && Self::recv_is_over(peer, view);
            assert!(over, "{:?}: payload of {} waits for ever", self.side, view.id);
        }
    }

    fn on_stopped(&mut self, peer: &Self, id: StreamId, code: StreamCode) {
        let by_peer = peer.views.get(&id).and_then(|other| other.own_stop);
        assert_eq!(by_peer, Some(code), "{id} is stopped by nobody");
        let view = self.views.get(&id).expect("only known streams have events");
        assert!(
            view.released || !self.send_is_over(peer, view),
            "{id} is stopped, and its half was over"
        );
        let Some(view) = self.views.get_mut(&id) else { return };
        view.send = Sending::Stopped(code);
        view.wants_room = false;
    }

    /// Whether nothing can happen any more on a stream, as its owner sees it.
    fn is_over(&self, peer: &Self, view: &View) -> bool {
        view.released
            && self.send_is_over(peer, view)
            && Self::recv_is_over(peer, view)
            && !Self::is_awaited(peer, view)
    }

    /// What holds once everything that was ready has arrived.
    pub(super) fn check_at_rest(&self, peer: &Self) {
        let side = self.side;
        let open = self.views.values().filter(|view| !self.is_over(peer, view)).count();
        assert_eq!(self.mux.stats().streams_open, open, "{side:?} counts its open streams");
        for view in self.views.values() {
            self.check_stream_at_rest(peer, view);
            assert!(view.ended_once(), "{side:?} was told the end of {view:?}");
        }
        let ours = self.views.values().filter(|view| view.id.opener() == side);
        let over = ours.filter(|view| self.is_over(peer, view)).count() as u64;
        let local = over + u64::from(self.config.open_streams_max);
        assert_eq!(self.mux.openable_total(), local.min(peer.heard.streams()), "{side:?}");
        let theirs = peer.views.values().filter(|view| view.id.opener() == side);
        let let_go = theirs.filter(|view| peer.is_over(self, view)).count() as u64;
        let held_back = let_go + u64::from(peer.config.accept_streams_max) - peer.heard.streams();
        let starved = peer.heard.streams() == u64::from(self.heard.opened());
        assert!(!starved || held_back == 0 || self.drains(peer), "{side:?} is kept from opening");
        self.check_drained(open);
    }

    fn drains(&self, peer: &Self) -> bool {
        self.draining || peer.draining
    }

    fn check_drained(&self, open: usize) {
        assert_eq!(self.drained, self.draining && open == 0, "{:?} is drained", self.side);
    }

    fn check_stream_at_rest(&self, peer: &Self, view: &View) {
        let (id, side) = (view.id, self.side);
        let Some(other) = peer.views.get(&id) else {
            // It was refused, or never left: its owner must know.
            let known = matches!(view.send, Sending::Reset(_));
            assert!(known, "{side:?} waits on {id}, which its peer does not know");
            return;
        };
        let wanted = matches!(other.recv, Receiving::Open | Receiving::AwaitHead);
        let context = format!("{side:?} sends {id} in {:?}, peer in {:?}", view.send, other.recv);
        match view.send {
            Sending::AwaitHead | Sending::Open => {
                assert!(wanted, "{context}: its writer was not told");
                assert_eq!(other.heads_told, view.heads.len(), "{context}: heads");
                assert_eq!(other.read, view.written, "{context}: payload stays behind");
            }
            Sending::Finishing => {
                assert!(!wanted, "{context}: its end stays behind");
                let told = other.recv != Receiving::Ended || other.read == view.written;
                assert!(told, "{context}: payload is lost");
            }
            Sending::Stopped(_) => assert!(!wanted, "{context}: nobody stopped it"),
            Sending::Reset(_) => {
                assert!(!wanted, "{context}: its reader was not told");
                let ended = !matches!(other.send, Sending::AwaitHead | Sending::Open);
                assert!(ended, "{context}: its peer writes on");
            }
        }
        if view.send == Sending::Open {
            self.check_room_at_rest(peer, view, other);
        }
    }

    /// A writer is never left without room by a reader that has passed on all it got, and a writer
    /// that waits for room has none.
    fn check_room_at_rest(&self, peer: &Self, view: &View, other: &View) {
        let room = self.mux.room(view.id) as u64;
        assert_eq!(room, *self.room(peer, view).end(), "room of {} at rest", view.id);
        assert!(!view.wants_room || room == 0, "{} waits for room and has it", view.id);
        let window = u64::from(peer.config.stream_window);
        let due = (window - window / 4).saturating_sub(other.held());
        let least = due.min(self.config.send_queue_max.into());
        assert!(room >= least, "{} has room for {room} only, not {least}", view.id);
    }

    /// What holds once every stream was let go of.
    pub(super) fn check_nothing_left(&self, peer: &Self) {
        let (side, stats) = (self.side, self.mux.stats());
        assert_eq!(stats.streams_open, 0, "{side:?} keeps streams");
        assert_eq!(stats.window_growth, 0, "{side:?} keeps memory");
        for view in self.views.values() {
            assert!(self.is_over(peer, view), "{side:?} was not told the end of {view:?}");
        }
        let ours = self.config.open_streams_max.min(peer.config.accept_streams_max);
        let free = self.mux.openable_total() - u64::from(self.opened);
        assert!(free > 0 || ours == 0 || peer.draining, "{side:?} can open no stream any more");
    }
}

/// The stream an event is about.
fn named(event: &Event) -> Option<StreamId> {
    match event {
        Event::Opened { id, .. }
        | Event::Head { id, .. }
        | Event::Data { id, .. }
        | Event::Trailers { id, .. }
        | Event::Reset { id, .. }
        | Event::Stopped { id, .. }
        | Event::Writable { id } => Some(*id),
        _ => None,
    }
}

/// Whether the owner of a half has given it up after it was finished.
fn is_over(view: &View) -> bool {
    matches!(view.send, Sending::Reset(_) | Sending::Stopped(_))
}
