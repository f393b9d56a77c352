//! Which HTTP/1.1 messages everybody on the way reads alike, and where each of them ends.
//!
//! A server forgives what its author has seen in the wild; the next server forgives something else.
//! Where the two disagree about the end of a message, one client's octets become another's request.
//! So octets are judged here before any parser sees them, by the letter of RFC 9112: what passes
//! has one reading. Nothing is repaired.
//!
//! No I/O and no clock: [`RequestGuard`] and [`AnswerGuard`] are handed octets as they come, one
//! for each direction of a connection, and say how many may be passed on. Read [`Fault`] for what
//! is refused. What passes may still differ in the case of names, which [`write_names`] keeps.
#![warn(clippy::indexing_slicing)]

mod answer;
mod case;
mod chunked;
mod fault;
mod fields;
mod lines;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod reference;
mod request;

pub use answer::AnswerGuard;
pub use case::{is_usual_case, write_names};
pub use fault::Fault;
pub use request::{Head, RequestGuard};

/// How large a message may be. The defaults are those of this project's document of limits.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Octets of the first line, without its end. Default 8 KiB.
    pub first_line: usize,
    /// Octets of a field, from its name to the end of its value. Default 8 KiB.
    pub field: usize,
    /// Octets of a head, with the empty line. Default 32 KiB. Trailers have as many again.
    pub head: usize,
    /// Fields of a head, and of trailers. Default 64.
    pub fields: usize,
    /// Octets of all extensions of one body's chunks. Default 4 KiB: nobody reads any.
    pub extensions: usize,
    /// Interim answers to one request. Default 16.
    pub interim: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            first_line: 8 << 10,
            field: 8 << 10,
            head: 32 << 10,
            fields: 64,
            extensions: 4 << 10,
            interim: 16,
        }
    }
}
