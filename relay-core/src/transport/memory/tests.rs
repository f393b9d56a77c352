use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};

use super::*;

const PORT: u16 = 7;

/// Longer than anything takes here.
const LONG: Duration = Duration::from_hours(1);

fn network() -> MemoryNetwork {
    MemoryNetwork::new(1)
}

/// Two ends of a connection from `a` to `b`, and the listener on `b`.
async fn joined(network: &MemoryNetwork) -> (MemoryStream, MemoryStream, MemoryListener) {
    let listener = network.host("b").bind(PORT).unwrap();
    let near = network.host("a").dial("b", PORT).await.unwrap();
    let (far, _) = listener.accept().await;
    (near, far, listener)
}

async fn read_to_end(stream: &mut MemoryStream) -> (Vec<u8>, Option<ErrorKind>) {
    let mut octets = Vec::new();
    let outcome = stream.read_to_end(&mut octets).await;
    (octets, outcome.err().map(|error| error.kind()))
}

#[tokio::test(start_paused = true)]
async fn octets_arrive_in_order_and_not_before_their_time() {
    let network = network();
    let travel = Travel { latency_min: Duration::from_millis(20), ..Travel::default() };
    network.set_default_path(Travel { latency_max: Duration::from_millis(30), ..travel });
    let (mut near, mut far, _listener) = joined(&network).await;
    let before = Instant::now();
    near.write_all(b"one").await.unwrap();
    near.write_all(b"two").await.unwrap();
    near.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut far).await, (b"onetwo".to_vec(), None));
    let taken = before.elapsed();
    assert!(Duration::from_millis(20) <= taken && taken <= Duration::from_millis(31), "{taken:?}");
}

