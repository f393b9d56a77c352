//! One configuration file's text, and errors that point into it.

use std::cell::RefCell;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;

use super::error::{ConfigError, Invalid, Place};
use super::repair::{self, FAULTS_MAX};
use crate::transport::require_file;

/// Longest configuration file that is read, in octets: 1 MiB.
pub const TEXT_BYTES_MAX: u64 = 1 << 20;

/// A file's text, where it came from, and what was found wrong with it.
///
/// Whoever judges a file goes on after a fault, so that all of them are told at once: what cannot
/// be used is given to [`Source::keep`], and [`Source::faults`] has it in the end.
pub(super) struct Source {
    path: PathBuf,
    text: String,
    modified: SystemTime,
    /// Where the text does not have the shape that was read.
    misfits: RefCell<Vec<Range<usize>>>,
    faults: RefCell<Vec<Invalid>>,
}

impl Source {
    /// Reads the file, at most [`TEXT_BYTES_MAX`] octets of it.
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        let fail = |source| ConfigError::Read { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        require_file(path).map_err(fail)?;
        // Before the file: of one that a link leads to only now, the time is too old rather than
        // that of the next.
        let links = links_changed(path);
        let file = File::open(path).map_err(fail)?;
        let modified = file.metadata().and_then(|about| changed(&about));
        // Where files have no such time, now is as good: it rises.
        let modified = modified.unwrap_or_else(|_| SystemTime::now());
        let modified = links.map_or(modified, |links| links.max(modified));
        file.take(TEXT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(fail)?;
        if TEXT_BYTES_MAX < bytes.len() as u64 {
            return Err(ConfigError::TooLong { path: path.to_owned(), bytes_max: TEXT_BYTES_MAX });
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self::new(path, text, modified)),
            Err(error) => {
                let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                let line = good.split(|byte| *byte == b'\n').count();
                Err(ConfigError::NotText { path: path.to_owned(), line })
            }
        }
    }

    fn new(path: &Path, text: String, modified: SystemTime) -> Self {
        let (misfits, faults) = (RefCell::default(), RefCell::default());
        Self { path: path.to_owned(), text, modified, misfits, faults }
    }

    /// Reads the text as TOML into the raw shape `T`, to be used at once.
    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        let read = self.parse_on()?;
        self.check()?;
        Ok(read)
    }

    /// Reads the text as TOML into the raw shape `T`, to be judged. What does not fit is noted, and
    /// something that has the shape is in its place: whoever judges it ends with
    /// [`Source::check`].
    pub(super) fn parse_on<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        let read = repair::read(&self.text);
        let spans = read.faults.iter().map(|misfit| misfit.span.clone()).collect();
        for misfit in read.faults {
            self.note(self.invalid(misfit.span, misfit.told.problem, misfit.told.help));
        }
        self.misfits.replace(spans);
        read.document.ok_or_else(|| self.faults())
    }

    /// What was judged; a fault is noted.
    pub(super) fn keep<T>(&self, judged: Result<T, ConfigError>) -> Option<T> {
        judged.map_err(|error| self.note(error)).ok()
    }

    /// Notes a fault. One that follows from another at the same place is not told.
    pub(super) fn note(&self, error: ConfigError) {
        let found = match error {
            ConfigError::Invalid(fault) => vec![*fault],
            ConfigError::Several(faults) => faults,
            // Of the file itself, which was read.
            _ => return,
        };
        let mut faults = self.faults.borrow_mut();
        for fault in found {
            if !fault.place.is_consequence() && !faults.contains(&fault) {
                faults.push(fault);
            }
        }
    }

    /// Whether nothing was noted.
    ///
    /// # Errors
    ///
    /// [`Source::faults`].
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.faults.borrow().is_empty() { Ok(()) } else { Err(self.faults()) }
    }

    /// All that was noted, in the order of the file.
    pub(super) fn faults(&self) -> ConfigError {
        let mut faults = self.faults.borrow().clone();
        faults.sort_by_key(|fault| (fault.place.line(), fault.place.column()));
        faults.truncate(FAULTS_MAX);
        match <[Invalid; 1]>::try_from(faults) {
            Ok([only]) => ConfigError::Invalid(Box::new(only)),
            Err(several) => ConfigError::Several(several),
        }
    }

    /// When the file was changed last.
    pub(super) fn modified(&self) -> SystemTime {
        self.modified
    }

    /// The file this text came from.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The text.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The place of `span`, to be shown later.
    pub(super) fn place(&self, span: Range<usize>) -> Place {
        // Beyond the text are stand-ins; and of a value with a misfit in it, that was told.
        let is_of_stand_in = span.start > self.text.len();
        let holds = |misfit: &Range<usize>| span.start <= misfit.start && misfit.end <= span.end;
        let is_consequence = is_of_stand_in || self.misfits.borrow().iter().any(holds);
        let place = Place::new(&self.path, &self.text, span.clone());
        if is_consequence { place.following() } else { place }
    }

    /// The error that `problem` is at `span`.
    pub(super) fn invalid(
        &self,
        span: Range<usize>,
        problem: impl Into<String>,
        help: impl Into<String>,
    ) -> ConfigError {
        ConfigError::Invalid(Box::new(Invalid {
            problem: problem.into(),
            place: self.place(span),
            help: help.into(),
        }))
    }

    /// A path in this file: relative to the file's folder, unless absolute.
    pub(super) fn resolve(&self, configured: &Path) -> PathBuf {
        match self.path.parent() {
            Some(folder) => folder.join(configured),
            None => configured.to_owned(),
        }
    }
}

