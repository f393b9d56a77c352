//! One file, asked for until it is whole.

use std::io;

use anyhow::anyhow;
use http::header::{
    CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, IF_RANGE, LAST_MODIFIED, LOCATION, RANGE,
};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use hyper::body::Incoming;
use relay_core::content::ContentFile;
use relay_core::policy::OwnAnswer;

use crate::exit::Failure;
use crate::progress::Progress;

use super::args::Reach;
use super::body::{self, Taken};
use super::connection::Connection;
use super::credentials::Shown;
use super::fault::Fault;
use super::part::{Known, Part};
use super::report::{Asked, Outcome, Report};
use super::request::{SAID_BYTES, with_what_was_said};
use super::target::Target;
use super::tries::Tries;

/// Longest code of a store's error that is shown, in octets.
const CODE_OCTETS_MAX: usize = 64;

/// A file that is fetched. What came of it is in `part`, however it ends.
pub(super) struct Fetch<'a> {
    pub(super) target: &'a Target,
    pub(super) reach: &'a Reach,
    pub(super) shown: &'a Shown,
    /// How a store is reached to which the gateway sends its clients; it is shown nothing.
    pub(super) store: &'a Reach,
    /// Where the file is in such a store, once that is known.
    pub(super) moved: Option<Target>,
    /// What was there when a store last refused its location, and the gateway was asked for
    /// another.
    pub(super) asked_anew_at: Option<u64>,
    pub(super) progress: &'a Progress,
    pub(super) part: Part,
    /// What it is to be, where a list says so.
    pub(super) listed: Option<&'a ContentFile>,
    /// How often it went on where it had been broken off.
    pub(super) resumed: u64,
    /// Octets that came, those that were dropped again among them.
    pub(super) came: u64,
}

/// Connections that are free: to the service, and to the store that it sends its clients to. What
/// is for one never goes over the other.
#[derive(Default)]
pub(super) struct Lines {
    service: Option<Connection>,
    store: Option<Connection>,
}

/// How a try has ended that has not brought the whole file.
enum Broken {
    /// The answer is no file, or another.
    Answer(Box<Report>),
    /// The rest did not come.
    Fault(Fault),
    /// What is there does not go with what came: all of it is asked for again.
    Again(String),
    /// It is in a store.
    Moved(Target),
}

impl From<Fault> for Broken {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

pub(super) fn of_file(source: io::Error) -> Fault {
    Fault::File { what: "cannot write the file", source }
}

impl Fetch<'_> {
    /// Fetches what is missing, over `lines` where one is free; they are left so again. Returns
    /// what was answered, or why it is not whole.
    ///
    /// # Errors
    ///
    /// What keeps the request from being written.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what came so far stays in the part, and the next run goes on from there.
    pub(super) async fn run(
        &mut self,
        tries: u32,
        lines: &mut Lines,
    ) -> Result<Result<Report, Report>, Failure> {
        let mut tries = Tries::new(tries);
        let mut most = self.part.len();
        self.progress.moved(0, most);
        loop {
            let (is_passing, report) = match self.once(lines).await? {
                Ok(report) => return Ok(Ok(report)),
                Err(Broken::Fault(fault)) => (fault.is_passing(), self.failed(&fault)),
                Err(Broken::Answer(report)) if self.is_to_be_located_anew(&report) => {
                    (self.moved, self.asked_anew_at) = (None, Some(self.part.len()));
                    continue;
                }
                Err(Broken::Answer(report)) => (report.is_passing(), *report),
                Err(Broken::Moved(target)) => {
                    self.moved = Some(target);
                    continue;
                }
                Err(Broken::Again(why)) => {
                    self.clear().map_err(|error| Failure::Runtime(error.into()))?;
                    (true, self.failed(&Fault::Nonsense(why)))
                }
            };
            // By the most there ever was: what begins again and again does not get on.
            let wait = tries.after_failure(most < self.part.len());
            most = most.max(self.part.len());
            match wait {
                Some(wait) if is_passing => tokio::time::sleep(wait).await,
                _ => return Ok(Err(report)),
            }
        }
    }

    /// Whether a store refuses a location in whose place the gateway may sign another: once, and
    /// again only if that one has brought octets.
    fn is_to_be_located_anew(&self, report: &Report) -> bool {
        let is_refused = self.moved.is_some() && matches!(report.status, Some(401 | 403));
        is_refused && self.asked_anew_at.is_none_or(|before| before < self.part.len())
    }

    /// What is said of a try that had no answer, or half of one, by whoever was asked.
    fn failed(&self, fault: &Fault) -> Report {
        if self.moved.is_some() {
            Report::of_store_fault(fault)
        } else {
            Report::of_fault(fault, None)
        }
    }

