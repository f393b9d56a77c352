//! Where the log goes: standard error, as text or JSON.

use std::io::IsTerminal as _;

use anyhow::{Context as _, anyhow};
use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use crate::exit::Failure;

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

fn directives(text: &str) -> Result<String, String> {
    EnvFilter::builder().parse(text).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

impl Args {
    /// Starts logging for the whole process. To be called once.
    pub(crate) fn start(&self) -> Result<(), Failure> {
        let written = match &self.filter {
            Some(filter) => filter.clone(),
            None => std::env::var(EnvFilter::DEFAULT_ENV)
                .ok()
                .filter(|text| !text.is_empty())
                .unwrap_or_else(|| DEFAULT_FILTER.to_owned()),
        };
        let filter = EnvFilter::builder()
            .parse(&written)
            .with_context(|| format!("RUST_LOG is `{written}`, which names no level or target"))
            .map_err(Failure::Usage)?;
        let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        let started = match self.format {
            Format::Text => log.with_ansi(colour).try_init(),
            Format::Json => log.json().flatten_event(true).try_init(),
        };
        started.map_err(|error| Failure::Runtime(anyhow!("cannot start the log: {error}")))
    }
}
