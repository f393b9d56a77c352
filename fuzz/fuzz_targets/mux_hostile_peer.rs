//! One engine against any octets behind a valid hello: bounded work, bounded memory, one named
//! error.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| relay_core::mux::reference::mux_hostile_peer(data));
