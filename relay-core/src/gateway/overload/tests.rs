//! Lines against their table, their bounds, and a model that keeps every moment.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const BURST: Duration = Duration::from_secs(5);
const OVERLOAD: Duration = Duration::from_millis(50);
const MILLISECOND: Duration = Duration::from_millis(1);

fn line() -> Line {
    Line::new(Patience::new(BURST, OVERLOAD))
}

/// `time` less, exact and more by a millisecond.
fn around(time: Duration) -> [Duration; 3] {
    [time.checked_sub(MILLISECOND).unwrap(), time, time + MILLISECOND]
}

#[test]
fn every_event_in_every_state_leads_where_the_table_says() {
    let now = Instant::now();
    let of = |line: &Line| (line.turn().map(|ticket| ticket.0), line.waiting());
    // What is there before, and how long.
    for (count, age) in
        [(0, BURST), (1, Duration::ZERO), (1, BURST), (3, Duration::ZERO), (3, BURST)]
    {
        let begin = || {
            let mut line = line();
            for _ in 0..count {
                line.handle_arrival(now);
            }
            (line, now + age)
        };
        let newest_first = age == BURST;
        let first = (count > 0).then_some(0);

        let (mut arrival, later) = begin();
        let (ticket, _) = arrival.handle_arrival(later);
        assert_eq!(ticket.0, count);
        let turn = if newest_first || count == 0 { Some(count) } else { first };
        assert_eq!(of(&arrival), (turn, usize::try_from(count).unwrap() + 1));

        for left in 0..4 {
            let (mut departure, later) = begin();
            departure.handle_departure(Ticket(left), Departure::Gone, later);
            let rest: Vec<u64> = (0..count).filter(|ticket| *ticket != left).collect();
            let next = if newest_first { rest.last() } else { rest.first() };
            let turn = if left == 0 { next.copied() } else { first };
            assert_eq!(of(&departure), (turn, rest.len()), "{left} of {count} after {age:?}");
        }
    }
}

#[test]
fn a_line_has_its_time_to_become_empty_and_from_then_on_each_request_has_the_shorter_one() {
    let start = Instant::now();
    let stands = start + BURST;
    assert_eq!(line().handle_arrival(start).1, stands);
    // Who comes later has the line's time, and never less than the shorter one.
    let last = BURST.saturating_sub(OVERLOAD);
    for after in around(last).into_iter().chain(around(BURST)) {
        let mut line = line();
        line.handle_arrival(start);
        let now = start + after;
        let expected = if after <= last { stands } else { now + OVERLOAD };
        assert_eq!(line.handle_arrival(now).1, expected, "after {after:?}");
    }
}

#[test]
fn a_line_that_was_empty_for_a_moment_has_its_time_anew() {
    let start = Instant::now();
    let mut line = line();
    let (first, _) = line.handle_arrival(start);
    let later = start + BURST;
    line.handle_departure(first, Departure::Gone, later);
    assert_eq!(line.handle_arrival(later).1, later + BURST);
}

#[test]
fn after_a_refusal_nobody_waits_long_until_none_was_for_the_time_of_a_burst() {
    let start = Instant::now();
    for after in around(BURST) {
        let mut line = line();
        let (first, until) = line.handle_arrival(start);
        line.handle_departure(first, Departure::Refused, until);
        let now = until + after;
        assert_eq!(line.is_forgotten(now), after >= BURST);
        let given = if after < BURST { OVERLOAD } else { BURST };
        assert_eq!(line.handle_arrival(now).1, now + given, "after {after:?}");
        assert!(!line.is_forgotten(now), "somebody waits");
    }
}

#[test]
fn a_line_turns_round_when_it_has_not_been_empty_for_the_shorter_time() {
    let start = Instant::now();
    for after in around(OVERLOAD) {
        let mut line = line();
        let first = line.handle_arrival(start).0;
        let second = line.handle_arrival(start).0;
        let third = line.handle_arrival(start + after).0;
        let expected = if after < OVERLOAD { first } else { third };
        assert_eq!(line.turn(), Some(expected), "after {after:?}");
        line.handle_departure(expected, Departure::Gone, start + after);
        assert_eq!(line.turn(), Some(second));
    }
}

#[test]
fn a_shorter_time_that_is_longer_is_as_long() {
    let now = Instant::now();
    for burst in [Duration::ZERO, MILLISECOND, OVERLOAD.saturating_sub(MILLISECOND), OVERLOAD] {
        let mut line = Line::new(Patience::new(burst, OVERLOAD));
        assert_eq!(line.handle_arrival(now).1, now + burst);
    }
}

/// One request, as the model keeps it.
#[derive(Clone, Copy, Debug)]
struct Waiter {
    ticket: Ticket,
    came: Instant,
    until: Instant,
    /// Whether a refusal was fresh when it came.
    is_warned: bool,
}

/// Everything that was, kept as it was said.
#[derive(Default)]
struct Model {
    waiting: Vec<Waiter>,
    /// From when to when it was empty.
    empty: Vec<(Instant, Instant)>,
    refused: Vec<Instant>,
}

