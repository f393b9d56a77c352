//! A backend that takes the same time for each request, however many there are.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use relay_benches::processes::{Told, at, say};
use tokio::net::TcpListener;

/// How many requests it has, and has had at most.
#[derive(Default)]
struct Busy {
    now: AtomicU32,
    most: AtomicU32,
}

/// Is told how long it takes and says its port; when it is told anything more, it says how many
/// requests it has had at once at most.
pub(crate) async fn run(mut told: Told) -> anyhow::Result<()> {
    let service: Duration = told.next().await?.context("no task")?;
    let listener = TcpListener::bind(at(0)).await?;
    say(&listener.local_addr()?.port())?;
    let busy = Arc::<Busy>::default();
    let counted = Arc::clone(&busy);
    let accepting = tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (busy, _) = (Arc::clone(&counted), tcp.set_nodelay(true));
            let serve = service_fn(move |request| answer(request, service, Arc::clone(&busy)));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(tcp), serve));
        }
    });
    let _: Option<()> = told.next().await?;
    say(&busy.most.load(Ordering::Relaxed))?;
    accepting.abort();
    Ok(())
}

async fn answer(
    _: Request<Incoming>,
    service: Duration,
    busy: Arc<Busy>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let now = busy.now.fetch_add(1, Ordering::Relaxed) + 1;
    busy.most.fetch_max(now, Ordering::Relaxed);
    tokio::time::sleep(service).await;
    busy.now.fetch_sub(1, Ordering::Relaxed);
    Ok(Response::new(Full::from("served")))
}
