//! The thread that issues tokens: store and signing key are used there, one request at a time.
//!
//! Both block, for milliseconds as a rule and for seconds while another process writes. What waits
//! is bounded; whoever has stopped waiting is not served.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use std::{io, thread};

use relay_core::auth::Replay;
use relay_core::config::SiteTokens;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::clock::Steps;
use super::decide::{Asked, Door, Fault, Issued, Site, Way, tenant_of};
use super::refusal::Refusal;
use super::tenants::Tenants;
use crate::site::command::now;
use crate::site::opening;
use crate::site::place::Place;
use crate::site::{Keys, Store};

/// Requests that wait for the thread: as many as are served at a time of both ways together, so
/// that those of one leave room for those of the other.
pub(super) const WAITING_MAX: usize = 128;

/// Signed timestamps that are remembered: about 80 octets each.
const TIMESTAMPS_MAX: usize = 64 * 1024;

struct Job {
    asked: Asked,
    answer: oneshot::Sender<Result<Issued, Refusal>>,
}

/// Where requests are handed in.
#[derive(Clone, Debug)]
pub(super) struct Office {
    jobs: SyncSender<Job>,
}

/// Tells when the thread has ended, with its store closed.
#[derive(Debug)]
pub(super) struct Ended(oneshot::Receiver<()>);

impl Ended {
    /// Whether it ends `within` some time; it is waited for no longer.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the thread ends all the same.
    pub(super) async fn ends_within(self, within: Duration) -> bool {
        timeout(within, self.0).await.is_ok()
    }
}

impl Office {
    /// Starts the thread, which ends once nobody can ask any more.
    ///
    /// # Errors
    ///
    /// The operating system gives no thread.
    pub(super) fn open(
        tokens: SiteTokens,
        tenants: Arc<RwLock<Tenants>>,
    ) -> io::Result<(Self, Ended)> {
        let (jobs, coming) = sync_channel(WAITING_MAX);
        let clerk = Clerk {
            tokens,
            tenants,
            store: None,
            replay: Replay::new(TIMESTAMPS_MAX),
            steps: Steps::default(),
            began: Instant::now(),
            told: None,
        };
        let thread = thread::Builder::new().name("token-service".to_owned());
        let (working, ended) = oneshot::channel::<()>();
        thread.spawn(move || {
            clerk.work(&coming);
            drop(working);
        })?;
        Ok((Self { jobs }, Ended(ended)))
    }

    /// Hands a request in and waits for what becomes of it.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    ///
    /// # Cancel safety
    ///
    /// What has not begun by then is not done. What has may be: a client that is registered and
    /// never hears of it registers again, and has the same GUID.
    pub(super) async fn ask(&self, asked: Asked) -> Result<Issued, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.jobs.try_send(Job { asked, answer }).map_err(|error| match error {
            TrySendError::Full(_) => Refusal::Busy,
            TrySendError::Disconnected(_) => Refusal::Unavailable,
        })?;
        answered.await.unwrap_or(Err(Refusal::Unavailable))
    }
}

/// Who sits there.
struct Clerk {
    tokens: SiteTokens,
    tenants: Arc<RwLock<Tenants>>,
    /// Kept open, and which file it was, if it is one.
    store: Option<(Box<dyn Store>, Option<Place>)>,
    replay: Replay,
    steps: Steps,
    began: Instant,
    /// What was told of last that is the site's own fault.
    told: Option<String>,
}

impl Clerk {
    fn work(mut self, coming: &Receiver<Job>) {
        while let Ok(Job { asked, answer }) = coming.recv() {
            if answer.is_closed() {
                continue;
            }
            let given = self.serve(&asked);
            // Whoever has gone meanwhile asks again.
            let _ = answer.send(given);
        }
    }

    fn serve(&mut self, asked: &Asked) -> Result<Issued, Refusal> {
        let given = self.decide(asked);
        let (door, way) = (door_name(asked.door), way_name(&asked.way));
        let address = asked.address.map(tracing::field::display);
        match given {
            Ok(issued) => {
                self.told = None;
                let (client, expires) = (&issued.client_id, issued.expires);
                tracing::info!(client, door, way, address, expires, "token issued");
                Ok(issued)
            }
            Err(Fault::Refused(refusal)) => {
                if matches!(refusal, Refusal::UnknownKey)
                    && let Some(tenant) = tenant_of(&asked.head)
                {
                    self.with_tenants(|tenants| tenants.ask_again(tenant));
                }
                let (error, why) = (refusal.code(), refusal.to_string());
                tracing::info!(door, way, address, error, why, "no token issued");
                Err(refusal)
            }
            Err(fault) => {
                self.store = None;
                let why = fault.to_string();
                if self.told.as_ref() != Some(&why) {
                    tracing::error!(why, "the token service issues nothing; told once");
                }
                self.told = Some(why);
                Err(Refusal::Unavailable)
            }
        }
    }

