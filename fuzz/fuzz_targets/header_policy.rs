//! Headers: what is stripped is what may not pass, and to strip twice changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| relay_core::policy::reference::header_policy(data));