#[tokio::test(start_paused = true)]
async fn a_rate_bounds_what_passes_and_a_full_buffer_has_the_writer_wait() {
    let network = network();
    let travel = Travel { octets_per_second: Some(1000), buffer_octets: 100, ..Travel::default() };
    network.set_default_path(travel);
    let (mut near, mut far, _listener) = joined(&network).await;
    let before = Instant::now();
    let write = async {
        near.write_all(&[7; 1000]).await.unwrap();
        drop(near);
    };
    let waited = timeout(LONG, read_to_end(&mut far));
    let ((), got) = tokio::join!(write, waited);
    assert_eq!(got.unwrap().0.len(), 1000);
    assert!(before.elapsed() >= Duration::from_secs(1), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_writer_whose_octets_nobody_reads_waits() {
    let network = network();
    network.set_default_path(Travel { buffer_octets: 10, ..Travel::default() });
    let (mut near, mut far, _listener) = joined(&network).await;
    assert_eq!(near.write(&[1; 20]).await.unwrap(), 10);
    assert!(timeout(LONG, near.write(&[1; 20])).await.is_err());
    far.read_exact(&mut [0; 4]).await.unwrap();
    assert_eq!(near.write(&[1; 20]).await.unwrap(), 4);
}

#[tokio::test(start_paused = true)]
async fn reads_and_writes_are_as_short_as_asked() {
    let network = network();
    network.set_default_path(Travel { piece_octets_max: Some(3), ..Travel::default() });
    let (mut near, mut far, _listener) = joined(&network).await;
    assert!(near.write(&[1; 100]).await.unwrap() <= 3);
    near.write_all(&[1; 100]).await.unwrap();
    assert!((1..=3).contains(&far.read(&mut [0; 100]).await.unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_planned_cut_lets_exactly_the_octets_before_it_arrive() {
    for octet in [0, 1, 5, 10] {
        let network = network();
        let fault = PathFault { direction: Direction::FromDialer, octet, fault: PlannedFault::Cut };
        network.plan("b", PORT, 0, fault);
        let (mut near, mut far, _listener) = joined(&network).await;
        let written = near.write_all(b"0123456789").await;
        assert_eq!(written.is_ok(), octet == 10);
        assert_eq!(near.read(&mut [0; 1]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        let (got, end) = read_to_end(&mut far).await;
        assert_eq!(got.len() as u64, octet);
        assert_eq!(end, Some(ErrorKind::ConnectionReset));
    }
}

#[tokio::test(start_paused = true)]
async fn a_plan_waits_for_its_connection_and_strikes_once() {
    let network = network();
    let fault = PathFault { direction: Direction::ToDialer, octet: 2, fault: PlannedFault::Cut };
    network.plan("b", PORT, 1, fault);
    let (_near, mut far, listener) = joined(&network).await;
    far.write_all(b"0123").await.unwrap();
    for strikes in [true, false] {
        let _near = network.host("a").dial("b", PORT).await.unwrap();
        let (mut far, _) = listener.accept().await;
        assert_eq!(far.write_all(b"0123").await.is_err(), strikes);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_held_is_silence_until_it_is_released() {
    let network = network();
    let (mut near, mut far, _listener) = joined(&network).await;
    near.write_all(b"before").await.unwrap();
    network.hold(near.id(), Direction::FromDialer);
    near.write_all(b"behind").await.unwrap();
    far.write_all(b"back").await.unwrap();
    far.read_exact(&mut [0; 6]).await.unwrap();
    near.read_exact(&mut [0; 4]).await.unwrap();
    let id = near.id();
    drop(near);
    assert!(timeout(LONG, far.read(&mut [0; 1])).await.is_err(), "neither octets nor the end");
    far.write_all(b"nobody tells").await.unwrap();
    network.release(id, Direction::FromDialer);
    assert_eq!(read_to_end(&mut far).await, (b"behind".to_vec(), None));
}

#[tokio::test(start_paused = true)]
async fn hosts_that_are_apart_hear_nothing_of_each_other_until_it_heals() {
    let network = network();
    let (mut near, mut far, _listener) = joined(&network).await;
    let (a, c) = (network.host("a"), network.host("c"));
    network.partition("b", "a", Dials::Silent);
    near.write_all(b"x").await.unwrap();
    assert!(timeout(LONG, far.read(&mut [0; 1])).await.is_err());
    assert!(timeout(LONG, a.dial("b", PORT)).await.is_err());
    c.dial("b", PORT).await.unwrap();
    let dial = tokio::spawn(async move { a.dial("b", PORT).await.is_ok() });
    tokio::task::yield_now().await;
    network.heal("a", "b");
    assert_eq!(far.read(&mut [0; 9]).await.unwrap(), 1);
    assert!(timeout(LONG, dial).await.unwrap().unwrap(), "a dial that waited goes on");
    network.partition("a", "b", Dials::Refused);
    let refused = network.host("a").dial("b", PORT).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test(start_paused = true)]
async fn a_crash_of_programs_is_told_and_one_of_the_machine_only_when_it_is_back() {
    for crash in [Crash::Programs, Crash::Machine] {
        let network = network();
        let (mut near, mut far, listener) = joined(&network).await;
        network.crash("b", crash);
        assert!(far.write_all(b"x").await.is_err(), "what ran there has no connection");
        let end = timeout(LONG, near.read(&mut [0; 1])).await;
        assert_eq!(end.is_ok(), crash == Crash::Programs);
        let dial = timeout(LONG, network.host("a").dial("b", PORT)).await;
        assert_eq!(dial.is_ok(), crash == Crash::Programs);
        drop((far, listener));
        network.restart("b");
        let end = near.read(&mut [0; 1]).await;
        assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
        let _listener = network.host("b").bind(PORT).unwrap();
        network.host("a").dial("b", PORT).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn healing_everything_leaves_no_fault() {
    let network = network();
    let (mut near, mut far, listener) = joined(&network).await;
    network.partition("a", "b", Dials::Silent);
    network.hold(near.id(), Direction::ToDialer);
    let fault = PathFault { direction: Direction::ToDialer, octet: 0, fault: PlannedFault::Hold };
    network.plan("b", PORT, 0, fault);
    network.crash("c", Crash::Machine);
    network.heal_all();
    far.write_all(b"x").await.unwrap();
    assert_eq!(near.read(&mut [0; 9]).await.unwrap(), 1);
    let refused = network.host("a").dial("c", PORT).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let mut near = network.host("a").dial("b", PORT).await.unwrap();
    let (mut far, _) = listener.accept().await;
    far.write_all(b"x").await.unwrap();
    assert_eq!(near.read(&mut [0; 9]).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn whom_anybody_dialled_is_known_whatever_came_of_it() {
    let network = network();
    assert!(network.host("a").dial("nowhere", 1).await.is_err());
    let known: Vec<_> = network.who_dialled().into_iter().collect();
    assert_eq!(known, [("a".to_owned(), "nowhere".to_owned(), 1)]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_kept_of_a_connection_that_both_ends_have_left() {
    let network = network();
    let (near, far, _listener) = joined(&network).await;
    assert_eq!(network.between("a", "b"), [near.id()]);
    drop(near);
    assert_eq!(network.between("b", "a").len(), 1);
    drop(far);
    assert!(network.between("a", "b").is_empty());
}

/// A run whose every draw matters.
async fn digest(seed: u64) -> u64 {
    let network = MemoryNetwork::new(seed);
    let travel = Travel { latency_max: Duration::from_millis(9), ..Travel::default() };
    network.set_default_path(Travel { piece_octets_max: Some(50), ..travel });
    let (mut near, mut far, _listener) = joined(&network).await;
    near.write_all(&[1; 500]).await.unwrap();
    far.read_exact(&mut [0; 500]).await.unwrap();
    network.trace().digest
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_trace_and_another_one_another() {
    assert_eq!(digest(5).await, digest(5).await);
    assert_ne!(digest(5).await, digest(6).await);
}

#[tokio::test(start_paused = true)]
async fn a_writer_learns_a_round_trip_late_that_nobody_reads_and_loses_nothing_for_it() {
    let network = network();
    let (mut near, mut far, _listener) = joined(&network).await;
    far.write_all(b"last").await.unwrap();
    drop(far);
    near.write_all(b"nobody").await.unwrap();
    tokio::time::sleep(Duration::from_millis(3)).await;
    assert_eq!(near.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert_eq!(read_to_end(&mut near).await, (b"last".to_vec(), None));
}

#[tokio::test(start_paused = true)]
async fn a_sender_gives_up_what_is_not_acknowledged_whichever_way_is_dead() {
    let limit = Duration::from_secs(15);
    for dead in Direction::BOTH {
        let network = network();
        let travel = Travel { unacknowledged_max: Some(limit), ..Travel::default() };
        network.set_default_path(travel);
        let (mut near, _far, _listener) = joined(&network).await;
        network.hold(near.id(), dead);
        let waits = timeout(LONG, near.read(&mut [0; 1])).await;
        assert!(waits.is_err(), "nothing was sent that could be acknowledged");
        near.write_all(b"x").await.unwrap();
        let before = Instant::now();
        let end = near.read(&mut [0; 1]).await;
        assert_eq!(end.unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(before.elapsed(), limit);
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_an_octet_of_a_connection_is_healed_with_the_rest() {
    let network = network();
    let fault = PathFault { direction: Direction::FromDialer, octet: 2, fault: PlannedFault::Cut };
    network.plan("b", PORT, 0, fault);
    let (mut near, mut far, _listener) = joined(&network).await;
    near.write_all(b"x").await.unwrap();
    network.heal_all();
    near.write_all(b"yz").await.unwrap();
    let mut octets = [0; 3];
    far.read_exact(&mut octets).await.unwrap();
    assert_eq!(&octets, b"xyz");
}
