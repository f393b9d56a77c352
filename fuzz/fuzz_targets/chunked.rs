//! Chunked bodies: one verdict in any pieces, and a naive decoder ends them in the same place.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| relay_core::http1::reference::chunked(data));
