//! Traffic reports as they travel and as people read them.

use std::collections::BTreeMap;

use relay_core::gateway::{TrafficReports, TrafficRow, TrafficWindow};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::status::{Status, since_1970};
use super::text::{octets, push_line, push_table};

/// What requests are shown by: a character for each hour of the last day.
const HOURS: usize = 24;

/// Five minutes of the clock.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Window {
    /// RFC 3339, UTC.
    pub(super) begun_at: String,
    /// Whether it goes on.
    pub(super) open: bool,
    /// Those that had any traffic.
    pub(super) endpoints: Vec<Row>,
}

/// An endpoint in one window. The figures are named as administrators know them.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Row {
    pub(super) site: String,
    pub(super) endpoint: String,
    #[serde(rename = "TotalRequests")]
    pub(super) requests: u64,
    #[serde(rename = "TotalRequestsWithBearerToken")]
    pub(super) with_bearer_token: u64,
    #[serde(rename = "MaxConcurrentRequests")]
    pub(super) concurrent_max: u64,
    #[serde(rename = "TotalRequestBytes")]
    pub(super) request_octets: u64,
    #[serde(rename = "TotalResponseBytes")]
    pub(super) response_octets: u64,
    #[serde(rename = "FailedRequests")]
    pub(super) failed: u64,
}

/// Windows with any traffic, and the one that is open; the last one last.
pub(super) fn windows(reports: TrafficReports) -> Vec<Window> {
    let ended = reports.ended.into_iter().filter(|it| !it.rows.is_empty());
    let ended = ended.map(|it| window(&it, false));
    ended.chain([window(&reports.open, true)]).collect()
}

fn window(of: &TrafficWindow, open: bool) -> Window {
    let mut endpoints: Vec<_> = of.rows.iter().map(row).collect();
    endpoints.sort_by(|a, b| (&a.site, &a.endpoint).cmp(&(&b.site, &b.endpoint)));
    Window { begun_at: since_1970(of.begun_at).unwrap_or_default(), open, endpoints }
}

fn row(of: &TrafficRow) -> Row {
    Row {
        site: of.site.to_string(),
        endpoint: of.endpoint.to_string(),
        requests: of.requests,
        with_bearer_token: of.requests_with_bearer_token,
        concurrent_max: of.concurrent_requests_max,
        request_octets: of.request_octets,
        response_octets: of.response_octets,
        failed: of.failed,
    }
}

/// A line for each endpoint in each window.
pub(super) fn text(status: &Status) -> String {
    let Status::Gateway(gateway) = status else {
        return "a connection point counts no traffic; ask its gateway instances".to_owned();
    };
    let headings =
        ["five minutes", "site", "endpoint", "requests", "token", "at once", "in", "out", "failed"];
    let mut rows = vec![headings.map(str::to_owned).to_vec()];
    for window in &gateway.traffic {
        let begun = if window.open { "now" } else { &window.begun_at };
        rows.extend(window.endpoints.iter().map(|it| {
            vec![
                begun.to_owned(),
                it.site.clone(),
                it.endpoint.clone(),
                it.requests.to_string(),
                it.with_bearer_token.to_string(),
                it.concurrent_max.to_string(),
                octets(it.request_octets),
                octets(it.response_octets),
                it.failed.to_string(),
            ]
        }));
    }
    let mut text = String::new();
    push_table(&mut text, &rows);
    if rows.len() == 1 {
        push_line(&mut text, "no request came for an endpoint in the last day");
    }
    text
}

/// The last day of an endpoint.
#[derive(Default)]
struct Day {
    requests: u64,
    with_bearer_token: u64,
    concurrent_max: u64,
    request_octets: u64,
    response_octets: u64,
    failed: u64,
    /// Requests by the hour; the last one last.
    by_hour: [u64; HOURS],
}

impl Day {
    fn add(&mut self, row: &Row, hour: usize) {
        self.requests += row.requests;
        self.with_bearer_token += row.with_bearer_token;
        self.concurrent_max = self.concurrent_max.max(row.concurrent_max);
        self.request_octets += row.request_octets;
        self.response_octets += row.response_octets;
        self.failed += row.failed;
        self.by_hour[hour] += row.requests;
    }
}

