//! Streams that wait for what never comes, or for each other.

use super::*;
use relay_core::link::End;
use relay_core::mux::{Flags, HeadKind, Kind};
use relay_tests::mux::frame;

/// Opens a stream that sends without end, to a reader that takes nothing. Returns the reader.
async fn stall_one(linked: &Linked, writers: &mut JoinSet<()>) -> Incoming {
    let (mut send, recv) = linked.gateway.open(HEAD, End::More).await.unwrap();
    let unread = at_once(linked.site.accept()).await.unwrap();
    writers.spawn(async move {
        let _recv = recv;
        while send.write_chunk(Bytes::from(vec![0; 1000])).await.is_ok() {}
    });
    unread
}

/// Sends `octets` on a stream of its own, to a reader that takes all of it.
async fn carry(linked: &Linked, octets: usize) {
    let (mut send, _answer) = linked.gateway.open(HEAD, End::More).await.unwrap();
    let mut incoming = linked.site.accept().await.unwrap();
    let ((), read) = tokio::join!(write_whole(&mut send, octets), read_whole(&mut incoming.recv));
    assert_eq!(read, octets);
}

/// tokio-yamux, smux, h2's connection window, konnectivity #180, ferrotunnel: one slow reader
/// stalls every stream of the connection.
///
/// Our rule R1: memory is reserved before credit is granted, so the reader of a link never waits
/// for a consumer. Here nearly all memory is held by readers that take nothing, and what the last
/// stream moves is many times all of it.
#[tokio::test(start_paused = true)]
async fn eight_idle_readers_do_not_stop_the_ninth() {
    let linked = linked(tokio::io::duplex(NARROW), tight(4096, 9), tight(4096, 9)).await;
    let mut writers = JoinSet::new();
    let mut unread = Vec::new();
    for _ in 0..8 {
        unread.push(stall_one(&linked, &mut writers).await);
    }
    turns_until(|| linked.site.stats().mux.payload_received == 8 * 4096).await;
    at_once(carry(&linked, 16 * 9 * 4096)).await;
    assert_eq!(linked.site.stats().mux.payload_received, (8 + 16 * 9) * 4096);

    // A slow reader is not a dead one: it finds more than its window held.
    let mut late = 0;
    while late < 3 * 4096 {
        late += at_once(unread[3].recv.read_chunk()).await.unwrap().unwrap().len();
    }
}

/// h2 with default windows, and tokio-yamux: with one stalled stream of 100 the other 99 come to a
/// stand.
///
/// Our rule R1: there is no connection-level window on the wire. Default windows here, too; the
/// stalled stream is the first, so that all others open behind it.
#[tokio::test(start_paused = true)]
async fn ninety_nine_streams_pass_a_stalled_one() {
    const EACH: usize = 100_000;
    let hundred = Config { open_streams_max: 100, ..Config::default() };
    let linked = linked(tokio::io::duplex(1 << 16), hundred.clone(), hundred).await;
    let mut writers = JoinSet::new();
    let _unread = stall_one(&linked, &mut writers).await;
    let mut carriers = JoinSet::new();
    for _ in 1..100 {
        let (mut send, recv) = linked.gateway.open(HEAD, End::More).await.unwrap();
        let incoming = at_once(linked.site.accept()).await.unwrap();
        carriers.spawn(async move {
            let (_answer, Incoming { send: _reply, recv: mut upload, .. }) = (recv, incoming);
            tokio::join!(write_whole(&mut send, EACH), read_whole(&mut upload)).1
        });
    }
    let read = at_once(carriers.join_all()).await;
    assert_eq!(read, [EACH; 99]);
    assert_eq!(linked.site.stats().mux.streams_open, 1, "the stalled stream is still there");
    assert!(writers.try_join_next().is_none(), "its writer waits");
}

/// rust-yamux: reading stops while a reply waits for a blocked socket.
///
/// Our rule: reads and writes are polled independently. The peer says all it has to say and reads
/// nothing, while each stream is answered into a pipe that is full.
#[tokio::test(start_paused = true)]
async fn reading_goes_on_while_replies_are_blocked() {
    const STREAMS: u32 = 50;
    let mut raw = Raw::new(Config::default(), NARROW).await;
    let link = raw.link.clone();
    tokio::spawn(async move {
        while let Ok(Incoming { mut send, mut recv, .. }) = link.accept().await {
            tokio::spawn(async move {
                send.send_head(HEAD, HeadKind::Final).unwrap();
                let octets = read_whole(&mut recv).await;
                write_whole(&mut send, octets).await;
            });
        }
    });
    for stream in (1..=STREAMS).map(|nth| 2 * nth) {
        raw.say(&frame(Kind::Head, Flags::OPEN, stream, b"head")).await;
        raw.say(&frame(Kind::Data, Flags::END, stream, &[7; 8000])).await;
    }
    raw.say(&frame(Kind::Ping, Flags::NONE, 0, b"are you?")).await;

    raw.skip_hello().await;
    let heard = raw.hear_all().await;
    let of = |kind| heard.iter().filter(move |frame| frame.kind == kind as u8);
    assert_eq!(of(Kind::Head).count(), STREAMS as usize);
    let octets: usize = of(Kind::Data).map(|frame| frame.payload.len()).sum();
    assert_eq!(octets, 8000 * STREAMS as usize);
    assert_eq!(of(Kind::Pong).count(), 1);
}

