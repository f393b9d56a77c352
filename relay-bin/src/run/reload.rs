//! A running connection point reads its file again when it is asked to.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use relay_core::config::{LoadedConnectionPoint, SiteTokens, load_connection_point};
use relay_core::connection_point::{ConnectionPoint, ConnectionPointConfig, Update, UpdateError};
use relay_core::link::DrainReport;
use tokio::time::MissedTickBehavior;

use super::signals::{Reloads, Stop};
use super::{log_warnings, variable};
use crate::site::{Published, TokensState, Watch};

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
    /// Whether the latter are published.
    pub(super) tokens: TokensState,
}

/// What is published: what the file says, and what the site says of its tokens.
#[derive(Clone)]
pub(super) struct Said {
    file: Update,
    tokens: Option<Tokens>,
}

/// What the site says of its tokens, and who looks at that.
#[derive(Clone)]
struct Tokens {
    watch: Arc<Mutex<Watch>>,
    now: Option<Published>,
}

impl Tokens {
    /// What is to be published now. Blocks.
    fn look(watch: &Mutex<Watch>) -> anyhow::Result<Option<Published>> {
        watch.lock().unwrap_or_else(PoisonError::into_inner).look()
    }

    /// Whose tokens they are.
    fn of(&self) -> SiteTokens {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner).tokens().clone()
    }
}

impl Said {
    /// What a file says, with what is to be published of the tokens that it names. Blocks. Whoever
    /// has looked at those `before` goes on, and knows what they were.
    pub(super) fn new(
        config: ConnectionPointConfig,
        tokens: Option<SiteTokens>,
        before: Option<&Self>,
    ) -> anyhow::Result<Self> {
        let before = before.and_then(|said| said.tokens.as_ref());
        let look = |tokens: SiteTokens| -> anyhow::Result<Tokens> {
            let same = before.filter(|it| it.of() == tokens).map(|it| Arc::clone(&it.watch));
            let watch = same.unwrap_or_else(|| Arc::new(Mutex::new(Watch::new(tokens))));
            let now = Tokens::look(&watch)?;
            Ok(Tokens { watch, now })
        };
        let tokens = tokens.map(look).transpose();
        let tokens = tokens.context("cannot use what the site makes its tokens with")?;
        Ok(Self { file: Update::from(config), tokens })
    }

    /// Says what is published, for whoever asks `state`.
    pub(super) fn tell(&self, state: &TokensState) {
        if let Some(tokens) = &self.tokens {
            state.published(tokens.now.as_ref());
        }
    }

    /// All of it: its version rises with the file's and with each change of what tokens count.
    pub(super) fn update(&self) -> Update {
        let mut update = self.file.clone();
        if let (Some(clients), Some(Tokens { now: Some(now), .. })) =
            (&mut update.clients, &self.tokens)
        {
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
}

impl Fixed {
    pub(super) fn of(loaded: &LoadedConnectionPoint) -> Self {
        Self { name: loaded.config.name.clone(), site: loaded.config.site.clone() }
    }
}

impl Reloadable {
    /// Runs the role until it has stopped, and reads its file again whenever that is asked for.
    pub(super) async fn run(mut self, mut reloads: Reloads, stop: Stop) -> DrainReport {
        let mut running = pin!(self.role.clone().run(stop));
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.said.tell(&self.tokens);
        loop {
            let is_look = tokio::select! {
                report = &mut running => return report,
                () = reloads.next() => false,
                _ = looks.tick(), if self.said.tokens.is_some() => true,
            };
            let work = async {
                if is_look {
                    self.look().await;
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

    /// Publishes what has changed of the site's tokens; says why it cannot, for as long as that is.
    async fn look(&mut self) {
        match self.publish_tokens().await {
            Ok(()) => self.said.tell(&self.tokens),
            Err(why) => self.tokens.failed(&why),
        }
    }

    async fn publish_tokens(&mut self) -> anyhow::Result<()> {
        let Some(Tokens { watch, now: before }) = self.said.tokens.clone() else { return Ok(()) };
        let looking = Arc::clone(&watch);
        let now = tokio::task::spawn_blocking(move || Tokens::look(&looking)).await??;
        if now == before {
            return Ok(());
        }
        let revision = now.as_ref().map(|it| it.revision);
        let blocked = now.as_ref().and_then(|it| it.signers.as_ref()).map(|it| it.blocked.len());
        let said = Said { file: self.said.file.clone(), tokens: Some(Tokens { watch, now }) };
        self.role.update(said.update()).map_err(|error| explained(&error))?;
        self.said = said;
        tracing::info!(revision, blocked, "tokens: blocks and signing keys published");
        Ok(())
    }

    /// Applies the file as it is now, if all of it can be used.
    async fn reload(&mut self) -> anyhow::Result<Applied> {
        let file = self.file.clone();
        let loading = move || load_connection_point(&file, &variable);
        let loaded =
            tokio::task::spawn_blocking(loading).await.context("cannot read the file")??;
        if Fixed::of(&loaded) != self.fixed {
            return Err(anyhow!("`name` and `site` cannot change while it runs: start it anew"));
        }
        log_warnings(&loaded.warnings);
        let before = self.said.clone();
        let reading = move || Said::new(loaded.config, loaded.tokens, Some(&before));
        let said = tokio::task::spawn_blocking(reading);
        let said = said.await.context("cannot read the site's tokens")??;
        let update = said.update();
        let applied = Applied {
            settings_version: update.settings_version,
            endpoints: update.endpoints.len(),
            instances: update.gateways.len(),
        };
        self.role.update(update).map_err(|error| explained(&error))?;
        self.said = said;
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
