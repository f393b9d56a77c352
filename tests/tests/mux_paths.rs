//! How fast a link becomes on a path, in virtual time: windows alone decide.
//!
//! Two engines with default settings, a sender that always has payload, a receiver that reads as
//! the handles of a link do, and a path of 1 to 200 ms at 10 Mbit/s to 10 Gbit/s between them. The
//! path loses nothing and has no congestion window, so what falls short of the line is the mux's
//! own doing.
//!
//! One stream reaches 80 % of what it can within ten round trips. What it can is the line or, where
//! a round trip carries more than the widest window, that window each round trip: 16 MiB in 200 ms
//! are 671 Mbit/s, however wide the line. More streams or more links fill such a path.
//!
//! `cargo test -p relay-tests --test mux_paths -- --nocapture` prints the rates.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use relay_core::mux::{Config, WINDOW_MAX};
use relay_tests::paths::{FRAME, JOINED, Path, World};

const MEGABIT: u64 = 1_000_000;
const RATES: [u64; 4] = [10 * MEGABIT, 100 * MEGABIT, 1_000 * MEGABIT, 10_000 * MEGABIT];
const ROUND_TRIPS: [Duration; 5] = [
    Duration::from_millis(1),
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
];

/// Every path there is, on which so many octets arrive `together`.
fn paths(together: u64) -> impl Iterator<Item = Path> {
    let of_rate = move |bits_per_second| {
        ROUND_TRIPS.into_iter().map(move |round_trip| Path {
            bits_per_second,
            round_trip,
            together,
        })
    };
    RATES.into_iter().flat_map(of_rate)
}

fn shown(path: Path) -> String {
    format!("{:>6} Mbit/s {:>4} ms", path.bits_per_second / MEGABIT, path.round_trip.as_millis())
}

/// Octets that all windows of the receiver have together when none has grown.
fn floor() -> u64 {
    u64::from(Config::default().stream_window)
}

/// Octets that one stream can receive in a round trip.
fn bound(path: Path) -> u64 {
    path.octets_per_round_trip().min(WINDOW_MAX)
}

/// What one stream received in each of its first ten round trips.
///
/// No more than the line carries, and no window wider than four round trips of the line, however
/// long they seem behind what waits in the sender's socket.
fn first_ten(world: &mut World, path: Path) -> [u64; 10] {
    world.open(1);
    let mut slowest = path.round_trip;
    let mut before = 0;
    std::array::from_fn(|_| {
        world.run(path.round_trip);
        let received = world.received().iter().sum::<u64>() - before;
        before += received;
        let line = path.octets_per_round_trip();
        assert!(received <= line + line / 10, "{}: faster than the line", shown(path));
        slowest = slowest.max(world.measured().unwrap_or_default());
        let widest = 4 * Path { round_trip: slowest, ..path }.octets_per_round_trip();
        let window = floor() + world.growth();
        assert!(window <= widest.max(floor()), "{}: a window of {window}", shown(path));
        received
    })
}

/// Fails with every path on which one stream does not come near its bound in time.
fn assert_fast(what: &str, together: u64, begin: impl Fn(&mut World)) {
    println!("{what}: % of what one stream can do, in round trip 2, 4, 6, 8 and 10");
    let mut slow = Vec::new();
    for path in paths(together) {
        let mut world = World::new(path, &Config::default());
        world.connect();
        begin(&mut world);
        let percent = first_ten(&mut world, path).map(|octets| 100 * octets / bound(path));
        let shown = shown(path);
        println!(
            "{shown} {:>5}{:>5}{:>5}{:>5}{:>5}",
            percent[1], percent[3], percent[5], percent[7], percent[9]
        );
        if percent[9] < 80 {
            slow.push(format!("{shown}: {percent:?}"));
        }
    }
    assert!(slow.is_empty(), "too slow in the tenth round trip:\n{}", slow.join("\n"));
}

// [MUX-42] +
#[test]
fn one_stream_on_a_new_link_fills_every_path_within_ten_round_trips() {
    assert_fast("a new link", FRAME, |_| {});
}

