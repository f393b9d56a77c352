//! Having gateway instances' link certificates renewed, where this connection point can sign.
//!
//! An instance has no authority at hand. It is asked on each link, as soon as that is up and each
//! hour after, whether its certificate is due; if so it gives a request, and is brought what the
//! [`CertificateIssuer`] makes of it. Which names that carries is never the instance's to say: they
//! are those that it has proven to have on this very link. Nothing else depends on any of this.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::time::{sleep, timeout};

use crate::body::BoxError;
use crate::link::{Link, RecvError, RecvStream};
use crate::transport::Instance;

use super::ConnectionPoint;
use super::backoff::Backoff;
use super::tell::{Answer, Untold, WITHIN, tell};

/// How often an instance is asked, give or take a tenth. Our choice: even a certificate of a day is
/// asked for eight times in the third of its life in which it is due.
const EVERY: Duration = Duration::from_hours(1);

/// First delay after an instance was not brought its certificate, and the ceiling of later ones.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(10));

/// Octets of a request, and of a chain; as the instance has it.
const OCTETS_MAX: usize = 16 << 10;

/// Signs certificates of gateway instances.
pub trait CertificateIssuer: fmt::Debug + Send + Sync {
    /// Makes a certificate for the key of a PKCS#10 `request` (DER, RFC 2986), of whoever has shown
    /// `peer`: a chain, leaf first, that a link's handshake has verified, maybe long ago. Returns
    /// the chain to bring as PEM, leaf first, of at most 16 KiB.
    ///
    /// Names and uses must be those of `peer`'s leaf. What the request says besides its key is what
    /// the instance would like to be, and nothing more. An issuer also judges whether `peer` is
    /// still good: it may have been taken back since its link came up.
    ///
    /// May block; never called from a task.
    ///
    /// # Errors
    ///
    /// Why it is not signed. The text is logged, with its sources.
    fn issue(&self, peer: &[CertificateDer<'static>], request: &[u8]) -> Result<String, BoxError>;
}

/// Why an instance's certificate was not renewed.
#[derive(Debug, thiserror::Error)]
enum NotRenewed {
    #[error(transparent)]
    Untold(#[from] Untold),
    #[error("the instance's request broke off: {0}")]
    BrokenOff(#[from] RecvError),
    #[error("the instance's request has more than {OCTETS_MAX} octets")]
    LongRequest,
    #[error("it answered {status}: {reason}")]
    Refused { status: u16, reason: String },
    #[error("it was not signed: {}", told(.0))]
    Unsigned(BoxError),
    #[error("what was signed has {octets} octets, more than {OCTETS_MAX}")]
    LongChain { octets: usize },
    #[error("the issuer's task has failed")]
    Task,
}

/// An error with its sources.
fn told(error: &BoxError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

/// What became of asking an instance.
enum Asked {
    /// There is nothing to do.
    NotDue,
    /// Another link does it.
    Busy,
    /// It renews its certificate otherwise, or its program is older than this one.
    Never,
    /// It has a new certificate, which is this chain.
    Renewed(Vec<CertificateDer<'static>>),
}

impl From<Answer> for NotRenewed {
    fn from(answer: Answer) -> Self {
        Self::Refused { status: answer.status.as_u16(), reason: answer.reason }
    }
}

impl ConnectionPoint {
    /// Has the certificate of the instance at the other end renewed whenever it is due, until the
    /// link ends or the connection point stops. `peer` is the chain that it has shown.
    pub(super) async fn renew_peer(
        &self,
        link: &Link,
        instance: Instance,
        peer: Vec<CertificateDer<'static>>,
    ) {
        let Some(issuer) = &self.inner.config.certificate_issuer else { return };
        tokio::select! {
            () = keep_renewed(link, instance, peer, issuer) => {}
            _ = link.closed() => {}
            () = self.stopped() => {}
        }
    }
}

async fn keep_renewed(
    link: &Link,
    instance: Instance,
    mut peer: Vec<CertificateDer<'static>>,
    issuer: &Arc<dyn CertificateIssuer>,
) {
    let mut backoff = Backoff::new(AGAIN.0, AGAIN.1);
    let mut last_failure = None;
    loop {
        let delay = match ask(link, &peer, issuer).await {
            Ok(Asked::Never) => return,
            Ok(Asked::Busy) => backoff.next(fastrand::f64()),
            Ok(asked) => {
                if let Asked::Renewed(chain) = asked {
                    tracing::info!(%instance, "the instance's link certificate renewed");
                    // It has proven to have the key, and outlives the one that it has shown.
                    peer = chain;
                }
                (backoff, last_failure) = (Backoff::new(AGAIN.0, AGAIN.1), None);
                EVERY.mul_f64(0.9 + 0.2 * fastrand::f64())
            }
            // Another link is about to take its place, or the instance goes.
            Err(_) if !link.is_open() => return,
            Err(why) => {
                let why = why.to_string();
                // It is tried again and again; the log has it once.
                if last_failure.as_ref() != Some(&why) {
                    tracing::warn!(
                        %instance, why,
                        "the instance's link certificate not renewed; it is asked again"
                    );
                }
                last_failure = Some(why);
                backoff.next(fastrand::f64())
            }
        };
        sleep(delay).await;
    }
}

/// Asks an instance, and brings it what it needs.
async fn ask(
    link: &Link,
    peer: &[CertificateDer<'static>],
    issuer: &Arc<dyn CertificateIssuer>,
) -> Result<Asked, NotRenewed> {
    let asking = async {
        let mut answer = tell(link, Method::GET, "/relay/certificate-request", None).await?;
        let is_given = answer.status == StatusCode::OK;
        let request = if is_given { read_request(&mut answer.recv).await? } else { Vec::new() };
        Ok((answer, request))
    };
    let (answer, request) = in_time(asking).await?;
    match answer.status {
        StatusCode::OK => {}
        StatusCode::NO_CONTENT => return Ok(Asked::NotDue),
        StatusCode::CONFLICT => return Ok(Asked::Busy),
        StatusCode::NOT_FOUND => return Ok(Asked::Never),
        _ => return Err(answer.into()),
    }
    let (signing, peer) = (Arc::clone(issuer), peer.to_vec());
    let signed = tokio::task::spawn_blocking(move || signing.issue(&peer, &request)).await;
    let pem = signed.map_err(|_| NotRenewed::Task)?.map_err(NotRenewed::Unsigned)?;
    if OCTETS_MAX < pem.len() {
        return Err(NotRenewed::LongChain { octets: pem.len() });
    }
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|why| NotRenewed::Unsigned(why.to_string().into()))?;
    let bringing =
        async { Ok(tell(link, Method::PUT, "/relay/certificate", Some(pem.into())).await?) };
    let answer = in_time(bringing).await?;
    if answer.status.is_success() { Ok(Asked::Renewed(chain)) } else { Err(answer.into()) }
}

async fn in_time<T>(step: impl Future<Output = Result<T, NotRenewed>>) -> Result<T, NotRenewed> {
    timeout(WITHIN, step).await.unwrap_or(Err(Untold::Timeout(WITHIN).into()))
}

async fn read_request(recv: &mut RecvStream) -> Result<Vec<u8>, NotRenewed> {
    let mut request = Vec::new();
    while let Some(chunk) = recv.read_chunk().await? {
        if OCTETS_MAX < request.len() + chunk.len() {
            return Err(NotRenewed::LongRequest);
        }
        request.extend_from_slice(&chunk);
    }
    Ok(request)
}
