//! Where the proxy is, as one writes it: a URL, or the variables that programs share.

use super::bypass::{Bypass, BypassError, parse_port};
use super::credentials::{CredentialsError, ProxyCredentials};
use super::{WebProxy, is_host};

/// The port of a proxy whose URL has none. Source: curl, `CURLOPT_PROXY`.
const PORT_DEFAULT: u16 = 1080;

/// Variables that may hold the proxy's URL, in the order in which they are asked.
///
/// Source: curl, "Environment variables": lower case before upper, the scheme's own before the one
/// for all. `HTTP_PROXY` is for requests without TLS, of which there are none here.
const URL_NAMES: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];

/// Variables that may hold the list of hosts that are reached without the proxy.
const BYPASS_NAMES: [&str; 2] = ["no_proxy", "NO_PROXY"];

/// Why a text is not the URL of a proxy. Its writer's fault; nothing of the text is repeated, since
/// it may hold a password.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyUrlError {
    /// It has another scheme than `http`.
    #[error(
        "its scheme is not `http`, the only way to speak to a proxy here; see `http://host:port`"
    )]
    Scheme,
    /// There is no host, or it is neither a name nor an address.
    #[error("its host is not valid; write `http://host:port`, an IPv6 address in brackets")]
    Host,
    /// The port is not 1 to 65535.
    #[error("its port is not 1 to 65535; write `http://host:port`")]
    Port,
    /// It has a path, a query or a fragment.
    #[error(
        "it has something behind the port; a `/`, `?` or `#` in a password is written as %2F, \
             %3F or %23"
    )]
    PathOrQuery,
    /// A `%` in user or password is not followed by two hexadecimal digits, or what comes out is
    /// not UTF-8.
    #[error("user or password has a `%` that is not part of an escape; write it as %25")]
    Escape,
    /// User and password cannot be shown to a proxy.
    #[error(transparent)]
    Credentials(CredentialsError),
}

/// Why the environment names no usable proxy. The fault of whoever set the variable; its value is
/// not repeated but for an item of the list of hosts.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvironmentError {
    /// The proxy's URL.
    #[error("the variable `{name}` is not the URL of a web proxy: {source}")]
    Url {
        /// The variable's name.
        name: &'static str,
        /// What is wrong with its value.
        source: ProxyUrlError,
    },
    /// The list of hosts that are reached without the proxy.
    #[error("the variable `{name}` is not a list of hosts: {source}")]
    Bypass {
        /// The variable's name.
        name: &'static str,
        /// What is wrong with its value.
        source: BypassError,
    },
}

impl WebProxy {
    /// Reads `http://[user[:password]@]host[:port]`, with at most a single `/` behind it, and an
    /// empty [`Bypass`].
    ///
    /// As with curl, `http://` may be absent and the port is 1080 then when none is written; user
    /// and password have their special characters written as `%` and two hexadecimal digits.
    ///
    /// # Errors
    ///
    /// [`ProxyUrlError`], which repeats nothing of `url`.
    ///
    /// # Examples
    ///
    /// ```
    /// use relay_core::transport::{ProxyUrlError, WebProxy};
    ///
    /// let proxy = WebProxy::parse_url("http://proxy.example:3128")?;
    /// assert_eq!((proxy.host.as_str(), proxy.port), ("proxy.example", 3128));
    /// assert_eq!(WebProxy::parse_url("socks5://proxy.example"), Err(ProxyUrlError::Scheme));
    /// # Ok::<(), ProxyUrlError>(())
    /// ```
    pub fn parse_url(url: &str) -> Result<Self, ProxyUrlError> {
        let rest = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => return Err(ProxyUrlError::Scheme),
            None => url,
        };
        let (authority, behind) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if !matches!(behind, "" | "/") {
            return Err(ProxyUrlError::PathOrQuery);
        }
        let (credentials, place) = match authority.rsplit_once('@') {
            Some((userinfo, place)) => (Some(credentials(userinfo)?), place),
            None => (None, authority),
        };
        let (host, port) = host_and_port(place)?;
        Ok(Self { host: host.to_owned(), port, credentials, bypass: Bypass::default() })
    }

    /// The proxy for HTTPS that an environment names, `None` if it names none.
    ///
    /// `variable` yields the value of a variable by its name; nothing is read by itself. The URL is
    /// the first of `https_proxy`, `HTTPS_PROXY`, `all_proxy` and `ALL_PROXY` that is not empty, in
    /// the form of [`parse_url`](Self::parse_url); the list of hosts is `no_proxy`, else
    /// `NO_PROXY`, in the form of [`Bypass`]. The list is not read where there is no URL.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`], which names the variable.
    pub fn from_environment(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, EnvironmentError> {
        // An empty variable is one that is not set. Source: curl, `curl_getenv`.
        let first = |names: &[&'static str]| {
            let value = |name: &&'static str| {
                Some((*name, variable(name).filter(|value| !value.is_empty())?))
            };
            names.iter().find_map(value)
        };
        let Some((name, url)) = first(&URL_NAMES) else { return Ok(None) };
        let mut proxy =
            Self::parse_url(&url).map_err(|source| EnvironmentError::Url { name, source })?;
        if let Some((name, list)) = first(&BYPASS_NAMES) {
            let bypass = Bypass::parse(&list);
            proxy.bypass = bypass.map_err(|source| EnvironmentError::Bypass { name, source })?;
        }
        Ok(Some(proxy))
    }
}

