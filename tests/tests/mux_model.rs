//! Two engines against a model of plain vectors and integers, over everything that carries a link.
//!
//! The same state machine runs over a pipe of memory, a pipe that takes and gives one octet at a
//! time, and a TLS pair. Over QUIC there is no engine: see `link_quic_model.rs`.
//!
//! Its transitions are of four octets each, not the values of a `proptest_state_machine`, which is
//! at least as strong here. That crate keeps preconditions true while it removes transitions; here
//! there are none to keep. Every four octets mean an operation that may be done in every state: a
//! stream is named by how new it is among those that are known when its turn comes, and what is
//! not allowed then must be refused with the error that the model predicts. So any part of a script
//! is a script, shrinking may remove and lessen whatever it likes, and calls out of order are
//! tested, which preconditions would keep out. And the fuzzer reads the same octets: what one of
//! the two finds, the other replays. What it lacks is a generator that knows the state; so steps
//! that lead far are drawn whole, see [`passing`].
//!
//! A failing case prints its operations, and the same as hexadecimal octets. Those octets, put into
//! a file of `fuzz/corpus/mux_ops`, replay it in `cargo test -p relay-tests --test corpora` and in
//! the fuzzer, and keep it as a regression test.

use std::fmt;
use std::io::IoSlice;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use relay_core::mux::reference::carrier::{Carrier, Pipe};
use relay_core::mux::reference::pair::Pair;
use relay_core::mux::reference::{ROOMY, SHARED, configs, mux_ops_over, op::Op};
use relay_core::mux::{HeadKind, Side};
use relay_tests::carriers::Tls;

