//! `relay client download`: a file, whole or not at all, resumed where it was broken off.

use std::io;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow, ensure};
use http::header::{CONTENT_RANGE, DATE, ETAG, IF_RANGE, LAST_MODIFIED, RANGE};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use hyper::body::Incoming;

use crate::exit::Failure;

use super::args::{Reach, Way};
use super::body::{self, Taken};
use super::connection::Connection;
use super::credentials::{Credentials, Shown};
use super::fault::Fault;
use super::part::{Known, Part};
use super::progress::Progress;
use super::report::{Asked, Hop, Outcome, Report};
use super::request::with_what_was_said;
use super::target::Target;
use super::tries::Tries;
use super::{show, until_interrupted};

/// Shown below the help of `relay client download`.
pub(super) const EXAMPLES: &str = "\
Examples:
  A file of a management point, checked:
    relay client download \\
        https://relay.example/CCM_Proxy_ServerAuth/72057594037927937/CCM_Client/ccmsetup.cab \\
        ccmsetup.cab --ca site-ca.pem --folder me \\
        --sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08

What is broken off is resumed by Range and If-Range, at once or by the same command later; until the
file is whole it stands in FILE.part, and FILE is as it was.";

/// Arguments of `relay client download`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The URL, as `https://SERVICE/CCM_Proxy_MutualAuth/ROLE_ID/PATH`.
    #[arg(value_name = "URL")]
    url: String,
    /// Where to put the file; one that is there is replaced.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    way: Way,
    #[command(flatten)]
    credentials: Credentials,
    /// SHA-256 of the file, as 64 hexadecimal digits. Another file is not kept.
    #[arg(long, value_name = "HEX", value_parser = sha256)]
    sha256: Option<String>,
    /// How often in a row to try without an octet more.
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100))]
    tries: u32,
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
    let part = part(args).map_err(Failure::Usage)?;
    let download = Download { target: &target, reach: &reach, shown: &shown, part };
    let report = until_interrupted(download.run(args))?;
    show(&report, args.way.json, super::Shown::Out)
}

fn part(args: &Args) -> anyhow::Result<Part> {
    ensure!(!args.file.is_dir(), "{} is a folder", args.file.display());
    let part = Part::open(&args.file, &args.url);
    part.with_context(|| format!("cannot write beside {}", args.file.display()))
}

struct Download<'a> {
    target: &'a Target,
    reach: &'a Reach,
    shown: &'a Shown,
    part: Part,
}

/// How a try has ended that has not brought the whole file.
enum Broken {
    /// The answer is no file.
    Answer(Box<Report>),
    /// The rest did not come.
    Fault(Fault),
    /// What is there does not go with what came: all of it is asked for again.
    Again(String),
}

impl From<Fault> for Broken {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

fn of_file(source: io::Error) -> Fault {
    Fault::File { what: "cannot write the file", source }
}

impl Download<'_> {
    async fn run(mut self, args: &Args) -> Result<Report, Failure> {
        let mut tries = Tries::new(args.tries);
        let mut progress = Progress::new();
        let (mut resumed, mut most) = (0_u64, self.part.len());
        let report = loop {
            let (is_passing, report) = match self.once(&mut progress, &mut resumed).await? {
                Ok(report) => break report,
                Err(Broken::Fault(fault)) => (fault.is_passing(), Report::of_fault(&fault, None)),
                Err(Broken::Answer(report)) => (report.is_passing(), *report),
                Err(Broken::Again(why)) => {
                    self.part.clear().map_err(|error| Failure::Runtime(error.into()))?;
                    (true, Report::of_fault(&Fault::Nonsense(why), None))
                }
            };
            // By the most there ever was: what begins again and again does not get on.
            let wait = tries.after_failure(most < self.part.len());
            most = most.max(self.part.len());
            match wait {
                Some(wait) if is_passing => tokio::time::sleep(wait).await,
                _ => return Ok(self.given_up(report)),
            }
        };
        drop(progress);
        self.keep(args, report.fact("resumed", resumed))
    }

