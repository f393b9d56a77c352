//! Fuzzing inputs that were written, not found: what a fuzzer meets seldom or never by itself.
//!
//! Each is a file of a corpus under `fuzz/corpus`, with the name given here. A test holds the files
//! against these functions, so that nobody has to read octets to know what one is for.

mod auth;
mod content;
mod edge;

use relay_core::mux::reference::ROOMY;
use relay_core::mux::{Flags, Header, Kind, StreamId};

/// An input.
#[derive(Clone, Debug)]
pub struct Seed {
    /// The fuzz target that takes it.
    pub target: &'static str,
    /// Its file.
    pub name: &'static str,
    /// Its octets.
    pub octets: Vec<u8>,
}

/// Every written seed.
pub fn all() -> Vec<Seed> {
    let all = [
        roomy_ops(),
        ends(),
        consumers(),
        hostile_peers(),
        settings(),
        edge::all(),
        auth::all(),
        content::all(),
        heads(),
    ];
    all.into_iter().flatten().collect()
}

/// Heads of requests with the certificate of their client, and its limits on both sides.
fn heads() -> Vec<Seed> {
    let sized = |name, octets: usize| {
        let value = vec![0x30; octets];
        let length = |octets: usize| u16::try_from(octets).unwrap_or(u16::MAX).to_be_bytes();
        let section = length(3 + octets + 19);
        // Limits of the defaults; version 1, a request; GET; the target `/`.
        let front = [0, 0x11, 0x01, 0, 1, b'/'];
        let certificate = [&[0x04][..], &length(octets), &value].concat();
        let id = [&[0x81, 0, 16][..], &[7; 16], &[0, 0]].concat();
        let octets = [&front[..], &section, &certificate, &id].concat();
        Seed { target: "head_block", name, octets }
    };
    vec![
        sized("written-certificate", 3),
        sized("written-certificate-empty", 0),
        sized("written-certificate-largest", 4096),
        sized("written-certificate-too-large", 4097),
    ]
}

/// What the listener's octet becomes when the dialer does it.
const DIALER: u8 = 0x80;

/// Four octets of an operation, see [`relay_core::mux::reference::op::Op::from_octets`].
type Raw = [u8; 4];

const SETTLE: Raw = [0, 0, 0, 0];
const OPEN: Raw = [10, 0, 0, 20];
const ANSWER: Raw = by_dialer([13, 0, 2, 10]);
const ANSWER_INTERIM: Raw = by_dialer([13, 0, 0, 5]);
const DRAIN: Raw = [30, 0, 0xff, 0];
const CLOSE: Raw = [30, 0, 0xfe, 0];
const LOSE: Raw = [30, 0, 0xfd, 0];
const DELIVER: Raw = [4, 0, 0, 0];
const TRAILERS: Raw = [21, 0, 0, 9];
const RESET: Raw = [22, 0, 0, 0];
const STOP: Raw = [23, 0, 0, 0];
const TAKE_ALL: Raw = [26, 0, 0, 0];
const RELEASE: Raw = [28, 0, 0, 0];

/// The listener writes so many octets on its newest stream but `pick`.
const fn write(pick: u8, octets: u16) -> Raw {
    let [long, short] = octets.to_be_bytes();
    [15, pick, long, short]
}

/// It writes so many times 256 octets.
const fn write_large(pick: u8, times: u8) -> Raw {
    [30, pick, 0xfc, times]
}

/// The listener's pipe takes so many times 256 octets.
const fn transmit_large(times: u8) -> Raw {
    [30, 0, 0xfb, times]
}

/// The listener's pipe takes a batch.
const TRANSMIT: Raw = [1, 0, 0, 0];

/// So many octets reach the listener; below 16.
const fn deliver(octets: u8) -> Raw {
    [31, 0, 0, octets]
}

/// What `raw` has the listener do, done by the dialer.
const fn by_dialer([what, pick, long, short]: Raw) -> Raw {
    [what | DIALER, pick, long, short]
}

fn script(name: &'static str, settings: u8, ops: &[Raw]) -> Seed {
    let octets = [&[settings], ops.as_flattened()].concat();
    Seed { target: "mux_ops", name, octets }
}

