//! GOAWAY, draining, closing, and time.

use super::*;

#[test]
fn closing_after_a_refused_opening_does_not_raise_the_last_stream_of_goaway() {
    let mut pair = Pair::new(8);
    let first = pair.gateway.open(head(), true).unwrap();
    pair.settle();
    pair.site.drain(pair.now);
    // The barrier is answered before the gateway has read GOAWAY: a hostile peer, or a late frame.
    let announced = sent(&mut pair.site, pair.now);
    receive(&mut pair.gateway, pair.now, &announced).unwrap();
    pair.carry_to_site();
    let late = StreamId::nth(Side::Listener, 1).unwrap();
    let opening = forged(Kind::Head, Flags::OPEN.with(Flags::END), late, b"late");
    receive(&mut pair.site, pair.now, &opening).unwrap();
    pair.site.close();

    let octets = sent(&mut pair.site, pair.now);
    assert_eq!(kinds(&octets), [Kind::GoAway]);
    let last = u32::from_be_bytes(*octets[8..].first_chunk().unwrap());
    assert_eq!(last, first.number());
}

#[test]
fn nothing_is_sent_behind_the_goaway_that_closes() {
    let mut pair = Pair::new(1);
    let id = pair.gateway.open(head(), true).unwrap();
    pair.settle();
    pair.site.send_head(id, head(), HeadKind::FinalAndEnd).unwrap();
    pair.settle();
    events(&mut pair.site);
    pair.site.close();
    pair.site.release(id);
    assert_eq!(kinds(&sent(&mut pair.site, pair.now)), [Kind::GoAway]);
    assert_eq!(events(&mut pair.site), []);
}

#[test]
fn a_lost_or_closed_link_tells_which_openings_never_left() {
    for end in [Mux::close, |mux: &mut Mux| mux.handle_lost("cut")] {
        let mut pair = Pair::new(8);
        let left = pair.gateway.open(head(), false).unwrap();
        pair.settle();
        let unsent = pair.gateway.open(head(), false).unwrap();
        end(&mut pair.gateway);
        let told = events(&mut pair.gateway);
        assert_eq!(told, [Event::Reset { id: unsent, code: StreamCode::REFUSED }]);
        assert_ne!(left, unsent);
    }
}

#[test]
fn a_peer_that_closes_with_an_error_refuses_the_streams_above_its_last() {
    let mut pair = Pair::new(8);
    let served = pair.gateway.open(head(), true).unwrap();
    let above = pair.gateway.open(head(), true).unwrap();
    sent(&mut pair.gateway, pair.now);
    let verdict = pair.forge_to_gateway(&goaway(served.number(), 0x42));
    assert!(matches!(verdict, Err(LinkError::ClosedByPeer { code: 0x42, .. })));
    let told = events(&mut pair.gateway);
    assert_eq!(told, [Event::Reset { id: above, code: StreamCode::REFUSED }]);
}

#[test]
fn goaway_cannot_disown_a_stream_that_was_answered() {
    let mut pair = Pair::new(8);
    let id = pair.gateway.open(head(), true).unwrap();
    pair.settle();
    pair.site.send_head(id, head(), HeadKind::Final).unwrap();
    pair.settle();
    let verdict = pair.forge_to_gateway(&goaway(0, LinkError::CODE_DONE));
    assert_eq!(verdict, Err(LinkError::StreamState { kind: Kind::GoAway, stream: id }));
    let refused = |event: &Event| matches!(event, Event::Reset { .. });
    assert!(!events(&mut pair.gateway).iter().any(refused), "it may not be sent again");
}

#[test]
fn goaway_is_taken_eight_times_and_not_nine() {
    let mut pair = Pair::new(8);
    for last in (1..=8).rev() {
        assert_eq!(pair.forge_to_gateway(&goaway(last, LinkError::CODE_DONE)), Ok(()));
    }
    let verdict = pair.forge_to_gateway(&goaway(0, LinkError::CODE_DONE));
    assert_eq!(verdict, Err(LinkError::Abuse { what: "GOAWAY frames" }));
}

#[test]
fn a_drain_refuses_nothing_that_was_opened_before_it_was_heard() {
    let mut pair = Pair::new(8);
    let opened: Vec<_> =
        (0..8).map(|_| pair.gateway.open(Bytes::from(vec![7; 16_000]), true).unwrap()).collect();
    // GOAWAY and its barrier arrive while the openings wait for the pipe.
    pair.site.drain(pair.now);
    let announced = sent(&mut pair.site, pair.now);
    receive(&mut pair.gateway, pair.now, &announced).unwrap();
    pair.settle();
    let accepted = events(&mut pair.site);
    let served = accepted.iter().filter(|event| matches!(event, Event::Opened { .. })).count();
    assert_eq!(served, opened.len());
    let refused = |event: &Event| matches!(event, Event::Reset { .. });
    assert!(!events(&mut pair.gateway).iter().any(refused));
}

