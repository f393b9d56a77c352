//! Putting packages into a folder, listing and removing them.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context as _, ensure};
use relay_core::content::{ContentFile, FILES_MAX, FileName, Manifest, PackageId};
use relay_core::gateway::{ContentStore as _, StoreFault};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::shelf::{Shelf, sync};
use super::store::{FolderStore, MANIFEST};
use crate::progress::Progress;

/// Files that are copied at once.
const AT_ONCE_MAX: usize = 8;

/// Octets that are copied at once of each.
const PIECE_OCTETS: usize = 256 << 10;

/// What a file is called until it is whole.
const PART: &str = ".part-";

/// What a put has done.
#[derive(Debug)]
pub(super) struct Put {
    pub(super) manifest: Manifest,
    /// Octets that had to be copied; the others were there already.
    pub(super) copied: u64,
}

/// A file that is to be put.
pub(super) struct Wanted {
    pub(super) name: FileName,
    pub(super) path: PathBuf,
    pub(super) octets: u64,
}

/// Puts the files of `source` as `package` into the folder `store`, in place of what the package
/// had before.
///
/// Clients see the package as it was, until all of it is there. Whoever is interrupted puts it
/// again: what is there already is not copied twice.
///
/// # Errors
///
/// What cannot be read, put or named so. What was published before still is.
pub(super) fn put(store: &Path, package: &PackageId, source: &Path) -> anyhow::Result<Put> {
    let wanted = wanted(package, source)?;
    let cannot = || format!("cannot write to {}; nothing was published", store.display());
    fs::create_dir_all(store).with_context(cannot)?;
    let shelf = Shelf::take(store, package)?;
    fs::create_dir_all(&shelf.folder).with_context(cannot)?;
    // Its entry in the store as well, or all of it may be gone after a crash.
    sync(store).with_context(cannot)?;
    let unfinished = || {
        format!(
            "package {package} was not published; what is in the store already is not copied again \
             by the next put"
        )
    };
    let progress = Progress::new();
    progress.of(wanted.iter().map(|it| it.octets).sum());
    let (files, copied) = copy_all(&shelf, &wanted, &progress).with_context(unfinished)?;
    progress.clear();
    let manifest = Manifest::new(package.clone(), files).with_context(unfinished)?;
    publish(&shelf, &manifest).with_context(unfinished)?;
    let kept: HashSet<_> = manifest.files().iter().map(ContentFile::sha256_text).collect();
    shelf.clear(|name| kept.contains(name)).context("the package is published")?;
    Ok(Put { manifest, copied })
}

/// The regular files below a folder, which can be those of a package.
///
/// # Errors
///
/// What cannot be read, or cannot be in a package.
pub(super) fn wanted(package: &PackageId, source: &Path) -> anyhow::Result<Vec<Wanted>> {
    let wanted = regular_files(source)?;
    let named = wanted.iter().map(|it| ContentFile {
        name: it.name.clone(),
        octets: it.octets,
        sha256: [0; 32],
    });
    // Names and numbers, before anything is copied.
    Manifest::new(package.clone(), named.collect()).context("the package cannot be put")?;
    Ok(wanted)
}

fn regular_files(source: &Path) -> anyhow::Result<Vec<Wanted>> {
    let mut found = Vec::new();
    let mut folders = vec![source.to_owned()];
    while let Some(folder) = folders.pop() {
        let cannot = || format!("cannot read {}", folder.display());
        for entry in fs::read_dir(&folder).with_context(cannot)? {
            let path = entry.with_context(cannot)?.path();
            let metadata = fs::symlink_metadata(&path).with_context(cannot)?;
            if metadata.is_dir() {
                folders.push(path);
                continue;
            }
            ensure!(
                metadata.is_file(),
                "{} is a link, device or pipe; put a regular file in its place",
                path.display()
            );
            ensure!(found.len() < FILES_MAX, "the package has more than {FILES_MAX} files");
            let name = name(source, &path)
                .with_context(|| format!("{} cannot be called so in a package", path.display()))?;
            found.push(Wanted { name, path, octets: metadata.len() });
        }
    }
    Ok(found)
}

fn name(source: &Path, path: &Path) -> anyhow::Result<FileName> {
    let below = path.strip_prefix(source)?;
    let segments = below.iter().map(|it| it.to_str().context("its name is no UTF-8"));
    Ok(segments.collect::<Result<Vec<_>, _>>()?.join("/").parse()?)
}

