//! Many requests at once, and many clients on few connections to the site.

use anyhow::ensure;
use http::StatusCode;
use tokio::task::JoinSet;

use super::client::{Ask, Client, Connection, Lane, Version};
use super::report::{Asked, Log, Proof};
use super::{LONG_STEP_WITHIN, STEP_WITHIN};
use crate::demo::site;

/// Clients that come one after another, each on a connection of its own.
const CLIENTS: usize = 40;

pub(super) async fn run(client: &Client, log: &mut Log<'_>) {
    let crowd = client.target().extent.crowd;
    let asked = Asked::everywhere(client, "at once", format!("{crowd} × GET SMS_MP/.sms_pol"));
    log.step(asked, LONG_STEP_WITHIN, at_once(client, crowd)).await;
    let asked =
        Asked::everywhere(client, "pooling", format!("{CLIENTS} clients, one after another"));
    log.step(asked, STEP_WITHIN, pooling(client)).await;
}

/// Opens every connection first, so that the requests themselves leave together.
async fn at_once(client: &Client, crowd: usize) -> anyhow::Result<Proof> {
    let connections = connections(client, crowd).await?;
    let seen = &client.target().seen.mp;
    let reached = || seen.requests_for("GET", site::POLICY);
    let (requests, backend) = (reached(), seen.connections());

    let mut asking = JoinSet::new();
    for (n, mut connection) in connections.into_iter().enumerate() {
        let query = format!("request={n}");
        let path = client.mp(&format!("{}?{query}", site::POLICY));
        asking.spawn(async move {
            let reply = connection.call(Ask::new("GET", path)).await?;
            reply.expect(StatusCode::OK)?;
            let own = format!("Query=\"{query}\"");
            let body = String::from_utf8_lossy(&reply.body);
            ensure!(body.contains(&own), "request {n} got an answer that is not its own: {body}");
            anyhow::Ok(())
        });
    }
    let mut answered = 0_usize;
    while let Some(asked) = asking.join_next().await {
        asked??;
        answered += 1;
    }
    ensure!(answered == crowd, "{answered} of {crowd} requests were answered");
    let requests = reached() - requests;
    ensure!(requests == crowd as u64, "{crowd} requests were sent, {requests} reached the site");
    let backend = seen.connections() - backend;
    ensure!(backend < requests, "{backend} new connections to the site for {requests} requests");
    let evidence = format!(
        "each its own answer, {} in flight at the MP, {backend} new connections to it",
        seen.in_flight_max()
    );
    Ok(Proof { answer: format!("{answered} × 200"), evidence })
}

/// One handle for each request: half of them HTTP/1.1 connections of their own, half of them
/// streams of one HTTP/2 connection to each instance.
async fn connections(client: &Client, crowd: usize) -> anyhow::Result<Vec<Connection>> {
    let instances = client.instances();
    let mut opening = JoinSet::new();
    for n in 0..crowd / 2 {
        let client = client.clone();
        let lane = Lane { instance: n % instances, version: Version::Http11 };
        opening.spawn(async move { client.open(lane).await });
    }
    let mut connections = Vec::with_capacity(crowd);
    while let Some(opened) = opening.join_next().await {
        connections.push(opened??);
    }
    let mut shared = Vec::with_capacity(instances);
    for instance in 0..instances {
        shared.push(client.open(Lane { instance, version: Version::Http2 }).await?);
    }
    let streams = shared.iter().cycle().map_while(Connection::share);
    connections.extend(streams.take(crowd - crowd / 2));
    Ok(connections)
}

/// The original opens a connection to the management point for each client; the relay must not.
async fn pooling(client: &Client) -> anyhow::Result<Proof> {
    let seen = &client.target().seen.mp;
    let before = seen.connections();
    for n in 0..CLIENTS {
        let ask = Ask::new("GET", client.mp(&format!("{}?client={n}", site::POLICY)));
        client.call(client.lane(n), ask).await?.expect(StatusCode::OK)?;
    }
    let opened = seen.connections() - before;
    ensure!(
        opened < CLIENTS as u64 / 4,
        "{opened} new connections to the site for {CLIENTS} clients"
    );
    let evidence = format!("{opened} new connections to the MP for {CLIENTS} client connections");
    Ok(Proof { answer: format!("{CLIENTS} × 200"), evidence })
}
