//! A running connection point reads its file again when it is asked to.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, anyhow};
use relay_core::config::{
    BackendFiles, ClientFiles, IdentityPaths, LoadedConnectionPoint, SiteTokens, TelemetryConfig,
    Warning,
};
use relay_core::connection_point::{ConnectionPoint, ConnectionPointConfig, Update, UpdateError};
use relay_core::link::DrainReport;
use relay_core::settings::TenantTrust;
use tokio::task::spawn_blocking;
use tokio::time::{Interval, MissedTickBehavior};

use super::client_files::{BackendCertificates, Watched};
use super::config_file::{self, ConfigFile};
use super::load;
use super::log_warnings;
use super::material::{Contents, contents};
use super::signals::{Reloads, Stop};
use super::slot::{Event, Slot};
use super::supervisor::{Reloading, Supervisor};
use super::token_service::Beside;
use crate::expiry::{Named, Places};
use crate::site::{Looked, TokensState, Watch};

/// How often it is looked whether the site has blocked a token, or signs with another key.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often the files are looked at that say whose clients count. Our choice: as often as those
/// that TLS is made from.
const FILES_EVERY: Duration = Duration::from_mins(1);

/// How often its own file is looked at. What has changed is read at the second look that finds the
/// same in it, so that half of what an editor writes is not.
const FILE_EVERY: Duration = Duration::from_secs(1);

/// A connection point and the file it was made from.
pub(super) struct Reloadable {
    pub(super) role: ConnectionPoint,
    pub(super) file: PathBuf,
    /// What was seen of it.
    pub(super) seen: ConfigFile,
    /// What the file said at start of what cannot change while the role runs.
    pub(super) fixed: Arc<Fixed>,
    /// What the file says that can, and the site's tokens.
    pub(super) said: Said,
    /// Whether the latter are published.
    pub(super) tokens: TokensState,
    /// What the file names of whose clients count.
    pub(super) client_files: Watched,
    /// What the file names of certificates of backends.
    pub(super) backend_certificates: BackendCertificates,
    /// Where that is looked for which ends.
    pub(super) places: Places,
    /// The service that issues those tokens, if there is one.
    pub(super) service: Beside,
    /// Who is told that the file is read again.
    pub(super) supervisor: Supervisor,
}

/// What is read beside a role that runs. Nothing of it waits for anything else of it: a file that
/// cannot be read keeps no block from being published.
struct Jobs {
    look_at: Interval,
    files_at: Interval,
    file_at: Interval,
    /// A look at the file itself.
    file: Slot<Contents>,
    /// A look at the site's tokens, and whose it is.
    look: Slot<(Arc<Mutex<Watch>>, anyhow::Result<Looked>)>,
    /// The file, or what it names.
    load: Slot<Read>,
    /// Whether the file is to be read anew after that.
    again: bool,
    /// While somebody waits for that.
    told: Option<Reloading>,
    /// Why the file could not be used when it was read last: what it names may be there by now.
    failed: Option<String>,
    /// The token service as it reads what it shows.
    service: Slot<()>,
    /// The tenants that it is to have next.
    tenants: Option<Vec<TenantTrust>>,
}

impl Jobs {
    fn new() -> Self {
        let interval = |every| {
            let mut interval = tokio::time::interval(every);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        };
        Self {
            look_at: interval(LOOK_EVERY),
            files_at: interval(FILES_EVERY),
            file_at: interval(FILE_EVERY),
            file: Slot::default(),
            look: Slot::default(),
            load: Slot::default(),
            again: false,
            told: None,
            failed: None,
            service: Slot::default(),
            tenants: None,
        }
    }

    /// Has the token service go by the tenants that are published now.
    fn serve(&mut self, service: &Beside) {
        if !self.service.is_free() {
            return;
        }
        if let Some(tenants) = self.tenants.take() {
            let service = service.clone();
            // What it reads cannot be used at worst, and it has told so.
            self.service.take_on(|| spawn_blocking(move || service.reload(tenants)));
        }
    }
}

/// What was read.
enum Read {
    /// What is in the files that say whose clients count, and in those of backends.
    Named(Contents, Contents),
    /// The file, with this in it, and all that it names.
    File(Cause, Contents, anyhow::Result<Box<FileRead>>),
}

/// Why the file is read.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Cause {
    /// Somebody has asked for it, or has changed it.
    Asked,
    /// It could not be used, and is tried again.
    Again,
    /// What it names has changed.
    Changed,
}

/// A file that can be used.
struct FileRead {
    loaded: LoadedConnectionPoint,
    text: String,
    /// The site's tokens, if the file names others than before.
    tokens: Option<Tokens>,
}

