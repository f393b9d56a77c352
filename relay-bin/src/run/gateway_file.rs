//! A running gateway instance reads its file again, when it has changed or somebody asks for it.
//!
//! All of the file is judged first, with whatever it names; then what may change at once does, as
//! one ([`Gateway::update`]), and what has to wait for a start is named: in the log, and wherever
//! the role's status is shown. Which key is which, `config::GATEWAY_KEYS` says. A file that cannot
//! be used changes nothing, and is tried again each minute: what it names may come. A reload begins
//! in `GatewayFile::begin_load` and ends in `GatewayFile::loaded`, and nowhere else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use relay_core::config::{ContentPlace, KeyChange, LoadedGateway, TakesEffect, gateway_changes};
use relay_core::gateway::{
    ContentStore, Gateway, GatewayConfig, GatewayLimits, GatewayUpdate, MemoryLimit,
};
use tokio::task::spawn_blocking;
use tokio::time::{Interval, MissedTickBehavior};

use super::config_file::{ConfigFile, Whole, read_whole};
use super::load;
use super::material::{Contents, contents};
use super::reload::{shown, tell_late};
use super::signals::Reloads;
use super::slot::{Event, Slot};
use super::supervisor::{Reloading, Supervisor};
use super::{log_warnings, memory};
use crate::admin::Configured;
use crate::content;
use crate::egress::Thresholds;

/// How often the file is looked at. What has changed is read at the second look that finds the
/// same in it, so that half of what an editor writes is not.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often a file that could not be used is tried again, and files are looked at that it names.
const TRY_EVERY: Duration = Duration::from_mins(1);

/// What is made of a file besides its limits, and kept for as long as the file says the same.
pub(super) struct Made {
    /// By its place; kept while none is given, so that it is the same one afterwards.
    store: Option<(ContentPlace, Arc<dyn ContentStore>)>,
    content: Option<Arc<dyn ContentStore>>,
    memory_max: Option<u64>,
    memory: Option<MemoryLimit>,
}

impl Made {
    /// What is made at the start.
    pub(super) fn first(loaded: &LoadedGateway) -> anyhow::Result<Self> {
        let none = Self { store: None, content: None, memory_max: None, memory: None };
        let memory = memory::limit(loaded.memory_max);
        Ok(Self { memory, ..none.next(loaded)? })
    }

    /// What is made of the file as it is now, on the runtime that serves it.
    fn next(&self, loaded: &LoadedGateway) -> anyhow::Result<Self> {
        let mut store = self.store.clone();
        let mut content = None;
        if let Some(asked) = loaded.content.as_ref().filter(|it| it.is_enabled) {
            let kept = store.take().filter(|(place, _)| place.is_as(&asked.store));
            let made = if let Some((_, made)) = kept {
                made
            } else {
                tracing::info!("a store of content is opened, by what its files hold now");
                content::reader(&asked.store).context("[content] cannot be used")?
            };
            content = Some(Arc::clone(&made));
            store = Some((asked.store.clone(), made));
        }
        let memory_max = loaded.memory_max;
        let is_same = memory_max == self.memory_max;
        let memory = if is_same { self.memory.clone() } else { memory::limit(memory_max) };
        Ok(Self { store, content, memory_max, memory })
    }

    /// Whether there is anything in files that the file names, and that is not looked at elsewhere.
    fn names_files(&self) -> bool {
        matches!(self.store, Some((ContentPlace::Cloud(_), _)))
    }

    /// Has a role begin with it.
    pub(super) fn put_in(&self, config: &mut GatewayConfig) {
        config.content.clone_from(&self.content);
        config.limits.memory.clone_from(&self.memory);
    }

    fn update(&self, mut limits: GatewayLimits) -> GatewayUpdate {
        limits.memory.clone_from(&self.memory);
        GatewayUpdate { content: self.content.clone(), limits }
    }
}

/// The file of an instance that runs.
pub(super) struct GatewayFile {
    pub(super) file: PathBuf,
    /// What was seen of it, and the text that is in force.
    pub(super) seen: ConfigFile,
    /// Its text at the start, which still holds for what has to wait.
    pub(super) started: String,
    pub(super) made: Made,
    pub(super) gateway: Gateway,
    /// Where what is summed of egress is told other figures, if it is summed.
    pub(super) thresholds: Option<Thresholds>,
    pub(super) configured: Configured,
    /// Who is told that the file is read again.
    pub(super) supervisor: Supervisor,
}