/// Sends back what arrives, as it arrives.
async fn echo(link: Link) {
    while let Ok(Incoming { mut send, mut recv, .. }) = link.accept().await {
        tokio::spawn(async move {
            send.send_head(HEAD, HeadKind::Final).unwrap();
            while let Some(chunk) = recv.read_chunk().await.unwrap() {
                send.write_chunk(chunk).await.unwrap();
            }
            send.finish().unwrap();
        });
    }
}

/// Reads an answer, its head first. Returns the octets of its payload.
async fn read_answer(mut recv: RecvStream) -> usize {
    recv.head().await.unwrap();
    read_whole(&mut recv).await
}

/// rust-yamux, on both sides at once: each waits to write before it reads, and neither moves.
///
/// Our rule: reads and writes are polled independently; control replies sit in slots. Both sides
/// open streams and echo those of the other, through a pipe shorter than a frame.
#[tokio::test(start_paused = true)]
async fn two_sides_that_fill_the_pipe_both_finish() {
    const EACH: usize = 30_000;
    let linked = linked(tokio::io::duplex(NARROW), tight(2048, 8), tight(2048, 8)).await;
    let mut exchanges = JoinSet::new();
    for link in [&linked.gateway, &linked.site] {
        tokio::spawn(echo(link.clone()));
        for _ in 0..8 {
            let link = link.clone();
            exchanges.spawn(async move {
                let (mut send, recv) = link.open(HEAD, End::More).await.unwrap();
                tokio::join!(write_whole(&mut send, EACH), read_answer(recv)).1
            });
        }
    }
    assert_eq!(at_once(exchanges.join_all()).await, [EACH; 16]);
}

/// tokio-yamux 0.3.20: a stream that only writes hangs, because nothing wakes it for a window
/// update.
///
/// Our rule: a grant wakes whoever waits for room, and needs nobody to read. The writer here never
/// looks at its receive half, and the window is the narrowest there is.
#[tokio::test(start_paused = true)]
async fn a_stream_that_only_writes_is_woken_by_credit() {
    const OCTETS: usize = 100 * 1024;
    let linked = linked(tokio::io::duplex(NARROW), tight(1024, 1), tight(1024, 1)).await;
    let (mut send, _never_read) = linked.gateway.open(HEAD, End::More).await.unwrap();
    let mut incoming = at_once(linked.site.accept()).await.unwrap();
    // A task of its own: what wakes it can only be meant for it.
    let writer = tokio::spawn(async move { write_whole(&mut send, OCTETS).await });
    assert_eq!(at_once(read_whole(&mut incoming.recv)).await, OCTETS);
    at_once(writer).await.unwrap();
}

/// tokio-yamux: a stream hangs after the peer's FIN.
///
/// Our rule: the halves of a stream end on their own. Once the opener's half has ended before the
/// answer begins, and once the answer has ended before the upload has begun.
#[tokio::test(start_paused = true)]
async fn a_half_goes_on_after_the_peers_has_ended() {
    const OCTETS: usize = 50 * 1024;
    let linked = linked(tokio::io::duplex(NARROW), tight(1024, 2), tight(1024, 2)).await;

    let (_request, mut answer) = linked.gateway.open(HEAD, End::NoPayload).await.unwrap();
    let mut incoming = at_once(linked.site.accept()).await.unwrap();
    assert_eq!(at_once(incoming.recv.read_chunk()).await, Ok(None));
    incoming.send.send_head(HEAD, HeadKind::Final).unwrap();
    let writer = tokio::spawn(async move { write_whole(&mut incoming.send, OCTETS).await });
    at_once(answer.head()).await.unwrap();
    assert_eq!(at_once(read_whole(&mut answer)).await, OCTETS);
    at_once(writer).await.unwrap();

    let (mut upload, mut answer) = linked.gateway.open(HEAD, End::More).await.unwrap();
    let mut incoming = at_once(linked.site.accept()).await.unwrap();
    incoming.send.send_head(HEAD, HeadKind::FinalAndEnd).unwrap();
    assert!(at_once(answer.head()).await.unwrap().end);
    assert!(answer.is_finished());
    let writer = tokio::spawn(async move { write_whole(&mut upload, OCTETS).await });
    assert_eq!(at_once(read_whole(&mut incoming.recv)).await, OCTETS);
    at_once(writer).await.unwrap();
}