    /// Drops what is there.
    ///
    /// # Errors
    ///
    /// The file cannot be changed.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.progress.moved(self.part.len(), 0);
        self.part.clear()
    }

    /// Asks for what is missing, and takes what comes.
    async fn once(&mut self, lines: &mut Lines) -> Result<Result<Report, Broken>, Failure> {
        let mut headers = HeaderMap::new();
        let (target, reach, line) = if let Some(target) = &self.moved {
            (target.clone(), self.store, &mut lines.store)
        } else {
            self.shown.put_into(&mut headers).map_err(Failure::Runtime)?;
            (self.target.clone(), self.reach, &mut lines.service)
        };
        if let Some(known) = self.part.known() {
            // RFC 9110, section 13.1.5: all of it comes, if it has changed.
            let range = HeaderValue::try_from(format!("bytes={}-", self.part.len()));
            let validator = HeaderValue::try_from(&known.validator);
            if let (Ok(range), Ok(validator)) = (range, validator) {
                headers.insert(RANGE, range);
                headers.insert(IF_RANGE, validator);
            }
        }
        // What an answer has left on a connection that broke off is nobody's.
        let free = line.take().filter(|it| !it.is_closed() && it.leads_to(&target));
        let connection = match free {
            Some(connection) => Ok(connection),
            None => Connection::open(reach, &target).await,
        };
        let mut connection = match connection {
            Ok(connection) => connection,
            Err(fault) => return Ok(Err(fault.into())),
        };
        let fetched = self.fetch(&target, headers, &mut connection).await;
        if matches!(fetched, Ok(_) | Err(Broken::Moved(_))) {
            *line = Some(connection);
        }
        Ok(fetched)
    }

    async fn fetch(
        &mut self,
        target: &Target,
        headers: HeaderMap,
        connection: &mut Connection,
    ) -> Result<Report, Broken> {
        let asked_from = headers.contains_key(RANGE).then(|| self.part.len());
        let mut request = Request::new(body::empty());
        *request.headers_mut() = headers;
        let own = OwnAnswer::of(request.method(), &target.path);
        let asked = match &own {
            _ if self.moved.is_some() => Asked::Store,
            Ok(None) => Asked::Site,
            Ok(Some(_)) | Err(_) => Asked::Gateway,
        };
        let is_content = asked == Asked::Gateway && matches!(own, Ok(Some(OwnAnswer::Content)));
        let answer = connection.send(target, request, &Taken::default()).await?;
        let report = Report::of(&answer, asked, connection.described());
        let (head, mut body) = answer.into_parts();
        match (head.status, asked_from) {
            (StatusCode::OK, _) => {
                self.check_listed(&head.headers, &report)?;
                self.progress.moved(self.part.len(), 0);
                self.part.begin(known(&head.headers, self.part.source())).map_err(of_file)?;
            }
            (StatusCode::PARTIAL_CONTENT, Some(from)) => {
                let total = self.part.total();
                is_rest(&head.headers, from, total).map_err(Broken::Again)?;
                is_same(&head.headers, self.part.known()).map_err(Broken::Again)?;
                self.resumed += 1;
            }
            (StatusCode::RANGE_NOT_SATISFIABLE, Some(from)) => {
                let whole = format!("bytes */{from}");
                let told = head.headers.get(CONTENT_RANGE).map(HeaderValue::as_bytes);
                if told == Some(whole.as_bytes()) {
                    // All of it was there. The connection is free once this was read.
                    connection.rest(&mut body, SAID_BYTES).await?;
                    let (outcome, means, next) = (Outcome::Answered, None, None);
                    return Ok(Report { outcome, means, next, ..report });
                }
                return Err(Broken::Again("the file has become another or shorter".into()));
            }
            // From there, nobody is followed any farther; nor anybody else at all.
            (StatusCode::TEMPORARY_REDIRECT, _) if is_content => {
                let moved = self.follow(&head.headers)?;
                // The connection is free once this was read.
                connection.rest(&mut body, SAID_BYTES).await?;
                return Err(moved);
            }
            _ => return Err(self.no_file(report, connection, &mut body).await),
        }
        self.take(&report, connection, &mut body).await?;
        match self.part.total() {
            Some(total) if total != self.part.len() => {
                Err(Broken::Again(format!("{} octets came of {total}", self.part.len())))
            }
            _ => Ok(report),
        }
    }

    /// Where a gateway sends its client for a file.
    fn follow(&self, headers: &HeaderMap) -> Result<Broken, Fault> {
        let cannot = |why: &str| {
            Fault::Nonsense(format!("the gateway's redirect to a store is not followed: {why}"))
        };
        let text = headers.get(LOCATION).and_then(|it| it.to_str().ok());
        let target = Target::parse(text.ok_or_else(|| cannot("it says no location"))?);
        let target = target.map_err(|why| cannot(&why.to_string()))?;
        if !self.store.can_trust(&target) {
            return Err(cannot("nobody says by whom the store is trusted: give --store-ca"));
        }
        Ok(Broken::Moved(target))
    }

    /// Takes octets to the end of an answer.
    async fn take(
        &mut self,
        report: &Report,
        connection: &Connection,
        body: &mut Incoming,
    ) -> Result<(), Broken> {
        if let (None, Some(total)) = (self.listed, self.part.total()) {
            self.progress.of(total);
        }
        while let Some(octets) = connection.more(body).await? {
            let (before, count) = (self.part.len(), octets.len() as u64);
            if self.listed.is_some_and(|it| before + count > it.octets) {
                return Err(another(report));
            }
            self.part.push(&octets).map_err(of_file)?;
            self.came += count;
            self.progress.moved(before, before + count);
        }
        Ok(())
    }

    /// Judges by its head whether a file is the one that was listed.
    fn check_listed(&self, headers: &HeaderMap, report: &Report) -> Result<(), Broken> {
        let Some(listed) = self.listed else { return Ok(()) };
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let length = text(CONTENT_LENGTH).and_then(|it| it.parse::<u64>().ok());
        if length.is_some_and(|it| it != listed.octets) {
            return Err(another(report));
        }
        // An instance's own tags are hashes; those of others say nothing to us.
        let tag = text(ETAG).and_then(|it| it.strip_prefix('"')?.strip_suffix('"'));
        let hash = tag.filter(|it| it.len() == 64 && it.bytes().all(|it| it.is_ascii_hexdigit()));
        match hash {
            Some(hash) if !hash.eq_ignore_ascii_case(&listed.sha256_text()) => Err(another(report)),
            _ => Ok(()),
        }
    }

    async fn no_file(
        &self,
        report: Report,
        connection: &Connection,
        body: &mut Incoming,
    ) -> Broken {
        let report = if self.moved.is_some() {
            with_code_of_store(report, connection, body).await
        } else {
            with_what_was_said(report, self.shown, connection, body).await
        };
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

/// Adds the one word by which a store says why, and nothing else: it may repeat a location there,
/// and what that was signed by.
async fn with_code_of_store(
    report: Report,
    connection: &Connection,
    body: &mut Incoming,
) -> Report {
    // A refusal whose text breaks off is one all the same.
    let said = connection.rest(body, SAID_BYTES).await.unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    match code_of_store(&said) {
        Some(code) => report.fact("said", code),
        None => report,
    }
}

/// The code in an error of Azure's or S3's.
fn code_of_store(said: &str) -> Option<&str> {
    let (code, _) = said.split_once("<Code>")?.1.split_once("</Code>")?;
    let is_word = code.len() <= CODE_OCTETS_MAX && code.bytes().all(|it| it.is_ascii_alphabetic());
    Some(code).filter(|_| is_word)
}

/// What is said of a file that is not the one that was listed.
fn another(report: &Report) -> Broken {
    let report = Report {
        outcome: Outcome::Failed,
        means: Some("the file has become another since it was listed".into()),
        next: Some("the same command again: it asks for the list anew".into()),
        ..report.clone()
    };
    Broken::Answer(Box::new(report))
}

/// What tells this content from any other, if anything does.
///
/// A weak tag may stand for several contents. So may a date, if it is that of the answer: our
/// choice is to take none that is not older. RFC 9110, sections 8.8.1 and 8.8.2.2.
fn known(headers: &HeaderMap, source: &str) -> Option<Known> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let strong = text(ETAG).filter(|tag| tag.starts_with('"'));
    let date = text(LAST_MODIFIED).filter(|date| text(DATE).is_some_and(|now| now != *date));
    let validator = strong.or(date.filter(|_| text(ETAG).is_none()))?.to_owned();
    let total = text(CONTENT_LENGTH).and_then(|total| total.parse().ok());
    Some(Known { url: source.to_owned(), validator, total })
}

/// Whether a 206 is of what is there: whoever passes over If-Range shows it by another tag.
// RFC 9110, section 15.3.7.3.
fn is_same(headers: &HeaderMap, known: Option<&Known>) -> Result<(), String> {
    let strong = |it: &&str| it.starts_with('"');
    let tag = headers.get(ETAG).and_then(|it| it.to_str().ok()).filter(strong);
    let before = known.map(|it| it.validator.as_str()).filter(strong);
    match (tag, before) {
        (Some(tag), Some(before)) if tag != before => {
            Err("the rest that came is of another file".to_owned())
        }
        _ => Ok(()),
    }
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
    fn of_what_a_store_says_a_word_is_shown() {
        let error = |code: &str| format!("<Error><Code>{code}</Code><Message>m</Message></Error>");
        assert_eq!(code_of_store(&error("AccessDenied")), Some("AccessDenied"));
        let longest = "a".repeat(CODE_OCTETS_MAX);
        assert_eq!(code_of_store(&error(&longest)), Some(longest.as_str()));
        for none in [&error(&"a".repeat(CODE_OCTETS_MAX + 1)), &error("a b"), "AccessDenied", ""] {
            assert_eq!(code_of_store(none), None, "{none}");
        }
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
