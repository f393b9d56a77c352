//! The cases by which llhttp is tested, against the guards of `http1`.
//!
//! What llhttp refuses by the letter must be refused; what it accepts may be refused only for a
//! reason that is stricter on purpose.

#![allow(clippy::unwrap_used, reason = "a file that cannot be read is a failed test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use relay_core::http1::{AnswerGuard, Fault, Limits, RequestGuard};

/// llhttp's codes for what it stops at and does not refuse: pauses before what is not HTTP any
/// more, and octets behind a message that closes the connection, which nobody reads here.
const NOT_REFUSED: [u8; 5] = [5, 21, 22, 23, 24];

/// What ends a head.
const END: &[u8] = b"\r\n\r\n";

/// One case.
struct Case {
    name: String,
    is_answer: bool,
    /// What llhttp would forgive if it is told to, or what comes behind the last message.
    is_lenient: bool,
    skips_body: bool,
    octets: Vec<u8>,
    /// Why llhttp refuses it, if it does.
    refusal: Option<String>,
}

/// Where the cases are, unless this machine has none.
fn vectors() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors");
    let folder = std::env::var_os("RELAY_VECTORS").map_or(beside, PathBuf::from).join("llhttp");
    if !folder.is_dir() {
        println!("skipped: there are no public vectors; RELAY_VECTORS may name their folder");
        return None;
    }
    Some(folder)
}

/// Reads the cases of one file: headings, then a line that says of which type the case is, the
/// octets, and what llhttp says about them.
fn read(path: &Path) -> Vec<Case> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut cases = Vec::new();
    let (mut heading, mut meta) = (String::new(), String::new());
    let mut octets = None;
    let mut fences = text.split("```");
    while let Some(between) = fences.next() {
        for line in between.lines() {
            if line.starts_with('#') {
                line.trim_start_matches('#').trim().clone_into(&mut heading);
            } else if line.contains("meta=") {
                meta = line.replace(' ', "");
            }
        }
        let Some(block) = fences.next() else { break };
        if let Some(http) = block.strip_prefix("http\n") {
            octets = Some(unescape(http));
        } else if let (Some(log), Some(octets)) = (block.strip_prefix("log\n"), octets.take()) {
            let file = path.file_stem().unwrap().to_string_lossy();
            cases.push(Case {
                name: format!("{file}: {heading}"),
                is_answer: meta.contains("\"type\":\"response"),
                is_lenient: meta.contains("lenient") || log.contains("error code=5 "),
                skips_body: meta.contains("skipBody"),
                octets,
                refusal: error_of(log),
            });
        }
    }
    cases
}

fn error_of(log: &str) -> Option<String> {
    let (code, why) = log.split("error code=").nth(1)?.split_once(' ')?;
    let is_refused = !NOT_REFUSED.contains(&code.parse().unwrap());
    is_refused.then(|| why.to_owned())
}

/// The octets that a block of text stands for: its line ends are CR LF, unless they are escaped.
fn unescape(block: &str) -> Vec<u8> {
    let block = block.strip_suffix('\n').unwrap_or(block);
    let block = block.replace("\\\n", "").replace('\n', "\r\n");
    let mut octets = Vec::new();
    let mut rest = block.chars();
    while let Some(character) = rest.next() {
        let escaped = if character == '\\' { rest.next() } else { None };
        match escaped {
            None => octets.extend(character.to_string().bytes()),
            Some('r') => octets.push(b'\r'),
            Some('n') => octets.push(b'\n'),
            Some('t') => octets.push(b'\t'),
            Some('f') => octets.push(0x0c),
            Some('x') => {
                let digits: String = rest.by_ref().take(2).collect();
                octets.push(u8::from_str_radix(&digits, 16).unwrap());
            }
            Some(other) => octets.extend(format!("\\{other}").bytes()),
        }
    }
    octets
}

/// The first fault of a case's octets.
fn judge(case: &Case, octets: &[u8]) -> Option<Fault> {
    let verdict = if case.is_answer { answers(case, octets) } else { requests(case, octets) };
    verdict.err()
}

