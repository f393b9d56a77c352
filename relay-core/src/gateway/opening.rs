//! A stream for a request: at once, from the line before links that are all full, or on a link that
//! is being dialled.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::link::{OPENERS_WAITING_MAX, OpenFailed, RecvStream, SendStream};

use super::failure::Failure;
use super::line::{Opened, first_free};
use super::lines::{Call, InLine};
use super::registry::{Entry, Offer};
use super::relay::{Judged, Relay, Tries};

/// Time that a request whose link was lost waits for a stream on another. Its client has waited for
/// the loss to be noticed already.
const RESEND_WAIT: Duration = Duration::from_secs(1);

/// How long the one whose turn it is waits at the same links: there may be more than it can wait
/// at. And how long a request waits before a balancer is asked again that has let it try none.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl Relay {
    /// Opens a stream for a request, on the first link that has one free; waits for it in line.
    pub(super) async fn open(&self, judged: &Judged<'_>, tries: &Tries) -> Result<Opened, Failure> {
        let credit = self.terms.get().limits.link_credit;
        let wait = if tries.lost { credit.min(RESEND_WAIT) } else { credit };
        let came = Instant::now();
        let deadline = came + wait;
        let overloaded = || Failure::Overloaded(came.elapsed());
        let (mut kept, mut now): (Option<InLine<'_>>, _) = (None, came);
        loop {
            let full = match self.offer(judged) {
                Offer::Taken((send, recv), via) => return Ok((send, recv, via)),
                Offer::Nothing => {
                    // Who waits for a link is in no line: that is no overload.
                    kept = None;
                    let until = deadline.min(self.registry.is_awaited_until(credit));
                    self.await_link(judged.site, until).await?;
                    now = Instant::now();
                    continue;
                }
                Offer::Full(links) => links.len(),
            };
            let waiting_max = OPENERS_WAITING_MAX * full;
            let place = kept.take().or_else(|| self.lines.take(judged.site, waiting_max, now));
            let place = place.ok_or_else(overloaded)?;
            let until = deadline.min(place.until());
            match timeout_at(until, self.open_in_line(judged, &place)).await {
                Ok(Ok(opened)) => {
                    place.leave_served(self.registry.openable(judged.site));
                    return Ok(opened);
                }
                // Nothing was sent: others are asked.
                Ok(Err(OpenFailed::GoingAway | OpenFailed::Closed(_)))
                    if Instant::now() < until =>
                {
                    kept = Some(place);
                }
                Ok(Err(_)) | Err(_) => {
                    place.leave_unserved();
                    return Err(overloaded());
                }
            }
        }
    }

    /// Asks each link into the site whether it has a stream free.
    fn offer(&self, judged: &Judged<'_>) -> Offer<(SendStream, RecvStream)> {
        let take = |via: &Entry| via.link.try_open(judged.head.clone(), judged.end).ok()?;
        self.registry.offer(judged.site, take)
    }

    /// Waits in line before the links into the site, which are all full.
    async fn open_in_line(
        &self,
        judged: &Judged<'_>,
        place: &InLine<'_>,
    ) -> Result<Opened, OpenFailed> {
        loop {
            if place.turn().await == Call::Try {
                match self.offer(judged) {
                    Offer::Taken((send, recv), via) => return Ok((send, recv, via)),
                    Offer::Nothing | Offer::Full(_) => continue,
                }
            }
            tokio::select! {
                biased;
                opened = self.open_at_links(judged) => return opened,
                () = place.turn_lost() => {}
                // It waits at some of many links: others may have a stream free by now.
                () = sleep(LOOK_AGAIN) => {}
            }
        }
    }

    /// Waits at the links into the site.
    async fn open_at_links(&self, judged: &Judged<'_>) -> Result<Opened, OpenFailed> {
        let mut arrival = pin!(self.registry.arrival());
        arrival.as_mut().enable();
        // One may have come before that, or have a stream free by now.
        let links = match self.offer(judged) {
            Offer::Taken((send, recv), via) => return Ok((send, recv, via)),
            Offer::Nothing => return Err(OpenFailed::GoingAway),
            Offer::Full(links) => links,
        };
        tokio::select! {
            biased;
            opened = first_free(&links, &judged.head, judged.end) => opened,
            () = arrival => Err(OpenFailed::GoingAway),
        }
    }

    /// Waits for a link to the site, until `until`.
    async fn await_link(&self, site: &str, until: Instant) -> Result<(), Failure> {
        let mut arrival = pin!(self.registry.arrival());
        arrival.as_mut().enable();
        // One may have come before that; or the balancer has none of those that are there tried,
        // and says nothing when it comes to another view.
        let look = self.registry.has_open(site).then(|| Instant::now() + LOOK_AGAIN);
        let arrived = timeout_at(look.map_or(until, |look| look.min(until)), arrival).await;
        if arrived.is_err() && Instant::now() >= until {
            return Err(Failure::NoConnector);
        }
        Ok(())
    }
}
