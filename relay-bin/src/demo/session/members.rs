//! Steps of a client that becomes one of the site, and of those who try to be one and are not.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use relay_core::auth::Guid;
use relay_core::transport::Identity;
use serde::Deserialize;
use serde_json::json;
use tokio::time::sleep;

use super::client::{Ask, Client, Lane, Reply};
use super::report::{Asked, Log, Proof};
use super::{LOOK_AGAIN, REASON, STEP_WITHIN, Target};
use crate::client::new_identity;
use crate::demo::site;

/// What a site tells those who are to become its clients.
#[derive(Clone)]
pub(crate) struct Membership {
    /// With which they register, and do nothing else.
    pub bulk_token: String,
    /// Role id of the site's token service.
    pub token_role: u64,
    /// Has the site block a client.
    pub(crate) block: Block,
}

/// Has a site block a client.
type Block = Arc<dyn Fn(Guid) -> anyhow::Result<()> + Send + Sync>;

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership").field("token_role", &self.token_role).finish_non_exhaustive()
    }
}

/// One who has registered.
struct Member {
    id: Guid,
    identity: Identity,
    token: String,
    /// Shows certificate and token.
    client: Client,
}

/// What the token service gives.
#[derive(Deserialize)]
struct Given {
    client_id: String,
    token: String,
}

/// What it says instead.
#[derive(Deserialize)]
struct Refused {
    error: String,
}

/// Registers a client, which then asks for all that follows; `None` if it could not.
pub(super) async fn join(
    stranger: &Client,
    membership: &Membership,
    log: &mut Log<'_>,
) -> Option<Client> {
    let lane = stranger.lane(0);
    let asked = Asked::on(lane, "register", "CCM_POST CCM_STS/register, by a bulk token");
    let mut joined = None;
    log.step(asked, STEP_WITHIN, async {
        let (member, reply) = register(stranger, lane, membership).await?;
        let evidence = format!("client {}: a token bound to its own certificate", member.id);
        joined = Some(member);
        Ok(Proof { answer: reply.line(), evidence })
    })
    .await;
    let member = joined?;
    let lane = stranger.lane(1);
    let asked = Asked::on(lane, "renew", "CCM_POST CCM_STS/renew, on the first day");
    log.step(asked, STEP_WITHIN, renewed_too_early(&member, lane, membership)).await;
    for (n, (step, who)) in impostors(stranger, membership, &member).into_iter().enumerate() {
        let lane = stranger.lane(n);
        let asked = Asked::on(lane, step, format!("GET SMS_MP/.sms_pol, {}", who.shows));
        log.step(asked, STEP_WITHIN, turned_away(&who, lane)).await;
    }
    Some(member.client)
}

/// Blocks a client that has just been let in everywhere.
pub(super) async fn block(stranger: &Client, membership: &Membership, log: &mut Log<'_>) {
    let asked = Asked::everywhere(stranger, "block", "GET SMS_MP/.sms_pol, of a client in use");
    log.step(asked, STEP_WITHIN, blocked(stranger, membership)).await;
}

/// Registers somebody who asks by other means: by certificate and token.
///
/// # Errors
///
/// The site takes no clients, or not this one.
pub(crate) async fn visitor(target: &Target) -> anyhow::Result<(Identity, String)> {
    let membership = target.membership.as_ref().context("the site takes no clients")?;
    let stranger = Client::new(target)?;
    let (member, _) = register(&stranger, stranger.lane(0), membership).await?;
    Ok((member.identity, member.token))
}

fn token_service(membership: &Membership, door: &str) -> String {
    format!("/CCM_Proxy_ServerAuth/{}/CCM_STS/{door}", membership.token_role)
}

async fn register(
    stranger: &Client,
    lane: Lane,
    membership: &Membership,
) -> anyhow::Result<(Member, Reply)> {
    let identity = tokio::task::spawn_blocking(new_identity).await??;
    let certificate = leaf(&identity)?;
    let applicant = stranger.showing(&identity, &membership.bulk_token)?;
    let ask = Ask::new("CCM_POST", token_service(membership, "register"))
        .header("content-type", "application/json")
        .body(json!({ "certificate": certificate }).to_string());
    let reply = applicant.call(lane, ask).await?;
    reply.expect(StatusCode::OK)?;
    let given: Given = serde_json::from_slice(&reply.body).context("it gives no token")?;
    let client = stranger.showing(&identity, &given.token)?;
    let id = given.client_id.parse()?;
    Ok((Member { id, identity, token: given.token, client }, reply))
}