    /// Leaves what the next run can go on from, if there is any.
    fn given_up(self, report: Report) -> Report {
        let report = report.fact("bytes_so_far", self.part.len());
        if self.part.len() == 0 {
            self.part.discard();
        }
        report
    }

    /// Puts what is whole in its place, if it is what was wanted.
    fn keep(self, args: &Args, report: Report) -> Result<Report, Failure> {
        let found = self.part.sha256();
        let report = report.fact("bytes", self.part.len()).fact("sha256", found.clone());
        if let Some(wanted) = args.sha256.as_ref().filter(|wanted| **wanted != found) {
            self.part.discard();
            let (outcome, hop) = (Outcome::Failed, Hop::Site);
            let means = Some(format!("the file is another: its SHA-256 is not {wanted}"));
            let next =
                Some("check --sha256 and the URL; else the site role has another file".into());
            return Ok(Report { outcome, hop, means, next, ..report });
        }
        let kept = self.part.finish();
        let kept = kept.with_context(|| format!("cannot write {}", args.file.display()));
        kept.map_err(Failure::Runtime)?;
        Ok(report.fact("file", args.file.display().to_string()))
    }

    /// Asks for what is missing, and takes what comes.
    async fn once(
        &mut self,
        progress: &mut Progress,
        resumed: &mut u64,
    ) -> Result<Result<Report, Broken>, Failure> {
        let mut headers = HeaderMap::new();
        self.shown.put_into(&mut headers).map_err(Failure::Runtime)?;
        if let Some(known) = self.part.known() {
            // RFC 9110, section 13.1.5: all of it comes, if it has changed.
            let range = HeaderValue::try_from(format!("bytes={}-", self.part.len()));
            let validator = HeaderValue::try_from(&known.validator);
            if let (Ok(range), Ok(validator)) = (range, validator) {
                headers.insert(RANGE, range);
                headers.insert(IF_RANGE, validator);
            }
        }
        Ok(self.fetch(headers, progress, resumed).await)
    }

    async fn fetch(
        &mut self,
        headers: HeaderMap,
        progress: &mut Progress,
        resumed: &mut u64,
    ) -> Result<Report, Broken> {
        let asked_from = headers.contains_key(RANGE).then(|| self.part.len());
        let mut connection = Connection::open(self.reach, self.target).await?;
        let mut request = Request::new(body::empty());
        *request.headers_mut() = headers;
        let answer = connection.send(self.target, request, &Taken::default()).await?;
        let report = Report::of(&answer, Asked::Site, connection.described());
        let (head, mut body) = answer.into_parts();
        match (head.status, asked_from) {
            (StatusCode::OK, _) => {
                let known =
                    known(&head.headers, &self.target.url().map_err(Fault::from)?.to_string());
                self.part.begin(known).map_err(of_file)?;
            }
            (StatusCode::PARTIAL_CONTENT, Some(from)) => {
                let total = self.part.total();
                is_rest(&head.headers, from, total).map_err(Broken::Again)?;
                *resumed += 1;
            }
            (StatusCode::RANGE_NOT_SATISFIABLE, Some(from)) => {
                let whole = format!("bytes */{from}");
                let told = head.headers.get(CONTENT_RANGE).map(HeaderValue::as_bytes);
                if told == Some(whole.as_bytes()) {
                    // All of it was there.
                    return Ok(Report {
                        outcome: Outcome::Answered,
                        means: None,
                        next: None,
                        ..report
                    });
                }
                return Err(Broken::Again("the file has become another or shorter".into()));
            }
            _ => return Err(self.no_file(report, &connection, &mut body).await),
        }
        while let Some(octets) = connection.more(&mut body).await? {
            self.part.push(&octets).map_err(of_file)?;
            progress.at(self.part.len(), self.part.total());
        }
        match self.part.total() {
            Some(total) if total != self.part.len() => {
                Err(Broken::Again(format!("{} octets came of {total}", self.part.len())))
            }
            _ => Ok(report),
        }
    }

