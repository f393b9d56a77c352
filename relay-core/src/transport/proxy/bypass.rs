//! Which hosts are reached without the proxy: the list that `NO_PROXY` made customary.

use std::net::{IpAddr, Ipv6Addr};

use super::is_host;

/// Longest list, in items.
const ITEMS_MAX: usize = 1024;

/// Longest part of an item that an error repeats, in characters.
const SHOWN_CHARS_MAX: usize = 64;

/// A list of hosts that are reached without the proxy. The default is empty: none is.
///
/// Items stand between commas or blanks; letters are compared whatever their case. There is no
/// standard of them; what follows is curl's reading where curl has one.
///
/// | item | covers |
/// |---|---|
/// | `*` | every host |
/// | `example.org`, `.example.org`, `*.example.org` | that name and every name below it |
/// | `192.0.2.1`, `2001:db8::1`, `[2001:db8::1]` | that address |
/// | `192.0.2.0/24`, `2001:db8::/32` | every address of that network |
/// | `example.org:443`, `192.0.2.1:443`, `[2001:db8::1]:443` | the same, at that port alone |
///
/// Names are not looked up, so an address covers a host only where the host is configured as an
/// address. Dots at the end of names count for nothing, and an IPv4 address that is written as an
/// IPv6 one is that IPv4 address. Loopback is not covered by itself.
///
/// Source: curl, `CURLOPT_NOPROXY`: names with all below them, `*`, networks, no brackets. Our
/// choice, as in Go's `httpproxy` package: ports, brackets, `*.`, and `*` beside other items. Our
/// choice: an item that is none of these is refused, where curl would let it match nothing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Bypass(Vec<Item>);

