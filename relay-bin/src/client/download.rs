//! `relay client download`: a file, whole or not at all, resumed where it was broken off; or all
//! files of a package.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};

use crate::exit::Failure;
use crate::progress::Progress;

use super::args::{Reach, Way};
use super::credentials::{Credentials, Shown};
use super::fetch::{Fetch, Lines};
use super::part::Part;
use super::report::{Hop, Outcome, Report};
use super::target::Target;
use super::{package, show, until_interrupted};

/// Shown below the help of `relay client download`.
pub(super) const EXAMPLES: &str = "\
Examples:
  A file of a management point, checked:
    relay client download \\
        https://relay.example/CCM_Proxy_ServerAuth/72057594037927937/CCM_Client/ccmsetup.cab \\
        ccmsetup.cab --ca site-ca.pem --folder me \\
        --sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
  All files of a package into the folder `office`, by the location that `relay content grant` has
  printed on the site:
    relay client download \\
        'https://relay.example/downloadrestservice.svc/getcontentxmlsecure?pid=PS100012&cid=...' \\
        office --package --ca site-ca.pem --folder me

What is broken off is resumed by Range and If-Range, at once or by the same command later; until the
file is whole it stands in FILE.part, and FILE is as it was. Of a package, each file is put in its
place once its SHA-256 is the one that was listed; what is there already is not fetched again, and
parts stand in FILE/.relay-parts. A file that is refused with 404 is to be had elsewhere: the others
are fetched all the same, until 32 have failed.

Where content is in a store elsewhere, the gateway says so, and files are fetched from there
directly, by https or from this machine: the store is shown no credential, and sends nobody on. If
it refuses a location, the gateway is asked for another, once, and the file is gone on with.";

/// Arguments of `relay client download`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The URL, as `https://SERVICE/CCM_Proxy_MutualAuth/ROLE_ID/PATH`.
    #[arg(value_name = "URL")]
    url: String,
    /// Where to put the file; one that is there is replaced. With --package, the folder for all
    /// files.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    way: Way,
    #[command(flatten)]
    credentials: Credentials,
    /// PEM file with the authorities that may have signed the certificate of a store elsewhere, if
    /// they are others than those of --ca.
    #[arg(long, value_name = "FILE")]
    store_ca: Option<PathBuf>,
    /// SHA-256 of the file, as 64 hexadecimal digits. Another file is not kept.
    #[arg(long, value_name = "HEX", value_parser = sha256)]
    sha256: Option<String>,
    /// How often in a row to try without an octet more.
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100))]
    tries: u32,
    /// The URL is a grant for a whole package: fetch all files that it lists.
    #[arg(long, conflicts_with = "sha256")]
    package: bool,
    /// How many files of a package to fetch at once.
    #[arg(long, value_name = "N", default_value_t = 4, requires = "package")]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=32))]
    parallel: u8,
}

fn sha256(text: &str) -> Result<String, &'static str> {
    let is_digest = text.len() == 64 && text.bytes().all(|octet| octet.is_ascii_hexdigit());
    is_digest.then(|| text.to_ascii_lowercase()).ok_or("SHA-256 is 64 hexadecimal digits")
}

/// `relay client download`.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let target = Target::of_argument(&args.url).map_err(Failure::Usage)?;
    let shown = args.credentials.read().map_err(Failure::Usage)?;
    let reach = args.way.reach(&target, shown.identity.as_ref()).map_err(Failure::Usage)?;
    let store = args.way.store_reach(args.store_ca.as_ref()).map_err(Failure::Usage)?;
    let report = if args.package {
        let how =
            package::How { at_once: args.parallel, tries: args.tries, is_json: args.way.json };
        let job = package::Job::new(target, [reach, store], shown, &args.file, how);
        let job = job.map_err(Failure::Usage)?;
        until_interrupted(job.run())?
    } else {
        let part = part(args).map_err(Failure::Usage)?;
        until_interrupted(file(args, (&target, [&reach, &store], &shown), part))?
    };
    show(&report, args.way.json, super::Shown::Out)
}

fn part(args: &Args) -> anyhow::Result<Part> {
    ensure!(
        !args.file.is_dir(),
        "{} is a folder: name the file, or give --package for all files of a package",
        args.file.display()
    );
    let part = Part::open(&args.file, &args.file, &args.url);
    part.with_context(|| format!("cannot write beside {}", args.file.display()))
}

async fn file(
    args: &Args,
    (target, [reach, store], shown): (&Target, [&Reach; 2], &Shown),
    part: Part,
) -> Result<Report, Failure> {
    let progress = &Progress::new();
    let mut fetch = Fetch {
        target,
        reach,
        shown,
        store,
        moved: None,
        asked_anew_at: None,
        progress,
        part,
        listed: None,
        resumed: 0,
        came: 0,
    };
    let fetched = fetch.run(args.tries, &mut Lines::default()).await?;
    let (part, resumed) = (fetch.part, fetch.resumed);
    let store = fetch.moved.map(|it| it.authority);
    let with_store = |report: Report| match store {
        Some(store) => report.fact("store", store),
        None => report,
    };
    match fetched {
        Ok(report) => keep(args, part, with_store(report).fact("resumed", resumed)),
        Err(report) => Ok(given_up(part, with_store(report))),
    }
}

/// Leaves what the next run can go on from, if there is any.
fn given_up(part: Part, report: Report) -> Report {
    let report = report.fact("bytes_so_far", part.len());
    part.discard_if_empty();
    report
}

/// Puts what is whole in its place, if it is what was wanted.
fn keep(args: &Args, part: Part, report: Report) -> Result<Report, Failure> {
    let found = part.sha256();
    let report = report.fact("bytes", part.len()).fact("sha256", found.clone());
    if let Some(wanted) = args.sha256.as_ref().filter(|wanted| **wanted != found) {
        part.discard();
        let (outcome, hop) = (Outcome::Failed, Hop::Site);
        let means = Some(format!("the file is another: its SHA-256 is not {wanted}"));
        let next = Some("check --sha256 and the URL; else the site role has another file".into());
        return Ok(Report { outcome, hop, means, next, ..report });
    }
    let kept = part.finish();
    let kept = kept.with_context(|| format!("cannot write {}", args.file.display()));
    kept.map_err(Failure::Runtime)?;
    Ok(report.fact("file", args.file.display().to_string()))
}
