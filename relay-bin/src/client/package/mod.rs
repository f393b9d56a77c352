//! All files of a package, as a grant lists them.
//!
//! The list is asked for first, and judged before anything is written: its names, numbers and
//! lengths are within the limits of a manifest, and its locations are paths on the service that was
//! asked, or all in one store, which is shown no credential. Then files are fetched, several at
//! once, each to its own part; what has the SHA-256 that was listed is put in its place.
//!
//! A file that is not what was listed, or is not there, does not keep the others from being
//! fetched; whatever concerns them all does. Read [`Job`] first.

mod folder;
mod listing;
mod summary;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, anyhow, ensure};
use http::{HeaderMap, Request, StatusCode};
use relay_core::content::{ContentFile, PackageId, SignedGrant};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::Instant;

use crate::exit::Failure;
use crate::progress::Progress;

use super::args::Reach;
use super::body::{self, Taken};
use super::connection::Connection;
use super::credentials::Shown;
use super::fault::Fault;
use super::fetch::{Fetch, Lines, of_file};
use super::part::Part;
use super::report::{Asked, Outcome, Report};
use super::request::with_what_was_said;
use super::target::Target;
use super::tries::Tries;

use folder::Folder;
use listing::{LISTING_OCTETS_MAX, Listed, Listing};
use summary::Summary;

/// Files that may fail before the others are left alone: the store is broken, or the package gone.
const FAILED_MAX: usize = 32;

/// How a package is fetched.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    /// Files at once.
    pub(super) at_once: u8,
    /// How often in a row something is tried without an octet more.
    pub(super) tries: u32,
    /// Whether numbers are for a script.
    pub(super) is_json: bool,
}

/// A package that is to be fetched.
pub(super) struct Job {
    target: Target,
    reach: Reach,
    /// How a store elsewhere is reached.
    store: Reach,
    shown: Shown,
    grant: SignedGrant,
    folder: Folder,
    how: How,
    progress: Progress,
}

/// The files of a package, each of them handed out once.
struct Files {
    job: Job,
    listed: Vec<Listed>,
    next: AtomicUsize,
    failed: AtomicUsize,
}

impl Job {
    /// What `target` grants, into the folder `folder`, which is made if need be.
    ///
    /// # Errors
    ///
    /// The URL grants no whole package, or the folder cannot be used.
    pub(super) fn new(
        target: Target,
        [reach, store]: [Reach; 2],
        shown: Shown,
        folder: &Path,
        how: How,
    ) -> anyhow::Result<Self> {
        let grant = granted(&target).context("the URL is no grant for a package")?;
        let cannot = || format!("cannot write to the folder {}", folder.display());
        let folder = Folder::take(folder).with_context(cannot)?;
        let progress = Progress::new();
        Ok(Self { target, reach, store, shown, grant, folder, how, progress })
    }

    /// Fetches all of it.
    ///
    /// # Errors
    ///
    /// What keeps a request from being written.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the next run goes on from what is there.
    pub(super) async fn run(self) -> Result<Report, Failure> {
        let began = Instant::now();
        let (report, listing) = match self.list().await? {
            Ok(found) => found,
            Err(report) => return Ok(report),
        };
        let Listing { files: listed, octets } = listing;
        let store = listed.iter().find(|it| it.is_elsewhere).map(|it| it.target.authority.clone());
        self.progress.of(octets);
        let mut summary = Summary::new(listed.len(), octets, self.how);
        let workers = usize::from(self.how.at_once).min(listed.len());
        let files = Arc::new(Files {
            job: self,
            listed,
            next: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
        });
        let mut running = JoinSet::new();
        for _ in 0..workers {
            running.spawn(Arc::clone(&files).work());
        }
        while let Some(ended) = running.join_next().await {
            let ended = ended.map_err(|why| Failure::Runtime(why.into()))?;
            summary.add(ended?, &files.listed);
        }
        let job = &files.job;
        job.progress.clear();
        if summary.is_whole() {
            job.folder.tidy();
        }
        let report =
            report.fact("package", job.package().as_str()).fact("folder", job.folder.shown());
        let report = match store {
            Some(store) => report.fact("store", store),
            None => report,
        };
        Ok(summary.report(report, began.elapsed()))
    }

    fn package(&self) -> &PackageId {
        &self.grant.grant().package
    }

    /// Where the service is asked for a file that is in a store: for another location of it.
    fn on_service(&self, file: &ContentFile) -> Option<Target> {
        let path = self.grant.for_file(&file.name)?.location().try_into().ok()?;
        Some(Target { path, ..self.target.clone() })
    }

    /// Asks which files there are.
    async fn list(&self) -> Result<Result<(Report, Listing), Report>, Failure> {
        let mut tries = Tries::new(self.how.tries);
        loop {
            let mut headers = HeaderMap::new();
            self.shown.put_into(&mut headers).map_err(Failure::Runtime)?;
            let (is_passing, report) = match self.list_once(headers).await {
                Ok(Ok(found)) => return Ok(Ok(found)),
                Ok(Err(report)) => (report.is_passing(), report),
                Err(fault) => (fault.is_passing(), Report::of_fault(&fault, None)),
            };
            match tries.after_failure(false) {
                Some(wait) if is_passing => tokio::time::sleep(wait).await,
                _ => return Ok(Err(report)),
            }
        }
    }

