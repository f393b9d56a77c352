//! What a client may do often on one connection of HTTP/2, and a pipe that counts it.
//!
//! The pipe also tells what frame heads alone show to be wrong, where `h2` has no such rule, or has
//! another code for it than RFC 9113.
//!
//! Frames that cost their sender next to nothing and the receiver something: resets before there is
//! an answer ("rapid reset", CVE-2023-44487), also those that the client has `h2` send ("made you
//! reset", CVE-2025-8671), PING and SETTINGS, each of which has to be answered. The counter looks
//! at frame heads alone, of what the client sends and, to know which requests are answered, and
//! which `h2` refuses by itself, of what it is sent; what else is wrong with a frame is for `h2` to
//! say.

use std::collections::HashSet;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::counted::Limit;
use super::serve::Gateway;

/// Octets that a client sends before its first frame: RFC 9113, section 3.4.
const PREFACE_OCTETS: usize = 24;

/// Octets of a frame's head: RFC 9113, section 4.1.
const HEAD_OCTETS: usize = 9;

/// Resets of requests that are not answered yet, in a connection's life: those that the client
/// sends, and those that it has `h2` send.
const EARLY_RESETS_MAX: u32 = 50;

/// Resets of any requests, in one second.
const RESETS_MAX: u32 = 100;

/// PINGs that ask for an answer, in one second.
const PINGS_MAX: u32 = 30;

/// SETTINGS that ask for an answer, in one second.
const SETTINGS_MAX: u32 = 20;

const SECOND: Duration = Duration::from_secs(1);

/// Requests that are remembered until they are answered. Far more than `h2` lets be open, with
/// those that it is about to refuse.
const UNANSWERED_MAX: usize = 4096;

// RFC 9113, section 6.
const HEADERS: u8 = 0x1;
const PRIORITY: u8 = 0x2;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const WINDOW_UPDATE: u8 = 0x8;
const ACK: u8 = 0x1;

/// Octets of one setting.
const SETTING_OCTETS: u32 = 6;

/// What a client did more often than it may.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Excess {
    /// Requests, and their resets before there was an answer.
    #[error("more than {EARLY_RESETS_MAX} requests were reset before they were answered")]
    EarlyResets,
    /// Resets.
    #[error("more than {RESETS_MAX} resets in a second")]
    Resets,
    /// PING.
    #[error("more than {PINGS_MAX} PING in a second")]
    Pings,
    /// SETTINGS.
    #[error("more than {SETTINGS_MAX} SETTINGS in a second")]
    Settings,
}

/// Why a client is not served on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Offence {
    /// It does something too often.
    #[error(transparent)]
    Excess(#[from] Excess),
    /// It begins with anything but its settings: RFC 9113, section 3.4.
    #[error("the first frame is not SETTINGS")]
    NoSettings,
    /// A frame has another length than all of its type have: RFC 9113, section 6.
    #[error("a frame of type {kind} has {octets} octets")]
    FrameSize {
        /// The type.
        kind: u8,
        /// Octets of the frame's payload.
        octets: u32,
    },
}

impl Offence {
    /// What the client is told.
    pub(super) fn code(self) -> Reason {
        match self {
            Self::Excess(_) => Reason::ENHANCE_YOUR_CALM,
            Self::NoSettings => Reason::PROTOCOL_ERROR,
            Self::FrameSize { .. } => Reason::FRAME_SIZE_ERROR,
        }
    }
}

