//! The address of a site role's HTTP service.

use http::Uri;

/// Why a text is not the URL of a backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BackendUrlError {
    /// The text is not a URL at all.
    #[error("it is not a URL; write `http://host:port` or `https://host:port`")]
    NotAUrl,
    /// The scheme is absent or neither `http` nor `https`.
    #[error("its scheme is not `http` or `https`; write `http://host:port` or `https://host:port`")]
    Scheme,
    /// The URL carries a user name or a password.
    #[error("it carries a user name; remove everything up to and including `@`")]
    Credentials,
    /// There is no host, or the port is not 1 to 65535.
    #[error("its host or port is not valid; write `http://host:port` with a port of 1 to 65535")]
    Authority,
    /// The URL has a path, a query or a fragment, which come from each request instead.
    #[error("it has a path or a query, which come from each request; end the URL after the port")]
    PathOrQuery,
}

/// Reads `http://host[:port]` or `https://host[:port]`, with at most a single `/` behind it.
///
/// # Errors
///
/// [`BackendUrlError`], which says what to write instead.
///
/// # Examples
///
/// ```
/// use relay_core::config::{BackendUrlError, parse_backend_url};
///
/// assert!(parse_backend_url("http://127.0.0.1:8080").is_ok());
/// assert_eq!(parse_backend_url("ftp://mp.site"), Err(BackendUrlError::Scheme));
/// ```
pub fn parse_backend_url(text: &str) -> Result<Uri, BackendUrlError> {
    // First of all, so that a password never gets into another error's message.
    if text.contains('@') {
        return Err(BackendUrlError::Credentials);
    }
    // `Uri` drops a fragment silently, so it is looked for in the text.
    if text.contains('#') {
        return Err(BackendUrlError::PathOrQuery);
    }
    let url: Uri = text.parse().map_err(|_| BackendUrlError::NotAUrl)?;
    if !matches!(url.scheme_str(), Some("http" | "https")) {
        return Err(BackendUrlError::Scheme);
    }
    let authority = url.authority().ok_or(BackendUrlError::Authority)?;
    let port = authority.as_str().strip_prefix(authority.host());
    let port_is_valid = match port.map(|port| port.strip_prefix(':').ok_or(port)) {
        Some(Ok(digits)) => digits.parse::<u16>().is_ok_and(|port| port != 0),
        Some(Err(rest)) => rest.is_empty(),
        None => false,
    };
    if authority.host().is_empty() || !port_is_valid {
        return Err(BackendUrlError::Authority);
    }
    if url.path() != "/" || url.query().is_some() {
        return Err(BackendUrlError::PathOrQuery);
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_with_and_without_port_are_accepted() {
        for text in [
            "http://mp.site",
            "http://mp.site/",
            "https://mp.site:443",
            "http://127.0.0.1:1",
            "http://[::1]:65535",
            "HTTP://MP.site:8530",
        ] {
            assert!(parse_backend_url(text).is_ok(), "{text}: {:?}", parse_backend_url(text));
        }
    }

    #[test]
    fn everything_else_is_refused_with_its_reason() {
        use BackendUrlError::{Authority, Credentials, NotAUrl, PathOrQuery, Scheme};
        for (text, reason) in [
            ("", NotAUrl),
            ("http://", NotAUrl),
            ("http://mp site", NotAUrl),
            ("mp.site", Scheme),
            ("/path", Scheme),
            ("mp.site:8080", Scheme),
            ("ftp://mp.site", Scheme),
            ("http://mp.site:0", Authority),
            ("http://mp.site:65536", Authority),
            ("http://mp.site:", Authority),
            ("http://:8080", Authority),
            ("http://user:secret@mp.site", Credentials),
            ("user:secret@mp.site/#part", Credentials),
            ("http://mp.site/SMS_MP", PathOrQuery),
            ("http://mp.site/?a=b", PathOrQuery),
            ("http://mp.site/#part", PathOrQuery),
        ] {
            assert_eq!(parse_backend_url(text), Err(reason), "{text}");
        }
    }
}
