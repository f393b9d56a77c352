//! Steps that read: GET, HEAD, PROPFIND, and the headers that must survive.

use anyhow::ensure;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, StatusCode};
use tokio::time::sleep;

use super::client::{Ask, Client, Lane, Reply, Version};
use super::links;
use super::report::{Asked, Log, Proof};
use super::{LOOK_AGAIN, STEP_WITHIN};
use crate::demo::site;

/// The five headers that must survive byte for byte, with the two spellings that real clients send
/// besides. The values are legal and awkward: octets above 0x7f, tabs, runs of spaces, quotes.
const NAMED: [(&str, &[u8]); 8] = [
    ("range", b"bytes=0-,  5-9"),
    ("ccmclientid", b"GUID:0F8FAD5B-D9CB-469F-A165-70867728950E"),
    ("ccmclientidsignature", b"00FF\xff\xfe\x80aB  \"quoted\"\tend"),
    ("ccmclienttimestamp", b"2026-11-21T18:00:00Z"),
    ("ccmclienttimestampssignature", b"\xc3\xa4 utf-8, and latin-1 \xe4"),
    ("ccmclienttimestampsignature", b"singular; a=b, c=d"),
    ("clienttoken", b"GUID:1;2026-11-21T18:00:00Z;2"),
    ("clienttokensignature", b"A1b2C3=="),
];

/// Hop-by-hop fields that a client sends over HTTP/1.1; none may reach the site.
/// Source: RFC 9110, section 7.6.1.
const HOP_BY_HOP: [(&str, &[u8]); 5] = [
    ("connection", b"x-demo-hop"),
    ("x-demo-hop", b"must not pass"),
    ("keep-alive", b"timeout=5"),
    ("te", b"trailers"),
    ("proxy-authorization", b"Basic bXVzdDpub3Q="),
];

/// Waits for a connection point at every instance.
pub(super) async fn wait_until_connected(client: &Client, log: &mut Log<'_>) {
    for instance in 0..client.instances() {
        let lane = Lane { instance, version: Version::Http11 };
        let asked = Asked::on(lane, "connected", "GET SMS_MP/.sms_aut?MPLIST");
        log.step(asked, STEP_WITHIN, connected(client, lane)).await;
    }
    if !log.has_failed() {
        let asked = Asked::everywhere(client, "connected", "links of every connection point");
        log.step(asked, STEP_WITHIN, links::all_up(client)).await;
    }
}

/// What a client could claim to be somebody by; only the relay may say such things.
const FORGED: [(&str, &[u8]); 3] = [
    ("x-arr-clientcert", b"MIIforged"),
    ("x-forwarded-for", b"192.0.2.1"),
    ("relay-message-id", b"forged"),
];

pub(super) async fn run(client: &Client, log: &mut Log<'_>) {
    for lane in client.lanes() {
        let asked = Asked::on(lane, "policy", "GET SMS_MP/.sms_pol");
        log.step(asked, STEP_WITHIN, policy(client, lane)).await;
    }
    let lane = client.lane(0);
    let asked = Asked::on(lane, "token root", "GET CCM_Proxy_ServerAuth/…/.sms_aut?MPLIST");
    log.step(asked, STEP_WITHIN, token_root(client, lane)).await;
    for lane in [client.lane(0), client.lane(1)] {
        let asked = Asked::on(lane, "head", "HEAD CCM_Client/large.bin");
        log.step(asked, STEP_WITHIN, head(client, lane)).await;
    }
    for lane in [client.lane(2), client.lane(3)] {
        let asked = Asked::on(lane, "properties", "PROPFIND CCM_Client/large.bin");
        log.step(asked, STEP_WITHIN, properties(client, lane)).await;
    }
    let lane = client.lane(1);
    let asked = Asked::on(lane, "redirect", "GET SMS_MP/.sms_moved");
    log.step(asked, STEP_WITHIN, redirect(client, lane)).await;
    for version in [Version::Http11, Version::Http2] {
        let lane = Lane { instance: client.lane(1).instance, version };
        let asked = Asked::on(lane, "headers", "GET SMS_MP/.sms_aut?ECHO");
        log.step(asked, STEP_WITHIN, headers(client, lane)).await;
    }
}

/// Asks until a connection point has reached the instance and told it what is published; the
/// step's deadline ends it.
async fn connected(client: &Client, lane: Lane) -> anyhow::Result<Proof> {
    let mut asked_before = 0_u32;
    let reply = loop {
        let reply =
            client.call(lane, Ask::new("GET", client.mp("/SMS_MP/.sms_aut?MPLIST"))).await?;
        if reply.status != StatusCode::SERVICE_UNAVAILABLE {
            break reply;
        }
        asked_before += 1;
        sleep(LOOK_AGAIN).await;
    };
    let waited = match asked_before {
        0 => String::new(),
        n => format!(", after {n} times 503"),
    };
    if client.target().membership.is_some() {
        reply.expect(StatusCode::UNAUTHORIZED)?;
        let evidence = format!("published, and asks who is there{waited}");
        return Ok(Proof { answer: reply.line(), evidence });
    }
    reply.expect(StatusCode::OK)?;
    mp_listed(&reply, format!("management point listed{waited}"))
}

async fn token_root(client: &Client, lane: Lane) -> anyhow::Result<Proof> {
    let role = client.target().mp_role;
    let path = format!("/CCM_Proxy_ServerAuth/{role}{}?MPLIST", site::LOCATION);
    let reply = client.call(lane, Ask::new("GET", path)).await?;
    reply.expect(StatusCode::OK)?;
    mp_listed(&reply, "the same list under the other virtual root".into())
}

