//! A folder as an instance reads it.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use relay_core::content::{ContentFile, MANIFEST_OCTETS_MAX, Manifest, PackageId};
use relay_core::gateway::{ContentStore, Place, StoreFault, Stored, Visit};

use super::kept::Kept;

/// The manifest of a package, in its folder.
pub(super) const MANIFEST: &str = "manifest.json";

/// A folder of packages. Nothing is followed out of it: a link in it is an error.
#[derive(Debug)]
pub(crate) struct FolderStore {
    folder: PathBuf,
    kept: Kept<Stamp>,
    /// Held while a manifest is read: who wants the same one finds it then.
    reading: Mutex<()>,
}

/// By what a manifest that was replaced is known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Stamp {
    octets: u64,
    modified: Option<SystemTime>,
    file: u64,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self { octets: metadata.len(), modified: metadata.modified().ok(), file: number(metadata) }
    }
}

impl FolderStore {
    /// What is in `folder`, which may come to be there later.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, kept: Kept::new(), reading: Mutex::default() }
    }

    fn known(&self, package: &PackageId, stamp: Stamp) -> Option<Arc<Manifest>> {
        let (of, manifest) = self.kept.last(package)?;
        (of == stamp).then_some(manifest)
    }
}

impl ContentStore for FolderStore {
    fn manifest(&self, package: &PackageId) -> Result<Arc<Manifest>, StoreFault> {
        let place = || self.folder.join(package.as_str()).join(MANIFEST);
        let fault = |why: io::Error| fault(&place(), &why);
        let mut file = open_below(&self.folder, package, MANIFEST).map_err(fault)?;
        let stamp = Stamp::of(&file.metadata().map_err(fault)?);
        if let Some(known) = self.known(package, stamp) {
            return Ok(known);
        }
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = self.known(package, stamp) {
            return Ok(known);
        }
        let unusable = |why: &str| StoreFault::Unreadable(format!("{}: {why}", place().display()));
        let mut text = Vec::new();
        let longest = MANIFEST_OCTETS_MAX as u64;
        file.by_ref().take(longest + 1).read_to_end(&mut text).map_err(fault)?;
        let manifest = Manifest::read(&text).map_err(|why| unusable(&why.to_string()))?;
        if manifest.package() != package {
            return Err(unusable("it is of another package; put the package anew"));
        }
        let manifest = Arc::new(manifest);
        self.kept.keep(stamp, stamp.octets, &manifest);
        Ok(manifest)
    }

    fn place(
        &self,
        package: &PackageId,
        file: &ContentFile,
        _visit: &Visit,
    ) -> Result<Place, StoreFault> {
        let name = file.sha256_text();
        let place = || self.folder.join(package.as_str()).join(&name);
        let fault = |why: io::Error| fault(&place(), &why);
        let opened = open_below(&self.folder, package, &name).map_err(fault)?;
        let octets = opened.metadata().map_err(fault)?.len();
        if octets != file.octets {
            let place = place();
            return Err(StoreFault::Unreadable(format!(
                "{} has {octets} octets and is to have {}; put the package anew",
                place.display(),
                file.octets
            )));
        }
        Ok(Place::Here(Arc::new(Opened(opened))))
    }
}

fn fault(place: &Path, why: &io::Error) -> StoreFault {
    if why.kind() == io::ErrorKind::NotFound {
        return StoreFault::Absent;
    }
    StoreFault::Unreadable(format!("cannot read {}: {why}", place.display()))
}

struct Opened(File);

impl Stored for Opened {
    #[cfg(unix)]
    fn read_at(&self, at: u64, octets: &mut [u8]) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.0, octets, at)
    }

    /// What of it is in the kernel's cache, where the file system can tell.
    #[cfg(target_os = "linux")]
    fn read_now(&self, at: u64, octets: &mut [u8]) -> Option<usize> {
        use rustix::io::{ReadWriteFlags, preadv2};

        let octets = &mut [io::IoSliceMut::new(octets)];
        preadv2(&self.0, octets, at, ReadWriteFlags::NOWAIT).ok()
    }

    #[cfg(windows)]
    fn read_at(&self, at: u64, octets: &mut [u8]) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(&self.0, octets, at)
    }
}

/// Opens a regular file in the folder of a package. Neither may be a link, whoever exchanges it
/// meanwhile.
#[cfg(unix)]
fn open_below(folder: &Path, package: &PackageId, name: &str) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags, open, openat};

    let reading = OFlags::RDONLY | OFlags::CLOEXEC;
    let folder = open(folder, reading | OFlags::DIRECTORY, Mode::empty())?;
    let flags = reading | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let package = openat(&folder, package.as_str(), flags, Mode::empty())?;
    // Without waiting: a pipe in its place would hold a thread for ever.
    let flags = reading | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    regular(openat(&package, name, flags, Mode::empty())?.into())
}

