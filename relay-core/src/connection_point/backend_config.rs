//! What a connection point is told about the backends of an endpoint.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use http::uri::PathAndQuery;
use rustls::ClientConfig;
use rustls::pki_types::DnsName;
use tokio::sync::Semaphore;

use crate::transport::{ClientCertificates, TrustAnchors};

use super::config::{ConnectionPointLimits, TIME_MAX};
use super::local_service::LocalService;

/// Backends that one endpoint can have.
pub const BACKENDS_MAX: usize = 16;

/// A site role's HTTP service, at one place or at several that are as good as each other.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BackendConfig {
    /// Each place it is at: `http://host[:port]` or `https://host[:port]`, without path. One, or up
    /// to [`BACKENDS_MAX`]; a request goes to one of them.
    pub urls: Vec<Uri>,
    /// TLS towards an `https://` backend, usually from
    /// [`backend_client_config`](crate::transport::backend_client_config) or
    /// [`backend_client_config_showing`](crate::transport::backend_client_config_showing); unused
    /// for `http://`.
    pub tls: Option<Arc<ClientConfig>>,
    /// What `tls` trusts, if it is made of that and `certificates` alone: connections to backends
    /// then outlive an update that makes it anew of the same. `None`: only the very same `tls` is
    /// the same.
    pub trust: Option<TrustAnchors>,
    /// What `tls` shows to a backend that asks for a certificate, so that it can be told of. `None`
    /// if it shows none, or is the product's own.
    pub certificates: Option<Arc<ClientCertificates>>,
    /// What the backends are called in Host and in TLS, where their certificate must carry it.
    /// `None`: the host of each URL.
    pub name: Option<DnsName<'static>>,
    /// Limits of this endpoint alone.
    pub limits: BackendLimits,
    /// What each backend is asked every now and then; `None`: nothing, the default.
    pub check: Option<BackendCheck>,
    /// The one within the process that this is; `None` if it is behind sockets.
    pub(super) local: Option<LocalService>,
}

/// What a backend within the process is called in place of a URL.
const LOCAL: &str = "local";

impl BackendConfig {
    /// The backend at `url`, with everything else left at its default.
    pub fn new(url: Uri, tls: Option<Arc<ClientConfig>>) -> Self {
        Self {
            urls: vec![url],
            tls,
            trust: None,
            certificates: None,
            name: None,
            limits: BackendLimits::default(),
            check: None,
            local: None,
        }
    }

    /// A backend within the process: one, to which every connection is made whatever `urls` say.
    pub fn local(service: LocalService) -> Self {
        Self { local: Some(service), ..Self::new(Uri::from_static(LOCAL), None) }
    }

    /// The service within the process, if it is one.
    pub fn local_service(&self) -> Option<&LocalService> {
        self.local.as_ref()
    }

    /// Whether pools made for `other` would be the same.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.urls == other.urls && self.is_but_for_urls(other)
    }

    /// Whether the pool of a URL that both have would be the same.
    pub(super) fn is_but_for_urls(&self, other: &Self) -> bool {
        let rest = |it: &Self| (it.name.clone(), it.limits, it.check.clone());
        let is_one = match (&self.local, &other.local) {
            (None, None) => true,
            (Some(own), Some(others)) => own.is(others),
            _ => false,
        };
        rest(self) == rest(other) && is_one && self.has_tls_of(other)
    }

    fn has_tls_of(&self, other: &Self) -> bool {
        match (&self.tls, &other.tls) {
            (None, None) => true,
            (Some(own), Some(others)) => Arc::ptr_eq(own, others) || self.is_made_as(other),
            _ => false,
        }
    }

    /// Whether both say what their TLS is made of, and it is the same.
    fn is_made_as(&self, other: &Self) -> bool {
        let same_trust = match (&self.trust, &other.trust) {
            (Some(own), Some(others)) => own.are_those_of(others),
            _ => false,
        };
        let same_shown = match (&self.certificates, &other.certificates) {
            (Some(own), Some(others)) => own.are_those_of(others),
            (own, others) => own.is_none() && others.is_none(),
        };
        same_trust && same_shown
    }
}

/// Limits towards the backends of one endpoint. What is `None` is as in the field of the same name
/// with `backend_` before it of [`ConnectionPointLimits`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BackendLimits {
    /// Time to connect.
    pub connect: Option<Duration>,
    /// Time from a request to the head of its answer.
    pub answer: Option<Duration>,
    /// Connections open at once to one backend.
    pub connections_max: Option<usize>,
    /// Idle connections kept to one backend.
    pub idle_max: Option<usize>,
    /// How long one is kept.
    pub idle: Option<Duration>,
    /// Requests that may wait for a connection to one backend.
    pub wait_max: Option<usize>,
    /// How long each may.
    pub wait: Option<Duration>,
    /// Failures in a row that have a backend rest.
    pub failures_max: Option<u32>,
    /// How long it rests first.
    pub rest: Option<Duration>,
}

/// A question that a backend in order answers well.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct BackendCheck {
    /// What is asked for, by GET.
    pub path: PathAndQuery,
    /// The status of a good answer. 200 by default.
    pub status: u16,
    /// Time from one answer to the next question. Default 10 s.
    pub interval: Duration,
    /// Time for each answer's head. Default 5 s.
    pub timeout: Duration,
}

impl BackendCheck {
    /// Asks for `path`, with everything else left at its default.
    pub fn new(path: PathAndQuery) -> Self {
        let (interval, timeout) = (Duration::from_secs(10), Duration::from_secs(5));
        Self { path, status: 200, interval, timeout }
    }
}

/// The limits that hold for one backend.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settled {
    pub(super) connect: Duration,
    pub(super) answer: Duration,
    pub(super) connections_max: usize,
    pub(super) idle_max: usize,
    pub(super) idle: Duration,
    pub(super) wait_max: usize,
    pub(super) wait: Duration,
    pub(super) failures_max: u32,
    pub(super) rest: Duration,
}

impl Settled {
    pub(super) fn new(own: &BackendLimits, all: &ConnectionPointLimits) -> Self {
        let connections_max = own.connections_max.unwrap_or(all.backend_connections_max);
        let connections_max = connections_max.clamp(1, Semaphore::MAX_PERMITS);
        let time = |own: Option<Duration>, all| own.unwrap_or(all).min(TIME_MAX);
        Self {
            connect: time(own.connect, all.backend_connect),
            answer: time(own.answer, all.backend_answer),
            connections_max,
            idle_max: own.idle_max.unwrap_or(all.backend_idle_max),
            idle: time(own.idle, all.backend_idle),
            wait_max: own.wait_max.unwrap_or(all.backend_wait_max),
            wait: time(own.wait, all.backend_wait),
            failures_max: own.failures_max.unwrap_or(all.backend_failures_max).max(1),
            rest: time(own.rest, all.backend_rest),
        }
    }
}
