//! Many requests at once, and many clients on few connections to the site.

use std::collections::HashSet;

use anyhow::ensure;
use http::StatusCode;
use tokio::task::JoinSet;

use super::client::{Ask, Client, Connection, Lane, Version};
use super::report::{Asked, Log, Proof};
use super::{LONG_STEP_WITHIN, STEP_WITHIN};
use crate::demo::site;

/// How often the crowd asks. Twice, so that connections to the site can be seen to be used again.
const WAVES: usize = 2;

/// Requests held at the site together.
const HELD: usize = 50;

/// Clients that come one after another, each on a connection of its own.
const CLIENTS: usize = 40;

pub(super) async fn run(client: &Client, log: &mut Log<'_>) {
    let crowd = client.target().extent.crowd;
    let asked =
        Asked::everywhere(client, "at once", format!("{crowd} × GET SMS_MP/.sms_pol, twice"));
    log.step(asked, LONG_STEP_WITHIN, at_once(client, crowd)).await;
    let asked = Asked::everywhere(client, "held", format!("{HELD} × GET BGB, until all are there"));
    log.step(asked, STEP_WITHIN, held(client)).await;
    let asked =
        Asked::everywhere(client, "pooling", format!("{CLIENTS} clients, one after another"));
    log.step(asked, STEP_WITHIN, pooling(client)).await;
}

/// Opens every connection first, so that the requests themselves leave together.
async fn at_once(client: &Client, crowd: usize) -> anyhow::Result<Proof> {
    let mut connections = connections(client, crowd).await?;
    let seen = &client.target().seen.mp;
    let reached = || seen.requests_for("GET", site::POLICY);
    let (requests, backend) = (reached(), seen.connections());
    for number in 0..WAVES {
        connections = wave(client, connections, number).await?;
    }
    let (requests, backend) = (reached() - requests, seen.connections() - backend);
    let sent = crowd * WAVES;
    ensure!(requests == sent as u64, "{sent} requests were sent, {requests} reached the site");
    ensure!(backend < requests, "{backend} new connections to the site for {requests} requests");
    let evidence = format!("each its own answer, {backend} new connections to the MP");
    Ok(Proof { answer: format!("{sent} × 200"), evidence })
}

/// Sends one request on each connection and matches each answer to its request.
async fn wave(
    client: &Client,
    connections: Vec<Connection>,
    number: usize,
) -> anyhow::Result<Vec<Connection>> {
    let mut asking = JoinSet::new();
    for (n, mut connection) in connections.into_iter().enumerate() {
        let query = format!("request={number}-{n}");
        let path = client.mp(&format!("{}?{query}", site::POLICY));
        asking.spawn(async move {
            let reply = connection.call(Ask::new("GET", path)).await?;
            reply.expect(StatusCode::OK)?;
            let own = format!("Query=\"{query}\"");
            let body = String::from_utf8_lossy(&reply.body);
            ensure!(body.contains(&own), "request {n} got an answer that is not its own: {body}");
            anyhow::Ok(connection)
        });
    }
    let mut connections = Vec::with_capacity(asking.len());
    while let Some(asked) = asking.join_next().await {
        connections.push(asked??);
    }
    Ok(connections)
}

/// Every request is held at the site until all of them are there: if the relay let one wait for the
/// answer to another, none would ever be answered.
async fn held(client: &Client) -> anyhow::Result<Proof> {
    let mut asking = JoinSet::new();
    for mut connection in connections(client, HELD).await? {
        let path = client.mp(&format!("{}?meet={HELD}", site::NOTIFICATION));
        asking.spawn(async move {
            let reply = connection.call(Ask::new("GET", path)).await?;
            reply.expect(StatusCode::OK)?;
            anyhow::Ok(reply.body)
        });
    }
    let mut arrivals = HashSet::new();
    while let Some(asked) = asking.join_next().await {
        arrivals.insert(asked??);
    }
    ensure!(arrivals.len() == HELD, "{} different answers to {HELD} requests", arrivals.len());
    let in_flight = client.target().seen.mp.in_flight_max();
    let evidence = format!("{in_flight} in flight at the MP at one moment");
    Ok(Proof { answer: format!("{HELD} × 200"), evidence })
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
        "{opened} new connections to the MP for {CLIENTS} clients"
    );
    let evidence = format!("{opened} new connections to the MP for {CLIENTS} client connections");
    Ok(Proof { answer: format!("{CLIENTS} × 200"), evidence })
}
