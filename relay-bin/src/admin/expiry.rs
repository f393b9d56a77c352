//! What ends, as it travels and as people read it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::status::rfc3339;
use super::text::{push_line, push_table};
use crate::expiry::Ending;

const DAY: Duration = Duration::from_hours(24);

/// A certificate or a revocation list.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Ends {
    /// `server certificate`, `link certificate`, `revocation list of clients` and so on.
    pub(super) what: String,
    /// A certificate's subject, or a list's issuer.
    pub(super) name: String,
    /// Its file, or who has told of it.
    pub(super) place: String,
    /// RFC 3339, UTC.
    #[serde(rename = "ends_at")]
    pub(super) at: String,
    /// Whole days until then; negative once it is over.
    pub(super) days_left: i64,
    /// Whether its end is near for something that lives so long: as the log tells it.
    #[serde(default)]
    pub(super) is_near: bool,
}

/// All of them at `now`, in their order.
pub(super) fn ends(all: Vec<Ending>, now: SystemTime) -> Vec<Ends> {
    let ends = all.into_iter().map(|it| {
        let ahead = it.ends_at.duration_since(now).map(whole_days);
        // It is over from its first second on.
        let behind = now.duration_since(it.ends_at).map(|over| -1 - whole_days(over));
        Ends {
            is_near: it.is_near(now),
            what: it.what.to_owned(),
            name: it.name,
            place: it.place,
            at: rfc3339(OffsetDateTime::from(it.ends_at)),
            days_left: ahead.or(behind).unwrap_or_default(),
        }
    });
    ends.collect()
}

fn whole_days(time: Duration) -> i64 {
    i64::try_from(time.as_secs() / DAY.as_secs()).unwrap_or(i64::MAX - 1)
}

/// Seconds since 1970, for a metric.
pub(super) fn seconds(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// A line for each that ends soon, or for the first of all.
pub(super) fn push(text: &mut String, all: &[Ends]) {
    let soon: Vec<_> = all.iter().filter(|it| it.is_near || it.days_left < 0).collect();
    if soon.is_empty() {
        let Some(first) = all.first() else { return };
        let Ends { what, name, days_left, .. } = first;
        let line = format!("expiry: nothing ends soon; first {what} {name} in {days_left} days");
        return push_line(text, &line);
    }
    let headings = ["expiry", "name", "ends", "days left", "where"];
    let mut rows = vec![headings.map(str::to_owned).to_vec()];
    rows.extend(soon.into_iter().map(|it| {
        let left = if it.days_left < 0 { "OVER".to_owned() } else { it.days_left.to_string() };
        vec![it.what.clone(), it.name.clone(), it.at.clone(), left, it.place.clone()]
    }));
    push_table(text, &rows);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_whole_and_negative_from_the_first_second_after_the_end_on() {
        let end = UNIX_EPOCH + DAY * 20_000;
        let left = |now: SystemTime| {
            let (what, name, place) = ("link certificate", String::new(), String::new());
            let ending = Ending { what, name, place, begins_at: None, ends_at: end };
            ends(vec![ending], now)[0].days_left
        };
        let second = Duration::from_secs(1);
        assert_eq!([left(end - DAY), left(end - DAY + second), left(end)], [1, 0, 0]);
        assert_eq!([left(end + second), left(end + DAY - second), left(end + DAY)], [-1, -1, -2]);
    }

    #[test]
    fn what_ends_soon_has_a_line_and_else_the_first_of_all() {
        let ends = |days_left| Ends {
            what: "link certificate".to_owned(),
            name: "CN=a".to_owned(),
            place: "link.pem".to_owned(),
            at: "2028-01-01T00:00:00Z".to_owned(),
            days_left,
            is_near: (0..60).contains(&days_left),
        };
        let told = |all: &[Ends]| {
            let mut text = String::new();
            push(&mut text, all);
            text
        };
        assert_eq!(told(&[]), "");
        let first = "expiry: nothing ends soon; first link certificate CN=a in 60 days\n";
        assert_eq!(told(&[ends(60), ends(61)]), first);
        let soon = "\
expiry            name  ends                  days left  where
link certificate  CN=a  2028-01-01T00:00:00Z  OVER       link.pem
link certificate  CN=a  2028-01-01T00:00:00Z  59         link.pem
";
        assert_eq!(told(&[ends(-1), ends(59), ends(60)]), soon);
    }
}
