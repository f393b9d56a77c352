//! A web proxy on the way out: which one, for which hosts, and the tunnel through it.
//!
//! A connection point behind a web proxy reaches a gateway instance over HTTPS by asking the proxy
//! for a tunnel (CONNECT, RFC 9110, section 9.3.6). [`WebProxy`] says where the proxy is, and
//! [`dial_through`] yields a socket at whose far end the instance is, on which TLS is then spoken
//! as on any other. Read [`WebProxy`] and [`ProxyError`] first.
//!
//! It deliberately speaks no TLS to the proxy itself, no SOCKS, no scheme of authentication but
//! Basic, and reads neither the environment nor files: the room `config` and the program bring the
//! values here. Whether a host is reached through the proxy is the dialler's question to ask
//! ([`Bypass::covers`]); nothing here answers it on the side.

mod address;
mod answer;
mod bypass;
mod connect;
mod credentials;

pub use address::{EnvironmentError, ProxyUrlError};
pub use bypass::{Bypass, BypassError};
pub use connect::{ProxyError, connect_through, dial_through};
pub use credentials::{CREDENTIAL_BYTES_MAX, CredentialsError, ProxyCredentials};

/// A web proxy, and which hosts are reached without it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WebProxy {
    /// Host name or address literal without brackets, resolved anew at each dial.
    pub host: String,
    /// The port it listens on.
    pub port: u16,
    /// What is shown to the proxy with each request; `None` shows nothing.
    pub credentials: Option<ProxyCredentials>,
    /// Hosts that are reached without the proxy.
    pub bypass: Bypass,
}

/// Whether `host` can stand in a request or a configuration: an address literal without brackets,
/// or 1 to 255 letters, digits, `-`, `_` and `.`.
///
/// The underscore is in no host name of RFC 1123 and in many of Windows' own.
fn is_host(host: &str) -> bool {
    let can_name = |octet: u8| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet);
    let is_name = (1..=255).contains(&host.len()) && host.bytes().all(can_name);
    is_name || host.parse::<std::net::IpAddr>().is_ok()
}
