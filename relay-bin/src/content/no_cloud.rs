//! What stands for stores elsewhere in a program that was built without them.

use std::path::Path;
use std::sync::Arc;

use anyhow::bail;
use relay_core::config::CloudConfig;
use relay_core::content::PackageId;
use relay_core::gateway::ContentStore;

use super::put::{Listed, Put};

const WITHOUT: &str = "this program was built without stores elsewhere (feature `cloud`); use one \
                       that has them, or `folder`";

pub(super) fn judge(_: &CloudConfig) -> anyhow::Result<()> {
    bail!(WITHOUT)
}

pub(super) fn reader(_: &CloudConfig) -> anyhow::Result<Arc<dyn ContentStore>> {
    bail!(WITHOUT)
}

pub(super) fn put(_: &CloudConfig, _: &PackageId, _: &Path) -> anyhow::Result<Put> {
    bail!(WITHOUT)
}

pub(super) fn list(_: &CloudConfig) -> anyhow::Result<Vec<Listed>> {
    bail!(WITHOUT)
}

pub(super) fn remove(_: &CloudConfig, _: &PackageId) -> anyhow::Result<()> {
    bail!(WITHOUT)
}