/// Why a list cannot be used. Its writer's fault.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BypassError {
    /// An item is nothing that a list can hold.
    #[error(
        "`{item}` is not a host; write a name, an address, a network as in 192.0.2.0/24, or *, \
         each with a port or without"
    )]
    Item {
        /// The item, cut and without control characters.
        item: String,
    },
    /// The list is longer than any network needs.
    #[error("the list has more than {ITEMS_MAX} hosts; name domains or networks instead")]
    TooLong,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Item {
    hosts: Hosts,
    /// `None` is every port.
    port: Option<u16>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Hosts {
    All,
    /// Lower case, without dots at either end.
    Domain(String),
    Network {
        address: IpAddr,
        /// Leading bits that count.
        bits: u8,
    },
}

impl Bypass {
    /// Reads a list; an empty one covers nothing.
    ///
    /// # Errors
    ///
    /// [`BypassError`], which names the item.
    ///
    /// # Examples
    ///
    /// ```
    /// use relay_core::transport::Bypass;
    ///
    /// let bypass = Bypass::parse("example.org, 10.0.0.0/8")?;
    /// assert!(bypass.covers("gateway.example.org", 443));
    /// assert!(bypass.covers("10.1.2.3", 443));
    /// assert!(!bypass.covers("notexample.org", 443));
    /// # Ok::<(), relay_core::transport::BypassError>(())
    /// ```
    pub fn parse(list: &str) -> Result<Self, BypassError> {
        let mut items = Vec::new();
        let separates = |character: char| character == ',' || character.is_whitespace();
        for text in list.split(separates).filter(|text| !text.is_empty()) {
            if items.len() == ITEMS_MAX {
                return Err(BypassError::TooLong);
            }
            items.push(Item::parse(text).ok_or_else(|| not_a_host(text))?);
        }
        Ok(Self(items))
    }

    /// Whether `host`, a name or an address with or without brackets, is reached at `port` without
    /// the proxy.
    pub fn covers(&self, host: &str, port: u16) -> bool {
        let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        let address = host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
        let at_port = |item: &Item| item.port.is_none_or(|only| only == port);
        self.0.iter().any(|item| at_port(item) && item.hosts.covers(&name, address))
    }
}

fn not_a_host(text: &str) -> BypassError {
    let printable = |character: char| if character.is_control() { '?' } else { character };
    BypassError::Item { item: text.chars().take(SHOWN_CHARS_MAX).map(printable).collect() }
}

impl Item {
    fn parse(text: &str) -> Option<Self> {
        if let Some(hosts) = Hosts::parse(text) {
            return Some(Self { hosts, port: None });
        }
        let (host, port) = text.rsplit_once(':')?;
        Some(Self { hosts: Hosts::parse(host)?, port: Some(parse_port(port)?) })
    }
}

impl Hosts {
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::All);
        }
        if let Some(inner) = text.strip_prefix('[') {
            let address = inner.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?;
            return Some(Self::host(address.into()));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(Self::host(address));
        }
        if let Some((address, bits)) = text.split_once('/') {
            return Self::network(address.parse().ok()?, bits);
        }
        let name = text.strip_prefix("*.").unwrap_or(text).trim_matches('.');
        // A name of digits alone is a mistyped address: nothing in the name system ends in them.
        let last = name.rsplit('.').next().unwrap_or_default();
        let is_number = last.bytes().all(|octet| octet.is_ascii_digit());
        (is_host(name) && !is_number).then(|| Self::Domain(name.to_ascii_lowercase()))
    }

    fn host(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self::Network { address, bits: width(address) }
    }

    fn network(address: IpAddr, bits: &str) -> Option<Self> {
        if !bits.bytes().all(|octet| octet.is_ascii_digit()) {
            return None;
        }
        let bits = bits.parse().ok().filter(|bits| *bits <= width(address))?;
        Some(Self::Network { address, bits })
    }

    fn covers(&self, name: &str, host: Option<IpAddr>) -> bool {
        match (self, host) {
            (Self::All, _) => true,
            (Self::Domain(domain), None) => name
                .strip_suffix(domain.as_str())
                .is_some_and(|below| below.is_empty() || below.ends_with('.')),
            (Self::Network { address, bits }, Some(host)) => contains(*address, *bits, host),
            (Self::Domain(_), Some(_)) | (Self::Network { .. }, None) => false,
        }
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn contains(network: IpAddr, bits: u8, host: IpAddr) -> bool {
    let differing = match (network, host) {
        // Moved to the left end, so that the same bits count in both families.
        (IpAddr::V4(network), IpAddr::V4(host)) => {
            u128::from(network.to_bits() ^ host.to_bits()) << 96
        }
        (IpAddr::V6(network), IpAddr::V6(host)) => network.to_bits() ^ host.to_bits(),
        _ => return false,
    };
    u32::from(bits) <= differing.leading_zeros()
}

/// A port of 1 to 65535, in digits alone.
pub(super) fn parse_port(text: &str) -> Option<u16> {
    let is_digits = text.bytes().all(|octet| octet.is_ascii_digit());
    text.parse().ok().filter(|port| is_digits && *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a list of `item` alone covers `host` at `port`.
    fn covers(item: &str, host: &str, port: u16) -> bool {
        Bypass::parse(item).unwrap().covers(host, port)
    }

    #[test]
    fn an_empty_list_covers_nothing_and_a_star_everything() {
        for host in ["example.org", "127.0.0.1", "::1", "localhost"] {
            for list in ["", " ", ",", " , ,"] {
                assert!(!covers(list, host, 443), "{list:?} {host}");
            }
            for list in ["*", " * ", "a.example,*"] {
                assert!(covers(list, host, 443), "{list:?} {host}");
            }
        }
    }

    #[test]
    fn a_domain_covers_itself_and_what_is_below_in_any_spelling() {
        for item in
            ["example.org", ".example.org", "*.example.org", "EXAMPLE.org.", ".Example.Org."]
        {
            for host in
                ["example.org", "Example.ORG", "example.org.", "a.example.org", "a.b.example.org"]
            {
                assert!(covers(item, host, 443), "{item} {host}");
            }
            for host in ["notexample.org", "example.org.test", "org", "example.or", ""] {
                assert!(!covers(item, host, 443), "{item} {host}");
            }
        }
        assert!(covers("localhost", "localhost", 1) && !covers("localhost", "127.0.0.1", 1));
    }

    #[test]
    fn an_address_covers_itself_however_it_is_written() {
        for (item, host, covered) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.10", false),
            ("192.0.2.1", "192.0.2.1.example", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("::ffff:192.0.2.1", "192.0.2.1", true),
            ("2001:db8::1", "2001:DB8:0::1", true),
            ("[2001:db8::1]", "2001:db8::1", true),
            ("2001:db8::1", "[2001:db8::1]", true),
            ("2001:db8::1", "2001:db8::2", false),
            ("0.0.0.1", "::1", false),
        ] {
            assert_eq!(covers(item, host, 443), covered, "{item} {host}");
        }
    }

    #[test]
    fn a_network_covers_its_addresses_and_no_name() {
        for (item, host, covered) in [
            ("10.0.0.0/8", "10.255.255.255", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.0.0/8", "::ffff:10.1.1.1", true),
            ("10.1.2.3/8", "10.9.9.9", true),
            ("192.0.2.128/25", "192.0.2.127", false),
            ("192.0.2.128/25", "192.0.2.128", true),
            ("192.0.2.1/32", "192.0.2.1", true),
            ("192.0.2.1/32", "192.0.2.0", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("0.0.0.0/0", "example.org", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "203.0.113.9", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::", false),
            ("2001:db8::1/128", "2001:db8::1", true),
            ("2001:db8::1/128", "2001:db8::", false),
        ] {
            assert_eq!(covers(item, host, 443), covered, "{item} {host}");
        }
    }

    #[test]
    fn a_port_keeps_an_item_to_that_port() {
        for (item, host) in [
            ("example.org:8443", "a.example.org"),
            ("192.0.2.1:8443", "192.0.2.1"),
            ("[2001:db8::1]:8443", "2001:db8::1"),
            ("192.0.2.0/24:8443", "192.0.2.9"),
            ("*:8443", "anything"),
        ] {
            assert!(covers(item, host, 8443), "{item}");
            assert!(!covers(item, host, 443), "{item}");
        }
    }

    #[test]
    fn any_item_of_a_list_will_do() {
        let bypass = Bypass::parse(" a.example ,b.example\tc.example,,10.0.0.0/8 ").unwrap();
        for host in ["a.example", "b.example", "c.example", "10.1.1.1"] {
            assert!(bypass.covers(host, 443), "{host}");
        }
        assert!(!bypass.covers("d.example", 443));
    }

    #[test]
    fn what_is_no_host_is_refused_by_name() {
        for item in [
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0/8",
            "example.org/8",
            "http://example.org",
            "<local>",
            "10.*",
            "a*b",
            "*.",
            ".",
            "[192.0.2.1]",
            "[::1",
            "example.org:0",
            "example.org:65536",
            "example.org:+1",
            "example.org:",
            ":443",
            "192.0.2.256",
            "1.2.3",
            "a@b",
            "m\u{fc}nchen.example",
        ] {
            let refused = Bypass::parse(&format!("a.example,{item}"));
            assert_eq!(refused, Err(BypassError::Item { item: item.to_owned() }), "{item}");
        }
    }

    #[test]
    fn what_an_error_repeats_is_short_and_printable() {
        let refused = Bypass::parse(&format!("\u{1b}[2J{}", "/".repeat(500))).unwrap_err();
        let BypassError::Item { item } = refused else { panic!("{refused}") };
        assert!(item.starts_with("?[2J/") && item.len() == SHOWN_CHARS_MAX, "{item}");
    }

    #[test]
    fn a_list_has_an_end() {
        assert!(Bypass::parse(&"a,".repeat(ITEMS_MAX)).is_ok());
        assert_eq!(Bypass::parse(&"a,".repeat(ITEMS_MAX + 1)), Err(BypassError::TooLong));
    }
}
