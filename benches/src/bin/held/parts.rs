//! What runs in processes of its own: gateway, connection point and backend.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use clap::ValueEnum;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use relay_benches::processes::{self, Told, at, say};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};

/// Which part a process is.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Part {
    Gateway,
    Site,
    Backend,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Gateway => "gateway",
            Self::Site => "site",
            Self::Backend => "backend",
        })
    }
}

/// Runs one part until nobody speaks to it any more.
pub(crate) async fn run(part: Part) -> anyhow::Result<()> {
    match part {
        Part::Gateway => processes::gateway(Told::new()).await,
        Part::Site => processes::site(Told::new()).await,
        Part::Backend => backend(Told::new()).await,
    }
}

/// What every request to the backend waits for.
#[derive(Clone)]
struct Round {
    arrived: Arc<watch::Sender<usize>>,
    /// How often all were woken.
    woken: watch::Receiver<u64>,
    /// Wakes one.
    one: Arc<Notify>,
}

/// Which of those that wait are to be answered.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) enum Wake {
    One,
    All,
}

/// Holds what it is asked. It says its port; then for each round it is told a number, says when it
/// holds so many, is told whom to answer until that is all, and says each time when it did.
async fn backend(mut told: Told) -> anyhow::Result<()> {
    let listener = TcpListener::bind(at(0)).await?;
    let (wake, woken) = watch::channel(0);
    let (arrived, mut arrivals) = watch::channel(0);
    let round = Round { arrived: Arc::new(arrived), woken, one: Arc::default() };
    say(&listener.local_addr()?.port())?;
    let accepting = tokio::spawn({
        let round = round.clone();
        async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (round, _) = (round.clone(), tcp.set_nodelay(true));
                let serve = service_fn(move |request| answer(request, round.clone()));
                let io = TokioIo::new(tcp);
                tokio::spawn(http1::Builder::new().serve_connection(io, serve));
            }
        }
    });
    while let Some(count) = told.next::<usize>().await? {
        arrivals.wait_for(|now| *now >= count).await?;
        say(&count)?;
        while let Some(Wake::One) = told.next().await? {
            let released = processes::now();
            round.one.notify_one();
            say(&released)?;
        }
        round.arrived.send_replace(0);
        let released = processes::now();
        wake.send_modify(|rounds| *rounds += 1);
        say(&released)?;
    }
    accepting.abort();
    Ok(())
}

async fn answer(
    _: Request<Incoming>,
    mut round: Round,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let before = *round.woken.borrow_and_update();
    round.arrived.send_modify(|count| *count += 1);
    tokio::select! {
        // It ends with the process.
        _ = round.woken.wait_for(|now| *now > before) => {}
        () = round.one.notified() => {}
    }
    Ok(Response::new(Full::from("woken")))
}
