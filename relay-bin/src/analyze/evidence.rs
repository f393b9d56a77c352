//! What was seen: who was asked for what, what came, and how long it took.
//!
//! Values without I/O, as probes leave them and judges read them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

use crate::client::fault::Fault;
use crate::client::report::Report;

/// What was asked once, and what came of it.
#[derive(Clone, Debug)]
pub(super) struct Tried<T> {
    pub(super) took: Duration,
    pub(super) came: Result<T, Trouble>,
}

/// What came in place of an answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Trouble {
    pub(super) kind: Kind,
    /// What happened.
    pub(super) told: String,
    /// What to do about it.
    pub(super) next: String,
}

/// What trouble is of.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Kind {
    /// A name without an address.
    Name,
    /// Connections are refused.
    Closed,
    /// Nothing comes back.
    Silent,
    /// The certificate is of an authority that is not trusted.
    Untrusted,
    /// The certificate is another's.
    WrongName,
    /// The certificate is over, or not valid yet.
    NotNow,
    /// Whoever answers has refused the handshake.
    Alert,
    /// No TLS that can be understood.
    NoTls,
    /// What was made broke.
    Broken,
    /// The answer is none of a gateway.
    NotAGateway,
    /// A gateway that serves nobody for now, and says so.
    NotServing,
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        let kind = match &fault {
            Fault::Name { .. } => Kind::Name,
            Fault::Unreachable { .. } => Kind::Closed,
            Fault::Silent { .. } => Kind::Silent,
            Fault::Untrusted { .. } => Kind::Untrusted,
            Fault::WrongName { .. } => Kind::WrongName,
            Fault::NotNow { .. } => Kind::NotNow,
            Fault::Alert { .. } => Kind::Alert,
            Fault::Handshake { .. } => Kind::NoTls,
            _ => Kind::Broken,
        };
        Self { kind, told: fault.to_string(), next: fault.next().to_owned() }
    }
}

/// All that was seen before the channel to management points is tried.
#[derive(Clone, Debug)]
pub(super) struct Evidence {
    /// The service's name, as in the URL.
    pub(super) host: String,
    /// Where it leads.
    pub(super) name: Tried<Vec<SocketAddr>>,
    /// What was found at each of these addresses.
    pub(super) instances: Vec<Instance>,
    /// The ports for links that a connection point's file names.
    pub(super) links: Vec<LinkPort>,
    /// The site that the file is of.
    pub(super) site: Option<String>,
    /// Management points in the file.
    pub(super) management_points: Option<usize>,
    /// Roles that run on this machine and were asked.
    pub(super) roles: Vec<Tried<Role>>,
    /// The version that an administrator expects.
    pub(super) version_expected: Option<u64>,
}

impl Evidence {
    /// The connection point that was asked, if one was and has answered.
    pub(super) fn connection_point(&self) -> Option<&ConnectionPoint> {
        self.roles.iter().find_map(|tried| match &tried.came {
            Ok(Role::ConnectionPoint(point)) => Some(point),
            _ => None,
        })
    }

    /// Instances that have told about themselves, by address.
    pub(super) fn answering(&self) -> impl Iterator<Item = (&Instance, &Metadata)> {
        self.instances.iter().filter_map(|instance| {
            let told = instance.told.as_ref()?.came.as_ref().ok()?;
            Some((instance, told))
        })
    }
}

/// What was found at an address of the service.
#[derive(Clone, Debug)]
pub(super) struct Instance {
    pub(super) address: SocketAddr,
    pub(super) dialled: Tried<()>,
    /// What it says about itself; absent if it took no connection.
    pub(super) told: Option<Tried<Metadata>>,
    /// What it shows in TLS, if that was believed.
    pub(super) certificate: Option<Ends>,
}

impl Instance {
    /// Why it serves nobody for now, if it says so.
    pub(super) fn not_serving(&self) -> Option<&Trouble> {
        let trouble = self.told.as_ref()?.came.as_ref().err()?;
        (trouble.kind == Kind::NotServing).then_some(trouble)
    }
}

