//! A file of which a part is there: what a download leaves behind when it is broken off.
//!
//! `NAME.part` has the octets, `NAME.part.json` says of what. The file itself is put in its place
//! once it is whole.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// What the octets of a part belong to.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Known {
    /// Where they come from, or what they are of: what [`Part::open`] was given.
    pub(super) url: String,
    /// What tells the content from any other: `If-Range`.
    pub(super) validator: String,
    /// Octets of the whole, if that was told.
    pub(super) total: Option<u64>,
}

/// The part of a file that is there.
pub(super) struct Part {
    place: PathBuf,
    /// What its own files are called, but for their endings.
    name: PathBuf,
    source: String,
    file: File,
    len: u64,
    hash: Sha256,
    known: Option<Known>,
}

impl Part {
    /// What is there of `place` from `source`, kept by `name` with endings, on the same file
    /// system; nothing, if that cannot be told.
    ///
    /// # Errors
    ///
    /// A file by that name cannot be read or written.
    pub(super) fn open(place: &Path, name: &Path, source: &str) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(ending(name, ".part"))?;
        // What another one writes there would be taken for octets of this one.
        let is_taken = || io::Error::other("another process fetches this file at this moment");
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(is_taken()),
            Err(TryLockError::Error(why)) => return Err(why),
        }
        if !ending(name, ".part").exists() {
            // It was put in its place in between, and is the finished file.
            return Err(is_taken());
        }
        let known = fs::read(ending(name, ".part.json")).ok();
        let known = known.and_then(|text| serde_json::from_slice::<Known>(&text).ok());
        let known = known.filter(|known| known.url == source);
        let (place, name, source) = (place.to_owned(), name.to_owned(), source.to_owned());
        let mut part = Self { place, name, source, file, len: 0, hash: Sha256::new(), known };
        if part.known.is_some() {
            part.read()?;
        } else {
            part.clear()?;
        }
        Ok(part)
    }

    fn read(&mut self) -> io::Result<()> {
        let mut chunk = vec![0; 64 * 1024];
        loop {
            let read = self.file.read(&mut chunk)?;
            if read == 0 {
                return Ok(());
            }
            self.hash.update(&chunk[..read]);
            self.len += read as u64;
        }
    }

    /// What its octets are from.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// Octets that are there.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// What they belong to, if more can be asked for.
    pub(super) fn known(&self) -> Option<&Known> {
        self.known.as_ref().filter(|_| self.len > 0)
    }

    /// Octets of the whole, if that was told.
    pub(super) fn total(&self) -> Option<u64> {
        self.known.as_ref().and_then(|known| known.total)
    }

    /// Drops what is there.
    ///
    /// # Errors
    ///
    /// The file cannot be changed.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.known = None;
        let _ = fs::remove_file(ending(&self.name, ".part.json"));
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.len = 0;
        self.hash = Sha256::new();
        Ok(())
    }

    /// Drops what is there, and takes octets of `known` from now on.
    ///
    /// # Errors
    ///
    /// The files cannot be changed.
    pub(super) fn begin(&mut self, known: Option<Known>) -> io::Result<()> {
        self.clear()?;
        if let Some(known) = &known {
            // What is cut short says nothing, and the download begins again.
            fs::write(ending(&self.name, ".part.json"), serde_json::to_vec(known)?)?;
        }
        self.known = known;
        Ok(())
    }

    /// Takes the next octets.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub(super) fn push(&mut self, octets: &[u8]) -> io::Result<()> {
        self.file.write_all(octets)?;
        self.hash.update(octets);
        self.len += octets.len() as u64;
        Ok(())
    }

    /// SHA-256 of what is there, in hexadecimal.
    pub(super) fn sha256(&self) -> String {
        format!("{:x}", self.hash.clone().finalize())
    }

    /// Puts the file in its place. It is whole.
    ///
    /// # Errors
    ///
    /// It cannot be put there; what was there before still is.
    pub(super) fn finish(self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(ending(&self.name, ".part"), &self.place)?;
        // Without its octets it says nothing.
        let _ = fs::remove_file(ending(&self.name, ".part.json"));
        Ok(())
    }

    /// Removes what is there.
    pub(super) fn discard(self) {
        for it in [".part", ".part.json"] {
            let _ = fs::remove_file(ending(&self.name, it));
        }
    }

    /// Removes what is there, if that is nothing to go on from.
    pub(super) fn discard_if_empty(self) {
        if self.len == 0 {
            self.discard();
        }
    }
}

fn ending(name: &Path, ending: &str) -> PathBuf {
    let mut name = name.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        let (url, validator) = ("https://a/b".to_owned(), "\"1\"".to_owned());
        Known { url, validator, total: Some(6) }
    }

    #[test]
    fn a_part_goes_on_where_it_was_and_becomes_the_file_at_once() {
        let home = tempfile::tempdir().unwrap();
        let place = home.path().join("file");
        fs::write(&place, "before").unwrap();
        let mut part = Part::open(&place, &place, "https://a/b").unwrap();
        assert!(part.known().is_none());
        part.begin(Some(known())).unwrap();
        part.push(b"abc").unwrap();
        drop(part);
        let mut part = Part::open(&place, &place, "https://a/b").unwrap();
        assert_eq!((part.len(), part.known()), (3, Some(&known())));
        part.push(b"def").unwrap();
        assert_eq!(part.sha256(), format!("{:x}", Sha256::digest("abcdef")));
        assert_eq!(fs::read(&place).unwrap(), b"before");
        part.finish().unwrap();
        assert_eq!(fs::read(&place).unwrap(), b"abcdef");
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn octets_of_something_else_are_dropped() {
        let home = tempfile::tempdir().unwrap();
        let place = home.path().join("file");
        let with = |known: Option<Known>| {
            let mut part = Part::open(&place, &place, "https://a/b").unwrap();
            part.begin(known).unwrap();
            part.push(b"abc").unwrap();
        };
        with(Some(known()));
        assert_eq!(Part::open(&place, &place, "https://a/other").unwrap().len(), 0);
        with(None);
        assert_eq!(Part::open(&place, &place, "https://a/b").unwrap().len(), 0);
        with(Some(known()));
        fs::write(ending(&place, ".part.json"), "{").unwrap();
        assert_eq!(Part::open(&place, &place, "https://a/b").unwrap().len(), 0);
        with(Some(known()));
        Part::open(&place, &place, "https://a/b").unwrap().discard();
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    }
}
