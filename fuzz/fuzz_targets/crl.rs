//! Revocation lists: no panic, and none is taken that no authority has signed.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| relay_core::auth::reference::crl(data));
