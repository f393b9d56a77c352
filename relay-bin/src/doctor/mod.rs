//! `relay doctor`: a bundle about one role, for whoever helps.
//!
//! It reads a configuration and what is around it, asks the role if that runs, and writes texts
//! into one archive. It works while the role is down and while its file is broken: what cannot be
//! had is told in its place. It changes nothing, and sends nothing anywhere.
//!
//! No secret leaves: files of keys, tokens and passwords are never read, and every text goes
//! through a [`veil::Veil`] on its way into a [`bundle::Bundle`]. Read these two first; what is
//! collected is one file each.

mod bundle;
mod clock;
mod ends;
mod finding;
mod folder;
mod hosts;
mod machine;
mod role;
mod tail;
mod veil;
mod written;

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, anyhow};
use relay_core::config::admin_address;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use self::bundle::{Bundle, MEMBER_OCTETS_MAX, ensure_free};
use self::finding::{Finding, Findings};
use self::folder::Listing;
use self::veil::Veil;
use self::written::Written;
use crate::check;
use crate::client::until_interrupted;
use crate::console::say;
use crate::exit::Failure;

/// Shown below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  All about a gateway instance, with the end of its log:
    journalctl -u relay-gateway -n 5000 --no-pager > gateway.log
    relay doctor --config gateway.toml --log gateway.log
  Into a file of this name, on a machine where the role runs with other ports than its file says:
    relay doctor --config connection-point.toml --admin 127.0.0.1:10180 --output cp.tar.gz

In the bundle are: version and features; the configuration without comments and secrets, and what
`relay check` says of it; status, metrics and readiness of the role if it runs, and why not if not;
what ends when; the last MiB of the log; names, sizes, modes, owners and times of the files in the
configuration's folder; limits and memory of machine, cgroup and process; where each host that the
file names leads; and of a connection point, the clocks of its gateway instances.

Secrets are veiled in every line: users in URLs, what is called after a password, token or
signature, Authorization, PEM, whatever looks like base64, and what the file has where a secret
belongs. Files of keys, tokens and passwords are not read. A password that looks like a word and is
called nothing can stay in a log: look through the bundle before you send it.

It is run by the account that may read the configuration, and best on the role's machine. What
exists is not replaced, only its owner may read the bundle, and one that cannot be written whole is
not left behind.

Exit status:
  0   the bundle is written, whatever it says
  1   it cannot be written, or something has its name
  2   the command line is wrong, or names a file that is not there";

/// Arguments of `relay doctor`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The role's configuration file; it may be as broken as it likes.
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// The role's log, or a part of it. Its last MiB is taken, without what may be a secret.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// The admin listener of the running role. Without it, as [admin] of the file says.
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Option<SocketAddr>,
    /// Where the bundle is written. Without it, relay-doctor-TIME.tar.gz in this folder.
    #[arg(long, short, value_name = "FILE.tar.gz")]
    output: Option<PathBuf>,
}

/// `relay doctor`.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let output = output(args)?;
    ensure_free(&output).map_err(|error| Failure::Runtime(error.into()))?;
    let text = tail::head(&args.config, MEMBER_OCTETS_MAX as u64);
    if let Err(error) = &text
        && error.kind() == io::ErrorKind::NotFound
    {
        let shown = args.config.display();
        return Err(Failure::Usage(anyhow!("cannot read --config {shown}: {error}")));
    }
    let log = args.log.as_deref().map(log_of).transpose().map_err(Failure::Usage)?;
    let (bundle, findings) = until_interrupted(collect(args, text, log.as_deref()))?;
    let written = bundle.write(&output).map_err(|error| Failure::Runtime(error.into()))?;
    let octets = written.len();
    let summary = summary(&bundle, &findings);
    say(&format!("{}: {octets} octets\n{summary}", output.display()));
    Ok(())
}

/// Where the bundle goes.
fn output(args: &Args) -> Result<PathBuf, Failure> {
    match &args.output {
        // Our choice: a stream that ends early would pass for a whole bundle, and the summary is
        // what standard output is for.
        Some(file) if file.as_os_str() == "-" => Err(Failure::Usage(anyhow!(
            "--output takes a file: a bundle is written whole or not at all"
        ))),
        Some(file) => Ok(file.clone()),
        None => {
            let now = rfc3339(SystemTime::now()).replace([':', '-'], "");
            Ok(PathBuf::from(format!("relay-doctor-{now}.tar.gz")))
        }
    }
}

fn log_of(file: &Path) -> anyhow::Result<String> {
    let cannot = || format!("cannot read --log {}", file.display());
    tail::tail(file, tail::LOG_OCTETS_MAX).with_context(cannot)
}

/// To the second.
fn rfc3339(at: SystemTime) -> String {
    let at = OffsetDateTime::from(at);
    at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).unwrap_or_default()
}

