//! What may happen on one stream, and what its owner hears of it.

use super::*;
use crate::mux::batch::BATCH_OCTETS;
use crate::mux::error::SendError;

#[test]
fn a_peer_cannot_answer_a_stream_whose_opening_it_has_not_been_sent() {
    let code = CODE.0.to_be_bytes();
    let offset = (1u64 << 20).to_be_bytes();
    let forgeries: [(Kind, Flags, &[u8]); 6] = [
        (Kind::Head, Flags::END, b"answer"),
        (Kind::Data, Flags::END, b"payload"),
        (Kind::Trailers, Flags::NONE, b"fields"),
        (Kind::Reset, Flags::NONE, &code),
        (Kind::Stop, Flags::NONE, &code),
        (Kind::Window, Flags::NONE, &offset),
    ];
    for (kind, flags, payload) in forgeries {
        let mut pair = Pair::new(8);
        let stream = pair.gateway.open(head(), true).unwrap();
        let verdict = pair.forge_to_gateway(&forged(kind, flags, stream, payload));
        assert_eq!(verdict, Err(LinkError::NotOpen { kind, stream }));
    }
}

#[test]
fn a_reset_after_both_halves_have_ended_does_not_swallow_the_end_a_stop_waits_for() {
    let mut pair = Pair::new(1);
    let id = pair.gateway.open(head(), true).unwrap();
    pair.settle();
    pair.gateway.stop(id, CODE);
    pair.carry_to_site();
    pair.site.reset(id, CODE);
    pair.site.release(id);
    pair.gateway.release(id);
    pair.settle();
    assert_eq!(pair.site.stats().streams_open, 0);
    assert_eq!(pair.gateway.stats().streams_open, 0);
    assert!(pair.gateway.open(head(), true).is_ok(), "the stream's credit has returned");
}

#[test]
fn a_reset_that_crosses_an_end_owed_leaves_nothing_to_send() {
    let mut pair = Pair::new(1);
    let id = pair.gateway.open(head(), true).unwrap();
    pair.settle();
    pair.gateway.stop(id, CODE);
    pair.gateway.reset(id, CODE);
    let mut octets = forged(Kind::Stop, Flags::NONE, id, &CODE.0.to_be_bytes());
    octets.extend_from_slice(&sent(&mut pair.gateway, pair.now));
    receive(&mut pair.site, pair.now, &octets).unwrap();
    assert_eq!(kinds(&sent(&mut pair.site, pair.now)), []);
}

#[test]
fn stream_credit_that_returns_without_another_frame_is_announced_at_once() {
    let mut pair = Pair::new(1);
    let id = pair.gateway.open(head(), false).unwrap();
    let floor = Config::default().stream_window as usize;
    pair.gateway.write(id, &mut Bytes::from(vec![7; floor])).unwrap();
    pair.settle();
    pair.site.send_head(id, head(), HeadKind::FinalAndEnd).unwrap();
    pair.settle();
    // A WINDOW becomes due, and then pointless: the half ends before it is written.
    pair.site.take(id, floor);
    pair.gateway.finish(id).unwrap();
    pair.carry_to_site();
    pair.site.release(id);
    assert_eq!(kinds(&sent(&mut pair.site, pair.now)), [Kind::Streams]);
    assert_eq!(pair.site.stats().streams_open, 0);
}

#[test]
fn held_back_stream_credit_is_announced_when_the_peer_runs_low() {
    let mut pair = Pair::new(16);
    let first = pair.gateway.open(head(), true).unwrap();
    pair.settle();
    pair.site.send_head(first, head(), HeadKind::FinalAndEnd).unwrap();
    pair.site.release(first);
    pair.gateway.release(first);
    pair.settle();
    pair.gateway.release(first);
    // One stream is over, 15 are left: too little to announce. The others are open for hours.
    for _ in 0..15 {
        pair.gateway.open(head(), true).unwrap();
    }
    pair.settle();
    assert!(pair.gateway.open(head(), true).is_ok(), "the sixteenth place is free");
}

#[test]
fn an_owner_hears_nothing_more_of_a_stream_it_has_released() {
    let mut pair = Pair::new(8);
    let id = pair.gateway.open(head(), false).unwrap();
    pair.settle();
    pair.site.send_head(id, head(), HeadKind::Final).unwrap();
    let room = pair.gateway.room(id);
    pair.gateway.write(id, &mut Bytes::from(vec![7; room + 1])).unwrap();
    pair.gateway.finish(id).unwrap();
    pair.settle();
    events(&mut pair.gateway);
    pair.gateway.release(id);
    let stop = forged(Kind::Stop, Flags::NONE, id, &CODE.0.to_be_bytes());
    pair.forge_to_gateway(&stop).unwrap();
    let data = forged(Kind::Data, Flags::NONE, id, b"late");
    pair.forge_to_gateway(&data).unwrap();
    let reset = forged(Kind::Reset, Flags::NONE, id, &CODE.0.to_be_bytes());
    pair.forge_to_gateway(&reset).unwrap();
    let about_it = |event: &&Event| !matches!(event, Event::Openable | Event::RoundTrip(_));
    let told: Vec<Event> = events(&mut pair.gateway).iter().filter(about_it).cloned().collect();
    assert_eq!(told, [Event::Forgotten { id }], "that it is over, and nothing else");
}

