//! How much a gateway instance has sent to clients in 14 days, for whoever pays for it.
//!
//! The instance counts octets ([`Gateway::octets_sent`]); here they are summed by the hour, kept in
//! a file so that neither a restart nor a crash loses more than five seconds of them, and held
//! against the threshold of `[egress]` at the start and every six minutes: the log tells each
//! change, and new requests are refused if that is wanted. `sums.rs` is pure. Each instance has its
//! own sums and threshold; nobody adds up several. Read [`Watch`] and [`Figures`] first.

mod sums;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use relay_core::config::EgressConfig;
use relay_core::gateway::{Gateway, Halt};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use self::sums::{Sums, hour_of};
use crate::pki::files::{self, Readers};

pub(crate) use self::sums::Level;

/// How often the sums are put in their file, if they have changed. So much of them may be lost.
const KEEP_EVERY: Duration = Duration::from_secs(5);

/// How often they are held against the threshold.
const CHECK_EVERY: Duration = Duration::from_mins(6);

/// How long the end waits for a disk.
const KEEP_TIME: Duration = Duration::from_secs(5);

/// Octets of a file of sums; one of all the hours that are kept has 24 KiB at most.
const FILE_MAX: u64 = 64 << 10;

/// The instance whose octets are summed.
struct Source {
    /// What it has sent since its start.
    sent: Box<dyn Fn() -> u64 + Send>,
    /// Told whether it is to refuse new requests.
    stop: Box<dyn Fn(bool) + Send>,
    clock: Box<dyn Fn() -> SystemTime + Send>,
}

/// What there is to see of it.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) config: EgressConfig,
    /// Octets in 14 days.
    pub(crate) total: u64,
    /// As many of them as the file has.
    pub(crate) kept: u64,
    /// As it was found at the last check.
    pub(crate) level: Level,
    /// Why the file could not be written, if that is so.
    pub(crate) fault: Option<String>,
}

/// Where that can be read; nothing while there is no `[egress]`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures(Arc<Mutex<Option<Reading>>>);

impl Figures {
    pub(crate) fn read(&self) -> Option<Reading> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, shown: Reading) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown);
    }
}

/// Where the figures of `[egress]` are told anew while it is summed up.
#[derive(Clone, Debug)]
pub(crate) struct Thresholds(watch::Sender<EgressConfig>);

impl Thresholds {
    /// Has `config` hold from now on; its file is passed over: sums stay where they are kept.
    pub(crate) fn set(&self, config: EgressConfig) {
        self.0.send_replace(config);
    }
}

/// Sums up beside an instance that runs.
pub(crate) struct Watch {
    source: Source,
    sums: Sums,
    /// What of [`Source::sent`] is in the sums.
    counted: u64,
    /// The total that is on its way to the file, with what tells that it is there.
    keeping: Option<(u64, JoinHandle<anyhow::Result<()>>)>,
    /// Whether the file has all of the sums, or is being given them.
    is_kept: bool,
    shown: Reading,
    figures: Figures,
    thresholds: Thresholds,
}

impl Watch {
    /// Reads what was kept, holds it against the threshold, and writes the file, so that it is
    /// known whether it can be. The instance need not serve yet.
    pub(crate) fn of(
        config: EgressConfig,
        gateway: &Gateway,
        figures: Figures,
    ) -> anyhow::Result<Self> {
        let (counting, halting) = (gateway.clone(), gateway.clone());
        let stop = move |stop| {
            if stop {
                halting.halt(Halt::Egress);
            } else {
                halting.resume(Halt::Egress);
            }
        };
        let source = Source {
            sent: Box::new(move || counting.octets_sent()),
            stop: Box::new(stop),
            clock: Box::new(SystemTime::now),
        };
        Self::open(config, source, figures)
    }

    fn open(config: EgressConfig, source: Source, figures: Figures) -> anyhow::Result<Self> {
        let sums = read(&config.file)?;
        let folder = config.file.parent().filter(|it| !it.as_os_str().is_empty());
        let fault = match write(&config.file, &sums.text()) {
            Ok(()) => None,
            // Named wrongly: whoever wrote that is told at once.
            Err(error) if !folder.unwrap_or(Path::new(".")).is_dir() => return Err(error),
            // A full disk takes the sums from whoever pays, and not the service from clients.
            Err(error) => {
                let why = format!("{error:#}");
                tracing::error!(why, "the sums of egress are not kept: a crash loses them");
                Some(why)
            }
        };
        let is_kept = fault.is_none();
        let total = sums.total(hour_of((source.clock)()));
        let shown = Reading { config, total, kept: total, level: Level::Calm, fault };
        let thresholds = Thresholds(watch::Sender::new(shown.config.clone()));
        let (counted, keeping) = (0, None);
        let mut watch =
            Self { source, sums, counted, keeping, is_kept, shown, figures, thresholds };
        watch.check();
        Ok(watch)
    }

    /// Where its figures can be told anew.
    pub(crate) fn thresholds(&self) -> Thresholds {
        self.thresholds.clone()
    }

    /// Runs `role` to its end, and sums up meanwhile. The file has everything at the end.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses what was not kept yet: that of five seconds.
    pub(crate) async fn beside<T>(mut self, role: impl Future<Output = T>) -> T {
        let ended = tokio::select! {
            biased;
            ended = role => ended,
            never = self.watch() => match never {},
        };
        let rest = async {
            // One that is under way first, or it would be put in the place of the last one.
            self.keep().await;
            self.count();
            self.keep().await;
        };
        if timeout(KEEP_TIME, rest).await.is_err() {
            tracing::error!(
                "the disk does not take the sums of egress: what was sent last is lost"
            );
        }
        ended
    }

