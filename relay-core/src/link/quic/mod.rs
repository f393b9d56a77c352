//! The same link over a QUIC connection: a second driver beside [`Driver`](super::Driver), with the
//! same handles.
//!
//! One bidirectional QUIC stream carries one exchange; QUIC's own flow control is the only one.
//! The first stream that the dialer opens is the control stream: hello, and the words of a drain.
//! `QUIC.md` beside this file is the normative text. Read [`QuicDriver`] first, then `stream.rs`.
//!
//! What differs from a pipe for those who use the handles: nothing but speed. Streams do not wait
//! for each other's lost packets, and one connection has the throughput of one task.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quinn::{Connection, ConnectionError, RecvStream as QuicRecv, SendStream as QuicSend};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

use crate::mux::{Config, ConfigError, Hello, IdMap, LinkError, Side, Stats, StreamCode, StreamId};

use super::cell::Cell;
use super::handle::{Incoming, Link, LinkStats};
use super::lingering::Lingering;
use super::recv::RecvStream;
use super::send::SendStream;
use super::shared::{Shared, Stage};

mod admission;
mod awaited;
mod codes;
mod control;
mod ready;
mod record;
mod stream;
mod sweep;
#[cfg(test)]
mod tests;
mod turns;

use admission::Admission;
use awaited::Asked;
use control::Control;
use ready::{Ready, Source, What};
use stream::{Counts, Desk, LOOKS_PER_TIMEOUT, Stream};
use turns::Opening;

/// Rounds in one poll before other tasks get a turn.
const ROUNDS_PER_POLL: usize = 16;

/// Time for the word that ends a connection to leave.
const GOODBYE: Duration = Duration::from_millis(250);

/// How often is looked whether it has.
const GOODBYE_LOOK: Duration = Duration::from_millis(1);

/// Begins a link over `connection`, whose handshake is over and whose peer is authenticated.
///
/// `config` is what it is for a link over a pipe, but for what QUIC itself settles: keep-alive and
/// the time after which a silent peer is given up are the connection's, and
/// [`Config::stream_window`] must be the window with which its endpoint was made. Until the driver
/// is polled the peer has no more than the control stream.
///
/// # Errors
///
/// [`ConfigError`] as [`Config::validate`].
///
/// # Panics
///
/// Polling the driver panics outside a tokio runtime with its timer enabled.
pub fn new_quic(
    connection: Connection,
    side: Side,
    config: Config,
) -> Result<(Link, QuicDriver), ConfigError> {
    config.validate()?;
    let accept_max = usize::try_from(config.accept_streams_max.max(1)).unwrap_or(usize::MAX);
    // No more streams of the peer are ever held than this, so the queue never overflows.
    let (incoming, accepted) = mpsc::channel(accept_max);
    let shared = Shared::new(accepted);
    let driver = QuicDriver::new(connection, side, config, Arc::clone(&shared), incoming);
    Ok((Link::of(shared), driver))
}

/// How far a drain that was asked for here has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Drain {
    No,
    /// Asked for; the hellos are not through yet.
    Wanted,
    /// The peer was told.
    Said,
    /// The peer has opened so many streams, and opens no more.
    Last(u64),
    Done,
}

/// Moves everything between a QUIC connection and the handles of its link. A future that ends when
/// the link does, with the reason.
///
/// Dropping it cuts the link: streams see [`RecvError::LinkLost`](super::RecvError::LinkLost).
#[must_use = "a link does nothing until its driver is polled"]
pub struct QuicDriver {
    connection: Connection,
    side: Side,
    config: Config,
    shared: Arc<Shared>,
    incoming: Option<mpsc::Sender<Incoming>>,
    admission: Admission,
    ready: Arc<Ready>,
    control: Option<Control>,
    /// The peer's hello, once it is there.
    peer: Option<Arc<Hello>>,
    streams: IdMap<(Stream, Waker)>,
    /// Streams that QUIC lets this side open, opened and not used.
    spare: std::collections::VecDeque<(QuicSend, QuicRecv)>,
    /// Streams in use that this side has opened.
    ours_open: usize,
    /// What is kept for streams of this side that are over here and that the peer may still be at
    /// work on: it was asked to tell. Each takes a place among those that this side opens.
    awaited: Lingering,
    /// Streams of the peer that it has asked about.
    asked: Asked,
    /// How often it has asked about one.
    asks: u64,
    opened: u64,
    accepted: u64,
    opening: Opening,
    accepting: Opening,
    end: Pin<Box<dyn Future<Output = ConnectionError> + Send>>,
    wakers_of: Wakers,
    drain: Drain,
    peer_drains: bool,
    abandoned: bool,
    input: BytesMut,
    headers: BytesMut,
    counts: Counts,
    timer: Pin<Box<Sleep>>,
    /// When to look at consumers, once the link is up.
    look_due: Instant,
    /// Why the link ends, once it does, and until when its goodbye may take.
    ending: Option<(LinkError, Instant)>,
    sweeping: Vec<Arc<Cell>>,
    due: Vec<Arc<Source>>,
    wakers: Vec<Waker>,
}

