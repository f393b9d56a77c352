//! The built-in management point: every verb that clients use, on the paths they use.

use flate2::Compression;
use http::header::{CONNECTION, CONTENT_TYPE, LOCATION as LOCATION_HEADER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use tokio::sync::watch;

use super::uploads::Uploads;
use super::{SiteBody, download, empty, full};
use crate::demo::message::{self, Message};

/// Location and identity of the management point, and the header echo.
pub(crate) const LOCATION: &str = "/SMS_MP/.sms_aut";
/// Client notification: an answer that is held back, as the real one is for hours.
pub(crate) const NOTIFICATION: &str = "/BGB";
/// Policy.
pub(crate) const POLICY: &str = "/SMS_MP/.sms_pol";
/// Client messages.
pub(crate) const MESSAGES: &str = "/ccm_system/request";
/// The folder of uploads.
pub(crate) const INCOMING: &str = "/ccm_incoming/";
/// The large file.
pub(crate) const LARGE_FILE: &str = "/CCM_Client/large.bin";

/// Has moved elsewhere: its answer names another host.
pub(crate) const MOVED: &str = "/SMS_MP/.sms_moved";
/// Where to. RFC 2606: nobody has this name.
pub(crate) const MOVED_TO: &str = "http://mp02.invalid/SMS_MP/.sms_moved?once=more";

/// A header that the echo names in its own `Connection`, so that it must not reach a client.
pub(crate) const SITE_HOP_HEADER: &str = "x-site-hop";

#[derive(Debug, Default)]
pub(super) struct ManagementPoint {
    uploads: Uploads,
    /// Notification requests that have arrived so far.
    waiting: watch::Sender<u64>,
}

impl ManagementPoint {
    /// Answers one request.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<SiteBody> {
        let (head, body) = request.into_parts();
        let path = head.uri.path();
        let query = head.uri.query();
        let reading = matches!(head.method, Method::GET | Method::HEAD);
        match (head.method.as_str(), path) {
            ("PROPFIND", _) => properties(path),
            ("CCM_POST", MESSAGES) => client_message(body).await,
            ("BITS_POST", _) if path.starts_with(INCOMING) => {
                self.uploads.answer(path, &head.headers, body).await
            }
            (_, LOCATION) if reading && query == Some("ECHO") => echo(&head.headers),
            (_, LOCATION) if reading => xml(StatusCode::OK, location()),
            (_, MOVED) if reading => moved(),
            (_, POLICY) if reading => xml(StatusCode::OK, policy(query)),
            ("GET", NOTIFICATION) => self.notification(query).await,
            (_, LARGE_FILE) if reading => download::answer(query, &head.headers),
            (_, _) if reading && path.starts_with(INCOMING) => self.upload_status(path),
            _ => empty(StatusCode::NOT_FOUND),
        }
    }

    /// Holds the answer back until as many requests are here as the query `meet=` says, in groups
    /// of that size. The server's deadline for answers ends a wait that comes to nothing.
    async fn notification(&self, query: Option<&str>) -> Response<SiteBody> {
        let meet = query.and_then(|query| query.strip_prefix("meet="));
        let group: u64 = meet.and_then(|number| number.parse().ok()).unwrap_or(1).max(1);
        let mut arrivals = self.waiting.subscribe();
        let mut arrival = 0;
        self.waiting.send_modify(|arrived| {
            *arrived += 1;
            arrival = *arrived;
        });
        let complete = arrival.div_ceil(group).saturating_mul(group);
        let all_here = arrivals.wait_for(|arrived| complete <= *arrived).await.is_ok();
        if all_here { full(arrival.to_string()) } else { empty(StatusCode::SERVICE_UNAVAILABLE) }
    }

    fn upload_status(&self, path: &str) -> Response<SiteBody> {
        let Some(finished) = self.uploads.finished(path) else {
            return empty(StatusCode::NOT_FOUND);
        };
        json(&finished)
    }
}

fn moved() -> Response<SiteBody> {
    let mut answer = empty(StatusCode::FOUND);
    answer.headers_mut().insert(LOCATION_HEADER, HeaderValue::from_static(MOVED_TO));
    answer
}

fn xml(status: StatusCode, text: String) -> Response<SiteBody> {
    let mut answer = full(text);
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/xml; charset=utf-8"));
    answer
}

fn json(value: &impl serde::Serialize) -> Response<SiteBody> {
    let Ok(text) = serde_json::to_vec(value) else {
        return empty(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let mut answer = full(text);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

fn location() -> String {
    "<?xml version=\"1.0\"?><MPList><MP Name=\"MP.INTERNAL.EXAMPLE\" FQDN=\"mp.internal.example\">\
     <Version>9128</Version><Capabilities SchemaVersion=\"1.0\"/></MP></MPList>"
        .to_owned()
}

/// A policy that repeats its query, so that each answer can be matched to its request.
fn policy(query: Option<&str>) -> String {
    let query = query.unwrap_or_default();
    let query = query.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
    format!("<?xml version=\"1.0\"?><Policy Query=\"{query}\"/>")
}

/// Source: RFC 4918, section 9.1.
fn properties(path: &str) -> Response<SiteBody> {
    let size = download::DEFAULT_BYTES;
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><D:multistatus xmlns:D=\"DAV:\"><D:response>\
         <D:href>{}</D:href><D:propstat><D:prop><D:getcontentlength>{size}</D:getcontentlength>\
         <D:resourcetype/></D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat>\
         </D:response></D:multistatus>",
        path.replace('&', "&amp;").replace('<', "&lt;"),
    );
    xml(StatusCode::MULTI_STATUS, text)
}

/// The request's header fields in their order as JSON pairs; each octet of a value becomes the
/// character of the same number, so that no octet is lost. Its own hop-by-hop fields test the
/// relay.
fn echo(headers: &HeaderMap) -> Response<SiteBody> {
    let value = |value: &HeaderValue| value.as_bytes().iter().copied().map(char::from).collect();
    let fields: Vec<(&str, String)> = headers.iter().map(|(n, v)| (n.as_str(), value(v))).collect();
    let mut answer = json(&fields);
    let hop = HeaderName::from_static(SITE_HOP_HEADER);
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static(SITE_HOP_HEADER));
    answer.headers_mut().insert(hop, HeaderValue::from_static("must not pass"));
    answer.headers_mut().insert("keep-alive", HeaderValue::from_static("timeout=75"));
    answer
}

/// Decodes a client message and answers with the same content, encoded afresh.
async fn client_message(body: Incoming) -> Response<SiteBody> {
    let Ok(body) = Limited::new(body, message::ENCODED_BYTES_MAX).collect().await else {
        return empty(StatusCode::PAYLOAD_TOO_LARGE);
    };
    let decoded = match Message::decode(&body.to_bytes()) {
        Ok(decoded) => decoded,
        Err(error) => {
            let mut answer = full(error.to_string());
            *answer.status_mut() = StatusCode::BAD_REQUEST;
            return answer;
        }
    };
    let mut answer = full(decoded.encode(Compression::best()));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(message::CONTENT_TYPE));
    answer
}
