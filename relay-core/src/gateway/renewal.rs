//! Renewing this instance's link certificate: what is asked of its keeper, and how the certificate
//! that a connection point brings is judged.
//!
//! An instance in the cloud has no authority at hand. A connection point that has one asks whether
//! the certificate is due, signs the request that it is given, and brings the certificate; the key
//! is made here and stays here. Nothing here makes certificates or knows of files: a
//! [`CertificateKeeper`] does. Read it first, then [`Renewal`]; `renewal_exchange.rs` has the
//! exchanges.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::StatusCode;
use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::body::BoxError;
use crate::link::RecvError;
use crate::transport::{
    Certificate, CertificateError, ChainRefused, Identity, TlsSetupError, TrustAnchors,
    judge_server, link_server_config,
};

/// Octets of a request, and of a chain. Our choice: a chain of five certificates with RSA keys of
/// 4096 bits, in PEM.
pub(super) const OCTETS_MAX: usize = 16 << 10;

/// How long a request is left to the link that has it, before another may have it. Longer than both
/// exchanges take at most, so that one connection point at a time has it signed.
const LENT_FOR: Duration = Duration::from_secs(30);

/// Keeps what an instance shows to connection points, and makes the keys of what comes next.
///
/// Its methods may block; they are called one at a time, never from a task. An error's text and
/// sources are logged here; the connection point is only told that there was one.
pub trait CertificateKeeper: fmt::Debug + Send + Sync {
    /// What is kept now: what links are met with, or will be once it has been read again.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from being read.
    fn held(&self) -> Result<HeldCertificate, BoxError>;

    /// Makes a new key, and a request for a certificate like `held` that it signs.
    ///
    /// # Errors
    ///
    /// Whatever keeps the key from being made.
    fn request(&self, held: &Certificate) -> Result<CertificateRequest, BoxError>;

    /// Keeps `renewed` in place of what it holds, for good: both parts or neither, whatever befalls
    /// the machine meanwhile.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from being written; what was held before must still be.
    fn keep(&self, renewed: &Identity) -> Result<(), BoxError>;
}

/// What a [`CertificateKeeper`] holds.
#[derive(Clone, Debug)]
pub struct HeldCertificate {
    /// The chain, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Whom links trust. What is renewed must come from them, too.
    pub site: TrustAnchors,
}

/// A request for a certificate, and the key that it is for.
pub struct CertificateRequest {
    /// A PKCS#10 request in DER, of at most 16 KiB. Source: RFC 2986.
    pub der: Bytes,
    /// The public key in it: a `SubjectPublicKeyInfo` in DER.
    pub public_key: Vec<u8>,
    /// The private key. It stays in memory until the certificate is there.
    pub key: PrivateKeyDer<'static>,
}

impl fmt::Debug for CertificateRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateRequest")
            .field("der_octets", &self.der.len())
            .field("key", &"[redacted]")
            .finish_non_exhaustive()
    }
}

/// Why a certificate was not renewed. What was in force still is.
#[derive(Debug, thiserror::Error)]
pub(super) enum RenewalRefused {
    /// The sender broke off, or the link was lost.
    #[error("the certificate broke off: {0}")]
    BrokenOff(RecvError),
    /// It took too long.
    #[error("the certificate was not there within {} s", .0.as_secs_f32())]
    TooSlow(Duration),
    /// More came than a chain may have.
    #[error("a chain has at most {limit} octets, and more came")]
    TooLong { limit: usize },
    /// It is no PEM, or none of certificates.
    #[error("what came is no chain of certificates in PEM: {0}")]
    NoChain(pem::Error),
    /// One connection point at a time has it signed; this one may ask again soon.
    #[error("another link has the request")]
    Lent,
    /// Nobody has been given a request, or its certificate has come already.
    #[error("no request is pending; ask for one first")]
    NotAsked,
    /// The connection point has signed something else.
    #[error("the certificate is not for the key of the pending request")]
    ForeignKey,
    /// An instance keeps its names, whoever signs what.
    #[error("the certificate names {brought}, but the one in force {held}")]
    OtherNames { brought: String, held: String },
    /// And what its certificate may be used for.
    #[error("the certificate is for other uses than the one in force")]
    OtherUses,
    /// It is not trusted here, or does not hold now.
    #[error(transparent)]
    Chain(#[from] ChainRefused),
    /// Nothing would be won.
    #[error("the certificate ends no later than the one in force")]
    NotLater,
    /// What is held cannot be read as a certificate. This instance's fault.
    #[error("this instance cannot read its own certificate: {0}")]
    Held(#[from] CertificateError),
    /// The keeper failed. This instance's fault.
    #[error("this instance could not {0}; its log says why")]
    Keeper(Duty, #[source] BoxError),
    /// The request that the keeper made is too long. This instance's fault.
    #[error("this instance's request has {octets} octets, more than {limit}")]
    LongRequest { octets: usize, limit: usize },
    /// No TLS could be made of what came.
    #[error("no TLS can be made of it: {0}")]
    Tls(#[from] TlsSetupError),
    /// Its task has failed, and has told why. This library's fault.
    #[error("this instance's task has failed")]
    Task,
}

/// What a keeper was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Duty {
    Read,
    Request,
    Keep,
}

impl fmt::Display for Duty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read its certificate",
            Self::Request => "make a request",
            Self::Keep => "keep the certificate",
        })
    }
}

