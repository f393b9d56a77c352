//! Traffic reports as they travel and as people read them.

use relay_core::gateway::{TrafficReports, TrafficRow, TrafficWindow};
use serde::{Deserialize, Serialize};

use super::status::{Status, since_1970};
use super::text::{octets, push_line, push_table};

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