/// Looks at everything.
async fn collect(
    args: &Args,
    text: io::Result<String>,
    log: Option<&str>,
) -> Result<(Bundle, Findings), Failure> {
    let (mut bundle, mut findings) = (Bundle::default(), Findings::default());
    let folder = args.config.parent().filter(|it| !it.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let is_file = |path: &str| folder.join(path).is_file();
    let mut written = match &text {
        Ok(text) => written::read(text, &is_file),
        Err(error) => {
            findings.add(unreadable(&args.config, error));
            Written { shown: format!("cannot be read: {error}\n"), ..Written::default() }
        }
    };
    let veil = Veil::knowing(std::mem::take(&mut written.secrets));
    bundle.add(&veil, "version.txt", "version, features and target of this program", &version());
    let what = "the configuration, without comments and secrets";
    bundle.add(&veil, "configuration.toml", what, &written.shown);
    judge(&args.config, &veil, &mut bundle, &mut findings);
    let listing = Listing::of(folder);
    ends::add(&args.config, &listing, &veil, &mut bundle, &mut findings);
    role::ask(admin(args, &written), &veil, &mut bundle, &mut findings).await;
    role::processes(&args.config, &veil, &mut bundle);
    hosts::add(&written.hosts, &veil, &mut bundle, &mut findings).await;
    clock::add(&args.config, &veil, &mut bundle, &mut findings).await;
    machine::add(folder, &veil, &mut bundle, &mut findings);
    listing.add_to(&veil, &mut bundle);
    if let Some(log) = log {
        bundle.add(&veil, "log.txt", "the end of the log, without what may be a secret", log);
        judge_log(log, &mut findings);
    }
    let findings = findings.veiled(&veil);
    let summary = summary(&bundle, &findings);
    bundle.add(&veil, "summary.txt", "this", &summary);
    Ok((bundle, findings))
}

fn unreadable(file: &Path, error: &io::Error) -> Finding {
    Finding::new(
        format!("{} cannot be read: {error}", file.display()),
        "run this as the account of the role: `sudo -u relay relay doctor …`",
    )
}

/// What `relay check` says.
fn judge(file: &Path, veil: &Veil, bundle: &mut Bundle, findings: &mut Findings) {
    let check::Judged { outcome, warnings } = check::judged(file);
    let mut text = match outcome {
        Ok(summary) => summary + "\n",
        Err(error) => {
            let first = error.lines().next().unwrap_or_default();
            let what = format!("the configuration cannot be used: {first}");
            findings.add(Finding::new(what, "`relay check` the file says all that is wrong"));
            error + "\n"
        }
    };
    for warning in warnings {
        writeln!(text, "warning: {warning}").expect(PROOF);
        findings.add(Finding::new(warning, "see `relay check` and the guide"));
    }
    bundle.add(veil, "check.txt", "what `relay check` says of it", &text);
}

/// Where the running role is asked.
fn admin(args: &Args, written: &Written) -> Result<SocketAddr, String> {
    if let Some(admin) = args.admin {
        return Ok(admin);
    }
    // A role that runs may have read its file before that was broken.
    admin_address(&args.config).or_else(|error| written.admin.ok_or(error.to_string()))
}

fn judge_log(log: &str, findings: &mut Findings) {
    let is_error = |line: &&str| line.contains("\"level\":\"ERROR\"") || line.contains(" ERROR ");
    let errors: Vec<&str> = log.lines().filter(is_error).collect();
    let Some(last) = errors.last() else { return };
    findings.add(Finding::new(
        format!("the end of the log has {} errors; the last: {last}", errors.len()),
        "the guide has each symptom; all lines are in log.txt",
    ));
}

fn version() -> String {
    let features = [
        ("cloud", cfg!(feature = "cloud")),
        ("otel", cfg!(feature = "otel")),
        ("postgres", cfg!(feature = "postgres")),
    ];
    let features = features.iter().filter(|it| it.1).map(|it| it.0).collect::<Vec<_>>().join(", ");
    let libc = if cfg!(target_env = "musl") { "musl" } else { "" };
    let libc = if cfg!(target_env = "gnu") { "gnu" } else { libc };
    format!(
        "relay {}\nfeatures: {features}\ntarget: {} {} {libc}\ndebug assertions: {}\nmade at {}\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH,
        std::env::consts::OS,
        cfg!(debug_assertions),
        rfc3339(SystemTime::now()),
    )
}

/// What is in it, and what looks wrong.
fn summary(bundle: &Bundle, findings: &Findings) -> String {
    let mut text = String::new();
    for member in bundle.members() {
        let (name, what, octets) = (member.name, member.what, member.text.len());
        writeln!(text, "  {name:<20}{octets:>9}  {what}").expect(PROOF);
    }
    let all = findings.all();
    match all.len() {
        0 => writeln!(text, "\nnothing looks wrong").expect(PROOF),
        1 => writeln!(text, "\none thing looks wrong:").expect(PROOF),
        count => writeln!(text, "\n{count} things look wrong:").expect(PROOF),
    }
    for Finding { what, next } in all {
        writeln!(text, "- {what}\n  next: {next}").expect(PROOF);
    }
    text + "\nSecrets are veiled; look through it before you send it all the same."
}

const PROOF: &str = "writing to a String cannot fail";
