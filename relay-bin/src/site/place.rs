//! What stands at the path of a store, so that another file in its place is noticed.

use std::path::Path;
use std::{fs, io};

/// What the file system tells of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Place {
    /// Which file it is, where files have numbers: device and number.
    number: Option<(u64, u64)>,
    octets: u64,
    changed: Option<std::time::SystemTime>,
}

impl Place {
    /// What is there now.
    ///
    /// # Errors
    ///
    /// [`io::Error`], if nothing is, or it is not shown.
    pub(super) fn of(file: &Path) -> io::Result<Self> {
        let about = fs::symlink_metadata(file)?;
        let (octets, changed) = (about.len(), about.modified().ok());
        Ok(Self { number: number(&about), octets, changed })
    }

    /// Whether that is the same file, whatever has been written to it.
    pub(super) fn is_same_file(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

#[cfg(unix)]
#[allow(clippy::unnecessary_wraps, reason = "elsewhere files have none")]
fn number(about: &fs::Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    Some((about.dev(), about.ino()))
}

#[cfg(not(unix))]
fn number(_about: &fs::Metadata) -> Option<(u64, u64)> {
    None
}