/// A certificate or revocation list, and when it ends. Members may be added.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub(super) struct Ends {
    /// What it is, such as `server certificate`.
    pub(super) what: String,
    /// A certificate's subject, or a list's issuer.
    pub(super) name: String,
    /// Who shows it, or its file.
    pub(super) place: String,
    /// RFC 3339, UTC.
    #[serde(rename = "ends_at")]
    pub(super) at: String,
    /// Whole days until then; negative once it is over.
    pub(super) days_left: i64,
    /// Whether that is near for something that lives so long: as the log of a role tells it.
    #[serde(default)]
    pub(super) is_near: bool,
}

/// `ServiceMetadata`, of which members may be added.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub(super) struct Metadata {
    pub(super) service: String,
    pub(super) instance: u64,
    pub(super) software_version: String,
    /// Absent at instances that do not say it yet.
    pub(super) connected: Option<bool>,
    pub(super) sites: Vec<Site>,
}

/// What an instance says of a site.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub(super) struct Site {
    #[serde(rename = "site")]
    pub(super) name: String,
    pub(super) configuration_version: String,
    pub(super) connected: Option<bool>,
    pub(super) management_point: Option<bool>,
}

/// A port for links.
#[derive(Clone, Debug)]
pub(super) struct LinkPort {
    pub(super) instance: u64,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) dialled: Tried<()>,
}

/// What a running role says of itself, as far as it matters here. Members may be added.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "role", rename_all = "kebab-case")]
pub(super) enum Role {
    Gateway(Gateway),
    ConnectionPoint(ConnectionPoint),
}

/// What each method of authentication has found, by method and fault, and how often.
pub(super) type Counts = BTreeMap<String, BTreeMap<String, u64>>;

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Gateway {
    pub(super) instance: u64,
    #[serde(default)]
    pub(super) authentications: Counts,
    /// Links that ended or were refused last; the last one last.
    #[serde(default)]
    pub(super) ended: Vec<Ended>,
    /// What it uses that ends.
    #[serde(default)]
    pub(super) expiry: Vec<Ends>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Ended {
    pub(super) why: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct ConnectionPoint {
    pub(super) name: String,
    pub(super) places: Vec<Place>,
    #[serde(default)]
    pub(super) published: Vec<Published>,
    /// What it uses that ends.
    #[serde(default)]
    pub(super) expiry: Vec<Ends>,
}

/// A place for a link to an instance.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Place {
    pub(super) instance: u64,
    pub(super) phase: String,
    pub(super) why: Option<String>,
    #[serde(default)]
    pub(super) failed: Vec<FailedWay>,
}

/// A way on which a link did not come up.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct FailedWay {
    pub(super) transport: String,
    pub(super) why: String,
}

/// What became of a connection point's settings at an instance.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Published {
    pub(super) instance: u64,
    pub(super) version: Option<u64>,
    pub(super) outcome: String,
    pub(super) why: Option<String>,
}

impl ConnectionPoint {
    /// Whether it has a link to an instance; `None` if it is not to have one.
    pub(super) fn is_linked(&self, instance: u64) -> Option<bool> {
        let mut places = self.places.iter().filter(|place| place.instance == instance).peekable();
        places.peek()?;
        Some(places.any(|place| place.phase == "up"))
    }

    /// Why it has no link to an instance, as far as it knows.
    pub(super) fn why_unlinked(&self, instance: u64) -> Option<String> {
        let place = self.places.iter().find(|it| it.instance == instance && it.phase != "up")?;
        let ways = place.failed.iter().map(|way| format!("{}: {}", way.transport, way.why));
        let ways: Vec<_> = ways.collect();
        if ways.is_empty() { place.why.clone() } else { Some(ways.join("; ")) }
    }

    /// The highest version that it has offered to any instance.
    pub(super) fn version(&self) -> Option<u64> {
        self.published.iter().filter_map(|it| it.version).max()
    }
}

/// What came of asking a management point.
#[derive(Clone, Debug)]
pub(super) struct Channel {
    pub(super) role_id: u64,
    /// Which instance was asked.
    pub(super) address: SocketAddr,
    pub(super) took: Duration,
    pub(super) report: Report,
    /// What that instance's counters say was wrong with the credential, by method, where a gateway
    /// on this machine was asked.
    pub(super) unproven: Vec<(String, String)>,
}

/// With what a management point was asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Shown {
    pub(super) token: bool,
    pub(super) certificate: bool,
}
