//! From configuration text to validated configurations.
//!
//! [`load_gateway`] and [`load_connection_point`] read one TOML file each and yield what the role
//! is told at start, or one [`ConfigError`] that shows each line at fault and says what to do: a
//! fault ends nothing, so that all are told at once. [`recognise`] says which role a file is for,
//! and [`site_misfits`] what does not fit between the files of a site.
//! It is the only room that derives `Deserialize` for files; the roles know nothing of files or
//! TOML.
//!
//! It deliberately does not watch files, merge several of them, read an environment but what it is
//! handed ([`Environment`]), or fill a value that an administrator must decide. Nothing here logs:
//! what deserves attention without being wrong is returned as [`Warning`]s. Read [`LoadedGateway`]
//! and [`ConfigError`] first.
//!
//! Relative paths in a file are relative to the folder of that file, so that a folder can be
//! copied to another machine as it is. The files' shape, key by key, is in the comments of what
//! `relay init` writes and in [`load_gateway`] and [`load_connection_point`].

mod admin;
mod backend;
mod backend_url;
mod changes;
mod client_files;
mod clients;
mod connection_point;
mod connection_point_keys;
mod content;
mod egress;
mod endpoint;
mod error;
mod explain;
mod fetch;
mod gateway;
mod gateway_addresses;
mod gateway_keys;
mod limits;
mod listen;
mod material;
mod pem;
mod quic;
mod recognise;
mod repair;
#[cfg(feature = "schema")]
mod schema;
mod site;
mod source;
mod spanned;
mod store;
mod telemetry;
mod tenant;
#[cfg(test)]
mod testing;
mod token_service;
mod tokens;
mod warning;
mod web_proxy;

pub use admin::{AdminListener, admin_address};
pub use backend::BackendFiles;
pub use backend_url::{BackendUrlError, parse_backend_url};
pub use changes::changed_keys;
pub use client_files::{ClientFiles, ClientList};
pub use connection_point::{LoadedConnectionPoint, load_connection_point};
pub use connection_point_keys::CONNECTION_POINT_KEYS;
pub use content::{CloudConfig, CloudKind, ContentConfig, ContentPlace, StoreKey, content_config};
pub use egress::EgressConfig;
pub use error::{ConfigError, Invalid, Place};
pub use gateway::{Listener, LoadedGateway, load_gateway};
pub use gateway_keys::{GATEWAY_KEYS, KeyChange, TakesEffect, gateway_changes};
pub use material::{
    ConnectionPointMaterial, ConnectionPointTls, GatewayMaterial, GatewayTls, IdentityPaths,
    MaterialError, SitePaths,
};
pub use recognise::{RoleKind, recognise};
#[cfg(feature = "schema")]
pub use schema::{connection_point_schema, gateway_schema};
pub use site::site_misfits;
pub use source::TEXT_BYTES_MAX;
pub use store::{PostgresHost, PostgresStore, SiteStore};
pub use telemetry::TelemetryConfig;
pub use token_service::{IntranetListener, TokenServiceConfig};
pub use tokens::{SiteTokens, site_tokens};
pub use warning::Warning;
pub use web_proxy::Environment;
