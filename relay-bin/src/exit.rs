//! How the program ends.

use std::fmt;
use std::process::ExitCode;

use relay_core::config::ConfigError;

/// The status where a configuration is wrong.
// Source: sysexits.h, EX_CONFIG.
pub(crate) const CONFIGURATION: u8 = 78;

/// Why the program ends without success. Its `Display` is the whole message for the terminal.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The arguments cannot be followed. Exit status 2, as for what clap itself refuses.
    Usage(anyhow::Error),
    /// The configuration is wrong, or asks for what this machine cannot give, such as a port that
    /// is in use. Exit status 78, `EX_CONFIG`: starting again without a change will not help.
    Configuration(ConfigError),
    /// Something failed while running. Exit status 1.
    Runtime(anyhow::Error),
}

impl Failure {
    /// The status that the process ends with.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Runtime(_) => 1,
            Self::Usage(_) => 2,
            Self::Configuration(_) => CONFIGURATION,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(error) | Self::Runtime(error) => write!(f, "{error:#}"),
            Self::Configuration(error) => error.fmt(f),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Configuration(error)
    }
}
