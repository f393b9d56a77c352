//! What a connection point publishes and forwards to at one moment; swapped whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::policy::EndpointMap;
use crate::settings::{ClientTrust, Deadline, DocumentError, SettingsDocument, Tenant};

use super::backend_config::Settled;
use super::backends::Backends;
use super::config::{ConnectionPointConfig, ConnectionPointLimits, SiteEndpoint};
use super::counted;
use super::forward::Forwarder;

/// What is published, as it travels, and what forwards to it.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) document: SettingsDocument,
    /// The document's text.
    pub(super) octets: Bytes,
    pub(super) forwarder: Arc<Forwarder>,
}

impl Current {
    /// Judges what is to be published. Backends that `before` has too keep their connections.
    pub(super) fn new(
        config: &ConnectionPointConfig,
        version: u64,
        endpoints: &[SiteEndpoint],
        tenants: Vec<Tenant>,
        clients: Option<ClientTrust>,
        before: Option<&Self>,
    ) -> Result<Self, DocumentError> {
        let limits = &config.limits;
        let document = document(config, version, endpoints, tenants, clients);
        let published = document.endpoints.clone();
        let octets = document.encode()?.into();
        let backends: BTreeMap<u64, Arc<Backends>> = endpoints
            .iter()
            .map(|site| {
                let (role_id, name) = (site.endpoint.role_id, &site.endpoint.name);
                let kept = before.and_then(|it| it.forwarder.kept(role_id, name, &site.backend));
                let like = before.and_then(|it| it.forwarder.backends_of(role_id));
                let new = || Backends::new(name, &site.backend, limits, &config.network, like);
                (role_id, kept.unwrap_or_else(|| Arc::new(new())))
            })
            .collect();
        // What was counted goes on.
        let tally = before.map(|it| Arc::clone(it.forwarder.tally()));
        let tally = tally.unwrap_or_else(|| Arc::new(counted::tally()));
        let forwarder = Forwarder::new(EndpointMap::new(published)?, backends, tally);
        let forwarder = Arc::new(forwarder);
        Ok(Self { document, octets, forwarder })
    }
}

/// What is published.
pub(super) fn document(
    config: &ConnectionPointConfig,
    version: u64,
    endpoints: &[SiteEndpoint],
    tenants: Vec<Tenant>,
    clients: Option<ClientTrust>,
) -> SettingsDocument {
    SettingsDocument {
        site: config.site.clone(),
        version,
        endpoints: endpoints.iter().map(|site| site.endpoint.clone()).collect(),
        tenants,
        deadlines: deadlines(endpoints, &config.limits),
        clients,
    }
}

/// What is published about the time that backends may take.
pub(super) fn deadlines(endpoints: &[SiteEndpoint], all: &ConnectionPointLimits) -> Vec<Deadline> {
    let each = endpoints.iter().filter_map(|site| {
        let answer = Settled::new(&site.backend.limits, all).answer;
        Deadline::of(site.endpoint.role_id, answer)
    });
    each.collect()
}
