//! Head blocks of all kinds: no panic, and what is accepted is encoded again octet for octet.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| relay_core::exchange::reference::head_block(data));
