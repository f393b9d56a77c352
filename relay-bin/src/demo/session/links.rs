//! The proof that the session went over every link of every connection point.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use anyhow::{Context as _, ensure};

use super::STEP_WITHIN;
use super::client::Client;
use super::report::{Asked, Log, Proof};

/// What one link has carried.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Carried {
    /// Whose link it is.
    pub connection_point: String,
    /// How many requests.
    pub requests: u64,
}

/// What tells what each link has carried so far.
#[derive(Clone)]
pub(crate) struct Links(Arc<dyn Fn() -> Vec<Carried> + Send + Sync>);

impl Links {
    pub(crate) fn new(ask: impl Fn() -> Vec<Carried> + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries((self.0)()).finish()
    }
}

pub(super) async fn run(client: &Client, log: &mut Log<'_>) {
    let asked = Asked::everywhere(client, "links", "what each has carried of all this");
    log.step(asked, STEP_WITHIN, async { spread(&(client.target().links.0)()) }).await;
}

/// Every link has carried some.
fn spread(links: &[Carried]) -> anyhow::Result<Proof> {
    let points: BTreeSet<_> = links.iter().map(|it| &it.connection_point).collect();
    let requests = links.iter().map(|it| it.requests);
    let (least, most) = (requests.clone().min(), requests.max());
    let (least, most) = least.zip(most).context("there is no link")?;
    ensure!(least > 0, "of {} links some have carried nothing: {links:?}", links.len());
    let (links, points) = (links.len(), points.len());
    let evidence = format!("{links} links of {points} connection points, {least} to {most} each");
    Ok(Proof { answer: String::new(), evidence })
}
