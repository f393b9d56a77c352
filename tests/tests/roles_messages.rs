//! What clients and management points say to each other, octet for octet both ways: messages of
//! any size and content, fields of heads, partial, conditional and empty answers, trailers.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::BodyExt as _;
use relay_core::policy::NAMED_HEADERS;
use relay_tests::client::{Client, Http, bare, with_body};
use relay_tests::origin::{Origin, Recorded};
use relay_tests::raw::RawClient;
use relay_tests::roles::{House, SERVICE, target, within};
use relay_tests::site::{Body, fed, full};

/// A type whose parameters have all that a quoted text may have (RFC 9110, section 5.6.4).
const MULTIPART: &str =
    "multipart/mixed; boundary=\"aAbB'cC (1)+_,-./:=? \\\"x\"; start=<1@x>;\ttype=\"a;b\"";

/// Octets of messages: none, one, and around a link's queue; and more than any window at first.
const SIZES: [usize; 6] = [0, 1, (64 << 10) - 1, 64 << 10, (64 << 10) + 1, 5 << 20];

/// `len` octets of what could be taken for something else: ends of lines and of parts, of chunks
/// and of messages, and what is no text.
fn message(len: usize) -> Bytes {
    let odd = b"\r\n--aAbB'cC (1)+_,-./:=? \"x\r\n\0\r--\n--aAbB--\r\n0\r\n\r\n\xff\xfe\x80\
        HTTP/1.1 200 OK\r\n\r\n\r\rGET / HTTP/1.1\n\n";
    let mut octets = odd.repeat(len / odd.len() + 1);
    octets.truncate(len);
    octets.into()
}

/// Says back what was said, in reverse; chunked if it was.
fn reversed(request: &Recorded) -> Vec<u8> {
    let mut body = request.body.clone();
    body.reverse();
    let kind = request.values("content-type").concat();
    let head = [b"HTTP/1.1 200 OK\r\nContent-Type: ", &kind[..], b"\r\n"].concat();
    if request.values("content-length").is_empty() {
        let chunk = |octets: &[u8]| {
            let size = format!("{:X}\r\n", octets.len());
            [size.as_bytes(), octets, b"\r\n"].concat()
        };
        let chunks = body.chunks(10_007).map(chunk).collect::<Vec<_>>().concat();
        [&head[..], b"Transfer-Encoding: chunked\r\n\r\n", &chunks, b"0;a=\"\\\"b\"\r\n\r\n"]
            .concat()
    } else {
        let length = format!("Content-Length: {}\r\n\r\n", body.len());
        [&head, length.as_bytes(), &body].concat()
    }
}

/// `octets` in pieces, of no declared length.
fn undeclared(octets: Bytes) -> Body {
    let (feed, body) = fed();
    tokio::spawn(async move {
        for piece in octets.chunks(30_011).chain([&[][..]]) {
            // An error is a request that nobody reads any more, which the test sees.
            let _ = feed.send(Bytes::copy_from_slice(piece)).await;
        }
    });
    body
}

