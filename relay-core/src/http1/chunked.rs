//! A chunked body: where it ends, whatever the pieces in which it comes.

use super::fields::{is_token, is_token_octet};
use super::{Fault, Limits};

/// Follows a chunked body through its trailers. RFC 9112, section 7.1.
#[derive(Clone, Debug)]
pub(super) struct Chunked {
    state: State,
    /// Octets of extensions so far, in all chunks.
    extensions: usize,
    /// Octets of trailers so far, and how many fields they are.
    trailers: usize,
    fields: usize,
    /// Octets of the trailer that is being read.
    field: usize,
}

/// What comes next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// A chunk's size, of which this many digits were read.
    Size {
        digits: u8,
        size: u64,
    },
    /// An extension.
    Extension {
        size: u64,
        part: Part,
    },
    /// LF behind a size.
    SizeEnd {
        size: u64,
    },
    /// Octets of a chunk.
    Data {
        left: u64,
    },
    /// CR and LF behind a chunk.
    DataCr,
    DataLf,
    /// A trailer, or the end.
    Trailer,
    TrailerName,
    TrailerValue,
    TrailerEnd,
    /// LF behind the last CR.
    LastLf,
    Ended,
}

/// Where in an extension. RFC 9112, section 7.1.1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Part {
    /// At the first octet of its name.
    Begin,
    Name,
    /// At the first octet of its value.
    Equals,
    Value,
    Quoted,
    /// Behind a backslash.
    Escaped,
    /// Behind a quoted value.
    Closed,
}

