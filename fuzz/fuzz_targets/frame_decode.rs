//! The decoder against a naive reference decoder, whole and at any split.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| relay_core::mux::reference::frame_decode(data));
