//! Tokens: no panic, and nothing that nobody has signed proves anything.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| relay_core::auth::reference::jwt(data));