impl RenewalRefused {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::BrokenOff(_) | Self::NoChain(_) => StatusCode::BAD_REQUEST,
            Self::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::TooLong { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Chain(_) | Self::OtherNames { .. } | Self::OtherUses => StatusCode::FORBIDDEN,
            Self::Lent | Self::NotAsked | Self::ForeignKey | Self::NotLater => StatusCode::CONFLICT,
            Self::Held(_)
            | Self::Keeper(..)
            | Self::LongRequest { .. }
            | Self::Tls(_)
            | Self::Task => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What only this side's log says.
    pub(super) fn cause(&self) -> Option<String> {
        let Self::Keeper(_, cause) = self else { return None };
        let mut told = cause.to_string();
        let mut next = cause.source();
        while let Some(cause) = next {
            told = format!("{told}: {cause}");
            next = cause.source();
        }
        Some(told)
    }
}

/// A certificate that is kept and can be put in force.
#[derive(Debug)]
pub(super) struct Renewed {
    pub(super) tls: Arc<ServerConfig>,
    pub(super) certificate: Certificate,
}

/// The renewal of one instance's certificate. Methods that have the keeper work block: they are not
/// for tasks.
#[derive(Debug)]
pub(super) struct Renewal {
    keeper: Arc<dyn CertificateKeeper>,
    /// The request whose certificate has not come yet. Held while the keeper works, so that it has
    /// one thing to do at a time.
    pending: Mutex<Option<CertificateRequest>>,
    /// The link that has the request, and until when it is left to it alone.
    lent: Mutex<Option<(u64, Instant)>>,
    /// Why it failed last, so that it is told once.
    told: Mutex<Option<String>>,
    /// Has one thread at most wait for the keeper, however many ask.
    turn: Arc<Semaphore>,
}

impl Renewal {
    pub(super) fn new(keeper: Arc<dyn CertificateKeeper>) -> Self {
        let (pending, lent, told) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { keeper, pending, lent, told, turn: Arc::new(Semaphore::new(1)) }
    }

    /// The request for a new certificate, for the link of this number; `None` if the one that is
    /// held is not due at `now`.
    pub(super) fn request(
        &self,
        link: u64,
        now: SystemTime,
        at: Instant,
    ) -> Result<Option<Bytes>, RenewalRefused> {
        let mut pending = lock(&self.pending);
        let held = Certificate::of_chain(&self.held()?.chain)?;
        if !held.validity.is_renewal_due(now) {
            // Somebody else has replaced it: the key is of no use any more.
            *pending = None;
            return Ok(None);
        }
        self.lend(link, at)?;
        if let Some(request) = pending.as_ref() {
            return Ok(Some(request.der.clone()));
        }
        let request = self.keeper.request(&held);
        let request = request.map_err(|why| RenewalRefused::Keeper(Duty::Request, why))?;
        let (octets, limit) = (request.der.len(), OCTETS_MAX);
        if limit < octets {
            return Err(RenewalRefused::LongRequest { octets, limit });
        }
        let der = request.der.clone();
        *pending = Some(request);
        Ok(Some(der))
    }

