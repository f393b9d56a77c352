//! What the roles log, for tests to read.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::Dispatch;
use tracing::subscriber::{DefaultGuard, NoSubscriber};

/// Captures what this thread logs, one JSON object a line, until it is dropped.
///
/// Only for tests on a runtime of one thread: what other threads log is not seen.
#[derive(Debug)]
pub struct Logs {
    text: Shared,
    _guard: DefaultGuard,
    /// While there is only one dispatcher, `tracing` decides for good whether a line of code logs
    /// by the thread that comes to it first, which may be another test's. A second one, which
    /// takes nothing, has it ask them all.
    _second: Dispatch,
}

/// How lines are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl Format {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Json, Self::Text];
}

#[derive(Clone, Debug, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Logs {
    /// Begins, with what is logged by default.
    pub fn capture() -> Self {
        Self::of("info")
    }

    /// Begins, with what is logged by default and the spans that it is logged in.
    pub fn capture_debug() -> Self {
        Self::of("info,relay_core=debug")
    }

    /// Begins, with all that crates of this workspace have to say.
    pub fn capture_all() -> Self {
        // Their names begin so, and so do those of targets of their own.
        Self::of("relay=trace")
    }

    /// Begins, with all that anybody has to say, in this format.
    pub fn capture_everything(format: Format) -> Self {
        Self::of_format("trace", format)
    }

    /// Begins, with what is logged by default, in this format.
    pub fn capture_as(format: Format) -> Self {
        Self::of_format("info", format)
    }

    fn of(filter: &str) -> Self {
        Self::of_format(filter, Format::Json)
    }

    fn of_format(filter: &str, format: Format) -> Self {
        let second = Dispatch::new(NoSubscriber::new());
        let text = Shared::default();
        let writer = text.clone();
        let writer = move || writer.clone();
        let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
        let guard = match format {
            Format::Json => tracing::subscriber::set_default(lines.json().finish()),
            Format::Text => tracing::subscriber::set_default(lines.with_ansi(false).finish()),
        };
        Self { text, _guard: guard, _second: second }
    }

    /// Every line so far that contains all of `parts`.
    pub fn with(&self, parts: &[&str]) -> Vec<String> {
        let octets = self.text.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&octets);
        let fits = |line: &&str| parts.iter().all(|part| line.contains(part));
        text.lines().filter(fits).map(str::to_owned).collect()
    }
}