#[tokio::test]
async fn messages_in_parts_pass_both_ways_octet_for_octet_whatever_their_size() {
    within(async {
        let origin = Origin::answering(reversed).await;
        let house = House::before(origin.address);
        let (gateway, _link) = house.joined().await;
        let ways = Http::BOTH.into_iter().flat_map(|http| [(http, true), (http, false)]);
        for ((http, is_declared), size) in ways.flat_map(|way| SIZES.map(|size| (way, size))) {
            let sent = message(size);
            let body = if is_declared { full(sent.clone()) } else { undeclared(sent.clone()) };
            let mut request = with_body("CCM_POST", &target("/ccm_system/request"), body);
            request.headers_mut().insert("content-type", HeaderValue::from_static(MULTIPART));
            let mut client = Client::join(&gateway, &house.ca, http).await;
            let answer = client.ask(request).await;
            let what = format!("{size} octets over {http:?}, declared: {is_declared}");
            assert_eq!((answer.status(), answer.reason()), (200, None), "{what}");
            assert_eq!(answer.parts.headers["content-type"], MULTIPART, "{what}");
            let mut said = answer.body.to_vec();
            said.reverse();
            assert!(said == sent, "{what}");
            let seen = origin.take();
            assert_eq!(seen.len(), 1, "{what}");
            assert_eq!(seen[0].values("content-type"), [MULTIPART.as_bytes()], "{what}");
            assert!(seen[0].body == sent, "{what}");
            let (told, length) = (seen[0].values("content-length"), size.to_string());
            match (is_declared, size) {
                (true, _) => assert_eq!(told, [length.as_bytes()], "{what}"),
                // A POST of nothing says so, or some sites answer 411; but whether there is nothing
                // is known only where the body's end came with the head.
                (false, 0) => assert!(told.is_empty() || told == [b"0"], "{what}"),
                (false, _) => assert!(told.is_empty(), "{what}"),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn every_named_field_reaches_the_site_octet_for_octet() {
    within(async {
        let origin = Origin::start().await;
        let house = House::before(origin.address);
        let (gateway, _link) = house.joined().await;
        // Base64, lists, quotes, what is not ASCII, tabs and spaces within: none is touched.
        let value = |name: &str| {
            [name.as_bytes(), b"=+/== , \"q\\\"\t;\" \xc3\xa4\xff\x80 {GUID:1}  end"].concat()
        };
        for http in Http::BOTH {
            let mut request = bare("GET", &target("/SMS_MP/x"));
            for name in NAMED_HEADERS {
                let value = HeaderValue::from_bytes(&value(name)).unwrap();
                request.headers_mut().insert(HeaderName::from_static(name), value);
            }
            let mut client = Client::join(&gateway, &house.ca, http).await;
            assert_eq!(client.ask(request).await.status(), 200);
            let seen = origin.take();
            for name in NAMED_HEADERS {
                assert_eq!(seen[0].values(name), [value(name)], "{name} over {http:?}");
            }
        }
    })
    .await;
}

/// An exchange with what a site says, by the letter.
struct Said {
    verb: &'static str,
    /// Fields of the request.
    asked: &'static [(&'static str, &'static str)],
    status: u16,
    /// Fields of the answer.
    fields: &'static [(&'static str, &'static [u8])],
    body: &'static [u8],
}

impl Said {
    /// The fields of the answer, with its length.
    fn all_fields(&self) -> Vec<(&'static str, Vec<u8>)> {
        let own = self.fields.iter().map(|(name, value)| (*name, value.to_vec()));
        let has_length = self.verb != "HEAD" && ![204, 304].contains(&self.status);
        let length = has_length.then(|| ("Content-Length", self.body.len().to_string().into()));
        own.chain(length).collect()
    }
}

const SAID: [Said; 9] = [
    Said {
        verb: "HEAD",
        asked: &[],
        status: 200,
        fields: &[("Content-Length", b"5000000000"), ("Accept-Ranges", b"bytes")],
        body: b"",
    },
    Said {
        verb: "GET",
        asked: &[("range", "bytes=2-5"), ("if-range", "\"v1\"")],
        status: 206,
        fields: &[("Content-Range", b"bytes 2-5/10"), ("ETag", b"\"v1\"")],
        body: b"\r\n\0\xff",
    },
    Said {
        verb: "GET",
        asked: &[("range", "bytes=0-1, 8-,-1")],
        status: 206,
        fields: &[("Content-Type", b"multipart/byteranges; boundary=x")],
        body: b"--x\r\nContent-Range: bytes 0-1/10\r\n\r\n\0\0\r\n--x--\r\nepilogue",
    },
    Said {
        verb: "GET",
        asked: &[("range", "bytes=99-100, 200-")],
        status: 416,
        fields: &[("Content-Range", b"bytes */10")],
        body: b"",
    },
    Said {
        verb: "GET",
        asked: &[
            ("if-none-match", "W/\"v1\", \"v0\""),
            ("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ],
        status: 304,
        fields: &[
            ("ETag", b"W/\"v1\""),
            ("Last-Modified", b"Sunday, 06-Nov-94 08:49:37 GMT"),
            ("Cache-Control", b"max-age=0, private"),
            ("Expires", b"0"),
            ("Vary", b"*"),
        ],
        body: b"",
    },
    Said {
        verb: "PROPFIND",
        asked: &[("depth", "1, noroot"), ("translate", "f")],
        status: 207,
        fields: &[
            ("Content-Type", b"text/xml; charset=\"utf-8\""),
            ("DAV", b"1,2, <http://example.org/propset>"),
            ("MS-Author-Via", b"DAV"),
        ],
        body: b"<?xml version=\"1.0\"?><a:b>\xc3\xa4\n</a:",
    },
    Said {
        verb: "GET",
        asked: &[],
        status: 200,
        fields: &[
            ("Set-Cookie", b"a=1; path=/"),
            ("X-Empty", b""),
            ("Set-Cookie", b"b=2,3"),
            ("X-Octets", b"\xff\x80\t\"a  b\""),
            ("BITS-Host-Id", b"mp01.corp.example"),
            ("BITS-Host-Id-Fallback-Timeout", b"60"),
        ],
        body: b"",
    },
    Said { verb: "GET", asked: &[], status: 204, fields: &[("X-Of-Mine", b"1")], body: b"" },
    Said {
        verb: "GET",
        asked: &[],
        status: 599,
        fields: &[("WWW-Authenticate", b"Negotiate, NTLM")],
        body: b"\n\r",
    },
];

/// What the site says of the exchange whose number is the last of its path.
fn say(request: &Recorded) -> Vec<u8> {
    let path = String::from_utf8(request.line_parts()[1].to_vec()).unwrap();
    let said = &SAID[path.rsplit('/').next().unwrap().parse::<usize>().unwrap()];
    let mut octets = format!("HTTP/1.1 {} As It Is\r\n", said.status).into_bytes();
    for (name, value) in said.all_fields() {
        octets.extend([name.as_bytes(), b": ", &value, b"\r\n"].concat());
    }
    [&octets, &b"\r\n"[..], said.body].concat()
}

/// Fields that the relay adds, or that tell of a connection.
const OWN: [&str; 4] = ["relay-message-id", "date", "connection", "relay-reason"];

/// Fields of an answer as a client should see them, in no order but that of values of one name.
fn expected(said: &Said) -> HeaderMap {
    let mut all = HeaderMap::new();
    for (name, value) in said.all_fields() {
        if !name.starts_with("BITS-Host-Id") {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            all.append(name, HeaderValue::from_bytes(&value).unwrap());
        }
    }
    all
}

#[tokio::test]
async fn what_a_site_says_arrives_field_for_field_and_octet_for_octet() {
    within(async {
        let origin = Origin::answering(say).await;
        let house = House::before(origin.address);
        let (gateway, _link) = house.joined().await;
        for (http, number) in
            Http::BOTH.into_iter().flat_map(|it| (0..SAID.len()).map(move |n| (it, n)))
        {
            let said = &SAID[number];
            let mut request = bare(said.verb, &target(&format!("/SMS_MP/{number}")));
            for (name, value) in said.asked {
                request.headers_mut().insert(*name, value.parse().unwrap());
            }
            let mut client = Client::join(&gateway, &house.ca, http).await;
            let answer = client.ask(request).await;
            let what = format!("{} {number} over {http:?}", said.verb);
            assert_eq!((answer.status(), answer.reason()), (said.status, None), "{what}");
            assert_eq!(answer.body, said.body, "{what}");
            let mut fields = answer.parts.headers;
            for name in OWN {
                fields.remove(name);
            }
            assert_eq!(fields, expected(said), "{what}");
            let seen = origin.take();
            for (name, value) in said.asked {
                assert_eq!(seen[0].values(name), [value.as_bytes()], "{what}");
            }
            assert_eq!(seen[0].line_parts()[0], said.verb.as_bytes());
        }
    })
    .await;
}

#[tokio::test]
async fn trailers_reach_the_site_with_their_values_and_capitals_where_words_begin() {
    within(async {
        let origin = Origin::start().await;
        let house = House::before(origin.address);
        let (gateway, _link) = house.joined().await;
        let line = format!("CCM_POST {} HTTP/1.1\r\nHost: {SERVICE}\r\n", target("/SMS_MP/x"));
        let mut client = RawClient::join(&gateway, &house.ca).await;
        let rest = "Trailer: X-Digest, X-ODD\r\nTransfer-Encoding: chunked\r\n\r\n\
                    3\r\na\r\n\r\n0\r\nX-Digest: \"a\tb\"\r\nX-ODD: 1\r\nX-Untold: 2\r\n\r\n";
        client.send(format!("{line}{rest}").as_bytes()).await;
        assert_eq!(client.status().await, Some(200));
        let seen = origin.take();
        assert_eq!(seen[0].body, b"a\r\n");
        assert_eq!(seen[0].values("trailer"), [b"X-Digest, X-ODD"]);
        let field = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        let mut trailers = seen[0].trailers.clone();
        trailers.sort();
        // RFC 9110, section 5.1: names mean the same in any case. What `Trailer` does not name may
        // be dropped (section 6.6.2).
        assert_eq!(trailers, [field("X-Digest", "\"a\tb\""), field("X-Odd", "1")]);
    })
    .await;
}

#[tokio::test]
async fn trailers_reach_a_client_of_http_1_in_lower_case_and_only_if_it_wants_them() {
    within(async {
        let origin = Origin::answering(|_| {
            b"HTTP/1.1 200 OK\r\nTrailer: X-Digest\r\nTransfer-Encoding: chunked\r\n\r\n\
              1\r\n\0\r\n0\r\nX-Digest: \"a\tb\"\r\n\r\n"
                .to_vec()
        })
        .await;
        let house = House::before(origin.address);
        let (gateway, _link) = house.joined().await;
        for (wants, end) in [
            ("TE: trailers\r\nConnection: TE\r\n", &b"0\r\nx-digest: \"a\tb\"\r\n\r\n"[..]),
            ("", b"0\r\n\r\n"),
        ] {
            let mut client = RawClient::join(&gateway, &house.ca).await;
            let line = format!("GET {} HTTP/1.1\r\nHost: {SERVICE}\r\n", target("/SMS_MP/x"));
            client.send(format!("{line}{wants}\r\n").as_bytes()).await;
            let head = String::from_utf8(client.until(b"\r\n\r\n").await.unwrap()).unwrap();
            assert!(head.contains("\r\ntrailer: X-Digest\r\n"), "{head}");
            assert_eq!(client.until(b"1\r\n\0\r\n").await.unwrap(), b"1\r\n\0\r\n");
            assert_eq!(client.until(b"\r\n\r\n").await.unwrap(), end);
        }
        let mut client = Client::join(&gateway, &house.ca, Http::Two).await;
        let answer = client.send(bare("GET", &target("/SMS_MP/x"))).await.unwrap();
        let body = answer.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["x-digest"], "\"a\tb\"");
    })
    .await;
}