#[test]
fn one_stream_that_arrives_in_bursts_fills_every_path_within_ten_round_trips() {
    assert_fast("a new link, joined segments", JOINED, |_| {});
}

#[test]
fn one_stream_on_a_link_that_was_idle_fills_every_path_within_ten_round_trips() {
    assert_fast("after 40 s of nothing", FRAME, |world| world.run(Duration::from_secs(40)));
}

/// What each stream receives from now on while the path carries four round trips, and four turns of
/// every stream.
fn shares(world: &mut World, path: Path) -> Vec<u64> {
    let turn = u64::from(Config::default().payload_max);
    let turns = path.time_for(4 * turn * world.received().len() as u64);
    let before = world.received();
    world.run(turns.max(4 * path.round_trip));
    world.received().iter().zip(before).map(|(now, before)| now - before).collect()
}

/// No share is as much as `times` another.
fn assert_even(shares: &[u64], times: u64, what: &str) {
    let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
    println!(
        "{what}: the largest share is {}.{:02} of the least",
        most / least,
        most * 100 / least % 100
    );
    assert!(*most < times * least, "{what}: {shares:?}");
}

#[test]
fn sixty_four_streams_have_even_shares_of_every_path_after_ten_round_trips() {
    let memory = Config::default().receive_memory_max;
    for path in paths(JOINED) {
        let mut world = World::new(path, &Config::default());
        world.connect();
        world.open(64);
        for _ in 0..10 {
            world.run(path.round_trip);
            assert!(world.growth() <= memory, "windows outgrew their memory");
        }
        let shares = shares(&mut world, path);
        assert_eq!(shares.len(), 64);
        // Where the link's memory is what limits the streams, windows follow a moving share of it
        // in steps, and lie further apart than turns on a line do.
        let is_short_of_memory = 2 * path.octets_per_round_trip() > memory / 2;
        assert_even(&shares, if is_short_of_memory { 3 } else { 2 }, &shown(path));
    }
}

#[test]
fn streams_that_come_when_others_have_the_memory_get_an_even_share_of_it() {
    let path = Path { bits_per_second: RATES[3], round_trip: ROUND_TRIPS[3], together: JOINED };
    let mut world = World::new(path, &Config::default());
    world.connect();
    world.open(2);
    world.run(20 * path.round_trip);
    let first_two = world.growth();
    assert!(first_two > WINDOW_MAX, "they have {first_two} octets and need no more");
    world.open(6);
    world.run(20 * path.round_trip);
    assert_even(&shares(&mut world, path), 2, "two streams and six that came later");
}

#[test]
fn a_window_decays_while_its_application_is_slow_and_recovers_with_it() {
    let path = Path { bits_per_second: RATES[2], round_trip: ROUND_TRIPS[2], together: FRAME };
    let mut world = World::new(path, &Config::default());
    world.connect();
    world.open(1);
    world.run(12 * path.round_trip);
    let wide = floor() + world.growth();
    assert!(wide > 2 * path.octets_per_round_trip(), "{wide} octets: it is fast");

    world.takes = false;
    world.run(Duration::from_secs(30));
    let (held, window) = (world.held(), floor() + world.growth());
    assert!(
        held <= window && window <= wide,
        "{held} of {window} held, which is not more than {wide}"
    );

    // 64 KiB in two round trips.
    let slow = 64 << 10;
    for _ in 0..2_000 {
        world.take(slow);
        world.run(2 * path.round_trip);
        assert!(floor() + world.growth() <= window, "a slow application has no window grow");
    }
    let narrow = floor() + world.growth();
    // A quarter is consumed in eight round trips: 256 KiB.
    assert!(narrow <= 4 * 4 * slow, "{narrow} octets are kept for {slow} in two round trips");

    world.takes = true;
    world.take(u64::MAX);
    world.run(9 * path.round_trip);
    let before = world.received()[0];
    world.run(path.round_trip);
    let percent = 100 * (world.received()[0] - before) / bound(path);
    assert!(percent >= 80, "{percent} % of the line in the tenth round trip after it woke");
}
