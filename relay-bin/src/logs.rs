//! Where the log goes: standard error, as text or JSON; and what it holds, which may change while
//! the role runs.

use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::ValueEnum;
use tokio::time::Instant;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, fmt, reload};

use crate::exit::Failure;
#[cfg(feature = "otel")]
use crate::telemetry;

/// What is logged when neither `--log` nor `RUST_LOG` says otherwise.
const DEFAULT_FILTER: &str = "info";

/// Options of every command that logs.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// What to log: `error`, `warn`, `info`, `debug` or `trace`, or directives such as
    /// `info,relay_core::link=debug`. Goes before the variable `RUST_LOG` [default: info].
    #[arg(long = "log", value_name = "LEVEL", value_parser = directives)]
    filter: Option<String>,
    /// How to write the log on standard error.
    #[arg(long = "log-format", value_enum, value_name = "FORMAT", default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// For people; in colour on a terminal, unless `NO_COLOR` is set.
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// Judges directives as they are given on a command line.
pub(crate) fn directives(text: &str) -> Result<String, String> {
    filter(text)?;
    Ok(text.to_owned())
}

fn filter(text: &str) -> Result<EnvFilter, String> {
    // A word alone that is no level would be taken for a target, of which everything is logged and
    // of all others nothing: hardly ever what was meant, and a slip silences the whole log.
    let is_word = |part: &&str| part.bytes().all(|octet| octet.is_ascii_alphanumeric());
    let words = text.split(',').map(str::trim).filter(|part| !part.is_empty()).filter(is_word);
    for word in words {
        word.parse::<LevelFilter>().map_err(|_| {
            let levels = "off, error, warn, info, debug or trace";
            format!("`{word}` is no level: give {levels}, or TARGET=LEVEL")
        })?;
    }
    EnvFilter::builder().parse(text).map_err(|error| error.to_string())
}

impl Args {
    /// Starts logging for the whole process, and returns what can change it. To be called once.
    pub(crate) fn start(&self) -> Result<Level, Failure> {
        let written = match &self.filter {
            Some(filter) => filter.clone(),
            None => std::env::var(EnvFilter::DEFAULT_ENV)
                .ok()
                .filter(|text| !text.is_empty())
                .unwrap_or_else(|| DEFAULT_FILTER.to_owned()),
        };
        let filter = filter(&written)
            .map_err(|error| anyhow!(error))
            .with_context(|| format!("RUST_LOG is `{written}`, which names no level or target"))
            .map_err(Failure::Usage)?;
        let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let (filter, handle) = reload::Layer::new(filter);
        let lines = match self.format {
            Format::Text => fmt::layer().with_writer(std::io::stderr).with_ansi(colour).boxed(),
            Format::Json => {
                fmt::layer().with_writer(std::io::stderr).json().flatten_event(true).boxed()
            }
        };
        // What is told of spans does not depend on what is logged.
        #[cfg(feature = "otel")]
        let registry =
            tracing_subscriber::registry().with(lines.with_filter(filter)).with(telemetry::layer());
        #[cfg(not(feature = "otel"))]
        let registry = tracing_subscriber::registry().with(filter).with(lines);
        let started = registry.try_init();
        started
            .map_err(|error| Failure::Runtime(anyhow!("cannot start the log: {error}")))
            .map(|()| Level::new(handle, written))
    }
}

/// What the running process logs, and the way to change it.
#[derive(Clone)]
pub(crate) struct Level {
    handle: reload::Handle<EnvFilter, Registry>,
    state: Arc<Mutex<State>>,
}

/// What is logged.
struct State {
    /// What the process was started with.
    started: String,
    now: String,
    /// When it goes back to that.
    until: Option<Instant>,
    /// How often it was changed: so a return knows that it has been overtaken.
    changes: u64,
}

/// What is logged, as it is shown.
pub(crate) struct Shown {
    pub(crate) filter: String,
    pub(crate) started: String,
    /// Time until it goes back to that.
    pub(crate) left: Option<Duration>,
}