    /// Leaves the request to a link, unless another has it. Asking again does not prolong that: a
    /// connection point that cannot sign must not keep the others from it.
    fn lend(&self, link: u64, at: Instant) -> Result<(), RenewalRefused> {
        let mut lent = lock(&self.lent);
        match *lent {
            Some((holder, until)) if at < until => {
                if holder == link {
                    Ok(())
                } else {
                    Err(RenewalRefused::Lent)
                }
            }
            _ => {
                *lent = Some((link, at + LENT_FOR));
                Ok(())
            }
        }
    }

    /// Another link may have the request, if this one, which has ended, had it. Does not block.
    pub(super) fn link_ended(&self, link: u64) {
        lock(&self.lent).take_if(|(holder, _)| *holder == link);
    }

    /// Judges the chain that came for the pending request, and has it kept if it may take the place
    /// of what is held at `now`. Refused, the request is pending still.
    pub(super) fn take(&self, octets: &[u8], now: SystemTime) -> Result<Renewed, RenewalRefused> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(octets).collect();
        let chain = chain.map_err(RenewalRefused::NoChain)?;
        if chain.is_empty() {
            return Err(RenewalRefused::NoChain(pem::Error::NoItemsFound));
        }
        let mut pending = lock(&self.pending);
        let request = pending.as_ref().ok_or(RenewalRefused::NotAsked)?;
        let held = self.held()?;
        let before = Certificate::of_chain(&held.chain)?;
        let certificate = Certificate::of_chain(&chain).map_err(ChainRefused::from)?;
        if certificate.public_key != request.public_key {
            return Err(RenewalRefused::ForeignKey);
        }
        judge_like(&certificate, &before)?;
        judge_server(&chain, &held.site, now)?;
        if certificate.validity.not_after <= before.validity.not_after {
            return Err(RenewalRefused::NotLater);
        }
        let renewed = Identity::new(chain, request.key.clone_key());
        // First, so that nothing is kept that could not be used.
        let tls = link_server_config(&renewed, &held.site)?;
        let kept = self.keeper.keep(&renewed);
        kept.map_err(|why| RenewalRefused::Keeper(Duty::Keep, why))?;
        *pending = None;
        *lock(&self.lent) = None;
        Ok(Renewed { tls, certificate })
    }

    /// Has `work` done where it may block, when it is its turn. Once begun, it goes on even if the
    /// future is dropped.
    pub(super) async fn in_turn<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, RenewalRefused> + Send + 'static,
    ) -> Result<T, RenewalRefused> {
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        let (renewal, turn) = (Arc::clone(self), turn.expect("the turn is never closed"));
        let worked = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work(&renewal)
        });
        worked.await.unwrap_or(Err(RenewalRefused::Task))
    }

    /// Whether a failure is another than the last one.
    pub(super) fn is_news(&self, why: &str) -> bool {
        lock(&self.told).replace(why.to_owned()).as_deref() != Some(why)
    }

    /// Forgets the last failure.
    pub(super) fn went_well(&self) {
        *lock(&self.told) = None;
    }

    fn held(&self) -> Result<HeldCertificate, RenewalRefused> {
        self.keeper.held().map_err(|why| RenewalRefused::Keeper(Duty::Read, why))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Judges whether a certificate names the same and is for the same uses as the one before it.
fn judge_like(certificate: &Certificate, before: &Certificate) -> Result<(), RenewalRefused> {
    if Names::of(certificate) != Names::of(before) {
        let [brought, held] = [certificate, before].map(|it| Names::of(it).to_string());
        return Err(RenewalRefused::OtherNames { brought, held });
    }
    if certificate.uses != before.uses {
        return Err(RenewalRefused::OtherUses);
    }
    Ok(())
}

/// What a certificate names, in no order.
#[derive(Eq, PartialEq)]
struct Names<'a> {
    common: Option<&'a str>,
    dns: BTreeSet<&'a str>,
    addresses: BTreeSet<IpAddr>,
}

impl<'a> Names<'a> {
    fn of(certificate: &'a Certificate) -> Self {
        Self {
            common: certificate.common_name.as_deref(),
            dns: certificate.dns_names.iter().map(String::as_str).collect(),
            addresses: certificate.addresses.iter().copied().collect(),
        }
    }
}

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.common.unwrap_or_default())?;
        for name in self.dns.iter().filter(|name| Some(**name) != self.common) {
            write!(f, ", `{name}`")?;
        }
        self.addresses.iter().try_for_each(|address| write!(f, ", {address}"))
    }
}

#[cfg(test)]
mod tests;
