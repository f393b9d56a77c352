//! Targets: what the site is asked for means the same however often it is decoded.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| relay_core::policy::reference::path(data));
