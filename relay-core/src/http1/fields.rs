//! Field lines, and what they say about where a body ends.

use std::ops::Range;

use super::Fault;

/// A field line, as places in the head.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Field {
    pub(super) name: Range<usize>,
    /// Without the white space around it.
    pub(super) value: Range<usize>,
}

impl Field {
    /// Reads the line at `line` of `head`.
    pub(super) fn read(head: &[u8], line: &Range<usize>) -> Result<Self, Fault> {
        let octets = at(head, line);
        if octets.first().is_some_and(|octet| is_space(*octet)) {
            return Err(Fault::Folded);
        }
        let colon = octets.iter().position(|octet| *octet == b':').ok_or(Fault::FieldName)?;
        let name = line.start..line.start + colon;
        if !is_token(at(head, &name)) {
            return Err(Fault::FieldName);
        }
        let value = octets.get(colon + 1..).unwrap_or_default();
        let before = value.iter().take_while(|octet| is_space(**octet)).count();
        let after = value.iter().rev().take_while(|octet| is_space(**octet)).count();
        let begin = line.start + colon + 1 + before;
        // A value of nothing but space is empty, and both counts have all of it.
        let end = (line.end - after).max(begin);
        Ok(Self { name, value: begin..end })
    }

    pub(super) fn is(&self, head: &[u8], name: &str) -> bool {
        at(head, &self.name).eq_ignore_ascii_case(name.as_bytes())
    }

    pub(super) fn value<'a>(&self, head: &'a [u8]) -> &'a [u8] {
        at(head, &self.value)
    }
}

/// What a head says about the body behind it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Declared {
    Nothing,
    Length(u64),
    Chunked,
}

/// Reads what `fields` say about the body.
///
/// # Errors
///
/// Whatever two parsers could read differently: RFC 9112, section 6.3.
pub(super) fn declared(head: &[u8], fields: &[Field], is_http10: bool) -> Result<Declared, Fault> {
    let length = only(head, fields, "content-length").map_err(|()| Fault::Length)?;
    let coding = only(head, fields, "transfer-encoding").map_err(|()| Fault::Coding)?;
    match (length, coding) {
        (Some(_), Some(_)) => Err(Fault::LengthAndCoding),
        (None, Some(_)) if is_http10 => Err(Fault::CodingInHttp10),
        (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Declared::Chunked),
        (None, Some(_)) => Err(Fault::Coding),
        (Some(length), None) => read_length(length).map(Declared::Length).ok_or(Fault::Length),
        (None, None) => Ok(Declared::Nothing),
    }
}

/// The value of a field that may be there once. Fails if it is repeated.
pub(super) fn only<'a>(
    head: &'a [u8],
    fields: &[Field],
    name: &str,
) -> Result<Option<&'a [u8]>, ()> {
    let mut found = fields.iter().filter(|field| field.is(head, name));
    let (first, second) = (found.next(), found.next());
    if second.is_some() { Err(()) } else { Ok(first.map(|field| field.value(head))) }
}

/// Nineteen digits always fit.
fn read_length(digits: &[u8]) -> Option<u64> {
    let is_plain = (1..=19).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    is_plain.then(|| digits.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0')))
}

/// RFC 9110, section 5.6.2.
pub(super) fn is_token(octets: &[u8]) -> bool {
    !octets.is_empty() && octets.iter().copied().all(is_token_octet)
}

pub(super) fn is_token_octet(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet)
}

pub(super) fn is_space(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t')
}

/// The octets of a place that was found in `head`.
pub(super) fn at<'a>(head: &'a [u8], place: &Range<usize>) -> &'a [u8] {
    head.get(place.clone()).unwrap_or_default()
}
