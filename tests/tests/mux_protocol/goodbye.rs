//! How a link ends: GOAWAY, the two phases of a drain, and a close.

use super::*;

// [MUX-47] +-
#[test]
fn after_a_goaway_no_stream_is_opened_and_openings_that_wait_still_leave() {
    let mut told = victim();
    told.mux.open(Bytes::from_static(b"GET"), false).unwrap();
    told.hear(&goaway(ALL, 0)).unwrap();
    assert_eq!(told.mux.open(Bytes::new(), true), Err(OpenError::GoingAway));
    assert_eq!(kinds(&mut told), [OPENING]);

    let mut telling = victim();
    telling.mux.open(Bytes::from_static(b"GET"), false).unwrap();
    telling.mux.drain(telling.now);
    assert_eq!(telling.mux.open(Bytes::new(), true), Err(OpenError::GoingAway));
    assert_eq!(kinds(&mut telling), [GOAWAY, PING, OPENING]);
}

// [MUX-48] +-
#[test]
fn streams_above_the_last_are_refused_and_the_others_go_on() {
    let mut victim = victim();
    let (served, refused) = (victim.open(), victim.open());
    victim.hear(&goaway(served.number(), 0)).unwrap();
    let code = StreamCode::REFUSED;
    let told = [Event::GoingAway { code: 0 }, Event::Reset { id: refused, code }];
    assert_eq!(events(&mut victim.mux), told);
    victim.hear(&head(Flags::END, served.number())).unwrap();
    assert!(matches!(events(&mut victim.mux)[..], [Event::Head { .. }]));
    assert_eq!(kinds(&mut victim), [], "a stream that nobody looks at is not reset");
}

// [MUX-49] -
#[test]
fn a_goaway_cannot_disown_a_stream_of_which_an_answer_was_received() {
    for flags in [Flags::INFORMATIONAL, Flags::NONE, Flags::END] {
        let mut victim = victim();
        let stream = victim.open();
        victim.hear(&head(flags, stream.number())).unwrap();
        let error = LinkError::StreamState { kind: Kind::GoAway, stream };
        assert_eq!(victim.hear(&goaway(0, 0)), Err(error));
    }
}

/// The peer's first stream is open, and the drain is at its end. What was said on the way.
fn drained(victim: &mut Victim) -> Vec<Frame> {
    victim.mux.drain(victim.now);
    let announced = victim.sends();
    let barrier = announced.iter().find(|frame| frame.kind == Kind::Ping as u8).unwrap();
    victim.hear(&frame(Kind::Pong, Flags::NONE, 0, &barrier.payload)).unwrap();
    let settled = victim.sends();
    [announced, settled].concat()
}

fn last_and_code(goaway: &Frame) -> (u32, u32) {
    let [l3, l2, l1, l0, c3, c2, c1, c0] = *goaway.payload.first_chunk().unwrap();
    (u32::from_be_bytes([l3, l2, l1, l0]), u32::from_be_bytes([c3, c2, c1, c0]))
}

// [MUX-50] + [MUX-61] +
#[test]
fn a_drain_says_goaway_for_all_then_a_barrier_then_the_last_and_refuses_what_comes_above() {
    let mut victim = accepted(Flags::NONE);
    let said = drained(&mut victim);
    let said_kinds: Vec<u8> = said.iter().map(|frame| frame.kind).collect();
    assert_eq!(said_kinds, [8, 6, 8], "GOAWAY, PING, GOAWAY");
    assert_eq!(last_and_code(&said[0]), (ALL, 0));
    assert_eq!(last_and_code(&said[2]), (2, 0));

    victim.hear(&head(Flags::OPEN, 4)).unwrap();
    let refusal = victim.sends();
    assert!(matches!(&refusal[..], [Frame { kind: 2, stream: 4, payload, .. }] if payload[3] == 1));
    assert!(!events(&mut victim.mux).iter().any(|event| matches!(event, Event::Opened { .. })));
}

// [MUX-50] - [MUX-61] -
#[test]
fn a_drain_refuses_no_stream_it_serves_and_openings_above_take_credit() {
    let mut victim = accepted(Flags::NONE);
    victim.mux.send_head(id(2), Bytes::new(), HeadKind::Final).unwrap();
    drained(&mut victim);
    victim.mux.finish(id(2)).unwrap();
    assert_eq!(kinds(&mut victim), [END], "what was answered goes on to its end");

    let openings: Vec<u8> = (2..=16).flat_map(|nth| head(Flags::OPEN, 2 * nth)).collect();
    victim.hear(&openings).unwrap();
    let error = LinkError::TooManyStreams { stream: id(34), granted: 16 };
    assert_eq!(victim.hear(&head(Flags::OPEN, 34)), Err(error));
}