/// Scripts that fill what has room for tens of KiB.
fn roomy_ops() -> Vec<Seed> {
    let bulk = [
        &[OPEN, OPEN, SETTLE, ANSWER, by_dialer([13, 1, 2, 10])][..],
        // 50 KiB and more of the older stream have been sent: from now on it waits behind others.
        &[by_dialer(write_large(1, 200)), by_dialer(transmit_large(100)), SETTLE],
        &[by_dialer(write_large(1, 100)), by_dialer(write_large(0, 120)), SETTLE, TAKE_ALL, SETTLE],
        &[by_dialer(write_large(1, 200)), by_dialer(write_large(0, 200)), SETTLE],
    ];
    // The listener's frames are copied: the written front of the copy is forgotten while something
    // behind it is left, and a full batch is not added to.
    let full_batch = [
        &[OPEN, SETTLE, write_large(0, 255), transmit_large(0), transmit_large(0)][..],
        &[transmit_large(234), write_large(0, 120), transmit_large(40), SETTLE],
    ];
    // The last frame that fits a batch leaves a short rest of a payload that the batch holds too;
    // what is joined to the rest must not change it.
    let shared = [
        &[OPEN, SETTLE, ANSWER, SETTLE, by_dialer(write(0, 256))][..],
        &[by_dialer(write_large(0, 255)), by_dialer(transmit_large(1))],
        &[by_dialer(write(0, 10)), SETTLE],
    ];
    vec![
        script("written-bulk-waits-behind-urgent", ROOMY, &bulk.concat()),
        script("written-batch-is-full-and-topped-up", ROOMY, &full_batch.concat()),
        script("written-short-payload-joins-a-shared-one", ROOMY, &shared.concat()),
    ]
}

/// Scripts for the ends of streams and links.
fn ends() -> Vec<Seed> {
    let mut interim = vec![OPEN, SETTLE];
    interim.extend([ANSWER_INTERIM; 9]);
    interim.extend([SETTLE, ANSWER, SETTLE]);
    let inside_a_frame = [
        &[OPEN, TRANSMIT, by_dialer(DELIVER), write(0, 200), TRANSMIT][..],
        &[by_dialer(deliver(12)), by_dialer(RELEASE), by_dialer(TRANSMIT), SETTLE],
    ];
    let crossing = [OPEN, SETTLE, TRAILERS, by_dialer(RESET), SETTLE];
    vec![
        script("written-nine-interim-heads", 0, &interim),
        script("written-stream-goes-inside-a-frame", 0, &inside_a_frame.concat()),
        script("written-trailers-cross-a-reset", 0, &crossing),
        script("written-closed", 1, &[OPEN, write(0, 99), CLOSE, CLOSE, SETTLE, by_dialer(LOSE)]),
        script("written-lost", 1, &[OPEN, write(0, 99), LOSE, SETTLE, CLOSE, by_dialer(LOSE)]),
        script("written-lost-after-goodbye", 1, &[OPEN, DRAIN, SETTLE, by_dialer(LOSE), SETTLE]),
    ]
}

/// Consumers that take nothing of what waits for 90 s, in which links live on.
fn consumers() -> Vec<Seed> {
    const STEPS: usize = 18;
    const STEP_MS: u16 = 5000;
    let [long, short] = STEP_MS.to_be_bytes();
    let waits = [[8, 0, long, short], SETTLE].repeat(STEPS);
    let unread = [OPEN, write(0, 99), SETTLE];
    let answers = [ANSWER, by_dialer(write(0, 50)), SETTLE];
    let stops = [&unread[..], &[by_dialer(STOP)], &waits, &answers].concat();
    let end = [20, 0, 0, 0];
    let stops_after_end = [&unread[..], &[end, SETTLE, by_dialer(STOP)], &waits, &answers].concat();
    vec![
        script("written-consumer-stalls", 3, &[&unread[..], &waits, &answers].concat()),
        script("written-consumer-stops-and-answers", 3, &stops),
        script("written-consumer-stops-after-the-end-and-answers", 3, &stops_after_end),
    ]
}

/// A frame.
fn frame(kind: Kind, flags: Flags, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("a seed is short");
    [&Header::encode(kind, flags, StreamId::from_wire(stream), len)[..], payload].concat()
}

fn hostile_peers() -> Vec<Seed> {
    let seed = |name, head: [u8; 4], frames: &[u8]| Seed {
        target: "mux_hostile_peer",
        name,
        octets: [&head, frames].concat(),
    };
    let ping = frame(Kind::Ping, Flags::NONE, 0, &[7; 8]);
    let streams = frame(Kind::Streams, Flags::NONE, 0, &2u64.to_be_bytes());
    vec![
        // Octet by octet, 40 ms each: the bucket runs empty and fills again.
        seed("written-pings-in-their-own-time", [0, 0x80, 0, 0], &ping.repeat(16)),
        // What the hello has granted already.
        seed("written-streams-grants-nothing", [0, 0x02, 0, 1], &streams.repeat(3)),
    ]
}

/// Settings that are valid, and one of each kind that is not, see the fuzz target `hello`.
fn settings() -> Vec<Seed> {
    let seed = |name, set: &[(u8, u32)]| {
        let mut octets = vec![0x80, 0, 0];
        for (which, value) in set {
            octets.push(*which);
            octets.extend_from_slice(&value.to_be_bytes());
        }
        Seed { target: "hello", name, octets }
    };
    vec![
        seed("written-settings-are-valid", &[(0, 1 << 10), (3, 256), (9, 1), (11, 0xfc)]),
        seed("written-window-too-small", &[(0, (1 << 10) - 1)]),
        seed("written-time-too-short", &[(8, 0)]),
        seed("written-name-has-control", &[(11, 0x0a)]),
        seed("written-floors-exceed-memory", &[(10, 1 << 20)]),
    ]
}
