//! What a build without the feature `quic` has of QUIC: the name of what it lacks.

/// A UDP socket on which links are taken. This build has none: see the feature `quic`.
#[derive(Debug)]
pub enum QuicListener {}
