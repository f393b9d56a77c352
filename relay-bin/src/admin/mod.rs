//! The admin listener of a running role, and the commands that ask it.
//!
//! It listens on loopback alone and serves whoever has an account on the machine: what links there
//! are, what is logged, drains, and whether clients are served. It never shows a secret.
//! `server.rs` answers, `client.rs` asks, `status.rs` is what travels between them, `text.rs` shows
//! it to people; `ready.rs` says whether the role should be sent requests, `metrics` what
//! Prometheus reads, `traffic.rs` what came to each endpoint, `egress.rs` what was sent to clients,
//! `expiry.rs` what ends, `configuration.rs` what of the file does not hold. `page` shows it all in
//! a browser.

mod client;
mod configuration;
mod egress;
mod expiry;
mod metrics;
mod page;
mod ready;
mod server;
mod status;
mod text;
mod traffic;

pub(crate) use client::{
    DRAIN_EXAMPLES, DrainArgs, LOG_EXAMPLES, LogArgs, SERVICE_EXAMPLES, STATUS_EXAMPLES,
    ServiceCommand, StatusArgs, drain, log, service, status as show_status, status_at, told_at,
};
pub(crate) use configuration::Configured;
pub(crate) use server::{Admin, Role};

/// Asked for in each request that changes something. A page in a browser on this machine cannot
/// send it without being asked for leave first, which nobody grants.
const HEADER: &str = "relay-admin";
