//! The site's token service beside a connection point that runs.

use std::net::SocketAddr;
use std::sync::Arc;

use relay_core::config::{LoadedConnectionPoint, TokenServiceConfig};
use relay_core::settings::TenantTrust;
use tokio::net::TcpListener;

use crate::exit::Failure;
use crate::site::service::{Parts, Tally, TokenService};

/// The token service of a connection point, if it has one.
#[derive(Clone, Default)]
pub(super) struct Beside(Option<Running>);

#[derive(Clone)]
struct Running {
    service: Arc<TokenService>,
    /// Where it listens on the site's own network, and whether with TLS.
    intranet: Option<(SocketAddr, bool)>,
}

/// Starts the service that a configuration asks for, and has the connection point forward to it.
pub(super) async fn start(loaded: &mut LoadedConnectionPoint) -> Result<Beside, Failure> {
    let (Some(config), Some(tokens)) = (loaded.token_service.clone(), loaded.tokens.clone()) else {
        return Ok(Beside::default());
    };
    let listener = bind(&config).await?;
    let address = listener.as_ref().and_then(|it| it.local_addr().ok());
    let is_tls = config.intranet.as_ref().is_some_and(|it| it.identity.is_some());
    let parts = Parts { tokens, config: &config, listener, tenants: tenants(loaded) };
    let service = Arc::new(TokenService::start(parts).map_err(Failure::Runtime)?);
    let beside = Beside(Some(Running { service, intranet: address.map(|at| (at, is_tls)) }));
    beside.publish(loaded);
    Ok(beside)
}

async fn bind(config: &TokenServiceConfig) -> Result<Option<TcpListener>, Failure> {
    let Some(intranet) = &config.intranet else { return Ok(None) };
    let bound = TcpListener::bind(intranet.listen).await;
    Ok(Some(bound.map_err(|error| intranet.bind_failed(&error))?))
}

fn tenants(loaded: &LoadedConnectionPoint) -> Vec<TenantTrust> {
    loaded.config.clients.as_ref().map(|it| it.tenants.clone()).unwrap_or_default()
}

impl Beside {
    /// Adds its endpoint to those of a configuration.
    pub(super) fn publish(&self, loaded: &mut LoadedConnectionPoint) {
        if let (Some(running), Some(config)) = (&self.0, &loaded.token_service) {
            loaded.config.endpoints.push(running.service.endpoint(config));
        }
    }

    /// Has it go by a configuration that was read again. Blocks.
    pub(super) fn reload(&self, tenants: Vec<TenantTrust>) {
        if let Some(running) = &self.0 {
            running.service.reload(tenants);
        }
    }

    /// What it has done so far.
    pub(super) fn tally(&self) -> Option<Arc<Tally>> {
        self.0.as_ref().map(|running| running.service.tally())
    }

    /// What the line that says that a role is ready tells of it.
    pub(super) fn told(&self) -> String {
        let intranet = self.0.as_ref().and_then(|running| running.intranet);
        let shown = intranet.map(|(address, is_tls)| {
            let scheme = if is_tls { "https" } else { "http" };
            format!(", token service on {scheme}://{address}")
        });
        shown.unwrap_or_default()
    }

    /// Ends it. To be called once nobody else has a clone.
    pub(super) async fn end(self) {
        if let Some(service) = self.0.and_then(|running| Arc::into_inner(running.service)) {
            service.end().await;
        }
    }
}
