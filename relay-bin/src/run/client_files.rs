//! The files that say whose clients count, and those that backends are trusted by and shown, looked
//! at while a connection point runs.
//!
//! What has changed is applied by `reload.rs`, as on SIGHUP. Here is what was seen of them.

use std::path::PathBuf;

use relay_core::config::{BackendFiles, ClientFiles};

use super::material::Contents;

/// The files, and what is known of them.
pub(super) struct Watched {
    named: ClientFiles,
    /// `None` until they have been looked at: what has changed since they were read shows then.
    seen: Option<Contents>,
    /// Why what has changed could not be applied, if it could not.
    failure: Option<String>,
}

impl Watched {
    /// Files that were just read.
    pub(super) fn new(named: ClientFiles) -> Self {
        Self { named, seen: None, failure: None }
    }

    /// The same, of files that were read again meanwhile.
    pub(super) fn read_again(&mut self, named: ClientFiles) {
        let seen = self.seen.filter(|_| named.files == self.named.files);
        *self = Self { seen, ..Self::new(named) };
    }

    /// Takes note of what came of applying a change. Returns whether a failure is another than
    /// before.
    pub(super) fn tried(&mut self, failure: Option<String>) -> bool {
        let is_news = failure.is_some() && self.failure != failure;
        self.failure = failure;
        is_news
    }

    /// Which they are.
    pub(super) fn files(&self) -> &[PathBuf] {
        &self.named.files
    }

    /// Whether they are to be read again, now that this is in them: one has changed, or could not
    /// be used the last time.
    pub(super) fn saw(&mut self, now: Contents) -> bool {
        self.seen.replace(now) != Some(now) || self.failure.is_some()
    }
}

/// The files of certificates that backends are trusted by, and are shown. They are read with the
/// file that names them.
pub(super) struct BackendCertificates {
    files: Vec<PathBuf>,
    /// `None` until they have been looked at.
    seen: Option<Contents>,
}

impl BackendCertificates {
    /// Files that were just read.
    pub(super) fn new(named: &[BackendFiles]) -> Self {
        let files = named.iter().flat_map(|it| it.authority.iter().chain(&it.certificates));
        Self { files: files.cloned().collect(), seen: None }
    }

    /// The same, of files that were read again meanwhile.
    pub(super) fn read_again(&mut self, named: &[BackendFiles]) {
        let next = Self::new(named);
        if next.files != self.files {
            *self = next;
        }
    }

    /// Which they are.
    pub(super) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Whether one has changed since the last look, now that this is in them.
    pub(super) fn saw(&mut self, now: Contents) -> bool {
        self.seen.replace(now).is_some_and(|before| before != now)
    }
}

#[cfg(test)]
mod tests {
    use super::super::material::contents;
    use super::*;

    fn have_changed(watched: &mut Watched) -> bool {
        watched.saw(contents(watched.files()))
    }

    #[test]
    fn files_are_read_again_when_they_have_changed_and_the_first_time() {
        let home = tempfile::tempdir().unwrap();
        let mut named = ClientFiles::default();
        named.files = vec![home.path().join("roots")];
        let mut watched = Watched::new(named.clone());
        assert!(have_changed(&mut watched), "what has changed before it was looked at");
        assert!(!have_changed(&mut watched));
        std::fs::write(&named.files[0], "one").unwrap();
        assert!(have_changed(&mut watched));
        assert!(watched.tried(Some("broken".to_owned())));
        assert!(have_changed(&mut watched), "it is tried again");
        assert!(!watched.tried(Some("broken".to_owned())), "and told once");
        watched.read_again(named.clone());
        assert!(!have_changed(&mut watched));
        named.files.push(home.path().join("more"));
        watched.read_again(named);
        assert!(have_changed(&mut watched), "others than before");
    }
}
