//! The shape of a document's JSON text.

use http::header::HeaderName;
use serde::{Deserialize, Serialize};

use crate::auth::{Guid, ParseGuidError};
use crate::policy::{Access, Endpoint, EndpointKind, RequestHeaders};

use super::clients::ClientTrust;
use super::clients_wire::{WireClients, WireMethods};
use super::deadline::Deadline;
use super::document::{DocumentError, SettingsDocument};
use super::tenant::Tenant;

/// The one format there is.
const FORMAT: u64 = 1;

/// Members that may be listed as critical, because they are understood.
const MEMBERS: [&str; 8] =
    ["format", "critical", "site", "version", "endpoints", "tenants", "deadlines", "clients"];

/// What every format begins with; anything else may differ.
#[derive(Deserialize)]
struct Stamp {
    format: u64,
}

#[derive(Deserialize, Serialize)]
struct Document {
    format: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    critical: Vec<String>,
    site: String,
    version: Decimal,
    endpoints: Vec<WireEndpoint>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tenants: Vec<WireTenant>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    deadlines: Vec<WireDeadline>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    clients: Option<WireClients>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct WireEndpoint {
    name: String,
    kind: Kind,
    role_id: Decimal,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    paths: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request_body_bytes_max: Option<Decimal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request_headers: Option<Vec<FieldName>>,
    access: WireAccess,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct WireTenant {
    id: WireGuid,
    application_id: WireGuid,
    resource: String,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct WireDeadline {
    role_id: Decimal,
    backend_answer_milliseconds: Decimal,
}

#[derive(Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
#[derive(Clone)]
pub(super) struct WireGuid(pub(super) Guid);

impl TryFrom<String> for WireGuid {
    type Error = ParseGuidError;

    fn try_from(text: String) -> Result<Self, ParseGuidError> {
        text.parse().map(Self)
    }
}

impl From<WireGuid> for String {
    fn from(guid: WireGuid) -> Self {
        guid.0.to_string()
    }
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    ManagementPoint,
    SoftwareUpdatePoint,
    Content,
    TokenService,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum WireAccess {
    Anonymous,
    Clients(WireMethods),
}

/// A number of 64 bits as decimal text.
#[derive(Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
#[derive(Clone)]
pub(super) struct Decimal(pub(super) u64);

impl TryFrom<String> for Decimal {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        // `parse` alone would let a leading `+` and any number of zeros through.
        let plain = text.len() <= 20 && text.bytes().all(|octet| octet.is_ascii_digit());
        let number = text.parse().ok().filter(|_| plain);
        number.map(Self).ok_or("expected a number of 64 bits as decimal text")
    }
}

impl From<Decimal> for String {
    fn from(number: Decimal) -> Self {
        number.0.to_string()
    }
}

/// The name of a header field, in lower case.
#[derive(Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
#[derive(Clone)]
struct FieldName(HeaderName);

impl TryFrom<String> for FieldName {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let name = HeaderName::from_lowercase(text.as_bytes());
        name.map(Self).map_err(|_| "expected the name of a header field in lower case")
    }
}

impl From<FieldName> for String {
    fn from(name: FieldName) -> Self {
        name.0.as_str().to_owned()
    }
}

/// Writes `document`, whatever it holds.
pub(super) fn write(document: &SettingsDocument) -> Vec<u8> {
    let written = Document {
        format: FORMAT,
        critical: Vec::new(),
        site: document.site.clone(),
        version: Decimal(document.version),
        endpoints: document.endpoints.iter().map(wire_endpoint).collect(),
        tenants: document.tenants.iter().map(wire_tenant).collect(),
        deadlines: document.deadlines.iter().map(wire_deadline).collect(),
        clients: document.clients.as_ref().map(WireClients::from),
    };
    serde_json::to_vec(&written).expect("texts, lists and numbers always have a JSON form")
}

/// Reads the shape of a document; what it says is not judged yet.
pub(super) fn read(octets: &[u8]) -> Result<SettingsDocument, DocumentError> {
    let Stamp { format } = serde_json::from_slice(octets).map_err(|error| told(&error))?;
    if format != FORMAT {
        return Err(DocumentError::Format { format });
    }
    let read: Document = serde_json::from_slice(octets).map_err(|error| told(&error))?;
    if let Some(member) = read.critical.iter().find(|name| !MEMBERS.contains(&name.as_str())) {
        return Err(DocumentError::UnknownCritical { member: member.chars().take(64).collect() });
    }
    let endpoints = read.endpoints.into_iter().map(endpoint).collect();
    let tenants = read.tenants.into_iter().map(tenant).collect();
    let deadlines = read.deadlines.into_iter().map(deadline).collect();
    let (site, version) = (read.site, read.version.0);
    let clients = read.clients.map(ClientTrust::from);
    Ok(SettingsDocument { site, version, endpoints, tenants, deadlines, clients })
}

fn told(error: &serde_json::Error) -> DocumentError {
    if error.is_eof() {
        return DocumentError::Truncated { line: error.line(), column: error.column() };
    }
    DocumentError::Malformed {
        line: error.line(),
        column: error.column(),
        why: without_place(error),
    }
}

/// What `serde_json` says, without the place at its end, which is told in fields.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.as_str(), |(why, _)| why).to_owned()
}

fn wire_endpoint(endpoint: &Endpoint) -> WireEndpoint {
    WireEndpoint {
        name: endpoint.name.clone(),
        kind: match endpoint.kind {
            EndpointKind::ManagementPoint => Kind::ManagementPoint,
            EndpointKind::SoftwareUpdatePoint => Kind::SoftwareUpdatePoint,
            EndpointKind::Content => Kind::Content,
            EndpointKind::TokenService => Kind::TokenService,
        },
        role_id: Decimal(endpoint.role_id),
        paths: endpoint.paths.clone(),
        request_body_bytes_max: endpoint.request_body_bytes_max.map(Decimal),
        request_headers: match &endpoint.request_headers {
            RequestHeaders::Open => None,
            RequestHeaders::Listed(more) => Some(more.iter().cloned().map(FieldName).collect()),
        },
        access: match endpoint.access {
            Access::Anonymous => WireAccess::Anonymous,
            Access::Clients(methods) => WireAccess::Clients(methods.into()),
        },
    }
}

fn wire_tenant(tenant: &Tenant) -> WireTenant {
    WireTenant {
        id: WireGuid(tenant.id),
        application_id: WireGuid(tenant.application_id),
        resource: tenant.resource.clone(),
    }
}

fn wire_deadline(deadline: &Deadline) -> WireDeadline {
    WireDeadline {
        role_id: Decimal(deadline.role_id),
        backend_answer_milliseconds: Decimal(deadline.backend_answer_milliseconds),
    }
}

fn deadline(written: WireDeadline) -> Deadline {
    let WireDeadline { role_id, backend_answer_milliseconds } = written;
    Deadline { role_id: role_id.0, backend_answer_milliseconds: backend_answer_milliseconds.0 }
}

fn tenant(written: WireTenant) -> Tenant {
    let WireTenant { id, application_id, resource } = written;
    Tenant { id: id.0, application_id: application_id.0, resource }
}

fn endpoint(written: WireEndpoint) -> Endpoint {
    Endpoint {
        name: written.name,
        kind: match written.kind {
            Kind::ManagementPoint => EndpointKind::ManagementPoint,
            Kind::SoftwareUpdatePoint => EndpointKind::SoftwareUpdatePoint,
            Kind::Content => EndpointKind::Content,
            Kind::TokenService => EndpointKind::TokenService,
        },
        role_id: written.role_id.0,
        paths: written.paths,
        request_body_bytes_max: written.request_body_bytes_max.map(|octets| octets.0),
        request_headers: written.request_headers.map_or(RequestHeaders::Open, |more| {
            RequestHeaders::Listed(more.into_iter().map(|name| name.0).collect())
        }),
        access: match written.access {
            WireAccess::Anonymous => Access::Anonymous,
            WireAccess::Clients(methods) => Access::Clients(methods.into()),
        },
    }
}
