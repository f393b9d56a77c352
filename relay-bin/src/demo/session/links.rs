//! The proof that the session went over every link of every connection point.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use tokio::time::sleep;

use super::client::Client;
use super::report::{Asked, Log, Proof};
use super::{LOOK_AGAIN, STEP_WITHIN};
use crate::demo::relay::CONNECTION_POINTS;

/// What one link has carried.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Carried {
    /// Which gateway instance it leads to.
    pub instance: u8,
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

/// Waits until every connection point has links to every instance; the step's deadline ends it.
pub(super) async fn all_up(client: &Client) -> anyhow::Result<Proof> {
    let links = loop {
        let links = (client.target().links.0)();
        let wanted = client.instances() * usize::from(CONNECTION_POINTS);
        let pairs: BTreeSet<_> =
            links.iter().map(|it| (it.instance, &it.connection_point)).collect();
        if pairs.len() == wanted {
            break links.len();
        }
        sleep(LOOK_AGAIN).await;
    };
    let evidence = format!("{links} links of {CONNECTION_POINTS} connection points are up");
    Ok(Proof { answer: String::new(), evidence })
}

/// Every link has carried some, and every connection point has one.
fn spread(links: &[Carried]) -> anyhow::Result<Proof> {
    let points: BTreeSet<_> = links.iter().map(|it| &it.connection_point).collect();
    let wanted = usize::from(CONNECTION_POINTS);
    ensure!(points.len() == wanted, "links of {points:?}, not of {wanted} connection points");
    let requests = links.iter().map(|it| it.requests);
    let (least, most) = (requests.clone().min(), requests.max());
    let (least, most) = least.zip(most).context("there is no link")?;
    ensure!(least > 0, "of {} links some have carried nothing: {links:?}", links.len());
    let (links, points) = (links.len(), points.len());
    let evidence = format!("{links} links of {points} connection points, {least} to {most} each");
    Ok(Proof { answer: String::new(), evidence })
}
