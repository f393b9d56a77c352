//! Shared parts of the cross-room tests.
