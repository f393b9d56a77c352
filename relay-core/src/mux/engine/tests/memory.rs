//! Memory that is leased, and consumers that hold on to it.

use super::*;
use crate::mux::memory::{Floors, MemoryBudget};

fn shared(budget: &MemoryBudget, streams: u32) -> Config {
    Config {
        stream_window: 1024,
        memory: Some(budget.clone()),
        open_streams_max: 0,
        accept_streams_max: streams,
        ..Config::default()
    }
}

fn opener() -> Config {
    Config { open_streams_max: 16_384, accept_streams_max: 0, ..tiny() }
}

fn tiny() -> Config {
    Config { stream_window: 1024, ..Config::default() }
}

/// Opens what may be opened until no more may be, however often the peer is asked.
fn open_all(pair: &mut Pair) -> usize {
    let mut open = 0;
    loop {
        let before = open;
        while pair.gateway.open(head(), false).is_ok() {
            open += 1;
        }
        pair.settle();
        if open == before {
            return open;
        }
    }
}

#[test]
fn a_link_lets_its_peer_open_what_the_process_has_memory_for_and_not_one_more() {
    let budget = MemoryBudget::new(304 * 1024);
    let mut first = Pair::with(opener(), shared(&budget, 1000));
    assert_eq!(budget.leased(), 128 * 1024, "what a link begins with");
    assert_eq!(open_all(&mut first), 266);
    assert_eq!(budget.leased(), 266 * 1024, "the last eighth is for others");
    assert_eq!(first.gateway.open(head(), false), Err(OpenError::NoStreamFree));
    assert_eq!(first.site.stats().memory_reserved, 266 * 1024);

    let mut second = Pair::with(opener(), shared(&budget, 1000));
    assert_eq!(open_all(&mut second), 38, "what is left of its first ones");
    assert_eq!(budget.leased(), budget.limit());
    let mut third = Pair::with(opener(), shared(&budget, 1000));
    assert_eq!(open_all(&mut third), 0, "nothing is left");

    // The others end, and the third link finds out at its next keep-alive.
    drop((first, second));
    assert_eq!(budget.leased(), 0);
    third.now = third.site.poll_timeout().unwrap();
    third.site.handle_timeout(third.now).unwrap();
    third.settle();
    assert_eq!(open_all(&mut third), 266);
}

#[test]
fn streams_that_this_side_opens_are_leased_too() {
    let budget = MemoryBudget::new(200 * 1024);
    let gateway = Config { memory: Some(budget.clone()), ..opener() };
    let mut pair = Pair::with(gateway, Config { accept_streams_max: 1000, ..tiny() });
    let ids: Vec<_> = std::iter::from_fn(|| pair.gateway.open(head(), false).ok()).collect();
    assert_eq!(ids.len(), 175, "the last eighth is for others");
    let other = Floors::new(1024, 25, Some(budget.clone()));
    assert_eq!(budget.leased(), 200 * 1024);
    for id in ids {
        pair.gateway.release(id);
    }
    pair.settle();
    while let Some(event) = pair.site.poll_event() {
        if let Event::Opened { id, .. } = event {
            pair.site.release(id);
        }
    }
    pair.settle();
    assert_eq!(pair.gateway.stats().streams_open, 0);
    assert_eq!(budget.leased(), (128 + 25) * 1024, "more than the first is returned");
    drop((pair, other));
    assert_eq!(budget.leased(), 0);
}

/// The site lets go of every stream that the gateway has opened and reset.
fn close_all(pair: &mut Pair, ids: Vec<StreamId>) {
    for id in ids {
        pair.gateway.release(id);
    }
    pair.settle();
    while let Some(event) = pair.site.poll_event() {
        if let Event::Opened { id, .. } = event {
            pair.site.release(id);
        }
    }
    pair.settle();
    assert_eq!((pair.gateway.stats().streams_open, pair.site.stats().streams_open), (0, 0));
}

#[test]
fn what_a_burst_has_leased_comes_back_as_streams_end_and_another_burst_leases_it_again() {
    let budget = MemoryBudget::new(1 << 30);
    let mut pair = Pair::with(opener(), shared(&budget, 1000));
    for _ in 0..3 {
        let ids: Vec<_> = std::iter::from_fn(|| {
            let opened = pair.gateway.open(head(), false).ok();
            pair.settle();
            opened
        })
        .collect();
        assert_eq!((ids.len(), budget.leased()), (1000, 1000 * 1024));
        close_all(&mut pair, ids);
        // Of 250 open streams on, each that ends takes a floor along.
        assert_eq!(budget.leased(), pair.site.stats().memory_reserved);
        assert!(budget.leased() <= 800 * 1024, "{} octets", budget.leased());
    }
    for _ in 0..1000 {
        let id = pair.gateway.open(head(), false).unwrap();
        pair.settle();
        close_all(&mut pair, vec![id]);
    }
    assert_eq!(budget.leased(), 128 * 1024, "a link that idles along has its first ones");
}