impl FileRead {
    /// Reads the file, and judges all of it. Blocks.
    fn of(file: &Path, fixed: &Fixed, known: Option<&SiteTokens>) -> anyhow::Result<Box<Self>> {
        let text = config_file::text(file);
        let loaded = load::connection_point(file)?;
        if let Some(why) = fixed.refusal(&Fixed::of(&loaded)) {
            return Err(anyhow!(why));
        }
        let other = loaded.tokens.clone().filter(|named| Some(named) != known);
        let tokens = other.map(Tokens::first).transpose()?;
        Ok(Box::new(Self { loaded, text, tokens }))
    }
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
    /// Whose tokens they are.
    of: SiteTokens,
    watch: Arc<Mutex<Watch>>,
    now: Looked,
}

impl Tokens {
    /// Looks for the first time. Blocks.
    fn first(of: SiteTokens) -> anyhow::Result<Self> {
        let watch = Arc::new(Mutex::new(Watch::new(of.clone())));
        let now = look(&watch).context("cannot use what the site makes its tokens with")?;
        Ok(Self { of, watch, now })
    }
}

/// What is to be published now. Blocks.
fn look(watch: &Mutex<Watch>) -> anyhow::Result<Looked> {
    watch.lock().unwrap_or_else(PoisonError::into_inner).look()
}

