//! Whether a path means the same to every parser that may see it.
//!
//! A path passes only if no normalisation that a server is known to apply (RFC 3986 dot segments,
//! percent decoding once or twice, slash merging, path parameters, Windows file names) could change
//! which resource it names. So what the relay judged is what the backend serves.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Why a path is not relayed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum UnsafePath {
    /// Two slashes in a row: some servers merge them. One trailing slash is fine.
    #[error("it has an empty segment")]
    EmptySegment,
    /// A segment is `.` or `..`, or ends in a dot or a space, which Windows drops from file names.
    #[error("a segment ends in a dot or a space")]
    TrailingDot,
    /// `\`, or an escaped `/`, `\`, `?` or `#`: a separator to some parsers only.
    #[error("it hides a separator")]
    HiddenSeparator,
    /// An octet below 0x20, or 0x7f, raw or escaped.
    #[error("it has a control character")]
    Control,
    /// `%` without two hexadecimal digits.
    #[error("it has an invalid percent escape")]
    BadEscape,
    /// An escaped `%`: what it means depends on how often it is decoded.
    #[error("it is escaped twice")]
    DoubleEscape,
    /// An octet above 0x7f, raw or escaped: overlong or look-alike dots and slashes live here.
    /// Our choice: every path of a site role is plain ASCII, so nothing is lost.
    #[error("it is not ASCII")]
    NotAscii,
    /// A `;`, which some servers cut off with what follows. Our choice: refused wherever it stands.
    #[error("it has a path parameter")]
    Parameter,
    /// A `:`, which names a stream of a file on Windows. Our choice: refused wherever it stands.
    #[error("it has a colon")]
    Colon,
}

/// Judges a path that is given without its leading slash.
pub(super) fn check(below_slash: &str) -> Result<(), UnsafePath> {
    let mut segments = below_slash.split('/').peekable();
    while let Some(segment) = segments.next() {
        if segment.is_empty() && segments.peek().is_some() {
            return Err(UnsafePath::EmptySegment);
        }
        check_segment(segment)?;
    }
    Ok(())
}

fn check_segment(segment: &str) -> Result<(), UnsafePath> {
    let mut last = None;
    for octet in octets(segment) {
        let octet = octet?;
        check_octet(octet)?;
        last = Some(octet.value);
    }
    match last {
        Some(b'.' | b' ') => Err(UnsafePath::TrailingDot),
        _ => Ok(()),
    }
}

fn check_octet(octet: Octet) -> Result<(), UnsafePath> {
    match octet {
        Octet { value: 0x00..=0x1f | 0x7f, .. } => Err(UnsafePath::Control),
        Octet { value: 0x80..=0xff, .. } => Err(UnsafePath::NotAscii),
        Octet { value: b'\\', .. } | Octet { value: b'/' | b'?' | b'#', escaped: true } => {
            Err(UnsafePath::HiddenSeparator)
        }
        Octet { value: b'%', .. } => Err(UnsafePath::DoubleEscape),
        Octet { value: b';', .. } => Err(UnsafePath::Parameter),
        Octet { value: b':', .. } => Err(UnsafePath::Colon),
        _ => Ok(()),
    }
}

/// Whether a checked segment, once decoded, is `plain` in any ASCII case.
pub(super) fn segment_is(segment: &str, plain: &str) -> bool {
    decoded(segment).eq(plain.bytes().map(|octet| octet.to_ascii_lowercase()))
}

/// Whether a checked segment, once decoded, ends in `suffix` in any ASCII case.
pub(super) fn segment_ends_with(segment: &str, suffix: &str) -> bool {
    let Some(start) = decoded(segment).count().checked_sub(suffix.len()) else {
        return false;
    };
    decoded(segment).skip(start).eq(suffix.bytes().map(|octet| octet.to_ascii_lowercase()))
}

/// The decoded, lower-cased octets of a checked segment.
fn decoded(segment: &str) -> impl Iterator<Item = u8> {
    octets(segment).map_while(Result::ok).map(|octet| octet.value.to_ascii_lowercase())
}

/// One octet of a segment after one round of percent decoding.
#[derive(Clone, Copy)]
struct Octet {
    value: u8,
    escaped: bool,
}

fn octets(segment: &str) -> impl Iterator<Item = Result<Octet, UnsafePath>> {
    let mut raw = segment.bytes();
    std::iter::from_fn(move || {
        let value = raw.next()?;
        if value != b'%' {
            return Some(Ok(Octet { value, escaped: false }));
        }
        let (high, low) = (raw.next().and_then(hex), raw.next().and_then(hex));
        let unescaped = high.zip(low).map(|(high, low)| high << 4 | low);
        Some(match unescaped {
            Some(value) => Ok(Octet { value, escaped: true }),
            None => Err(UnsafePath::BadEscape),
        })
    })
}

