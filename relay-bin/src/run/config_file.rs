//! The configuration file, looked at while a role runs.
//!
//! It is looked at by its path, and what is in it counts: whether an editor has written over it,
//! has put another file in its place, or a link on the way leads elsewhere now, as where Kubernetes
//! mounts it, is all the same. So are network file systems, which send no notifications.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use relay_core::config::{TEXT_BYTES_MAX, changed_keys};

use super::material::{Contents, contents};

/// Most keys that are told of one change.
const KEYS_TOLD_MAX: usize = 32;

/// What was seen of the file.
pub(super) struct ConfigFile {
    /// What was in it when it was read last, whether that could be used or not.
    read: Contents,
    /// What was in it at the last look.
    last: Option<Contents>,
    /// The text that is in force.
    text: String,
}

impl ConfigFile {
    /// The file as it is about to be read. Blocks.
    pub(super) fn new(file: &Path) -> Self {
        Self { read: contents(&[file.to_owned()]), last: None, text: text(file) }
    }

    /// Whether the file is to be read, now that this is in it: it has changed, and not since the
    /// last look. Whoever writes it is given that time to end.
    pub(super) fn saw(&mut self, now: Contents) -> bool {
        let has_settled = self.last.replace(now) == Some(now);
        has_settled && now != self.read
    }

    /// Takes note that it was read with this in it.
    pub(super) fn was_read(&mut self, now: Contents) {
        self.read = now;
    }

    /// The text that is in force.
    pub(super) fn in_force(&self) -> &str {
        &self.text
    }

    /// Takes note that `now` is in force.
    pub(super) fn replaced_by(&mut self, now: String) {
        self.text = now;
    }

    /// What has changed of the text in force, which `now` takes the place of.
    pub(super) fn applied(&mut self, now: String) -> String {
        let mut keys = changed_keys(&self.text, &now);
        self.replaced_by(now);
        let more = keys.len().saturating_sub(KEYS_TOLD_MAX);
        keys.truncate(KEYS_TOLD_MAX);
        if more > 0 {
            keys.push(format!("and {more} more"));
        }
        keys.join(", ")
    }
}

/// The file's text; none, if it cannot be read or is too long: then it is not applied either. A
/// pipe may never begin, and is not opened. Blocks.
pub(super) fn text(file: &Path) -> String {
    let is_file = fs::metadata(file).is_ok_and(|about| about.is_file());
    let Some(opened) = is_file.then(|| File::open(file).ok()).flatten() else {
        return String::new();
    };
    let mut text = String::new();
    let read = opened.take(TEXT_BYTES_MAX + 1).read_to_string(&mut text);
    if read.is_ok() { text } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Contents = [1; 32];
    const TWO: Contents = [2; 32];
    const THREE: Contents = [3; 32];

    #[test]
    fn a_change_is_read_once_it_has_held_from_one_look_to_the_next() {
        let mut file = ConfigFile { read: ONE, last: None, text: String::new() };
        assert!(!file.saw(ONE) && !file.saw(ONE), "no change");
        assert!(!file.saw(TWO) && !file.saw(THREE), "it is still being written");
        assert!(file.saw(THREE));
        assert!(file.saw(THREE), "it was not read yet");
        file.was_read(THREE);
        assert!(!file.saw(THREE), "whatever came of it");
        assert!(!file.saw(ONE) && file.saw(ONE), "back to what is in force");
    }

    #[test]
    fn what_has_changed_is_told_by_its_keys_and_no_more_of_them_than_can_be_read() {
        let mut file = ConfigFile { read: ONE, last: None, text: String::new() };
        assert_eq!(file.applied("a = 1\n".to_owned()), "added a");
        assert_eq!(file.applied("a = 2\n".to_owned()), "changed a");
        let keys = |count: usize| {
            let lines: Vec<_> = (0..count).map(|n| format!("k{n:02} = 1")).collect();
            lines.join("\n")
        };
        assert!(!file.applied(keys(KEYS_TOLD_MAX - 1)).contains("more"));
        file.applied(String::new());
        assert!(file.applied(keys(KEYS_TOLD_MAX + 1)).ends_with(", and 1 more"));
    }
}
