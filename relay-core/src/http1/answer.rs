//! Answers: judged as strictly as requests, by what was asked.

use std::collections::VecDeque;
use std::ops::Range;

use super::chunked::Chunked;
use super::fields::{Declared, Field, at, declared};
use super::lines::Lines;
use super::{Fault, Limits};

/// Follows the octets of one connection's answers.
#[derive(Clone, Debug)]
pub struct AnswerGuard {
    limits: Limits,
    state: State,
    lines: Lines,
    /// Of each request that waits for its answer, in order: whether it is HEAD.
    asked: VecDeque<bool>,
    /// Interim answers to the first of them.
    interim: usize,
}

#[derive(Clone, Debug)]
enum State {
    Head,
    Body {
        left: u64,
    },
    Chunked(Chunked),
    /// To the end of the connection.
    Rest,
}

impl AnswerGuard {
    /// At the beginning of a connection.
    pub fn new(limits: Limits) -> Self {
        let (lines, asked) = (Lines::default(), VecDeque::new());
        Self { limits, state: State::Head, lines, asked, interim: 0 }
    }

    /// A request was sent. The answer to HEAD has no body, whatever it declares.
    pub fn note_asked(&mut self, is_head: bool) {
        self.asked.push_back(is_head);
    }

    /// Whether a request waits for its answer. While none does, nothing that comes has a meaning,
    /// the body of the last answer apart.
    pub fn is_asked(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Whether a head comes next, or more of one.
    pub fn awaits_head(&self) -> bool {
        matches!(self.state, State::Head)
    }

    /// Judges a head once all of it is there, as
    /// [`RequestGuard::head`](super::RequestGuard::head) does. Returns its octets.
    ///
    /// # Errors
    ///
    /// [`Fault`]; nothing on the connection has a meaning from then on.
    pub fn head(&mut self, octets: &[u8]) -> Result<Option<usize>, Fault> {
        let Some(end) = self.lines.scan(octets, &self.limits)? else { return Ok(None) };
        let (status, body) = judge(octets, self.lines.lines())?;
        self.lines.clear();
        if status == 101 {
            return Err(Fault::Switch);
        }
        if status < 200 {
            self.interim += 1;
            if self.interim > self.limits.interim {
                return Err(Fault::TooManyInterim(self.limits.interim));
            }
            return Ok(Some(end));
        }
        self.interim = 0;
        // An answer that nobody has asked for is the next parser's to refuse.
        let is_head = self.asked.pop_front().unwrap_or_default();
        self.state = match body {
            // RFC 9112, section 6.3, rules 1, 4, 6 and 8.
            _ if is_head || matches!(status, 204 | 304) => State::Head,
            Declared::Chunked => State::Chunked(Chunked::new()),
            Declared::Length(0) => State::Head,
            Declared::Length(left) => State::Body { left },
            Declared::Nothing => State::Rest,
        };
        Ok(Some(end))
    }

    /// Follows a body, as [`RequestGuard::body`](super::RequestGuard::body) does.
    ///
    /// # Errors
    ///
    /// [`Fault`]; nothing on the connection has a meaning from then on.
    pub fn body(&mut self, octets: &[u8]) -> Result<usize, Fault> {
        let (taken, has_ended) = match &mut self.state {
            State::Head => (0, true),
            State::Rest => (octets.len(), false),
            State::Body { left } => {
                let taken = octets.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= taken as u64;
                (taken, *left == 0)
            }
            State::Chunked(chunked) => {
                let taken = chunked.follow(octets, &self.limits)?;
                (taken, chunked.has_ended())
            }
        };
        if has_ended {
            self.state = State::Head;
        }
        Ok(taken)
    }
}

/// Judges a head that is whole. Returns its status and what it says about the body.
fn judge(head: &[u8], lines: &[Range<usize>]) -> Result<(u16, Declared), Fault> {
    let (first, rest) = lines.split_first().ok_or(Fault::StatusLine)?;
    let (status, is_http10) = read_status_line(at(head, first))?;
    let fields: Vec<_> =
        rest.iter().map(|line| Field::read(head, line)).collect::<Result<_, _>>()?;
    Ok((status, declared(head, &fields, is_http10)?))
}

/// RFC 9112, section 4. The space before a reason that is empty is often left out.
fn read_status_line(line: &[u8]) -> Result<(u16, bool), Fault> {
    let is_http10 = match line.get(..8) {
        Some(b"HTTP/1.1") => false,
        Some(b"HTTP/1.0") => true,
        _ => return Err(Fault::Version),
    };
    let rest = line.get(8..).and_then(|rest| rest.strip_prefix(b" ")).ok_or(Fault::StatusLine)?;
    let digits = rest.get(..3).filter(|digits| digits.iter().all(u8::is_ascii_digit));
    let digits = digits.ok_or(Fault::StatusLine)?;
    if !matches!(rest.get(3), None | Some(b' ')) {
        return Err(Fault::StatusLine);
    }
    let status = digits.iter().fold(0, |value, digit| value * 10 + u16::from(digit - b'0'));
    if status < 100 { Err(Fault::StatusLine) } else { Ok((status, is_http10)) }
}

#[cfg(test)]
mod tests;
