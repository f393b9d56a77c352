//! Traffic reports: what each endpoint had in each five minutes of the clock, for a day.
//!
//! It counts nothing itself: meters do (`meter.rs`), and only ever upwards. A window is what they
//! have counted since the last one was closed, so that a clock that is set loses nothing and
//! counts nothing twice; two windows that have the same time after it are one.
//!
//! An idle endpoint has no row. Worst case of memory: [`ROWS_MAX`] rows, about 3 MiB.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::MissedTickBehavior;

use crate::exchange::Count;
use crate::settings::Settings;

use super::meter::{Durations, Meter, Totals};
use super::serve::Gateway;

/// How long a window is, by the clock.
const WINDOW: Duration = Duration::from_mins(5);

/// Windows that are kept: those of a day.
const WINDOWS_MAX: usize = 288;

/// Rows that are kept in all windows together; the oldest windows go first.
const ROWS_MAX: usize = 32_768;

/// How late a window may be closed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What content that an instance gives by itself is called among the endpoints.
pub(super) const CONTENT: &str = "content";

/// What an endpoint had in one window.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct TrafficRow {
    /// The site that publishes it.
    pub site: Arc<str>,
    /// Its name.
    pub endpoint: Arc<str>,
    /// Requests that came.
    pub requests: u64,
    /// Of them, those that showed a bearer token, whatever it was worth.
    pub requests_with_bearer_token: u64,
    /// The most that were in flight at once.
    pub concurrent_requests_max: u64,
    /// Octets of requests' bodies that went on, once each.
    pub request_octets: u64,
    /// Octets of answers' bodies that went on to clients.
    pub response_octets: u64,
    /// Requests that ended without a whole answer of the site, or with 5xx.
    pub failed: u64,
}

/// Five minutes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct TrafficWindow {
    /// When it began by the clock, in seconds since 1970: a multiple of 300.
    pub begun_at: u64,
    /// Those that had any traffic, in no order.
    pub rows: Vec<TrafficRow>,
}

/// What is counted of an endpoint since the start, or since it was published.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EndpointTraffic {
    /// All of it; [`TrafficRow::concurrent_requests_max`] is of the window that is open.
    pub total: TrafficRow,
    /// Requests in flight.
    pub in_flight: u64,
    /// How requests have ended.
    pub outcomes: Vec<Count>,
    /// How long they took.
    pub durations: Durations,
}

/// The traffic reports of the last day.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TrafficReports {
    /// Windows that have ended, at most those of a day, the last one last.
    pub ended: Vec<TrafficWindow>,
    /// The window that is open.
    pub open: TrafficWindow,
}

/// An endpoint's meter, and what of it is in windows that have ended.
#[derive(Debug)]
struct Read {
    meter: Arc<Meter>,
    reported: Totals,
}

/// All meters, and the windows.
#[derive(Debug, Default)]
pub(super) struct Traffic(Mutex<Windows>);

#[derive(Debug, Default)]
struct Windows {
    /// Of each endpoint that is published, or was when a request came that is in flight.
    read: Vec<Read>,
    /// Of the content of each site that a grant was shown of. There are as many as sites at most.
    content: HashMap<String, Arc<Meter>>,
    /// When the open one has begun; `None` before the clock was first read.
    begun_at: Option<u64>,
    ended: VecDeque<TrafficWindow>,
}

impl Traffic {
    fn windows(&self) -> MutexGuard<'_, Windows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The meter of each endpoint in `settings`, by role id; of one that had one before, that.
    pub(super) fn meters_of(&self, settings: &Settings) -> HashMap<u64, Arc<Meter>> {
        let mut windows = self.windows();
        let known = windows.read.iter().map(|it| {
            let of = (Arc::clone(&it.meter.site), Arc::clone(&it.meter.endpoint));
            (of, Arc::clone(&it.meter))
        });
        let known: HashMap<(Arc<str>, Arc<str>), Arc<Meter>> = known.collect();
        let mut meters = HashMap::new();
        for document in settings.documents() {
            let site: Arc<str> = document.site.as_str().into();
            for endpoint in &document.endpoints {
                let of = (Arc::clone(&site), Arc::from(endpoint.name.as_str()));
                let meter = known.get(&of).cloned().unwrap_or_else(|| {
                    let meter = Arc::new(Meter::new(&site, &endpoint.name));
                    let reported = Totals::default();
                    windows.read.push(Read { meter: Arc::clone(&meter), reported });
                    meter
                });
                meters.insert(endpoint.role_id, meter);
            }
        }
        let is_there = |site: &str| settings.documents().iter().any(|it| it.site.as_str() == site);
        windows.content.retain(|site, _| is_there(site));
        meters
    }

    /// The meter of content that `site` has granted. Such content is told of as an endpoint
    /// [`CONTENT`]; an endpoint that the site calls so as well counts there.
    pub(super) fn content_of(&self, site: &str) -> Arc<Meter> {
        let mut windows = self.windows();
        if let Some(meter) = windows.content.get(site) {
            return Arc::clone(meter);
        }
        let is_it = |it: &&Read| &*it.meter.site == site && &*it.meter.endpoint == CONTENT;
        let known = windows.read.iter().find(is_it).map(|it| Arc::clone(&it.meter));
        let meter = known.unwrap_or_else(|| {
            let meter = Arc::new(Meter::new(site, CONTENT));
            windows.read.push(Read { meter: Arc::clone(&meter), reported: Totals::default() });
            meter
        });
        windows.content.insert(site.to_owned(), Arc::clone(&meter));
        meter
    }

