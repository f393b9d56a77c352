//! The files that a role's TLS is made from, so that they can be read again while it runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, ServerConfig};

use crate::transport::{
    Certificate, Identity, PeerTrust, TlsSetupError, TrustAnchors, backend_client_config,
    client_edge_config_asking, link_client_config, link_server_config,
};

/// Why TLS could not be made of the files. Nothing of them is in force.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", file.display())]
#[non_exhaustive]
pub struct MaterialError {
    /// The file at fault, or the certificate that the fault is about.
    pub file: PathBuf,
    /// What is wrong.
    pub source: TlsSetupError,
}

/// A certificate and its key.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct IdentityPaths {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The private key of the leaf.
    pub key: PathBuf,
}

impl IdentityPaths {
    pub(super) fn new(certificate: PathBuf, key: PathBuf) -> Self {
        Self { certificate, key }
    }

    /// Reads both files. Blocks on the file system.
    ///
    /// # Errors
    ///
    /// [`MaterialError`]. Whether the two belong together shows when TLS is made of them.
    pub fn read(&self) -> Result<Identity, MaterialError> {
        Identity::from_pem_files(&self.certificate, &self.key)
            .map_err(|source| MaterialError { file: self.certificate.clone(), source })
    }

    fn files(&self) -> [&Path; 2] {
        [&self.certificate, &self.key]
    }

    /// Whether a configuration could be made with this identity.
    fn made<T>(&self, made: Result<T, TlsSetupError>) -> Result<T, MaterialError> {
        made.map_err(|source| MaterialError { file: self.certificate.clone(), source })
    }
}

/// Whom a link trusts.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct SitePaths {
    /// The site's authority.
    pub authority: PathBuf,
    /// What it has taken back, if somebody asks.
    pub revoked: Option<PathBuf>,
}

impl SitePaths {
    pub(super) fn new(authority: PathBuf, revoked: Option<PathBuf>) -> Self {
        Self { authority, revoked }
    }

    /// Reads both files. Blocks on the file system.
    ///
    /// # Errors
    ///
    /// [`MaterialError`] for the first fault found.
    pub fn read(&self) -> Result<TrustAnchors, MaterialError> {
        let anchors = anchors(&self.authority)?;
        let Some(file) = &self.revoked else { return Ok(anchors) };
        anchors
            .with_revoked_file(file)
            .map_err(|source| MaterialError { file: file.clone(), source })
    }

    fn files(&self) -> impl Iterator<Item = &Path> {
        [Some(self.authority.as_path()), self.revoked.as_deref()].into_iter().flatten()
    }
}

fn anchors(file: &Path) -> Result<TrustAnchors, MaterialError> {
    TrustAnchors::from_pem_file(file)
        .map_err(|source| MaterialError { file: file.to_owned(), source })
}

/// What the TLS of a gateway instance is made from.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct GatewayMaterial {
    /// Shown to clients.
    pub clients: IdentityPaths,
    /// Shown to connection points.
    pub links: IdentityPaths,
    /// Whom links trust.
    pub site: SitePaths,
}

/// What [`GatewayMaterial::load`] makes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GatewayTls {
    /// Towards clients.
    pub clients: Arc<ServerConfig>,
    /// Towards connection points.
    pub links: Arc<ServerConfig>,
    /// What connection points are judged by while their links are up.
    pub trust: Arc<PeerTrust>,
    /// What is shown to connection points; `None` if it cannot be read as a certificate.
    pub certificate: Option<Certificate>,
}

impl GatewayMaterial {
    /// Every file.
    pub fn files(&self) -> Vec<PathBuf> {
        let identities = self.clients.files().into_iter().chain(self.links.files());
        identities.chain(self.site.files()).map(Path::to_owned).collect()
    }

    /// Reads every file. Blocks on the file system.
    ///
    /// # Errors
    ///
    /// [`MaterialError`] for the first fault found.
    pub fn load(&self) -> Result<GatewayTls, MaterialError> {
        let (links, site) = (self.links.read()?, self.site.read()?);
        Ok(GatewayTls {
            clients: self.clients.made(client_edge_config_asking(&self.clients.read()?))?,
            links: self.links.made(link_server_config(&links, &site))?,
            trust: Arc::new(self.links.made(PeerTrust::of_diallers(&site))?),
            certificate: Certificate::of_chain(links.chain()).ok(),
        })
    }
}

