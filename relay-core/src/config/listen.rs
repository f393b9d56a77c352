//! The message that an address cannot be listened on.

use std::io;
use std::net::SocketAddr;

use super::error::{ConfigError, Invalid, Place};

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
