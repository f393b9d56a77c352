//! Chains of certificates: no panic, and nothing is proven without a root.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| relay_core::auth::reference::client_certificate(data));
