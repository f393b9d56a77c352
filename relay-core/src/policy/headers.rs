//! Which headers may cross, and how large a body may be.
//!
//! The list is open: a header passes unless it is about one hop only, or says something about the
//! client that only the relay may say, or tells a server to serve something other than what was
//! judged. What passes keeps its octets, and the values of one name keep their order.
//!
//! Names are compared with `_` read as `-`: CGI and WSGI servers cannot tell `X_Forwarded_For` from
//! `X-Forwarded-For`.

use http::HeaderMap;
use http::header::{self, HeaderName, HeaderValue};

use super::{Endpoint, HeaderFault, Refusal};

/// Headers that must reach the site byte for byte, in lower case.
///
/// Source: Microsoft Learn, "CMG data flow", names the first five; the last three are what clients
/// send as well.
pub const NAMED_HEADERS: [&str; 8] = [
    "range",
    "ccmclientid",
    "ccmclientidsignature",
    "ccmclienttimestamp",
    "ccmclienttimestampssignature",
    "ccmclienttimestampsignature",
    "clienttoken",
    "clienttokensignature",
];

/// Headers about one connection only.
// RFC 9110, section 7.6.1, and the two proxy authentication headers of section 11.7, because the
// relay is not the client's proxy. `Trailer` is not hop-by-hop and stays.
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Headers by which a client could claim an identity, an address or a certificate, or make a server
/// serve another path or verb than the one judged.
// Our choice: what IIS, nginx, HAProxy, Apache and the large clouds are known to believe. `proxy`
// becomes the variable HTTP_PROXY in CGI programs.
const NOT_FROM_CLIENTS: [&str; 14] = [
    "cf-connecting-ip",
    "client-cert",
    "client-cert-chain",
    "fastly-client-ip",
    "forwarded",
    "front-end-https",
    "proxy",
    "remote-user",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-method-override",
    "x-real-ip",
    "x-rewrite-url",
];

/// Beginnings of further names like those in [`NOT_FROM_CLIENTS`].
const NOT_FROM_CLIENTS_PREFIXES: [&str; 13] = [
    "relay-",
    "ssl-client-",
    "x-amzn-mtls-",
    "x-arr-",
    "x-azure-",
    "x-client-cert",
    "x-forwarded",
    "x-http-method",
    "x-ms-client-principal",
    "x-original-",
    "x-relay-",
    "x-remote-user",
    "x-ssl-",
];

/// The certificate whose key has signed the head of a request. It is shown to the relay and to the
/// site's token service, and is no business of other site roles, which have their own.
pub(super) const CLIENT_CERTIFICATE: HeaderName = HeaderName::from_static("ccmclientcertificate");

/// Beginnings of headers that a site role's answer may not carry to a client.
// Source: MC-BUP, BITS-Host-Id and BITS-Host-Id-Fallback-Timeout, would send the client to an
// internal name. RFC 7838: so would `Alt-Svc`.
const NOT_TO_CLIENTS_PREFIXES: [&str; 4] = ["alt-svc", "bits-host-id", "relay-", "x-relay-"];

/// Headers that `Connection` may not name, besides [`NAMED_HEADERS`] and `BITS-*`.
// RFC 9110, section 7.6.1: a sender must not name a header that is meant for all recipients.
// Without this check a client could have its framing or identity removed after it was judged.
const END_TO_END: [HeaderName; 10] = [
    header::AUTHORIZATION,
    CLIENT_CERTIFICATE,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::HOST,
    header::IF_RANGE,
    HeaderName::from_static("content-name"),
    HeaderName::from_static("soapaction"),
];

