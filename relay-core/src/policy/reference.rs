//! What this room is judged by: what it lets pass means the same however often it is decoded, and
//! to strip headers twice is to strip them once.
//!
//! Hidden behind the feature `fuzzing` and not covered by semver. The fuzz targets and the replay
//! of their corpora call [`path`] and [`header_policy`]; every violation is a panic.

use http::header::{HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method};

use super::{
    Access, Endpoint, EndpointKind, EndpointMap, NAMED_HEADERS, Refusal, RequestHeaders,
    strip_answer_headers, strip_request_headers, strip_trailers,
};

/// Targets begin with one of these, so that many get through to an endpoint.
const BEGINNINGS: [&str; 4] = [
    "",
    "/CCM_Proxy_MutualAuth/1/SMS_MP/",
    "/CCM_Proxy_ServerAuth/2/ClientWebService/",
    "/ccm_proxy_mutualauth/18446744073709551615/own/",
];

/// Verbs that are asked with.
const VERBS: [&str; 4] = ["GET", "CCM_POST", "POST", "DELETE"];

/// The body of the fuzz target `path`.
///
/// The first octet of `data` chooses a verb and how the target begins; the rest is the target.
///
/// # Panics
///
/// If the verdict is not the same twice, or what the site is asked for is not what follows the role
/// id octet for octet, has a dot segment or a path parameter in some round of decoding, or leads to
/// alternate authentication.
pub fn path(data: &[u8]) {
    let Some((&choice, rest)) = data.split_first() else { return };
    let choice = usize::from(choice);
    let (Some(verb), Some(beginning)) = (VERBS.get(choice & 3), BEGINNINGS.get(choice >> 2 & 3))
    else {
        return;
    };
    let octets = [beginning.as_bytes(), rest].concat();
    let Ok(target) = PathAndQuery::try_from(octets) else { return };
    let method = Method::from_bytes(verb.as_bytes()).expect("a verb is a token");
    let map = map();
    let verdict = map.route(&method, &target);
    let again = map.route(&method, &target);
    let Ok(route) = verdict else {
        assert_eq!(again.err(), verdict.err(), "judged again");
        return;
    };
    assert_eq!(again.map(|it| it.site_target).ok().as_ref(), Some(&route.site_target));
    assert!(route.endpoint.kind.verbs().contains(verb), "{verb} passed");
    let site_target = route.site_target.as_str();
    assert!(target.as_str().ends_with(site_target), "{target} became {site_target}");
    assert_eq!(route.site_target.query(), target.query());
    check_path(route.site_target.path());
    // What the site is asked for leads to the same endpoint, by whichever root.
    let role_id = route.endpoint.role_id;
    let rewritten = format!("/{}/{role_id}{site_target}", route.root.name());
    let rewritten = PathAndQuery::try_from(rewritten).expect("it is one as the first was");
    let same = map.route(&method, &rewritten).expect("what passed passes again");
    assert_eq!((same.endpoint.role_id, &same.site_target), (role_id, &route.site_target));
}

fn map() -> EndpointMap {
    let endpoint = |role_id, kind, paths| Endpoint {
        name: format!("endpoint-{role_id}"),
        kind,
        role_id,
        paths,
        request_body_bytes_max: None,
        request_headers: RequestHeaders::Open,
        access: Access::Anonymous,
    };
    let own = Some(vec!["own".to_owned(), "/a/b/".to_owned()]);
    EndpointMap::new(vec![
        endpoint(1, EndpointKind::ManagementPoint, None),
        endpoint(2, EndpointKind::SoftwareUpdatePoint, None),
        endpoint(u64::MAX, EndpointKind::ManagementPoint, own),
    ])
    .expect("names and role ids are different")
}

/// Holds a path against servers that decode it once, twice, and so on.
fn check_path(path: &str) {
    let mut octets = path.as_bytes().to_vec();
    let segments = path.split('/').count();
    loop {
        let now = octets.split(|octet| matches!(octet, b'/' | b'\\')).count();
        assert_eq!(now, segments, "{path} has other segments when it is decoded");
        for segment in octets.split(|octet| matches!(octet, b'/' | b'\\')) {
            check_segment(segment, path);
        }
        let decoded = decode(&octets);
        check_authentication(&decoded, path);
        if decoded == octets {
            return;
        }
        octets = decoded;
    }
}