/// The wakers of what is not a stream.
#[derive(Debug)]
struct Wakers {
    accept: Waker,
    open: Waker,
    control: Waker,
    end: Waker,
}

/// Whether a step did something, so that another round may do more.
type Progress = bool;

impl fmt::Debug for QuicDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicDriver")
            .field("side", &self.side)
            .field("streams", &self.streams.len())
            .field("drain", &self.drain)
            .field("ending", &self.ending)
            .finish_non_exhaustive()
    }
}

impl QuicDriver {
    fn new(
        connection: Connection,
        side: Side,
        config: Config,
        shared: Arc<Shared>,
        incoming: mpsc::Sender<Incoming>,
    ) -> Self {
        let ready = Arc::new(Ready::default());
        let wakers_of = Wakers {
            accept: ready.waker(What::Accept),
            open: ready.waker(What::Open),
            control: ready.waker(What::Control),
            end: ready.waker(What::End),
        };
        let watched = connection.clone();
        Self {
            admission: Admission::new(connection.clone(), side, &config),
            opening: turns::open(&connection),
            accepting: turns::accept(&connection),
            end: Box::pin(async move { watched.closed().await }),
            timer: Box::pin(tokio::time::sleep(config.hello_timeout)),
            look_due: Instant::now(),
            connection,
            side,
            config,
            shared,
            incoming: Some(incoming),
            ready,
            control: None,
            peer: None,
            streams: IdMap::default(),
            spare: std::collections::VecDeque::new(),
            ours_open: 0,
            awaited: Lingering::default(),
            asked: Asked::default(),
            asks: 0,
            opened: 0,
            accepted: 0,
            wakers_of,
            drain: Drain::No,
            peer_drains: false,
            abandoned: false,
            input: BytesMut::new(),
            headers: BytesMut::new(),
            counts: Counts::default(),
            ending: None,
            sweeping: Vec::new(),
            due: Vec::new(),
            wakers: Vec::new(),
        }
    }

    /// Counts for how long streams stand still. The clock is read only while any does.
    fn note_time(&mut self) {
        if self.counts.stalls.is_any() {
            self.counts.stalls.pass(Instant::now().into_std());
        }
    }

    fn round(&mut self) -> Progress {
        self.note_time();
        let swept = self.sweep();
        let turned = self.take_turns();
        self.note_drained();
        self.wake_all();
        swept || turned
    }