fn leaf(identity: &Identity) -> anyhow::Result<String> {
    let leaf = identity.chain().first().context("an identity has a certificate")?;
    Ok(STANDARD.encode(leaf))
}

/// A token is renewed once a month, so not on its first day.
async fn renewed_too_early(
    member: &Member,
    lane: Lane,
    membership: &Membership,
) -> anyhow::Result<Proof> {
    let ask = Ask::new("CCM_POST", token_service(membership, "renew"))
        .header("content-type", "application/json")
        .body("{}");
    let reply = member.client.call(lane, ask).await?;
    let refused: Refused = serde_json::from_slice(&reply.body).context("it gives no reason")?;
    ensure!(refused.error == "too_early", "refused as `{}`, expected `too_early`", refused.error);
    Ok(Proof { answer: reply.line(), evidence: "known by its token; not due for 30 days".into() })
}

/// Somebody who is not let in.
struct Impostor {
    shows: &'static str,
    client: anyhow::Result<Client>,
    status: StatusCode,
    reason: &'static str,
}

fn impostors(
    stranger: &Client,
    membership: &Membership,
    member: &Member,
) -> [(&'static str, Impostor); 4] {
    let impostor = |shows, client, status, reason| Impostor { shows, client, status, reason };
    let invalid = (StatusCode::UNAUTHORIZED, "CMGService_Invalid_Token");
    let bulk = stranger.with_token(&membership.bulk_token);
    let only = (StatusCode::FORBIDDEN, "CMGService_Registration_Only");
    let stolen = stranger.with_token(&member.token);
    let forged = member.client.with_token(&forged(&member.token));
    let nobody = (StatusCode::UNAUTHORIZED, "CMGService_No_Credential");
    [
        ("no credential", impostor("nothing shown", Ok(stranger.clone()), nobody.0, nobody.1)),
        ("bulk token", impostor("what one registers by", bulk, only.0, only.1)),
        ("stolen token", impostor("without its certificate", stolen, invalid.0, invalid.1)),
        ("forged token", impostor("one octet changed", forged, invalid.0, invalid.1)),
    ]
}

/// The token with another signature.
fn forged(token: &str) -> String {
    let at = token.len().saturating_sub(20);
    let (kept, end) = token.split_at(at);
    let other = if end.starts_with('A') { "B" } else { "A" };
    format!("{kept}{other}{}", end.get(1..).unwrap_or_default())
}

async fn turned_away(who: &Impostor, lane: Lane) -> anyhow::Result<Proof> {
    let client = who.client.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
    let seen = &client.target().seen;
    let before = seen.requests();
    let reply = client.call(lane, Ask::new("GET", client.mp(site::POLICY))).await?;
    ensure!(seen.requests() == before, "answered {}, and it reached the site", reply.line());
    reply.expect(who.status)?;
    let reason = reply.text(REASON);
    ensure!(reason == who.reason, "{REASON} is `{reason}`, expected `{}`", who.reason);
    let answer = format!("{} {reason}", reply.status.as_u16());
    Ok(Proof { answer, evidence: "never reached the site".into() })
}

/// A client is served by every instance until it is blocked, and by none after.
async fn blocked(stranger: &Client, membership: &Membership) -> anyhow::Result<Proof> {
    let (member, _) = register(stranger, stranger.lane(0), membership).await?;
    let lanes = stranger.lanes();
    for lane in &lanes {
        let ask = Ask::new("GET", stranger.mp(site::POLICY));
        member.client.call(*lane, ask).await?.expect(StatusCode::OK)?;
    }
    let begun = Instant::now();
    let (block, id) = (Arc::clone(&membership.block), member.id);
    tokio::task::spawn_blocking(move || block(id)).await??;
    for lane in &lanes {
        let ask = || Ask::new("GET", stranger.mp(site::POLICY));
        let mut reply = member.client.call(*lane, ask()).await?;
        while reply.status == StatusCode::OK {
            sleep(LOOK_AGAIN).await;
            reply = member.client.call(*lane, ask()).await?;
        }
        let reason = reply.text(REASON);
        ensure!(reason.starts_with("CMGService_"), "answered {}, `{reason}`", reply.line());
    }
    let elapsed = begun.elapsed();
    ensure!(elapsed.as_secs() < 5, "it took {} ms until all had refused it", elapsed.as_millis());
    let evidence = format!("refused by every instance {} ms later", elapsed.as_millis());
    Ok(Proof { answer: "401".to_owned(), evidence })
}