/// Where it leads is nowhere: a relay that followed it would have no answer to give.
async fn redirect(client: &Client, lane: Lane) -> anyhow::Result<Proof> {
    let reply = client.call(lane, Ask::new("GET", client.mp(site::MOVED))).await?;
    reply.expect(StatusCode::FOUND)?;
    let to = reply.text("location");
    ensure!(to == site::MOVED_TO, "it leads to `{to}`, the site said `{}`", site::MOVED_TO);
    Ok(Proof { answer: reply.line(), evidence: "told to the client, followed by nobody".into() })
}

fn mp_listed(reply: &Reply, evidence: String) -> anyhow::Result<Proof> {
    ensure!(reply.body.starts_with(b"<?xml"), "the answer is not XML");
    ensure!(reply.body.windows(8).any(|w| w == b"<MPList>"), "the answer lists no MP");
    Ok(Proof { answer: reply.line(), evidence })
}

async fn policy(client: &Client, lane: Lane) -> anyhow::Result<Proof> {
    // Escapes, case and empty values: a query belongs to the site and is passed on untouched.
    let query = "PolicyID=%7bAB-cd%7D&v=1.0&empty=&x=a+b%20c";
    let path = client.mp(&format!("{}?{query}", site::POLICY));
    let reply = client.call(lane, Ask::new("GET", path)).await?;
    reply.expect(StatusCode::OK)?;
    let expected = format!("Query=\"{}\"", query.replace('&', "&amp;"));
    let body = String::from_utf8_lossy(&reply.body);
    ensure!(body.contains(&expected), "the query was changed on its way: {body}");
    Ok(Proof { answer: reply.line(), evidence: "query came through unchanged".into() })
}

async fn head(client: &Client, lane: Lane) -> anyhow::Result<Proof> {
    let path = client.mp(&format!("{}?bytes=123456789", site::LARGE_FILE));
    let mut connection = client.open(lane).await?;
    let reply = connection.call(Ask::new("HEAD", path)).await?;
    reply.expect(StatusCode::OK)?;
    let length = reply.text(CONTENT_LENGTH.as_str());
    ensure!(length == "123456789", "Content-Length is `{length}`, expected 123456789");
    ensure!(reply.body.is_empty(), "an answer to HEAD has {} octets of body", reply.body.len());
    // The next request finds the connection in order only if nothing followed the head.
    let next = connection.call(Ask::new("GET", client.mp("/SMS_MP/.sms_aut?MPLIST"))).await?;
    next.expect(StatusCode::OK)?;
    let evidence = "Content-Length 123456789, no body, connection used again";
    Ok(Proof { answer: reply.line(), evidence: evidence.into() })
}

async fn properties(client: &Client, lane: Lane) -> anyhow::Result<Proof> {
    let body = "<?xml version=\"1.0\"?><D:propfind xmlns:D=\"DAV:\"><D:allprop/></D:propfind>";
    let ask = Ask::new("PROPFIND", client.mp(site::LARGE_FILE))
        .header("depth", "1")
        .header(CONTENT_TYPE.as_str(), "text/xml")
        .body(body);
    let reply = client.call(lane, ask).await?;
    reply.expect(StatusCode::MULTI_STATUS)?;
    let href = format!("<D:href>{}</D:href>", site::LARGE_FILE);
    let body = String::from_utf8_lossy(&reply.body);
    ensure!(body.contains(&href), "the multistatus answer does not name {}", site::LARGE_FILE);
    Ok(Proof { answer: reply.line(), evidence: "multistatus XML names the file".into() })
}

async fn headers(client: &Client, lane: Lane) -> anyhow::Result<Proof> {
    let path = client.mp(&format!("{}?ECHO", site::LOCATION));
    // HTTP/2 forbids the connection-specific fields to begin with: RFC 9113, section 8.2.2.
    let hops: &[_] = if lane.version == Version::Http11 { &HOP_BY_HOP } else { &[] };
    let ask = NAMED
        .iter()
        .chain(hops)
        .fold(Ask::new("GET", path), |ask, (name, value)| ask.header(name, *value));
    let reply = client.call(lane, ask).await?;
    reply.expect(StatusCode::OK)?;
    let echoed: Vec<(String, String)> = serde_json::from_slice(&reply.body)?;
    let values = |name: &str| -> Vec<Vec<u8>> {
        let named = echoed.iter().filter(|(echoed, _)| echoed.eq_ignore_ascii_case(name));
        named
            .map(|(_, value)| value.chars().filter_map(|c| u8::try_from(c).ok()).collect())
            .collect()
    };
    for (name, sent) in NAMED {
        let arrived = values(name);
        ensure!(
            arrived == [sent],
            "{name} was sent as `{}` and arrived as {:?}",
            sent.escape_ascii(),
            arrived.iter().map(|value| value.escape_ascii().to_string()).collect::<Vec<_>>()
        );
    }
    // The relay may send such headers of its own towards the site; the client's must be gone.
    for (name, sent) in HOP_BY_HOP.iter().chain(&FORGED) {
        ensure!(!values(name).contains(&sent.to_vec()), "the client's {name} reached the site");
    }
    let hop = HeaderName::from_static(site::SITE_HOP_HEADER);
    ensure!(!reply.headers.contains_key(&hop), "the site's hop-by-hop header {hop} came through");
    let dropped = hops.len() + FORGED.len();
    let evidence = format!(
        "{} named headers equal, {dropped} hop-by-hop or forged dropped, the site's too",
        NAMED.len()
    );
    Ok(Proof { answer: reply.line(), evidence })
}