    /// Closes each window at its end and logs it, for ever. To be polled by one alone.
    pub(super) async fn watch(&self) -> Infallible {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            // Not in the condition: the lock would be held while it is logged.
            let ended = self.windows().observe(now.as_secs());
            if let Some(ended) = ended {
                log(&ended);
            }
        }
    }

    /// Logs the window that is open: nobody is going to close it.
    pub(super) fn log_open(&self) {
        let open = self.windows().open();
        log(&open);
    }

    fn reports(&self) -> TrafficReports {
        let windows = self.windows();
        TrafficReports { ended: windows.ended.iter().cloned().collect(), open: windows.open() }
    }

    fn endpoints(&self) -> Vec<EndpointTraffic> {
        let mut endpoints: Vec<_> = self.windows().read.iter().map(|it| total(&it.meter)).collect();
        endpoints.sort_by(|a, b| {
            let name =
                |it: &EndpointTraffic| (Arc::clone(&it.total.site), Arc::clone(&it.total.endpoint));
            name(a).cmp(&name(b))
        });
        endpoints
    }
}

impl Windows {
    /// Takes note of the time. Returns the window that has ended, if one has.
    fn observe(&mut self, now: u64) -> Option<TrafficWindow> {
        let begins_at = now - now % WINDOW.as_secs();
        let begun_at = *self.begun_at.get_or_insert(begins_at);
        (begun_at != begins_at).then(|| {
            self.begun_at = Some(begins_at);
            self.close(begun_at)
        })
    }

    fn close(&mut self, begun_at: u64) -> TrafficWindow {
        let mut rows = Vec::new();
        self.read.retain_mut(|it| {
            // Before it is read: nobody else has it, so that what is read is all there will be.
            let is_published = Arc::strong_count(&it.meter) > 1;
            let counted = it.meter.totals();
            let most = it.meter.take_most();
            rows.extend(row(&it.meter, counted, it.reported, most));
            it.reported = counted;
            is_published
        });
        let closed = TrafficWindow { begun_at, rows };
        match self.ended.iter_mut().find(|it| it.begun_at == begun_at) {
            Some(same) => same.add(&closed),
            None => self.ended.push_back(closed.clone()),
        }
        let rows =
            |ended: &VecDeque<TrafficWindow>| ended.iter().map(|it| it.rows.len()).sum::<usize>();
        while self.ended.len() > WINDOWS_MAX || rows(&self.ended) > ROWS_MAX {
            self.ended.pop_front();
        }
        closed
    }

    fn open(&self) -> TrafficWindow {
        let rows = self
            .read
            .iter()
            .filter_map(|it| row(&it.meter, it.meter.totals(), it.reported, it.meter.most()));
        TrafficWindow { begun_at: self.begun_at.unwrap_or_default(), rows: rows.collect() }
    }
}

impl TrafficWindow {
    /// Adds what came when the clock said the same again.
    fn add(&mut self, other: &Self) {
        for row in &other.rows {
            let is_it = |it: &&mut TrafficRow| it.site == row.site && it.endpoint == row.endpoint;
            match self.rows.iter_mut().find(is_it) {
                Some(same) => same.add(row),
                None => self.rows.push(row.clone()),
            }
        }
    }
}

impl TrafficRow {
    fn add(&mut self, other: &Self) {
        let most = self.concurrent_requests_max.max(other.concurrent_requests_max);
        self.concurrent_requests_max = most;
        self.requests += other.requests;
        self.requests_with_bearer_token += other.requests_with_bearer_token;
        self.request_octets += other.request_octets;
        self.response_octets += other.response_octets;
        self.failed += other.failed;
    }
}

/// What came between two readings; `None` if nothing did.
fn row(meter: &Meter, now: Totals, before: Totals, most: u64) -> Option<TrafficRow> {
    (now != before || most > 0).then(|| TrafficRow {
        site: Arc::clone(&meter.site),
        endpoint: Arc::clone(&meter.endpoint),
        requests: now.requests - before.requests,
        requests_with_bearer_token: now.with_bearer - before.with_bearer,
        concurrent_requests_max: most,
        request_octets: now.up - before.up,
        response_octets: now.down - before.down,
        failed: now.failed - before.failed,
    })
}

fn total(meter: &Meter) -> EndpointTraffic {
    let (totals, most) = (meter.totals(), meter.most());
    let count = |(name, count)| Count { name, count };
    EndpointTraffic {
        total: TrafficRow {
            site: Arc::clone(&meter.site),
            endpoint: Arc::clone(&meter.endpoint),
            requests: totals.requests,
            requests_with_bearer_token: totals.with_bearer,
            concurrent_requests_max: most,
            request_octets: totals.up,
            response_octets: totals.down,
            failed: totals.failed,
        },
        in_flight: meter.in_flight(),
        outcomes: meter.outcomes().into_iter().map(count).collect(),
        durations: meter.durations(),
    }
}

/// A line for each endpoint that had any traffic. The figures are named as administrators know
/// them.
fn log(window: &TrafficWindow) {
    for row in &window.rows {
        tracing::info!(
            target: "relay::traffic",
            begun_at = window.begun_at,
            site = &*row.site,
            endpoint = &*row.endpoint,
            TotalRequests = row.requests,
            TotalRequestsWithBearerToken = row.requests_with_bearer_token,
            MaxConcurrentRequests = row.concurrent_requests_max,
            TotalRequestBytes = row.request_octets,
            TotalResponseBytes = row.response_octets,
            FailedRequests = row.failed,
            "traffic"
        );
    }
}

impl Gateway {
    /// What came to each endpoint of this instance since the start, by site and name.
    pub fn traffic(&self) -> Vec<EndpointTraffic> {
        self.inner.relay.settings.traffic().endpoints()
    }

    /// What came to each endpoint of this instance in each five minutes of the last day.
    pub fn traffic_reports(&self) -> TrafficReports {
        self.inner.relay.settings.traffic().reports()
    }
}

#[cfg(test)]
mod tests;
