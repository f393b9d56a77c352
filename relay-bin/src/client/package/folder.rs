//! The folder that a package is fetched into.
//!
//! ```text
//! <folder>/Data/setup.exe              a file, once it is whole and what was listed
//! <folder>/.relay-parts/lock           held by whoever fetches
//! <folder>/.relay-parts/<hash>.part    of a file that is not whole; the hash is that of its name
//! ```

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use relay_core::content::{ContentFile, FileName};
use sha2::{Digest as _, Sha256};

use super::super::part::Part;

/// Where parts of files are kept; no file of a package can be there.
pub(super) const PARTS: &str = ".relay-parts";

/// Octets of a file that are read at once.
const PIECE_OCTETS: usize = 256 << 10;

/// Whether a file of that name would be among the parts, on a system that knows no case too.
pub(super) fn is_reserved(name: &FileName) -> bool {
    let first = name.as_str().split('/').next().unwrap_or_default();
    first.to_uppercase().to_lowercase() == PARTS
}

/// The folder that a package is fetched into, which nobody else fetches into meanwhile.
#[derive(Clone)]
pub(super) struct Folder {
    root: PathBuf,
    /// Held until the last one is dropped, or the process ends.
    _lock: Arc<File>,
}

impl Folder {
    /// Takes hold of a folder, which is made if need be.
    ///
    /// # Errors
    ///
    /// It cannot be written to, or another process has hold of it.
    pub(super) fn take(root: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(root)?;
        let parts = root.join(PARTS);
        make(&parts)?;
        let lock = parts.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(lock)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { root: root.to_owned(), _lock: Arc::new(file) }),
            Err(TryLockError::WouldBlock) => {
                bail!("another process fetches a package into it at this moment")
            }
            Err(TryLockError::Error(why)) => Err(why).context("it cannot be locked"),
        }
    }

    pub(super) fn shown(&self) -> String {
        self.root.display().to_string()
    }

    /// What there is of a file; `None` if it is there, all of it.
    ///
    /// # Errors
    ///
    /// Something in the folder cannot be read, written or made, or a link leads out of it.
    pub(super) fn look(&self, file: &ContentFile) -> io::Result<Option<Part>> {
        let place = self.place(&file.name)?;
        if is_there(&place, file)? {
            return Ok(None);
        }
        let name = format!("{:x}", Sha256::digest(file.name.as_str()));
        // By what it is, not by where it is asked for: the next grant has another location.
        let source = format!("sha256:{}", file.sha256_text());
        Part::open(&place, &self.root.join(PARTS).join(name), &source).map(Some)
    }

    /// Where a file is to be, in a folder that is there.
    fn place(&self, name: &FileName) -> io::Result<PathBuf> {
        let mut place = self.root.clone();
        let mut segments = name.as_str().split('/').peekable();
        while let Some(segment) = segments.next() {
            place.push(segment);
            if segments.peek().is_some() {
                make(&place)?;
            }
        }
        Ok(place)
    }

    /// Removes what was kept of parts. All files are in their places.
    pub(super) fn tidy(&self) {
        // What stays is in nobody's way.
        let _ = fs::remove_dir_all(self.root.join(PARTS));
    }
}

/// Makes a folder that is to be one itself: a link may lead anywhere.
fn make(folder: &Path) -> io::Result<()> {
    if let Err(why) = fs::create_dir(folder)
        && why.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(why);
    }
    if fs::symlink_metadata(folder)?.is_dir() {
        return Ok(());
    }
    let why = format!("{} is a link or a file, and is to be a folder", folder.display());
    Err(io::Error::other(why))
}

/// Whether a file is in its place as it was listed.
fn is_there(place: &Path, file: &ContentFile) -> io::Result<bool> {
    let is_candidate = fs::symlink_metadata(place)
        .is_ok_and(|found| found.is_file() && found.len() == file.octets);
    if !is_candidate {
        return Ok(false);
    }
    let (mut opened, mut hash) = (File::open(place)?, Sha256::new());
    let mut piece = vec![0; PIECE_OCTETS];
    loop {
        let count = opened.read(&mut piece)?;
        if count == 0 {
            return Ok(<[u8; 32]>::from(hash.finalize()) == file.sha256);
        }
        hash.update(&piece[..count]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::part::Known;
    use super::*;

    fn file(name: &str, text: &str) -> ContentFile {
        let sha256 = Sha256::digest(text).into();
        ContentFile { name: name.parse().unwrap(), octets: text.len() as u64, sha256 }
    }

    #[test]
    fn a_file_that_is_there_is_known_by_its_hash() {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::take(home.path()).unwrap();
        assert!(folder.look(&file("a/b", "one")).unwrap().is_some());
        fs::write(home.path().join("a/b"), "one").unwrap();
        assert!(folder.look(&file("a/b", "one")).unwrap().is_none());
        assert!(folder.look(&file("a/b", "two")).unwrap().is_some());
        assert!(folder.look(&file("a/b", "longer")).unwrap().is_some());
    }

    #[test]
    fn a_part_goes_on_if_it_is_of_the_same_file_and_gets_into_its_place() {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::take(home.path()).unwrap();
        let part = |text: &str| folder.look(&file("a/b", text)).unwrap().unwrap();
        let mut first = part("one");
        let (url, validator) = (first.source().to_owned(), "\"x\"".to_owned());
        first.begin(Some(Known { url, validator, total: None })).unwrap();
        first.push(b"on").unwrap();
        drop(first);
        assert_eq!(part("one").len(), 2);
        let mut whole = part("one");
        whole.push(b"e").unwrap();
        whole.finish().unwrap();
        assert_eq!(fs::read(home.path().join("a/b")).unwrap(), b"one");
        assert_eq!(part("two").len(), 0);
        folder.tidy();
        assert!(!home.path().join(PARTS).exists());
    }

    #[test]
    fn of_two_that_fetch_into_one_folder_the_second_is_told() {
        let home = tempfile::tempdir().unwrap();
        let first = Folder::take(home.path()).unwrap();
        let told = format!("{:#}", Folder::take(home.path()).err().unwrap());
        assert!(told.contains("another process"), "{told}");
        drop(first);
        assert!(Folder::take(home.path()).is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_leads_nowhere() {
        use std::os::unix::fs::symlink;

        let (home, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folder = Folder::take(home.path()).unwrap();
        symlink(elsewhere.path(), home.path().join("a")).unwrap();
        assert!(folder.look(&file("a/b", "one")).is_err());
        // A link in the place of a file is replaced, and what it leads to is left alone.
        let secret = elsewhere.path().join("secret");
        fs::write(&secret, "one").unwrap();
        symlink(&secret, home.path().join("c")).unwrap();
        let mut part = folder.look(&file("c", "two")).unwrap().unwrap();
        part.push(b"two").unwrap();
        part.finish().unwrap();
        assert_eq!(fs::read(home.path().join("c")).unwrap(), b"two");
        assert_eq!(fs::read(&secret).unwrap(), b"one");
        drop(folder);
        fs::remove_dir_all(home.path().join(PARTS)).unwrap();
        symlink(elsewhere.path(), home.path().join(PARTS)).unwrap();
        assert!(Folder::take(home.path()).is_err());
    }
}
