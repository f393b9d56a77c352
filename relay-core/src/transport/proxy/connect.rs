//! Asking a proxy for a tunnel.

use std::io;
use std::net::Ipv6Addr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::answer::{Answer, AnswerReader};
use super::{WebProxy, is_host};
use crate::transport::tcp::{Purpose, set_options};

/// Octets that are read at once. An answer is a few hundred.
const READ_BYTES: usize = 1024;

/// Why there is no tunnel through a web proxy. The text ends an administrator's search, and never
/// holds user or password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// The host to be reached is neither a name nor an address. The configuration's fault; nothing
    /// was sent.
    #[error("the host to be reached through the web proxy is not a name or an address")]
    BadHost,
    /// The proxy's name did not resolve, or nobody listens there.
    #[error("cannot connect to the web proxy {host}:{port}: {source}")]
    Unreachable {
        /// The proxy's, as configured.
        host: String,
        /// The proxy's, as configured.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// The proxy's policy forbids the tunnel (403, often), or it could not reach the host (502 to
    /// 504). The proxy's administrator knows.
    #[error(
        "the web proxy refuses the tunnel with status {status} `{reason}`; ask its administrator \
         whether that host and port are allowed"
    )]
    Refused {
        /// The answer's status, 300 to 599 but 401 and 407.
        status: u16,
        /// What the proxy says about it: at most 80 characters, printable ASCII.
        reason: String,
    },
    /// The proxy wants to know who asks, and no credentials are configured.
    #[error(
        "the web proxy demands credentials ({}); configure a user and a password",
        offers(schemes)
    )]
    CredentialsRequired {
        /// The schemes of authentication it takes: at most 8. Only Basic is spoken here.
        schemes: Vec<String>,
    },
    /// The proxy does not take the configured credentials.
    #[error(
        "the web proxy rejects the configured credentials ({}); check user and password",
        offers(schemes)
    )]
    CredentialsRejected {
        /// The schemes of authentication it takes: at most 8. Only Basic is spoken here.
        schemes: Vec<String>,
    },
    /// What answered is no HTTP proxy, or a broken one.
    #[error("the web proxy sent {what}; is there an HTTP proxy at that address?")]
    Garbage {
        /// What came.
        what: &'static str,
    },
    /// Octets came behind the head of an answer that accepts. In a tunnel that TLS is to use its
    /// client speaks first, so they are the proxy's own, and what follows cannot be trusted.
    #[error("the web proxy accepted the tunnel and spoke in it itself; it is broken")]
    SpokeFirst,
    /// The proxy closed the connection before its answer was whole.
    #[error("the web proxy closed the connection before it had answered")]
    Closed,
    /// The connection to the proxy broke while it was asked.
    #[error("the connection to the web proxy broke: {0}")]
    Broken(io::Error),
    /// Connecting and the proxy's answer took too long together. The proxy may be overloaded, or
    /// wait for the host behind it.
    #[error("the web proxy gave no tunnel within {limit:?}; is the gateway reachable from it?")]
    Timeout {
        /// How long was waited.
        limit: Duration,
    },
}

fn offers(schemes: &[String]) -> String {
    let takes_basic = schemes.iter().any(|scheme| scheme.eq_ignore_ascii_case("basic"));
    match (schemes, takes_basic) {
        ([], _) => "it does not say by which scheme".to_owned(),
        (schemes, true) => format!("it takes {}", schemes.join(", ")),
        (schemes, false) => {
            format!("it takes {}, but Basic alone is spoken here", schemes.join(", "))
        }
    }
}

/// Asks the proxy at the far end of `pipe` for a tunnel to `host` and `port`, and yields the pipe
/// when the far end is that host. `host` is a name or an address without brackets.
///
/// Waits as long as the proxy does; see [`dial_through`].
///
/// # Errors
///
/// [`ProxyError`], but [`Unreachable`](ProxyError::Unreachable) and
/// [`Timeout`](ProxyError::Timeout).
///
/// # Cancel safety
///
/// Cancel safe: the pipe is dropped and nothing is left behind.
pub async fn connect_through<P: AsyncRead + AsyncWrite + Unpin>(
    mut pipe: P,
    proxy: &WebProxy,
    host: &str,
    port: u16,
) -> Result<P, ProxyError> {
    let request = request(proxy, host, port)?;
    pipe.write_all(request.as_bytes()).await.map_err(ProxyError::Broken)?;
    pipe.flush().await.map_err(ProxyError::Broken)?;

    let mut reader = AnswerReader::default();
    let mut buffer = [0; READ_BYTES];
    loop {
        let len = pipe.read(&mut buffer).await.map_err(ProxyError::Broken)?;
        let mut octets = &buffer[..len];
        if octets.is_empty() {
            return Err(ProxyError::Closed);
        }
        let answer = reader.take(&mut octets);
        let answer = answer.map_err(|garbage| ProxyError::Garbage { what: garbage.0 })?;
        let Some(answer) = answer else { continue };
        judge(answer, proxy)?;
        return if octets.is_empty() { Ok(pipe) } else { Err(ProxyError::SpokeFirst) };
    }
}

