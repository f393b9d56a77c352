//! What an acceptor owes to an opener that has reset or stopped a stream, and when it says it.

use super::*;

/// What ends the acceptor's half of stream 1.
fn last_words() -> [Vec<u8>; 4] {
    [
        reset(1),
        data(Flags::END, 1, 9),
        frame(Kind::Head, Flags::END, 1, b"head"),
        frame(Kind::Trailers, Flags::NONE, 1, b"sum"),
    ]
}

fn open_streams(victim: &Victim) -> usize {
    victim.mux.stats().streams_open
}

// [MUX-30] + [MUX-32] + [MUX-35] +
#[test]
fn an_opener_that_has_reset_a_stream_remembers_it_until_the_acceptors_last_word() {
    for last_word in last_words() {
        let mut victim = victim();
        let stream = victim.open();
        let openable = victim.mux.openable_total();
        victim.mux.reset(stream, CODE);
        assert!(!victim.mux.release(stream));
        assert_eq!(kinds(&mut victim), [RESET]);
        let ignored = [
            frame(Kind::Head, Flags::INFORMATIONAL, 1, b"103"),
            frame(Kind::Head, Flags::NONE, 1, b"200"),
            data(Flags::NONE, 1, 1000),
            stop(1),
        ];
        assert_eq!(victim.hear(&ignored.concat()), Ok(()));
        assert_eq!((events(&mut victim.mux), kinds(&mut victim)), (vec![], vec![]));
        assert_eq!((open_streams(&victim), victim.mux.openable_total()), (1, openable));
        assert_eq!(victim.hear(&last_word), Ok(()));
        assert_eq!((open_streams(&victim), victim.mux.openable_total()), (0, openable + 1));
        let told = events(&mut victim.mux);
        assert!(told.contains(&Event::Forgotten { id: stream }), "{told:?}");
        assert_eq!(victim.mux.stats().late_frames, 0);
    }
}

// [MUX-28] +- [MUX-30] +-
#[test]
fn nine_heads_are_ignored_while_an_answer_to_a_reset_is_awaited_and_a_tenth_ends_the_link() {
    for flags in [Flags::INFORMATIONAL, Flags::NONE] {
        let mut victim = victim();
        let stream = victim.open();
        victim.mux.release(stream);
        victim.sends();
        let ignored = frame(Kind::Head, flags, 1, b"head");
        assert_eq!(victim.hear(&ignored.repeat(9)), Ok(()));
        assert_eq!(victim.hear(&ignored), Err(LinkError::Abuse { what: "heads" }));
    }
}

// [MUX-30] +
#[test]
fn a_stream_whose_answer_has_ended_is_forgotten_with_its_reset_and_without_an_answer() {
    for last_word in last_words().into_iter().skip(1) {
        let mut victim = victim();
        let stream = victim.open();
        if last_word[3] >> 4 != Kind::Head as u8 {
            victim.hear(&frame(Kind::Head, Flags::NONE, 1, b"200")).unwrap();
        }
        victim.hear(&last_word).unwrap();
        victim.mux.reset(stream, CODE);
        victim.mux.release(stream);
        assert_eq!((kinds(&mut victim), open_streams(&victim)), (vec![RESET], 0));
    }
}

// [MUX-20] + [MUX-30] -
#[test]
fn payload_beyond_the_grant_ends_the_link_while_an_answer_to_a_reset_is_awaited() {
    let mut victim = victim();
    let stream = victim.open();
    victim.mux.release(stream);
    victim.sends();
    assert_eq!(victim.hear(&data(Flags::NONE, 1, 4096)), Ok(()));
    let error = LinkError::FlowControl { stream };
    assert_eq!(victim.hear(&data(Flags::NONE, 1, 1)), Err(error));
}

// [MUX-30] - [MUX-31] +
#[test]
fn an_acceptor_answers_no_reset_that_finds_its_own_end_or_reset_said() {
    type End = fn(&mut Victim);
    let ends: [End; 3] = [
        |victim| victim.mux.send_head(id(2), Bytes::new(), HeadKind::FinalAndEnd).unwrap(),
        |victim| victim.mux.reset(id(2), CODE),
        |victim| {
            victim.hear(&stop(2)).unwrap();
            victim.mux.release(id(2));
        },
    ];
    for (nth, end) in ends.into_iter().enumerate() {
        for has_left in [false, true] {
            let mut victim = accepted(Flags::NONE);
            end(&mut victim);
            if has_left {
                assert!(!victim.sends().is_empty());
            }
            victim.hear(&reset(2)).unwrap();
            victim.mux.release(id(2));
            let answer = if has_left { vec![] } else { vec![RESET] };
            assert_eq!((kinds(&mut victim), open_streams(&victim)), (answer, 0), "end {nth}");
        }
    }
}

// [MUX-30] - [MUX-31] +
#[test]
fn an_end_that_was_said_is_the_last_word_although_a_reset_behind_it_is_taken_back() {
    let mut victim = accepted(Flags::NONE);
    victim.mux.send_head(id(2), Bytes::new(), HeadKind::FinalAndEnd).unwrap();
    victim.sends();
    victim.mux.reset(id(2), CODE);
    victim.hear(&reset(2)).unwrap();
    victim.mux.release(id(2));
    assert_eq!((kinds(&mut victim), open_streams(&victim)), (vec![], 0));
}

