//! Named scars: what other muxes got wrong, each held against this one from end to end. What each
//! product did, and which rule keeps it from happening here, is said at the test.
//!
//! | product | bug | test |
//! |---|---|---|
//! | tokio-yamux, smux … | slow reader stalls all | `eight_idle_readers_do_not_stop_the_ninth` |
//! | h2, tokio-yamux | one stalled of 100 stops 99 | `ninety_nine_streams_pass_a_stalled_one` |
//! | rust-yamux | a blocked reply stops reading | `reading_goes_on_while_replies_are_blocked` |
//! | rust-yamux | mutual deadlock | `two_sides_that_fill_the_pipe_both_finish` |
//! | h2, nghttp2, yamux | unbounded queues | `what_is_asked_for_an_hour_is_answered_once` |
//! | CVE-2023-44487 | rapid reset | `a_reset_frees_no_slot_before_the_work_ends` |
//! | CVE-2025-8671 | `MadeYouReset` | `our_own_reset_frees_no_slot_before_the_work_ends` |
//! | HTTP/2 | CONTINUATION, header bombs | `a_head_is_judged_by_its_first_eight_octets` |
//! | several | two writes per frame | `frames_of_many_streams_leave_in_one_write` |
//! | several | 40 ms stalls, lost flushes | `exchanges_through_a_buffer_wait_for_no_timer` |
//! | h2 0.4.1–0.4.18 | reset and drop leak credit | `no_way_to_end_a_stream_leaks_credit` |
//! | h2 0.4.1–0.4.18 | GOAWAY leaks credit | `a_goaway_takes_no_credit_from_open_streams` |
//! | h2 0.4.1–0.4.18 | padding leaks credit | `padding_takes_no_credit_from_any_stream` |
//! | CVE-2026-32314 | oversized frame panics | `no_first_frame_is_long_enough_to_panic_a_link` |
//! | several | a slice pins its buffer | `kept_octets_do_not_keep_their_read_buffer` |
//! | tokio-yamux 0.3.20 | a mere writer hangs | `a_stream_that_only_writes_is_woken_by_credit` |
//! | tokio-yamux | hangs after the peer's FIN | `a_half_goes_on_after_the_peers_has_ended` |
//!
//! The runtime's clock is paused, so time passes only when no task can go on: [`at_once`] holds
//! that a test needs none of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use relay_core::link::{self, Incoming, Link, RecvStream, SendStream};
use relay_core::mux::{Config, LinkError, PREFACE_LEN, Side};
use relay_tests::mux::{Frame, frames, hello};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::task::{JoinHandle, JoinSet};

#[path = "mux_scars/credit.rs"]
mod credit;
#[path = "mux_scars/hostile.rs"]
mod hostile;
#[path = "mux_scars/pipe.rs"]
mod pipe;
#[path = "mux_scars/stalls.rs"]
mod stalls;

/// Octets that a narrow pipe holds: less than one frame, so that every write is partial.
const NARROW: usize = 64;

const HEAD: Bytes = Bytes::from_static(b"head");

/// What `work` comes to, without any time passing.
#[track_caller]
fn at_once<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let caller = std::panic::Location::caller();
    async move {
        // The paused clock gets there only when nothing else can be done: a wake was lost, a
        // deadlock has closed, or something waits for a timer.
        let outcome = tokio::time::timeout(Duration::from_millis(1), work).await;
        outcome.unwrap_or_else(|_| panic!("stuck at {caller}"))
    }
}

/// Both ends of a link, whose drivers run until this is dropped.
struct Linked {
    gateway: Link,
    site: Link,
    drivers: JoinSet<LinkError>,
}

async fn linked<P>((near, far): (P, P), gateway: Config, site: Config) -> Linked
where
    P: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (gateway, one) = link::new(near, Side::Listener, gateway).unwrap();
    let (site, other) = link::new(far, Side::Dialer, site).unwrap();
    let mut drivers = JoinSet::new();
    drivers.spawn(one);
    drivers.spawn(other);
    at_once(gateway.established()).await.unwrap();
    at_once(site.established()).await.unwrap();
    Linked { gateway, site, drivers }
}

/// Settings for streams `stream_window` octets wide, and not one octet of memory more than they
/// need: no window can grow.
fn tight(stream_window: u32, streams: u32) -> Config {
    Config {
        stream_window,
        accept_streams_max: streams,
        open_streams_max: streams,
        receive_memory_max: u64::from(2 * streams * stream_window),
        ..Config::default()
    }
}

