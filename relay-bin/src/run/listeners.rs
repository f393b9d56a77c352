//! The sockets of a role: those that were passed to it, and those that it binds itself.

use std::net::SocketAddr;
use std::sync::Arc;

use relay_core::config::{AdminListener, Listener, LoadedGateway};
use relay_core::gateway::Listeners;
use relay_core::transport;
use tokio::net::TcpListener;

use super::inherited::{
    ADMIN, CLIENTS, HTTPS_LINKS, Inherited, InheritedError, LINKS, Name, QUIC_LINKS,
};
use crate::exit::Failure;

/// Takes over what was passed to a gateway instance.
pub(super) fn passed_to_gateway() -> Result<Inherited, InheritedError> {
    Inherited::take(&[CLIENTS, LINKS, HTTPS_LINKS, QUIC_LINKS, ADMIN])
}

/// Takes over what was passed to a connection point, which listens for its administrator alone.
pub(super) fn passed_to_connection_point() -> Result<Inherited, InheritedError> {
    Inherited::take(&[ADMIN])
}

/// All listeners of a gateway instance, and the one of its administrator.
pub(super) async fn of_gateway(
    loaded: &LoadedGateway,
    mut passed: Inherited,
) -> Result<(Listeners, Option<TcpListener>), Failure> {
    let clients = tcp(loaded, (CLIENTS, Listener::Clients), loaded.listen, &mut passed).await?;
    let links = tcp(loaded, (LINKS, Listener::Links), loaded.link_listen, &mut passed).await?;
    let https_links = match loaded.https_link_listen {
        Some(address) => {
            let which = (HTTPS_LINKS, Listener::HttpsLinks(address));
            Some(tcp(loaded, which, address, &mut passed).await?)
        }
        None => None,
    };
    let quic = match loaded.quic_link_listen {
        Some(address) => Some(quic(loaded, address, links.local_addr(), &mut passed)?),
        None => None,
    };
    let admin = of_admin(loaded.admin.as_ref(), passed).await?;
    Ok((Listeners { clients, links: Some(links), https_links, quic }, admin))
}

/// The admin listener, if there is to be one. All else that was passed has been taken.
pub(super) async fn of_admin(
    listener: Option<&AdminListener>,
    mut passed: Inherited,
) -> Result<Option<TcpListener>, Failure> {
    let bound = match listener {
        None => None,
        Some(listener) => {
            let bound = match passed.tcp(ADMIN, listener.listen)? {
                Some(socket) => {
                    socket.set_nonblocking(true).and_then(|()| TcpListener::from_std(socket))
                }
                None => TcpListener::bind(listener.listen).await,
            };
            Some(bound.map_err(|error| listener.bind_failed(&error))?)
        }
    };
    passed.end()?;
    Ok(bound)
}

/// Binds one listener unless it was passed, and says which address it got: port 0 in a file means
/// any.
async fn tcp(
    loaded: &LoadedGateway,
    (name, which): (Name, Listener),
    address: SocketAddr,
    passed: &mut Inherited,
) -> Result<transport::Listener, Failure> {
    let bound = match passed.tcp(name, address)? {
        Some(socket) => transport::Listener::from_std(socket),
        None => transport::Listener::bind(address).await,
    };
    bound.map_err(|error| loaded.bind_failed(which, &error).into())
}

/// Binds the UDP port for links; port 0 takes the number that `links` got.
fn quic(
    loaded: &LoadedGateway,
    mut address: SocketAddr,
    links: SocketAddr,
    passed: &mut Inherited,
) -> Result<transport::QuicListener, Failure> {
    let tls = Arc::clone(&loaded.config.link_tls);
    let bound = if let Some(socket) = passed.udp(QUIC_LINKS, address)? {
        transport::QuicListener::from_std(socket, tls)
    } else {
        if address.port() == 0 {
            address.set_port(links.port());
        }
        transport::QuicListener::bind(address, tls)
    };
    bound.map_err(|error| loaded.bind_failed(Listener::QuicLinks(address), &error).into())
}
