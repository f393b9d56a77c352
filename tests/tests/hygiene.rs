//! The rules of the house, held against the sources.
//!
//! Reads every Rust file of the workspace as text. Cheap, and blunt on purpose: what it cannot see
//! by looking at lines, a reviewer has to.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Code lines in a file, tests apart.
const FILE_LINES_MAX: usize = 600;

/// Code lines in a function.
const FUNCTION_LINES_MAX: usize = 70;

/// Columns in a line.
const COLUMNS_MAX: usize = 100;

/// Which rooms each room may import; the counterpart of the table in `ARCHITECTURE.md`.
const ARROWS: [(&str, &[&str]); 15] = [
    ("mux", &[]),
    ("exchange", &[]),
    ("policy", &["auth"]),
    ("http1", &[]),
    ("balance", &[]),
    ("auth", &[]),
    ("content", &["auth"]),
    ("settings", &["policy", "auth"]),
    ("transport", &[]),
    ("link", &["mux"]),
    ("body", &["link", "mux", "exchange", "policy"]),
    ("fetched", &["auth", "transport"]),
    (
        "gateway",
        &[
            "fetched",
            "transport",
            "link",
            "body",
            "mux",
            "exchange",
            "policy",
            "http1",
            "balance",
            "auth",
            "content",
            "settings",
        ],
    ),
    (
        "connection_point",
        &["transport", "link", "body", "mux", "exchange", "policy", "http1", "settings"],
    ),
    (
        "config",
        &[
            "gateway",
            "connection_point",
            "fetched",
            "transport",
            "link",
            "body",
            "mux",
            "exchange",
            "policy",
            "http1",
            "balance",
            "auth",
            "content",
            "settings",
        ],
    ),
];

