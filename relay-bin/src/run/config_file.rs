//! The configuration file, looked at while a role runs.
//!
//! It is looked at by its path, and what is in it counts: whether an editor has written over it,
//! has put another file in its place, or a link on the way leads elsewhere now, as where Kubernetes
//! mounts it, is all the same. So are network file systems, which send no notifications.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use relay_core::config::{TEXT_BYTES_MAX, changed_keys};

use super::material::{Contents, contents};

/// Most keys that are told of one change.
const KEYS_TOLD_MAX: usize = 32;

/// How often the file is read anew because it has changed meanwhile: for some 2 s.
const READS_MAX: u32 = 100;

/// Time until it is, which is spent on a thread for what blocks.
const READ_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// What was read of the file, all of it of one text if that held.
pub(super) struct Whole<T> {
    /// What was in it before the rest was read.
    pub(super) contents: Contents,
    pub(super) text: String,
    pub(super) read: T,
    /// Whether the same was in it afterwards.
    pub(super) has_held: bool,
}

/// Reads the file by `read`, and what is seen of it: again, for as long as it changes meanwhile.
/// Blocks.
pub(super) fn read_whole<T>(file: &Path, read: impl Fn() -> T) -> Whole<T> {
    let files = [file.to_owned()];
    let mut now = contents(&files);
    let mut reads = 0;
    loop {
        let (contents, text, read) = (now, text(file), read());
        now = self::contents(&files);
        reads += 1;
        let has_held = now == contents;
        if has_held || reads == READS_MAX {
            return Whole { contents, text, read, has_held };
        }
        // Whoever writes it is not done yet.
        std::thread::sleep(READ_AGAIN_AFTER);
    }
}

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
    /// Reads the file by `read`, for a role that begins with it. What is written from then on is
    /// seen to have changed. Blocks.
    pub(super) fn first<T>(file: &Path, read: impl Fn() -> T) -> (Self, T) {
        let Whole { contents, text, read, .. } = read_whole(file, read);
        (Self { read: contents, last: None, text }, read)
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
    fn a_file_that_changes_while_a_role_begins_with_it_is_read_again_and_all_of_it_is_of_one_text()
    {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("f.toml");
        fs::write(&path, "a = 0\n").unwrap();
        let changes = std::cell::Cell::new(0);
        let read = || {
            let read = fs::read_to_string(&path).unwrap();
            if changes.get() < 2 {
                changes.set(changes.get() + 1);
                fs::write(&path, format!("a = {}\n", changes.get())).unwrap();
            }
            read
        };
        let (mut file, read) = ConfigFile::first(&path, read);
        assert_eq!((read.as_str(), file.in_force()), ("a = 2\n", "a = 2\n"));
        let now = contents(&[path]);
        assert!(!file.saw(now) && !file.saw(now), "what is there was read");
    }

    #[test]
    fn a_file_that_never_holds_is_read_a_hundred_times_and_seen_to_have_changed() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("f.toml");
        let reads = std::cell::Cell::new(0);
        let read = || {
            reads.set(reads.get() + 1);
            fs::write(&path, reads.get().to_string()).unwrap();
        };
        let whole = read_whole(&path, read);
        assert!(!whole.has_held);
        assert_eq!(reads.get(), READS_MAX);
        assert_ne!(whole.contents, contents(&[path]));
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
