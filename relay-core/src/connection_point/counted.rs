//! What a connection point counts: each request that it answers in the backend's place, by the
//! reason that the answer has, each that nobody waits for any more, and each answer of a backend
//! that was cut, by who broke off.

use crate::exchange::Tally;

/// What a request is counted as that is not answered, because nobody waits for that.
pub(super) const ABANDONED: &str = "abandoned";

/// An answer that the instance did not take all of, or whose link was lost under it. Which, the
/// instance counts: here a stream ends alike.
pub(super) const CUT_BY_GATEWAY: &str = "answer_cut_gateway";

/// An answer that its backend broke off, or that stood still for too long.
pub(super) const CUT_BY_SITE: &str = "answer_cut_site";

/// Reasons of answers, as in `gateway/ANSWERS.md`, and all of the above.
pub(super) const NAMES: [&str; 20] = [
    "CMGConnector_Answer_Head_Too_Large",
    "CMGConnector_Backend_Busy",
    "CMGConnector_Backend_Unreachable",
    "CMGConnector_Backend_Untrusted",
    "CMGConnector_Backend_Wrong_Name",
    "CMGConnector_Bad_Answer",
    "CMGConnector_Bad_Gateway",
    "CMGConnector_Bad_Header",
    "CMGConnector_Bad_Target",
    "CMGConnector_Body_Too_Large",
    "CMGConnector_Clientcertificaterequired",
    "CMGConnector_Expectation_Failed",
    "CMGConnector_InternalServerError",
    "CMGConnector_Method_Not_Allowed",
    "CMGConnector_Not_Published",
    "CMGConnector_Timeout",
    "CMGConnector_Unsafe_Path",
    ABANDONED,
    CUT_BY_GATEWAY,
    CUT_BY_SITE,
];

/// Counts an answer as one that was cut when it is dropped, unless it was sent whole: whoever sends
/// it is dropped with its link.
#[derive(Debug)]
pub(super) struct Unsent<'a> {
    tally: &'a Tally,
    name: Option<&'static str>,
}

impl<'a> Unsent<'a> {
    /// An answer of which something is to be sent.
    pub(super) fn of(tally: &'a Tally) -> Self {
        Self { tally, name: Some(CUT_BY_GATEWAY) }
    }

    /// It has ended: well, or cut by what `name` says.
    pub(super) fn end(mut self, name: Option<&'static str>) {
        self.name = name;
    }
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        if let Some(name) = self.name {
            self.tally.note(name);
        }
    }
}

/// Nothing counted yet.
pub(super) fn tally() -> Tally {
    Tally::new(&NAMES)
}