/// Has each file on the shelf, several at once. Returns them, and how many octets were copied.
fn copy_all(
    shelf: &Shelf,
    wanted: &[Wanted],
    progress: &Progress,
) -> anyhow::Result<(Vec<ContentFile>, u64)> {
    let there = There::new(shelf.files()?);
    let next = AtomicUsize::new(0);
    let work = || -> anyhow::Result<Vec<(ContentFile, u64)>> {
        let mut done = Vec::new();
        while let Some(file) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
            // Where one fails, the others begin no more.
            let end = |_: &anyhow::Error| next.store(wanted.len(), Ordering::Relaxed);
            done.push(shelve(shelf, &there, file, progress).inspect_err(end)?);
        }
        Ok(done)
    };
    let done = thread::scope(|scope| {
        let count = AT_ONCE_MAX.min(wanted.len());
        let workers: Vec<_> = (0..count).map(|_| scope.spawn(work)).collect();
        let ended =
            workers.into_iter().map(|it| it.join().unwrap_or_else(|why| resume_unwind(why)));
        // All of them, before the first that has failed is told of.
        ended.collect::<Vec<_>>()
    });
    let done = done.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let copied = done.iter().flatten().map(|(_, copied)| copied).sum();
    Ok((done.into_iter().flatten().map(|(file, _)| file).collect(), copied))
}

/// What is on a shelf already.
struct There {
    files: HashMap<String, u64>,
    lengths: HashSet<u64>,
}

impl There {
    fn new(files: HashMap<String, u64>) -> Self {
        let lengths = files.values().copied().collect();
        Self { files, lengths }
    }
}

/// Has one file on the shelf. Returns it, and how many octets were copied for that.
fn shelve(
    shelf: &Shelf,
    there: &There,
    wanted: &Wanted,
    progress: &Progress,
) -> anyhow::Result<(ContentFile, u64)> {
    let file = |(sha256, octets)| ContentFile { name: wanted.name.clone(), octets, sha256 };
    // Only what has its length may be the same: all else is read once.
    if there.lengths.contains(&wanted.octets) {
        let file = file(pour(&wanted.path, &mut io::sink())?);
        let name = file.sha256_text();
        // Read, not believed: a disk may have changed it since. What cannot be read is replaced.
        let is_whole = || {
            let kept = pour(&shelf.folder.join(&name), &mut io::sink());
            kept.is_ok_and(|kept| kept == (file.sha256, file.octets))
        };
        if there.files.get(&name) == Some(&file.octets) && is_whole() {
            progress.moved(0, file.octets);
            return Ok((file, 0));
        }
    }
    let mut part = part(&shelf.folder)?;
    let file = file(pour(&wanted.path, &mut Counted { file: part.as_file_mut(), progress })?);
    put_there(part, &shelf.folder.join(file.sha256_text()))?;
    let octets = file.octets;
    Ok((file, octets))
}

/// A file that is written to, of which it is shown how far it is.
struct Counted<'a> {
    file: &'a mut File,
    progress: &'a Progress,
}

impl Write for Counted<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let count = self.file.write(octets)?;
        self.progress.moved(0, count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file that is not whole yet. The instance that gives it to clients may run by another account.
fn part(folder: &Path) -> anyhow::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PART);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644));
    let made = builder.tempfile_in(folder);
    made.with_context(|| format!("cannot write to {}", folder.display()))
}

/// Gives a file its place, once it is on the disk.
fn put_there(part: NamedTempFile, place: &Path) -> anyhow::Result<()> {
    let cannot = || format!("cannot write {}", place.display());
    part.as_file().sync_all().with_context(cannot)?;
    part.persist(place).map(|_| ()).map_err(|why| why.error).with_context(cannot)
}

/// Reads all of a file into `into`. Returns its hash and length.
///
/// # Errors
///
/// It cannot be read, or not written.
pub(super) fn pour(path: &Path, into: &mut dyn Write) -> anyhow::Result<([u8; 32], u64)> {
    let cannot = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(cannot)?;
    let (mut hash, mut octets) = (Sha256::new(), 0);
    let mut piece = vec![0; PIECE_OCTETS];
    loop {
        let count = file.read(&mut piece).with_context(cannot)?;
        let Some(read) = piece.get(..count).filter(|it| !it.is_empty()) else { break };
        hash.update(read);
        into.write_all(read).context("cannot write a file of the package to the store")?;
        octets += count as u64;
    }
    Ok((hash.finalize().into(), octets))
}

