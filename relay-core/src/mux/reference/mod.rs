//! What the engine is judged by, written to be obviously right and not to be fast.
//!
//! - [`decoder`] reads frames from whole octets, straight from the specification.
//! - [`referee`] watches one direction of the wire and knows what may be sent when.
//! - [`op`] is something that the owner of a link, the pipe or the clock can do.
//! - [`carrier`] is what octets go through from one engine to the other: pipes of memory here, and
//!   whatever else carries octets in order, from outside.
//! - [`pair`] joins two engines by a carrier and does operations; [`end`] is one side, and predicts
//!   what its engine must answer; [`view`] is what one side knows of one stream; `judge` says what
//!   the model says to events and to the state at rest.
//! - `hostile` is one engine against any octets, without predictions; `hello` holds the decoder of
//!   prefaces and hellos against the engine and against what it encodes.
//!
//! The invariants of a link, and who asserts them after every operation or, where it says so, at
//! rest, that is when everything ready has been sent and delivered:
//!
//! - What is read is a prefix of what was written: `on_data` of `judge` compares the octets, and at
//!   rest that none stays behind.
//! - Credit is conserved: [`referee`] lets nobody send or open more than was granted, `room` of
//!   [`end`] predicts to the octet what a writer may write, `check_memory` bounds what is granted,
//!   and at rest nobody lacks credit that the peer has to give, for payload as for streams.
//! - What is reserved stays within the budget, of the link and of those that share one:
//!   `check_memory` of [`end`] and `check_budget` of [`pair`]. Reserved covers what is held and
//!   what was promised.
//! - At rest nothing ready is unflushed: `check_at_rest` of [`pair`]; and whenever an engine leaves
//!   its batch empty, it does so again when asked at once, see `fill_batch` of [`end`].
//! - Each half of each stream ends once on each side, by an event or by what that side did itself,
//!   and is told nothing more: the states of [`view`], counted at rest by its `ended_once`.
//! - When every stream was let go of, everything is as at the start: `check_nothing_left` of
//!   `judge`. When the engines are gone, the shared budget is whole again: `finish` of [`pair`].
//!
//! Property tests, fuzz targets and the replay of their corpora share these. Nothing here is used
//! by the engine; every violation is a panic that says what was violated. Hidden behind the feature
//! `fuzzing` and not covered by semver.
//!
//! Read [`pair::Pair`] first, then [`referee::Referee`].

pub mod carrier;
pub mod decoder;
pub mod end;
mod hello;
mod hostile;
mod judge;
pub mod op;
pub mod pair;
pub mod referee;
pub mod view;

use std::time::Duration;

use super::{Config, FrameLimits, MemoryBudget};
use carrier::{Carrier, Pipe};
use decoder::Limits;
use op::Op;
use pair::Pair;

pub use hello::hello;
pub use hostile::{HOSTILE_OCTETS_MAX, mux_hostile_peer};

/// The body of the fuzz target `frame_decode`: the decoder agrees with the reference decoder on
/// `data`, whole and at every split that the first three octets of `data` choose.
///
/// # Panics
///
/// If they differ.
pub fn frame_decode(data: &[u8]) {
    let Some((&[limits, seed1, seed0], octets)) = data.split_first_chunk::<3>() else { return };
    let limits = match limits % 3 {
        0 => FrameLimits { payload_max: 16_376, head_max: 16_376 },
        1 => FrameLimits { payload_max: 256, head_max: 512 },
        _ => FrameLimits { payload_max: 65_528, head_max: 300 },
    };
    let expected = decoder::decode_all(octets, Limits::from(limits));
    let seed = u16::from_be_bytes([seed1, seed0]);
    assert_eq!(decoder::merged(octets, limits, &[]), expected, "whole");
    let splits = splits(octets.len(), seed);
    assert_eq!(decoder::merged(octets, limits, &splits), expected, "split at {splits:?}");
}

