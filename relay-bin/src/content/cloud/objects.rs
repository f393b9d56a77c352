//! A store as its configuration says, and what its errors mean.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use futures_core::Stream;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{Error, ObjectMeta, ObjectStore, RetryConfig};
use relay_core::config::{CloudConfig, CloudKind};
use relay_core::content::PackageId;

use super::super::store::MANIFEST;
use super::fault::{WireFault, visible};
use super::sas;
use super::wire::Wire;

/// Characters of a store's own words that are told.
const WORDS_MAX: usize = 300;

/// How long somebody waits for a store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For each request.
    pub(super) request: Duration,
    /// Times that it is sent again.
    pub(super) retries: usize,
    /// From when on none is.
    pub(super) all: Duration,
}

/// A container or bucket, and who signs for it.
#[derive(Clone, Debug)]
pub(super) struct Objects {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) signer: Signing,
    prefix: Path,
}

/// Who signs locations.
#[derive(Clone, Debug)]
pub(super) enum Signing {
    Azure {
        signer: Arc<sas::Signer>,
        container: String,
    },
    /// For one method each.
    S3(Arc<dyn Signer>),
}

impl Objects {
    /// Opens what is configured. Nothing is asked.
    ///
    /// # Errors
    ///
    /// It cannot be a store, or TLS cannot be set up. Nothing of a key is told.
    pub(super) fn open(cloud: &CloudConfig, patience: Patience) -> anyhow::Result<Self> {
        let wire = Wire::new(cloud.trust.as_ref(), patience.request)?;
        let retry = RetryConfig {
            max_retries: patience.retries,
            retry_timeout: patience.all,
            ..RetryConfig::default()
        };
        let prefix = Path::parse(&cloud.prefix).context("the prefix is none")?;
        let endpoint = cloud.endpoint.clone();
        match &cloud.kind {
            CloudKind::Azure { account, container } => {
                let builder = MicrosoftAzureBuilder::new()
                    .with_account(account)
                    .with_container_name(container)
                    .with_access_key(cloud.key.secret())
                    .with_retry(retry)
                    .with_http_connector(wire);
                let builder = match endpoint {
                    Some(endpoint) => builder.with_endpoint(endpoint),
                    None => builder,
                };
                // Its error may repeat what it could not read.
                let no_key = |_| anyhow!("the file of the store's key holds no base64");
                let store = Arc::new(builder.build().map_err(no_key)?);
                let signer = Arc::new(sas::Signer::new(account, cloud.key.secret())?);
                let signer = Signing::Azure { signer, container: container.clone() };
                Ok(Self { store, signer, prefix })
            }
            CloudKind::S3 { bucket, region, access_key_id } => {
                let builder = AmazonS3Builder::new()
                    .with_bucket_name(bucket)
                    .with_region(region)
                    .with_access_key_id(access_key_id)
                    .with_secret_access_key(cloud.key.secret())
                    .with_retry(retry)
                    .with_http_connector(wire);
                let builder = match endpoint {
                    Some(endpoint) => builder.with_endpoint(endpoint),
                    None => builder.with_virtual_hosted_style_request(!bucket.contains('.')),
                };
                let store = Arc::new(builder.build().context("the store cannot be used")?);
                Ok(Self { store: store.clone(), signer: Signing::S3(store), prefix })
            }
        }
    }

    /// Below which all packages are.
    pub(super) fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// Below which a package is.
    pub(super) fn shelf(&self, package: &PackageId) -> Path {
        self.prefix.clone().join(package.as_str())
    }

    /// Where the manifest of a package is.
    pub(super) fn manifest(&self, package: &PackageId) -> Path {
        self.shelf(package).join(MANIFEST)
    }

    /// All that is directly or farther below a place.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub(super) async fn below(&self, place: &Path) -> object_store::Result<Vec<ObjectMeta>> {
        let (mut pages, mut found) = (self.store.list(Some(place)), Vec::new());
        while let Some(next) = poll_fn(|cx| Stream::poll_next(pages.as_mut(), cx)).await {
            found.push(next?);
        }
        Ok(found)
    }
}

/// What is said where the store refuses a key.
const REFUSED: &str = "the store refuses the key: check the account or the id of the access key in \
                       [content], the file of its key, and this machine's clock";

/// What is said where it knows the key, and that one may not do what was asked.
const FORBIDDEN: &str = "the store knows the key, and does not let it do that: whoever puts or \
                         removes needs one that may write, list and delete; an instance, one that \
                         may read";

/// Words of stores for the latter.
// Sources: Microsoft Learn, "Azure Blob Storage error codes" and "Common REST API error codes";
// Amazon S3 API Reference, "Error responses".
const FORBIDDEN_WORDS: [&str; 3] =
    ["AccessDenied", "AuthorizationPermissionMismatch", "InsufficientAccountPermissions"];

/// What a store's error means, without what may be long or somebody else's.
pub(super) fn told(error: &Error) -> String {
    if let Some(fault) = WireFault::behind(error) {
        return fault.to_string();
    }
    let text = error.to_string();
    let is_refused = match error {
        Error::Unauthenticated { .. } | Error::PermissionDenied { .. } => true,
        // So it comes where a list was asked for.
        Error::Generic { .. } => text.contains("status code: 403"),
        _ => false,
    };
    match error {
        _ if is_refused && FORBIDDEN_WORDS.iter().any(|it| text.contains(it)) => {
            FORBIDDEN.to_owned()
        }
        _ if is_refused => REFUSED.to_owned(),
        Error::NotFound { .. } => {
            "the store has no such container or bucket, or not what was asked for there".to_owned()
        }
        _ => visible(&text, WORDS_MAX),
    }
}

/// The same as an error of a command.
#[allow(clippy::needless_pass_by_value, reason = "so `map_err` hands it over")]
pub(super) fn failed(error: Error) -> anyhow::Error {
    anyhow!(told(&error))
}