#[test]
fn a_full_batch_is_not_added_to_however_often_the_peer_asks() {
    let mut pair = Pair::new(20);
    for _ in 0..20 {
        pair.gateway.open(Bytes::from(vec![7; 16_000]), true).unwrap();
    }
    let mut batch = Batch::new();
    pair.gateway.poll_transmit(pair.now, &mut batch);
    assert!(batch.len() >= BATCH_OCTETS);
    let full = batch.len();
    let ping = forged(Kind::Ping, Flags::NONE, StreamId::LINK, &[7; 8]);
    for _ in 0..9 {
        pair.forge_to_gateway(&ping).unwrap();
        pair.gateway.poll_transmit(pair.now, &mut batch);
    }
    assert_eq!(batch.len(), full);
    let kinds = kinds(&sent(&mut pair.gateway, pair.now));
    assert_eq!(kinds.iter().filter(|kind| **kind == Kind::Pong).count(), 1);
}

#[test]
fn a_writer_of_single_octets_costs_no_more_than_it_writes() {
    let mut pair = Pair::new(1);
    let id = pair.gateway.open(head(), false).unwrap();
    let chunk = Bytes::from(vec![7; 4096]);
    while pair.gateway.room(id) > 0 {
        pair.gateway.write(id, &mut chunk.slice(..1)).unwrap();
    }
    let stream = pair.gateway.streams.get(id).unwrap();
    let entries = stream.queue.len();
    assert!(entries <= 32, "32 KiB of credit in entries of 1 KiB, not {entries}");
    let octets = sent(&mut pair.gateway, pair.now);
    assert_eq!(kinds(&octets), [Kind::Head, Kind::Data, Kind::Data]);
}

#[test]
fn small_writes_arrive_in_order_whatever_they_are_merged_with() {
    let mut pair = Pair::new(1);
    let id = pair.gateway.open(head(), false).unwrap();
    let mut expected = Vec::new();
    for (len, octet) in [3, 1100, 1, 1000, 20, 1, 1, 2000, 24].into_iter().zip(1u8..) {
        let payload = vec![octet; len];
        expected.extend_from_slice(&payload);
        pair.gateway.write(id, &mut Bytes::from(payload)).unwrap();
    }
    pair.settle();
    let arrived = events(&mut pair.site).into_iter().filter_map(|event| match event {
        Event::Data { payload, .. } => Some(payload),
        _ => None,
    });
    assert_eq!(arrived.collect::<Vec<_>>().concat(), expected);
}

#[test]
fn an_owner_that_asks_for_room_there_is_is_told_at_once() {
    let mut pair = Pair::new(1);
    let id = pair.gateway.open(head(), false).unwrap();
    pair.gateway.want_room(id);
    assert_eq!(events(&mut pair.gateway), [Event::Writable { id }]);
    // Not twice, and not for a half that takes no more.
    pair.settle();
    pair.gateway.finish(id).unwrap();
    pair.gateway.want_room(id);
    pair.settle();
    let writable = |event: &Event| matches!(event, Event::Writable { .. });
    assert!(!events(&mut pair.gateway).iter().any(writable));
}

#[test]
fn the_ninth_interim_head_is_refused_here_before_it_costs_the_link() {
    let mut pair = Pair::new(1);
    let id = pair.gateway.open(head(), true).unwrap();
    pair.settle();
    for _ in 0..8 {
        pair.site.send_head(id, head(), HeadKind::Interim).unwrap();
    }
    let ninth = pair.site.send_head(id, head(), HeadKind::Interim);
    assert_eq!(ninth, Err(SendError::TooManyInterimHeads));
    pair.site.send_head(id, head(), HeadKind::FinalAndEnd).unwrap();
    pair.settle();
    assert_eq!(pair.gateway.closed(), None);
}

