//! Content in a folder, or in a store elsewhere: what an instance gives to clients, and how it gets
//! there.
//!
//! ```text
//! <folder>/PS100012/manifest.json     which files the package has; put there last
//! <folder>/PS100012/<SHA-256>         the octets of a file, by their hash
//! <folder>/.PS100012.lock             held while the package is put or removed
//! ```
//!
//! No name of a package's file is ever one in this folder, so that none can lead out of it; and a
//! file that is named by its hash is whole, whoever was interrupted. Read [`FolderStore`] and
//! [`put`](put::put) first. What a manifest and a grant are is in `relay_core::content`.

#[cfg(feature = "cloud")]
mod cloud;
#[cfg(not(feature = "cloud"))]
#[path = "no_cloud.rs"]
mod cloud;
mod command;
mod kept;
mod put;
mod shelf;
mod store;

use std::sync::Arc;

use relay_core::config::{ConfigError, ContentConfig, ContentPlace};
use relay_core::gateway::ContentStore;

pub(crate) use command::{Command, EXAMPLES, run};
use store::FolderStore;

/// Judges that what is configured can be opened. Nobody is asked.
///
/// # Errors
///
/// [`ConfigError`] at `[content]`.
pub(crate) fn judge(content: Option<&ContentConfig>) -> Result<(), ConfigError> {
    let Some(content) = content.filter(|it| it.is_enabled) else { return Ok(()) };
    let ContentPlace::Cloud(cloud) = &content.store else { return Ok(()) };
    cloud::judge(cloud).map_err(|why| {
        content.refused(
            format!("[content] cannot be used: {why:#}"),
            "see what is written of the store and in the file of its key; with `enabled = false` \
             clients go elsewhere until that is mended",
        )
    })
}

/// The store at `place` as an instance asks it, over the runtime that this is called on.
///
/// # Errors
///
/// What is configured cannot be one.
pub(crate) fn reader(place: &ContentPlace) -> anyhow::Result<Arc<dyn ContentStore>> {
    match place {
        ContentPlace::Folder(folder) => Ok(Arc::new(FolderStore::new(folder.clone()))),
        ContentPlace::Cloud(cloud) => cloud::reader(cloud),
    }
}
