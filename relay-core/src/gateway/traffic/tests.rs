use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::meter::{Bearer, Metered, Outcome};
use super::*;

fn windows(endpoints: &[&str]) -> (Windows, Vec<Arc<Meter>>) {
    let meters: Vec<_> = endpoints.iter().map(|it| Arc::new(Meter::new("site", it))).collect();
    let read = |meter: &Arc<Meter>| Read { meter: Arc::clone(meter), reported: Totals::default() };
    let read = meters.iter().map(read).collect();
    (Windows { read, ..Windows::default() }, meters)
}

fn begin(meter: &Arc<Meter>) -> Metered {
    Metered::begin(Arc::clone(meter), Bearer::Absent)
}

fn end(request: Metered) {
    request.end(Outcome::Answered, Duration::ZERO);
}

#[test]
fn a_window_ends_with_its_last_second() {
    let (mut windows, meters) = windows(&["mp"]);
    assert_eq!(windows.observe(600), None);
    end(begin(&meters[0]));
    assert_eq!(windows.observe(899), None);
    let ended = windows.observe(900).unwrap();
    assert_eq!((ended.begun_at, ended.rows[0].requests), (600, 1));
    assert_eq!(windows.open().begun_at, 900);
    assert!(windows.open().rows.is_empty());
    assert!(windows.observe(1200).unwrap().rows.is_empty(), "an idle endpoint has no row");
}

#[test]
fn a_day_is_kept_and_the_oldest_window_goes_for_the_next() {
    let (mut windows, _) = windows(&[]);
    let day = |number: u64| 86_400 + number * 300;
    for number in 0..=288 {
        windows.observe(day(number));
    }
    assert_eq!((windows.ended.len(), windows.ended[0].begun_at), (288, day(0)));
    windows.observe(day(289));
    assert_eq!((windows.ended.len(), windows.ended[0].begun_at), (288, day(1)));
}

#[test]
fn so_many_rows_are_kept_and_the_oldest_window_goes_for_one_more() {
    let names: Vec<_> = (0..ROWS_MAX / 2).map(|it| it.to_string()).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let (mut windows, meters) = windows(&names);
    windows.observe(0);
    for window in 1..=2 {
        for meter in &meters {
            end(begin(meter));
        }
        windows.observe(window * 300);
    }
    assert_eq!(windows.ended.len(), 2);
    end(begin(&meters[0]));
    windows.observe(900);
    let kept: Vec<_> = windows.ended.iter().map(|it| (it.begun_at, it.rows.len())).collect();
    assert_eq!(kept, [(300, ROWS_MAX / 2), (600, 1)]);
}

#[test]
fn an_endpoint_that_is_withdrawn_is_forgotten_once_its_last_request_was_reported() {
    let (mut windows, meters) = windows(&["mp"]);
    windows.observe(0);
    let mut request = begin(&meters[0]);
    drop(meters);
    windows.observe(300);
    assert_eq!(windows.read.len(), 1, "a request is in flight");
    request.note_down(5);
    end(request);
    assert_eq!(windows.observe(600).unwrap().rows[0].response_octets, 5);
    assert_eq!(windows.read.len(), 0);
}

/// What happens in a step.
#[derive(Clone, Copy, Debug)]
enum Step {
    Begin {
        endpoint: usize,
        bearer: bool,
    },
    Up {
        request: usize,
        octets: u64,
    },
    Down {
        request: usize,
        octets: u64,
    },
    End {
        request: usize,
        failed: bool,
    },
    /// The clock goes on, or is set, and is read.
    Clock {
        now: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let octets = 0..1000_u64;
    prop_oneof![
        (0..3_usize, any::<bool>()).prop_map(|(endpoint, bearer)| Step::Begin { endpoint, bearer }),
        (0..8_usize, octets.clone()).prop_map(|(request, octets)| Step::Up { request, octets }),
        (0..8_usize, octets).prop_map(|(request, octets)| Step::Down { request, octets }),
        (0..8_usize, any::<bool>()).prop_map(|(request, failed)| Step::End { request, failed }),
        (0..3000_u64).prop_map(|now| Step::Clock { now }),
    ]
}

/// What the rows should say, written down at once as it happens.
#[derive(Default)]
struct Model {
    at: u64,
    rows: BTreeMap<(u64, usize), [u64; 6]>,
    in_flight: [u64; 3],
}

impl Model {
    fn row(&mut self, endpoint: usize) -> &mut [u64; 6] {
        self.rows.entry((self.at, endpoint)).or_default()
    }