#[test]
fn a_link_whose_stream_numbers_are_used_up_says_so() {
    let mut pair = Pair::new(8);
    let before_last = u32::MAX / 2;
    for mux in [&mut pair.gateway, &mut pair.site] {
        (mux.opened_over, mux.accepted_over) = (before_last.into(), 0);
        mux.openable_by_peer = u64::MAX;
    }
    pair.gateway.opened = before_last;
    (pair.site.accepted, pair.site.accepted_over) = (before_last, before_last.into());
    (pair.site.granted, pair.site.opened_over) = (u64::from(before_last) + 8, 0);

    let last = pair.gateway.open(head(), true).unwrap();
    assert_eq!(last.number(), u32::MAX);
    assert_eq!(events(&mut pair.gateway), [Event::GoingAway { code: LinkError::CODE_DONE }]);
    assert_eq!(pair.gateway.open(head(), true), Err(OpenError::GoingAway));
    pair.settle();
    let told = events(&mut pair.site);
    assert!(matches!(told[..], [Event::Opened { .. }, Event::GoingAway { .. }]), "{told:?}");
    let again = forged(Kind::Head, Flags::OPEN, last, b"again");
    let verdict = receive(&mut pair.site, pair.now, &again);
    assert_eq!(verdict, Err(LinkError::NotOpen { kind: Kind::Head, stream: last }));
}

#[test]
fn a_stop_that_the_end_has_overtaken_is_not_sent() {
    for last in [Kind::Data, Kind::Reset] {
        let mut pair = Pair::new(1);
        let id = pair.gateway.open(head(), false).unwrap();
        pair.settle();
        pair.site.send_head(id, head(), HeadKind::FinalAndEnd).unwrap();
        pair.settle();
        pair.gateway.finish(id).unwrap();
        pair.site.stop(id, CODE);
        pair.carry_to_site();
        if last == Kind::Reset {
            let reset = forged(Kind::Reset, Flags::NONE, id, &CODE.0.to_be_bytes());
            receive(&mut pair.site, pair.now, &reset).unwrap();
        }
        assert_eq!(kinds(&sent(&mut pair.site, pair.now)), []);
    }
}

// [MUX-61] +-
#[test]
fn a_stream_with_any_of_an_answer_queued_is_never_called_refused() {
    for (kind, told) in [
        (None, StreamCode::REFUSED),
        (Some(HeadKind::Interim), StreamCode::DROPPED),
        (Some(HeadKind::Final), StreamCode::DROPPED),
    ] {
        let (mut pair, id) = with_one_stream();
        if let Some(kind) = kind {
            pair.site.send_head(id, head(), kind).unwrap();
        }
        pair.site.reset(id, StreamCode::REFUSED);
        pair.settle();
        let heard = events(&mut pair.gateway);
        assert!(heard.contains(&Event::Reset { id, code: told }), "{kind:?}: {heard:?}");
    }
}

// [MUX-61] +-
#[test]
fn refused_behind_any_part_of_an_answer_is_heard_as_dropped() {
    type Answer = fn(&mut Pair, StreamId);
    let cases: [(Answer, StreamCode); 5] = [
        (|_, _| {}, StreamCode::REFUSED),
        (|pair, id| forge_head(pair, Flags::NONE, id), StreamCode::DROPPED),
        (|pair, id| forge_head(pair, Flags::INFORMATIONAL, id), StreamCode::DROPPED),
        // The answer comes first, and then its reader goes; or the other way round.
        (
            |pair, id| {
                forge_head(pair, Flags::NONE, id);
                pair.gateway.stop(id, CODE);
            },
            StreamCode::DROPPED,
        ),
        (
            |pair, id| {
                pair.gateway.stop(id, CODE);
                forge_head(pair, Flags::NONE, id);
            },
            StreamCode::DROPPED,
        ),
    ];
    for (answer, heard) in cases {
        let (mut pair, id) = with_one_stream();
        answer(&mut pair, id);
        events(&mut pair.gateway);
        let refused = StreamCode::REFUSED.0.to_be_bytes();
        pair.forge_to_gateway(&forged(Kind::Reset, Flags::NONE, id, &refused)).unwrap();
        assert_eq!(events(&mut pair.gateway), [Event::Reset { id, code: heard }]);
        let write = pair.gateway.write(id, &mut head());
        assert_eq!(write, Err(SendError::Reset(heard)), "the writer hears the same");
    }
}

// [MUX-49] -
#[test]
fn goaway_cannot_disown_a_stream_whose_answer_came_when_its_reader_had_gone() {
    let (mut pair, id) = with_one_stream();
    pair.gateway.stop(id, CODE);
    forge_head(&mut pair, Flags::NONE, id);
    let verdict = pair.forge_to_gateway(&goaway(0, LinkError::CODE_DONE));
    assert_eq!(verdict, Err(LinkError::StreamState { kind: Kind::GoAway, stream: id }));
}

/// The peer sends a head by hand.
fn forge_head(pair: &mut Pair, flags: Flags, id: StreamId) {
    pair.forge_to_gateway(&forged(Kind::Head, flags, id, b"answer")).unwrap();
}
