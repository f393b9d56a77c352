//! One link, from its hello to its end: the site's settings go out, and what arrives is forwarded.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::link::{DrainReport, Link, turn_away};
use crate::mux::{Config, LinkError};
use crate::transport::{Instance, PeerIdentity};

use super::carrier::Carrier;
use super::drained::drain;
use super::{ConnectionPoint, LinkEnded};

/// A pipe of any transport, whose peer is authenticated.
pub(super) trait Pipe: AsyncRead + AsyncWrite + Unpin + Send {}

impl<P: AsyncRead + AsyncWrite + Unpin + Send> Pipe for P {}

/// What drives a link, until it has ended, and why it has.
pub(super) type LinkDriver = Pin<Box<dyn Future<Output = LinkError> + Send>>;

/// A link whose hello has been heard, and what drives it.
pub(super) struct Standing {
    pub(super) link: Link,
    instance: Instance,
    peer: PeerIdentity,
    driver: LinkDriver,
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Standing").field("link", &self.link).finish_non_exhaustive()
    }
}

/// A link that somebody has still to take.
struct Offered(Option<(Standing, ConnectionPoint)>);

impl Offered {
    fn take(mut self) -> Standing {
        self.0.take().expect("only `take` and the end of it empty it").0
    }
}

impl Drop for Offered {
    fn drop(&mut self) {
        let Some((standing, connection_point)) = self.0.take() else { return };
        // Without a runtime nothing is served any more.
        if Handle::try_current().is_ok() {
            let owner = connection_point.clone();
            owner.in_background(async move { connection_point.let_go(standing).await });
        }
    }
}

impl ConnectionPoint {
    /// Waits for the peer's hello on a carrier whose peer is authenticated, and which is to lead to
    /// `instance`. `number` names the link in the hello, see [`Config::link`].
    pub(super) async fn establish(
        &self,
        carrier: Carrier,
        instance: Instance,
        number: u64,
    ) -> Result<Standing, LinkEnded> {
        let config = Config {
            name: self.inner.config.name.chars().take(64).collect(),
            epoch: self.inner.epoch,
            link: number,
            site: self.inner.config.site.clone(),
            memory: Some(self.inner.link_memory.clone()),
            // A backend that takes nothing of an upload is given up by its own limit.
            consumer_timeout: self.consumer_timeout(),
            ..Config::for_streams(self.inner.config.limits.streams_per_link_max, 16)
        };
        let (link, mut driver, peer) = carrier.begin(config)?;
        let hello = tokio::select! {
            // First, or a peer that sends on and on would keep its hello from being noticed.
            biased;
            hello = link.established() => hello?,
            ended = &mut driver => return Err(ended.into()),
        };
        // 0 is no number of an instance: the other side does not say which it is.
        if ![0, instance.number().into()].contains(&hello.instance) {
            let told = format!("this was to be instance {instance}; where does the port lead?");
            turn_away(&link, driver, &told).await;
            return Err(LinkEnded::OtherInstance { wanted: instance, found: hello.instance });
        }
        Ok(Standing { link, instance, peer, driver })
    }

    /// Twice what the most patient backend may take now; a link that stands keeps its own.
    fn consumer_timeout(&self) -> Duration {
        let forwarder = Arc::clone(&self.inner.current.borrow().forwarder);
        let pools = forwarder.backends().flat_map(|backends| backends.pools());
        let longest = pools.map(|pool| pool.limits().answer).max().unwrap_or_default();
        let twice = longest.saturating_mul(2).min(Duration::from_hours(24));
        Config::default().consumer_timeout.max(twice)
    }

    /// As [`ConnectionPoint::establish`]; dropping the future, or what it yields, lets go of the
    /// link in good order. The gateway may know of it first, and have sent requests over it.
    pub(super) async fn establish_in_safety(
        &self,
        carrier: Carrier,
        instance: Instance,
        number: u64,
    ) -> Result<Standing, LinkEnded> {
        let (hand_over, handed) = oneshot::channel();
        let connection_point = self.clone();
        self.in_background(async move {
            let standing = connection_point.establish(carrier, instance, number).await;
            let offered = standing.map(|it| Offered(Some((it, connection_point))));
            // What nobody takes is let go of when it is dropped.
            drop(hand_over.send(offered));
            DrainReport::default()
        });
        let failed = || LinkError::Lost { cause: "its task has failed".into() };
        let offered = handed.await.map_err(|_| failed())?;
        Ok(offered?.take())
    }

    /// Drains a link that nobody is there for any more.
    async fn let_go(&self, standing: Standing) -> DrainReport {
        let link = standing.link.clone();
        let drained = drain(&link, standing.instance, self.inner.config.limits.drain);
        tokio::join!(drained, self.serve_standing(standing)).0
    }

    /// Has `work` done by a task that [`ConnectionPoint::run`] waits for at its end.
    fn in_background(&self, work: impl Future<Output = DrainReport> + Send + 'static) {
        let mut tasks = self.inner.background.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(work);
    }

    /// Publishes over a link and forwards what arrives on it, until it ends. Returns why it did.
    pub(super) async fn serve_standing(&self, standing: Standing) -> LinkError {
        let Standing { link, instance, peer, driver } = standing;
        let mut exchanges = JoinSet::new();
        // Both to their end: the driver goes on until its last octets have left.
        let accept = self.accept(&link, &mut exchanges);
        let publish = self.publish(&link, instance);
        let renew = self.renew_peer(&link, instance, peer.chain().to_vec());
        let judge = self.judge(instance, &peer, &link);
        let (why, (), (), (), ()) = tokio::join!(driver, accept, publish, renew, judge);
        why
    }

    async fn accept(&self, link: &Link, exchanges: &mut JoinSet<()>) {
        loop {
            let incoming = tokio::select! {
                // Each exchange ends once, so that this keeps no stream waiting.
                biased;
                Some(_) = exchanges.join_next(), if !exchanges.is_empty() => continue,
                incoming = link.accept() => incoming,
            };
            match incoming {
                Ok(incoming) => {
                    let forwarder = Arc::clone(&self.inner.current.borrow().forwarder);
                    exchanges.spawn(async move { forwarder.serve(incoming).await });
                }
                // The driver says why.
                Err(_) => return,
            }
        }
    }
}
