//! Shared parts of the cross-room tests.

pub mod mux;
pub mod paths;

/// Compiles the README's examples.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;

pub mod bed;
pub mod carriers;
pub mod client;
pub mod clients;
pub mod content;
pub mod http2;
pub mod llhttp;
pub mod logs;
pub mod origin;
pub mod pki;
pub mod provider;
pub mod quic;
pub mod raw;
pub mod reading;
pub mod renewal;
pub mod roles;
pub mod running;
pub mod seeds;
pub mod site;
pub mod tls_site;
pub mod tokens;
