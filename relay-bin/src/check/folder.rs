//! The configuration files of a folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use relay_core::config::RoleKind;

/// What a role's file is called in a folder.
const NAMES: [(&str, RoleKind); 2] =
    [("gateway.toml", RoleKind::Gateway), ("connection-point.toml", RoleKind::ConnectionPoint)];

/// The files of `folder` and of the folders in it, each with its role, in the order of their names.
/// Folders whose name begins with a point are passed by: where Kubernetes mounts a file, it is
/// found once more in one of those.
///
/// # Errors
///
/// The folder cannot be read, or there is none in it.
pub(super) fn files(folder: &Path) -> io::Result<Vec<(PathBuf, RoleKind)>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if !is_hidden && entry.path().is_dir() {
            folders.push(entry.path());
        }
    }
    folders.sort();
    folders.insert(0, folder.to_owned());
    let all = folders.iter().flat_map(|at| NAMES.map(|(name, role)| (at.join(name), role)));
    // A link that leads nowhere is one that cannot be read.
    let found: Vec<_> = all.filter(|(file, _)| fs::symlink_metadata(file).is_ok()).collect();
    if found.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "neither this folder nor one in it has a gateway.toml or connection-point.toml",
        ));
    }
    Ok(found)
}
