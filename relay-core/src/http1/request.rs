//! Requests: a head is judged whole, a body as it comes.

use std::ops::Range;

use super::chunked::Chunked;
use super::fields::{Declared, Field, at, declared, is_token, only};
use super::lines::Lines;
use super::{Fault, Limits};

/// Follows the octets of one connection's requests.
#[derive(Clone, Debug)]
pub struct RequestGuard {
    limits: Limits,
    state: State,
    lines: Lines,
    /// Octets of an empty line before the head.
    skip: usize,
}

#[derive(Clone, Debug)]
enum State {
    Head,
    Body { left: u64 },
    Chunked(Chunked),
}

/// A request's head that everybody reads alike.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Head {
    /// Its octets, with the empty line.
    pub octets: usize,
    /// Octets before it that say nothing and are not to be passed on.
    pub skip: usize,
    /// Whether a body follows.
    pub has_body: bool,
    /// The place of each field's name in the octets, in order.
    pub names: Vec<Range<usize>>,
}

impl RequestGuard {
    /// At the beginning of a connection.
    pub fn new(limits: Limits) -> Self {
        Self { limits, state: State::Head, lines: Lines::default(), skip: 0 }
    }

    /// Whether a head comes next, or more of one.
    pub fn awaits_head(&self) -> bool {
        matches!(self.state, State::Head)
    }

    /// Octets of a body that are sure to come next; 0 if that is not known, or a head does.
    pub fn body_left(&self) -> u64 {
        match self.state {
            State::Body { left } => left,
            State::Head | State::Chunked(_) => 0,
        }
    }

    /// Judges a head once all of it is there. `octets` begin with it, and are the same as in the
    /// last call with more behind them. `None` while more is needed.
    ///
    /// # Errors
    ///
    /// [`Fault`]; nothing on the connection has a meaning from then on.
    pub fn head(&mut self, octets: &[u8]) -> Result<Option<Head>, Fault> {
        if self.lines.is_new() && self.skip == 0 {
            match octets {
                // RFC 9112, section 2.2: old clients send an empty line behind a body.
                [b'\r', b'\n', ..] => self.skip = 2,
                [b'\r'] => return Ok(None),
                _ => {}
            }
        }
        let octets = octets.get(self.skip..).unwrap_or_default();
        let Some(end) = self.lines.scan(octets, &self.limits)? else { return Ok(None) };
        let head = judge(octets, self.lines.lines())?;
        self.state = match head.body {
            Declared::Nothing | Declared::Length(0) => State::Head,
            Declared::Length(left) => State::Body { left },
            Declared::Chunked => State::Chunked(Chunked::new()),
        };
        self.lines.clear();
        let skip = std::mem::take(&mut self.skip);
        let has_body = !matches!(self.state, State::Head);
        let names = head.fields.into_iter().map(|field| field.name).collect();
        Ok(Some(Head { octets: end, skip, has_body, names }))
    }

    /// Follows a body. Returns how many of `octets` are its: fewer than there are only if it has
    /// ended and a head comes next.
    ///
    /// # Errors
    ///
    /// [`Fault`]; nothing on the connection has a meaning from then on.
    pub fn body(&mut self, octets: &[u8]) -> Result<usize, Fault> {
        let (taken, has_ended) = match &mut self.state {
            State::Head => (0, true),
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

struct Judged {
    body: Declared,
    fields: Vec<Field>,
}

/// Judges a head that is whole.
fn judge(head: &[u8], lines: &[Range<usize>]) -> Result<Judged, Fault> {
    let (first, rest) = lines.split_first().ok_or(Fault::RequestLine)?;
    let Line { method, target, is_http10 } = read_request_line(at(head, first))?;
    let fields: Vec<_> =
        rest.iter().map(|line| Field::read(head, line)).collect::<Result<_, _>>()?;
    if method == b"CONNECT" {
        return Err(Fault::Connect);
    }
    check_host(head, &fields, target, is_http10)?;
    let expectation = only(head, &fields, "expect").map_err(|()| Fault::Expectation)?;
    if expectation.is_some_and(|it| !it.eq_ignore_ascii_case(b"100-continue")) {
        return Err(Fault::Expectation);
    }
    let body = declared(head, &fields, is_http10)?;
    Ok(Judged { body, fields })
}

/// A request line.
struct Line<'a> {
    method: &'a [u8],
    target: &'a [u8],
    is_http10: bool,
}

/// RFC 9112, section 3: one space between the parts, and no other octet than theirs.
fn read_request_line(line: &[u8]) -> Result<Line<'_>, Fault> {
    let mut parts = line.split(|octet| *octet == b' ');
    let (method, target, version) = (parts.next(), parts.next(), parts.next());
    let (Some(method), Some(target)) = (method, target) else { return Err(Fault::RequestLine) };
    if !is_token(method) || target.is_empty() {
        return Err(Fault::RequestLine);
    }
    let is_http10 = match version {
        Some(b"HTTP/1.1") => false,
        Some(b"HTTP/1.0") => true,
        // HTTP/0.9 has no version: RFC 9112, section 3, knows no such line.
        None | Some(b"") => return Err(Fault::RequestLine),
        _ => return Err(Fault::Version),
    };
    if parts.next().is_some() {
        return Err(Fault::RequestLine);
    }
    let is_plain = |octet: &u8| octet.is_ascii_graphic() && *octet != b'#';
    // Whoever parses it next would refuse it without a reason.
    if !target.iter().all(is_plain) || http::Uri::try_from(target).is_err() {
        return Err(Fault::Target);
    }
    Ok(Line { method, target, is_http10 })
}

/// RFC 9112, section 3.2: one host, whoever is asked.
fn check_host(head: &[u8], fields: &[Field], target: &[u8], is_http10: bool) -> Result<(), Fault> {
    let host = only(head, fields, "host").map_err(|()| Fault::Host)?;
    if host.is_some_and(|host| !is_host(host)) {
        return Err(Fault::Host);
    }
    match (host, authority_of(target)) {
        (None, None) if is_http10 => Ok(()),
        (None, _) if !is_http10 => Err(Fault::NoHost),
        (Some(host), Some(authority)) if !host.eq_ignore_ascii_case(authority) => {
            Err(Fault::OtherHost)
        }
        (_, Some(authority)) if !is_host(authority) => Err(Fault::Host),
        _ => Ok(()),
    }
}

/// The authority of a target in absolute form.
fn authority_of(target: &[u8]) -> Option<&[u8]> {
    if target.first() == Some(&b'/') {
        return None;
    }
    let after = target.windows(3).position(|octets| octets == b"://")? + 3;
    let rest = target.get(after..)?;
    let end = rest.iter().position(|octet| matches!(octet, b'/' | b'?'));
    rest.get(..end.unwrap_or(rest.len()))
}

/// A name, an address or a literal in brackets, and perhaps a port. Who is there is not judged.
fn is_host(host: &[u8]) -> bool {
    let is_plain = |octet: &u8| octet.is_ascii_alphanumeric() || b"-._~:[]%".contains(octet);
    !host.is_empty() && host.iter().all(is_plain)
}

#[cfg(test)]
mod tests;
