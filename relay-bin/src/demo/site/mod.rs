//! The built-in site: a management point and a software update point on loopback.
//!
//! Two HTTP/1.1 servers that behave as the real site roles do where the relay could spoil it:
//! uploads by fragments, ranges, binary multipart messages, odd verbs, headers byte for byte. They
//! hold no policy, no clients and no content, and they authenticate nobody. Read [`Site`] first,
//! then [`Seen`], which is how the session proves that a refused request never came here.

mod download;
mod management_point;
mod seen;
mod server;
mod update_point;
mod uploads;

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub(crate) use download::DEFAULT_BYTES as LARGE_FILE_BYTES;
pub(crate) use management_point::{
    INCOMING, LARGE_FILE, LOCATION, MESSAGES, MOVED, MOVED_TO, NOTIFICATION, POLICY,
    SITE_HOP_HEADER,
};
pub(crate) use seen::Seen;
pub(crate) use update_point::{
    NAMESPACE as SOAP_NAMESPACE, PATH as SOAP_PATH, envelope as soap_envelope,
};
pub(crate) use uploads::{Finished as FinishedUpload, PROTOCOL as BITS_PROTOCOL};

use management_point::ManagementPoint;
use server::Role;

/// What a site role answers with.
type SiteBody = BoxBody<Bytes, Infallible>;

/// The running site. Dropping it ends its tasks at once; [`Site::stop`] waits for them.
#[derive(Debug)]
pub(crate) struct Site {
    /// Where the management point listens: `127.0.0.1` and a port of the system's choosing.
    pub mp: SocketAddr,
    /// Where the software update point listens.
    pub sup: SocketAddr,
    seen: Arc<SiteSeen>,
    stop: watch::Sender<bool>,
    servers: JoinSet<()>,
}

/// What both site roles have seen.
#[derive(Debug, Default)]
pub(crate) struct SiteSeen {
    /// The management point.
    pub mp: Seen,
    /// The software update point.
    pub sup: Seen,
}

impl SiteSeen {
    /// Requests that reached either role so far.
    pub(crate) fn requests(&self) -> u64 {
        self.mp.requests() + self.sup.requests()
    }
}

impl Site {
    /// Starts both roles on loopback ports.
    ///
    /// # Errors
    ///
    /// What the system says if it has no port or descriptor to give.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was started ends when the future is dropped.
    pub(crate) async fn start() -> io::Result<Self> {
        let management = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let update = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (mp, sup) = (management.local_addr()?, update.local_addr()?);
        let seen = Arc::new(SiteSeen::default());
        let (stop, stopped) = watch::channel(false);
        let mut servers = JoinSet::new();
        let role = Role::ManagementPoint(ManagementPoint::default());
        servers.spawn(server::serve(
            management,
            Arc::new(role),
            Arc::clone(&seen),
            stopped.clone(),
        ));
        let role = Role::UpdatePoint;
        servers.spawn(server::serve(update, Arc::new(role), Arc::clone(&seen), stopped));
        Ok(Self { mp, sup, seen, stop, servers })
    }

    /// The counters, which outlive the site.
    pub(crate) fn seen(&self) -> Arc<SiteSeen> {
        Arc::clone(&self.seen)
    }

    /// Stops listening, lets requests in flight end within two seconds, and waits for every task.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends what is left of the site at once.
    pub(crate) async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.servers.join_next().await.is_some() {}
    }
}

fn full(body: impl Into<Bytes>) -> Response<SiteBody> {
    Response::new(Full::new(body.into()).boxed())
}

fn empty(status: StatusCode) -> Response<SiteBody> {
    let mut answer = Response::new(Empty::new().boxed());
    *answer.status_mut() = status;
    answer
}
