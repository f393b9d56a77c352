//! What `relay man` writes, as a program for manual pages reads it.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Output};

use assert_cmd::Command as Relay;

use crate::support::tools_are_required;

/// What Debian's `mandoc` may find, and why it stays.
const FOUND: [(&str, &str); 2] = [
    (
        "WARNING: missing date, using \"\": TH",
        "a page says of which version it is; a date would be that of a build, and differ by it",
    ),
    (
        "WARNING: skipping paragraph macro: br ",
        "clap_mangen breaks the line twice before the values of an option: one empty line is shown",
    ),
];

/// `relay man --out` of a folder.
fn write(out: &Path, status: i32) -> (String, String) {
    let mut relay = Relay::new(env!("CARGO_BIN_EXE_relay"));
    let done = relay.arg("man").arg("--out").arg(out).assert().code(status).get_output().clone();
    (String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap())
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What `mandoc` does with all pages of a folder, or `None` if there is none and none has to be.
fn mandoc(folder: &Path, args: &[&str], pages: &[String]) -> Option<Output> {
    match Command::new("mandoc").args(args).args(pages).current_dir(folder).output() {
        Err(error) if error.kind() == ErrorKind::NotFound && !tools_are_required() => {
            eprintln!("skipped: no mandoc (apt-get install mandoc)");
            None
        }
        done => Some(done.expect("mandoc is installed (apt-get install mandoc)")),
    }
}

#[test]
fn mandoc_finds_nothing_in_any_page_but_what_is_listed() {
    let home = tempfile::tempdir().unwrap();
    write(home.path(), 0);
    let pages = names(home.path());
    let Some(judged) = mandoc(home.path(), &["-T", "lint", "-W", "warning"], &pages) else {
        return;
    };
    let said = [judged.stdout, judged.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    let is_listed = |line: &&str| FOUND.iter().any(|(part, _)| line.contains(part));
    let found: Vec<_> = said.lines().filter(|line| !is_listed(line)).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
    let [(undated, _), (broken_twice, _)] = FOUND;
    let count = |part| said.lines().filter(|line| line.contains(part)).count();
    assert_eq!(count(undated), pages.len(), "each page is judged: {said}");
    assert!(count(broken_twice) > 0, "nothing is listed that is not found");
}

#[test]
fn a_page_is_shown_with_its_name_its_options_its_examples_and_what_it_ends_with() {
    let home = tempfile::tempdir().unwrap();
    write(home.path(), 0);
    let shown = |page: &str| {
        let args = ["-T", "ascii", "-O", "width=200"];
        let done = mandoc(home.path(), &args, &[page.to_owned()])?;
        assert!(done.status.success(), "{page}");
        // Bold is struck twice on a printer.
        let text = String::from_utf8(done.stdout).unwrap();
        let struck: Vec<char> = text.chars().collect();
        let once = |(at, c): (usize, &char)| {
            (*c != '\u{8}' && struck.get(at + 1) != Some(&'\u{8}')).then_some(*c)
        };
        Some(struck.iter().enumerate().filter_map(once).collect::<String>())
    };
    let Some(page) = shown("relay-token-new.1") else { return };
    for part in [
        "relay-token-new - Issue",
        "--lifetime",
        "EXAMPLES\n     For 3 days, which is the default:\n         relay token new --config",
        "EXIT STATUS\n     As of relay(1).",
        "SEE ALSO\n     relay-token(1), relay(1)",
    ] {
        let page = page.replace("\n       ", "\n     ");
        assert!(page.contains(part), "`{part}` is not in\n{page}");
    }
    let foot = page.lines().last().unwrap();
    assert!(foot.starts_with(concat!("relay ", env!("CARGO_PKG_VERSION"), " ")), "{foot}");
    let page = shown("relay.1").unwrap();
    let (_, statuses) = page.split_once("EXIT STATUS\n").unwrap();
    assert!(statuses.trim_start().starts_with("0      done, or stopped cleanly"), "{statuses}");
}

#[test]
fn pages_are_written_anew_and_what_else_is_in_the_folder_stays() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("share/man/man1");
    let (out, err) = write(&folder, 0);
    let pages = names(&folder);
    assert_eq!(
        (out, err),
        (format!("{} pages written to {}\n", pages.len(), folder.display()), String::new())
    );
    for page in ["relay.1", "relay-connection-point.1", "relay-token-new.1"] {
        assert!(pages.iter().any(|name| name == page), "{page} is not among {pages:?}");
    }
    let first = fs::read(folder.join("relay.1")).unwrap();
    fs::write(folder.join("relay.1"), "of an older version").unwrap();
    fs::write(folder.join("other.1"), "of another program").unwrap();
    write(&folder, 0);
    assert_eq!(fs::read(folder.join("relay.1")).unwrap(), first);
    assert_eq!(fs::read(folder.join("other.1")).unwrap(), b"of another program");
}

#[test]
fn a_file_in_the_place_of_the_folder_is_kept_and_no_folder_is_a_wrong_command_line() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("man1");
    fs::write(&file, "kept").unwrap();
    let (out, err) = write(&file, 1);
    assert_eq!(out, "");
    assert!(err.starts_with(&format!("error: cannot make the folder {}", file.display())), "{err}");
    assert_eq!(fs::read(&file).unwrap(), b"kept");
    Relay::new(env!("CARGO_BIN_EXE_relay")).arg("man").assert().code(2);
}
