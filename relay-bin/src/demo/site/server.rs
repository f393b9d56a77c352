//! The accept loop of one site role: hyper over TCP, every task owned.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::management_point::ManagementPoint;
use super::{Seen, SiteBody, SiteSeen, empty, update_point};

/// Connections open at once; further ones wait in the listener's queue.
const CONNECTIONS_MAX: usize = 1_024;

/// How long a connection may be idle or dribble a head. Above the relay's 60 s of keeping an idle
/// connection, so that it is the relay that closes first and no request meets a closing connection.
const HEAD_WITHIN: Duration = Duration::from_secs(75);

/// How long an answer may take to begin; covers a request body that never ends.
const ANSWER_WITHIN: Duration = Duration::from_mins(1);

/// How long requests in flight have to end when the site stops.
const DRAIN_WITHIN: Duration = Duration::from_secs(2);

pub(super) enum Role {
    ManagementPoint(ManagementPoint),
    UpdatePoint,
}

impl Role {
    fn seen<'a>(&self, site: &'a SiteSeen) -> &'a Seen {
        match self {
            Self::ManagementPoint(_) => &site.mp,
            Self::UpdatePoint => &site.sup,
        }
    }

    async fn answer(&self, request: Request<Incoming>, seen: &Seen) -> Response<SiteBody> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let _in_flight = seen.begin(&method, &path);
        let answer = async {
            match self {
                Self::ManagementPoint(role) => role.answer(request).await,
                Self::UpdatePoint => {
                    update_point::answer(&method, &path, request.into_body()).await
                }
            }
        };
        timeout(ANSWER_WITHIN, answer).await.unwrap_or_else(|_| empty(StatusCode::REQUEST_TIMEOUT))
    }
}

/// Serves `role` until `stop` is true or its sender is gone, then drains.
pub(super) async fn serve(
    listener: TcpListener,
    role: Arc<Role>,
    seen: Arc<SiteSeen>,
    stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let mut stopping = pin!(stopped(stop.clone()));
    loop {
        tokio::select! {
            () = &mut stopping => break,
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => {
                // Out of descriptors, or the peer is gone already: nothing to serve, try the next.
                let Ok((stream, _)) = accepted else { tokio::task::yield_now().await; continue };
                role.seen(&seen).accepted_connection();
                let (role, seen) = (Arc::clone(&role), Arc::clone(&seen));
                connections.spawn(connection(stream, role, seen, stop.clone()));
            }
            Some(_) = connections.join_next() => (),
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if timeout(DRAIN_WITHIN, drained).await.is_err() {
        connections.shutdown().await;
    }
}

async fn connection(
    stream: TcpStream,
    role: Arc<Role>,
    seen: Arc<SiteSeen>,
    stop: watch::Receiver<bool>,
) {
    // Without it an answer's last segment can wait for an acknowledgement; a refusal to set it
    // costs time only.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let (role, seen) = (&role, role.seen(&seen));
        async move { Ok::<_, Infallible>(role.answer(request, seen).await) }
    });
    let mut serving = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .serve_connection(TokioIo::new(stream), service)
    );
    // A connection that ends in an error ended all the same; the peer saw why.
    tokio::select! {
        _ = serving.as_mut() => return,
        () = stopped(stop) => serving.as_mut().graceful_shutdown(),
    }
    let _ = serving.await;
}

/// Waits until the site stops, or its handle is gone.
async fn stopped(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
