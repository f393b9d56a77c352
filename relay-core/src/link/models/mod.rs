//! The link under loom: handles and driver in every order in which they can meet.
//!
//! What is modelled is the code itself, from the handles to the driver and its engine. Only the
//! threads, and the locks and atomics of [`sync`](super::sync), are loom's. tokio's primitives are
//! not: loom sees neither them nor the order in which threads meet in one of them alone.
//!
//! A lost wake-up shows as a deadlock: the clock stands still, and no thread has another chance. A
//! cell that stands on the agenda twice, or while it is clean, fails an assertion of the driver. A
//! handle, cell or waiting stream that keeps its link alive shows in `Weak`.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::Poll;

use bytes::Bytes;
use loom::thread::{self, JoinHandle};

use super::shared::{Shared, Stage};
use super::{Driver, End, Link, RecvError, RecvStream};
use crate::mux::{Event, HeadKind, LinkError, Mux, SendError, StreamCode, StreamId};

mod world;

use world::{FRAME, Peer, WINDOW, block_on, check, linked, linked_with, turn};

const HEAD: Bytes = Bytes::from_static(b"head");

fn payload(len: usize) -> Bytes {
    Bytes::from_static(&[7; 4 * WINDOW]).slice(..len)
}

fn watch(link: &Link) -> Weak<Shared> {
    Arc::downgrade(link.shared())
}

/// Runs the driver to the end of its link, and holds that nothing is left behind.
fn drive(driver: Driver<Peer>, shared: &Weak<Shared>, users: Vec<JoinHandle<()>>) -> LinkError {
    let reason = block_on(driver);
    for user in users {
        user.join().unwrap();
    }
    assert_eq!(shared.strong_count(), 0, "nothing is left behind");
    reason
}

fn user(work: impl Future<Output = ()> + 'static) -> JoinHandle<()> {
    thread::spawn(move || block_on(work))
}

/// A peer that takes every payload, and answers its end with a head and nothing else.
fn taking(mux: &mut Mux, event: Event) {
    if let Event::Data { id, payload, end } = event {
        mux.take(id, payload.len());
        if end {
            mux.send_head(id, HEAD, HeadKind::FinalAndEnd).unwrap();
            mux.release(id);
        }
    }
}

/// A peer that answers with two windows, as they are granted. When the request ends, it holds that
/// all of the answer but one frame was told as taken, and lets go.
fn answering() -> impl FnMut(&mut Mux, Event) {
    let mut rest = payload(2 * WINDOW);
    move |mux, event| match event {
        Event::Opened { id, .. } => {
            mux.send_head(id, HEAD, HeadKind::Final).unwrap();
            mux.write(id, &mut rest).unwrap();
        }
        Event::Writable { id } => mux.write(id, &mut rest).unwrap(),
        Event::Data { id, end: true, .. } => {
            assert!(rest.is_empty(), "three frames were taken, so all four were granted");
            assert_eq!(mux.room(id), WINDOW - FRAME, "what was taken was told once");
            mux.release(id);
        }
        _ => {}
    }
}

/// A peer that opens a stream of its own for the first one that is opened to it.
fn opening_too() -> impl FnMut(&mut Mux, Event) {
    |mux, event| match event {
        Event::Opened { id, .. } => {
            mux.release(id);
            mux.open(HEAD, true).unwrap();
        }
        Event::Head { id, .. } | Event::Reset { id, .. } | Event::Stopped { id, .. } => {
            mux.release(id);
        }
        _ => {}
    }
}

async fn read(recv: &mut RecvStream, len: usize) {
    let mut read = 0;
    while read < len {
        read += recv.read_chunk().await.unwrap().expect("more is to come").len();
    }
    assert_eq!(read, len);
}

#[test]
fn a_writer_that_waits_for_room_is_woken_and_what_it_wrote_is_sent() {
    check(|| {
        let (link, driver) = linked(taking);
        let shared = watch(&link);
        let user = user(async move {
            let (mut send, mut recv) = link.open(HEAD, End::More).await.unwrap();
            send.write_chunk(payload(WINDOW + 100)).await.unwrap();
            send.write_chunk(payload(100)).await.unwrap();
            send.finish().unwrap();
            assert!(recv.head().await.unwrap().end);
        });
        assert_eq!(drive(driver, &shared, vec![user]), LinkError::ClosedHere);
    });
}

