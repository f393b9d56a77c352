//! The role in the cloud: client edge, link listener, registry, balance.
mod config;

pub use config::{GatewayConfig, GatewayLimits};
