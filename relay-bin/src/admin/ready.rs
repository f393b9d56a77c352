//! Whether a role should be sent requests, and why not. Pure: a status in, reasons out.
//!
//! What it says is told to whoever asks, a page in a browser too: its texts are fixed and name
//! nobody.

use relay_core::connection_point::ConnectionPointStatus;
use relay_core::gateway::{GatewayStatus, Halt, Pressure, SettingsSnapshot};
use serde::{Deserialize, Serialize};

/// Whether a role is ready, as JSON.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Readiness {
    pub(super) ready: bool,
    /// Why it is not.
    pub(super) reasons: Vec<String>,
}

/// Why a role should not be sent requests now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unready {
    /// It stops.
    Draining,
    /// A gateway has no link that takes requests.
    NoLink,
    /// No site has told a gateway what it publishes.
    NoSettings,
    /// An administrator has stopped a gateway's service.
    Stopped,
    /// A gateway has sent as much as it may.
    EgressStopped,
    /// A gateway refuses requests because of its memory.
    ShortOfMemory,
    /// A connection point has no link that takes requests.
    NoInstance,
}

impl Unready {
    /// One line, for people.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Draining => "it drains, and takes no new requests",
            Self::NoLink => "no link is up: look at the log of the connection points",
            Self::NoSettings => "no settings were told: requests are refused until a link tells",
            Self::Stopped => "an administrator has stopped it: `relay service start`",
            Self::EgressStopped => "it has sent as much as it may in 14 days: see [egress]",
            Self::ShortOfMemory => "memory is short: new requests are refused",
            Self::NoInstance => "no gateway instance is reached: `relay status` says why",
        }
    }
}

/// Why a gateway instance is not ready.
pub(super) fn gateway(status: &GatewayStatus, settings: &SettingsSnapshot) -> Vec<Unready> {
    let is_up = status.links.iter().any(|link| !link.is_draining);
    let is_told = settings.sites.iter().any(|site| site.applied.is_some());
    let memory = status.memory.as_ref();
    let is_calm = memory.is_none_or(|memory| memory.pressure == Pressure::Calm);
    which([
        (status.is_draining, Unready::Draining),
        (!is_up, Unready::NoLink),
        (!is_told, Unready::NoSettings),
        (status.halts.contains(&Halt::Administrator), Unready::Stopped),
        (status.halts.contains(&Halt::Egress), Unready::EgressStopped),
        (!is_calm, Unready::ShortOfMemory),
    ])
}

/// Why a connection point is not ready.
pub(super) fn connection_point(status: &ConnectionPointStatus) -> Vec<Unready> {
    let mut links = status.places.iter().flat_map(|place| &place.links);
    let is_up = links.any(|link| !link.is_draining);
    which([(status.is_draining, Unready::Draining), (!is_up, Unready::NoInstance)])
}

/// One line for people: how many links take requests, and what is missing.
pub(super) fn line(links: usize, reasons: &[Unready]) -> String {
    let links = match links {
        1 => "1 link up".to_owned(),
        count => format!("{count} links up"),
    };
    let reasons = reasons.iter().map(|why| why.text().to_owned());
    [links].into_iter().chain(reasons).collect::<Vec<_>>().join("; ")
}

fn which<const N: usize>(all: [(bool, Unready); N]) -> Vec<Unready> {
    all.into_iter().filter_map(|(holds, why)| holds.then_some(why)).collect()
}

impl Readiness {
    pub(super) fn of(reasons: &[Unready]) -> Self {
        let reasons: Vec<_> = reasons.iter().map(|why| why.text().to_owned()).collect();
        Self { ready: reasons.is_empty(), reasons }
    }

    /// A line for each reason.
    pub(super) fn text(&self) -> String {
        if self.ready {
            return "ready\n".to_owned();
        }
        self.reasons.join("\n") + "\n"
    }
}
