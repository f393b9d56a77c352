//! A running connection point reads its file again when it is asked to.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, anyhow};
use relay_core::config::{
    ClientFiles, IdentityPaths, LoadedConnectionPoint, SiteTokens, Warning, load_connection_point,
};
use relay_core::connection_point::{ConnectionPoint, ConnectionPointConfig, Update, UpdateError};
use relay_core::link::DrainReport;
use tokio::time::MissedTickBehavior;

use super::client_files::Watched;
use super::signals::{Reloads, Stop};
use super::token_service::Beside;
use super::{log_warnings, variable};
use crate::site::{Looked, TokensState, Watch};

/// How often it is looked whether the site has blocked a token, or signs with another key.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often the files are looked at that say whose clients count. Our choice: as often as those
/// that TLS is made from.
const FILES_EVERY: Duration = Duration::from_mins(1);

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
    /// What the file names of whose clients count.
    pub(super) client_files: Watched,
    /// The service that issues those tokens, if there is one.
    pub(super) service: Beside,
}

/// What is to be done.
enum Work {
    /// Look whether what is published of the site's tokens has changed.
    Tokens,
    /// Look at the files that say whose clients count.
    ClientFiles,
    /// Read the file.
    File,
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
    now: Looked,
}

impl Tokens {
    /// What is to be published now. Blocks.
    fn look(watch: &Mutex<Watch>) -> anyhow::Result<Looked> {
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
            state.published(&tokens.now);
        }
    }

    /// Whether both say the same of whose clients count, by the file's version too.
    fn says_of_clients_as(&self, other: &Self) -> bool {
        self.file.clients == other.file.clients
            && self.file.settings_version == other.file.settings_version
    }

    /// All of it. Its version is the file's; what is said of the site's tokens has its revision.
    pub(super) fn update(&self) -> Update {
        let mut update = self.file.clone();
        let now = self.tokens.as_ref().and_then(|tokens| tokens.now.published.as_ref());
        if let (Some(clients), Some(now)) = (&mut update.clients, now) {
            clients.tokens = Some(now.clone());
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
        let mut file_looks = tokio::time::interval(FILES_EVERY);
        file_looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.said.tell(&self.tokens);
        loop {
            let work = tokio::select! {
                report = &mut running => return report,
                () = reloads.next() => Work::File,
                _ = looks.tick(), if self.said.tokens.is_some() => Work::Tokens,
                _ = file_looks.tick() => Work::ClientFiles,
            };
            let work = async {
                match work {
                    Work::Tokens => self.look().await,
                    Work::ClientFiles => self.look_at_client_files().await,
                    Work::File => {
                        let applied = self.reload().await;
                        self.report(applied);
                    }
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

    /// Applies the file, if what it names of whose clients count has changed, and tries again where
    /// that failed. What fails, and that a list ends, is told once.
    async fn look_at_client_files(&mut self) {
        if self.client_files.have_changed().await {
            let outcome = match self.load().await {
                // As when it was read: what is in force already is no news.
                Ok((_, said)) if said.says_of_clients_as(&self.said) => None,
                Ok((loaded, said)) => Some(self.apply(loaded, said).await),
                Err(why) => Some(Err(why)),
            };
            let failure = outcome.as_ref().and_then(|it| it.as_ref().err());
            let is_news = self.client_files.tried(failure.map(|why| format!("{why:#}")));
            if let Some(outcome) = outcome.filter(|it| it.is_ok() || is_news) {
                self.report(outcome);
            }
        }
        log_warnings(&self.client_files.news(SystemTime::now()));
    }

    async fn publish_tokens(&mut self) -> anyhow::Result<()> {
        let Some(Tokens { watch, now: before }) = self.said.tokens.clone() else { return Ok(()) };
        let looking = Arc::clone(&watch);
        let now = tokio::task::spawn_blocking(move || Tokens::look(&looking)).await??;
        if now.published == before.published {
            self.said.tokens = Some(Tokens { watch, now });
            return Ok(());
        }
        let published = now.published.as_ref();
        let revision = published.map(|it| it.revision);
        let blocked = published.map(|it| it.blocked.len());
        let said = Said { file: self.said.file.clone(), tokens: Some(Tokens { watch, now }) };
        self.role.update(said.update()).map_err(|error| explained(&error))?;
        self.said = said;
        tracing::info!(revision, blocked, "tokens: blocks and signing keys published");
        Ok(())
    }

    /// Applies the file as it is now, if all of it can be used.
    async fn reload(&mut self) -> anyhow::Result<Applied> {
        let (loaded, said) = self.load().await?;
        self.apply(loaded, said).await
    }

    /// Reads the file, and judges all of it.
    async fn load(&self) -> anyhow::Result<(Loaded, Said)> {
        let file = self.file.clone();
        let loading = move || load_connection_point(&file, &variable);
        let mut loaded =
            tokio::task::spawn_blocking(loading).await.context("cannot read the file")??;
        if let Some(why) = self.fixed.refusal(&Fixed::of(&loaded)) {
            return Err(anyhow!(why));
        }
        self.service.publish(&mut loaded);
        let LoadedConnectionPoint { config, tokens, client_files, warnings, .. } = loaded;
        let before = self.said.clone();
        let reading = move || Said::new(config, tokens, Some(&before));
        let said = tokio::task::spawn_blocking(reading);
        let said = said.await.context("cannot read the site's tokens")??;
        Ok((Loaded { client_files, warnings }, said))
    }

    async fn apply(&mut self, loaded: Loaded, said: Said) -> anyhow::Result<Applied> {
        let update = said.update();
        let applied = Applied {
            settings_version: update.settings_version,
            endpoints: update.endpoints.len(),
            instances: update.gateways.len(),
        };
        let tenants = update.clients.as_ref().map(|it| it.tenants.clone()).unwrap_or_default();
        self.role.update(update).map_err(|error| explained(&error))?;
        // Not before: what fails is tried again each minute.
        log_warnings(&loaded.warnings);
        self.said = said;
        self.client_files.read_again(loaded.client_files);
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

/// What a file says besides what is published.
struct Loaded {
    client_files: ClientFiles,
    warnings: Vec<Warning>,
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

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::{CommandFactory as _, FromArgMatches as _};

    use super::*;

    /// A connection point of a fresh site in `home`, whose clients count by certificate.
    fn connection_point(home: &Path) -> Reloadable {
        let site = home.join("site");
        let command = crate::cli::Cli::command();
        let init = command.find_subcommand("init").unwrap().clone();
        let line = ["init", site.to_str().unwrap(), "--backend", "http://127.0.0.1:8080"];
        let args = crate::init::Args::from_arg_matches(&init.get_matches_from(line)).unwrap();
        assert!(crate::init::run(&args).is_ok());
        let folder = site.join("connection-point");
        fs::copy(folder.join("site-ca.pem"), folder.join("clients-ca.pem")).unwrap();
        fs::copy(folder.join("site-ca.crl"), folder.join("clients-ca.crl")).unwrap();
        let file = folder.join("connection-point.toml");
        let text = fs::read_to_string(&file).unwrap();
        let clients = "\n[clients]\nroots = \"clients-ca.pem\"\n\
                       revocation_lists = [\"clients-ca.crl\"]\n";
        let text = text.replace("\nunsafe_allow_anonymous = true\n", "\n") + clients;
        fs::write(&file, text).unwrap();
        let loaded = load_connection_point(&file, &variable).unwrap();
        let fixed = Fixed::of(&loaded);
        let said = Said::new(loaded.config.clone(), loaded.tokens, None).unwrap();
        let role = ConnectionPoint::new(super::super::with(loaded.config, said.update())).unwrap();
        let client_files = Watched::new(loaded.client_files);
        let service = Beside::default();
        let tokens = TokensState::default();
        Reloadable { role, file, fixed, said, tokens, client_files, service }
    }

    fn roots(point: &Reloadable) -> usize {
        let clients = point.said.file.clients.as_ref().unwrap();
        clients.certificates.as_ref().unwrap().roots.len()
    }

    #[tokio::test]
    async fn authorities_that_change_are_published_and_those_before_stay_where_they_cannot_be_used()
    {
        let home = tempfile::tempdir().unwrap();
        let mut point = connection_point(home.path());
        let version = point.said.file.settings_version;
        point.look_at_client_files().await;
        assert_eq!((roots(&point), point.said.file.settings_version), (1, version), "no news");

        let file = point.file.with_file_name("clients-ca.pem");
        let good = fs::read_to_string(&file).unwrap();
        fs::write(&file, "broken").unwrap();
        point.look_at_client_files().await;
        assert_eq!((roots(&point), point.said.file.settings_version), (1, version));

        // Now another file cannot be used; it is tried again until that is repaired.
        fs::write(&file, format!("{good}{good}")).unwrap();
        let later = SystemTime::now() + Duration::from_secs(1);
        fs::File::options().append(true).open(&file).unwrap().set_modified(later).unwrap();
        let list = point.file.with_file_name("site-ca.crl");
        let kept = fs::read(&list).unwrap();
        fs::remove_file(&list).unwrap();
        point.look_at_client_files().await;
        assert_eq!(roots(&point), 1);
        fs::write(&list, kept).unwrap();
        point.look_at_client_files().await;
        assert_eq!(roots(&point), 2);
        assert!(point.said.file.settings_version > version);
        let (published, _) = (point.said.update(), point.role.published());
        assert_eq!(published.clients, point.said.file.clients);
    }
}