/// Lengths of the parts that `len` octets arrive in, chosen by `seed`; 0 means octet by octet.
fn splits(len: usize, seed: u16) -> Vec<usize> {
    let mut state = u64::from(seed);
    let mut parts = Vec::new();
    let mut covered = 0;
    while covered < len {
        // Knuth, "The Art of Computer Programming", volume 2, section 3.3.4: MMIX.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let part = if seed == 0 { 1 } else { 1 + usize::from(state.to_be_bytes()[0]) };
        parts.push(part);
        covered += part;
    }
    parts
}

/// The body of the fuzz target `mux_ops`: [`mux_ops_over`] a pipe that takes every write whole.
///
/// # Panics
///
/// If an engine does anything that the model or the referee does not allow.
pub fn mux_ops(data: &[u8]) {
    mux_ops_over(Pipe::whole(), data);
}

/// Two engines do what `data` says over `carrier`, the model predicts.
///
/// The first octet chooses the settings, every four octets after it are one [`Op`].
///
/// # Panics
///
/// If an engine does anything that the model or the referee does not allow.
pub fn mux_ops_over(carrier: impl Carrier, data: &[u8]) {
    let Some((&settings, ops)) = data.split_first() else { return };
    let mut pair = Pair::new(configs(settings), carrier);
    for raw in ops.as_chunks::<4>().0.iter().take(OPS_MAX) {
        pair.apply(Op::from_octets(*raw));
    }
    pair.finish();
}

/// Operations of one run at most, so that one input takes milliseconds.
pub const OPS_MAX: usize = 400;

/// Settings of listener and dialer: mostly small, so that every limit is met often, and not the
/// same.
pub fn configs(choice: u8) -> [Config; 2] {
    if choice >= ROOMY {
        return roomy_configs();
    }
    let tiny = |accept: u32, open: u32| Config {
        stream_window: 1024,
        receive_memory_max: u64::from(accept + open) * 1024 + 5 * 1024,
        accept_streams_max: accept,
        open_streams_max: open,
        payload_max: 256,
        head_max: 256,
        send_queue_max: 700,
        send_queue_shared: 0,
        ping_timeout: Duration::from_mins(1),
        ..Config::default()
    };
    if choice == SHARED {
        return sharing_configs(&tiny(3, 3));
    }
    match choice % 5 {
        0 => [tiny(1, 2), tiny(2, 1)],
        1 => [tiny(3, 5), Config { send_queue_max: 4096, payload_max: 1500, ..tiny(4, 3) }],
        2 => [Config { head_max: 300, stream_window: 1500, ..tiny(0, 4) }, tiny(8, 4)],
        // A stream alone may queue what four have room for otherwise.
        3 => [Config { send_queue_shared: 2800, ..tiny(9, 9) }, tiny(9, 9)],
        _ => [
            Config { receive_memory_max: 1 << 20, ..tiny(5, 5) },
            Config { receive_memory_max: 6 * 1024, send_queue_max: 1, ..tiny(3, 3) },
        ],
    }
}

/// The choice of settings by which both sides share one budget of memory: beyond the floors it has
/// what one window of one of them grows by.
pub const SHARED: u8 = ROOMY - 1;

fn sharing_configs(each: &Config) -> [Config; 2] {
    let memory = MemoryBudget::new(2 * each.floors() + u64::from(each.stream_window));
    let each = Config { memory: Some(memory), ..each.clone() };
    [each.clone(), each]
}

/// Choices from here on are settings with room for what small ones never meet: payload that
/// travels uncopied, streams that have sent enough to wait behind others, batches that are full.
pub const ROOMY: u8 = 240;

fn roomy_configs() -> [Config; 2] {
    let stream_window = 96 << 10;
    let roomy = |payload_max: u32| Config {
        stream_window,
        receive_memory_max: 9 * u64::from(stream_window),
        accept_streams_max: 4,
        open_streams_max: 4,
        payload_max,
        send_queue_shared: 0,
        ping_timeout: Duration::from_mins(1),
        ..Config::default()
    };
    // What the listener sends is copied, what the dialer sends is not.
    [roomy(16_376), roomy(1024)]
}
