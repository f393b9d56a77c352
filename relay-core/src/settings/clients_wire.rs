//! The shape of `clients` in a document's JSON text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::auth::{Issuer, Method, Methods, MethodsError, Strictness};

use super::clients::{
    BarredClient, BarredClientError, ClientTrust, KeySource, ListSource, PublishedCertificates,
    PublishedSigners, Revocation, TenantTrust,
};
use super::wire::{Decimal, WireGuid};

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WireClients {
    methods: WireMethods,
    strict: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificates: Option<WireCertificates>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tenants: Vec<WireTenantTrust>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tokens: Option<WireSigners>,
    // A reader that does not know of it refuses the document: it would let them in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    barred: Vec<WireBarred>,
}

/// `METHOD:NAME`.
#[derive(Clone, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
struct WireBarred(BarredClient);

impl TryFrom<String> for WireBarred {
    type Error = BarredClientError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

impl From<WireBarred> for String {
    fn from(barred: WireBarred) -> Self {
        barred.0.to_string()
    }
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct WireCertificates {
    roots: Vec<Octets>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    intermediates: Vec<Octets>,
    revocation: WireRevocation,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum WireRevocation {
    Off,
    Lists(Vec<WireList>),
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum WireList {
    Der(Octets),
    Url(String),
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct WireTenantTrust {
    id: WireGuid,
    enabled: bool,
    issuers: Vec<WireIssuer>,
    audiences: Vec<String>,
    keys: WireKeys,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum WireKeys {
    Published(Octets),
    Authority(String),
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum WireIssuer {
    V1,
    V2,
    Government,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct WireSigners {
    tenant: WireGuid,
    revision: Decimal,
    signers: Vec<Octets>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    blocked: Vec<WireGuid>,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum WireMethod {
    Entra,
    Certificate,
    SiteToken,
}

/// A list of methods.
#[derive(Clone, Deserialize, Serialize)]
#[serde(try_from = "Vec<WireMethod>", into = "Vec<WireMethod>")]
pub(super) struct WireMethods(Methods);

impl TryFrom<Vec<WireMethod>> for WireMethods {
    type Error = MethodsError;

    fn try_from(listed: Vec<WireMethod>) -> Result<Self, MethodsError> {
        let order: Vec<_> = listed
            .into_iter()
            .map(|method| match method {
                WireMethod::Entra => Method::Entra,
                WireMethod::Certificate => Method::Certificate,
                WireMethod::SiteToken => Method::SiteToken,
            })
            .collect();
        Methods::new(&order).map(Self)
    }
}

impl From<WireMethods> for Vec<WireMethod> {
    fn from(methods: WireMethods) -> Self {
        let wire = |method| match method {
            Method::Entra => WireMethod::Entra,
            Method::Certificate => WireMethod::Certificate,
            Method::SiteToken => WireMethod::SiteToken,
        };
        methods.0.iter().map(wire).collect()
    }
}

impl From<Methods> for WireMethods {
    fn from(methods: Methods) -> Self {
        Self(methods)
    }
}

impl From<WireMethods> for Methods {
    fn from(methods: WireMethods) -> Self {
        methods.0
    }
}

/// Octets in base64, with padding: there is one way to write each.
#[derive(Clone, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
struct Octets(Bytes);

impl TryFrom<String> for Octets {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let octets = STANDARD.decode(text);
        octets.map(|it| Self(it.into())).map_err(|_| "expected base64 with padding")
    }
}

impl From<Octets> for String {
    fn from(octets: Octets) -> Self {
        STANDARD.encode(octets.0)
    }
}

fn wire_octets(list: &[Bytes]) -> Vec<Octets> {
    list.iter().cloned().map(Octets).collect()
}

fn octets(list: Vec<Octets>) -> Vec<Bytes> {
    list.into_iter().map(|it| it.0).collect()
}

impl From<&ClientTrust> for WireClients {
    fn from(clients: &ClientTrust) -> Self {
        Self {
            methods: clients.methods.into(),
            strict: clients.strictness == Strictness::Refuse,
            certificates: clients.certificates.as_ref().map(WireCertificates::from),
            tenants: clients.tenants.iter().map(WireTenantTrust::from).collect(),
            tokens: clients.tokens.as_ref().map(WireSigners::from),
            barred: clients.barred.iter().cloned().map(WireBarred).collect(),
        }
    }
}

impl From<WireClients> for ClientTrust {
    fn from(wire: WireClients) -> Self {
        Self {
            methods: wire.methods.into(),
            strictness: if wire.strict { Strictness::Refuse } else { Strictness::FallThrough },
            certificates: wire.certificates.map(PublishedCertificates::from),
            tenants: wire.tenants.into_iter().map(TenantTrust::from).collect(),
            tokens: wire.tokens.map(PublishedSigners::from),
            barred: wire.barred.into_iter().map(|it| it.0).collect(),
        }
    }
}

impl From<&PublishedCertificates> for WireCertificates {
    fn from(certificates: &PublishedCertificates) -> Self {
        let list = |list: &ListSource| match list {
            ListSource::Der(der) => WireList::Der(Octets(der.clone())),
            ListSource::Url(url) => WireList::Url(url.clone()),
        };
        Self {
            roots: wire_octets(&certificates.roots),
            intermediates: wire_octets(&certificates.intermediates),
            revocation: match &certificates.revocation {
                Revocation::Off => WireRevocation::Off,
                Revocation::On(lists) => WireRevocation::Lists(lists.iter().map(list).collect()),
            },
        }
    }
}

impl From<WireCertificates> for PublishedCertificates {
    fn from(wire: WireCertificates) -> Self {
        let list = |list| match list {
            WireList::Der(der) => ListSource::Der(der.0),
            WireList::Url(url) => ListSource::Url(url),
        };
        Self {
            roots: octets(wire.roots),
            intermediates: octets(wire.intermediates),
            revocation: match wire.revocation {
                WireRevocation::Off => Revocation::Off,
                WireRevocation::Lists(lists) => {
                    Revocation::On(lists.into_iter().map(list).collect())
                }
            },
        }
    }
}

impl From<&TenantTrust> for WireTenantTrust {
    fn from(tenant: &TenantTrust) -> Self {
        let issuer = |issuer: &Issuer| match issuer {
            Issuer::V1 => WireIssuer::V1,
            Issuer::V2 => WireIssuer::V2,
            Issuer::Government => WireIssuer::Government,
        };
        Self {
            id: WireGuid(tenant.id),
            enabled: tenant.is_enabled,
            issuers: tenant.issuers.iter().map(issuer).collect(),
            audiences: tenant.audiences.clone(),
            keys: match &tenant.keys {
                KeySource::Published(set) => WireKeys::Published(Octets(set.clone())),
                KeySource::Authority(url) => WireKeys::Authority(url.clone()),
            },
        }
    }
}

impl From<WireTenantTrust> for TenantTrust {
    fn from(wire: WireTenantTrust) -> Self {
        let issuer = |issuer| match issuer {
            WireIssuer::V1 => Issuer::V1,
            WireIssuer::V2 => Issuer::V2,
            WireIssuer::Government => Issuer::Government,
        };
        Self {
            id: wire.id.0,
            is_enabled: wire.enabled,
            issuers: wire.issuers.into_iter().map(issuer).collect(),
            audiences: wire.audiences,
            keys: match wire.keys {
                WireKeys::Published(set) => KeySource::Published(set.0),
                WireKeys::Authority(url) => KeySource::Authority(url),
            },
        }
    }
}

impl From<&PublishedSigners> for WireSigners {
    fn from(signers: &PublishedSigners) -> Self {
        Self {
            tenant: WireGuid(signers.tenant),
            revision: Decimal(signers.revision),
            signers: wire_octets(&signers.certificates),
            blocked: signers.blocked.iter().copied().map(WireGuid).collect(),
        }
    }
}

impl From<WireSigners> for PublishedSigners {
    fn from(wire: WireSigners) -> Self {
        Self {
            tenant: wire.tenant.0,
            revision: wire.revision.0,
            certificates: octets(wire.signers),
            blocked: wire.blocked.into_iter().map(|it| it.0).collect(),
        }
    }
}