#[test]
fn a_drain_asked_for_before_the_hellos_begins_with_them() {
    let mut pair = Pair::before_hello(Config::default(), Config::default());
    pair.site.drain(pair.now);
    assert!(pair.site.is_draining());
    pair.settle();
    assert!(events(&mut pair.site).contains(&Event::Drained));
    assert!(events(&mut pair.gateway).contains(&Event::GoingAway { code: LinkError::CODE_DONE }));
    assert_eq!(pair.gateway.open(head(), true), Err(OpenError::GoingAway));
}

#[test]
fn a_drain_does_not_give_a_silent_peer_more_time() {
    let mut pair = Pair::new(8);
    let config = Config::default();
    pair.now += config.keep_alive_idle;
    assert_eq!(pair.gateway.handle_timeout(pair.now), Ok(()));
    let due = pair.gateway.poll_timeout();
    assert_eq!(due, Some(pair.now + config.ping_timeout));
    pair.now += config.ping_timeout / 2;
    pair.gateway.drain(pair.now);
    assert_eq!(pair.gateway.poll_timeout(), due);
}

#[test]
fn a_silent_peer_is_given_up_on_the_tick_and_not_before() {
    let mut pair = Pair::new(8);
    let config = Config::default();
    pair.gateway.open(head(), true).unwrap();
    let ping_due = pair.now + config.keep_alive_busy;
    pair.gateway.handle_timeout(tick_before(ping_due)).unwrap();
    assert_eq!(kinds(&sent(&mut pair.gateway, pair.now)), [Kind::Head]);
    pair.gateway.handle_timeout(ping_due).unwrap();
    assert_eq!(kinds(&sent(&mut pair.gateway, ping_due)), [Kind::Ping]);
    let lost_at = ping_due + config.ping_timeout;
    assert_eq!(pair.gateway.handle_timeout(tick_before(lost_at)), Ok(()));
    assert_eq!(pair.gateway.handle_timeout(lost_at), Err(LinkError::Silent));
    assert_eq!(pair.gateway.poll_timeout(), None);
}

#[test]
fn a_peer_without_hello_is_given_up_on_the_tick_whatever_it_sends() {
    let now = Instant::now();
    let config = Config::default();
    let due = now + config.hello_timeout;
    let mut site = Mux::new(Side::Dialer, config.clone(), now).unwrap();
    let mut gateway = Mux::new(Side::Listener, config, now).unwrap();
    let preface = sent(&mut gateway, now);
    let almost = tick_before(due);
    receive(&mut site, almost, &preface[..preface.len() - 1]).unwrap();
    assert_eq!(site.handle_timeout(almost), Ok(()));
    assert_eq!(site.handle_timeout(due), Err(LinkError::HelloTimeout));
}

/// A link on which the gateway has numbers for `left` streams more, as after all the others.
fn with_few_numbers_left(left: u32) -> Pair {
    let mut pair = Pair::new(8);
    let used = (1 << 31) - left;
    let all = u64::from(used);
    (pair.gateway.opened, pair.gateway.opened_over) = (used, all);
    pair.gateway.openable_by_peer += all;
    (pair.site.accepted, pair.site.accepted_over) = (used, all);
    pair.site.granted += all;
    pair
}

// [MUX-22] +-
#[test]
fn a_side_that_has_used_up_its_numbers_drains_the_link_so_that_its_peer_replaces_it() {
    let mut pair = with_few_numbers_left(2);
    // As long as a link may be quiet before anybody is asked for a sign of life.
    pair.now = tick_before(pair.now + Config::default().keep_alive_idle);
    let first = pair.gateway.open(head(), true).unwrap();
    pair.settle();
    assert!(!pair.gateway.is_draining() && !events(&mut pair.site).iter().any(is_farewell));

    let last = pair.gateway.open(head(), true).unwrap();
    assert_eq!(last, StreamId::nth(Side::Listener, (1 << 31) - 1).unwrap());
    assert_eq!(pair.gateway.open(head(), true), Err(OpenError::GoingAway));
    assert!(pair.gateway.is_draining() && events(&mut pair.gateway).iter().any(is_farewell));
    pair.settle();
    pair.gateway.handle_timeout(pair.now).unwrap();
    let told = events(&mut pair.site);
    assert!(told.iter().any(is_farewell), "who dials must hear of it: {told:?}");
    assert!(told.iter().any(|event| matches!(event, Event::Opened { id, .. } if *id == last)));

    for id in [first, last] {
        pair.site.send_head(id, head(), HeadKind::FinalAndEnd).unwrap();
        pair.site.release(id);
    }
    pair.settle();
    for id in [first, last] {
        pair.gateway.release(id);
    }
    assert!(events(&mut pair.gateway).contains(&Event::Drained));
}

fn is_farewell(event: &Event) -> bool {
    *event == Event::GoingAway { code: LinkError::CODE_DONE }
}
