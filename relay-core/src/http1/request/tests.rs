#![allow(clippy::indexing_slicing, reason = "a place outside is a failed test")]

use super::*;
use proptest::prelude::*;

/// What became of the octets of a connection.
#[derive(Debug, Eq, PartialEq)]
struct Verdict {
    /// Heads, as they may be passed on, and the octets of each one's body.
    requests: Vec<(Vec<u8>, Vec<u8>)>,
    fault: Option<Fault>,
    /// Octets of a head that is not whole.
    waits_with: usize,
}

/// Hands `octets` over in pieces that end at each of `cuts`.
fn follow(octets: &[u8], limits: Limits, cuts: impl IntoIterator<Item = usize>) -> Verdict {
    let mut guard = RequestGuard::new(limits);
    let mut verdict = Verdict { requests: Vec::new(), fault: None, waits_with: 0 };
    let mut kept = Vec::new();
    let mut begin = 0;
    for cut in cuts.into_iter().chain([octets.len()]) {
        kept.extend_from_slice(&octets[begin..cut]);
        begin = cut;
        if let Err(fault) = drain(&mut guard, &mut kept, &mut verdict.requests) {
            verdict.fault = Some(fault);
            return verdict;
        }
    }
    verdict.waits_with = kept.len();
    verdict
}

fn drain(
    guard: &mut RequestGuard,
    kept: &mut Vec<u8>,
    requests: &mut Vec<(Vec<u8>, Vec<u8>)>,
) -> Result<(), Fault> {
    loop {
        if guard.awaits_head() {
            let Some(head) = guard.head(kept)? else { return Ok(()) };
            let octets: Vec<_> = kept.drain(..head.skip + head.octets).collect();
            requests.push((octets[head.skip..].to_vec(), Vec::new()));
        } else {
            let taken = guard.body(kept)?;
            let body = kept.drain(..taken);
            requests.last_mut().unwrap().1.extend(body);
            if kept.is_empty() {
                return Ok(());
            }
        }
    }
}

fn whole(octets: &[u8]) -> Verdict {
    follow(octets, Limits::default(), [])
}

fn fault(octets: impl AsRef<[u8]>) -> Option<Fault> {
    whole(octets.as_ref()).fault
}