#[test]
fn a_link_without_memory_asks_again_with_each_ping_and_pong() {
    type Ask = fn(&mut Pair);
    let asks: [Ask; 2] = [
        // The peer asks for a sign of life; or answers to one, while something always arrives.
        |pair| {
            pair.now = pair.gateway.poll_timeout().unwrap();
            pair.gateway.handle_timeout(pair.now).unwrap();
        },
        |pair| {
            let ping = pair.site.liveness.new_ping(pair.now);
            pair.site.slots.ping = Some(ping);
        },
    ];
    for ask in asks {
        let budget = MemoryBudget::new(64 * 1024);
        let others = Floors::new(1024, 64, Some(budget.clone()));
        let mut pair = Pair::with(opener(), shared(&budget, 1000));
        ask(&mut pair);
        pair.settle();
        assert_eq!(open_all(&mut pair), 0, "nothing is left");
        drop(others);
        ask(&mut pair);
        pair.settle();
        assert_eq!(open_all(&mut pair), 64);
    }
}

#[test]
fn a_window_grows_only_by_what_the_process_has_left() {
    let budget = MemoryBudget::new(128 * 1024 + 3 * 1024);
    let mut pair = Pair::with(opener(), shared(&budget, 128));
    let id = pair.gateway.open(head(), false).unwrap();
    for _ in 0..200 {
        let room = pair.gateway.room(id);
        pair.gateway.write(id, &mut Bytes::from(vec![7; room])).unwrap();
        pair.settle();
        while let Some(event) = pair.site.poll_event() {
            if let Event::Data { payload, .. } = event {
                pair.site.take(id, payload.len());
            }
        }
        // Far less than a round trip, which was nothing at all in this test: so give it one.
        pair.site.liveness.assume_round_trip(Duration::from_secs(1));
        pair.settle();
    }
    assert_eq!(pair.site.stats().window_growth, 3 * 1024);
    assert_eq!(budget.leased(), budget.limit());
    assert!(budget.refused() > 0);
}

/// A stream with `octets` of payload that the site has and does not take.
fn with_unread(octets: usize) -> (Pair, StreamId) {
    let (mut pair, id) = with_one_stream();
    pair.gateway.write(id, &mut Bytes::from(vec![7; octets])).unwrap();
    pair.settle();
    while pair.site.poll_event().is_some() {}
    (pair, id)
}

/// Lets `time` pass on the site, which hears from its peer all along.
fn pass(pair: &mut Pair, time: Duration) {
    let until = pair.now + time;
    while let Some(due) = pair.site.poll_timeout().filter(|due| *due <= until) {
        pair.now = pair.now.max(due);
        pair.site.handle_timeout(pair.now).unwrap();
        pair.settle();
    }
    pair.now = until;
}

fn was_reset(mux: &mut Mux, id: StreamId) -> bool {
    events(mux).contains(&Event::Reset { id, code: StreamCode::STALLED })
}

// [MUX-65] +
#[test]
fn a_consumer_that_takes_nothing_while_payload_waits_loses_its_stream_after_a_minute() {
    let (mut pair, id) = with_unread(100);
    pass(&mut pair, Duration::from_millis(59_999));
    assert!(!was_reset(&mut pair.site, id), "never before the time is over");
    pass(&mut pair, Duration::from_secs(16));
    assert!(was_reset(&mut pair.site, id));
    assert!(was_reset(&mut pair.gateway, id), "the peer is told");
    assert_eq!(pair.site.stats().consumers_stalled, 1);
    pass(&mut pair, Duration::from_mins(10));
    assert_eq!(pair.site.stats().consumers_stalled, 1, "once");
}

// [MUX-65] -
#[test]
fn a_consumer_that_takes_an_octet_now_and_then_keeps_its_stream() {
    let (mut pair, id) = with_unread(100);
    for _ in 0..20 {
        pass(&mut pair, Duration::from_secs(59));
        let reminded = events(&mut pair.site).contains(&Event::Unread { id });
        assert!(reminded, "an owner that counts in steps is asked to tell");
        pair.site.take(id, 1);
    }
    assert_eq!(pair.site.stats().consumers_stalled, 0);
}

// [MUX-65] -
#[test]
fn a_consumer_that_wants_no_more_keeps_its_stream_whatever_was_left_unread() {
    for is_ended in [false, true] {
        let (mut pair, id) = with_unread(100);
        if is_ended {
            pair.gateway.finish(id).unwrap();
            pair.settle();
        }
        pair.site.stop(id, StreamCode(0x100));
        pass(&mut pair, Duration::from_mins(10));
        assert_eq!(pair.site.stats().consumers_stalled, 0, "{is_ended}");
        // Its answer goes on.
        pair.site.send_head(id, head(), HeadKind::Final).unwrap();
        pair.site.write(id, &mut Bytes::from_static(b"answer")).unwrap();
    }
}

// [MUX-65] -
#[test]
fn a_stream_on_which_nothing_waits_may_be_silent_for_hours() {
    let (mut pair, id) = with_unread(100);
    pair.site.take(id, 100);
    pass(&mut pair, Duration::from_hours(5));
    assert_eq!(pair.site.stats().consumers_stalled, 0);
    assert_eq!(pair.site.stats().streams_open, 1);
}