#[cfg(not(unix))]
fn open_below(folder: &Path, package: &PackageId, name: &str) -> io::Result<File> {
    let package = folder.join(package.as_str());
    let place = package.join(name);
    for path in [&package, &place] {
        if std::fs::symlink_metadata(path)?.is_symlink() {
            return Err(io::Error::other("it is a link"));
        }
    }
    regular(File::open(place)?)
}

fn regular(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::other("it is no regular file"))
}

#[cfg(unix)]
fn number(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn number(_: &Metadata) -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::put::put;
    use super::*;

    fn package() -> PackageId {
        "PS100012".parse().unwrap()
    }

    /// A folder with one package of one file, and its store.
    fn stored(octets: &[u8]) -> (tempfile::TempDir, FolderStore) {
        let (folder, source) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(source.path().join("setup.exe"), octets).unwrap();
        put(folder.path(), &package(), source.path()).unwrap();
        let store = FolderStore::new(folder.path().to_owned());
        (folder, store)
    }

    fn open(store: &FolderStore, file: &ContentFile) -> Result<Arc<dyn Stored>, StoreFault> {
        let visit = Visit { method: http::Method::GET, until: 1 };
        match store.place(&package(), file, &visit)? {
            Place::Here(opened) => Ok(opened),
            Place::Elsewhere(_) => panic!("a folder's files are here"),
        }
    }

    #[test]
    fn what_was_put_is_read_from_any_octet_on() {
        let (_folder, store) = stored(b"0123456789");
        let manifest = store.manifest(&package()).unwrap();
        assert!(Arc::ptr_eq(&manifest, &store.manifest(&package()).unwrap()), "read once");
        let file = open(&store, &manifest.files()[0]).unwrap();
        let mut octets = [0; 4];
        assert_eq!(file.read_at(8, &mut octets).unwrap(), 2);
        assert_eq!(&octets[..2], b"89");
        assert_eq!(file.read_at(10, &mut octets).unwrap(), 0);
        // Whether it is in memory is the system's affair; what is, is the same.
        octets = [0; 4];
        assert!(file.read_now(8, &mut octets).is_none_or(|it| octets[..it] == b"89"[..it]));
    }

    #[test]
    fn a_package_that_is_put_anew_is_read_anew_and_one_that_is_not_there_is_absent() {
        let (folder, store) = stored(b"one");
        let before = store.manifest(&package()).unwrap();
        let source = tempfile::tempdir().unwrap();
        fs::write(source.path().join("setup.exe"), b"two").unwrap();
        put(folder.path(), &package(), source.path()).unwrap();
        let after = store.manifest(&package()).unwrap();
        assert_ne!(before, after);
        let gone = open(&store, &before.files()[0]);
        assert!(matches!(gone, Err(StoreFault::Absent)));
        let absent = store.manifest(&"OTHER".parse().unwrap());
        assert!(matches!(absent, Err(StoreFault::Absent)));
        let nowhere = FolderStore::new(folder.path().join("nowhere"));
        assert!(matches!(nowhere.manifest(&package()), Err(StoreFault::Absent)));
    }

    #[test]
    fn what_is_not_as_it_was_put_is_not_given() {
        let (folder, store) = stored(b"0123456789");
        let manifest = store.manifest(&package()).unwrap();
        let file = &manifest.files()[0];
        let place = folder.path().join("PS100012");
        fs::write(place.join(file.sha256_text()), b"012345678").unwrap();
        assert!(matches!(open(&store, file), Err(StoreFault::Unreadable(_))));
        fs::write(place.join(MANIFEST), b"{}").unwrap();
        assert!(matches!(store.manifest(&package()), Err(StoreFault::Unreadable(_))));
        let other = manifest.to_json().replace("PS100012", "PS100013");
        fs::write(place.join(MANIFEST), other).unwrap();
        assert!(matches!(store.manifest(&package()), Err(StoreFault::Unreadable(_))));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_leads_nowhere_and_neither_does_a_folder() {
        use std::os::unix::fs::symlink;

        let (folder, store) = stored(b"0123456789");
        let manifest = store.manifest(&package()).unwrap();
        let place = folder.path().join("PS100012");
        let (file, secret) = (&manifest.files()[0], folder.path().join("secret"));
        fs::write(&secret, b"0123456789").unwrap();
        let name = place.join(file.sha256_text());
        fs::remove_file(&name).unwrap();
        symlink(&secret, &name).unwrap();
        assert!(matches!(open(&store, file), Err(StoreFault::Unreadable(_))));
        fs::remove_file(&name).unwrap();
        fs::create_dir(&name).unwrap();
        assert!(matches!(open(&store, file), Err(StoreFault::Unreadable(_))));
        let moved = folder.path().join("moved");
        fs::rename(&place, &moved).unwrap();
        symlink(&moved, &place).unwrap();
        assert!(matches!(store.manifest(&package()), Err(StoreFault::Unreadable(_))));
    }
}