/// A request that lacks nothing, with these fields besides.
fn with(fields: &str) -> String {
    format!("POST /x HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

#[test]
fn what_has_one_reading_passes_octet_by_octet() {
    let requests: [(&str, &str); 8] = [
        ("GET /x?y=%2e HTTP/1.1\r\nHost: relay.example:443\r\n\r\n", ""),
        ("CCM_POST http://a/b HTTP/1.1\r\nhost: A\r\nX:\r\nY: \t a b\t \r\n\r\n", ""),
        ("PUT /x HTTP/1.1\r\nHost: [::1]:8443\r\nContent-Length: 5\r\n\r\n", "hello"),
        ("PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", ""),
        (
            "POST /x HTTP/1.1\r\nHost: a\r\ntransfer-encoding: CHUNKED\r\n\r\n",
            "5;name=\"v;\\\"\";a;b=c\r\nhello\r\n00A\r\n0123456789\r\n0\r\nX: y\r\nY:\r\n\r\n",
        ),
        ("GET / HTTP/1.0\r\n\r\n", ""),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\n\r\n", ""),
        ("GET /\u{7e} HTTP/1.1\r\nHost: a\r\nX: caf\u{e9}\r\n\r\n", ""),
    ];
    let all = requests.map(|(head, body)| [head, body].concat()).concat();
    let all = all.into_bytes();
    let expected: Vec<_> = requests
        .iter()
        .map(|(head, body)| (head.as_bytes().to_vec(), body.as_bytes().to_vec()))
        .collect();
    let one_by_one = follow(&all, Limits::default(), 0..all.len());
    assert_eq!(one_by_one, Verdict { requests: expected, fault: None, waits_with: 0 });
    assert_eq!(whole(&all), one_by_one);
}

#[test]
fn what_two_parsers_could_read_differently_is_refused_with_a_reason() {
    for (octets, expected) in [
        ("GET / HTTP/1.1\nHost: a\r\n\r\n".to_owned(), Fault::BareLf),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n".to_owned(), Fault::BareLf),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n".to_owned(), Fault::BareLf),
        ("GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n".to_owned(), Fault::BareCr),
        ("GET / HTTP/1.1\r\r\nHost: a\r\n\r\n".to_owned(), Fault::BareCr),
        ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Fault::BareLf),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Fault::RequestLine),
        (with("X: a\0b\r\n"), Fault::Control(0)),
        (with("X: a\x0bb\r\n"), Fault::Control(0x0b)),
        (with("X: a\x7fb\r\n"), Fault::Control(0x7f)),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Fault::RequestLine),
        (" GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Fault::RequestLine),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n".to_owned(), Fault::RequestLine),
        ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Fault::Version),
        ("G@T / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Fault::RequestLine),
        ("GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Fault::RequestLine),
        ("GET /\r\n\r\n".to_owned(), Fault::RequestLine),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n".to_owned(), Fault::Version),
        ("GET / http/1.1\r\nHost: a\r\n\r\n".to_owned(), Fault::Version),
        ("GET / HTTP/1.10\r\nHost: a\r\n\r\n".to_owned(), Fault::Version),
        ("PRI * HTTP/2.0\r\n\r\n".to_owned(), Fault::Version),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n".to_owned(), Fault::Connect),
        ("GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Fault::Target),
        ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Fault::Target),
        ("GET /a<b HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Fault::Target),
        (with("X: a\r\n b\r\n"), Fault::Folded),
        (with("X: a\r\n\tb\r\n"), Fault::Folded),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n".to_owned(), Fault::Folded),
        (with("X : a\r\n"), Fault::FieldName),
        (with(": a\r\n"), Fault::FieldName),
        (with("X\r\n"), Fault::FieldName),
        (with("X(: a\r\n"), Fault::FieldName),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), Fault::NoHost),
        ("GET http://a/ HTTP/1.1\r\n\r\n".to_owned(), Fault::NoHost),
        (with("Host: a\r\n"), Fault::Host),
        ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n".to_owned(), Fault::Host),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n".to_owned(), Fault::Host),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".to_owned(), Fault::Host),
        ("GET http://u@a/ HTTP/1.0\r\n\r\n".to_owned(), Fault::Host),
        ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Fault::OtherHost),
        ("GET http://a:80/ HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Fault::OtherHost),
        (with("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), Fault::LengthAndCoding),
        (with("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n"), Fault::LengthAndCoding),
        (with("Content-Length: 1\r\ncontent-length: 1\r\n"), Fault::Length),
        (with("Content-Length: 1, 1\r\n"), Fault::Length),
        (with("Content-Length: +1\r\n"), Fault::Length),
        (with("Content-Length: 0x1\r\n"), Fault::Length),
        (with("Content-Length: 1 1\r\n"), Fault::Length),
        (with("Content-Length:\r\n"), Fault::Length),
        (with("Content-Length: 00000000000000000001\r\n"), Fault::Length),
        (with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), Fault::Coding),
        (with("Transfer-Encoding: chunked, chunked\r\n"), Fault::Coding),
        (with("Transfer-Encoding: gzip, chunked\r\n"), Fault::Coding),
        (with("Transfer-Encoding: identity\r\n"), Fault::Coding),
        (with("Transfer-Encoding: \"chunked\"\r\n"), Fault::Coding),
        (with("Transfer-Encoding:\r\n"), Fault::Coding),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(), Fault::CodingInHttp10),
        (with("Expect: 200-ok\r\n"), Fault::Expectation),
        (with("Expect: 100-continue\r\nExpect: 200-ok\r\n"), Fault::Expectation),
        (with("Expect: 100-continue\r\nexpect: 100-continue\r\n"), Fault::Expectation),
    ] {
        assert_eq!(fault(&octets), Some(expected), "{octets:?}");
        let one_by_one = follow(octets.as_bytes(), Limits::default(), 0..octets.len());
        assert_eq!(one_by_one.fault, Some(expected), "{octets:?}");
        assert!(one_by_one.requests.is_empty(), "{octets:?}");
        assert!(expected.status().is_client_error() || expected.status().is_server_error());
    }
}

