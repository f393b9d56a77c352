//! One supervisor per gateway instance: dial, serve, wait, dial again.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::link::{self, DrainReport, Link};
use crate::mux::{Config, Side};
use crate::transport::{ConnectError, dial_link};

use super::backoff::Backoff;
use super::config::GatewayAddress;
use super::{ConnectionPoint, LinkEnded};

impl ConnectionPoint {
    /// Keeps a link to the `number`-th gateway instance until the connection point stops.
    pub(super) async fn supervise(&self, number: usize) -> DrainReport {
        let limits = &self.inner.config.limits;
        let Some(gateway) = self.inner.config.gateways.get(number) else {
            return DrainReport::default();
        };
        let mut backoff = Backoff::new(limits.redial_first, limits.redial_max);
        let mut stopping = self.inner.stopping.subscribe();
        loop {
            let mut up_since = None;
            // A stop is noticed within: it interrupts a dial and drains a link.
            let why = match self.dial_and_serve(gateway, &mut up_since).await {
                Ok(report) => return report,
                Err(why) => why,
            };
            backoff.was_up(up_since.map_or(Duration::ZERO, |at: Instant| at.elapsed()));
            let delay = backoff.next(fastrand::f64());
            tracing::warn!(
                instance = %gateway.instance, host = gateway.host, port = gateway.port, %why,
                retry_in_ms = delay.as_millis(),
                "no link to the gateway instance"
            );
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                _ = stopping.wait_for(|stopping| *stopping) => return DrainReport::default(),
            }
        }
    }

    async fn dial_and_serve(
        &self,
        gateway: &GatewayAddress,
        up_since: &mut Option<Instant>,
    ) -> Result<DrainReport, LinkEnded> {
        let tls = Arc::clone(&self.inner.config.link_tls);
        let (host, name) = (&gateway.host, &gateway.server_name);
        let dial = dial_link(host, gateway.port, name, tls, self.inner.config.limits.dial);
        self.connect_and_serve(dial, gateway, up_since).await
    }

    /// Waits for a connection, unless the connection point stops, and serves the link over it.
    /// `up_since` tells since when that was established.
    pub(super) async fn connect_and_serve<P>(
        &self,
        connection: impl Future<Output = Result<P, ConnectError>>,
        gateway: &GatewayAddress,
        up_since: &mut Option<Instant>,
    ) -> Result<DrainReport, LinkEnded>
    where
        P: AsyncRead + AsyncWrite + Unpin,
    {
        let mut stopping = self.inner.stopping.subscribe();
        let stream = tokio::select! {
            stream = connection => stream?,
            _ = stopping.wait_for(|stopping| *stopping) => return Ok(DrainReport::default()),
        };
        self.serve_secure_link(stream, gateway, up_since).await
    }

    /// Serves a link whose peer is authenticated.
    async fn serve_secure_link<P>(
        &self,
        stream: P,
        gateway: &GatewayAddress,
        up_since: &mut Option<Instant>,
    ) -> Result<DrainReport, LinkEnded>
    where
        P: AsyncRead + AsyncWrite + Unpin,
    {
        let limits = &self.inner.config.limits;
        let config = Config {
            name: self.inner.config.name.chars().take(64).collect(),
            epoch: self.inner.epoch,
            link: fastrand::u64(..),
            memory: Some(self.inner.link_memory.clone()),
            // A backend that takes nothing of an upload is given up by its own limit.
            consumer_timeout: Config::default().consumer_timeout.max(2 * limits.backend_answer),
            ..Config::default()
        };
        let (link, driver) = link::new(stream, Side::Dialer, config)?;
        let mut driver = std::pin::pin!(driver);
        let hello = tokio::select! {
            ended = driver.as_mut() => return Err(ended.into()),
            hello = link.established() => hello?,
        };
        *up_since = Some(Instant::now());
        tracing::info!(
            instance = %gateway.instance, service = hello.name, software = hello.software,
            "link up"
        );
        let mut stopping = self.inner.stopping.subscribe();
        let mut exchanges = JoinSet::new();
        let ended = tokio::select! {
            (why, ()) = async {
                // Both to their end: the driver goes on until its last octets have left.
                tokio::join!(driver.as_mut(), self.accept(&link, &mut exchanges))
            } => Some(why),
            _ = stopping.wait_for(|stopping| *stopping) => None,
        };
        if let Some(why) = ended {
            return Err(why.into());
        }
        let (report, _) = tokio::join!(self.drain(&link, &mut exchanges), driver);
        Ok(report)
    }

    /// Forwards what arrives until the link ends.
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

    /// Lets requests in flight end; those that arrive before the gateway has heard are served too.
    async fn drain(&self, link: &Link, exchanges: &mut JoinSet<()>) -> DrainReport {
        let mut drain = std::pin::pin!(link.drain(self.inner.config.limits.drain));
        tokio::select! {
            report = drain.as_mut() => return report,
            () = self.accept(link, exchanges) => {}
        }
        drain.await
    }
}
