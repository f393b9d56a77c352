//! The cases by which llhttp is tested, against the guards of `http1`.
//!
//! What llhttp refuses by the letter must be refused; what it accepts may be refused only for a
//! reason that is stricter on purpose.

#![allow(clippy::unwrap_used, reason = "a file that cannot be read is a failed test")]

use std::collections::BTreeMap;

use relay_core::http1::{AnswerGuard, Fault, Limits, RequestGuard};
use relay_tests::llhttp::{Case, cases, with_host};

/// What ends a head.
const END: &[u8] = b"\r\n\r\n";

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
    let Some(sides) = cases() else { return };
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (side, cases) in sides {
        for case in cases {
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
