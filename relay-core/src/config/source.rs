//! One configuration file's text, and errors that point into it.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;

use super::error::{ConfigError, Invalid, Place};
use super::explain::explain;
use crate::transport::require_file;

/// Longest configuration file that is read, in octets: 1 MiB.
pub const TEXT_BYTES_MAX: u64 = 1 << 20;

/// A file's text and where it came from.
pub(super) struct Source {
    path: PathBuf,
    text: String,
    modified: SystemTime,
}

impl Source {
    /// Reads the file, at most [`TEXT_BYTES_MAX`] octets of it.
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        let fail = |source| ConfigError::Read { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        require_file(path).map_err(fail)?;
        let file = File::open(path).map_err(fail)?;
        let modified = file.metadata().and_then(|about| changed(&about));
        // Where files have no such time, now is as good: it rises.
        let modified = modified.unwrap_or_else(|_| SystemTime::now());
        file.take(TEXT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(fail)?;
        if TEXT_BYTES_MAX < bytes.len() as u64 {
            return Err(ConfigError::TooLong { path: path.to_owned(), bytes_max: TEXT_BYTES_MAX });
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self { path: path.to_owned(), text, modified }),
            Err(error) => {
                let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                let line = good.split(|byte| *byte == b'\n').count();
                Err(ConfigError::NotText { path: path.to_owned(), line })
            }
        }
    }

    /// Reads the text as TOML into the raw shape `T`.
    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        toml::from_str(&self.text).map_err(|error: toml::de::Error| {
            let (problem, help) = explain(error.message());
            self.invalid(error.span().unwrap_or(0..0), problem, help)
        })
    }

    /// When the file was changed last.
    pub(super) fn modified(&self) -> SystemTime {
        self.modified
    }

    /// The file this text came from.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The place of `span`, to be shown later.
    pub(super) fn place(&self, span: Range<usize>) -> Place {
        Place::new(&self.path, &self.text, span)
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
            std::fs::write(&path, vec![b'#'; len]).unwrap();
            assert_eq!(Source::read(&path).is_ok(), readable, "{len} octets");
        }
        let refused = Source::read(&path).err().unwrap();
        assert!(refused.to_string().contains("longer than 1048576 octets"), "{refused}");
    }

    #[test]
    fn text_that_is_not_utf_8_names_the_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.toml");
        std::fs::write(&path, b"a = 1\nb = \"\xff\"\n").unwrap();
        let refused = Source::read(&path).err().unwrap();
        assert!(matches!(refused, ConfigError::NotText { line: 2, .. }), "{refused}");
    }

    #[test]
    fn relative_paths_start_at_the_folder_of_the_file() {
        let source = Source {
            path: PathBuf::from("site/gateway.toml"),
            text: String::new(),
            modified: SystemTime::now(),
        };
        assert_eq!(source.resolve(Path::new("a.pem")), Path::new("site/a.pem"));
        let absolute = std::env::temp_dir().join("a.pem");
        assert_eq!(source.resolve(&absolute), absolute);
    }
}
