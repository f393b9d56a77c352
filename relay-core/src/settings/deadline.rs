//! How long backends may take to answer, where a site says so.

use std::collections::HashSet;
use std::time::Duration;

use crate::policy::Endpoint;

use super::document::DocumentError;

/// What one endpoint's backends may take, which is not the usual: it differs from
/// [`BACKEND_ANSWER_USUAL`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Deadline {
    /// The endpoint; it stands in the same document.
    pub role_id: u64,
    /// From a request, or the last move of its body, to the head of its answer. What an instance
    /// waits for at most is for the instance to say.
    pub backend_answer_milliseconds: u64,
}

/// What backends may take where nothing is said: 62 s.
// Our choice: above the 60 s that the original's message timeout allows.
pub const BACKEND_ANSWER_USUAL: Duration = Duration::from_secs(62);

impl Deadline {
    /// The deadline of an endpoint; `None` if it is the usual one, which is not told. A part of a
    /// millisecond counts as a whole one.
    pub fn of(role_id: u64, backend_answer: Duration) -> Option<Self> {
        let millis = backend_answer.as_nanos().div_ceil(1_000_000);
        let backend_answer_milliseconds = u64::try_from(millis).unwrap_or(u64::MAX);
        let deadline = Self { role_id, backend_answer_milliseconds };
        (backend_answer != BACKEND_ANSWER_USUAL).then_some(deadline)
    }

    /// The time.
    pub fn backend_answer(self) -> Duration {
        Duration::from_millis(self.backend_answer_milliseconds)
    }
}

/// Each is of an endpoint of the document, and the only one that is.
pub(super) fn check(deadlines: &[Deadline], endpoints: &[Endpoint]) -> Result<(), DocumentError> {
    let mut open: HashSet<u64> = endpoints.iter().map(|endpoint| endpoint.role_id).collect();
    match deadlines.iter().find(|deadline| !open.remove(&deadline.role_id)) {
        None => Ok(()),
        Some(Deadline { role_id, .. }) => Err(DocumentError::BadDeadline { role_id: *role_id }),
    }
}