/// Removes from a request what may not cross a hop.
///
/// That is: the hop-by-hop headers and each one that `Connection` names; every header that only the
/// relay may set (`Relay-*`, `X-Relay-*`, `Forwarded`, `X-Forwarded-*`, `X-Real-IP`, `X-ARR-*`,
/// `X-SSL-*`, `Client-Cert` and their like); every header that makes a server serve another path or
/// verb (`X-Original-*`, `X-Rewrite-URL`, `X-HTTP-Method*`).
///
/// The [named headers](NAMED_HEADERS) always survive. Doing it twice changes nothing more.
///
/// # Errors
///
/// [`Refusal::BadHeader`] when `Connection` is not a list of names, or names a header that must
/// reach the site; the headers are then untouched.
pub fn strip_request_headers(headers: &mut HeaderMap) -> Result<(), Refusal> {
    let named = named_by_connection(headers)?;
    if let Some(name) = named.iter().find(|name| is_end_to_end(name)) {
        return Err(bad_connection(HeaderFault::RemovesEndToEnd(name.clone())));
    }
    remove_all(headers, &named);
    remove_where(headers, never_passes);
    Ok(())
}

/// Removes from an answer what may not cross a hop.
///
/// That is: the hop-by-hop headers and each one that `Connection` names, `BITS-Host-Id` and its
/// fallback time-out, `Alt-Svc`, `Relay-*` and `X-Relay-*`. A `Connection` that is not a list, or
/// names a header that must reach the client, is dropped without being obeyed: a backend's slip is
/// no reason to fail its answer.
///
/// Doing it twice changes nothing more.
pub fn strip_answer_headers(headers: &mut HeaderMap) {
    let mut named = named_by_connection(headers).unwrap_or_default();
    named.retain(|name| !is_end_to_end(name));
    remove_all(headers, &named);
    remove_where(headers, |name| {
        is_hop_by_hop(name) || begins_with_any(name, &NOT_TO_CLIENTS_PREFIXES)
    });
}

/// Removes from trailers of either direction what a trailer may not carry: all that
/// [`strip_request_headers`] and [`strip_answer_headers`] remove, and what frames, routes or
/// authenticates a message.
// RFC 9110, section 6.5.1.
pub fn strip_trailers(trailers: &mut HeaderMap) {
    remove_where(trailers, |name| {
        is_hop_by_hop(name)
            || is_not_from_clients(name)
            || begins_with_any(name, &NOT_TO_CLIENTS_PREFIXES)
            || is_end_to_end(name)
    });
}

/// Reads the body length that a message declares; `None` if it declares none.
///
/// # Errors
///
/// [`Refusal::BadHeader`] unless `Content-Length` is one number of 1 to 19 digits: otherwise two
/// parsers could disagree where the message ends.
pub fn declared_body_length(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    match (parse_length(value), values.next()) {
        (Some(octets), None) => Ok(Some(octets)),
        _ => {
            Err(Refusal::BadHeader { name: header::CONTENT_LENGTH, fault: HeaderFault::NotALength })
        }
    }
}

/// Judges a declared body length, in octets, by the endpoint's limit.
///
/// A body of undeclared length passes here; who streams it must cut it at
/// [`Endpoint::request_body_bytes_max`].
///
/// # Errors
///
/// [`Refusal::BodyTooLarge`].
pub fn check_body_length(endpoint: &Endpoint, content_length: Option<u64>) -> Result<(), Refusal> {
    match (endpoint.request_body_bytes_max, content_length) {
        (Some(limit), Some(octets)) if limit < octets => Err(Refusal::BodyTooLarge { limit }),
        _ => Ok(()),
    }
}

fn parse_length(value: &HeaderValue) -> Option<u64> {
    let digits = value.to_str().ok()?;
    let plain = (1..=19).contains(&digits.len()) && digits.bytes().all(|d| d.is_ascii_digit());
    digits.parse().ok().filter(|_| plain)
}

/// The names in `Connection`, without options of the connection itself, which name no header.
fn named_by_connection(headers: &HeaderMap) -> Result<Vec<HeaderName>, Refusal> {
    let mut named = Vec::new();
    for value in headers.get_all(header::CONNECTION) {
        for option in value.as_bytes().split(|octet| *octet == b',') {
            let option = option.trim_ascii();
            if option.is_empty() || option.eq_ignore_ascii_case(b"close") {
                continue;
            }
            let name = HeaderName::from_bytes(option)
                .map_err(|_invalid| bad_connection(HeaderFault::NotAList))?;
            named.push(name);
        }
    }
    Ok(named)
}

