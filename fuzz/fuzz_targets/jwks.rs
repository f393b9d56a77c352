//! Key sets: no panic, and what is taken is within its limits.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| relay_core::auth::reference::jwks(data));
