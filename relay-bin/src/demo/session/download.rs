//! Ranges, and the large download with its hash.

use std::time::Instant;

use anyhow::ensure;
use http::StatusCode;
use http::header::{CONTENT_RANGE, ETAG};
use http_body_util::BodyExt as _;
use sha2::{Digest as _, Sha256};

use super::client::{Ask, Client, Lane, Reply, Version, phrase};
use super::report::{Asked, Log, Proof};
use super::{LONG_STEP_WITHIN, STEP_WITHIN};
use crate::demo::material;
use crate::demo::site;

/// Octets per mebibyte.
const MIB: u64 = 1024 * 1024;

pub(super) async fn run(client: &Client, log: &mut Log<'_>) {
    let lane = client.lane(0);
    let asked = Asked::on(lane, "range", "GET large.bin, 1,000 octets from the middle");
    log.step(asked, STEP_WITHIN, part(client, lane)).await;
    let lane = client.lane(1);
    let asked = Asked::on(lane, "range", "GET large.bin, from behind its end");
    log.step(asked, STEP_WITHIN, behind_the_end(client, lane)).await;

    let bytes = client.target().extent.download_bytes;
    let expected = material::sha256_hex(bytes);
    let last = client.instances() - 1;
    for (instance, version) in [(0, Version::Http11), (last, Version::Http2)] {
        let lane = Lane { instance, version };
        let asked = Asked::on(lane, "download", format!("GET large.bin, {} MiB", bytes / MIB));
        log.step(asked, LONG_STEP_WITHIN, whole(client, lane, &expected)).await;
    }
}

fn path(client: &Client) -> String {
    let bytes = client.target().extent.download_bytes;
    client.mp(&format!("{}?bytes={bytes}", site::LARGE_FILE))
}

async fn ranged(client: &Client, lane: Lane, range: String) -> anyhow::Result<Reply> {
    client.call(lane, Ask::new("GET", path(client)).header("range", range)).await
}

async fn part(client: &Client, lane: Lane) -> anyhow::Result<Proof> {
    let total = client.target().extent.download_bytes;
    // Not on any boundary of words, chunks or frames.
    let (from, to) = (total / 2 + 3, total / 2 + 1_003);
    let reply = ranged(client, lane, format!("bytes={from}-{}", to - 1)).await?;
    reply.expect(StatusCode::PARTIAL_CONTENT)?;
    let range = reply.text(CONTENT_RANGE.as_str());
    let expected = format!("bytes {from}-{}/{total}", to - 1);
    ensure!(range == expected, "Content-Range is `{range}`, expected `{expected}`");
    ensure!(reply.body == material::octets(from, to), "the part differs from the file");
    ensure!(!reply.text(ETAG.as_str()).is_empty(), "the ETag was lost");
    let evidence = format!("{} B equal, Content-Range and ETag kept", reply.body.len());
    Ok(Proof { answer: reply.line(), evidence })
}

async fn behind_the_end(client: &Client, lane: Lane) -> anyhow::Result<Proof> {
    let total = client.target().extent.download_bytes;
    let reply = ranged(client, lane, format!("bytes={total}-")).await?;
    reply.expect(StatusCode::RANGE_NOT_SATISFIABLE)?;
    let range = reply.text(CONTENT_RANGE.as_str());
    ensure!(range == format!("bytes */{total}"), "Content-Range is `{range}`");
    Ok(Proof { answer: reply.line(), evidence: format!("Content-Range {range} kept") })
}

async fn whole(client: &Client, lane: Lane, expected: &str) -> anyhow::Result<Proof> {
    let bytes = client.target().extent.download_bytes;
    let begun = Instant::now();
    let mut connection = client.open(lane).await?;
    let mut answer = connection.send(Ask::new("GET", path(client))).await?;
    let status = answer.status();
    ensure!(status == StatusCode::OK, "expected 200, got {status}");
    let answered = match lane.version {
        Version::Http11 => format!("{} {}", status.as_u16(), phrase(&answer)),
        Version::Http2 => status.as_u16().to_string(),
    };
    let mut hash = Sha256::new();
    let mut received = 0;
    while let Some(frame) = answer.body_mut().frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        received += data.len() as u64;
        hash.update(&data);
    }
    let elapsed = begun.elapsed();
    ensure!(received == bytes, "{received} of {bytes} octets came");
    let sha256 = format!("{:x}", hash.finalize());
    ensure!(sha256 == expected, "SHA-256 is {sha256}, expected {expected}");
    let elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX).max(1);
    let mib_per_s = received.saturating_mul(1_000_000) / elapsed_us / MIB;
    let evidence = format!("SHA-256 {}… equal, {mib_per_s} MiB/s", &sha256[..12]);
    Ok(Proof { answer: answered, evidence })
}