fn requests(case: &Case, mut octets: &[u8]) -> Result<(), Fault> {
    let mut guard = RequestGuard::new(Limits::default());
    while !octets.is_empty() {
        let taken = if guard.awaits_head() {
            // What is cut off before the end of its head is judged as if it ended there.
            let Some(head) = guard.head(octets)? else {
                if case.refusal.is_some() {
                    guard.head(&[octets, END].concat())?;
                }
                break;
            };
            head.skip + head.octets
        } else {
            guard.body(octets)?
        };
        octets = &octets[taken..];
    }
    Ok(())
}

fn answers(case: &Case, mut octets: &[u8]) -> Result<(), Fault> {
    let mut guard = AnswerGuard::new(Limits::default());
    while !octets.is_empty() {
        let taken = if guard.awaits_head() {
            guard.note_asked(case.skips_body);
            let Some(head) = guard.head(octets)? else {
                if case.refusal.is_some() {
                    guard.head(&[octets, END].concat())?;
                }
                break;
            };
            head
        } else {
            guard.body(octets)?
        };
        octets = &octets[taken..];
    }
    Ok(())
}

/// A request that llhttp is content with may lack a host.
fn with_host(octets: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(octets).to_ascii_lowercase();
    let end = octets.windows(2).position(|pair| pair == b"\r\n");
    match end {
        Some(end) if !text.contains("\nhost:") => {
            [&octets[..end], b"\r\nHost: a", &octets[end..]].concat()
        }
        _ => octets.to_vec(),
    }
}

/// Whether this fault is stricter than llhttp on purpose.
fn is_on_purpose(fault: Fault, is_answer: bool) -> bool {
    let of_both = matches!(
        fault,
        // Lines end with CR LF and nothing else, and are never continued.
        Fault::BareLf | Fault::BareCr | Fault::Folded
        // `chunked` alone, once, not in HTTP/1.0, and without space around a chunk's size.
        | Fault::Coding | Fault::CodingInHttp10 | Fault::ChunkSize
    );
    let of_requests = matches!(
        fault,
        // One host is named, no tunnel is given, and nothing but HTTP/1.x is spoken.
        Fault::NoHost | Fault::Host | Fault::OtherHost | Fault::Connect | Fault::Version
        // A target needs no octet that must be escaped; a request line has two spaces.
        | Fault::Target | Fault::RequestLine
        | Fault::Expectation
    );
    // No empty line before an answer; nobody has asked for another protocol.
    let of_answers = matches!(fault, Fault::StatusLine | Fault::Switch);
    of_both || if is_answer { of_answers } else { of_requests }
}

#[test]
fn what_llhttp_refuses_is_refused_and_what_it_accepts_only_for_a_reason() {
    let Some(folder) = vectors() else { return };
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for side in ["request", "response"] {
        let files = std::fs::read_dir(folder.join(side)).unwrap();
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.sort();
        for case in files.iter().flat_map(|file| read(file)) {
            let octets = if case.is_answer { case.octets.clone() } else { with_host(&case.octets) };
            let fault = judge(&case, &octets);
            // Methods are policy's to judge, for each endpoint.
            let refusal =
                case.refusal.as_ref().filter(|why| !why.to_lowercase().contains("method"));
            let (verdict, is_right) = match (refusal.is_some(), fault) {
                (true, Some(_)) => {
                    ("refused by both".to_owned(), judge(&case, &case.octets).is_some())
                }
                (true, None) => ("accepted here alone".to_owned(), false),
                (false, None) => ("accepted by both".to_owned(), true),
                (false, Some(fault)) => (
                    format!("refused here alone: {}", fault.reason()),
                    case.is_lenient || is_on_purpose(fault, case.is_answer),
                ),
            };
            if !is_right {
                wrong.push(format!("{side} {}: {verdict}", case.name));
            }
            *counts.entry(format!("{side}: {verdict}")).or_default() += 1;
        }
    }
    for (verdict, count) in &counts {
        println!("{count:>4} {verdict}");
    }
    assert!(counts.values().sum::<usize>() > 150, "{counts:?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}