    fn see(&mut self, endpoint: usize) {
        let now = self.in_flight[endpoint];
        let most = &mut self.row(endpoint)[2];
        *most = now.max(*most);
    }

    fn set_clock(&mut self, now: u64) {
        self.at = now / 300 * 300;
        (0..3).for_each(|endpoint| self.see(endpoint));
    }

    /// Without rows that say nothing.
    fn told(self) -> BTreeMap<(u64, usize), [u64; 6]> {
        self.rows.into_iter().filter(|(_, row)| *row != [0; 6]).collect()
    }
}

/// A request, as both see it.
struct Under {
    endpoint: usize,
    metered: Metered,
    up: u64,
    down: u64,
}

fn apply(step: Step, meters: &[Arc<Meter>], requests: &mut Vec<Under>, model: &mut Model) {
    match step {
        Step::Begin { endpoint, bearer } => {
            let shown = if bearer { Bearer::Shown } else { Bearer::Absent };
            let metered = Metered::begin(Arc::clone(&meters[endpoint]), shown);
            requests.push(Under { endpoint, metered, up: 0, down: 0 });
            model.in_flight[endpoint] += 1;
            let row = model.row(endpoint);
            row[0] += 1;
            row[1] += u64::from(bearer);
            model.see(endpoint);
        }
        Step::Up { request, octets } => {
            let Some(it) = requests.get_mut(request) else { return };
            it.up += octets;
            it.metered.note_up(it.up);
            model.row(it.endpoint)[3] += octets;
        }
        Step::Down { request, octets } => {
            let Some(it) = requests.get_mut(request) else { return };
            it.down += octets;
            it.metered.note_down(it.down);
            model.row(it.endpoint)[4] += octets;
        }
        Step::End { request, failed } if request < requests.len() => {
            let it = requests.swap_remove(request);
            let outcome = if failed { Outcome::Refused } else { Outcome::Answered };
            it.metered.end(outcome, Duration::ZERO);
            model.in_flight[it.endpoint] -= 1;
            model.row(it.endpoint)[5] += u64::from(failed);
        }
        Step::End { .. } | Step::Clock { .. } => {}
    }
}

proptest! {
    #[test]
    fn windows_have_all_that_came_once_however_the_clock_is_set(
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let names = ["a", "b", "c"];
        let (mut windows, meters) = windows(&names);
        let (mut model, mut requests) = (Model::default(), Vec::new());
        windows.observe(0);
        for step in steps {
            if let Step::Clock { now } = step {
                windows.observe(now);
                if model.at != now / 300 * 300 {
                    model.set_clock(now);
                }
            }
            apply(step, &meters, &mut requests, &mut model);
        }
        // Beyond all others: the last window ends as well.
        windows.observe(6000);
        let told = windows.ended.iter().flat_map(|window| {
            window.rows.iter().map(|row| {
                let endpoint = names.iter().position(|name| **name == *row.endpoint).unwrap();
                let figures = [
                    row.requests,
                    row.requests_with_bearer_token,
                    row.concurrent_requests_max,
                    row.request_octets,
                    row.response_octets,
                    row.failed,
                ];
                ((window.begun_at, endpoint), figures)
            })
        });
        let rows: usize = windows.ended.iter().map(|window| window.rows.len()).sum();
        let told: BTreeMap<_, _> = told.collect();
        prop_assert_eq!(told.len(), rows, "a row stands twice");
        prop_assert_eq!(told, model.told());
    }
}
