//! Files of a site that no other account may reach.

use std::io::Write as _;
use std::path::Path;
use std::{fs, io};

use tempfile::NamedTempFile;

/// Why a file is not taken.
#[derive(Debug)]
pub(super) enum FileFault {
    /// Nothing is there.
    Missing,
    /// The operating system does not show it.
    Unreadable(io::Error),
    /// A link, folder or device.
    NotAFile,
    /// Other accounts can reach it; its permissions.
    Exposed(u32),
}

/// Refuses what is no regular file of this account alone.
pub(super) fn judge(file: &Path) -> Result<(), FileFault> {
    let about = fs::symlink_metadata(file).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => FileFault::Missing,
        _ => FileFault::Unreadable(source),
    })?;
    if !about.is_file() {
        return Err(FileFault::NotAFile);
    }
    exposed(&about).map_or(Ok(()), |mode| Err(FileFault::Exposed(mode)))
}

/// An empty file beside `file`, which its owner alone may open. It goes when it is dropped.
pub(super) fn stage(file: &Path) -> io::Result<NamedTempFile> {
    // Files of this kind have no access for others from the first moment on.
    tempfile::Builder::new().prefix(".relay-site-").tempfile_in(folder(file))
}

/// The same with a text in it, on the disk.
pub(super) fn stage_text(file: &Path, text: &str) -> io::Result<NamedTempFile> {
    let mut staged = stage(file)?;
    staged.write_all(text.as_bytes())?;
    staged.as_file().sync_all()?;
    Ok(staged)
}

/// Gives a staged file its name, if nothing has that.
pub(super) fn put_new(staged: NamedTempFile, file: &Path) -> io::Result<()> {
    staged.persist_noclobber(file).map_err(|failed| failed.error)?;
    sync_folder(folder(file));
    Ok(())
}

/// Replaces a file at once as a whole.
pub(super) fn replace(file: &Path, text: &str) -> io::Result<()> {
    stage_text(file, text)?.persist(file).map_err(|failed| failed.error)?;
    sync_folder(folder(file));
    Ok(())
}

/// Makes a folder for this account alone, if there is none. What it is in must be there.
pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    restrict(&mut builder);
    match builder.create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        made => made,
    }
}

fn folder(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(unix)]
fn exposed(about: &fs::Metadata) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = about.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

#[cfg(not(unix))]
fn exposed(_about: &fs::Metadata) -> Option<u32> {
    None
}

#[cfg(unix)]
fn restrict(builder: &mut fs::DirBuilder) {
    use std::os::unix::fs::DirBuilderExt as _;
    builder.mode(0o700);
}

#[cfg(not(unix))]
fn restrict(_builder: &mut fs::DirBuilder) {}

#[cfg(unix)]
fn sync_folder(folder: &Path) {
    // A file system that cannot do that knows no better; the file is there all the same.
    let _ = fs::File::open(folder).and_then(|folder| folder.sync_all());
}

#[cfg(not(unix))]
fn sync_folder(_folder: &Path) {}