/// When what is at `path` was changed last: the file, or a link that it is found by.
pub(super) fn changed_at(path: &Path) -> Option<SystemTime> {
    let links = links_changed(path);
    let file = fs::metadata(path).and_then(|about| changed(&about)).ok()?;
    Some(links.map_or(file, |links| links.max(file)))
}

/// Most links on the way to a file that are followed: as many as Linux follows.
const LINKS_MAX: usize = 40;

/// When a link on the way to `path` was made last, if there is one: who has it lead to an older
/// file changes what is there, as when a folder is mounted in the place of another or a release is
/// rolled back.
fn links_changed(path: &Path) -> Option<SystemTime> {
    let parts = |path: &Path| {
        let parts = path.components().rev().map(|part| part.as_os_str().to_owned());
        parts.collect::<Vec<_>>()
    };
    let (mut at, mut left) = (PathBuf::new(), parts(path));
    let (mut last, mut links) = (None, 0);
    while let Some(part) = left.pop() {
        at.push(part);
        let Ok(about) = fs::symlink_metadata(&at) else { return last };
        if !about.is_symlink() {
            continue;
        }
        links += 1;
        let Some(to) = fs::read_link(&at).ok().filter(|_| links <= LINKS_MAX) else { return last };
        last = last.max(changed(&about).ok());
        at.pop();
        left.extend(parts(&to));
    }
    last
}

/// When a file was changed last: what is in it, or on Unix anything that is known of it. What is
/// delivered as `rsync -a` and `cp -p` do has the time of its origin, however new it is here.
pub(super) fn changed(about: &Metadata) -> io::Result<SystemTime> {
    let modified = about.modified()?;
    Ok(status_changed(about).map_or(modified, |changed| changed.max(modified)))
}

#[cfg(unix)]
fn status_changed(about: &Metadata) -> Option<SystemTime> {
    use std::os::unix::fs::MetadataExt as _;
    let (seconds, nanoseconds) = (about.ctime(), about.ctime_nsec());
    let since_1970 = Duration::from_secs(seconds.try_into().ok()?)
        .saturating_add(Duration::from_nanos(nanoseconds.try_into().ok()?));
    SystemTime::UNIX_EPOCH.checked_add(since_1970)
}