/// Has clients see the package as it is now: in one step, once all of it is on the disk.
fn publish(shelf: &Shelf, manifest: &Manifest) -> anyhow::Result<()> {
    sync(&shelf.folder).context("cannot write to the store")?;
    let mut part = part(&shelf.folder)?;
    let text = manifest.to_json();
    part.write_all(text.as_bytes()).context("cannot write the manifest")?;
    put_there(part, &shelf.folder.join(MANIFEST))?;
    sync(&shelf.folder).context("cannot write to the store")
}

/// A package that is in a store.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) package: PackageId,
    /// Which files it has, or why that cannot be told.
    pub(super) manifest: Result<Arc<Manifest>, String>,
}

/// The packages in the folder `store`, in the order of their ids. Those that are not published yet
/// are none.
///
/// # Errors
///
/// The folder cannot be read.
pub(super) fn list(store: &Path) -> anyhow::Result<Vec<Listed>> {
    let cannot = || format!("cannot read the store {}", store.display());
    let reader = FolderStore::new(store.to_owned());
    let mut found = Vec::new();
    for entry in fs::read_dir(store).with_context(cannot)? {
        let name = entry.with_context(cannot)?.file_name();
        let Some(package) = name.to_str().and_then(|it| it.parse::<PackageId>().ok()) else {
            continue;
        };
        let is_written_so = name.to_str() == Some(package.as_str());
        let manifest = match reader.manifest(&package) {
            Err(StoreFault::Absent) => continue,
            other => other.map_err(|why| why.to_string()),
        };
        if is_written_so {
            found.push(Listed { package, manifest });
        }
    }
    found.sort_by(|one, other| one.package.cmp(&other.package));
    Ok(found)
}