/// Words that only some rooms may name, with the rooms.
const BANNED: [(&str, &[&str]); 6] = [
    ("tokio::net", &["transport"]),
    ("tokio_rustls", &["transport"]),
    ("tokio::", &["transport", "link", "body", "fetched", "gateway", "connection_point"]),
    ("hyper", &["transport", "fetched", "gateway", "connection_point"]),
    ("tracing::", &["transport", "fetched", "gateway", "connection_point"]),
    ("Deserialize", &["config", "settings", "auth"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn rust_files(below: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![below.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the workspace") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<PathBuf> {
    let crates = ["relay-core", "relay-bin", "tests", "benches", "fuzz"];
    crates.iter().flat_map(|member| rust_files(&root().join(member))).collect()
}

/// Lines that are neither blank nor comment, up to the file's own tests, with their numbers.
fn code_lines(text: &str) -> Vec<(usize, &str)> {
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.starts_with("#[cfg(test)]") && text.lines().nth(number).is_some_and(starts_tests) {
            break;
        }
        let trimmed = line.trim_start();
        if !trimmed.is_empty() && !trimmed.starts_with("//") {
            lines.push((number, line));
        }
    }
    lines
}

fn starts_tests(line: &str) -> bool {
    line.starts_with("mod tests {")
}

fn is_test_file(path: &Path) -> bool {
    let below_tests = path.components().any(|part| part.as_os_str() == "tests");
    below_tests || path.file_name().is_some_and(|name| name == "tests.rs")
}

/// The longest functions: name, first line, code lines.
fn functions(text: &str) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    let mut open: Option<(String, usize, usize, usize)> = None;
    for (number, line) in code_lines(text) {
        let indent = line.len() - line.trim_start().len();
        match &mut open {
            None => {
                let Some(at) = line.find("fn ") else { continue };
                let starts = line[..at].trim();
                let known = ["", "pub", "pub(super)", "pub(crate)", "async", "const"];
                if starts.split(' ').all(|word| known.contains(&word) || word == "async") {
                    let name = line[at + 3..].chars().take_while(|c| *c != '(' && *c != '<');
                    let one_line = line.trim_end().ends_with('}') || line.trim_end().ends_with(';');
                    if !one_line {
                        open = Some((name.collect(), number, indent, 1));
                    }
                }
            }
            Some((name, first, outer, count)) => {
                *count += 1;
                if indent == *outer && (line.trim() == "}" || line.trim() == ");") {
                    found.push((std::mem::take(name), *first, *count));
                    open = None;
                }
            }
        }
    }
    found
}

#[test]
fn files_functions_and_lines_stay_within_their_ceilings() {
    let mut faults = Vec::new();
    for path in sources() {
        let text = fs::read_to_string(&path).expect("a readable source");
        let shown = path.strip_prefix(root()).unwrap_or(&path).display().to_string();
        let count = code_lines(&text).len();
        if count > FILE_LINES_MAX && !is_test_file(&path) {
            faults.push(format!("{shown}: {count} code lines"));
        }
        for (name, line, count) in functions(&text) {
            if count > FUNCTION_LINES_MAX {
                faults.push(format!("{shown}:{line}: `{name}` has {count} code lines"));
            }
        }
        for (number, line) in (1..).zip(text.lines()) {
            if line.chars().count() > COLUMNS_MAX {
                faults.push(format!("{shown}:{number}: wider than {COLUMNS_MAX} columns"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The room that a file of relay-core belongs to, and its text with comments taken out.
fn room_texts() -> BTreeMap<(String, PathBuf), String> {
    let src = root().join("relay-core/src");
    let mut texts = BTreeMap::new();
    for path in rust_files(&src) {
        let inner = path.strip_prefix(&src).expect("below src").to_owned();
        let Some(room) = inner.components().next().filter(|_| inner.components().count() > 1)
        else {
            continue;
        };
        let text = fs::read_to_string(&path).expect("a readable source");
        let code: Vec<&str> = code_lines(&text).into_iter().map(|(_, line)| line).collect();
        let room = room.as_os_str().to_string_lossy().into_owned();
        texts.insert((room, inner), code.join("\n"));
    }
    texts
}

#[test]
fn rooms_import_only_downwards_and_only_what_the_table_allows() {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    let mut faults = Vec::new();
    for ((room, path), code) in room_texts() {
        let Some(may) = allowed.get(room.as_str()) else {
            faults.push(format!("{}: room `{room}` is not in the table", path.display()));
            continue;
        };
        for after in code.split("crate::").skip(1) {
            let named: String =
                after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if named != room && allowed.contains_key(named.as_str()) && !may.contains(&&*named) {
                faults.push(format!("{}: `{room}` imports `{named}`", path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn words_of_the_upper_rooms_are_not_named_below() {
    let mut faults = Vec::new();
    for ((room, path), code) in room_texts() {
        if path.ends_with("tests.rs") {
            continue;
        }
        for (word, rooms) in BANNED {
            if code.contains(word) && !rooms.contains(&room.as_str()) {
                faults.push(format!("{}: `{room}` names `{word}`", path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_table_in_the_document_is_the_table_that_is_held() {
    let text = fs::read_to_string(root().join("relay-core/ARCHITECTURE.md")).expect("the document");
    let at = |room: &str| {
        let row = text.lines().find(|line| line.starts_with(&format!("| `{room}` |")));
        row.unwrap_or_else(|| panic!("`{room}` has no row")).rsplit('|').nth(1).map(str::trim)
    };
    for (room, may) in ARROWS {
        let cell = at(room).expect("a last column");
        let listed: Vec<&str> = match cell {
            "—" => vec![],
            "all below" => may.to_vec(),
            names => names.trim_matches('`').split(' ').collect(),
        };
        assert_eq!(listed, may, "room `{room}`");
    }
}

#[test]
fn no_room_is_a_drawer() {
    for name in ["util", "utils", "common", "types", "prelude", "helpers", "misc"] {
        for path in sources() {
            let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
            let parent = path.parent().and_then(Path::file_name);
            let parent = parent.map(|folder| folder.to_string_lossy().into_owned());
            let found = stem.as_deref() == Some(name) || parent.as_deref() == Some(name);
            assert!(!found, "{}: name it by what it is for", path.display());
        }
    }
}
