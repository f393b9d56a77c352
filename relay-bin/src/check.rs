//! `relay check`: judge configuration files of either role, and say everything that is wrong.
//!
//! It reads what a role reads at its start, by the same functions, and neither listens nor dials.
//! It deliberately judges each file alone: whether a gateway's and a connection point's fit each
//! other shows on the link between them, which `relay analyze` looks at.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use relay_core::config::{
    ConfigError, RoleKind, Warning, load_connection_point, load_gateway, recognise,
};
use serde_json::{Value, json};

use crate::console::{complain, say};
use crate::exit::CONFIGURATION;
use crate::run::{summary, variable};

/// Shown below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  See everything that is wrong with a site's files:
    relay check site/gateway-1/gateway.toml site/connection-point/connection-point.toml
  The same for a script, one file:
    relay check --json connection-point.toml

What is wrong goes to standard error with file, line, column and caret; so do warnings, which make
no file unusable. Several faults that lie in one another are told as one. What a role says at its
start of a file that it cannot use is the same.

Exit status:
  0   every file can be used
  2   the command line is wrong
  78  a file cannot be used, or is not there";

/// Arguments of `relay check`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The files. Which role each is for shows in it.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The role that all of the files are for, where that does not show.
    #[arg(long, value_name = "ROLE")]
    role: Option<Role>,
    /// Print one object of JSON, for a script, and nothing else.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Role {
    Gateway,
    ConnectionPoint,
}

impl Role {
    fn kind(self) -> RoleKind {
        match self {
            Self::Gateway => RoleKind::Gateway,
            Self::ConnectionPoint => RoleKind::ConnectionPoint,
        }
    }
}

/// What was found of a file.
struct Checked<'a> {
    file: &'a Path,
    role: Option<RoleKind>,
    /// A few lines of what it says, and what deserves attention about it.
    outcome: Result<(String, Vec<Warning>), ConfigError>,
}

/// `relay check`.
pub(crate) fn run(args: &Args) -> ExitCode {
    let role = args.role.map(Role::kind);
    let all: Vec<_> = args.files.iter().map(|file| check(file, role)).collect();
    if args.json {
        let files: Vec<_> = all.iter().map(Checked::json).collect();
        say(&json!({ "files": files }).to_string());
    } else {
        all.iter().for_each(Checked::tell);
    }
    let are_all_usable = all.iter().all(|checked| checked.outcome.is_ok());
    if are_all_usable { ExitCode::SUCCESS } else { CONFIGURATION.into() }
}

/// What is found of a file, for whoever shows it elsewhere than on a terminal.
pub(crate) struct Judged {
    /// What it says in a few lines, or everything that is wrong.
    pub(crate) outcome: Result<String, String>,
    pub(crate) warnings: Vec<String>,
}

/// Judges a file as [`run`] does.
pub(crate) fn judged(file: &Path) -> Judged {
    match check(file, None).outcome {
        Ok((summary, warnings)) => {
            let warnings = warnings.iter().map(ToString::to_string).collect();
            Judged { outcome: Ok(summary), warnings }
        }
        Err(error) => Judged { outcome: Err(error.to_string()), warnings: Vec::new() },
    }
}

fn check(file: &Path, role: Option<RoleKind>) -> Checked<'_> {
    let role = role.map_or_else(|| recognise(file), Ok);
    let (role, outcome) = match role {
        Err(error) => (None, Err(error)),
        Ok(RoleKind::Gateway) => {
            let loaded = load_gateway(file);
            let said = loaded.map(|it| (summary::gateway(file, &it), it.warnings));
            (Some(RoleKind::Gateway), said)
        }
        Ok(RoleKind::ConnectionPoint) => {
            let loaded = load_connection_point(file, &variable);
            let said = loaded.map(|it| (summary::connection_point(file, &it), it.warnings));
            (Some(RoleKind::ConnectionPoint), said)
        }
    };
    Checked { file, role, outcome }
}

impl Checked<'_> {
    fn tell(&self) {
        match &self.outcome {
            Ok((summary, warnings)) => {
                say(summary);
                for warning in warnings {
                    complain(&format!("warning: {warning}"));
                }
            }
            Err(error) => {
                complain(&format!("error: {error}\n"));
                let (file, count) = (self.file.display(), error.faults().len());
                match count {
                    0 | 1 => complain(&format!("{file} cannot be used")),
                    _ => complain(&format!("{file} cannot be used: {count} faults")),
                }
            }
        }
    }

    fn json(&self) -> Value {
        let role = self.role.map(|role| match role {
            RoleKind::Gateway => "gateway",
            RoleKind::ConnectionPoint => "connection-point",
        });
        let (errors, warnings) = match &self.outcome {
            Ok((_, warnings)) => (Vec::new(), warnings.iter().map(ToString::to_string).collect()),
            Err(error) => (errors(error), Vec::new()),
        };
        json!({
            "file": self.file.display().to_string(),
            "role": role,
            "usable": errors.is_empty(),
            "errors": errors,
            "warnings": warnings,
        })
    }
}

fn errors(error: &ConfigError) -> Vec<Value> {
    let faults = error.faults().iter().map(|fault| {
        json!({
            "line": fault.place.line(),
            "column": fault.place.column(),
            "problem": fault.problem,
            "help": fault.help,
        })
    });
    let faults: Vec<_> = faults.collect();
    if !faults.is_empty() {
        return faults;
    }
    // Of the file as a whole: the message ends with what to do.
    let message = error.to_string();
    let (problem, help) = message.split_once("\n  = help: ").unwrap_or((&message, ""));
    vec![json!({ "line": null, "column": null, "problem": problem, "help": help })]
}