fn bad_connection(fault: HeaderFault) -> Refusal {
    Refusal::BadHeader { name: header::CONNECTION, fault }
}

fn is_end_to_end(name: &HeaderName) -> bool {
    END_TO_END.contains(name)
        || NAMED_HEADERS.contains(&name.as_str())
        || name.as_str().starts_with("bits-")
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    HOP_BY_HOP.iter().any(|known| folded(name).eq(known.bytes()))
}

/// Whether a request loses a field of this name whatever else it has.
pub(super) fn never_passes(name: &HeaderName) -> bool {
    is_hop_by_hop(name) || is_not_from_clients(name)
}

fn is_not_from_clients(name: &HeaderName) -> bool {
    NOT_FROM_CLIENTS.iter().any(|known| folded(name).eq(known.bytes()))
        || begins_with_any(name, &NOT_FROM_CLIENTS_PREFIXES)
        || is_framing_in_disguise(name)
}

/// `Content_Length`, which a CGI server may read as the body's length.
fn is_framing_in_disguise(name: &HeaderName) -> bool {
    *name != header::CONTENT_LENGTH && folded(name).eq(b"content-length".iter().copied())
}

fn begins_with_any(name: &HeaderName, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| folded(name).take(prefix.len()).eq(prefix.bytes()))
}

/// The name's octets, lower case as always in [`HeaderName`], with `_` as `-`.
fn folded(name: &HeaderName) -> impl Iterator<Item = u8> {
    name.as_str().bytes().map(|octet| if octet == b'_' { b'-' } else { octet })
}

pub(super) fn remove_where(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| unwanted(name)).cloned().collect();
    remove_all(headers, &names);
}

