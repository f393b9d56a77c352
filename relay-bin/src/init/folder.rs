//! A folder that appears whole or not at all.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;

/// A folder being written beside its destination; removed when dropped unpublished.
pub(super) struct Folder {
    staging: TempDir,
}

impl Folder {
    /// Starts a folder that is to become `destination`, which must be absent or an empty folder.
    pub(super) fn stage(destination: &Path) -> anyhow::Result<Self> {
        judge(destination)?;
        // The same file system as the destination, or the rename could not be atomic.
        let parent = match destination.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        ensure!(
            parent.is_dir(),
            "folder {} does not exist; create it first, or choose another place",
            parent.display()
        );
        let staging = tempfile::Builder::new()
            .prefix(".relay-init-")
            .tempdir_in(parent)
            .with_context(|| format!("cannot write to {}", parent.display()))?;
        Ok(Self { staging })
    }

    /// Where the folder is until it is published.
    pub(super) fn path(&self) -> &Path {
        self.staging.path()
    }

    /// Adds a file that anybody may read. `name` is relative, with `/` between folders.
    pub(super) fn add(&self, name: &str, text: &str) -> anyhow::Result<()> {
        self.create(name, text, &mut fs::OpenOptions::new())
    }

    /// Adds a file that only its owner may read.
    pub(super) fn add_secret(&self, name: &str, text: &str) -> anyhow::Result<()> {
        self.create(name, text, owner_only(&mut fs::OpenOptions::new()))
    }

    fn create(&self, name: &str, text: &str, options: &mut fs::OpenOptions) -> anyhow::Result<()> {
        let path = self.path().join(name);
        let written = path
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| options.write(true).create_new(true).open(&path))
            .and_then(|mut file| file.write_all(text.as_bytes()));
        written.with_context(|| format!("cannot write {}", path.display()))
    }

    /// Puts the folder in its place.
    pub(super) fn publish(self, destination: &Path) -> anyhow::Result<()> {
        if destination.is_dir() {
            // Only ever an empty folder; with something in it this fails, and nothing is lost.
            fs::remove_dir(destination)
                .with_context(|| format!("cannot replace {}", destination.display()))?;
        }
        fs::rename(self.path(), destination)
            .with_context(|| format!("cannot create {}", destination.display()))?;
        let _moved_away = self.staging.keep();
        Ok(())
    }
}

/// Refuses a destination that holds something or cannot be replaced.
fn judge(destination: &Path) -> anyhow::Result<()> {
    let shown = destination.display();
    let mut entries = match fs::read_dir(destination) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot write a site to {shown}")),
    };
    if entries.next().is_some() {
        bail!(
            "{shown} is not empty; nothing was written. Choose a folder that does not exist, or \
             remove what is in this one"
        );
    }
    let current = std::env::current_dir().and_then(fs::canonicalize).ok();
    ensure!(
        fs::canonicalize(destination).ok() != current,
        "the current folder cannot be replaced; name one inside it, as in `relay init site …`"
    );
    Ok(())
}

#[cfg(unix)]
fn owner_only(options: &mut fs::OpenOptions) -> &mut fs::OpenOptions {
    use std::os::unix::fs::OpenOptionsExt as _;
    options.mode(0o600)
}

#[cfg(not(unix))]
fn owner_only(options: &mut fs::OpenOptions) -> &mut fs::OpenOptions {
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_folder_appears_when_published() {
        let home = tempfile::tempdir().unwrap();
        let site = home.path().join("site");
        let folder = Folder::stage(&site).unwrap();
        folder.add("a/b.txt", "text").unwrap();
        assert!(!site.exists());
        folder.publish(&site).unwrap();
        assert_eq!(names(home.path()), ["site"]);
        assert_eq!(fs::read_to_string(site.join("a/b.txt")).unwrap(), "text");
    }

    #[test]
    fn an_unpublished_folder_leaves_nothing() {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::stage(&home.path().join("site")).unwrap();
        folder.add("a.txt", "text").unwrap();
        drop(folder);
        assert_eq!(names(home.path()), [""; 0]);
    }

    #[test]
    fn an_empty_folder_is_replaced_and_one_with_something_in_it_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let site = home.path().join("site");
        fs::create_dir(&site).unwrap();
        Folder::stage(&site).unwrap().publish(&site).unwrap();
        fs::write(site.join("mine.txt"), "").unwrap();
        let refused = Folder::stage(&site).err().unwrap().to_string();
        assert!(refused.contains("is not empty; nothing was written"), "{refused}");
        assert_eq!(names(home.path()), ["site"]);
    }

    #[test]
    fn a_folder_filled_meanwhile_is_not_replaced() {
        let home = tempfile::tempdir().unwrap();
        let site = home.path().join("site");
        let folder = Folder::stage(&site).unwrap();
        fs::create_dir(&site).unwrap();
        fs::write(site.join("mine.txt"), "").unwrap();
        assert!(folder.publish(&site).is_err());
        assert_eq!(names(home.path()), ["site"]);
        assert_eq!(names(&site), ["mine.txt"]);
    }

    #[test]
    fn a_place_in_no_folder_and_a_file_are_refused() {
        let home = tempfile::tempdir().unwrap();
        let refused = Folder::stage(&home.path().join("no/site")).err().unwrap().to_string();
        assert!(refused.contains("does not exist"), "{refused}");
        fs::write(home.path().join("file"), "").unwrap();
        assert!(Folder::stage(&home.path().join("file")).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn secrets_are_for_their_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::stage(&home.path().join("site")).unwrap();
        folder.add_secret("key.pem", "text").unwrap();
        let mode = fs::metadata(folder.path().join("key.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