impl Chunked {
    pub(super) fn new() -> Self {
        let state = State::Size { digits: 0, size: 0 };
        Self { state, extensions: 0, trailers: 0, fields: 0, field: 0 }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Follows the octets that come next. Returns how many of them are the body's: fewer than there
    /// are only if it has ended.
    pub(super) fn follow(&mut self, octets: &[u8], limits: &Limits) -> Result<usize, Fault> {
        let mut place = 0;
        while let Some(&octet) = octets.get(place) {
            if let State::Data { left } = self.state {
                let here = (octets.len() - place) as u64;
                let taken = left.min(here);
                self.state =
                    if taken == left { State::DataCr } else { State::Data { left: left - taken } };
                // It is at most what is here.
                place += usize::try_from(taken).unwrap_or(usize::MAX);
                continue;
            }
            if self.has_ended() {
                break;
            }
            self.state = self.step(octet, limits)?;
            place += 1;
        }
        Ok(place)
    }

    fn step(&mut self, octet: u8, limits: &Limits) -> Result<State, Fault> {
        match self.state {
            State::Size { digits, size } => size_step(digits, size, octet),
            State::Extension { size, part } => {
                self.extensions += 1;
                if self.extensions > limits.extensions {
                    return Err(Fault::ExtensionsTooLong(limits.extensions));
                }
                let ends = matches!(part, Part::Name | Part::Value | Part::Closed);
                if octet == b'\r' && ends {
                    return Ok(State::SizeEnd { size });
                }
                let part = extension_step(part, octet).ok_or_else(|| wrong_extension(octet))?;
                Ok(State::Extension { size, part })
            }
            State::SizeEnd { size: 0 } => after_cr(octet, State::Trailer),
            State::SizeEnd { size } => after_cr(octet, State::Data { left: size }),
            State::DataCr if octet == b'\r' => Ok(State::DataLf),
            State::DataLf if octet == b'\n' => Ok(State::Size { digits: 0, size: 0 }),
            State::Trailer | State::TrailerName | State::TrailerValue | State::TrailerEnd => {
                self.trailer_step(octet, limits)
            }
            State::LastLf => {
                self.count_trailer(limits)?;
                after_cr(octet, State::Ended)
            }
            // `follow` does not ask in the last two.
            State::DataCr | State::DataLf | State::Data { .. } | State::Ended => {
                Err(Fault::ChunkEnd)
            }
        }
    }

    /// Counts an octet of the trailers, of which the empty line is one.
    fn count_trailer(&mut self, limits: &Limits) -> Result<(), Fault> {
        self.trailers += 1;
        if self.trailers > limits.head { Err(Fault::HeadTooLong(limits.head)) } else { Ok(()) }
    }

    fn trailer_step(&mut self, octet: u8, limits: &Limits) -> Result<State, Fault> {
        self.count_trailer(limits)?;
        // Without its end, as in a head.
        let is_end = octet == b'\r' || self.state == State::TrailerEnd;
        self.field += usize::from(!is_end);
        if self.field > limits.field {
            return Err(Fault::FieldTooLong(limits.field));
        }
        match (self.state, octet) {
            (State::Trailer, b'\r') => Ok(State::LastLf),
            (State::Trailer, b' ' | b'\t') => Err(Fault::Folded),
            (State::Trailer, octet) => {
                self.fields += 1;
                if self.fields > limits.fields {
                    return Err(Fault::TooManyFields(limits.fields));
                }
                if is_token(&[octet]) { Ok(State::TrailerName) } else { Err(wrong_name(octet)) }
            }
            (State::TrailerName, b':') => Ok(State::TrailerValue),
            (State::TrailerName, octet) if is_token_octet(octet) => Ok(State::TrailerName),
            (State::TrailerName, octet) => Err(wrong_name(octet)),
            (State::TrailerValue, octet) => {
                line_step(octet, State::TrailerValue, State::TrailerEnd)
            }
            (_, octet) => {
                self.field = 0;
                after_cr(octet, State::Trailer)
            }
        }
    }
}

fn size_step(digits: u8, size: u64, octet: u8) -> Result<State, Fault> {
    let digit = match octet {
        b'0'..=b'9' => octet - b'0',
        b'a'..=b'f' => octet - b'a' + 10,
        b'A'..=b'F' => octet - b'A' + 10,
        b'\r' if digits > 0 => return Ok(State::SizeEnd { size }),
        b';' if digits > 0 => return Ok(State::Extension { size, part: Part::Begin }),
        b'\n' => return Err(Fault::BareLf),
        _ => return Err(Fault::ChunkSize),
    };
    if digits == 16 {
        return Err(Fault::ChunkSize);
    }
    Ok(State::Size { digits: digits + 1, size: size << 4 | u64::from(digit) })
}

fn extension_step(part: Part, octet: u8) -> Option<Part> {
    let is_text = matches!(octet, b'\t' | b' '..=b'~' | 0x80..);
    match (part, octet) {
        (Part::Name | Part::Value | Part::Closed, b';') => Some(Part::Begin),
        (Part::Name, b'=') => Some(Part::Equals),
        (Part::Equals, b'"') => Some(Part::Quoted),
        (Part::Begin | Part::Name, octet) => is_token_octet(octet).then_some(Part::Name),
        (Part::Equals | Part::Value, octet) => is_token_octet(octet).then_some(Part::Value),
        (Part::Quoted, b'"') => Some(Part::Closed),
        (Part::Quoted, b'\\') => Some(Part::Escaped),
        (Part::Quoted | Part::Escaped, _) => is_text.then_some(Part::Quoted),
        (Part::Closed, _) => None,
    }
}

fn wrong_extension(octet: u8) -> Fault {
    match octet {
        b'\n' => Fault::BareLf,
        b'\t' | b'\r' | b' '..=b'~' | 0x80.. => Fault::Extension,
        control => Fault::Control(control),
    }
}

/// One octet of a line's text, or its CR.
fn line_step(octet: u8, next: State, end: State) -> Result<State, Fault> {
    match octet {
        b'\r' => Ok(end),
        b'\n' => Err(Fault::BareLf),
        b'\t' | b' '..=b'~' | 0x80.. => Ok(next),
        control => Err(Fault::Control(control)),
    }
}

fn after_cr(octet: u8, next: State) -> Result<State, Fault> {
    if octet == b'\n' { Ok(next) } else { Err(Fault::BareCr) }
}

fn wrong_name(octet: u8) -> Fault {
    match octet {
        b'\n' => Fault::BareLf,
        _ => Fault::FieldName,
    }
}
