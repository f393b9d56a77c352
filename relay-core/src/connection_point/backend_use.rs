//! What a connection to a site role has been used for, for whoever asks why a request on it failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use hyper_util::client::legacy::connect::{CaptureConnection, Connected};

/// What has become of one connection. Clones share it: the pipe writes it, and whoever has sent a
/// request reads it once that has failed, when the connection carries no other.
#[derive(Clone, Debug, Default)]
pub(super) struct Use(Arc<State>);

// Relaxed: the request's failure itself comes over a channel of the HTTP client's.
#[derive(Debug, Default)]
struct State {
    /// Requests that it was given; the last one is that of now.
    requests: AtomicU32,
    /// Whether something of an answer to that one was heard.
    heard: AtomicBool,
}

impl Use {
    /// A request begins.
    pub(super) fn asked(&self) {
        self.0.requests.fetch_add(1, Ordering::Relaxed);
        self.0.heard.store(false, Ordering::Relaxed);
    }

    /// An octet of an answer came.
    pub(super) fn heard(&self) {
        self.0.heard.store(true, Ordering::Relaxed);
    }

    /// Whether nothing of an answer has come.
    pub(super) fn is_unheard(&self) -> bool {
        !self.0.heard.load(Ordering::Relaxed)
    }

    /// Whether it carried another request before: it may have been closed while that of now was on
    /// its way to it, by a site role that is in order.
    pub(super) fn is_used(&self) -> bool {
        self.0.requests.load(Ordering::Relaxed) > 1
    }

    /// Tells of it what the HTTP client is told of the connection.
    pub(super) fn on(&self, connected: Connected) -> Connected {
        connected.extra(self.clone())
    }

    /// That of the connection that a request was given; `None` if it was given none.
    pub(super) fn of(captured: &CaptureConnection) -> Option<Self> {
        let mut extras = http::Extensions::new();
        captured.connection_metadata().as_ref()?.get_extras(&mut extras);
        extras.remove()
    }
}
