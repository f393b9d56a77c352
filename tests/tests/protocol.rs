//! Every numbered requirement of `PROTOCOL.md` has a test that obeys it and one that breaks it.
//!
//! A test says which it is by a comment above its `#[test]`, in any source of relay-core or of
//! these tests: `// [MUX-12] +` if it shows that what the number allows or demands is taken or
//! done, `// [MUX-12] -` if it shows that what the number forbids is refused or never done, `+-` if
//! both. One line may name several numbers.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Tests of one number: those that obey it, those that break it.
#[derive(Debug, Default)]
struct Proof {
    positive: Vec<String>,
    negative: Vec<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// The numbers that the document defines, in its order.
fn defined() -> Vec<u32> {
    let path = root().join("relay-core/src/mux/PROTOCOL.md");
    let text = fs::read_to_string(path).expect("the document");
    let definitions = text.lines().filter_map(|line| line.strip_prefix("- **[MUX-"));
    definitions.map(|rest| number(rest).expect("`- **[MUX-` begins a number")).collect()
}

/// The number that `text` begins with, up to its bracket.
fn number(text: &str) -> Option<u32> {
    text.split_once(']')?.0.parse().ok()
}

fn rust_files(below: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![below.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the workspace") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// What a marker's line names: numbers and their signs; `None` for any other line.
fn marker(line: &str) -> Option<Vec<(u32, &str)>> {
    let rest = line.trim_start().strip_prefix("// [MUX-")?;
    let parts = rest.split("[MUX-");
    let named = parts.map(|part| Some((number(part)?, part.split_once(']')?.1.trim())));
    Some(named.collect::<Option<_>>().unwrap_or_default())
}

/// The name of the test that `lines` begin with, behind comments and attributes.
fn test_below<'a>(lines: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut is_test = false;
    for line in lines.map(str::trim_start) {
        is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        if line.starts_with("//") || line.starts_with("#[") {
            continue;
        }
        let name = line.trim_start_matches("async ").strip_prefix("fn ")?;
        return is_test.then(|| name.chars().take_while(|c| *c != '(').collect());
    }
    None
}

/// Adds what the markers of one file say, and what is wrong with them.
fn read_markers(shown: &str, text: &str, proofs: &mut BTreeMap<u32, Proof>) -> Vec<String> {
    let mut faults = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let Some(named) = marker(line) else { continue };
        let place = format!("{shown}:{}", at + 1);
        let Some(name) = test_below(text.lines().skip(at + 1)) else {
            faults.push(format!("{place}: no test below the marker"));
            continue;
        };
        if named.is_empty() {
            faults.push(format!("{place}: not a marker"));
        }
        for (number, sign) in named {
            let proof = proofs.entry(number).or_default();
            match sign {
                "+" => proof.positive.push(name.clone()),
                "-" => proof.negative.push(name.clone()),
                "+-" => {
                    proof.positive.push(name.clone());
                    proof.negative.push(name.clone());
                }
                _ => faults.push(format!("{place}: `{sign}` is no sign")),
            }
        }
    }
    faults
}

#[test]
fn every_number_of_the_protocol_has_a_positive_and_a_negative_test() {
    let mut proofs = BTreeMap::new();
    let mut faults = Vec::new();
    for folder in ["relay-core/src", "tests/tests"] {
        for path in rust_files(&root().join(folder)) {
            let text = fs::read_to_string(&path).expect("a readable source");
            let shown = path.strip_prefix(root()).unwrap_or(&path).display().to_string();
            faults.extend(read_markers(&shown, &text, &mut proofs));
        }
    }
    let defined = defined();
    for number in &defined {
        let proof = proofs.remove(number).unwrap_or_default();
        for (sign, tests) in [("+", proof.positive), ("-", proof.negative)] {
            if tests.is_empty() {
                faults.push(format!("MUX-{number:02} has no test `{sign}`"));
            }
        }
    }
    let unknown = proofs.iter().map(|(number, proof)| format!("MUX-{number:02} of {proof:?}"));
    faults.extend(unknown.map(|named| format!("{named} is not in the document")));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_documents_numbers_rise_by_one_and_none_is_used_twice() {
    let expected: Vec<u32> = (1..).take(defined().len()).collect();
    assert_eq!(defined(), expected);
    assert!(expected.len() >= 63, "numbers are never taken away");
}

#[test]
fn a_marker_is_read_and_anything_else_is_not() {
    assert_eq!(marker("    // [MUX-07] + [MUX-12] +-"), Some(vec![(7, "+"), (12, "+-")]));
    assert_eq!(marker("// See MUX-07."), None);
    assert_eq!(marker("// [MUX-x] +"), Some(vec![]));
    let mut proofs = BTreeMap::new();
    let above_a_helper = "// [MUX-07] +\nfn helper() {}";
    assert_eq!(read_markers("file", above_a_helper, &mut proofs).len(), 1);
    let wrong_sign = "// [MUX-07] *\n#[test]\nfn a_test() {}";
    assert_eq!(read_markers("file", wrong_sign, &mut proofs).len(), 1);
}
