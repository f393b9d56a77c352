//! The role inside the site: dials out, keeps links up, forwards to site roles.
mod config;

pub use config::{
    BackendConfig, ConnectionPointConfig, ConnectionPointLimits, GatewayAddress, SiteEndpoint,
};
