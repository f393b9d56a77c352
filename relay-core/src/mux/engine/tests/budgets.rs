//! Budgets against abuse, at their boundaries.

use super::*;

// [MUX-64] +-
#[test]
fn each_kind_of_busy_work_has_a_budget_and_one_more_ends_the_link_by_its_name() {
    let link = StreamId::LINK;
    let (_, id) = with_one_stream();
    let reset = forged(Kind::Reset, Flags::NONE, id, &CODE.0.to_be_bytes());
    let window = 2 * u64::from(Config::default().payload_max);
    let answered = forged(Kind::Head, Flags::NONE, id, b"h");
    let code = CODE.0.to_be_bytes();
    let cases: [(&str, usize, Vec<u8>, Vec<u8>); 8] = [
        // The handshake's own PING has taken one of ten.
        ("PING", 9, vec![], forged(Kind::Ping, Flags::NONE, link, &[0; 8])),
        // Its end excuses what its window could have held, and eight more.
        ("frames for ended streams", 1000 + 127 + 8, reset.clone(), reset),
        ("small DATA", 200_000, answered, forged(Kind::Data, Flags::NONE, id, b"x")),
        ("skipped frames", 1000, vec![], forged(Kind::Pad, Flags::NONE, link, b"")),
        (
            "grants of nothing",
            1000,
            vec![],
            forged(Kind::Window, Flags::NONE, id, &window.to_be_bytes()),
        ),
        (
            "grants of nothing",
            1000,
            vec![],
            forged(Kind::Streams, Flags::NONE, link, &1024_u64.to_be_bytes()),
        ),
        // The handshake's PONG has taken one of 2,000, and the STOP that ends a half takes none.
        ("control frames", 2000, vec![], forged(Kind::Stop, Flags::NONE, id, &code)),
        ("control frames", 1999, vec![], forged(Kind::Pong, Flags::NONE, link, &[0; 8])),
    ];
    for (name, burst, before, frame) in cases {
        let config = Config { open_streams_max: 2, ..Config::default() };
        let mut pair = Pair::with(config, Config::default());
        let id = pair.gateway.open(head(), false).unwrap();
        pair.settle();
        pair.forge_to_gateway(&before).unwrap();
        if name == "frames for ended streams" {
            pair.gateway.release(id);
        }
        for count in 0..burst {
            let verdict = pair.forge_to_gateway(&frame);
            assert_eq!(verdict, Ok(()), "{name}: number {count}");
            while pair.gateway.poll_event().is_some() {
                pair.gateway.take(id, 1);
            }
            sent(&mut pair.gateway, pair.now);
        }
        let verdict = pair.forge_to_gateway(&frame);
        assert_eq!(verdict, Err(LinkError::Abuse { what: name }));
        let said = sent(&mut pair.gateway, pair.now);
        assert_eq!(kinds(&said), [Kind::GoAway]);
        assert_eq!(said[12..16], 0x09_u32.to_be_bytes());
    }
}

#[test]
fn a_budget_fills_again_with_time() {
    let mut pair = Pair::new(1);
    let ping = forged(Kind::Ping, Flags::NONE, StreamId::LINK, &[0; 8]);
    for _ in 0..9 {
        pair.forge_to_gateway(&ping).unwrap();
    }
    pair.now += Duration::from_millis(1001);
    assert_eq!(pair.forge_to_gateway(&ping), Ok(()));
    assert_eq!(pair.forge_to_gateway(&ping), Err(LinkError::Abuse { what: "PING" }));
}

/// A link with windows wide enough that credit plays no part.

#[test]
fn grants_of_an_octet_each_are_taken_as_far_as_payload_excuses_them() {
    let (mut pair, id) = with_one_stream();
    let mut limit = u64::from(Config::default().stream_window);
    let mut creep = |pair: &mut Pair| {
        limit += 1;
        pair.forge_to_gateway(&forged(Kind::Window, Flags::NONE, id, &limit.to_be_bytes()))
    };
    for _ in 0..1999 {
        assert_eq!(creep(&mut pair), Ok(()));
    }
    pair.gateway.write(id, &mut Bytes::from(vec![7; 128 * 3])).unwrap();
    sent(&mut pair.gateway, pair.now);
    for _ in 0..3 {
        assert_eq!(creep(&mut pair), Ok(()));
    }
    assert_eq!(creep(&mut pair), Err(LinkError::Abuse { what: "control frames" }));
}
