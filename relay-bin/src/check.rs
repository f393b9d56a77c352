//! `relay check`: judge configuration files of either role, and say everything that is wrong.
//!
//! It reads what a role reads at its start, by the same functions, and neither listens nor dials.
//! The files of a folder are those of a site, and are judged beside each other as well. What only
//! shows on a link, `relay analyze` looks at. Read [`Checked`] first.

mod folder;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use relay_core::config::{
    ConfigError, Invalid, LoadedConnectionPoint, LoadedGateway, RoleKind, Warning, recognise,
    site_misfits,
};
use serde_json::{Value, json};

use crate::console::{complain, say};
use crate::exit::CONFIGURATION;
use crate::run::{load, summary};

/// Shown below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  See everything that is wrong with a site:
    relay check site
  The same of one file, for a script:
    relay check --json connection-point.toml

Of a folder each gateway.toml and connection-point.toml is judged that is in it or one level below,
and whether they fit each other: the numbers of instances, the names of connection points, whether
each connection point dials each instance and shakes hands with its certificate, and the versions of
what is published.
What is wrong goes to standard error with file, line, column and caret; so do warnings, which make
no file unusable. Several faults that lie in one another are told as one. What a role says at its
start of a file that it cannot use is the same.

Exit status:
  0   every file can be used, and those of a folder fit each other
  2   the command line is wrong
  78  a file cannot be used, is not there, or does not fit another";

/// Arguments of `relay check`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Files, or folders of a site. Which role each is for shows in it, or in its name in a folder.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
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
struct Checked {
    file: PathBuf,
    role: Option<RoleKind>,
    outcome: Result<Loaded, ConfigError>,
}

/// A file that can be used.
enum Loaded {
    Gateway(Box<LoadedGateway>),
    ConnectionPoint(Box<LoadedConnectionPoint>),
}

/// What was found of all.
#[derive(Default)]
struct Found {
    files: Vec<Checked>,
    /// What does not fit between files of one folder.
    misfits: Vec<Invalid>,
}

/// `relay check`.
pub(crate) fn run(args: &Args) -> ExitCode {
    let role = args.role.map(Role::kind);
    let mut found = Found::default();
    for path in &args.paths {
        found.look_at(path, role);
    }
    if args.json {
        let files: Vec<_> = found.files.iter().map(Checked::json).collect();
        let misfits: Vec<_> = found.misfits.iter().map(misfit).collect();
        say(&json!({ "files": files, "misfits": misfits }).to_string());
    } else {
        found.files.iter().for_each(Checked::tell);
        for misfit in &found.misfits {
            complain(&format!("error: {misfit}\n"));
        }
        match found.misfits.len() {
            0 => {}
            1 => complain("these files do not fit each other"),
            count => complain(&format!("these files do not fit each other: {count} faults")),
        }
    }
    let are_all_usable = found.files.iter().all(|checked| checked.outcome.is_ok());
    let is_good = are_all_usable && found.misfits.is_empty();
    if is_good { ExitCode::SUCCESS } else { CONFIGURATION.into() }
}

/// What is found of a file, for whoever shows it elsewhere than on a terminal.
pub(crate) struct Judged {
    /// What it says in a few lines, or everything that is wrong.
    pub(crate) outcome: Result<String, String>,
    pub(crate) warnings: Vec<String>,
}

/// Judges a file as [`run`] does.
pub(crate) fn judged(file: &Path) -> Judged {
    match check(file.to_owned(), None).outcome {
        Ok(loaded) => {
            let warnings = loaded.warnings().iter().map(ToString::to_string).collect();
            Judged { outcome: Ok(loaded.summary(file)), warnings }
        }
        Err(error) => Judged { outcome: Err(error.to_string()), warnings: Vec::new() },
    }
}

impl Found {
    fn look_at(&mut self, path: &Path, role: Option<RoleKind>) {
        if !path.is_dir() {
            self.files.push(check(path.to_owned(), role));
            return;
        }
        let files = match folder::files(path) {
            Ok(files) => files,
            Err(source) => {
                let outcome = Err(ConfigError::Read { path: path.to_owned(), source });
                self.files.push(Checked { file: path.to_owned(), role: None, outcome });
                return;
            }
        };
        let of_name = |(file, named)| check(file, Some(role.unwrap_or(named)));
        let checked: Vec<_> = files.into_iter().map(of_name).collect();
        let (mut gateways, mut points) = (Vec::new(), Vec::new());
        for loaded in checked.iter().filter_map(|checked| checked.outcome.as_ref().ok()) {
            match loaded {
                Loaded::Gateway(loaded) => gateways.push(LoadedGateway::clone(loaded)),
                Loaded::ConnectionPoint(loaded) => {
                    points.push(LoadedConnectionPoint::clone(loaded));
                }
            }
        }
        self.misfits.extend(site_misfits(&gateways, &points));
        self.files.extend(checked);
    }
}

fn check(file: PathBuf, role: Option<RoleKind>) -> Checked {
    let role = role.map_or_else(|| recognise(&file), Ok);
    let (role, outcome) = match role {
        Err(error) => (None, Err(error)),
        Ok(RoleKind::Gateway) => {
            let loaded = load::gateway(&file).map(|it| Loaded::Gateway(Box::new(it)));
            (Some(RoleKind::Gateway), loaded)
        }
        Ok(RoleKind::ConnectionPoint) => {
            let loaded =
                load::connection_point(&file).map(|it| Loaded::ConnectionPoint(Box::new(it)));
            (Some(RoleKind::ConnectionPoint), loaded)
        }
    };
    Checked { file, role, outcome }
}

impl Loaded {
    /// A few lines of what the file says.
    fn summary(&self, file: &Path) -> String {
        match self {
            Self::Gateway(loaded) => summary::gateway(file, loaded),
            Self::ConnectionPoint(loaded) => summary::connection_point(file, loaded),
        }
    }

    /// What deserves attention about it.
    fn warnings(&self) -> &[Warning] {
        match self {
            Self::Gateway(loaded) => &loaded.warnings,
            Self::ConnectionPoint(loaded) => &loaded.warnings,
        }
    }
}

impl Checked {
    fn tell(&self) {
        match &self.outcome {
            Ok(loaded) => {
                say(&loaded.summary(&self.file));
                for warning in loaded.warnings() {
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
            Ok(loaded) => (Vec::new(), loaded.warnings().iter().map(ToString::to_string).collect()),
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

fn misfit(found: &Invalid) -> Value {
    json!({
        "file": found.place.path().display().to_string(),
        "line": found.place.line(),
        "column": found.place.column(),
        "problem": found.problem,
        "help": found.help,
    })
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
