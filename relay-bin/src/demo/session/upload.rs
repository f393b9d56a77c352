//! A BITS upload whose fragments go over every instance in turn, with a gap on the way.
//!
//! Source of the sequence: [MC-BUP], section 1.3.

use anyhow::{Context as _, ensure};
use http::StatusCode;

use super::client::{Ask, Client, Lane, Reply};
use super::report::{Asked, Log, Proof};
use super::{LONG_STEP_WITHIN, STEP_WITHIN};
use crate::demo::material;
use crate::demo::site::{self, FinishedUpload};

/// Octets of one fragment: the smallest that clients usually send.
const FRAGMENT_BYTES: u64 = 64 * 1024;

/// Octets of the file: sixteen full fragments and a short one.
const FILE_BYTES: u64 = 16 * FRAGMENT_BYTES + 4_321;

/// Octets received when the gap is tried: half of the full fragments.
const GAP_AT: u64 = 8 * FRAGMENT_BYTES;

const FILE: &str = "demo-report.bin";

/// One upload in progress. The session id is the site's; it is good at every instance.
struct Upload<'a> {
    client: &'a Client,
    session: String,
    asked: usize,
}

pub(super) async fn run(client: &Client, log: &mut Log<'_>) {
    let mut upload = Upload { client, session: String::new(), asked: 0 };
    let lane = client.lane(0);
    let asked = Asked::on(lane, "upload", "BITS_POST Ping, Create-Session");
    log.step(asked, STEP_WITHIN, upload.create(lane)).await;

    let asked = Asked::everywhere(client, "upload", "BITS_POST Fragment, first half");
    log.step(asked, LONG_STEP_WITHIN, upload.fragments(0, GAP_AT)).await;

    let lane = client.lane(1);
    let asked = Asked::on(lane, "upload, gap", "BITS_POST Fragment that skips 64 KiB");
    log.step(asked, STEP_WITHIN, upload.gap(lane)).await;

    let asked = Asked::everywhere(client, "upload, resumed", "BITS_POST Fragment, second half");
    log.step(asked, LONG_STEP_WITHIN, upload.fragments(GAP_AT, FILE_BYTES)).await;

    let lane = client.lane(2);
    let asked = Asked::on(lane, "upload", "BITS_POST Close-Session; GET the hash");
    log.step(asked, STEP_WITHIN, upload.close(lane)).await;

    let lane = client.lane(3);
    let asked = Asked::on(lane, "upload, given up", "BITS_POST Create-, Cancel-Session");
    log.step(asked, STEP_WITHIN, upload.cancel(lane)).await;
}