    async fn list_once(
        &self,
        headers: HeaderMap,
    ) -> Result<Result<(Report, Listing), Report>, Fault> {
        let mut connection = Connection::open(&self.reach, &self.target).await?;
        let mut request = Request::new(body::empty());
        *request.headers_mut() = headers;
        let answer = connection.send(&self.target, request, &Taken::default()).await?;
        let status = answer.status();
        let report = Report::of(&answer, Asked::Gateway, connection.described());
        let mut body = answer.into_body();
        if status != StatusCode::OK {
            let report = with_what_was_said(report, &self.shown, &connection, &mut body).await;
            return Ok(Err(Report { outcome: outcome_of(&report), ..report }));
        }
        let text = connection.rest(&mut body, LISTING_OCTETS_MAX + 1).await?;
        Ok(match Listing::read(&text, self.package(), &self.target, &self.store) {
            Ok(listing) => Ok((report, listing)),
            Err(why) => Err(Report {
                outcome: Outcome::Failed,
                means: Some(format!(
                    "the list of files cannot be used, and nothing was fetched: {why}"
                )),
                next: Some("have the package put anew; the gateway's log, by message id".into()),
                ..report
            }),
        })
    }
}

/// Nothing but 200 has a list.
fn outcome_of(report: &Report) -> Outcome {
    if report.is_answered() { Outcome::Failed } else { report.outcome }
}

/// What is granted at `target`, which is all files of a package.
fn granted(target: &Target) -> anyhow::Result<SignedGrant> {
    let query = target.path.query().ok_or_else(|| anyhow!("it has no query"))?;
    let grant = SignedGrant::read(query)?;
    ensure!(
        grant.file().is_none(),
        "it is for one file: leave --package out, or ask the site for a grant without --file"
    );
    Ok(grant)
}

/// What has come of a file.
enum Came {
    /// It was there already.
    There,
    /// It was fetched; so many octets came, and so often it went on where it had been broken off.
    Fetched { octets: u64, resumed: u64 },
    /// It is not there, for this reason.
    Failed(Box<Report>),
}

impl Files {
    /// Fetches files as long as there are any that nobody has taken.
    async fn work(self: Arc<Self>) -> Result<Vec<(usize, Came)>, Failure> {
        let (mut lines, mut done) = (Lines::default(), Vec::new());
        loop {
            let place = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(listed) = self.listed.get(place) else { return Ok(done) };
            let came = self.job.fetch(listed, &mut lines).await?;
            if let Came::Failed(report) = &came {
                self.note_failed(report);
            }
            done.push((place, came));
        }
    }

    /// Has no other file begun where the others would fail alike.
    fn note_failed(&self, report: &Report) {
        // What is not there, cannot be read or is another may be so of one file alone.
        let is_of_one_file = matches!(report.status, Some(200..=299 | 404 | 503));
        let before = self.failed.fetch_add(1, Ordering::Relaxed);
        if !is_of_one_file || before + 1 >= FAILED_MAX {
            self.next.store(self.listed.len(), Ordering::Relaxed);
        }
    }
}

impl Job {
    /// Fetches one file, if it is not there.
    async fn fetch(&self, listed: &Listed, lines: &mut Lines) -> Result<Came, Failure> {
        let file = &listed.file;
        let part = match self.look(file).await? {
            Ok(Some(part)) => part,
            Ok(None) => {
                self.progress.moved(0, file.octets);
                return Ok(Came::There);
            }
            Err(why) => return Ok(failed(Report::of_fault(&of_file(why), None))),
        };
        let Self { reach, shown, store, progress, .. } = self;
        let there = || (self.on_service(file), Some(listed.target.clone()));
        let (on_service, moved) = if listed.is_elsewhere { there() } else { (None, None) };
        let target = on_service.as_ref().unwrap_or(&listed.target);
        let listed = Some(file);
        let mut fetch = Fetch {
            target,
            reach,
            shown,
            store,
            moved,
            asked_anew_at: None,
            progress,
            part,
            listed,
            resumed: 0,
            came: 0,
        };
        let mut is_again = false;
        let report = loop {
            let report = match fetch.run(self.how.tries, lines).await? {
                Ok(report) => report,
                Err(report) => {
                    fetch.part.discard_if_empty();
                    return Ok(failed(report));
                }
            };
            if fetch.part.sha256() == file.sha256_text() {
                break report;
            }
            if is_again || fetch.came >= file.octets {
                fetch.part.discard();
                return Ok(failed(not_as_listed(report)));
            }
            // What a run before has left may be at fault.
            is_again = true;
            fetch.clear().map_err(|why| Failure::Runtime(why.into()))?;
        };
        let (octets, resumed, part) = (fetch.came, fetch.resumed, fetch.part);
        let finished = spawn_blocking(move || part.finish()).await;
        match finished.map_err(|why| Failure::Runtime(why.into()))? {
            Ok(()) => Ok(Came::Fetched { octets, resumed }),
            Err(why) => Ok(failed(Report::of_fault(&of_file(why), Some(report)))),
        }
    }

    /// What there is of a file; `None` if it is there. Reads it, off the runtime's thread.
    async fn look(&self, file: &ContentFile) -> Result<io::Result<Option<Part>>, Failure> {
        let (folder, file) = (self.folder.clone(), file.clone());
        let looked = spawn_blocking(move || folder.look(&file)).await;
        looked.map_err(|why| Failure::Runtime(why.into()))
    }
}

fn failed(report: Report) -> Came {
    Came::Failed(Box::new(report))
}

/// What is said of a file that came whole, and is another.
fn not_as_listed(report: Report) -> Report {
    Report {
        outcome: Outcome::Failed,
        means: Some("the file is not the one that was listed: its SHA-256 is another".into()),
        next: Some("have the package put anew, by `relay content put`".into()),
        ..report
    }
}