impl Said {
    /// What a file says, with what is to be published of the tokens that it names. Blocks.
    pub(super) fn new(
        config: ConnectionPointConfig,
        tokens: Option<SiteTokens>,
    ) -> anyhow::Result<Self> {
        let tokens = tokens.map(Tokens::first).transpose()?;
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
pub(super) struct Fixed {
    name: String,
    site: String,
    service: Option<FixedService>,
    telemetry: Option<TelemetryConfig>,
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
        let (name, site) = (loaded.config.name.clone(), loaded.config.site.clone());
        Self { name, site, service, telemetry: loaded.telemetry.clone() }
    }

    /// Why this cannot take the place of what was at start, if it cannot.
    fn refusal(&self, now: &Self) -> Option<&'static str> {
        if (&self.name, &self.site) != (&now.name, &now.site) {
            return Some("`name` and `site` cannot change while it runs: start it anew");
        }
        let is_told_the_same = match (&self.telemetry, &now.telemetry) {
            (Some(before), Some(now)) => before.is_written_as(now),
            (None, None) => true,
            _ => false,
        };
        if !is_told_the_same {
            return Some("`[telemetry]` cannot change while it runs: start it anew");
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
        let mut jobs = Jobs::new();
        self.said.tell(&self.tokens);
        loop {
            // The role goes on while files are read.
            tokio::select! {
                report = &mut running => return report,
                () = self.step(&mut jobs, &mut reloads) => {}
            }
        }
    }

    /// Waits for what is to be done next, and does it: work that blocks is begun, or was done.
    async fn step(&mut self, jobs: &mut Jobs, reloads: &mut Reloads) {
        tokio::select! {
            () = reloads.next() => self.ask(jobs),
            _ = jobs.look_at.tick() => self.begin_look(jobs),
            _ = jobs.file_at.tick() => {
                let file = [self.file.clone()];
                jobs.file.take_on(|| spawn_blocking(move || contents(&file)));
            }
            event = jobs.file.next() => self.saw_file(jobs, event),
            _ = jobs.files_at.tick() => self.begin_look_at_what_is_named(jobs),
            event = jobs.look.next() => self.looked(event),
            event = jobs.load.next() => self.loaded(jobs, event),
            event = jobs.service.next() => {
                if let Event::Late(since) = event {
                    tell_late("certificate and key of the token service", since);
                }
                jobs.serve(&self.service);
            }
        }
    }

    fn begin_look(&self, jobs: &mut Jobs) {
        if let Some(tokens) = &self.said.tokens {
            let watch = Arc::clone(&tokens.watch);
            jobs.look.take_on(|| {
                spawn_blocking(move || {
                    let looked = look(&watch);
                    (watch, looked)
                })
            });
        }
    }

    /// Publishes what has changed of the site's tokens; says why it cannot, for as long as that is.
    fn looked(&mut self, event: Event<(Arc<Mutex<Watch>>, anyhow::Result<Looked>)>) {
        let done = match event {
            Event::Late(since) => return tell_late("the site's tokens", since),
            Event::Done(done) => done.map_err(anyhow::Error::from),
        };
        let published = done.and_then(|(watch, looked)| {
            let is_current = |tokens: &Tokens| Arc::ptr_eq(&tokens.watch, &watch);
            // The file names others meanwhile.
            if !self.said.tokens.as_ref().is_some_and(is_current) {
                return Ok(());
            }
            self.publish_tokens(looked?)
        });
        match published {
            Ok(()) => self.said.tell(&self.tokens),
            Err(why) => self.tokens.failed(&why),
        }
    }

    fn publish_tokens(&mut self, now: Looked) -> anyhow::Result<()> {
        let Some(tokens) = &mut self.said.tokens else { return Ok(()) };
        if now.published == tokens.now.published {
            tokens.now = now;
            return Ok(());
        }
        let tokens = Tokens { now, ..tokens.clone() };
        let published = tokens.now.published.as_ref();
        let revision = published.map(|it| it.revision);
        let blocked = published.map(|it| it.blocked.len());
        let said = Said { file: self.said.file.clone(), tokens: Some(tokens) };
        self.role.update(said.update()).map_err(|error| explained(&error))?;
        self.said = said;
        tracing::info!(revision, blocked, "tokens: blocks and signing keys published");
        Ok(())
    }

    /// Tries the file again if it could not be used, for what it names may have come since.
    fn begin_look_at_what_is_named(&self, jobs: &mut Jobs) {
        if jobs.failed.is_none() {
            self.begin_look_at_files(jobs);
        } else if jobs.load.is_free() {
            self.begin_load(jobs, Cause::Again);
        }
    }

    /// Looks at the files that say whose clients count, and at those of backends; what has changed
    /// is read then.
    fn begin_look_at_files(&self, jobs: &mut Jobs) {
        let clients = self.client_files.files().to_vec();
        let backends = self.backend_certificates.files().to_vec();
        if !(clients.is_empty() && backends.is_empty()) {
            let looking = move || Read::Named(contents(&clients), contents(&backends));
            jobs.load.take_on(|| spawn_blocking(looking));
        }
    }

    /// Reads the file if it has changed, and is not being changed any more.
    fn saw_file(&mut self, jobs: &mut Jobs, event: Event<Contents>) {
        match event {
            Event::Late(since) => tell_late("the file", since),
            Event::Done(Err(why)) => self.report(Err(why.into())),
            Event::Done(Ok(now)) if self.seen.saw(now) => self.ask(jobs),
            Event::Done(Ok(_)) => {}
        }
    }

    /// Has the file be read, and the supervisor know.
    fn ask(&self, jobs: &mut Jobs) {
        jobs.again = true;
        jobs.told.get_or_insert_with(|| self.supervisor.reloading());
        self.read_again(jobs);
    }

    /// Reads the file as soon as nothing else is being read, if that was asked for.
    fn read_again(&self, jobs: &mut Jobs) {
        if jobs.again && jobs.load.is_free() {
            jobs.again = false;
            self.begin_load(jobs, Cause::Asked);
        }
    }

    fn begin_load(&self, jobs: &mut Jobs, cause: Cause) {
        let (file, fixed) = (self.file.clone(), Arc::clone(&self.fixed));
        let known = self.said.tokens.as_ref().map(|tokens| tokens.of.clone());
        let loading = move || {
            let now = contents(std::slice::from_ref(&file));
            Read::File(cause, now, FileRead::of(&file, &fixed, known.as_ref()))
        };
        jobs.load.take_on(|| spawn_blocking(loading));
    }

    /// Goes on with what was read: applies the file, if all of it can be used. Of what has changed
    /// without anybody's asking each failure is told once, and tried again.
    fn loaded(&mut self, jobs: &mut Jobs, event: Event<Read>) {
        match event {
            Event::Late(since) => tell_late("the file, or what it names", since),
            Event::Done(Err(why)) => self.report(Err(why.into())),
            Event::Done(Ok(Read::Named(clients, backends))) => {
                let are_new = self.client_files.saw(clients);
                if self.backend_certificates.saw(backends) {
                    self.begin_load(jobs, Cause::Again);
                } else if are_new {
                    self.begin_load(jobs, Cause::Changed);
                }
            }
            Event::Done(Ok(Read::File(cause @ (Cause::Asked | Cause::Again), now, read))) => {
                self.seen.was_read(now);
                let applied = read.and_then(|read| {
                    let (loaded, said) = self.judge(*read);
                    self.apply(jobs, loaded, said)
                });
                let failed = applied.as_ref().err().map(|why| format!("{why:#}"));
                let is_news = cause == Cause::Asked || failed.is_none() || failed != jobs.failed;
                jobs.failed = failed;
                if is_news {
                    self.report(applied);
                }
            }
            Event::Done(Ok(Read::File(Cause::Changed, _, read))) => self.changed(jobs, read),
        }
        self.read_again(jobs);
        if jobs.load.is_free() {
            jobs.told = None;
        }
    }

    fn changed(&mut self, jobs: &mut Jobs, read: anyhow::Result<Box<FileRead>>) {
        let outcome = match read.map(|read| self.judge(*read)) {
            // As when it was read: what is in force already is no news.
            Ok((_, said)) if said.says_of_clients_as(&self.said) => None,
            Ok((loaded, said)) => Some(self.apply(jobs, loaded, said)),
            Err(why) => Some(Err(why)),
        };
        if matches!(outcome, Some(Ok(_))) {
            jobs.failed = None;
        }
        let failure = outcome.as_ref().and_then(|it| it.as_ref().err());
        let is_news = self.client_files.tried(failure.map(|why| format!("{why:#}")));
        if let Some(outcome) = outcome.filter(|it| it.is_ok() || is_news) {
            self.report(outcome);
        }
    }

    /// What a file has to be published, with the tokens as they were seen last.
    fn judge(&self, read: FileRead) -> (Loaded, Said) {
        let FileRead { mut loaded, text, tokens } = read;
        self.service.publish(&mut loaded);
        let ends = Named::of(&loaded);
        let LoadedConnectionPoint {
            config,
            tokens: named,
            client_files,
            backend_files,
            warnings,
            ..
        } = loaded;
        let tokens = named.and_then(|_| tokens.or_else(|| self.said.tokens.clone()));
        (
            Loaded { client_files, backend_files, named: ends, warnings, text },
            Said { file: Update::from(config), tokens },
        )
    }

    fn apply(&mut self, jobs: &mut Jobs, loaded: Loaded, said: Said) -> anyhow::Result<Applied> {
        let update = said.update();
        let mut applied = Applied {
            changed: String::new(),
            settings_version: update.settings_version,
            endpoints: update.endpoints.len(),
            instances: update.gateways.len(),
        };
        let tenants = update.clients.as_ref().map(|it| it.tenants.clone()).unwrap_or_default();
        self.role.update(update).map_err(|error| explained(&error))?;
        // Not before: what fails is tried again each minute.
        log_warnings(&loaded.warnings);
        applied.changed = self.seen.applied(loaded.text);
        self.said = said;
        self.places.set(loaded.named);
        self.client_files.read_again(loaded.client_files);
        self.backend_certificates.read_again(&loaded.backend_files);
        jobs.tenants = Some(tenants);
        jobs.serve(&self.service);
        Ok(applied)
    }

    fn report(&self, applied: anyhow::Result<Applied>) {
        let file = shown(&self.file);
        match applied {
            Ok(Applied { changed, settings_version, endpoints, instances }) => tracing::info!(
                file,
                changed,
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

/// Says that something is still being read. Whoever waits for it has to look why.
pub(super) fn tell_late(what: &str, since: SystemTime) {
    let since = time::OffsetDateTime::from(since).to_string();
    tracing::warn!(what, since, "still reading; all that does not depend on it goes on");
}

/// Why nothing was applied, and what to do where the role cannot know it.
fn explained(error: &UpdateError) -> anyhow::Error {
    let help = match error {
        UpdateError::Version { .. } => {
            "; the version is the time of the last change of the file, of one that it names in \
             [clients] and [[tenant]], or of a link on the way there, unless [settings] says \
             another: touch the file, or raise `version` there"
        }
        _ => "",
    };
    anyhow!("{error}{help}")
}

/// What a file says besides what is published.
struct Loaded {
    client_files: ClientFiles,
    backend_files: Vec<BackendFiles>,
    /// What of it ends.
    named: Named,
    warnings: Vec<Warning>,
    text: String,
}

/// What a file has brought.
struct Applied {
    /// Which keys of it are others than before.
    changed: String,
    settings_version: u64,
    endpoints: usize,
    instances: usize,
}

pub(super) fn shown(file: &Path) -> String {
    file.display().to_string()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::{CommandFactory as _, FromArgMatches as _};

    use super::*;

    mod keys;

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
        let (seen, loaded) = ConfigFile::first(&file, || load::connection_point(&file).unwrap());
        let fixed = Arc::new(Fixed::of(&loaded));
        let said = Said::new(loaded.config.clone(), loaded.tokens).unwrap();
        let role = ConnectionPoint::new(super::super::with(loaded.config, said.update())).unwrap();
        let client_files = Watched::new(loaded.client_files);
        let backend_certificates = BackendCertificates::new(&loaded.backend_files);
        let service = Beside::default();
        let tokens = TokensState::default();
        let places = Places::default();
        Reloadable {
            role,
            file,
            seen,
            fixed,
            said,
            tokens,
            client_files,
            backend_certificates,
            places,
            service,
            supervisor: Supervisor::default(),
        }
    }

    /// What happens each minute, to its end.
    async fn look_at_client_files(point: &mut Reloadable) {
        look_at_files(point, &mut Jobs::new()).await;
    }

    async fn look_at_files(point: &mut Reloadable, jobs: &mut Jobs) {
        point.begin_look_at_what_is_named(jobs);
        while !jobs.load.is_free() {
            let event = jobs.load.next().await;
            point.loaded(jobs, event);
        }
    }

    #[tokio::test]
    async fn a_certificate_of_a_backend_that_changes_is_read_and_tried_until_it_can_be_used() {
        let home = tempfile::tempdir().unwrap();
        let mut point = connection_point(home.path());
        let authority = point.file.with_file_name("backend-ca.pem");
        fs::copy(point.file.with_file_name("site-ca.pem"), &authority).unwrap();
        let text = fs::read_to_string(&point.file).unwrap();
        let backend = "backend = \"http://127.0.0.1:8080\"";
        assert!(text.contains(backend), "{text}");
        let named = "backend = \"https://mp.site\"\nbackend_ca = \"backend-ca.pem\"";
        fs::write(&point.file, text.replacen(backend, named, 1)).unwrap();
        let mut jobs = Jobs::new();
        point.begin_load(&mut jobs, Cause::Asked);
        look_at_files(&mut point, &mut jobs).await;
        look_at_files(&mut point, &mut jobs).await;
        assert_eq!(jobs.failed, None);

        let good = fs::read(&authority).unwrap();
        fs::write(&authority, "broken").unwrap();
        look_at_files(&mut point, &mut jobs).await;
        let failed = jobs.failed.clone().expect("it cannot be used");
        assert!(failed.contains("backend-ca.pem"), "{failed}");
        look_at_files(&mut point, &mut jobs).await;
        assert_eq!(jobs.failed.as_ref(), Some(&failed), "it is tried again");
        fs::write(&authority, good).unwrap();
        look_at_files(&mut point, &mut jobs).await;
        assert_eq!(jobs.failed, None);
    }

    #[tokio::test]
    async fn a_file_that_is_never_read_to_its_end_keeps_nothing_else_from_being_published() {
        let home = tempfile::tempdir().unwrap();
        let mut point = connection_point(home.path());
        let (mut jobs, mut reloads) = (Jobs::new(), Reloads::install().unwrap());
        jobs.load.take_on(|| tokio::spawn(std::future::pending()));
        assert!(point.said.update().clients.unwrap().tokens.is_none());
        let tokens = point.said.tokens.as_ref().unwrap().of.clone();
        spawn_blocking(move || crate::site::issue(&tokens, 60).unwrap()).await.unwrap();
        jobs.again = true;
        point.read_again(&mut jobs);
        assert!(jobs.again, "it is read after what is being read");
        let published = async {
            while point.tokens.read().published.is_none() {
                point.step(&mut jobs, &mut reloads).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), published).await.unwrap();
        assert!(!jobs.load.is_free());
        let published = point.said.update().clients.unwrap().tokens.unwrap();
        assert_eq!(published.certificates.len(), 1);
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
        look_at_client_files(&mut point).await;
        assert_eq!((roots(&point), point.said.file.settings_version), (1, version), "no news");

        let file = point.file.with_file_name("clients-ca.pem");
        let good = fs::read_to_string(&file).unwrap();
        fs::write(&file, "broken").unwrap();
        look_at_client_files(&mut point).await;
        assert_eq!((roots(&point), point.said.file.settings_version), (1, version));

        // Now another file cannot be used; it is tried again until that is repaired.
        fs::write(&file, format!("{good}{good}")).unwrap();
        let later = SystemTime::now() + Duration::from_secs(1);
        fs::File::options().append(true).open(&file).unwrap().set_modified(later).unwrap();
        let list = point.file.with_file_name("site-ca.crl");
        let kept = fs::read(&list).unwrap();
        fs::remove_file(&list).unwrap();
        look_at_client_files(&mut point).await;
        assert_eq!(roots(&point), 1);
        fs::write(&list, kept).unwrap();
        look_at_client_files(&mut point).await;
        assert_eq!(roots(&point), 2);
        assert!(point.said.file.settings_version > version);
        let (published, _) = (point.said.update(), point.role.published());
        assert_eq!(published.clients, point.said.file.clients);
    }
}