/// What the TLS of a connection point is made from.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct ConnectionPointMaterial {
    /// Shown to gateway instances.
    pub link: IdentityPaths,
    /// Whom links trust.
    pub site: SitePaths,
    /// Whom the HTTPS around a link trusts.
    pub https_authority: PathBuf,
}

/// What [`ConnectionPointMaterial::load`] makes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionPointTls {
    /// Towards gateway instances.
    pub link: Arc<ClientConfig>,
    /// What gateway instances are judged by while their links are up.
    pub trust: Arc<PeerTrust>,
    /// Around a link that is upgraded from HTTPS.
    pub https: Arc<ClientConfig>,
    /// What is shown to gateway instances; `None` if it cannot be read as a certificate.
    pub certificate: Option<Certificate>,
}

impl ConnectionPointMaterial {
    /// Every file.
    pub fn files(&self) -> Vec<PathBuf> {
        let link = self.link.files().into_iter().chain(self.site.files());
        link.chain([self.https_authority.as_path()]).map(Path::to_owned).collect()
    }

    /// Reads every file. Blocks on the file system.
    ///
    /// # Errors
    ///
    /// [`MaterialError`] for the first fault found.
    pub fn load(&self) -> Result<ConnectionPointTls, MaterialError> {
        let (link, site) = (self.link.read()?, self.site.read()?);
        let https = backend_client_config(&anchors(&self.https_authority)?)
            .map_err(|source| MaterialError { file: self.https_authority.clone(), source })?;
        Ok(ConnectionPointTls {
            link: self.link.made(link_client_config(&link, &site))?,
            trust: Arc::new(self.link.made(PeerTrust::of_dialled(&site))?),
            https,
            certificate: Certificate::of_chain(link.chain()).ok(),
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::config::testing::Site;

    const SITE_CA: &str = "site_ca = \"site-ca.pem\"";

    fn with_list(text: &str) -> String {
        text.replace(SITE_CA, &format!("{SITE_CA}\nsite_crl = \"site-ca.crl\""))
    }

    #[test]
    fn every_file_of_a_gateway_counts_when_they_are_read_again() {
        let site = Site::new();
        let material = site.gateway_with(with_list).unwrap().material;
        material.load().unwrap();
        let files = material.files();
        assert_eq!(files.len(), 6);
        for file in files {
            let good = std::fs::read(&file).unwrap();
            std::fs::write(&file, "broken").unwrap();
            let told = material.load().unwrap_err().to_string();
            assert!(told.contains(file.to_str().unwrap()), "{told}");
            std::fs::write(&file, good).unwrap();
        }
        material.load().unwrap();
    }

    #[test]
    fn every_file_of_a_connection_point_counts_when_they_are_read_again() {
        let site = Site::new();
        let material = site.connection_point_with(with_list).unwrap().material;
        let files = material.files();
        assert_eq!(files.len(), 5, "the authority counts twice");
        for file in files {
            let good = std::fs::read(&file).unwrap();
            std::fs::write(&file, "broken").unwrap();
            let told = material.load().unwrap_err().to_string();
            assert!(told.contains(file.to_str().unwrap()), "{told}");
            std::fs::write(&file, good).unwrap();
        }
        let names = material.load().unwrap().certificate.unwrap().dns_names;
        assert_eq!(names, ["relay.example"]);
    }

    #[test]
    fn of_several_keys_in_a_file_the_certificates_own_is_taken() {
        let site = Site::new();
        let material = site.gateway_with(str::to_owned).unwrap().material;
        let read = |name: &str| std::fs::read_to_string(site.path(name)).unwrap();
        let (own, other) = (read("links-key.pem"), read("clients-key.pem"));
        for keys in [format!("{own}{other}"), format!("{other}{own}")] {
            std::fs::write(site.path("links-key.pem"), keys).unwrap();
            material.load().unwrap();
        }
        std::fs::write(site.path("links-key.pem"), format!("{other}{other}")).unwrap();
        assert!(material.load().is_err());
    }

    #[test]
    fn a_key_of_another_certificate_is_told_with_the_certificate() {
        let site = Site::new();
        let material = site.gateway_with(str::to_owned).unwrap().material;
        std::fs::copy(site.path("clients-key.pem"), site.path("links-key.pem")).unwrap();
        let told = material.load().unwrap_err().to_string();
        assert!(told.contains("links.pem: certificate and key do not make an identity"), "{told}");
    }
}
