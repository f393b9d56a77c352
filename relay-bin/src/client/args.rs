//! Arguments that every command of `relay client` takes, and what they come to.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use relay_core::transport::Identity;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use super::target::Target;

/// How a gateway is reached.
#[derive(clap::Args)]
pub(crate) struct Way {
    /// PEM file with the authorities that may have signed the gateway's certificate.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Reach this host there and do not look its name up: HOST:ADDRESS, or HOST:ADDRESS:PORT. May
    /// be given more than once, also for one host with several addresses.
    #[arg(long, value_name = "HOST:ADDRESS")]
    resolve: Vec<Resolve>,
    /// Seconds in which something must come or go, at each step: a connection, the answer, more of
    /// a body.
    #[arg(long, value_name = "SECONDS", default_value_t = 70)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// Speak HTTP/1.1 even if the gateway speaks HTTP/2.
    #[arg(long)]
    http1: bool,
    /// Print the report as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where a host is reached instead of where its name leads.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Resolve {
    host: String,
    address: IpAddr,
    port: Option<u16>,
}

impl FromStr for Resolve {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "write HOST:ADDRESS or HOST:ADDRESS:PORT, an IPv6 address in brackets";
        let (host, at) = text.split_once(':').filter(|(host, _)| !host.is_empty()).ok_or(FORM)?;
        let host = host.to_owned();
        if let Ok(socket) = at.parse::<SocketAddr>() {
            return Ok(Self { host, address: socket.ip(), port: Some(socket.port()) });
        }
        let address = at.trim_start_matches('[').trim_end_matches(']').parse().map_err(|_| FORM)?;
        Ok(Self { host, address, port: None })
    }
}

/// How hosts are reached: [`Way`], with the files that it names read.
pub(crate) struct Reach {
    tls: Option<Arc<ClientConfig>>,
    resolve: Vec<Resolve>,
    /// How long nothing may come or go.
    pub(crate) patience: Duration,
}

impl Way {
    /// Reads what it names. `identity` is shown to a gateway that asks for a certificate.
    ///
    /// # Errors
    ///
    /// A file cannot be used, or none is given though `target` needs one.
    pub(crate) fn reach(
        &self,
        target: &Target,
        identity: Option<&Identity>,
    ) -> anyhow::Result<Reach> {
        ensure!(
            !target.is_tls || self.ca.is_some(),
            "--ca is missing: name the PEM file of the authority that has signed the gateway's \
             certificate (`relay init` writes site-ca/site-ca.pem)"
        );
        let tls = self.ca.as_ref().map(|file| self.tls(file, identity)).transpose()?;
        let patience = Duration::from_secs(self.timeout);
        Ok(Reach { tls, resolve: self.resolve.clone(), patience })
    }

    /// How hosts are reached that the authority in `ca` has signed for. They are shown nothing, and
    /// nobody is waited for longer than `patience`.
    ///
    /// # Errors
    ///
    /// The file cannot be used.
    pub(crate) fn trusting(ca: &Path, patience: Duration) -> anyhow::Result<Reach> {
        let timeout = patience.as_secs();
        let way = Self { ca: None, resolve: Vec::new(), timeout, http1: false, json: false };
        let tls = Some(way.tls(&ca.to_owned(), None)?);
        Ok(Reach { tls, resolve: way.resolve, patience })
    }

    /// How a store is reached to which a gateway sends its clients: trusted by `ca`, or else by
    /// whom the gateway is trusted by. It is shown nothing.
    ///
    /// # Errors
    ///
    /// A file cannot be used.
    pub(super) fn store_reach(&self, ca: Option<&PathBuf>) -> anyhow::Result<Reach> {
        let tls = ca.or(self.ca.as_ref()).map(|file| self.tls(file, None)).transpose()?;
        let patience = Duration::from_secs(self.timeout);
        Ok(Reach { tls, resolve: self.resolve.clone(), patience })
    }

    fn tls(&self, ca: &PathBuf, identity: Option<&Identity>) -> anyhow::Result<Arc<ClientConfig>> {
        let shown = ca.display();
        let text = std::fs::read(ca).with_context(|| format!("cannot read --ca {shown}"))?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&text) {
            let certificate = certificate.with_context(|| format!("{shown} is not valid PEM"))?;
            let added = roots.add(certificate);
            added.with_context(|| format!("{shown} holds a certificate that cannot be used"))?;
        }
        ensure!(!roots.is_empty(), "{shown} holds no certificate");
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let mut tls = match identity {
            Some(identity) => builder
                .with_client_auth_cert(identity.chain().to_vec(), identity.key().clone_key())
                .context("certificate and key cannot be used")?,
            None => builder.with_no_client_auth(),
        };
        let offered: &[&[u8]] = if self.http1 { &[b"http/1.1"] } else { &[b"h2", b"http/1.1"] };
        tls.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
        Ok(Arc::new(tls))
    }
}

impl Reach {
    /// How TLS is spoken; none if no authority is known, which is enough for loopback.
    pub(super) fn tls(&self) -> Option<Arc<ClientConfig>> {
        self.tls.clone()
    }

    /// One of which nobody is trusted for any certificate.
    #[cfg(test)]
    pub(super) fn trusting_nobody() -> Self {
        Self { tls: None, resolve: Vec::new(), patience: Duration::from_secs(1) }
    }

    /// Whether it is known by whom `target` is trusted, where that is asked.
    pub(super) fn can_trust(&self, target: &Target) -> bool {
        !target.is_tls || self.tls.is_some()
    }

    /// Where the command line says that `target` is.
    pub(super) fn addresses(&self, target: &Target) -> Vec<SocketAddr> {
        let named = self.resolve.iter().filter(|it| it.host.eq_ignore_ascii_case(&target.host));
        named.map(|it| SocketAddr::new(it.address, it.port.unwrap_or(target.port))).collect()
    }

    /// The same, but nobody is waited for longer than `most`.
    pub(crate) fn hasty(&self, most: Duration) -> Self {
        let patience = self.patience.min(most);
        Self { tls: self.tls.clone(), resolve: self.resolve.clone(), patience }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_reached_at_an_address_with_or_without_a_port() {
        let at = |text: &str| text.parse::<Resolve>().map(|it| (it.address, it.port)).ok();
        let v4: IpAddr = [127, 0, 0, 1].into();
        let v6: IpAddr = "::1".parse().unwrap();
        assert_eq!(at("relay.example:127.0.0.1"), Some((v4, None)));
        assert_eq!(at("relay.example:127.0.0.1:8443"), Some((v4, Some(8443))));
        assert_eq!(at("relay.example:[::1]"), Some((v6, None)));
        assert_eq!(at("relay.example:[::1]:8443"), Some((v6, Some(8443))));
        for wrong in ["", ":", "relay.example", ":127.0.0.1", "relay.example:8443", "a:b"] {
            assert_eq!(at(wrong), None, "{wrong}");
        }
    }
}
