//! How many descriptors the process may have, and what of them clients may take.

use relay_core::config::LoadedConnectionPoint;
use relay_core::connection_point::ConnectionPointLimits;
use relay_core::gateway::GatewayLimits;

/// Percent of the descriptors that clients' connections may take. The rest is for links, for peers
/// that may become links, and for the files that are read again while the role runs.
const CLIENTS_PERCENT: u64 = 45;

/// More descriptors than anything here is asked to hold, and no more than kernels give.
const PLENTY: u64 = 1 << 20;

/// Has a gateway's process have as many descriptors as it may, and no more clients than they last
/// for.
pub(super) fn fit_gateway(limits: &mut GatewayLimits) {
    let Some(descriptors) = raise() else { return };
    let asked = limits.client_connections_max;
    let Some(few) = TooFew::judge(asked, descriptors) else { return };
    limits.client_connections_max = few.room;
    let (room, needed) = (few.room, few.needed);
    tracing::warn!(
        "client_connections_max is {asked}, but {descriptors} descriptors leave room for {room} \
         ({CLIENTS_PERCENT} %): no more are taken; set LimitNOFILE={needed} (ulimit -n), or \
         client_connections_max = {room}"
    );
}

/// Has a connection point's process have as many descriptors as it may, and says if backends could
/// use up more than it can spare. What is asked of them is bounded by the streams of its links: one
/// backend more or less busy than others should not have its share cut for them.
pub(super) fn fit_connection_point(loaded: &LoadedConnectionPoint) {
    let Some(descriptors) = raise() else { return };
    let asked = backend_connections(loaded);
    let Some(few) = TooFew::judge(asked, descriptors) else { return };
    let (room, needed) = (few.room, few.needed);
    tracing::warn!(
        "backends may have {asked} connections in all, but {descriptors} descriptors leave room \
         for {room} ({CLIENTS_PERCENT} %); beyond them backends cannot be reached: set \
         LimitNOFILE={needed} (ulimit -n), or lower backend_connections_max"
    );
}

/// Connections that all backends together may have.
fn backend_connections(loaded: &LoadedConnectionPoint) -> usize {
    let ConnectionPointLimits { backend_connections_max: of_each, .. } = loaded.config.limits;
    let of_endpoint = |backend: &relay_core::connection_point::BackendConfig| {
        // One within the process takes none.
        let places = if backend.local_service().is_some() { 0 } else { backend.urls.len() };
        backend.limits.connections_max.unwrap_or(of_each).saturating_mul(places)
    };
    let endpoints = loaded.config.endpoints.iter();
    endpoints.map(|it| of_endpoint(&it.backend)).fold(0, usize::saturating_add)
}

/// That descriptors do not last for all connections.
#[derive(Debug, Eq, PartialEq)]
struct TooFew {
    /// Connections for which they do.
    room: usize,
    /// Descriptors that would.
    needed: u64,
}

impl TooFew {
    /// Judges `asked` connections; `None` if `descriptors` last for them. There is always room for
    /// one.
    fn judge(asked: usize, descriptors: u64) -> Option<Self> {
        let room = u128::from(descriptors) * u128::from(CLIENTS_PERCENT) / 100;
        let room = usize::try_from(room).unwrap_or(usize::MAX).max(1);
        let needed = (asked as u128 * 100).div_ceil(CLIENTS_PERCENT.into());
        let needed = u64::try_from(needed).unwrap_or(u64::MAX);
        (asked > room).then_some(Self { room, needed })
    }
}

/// Raises the number of descriptors to what this account may have, and returns it. `None` if there
/// is no end to them.
#[cfg(unix)]
fn raise() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raise_to = |current| {
        setrlimit(Resource::Nofile, Rlimit { current, maximum: limit.maximum }).map(|()| current)
    };
    // Some kernels let an account have more than they give.
    let fewer = Some(limit.maximum.map_or(PLENTY, |maximum| maximum.min(PLENTY)));
    match raise_to(limit.maximum).or_else(|_| raise_to(fewer)) {
        Ok(raised) => raised,
        Err(error) => {
            tracing::debug!(%error, "the limit of descriptors stays as it is");
            limit.current
        }
    }
}

#[cfg(not(unix))]
fn raise() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_have_45_percent_of_the_descriptors_and_whoever_asks_for_more_is_told_what_it_takes()
    {
        for (descriptors, asked, room) in [
            (1000, 449, None),
            (1000, 450, None),
            (1000, 451, Some((450, 1003))),
            (1000, 20_000, Some((450, 44_445))),
            (44_444, 20_000, Some((19_999, 44_445))),
            (44_445, 20_000, None),
            (1 << 20, 20_000, None),
            (0, 1, None),
            (0, 2, Some((1, 5))),
            (u64::MAX, usize::MAX, Some((8_301_034_833_169_298_226, u64::MAX))),
        ] {
            let few = room.map(|(room, needed)| TooFew { room, needed });
            assert_eq!(TooFew::judge(asked, descriptors), few, "{asked} of {descriptors}");
        }
    }

    #[test]
    fn as_many_descriptors_as_are_needed_are_enough() {
        for asked in (1..10_000).chain([19_999, 20_000, 1_000_000]) {
            let few = TooFew::judge(asked, 0).filter(|_| asked > 1);
            let Some(few) = few else { continue };
            assert_eq!(TooFew::judge(asked, few.needed), None, "{asked}");
            assert!(TooFew::judge(asked, few.needed - 1).is_some(), "{asked}");
        }
    }
}