fn credentials(userinfo: &str) -> Result<ProxyCredentials, ProxyUrlError> {
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let (user, password) = (unescaped(user)?, unescaped(password)?);
    ProxyCredentials::new(user, password).map_err(ProxyUrlError::Credentials)
}

/// `text` with each `%` and two digits made the octet they stand for. RFC 3986, section 2.1.
fn unescaped(text: &str) -> Result<String, ProxyUrlError> {
    let mut parts = text.split('%');
    let mut octets = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.as_bytes().split_at_checked(2).ok_or(ProxyUrlError::Escape)?;
        let digit = |octet: u8| char::from(octet).to_digit(16).ok_or(ProxyUrlError::Escape);
        let octet = digit(digits[0])? << 4 | digit(digits[1])?;
        octets.push(octet.to_le_bytes()[0]);
        octets.extend_from_slice(rest);
    }
    String::from_utf8(octets).map_err(|_| ProxyUrlError::Escape)
}

/// A host without its brackets, and the port.
fn host_and_port(place: &str) -> Result<(&str, u16), ProxyUrlError> {
    let (host, port, is_bracketed) = if let Some(inner) = place.strip_prefix('[') {
        let (host, port) = inner.split_once(']').ok_or(ProxyUrlError::Host)?;
        (host, port, true)
    } else {
        let (host, port) = place.split_at(place.find(':').unwrap_or(place.len()));
        (host, port, false)
    };
    // What stands in brackets is an IPv6 address and nothing else. RFC 3986, section 3.2.2.
    if !is_host(host) || is_bracketed != host.contains(':') {
        return Err(ProxyUrlError::Host);
    }
    let port = match port.strip_prefix(':') {
        Some(digits) => parse_port(digits).ok_or(ProxyUrlError::Port)?,
        None if port.is_empty() => PORT_DEFAULT,
        None => return Err(ProxyUrlError::Port),
    };
    Ok((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(url: &str) -> (String, u16) {
        let proxy = WebProxy::parse_url(url).unwrap();
        assert_eq!(proxy.credentials, None);
        (proxy.host, proxy.port)
    }

    #[test]
    fn hosts_and_ports_are_read_as_curl_reads_them() {
        for (url, host, port) in [
            ("http://proxy.example:3128", "proxy.example", 3128),
            ("http://proxy.example:3128/", "proxy.example", 3128),
            ("HTTP://proxy.example", "proxy.example", 1080),
            ("proxy.example:8080", "proxy.example", 8080),
            ("proxy.example", "proxy.example", 1080),
            ("http://192.0.2.1:65535", "192.0.2.1", 65_535),
            ("http://[2001:db8::1]:1", "2001:db8::1", 1),
            ("[::1]", "::1", 1080),
            ("http://win_host", "win_host", 1080),
        ] {
            assert_eq!(place(url), (host.to_owned(), port), "{url}");
        }
    }

    #[test]
    fn user_and_password_are_unescaped() {
        let long = "x".repeat(1000);
        for (userinfo, user, password) in [
            ("user:secret", "user", "secret"),
            ("user", "user", ""),
            ("user:", "user", ""),
            ("us%20er:p%40%3a%2F%25", "us er", "p@:/%"),
            ("user:a:b@c", "user", "a:b@c"),
            ("DOMAIN\\user:%C3%A9", "DOMAIN\\user", "\u{e9}"),
            (&format!("user:{long}"), "user", &long),
        ] {
            let proxy = WebProxy::parse_url(&format!("http://{userinfo}@proxy.example:1")).unwrap();
            let expected = ProxyCredentials::new(user, password).unwrap();
            assert_eq!(proxy.credentials.map(|found| found.basic()), Some(expected.basic()));
            assert_eq!((proxy.host.as_str(), proxy.port), ("proxy.example", 1));
        }
    }

    #[test]
    fn everything_else_is_refused_with_its_reason() {
        use ProxyUrlError::{Credentials, Escape, Host, PathOrQuery, Port, Scheme};
        for (url, reason) in [
            ("https://proxy.example", Scheme),
            ("socks5://proxy.example", Scheme),
            ("://proxy.example", Scheme),
            ("", Host),
            ("http://", Host),
            ("http://:3128", Host),
            ("http://pro xy", Host),
            ("http://proxy\r\n.example", Host),
            ("http://::1", Host),
            ("http://[::1", Host),
            ("http://[192.0.2.1]", Host),
            ("http://[proxy.example]", Host),
            ("http://[fe80::1%25eth0]", Host),
            ("http://proxy.example:", Port),
            ("http://proxy.example:0", Port),
            ("http://proxy.example:65536", Port),
            ("http://proxy.example:+80", Port),
            ("http://[::1]8080", Port),
            ("http://proxy.example/path", PathOrQuery),
            ("http://proxy.example?a", PathOrQuery),
            ("http://proxy.example#a", PathOrQuery),
            ("http://user:pa/ss@proxy.example", PathOrQuery),
            ("http://user:100%@proxy.example", Escape),
            ("http://user:%4@proxy.example", Escape),
            ("http://user:%+1@proxy.example", Escape),
            ("http://user:%\u{e9}@proxy.example", Escape),
            ("http://user:%ff@proxy.example", Escape),
            ("http://a%3ab:c@proxy.example", Credentials(CredentialsError::ColonInUser)),
            ("http://a:b%0A@proxy.example", Credentials(CredentialsError::ControlCharacter)),
        ] {
            assert_eq!(WebProxy::parse_url(url), Err(reason), "{url}");
        }
    }

    /// What an environment of these variables comes to.
    fn environment(variables: &[(&str, &str)]) -> Result<Option<WebProxy>, EnvironmentError> {
        WebProxy::from_environment(|name| {
            let found = variables.iter().find(|(found, _)| *found == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_first_variable_that_is_not_empty_is_taken() {
        let names = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
        let values = ["http://a:1", "http://b:1", "http://c:1", "http://d:1"];
        let all: Vec<_> = names.into_iter().zip(values).collect();
        for (first, host) in ["a", "b", "c", "d"].iter().enumerate() {
            assert_eq!(environment(&all[first..]).unwrap().unwrap().host, *host);
            let emptied: Vec<_> = names[..first].iter().map(|name| (*name, "")).collect();
            let found = environment(&[&emptied, &all[first..]].concat()).unwrap();
            assert_eq!(found.unwrap().host, *host);
        }
        assert_eq!(environment(&[]), Ok(None));
        assert_eq!(environment(&[("HTTP_PROXY", "http://a"), ("no_proxy", "<bad>")]), Ok(None));
    }

    #[test]
    fn the_lower_case_list_of_hosts_is_taken_first() {
        let url = ("https_proxy", "http://a");
        let (lower, upper) = (("no_proxy", "l.example"), ("NO_PROXY", "u.example"));
        let covers = |variables: &[(&str, &str)], host: &str| {
            environment(variables).unwrap().unwrap().bypass.covers(host, 443)
        };
        assert!(covers(&[url, lower, upper], "l.example"));
        assert!(!covers(&[url, lower, upper], "u.example"));
        assert!(covers(&[url, upper], "u.example"));
        assert!(!covers(&[url], "u.example"));
    }

    #[test]
    fn a_fault_names_the_variable_and_repeats_no_password() {
        let text = environment(&[("HTTPS_PROXY", "http://user:hunter2@:1")]).unwrap_err();
        let text = format!("{text} {text:?}");
        assert!(text.starts_with("the variable `HTTPS_PROXY` is not the URL"), "{text}");
        assert!(!text.contains("hunter2") && !text.contains("user:"), "{text}");
        let list = environment(&[("all_proxy", "http://a"), ("NO_PROXY", "10.*")]).unwrap_err();
        assert!(list.to_string().starts_with("the variable `NO_PROXY` is not a list"), "{list}");
        assert!(list.to_string().contains("`10.*`"), "{list}");
    }
}
