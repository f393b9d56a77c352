//! Content in Azure Blob Storage or S3: signed for clients by an instance, and put there.
//!
//! ```text
//! <prefix>/PS100012/manifest.json     which files the package has; put there last, on condition
//! <prefix>/PS100012/<SHA-256>         the octets of a file, by their hash
//! ```
//!
//! Requests are HTTP/1.1 of our own over the TLS and the provider of all else here: the store's
//! client brings its paths, signatures and errors, and neither sockets nor cryptography. It goes by
//! no proxy and follows nobody elsewhere. Read [`CloudStore`] and [`put()`] first.

mod fault;
mod objects;
mod put;
mod sas;
mod store;
mod wire;

use std::sync::Arc;

use anyhow::Context as _;
use relay_core::config::CloudConfig;
use relay_core::gateway::ContentStore;
use tokio::runtime::Runtime;

use objects::Objects;
pub(super) use put::{list, put, remove};
use store::CloudStore;

/// The store as an instance asks it, over the runtime that this is called on.
///
/// # Errors
///
/// What is configured cannot be one.
pub(super) fn reader(cloud: &CloudConfig) -> anyhow::Result<Arc<dyn ContentStore>> {
    Ok(Arc::new(CloudStore::new(cloud)?))
}

/// Judges that it can be opened.
///
/// # Errors
///
/// As [`reader`].
pub(super) fn judge(cloud: &CloudConfig) -> anyhow::Result<()> {
    Objects::open(cloud, store::PATIENCE).map(drop)
}

/// A runtime for one command.
fn runtime() -> anyhow::Result<Runtime> {
    let built = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    built.context("no runtime can be had")
}
