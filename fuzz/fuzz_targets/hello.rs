//! Prefaces and hellos at any split: no panic, and what is accepted survives encoding.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| relay_core::mux::reference::hello(data));