/// Removes a package from the folder `store`.
///
/// # Errors
///
/// There is none, or it cannot be removed.
pub(super) fn remove(store: &Path, package: &PackageId) -> anyhow::Result<()> {
    let shelf = Shelf::take(store, package)?;
    let manifest = shelf.folder.join(MANIFEST);
    // First, and in one step: no client finds a part of it.
    match fs::remove_file(&manifest) {
        Ok(()) => sync(&shelf.folder).context("the package is removed, and its files are not")?,
        // What a put or a removal that was interrupted has left.
        Err(why) if why.kind() == io::ErrorKind::NotFound && shelf.folder.is_dir() => {}
        Err(why) => {
            let store = store.display();
            return Err(why).with_context(|| {
                format!("there is no package {package} in {store}, or it cannot be removed")
            });
        }
    }
    shelf.clear(|_| false)?;
    let folder = &shelf.folder;
    fs::remove_dir(folder).with_context(|| format!("cannot remove {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use relay_core::gateway::Visit;

    use super::*;

    fn package() -> PackageId {
        "PS100012".parse().unwrap()
    }

    fn source(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn what_an_interrupted_put_has_left_can_be_removed_and_what_is_not_there_cannot() {
        let (store, files) = (tempfile::tempdir().unwrap(), source(&[("a", "12345")]));
        put(store.path(), &package(), files.path()).unwrap();
        let folder = store.path().join("PS100012");
        fs::remove_file(folder.join(MANIFEST)).unwrap();
        remove(store.path(), &package()).unwrap();
        assert!(!folder.exists());
        let why = format!("{:#}", remove(store.path(), &package()).unwrap_err());
        assert!(why.starts_with("there is no package PS100012 in "), "{why}");
    }

    #[test]
    fn a_file_in_the_store_that_is_not_what_it_is_called_is_copied_again() {
        let (store, files) = (tempfile::tempdir().unwrap(), source(&[("a", "12345")]));
        let before = put(store.path(), &package(), files.path()).unwrap().manifest;
        let place = store.path().join("PS100012").join(before.files()[0].sha256_text());
        fs::write(&place, "1234x").unwrap();
        assert_eq!(put(store.path(), &package(), files.path()).unwrap().copied, 5);
        assert_eq!(fs::read(&place).unwrap(), b"12345");
        assert_eq!(put(store.path(), &package(), files.path()).unwrap().copied, 0);
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn told(outcome: anyhow::Result<Put>) -> String {
        format!("{:#}", outcome.unwrap_err())
    }

    #[test]
    fn a_package_is_put_listed_and_removed_with_nothing_left() {
        let store = tempfile::tempdir().unwrap();
        let files = source(&[("a/b/c.cab", "one"), ("setup.exe", "two"), ("again", "two")]);
        let put = put(store.path(), &package(), files.path()).unwrap();
        assert_eq!((put.manifest.files().len(), put.manifest.octets()), (3, 9));
        let there = names(&store.path().join("PS100012"));
        assert_eq!(there.len(), 3, "files of one text are kept once, beside the manifest");
        let listed = list(store.path()).unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(**listed[0].manifest.as_ref().unwrap(), put.manifest);
        remove(store.path(), &package()).unwrap();
        assert_eq!(names(store.path()), [".PS100012.lock"]);
        assert!(list(store.path()).unwrap().is_empty());
        let again = format!("{:#}", remove(store.path(), &package()).unwrap_err());
        assert!(again.starts_with("there is no package PS100012 in "), "{again}");
    }

    #[test]
    fn what_is_there_already_is_not_copied_again_and_what_is_left_over_goes() {
        let store = tempfile::tempdir().unwrap();
        let shelf = store.path().join("PS100012");
        let before = source(&[("a", "12345"), ("b", "1234567")]);
        assert_eq!(put(store.path(), &package(), before.path()).unwrap().copied, 12);
        // As one that was interrupted leaves it.
        fs::remove_file(shelf.join(MANIFEST)).unwrap();
        fs::write(shelf.join(".part-x"), "123").unwrap();
        assert_eq!(put(store.path(), &package(), before.path()).unwrap().copied, 0);
        let after = source(&[("a", "12345"), ("b", "abcdefg")]);
        assert_eq!(put(store.path(), &package(), after.path()).unwrap().copied, 7);
        assert_eq!(names(&shelf).len(), 3, "{:?}", names(&shelf));
    }

    #[test]
    fn what_cannot_be_a_package_is_refused_before_anything_is_copied() {
        let home = tempfile::tempdir().unwrap();
        let store = home.path().join("store");
        for (files, why) in [
            (&[][..], "has no files"),
            (&[("a", "1"), ("A", "2")], "twice"),
            (&[("nul.txt", "1")], "a device on Windows"),
            (&[("a:b", "1")], "rename it"),
        ] {
            let told = told(put(&store, &package(), source(files).path()));
            assert!(told.contains(why), "{told}");
            assert!(!store.exists());
        }
        let told = told(put(&store, &package(), &home.path().join("absent")));
        assert!(told.starts_with("cannot read "), "{told}");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_a_package_is_refused() {
        let (store, files) = (tempfile::tempdir().unwrap(), source(&[("a", "1")]));
        std::os::unix::fs::symlink("/etc/passwd", files.path().join("b")).unwrap();
        let told = told(put(store.path(), &package(), files.path()));
        assert!(told.contains("is a link, device or pipe"), "{told}");
        assert!(names(store.path()).is_empty());
    }

    #[test]
    fn of_two_that_put_one_package_at_once_the_second_is_told() {
        let (store, files) = (tempfile::tempdir().unwrap(), source(&[("a", "1")]));
        let first = Shelf::take(store.path(), &package()).unwrap();
        let second = told(put(store.path(), &package(), files.path()));
        assert!(second.starts_with("another process puts or removes package PS100012"), "{second}");
        assert!(remove(store.path(), &package()).is_err());
        assert!(put(store.path(), &"OTHER".parse().unwrap(), files.path()).is_ok());
        drop(first);
        assert!(put(store.path(), &package(), files.path()).is_ok());
    }

    #[test]
    fn a_put_that_fails_leaves_what_was_published_before() {
        let (store, files) = (tempfile::tempdir().unwrap(), source(&[("a", "one")]));
        let before = put(store.path(), &package(), files.path()).unwrap().manifest;
        // A folder in the place of a file: it cannot be put there, as on a disk that is full.
        let other = source(&[("a", "other")]);
        let (sha256, _) = pour(&other.path().join("a"), &mut io::sink()).unwrap();
        let file = ContentFile { name: "a".parse().unwrap(), octets: 5, sha256 };
        let place = store.path().join("PS100012").join(file.sha256_text());
        fs::create_dir(&place).unwrap();
        let told = told(put(store.path(), &package(), other.path()));
        assert!(told.starts_with("package PS100012 was not published"), "{told}");
        let reader = FolderStore::new(store.path().to_owned());
        assert_eq!(*reader.manifest(&package()).unwrap(), before);
        let visit = Visit { method: http::Method::GET, until: 1 };
        assert!(reader.place(&package(), &before.files()[0], &visit).is_ok());
        let left = names(&store.path().join("PS100012"));
        assert!(left.iter().all(|it| !it.starts_with(PART)), "{left:?}");
    }
}
