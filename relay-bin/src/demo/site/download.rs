//! A large file that exists only while it is read: `GET` and `HEAD` with ranges.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ACCEPT_RANGES, CONTENT_RANGE, CONTENT_TYPE, ETAG, RANGE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;

use super::{SiteBody, empty};
use crate::demo::material;

/// Octets of the file unless the query `bytes=` says otherwise: 64 MiB.
pub(crate) const DEFAULT_BYTES: u64 = 64 * 1024 * 1024;

/// Largest file that can be asked for: 16 GiB. It costs time, not memory.
const BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;

/// Which octets a request wants.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wanted {
    /// No range, or one that RFC 9110 has the server ignore.
    Whole,
    /// `first..end`, not empty.
    Part { first: u64, end: u64 },
    /// A valid range that holds no octet of the file.
    Nothing,
}

/// The answer for the file of the size that `query` asks for.
pub(super) fn answer(query: Option<&str>, headers: &HeaderMap) -> Response<SiteBody> {
    let total = file_bytes(query);
    let mut answer = match wanted(headers.get(RANGE), total) {
        Wanted::Whole => Response::new(generated(0, total)),
        Wanted::Part { first, end } => {
            let mut part = Response::new(generated(first, end));
            *part.status_mut() = StatusCode::PARTIAL_CONTENT;
            let range = format!("bytes {first}-{}/{total}", end - 1);
            part.headers_mut().insert(CONTENT_RANGE, ascii(range));
            part
        }
        Wanted::Nothing => {
            let mut nothing = empty(StatusCode::RANGE_NOT_SATISFIABLE);
            nothing.headers_mut().insert(CONTENT_RANGE, ascii(format!("bytes */{total}")));
            nothing
        }
    };
    let headers = answer.headers_mut();
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(ETAG, ascii(format!("\"generated-{total}\"")));
    answer
}

fn file_bytes(query: Option<&str>) -> u64 {
    let asked = query.unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("bytes="));
    asked.and_then(|number| number.parse().ok()).unwrap_or(DEFAULT_BYTES).min(BYTES_MAX)
}

fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("made of digits and ASCII punctuation")
}

/// Source: RFC 9110, section 14.2: a range that is not understood is ignored, and section 15.5.17.
/// Our choice: several ranges at once are ignored, which the section permits.
fn wanted(range: Option<&HeaderValue>, total: u64) -> Wanted {
    let parsed = range.and_then(|value| value.to_str().ok()).and_then(parse_range);
    let (first, end) = match parsed {
        None => return Wanted::Whole,
        Some((Some(first), last)) => {
            (first, last.map_or(total, |last| last.saturating_add(1).min(total)))
        }
        Some((None, suffix)) => (total.saturating_sub(suffix.unwrap_or(0)), total),
    };
    if end <= first { Wanted::Nothing } else { Wanted::Part { first, end } }
}

/// The two numbers of `bytes=a-b`, either of them absent; `None` unless it is one valid range.
fn parse_range(value: &str) -> Option<(Option<u64>, Option<u64>)> {
    let number = |text: &str| match text {
        "" => Some(None),
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok().map(Some),
        _ => None,
    };
    let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    match (number(first)?, number(last)?) {
        (None, None) => None,
        (Some(first), Some(last)) if last < first => None,
        both => Some(both),
    }
}

/// Octets `next..end` of [`material`], made a chunk at a time as the reader takes them.
struct Generated {
    next: u64,
    end: u64,
}

fn generated(next: u64, end: u64) -> SiteBody {
    Generated { next, end }.boxed()
}

impl Body for Generated {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let chunk = material::octets(self.next, self.end);
        if chunk.is_empty() {
            return Poll::Ready(None);
        }
        self.next += chunk.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.end <= self.next
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.end.saturating_sub(self.next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted_of(range: &'static str) -> Wanted {
        wanted(Some(&HeaderValue::from_static(range)), 1_000)
    }

    #[test]
    fn one_satisfiable_range_is_that_part() {
        let part = |first, end| Wanted::Part { first, end };
        assert_eq!(wanted_of("bytes=0-0"), part(0, 1));
        assert_eq!(wanted_of("bytes=10-19"), part(10, 20));
        assert_eq!(wanted_of("bytes=999-5000"), part(999, 1_000));
        assert_eq!(wanted_of("bytes=500-"), part(500, 1_000));
        assert_eq!(wanted_of("bytes=-1"), part(999, 1_000));
        assert_eq!(wanted_of("bytes=-5000"), part(0, 1_000));
    }

    #[test]
    fn a_range_behind_the_end_holds_nothing() {
        assert_eq!(wanted_of("bytes=1000-"), Wanted::Nothing);
        assert_eq!(wanted_of("bytes=1000-2000"), Wanted::Nothing);
        assert_eq!(wanted_of("bytes=-0"), Wanted::Nothing);
    }

    #[test]
    fn what_is_not_one_valid_range_is_ignored() {
        assert_eq!(wanted(None, 1_000), Wanted::Whole);
        for range in ["bytes=", "bytes=-", "bytes=5-4", "bytes=a-b", "bytes=0-1,3-4", "lines=0-1"] {
            assert_eq!(wanted_of(range), Wanted::Whole, "{range}");
        }
    }

    #[test]
    fn the_size_comes_from_the_query_and_has_a_ceiling() {
        assert_eq!(file_bytes(None), DEFAULT_BYTES);
        assert_eq!(file_bytes(Some("a=b&bytes=17")), 17);
        assert_eq!(file_bytes(Some("bytes=no")), DEFAULT_BYTES);
        assert_eq!(file_bytes(Some("bytes=18446744073709551615")), BYTES_MAX);
    }
}
