//! How a peer is turned away that keeps to the protocol and still may not have its link.

use std::time::Duration;

use tokio::time::timeout;

use crate::mux::LinkError;

use super::Link;

/// Time for a peer to be told why. Whoever does not listen must not hold what its link holds.
const FAREWELL: Duration = Duration::from_secs(1);

/// Tells the peer of a link why it may not have it, see [`Link::refuse`], and drives the link to
/// its end, for at most one second.
///
/// # Cancel safety
///
/// Dropping the future cuts the link; the peer may then not have heard why.
pub async fn turn_away(link: &Link, driver: impl Future<Output = LinkError>, why: &str) {
    link.refuse(why);
    // One that takes its time is cut with the driver.
    let _ = timeout(FAREWELL, driver).await;
}