/// What is read beside the role.
struct Jobs {
    look_at: Interval,
    try_at: Interval,
    look: Slot<Contents>,
    load: Slot<(Cause, Contents, anyhow::Result<Box<FileRead>>)>,
    /// Whether the file is to be read anew after that.
    again: bool,
    /// Why it could not be used when it was read last.
    failed: Option<String>,
    /// Held until what somebody has asked for was read.
    told: Option<Reloading>,
}

/// Why the file is read.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Cause {
    /// Somebody has asked for it, or has changed it.
    Asked,
    /// It could not be used, and is tried again.
    Again,
}

/// A file that can be used.
struct FileRead {
    loaded: LoadedGateway,
    text: String,
}

/// Reads the file and what is seen of it, both of one text: what is told, what is applied and what
/// the next look is held against are the same. Blocks.
fn read_again(file: &Path) -> (Contents, anyhow::Result<Box<FileRead>>) {
    // A reader that fails is a file that cannot be used: it is tried again, and told once.
    let load = || catch_unwind(AssertUnwindSafe(|| load::gateway(file)));
    let Whole { contents, text, read, has_held } = read_whole(file, load);
    if !has_held {
        let why = anyhow!("it is being changed while it is read; it is tried again");
        return (contents, Err(why));
    }
    let read = match read {
        Ok(Ok(loaded)) => Ok(Box::new(FileRead { loaded, text })),
        Ok(Err(why)) => Err(why.into()),
        Err(_) => Err(anyhow!("reading it has failed; the log says where")),
    };
    (contents, read)
}

impl GatewayFile {
    /// Runs `role` to its end, and follows the file meanwhile.
    pub(super) async fn beside<T>(
        mut self,
        mut reloads: Reloads,
        role: impl Future<Output = T>,
    ) -> T {
        let mut role = pin!(role);
        let interval = |every| {
            let mut interval = tokio::time::interval(every);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        };
        let mut jobs = Jobs {
            look_at: interval(LOOK_EVERY),
            try_at: interval(TRY_EVERY),
            look: Slot::default(),
            load: Slot::default(),
            again: false,
            failed: None,
            told: None,
        };
        loop {
            // The role goes on while the file is read.
            tokio::select! {
                ended = &mut role => return ended,
                () = self.step(&mut jobs, &mut reloads) => {}
            }
        }
    }

    /// Waits for what is to be done next, and does it: work that blocks is begun, or was done.
    async fn step(&mut self, jobs: &mut Jobs, reloads: &mut Reloads) {
        tokio::select! {
            () = reloads.next() => self.ask(jobs),
            _ = jobs.look_at.tick() => {
                let file = [self.file.clone()];
                jobs.look.take_on(|| spawn_blocking(move || contents(&file)));
            }
            event = jobs.look.next() => self.looked(jobs, event),
            _ = jobs.try_at.tick() => {
                // The key of a store, and whom it is trusted by, are in files of their own.
                if jobs.failed.is_some() || self.made.names_files() {
                    self.begin_load(jobs, Cause::Again);
                }
            }
            event = jobs.load.next() => self.loaded(jobs, event),
        }
    }