    fn decide(&mut self, asked: &Asked) -> Result<Issued, Fault> {
        let now = now().map_err(Fault::Clock)?;
        if let Some(seconds) = self.steps.look(self.began.elapsed(), now) {
            tracing::warn!(
                seconds,
                "this machine's clock was set; tokens of before may be refused until it is right"
            );
        }
        let keys = Keys::open(&self.tokens.folder)?;
        let tenants = match asked.door {
            Door::Exchange => self.with_tenants(Tenants::trusted),
            Door::Register | Door::Renew => Vec::new(),
        };
        let store = open(&mut self.store, &self.tokens)?;
        let (tenant, replay) = (self.tokens.tenant, &mut self.replay);
        Site { tenant, store, keys: &keys, tenants: &tenants, replay, now }.serve(asked)
    }

    fn with_tenants<T>(&self, look: impl FnOnce(&Tenants) -> T) -> T {
        look(&self.tenants.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The store; opened anew if another file has its name, as a backup that was restored: what would
/// be written into the file of before would be lost.
fn open<'a>(
    held: &'a mut Option<(Box<dyn Store>, Option<Place>)>,
    tokens: &SiteTokens,
) -> Result<&'a mut dyn Store, Fault> {
    let file = opening::file_there(tokens);
    let is_same = |before: &Option<Place>| match (before, &file) {
        (Some(before), Some(now)) => before.is_same_file(now),
        (before, now) => before.is_none() && now.is_none(),
    };
    if held.as_ref().is_some_and(|(_, before)| !is_same(before)) {
        *held = None;
    }
    let (store, _) = match held {
        Some(open) => open,
        None => held.insert((opening::open(tokens)?, file)),
    };
    Ok(store.as_mut())
}

fn door_name(door: Door) -> &'static str {
    match door {
        Door::Register => "register",
        Door::Renew => "renew",
        Door::Exchange => "exchange",
    }
}

fn way_name(way: &Way) -> &'static str {
    match way {
        Way::Gateway(_) => "gateway",
        Way::Intranet(_) => "intranet",
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use http::HeaderMap;

    use super::*;

    fn asked() -> Asked {
        let (head, body) = (HeaderMap::new(), Vec::new());
        Asked { door: Door::Renew, way: Way::Intranet(None), address: None, head, body }
    }

    #[tokio::test(start_paused = true)]
    async fn a_thread_that_waits_for_its_store_is_waited_for_and_not_for_ever() {
        const LONG: Duration = Duration::from_secs(6);
        let (working, ended) = oneshot::channel::<()>();
        let begun = tokio::time::Instant::now();
        assert!(!Ended(ended).ends_within(LONG).await);
        assert_eq!(begun.elapsed(), LONG);
        drop(working);
        let (working, ended) = oneshot::channel::<()>();
        let late = async {
            tokio::time::sleep(Duration::from_millis(5999)).await;
            drop(working);
        };
        let (has_ended, ()) = tokio::join!(Ended(ended).ends_within(LONG), late);
        assert!(has_ended);
    }

    #[tokio::test]
    async fn the_thread_ends_when_nobody_can_ask_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("connection-point.toml");
        let tenant = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
        let text = format!("[tokens]\nfolder = \"tokens\"\ntenant = \"{tenant}\"\n");
        std::fs::write(&file, text).unwrap();
        let tokens = relay_core::config::site_tokens(&file).unwrap();
        let (office, ended) = Office::open(tokens, Arc::default()).unwrap();
        drop(office);
        assert!(ended.ends_within(Duration::from_mins(1)).await);
    }

    #[test]
    fn what_waits_is_bounded_and_who_comes_then_is_refused_at_once() {
        let (jobs, coming) = sync_channel(1);
        let office = Office { jobs };
        let mut context = Context::from_waker(Waker::noop());
        let mut first = pin!(office.ask(asked()));
        assert!(first.as_mut().poll(&mut context).is_pending());
        let second = pin!(office.ask(asked())).poll(&mut context);
        assert!(matches!(second, Poll::Ready(Err(Refusal::Busy))), "{second:?}");
        // The thread ends: nobody waits for it.
        drop(coming);
        let first = first.poll(&mut context);
        assert!(matches!(first, Poll::Ready(Err(Refusal::Unavailable))), "{first:?}");
        let late = pin!(office.ask(asked())).poll(&mut context);
        assert!(matches!(late, Poll::Ready(Err(Refusal::Unavailable))), "{late:?}");
    }
}