/// Returns a path as a log may show it, judged or not: octets that are no visible ASCII are
/// percent-encoded. Controls beyond ASCII pass a URL's parser, terminals obey them, and JSON does
/// not escape them.
pub fn visible_path(path: &str) -> Cow<'_, str> {
    if path.bytes().all(|octet| octet.is_ascii_graphic()) {
        return Cow::Borrowed(path);
    }
    let mut visible = String::with_capacity(path.len() * 3);
    for octet in path.bytes() {
        if octet.is_ascii_graphic() {
            visible.push(char::from(octet));
        } else {
            // A text takes all that is written to it.
            let _ = write!(visible, "%{octet:02X}");
        }
    }
    Cow::Owned(visible)
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_path_in_a_log_is_visible_ascii_and_has_all_its_octets() {
        assert_eq!(visible_path("/a%0d\"\\~!"), "/a%0d\"\\~!");
        assert_eq!(visible_path("/ \u{1b}[31m\u{9b}\r\n\u{7f}\0"), "/%20%1B[31m%C2%9B%0D%0A%7F%00");
        assert_eq!(visible_path(""), "");
    }

    #[test]
    fn paths_of_real_clients_are_safe() {
        for path in [
            "",
            "CCM_Proxy_MutualAuth/72186325152220500/SMS_MP/.sms_aut",
            "CCM_Proxy_MutualAuth/1/SMS_MP/.sms_pol",
            "CCM_Proxy_ServerAuth/1/ccm_system_tokenauth/request",
            "CCM_Proxy_MutualAuth/1/ccm_incoming/{1F2E3D4C-0000-1111-2222-333344445555}/",
            "CCM_Proxy_MutualAuth/1/ccm_incoming/%7B1F2E%7d/a%20b.zip",
            "CCM_Proxy_MutualAuth/1/ClientWebService/client.asmx",
            "CCM_Proxy_MutualAuth/1/CCM_Client/ccmsetup.cab",
            "a...b/..c/.d",
        ] {
            assert_eq!(check(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn ambiguous_paths_are_refused_by_name() {
        let table: &[(UnsafePath, &[&str])] = &[
            (UnsafePath::EmptySegment, &["/", "a//b", "a//", "/a"]),
            (
                UnsafePath::TrailingDot,
                &[
                    ".",
                    "..",
                    "a/../b",
                    "a/..",
                    "a/./b",
                    "%2e%2e/b",
                    ".%2E/b",
                    "%2e./b",
                    "...",
                    "a%20/b",
                    "ccm_system_altauth./request",
                    "..%20/b",
                    ".%20./b",
                ],
            ),
            (
                UnsafePath::HiddenSeparator,
                &["a%2fb", "a%2Fb", "a%5cb", "a%5Cb", "a\\b", "..\\b", "..%5cb", "a%3fb", "a%23b"],
            ),
            (UnsafePath::Control, &["a%00", "a%0d%0ab", "a\u{1}b", "a%7f", "a\u{7f}"]),
            (UnsafePath::BadEscape, &["a%", "a%2", "a%zz", "a%u002e", "%%32%65", "a%2/b", "%+1"]),
            (UnsafePath::DoubleEscape, &["%252e%252e", "a%252fb", "%25%32%65", "100%25"]),
            (UnsafePath::NotAscii, &["%c0%ae%c0%ae", "%ef%bc%8f", "a\u{ff0f}b", "%e2%88%95"]),
            (UnsafePath::Parameter, &["..;/b", "a;x=..", "a%3bb", "..;a=b/c"]),
            (UnsafePath::Colon, &["a::$DATA", "c:", "a%3ab"]),
        ];
        for (why, paths) in table {
            for path in *paths {
                assert_eq!(check(path), Err(*why), "{path}");
            }
        }
    }

    #[test]
    fn segments_are_compared_decoded_and_in_any_case() {
        assert!(segment_is("%53ms_mP", "SMS_MP"));
        assert!(!segment_is("SMS_MPX", "SMS_MP"));
        assert!(!segment_is("SMS_M", "SMS_MP"));
        assert!(segment_ends_with("ccm_system_Alt%41uth", "altauth"));
        assert!(!segment_ends_with("auth", "altauth"));
    }

    /// A server that decodes, turns backslashes and resolves dots, again and again.
    fn normalise(path: &str) -> String {
        let decoded: String = octets(path)
            .map_while(Result::ok)
            .map(|octet| if octet.value == b'\\' { '/' } else { char::from(octet.value) })
            .collect();
        let mut kept: Vec<&str> = Vec::new();
        for segment in decoded.split('/') {
            match segment.trim_end_matches([' ', '.']) {
                "" if segment == ".." => drop(kept.pop()),
                "" if !segment.is_empty() => (),
                name => kept.push(name),
            }
        }
        kept.join("/")
    }

    proptest! {
        #[test]
        fn a_safe_path_normalises_to_itself_decoded(
            path in "([a-c./\\\\%;: ]|%2[eEfF05]|%5[cC]|%6[1-3]|%25|\\.\\.){0,12}"
        ) {
            if check(&path).is_ok() {
                let once = normalise(&path);
                prop_assert_eq!(&normalise(&once), &once);
                let segments = path.split('/').zip(once.split('/'));
                for (raw, plain) in segments {
                    prop_assert!(segment_is(raw, plain), "{} became {}", raw, plain);
                }
                prop_assert_eq!(path.split('/').count(), once.split('/').count());
            }
        }

        #[test]
        fn no_text_makes_the_check_panic(path in ".*") {
            let _ = check(&path);
        }
    }
}