/// Connects to the proxy and asks it for a tunnel to `host` and `port`, all within `limit`.
///
/// The proxy is asked whatever [`WebProxy::bypass`] says. Its name is resolved anew at each call;
/// `host` is resolved by the proxy.
///
/// # Errors
///
/// [`ProxyError`].
///
/// # Cancel safety
///
/// Cancel safe: nothing is left behind.
pub async fn dial_through(
    proxy: &WebProxy,
    host: &str,
    port: u16,
    limit: Duration,
) -> Result<TcpStream, ProxyError> {
    let dial = async {
        let stream = TcpStream::connect((proxy.host.as_str(), proxy.port)).await;
        let stream = stream.map_err(|source| ProxyError::Unreachable {
            host: proxy.host.clone(),
            port: proxy.port,
            source,
        })?;
        set_options(&stream, Purpose::Link);
        connect_through(stream, proxy, host, port).await
    };
    tokio::time::timeout(limit, dial).await.unwrap_or(Err(ProxyError::Timeout { limit }))
}

/// The whole request. RFC 9110, section 9.3.6: its target is host and port alone; RFC 9112, section
/// 3.2: `Host` is the same again.
fn request(proxy: &WebProxy, host: &str, port: u16) -> Result<String, ProxyError> {
    if !is_host(host) {
        return Err(ProxyError::BadHost);
    }
    let target = match host.parse::<Ipv6Addr>() {
        Ok(address) => format!("[{address}]:{port}"),
        Err(_) => format!("{host}:{port}"),
    };
    let authorization = match &proxy.credentials {
        Some(credentials) => format!("Proxy-Authorization: {}\r\n", credentials.basic()),
        None => String::new(),
    };
    Ok(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n"))
}

fn judge(answer: Answer, proxy: &WebProxy) -> Result<(), ProxyError> {
    let Answer { status, reason, schemes } = answer;
    match (status, &proxy.credentials) {
        // Any of them opens the tunnel, and has no body whatever its fields say. RFC 9110, section
        // 9.3.6.
        (200..=299, _) => Ok(()),
        // 407 by RFC 9110, section 15.5.8; tinyproxy 1.11 says 401 of credentials it does not take.
        (401 | 407, None) => Err(ProxyError::CredentialsRequired { schemes }),
        (401 | 407, Some(_)) => Err(ProxyError::CredentialsRejected { schemes }),
        _ => Err(ProxyError::Refused { status, reason }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Bypass, ProxyCredentials};
    use super::*;

    fn proxy(credentials: Option<ProxyCredentials>) -> WebProxy {
        WebProxy { host: "proxy".to_owned(), port: 1, credentials, bypass: Bypass::default() }
    }

    #[test]
    fn a_request_has_its_target_and_nothing_more() {
        for (host, target) in [
            ("gateway.example", "gateway.example:443"),
            ("192.0.2.1", "192.0.2.1:443"),
            ("2001:DB8:0::1", "[2001:db8::1]:443"),
        ] {
            let request = request(&proxy(None), host, 443).unwrap();
            assert_eq!(request, format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"));
        }
    }

    #[test]
    fn credentials_are_shown_at_once() {
        let credentials = ProxyCredentials::new("Aladdin", "open sesame").unwrap();
        assert_eq!(
            request(&proxy(Some(credentials)), "a", 1).unwrap(),
            "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\
             Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n"
        );
    }

    #[test]
    fn a_host_that_would_change_the_request_is_refused() {
        let long = "x".repeat(256);
        for host in [
            "",
            "a\r\nX: y",
            "a b",
            "a\0",
            "a:1",
            "a/b",
            "u@a",
            "[::1]",
            "fe80::1%eth0",
            "\u{e9}",
            &long,
        ] {
            let refused = request(&proxy(None), host, 443);
            assert!(matches!(refused, Err(ProxyError::BadHost)), "{host:?}: {refused:?}");
        }
        assert!(request(&proxy(None), &long[1..], 443).is_ok());
    }

    #[test]
    fn an_error_says_when_basic_will_not_do() {
        let text = |schemes: &[&str]| {
            let schemes = schemes.iter().map(|scheme| (*scheme).to_owned()).collect();
            ProxyError::CredentialsRequired { schemes }.to_string()
        };
        assert!(text(&["Negotiate", "NTLM"]).contains("Negotiate, NTLM, but Basic alone"));
        assert!(text(&["NTLM", "BASIC"]).contains("(it takes NTLM, BASIC)"));
        assert!(text(&[]).contains("it does not say"));
    }
}
