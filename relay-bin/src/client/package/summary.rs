//! What has come of all files of a package.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::report::Report;
use super::listing::Listed;
use super::{Came, How};

/// Files that failed of which each is told; of the others, how many there are.
const TOLD_MAX: usize = 20;

/// What has come of all files of a package.
pub(super) struct Summary {
    how: How,
    files: usize,
    octets: u64,
    there: usize,
    fetched: usize,
    came: u64,
    resumed: u64,
    /// By their places in the list.
    failed: Vec<(usize, String, Report)>,
}

impl Summary {
    pub(super) fn new(files: usize, octets: u64, how: How) -> Self {
        let failed = Vec::new();
        Self { how, files, octets, there: 0, fetched: 0, came: 0, resumed: 0, failed }
    }

    /// Adds files by their places in `listed`.
    pub(super) fn add(&mut self, done: Vec<(usize, Came)>, listed: &[Listed]) {
        for (place, came) in done {
            match came {
                Came::There => self.there += 1,
                Came::Fetched { octets, resumed } => {
                    self.fetched += 1;
                    self.came += octets;
                    self.resumed += resumed;
                }
                Came::Failed(report) => {
                    let name = listed.get(place).map(|it| it.file.name.to_string());
                    self.failed.push((place, name.unwrap_or_default(), *report));
                }
            }
        }
    }

    /// Whether all files are in their places.
    pub(super) fn is_whole(&self) -> bool {
        self.there + self.fetched == self.files
    }

    /// What is reported: `listed`, the answer with the list, if all files are there; else what was
    /// said of the first one that is not. In a line for people, or in numbers for scripts.
    pub(super) fn report(mut self, listed: Report, took: Duration) -> Report {
        self.failed.sort_by_key(|(place, ..)| *place);
        let mut report = listed;
        if let Some((_, name, first)) = self.failed.first() {
            let facts = report.facts;
            report = Report { facts, ..first.clone() }.fact("file", name.as_str());
            if let Some(said) = first.facts.get("said") {
                report = report.fact("said", said.clone());
            }
        }
        let report = self.with_numbers(report, took);
        if self.failed.is_empty() {
            return report;
        }
        let told = self.failed.iter().take(TOLD_MAX);
        if !self.how.is_json {
            let names: Vec<_> = told.map(|(_, name, _)| name.as_str()).collect();
            return report.fact("not_there", names.join(", "));
        }
        let told = told.map(|(_, name, it)| {
            json!({ "file": name, "status": it.status, "reason": it.reason, "means": it.means })
        });
        report.fact("failed", told.collect::<Value>())
    }

    fn with_numbers(&self, report: Report, took: Duration) -> Report {
        let seconds = took.as_secs_f64();
        let rate = rate(self.came, took);
        let Self { files, there, fetched, octets, came, resumed, .. } = self;
        if !self.how.is_json {
            let failed = self.failed.len();
            let line = format!(
                "{fetched} of {files} files fetched, {there} were there, {failed} failed; {came} \
                 of {octets} octets in {seconds:.1} s, {rate} octets/s; resumed {resumed} times"
            );
            return report.fact("summary", line);
        }
        report
            .fact("files", *files)
            .fact("files_there", *there)
            .fact("files_fetched", *fetched)
            .fact("files_failed", self.failed.len())
            .fact("bytes", *octets)
            .fact("bytes_fetched", *came)
            .fact("resumed", *resumed)
            .fact("seconds", seconds)
            .fact("bytes_per_second", rate)
    }
}

/// Octets in each second; of no time, none.
fn rate(octets: u64, took: Duration) -> u64 {
    let milliseconds = took.as_millis().max(1);
    u64::try_from(u128::from(octets) * 1000 / milliseconds).unwrap_or(u64::MAX)
}
