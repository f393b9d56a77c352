//! Sockets that whoever has started the process has opened for it: socket activation, as systemd
//! does it (`sd_listen_fds(3)`). The kernel keeps clients that come while a role starts anew, and a
//! role needs no right to listen on a low port.
//!
//! By name, and by nothing else: a socket of a name that is not known, of another kind or at
//! another address than the configuration says is refused, and never left without anybody who
//! answers on it.

use std::net::{SocketAddr, TcpListener, UdpSocket};

#[cfg(unix)]
use listenfd::ListenFd;

/// A listener that may be inherited: its name, and the key that says its address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Name {
    pub(super) name: &'static str,
    pub(super) key: &'static str,
}

pub(super) const CLIENTS: Name = Name { name: "clients", key: "`listen` of [clients]" };
pub(super) const LINKS: Name = Name { name: "links", key: "`listen` of [links]" };
pub(super) const HTTPS_LINKS: Name = Name { name: "https-links", key: "`https_listen` of [links]" };
pub(super) const QUIC_LINKS: Name =
    Name { name: "quic-links", key: "`quic` or `quic_listen` of [links]" };
pub(super) const ADMIN: Name = Name { name: "admin", key: "`listen` of [admin]" };

/// Why a socket that was passed cannot be used. The fault of the units, or of the configuration
/// that does not fit them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum InheritedError {
    /// It has a name that the role has no listener for.
    #[error(
        "socket {number} that was passed is named `{name}`; this role knows {known}: see \
         FileDescriptorName= of the socket unit"
    )]
    Unknown { number: usize, name: String, known: String },
    /// Two have the same name.
    #[error("two sockets that were passed are named `{name}`: give each listener one")]
    Twice { name: String },
    /// It is a socket of another kind, or none.
    #[error("what was passed as `{name}` is no {wanted}: see the socket unit ({why})")]
    Kind { name: &'static str, wanted: &'static str, why: String },
    /// It listens elsewhere than the configuration says.
    #[error(
        "the socket passed as `{name}` is of {has}, and {key} says {says}: write the same address \
         into both"
    )]
    Address { name: &'static str, key: &'static str, has: SocketAddr, says: SocketAddr },
    /// The configuration has no such listener.
    #[error("a socket was passed as `{name}`, and the configuration has no {key}: give it one")]
    NotConfigured { name: &'static str, key: &'static str },
}

/// What was passed, and not taken yet.
pub(super) struct Inherited {
    #[cfg(unix)]
    sockets: ListenFd,
    /// Which listener each is for; taken once.
    names: Vec<Option<Name>>,
}

impl Inherited {
    /// Takes over what the environment says, for a role with the listeners `known`. To be called
    /// before there is another thread: the environment is changed, so that it is taken once.
    ///
    /// # Errors
    ///
    /// [`InheritedError::Unknown`] and [`InheritedError::Twice`].
    #[cfg(unix)]
    pub(super) fn take(known: &[Name]) -> Result<Self, InheritedError> {
        let said = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let sockets = ListenFd::from_env();
        let names = names(&said, sockets.len(), known)?;
        Ok(Self { sockets, names })
    }

    /// No other platform has any.
    #[cfg(not(unix))]
    pub(super) fn take(_: &[Name]) -> Result<Self, InheritedError> {
        Ok(Self { names: Vec::new() })
    }

    /// The listening socket for `which`, if one was passed.
    ///
    /// # Errors
    ///
    /// [`InheritedError::Kind`] and [`InheritedError::Address`].
    pub(super) fn tcp(
        &mut self,
        which: Name,
        says: SocketAddr,
    ) -> Result<Option<TcpListener>, InheritedError> {
        let Some(at) = self.place(which) else { return Ok(None) };
        let (name, wanted) = (which.name, "listening TCP socket");
        let kind = |why: String| InheritedError::Kind { name, wanted, why };
        let Some(socket) = self.tcp_at(at).map_err(|why| kind(why.to_string()))? else {
            return Ok(None);
        };
        let has = socket.local_addr().map_err(|why| kind(why.to_string()))?;
        fits(which, has, says)?;
        Ok(Some(socket))
    }

