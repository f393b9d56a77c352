//! One link, from its hello to its end: what arrives is forwarded.

use std::fmt;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

use crate::link::{self, Driver, Link};
use crate::mux::{Config, LinkError, Side};
use crate::transport::Instance;

use super::{ConnectionPoint, LinkEnded};

/// A pipe of any transport, whose peer is authenticated.
pub(super) trait Pipe: AsyncRead + AsyncWrite + Unpin + Send {}

impl<P: AsyncRead + AsyncWrite + Unpin + Send> Pipe for P {}

/// A link whose hello has been heard, and what drives it.
pub(super) struct Standing {
    pub(super) link: Link,
    driver: Driver<Box<dyn Pipe>>,
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Standing").field("link", &self.link).finish_non_exhaustive()
    }
}

impl ConnectionPoint {
    /// Waits for the peer's hello on a pipe whose peer is authenticated, and which is to lead to
    /// `instance`. `number` names the link in the hello, see [`Config::link`].
    pub(super) async fn establish(
        &self,
        pipe: Box<dyn Pipe>,
        instance: Instance,
        number: u64,
    ) -> Result<Standing, LinkEnded> {
        let limits = &self.inner.config.limits;
        let config = Config {
            name: self.inner.config.name.chars().take(64).collect(),
            epoch: self.inner.epoch,
            link: number,
            memory: Some(self.inner.link_memory.clone()),
            // A backend that takes nothing of an upload is given up by its own limit.
            consumer_timeout: Config::default().consumer_timeout.max(2 * limits.backend_answer),
            ..Config::default()
        };
        let (link, mut driver) = link::new(pipe, Side::Dialer, config)?;
        let hello = tokio::select! {
            ended = &mut driver => return Err(ended.into()),
            hello = link.established() => hello?,
        };
        // 0 is no number of an instance: the other side does not say which it is.
        if ![0, instance.number().into()].contains(&hello.instance) {
            return Err(LinkEnded::OtherInstance { wanted: instance, found: hello.instance });
        }
        Ok(Standing { link, driver })
    }

    /// Forwards what arrives on a link until it ends. Returns why it did.
    pub(super) async fn serve_standing(&self, standing: Standing) -> LinkError {
        let Standing { link, driver } = standing;
        let mut exchanges = JoinSet::new();
        // Both to their end: the driver goes on until its last octets have left.
        let (why, ()) = tokio::join!(driver, self.accept(&link, &mut exchanges));
        why
    }

    async fn accept(&self, link: &Link, exchanges: &mut JoinSet<()>) {
        loop {
            let incoming = tokio::select! {
                incoming = link.accept() => incoming,
                Some(_) = exchanges.join_next(), if !exchanges.is_empty() => continue,
            };
            match incoming {
                Ok(incoming) => {
                    let forwarder = Arc::clone(&self.inner.forwarder);
                    exchanges.spawn(async move { forwarder.serve(incoming).await });
                }
                // The driver says why.
                Err(_) => return,
            }
        }
    }
}
