//! A role's file, judged whole: what is in it, what it names, and what this program can do of it.
//!
//! A start, each reload and `relay check` judge it by these, so that they say the same.

use std::path::Path;

use relay_core::config::{
    ConfigError, LoadedConnectionPoint, LoadedGateway, load_connection_point, load_gateway,
};

use super::variable;
use crate::{content, telemetry};

/// Reads the file of a gateway instance, and judges all of it. Blocks.
///
/// # Errors
///
/// [`ConfigError`] with every fault. What this program cannot do shows once the rest is good.
pub(crate) fn gateway(file: &Path) -> Result<LoadedGateway, ConfigError> {
    let loaded = load_gateway(file)?;
    let content = content::judge(loaded.content.as_ref());
    let telemetry = telemetry::judge(loaded.telemetry.as_ref());
    let faults = [content, telemetry].into_iter().filter_map(Result::err);
    faults.reduce(|all, more| all.and(&more)).map_or(Ok(loaded), Err)
}

/// Reads the file of a connection point, and judges all of it. Blocks.
///
/// # Errors
///
/// As [`gateway`].
pub(crate) fn connection_point(file: &Path) -> Result<LoadedConnectionPoint, ConfigError> {
    let loaded = load_connection_point(file, &variable)?;
    telemetry::judge(loaded.telemetry.as_ref())?;
    Ok(loaded)
}