// [MUX-31] +
#[test]
fn a_reset_that_has_not_left_is_taken_back_by_the_peers_and_awaits_no_answer() {
    let mut victim = victim();
    let stream = victim.open();
    victim.mux.release(stream);
    victim.hear(&reset(1)).unwrap();
    assert_eq!((kinds(&mut victim), open_streams(&victim)), (vec![], 0));
}

// [MUX-30] - [MUX-44] +
#[test]
fn a_reset_is_answered_once_however_often_it_comes() {
    let mut victim = accepted(Flags::NONE);
    victim.hear(&[reset(2), stop(2), reset(2)].concat()).unwrap();
    assert_eq!(kinds(&mut victim), []);
    victim.mux.release(id(2));
    victim.hear(&reset(2)).unwrap();
    assert_eq!(kinds(&mut victim), [RESET]);
    victim.hear(&reset(2)).unwrap();
    assert_eq!(kinds(&mut victim), [], "it is forgotten");
}

// [MUX-25] +
#[test]
fn an_opener_answers_a_stop_at_once_although_its_owner_goes_on() {
    let mut victim = victim();
    victim.open();
    victim.hear(&stop(1)).unwrap();
    assert_eq!(kinds(&mut victim), [END], "the acceptor waits for it to forget the stream");
}

// [MUX-25] +
#[test]
fn a_stop_that_finds_the_owner_gone_is_answered_at_once() {
    let mut victim = accepted(Flags::END);
    victim.mux.send_head(id(2), Bytes::new(), HeadKind::Final).unwrap();
    victim.mux.write(id(2), &mut Bytes::from(vec![7; 4096])).unwrap();
    victim.mux.finish(id(2)).unwrap();
    victim.mux.release(id(2));
    victim.hear(&stop(2)).unwrap();
    assert_eq!((kinds(&mut victim), open_streams(&victim)), (vec![END], 0));
}

// [MUX-21] + [MUX-30] +
#[test]
fn a_stream_that_was_reset_before_its_opening_left_awaits_an_answer_too() {
    let mut victim = victim();
    let stream = victim.mux.open(Bytes::from_static(b"GET"), false).unwrap();
    victim.mux.release(stream);
    assert_eq!((kinds(&mut victim), open_streams(&victim)), (vec![OPENING, RESET], 1));
    victim.hear(&reset(1)).unwrap();
    assert_eq!(open_streams(&victim), 0);
}

// [MUX-30] + [MUX-48] +
#[test]
fn what_the_peer_never_looks_at_is_forgotten_without_its_answer() {
    let mut victim = victim();
    let streams = [victim.open(), victim.open()];
    for stream in streams {
        victim.mux.release(stream);
    }
    victim.sends();
    victim.hear(&goaway(1, 0)).unwrap();
    assert_eq!(open_streams(&victim), 1, "the first is served");
    assert!(events(&mut victim.mux).contains(&Event::Forgotten { id: streams[1] }));
}

// [MUX-30] + [MUX-50] +
#[test]
fn a_reset_of_what_a_drain_refuses_finds_one_answer() {
    let mut victim = victim();
    victim.mux.drain(victim.now);
    let sent = victim.sends();
    let barrier = sent.iter().find(|frame| frame.kind == Kind::Ping as u8).unwrap();
    let number = u64::from_be_bytes(barrier.payload[..].try_into().unwrap());
    victim.hear(&pong(number)).unwrap();
    victim.sends();
    victim.hear(&[head(Flags::OPEN, 2), reset(2)].concat()).unwrap();
    assert_eq!((kinds(&mut victim), open_streams(&victim)), (vec![RESET], 0));
}

// [MUX-52] +
#[test]
fn a_drain_waits_for_the_answer_to_a_reset() {
    let mut victim = victim();
    let stream = victim.open();
    victim.mux.release(stream);
    victim.mux.drain(victim.now);
    let sent = victim.sends();
    let barrier = sent.iter().find(|frame| frame.kind == Kind::Ping as u8).unwrap();
    let number = u64::from_be_bytes(barrier.payload[..].try_into().unwrap());
    victim.hear(&pong(number)).unwrap();
    assert!(!events(&mut victim.mux).contains(&Event::Drained));
    victim.hear(&reset(1)).unwrap();
    assert!(events(&mut victim.mux).contains(&Event::Drained));
}

// [MUX-64] +
#[test]
fn answers_to_resets_are_within_the_budgets_of_both_sides() {
    let config = Config { accept_streams_max: 64, open_streams_max: 64, ..config() };
    let mut pair = relay_tests::mux::Pair::new(config.clone(), config);
    for _ in 0..10_000 {
        let stream = pair.listener.open(Bytes::from_static(b"GET"), false).unwrap();
        pair.settle();
        pair.listener.release(stream);
        pair.settle();
        pair.dialer.release(stream);
        pair.settle();
        assert_eq!(pair.listener.stats().streams_open + pair.dialer.stats().streams_open, 0);
        events(&mut pair.listener);
        events(&mut pair.dialer);
    }
    assert_eq!(pair.listener.stats().late_frames + pair.dialer.stats().late_frames, 0);
}