impl Level {
    fn new(handle: reload::Handle<EnvFilter, Registry>, started: String) -> Self {
        let now = started.clone();
        let state = State { started, now, until: None, changes: 0 };
        Self { handle, state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every statement under the lock leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is logged now.
    pub(crate) fn show(&self) -> Shown {
        let state = self.state();
        let left = state.until.map(|until| until.saturating_duration_since(Instant::now()));
        Shown { filter: state.now.clone(), started: state.started.clone(), left }
    }

    /// Logs what `written` says from now on, or what the process was started with; for some time,
    /// or until it is told otherwise.
    ///
    /// # Errors
    ///
    /// Why `written` are no directives; nothing has changed.
    ///
    /// # Panics
    ///
    /// With a time, outside of a runtime.
    pub(crate) fn set(&self, written: Option<&str>, time: Option<Duration>) -> Result<(), String> {
        self.apply(&mut self.state(), written, time)
    }

    fn apply(
        &self,
        state: &mut State,
        written: Option<&str>,
        time: Option<Duration>,
    ) -> Result<(), String> {
        let written = written.unwrap_or(&state.started).to_owned();
        let filter = filter(&written)?;
        // Before and behind: one of the two is in the log whichever of the filters is the narrower.
        tracing::info!(from = state.now, to = written, ?time, "asked to log otherwise");
        self.handle.reload(filter).map_err(|error| error.to_string())?;
        state.now = written;
        state.changes += 1;
        state.until = time.map(|time| Instant::now() + time);
        tracing::info!(filter = state.now, "logs");
        if let Some(until) = state.until {
            tokio::spawn(self.clone().go_back(until, state.changes));
        }
        Ok(())
    }

    /// Goes back to what the process was started with, unless somebody has changed it since.
    async fn go_back(self, until: Instant, change: u64) {
        tokio::time::sleep_until(until).await;
        let mut state = self.state();
        if state.changes == change
            && let Err(error) = self.apply(&mut state, None, None)
        {
            tracing::warn!(error, "cannot log as at the start");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A level that started with `info`. Without the layer there is nothing to change.
    fn level() -> (Level, reload::Layer<EnvFilter, Registry>) {
        let (layer, handle) = reload::Layer::new(filter("info").expect("a level"));
        (Level::new(handle, "info".to_owned()), layer)
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_for_a_time_ends_with_it_unless_another_came() {
        let (level, _layer) = level();
        let minutes = |minutes| Some(Duration::from_mins(minutes));
        level.set(Some("debug"), minutes(15)).expect("a level");
        tokio::time::sleep(Duration::from_secs(15 * 60 - 1)).await;
        assert_eq!(level.show().filter, "debug");
        assert_eq!(level.show().left, Some(Duration::from_secs(1)));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!((level.show().filter.as_str(), level.show().left), ("info", None));

        level.set(Some("debug"), minutes(15)).expect("a level");
        level.set(Some("trace"), minutes(60)).expect("a level");
        tokio::time::sleep(Duration::from_mins(16)).await;
        assert_eq!(level.show().filter, "trace", "overtaken");
        level.set(Some("warn"), None).expect("a level");
        tokio::time::sleep(Duration::from_mins(61)).await;
        assert_eq!(level.show().filter, "warn", "for good");
        level.set(None, None).expect("as at the start");
        assert_eq!(level.show().filter, "info");
    }

    #[test]
    fn what_are_no_directives_changes_nothing() {
        let (level, _layer) = level();
        for wrong in ["a=b=c", "inof", "info,relay", "warn, 9"] {
            assert!(level.set(Some(wrong), None).is_err(), "{wrong}");
            assert_eq!(level.show().filter, "info");
        }
        for right in ["off", "WARN", "info,relay_core::link=debug", "off,relay_core=debug", "3"] {
            assert_eq!(filter(right).map(|_| ()), Ok(()), "{right}");
        }
    }
}
