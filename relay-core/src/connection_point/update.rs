//! Changing a connection point while it runs.

use std::sync::{Arc, PoisonError};

use tokio::task::JoinSet;

use crate::link::DrainReport;
use crate::settings::{ClientTrust, DocumentError, Tenant};

use super::ConnectionPoint;
use super::config::{ConnectionPointConfig, GatewayAddress, SiteEndpoint};
use super::current::{Current, deadlines};
use super::supervise::{Route, Way};

/// What can change while a connection point runs: all of it at once.
#[derive(Clone, Debug)]
pub struct Update {
    /// As [`ConnectionPointConfig::gateways`].
    pub gateways: Vec<GatewayAddress>,
    /// As [`ConnectionPointConfig::endpoints`].
    pub endpoints: Vec<SiteEndpoint>,
    /// As [`ConnectionPointConfig::tenants`].
    pub tenants: Vec<Tenant>,
    /// As [`ConnectionPointConfig::clients`].
    pub clients: Option<ClientTrust>,
    /// As [`ConnectionPointConfig::settings_version`].
    pub settings_version: u64,
}

impl From<ConnectionPointConfig> for Update {
    fn from(config: ConnectionPointConfig) -> Self {
        let ConnectionPointConfig {
            gateways, endpoints, tenants, clients, settings_version, ..
        } = config;
        Self { gateways, endpoints, tenants, clients, settings_version }
    }
}

/// Why nothing was changed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// What is to be published cannot be.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// Other endpoints, tenants, clients or deadlines need a higher version, or instances would
    /// keep those that they have.
    #[error(
        "version {version} publishes other endpoints, tenants, clients or deadlines \
         (backend_answer_seconds) than {have}, so it must be higher"
    )]
    Version {
        /// The version of the update.
        version: u64,
        /// The version that is published.
        have: u64,
    },
}

/// What a file says of clients: all but what comes from the store of the site's tokens.
fn in_file(clients: Option<&ClientTrust>) -> Option<ClientTrust> {
    clients.map(ClientTrust::without_tokens)
}

impl ConnectionPoint {
    /// Changes what is dialled, published and forwarded to, all of it or nothing.
    ///
    /// Requests under way end as they began. Instances that are no longer named are drained; those
    /// whose address has changed too, and are dialled anew. Backends that stay keep their
    /// connections, and what is known of them, if their TLS has the same trust and certificates and
    /// all else is equal. What is published goes to all instances at once;
    /// [`ConnectionPoint::published`] tells how far that is. Where neither endpoints nor tenants
    /// nor clients nor deadlines change, the version never goes back. What is said of the site's
    /// tokens changes under whatever version: its revision counts.
    ///
    /// # Errors
    ///
    /// [`UpdateError`]; then nothing has changed.
    pub fn update(&self, update: Update) -> Result<(), UpdateError> {
        let _one_by_one = self.inner.updating.lock().unwrap_or_else(PoisonError::into_inner);
        let before = Arc::clone(&self.inner.current.borrow());
        let (have, is_same) = (&before.document, {
            let after = update.endpoints.iter().map(|site| &site.endpoint);
            let deadlines = deadlines(&update.endpoints, &self.inner.config.limits);
            after.eq(&before.document.endpoints)
                && update.tenants == before.document.tenants
                && in_file(update.clients.as_ref()) == in_file(before.document.clients.as_ref())
                && deadlines == before.document.deadlines
        });
        let mut version = update.settings_version;
        if is_same {
            version = version.max(have.version);
        } else if version <= have.version {
            return Err(UpdateError::Version { version, have: have.version });
        }
        let config = &self.inner.config;
        let Update { gateways, endpoints, tenants, clients, .. } = update;
        let after = Current::new(config, version, &endpoints, tenants, clients, Some(&before))?;
        self.inner.current.send_replace(Arc::new(after));
        self.inner.gateways.send_replace(gateways.into());
        Ok(())
    }

    /// Has each of `gateways` supervised, and lets go of those that are no longer among them.
    pub(super) fn adjust(
        &self,
        gateways: &[GatewayAddress],
        routes: &mut Vec<Arc<Route>>,
        supervisors: &mut JoinSet<DrainReport>,
    ) {
        routes.retain(|route| {
            let stays = gateways.contains(route.gateway());
            if !stays {
                tracing::info!(instance = %route.gateway().instance, "instance is dialled no more");
                route.remove();
            }
            stays
        });
        for gateway in gateways {
            if routes.iter().any(|route| route.gateway() == gateway) {
                continue;
            }
            let route = Arc::new(Route::new(gateway.clone()));
            routes.push(Arc::clone(&route));
            let places = u32::try_from(self.inner.config.limits.links_per_instance);
            for place in 0..places.unwrap_or(u32::MAX) {
                let way = Arc::new(Way::new(Arc::clone(&route), place));
                self.ways().push(Arc::clone(&way));
                let connection_point = self.clone();
                supervisors.spawn(async move {
                    let report = connection_point.supervise(&way).await;
                    connection_point.ways().retain(|other| !Arc::ptr_eq(other, &way));
                    report
                });
            }
        }
    }
}
