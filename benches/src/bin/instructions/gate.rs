//! What a count may differ from its baseline by.

use std::collections::BTreeMap;
use std::fmt;

use relay_benches::instructions::CASES;
use serde::{Deserialize, Serialize};

/// A count above its baseline by more fails. Our choice: counts repeat exactly, so this is for what
/// a compiler's mood does to code that nobody touched.
const DEARER_PERCENT: u64 = 3;

/// A count below its baseline by more is worth a new baseline, or the gain could be lost unseen.
const CHEAPER_PERCENT: u64 = 5;

/// What counts depend on besides the code.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Tools {
    /// The compiler.
    pub(crate) rustc: String,
    /// The C library, whose allocator is counted.
    pub(crate) libc: String,
    /// What counts.
    pub(crate) valgrind: String,
    /// The kind of processor.
    pub(crate) machine: String,
}

impl fmt::Display for Tools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rustc, libc, valgrind, machine } = self;
        write!(f, "{rustc}, {libc}, {valgrind}, {machine}")
    }
}

/// The counts of one run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Baseline {
    /// What they were made with.
    pub(crate) made_with: Tools,
    /// Instructions by the id of the case.
    pub(crate) instructions: BTreeMap<String, u64>,
}

/// One case, as it was and as it is.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) baseline: Option<u64>,
    pub(crate) now: Option<u64>,
}

/// What is said to a case.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// As before.
    Holds,
    /// So much cheaper that the baseline should say so.
    Cheaper,
    /// Too dear: fails.
    Dearer,
    /// The baseline does not know it: fails.
    New,
    /// It is no longer counted, or no longer a case: fails.
    Gone,
}

impl Verdict {
    pub(crate) fn fails(self) -> bool {
        matches!(self, Self::Dearer | Self::New | Self::Gone)
    }

    pub(crate) fn remark(self) -> &'static str {
        match self {
            Self::Holds => "",
            Self::Cheaper => "  cheaper",
            Self::Dearer => "  TOO DEAR",
            Self::New => "  NOT IN THE BASELINE",
            Self::Gone => "  NOT COUNTED",
        }
    }
}

impl Row {
    pub(crate) fn verdict(&self) -> Verdict {
        let is_case = CASES.iter().any(|case| case.id == self.id);
        match (self.baseline, self.now) {
            (_, None) => Verdict::Gone,
            _ if !is_case => Verdict::Gone,
            (None, Some(_)) => Verdict::New,
            (Some(before), Some(now)) => verdict(before, now),
        }
    }

    /// By how many thousandths it has changed.
    pub(crate) fn permille(&self) -> Option<i64> {
        let (before, now) = (self.baseline?, self.now?);
        let change = i128::from(now) * 1000 / i128::from(before.max(1)) - 1000;
        i64::try_from(change).ok()
    }

    /// What one unit of the case costs, and its name.
    pub(crate) fn per_unit(&self) -> Option<(u64, &'static str)> {
        let case = CASES.iter().find(|case| case.id == self.id)?;
        Some((self.now? / case.units as u64, case.unit))
    }
}

fn verdict(before: u64, now: u64) -> Verdict {
    let (before, now) = (u128::from(before), u128::from(now));
    if now * 100 > before * u128::from(100 + DEARER_PERCENT) {
        Verdict::Dearer
    } else if now * 100 < before * u128::from(100 - CHEAPER_PERCENT) {
        Verdict::Cheaper
    } else {
        Verdict::Holds
    }
}

/// Every case, and whatever else either run knows, one row each.
pub(crate) fn compare(baseline: &Baseline, now: &Baseline) -> Vec<Row> {
    let mut ids: Vec<String> = CASES.iter().map(|case| case.id.to_owned()).collect();
    let known = baseline.instructions.keys().chain(now.instructions.keys());
    for id in known {
        if !ids.contains(id) {
            ids.push(id.clone());
        }
    }
    let row = |id: String| Row {
        baseline: baseline.instructions.get(&id).copied(),
        now: now.instructions.get(&id).copied(),
        id,
    };
    ids.into_iter().map(row).collect()
}

/// One row for tracking over time.
#[derive(Debug, Serialize)]
pub(crate) struct Figures<'a> {
    case: &'a str,
    unit: &'static str,
    instructions: u64,
    instructions_per_unit: u64,
    baseline: Option<u64>,
    #[serde(flatten)]
    made_with: &'a Tools,
}

