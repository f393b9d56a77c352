//! A running connection point reads its file again when it is asked to.

use std::path::{Path, PathBuf};
use std::pin::pin;

use anyhow::{Context as _, anyhow};
use relay_core::config::{LoadedConnectionPoint, load_connection_point};
use relay_core::connection_point::{ConnectionPoint, Update, UpdateError};
use relay_core::link::DrainReport;

use super::signals::{Reloads, Stop};
use super::{log_warnings, variable};

/// A connection point and the file it was made from.
pub(super) struct Reloadable {
    pub(super) role: ConnectionPoint,
    pub(super) file: PathBuf,
    /// What the file said at start of what cannot change while the role runs.
    pub(super) fixed: Fixed,
}

/// What cannot change while a connection point runs, and is compared to say so.
#[derive(Eq, PartialEq)]
pub(super) struct Fixed {
    name: String,
    site: String,
}

impl Fixed {
    pub(super) fn of(loaded: &LoadedConnectionPoint) -> Self {
        Self { name: loaded.config.name.clone(), site: loaded.config.site.clone() }
    }
}

impl Reloadable {
    /// Runs the role until it has stopped, and reads its file again whenever that is asked for.
    pub(super) async fn run(self, mut reloads: Reloads, stop: Stop) -> DrainReport {
        let mut running = pin!(self.role.clone().run(stop));
        loop {
            tokio::select! {
                report = &mut running => return report,
                () = reloads.next() => {}
            }
            // The role goes on while the file is read.
            tokio::select! {
                report = &mut running => return report,
                applied = self.reload() => self.report(applied),
            }
        }
    }

    /// Applies the file as it is now, if all of it can be used.
    async fn reload(&self) -> anyhow::Result<Applied> {
        let file = self.file.clone();
        let loading = move || load_connection_point(&file, &variable);
        let loaded =
            tokio::task::spawn_blocking(loading).await.context("cannot read the file")??;
        if Fixed::of(&loaded) != self.fixed {
            return Err(anyhow!("`name` and `site` cannot change while it runs: start it anew"));
        }
        log_warnings(&loaded.warnings);
        let applied = Applied {
            settings_version: loaded.config.settings_version,
            endpoints: loaded.config.endpoints.len(),
            instances: loaded.config.gateways.len(),
        };
        self.role.update(Update::from(loaded.config)).map_err(|error| explained(&error))?;
        Ok(applied)
    }

    fn report(&self, applied: anyhow::Result<Applied>) {
        let file = shown(&self.file);
        match applied {
            Ok(Applied { settings_version, endpoints, instances }) => tracing::info!(
                file,
                settings_version,
                endpoints,
                instances,
                "endpoints and gateways applied; other keys take effect at the next start"
            ),
            Err(why) => tracing::error!(
                file,
                why = format!("{why:#}"),
                "nothing applied; what was before still holds"
            ),
        }
    }
}

/// Why nothing was applied, and what to do where the role cannot know it.
fn explained(error: &UpdateError) -> anyhow::Error {
    let help = match error {
        UpdateError::Version { .. } => {
            "; the version is the time of the file's last change, unless [settings] says another"
        }
        _ => "",
    };
    anyhow!("{error}{help}")
}

/// What a file has brought.
struct Applied {
    settings_version: u64,
    endpoints: usize,
    instances: usize,
}

fn shown(file: &Path) -> String {
    file.display().to_string()
}
