//! Work that blocks, done beside a role that runs: one piece at a time, however long it takes.

use std::time::{Duration, SystemTime};

use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, sleep_until};

/// After how long it is said that work is still under way.
const LATE_AFTER: Duration = Duration::from_secs(30);

/// Room for one piece of work.
pub(super) struct Slot<T>(Option<Running<T>>);

struct Running<T> {
    task: JoinHandle<T>,
    since: SystemTime,
    /// `None` once that was told.
    late_at: Option<Instant>,
}

/// What has become of work.
pub(super) enum Event<T> {
    /// It has ended, by itself or because it has failed in a way that it should not.
    Done(Result<T, JoinError>),
    /// It has been under way since then, for long. Told once.
    Late(SystemTime),
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Slot<T> {
    /// Whether nothing is under way.
    pub(super) fn is_free(&self) -> bool {
        self.0.is_none()
    }

    /// Takes work on, if there is room.
    pub(super) fn take_on(&mut self, start: impl FnOnce() -> JoinHandle<T>) {
        if self.is_free() {
            let late_at = Some(Instant::now() + LATE_AFTER);
            self.0 = Some(Running { task: start(), since: SystemTime::now(), late_at });
        }
    }

    /// What becomes of the work; never, if there is none.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: work goes on, and the next call tells of it.
    pub(super) async fn next(&mut self) -> Event<T> {
        let Some(Running { task, since, late_at }) = &mut self.0 else {
            return std::future::pending().await;
        };
        let at = *late_at;
        let late = async {
            match at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            done = task => {
                self.0 = None;
                Event::Done(done)
            }
            () = late => {
                *late_at = None;
                Event::Late(*since)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_that_takes_long_is_told_of_once_and_ends_when_it_ends() {
        let (end, ended) = oneshot::channel();
        let mut slot = Slot::default();
        let begun = Instant::now();
        slot.take_on(|| tokio::spawn(async { ended.await.unwrap() }));
        slot.take_on(|| unreachable!("there is no room"));
        assert!(matches!(slot.next().await, Event::Late(_)));
        assert_eq!(begun.elapsed(), LATE_AFTER);
        assert!(timeout(Duration::from_hours(1), slot.next()).await.is_err(), "it was told");
        end.send(7).unwrap();
        assert!(matches!(slot.next().await, Event::Done(Ok(7))));
        assert!(slot.is_free());
        assert!(timeout(Duration::from_hours(1), slot.next()).await.is_err(), "there is none");
    }
}
