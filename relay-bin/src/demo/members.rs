//! The clients of the demonstration: the site's tokens, its token service, and what is published of
//! both.
//!
//! All of it is what `relay token` and `relay connection-point` work with, in a folder that is gone
//! with the demonstration.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use relay_core::auth::{Methods, Strictness};
use relay_core::config::{SiteTokens, TokenServiceConfig, site_tokens};
use relay_core::connection_point::{ConnectionPoint, SiteEndpoint, Update};
use relay_core::policy::{Access, Endpoint, EndpointKind, RequestHeaders};
use relay_core::settings::ClientTrust;
use tempfile::TempDir;

use super::session::Membership;
use crate::site::service::{Parts, TokenService};
use crate::site::{self, Watch};

/// Role id of the token service.
pub(crate) const TOKEN_ROLE: u64 = 72_057_594_037_927_943;

/// For how long clients can register, in minutes.
const BULK_MINUTES: u64 = 60;

/// What a site of its own has of clients.
pub(crate) struct Members {
    tokens: SiteTokens,
    config: TokenServiceConfig,
    service: TokenService,
    bulk_token: String,
    /// Goes last: the service has its store in it.
    _folder: TempDir,
}

impl Members {
    /// Makes a signing key and a bulk token, and starts the token service.
    ///
    /// # Errors
    ///
    /// No folder can be made, or nothing written there.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let made = tokio::task::spawn_blocking(made).await?;
        let (folder, tokens, bulk_token) = made.context("cannot make the site's tokens")?;
        let config = TokenServiceConfig::new(Endpoint {
            name: "demo-tokens".to_owned(),
            kind: EndpointKind::TokenService,
            role_id: TOKEN_ROLE,
            paths: None,
            request_body_bytes_max: Some(64 * 1024),
            request_headers: RequestHeaders::Open,
            access: Access::Clients(Methods::default()),
        });
        let parts =
            Parts { tokens: tokens.clone(), config: &config, listener: None, tenants: Vec::new() };
        let service = TokenService::start(parts)?;
        Ok(Self { tokens, config, service, bulk_token, _folder: folder })
    }

    /// The token service as an endpoint of each connection point.
    pub(crate) fn endpoint(&self) -> SiteEndpoint {
        self.service.endpoint(&self.config)
    }

    /// Whose clients count now, and the version of that.
    ///
    /// # Errors
    ///
    /// The site's store cannot be read.
    pub(crate) fn trust(&self) -> anyhow::Result<(u64, ClientTrust)> {
        trust(&self.tokens)
    }

    /// What a client needs to become one of the site; blocks are published by these connection
    /// points, which publish `as_before` otherwise.
    pub(crate) fn membership(&self, points: Vec<ConnectionPoint>, as_before: Update) -> Membership {
        let tokens = self.tokens.clone();
        let said = Mutex::new(as_before);
        let block = move |id| {
            site::block(&tokens, id)?;
            let (settings_version, clients) = trust(&tokens)?;
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            (said.settings_version, said.clients) = (settings_version, Some(clients));
            points.iter().try_for_each(|point| Ok(point.update(said.clone())?))
        };
        let (bulk_token, token_role) = (self.bulk_token.clone(), TOKEN_ROLE);
        Membership { bulk_token, token_role, block: Arc::new(block) }
    }

    /// Ends the service.
    pub(crate) async fn stop(self) {
        self.service.end().await;
    }
}

fn made() -> anyhow::Result<(TempDir, SiteTokens, String)> {
    let folder = tempfile::Builder::new().prefix("relay-demo-site-").tempdir()?;
    let file = folder.path().join("connection-point.toml");
    let text = format!("[tokens]\nfolder = \"tokens\"\ntenant = \"{}\"\n", site::new_guid()?);
    fs::write(&file, text)?;
    let tokens = site_tokens(&file)?;
    let token = site::issue(&tokens, BULK_MINUTES)?;
    Ok((folder, tokens, token.expose().to_owned()))
}

fn trust(tokens: &SiteTokens) -> anyhow::Result<(u64, ClientTrust)> {
    let published = Watch::new(tokens.clone()).look()?.published;
    let published = published.context("the site has no signing key")?;
    let revision = published.revision;
    let clients = ClientTrust {
        methods: Methods::default(),
        strictness: Strictness::default(),
        tenants: Vec::new(),
        certificates: None,
        tokens: Some(published),
        barred: Vec::new(),
    };
    Ok((revision, clients))
}
