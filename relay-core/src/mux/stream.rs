//! One stream: two halves, their credit, what waits to be sent, and its control slots.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::batch::COPY_IN_MAX;
use super::error::StreamCode;
use super::frame::{Side, StreamId};
use super::half::{RecvHalf, SendHalf};
use super::stall::Stalls;
use super::window::{ReceiveWindow, SendCredit};

/// Something in a stream's send queue.
#[derive(Debug)]
pub(super) enum Queued {
    /// An interim head.
    Interim(Bytes),
    /// The final head.
    Head(Bytes),
    /// Payload, for which credit was taken when it was queued.
    Data(Bytes),
    /// Trailers, which end the half.
    Trailers(Bytes),
    /// The end, folded into the frame before it where there is one.
    End,
}

/// What an acceptor owes to an opener that has stopped or reset a stream: sent once its owner has
/// let go of it, so that the opener knows that the work behind it has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum LastWord {
    /// The bare END that answers a STOP.
    End,
    /// The RESET that answers a RESET.
    Reset,
}

/// Control output of one stream, and what is to follow. Each slot holds at most one frame, whatever
/// the peer does.
#[derive(Debug, Default)]
pub(super) struct Slots {
    /// A WINDOW is due; its value is taken from the window when it is written.
    pub(super) window: bool,
    /// A RESET is due.
    pub(super) reset: Option<StreamCode>,
    /// A STOP is due.
    pub(super) stop: Option<StreamCode>,
    /// The bare END that answers a STOP is due.
    pub(super) end: bool,
    /// What becomes due once the owner lets go.
    pub(super) owed: Option<LastWord>,
    /// Whether the owner is to hear when the stream is forgotten: it has opened it, and let go.
    pub(super) forgotten: bool,
}

impl Slots {
    /// Whether nothing is due now.
    pub(super) fn is_empty(&self) -> bool {
        !self.window && self.reset.is_none() && self.stop.is_none() && !self.end
    }
}

/// What the owner of a stream waits for before it queues more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Waits {
    Not,
    /// Room in the queue.
    ForRoom,
    /// As `ForRoom`, and only the peer can make some: the stream is counted among those that stand
    /// still, see [`stall`](super::stall).
    ForCredit,
}

/// Whether heads came, whoever still wanted them, and how many count towards their limit. In one
/// octet: thousands of streams may be idle on a link.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heads(u8);

impl Heads {
    const ANY: u8 = 0x80;

    /// A head came.
    pub(super) fn note(&mut self) {
        self.0 |= Self::ANY;
    }

    /// It counts towards the limit. Returns how many do, which the caller keeps below 128.
    pub(super) fn count(&mut self) -> u8 {
        self.0 += 1;
        self.0 & !Self::ANY
    }

    fn is_any(self) -> bool {
        self.0 != 0
    }
}

/// A stream of which at least one half, or the owner's work, has not ended.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: StreamId,
    pub(super) send: SendHalf,
    pub(super) recv: RecvHalf,
    pub(super) window: ReceiveWindow,
    pub(super) credit: SendCredit,
    /// The head that opens the stream, until it is on its way. Nothing of a stream may overtake it.
    pub(super) opening: Option<Bytes>,
    pub(super) queue: VecDeque<Queued>,
    pub(super) slots: Slots,
    /// Whether it stands in the engine's list of streams with slots.
    pub(super) in_control: bool,
    /// Whether it stands in the engine's list of streams with a queue.
    pub(super) in_ready: bool,
    waits: Waits,
    /// Whether the owner has let go of it.
    pub(super) released: bool,
    /// Heads received behind the opening.
    pub(super) heads: Heads,
    /// Interim heads queued.
    pub(super) interim_sent: u8,
    /// Looks in a row, see [`engine::liveness`](super::engine), at which payload waited that its
    /// consumer had waiting before.
    pub(super) stalled_looks: u8,
    /// Octets of its turn that it has not used, see [`schedule`](super::schedule).
    pub(super) deficit: u64,
}

impl Stream {
    /// A stream opened by this side (`opening` holds its head) or by the peer (`None`).
    pub(super) fn new(
        id: StreamId,
        opening: Option<Bytes>,
        window_floor: u64,
        send_credit: u64,
        queue: VecDeque<Queued>,
    ) -> Self {
        let (send, recv) = match opening {
            Some(_) => (SendHalf::Sending, RecvHalf::AwaitHead),
            None => (SendHalf::AwaitHead, RecvHalf::Receiving),
        };
        Self {
            id,
            send,
            recv,
            window: ReceiveWindow::new(window_floor),
            credit: SendCredit::new(send_credit),
            opening,
            queue,
            slots: Slots::default(),
            in_control: false,
            in_ready: false,
            waits: Waits::Not,
            released: false,
            heads: Heads::default(),
            interim_sent: 0,
            stalled_looks: 0,
            deficit: 0,
        }
    }

    /// Whether nothing can happen on it any more.
    pub(super) fn is_over(&self) -> bool {
        self.released
            && self.send.is_ended()
            && self.recv.is_ended()
            && self.opening.is_none()
            && self.slots.is_empty()
    }

    /// Has `word` follow when the owner has let go: at once, if it has.
    pub(super) fn owe(&mut self, word: LastWord) {
        self.slots.owed = Some(word);
        if self.released {
            self.pay();
        }
    }

