//! Credit that must come back, whatever becomes of a stream.

use super::*;
use relay_core::link::{End, OpenFailed, RecvError};
use relay_core::mux::{Flags, HeadKind, Kind, MemoryBudget, StreamCode};
use relay_tests::mux::frame;

const WINDOW: u32 = 4096;
const STREAMS: u32 = 8;

/// Octets of a stream's window.
const WHOLE: usize = WINDOW as usize;

/// How a stream with payload under way in both directions comes to its end.
#[derive(Clone, Copy, Debug)]
enum Way {
    OpenerResets,
    OpenerDrops,
    OpenerStops,
    AcceptorResets,
    AcceptorDrops,
    AcceptorStops,
    BothFinishUnread,
}

const WAYS: [Way; 7] = [
    Way::OpenerResets,
    Way::OpenerDrops,
    Way::OpenerStops,
    Way::AcceptorResets,
    Way::AcceptorDrops,
    Way::AcceptorStops,
    Way::BothFinishUnread,
];

/// Opens a stream, fills it with payload that nobody reads, and ends it in its `way`. With `early`
/// the end crosses the payload on the way.
async fn end_one(linked: &Linked, way: Way, early: bool) {
    let code = StreamCode(0x100);
    let (mut send, recv) = at_once(linked.gateway.open(HEAD, End::More)).await.unwrap();
    send.write_now(Bytes::from(vec![1; WHOLE])).unwrap();
    let mut incoming = at_once(linked.site.accept()).await.unwrap();
    incoming.send.send_head(HEAD, HeadKind::Final).unwrap();
    incoming.send.write_now(Bytes::from(vec![2; WHOLE])).unwrap();
    if !early {
        let before = linked.gateway.stats().mux.payload_received;
        turns_until(|| linked.gateway.stats().mux.payload_received > before).await;
    }
    match way {
        Way::OpenerResets => send.reset(code),
        Way::OpenerDrops => drop((send, recv)),
        Way::OpenerStops => recv.stop(code),
        Way::AcceptorResets => incoming.send.reset(code),
        Way::AcceptorDrops => drop(incoming),
        Way::AcceptorStops => incoming.recv.stop(code),
        Way::BothFinishUnread => {
            send.finish().unwrap();
            incoming.send.finish().unwrap();
        }
    }
}

/// h2 0.4.1–0.4.18: credit leaks when a stream is reset or dropped with payload that nobody read,
/// until the connection stands still.
///
/// Our rule: credit conservation is an invariant. After streams beyond count have ended in every
/// way, as many can be open as at the beginning, with as much credit each, and the memory reserved
/// is what it was.
#[tokio::test(start_paused = true)]
async fn no_way_to_end_a_stream_leaks_credit() {
    let linked = linked(tokio::io::duplex(NARROW), tight(WINDOW, STREAMS), tight(WINDOW, STREAMS));
    let linked = linked.await;
    let sides = [&linked.gateway, &linked.site];
    let before = sides.map(|link| link.stats().mux.memory_reserved);
    for round in 0..70 {
        end_one(&linked, WAYS[round % WAYS.len()], round % 2 == 0).await;
    }
    turns_until(|| sides.iter().all(|link| link.stats().mux.streams_open == 0)).await;
    assert_eq!(sides.map(|link| link.stats().mux.memory_reserved), before);
    assert_eq!(sides.map(|link| link.stats().mux.window_growth), [0, 0]);

    let mut streams = Vec::new();
    for nth in 0..STREAMS {
        let ours = at_once(linked.gateway.open(HEAD, End::More)).await.unwrap();
        let theirs = at_once(linked.site.accept()).await.unwrap();
        streams.push((ours, theirs));
        assert_eq!(linked.gateway.stats().mux.streams_open, 1 + nth as usize);
    }
    let one_more = linked.gateway.try_open(HEAD, End::More).map(|opened| opened.is_some());
    assert_eq!(one_more, Ok(false), "nor is there more credit than at the beginning");
    let received = linked.site.stats().mux.payload_received;
    for ((send, _), _) in &mut streams {
        send.write_now(Bytes::from(vec![3; 2 * WHOLE])).unwrap();
    }
    let granted = u64::from(STREAMS * WINDOW);
    turns_until(|| linked.site.stats().mux.payload_received == received + granted).await;
    for (_, incoming) in &mut streams {
        let mut read = 0;
        while read < 2 * WHOLE {
            read += at_once(incoming.recv.read_chunk()).await.unwrap().unwrap().len();
        }
    }
}

