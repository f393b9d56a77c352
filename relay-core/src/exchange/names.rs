//! The static tables of block version 1: methods and field names that travel as one octet.
//!
//! Both are frozen: a place is a code, and a peer of version 1 refuses a listed name sent as a
//! literal. A longer table is a new block version.

/// Methods; the code is the place, from 1 on.
pub(super) const METHODS: [&str; 10] = [
    "GET",
    "HEAD",
    "POST",
    "PROPFIND",
    "CCM_POST",
    "BITS_POST",
    "OPTIONS",
    "PUT",
    "DELETE",
    "PATCH",
];

/// Field names in octet order; the code is the place, from 1 on.
pub(super) const FIELDS: [&str; 77] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "bits-context-server",
    "bits-error-code",
    "bits-error-context",
    "bits-original-request-url",
    "bits-packet-type",
    "bits-protocol",
    "bits-received-content-range",
    "bits-reply-url",
    "bits-session-id",
    "bits-supported-protocols",
    "cache-control",
    "ccmclientid",
    "ccmclientidsignature",
    "ccmclienttimestamp",
    "ccmclienttimestampsignature",
    "ccmclienttimestampssignature",
    "clienttoken",
    "clienttokensignature",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-name",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "dav",
    "depth",
    "destination",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "ms-author-via",
    "origin",
    "overwrite",
    "pragma",
    "public",
    "range",
    "referer",
    "retry-after",
    "server",
    "set-cookie",
    "soapaction",
    "strict-transport-security",
    "trailer",
    "translate",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "x-aspnet-version",
    "x-content-type-options",
    "x-frame-options",
    "x-powered-by",
    "x-requested-with",
];

/// Fields whose values are credentials; a decoded value prints as `Sensitive`.
const SECRETS: [&str; 6] = [
    "authorization",
    "ccmclientidsignature",
    "clienttoken",
    "clienttokensignature",
    "cookie",
    "set-cookie",
];

/// Returns the code of a method, exact and case-sensitive.
pub(super) fn method_code(name: &str) -> Option<u8> {
    code(METHODS.iter().position(|known| *known == name))
}

/// Returns the method with this code.
pub(super) fn method(code: u8) -> Option<&'static str> {
    METHODS.get(place(code)?).copied()
}

/// Returns the code of a lower-case field name.
pub(super) fn field_code(name: &str) -> Option<u8> {
    code(FIELDS.binary_search(&name).ok())
}

/// Returns the field name with this code.
pub(super) fn field(code: u8) -> Option<&'static str> {
    FIELDS.get(place(code)?).copied()
}

/// Whether the values of this field are credentials.
pub(super) fn is_secret(field: &str) -> bool {
    SECRETS.contains(&field)
}

fn code(place: Option<usize>) -> Option<u8> {
    u8::try_from(place?.checked_add(1)?).ok()
}

fn place(code: u8) -> Option<usize> {
    usize::from(code).checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, Method};

    #[test]
    fn every_entry_is_valid_and_found_by_name_and_by_code() {
        assert!(FIELDS.is_sorted_by(|a, b| a < b), "binary search needs strict order");
        for (code, name) in (1..).zip(FIELDS) {
            assert_eq!(HeaderName::from_lowercase(name.as_bytes()).unwrap(), name);
            assert_eq!((field_code(name), field(code)), (Some(code), Some(name)));
        }
        for (code, name) in (1..).zip(METHODS) {
            assert_eq!(Method::from_bytes(name.as_bytes()).unwrap(), name);
            assert_eq!((method_code(name), method(code)), (Some(code), Some(name)));
        }
        assert_eq!((field(0), method(0)), (None, None));
        assert_eq!((field(78), method(11)), (None, None));
        assert_eq!((field_code("x-other"), method_code("get")), (None, None));
    }

    /// FNV-1a over all entries in order: any change of a code changes it.
    fn digest(names: &[&str]) -> u32 {
        let octets = names.iter().flat_map(|name| name.bytes().chain([0]));
        octets.fold(0x811c_9dc5, |sum, octet| (sum ^ u32::from(octet)).wrapping_mul(0x0100_0193))
    }

    #[test]
    fn tables_are_frozen() {
        assert_eq!((digest(&METHODS), digest(&FIELDS)), (0xa234_45ba, 0xb537_7789));
    }
}
