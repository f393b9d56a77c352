//! What providers say of themselves: no panic, and one reading.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| relay_core::auth::reference::metadata(data));
