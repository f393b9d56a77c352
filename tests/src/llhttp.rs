//! The cases by which llhttp is tested, read from its own files.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a file that cannot be read is a failed test"
)]

use std::path::{Path, PathBuf};

/// llhttp's codes for what it stops at and does not refuse: pauses before what is not HTTP any
/// more, and octets behind a message that closes the connection, which nobody reads here.
const NOT_REFUSED: [u8; 5] = [5, 21, 22, 23, 24];

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its file and heading.
    pub name: String,
    /// Whether it is an answer, and not a request.
    pub is_answer: bool,
    /// What llhttp would forgive if it is told to, or what comes behind the last message.
    pub is_lenient: bool,
    /// Whether the answer has no body, as one to HEAD.
    pub skips_body: bool,
    /// What is sent.
    pub octets: Vec<u8>,
    /// Why llhttp refuses it, if it does.
    pub refusal: Option<String>,
}

/// All cases, requests and answers apart, unless this machine has none.
pub fn cases() -> Option<[(&'static str, Vec<Case>); 2]> {
    let folder = vectors()?;
    Some(["request", "response"].map(|side| {
        let files = std::fs::read_dir(folder.join(side)).unwrap();
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.sort();
        (side, files.iter().flat_map(|file| read(file)).collect())
    }))
}

/// Where the cases are, unless this machine has none, which is said.
fn vectors() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors");
    let folder = std::env::var_os("RELAY_VECTORS").map_or(beside, PathBuf::from).join("llhttp");
    let found = folder.is_dir();
    let is_named = std::env::var_os("RELAY_VECTORS").is_some();
    assert!(found || !is_named, "no {}: RELAY_VECTORS names it", folder.display());
    if !found {
        eprintln!("skipped: no cases of llhttp (RELAY_VECTORS names the folder with `llhttp/`)");
    }
    found.then_some(folder)
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

/// A request that llhttp is content with may lack a host.
pub fn with_host(octets: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(octets).to_ascii_lowercase();
    let end = octets.windows(2).position(|pair| pair == b"\r\n");
    match end {
        Some(end) if !text.contains("\nhost:") => {
            [&octets[..end], b"\r\nHost: a", &octets[end..]].concat()
        }
        _ => octets.to_vec(),
    }
}