/// Sends `octets` octets in short chunks, and ends the half.
async fn write_whole(send: &mut SendStream, octets: usize) {
    let mut left = octets;
    while left > 0 {
        let step = left.min(1000);
        send.write_chunk(Bytes::from(vec![7; step])).await.unwrap();
        left -= step;
    }
    send.finish().unwrap();
}

/// Reads a half to its end. Returns its octets.
async fn read_whole(recv: &mut RecvStream) -> usize {
    let mut octets = 0;
    while let Some(chunk) = recv.read_chunk().await.unwrap() {
        octets += chunk.len();
    }
    octets
}

/// Gives the drivers turns until `reached`, which takes a few.
#[track_caller]
fn turns_until(reached: impl Fn() -> bool) -> impl Future<Output = ()> {
    at_once(async move {
        while !reached() {
            // Turns alone never end, and never let the clock go on.
            tokio::task::yield_now().await;
            tokio::time::advance(Duration::from_nanos(100)).await;
        }
    })
}

/// A link whose peer is the test itself, octet by octet, on a pipe of chosen width.
struct Raw {
    link: Link,
    driver: JoinHandle<LinkError>,
    pipe: DuplexStream,
}

impl Raw {
    /// A link that has been told the hello of a peer with default settings. Its own is unread.
    async fn new(config: Config, width: usize) -> Self {
        let (near, pipe) = tokio::io::duplex(width);
        let (link, driver) = link::new(near, Side::Listener, config).unwrap();
        let mut raw = Self { link, driver: tokio::spawn(driver), pipe };
        raw.say(&hello(&Config::default())).await;
        raw
    }

    /// Writes all of `octets`, and reads nothing meanwhile.
    #[track_caller]
    fn say(&mut self, octets: &[u8]) -> impl Future<Output = ()> {
        at_once(async { self.pipe.write_all(octets).await.unwrap() })
    }

    /// The streams that the peer opened, which the link has been told of.
    async fn accept(&self) -> Incoming {
        at_once(self.link.accept()).await.unwrap()
    }

    /// Throws the link's hello away.
    async fn skip_hello(&mut self) {
        let mut preface = [0; PREFACE_LEN];
        at_once(self.pipe.read_exact(&mut preface)).await.unwrap();
        let len = u32::from_be_bytes(*preface.last_chunk().unwrap());
        at_once(self.pipe.read_exact(&mut vec![0; len as usize])).await.unwrap();
    }

    /// The next frame, or none if the link says nothing more.
    async fn hear(&mut self) -> Option<Frame> {
        let next = async {
            let mut octets = vec![0; 8];
            self.pipe.read_exact(&mut octets).await.ok()?;
            let len = u32::from_be_bytes([0, octets[0], octets[1], octets[2]]);
            octets.resize(8 + len as usize, 0);
            self.pipe.read_exact(&mut octets[8..]).await.unwrap();
            frames(&octets).pop()
        };
        tokio::time::timeout(Duration::from_millis(1), next).await.ok().flatten()
    }

    /// Every frame until the link says nothing more.
    async fn hear_all(&mut self) -> Vec<Frame> {
        let mut heard = Vec::new();
        while let Some(frame) = self.hear().await {
            heard.push(frame);
        }
        heard
    }
}

/// The functions of `source` that are tests.
fn tests_of(source: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim_start) {
        is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        if let Some(after) = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ") {
            let name = after.split('(').next().unwrap();
            if std::mem::take(&mut is_test) {
                found.insert(name);
            }
        }
    }
    found
}

#[test]
fn the_table_names_every_scar_and_nothing_else() {
    let table = include_str!("mux_scars.rs");
    let rows = table.lines().filter_map(|line| line.strip_prefix("//! | "));
    let listed: Vec<&str> = rows
        .skip(1)
        .map(|row| row.trim_end_matches([' ', '|']).rsplit('`').nth(1).unwrap())
        .collect();
    let named: BTreeSet<&str> = listed.iter().copied().collect();
    assert_eq!(named.len(), listed.len(), "each row has a test of its own");

    let sources = [
        include_str!("mux_scars/credit.rs"),
        include_str!("mux_scars/hostile.rs"),
        include_str!("mux_scars/pipe.rs"),
        include_str!("mux_scars/stalls.rs"),
    ];
    let mut tests: BTreeSet<&str> = sources.into_iter().chain([table]).flat_map(tests_of).collect();
    assert!(tests.remove("the_table_names_every_scar_and_nothing_else"), "this one is no scar");
    assert_eq!(named, tests);
}
