//! The program as running processes, with programs that are not ours around it.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

mod admin;
mod analyze;
mod blocks;
mod client;
mod completions;
mod demo;
mod descriptors;
mod doctor;
mod egress;
mod expiry;
mod gateway_file;
mod kernel;
mod man;
mod material;
mod metrics;
mod nginx_curl;
mod page;
mod probes;
mod reload;
mod renewal;
mod restarts;
mod secrets;
mod service;
#[cfg(feature = "otel")]
mod spans;
#[cfg(not(feature = "otel"))]
mod spans_absent;
mod stopping;
mod store;
#[cfg(feature = "postgres")]
mod store_shared;
mod supervisor;
mod support;
mod token;