fn remove_all(headers: &mut HeaderMap, names: &[HeaderName]) {
    for name in names {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Access, EndpointKind, RequestHeaders};
    use super::*;
    use proptest::prelude::*;

    fn map(fields: &[(&str, &[u8])]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_bytes(value).unwrap(),
            );
        }
        headers
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn hop_by_hop_headers_and_those_connection_names_are_stripped() {
        let mut headers = map(&[
            ("Connection", b"close, X-One ,, keep-alive"),
            ("connection", b"x-two"),
            ("X-One", b"1"),
            ("x-two", b"2"),
            ("X-Three", b"3"),
            ("Keep-Alive", b"timeout=5"),
            ("Proxy-Connection", b"keep-alive"),
            ("TE", b"trailers"),
            ("Trailer", b"x-sum"),
            ("Transfer-Encoding", b"chunked"),
            ("Transfer_Encoding", b"chunked"),
            ("Upgrade", b"h2c"),
            ("HTTP2-Settings", b"AA"),
            ("Proxy-Authenticate", b"Basic"),
            ("Proxy-Authorization", b"Basic"),
            ("Content-Length", b"3"),
        ]);
        strip_request_headers(&mut headers).unwrap();
        assert_eq!(names(&headers), ["content-length", "trailer", "x-three"]);
    }

    #[test]
    fn headers_that_only_the_relay_may_set_are_dropped() {
        let forged = [
            "Relay-Message-Id",
            "X-Relay-Client",
            "X-ARR-ClientCert",
            "X-SSL-Client-Cert",
            "SSL_CLIENT_CERT",
            "X-Forwarded-For",
            "X_Forwarded_For",
            "x-forwarded-client-cert",
            "Forwarded",
            "X-Real-IP",
            "x_real-ip",
            "X-Client-Cert",
            "X-ClientCert-Not",
            "Client-Cert",
            "Proxy",
            "X-Original-URL",
            "X-Rewrite-URL",
            "X-HTTP-Method-Override",
            "Content_Length",
            "X-MS-Client-Principal-Id",
        ];
        for name in forged {
            let mut headers = map(&[(name, b"forged"), ("Accept", b"*/*")]);
            strip_request_headers(&mut headers).unwrap();
            let expected: &[&str] = if name == "X-ClientCert-Not" {
                &["accept", "x-clientcert-not"]
            } else {
                &["accept"]
            };
            assert_eq!(names(&headers), expected, "{name}");
        }
    }

    #[test]
    fn named_headers_survive_byte_for_byte_and_in_order() {
        let odd: &[&[u8]] = &[b"bytes=0-1,-5", b"", b"\xff\x80\t \x20", b"GUID:{\"a\"}", b"0"];
        for name in NAMED_HEADERS {
            let mut headers = map(&[("Connection", b"x-hop"), ("X-Hop", b"1"), ("Upgrade", b"x")]);
            for value in odd {
                let value = HeaderValue::from_bytes(value).unwrap();
                headers.append(HeaderName::from_static(name), value);
            }
            strip_request_headers(&mut headers).unwrap();
            let kept: Vec<&[u8]> =
                headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
            assert_eq!(kept, odd, "{name}");
            assert_eq!(headers.len(), odd.len());
        }
    }

    #[test]
    fn connection_may_not_name_what_must_reach_the_site() {
        let others =
            ["Content-Length", "HOST", "Authorization", "Content-Range", "BITS-Session-Id"];
        let others = others.into_iter().chain(["CCMClientCertificate"]);
        for name in NAMED_HEADERS.into_iter().chain(others) {
            let mut headers = map(&[("Connection", format!("close,{name}").as_bytes())]);
            let before = headers.clone();
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            assert_eq!(
                strip_request_headers(&mut headers),
                Err(bad_connection(HeaderFault::RemovesEndToEnd(name)))
            );
            assert_eq!(headers, before);
        }
        for value in [&b"a b"[..], b"\"close\"", b"x\xff", b"a;b"] {
            let mut headers = map(&[("Connection", value)]);
            let refused = Err(bad_connection(HeaderFault::NotAList));
            assert_eq!(strip_request_headers(&mut headers), refused);
        }
    }

    #[test]
    fn answers_lose_internal_names_but_nothing_a_client_needs() {
        let mut headers = map(&[
            ("Connection", b"Content-Length, X-Hop, \"bad"),
            ("X-Hop", b"1"),
            ("BITS-Host-Id", b"mp01.corp.example"),
            ("BITS-Host-Id-Fallback-Timeout", b"60"),
            ("BITS-Session-Id", b"{1}"),
            ("BITS-Received-Content-Range", b"1024"),
            ("Alt-Svc", b"h2=\"mp01:443\""),
            ("Relay-Reason", b"CMGService_Forged"),
            ("Content-Length", b"0"),
            ("X-Forwarded-For", b"a client may see it"),
        ]);
        strip_answer_headers(&mut headers);
        assert_eq!(
            names(&headers),
            [
                "bits-received-content-range",
                "bits-session-id",
                "content-length",
                "x-forwarded-for",
                "x-hop",
            ]
        );

        let mut headers = map(&[
            ("Connection", b"Content-Length, X-Hop"),
            ("X-Hop", b"1"),
            ("Content-Length", b"0"),
        ]);
        strip_answer_headers(&mut headers);
        assert_eq!(names(&headers), ["content-length"]);
    }

    #[test]
    fn trailers_cannot_frame_route_or_identify() {
        let mut trailers = map(&[
            ("X-Checksum", b"1"),
            ("Content-Length", b"9"),
            ("Host", b"x"),
            ("Authorization", b"x"),
            ("Transfer-Encoding", b"chunked"),
            ("X-Forwarded-For", b"x"),
            ("CCMClientID", b"x"),
            ("BITS-Host-Id", b"x"),
            ("CCMClientCertificate", b"x"),
        ]);
        strip_trailers(&mut trailers);
        assert_eq!(names(&trailers), ["x-checksum"]);
    }

    #[test]
    fn a_declared_length_is_one_number_of_1_to_19_digits() {
        let length = |values: &[&[u8]]| {
            let fields: Vec<(&str, &[u8])> =
                values.iter().map(|value| ("Content-Length", *value)).collect();
            declared_body_length(&map(&fields)).ok()
        };
        assert_eq!(length(&[]), Some(None));
        assert_eq!(length(&[b"0"]), Some(Some(0)));
        assert_eq!(length(&[b"9999999999999999999"]), Some(Some(9_999_999_999_999_999_999)));
        let bad: [&[&[u8]]; 8] = [
            &[b"1", b"1"],
            &[b"1,1"],
            &[b"+1"],
            &[b"-1"],
            &[b""],
            &[b" 1"],
            &[b"\xb2"],
            &[b"00000000000000000001"],
        ];
        for values in bad {
            assert_eq!(length(values), None, "{values:?}");
        }
    }

    #[test]
    fn the_body_limit_is_inclusive() {
        let mut endpoint = Endpoint {
            name: "mp".to_owned(),
            kind: EndpointKind::ManagementPoint,
            role_id: 1,
            paths: None,
            request_body_bytes_max: Some(10),
            request_headers: RequestHeaders::Open,
            access: Access::Anonymous,
        };
        assert_eq!(check_body_length(&endpoint, Some(9)), Ok(()));
        assert_eq!(check_body_length(&endpoint, Some(10)), Ok(()));
        let too_large = Err(Refusal::BodyTooLarge { limit: 10 });
        assert_eq!(check_body_length(&endpoint, Some(11)), too_large);
        assert_eq!(check_body_length(&endpoint, Some(u64::MAX)), too_large);
        assert_eq!(check_body_length(&endpoint, None), Ok(()));

        endpoint.request_body_bytes_max = None;
        assert_eq!(check_body_length(&endpoint, Some(u64::MAX)), Ok(()));
    }

    fn any_headers() -> impl Strategy<Value = HeaderMap> {
        let name = prop_oneof![
            "[a-z_-]{1,12}",
            prop::sample::select(&NAMED_HEADERS[..]).prop_map(str::to_owned),
            prop::sample::select(&HOP_BY_HOP[..]).prop_map(str::to_owned),
            prop::sample::select(&NOT_FROM_CLIENTS[..]).prop_map(str::to_owned),
            prop::sample::select(&NOT_FROM_CLIENTS_PREFIXES[..]).prop_map(|p| p.to_owned() + "x"),
            Just("bits-host-id".to_owned()),
        ];
        let octets = prop_oneof![Just(b'\t'), 0x20..=0x7eu8, 0x80..=0xffu8];
        let value = prop_oneof![
            prop::collection::vec(octets, 0..12),
            "(close|x-[a-c]|te|[a-c]{1,2})(, ?[a-c]{1,2}){0,3}".prop_map(String::into_bytes),
        ];
        prop::collection::vec((name, value), 0..24).prop_map(|fields| {
            let fields: Vec<(&str, &[u8])> =
                fields.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
            map(&fields)
        })
    }

    proptest! {
        #[test]
        fn stripping_twice_is_stripping_once(original in any_headers()) {
            let mut once = original.clone();
            if strip_request_headers(&mut once).is_ok() {
                let mut twice = once.clone();
                prop_assert_eq!(strip_request_headers(&mut twice), Ok(()));
                prop_assert_eq!(&twice, &once);
            } else {
                prop_assert_eq!(&once, &original);
            }

            let mut once = original.clone();
            strip_answer_headers(&mut once);
            let mut twice = once.clone();
            strip_answer_headers(&mut twice);
            prop_assert_eq!(&twice, &once);
        }

        #[test]
        fn what_survives_is_unchanged_and_allowed(original in any_headers()) {
            let mut headers = original.clone();
            prop_assume!(strip_request_headers(&mut headers).is_ok());
            for name in NAMED_HEADERS {
                let before: Vec<_> = original.get_all(name).iter().collect();
                let after: Vec<_> = headers.get_all(name).iter().collect();
                prop_assert_eq!(before, after);
            }
            for name in headers.keys() {
                let before: Vec<_> = original.get_all(name).iter().collect();
                let after: Vec<_> = headers.get_all(name).iter().collect();
                prop_assert_eq!(before, after);
                prop_assert!(!is_hop_by_hop(name) && !is_not_from_clients(name));
            }
        }
    }
}
