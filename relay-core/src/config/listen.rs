//! What keeps an address from being listened on.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;

use super::error::{ConfigError, Invalid, Place};
use super::source::Source;

/// A TCP listener as a file has it: for whom, on which address, and where that is written.
pub(super) type Written = (&'static str, SocketAddr, Range<usize>);

/// Notes each listener that could not be had beside one before it.
pub(super) fn apart(source: &Source, all: &[Written]) {
    for (at, (whom, address, span)) in all.iter().enumerate() {
        let collides = |(_, other, _): &&Written| collide(*other, *address);
        let Some((other, ..)) = all[..at].iter().find(collides) else { continue };
        source.note(source.invalid(
            span.clone(),
            format!("{other} and {whom} cannot both connect to {address}"),
            match *whom {
                "links" => "give links another port; 10139 plus the instance's number is customary",
                _ => "give one of the two another port",
            },
        ));
    }
}

/// Whether both are the same port of the same address, or of any. Port 0 is one of its own each
/// time.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let (ip, other_ip) = (one.ip(), other.ip());
    let is_same_kind = ip.is_ipv4() == other_ip.is_ipv4();
    let is_same =
        ip == other_ip || is_same_kind && (ip.is_unspecified() || other_ip.is_unspecified());
    one.port() != 0 && one.port() == other.port() && is_same
}

/// The error that a listener for `whom` cannot have `address`, which `place` asked for.
pub(super) fn bind_failed(
    whom: &str,
    address: SocketAddr,
    place: &Place,
    error: &io::Error,
) -> ConfigError {
    let help = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program listens there: stop it, or choose another port here"
        }
        io::ErrorKind::PermissionDenied => {
            "this account may not listen there: choose a port above 1023, or grant the right to \
             bind low ports"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine does not have that address: choose one it has, or `0.0.0.0` for all"
        }
        _ => "choose an address and port of this machine that is free",
    };
    ConfigError::Invalid(Box::new(Invalid {
        problem: format!("cannot listen for {whom} on {address}: {error}"),
        place: place.clone(),
        help: help.to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_collide_on_the_same_port_of_the_same_or_of_any_address() {
        for (one, other, expected) in [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("0.0.0.0:1", "127.0.0.2:1", true),
            ("[::1]:1", "[::]:1", true),
            ("[::]:1", "127.0.0.1:1", false),
        ] {
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(collide(one, other), expected, "{one} and {other}");
            assert_eq!(collide(other, one), expected, "{other} and {one}");
        }
    }
}