    /// The UDP socket for `which`, if one was passed.
    ///
    /// # Errors
    ///
    /// [`InheritedError::Kind`] and [`InheritedError::Address`].
    pub(super) fn udp(
        &mut self,
        which: Name,
        says: SocketAddr,
    ) -> Result<Option<UdpSocket>, InheritedError> {
        let Some(at) = self.place(which) else { return Ok(None) };
        let (name, wanted) = (which.name, "UDP socket");
        let kind = |why: String| InheritedError::Kind { name, wanted, why };
        let Some(socket) = self.udp_at(at).map_err(|why| kind(why.to_string()))? else {
            return Ok(None);
        };
        let has = socket.local_addr().map_err(|why| kind(why.to_string()))?;
        fits(which, has, says)?;
        Ok(Some(socket))
    }

    /// Judges that all were taken.
    ///
    /// # Errors
    ///
    /// [`InheritedError::NotConfigured`].
    pub(super) fn end(self) -> Result<(), InheritedError> {
        match self.names.into_iter().flatten().next() {
            Some(Name { name, key }) => Err(InheritedError::NotConfigured { name, key }),
            None => Ok(()),
        }
    }

    fn place(&mut self, which: Name) -> Option<usize> {
        let at = self.names.iter().position(|it| *it == Some(which))?;
        self.names[at] = None;
        Some(at)
    }

    #[cfg(unix)]
    fn tcp_at(&mut self, at: usize) -> std::io::Result<Option<TcpListener>> {
        self.sockets.take_tcp_listener(at)
    }

    #[cfg(not(unix))]
    fn tcp_at(&mut self, _: usize) -> std::io::Result<Option<TcpListener>> {
        Ok(None)
    }

    #[cfg(unix)]
    fn udp_at(&mut self, at: usize) -> std::io::Result<Option<UdpSocket>> {
        self.sockets.take_udp_socket(at)
    }

    #[cfg(not(unix))]
    fn udp_at(&mut self, _: usize) -> std::io::Result<Option<UdpSocket>> {
        Ok(None)
    }
}

/// Which listener each of `count` sockets is for, as `said`: names between colons.
#[cfg(unix)]
fn names(said: &str, count: usize, known: &[Name]) -> Result<Vec<Option<Name>>, InheritedError> {
    let mut names: Vec<Option<Name>> = Vec::new();
    let mut said = said.split(':');
    for number in 1..=count {
        let name = said.next().unwrap_or_default();
        let Some(which) = known.iter().find(|it| it.name == name) else {
            let known: Vec<_> = known.iter().map(|it| format!("`{}`", it.name)).collect();
            let (name, known) = (name.to_owned(), known.join(", "));
            return Err(InheritedError::Unknown { number, name, known });
        };
        if names.contains(&Some(*which)) {
            return Err(InheritedError::Twice { name: name.to_owned() });
        }
        names.push(Some(*which));
    }
    Ok(names)
}

/// Judges an address; port 0 in a file leaves the choice to whoever has opened the socket.
fn fits(which: Name, has: SocketAddr, says: SocketAddr) -> Result<(), InheritedError> {
    if has.ip() == says.ip() && [0, has.port()].contains(&says.port()) {
        return Ok(());
    }
    Err(InheritedError::Address { name: which.name, key: which.key, has, says })
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [Name; 2] = [CLIENTS, ADMIN];

    #[test]
    fn each_socket_is_for_the_listener_of_its_name() {
        assert_eq!(names("", 0, &KNOWN).unwrap(), []);
        assert_eq!(names("admin:clients", 2, &KNOWN).unwrap(), [Some(ADMIN), Some(CLIENTS)]);
    }

    #[test]
    fn a_name_that_is_not_known_or_not_there_or_there_twice_is_refused() {
        let refused = |said, count| names(said, count, &KNOWN).unwrap_err().to_string();
        assert_eq!(
            refused("clients:relay.socket", 2),
            "socket 2 that was passed is named `relay.socket`; this role knows `clients`, \
             `admin`: see FileDescriptorName= of the socket unit"
        );
        assert!(refused("", 1).contains("is named ``"), "no name");
        assert!(refused("clients:clients", 2).contains("two sockets"));
    }

    #[test]
    fn the_address_is_the_one_that_the_configuration_says() {
        let judged =
            |has: &str, says: &str| fits(CLIENTS, has.parse().unwrap(), says.parse().unwrap());
        assert!(judged("127.0.0.1:443", "127.0.0.1:443").is_ok());
        assert!(judged("127.0.0.1:443", "127.0.0.1:0").is_ok(), "any");
        for (has, says) in [
            ("127.0.0.1:443", "127.0.0.1:8443"),
            ("127.0.0.1:443", "0.0.0.0:443"),
            ("[::]:443", "0.0.0.0:0"),
        ] {
            assert!(judged(has, says).is_err(), "{has} for {says}");
        }
    }
}
