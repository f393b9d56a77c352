//! Answers over HTTP/1.1: one verdict in any pieces, and `httparse` agrees with what passes.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| relay_core::http1::reference::answer_head(data));
