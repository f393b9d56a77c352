//! Every numbered requirement of `link/QUIC.md` has a test that names it.
//!
//! By a comment above its `#[test]`, as in `protocol.rs`: `// [QUIC-07] -`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// The numbers behind each `opening` in `text`.
fn numbers<'a>(text: &'a str, opening: &'a str) -> impl Iterator<Item = u32> + 'a {
    let rests = text.split(opening).skip(1);
    rests.filter_map(|rest| rest.split_once(']')?.0.parse().ok())
}

fn defined() -> Vec<u32> {
    let path = root().join("relay-core/src/link/QUIC.md");
    numbers(&fs::read_to_string(path).expect("the document"), "- **[QUIC-").collect()
}

/// The numbers that markers above tests name, in the folders where links over QUIC have tests.
fn named() -> BTreeSet<u32> {
    let mut named = BTreeSet::new();
    for folder in ["relay-core/src/link/quic", "tests/tests"] {
        for entry in fs::read_dir(root().join(folder)).expect("a folder of the workspace") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|extension| extension == "rs") {
                named.extend(named_in(&fs::read_to_string(path).expect("a readable source")));
            }
        }
    }
    named
}

fn named_in(text: &str) -> BTreeSet<u32> {
    let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
    let above_tests = lines.windows(2).filter(|pair| {
        pair[0].starts_with("// [QUIC-")
            && (pair[1].starts_with("#[test]") || pair[1].starts_with("#[tokio::test"))
    });
    above_tests.flat_map(|pair| numbers(pair[0], "[QUIC-")).collect()
}

#[test]
fn every_number_of_the_document_is_named_by_a_test_and_no_other_is() {
    assert_eq!(named(), defined().into_iter().collect());
}

#[test]
fn the_documents_numbers_rise_by_one() {
    let defined = defined();
    assert!(defined.len() >= 23, "numbers are never taken away");
    assert_eq!(defined, (1..).take(defined.len()).collect::<Vec<_>>());
}

#[test]
fn a_marker_counts_above_a_test_alone() {
    let above_a_test = "// [QUIC-07] + [QUIC-12] -\n#[test]\nfn a_test() {}";
    assert_eq!(named_in(above_a_test), BTreeSet::from([7, 12]));
    assert!(named_in("// [QUIC-07] +\nfn helper() {}").is_empty());
}