/// What `h2` says to a request by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    /// 431: its head is far too long.
    Head,
    /// `RST_STREAM`, before there is an answer: it is malformed, or beyond what may be open, or its
    /// body is beyond the window.
    Reset,
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct FrameHead {
    octets: u32,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl FrameHead {
    /// Whether a frame of its type may have its length.
    fn is_of_size(self) -> bool {
        match self.kind {
            PRIORITY => self.octets == 5,
            RST_STREAM | WINDOW_UPDATE => self.octets == 4,
            SETTINGS if self.flags & ACK != 0 => self.octets == 0,
            SETTINGS => self.octets.is_multiple_of(SETTING_OCTETS),
            PING => self.octets == 8,
            _ => true,
        }
    }

    /// Whether a connection may begin with it.
    fn may_be_first(self) -> bool {
        self.kind == SETTINGS && self.flags & ACK == 0
    }
}

/// Finds the heads of frames in octets that come in pieces.
#[derive(Debug)]
struct Scanner {
    /// Octets that no head is in.
    skip: usize,
    head: [u8; HEAD_OCTETS],
    have: usize,
}

impl Scanner {
    fn behind(skip: usize) -> Self {
        Self { skip, head: [0; HEAD_OCTETS], have: 0 }
    }

    fn scan(&mut self, mut octets: &[u8], mut found: impl FnMut(FrameHead)) {
        while !octets.is_empty() {
            let skipped = self.skip.min(octets.len());
            self.skip -= skipped;
            octets = &octets[skipped..];
            let taken = (HEAD_OCTETS - self.have).min(octets.len());
            self.head[self.have..self.have + taken].copy_from_slice(&octets[..taken]);
            self.have += taken;
            octets = &octets[taken..];
            if self.have == HEAD_OCTETS {
                let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = self.head;
                let octets = u32::from_be_bytes([0, l0, l1, l2]);
                self.skip = octets as usize;
                self.have = 0;
                let stream = u32::from_be_bytes([s0, s1, s2, s3]) & (u32::MAX >> 1);
                found(FrameHead { octets, kind, flags, stream });
            }
        }
    }
}

/// How often something happened in the second that began with the first of it.
#[derive(Debug, Default)]
struct PerSecond {
    began: Option<Instant>,
    count: u32,
}

impl PerSecond {
    /// Counts one more. Returns whether that is within `max`.
    fn count(&mut self, max: u32, now: Instant) -> bool {
        if self.began.is_none_or(|began| began + SECOND <= now) {
            (self.began, self.count) = (Some(now), 0);
        }
        self.count += 1;
        self.count <= max
    }
}

/// What a client has done on one connection.
#[derive(Debug, Default)]
struct Rates {
    has_begun: bool,
    unanswered: HashSet<u32>,
    /// The last stream that the client has opened.
    last: u32,
    early_resets: u32,
    resets: PerSecond,
    pings: PerSecond,
    settings: PerSecond,
    /// Whether the connection is a balancer's, which brings the resets of many clients.
    is_shared: bool,
}

impl Rates {
    /// Judges a frame of the client.
    fn judge(&mut self, frame: FrameHead, now: Instant) -> Result<(), Offence> {
        if !std::mem::replace(&mut self.has_begun, true) && !frame.may_be_first() {
            return Err(Offence::NoSettings);
        }
        if !frame.is_of_size() {
            return Err(Offence::FrameSize { kind: frame.kind, octets: frame.octets });
        }
        Ok(self.sent(frame, now)?)
    }

    /// Counts a frame of the client.
    fn sent(&mut self, frame: FrameHead, now: Instant) -> Result<(), Excess> {
        let asks = frame.flags & ACK == 0;
        let (is_within, excess) = match frame.kind {
            // Later ones of the stream are trailers.
            HEADERS if frame.stream > self.last => {
                self.last = frame.stream;
                if self.unanswered.len() < UNANSWERED_MAX {
                    self.unanswered.insert(frame.stream);
                }
                return Ok(());
            }
            RST_STREAM => {
                if self.unanswered.remove(&frame.stream) {
                    self.count_early_reset()?;
                }
                (self.resets.count(RESETS_MAX, now), Excess::Resets)
            }
            PING if asks => (self.pings.count(PINGS_MAX, now), Excess::Pings),
            SETTINGS if asks => (self.settings.count(SETTINGS_MAX, now), Excess::Settings),
            _ => return Ok(()),
        };
        if is_within { Ok(()) } else { Err(excess) }
    }

    fn count_early_reset(&mut self) -> Result<(), Excess> {
        self.early_resets += 1;
        let is_within = self.early_resets <= EARLY_RESETS_MAX || self.is_shared;
        if is_within { Ok(()) } else { Err(Excess::EarlyResets) }
    }

    /// Takes note of a frame to the client. Returns what `h2` refuses with it.
    fn received(&mut self, frame: FrameHead, exceeded: &Exceeded) -> Option<Refusal> {
        let refusal = match frame.kind {
            HEADERS => match exceeded.take_head(frame.stream) {
                Some(HeadKind::Interim) => return None,
                Some(HeadKind::Final) => None,
                // Nobody was handed the request, so nobody has answered it.
                None => Some(Refusal::Head),
            },
            RST_STREAM => {
                exceeded.forget(frame.stream);
                Some(Refusal::Reset)
            }
            _ => return None,
        };
        // Else they are trailers, or the end of an answer that is cut.
        let was_unanswered = self.unanswered.remove(&frame.stream);
        refusal.filter(|_| was_unanswered)
    }
}

/// Tells what a client did that it may not.
#[derive(Clone, Debug, Default)]
pub(super) struct Exceeded(Arc<Told>);

#[derive(Debug, Default)]
struct Told {
    what: Mutex<Option<Offence>>,
    news: Notify,
    is_shared: AtomicBool,
    /// The stream of each head that is to be written.
    heads: Mutex<Vec<(u32, HeadKind)>>,
}

/// Which head of an answer it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum HeadKind {
    /// It answers nothing.
    Interim,
    /// It answers the request.
    Final,
}

