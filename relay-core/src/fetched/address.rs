//! Where something is fetched from, and which of such addresses are allowed.

use std::fmt;

use http::Uri;
use http::uri::{PathAndQuery, Scheme};

/// Octets of an address, at most. Our choice: what is longer was not written by anybody.
pub const ADDRESS_OCTETS_MAX: usize = 2048;

/// An address that something may be fetched from.
///
/// Its text, also in `Debug`, ends with the path: a query may hold what opens the door.
#[derive(Clone, Eq, PartialEq)]
pub(super) struct Address(Uri);

/// Whether an address may do without TLS.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Plain {
    /// On this machine alone.
    Loopback,
    /// Anywhere. What is fetched is signed, and whoever asks for a list over TLS might need that
    /// list to judge the server's certificate.
    // RFC 5280, section 8.
    Anywhere,
}

/// Why a text is no address to fetch something from. The fault of whoever has written it: the
/// configuration, what the site publishes, or a provider's metadata.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressFault {
    /// It is none.
    #[error("it is no absolute URL")]
    Malformed,
    /// It exceeds [`ADDRESS_OCTETS_MAX`].
    #[error("it is longer than {ADDRESS_OCTETS_MAX} octets")]
    TooLong,
    /// It names another way than HTTP.
    #[error("its scheme is neither `http` nor `https`; give an address of that kind, or a file")]
    Scheme,
    /// It holds a name and password, which would be in every list of what is published.
    #[error("it holds a user's name; what is fetched has to be open to all")]
    User,
    /// It has no TLS, and what is fetched is trusted for where it came from.
    #[error("it is plain HTTP, which anybody on the way can answer; use `https`")]
    Plain,
    /// It has a path or a query where there is to be none.
    #[error("it is to end with the host, or a port")]
    NotAHost,
}

impl Address {
    /// # Errors
    ///
    /// [`AddressFault`].
    pub(super) fn read(text: &str, plain: Plain) -> Result<Self, AddressFault> {
        if text.len() > ADDRESS_OCTETS_MAX {
            return Err(AddressFault::TooLong);
        }
        let uri: Uri = text.parse().map_err(|_| AddressFault::Malformed)?;
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
            return Err(AddressFault::Malformed);
        };
        if *scheme != Scheme::HTTPS && *scheme != Scheme::HTTP {
            return Err(AddressFault::Scheme);
        }
        if authority.as_str().contains('@') {
            return Err(AddressFault::User);
        }
        // A port that is no number, or not there behind its colon, reads as none.
        let rest = authority.as_str().strip_prefix(authority.host());
        if authority.host().is_empty() || rest != Some(&port_text(authority.port_u16())) {
            return Err(AddressFault::Malformed);
        }
        let address = Self(uri);
        if !address.is_tls() && plain == Plain::Loopback && !is_loopback(address.host()) {
            return Err(AddressFault::Plain);
        }
        Ok(address)
    }

    /// One that is written in this room.
    pub(super) fn from_static(text: &'static str) -> Self {
        Self(Uri::from_static(text))
    }

    /// Reads one that has no path.
    pub(super) fn read_host(text: &str) -> Result<Self, AddressFault> {
        let address = Self::read(text, Plain::Loopback)?;
        match address.0.path_and_query().map(PathAndQuery::as_str) {
            None | Some("/") => Ok(address),
            Some(_) => Err(AddressFault::NotAHost),
        }
    }

    /// This one with another path.
    pub(super) fn with_path(&self, path: &str) -> Result<Self, AddressFault> {
        let mut parts = self.0.clone().into_parts();
        parts.path_and_query = Some(path.parse().map_err(|_| AddressFault::Malformed)?);
        Uri::from_parts(parts).map(Self).map_err(|_| AddressFault::Malformed)
    }

    pub(super) fn is_tls(&self) -> bool {
        self.0.scheme() == Some(&Scheme::HTTPS)
    }

    /// Without the brackets of an address of IPv6.
    pub(super) fn host(&self) -> &str {
        self.0.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
    }

    pub(super) fn port(&self) -> u16 {
        self.0.port_u16().unwrap_or(if self.is_tls() { 443 } else { 80 })
    }

    /// As in the field Host.
    pub(super) fn authority(&self) -> &str {
        self.0.authority().map(http::uri::Authority::as_str).unwrap_or_default()
    }

    /// What is asked for there.
    pub(super) fn target(&self) -> &str {
        self.0.path_and_query().map_or("/", PathAndQuery::as_str)
    }

    /// Scheme, host and port, for comparing and for people.
    pub(super) fn origin(&self) -> String {
        let scheme = self.0.scheme_str().unwrap_or_default();
        format!("{scheme}://{}", self.authority().to_ascii_lowercase())
    }
}

fn port_text(port: Option<u16>) -> String {
    port.map(|port| format!(":{port}")).unwrap_or_default()
}

/// Whether a host is this machine, whatever any name server says. RFC 6761, section 6.3.
fn is_loopback(host: &str) -> bool {
    let address = host.parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = if self.0.query().is_some() { "?…" } else { "" };
        write!(f, "{}{}{more}", self.origin(), self.0.path())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_lists_and_for_this_machine() {
        let read = |text| Address::read(text, Plain::Loopback).map(|it| it.to_string());
        for good in ["https://a.example/b", "http://127.0.0.1:8080/b", "http://[::1]/b"] {
            assert_eq!(read(good).as_deref(), Ok(good));
        }
        assert!(read("http://LOCALHOST/").is_ok());
        for other in ["http://a.example/", "http://localhost.a.example/", "http://10.0.0.1/"] {
            assert_eq!(read(other), Err(AddressFault::Plain), "{other}");
            assert!(Address::read(other, Plain::Anywhere).is_ok());
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_its_reason() {
        let read = |text: &str| Address::read(text, Plain::Anywhere).unwrap_err();
        for text in ["", "/a", "a.example/b", "https://", "https://a.example:x/", "https://a b/"] {
            assert_eq!(read(text), AddressFault::Malformed, "{text}");
        }
        for text in ["ldap://a.example/b", "ftp://a.example/", "file://a/b"] {
            assert_eq!(read(text), AddressFault::Scheme, "{text}");
        }
        assert_eq!(read("https://user:secret@a.example/"), AddressFault::User);
        let long = format!("https://a.example/{}", "a".repeat(ADDRESS_OCTETS_MAX));
        assert_eq!(read(&long), AddressFault::TooLong);
        assert_eq!(Address::read_host("https://a.example/b"), Err(AddressFault::NotAHost));
        assert_eq!(Address::read_host("https://a.example?b"), Err(AddressFault::NotAHost));
    }

    #[test]
    fn an_address_is_taken_apart_as_written_and_shown_without_its_query() {
        let address = Address::read("https://A.example:8443/b?key=c", Plain::Anywhere).unwrap();
        assert_eq!((address.host(), address.port()), ("A.example", 8443));
        assert_eq!(address.target(), "/b?key=c");
        assert_eq!(format!("{address} {address:?}"), ["https://a.example:8443/b?…"; 2].join(" "));
        let address = Address::read_host("http://[::1]").unwrap();
        assert_eq!((address.host(), address.port(), address.target()), ("::1", 80, "/"));
        assert_eq!(address.with_path("/c?d").unwrap().target(), "/c?d");
    }
}
