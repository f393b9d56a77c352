//! Steps that send a message and compare the answer: `CCM_POST` to the management point, SOAP to
//! the software update point.

use anyhow::ensure;
use flate2::Compression;
use http::StatusCode;
use http::header::CONTENT_TYPE;

use super::STEP_WITHIN;
use super::client::{Ask, Client, Lane};
use super::report::{Asked, Log, Proof};
use crate::demo::material;
use crate::demo::message::{self, Message};
use crate::demo::site;

/// Octets of the payload that do not deflate; the message is then of the usual size of a few kB.
const PAYLOAD_BYTES: u64 = 4_500;

pub(super) async fn run(client: &Client, log: &mut Log<'_>) {
    for lane in [client.lane(0), client.lane(1)] {
        let asked = Asked::on(lane, "message", "CCM_POST ccm_system/request");
        log.step(asked, STEP_WITHIN, client_message(client, lane)).await;
    }
    for lane in [client.lane(2), client.lane(3)] {
        let asked = Asked::on(lane, "update", "POST ClientWebService/client.asmx");
        log.step(asked, STEP_WITHIN, soap(client, lane)).await;
    }
}

async fn client_message(client: &Client, lane: Lane) -> anyhow::Result<Proof> {
    // Text outside ASCII and outside the basic plane, and U+0A0D, whose octets are CR and LF.
    let sent = Message {
        xml:
            "<Msg SchemaVersion=\"1.1\"><Body Type=\"ByteRange\" Note=\"\u{fc} \u{20ac} \u{1d11e} \
              \u{a0d}\"/></Msg>\0"
                .into(),
        payload: [material::octets(0, PAYLOAD_BYTES).as_ref(), &[b'='; 1_000]].concat(),
    };
    let body = sent.encode(Compression::fast());
    let octets = body.len();
    let ask = Ask::new("CCM_POST", client.mp(site::MESSAGES))
        .header(CONTENT_TYPE.as_str(), message::CONTENT_TYPE)
        .body(body);
    let reply = client.call(lane, ask).await?;
    reply.expect(StatusCode::OK)?;
    let kind = reply.text(CONTENT_TYPE.as_str());
    ensure!(kind == message::CONTENT_TYPE, "the answer's Content-Type became `{kind}`");
    let returned = Message::decode(&reply.body)?;
    ensure!(returned == sent, "the message that came back is not the message that was sent");
    let evidence =
        format!("UTF-16 and zlib parts equal, {octets} B there, {} B back", reply.body.len());
    Ok(Proof { answer: reply.line(), evidence })
}

async fn soap(client: &Client, lane: Lane) -> anyhow::Result<Proof> {
    let namespace = site::SOAP_NAMESPACE;
    let body = site::soap_envelope(&format!(
        "<GetConfig xmlns=\"{namespace}\"><protocolVersion>1.8</protocolVersion></GetConfig>"
    ));
    let ask = Ask::new("POST", client.sup(site::SOAP_PATH))
        .header(CONTENT_TYPE.as_str(), "text/xml; charset=utf-8")
        .header("soapaction", format!("\"{namespace}/GetConfig\""))
        .body(body);
    let reply = client.call(lane, ask).await?;
    reply.expect(StatusCode::OK)?;
    let body = String::from_utf8_lossy(&reply.body);
    let answered = body.contains("<GetConfigResponse") && body.contains(">1.8</ProtocolVersion>");
    ensure!(answered, "not the answer to GetConfig: {body}");
    Ok(Proof { answer: reply.line(), evidence: "GetConfigResponse in a SOAP envelope".into() })
}