impl Upload<'_> {
    fn path(&self) -> String {
        self.client.mp(&format!("{}{FILE}", site::INCOMING))
    }

    /// Sends one packet and checks what every answer must have and must not have.
    async fn packet(&self, lane: Lane, kind: &'static str, ask: Ask) -> anyhow::Result<Reply> {
        let reply = self.client.call(lane, ask.header("bits-packet-type", kind)).await?;
        let acknowledged = reply.text("bits-packet-type") == "Ack";
        ensure!(acknowledged, "{kind} was answered {} without an Ack", reply.line());
        let internal = reply.text("bits-host-id");
        ensure!(internal.is_empty(), "BITS-Host-Id came through and names `{internal}`");
        Ok(reply)
    }

    fn in_session(&self) -> anyhow::Result<Ask> {
        ensure!(!self.session.is_empty(), "there is no session: it was not created");
        Ok(Ask::new("BITS_POST", self.path()).header("bits-session-id", self.session.as_str()))
    }

    async fn create(&mut self, lane: Lane) -> anyhow::Result<Proof> {
        let ping = self.packet(lane, "Ping", Ask::new("BITS_POST", self.path())).await?;
        ping.expect(StatusCode::OK)?;
        let ask = Ask::new("BITS_POST", self.path())
            .header("bits-supported-protocols", site::BITS_PROTOCOL);
        let reply = self.packet(lane, "Create-Session", ask).await?;
        reply.expect(StatusCode::OK)?;
        let id = reply.text("bits-session-id");
        ensure!(!id.is_empty(), "Create-Session was answered without a BITS-Session-Id");
        id.clone_into(&mut self.session);
        let evidence = format!("session {id}, no BITS-Host-Id");
        Ok(Proof { answer: reply.line(), evidence })
    }

    /// Sends octets `from..to` of the file, each fragment over the next instance and version.
    async fn fragments(&mut self, from: u64, to: u64) -> anyhow::Result<Proof> {
        let mut next = from;
        let (mut count, mut answer) = (0_u32, String::new());
        while next < to {
            let lane = self.client.lane(self.asked);
            self.asked += 1;
            let reply = self.fragment(lane, next, to.min(next + FRAGMENT_BYTES)).await?;
            reply.expect(StatusCode::OK)?;
            let received = received(&reply)?;
            let end = to.min(next + FRAGMENT_BYTES);
            ensure!(received == end, "sent up to {end}, but the site expects {received} next");
            next = received;
            count += 1;
            answer = reply.line();
        }
        let evidence = format!("{count} fragments over all instances in turn, next octet {next}");
        Ok(Proof { answer, evidence })
    }

    async fn fragment(&self, lane: Lane, from: u64, to: u64) -> anyhow::Result<Reply> {
        let range = format!("bytes {from}-{}/{FILE_BYTES}", to - 1);
        let ask = self
            .in_session()?
            .header("content-name", FILE)
            .header("content-range", range)
            .body(material::octets(from, to));
        self.packet(lane, "Fragment", ask).await
    }

    async fn gap(&mut self, lane: Lane) -> anyhow::Result<Proof> {
        let from = GAP_AT + FRAGMENT_BYTES;
        let reply = self.fragment(lane, from, from + FRAGMENT_BYTES).await?;
        reply.expect(StatusCode::RANGE_NOT_SATISFIABLE)?;
        let received = received(&reply)?;
        ensure!(received == GAP_AT, "the site expects {received} next, expected {GAP_AT}");
        let evidence = format!("BITS-Received-Content-Range {received}, where it went on");
        Ok(Proof { answer: reply.line(), evidence })
    }

    async fn close(&mut self, lane: Lane) -> anyhow::Result<Proof> {
        let reply = self.packet(lane, "Close-Session", self.in_session()?).await?;
        reply.expect(StatusCode::OK)?;
        let status = self.client.call(lane, Ask::new("GET", self.path())).await?;
        status.expect(StatusCode::OK)?;
        let finished: FinishedUpload = serde_json::from_slice(&status.body)?;
        let sha256 = material::sha256_hex(FILE_BYTES);
        ensure!(
            finished == FinishedUpload { bytes: FILE_BYTES, sha256: sha256.clone() },
            "the site holds {} octets with SHA-256 {}, sent were {FILE_BYTES} with {sha256}",
            finished.bytes,
            finished.sha256
        );
        let evidence = format!("{FILE_BYTES} B, SHA-256 {}… equal", &sha256[..12]);
        Ok(Proof { answer: reply.line(), evidence })
    }

    async fn cancel(&mut self, lane: Lane) -> anyhow::Result<Proof> {
        self.create(lane).await?;
        let reply = self.packet(lane, "Cancel-Session", self.in_session()?).await?;
        reply.expect(StatusCode::OK)?;
        let gone = self.packet(lane, "Close-Session", self.in_session()?).await?;
        gone.expect(StatusCode::NOT_FOUND)?;
        let evidence = "cancelled, and unknown afterwards";
        Ok(Proof { answer: reply.line(), evidence: evidence.into() })
    }
}

/// The offset that the site expects next.
fn received(reply: &Reply) -> anyhow::Result<u64> {
    let text = reply.text("bits-received-content-range");
    text.parse().with_context(|| format!("BITS-Received-Content-Range is `{text}`"))
}
