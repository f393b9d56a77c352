//! Two engines that do any operations, against the model; and against a hostile peer.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| relay_core::mux::reference::mux_ops(data));
