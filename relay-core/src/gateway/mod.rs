//! The role in the cloud: it serves clients over HTTPS and relays what policy lets pass over a
//! link.
//!
//! This room terminates clients' TLS, judges each request, picks a live link, and moves bodies both
//! ways. It keeps no client data. What is published it is told by connection points: see
//! `control.rs`. It never dials a site: connection points dial it. It asks providers of keys and
//! servers of revocation lists, if it is told to: see `fetching.rs`. Content that it holds it gives
//! to clients by itself: see `content.rs`. Read [`Gateway`] first, then
//! `relay.rs`, the life of one request.
//!
//! Every failure is mapped to an answer in one place, `failure.rs`.

mod accept;
mod access;
mod addresses;
mod answer;
mod clients;
mod config;
mod content;
mod content_body;
mod content_piece;
mod control;
mod counted;
mod drained;
mod failure;
mod fetching;
mod guarded;
mod halt;
mod history;
mod http2;
mod http2_places;
mod http2_rates;
mod http2_stream;
mod identify;
mod interim;
mod judging;
mod line;
mod lines;
mod links;
mod meter;
mod names;
mod newcomer;
mod opening;
mod overload;
mod own;
mod pace;
mod patient;
mod possession;
mod pressure;
mod proofs;
mod published;
#[cfg(feature = "quic")]
mod quic;
mod refused;
mod registry;
mod relay;
mod renewal;
mod renewal_exchange;
mod replay;
mod serve;
mod status;
mod terms;
mod traffic;
mod unfit;

pub use answer::AnswerBody;
pub use clients::check_clients;
pub use config::{Balance, GatewayConfig, GatewayLimits};
pub use content::{ContentStore, Place, StoreFault, Stored, Visit};
pub use fetching::{SourceFailure, SourceKind, SourceState, SourceStatus};
pub use halt::Halt;
pub use history::{EndedLink, LinkEnd};
pub use judging::{Foretold, ForetoldAnswer, ForetoldRefusal, ForetoldRelay, foretell};
pub use meter::Durations;
pub use pressure::{MemoryLimit, MemoryStatus, Pressure};
pub use proofs::ProofCount;
pub use published::{AppliedSettings, RefusedSettings, SettingsSnapshot, SiteSettings};
pub use renewal::{CertificateKeeper, CertificateRequest, HeldCertificate};
pub use serve::{Gateway, LinkRefused, Listeners};
pub use status::{GatewayStatus, LinkStatus};
pub use terms::GatewayUpdate;
pub use traffic::{EndpointTraffic, TrafficReports, TrafficRow, TrafficWindow};

/// Names of the headers that the gateway adds to every answer.
pub mod header {
    use http::HeaderName;

    /// The message id: a GUID that goes through every hop, log line and answer of one request.
    pub const MESSAGE_ID: HeaderName = HeaderName::from_static("relay-message-id");

    /// Which hop decided and why; the same text as the reason phrase, which HTTP/2 does not have.
    pub const REASON: HeaderName = HeaderName::from_static("relay-reason");
}