#[test]
fn a_reader_that_waits_is_woken_and_all_it_took_is_told_once() {
    check(|| {
        let (link, driver) = linked(answering());
        let shared = watch(&link);
        let user = user(async move {
            let (mut send, mut recv) = link.open(HEAD, End::More).await.unwrap();
            recv.head().await.unwrap();
            read(&mut recv, 2 * WINDOW - FRAME).await;
            send.finish().unwrap();
            // A receive half that is dropped first would make the last grant pointless.
            send.stopped().await;
            drop(recv);
        });
        assert_eq!(drive(driver, &shared, vec![user]), LinkError::ClosedHere);
    });
}

#[test]
fn two_users_of_one_stream_are_both_served() {
    check(|| {
        let (link, mut driver) = linked(|mux, event| match event {
            Event::Opened { id, .. } => {
                mux.send_head(id, HEAD, HeadKind::Final).unwrap();
                mux.write(id, &mut payload(FRAME)).unwrap();
                mux.finish(id).unwrap();
            }
            Event::Data { id, end: true, .. } => _ = mux.release(id),
            _ => {}
        });
        let shared = watch(&link);
        let (mut send, mut recv) = link.try_open(HEAD, End::More).unwrap().unwrap();
        drop(link);
        turn(&mut driver);
        let writer = user(async move {
            send.write_chunk(payload(100)).await.unwrap();
            send.finish().unwrap();
        });
        let reader = user(async move {
            recv.head().await.unwrap();
            read(&mut recv, FRAME).await;
            assert_eq!(recv.read_chunk().await, Ok(None));
        });
        assert_eq!(drive(driver, &shared, vec![writer, reader]), LinkError::ClosedHere);
    });
}

#[test]
fn a_stream_opened_as_the_driver_goes_ends() {
    check(|| {
        let (link, mut driver) = linked(taking);
        let shared = watch(&link);
        let user = user(async move {
            // As one that took its permit just before.
            let (mut send, mut recv) = link.open_with_permit(HEAD, End::More);
            let (code, error) = match recv.head().await {
                Err(error @ RecvError::LinkLost) => (StreamCode::DROPPED, error),
                other => (StreamCode::REFUSED, other.unwrap_err()),
            };
            assert!(matches!(error, RecvError::LinkLost | RecvError::Reset(StreamCode::REFUSED)));
            assert_eq!(send.write_chunk(HEAD).await, Err(SendError::Reset(code)));
        });
        turn(&mut driver);
        drop(driver);
        user.join().unwrap();
        assert_eq!(shared.strong_count(), 0, "nothing is left behind");
    });
}

#[test]
fn users_that_wait_as_the_driver_goes_are_woken() {
    check(|| {
        // The peer neither takes nor answers.
        let (link, mut driver) = linked(|_, _| {});
        let shared = watch(&link);
        let (mut send, mut recv) = link.try_open(HEAD, End::More).unwrap().unwrap();
        turn(&mut driver);
        let writer = user(async move {
            let mut written = Ok(());
            while written.is_ok() {
                written = send.write_chunk(payload(WINDOW)).await;
            }
            assert_eq!(written, Err(SendError::Reset(StreamCode::DROPPED)));
        });
        let reader = user(async move {
            assert_eq!(recv.head().await, Err(RecvError::LinkLost));
            drop(link);
        });
        turn(&mut driver);
        drop(driver);
        writer.join().unwrap();
        reader.join().unwrap();
        assert_eq!(shared.strong_count(), 0, "nothing is left behind");
    });
}

#[test]
fn a_link_that_is_closed_ends_whoever_reads_or_opens() {
    check(|| {
        let (link, driver) = linked(|_, _| {});
        let shared = watch(&link);
        let (send, mut recv) = link.try_open(HEAD, End::More).unwrap().unwrap();
        let closer = user({
            let link = link.clone();
            async move { link.close() }
        });
        let reader = user(async move {
            assert!(recv.head().await.is_err());
            assert!(link.open(HEAD, End::More).await.is_err());
            drop(send);
        });
        assert_eq!(drive(driver, &shared, vec![closer, reader]), LinkError::ClosedHere);
    });
}

#[test]
fn streams_that_nobody_accepts_keep_no_link_alive() {
    check(|| {
        let (link, driver) = linked(opening_too());
        let shared = watch(&link);
        let user = user(async move {
            let _stream = link.open(HEAD, End::NoPayload).await.unwrap();
        });
        assert_eq!(drive(driver, &shared, vec![user]), LinkError::ClosedHere);
    });
}

