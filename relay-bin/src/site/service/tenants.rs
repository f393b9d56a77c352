//! The tenants whose tokens are exchanged, and the keys of those.

use relay_core::auth::{Guid, Issuer, KeySet, TrustedTenant};
use relay_core::fetched::{self, Fetched, ProviderVersion};
use relay_core::settings::{KeySource, TenantTrust};

/// The tenants of a site's configuration.
#[derive(Debug, Default)]
pub(super) struct Tenants {
    listed: Vec<TenantTrust>,
    /// Where keys by `authority` are; none if they are not fetched here.
    fetched: Option<Fetched>,
}

impl Tenants {
    /// These, whose keys are fetched by `fetched` where they are not in a file.
    pub(super) fn new(listed: Vec<TenantTrust>, fetched: Option<Fetched>) -> Self {
        let tenants = Self { listed, fetched };
        if let Some(fetched) = &tenants.fetched {
            let sources = tenants.listed.iter().filter_map(source).collect();
            // A configuration has 64 tenants at most, each once, which is what is fetched.
            if let Err(why) = fetched.want(sources, Vec::new()) {
                tracing::error!(%why, "keys of tenants are not fetched");
            }
        }
        tenants
    }

    /// What their tokens are judged by now. Of a tenant whose keys have not come none is known.
    pub(super) fn trusted(&self) -> Vec<TrustedTenant> {
        let trusted = |tenant: &TenantTrust| TrustedTenant {
            id: tenant.id,
            is_enabled: tenant.is_enabled,
            issuers: tenant.issuers.clone(),
            audiences: tenant.audiences.clone(),
            keys: self.keys(tenant),
        };
        self.listed.iter().map(trusted).collect()
    }

    /// Has newer keys of a tenant fetched: a token names one that is not known.
    pub(super) fn ask_again(&self, tenant: Guid) {
        if let Some(fetched) = &self.fetched {
            let listed = self.listed.iter().find(|it| it.id == tenant);
            if let Some(source) = listed.and_then(source) {
                fetched.ask_again(&source);
            }
        }
    }

    /// Whether a tenant's keys are to be fetched, and nobody does.
    pub(super) fn lack_keys(&self) -> bool {
        let is_fetched = |it: &TenantTrust| matches!(it.keys, KeySource::Authority(_));
        self.fetched.is_none() && self.listed.iter().any(is_fetched)
    }

    fn keys(&self, tenant: &TenantTrust) -> KeySet {
        match &tenant.keys {
            // It was read when the configuration was.
            KeySource::Published(set) => {
                KeySet::read(set).map(|(keys, _)| keys).unwrap_or_default()
            }
            KeySource::Authority(_) => {
                let source = source(tenant);
                let fetched = self.fetched.as_ref().zip(source);
                let fetched = fetched.and_then(|(it, source)| it.keys(&source));
                fetched.map(|keys| KeySet::clone(&keys)).unwrap_or_default()
            }
        }
    }
}

/// Where keys of a tenant are fetched from. Both versions of a cloud have the same keys.
fn source(tenant: &TenantTrust) -> Option<fetched::KeySource> {
    let KeySource::Authority(authority) = &tenant.keys else { return None };
    let is_first = tenant.issuers.contains(&Issuer::V1);
    let version = if is_first { ProviderVersion::V1 } else { ProviderVersion::V2 };
    match fetched::KeySource::new(tenant.id, authority, version) {
        Ok(source) => Some(source),
        Err(why) => {
            tracing::error!(tenant = %tenant.id, %why, "keys of this tenant are not fetched");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    use relay_core::fetched::FetchConfig;
    use relay_core::transport::TrustAnchors;
    use serde_json::json;

    use super::super::certificate::tests::key;
    use super::super::decide::tests::key_set;
    use super::*;

    const TENANT: Guid = Guid(0x0a1b_2c3d_4e5f_6071_8293_a4b5_c6d7_e8f9);

    fn tenant(keys: KeySource) -> TenantTrust {
        TenantTrust {
            id: TENANT,
            is_enabled: true,
            issuers: vec![Issuer::V1],
            audiences: vec!["https://ConfigMgrService".to_owned()],
            keys,
        }
    }

    /// A provider on this machine, whose key is the first one; its address.
    async fn provider() -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = format!("http://{}", listener.local_addr().unwrap());
        let issuer = format!("https://sts.windows.net/{TENANT}/");
        let metadata = json!({ "issuer": issuer, "jwks_uri": format!("{at}/keys") }).to_string();
        let path = format!("/{TENANT}/.well-known/openid-configuration");
        let pages = Router::new()
            .route(&path, get(|| async { metadata }))
            .route("/keys", get(|| async { key_set(key(0)).to_string() }));
        tokio::spawn(async { axum::serve(listener, pages).await });
        at
    }

    #[tokio::test]
    async fn keys_come_from_the_configuration_or_are_fetched_where_that_is_set_up() {
        let published = tenant(KeySource::Published(key_set(key(0)).to_string().into()));
        let tenants = Tenants::new(vec![published], None);
        assert_eq!(tenants.trusted()[0].keys.names().count(), 1);
        assert!(!tenants.lack_keys());

        let of_provider = tenant(KeySource::Authority(provider().await));
        let tenants = Tenants::new(vec![of_provider.clone()], None);
        assert_eq!(tenants.trusted()[0].keys.names().count(), 0);
        assert!(tenants.lack_keys());

        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let authority = authority.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let trust = TrustAnchors::new([authority.der().clone()]);
        let (fetched, driver) = Fetched::new(FetchConfig::new(&trust.unwrap()).unwrap());
        let seen = fetched.generation();
        let driver = tokio::spawn(driver.run());
        let tenants = Tenants::new(vec![of_provider], Some(fetched.clone()));
        assert!(!tenants.lack_keys());
        fetched.changed(seen).await;
        assert_eq!(tenants.trusted()[0].keys.names().count(), 1);
        driver.abort();
    }
}
