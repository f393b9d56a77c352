//! Content in a folder: what an instance gives to clients, and how it gets there.
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

mod command;
mod put;
mod shelf;
mod store;

pub(crate) use command::{Command, EXAMPLES, run};
pub(crate) use store::FolderStore;
