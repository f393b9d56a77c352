//! Two engines against a model of plain vectors and integers, over pipes that split anywhere.
//!
//! A failing case prints its operations, and the same as hexadecimal octets. Those octets, put into
//! a file of `fuzz/corpus/mux_ops`, replay it in `cargo test -p relay-tests --test corpora` and in
//! the fuzzer, and keep it as a regression test.

use std::fmt;

use proptest::collection::vec;
use proptest::prelude::*;
use relay_core::mux::reference::{mux_ops, op::Op};

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

/// Scripts of up to `ops_max` operations, without a hostile peer unless `hostile`.
fn scripts(ops_max: usize, hostile: bool) -> impl Strategy<Value = Script> {
    let raw =
        any::<[u8; 4]>().prop_filter("no hostile frame", move |raw| hostile || !is_injection(*raw));
    (0u8..5, vec(raw, 1..ops_max)).prop_map(|(settings, ops)| {
        let mut octets = vec![settings];
        octets.extend(ops.into_iter().flatten());
        Script { octets }
    })
}

/// A failure is replayed by the octets it prints, so no file is kept of it.
fn config() -> ProptestConfig {
    ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn two_engines_do_what_the_model_predicts(script in scripts(160, false)) {
        mux_ops(&script.octets);
    }

    #[test]
    fn a_few_operations_do_what_the_model_predicts(script in scripts(24, false)) {
        mux_ops(&script.octets);
    }

    #[test]
    fn a_hostile_peer_makes_no_engine_panic_or_exceed_its_memory(script in scripts(100, true)) {
        mux_ops(&script.octets);
    }
}