    async fn no_file(
        &self,
        report: Report,
        connection: &Connection,
        body: &mut Incoming,
    ) -> Broken {
        let report = with_what_was_said(report, self.shown, connection, body).await;
        let report = if report.is_answered() {
            let status = report.status.unwrap_or_default();
            let means = Some(format!("an answer of {status} is no file"));
            let next = Some("check the URL; nobody is followed elsewhere".into());
            Report { outcome: Outcome::Failed, means, next, ..report }
        } else {
            report
        };
        Broken::Answer(Box::new(report))
    }
}

/// What tells this content from any other, if anything does.
///
/// A weak tag may stand for several contents. So may a date, if it is that of the answer: our
/// choice is to take none that is not older. RFC 9110, sections 8.8.1 and 8.8.2.2.
fn known(headers: &HeaderMap, url: &str) -> Option<Known> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let strong = text(ETAG).filter(|tag| tag.starts_with('"'));
    let date = text(LAST_MODIFIED).filter(|date| text(DATE).is_some_and(|now| now != *date));
    let validator = strong.or(date.filter(|_| text(ETAG).is_none()))?.to_owned();
    let total = text(http::header::CONTENT_LENGTH).and_then(|total| total.parse().ok());
    Some(Known { url: url.to_owned(), validator, total })
}

/// Whether a 206 is the rest from `from` on.
fn is_rest(headers: &HeaderMap, from: u64, total: Option<u64>) -> Result<(), String> {
    let read = || {
        let (range, whole) =
            headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        Some((first, last, whole.parse::<u64>().ok()))
    };
    let (first, last, whole) =
        read().ok_or_else(|| anyhow!("a 206 came without a range").to_string())?;
    let is_end = whole.is_none_or(|whole| whole.checked_sub(1) == Some(last));
    let is_same = total.is_none() || whole.is_none() || total == whole;
    if first == from && is_end && is_same {
        return Ok(());
    }
    Err(format!("the octets from {from} on were asked for, and {first} to {last} came"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &'static str)| {
            (name.parse::<http::HeaderName>().unwrap(), HeaderValue::from_static(value))
        };
        fields.iter().map(field).collect()
    }

    #[test]
    fn only_what_stands_for_one_content_is_a_validator() {
        let date = ("date", "Sun, 22 Nov 2026 10:00:00 GMT");
        let (old, new) = ("Sat, 21 Nov 2026 10:00:00 GMT", "Sun, 22 Nov 2026 10:00:00 GMT");
        let validator = |fields: &[_]| known(&headers(fields), "u").map(|it| it.validator);
        assert_eq!(validator(&[("etag", "\"1\"")]).as_deref(), Some("\"1\""));
        assert_eq!(validator(&[date, ("last-modified", old)]).as_deref(), Some(old));
        assert_eq!(validator(&[date, ("last-modified", new)]), None);
        assert_eq!(validator(&[("last-modified", old)]), None);
        assert_eq!(validator(&[("etag", "W/\"1\"")]), None);
        assert_eq!(validator(&[date, ("etag", "W/\"1\""), ("last-modified", old)]), None);
        assert_eq!(validator(&[]), None);
    }

    #[test]
    fn only_the_rest_from_where_it_was_asked_for_is_taken() {
        let is = |range, total| is_rest(&headers(&[("content-range", range)]), 4, total).is_ok();
        assert!(is("bytes 4-9/10", Some(10)) && is("bytes 4-9/*", Some(10)));
        assert!(is("bytes 4-9/10", None));
        for wrong in [
            "bytes 3-9/10",
            "bytes 5-9/10",
            "bytes 4-8/10",
            "bytes 4-9/11",
            "bytes 4-10/11",
            "bytes */10",
            "4-9/10",
            "bytes 4-9",
            "bytes 4-9/0",
            "",
            "bytes -4/10",
        ] {
            assert!(!is(wrong, Some(10)), "{wrong}");
        }
        assert!(is_rest(&headers(&[]), 4, None).is_err());
    }
}