    /// The hello's deadline first, then looks at consumers, for memory, and at what is kept.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Progress {
        if self.timer.as_mut().poll(cx).is_pending() {
            return false;
        }
        if self.ending.is_some() {
            self.timer.as_mut().reset(Instant::now() + GOODBYE_LOOK);
        } else if self.peer.is_none() {
            self.fail(LinkError::HelloTimeout);
        } else {
            let now = Instant::now();
            self.awaited.drop_overdue(now.into_std());
            if now >= self.look_due {
                self.look_at_consumers();
                self.look_for_memory();
                self.look_due = now + self.look_every();
            }
            self.timer.as_mut().reset(self.look_due);
            self.await_overdue();
        }
        true
    }

    /// A link that found no memory, or not enough, asks again: nothing else may ever happen on it.
    fn look_for_memory(&mut self) {
        self.admission.ask_again();
        if self.admission.note_open(self.ours_open) {
            self.wakers_of.open.wake_by_ref();
        }
    }

    fn look_every(&self) -> Duration {
        self.config.consumer_timeout / LOOKS_PER_TIMEOUT
    }

    fn await_next_look(&mut self) {
        self.look_due = Instant::now() + self.look_every();
        self.timer.as_mut().reset(self.look_due);
    }

    /// Has the timer be early enough for what may be kept for too long.
    fn await_overdue(&mut self) {
        let overdue = self.awaited.due().map(Instant::from_std);
        if let Some(due) = overdue.filter(|due| *due < self.timer.deadline()) {
            self.timer.as_mut().reset(due);
        }
    }

    /// Ends the link, and tells the peer why unless that is how it ends.
    fn fail(&mut self, why: LinkError) {
        if self.ending.is_some() {
            return;
        }
        // Whatever else seems wrong with a connection that has ended, that is why.
        let ended = self.connection.close_reason().map(|reason| codes::ended_by(&reason));
        let is_ended = ended.is_some();
        let why = ended.unwrap_or(why);
        self.incoming = None;
        self.awaited.clear();
        for id in self.streams.keys().copied().collect::<Vec<_>>() {
            let Some((mut stream, _)) = self.streams.remove(&id) else { continue };
            if is_ended {
                // What is wrong with it does not matter any more.
                let _ = stream.read_out(&mut self.desk());
            }
            stream.cut(&mut self.wakers);
        }
        if !is_ended {
            let (code, text) = codes::goodbye(&why);
            self.connection.close(code, text.as_bytes());
        }
        // The reason first: an opener that is turned away looks for it.
        self.shared.stage.send_replace(Stage::Closed(why.clone()));
        self.shared.refuse_opening();
        self.wake_all();
        let now = Instant::now();
        let until = if is_ended { now } else { now + GOODBYE };
        self.ending = Some((why, until));
        self.timer.as_mut().reset(now + GOODBYE_LOOK);
    }

    /// Whether the peer has been told, as far as QUIC can: there is no event of it.
    fn has_said_goodbye(&self, until: Instant) -> bool {
        self.connection.stats().frame_tx.connection_close > 0 || Instant::now() >= until
    }

    fn desk(&mut self) -> Desk<'_> {
        Desk {
            admission: &mut self.admission,
            input: &mut self.input,
            headers: &mut self.headers,
            wakers: &mut self.wakers,
            counts: &mut self.counts,
            queue_max: self.config.send_queue_max as usize,
            head_max: self.peer.as_ref().map_or(0, |peer| peer.head_max),
        }
    }

    fn publish_stats(&mut self) {
        self.note_time();
        let mux = Stats {
            payload_received: self.counts.payload_received,
            payload_sent: self.counts.payload_sent,
            streams_opened: self.opened,
            streams_accepted: self.accepted,
            streams_open: self.streams.len(),
            listener_streams_open: match self.side {
                Side::Listener => self.ours_open,
                Side::Dialer => self.streams.len().saturating_sub(self.ours_open),
            },
            memory_reserved: self.admission.reserved(),
            consumers_stalled: self.counts.consumers_stalled,
            payload_queued: self.counts.queued,
            credit_stalls: self.counts.stalls.begun(),
            streams_stalled: self.counts.stalls.streams(),
            credit_stalled_for: self.counts.stalls.lasted(),
            ..Stats::default()
        };
        self.shared.publish_stats(LinkStats {
            mux,
            round_trip: self.peer.is_some().then(|| self.connection.rtt()),
            write_calls: self.counts.write_calls,
            read_calls: self.counts.read_calls,
        });
    }

    fn wake_all(&mut self) {
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
    }

    /// Leaves nobody waiting for what the driver will not do any more. Has no effect but once.
    fn finish(&mut self) {
        if self.ending.is_none() {
            self.fail(LinkError::Lost { cause: "its driver was dropped".into() });
        }
        for cell in self.shared.agenda.end() {
            cell.lock().cut(&mut self.wakers);
        }
        self.wake_all();
    }
}

impl Future for QuicDriver {
    type Output = LinkError;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<LinkError> {
        let this = self.get_mut();
        for _ in 0..ROUNDS_PER_POLL {
            let progress = this.round();
            let timed = this.poll_timer(cx);
            if let Some((why, until)) = &this.ending
                && this.has_said_goodbye(*until)
            {
                let why = why.clone();
                this.publish_stats();
                this.finish();
                return Poll::Ready(why);
            }
            let is_idle = !progress && !timed;
            if is_idle && this.ready.park(cx.waker()) && this.shared.agenda.park(cx.waker()) {
                this.publish_stats();
                return Poll::Pending;
            }
        }
        this.publish_stats();
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for QuicDriver {
    fn drop(&mut self) {
        self.finish();
    }
}