impl Exceeded {
    /// A link stands on the connection: it is a balancer's, on which the resets of many clients add
    /// up in its life. What it may do in a second holds as before.
    pub(super) fn share(&self) {
        self.0.is_shared.store(true, Ordering::Relaxed);
    }

    /// The next head on `stream` is one of ours. To be called before it is handed over.
    pub(super) fn expect(&self, stream: u32, kind: HeadKind) {
        self.heads().push((stream, kind));
    }

    /// Which of the heads that are expected on `stream` is written; `None`: it is `h2`'s own.
    fn take_head(&self, stream: u32) -> Option<HeadKind> {
        let mut heads = self.heads();
        let place = heads.iter().position(|(expected, _)| *expected == stream)?;
        // The others of the stream keep their order.
        Some(heads.remove(place).1)
    }

    /// What was to be written on `stream` never will be.
    pub(super) fn forget(&self, stream: u32) {
        self.heads().retain(|(expected, _)| *expected != stream);
    }

    fn heads(&self) -> MutexGuard<'_, Vec<(u32, HeadKind)>> {
        self.0.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, offence: Offence) {
        *self.0.what.lock().unwrap_or_else(PoisonError::into_inner) = Some(offence);
        self.0.news.notify_one();
    }

    /// Waits until a client does what it may not. For one waiter.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(super) async fn wait(&self) -> Offence {
        loop {
            if let Some(offence) = *self.0.what.lock().unwrap_or_else(PoisonError::into_inner) {
                return offence;
            }
            self.0.news.notified().await;
        }
    }
}

/// A pipe that counts what its client does, and reads no more once that is too much, or wrong.
#[derive(Debug)]
pub(super) struct Rated<P> {
    pipe: P,
    /// Counts what `h2` refuses.
    gateway: Gateway,
    from_client: Scanner,
    to_client: Scanner,
    rates: Rates,
    is_over: bool,
    exceeded: Exceeded,
}

impl<P> Rated<P> {
    pub(super) fn new(pipe: P, gateway: Gateway, exceeded: Exceeded) -> Self {
        Self {
            pipe,
            gateway,
            from_client: Scanner::behind(PREFACE_OCTETS),
            to_client: Scanner::behind(0),
            rates: Rates::default(),
            is_over: false,
            exceeded,
        }
    }

    fn count_sent(&mut self, octets: &[u8]) {
        let (rates, now) = (&mut self.rates, Instant::now());
        rates.is_shared = self.exceeded.0.is_shared.load(Ordering::Relaxed);
        let mut offence = None;
        let exceeded = &self.exceeded;
        self.from_client.scan(octets, |frame| {
            if frame.kind == RST_STREAM {
                exceeded.forget(frame.stream);
            }
            if let Err(why) = rates.judge(frame, now) {
                offence.get_or_insert(why);
            }
        });
        self.end_for(offence);
    }

    fn note_received(&mut self, octets: &[u8]) {
        let (rates, exceeded, gateway) = (&mut self.rates, &self.exceeded, &self.gateway);
        let mut offence = None;
        self.to_client.scan(octets, |frame| {
            let Some(refusal) = rates.received(frame, exceeded) else { return };
            gateway.note(Limit::Http2Refused(refusal));
            if refusal == Refusal::Reset
                && let Err(why) = rates.count_early_reset()
            {
                offence = Some(why.into());
            }
        });
        self.end_for(offence);
    }

    /// Takes no more of a client with an `offence`, and tells of it.
    fn end_for(&mut self, offence: Option<Offence>) {
        // It is told of once: what is still written then says nothing new.
        if let Some(offence) = offence.filter(|_| !self.is_over) {
            self.is_over = true;
            self.exceeded.tell(offence);
        }
    }
}

