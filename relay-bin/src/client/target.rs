//! What a URL on the command line names.

use std::net::IpAddr;

use anyhow::Context as _;
use http::Uri;
use http::uri::{PathAndQuery, Scheme};

/// Where a request goes, as its URL says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Target {
    /// Over TLS, or in the clear.
    pub(crate) is_tls: bool,
    /// Host without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Host and, where the URL has one, port: what `Host` says.
    pub(crate) authority: String,
    pub(crate) path: PathAndQuery,
}

/// Why a text is no URL that can be asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum TargetError {
    /// It cannot be read, or lacks a part.
    #[error("it is none: write https://HOST/PATH, with octets that are not ASCII as %XX")]
    Form,
    /// It has a user or a password, which would stand in lists of processes.
    #[error("it has a user or a password: secrets come from files, see --help")]
    User,
    /// It is not `https`.
    #[error("it must begin with https:// (http:// is for this machine's own addresses alone)")]
    Clear,
}

impl Target {
    /// Reads a URL.
    ///
    /// Our choice: `http` leads to loopback alone. Beyond it, tokens would be for all to read.
    ///
    /// # Errors
    ///
    /// [`TargetError`], which repeats nothing of the text.
    pub(crate) fn parse(text: &str) -> Result<Self, TargetError> {
        // Not from the parsed URL: whatever cannot be read may hold a password.
        if text.split(['/', '?', '#']).nth(2).is_some_and(|authority| authority.contains('@')) {
            return Err(TargetError::User);
        }
        let uri: Uri = text.parse().map_err(|_| TargetError::Form)?;
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
            return Err(TargetError::Form);
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() || text.contains('#') {
            return Err(TargetError::Form);
        }
        let is_tls = *scheme == Scheme::HTTPS;
        let is_here = || {
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        };
        if !is_tls && (*scheme != Scheme::HTTP || !is_here()) {
            return Err(TargetError::Clear);
        }
        let port = match (authority.port(), is_tls) {
            (Some(port), _) => port.as_u16(),
            (None, true) => 443,
            (None, false) => 80,
        };
        let path = uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        Ok(Self { is_tls, host, port, authority: authority.to_string(), path })
    }

    /// Reads a URL of the command line. Not by its parser, which repeats what it refuses.
    ///
    /// # Errors
    ///
    /// As [`Target::parse`].
    pub(crate) fn of_argument(text: &str) -> anyhow::Result<Self> {
        Self::parse(text).context("the URL cannot be used")
    }

    /// The URL in full, as HTTP/2 wants it.
    pub(super) fn url(&self) -> Result<Uri, http::Error> {
        let scheme = if self.is_tls { Scheme::HTTPS } else { Scheme::HTTP };
        Uri::builder()
            .scheme(scheme)
            .authority(self.authority.as_str())
            .path_and_query(self.path.clone())
            .build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_host_port_and_path() {
        let target = Target::parse("https://relay.example:8443/a/b?MPLIST").unwrap();
        assert_eq!(
            (target.host.as_str(), target.port, target.is_tls),
            ("relay.example", 8443, true)
        );
        assert_eq!(
            (target.authority.as_str(), target.path.as_str()),
            ("relay.example:8443", "/a/b?MPLIST")
        );
        assert_eq!(target.url().unwrap(), "https://relay.example:8443/a/b?MPLIST");
        assert_eq!(Target::parse("https://relay.example").unwrap().port, 443);
        assert_eq!(Target::parse("https://[::1]:7/").unwrap().host, "::1");
        assert_eq!(Target::parse("http://127.0.0.1/x").unwrap().port, 80);
    }

    #[test]
    fn what_is_no_url_for_this_is_refused_without_being_repeated() {
        for (text, fault) in [
            ("", TargetError::Form),
            ("relay.example/a", TargetError::Form),
            ("/a", TargetError::Form),
            ("https://", TargetError::Form),
            ("https:///a", TargetError::Form),
            ("https://relay.example/a b", TargetError::Form),
            ("https://relay.example/a#b", TargetError::Form),
            ("https://me:hidden@relay.example/", TargetError::User),
            ("https://hidden@relay.example", TargetError::User),
            ("http://relay.example/", TargetError::Clear),
            ("ftp://127.0.0.1/", TargetError::Clear),
        ] {
            assert_eq!(Target::parse(text), Err(fault), "{text}");
            assert!(!fault.to_string().contains("hidden"));
        }
    }
}
