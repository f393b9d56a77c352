//! What ends, and whether the clock is one by which that can be judged.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use relay_core::config::{RoleKind, load_connection_point, load_gateway, recognise};

use super::bundle::Bundle;
use super::finding::{Finding, Findings};
use super::folder::Listing;
use super::veil::Veil;
use super::{PROOF, rfc3339};
use crate::expiry::{self, Ending};
use crate::run::variable;

/// How far a file may be ahead of the clock before it looks wrong. Our choice: file systems of
/// other machines are a few seconds off.
const AHEAD_MAX: Duration = Duration::from_mins(1);

const DAY_SECONDS: u64 = 24 * 60 * 60;

/// Adds what ends of all that the file names; of a file that cannot be used, of all certificates in
/// its folder.
pub(super) fn add(
    file: &Path,
    listing: &Listing,
    veil: &Veil,
    bundle: &mut Bundle,
    findings: &mut Findings,
) {
    let now = SystemTime::now();
    let all = named(file).unwrap_or_else(|| {
        expiry::of_files(listing.certificates.iter().map(std::path::PathBuf::as_path))
    });
    let mut text = format!("now  {}\n", rfc3339(now));
    for ending in &all {
        let Ending { what, name, place, ends_at, .. } = ending;
        let (end, left) = (rfc3339(*ends_at), left(*ends_at, now));
        writeln!(text, "{end}  {left}  {what}  {name}  {place}").expect(PROOF);
        judge(ending, now, findings);
    }
    judge_clock(listing.newest, now, findings);
    bundle.add(veil, "expiry.txt", "what ends when: certificates and revocation lists", &text);
}

/// What the file names; `None` if it cannot be used.
fn named(file: &Path) -> Option<Vec<Ending>> {
    match recognise(file).ok()? {
        RoleKind::Gateway => Some(expiry::of_gateway(&load_gateway(file).ok()?.material)),
        RoleKind::ConnectionPoint => {
            Some(expiry::of_connection_point(&load_connection_point(file, &variable).ok()?))
        }
    }
}

fn left(ends_at: SystemTime, now: SystemTime) -> String {
    let days = |time: Duration| time.as_secs() / DAY_SECONDS;
    match ends_at.duration_since(now) {
        Ok(left) => format!("in {} days", days(left)),
        Err(over) => format!("OVER since {} days", days(over.duration())),
    }
}

fn judge(ending: &Ending, now: SystemTime, findings: &mut Findings) {
    let Ending { what, name, place, begins_at, ends_at } = ending;
    let left = left(*ends_at, now);
    if ending.is_near(now) {
        findings.add(Finding::new(
            format!("the {what} {name} ends {}: {left} ({place})", rfc3339(*ends_at)),
            "`relay pki renew`, or put a new one in its place; it is read again by itself",
        ));
    }
    if let Some(begins_at) = begins_at.filter(|it| now < *it) {
        findings.add(Finding::new(
            format!("the {what} {name} holds only from {} on ({place})", rfc3339(begins_at)),
            "is the clock of this machine right? `timedatectl`; else whoever issued it had a wrong \
             one",
        ));
    }
}

fn judge_clock(newest: Option<SystemTime>, now: SystemTime, findings: &mut Findings) {
    if let Some(newest) = newest.filter(|it| now + AHEAD_MAX < *it) {
        findings.add(Finding::new(
            format!(
                "a file of the folder was written at {}, and now is {}: the clock is behind",
                rfc3339(newest),
                rfc3339(now)
            ),
            "`timedatectl`; certificates, tokens and grants are judged by the clock",
        ));
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const DAY: Duration = Duration::from_secs(DAY_SECONDS);

    fn found(begins_in: i64, ends_in: i64) -> Vec<String> {
        let now = UNIX_EPOCH + DAY * 20_000;
        let at = |seconds: i64| {
            let by = Duration::from_secs(seconds.unsigned_abs());
            if seconds < 0 { now - by } else { now + by }
        };
        let (what, name, place) = ("link certificate", "CN=a".to_owned(), "f".to_owned());
        let begins_at = Some(at(begins_in));
        let mut findings = Findings::default();
        judge(&Ending { what, name, place, begins_at, ends_at: at(ends_in) }, now, &mut findings);
        findings.all().iter().map(|it| it.what.clone()).collect()
    }

    #[test]
    fn what_ends_within_sixty_days_or_does_not_hold_yet_looks_wrong() {
        let (day, year) = (24 * 3600, 365 * 24 * 3600);
        assert!(found(-year, 60 * day + 1).is_empty());
        assert!(found(-year, 60 * day)[0].contains("ends 2024-12-03T00:00:00Z: in 60 days (f)"));
        assert!(found(-year, -1)[0].contains("OVER since 0 days"));
        assert!(found(0, year).is_empty());
        assert!(found(1, year)[0].contains("holds only from 2024-10-04T00:00:01Z on"));
    }

    #[test]
    fn a_file_from_the_future_beyond_a_minute_says_that_the_clock_is_behind() {
        let now = UNIX_EPOCH + DAY;
        for (ahead, is_behind) in [(Duration::ZERO, false), (AHEAD_MAX, false)] {
            let mut findings = Findings::default();
            judge_clock(Some(now + ahead), now, &mut findings);
            assert_eq!(findings.all().len(), usize::from(is_behind));
        }
        let mut findings = Findings::default();
        judge_clock(Some(now + AHEAD_MAX + Duration::from_secs(1)), now, &mut findings);
        assert_eq!(findings.all().len(), 1);
    }
}