impl<P: AsyncRead + Unpin> AsyncRead for Rated<P> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_over {
            // Whoever was told ends the connection.
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.pipe).poll_read(cx, buffer))?;
        this.count_sent(buffer.filled().get(before..).unwrap_or_default());
        if this.is_over {
            // Of what came with it nothing is served: the GOAWAY says so.
            buffer.set_filled(before);
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl<P: AsyncWrite + Unpin> AsyncWrite for Rated<P> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.pipe).poll_write(cx, octets))?;
        this.note_received(octets.get(..written).unwrap_or_default());
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.pipe).poll_write_vectored(cx, slices))?;
        let mut left = written;
        for slice in slices {
            let taken = left.min(slice.len());
            this.note_received(slice.get(..taken).unwrap_or_default());
            left -= taken;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.pipe.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32) -> FrameHead {
        FrameHead { octets: 0, kind, flags, stream }
    }

    fn answer(rates: &mut Rates, stream: u32) {
        let exceeded = Exceeded::default();
        exceeded.expect(stream, HeadKind::Final);
        assert_eq!(rates.received(frame(HEADERS, 0, stream), &exceeded), None);
    }

    fn octets(length: usize, kind: u8, stream: u32) -> Vec<u8> {
        let [_, l0, l1, l2] = u32::try_from(length).unwrap().to_be_bytes();
        let mut octets = vec![l0, l1, l2, kind, 0];
        octets.extend_from_slice(&stream.to_be_bytes());
        octets.resize(HEAD_OCTETS + length, 0xff);
        octets
    }

    #[test]
    fn heads_are_found_however_the_octets_are_cut() {
        let mut all = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        all.extend(octets(0, SETTINGS, 0));
        all.extend(octets(300, HEADERS, 1));
        all.extend(octets(8, PING, 0x8000_0000));
        all.extend(octets(4, RST_STREAM, 1));
        let expected = [(SETTINGS, 0), (HEADERS, 1), (PING, 0), (RST_STREAM, 1)];
        for piece in [1, 2, 8, 9, 10, 23, 24, 25, 1000] {
            let mut scanner = Scanner::behind(PREFACE_OCTETS);
            let mut found = Vec::new();
            for piece in all.chunks(piece) {
                scanner.scan(piece, |head| found.push((head.kind, head.stream)));
            }
            assert_eq!(found, expected, "pieces of {piece}");
        }
    }

    #[test]
    fn frames_of_one_length_have_no_other() {
        let all = [
            (PRIORITY, 0, 5),
            (RST_STREAM, 0, 4),
            (SETTINGS, ACK, 0),
            (PING, 0, 8),
            (PING, ACK, 8),
            (WINDOW_UPDATE, 0, 4),
        ];
        for (kind, flags, right) in all {
            for octets in 0..=12 {
                let frame = FrameHead { octets, kind, flags, stream: 0 };
                assert_eq!(frame.is_of_size(), octets == right, "{frame:?}");
            }
        }
        for octets in 0..=13 {
            let settings = FrameHead { octets, kind: SETTINGS, flags: 0, stream: 0 };
            assert_eq!(settings.is_of_size(), octets % 6 == 0, "{octets}");
            let data = FrameHead { octets, kind: 0, flags: ACK, stream: 1 };
            assert!(data.is_of_size());
        }
    }

    #[test]
    fn settings_of_its_own_are_what_a_client_begins_with() {
        let now = Instant::now();
        for (kind, flags, expected) in [
            (SETTINGS, 0, Ok(())),
            (SETTINGS, ACK, Err(Offence::NoSettings)),
            (PING, 0, Err(Offence::NoSettings)),
            (HEADERS, 0, Err(Offence::NoSettings)),
        ] {
            assert_eq!(Rates::default().judge(frame(kind, flags, 0), now), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_rate_holds_at_its_limit_and_anew_in_the_next_second() {
        for (kind, max, excess) in [
            (PING, PINGS_MAX, Excess::Pings),
            (SETTINGS, SETTINGS_MAX, Excess::Settings),
            (RST_STREAM, RESETS_MAX, Excess::Resets),
        ] {
            let mut rates = Rates::default();
            let mut all_pass = |now| (0..max).all(|_| rates.sent(frame(kind, 0, 0), now).is_ok());
            assert!(all_pass(Instant::now()));
            tokio::time::advance(SECOND).await;
            assert!(all_pass(Instant::now()));
            tokio::time::advance(SECOND.checked_sub(Duration::from_millis(1)).unwrap()).await;
            assert_eq!(rates.sent(frame(kind, 0, 0), Instant::now()), Err(excess));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_answers_a_frame_of_ours_is_not_counted() {
        let (mut rates, now) = (Rates::default(), Instant::now());
        for kind in [PING, SETTINGS] {
            for _ in 0..1000 {
                assert_eq!(rates.sent(frame(kind, ACK, 0), now), Ok(()));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn resets_of_what_is_answered_cost_nothing_of_those_of_a_life() {
        let mut rates = Rates::default();
        let mut reset = async |number: u32, is_answered: bool| {
            let stream = 2 * number + 1;
            let now = Instant::now();
            rates.sent(frame(HEADERS, 0, stream), now).unwrap();
            if is_answered {
                answer(&mut rates, stream);
            }
            let outcome = rates.sent(frame(RST_STREAM, 0, stream), now);
            tokio::time::advance(SECOND).await;
            (outcome, rates.unanswered.len())
        };
        for number in 0..200 {
            assert_eq!(reset(number, true).await, (Ok(()), 0));
        }
        for number in 200..250 {
            assert_eq!(reset(number, false).await, (Ok(()), 0));
        }
        assert_eq!(reset(250, false).await.0, Err(Excess::EarlyResets));
    }

    #[test]
    fn what_h2_says_by_itself_is_told_from_answers_and_once() {
        let (mut rates, exceeded) = (Rates::default(), Exceeded::default());
        let mut said = |kind, stream| rates.received(frame(kind, 0, stream), &exceeded);
        assert_eq!((said(HEADERS, 1), said(RST_STREAM, 1)), (None, None), "it was not asked");
        let mut rates = Rates::default();
        for stream in [1, 3, 5, 7] {
            rates.sent(frame(HEADERS, 0, stream), Instant::now()).unwrap();
        }
        exceeded.expect(1, HeadKind::Interim);
        exceeded.expect(1, HeadKind::Final);
        exceeded.expect(7, HeadKind::Final);
        let mut said = |kind, stream| rates.received(frame(kind, 0, stream), &exceeded);
        // An interim head, the final one, trailers, and an end that was cut.
        assert_eq!([HEADERS, HEADERS, HEADERS, RST_STREAM].map(|kind| said(kind, 1)), [None; 4]);
        assert_eq!([HEADERS, RST_STREAM].map(|it| said(it, 3)), [Some(Refusal::Head), None]);
        assert_eq!([RST_STREAM; 2].map(|it| said(it, 5)), [Some(Refusal::Reset), None]);
        // Before its head was written.
        assert_eq!(said(RST_STREAM, 7), Some(Refusal::Reset));
        assert!(exceeded.heads().is_empty());
    }

    #[test]
    fn an_interim_head_answers_nothing() {
        let (mut rates, exceeded, mut now) =
            (Rates::default(), Exceeded::default(), Instant::now());
        for number in 0..=EARLY_RESETS_MAX {
            let stream = 2 * number + 1;
            now += SECOND;
            rates.sent(frame(HEADERS, 0, stream), now).unwrap();
            for _ in 0..2 {
                exceeded.expect(stream, HeadKind::Interim);
            }
            rates.received(frame(HEADERS, 0, stream), &exceeded);
            assert_eq!(rates.unanswered.len(), 1);
            // The other was never written.
            exceeded.forget(stream);
            let outcome = rates.sent(frame(RST_STREAM, 0, stream), now);
            let is_within = number < EARLY_RESETS_MAX;
            assert_eq!(outcome, if is_within { Ok(()) } else { Err(Excess::EarlyResets) });
        }
        assert!(exceeded.heads().is_empty());
    }

    #[test]
    fn resets_on_a_connection_with_a_link_add_up_to_nothing_in_its_life_and_count_by_the_second() {
        let mut rates = Rates { is_shared: true, ..Rates::default() };
        let mut now = Instant::now();
        let mut reset = |stream: u32, now: Instant| {
            rates.sent(frame(HEADERS, 0, stream), now).unwrap();
            rates.sent(frame(RST_STREAM, 0, stream), now)
        };
        for number in 0..4 * RESETS_MAX {
            if number % RESETS_MAX == 0 {
                now += SECOND;
            }
            assert_eq!(reset(2 * number + 1, now), Ok(()));
        }
        assert_eq!(reset(8 * RESETS_MAX + 1, now), Err(Excess::Resets));
    }

    #[test]
    fn trailers_open_no_request_anew() {
        let (mut rates, now) = (Rates::default(), Instant::now());
        rates.sent(frame(HEADERS, 0, 1), now).unwrap();
        answer(&mut rates, 1);
        rates.sent(frame(HEADERS, 0, 1), now).unwrap();
        assert!(rates.unanswered.is_empty());
    }
}
