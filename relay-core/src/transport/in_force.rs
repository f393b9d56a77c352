//! A TLS configuration that is replaced while it is used.

use std::sync::{Arc, PoisonError, RwLock};

/// What holds for connections that begin now. Those that have begun keep what they began with.
#[derive(Debug)]
pub struct InForce<T>(RwLock<Arc<T>>);

impl<T> InForce<T> {
    /// Begins with `first`.
    pub fn new(first: Arc<T>) -> Self {
        Self(RwLock::new(first))
    }

    /// What holds now.
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Has `next` hold from now on.
    pub fn set(&self, next: Arc<T>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = next;
    }
}
