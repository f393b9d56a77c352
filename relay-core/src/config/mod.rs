//! From configuration text to validated configurations.
