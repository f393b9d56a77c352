//! Shared parts of the cross-room tests.

pub mod mux;
