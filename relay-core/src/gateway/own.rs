//! What an instance answers by itself: about itself, and about tenants that were told to it.
//!
//! The original's formats are not public. Both answers are JSON of our own choice:
//!
//! ```json
//! {"service": "cmg.example", "instance": 1, "software_version": "0.1.0", "connected": true,
//!  "sites": [{"site": "default", "configuration_version": "1767225600000",
//!             "connected": true, "management_point": true}]}
//!
//! {"tenant_id": "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9",
//!  "application_id": "5d2f7a90-0c4e-4b7e-9a53-2f1c66a0b1d4",
//!  "resource": "https://ConfigMgrService"}
//! ```
//!
//! `sites` is empty while nobody has told the instance anything. Versions are decimal text, as in
//! the settings document. `connected`: a link takes requests, of any connection point, or of one in
//! that site. `management_point`: the site publishes one. Members may be added; readers pass over
//! what they do not know.
//!
//! Strangers may ask, so of links and endpoints it says only whether there are any (our choice):
//! what they find out by any request, from its reason. How many there are, of which connection
//! points and where they lead, an administrator is told.

use std::sync::Arc;

use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Response};
use serde_json::{Value, json};

use crate::auth::Guid;
use crate::exchange::MessageId;
use crate::policy::{Endpoint, EndpointKind};
use crate::settings::{Settings, SettingsDocument};
use crate::transport::Instance;

use super::answer::{self, AnswerBody};
use super::failure::Failure;
use super::registry::Registry;

/// Who answers.
#[derive(Debug)]
pub(super) struct Answerer {
    pub(super) service: String,
    pub(super) instance: Instance,
}

impl Answerer {
    /// What this is, which settings hold, and whether anybody is connected.
    pub(super) fn service_metadata(&self, settings: &Settings, links: &Registry) -> Value {
        let site = |document: &Arc<SettingsDocument>| {
            json!({
                "site": document.site,
                "configuration_version": document.version.to_string(),
                "connected": links.has_open(&document.site),
                "management_point": document.endpoints.iter().any(is_open_management_point),
            })
        };
        json!({
            "service": self.service,
            "instance": self.instance.number(),
            "software_version": env!("CARGO_PKG_VERSION"),
            "connected": links.all().iter().any(|entry| entry.link.is_open()),
            "sites": settings.documents().iter().map(site).collect::<Vec<_>>(),
        })
    }
}

/// Whether an endpoint is a management point of which anything is published.
fn is_open_management_point(endpoint: &Endpoint) -> bool {
    let is_empty = endpoint.paths.as_ref().is_some_and(Vec::is_empty);
    endpoint.kind == EndpointKind::ManagementPoint && !is_empty
}

/// What is published about a tenant.
pub(super) fn tenant_info(settings: &Settings, tenant: Option<&str>) -> Result<Value, Failure> {
    let known = tenant_id(tenant).and_then(|id| settings.tenant(id));
    let known = known.ok_or(Failure::UnknownTenant)?;
    Ok(json!({
        "tenant_id": known.id.to_string(),
        "application_id": known.application_id.to_string(),
        "resource": known.resource,
    }))
}

/// The tenant that a query names, if it names one.
pub(super) fn tenant_id(tenant: Option<&str>) -> Option<Guid> {
    tenant?.parse().ok()
}

/// The answer that says `value`, to HEAD as to GET but for the body.
pub(super) fn answer<B>(
    value: &Value,
    message_id: MessageId,
    is_head: bool,
) -> Response<AnswerBody<B>> {
    let text = value.to_string();
    let length = text.len();
    let body = if is_head { AnswerBody::none() } else { AnswerBody::text(text) };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    // Whoever asks wants to know what holds now.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer::mark(&mut response, message_id, None);
    response
}
