//! How the program ends.

use std::fmt;
use std::process::ExitCode;

use relay_core::config::ConfigError;

use crate::run::InheritedError;

/// Every status that the program ends with, and what it means of all commands. What a command's
/// own help says besides is a case of one of these.
pub(crate) const STATUSES: [(u8, &str); 4] = [
    (0, "done, or stopped cleanly"),
    (1, "failed while running"),
    (2, "the command line is wrong"),
    (CONFIGURATION, "the configuration is wrong, or asks for an address that cannot be had"),
];

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
    /// A socket that whoever has started the program has passed to it cannot be used. Exit status
    /// 78 too: it is the units that do not fit the configuration.
    Inherited(InheritedError),
    /// Something failed while running. Exit status 1.
    Runtime(anyhow::Error),
}

impl Failure {
    /// The status that the process ends with.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Runtime(_) => 1,
            Self::Usage(_) => 2,
            Self::Configuration(_) | Self::Inherited(_) => CONFIGURATION,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(error) | Self::Runtime(error) => write!(f, "{error:#}"),
            Self::Configuration(error) => error.fmt(f),
            Self::Inherited(error) => error.fmt(f),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Configuration(error)
    }
}

impl From<InheritedError> for Failure {
    fn from(error: InheritedError) -> Self {
        Self::Inherited(error)
    }
}
