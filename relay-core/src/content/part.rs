//! Which part of a file a request asks for, if any. RFC 9110, sections 13 and 14.

use std::ops::Range;

use http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE};
use http::{HeaderMap, Method};

/// What a request gets of a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Part {
    /// All of it.
    Whole,
    /// These octets, at least one: 206.
    Octets(Range<u64>),
    /// Nothing, for its client has it: 304.
    Known,
    /// Nothing, for it is another file than its client wants: 412.
    Changed,
    /// Nothing, for it has no such octets: 416.
    Beyond,
}

impl Part {
    /// What `method` with `headers` gets of a file of so many `octets`, whose entity tag `tag` is
    /// strong and in its quotes.
    ///
    /// Several ranges at once are not divided: the whole file is sent, as RFC 9110, section 14.2,
    /// allows. A date proves nothing of a file that is known by its hash.
    pub fn of(method: &Method, headers: &HeaderMap, octets: u64, tag: &str) -> Self {
        if headers.contains_key(IF_MATCH) && !names(headers, IF_MATCH, tag, Weak::Differs) {
            return Self::Changed;
        }
        if names(headers, IF_NONE_MATCH, tag, Weak::Equals) {
            return Self::Known;
        }
        let mut ranges = headers.get_all(RANGE).iter();
        let (Some(range), None) = (ranges.next(), ranges.next()) else { return Self::Whole };
        // Section 14.2: to no other method.
        if method != Method::GET {
            return Self::Whole;
        }
        let is_same = headers.get(IF_RANGE).is_none_or(|it| it.as_bytes() == tag.as_bytes());
        let wanted = range.to_str().ok().and_then(|text| wanted(text, octets));
        match wanted {
            Some(range) if is_same && range.is_empty() => Self::Beyond,
            Some(range) if is_same => Self::Octets(range),
            _ => Self::Whole,
        }
    }
}

/// What becomes of a tag that is weak. RFC 9110, section 8.8.3.2.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Weak {
    Equals,
    Differs,
}

/// Whether the lists of tags in `field` have `tag`, or are `*`.
fn names(headers: &HeaderMap, field: HeaderName, tag: &str, weak: Weak) -> bool {
    let lists = headers.get_all(field).iter().filter_map(|it| it.to_str().ok());
    // Our tags have no comma in them.
    let mut all = lists.flat_map(|list| list.split(',').map(str::trim));
    all.any(|it| match it.strip_prefix("W/") {
        Some(it) => weak == Weak::Equals && it == tag,
        None => it == tag || it == "*",
    })
}

/// The octets that one range asks for, empty if there are none; `None` if it is no range.
fn wanted(text: &str, octets: u64) -> Option<Range<u64>> {
    let (unit, range) = text.split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = range.trim().split_once('-')?;
    if first.is_empty() {
        return Some(octets.saturating_sub(number(last)?)..octets);
    }
    let first = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    if first > last {
        return None;
    }
    Some(first.min(octets)..last.saturating_add(1).min(octets))
}

/// A number in decimal digits; one that does not fit is as large as any.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: &str = "\"abc\"";

    fn part(octets: u64, fields: &[(&'static str, &'static str)]) -> Part {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        Part::of(&Method::GET, &headers, octets, TAG)
    }

    #[test]
    fn a_range_gives_the_octets_that_are_there() {
        for (range, of) in [
            ("bytes=0-0", Part::Octets(0..1)),
            ("bytes=0-", Part::Octets(0..10)),
            ("bytes=9-", Part::Octets(9..10)),
            ("bytes=3-5", Part::Octets(3..6)),
            ("Bytes=3-99999999999999999999999", Part::Octets(3..10)),
            ("bytes=-3", Part::Octets(7..10)),
            ("bytes=-99", Part::Octets(0..10)),
            ("bytes=10-", Part::Beyond),
            ("bytes=10-12", Part::Beyond),
            ("bytes=-0", Part::Beyond),
            ("bytes=99999999999999999999999-", Part::Beyond),
            ("bytes=5-3", Part::Whole),
            ("bytes=0-1,4-5", Part::Whole),
            ("bytes=a-b", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("bytes 0-1", Part::Whole),
            ("lines=0-1", Part::Whole),
        ] {
            assert_eq!(part(10, &[("range", range)]), of, "{range}");
        }
        assert_eq!(part(0, &[("range", "bytes=0-")]), Part::Beyond);
        assert_eq!(part(0, &[]), Part::Whole);
        assert_eq!(part(9, &[("range", "bytes=0-1"), ("range", "bytes=0-1")]), Part::Whole);
        let headers = HeaderMap::from_iter([(RANGE, "bytes=0-1".parse().unwrap())]);
        assert_eq!(Part::of(&Method::HEAD, &headers, 9, TAG), Part::Whole);
    }

    #[test]
    fn a_file_that_is_known_is_not_sent_and_one_that_has_changed_is_sent_whole() {
        let range = ("range", "bytes=0-1");
        for (fields, of) in [
            (&[("if-none-match", TAG)][..], Part::Known),
            (&[("if-none-match", "\"x\", W/\"abc\"")], Part::Known),
            (&[("if-none-match", "*")], Part::Known),
            (&[("if-none-match", "\"x\"")], Part::Whole),
            (&[("if-none-match", "abc")], Part::Whole),
            (&[range, ("if-none-match", TAG)], Part::Known),
            (&[range, ("if-range", TAG)], Part::Octets(0..2)),
            (&[range, ("if-range", "W/\"abc\"")], Part::Whole),
            (&[range, ("if-range", "\"x\"")], Part::Whole),
            (&[range, ("if-range", "Sun, 22 Nov 2026 00:00:00 GMT")], Part::Whole),
            (&[("range", "bytes=99-"), ("if-range", "\"x\"")], Part::Whole),
            (&[range, ("if-match", TAG)], Part::Octets(0..2)),
            (&[("if-match", "*")], Part::Whole),
            (&[("if-match", "\"x\"")], Part::Changed),
            (&[("if-match", "W/\"abc\"")], Part::Changed),
        ] {
            assert_eq!(part(9, fields), of, "{fields:?}");
        }
    }
}
