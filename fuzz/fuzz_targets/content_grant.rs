//! Grants for content: no panic, nothing counts unsigned, and what is read is within its limits.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| relay_core::content::reference::content_grant(data));