    /// Whether the opener's RESET was heard, and its answer has not left.
    pub(super) fn owes_reset(&self) -> bool {
        let is_due = self.slots.reset == Some(StreamCode::RELEASED);
        is_due || self.slots.owed == Some(LastWord::Reset)
    }

    /// Makes due what is owed.
    pub(super) fn pay(&mut self) {
        match self.slots.owed.take() {
            Some(LastWord::End) => self.slots.end = true,
            Some(LastWord::Reset) => self.slots.reset = Some(StreamCode::RELEASED),
            None => {}
        }
    }

    /// Whether this side has said neither END nor RESET yet. What of these waits to be written is
    /// taken back.
    pub(super) fn take_back_end(&mut self) -> bool {
        let waits = self.slots.reset.take().is_some()
            || std::mem::take(&mut self.slots.end)
            || self.slots.owed.take().is_some();
        // A RESET may have waited behind an END that was said.
        (waits && !self.send.has_said_end()) || !self.send.is_ended()
    }

    /// Queues payload. A short one joins a short one before it, so that a writer of single octets
    /// costs no entry each, and pins no buffer for each.
    pub(super) fn queue_data(&mut self, payload: Bytes) {
        if let Some(Queued::Data(last)) = self.queue.back_mut()
            && last.len() + payload.len() <= COPY_IN_MAX
        {
            *last = joined(std::mem::take(last), &payload);
            return;
        }
        self.queue.push_back(Queued::Data(payload));
    }

    /// Forgets everything queued except the opening, which the peer must see before a RESET.
    /// Returns how many octets of payload that were.
    pub(super) fn clear_queue(&mut self, stalls: &mut Stalls) -> u64 {
        let queued = self.credit.queued();
        self.queue.clear();
        self.credit.clear_queue();
        self.want_no_room(stalls);
        queued
    }

    /// Counts it among those that stand still, if its owner waits for nothing but credit.
    pub(super) fn note_stall(&mut self, stalls: &mut Stalls) {
        if self.waits == Waits::ForRoom && self.credit.is_used_up() {
            self.waits = Waits::ForCredit;
            stalls.begin();
        }
    }

    /// Whether the owner waits for room in the queue.
    pub(super) fn wants_room(&self) -> bool {
        self.waits != Waits::Not
    }

    /// The owner waits for room.
    pub(super) fn want_room(&mut self) {
        if self.waits == Waits::Not {
            self.waits = Waits::ForRoom;
        }
    }

    /// The owner waits for room no longer.
    pub(super) fn want_no_room(&mut self, stalls: &mut Stalls) {
        if std::mem::replace(&mut self.waits, Waits::Not) == Waits::ForCredit {
            stalls.end();
        }
    }

    /// Whether it is counted among those that stand still.
    pub(super) fn is_stalled(&self) -> bool {
        self.waits == Waits::ForCredit
    }

    /// Whether this side opened it.
    pub(super) fn is_ours(&self, side: Side) -> bool {
        self.id.opener() == side
    }

    /// Whether its owner hears of a reset: it has neither let go of it nor reset it itself.
    pub(super) fn is_heard(&self) -> bool {
        !self.released && self.recv != RecvHalf::Abandoned
    }

    /// Whether this side, as the acceptor, has begun to answer.
    pub(super) fn has_answer(&self, side: Side) -> bool {
        !self.is_ours(side) && (self.interim_sent > 0 || self.send != SendHalf::AwaitHead)
    }

    /// Whether anything of the answer to a stream that this side opened has arrived, so that the
    /// peer has certainly looked at it.
    pub(super) fn is_answered(&self) -> bool {
        self.heads.is_any() || self.recv == RecvHalf::Ended
    }

    pub(super) fn check(&self) {
        self.window.check();
        self.credit.check();
        let queued: usize = self
            .queue
            .iter()
            .map(|q| if let Queued::Data(data) = q { data.len() } else { 0 })
            .sum();
        debug_assert_eq!(queued as u64, self.credit.queued(), "stream {}", self.id);
        debug_assert_eq!(
            self.is_stalled(),
            self.wants_room() && self.credit.is_used_up(),
            "stream {}",
            self.id
        );
        debug_assert!(
            self.slots.is_empty() || self.in_control || self.opening.is_some(),
            "stream {} has a slot that nobody will write",
            self.id
        );
        debug_assert!(
            self.slots.owed.is_none() || !self.released && self.send.is_ended(),
            "stream {} owes a word that nobody will say",
            self.id
        );
        debug_assert!(
            self.queue.is_empty() || self.in_ready || self.opening.is_some(),
            "stream {} has a queue that nobody will write",
            self.id
        );
    }
}

/// Both payloads, in memory of at most twice [`COPY_IN_MAX`].
fn joined(front: Bytes, back: &[u8]) -> Bytes {
    let room = front.len() + back.len()..=2 * COPY_IN_MAX;
    let mut whole = match front.try_into_mut() {
        Ok(own) if room.contains(&own.capacity()) => own,
        Ok(own) => own_copy(&own),
        Err(shared) => own_copy(&shared),
    };
    whole.extend_from_slice(back);
    whole.freeze()
}

fn own_copy(octets: &[u8]) -> BytesMut {
    let mut copy = BytesMut::with_capacity(COPY_IN_MAX);
    copy.extend_from_slice(octets);
    copy
}
