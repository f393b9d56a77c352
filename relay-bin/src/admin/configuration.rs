//! What of a gateway instance's file, as it is on disk, does not hold.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::text::push_line;

/// What does not hold, and why.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Configuration {
    /// Keys that have changed and take effect at the next start.
    pub(crate) at_next_start: Vec<String>,
    /// Why the file as it is now cannot be used; absent if it can. What was before holds.
    pub(crate) fault: Option<String>,
}

/// Where that is told. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Configured(Arc<Mutex<Configuration>>);

impl Configured {
    pub(crate) fn read(&self) -> Configuration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The file holds, but for these keys.
    pub(crate) fn applied(&self, at_next_start: Vec<String>) {
        self.set(Configuration { at_next_start, fault: None });
    }

    /// Nothing of the file as it is now holds that did not before.
    pub(crate) fn failed(&self, fault: String) {
        let Configuration { at_next_start, .. } = self.read();
        self.set(Configuration { at_next_start, fault: Some(fault) });
    }

    fn set(&self, now: Configuration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

/// A line for what waits, and the fault with the file's own lines.
pub(super) fn push(text: &mut String, configuration: &Configuration) {
    let Configuration { at_next_start, fault } = configuration;
    if !at_next_start.is_empty() {
        let keys = at_next_start.join(", ");
        push_line(text, &format!("changed on disk, takes effect at the next start: {keys}"));
    }
    if let Some(fault) = fault {
        push_line(text, "THE FILE ON DISK CANNOT BE USED, what was before holds:");
        for line in fault.lines() {
            push_line(text, &format!("  {line}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_and_what_is_wrong_is_shown_until_the_file_holds() {
        let configured = Configured::default();
        let shown = || {
            let mut text = String::new();
            push(&mut text, &configured.read());
            text
        };
        assert_eq!(shown(), "");
        configured.applied(vec!["clients.listen".to_owned(), "links.quic".to_owned()]);
        configured.failed("unknown key `nme`\n  1 | nme = 1".to_owned());
        let expected = "changed on disk, takes effect at the next start: clients.listen, \
                        links.quic\nTHE FILE ON DISK CANNOT BE USED, what was before holds:\n  \
                        unknown key `nme`\n    1 | nme = 1\n";
        assert_eq!(shown(), expected);
        configured.applied(Vec::new());
        assert_eq!(shown(), "");
    }
}