#[test]
fn a_chunked_body_ends_where_its_sizes_say_or_is_refused() {
    for (body, expected) in [
        ("5\r\nhello0\r\n\r\n", Fault::ChunkEnd),
        ("5\r\nhello\n0\r\n\r\n", Fault::ChunkEnd),
        ("5\r\nhell\r\n0\r\n\r\n", Fault::ChunkEnd),
        ("\r\n0\r\n\r\n", Fault::ChunkSize),
        ("x\r\n", Fault::ChunkSize),
        (" 5\r\nhello\r\n", Fault::ChunkSize),
        ("5 \r\nhello\r\n", Fault::ChunkSize),
        ("-1\r\n", Fault::ChunkSize),
        ("0x5\r\nhello\r\n", Fault::ChunkSize),
        ("00000000000000005\r\nhello\r\n", Fault::ChunkSize),
        ("5\nhello\r\n", Fault::BareLf),
        ("5;a\nhello\r\n", Fault::BareLf),
        ("5;a\0\r\nhello\r\n", Fault::Control(0)),
        ("5;\r\nhello\r\n", Fault::Extension),
        ("5;a=\r\nhello\r\n", Fault::Extension),
        ("5;a=\"b\r\nhello\r\n", Fault::Extension),
        ("5;a=\"b\"c\r\nhello\r\n", Fault::Extension),
        ("5;a b\r\nhello\r\n", Fault::Extension),
        ("5;=b\r\nhello\r\n", Fault::Extension),
        ("5\rhello\r\n", Fault::BareCr),
        ("0\r\n\n", Fault::BareLf),
        ("0\r\nX: y\n\r\n", Fault::BareLf),
        ("0\r\nX: y\r\n z\r\n\r\n", Fault::Folded),
        ("0\r\nX : y\r\n\r\n", Fault::FieldName),
        ("0\r\nX\r\n\r\n", Fault::FieldName),
        ("0\r\n: y\r\n\r\n", Fault::FieldName),
        ("0\r\nX: \x01\r\n\r\n", Fault::Control(1)),
        ("0\r\n\rx", Fault::BareCr),
    ] {
        let octets = with("Transfer-Encoding: chunked\r\n") + body;
        for verdict in [
            whole(octets.as_bytes()),
            follow(octets.as_bytes(), Limits::default(), 0..octets.len()),
        ] {
            assert_eq!(verdict.fault, Some(expected), "{body:?}");
            assert_eq!(verdict.requests.len(), 1, "{body:?}");
        }
    }
    // The largest size there is, of which nothing has come.
    let octets = with("Transfer-Encoding: chunked\r\n") + "ffffffffffffffff\r\n";
    assert_eq!(fault(octets), None);
}

