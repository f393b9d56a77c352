//! Lines for the person or script that started the program.
//!
//! Results go to standard output, everything else to standard error. A closed pipe is no reason to
//! fail: whoever closed it did not want to read on.

use std::io::Write as _;

/// Writes `text` and a newline to standard output at once.
pub(crate) fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Writes `text` and a newline to standard error.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
