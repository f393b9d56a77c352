//! What is counted in instructions, and what of it is one unit.
//!
//! A case does the same work in every run: two engines in memory with time as an argument, or a
//! codec. So its count tells what a change did to the code where a clock would tell mostly about
//! the machine. The benchmark `instructions` counts, the program `instructions` compares.

/// One case.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// `<room>/<operation>/<parameter>`.
    pub id: &'static str,
    /// What is counted.
    pub unit: &'static str,
    /// How many of them one run does.
    pub units: usize,
}

/// DATA frames in a case that is counted by frames.
pub const FRAMES: usize = 64;

/// Small exchanges in a case that is counted by exchanges.
pub const EXCHANGES: usize = 64;

/// Heads in a case that is counted by heads.
pub const HEADS: usize = 16;

/// Every case.
pub const CASES: [Case; 11] = [
    case("mux/encode_data/full", "frame", FRAMES),
    case("mux/encode_data/small", "frame", FRAMES),
    case("mux/decode_data/full", "frame", FRAMES),
    case("mux/carry_data/full", "frame", FRAMES),
    case("mux/decode_frames/small", "frame", FRAMES),
    case("mux/small_exchange/in_flight_1", "exchange", EXCHANGES),
    case("mux/small_exchange/in_flight_64", "exchange", EXCHANGES),
    case("exchange/head/encode_request", "head", HEADS),
    case("exchange/head/encode_answer", "head", HEADS),
    case("exchange/head/decode_request", "head", HEADS),
    case("exchange/head/decode_answer", "head", HEADS),
];

const fn case(id: &'static str, unit: &'static str, units: usize) -> Case {
    Case { id, unit, units }
}
