//! Which header fields a request to one endpoint may have, where an administrator wants a closed
//! list.

use std::sync::Arc;

use http::HeaderMap;
use http::header::HeaderName;

use super::headers;

/// Which header fields and trailers of a request may pass, beyond what holds for every endpoint.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum RequestHeaders {
    /// Every field that [`strip_request_headers`](super::strip_request_headers) leaves.
    #[default]
    Open,
    /// Of those only what clients of Configuration Manager send, which [`RequestHeaders::allows`]
    /// tells, and the fields named here. Others are dropped, not refused: what a site role never
    /// sees cannot harm it, and an update of the client must not lock it out.
    Listed(Arc<[HeaderName]>),
}

/// Fields that pass a closed list.
// Source: Microsoft Learn, "CMG data flow", and MC-BUP for what clients of Configuration Manager
// and BITS send; RFC 9110, sections 8, 10.1, 12.5, 13.1 and 14.2, for what HTTP gives a meaning of
// its own; RFC 4918, section 10.2, for `Depth` of PROPFIND; W3C Trace Context.
const LISTED: [&str; 28] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "authorization",
    "cache-control",
    "content-encoding",
    "content-language",
    "content-length",
    "content-name",
    "content-range",
    "content-type",
    "date",
    "depth",
    "expect",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "pragma",
    "range",
    "soapaction",
    "traceparent",
    "tracestate",
    "trailer",
    "user-agent",
];

/// Beginnings of further names like those in [`LISTED`].
const LISTED_PREFIXES: [&str; 3] = ["bits-", "ccm", "clienttoken"];

impl RequestHeaders {
    /// Whether a field of this name passes the list. It may still be dropped for what it is.
    pub fn allows(&self, name: &HeaderName) -> bool {
        let Self::Listed(more) = self else { return true };
        LISTED.contains(&name.as_str())
            || LISTED_PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix))
            || more.contains(name)
    }

    /// Drops every field that does not pass. Doing it twice changes nothing more.
    pub fn strip(&self, headers: &mut HeaderMap) {
        if *self != Self::Open {
            headers::remove_where(headers, |name| !self.allows(name));
        }
    }

    /// A field that is listed although it never passes, whatever the list.
    pub(super) fn unusable(&self) -> Option<&HeaderName> {
        let Self::Listed(more) = self else { return None };
        more.iter().find(|name| headers::never_passes(name))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::policy::{NAMED_HEADERS, strip_request_headers};

    fn listed(more: &[&'static str]) -> RequestHeaders {
        RequestHeaders::Listed(more.iter().map(|name| HeaderName::from_static(name)).collect())
    }

    fn map<'a>(names: impl IntoIterator<Item = &'a str>) -> HeaderMap {
        let name = |name: &str| HeaderName::from_bytes(name.as_bytes()).unwrap();
        names.into_iter().map(|it| (name(it), HeaderValue::from_static("v"))).collect()
    }

    #[test]
    fn a_closed_list_lets_pass_what_clients_send_and_what_is_listed() {
        let sent = [
            "CCMClientID",
            "CCMClientTimestampSignature",
            "ClientTokenSignature",
            "Range",
            "BITS-Packet-Type",
            "BITS-Session-Id",
            "Content-Name",
            "Content-Range",
            "SOAPAction",
            "Authorization",
            "Content-Type",
            "User-Agent",
            "Host",
            "Depth",
            "traceparent",
        ];
        let others = ["Cookie", "X-Anything", "Origin", "Content_Type", "Translate", "From"];
        for list in [listed(&[]), listed(&["x-site"])] {
            let mut headers = map(sent.into_iter().chain(others).chain(["X-Site"]));
            list.strip(&mut headers);
            let mut expected = map(sent);
            if list != listed(&[]) {
                expected.insert("x-site", HeaderValue::from_static("v"));
            }
            assert_eq!(headers, expected);
        }
        let mut headers = map(others);
        RequestHeaders::Open.strip(&mut headers);
        assert_eq!(headers, map(others), "an open one lets all pass");
    }

    #[test]
    fn what_must_survive_byte_for_byte_is_on_every_list() {
        for name in NAMED_HEADERS {
            assert!(listed(&[]).allows(&HeaderName::from_static(name)), "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_list_only_ever_takes_away_and_does_so_once(
            names in prop::collection::vec("(bits-|ccm|x-|content-)?[a-z_-]{1,8}", 0..16),
        ) {
            let original = map(names.iter().map(String::as_str));
            let list = listed(&["x-a"]);
            let mut once = original.clone();
            list.strip(&mut once);
            for name in original.keys() {
                prop_assert_eq!(once.contains_key(name), list.allows(name));
                let kept: Vec<_> = once.get_all(name).iter().collect();
                let all: Vec<_> = original.get_all(name).iter().collect();
                prop_assert!(kept.is_empty() || kept == all);
            }
            let mut twice = once.clone();
            list.strip(&mut twice);
            prop_assert_eq!(&twice, &once);
            // Nothing that is dropped for what it is comes back by a list.
            let mut both = original.clone();
            if strip_request_headers(&mut both).is_ok() {
                list.strip(&mut both);
                prop_assert!(both.keys().all(|name| !headers::never_passes(name)));
            }
        }
    }
}