fn check_segment(segment: &[u8], path: &str) {
    let is_dots = !segment.is_empty() && segment.iter().all(|it| matches!(it, b'.' | b' '));
    assert!(!is_dots, "{path} has a dot segment");
    assert!(!segment.contains(&b';'), "{path} has a parameter");
    assert!(segment.iter().all(|it| matches!(it, b' '..=b'~')), "{path} is not plain");
}

/// Panics if a path that is decoded leads where no client of the internet may come.
fn check_authentication(decoded: &[u8], path: &str) {
    let lower = decoded.to_ascii_lowercase();
    let mut segments = lower.split(|octet| *octet == b'/');
    let is_alternate = segments.any(|it| it.ends_with(b"altauth") || it.ends_with(b"windowsauth"));
    assert!(!is_alternate, "{path} leads to alternate authentication");
}

/// One round of percent decoding, as a forgiving server does it.
fn decode(octets: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut rest = octets;
    while let Some((&octet, behind)) = rest.split_first() {
        let digits = behind.get(..2).filter(|it| octet == b'%' && it.is_ascii());
        let digits = digits.and_then(|it| std::str::from_utf8(it).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(escaped.unwrap_or(octet));
        rest = if escaped.is_some() { behind.get(2..).unwrap_or_default() } else { behind };
    }
    decoded
}

/// What one of the functions that strip may not leave behind.
struct Ban {
    exact: &'static [&'static str],
    beginnings: &'static [&'static str],
}

/// About one connection only. RFC 9110, section 7.6.1.
const HOP: [&str; 6] =
    ["connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"];

const FROM_CLIENTS: Ban = Ban {
    exact: &["client-cert", "forwarded", "proxy", "remote-user", "true-client-ip", "x-real-ip"],
    beginnings: &["relay-", "x-forwarded", "x-arr-", "x-http-method", "x-original-", "x-ssl-"],
};

const TO_CLIENTS: Ban = Ban { exact: &["alt-svc"], beginnings: &["relay-", "bits-host-id"] };

impl Ban {
    /// Panics if `headers` have one that is banned, in whichever spelling a CGI server knows it.
    fn check(&self, headers: &HeaderMap) {
        for name in headers.keys() {
            let plain = name.as_str().replace('_', "-");
            let is_exact = HOP.iter().chain(self.exact).any(|banned| *banned == plain);
            let begins = self.beginnings.iter().any(|banned| plain.starts_with(banned));
            assert!(!is_exact && !begins, "{name} passed");
        }
    }
}

/// The body of the fuzz target `header_policy`.
///
/// Each line of `data` is a name, a colon and a value; what is none is left out.
///
/// # Panics
///
/// If headers that must reach the site are removed, others are changed, any are left that may not
/// pass, or stripping what was stripped changes something.
pub fn header_policy(data: &[u8]) {
    let given = read(data);
    let mut of_request = given.clone();
    match strip_request_headers(&mut of_request) {
        Ok(()) => {
            FROM_CLIENTS.check(&of_request);
            for name in NAMED_HEADERS {
                assert!(given.get_all(name).iter().eq(of_request.get_all(name)), "{name}");
            }
            check_kept(&given, &of_request);
            let again = stripped(&of_request, |it| assert_eq!(strip_request_headers(it), Ok(())));
            assert_eq!(again, of_request, "stripped again");
        }
        Err(refusal) => {
            assert!(matches!(refusal, Refusal::BadHeader { .. }), "{refusal:?}");
            assert_eq!(of_request, given, "what is refused is left as it was");
        }
    }
    for (strip, bans) in [
        (strip_answer_headers as fn(&mut HeaderMap), &[TO_CLIENTS][..]),
        (strip_trailers, &[TO_CLIENTS, FROM_CLIENTS]),
    ] {
        let once = stripped(&given, strip);
        for ban in bans {
            ban.check(&once);
        }
        check_kept(&given, &once);
        assert_eq!(stripped(&once, strip), once, "stripped again");
    }
}

fn stripped(headers: &HeaderMap, strip: impl Fn(&mut HeaderMap)) -> HeaderMap {
    let mut stripped = headers.clone();
    strip(&mut stripped);
    stripped
}

/// Panics unless each name that is left has all its values, in their order.
fn check_kept(given: &HeaderMap, kept: &HeaderMap) {
    for name in kept.keys() {
        assert!(given.get_all(name).iter().eq(kept.get_all(name)), "the values of {name}");
    }
}

fn read(data: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in data.split(|octet| *octet == b'\n').take(64) {
        let mut parts = line.splitn(2, |octet| *octet == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else { continue };
        let (name, value) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value));
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}