/// A line for each endpoint that had any traffic in the last day.
pub(super) fn push_day(text: &mut String, windows: &[Window]) {
    let begun = |window: &Window| OffsetDateTime::parse(&window.begun_at, &Rfc3339).ok();
    let Some(last) = windows.last().and_then(begun) else { return };
    let mut days = BTreeMap::<(&str, &str), Day>::new();
    for window in windows {
        let ago = begun(window).map(|begun| (last - begun).whole_hours());
        // Of a clock that was set back.
        let Some(ago) = ago.and_then(|ago| usize::try_from(ago).ok()) else { continue };
        let Some(hour) = (HOURS - 1).checked_sub(ago) else { continue };
        for row in &window.endpoints {
            days.entry((row.site.as_str(), row.endpoint.as_str())).or_default().add(row, hour);
        }
    }
    if days.is_empty() {
        return;
    }
    let headings =
        ["last day", "endpoint", "requests", "token", "at once", "in", "out", "failed", "by hour"];
    let mut rows = vec![headings.map(str::to_owned).to_vec()];
    rows.extend(days.iter().map(|((site, endpoint), day)| {
        vec![
            (*site).to_owned(),
            (*endpoint).to_owned(),
            day.requests.to_string(),
            day.with_bearer_token.to_string(),
            day.concurrent_max.to_string(),
            octets(day.request_octets),
            octets(day.response_octets),
            day.failed.to_string(),
            bars(&day.by_hour),
        ]
    }));
    push_table(text, &rows);
}

/// A bar for each, as high as it is of the highest; a point for none.
fn bars(figures: &[u64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = figures.iter().copied().max().unwrap_or_default();
    let bar = |figure: u64| {
        let eighths = u128::from(figure) * 8;
        let eighths = eighths.div_ceil(u128::from(most.max(1)));
        let at = usize::try_from(eighths).ok().and_then(|eighths| eighths.checked_sub(1));
        at.map_or('.', |at| BARS[at])
    };
    figures.iter().copied().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(endpoint: &str, requests: u64) -> Row {
        Row {
            site: "default".to_owned(),
            endpoint: endpoint.to_owned(),
            requests,
            with_bearer_token: 1,
            concurrent_max: requests,
            request_octets: 5,
            response_octets: 6,
            failed: 2,
        }
    }

    fn window(begun_at: &str, endpoints: Vec<Row>) -> Window {
        Window { begun_at: begun_at.to_owned(), open: false, endpoints }
    }

    fn told(windows: &[Window]) -> String {
        let mut text = String::new();
        push_day(&mut text, windows);
        text
    }

    #[test]
    fn the_last_day_of_each_endpoint_has_a_line() {
        let day = [
            window("2026-11-21T12:00:00Z", vec![row("mp", 1000)]),
            window("2026-11-21T12:05:00Z", vec![row("mp", 10)]),
            window("2026-11-22T11:00:00Z", vec![row("mp", 80), row("sup", 3)]),
            window("2026-11-22T12:00:00Z", vec![row("mp", 41)]),
        ];
        let expected = "\
last day  endpoint  requests  token  at once  in    out   failed  by hour
default   mp        131       3      80       15 B  18 B  6       ▁.....................█▅
default   sup       3         1      3        5 B   6 B   2       ......................█.
";
        assert_eq!(told(&day), expected, "what is older than a day is not in it");
    }

    #[test]
    fn nothing_is_told_of_a_day_without_traffic() {
        assert_eq!(told(&[]), "");
        assert_eq!(told(&[window("2026-11-22T12:00:00Z", Vec::new())]), "");
        assert_eq!(told(&[window("at noon", vec![row("mp", 1)])]), "");
    }

    #[test]
    fn a_bar_is_as_high_as_its_figure_and_only_none_has_none() {
        assert_eq!(bars(&[0, 1, 500, 501, 4000]), ".▁▁▂█");
        assert_eq!(bars(&[0, 0]), "..");
        assert_eq!(bars(&[u64::MAX, 1]), "█▁");
        assert_eq!(bars(&[]), "");
    }
}