    async fn watch(&mut self) -> Infallible {
        let [mut keeps, mut checks] = [KEEP_EVERY, CHECK_EVERY].map(interval);
        // What both begin with has been done.
        checks.tick().await;
        keeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = self.thresholds.0.subscribe();
        // What was told before is not missed.
        told.mark_changed();
        loop {
            tokio::select! {
                _ = checks.tick() => self.check(),
                // The sender lives in `self`.
                _ = told.changed() => self.retell(&told.borrow_and_update()),
                _ = keeps.tick() => {
                    self.count();
                    // A disk that hangs holds up no check.
                    loop {
                        tokio::select! {
                            () = self.keep() => break,
                            _ = checks.tick() => self.check(),
                            _ = told.changed() => {
                                self.retell(&told.borrow_and_update());
                            }
                        }
                    }
                }
            }
        }
    }

    /// Takes what was sent into the sums.
    fn count(&mut self) {
        let (sent, hour) = ((self.source.sent)(), hour_of((self.source.clock)()));
        self.is_kept &= sent == self.counted;
        self.sums.add(hour, sent.saturating_sub(self.counted));
        self.counted = sent;
        self.shown.total = self.sums.total(hour);
        self.show();
    }

    /// Goes by other figures from now on.
    fn retell(&mut self, config: &EgressConfig) {
        let before = &self.shown.config;
        let config = EgressConfig { file: before.file.clone(), ..config.clone() };
        if *before == config {
            return;
        }
        if before.stop_when_critical && !config.stop_when_critical {
            (self.source.stop)(false);
        }
        self.shown.config = config;
        self.check();
    }

    /// Holds the sums against the threshold.
    fn check(&mut self) {
        self.count();
        let (total, config) = (self.shown.total, &self.shown.config);
        let level = Level::of(total, config);
        if config.stop_when_critical {
            (self.source.stop)(level == Level::Critical);
        }
        let before = std::mem::replace(&mut self.shown.level, level);
        if before != level {
            tell(before, &self.shown);
        }
        self.show();
    }

    /// Puts the sums in their file, if it has not got all of them; waits for one that is on its
    /// way.
    ///
    /// # Cancel safety
    ///
    /// What is on its way goes on, and the next call waits for it.
    async fn keep(&mut self) {
        if self.keeping.is_none() && !self.is_kept {
            let (file, text) = (self.shown.config.file.clone(), self.sums.text());
            let writing = tokio::task::spawn_blocking(move || write(&file, &text));
            self.keeping = Some((self.shown.total, writing));
            self.is_kept = true;
        }
        let Some((total, writing)) = &mut self.keeping else { return };
        let (total, outcome) = (*total, writing.await);
        self.keeping = None;
        match outcome.map_err(anyhow::Error::from).and_then(|written| written) {
            Ok(()) => {
                self.shown.kept = total;
                tracing::debug!(target: "relay::egress", octets = total, "egress kept");
                if self.shown.fault.take().is_some() {
                    tracing::info!("the sums of egress are kept again");
                }
            }
            Err(error) => {
                self.is_kept = false;
                let why = format!("{error:#}");
                if self.shown.fault.replace(why.clone()).is_none() {
                    tracing::error!(why, "the sums of egress are not kept: a crash loses them");
                }
            }
        }
        self.show();
    }

    fn show(&self) {
        self.figures.set(self.shown.clone());
    }
}

/// Has the log say what the sum has come to.
fn tell(before: Level, shown: &Reading) {
    let Reading { config, total, level, .. } = shown;
    let (octets, threshold) = (*total, config.threshold);
    let percent = percent(octets, threshold);
    match level {
        Level::Critical => tracing::error!(
            octets,
            threshold,
            percent,
            stops = config.stop_when_critical,
            "egress of 14 days is critical"
        ),
        Level::Warning if before == Level::Calm => {
            tracing::warn!(octets, threshold, percent, "egress of 14 days is to be watched");
        }
        _ => tracing::info!(octets, threshold, percent, now = level.name(), "egress is lower"),
    }
}

/// How many whole percent of `threshold` so many octets are.
pub(crate) fn percent(octets: u64, threshold: u64) -> u64 {
    let percent = u128::from(octets) * 100 / u128::from(threshold.max(1));
    u64::try_from(percent).unwrap_or(u64::MAX)
}

/// What was kept; nothing if there is no file yet.
fn read(file: &Path) -> anyhow::Result<Sums> {
    let opened = match File::open(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Sums::default()),
        opened => opened,
    };
    let mut text = String::new();
    let read = opened.and_then(|opened| opened.take(FILE_MAX + 1).read_to_string(&mut text));
    let cannot = || {
        format!(
            "cannot use {}, which keeps the sums of [egress]; move it away to begin at 0",
            file.display()
        )
    };
    read.with_context(cannot)?;
    Sums::read(&text).with_context(cannot)
}

/// Replaces the file as a whole; it is on the disk then.
fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    files::replace(file, text, Readers::Owner)
        .with_context(|| format!("cannot keep the sums of [egress] in {}", file.display()))
}
