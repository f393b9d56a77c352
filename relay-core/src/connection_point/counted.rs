//! What a connection point counts: each request that it answers in the backend's place, by the
//! reason that the answer has, and each that nobody waits for any more.

use crate::exchange::Tally;

/// What a request is counted as that is not answered, because nobody waits for that.
pub(super) const ABANDONED: &str = "abandoned";

/// Reasons of answers, as in `gateway/ANSWERS.md`, and [`ABANDONED`].
pub(super) const NAMES: [&str; 18] = [
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
];

/// Nothing counted yet.
pub(super) fn tally() -> Tally {
    Tally::new(&NAMES)
}