// [MUX-51] +-
#[test]
fn a_pong_waits_for_openings_behind_a_goaway_and_for_nothing_without_one() {
    let mut barred = victim();
    barred.mux.open(Bytes::from_static(b"GET"), false).unwrap();
    barred.hear(&[goaway(ALL, 0), ping()].concat()).unwrap();
    assert_eq!(kinds(&mut barred), [OPENING, PONG]);

    let mut free = victim();
    free.mux.open(Bytes::from_static(b"GET"), false).unwrap();
    free.hear(&ping()).unwrap();
    assert_eq!(kinds(&mut free), [PONG, OPENING]);
}

// [MUX-52] +-
#[test]
fn a_drain_asked_for_before_the_hello_begins_with_it_and_not_before() {
    let mut victim = Victim::before_hello(config());
    victim.mux.drain(victim.now);
    assert_eq!(kinds(&mut victim), [], "nothing but the preface");
    victim.hear(&hello(&config())).unwrap();
    assert_eq!(kinds(&mut victim), [GOAWAY, PING]);
}

// [MUX-53] +-
#[test]
fn a_goaway_with_a_code_refuses_what_was_not_answered_above_its_last_and_loses_the_rest() {
    let mut victim = victim();
    let [below, answered, refused] = [victim.open(), victim.open(), victim.open()];
    victim.hear(&head(Flags::NONE, answered.number())).unwrap();
    events(&mut victim.mux);
    let outcome = victim.hear(&goaway(below.number(), 0x42));
    assert!(matches!(outcome, Err(LinkError::ClosedByPeer { code: 0x42, .. })));
    let code = StreamCode::REFUSED;
    assert_eq!(events(&mut victim.mux), [Event::Reset { id: refused, code }]);
    let said = victim.sends();
    assert_eq!(said.len(), 1);
    assert_eq!(last_and_code(&said[0]), (0, 0x42), "one GOAWAY with the same code");
}

// [MUX-54] + [MUX-63] +-
#[test]
fn a_link_that_is_refused_says_so_by_its_code_and_in_words_of_128_octets_at_most() {
    let mut refusing = accepted(Flags::NONE);
    let words = format!("{}ü", "x".repeat(127));
    refusing.mux.refuse_link(&words);
    let why = words.as_str().into();
    assert_eq!(refusing.mux.closed(), Some(&LinkError::RefusedHere { why }));
    let said = refusing.sends();
    assert_eq!(said.len(), 1);
    assert_eq!(last_and_code(&said[0]), (2, 0x0d));
    assert_eq!(said[0].payload[8..], words.as_bytes()[..127], "cut between characters");

    let mut refused = victim();
    let ended = refused.hear(&raw_goaway(0x0d, b"two\nlines\xff"));
    let why = "two?lines\u{fffd}".into();
    assert_eq!(ended, Err(LinkError::RefusedByPeer { why }));
    assert_eq!(last_and_code(&refused.sends()[0]), (0, 0x0d), "one GOAWAY with the same code");
}

fn raw_goaway(code: u32, text: &[u8]) -> Vec<u8> {
    let payload = [&0u32.to_be_bytes()[..], &code.to_be_bytes(), text].concat();
    frame(Kind::GoAway, Flags::NONE, 0, &payload)
}

// [MUX-54] +-
#[test]
fn a_close_names_the_last_stream_served_and_nothing_follows_it() {
    let mut victim = accepted(Flags::NONE);
    victim.mux.send_head(id(2), Bytes::new(), HeadKind::Final).unwrap();
    victim.mux.write(id(2), &mut Bytes::from_static(b"never sent")).unwrap();
    victim.mux.close();
    let said = victim.sends();
    assert_eq!(said.len(), 1);
    assert_eq!(last_and_code(&said[0]), (2, 0));
    victim.mux.release(id(2));
    assert_eq!(kinds(&mut victim), []);

    let mut after_drain = accepted(Flags::NONE);
    drained(&mut after_drain);
    after_drain.hear(&head(Flags::OPEN, 4)).unwrap();
    after_drain.sends();
    after_drain.mux.close();
    assert_eq!(last_and_code(&after_drain.sends()[0]), (2, 0), "the one that was announced");
}
