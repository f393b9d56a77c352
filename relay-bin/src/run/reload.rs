//! A running connection point reads its file again when it is asked to.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use relay_core::config::{IdentityPaths, LoadedConnectionPoint, SiteTokens, load_connection_point};
use relay_core::connection_point::{ConnectionPoint, ConnectionPointConfig, Update, UpdateError};
use relay_core::link::DrainReport;
use tokio::time::MissedTickBehavior;

use super::signals::{Reloads, Stop};
use super::token_service::Beside;
use super::{log_warnings, variable};
use crate::site::{Published, published};

/// How often it is looked whether the site has blocked a token, or signs with another key.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A connection point and the file it was made from.
pub(super) struct Reloadable {
    pub(super) role: ConnectionPoint,
    pub(super) file: PathBuf,
    /// What the file said at start of what cannot change while the role runs.
    pub(super) fixed: Fixed,
    /// What the file says that can, and the site's tokens.
    pub(super) said: Said,
    /// The service that issues those, if there is one.
    pub(super) service: Beside,
}

/// What is published: what the file says, and what the site says of its tokens.
#[derive(Clone)]
pub(super) struct Said {
    file: Update,
    tokens: Option<(SiteTokens, Option<Published>)>,
}

impl Said {
    /// What a file says, with what is to be published of the tokens that it names. Blocks.
    pub(super) fn new(
        config: ConnectionPointConfig,
        tokens: Option<SiteTokens>,
    ) -> anyhow::Result<Self> {
        let tokens = tokens.map(|it| published(&it).map(|now| (it, now))).transpose();
        let tokens = tokens.context("cannot use what the site makes its tokens with")?;
        Ok(Self { file: Update::from(config), tokens })
    }

    /// All of it: its version rises with the file's and with each change of what tokens count.
    pub(super) fn update(&self) -> Update {
        let mut update = self.file.clone();
        if let (Some(clients), Some((_, Some(now)))) = (&mut update.clients, &self.tokens) {
            clients.tokens.clone_from(&now.signers);
            update.settings_version = update.settings_version.saturating_add(now.revision);
        }
        update
    }
}

/// What cannot change while a connection point runs, and is compared to say so.
#[derive(Eq, PartialEq)]
pub(super) struct Fixed {
    name: String,
    site: String,
    service: Option<FixedService>,
}

/// What cannot change of a token service while it runs.
#[derive(Eq, PartialEq)]
struct FixedService {
    tokens: Option<SiteTokens>,
    intranet: Option<(SocketAddr, Option<IdentityPaths>)>,
    fetches_keys: bool,
}

impl Fixed {
    pub(super) fn of(loaded: &LoadedConnectionPoint) -> Self {
        let service = loaded.token_service.as_ref().map(|service| FixedService {
            tokens: loaded.tokens.clone(),
            intranet: service.intranet.as_ref().map(|it| (it.listen, it.identity.clone())),
            fetches_keys: service.provider_trust.is_some(),
        });
        Self { name: loaded.config.name.clone(), site: loaded.config.site.clone(), service }
    }

    /// Why this cannot take the place of what was at start, if it cannot.
    fn refusal(&self, now: &Self) -> Option<&'static str> {
        if (&self.name, &self.site) != (&now.name, &now.site) {
            return Some("`name` and `site` cannot change while it runs: start it anew");
        }
        (self.service != now.service).then_some(
            "`listen`, `certificate`, `key` and `provider_ca` of `[token_service]`, and with one \
             `[tokens]`, cannot change while it runs: start it anew",
        )
    }
}

impl Reloadable {
    /// Runs the role until it has stopped, and reads its file again whenever that is asked for.
    pub(super) async fn run(mut self, mut reloads: Reloads, stop: Stop) -> DrainReport {
        let mut running = pin!(self.role.clone().run(stop));
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_readable = true;
        loop {
            let is_look = tokio::select! {
                report = &mut running => return report,
                () = reloads.next() => false,
                _ = looks.tick(), if self.said.tokens.is_some() => true,
            };
            let work = async {
                if is_look {
                    self.look(&mut is_readable).await;
                } else {
                    let applied = self.reload().await;
                    self.report(applied);
                }
            };
            // The role goes on while files are read.
            tokio::select! {
                report = &mut running => return report,
                () = work => {}
            }
        }
    }

    /// Publishes what has changed of the site's tokens; says once that it cannot be read.
    async fn look(&mut self, is_readable: &mut bool) {
        let looked = self.publish_tokens().await;
        if let Err(why) = looked.as_ref()
            && *is_readable
        {
            let why = format!("{why:#}");
            tracing::error!(why, "blocks cannot be read or published; those before still hold");
        }
        *is_readable = looked.is_ok();
    }

    async fn publish_tokens(&mut self) -> anyhow::Result<()> {
        let Some((tokens, before)) = self.said.tokens.clone() else { return Ok(()) };
        let read = tokens.clone();
        let now = tokio::task::spawn_blocking(move || published(&read)).await??;
        if now == before {
            return Ok(());
        }
        let revision = now.as_ref().map(|it| it.revision);
        let blocked = now.as_ref().and_then(|it| it.signers.as_ref()).map(|it| it.blocked.len());
        let said = Said { file: self.said.file.clone(), tokens: Some((tokens, now)) };
        self.role.update(said.update()).map_err(|error| explained(&error))?;
        self.said = said;
        tracing::info!(revision, blocked, "tokens: blocks and signing keys published");
        Ok(())
    }

    /// Applies the file as it is now, if all of it can be used.
    async fn reload(&mut self) -> anyhow::Result<Applied> {
        let file = self.file.clone();
        let loading = move || load_connection_point(&file, &variable);
        let mut loaded =
            tokio::task::spawn_blocking(loading).await.context("cannot read the file")??;
        if let Some(why) = self.fixed.refusal(&Fixed::of(&loaded)) {
            return Err(anyhow!(why));
        }
        log_warnings(&loaded.warnings);
        self.service.publish(&mut loaded);
        let said = tokio::task::spawn_blocking(move || Said::new(loaded.config, loaded.tokens));
        let said = said.await.context("cannot read the site's tokens")??;
        let update = said.update();
        let applied = Applied {
            settings_version: update.settings_version,
            endpoints: update.endpoints.len(),
            instances: update.gateways.len(),
        };
        let tenants = update.clients.as_ref().map(|it| it.tenants.clone()).unwrap_or_default();
        self.role.update(update).map_err(|error| explained(&error))?;
        self.said = said;
        let service = self.service.clone();
        // What it reads cannot be used at worst, and it has told so.
        let _ = tokio::task::spawn_blocking(move || service.reload(tenants)).await;
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