#[cfg(not(unix))]
fn status_changed(_about: &Metadata) -> Option<SystemTime> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_up_to_the_limit_is_read_and_one_octet_more_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.toml");
        let limit = usize::try_from(TEXT_BYTES_MAX).unwrap();
        for (len, readable) in [(limit - 1, true), (limit, true), (limit + 1, false)] {
            fs::write(&path, vec![b'#'; len]).unwrap();
            assert_eq!(Source::read(&path).is_ok(), readable, "{len} octets");
        }
        let refused = Source::read(&path).err().unwrap();
        assert!(refused.to_string().contains("longer than 1048576 octets"), "{refused}");
    }

    #[test]
    fn text_that_is_not_utf_8_names_the_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.toml");
        fs::write(&path, b"a = 1\nb = \"\xff\"\n").unwrap();
        let refused = Source::read(&path).err().unwrap();
        assert!(matches!(refused, ConfigError::NotText { line: 2, .. }), "{refused}");
    }

    #[test]
    fn relative_paths_start_at_the_folder_of_the_file() {
        let path = Path::new("site/gateway.toml");
        let source = Source::new(path, String::new(), SystemTime::now());
        assert_eq!(source.resolve(Path::new("a.pem")), Path::new("site/a.pem"));
        let absolute = std::env::temp_dir().join("a.pem");
        assert_eq!(source.resolve(&absolute), absolute);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_leads_to_an_older_file_makes_what_is_there_new() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for release in ["1", "2"] {
            fs::create_dir(at(release)).unwrap();
            fs::write(at(release).join("f.toml"), release).unwrap();
        }
        // By a link of its own to one beside it, as where Kubernetes mounts it.
        symlink("current/f.toml", at("f.toml")).unwrap();
        let lead_to = |release: &str| {
            symlink(at(release), at("new")).unwrap();
            fs::rename(at("new"), at("current")).unwrap();
            Source::read(&at("f.toml")).unwrap()
        };
        let mut last = lead_to("2").modified();
        assert!(last >= changed(&fs::symlink_metadata(at("current")).unwrap()).unwrap());
        // Until the clock of the file system has gone on.
        last = (0..1_000_000).map(|_| lead_to("2").modified()).find(|it| *it > last).unwrap();
        let back = (0..1_000_000).map(|_| lead_to("1")).find(|it| it.modified() > last).unwrap();
        assert_eq!(back.text(), "1");
        assert_eq!(changed_at(&at("f.toml")), Some(back.modified()));
        assert_eq!(links_changed(&at("1/f.toml")), links_changed(folder.path()));
        symlink("round", at("round")).unwrap();
        assert!(links_changed(&at("round")).is_some());
        assert_eq!(changed_at(&at("round")), None);
    }

    #[test]
    fn faults_are_told_once_each_and_in_the_order_of_the_file() {
        let source = Source::new(Path::new("f"), "a = 1\nb = 2\n".to_owned(), SystemTime::now());
        source.check().unwrap();
        for span in [6..7, 0..1, 6..7, 13..14] {
            source.keep::<()>(Err(source.invalid(span, "bad", "mend it")));
        }
        let told = source.check().unwrap_err();
        let lines: Vec<_> = told.faults().iter().map(|fault| fault.place.line()).collect();
        assert_eq!(lines, [1, 2], "and nothing of what is beyond the text");
    }

    #[test]
    fn a_value_with_a_misfit_in_it_is_not_found_fault_with_again() {
        #[derive(serde::Deserialize)]
        struct Shape {
            a: toml::Spanned<Vec<String>>,
        }
        let text = "a = [\"x\", 1]\n".to_owned();
        let source = Source::new(Path::new("f"), text, SystemTime::now());
        let shape: Shape = source.parse_on().unwrap();
        source.note(source.invalid(shape.a.span(), "not this list", "mend it"));
        let told = source.check().unwrap_err();
        assert_eq!(told.faults().len(), 1, "{told}");
        assert!(told.to_string().starts_with("wrong type: found integer `1`\n"), "{told}");
    }
}
