//! The files that say whose clients count, looked at while a connection point runs.
//!
//! What has changed is applied by `reload.rs`, as on SIGHUP. Here is what was seen of them, and of
//! which lists it was told that they end.

use std::mem::{Discriminant, discriminant};
use std::path::PathBuf;
use std::time::SystemTime;

use relay_core::config::{ClientFiles, Warning};

use super::material::Contents;

/// The files, and what is known of them.
pub(super) struct Watched {
    named: ClientFiles,
    /// `None` until they have been looked at: what has changed since they were read shows then.
    seen: Option<Contents>,
    /// Why what has changed could not be applied, if it could not.
    failure: Option<String>,
    /// Of which list the log has what.
    told: Vec<(PathBuf, Discriminant<Warning>)>,
}

impl Watched {
    /// Files that were just read; of their lists the log has what there is to say.
    pub(super) fn new(named: ClientFiles) -> Self {
        let mut watched = Self { named, seen: None, failure: None, told: Vec::new() };
        watched.news(SystemTime::now());
        watched
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

    /// What deserves attention at `now` and was not told yet.
    pub(super) fn news(&mut self, now: SystemTime) -> Vec<Warning> {
        let all = self.named.warnings(now);
        let names = |it: &Warning| match it {
            Warning::ClientListOver { file } | Warning::ClientListEnds { file, .. } => {
                Some((file.clone(), discriminant(it)))
            }
            _ => None,
        };
        let news = all.into_iter().filter(|it| {
            let Some(name) = names(it) else { return false };
            let is_new = !self.told.contains(&name);
            if is_new {
                self.told.push(name);
            }
            is_new
        });
        news.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use relay_core::config::ClientList;

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

    #[test]
    fn the_end_of_a_list_is_told_once_when_it_comes_near_and_once_when_it_has_come() {
        let file = PathBuf::from("a.crl");
        let end = SystemTime::UNIX_EPOCH + Duration::from_hours(1_000_030);
        let list =
            ClientList { file, this_update: 1_000_000 * 3600, next_update: 1_000_030 * 3600 };
        let mut named = ClientFiles::default();
        named.lists = vec![list];
        let mut watched = Watched { named, seen: None, failure: None, told: Vec::new() };
        let mut told = |hours| watched.news(end - Duration::from_hours(hours)).len();
        assert_eq!([11, 9, 5, 0, 0].map(&mut told), [0, 1, 0, 1, 0]);
    }
}