/// What the fuzz target `mux_ops` takes: one octet of settings, then four for each operation.
struct Script {
    octets: Vec<u8>,
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((settings, ops)) = self.octets.split_first() else { return Ok(()) };
        writeln!(f, "settings {settings}")?;
        for raw in ops.as_chunks::<4>().0 {
            writeln!(f, "{:?}", Op::from_octets(*raw))?;
        }
        write!(f, "as octets: ")?;
        self.octets.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

fn is_injection(raw: [u8; 4]) -> bool {
    matches!(Op::from_octets(raw), Op::Inject(..))
}

/// Scripts of up to `steps_max` steps, without a hostile peer unless `hostile`.
fn scripts(steps_max: usize, hostile: bool) -> impl Strategy<Value = Script> {
    let settings = prop_oneof![5 => 0u8..5, 1 => Just(SHARED), 1 => Just(ROOMY)];
    let raw =
        any::<[u8; 4]>().prop_filter("no hostile frame", move |raw| hostile || !is_injection(*raw));
    let step = prop_oneof![15 => raw.prop_map(|raw| vec![raw]), 1 => passing()];
    (settings, vec(step, 1..steps_max)).prop_map(|(settings, steps)| {
        let mut octets = vec![settings];
        octets.extend(steps.into_iter().flatten().flatten());
        Script { octets }
    })
}

/// Payload that is written, arrives and is passed on, as the other side is told: windows grow by
/// this, which operations by themselves seldom do in this order.
fn passing() -> impl Strategy<Value = Vec<[u8; 4]>> {
    (0u8..3, 256u16..2000, any::<bool>()).prop_map(|(pick, len, by_dialer)| {
        let [long, short] = len.to_be_bytes();
        let (write, take_all) = if by_dialer { (0x8f, 0x1a) } else { (0x0f, 0x9a) };
        vec![[write, pick, long, short], [0; 4], [take_all, 0, 0, 0], [0; 4]]
    })
}

/// A failure is replayed by the octets it prints, so no file is kept of it.
fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Does as many scripts, each over a new carrier.
fn check<C: Carrier>(cases: u32, scripts: impl Strategy<Value = Script>, carrier: fn() -> C) {
    let outcome = TestRunner::new(config(cases)).run(&scripts, |script| {
        mux_ops_over(carrier(), &script.octets);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

mod over_memory {
    use super::*;

    #[test]
    fn two_engines_do_what_the_model_predicts() {
        check(1000, scripts(160, false), Pipe::whole);
    }

    #[test]
    fn a_few_operations_do_what_the_model_predicts() {
        check(1000, scripts(24, false), Pipe::whole);
    }

    #[test]
    fn a_hostile_peer_makes_no_engine_panic_or_exceed_its_memory() {
        check(1000, scripts(100, true), Pipe::whole);
    }
}

mod over_memory_octet_by_octet {
    use super::*;

    #[test]
    fn two_engines_do_what_the_model_predicts() {
        check(250, scripts(160, false), Pipe::octet_by_octet);
    }

    #[test]
    fn a_few_operations_do_what_the_model_predicts() {
        check(250, scripts(24, false), Pipe::octet_by_octet);
    }

    #[test]
    fn a_hostile_peer_makes_no_engine_panic_or_exceed_its_memory() {
        check(250, scripts(100, true), Pipe::octet_by_octet);
    }
}

mod over_tls {
    use super::*;

    #[test]
    fn two_engines_do_what_the_model_predicts() {
        check(250, scripts(160, false), Tls::new);
    }

    #[test]
    fn a_few_operations_do_what_the_model_predicts() {
        check(250, scripts(24, false), Tls::new);
    }

    #[test]
    fn a_hostile_peer_makes_no_engine_panic_or_exceed_its_memory() {
        check(250, scripts(100, true), Tls::new);
    }
}

/// Both sides write and pass on as much as lets every window grow.
#[test]
fn links_that_share_a_budget_grow_no_further_than_it_has() {
    let configs = configs(SHARED);
    let window = u64::from(configs[0].stream_window);
    let budget = configs[0].memory.clone().expect("a shared budget");
    let mut pair = Pair::new(configs, Pipe::whole());
    assert_eq!(budget.limit() - budget.leased(), window, "beyond the floors");
    let sides = [Side::Listener, Side::Dialer];
    for opener in sides {
        pair.apply(Op::Open(opener, 9, false));
        pair.apply(Op::Settle);
        pair.apply(Op::SendHead(opener.peer(), 0, 9, HeadKind::Final));
    }
    for _ in 0..4 {
        for (side, pick) in [(sides[0], 0), (sides[0], 1), (sides[1], 0), (sides[1], 1)] {
            pair.apply(Op::Write(side, pick, 700));
        }
        pair.apply(Op::Settle);
        pair.apply(Op::TakeAll(sides[0]));
        pair.apply(Op::TakeAll(sides[1]));
        pair.apply(Op::Settle);
    }
    let growth = sides.map(|side| pair.end(side).mux.stats().window_growth);
    assert_eq!(growth.iter().sum::<u64>(), window, "{growth:?}");
    assert!(budget.refused() > 0, "more than one window wants to grow");
    pair.finish();
    assert_eq!(budget.leased(), 0);
}

/// The last of a stream goes without a frame, so the batch is empty, and there is credit to return.
#[test]
fn a_stop_that_is_too_late_leaves_nothing_ready_behind_an_empty_batch() {
    let (opener, acceptor) = (Side::Listener, Side::Dialer);
    let mut pair = Pair::new(configs(0), Pipe::whole());
    for op in [
        Op::Open(opener, 9, false),
        Op::Settle,
        Op::SendHead(acceptor, 0, 9, HeadKind::FinalAndEnd),
        Op::Settle,
        Op::Stop(acceptor, 0),
        Op::Finish(opener, 0),
        Op::Transmit(opener, usize::MAX),
        Op::Deliver(acceptor, usize::MAX),
        Op::Release(acceptor, 0),
        Op::Transmit(acceptor, usize::MAX),
    ] {
        pair.apply(op);
    }
    pair.finish();
}

/// What is written in any parts is read in any parts: all of it, in its order, each way apart.
fn keeps_what_it_carries(mut carrier: impl Carrier, steps: &[(bool, bool, usize)]) {
    let mut written = [Vec::new(), Vec::new()];
    let mut read = [Vec::new(), Vec::new()];
    for &(from_listener, is_read, len) in steps {
        let from = if from_listener { Side::Listener } else { Side::Dialer };
        let way = usize::from(from_listener);
        if is_read {
            let portion = carrier.read(from.peer(), len);
            assert!(portion.len() <= len);
            let is_all = read[way].len() == written[way].len();
            assert_eq!(portion.is_empty(), len == 0 || is_all, "a carrier holds nothing back");
            read[way].extend(portion);
            continue;
        }
        let first = written[way].len() * 3 + way;
        let octets: Vec<u8> = (first..).map(|n| n.to_le_bytes()[0]).take(len).collect();
        let (front, back) = octets.split_at(len / 3);
        let slices = [IoSlice::new(front), IoSlice::new(&[]), IoSlice::new(back)];
        let taken = carrier.write(from, &slices, len / 2 + 1);
        assert!(taken <= len / 2 + 1 && (taken > 0) == (len > 0), "{taken} of {len} are taken");
        written[way].extend_from_slice(&octets[..taken]);
    }
    for way in 0..2 {
        assert!(written[way].starts_with(&read[way]), "the way {way}");
    }
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn every_carrier_gives_what_it_took_in_its_order(
        steps in vec((any::<bool>(), any::<bool>(), 0..20_000_usize), 1..60),
    ) {
        keeps_what_it_carries(Pipe::whole(), &steps);
        keeps_what_it_carries(Pipe::octet_by_octet(), &steps);
        keeps_what_it_carries(Tls::new(), &steps);
    }
}

#[test]
fn a_pipe_takes_and_gives_all_or_one_octet_and_tls_something_between() {
    fn portions(mut carrier: impl Carrier) -> [usize; 2] {
        let slices = [IoSlice::new(&[7; 10_000])];
        let written = carrier.write(Side::Dialer, &slices, usize::MAX);
        [written, carrier.read(Side::Listener, usize::MAX).len()]
    }
    assert_eq!(portions(Pipe::whole()), [10_000; 2]);
    assert_eq!(portions(Pipe::octet_by_octet()), [1; 2]);
    let [written, read] = portions(Tls::new());
    assert!((2..10_000).contains(&written) && (2..=written).contains(&read), "{written}, {read}");
}
