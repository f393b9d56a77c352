//! In which case a client wrote the names of fields: told to the connection point beside the head,
//! because heads have them in lower case. Clients of HTTP/2 have no case to tell.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use crate::exchange::{EncodeError, FieldNames, HeadLimits, RequestHead};
use crate::http1::is_usual_case;

/// The names at `places` in `head` that have to be told; `None` if all of them are as usual. Those
/// for which there is no room get their usual case.
pub(super) fn unusual(head: &[u8], places: &[Range<usize>]) -> Option<FieldNames> {
    let name = |place: &Range<usize>| head.get(place.clone()).unwrap_or_default();
    let is_odd = |name: &[u8]| !is_usual_case(name);
    if !places.iter().map(name).any(is_odd) {
        return None;
    }
    let odd: Vec<&[u8]> = places.iter().map(name).filter(|name| is_odd(name)).collect();
    // All values of such a name, so that it is known which of them it is.
    let told = |name: &&[u8]| odd.iter().any(|odd| odd.eq_ignore_ascii_case(name));
    joined(places.iter().map(name).filter(told))
}

/// Writes a head. Of the names it tells only those of its fields, and none if they do not fit: a
/// request is not refused for the sake of a letter's case.
pub(super) fn encode(mut head: RequestHead, limits: &HeadLimits) -> Result<Bytes, EncodeError> {
    let names = head.assertions.names.take();
    let Some(names) = names.and_then(|names| only_of(&names, &head.headers)) else {
        return head.encode(limits);
    };
    head.assertions.names = Some(names);
    head.encode(limits).or_else(|_| {
        head.assertions.names = None;
        head.encode(limits)
    })
}

fn only_of(names: &FieldNames, headers: &HeaderMap) -> Option<FieldNames> {
    let is_there = |name: &&[u8]| str::from_utf8(name).is_ok_and(|it| headers.contains_key(it));
    // The site has a host of its own.
    joined(names.iter().filter(is_there).filter(|name| !name.eq_ignore_ascii_case(b"host")))
}

/// As much of the list as fits.
fn joined<'a>(names: impl Iterator<Item = &'a [u8]>) -> Option<FieldNames> {
    let mut list = BytesMut::new();
    for name in names {
        if list.len() + 1 + name.len() > FieldNames::OCTETS_MAX {
            break;
        }
        if !list.is_empty() {
            list.extend_from_slice(b",");
        }
        list.extend_from_slice(name);
    }
    FieldNames::new(list.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{Assertions, MessageId};
    use crate::http1::{Limits, RequestGuard};
    use http::Method;
    use http::uri::PathAndQuery;

    fn told(fields: &str) -> Option<FieldNames> {
        let head = format!("GET / HTTP/1.1\r\n{fields}\r\n");
        let octets = head.as_bytes();
        let judged = RequestGuard::new(Limits::default()).head(octets).unwrap().unwrap();
        unusual(octets, &judged.names)
    }

    #[test]
    fn names_in_their_usual_case_are_not_told_and_all_values_of_an_odd_one_are() {
        assert_eq!(told("Host: a\r\nCCMClientID: 1\r\nX-A: 2\r\n"), None);
        let names = told("Host: a\r\nX-A: 1\r\nx-b: 2\r\nX-a: 3\r\nX-C: 4\r\n").unwrap();
        assert_eq!(names.as_bytes(), "X-A,x-b,X-a");
    }

    #[test]
    fn a_list_ends_before_it_is_too_long() {
        let long = "x".repeat(2000);
        let names = told(&format!("Host: a\r\n{long}1: 1\r\n{long}2: 2\r\n{long}3: 3\r\n"));
        assert_eq!(names.unwrap().iter().count(), 2);
    }

    #[test]
    fn names_that_do_not_fit_into_the_head_are_left_out_of_it() {
        let mut headers = HeaderMap::new();
        headers.insert("x-a", "1".repeat(200).parse().unwrap());
        let mut assertions = Assertions::new(MessageId([7; 16]));
        assertions.names = FieldNames::new(Bytes::from_static(b"X-a,x-gone,HOST"));
        let target = PathAndQuery::from_static("/");
        let head = RequestHead { method: Method::GET, target, headers, assertions };
        let names = |limits: &HeadLimits| {
            let block = encode(head.clone(), limits).unwrap();
            RequestHead::decode(block, limits).unwrap().assertions.names
        };
        let whole = HeadLimits::default();
        assert_eq!(names(&whole).unwrap().as_bytes(), "X-a", "only those of its fields");
        let octets = encode(head.clone(), &whole).unwrap().len();
        assert!(names(&HeadLimits::new(octets, 64)).is_some());
        assert_eq!(names(&HeadLimits::new(octets - 1, 64)), None);
    }
}
