//! The locks and atomics over which driver and handles meet: std's, or loom's in the models.
//!
//! Only what is here is shared without one of tokio's own primitives. `Arc` is always std's: its
//! counts decide nothing but when memory is freed, and the models look for leaks with `Weak`, which
//! loom lacks.

#[cfg(all(test, relay_loom))]
pub(super) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};
#[cfg(not(all(test, relay_loom)))]
pub(super) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};