impl Model {
    /// Whether the line was empty at some moment of the time of a burst before `now`.
    fn was_empty(&self, now: Instant) -> bool {
        self.empty.iter().any(|(_, to)| *to + BURST > now)
    }

    fn has_refused(&self, now: Instant) -> bool {
        self.refused.iter().any(|at| *at + BURST > now)
    }
}

#[derive(Clone, Debug)]
enum Op {
    /// So many milliseconds pass.
    Pass(u64),
    Arrive(u8),
    /// So many are served.
    Serve(u8),
    /// One that waits goes away.
    Leave(proptest::sample::Index),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => prop_oneof![0u64..60, 0u64..7000].prop_map(Op::Pass),
        3 => (1u8..20).prop_map(Op::Arrive),
        2 => (1u8..30).prop_map(Op::Serve),
        1 => any::<proptest::sample::Index>().prop_map(Op::Leave),
    ]
}

/// A line and its model, and what time it is.
struct Run {
    line: Line,
    model: Model,
    now: Instant,
}

impl Run {
    fn new() -> Self {
        Self { line: line(), model: Model::default(), now: Instant::now() }
    }

    fn leave(&mut self, at: usize, why: Departure) {
        let waiter = self.model.waiting.remove(at);
        self.line.handle_departure(waiter.ticket, why, self.now);
        if self.model.waiting.is_empty() {
            self.model.empty.push((self.now, self.now));
        }
    }

    fn arrive(&mut self) {
        let is_warned = self.model.has_refused(self.now);
        if self.model.waiting.is_empty() {
            let from = self.model.empty.pop().map_or(self.now, |(from, _)| from);
            self.model.empty.push((from, self.now));
        }
        let (ticket, until) = self.line.handle_arrival(self.now);
        self.model.waiting.push(Waiter { ticket, came: self.now, until, is_warned });
    }

    fn refuse(&mut self, at: usize) -> Result<(), TestCaseError> {
        let waiter = self.model.waiting[at];
        let time = self.now - waiter.came;
        prop_assert!((OVERLOAD..=BURST).contains(&time), "{time:?}");
        if !waiter.is_warned {
            prop_assert!(!self.model.was_empty(self.now), "a burst was not over in its time");
        }
        self.leave(at, Departure::Refused);
        self.model.refused.push(self.now);
        Ok(())
    }

    /// Time passes, and whoever has waited for long enough is refused on time.
    fn pass(&mut self, time: Duration) -> Result<(), TestCaseError> {
        let end = self.now + time;
        while let Some(at) = self.first_due().filter(|at| self.model.waiting[*at].until <= end) {
            self.now = self.model.waiting[at].until;
            self.refuse(at)?;
        }
        self.now = end;
        for waiter in &self.model.waiting {
            let has_waited = waiter.came + OVERLOAD < self.now;
            prop_assert!(!has_waited || self.model.was_empty(self.now), "it stands: {waiter:?}");
        }
        Ok(())
    }

    fn first_due(&self) -> Option<usize> {
        (0..self.model.waiting.len()).min_by_key(|at| self.model.waiting[*at].until)
    }

    /// Serves whose turn it is. Whoever has the turn at some moment may keep it, so that one in the
    /// middle may be next once, but no second one after it in the same moment.
    fn serve(&mut self, count: u8) -> Result<(), TestCaseError> {
        let mut has_served = false;
        for _ in 0..count {
            let Some(turn) = self.line.turn() else { break };
            let at = self.model.waiting.iter().position(|waiter| waiter.ticket == turn);
            let at = at.expect("the turn is somebody's");
            let since = self.model.empty.last().map(|(_, to)| *to);
            let is_long = since.is_some_and(|since| since + OVERLOAD <= self.now);
            let is_turned = is_long || self.model.has_refused(self.now);
            if has_served {
                let end = if is_turned { self.model.waiting.len() - 1 } else { 0 };
                prop_assert_eq!(at, end);
            }
            has_served = true;
            self.leave(at, Departure::Gone);
        }
        Ok(())
    }

    fn step(&mut self, op: &Op) -> Result<(), TestCaseError> {
        match op {
            Op::Pass(millis) => self.pass(Duration::from_millis(*millis))?,
            Op::Arrive(count) => (0..*count).for_each(|_| self.arrive()),
            Op::Serve(count) => self.serve(*count)?,
            Op::Leave(index) if !self.model.waiting.is_empty() => {
                self.leave(index.index(self.model.waiting.len()), Departure::Gone);
            }
            Op::Leave(_) => {}
        }
        prop_assert_eq!(self.line.waiting(), self.model.waiting.len());
        prop_assert_eq!(self.line.turn().is_some(), !self.model.waiting.is_empty());
        Ok(())
    }
}

proptest! {
    #[test]
    fn no_burst_loses_anybody_and_nobody_waits_for_long_in_a_line_that_stands(
        ops in vec(op(), 1..200),
    ) {
        let mut run = Run::new();
        for op in &ops {
            run.step(op)?;
        }
        // What is left is told in its time, and then the line is as good as new.
        run.pass(BURST)?;
        prop_assert_eq!(run.line.waiting(), 0);
        run.pass(BURST)?;
        prop_assert!(run.line.is_forgotten(run.now));
    }
}
