//! What is counted of streams that wait for credit, and of what is queued.

use super::*;

/// A link on which a stream has credit for 1,024 octets, and a stream with its owner on each side.
fn narrow() -> (Pair, StreamId) {
    let site = Config { stream_window: 1024, accept_streams_max: 4, ..Config::default() };
    let gateway = Config { open_streams_max: 4, ..Config::default() };
    let mut pair = Pair::with(gateway, site);
    let id = pair.gateway.open(head(), false).unwrap();
    pair.settle();
    (pair, id)
}

fn octets(len: usize) -> Bytes {
    vec![0x5a; len].into()
}

/// Stalls begun, streams that stand still, and for how long at least one did.
fn stalls(mux: &Mux) -> (u64, usize, Duration) {
    let stats = mux.stats();
    (stats.credit_stalls, stats.streams_stalled, stats.credit_stalled_for)
}

fn pass(pair: &mut Pair, seconds: u64) {
    pair.now += Duration::from_secs(seconds);
    pair.settle();
}

#[test]
fn a_stream_stands_still_from_its_last_credit_until_it_has_some_and_its_time_is_counted() {
    let (mut pair, id) = narrow();
    let mut payload = octets(1025);
    pair.gateway.write(id, &mut payload).unwrap();
    assert_eq!(payload.len(), 1);
    assert_eq!(stalls(&pair.gateway), (0, 0, Duration::ZERO), "the pipe has not taken it");
    pair.settle();
    assert_eq!(stalls(&pair.gateway), (1, 1, Duration::ZERO));
    pass(&mut pair, 3);
    pair.gateway.want_room(id);
    // As a keep-alive would: it is told of the time by whatever is sent or received.
    pair.site.handle_timeout(pair.now).unwrap();
    pair.settle();
    assert_eq!(stalls(&pair.gateway), (1, 1, Duration::from_secs(3)), "asking again is no other");

    pair.site.take(id, 1024);
    pass(&mut pair, 2);
    assert_eq!(stalls(&pair.gateway), (1, 0, Duration::from_secs(5)));
    pair.gateway.write(id, &mut payload).unwrap();
    pass(&mut pair, 60);
    assert_eq!(stalls(&pair.gateway), (1, 0, Duration::from_secs(5)));
}

#[test]
fn a_writer_with_no_octet_more_than_was_granted_does_not_stand_still() {
    let (mut pair, id) = narrow();
    pair.gateway.write(id, &mut octets(1024)).unwrap();
    pair.settle();
    pair.gateway.finish(id).unwrap();
    pair.settle();
    assert_eq!(stalls(&pair.gateway), (0, 0, Duration::ZERO));
}

#[test]
fn a_stream_that_ends_while_it_stands_still_stands_still_no_longer() {
    let ends: [fn(&mut Pair, StreamId); 4] = [
        |pair, id| pair.gateway.reset(id, CODE),
        |pair, id| pair.gateway.finish(id).unwrap(),
        |pair, id| pair.site.stop(id, CODE),
        |pair, id| assert!(!pair.gateway.release(id)),
    ];
    for end in ends {
        let (mut pair, id) = narrow();
        pair.gateway.write(id, &mut octets(1025)).unwrap();
        pair.settle();
        assert_eq!(stalls(&pair.gateway).1, 1);
        end(&mut pair, id);
        pair.settle();
        pass(&mut pair, 60);
        assert_eq!(stalls(&pair.gateway), (1, 0, Duration::ZERO));
    }
}

#[test]
fn what_is_queued_is_counted_until_the_pipe_has_it_or_it_is_forgotten() {
    let (mut pair, id) = narrow();
    let queued = |pair: &Pair| pair.gateway.stats().payload_queued;
    pair.gateway.write(id, &mut octets(600)).unwrap();
    assert_eq!(queued(&pair), 600);
    pair.settle();
    assert_eq!(queued(&pair), 0);
    pair.gateway.write(id, &mut octets(425)).unwrap();
    assert_eq!(queued(&pair), 424, "no more than is granted is queued");
    pair.gateway.reset(id, CODE);
    assert_eq!(queued(&pair), 0);
}
