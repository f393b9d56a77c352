//! The admin listener of a running role, and the commands that ask it.
//!
//! It listens on loopback alone and serves whoever has an account on the machine: what links there
//! are, what is logged, and drains. It never shows a secret. `server.rs` answers, `client.rs` asks,
//! `status.rs` is what travels between them, `text.rs` shows it to people; `ready.rs` says whether
//! the role should be sent requests, `metrics` what Prometheus reads, `traffic.rs` what came to
//! each endpoint, `expiry.rs` what ends. `page` shows it all in a browser.

mod client;
mod expiry;
mod metrics;
mod page;
mod ready;
mod server;
mod status;
mod text;
mod traffic;

pub(crate) use client::{
    DRAIN_EXAMPLES, DrainArgs, LOG_EXAMPLES, LogArgs, STATUS_EXAMPLES, StatusArgs, drain, log,
    status as show_status,
};
pub(crate) use server::{Admin, Role};

/// Asked for in each request that changes something. A page in a browser on this machine cannot
/// send it without being asked for leave first, which nobody grants.
const HEADER: &str = "relay-admin";
