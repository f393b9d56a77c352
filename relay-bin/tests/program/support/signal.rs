//! Signals to programs that were started here.

use std::process::{Child, Command};

/// Sends a signal, such as `TERM`, to a program that has not been waited for.
pub(crate) fn send(child: &Child, name: &str) {
    let kill = format!("kill -{name} {}", child.id());
    let sent = Command::new("sh").args(["-c", &kill]).status();
    assert!(sent.is_ok_and(|status| status.success()), "{kill} failed");
}