/// Every case that was counted.
pub(crate) fn figures<'a>(now: &'a Baseline, rows: &'a [Row]) -> Vec<Figures<'a>> {
    let figures = |row: &'a Row| {
        let (instructions_per_unit, unit) = row.per_unit()?;
        Some(Figures {
            case: &row.id,
            unit,
            instructions: row.now?,
            instructions_per_unit,
            baseline: row.baseline,
            made_with: &now.made_with,
        })
    };
    rows.iter().filter_map(figures).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(counts: &[(&str, u64)]) -> Baseline {
        let text = |text: &str| text.to_owned();
        let made_with =
            Tools { rustc: text("r"), libc: text("l"), valgrind: text("v"), machine: text("m") };
        let instructions = counts.iter().map(|&(id, count)| (text(id), count)).collect();
        Baseline { made_with, instructions }
    }

    /// A run in which every case counts `count`, but for those of `others`.
    fn all(count: u64, others: &[(&'static str, u64)]) -> Baseline {
        let mut counts: Vec<_> = CASES.iter().map(|case| (case.id, count)).collect();
        counts.extend(others);
        run(&counts)
    }

    fn verdicts(baseline: &Baseline, now: &Baseline) -> Vec<Verdict> {
        compare(baseline, now).iter().map(Row::verdict).filter(|it| *it != Verdict::Holds).collect()
    }

    #[test]
    fn three_percent_more_hold_and_one_instruction_beyond_fails() {
        assert_eq!(verdict(10_000, 10_300), Verdict::Holds);
        assert_eq!(verdict(10_000, 10_301), Verdict::Dearer);
        assert!(Verdict::Dearer.fails());
    }

    #[test]
    fn five_percent_less_hold_and_one_instruction_beyond_wants_a_new_baseline() {
        assert_eq!(verdict(10_000, 9_500), Verdict::Holds);
        assert_eq!(verdict(10_000, 9_499), Verdict::Cheaper);
        assert!(!Verdict::Cheaper.fails());
    }

    #[test]
    fn a_count_is_judged_by_its_own_baseline() {
        let dearer = all(10_000, &[(CASES[3].id, 10_301)]);
        assert_eq!(verdicts(&all(10_000, &[]), &all(10_000, &[])), []);
        assert_eq!(verdicts(&all(10_000, &[]), &dearer), [Verdict::Dearer]);
    }

    #[test]
    fn a_case_without_baseline_and_a_case_that_is_not_counted_fail() {
        let mut short = all(10_000, &[]);
        short.instructions.remove(CASES[0].id);
        assert_eq!(verdicts(&short, &all(10_000, &[])), [Verdict::New]);
        assert_eq!(verdicts(&all(10_000, &[]), &short), [Verdict::Gone]);
        assert!(Verdict::New.fails() && Verdict::Gone.fails());
    }

    #[test]
    fn a_count_of_no_case_fails_in_either_run() {
        let other = all(10_000, &[("mux/renamed/1", 10_000)]);
        assert_eq!(verdicts(&other, &all(10_000, &[])), [Verdict::Gone]);
        assert_eq!(verdicts(&all(10_000, &[]), &other), [Verdict::Gone]);
        assert_eq!(verdicts(&other, &other), [Verdict::Gone]);
    }

    #[test]
    fn the_committed_baseline_has_every_case_and_no_other() {
        let committed = include_str!("../../../baselines/instructions.json");
        let committed: Baseline = serde_json::from_str(committed).expect("a baseline");
        assert_eq!(verdicts(&committed, &committed), []);
    }

    #[test]
    fn figures_say_what_a_unit_costs_and_what_it_was_counted_with() {
        let (before, now) = (run(&[(CASES[0].id, 6_400)]), run(&[(CASES[0].id, 12_800)]));
        let rows = compare(&before, &now);
        let json = serde_json::to_value(figures(&now, &rows)).expect("plain data");
        let expected = serde_json::json!([{
            "case": "mux/encode_data/full", "unit": "frame", "instructions": 12_800,
            "instructions_per_unit": 200, "baseline": 6_400,
            "rustc": "r", "libc": "l", "valgrind": "v", "machine": "m",
        }]);
        assert_eq!(json, expected);
    }
}