#[test]
fn an_acceptor_that_waits_is_woken() {
    check(|| {
        let (link, driver) = linked(opening_too());
        let shared = watch(&link);
        let user = user(async move {
            drop(link.open(HEAD, End::NoPayload).await.unwrap());
            let mut incoming = link.accept().await.unwrap();
            incoming.send.send_head(HEAD, HeadKind::FinalAndEnd).unwrap();
        });
        assert_eq!(drive(driver, &shared, vec![user]), LinkError::ClosedHere);
    });
}

/// Both handles go, and the end of what they sent waits for a grant that never comes: `give_up` is
/// what the peer does instead.
fn given_up_on_by_both(give_up: fn(&mut Mux, StreamId)) {
    check(move || {
        let (link, mut driver) = linked(move |mux, event| {
            if let Event::Data { id, .. } = event {
                give_up(mux, id);
                mux.release(id);
            }
        });
        let shared = watch(&link);
        let (mut send, recv) = link.try_open(HEAD, End::More).unwrap().unwrap();
        drop(link);
        turn(&mut driver);
        let writer = user(async move {
            send.write_now(payload(2 * WINDOW)).unwrap();
            let _ = send.finish();
        });
        let reader = user(async move { drop(recv) });
        assert_eq!(drive(driver, &shared, vec![writer, reader]), LinkError::ClosedHere);
    });
}

#[test]
fn a_stream_that_is_left_and_reset_is_let_go() {
    given_up_on_by_both(|mux, id| mux.reset(id, StreamCode(0x100)));
}

#[test]
fn a_stream_that_is_left_and_stopped_is_let_go() {
    given_up_on_by_both(|mux, id| {
        let _ = mux.send_head(id, HEAD, HeadKind::FinalAndEnd);
    });
}

#[test]
fn an_opener_that_waits_gets_the_next_place() {
    check(|| {
        let (link, mut driver) = linked_with(1, |mux, event| {
            if let Event::Opened { id, .. } | Event::Reset { id, .. } = event {
                mux.release(id);
            }
        });
        let shared = watch(&link);
        let first = link.try_open(HEAD, End::NoPayload).unwrap().unwrap();
        turn(&mut driver);
        let holder = user(async move { drop(first) });
        let opener = user(async move { drop(link.open(HEAD, End::NoPayload).await.unwrap()) });
        assert_eq!(drive(driver, &shared, vec![holder, opener]), LinkError::ClosedHere);
    });
}

#[test]
fn a_drain_ends_when_the_last_stream_has() {
    check(|| {
        let (link, mut driver) = linked(taking);
        let shared = watch(&link);
        let (mut send, mut recv) = link.try_open(HEAD, End::More).unwrap().unwrap();
        let writer = user(async move {
            send.write_chunk(payload(1)).await.unwrap();
            send.finish().unwrap();
            assert!(recv.head().await.unwrap().end);
        });
        // Nobody waits for the stage: tokio's watch has chance decide which of its lists it uses,
        // which loom cannot repeat.
        let stage = link.shared().stage.subscribe();
        let drainer = user({
            let link = link.clone();
            async move { link.shared().agenda.order(|orders| orders.drain = true) }
        });
        block_on(poll_fn(|cx| {
            assert!(Pin::new(&mut driver).poll(cx).is_pending());
            match *stage.borrow() {
                Stage::Drained(_) => Poll::Ready(()),
                _ => Poll::Pending,
            }
        }));
        drop(link);
        assert_eq!(drive(driver, &shared, vec![writer, drainer]), LinkError::ClosedHere);
    });
}

#[test]
fn a_reset_meets_what_the_peer_does_at_the_same_time() {
    check(|| {
        let (link, mut driver) = linked(|mux, event| match event {
            Event::Data { id, .. } => {
                mux.stop(id, StreamCode(0x100));
                mux.send_head(id, HEAD, HeadKind::FinalAndEnd).unwrap();
            }
            Event::Reset { id, .. } => _ = mux.release(id),
            _ => {}
        });
        let shared = watch(&link);
        let (mut send, mut recv) = link.try_open(HEAD, End::More).unwrap().unwrap();
        drop(link);
        turn(&mut driver);
        let writer = user(async move {
            send.write_now(payload(100)).unwrap();
            send.stopped().await;
            send.reset(StreamCode(0x200));
        });
        let reader = user(async move {
            let _ = recv.head().await;
        });
        assert_eq!(drive(driver, &shared, vec![writer, reader]), LinkError::ClosedHere);
    });
}