/// h2 0.4.1–0.4.18: credit leaks when a GOAWAY ends or refuses streams.
///
/// Our rule: the same invariant. Streams that were open when the site began to drain go on through
/// many windows; when the link has ended, the budget that it shared has all its memory back.
#[tokio::test(start_paused = true)]
async fn a_goaway_takes_no_credit_from_open_streams() {
    const OCTETS: usize = 20 * WHOLE;
    let budget = MemoryBudget::new(1 << 20);
    let shared = Config { memory: Some(budget.clone()), ..tight(WINDOW, STREAMS) };
    let pipe = tokio::io::duplex(NARROW);
    let Linked { gateway, site, mut drivers } = linked(pipe, shared.clone(), shared).await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS / 2 {
        let (mut send, recv) = gateway.open(HEAD, End::More).await.unwrap();
        send.write_now(Bytes::from(vec![1; WHOLE])).unwrap();
        streams.push((send, recv, at_once(site.accept()).await.unwrap()));
    }
    let draining = tokio::spawn({
        let site = site.clone();
        async move { site.drain(Duration::from_secs(30)).await }
    });
    turns_until(|| !gateway.is_open()).await;
    let refused = gateway.open(HEAD, End::More).await.map(|_| ());
    assert_eq!(refused, Err(OpenFailed::GoingAway));
    for (mut send, mut recv, mut incoming) in streams {
        let writer = tokio::spawn(async move { write_whole(&mut send, OCTETS).await });
        let read = at_once(read_whole(&mut incoming.recv)).await;
        assert_eq!(read, WHOLE + OCTETS);
        at_once(writer).await.unwrap();
        incoming.send.send_head(HEAD, HeadKind::FinalAndEnd).unwrap();
        assert!(at_once(recv.head()).await.unwrap().end);
    }
    let report = at_once(draining).await.unwrap();
    assert_eq!((report.finished, report.reset), (u64::from(STREAMS / 2), 0));
    while at_once(drivers.join_next()).await.is_some() {}
    assert_eq!(budget.leased(), 0);
    assert_eq!(site.accept().await.map(|_| ()), Err(LinkError::ClosedHere));
}

/// h2 0.4.1–0.4.18: credit leaks on padding, which takes room in a window and is given to nobody.
///
/// Our rule: padding is a frame of its own, and is not payload. A whole window fits beside more
/// padding than it is wide, and comes back whole; one octet above it does not.
#[tokio::test(start_paused = true)]
async fn padding_takes_no_credit_from_any_stream() {
    let mut raw = Raw::new(tight(WINDOW, STREAMS), 1 << 16).await;
    raw.skip_hello().await;
    raw.say(&frame(Kind::Head, Flags::OPEN, 2, &HEAD)).await;
    let mut incoming = raw.accept().await;
    let quarter = frame(Kind::Data, Flags::NONE, 2, &[7; WHOLE / 4]);
    for _ in 0..10 {
        for _ in 0..4 {
            raw.say(&frame(Kind::Pad, Flags::NONE, 0, &[0; 2 * WHOLE])).await;
            raw.say(&quarter).await;
        }
        let mut read = 0;
        while read < WHOLE {
            read += at_once(incoming.recv.read_chunk()).await.unwrap().unwrap().len();
        }
        let granted = raw.hear_all().await;
        assert!(granted.iter().any(|frame| frame.kind == Kind::Window as u8));
    }
    for _ in 0..4 {
        raw.say(&quarter).await;
    }
    raw.say(&frame(Kind::Data, Flags::NONE, 2, b"x")).await;
    assert!(matches!(at_once(raw.driver).await, Ok(LinkError::FlowControl { .. })));
    let mut read = 0;
    let lost = loop {
        match at_once(incoming.recv.read_chunk()).await {
            Ok(chunk) => read += chunk.map_or(0, |chunk| chunk.len()),
            Err(error) => break error,
        }
    };
    assert_eq!((read, lost), (WHOLE, RecvError::LinkLost), "what was granted is there");
}