    /// Reads the file if it has changed, and is not being changed any more.
    fn looked(&mut self, jobs: &mut Jobs, event: Event<Contents>) {
        match event {
            Event::Late(since) => tell_late("the file", since),
            Event::Done(Err(why)) => tracing::error!(%why, "the file could not be looked at"),
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

    /// A reload begins.
    fn begin_load(&self, jobs: &mut Jobs, cause: Cause) {
        let file = self.file.clone();
        let loading = move || {
            let (now, read) = read_again(&file);
            (cause, now, read)
        };
        jobs.load.take_on(|| spawn_blocking(loading));
    }

    /// A reload ends: the file is applied, if all of it can be used. A failure that nobody has
    /// brought about anew is told once.
    fn loaded(
        &mut self,
        jobs: &mut Jobs,
        event: Event<(Cause, Contents, anyhow::Result<Box<FileRead>>)>,
    ) {
        match event {
            Event::Late(since) => tell_late("the file, or what it names", since),
            Event::Done(Err(why)) => self.tell(&Err(why.into())),
            // A look at what the file names: it has changed itself, and is read once it settles.
            Event::Done(Ok((Cause::Again, _, Ok(read))))
                if jobs.failed.is_none() && read.text != self.seen.in_force() => {}
            Event::Done(Ok((cause, now, read))) => {
                self.seen.was_read(now);
                let applied = read.and_then(|read| self.apply(*read));
                let failed = applied.as_ref().err().map(|why| format!("{why:#}"));
                let is_news = cause == Cause::Asked || failed != jobs.failed;
                jobs.failed = failed;
                if is_news {
                    self.tell(&applied);
                }
            }
        }
        self.read_again(jobs);
        if jobs.load.is_free() {
            jobs.told = None;
        }
    }

    /// Has the file hold. Returns what has changed of what holds.
    ///
    /// # Errors
    ///
    /// What the file names cannot be used; nothing has changed then.
    fn apply(&mut self, FileRead { loaded, text }: FileRead) -> anyhow::Result<Vec<KeyChange>> {
        let changes = gateway_changes(self.seen.in_force(), &text);
        self.made = self.made.next(&loaded)?;
        self.gateway.update(self.made.update(loaded.config.limits));
        if let (Some(thresholds), Some(egress)) = (&self.thresholds, loaded.egress) {
            thresholds.set(egress);
        }
        // Not each time that it is looked at what the file names.
        if !changes.is_empty() {
            log_warnings(&loaded.warnings);
        }
        self.seen.replaced_by(text);
        Ok(changes)
    }

    /// Tells what has become of a reload, in the log and in the role's status.
    fn tell(&self, applied: &anyhow::Result<Vec<KeyChange>>) {
        let file = shown(&self.file);
        let applied = match applied {
            Ok(applied) => applied,
            Err(why) => {
                let why = format!("{why:#}");
                // Before the log: whoever has read that finds it in the status.
                self.configured.failed(why.clone());
                return tracing::error!(file, why, "nothing applied; what was before still holds");
            }
        };
        let waits = waiting(&self.started, self.seen.in_force());
        let told: Vec<_> = applied.iter().map(ToString::to_string).collect();
        let (changed, at_next_start) = (told.join(", "), waits.join(", "));
        self.configured.applied(waits);
        tracing::info!(
            file,
            changed,
            at_next_start,
            "configuration applied, but for what takes effect at the next start"
        );
    }
}

/// The keys whose change waits for a start.
fn waiting(started: &str, now: &str) -> Vec<String> {
    let changes = gateway_changes(started, now).into_iter();
    let waiting = changes.filter(|it| it.takes_effect == TakesEffect::AtNextStart);
    waiting.map(|it| it.key).collect()
}

#[cfg(all(test, feature = "cloud"))]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use clap::{CommandFactory as _, FromArgMatches as _};

    use super::*;

    #[tokio::test]
    async fn a_store_is_another_one_once_its_key_is_and_not_before() {
        let home = tempfile::tempdir().unwrap();
        let site = home.path().join("site");
        let command = crate::cli::Cli::command();
        let init = command.find_subcommand("init").unwrap().clone();
        let line = ["init", site.to_str().unwrap(), "--backend", "http://127.0.0.1:8080"];
        let args = crate::init::Args::from_arg_matches(&init.get_matches_from(line)).unwrap();
        assert!(crate::init::run(&args).is_ok());
        let file = site.join("gateway-1/gateway.toml");
        let text = fs::read_to_string(&file).unwrap();
        let table = "[content.azure]\naccount = \"relay\"\ncontainer = \"files\"\n\
                     key_file = \"store.key\"\ntrust = \"site-ca.pem\"\n";
        fs::write(&file, format!("{text}\n{table}")).unwrap();
        let key = file.with_file_name("store.key");
        fs::write(&key, "YmFk\n").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();

        let loaded = || load::gateway(&file).unwrap();
        let made = Made::first(&loaded()).unwrap();
        assert!(made.names_files());
        let is_same =
            |it: &Made| Arc::ptr_eq(&it.store.as_ref().unwrap().1, &made.store.as_ref().unwrap().1);
        assert!(is_same(&made.next(&loaded()).unwrap()));
        fs::write(&key, "Z29vZA==\n").unwrap();
        assert!(!is_same(&made.next(&loaded()).unwrap()));
    }
}
