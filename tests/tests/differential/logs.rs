//! What a real server has logged and handed on, compared with what was forwarded.

use std::collections::BTreeMap;

use relay_tests::reading::Framing;

use crate::drive::Tally;
use crate::expected::Expected;
use crate::servers::{Logged, Program};

/// A refusal by a server of what the relay forwards.
struct Judged {
    program: Program,
    status: u16,
    /// Why it is no reason for the relay to refuse it as well.
    _why: &'static str,
    /// Which requests it is about.
    is_of: fn(&Expected) -> bool,
}

/// Every such refusal that is right as it is.
const JUDGED: [Judged; 2] = [
    Judged {
        program: Program::Lighttpd,
        status: 501,
        _why: "it knows no verbs but those of RFCs; the client hears so, and the connection ends",
        is_of: |sent| matches!(&*sent.method, "CCM_POST" | "BITS_POST"),
    },
    Judged {
        program: Program::Nginx,
        status: 400,
        _why: "it takes some fields once only; none of them is about framing, which is one reading",
        is_of: |sent| sent.count("authorization") > 1,
    },
];

/// What a comparison has found.
#[derive(Default)]
pub(crate) struct Compared {
    pub(crate) faults: Vec<String>,
    /// How often each status was logged.
    pub(crate) statuses: BTreeMap<String, usize>,
}

/// Compares what was logged, and what was seen behind the server, with what was forwarded.
pub(crate) fn compare_log(
    program: Program,
    logged: &[Logged],
    tally: &Tally,
    seen: &[Expected],
) -> Compared {
    let mut compared = Compared::default();
    let mut left: Vec<Option<&Logged>> = logged.iter().map(Some).collect();
    let mut accepted = Vec::new();
    let mut from = 0;
    for sent in &tally.forwarded {
        match take(&mut left, &mut from, program, sent) {
            Some(found) if is_right(program, found, sent) => {
                if found.status == 200 {
                    accepted.push(sent);
                }
            }
            found => compared.faults.push(format!("logged as {found:?}: {sent:?}")),
        }
    }
    for sent in &tally.cut {
        // What is broken off is logged by some.
        take(&mut left, &mut 0, program, sent);
    }
    for more in left.into_iter().flatten() {
        compared.faults.push(format!("nobody has sent {more:?}"));
    }
    for request in logged {
        *compared.statuses.entry(request.status.to_string()).or_default() += 1;
    }
    compared.faults.extend(compare_behind(&accepted, seen));
    compared
}

/// Takes the line of a request out of those that are left.
fn take<'a>(
    left: &mut [Option<&'a Logged>],
    from: &mut usize,
    program: Program,
    sent: &Expected,
) -> Option<&'a Logged> {
    let (mark, line) = (sent.mark(), format!("{} {} HTTP/1.1", sent.method, sent.target));
    let is_unread = |logged: &Logged| {
        // Of a verb that it does not know it has read nothing more.
        let is_judged = JUDGED
            .iter()
            .any(|it| (it.program, it.status) == (program, logged.status) && (it.is_of)(sent));
        is_judged && logged.mark == "-"
    };
    let fits = |logged: &&Logged| (logged.mark == mark && logged.line == line) || is_unread(logged);
    while left.get(*from).is_some_and(Option::is_none) {
        *from += 1;
    }
    left[*from..].iter_mut().find(|logged| logged.as_ref().is_some_and(fits))?.take()
}

fn is_right(program: Program, found: &Logged, sent: &Expected) -> bool {
    if found.status != 200 {
        return JUDGED.iter().any(|judged| {
            (judged.program, judged.status) == (program, found.status) && (judged.is_of)(sent)
        });
    }
    let length = found.length.parse().map_or(Framing::Bare, Framing::Length);
    let framing = if found.coding == "chunked" { Framing::Chunked } else { length };
    let declared = match (program, sent.framing) {
        // It logs the length of what it has taken out of the chunks.
        (Program::Lighttpd, Framing::Chunked) => Framing::Length(sent.body.len() as u64),
        (_, declared) => declared,
    };
    sent.body.is_empty() || framing == declared
}

/// Compares what was handed on with what was accepted: verb, target and body. Some servers write a
/// target with other escapes.
fn compare_behind(accepted: &[&Expected], seen: &[Expected]) -> Vec<String> {
    let shown = |it: &Expected| (it.mark(), it.method.clone(), it.decoded(), it.body.clone());
    let mut left: BTreeMap<_, usize> = BTreeMap::new();
    for request in seen {
        *left.entry(shown(request)).or_default() += 1;
    }
    let mut faults = Vec::new();
    for sent in accepted {
        match left.get_mut(&shown(sent)) {
            Some(count) if *count > 0 => *count -= 1,
            _ => faults.push(format!("it handed on something else than {sent:?}")),
        }
    }
    let more = left.into_iter().filter(|(_, count)| *count > 0);
    faults.extend(more.map(|(more, _)| format!("it handed on {more:?}, which nobody has sent")));
    faults
}
