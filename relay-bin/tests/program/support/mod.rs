//! Real programs around the relay, each in a temporary folder and ended by its own handle.

#[cfg(feature = "cloud")]
pub(crate) mod authority;
pub(crate) mod browser;
pub(crate) mod curl;
pub(crate) mod load;
pub(crate) mod namespace;
pub(crate) mod nginx;
pub(crate) mod origin;
#[cfg(feature = "postgres")]
#[allow(dead_code, reason = "the program's own tests of its store use the rest")]
pub(crate) mod postgres;
#[cfg(feature = "cloud")]
pub(crate) mod recorder;
pub(crate) mod role;
pub(crate) mod signal;
pub(crate) mod site;
#[cfg(feature = "cloud")]
pub(crate) mod stores;
pub(crate) mod table;
pub(crate) mod tenant;

use std::process::{Command, Stdio};

/// Names of those of `tools` that cannot be started here.
pub(crate) fn missing<'a>(tools: &[(&'a str, &str)]) -> Vec<&'a str> {
    let starts = |(tool, flag): &(&str, &str)| {
        let mut command = Command::new(tool);
        command.arg(flag).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    tools.iter().filter(|tool| !starts(tool)).map(|(tool, _)| *tool).collect()
}

/// Whether this run may not skip what it cannot do.
pub(crate) fn tools_are_required() -> bool {
    std::env::var_os("RELAY_REQUIRE_TOOLS").is_some_and(|value| value == "1")
}

/// Octets that look random and are the same at each call.
pub(crate) fn octets(len: usize) -> Vec<u8> {
    // SplitMix64, less a round: any pattern that does not repeat within a frame would do.
    let mix = |n: u64| {
        let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9).to_be_bytes()[0]
    };
    (1..).map(mix).take(len).collect()
}
