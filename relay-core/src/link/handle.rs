//! The handle of a link.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{TryAcquireError, mpsc};

use crate::mux::{Config, ConfigError, Hello, LinkError, Mux, Side, Stats, StreamId};

use super::cell::{Cell, State};
use super::driver::{Driver, now};
use super::recv::RecvStream;
use super::send::SendStream;
use super::shared::{Shared, Stage};
use super::sync::{AtomicUsize, Ordering};

/// Begins a link over `pipe`, which is connected and, where it matters, authenticated.
///
/// Returns the handle and the driver. Nothing happens until the driver is polled: spawn it, or
/// await it beside the work, and it ends when the link does.
///
/// # Errors
///
/// [`ConfigError`] as [`Config::validate`].
///
/// # Panics
///
/// Polling the driver panics outside a tokio runtime with its timer enabled.
pub fn new<P>(pipe: P, side: Side, config: Config) -> Result<(Link, Driver<P>), ConfigError>
where
    P: AsyncRead + AsyncWrite + Unpin,
{
    let accept_max = usize::try_from(config.accept_streams_max.max(1)).unwrap_or(usize::MAX);
    let mux = Mux::new(side, config, now())?;
    // The engine never has more streams of the peer open than this, so the queue never overflows.
    let (incoming, accepted) = mpsc::channel(accept_max);
    let shared = Shared::new(accepted);
    let driver = Driver::new(pipe, mux, Arc::clone(&shared), incoming);
    Ok((Link::of(shared), driver))
}

/// Openers that may wait for a stream on one link. Beyond that an overload is told at once, and not
/// after each waiter's deadline.
pub const OPENERS_WAITING_MAX: usize = 4096;

/// A place in the line of openers; it is free again when this is dropped.
struct WaitingPlace<'a>(&'a AtomicUsize);

impl<'a> WaitingPlace<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Self> {
        // Dropped at once if the line is full, and the count is right again.
        let place = (waiting.fetch_add(1, Ordering::Relaxed), Self(waiting));
        (place.0 < OPENERS_WAITING_MAX).then_some(place.1)
    }
}

impl Drop for WaitingPlace<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One live connection to a peer. Clones share it.
///
/// When the last clone is dropped and every stream has ended, the link closes.
#[derive(Clone, Debug)]
pub struct Link {
    shared: Arc<Owner>,
}

/// Notices when the last [`Link`] is gone; streams alone do not keep a link from closing.
#[derive(Debug)]
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        // Here in case that the driver has ended already; else the driver does it again, for the
        // stream that arrives meanwhile.
        self.0.drop_waiting();
        self.0.agenda.order(|orders| orders.abandoned = true);
    }
}

/// Whether payload follows a head.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// The head is all there is.
    NoPayload,
    /// Payload follows.
    More,
}

/// A stream that the peer opened.
#[derive(Debug)]
pub struct Incoming {
    /// Its id, for logs.
    pub id: StreamId,
    /// Its head block.
    pub head: Bytes,
    /// Where the answer goes. Until both handles are dropped the stream counts against what the
    /// peer may open: keep one of them until the work has ended.
    pub send: SendStream,
    /// Where the payload comes from.
    pub recv: RecvStream,
}

/// Why a stream could not be opened. Nothing was sent: another link may be tried.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenFailed {
    /// The link takes no new streams.
    #[error("the link takes no new streams")]
    GoingAway,
    /// As many openers wait already as may. The link is overloaded.
    #[error("too many wait for a stream on this link")]
    Busy,
    /// The link has ended.
    #[error("the link has ended: {0}")]
    Closed(LinkError),
}

/// Counters and gauges of a link.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct LinkStats {
    /// The engine's counters.
    pub mux: Stats,
    /// Smoothed round trip, once measured.
    pub round_trip: Option<Duration>,
    /// Vectored writes handed to the pipe.
    pub write_calls: u64,
    /// Reads that brought octets.
    pub read_calls: u64,
}

