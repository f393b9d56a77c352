//! The folder of one package, held by whoever changes it.

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use relay_core::content::PackageId;

use super::store::MANIFEST;

/// The folder of a package, which nobody else changes meanwhile.
pub(super) struct Shelf {
    pub(super) folder: PathBuf,
    /// Held until it is dropped, or the process ends.
    _lock: File,
}

impl Shelf {
    /// Takes hold of the folder of `package` below `store`.
    ///
    /// # Errors
    ///
    /// Another process has hold of it, or the store cannot be written to.
    pub(super) fn take(store: &Path, package: &PackageId) -> anyhow::Result<Self> {
        let lock = store.join(format!(".{package}.lock"));
        let file = File::options().create(true).truncate(false).write(true).open(&lock);
        let file = file.with_context(|| {
            format!("cannot write to the store {}; nothing was changed", store.display())
        })?;
        match file.try_lock() {
            Ok(()) => Ok(Self { folder: store.join(package.as_str()), _lock: file }),
            Err(TryLockError::WouldBlock) => bail!(
                "another process puts or removes package {package} at this moment; nothing was \
                 changed here"
            ),
            Err(TryLockError::Error(why)) => {
                Err(why).with_context(|| format!("cannot lock {}", lock.display()))
            }
        }
    }

    /// Files that are there already by their names, with their lengths.
    ///
    /// # Errors
    ///
    /// The folder cannot be read.
    pub(super) fn files(&self) -> anyhow::Result<HashMap<String, u64>> {
        let mut found = HashMap::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            // What has no text for a name is none of ours, and is left alone.
            if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
                found.insert(name, metadata.len());
            }
        }
        Ok(found)
    }

    /// Removes what no manifest speaks of: whatever is not in `kept`.
    ///
    /// # Errors
    ///
    /// Something cannot be removed. It does no harm where it is.
    pub(super) fn clear(&self, kept: impl Fn(&str) -> bool) -> anyhow::Result<()> {
        for name in self.files()?.into_keys().filter(|it| it != MANIFEST && !kept(it)) {
            let file = self.folder.join(name);
            fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
        }
        Ok(())
    }
}

/// Has what was done in a folder stay done, whatever befalls the machine.
pub(super) fn sync(folder: &Path) -> std::io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}