#[test]
fn every_limit_holds_at_its_octet() {
    let limits = || Limits {
        first_line: 20,
        field: 20,
        head: 90,
        fields: 4,
        extensions: 4,
        ..Limits::default()
    };
    let judge = |octets: String| follow(octets.as_bytes(), limits(), []).fault;
    let target = |octets: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(octets));
    assert_eq!(judge(target(6)), None);
    assert_eq!(judge(target(7)), Some(Fault::FirstLineTooLong(20)));
    let field =
        |octets: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(octets));
    assert_eq!(judge(field(17)), None);
    assert_eq!(judge(field(18)), Some(Fault::FieldTooLong(20)));
    let fields =
        |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count));
    assert_eq!(judge(fields(3)), None);
    assert_eq!(judge(fields(4)), Some(Fault::TooManyFields(4)));
    let head = |octets: usize| {
        let full = format!("X: {}\r\n", "x".repeat(17));
        let but_one = format!("GET / HTTP/1.1\r\nHost: a\r\n{full}{full}");
        let rest = octets - but_one.len() - "Y:\r\n\r\n".len();
        format!("{but_one}Y:{}\r\n\r\n", "y".repeat(rest))
    };
    assert_eq!((head(90).len(), judge(head(90))), (90, None));
    assert_eq!((head(91).len(), judge(head(91))), (91, Some(Fault::HeadTooLong(90))));
    let chunked = |body: &str| {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:chunked\r\n\r\n";
        let limits = Limits { field: 25, ..limits() };
        follow(format!("{head}{body}").as_bytes(), limits, []).fault
    };
    assert_eq!(chunked("1;a\r\nx\r\n1;b\r\nx\r\n0\r\n\r\n"), None);
    assert_eq!(chunked("1;a\r\nx\r\n1;bc\r\nx\r\n0\r\n\r\n"), Some(Fault::ExtensionsTooLong(4)));
    assert_eq!(chunked(&format!("0\r\n{}\r\n", "X:\r\n".repeat(4))), None);
    assert_eq!(chunked(&format!("0\r\n{}\r\n", "X:\r\n".repeat(5))), Some(Fault::TooManyFields(4)));
    let trailer = |octets: usize| chunked(&format!("0\r\nX:{}\r\n\r\n", "x".repeat(octets - 2)));
    assert_eq!((trailer(25), trailer(26)), (None, Some(Fault::FieldTooLong(25))));
    // With the empty line, as a head.
    let trailers = |octets: usize| {
        let but_one = format!("X:{}\r\n", "x".repeat(23)).repeat(3);
        let rest = octets - but_one.len() - "Y:\r\n\r\n".len();
        chunked(&format!("0\r\n{but_one}Y:{}\r\n\r\n", "y".repeat(rest)))
    };
    assert_eq!((trailers(90), trailers(91)), (None, Some(Fault::HeadTooLong(90))));
}

#[test]
fn an_empty_line_before_a_request_is_skipped_and_not_passed_on() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let octets = format!("\r\n{request}\r\n{request}");
    for verdict in
        [whole(octets.as_bytes()), follow(octets.as_bytes(), Limits::default(), 0..octets.len())]
    {
        let heads: Vec<_> = verdict.requests.iter().map(|(head, _)| head.clone()).collect();
        assert_eq!(heads, [request.as_bytes(), request.as_bytes()]);
        assert_eq!(verdict.fault, None);
    }
}

#[test]
fn the_names_of_a_head_are_found_in_order_and_in_their_case() {
    let octets = b"GET / HTTP/1.1\r\nHost: a\r\nCCMClientID: 1\r\nx-y:\r\n\r\n";
    let head = RequestGuard::new(Limits::default()).head(octets).unwrap().unwrap();
    let names: Vec<_> =
        head.names.iter().map(|name| str::from_utf8(&octets[name.clone()]).unwrap()).collect();
    assert_eq!(names, ["Host", "CCMClientID", "x-y"]);
}

fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "(GET|POST|X) /[a-z]{0,3} HTTP/1\\.[012]\r\n",
        4 => "(Host|X|Content-Length|Transfer-Encoding|Expect) ?: ?(a|5|chunked|)\r\n",
        3 => Just("\r\n".to_owned()),
        2 => "[0-9a-f]{1,3}(;[a-z]*)?\r\n",
        1 => "[ -~\r\n\t\0]{0,6}",
        1 => "hello",
    ]
}

proptest! {
    #[test]
    fn a_verdict_does_not_depend_on_the_pieces_in_which_octets_come(
        pieces in prop::collection::vec(piece(), 0..12),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let octets = pieces.concat().into_bytes();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(octets.len() + 1)).collect();
        cuts.sort_unstable();
        let expected = whole(&octets);
        let found = follow(&octets, Limits::default(), cuts);
        prop_assert_eq!(&found.fault, &expected.fault);
        prop_assert_eq!(&found.requests, &expected.requests);
        // A body that is followed up to a fault passes in part, by the pieces.
        let one_by_one = follow(&octets, Limits::default(), 0..octets.len());
        prop_assert_eq!(&one_by_one.fault, &expected.fault);
    }
}