/// What a drain did to the requests that were open: the streams that the listener opened, without
/// those on which a dialer tells it something.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DrainReport {
    /// Requests that ended by themselves.
    pub finished: u64,
    /// Requests that were cut at the deadline.
    pub reset: u64,
}

impl std::fmt::Display for DrainReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} requests finished, {} cut", self.finished, self.reset)
    }
}

impl std::ops::AddAssign for DrainReport {
    fn add_assign(&mut self, other: Self) {
        self.finished += other.finished;
        self.reset += other.reset;
    }
}

/// For a case that cannot be: a handle keeps the channel open that tells why the link ended.
fn ended() -> LinkError {
    LinkError::Lost { cause: "its driver is gone".into() }
}

impl Link {
    /// The first handle of a link.
    pub(super) fn of(shared: Arc<Shared>) -> Self {
        Self { shared: Arc::new(Owner(shared)) }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared.0
    }

    /// Waits for the peer's hello.
    ///
    /// # Errors
    ///
    /// [`LinkError`] if the link ended first.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn established(&self) -> Result<Arc<Hello>, LinkError> {
        let mut stage = self.shared().stage.subscribe();
        let reached = stage.wait_for(|stage| !matches!(stage, Stage::Connecting)).await;
        // The sender lives in `self`, so the channel cannot be closed while this waits.
        match reached.as_deref() {
            Ok(Stage::Up(hello) | Stage::Draining(hello) | Stage::Drained(hello)) => {
                Ok(Arc::clone(hello))
            }
            Ok(Stage::Closed(error)) => Err(error.clone()),
            Ok(Stage::Connecting) | Err(_) => Err(ended()),
        }
    }

    /// What the peer said about itself, once it has and while the link lives.
    pub fn peer(&self) -> Option<Arc<Hello>> {
        match &*self.shared().stage.borrow() {
            Stage::Up(hello) | Stage::Draining(hello) | Stage::Drained(hello) => {
                Some(Arc::clone(hello))
            }
            Stage::Connecting | Stage::Closed(_) => None,
        }
    }

    /// Whether streams can be opened: the link is up and neither side drains.
    pub fn is_open(&self) -> bool {
        // The stage follows only with the driver's next turn.
        !self.is_going_away() && matches!(&*self.shared().stage.borrow(), Stage::Up(_))
    }

    /// Why the link ended, once it has.
    pub fn close_reason(&self) -> Option<LinkError> {
        match &*self.shared().stage.borrow() {
            Stage::Closed(error) => Some(error.clone()),
            _ => None,
        }
    }

    /// Opens a stream whose head block is `head`, waiting while none is free.
    ///
    /// Waiters are served in the order they came, and at most [`OPENERS_WAITING_MAX`] wait. There
    /// is no deadline here: the caller has one.
    ///
    /// # Errors
    ///
    /// [`OpenFailed`]; nothing was sent.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. If the future is dropped before it is ready, nothing was sent and no stream is
    /// held.
    pub async fn open(
        &self,
        head: Bytes,
        end: End,
    ) -> Result<(SendStream, RecvStream), OpenFailed> {
        let permit = match self.shared().openable.try_acquire() {
            Ok(permit) => permit,
            Err(TryAcquireError::Closed) => return Err(self.refusal()),
            Err(TryAcquireError::NoPermits) => {
                let _place = WaitingPlace::take(&self.shared().waiting).ok_or(OpenFailed::Busy)?;
                self.shared().openable.acquire().await.map_err(|_| self.refusal())?
            }
        };
        permit.forget();
        Ok(self.open_with_permit(head, end))
    }

    /// As [`Link::open`], for one who is counted elsewhere.
    pub(crate) async fn open_uncounted(
        &self,
        head: Bytes,
        end: End,
    ) -> Result<(SendStream, RecvStream), OpenFailed> {
        let permit = self.shared().openable.acquire().await.map_err(|_| self.refusal())?;
        permit.forget();
        Ok(self.open_with_permit(head, end))
    }

    /// As [`Link::open`], without waiting: `Ok(None)` while no stream is free.
    ///
    /// # Errors
    ///
    /// As [`Link::open`].
    pub fn try_open(
        &self,
        head: Bytes,
        end: End,
    ) -> Result<Option<(SendStream, RecvStream)>, OpenFailed> {
        match self.shared().openable.try_acquire() {
            Ok(permit) => permit.forget(),
            Err(TryAcquireError::NoPermits) => return Ok(None),
            Err(TryAcquireError::Closed) => return Err(self.refusal()),
        }
        Ok(Some(self.open_with_permit(head, end)))
    }

    /// Streams that are free now: so many times [`Link::try_open`] would open one.
    pub fn openable(&self) -> usize {
        self.shared().openable.available_permits()
    }

    pub(super) fn open_with_permit(&self, head: Bytes, end: End) -> (SendStream, RecvStream) {
        let ended = end == End::NoPayload;
        // Its first payload then leaves with its head.
        let room = self.shared().initial_room.load(Ordering::Acquire);
        let opening = Some((head, ended));
        let state = State { opening, room, dirty: true, ..State::default() };
        let cell = Cell::new(state);
        self.shared().agenda.put(Arc::clone(&cell));
        let send = SendStream::new(Arc::clone(&cell), Arc::clone(self.shared()), ended);
        (send, RecvStream::new(cell, Arc::clone(self.shared())))
    }

    fn refusal(&self) -> OpenFailed {
        match self.close_reason() {
            Some(error) => OpenFailed::Closed(error),
            None => OpenFailed::GoingAway,
        }
    }

    /// Waits for the next stream that the peer opens.
    ///
    /// # Errors
    ///
    /// [`LinkError`] once the link has ended and every stream opened before was accepted.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn accept(&self) -> Result<Incoming, LinkError> {
        let next = self.shared().accepted.lock().await.recv().await;
        next.ok_or_else(|| self.close_reason().unwrap_or_else(ended))
    }

    /// Stops taking and opening streams, waits at most `deadline` for those that are open, cuts the
    /// rest and closes the link.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe in that nothing is lost; but once begun, a drain goes on.
    pub async fn drain(&self, deadline: Duration) -> DrainReport {
        let requests = || self.stats().mux.listener_streams_open as u64;
        let open = requests();
        self.shared().refuse_opening();
        self.shared().agenda.order(|orders| orders.drain = true);
        let mut stage = self.shared().stage.subscribe();
        let ended = stage.wait_for(|stage| matches!(stage, Stage::Drained(_) | Stage::Closed(_)));
        let in_time = tokio::time::timeout(deadline, ended).await.is_ok();
        let reset = if in_time { 0 } else { requests() };
        self.close();
        self.closed().await;
        DrainReport { finished: open.saturating_sub(reset), reset }
    }

    /// Whether [`Link::drain`] was called here, or the peer drains.
    pub fn is_going_away(&self) -> bool {
        self.shared().going_away.load(Ordering::Acquire)
    }

    /// Waits until the link takes no new streams: either side drains it, or it has ended.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn going_away(&self) {
        let mut stage = self.shared().stage.subscribe();
        let is_over = |stage: &Stage| !matches!(stage, Stage::Connecting | Stage::Up(_));
        // The sender lives in `self`, so the channel cannot be closed while this waits.
        let _ = stage.wait_for(is_over).await;
    }

    /// Closes the link at once. Streams that are open are cut.
    pub fn close(&self) {
        self.shared().refuse_opening();
        self.shared().agenda.order(|orders| orders.close = true);
    }

    /// Closes the link at once and tells the peer that it may not have it, and why. Streams that
    /// are open are cut.
    ///
    /// `why` is for the peer's administrator: at most 128 octets of it arrive, and it must hold no
    /// secret. The link ends with [`LinkError::RefusedHere`] here and
    /// [`LinkError::RefusedByPeer`] there, unless it has ended otherwise before. Whoever drives the
    /// link has it go on until its driver ends: the words leave meanwhile, and are given 2 s.
    pub fn refuse(&self, why: &str) {
        self.shared().refuse_opening();
        self.shared().agenda.order(|orders| orders.refuse = Some(why.into()));
    }

    /// Waits until the link has ended, and says why.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn closed(&self) -> LinkError {
        let mut stage = self.shared().stage.subscribe();
        match stage.wait_for(|stage| matches!(stage, Stage::Closed(_))).await.as_deref() {
            Ok(Stage::Closed(error)) => error.clone(),
            // The sender lives in `self`.
            _ => ended(),
        }
    }

    /// Counters and gauges, as of the driver's last turn.
    pub fn stats(&self) -> LinkStats {
        self.shared().stats()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::RecvError;
    use crate::mux::StreamCode;

    const HEAD: Bytes = Bytes::from_static(b"head");

    fn config() -> Config {
        Config { accept_streams_max: 4, open_streams_max: 4, ..Config::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_opened_as_the_driver_goes_fails_at_once_and_may_be_sent_again() {
        let (near, _far) = tokio::io::duplex(1024);
        let (link, driver) = new(near, Side::Listener, config()).unwrap();
        drop(driver);
        // What an opener does that took its permit just before.
        let (mut send, mut recv) = link.open_with_permit(HEAD, End::More);
        let head = tokio::time::timeout(Duration::from_mins(1), recv.head()).await;
        assert_eq!(head, Ok(Err(RecvError::Reset(StreamCode::REFUSED))));
        assert!(send.write_chunk(HEAD).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_opened_as_the_link_ends_fails_although_its_driver_is_kept() {
        let (near, far) = tokio::io::duplex(1024);
        let (link, driver) = new(near, Side::Listener, config()).unwrap();
        let mut driver = std::pin::pin!(driver);
        drop(far);
        assert!(matches!(driver.as_mut().await, LinkError::Lost { .. }));
        // What an opener does that took its permit just before.
        let (_send, mut recv) = link.open_with_permit(HEAD, End::More);
        let head = tokio::time::timeout(Duration::from_mins(1), recv.head()).await;
        assert_eq!(head, Ok(Err(RecvError::Reset(StreamCode::REFUSED))));
    }

    #[tokio::test(start_paused = true)]
    async fn streams_that_nobody_accepts_neither_hold_an_abandoned_link_nor_outlive_it() {
        let (near, far) = tokio::io::duplex(1024);
        let (link, driver) = new(near, Side::Listener, config()).unwrap();
        let (peer, peer_driver) = new(far, Side::Dialer, config()).unwrap();
        let driver = tokio::spawn(driver);
        let _peer_driver = tokio::spawn(peer_driver);
        let (_send, mut recv) = peer.open(HEAD, End::More).await.unwrap();
        while link.stats().mux.streams_open == 0 {
            tokio::task::yield_now().await;
        }
        let shared = Arc::downgrade(link.shared());
        drop(link);
        let ended = tokio::time::timeout(Duration::from_mins(1), driver).await;
        assert_eq!(ended.unwrap().unwrap(), LinkError::ClosedHere);
        assert!(recv.head().await.is_err(), "the peer is told");
        assert_eq!(shared.strong_count(), 0, "nothing is left behind");
    }

    #[tokio::test(start_paused = true)]
    async fn streams_that_nobody_accepted_do_not_outlive_a_link_that_was_lost() {
        let (near, far) = tokio::io::duplex(1024);
        let (link, driver) = new(near, Side::Listener, config()).unwrap();
        let (peer, peer_driver) = new(far, Side::Dialer, config()).unwrap();
        let driver = tokio::spawn(driver);
        let peer_driver = tokio::spawn(peer_driver);
        let _stream = peer.open(HEAD, End::More).await.unwrap();
        while link.stats().mux.streams_open == 0 {
            tokio::task::yield_now().await;
        }
        peer_driver.abort();
        assert!(matches!(driver.await.unwrap(), LinkError::Lost { .. }));
        let shared = Arc::downgrade(link.shared());
        drop(link);
        assert_eq!(shared.strong_count(), 0, "nothing is left behind");
    }
}
