//! What a session found: one row for each step, and the verdict over all of them.

use std::future::Future;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::time::timeout;

use super::client::{Client, Lane};

/// One step of the session, as printed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// What is proven, in a word or two.
    pub step: &'static str,
    /// The request, or what a series of them was.
    pub asked: String,
    /// The gateway instances asked: `1`, or `1-2` when the step uses all of them.
    pub instance: String,
    /// The HTTP version spoken with the gateway: `1.1`, `2`, or `1.1+2`.
    pub http: String,
    /// Status and reason of the answer, or what a series of answers came to; empty if none came.
    pub answer: String,
    /// What was checked and found, or why the step failed.
    pub evidence: String,
    /// From the start of the step to its end, in whole milliseconds.
    pub elapsed_ms: u64,
    /// Whether everything checked was as it must be.
    pub passed: bool,
}

/// Every row, in the order of the session.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Whether every step passed. False if there is no step.
    pub passed: bool,
    /// Steps that failed.
    pub failed: usize,
    /// The steps.
    pub steps: Vec<Row>,
}

/// What a step that went well has to show.
#[derive(Clone, Debug)]
pub(super) struct Proof {
    pub(super) answer: String,
    pub(super) evidence: String,
}

/// What a step asks, and of whom; known before it runs, so that a failed row has it too.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    step: &'static str,
    what: String,
    instance: String,
    http: String,
}

impl Asked {
    /// A step that uses one lane.
    pub(super) fn on(lane: Lane, step: &'static str, what: impl Into<String>) -> Self {
        let (instance, http) = (lane.instance_number().to_string(), lane.version.to_string());
        Self { step, what: what.into(), instance, http }
    }

    /// A step that uses every instance, by both versions.
    pub(super) fn everywhere(client: &Client, step: &'static str, what: impl Into<String>) -> Self {
        let instance = match client.instances() {
            1 => "1".to_owned(),
            last => format!("1-{last}"),
        };
        Self { step, what: what.into(), instance, http: "1.1+2".to_owned() }
    }
}

/// Collects rows and shows each one as it comes.
pub(super) struct Log<'a> {
    rows: Vec<Row>,
    show: &'a mut (dyn FnMut(&Row) + Send),
}

impl<'a> Log<'a> {
    pub(super) fn new(show: &'a mut (dyn FnMut(&Row) + Send)) -> Self {
        Self { rows: Vec::new(), show }
    }

    /// Runs one step and records how it went. A step that passes its deadline has failed.
    pub(super) async fn step(
        &mut self,
        asked: Asked,
        deadline: Duration,
        work: impl Future<Output = anyhow::Result<Proof>>,
    ) {
        let begun = Instant::now();
        // Boxed, because a session is the sum of its steps and would not fit a small stack.
        let done = timeout(deadline, Box::pin(work)).await;
        let elapsed = begun.elapsed();
        let (answer, evidence, passed) = match done {
            Ok(Ok(proof)) => (proof.answer, proof.evidence, true),
            Ok(Err(error)) => (String::new(), format!("{error:#}"), false),
            Err(_) => (String::new(), format!("no answer within {} s", deadline.as_secs()), false),
        };
        let Asked { step, what, instance, http } = asked;
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let row = Row { step, asked: what, instance, http, answer, evidence, elapsed_ms, passed };
        (self.show)(&row);
        self.rows.push(row);
    }

    /// Whether any step so far has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.rows.iter().any(|row| !row.passed)
    }

    pub(super) fn finish(self) -> Report {
        let failed = self.rows.iter().filter(|row| !row.passed).count();
        Report { passed: failed == 0 && !self.rows.is_empty(), failed, steps: self.rows }
    }
}
